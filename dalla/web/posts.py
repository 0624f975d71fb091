"""`/api/posts`: write, check, plan, approve and settle posts; the prepared pictures."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, get_args

from flask import Response, request, send_file
from flask_openapi3 import Tag
from pydantic import Field

from dalla.errors import DallaError, InvalidInput
from dalla.ids import new_id
from dalla.records.base import RequestBody
from dalla.records.post import IN_FLIGHT, Hold, Post, PostFilter, PostOptions, PostStatus
from dalla.times import boundary, now_iso, parse
from dalla.web import etags
from dalla.web.access import own_key
from dalla.web.blueprint import APIBlueprint
from dalla.web.context import services
from dalla.web.files import IMMUTABLE
from dalla.web.payload import IdPath, PageQuery, created, idempotent
from dalla.web.waiting import RETRY_SECONDS, place

bp = APIBlueprint("posts", __name__, url_prefix="/api/posts", abp_tags=[Tag(name="Posts")])

#: What an Idempotency-Key stands for is remembered this long, seconds.
KEY_SECONDS = 24 * 3600


class OptionsBody(RequestBody):
    fit: str = Field("pad", pattern="^(pad|crop)$", description="pad keeps the whole picture, crop fills the frame")
    ratio: str | None = Field(None, pattern=r"^\d{1,4}(\.\d{1,4})?:\d{1,4}(\.\d{1,4})?$", description="e.g. 4:5; left out: the nearest the platform takes")  # fmt: skip
    background: str = Field("blur", pattern="^(blur|white|black)$")
    focus: list[float] | None = Field(None, min_length=2, max_length=2, description="[x, y] 0..1 that a crop keeps in frame")  # fmt: skip
    made_with_ai: bool = Field(True, description="Tell the platform that the picture is made by AI")

    def options(self) -> PostOptions:
        """Return the record. Raises InvalidInput for what no picture can be fitted to."""
        from dalla.framing import parse_ratio

        if self.ratio is not None:
            parse_ratio(self.ratio)
        if self.focus is not None and not all(0 <= part <= 1 for part in self.focus):
            raise InvalidInput.field("options.focus", "Use two numbers from 0 to 1.")
        return PostOptions(**self.model_dump())


class ContentBody(RequestBody):
    """What a post is made of."""

    media_ids: list[str] | None = Field(None, max_length=50)
    caption: str | None = None
    alt_text: str | None = Field(None, description="Of the first picture")
    alt_texts: list[str] | None = Field(None, max_length=50, description="One per picture")
    kind: str | None = Field(None, max_length=20, description="single, carousel or story")
    options: OptionsBody | None = None
    scheduled_at: str | None = Field(None, max_length=40)
    dry_run: bool | None = None


class PostBody(ContentBody):
    """A post for one platform, or the same for several."""

    character_id: str = Field(min_length=1, max_length=100)
    platform: str | None = Field(None, max_length=32)
    platforms: list[str] | None = Field(None, min_length=1, max_length=10)
    captions: dict[str, str] | None = Field(None, description="By platform; goes before `caption`")
    prompt_id: str | None = Field(None, max_length=100)
    publish: str | None = Field(
        None,
        pattern="^(draft|schedule|now|next_free)$",
        description="Left out: schedule when there is a time, else draft",
    )

    def wanted(self) -> list[str]:
        """Return the platforms. Raises InvalidInput when there is none, or one of them is unknown."""
        names = list(dict.fromkeys(self.platforms or ([self.platform] if self.platform else [])))
        if not names:
            raise InvalidInput.field("platform", "Name the platform: instagram or twitter.")
        for name in names:
            services().platforms.get(name)
        return names

    def fields(self, platform: str) -> dict[str, Any]:
        """Return what `Posts.create` and `Posts.preview` take, for one of the platforms."""
        caption = (self.captions or {}).get(platform)
        return {
            "character_id": self.character_id,
            "platform": platform,
            "media_ids": self.media_ids or [],
            "caption": caption if caption is not None else (self.caption or ""),
            "alt_texts": alt_texts(self) or [],
            "kind": self.kind or "single",
            "options": self.options.options() if self.options else None,
            "scheduled_at": self.scheduled_at,
            "dry_run": self.dry_run,
        }


class CheckBody(PostBody):
    post_id: str | None = Field(None, max_length=100, description="The post that is being edited")


class PostPatch(ContentBody):
    prompt_id: str | None = Field(None, max_length=100)

    def changes(self) -> dict[str, Any]:
        values = self.sent()
        values.pop("alt_text", None)
        if self.model_fields_set & {"alt_text", "alt_texts"}:
            values["alt_texts"] = alt_texts(self)
        if "options" in values:
            values["options"] = self.options.options() if self.options else None
        return values


class PostQuery(PageQuery):
    status: str | None = Field(None, max_length=300, description="One or more, comma separated")
    character_id: str | None = Field(None, max_length=100)
    platform: str | None = Field(None, max_length=32)
    task_id: str | None = Field(None, max_length=100)
    run_id: str | None = Field(None, max_length=100)
    group_id: str | None = Field(None, max_length=100)
    media_id: str | None = Field(None, max_length=100)
    hold: str | None = Field(None, max_length=20, description="approval, caption, picture, any, or none")
    after: str | None = Field(None, max_length=40)
    before: str | None = Field(None, max_length=40)
    sort: str = Field("newest", pattern="^(newest|soonest)$")

    def where(self) -> PostFilter:
        statuses = [s.strip() for s in (self.status or "").split(",") if s.strip()]
        unknown = sorted(set(statuses) - set(get_args(PostStatus)))
        if unknown:
            raise InvalidInput.field(
                "status", f"There is no status '{unknown[0]}'. Use {', '.join(get_args(PostStatus))}."
            )
        holds = (*get_args(Hold), "any", "none")
        if self.hold and self.hold not in holds:
            raise InvalidInput.field("hold", f"Use one of {', '.join(holds)}.")
        return PostFilter(
            statuses=statuses or None,
            hold=self.hold or None,
            after=boundary(self.after, "after") if self.after else None,
            before=boundary(self.before, "before", end_of_day=True) if self.before else None,
            **{name: getattr(self, name) or None for name in ("character_id", "platform", "task_id", "run_id", "group_id", "media_id")},
        )  # fmt: skip


class ScheduleBody(RequestBody):
    scheduled_at: str | None = Field(None, max_length=40, description="Left out: the next free time of the account")


class ConfirmBody(RequestBody):
    posted: bool
    permalink: str | None = Field(None, max_length=1000)
    platform_post_id: str | None = Field(None, max_length=200)
    again: bool = Field(False, description="With posted=false: post it again instead of giving it up")


class BulkBody(RequestBody):
    ids: list[str] = Field(min_length=1, max_length=500)
    action: str = Field(max_length=20, description="approve, cancel, delete or schedule")
    scheduled_at: str | None = Field(None, max_length=40)


class WaitQuery(RequestBody):
    wait: float = Field(
        0,
        ge=0,
        le=100,
        description="Answer when the post has come to rest, or after this many seconds; at once when too many wait",
    )


class SlotQuery(RequestBody):
    character_id: str = Field(min_length=1, max_length=100)
    platform: str = Field(min_length=1, max_length=32)


class FilePath(RequestBody):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


def alt_texts(body: ContentBody) -> list[str] | None:
    """Return the alt texts, however they were sent."""
    if body.alt_texts is not None:
        return body.alt_texts
    return [body.alt_text] if body.alt_text else None


def _answer(post: Post, status: int = 200, *, full: bool = False) -> Response:
    return etags.answer(services().posts.public(post, full=full), str(post.revision), status)


def _settled(post: Post) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Answer a post in the form whose repetition can be kept by its Idempotency-Key."""
    return services().posts.public(post), 200, {"ETag": f'"{post.revision}"'}


