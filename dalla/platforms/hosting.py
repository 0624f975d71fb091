"""Public addresses of prepared pictures: this app's own signed ones, or a bucket's.

Instagram takes pictures only from an address it can fetch. Nothing but a prepared JPEG is ever
reachable: the own address holds a signed token over the picture's hash and an end, the bucket holds
copies of prepared pictures under their hash.
"""

from __future__ import annotations

import io
import ipaddress
import secrets as random
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from dalla.errors import DallaError, NotConfigured, NotFound
from dalla.platforms import hosting_probe
from dalla.records.post import PreparedFile
from dalla.settings import Settings

KEY_NAME = "hosting/url-key"
PATH = "/public/"
_LOCAL_NAMES = (".local", ".localhost", ".internal", ".lan", ".home", ".home.arpa", ".test", ".invalid", ".example")
_SETTINGS = "Set PUBLIC_BASE_URL (this app behind a public https address) or a bucket (S3_ENDPOINT, S3_BUCKET and its keys) under Settings, Publishing."
_PUBLIC = (
    "Instagram must reach the address from the internet: use the https name of your tunnel, reverse proxy or bucket."
)

Mode = Literal["own", "bucket", "none"]


class Blobs(Protocol):
    """The part of a BlobStore used here."""

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...


class Secrets(Protocol):
    """The part of a SecretStore used here."""

    def get(self, name: str) -> str | None: ...
    def put(self, name: str, value: str) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Hosting:
    """Gives prepared pictures an address on the internet."""

    def __init__(
        self, settings: Settings, blobs: Blobs, secrets: Secrets, *, now: Callable[[], datetime] = _now
    ) -> None:
        self._settings, self._blobs, self._secrets, self._now = settings, blobs, secrets, now

    def mode(self) -> Mode:
        """A bucket when one is set, else this app's own public address, else none."""
        if self._settings.s3_endpoint and self._settings.s3_bucket:
            return "bucket"
        return "own" if self._settings.public_base_url else "none"

    def describe(self) -> dict[str, Any]:
        """Return {"mode", "detail", "remedy"} for the page. No network."""
        mode = self.mode()
        if mode == "bucket":
            where = urlsplit(self._settings.s3_public_url or self._settings.s3_endpoint).hostname
            return {
                "mode": mode,
                "detail": f"Pictures are copied to the bucket {self._settings.s3_bucket} ({where}).",
                "remedy": None,
            }
        problem = self._problem()
        if problem:
            return {"mode": mode, "detail": problem.detail, "remedy": problem.remedy}
        host = urlsplit(self._settings.public_base_url).netloc
        return {"mode": mode, "detail": f"Pictures are served by this app at {host}.", "remedy": None}

    def public_url(self, file: PreparedFile) -> str:
        """Return an address that works for `public_url_minutes`; a bucket gets its copy first.

        Raises NotConfigured, NotFound (the picture is gone), Unavailable (the bucket does not answer).
        """
        problem = self._problem()
        if problem:
            raise problem
        if self.mode() == "bucket":
            from dalla.platforms.bucket import Bucket

            return Bucket(self._settings).publish(file.sha256, lambda: self._blobs.get(file.key))
        if not self._blobs.exists(file.key):
            raise NotFound(f"The prepared picture {file.key} is gone.", remedy="Prepare the post again.")
        return self._own_url(file.sha256)

    def pretend_url(self, file: PreparedFile) -> str:
        """Return the address a dry run shows: nothing is uploaded, and nothing needs to be set up."""
        if self.mode() == "own":
            return self._own_url(file.sha256)
        base = self._settings.s3_public_url or self._settings.s3_endpoint or "https://pictures.example"
        return f"{base.rstrip('/')}/dalla/{file.sha256}.jpg"

    def resolve(self, token: str) -> str:
        """Return the blob key a token of `public_url` stands for. Raises NotFound for anything else."""
        from itsdangerous import BadData, URLSafeSerializer

        key = self._secrets.get(KEY_NAME)
        try:
            if not key or len(token) > 400:
                raise ValueError(token)
            digest, until = URLSafeSerializer(key, salt="public-picture").loads(token)
            if not (isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
                raise ValueError(token)
            if self._now().timestamp() > float(until):
                raise ValueError(token)
        except (BadData, ValueError, TypeError):
            raise NotFound("There is no such picture.") from None
        return _blob_key(digest)

    def read(self, token: str) -> bytes:
        """Return the prepared JPEG behind a token. Raises NotFound."""
        data = self._blobs.get(self.resolve(token))
        if not data.startswith(b"\xff\xd8\xff"):
            raise NotFound("There is no such picture.")
        return data

    def clean(self, days: int = 7) -> int:
        """Delete copies in the bucket that are older; return how many. 0 without a bucket, and in a dry run. Raises Unavailable, NotConfigured."""
        if self.mode() != "bucket" or self._settings.dry_run:
            return 0
        from dalla.platforms.bucket import Bucket

        return Bucket(self._settings).clean(self._now(), days)

    # ------------------------------------------------------------------ test

    def check(self) -> dict[str, Any]:
        """Test the way Instagram takes: {"ok", "mode", "url", "steps": [{"name", "ok", "detail", "remedy"}]}.

        Stops at the first step after which the others make no sense. Sends no cookies and no keys.
        """
        steps: list[dict[str, Any]] = []

        def note(name: str, ok: bool, detail: str, remedy: str | None = None) -> bool:
            steps.append({"name": name, "ok": ok, "detail": detail, "remedy": None if ok else remedy})
            return ok

        def result(url: str | None) -> dict[str, Any]:
            return {"ok": all(s["ok"] for s in steps), "mode": self.mode(), "url": url, "steps": steps}

        problem = self._problem()
        if problem:
            note("address", False, problem.detail, problem.remedy)
            return result(None)
        data = _test_picture()
        digest = sha256(data).hexdigest()
        file = PreparedFile(
            media_id="test", key=_blob_key(digest), sha256=digest, width=320, height=320, size_bytes=len(data)
        )
        try:
            self._blobs.put(file.key, data)
            url = self.public_url(file)
        except DallaError as exc:
            note("upload", False, exc.detail, exc.remedy)
            return result(None)
        if not self._check_address(url, note):
            return result(url)
        answer = hosting_probe.fetch(url)
        if isinstance(answer, str):
            note(
                "fetch",
                False,
                f"The picture cannot be fetched from {_host(url)}: {answer}",
                hosting_probe.fetch_remedy(self.mode()),
            )
            return result(url)
        hosting_probe.check_answer(answer, data, url, note)
        hosting_probe.check_robots(url, note)
        return result(url)

    def _check_address(self, url: str, note: Callable[..., bool]) -> bool:
        host = urlsplit(url).hostname or ""
        note("address", True, f"The pictures have addresses at {urlsplit(url).scheme}://{urlsplit(url).netloc}.")
        if self._rehearsal(host):
            return note("dns", True, "A rehearsal on this computer: the address is not looked up.")
        try:
            found = sorted({info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
        except OSError:
            return note(
                "dns", False, f"The name {host} is not known.", "Check the spelling and the DNS entry of the name."
            )
        private = [str(address) for address in found if not ipaddress.ip_address(str(address).split("%")[0]).is_global]
        if private:
            return note(
                "dns", False, f"The name {host} leads to {private[0]}, which is inside a private network.", _PUBLIC
            )
        return note("dns", True, f"The name {host} leads to a public address.")

    # ------------------------------------------------------------------ parts

    def _problem(self) -> NotConfigured | None:
        """What keeps addresses from working, as far as the settings show it."""
        mode = self.mode()
        if mode == "none":
            return NotConfigured(
                "Instagram fetches pictures from a public address, and none is set up.", remedy=_SETTINGS
            )
        s = self._settings
        if mode == "bucket":
            if not (s.s3_access_key and s.s3_secret_key):
                return NotConfigured(
                    "The keys of the bucket are missing.", remedy="Set S3_ACCESS_KEY and S3_SECRET_KEY under Settings."
                )
            name, base = ("S3_PUBLIC_URL", s.s3_public_url) if s.s3_public_url else ("S3_ENDPOINT", s.s3_endpoint)
        else:
            name, base = "PUBLIC_BASE_URL", s.public_base_url
        parts = urlsplit(base)
        host = (parts.hostname or "").lower()
        if self._rehearsal(host):
            return None
        if parts.scheme != "https":
            return NotConfigured(f"{name} must begin with https://.", remedy=_PUBLIC)
        if _is_private(host):
            return NotConfigured(f"{name} is '{host}', which only this network knows.", remedy=_PUBLIC)
        return None

    def _rehearsal(self, host: str) -> bool:
        """Everything on this computer: also the Graph API (a pretend one), so http and loopback are fine."""
        graph = (urlsplit(self._settings.instagram_graph_url).hostname or "").lower()
        return _is_loopback(graph) and _is_loopback(host)

    def _own_url(self, digest: str) -> str:
        from itsdangerous import URLSafeSerializer

        until = int(self._now().timestamp()) + max(1, int(self._settings.public_url_minutes)) * 60
        token = URLSafeSerializer(self._key(), salt="public-picture").dumps([digest, until])
        text = token if isinstance(token, str) else token.decode()
        return f"{self._settings.public_base_url.rstrip('/')}{PATH}{text}.jpg"

    def _key(self) -> str:
        key = self._secrets.get(KEY_NAME)
        if not key:
            self._secrets.put(KEY_NAME, random.token_urlsafe(32))
            key = self._secrets.get(KEY_NAME) or ""
        return key


def _blob_key(digest: str) -> str:
    return f"posts/{digest[:2]}/{digest}.jpg"


def _test_picture() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.linear_gradient("L").resize((320, 320)).convert("RGB").save(out, "JPEG", quality=90, progressive=False)
    return out.getvalue()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """Whether the name itself says that the internet does not know it."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_NAMES)


def _host(url: str) -> str:
    return urlsplit(url).netloc
