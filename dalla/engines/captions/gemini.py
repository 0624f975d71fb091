"""Captions by Google Gemini through google-genai. What can go wrong is told in gemini_faults.py."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from dalla.engines.captions import answer, gemini_faults
from dalla.engines.captions.answer import CAPTION_SCHEMA, IDEAS_SCHEMA, Unreadable
from dalla.engines.captions.base import CaptionRequest, CaptionText, Ideas, IdeasRequest
from dalla.errors import DallaError, RateLimited
from dalla.records.image import EngineStatus
from dalla.settings import Settings

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
#: Tokens of an answer, thinking included: a caption needs 300, thinking at LOW up to about 1500.
MAX_TOKENS = 4096
#: Least seconds between two requests after an answer 503, for the one repeat.
PAUSE_SECONDS = 1.0

_GENERATION = re.compile(r"gemini-(\d+)")


class GeminiEngine:
    """Writes with the model of `settings.gemini_model`. Safe for several threads."""

    name = "gemini"
    label = "Gemini"

    def __init__(
        self,
        settings: Settings,
        *,
        timeout: float = TIMEOUT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._timeout = timeout
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None
        self._made_for: tuple[Any, ...] | None = None
        self._no_thinking: set[str] = set()  # models that refused a thinking level
        self._beta: set[tuple[Any, ...]] = set()  # addresses whose v1 lacks a field we need
        self._blocked: tuple[float, RateLimited] | None = None  # no call before this moment

    # ------------------------------------------------------------ what there is

    def status(self, *, fresh: bool = False) -> EngineStatus:
        model = self._model
        detail: dict[str, Any] = {"model": model}
        if not self._settings.gemini_api_key:
            missing = gemini_faults.no_key()
            return EngineStatus(False, missing.detail, missing.remedy, detail)
        if not fresh:
            return EngineStatus(True, detail=detail)
        try:
            with gemini_faults.translated(self._settings, model):
                client = self._connect()
                found = client.models.get(model=model)
        except DallaError as exc:
            return EngineStatus(False, exc.detail, exc.remedy, detail)
        label = found.display_name or model
        return EngineStatus(True, f"The key works and {label} can be used.", None, detail)

    def models(self) -> list[str]:
        if not self._settings.gemini_api_key:
            return []
        try:
            with gemini_faults.translated(self._settings, self._model):
                client = self._connect()
                names = []
                for found in client.models.list(config={"page_size": 200}):
                    name = (found.name or "").removeprefix("models/")
                    if "generateContent" in (found.supported_actions or ["generateContent"]) and name.startswith(
                        "gemini"
                    ):
                        names.append(name)
        except DallaError as exc:
            logger.info("Gemini's models could not be listed: %s", exc.detail)
            return []
        return sorted(set(names))

    # ------------------------------------------------------------ writing

    def write(self, request: CaptionRequest) -> CaptionText:
        question = answer.caption_question(request)
        system = answer.caption_instructions(request)

        def ask(extra: str) -> str | None:
            return self.ask(system, question + extra, request.image, CAPTION_SCHEMA)

        try:
            return answer.write_with(ask, request, self._model)
        except Unreadable as exc:
            raise gemini_faults.unreadable(exc.why) from exc

    def ideas(self, request: IdeasRequest) -> Ideas:
        question = answer.ideas_question(request)
        system = answer.ideas_instructions(request)
        try:
            return answer.ideas_with(
                lambda extra: self.ask(system, question + extra, None, IDEAS_SCHEMA), request, self._model
            )
        except Unreadable as exc:
            raise gemini_faults.unreadable(exc.why) from exc

    def close(self) -> None:
        with self._lock:
            client, self._client, self._made_for = self._client, None, None
        if client is not None:
            client.close()

    # ------------------------------------------------------------ one call

    @property
    def _model(self) -> str:
        return str(self._settings.gemini_model).strip().removeprefix("models/")

    def ask(self, system: str, question: str, image: bytes | None, schema: dict[str, Any]) -> str:
        """Put one question, with a JPEG or without; return the text of a complete answer, JSON by the schema.

        Raises every error of gemini_faults.
        """
        if not self._settings.gemini_api_key:
            raise gemini_faults.no_key()
        self._check_blocked()
        tokens = MAX_TOKENS
        repeated: set[str] = set()
        while True:
            try:
                response = self._call(system, question, image, schema, tokens)
                return gemini_faults.text_of(response)
            except gemini_faults.Again as again:
                # Each kind of second chance is taken once: without thinking, by v1beta, with more room, after a 503.
                if again.kind in repeated:
                    raise again.error from again.error.__cause__
                repeated.add(again.kind)
                if again.kind == "thinking":
                    self._no_thinking.add(self._model)
                elif again.kind == "version":
                    self._beta.add(self._address)
                elif again.kind == "tokens":
                    tokens = 2 * MAX_TOKENS
                else:
                    self._sleep(PAUSE_SECONDS)
            except RateLimited as exc:
                if exc.retry_after:
                    self._blocked = (self._clock() + exc.retry_after, exc)
                raise

    def _call(self, system: str, question: str, image: bytes | None, schema: dict[str, Any], tokens: int) -> Any:
        model = self._model
        with gemini_faults.translated(self._settings, model):
            from google.genai import types

            client = self._connect()  # kept in a name of its own: a client that is let go is closed
            contents: list[Any] = []
            if image is not None:
                contents.append(types.Part.from_bytes(data=image, mime_type="image/jpeg"))
            contents.append(types.Part.from_text(text=question))
            config = types.GenerateContentConfig(
                system_instruction=system,
                response_mime_type="application/json",
                response_schema=to_gemini(schema),
                max_output_tokens=tokens,
                thinking_config=self._thinking(types, model),
            )
            return client.models.generate_content(model=model, contents=contents, config=config)

    def _thinking(self, types: Any, model: str) -> Any:
        """Little thinking where it can be set; Gemini 3 and later refuse budgets, older ones know no level."""
        generation = _GENERATION.match(model)
        if generation is None or int(generation[1]) < 3 or model in self._no_thinking:
            return None
        return types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)

    @property
    def _address(self) -> tuple[Any, ...]:
        s = self._settings
        return (s.gemini_api_key, s.gemini_base_url, s.gemini_api_version)

    def _connect(self) -> Any:
        """Return the client, made anew when a setting of it has changed."""
        from google import genai
        from google.genai import types

        address = self._address
        version = "v1beta" if address in self._beta else self._settings.gemini_api_version
        wanted = (*address, version)
        with self._lock:
            if self._client is None or self._made_for != wanted:
                self._blocked = None
                self._client = genai.Client(
                    api_key=self._settings.gemini_api_key,
                    enterprise=False,  # whatever the environment says: the key is that of the Gemini API
                    http_options=types.HttpOptions(
                        base_url=self._settings.gemini_base_url or gemini_faults.PUBLIC_URL,
                        api_version=version,
                        timeout=round(self._timeout * 1000),
                        retry_options=types.HttpRetryOptions(attempts=1),
                    ),
                )
                self._made_for = wanted
            return self._client

    def _check_blocked(self) -> None:
        """Do not ask again before the time the service named. Raises RateLimited."""
        if self._blocked is None:
            return
        until, error = self._blocked
        left = until - self._clock()
        if left <= 0 or self._made_for is None or self._made_for[:3] != self._address:
            self._blocked = None
            return
        raise RateLimited(
            error.detail,
            service="gemini",
            kind="retry",
            remedy=error.remedy,
            retry_after=left,
            extra={"cause": "quota"},
        )


def to_gemini(schema: dict[str, Any]) -> dict[str, Any]:
    """Turn a JSON schema into Gemini's own form: types in capitals, the order of the fields said."""
    result: dict[str, Any] = {"type": schema["type"].upper()}
    if "description" in schema:
        result["description"] = schema["description"]
    if "items" in schema:
        result["items"] = to_gemini(schema["items"])
    if "maxItems" in schema:
        result["max_items"] = schema["maxItems"]
    if "properties" in schema:
        result["properties"] = {name: to_gemini(part) for name, part in schema["properties"].items()}
        result["required"] = list(schema.get("required", ()))
        result["property_ordering"] = list(schema["properties"])
    return result
