"""The embedded queue: threads of this process in lanes (gpu 1, net 4, publish 4, runs 4, cpu = cores).

The row in the task store is the truth. A worker claims it with a conditional update, a heartbeat
thread keeps it alive and carries cancel requests to it, and at start whatever a dead process left
"running" is recovered.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dalla import log
from dalla.errors import Cancelled, Conflict, DallaError, InvalidInput, internal_problem
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs.base import Handler, TaskStore
from dalla.records.job import Job, Progress
from dalla.times import ago_iso, now_iso

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
POLL_SECONDS = 2.0  # how soon work queued by another process is seen
SAVE_SECONDS = 0.5  # progress is written at most this often
CRASHES_BEFORE_QUARANTINE = 2
KEPT_PREVIEWS = 8  # of jobs that ended
#: The turn of work that had begun when the app stopped: before all that only waits, for it may still hold what they wait for.
BEGUN = -1_000_000
SILENT_SECONDS = 120.0  # an owner under another host name is dead when its heartbeat is older
#: Tells this run of the program from one before it that was replaced in place: exec keeps process id and start time.
_LIFE = secrets.token_hex(4)


@dataclass(frozen=True)
class Kind:
    """How a kind of job is run."""

    handler: Handler
    lane: str
    restartable: bool


class Eta:
    """Rate and time left, from the last samples of (done, time). Says nothing before the third sample."""

    WEIGHT = 2 / (20 + 1)  # exponential mean over about the last 20 steps

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reset(0, 0)

    def _reset(self, done: float, total: float) -> None:
        self._done, self._total = done, total
        self._at = self._clock()
        self._samples = 0
        self._per_unit: float | None = None

    def update(self, done: float, total: float) -> tuple[float | None, float | None]:
        """Return (units per second, seconds left); a new phase (other total, smaller done) starts afresh."""
        if total != self._total or done < self._done:
            self._reset(done, total)
            return None, None
        if done > self._done:
            now = self._clock()
            sample = (now - self._at) / (done - self._done)
            self._per_unit = (
                sample if self._per_unit is None else self._per_unit + self.WEIGHT * (sample - self._per_unit)
            )
            self._done, self._at, self._samples = done, now, self._samples + 1
        if self._samples < 3 or not self._per_unit:
            return None, None
        return 1 / self._per_unit, max(0.0, (total - done) * self._per_unit)


class LocalContext:
    """What the work of one job sees. Safe to use from several threads of the handler."""

    def __init__(self, queue: LocalQueue, job: Job) -> None:
        self.job = job
        self._queue = queue
        self._cancel = threading.Event()
        self._eta = Eta()
        self._lock = threading.Lock()
        self._saved_at = 0.0
        self._pending: Progress | None = None
        self._failed: list[dict[str, Any]] = []

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.check_cancelled()
        with self._lock:
            rate, eta = self._eta.update(done, total)
            self._pending = Progress(done=done, total=total, message=message, rate=rate, eta_seconds=eta)
            self._flush(force=False)

    def preview(self, image: bytes, mime: str) -> None:
        self._queue.keep_preview(self.job.id, image, mime)
        with self._lock:
            self._flush(force=False)

    def check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled("This was cancelled.")

    def item_failed(self, id: str, code: str, detail: str) -> None:
        with self._lock:
            self._failed.append({"id": id, "code": code, "detail": detail})

    def ask_to_stop(self) -> None:
        self._cancel.set()

    @property
    def failed_items(self) -> list[dict[str, Any]]:
        return list(self._failed)

    def _flush(self, *, force: bool) -> None:
        now = time.monotonic()
        if self._pending is None or not (force or now - self._saved_at >= SAVE_SECONDS):
            return
        self._saved_at = now
        self.job = self.job.with_(progress=self._pending)
        p = self._pending
        fields = {
            "done": p.done,
            "total": p.total,
            "message": p.message,
            "rate": p.rate,
            "eta_seconds": p.eta_seconds,
            "heartbeat_at": now_iso(),
        }
        try:
            if self._queue.tasks.save_progress(self.job.id, self._queue.owner, fields):
                self._cancel.set()
        except DallaError as exc:  # a full disk must not end the work; the next save may succeed
            logger.warning("Progress of %s could not be saved: %s", self.job.id, exc.detail)
        self._queue.announce(self.job)


class LocalQueue:
    """Run jobs in this process. `immediate=True` runs them inside `submit` (for tests of services)."""

    def __init__(
        self,
        tasks: TaskStore,
        events: EventBus,
        *,
        lanes: dict[str, int] | None = None,
        immediate: bool = False,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.tasks = tasks
        self.events = events
        self.lanes = lanes or {"gpu": 1, "net": 4, "publish": 4, "runs": 4, "cpu": max(1, os.cpu_count() or 1)}
        self.immediate = immediate
        self.owner = this_process()
        self._kinds: dict[str, Kind] = {}
        self._running: dict[str, LocalContext] = {}
        self._previews: dict[str, tuple[int, bytes, str]] = {}
        self._changed = threading.Condition()
        self._telling = threading.RLock()  # around a change and its event: what is told last is how it stands
        self._wakeups = {lane: threading.Condition() for lane in self.lanes}
        self._signals = dict.fromkeys(self.lanes, 0)
        self._threads: list[threading.Thread] = []
        self._unsaved: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._heartbeat = heartbeat
        self._seen: dict[str, str] = {}  # lane -> when one of its workers last looked for work, or beat while at work

    # ------------------------------------------------------------ for callers

    def register(self, kind: str, handler: Handler, *, lane: str, restartable: bool = False) -> None:
        if lane not in self.lanes:
            raise ValueError(f"no lane is called {lane}")
        self._kinds[kind] = Kind(handler, lane, restartable)

    def submit(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        title: str = "",
        character_id: str | None = None,
        parent_id: str | None = None,
    ) -> Job:
        how = self._kinds.get(kind)
        if how is None:
            raise InvalidInput(f"There is no work of the kind '{kind}'.")
        job = Job(
            id=new_id("job"),
            kind=kind,
            lane=how.lane,
            title=title or kind.replace("_", " "),
            character_id=character_id,
            parent_id=parent_id,
            payload=payload,
            created_at=now_iso(),
        )
        with self._telling:
            job = self.tasks.insert(job)
            self.announce(job)
        if self.immediate:
            claimed = self.tasks.claim(how.lane, self.owner, now_iso(), {kind})
            if claimed is not None:
                self._run(claimed)
            return self.get(job.id)
        self._wake(how.lane)
        return job

    def get(self, id: str) -> Job:
        return self.tasks.get(id)

    def cancel(self, id: str) -> Job:
        with self._telling:
            job = self.tasks.request_cancel(id)
            self.announce(job)
        context = self._running.get(id)
        if context is not None:
            context.ask_to_stop()
        return job

    def retry(self, id: str, *, title: str | None = None) -> Job:
        renamed = {} if title is None else {"title": title}
        with self._telling:
            job = self.tasks.transition(
                id,
                "queued",
                only_from={"failed", "cancelled", "interrupted"},
                error=None,
                result=None,
                crashes=0,
                quarantined=False,
                cancel_requested=False,
                finished_at=None,
                owner=None,
                done=0,
                total=0,
                message="",
                rate=None,
                eta_seconds=None,
                items_failed=[],
                **renamed,
            )
            self.announce(job)
        if self.immediate:
            claimed = self.tasks.claim(job.lane, self.owner, now_iso(), {job.kind})
            if claimed is not None:
                self._run(claimed)
            return self.get(id)
        self._wake(job.lane)
        return job

    def run_next(self, id: str) -> Job:
        job = self.tasks.move_to_front(id)
        self.announce(job)
        return job

    def dismiss(self, id: str) -> Job:
        job = self.tasks.release(id)
        self.announce(job)
        return job

    def wait(self, id: str, timeout: float) -> Job:
        deadline = time.monotonic() + timeout
        with self._changed:  # ends are announced under this lock, so none is missed between look and wait
            while True:
                job = self.tasks.get(id)
                left = deadline - time.monotonic()
                over = job.finished and id not in self._running  # ours is over when its end has been told, too
                if over or left <= 0 or self._stopping.is_set():
                    return job
                self._changed.wait(min(left, 0.5))

    def preview_of(self, id: str) -> tuple[int, bytes, str] | None:
        """Return (number, bytes, mime) of the newest preview of a job that runs, or of one of the last that did."""
        return self._previews.get(id)

    def public(self, job: Job) -> dict[str, Any]:
        """Return the task as the API answers it, with the address of its preview."""
        answer = job.public()
        preview = self._previews.get(job.id)
        if preview is not None and job.status in ("running", "paused"):
            answer["previewUrl"] = f"/api/tasks/{job.id}/preview?n={preview[0]}"
        return answer

    # ------------------------------------------------------------ life

    def start(self) -> None:
        self._recover()
        self._stopping.clear()
        for lane, count in self.lanes.items():
            self._seen[lane] = now_iso()
            for n in range(count):
                self._spawn(f"{lane}-{n}", partial(self._work, lane))
        self._spawn("heartbeat", self._beat)

    def stop(self, timeout: float = 10) -> None:
        self._stopping.set()
        for context in list(self._running.values()):
            context.ask_to_stop()
        for condition in self._wakeups.values():
            with condition:
                condition.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.clear()

    @property
    def alive(self) -> bool:
        """Whether every worker thread is running."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def workers(self) -> list[dict[str, Any]]:
        """Return for each lane its threads, which of them live, what they run, and when each was last seen at work."""
        names = {thread.name for thread in self._threads if thread.is_alive()}
        running = [context.job for context in list(self._running.values())]
        return [
            {
                "lane": lane,
                "workers": count,
                "alive": sum(f"jobs-{lane}-{n}" in names for n in range(count)),
                "running": [job.id for job in running if job.lane == lane],
                "heartbeatAt": self._seen.get(lane),
            }
            for lane, count in self.lanes.items()
        ]

    def running_ids(self) -> list[str]:
        return list(self._running)

    def sweep(self) -> int:
        """Recover jobs whose worker died since the start (called by the clock); return how many."""
        return self._recover()

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"jobs-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wake(self, lane: str) -> None:
        condition = self._wakeups[lane]
        with condition:
            self._signals[lane] += 1
            condition.notify()

    def _recover(self) -> int:
        count = 0
        for job in self.tasks.orphans(alive_owner=self._certainly_alive):
            if is_elsewhere(job.owner) and (job.heartbeat_at or "") > ago_iso(SILENT_SECONDS):
                continue
            replaced = _process(job.owner) == _process(self.owner)  # a restart that did not wait for it: no crash
            crashes = job.crashes + (not replaced)
            how = self._kinds.get(job.kind)
            quarantined = crashes >= CRASHES_BEFORE_QUARANTINE
            again = how is not None and how.restartable and not quarantined and not job.cancel_requested
            problem = Conflict(
                "This task ended the program that ran it twice, so it is not started again by itself."
                if quarantined
                else "The app stopped while this was running.",
                remedy="Look at the log of the task; 'Run again' starts it.",
            ).problem()
            problem["code"] = "quarantined" if quarantined else "interrupted"
            fields: dict[str, Any] = {"crashes": crashes, "quarantined": quarantined, "owner": None}
            fields |= {"turn": BEGUN} if again else {"error": problem, "finished_at": now_iso()}
            target = "queued" if again else "cancelled" if job.cancel_requested else "interrupted"
            try:
                self.announce(
                    self.tasks.transition(job.id, target, only_from={"running"}, owned_by=job.owner, **fields)
                )
            except Conflict:
                continue  # another process recovered it first
            logger.warning("Task %s (%s) was left running by a dead process: %s", job.id, job.kind, target)
            count += 1
        return count

    def _certainly_alive(self, owner: str) -> bool:
        # Ourselves without asking: a clock that is set changes the start times the system tells.
        return owner == self.owner or (not is_elsewhere(owner) and owner_is_alive(owner))

    # ------------------------------------------------------------ workers

    def _work(self, lane: str) -> None:
        kinds = {kind for kind, how in self._kinds.items() if how.lane == lane}
        condition = self._wakeups[lane]
        while not self._stopping.is_set():
            seen = self._signals[lane]
            self._seen[lane] = now_iso()
            try:
                with self._telling:  # what waits has been told of before it runs
                    job = self.tasks.claim(lane, self.owner, now_iso(), kinds) if kinds else None
            except Exception:  # noqa: BLE001 - a worker thread must survive a database hiccup
                logger.exception("The task table cannot be read; trying again")
                self._stopping.wait(1.0)
                continue
            if job is None:
                with condition:
                    if self._signals[lane] == seen:
                        condition.wait(POLL_SECONDS)
                continue
            self._run(job)

    def run_task(self, id: str) -> None:
        """Claim and run one job by id: the whole of what a second kind of queue has to call."""
        job = self.tasks.get(id)
        claimed = self.tasks.transition(
            id,
            "running",
            only_from={"queued"},
            owner=self.owner,
            started_at=now_iso(),
            heartbeat_at=now_iso(),
            attempt=job.attempt + 1,
        )
        self._run(claimed)

    def _run(self, job: Job) -> None:
        """Run one claimed job to its end. The one catch-all of the queue."""
        context = LocalContext(self, job)
        self._running[job.id] = context
        token = log.job_id.set(job.id)
        logger.info("%s started (attempt %d): %s", job.kind, job.attempt, job.title)
        self.announce(job)
        began = time.monotonic()
        status = "completed"
        fields: dict[str, Any] = {}
        try:
            result = self._kinds[job.kind].handler(context, job.payload)
            fields = {"result": result, "items_failed": context.failed_items}
        except Cancelled as exc:
            status, fields = self._stopped(context, exc)
        except DallaError as exc:
            status, fields = "failed", {"error": exc.problem(), "items_failed": context.failed_items}
            logger.warning("%s failed: %s", job.kind, exc.detail, exc_info=exc.__cause__)
        except Exception:
            status, fields = "failed", {"error": internal_problem() | {"requestId": job.id}}
            logger.exception("%s failed", job.kind)
        try:
            if context._pending is not None and status != "queued":
                p = context._pending
                fields |= {"done": p.done, "total": p.total, "message": p.message, "rate": p.rate, "eta_seconds": None}
            if status != "queued":
                fields["finished_at"] = now_iso()
            self._finish(job.id, status, fields)
            logger.info("%s %s after %.2f s", job.kind, status, time.monotonic() - began)
        finally:
            if self._running.get(job.id) is context:  # else a retry runs it again already, in another thread
                del self._running[job.id]
                self._forget_previews()
            with self._changed:
                self._changed.notify_all()
            log.job_id.reset(token)

    def _stopped(self, context: LocalContext, exc: Cancelled) -> tuple[str, dict[str, Any]]:
        """A job ended because it was asked to: by somebody, or because the app is closing."""
        try:
            wanted = self.tasks.get(context.job.id).cancel_requested
        except Exception:  # noqa: BLE001 - the database is out of reach: what ended the work must still be noted
            wanted = not self._stopping.is_set()
        if self._stopping.is_set() and not wanted:
            if self._kinds[context.job.kind].restartable:
                return "queued", {"owner": None, "turn": BEGUN}
            problem = Conflict("The app was closed while this was running.", remedy="'Run again' starts it.").problem()
            return "interrupted", {"error": problem | {"code": "interrupted"}}
        return "cancelled", {"error": exc.problem()}

    def _finish(self, id: str, status: str, fields: dict[str, Any]) -> None:
        """Save the end of a job; while the disk refuses, keep trying in the heartbeat thread."""
        try:
            with self._telling:
                self.announce(
                    self.tasks.transition(id, status, only_from={"running", "paused"}, owned_by=self.owner, **fields)
                )
        except Conflict:
            logger.warning("Task %s was no longer ours when it ended (%s)", id, status)
        except Exception:  # noqa: BLE001 - the outcome must not be lost
            logger.exception("The end of task %s could not be saved; trying again", id)
            self._unsaved.append(lambda: self._finish(id, status, fields))

    def _beat(self) -> None:
        while not self._stopping.wait(self._heartbeat):
            for _ in range(len(self._unsaved)):
                self._unsaved.popleft()()
            for id, context in list(self._running.items()):
                try:
                    if self.tasks.save_progress(id, self.owner, {"heartbeat_at": now_iso()}):
                        context.ask_to_stop()
                    self._seen[context.job.lane] = now_iso()
                except Exception as exc:  # noqa: BLE001 - the next beat may succeed
                    logger.warning("Heartbeat of %s failed: %s", id, exc)

    # ------------------------------------------------------------ telling

    def keep_preview(self, id: str, image: bytes, mime: str) -> None:
        number = self._previews.get(id, (0, b"", ""))[0] + 1
        self._previews[id] = (number, image, mime)

    def _forget_previews(self) -> None:
        """Drop the previews of jobs that ended, but for the last few: a page may be about to ask for one."""
        ended = [id for id in list(self._previews) if id not in self._running]
        for id in ended[:-KEPT_PREVIEWS]:
            self._previews.pop(id, None)

    def announce(self, job: Job) -> None:
        self.events.publish("task.updated", self.public(job))


# ---------------------------------------------------------------- owners


def is_elsewhere(owner: str | None) -> bool:
    """Whether the owner has another host name: another machine, or this one before it was renamed."""
    return owner is not None and owner.rpartition(":")[0].rpartition(":")[0] != socket.gethostname()


def _process(owner: str | None) -> str:
    return (owner or "").rpartition("-")[0]


def this_process() -> str:
    """Name this process so that another one, or the program it is replaced by, can tell whether it still lives."""
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}-{_LIFE}"


def owner_is_alive(owner: str) -> bool:
    """Whether the process named by `this_process` runs. An owner on another machine counts as alive."""
    import psutil

    host, _, pid = owner.rpartition(":")[0].rpartition(":")
    started, _, life = owner.rpartition(":")[2].partition("-")
    if host != socket.gethostname():
        return True
    if pid == str(os.getpid()):
        return life == _LIFE
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 0.5
    except (psutil.Error, ValueError):
        return False
