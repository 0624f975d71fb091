"""What the browser tests of posts share: an app beside a pretend X, a character with keys and one without, pictures."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from dalla.times import iso
from tests.e2e.conftest import Server
from tests.fakes.x import XFake


def hours(n: float) -> str:
    """A moment so many hours from now."""
    return iso(datetime.now(UTC) + timedelta(hours=n))


class World:
    """Luna may post to X (a pretend one); Kai has no keys, so all his posts are rehearsed."""

    def __init__(self, server: Server, x: XFake) -> None:
        self.server, self.x = server, x
        keys = {"".join([a, *(p.title() for p in b)]): v for k, v in x.user.keys.items() for a, *b in [k.split("_")]}
        self.luna = self.call("POST", "/characters", json={"name": "Luna", "timezone": "Europe/Berlin", **keys})
        self.kai = self.call("POST", "/characters", json={"name": "Kai", "timezone": "Europe/Berlin"})
        self.pictures = [self.picture(self.luna, n) for n in range(3)]
        self.kais = self.picture(self.kai, 9)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """Ask the app; an answer that is no success fails the test."""
        answer = requests.request(method, f"{self.server.url}/api{path}", timeout=60, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def picture(self, character: dict[str, Any], n: int) -> str:
        """A picture of the shape a model draws, which Instagram would refuse as it is."""
        across, down = Image.linear_gradient("L").resize((416, 608)), Image.radial_gradient("L").resize((416, 608))
        out = io.BytesIO()
        Image.merge("RGB", (across, down, Image.new("L", across.size, 40 + 20 * n))).save(out, "PNG")
        file = (f"{n}.png", out.getvalue())
        made = self.call("POST", "/media", files={"file": file}, data={"characterId": character["id"]})
        return made["items"][0]["id"]

    def post(self, **more: Any) -> dict[str, Any]:
        """A post of Kai on Instagram unless told otherwise."""
        body = {"characterId": self.kai["id"], "platform": "instagram", "mediaIds": [self.kais], "caption": "Words"}
        return self.call("POST", "/posts", json=body | more)

    def get(self, id: str) -> dict[str, Any]:
        return self.call("GET", f"/posts/{id}")

    def posts(self, **query: Any) -> list[dict[str, Any]]:
        return self.call("GET", "/posts", params=query)["items"]

    def set(self, id: str, **columns: Any) -> None:
        """Put a post into a state that only an accident brings about; the page hears of it at its next reload."""
        values = [json.dumps(v) if isinstance(v, dict) else v for v in columns.values()]
        with closing(sqlite3.connect(self.server.folder / "data" / "dalla.db", timeout=20)) as database, database:
            names = ", ".join(f"{name} = ?" for name in columns)
            assert database.execute(f"UPDATE posts SET {names} WHERE id = ?", [*values, id]).rowcount == 1


def drag(page: Any, source: Any, target: Any) -> None:
    """Drag as a hand does: when the page has come to rest, and in several moves, for the first begins the drag.

    Both ends are brought into view before: scrolling with the button down ends a drag before it begins.
    """
    for end in (target, source):
        end.scroll_into_view_if_needed()
    before = None
    while (now := (source.bounding_box(), target.bounding_box())) != before:
        before = now
        page.wait_for_timeout(300)
    source.hover()
    page.mouse.down()
    box = target.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    target.hover()
    page.mouse.up()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    with XFake() as x:
        server = Server(folder, X_API_URL=x.url, DALLA_MIN_GAP_MINUTES="1")
        try:
            yield World(server, x)
        finally:
            server.stop()
