"""From the request to the gallery, through a ComfyUI server (a fake one that refuses what the real one refuses)."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dalla import recipes
from dalla.web import waiting
from tests.conftest import png, taken, upload
from tests.fakes import comfy_draw
from tests.fakes.comfyui import ComfyFake


@pytest.fixture(scope="module")
def comfy_server():
    with ComfyFake() as comfy:
        yield comfy


@pytest.fixture
def comfy(comfy_server):
    comfy_server.resume()
    comfy_server.requests.clear()
    yield comfy_server
    comfy_server.resume()


@pytest.fixture
def environ(comfy):
    return {"COMFYUI_URL": comfy.url, "DALLA_IMAGE_ENGINE": "comfyui"}


@pytest.fixture(autouse=True)
def working(running):
    """Every test here has its workers running."""


SMALL = {"width": 64, "height": 64, "steps": 2}


def generate(client, **wish):
    return client.post("/api/generate-image", json={"model": "sd15.safetensors", **SMALL, **wish})


def test_the_waiting_form_starts_nothing_when_too_many_wait(client, luna):
    with taken(waiting.ANSWERS):
        refused = generate(client, characterId=luna["id"], prompt="x")
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1
        assert client.get("/api/tasks").json["total"] == 0
        queued = client.post("/api/generate-image?async=1", json={"model": "sd15.safetensors", **SMALL, "prompt": "x"})
        assert queued.status_code == 202


def test_the_seeds_call_waits_and_answers_base64(client, luna):
    answer = generate(client, characterId=luna["id"], prompt="in a magical forest", seed=7)
    assert answer.status_code == 200, answer.json
    body = answer.json
    picture = Image.open(io.BytesIO(base64.b64decode(body["image"])))
    assert picture.size == (64, 64) and picture.format == "PNG" and body["images"] == [body["image"]]
    assert body["prompt"] == "a beautiful portrait of luna_character, in a magical forest, artistic, serene"
    assert (body["negativePrompt"], body["seed"], body["engine"], body["family"]) == (
        "ugly, disfigured",
        7,
        "comfyui",
        "sd15",
    )
    item = client.get(f"/api/media/{body['mediaId']}").json
    assert item["characterId"] == luna["id"] and item["taskId"] == body["taskId"]
    recipe = item["recipe"]
    assert recipe["seed"] == 7 and recipe["steps"] == 2 and recipe["characterName"] == luna["name"]
    assert recipe["engineVersions"]["comfyui"] and recipe["sampler"] and recipe["scheduler"]
    assert recipes.read(base64.b64decode(body["image"])).recipe.seed == 7  # the same recipe travels in the PNG


def test_asking_not_to_wait(client):
    answer = client.post(
        "/api/generate-image",
        json={"prompt": "x", **SMALL, "model": "sd15.safetensors"},
        headers={"Prefer": "respond-async"},
    )
    assert answer.status_code == 202 and answer.headers["Location"] == f"/api/tasks/{answer.json['taskId']}"
    done = client.get(f"{answer.headers['Location']}?wait=20").json
    assert done["status"] == "completed" and done["progress"] == 1.0
    assert client.get(f"/api/media?taskId={done['taskId']}").json["total"] == 1


@pytest.mark.parametrize(
    "model",
    ["sd15.safetensors", "sdxl.safetensors", "sd3.safetensors", "flux1-dev-fp8.safetensors", "flux1-dev.safetensors"],
)
def test_every_family(client, model):
    answer = generate(client, model=model, prompt="a lake")
    assert answer.status_code == 200, answer.json
    assert answer.json["model"] == model


def test_recall_makes_the_same_picture_again(client, luna):
    first = generate(
        client,
        characterId=luna["id"],
        prompt="by the sea",
        batchSize=2,
        loras=[{"name": "style_sd15.safetensors", "strength": 0.8}],
    ).json
    assert len(first["mediaIds"]) == 2
    request = client.get(f"/api/media/{first['mediaIds'][1]}/recipe").json["request"]
    again = client.post("/api/generate-image", json=request)
    assert again.status_code == 200, again.json

    def pixels(data):
        return Image.open(io.BytesIO(base64.b64decode(data))).tobytes()

    assert [pixels(i) for i in again.json["images"]] == [pixels(first["images"][1])]
    assert again.json["seed"] == first["seed"] + 1
    assert again.json["prompt"] == first["prompt"]
    assert client.get(f"/api/media/{again.json['mediaId']}").json["characterId"] == luna["id"]


def test_batch_and_seed(client):
    body = generate(client, prompt="x", batchSize=3).json
    assert len(set(body["mediaIds"])) == 3 and 0 <= body["seed"] < 2**32
    assert generate(client, prompt="x", seed=-1).json["seed"] >= 0


def test_image_to_image_starts_from_a_gallery_picture(client):
    init = upload(client, png((255, 0, 0), (256, 256))).json["items"][0]["id"]
    body = generate(client, prompt="x", initImageMediaId=init, denoise=0.5).json
    assert client.get(f"/api/media/{body['mediaId']}").json["recipe"]["initImageMediaId"] == init


def test_upscale_makes_a_new_picture_of_the_old(client, luna):
    first = generate(client, prompt="x", characterId=luna["id"]).json["mediaId"]
    task = client.post(f"/api/media/{first}/upscale", json={"factor": 2, "engine": "comfyui"})
    assert task.status_code == 202, task.json
    done = client.get(f"/api/tasks/{task.json['taskId']}?wait=20").json
    assert done["status"] == "completed", done
    bigger = client.get(f"/api/media/{done['result']['mediaId']}").json
    assert (bigger["width"], bigger["origin"], bigger["parentId"], bigger["characterId"]) == (
        128,
        "upscaled",
        first,
        luna["id"],
    )
    assert client.post(f"/api/media/{first}/upscale", json={"factor": 9}).status_code == 422


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"model": "nope.safetensors"}, "model"),
        ({"loras": [{"name": "nope.safetensors"}]}, "loras"),
        ({"sampler": "magic"}, "sampler"),
        ({"scheduler": "magic"}, "scheduler"),
        ({"width": 65}, "width"),
        ({"height": 0}, "height"),
        ({"height": 99999}, "height"),
        ({"steps": 0}, "steps"),
        ({"batchSize": 99}, "batchSize"),
        ({"seed": 2**60}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"guidance": 3.5}, "guidance"),
        ({"denoise": 0.5}, "denoise"),
        ({"initImageMediaId": "media_none"}, "initImageMediaId"),
        ({"engine": "crayons"}, "engine"),
        ({"model": "flux1-dev.safetensors", "negativePrompt": "ugly"}, "negativePrompt"),
        ({"model": "flux1-dev.safetensors", "cfgScale": 7}, "cfgScale"),
        ({"colour": "red"}, "colour"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "x" * 20_000}, "prompt"),
    ],
)
def test_what_cannot_be_is_a_field_error_and_queues_nothing(client, wish, field):
    answer = generate(client, **{"prompt": "x", **wish})
    assert answer.status_code == 422, answer.json
    assert field in {e["field"].split(".")[0] for e in answer.json["errors"]}, answer.json
    assert client.get("/api/tasks").json["total"] == 0


def test_unknown_character(client):
    assert generate(client, characterId="char_none", prompt="x").status_code == 404


def test_a_characters_negative_prompt_is_left_out_for_flux_and_said(client, luna):
    body = generate(client, characterId=luna["id"], prompt="x", model="flux1-dev.safetensors").json
    assert body["negativePrompt"] == "" and any("negative prompt" in note for note in body["notes"])


def test_a_failure_is_the_answer_and_stays_with_the_task(client, comfy):
    comfy.error_next = "the sampler broke"
    answer = generate(client, prompt="x", seed=1234)
    assert answer.status_code == 502 and "the sampler broke" in answer.json["detail"]
    task = client.get(f"/api/tasks/{answer.json['taskId']}").json
    assert task["status"] == "failed" and task["error"]["code"] == "upstream_error"
    assert client.get("/api/media").json["total"] == 0
    client.post(f"/api/tasks/{task['taskId']}/retry")
    assert client.get(f"/api/tasks/{task['taskId']}?wait=20").json["status"] == "completed"


def test_cancel_reaches_the_server(client, comfy):
    comfy.pause()
    id = client.post(
        "/api/generate-image?async=1", json={"model": "sd15.safetensors", **SMALL, "prompt": "slow one"}
    ).json["taskId"]
    for _ in range(400):
        if comfy.running:
            break
        client.get(f"/api/tasks/{id}?wait=0.05")
    assert comfy.running
    client.post(f"/api/tasks/{id}/cancel")
    assert client.get(f"/api/tasks/{id}?wait=20").json["status"] == "cancelled"
    comfy.resume()
    assert client.get("/api/media").json["total"] == 0


def test_the_same_key_draws_once(client):
    wish = {"model": "sd15.safetensors", **SMALL, "prompt": "once"}
    first = client.post("/api/generate-image?async=1", json=wish, headers={"Idempotency-Key": "k1"})
    again = client.post("/api/generate-image?async=1", json=wish, headers={"Idempotency-Key": "k1"})
    assert again.json == first.json and again.status_code == 202 and again.headers["Idempotent-Replayed"] == "true"
    assert client.get("/api/tasks").json["total"] == 1
    other = client.post("/api/generate-image?async=1", json=wish | {"seed": 5}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 422


def test_a_waiting_call_is_answered_again_whole_and_kept_small(client, container):
    wish = {"model": "sd15.safetensors", **SMALL, "prompt": "once"}
    first = client.post("/api/generate-image", json=wish, headers={"Idempotency-Key": "k3"})
    again = client.post("/api/generate-image", json=wish, headers={"Idempotency-Key": "k3"})
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    assert client.get("/api/media").json["total"] == 1
    with container.library.read() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM idempotency_keys").all())
    assert first.json["mediaId"] in kept and first.json["image"][:200] not in kept


def test_a_refused_wish_frees_its_key(client):
    bad = client.post("/api/generate-image?async=1", json={"prompt": ""}, headers={"Idempotency-Key": "k2"})
    assert bad.status_code == 422
    good = client.post(
        "/api/generate-image?async=1",
        json={"prompt": "x", **SMALL, "model": "sd15.safetensors"},
        headers={"Idempotency-Key": "k2"},
    )
    assert good.status_code == 202


def test_models_and_engines_are_listed(client):
    body = client.get("/api/models?show=all").json
    assert {"sd15", "sdxl", "sd3", "flux"} <= {m["family"] for m in body["models"]}
    assert [e["available"] for e in body["engines"] if e["name"] == "comfyui"] == [True]
    assert sum(m["default"] for m in body["models"]) == 1


def test_the_sizes_of_what_the_server_has_are_told(client, comfy):
    """COMFYUI_LORA_DIR is not set: the files cannot be seen from here, the server says how large they are."""
    path = comfy.add_lora("sub/style.safetensors")
    body = client.get("/api/models").json
    files = {p.name: p.stat().st_size for p in (comfy.root / "models").rglob("*.safetensors")}
    sized = {m["name"]: m["sizeBytes"] for m in body["models"] if m["engine"] == "comfyui"}
    assert sized and sized == {name: files[name] for name in sized}
    [lora] = [row for row in body["loras"] if row["name"].endswith("style.safetensors")]
    assert lora["sizeBytes"] == path.stat().st_size
    path.unlink()


def test_one_lora_of_two_engines_is_one_row(client, comfy, settings):
    here = Path(settings.loras_dir)
    here.mkdir(parents=True, exist_ok=True)
    for name in ("both", "other"):
        (here / f"{name}.safetensors").write_bytes(comfy.add_lora(f"{name}.safetensors").read_bytes())
    with (here / "other.safetensors").open("ab") as grown:
        grown.write(bytes(8))  # the same name, another file
    rows = [row for row in client.get("/api/models").json["loras"] if row["name"].startswith(("both", "other"))]
    [both] = [row for row in rows if row["name"].startswith("both")]
    assert both["name"] == "both" and both["source"] == "builtin" and set(both["engines"]) == {"builtin", "comfyui"}
    assert sorted((row["name"], *row["engines"]) for row in rows if row is not both) == [
        ("other", "builtin"),
        ("other.safetensors", "comfyui"),
    ]
    for name in ("both", "other"):
        (comfy.loras_dir / f"{name}.safetensors").unlink()


def test_the_words_of_a_characters_loras_join_the_prompt(client, comfy, settings, luna):
    """Those that stand on their cards; not a tag that ComfyUI's metadata only suggests, and not of a LoRA pushed away."""
    here = Path(settings.loras_dir)
    here.mkdir(parents=True, exist_ok=True)
    kept = comfy.add_lora("guessed.safetensors", trigger="1girl")
    for name, word in (("likeness", "zorvex"), ("away", "blurred")):
        (here / f"{name}.safetensors").write_bytes(kept.read_bytes())
        (here / f"{name}.json").write_text(json.dumps({"triggerWord": word}))
    loras = [
        {"name": "likeness", "strength": 0.8},
        {"name": "away", "strength": -0.5},
        {"name": "guessed", "strength": 1},
    ]
    changed = client.put(f"/api/characters/{luna['id']}", json={"loras": loras})
    assert changed.status_code == 200, changed.json

    def composed(**more):
        body = {"characterId": luna["id"], "prompt": "on a roof", **more}
        return [
            p["text"]
            for p in client.post("/api/generate-image/preview-prompt", json=body).json["parts"]
            if p["source"] == "loraWord"
        ]

    assert composed() == ["zorvex"]
    assert composed(prompt="(zorvex:1.2) on a roof") == [] and composed(loras=[]) == []
    kept.unlink()


