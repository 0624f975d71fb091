"""What every queue promises: progress, cancel, failure, recovery, quarantine. Runs on the real task table.

A second kind of queue is done when it stands in QUEUES and everything passes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dalla.errors import Cancelled, Conflict, InvalidInput, NotFound, Unavailable
from dalla.events import EventBus
from dalla.ids import new_id
from dalla.jobs import local
from dalla.jobs.local import Eta, LocalQueue, owner_is_alive, this_process
from dalla.records.job import Job
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
from dalla.times import ago_iso, now_iso


@pytest.fixture
def tasks(tmp_path):
    library = Library.open(tmp_path / "dalla.db")
    yield SqlTasks(library)
    library.close()


QUEUES = {"local": LocalQueue}


@pytest.fixture(params=QUEUES.values(), ids=QUEUES)
def make(request):
    return request.param


@pytest.fixture
def queue(tasks, make):
    queue = make(tasks, EventBus(), heartbeat=0.05)
    yield queue
    queue.stop()


def test_work_runs_and_leaves_its_result(queue):
    queue.register("double", lambda ctx, p: {"n": p["n"] * 2}, lane="cpu")
    queue.start()
    job = queue.wait(queue.submit("double", {"n": 21}).id, 10)
    assert (job.status, job.result, job.attempt) == ("completed", {"n": 42}, 1)
    assert job.started_at and job.finished_at and job.public()["progress"] == 1.0


def test_lanes_run_side_by_side_and_gpu_one_at_a_time(queue):
    running, most, gate = [], [], threading.Lock()
    both = threading.Event()

    def work(ctx, p):
        with gate:
            running.append(p["n"])
            most.append(len(running))
        if p.get("wait"):
            assert both.wait(10)
        with gate:
            running.remove(p["n"])

    queue.register("draw", work, lane="gpu")
    queue.register("talk", lambda ctx, p: both.set(), lane="net")
    queue.start()
    jobs = [queue.submit("draw", {"n": 0, "wait": True}), queue.submit("draw", {"n": 1}), queue.submit("talk", {})]
    assert [queue.wait(job.id, 10).status for job in jobs] == ["completed"] * 3
    assert max(most) == 1


def test_failures_keep_the_problem_and_never_claim_progress(queue):
    def known(ctx, p):
        ctx.progress(1, 4, "one")
        raise Unavailable("ComfyUI is off.", remedy="Start it.")

    def unforeseen(ctx, p):
        raise RuntimeError("secret detail")

    queue.register("known", known, lane="cpu")
    queue.register("unforeseen", unforeseen, lane="cpu")
    queue.start()
    job = queue.wait(queue.submit("known", {}).id, 10)
    assert job.status == "failed" and job.error["code"] == "unavailable" and job.error["remedy"] == "Start it."
    assert job.public()["progress"] == 0.25
    other = queue.wait(queue.submit("unforeseen", {}).id, 10)
    assert other.error["code"] == "internal" and "secret detail" not in str(other.error)


def test_cancel_reaches_running_and_queued_work(queue):
    begun, over = threading.Event(), threading.Event()

    def endless(ctx, p):
        begun.set()
        try:
            while True:
                ctx.check_cancelled()
                threading.Event().wait(0.005)
        finally:
            over.set()

    queue.register("endless", endless, lane="gpu")
    queue.start()
    first, second = queue.submit("endless", {}), queue.submit("endless", {})
    assert begun.wait(10)
    assert queue.cancel(second.id).status == "cancelled"
    queue.cancel(first.id)
    assert queue.wait(first.id, 10).status == "cancelled" and over.is_set()
    with pytest.raises(Conflict):
        queue.cancel(first.id)


def test_cancel_from_another_process_arrives_by_heartbeat(queue, tasks):
    begun = threading.Event()

    def endless(ctx, p):
        begun.set()
        while True:
            ctx.check_cancelled()
            threading.Event().wait(0.005)

    queue.register("endless", endless, lane="cpu")
    queue.start()
    job = queue.submit("endless", {})
    assert begun.wait(10)
    tasks.request_cancel(job.id)  # as another process would: only the row
    assert queue.wait(job.id, 10).status == "cancelled"


def test_retry_runs_again(queue):
    answers = iter([Unavailable("off"), None])

    def work(ctx, p):
        error = next(answers)
        if error:
            raise error
        return {"ok": True}

    queue.register("flaky", work, lane="cpu")
    queue.start()
    job = queue.wait(queue.submit("flaky", {}).id, 10)
    assert job.status == "failed"
    queue.retry(job.id)
    again = queue.wait(job.id, 10)
    assert (again.status, again.attempt, again.error) == ("completed", 2, None)
    with pytest.raises(Conflict):
        queue.retry(job.id)


def test_a_waiting_job_runs_next(queue):
    order, free, begun = [], threading.Event(), threading.Event()

    def work(ctx, p):
        order.append(p["n"])
        begun.set()
        assert free.wait(10)

    queue.register("draw", work, lane="gpu")
    queue.start()
    first = queue.submit("draw", {"n": 0})
    assert begun.wait(10)
    waiting = [queue.submit("draw", {"n": n}) for n in (1, 2, 3)]
    told = queue.events.last_id
    moved = queue.run_next(waiting[2].id)
    assert moved.status == "queued" and moved.turn < 0
    heard, _ = queue.events.since(told, 10)
    assert ("task.updated", moved.id, moved.turn) in [(e.type, e.data["taskId"], e.data["turn"]) for e in heard]
    with pytest.raises(Conflict):
        queue.run_next(first.id)  # it runs already
    with pytest.raises(NotFound):
        queue.run_next("job_no")
    free.set()
    assert [queue.wait(job.id, 10).status for job in waiting] == ["completed"] * 3
    assert order == [0, 3, 1, 2]


def test_unknown_kinds_and_ids(queue):
    with pytest.raises(InvalidInput):
        queue.submit("juggle", {})
    with pytest.raises(NotFound):
        queue.get("job_1")


def test_items_that_failed_are_kept(queue):
    queue.register("batch", lambda ctx, p: ctx.item_failed("img_1", "broken", "It is damaged."), lane="cpu")
    queue.start()
    job = queue.wait(queue.submit("batch", {}).id, 10)
    assert job.status == "completed" and job.items_failed == [
        {"id": "img_1", "code": "broken", "detail": "It is damaged."}
    ]


def test_stopping_the_app_queues_restartable_work_again(tasks, make):
    begun = threading.Event()

    def endless(ctx, p):
        begun.set()
        while True:
            ctx.check_cancelled()
            threading.Event().wait(0.005)

    for restartable, expected in ((True, "queued"), (False, "interrupted")):
        begun.clear()
        queue = make(tasks, EventBus())
        queue.register("endless", endless, lane="cpu", restartable=restartable)
        queue.start()
        job = queue.submit("endless", {})
        assert begun.wait(10)
        queue.stop()
        assert tasks.get(job.id).status == expected
        if expected == "queued":
            tasks.request_cancel(job.id)


def test_work_that_had_begun_comes_before_what_was_moved_to_the_front(tasks, make):
    begun, order = threading.Event(), []

    def endless(ctx, p):
        begun.set()
        while not p["brief"]:
            ctx.check_cancelled()
            threading.Event().wait(0.005)

    queue = make(tasks, EventBus())
    queue.register("draw", endless, lane="gpu", restartable=True)
    queue.start()
    first = queue.submit("draw", {"brief": False})
    assert begun.wait(10)
    second = queue.submit("draw", {"brief": True})
    queue.run_next(second.id)
    queue.stop()
    assert tasks.waiting("gpu") == [first.id, second.id]
    tasks.claim("gpu", dead_owner(), now_iso())  # the next process takes it up again, and dies
    queue = make(tasks, EventBus())
    queue.register("draw", lambda ctx, p: order.append(ctx.job.id), lane="gpu", restartable=True)
    queue.start()
    assert [queue.wait(job.id, 10).status for job in (first, second)] == ["completed"] * 2
    assert order == [first.id, second.id]


def dead_owner() -> str:
    owner = this_process().rsplit(":", 1)[0] + ":1.00"
    assert not owner_is_alive(owner)
    return owner


def dead_job(tasks, **fields) -> Job:
    """A job left running by a process that does not exist any more."""
    job = tasks.insert(Job(id=new_id("job"), kind="draw", lane="gpu", created_at=now_iso(), **fields))
    tasks.claim("gpu", dead_owner(), now_iso())
    return job


def test_work_of_a_dead_process_is_recovered(tasks, make):
    done = []
    queue = make(tasks, EventBus())
    queue.register("draw", lambda ctx, p: done.append(1), lane="gpu", restartable=True)
    job = dead_job(tasks)
    queue.start()
    assert queue.wait(job.id, 10).status == "completed" and queue.get(job.id).crashes == 1
    queue.stop()


def test_what_killed_its_worker_twice_is_quarantined(tasks, make):
    queue = make(tasks, EventBus())
    queue.register("draw", lambda ctx, p: None, lane="gpu", restartable=True)
    job = dead_job(tasks, crashes=1)
    queue.start()
    found = queue.get(job.id)
    assert (found.status, found.quarantined, found.error["code"]) == ("interrupted", True, "quarantined")
    queue.retry(job.id)
    assert queue.wait(job.id, 10).status == "completed"
    queue.stop()


def test_unrestartable_work_of_a_dead_process_is_interrupted(tasks, make):
    queue = make(tasks, EventBus())
    queue.register("draw", lambda ctx, p: None, lane="gpu")
    job = dead_job(tasks)
    queue.start()
    assert queue.get(job.id).status == "interrupted" and queue.get(job.id).error["code"] == "interrupted"
    queue.stop()


def test_kill_9_in_the_middle_leaves_nothing_running_for_ever(tmp_path):
    """A real process is killed while it works; the next one finds and finishes the job."""
    program = textwrap.dedent("""
        import sys, threading
        from dalla.events import EventBus
        from dalla.jobs.local import LocalQueue
        from dalla.stores.library import Library
        from dalla.stores.tasks import SqlTasks
        queue = LocalQueue(SqlTasks(Library.open(sys.argv[1])), EventBus())
        def work(ctx, p):
            print(ctx.job.id, flush=True)
            threading.Event().wait()
        queue.register("draw", work, lane="gpu", restartable=True)
        queue.start()
        queue.submit("draw", {})
        threading.Event().wait()
    """)
    root = Path(__file__).parent.parent.parent
    database = tmp_path / "dalla.db"
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(database)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        id = child.stdout.readline().decode().strip()
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    finally:
        child.stdout.close()
        child.kill()
    library = Library.open(database)
    queue = LocalQueue(SqlTasks(library), EventBus())
    assert queue.get(id).status == "running"
    queue.register("draw", lambda ctx, p: {"ok": True}, lane="gpu", restartable=True)
    queue.start()
    assert queue.wait(id, 10).result == {"ok": True}
    queue.stop()
    library.close()


@pytest.mark.skipif(os.name == "nt", reason="exec makes a new process there")
def test_a_program_that_replaces_itself_takes_up_what_it_had_not_waited_for(tmp_path):
    """Restart keeps the process id and its start: the work of before is nevertheless nobody's any more."""
    program = textwrap.dedent("""
        import os, sys, threading
        from dalla.events import EventBus
        from dalla.jobs.local import LocalQueue, this_process
        from dalla.stores.library import Library
        from dalla.stores.tasks import SqlTasks
        database, *before = sys.argv[1:]
        queue = LocalQueue(SqlTasks(Library.open(database)), EventBus())
        begun = threading.Event()
        def work(ctx, p):
            begun.set()
            return {"ok": True} if before else threading.Event().wait()
        queue.register("draw", work, lane="gpu", restartable=True)
        queue.start()
        if before:
            job = queue.wait(before[0], 60)
            same = this_process().split("-")[:-1] == before[1].split("-")[:-1]
            print(job.status, job.attempt, job.crashes, same, flush=True)
        else:
            id = queue.submit("draw", {}).id
            assert begun.wait(60)
            queue.stop(timeout=0)
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], id, this_process()])
    """)
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "dalla.db")],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )
    assert done.stdout.decode().split() == ["completed", "2", "0", "True"]


