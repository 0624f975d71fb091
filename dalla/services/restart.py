"""Starting the app again from a page: asked here, done by `app.py` when everything is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dalla.errors import Conflict, Unavailable
from dalla.jobs.base import TaskStore
from dalla.records.post import IN_FLIGHT, PostFilter
from dalla.stores.base import PostStore

#: The answer to the request goes out before the server stops.
DELAY_SECONDS = 0.4
#: Work that loses something when it is cut off; other tasks go on by themselves or are quickly done again.
_PRECIOUS = frozenset({"train_lora"})


class Restart:
    """Asks the program to stop cleanly and start again."""

    def __init__(self, tasks: TaskStore, posts: PostStore) -> None:
        self._tasks = tasks
        self._posts = posts
        #: Set by `app.py`: ends the server and starts it again. None where somebody else serves the app.
        self.ask: Callable[[], None] | None = None

    def interrupts(self) -> list[dict[str, Any]]:
        """Return what runs now: {kind, title, id, holds}; `holds` when a restart needs force because of it."""
        rows: list[dict[str, Any]] = [
            {"kind": job.kind, "title": job.title, "id": job.id, "holds": job.kind in _PRECIOUS}
            for job in self._tasks.page(statuses=["running"], limit=100)[0]
            if job.kind != "publish_post"
        ]
        for post in self._posts.page(PostFilter(statuses=sorted(IN_FLIGHT)), limit=100).items:
            rows.append(
                {
                    "kind": "publish_post",
                    "title": f"A post on {post.platform}",
                    "id": post.id,
                    "holds": not post.dry_run,
                }
            )
        return rows

    def request(self, *, force: bool = False) -> dict[str, Any]:
        """Restart in a moment; return {"restarting", "interrupts"}.

        Raises Conflict while a training or a publication is under way (unless `force`; `interrupts` names them),
        Unavailable where the app is not served by `python app.py`.
        """
        if self.ask is None:
            raise Unavailable(
                "This app is served by another program, so it cannot restart itself.",
                remedy="Restart it where it was started.",
            )
        found = self.interrupts()
        held = [row for row in found if row["holds"]]
        if held and not force:
            names = "; ".join(row["title"] for row in held[:3])
            raise Conflict(
                f"A restart would interrupt: {names}{' and more' if len(held) > 3 else ''}.",
                remedy="Wait until it is done, or restart all the same (force).",
                extra={"interrupts": found},
            )
        timer = threading.Timer(DELAY_SECONDS, self.ask)
        timer.daemon = True
        timer.start()
        return {"restarting": True, "interrupts": found}
