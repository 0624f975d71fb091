"""Turn LoRA layers into the key names of a file, and any kohya file back into names a pipeline has.

A file's flat names (`lora_unet_down_blocks_0_…`) lost their dots; they are found again by comparing
with the names the model really has, so any model size works, with sd-scripts' own block names
(`input_blocks_4_1`) too. Projections that other programs join (FLUX and SD3 `qkv`) are split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dalla.diffusion.families.base import LoraLayout
from dalla.lora_names import RESNET, SGM_ENDS, joined

_PART = re.compile(
    r"^(lora_(?:unet|transformer|te[123]?)_)(.+?)\.(lora_down\.weight|lora_up\.weight|alpha|dora_scale)$"
)
_COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_ENCODERS = {
    "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2", "lora_te3_": "text_encoder_3"
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One LoRA layer. The weight it adds is `alpha / rank * up @ down`.

    `down` is (rank, inputs[, height, width]), `up` (outputs, rank[, 1, 1]). `magnitude` makes it a
    DoRA layer: one number per output, any shape.
    """

    down: Any
    up: Any
    alpha: float
    magnitude: Any = None

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


#: Component of the pipeline -> path of the module in it -> layer.
Layers = dict[str, dict[str, Layer]]


def file_tensors(layers: Layers, layout: LoraLayout, dtype: Any) -> dict[str, Any]:
    """Return the tensors as they stand in a file of the family, on the CPU.

    Families with `.alpha` get one per layer (a float), the same for all layers of a component: loaders
    underneath lose sight of single ones that differ, so the difference goes into the up matrix. In the
    other families all of the scale does. Magnitudes become `.dora_scale` of (outputs, 1[, 1, 1]); they multiply whole weights, so
    they and the alphas keep full precision.
    """
    import torch

    out: dict[str, Any] = {}
    for component, modules in layers.items():
        common = common_alpha(modules.values())
        for module, layer in modules.items():
            down_key, up_key, alpha_key = layout.keys(component, module)
            down, up = layer.down.detach().float(), layer.up.detach().float()
            if alpha_key is None:
                up = up * (layer.alpha / layer.rank)
            else:
                out[alpha_key] = torch.tensor(common, dtype=torch.float32)
                up = up if layer.alpha == common else up * (layer.alpha / common)
            out[down_key] = down.to("cpu", dtype).contiguous()
            out[up_key] = up.to("cpu", dtype).contiguous()
            if layer.magnitude is not None:
                scale = layer.magnitude.detach().float().cpu().reshape(-1, *[1] * (max(down.dim(), 2) - 1))
                out[stem(down_key) + ".dora_scale"] = scale.contiguous()
    return out


def common_alpha(layers: Iterable[Layer]) -> float:
    """Return the alpha that most of the layers have."""
    return Counter(float(layer.alpha) for layer in layers).most_common(1)[0][0]


def stem(key: str) -> str:
    """Return the layer that a down, up or alpha key of ours belongs to."""
    return re.sub(r"\.(?:lora_(?:down|up|[AB])\.weight|alpha|dora_scale)$", "", key)


def needs_conversion(keys: Any) -> bool:
    """Say whether diffusers' own loader would lose something of a file with these keys.

    It has no rule for SD3's kohya names and for `lora_transformer_…`, throws DoRA's magnitudes away,
    and confuses the convolutions of a SD1.5 file with sd-scripts' block names.
    """
    keys = list(keys)
    if any(key.startswith(("lora_unet_joint_blocks_", "lora_transformer_")) for key in keys):
        return True
    if not any(key.endswith((".lora_down.weight", ".lora_A.weight")) for key in keys):
        return False  # LoHa, LoKr, full differences: not ours to convert
    return any(
        key.endswith(".dora_scale") or re.match(r"lora_unet_(?:input|output)_blocks_\d+_0_", key) for key in keys
    )


def to_peft(weights: dict[str, Any], pipe: Any) -> dict[str, Any]:
    """Return the weights under `component.module.lora_A/B.weight`, alpha folded into B.

    DoRA's scales become `component.module.lora_magnitude_vector.weight` in the shape PEFT has. Keys that
    belong to no layer of the pipeline stay as they are, so that the count of what was placed comes
    out short and the user hears of it.
    """
    parts = {name: part for name in _COMPONENTS if (part := getattr(pipe, name, None)) is not None}
    modules = {name: _modules(part) for name, part in parts.items()}
    flat = {name: {path.replace(".", "_"): path for path in known} for name, known in modules.items()}
    if "unet" in parts:
        flat["unet"] = sgm_names(parts["unet"]) | flat["unet"]
    layers: dict[tuple[str, str], dict[str, Any]] = {}
    out: dict[str, Any] = {}
    for key, tensor in weights.items():
        if match := _PART.match(key):
            layers.setdefault((match[1], match[2]), {})[match[3]] = tensor
        elif key.endswith(".dora_scale"):
            component, _, path = key.removesuffix(".dora_scale").partition(".")
            _add_magnitude(out, component, path, tensor)
        else:
            out[key] = tensor
    for (prefix, name), tensors in layers.items():
        component = _ENCODERS.get(prefix) or ("unet" if prefix == "lora_unet_" and "unet" in parts else "transformer")
        down, up = tensors.get("lora_down.weight"), tensors.get("lora_up.weight")
        targets = _targets(name, component, flat.get(component, {}))
        if down is None or up is None or not targets:
            out |= {f"{prefix}{name}.{part}": tensor for part, tensor in tensors.items()}
            continue
        pieces = _split(up, targets, modules.get(component, {}))
        if len(pieces) != len(targets):
            out |= {f"{prefix}{name}.{part}": tensor for part, tensor in tensors.items()}
            continue
        scale = float(tensors["alpha"]) / down.shape[0] if "alpha" in tensors else 1.0
        magnitude = tensors.get("dora_scale")
        magnitudes = _split(magnitude, targets, modules.get(component, {})) if magnitude is not None else ()
        for number, (target, piece) in enumerate(zip(targets, pieces, strict=True)):
            path = _written(target, component)
            out[f"{component}.{path}.lora_A.weight"] = down
            out[f"{component}.{path}.lora_B.weight"] = piece * scale
            if magnitudes:
                _add_magnitude(out, component, path, magnitudes[number])
    return out


