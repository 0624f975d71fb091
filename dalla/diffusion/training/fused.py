"""A LoRA layer in two products instead of three products, a multiplication and an addition (fp32 on a CPU).

`W x + s B (A x)` is computed as `(W + s B A) x`: putting the small product into the weight costs less than taking
every row through it, and nothing of the size of the output is added. The weight is put together again on the way
back, so nothing more is kept in memory. Only with weights in fp32: in bf16 the sum would round the LoRA away.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


class _Joined(torch.autograd.Function):
    """x (... x in), weight (out x in, frozen), bias (out or None), a (rank x in), b (out x rank) to ... x out."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return F.linear(x, torch.addmm(weight, b, a, alpha=scale), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, a, b = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        rows = x.reshape(-1, weight.shape[1])
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (grad @ torch.addmm(weight, b, a, alpha=ctx.scale)).view_as(x)
        of_b = torch.mm(grad.T, rows @ a.T).mul_(ctx.scale)
        of_a = torch.mm((grad @ b).T, rows).mul_(ctx.scale)
        return of_x, None, None, of_a, of_b, None


def fuse(part: Any, adapter: str) -> int:
    """Let a component's plain LoRA layers on fp32 linear layers compute that way; return how many there are.

    A layer answers in PEFT's own way again while its adapter is off or merged, under autocast, with so few rows
    that putting the weight together would cost more, and when it has several adapters.
    """
    from peft.tuners.lora.layer import Linear

    layers: list[Any] = [layer for layer in part.modules() if type(layer) is Linear and _plain(layer, adapter)]
    for layer in layers:
        layer.forward = _Forward(layer, adapter)
    return len(layers)


def _plain(layer: Any, adapter: str) -> bool:
    base = layer.get_base_layer()
    tensors = (base.weight, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight)
    return (
        type(base) is torch.nn.Linear
        and all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
        and list(layer.lora_A) == [adapter]
        and not layer.use_dora[adapter]
        and not layer.lora_bias[adapter]
        and isinstance(layer.lora_dropout[adapter], torch.nn.Identity)
    )


class _Forward:
    """The forward of one layer."""

    def __init__(self, layer: Any, adapter: str) -> None:
        self._layer, self._adapter = layer, adapter
        self._base = layer.get_base_layer()
        out, inside = self._base.weight.shape
        self._least = out * inside / (out + inside)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        layer, name = self._layer, self._adapter
        if (
            args or kwargs or layer.disable_adapters or layer.merged or layer.active_adapters != [name]
            or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or x.numel() / x.shape[-1] < self._least
        ):  # fmt: skip
            return type(layer).forward(layer, x, *args, **kwargs)
        base = self._base
        return _Joined.apply(
            x, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
        )
