"""Describe pictures with BLIP, Florence-2 or a WD tagger from a folder on this computer.

Only the classes of transformers itself are used, only files of the folder are read, and no program code that lies in
it is ever run. The tagger is in `caption_tagger.py`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dalla import imaging
from dalla.diffusion import hardware
from dalla.diffusion.generate import Listener
from dalla.errors import DallaError, NotConfigured, StorageError, UpstreamError

#: Most tokens of an answer by wished length.
BLIP_TOKENS = {"short": 20, "medium": 40, "long": 75}
BLIP_LEAST = {"short": 5, "medium": 8, "long": 20}
FLORENCE_TASKS = {"short": "<CAPTION>", "medium": "<DETAILED_CAPTION>", "long": "<MORE_DETAILED_CAPTION>"}
FLORENCE_TOKENS = {"short": 64, "medium": 256, "long": 512}
BEAMS = 3
#: A word that BLIP-large makes up ("arafed man", "araffe").
_MADE_UP = re.compile(r"\ba?ar?raf+[ae]?d?\b\s*", re.IGNORECASE)


@dataclass
class CaptionTask:
    """What is to be described with what, as it comes over the pipe (see `engines/captions/vision/weights.py`)."""

    kind: str  # blip | florence2 | wd_tagger
    path: str
    stamp: str = ""
    length: str = "medium"
    threshold: float = 0.35
    device: str = "auto"
    precision: str = "auto"


class Captioner:
    """Holds one model. Not thread-safe: one call after another."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._model: Any = None

    def describe(self, task: CaptionTask, jpeg: bytes, listener: Listener) -> dict[str, Any]:
        """Return {text, tags: [[tag, score]…], device, precision, notes}.

        Raises StorageError (the weights cannot be loaded), NotConfigured (something is missing), InvalidInput (the
        picture cannot be read), UpstreamError (out of memory).
        """
        model: Any = None
        try:
            model = self._load(task, listener)
            image = imaging.flatten(imaging.open_image(jpeg, name="the picture").image)
            return model.describe(image, task)
        except DallaError:
            raise
        except Exception as exc:
            if hardware.out_of_memory(exc):
                model = None
                hardware.let_go(exc)
                self.unload()
                raise UpstreamError(
                    f"There is not enough memory for '{Path(task.path).name}'.",
                    service="captions",
                    remedy="Use a smaller model, set DALLA_DEVICE=cpu, or close other programs that use the memory.",
                ) from exc
            raise

    def unload(self) -> None:
        """Forget the model and give its memory back."""
        device = getattr(self._model, "device", None)
        self._key = self._model = None
        if device in ("cuda", "mps"):
            hardware.free_cache(device)

    def _load(self, task: CaptionTask, listener: Listener) -> Any:
        key = (task.kind, task.path, task.stamp, task.device, task.precision)
        if self._key != key:
            self.unload()
            folder = Path(task.path)
            listener.phase(f"Loading {folder.name}")
            if task.kind == "wd_tagger":
                from dalla.diffusion.caption_tagger import Tagger

                self._model = Tagger(folder)
            else:
                check_folder(folder, task.kind)
                place = hardware.choose(task.device, task.precision)
                self._model = {"blip": _Blip, "florence2": _Florence2}[task.kind](folder, place)
            self._key = key
        return self._model


def check_folder(folder: Path, kind: str) -> None:
    """Refuse a folder that cannot be loaded without its own program code. Raises StorageError, NotConfigured."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise StorageError(
            f"The config.json of '{folder.name}' cannot be read: {exc}", remedy="Copy the complete folder again."
        ) from exc
    if config.get("auto_map") or (config.get("text_config") or {}).get("model_type") == "florence2_language":
        raise NotConfigured(
            f"'{folder.name}' needs program code of its own, which is never run here.",
            remedy="Use a copy converted for transformers, e.g. florence-community/Florence-2-base for Florence-2."
            if kind == "florence2"
            else "Use a model that transformers knows by itself.",
        )


class _Loaded:
    """What BLIP and Florence-2 have in common: loading by two classes, and where to compute."""

    def __init__(self, folder: Path, place: hardware.Hardware, model_class: Any, processor_class: Any) -> None:
        import torch

        self.device, self.precision, self.notes = place.device, place.precision, list(place.notes)
        self._place = place
        try:
            self.processor = processor_class.from_pretrained(str(folder), local_files_only=True)
            self.model = model_class.from_pretrained(str(folder), local_files_only=True, dtype=place.dtype)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as exc:
            if hardware.out_of_memory(exc):
                raise
            said = (str(exc).splitlines() or [type(exc).__name__])[0][:300]
            raise StorageError(
                f"The model folder '{folder.name}' cannot be loaded: {said}",
                remedy="Copy the complete folder again: config.json, model.safetensors, preprocessor_config.json and "
                "the tokenizer's files.",
            ) from exc
        self.model.to(place.device).eval()
        if place.device == "cpu":
            hardware._set_threads(SimpleNamespace(components={"model": self.model}))
        self._torch = torch

    def inputs(self, **arguments: Any) -> dict[str, Any]:
        """Prepare the model's input: on its device, floating numbers in its format."""
        found = self.processor(**arguments, return_tensors="pt")
        return {
            name: value.to(self.device, self._place.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in found.items()
        }

    def answer(self, text: str) -> dict[str, Any]:
        return {
            "text": " ".join(text.split()),
            "tags": [],
            "device": self.device,
            "precision": self.precision,
            "notes": self.notes,
        }


class _Blip(_Loaded):
    def __init__(self, folder: Path, place: hardware.Hardware) -> None:
        from transformers import BlipForConditionalGeneration, BlipProcessor

        super().__init__(folder, place, BlipForConditionalGeneration, BlipProcessor)

    def describe(self, image: Any, task: CaptionTask) -> dict[str, Any]:
        with self._torch.inference_mode():
            tokens = self.model.generate(
                **self.inputs(images=image),
                max_new_tokens=BLIP_TOKENS[task.length],
                min_new_tokens=BLIP_LEAST[task.length],
                num_beams=BEAMS,
                repetition_penalty=1.2,
                do_sample=False,
            )
        start = self.model.config.text_config.bos_token_id  # a mark of BLIP's own, which its tokenizer takes for a word
        words = [token for token in tokens[0].tolist() if token != start]
        return self.answer(_MADE_UP.sub("", self.processor.decode(words, skip_special_tokens=True)))


class _Florence2(_Loaded):
    def __init__(self, folder: Path, place: hardware.Hardware) -> None:
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        super().__init__(folder, place, Florence2ForConditionalGeneration, Florence2Processor)

    def describe(self, image: Any, task: CaptionTask) -> dict[str, Any]:
        prompt = FLORENCE_TASKS[task.length]
        with self._torch.inference_mode():
            tokens = self.model.generate(
                **self.inputs(text=prompt, images=image),
                max_new_tokens=FLORENCE_TOKENS[task.length],
                num_beams=BEAMS,
                do_sample=False,
            )
        return self.answer(self.processor.batch_decode(tokens, skip_special_tokens=True)[0])
