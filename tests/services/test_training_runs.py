"""A run's folder: events folded into a state, curves thinned, files that stay inside; the trash of files."""

from __future__ import annotations

import json

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.lora import RunNote
from dalla.services.file_trash import FileTrash
from dalla.services.training_runs import RunFolder, RunFolders, RunState, thin


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs" / "job_1"
    path.mkdir(parents=True)
    return RunFolder(path)


def write(folder, *events, mode="a"):
    with open(folder.path / "events.jsonl", mode) as file:
        for event in events:
            file.write((event if isinstance(event, str) else json.dumps(event)) + "\n")


def test_events_are_read_on_and_half_lines_wait(folder):
    assert folder.state().step == 0
    write(folder, {"event": "ready", "steps": 9}, {"event": "step", "step": 1, "loss": 0.5})
    assert (folder.state().step, folder.state().steps) == (1, 9)
    with open(folder.path / "events.jsonl", "a") as file:
        file.write('{"event": "step", "st')
    assert folder.state().step == 1
    with open(folder.path / "events.jsonl", "a") as file:
        file.write('ep": 2, "loss": 0.4}\nnonsense\n[]\n')
    assert [m["step"] for m in folder.state().metrics] == [1, 2]
    write(folder, {"event": "ready", "steps": 3}, mode="w")  # begun anew
    assert (folder.state().step, folder.state().steps) == (0, 3)


def test_the_pace_of_an_attempt_ends_with_it():
    state = RunState()
    state.take({"event": "step", "step": 3, "loss": 0.1, "stepsPerSecond": 5.0, "etaSeconds": 7.0})
    state.take({"event": "resumed", "step": 3})
    assert state.step == 3 and state.last["loss"] == 0.1
    assert not {"stepsPerSecond", "etaSeconds"} & set(state.last)


def test_what_was_measured_after_the_resumed_step_is_forgotten():
    state = RunState()
    for step in (1, 2, 3):
        state.take({"event": "step", "step": step, "loss": step})
        state.take({"event": "validation", "step": step, "loss": step})
        state.take({"event": "resemblance", "step": step, "pictures": 0.1 * step, "faces": None})
    state.take({"event": "resemblance", "step": 2, "pictures": 0.5, "faces": None})  # drawn once more
    state.take({"event": "ladder", "action": "split", "detail": "Smaller."})
    assert state.ladder == [{"step": 3, "action": "split", "detail": "Smaller."}]
    state.take({"event": "cancelled", "step": 4})  # the fourth step was not told any more
    assert state.closing is not None and state.step == 4
    state.take({"event": "ready", "steps": 5, "startStep": 2})
    assert state.closing is None and state.step == 2
    assert [m["step"] for m in state.metrics] == [v["step"] for v in state.validations] == [1, 2]
    assert [(r["step"], r["pictures"]) for r in state.resemblances] == [(1, 0.1), (2, 0.5)]
    state.take({"event": "ready", "steps": 5, "startStep": 0})
    assert state.step == 0 and state.metrics == []


def test_only_the_newest_best_checkpoint_is_best():
    state = RunState()
    state.take({"event": "checkpoint", "step": 1, "file": "a", "best": True})
    state.take({"event": "checkpoint", "step": 2, "file": "b", "best": True})
    state.take({"event": "checkpoint", "step": 2, "file": "c", "best": True})
    assert [(c["step"], c["file"], c["best"]) for c in state.checkpoints] == [(1, "a", False), (2, "c", True)]


def test_curves_are_thinned_without_losing_the_ends():
    rows = [{"step": n, "loss": float(n)} for n in range(1, 10_001)]
    thinned = thin(rows, 100)
    assert len(thinned) == 100 and thinned[-1]["step"] == 10_000
    assert thinned[0] == {"step": 100, "loss": 50.5}
    assert thin(rows[:100], 100) is not thinned and thin(rows[:100], 100) == rows[:100]


