"""No name leads out of the app's folders: every string of every documented call, replaced by ways out, one at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.api_world import ApiWorld, calls

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in trainer uses flock")

CANARY = "the-canary-that-nobody-may-hear"
#: A folder of this computer is what these are for; who may name one is decided by the rights (docs/access.md).
FOLDERS = {"path", "target"}
#: Calls that end what the later ones need, or only wait.
LEFT_OUT = ("/api/events", "/api/system/restart", "/api/auth/")


def ways_out(root: Path) -> list[str]:
    return [
        "../../secret.txt",
        str(root / "secret.txt"),
        "..\\x/../../../secret.txt\0.png",
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where the strings are in a JSON value."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for n, one in enumerate(value):
            yield from places(one, (*path, n))
    elif isinstance(value, str):
        yield path


def replaced(call: dict[str, Any], where: tuple[Any, ...], text: str) -> dict[str, Any]:
    changed = copy.deepcopy(call)
    target = changed
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = text
    return changed


def outside(root: Path) -> set[str]:
    """What lies beside the app's own folders."""
    return {p.name for p in root.iterdir()}


def test_no_name_leads_out(tmp_path):
    (tmp_path / "secret.txt").write_text(CANARY)
    world = ApiWorld(tmp_path)
    try:
        before = outside(tmp_path)
        heard, broken, tried = [], [], 0
        for call in calls():
            if any(part in call["call"] for part in LEFT_OUT):
                continue
            for part in ("path", "query", "body", "form"):
                for where in places(call.get(part, {})):
                    text_is_a_file = part == "form" and str(call["form"][where[0]]).startswith(("@", "['@"))
                    if where[-1] in FOLDERS or text_is_a_file:
                        continue
                    for text in ways_out(tmp_path):
                        hostile = replaced(call, (part, *where), text)
                        try:
                            answer = world.send(hostile)
                        except KeyError:  # an earlier call was not made, so its name is not known
                            break
                        tried += 1
                        said = answer.data
                        if CANARY.encode() in said:
                            heard.append(f"{call['call']} {part} {where}: {text!r}")
                        if answer.status_code >= 500 and answer.status_code != 502:
                            broken.append(
                                f"{call['call']} {part} {where}: {text!r}: {answer.status_code} {said[:200]!r}"
                            )
                        answer.close()
            try:
                world.run(call).close()
            except (AssertionError, KeyError, IndexError, TypeError):
                continue  # what the hostile ones left may change what an example finds
        assert tried > 1000
        assert not heard, "\n".join(heard)
        assert not broken, "\n".join(broken)
        assert (tmp_path / "secret.txt").read_text() == CANARY
        assert outside(tmp_path) - before <= {"elsewhere"}
    finally:
        world.close()