def test_two_queues_of_one_program_leave_each_others_work_alone(tasks, make):
    go, begun = threading.Event(), threading.Event()

    def work(ctx, p):
        begun.set()
        return {"ok": go.wait(20)}

    queues = [make(tasks, EventBus()) for _ in range(2)]
    for queue in queues:
        queue.register("draw", work, lane="gpu", restartable=True)
    queues[0].start()
    job = queues[0].submit("draw", {})
    assert begun.wait(10)
    queues[1].start()
    assert queues[1].sweep() == 0 and tasks.get(job.id).status == "running"
    go.set()
    assert queues[0].wait(job.id, 10).status == "completed" and tasks.get(job.id).attempt == 1
    for queue in queues:
        queue.stop()


def test_the_end_is_saved_later_when_the_disk_refuses_now(queue, tasks, monkeypatch):
    from dalla.errors import StorageError

    real, refusals = tasks.transition, [StorageError("full"), StorageError("full")]

    def transition(id, to, **more):
        if to == "completed" and refusals:
            raise refusals.pop()
        return real(id, to, **more)

    monkeypatch.setattr(tasks, "transition", transition)
    queue.register("work", lambda ctx, p: {"ok": True}, lane="cpu")
    queue.start()
    assert queue.wait(queue.submit("work", {}).id, 10).status == "completed" and not refusals


