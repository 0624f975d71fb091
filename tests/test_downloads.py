"""Fetching a file from an address that somebody typed in, against a server that is real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dalla import addresses
from dalla.downloads import fetch
from dalla.errors import InvalidInput, TooLarge, UpstreamError

PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 5000


class Shop(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        name = self.path.partition("?")[0]
        if name == "/moved":
            self._answer(302, {"Location": "/a%20b.png"})
        elif name == "/inside":
            self._answer(302, {"Location": "http://169.254.169.254/latest/meta-data/"})
        elif name == "/round":
            self._answer(302, {"Location": "/round"})
        elif name == "/page":
            self._answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")
        elif name == "/named":
            self._answer(
                200,
                {"Content-Type": "image/jpeg", "Content-Disposition": 'attachment; filename="../x/luna.jpg"'},
                PICTURE,
            )
        elif name == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif name == "/short":
            self._answer(200, {"Content-Type": "image/png", "Content-Length": "9999"}, PICTURE[:100])
        elif name == "/no":
            self._answer(404, {})
        else:
            self._answer(200, {"Content-Type": "image/png", "Content-Length": str(len(PICTURE))}, PICTURE)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if status != 200:
            self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    Shop.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def read(url: str, limit: int = 100_000, **more: object) -> tuple[str, bytes]:
    with fetch(url, limit=limit, private=True, **more) as file:  # type: ignore[arg-type]
        parts = []
        while piece := file.read(1000):
            parts.append(piece)
        return file.name, b"".join(parts)


def test_a_file_comes_whole_with_its_name(shop: str) -> None:
    assert read(f"{shop}/pictures/a.png?w=1") == ("a.png", PICTURE)
    assert Shop.asked == ["/pictures/a.png?w=1"]


def test_redirects_are_followed_and_names_are_tame(shop: str) -> None:
    assert read(f"{shop}/moved") == ("a b.png", PICTURE)
    assert read(f"{shop}/named") == ("_x_luna.jpg", PICTURE)
    assert read(f"{shop}/photo")[0] == "photo.png"  # the ending follows from the kind


def test_private_targets_are_refused_before_anything_is_sent(shop: str) -> None:
    with pytest.raises(addresses.Refused) as refused, fetch(f"{shop}/a.png", limit=10):
        pass
    assert "this computer" in refused.value.detail and "yourself" in str(refused.value.remedy)
    assert Shop.asked == []


def test_a_redirect_into_the_private_network_is_refused_as_well(shop: str) -> None:
    with pytest.raises(addresses.Refused, match="metadata"):
        read(f"{shop}/inside")


def test_a_name_that_answers_privately_is_refused() -> None:
    with (
        pytest.raises(addresses.Refused),
        fetch("http://pictures.example/a.png", limit=10, resolve=lambda host, port: ["10.0.0.7"]),
    ):
        pass


def test_too_much_ends_early_announced_or_not(shop: str) -> None:
    with pytest.raises(TooLarge):
        read(f"{shop}/a.png", limit=1000)
    with pytest.raises(TooLarge):
        read(f"{shop}/endless", limit=300_000)


@pytest.mark.parametrize("path", ["/no", "/round", "/short"])
def test_what_is_no_file_is_told(shop: str, path: str) -> None:
    with pytest.raises(UpstreamError):
        read(shop + path)


def test_a_web_page_is_told_as_one(shop: str) -> None:
    with pytest.raises(InvalidInput, match="web page"):
        read(f"{shop}/page")


def test_nobody_there_is_an_error_to_retry() -> None:
    with pytest.raises(UpstreamError) as failed:
        read("http://127.0.0.1:9/a.png")
    assert failed.value.kind == "retry"
