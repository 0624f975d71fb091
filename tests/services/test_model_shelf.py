"""The shelf without HTTP: what is found, hashes, duplicates, trash, pins, the log, fit, pickles, uploads."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from dalla.errors import Conflict, InvalidInput, NotConfigured, NotFound
from dalla.records.media import LoraRecipe, Recipe
from dalla.records.shelf import Peak
from dalla.services.model_fit import Machine
from tests.conftest import png
from tests.services.shelf_kit import LORA, SD15, VAE, weights_file


@pytest.fixture
def desk(running):
    return running


@pytest.fixture
def shelf(desk):
    return desk.model_shelf


@pytest.fixture
def models(settings):
    return Path(settings.models_dir)


@pytest.fixture
def loras(settings):
    return Path(settings.loras_dir)


def rows(shelf, **where):
    return {row["name"]: row for row in shelf.all(**where)["items"]}


def done(desk, job):
    job = desk.jobs.wait(job.id if hasattr(job, "id") else job, 60)
    assert job.status == "completed", job.error
    return job


def hashed(desk, shelf):
    return done(desk, shelf.hashes.start()).result


# ---------------------------------------------------------------- what there is


def test_everything_is_found_with_its_kind_and_what_is_wrong_with_it(shelf, models, loras):
    weights_file(models / "a.safetensors", SD15, {"modelspec.license": "CreativeML OpenRAIL-M"})
    weights_file(models / "sub" / "b.safetensors", SD15)
    (models / "sub" / "LICENSE").write_text("MIT License\n\nCopyright")
    (models / "cut.safetensors").write_bytes((models / "a.safetensors").read_bytes()[:-500])
    (models / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (models / "odd.gguf").write_bytes(b"GGUF")
    weights_file(models / "stray.safetensors", VAE)
    weights_file(models / "misplaced.safetensors", LORA)
    weights_file(models / "vae" / "ae.safetensors", VAE)
    weights_file(models / "upscale" / "x4.safetensors", {"body.0.rdb1.conv1.weight": (4, 4)})
    (models / "upscale" / "x2.pth").write_bytes(b"PK\x03\x04")
    (models / "captioners" / "blip").mkdir(parents=True)
    weights_file(models / "captioners" / "blip" / "model.safetensors", VAE)
    (models / "tokenizers" / "t5").mkdir(parents=True)
    (models / "tokenizers" / "t5" / "tokenizer.json").write_text("{}")
    weights_file(loras / "luna.safetensors", LORA)
    (loras / "bad.safetensors").write_bytes(b"nothing at all")
    found = rows(shelf)
    assert {n: r["kind"] for n, r in found.items()}.items() >= {
        "a.safetensors": "model",
        "sub/b.safetensors": "model",
        "cut.safetensors": "model",
        "old.ckpt": "model",
        "odd.gguf": "other",
        "stray.safetensors": "vae",
        "misplaced.safetensors": "lora",
        "vae/ae.safetensors": "vae",
        "upscale/x4.safetensors": "upscaler",
        "upscale/x2.pth": "upscaler",
        "captioners/blip": "captioner",
        "tokenizers/t5": "tokenizer",
        "luna": "lora",
        "bad": "lora",
        "starter": "model",
    }.items()
    assert len([n for n in found if "blip" in n]) == 1, "a captioner is no model as well"
    assert found["a.safetensors"]["family"] == "sd15" and found["a.safetensors"]["loadable"]
    assert found["a.safetensors"]["license"] == "CreativeML OpenRAIL-M" and found["a.safetensors"]["licenseSource"] == "metadata"  # fmt: skip
    assert (found["sub/b.safetensors"]["license"], found["sub/b.safetensors"]["licenseSource"]) == ("MIT", "file")
    assert found["luna"]["family"] == "sd15" and found["luna"]["sizeBytes"] == (loras / "luna.safetensors").stat().st_size  # fmt: skip
    wrong = {n: r["reason"] for n, r in found.items() if not r["loadable"]}
    assert wrong.keys() == {"cut.safetensors", "old.ckpt", "odd.gguf", "stray.safetensors", "misplaced.safetensors", "upscale/x2.pth", "bad"}  # fmt: skip
    assert "cut off" in wrong["cut.safetensors"] and "bytes are missing" in wrong["cut.safetensors"]
    assert wrong["old.ckpt"].startswith("Not loaded: a pickle")
    assert "DALLA_PICKLE_WEIGHTS" in found["old.ckpt"]["remedy"]
    assert "models/vae/" in (found["stray.safetensors"]["remedy"] or "")
    assert rows(shelf, problems=True).keys() == wrong.keys()
    assert rows(shelf, kind="captioner").keys() == {"captioners/blip"}
    assert rows(shelf, q="luna").keys() == {"luna"}


def test_hashes_are_true_survive_and_follow_the_file(desk, shelf, models, loras):
    weights_file(models / "a.safetensors", SD15)
    weights_file(models / "twin.safetensors", SD15)
    weights_file(loras / "l.safetensors", LORA)
    assert all(row["sha256"] is None for row in rows(shelf).values())
    assert hashed(desk, shelf)["hashed"] >= 3
    found = rows(shelf)
    true = hashlib.sha256((models / "a.safetensors").read_bytes()).hexdigest()
    assert found["a.safetensors"]["sha256"] == true and found["a.safetensors"]["autoV2"] == true[:10].upper()
    assert found["a.safetensors"]["duplicates"] == [found["twin.safetensors"]["id"]]
    assert "l" not in rows(shelf, problems=True) and "twin.safetensors" in rows(shelf, problems=True)
    assert hashed(desk, shelf)["hashed"] == 0, "what is known is not read again"
    weights_file(models / "a.safetensors", SD15, fill=2)
    again = rows(shelf)["a.safetensors"]
    assert again["sha256"] is None and again["id"] == found["a.safetensors"]["id"] and not again["duplicates"]
    # A model's folder has the hash that the engine writes into recipes.
    starter = desk.local_models.models()["starter"]
    assert rows(shelf)["starter"]["sha256"] == desk.local_models.sha256(starter.path, starter.files, starter.stamp)


def test_a_person_writes_the_licence_and_takes_it_back(shelf, models):
    weights_file(models / "a.safetensors", SD15, {"modelspec.license": "MIT"})
    id = rows(shelf)["a.safetensors"]["id"]
    row = shelf.update(id, {"license": "Only for me", "notes": "good skin"})
    assert (row["license"], row["licenseSource"], row["notes"]) == ("Only for me", "person", "good skin")
    assert rows(shelf, q="skin").keys() == {"a.safetensors"}
    row = shelf.update(id, {"license": None})
    assert (row["license"], row["licenseSource"], row["notes"]) == ("MIT", "metadata", "good skin")
    with pytest.raises(InvalidInput):
        shelf.update(id, {"license": "x" * 301})
    with pytest.raises(NotFound):
        shelf.get("shelf_unknown")


# ---------------------------------------------------------------- users and the trash


def make_character(desk, **more):
    return desk.characters.create({"name": "Luna", **more})


def test_where_it_is_used_is_told_before_it_goes_and_undo_brings_everything_back(desk, shelf, models, loras):
    path = weights_file(models / "a.safetensors", SD15)
    weights_file(loras / "l.safetensors", LORA)
    luna = make_character(desk, preferred_model="a.safetensors", loras=[{"name": "l", "strength": 0.7}])
    found = rows(shelf)
    ids = [found["a.safetensors"]["id"], found["l"]["id"]]
    assert [u["name"] for u in found["a.safetensors"]["usedBy"]] == ["Luna"]
    assert found["l"]["usedBy"][0]["strength"] == 0.7
    assert rows(shelf, used=True).keys() == {"a.safetensors", "l"}
    plan = shelf.remove(ids, dry_run=True)
    assert all(row["blocked"] is None for row in plan) and path.exists()
    assert any("keep its name" in text for text in plan[0]["warnings"])
    gone = shelf.remove(ids)
    assert not path.exists() and "l" not in rows(shelf)
    assert desk.characters.get(luna.id).loras == [] and desk.characters.get(luna.id).preferred_model == "a.safetensors"
    assert {(t["name"], t["kind"]) for t in shelf.trashed()} == {("a.safetensors", "model"), ("l", "lora")}
    assert all(t["sizeBytes"] > 100 for t in shelf.trashed())
    shelf.restore([row["trashId"] for row in gone])
    assert path.exists() and desk.characters.get(luna.id).loras[0].strength == 0.7 and shelf.trashed() == []


def test_purged_is_gone_and_unknown_is_said(desk, shelf, models):
    size = weights_file(models / "a.safetensors", SD15).stat().st_size
    [row] = shelf.remove([rows(shelf)["a.safetensors"]["id"]])
    assert shelf.purge(row["trashId"]) == size and shelf.trashed() == []
    with pytest.raises(NotFound):
        shelf.purge(row["trashId"])
    with pytest.raises(NotFound):
        shelf.restore([row["trashId"]])
    with pytest.raises(InvalidInput):
        shelf.remove(["shelf_nothing"])


def test_what_comes_with_the_app_goes_only_when_that_is_confirmed(settings, shelf, models):
    (models / "starter").mkdir(parents=True)
    (models / "starter" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    weights_file(models / "starter" / "unet" / "u.safetensors", SD15)
    id = rows(shelf)["starter"]["id"]
    [plan] = shelf.remove([id], dry_run=True)
    assert plan["blocked"] and any("comes with the app" in text for text in plan["warnings"])
    with pytest.raises(Conflict) as caught:
        shelf.remove([id])
    assert "force" in (caught.value.remedy or "") and (models / "starter").exists()
    [row] = shelf.remove([id], force=True)
    assert not (models / "starter").exists()
    shelf.restore([row["trashId"]])
    assert (models / "starter" / "unet" / "u.safetensors").exists()


def test_nothing_goes_while_work_needs_it_and_then_nothing_at_all(container, models):
    desk, shelf, hold = container, container.model_shelf, threading.Event()
    desk.jobs.register("hold", lambda context, payload: {"held": hold.wait(30)}, lane="cpu")
    desk.jobs.start()
    weights_file(models / "a.safetensors", SD15)
    weights_file(models / "b.safetensors", SD15)
    job = desk.jobs.submit("hold", {"model": "b.safetensors"}, title="Drawing")
    try:
        found = rows(shelf)
        assert [u["type"] for u in found["b.safetensors"]["usedBy"]] == ["run"]
        with pytest.raises(Conflict, match="in use: Drawing"):
            shelf.remove([found["a.safetensors"]["id"], found["b.safetensors"]["id"]])
        assert (models / "a.safetensors").exists(), "all or nothing"
    finally:
        hold.set()
        desk.jobs.wait(job.id, 30)
    shelf.remove([found["b.safetensors"]["id"]])


# ---------------------------------------------------------------- pins and the log


def states(shelf, id):
    return {row["name"]: row["state"] for row in shelf.versions.of(id)["rows"]}


def test_a_pin_tells_same_changed_missing_and_an_earlier_version_comes_back(desk, shelf, models, loras):
    model = weights_file(models / "a.safetensors", SD15)
    lora = weights_file(loras / "l.safetensors", LORA)
    luna = make_character(desk, preferred_model="a.safetensors", loras=[{"name": "l", "strength": 0.7}], trigger_word="luna")  # fmt: skip
    answer = shelf.versions.pin(luna.id)
    assert states(shelf, luna.id) == {"a.safetensors": "same", "l": "same"}
    done(desk, answer["taskId"])
    pin = shelf.versions.of(luna.id)["pin"]
    assert pin["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest() and pin["loras"][0]["sha256"]
    assert desk.generation.warnings(luna.id, "a.safetensors") == []

    old = lora.read_bytes()
    os.utime(model, ns=(1, 1))  # touched, the same bytes: nobody knows until it is hashed
    assert states(shelf, luna.id)["a.safetensors"] == "unknown"
    hashed(desk, shelf)
    assert states(shelf, luna.id) == {"a.safetensors": "same", "l": "same"}
    weights_file(loras / "l.safetensors", LORA, fill=3)
    hashed(desk, shelf)
    assert states(shelf, luna.id)["l"] == "changed" and shelf.versions.of(luna.id)["state"] == "changed"
    assert any("other weights" in text for text in desk.generation.warnings(luna.id, "a.safetensors"))
    log = shelf.versions.log(luna.id)["items"]
    assert log[0]["kinds"] == ["weights"] and log[0]["by"] == "system" and "l" in log[0]["text"]

    # The weights of then lie under another name: they are found by their hash.
    (loras / "l-old.safetensors").write_bytes(old)
    hashed(desk, shelf)
    desk.characters.update(luna.id, {"preferred_model": None, "trigger_word": "moon", "loras": []})
    kinds = [set(item["kinds"]) for item in shelf.versions.log(luna.id)["items"]]
    assert {"model", "loras", "trigger"} in kinds
    back = shelf.versions.use(luna.id)
    now = desk.characters.get(luna.id)
    assert (now.preferred_model, now.trigger_word) == ("a.safetensors", "luna")
    assert [(u.name, u.strength) for u in now.loras] == [("l-old", 0.7)] and "l-old" in back["notes"][0]

    model.unlink()
    assert states(shelf, luna.id)["a.safetensors"] == "missing"
    assert any("not there" in text for text in shelf.versions.of(luna.id)["warnings"])
    with pytest.raises(Conflict, match=r"a\.safetensors"):
        shelf.versions.use(luna.id)
    assert shelf.versions.unpin(luna.id) and shelf.versions.of(luna.id)["pin"] is None


def test_the_log_says_who_and_sees_edits_by_hand(desk, shelf, models, loras, settings):
    weights_file(models / "a.safetensors", SD15)
    weights_file(loras / "l.safetensors", LORA)
    shelf.versions.who = lambda: "Ada"
    luna = make_character(desk, preferred_model="a.safetensors")
    desk.characters.update(luna.id, {"loras": [{"name": "l", "strength": 1.0}]})
    desk.characters.update(luna.id, {"loras": [{"name": "l", "strength": 0.4}]})
    desk.characters.update(luna.id, {"personality": "shy"})
    shelf.versions.who = lambda: None
    file = Path(settings.data_dir) / "characters.json"
    file.write_text(file.read_text().replace('"strength": 0.4', '"strength": 0.9').replace('"strength":0.4', '"strength":0.9'))  # fmt: skip
    items = shelf.versions.log(luna.id)["items"]
    assert [(i["kinds"], i["by"], i["actor"]) for i in items] == [
        (["strength"], "system", ""),
        (["strength"], "person", "Ada"),
        (["loras"], "person", "Ada"),
        (["start"], "person", "Ada"),
    ]
    assert items[0]["text"] == "l 0.4 → 0.9" and items[2]["text"] == "LoRA l added (1)"
    first, cursor = shelf.versions.log(luna.id, limit=3)["items"], shelf.versions.log(luna.id, limit=3)["nextCursor"]
    assert first == items[:3] and shelf.versions.log(luna.id, cursor=cursor)["items"] == items[3:]
    shelf.versions.use(luna.id, items[2]["id"])
    assert desk.characters.get(luna.id).loras[0].strength == 1.0
    with pytest.raises(NotFound):
        shelf.versions.use(make_character(desk).id, items[2]["id"])


def test_nothing_to_pin_is_refused_and_the_pin_warns_about_another_model(desk, shelf, models):
    weights_file(models / "a.safetensors", SD15)
    plain = make_character(desk)
    with pytest.raises(Conflict):
        shelf.versions.pin(plain.id)
    luna = make_character(desk, preferred_model="a.safetensors")
    shelf.versions.pin(luna.id)
    assert "starter" in desk.generation.warnings(luna.id, "starter")[0]
    assert desk.generation.warnings("char_gone", "starter") == [] and desk.generation.warnings(None, "starter") == []


def test_the_last_use_is_that_of_the_newest_picture(desk, shelf, models, loras):
    weights_file(models / "a.safetensors", SD15)
    weights_file(loras / "l.safetensors", LORA)
    assert rows(shelf)["a.safetensors"]["lastUsedAt"] is None
    recipe = Recipe(
        prompt="x", seed=1, model="a.safetensors", engine="builtin", loras=[LoraRecipe(name="l", strength=1.0)]
    )
    item = desk.gallery.add_generated(png(), recipe, task_id="job_1")
    found = rows(shelf)
    assert found["a.safetensors"]["lastUsedAt"] == found["l"]["lastUsedAt"] == item.created_at
    assert found["starter"]["lastUsedAt"] is None


# ---------------------------------------------------------------- memory


def test_fit_measures_before_it_estimates_and_forgets_replaced_weights(desk, shelf, models, monkeypatch):
    weights_file(models / "a.safetensors", SD15)
    fit = shelf._fit
    gib = 1 << 30
    monkeypatch.setattr(fit, "machine", lambda source="local": Machine("cpu", "processor", 8 * gib, 6 * gib, 8 * gib))
    answer = shelf.fit("a.safetensors")
    assert (answer["fits"], answer["basis"], answer["width"]) == ("yes", "estimated", 512)
    parts = answer["parts"]
    moving = {name: parts.pop(name) for name in ("loading", "denoising", "decoding")}
    assert answer["needBytes"] == sum(parts.values()) + max(moving.values())
    stamp = desk.local_models.models()["a.safetensors"].stamp
    facts = {
        "model": "a.safetensors",
        "stamp": stamp,
        "device": "cpu",
        "precision": "fp32",
        "width": 512,
        "height": 512,
    }
    fit.learn({**facts, "peakBytes": 5 * gib})
    fit.learn({**facts, "peakBytes": 4 * gib})
    assert shelf.fit("a.safetensors")["needBytes"] == 5 * gib, "the most it needed counts"
    assert shelf.fit("a.safetensors")["basis"] == "measured"
    large = shelf.fit("a.safetensors", width=1024, height=1024, batch=4)
    assert large["basis"] == "estimated" and large["needBytes"] > 8 * gib and large["fits"] == "no"
    assert "512 × 512" in large["detail"] and any("would fit" in text for text in large["advice"])
    assert any("one after another" in text for text in large["advice"])
    monkeypatch.setattr(fit, "machine", lambda source="local": Machine("cpu", "processor", 8 * gib, 3 * gib, 8 * gib))
    tight = shelf.fit("a.safetensors")
    assert tight["fits"] == "tight" and "Close other programs" in tight["advice"][0]
    weights_file(models / "a.safetensors", SD15, fill=9)
    assert shelf.fit("a.safetensors")["basis"] == "estimated"
    fit.learn({"peakBytes": "many"})  # never raises
    with pytest.raises(NotFound):
        shelf.fit("nothing")


def test_a_card_that_is_too_small_takes_the_parts_in_turn(shelf, models, monkeypatch):
    weights_file(models / "a.safetensors", SD15)
    gib = 1 << 30
    card = Machine("cuda", "card", 4 * gib, 4 * gib, 64 * gib)
    monkeypatch.setattr(shelf._fit, "machine", lambda source="local": card)
    monkeypatch.setattr(shelf._fit, "_count", lambda entry: {"denoiser": 0.6e9, "encoders": 1.5e9, "vae": 0.05e9})
    answer = shelf.fit("a.safetensors")
    assert answer["precision"] == "bf16" and answer["parts"]["denoiser"] == int(1.2e9)
    assert answer["fits"] == "tight" and "take turns" in answer["advice"][0] or "layer by layer" in answer["advice"][0]


def test_peaks_are_kept_per_model_and_size(desk, shelf):
    store = shelf._store
    for width, peak in ((512, 10), (512, 8), (256, 4)):
        store.save_peak(Peak(model="m", device="cpu", precision="fp32", width=width, height=width, peak_bytes=peak, stamp="s"))  # fmt: skip
    assert sorted((p.width, p.peak_bytes) for p in store.peaks("m")) == [(256, 4), (512, 10)]
    store.save_peak(Peak(model="m", device="cpu", precision="fp32", width=512, height=512, peak_bytes=8, stamp="other"))
    assert sorted((p.width, p.peak_bytes) for p in store.peaks("m")) == [(256, 4), (512, 8)]


# ---------------------------------------------------------------- coming in


def upload(desk, name, data):
    up = desk.uploads.create(name, len(data))
    desk.uploads.append(up.id, 0, io.BytesIO(data).read)
    return up.id


def test_an_upload_lands_where_its_header_says(desk, shelf, models, loras, tmp_path):
    for name, tensors, kind, where in (
        ("new.safetensors", SD15, "model", models / "new.safetensors"),
        ("ae.safetensors", VAE, "vae", models / "vae" / "ae.safetensors"),
        ("style.safetensors", LORA, "lora", loras / "style.safetensors"),
    ):
        data = weights_file(tmp_path / name, tensors).read_bytes()
        id = upload(desk, name, data)
        job = done(desk, shelf.files.add(id))
        assert job.result["kind"] == kind and where.read_bytes() == data
        with pytest.raises(NotFound):
            desk.uploads.get(id)
        with pytest.raises(Conflict):
            shelf.files.add(upload(desk, name, data))
    assert {"new.safetensors", "vae/ae.safetensors", "style"} <= rows(shelf).keys()


def test_adding_that_was_cut_off_is_finished_by_the_next_attempt(desk, shelf, models, loras, tmp_path, monkeypatch):
    for name, tensors, where in (("new", SD15, models), ("style", LORA, loras)):
        data = weights_file(tmp_path / f"{name}.safetensors", tensors).read_bytes()
        id = upload(desk, f"{name}.safetensors", data)
        context = SimpleNamespace(job=SimpleNamespace(id=f"job_1_{name}", attempt=1), progress=lambda *a: None)
        with monkeypatch.context() as patch:  # the process ends after the file is in place
            patch.setattr(desk.uploads, "keep_outcome", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                shelf.files.run_add(context, {"upload_id": id})
        assert (where / f"{name}.safetensors").read_bytes() == data
        context.job.attempt = 2
        assert shelf.files.run_add(context, {"upload_id": id})["name"].startswith(name)
        assert len(list(where.glob(f"{name}*.safetensors"))) == 1
        with pytest.raises(NotFound):
            desk.uploads.get(id)
        assert shelf.files.run_add(context, {"upload_id": id})["name"].startswith(name), "and the answer stays"


def test_an_upload_that_is_no_weights_never_lands(desk, shelf, models, tmp_path):
    whole = weights_file(tmp_path / "w.safetensors", SD15).read_bytes()
    for name, data, words in (
        ("cut.safetensors", whole[:-10], "cut off"),
        ("page.safetensors", b"<html>not found</html>", "web page"),
        ("model.ckpt", b"\x80\x02}.", "no .safetensors file"),
        ("x.safetensors", weights_file(tmp_path / "o.safetensors", {"a": (2, 2)}).read_bytes(), "neither"),
    ):
        with pytest.raises(InvalidInput, match=words) as caught:
            shelf.files.add(upload(desk, name, data))
        assert "upload_" not in caught.value.detail
    assert [p.name for p in models.glob("**/*") if p.is_file()] == []


def test_conversion_needs_the_setting_and_a_pickle(desk, shelf, models, loras):
    (models / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    weights_file(models / "a.safetensors", SD15)
    found = rows(shelf)
    with pytest.raises(NotConfigured, match="switched off"):
        shelf.files.convert(found["old.ckpt"]["id"])
    desk.settings.change({"pickleWeights": True})
    assert rows(shelf)["old.ckpt"]["remedy"].startswith("Convert it")
    with pytest.raises(InvalidInput):
        shelf.files.convert(found["a.safetensors"]["id"])
    weights_file(models / "old.safetensors", SD15)
    with pytest.raises(Conflict):
        shelf.files.convert(found["old.ckpt"]["id"])