def test_eta_is_silent_until_the_third_sample_and_then_right():
    now = [0.0]
    eta = Eta(lambda: now[0])
    said = []
    for step in range(6):
        said.append(eta.update(step, 10)[1])
        now[0] += 2
    assert said[:3] == [None, None, None] and said[5] == pytest.approx(10)
    assert eta.update(1, 5) == (None, None)  # a new phase starts afresh


def test_events_and_previews(queue):
    seen = threading.Event()

    def work(ctx, p):
        ctx.preview(b"jpeg", "image/jpeg")
        ctx.progress(1, 2, "half")
        assert queue.public(ctx.job)["previewUrl"].endswith("n=1") and queue.preview_of(ctx.job.id)[1] == b"jpeg"
        seen.set()

    queue.register("draw", work, lane="gpu")
    queue.start()
    job = queue.wait(queue.submit("draw", {}).id, 10)
    assert job.status == "completed" and seen.is_set() and "previewUrl" not in queue.public(job)
    events, complete = queue.events.since(0, 0)
    assert complete and [e.data["status"] for e in events][0] == "queued" and events[-1].data["status"] == "completed"


def test_the_last_previews_can_be_read_a_while_after_the_end(queue):
    """A page that was told of one asks for it a moment later: it must not find that it is gone."""

    def work(ctx, p):
        ctx.preview(p["name"].encode(), "image/jpeg")
        if p["name"] == "11" and ctx.job.attempt == 1:
            raise Conflict("not yet")

    queue.register("draw", work, lane="gpu")
    queue.start()
    ids = [queue.submit("draw", {"name": str(n)}).id for n in range(12)]
    assert [queue.wait(id, 20).status for id in ids] == ["completed"] * 11 + ["failed"]
    assert queue.preview_of(ids[-1]) == (1, b"11", "image/jpeg")
    kept = [id for id in ids if queue.preview_of(id)]
    assert kept == ids[-len(kept) :] and 1 < len(kept) < len(ids)
    queue.retry(ids[-1])
    assert queue.wait(ids[-1], 20).attempt == 2 and queue.preview_of(ids[-1])[0] == 2  # another number: fetched anew


