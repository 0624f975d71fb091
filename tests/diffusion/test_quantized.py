"""Base models in fewer bits: which layers, how near to the exact ones, and that LoRA layers on them learn."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.training import quantized, setup  # noqa: E402
from dalla.diffusion.training.adapters import Adapters  # noqa: E402
from dalla.errors import NotConfigured  # noqa: E402
from tests.diffusion import tiny  # noqa: E402
from tests.diffusion.training_kit import train  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]
FAMILIES = ["sd15", "sd3", "flux"]
#: How far an 8-bit float with 3 bits behind the point may be from its number, as a share.
ROUNDING = 2**-4


def model(name: str) -> tuple[Any, Any, Any]:
    """Return (pipeline, family, denoiser) with weights of a size that trained models have."""
    torch.manual_seed(3)
    pipe, one = tiny.PIPELINES[name](), family(name)
    return pipe, one, getattr(pipe, one.lora.denoiser)


def ask(name: str, pipe: Any) -> Any:
    """Predict for two pictures of 16 x 16 latents."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator)

    one, latents = family(name), draw(2, 4, 16, 16)
    if name == "sd15":
        return pipe.unet(latents, torch.tensor([500, 500]), draw(2, 8, 32)).sample
    if name == "sd3":
        words = {"encoder_hidden_states": draw(2, 8, 32), "pooled_projections": draw(2, 64)}
        return pipe.transformer(hidden_states=latents, timestep=torch.tensor([500.0, 500.0]), **words).sample
    return one.predict(pipe, latents, torch.tensor([0.5, 0.5]), {"embeds": draw(2, 8, 32), "pooled": draw(2, 32)}, None)


def adapters(pipe: Any, one: Any) -> Adapters:
    config = SimpleNamespace(
        targets="full",
        conv_rank=2,
        alpha=2.0,
        rank=2,
        seed=0,
        use_rslora=False,
        use_dora=False,
        train_text_encoder=False,
    )
    made = Adapters(pipe, one, config)
    for name, parameter in made.named().items():
        if ".lora_B" in name:  # zeros would hide what flows to the other half
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def gradients(name: str, pipe: Any, one: Any) -> dict[str, Any]:
    made = adapters(pipe, one)
    ask(name, pipe).pow(2).mean().backward()
    return {key: parameter.grad for key, parameter in made.named().items()}


def inside(path: str) -> bool:
    return path.split(".")[0].endswith(("_blocks", "_block"))


# ---------------------------------------------------------------- fp8


@pytest.mark.parametrize("name", FAMILIES)
def test_the_blocks_are_kept_in_8_bits_and_answer_nearly_the_same(name: str) -> None:
    pipe, one, denoiser = model(name)
    before = ask(name, pipe).detach()
    assert quantized.quantize(pipe, one, "fp8") == ["The base model's weights are kept in 8 bits."]
    for path, module in denoiser.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            assert module.weight.dtype == (torch.float8_e4m3fn if inside(path) else torch.float32), path
    assert denoiser.dtype == torch.float32  # what it computes in
    after = ask(name, pipe).detach()
    assert 0 < float((after - before).norm() / before.norm()) < 2 * ROUNDING  # through all layers


