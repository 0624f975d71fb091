"""Fetching a picture the way Meta does, and saying what is wrong with the answer. No cookies, no keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

AGENT = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"
TIMEOUT = (10, 20)
MAX_FETCH = 10 * 1024 * 1024


def fetch_remedy(mode: str) -> str:
    if mode == "bucket":
        return "Check S3_PUBLIC_URL and that the bucket may be read under it."
    return "Check that the tunnel or reverse proxy is running and leads /public/ to this app."


def _get(url: str) -> tuple[requests.Response, bytes]:
    """GET like Meta's fetcher: no cookies, no keys, no redirects."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.headers.clear()
        headers = {"User-Agent": AGENT, "Accept": "*/*"}
        with session.get(url, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True) as answer:
            body = b""
            for part in answer.iter_content(64 * 1024):
                body += part
                if len(body) > MAX_FETCH:
                    break
            return answer, body


def fetch(url: str) -> tuple[requests.Response, bytes] | str:
    import requests

    try:
        return _get(url)
    except requests.exceptions.SSLError:
        return "its certificate is not valid."
    except requests.Timeout:
        return "there was no answer in time."
    except requests.RequestException:
        return "the connection fails."


def check_answer(answer: tuple[requests.Response, bytes], data: bytes, url: str, note: Callable[..., bool]) -> None:
    response, body = answer
    status = response.status_code
    if 300 <= status < 400:
        where = urlsplit(response.headers.get("Location") or "").path or "another address"
        note(
            "fetch",
            False,
            f"The address redirects ({status}) to {where} instead of answering the picture.",
            "Let /public/ through without a login (for Cloudflare Access: a bypass rule for this path).",
        )
        return
    if status != 200:
        remedy = "Let Meta's fetcher (facebookexternalhit) through without a login or a firewall challenge."
        if status == 404:
            remedy = "Check that the address leads to this app and that /public/ is not rewritten."
        elif status >= 500:
            remedy = "Check that the tunnel or reverse proxy is running and reaches this app."
        note("fetch", False, f"The address answers {status} instead of the picture.", remedy)
        return
    note("fetch", True, "The picture can be fetched without a login.")
    kind = (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "image/jpeg":
        remedy = "Switch off rewriting of pictures, and warning pages of the tunnel (ngrok's free tunnels show one)."
        note("type", False, f"The answer is '{kind or 'of no kind'}' instead of image/jpeg.", remedy)
    else:
        note("type", True, "The answer is a JPEG by its type.")
    if not body.startswith(b"\xff\xd8\xff"):
        note(
            "picture",
            False,
            "The answer is no JPEG.",
            "Something answers in this app's place: open the address in a private window.",
        )
    elif body != data:
        note(
            "picture",
            False,
            "The picture arrives changed.",
            "Switch off picture optimisation in the proxy for /public/.",
        )
    else:
        note("picture", True, "The picture arrives unchanged.")


def check_robots(url: str, note: Callable[..., bool]) -> None:
    """A robots.txt that keeps Meta's fetcher out; a missing one keeps nobody out."""
    from urllib.robotparser import RobotFileParser

    import requests

    parts = urlsplit(url)
    try:
        answer, body = _get(f"{parts.scheme}://{parts.netloc}/robots.txt")
    except requests.RequestException:
        note("robots", True, "There is no robots.txt.")
        return
    kind = (answer.headers.get("Content-Type") or "").lower()
    if answer.status_code != 200 or "html" in kind:
        note("robots", True, "There is no robots.txt.")
        return
    rules = RobotFileParser()
    rules.parse(body.decode("utf-8", "replace").splitlines())
    if rules.can_fetch("facebookexternalhit", url):
        note("robots", True, "robots.txt lets Instagram in.")
    else:
        note(
            "robots",
            False,
            "robots.txt keeps Meta's fetcher out.",
            "Allow the agent facebookexternalhit for /public/ in robots.txt (Cloudflare: the setting that blocks AI bots).",
        )
