"""Put trainable LoRA layers on a frozen pipeline, and take their numbers off again.

The masters are always fp32, whatever the model computes in: in bf16 most updates of a small learning rate
round to nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from dalla.errors import InvalidInput

NAME = "default"
#: 3x3 convolutions and the time projection of U-Nets (LoCon), by the end of their names.
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")


class Adapters:
    """The LoRA layers on one pipeline."""

    def __init__(self, pipe: Any, family: Any, config: Any) -> None:
        """Freeze everything, then add the layers. Raises InvalidInput when there is nowhere to put one."""
        from peft import LoraConfig, inject_adapter_in_model

        self.notes: list[str] = []
        self._parts: dict[str, Any] = {}
        layout = family.lora
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        targets = list(layout.full if config.targets == "full" else layout.attention)
        ranks: dict[str, int] = {}
        if config.conv_rank:
            if layout.denoiser == "unet":
                targets += CONVOLUTIONS
                ranks = {rf"(.*\.)?{name}".replace(".0.", r"\.0\."): config.conv_rank for name in CONVOLUTIONS}
            else:
                self.notes.append("This family has no convolution layers to train; the convolution rank is not used.")
        scale = config.alpha / config.rank
        torch.manual_seed(config.seed)

        def add(component: str, names: list[str], patterns: dict[str, int]) -> None:
            part = getattr(pipe, component)
            settings = LoraConfig(
                r=config.rank, lora_alpha=config.alpha, target_modules=names, init_lora_weights="gaussian",
                use_rslora=config.use_rslora, use_dora=config.use_dora, rank_pattern=patterns,
                alpha_pattern={name: rank * scale for name, rank in patterns.items()},
            )  # fmt: skip
            try:
                if component == layout.denoiser:
                    part.add_adapter(settings, adapter_name=NAME)
                else:  # transformers' own way draws the numbers anew, and then the up matrices are not zero
                    inject_adapter_in_model(settings, part, NAME)
                    part._hf_peft_config_loaded = True
            except ValueError as exc:
                raise InvalidInput(f"This model has no layers for a LoRA: {str(exc).splitlines()[0][:200]}") from exc
            self._parts[component] = part

        add(layout.denoiser, targets, ranks)
        if config.train_text_encoder:
            for component in layout.prefixes:
                if component != layout.denoiser and getattr(pipe, component, None) is not None:
                    add(component, list(layout.text), {})
        for parameter in self.parameters():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)

    def named(self) -> dict[str, Any]:
        """Return the trainable parameters by "component/name", always in the same order."""
        return {
            f"{component}/{name}": parameter
            for component, part in self._parts.items()
            for name, parameter in part.named_parameters()
            if ".lora_" in name and f".{NAME}" in name
        }

    def parameters(self) -> list[Any]:
        return list(self.named().values())

    def groups(self, config: Any) -> list[dict[str, Any]]:
        """Return the optimizer's groups: denoiser and text encoders with their own base learning rates."""
        own: dict[bool, list[Any]] = {True: [], False: []}
        first = next(iter(self._parts))
        for name, parameter in self.named().items():
            own[name.startswith(f"{first}/")].append(parameter)
        groups = [{"params": own[True], "lr": config.learning_rate, "base_lr": config.learning_rate}]
        if own[False]:
            rate = config.text_encoder_learning_rate
            groups.append({"params": own[False], "lr": rate, "base_lr": rate})
        return groups

    def components(self) -> dict[str, Any]:
        return dict(self._parts)

    def snapshot(self) -> dict[str, Any]:
        """Return copies of the parameters on the CPU."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.named().items()}

    def restore(self, values: dict[str, Any]) -> None:
        """Set the parameters. Raises InvalidInput when they belong to other layers."""
        named = self.named()
        if named.keys() != values.keys() or any(named[k].shape != v.shape for k, v in values.items()):
            raise InvalidInput(
                "The saved state has other layers than this run (rank, target layers or model differ).",
                remedy="Resume with the settings the run was started with; learning rate and steps may change.",
            )
        with torch.no_grad():
            for name, value in values.items():
                named[name].copy_(value)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Let the plain model answer inside this block."""
        layers = self._layers()
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in layers:
                layer._disable_adapters = False

    @contextlib.contextmanager
    def using(self, values: dict[str, Any] | None) -> Iterator[None]:
        """Use other numbers (an average) inside this block. None changes nothing."""
        if values is None:
            yield
            return
        mine = self.snapshot()
        self.restore(values)
        try:
            yield
        finally:
            self.restore(mine)

    def _layers(self) -> list[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return [m for part in self._parts.values() for m in part.modules() if isinstance(m, BaseTunerLayer)]

    def moved(self) -> bool:
        """Say whether any layer does something: an up matrix that is not all zeros."""
        return any(bool(p.detach().any()) for name, p in self.named().items() if ".lora_B" in name)


class Average:
    """A running average of the parameters (EMA) that follows faster at the start."""

    def __init__(self, adapters: Adapters, decay: float = 0.99) -> None:
        self._parameters = adapters.named()
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():  # in one go: a graphics card would be asked for a thousand small things otherwise
            torch._foreach_lerp_(
                [self.values[name] for name in self._parameters], list(self._parameters.values()), 1 - decay
            )
