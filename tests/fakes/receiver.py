"""A pretend receiver of webhooks: checks what a careful receiver checks and counts events, not calls.

An event is accepted when its signature is right and its time is recent; the same id twice is one event.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from tests.fakes.server import Call, LoopbackFake, Reply


class ReceiverFake(LoopbackFake):
    """`with ReceiverFake() as fake: fake.secret = …; …; fake.events`."""

    def __init__(self, secret: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.secret = secret
        self.events: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []

    def handle(self, call: Call) -> Reply:
        """Take an event, or say why not."""
        problem = self._problem(call)
        if problem:
            self.refused.append(problem)
            return Reply(401, problem)
        self.events.setdefault(call.headers["X-Dalla-Delivery"], json.loads(call.body))
        return Reply(200, "thank you")

    def _problem(self, call: Call) -> str | None:
        if call.method != "POST":
            return "POST is expected"
        stamp = call.headers.get("X-Dalla-Timestamp", "")
        expected = hmac.new(self.secret.encode(), stamp.encode() + b"." + call.body, hashlib.sha256).hexdigest()
        given = call.headers.get("X-Dalla-Signature", "")
        if not hmac.compare_digest(given, f"sha256={expected}"):
            return "the signature is wrong"
        if not stamp.isdigit():
            return "the timestamp is no number of seconds"
        body = call.json
        if not isinstance(body, dict) or set(body) != {"id", "event", "timestamp", "data"}:
            return "the body is not an event"
        if body["id"] != call.headers.get("X-Dalla-Delivery") or body["event"] != call.headers.get("X-Dalla-Event"):
            return "headers and body disagree"
        return None
