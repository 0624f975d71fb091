"""Following a prompt to its end, with every way the socket and the server can fail on the way."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from dalla.engines.comfy import follow
from dalla.engines.comfy.client import ComfyClient
from dalla.errors import Cancelled, InvalidInput, StorageError, TimedOut, Unavailable, UpstreamError
from tests.engines.comfy_kit import Report, graph
from tests.fakes.comfyui import ComfyFake


@pytest.fixture
def fake() -> Iterator[ComfyFake]:
    with ComfyFake() as server:
        yield server


@pytest.fixture
def client(fake: ComfyFake) -> Iterator[ComfyClient]:
    made = ComfyClient(fake.url, timeout=5.0)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 0.3)
    monkeypatch.setattr(follow, "LISTEN_SECONDS", 0.05)


def run(client: ComfyClient, report: Report, **more: object) -> follow.Outcome:
    return follow.run(client, graph(**more), report, timeout=20.0, samplers=["sample0"])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def in_background(fake: ComfyFake, work: Callable[[], object]) -> threading.Thread:
    """Do `work` as soon as a prompt is running."""

    def later() -> None:
        until(lambda: fake.running)
        work()

    thread = threading.Thread(target=later)
    thread.start()
    return thread


@pytest.mark.parametrize("jobs_api", [False, True])
def test_progress_previews_and_files(jobs_api: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 30)  # a slow picture is no silence
    with ComfyFake(jobs_api=jobs_api) as fake:
        client, report = ComfyClient(fake.url), Report()
        outcome = run(client, report, steps=4)
        client.close()
    (file,) = outcome.files["save0"]
    assert file["subfolder"] == "dalla" and file["filename"].startswith("t-0_")
    assert "Step 4 of 4" in report.messages
    assert report.steps[-1] == (4.0, 4.0)
    if jobs_api:
        assert report.previews[0][1] == "image/jpeg" and report.previews[0][0].startswith(b"\xff\xd8")
    assert not fake.calls("GET", "/queue")  # the events sufficed


@pytest.mark.parametrize("fault", ["refuse_ws", "silent_ws"])
def test_without_events_the_server_is_asked(fake: ComfyFake, client: ComfyClient, fault: str) -> None:
    setattr(fake, fault, True)
    assert run(client, Report()).files["save0"]


def test_a_socket_that_breaks_on_the_way_is_done_without(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()

    def cut() -> None:
        fake.drop_websockets()
        fake.resume()

    thread = in_background(fake, cut)
    assert run(client, Report()).files["save0"]
    thread.join()
    assert fake.calls("GET", "/queue")


def test_a_deaf_socket_is_given_up(fake: ComfyFake, client: ComfyClient) -> None:
    """It stays open and never speaks of our prompt, which runs: from then on only asking counts."""
    fake.silent_ws = True
    fake.pause()

    def go_on() -> None:
        until(lambda: len(fake.calls("GET", "/queue")) >= 4)
        fake.resume()

    thread = threading.Thread(target=go_on)
    thread.start()
    outcome = follow.run(client, graph(), Report(), timeout=20.0, samplers=["sample0"])
    thread.join()
    assert outcome.files["save0"]


def test_no_sign_of_life_is_given_up_and_taken_back(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    with pytest.raises(TimedOut, match="no sign of life"):
        follow.run(client, graph(), Report(), timeout=0.5, samplers=["sample0"])
    assert client.queue() == ([], [])
    fake.resume()


def test_waiting_behind_others_is_no_silence(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    client.submit(graph(seeds=(8,)), str(uuid.uuid4()))
    report = Report()

    def go_on() -> None:
        until(lambda: len(fake.calls("GET", "/queue")) >= 30)  # one in 0.1 s: longer than the 2 s below
        fake.resume()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert follow.run(client, graph(), report, timeout=2.0, samplers=["sample0"]).files["save0"]
    thread.join()
    assert any("1 ahead" in m for m in report.messages)


def test_a_report_that_fails_leaves_nothing_in_the_queue(fake: ComfyFake, client: ComfyClient) -> None:
    fake.step_seconds = 0.02

    class Broken(Report):
        def progress(self, done: float, total: float, message: str = "") -> None:
            raise StorageError("The disk is full.")

    with pytest.raises(StorageError):
        run(client, Broken(), steps=500)
    assert client.queue() == ([], [])


def test_other_peoples_events_are_not_ours(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    theirs = str(uuid.uuid4())
    client.submit(graph(seeds=(77,), prefix="theirs"), theirs)
    report = Report()
    watch = threading.Thread(target=lambda: (until(lambda: any("ahead" in m for m in report.messages)), fake.resume()))
    watch.start()
    outcome = run(client, report)
    watch.join()
    assert outcome.prompt_id != theirs
    assert any("1 ahead" in m for m in report.messages)
    assert client.history(theirs) is not None


def test_cancel_stops_the_running_prompt_and_only_ours(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()  # until theirs waits behind ours
    fake.step_seconds = 0.02
    theirs = str(uuid.uuid4())
    report = Report(cancel_when=lambda m: m.startswith("Step 2"))
    queued = in_background(fake, lambda: (client.submit(graph(seeds=(8,)), theirs), fake.resume()))
    with pytest.raises(Cancelled):
        run(client, report, steps=500)
    queued.join()
    until(lambda: client.history(theirs))
    assert client.history(theirs)["status"]["status_str"] == "success"  # type: ignore[index]


def test_cancel_takes_a_waiting_prompt_out_of_the_queue(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    theirs = str(uuid.uuid4())
    client.submit(graph(seeds=(8,)), theirs)
    until(lambda: fake.running)
    with pytest.raises(Cancelled):
        run(client, Report(cancel_when=lambda m: "queue" in m))
    assert client.queue() == ([theirs], [])
    fake.resume()


def test_a_restart_ends_the_wait_at_once(fake: ComfyFake, client: ComfyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 30)  # however long the restart takes
    fake.pause()
    thread = in_background(fake, fake.restart)
    with pytest.raises(UpstreamError, match="restarted or its queue was cleared") as caught:
        run(client, Report())
    thread.join()
    assert caught.value.kind == "retry"
    fake.resume()


def test_a_queue_cleared_by_somebody_ends_the_wait(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    theirs = str(uuid.uuid4())
    client.submit(graph(seeds=(8,)), theirs)
    until(lambda: fake.running)  # what waits from now on is ours
    report = Report()

    def clear() -> None:
        until(lambda: client.queue()[1])
        client._send("POST", "/queue", json_body={"clear": True})

    thread = threading.Thread(target=clear)
    thread.start()
    with pytest.raises(UpstreamError, match="queue was cleared"):
        run(client, report)
    thread.join()
    fake.resume()


def test_a_server_that_dies_is_unavailable(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    thread = in_background(fake, fake.die)
    with pytest.raises(Unavailable):
        run(client, Report())
    thread.join()


def test_a_stop_in_comfyui_itself_is_no_cancel_of_ours(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    thread = in_background(fake, lambda: client._send("POST", "/interrupt", json_body={}))
    with pytest.raises(UpstreamError, match="topped this picture"):
        run(client, Report())
    thread.join()
    fake.resume()


def test_out_of_memory_is_recognised(fake: ComfyFake, client: ComfyClient) -> None:
    fake.oom_next = True
    with pytest.raises(UpstreamError, match="out of memory") as caught:
        run(client, Report())
    assert "smaller size" in (caught.value.remedy or "")
    assert client.queue() == ([], [])


def test_a_failed_node_is_told_without_the_tips(fake: ComfyFake, client: ComfyClient) -> None:
    fake.error_next = "strange things happened\n\nTIPS: buy more memory"
    with pytest.raises(UpstreamError, match="strange things happened") as caught:
        run(client, Report())
    assert "KSampler" in caught.value.detail and "TIPS" not in caught.value.detail


def test_a_damaged_model_file_is_named(fake: ComfyFake, client: ComfyClient) -> None:
    path = fake.add_model("broken.safetensors", "sd15")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InvalidInput, match="broken.safetensors") as caught:
        run(client, Report(), model="broken.safetensors")
    assert caught.value.errors[0]["field"] == "model"


def test_a_lora_among_the_checkpoints_is_told(fake: ComfyFake, client: ComfyClient) -> None:
    path = fake.add_lora("style.safetensors")
    (fake.root / "models" / "checkpoints" / "style.safetensors").write_bytes(path.read_bytes())
    with pytest.raises(InvalidInput, match="does not recognise 'style.safetensors'"):
        run(client, Report(), model="style.safetensors")


def test_an_answer_lost_after_the_prompt_was_queued_leaves_nothing_behind(fake: ComfyFake) -> None:
    """The POST reached the server, its answer did not: the prompt is known by our own id and taken back."""
    fake.pause()
    client = ComfyClient(fake.url, timeout=5.0)
    submit = client.submit

    def lossy(*args: object, **more: object) -> dict:
        submit(*args, **more)  # type: ignore[arg-type]
        raise UpstreamError("The answer got lost.", service="ComfyUI", kind="retry")

    client.submit = lossy  # type: ignore[method-assign]
    with pytest.raises(UpstreamError, match="got lost"):
        run(client, Report())
    assert client.queue() == ([], [])
    client.close()
    fake.resume()