@pytest.mark.parametrize("name", FAMILIES)
def test_lora_layers_on_narrow_weights_get_the_gradients_they_would_get(name: str) -> None:
    pipe, one, _ = model(name)
    exact = gradients(name, pipe, one)
    pipe, one, denoiser = model(name)
    quantized.quantize(pipe, one, "fp8")
    found = gradients(name, pipe, one)
    assert found.keys() == exact.keys() and all(g is not None and g.dtype == torch.float32 for g in found.values())
    a, b = (torch.cat([g.flatten() for g in each.values()]) for each in (found, exact))
    assert float(torch.nn.functional.cosine_similarity(a, b, 0)) > 0.97
    assert all(p.grad is None for n, p in denoiser.named_parameters() if ".lora_" not in n)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_narrow_layer_is_its_layer_and_keeps_no_wide_weights_for_the_way_back(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = {
        "linear": lambda: (torch.nn.Linear(12, 20), torch.randn(2, 5, 12)),
        "conv": lambda: (torch.nn.Conv2d(4, 6, 3, stride=2, padding=1), torch.randn(2, 4, 9, 9)),
    }[kind]()
    layer.requires_grad_(False)
    with torch.no_grad():
        layer.weight[0] *= 1e-4  # small weights keep their digits, for each output has a scale of its own
    x.requires_grad_(True)
    wanted = layer(x)
    (back,) = torch.autograd.grad(wanted.pow(2).sum(), x)
    saved: list[Any] = []
    quantized.narrow(layer)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        out = layer(x)
    (narrow,) = torch.autograd.grad(out.pow(2).sum(), x)
    out, wanted = out.detach(), wanted.detach()
    bias = layer.bias.view(-1, 1, 1) if kind == "conv" else layer.bias
    first = (..., slice(0, 1)) if kind == "linear" else (slice(None), slice(0, 1))
    assert torch.allclose((out - bias)[first], (wanted - bias)[first], rtol=ROUNDING, atol=1e-5)
    assert float((out - wanted).norm() / wanted.norm()) < ROUNDING
    assert float((narrow - back).norm() / back.norm()) < ROUNDING
    assert {t.dtype for t in saved if t.shape == layer.weight.shape} == {torch.float8_e4m3fn}
    assert {t.shape for t in saved} == {layer.weight.shape, layer.scale.shape}


@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_a_run_on_8_bit_weights_ends_with_a_verified_lora(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor can do it, too; it is refused there only because it is slow and saves nothing worth it."""
    monkeypatch.setattr(setup, "refuse_machine", lambda config: None)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = random.Random(2)
    for number in range(2):
        Image.new("RGB", (64, 64), tuple(rng.randrange(256) for _ in range(3))).save(pictures / f"{number}.png")
    options = {"quantize": "fp8", "targets": "full", "gradient_checkpointing": True}
    ran = train(tiny.save(name, tmp_path), pictures, tmp_path, **options)
    assert ran.lora.is_file() and ran.last["layers"] > 10
    assert "The base model's weights are kept in 8 bits." in [e["detail"] for e in ran.of("warning")]


# ---------------------------------------------------------------- bitsandbytes, as far as it can be asked without it


class Linear8bitLt(torch.nn.Linear):
    def __init__(self, i: int, o: int, bias: bool, *, has_fp16_weights: bool, device: str) -> None:
        super().__init__(i, o, bias, device=device)
        self.asked = {"has_fp16_weights": has_fp16_weights, "device": device}


class Linear4bit(torch.nn.Linear):
    def __init__(self, i: int, o: int, bias: bool, *, compute_dtype: Any, quant_type: str, device: str) -> None:
        super().__init__(i, o, bias, device=device)
        self.asked = {"compute_dtype": compute_dtype, "quant_type": quant_type, "device": device}


class Params(torch.nn.Parameter):
    """Remembers what it was made with, and stays a plain tensor: nothing is quantised on the processor."""

    def __new__(cls, data: Any, requires_grad: bool = True, **options: Any) -> Params:
        made = torch.Tensor._make_subclass(cls, data, requires_grad)
        made.options = options
        return made


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    layers = SimpleNamespace(Linear8bitLt=Linear8bitLt, Linear4bit=Linear4bit, Int8Params=Params, Params4bit=Params)
    package = SimpleNamespace(nn=layers)
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    return package


@pytest.mark.parametrize(
    ("how", "kind", "layer", "params", "bits"),
    [
        ("int8", Linear8bitLt, {"has_fp16_weights": False}, {"has_fp16_weights": False}, "8 bits"),
        ("nf4", Linear4bit, {"compute_dtype": torch.float32, "quant_type": "nf4"}, {"quant_type": "nf4"}, "4 bits"),
    ],
)
@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_bitsandbytes_gets_the_linear_layers_of_the_blocks(
    fake: Any, name: str, how: str, kind: type, layer: dict[str, Any], params: dict[str, Any], bits: str
) -> None:
    pipe, one, denoiser = model(name)
    old = {p: m for p, m in denoiser.named_modules() if isinstance(m, torch.nn.Linear)}
    exact = ask(name, pipe).detach()
    (note,) = quantized.quantize(pipe, one, how)
    assert bits in note
    new = {p: m for p, m in denoiser.named_modules() if isinstance(m, torch.nn.Linear)}
    assert new.keys() == old.keys()
    assert {p for p in new if isinstance(new[p], kind)} == {p for p in old if inside(p)} != set(old)
    for path in filter(inside, new):
        assert new[path].asked == {**layer, "device": "meta"}  # never filled twice
        assert new[path].weight.options == params and not new[path].weight.requires_grad
        assert torch.equal(new[path].weight, old[path].weight.data) and new[path].bias is old[path].bias
    assert torch.allclose(ask(name, pipe).detach(), exact, atol=1e-6)
    found = gradients(name, pipe, one)
    assert found and all(g is not None and torch.isfinite(g).all() for g in found.values())
    assert all(p.grad is None for n, p in denoiser.named_parameters() if ".lora_" not in n)


def test_a_broken_bitsandbytes_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # importing it raises
    pipe, one, _ = model("sd15")
    with pytest.raises(NotConfigured, match="cannot be loaded") as refused:
        quantized.quantize(pipe, one, "nf4")
    assert "quantize to none" in (refused.value.remedy or "")
