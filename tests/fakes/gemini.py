"""A pretend Gemini API: generateContent and models, strict where the real one is.

It refuses what Google refuses (bad keys, retired models, sampling fields for Gemini 3, MINIMAL
thinking on 3.8-flash, unknown fields) and fills the response schema with plausible words. What the
next answers should be is ordered with `next`: "block", "safety", "prohibited", "cut", "cut_empty",
"empty", "no_candidates", "quota", "quota_day", "forbidden", "busy", "internal", "not_json", "html",
"drop", or a dict that is answered as the caption. `written` counts the complete answers given.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any

from tests.fakes.server import Call, LoopbackFake, Reply

MODELS = {
    "gemini-3.8-flash": "Gemini 3.8 Flash",
    "gemini-3.7-flash": "Gemini 3.7 Flash",
    "gemini-3.5-flash": "Gemini 3.5 Flash",
    "gemini-3.5-flash-lite": "Gemini 3.5 Flash-Lite",
    "gemini-3.1-flash-lite": "Gemini 3.1 Flash-Lite",
    "gemini-2.5-flash": "Gemini 2.5 Flash",
    "gemini-2.5-flash-lite": "Gemini 2.5 Flash-Lite",
}
#: Aliases that only the beta version knows.
BETA_ONLY = {"gemini-flash-latest": "Gemini Flash (latest)"}

_TOP = {
    "contents",
    "systemInstruction",
    "generationConfig",
    "safetySettings",
    "tools",
    "toolConfig",
    "cachedContent",
    "labels",
}
_CONFIG = {
    "responseMimeType", "responseSchema", "responseJsonSchema", "maxOutputTokens", "thinkingConfig", "temperature", "topP",
    "topK", "candidateCount", "stopSequences", "seed", "responseModalities", "mediaResolution", "presencePenalty",
    "frequencyPenalty",
}  # fmt: skip
_SENTENCES = (
    "Some evenings write themselves.",
    "I kept this moment for you.",
    "The light found me before I found the words.",
    "Not every story needs a plan.",
    "I could have stayed for hours.",
    "Today felt like the first page of something.",
)


class GeminiFake(LoopbackFake):
    """`with GeminiFake() as fake: Settings(GEMINI_BASE_URL=fake.url, GEMINI_API_KEY=fake.key)`."""

    def __init__(self, *, key: str = "AIza-test-key-0123456789", open: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.key = key
        self.open = open  # take any key: for the standalone fakes
        self.models = dict(MODELS)
        self.expired_keys: set[str] = set()
        self.v1_lacks: set[str] = set()  # fields of generationConfig that v1 does not know
        self.written = 0
        self.pictures: list[bytes] = []  # decoded pictures of the requests
        self._orders: list[Any] = []
        self._guard = threading.Lock()

    def next(self, *orders: Any) -> None:
        """Order what the next generateContent calls are answered with, one each."""
        with self._guard:
            self._orders.extend(orders)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The bodies of the generateContent requests so far, keys in camelCase."""
        return [_camel(call.json) for call in self.requests if call.path.endswith(":generateContent")]

    # ------------------------------------------------------------ routes

    def handle(self, call: Call) -> Reply:
        if call.path == "/_fake/next":
            self.next(*(call.json or []))
            return Reply(200, {"orders": len(self._orders)})
        if call.path == "/_fake/state":
            return Reply(200, {"written": self.written, "pictures": len(self.pictures), "requests": len(self.requests)})
        match = re.fullmatch(r"/(v1|v1beta|v1alpha)/models(?:/([^/:]+))?(?::(\w+))?", call.path)
        if match is None:
            return Reply(404, "<!DOCTYPE html><html><title>Error 404 (Not Found)!!1</title></html>")
        version, model, verb = match.groups()
        if refused := self._check_key(call):
            return refused
        known = self.models | (BETA_ONLY if version != "v1" else {})
        if call.method == "GET" and verb is None:
            if model is None:
                return Reply(200, {"models": [_described(name, label) for name, label in known.items()]})
            return Reply(200, _described(model, known[model])) if model in known else _missing(model, version)
        if call.method != "POST" or verb != "generateContent" or model is None:
            return _error(404, "NOT_FOUND", "Method not found.")
        if model not in known:
            return _missing(model, version)
        body = call.json
        if not isinstance(body, dict):
            return _error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.")
        return self._generate(version, model, _camel(body))

    def _check_key(self, call: Call) -> Reply | None:
        key = call.headers.get("x-goog-api-key") or call.query.get("key")
        if not key:
            return _error(
                403,
                "PERMISSION_DENIED",
                "Method doesn't allow unregistered callers (callers without established identity).",
            )
        if key in self.expired_keys:
            return _error(
                400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", _info("API_KEY_INVALID")
            )
        if not self.open and key != self.key:
            return _error(
                400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", _info("API_KEY_INVALID")
            )
        return None

    def _generate(self, version: str, model: str, body: dict[str, Any]) -> Reply:
        if refused := self._check(version, model, body):
            return refused
        with self._guard:
            order = self._orders.pop(0) if self._orders else "ok"
        if isinstance(order, str) and order in _ORDERS:
            return _ORDERS[order](model)
        config = body.get("generationConfig", {})
        schema = config.get("responseSchema") or config.get("responseJsonSchema")
        if isinstance(order, dict) and "raw" not in order:
            text = json.dumps(order)
        elif isinstance(order, dict):
            text = str(order["raw"])
        elif schema:
            text = json.dumps(self._fill(schema, "", _said(body)), ensure_ascii=False)
        else:
            text = "A caption without a schema."
        thoughts = 0 if _thinks_little(config) else 400
        if config.get("maxOutputTokens", 8192) < thoughts + len(text) // 4:
            return _answer("", "MAX_TOKENS", model)
        if order == "cut":
            return _answer(text[: len(text) // 2], "MAX_TOKENS", model)
        if order == "cut_empty":
            return _answer("", "MAX_TOKENS", model)
        if order == "not_json":
            text = "I would love to help you with that caption."
        with self._guard:
            self.written += 1
        return _answer(text, "STOP", model)

    def _check(self, version: str, model: str, body: dict[str, Any]) -> Reply | None:
        config = body.get("generationConfig") or {}
        for where, given, known in (("", body, _TOP), ("generation_config", config, _CONFIG)):
            lacking = self.v1_lacks if version == "v1" and where else set()
            for name in given:
                if name not in known or name in lacking:
                    at = f" at '{where}'" if where else ""
                    return _error(
                        400,
                        "INVALID_ARGUMENT",
                        f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
                    )
        generation = int((re.match(r"gemini-(\d+)", model) or [0, 3])[1])
        thinking = config.get("thinkingConfig") or {}
        level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
        if level is not None and budget is not None:
            return _error(400, "INVALID_ARGUMENT", "You can only set one of thinking budget and thinking level.")
        if generation >= 3:
            for name in ("temperature", "topP", "topK"):
                if name in config:
                    return _error(400, "INVALID_ARGUMENT", f"{name} is not supported for this model.")
            if budget is not None:
                return _error(400, "INVALID_ARGUMENT", "Thinking budget is not supported for this model.")
        elif level is not None:
            return _error(400, "INVALID_ARGUMENT", "Thinking level is not supported for this model.")
        if level == "MINIMAL" and model == "gemini-3.8-flash":
            return _error(400, "INVALID_ARGUMENT", "Thinking level MINIMAL is not supported for this model.")
        return self._check_contents(body)

    def _check_contents(self, body: dict[str, Any]) -> Reply | None:
        parts = [part for content in body.get("contents") or [] for part in content.get("parts") or []]
        if not parts:
            return _error(400, "INVALID_ARGUMENT", "* GenerateContentRequest.contents: contents is not specified\n")
        for part in parts:
            blob = part.get("inlineData")
            if blob is None:
                continue
            data = str(blob.get("data", "")).replace("-", "+").replace("_", "/")  # the SDK sends the URL-safe form
            try:
                picture = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
            except ValueError:
                return _error(400, "INVALID_ARGUMENT", "Invalid value at 'contents[0].parts[0].inline_data.data'.")
            if not blob.get("mimeType", "").startswith("image/") or picture[:3] != b"\xff\xd8\xff":
                return _error(400, "INVALID_ARGUMENT", "Unable to process input image. Please retry or report.")
            with self._guard:
                self.pictures.append(picture)
        return None

    def _fill(self, schema: dict[str, Any], name: str, said: str) -> Any:
        kind = str(schema.get("type", "STRING")).upper()
        number = self.written
        if kind == "OBJECT":
            return {key: self._fill(part, key, said) for key, part in schema.get("properties", {}).items()}
        if kind == "ARRAY":
            if "hashtag" in name:
                return ["evening", "story", "light", "moments"]
            if name == "tags":
                return ["woman", "red dress", "city street", "soft light"]
            wanted = int((re.search(r"Think of (\d+)", said) or [0, 3])[1])
            return [f"walking along street number {number}-{n}, soft light, half-length shot" for n in range(wanted)]
        if kind in ("INTEGER", "NUMBER"):
            return 1
        if name == "caption":  # a picture of a dataset
            return f"A woman in a red dress on a city street, soft light, number {number + 1}"
        sentence = _SENTENCES[(number + len(said)) % len(_SENTENCES)]
        if "alt" in name:
            return "A person in warm light, looking at the camera."
        return f"{sentence} ({number + 1})" if name.endswith("_x") else f"{sentence}\n\nTell me yours. ({number + 1})"


# ---------------------------------------------------------------- answers


def _answer(text: str, finish: str, model: str) -> Reply:
    candidate: dict[str, Any] = {"finishReason": finish, "index": 0}
    candidate["content"] = {"parts": [{"text": text}], "role": "model"} if text else {"role": "model"}
    return Reply(200, {"candidates": [candidate], "usageMetadata": _usage(text), "modelVersion": model})


def _usage(text: str) -> dict[str, int]:
    return {"promptTokenCount": 300, "candidatesTokenCount": len(text) // 4, "totalTokenCount": 300 + len(text) // 4}


def _filtered(reason: str) -> Any:
    return lambda model: Reply(
        200,
        {"candidates": [{"finishReason": reason, "index": 0}], "usageMetadata": _usage(""), "modelVersion": model},
    )


def _error(code: int, status: str, message: str, *details: dict[str, Any]) -> Reply:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return Reply(code, {"error": error})


def _info(reason: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def _quota(per: str, delay: str) -> Any:
    return lambda model: _error(
        429,
        "RESOURCE_EXHAUSTED",
        f"You exceeded your current quota, please check your plan and billing details. Please retry in {delay}.",
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": f"GenerateRequests{per}PerProjectPerModel-FreeTier", "quotaValue": "20"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    )


def _missing(model: str, version: str) -> Reply:
    return _error(
        404,
        "NOT_FOUND",
        f"models/{model} is not found for API version {version}, or is not supported for generateContent.",
    )


_ORDERS: dict[str, Any] = {
    "block": lambda model: Reply(
        200,
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": _usage(""), "modelVersion": model},
    ),
    "no_candidates": lambda model: Reply(200, {"usageMetadata": _usage(""), "modelVersion": model}),
    "safety": _filtered("SAFETY"),
    "prohibited": _filtered("PROHIBITED_CONTENT"),
    "recitation": _filtered("RECITATION"),
    "empty": lambda model: _answer("", "STOP", model),
    "quota": _quota("PerMinute", "21s"),
    "quota_day": _quota("PerDay", "3600s"),
    "no_quota": lambda model: _error(
        429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. * Quota exceeded for metric: requests, limit: 0"
    ),
    "forbidden": lambda model: _error(
        403, "PERMISSION_DENIED", "Generative Language API has not been used in project 1."
    ),
    "location": lambda model: _error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    "busy": lambda model: _error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "internal": lambda model: _error(500, "INTERNAL", "An internal error has occurred."),
    "no_thinking": lambda model: _error(400, "INVALID_ARGUMENT", "Thinking level is not supported for this model."),
    "html": lambda model: Reply(200, "<!DOCTYPE html><html><title>Sign in</title></html>"),
    "html_502": lambda model: Reply(502, "<html><body>Bad gateway</body></html>"),
    "drop": lambda model: Reply(0),
}


def _described(name: str, label: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "displayName": label,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
    }


def _thinks_little(config: dict[str, Any]) -> bool:
    thinking = config.get("thinkingConfig") or {}
    return thinking.get("thinkingLevel") in ("LOW", "MINIMAL") or thinking.get("thinkingBudget") == 0


def _said(body: dict[str, Any]) -> str:
    return "\n".join(p.get("text", "") for c in body.get("contents") or [] for p in c.get("parts") or [])


def _camel(value: Any) -> Any:
    """Keys in camelCase: the SDK mixes both spellings, and the real service takes both. Names of properties stay."""
    if isinstance(value, list):
        return [_camel(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, part in value.items():
        name = re.sub(r"_(\w)", lambda m: m[1].upper(), key)
        result[name] = {k: _camel(v) for k, v in part.items()} if name == "properties" else _camel(part)
    return result
