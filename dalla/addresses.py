"""Send to an address somebody typed in, without letting it reach into the private network.

The name is resolved once, every address it has is judged, and the connection is made to exactly the
address that was judged. So a name that answers differently a moment later (DNS rebinding) gains
nothing. Redirects are not followed and proxies are not used, because either would undo the judgement.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from dalla.errors import InvalidInput, TimedOut, UpstreamError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]

TIMEOUT = 10.0  # seconds for everything: connecting, sending, the whole answer
KEEP = 500  # characters of an answer that are kept

#: Never reached, whatever is allowed: they hand out the credentials of the machine we may run on.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHARED = ipaddress.ip_network("100.64.0.0/10")


class Refused(InvalidInput):
    """The address must not be used. Trying again does not help."""

    code = "address_refused"


@dataclass(frozen=True)
class Target:
    """An address that may be used: where to connect, and what to call the other side."""

    scheme: str
    host: str
    port: int
    path: str  # with the query, percent-encoded
    ips: tuple[str, ...]

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == {"http": 80, "https": 443}[self.scheme] else f"{name}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What the other side said; `text` is its beginning."""

    status: int
    text: str
    headers: Mapping[str, str]


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name in the order the system prefers. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def parts(url: str, *, field: str = "url") -> SplitResult:
    """Check the form of an http(s) address and return its parts. Raises InvalidInput naming `field`."""
    wrong = "Give a full address that starts with https:// (or http://)."
    if len(url) > 2000:
        raise InvalidInput.field(field, "An address has at most 2,000 characters.")
    if any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise InvalidInput.field(field, "An address contains no spaces or line breaks.")
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as exc:
        raise InvalidInput.field(field, wrong) from exc
    if found.scheme not in ("http", "https") or not found.hostname or port == 0:
        raise InvalidInput.field(field, wrong)
    if found.username is not None or found.password is not None:
        raise InvalidInput.field(
            field, "Put no user name or password into the address. It would be stored where everybody can read it."
        )
    return found


def check(url: str, *, private: bool = False, field: str = "url", resolve: Resolve = resolve) -> Target:
    """Resolve an address and say where to connect.

    `private` allows this machine and the private network. Raises InvalidInput for something that is no
    address, Refused for one that leads where it must not, UpstreamError when the name has no address.
    """
    found = parts(url, field=field)
    host = (found.hostname or "").rstrip(".")
    try:
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise InvalidInput.field(field, "The name of the server is not a valid host name.") from exc
    port = found.port or (443 if found.scheme == "https" else 80)
    try:
        ips = resolve(host, port)
    except (OSError, UnicodeError) as exc:
        raise UpstreamError(
            f"The name {host} cannot be found.",
            service=host,
            kind="retry",
            remedy="Check the address for a typing mistake, and that this computer is online.",
        ) from exc
    if not ips:
        raise UpstreamError(f"The name {host} has no address.", service=host, kind="retry")
    for ip in ips:
        reason = refusal(ip, private=private)
        if reason is not None:
            shown = host if host == ip else f"{host} ({ip})"
            raise _refused(f"{shown} is {reason}, so nothing is sent there.", field, private)
    path = quote(found.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(found.query, safe='/%:@!$&()*+,;=~-._?')}" if found.query else ""
    return Target(found.scheme, host, port, path + query, tuple(ips))


def refusal(text: str, *, private: bool = False) -> str | None:
    """Say what an IP address is when it must not be reached ("a private address"); None when it may be."""
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return "not an IP address"
    reasons = [_judge(one, private) for one in (address, *_embedded(address))]
    return next((reason for reason in reasons if reason is not None), None)


def _judge(address: Address, private: bool) -> str | None:
    if address in _METADATA:
        return "the address of a cloud's metadata service"
    if address.is_unspecified:
        return "no address of a server"
    if address.is_multicast:
        return "a multicast address"
    if address.is_link_local:
        return "a link-local address"
    if address.version == 4 and address.is_reserved:
        return "a reserved address"
    if address.is_loopback:
        return None if private else "an address of this computer"
    if address.is_private or (address.version == 4 and address in _SHARED) or getattr(address, "is_site_local", False):
        return None if private else "a private address"
    if not address.is_global and not _embedded(address):
        return None if private else "not a public address"
    return None


