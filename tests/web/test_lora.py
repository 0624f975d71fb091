"""LoRA training, training pictures and the LoRA shelf over HTTP, around a stand-in trainer."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dalla.records.training import PRESETS
from dalla.records.training_machine import Machine
from dalla.web import lora as lora_web
from dalla.web import loras as loras_web
from tests.conftest import png
from tests.engines.standin_trainer import lora_file
from tests.services.training_world import World

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


QUICK = PRESETS["starter"]["quick"]


@pytest.fixture
def world(container):
    world = World(container)
    yield world
    container.jobs.stop()
    world.close()


@pytest.fixture
def client(world, app):
    from tests.conftest import Client

    if "lora" not in app.blueprints:
        app.register_api(lora_web.bp)
        app.register_api(loras_web.bp)
    app.test_client_class = Client
    return app.test_client()


def files(*given):
    return [(io.BytesIO(data), name) for name, data in given]


def send(client, address, **data):
    return client.post(address, data=data, content_type="multipart/form-data")


# ---------------------------------------------------------------- pictures


def test_pictures_and_captions_land_in_a_training_set(client, world):
    answer = send(
        client,
        "/api/lora/upload",
        name="luna",
        files=files(
            ("Übung 1.png", png((1, 2, 3))),
            ("Übung 1.txt", "luna in the sun – smiling".encode("cp1252")),
            ("b.JPG", png((9, 9, 9))),  # its content is what counts
            ("copy.png", png((1, 2, 3))),
            ("fake.png", b"<html>"),
            ("lonely.txt", b"no picture"),
        ),
    )
    assert answer.status_code == 201, answer.json
    assert answer.json["files"] == ["Ubung-1.png", "b.png"] and answer.json["captions"] == ["Ubung-1.txt"]
    assert answer.json["captionCount"] == 1
    assert answer.json["duplicates"] == ["copy.png"]
    assert [row["id"] for row in answer.json["failed"]] == ["fake.png", "lonely.txt"]
    root = Path(world.container.settings.training_data_dir) / "luna"
    assert (root / "Ubung-1.txt").read_text("utf-8") == "luna in the sun – smiling\n"
    (row,) = client.get("/api/lora/training-data").json
    assert (row["name"], row["pictures"], row["captions"]) == ("luna", 2, 1)
    thumb = client.get(row["coverUrl"])
    assert Image.open(io.BytesIO(thumb.data)).format == "WEBP"


def test_a_character_names_the_set(client, luna):
    answer = send(client, "/api/lora/upload", characterId=luna["id"], file=files(("a.png", png())))
    assert answer.json["trainingData"] == "Luna-the-Mystic"


@pytest.mark.parametrize("name", ["../x", "a/b", "con", ".hidden", ""])
def test_a_set_cannot_lie_elsewhere(client, world, name):
    answer = send(client, "/api/lora/upload", name=name, files=files(("a.png", png())))
    assert answer.status_code == 422
    assert not list(Path(world.container.settings.training_data_dir).iterdir())


def test_an_upload_of_nothing_usable_leaves_no_folder(client, world):
    answer = send(client, "/api/lora/upload", name="luna", files=files(("a.png", b"nothing")))
    assert answer.status_code == 422 and "a.png" in answer.json["errors"][0]["message"]
    assert not list(Path(world.container.settings.training_data_dir).iterdir())


def test_a_set_is_reported_edited_deleted_and_restored(client, world):
    world.pictures("luna", 3, p0="luna smiling")
    report = client.get("/api/lora/training-data/luna").json
    assert [i["captionSource"] for i in report["images"]] == ["txt", "none", "none"]
    assert "captions_missing" in [w["code"] for w in report["warnings"]]
    image = report["images"][1]["fileUrl"]
    assert client.get(image).data[:4] == b"\x89PNG"
    assert client.put(image, json={"caption": "luna at night"}).json == {"success": True}
    assert client.get("/api/lora/training-data/luna").json["captions"] == 2
    gone = client.delete(image).json["trashId"]
    assert client.get(image).status_code == 404
    assert client.post("/api/lora/training-data/restore", json={"trashId": gone}).status_code == 200
    assert client.get("/api/lora/training-data/luna").json["images"][1]["caption"] == "luna at night"
    gone = client.delete("/api/lora/training-data/luna").json["trashId"]
    assert client.get("/api/lora/training-data").json == []
    client.post("/api/lora/training-data/restore", json={"trashId": gone})
    assert client.get("/api/lora/training-data").json[0]["pictures"] == 3


@pytest.mark.parametrize(
    "path", ["..%2f..%2fdata%2fsettings.json", "p0.txt", ".hidden.png", "%2e%2e/x.png", "a%00.png", "x" * 400 + ".png"]
)
def test_only_pictures_of_the_set_are_served(client, world, path):
    world.pictures("luna", 1, p0="secret")
    assert client.get(f"/api/lora/training-data/luna/files/{path}").status_code in (404, 422)


# ---------------------------------------------------------------- before the start


def test_options_and_estimate(client, world):
    world.pictures("luna", 10, p0="luna smiling")
    options = client.get("/api/lora/options").json
    assert options["available"] is True and options["baseModels"][0]["name"] == "starter"
    assert options["baseModels"][0]["nativeSize"] == 128 and "quick" in options["presets"]["starter"]
    answer = client.post(
        "/api/lora/estimate", json={"trainingData": "luna", "triggerWord": "luna_x", "params": {"preset": "quick"}}
    )
    assert answer.status_code == 200, answer.json
    e = answer.json
    assert (e["pictures"], e["heldOut"], e["trained"], e["steps"]) == (10, 1, 9, QUICK["steps"])
    assert (e["config"]["rank"], e["config"]["learningRate"]) == (QUICK["rank"], QUICK["learning_rate"])
    assert e["family"] == "sd15"
    assert sum(b["pictures"] for b in e["buckets"]) == 10
    assert e["time"]["basis"] == "rough" and e["time"]["seconds"] > 0
    assert e["memory"]["on"] == "ram" and e["memory"]["fits"] is True and e["disk"]["fits"] is True
    assert "captions_missing" in [c["code"] for c in e["checks"]]
    assert e["images"][0]["caption"] == "luna_x, luna smiling" and e["images"][0]["box"]
    assert client.get("/api/lora/train").json["total"] == 0


def test_an_estimate_learns_from_runs_of_this_machine(client, world):
    world.container.jobs.start()
    params = {"preset": "quick", "batchSize": 4}
    world.finish(world.start(params=params))
    e = client.post("/api/lora/estimate", json={"trainingData": "luna", "params": params}).json
    assert (e["time"]["basis"], e["time"]["secondsPerStep"]) == ("measured", 0.02)
    assert (e["memory"]["basis"], e["memory"]["neededBytes"]) == ("measured", 1004)
    other = client.post(
        "/api/lora/estimate", json={"trainingData": "luna", "params": {"preset": "quick", "batchSize": 8}}
    ).json
    assert (other["time"]["basis"], other["time"]["secondsPerStep"]) == ("scaled", 0.04)


def test_what_does_not_fit_is_said(client, world):
    world.pictures("luna", 2)
    world.machine = {"gpuName": "Small", "gpuMemoryTotal": 10_000_000, "gpuMemoryUsed": 0, "memoryTotal": 1}
    e = client.post("/api/lora/estimate?images=false", json={"trainingData": "luna"}).json
    assert e["memory"]["on"] == "gpu" and "memory_too_small" in [c["code"] for c in e["checks"]]
    assert e["time"]["seconds"] is None and "images" not in e


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"trainingData": "luna", "params": {"rank": 0}}, "params.rank"),
        ({"trainingData": "luna", "nonsense": 1}, "nonsense"),
        ({"trainingData": "luna", "name": "a/b"}, "name"),
        ({}, "trainingData"),
        ({"trainingData": "luna", "params": []}, "params"),
    ],
)
@pytest.mark.parametrize("address", ["/api/lora/estimate", "/api/lora/train"])
def test_bad_wishes_name_their_field(client, world, address, body, field):
    world.pictures("luna", 2)
    answer = client.post(address, json=body)
    assert answer.status_code == 422 and answer.json["errors"][0]["field"] == field, answer.json


@pytest.mark.parametrize(
    ("params", "field", "status"),
    [
        ({"optimizer": "adamw8bit"}, "params.optimizer", 422),
        ({"quantize": "nf4"}, "params.quantize", 422),
        ({"quantize": "fp8"}, "params.quantize", 422),
        ({"mixedPrecision": "fp16"}, "params.mixedPrecision", 422),
        ({"processes": 2}, "params.processes", 422),
        ({"priorWeight": 1, "priorFolder": "/etc"}, "params.priorFolder", 422),
        ({"priorWeight": 1, "priorFolder": "nobody"}, "params.priorFolder", 404),
    ],
)
@pytest.mark.parametrize("address", ["/api/lora/estimate", "/api/lora/train"])
def test_what_the_machine_lacks_is_answered_before_anything_starts(client, world, address, params, field, status):
    world.training.planner._machine = lambda: Machine(frozenset({"cpu"}), frozenset({"cpu"}), 0, lambda package: False)
    world.pictures("luna", 2)
    answer = client.post(address, json={"trainingData": "luna", "params": params})
    assert answer.status_code == status and answer.json["errors"][0]["field"] == field, answer.json
    assert status == 404 or answer.json.get("remedy") or "training_data/" in answer.json["detail"]
    assert client.get("/api/lora/train").json["total"] == 0


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("address", ["/api/lora/train", "/api/lora/v2/train"])
def test_training_answers_at_once_and_ends_with_a_lora(client, world, luna, address):
    world.pictures("luna", 3)
    answer = client.post(
        address, json={"characterId": luna["id"], "datasetId": "luna", "name": "mine"}, headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 202 and answer.json["status"] == "queued"
    id = answer.json["taskId"]
    again = client.post(
        address, json={"characterId": luna["id"], "datasetId": "luna", "name": "mine"}, headers={"Idempotency-Key": "k"}
    )
    assert again.json["taskId"] == id
    world.container.jobs.start()
    world.finish(id)
    run = client.get(answer.json["runUrl"]).json
    assert (run["status"], run["lora"], run["triggerWord"]) == ("completed", "mine", "luna_character")
    assert client.get(f"/api/lora/v2/train/{id}").json["step"] == 4
    page = client.get(f"/api/lora/train?status=completed&characterId={luna['id']}").json
    assert [item["taskId"] for item in page["items"]] == [id] and page["total"] == 1
    assert client.get("/api/lora/train?status=sleeping").status_code == 422
    assert client.get(run["samples"][0]["fileUrl"]).mimetype == "image/png"
    checkpoint = client.get(run["checkpoints"][0]["fileUrl"])
    assert checkpoint.status_code == 200 and "mine-step2.safetensors" in checkpoint.headers["Content-Disposition"]
    assert client.get(f"/api/lora/train/{id}/metrics?sinceStep=3").json["points"][0]["step"] == 4
    character = client.get(f"/api/characters/{luna['id']}").json
    assert character["loras"][0]["name"] == "mine"


def test_pictures_may_come_inside_the_call(client, world, luna):
    picture = base64.b64encode(png()).decode()
    answer = client.post("/api/lora/train", json={"characterId": luna["id"], "images": [picture]})
    assert answer.status_code == 202, answer.json
    answer = send(
        client,
        "/api/lora/train",
        characterId=luna["id"],
        name="other",
        params=json.dumps({"rank": 4}),
        files=files(("a.png", png((3, 4, 5))), ("a.txt", b"hello")),
    )
    assert answer.status_code == 202, answer.json
    assert client.get(f"/api/lora/train/{answer.json['taskId']}").json["config"]["rank"] == 4
    assert {row["name"]: row["captions"] for row in client.get("/api/lora/training-data").json}["other"] == 1
    assert send(client, "/api/lora/train", params="{", files=files(("a.png", png()))).status_code == 422


def test_the_log_is_answered_by_offset(client, world):
    world.container.jobs.start()
    id = world.start()
    world.finish(id)
    whole = client.get(f"/api/lora/train/{id}/log")
    assert whole.text == "standing in\n" and whole.headers["X-Next-Offset"] == "12"
    assert client.get(f"/api/lora/train/{id}/log?offset=9").text == "in\n"
    assert client.get(f"/api/lora/train/{id}/log?offset=-3").text == "in\n"
    assert client.get(f"/api/lora/train/{id}/log?offset=99").text == ""


def test_pause_resume_save_and_stop(client, world):
    world.container.jobs.start()
    world.how(hold=3)
    id = world.start()
    assert client.post(f"/api/lora/train/{id}/resume").status_code == 409
    world.until_step(id, 3)
    assert client.post(f"/api/lora/train/{id}/save").status_code == 202
    world.until(lambda: 3 in [c["step"] for c in client.get(f"/api/lora/train/{id}").json["checkpoints"]])
    assert client.post(f"/api/lora/train/{id}/sample").status_code == 202
    answer = client.post(f"/api/lora/train/{id}/pause")
    assert answer.status_code == 202 and (answer.json["pausing"] or answer.json["status"] == "paused")
    world.until(lambda: client.get(f"/api/lora/train/{id}").json["status"] == "paused")
    assert client.post(f"/api/lora/train/{id}/save").status_code == 409
    world.how(hold=4)
    assert client.post(f"/api/lora/train/{id}/resume").status_code == 202
    world.until_step(id, 4)
    assert client.post(f"/api/lora/train/{id}/cancel", json={"keep": "all"}).status_code == 422
    assert client.post(f"/api/lora/train/{id}/cancel", json={"keep": "lora"}).status_code == 202
    assert world.finish(id).status == "cancelled"
    assert client.post(f"/api/lora/train/{id}/cancel").status_code == 409
    assert [row["name"] for row in client.get("/api/loras").json] == ["luna"]
    used = client.post(f"/api/lora/train/{id}/checkpoints/3/use")
    assert used.status_code == 201 and used.headers["Location"] == "/api/loras/luna-step3"
    assert client.delete(f"/api/lora/train/{id}/checkpoints/3").status_code == 200
    assert client.get(f"/api/lora/train/{id}/checkpoints/3/file").status_code == 404
    assert client.delete(f"/api/lora/train/{id}").json["freedBytes"] > 0
    assert client.get("/api/lora/train").json["items"] == []


def test_a_run_goes_on_with_changed_settings(client, world):
    world.container.jobs.start()
    world.how(hold=3)
    id = world.start(params={"epochs": 9, "learningRate": 1e-3})
    address = f"/api/lora/train/{id}"
    world.until_step(id, 3)
    client.post(f"{address}/pause")
    world.until(lambda: client.get(address).json["status"] == "paused")
    for settings, field in [
        ({"rank": 8}, "settings.rank"),
        ({"triggerWord": "x"}, "settings.triggerWord"),
        ({"colour": 1}, "settings.colour"),
        ({"steps": 3}, "settings.steps"),
        ({"steps": "many"}, "settings.steps"),
        ({"learningRate": 50}, "settings.learningRate"),
        ({"validation": {"every": 0}}, "settings.validation"),
        ({"validation": {"count": 2}}, "settings.validation"),
        ({"samplePrompts": ["x"] * 9}, "settings.samplePrompts"),
    ]:
        refused = client.post(f"{address}/resume", json={"settings": settings})
        assert refused.status_code == 422, settings
        assert [error["field"] for error in refused.json["errors"]] == [field] and field in refused.json["detail"]
    two = client.post(f"{address}/resume", json={"settings": {"rank": 8, "steps": 2}})
    assert {error["field"] for error in two.json["errors"]} == {"settings.rank", "settings.steps"}
    assert client.post(f"{address}/resume", json={"params": {}}).status_code == 422
    assert client.post(f"{address}/resume", data="{", content_type="application/json").status_code == 400
    assert client.get(address).json["status"] == "paused"
    assert client.get(address).json["config"]["learningRate"] == 1e-3  # nothing of what was refused stayed

    world.how(steps=5)
    settings = {
        "steps": 5, "learningRate": 2e-4, "sampleEvery": 2, "samplePrompts": ["nova"], "saveEvery": 3, "earlyStop": 0,
        "validation": {"every": 1},
    }  # fmt: skip
    answer = client.post(f"{address}/resume", json={"settings": settings})
    assert answer.status_code == 202 and answer.json["totalSteps"] == 5
    assert world.finish(id).status == "completed"
    given = json.loads((world.training.folders.folder(id).path / "config.json").read_text())  # to the trainer
    assert (given["steps"], given["epochs"], given["learning_rate"], given["early_stop"]) == (5, None, 2e-4, 0)
    assert (given["sample_every"], given["sample_prompts"], given["save_every"]) == (2, ["nova"], 3)
    assert given["validation"]["every"] == 1 and given["resume_from"] and given["rank"] == 8
    run = client.get(address).json
    assert run["config"]["learningRate"] == 2e-4 and run["step"] == 5
    params = run["request"]["params"]
    assert params["steps"] == 5 and params["learningRate"] == 2e-4 and "epochs" not in params  # for a clone
    assert client.post(f"{address}/resume", json={"settings": {"steps": 9}}).status_code == 409


@pytest.mark.parametrize("rest", ["", "/metrics", "/log", "/samples/x.png", "/checkpoints/1/file"])
def test_unknown_runs_and_other_tasks_are_404(client, world, rest):
    world.container.jobs.register("quick", lambda ctx, p: None, lane="cpu")
    other = world.container.jobs.submit("quick", {}).id
    for id in ("job_none", other, "..%2fx"):
        assert client.get(f"/api/lora/train/{id}{rest}").status_code == 404


def test_a_sample_is_a_picture_of_the_run(client, world):
    world.container.jobs.start()
    id = world.start()
    world.finish(id)
    for name in ("..%2frun.json", "run.json", "none.png", "a%00.png"):
        assert client.get(f"/api/lora/train/{id}/samples/{name}").status_code == 404


# ---------------------------------------------------------------- the shelf


@pytest.fixture
def style(world):
    lora_file(Path(world.container.settings.loras_dir) / "style.safetensors")
    return "style"


def test_a_lora_from_elsewhere_tells_what_it_is(client, style):
    (row,) = client.get("/api/loras").json
    assert (row["name"], row["family"], row["usedBy"]) == ("style", "sd15", [])
    full = client.get("/api/loras/style").json
    assert full["triggerWord"] == "luna_character" and full["metadata"]["ss_base_model_version"] == "sd_v1"
    assert client.get("/api/loras/style/file").data[8:9] == b"{"
    assert client.get("/api/loras/none").status_code == 404
    assert client.get("/api/loras/..%2fx/file").status_code == 404


def test_notes_beside_a_lora_change_and_foreign_keys_survive(client, world, style):
    card = Path(world.container.settings.loras_dir) / "style.json"
    card.write_text('{"other": {"kept": true}, "triggerWord": "old"}')
    answer = client.patch("/api/loras/style", json={"triggerWord": "new", "tags": ["ink"], "strength": 0.8})
    assert answer.status_code == 200 and answer.json["triggerWord"] == "new"
    kept = json.loads(card.read_text())
    assert kept["other"] == {"kept": True} and kept["tags"] == ["ink"] and kept["strength"] == 0.8
    assert client.patch("/api/loras/style", json={"strength": 99}).status_code == 422
    assert client.patch("/api/loras/style", json={"family": "sd99"}).status_code == 422
    assert client.patch("/api/loras/style", json={"name": "x"}).status_code == 422
    card.write_text('{"tags": "ink, brush", "triggerWord": "kept"}')  # as another program may write it
    assert client.get("/api/loras/style").json["triggerWord"] == "kept"
    assert client.patch("/api/loras/style", json={"strength": 1}).status_code == 200
    assert json.loads(card.read_text())["tags"] == "ink, brush"
    card.write_text("{broken")
    assert client.patch("/api/loras/style", json={"triggerWord": "x"}).status_code == 409
    assert card.read_text() == "{broken"


def test_a_deleted_lora_leaves_its_characters_and_comes_back_to_them(client, world, style, luna):
    client.patch(f"/api/characters/{luna['id']}", json={"loras": [{"name": "style", "strength": 0.7}]})
    assert client.get("/api/loras/style").json["usedBy"][0]["name"] == "Luna the Mystic"
    gone = client.delete("/api/loras/style").json
    assert gone["usedBy"][0]["strength"] == 0.7
    assert client.get("/api/loras").json == []
    assert client.get(f"/api/characters/{luna['id']}").json["loras"] == []
    assert [row["name"] for row in client.get("/api/loras/trash").json["items"]] == ["style"]
    assert client.post("/api/loras/restore", json={"trashId": gone["trashId"]}).json["name"] == "style"
    assert client.get(f"/api/characters/{luna['id']}").json["loras"][0] == {"name": "style", "strength": 0.7}
    assert client.post("/api/loras/restore", json={"trashId": gone["trashId"]}).status_code == 404


def test_a_lora_is_not_restored_over_a_new_one(client, world, style):
    gone = client.delete("/api/loras/style").json["trashId"]
    lora_file(Path(world.container.settings.loras_dir) / "style.safetensors", 5.0)
    assert client.post("/api/loras/restore", json={"trashId": gone}).status_code == 409
