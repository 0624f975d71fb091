"""The parent's side of training with a real child process: follow, find again, cancel, every kind of end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from dalla.engines import trainer as module
from dalla.engines.trainer import Trainer
from dalla.engines.trainer_ends import how_it_ended
from dalla.engines.trainer_files import EventTail, lock_is_held, log_tail
from dalla.errors import Cancelled, Conflict
from dalla.settings import ROOT

STANDIN = Path(__file__).parent / "standin_trainer.py"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


def make(how=None, **options):
    options = {"poll_seconds": 0.01, "cancel_seconds": 10, "term_seconds": 10, **options}
    return Trainer(command=[sys.executable, str(STANDIN)], environ={"STANDIN": json.dumps(how or {})}, **options)


def config(tmp_path, folder):
    return {"name": "luna", "run_folder": str(folder), "output_folder": str(tmp_path / "loras"), "resume_from": None}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs" / "job_1"
    yield path
    left = module._by_command_line(path)
    if left is not None:
        left.kill()


class Events:
    """Remembers events; `until` waits for the first of a kind."""

    def __init__(self):
        self.all = []
        self._arrived = threading.Condition()

    def __call__(self, event):
        with self._arrived:
            self.all.append(event)
            self._arrived.notify_all()

    def kinds(self):
        return [e["event"] for e in self.all]

    def until(self, kind, **values):
        def found():
            return [e for e in self.all if e["event"] == kind and values.items() <= e.items()]

        with self._arrived:
            assert self._arrived.wait_for(found, 60), self.kinds()
            return found()[0]


def follow(process, events, check=lambda: None):
    """Follow in a thread; return (thread, list that gets the end)."""
    box = []
    thread = threading.Thread(target=lambda: box.append(process.follow(events, check)), daemon=True)
    thread.start()
    return thread, box


def ended(thread, box):
    thread.join(60)
    assert box
    return box[0]


def test_a_run_is_followed_to_its_end(tmp_path, folder):
    events = Events()
    process = make().start(config(tmp_path, folder), folder)
    end = process.follow(events, lambda: None)
    assert (end.kind, end.exit_code, end.event["lora"]) == ("done", 0, "luna.safetensors")
    assert [e["step"] for e in events.all if e["event"] == "step"] == [1, 2, 3, 4]
    assert (tmp_path / "loras" / "luna.safetensors").is_file()
    assert "standing in" in log_tail(folder / "run.log")
    assert not process.is_alive and not lock_is_held(folder / "run.lock")
    assert json.loads((folder / "config.json").read_text())["name"] == "luna"


def test_the_same_run_is_not_started_twice(tmp_path, folder):
    trainer = make({"hold": 1})
    process = trainer.start(config(tmp_path, folder), folder)
    with pytest.raises(Conflict):
        trainer.start(config(tmp_path, folder), folder)
    assert process.cancel(lambda e: None).kind == "cancelled"


def test_wishes_reach_the_trainer(tmp_path, folder):
    events = Events()
    process = make({"hold": 3}).start(config(tmp_path, folder), folder)
    thread, box = follow(process, events)
    events.until("step", step=3)
    process.save()
    assert events.until("checkpoint", step=3)["file"].startswith("checkpoints/000003/")
    process.sample()
    events.until("sample", step=3)
    (folder / "go").touch()
    assert ended(thread, box).kind == "done"


def test_cancel_keeps_the_state(tmp_path, folder):
    events = Events()
    process = make({"hold": 3}).start(config(tmp_path, folder), folder)

    def check():
        if any(e.get("step") == 3 for e in events.all):
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        process.follow(events, check)
    assert process.is_alive  # following ends, training does not
    end = process.cancel(events)
    assert (end.kind, end.exit_code, end.event["step"]) == ("cancelled", 130, 3)
    assert (folder / "checkpoints" / "000003" / "state.pt").is_file()
    assert not (folder / "cancel").exists()


def test_a_trainer_that_does_not_listen_is_killed(tmp_path, folder):
    events = Events()
    patience = {"cancel_seconds": 0.2, "busy_seconds": 2, "term_seconds": 0.2}
    process = make({"hold": 1, "deaf": True}, **patience).start(config(tmp_path, folder), folder)

    def check():
        if "step" in events.kinds():
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        process.follow(events, check)
    end = process.cancel(events)
    assert (end.kind, end.exit_code) == ("cancelled", -signal.SIGKILL)
    assert not process.is_alive and not lock_is_held(folder / "run.lock")


def stopped_at(process, events, step):
    """Follow up to a step, then cancel; return the end."""

    def check():
        if any(e.get("step") == step for e in events.all if e["event"] == "step"):
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        process.follow(events, check)
    return process.cancel(events)


def test_a_trainer_in_a_long_step_is_given_the_time_to_save(tmp_path, folder):
    """It says nothing while it computes, but it does compute."""
    process = make({"hold": 3, "busy": 4}, cancel_seconds=2, term_seconds=0.2).start(config(tmp_path, folder), folder)
    end = stopped_at(process, Events(), 3)
    assert (end.kind, end.exit_code) == ("cancelled", 130)
    assert (folder / "checkpoints" / "000003" / "state.pt").is_file()


def test_a_trainer_that_computes_for_ever_is_killed_all_the_same(tmp_path, folder):
    patience = {"cancel_seconds": 0.2, "busy_seconds": 2, "term_seconds": 0.2}
    process = make({"hold": 1, "busy": 300}, **patience).start(config(tmp_path, folder), folder)
    end = stopped_at(process, Events(), 1)
    assert (end.kind, end.exit_code) == ("cancelled", -signal.SIGKILL)


def test_a_stop_that_fails_to_save_says_so(tmp_path, folder):
    process = make({"hold": 3, "full": True}).start(config(tmp_path, folder), folder)
    end = stopped_at(process, Events(), 3)
    assert (end.kind, end.detail, end.remedy) == ("disk_full", "There is no space left on the disk.", "Free some.")


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"end": "error", "exit": 3, "code": "out_of_memory", "detail": "No memory left."}, "out_of_memory", "No memory left."),
        ({"end": "error", "exit": 1, "code": "storage", "detail": "There is no space left on the disk."}, "disk_full", "space"),
        ({"end": "error", "exit": 1, "code": "storage", "detail": "Only 12 MB are free on the disk of the folder loras; a run needs more."}, "disk_full", "12 MB"),
        ({"end": "error", "exit": 1, "code": "storage", "detail": "The model folder 'x' holds no .safetensors weights."}, "failed", "holds no"),
        ({"end": "error", "exit": 1, "code": "storage", "detail": "state.pt of checkpoint 40 cannot be read."}, "failed", "state.pt"),
        ({"end": "error", "exit": 2, "code": "invalid_input", "detail": "Bad."}, "bad_input", "Bad."),
        ({"end": "error", "exit": 4, "code": "non_finite", "detail": "NaN."}, "non_finite", "NaN."),
        ({"end": "error", "exit": 5, "code": "verification_failed", "detail": "No effect."}, "verification", "No effect."),
        ({"end": "crash", "exit": 1, "detail": "torch.OutOfMemoryError: CUDA out of memory"}, "out_of_memory", "memory"),
        ({"end": "crash", "exit": 1, "detail": "OSError: [Errno 28] No space left on device"}, "disk_full", "disk is full"),
        ({"end": "crash", "exit": 7, "detail": "Boom: sixteen"}, "failed", "Boom: sixteen"),
        ({"end": "silent_exit"}, "failed", "before it had finished"),
    ],
)  # fmt: skip
def test_every_end_is_told(tmp_path, folder, how, kind, words):
    end = make({"steps": 1, **how}).start(config(tmp_path, folder), folder).follow(lambda e: None, lambda: None)
    assert end.kind == kind and words in end.detail
    assert end.remedy


@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, "out of memory"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_killed_trainer_is_told(tmp_path, folder, number, words):
    events = Events()
    process = make({"hold": 2}).start(config(tmp_path, folder), folder)
    thread, box = follow(process, events)
    events.until("step", step=2)
    os.kill(process.pid, number)
    end = ended(thread, box)
    assert (end.kind, end.exit_code) == ("killed", -number) and words in end.detail


def test_a_trainer_without_a_sign_of_life_is_ended(tmp_path, folder):
    events = Events()
    process = make({"hold": 2}, silent_seconds=3.0, term_seconds=0.3).start(config(tmp_path, folder), folder)
    thread, box = follow(process, events)
    events.until("step", step=2)
    os.kill(process.pid, signal.SIGSTOP)
    end = ended(thread, box)
    assert end.kind == "silent" and "sign of life" in end.detail
    assert not process.is_alive


# ---------------------------------------------------------------- several processes

LAUNCH = """
    import os, signal, subprocess, sys
    from pathlib import Path
    stubborn, count, script, *rest = sys.argv[1:]
    pids = Path(rest[-1]).with_name("pids")
    first = subprocess.Popen([sys.executable, script, *rest], start_new_session=True)
    others = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        for _ in range(int(count) - 1)
    ]
    if stubborn == "yes":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids.with_name("pids.new").write_text(" ".join(str(p.pid) for p in (first, *others)))
    pids.with_name("pids.new").rename(pids)
    code = first.wait()
    for process in others:
        process.kill()
    sys.exit(1 if code else 0)