def test_who_waits_comes_back_when_the_end_was_told(queue, tasks, monkeypatch):
    """The row says so a moment before: who looks in that moment goes on waiting."""
    noted, looked_twice, looks = threading.Event(), threading.Event(), []
    announce, get = queue.announce, tasks.get

    def late(job):
        if job.finished:
            noted.set()
            assert looked_twice.wait(20)
        announce(job)

    def look(id):
        looks.append(id)
        if len(looks) == 2:
            looked_twice.set()
        return get(id)

    queue.register("draw", lambda ctx, p: ctx.preview(b"jpeg", "image/jpeg"), lane="gpu")
    monkeypatch.setattr(queue, "announce", late)
    queue.start()
    job = queue.submit("draw", {})
    assert noted.wait(10) and tasks.get(job.id).status == "completed"
    monkeypatch.setattr(tasks, "get", look)
    try:
        assert queue.wait(job.id, 20).status == "completed"
        assert queue.events.since(0, 0)[0][-1].data["status"] == "completed"
        assert job.id not in queue.running_ids()
    finally:
        looked_twice.set()


def test_events_come_in_the_order_of_what_happened(queue, tasks, monkeypatch):
    insert, request_cancel = tasks.insert, tasks.request_cancel
    begun = threading.Event()

    def work(ctx, p):
        begun.set()
        while True:
            ctx.check_cancelled()
            threading.Event().wait(0.005)

    def inserted(job):
        job = insert(job)
        queue._wake("gpu")
        begun.wait(0.3)  # time enough for who would begin before it is told
        return job

    def asked(id):
        job = request_cancel(id)
        for context in queue._running.values():
            context.ask_to_stop()  # as a heartbeat of this moment would
        threading.Event().wait(0.3)
        return job

    monkeypatch.setattr(tasks, "insert", inserted)
    monkeypatch.setattr(tasks, "request_cancel", asked)
    queue.register("draw", work, lane="gpu")
    queue.start()
    job = queue.submit("draw", {})
    assert begun.wait(10)
    queue.cancel(job.id)
    queue.wait(job.id, 10)
    told = [event.data for event in queue.events.since(0, 0)[0]]
    assert [(task["status"], task["cancelRequested"]) for task in told] == [
        ("queued", False), ("running", False), ("running", True), ("cancelled", True),
    ]  # fmt: skip


