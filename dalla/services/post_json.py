"""Posts as the API shows them, with what may be done with each now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dalla.errors import InvalidInput
from dalla.records.character import Character
from dalla.records.media import MediaFilter, MediaItem
from dalla.records.platform import Issue
from dalla.records.post import EDITABLE, POST_TRANSITIONS, Attempt, Post, PreparedFile
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.platform_access import PlatformAccess
from dalla.services.post_checks import PostChecks
from dalla.services.post_files import PostFiles
from dalla.settings import Settings

CHUNK = 500
DELETABLE = frozenset({"draft", "approved", "cancelled", "failed", "missed", "dry_run"})
RETRYABLE = frozenset({"failed", "missed", "cancelled", "dry_run"})
#: What a person may cancel. An unconfirmed post is settled instead: whether it is live is not ours to wish away.
CANCELLABLE = frozenset(status for status, to in POST_TRANSITIONS.items() if "cancelled" in to) - {"unconfirmed"}


def actions(post: Post) -> list[str]:
    """Return the names of what may be done with the post in its present state."""
    to = POST_TRANSITIONS[post.status]
    editable = post.status in EDITABLE
    possible = {
        "edit": editable,
        "approve": "approved" in to,
        "schedule": editable and ("scheduled" in to or post.status == "scheduled"),
        "publish": editable and ("scheduled" in to or post.status == "scheduled"),
        "cancel": post.status in CANCELLABLE,
        "retry": post.status in RETRYABLE and "scheduled" in to,
        "confirm": post.status == "unconfirmed",
        "delete": post.status in DELETABLE,
        "duplicate": True,
    }
    return [name for name, allowed in possible.items() if allowed]


class PostJson:
    """Turns posts into JSON. Many at once cost a few queries, not a few each."""

    def __init__(
        self,
        settings: Settings,
        characters: Characters,
        gallery: Gallery,
        platforms: PlatformAccess,
        files: PostFiles,
        checks: PostChecks,
    ) -> None:
        self._settings = settings
        self._characters = characters
        self._gallery = gallery
        self._platforms = platforms
        self._files = files
        self._checks = checks

    def many(self, posts: Sequence[Post]) -> list[dict[str, Any]]:
        """Return the list form of each post."""
        characters = {character.id: character for character in self._characters.all()}
        media = self._media(list({id for post in posts for id in post.media_ids}))
        return [self._one(post, characters.get(post.character_id), media) for post in posts]

    def full(self, post: Post, issues: list[Issue], attempts: list[Attempt]) -> dict[str, Any]:
        """Return the form of a single post: with its attempts and what is to be said about it now."""
        answer = self.many([post])[0]
        answer["issues"] = [issue.to_json() for issue in issues]
        answer["attempts"] = [attempt.to_json(exclude={"id", "post_id"}) for attempt in attempts]
        return answer

    def _media(self, ids: list[str]) -> dict[str, MediaItem]:
        found: dict[str, MediaItem] = {}
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            for trashed in (False, True):
                where = MediaFilter(ids=chunk, trashed=trashed)
                found |= {
                    item.id: item for item in self._gallery.page(where, limit=CHUNK, cursor=None, sort="newest").items
                }
                if len(found) >= len(ids):
                    return found
        return found

    def _one(self, post: Post, character: Character | None, media: dict[str, MediaItem]) -> dict[str, Any]:
        dry = self._checks.dry(post, character)
        alt_texts = alt_texts_of(post)
        return {
            "id": post.id,
            "characterId": post.character_id,
            "characterName": character.name if character else None,
            "platform": post.platform,
            "platformLabel": self.label(post.platform),
            "kind": post.kind,
            "mediaIds": post.media_ids,
            "media": [self._picture(media[id]) for id in post.media_ids if id in media],
            "caption": post.caption,
            "altTexts": alt_texts,
            "altText": alt_texts[0] if alt_texts else "",
            "options": post.options.to_json(),
            "status": post.status,
            "hold": post.hold,
            "holdReason": post.hold_reason,
            "dryRun": dry,
            "dryRunReason": self._why_dry(post, character) if dry else None,
            "scheduledAt": post.scheduled_at,
            "dueAt": post.due_at,
            "deferredReason": post.deferred_reason,
            "source": post.source,
            "taskId": post.task_id,
            "runId": post.run_id,
            "slot": post.slot,
            "groupId": post.group_id,
            "promptId": post.prompt_id,
            "files": [self.file(file) for file in post.files],
            "attemptCount": post.attempts,
            "error": post.error,
            "warnings": post.warnings,
            "platformPostId": post.platform_post_id,
            "permalink": post.permalink,
            "publishedAt": post.published_at,
            "jobId": post.job_id,
            "approvedAt": post.approved_at,
            "revision": post.revision,
            "createdAt": post.created_at,
            "updatedAt": post.updated_at,
            "actions": actions(post),
        }

    def file(self, file: PreparedFile) -> dict[str, Any]:
        """Return a prepared picture; `url` is None once the file has been cleaned up."""
        return {
            "mediaId": file.media_id,
            "url": f"/api/posts/files/{file.sha256}.jpg" if self._files.exists(file) else None,
            "width": file.width,
            "height": file.height,
            "sizeBytes": file.size_bytes,
            "sha256": file.sha256,
            "notes": file.notes,
        }

    def _picture(self, item: MediaItem) -> dict[str, Any]:
        public = self._gallery.public(item)
        return {
            "id": item.id,
            "thumbUrl": public["thumbUrl"],
            "width": item.width,
            "height": item.height,
            "trashed": item.trashed_at is not None,
        }

    def label(self, platform: str) -> str:
        """Return what people call the platform."""
        try:
            return self._platforms.get(platform).info.label
        except InvalidInput:
            return platform  # of a post made when the platform was still known

    def _why_dry(self, post: Post, character: Character | None) -> str:
        if post.status == "dry_run" or not (self._settings.dry_run or (character is not None and character.dry_run)):
            if character is not None and post.status != "dry_run":
                missing = self._missing(character, post.platform)
                if missing:
                    return no_keys_reason(character.name, missing, self.label(post.platform))
            return "It was made as a rehearsal."
        if self._settings.dry_run:
            return EVERYTHING_DRY
        assert character is not None
        return character_dry(character.name)

    def _missing(self, character: Character, platform: str) -> list[str]:
        try:
            return self._platforms.credentials_missing(character, platform)
        except InvalidInput:
            return []


EVERYTHING_DRY = "The app runs as a rehearsal (DALLA_DRY_RUN): nothing is published."


def character_dry(name: str) -> str:
    return f"Posts of {name} are only rehearsed (set on the character)."


def no_keys_reason(name: str, missing: list[str], label: str) -> str:
    return f"{name} is not connected to {label} (missing: {', '.join(missing)}), so posts are only rehearsed."


def alt_texts_of(post: Post) -> list[str]:
    """Return one alt text per picture; missing ones are empty."""
    return [*post.alt_texts, *([""] * len(post.media_ids))][: len(post.media_ids)]