def _wake(post: Post) -> Post:
    """Let what is due go at once instead of at the next tick."""
    if post.status == "scheduled" and (post.due_at or "") <= now_iso():
        services().publishing.wake()
        return services().posts.get(post.id)
    return post


# ---------------------------------------------------------------- lists


@bp.get("", summary="List posts")
def list_posts(query: PostQuery):
    posts = services().posts
    page = posts.page(query.where(), limit=query.limit, cursor=query.cursor, sort=query.sort)
    return {
        "items": posts.public_many(page.items),
        "nextCursor": page.next_cursor,
        "total": page.total,
        "counts": posts.counts(query.character_id or None),
    }


@bp.get("/next-free", summary="The next free time of an account")
def next_free(query: SlotQuery):
    return {"scheduledAt": services().posts.next_free_slot(query.character_id, query.platform)}


@bp.get("/files/<sha256>.jpg", summary="A prepared picture: the very bytes that are sent")
def post_file(path: FilePath):
    response = send_file(services().posts.file(path.sha256), mimetype="image/jpeg", conditional=True, etag=path.sha256)
    response.headers["Cache-Control"] = f"private, max-age={IMMUTABLE}, immutable"
    return response


# ---------------------------------------------------------------- writing


@bp.post("", summary="Write a post: a draft, for a time, for the next free time, or now")
@idempotent()
def create_post(body: PostBody):
    names = body.wanted()
    posts, publishing = services().posts, services().publishing
    publish = body.publish or ("schedule" if body.scheduled_at else "draft")
    if publish == "schedule" and not body.scheduled_at:
        raise InvalidInput.field("scheduledAt", "Give the time, or ask for the next free one (publish: next_free).")
    ids = {name: keyed_id(name) for name in names}
    wishes = {name: _wish(body, name, publish) for name in names}
    for name, id in ids.items() if publish != "draft" else ():  # all are looked at before the first one is stored
        if id is None or posts.find(id) is None:
            posts.refuse_new(now=publish == "now", **wishes[name])
    group = new_id("group") if len(names) > 1 else None
    made: list[Post] = []
    failed: list[dict[str, Any]] = []
    for name, wish in wishes.items():
        post = posts.create(
            **wish,
            group_id=group,
            prompt_id=body.prompt_id,
            status="scheduled" if publish in ("schedule", "next_free") else "draft",
            id=ids[name],
        )
        try:
            made.append(start(post) if publish == "now" else post)
        except DallaError as exc:  # it stays a draft; the other platforms must not suffer
            exc.extra.setdefault("postId", post.id)
            if group is None:
                raise
            made.append(post)
            failed.append(
                {"id": post.id, "platform": name, "code": exc.code, "detail": exc.detail, "remedy": exc.remedy}
            )
    if any(post.status == "scheduled" and (post.due_at or "") <= now_iso() for post in made):
        publishing.wake()
        made = [posts.get(post.id) for post in made]
    if group is None:
        return created(posts.public(made[0]), f"/api/posts/{made[0].id}", ETag=f'"{made[0].revision}"')
    answer = {"groupId": made[0].group_id, "posts": posts.public_many(made), "failed": failed}
    return created(answer, f"/api/posts?groupId={made[0].group_id}")


