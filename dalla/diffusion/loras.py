"""Put LoRAs on a pipeline and make sure that they arrived.

The libraries underneath drop what they cannot place without an error, so the layers in the file are
counted against the layers on the model: none is an error, some is a note. Nothing is fused into the
weights, so taking a LoRA off gives back exactly the model that was there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalla.diffusion import kohya
from dalla.errors import InvalidInput, StorageError
from dalla.lora_forms import alphas
from dalla.lora_names import TEXT, half_of, split_layer
from dalla.weights import LORA_TAIL, lora_layers, read_header

_OLD_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(down|up)\.weight$")


@dataclass(frozen=True)
class Use:
    """A LoRA file with the strength it is applied with. `stamp` changes when the file does."""

    name: str
    path: str
    strength: float
    stamp: str = ""


class Loras:
    """The LoRAs that are on one pipeline right now."""

    def __init__(self, pipe: Any, family: Any) -> None:
        self._pipe = pipe
        self._family = family
        self._loaded: list[tuple[str, str]] = []
        self._notes: list[str] = []

    def apply(self, uses: list[Use]) -> list[str]:
        """Make these LoRAs, and no others, take part; return notes. Raises InvalidInput naming the LoRA."""
        wanted = [(use.path, use.stamp) for use in uses]
        if wanted != self._loaded:
            self.remove()
            for number, use in enumerate(uses):
                try:
                    self._notes += self._load(use, f"lora{number}")
                except BaseException:
                    self.remove()
                    raise
            self._loaded = wanted
        if uses:
            self._pipe.set_adapters([f"lora{n}" for n in range(len(uses))], [use.strength for use in uses])
        return list(self._notes)

    def remove(self) -> None:
        """Take all LoRAs off. The weights are then what they were before the first."""
        self._pipe.unload_lora_weights()
        self._loaded, self._notes = [], []

    def _load(self, use: Use, adapter: str) -> list[str]:
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(use.path, "pt") as file:
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
        except (OSError, SafetensorError) as exc:
            raise StorageError(
                f"The LoRA '{use.name}' cannot be read: {exc}", remedy="Copy the file again; it may be cut off."
            ) from exc
        dtype = getattr(self._pipe, self._family.lora.denoiser).dtype
        weights = {k: v.to(dtype) if v.is_floating_point() and v.dim() > 1 else v for k, v in weights.items()}
        weights = with_scale(weights, Path(use.path), self._family.lora.denoiser)
        converted = kohya.needs_conversion(weights)
        weights = one_key_style(kohya.to_peft(weights, self._pipe) if converted else weights)
        in_file = len(lora_layers(weights))
        if converted:  # what found no layer would make the loader refuse the rest
            weights = {key: tensor for key, tensor in weights.items() if not key.startswith("lora_")}
        # Of the file: on a pipeline that is computed layer by layer, the layers on the model hold no numbers meanwhile.
        does = any(
            torch.count_nonzero(t) for k, t in weights.items() if (m := LORA_TAIL.search(k)) and half_of(m) == "up"
        )
        try:
            self._pipe.load_lora_weights(weights, adapter_name=adapter)
        except Exception as exc:
            raise self._refuse(use, exc) from exc
        layers = self._layers(adapter)
        if not layers:
            raise self._refuse(use, None)
        if not does:
            return [f"The LoRA '{use.name}' is all zeros (it was saved untrained), so it changes nothing."]
        if len(layers) < in_file:
            return [
                f"{in_file - len(layers)} of {in_file} layers of the LoRA '{use.name}' do not fit this model and were left out."
            ]
        return []

    def _layers(self, adapter: str) -> list[Any]:
        found = []
        for component in self._family.lora.prefixes:
            module = getattr(self._pipe, component, None)
            if module is not None:
                found += [m for m in module.modules() if adapter in getattr(m, "lora_A", {})]
        return found

    def _refuse(self, use: Use, exc: BaseException | None) -> InvalidInput:
        why = f" ({str(exc).splitlines()[0][:200]})" if exc is not None and str(exc) else ""
        return InvalidInput.field(
            "loras",
            f"The LoRA '{use.name}' does not fit this model{why}.",
            remedy=f"Choose a LoRA that was trained for {self._family.name}, or take '{use.name}' off.",
        )


def with_scale(weights: dict[str, Any], path: Path, denoiser: str) -> dict[str, Any]:
    """Multiply the scale that stands in a file's texts, or in adapter_config.json beside it, into its up halves.

    The loaders underneath are handed tensors only and take what has no `.alpha` at full strength.
    """
    alpha_of = alphas(path, read_header(path))
    out = dict(weights)
    for key, tensor in weights.items():
        tail = LORA_TAIL.search(key)
        layer = key[: tail.start()] if tail else key
        if tail is None or half_of(tail) != "up" or layer.startswith("lora_") or f"{layer}.alpha" in weights:
            continue
        part, plain = split_layer(layer)
        rank = int(tensor.shape[1])
        alpha = alpha_of(part or ("text_encoder" if TEXT.match(plain) else denoiser), plain, rank)
        if alpha != rank:
            out[key] = tensor * (alpha / rank)
    return out


def one_key_style(weights: dict[str, Any]) -> dict[str, Any]:
    """Give every U-Net or transformer key the same style.

    Files that mix `.lora.down.weight` with `.lora_A.weight` are written by popular scripts, and
    loaders then drop one half of them silently.
    """
    keys = list(weights)
    if not any(".lora_A." in key or ".lora_B." in key for key in keys):
        return weights
    renamed = {}
    for key, value in weights.items():
        new = _OLD_PROCESSOR.sub(
            lambda m: f".{m[1]}{'.0' if m[1] == 'to_out' else ''}.lora_{'A' if m[2] == 'down' else 'B'}.weight", key
        )
        new = new.replace(".lora.down.weight", ".lora_A.weight").replace(".lora.up.weight", ".lora_B.weight")
        renamed[new] = value
    return renamed


def uses_from(rows: list[dict[str, Any]]) -> list[Use]:
    """Read the LoRAs of a request."""
    uses = [Use(**row) for row in rows]
    for use in uses:
        if not Path(use.path).is_file():
            raise InvalidInput.field("loras", f"There is no LoRA '{use.name}' any more.")
    return uses
