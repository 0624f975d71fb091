"""Prove that a LoRA file is the LoRA that was trained: load it back and compare.

The libraries that load LoRAs drop what they cannot place without an error, and scale what they place
by rules of their own. So the file is loaded the way a user's program loads it, its layers are counted
one by one, and the model has to answer as it does with the adapter in memory.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dalla.diffusion import kohya
from dalla.diffusion.families.base import LoraLayout

_NAME = "from_file"
#: Share of what a layer adds that rounding to the file's number format may cost.
_ROUNDING = 0.03
#: Share of the output (or of the adapter's effect on it) that computing in the model's number format may cost.
_COMPUTING = {"torch.float32": (1e-3, 0.05)}
_COMPUTING_IN_HALF = (0.05, 0.3)


@dataclass(frozen=True)
class Verified:
    """What loading a LoRA file back showed.

    `matched` layers of the file arrived on the model. `unmatched` are layers of the file without a place and
    layers of the adapter that the file does not have. `max_difference` is the largest difference of the
    model's output from the one with the adapter in memory, as a share of the output's largest value;
    `effect` is the same between the adapter and the bare model. `worst_layer` is the largest difference
    of what a single layer adds, as a share of what it adds; `dtype` the denoiser's number format.
    """

    matched: int
    unmatched: list[str] = field(default_factory=list)
    max_difference: float = 0.0
    effect: float = 0.0
    worst_layer: float = 0.0
    dtype: str = "torch.float32"

    @property
    def ok(self) -> bool:
        return self.problem() is None

    def problem(self) -> str | None:
        """Return in one sentence why the file is not what was trained; None when it is."""
        if self.unmatched:
            return (
                f"{len(self.unmatched)} of {self.matched + len(self.unmatched)} layers of the LoRA file find no "
                f"place on the model, the first is '{self.unmatched[0]}'."
            )
        if not self.matched:
            return "The LoRA file holds no layer that fits the model."
        if not self.worst_layer <= _ROUNDING:
            return f"Layers of the LoRA file differ from the trained ones by up to {self.worst_layer:.1%}."
        of_output, of_effect = _COMPUTING.get(self.dtype, _COMPUTING_IN_HALF)
        if not self.max_difference <= max(of_output, of_effect * self.effect):
            return f"With the LoRA file the model answers differently than with the trained layers: {self.max_difference:.1%}."
        return None


def adapted(part: Any) -> Iterable[tuple[str, Any]]:
    """Yield the modules of a network that carry LoRA layers, with their plain paths."""
    if part is None:
        return
    for path, module in part.named_modules():
        if len(getattr(module, "lora_A", ())):
            yield re.sub(r"^(?:_orig_mod\.)?(?:base_model\.model\.)?(?:_orig_mod\.)?", "", path), module


def verify(pipe: Any, path: Path, layout: LoraLayout, *, adapter: str | None = None) -> Verified:
    """Load the file at `path` beside the adapter on the pipeline, compare, and take it off again.

    `pipe` is a diffusers pipeline with the trained PEFT layers on it (`adapter` is their name; default:
    the first found); parts whose layers were not trained may be None. The trained layers are active
    afterwards as before. Raises whatever the loader raises for a file it refuses.
    """
    import torch

    names = {n for component in layout.prefixes for _, m in adapted(getattr(pipe, component, None)) for n in m.lora_A}
    if not names:
        raise ValueError("the pipeline carries no LoRA layers to compare with")
    own = adapter or sorted(names)[0]
    parts = [c for c in layout.prefixes if getattr(pipe, c, None) is not None]
    training = {component: getattr(pipe, component).training for component in parts}
    trainable = {id(p): p.requires_grad for component in parts for p in getattr(pipe, component).parameters()}
    try:
        with torch.no_grad():
            for component in parts:
                getattr(pipe, component).eval()
            expected = _answers(pipe, layout)
            with _without(pipe, parts):
                bare = _answers(pipe, layout)
            _load(pipe, path)
            try:
                in_file, arrived, worst = _compare(pipe, path, layout, own)
                _use(pipe, parts, _NAME)
                found = _answers(pipe, layout)
            finally:
                _use(pipe, parts, own)
                pipe.delete_adapters(_NAME)
    finally:
        for component in parts:
            network = getattr(pipe, component)
            network.train(training[component])
            for parameter in network.parameters():
                parameter.requires_grad_(trainable.get(id(parameter), parameter.requires_grad))
    trained = {
        kohya.stem(layout.keys(component, module)[0])
        for component in parts
        for module, layer in adapted(getattr(pipe, component))
        if own in layer.lora_A
    }
    return Verified(
        matched=len(arrived & in_file),
        unmatched=sorted((in_file - arrived) | (trained - in_file)),
        max_difference=_distance(found, expected),
        effect=_distance(expected, bare),
        worst_layer=worst,
        dtype=str(getattr(pipe, layout.denoiser).dtype),
    )


def _load(pipe: Any, path: Path) -> None:
    """Load as a user's program does: diffusers reads the file itself, unless it would lose a part of it."""
    from safetensors.torch import load_file

    weights = load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is another adapter already is what is wanted here
        _hand_over(pipe, path, weights)