def _wish(body: PostBody, name: str, publish: str) -> dict[str, Any]:
    wish = body.fields(name)
    if publish == "now":
        wish["scheduled_at"] = None
    elif publish == "next_free":
        wish["scheduled_at"] = services().posts.next_free_slot(body.character_id, name)
    return wish


def start(post: Post) -> Post:
    """Publish a post that was just made. One made earlier under the same Idempotency-Key is not started twice."""
    if post.status in ("draft", "approved", "failed", "missed"):
        return services().publishing.publish_now(post.id)
    return post


def keyed_id(platform: str) -> str | None:
    """Return the id of the post this request makes, when it has an Idempotency-Key; else None.

    The id is told by the key: should the app die amid the request, the same key finds the post that was made
    and never makes a second one. After a day the key is free again.
    """
    key = request.headers.get("Idempotency-Key", "")[:200]
    if not key:
        return None
    key = own_key(key)
    posts, now = services().posts, parse(now_iso())
    for n in range(1000):
        id = "post_" + sha256(f"{request.path}\0{platform}\0{key}\0{n}".encode()).hexdigest()[:40]
        known = posts.find(id)
        if known is None or (now - parse(known.created_at)).total_seconds() < KEY_SECONDS:
            return id
    raise InvalidInput.field("Idempotency-Key", "This key was used too often. Send a new one with each new request.")


