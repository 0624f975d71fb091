"""Where a request comes from: the address of the other side, and whether it is this computer itself.

Headers that a proxy adds are believed only from the addresses in DALLA_TRUSTED_PROXIES; from anybody
else they only prove that something stands in between.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import request

LOOPBACK = {"127.0.0.1", "localhost", "::1", "[::1]"}
FORWARDED = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Forwarded-By",
    "X-Forwarded-Port",
    "Forwarded",
    "Via",
    "CF-Connecting-IP",
    "X-Real-IP",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-Original-Host",
    "X-Original-Forwarded-For",
    "X-Envoy-External-Address",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-ProxyUser-Ip",
    "CDN-Loop",
)


def forwarded() -> bool:
    """Whether a proxy has touched the request, as far as can be told.

    nginx adds no header unless it is told to, but speaks HTTP/1.0 to what stands behind it; browsers never do.
    """
    return request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or any(name in request.headers for name in FORWARDED)


def address(trusted: str) -> str:
    """Return the IP address of whoever asks ("" when unknown). `trusted`: the setting trusted_proxies.

    With trusted proxies it is the last address of X-Forwarded-For that is none of them.
    """
    peer = request.remote_addr or ""
    proxies = _networks(trusted)
    if not _within(peer, proxies):
        return peer
    for hop in reversed([part.strip() for part in ",".join(request.headers.getlist("X-Forwarded-For")).split(",")]):
        if not _address(hop):
            return peer
        peer = hop
        if not _within(hop, proxies):
            return hop
    return peer


def is_https(trusted: str) -> bool:
    """Whether the browser came by https: directly, or as a trusted proxy says."""
    if request.is_secure:
        return True
    if not _within(request.remote_addr or "", _networks(trusted)):
        return False
    return request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() == "https"


def is_direct() -> bool:
    """Whether the request comes from this computer with nothing in between: loopback at both ends, and no proxy."""
    peer = _address(request.remote_addr or "")
    if peer is None or not peer.is_loopback or forwarded():
        return False
    try:
        host = (urlsplit(f"//{request.host}").hostname or "").lower()
    except ValueError:
        return False
    return host in LOOPBACK


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _networks(trusted: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for part in trusted.split(","):
        try:
            found.append(ipaddress.ip_network(part.strip(), strict=False))
        except ValueError:
            continue  # empty, or no address: it is not believed
    return found


def _within(text: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    found = _address(text)
    return found is not None and any(found in network for network in networks if network.version == found.version)
