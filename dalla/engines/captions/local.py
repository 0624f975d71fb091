"""Captions by a local OpenAI-compatible server: Ollama, LM Studio, llama.cpp and the like.

What the servers differ in is found out by asking: a schema, a plain "JSON" or nothing as response
format; pictures or none. What a model refused is remembered, so that it costs one request only.
"""

from __future__ import annotations

import base64
import logging
import threading
from typing import Any, Literal
from urllib.parse import urlsplit

from dalla.engines.captions import answer
from dalla.engines.captions.answer import CAPTION_SCHEMA, IDEAS_SCHEMA, Unreadable
from dalla.engines.captions.base import CaptionRequest, CaptionText, Ideas, IdeasRequest
from dalla.errors import DallaError, NotConfigured, RateLimited, TimedOut, Unavailable, UpstreamError
from dalla.records.image import EngineStatus
from dalla.settings import Settings
from dalla.settings_values import without_password

logger = logging.getLogger(__name__)

SERVICE = "local captions"
#: Seconds to connect, seconds to answer: a small model on a CPU needs minutes.
TIMEOUT = (5.0, 240.0)
LIST_TIMEOUT = (5.0, 15.0)
MAX_TOKENS = 2048  # models that think write more than the caption

_FORMATS: tuple[str | None, ...] = ("json_schema", "json_object", None)
_IMAGE_WORDS = (
    "image",
    "vision",
    "multimodal",
    "mmproj",
    "multi-modal",
    "content type",
    "content must be a string",
    "content part",
)
_NOT_WRITERS = ("embed", "whisper", "rerank", "tts", "bge-", "clip")


