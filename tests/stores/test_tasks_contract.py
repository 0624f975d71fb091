"""What every TaskStore does."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.job import TRANSITIONS, Job, Progress

NOW = "2026-05-01T00:00:00.000Z"
ROOT = Path(__file__).parents[2]
CHILD = """
import sys
from dalla.stores.library import Library
from dalla.stores.tasks import SqlTasks
tasks = SqlTasks(Library.open(sys.argv[1]))
sys.stdin.readline()
while job := tasks.claim("cpu", sys.argv[2], "2026-05-01T00:00:00.000Z"):
    print(job.id, flush=True)
"""


def job(number: int, **values) -> Job:
    defaults = {
        "id": f"job_{number}",
        "kind": "generate",
        "lane": "gpu",
        "created_at": f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000Z",
    }
    return Job(**{**defaults, **values})


def test_a_job_comes_back_whole(tasks):
    whole = job(
        1,
        title="Draw",
        character_id="char_1",
        progress=Progress(done=3, total=10, message="step 3", eta_seconds=1.5, rate=2.0),
        payload={"prompt": "forest", "nested": {"seed": 1}},
        result={"mediaIds": ["m"]},
        error={"code": "x"},
        items_failed=[{"id": "a", "code": "b"}],
        attempt=2,
        crashes=1,
        quarantined=True,
        cancel_requested=True,
        owner="host:1:2",
        parent_id="job_0",
        started_at=NOW,
        finished_at=NOW,
        heartbeat_at=NOW,
        status="failed",
    )
    assert tasks.insert(whole) == whole
    assert tasks.get("job_1").to_json() == whole.to_json()


def test_insert_fills_the_time_and_refuses_a_taken_id(tasks):
    assert tasks.insert(Job(id="job_x", kind="k", lane="cpu")).created_at.endswith("Z")
    with pytest.raises(Conflict, match="job_x"):
        tasks.insert(Job(id="job_x", kind="k", lane="cpu"))
    with pytest.raises(NotFound, match="task"):
        tasks.get("no")


def test_claim_takes_the_oldest_of_its_lane(tasks):
    for number in (3, 1, 2):
        tasks.insert(job(number))
    tasks.insert(job(0, lane="net"))
    claimed = tasks.claim("gpu", "me", NOW)
    assert (claimed.id, claimed.status, claimed.owner, claimed.attempt) == ("job_1", "running", "me", 1)
    assert claimed.started_at == claimed.heartbeat_at == NOW
    assert tasks.get("job_1") == claimed
    assert [tasks.claim("gpu", "me", NOW).id for _ in range(2)] == ["job_2", "job_3"]
    assert tasks.claim("gpu", "me", NOW) is None
    assert tasks.claim("cpu", "me", NOW) is None


def test_claim_passes_over_quarantined_jobs_and_other_kinds(tasks):
    tasks.insert(job(1, quarantined=True))
    tasks.insert(job(2, kind="train"))
    tasks.insert(job(3))
    assert tasks.claim("gpu", "me", NOW, kinds=set()) is None
    assert tasks.claim("gpu", "me", NOW, kinds={"generate", "video"}).id == "job_3"
    assert tasks.claim("gpu", "me", NOW, kinds={"generate"}) is None
    assert tasks.claim("gpu", "me", NOW).id == "job_2"
    assert tasks.claim("gpu", "me", NOW) is None


def test_a_waiting_job_is_moved_to_the_front_of_its_lane(tasks):
    for number in (1, 2, 3, 4):
        tasks.insert(job(number))
    tasks.insert(job(5, quarantined=True))
    tasks.insert(job(6, lane="net"))
    assert tasks.waiting("gpu") == ["job_1", "job_2", "job_3", "job_4"] and tasks.waiting("cpu") == []
    moved = tasks.move_to_front("job_3")
    assert moved.turn < 0 and tasks.get("job_3") == moved
    tasks.move_to_front("job_4")  # whoever is moved last goes first
    assert tasks.waiting("gpu") == ["job_4", "job_3", "job_1", "job_2"] and tasks.waiting("net") == ["job_6"]
    assert [tasks.claim("gpu", "me", NOW).id for _ in range(4)] == ["job_4", "job_3", "job_1", "job_2"]
    again = tasks.transition("job_4", "queued")
    assert again.turn == 0  # its turn has been; it waits like the others


def test_only_what_waits_is_moved(tasks):
    tasks.insert(job(1))
    tasks.claim("gpu", "me", NOW)
    with pytest.raises(Conflict, match="running") as caught:
        tasks.move_to_front("job_1")
    assert caught.value.remedy
    with pytest.raises(NotFound):
        tasks.move_to_front("no")


def test_threads_never_claim_the_same_job(tasks):
    for number in range(60):
        tasks.insert(job(number))
    claimed: list[str] = []

    def work(owner: str) -> None:
        while found := tasks.claim("gpu", owner, NOW):
            claimed.append(found.id)

    threads = [threading.Thread(target=work, args=(f"worker{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(f"job_{n}" for n in range(60))
    assert all(tasks.get(id).attempt == 1 for id in claimed)


def test_processes_never_claim_the_same_job(tasks, library_url):
    for number in range(80):
        tasks.insert(job(number, lane="cpu"))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, library_url, f"worker{n}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    outputs = []
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate(timeout=60)[0].split())
        assert child.returncode == 0
    claimed = [id for output in outputs for id in output]
    assert sorted(claimed) == sorted(f"job_{n}" for n in range(80))
    for number, output in enumerate(outputs):
        assert all(tasks.get(id).owner == f"worker{number}" for id in output)


@pytest.mark.parametrize("start", sorted(TRANSITIONS))
@pytest.mark.parametrize("to", sorted(TRANSITIONS))
def test_only_legal_transitions_happen(tasks, start, to):
    tasks.insert(job(1, status=start))
    if to in TRANSITIONS[start]:
        assert tasks.transition("job_1", to).status == to
        assert tasks.get("job_1").status == to
    else:
        with pytest.raises(Conflict, match=start):
            tasks.transition("job_1", to)
        assert tasks.get("job_1").status == start


def test_transition_sets_fields_and_honours_its_conditions(tasks):
    tasks.insert(job(1))
    tasks.claim("gpu", "me", NOW)
    with pytest.raises(Conflict):
        tasks.transition("job_1", "completed", owned_by="other")
    with pytest.raises(Conflict):
        tasks.transition("job_1", "interrupted", only_from={"paused"})
    done = tasks.transition(
        "job_1",
        "completed",
        only_from={"running"},
        owned_by="me",
        result={"a": 1},
        finished_at=NOW,
        progress=Progress(done=5, total=5),
    )
    assert (done.result, done.finished_at, done.progress.done) == ({"a": 1}, NOW, 5)
    with pytest.raises(NotFound):
        tasks.transition("no", "running")
    for name in ("status", "id", "colour"):
        with pytest.raises((TypeError, Conflict)):
            tasks.transition("job_1", "failed", **{name: "x"})
    assert tasks.get("job_1") == done


def test_a_job_queued_again_starts_clean(tasks):
    tasks.insert(job(1))
    tasks.claim("gpu", "me", NOW)
    tasks.request_cancel("job_1")
    tasks.transition("job_1", "interrupted", finished_at=NOW, crashes=1)
    again = tasks.transition("job_1", "queued", quarantined=True)
    assert (again.owner, again.finished_at, again.cancel_requested) == (None, None, False)
    assert (again.quarantined, again.crashes, again.attempt) == (True, 1, 1)
    assert tasks.claim("gpu", "me", NOW) is None


def test_only_one_of_many_finishes_a_job(tasks):
    tasks.insert(job(1))
    tasks.claim("gpu", "me", NOW)
    outcomes: list[str] = []

    def finish(to: str) -> None:
        try:
            tasks.transition("job_1", to)
            outcomes.append(to)
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=finish, args=(to,)) for to in ("completed", "cancelled", "interrupted") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome != "conflict"]
    assert len(outcomes) == 12
    assert len(winners) == 1
    assert tasks.get("job_1").status == winners[0]


def test_progress_is_saved_for_the_owner_only(tasks):
    tasks.insert(job(1))
    tasks.claim("gpu", "me", NOW)
    fields = {"done": 4, "total": 8, "message": "half", "eta_seconds": 2.5, "rate": 1.6, "heartbeat_at": "later"}
    assert tasks.save_progress("job_1", "me", fields) is False
    saved = tasks.get("job_1")
    assert saved.progress == Progress(done=4, total=8, message="half", eta_seconds=2.5, rate=1.6)
    assert saved.heartbeat_at == "later"
    assert tasks.save_progress("job_1", "other", {"done": 7}) is True
    assert tasks.get("job_1") == saved
    tasks.request_cancel("job_1")
    assert tasks.save_progress("job_1", "me", {"items_failed": [{"id": "a"}]}) is True
    assert tasks.get("job_1").items_failed == [{"id": "a"}]
    tasks.transition("job_1", "cancelled")
    assert tasks.save_progress("job_1", "me", {"done": 8}) is True
    assert tasks.get("job_1").progress.done == 4
    with pytest.raises(TypeError):
        tasks.save_progress("job_1", "me", {"status": "completed"})


def test_cancel(tasks):
    for number, status in enumerate(["queued", "paused", "running", "completed"]):
        tasks.insert(job(number, status=status))
    for id in ("job_0", "job_1"):
        cancelled = tasks.request_cancel(id)
        assert (cancelled.status, cancelled.cancel_requested) == ("cancelled", True)
        assert cancelled.finished_at
    running = tasks.request_cancel("job_2")
    assert (running.status, running.cancel_requested, running.finished_at) == ("running", True, None)
    assert tasks.request_cancel("job_2").cancel_requested
    for id in ("job_0", "job_3"):
        with pytest.raises(Conflict, match="finished"):
            tasks.request_cancel(id)
    with pytest.raises(NotFound):
        tasks.request_cancel("no")


def test_orphans_are_running_jobs_of_dead_owners(tasks):
    for number, owner in enumerate(["dead", "alive", "dead", None]):
        tasks.insert(job(number, status="running", owner=owner))
    tasks.insert(job(9, status="failed", owner="dead"))
    orphans = tasks.orphans(alive_owner=lambda owner: owner == "alive")
    assert [o.id for o in orphans] == ["job_0", "job_2", "job_3"]


def test_pages_newest_first(tasks):
    for number in range(7):
        tasks.insert(
            job(number, status="failed" if number % 2 else "queued", kind="train" if number == 3 else "generate")
        )
    seen, cursor = [], None
    for size in (3, 3, 1):
        jobs, cursor, total = tasks.page(limit=3, cursor=cursor)
        assert (len(jobs), total) == (size, 7)
        seen += [j.id for j in jobs]
    assert cursor is None
    assert seen == [f"job_{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    assert [j.id for j in tasks.page(statuses=["failed"])[0]] == ["job_5", "job_3", "job_1"]
    assert [j.id for j in tasks.page(statuses=["failed", "queued"], kind="train")[0]] == ["job_3"]
    assert tasks.page(kind="no") == ([], None, 0)
    with pytest.raises(InvalidInput) as caught:
        tasks.page(cursor="nonsense")
    assert caught.value.errors[0]["field"] == "cursor"


def test_counts_and_forgetting(tasks):
    tasks.insert(job(1, status="completed", finished_at="2026-01-01T00:00:00.000Z"))
    tasks.insert(job(2, status="failed", finished_at="2026-03-01T00:00:00.000Z"))
    tasks.insert(job(3))
    counts = tasks.counts()
    assert counts == {s: {"completed": 1, "failed": 1, "queued": 1}.get(s, 0) for s in TRANSITIONS}
    assert tasks.delete_finished("2026-02-01T00:00:00.000Z") == 1
    assert {j.id for j in tasks.page()[0]} == {"job_2", "job_3"}


def test_depth_by_lane_and_counts_by_kind(tasks):
    for n, (lane, status) in enumerate(
        [("gpu", "queued"), ("gpu", "queued"), ("gpu", "running"), ("net", "completed")]
    ):
        job = tasks.insert(Job(id=f"job_{n}", kind="draw" if lane == "gpu" else "send", lane=lane))
        if status != "queued":
            tasks.transition(job.id, "running", owner="me")
        if status == "completed":
            tasks.transition(job.id, "completed")
    assert tasks.depth() == {"gpu": {"paused": 0, "queued": 2, "running": 1}}
    assert sorted(tasks.kinds()) == [("draw", "queued", 2), ("draw", "running", 1), ("send", "completed", 1)]


def test_release_takes_exactly_one_finished_job_out_of_quarantine(tasks):
    for id, quarantined in (("job_a", True), ("job_b", False)):
        tasks.insert(Job(id=id, kind="draw", lane="gpu"))
        tasks.transition(id, "running", owner="me")
        tasks.transition(id, "interrupted", quarantined=quarantined, crashes=2)
    assert [job.id for job in tasks.page(quarantined=True)[0]] == ["job_a"]
    assert [job.id for job in tasks.page(quarantined=False)[0]] == ["job_b"]
    released = tasks.release("job_a")
    assert (released.quarantined, released.status, released.crashes) == (False, "interrupted", 2)
    for id in ("job_a", "job_b"):
        with pytest.raises(Conflict):
            tasks.release(id)
    with pytest.raises(NotFound):
        tasks.release("job_none")
    assert tasks.page(quarantined=True)[2] == 0