"""


def launched(tmp_path, stubborn="no", how=None, **options):
    """A trainer whose launcher starts the stand-in and other processes, all in sessions of their own, as torch does."""
    script = tmp_path / "launch.py"
    script.write_text(textwrap.dedent(LAUNCH))
    return make(how, launcher=[sys.executable, str(script), stubborn], **options)


def at_work(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_process_needs_no_launcher_and_several_get_it(tmp_path, folder):
    trainer = launched(tmp_path)
    assert trainer.start(config(tmp_path, folder), folder).follow(lambda e: None, lambda: None).kind == "done"
    assert not (folder / "pids").exists()
    events = Events()
    process = trainer.start({**config(tmp_path, folder), "processes": 3}, folder)
    assert process.follow(events, lambda: None).kind == "done"
    assert len((folder / "pids").read_text().split()) == 3 and events.kinds().count("done") >= 1
    assert module.LAUNCHER[:3] == (sys.executable, "-m", "accelerate.commands.launch")
    assert module.LAUNCHER[-1] == "--num_processes"


def test_a_failure_behind_a_launcher_keeps_its_reason(tmp_path, folder):
    """The launcher's own exit code says nothing; the trainer's last word does."""
    how = {"end": "error", "exit": 3, "code": "out_of_memory", "detail": "No memory left."}
    process = launched(tmp_path, how=how).start({**config(tmp_path, folder), "processes": 2}, folder)
    end = process.follow(lambda e: None, lambda: None)
    assert (end.kind, end.detail, end.exit_code) == ("out_of_memory", "No memory left.", 1)


def test_killing_a_launched_run_ends_every_process_of_it(tmp_path, folder):
    events = Events()
    trainer = launched(tmp_path, "yes", {"hold": 1, "deaf": True}, cancel_seconds=0.2, busy_seconds=2, term_seconds=0.2)
    process = trainer.start({**config(tmp_path, folder), "processes": 3}, folder)

    def check():
        if "step" in events.kinds() and (folder / "pids").exists():
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        process.follow(events, check)
    pids = [process.pid, *map(int, (folder / "pids").read_text().split())]
    assert len(pids) == 4 and all(map(at_work, pids))
    assert process.cancel(events).kind == "cancelled"
    end = time.monotonic() + 60
    while left := [pid for pid in pids if at_work(pid)]:
        assert time.monotonic() < end, left
        time.sleep(0.01)
    assert not lock_is_held(folder / "run.lock")


PARENT = """
    import json, os, sys, time
    from pathlib import Path
    from dalla.engines.trainer import Trainer
    folder, config = Path(sys.argv[1]), json.loads(sys.argv[2])
    process = Trainer(command=[sys.executable, sys.argv[3]]).start(config, folder)
    print(process.pid, flush=True)
    time.sleep(60)
