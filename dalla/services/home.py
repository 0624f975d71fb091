"""What the home page shows: who needs a person, what comes next, the characters, the last pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dalla.errors import NotFound
from dalla.jobs.base import TaskStore
from dalla.records.media import MediaFilter, MediaItem
from dalla.records.post import PostFilter
from dalla.services.automation import Automation
from dalla.services.automation_config import name_of
from dalla.services.characters import Characters
from dalla.services.gallery import Gallery
from dalla.services.home_activity import Activity
from dalla.services.posts import Posts
from dalla.services.publishing import Publishing
from dalla.services.system import System
from dalla.stores.base import PostStore, RunStore

#: Kinds of work whose outcome is told by what they work on, not by the task.
_TOLD_ELSEWHERE = {"publish_post", "run_task"}
_BUTTONS = {"failed": "Try again", "missed": "Post now", "unconfirmed": "Settle"}
_SAID = {"failed": "failed", "missed": "was missed", "unconfirmed": "may or may not be live"}


class Home:
    """Everything here is read from real state; nothing is kept."""

    def __init__(
        self,
        system: System,
        characters: Characters,
        gallery: Gallery,
        tasks: TaskStore,
        posts: Posts,
        post_store: PostStore,
        publishing: Publishing,
        automation: Automation,
        runs: RunStore,
        accounts: Callable[[], list[dict[str, Any]]],
    ) -> None:
        """`accounts` answers Connections.status."""
        self._system = system
        self._characters = characters
        self._gallery = gallery
        self._tasks = tasks
        self._posts = posts
        self._post_store = post_store
        self._publishing = publishing
        self._automation = automation
        self._runs = runs
        self._accounts = accounts
        self._activity = Activity(tasks, post_store, runs, self._rule_name)

    def overview(self) -> dict[str, Any]:
        """Return what `GET /api/home` answers."""
        characters = self._characters.all()
        recent = self._gallery.page(MediaFilter(), limit=12, cursor=None, sort="newest")
        counts = self._gallery.counts()
        tasks = self._tasks.counts()
        status = self._system.status()
        newest = {item.character_id: item for item in reversed(recent.items)}  # asks the store only for the others
        upcoming = self._post_store.page(PostFilter(statuses=["scheduled", "approved"]), limit=5, sort="soonest")
        posts = self._post_store.counts()
        return {
            "checklist": self._checklist(bool(characters), recent.total > 0, status, posts),
            "needsYou": self._needs(status, posts),
            "nextUp": [self._posts.public(post) for post in upcoming.items],
            "posts": posts,
            "paused": self._publishing.pauses()["all"],
            "characters": [
                self._characters.public(c)
                | {
                    "mediaCount": counts.get(c.id, 0),
                    "lastMedia": self._last_media(c.id, newest) if c.id in counts else None,
                }
                for c in characters[:24]
            ],
            "characterCount": len(characters),
            "mediaCount": recent.total,
            "activity": self._activity.latest(recent.items, {c.id: c.name for c in characters}, self._posts.label),
            "recent": [self._gallery.public(item) for item in recent.items],
            "tasks": {key: tasks.get(key, 0) for key in ("queued", "running", "failed", "interrupted")},
            "machine": self._system.samples.latest(),
            "status": {"status": status["status"], "comfyui": status["comfyui"], "builtin": status["builtin"]},
        }

    def _last_media(self, character_id: str, newest: dict[str | None, MediaItem]) -> dict[str, Any] | None:
        item = newest.get(character_id)
        if item is None:
            page = self._gallery.page(MediaFilter(character_id=character_id), limit=1, cursor=None, sort="newest")
            item = page.items[0] if page.items else None
        return self._gallery.public(item) if item else None

    @staticmethod
    def _checklist(
        has_character: bool, has_picture: bool, status: dict[str, Any], posts: dict[str, int]
    ) -> list[dict[str, Any]]:
        engine = next((e for e in ("comfyui", "builtin") if status[e]["status"] == "ok"), None)
        return [
            {
                "key": "character",
                "label": "Create a character",
                "detail": "A name is enough to begin; looks and story can follow.",
                "done": has_character,
                "href": "/characters.html?new=1",
            },
            {
                "key": "engine",
                "label": "Have an engine that draws",
                "detail": status[engine]["detail"] if engine else "Start ComfyUI, or install the built-in engine.",
                "done": engine is not None,
                "href": "/monitoring.html",
            },
            {
                "key": "picture",
                "label": "Make the first picture",
                "detail": "Choose the character in the studio and press Generate.",
                "done": has_picture,
                "href": "/studio.html",
            },
            {
                "key": "post",
                "label": "Rehearse a post",
                "detail": "Without keys nothing leaves this machine: the outbox shows what would have been sent.",
                "done": posts["dry_run"] + posts["published"] > 0,
                "href": "/content.html?compose=1",
            },
        ]

    # ------------------------------------------------------------ what needs a person

    def _needs(self, status: dict[str, Any], posts: dict[str, int]) -> list[dict[str, Any]]:
        return [
            *self._stopped(),
            *self._accounts_in_trouble(),
            *self._posts_in_trouble(posts),
            *self._failing_rules(),
            *self._components(status),
            *self._failed_tasks(),
        ]

    def _stopped(self) -> list[dict[str, Any]]:
        stop = self._publishing.pauses()["all"]
        if stop is None:
            return []
        return [
            {
                "kind": "paused",
                "title": "Publishing is stopped",
                "detail": stop["reason"] or "Somebody stopped everything.",
                "href": "/schedule.html",
                "action": "Resume",
                "at": stop["since"],
            }
        ]

    def _accounts_in_trouble(self) -> list[dict[str, Any]]:
        return [
            {
                "kind": "account",
                "characterId": row["characterId"],
                "platform": row["platform"],
                "title": f"{row['characterName']}: {row.get('platformLabel') or row['platform']} needs attention",
                "detail": row["detail"],
                "remedy": row.get("remedy"),
                "href": row.get("href") or "/connections.html",
                "action": "Open connections",
            }
            for row in self._accounts()
            if row["status"] == "error" or (row["status"] == "warning" and not (row["untested"] or row["passing"]))
        ]

    def _posts_in_trouble(self, counts: dict[str, int]) -> list[dict[str, Any]]:
        needs: list[dict[str, Any]] = []
        if counts["held"]:
            one = counts["held"] == 1
            needs.append(
                {
                    "kind": "review",
                    "title": f"{counts['held']} {'post waits' if one else 'posts wait'} for you",
                    "detail": "To be approved, or to get a caption.",
                    "href": "/content.html?tab=needs",
                    "action": "Review",
                }
            )
        for post in self._post_store.page(PostFilter(statuses=list(_BUTTONS)), limit=10).items:
            public = self._posts.public(post)
            error = post.error or {}
            needs.append(
                {
                    "kind": "post",
                    "postId": post.id,
                    "status": post.status,
                    "title": f"{public['characterName'] or 'A post'}: the post on {public['platformLabel']} {_SAID[post.status]}",
                    "detail": error.get("detail", ""),
                    "remedy": error.get("remedy"),
                    "href": f"/content.html?post={post.id}",
                    "action": "Edit"
                    if post.status == "failed" and error.get("action") == "fix"
                    else _BUTTONS[post.status],
                    "at": post.updated_at,
                }
            )
        return needs

    def _failing_rules(self) -> list[dict[str, Any]]:
        needs: list[dict[str, Any]] = []
        for run in self._runs.page(statuses=["failed"], limit=10).items:
            state = self._runs.state(run.task_id)
            if state is None or state.last_run_id != run.id:
                continue  # it has run again since, or the rule is gone
            name = self._rule_name(run.task_id)
            if name is None or any(p.status in _BUTTONS for p in self._post_store.get_many(run.post_ids)):
                continue  # its post is listed above
            error = run.error or {}
            needs.append(
                {
                    "kind": "run",
                    "runId": run.id,
                    "title": f"{name} failed",
                    "detail": error.get("detail") or run.reason or "",
                    "remedy": error.get("remedy"),
                    "href": f"/schedule.html?run={run.id}",
                    "action": "Open the run",
                    "at": run.finished_at,
                }
            )
        return needs

    def _rule_name(self, id: str) -> str | None:
        try:
            task = self._automation.get(id)
        except NotFound:
            return None
        if name := name_of(task):
            return name
        character = self._automation.public(task).get("characterName")
        return f"A scheduled task of {character}" if character else "A scheduled task"

    @staticmethod
    def _components(status: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "kind": "component",
                "title": f"{component.get('label') or name.capitalize()} needs attention",
                "detail": component["detail"],
                "remedy": component.get("remedy"),
                "href": (component.get("fix") or {}).get("href") or "/monitoring.html",
                "action": (component.get("fix") or {}).get("label") or "Open monitoring",
            }
            for name, component in status.items()
            if isinstance(component, dict)
            and component.get("status") == "error"
            and not component.get("accounts")  # those are listed one by one
        ]

    def _failed_tasks(self) -> list[dict[str, Any]]:
        failed, _, _ = self._tasks.page(statuses=["failed", "interrupted"], limit=25)
        shown = [job for job in failed if job.kind not in _TOLD_ELSEWHERE][:5]
        return [
            {
                "kind": "task",
                "taskId": job.id,
                "title": f"{job.title} {'failed' if job.status == 'failed' else 'was interrupted'}",
                "detail": (job.error or {}).get("detail", ""),
                "remedy": (job.error or {}).get("remedy"),
                "href": f"/monitoring.html?task={job.id}",
                "action": "Run again",
                "at": job.finished_at,
            }
            for job in shown
        ]
