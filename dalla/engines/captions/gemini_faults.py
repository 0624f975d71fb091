"""Gemini's failures in our words: each told apart, each with what to do about it.

`error.extra["cause"]` is one of: no_key, bad_key, forbidden, location, quota, model_retired,
model_unknown, refused_request, blocked, safety, cut_off, empty, unreadable, server, overloaded,
timeout, unreachable, library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from dalla.errors import DallaError, NotConfigured, RateLimited, TimedOut, Unavailable, UpstreamError
from dalla.settings import Settings

SERVICE = "gemini"
PUBLIC_URL = "https://generativelanguage.googleapis.com/"
KEYS_PAGE = "https://aistudio.google.com/apikey"
DEFAULT_MODEL = "gemini-3.5-flash-lite"

#: Families that are switched off (or end soon), with what Google names in their place.
_REPLACEMENTS: tuple[tuple[str, str], ...] = (
    (r"gemini-2\.5-flash-lite", "gemini-3.5-flash-lite"),
    (r"gemini-2\.5-flash", "gemini-3.5-flash-lite"),
    (r"gemini-2\.5-pro", "gemini-3.8-flash"),
    (r"gemini-(?:2\.0|1\.5|1\.0).*pro", "gemini-3.8-flash"),
    (r"gemini-(?:2\.0|1\.5|1\.0)", "gemini-3.5-flash-lite"),
    (r"gemini-pro", "gemini-3.8-flash"),
    (r"gemini-3(?:\.\d)?-pro", "gemini-3.8-flash"),
)
#: Of these we know that they are gone, also where Google answers 429 for them.
_GONE = re.compile(r"gemini-(?:1\.|2\.0|pro\b)")

_FINISH: dict[str, tuple[str, str]] = {
    "SAFETY": ("safety", "its safety filter stopped the answer"),
    "PROHIBITED_CONTENT": ("safety", "the content is prohibited"),
    "BLOCKLIST": ("safety", "a word on its block list came up"),
    "SPII": ("safety", "it looked like personal data"),
    "RECITATION": ("safety", "it would have repeated somebody else's text"),
    "LANGUAGE": ("safety", "it does not write this language"),
    "IMAGE_SAFETY": ("safety", "its safety filter objects to the picture"),
    "IMAGE_PROHIBITED_CONTENT": ("safety", "the picture shows prohibited content"),
    "MODEL_ARMOR": ("safety", "a filter of the account stopped it"),
    "ESCALATION": ("safety", "a filter stopped the answer"),
    "PUP_LIMITED_DISABLED": ("forbidden", "the account is limited because of the prohibited-use policy"),
}
_BLOCKED = {
    "SAFETY": "its safety filter objects",
    "PROHIBITED_CONTENT": "it takes the content for prohibited",
    "BLOCKLIST": "it contains a word on its block list",
    "IMAGE_SAFETY": "its safety filter objects to the picture",
    "JAILBREAK": "it takes the text for an attempt to get around its rules",
    "MODEL_ARMOR": "a filter of the account stopped it",
}
_SOFTEN = "Change the words of the prompt or of the personality, write the caption yourself, or use another engine."

Kind = Literal["thinking", "version", "tokens", "busy"]


class Again(Exception):
    """A second try of this kind may succeed; `error` is what to say when it does not."""

    def __init__(self, kind: Kind, error: DallaError) -> None:
        super().__init__(error.detail)
        self.kind = kind
        self.error = error


def no_key() -> NotConfigured:
    return NotConfigured(
        "No Gemini key is set.",
        remedy=f"Get one at {KEYS_PAGE} and enter it in the settings (or GEMINI_API_KEY).",
        extra={"cause": "no_key"},
    )


def unreadable(why: str) -> UpstreamError:
    return _error(f"Gemini's answer could not be used: {why}.", "unreadable", "Try again, or choose another model.")


def replacement(model: str) -> str:
    """Return the model to use instead of one that is gone."""
    for pattern, name in _REPLACEMENTS:
        if re.match(pattern, model):
            return name if name != model else DEFAULT_MODEL
    return DEFAULT_MODEL if model != DEFAULT_MODEL else "gemini-3.8-flash"


def text_of(response: Any) -> str:
    """Return the text of a complete answer. Raises what is wrong with it, or Again when it was cut off."""
    feedback = getattr(response, "prompt_feedback", None)
    reason = _name(getattr(feedback, "block_reason", None))
    candidates = getattr(response, "candidates", None) or []
    if not candidates:
        if reason:
            why = _BLOCKED.get(reason, "it does not say why")
            raise _error(f"Gemini blocked the request: {why} ({reason}).", "blocked", _SOFTEN)
        raise _error("Gemini sent an empty answer.", "empty", "Try again.", kind="retry")
    candidate = candidates[0]
    finish = _name(getattr(candidate, "finish_reason", None))
    parts = getattr(getattr(candidate, "content", None), "parts", None) or []
    text = "".join(part.text for part in parts if getattr(part, "text", None) and not getattr(part, "thought", None))
    if finish == "MAX_TOKENS":
        raise Again(
            "tokens",
            _error(
                "Gemini's answer was cut off before the caption was complete.",
                "cut_off",
                "Try again, or choose a model that thinks less (a 'flash-lite' one).",
                kind="retry",
            ),
        )
    if finish in _FINISH:
        cause, why = _FINISH[finish]
        raise _error(f"Gemini wrote no caption: {why} ({finish}).", cause, _SOFTEN)
    if not text.strip():
        more = f" ({finish})" if finish and finish != "STOP" else ""
        raise _error(f"Gemini sent an empty answer{more}.", "empty", "Try again.", kind="retry")
    return text


@contextmanager
def translated(settings: Settings, model: str) -> Iterator[None]:
    """Turn what the library raises inside the block into our errors (or Again)."""
    try:
        yield
    except (DallaError, Again):
        raise
    except ImportError as exc:
        raise Unavailable(
            f"Gemini needs the Python package '{exc.name or 'google-genai'}', which is not installed.",
            remedy="Run 'make install' (or pip install -r requirements.txt).",
            extra={"cause": "library"},
        ) from exc
    except Exception as exc:
        found = _translate(exc, settings, model)
        if found is None:
            raise
        raise found from exc


def _translate(exc: Exception, settings: Settings, model: str) -> Exception | None:
    import httpx2
    from google.genai import errors

    if isinstance(exc, errors.APIError):
        return _api_error(exc, settings, model)
    where = settings.gemini_base_url or "Google"
    if isinstance(exc, httpx2.TimeoutException):
        return TimedOut(
            f"{where} did not answer in time." if settings.gemini_base_url else "Gemini did not answer in time.",
            remedy="Try again; with slow models choose a 'flash' one.",
            extra={"cause": "timeout"},
        )
    if isinstance(exc, httpx2.HTTPError):
        return Unavailable(
            f"Gemini cannot be reached ({type(exc).__name__}).",
            remedy=f"Check the address {where} in the settings (GEMINI_BASE_URL)."
            if settings.gemini_base_url
            else "Check the internet connection of this computer.",
            extra={"cause": "unreachable"},
        )
    if isinstance(exc, errors.UnknownApiResponseError) or type(exc).__name__ in ("JSONDecodeError", "ValidationError"):
        return _error(
            "The answer does not come from Gemini.",
            "unreadable",
            "Check GEMINI_BASE_URL, and that no proxy or sign-in page stands between.",
        )
    if isinstance(exc, (ValueError, httpx2.InvalidURL)):
        return _error(
            f"Gemini cannot be asked: {_clean(str(exc), settings)}", "refused_request", "Check the Gemini settings."
        )
    return None


def _api_error(exc: Any, settings: Settings, model: str) -> Exception:
    code, status = exc.code, str(exc.status or "")
    message = _clean(exc.message or "", settings)
    details = _details(exc.details)
    reason = next((str(d["reason"]) for d in details if d.get("reason")), "")
    lower = message.lower()
    said = f" It says: {message}" if message else ""
    http = {"http": code}
    if (
        reason in ("API_KEY_INVALID", "API_KEY_EXPIRED")
        or code == 401
        or "api key not valid" in lower
        or "api key expired" in lower
    ):
        word = "has expired" if "EXPIRED" in reason or "expired" in lower else "is not valid"
        return _error(
            f"The Gemini key {word}.",
            "bad_key",
            f"Get a key at {KEYS_PAGE} and enter it in the settings (or GEMINI_API_KEY).",
            kind="reauth",
            **http,
        )
    if code == 403:
        return _error(
            f"This Gemini key may not do that.{said}",
            "forbidden",
            "In Google AI Studio, allow the Generative Language API for the key and lift its restrictions.",
            kind="reauth",
            **http,
        )
    if code == 400 and "location" in lower and "not supported" in lower:
        return _error(
            "Google does not offer Gemini where this computer is.",
            "location",
            "Use a local caption server, or the offline composer.",
            **http,
        )
    if code == 404:
        return _no_model(model, said, settings, http)
    if code == 429:
        return _quota(model, message, details, http)
    if code == 400:
        refused = _error(f"Gemini refused the request.{said}", "refused_request", "Choose another model.", **http)
        if "thinking" in lower:
            return Again("thinking", refused)
        if "unknown name" in lower and settings.gemini_api_version == "v1":
            return Again("version", refused)
        return refused
    if code == 503:
        return Again(
            "busy",
            _error("Gemini is overloaded at the moment.", "overloaded", "Try again in a minute.", kind="retry", **http),
        )
    if code in (408, 504):
        return TimedOut("Gemini did not answer in time.", remedy="Try again.", extra={"cause": "timeout", "http": code})
    if code >= 500:
        return Again(
            "busy",
            _error(
                f"Gemini has a problem of its own ({code} {status}).",
                "server",
                "Try again later.",
                kind="retry",
                **http,
            ),
        )
    return _error(f"Gemini refused the request ({code} {status}).{said}", "refused_request", None, **http)


def _no_model(model: str, said: str, settings: Settings, http: dict[str, Any]) -> DallaError:
    known = any(re.match(pattern, model) for pattern, _ in _REPLACEMENTS)
    better = replacement(model)
    if known:
        return _error(
            f"Google has retired the model '{model}'.",
            "model_retired",
            f"Set the Gemini model to '{better}' in the settings (GEMINI_MODEL).",
            model=model,
            replacement=better,
            **http,
        )
    version = " Some models answer only the API version v1beta." if settings.gemini_api_version == "v1" else ""
    return _error(
        f"Gemini has no model called '{model}' (or has retired it).",
        "model_unknown",
        f"Set the Gemini model to '{better}', or choose one from the list in the settings.{version}",
        model=model,
        replacement=better,
        **http,
    )


def _quota(model: str, message: str, details: list[dict[str, Any]], http: dict[str, Any]) -> DallaError:
    if _GONE.match(model):  # Google also answers 429 for models that are gone
        return _no_model(model, "", _ANY, http)
    wait = _retry_delay(details, message)
    violated = " ".join(
        str(v.get("quotaId") or "") for d in details for v in d.get("violations") or [] if isinstance(v, dict)
    )
    per_day = "PerDay" in violated or "per day" in message.lower()
    none_at_all = "limit: 0" in message
    when = f" It can be asked again in {_span(wait)}." if wait else ""
    if none_at_all:
        detail = f"This Gemini key has no quota for '{model}'."
        remedy = f"Set up billing at {KEYS_PAGE}, or choose another model, e.g. '{replacement(model)}'."
    else:
        detail = f"The {'daily ' if per_day else ''}quota of the Gemini key is used up.{when}"
        remedy = f"Wait, or set up billing at {KEYS_PAGE}."
    return RateLimited(
        detail, service=SERVICE, kind="retry", remedy=remedy, retry_after=wait, extra={"cause": "quota", **http}
    )


class _Any:
    """Settings where only the API version matters and it is not v1."""

    gemini_api_version = "v1beta"


_ANY: Any = _Any()


def _retry_delay(details: list[dict[str, Any]], message: str) -> float | None:
    """Return the seconds Google wants us to wait (RetryInfo, else the words of the message)."""
    for detail in details:
        delay = detail.get("retryDelay") or detail.get("retry_delay")
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)s", delay.strip())):
            return float(match[1])
        if isinstance(delay, dict):
            return float(delay.get("seconds", 0)) or None
    if match := re.search(r"retry in (\d+(?:\.\d+)?)\s*s", message):
        return float(match[1])
    return None


def _details(body: Any) -> list[dict[str, Any]]:
    error = body.get("error", body) if isinstance(body, dict) else {}
    found = error.get("details") if isinstance(error, dict) else None
    return [d for d in found or [] if isinstance(d, dict)]


def _error(
    detail: str,
    cause: str,
    remedy: str | None,
    kind: Literal["retry", "permanent", "reauth"] = "permanent",
    **extra: Any,
) -> UpstreamError:
    return UpstreamError(detail, service=SERVICE, kind=kind, remedy=remedy, extra={"cause": cause, **extra})


def _clean(message: str, settings: Settings) -> str:
    """Return a message on one line, of bearable length, without the key."""
    text = " ".join(str(message).split())
    if settings.gemini_api_key:
        text = text.replace(settings.gemini_api_key, "•••")
    text = re.sub(r"AIza[\w-]{10,}", "•••", text)
    return text if len(text) <= 300 else text[:299] + "…"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{round(seconds / 3600)} hours"


def _name(value: Any) -> str:
    return str(getattr(value, "value", value) or "")
