"""Run the unit tests of the front end's pure modules (tests/js) with Node.

Node comes with playwright's driver, so nothing has to be installed for it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def node() -> str | None:
    try:
        from playwright._impl._driver import compute_driver_executable

        path = compute_driver_executable()[0]
        return str(path) if Path(path).exists() else shutil.which("node")
    except ImportError:
        return shutil.which("node")


def test_pure_modules():
    program = node()
    if program is None:
        pytest.skip("there is no Node")
    files = sorted(str(p) for p in (ROOT / "tests" / "js").glob("*.test.mjs"))
    assert files
    done = subprocess.run([program, "--test", *files], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_pages_hear_every_event_that_is_published():
    sources = "\n".join(path.read_text() for path in (ROOT / "dalla").rglob("*.py"))
    published = set(re.findall(r'events\.publish\(\s*"([a-z_.]+)"', sources))
    listed = (ROOT / "static" / "js" / "jobs.js").read_text().partition("const TYPES = [")[2].partition("]")[0]
    assert {"task.updated", "shelf.updated"} <= published
    assert published <= set(re.findall(r'"([a-z_.]+)"', listed))
