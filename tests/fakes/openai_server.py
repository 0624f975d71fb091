"""A pretend local caption server with the OpenAI protocol, in the ways of Ollama, LM Studio and llama.cpp.

`flavour` decides what is refused and how. How answers look is ordered with `next`: "json", "fenced",
"think", "bare_think", "plain", "missing", "parts", "comma", "prose", "cut", "empty", "refusal", "long",
a dict (answered as JSON), or an int (an HTTP status). `written` counts the complete answers given.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any

from tests.fakes.server import Call, LoopbackFake, Reply

CAPTION = {
    "caption_instagram": "The kettle sings and so do I.\n\nWhat is your morning song?",
    "caption_x": "The kettle sings and so do I.",
    "hashtags": ["morning", "tea", "slowliving"],
    "alt_text": "A woman by a window with a cup of tea.",
}

#: What it sees in every picture of a dataset.
PICTURE = {"caption": "A woman with a cup of tea by a window."}
PICTURE_TAGS = {"tags": ["woman", "cup", "tea", "window"]}


class OpenAIFake(LoopbackFake):
    """`with OpenAIFake(flavour="ollama") as fake: Settings(DALLA_CAPTION_URL=fake.url + "/v1")`."""

    def __init__(
        self,
        *,
        flavour: str = "ollama",
        models: tuple[str, ...] = ("gemma3:4b",),
        vision: bool = True,
        key: str = "",
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.flavour = flavour  # ollama | lmstudio | llamacpp | plain (knows no response_format)
        self.models = list(models)
        self.vision = vision
        self.key = key
        self.written = 0
        self.pictures: list[bytes] = []
        self._orders: list[Any] = []
        self._guard = threading.Lock()

    def next(self, *orders: Any) -> None:
        """Order how the next answers look, one each."""
        with self._guard:
            self._orders.extend(orders)

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The bodies of the chat requests so far."""
        return [call.json for call in self.requests if call.path.endswith("/chat/completions")]

    def handle(self, call: Call) -> Reply:
        if call.path == "/_fake/next":
            self.next(*(call.json or []))
            return Reply(200, {"orders": len(self._orders)})
        if not call.path.startswith("/v1/"):
            return Reply(404, "404 page not found")
        if self.key and call.headers.get("Authorization") != f"Bearer {self.key}":
            return Reply(401, {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}})
        if call.method == "GET" and call.path == "/v1/models":
            rows = [{"id": name, "object": "model", "owned_by": "library"} for name in self.models]
            return Reply(200, {"object": "list", "data": rows})
        if call.method == "POST" and call.path == "/v1/chat/completions":
            return self._chat(call.json)
        return Reply(404, {"error": f"Unexpected endpoint or method. ({call.method} {call.path})"})

    def _chat(self, body: Any) -> Reply:
        if not isinstance(body, dict) or not body.get("messages"):
            return self._refuse(400, "[] is too short - 'messages'")
        if refused := self._check(body):
            return refused
        with self._guard:
            order = self._orders.pop(0) if self._orders else "json"
        if isinstance(order, int):
            return self._refuse(order, "Something failed.")
        wanted = self._wanted(body)
        text = order if isinstance(order, dict) else _STYLES[order](wanted)
        content: Any = json.dumps(text) if isinstance(text, dict) else text
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if order == "parts":
            message["content"] = [{"type": "text", "text": json.dumps(wanted)}]
        if order == "refusal":
            message |= {"content": None, "refusal": "I cannot help with that."}
        finish = "length" if order == "cut" else "stop"
        if finish == "stop" and order not in ("empty", "refusal"):
            with self._guard:
                self.written += 1
        return Reply(
            200,
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": body.get("model"),
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": 200, "completion_tokens": 80, "total_tokens": 280},
            },
        )

    def _check(self, body: dict[str, Any]) -> Reply | None:
        model = body.get("model")
        if not self.models:
            return self._refuse(404, "No models loaded. Please load a model in the developer page.")
        if self.flavour != "llamacpp" and model not in self.models:
            return self._refuse(404, f"model '{model}' not found, try pulling it first")
        kind = (body.get("response_format") or {}).get("type")
        if self.flavour == "lmstudio" and kind == "json_object":
            return self._refuse(400, "'response_format.type' must be 'json_schema' or 'text'")
        if self.flavour == "plain" and kind:
            return self._refuse(400, "Unknown parameter: response_format")
        if kind == "json_schema" and not (body["response_format"].get("json_schema") or {}).get("schema"):
            return self._refuse(400, "response_format.json_schema.schema is required")
        for message in body["messages"]:
            parts = message["content"] if isinstance(message["content"], list) else []
            for part in parts:
                if part.get("type") != "image_url":
                    continue
                if not self.vision:
                    return self._no_pictures()
                match = re.fullmatch(r"data:image/jpeg;base64,([A-Za-z0-9+/]+=*)", part["image_url"]["url"])
                if match is None:
                    return self._refuse(400, "invalid image input")
                with self._guard:
                    self.pictures.append(base64.b64decode(match[1], validate=True))
        return None

    def _no_pictures(self) -> Reply:
        if self.flavour == "llamacpp":
            hint = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
            return self._refuse(500, hint)
        if self.flavour == "lmstudio":
            return self._refuse(400, "Model does not support images. Please use a model that does.")
        return self._refuse(400, "this model is missing data required for image input")

    def _refuse(self, status: int, message: str) -> Reply:
        if self.flavour == "lmstudio":
            return Reply(status, {"error": message})
        return Reply(status, {"error": {"message": message, "type": "invalid_request_error", "code": status}})

    @staticmethod
    def _wanted(body: dict[str, Any]) -> dict[str, Any]:
        said = json.dumps(body["messages"])
        found = re.search(r"Think of (\d+) pictures", said)
        if found:
            return {
                "prompts": [f"reading letter number {n} on a stone bench, soft light" for n in range(int(found[1]))]
            }
        if "Describe the attached picture" in said:
            return dict(PICTURE_TAGS if '\\"tags\\"' in said else PICTURE)
        return dict(CAPTION)


_STYLES: dict[str, Any] = {
    "json": json.dumps,
    "parts": json.dumps,
    "refusal": json.dumps,
    "fenced": lambda c: f"Here is your caption:\n```json\n{json.dumps(c, indent=2)}\n```\nEnjoy!",
    "think": lambda c: f'<think>The user wants {{a caption}}. Maybe {{"x": 1}}?</think>\n{json.dumps(c)}',
    "bare_think": lambda c: f"Let me see {{…}}.\n</think>\n\n{json.dumps(c)}",
    "plain": lambda c: 'Sure, here is a caption:\n"Tea first, everything else later." #tea #morning',
    "missing": lambda c: json.dumps({"caption": c["caption_instagram"], "tags": "#morning, #tea"}),
    "comma": lambda c: json.dumps(c)[:-1] + ",}",
    "prose": lambda c: "{ I am not able to write JSON",
    "cut": lambda c: json.dumps(c)[:40],
    "empty": lambda c: "",
    "long": lambda c: json.dumps({**c, "caption_x": "word " * 120, "hashtags": [f"tag{n}" for n in range(14)]}),
}