class LocalEngine:
    """Writes with `settings.caption_model` of the server at `settings.caption_url`. Safe for several threads."""

    name = "local"
    label = "Local server"

    def __init__(self, settings: Settings, *, timeout: tuple[float, float] = TIMEOUT) -> None:
        self._settings = settings
        self._timeout = timeout
        self._lock = threading.Lock()
        self._format: dict[tuple[str, str], int] = {}  # (address, model) -> place in _FORMATS that works
        self._blind: set[tuple[str, str]] = set()  # (address, model) that take no pictures
        self._session: Any = None

    # ------------------------------------------------------------ what there is

    def status(self, *, fresh: bool = False) -> EngineStatus:
        detail: dict[str, Any] = {
            "url": without_password(self._settings.caption_url),
            "model": self._settings.caption_model or None,
        }
        if not self._settings.caption_url:
            missing = _no_url()
            return EngineStatus(False, missing.detail, missing.remedy, detail)
        if not fresh:
            return EngineStatus(True, detail=detail)
        try:
            names = self._list()
            model = self._choose(names)
        except DallaError as exc:
            return EngineStatus(False, exc.detail, exc.remedy, detail)
        if names and model not in names:
            return EngineStatus(
                False,
                f"The server has no model called '{model}'.",
                f"Choose one of: {', '.join(names[:8])}.",
                detail,
            )
        return EngineStatus(True, f"The server answers; '{model}' writes.", None, detail | {"model": model})

    def models(self) -> list[str]:
        if not self._settings.caption_url:
            return []
        try:
            return self._list()
        except DallaError as exc:
            logger.info("The local server's models could not be listed: %s", exc.detail)
            return []

    # ------------------------------------------------------------ writing

    def write(self, request: CaptionRequest) -> CaptionText:
        model = self.model()
        notes: list[str] = []
        question, system = answer.caption_question(request), answer.caption_instructions(request)

        def ask(extra: str) -> str | None:
            return self._ask(model, system, question + extra, request.image, "caption", CAPTION_SCHEMA, notes)

        try:
            text = answer.write_with(ask, request, model, plain_allowed=True)
        except Unreadable as exc:
            raise unreadable(exc.why, model) from exc
        return CaptionText(**{**vars(text), "notes": (*dict.fromkeys(notes), *text.notes)})

    def ideas(self, request: IdeasRequest) -> Ideas:
        model = self.model()
        question, system = answer.ideas_question(request), answer.ideas_instructions(request)
        try:
            return answer.ideas_with(
                lambda extra: self._ask(model, system, question + extra, None, "ideas", IDEAS_SCHEMA, []),
                request,
                model,
            )
        except Unreadable as exc:
            raise unreadable(exc.why, model) from exc

    def close(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    # ------------------------------------------------------------ one call

    @property
    def _base(self) -> str:
        """Return the address up to and with the version: a bare host gets /v1."""
        if not self._settings.caption_url:
            raise _no_url()
        base = str(self._settings.caption_url).rstrip("/").removesuffix("/chat/completions").rstrip("/")
        return base if urlsplit(base).path.strip("/") else f"{base}/v1"

    def ask(
        self, model: str, system: str, question: str, image: bytes, name: str, schema: dict[str, Any]
    ) -> str | None:
        """Put one question about a picture (JPEG); return the text of the answer, JSON by the schema if the server can.

        Raises Unavailable (the model takes no pictures, the server is off), UpstreamError, RateLimited, TimedOut.
        """
        return self._ask(model, system, question, image, name, schema, [], must_see=True)

    def model(self) -> str:
        """Return the model that answers: the one of the settings, else the first that the server offers."""
        return str(self._settings.caption_model) or self._choose(self._list())

    def _choose(self, names: list[str]) -> str:
        if self._settings.caption_model:
            return str(self._settings.caption_model)
        writers = [name for name in names if not any(word in name.lower() for word in _NOT_WRITERS)]
        if not writers:
            raise Unavailable(
                "The local caption server has no model loaded.",
                remedy="Load one there (Ollama: 'ollama pull gemma3'; LM Studio: load a model; llama.cpp: start it with -m).",
                extra={"cause": "no_model"},
            )
        return writers[0]

    def _list(self) -> list[str]:
        body = self._send("GET", "/models", None, LIST_TIMEOUT)
        rows = body.get("data") if isinstance(body, dict) else body
        if rows is None and isinstance(body, dict):
            rows = body.get("models")  # Ollama's own form
        names = [row.get("id") or row.get("name") for row in rows or [] if isinstance(row, dict)]
        return [str(name) for name in names if name]

    def _ask(
        self,
        model: str,
        system: str,
        question: str,
        image: bytes | None,
        name: str,
        schema: dict[str, Any],
        notes: list[str],
        *,
        must_see: bool = False,
    ) -> str | None:
        key = (self._base, model)
        while True:
            if must_see and key in self._blind:
                raise Unavailable(
                    f"'{model}' takes no pictures.",
                    remedy="Load a model that sees (Ollama: 'ollama pull gemma3'), and set it as DALLA_CAPTION_MODEL.",
                    extra={"cause": "no_pictures"},
                )
            picture = image if image is not None and key not in self._blind else None
            if image is not None and picture is None:
                notes.append(f"'{model}' takes no pictures; the caption is made from the words alone.")
            place = self._format.get(key, 0)
            body: dict[str, Any] = {
                "model": model,
                "messages": [
                    {"role": "system", "content": system},
                    {"role": "user", "content": _content(question, picture)},
                ],
                "max_tokens": MAX_TOKENS,
                "stream": False,
            }
            if _FORMATS[place] == "json_schema":
                body["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": name, "strict": True, "schema": schema},
                }
            elif _FORMATS[place] == "json_object":
                body["response_format"] = {"type": "json_object"}
            try:
                return self._text(self._send("POST", "/chat/completions", body, self._timeout))
            except _Refused as refused:
                lower = refused.message.lower()
                if picture is not None and any(word in lower for word in _IMAGE_WORDS):
                    self._blind.add(key)
                elif place + 1 < len(_FORMATS) and refused.status in (400, 422) and _about_format(lower):
                    self._format[key] = place + 1
                else:
                    raise self._refusal(refused, model) from None

    def _text(self, body: Any) -> str | None:
        """Return the words of an answer. Raises UpstreamError when it was cut off or refused."""
        choices = body.get("choices") if isinstance(body, dict) else None
        if not choices or not isinstance(choices[0], dict):
            raise _error("The local server sent an empty answer.", "empty", "Try again.", kind="retry")
        message = choices[0].get("message") or {}
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
        text = content if isinstance(content, str) else ""
        if message.get("refusal") and not text.strip():
            raise _error(
                "The model refused to write this caption.", "safety", "Change the prompt, or use another model."
            )
        if choices[0].get("finish_reason") == "length":
            raise _error(
                "The model's answer was cut off before the caption was complete.",
                "cut_off",
                "Raise the context length on the server, or choose a model that thinks less.",
                kind="retry",
            )
        return text

    def _send(self, method: str, path: str, body: Any, timeout: tuple[float, float]) -> Any:
        """Return the JSON of an answer. Raises _Refused for a 4xx/5xx about the request, our errors for the rest."""
        import requests

        url = self._base + path
        headers = {"Accept": "application/json"}
        if self._settings.caption_api_key:
            headers["Authorization"] = f"Bearer {self._settings.caption_api_key}"
        try:
            response = self._connection().request(
                method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            )
        except requests.Timeout as exc:
            raise TimedOut(
                f"The local caption server did not answer within {timeout[1]:g} seconds.",
                remedy="Use a smaller model, or let the server load it first.",
                extra={"cause": "timeout"},
            ) from exc
        except requests.RequestException as exc:
            raise Unavailable(
                f"The local caption server at {without_password(url.removesuffix(path))} cannot be reached.",
                remedy="Start it, or correct its address in the settings (DALLA_CAPTION_URL).",
                extra={"cause": "unreachable"},
            ) from exc
        return self._read(response, method)

    def _read(self, response: Any, method: str) -> Any:
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = None
        if status == 200 and body is not None:
            return body
        message = _message(body)
        if status in (401, 403):
            raise _error(
                "The local caption server wants a key (or refuses the one it got).",
                "bad_key",
                "Set its key in the settings (DALLA_CAPTION_API_KEY).",
                kind="reauth",
                http=status,
            )
        if status == 429:
            wait = response.headers.get("Retry-After", "")
            raise RateLimited(
                "The local caption server has too much to do.",
                service=SERVICE,
                kind="retry",
                remedy="Try again later.",
                retry_after=float(wait) if wait.isdigit() else None,
                extra={"cause": "quota", "http": status},
            )
        if body is None or (status == 404 and not message) or 300 <= status < 400:
            raise _error(
                "There is no OpenAI-compatible server at that address.",
                "unreadable",
                "Check DALLA_CAPTION_URL; it usually ends in /v1, e.g. http://127.0.0.1:11434/v1 for Ollama.",
                http=status,
            )
        raise _Refused(status, message)

    def _refusal(self, refused: _Refused, model: str) -> DallaError:
        lower = refused.message.lower()
        said = f" It says: {refused.message}" if refused.message else ""
        if refused.status == 404 or ("model" in lower and ("not found" in lower or "does not exist" in lower)):
            return _error(
                f"The local server has no model called '{model}'.",
                "model_unknown",
                f"Load it there (Ollama: 'ollama pull {model}'), or choose another in the settings (DALLA_CAPTION_MODEL).",
                http=refused.status,
            )
        if "no models loaded" in lower or "loading model" in lower:
            return Unavailable(
                "The local server has not loaded a model yet.",
                remedy="Load a model there, or try again in a minute.",
                extra={"cause": "no_model", "http": refused.status},
            )
        if "context" in lower and any(word in lower for word in ("length", "size", "exceed", "window")):
            return _error(
                f"The question does not fit the model's context.{said}",
                "cut_off",
                "Raise the context length on the server to 8192 tokens or more.",
                http=refused.status,
            )
        if refused.status >= 500:
            return _error(
                f"The local server failed.{said}", "server", "See its log.", kind="retry", http=refused.status
            )
        return _error(
            f"The local server refused the request.{said}", "refused_request", "See its log.", http=refused.status
        )

    def _connection(self) -> Any:
        import requests

        with self._lock:
            if self._session is None:
                self._session = requests.Session()
                self._session.trust_env = False  # no proxy and no .netrc stand between us and this machine
            return self._session


