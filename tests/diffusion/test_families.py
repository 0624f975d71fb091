"""Every family really loads, draws and takes LoRAs, through the engine and its child process."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image, ImageChops  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from dalla.diffusion.families import families, family  # noqa: E402
from dalla.diffusion.sampling import build_scheduler  # noqa: E402
from dalla.engines.images.builtin import BuiltinEngine  # noqa: E402
from dalla.errors import InvalidInput, NotConfigured  # noqa: E402
from dalla.records.character import LoraUse  # noqa: E402
from dalla.records.family import SAMPLERS, SCHEDULERS  # noqa: E402
from dalla.records.image import ImageRequest, ImageResult  # noqa: E402
from dalla.records.sampling import BUILTIN  # noqa: E402
from tests.diffusion import tiny  # noqa: E402

# diffusers builds its schedulers with NumPy calls that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NAMES = ["sd15", "sdxl", "sd3", "flux"]


class Silent:
    def progress(self, done: float, total: float, message: str = "") -> None: ...
    def preview(self, image: bytes, mime: str) -> None: ...
    def check_cancelled(self) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("families")
    for name in NAMES:
        tiny.save(name, root / "models")
    (root / "loras").mkdir()
    return root


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    settings = SimpleNamespace(
        models_dir=folder / "models", loras_dir=folder / "loras", data_dir=folder / "data", device="cpu", precision="fp32",
        engine_idle_minutes=10.0, model_families={},
    )  # fmt: skip
    engine = BuiltinEngine(settings)
    yield engine
    engine.close()


def draw(engine: BuiltinEngine, name: str, **changes: Any) -> ImageResult:
    flux = name == "flux"
    values: dict[str, Any] = {
        "prompt": "a cat on a mat", "negative_prompt": "" if flux else "a dog", "model": f"tiny-{name}", "family": name,
        "width": 64, "height": 48, "steps": 2, "seed": 5, "sampler": "euler", "scheduler": "normal",
        "cfg_scale": None if flux else 3.0, "guidance": 3.5 if flux else None,
    }  # fmt: skip
    return engine.generate(ImageRequest(**(values | changes)), Silent())


def pixels(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def difference(a: bytes, b: bytes) -> int:
    """Return the largest difference of any channel of any pixel."""
    return max(high for _, high in ImageChops.difference(pixels(a), pixels(b)).getextrema())


def random_lora(
    name: str, style: str, path: Path, *, targets: tuple[str, ...], rank: int = 2, components: Any = None
) -> int:
    """Write a LoRA of strong random numbers for a tiny model; return how many layers it has.

    `style` is "own" (the family's format), "peft", "flat" (dots lost) or "mixed" (two spellings in one file).
    """
    torch.manual_seed(3)
    layout = family(name).lora
    pipe = tiny.PIPELINES[name]()
    weights: dict[str, Any] = {}
    count = 0
    for component in components or (layout.denoiser,):
        wanted = targets if component == layout.denoiser else layout.text
        for module_name, module in getattr(pipe, component).named_modules():
            if not module_name.endswith(wanted) or not hasattr(module, "weight"):
                continue
            out_size, in_size = module.weight.shape[:2]
            kernel = tuple(module.weight.shape[2:])
            down = torch.randn(rank, in_size, *kernel)
            up = torch.randn(out_size, rank, *(1 for _ in kernel))
            count += 1
            if style == "flat":
                a, b = (
                    f"lora_transformer_{module_name.replace('.', '_')}.lora_{side}.weight" for side in ("down", "up")
                )
            elif style == "own":
                a, b, alpha = layout.keys(component, module_name)
                if alpha:
                    weights[alpha] = torch.tensor(float(rank))
            elif style == "mixed" and "attn" in module_name:
                a, b = (f"{component}.{module_name}.lora.{side}.weight" for side in ("down", "up"))
            else:
                a, b = (f"{component}.{module_name}.lora_{side}.weight" for side in "AB")
            weights[a], weights[b] = down, up
    save_file(weights, path)
    return count


@pytest.mark.parametrize("name", NAMES)
def test_draws_the_same_twice_and_another_seed_differently(engine: BuiltinEngine, name: str) -> None:
    first = draw(engine, name)
    assert pixels(first.images[0]).size == (64, 48)
    assert (first.device, first.precision) == ("cpu", "fp32")
    assert draw(engine, name).images == first.images
    assert draw(engine, name, seed=6).images != first.images


@pytest.mark.parametrize("name", NAMES)
def test_picture_of_a_batch_alone(engine: BuiltinEngine, name: str) -> None:
    batch = draw(engine, name, batch_size=2, seed=40).images
    assert draw(engine, name, seed=41).images == [batch[1]]


@pytest.mark.parametrize("name", NAMES)
def test_start_picture_matters_and_full_denoise_ignores_it(engine: BuiltinEngine, name: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (90, 70), "red").save(out, "PNG")
    plain = draw(engine, name).images
    assert draw(engine, name, init_image=out.getvalue(), denoise=0.5).images != plain
    assert draw(engine, name, init_image=out.getvalue(), denoise=1.0).images == plain


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_end_of_a_long_prompt_counts(engine: BuiltinEngine, name: str) -> None:
    long = "abcdefgh " * 20
    a, b = (draw(engine, name, prompt=long + end) for end in ("cat", "dog"))
    assert not a.notes
    assert a.images != b.images


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_says_when_a_prompt_was_cut(engine: BuiltinEngine, name: str) -> None:
    assert "ignored" in draw(engine, name, prompt="abcdefgh " * 80).notes[0]


LORAS = [
    ("sd15", "own", "attention"), ("sd15", "own", "full"), ("sd15", "own", "conv"), ("sd15", "peft", "full"),
    ("sd15", "mixed", "full"), ("sdxl", "own", "full"), ("sdxl", "peft", "full"), ("sd3", "own", "full"),
    ("flux", "own", "full"),
    ("sd3", "flat", "full"), ("flux", "flat", "full"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "style", "which"), LORAS, ids=lambda v: str(v))
def test_lora_changes_the_picture_completely_and_leaves_no_trace(
    engine: BuiltinEngine, folder: Path, name: str, style: str, which: str
) -> None:
    layout = family(name).lora
    targets = {"attention": layout.attention, "full": layout.full, "conv": (*layout.full, "conv1", "conv2")}[which]
    file = f"{name}-{style}-{which}"
    random_lora(name, style, folder / "loras" / f"{file}.safetensors", targets=targets)
    plain = draw(engine, name)
    with_lora = draw(engine, name, loras=(LoraUse(name=file, strength=1.0),))
    assert with_lora.notes == []  # every layer of the file found its place
    assert difference(with_lora.images[0], plain.images[0]) > 3
    assert list(with_lora.lora_sha256) == [file]
    weaker = draw(engine, name, loras=(LoraUse(name=file, strength=0.3),))
    assert weaker.images != with_lora.images
    assert draw(engine, name).images == plain.images


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_text_encoder_lora(engine: BuiltinEngine, folder: Path, name: str) -> None:
    file = f"{name}-text"
    components = [c for c in family(name).lora.prefixes if c != family(name).lora.denoiser]
    random_lora(name, "own", folder / "loras" / f"{file}.safetensors", targets=(), components=components)
    # Text encoders are alike in several families, so such a file cannot tell; the one beside it does.
    (folder / "loras" / f"{file}.json").write_text(f'{{"family": "{name}"}}')
    with_lora = draw(engine, name, loras=(LoraUse(name=file),))
    assert with_lora.notes == []
    assert with_lora.images != draw(engine, name).images


def test_kohya_lora_of_sd3_with_joined_projections(engine: BuiltinEngine, folder: Path) -> None:
    """The format sd-scripts writes; its query, key and value are one matrix."""
    weights: dict[str, Any] = {}
    for layer, out_size, in_size in (
        ("x_block_attn_qkv", 96, 32), ("context_block_attn_qkv", 96, 32), ("x_block_attn_proj", 32, 32),
        ("x_block_mlp_fc1", 128, 32),
    ):  # fmt: skip
        stem = f"lora_unet_joint_blocks_0_{layer}"
        weights |= {
            f"{stem}.lora_down.weight": torch.randn(2, in_size),
            f"{stem}.lora_up.weight": torch.randn(out_size, 2),
            f"{stem}.alpha": torch.tensor(1.0),
        }
    save_file(weights, folder / "loras" / "joined.safetensors")
    with_lora = draw(engine, "sd3", loras=(LoraUse(name="joined"),))
    assert with_lora.notes == []
    assert difference(with_lora.images[0], draw(engine, "sd3").images[0]) > 3
    weights["lora_unet_joint_blocks_0_x_block_unheard_of.lora_down.weight"] = torch.randn(2, 32)
    weights["lora_unet_joint_blocks_0_x_block_unheard_of.lora_up.weight"] = torch.randn(32, 2)
    save_file(weights, folder / "loras" / "partly.safetensors")
    partly = draw(engine, "sd3", loras=(LoraUse(name="partly"),))
    assert "left out" in partly.notes[0]


def test_two_loras_add_up(engine: BuiltinEngine, folder: Path) -> None:
    layout = family("sd15").lora
    for file, targets in (("one", layout.attention), ("two", ("ff.net.2",))):
        random_lora("sd15", "own", folder / "loras" / f"{file}.safetensors", targets=targets)
    alone = draw(engine, "sd15", loras=(LoraUse(name="one"),)).images
    both = draw(engine, "sd15", loras=(LoraUse(name="one"), LoraUse(name="two"))).images
    muted = draw(engine, "sd15", loras=(LoraUse(name="one"), LoraUse(name="two", strength=0.0))).images
    assert both != alone
    assert difference(muted[0], alone[0]) <= 1


def test_untrained_lora_is_called_that(engine: BuiltinEngine, folder: Path) -> None:
    path = folder / "loras" / "zeros.safetensors"
    a, b, alpha = family("sd15").lora.keys("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    save_file({a: torch.zeros(2, 64), b: torch.zeros(64, 2), alpha: torch.tensor(2.0)}, path)
    assert "untrained" in draw(engine, "sd15", loras=(LoraUse(name="zeros"),)).notes[0]


def test_lora_of_another_size_names_itself(engine: BuiltinEngine, folder: Path) -> None:
    path = folder / "loras" / "wide.safetensors"
    a, b, alpha = family("sd15").lora.keys("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    save_file({a: torch.ones(2, 999), b: torch.ones(999, 2), alpha: torch.tensor(2.0)}, path)
    with pytest.raises(InvalidInput, match="wide"):
        draw(engine, "sd15", loras=(LoraUse(name="wide"),))
    draw(engine, "sd15")


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [(name, s, n) for name in ("sd15", "sd3", "flux") for s, names in BUILTIN[name].items() for n in names],
)
def test_every_offered_sampler_draws(engine: BuiltinEngine, name: str, sampler: str, schedule: str) -> None:
    result = draw(engine, name, sampler=sampler, scheduler=schedule, steps=3)
    low, high = zip(*pixels(result.images[0]).getextrema(), strict=True)
    assert max(high) > min(low)  # not one flat colour, which is what a NaN becomes


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_offered_is_refused(name: str) -> None:
    pairs = [(s, n) for s in SAMPLERS for n in SCHEDULERS if n not in BUILTIN[name].get(s, ())]
    assert pairs
    for sampler, schedule in pairs:
        with pytest.raises(InvalidInput):
            build_scheduler({}, sampler, schedule, family=name, flow=family(name).flow)


def test_scheduler_keeps_what_belongs_to_the_model() -> None:
    own = tiny.sdxl().scheduler.config
    built = build_scheduler(own, "dpmpp_2m", "karras", family="sdxl", flow=False)
    assert built.config.prediction_type == "v_prediction"
    assert built.config.beta_end == own.beta_end
    assert built.config.use_karras_sigmas


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_read_from_the_model(folder: Path, name: str) -> None:
    one = families.load(name)
    pipe = one.load_pipeline(folder / "models" / f"tiny-{name}", torch.float32)
    assert one.size_multiple(pipe) == {"sd15": 2, "sdxl": 2, "sd3": 4, "flux": 4}[name]
    if name != "flux":
        assert one.native_size(pipe) == 64
    assert {part.dtype for part in (pipe.vae, getattr(pipe, one.lora.denoiser), pipe.text_encoder)} == {torch.float32}


def test_missing_part_is_named(folder: Path) -> None:
    path = folder / "bare.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1, 1)}, path)
    with pytest.raises(NotConfigured, match="tokenizer") as caught:
        family("flux").load_pipeline(path, torch.float32, parts=folder / "nothing")
    assert "tokenizers" in (caught.value.remedy or "")
