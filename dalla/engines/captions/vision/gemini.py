"""Gemini looks at the pictures of a dataset: the client, its waiting and its errors are those of the posts' captions."""

from __future__ import annotations

import threading
from typing import Any

from dalla.engines.captions import gemini_faults
from dalla.engines.captions.answer import Unreadable
from dalla.engines.captions.gemini import GeminiEngine
from dalla.engines.captions.vision import question
from dalla.engines.captions.vision.base import SENTENCE, TAGS, VisionRequest, VisionText
from dalla.records.image import EngineStatus
from dalla.settings import Settings


class GeminiVision:
    """Sends a small copy of each picture, without metadata, to Google."""

    name = "gemini"
    label = GeminiEngine.label
    styles: tuple[str, ...] = (SENTENCE, TAGS)
    sends = True

    def __init__(self, settings: Settings, **how: Any) -> None:
        """how: what GeminiEngine takes (timeout, sleep, clock)."""
        self._settings = settings
        self._how = how
        self._engines: dict[str, GeminiEngine] = {}
        self._lock = threading.Lock()

    def status(self, *, fresh: bool = False) -> EngineStatus:
        return self._engine(None).status(fresh=fresh)

    def models(self) -> list[str]:
        return self._engine(None).models()

    def describe(self, request: VisionRequest) -> VisionText:
        system, words = question.instructions(request), question.question(request)
        engine = self._engine(request.model)

        def ask(extra: str) -> str:
            return engine.ask(system, words + extra, request.image, question.schema(request))

        try:
            return question.ask_with(ask, request, request.model or str(self._settings.gemini_model))
        except Unreadable as exc:
            raise gemini_faults.unreadable(exc.why) from exc

    def release(self) -> None:
        """Nothing is held that matters."""

    def close(self) -> None:
        with self._lock:
            engines, self._engines = self._engines, {}
        for engine in engines.values():
            engine.close()

    def _engine(self, model: str | None) -> GeminiEngine:
        """Return the client for a model; None: that of the settings, whatever it is by then."""
        with self._lock:
            if (model or "") not in self._engines:
                settings: Any = _WithModel(self._settings, model) if model else self._settings
                self._engines[model or ""] = GeminiEngine(settings, **self._how)
            return self._engines[model or ""]


class _WithModel:
    """The settings, with another Gemini model."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self.gemini_model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)
