"""Copies of prepared pictures in an S3-compatible bucket (R2, MinIO, AWS), through the `minio` client."""

from __future__ import annotations

import io
import logging
import secrets as random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from dalla.errors import DallaError, NotConfigured, Unavailable
from dalla.records.finding import Finding
from dalla.settings import Settings

logger = logging.getLogger(__name__)

PREFIX = "dalla/"
MAX_DAYS = 7  # signed addresses cannot live longer

_KEYS = (
    "Check S3_ACCESS_KEY, S3_SECRET_KEY and S3_REGION under Settings, and that the keys may read and write the bucket."
)
_PROBLEMS = {
    "NoSuchBucket": ("The bucket {bucket} does not exist.", "Check S3_BUCKET and S3_ENDPOINT, or make the bucket."),
    "InvalidAccessKeyId": ("The bucket does not know the access key.", _KEYS),
    "SignatureDoesNotMatch": ("The bucket does not accept the secret key.", _KEYS),
    "AuthorizationHeaderMalformed": ("The bucket does not accept the region.", _KEYS),
    "AccessDenied": ("The bucket refuses access.", _KEYS),
    "RequestTimeTooSkewed": ("The clock of this computer is wrong.", "Set the clock of this computer."),
}


class Bucket:
    """The bucket of the settings. Made for one use; holds no connection afterwards."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def publish(self, digest: str, read: Callable[[], bytes]) -> str:
        """Copy the picture there unless it is there already; return its address. Raises NotConfigured, Unavailable."""
        name, bucket = f"{PREFIX}{digest}.jpg", self._settings.s3_bucket
        with self._client() as client:
            if not _exists(client, bucket, name):
                data = read()
                client.put_object(bucket, name, io.BytesIO(data), len(data), content_type="image/jpeg")
            if self._settings.s3_public_url:
                return f"{self._settings.s3_public_url.rstrip('/')}/{quote(name)}"
            minutes = max(1, min(int(self._settings.public_url_minutes), MAX_DAYS * 24 * 60))
            return client.presigned_get_object(bucket, name, expires=timedelta(minutes=minutes))

    def clean(self, now: datetime, days: int) -> int:
        """Delete our copies older than so many days; return how many. Raises NotConfigured, Unavailable."""
        bucket, before, removed = self._settings.s3_bucket, now - timedelta(days=days), 0
        with self._client() as client:
            old = [
                item.object_name
                for item in client.list_objects(bucket, prefix=PREFIX, recursive=True)
                if item.last_modified is not None and item.last_modified < before
            ]
            for name in old:
                client.remove_object(bucket, name)
                removed += 1
        return removed

    def probe(self) -> Finding:
        """Put a small object, read it back the way Instagram does (without keys), delete it.

        Raises NotConfigured, Unavailable.
        """
        from dalla.platforms import hosting_probe

        bucket, name = self._settings.s3_bucket, f"{PREFIX}test-{random.token_hex(8)}.txt"
        data = f"Digital Dalla was here: {name}\n".encode()
        with self._client() as client:
            client.put_object(bucket, name, io.BytesIO(data), len(data), content_type="text/plain")
            try:
                if self._settings.s3_public_url:
                    url = f"{self._settings.s3_public_url.rstrip('/')}/{quote(name)}"
                else:
                    url = client.presigned_get_object(bucket, name, expires=timedelta(minutes=5))
                answer = hosting_probe.fetch(url)
            finally:
                client.remove_object(bucket, name)
        host = urlsplit(url).netloc
        info = {"bucket": bucket, "host": host, "public": bool(self._settings.s3_public_url)}
        if isinstance(answer, str):
            detail = f"The bucket takes and deletes files, but nothing can be read at {host}: {answer}"
        elif answer[0].status_code != 200 or answer[1] != data:
            detail = (
                f"The bucket takes and deletes files, but {host} answers {answer[0].status_code} instead of the file."
            )
        else:
            return Finding(True, f"A file was put into {bucket}, read at {host} and deleted.", info=info)
        return Finding(False, detail, hosting_probe.fetch_remedy("bucket"), info)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import urllib3
        from minio import Minio
        from minio.error import MinioException, S3Error

        parts = urlsplit(self._settings.s3_endpoint)
        if parts.path.strip("/") or not parts.hostname:
            raise NotConfigured(
                "S3_ENDPOINT must be a plain address such as https://s3.example.com.",
                remedy="Remove the path from S3_ENDPOINT; the bucket's name goes into S3_BUCKET.",
            )
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=60),
            retries=urllib3.Retry(total=2, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504], redirect=0),
        )
        try:
            yield Minio(
                parts.netloc,
                access_key=self._settings.s3_access_key,
                secret_key=self._settings.s3_secret_key,
                secure=parts.scheme == "https",
                region=self._settings.s3_region or None,
                http_client=pool,
            )
        except DallaError:
            raise
        except S3Error as exc:
            raise _problem(str(exc.code), self._settings.s3_bucket) from exc
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise Unavailable(
                f"The bucket at {parts.netloc} cannot be used: {type(exc).__name__}.",
                remedy="Check S3_ENDPOINT and this computer's connection; it is tried again by itself.",
            ) from exc
        finally:
            pool.clear()


def _exists(client: Any, bucket: str, name: str) -> bool:
    from minio.error import S3Error

    try:
        client.stat_object(bucket, name)
    except S3Error as exc:
        if exc.code in ("NoSuchKey", "NoSuchObject", "ResourceNotFound", "AccessDenied"):
            return False  # AccessDenied: keys that may write but not list; the upload tells
        raise
    return True


def _problem(code: str, bucket: str) -> DallaError:
    if code in _PROBLEMS:
        detail, remedy = _PROBLEMS[code]
        return NotConfigured(detail.format(bucket=bucket), remedy=remedy)
    return Unavailable(f"The bucket reported a problem ({code}).", remedy="It is tried again by itself.")