def test_a_renamed_computer_recovers_what_its_old_name_left_running(tasks, make):
    owner = "another-name:" + this_process().split(":", 1)[1]
    for moment, status in ((now_iso(), "running"), (ago_iso(3600), "interrupted")):
        job = tasks.insert(Job(id=new_id("job"), kind="work", lane="gpu", created_at=now_iso()))
        tasks.claim("gpu", owner, moment)
        make(tasks, EventBus()).sweep()
        assert tasks.get(job.id).status == status


def test_setting_the_clock_does_not_end_running_work(queue, tasks, monkeypatch):
    go = threading.Event()
    queue.register("work", lambda ctx, p: {"ok": go.wait(10)}, lane="gpu", restartable=True)
    queue.start()
    job = queue.submit("work", {})
    while tasks.get(job.id).status != "running":
        threading.Event().wait(0.005)
    monkeypatch.setattr(local, "owner_is_alive", lambda owner: False)  # the system tells other start times now
    assert queue.sweep() == 0
    go.set()
    assert queue.wait(job.id, 10).status == "completed"


def test_a_cancel_while_the_database_fails_neither_kills_the_worker_nor_is_lost(queue, tasks, monkeypatch):
    broken = threading.Event()

    def work(ctx, p):
        broken.set()
        raise Cancelled("stop")

    get = tasks.get

    def failing(id):
        if broken.is_set() and threading.current_thread().name.startswith("jobs-gpu"):
            raise Unavailable("The disk is away.")
        return get(id)

    monkeypatch.setattr(tasks, "get", failing)
    queue.register("work", work, lane="gpu")
    queue.start()
    assert queue.wait(queue.submit("work", {}).id, 10).status == "cancelled"
    assert queue.alive and not queue.running_ids()


def test_workers_tell_what_each_lane_runs_and_when_it_was_seen(queue):
    begun, end = threading.Event(), threading.Event()

    def work(context, payload):
        begun.set()
        end.wait(20)

    queue.register("slow", work, lane="gpu")
    assert {row["alive"] for row in queue.workers()} == {0}
    queue.start()
    job = queue.submit("slow", {})
    assert begun.wait(10)
    lanes = {row["lane"]: row for row in queue.workers()}
    assert lanes["gpu"]["running"] == [job.id] and lanes["net"]["running"] == []
    assert all(row["alive"] == row["workers"] > 0 for row in lanes.values())
    seen = lanes["gpu"]["heartbeatAt"]
    for _ in range(3000):
        if seen and queue.workers()[0]["heartbeatAt"] > seen:  # it beats while the work goes on
            break
        time.sleep(0.01)
    else:
        pytest.fail("the lane's heartbeat stood still")
    end.set()
    queue.wait(job.id, 10)


def test_a_dismissed_job_is_announced_and_not_run(queue, tasks):
    ran = []
    queue.register("never", lambda context, payload: ran.append(1), lane="cpu")
    job = queue.submit("never", {})
    tasks.transition(job.id, "running", owner="elsewhere:1:1.0", heartbeat_at=ago_iso(900))
    tasks.transition(job.id, "interrupted", quarantined=True, crashes=2)
    last = queue.events.last_id
    assert queue.dismiss(job.id).quarantined is False
    told, _ = queue.events.since(last, 0)
    assert [(event.type, event.data["quarantined"]) for event in told] == [("task.updated", False)]
    queue.start()
    queue.stop()
    assert ran == [] and tasks.get(job.id).status == "interrupted"
