"""The ComfyUI engine as the services see it: lists, checks before queueing, pictures, enlargements."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from dalla.engines.images.comfyui import ComfyUIEngine
from dalla.errors import DallaError, InvalidInput, NotConfigured, Unavailable
from dalla.records.character import LoraUse
from dalla.records.image import UpscaleRequest
from tests.engines.comfy_kit import Report, request, settings_for
from tests.fakes import comfy_draw
from tests.fakes.comfyui import ComfyFake

Make = Callable[..., ComfyUIEngine]


@pytest.fixture
def fake() -> Iterator[ComfyFake]:
    with ComfyFake() as server:
        yield server


@pytest.fixture
def make(fake: ComfyFake, tmp_path: Path) -> Iterator[Make]:
    made: list[ComfyUIEngine] = []

    def engine(url: str | None = None, **more: Any) -> ComfyUIEngine:
        made.append(ComfyUIEngine(settings_for(url or fake.url, tmp_path, **more)))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def same(a: bytes, b: bytes) -> bool:
    return ImageChops.difference(opened(a), opened(b)).getbbox() is None


def png(width: int, height: int, color: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), color).save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- what there is


def test_status_says_version_and_device(make: Make) -> None:
    status = make().status()
    assert status.available
    assert status.detail["version"] == "0.33.0" and status.detail["device"] == "cpu"


def test_off_is_a_reason_with_a_remedy_and_empty_lists(make: Make) -> None:
    engine = make("http://127.0.0.1:9")
    status = engine.status()
    assert not status.available and "127.0.0.1:9" in (status.reason or "") and "COMFYUI_URL" in (status.remedy or "")
    assert engine.models() == [] and engine.loras() == []
    assert engine.options() == {"samplers": [], "schedulers": [], "upscalers": []}
    with pytest.raises(Unavailable):
        engine.check(request())
    with pytest.raises(Unavailable):
        engine.generate(request(), Report())


def test_status_is_remembered_for_seconds_and_asked_again_when_fresh(fake: ComfyFake, make: Make) -> None:
    engine = make()
    for _ in range(5):
        engine.status()
    assert len(fake.calls("GET", "/system_stats")) == 1
    fake.die()
    assert engine.status().available
    assert not engine.status(fresh=True).available


def test_a_changed_address_takes_effect_at_once(fake: ComfyFake, make: Make) -> None:
    engine = make("http://127.0.0.1:9")
    assert not engine.status().available
    engine._settings.comfyui_url = fake.url
    assert engine.status().available


def test_the_server_is_asked_for_its_memory(fake: ComfyFake, make: Make) -> None:
    engine = make()
    engine.generate(request(), Report())
    assert engine.free_memory() is True
    (asked,) = fake.calls("POST", "/free")
    assert asked.json == {"unload_models": True, "free_memory": True}
    assert not fake._cache


def test_a_server_that_is_not_there_or_refuses_is_passed_over(fake: ComfyFake, make: Make) -> None:
    assert make(comfyui_url="").free_memory() is False
    assert make("http://127.0.0.1:9").free_memory() is False
    fake.fail_next("/free", 500)
    assert make().free_memory() is False


def test_models_have_the_family_their_names_say(make: Make) -> None:
    families = {m.name: (m.family, m.kind) for m in make().models()}
    assert families == {
        "sd15.safetensors": ("sd15", "checkpoint"),
        "sdxl.safetensors": ("sdxl", "checkpoint"),
        "sd3.safetensors": ("sd3", "checkpoint"),
        "flux1-dev-fp8.safetensors": ("flux", "checkpoint"),
        "flux1-dev.safetensors": ("flux", "diffusion_model"),
    }


def test_the_users_word_about_a_family_wins(fake: ComfyFake, make: Make) -> None:
    fake.add_model("some/sdxl_mystery.safetensors", "sd15")
    engine = make(model_families={"some\\sdxl_mystery.safetensors": "sd15"})
    assert {m.name: m.family for m in engine.models()}["some/sdxl_mystery.safetensors"] == "sd15"


def test_options_are_the_servers(make: Make) -> None:
    options = make().options()
    assert "dpmpp_2m" in options["samplers"] and "karras" in options["schedulers"]
    assert options["upscalers"] == ["lanczos", "2x-plain.safetensors"]


# ---------------------------------------------------------------- check


def why(engine: ComfyUIEngine, **more: Any) -> DallaError:
    with pytest.raises(DallaError) as caught:
        engine.check(request(**more))
    assert caught.value.remedy or caught.value.errors
    return caught.value


def test_a_good_request_passes_and_queues_nothing(fake: ComfyFake, make: Make) -> None:
    make().check(request(loras=(LoraUse(name="style_sd15.safetensors"),), init_image=png(8, 8), denoise=0.5))
    assert not fake.calls("POST", "/prompt") and not fake.calls("POST", "/upload/image")


def test_a_missing_model_is_named_with_its_folder(make: Make) -> None:
    error = why(make(), model="nope.safetensors")
    assert isinstance(error, InvalidInput) and error.errors[0]["field"] == "model"
    assert "nope.safetensors" in error.detail and "models/checkpoints" in (error.remedy or "")


def test_a_missing_lora_is_named(make: Make) -> None:
    error = why(make(), loras=(LoraUse(name="nobody.safetensors"),))
    assert error.errors[0]["field"] == "loras" and "nobody.safetensors" in error.detail


def test_a_lora_of_another_family_is_refused_by_its_metadata(fake: ComfyFake, make: Make) -> None:
    error = why(make(), loras=(LoraUse(name="style_sdxl.safetensors"),))
    assert error.errors[0]["field"] == "loras" and "style_sdxl" in error.detail


@pytest.mark.parametrize("field", ["sampler", "scheduler"])
def test_an_unknown_sampler_or_scheduler_is_refused(make: Make, field: str) -> None:
    error = why(make(), **{field: "magic"})
    assert error.errors[0]["field"] == field and "magic" in error.detail


def test_a_node_the_server_lacks_is_named(fake: ComfyFake, make: Make) -> None:
    fake.disabled_nodes.add("KSampler")
    assert "KSampler" in why(make()).detail


@pytest.mark.parametrize(
    ("folder", "gone", "file", "where"),
    [
        ("text_encoders", "t5xxl_fp16.safetensors", "t5xxl", "models/text_encoders"),
        ("text_encoders", "clip_l.safetensors", "clip_l", "models/text_encoders"),
        ("vae", "ae.safetensors", "ae.safetensors", "models/vae"),
    ],
)
def test_flux_in_parts_names_the_part_that_is_missing(
    fake: ComfyFake, make: Make, folder: str, gone: str, file: str, where: str
) -> None:
    (fake.root / "models" / folder / gone).unlink()
    error = why(make(), model="flux1-dev.safetensors", family="flux", cfg_scale=None, guidance=3.5)
    assert file in (error.remedy or "") and where in (error.remedy or "")


@pytest.mark.parametrize("size", [{"width": 16384, "height": 16384}, {"width": 4096, "height": 4096, "batch_size": 64}])
def test_a_size_that_would_end_the_server_is_refused(make: Make, size: dict[str, int]) -> None:
    assert isinstance(why(make(), **size), InvalidInput)


# ---------------------------------------------------------------- pictures


FAMILY_REQUESTS: list[dict[str, Any]] = [
    {},
    {"model": "sdxl.safetensors", "family": "sdxl"},
    {"model": "sd3.safetensors", "family": "sd3"},
    {"model": "flux1-dev.safetensors", "family": "flux", "cfg_scale": None, "guidance": 3.5, "negative_prompt": ""},
    {"model": "flux1-dev-fp8.safetensors", "family": "flux", "cfg_scale": None, "guidance": 3.5, "negative_prompt": ""},
]


@pytest.mark.parametrize("jobs_api", [False, True])
@pytest.mark.parametrize("more", FAMILY_REQUESTS, ids=["sd15", "sdxl", "sd3", "flux in parts", "flux in one"])
def test_every_family_draws(tmp_path: Path, jobs_api: bool, more: dict[str, Any]) -> None:
    with ComfyFake(jobs_api=jobs_api) as fake:
        engine = ComfyUIEngine(settings_for(fake.url, tmp_path))
        engine.check(request(**more))
        result = engine.generate(request(batch_size=2, **more), Report())
        engine.close()
    assert [opened(p).size for p in result.images] == [(64, 96), (64, 96)]
    assert result.seeds == [5, 6]
    assert not same(*result.images)
    assert result.engine_versions["comfyui"] == ("0.33.0" if jobs_api else "0.3.64")
    assert "prompt" in Image.open(io.BytesIO(result.images[0])).info  # the bytes as they came, chunks and all


def test_each_picture_of_a_batch_can_be_made_again_alone(make: Make) -> None:
    engine = make()
    batch = engine.generate(request(batch_size=3), Report())
    again = engine.generate(request(seed=batch.seeds[2]), Report())
    assert same(batch.images[2], again.images[0])


def test_the_same_order_twice_gives_the_same_picture_again(fake: ComfyFake, make: Make) -> None:
    """Nothing runs the second time; the files are distinct all the same, so deleting one harms nobody."""
    engine = make()
    first, second = (engine.generate(request(), Report()) for _ in range(2))
    assert same(first.images[0], second.images[0])
    assert len(list((fake.root / "output" / "dalla").iterdir())) == 2


def test_a_file_deleted_before_it_was_fetched_is_made_again(fake: ComfyFake, make: Make) -> None:
    fake.fail_next("/view", 404)
    result = make().generate(request(), Report())
    assert opened(result.images[0]).size == (64, 96)
    assert len(fake.calls("POST", "/prompt")) == 2


def test_loras_change_the_picture_in_their_order_and_strength(fake: ComfyFake, make: Make) -> None:
    fake.add_lora("people/mia.safetensors")
    engine = make()
    plain = engine.generate(request(), Report()).images[0]
    luna, mia = LoraUse(name="style_sd15.safetensors", strength=0.8), LoraUse(name="people/mia.safetensors")
    one = engine.generate(request(loras=(luna,)), Report()).images[0]
    both = engine.generate(request(loras=(luna, mia)), Report()).images[0]
    assert not same(plain, one) and not same(one, both)


def test_a_lora_kept_here_is_put_on_the_server(fake: ComfyFake, make: Make, tmp_path: Path) -> None:
    own_lora(tmp_path)
    engine = make(comfyui_lora_dir=fake.loras_dir)
    assert "luna" in {lora.name.removesuffix(".safetensors") for lora in engine.loras()}
    plain = engine.generate(request(), Report())
    result = engine.generate(request(loras=(LoraUse(name="luna"),)), Report())
    assert not same(plain.images[0], result.images[0])
    assert len(result.lora_sha256["luna"]) == 64


def test_a_lora_folder_the_server_does_not_read_is_told(make: Make, tmp_path: Path) -> None:
    own_lora(tmp_path)
    error = why(make(comfyui_lora_dir=tmp_path / "elsewhere"), loras=(LoraUse(name="luna"),))
    assert "elsewhere" in error.detail and "COMFYUI_LORA_DIR" in (error.remedy or "")


def own_lora(root: Path) -> None:
    (root / "loras").mkdir()
    (root / "loras" / "luna.safetensors").write_bytes(comfy_draw.lora_file("sd15", "kohya"))


def test_a_model_on_this_disk_is_hashed_beside_the_drawing(fake: ComfyFake, make: Make) -> None:
    engine = make(comfyui_lora_dir=fake.loras_dir)
    wanted = hashlib.sha256((fake.root / "models" / "checkpoints" / "sd15.safetensors").read_bytes()).hexdigest()
    found = None
    for seed in range(20):  # known from a later picture on
        found = found or engine.generate(request(seed=seed), Report()).model_sha256
    assert found == wanted
    assert make().generate(request(), Report()).model_sha256 is None


@pytest.mark.parametrize(("family", "model"), [("flux", "flux1-dev.safetensors"), ("sd3", "sd3.safetensors")])
@pytest.mark.parametrize(("seen", "layers"), [(True, "model"), (True, "text"), (False, "model")])
def test_the_prompt_is_read_anew_only_for_a_lora_that_may_change_its_reader(
    fake: ComfyFake, make: Make, family: str, model: str, seen: bool, layers: str
) -> None:
    """A text encoder behind a LoRA reads the text for each strength; T5 takes a minute for it on a CPU."""
    file = fake.add_lora("mia.safetensors", family)
    if layers == "text":
        key = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_"
        ends = {"down": [2, 768], "up": [768, 2]}
        rows = {f"{key}{end}.weight": ("F32", shape, b"\x3c" * 6144) for end, shape in ends.items()}
        file.write_bytes(comfy_draw.safetensors(rows))
    engine = make(comfyui_lora_dir=fake.loras_dir) if seen else make()
    more: dict[str, Any] = {"model": model, "family": family, "negative_prompt": "", "cfg_scale": None}
    engine.generate(request(loras=(LoraUse(name=file.name),), **more), Report())
    graph = fake.calls("POST", "/prompt")[0].json["prompt"]
    behind = layers == "text" or not seen
    assert graph["lora0"]["class_type"] == ("LoraLoader" if behind else "LoraLoaderModelOnly")
    assert (graph["positive"]["inputs"]["clip"] == ["lora0", 1]) is behind


def test_names_are_sent_in_the_servers_spelling(fake: ComfyFake, make: Make) -> None:
    fake.add_model("SD/small.safetensors", "sd15")
    fake.add_lora("people/mia.safetensors")
    use = LoraUse(name="people\\mia.safetensors")
    make().generate(request(model="SD\\small.safetensors", loras=(use,)), Report())
    graph = fake.calls("POST", "/prompt")[0].json["prompt"]
    inputs = [n["inputs"] for n in graph.values()]
    assert {i["ckpt_name"] for i in inputs if "ckpt_name" in i} == {"SD/small.safetensors"}
    assert {i["lora_name"] for i in inputs if "lora_name" in i} == {"people/mia.safetensors"}


def test_img2img_uploads_the_picture_and_keeps_some_of_it(fake: ComfyFake, make: Make) -> None:
    engine = make()
    start = png(64, 96)
    little = engine.generate(request(init_image=start, denoise=0.1), Report()).images[0]
    whole = engine.generate(request(init_image=start, denoise=1.0), Report()).images[0]
    assert opened(little).getpixel((60, 90))[0] > 180  # still mostly red
    assert not same(little, whole)
    assert len(list((fake.root / "input" / "dalla").iterdir())) == 1  # the same picture is stored once


def test_the_prompt_carries_our_job_id(fake: ComfyFake, make: Make) -> None:
    report = Report()
    report.job = type("Job", (), {"id": "job_7"})()  # type: ignore[attr-defined]
    make().generate(request(), report)
    body = fake.calls("POST", "/prompt")[0].json
    assert "job_7" in json.dumps(body["extra_data"])
    assert body["prompt_id"] == body["prompt_id"].lower()


def test_two_prompts_never_share_a_file_name(fake: ComfyFake, make: Make) -> None:
    engine = make()
    engine.generate(request(), Report())
    engine.generate(request(seed=9), Report())
    prefixes = [r.json["prompt"]["save0"]["inputs"]["filename_prefix"] for r in fake.calls("POST", "/prompt")]
    assert len(set(prefixes)) == 2 and all(p.startswith("dalla/") for p in prefixes)


def test_a_proxy_with_a_login_asks_for_headers(fake: ComfyFake, make: Make) -> None:
    fake.fail_next("/prompt", 401, body="<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(NotConfigured) as caught:
        make().generate(request(), Report())
    assert "COMFYUI_HEADERS" in (caught.value.remedy or "")


# ---------------------------------------------------------------- enlarging


@pytest.mark.parametrize(
    ("model", "factor"), [(None, 1.5), ("lanczos", 2.0), ("2x-plain.safetensors", 2.0), ("2x-plain.safetensors", 3.0)]
)
def test_enlarging_gives_the_size_asked_for(make: Make, model: str | None, factor: float) -> None:
    result = make().upscale(UpscaleRequest(png(40, 60), factor, model), Report())
    assert opened(result.images[0]).size == (round(40 * factor), round(60 * factor))


def test_an_unknown_upscaler_is_named_with_its_folder(make: Make) -> None:
    with pytest.raises(InvalidInput) as caught:
        make().upscale(UpscaleRequest(png(40, 60), 2.0, "nope.pth"), Report())
    assert "nope.pth" in caught.value.detail and "upscale_models" in (caught.value.remedy or "")


def test_a_result_beyond_all_bounds_is_refused(make: Make) -> None:
    with pytest.raises(DallaError):
        make().upscale(UpscaleRequest(png(3000, 3000), 8.0, None), Report())


def test_a_lora_the_server_skips_is_said_when_its_file_cannot_be_seen(make: Make, fake: ComfyFake) -> None:
    """Without the server's folder nothing tells it before; the server's log does afterwards, and it is remembered."""
    fake.add_lora("foreign.safetensors", "sd15", "peft")
    engine = make()
    uses = (LoraUse(name="foreign.safetensors", strength=1.0),)
    first = engine.generate(request(loras=uses), Report())
    assert any("skipped" in note and "COMFYUI_LORA_DIR" in note for note in first.notes)
    second = engine.generate(request(loras=uses, seed=99), Report())
    assert second.notes == first.notes
    (lora,) = [one for one in engine.loras() if one.name == "foreign.safetensors"]
    assert lora.note and "skipped" in lora.note
    fine = engine.generate(request(loras=(LoraUse(name="style_sd15.safetensors"),)), Report())
    assert fine.notes == []
