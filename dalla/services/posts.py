"""Posts: write, check, prepare, plan, approve, cancel. Sending is services/publishing.py.

A post is one publication of one character on one platform. Whatever changes its state is one conditional
update in the store, so that a person and the publisher never both win.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dalla.errors import Conflict, InvalidInput, NotConfigured, NotFound, Stale
from dalla.ids import new_id
from dalla.records.character import Character
from dalla.records.platform import Issue
from dalla.records.post import EDITABLE, Post, PostFilter, PostOptions
from dalla.services.post_checks import errors_of, missing_keys, refuse, refuse_stopped
from dalla.services.post_json import EVERYTHING_DRY, character_dry, no_keys_reason
from dalla.services.post_plans import FRESH, PostPlans, words
from dalla.services.post_times import checked_time
from dalla.stores.base import Page
from dalla.times import iso, parse

#: Changing one of these changes what is sent.
CONTENT = frozenset({"caption", "alt_texts", "media_ids", "kind", "options", "dry_run"})
_CHANGEABLE = CONTENT | {"scheduled_at", "prompt_id"}
_KINDS = ("single", "carousel", "story")
MOST_PICTURES = 20
MOST_TEXT = 50_000


class Posts(PostPlans):
    """Everything about posts but the sending."""

    # ------------------------------------------------------------ reading

    def get(self, id: str) -> Post:
        """Raises NotFound."""
        return self._store.get(id)

    def find(self, id: str) -> Post | None:
        """Return the post, or None when there is none with this id."""
        with contextlib.suppress(NotFound):
            return self._store.get(id)
        return None

    def page(self, where: PostFilter, *, limit: int = 50, cursor: str | None = None, sort: str = "newest") -> Page:
        """sort: newest | soonest, by planned time, else time of creation. Raises InvalidInput for a bad cursor."""
        return self._store.page(where, limit=limit, cursor=cursor, sort=sort)

    def counts(self, character_id: str | None = None) -> dict[str, int]:
        """Return how many posts are in each status, and "held"."""
        return self._store.counts(character_id=character_id)

    def between(self, start: datetime, end: datetime, character_id: str | None = None) -> list[Post]:
        """Return the posts whose time lies in [start, end), oldest first."""
        return self._store.between(iso(start), iso(end), character_id=character_id)

    def for_slot(self, task_id: str, platform: str, slot: str) -> Post | None:
        """Return the post a rule made for this slot and platform."""
        return self._store.for_slot(task_id, platform, slot)

    def used_media(self, character_id: str, platform: str | None = None) -> set[str]:
        """Return the ids of the character's pictures that are posted, planned or on their way (there)."""
        return self._store.used_media(character_id, platform)

    def public(self, post: Post, *, full: bool = False) -> dict[str, Any]:
        """Return the post as the API shows it; `full` adds its attempts and issues."""
        if full:
            return self._json.full(post, self._issues_now(post), self._store.attempts(post.id))
        return self._json.many([post])[0]

    def public_many(self, posts: Sequence[Post]) -> list[dict[str, Any]]:
        return self._json.many(posts)

    def label(self, platform: str) -> str:
        """Return what people call a platform."""
        return self._json.label(platform)

    def outbox(self, *, post_id: str | None = None, limit: int = 50, cursor: str | None = None) -> Page:
        """Return what dry runs would have sent, newest first; of one post in the order of sending."""
        return self._store.outbox(post_id=post_id, limit=limit, cursor=cursor)

    def clear_outbox(self) -> int:
        """Forget what dry runs would have sent; return how many requests."""
        return self._store.clear_outbox()

    def file(self, sha256: str) -> Path:
        """Return the path of a prepared picture. Raises NotFound."""
        return self._files.path(sha256)

    # ------------------------------------------------------------ checks and pictures

    def effective_dry_run(self, character: Character, platform: str, wanted: bool | None) -> tuple[bool, str | None]:
        """Return whether a post is only rehearsed, and why: the whole app > the character > the wish > no keys.

        Raises NotConfigured when a live post is asked for and keys are missing.
        """
        if self._settings.dry_run:
            return True, EVERYTHING_DRY
        if character.dry_run:
            return True, character_dry(character.name)
        if wanted:
            return True, "This post is only rehearsed."
        missing = self._platforms.credentials_missing(character, platform)
        if not missing:
            return False, None
        info = self._platforms.get(platform).info
        if wanted is False:
            issue = missing_keys(character, info, missing)
            raise NotConfigured(issue.message, remedy=issue.remedy, extra={"missing": missing})
        return True, no_keys_reason(character.name, missing, info.label)

    def check(self, post: Post) -> list[Issue]:
        """Return what is wrong with the post, errors first. Sends nothing, changes nothing."""
        return self._checks.all(post)

    def compose(
        self,
        *,
        character_id: str,
        platform: str,
        media_ids: Sequence[str] = (),
        caption: str = "",
        alt_texts: Sequence[str] = (),
        kind: str = "single",
        options: PostOptions | None = None,
        scheduled_at: str | None = None,
        dry_run: bool | None = None,
    ) -> tuple[Post, str | None]:
        """Build a post with its pictures framed, without storing it; return it and why it would be a rehearsal.

        Pictures that cannot be framed are left out of `files`; `check` says why. Raises NotFound (character),
        InvalidInput (platform, time), StorageError.
        """
        character = self._characters.get(character_id)
        self._platforms.get(platform)
        _check_form(kind, media_ids, caption, alt_texts)
        try:
            dry, reason = self.effective_dry_run(character, platform, dry_run)
        except NotConfigured:
            dry, reason = False, None  # `check` names the missing keys
        at = None if scheduled_at is None else iso(checked_time(scheduled_at))
        post = Post(
            id="",
            character_id=character_id,
            platform=platform,
            kind=kind,  # type: ignore[arg-type]
            media_ids=list(dict.fromkeys(media_ids)),
            caption=caption,
            alt_texts=list(alt_texts)[: len(media_ids)],
            options=options or PostOptions(),
            scheduled_at=at,
            due_at=at,
            dry_run=dry,
        )
        return self._framed(post, strict=False), reason

    def preview(self, *, post_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Answer `POST /posts/check` for one platform: issues, length, framed pictures, whether it is a rehearsal.

        `post_id` names the post that is being edited, so that it is not told to be like itself. Raises NotFound.
        """
        from dalla import text_length

        post, reason = self.compose(**fields)
        if post_id is not None:
            post = post.with_(id=self.get(post_id).id)
        platform = self._platforms.get(post.platform)
        rules = platform.info.text
        issues = self.check(post)
        if post.scheduled_at:
            issues = [*self._checks.when(parse(post.scheduled_at)), *issues]
        answer = {
            "issues": [issue.to_json() for issue in issues],
            "length": {
                "used": text_length.measure(post.caption, rules).used,
                "max": rules.max_length,
                "unit": rules.count,
            },
            "files": [self._json.file(file) for file in post.files],
            "dryRun": post.dry_run,
            "dryRunReason": reason,
        }
        estimate = getattr(platform, "estimate", None)
        if callable(estimate):
            answer["estimatedCost"] = estimate(post.caption, [text for text in post.alt_texts if text.strip()])
        return answer

    def clean_files(self) -> int:
        """Delete prepared pictures that no post needs (any more); return how many. Called once an hour."""
        month = iso(self._now() - timedelta(days=30))
        return self._files.clean(self._store.file_hashes(settled_before=month))

    def _issues_now(self, post: Post) -> list[Issue]:
        return self.check(post) if post.status in EDITABLE else []

    # ------------------------------------------------------------ writing

    def image_to_media(self, character_id: str, data: bytes) -> str:
        """Keep a picture that came with a request in the gallery; the same bytes are the same item.

        Raises UnsupportedMedia, TooLarge, InvalidInput, StorageError.
        """
        item, _ = self._gallery.add_file(data, name="the picture", character_id=character_id)
        return item.id

    def create(
        self,
        *,
        character_id: str,
        platform: str,
        media_ids: Sequence[str] = (),
        caption: str = "",
        alt_texts: Sequence[str] = (),
        kind: str = "single",
        options: PostOptions | None = None,
        scheduled_at: str | None = None,
        dry_run: bool | None = None,
        source: str = "manual",
        task_id: str | None = None,
        run_id: str | None = None,
        slot: str | None = None,
        group_id: str | None = None,
        prompt_id: str | None = None,
        hold: str | None = None,
        hold_reason: str | None = None,
        status: str = "draft",
        id: str | None = None,
    ) -> Post:
        """Add a draft, or a post that is planned (`status="scheduled"`; without a time it is due at once).

        A post of a rule whose (task_id, platform, slot) has one already, or whose `id` exists, is not made again:
        the existing one is returned. What a person plans is refused when it could not go out; what a rule plans is
        kept, and fails in sight of everybody when its time comes, so that nothing is lost.

        Raises NotFound (character), InvalidInput by field, NotConfigured (live wished, keys missing), StorageError.
        """
        known = self._known(id, task_id, platform, slot)
        if known is not None:
            return known
        character = self._characters.get(character_id)
        self._platforms.get(platform)
        dry, _ = self.effective_dry_run(character, platform, dry_run)
        self._check_choice(media_ids, ())
        by_rule = source == "task"
        post, _ = self.compose(
            character_id=character_id,
            platform=platform,
            media_ids=media_ids,
            caption=caption,
            alt_texts=alt_texts,
            kind=kind,
            options=options,
            scheduled_at=scheduled_at,
            dry_run=dry,
        )
        planned = status == "scheduled" and hold is None
        at = post.scheduled_at or (iso(self._now()) if planned else None)
        issues = self.check(post)
        if not by_rule and post.scheduled_at:
            refuse(self._checks.when(parse(post.scheduled_at)))
        if not by_rule and planned:
            refuse(issues)
        post = post.with_(
            id=id or new_id("post"),
            dry_run=dry,
            status="scheduled" if planned else "draft",
            scheduled_at=at,
            due_at=at,
            source=source,
            task_id=task_id,
            run_id=run_id,
            slot=slot,
            group_id=group_id,
            prompt_id=prompt_id,
            hold=hold,
            hold_reason=hold_reason,
            approved_at=iso(self._now()) if planned and not by_rule else None,
            warnings=self._noted(issues),
        )
        try:
            stored = self._store.insert(post)
        except Conflict:  # another request or process was first
            known = self._known(id, task_id, platform, slot)
            if known is None:
                raise
            return known
        self._tell(stored)
        return stored

    def _known(self, id: str | None, task_id: str | None, platform: str, slot: str | None) -> Post | None:
        known = self.find(id) if id is not None else None
        if known is None and task_id and slot:
            known = self._store.for_slot(task_id, platform, slot)
        return known

    def refuse_new(self, *, now: bool, **fields: Any) -> None:
        """Raise what keeps a post of these fields (as for `create`) from being planned or, with `now`, from going at once.

        Raises NotFound, InvalidInput by field, NotConfigured (keys, public address), Conflict (stopped).
        """
        character = self._characters.get(fields["character_id"])
        self._platforms.get(fields["platform"])
        self.effective_dry_run(character, fields["platform"], fields.get("dry_run"))
        self._check_choice(fields.get("media_ids") or (), ())
        post, _ = self.compose(**fields)
        if post.scheduled_at:
            refuse(self._checks.when(parse(post.scheduled_at)))
        issues = self.check(post)
        refuse(issues)
        if now:
            refuse_stopped(issues)

    def refuse_words(self, **fields: Any) -> None:
        """Raise what is wrong with the words of a post to be (InvalidInput), before anything is kept of it."""
        post, _ = self.compose(**fields)
        refuse(self._checks.words(post))

    def edit(self, id: str, changes: dict[str, Any], if_revision: int | None = None) -> Post:
        """Change caption, alt_texts, media_ids, kind, options, dry_run, scheduled_at or prompt_id.

        What is planned must stay fit to go out; taking its time away makes it a draft,
        giving an approved one a time plans it. Raises NotFound, Conflict
        (in flight, published), Stale (carries the current post), InvalidInput by field, NotConfigured.
        """
        current = self._store.get(id)
        if current.status not in EDITABLE:
            raise Conflict(
                f"A post that is {words(current.status)} cannot be changed.", extra={"postStatus": current.status}
            )
        self._check_revision(current, if_revision)
        changes = {name: value for name, value in changes.items() if name in _CHANGEABLE}
        if not changes:
            return current
        changes = self._checked_changes(current, changes)
        wished = current.with_(**changes)
        if changes.keys() & {"media_ids", "kind", "options"} or not self.is_prepared(wished):
            keep = self.is_prepared(wished) and not changes.keys() & {"kind", "options"}
            wished = wished if keep else self._framed(wished, strict=False)
            changes["files"] = wished.files
        issues = self.check(wished)
        planned = current.status in ("scheduled", "approved")
        if planned:  # what was wrong before is not this change's fault
            before = {(issue.code, issue.message) for issue in errors_of(self.check(current))}
            refuse(issue for issue in issues if (issue.code, issue.message) not in before)
        changes["warnings"] = self._noted(issues)
        if changes.keys() & CONTENT and current.status == "scheduled":
            changes |= FRESH | {"error": None, "deferred_reason": None}  # what was staged is not what goes out now
        to = self._moved_to(current, changes)
        only_from = frozenset({current.status}) if planned else EDITABLE
        try:
            if to is not None:
                self._check_revision(self._store.get(id), if_revision)
                post = self._store.transition(id, to, only_from=only_from, **changes)
            else:
                post = self._store.edit(id, if_revision=if_revision, only_from=only_from, **changes)
        except Stale as exc:
            raise self._stale(id) from exc
        self._tell(post)
        return post

    @staticmethod
    def _moved_to(current: Post, changes: dict[str, Any]) -> str | None:
        """Return the status a change of the time leads to: no time, no plan; what is approved goes out at its time."""
        if current.status == "scheduled" and changes.get("scheduled_at", "") is None:
            return "draft"
        if current.status == "approved" and changes.get("scheduled_at"):
            return "scheduled"
        return None

    def _checked_changes(self, current: Post, changes: dict[str, Any]) -> dict[str, Any]:
        changes = dict(changes)
        if "media_ids" in changes:
            changes["media_ids"] = list(dict.fromkeys(changes["media_ids"] or []))
            self._check_choice(changes["media_ids"], current.media_ids)
        media_ids = changes.get("media_ids", current.media_ids)
        for name, empty in (("caption", ""), ("alt_texts", [])):
            if name in changes and changes[name] is None:
                changes[name] = empty
        if "alt_texts" in changes:
            changes["alt_texts"] = list(changes["alt_texts"])[: len(media_ids)]
        elif "media_ids" in changes:  # the texts follow their pictures
            texts = dict(zip(current.media_ids, current.alt_texts, strict=False))
            changes["alt_texts"] = [texts.get(id, "") for id in media_ids]
        if "options" in changes:
            changes["options"] = changes["options"] or PostOptions()
        if changes.get("kind", "") is None:
            del changes["kind"]
        kind = changes.get("kind", current.kind)
        _check_form(kind, media_ids, changes.get("caption", ""), changes.get("alt_texts", []))
        if "dry_run" in changes:
            character = self._characters.get(current.character_id)
            changes["dry_run"] = self.effective_dry_run(character, current.platform, changes["dry_run"])[0]
        if changes.get("scheduled_at"):
            moment = checked_time(changes["scheduled_at"])
            if iso(moment) != current.scheduled_at:
                refuse(self._checks.when(moment))
                changes |= {"scheduled_at": iso(moment), "due_at": iso(moment), "deferred_reason": None}
            else:
                del changes["scheduled_at"]
        elif "scheduled_at" in changes:
            changes |= {"scheduled_at": None, "due_at": None}
        return changes

    def duplicate(self, id: str) -> Post:
        """Make a new draft with the same content. Raises NotFound."""
        old = self._store.get(id)
        character = self._characters.get(old.character_id)
        dry, _ = self.effective_dry_run(character, old.platform, True if old.dry_run else None)
        copy = Post(
            id=new_id("post"),
            character_id=old.character_id,
            platform=old.platform,
            kind=old.kind,
            media_ids=old.media_ids,
            caption=old.caption,
            alt_texts=old.alt_texts,
            options=old.options,
            prompt_id=old.prompt_id,
            files=old.files,
            dry_run=dry,
        )
        if not self.is_prepared(copy):
            copy = self._framed(copy, strict=False)
        post = self._store.insert(copy.with_(warnings=self._noted(self.check(copy))))
        self._tell(post)
        return post

    # ------------------------------------------------------------ parts

    def _check_choice(self, media_ids: Sequence[str], kept: Sequence[str]) -> None:
        """Refuse newly chosen pictures that do not exist, lie in the trash or are videos."""
        new = [id for id in media_ids if id not in kept]
        items = {item.id: item for item in self._checks.items(new)}
        for id in new:
            item = items.get(id)
            if item is None:
                raise InvalidInput.field("mediaIds", f"There is no picture with the id '{id}'.")
            if item.trashed_at is not None:
                raise InvalidInput.field(
                    "mediaIds", f"The picture '{id}' is in the trash.", remedy="Restore it, or choose another one."
                )
            if item.type != "image":
                raise InvalidInput.field("mediaIds", f"'{id}' is a video; only pictures can be posted.")

    def _check_revision(self, post: Post, if_revision: int | None) -> None:
        if if_revision is not None and post.revision != if_revision:
            raise self._stale(post.id)

    def _stale(self, id: str) -> Stale:
        return Stale(
            "The post was changed elsewhere since you opened it. Nothing was saved.",
            remedy="Load it again and repeat your change.",
            extra={"current": self.public(self._store.get(id))},
        )


def _check_form(kind: str, media_ids: Sequence[str], caption: str, alt_texts: Sequence[str]) -> None:
    """Refuse what nobody can mean, before anything is done with it."""
    if kind not in _KINDS:
        raise InvalidInput.field("kind", f"Use one of {', '.join(_KINDS)}.")
    if len(media_ids) > MOST_PICTURES:
        raise InvalidInput.field("mediaIds", f"At most {MOST_PICTURES} pictures.")
    if len(caption) > MOST_TEXT:
        raise InvalidInput.field("caption", f"At most {MOST_TEXT:,} characters.")
    if any(len(text) > MOST_TEXT for text in alt_texts):
        raise InvalidInput.field("altTexts", f"At most {MOST_TEXT:,} characters.")
