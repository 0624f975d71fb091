"""What is wrong with a post, told before anything is sent.

An issue of level "error" keeps the post from going out; a "warning" does not. Nothing here asks a
platform: it reads what is known (texts, pictures, keys, what the accounts' rows say).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from dalla.errors import Conflict, DallaError, InvalidInput, NotConfigured, NotFound
from dalla.records.character import Character
from dalla.records.media import MediaItem
from dalla.records.platform import Issue, PlatformInfo
from dalla.records.post import EDITABLE, IN_FLIGHT, SETTLED, Post, PreparedFile
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.pauses import Pauses
from dalla.services.platform_access import PlatformAccess
from dalla.services.post_files import PostFiles
from dalla.services.post_times import quiet_until, zone_named
from dalla.settings import Settings
from dalla.stores.base import AccountStore, PostStore
from dalla.times import iso, parse

#: A wish for "now" may be this old when it arrives (seconds).
PAST_GRACE = 60
FUTURE_YEARS = 5
#: What keeps an account from posting at this moment; warnings for a post that is planned, refusals for one that is to go now.
STOPS = frozenset({"paused", "account_stopped", "breaker"})
#: Told while composing, not worth keeping with the post.
TRANSIENT = frozenset({"framed"})


class HostingMode(Protocol):
    """Whether a platform can fetch pictures from us (platforms/hosting.py)."""

    def describe(self) -> dict[str, Any]:
        """Return {"mode", "detail", "remedy"}; a remedy means that pictures cannot be fetched from here."""


def errors_of(issues: Iterable[Issue]) -> list[Issue]:
    return [issue for issue in issues if issue.level == "error"]


def refuse(issues: Iterable[Issue]) -> None:
    """Raise for issues of level error: NotConfigured when only the account is at fault, else InvalidInput by field."""
    found = errors_of(issues)
    if not found:
        return
    detail = " ".join(issue.message for issue in found)
    remedy = next((issue.remedy for issue in found if issue.remedy), None)
    extra = {"issues": [issue.to_json() for issue in found]}
    if all(issue.field == "account" for issue in found):
        raise NotConfigured(detail, remedy=remedy, extra=extra)
    errors = [{"field": issue.field or "", "message": issue.message} for issue in found]
    raise InvalidInput(detail, errors=errors, remedy=remedy, extra=extra)


def refuse_stopped(issues: Iterable[Issue]) -> None:
    """Raise Conflict when the account cannot post at this moment (stop switch, breaker)."""
    for issue in issues:
        if issue.code in STOPS:
            raise Conflict(issue.message, remedy=issue.remedy, extra={"issues": [issue.to_json()]})


class PostChecks:
    """Looks at a post from every side. Changes nothing."""

    def __init__(
        self,
        settings: Settings,
        store: PostStore,
        accounts: AccountStore,
        pauses: Pauses,
        characters: Characters,
        gallery: Gallery,
        platforms: PlatformAccess,
        hosting: HostingMode,
        files: PostFiles,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._pauses = pauses
        self._characters = characters
        self._gallery = gallery
        self._platforms = platforms
        self._hosting = hosting
        self._files = files
        self._now = now

    def all(self, post: Post) -> list[Issue]:
        """Return everything there is to say, errors first."""
        info = self._platforms.get(post.platform).info
        issues: list[Issue] = []
        try:
            character = self._characters.get(post.character_id)
        except NotFound:
            character = None
            issues.append(
                Issue("error", "unknown_character", "The character of this post does not exist any more.", "characterId",
                      "Restore the character, or cancel the post.")
            )  # fmt: skip
        issues += self.words(post)
        issues += self.pictures(post)
        if character is not None:
            issues += self._account(post, character, info)
            issues += self._time(post, character, info)
        issues += self._duplicates(post, info)
        return sorted(issues, key=lambda issue: issue.level != "error")

    def dry(self, post: Post, character: Character | None) -> bool:
        """Whether the post would only be rehearsed now. One that has started stays what it was."""
        if post.status not in EDITABLE | {"claimed"} or post.status == "dry_run":
            return post.dry_run
        return post.dry_run or self._settings.dry_run or (character is not None and character.dry_run)

    # ------------------------------------------------------------ words

    def words(self, post: Post) -> list[Issue]:
        """Return what is wrong with caption and alt texts, by the platform's rules."""
        platform = self._platforms.get(post.platform)
        info = platform.info
        issues = list(platform.check_text(post.kind, post.caption, list(post.alt_texts)))
        told = {issue.code for issue in issues}
        if post.kind != "story" and not post.caption.strip() and "caption_empty" not in told:
            if info.text.caption_optional:
                issues.append(
                    Issue("warning", "caption_empty", "There is no caption; only the picture is posted.", "caption")
                )
            else:
                message = f"{info.label} needs a text."
                issues.append(Issue("error", "caption_empty", message, "caption", "Write a caption."))
        longest = info.text.max_alt_text
        if not any(issue.field == "altTexts" for issue in issues):
            for number, text in enumerate(post.alt_texts, 1):
                if len(text) > longest:
                    message = (
                        f"The alt text of picture {number} has {len(text)} characters; {info.label} takes {longest}."
                    )
                    issues.append(Issue("error", "alt_text_too_long", message, "altTexts", "Shorten the alt text."))
        return issues

    # ------------------------------------------------------------ pictures

    def pictures(self, post: Post) -> list[Issue]:
        """Return what is wrong with the choice of pictures."""
        info = self._platforms.get(post.platform).info
        issues: list[Issue] = []
        if post.kind not in info.kinds:
            kinds = ", ".join(info.kinds)
            issues.append(
                Issue(
                    "error",
                    "kind",
                    f"{info.label} has no posts of the kind '{post.kind}' here.",
                    "kind",
                    f"Use {kinds}.",
                )
            )
        issues += self._how_many(post, info)
        prepared = self.prepared(post)
        items = {item.id: item for item in self.items(post.media_ids)}
        for number, media_id in enumerate(post.media_ids, 1):
            name = "The picture" if len(post.media_ids) == 1 else f"Picture {number}"
            found = self._picture(name, items.get(media_id), prepared.get(media_id), info)
            if found is not None:
                issues.append(found)
        for number, file in enumerate(post.files, 1):
            if file.notes and file.media_id in post.media_ids:
                name = "The picture" if len(post.media_ids) == 1 else f"Picture {number}"
                issues.append(Issue("warning", "framed", f"{name}: {', '.join(file.notes)}.", "mediaIds"))
        return issues

    @staticmethod
    def _how_many(post: Post, info: PlatformInfo) -> list[Issue]:
        count, most = len(post.media_ids), info.images.max_images
        if count == 0:
            return [Issue("error", "no_picture", "The post has no picture.", "mediaIds", "Choose a picture.")]
        if post.kind in ("single", "story") and count > 1:
            message = f"A {'story' if post.kind == 'story' else 'single post'} has one picture; {count} are chosen."
            several = "carousel" in info.kinds
            remedy = "Make it a carousel, or keep one." if several and post.kind == "single" else "Keep one of them."
            return [Issue("error", "too_many_pictures", message, "mediaIds", remedy)]
        if count > most:
            message = f"{info.label} takes at most {most} pictures in one post; {count} are chosen."
            return [Issue("error", "too_many_pictures", message, "mediaIds", f"Remove {count - most}.")]
        if post.kind == "carousel" and count < 2:
            return [
                Issue("error", "too_few_pictures", "A carousel needs at least two pictures.", "mediaIds",
                      "Add a picture, or make it a single post.")
            ]  # fmt: skip
        return []

    def _picture(
        self, name: str, item: MediaItem | None, file: PreparedFile | None, info: PlatformInfo
    ) -> Issue | None:
        """Return what is wrong with one picture. One that is prepared goes out whatever became of its original."""
        gone = item is None or item.trashed_at is not None
        if gone and file is not None:
            where = "is deleted" if item is None else "is in the trash"
            return Issue("warning", "picture_kept", f"{name} {where} by now; the copy prepared for this post goes out.", "mediaIds")  # fmt: skip
        if item is None:
            return Issue("error", "picture_gone", f"{name} does not exist any more.", "mediaIds", "Choose another one.")
        if item.trashed_at is not None:
            return Issue("error", "picture_trashed", f"{name} is in the trash.", "mediaIds", "Restore it, or choose another one.")  # fmt: skip
        if item.type != "image":
            return Issue("error", "picture_video", f"{name} is a video; only pictures can be posted.", "mediaIds", "Choose a picture.")  # fmt: skip
        if file is None and not self._has_file(item):
            return Issue("error", "picture_file_gone", f"The file of {name[0].lower()}{name[1:]} is gone from the data folder.", "mediaIds", "Choose another one, or restore the file from a backup.")  # fmt: skip
        if item.width < info.images.min_width:
            return Issue("warning", "picture_small", f"{name} is only {item.width} pixels wide; {info.label} wants {info.images.min_width}. It is enlarged.", "mediaIds")  # fmt: skip
        return None

    def _has_file(self, item: MediaItem) -> bool:
        try:
            self._gallery.file(item)
            return True
        except DallaError:
            return False

    def prepared(self, post: Post) -> dict[str, PreparedFile]:
        """Return the prepared files of the post that are really there, by media id."""
        return {file.media_id: file for file in post.files if self._files.exists(file)}

    def items(self, ids: Sequence[str]) -> list[MediaItem]:
        """Return those pictures that exist, trashed ones too."""
        found = []
        for id in dict.fromkeys(ids):
            try:
                found.append(self._gallery.get(id))
            except NotFound:
                continue
        return found

    # ------------------------------------------------------------ the account

    def _account(self, post: Post, character: Character, info: PlatformInfo) -> list[Issue]:
        issues: list[Issue] = []
        if not character.is_active:
            issues.append(
                Issue("error", "inactive", f"{character.name} is switched off, so nothing is posted.", "characterId",
                      "Switch the character on (Characters), then try again.")
            )  # fmt: skip
        pause = self._pauses.of(character.id)
        if pause is not None:
            reason = f": {pause['reason']}" if pause.get("reason") else ""
            issues.append(
                Issue("warning", "paused", f"Publishing is stopped{reason}. The post waits until it is resumed.", "account",
                      "Resume it on the schedule page.")
            )  # fmt: skip
        if self.dry(post, character):
            return issues
        missing = self._platforms.credentials_missing(character, info.name)
        if missing:
            issues.append(missing_keys(character, info, missing))
        hosting = self._hosting.describe() if info.needs_public_url else {}
        if hosting.get("remedy"):
            issues.append(Issue("error", "no_public_url", hosting["detail"], "account", hosting["remedy"]))
        return issues + self._account_state(character, info)

    def _account_state(self, character: Character, info: PlatformInfo) -> list[Issue]:
        issues: list[Issue] = []
        state = self._accounts.get(character.id, info.name)
        now = iso(self._now())
        who = f"{character.name} on {info.label}"
        if state.paused:
            issues.append(
                Issue("warning", "account_stopped", f"{who} is stopped by hand. The post waits until it is resumed.", "account",
                      "Resume the account on the connections page.")
            )  # fmt: skip
        if state.breaker_reason and (state.breaker_until is None or state.breaker_until > now):
            issues.append(
                Issue("warning", "breaker", f"{who} is stopped: {state.breaker_reason}", "account",
                      "Mend the cause, then test the account on the connections page.")
            )  # fmt: skip
        ours = state.token_fingerprint in (None, self._platforms.fingerprint(character, info.name))
        if state.token_expires_at and ours and state.token_expires_at <= now:
            issues.append(
                Issue("warning", "token_expired", f"The keys of {who} expired on {state.token_expires_at[:10]}.", "account",
                      "Enter a new token on the character's Accounts tab.")
            )  # fmt: skip
        return issues

    # ------------------------------------------------------------ time and repetition

    def when(self, moment: datetime) -> list[Issue]:
        """Return what is wrong with a wished time."""
        now = self._now()
        if moment < now - timedelta(seconds=PAST_GRACE):
            return [
                Issue("error", "past", "This time has passed.", "scheduledAt", "Choose a time to come, or post it now.")
            ]
        if moment > now + timedelta(days=366 * FUTURE_YEARS):
            return [
                Issue(
                    "error", "far", f"This is more than {FUTURE_YEARS} years ahead.", "scheduledAt", "Check the year."
                )
            ]
        return []

    def _time(self, post: Post, character: Character, info: PlatformInfo) -> list[Issue]:
        if post.scheduled_at is None or post.status in IN_FLIGHT | SETTLED:
            return []
        moment = parse(post.scheduled_at)
        issues: list[Issue] = []
        zone = zone_named(character.timezone, self._settings.timezone)
        end = quiet_until(self._settings.quiet_hours, moment, zone)
        if end is not None:
            local = end.astimezone(zone)
            issues.append(
                Issue(
                    "warning",
                    "quiet_hours",
                    f"This lies in the quiet hours ({self._settings.quiet_hours}); it goes out at {local:%H:%M}.",
                    "scheduledAt",
                )  # fmt: skip
            )
        gap = self.gap()
        near = [
            other
            for other in self._store.between(
                iso(moment - gap), iso(moment + gap + timedelta(milliseconds=1)), character_id=post.character_id
            )
            if other.platform == post.platform
            and other.id != post.id
            and other.scheduled_at
            and other.status in ("approved", "scheduled", "claimed", "uploading", "publishing", "published")
            and abs(parse(other.scheduled_at) - moment) < gap
        ]
        if near:
            minutes = round(gap.total_seconds() / 60)
            issues.append(
                Issue(
                    "warning",
                    "clash",
                    f"Another post of {character.name} on {info.label} is planned within {minutes} minutes; the later one waits.",
                    "scheduledAt",
                    "Choose another time.",
                )  # fmt: skip
            )
        return issues

    def gap(self) -> timedelta:
        """Return the least time between two posts of one account."""
        return timedelta(minutes=self._settings.min_gap_minutes)

    def _duplicates(self, post: Post, info: PlatformInfo) -> list[Issue]:
        days = self._settings.duplicate_days
        if not days or post.status not in EDITABLE:  # too late for a warning
            return []
        hashes = [file.sha256 for file in post.files]
        if not hashes and not post.caption.strip():
            return []
        after = iso(self._now() - timedelta(days=days))
        same = self._store.similar(
            post.character_id, post.platform, caption=post.caption, sha256=hashes, after=after, except_id=post.id
        )
        issues: list[Issue] = []
        words, pictures = " ".join(post.caption.split()), set(hashes)
        for code, field, what, fits in (
            ("duplicate_picture", "mediaIds", "picture", lambda other: pictures & {f.sha256 for f in other.files}),
            (
                "duplicate_caption",
                "caption",
                "caption",
                lambda other: words and " ".join(other.caption.split()) == words,
            ),
        ):
            other = next((other for other in same if fits(other)), None)
            if other is not None:
                day = (other.published_at or other.scheduled_at or other.created_at)[:10]
                was = "went" if other.status == "published" else "is planned to go"
                issues.append(
                    Issue(
                        "warning",
                        code,
                        f"The same {what} {was} to {info.label} on {day}.",
                        field,
                        f"Change the {what}, unless this is meant.",
                    )  # fmt: skip
                )
        return issues


def missing_keys(character: Character, info: PlatformInfo, missing: list[str]) -> Issue:
    """Return the error for an account without keys."""
    message = f"{character.name} is not connected to {info.label}; missing: {', '.join(missing)}."
    return Issue("error", "no_credentials", message, "account", "Enter the keys on the character's Accounts tab.")
