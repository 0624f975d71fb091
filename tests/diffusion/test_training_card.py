"""What matters on a graphics card and can be seen without one: number formats, waiting for the card, memory let go."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from accelerate import cpu_offload  # noqa: E402
from diffusers import DiffusionPipeline  # noqa: E402
from PIL import Image  # noqa: E402

from dalla.diffusion import hardware, loras  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.training import quantized, resemblance, samples, setup  # noqa: E402
from dalla.diffusion.training.adapters import Adapters  # noqa: E402
from dalla.diffusion.training.export import save_lora  # noqa: E402
from dalla.diffusion.training.objective import Discrete  # noqa: E402
from dalla.diffusion.training.optimizers import Prodigy  # noqa: E402
from tests.diffusion import tiny  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
]


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_bf16_is_chosen_only_where_the_card_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, precision: str
) -> None:
    """PyTorch calls bf16 supported on older cards, too, where it emulates it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16 or including_emulation
    )
    found = hardware.choose("auto", "auto")
    assert (found.device, found.precision) == ("cuda", precision)


def test_what_a_failed_call_held_is_let_go_while_its_error_is_handled() -> None:
    held: list[Any] = []

    def inner(activation: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def outer() -> None:
        activation = torch.zeros(4)
        held.append(weakref.ref(activation))
        try:
            inner(activation)
        except RuntimeError as exc:
            raise ValueError("wrapped") from exc

    try:
        outer()
    except ValueError as exc:
        assert held[0]() is not None
        hardware.let_go(exc)
        assert held[0]() is None


def test_a_picture_is_decoded_without_autocast() -> None:
    class Vae:
        def decode(self, latents: Any) -> bool:
            return torch.is_autocast_enabled("cpu")

    vae = Vae()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert vae.decode(None)
        with samples.exact_decoding(vae, "cpu"):
            assert not vae.decode(None)
        assert vae.decode(None)


def test_the_noise_schedule_is_copied_to_the_device_once() -> None:
    objective = Discrete(tiny.BETAS | {"num_train_timesteps": 1000}, min_snr_gamma=5.0)
    latents = torch.zeros(2, 4, 8, 8, device="meta")
    levels = torch.zeros(2, dtype=torch.long, device="meta")
    first = objective.noise(latents, levels, torch.zeros_like(latents))
    tables = (objective._signal, objective._noise, objective._weight)
    assert first.noisy.device.type == "meta" and all(table.device.type == "meta" for table in tables)
    objective.noise(latents, levels, torch.zeros_like(latents))
    assert all(a is b for a, b in zip(tables, (objective._signal, objective._noise, objective._weight), strict=True))


def test_prodigy_asks_the_device_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = [torch.nn.Parameter(torch.randn(3, 3)) for _ in range(5)]
    optimizer = Prodigy(parameters)
    for parameter in parameters:
        parameter.grad = torch.randn(3, 3)
    asked = []
    plain = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: asked.append(self.dtype) or plain(self))
    optimizer.step()
    assert asked == [torch.float32]  # Apple's cards have no float64


def test_8_bit_weights_are_widened_to_what_autocast_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(8, 4).to(torch.bfloat16)
    quantized.narrow(layer)
    widened = []
    wide = quantized._wide
    monkeypatch.setattr(quantized, "_wide", lambda w, s, dtype: widened.append(dtype) or wide(w, s, dtype))
    x = torch.randn(2, 8, requires_grad=True)  # as a norm leaves it
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    out.float().sum().backward()
    assert widened == [torch.bfloat16, torch.bfloat16]
    assert out.dtype == torch.bfloat16 and x.grad.dtype == torch.float32
    want = layer.weight.float() * layer.scale.float()
    assert torch.allclose(x.grad, want.sum(0).expand(2, 8), atol=0.02)


class _Vae:
    """Remembers where and in which format it was when it was asked."""

    device, dtype = torch.device("cpu"), torch.float16

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}

    def to(self, device: Any, dtype: Any) -> None:
        self.device, self.dtype = torch.device(device), dtype


@pytest.mark.parametrize("room", [True, False])
def test_sample_pictures_are_compared_in_fp32_on_the_device_that_has_room(
    monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    vae = _Vae()
    loop: Any = SimpleNamespace(loaded=SimpleNamespace(pipe=SimpleNamespace(vae=vae), device="cuda"))
    asked = []

    def encode(vae: Any, image: Any) -> Any:
        asked.append((vae.device.type, vae.dtype))
        if not room and vae.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return image

    monkeypatch.setattr(resemblance, "_vector", encode)
    images = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8))]
    assert resemblance.encoded(loop, images, "cuda") == images
    on_card, in_memory = ("cuda", torch.float32), ("cpu", torch.float32)
    assert asked == ([on_card] * 2 if room else [on_card, in_memory, in_memory])
    assert (vae.device.type, vae.dtype) == ("cpu", torch.float16)


def test_a_lora_goes_onto_a_model_that_is_computed_layer_by_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between two layers such a model's numbers lie elsewhere: those on the layers cannot be looked at."""
    one = family("sd15")
    trained = tiny.sd15()
    settings = SimpleNamespace(
        targets="attention", conv_rank=0, alpha=2.0, rank=2, seed=0, use_rslora=False, use_dora=False,
        train_text_encoder=False,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in Adapters(trained, one, settings).parameters():
            parameter.normal_()
    file = tmp_path / "luna.safetensors"
    save_lora(file, trained, layout=one.lora)

    def offload(self: Any, *args: Any, **options: Any) -> None:  # diffusers' own, with the CPU in the card's place
        self.remove_all_hooks()
        for part in self.components.values():
            if isinstance(part, torch.nn.Module):
                cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)

    monkeypatch.setattr(DiffusionPipeline, "enable_sequential_cpu_offload", offload)
    pipe = tiny.sd15()
    pipe.enable_sequential_cpu_offload()
    put_on = loras.Loras(pipe, one)
    assert put_on.apply([loras.Use("luna", str(file), 1.0)]) == []
    layers = [m for m in pipe.unet.modules() if "lora0" in getattr(m, "lora_B", {})]
    assert layers and all(layer.lora_B["lora0"].weight.is_meta for layer in layers)
    put_on.remove()


def test_blocks_are_compiled_for_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    class Block(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 + 1

    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: plain(self, backend=backend))
    denoiser = torch.nn.Module()
    denoiser.transformer_blocks = torch.nn.ModuleList([Block()])
    block = denoiser.transformer_blocks[0]
    try:
        assert setup._compile(denoiser, family("flux"), "cuda") != []
        block(torch.zeros(2, 4))
        assert compiled == []
        with setup.compiling(SimpleNamespace(compile=True)):
            block(torch.zeros(2, 4))
        assert len(compiled) == 1
        with torch.no_grad():
            block(torch.zeros(1, 4))
        assert len(compiled) == 1
    finally:
        torch.compiler.set_stance("default")
        torch._dynamo.reset()
