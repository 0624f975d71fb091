"""The pictures of a character: what arrives while they are looked at and worked on by keyboard."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Server
from tests.e2e.looks import until
from tests.e2e.test_lora import picture

expect = pytest.importorskip("playwright.sync_api").expect


class Somebody:
    """A character with pictures of her own, which stand newest first."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.id = requests.post(f"{server.url}/api/characters", json={"name": name}, timeout=10).json()["id"]

    def picture(self, n: int) -> str:
        files = {"file": (f"{n}.png", picture(n, (96, 96)))}
        answer = requests.post(f"{self.server.url}/api/media", files=files, data={"characterId": self.id}, timeout=30)
        assert answer.ok, answer.text
        return str(answer.json()["items"][0]["id"])


def test_the_keyboard_stays_with_its_picture_when_a_new_one_arrives(page: Any, server: Server) -> None:
    luna = Somebody(server, "Luna")
    oldest, middle, newest = (luna.picture(n) for n in range(3))
    page.goto(f"/characters.html?id={luna.id}&tab=content")
    cells = page.get_by_role("gridcell")
    expect(cells).to_have_count(3)
    keys = "cells => cells.map((c) => c.dataset.key)"
    cells.nth(1).focus()
    page.keyboard.press(" ")
    latest = luna.picture(3)
    expect(cells).to_have_count(4)
    assert cells.evaluate_all(keys) == [latest, newest, middle, oldest]
    page.keyboard.press(".")
    expect(page.get_by_role("gridcell", name=re.compile("starred"))).to_have_attribute("data-key", middle)
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("[role=gridcell][aria-selected=true]")).to_have_count(2)
    assert page.locator("[role=gridcell][aria-selected=true]").evaluate_all(keys) == [middle, oldest]


def test_a_picture_that_arrives_late_is_not_shown_with_another_character(page: Any, server: Server) -> None:
    when = time.time_ns()  # neighbours, whoever else is there
    ada, bea = Somebody(server, f"{when} Ada"), Somebody(server, f"{when} Bea")
    first, other = ada.picture(4), bea.picture(5)
    page.goto(f"/characters.html?id={ada.id}&tab=content")
    cell = page.get_by_role("gridcell")
    expect(cell).to_have_attribute("data-key", first)
    held: list[Any] = []
    page.route(re.compile(r"/api/media/[^/?]+$"), lambda route: held.append(route))
    late = ada.picture(6)
    until(page, lambda: held)
    assert held[0].request.url.endswith(late)
    page.keyboard.press("ArrowRight")  # the next character
    expect(page).to_have_url(re.compile(bea.id))
    expect(cell).to_have_attribute("data-key", other)
    with page.expect_response(held[0].request.url) as answer:
        held[0].continue_()
    answer.value.finished()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert cell.evaluate_all("cells => cells.map((c) => c.dataset.key)") == [other]
