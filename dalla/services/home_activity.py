"""What happened lately, as one list: pictures, posts, runs of scheduled tasks, trainings and other finished work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dalla.jobs.base import TaskStore
from dalla.plural import counted
from dalla.records.media import MediaItem
from dalla.records.post import Post, PostFilter
from dalla.records.run import Run
from dalla.stores.base import PostStore, RunStore
from dalla.times import parse

MOST = 12
LOOKED_AT = 24  # of each sort
TOGETHER_SECONDS = 900  # pictures of one character that came within this time are one line
#: Kinds of work that are told by what they made.
_TOLD_BY_RESULT = {"publish_post", "run_task", "deliver_webhooks", "generate_image", "upscale_image"}
_POSTS = {
    "published": "published on {}",
    "dry_run": "rehearsed for {}",
    "failed": "failed on {}",
    "missed": "missed on {}",
    "unconfirmed": "may or may not be live on {}",
}
_ENDED = {"failed": "failed", "cancelled": "was stopped", "interrupted": "was interrupted"}
_DID = {"imported": "Imported", "upscaled": "Enlarged", "edited": "Edited"}


class Activity:
    """Reads the stores; keeps nothing. `rule_name` answers the name of a scheduled task, None when it is gone."""

    def __init__(
        self, tasks: TaskStore, posts: PostStore, runs: RunStore, rule_name: Callable[[str], str | None]
    ) -> None:
        self._tasks = tasks
        self._posts = posts
        self._runs = runs
        self._rule_name = rule_name

    def latest(
        self, pictures: list[MediaItem], names: dict[str, str], platforms: Callable[[str], str]
    ) -> list[dict[str, Any]]:
        """Return at most MOST lines, newest first: {kind, key, title, detail, status, at, href, mediaId?}.

        `pictures` are the newest of the gallery, `names` the characters' names, `platforms` a platform's label.
        """
        posts = self._posts.page(PostFilter(statuses=list(_POSTS)), limit=LOOKED_AT).items
        runs = self._runs.page(statuses=["completed", "failed", "missed"], limit=LOOKED_AT).items
        lines = [
            *_pictures(pictures, names),
            *(_post(post, names, platforms) for post in posts),
            *filter(None, (self._run(run) for run in runs)),
            *self._work(),
        ]
        return sorted(lines, key=lambda line: line["at"], reverse=True)[:MOST]

    def _run(self, run: Run) -> dict[str, Any] | None:
        name = self._rule_name(run.task_id)
        if name is None:
            return None
        made = [
            counted(len(ids), noun) for ids, noun in ((run.media_ids, "picture"), (run.post_ids, "post")) if ids
        ]  # fmt: skip
        said = {"completed": "has run", "failed": "failed", "missed": "was missed"}[run.status]
        return _line(
            "run",
            run.id,
            f"{name} {said}",
            " and ".join(made)
            if run.status == "completed"
            else str((run.error or {}).get("detail") or run.reason or ""),
            run.status,
            run.finished_at or run.created_at,
            f"/schedule.html?run={run.id}",
        )

    def _work(self) -> list[dict[str, Any]]:
        jobs, _, _ = self._tasks.page(statuses=["completed", "failed", "cancelled", "interrupted"], limit=LOOKED_AT)
        lines = []
        for job in jobs:
            if job.kind in _TOLD_BY_RESULT and (job.status == "completed" or job.kind in ("publish_post", "run_task")):
                continue
            training = job.kind == "train_lora"
            ended = _ENDED.get(job.status)
            href = f"/lora.html?run={job.id}" if training else f"/monitoring.html?task={job.id}"
            lines.append(
                _line(
                    "training" if training else "task",
                    job.id,
                    f"{job.title} {ended}" if ended else job.title,
                    str((job.error or {}).get("detail") or "") if ended else job.progress.message,
                    job.status,
                    job.finished_at or job.created_at,
                    href,
                )
            )
        return lines


def _pictures(items: list[MediaItem], names: dict[str, str]) -> list[dict[str, Any]]:
    """One line for pictures of one character and origin that came together; `items` are newest first."""
    lines: list[dict[str, Any]] = []
    groups: list[list[MediaItem]] = []
    for item in items:
        last = groups[-1][-1] if groups else None
        together = (
            last is not None
            and (last.character_id, last.origin, last.type) == (item.character_id, item.origin, item.type)
            and (parse(last.created_at) - parse(item.created_at)).total_seconds() <= TOGETHER_SECONDS
        )
        if together:
            groups[-1].append(item)
        else:
            groups.append([item])
    for group in groups:
        first = group[0]
        who = names.get(first.character_id or "")
        noun = "video" if first.type == "video" else "picture"
        what = f"a {noun}" if len(group) == 1 else counted(len(group), noun)
        title = f"{_DID.get(first.origin, 'Made')} {what}" + (f" of {who}" if who else "")
        line = _line(
            "media", first.id, title, first.prompt, "completed", first.created_at, f"/gallery.html?media={first.id}"
        )  # fmt: skip
        lines.append({**line, "mediaId": first.id})
    return lines


def _post(post: Post, names: dict[str, str], platforms: Callable[[str], str]) -> dict[str, Any]:
    who = names.get(post.character_id)
    said = _POSTS[post.status].format(platforms(post.platform))
    detail = post.caption if post.status in ("published", "dry_run") else str((post.error or {}).get("detail") or "")
    line = _line(
        "post",
        post.id,
        f"{f'Post of {who}' if who else 'Post'} {said}",
        detail,
        post.status,
        post.published_at or post.updated_at,
        f"/content.html?post={post.id}",
    )
    return {**line, "platform": post.platform}


def _line(kind: str, key: str, title: str, detail: str, status: str, at: str, href: str) -> dict[str, Any]:
    short = " ".join(detail.split())
    return {
        "kind": kind,
        "key": key,
        "title": title,
        "detail": short if len(short) <= 200 else short[:199] + "…",
        "status": status,
        "at": at,
        "href": href,
    }
