"""What a social platform promises, what it declares about itself, and the errors it speaks in.

An adapter *declares* itself as data (`info`): the page, the checks and the preparation of pictures
read that instead of knowing platforms. It *acts* in small steps that publishing puts in order:

    stage    upload, container …: harmless to repeat, nothing is visible yet; checkpoints in `remote`
    publish  the one call with an effect; publishing has written `publishing` to disk before
    look     after a lost answer: ask the platform what became of it, change nothing

All requests leave through the `requests.Session` of the account. In a dry run that session records
and answers by itself (`outbox.py`), so the same code runs and nothing leaves the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dalla.errors import DallaError
from dalla.records.platform import Issue, PlatformInfo
from dalla.records.post import PreparedFile, Snapshot

if TYPE_CHECKING:
    import requests

#: What publishing does about an error.
#:   retry      the same again a little later (1, 5, 15, 60 min), within the late window
#:   defer      not now: at `until`, or after `retry_after` seconds; costs no retry
#:   reconnect  the keys are dead or lack a permission: the account stops until somebody mends it
#:   fix        the content is refused: the post fails, a person edits it
#:   ask        a person has to look at the platform (blocked, restricted, no credits): the account stops
Action = Literal["retry", "defer", "reconnect", "fix", "ask"]


class PlatformError(DallaError):
    """A platform refused, or could not be reached, in words for the person who has to do something."""

    code, status, title = "platform_error", 502, "The platform reported a problem"

    def __init__(
        self,
        detail: str,
        *,
        platform: str,
        cause: str,
        action: Action,
        effect: Literal["none", "unknown"] = "none",
        stops_account: bool = False,
        http: int | None = None,
        platform_code: str | None = None,
        subcode: str | None = None,
        trace: str | None = None,
        until: datetime | None = None,
        restart: bool = False,
        **more: Any,
    ) -> None:
        """Args beyond DallaError's:

        cause: stable word, e.g. "token_expired", "duplicate", "no_credits", "aspect_ratio".
        effect: whether the post may be live nevertheless. Only "unknown" sends publishing to `look`.
        stops_account: open the breaker of this account (until `until`, or until a person closes it).
        restart: throw the checkpoints away and stage anew (dead container, expired upload).
        """
        super().__init__(detail, **more)
        self.platform, self.cause, self.action, self.effect = platform, cause, action, effect
        self.stops_account, self.http = stops_account, http
        self.platform_code, self.subcode, self.trace = platform_code, subcode, trace
        self.until, self.restart = until, restart
        self.extra = {
            "platform": platform,
            "cause": cause,
            "action": action,
            "platformCode": platform_code,
            "subcode": subcode,
            "trace": trace,
            **self.extra,
        }


class NotReady(Exception):
    """Staging is under way on the platform's side; come back after `seconds`."""

    def __init__(self, seconds: float, detail: str = "") -> None:
        super().__init__(detail)
        self.seconds = seconds
        self.detail = detail


@dataclass
class Account:
    """Whom to act as: keys in clear (never logged, never answered) and the way out of the machine."""

    character_id: str
    platform: str
    keys: dict[str, str]  # by credential field
    session: requests.Session
    dry_run: bool = False
    extra: dict[str, Any] = field(default_factory=dict)  # AccountState.extra: what the adapter remembered


@dataclass(frozen=True)
class Published:
    """It is live. Without an id there is no Published."""

    id: str
    permalink: str | None = None
    published_at: str | None = None


@dataclass(frozen=True)
class Look:
    """What asking the platform gave.

    published    it is live (`post` says where)
    not_there    certainly not published: publishing may call `publish` again with the same checkpoints
    not_yet      nothing found so far; ask again after `seconds`
    unknown      it cannot be told; a person decides
    """

    state: Literal["published", "not_there", "not_yet", "unknown"]
    post: Published | None = None
    seconds: float = 30
    detail: str = ""
    restart: bool = False  # with not_there: the checkpoints are dead, stage anew


@dataclass(frozen=True)
class Check:
    """The answer of a connection test."""

    ok: bool
    detail: str
    remedy: str | None = None
    username: str | None = None
    account_type: str | None = None
    quota_used: int | None = None
    quota_total: int | None = None
    token_expires_at: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Files(Protocol):
    """The prepared pictures of a snapshot, as an adapter may use them."""

    def read(self, file: PreparedFile) -> bytes:
        """Raises NotFound when the file is gone."""

    def public_url(self, file: PreparedFile) -> str:
        """Return an address from which the platform can fetch it. Raises NotConfigured."""


class Watch(Protocol):
    """How a step of an adapter tells what it does; becomes `attempts` of the post."""

    def step(self, name: str) -> Any:
        """Context manager around one step: records start, end, outcome, http, codes of a PlatformError."""

    def save(self, remote: dict[str, Any]) -> None:
        """Write the checkpoints to disk now (after each thing that was created on the other side)."""

    def check_cancelled(self) -> None:
        """Raise Cancelled when a person asked to stop; only before `publish`."""


class Platform(Protocol):
    """One social platform. Stateless: everything it needs comes with the call."""

    info: PlatformInfo

    def check_text(self, kind: str, caption: str, alt_texts: list[str]) -> list[Issue]:
        """Say what is wrong with the words. Pure; no network."""

    def stage(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], files: Files, watch: Watch
    ) -> dict[str, Any]:
        """Bring everything to the platform so that one call publishes it; return the checkpoints.

        Continues from `remote`. Raises NotReady, PlatformError.
        """

    def publish(self, account: Account, snapshot: Snapshot, remote: dict[str, Any], watch: Watch) -> Published:
        """Make it visible. Raises PlatformError; effect="unknown" for every answer that was lost or is not sure."""

    def look(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], started_at: str, looks: int, watch: Watch
    ) -> Look:
        """Find out whether a publish that began at `started_at` had its effect. Never publishes. Never raises PlatformError.

        `remote["ours"]`: the platform's ids of the account's newest posts, which are therefore not this one.
        """

    def permalink(self, account: Account, id: str) -> str | None:
        """Return the address of a published post; None when it cannot be told now. Never raises."""

    def check(self, account: Account) -> Check:
        """Test the connection with as few (paid) calls as possible. Never raises for what the platform says."""

    def refresh(
        self, account: Account, now: datetime, issued_at: datetime | None, expires_at: datetime | None
    ) -> dict[str, Any] | None:
        """Renew the keys when it is time: {"keys": {field: value}, "issuedAt", "expiresAt"}, or None. Raises PlatformError."""

    def pretend(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Answer a request of a dry run as the platform would: (HTTP status, JSON)."""