def test_a_server_that_is_off_is_a_sentence(client, container, monkeypatch):
    from tests.conftest import NOWHERE

    monkeypatch.setitem(container.settings._values, "comfyui_url", NOWHERE)
    container.engines.forget_status()
    answer = generate(client, prompt="x")
    assert answer.status_code == 503 and "ComfyUI" in answer.json["detail"] and answer.json["remedy"]
    engine = client.get("/api/models").json["engines"][0]
    assert engine["available"] is False and engine["reason"]
    assert client.get("/api/system/status").json["comfyui"]["status"] == "error"
    assert client.post("/api/settings/test/comfyui", json={}).json["ok"] is False


def test_an_unrecognised_model_can_be_given_its_family(client, comfy, container):
    # A text encoder and nothing that tells a family, neither in the header nor in the name.
    part = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
    vae = "first_stage_model.decoder.conv_in.weight"
    comfy._put(
        "checkpoints",
        "mystery.safetensors",
        comfy_draw.safetensors({part: ("F32", [1], bytes(4)), vae: ("F32", [1], bytes(4))}),
    )
    answer = generate(client, prompt="x", model="mystery.safetensors")
    assert answer.status_code == 422 and "modelFamilies" in answer.json["remedy"]
    client.patch("/api/settings", json={"modelFamilies": {"mystery.safetensors": "sd15"}})
    assert generate(client, prompt="x", model="mystery.safetensors").status_code == 200


def test_preview_prompt_names_the_parts(client, luna):
    body = client.post("/api/generate-image/preview-prompt", json={"characterId": luna["id"], "prompt": "at dawn"}).json
    assert [p["source"] for p in body["parts"]] == ["basePrompt", "prompt", "style", "mood"]
