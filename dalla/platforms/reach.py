"""Whether a platform's API answers at the address of the settings: one harmless request, no account and no post.

Each function takes settings (also unsaved ones) and returns a Finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dalla.platforms.instagram_api import is_facebook
from dalla.platforms.session import live_session
from dalla.records.finding import Finding
from dalla.settings import Settings

if TYPE_CHECKING:
    import requests

TIMEOUT = (5.0, 15.0)  # seconds to connect, and of silence
_ADDRESS = "Check the address, and that this computer reaches the internet."
_OTHER = "Something else answers there: check the address for a typing mistake."


def instagram(settings: Settings) -> Finding:
    """Ask the Graph API something; with an app id and secret, also whether Meta accepts them (Facebook login)."""
    base, version = settings.instagram_graph_url, settings.instagram_graph_version.strip("/")
    info: dict[str, Any] = {"url": base, "version": version}
    answer = _ask("GET", "/".join(part for part in (base, version, "me") if part))
    if isinstance(answer, str):
        return Finding(False, f"The Graph API does not answer: {answer}", _ADDRESS, info)
    error = _json(answer).get("error")
    if not isinstance(error, dict) or "code" not in error:
        return Finding(False, f"The address answers, but not as the Graph API ({answer.status_code}).", _OTHER, info)
    if error["code"] == 2635 or "version" in str(error.get("message", "")).lower():
        return Finding(
            False,
            f"The Graph API does not know the version {version}.",
            "Set the present version of the Graph API.",
            info,
        )
    host = urlsplit(base).netloc
    if not (settings.instagram_app_id and settings.instagram_app_secret):
        return Finding(
            True, f"The Graph API at {host} answers. App id and secret are not set, so they were not tried.", info=info
        )
    if not is_facebook(settings):
        return Finding(
            True, f"The Graph API at {host} answers. Only Facebook login can try an app id and secret alone.", info=info
        )
    form = {
        "client_id": settings.instagram_app_id,
        "client_secret": settings.instagram_app_secret,
        "grant_type": "client_credentials",
        "method": "get",  # so that the secret travels in the body
    }
    answer = _ask("POST", f"{base}/oauth/access_token", data=form)
    if isinstance(answer, str):
        return Finding(False, f"The Graph API does not answer: {answer}", _ADDRESS, info)
    if answer.status_code == 200 and _json(answer).get("access_token"):
        return Finding(True, f"The Graph API at {host} answers and accepts the app id and secret.", info=info)
    return Finding(
        False,
        "Meta does not accept the app id and secret.",
        "Copy both again from developers.facebook.com, App settings, Basic.",
        info,
    )


def x(settings: Settings) -> Finding:
    """Ask the X API something that needs an account: that it refuses is the proof that it is there. Costs nothing."""
    base = settings.x_api_url
    info: dict[str, Any] = {"url": base}
    answer = _ask("GET", f"{base}/2/users/me")
    if isinstance(answer, str):
        return Finding(False, f"The X API does not answer: {answer}", _ADDRESS, info)
    body = _json(answer)
    if answer.status_code == 401 and ("title" in body or "errors" in body):
        return Finding(True, f"The X API at {urlsplit(base).netloc} answers. Keys are tested per account.", info=info)
    if answer.status_code in (403, 429) or answer.status_code >= 500:
        return Finding(False, f"The X API answers {answer.status_code}.", "Try again in a few minutes.", info)
    return Finding(False, f"The address answers, but not as the X API ({answer.status_code}).", _OTHER, info)


def _ask(method: str, url: str, **more: Any) -> requests.Response | str:
    """Send one request; return what went wrong as half a sentence when nobody answered."""
    import requests

    with live_session(TIMEOUT) as session:
        try:
            return session.request(method, url, allow_redirects=False, **more)
        except requests.exceptions.SSLError:
            return "its certificate is not valid."
        except requests.Timeout:
            return "there was no answer in time."
        except (requests.RequestException, ValueError):
            return "the connection fails."


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
