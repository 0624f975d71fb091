"""`/api/post-to-instagram`, `/api/post-to-twitter`: post one picture now and wait for the outcome. `/api/outbox`."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import Any

from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import Conflict, DallaError, InvalidInput, TooLarge, internal_problem
from dalla.records.base import RequestBody
from dalla.records.post import IN_FLIGHT, OutboxRequest, Post
from dalla.web import problems
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.payload import PageQuery, idempotent, wants_async
from dalla.web.posts import OptionsBody, keyed_id, start
from dalla.web.waiting import place

logger = logging.getLogger(__name__)

bp = APIBlueprint("publish", __name__, url_prefix="/api", abp_tags=[Tag(name="Publishing")])

#: How long the waiting form waits, seconds. Publishing goes on; the answer says where to follow it.
WAIT_SECONDS = 100.0
MAX_IMAGE = 20 * 1024 * 1024


class PostNowBody(RequestBody):
    """One picture, as base64 or by the id of one in the gallery."""

    character_id: str = Field(min_length=1, max_length=100)
    image: str | None = Field(None, description="Base64, with or without `data:image/png;base64,`; up to 20 MB")
    media_id: str | None = Field(None, max_length=100)
    caption: str = ""
    alt_text: str | None = None
    dry_run: bool | None = Field(None, description="Only rehearse; left out: rehearse when keys are missing")
    options: OptionsBody | None = None
    prompt_id: str | None = Field(None, max_length=100)


class AsyncQuery(RequestBody):
    async_: str | None = Field(None, alias="async", max_length=10, description="1: answer 202 at once")


class OutboxQuery(PageQuery):
    post_id: str | None = Field(None, max_length=100)


@bp.post("/post-to-instagram", summary="Post a picture to Instagram now")
@idempotent()
def post_to_instagram(body: PostNowBody, query: AsyncQuery):
    return _post_now("instagram", body)


@bp.post("/post-to-twitter", summary="Post a picture to X now")
@idempotent()
def post_to_twitter(body: PostNowBody, query: AsyncQuery):
    return _post_now("twitter", body)


def _post_now(platform: str, body: PostNowBody) -> tuple[dict[str, Any], int, dict[str, str]]:
    posts, publishing = services().posts, services().publishing
    services().characters.get(body.character_id)
    if (body.image is None) == (body.media_id is None):
        raise InvalidInput.field("image", "Send either `image` (base64) or `mediaId`.")
    wish: dict[str, Any] = {
        "character_id": body.character_id,
        "platform": platform,
        "caption": body.caption,
        "alt_texts": [body.alt_text] if body.alt_text else [],
        "options": body.options.options() if body.options else None,
        "dry_run": body.dry_run,
    }
    id = keyed_id(platform)
    post = posts.find(id) if id else None
    if post is None:
        media_id = body.media_id
        if body.image is not None:
            data = decode_image(body.image)
            posts.refuse_words(**wish)  # nothing is kept of a request that cannot go out
            media_id = posts.image_to_media(body.character_id, data)
        wish["media_ids"] = [media_id]
        posts.refuse_new(now=True, **wish)
        post = posts.create(**wish, source="api", prompt_id=body.prompt_id, id=id)
    elif (post.character_id, post.caption) != (body.character_id, body.caption):
        raise InvalidInput.field("Idempotency-Key", "This key was used for another request.")
    elif post.status == "cancelled":
        raise Conflict("This post was cancelled.", extra={"postId": post.id})
    try:
        post = start(post)
    except DallaError as exc:
        exc.extra.setdefault("postId", post.id)
        raise
    if not wants_async():
        try:
            with place() as held:
                post = publishing.wait(post.id, WAIT_SECONDS if held else 0)
        except DallaError as exc:  # it is on its way: an error here would have it sent again
            logger.warning("the outcome of post %s cannot be read now: %s", post.id, exc.detail)
    return outcome(post)


def outcome(post: Post) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Answer how a post stands: 200 done, 202 not known yet. Raises the post's own error when it did not go out."""
    answer = {
        "success": True if post.status in ("published", "dry_run") else None,
        "postId": post.id,
        "status": post.status,
        "platformPostId": post.platform_post_id,
        "permalink": post.permalink,
        "dryRun": post.status == "dry_run" or post.dry_run,
        "publishedAt": post.published_at,
        "mediaIds": post.media_ids,
        "taskId": post.job_id,
        "warnings": post.warnings,
    }
    if post.status in ("published", "dry_run"):
        return answer, 200, {}
    where = {"Location": f"/api/posts/{post.id}"}
    error = post.error or {}
    if post.status == "unconfirmed" or post.status in IN_FLIGHT or post.status in ("scheduled", "draft"):
        answer["detail"] = error.get("detail") or post.deferred_reason or "It is on its way; the post says how it ends."
        answer["remedy"] = error.get("remedy")
        answer["dueAt"] = post.due_at if post.status == "scheduled" else None
        answer["statusUrl"] = where["Location"]
        return answer, 202, where | {"Retry-After": "5"}
    if post.status == "cancelled":
        raise Conflict("This post was cancelled.", extra={"postId": post.id, "postStatus": post.status})
    problem = {**internal_problem(), **error}
    extra = {"cause", "action", "platform", "platformCode", "subcode", "trace", "issues"} & error.keys()
    raise problems.from_problem(
        problem, postId=post.id, postStatus=post.status, **{name: error[name] for name in extra}
    )


def decode_image(text: str) -> bytes:
    """Return the bytes of a base64 text, with or without a `data:` prefix. Raises InvalidInput, TooLarge."""
    wrong = "This is not base64 of a picture."
    head, comma, rest = text[:200].partition(",")
    if head.startswith("data:"):
        if not comma or not head.endswith(";base64"):
            raise InvalidInput.field(
                "image", "A data: address must hold a picture as base64 (data:image/png;base64,…)."
            )
        text = text[len(head) + 1 :]
    text = "".join(text.split())
    if len(text) * 3 // 4 > MAX_IMAGE + 3:
        raise TooLarge(
            f"The picture has more than {MAX_IMAGE // 1024 // 1024} MB.",
            remedy="Import it into the gallery (POST /api/media) and send its `mediaId`.",
        )
    text = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput.field("image", wrong) from None
    if not data:
        raise InvalidInput.field("image", "The picture is empty.")
    return data


# ---------------------------------------------------------------- the outbox


@bp.get("/outbox", summary="What dry runs would have sent")
def list_outbox(query: OutboxQuery):
    page = services().posts.outbox(post_id=query.post_id or None, limit=query.limit, cursor=query.cursor)
    names = {character.id: character.name for character in services().characters.all()}
    return {
        "items": [_request(entry, names) for entry in page.items],
        "nextCursor": page.next_cursor,
        "total": page.total,
    }


@bp.delete("/outbox", summary="Forget what dry runs would have sent")
def clear_outbox():
    return {"success": True, "deleted": services().posts.clear_outbox()}


def _request(entry: OutboxRequest, names: dict[str, str]) -> dict[str, Any]:
    return entry.to_json() | {"characterName": names.get(entry.character_id or "")}
