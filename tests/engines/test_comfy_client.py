"""The ComfyUI client against a real HTTP server: what goes over the wire, and every refusal in words."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from dalla.engines.comfy.client import ComfyClient, combo_options
from dalla.errors import (
    DallaError,
    InvalidInput,
    NotConfigured,
    NotFound,
    TimedOut,
    TooLarge,
    Unavailable,
    UpstreamError,
)
from tests.engines.comfy_kit import graph
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


def new_id() -> str:
    return str(uuid.uuid4())


def wait_for_history(client: ComfyClient, prompt_id: str) -> dict:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if entry := client.history(prompt_id):
            return entry
        time.sleep(0.01)
    raise AssertionError("the prompt did not end")


# ---------------------------------------------------------------- lists


def test_choices_are_read_in_all_three_spellings() -> None:
    assert combo_options([["a", "b"], {"tooltip": "x"}]) == ["a", "b"]
    assert combo_options(["COMBO", {"options": ["a", "b"], "default": "a"}]) == ["a", "b"]
    assert combo_options(["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}]}]) == ["auto"]
    assert combo_options(["INT", {"min": 0}]) == []


@pytest.mark.parametrize("jobs_api", [False, True])
def test_lists_come_from_old_and_new_servers_alike(jobs_api: bool) -> None:
    with ComfyFake(jobs_api=jobs_api) as fake:
        client = ComfyClient(fake.url)
        assert "sd15.safetensors" in client.choices("CheckpointLoaderSimple", "ckpt_name")
        assert client.choices("UpscaleModelLoader", "model_name") == ["2x-plain.safetensors"]
        assert "euler" in client.choices("KSamplerSelect", "sampler_name")
        assert client.object_info("IPAdapterAdvanced") == {}
        client.close()


def test_lists_are_asked_once_in_a_while_and_again_when_fresh(fake: ComfyFake, client: ComfyClient) -> None:
    client.choices("LoraLoader", "lora_name")
    fake.add_lora("new.safetensors")
    assert "new.safetensors" not in client.choices("LoraLoader", "lora_name")
    assert "new.safetensors" in client.choices("LoraLoader", "lora_name", fresh=True)


def test_metadata_is_empty_where_there_is_none(fake: ComfyFake, client: ComfyClient) -> None:
    assert client.view_metadata("loras", "style_sd15.safetensors")["modelspec.architecture"].startswith(
        "stable-diffusion-v1"
    )
    assert client.view_metadata("loras", "gone.safetensors") == {}


# ---------------------------------------------------------------- what is sent


def test_no_origin_is_sent_and_extra_headers_are() -> None:
    with ComfyFake() as fake:
        client = ComfyClient(fake.url, {"Authorization": "Bearer t0ken"})
        client.system_stats()
        socket_ = client.open_socket(uuid.uuid4().hex)
        socket_.close()
        client.close()
        assert len(fake.requests) == 2
        for seen in fake.requests:
            assert "Origin" not in seen.headers
            assert seen.headers["Authorization"] == "Bearer t0ken"


def test_a_path_prefix_is_kept_for_calls_and_for_the_socket() -> None:
    with ComfyFake(prefix="/tools/comfy") as fake:
        client = ComfyClient(f"{fake.url}/")
        assert client.system_stats()["system"]["comfyui_version"] == "0.33.0"
        client.open_socket(uuid.uuid4().hex).close()
        assert fake.url.endswith("/tools/comfy")
        client.close()


def test_a_password_in_the_address_is_sent_and_never_shown() -> None:
    with ComfyFake() as fake:
        client = ComfyClient(fake.url.replace("//", "//luna:s%40cret@"))
        client.system_stats()
        client.open_socket(uuid.uuid4().hex).close()
        assert {seen.headers["Authorization"] for seen in fake.requests} == {"Basic bHVuYTpzQGNyZXQ="}
        fake.die()
        with pytest.raises(Unavailable) as caught:
            client.system_stats()
        assert "cret" not in caught.value.detail
        client.close()


def test_an_upload_takes_the_name_the_server_gives(fake: ComfyFake, client: ComfyClient) -> None:
    assert client.upload_image(b"one", "a.png") == "dalla/a.png"
    assert client.upload_image(b"one", "a.png") == "dalla/a.png"
    assert client.upload_image(b"two", "a.png") == "dalla/a (1).png"
    assert (fake.root / "input" / "dalla" / "a (1).png").read_bytes() == b"two"


# ---------------------------------------------------------------- prompts


def test_pending_prompts_come_in_their_order_though_the_queue_is_a_heap(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    ids = [new_id() for _ in range(6)]
    for prompt_id in ids:
        client.submit(graph(), prompt_id)
    end = time.monotonic() + 30
    while client.queue()[0] != ids[:1] and time.monotonic() < end:
        time.sleep(0.01)
    client.cancel(ids[1])  # takes a node out of the middle of the heap
    assert client.queue() == (ids[:1], ids[2:])
    fake.resume()


def test_the_history_is_empty_until_the_end(fake: ComfyFake, client: ComfyClient) -> None:
    fake.pause()
    prompt_id = new_id()
    client.submit(graph(), prompt_id, extra={"dalla_job_id": "job_1"})
    assert client.history(prompt_id) is None
    fake.resume()
    entry = wait_for_history(client, prompt_id)
    assert entry["status"]["status_str"] == "success"
    assert entry["prompt"][3]["dalla_job_id"] == "job_1"


@pytest.mark.parametrize("jobs_api", [False, True])
def test_cancel_reaches_our_running_prompt_and_no_other(jobs_api: bool) -> None:
    with ComfyFake(jobs_api=jobs_api) as fake:
        fake.pause()
        client = ComfyClient(fake.url)
        ours, theirs = new_id(), new_id()
        client.submit(graph(), ours)
        client.submit(graph(seeds=(9,)), theirs)
        assert client.cancel(ours)
        fake.resume()
        assert wait_for_history(client, theirs)["status"]["status_str"] == "success"
        client.close()


@pytest.mark.parametrize("jobs_api", [False, True])
def test_cancel_takes_a_waiting_prompt_and_leaves_the_running_one_alone(jobs_api: bool) -> None:
    with ComfyFake(jobs_api=jobs_api) as fake:
        fake.pause()
        client = ComfyClient(fake.url)
        theirs, ours = new_id(), new_id()
        client.submit(graph(), theirs)
        fake.wait_for(lambda: fake.running)
        client.submit(graph(seeds=(9,)), ours)
        assert client.cancel(ours)
        assert client.queue() == ([theirs], [])
        fake.resume()
        assert wait_for_history(client, theirs)["status"]["status_str"] == "success"
        assert client.history(ours) is None
        assert not fake.calls("POST", "/interrupt")
        client.close()


def test_a_stop_the_server_forgot_is_repeated(fake: ComfyFake, client: ComfyClient) -> None:
    """It clears the flag when a prompt starts, so one that comes in that moment is lost."""
    fake.pause()
    prompt_id = new_id()
    client.submit(graph(), prompt_id)
    client._has_job_cancel = False
    end = time.monotonic() + 30
    while not fake.running and time.monotonic() < end:
        time.sleep(0.01)
    fake.fail_next("/interrupt", 200)  # answered, and nothing stops
    assert client.cancel(prompt_id)
    assert len(fake.calls("POST", "/interrupt")) >= 2
    assert client.queue() == ([], [])
    fake.resume()


def test_cancel_gives_up_at_once_when_nobody_is_there() -> None:
    client = ComfyClient("http://127.0.0.1:9")
    assert not client.cancel(new_id())
    client.close()


def test_cancel_of_a_finished_prompt_stops_nobody(fake: ComfyFake, client: ComfyClient) -> None:
    ours, theirs = new_id(), new_id()
    client.submit(graph(), ours)
    wait_for_history(client, ours)
    fake.pause()
    client.submit(graph(seeds=(9,)), theirs)
    assert client.cancel(ours)
    fake.resume()
    assert wait_for_history(client, theirs)["status"]["status_str"] == "success"


# ---------------------------------------------------------------- refusals


def refused(client: ComfyClient, built: dict) -> DallaError:
    with pytest.raises(DallaError) as caught:
        client.submit(built, new_id())
    return caught.value


def test_a_missing_checkpoint_is_named_with_its_folder(client: ComfyClient) -> None:
    error = refused(client, graph(model="nope.safetensors"))
    assert isinstance(error, InvalidInput)
    assert "nope.safetensors" in error.detail
    assert error.errors[0]["field"] == "model"
    assert "models/checkpoints" in (error.remedy or "")


def test_all_causes_are_named_not_only_the_first(client: ComfyClient) -> None:
    error = refused(client, graph(model="nope.safetensors", sampler="best"))
    assert "nope.safetensors" in error.detail and "best" in error.detail
    assert {e["field"] for e in error.errors} == {"model", "sampler"}


def test_a_number_out_of_range_names_the_limit(client: ComfyClient) -> None:
    error = refused(client, graph(steps=0))
    assert isinstance(error, InvalidInput)
    assert error.errors[0]["field"] == "steps" and "1" in error.detail


def test_a_negative_seed_is_refused_as_a_seed(client: ComfyClient) -> None:
    assert refused(client, graph(seeds=(-1,))).errors[0]["field"] == "seed"


@pytest.mark.parametrize("jobs_api", [False, True])
def test_a_node_that_is_not_installed_is_named(jobs_api: bool) -> None:
    with ComfyFake(jobs_api=jobs_api) as fake:
        fake.disabled_nodes.add("KSampler")
        client = ComfyClient(fake.url)
        error = refused(client, graph())
        assert "KSampler" in error.detail and error.remedy
        client.close()


def test_an_upload_that_is_gone_is_refused_as_the_picture(client: ComfyClient) -> None:
    error = refused(client, graph(init_image="dalla/gone.png"))
    assert isinstance(error, InvalidInput) and "gone.png" in error.detail


def test_half_an_order_is_taken_back(fake: ComfyFake, client: ComfyClient) -> None:
    """The server queues the good outputs and answers 200 with node_errors: that is no success."""
    fake.pause()
    built = graph()
    built["save9"] = {"class_type": "SaveImage", "inputs": {"images": ["gone", 0], "filename_prefix": "x"}}
    error = refused(client, built)
    assert isinstance(error, UpstreamError)
    assert client.queue() == ([], [])
    fake.resume()


def test_an_id_that_is_no_uuid_is_refused(client: ComfyClient) -> None:
    with pytest.raises(UpstreamError, match="UUID"):
        client.submit(graph(), "NOT-A-UUID")


# ---------------------------------------------------------------- the way there


def test_nothing_listening_is_unavailable_with_the_address() -> None:
    client = ComfyClient("http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="127.0.0.1:9") as caught:
        client.system_stats()
    assert "COMFYUI_URL" in (caught.value.remedy or "")
    client.close()


def test_a_server_that_takes_the_connection_and_is_silent_times_out() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client = ComfyClient(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.2)
        with pytest.raises(TimedOut):
            client.system_stats()
        client.close()


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "says"),
    [
        (401, "<html>Login</html>", {"Content-Type": "text/html"}, NotConfigured, "COMFYUI_HEADERS"),
        (302, "", {"Location": "https://sso.example/login"}, NotConfigured, "COMFYUI_HEADERS"),
        (301, "", {"Location": "https://new.example/comfy"}, NotConfigured, "COMFYUI_URL"),
        (403, "", {}, NotConfigured, "Origin"),
        (413, "", {}, TooLarge, "--max-upload-size"),
        (502, "<html>Bad gateway</html>", {"Content-Type": "text/html"}, Unavailable, "Start ComfyUI"),
        (200, "<html>Welcome</html>", {"Content-Type": "text/html"}, Unavailable, "COMFYUI_URL"),
        (404, "404: Not Found", {}, Unavailable, "path prefix"),
        (200, "[1, 2]", {"Content-Type": "application/json"}, Unavailable, "COMFYUI_URL"),
    ],
)
def test_what_a_proxy_answers_is_told_apart(
    fake: ComfyFake, client: ComfyClient, status: int, body: str, headers: dict[str, str], kind: type, says: str
) -> None:
    fake.fail_next("/system_stats", status, body=body, headers=headers)
    with pytest.raises(kind) as caught:
        client.system_stats()
    assert says in (caught.value.remedy or "")
    assert "<html>" not in caught.value.detail


def test_a_text_500_is_an_upstream_error_that_may_be_retried(fake: ComfyFake, client: ComfyClient) -> None:
    fake.fail_next("/prompt", 500, body="500 Internal Server Error\n\nServer got itself in trouble")
    error = refused(client, graph())
    assert isinstance(error, UpstreamError) and error.kind == "retry"


def test_a_large_upload_is_too_large(fake: ComfyFake, client: ComfyClient) -> None:
    fake.max_body = 1000
    with pytest.raises(TooLarge):
        client.upload_image(b"x" * 5000, "a.png")


def test_an_endless_answer_is_cut_off(fake: ComfyFake, client: ComfyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake.root / "output" / "big.png").write_bytes(b"x" * 300_000)
    monkeypatch.setattr("dalla.engines.comfy.client.MAX_FILE", 100_000)
    with pytest.raises(UpstreamError, match="more than"):
        client.view("big.png")


def test_a_deleted_file_is_not_found(client: ComfyClient) -> None:
    with pytest.raises(NotFound):
        client.view("gone.png")
