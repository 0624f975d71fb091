"""Fetch a file from an address somebody typed in, without letting it reach into the private network.

Every hop is judged by `addresses.check` and connected to exactly the address that was judged; redirects are followed
here, so each of them is judged as well.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from dalla import addresses
from dalla.errors import InvalidInput, TimedOut, TooLarge, UpstreamError

#: Seconds for a connection, and of silence in the middle.
CONNECT, SILENCE = 10.0, 30.0
HOPS = 5
_ENDINGS = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/avif": ".avif", "image/gif": ".gif",
    "image/bmp": ".bmp", "image/tiff": ".tif", "image/heic": ".heic", "application/zip": ".zip",
}  # fmt: skip
_AGENT = "Mozilla/5.0 (compatible; DigitalDalla)"


@dataclass
class Download:
    """An answer that is being read. `name` is a file's name without folders; `size` in bytes where it was announced."""

    url: str
    name: str
    kind: str  # the media type, "" when none was told
    size: int | None
    _response: Any
    _limit: int
    _read: int = 0

    def read(self, amount: int) -> bytes:
        """Return the next bytes, none at the end. Raises TooLarge (over the limit), TimedOut, UpstreamError."""
        import urllib3

        try:
            piece: bytes = self._response.read(amount, decode_content=True)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise TimedOut(f"{_host(self.url)} stopped sending.", remedy="Try again later.") from exc
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise UpstreamError(
                f"{_host(self.url)} broke off in the middle.", service=_host(self.url), kind="retry"
            ) from exc
        self._read += len(piece)
        if self._read > self._limit:
            raise _too_large(self._limit)
        if not piece and self.size is not None and self._read < self.size:
            raise UpstreamError(f"{_host(self.url)} broke off in the middle.", service=_host(self.url), kind="retry")
        return piece


@contextlib.contextmanager
def fetch(
    url: str, *, limit: int, private: bool = False, resolve: addresses.Resolve = addresses.resolve
) -> Iterator[Download]:
    """Open an address for reading, at most `limit` bytes; `private` allows this machine and the private network.

    Raises InvalidInput (no address, or the answer is a web page), addresses.Refused (a private target, also behind a
    redirect), TooLarge, TimedOut, UpstreamError (nobody answers, or not with the file).
    """
    here = url
    for _ in range(HOPS + 1):
        try:
            target = addresses.check(here, private=private, resolve=resolve)
        except addresses.Refused as exc:
            raise addresses.Refused(exc.detail, remedy="Download the file yourself and drop it here.") from exc
        pool, response = _ask(target)
        try:
            place = response.headers.get("Location")
            if response.status in (301, 302, 303, 307, 308) and place:
                here = urljoin(here, place)
                continue
            yield _opened(here, response, limit)
            return
        finally:
            response.close()
            pool.close()
    raise UpstreamError("The address leads from one to the next without an end.", service=_host(url), kind="permanent")


def _ask(target: addresses.Target) -> tuple[Any, Any]:
    """Return (pool, response) of the first of the judged addresses that answers. Raises TimedOut, UpstreamError."""
    import urllib3

    headers = {"Host": target.host_header, "User-Agent": _AGENT, "Accept": "image/*,*/*;q=0.5"}
    how: dict[str, Any] = {"redirect": False, "retries": False, "preload_content": False, "assert_same_host": False}
    problem: Exception | None = None
    for ip in target.ips[:3]:
        pool = _pool(target, ip)
        try:
            return pool, pool.urlopen("GET", target.path, headers=headers, **how)
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            pool.close()
            problem = exc
    refused = isinstance(problem, urllib3.exceptions.NewConnectionError)  # a timeout to urllib3, for history's sake
    if isinstance(problem, urllib3.exceptions.TimeoutError) and not refused:
        raise TimedOut(f"{target.host} did not answer in time.", remedy="Try again later.") from problem
    why = "has no valid certificate" if isinstance(problem, urllib3.exceptions.SSLError) else "cannot be reached"
    raise UpstreamError(f"{target.host} {why}.", service=target.host, kind="retry") from problem


def _pool(target: addresses.Target, ip: str) -> Any:
    import certifi
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT, read=SILENCE)
    if target.scheme == "http":
        return urllib3.HTTPConnectionPool(ip, target.port, timeout=timeout)
    return urllib3.HTTPSConnectionPool(
        ip,
        target.port,
        timeout=timeout,
        server_hostname=target.host,
        assert_hostname=target.host,
        cert_reqs="CERT_REQUIRED",
        ca_certs=certifi.where(),
    )


def _opened(url: str, response: Any, limit: int) -> Download:
    if response.status != 200:
        told = {401: "wants a sign-in", 403: "does not give it out", 404: "has nothing at this address", 410: "has it no longer", 429: "asks to wait"}  # fmt: skip
        said = told.get(response.status, "answered with an error")
        later = response.status in (408, 429) or response.status >= 500
        raise UpstreamError(
            f"{_host(url)} {said} ({response.status}).",
            service=_host(url),
            kind="retry" if later else "permanent",
        )
    kind = str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise InvalidInput(
            "The address is of a web page, not of a picture.",
            remedy="Open the page, and copy the address of the picture itself.",
        )
    encoded = response.headers.get("Content-Encoding", "identity") not in ("", "identity")
    length = str(response.headers.get("Content-Length", ""))
    size = int(length) if length.isdecimal() and not encoded else None
    if size is not None and size > limit:
        raise _too_large(limit)
    return Download(url, _name(url, response.headers, kind), kind, size, response, limit)


def _name(url: str, headers: Any, kind: str) -> str:
    """Return the name the server gives the file, or the last part of its address, with an ending."""
    message = Message()
    message["Content-Disposition"] = str(headers.get("Content-Disposition", ""))
    given = message.get_filename() or unquote(urlsplit(url).path).rpartition("/")[2]
    name = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*]+', "_", given).strip(" .")[-150:] or "picture"
    ending = _ENDINGS.get(kind, "")
    if "." not in name[1:] or (ending and len(name.rpartition(".")[2]) > 5):
        name += ending
    return name


def _host(url: str) -> str:
    return urlsplit(url).hostname or "The server"


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The file has more than {limit / 1e6:,.0f} MB.", remedy="Download it yourself, and make it smaller."
    )
