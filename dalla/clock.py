"""The in-process timer: APScheduler wakes us, the stores say what is due.

Two beats: every TICK_SECONDS, and once more exactly when the next thing is due, so that a post goes out on
its second and not on the next tick. Times of cron rules are never computed here (APScheduler counts Monday
as 0). Hourly chores: trash past its days, answers to idempotency keys, tokens to renew, temp files.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalla.errors import DallaError
from dalla.paths import remove_stale_temps
from dalla.times import ago_iso, now_iso, parse

if TYPE_CHECKING:
    from dalla.wiring import Container

logger = logging.getLogger(__name__)

TICK_SECONDS = 15
FIRST_CHORES_SECONDS = 60
KEEP_FINISHED_TASKS_DAYS = 90
KEEP_RUNS_DAYS = 365


class Clock:
    """Runs small chores on time. Started by `main()` only, never by `create_app`."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._scheduler: Any = None
        self._last_tick: str | None = None
        self._last_tick_monotonic = 0.0
        self._failures: dict[str, str] = {}
        self._ticking = threading.Lock()
        self._asked = threading.Event()

    def start(self) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler

        self._scheduler = BackgroundScheduler(daemon=True, timezone="UTC")
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": 60}
        self._scheduler.add_job(self._tick, "interval", seconds=TICK_SECONDS, **options)
        # The first round soon: an app that is never open for an hour must empty its trash too.
        soon = datetime.now(UTC) + timedelta(seconds=FIRST_CHORES_SECONDS)
        self._scheduler.add_job(self._hourly, "interval", hours=1, next_run_time=soon, **options)
        # Asks platforms one after another: it must not hold up the chores.
        self._scheduler.add_job(self._accounts, "interval", hours=1, next_run_time=soon, **options)
        self._scheduler.start()
        self._tick()

    def stop(self) -> None:
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def status(self) -> dict[str, Any]:
        """Return the state for the system status: error when a tick is overdue."""
        if self._scheduler is None:
            return {"status": "off", "detail": "The clock does not run in this process.", "lastTick": None}
        late = time.monotonic() - self._last_tick_monotonic
        facts = {"lastTick": self._last_tick, **self._due()}
        if late > 3 * TICK_SECONDS:
            return {
                "status": "error",
                "detail": f"The clock has not ticked for {late:.0f} s.",
                "remedy": "Restart the app.",
                **facts,
            }
        detail = "Running."
        if self._failures:
            detail = "Running, but a chore failed: " + "; ".join(f"{k}: {v}" for k, v in self._failures.items())
        return {"status": "error" if self._failures else "ok", "detail": detail, **facts}

    def _due(self) -> dict[str, Any]:
        """Return when the next thing is due, and by how many seconds it is late already."""
        c = self._container
        try:
            dues = [due for due in (c.automation.next_due(), c.publishing.next_due()) if due]
        except DallaError:  # the database is a component of its own
            return {"nextDue": None, "lagSeconds": None}
        if not dues:
            return {"nextDue": None, "lagSeconds": 0.0}
        late = (datetime.now(UTC) - parse(min(dues))).total_seconds()
        return {"nextDue": min(dues), "lagSeconds": round(max(0.0, late), 1)}

    def _tick(self) -> None:
        self._asked.set()
        if not self._ticking.acquire(blocking=False):
            return  # the beat before is still at work and looks once more when it is done
        try:
            while self._asked.is_set():
                self._asked.clear()
                self._beat()
        finally:
            self._ticking.release()
        self._chore("set the alarm", self._set_alarm)

    def _beat(self) -> None:
        self._last_tick, self._last_tick_monotonic = now_iso(), time.monotonic()
        c = self._container
        self._chore("recover tasks", c.jobs.sweep)
        self._chore("run the schedule", c.automation.tick)
        self._chore("publish what is due", c.publishing.tick)
        self._chore("send webhooks", c.notices.tick)
        self._chore("find trainings again", c.training.tick)

    def _set_alarm(self) -> None:
        """Wake again when the next thing is due, if that is before the next tick."""
        dues = [due for due in (self._container.automation.next_due(), self._container.publishing.next_due()) if due]
        if not dues or self._scheduler is None:
            return
        due = parse(min(dues))
        now = datetime.now(UTC)
        if now < due < now + timedelta(seconds=TICK_SECONDS):
            self._scheduler.add_job(
                self._tick, "date", run_date=due, id="alarm", replace_existing=True, misfire_grace_time=60
            )

    def _accounts(self) -> None:
        self._chore("look after the accounts", self._container.connections.tick)

    def _hourly(self) -> None:
        c = self._container
        days = c.settings.trash_days
        self._chore("empty the picture trash", lambda: c.gallery.purge_trash(days))
        self._chore("empty the character trash", lambda: c.characters.purge_trash(days))
        self._chore("empty the dataset trash", lambda: c.datasets.purge_trash(days))
        self._chore("clear old uploads", c.uploads.expire)
        self._chore("forget what batches could undo", lambda: c.image_batches.purge(days))
        self._chore("forget old answers", lambda: c.idempotency.purge(ago_iso(86_400)))
        self._chore("forget old tasks", lambda: c.tasks.delete_finished(ago_iso(KEEP_FINISHED_TASKS_DAYS * 86_400)))
        self._chore("clear temp files", lambda: remove_stale_temps(Path(c.settings.data_dir)))
        self._chore("clear half-written media", c.blobs.clean)
        self._chore("clear old run logs", self._clear_runs)
        self._chore("read missing links", c.publishing.chores)
        self._chore("clear prepared pictures", c.posts.clean_files)
        self._chore("clear the bucket", lambda: c.hosting.clean(days=7))
        self._chore("forget old runs", lambda: c.runs_store.delete_before(ago_iso(KEEP_RUNS_DAYS * 86_400)))
        self._chore("forget old notices", c.notices.housekeeping)
        self._chore("look after the model shelf", lambda: c.model_shelf.housekeeping(days))
        self._chore("empty the backup trash", lambda: c.backups.housekeeping(days))
        self._chore("clear old trainings", lambda: c.training.housekeeping(days))

    def _clear_runs(self) -> None:
        """Remove old run logs; a run folder that holds anything else (samples, checkpoints) stays."""
        runs = Path(self._container.settings.data_dir) / "runs"
        limit = time.time() - KEEP_FINISHED_TASKS_DAYS * 86_400
        for log in runs.glob("*/log.txt"):
            if log.stat().st_mtime < limit:
                log.unlink()
                with contextlib.suppress(OSError):
                    log.parent.rmdir()

    def _chore(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
            self._failures.pop(name, None)
        except Exception as exc:  # noqa: BLE001 - the clock goes on; the status shows it
            logger.exception("Chore failed: %s", name)
            self._failures[name] = str(exc)
