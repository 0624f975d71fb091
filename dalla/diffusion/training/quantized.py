"""Keep the frozen denoiser's weights in fewer bits: 8-bit floats by PyTorch alone, int8 and nf4 by bitsandbytes.

A frozen layer needs its weights twice, forward and for the gradient of its input. Here it keeps only the narrow
ones in between and widens them each time, layer by layer, so that the wide ones never lie in memory together.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_input

from dalla.errors import NotConfigured

#: The largest number of torch.float8_e4m3fn.
LARGEST = 448.0


def quantize(pipe: Any, family: Any, how: str) -> list[str]:
    """Store the linear layers (fp8: convolutions, too) of the denoiser's blocks in fewer bits; return notes.

    To be called before LoRA layers are put on. `how`: none, fp8, int8, nf4; the latter two quantise on their way to
    the card. What a machine cannot do was refused by `records.training_machine`; raises NotConfigured when
    bitsandbytes is installed and does not load.
    """
    if how == "none":
        return []
    denoiser = getattr(pipe, family.lora.denoiser)
    if how == "fp8":
        for _, module in _of_blocks(denoiser):
            narrow(module)
        return ["The base model's weights are kept in 8 bits."]
    _replace_linear(denoiser, load_bitsandbytes(), how)
    return [f"The base model's weights are kept in {'8' if how == 'int8' else '4'} bits."]


def load_bitsandbytes() -> Any:
    """Return the package bitsandbytes. Raises NotConfigured when it is broken (built for another CUDA, say)."""
    try:
        import bitsandbytes
    except Exception as exc:  # noqa: BLE001 - a library built for another driver fails in its own ways
        why = str(exc).splitlines()[0][:200] if str(exc) else type(exc).__name__
        raise NotConfigured(
            f"The package bitsandbytes cannot be loaded: {why}",
            remedy="Install it again (pip install -U bitsandbytes), or set quantize to none and the optimizer to adamw.",
        ) from exc
    return bitsandbytes


def _of_blocks(root: Any) -> list[tuple[str, Any]]:
    """Return (path, layer) of the plain linear and convolution layers inside the repeated blocks.

    What lies outside (embeddings, the first and the last layer) is small and stays as exact as it is.
    """
    return [
        (path, module)
        for path, module in root.named_modules()
        if type(module) in (torch.nn.Linear, torch.nn.Conv2d) and "blocks." in path.replace("mid_block.", "blocks.")
    ]


# ---------------------------------------------------------------- fp8


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, scale: Any, bias: Any) -> Any:
        ctx.save_for_backward(weight, scale)
        return functional.linear(x, _wide(weight, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:  # type: ignore[override]
        weight, scale = ctx.saved_tensors
        return grad @ _wide(weight, scale, grad.dtype), None, None, None


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, scale: Any, bias: Any, geometry: tuple[Any, ...]) -> Any:
        ctx.save_for_backward(weight, scale)
        ctx.shape, ctx.geometry = x.shape, geometry
        return functional.conv2d(x, _wide(weight, scale, x.dtype), bias, *geometry)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:  # type: ignore[override]
        weight, scale = ctx.saved_tensors
        wide = _wide(weight, scale, grad.dtype)
        return conv2d_input(ctx.shape, wide, grad, *ctx.geometry), None, None, None, None


def _linear(layer: Any, x: Any) -> Any:
    return _Linear.apply(_as_computed(x), layer.weight, layer.scale, layer.bias)


def _conv2d(layer: Any, x: Any) -> Any:
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return _Conv2d.apply(_as_computed(x), layer.weight, layer.scale, layer.bias, geometry)


def _as_computed(x: Any) -> Any:
    """Give an input the format autocast computes in: after a norm it is fp32, and the weights would be widened to that."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def narrow(layer: Any) -> None:
    """Keep the weight of a Linear or a Conv2d (zero padding) in fp8, in place, and freeze it.

    Each output's weights use the whole range; `scale` holds the factors, in the format the weight had. The layer
    keeps its class, of which LoRA layers are made.
    """
    weight = layer.weight.data
    largest = weight.abs().flatten(1).amax(1).clamp(min=1e-12).float() / LARGEST
    scale = largest.view(-1, *[1] * (weight.dim() - 1))
    layer.weight = torch.nn.Parameter((weight.float() / scale).to(torch.float8_e4m3fn), requires_grad=False)
    layer.register_buffer("scale", scale.to(weight.dtype), persistent=False)
    layer.compute_dtype = weight.dtype  # what PEFT gives LoRA layers on it
    layer.forward = MethodType(_linear if isinstance(layer, torch.nn.Linear) else _conv2d, layer)


def _wide(weight: Any, scale: Any, dtype: Any) -> Any:
    return weight.to(dtype) * scale.to(dtype)


# ---------------------------------------------------------------- bitsandbytes


def _replace_linear(root: Any, bitsandbytes: Any, how: str) -> None:
    """Put bitsandbytes' layers in the place of the blocks' linear layers, without ever filling two of them."""
    for path, module in _of_blocks(root):
        if not isinstance(module, torch.nn.Linear):
            continue
        bias, weight = module.bias is not None, module.weight.data.cpu()
        if how == "int8":
            new = bitsandbytes.nn.Linear8bitLt(
                module.in_features, module.out_features, bias, has_fp16_weights=False, device="meta"
            )
            new.weight = bitsandbytes.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        else:
            new = bitsandbytes.nn.Linear4bit(
                module.in_features, module.out_features, bias, compute_dtype=weight.dtype, quant_type="nf4",
                device="meta",
            )  # fmt: skip
            new.weight = bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
        if bias:
            new.bias = module.bias
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, new)
