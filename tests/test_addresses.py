"""Addresses people type in: what is refused, and that the checked address is the one connected to."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from dalla import addresses
from dalla.addresses import Refused, check, post, refusal
from dalla.errors import InvalidInput, TimedOut, UpstreamError
from tests.fakes.server import Call, LoopbackFake, Reply

PUBLIC = "93.184.216.34"


def always(*ips: str):
    return lambda host, port: list(ips)


class Echo(LoopbackFake):
    def handle(self, call: Call) -> Reply:
        return Reply(200, "x" * 2000)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "127.8.9.1", "::1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12::3",
        "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:192.168.0.9", "2002:7f00:1::", "64:ff9b::7f00:1", "198.18.0.1",
        "::127.0.0.1", "192.0.2.1", "2001:db8::1",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_unless_allowed(ip):
    with pytest.raises(Refused) as problem:
        check("https://hook.example/x", resolve=always(ip))
    assert problem.value.errors[0]["field"] == "url"
    assert "DALLA_WEBHOOK_PRIVATE" in (problem.value.remedy or "")
    assert check("https://hook.example/x", private=True, resolve=always(ip)).ips == (ip,)


@pytest.mark.parametrize(
    "ip",
    ["169.254.169.254", "::ffff:169.254.169.254", "100.100.100.200", "fd00:ec2::254", "169.254.1.1", "fe80::1",
     "fe80::1%eth0", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "64:ff9b::a9fe:a9fe"],
)  # fmt: skip
def test_some_addresses_are_refused_even_then(ip):
    for private in (False, True):
        with pytest.raises(Refused):
            check("https://hook.example/x", private=private, resolve=always(ip))


@pytest.mark.parametrize("ip", [PUBLIC, "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"])
def test_public_addresses_are_fine(ip):
    assert refusal(ip) is None


def test_one_private_address_among_public_ones_refuses_all():
    with pytest.raises(Refused, match="10.0.0.7"):
        check("https://hook.example/", resolve=always(PUBLIC, "10.0.0.7"))


@pytest.mark.parametrize(
    "url",
    ["", "hook.example", "ftp://hook.example/", "https://", "https:///path", "https://a b/", "https://x/\n", "http://[::1",
     "https://hook.example:99999/", "https://hook.example:0/", "javascript:alert(1)", "https://user:pw@hook.example/",
     "https://x/" + "a" * 2000, "https://" + "a" * 70 + ".example/"],
)  # fmt: skip
def test_what_is_no_address_names_the_field(url):
    with pytest.raises(InvalidInput) as problem:
        check(url, field="url", resolve=always(PUBLIC))
    assert problem.value.errors == [{"field": "url", "message": problem.value.detail}]


@pytest.mark.parametrize(
    "url", ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://localhost/", "http://LOCALHOST./"]
)
def test_other_spellings_of_this_computer_are_seen_through(url):
    with pytest.raises(Refused):
        check(url)


def test_a_name_that_does_not_exist_is_no_refusal():
    def gone(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(UpstreamError, match="cannot be found") as problem:
        check("https://typo.example/", resolve=gone)
    assert problem.value.kind == "retry"


def test_path_and_host_are_sent_as_they_must_be():
    target = check("https://bücher.example:8443/a b".replace(" ", "%20") + "?q=ä#part", resolve=always(PUBLIC))
    assert target.host == "xn--bcher-kva.example"
    assert target.host_header == "xn--bcher-kva.example:8443"
    assert target.path == "/a%20b?q=%C3%A4"


def test_the_checked_address_is_the_one_connected_to():
    """A name that answers differently a moment later gains nothing: it is asked once."""
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.255.255.1"]

    with Echo() as fake:
        url = fake.url.replace("127.0.0.1", "rebind.example") + "/hook?a=1"
        answer = post(url, b"{}", {"X-A": "1"}, private=True, resolve=rebinding)
        assert answer.status == 200
        assert asked == ["rebind.example"]
        call = fake.requests[0]
        assert call.method == "POST" and call.path == "/hook" and call.query == {"a": "1"}
        assert call.headers["Host"].startswith("rebind.example:")
        assert call.headers["X-A"] == "1"


def test_only_the_beginning_of_an_answer_is_kept():
    with Echo() as fake:
        assert len(post(fake.url, b"", {}, private=True).text) == addresses.KEEP


def test_redirects_are_not_followed():
    with Echo() as fake:
        fake.fail_next("/old", 302, headers={"Location": fake.url + "/new"})
        answer = post(fake.url + "/old", b"", {}, private=True)
        assert answer.status == 302 and answer.headers["location"].endswith("/new")
        assert [call.path for call in fake.requests] == ["/old"]


def test_nothing_is_sent_to_a_refused_address():
    with Echo() as fake:
        with pytest.raises(Refused):
            post(fake.url, b"secret", {})
        assert fake.requests == []


def test_the_next_address_is_tried_when_one_does_not_answer():
    with Echo() as fake:
        url = fake.url.replace("127.0.0.1", "two.example")
        assert post(url, b"", {}, private=True, resolve=always("::1", "127.0.0.1")).status == 200


def test_nobody_listens():
    with Echo() as fake:
        url = fake.url
    with pytest.raises(UpstreamError, match="Nothing listens"):
        post(url, b"", {}, private=True)


def test_http_where_https_is_expected():
    with Echo() as fake, pytest.raises(UpstreamError, match="does not speak https"):
        post(fake.url.replace("http:", "https:"), b"", {}, private=True)


def test_a_cut_connection_is_told():
    with Echo() as fake:
        fake.fail_next("/", 0)
        with pytest.raises(UpstreamError, match="closed the connection"):
            post(fake.url, b"", {}, private=True)


def test_an_answer_that_drips_ends_in_time():
    """Each byte resets a socket's own timeout, so the whole exchange has one of its own."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip():
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not stop.wait(0.02):
                    connection.sendall(b"a")
            except OSError:
                pass

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(TimedOut):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"", {}, private=True, timeout=0.3)
    finally:
        stop.set()
        thread.join(5)
        server.close()
    assert time.monotonic() - began < 60  # it ends at all
