"""A local OpenAI-compatible server (Ollama, LM Studio, llama.cpp) looks at the pictures of a dataset."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from dalla.engines.captions.answer import Unreadable
from dalla.engines.captions.local import LocalEngine, unreadable
from dalla.engines.captions.vision import question
from dalla.engines.captions.vision.base import SENTENCE, TAGS, VisionRequest, VisionText
from dalla.records.image import EngineStatus
from dalla.settings import Settings

_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}


class LocalVision:
    """Asks the server of `settings.caption_url`; its model must take pictures."""

    name = "local"
    label = LocalEngine.label
    styles: tuple[str, ...] = (SENTENCE, TAGS)

    def __init__(self, settings: Settings, **how: Any) -> None:
        """how: what LocalEngine takes (timeout)."""
        self._settings = settings
        self._engine = LocalEngine(settings, **how)
        self._chosen: tuple[str, str] | None = None  # (address, model) while nobody named one

    @property
    def sends(self) -> bool:
        """Whether the server is another computer."""
        return urlsplit(self._settings.caption_url).hostname not in _THIS_MACHINE

    def status(self, *, fresh: bool = False) -> EngineStatus:
        return self._engine.status(fresh=fresh)

    def models(self) -> list[str]:
        return self._engine.models()

    def describe(self, request: VisionRequest) -> VisionText:
        system, words = question.instructions(request), question.question(request)
        model = request.model or self._model()

        def ask(extra: str) -> str | None:
            return self._engine.ask(model, system, words + extra, request.image, "picture", question.schema(request))

        try:
            return question.ask_with(ask, request, model, plain=True)
        except Unreadable as exc:
            raise unreadable(exc.why, model) from exc

    def release(self) -> None:
        self._chosen = None  # the server may have another model loaded by the next batch

    def close(self) -> None:
        self._engine.close()

    def _model(self) -> str:
        """Return the model of the settings, else the server's first; it is asked for once a batch."""
        if self._settings.caption_model:
            return str(self._settings.caption_model)
        if self._chosen is None or self._chosen[0] != self._settings.caption_url:
            self._chosen = (self._settings.caption_url, self._engine.model())
        return self._chosen[1]