def _hand_over(pipe: Any, path: Path, weights: dict[str, Any]) -> None:
    if any(key.endswith(".dora_scale") for key in weights):
        pipe.load_lora_weights(kohya.to_peft(weights, pipe), adapter_name=_NAME)
    else:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=_NAME, local_files_only=True)


def _compare(pipe: Any, path: Path, layout: LoraLayout, own: str) -> tuple[set[str], set[str], float]:
    """Return the layers in the file, those that arrived, and the largest relative difference of one."""
    import torch

    from dalla.weights import read_header

    in_file = {kohya.stem(key) for key in read_header(path)}
    arrived, worst = set(), 0.0
    for component in layout.prefixes:
        for module, layer in adapted(getattr(pipe, component, None)):
            if _NAME not in layer.lora_A:
                continue
            arrived.add(kohya.stem(layout.keys(component, module)[0]))
            if own in layer.lora_A:
                theirs, ours = _added(layer, _NAME), _added(layer, own)
                size = float(torch.linalg.vector_norm(ours))
                gap = float(torch.linalg.vector_norm(theirs - ours))
                share = gap / size if size else gap
                worst = max(worst, share) if share == share else float("inf")
    return in_file, arrived, worst


def _added(layer: Any, name: str) -> Any:
    """Return what a LoRA layer makes of four fixed random inputs, and DoRA's magnitudes behind it."""
    import torch

    down, up = (half[name].weight.float().flatten(1) for half in (layer.lora_A, layer.lora_B))
    probe = torch.randn(down.shape[1], 4, generator=torch.Generator().manual_seed(7)).to(down.device)
    added = (up @ (down @ probe)) * float(layer.scaling[name])
    vectors = getattr(layer, "lora_magnitude_vector", None)
    if vectors is not None and name in vectors:
        added = torch.cat([added, vectors[name].weight.float().reshape(-1, 1).expand(-1, 4)])
    return added


@contextmanager
def _without(pipe: Any, parts: list[str]) -> Iterator[None]:
    """Switch all LoRA layers off for a moment."""
    layers = [m for component in parts for _, m in adapted(getattr(pipe, component))]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _use(pipe: Any, parts: list[str], name: str) -> None:
    """Let one adapter alone act. A layer that does not have it adds nothing."""
    for component in parts:
        for _, layer in adapted(getattr(pipe, component)):
            layer.set_adapter(name if name in layer.lora_A else [])


def _distance(a: list[Any], b: list[Any]) -> float:
    """Return the largest difference as a share of the largest value of `b`, over all outputs."""
    worst = 0.0
    for one, other in zip(a, b, strict=True):
        size = float(other.abs().max()) or 1.0
        gap = float((one - other).abs().max())
        worst = max(worst, gap / size) if gap == gap else float("inf")
    return worst


# ---------------------------------------------------------------- fixed questions to the model


def _answers(pipe: Any, layout: LoraLayout) -> list[Any]:
    """Return what the denoiser and the text encoders make of fixed inputs, in float32 on the CPU."""
    import torch

    answers = []
    for component in layout.prefixes:
        part = getattr(pipe, component, None)
        if part is None:
            continue
        if component == layout.denoiser:
            out = part(**probe(part), return_dict=False)[0]
        else:
            ids = torch.randint(0, int(part.config.vocab_size), (1, 16), generator=torch.Generator().manual_seed(3)).to(
                part.device
            )
            out = part(ids, output_hidden_states=True).hidden_states[-1]
        answers.append(out.float().cpu())
    return answers


def probe(denoiser: Any) -> dict[str, Any]:
    """Return small fixed inputs for a U-Net, an SD3 or a FLUX transformer, sized by its own configuration."""
    import torch

    config = denoiser.config
    generator = torch.Generator().manual_seed(5)
    where = {"device": denoiser.device, "dtype": denoiser.dtype}

    def noise(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator).to(**where)

    if "cross_attention_dim" in config:
        width = config.cross_attention_dim
        width = width if isinstance(width, int) else width[-1]
        inputs = {"sample": noise(1, config.in_channels, 16, 16), "encoder_hidden_states": noise(1, 8, width)}
        inputs["timestep"] = torch.tensor([500], device=denoiser.device)
        if config.addition_embed_type == "text_time":
            times = config.addition_time_embed_dim
            pooled = config.projection_class_embeddings_input_dim - 6 * times
            sizes = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]]).to(**where)
            inputs["added_cond_kwargs"] = {"text_embeds": noise(1, pooled), "time_ids": sizes}
        return inputs
    inputs = {
        "encoder_hidden_states": noise(1, 8, config.joint_attention_dim),
        "pooled_projections": noise(1, config.pooled_projection_dim),
    }
    if "axes_dims_rope" not in config:
        return inputs | {
            "hidden_states": noise(1, config.in_channels, 16, 16),
            "timestep": torch.tensor([500.0]).to(**where),
        }
    axes = len(config.axes_dims_rope)
    places = torch.zeros(16, axes)
    places[:, 1], places[:, 2] = torch.arange(16) // 4, torch.arange(16) % 4
    inputs |= {
        "hidden_states": noise(1, 16, config.in_channels),
        "timestep": torch.tensor([0.5]).to(**where),
        "img_ids": places.to(**where),
        "txt_ids": torch.zeros(8, axes).to(**where),
    }
    if config.guidance_embeds:
        inputs["guidance"] = torch.tensor([1.0]).to(**where)
    return inputs
