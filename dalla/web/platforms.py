"""`/api/platforms`: the social platforms as data, every account's health, and what mends it."""

from __future__ import annotations

from flask_openapi3 import Tag
from pydantic import ConfigDict, Field

from dalla.records.base import RequestBody
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services

bp = APIBlueprint("platforms", __name__, url_prefix="/api/platforms", abp_tags=[Tag(name="Platforms")])


class PlatformsQuery(RequestBody):
    character_id: str | None = Field(None, max_length=100)


class PlatformPath(RequestBody):
    model_config = ConfigDict(extra="ignore")
    platform: str = Field(min_length=1, max_length=50)


class AccountBody(RequestBody):
    character_id: str = Field(min_length=1, max_length=100)


class CheckBody(AccountBody):
    force: bool = Field(False, description="Also when the last test of X (billed) went well within the hour")


@bp.get("", summary="Platforms, the accounts on them, hosting and stops")
def list_platforms(query: PlatformsQuery):
    return services().connections.overview(query.character_id)


@bp.post("/<platform>/check", summary="Test an account for real")
def check_account(path: PlatformPath, body: CheckBody):
    return services().connections.check(body.character_id, path.platform, force=body.force)


@bp.post("/<platform>/close-breaker", summary="Let a stopped account post again")
def close_breaker(path: PlatformPath, body: AccountBody):
    return services().connections.close_breaker(body.character_id, path.platform)


@bp.post("/<platform>/pause", summary="Stop one account by hand")
def pause_account(path: PlatformPath, body: AccountBody):
    return services().connections.pause(body.character_id, path.platform, True)


@bp.post("/<platform>/resume", summary="Let an account go on that was stopped by hand")
def resume_account(path: PlatformPath, body: AccountBody):
    return services().connections.pause(body.character_id, path.platform, False)


@bp.post("/<platform>/refresh", summary="Renew the access token now")
def refresh_token(path: PlatformPath, body: AccountBody):
    return services().connections.refresh(body.character_id, path.platform)


@bp.post("/hosting/check", summary="Fetch a test picture the way Instagram does")
def check_hosting():
    return services().connections.check_hosting()
