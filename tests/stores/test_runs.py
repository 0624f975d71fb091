"""What the RunStore does: runs, states, and that a slot fires once whoever is first."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.run import Run, Step, TaskState
from dalla.stores.library import Library
from dalla.stores.runs import SqlRuns

T0 = "2026-05-01T18:00:00.000Z"
T1 = "2026-05-02T18:00:00.000Z"


@pytest.fixture
def runs(library: Library) -> SqlRuns:
    return SqlRuns(library)


def run(number: int, **values) -> Run:
    defaults = {
        "id": f"run_{number}",
        "task_id": "task_1",
        "slot": f"2026-05-01T00:{number:02}:00.000Z",
        "created_at": f"2026-05-01T00:{number:02}:00.000Z",
    }
    return Run(**{**defaults, **values})


def state(task_id="task_1", **values) -> TaskState:
    return TaskState(**{"task_id": task_id, "fingerprint": "f", "next_due": T0, "updated_at": T0, **values})


def test_a_run_comes_back_whole(runs):
    whole = run(
        1,
        character_id="char_1",
        type="post_existing",
        trigger="catch_up",
        status="failed",
        dry_run=True,
        late_seconds=12.5,
        steps=[Step(name="choose", status="ok", started_at=T0, ended_at=T1, detail="one", data={"mediaIds": ["m"]})],
        result={"count": 1},
        error={"code": "x"},
        reason="because",
        job_id="job_1",
        media_ids=["m"],
        post_ids=["p"],
        started_at=T0,
        finished_at=T1,
    )
    runs.insert(whole)
    assert runs.get("run_1").to_json() == whole.to_json()
    assert runs.for_slot("task_1", whole.slot).id == "run_1" and runs.for_slot("task_1", T1) is None


def test_a_slot_of_a_task_has_one_run(runs):
    runs.insert(run(1))
    with pytest.raises(Conflict, match="already"):
        runs.insert(run(2, slot=run(1).slot))
    runs.insert(run(3, slot=run(1).slot, task_id="task_2"))
    with pytest.raises(NotFound, match="run"):
        runs.get("run_2")


def test_update_moves_only_from_where_it_may(runs):
    runs.insert(run(1))
    moved = runs.update(
        "run_1", only_from=frozenset({"queued"}), status="running", steps=[Step(name="a", started_at=T0)]
    )
    assert moved.status == "running" and moved.steps[0].name == "a"
    with pytest.raises(Conflict) as caught:
        runs.update("run_1", only_from=frozenset({"queued"}), status="cancelled")
    assert caught.value.extra == {"runStatus": "running"}
    with pytest.raises(NotFound):
        runs.update("run_9", status="failed")
    with pytest.raises(TypeError, match="slot"):
        runs.update("run_1", slot="other")


def test_pages_are_newest_first_and_filtered(runs):
    for number in range(5):
        runs.insert(run(number, status="failed" if number == 2 else "completed", character_id="c" if number else None))
    runs.insert(run(6, task_id="task_2"))
    first = runs.page(task_id="task_1", limit=3)
    rest = runs.page(task_id="task_1", limit=3, cursor=first.next_cursor)
    assert [r.id for r in first.items + rest.items] == ["run_4", "run_3", "run_2", "run_1", "run_0"]
    assert first.total == rest.total == 5 and rest.next_cursor is None
    assert [r.id for r in runs.page(statuses=["failed"]).items] == ["run_2"]
    assert runs.page(character_id="c").total == 4
    with pytest.raises(InvalidInput):
        runs.page(cursor="nonsense")
    with pytest.raises(InvalidInput):
        runs.page(limit=0)


def test_unfinished_counts_and_forgetting(runs):
    for number, status in enumerate(("queued", "running", "waiting", "completed", "skipped", "missed", "failed")):
        runs.insert(run(number, status=status))
    assert [r.status for r in runs.unfinished()] == ["queued", "running", "waiting"]
    assert runs.counts() == {
        "queued": 1, "running": 1, "waiting": 1, "completed": 1, "failed": 1, "skipped": 1, "missed": 1, "cancelled": 0,
    }  # fmt: skip
    assert runs.delete_before("2026-05-01T00:05:00.000Z") == 2  # the finished ones: 3 and 4
    assert {r.id for r in runs.page().items} == {"run_0", "run_1", "run_2", "run_5", "run_6"}


def test_states_are_kept_due_and_forgotten(runs):
    runs.save_states([state(f"task_{n}", next_due=f"2026-05-0{n}T18:00:00.000Z", data={"n": n}) for n in range(1, 4)])
    runs.save_states([state("task_4", next_due=None), state("task_1", next_due=T1, last_status="completed")])
    assert runs.state("task_1").last_status == "completed" and runs.state("task_9") is None
    assert set(runs.states()) == {"task_1", "task_2", "task_3", "task_4"}
    assert runs.states()["task_2"].data == {"n": 2}
    assert runs.next_due() == T1
    assert [s.task_id for s in runs.due("2026-05-02T18:00:00.000Z")] == ["task_1", "task_2"]
    assert [s.task_id for s in runs.due("2026-05-09T00:00:00.000Z", limit=1)] == ["task_1"]
    runs.delete_states(["task_1", "task_2", "task_3"])
    assert runs.next_due() is None and set(runs.states()) == {"task_4"}


def test_many_states_at_once(runs):
    runs.save_states([state(f"task_{n}") for n in range(1200)])
    runs.save_states([state(f"task_{n}", next_due=T1) for n in range(1200)])
    assert len(runs.due(T1, limit=2000)) == 1200
    runs.delete_states([f"task_{n}" for n in range(1200)])
    assert runs.states() == {}


def test_edit_state_changes_the_newest(runs):
    runs.save_states([state()])
    runs.edit_state("task_1", lambda s: s.with_(data={**s.data, "a": 1}))
    edited = runs.edit_state("task_1", lambda s: s.with_(data={**s.data, "b": 2}))
    assert edited.data == runs.state("task_1").data == {"a": 1, "b": 2}
    with pytest.raises(NotFound):
        runs.edit_state("task_9", lambda s: s)


def test_fire_moves_the_task_and_adds_the_run_together(runs):
    runs.save_states([state()])
    assert runs.fire(state(next_due=T1, last_slot=T0), run(1, slot=T0), expected_due=T0)
    assert runs.state("task_1").next_due == T1 and runs.get("run_1").slot == T0
    # Too late: it has moved on.
    assert not runs.fire(state(next_due=T1), run(2, slot="x"), expected_due=T0)
    with pytest.raises(NotFound):
        runs.get("run_2")


def test_a_slot_that_has_run_does_not_fire_again(runs):
    """A clock set back makes a rule due again that has fired: nothing may change."""
    runs.insert(run(1, slot=T0))
    runs.save_states([state()])
    assert not runs.fire(state(next_due=T1), run(2, slot=T0), expected_due=T0)
    assert runs.state("task_1").next_due == T0
    assert runs.fire(state(next_due=T1), None, expected_due=T0)  # moving on without a run is possible
    assert runs.page().total == 1


def test_firing_many_succeeds_or_fails_one_by_one(runs):
    runs.save_states([state("task_1"), state("task_2"), state("task_3")])
    runs.insert(run(9, task_id="task_2", slot=T0))
    moves = [
        (state("task_1", next_due=T1), run(1, task_id="task_1", slot=T0), T0),
        (state("task_2", next_due=T1), run(2, task_id="task_2", slot=T0), T0),
        (state("task_3", next_due=T0), run(3, task_id="task_3", slot="missed:x", status="missed"), T0),
        (state("task_3", next_due=T1), run(4, task_id="task_3", slot=T0), T0),
        (state("task_4", next_due=T1), None, T0),
    ]
    assert runs.fire_many(moves) == [True, False, True, True, False]
    assert {r.id for r in runs.page().items} == {"run_1", "run_9", "run_3", "run_4"}
    assert runs.fire_many([]) == []


def test_exactly_one_of_many_processes_fires_a_slot(runs, library_url):
    """Eight at once, each with its own connection: one run, one winner."""
    runs.save_states([state()])
    libraries = [Library.open(library_url) for _ in range(8)]
    ready, won = threading.Barrier(8), []

    def race(number: int) -> None:
        mine = SqlRuns(libraries[number])
        ready.wait()
        if mine.fire(state(next_due=T1), run(number, slot=T0), expected_due=T0):
            won.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for library in libraries:
        library.close()
    assert len(won) == 1
    assert [r.id for r in runs.page().items] == [f"run_{won[0]}"]
