"""The pretend ComfyUI answers in the shapes that real servers (0.3.64, 0.33.0) were recorded with."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket
from PIL import Image

from tests.fakes.comfyui import ComfyFake

Graph = dict[str, dict[str, Any]]


@pytest.fixture
def comfy() -> Iterator[ComfyFake]:
    with ComfyFake() as fake:
        yield fake


@pytest.fixture
def old() -> Iterator[ComfyFake]:
    with ComfyFake(jobs_api=False) as fake:
        yield fake


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(seed: int = 1, steps: int = 3, lora: str | None = None, **size: int) -> Graph:
    size = {"width": 64, "height": 48, "batch_size": 1} | size
    model, clip = (["10", 0], ["10", 1]) if lora else (["4", 0], ["4", 1])
    nodes = {
        "4": node("CheckpointLoaderSimple", ckpt_name="sd15.safetensors"),
        "5": node("EmptyLatentImage", **size),
        "6": node("CLIPTextEncode", text="a cat", clip=clip),
        "7": node("CLIPTextEncode", text="blurry", clip=clip),
        "3": node("KSampler", seed=seed, steps=steps, cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
                  model=model, positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="t"),
    }  # fmt: skip
    if lora:
        nodes["10"] = node(
            "LoraLoader", model=["4", 0], clip=["4", 1], lora_name=lora, strength_model=1.0, strength_clip=1.0
        )
    return nodes


def get(comfy: ComfyFake, path: str, **more: Any) -> requests.Response:
    return requests.get(comfy.url + path, timeout=10, **more)


def post(comfy: ComfyFake, path: str, body: Any = None, **more: Any) -> requests.Response:
    return requests.post(comfy.url + path, json=body, timeout=10, **more)


def submit(comfy: ComfyFake, nodes: Graph, **more: Any) -> str:
    answer = post(comfy, "/prompt", {"prompt": nodes, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt_id"]


def finished(comfy: ComfyFake, id: str) -> dict[str, Any]:
    return comfy.wait_for(lambda: get(comfy, f"/history/{id}").json().get(id))


def pictures(comfy: ComfyFake, nodes: Graph) -> list[Image.Image]:
    entry = finished(comfy, submit(comfy, nodes))
    assert entry["status"]["status_str"] == "success", entry["status"]
    found = []
    for file in entry["outputs"]["9"]["images"]:
        answer = get(comfy, "/view", params=file)
        assert answer.headers["Content-Type"] == "image/png"
        found.append(Image.open(io.BytesIO(answer.content)))
    return found


def test_pictures_are_real_and_the_same_for_the_same_request(comfy: ComfyFake) -> None:
    first = pictures(comfy, graph(batch_size=2))
    assert [p.size for p in first] == [(64, 48)] * 2 and first[0].tobytes() != first[1].tobytes()
    assert json.loads(first[0].info["prompt"])["3"]["inputs"]["seed"] == 1
    assert pictures(comfy, graph(seed=2))[0].tobytes() != first[0].tobytes()
    with ComfyFake() as other:
        assert pictures(other, graph(batch_size=2))[1].tobytes() == first[1].tobytes()


def test_history_has_the_recorded_shape(comfy: ComfyFake) -> None:
    id = submit(comfy, graph(), extra_data={"job": "j1"})
    entry = finished(comfy, id)
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    assert entry["prompt"][1] == id and entry["prompt"][3]["job"] == "j1" and entry["prompt"][4] == ["9"]
    assert entry["outputs"] == {"9": {"images": [{"filename": "t_00001_.png", "subfolder": "", "type": "output"}]}}
    assert entry["meta"] == {"9": {"node_id": "9", "display_node": "9", "parent_node": None, "real_node_id": "9"}}
    assert entry["status"]["completed"] is True
    assert [m[0] for m in entry["status"]["messages"]] == ["execution_start", "execution_cached", "execution_success"]


def test_a_repeated_graph_runs_nothing_and_names_the_old_file(comfy: ComfyFake) -> None:
    first, second = (finished(comfy, submit(comfy, graph())) for _ in range(2))
    assert first["outputs"] == second["outputs"]
    assert set(dict(second["status"]["messages"])["execution_cached"]["nodes"]) == set(graph())
    (comfy.root / "output" / "t_00001_.png").unlink()
    assert (
        get(comfy, "/view", params=finished(comfy, submit(comfy, graph()))["outputs"]["9"]["images"][0]).status_code
        == 404
    )


def test_events_come_in_the_recorded_order(comfy: ComfyFake) -> None:
    client = uuid.uuid4().hex
    ws = websocket.create_connection(
        f"{comfy.url.replace('http', 'ws')}/ws?clientId={client}", timeout=10, suppress_origin=True
    )
    ws.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
    comfy.wait_for(lambda: comfy.sockets and comfy.sockets[0].flags)
    id = submit(comfy, graph(), client_id=client, extra_data={"preview_method": "latent2rgb"})
    events: list[tuple[str, Any]] = []
    while not events or events[-1] != ("executing", None):
        opcode, data = ws.recv_data()
        if opcode == 2:
            length = int.from_bytes(data[4:8], "big")
            assert data[:4] == b"\0\0\0\4" and json.loads(data[8 : 8 + length])["prompt_id"] == id
            assert Image.open(io.BytesIO(data[8 + length :])).format == "JPEG"
            events.append(("preview", None))
            continue
        message = json.loads(data)
        if message["type"] not in ("progress_state", "feature_flags"):
            events.append((message["type"], message["data"].get("node")))
    ws.close()
    steps = [("progress", "3"), ("preview", None)] * 3
    assert events == [
        ("status", None), ("status", None), ("status", None), ("execution_start", None), ("execution_cached", None),
        ("executing", "4"), ("executing", "6"), ("executing", "7"), ("executing", "5"), ("executing", "3"), *steps,
        ("executing", "8"), ("executing", "9"), ("executed", "9"), ("execution_success", None), ("status", None),
        ("executing", None),
    ]  # fmt: skip


def error(comfy: ComfyFake, nodes: Graph) -> tuple[str, dict[str, tuple[str, str]]]:
    answer = post(comfy, "/prompt", {"prompt": nodes})
    assert answer.status_code == 400
    body = answer.json()
    assert set(body) == {"error", "node_errors"} and set(body["error"]) == {"type", "message", "details", "extra_info"}
    found = {}
    for id, entry in body["node_errors"].items():
        assert set(entry) == {"errors", "dependent_outputs", "class_type"} and entry["dependent_outputs"] == ["9"]
        found[id] = (entry["errors"][0]["type"], entry["errors"][0]["details"])
    return body["error"]["type"], found


@pytest.mark.parametrize(
    ("id", "change", "at", "type", "details"),
    [
        ("4", {"ckpt_name": "nope"}, "4", "value_not_in_list",
         "ckpt_name: 'nope' not in ['flux1-dev-fp8.safetensors', 'sd15.safetensors', 'sd3.safetensors', 'sdxl.safetensors']"),
        ("3", {"sampler_name": "nope"}, "3", "value_not_in_list", "sampler_name: 'nope' not in (list of length 42)"),
        ("3", {"seed": -1}, "3", "value_smaller_than_min", "seed"),
        ("3", {"steps": 99999}, "3", "value_bigger_than_max", "steps"),
        ("3", {"steps": "abc"}, "3", "invalid_input_type", "steps, abc, invalid literal for int() with base 10: 'abc'"),
        ("3", {"model": ["4", 1]}, "3", "return_type_mismatch", "model, received_type(CLIP) mismatch input_type(MODEL)"),
        ("3", {"model": ["77", 0]}, "3", "exception_during_inner_validation", "'77'"),
        ("3", {"model": ["4", 9]}, "3", "exception_during_inner_validation", "tuple index out of range"),
        ("3", {"model": ["4"]}, "3", "bad_linked_input", "model"),
        ("9", {"images": ["77", 0]}, "9", "exception_during_validation", "'77'"),
    ],
)  # fmt: skip
def test_refusals_have_the_recorded_shapes(
    comfy: ComfyFake, id: str, change: Any, at: str, type: str, details: str
) -> None:
    nodes = graph()
    nodes[id]["inputs"].update(change)
    assert error(comfy, nodes) == ("prompt_outputs_failed_validation", {at: (type, details)})


def test_unknown_nodes_and_empty_graphs(comfy: ComfyFake, old: ComfyFake) -> None:
    nodes = graph() | {"3": node("Nope")}
    assert error(comfy, nodes) == ("missing_node_type", {})
    assert error(old, nodes) == ("invalid_prompt", {})
    assert error(comfy, {}) == ("prompt_no_outputs", {})
    comfy.disabled_nodes.add("KSampler")
    assert error(comfy, graph())[0] == "missing_node_type" and get(comfy, "/object_info/KSampler").json() == {}
    assert post(comfy, "/prompt", {}).json()["error"]["type"] == "no_prompt"
    broken = requests.post(comfy.url + "/prompt", data="x", timeout=10)
    assert broken.status_code == 500 and broken.text.endswith("Server got itself in trouble")


def test_a_bad_output_is_dropped_with_200(comfy: ComfyFake) -> None:
    nodes = graph() | {
        "90": node("SaveImage", images=["91", 0], filename_prefix="x"),
        "91": node("LoadImage", image="nope.png"),
    }
    answer = post(comfy, "/prompt", {"prompt": nodes}).json()
    assert answer["node_errors"]["91"]["errors"][0]["details"] == "image - Invalid image file: nope.png"
    assert finished(comfy, answer["prompt_id"])["prompt"][4] == ["9"]


def test_waiting_prompts_cancel_and_interrupt(comfy: ComfyFake) -> None:
    comfy.pause()
    ids = [submit(comfy, graph(seed)) for seed in range(4)]
    comfy.wait_for(lambda: comfy.running == [ids[0]])
    queue = get(comfy, "/queue").json()
    assert [i[1] for i in queue["queue_running"]] == [ids[0]] and {i[1] for i in queue["queue_pending"]} == set(ids[1:])
    assert all(get(comfy, f"/history/{id}").json() == {} for id in ids)
    assert post(comfy, f"/api/jobs/{ids[3]}/cancel", {}).json() == {"cancelled": True}
    assert get(comfy, f"/api/jobs/{ids[3]}").status_code == 404
    assert [get(comfy, f"/api/jobs/{id}").json()["status"] for id in ids[:2]] == ["in_progress", "pending"]
    post(comfy, "/queue", {"delete": [ids[2], "unknown"]})
    post(comfy, "/interrupt", {"prompt_id": ids[1]})  # not the running one: nothing happens
    post(comfy, "/interrupt", {"prompt_id": ids[0]})
    status = finished(comfy, ids[0])["status"]
    assert (status["status_str"], status["completed"], status["messages"][-1][0]) == (
        "error",
        False,
        "execution_interrupted",
    )
    comfy.resume()
    assert finished(comfy, ids[1])["status"]["completed"] and get(comfy, f"/history/{ids[2]}").json() == {}


def test_failures_on_order(comfy: ComfyFake) -> None:
    comfy.oom_next = True
    message = finished(comfy, submit(comfy, graph()))["status"]["messages"][-1]
    assert message[0] == "execution_error" and message[1]["exception_type"] == "torch.OutOfMemoryError"
    assert message[1]["node_id"] == "3" and set(message[1]) == {
        "prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type", "traceback",
        "current_inputs", "current_outputs", "timestamp",
    }  # fmt: skip
    comfy.error_next = "shapes cannot be multiplied"
    assert (
        finished(comfy, submit(comfy, graph()))["status"]["messages"][-1][1]["exception_message"]
        == "shapes cannot be multiplied\n"
    )
    comfy.fail_next("/queue", 503, times=2, body="<html>busy</html>")
    assert [get(comfy, "/queue").status_code for _ in range(3)] == [503, 503, 200]
    comfy.fail_next("/queue", 0)
    with pytest.raises(requests.ConnectionError):
        get(comfy, "/queue")


def test_a_restart_forgets_and_keeps_the_port(comfy: ComfyFake) -> None:
    comfy.pause()
    url, id = comfy.url, submit(comfy, graph())
    comfy.wait_for(lambda: comfy.running)
    comfy.restart()
    comfy.resume()
    assert comfy.url == url and get(comfy, f"/history/{id}").json() == {}
    assert get(comfy, "/queue").json() == {"queue_running": [], "queue_pending": []}
    assert pictures(comfy, graph())


def test_death_in_the_middle(comfy: ComfyFake) -> None:
    comfy.die_next = True
    submit(comfy, graph())
    comfy.wait_for(lambda: not comfy.alive)
    with pytest.raises(requests.ConnectionError):
        get(comfy, "/queue")
    comfy.restart()
    assert pictures(comfy, graph())


def test_loras_without_effect_succeed_with_a_log_line(comfy: ComfyFake) -> None:
    comfy.add_lora("foreign.safetensors", style="peft")
    comfy.add_lora("big.safetensors", family="sdxl")
    plain = pictures(comfy, graph())[0].tobytes()
    assert pictures(comfy, graph(lora="style_sd15.safetensors"))[0].tobytes() != plain
    assert pictures(comfy, graph(lora="foreign.safetensors"))[0].tobytes() == plain
    assert pictures(comfy, graph(lora="big.safetensors"))[0].tobytes() == plain
    assert get(comfy, "/internal/logs").json().count("lora key not loaded: base_model.model.down_blocks") == 2


def test_uploads_views_and_image_to_image(comfy: ComfyFake) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(out, "PNG")

    def up(data: bytes) -> dict[str, str]:
        return requests.post(
            comfy.url + "/upload/image", files={"image": ("a.png", data)}, data={"subfolder": "s"}, timeout=10
        ).json()

    assert [up(out.getvalue()), up(out.getvalue()), up(b"x")] == [
        {"name": n, "subfolder": "s", "type": "input"} for n in ("a.png", "a.png", "a (1).png")
    ]
    nodes = graph()
    nodes["20"] = node("LoadImage", image="s/a.png")
    nodes["5"] = node("VAEEncode", pixels=["20", 0], vae=["4", 2])
    nodes["3"]["inputs"]["denoise"] = 0.0
    assert pictures(comfy, nodes)[0].getpixel((40, 40)) == (255, 0, 0)
    nodes["8"] = node("ImageScaleBy", image=["20", 0], upscale_method="lanczos", scale_by=2.0)
    assert pictures(comfy, nodes)[0].size == (128, 96)
    nodes["20"]["inputs"]["image"] = "s/a (1).png"
    failed = finished(comfy, submit(comfy, nodes))["status"]["messages"][-1][1]
    assert failed["exception_type"] == "PIL.UnidentifiedImageError"
    for params, status in (
        ({"filename": "../x"}, 400),
        ({"filename": "no.png"}, 404),
        ({"filename": "a", "subfolder": "../.."}, 403),
    ):
        assert get(comfy, "/view", params=params).status_code == status


def test_what_there_is_has_the_recorded_keys(comfy: ComfyFake, old: ComfyFake) -> None:
    stats = get(comfy, "/system_stats").json()
    assert set(stats["system"]) == {
        "os", "ram_total", "ram_free", "comfyui_version", "required_frontend_version", "installed_templates_version",
        "required_templates_version", "python_version", "pytorch_version", "embedded_python", "argv",
    }  # fmt: skip
    assert set(stats["devices"][0]) == {
        "name",
        "type",
        "index",
        "vram_total",
        "vram_free",
        "torch_vram_total",
        "torch_vram_free",
    }
    info = get(comfy, "/object_info").json()
    assert set(info["KSampler"]) == {
        "input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "description",
        "python_module", "category", "output_node",
    }  # fmt: skip
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][1] == "sd15.safetensors"
    assert info["KSamplerSelect"]["input"]["required"]["sampler_name"][0] == "COMBO"
    assert info["SaveVideo"]["input"]["required"]["format"][0] == "COMFY_DYNAMICCOMBO_V3"
    assert isinstance(
        get(old, "/object_info/KSamplerSelect").json()["KSamplerSelect"]["input"]["required"]["sampler_name"][0], list
    )
    assert get(comfy, "/models/loras").json() == [
        "style_flux.safetensors",
        "style_sd15.safetensors",
        "style_sdxl.safetensors",
    ]
    assert get(comfy, "/models/unet").status_code == 404
    assert (
        get(comfy, "/view_metadata/loras?filename=style_sdxl.safetensors").json()["ss_network_module"]
        == "networks.lora"
    )
    assert get(comfy, "/api/queue").status_code == 200 and get(old, "/api/jobs").status_code == 404


def test_who_is_let_in() -> None:
    with ComfyFake(prefix="/comfy", auth={"Authorization": "Bearer x"}, max_body=500) as fake:
        assert get(fake, "/queue").status_code == 401 and "html" in get(fake, "/queue").headers["Content-Type"]
        headers = {"Authorization": "Bearer x"}
        assert get(fake, "/queue", headers=headers).status_code == 200
        for origin in ("http://evil.example", fake.url.replace("127.0.0.1", "localhost").removesuffix("/comfy")):
            answer = get(fake, "/queue", headers=headers | {"Origin": origin})
            assert (answer.status_code, answer.content) == (403, b"")
        assert get(fake, "/queue", headers=headers | {"Origin": fake.url.removesuffix("/comfy")}).status_code == 200
        assert post(fake, "/prompt", {"prompt": {"x": "y" * 600}}, headers=headers).status_code == 413
        fake.html_proxy = 302
        assert get(fake, "/queue", headers=headers, allow_redirects=False).headers["Location"] == "/login"


def test_prompt_ids(comfy: ComfyFake, old: ComfyFake) -> None:
    assert submit(old, graph(), prompt_id="anything") == "anything"
    answer = post(comfy, "/prompt", {"prompt": graph(), "prompt_id": "anything"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_prompt_id")


def test_no_thread_stays_behind() -> None:
    before = set(threading.enumerate())
    with ComfyFake() as fake:
        pictures(fake, graph())
    fake.wait_for(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith("fake")])