@bp.post("/check", summary="Say what is wrong with a post and show the pictures as they would go; store nothing")
def check_post(body: CheckBody):
    posts, names = services().posts, body.wanted()
    return {"platforms": {name: posts.preview(post_id=body.post_id or None, **body.fields(name)) for name in names}}


@bp.post("/bulk", summary="Approve, cancel, delete or schedule many")
@idempotent()
def bulk_posts(body: BulkBody):
    answer = services().posts.bulk(body.action, body.ids, at=body.scheduled_at)
    services().publishing.wake()
    return answer


@bp.get("/<id>", summary="Read a post with its attempts and what is to be said about it")
def get_post(path: IdPath):
    return _answer(services().posts.get(path.id), full=True)


@bp.patch("/<id>", summary="Change the fields that are sent")
def patch_post(path: IdPath, body: PostPatch):
    return _answer(services().posts.edit(path.id, body.changes(), if_revision=_if_match(path.id)))


@bp.delete("/<id>", summary="Delete a draft, or a post that never went out")
def delete_post(path: IdPath):
    posts = services().posts

    def current() -> dict[str, Any]:
        return posts.public(posts.get(path.id), full=True)

    with etags.guarded("post", path.id, current, lambda: str(posts.get(path.id).revision)):
        posts.delete(path.id)
    return {"success": True}


def _if_match(id: str) -> int | None:
    """Return the revision that `If-Match` asks for: the present one when it is named, else -1, which no post has."""
    wanted = etags.given()
    if wanted is None:
        return None
    revision = services().posts.get(id).revision
    return revision if str(revision) in wanted else -1


# ---------------------------------------------------------------- what is done with a post


@bp.post("/<id>/approve", summary="Let a draft go out")
@idempotent()
def approve_post(path: IdPath):
    return _settled(_wake(services().posts.approve_one(path.id)))


@bp.post("/<id>/schedule", summary="Plan a post for a time")
@idempotent()
def schedule_post(path: IdPath, body: ScheduleBody):
    return _settled(_wake(services().posts.schedule(path.id, body.scheduled_at)))


@bp.post("/<id>/retry", summary="Try a failed, missed, cancelled or rehearsed post again")
@idempotent()
def retry_post(path: IdPath):
    return _settled(_wake(services().posts.retry(path.id)))


@bp.post("/<id>/cancel", summary="Take a post out of the plan, or stop it while nothing is live")
def cancel_post(path: IdPath):
    return _answer(services().posts.cancel(path.id))


@bp.post("/<id>/duplicate", summary="Make a draft with the same content")
@idempotent()
def duplicate_post(path: IdPath):
    post = services().posts.duplicate(path.id)
    return created(services().posts.public(post), f"/api/posts/{post.id}", ETag=f'"{post.revision}"')


@bp.post("/<id>/publish", summary="Post it now")
@idempotent()
def publish_post(path: IdPath, query: WaitQuery):
    posts, publishing = services().posts, services().publishing
    post = publishing.publish_now(path.id)
    held = True
    if query.wait:
        with place() as held:
            post = publishing.wait(path.id, query.wait if held else 0)
    resting = post.status not in IN_FLIGHT and post.status != "scheduled"
    slower = {} if held or resting else {"Retry-After": str(RETRY_SECONDS)}
    return posts.public(post), 200 if resting else 202, {"ETag": f'"{post.revision}"', **slower}


@bp.post("/<id>/confirm", summary="Settle an unconfirmed post: it is live, or it is not")
@idempotent()
def confirm_post(path: IdPath, body: ConfirmBody):
    reference = body.permalink or body.platform_post_id
    if body.posted and not reference:
        raise InvalidInput.field("permalink", "Paste the link of the post, so that it can be found again.")
    try:
        post = services().publishing.settle(path.id, posted=body.posted, reference=reference, again=body.again)
    except DallaError as exc:
        exc.extra.setdefault("postId", path.id)
        raise
    return _settled(post)