def sgm_names(unet: Any) -> dict[str, str]:
    """Return the names that the original code (and sd-scripts, for SDXL) gives a U-Net's modules, flat -> ours."""
    blocks: dict[str, str] = {}
    number = 1
    for level, block in enumerate(unet.down_blocks):
        for n in range(len(block.resnets)):
            blocks[f"input_blocks_{number}_0"] = f"down_blocks.{level}.resnets.{n}"
            if getattr(block, "attentions", None):
                blocks[f"input_blocks_{number}_1"] = f"down_blocks.{level}.attentions.{n}"
            number += 1
        if getattr(block, "downsamplers", None):
            blocks[f"input_blocks_{number}_0_op"] = f"down_blocks.{level}.downsamplers.0.conv"
            number += 1
    blocks |= {"middle_block_0": "mid_block.resnets.0", "middle_block_1": "mid_block.attentions.0"}
    blocks["middle_block_2"] = "mid_block.resnets.1"
    number = 0
    for level, block in enumerate(unet.up_blocks):
        for n in range(len(block.resnets)):
            attends = bool(getattr(block, "attentions", None))
            blocks[f"output_blocks_{number}_0"] = f"up_blocks.{level}.resnets.{n}"
            if attends:
                blocks[f"output_blocks_{number}_1"] = f"up_blocks.{level}.attentions.{n}"
            if n == len(block.resnets) - 1 and getattr(block, "upsamplers", None):
                blocks[f"output_blocks_{number}_{1 + attends}_conv"] = f"up_blocks.{level}.upsamplers.0.conv"
            number += 1
    ours = {new: old for old, new in blocks.items()}
    names = dict(SGM_ENDS)
    for path in _modules(unet):
        if path in ours:
            names[ours[path]] = path
        for start, old in ours.items():
            if path.startswith(start + "."):
                rest = path[len(start) + 1 :]
                tail = next((sgm for sgm, plain in RESNET.items() if plain == rest), rest.replace(".", "_"))
                names[f"{old}_{tail}"] = path
    return names


def _modules(part: Any) -> dict[str, Any]:
    """Return the modules by path; LoRA's own wrapping of a layer does not show."""
    found = {}
    for path, module in part.named_modules():
        if ".lora_" in path or ".base_layer" in path:
            continue
        found[path.removeprefix("_orig_mod.").removeprefix("text_model.")] = module
    return found


def _targets(name: str, component: str, known: dict[str, str]) -> tuple[str, ...]:
    """Return the module, or the modules of a joined projection, that a flat name means."""
    if component == "transformer" and (found := joined(name)):
        return found
    module = known.get(name.removeprefix("text_model_"))
    return () if module is None else (module,)


def _split(tensor: Any, targets: tuple[str, ...], modules: dict[str, Any]) -> tuple[Any, ...]:
    """Cut a joined layer's rows for its modules. Empty when they do not add up."""
    if len(targets) == 1:
        return (tensor,)
    sizes = [_outputs(modules.get(target)) for target in targets]
    return tuple(tensor.split(sizes)) if 0 not in sizes and sum(sizes) == tensor.shape[0] else ()


def _outputs(module: Any) -> int:
    module = getattr(module, "base_layer", module)
    return int(getattr(module, "out_features", 0) or getattr(module, "out_channels", 0) or 0)


def _written(path: str, component: str) -> str:
    """Spell a text encoder's path with the level that the loaders underneath expect."""
    inside = component in ("unet", "transformer") or not path.startswith(("encoder.layers.", "embeddings."))
    return path if inside else f"text_model.{path}"


def _add_magnitude(out: dict[str, Any], component: str, path: str, tensor: Any) -> None:
    """Add DoRA's magnitudes as PEFT keeps them: (outputs,), or (1, outputs, 1, 1) for a convolution."""
    shape = (1, -1, *[1] * (tensor.dim() - 2)) if tensor.dim() > 2 else (-1,)
    out[f"{component}.{path}.lora_magnitude_vector.weight"] = tensor.reshape(shape)