"""


def start_and_kill_parent(tmp_path, folder, how):
    """Start a run from another process, which is then killed; return the trainer's pid."""
    arguments = [str(folder), json.dumps(config(tmp_path, folder)), str(STANDIN)]
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "STANDIN": json.dumps(how)},
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    return pid


def test_a_run_outlives_its_parent_and_is_found_again(tmp_path, folder):
    pid = start_and_kill_parent(tmp_path, folder, {"hold": 3})
    tail, events = EventTail(folder / "events.jsonl"), []
    until(lambda: events.extend(tail.read()) or any(e.get("step") == 3 for e in events))
    assert lock_is_held(folder / "run.lock")
    process = make().attach(folder)
    assert process.pid == pid and process.is_alive
    seen = Events()
    thread, box = follow(process, seen)
    seen.until("step", step=3)
    (folder / "go").touch()
    end = ended(thread, box)
    assert end.kind == "done" and end.exit_code is None
    assert [e["step"] for e in seen.all if e["event"] == "step"] == [1, 2, 3, 4]  # nothing was missed
    assert make().attach(folder) is None


def test_a_run_that_has_not_reached_its_lock_is_found_by_its_command_line(tmp_path, folder):
    pid = start_and_kill_parent(tmp_path, folder, {"early_hold": True})
    until(lambda: psutil.Process(pid).cmdline())
    (folder / "run.lock").unlink(missing_ok=True)  # as if it were not there yet
    process = make().attach(folder)
    assert process is not None and process.pid == pid
    process._signal(signal.SIGKILL)


