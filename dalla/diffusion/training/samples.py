"""Pictures drawn during training: the same prompts, seeds and sizes each time, with and without the trigger word."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dalla import imaging, paths
from dalla.diffusion.training import colours
from dalla.diffusion.workers import Workers
from dalla.records.family import FAMILIES


@dataclass(frozen=True)
class SamplePrompt:
    """One picture to draw at every occasion."""

    index: int
    prompt: str
    seed: int
    with_trigger: bool


def prompts_for(config: Any, captions: list[str]) -> list[SamplePrompt]:
    """Return the prompts: the user's, else two captions; each once more without the trigger word if it has it."""
    texts = [p for p in (config.sample_prompts or []) if p.strip()]
    trigger = config.trigger_word.strip()
    texts = (
        [p.replace("[trigger]", trigger) for p in texts] or list(dict.fromkeys(captions))[:2] or [trigger or "portrait"]
    )
    found: list[SamplePrompt] = []
    for number, text in enumerate(texts):
        bare = without_word(text, trigger)
        found.append(SamplePrompt(len(found), text, config.sample_seed + number, bool(trigger) and bare != text))
        if trigger and bare != text:
            plain = bare or config.class_word.strip() or "portrait"  # a caption may be the trigger word alone
            found.append(SamplePrompt(len(found), plain, config.sample_seed + number, False))
    return found


def colour_prompts(config: Any) -> list[SamplePrompt]:
    """Return the prompts of the colour test, as many with the trigger word (if there is one) with the same seeds."""
    trigger, word = config.trigger_word.strip(), config.class_word.strip()
    texts = [(asked.plain(), False) for asked in colours.ASKED]
    if trigger:
        texts += [(asked.named(trigger, word), True) for asked in colours.ASKED]
    count = len(colours.ASKED)
    return [SamplePrompt(n, text, colours.SEED + n % count, named) for n, (text, named) in enumerate(texts)]


def file_of(step: int, index: int) -> str:
    """Return a sample's path relative to the run folder."""
    return f"samples/step_{step:06d}_{index}.png"


def without_word(text: str, word: str) -> str:
    """Return a prompt without a word and without the comma that belonged to it."""
    if not word:
        return text
    plain = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)\s*,?", "", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", plain).strip(" ,")


@contextlib.contextmanager
def exact_decoding(vae: Any, device: str) -> Iterator[None]:
    """Keep autocast out of a VAE's decoder: SDXL's overflows in fp16 (black pictures), though the pipeline widens it."""
    vae.decode = torch.autocast(device, enabled=False)(vae.decode)
    try:
        yield
    finally:
        del vae.decode


class Sampler:
    """Draws with the pipeline that is being trained. Prompts are encoded once, at the start (unless the text
    encoders are trained), so those encoders can leave the memory."""

    def __init__(
        self, pipe: Any, family: Any, config: Any, prompts: list[SamplePrompt], device: str, native: int
    ) -> None:
        self._pipe, self._family, self._config = pipe, family, config
        self.prompts = prompts
        self._device = device
        multiple = family.size_multiple(pipe)
        self.side = max(multiple, min(config.resolution, native) // multiple * multiple)
        self.native = native
        #: Drawn for the report alone; none unless the base model is the starter model.
        self.colours = colour_prompts(config) if colours.is_starter(pipe, family.name, native) else []
        facts = FAMILIES[family.name]
        self._cfg = facts.cfg_scale if facts.cfg_scale is None or native > 256 else 4.0
        self._encoded: dict[str, dict[str, Any]] = {}
        self.workers = Workers()

    def encode(self) -> None:
        """Encode every prompt now and keep the tensors on the CPU."""
        with torch.no_grad():
            for prompt in [*self.prompts, *self.colours]:
                self._encoded[prompt.prompt] = self._arguments(prompt.prompt, "cpu")

    def _arguments(self, prompt: str, device: str) -> dict[str, Any]:
        guided = self._family.is_guided(self._cfg)
        arguments = self._family.encode(self._pipe, prompt, "", guided).arguments
        return {k: v.detach().to(device) if torch.is_tensor(v) else v for k, v in arguments.items()}

    def draw(self, prompt: SamplePrompt, *, side: int | None = None, steps: int | None = None) -> Any:
        """Draw one picture: a PIL image of `side` px, in `steps` steps (otherwise as the run's samples are).

        The training's random state and scheduler stay as they are.
        """
        from dalla.diffusion.sampling import build_scheduler

        family = self._family
        own = self._pipe.scheduler
        pipe = copy.copy(self._pipe)  # with a scheduler of its own, so several pictures can be drawn at once
        vae_was = pipe.vae.device, pipe.vae.dtype
        state = torch.get_rng_state()
        denoiser = getattr(pipe, family.lora.denoiser)
        training = denoiser.training
        denoiser.eval()
        try:
            pipe.vae.to(self._device)
            pipe.scheduler = build_scheduler(
                dict(own.config), *(("euler", "simple") if family.flow else ("uni_pc", "normal")),
                family=family.name, flow=family.flow,
            )  # fmt: skip
            with contextlib.ExitStack() as stack:
                stack.enter_context(torch.no_grad())
                if self._device == "cuda" and denoiser.dtype != torch.float32:
                    stack.enter_context(torch.autocast(self._device, dtype=denoiser.dtype))
                    stack.enter_context(exact_decoding(pipe.vae, self._device))
                arguments = self._encoded.get(prompt.prompt) or self._arguments(prompt.prompt, self._device)
                arguments = {k: v.to(self._device) if torch.is_tensor(v) else v for k, v in arguments.items()}
                image = pipe(
                    **arguments,
                    **family.guidance(self._cfg, None),
                    num_inference_steps=steps or self._config.sample_steps,
                    width=side or self.side,
                    height=side or self.side,
                    generator=torch.Generator("cpu").manual_seed(prompt.seed),
                    output_type="pil",
                ).images[0]
        finally:
            pipe.vae.to(*vae_was)
            denoiser.train(training)
            torch.set_rng_state(state)
        return image

    def draw_each(self, prompts: list[SamplePrompt], **options: Any) -> Iterator[Any]:
        """Yield the picture of every prompt in order; `workers` draw several at once. Options are those of `draw`."""
        denoiser = getattr(self._pipe, self._family.lora.denoiser)
        training = denoiser.training
        denoiser.eval()  # for all of them, not until the first is drawn
        try:
            yield from self.workers.each(lambda prompt: self.draw(prompt, **options), prompts)
        finally:
            denoiser.train(training)

    def write(self, folder: Path, step: int, prompt: SamplePrompt, image: Any) -> str:
        """Save a sample as PNG; return its path relative to the run folder."""
        name = file_of(step, prompt.index)
        (folder / "samples").mkdir(exist_ok=True)
        paths.write_atomic(folder / name, imaging.to_png(image), durable=False)
        return name