def test_a_long_run_does_not_fill_the_memory():
    state = RunState()
    for step in range(1, 20_001):
        state.take({"event": "step", "step": step, "loss": 1.0, "etaSeconds": 3})
    assert len(state.metrics) <= 8000 and state.metrics[-1]["step"] == 20_000
    assert state.last["etaSeconds"] == 3 and "etaSeconds" not in state.metrics[-1]


def test_files_stay_inside_the_run(folder, tmp_path):
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    for name in ("../../secret.safetensors", str(tmp_path / "secret.safetensors"), "a\0b"):
        with pytest.raises(NotFound):
            folder.inside(name)
    write(folder, {"event": "checkpoint", "step": 1, "file": "../../secret.safetensors", "best": True})
    assert folder.checkpoints() == []
    with pytest.raises(NotFound):
        folder.checkpoint(1)


def test_the_note_survives_and_a_broken_one_is_none(folder):
    assert folder.note() is None and folder.change_note(keep="lora") is None
    folder.save_note(RunNote(task_id="job_1", name="luna"))
    assert folder.change_note(keep="lora").keep == "lora" and folder.note().name == "luna"
    (folder.path / "run.json").write_text("{")
    assert folder.note() is None


def test_folders_are_shared_and_ids_checked(tmp_path):
    folders = RunFolders(tmp_path)
    assert folders.folder("job_1") is folders.folder("job_1")
    with pytest.raises(InvalidInput):
        folders.folder("../x")
    assert folders.all() == [] and folders.delete("job_1") == 0


def test_the_trash_gives_back_what_it_took(tmp_path):
    trash = FileTrash(tmp_path, "things")
    a, b = tmp_path / "a.txt", tmp_path / "folder"
    a.write_text("one")
    (b / "deep").mkdir(parents=True)
    id = trash.put("thing", [a, b], {"who": "me"})
    assert not a.exists() and not b.exists() and [row["name"] for row in trash.all()] == ["thing"]
    a.write_text("new")
    with pytest.raises(Conflict):
        trash.restore(id)
    a.unlink()
    assert trash.restore(id) == {"name": "thing", "facts": {"who": "me"}}
    assert a.read_text() == "one" and (b / "deep").is_dir() and trash.all() == []
    with pytest.raises(NotFound):
        trash.restore(id)
    trash.put("thing", [a])
    assert trash.purge(1) == 0 and trash.purge(-1) == 1 and trash.all() == []


def test_what_was_moved_meanwhile_comes_back_to_where_its_kind_lies_now(tmp_path):
    home = tmp_path / "old"
    (home / "luna").mkdir(parents=True)
    (home / "luna" / "a.png").write_text("picture")
    (tmp_path / "elsewhere.png").write_text("other")
    (tmp_path / "link").symlink_to(home, target_is_directory=True)
    trash = FileTrash(tmp_path / "data", "training_data", lambda: home)
    inside = trash.put("luna/a.png", [home.resolve() / "luna" / "a.png"])
    outside = trash.put("elsewhere.png", [tmp_path / "elsewhere.png"])
    before = FileTrash(tmp_path / "data", "training_data")
    (home / "luna" / "b.png").write_text("older")
    older = before.put("luna/b.png", [home / "luna" / "b.png"])  # does not say what it was below
    spelled = tmp_path / "link"
    through = FileTrash(tmp_path / "data", "training_data", lambda: spelled)
    (home / "c.png").write_text("linked")
    linked = through.put("c.png", [spelled.resolve() / "c.png"])
    home.rename(tmp_path / "new")
    home = spelled = tmp_path / "new"
    trash.restore(inside)
    through.restore(linked)
    assert (home / "luna" / "a.png").read_text() == "picture" and (home / "c.png").read_text() == "linked"
    assert not (tmp_path / "old").exists()
    trash.restore(outside)
    assert (tmp_path / "elsewhere.png").read_text() == "other"
    trash.restore(older)
    assert (tmp_path / "old" / "luna" / "b.png").read_text() == "older"
    again = trash.put("luna/a.png", [home / "luna" / "a.png"])
    (home / "luna" / "a.png").write_text("new one")
    with pytest.raises(Conflict):
        trash.restore(again)
