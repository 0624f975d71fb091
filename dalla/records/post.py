"""A publication: one picture (or several) of one character going to one platform once, and its tries."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dalla.records.base import Record

PostStatus = Literal[
    "draft",
    "approved",
    "scheduled",
    "claimed",
    "uploading",
    "publishing",
    "published",
    "failed",
    "unconfirmed",
    "cancelled",
    "missed",
    "dry_run",
]

#: From -> to. Every change is one conditional update; whatever is not here is refused with Conflict.
POST_TRANSITIONS: dict[str, frozenset[str]] = {
    "draft": frozenset({"approved", "scheduled", "cancelled", "missed"}),
    "approved": frozenset({"draft", "scheduled", "cancelled", "missed"}),
    "scheduled": frozenset({"draft", "claimed", "cancelled", "missed", "failed"}),
    "claimed": frozenset({"uploading", "publishing", "scheduled", "draft", "failed", "cancelled", "dry_run"}),
    "uploading": frozenset({"publishing", "scheduled", "draft", "failed", "cancelled", "dry_run"}),
    # After the write-ahead only the platform's answer (or a person) decides.
    "publishing": frozenset({"published", "scheduled", "failed", "unconfirmed", "dry_run"}),
    "unconfirmed": frozenset({"published", "scheduled", "failed", "cancelled"}),
    "failed": frozenset({"scheduled", "draft", "cancelled"}),
    "missed": frozenset({"scheduled", "draft", "cancelled"}),
    "cancelled": frozenset({"draft", "scheduled"}),
    "dry_run": frozenset({"draft", "scheduled"}),
    "published": frozenset(),
}
IN_FLIGHT = frozenset({"claimed", "uploading", "publishing"})
SETTLED = frozenset({"published", "failed", "cancelled", "missed", "dry_run"})
EDITABLE = frozenset({"draft", "approved", "scheduled", "failed", "missed", "cancelled", "dry_run"})

#: Why a draft waits for a person.
Hold = Literal["approval", "caption", "picture"]


class PreparedFile(Record):
    """One picture as it will go out: the bytes under `key`, named by their own hash."""

    media_id: str
    key: str  # blob key, posts/<first two>/<sha256>.jpg
    sha256: str
    mime: str = "image/jpeg"
    width: int
    height: int
    size_bytes: int
    notes: list[str] = Field(default_factory=list)  # "padded from 832x1216 to 4:5"


class PostOptions(Record):
    """How the picture is fitted and what the platform is told."""

    fit: Literal["pad", "crop"] = "pad"
    ratio: str | None = None  # "4:5", "1:1", "1.91:1", "9:16"; None: the nearest the platform allows
    background: Literal["blur", "white", "black"] = "blur"
    focus: list[float] | None = None  # [x, y] 0..1 the crop keeps in frame; None: the face, else the middle
    made_with_ai: bool = True


class Snapshot(Record):
    """What is sent. Taken once, at the claim; later edits of the post do not touch it."""

    platform: str
    kind: str
    caption: str
    alt_texts: list[str] = Field(default_factory=list)
    files: list[PreparedFile] = Field(default_factory=list)
    options: PostOptions = Field(default_factory=PostOptions)
    taken_at: str = ""


class Post(Record):
    """One row of `posts`."""

    id: str
    character_id: str
    platform: str  # "instagram" | "twitter"
    kind: Literal["single", "carousel", "story"] = "single"
    media_ids: list[str] = Field(default_factory=list)
    caption: str = ""
    alt_texts: list[str] = Field(default_factory=list)  # beside media_ids; missing ones count as empty
    options: PostOptions = Field(default_factory=PostOptions)
    status: PostStatus = "draft"
    hold: Hold | None = None
    hold_reason: str | None = None
    dry_run: bool = False
    scheduled_at: str | None = None  # when the person or the rule wants it
    due_at: str | None = None  # when it is tried next: scheduled_at, or later when deferred
    deferred_reason: str | None = None
    source: Literal["manual", "task", "api"] = "manual"
    task_id: str | None = None  # the scheduled task it comes from
    run_id: str | None = None
    slot: str | None = None  # unique with task_id and platform: one post per slot of a rule
    group_id: str | None = None  # written together for several platforms
    prompt_id: str | None = None
    files: list[PreparedFile] = Field(default_factory=list)  # prepared for the preview
    snapshot: Snapshot | None = None
    remote: dict[str, Any] = Field(default_factory=dict)  # the adapter's checkpoints: container, upload ids
    publish_started_at: str | None = None  # the write-ahead
    looks: int = 0  # how often the platform was asked after a lost answer
    attempts: int = 0
    error: dict[str, Any] | None = None
    warnings: list[dict[str, str]] = Field(default_factory=list)
    platform_post_id: str | None = None
    permalink: str | None = None
    published_at: str | None = None
    lease_owner: str | None = None
    lease_until: str | None = None
    job_id: str | None = None
    approved_at: str | None = None
    revision: int = 0
    created_at: str = ""
    updated_at: str = ""


class Attempt(Record):
    """One step of one try, as it went."""

    id: int = 0
    post_id: str
    step: str  # prepare | upload | container | poll | publish | look | permalink
    started_at: str
    ended_at: str | None = None
    outcome: Literal["running", "ok", "error", "unknown"] = "running"
    http: int | None = None
    code: str | None = None
    subcode: str | None = None
    trace: str | None = None
    detail: str = ""


class OutboxRequest(Record):
    """One request a dry run would have sent. Secrets are masked, bytes are told by size and hash."""

    id: int = 0
    post_id: str | None = None
    character_id: str | None = None
    platform: str
    method: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None
    at: str = ""


class PostFilter(Record):
    """Which posts a list wants. Unset fields do not restrict."""

    statuses: list[str] | None = None
    character_id: str | None = None
    platform: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    group_id: str | None = None
    media_id: str | None = None
    hold: str | None = None
    after: str | None = None  # scheduled_at, else created_at, >= after
    before: str | None = None


class AccountState(Record):
    """What we know about one account: a character on a platform."""

    character_id: str
    platform: str
    username: str | None = None
    account_type: str | None = None
    checked_at: str | None = None
    check_ok: bool | None = None
    check_detail: str | None = None
    check_remedy: str | None = None
    quota_used: int | None = None
    quota_total: int | None = None
    quota_at: str | None = None
    token_issued_at: str | None = None
    token_expires_at: str | None = None
    token_fingerprint: str | None = None  # of the token these dates belong to; never the token
    last_success_at: str | None = None
    last_error_at: str | None = None
    last_error: str | None = None
    breaker_reason: str | None = None  # set: nothing is sent until it is closed or `breaker_until` has passed
    breaker_code: str | None = None
    breaker_since: str | None = None
    breaker_until: str | None = None
    failures: int = 0  # in a row
    paused: bool = False  # by a person
    extra: dict[str, Any] = Field(default_factory=dict)
    updated_at: str = ""