def _embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses that hide in an IPv6 one (mapped, 6to4, Teredo, NAT64)."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    inner: list[Address] = [a for a in (address.ipv4_mapped, address.sixtofour) if a is not None]
    inner += list(address.teredo or ())
    if address in _NAT64 or int(address) >> 32 == 0:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return inner


def _refused(detail: str, field: str, private: bool) -> Refused:
    remedy = None if private else "Use a public address, or allow private ones with DALLA_WEBHOOK_PRIVATE."
    return Refused(detail, errors=[{"field": field, "message": detail}], remedy=remedy)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: bool = False,
    timeout: float = TIMEOUT,
    resolve: Resolve = resolve,
) -> Answer:
    """POST once to an address that is checked first; redirects come back as they are.

    `timeout` seconds are for all of it. Raises what `check` raises, UpstreamError (kind retry) when nobody
    answers, TimedOut.
    """
    target = check(url, private=private, resolve=resolve)
    end = time.monotonic() + timeout
    problem: OSError | None = None
    for ip in target.ips:
        try:
            raw = socket.create_connection((ip, target.port), timeout=max(0.05, end - time.monotonic()))
        except OSError as exc:
            problem = exc
            if time.monotonic() >= end:
                break
            continue
        return _exchange(target, raw, body, headers, end)
    if isinstance(problem, TimeoutError):
        raise _late(target) from problem
    raise _unreachable(target, problem) from problem


def _exchange(target: Target, raw: socket.socket, body: bytes, headers: Mapping[str, str], end: float) -> Answer:
    late = threading.Event()
    holder: list[socket.socket] = [raw]

    def cut() -> None:
        """End it: a timeout of the socket only bounds each silence, not an answer that drips."""
        late.set()
        for one in holder:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, end - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(target.host, target.port)
    try:
        raw.settimeout(max(0.05, end - time.monotonic()))
        if target.scheme == "https":
            raw = _tls().wrap_socket(raw, server_hostname=target.host)
            holder.append(raw)
        connection.sock = raw
        connection.request(
            "POST",
            target.path,
            body,
            {**headers, "Host": target.host_header, "Connection": "close", "Accept-Encoding": "identity"},
        )
        with connection.getresponse() as response:
            text = response.read(KEEP * 4).decode("utf-8", "replace")[:KEEP]
            if late.is_set():  # a cut connection looks like the end of the answer
                raise _late(target)
            return Answer(response.status, text, {k.lower(): v for k, v in response.getheaders()})
    except (OSError, http.client.HTTPException, ValueError) as exc:
        if late.is_set() or isinstance(exc, TimeoutError):
            raise _late(target) from exc
        raise _unreachable(target, exc) from exc
    finally:
        timer.cancel()
        connection.close()
        with contextlib.suppress(OSError):
            raw.close()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):  # some systems bring no certificates of their own
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _late(target: Target) -> TimedOut:
    return TimedOut(f"{target.host} did not answer in time.", remedy="Check that the server is up.")


def _unreachable(target: Target, exc: BaseException | None) -> UpstreamError:
    if isinstance(exc, ssl.SSLCertVerificationError):
        detail = f"The certificate of {target.host} is not valid: {exc.verify_message}."
        remedy = "Give the server a valid certificate, or correct the address."
    elif isinstance(exc, ssl.SSLError):
        detail = f"{target.host} does not speak https on port {target.port}."
        remedy = "Check the port, or use http://."
    elif isinstance(exc, ConnectionRefusedError):
        detail = f"Nothing listens at {target.host}, port {target.port}."
        remedy = "Start the server, or correct the address."
    elif isinstance(exc, http.client.HTTPException):
        detail = f"{target.host} closed the connection without a proper answer."
        remedy = None
    else:
        detail = f"{target.host} cannot be reached{f' ({exc.strerror})' if isinstance(exc, OSError) and exc.strerror else ''}."
        remedy = "Check that the server is up and this computer is online."
    return UpstreamError(detail, service=target.host, kind="retry", remedy=remedy)
