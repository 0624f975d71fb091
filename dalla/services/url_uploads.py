"""Pictures from a list of addresses: fetched as a task into uploads, which are then imported like any others."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dalla import addresses, downloads
from dalla.archives import printable
from dalla.errors import Cancelled, DallaError, InvalidInput, StorageError, TooLarge
from dalla.imaging import MAX_BYTES
from dalla.jobs.base import Context, JobQueue
from dalla.records.job import Job
from dalla.services.uploads import Uploads

KIND = "url_uploads"
MAX_URLS = 1000
#: Bytes of one archive, and of everything a task fetches.
ARCHIVE_BYTES, ALL_BYTES = 2_000_000_000, 20_000_000_000
#: Files fetched at a time.
WORKERS = 4
_ARCHIVES = (".zip", ".cbz")


class UrlUploads:
    """Fetches files from addresses. `private` allows this machine and the private network."""

    def __init__(self, uploads: Uploads, jobs: JobQueue, *, private: bool = False) -> None:
        self._uploads = uploads
        self._jobs = jobs
        self._private = private
        jobs.register(KIND, self._run, lane="net", restartable=True)

    def start(self, text: str) -> Job:
        """Queue fetching the addresses in a text, one a line or with spaces between.

        The result is {uploadIds, files: [{url, name, sizeBytes, uploadId}], failed: [{url, code, detail}], summary}.
        Raises InvalidInput with the line of each wrong address.
        """
        urls = list(dict.fromkeys(text.split()))
        if not urls:
            raise InvalidInput.field("urls", "Give at least one address, one a line.")
        if len(urls) > MAX_URLS:
            raise InvalidInput.field("urls", f"At most {MAX_URLS:,} addresses are fetched at once.")
        wrong = []
        for place, url in enumerate(urls, 1):
            try:
                addresses.parts(url, field="urls")
            except InvalidInput as exc:
                told = exc.errors[0]["message"] if exc.errors else exc.detail
                wrong.append({"field": "urls", "message": f"{place}. {printable(url)[:100]}: {told}"})
        if wrong:
            raise InvalidInput(wrong[0]["message"], errors=wrong[:20])
        noun = "address" if len(urls) == 1 else "addresses"
        return self._jobs.submit(KIND, {"urls": urls}, title=f"Fetch pictures from {len(urls):,} {noun}")

    def _run(self, ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
        urls: list[str] = payload["urls"]
        done: dict[str, dict[str, Any]] = (self._uploads.outcome(ctx.job.id) or {}) if ctx.job.attempt > 1 else {}
        failed: dict[str, dict[str, str]] = {}
        room = _Room(ALL_BYTES - sum(row["sizeBytes"] for row in done.values()))
        stop = threading.Event()
        try:
            with ThreadPoolExecutor(WORKERS, thread_name_prefix="fetch") as pool:
                waiting = {url: pool.submit(self._one, url, room, stop) for url in urls if url not in done}
                try:
                    for url in urls:
                        ctx.progress(len(done) + len(failed), len(urls), f"{len(done):,} of {len(urls):,} fetched")
                        if url in waiting:
                            self._settle(ctx, url, waiting[url], done, failed)
                except BaseException:
                    stop.set()
                    for future in waiting.values():
                        future.cancel()
                    raise
        except Cancelled:
            self._uploads.discard([row["uploadId"] for row in done.values()])
            raise
        ctx.progress(len(urls), len(urls), f"{len(done):,} of {len(urls):,} fetched")
        if not done:
            first = next(iter(failed.values()))
            raise InvalidInput(
                f"Nothing could be fetched. {first['detail']}",
                remedy="The list says why for each address." if len(failed) > 1 else None,
            )
        files = [done[url] for url in urls if url in done]
        return {
            "uploadIds": [row["uploadId"] for row in files],
            "files": files,
            "failed": list(failed.values()),
            "summary": f"{len(files):,} of {len(urls):,} fetched",
        }

    def _settle(
        self,
        ctx: Context,
        url: str,
        future: Future[dict[str, Any]],
        done: dict[str, dict[str, Any]],
        failed: dict[str, dict[str, str]],
    ) -> None:
        """Wait for one file and note what came of it. Raises Cancelled, StorageError (the disk is full)."""
        while True:
            try:
                done[url] = future.result(timeout=0.5)
                self._uploads.keep_outcome(ctx.job.id, done)
                return
            except TimeoutError:
                ctx.check_cancelled()
                if future.done() and isinstance(future.exception(), TimeoutError):
                    raise
            except (Cancelled, StorageError):
                raise
            except DallaError as exc:
                detail = " ".join(part for part in (exc.detail, exc.remedy) if part)
                failed[url] = {"url": printable(url), "code": exc.code, "detail": detail}
                ctx.item_failed(printable(url), exc.code, detail)
                return

    def _one(self, url: str, room: _Room, stop: threading.Event) -> dict[str, Any]:
        limit = ARCHIVE_BYTES if url.partition("?")[0].lower().endswith(_ARCHIVES) else MAX_BYTES
        with downloads.fetch(url, limit=limit, private=self._private) as file:

            def read(amount: int) -> bytes:
                if stop.is_set():
                    raise Cancelled("The fetching was stopped.")
                piece = file.read(amount)
                room.take(len(piece))
                return piece

            upload = self._uploads.keep(file.name, read)
        return {"url": printable(url), "name": upload.name, "sizeBytes": upload.size, "uploadId": upload.id}


class _Room:
    """How many bytes may still come in one task, over all files at once."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()

    def take(self, amount: int) -> None:
        with self._lock:
            self._left -= amount
            if self._left < 0:
                raise TooLarge(
                    f"The files have more than {ALL_BYTES / 1e9:.0f} GB together.", remedy="Fetch fewer at once."
                )