def test_a_foreign_run_that_is_killed_is_told_without_an_exit_code(tmp_path, folder):
    pid = start_and_kill_parent(tmp_path, folder, {"hold": 2})
    until(lambda: lock_is_held(folder / "run.lock"))
    process = make().attach(folder)
    thread, box = follow(process, Events())
    os.kill(pid, signal.SIGKILL)
    end = ended(thread, box)
    assert end.kind == "killed" and end.exit_code is None and "nobody watched" in end.detail


def test_a_foreign_run_can_be_cancelled(tmp_path, folder):
    start_and_kill_parent(tmp_path, folder, {"hold": 2})
    tail, events = EventTail(folder / "events.jsonl"), []
    until(lambda: events.extend(tail.read()) or any(e.get("step") == 2 for e in events))
    assert lock_is_held(folder / "run.lock")
    end = make().attach(folder).cancel(lambda e: None)
    assert end.kind == "cancelled" and end.event["step"] == 2


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_looks_at_the_lock_is_not_taken_for_a_trainer(tmp_path):
    import fcntl

    path = tmp_path / "run.lock"
    assert not lock_is_held(path)
    path.touch()
    with path.open("r+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # another dashboard that looks at this moment
        assert not lock_is_held(path)
    with path.open("r+b") as training:
        fcntl.flock(training, fcntl.LOCK_EX)
        assert lock_is_held(path)
    assert not lock_is_held(path)


def test_lines_are_read_whole_and_rubbish_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    path.write_bytes(b'{"event":"phase","name":"a"}\n{"event":"st')
    assert [e["event"] for e in tail.read()] == ["phase"]
    with path.open("ab") as file:
        file.write(b'ep","step":1}\nnot json\n[1]\n{"event":7}\n{"event":"done"}\n')
    assert [e["event"] for e in tail.read()] == ["step", "done"]
    path.write_bytes(b'{"event":"ready"}\n')  # begun anew
    assert [e["event"] for e in tail.read()] == ["ready"]


def test_a_pid_that_was_given_to_another_process_is_not_ours(tmp_path, folder):
    folder.mkdir(parents=True)
    (folder / "run.pid").write_text(json.dumps({"pid": os.getpid(), "started": 1.0}))
    assert module._noted(folder) is None
    assert make().attach(folder) is None


def test_the_log_shows_the_last_state_of_a_progress_bar(tmp_path):
    (tmp_path / "run.log").write_bytes("one\n 10%\r 20%\r 30%\r\n\nübel \xff".encode("latin-1"))
    assert log_tail(tmp_path / "run.log")[:2] == ["one", " 30%"]
    assert log_tail(tmp_path / "none") == []


def test_a_finished_run_is_done_whatever_was_wanted():
    assert how_it_ended({"event": "done"}, 0, [], "cancelled").kind == "done"
    assert how_it_ended({}, -9, [], "cancelled").kind == "cancelled"
    assert how_it_ended({}, 0, []).kind == "failed"
    last = {"event": "error", "code": "non_finite", "detail": "Not a number."}
    assert how_it_ended(last, 4, [], "cancelled").kind == "non_finite"
    assert how_it_ended(last, -9, [], "silent").detail == "Not a number."
