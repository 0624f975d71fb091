"""The built-in engine with the real starter model in its real child process."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dalla.engines.images.builtin import BuiltinEngine  # noqa: E402
from dalla.errors import Cancelled, DallaError, InvalidInput, NotConfigured, StorageError, UpstreamError  # noqa: E402
from dalla.records.character import LoraUse  # noqa: E402
from dalla.records.image import ImageRequest, UpscaleRequest  # noqa: E402
from dalla.settings import ROOT  # noqa: E402

LUNA = ROOT / "tests" / "data" / "luna_lora.safetensors"


class Recorder:
    """A report that remembers, and does something at a given step."""

    def __init__(self, at_step: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.steps: list[tuple[float, float, str]] = []
        self.previews: list[bytes] = []
        self.cancelled = threading.Event()
        self._at, self._then = at_step, then

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.steps.append((done, total, message))
        if self._at is not None and message.startswith(f"Step {self._at} "):
            self._at = None
            if self._then:
                self._then()
            else:
                self.cancelled.set()
        self.check_cancelled()

    def preview(self, image: bytes, mime: str) -> None:
        self.previews.append(image)

    def check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled("Cancelled.")


def make_settings(root: Path, **changes: Any) -> Any:
    for name in ("models", "loras"):
        (root / name).mkdir(exist_ok=True)
    values = {
        "models_dir": root / "models", "loras_dir": root / "loras", "data_dir": root / "data", "device": "auto",
        "precision": "auto", "engine_idle_minutes": 10.0, "model_families": {},
    }  # fmt: skip
    return SimpleNamespace(**(values | changes))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = make_settings(tmp_path_factory.mktemp("builtin"), device="cpu")
    shutil.copy(LUNA, settings.loras_dir / "luna.safetensors")
    return settings


@pytest.fixture(scope="module")
def engine(settings: Any) -> Iterator[BuiltinEngine]:
    engine = BuiltinEngine(settings)
    yield engine
    engine.close()


def request(**changes: Any) -> ImageRequest:
    values: dict[str, Any] = {
        "prompt": "a woman with long red hair, smiling, blue background", "negative_prompt": "", "model": "starter",
        "family": "sd15", "width": 128, "height": 128, "steps": 8, "seed": 7, "sampler": "uni_pc", "scheduler": "normal",
        "cfg_scale": 4.0,
    }  # fmt: skip
    return ImageRequest(**(values | changes))


def mean_colour(png: bytes, box: tuple[int, int, int, int]) -> tuple[int, int, int]:
    return Image.open(io.BytesIO(png)).convert("RGB").crop(box).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[return-value]


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_engine_side_imports_no_torch() -> None:
    code = "import sys, dalla.engines.images.builtin; print([m for m in ('torch', 'diffusers', 'PIL') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_starter_is_listed_with_its_limits_and_is_the_default(engine: BuiltinEngine) -> None:
    (starter,) = engine.models()
    assert (starter.name, starter.family, starter.native_size, starter.max_size) == ("starter", "sd15", 128, 256)
    assert starter.default
    assert "cartoon" in (starter.note or "")
    assert starter.size_bytes == sum(f.stat().st_size for f in (ROOT / "models/starter").glob("*/*.safetensors"))


def test_prompt_is_followed_and_the_result_says_how_it_was_made(engine: BuiltinEngine) -> None:
    report = Recorder()
    result = engine.generate(request(), report)
    (png,) = result.images
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (128, 128))
    red, green, blue = mean_colour(png, (2, 2, 20, 60))  # the upper left corner is background
    assert blue > red + 40 and blue > green + 20
    assert (result.device, result.precision) == ("cpu", "fp32")
    assert len(result.model_sha256 or "") == 64
    assert {"torch", "diffusers"} <= set(result.engine_versions)
    assert report.steps[-1][0] == report.steps[-1][1]  # progress reached the end
    fractions = [done / total for done, total, _ in report.steps]
    assert fractions == sorted(fractions)
    assert any(message == "Step 8 of 8" for _, _, message in report.steps)


def test_same_seed_same_bytes_and_each_of_a_batch_alone(engine: BuiltinEngine) -> None:
    batch = engine.generate(request(batch_size=3, seed=100), Recorder()).images
    assert len({bytes(png) for png in batch}) == 3
    assert engine.generate(request(seed=101), Recorder()).images == [batch[1]]
    assert engine.generate(request(seed=102), Recorder()).images == [batch[2]]


def test_start_picture_shows_through(engine: BuiltinEngine) -> None:
    out = io.BytesIO()
    Image.new("RGB", (200, 150), (240, 220, 20)).save(out, "PNG")
    result = engine.generate(request(init_image=out.getvalue(), denoise=0.3, prompt="a woman"), Recorder())
    red, green, blue = mean_colour(result.images[0], (0, 0, 128, 40))
    assert red > blue + 60 and green > blue + 60


def test_luna_lora_gives_luna_her_hair(engine: BuiltinEngine) -> None:
    prompt = "luna_character, a woman, smiling, gray background"
    plain = engine.generate(request(prompt=prompt, steps=12, seed=2), Recorder())
    luna = engine.generate(request(prompt=prompt, steps=12, seed=2, loras=(LoraUse(name="luna"),)), Recorder())
    assert luna.notes == []
    assert list(luna.lora_sha256) == ["luna"]
    assert luna.images != plain.images
    half = engine.generate(
        request(prompt=prompt, steps=12, seed=2, loras=(LoraUse(name="luna", strength=0.5),)), Recorder()
    )
    assert half.images not in (luna.images, plain.images)
    assert engine.generate(request(prompt=prompt, steps=12, seed=2), Recorder()).images == plain.images


def test_cancel_between_steps_and_the_engine_goes_on(engine: BuiltinEngine) -> None:
    engine.generate(request(), Recorder())
    pid = engine.status().detail["pid"]
    report = Recorder(at_step=3)
    with pytest.raises(Cancelled):
        engine.generate(request(steps=500), report)
    assert len(report.steps) < 50
    engine.generate(request(), Recorder())
    assert engine.status().detail["pid"] == pid  # the warm process was kept


def test_killed_child_is_one_clear_error_and_the_next_call_works(engine: BuiltinEngine) -> None:
    first = engine.generate(request(), Recorder())
    pid = engine.status().detail["pid"]
    report = Recorder(at_step=2, then=lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(UpstreamError, match="killed") as caught:
        engine.generate(request(steps=500), report)
    assert caught.value.kind == "retry"
    assert not engine.status().detail["running"]
    assert engine.generate(request(), Recorder()).images == first.images


def test_status_tells_what_is_held(engine: BuiltinEngine) -> None:
    engine.generate(request(), Recorder())
    detail = engine.status().detail
    assert detail["running"] and detail["model"] == "starter" and detail["device"] == "cpu"
    assert detail["memoryBytes"] > 100_000_000
    assert detail["idleSeconds"] >= 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "nothing.safetensors"}, "model"),
        ({"model": "../starter"}, "model"),
        ({"model": "/etc/passwd"}, "model"),
        ({"width": 120}, "width"),
        ({"height": 512}, "height"),
        ({"sampler": "lms"}, "sampler"),
        ({"sampler": "euler_ancestral", "scheduler": "karras"}, "scheduler"),
        ({"loras": (LoraUse(name="nobody"),)}, "loras"),
        ({"loras": (LoraUse(name="../luna"),)}, "loras"),
        ({"steps": 0}, "steps"),
        ({"init_image": b"x", "denoise": 0.0}, "denoise"),
    ],
    ids=str,
)
def test_what_cannot_work_is_said_before_anything_starts(settings: Any, changes: dict[str, Any], field: str) -> None:
    engine = BuiltinEngine(settings)
    with pytest.raises(InvalidInput) as caught:
        engine.check(request(**changes))
    assert caught.value.errors[0]["field"] == field
    with pytest.raises(InvalidInput):
        engine.generate(request(**changes), Recorder())
    assert not engine.status().detail["running"]


def test_broken_start_picture_is_refused(engine: BuiltinEngine) -> None:
    with pytest.raises(InvalidInput, match="start picture"):
        engine.generate(request(init_image=b"not a picture", denoise=0.5), Recorder())


def test_lora_for_another_family_is_named(settings: Any, engine: BuiltinEngine) -> None:
    shutil.copy(LUNA, settings.loras_dir / "other.safetensors")
    (settings.loras_dir / "other.json").write_text('{"family": "sdxl", "triggerWord": "zed"}')
    assert {lora.name: lora.trigger_word for lora in engine.loras()}["other"] == "zed"
    with pytest.raises(InvalidInput, match=r"'other' was made for Stable Diffusion XL"):
        engine.check(request(loras=(LoraUse(name="other"),)))


def test_damaged_lora_and_damaged_model_are_named(settings: Any, tmp_path: Path) -> None:
    mine = make_settings(tmp_path, device="cpu")
    shutil.copytree(ROOT / "models/starter", mine.models_dir / "mine")
    (mine.models_dir / "mine/unet/diffusion_pytorch_model.safetensors").write_bytes(b"cut off")
    (mine.models_dir / "half.safetensors").write_bytes(b"cut off")
    (mine.loras_dir / "bad.safetensors").write_bytes(LUNA.read_bytes()[:2000])
    engine = BuiltinEngine(mine)
    try:
        with pytest.raises(StorageError, match="mine"):
            engine.generate(request(model="mine"), Recorder())
        with pytest.raises(NotConfigured, match="half"):
            engine.check(request(model="half.safetensors"))
        with pytest.raises(DallaError, match="bad"):
            engine.generate(request(loras=(LoraUse(name="bad"),)), Recorder())
        engine.generate(request(), Recorder())  # and what is whole still works
    finally:
        engine.close()


def test_own_models_come_first_and_a_family_can_be_set_by_hand(tmp_path: Path) -> None:
    mine = make_settings(tmp_path, model_families={"odd": "sd15"})
    shutil.copytree(ROOT / "models/starter", mine.models_dir / "sub" / "mine")
    shutil.copytree(ROOT / "models/starter", mine.models_dir / "odd")
    index = mine.models_dir / "odd" / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "SomethingPipeline"))
    models = {m.name: m for m in BuiltinEngine(mine).models()}
    assert set(models) == {"sub/mine", "odd", "starter"}
    assert not models["starter"].default
    assert sum(m.default for m in models.values()) == 1
    assert models["sub/mine"].native_size == 128
    assert models["odd"].family == "sd15"
    mine.model_families = {}
    assert {m.name: m.family for m in BuiltinEngine(mine).models()}["odd"] is None


def test_flux_file_names_the_parts_it_lacks(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    numpy = pytest.importorskip("numpy")
    mine = make_settings(tmp_path)
    zeros = numpy.zeros((1, 1), numpy.float32)
    save_file({"double_blocks.0.img_attn.qkv.weight": zeros, "img_in.weight": zeros}, mine.models_dir / "f.safetensors")
    engine = BuiltinEngine(mine)
    flux = request(model="f.safetensors", family="flux", sampler="euler", width=512, height=512)
    with pytest.raises(NotConfigured) as caught:
        engine.check(flux)
    for part in ("tokenizers/t5/tokenizer.json", "text_encoders/clip_l", "text_encoders/t5xxl", "vae/ae"):
        assert part in caught.value.detail
    for part in (
        "tokenizers/t5/tokenizer.json",
        "text_encoders/clip_l.safetensors",
        "text_encoders/t5xxl_fp16.safetensors",
    ):
        (mine.models_dir / part).parent.mkdir(parents=True, exist_ok=True)
        (mine.models_dir / part).write_text("{}")
    with pytest.raises(NotConfigured, match=r"lacks parts: vae/ae\.safetensors\."):
        engine.check(flux)


def test_closing_while_drawing_is_a_cancel_and_leaves_no_process(settings: Any) -> None:
    engine = BuiltinEngine(settings)
    pids: list[int] = []

    def close() -> None:
        pids.append(engine.status().detail["pid"])
        engine.close()

    with pytest.raises(Cancelled):
        engine.generate(request(steps=500), Recorder(at_step=2, then=close))
    wait_until(lambda: not psutil.pid_exists(pids[0]))


def test_idle_process_is_ended(settings: Any) -> None:
    short = SimpleNamespace(**(vars(settings) | {"engine_idle_minutes": 0.002}))
    engine = BuiltinEngine(short)
    try:
        pids: list[int] = []
        engine.generate(request(), Recorder(at_step=2, then=lambda: pids.append(engine.status().detail["pid"])))
        wait_until(lambda: not engine.status().detail["running"] and not psutil.pid_exists(pids[0]))
        engine.generate(request(), Recorder())
    finally:
        engine.close()
    assert not engine.status().detail["running"]


def test_child_ends_with_its_parent(settings: Any) -> None:
    code = f"""
import sys, time
from types import SimpleNamespace
from pathlib import Path
from dalla.engines.images.child import Child
child = Child(Path({str(settings.data_dir)!r}) / "logs" / "orphan.log")
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_upscale_enlarges_without_a_process(settings: Any) -> None:
    engine = BuiltinEngine(settings)
    out = io.BytesIO()
    Image.effect_noise((40, 30), 60).convert("RGB").save(out, "PNG")
    result = engine.upscale(UpscaleRequest(out.getvalue(), factor=2.5), Recorder())
    assert Image.open(io.BytesIO(result.images[0])).size == (100, 75)
    assert not engine.status().detail["running"]
    with pytest.raises(InvalidInput):
        engine.upscale(UpscaleRequest(out.getvalue(), factor=9), Recorder())
    with pytest.raises(InvalidInput):
        engine.upscale(UpscaleRequest(out.getvalue(), model="RealESRGAN"), Recorder())
