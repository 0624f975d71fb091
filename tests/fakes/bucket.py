"""A pretend S3-compatible bucket on 127.0.0.1 that verifies signatures (SigV4, header and presigned)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from tests.fakes.server import Call, LoopbackFake, Reply

ACCESS_KEY, SECRET_KEY = "fake-access", "fake-secret-key"
NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Stored:
    data: bytes
    content_type: str
    at: datetime


class BucketFake(LoopbackFake):
    """`objects` holds what is stored: name -> Stored. `puts` counts uploads."""

    def __init__(
        self,
        bucket: str = "pictures",
        *,
        access_key: str = ACCESS_KEY,
        secret_key: str = SECRET_KEY,
        region: str = "auto",
        public: bool = False,
        open: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        self.bucket, self.access_key, self.secret_key, self.region = bucket, access_key, secret_key, region
        self.public, self.open = public, open  # public: GET without a signature; open: any keys
        self.objects: dict[str, Stored] = {}
        self.puts = 0
        self._offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def advance(self, *, seconds: float = 0, days: float = 0) -> None:
        """Put its clock forward: presigned addresses end."""
        self._offset += timedelta(seconds=seconds, days=days)

    def handle(self, call: Call) -> Reply:
        bucket, _, name = unquote(call.path).lstrip("/").partition("/")
        anonymous = "Authorization" not in call.headers and "X-Amz-Signature" not in call.query
        if anonymous and not (self.public and call.method in ("GET", "HEAD") and name):
            return _error(403, "AccessDenied")
        if not anonymous and not self.open and (problem := self._verify(call)):
            return _error(403, problem)
        if bucket != self.bucket:
            return _error(404, "NoSuchBucket")
        if not name:
            return self._list(call)
        if call.method == "PUT":
            self.puts += 1
            self.objects[name] = Stored(call.body, call.headers.get("Content-Type") or "", datetime.now(UTC))
            return Reply(200, b"", {"ETag": _etag(call.body)})
        if call.method == "DELETE":
            self.objects.pop(name, None)
            return Reply(204, b"")
        stored = self.objects.get(name)
        if stored is None:
            return _error(404, "NoSuchKey")
        headers = {
            "Content-Type": stored.content_type,
            "ETag": _etag(stored.data),
            "Last-Modified": stored.at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        }
        return Reply(200, stored.data, headers)

    def _list(self, call: Call) -> Reply:
        prefix = call.query.get("prefix", "")
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{stored.at.strftime('%Y-%m-%dT%H:%M:%S.000Z')}</LastModified>"
            f"<ETag>{_etag(stored.data)}</ETag><Size>{len(stored.data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, stored in sorted(self.objects.items())
            if name.startswith(prefix)
        )
        body = f"<ListBucketResult {NS}><Name>{self.bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return Reply(200, body.encode(), {"Content-Type": "application/xml"})

    # ------------------------------------------------------------------ signature, version 4

    def _verify(self, call: Call) -> str | None:
        """Return the error code of a signature that does not hold."""
        header = call.headers.get("Authorization") or ""
        if header:
            if not header.startswith("AWS4-HMAC-SHA256 "):
                return "AccessDenied"
            parts = dict(p.strip().split("=", 1) for p in header.partition(" ")[2].split(","))
            signed, given, moment = parts["SignedHeaders"], parts["Signature"], call.headers.get("x-amz-date", "")
            credential, query = parts["Credential"], call.query
            payload = call.headers.get("x-amz-content-sha256", "")
            if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(call.body).hexdigest()):
                return "XAmzContentSHA256Mismatch"
        else:
            query = {k: v for k, v in call.query.items() if k != "X-Amz-Signature"}
            signed, given = query["X-Amz-SignedHeaders"], call.query["X-Amz-Signature"]
            credential, moment, payload = query["X-Amz-Credential"], query["X-Amz-Date"], "UNSIGNED-PAYLOAD"
            made = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            if self.now() > made + timedelta(seconds=int(query["X-Amz-Expires"])):
                return "AccessDenied"
        access, day, region, service, _ = credential.split("/")
        if access != self.access_key:
            return "InvalidAccessKeyId"
        if region != self.region:
            return "AuthorizationHeaderMalformed"
        canonical = "\n".join(
            [
                call.method,
                quote(unquote(call.path), safe="/-_.~"),
                _canonical_query(query),
                "".join(f"{name}:{' '.join((call.headers.get(name) or '').split())}\n" for name in signed.split(";")),
                signed,
                payload,
            ]
        )
        scope = f"{day}/{region}/{service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key: Any = f"AWS4{self.secret_key}".encode()
        for part in (day, region, service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        wanted = hmac.new(key, text.encode(), "sha256").hexdigest()
        return None if hmac.compare_digest(wanted, given) else "SignatureDoesNotMatch"


def _canonical_query(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"})
