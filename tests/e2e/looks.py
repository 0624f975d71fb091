"""What the browser tests of every page share: waiting for a state, a page at rest, what axe-core finds on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE

#: Fonts are there, every animation that ends has ended, and what they left has been drawn.
REST = """async () => {
    await document.fonts.ready;
    const moving = () => document.getAnimations().filter(
        (a) => a.playState === "running" && Number.isFinite(a.effect?.getComputedTiming().endTime));
    for (let those = moving(); those.length; those = moving()) await Promise.allSettled(those.map((a) => a.finished));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""

#: Only what is serious comes back: the whole of what axe looked at takes longer to send than to find.
AXE = """async (colours) => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const found = await axe.run(document, {
        preload: false,  // it would fetch the style sheets again, from addresses relative to the page
        resultTypes: ["violations"],
        ...(dark && { runOnly: colours }),
    });
    return found.violations.filter((v) => ["serious", "critical"].includes(v.impact)).flatMap((v) => v.nodes.slice(0, 3).map(
        (n) => `${v.id} (${v.impact}): ${n.html.slice(0, 200)} ${(n.failureSummary ?? "").slice(0, 200)}`));
}"""
#: The rules that depend on the theme. The dark one has the same elements, which are looked at in the light.
COLOURS = ["color-contrast", "link-in-text-block"]


def until(page: Any, question: Callable[[], Any]) -> Any:
    """Ask again and again until the answer is no nothing, and return it."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        if answer := question():
            return answer
        page.wait_for_timeout(100)
    raise AssertionError("it never came true")


def rest(page: Any) -> None:
    """Wait until nothing moves on the page any more."""
    page.evaluate(REST)


def serious(page: Any) -> list[str]:
    """What keeps somebody from using the page as it stands, one line for each; of the dark theme, its colours."""
    base = pytest.importorskip("axe_playwright_python.base")
    rest(page)
    page.evaluate(base.AXE_SCRIPT)
    found: list[str] = page.evaluate(AXE, COLOURS)
    return found
