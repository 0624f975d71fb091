"""What the built-in task types do, step by step: generate_and_post, generate_only, post_existing.

Every step may be interrupted. A picture that was asked for is waited for again by its job id, a chosen
picture stays chosen, and a post is created once per slot and platform whoever asks twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dalla.engines.captions.base import INSTAGRAM_TEXT, X_TEXT, with_hashtags
from dalla.errors import Cancelled, Conflict, DallaError, NotFound
from dalla.jobs.base import JobQueue
from dalla.records.job import Job
from dalla.records.media import MediaFilter, MediaItem
from dalla.records.post import Post, PostFilter
from dalla.services.automation_config import (
    hashtags_of,
    jitter_seconds,
    loras_of,
    options_of,
    platforms_of,
    prompt_source,
    stable_number,
)
from dalla.services.automation_record import Note, Skip, Work
from dalla.services.captioning import Captioning, CaptionResult
from dalla.services.gallery import Gallery
from dalla.services.generation import Generation, Wish
from dalla.services.posts import Posts
from dalla.services.prompts import Prompts
from dalla.settings import Settings
from dalla.stores.base import RunStore
from dalla.times import iso

logger = logging.getLogger(__name__)

TEXT_RULES = {"instagram": INSTAGRAM_TEXT, "twitter": X_TEXT}
LABELS = {"instagram": "Instagram", "twitter": "X"}
ENGINES = {"gemini": "Gemini", "local": "the local server", "composer": "the offline composer"}
WAIT_SECONDS = 1.0  # how soon a cancel is seen while a picture is being made
IDEAS = 5
CAROUSEL = 3  # pictures of a carousel when its rule names no number
PASSING = frozenset({"unavailable", "timed_out"})  # errors of the engine that time may heal


class Types:
    """The handlers. Each takes a Work and returns {"mediaIds", "postIds"}; raises Skip, Cancelled, DallaError."""

    def __init__(
        self,
        settings: Settings,
        runs: RunStore,
        generation: Generation,
        gallery: Gallery,
        captioning: Captioning,
        prompts: Prompts,
        posts: Posts,
        jobs: JobQueue,
        wake: Callable[[], None],
        *,
        used_media: Callable[[str, str | None], set[str]] | None,
        engine_retries: tuple[float, ...],
    ) -> None:
        """`used_media` answers which pictures of a character are posted or on their way to a platform (quicker than
        reading its posts); `engine_retries`: seconds to wait before asking an image engine again that cannot be reached.
        """
        self._settings = settings
        self._runs = runs
        self._generation = generation
        self._gallery = gallery
        self._captioning = captioning
        self._prompts = prompts
        self._posts = posts
        self._jobs = jobs
        self._wake = wake
        self._used_media = used_media or self._read_used_media
        self._engine_retries = engine_retries
        self._choosing = threading.Lock()  # two runs must not choose the same picture or prompt

    def generate_only(self, work: Work) -> dict[str, Any]:
        """Make pictures for the gallery; with captions where the rule says so."""
        self._prompt(work)
        made = self._generate(work)
        if work.config.get("generateCaption") is True:
            self._captions_to_keep(work, made)
        return {"mediaIds": made, "postIds": []}

    def generate_and_post(self, work: Work) -> dict[str, Any]:
        """Make a picture, write its caption, hand one post per platform to publishing."""
        self._prompt(work)
        made = self._generate(work)
        return {"mediaIds": made, "postIds": self._post(work, self._for_one_post(work, made))}

    def post_existing(self, work: Work) -> dict[str, Any]:
        """Post pictures of the gallery that were not posted yet."""
        chosen = self._choose(work)
        if not chosen:
            return self.generate_and_post(work)
        return {"mediaIds": chosen, "postIds": self._post(work, chosen)}

    # ------------------------------------------------------------ the words for the picture

    def _prompt(self, work: Work) -> None:
        if work.record.done("prompt"):
            return
        with work.record.step("prompt") as note, self._choosing:
            config = work.config
            source = prompt_source(config)
            entry = self._from_library(work, note) if source == "library" else None
            if entry is not None:
                text = entry.prompt
                note.data |= {"promptId": entry.id, "caption": entry.caption or None}
            elif source == "base":
                text = ""
            else:
                text = config.get("prompt") or ""
            expanded = self._prompts.expand(text, work.seed) if text.strip() else ""
            note.data["prompt"] = expanded
            note.detail = expanded[:300] or "The character's own prompt."
            if entry is not None:
                with contextlib.suppress(NotFound):  # deleted in this moment
                    self._prompts.mark_used(entry.id, "run", work.run.id)

    def _from_library(self, work: Work, note: Note) -> Any:
        assert work.character is not None
        if note.data.get("promptId"):  # chosen before the app stopped
            try:
                return self._prompts.get(note.data["promptId"])
            except NotFound:
                pass
        entry = self._prompts.pick(work.character.id, rule=work.config.get("promptRule") or "unused")
        if entry is None:
            empty = work.config.get("promptEmpty") or "skip"
            if empty == "ideas":
                made, _, _ = self._prompts.generate(work.character.id, IDEAS)
                entry = made[0] if made else None
            elif empty == "fixed" and (work.config.get("prompt") or "").strip():
                return None
        if entry is None:
            raise Skip(f"There is no unused prompt of {work.character.name} in the library.")
        note.data["promptId"] = entry.id
        note.save()
        return entry

    # ------------------------------------------------------------ the picture

    def _generate(self, work: Work) -> list[str]:
        finished = work.record.done("generate")
        if finished:
            return list(finished.data.get("mediaIds") or [])
        with work.record.step("generate") as note:
            job = self._job_of(note)
            if job is None:
                job = self._submit(work)
                note.data["jobId"] = job.id
                note.save()
            job = self._wait(work, job)
            result = job.result or {}
            made = list(result.get("mediaIds") or [])
            if not made:
                raise DallaError("The engine made no picture.", remedy="Try again; look at the log of the task.")
            work.record.update(media_ids=made)
            note.data["mediaIds"] = made
            note.detail = " · ".join(str(result[key]) for key in ("engine", "model") if result.get(key))
            return made

    def _job_of(self, note: Note) -> Job | None:
        """Return the job that was started before the app stopped, unless it has come to nothing."""
        if not note.data.get("jobId"):
            return None
        try:
            job = self._jobs.get(note.data["jobId"])
        except NotFound:
            return None
        return None if job.status in ("failed", "cancelled", "interrupted") else job

    def _submit(self, work: Work) -> Job:
        config = work.config
        step = work.record.find("prompt")
        count = config.get("batchSize") or (CAROUSEL if self._is_carousel(work) else 1)
        wish = Wish(
            character_id=work.character.id if work.character else None,
            prompt=(step.data.get("prompt") if step else None) or None,
            negative_prompt=config.get("negativePrompt") or None,
            model=config.get("model") or None,
            loras=loras_of(config),
            width=config.get("width"),
            height=config.get("height"),
            steps=config.get("steps"),
            batch_size=count,
            engine=config.get("engine") or None,
            seed=stable_number(f"{work.seed}\0seed", 2**32),
        )
        waits = list(self._engine_retries) if work.run.trigger != "manual" else []
        while True:
            try:
                return self._generation.submit(wish)
            except DallaError as exc:
                if exc.code not in PASSING or not waits:
                    raise
                work.context.progress(0, 0, f"{exc.detail} Trying again.")
                self._sleep(work, waits.pop(0))

    def _wait(self, work: Work, job: Job) -> Job:
        try:
            while not job.finished:
                work.context.check_cancelled()
                job = self._jobs.wait(job.id, WAIT_SECONDS)
                work.context.progress(job.progress.done, job.progress.total, job.progress.message)
        except Cancelled:
            if self._jobs.get(work.context.job.id).cancel_requested:  # by a person; an app that closes resumes it
                with contextlib.suppress(Conflict, NotFound):
                    self._jobs.cancel(job.id)
            raise
        if job.status == "completed":
            return job
        problem = job.error or {}
        error = DallaError(
            problem.get("detail") or f"The picture was not made: its task is {job.status}.",
            remedy=problem.get("remedy"),
            errors=problem.get("errors"),
        )
        if problem.get("code"):
            error.code = problem["code"]  # type: ignore[misc]
        raise error

    def _sleep(self, work: Work, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            work.context.check_cancelled()
            time.sleep(min(left, WAIT_SECONDS))

    def _is_carousel(self, work: Work) -> bool:
        return work.config.get("kind") == "carousel" and bool(platforms_of(work.config))

    def _for_one_post(self, work: Work, made: list[str]) -> list[str]:
        return made if self._is_carousel(work) and len(made) > 1 else made[:1]

    # ------------------------------------------------------------ a picture that is there

    def _choose(self, work: Work) -> list[str]:
        """Return the pictures to post; an empty list to have one made."""
        finished = work.record.done("choose")
        if finished:
            return list(finished.data.get("mediaIds") or [])
        with work.record.step("choose") as note, self._choosing:
            assert work.character is not None
            kept = [id for id in note.data.get("mediaIds") or [] if self._usable(id)]
            chosen = kept or self._candidates(work)
            if chosen:
                note.data["mediaIds"] = chosen
                note.detail = {
                    "queue": "Next in the queue.",
                    "random_unposted": "Any that was not posted.",
                }.get(work.config.get("mediaRule") or "", "The newest that was not posted.")
                work.record.update(media_ids=chosen)  # from here on no other run chooses it
                return chosen
            where = "the collection" if work.config.get("collectionId") else f"the gallery of {work.character.name}"
            reason = f"There is no picture in {where} that has not been posted."
            empty = work.config.get("mediaEmpty") or "skip"
            if empty != "generate":
                raise Skip(reason, alert=empty == "alert")
            note.status = "skipped"
            note.detail = f"{reason} A new one is made."
            return []

    def _candidates(self, work: Work) -> list[str]:
        assert work.character is not None
        config = work.config
        where = MediaFilter(
            character_id=work.character.id, type="image", collection_id=config.get("collectionId") or None
        )
        if where.collection_id:
            self._gallery.collection(where.collection_id)  # a deleted one is told, not taken for empty
        used = self._used(work)
        free = [id for id in self._gallery.ids(where) if id not in used]  # newest first
        if not free:
            return []
        rule = config.get("mediaRule") or "newest_unposted"
        if rule == "queue":
            free.reverse()
        elif rule == "random_unposted":
            start = stable_number(f"{work.seed}\0media", len(free))
            free = free[start:] + free[:start]
        count = (config.get("batchSize") or CAROUSEL) if self._is_carousel(work) else 1
        return free[:count]

    def _used(self, work: Work) -> set[str]:
        """Pictures that are posted or on their way, by anybody, or were rehearsed by this rule, or another run holds."""
        assert work.character is not None
        used: set[str] = set()
        for platform in platforms_of(work.config):
            used |= self._used_media(work.character.id, platform)
        for run in self._runs.unfinished():
            if run.id != work.run.id:
                used |= set(run.media_ids)
        page = self._posts.page(PostFilter(task_id=work.task.id), limit=500)
        for post in page.items:
            if post.status not in ("cancelled", "failed", "missed") and post.run_id != work.run.id:
                used |= set(post.media_ids)
        return used

    def _read_used_media(self, character_id: str, platform: str | None) -> set[str]:
        where = PostFilter(character_id=character_id, platform=platform)
        used: set[str] = set()
        cursor = None
        while True:
            page = self._posts.page(where, limit=500, cursor=cursor)
            for post in page.items:
                if post.status not in ("cancelled", "failed", "missed", "dry_run") and not post.dry_run:
                    used |= set(post.media_ids)
            cursor = page.next_cursor
            if cursor is None:
                return used

    def _usable(self, id: str) -> bool:
        try:
            return self._gallery.get(id).trashed_at is None
        except NotFound:
            return False

    # ------------------------------------------------------------ the caption

    def _caption(self, work: Work, media_id: str) -> dict[str, Any]:
        """Return {"captions": {platform: text}, "altText", "hold": reason or None}; a caption never loses a post."""
        finished = work.record.done("caption")
        if finished:
            return finished.data
        with work.record.step("caption") as note:
            item = self._item(media_id)
            data = self._own_caption(work, item)
            if data is None:
                data = self._written_caption(work, media_id, item)
            note.data |= {k: v for k, v in data.items() if k != "detail"}
            note.detail = data.get("detail", "")
            note.status = "held" if data.get("hold") else "ok"
            return note.data

    def _own_caption(self, work: Work, item: MediaItem | None) -> dict[str, Any] | None:
        """The caption somebody wrote: the rule's, else the prompt's, else the picture's; None when one is to be written."""
        config = work.config
        step = work.record.find("prompt")
        fixed = (config.get("caption") or "").strip()
        if fixed:
            text, who = self._prompts.expand(fixed, f"{work.seed}\0caption"), "The task's own caption."
        elif step and (step.data.get("caption") or "").strip():
            text, who = step.data["caption"].strip(), "The prompt's caption."
        elif work.task.type == "post_existing" and item is not None and (item.caption or "").strip():
            text, who = (item.caption or "").strip(), "The picture's caption."
        elif config.get("generateCaption") is False:
            text, who = "", "Without a caption."
        else:
            return None
        tags = [tag.lstrip("#") for tag in hashtags_of(config)]
        captions = {name: with_hashtags(text, tags, rules) if tags else text for name, rules in TEXT_RULES.items()}
        return {"captions": captions, "altText": (item.alt_text if item else None) or "", "hold": None, "detail": who}

    def _written_caption(self, work: Work, media_id: str, item: MediaItem | None) -> dict[str, Any]:
        try:
            result = self._write(work, media_id if item is not None else None)
        except Cancelled:
            raise
        except DallaError as exc:
            logger.warning("No caption for run %s: %s", work.run.id, exc.detail)
            return {"captions": {}, "altText": "", "hold": exc.detail, "detail": exc.detail}
        failed = result.failure
        hold = None
        if failed and self._settings.caption_failure == "hold":
            hold = failed.get("detail") or "The caption engine failed."
        return {
            "captions": dict(result.captions) or {name: result.caption for name in TEXT_RULES},
            "altText": result.alt_text or (item.alt_text if item else None) or "",
            "provider": result.provider,
            "hold": hold,
            "detail": hold or " ".join([f"By {ENGINES.get(result.provider, result.provider)}.", *result.notes])[:500],
        }

    def _write(self, work: Work, media_id: str | None) -> CaptionResult:
        config = work.config
        step = work.record.find("prompt")
        return self._captioning.write(
            character_id=work.character.id if work.character else None,
            prompt=(step.data.get("prompt") if step else None) or None,
            prompt_id=(step.data.get("promptId") if step else None) or None,
            media_id=media_id,
            language=config.get("captionLanguage") or None,
            tone=config.get("captionTone") or None,
            hashtags=[tag.lstrip("#") for tag in hashtags_of(config)],
        )

    def _captions_to_keep(self, work: Work, media_ids: list[str]) -> None:
        """Write captions into the gallery. A failure is told in the step and does not fail the run."""
        if work.record.done("caption"):
            return
        with work.record.step("caption") as note:
            kept = set(note.data.get("mediaIds") or [])
            for media_id in media_ids:
                if media_id in kept:
                    continue
                work.context.check_cancelled()
                try:
                    result = self._write(work, media_id)
                    self._captioning.save_to_media(media_id, result)
                except DallaError as exc:
                    note.status, note.detail = "skipped", exc.detail
                    return
                kept.add(media_id)
                note.data["mediaIds"] = sorted(kept)
                note.detail = f"By {ENGINES.get(result.provider, result.provider)}."
                note.save()

    def _item(self, media_id: str) -> MediaItem | None:
        try:
            return self._gallery.get(media_id)
        except NotFound:
            return None

    # ------------------------------------------------------------ the posts

    def _post(self, work: Work, media_ids: list[str]) -> list[str]:
        """Create one post per platform, each for itself. Raises only when none could be created."""
        caption = self._caption(work, media_ids[0])
        platforms = platforms_of(work.config)
        made: list[str] = []
        errors: list[Exception] = []
        for platform in platforms:
            finished = work.record.done(f"post:{platform}")
            if finished:
                made.append(finished.data["postId"])
                continue
            try:
                with work.record.step(f"post:{platform}") as note:
                    post = self._create(work, platform, media_ids, caption, len(platforms) > 1)
                    note.data["postId"] = post.id
                    note.status = "held" if post.hold else "ok"
                    note.detail = _how(post)
                    made.append(post.id)
            except Cancelled:
                raise
            except Exception as exc:  # noqa: BLE001 - the other platform must not suffer; the step keeps the reason
                if not isinstance(exc, DallaError):
                    logger.exception("The post of run %s on %s", work.run.id, platform)
                errors.append(exc)
        work.record.update(post_ids=made)
        if not made and errors:
            raise errors[0]
        self._wake()
        return made

    def _create(self, work: Work, platform: str, media_ids: list[str], caption: dict[str, Any], grouped: bool) -> Post:
        assert work.character is not None
        config, run = work.config, work.run
        approval = config.get("approval") or self._settings.approval
        hold = "caption" if caption.get("hold") else "approval" if approval == "required" else None
        reason = caption.get("hold") or ("This task's posts wait for approval." if hold else None)
        delay = jitter_seconds(work.task.id, run.slot, config) if run.trigger == "cron" else 0
        step = work.record.find("prompt")
        kind = config.get("kind") or "single"
        if kind == "carousel" and len(media_ids) < 2:
            kind = "single"
        if kind == "story" and platform == "twitter":
            kind = "single"  # X has no stories
        return self._posts.create(
            character_id=work.character.id,
            platform=platform,
            media_ids=media_ids,
            caption=caption.get("captions", {}).get(platform, ""),
            alt_texts=[caption["altText"]] * len(media_ids) if caption.get("altText") else [],
            kind=kind,
            options=options_of(config),
            scheduled_at=iso(work.planned + timedelta(seconds=delay)),
            dry_run=True if run.dry_run else None,
            source="task",
            task_id=work.task.id,
            run_id=run.id,
            slot=run.slot,
            group_id=run.id if grouped else None,
            prompt_id=(step.data.get("promptId") if step else None) or None,
            hold=hold,
            hold_reason=reason,
            status="draft" if hold else "scheduled",
        )


def _how(post: Post) -> str:
    if post.hold == "caption":
        return "Waits for a caption."
    if post.hold:
        return "Waits for approval."
    if post.status == "draft":
        return "Kept as a draft."
    return "Dry run." if post.dry_run else "Handed to publishing."