class _Refused(Exception):
    """The server refused the request itself; perhaps another form of it is accepted."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _content(question: str, image: bytes | None) -> Any:
    if image is None:
        return question
    data = base64.b64encode(image).decode()
    return [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
    ]


def _about_format(lower: str) -> bool:
    return any(
        word in lower
        for word in (
            "response_format",
            "response format",
            "json_schema",
            "json_object",
            "grammar",
            "schema",
            "structured",
        )
    )


def _message(body: Any) -> str:
    """Return what an error body says: {"error": {"message"}}, {"error": "…"}, {"message"}, {"detail"}."""
    if not isinstance(body, dict):
        return ""
    found = body.get("error", body.get("message", body.get("detail", "")))
    if isinstance(found, dict):
        found = found.get("message") or found.get("code") or ""
    text = " ".join(str(found).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _no_url() -> NotConfigured:
    return NotConfigured(
        "No local caption server is set.",
        remedy="Enter its address in the settings (DALLA_CAPTION_URL), e.g. http://127.0.0.1:11434/v1 for Ollama.",
        extra={"cause": "no_key"},
    )


def unreadable(why: str, model: str) -> UpstreamError:
    """Return the error for an answer that cannot be read."""
    return _error(
        f"The answer of '{model}' could not be used: {why}.", "unreadable", "Try again, or choose a larger model."
    )


def _error(
    detail: str,
    cause: str,
    remedy: str,
    kind: Literal["retry", "permanent", "reauth"] = "permanent",
    **extra: Any,
) -> UpstreamError:
    return UpstreamError(detail, service=SERVICE, kind=kind, remedy=remedy, extra={"cause": cause, **extra})
