"""How often somebody may ask: API tokens everywhere under `/api`, everybody where asking costs money or goes public.

Counted per minute in memory by the `limits` library, which is loaded with the first request that is counted. A page in
a person's hands asks the rest as often as it likes. Limited answers carry `RateLimit-Limit`, `-Remaining`, `-Reset`
(seconds) and `RateLimit-Policy`; what is over the limit is 429 with `Retry-After`, and nothing was done.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request

from dalla.errors import DallaError
from dalla.web.access import identity
from dalla.web.context import services

if TYPE_CHECKING:
    from limits.strategies import MovingWindowRateLimiter

WINDOW = 60  # seconds


@dataclass(frozen=True)
class Budget:
    """How many requests of one kind fit into a minute, of a token and of a person. 0: as many as they like."""

    name: str
    token: int
    person: int
    does: str


PUBLISHING = Budget("publish", token=30, person=120, does="publish")
PLANNING = Budget("plan", token=120, person=0, does="plan posts")
WRITING = Budget("captions", token=60, person=240, does="have texts written")
WORK = Budget("work", token=60, person=240, does="start work")

#: What is limited besides the requests of a token as a whole: POST and the rule.
BUDGETS: dict[str, Budget] = {
    "/api/post-to-instagram": PUBLISHING,
    "/api/post-to-twitter": PUBLISHING,
    "/api/posts/<id>/approve": PLANNING,
    "/api/posts/<id>/publish": PUBLISHING,
    "/api/posts/<id>/retry": PUBLISHING,
    "/api/posts": PLANNING,
    "/api/posts/bulk": PLANNING,
    "/api/scheduler": PUBLISHING,
    "/api/scheduler/tasks/<id>/run": PUBLISHING,
    "/api/scheduler/runs/<id>/retry": PUBLISHING,
    "/api/tasks/<id>/retry": PUBLISHING,
    "/api/generate-caption": WRITING,
    "/api/prompts/<id>/caption": WRITING,
    "/api/prompts/bulk": WRITING,
    "/api/prompts/generate": WRITING,
    "/api/images/batch-process": WRITING,
    "/api/generate-image": WORK,
    "/api/media/<id>/upscale": WORK,
    "/api/uploads/fetch": WORK,
    "/api/lora/train": WORK,
    "/api/lora/v2/train": WORK,
    "/api/datasets/<id>/exports": WORK,
    "/api/datasets/<id>/materialize": WORK,
}


class TooMany(DallaError):
    """Somebody asks more often than is allowed."""

    code, status, title = "rate_limited", 429, "Too many requests"


@dataclass
class State:
    """Where a caller stands with the tightest limit of this request."""

    limit: int
    remaining: int
    reset: float


class RateLimits:
    """The counters of one app."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limiter: MovingWindowRateLimiter | None = None

    def hit(self, name: str, who: str, amount: int) -> tuple[bool, State]:
        """Count one request of `who`; return whether it fits, and where that leaves them."""
        from limits import RateLimitItemPerMinute

        item = RateLimitItemPerMinute(amount, namespace=name)
        limiter = self._made()
        fits = limiter.hit(item, who)
        window = limiter.get_window_stats(item, who)
        return fits, State(amount, window.remaining, max(0.0, window.reset_time - time.time()))

    def _made(self) -> MovingWindowRateLimiter:
        with self._lock:
            if self._limiter is None:
                from limits.storage import MemoryStorage
                from limits.strategies import MovingWindowRateLimiter

                self._limiter = MovingWindowRateLimiter(MemoryStorage())
            return self._limiter


def install(app: Flask) -> None:
    """Count before the views (after it is known who asks), and tell with the answer."""
    limits = app.extensions["dalla_rate_limits"] = RateLimits()

    @app.before_request
    def count() -> None:
        rule = request.url_rule.rule if request.url_rule is not None else ""
        if not request.path.startswith("/api/"):
            return
        budget = BUDGETS.get(rule) if request.method == "POST" else None
        who = identity()
        if who.kind == "nobody" or (who.kind != "token" and budget is None):
            return
        name = who.token_id or who.user_id or "local"
        wanted: list[tuple[str, int, str]] = []
        if who.kind == "token" and services().settings.rate_limit > 0:
            wanted.append(("api", services().settings.rate_limit, "ask"))
        most = (budget.token if who.kind == "token" else budget.person) if budget is not None else 0
        if budget is not None and most > 0:
            wanted.append((budget.name, most, budget.does))
        for kind, amount, does in wanted:
            fits, state = limits.hit(kind, name, amount)
            known: State | None = g.get("rate_limit")
            if known is None or state.remaining < known.remaining or not fits:
                g.rate_limit = state
            if not fits:
                raise TooMany(
                    f"You may {does} {amount} times a minute here. Nothing was done.",
                    remedy="Wait a little and ask again; the headers RateLimit-Remaining and Retry-After say when.",
                    retry_after=max(1.0, state.reset),
                )

    @app.after_request
    def tell(response: Response) -> Response:
        state: State | None = g.get("rate_limit")
        if state is not None:
            response.headers["RateLimit-Limit"] = str(state.limit)
            response.headers["RateLimit-Remaining"] = str(max(0, state.remaining))
            response.headers["RateLimit-Reset"] = str(max(1, round(state.reset)))
            response.headers["RateLimit-Policy"] = f"{state.limit};w={WINDOW}"
        return response
