"""The session to the platforms: limits, redirects, and what never appears in its errors."""

from __future__ import annotations

import socket
import threading

import pytest
import requests

from dalla.platforms.guarded import GuardedSession
from dalla.platforms.session import TIMEOUT, live_session, never_sent, scrub
from tests.fakes.server import LoopbackFake, Reply

TOKEN = "IGAAverysecrettoken0123456789"


class Web(LoopbackFake):
    def __init__(self):
        super().__init__()
        self.pages = {}

    def handle(self, call):
        return self.pages.get(call.path, Reply(200, {"ok": True}))


@pytest.fixture
def web():
    with Web() as server:
        yield server


@pytest.fixture
def session():
    with live_session((20, 20)) as session:
        yield session


def test_every_request_has_a_timeout(web, session, monkeypatch):
    seen = []
    adapter = session.get_adapter(web.url)
    send = adapter.send
    monkeypatch.setattr(adapter, "send", lambda request, **more: seen.append(more["timeout"]) or send(request, **more))
    session.get(web.url)
    session.post(web.url, json={}, timeout=10)
    assert seen == [(20, 20), 10]
    with live_session() as plain:
        assert plain.timeout == TIMEOUT


def test_a_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as deaf, live_session((1, 0.2)) as session:
        with pytest.raises(requests.ReadTimeout) as caught:
            session.post(f"http://127.0.0.1:{deaf.getsockname()[1]}/x")
    assert not never_sent(caught.value)


def test_an_answer_that_drips_ends(monkeypatch):
    stop = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not stop.wait(0.01):
                try:
                    connection.sendall(b"1\r\nx\r\n")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        with GuardedSession((1, 5), deadline=0.2) as session, pytest.raises(requests.ReadTimeout):
            session.get(f"http://127.0.0.1:{server.getsockname()[1]}/")
        stop.set()
        thread.join(5)


def test_an_endless_answer_is_cut(web):
    web.pages["/big"] = Reply(200, b"x" * 200_000)
    with GuardedSession((20, 20), max_answer=100_000) as session, pytest.raises(requests.ConnectionError):
        session.get(web.url + "/big")


def test_nothing_is_sent_twice(web, session):
    web.fail_next("/once", 0)
    web.fail_next("/busy", 503)
    with pytest.raises(requests.ConnectionError) as caught:
        session.post(web.url + "/once", json={})
    assert not never_sent(caught.value)
    assert session.post(web.url + "/busy").status_code == 503
    assert len(web.requests) == 2


def test_a_refused_connection_was_never_sent(session):
    with pytest.raises(requests.ConnectionError) as caught:
        session.post("http://127.0.0.1:9/x")
    assert never_sent(caught.value)
    with pytest.raises(requests.ConnectionError) as caught:
        session.post("http://no-such-host.invalid/x")
    assert never_sent(caught.value)


def test_redirects_to_another_host_are_not_followed(web, session):
    with Web() as other:
        web.pages["/away"] = Reply(302, b"", {"Location": other.url + "/"})
        web.pages["/near"] = Reply(302, b"", {"Location": "/there"})
        away = session.get(web.url + "/away", headers={"Authorization": f"Bearer {TOKEN}"})
        assert away.status_code == 302 and other.requests == []
        assert session.get(web.url + "/near").json() == {"ok": True}
        assert session.post(web.url + "/near", json={}).status_code == 302  # a POST is not turned into a GET


def test_netrc_does_not_replace_the_header(web, session, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login eve password evil\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    session.get(web.url, headers={"Authorization": f"Bearer {TOKEN}"})
    session.get(web.url)
    assert [c.headers.get("Authorization") for c in web.requests] == [f"Bearer {TOKEN}", None]


def test_this_machine_is_reached_without_the_proxy(web, session, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert session.get(web.url).json() == {"ok": True}
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("http://graph.invalid/")


def test_errors_hold_no_token(session):
    with pytest.raises(requests.ConnectionError) as caught:
        session.get(
            f"http://127.0.0.1:9/x?access_token={TOKEN}&a=1", headers={"Authorization": "Bearer a-secret-in-a-header"}
        )
    exc = caught.value
    assert TOKEN not in str(exc) and "a-secret" not in str(exc) and "a=1" in str(exc)
    assert exc.request is None and exc.__cause__ is None and exc.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        f"https://x/y?access_token={TOKEN}&b=2",
        f"Authorization: Bearer {TOKEN}",
        f'{{"access_token": "{TOKEN}"}}',
        f"access_token%3D{TOKEN}",
        f"Error validating access token {TOKEN}: expired",
        f"client_secret={TOKEN}",
        f'OAuth oauth_signature="{TOKEN}", oauth_nonce="1"',
    ],
)
def test_scrub(text):
    assert TOKEN not in scrub(text)
    assert scrub("Luna posted 3 pictures at 18:00") == "Luna posted 3 pictures at 18:00"


def test_scrub_known_values():
    assert scrub("the key is hunter22", ["hunter22", ""]) == "the key is ***"
