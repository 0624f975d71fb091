"""The one error tree. Adapters translate into it at their own boundary; services raise it.

    DallaError            code             status
    ├ InvalidInput        invalid_input    422   errors[] by field
    ├ BadRequest          bad_request      400   the request itself cannot be read
    ├ TooLarge            too_large        413
    ├ UnsupportedMedia    unsupported_media 415
    ├ NotFound            not_found        404   names the kind and id
    ├ Conflict            conflict         409   wrong state, duplicate
    ├ Stale               stale            412   If-Match no longer matches; carries the current record
    ├ Unauthorized        unauthorized     401
    ├ Forbidden           forbidden        403
    ├ NotConfigured       not_configured   409   names the setting and where to set it
    ├ Unavailable         unavailable      503   a service is off, a library is missing
    ├ StorageError        storage          503   disk full, folder read-only, file broken
    ├ UpstreamError       upstream_error   502   what the other side said; kind = retry | permanent | reauth
    │ └ RateLimited       rate_limited     429   retry_after seconds
    ├ TimedOut            timed_out        504
    └ Cancelled           cancelled        409   somebody asked the job to stop

`detail` is written for the person in front of the screen, `remedy` names the fix, `code` is
stable for programs. The same shape (RFC 9457) is answered by the web and stored as `job.error`.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Literal

Problem = dict[str, Any]


class DallaError(Exception):
    """Something went wrong in a way that can be said in one sentence."""

    code = "error"
    status = 500
    title = "Something went wrong"

    def __init__(
        self,
        detail: str,
        *,
        remedy: str | None = None,
        errors: list[dict[str, str]] | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.errors = errors or []
        self.retry_after = retry_after
        self.extra = extra or {}

    def problem(self) -> Problem:
        """Return the error as an RFC 9457 object (without `requestId`, which the web adds)."""
        body: Problem = {
            "type": f"/api/docs#error-{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "error": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.remedy:
            body["remedy"] = self.remedy
        if self.retry_after is not None:
            body["retryAfter"] = self.retry_after
        body.update(self.extra)
        return body


class BadRequest(DallaError):
    """The request cannot be read: broken JSON, a header that makes no sense."""

    code, status, title = "bad_request", 400, "The request cannot be read"


class InvalidInput(DallaError):
    """The request can be read, and something in it is not acceptable."""

    code, status, title = "invalid_input", 422, "Some values are not acceptable"

    @classmethod
    def field(cls, name: str, message: str, *, remedy: str | None = None) -> InvalidInput:
        """Build the error for one field, named as the JSON names it."""
        return cls(message, errors=[{"field": name, "message": message}], remedy=remedy)


class TooLarge(DallaError):
    code, status, title = "too_large", 413, "Too large"


class UnsupportedMedia(DallaError):
    code, status, title = "unsupported_media", 415, "Unsupported content"


class NotFound(DallaError):
    """There is no such thing."""

    code, status, title = "not_found", 404, "Not found"

    @classmethod
    def of(cls, kind: str, id: str) -> NotFound:
        return cls(f"There is no {kind} with the id '{id}'.")


class Conflict(DallaError):
    """The thing is in a state that does not allow this."""

    code, status, title = "conflict", 409, "Not possible in this state"


class Stale(DallaError):
    """The record changed since the caller read it (If-Match)."""

    code, status, title = "stale", 412, "Somebody else changed this meanwhile"


class Unauthorized(DallaError):
    code, status, title = "unauthorized", 401, "Please sign in"


class Forbidden(DallaError):
    code, status, title = "forbidden", 403, "Not allowed"


class NotConfigured(DallaError):
    """A setting is missing; the detail names it and the remedy says where to set it."""

    code, status, title = "not_configured", 409, "Not set up yet"


class Unavailable(DallaError):
    """A service is off or a library is missing; trying later, or installing it, helps."""

    code, status, title = "unavailable", 503, "Not available right now"


def _folder_of(exc: OSError) -> str:
    """Name the folder that an operation failed in, as far as the error tells."""
    name = exc.filename2 or exc.filename
    if not isinstance(name, str | os.PathLike):
        return "it"
    parent = os.path.basename(os.path.dirname(os.fspath(name)))
    return f"the folder '{parent}'" if isinstance(parent, str) and parent else "it"


class StorageError(DallaError):
    """The disk refused: full, read-only, or a file that cannot be read."""

    code, status, title = "storage", 503, "A file or folder cannot be used"

    @classmethod
    def from_os(cls, exc: OSError, what: str) -> StorageError:
        """Say in plain words why the operating system refused to write `what`."""
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return cls(
                f"There is no space left on the disk to save {what}. Nothing was changed.",
                remedy="Free some space (Monitoring shows which folder is full) and try again.",
            )
        if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return cls(
                f"A folder is read-only, so {what} could not be saved. Nothing was changed.",
                remedy=f"Give this user write permission to {_folder_of(exc)}, or choose another one (DALLA_DATA_DIR, or "
                "the folders in the settings).",
            )
        return cls(
            f"The disk refused to save {what}: {exc.strerror or exc}. Nothing was changed.",
            remedy="Look at the disk and its cable or connection, then try again.",
        )


class UpstreamError(DallaError):
    """Another service answered with an error."""

    code, status, title = "upstream_error", 502, "Another service reported a problem"

    def __init__(
        self,
        detail: str,
        *,
        service: str,
        kind: Literal["retry", "permanent", "reauth"] = "permanent",
        **more: Any,
    ) -> None:
        super().__init__(detail, **more)
        self.service = service
        self.kind = kind
        self.extra = {"service": service, "kind": kind, **self.extra}


class RateLimited(UpstreamError):
    code, status, title = "rate_limited", 429, "Too many requests"


class TimedOut(DallaError):
    code, status, title = "timed_out", 504, "It took too long"


class Cancelled(DallaError):
    """Somebody asked the job to stop. Not a failure."""

    code, status, title = "cancelled", 409, "Cancelled"


def catalogue() -> list[dict[str, Any]]:
    """Return every code with its status and meaning, for the API page."""
    kinds = [k for k in globals().values() if isinstance(k, type) and issubclass(k, DallaError) and k is not DallaError]
    rows: list[dict[str, Any]] = [{"code": kind.code, "status": kind.status, "title": kind.title} for kind in kinds]
    rows.append({"code": "method_not_allowed", "status": 405, "title": "The address does not take this method"})
    rows.append(
        {"code": "internal", "status": 500, "title": "Nobody foresaw this; the log has it under the request id"}
    )
    return sorted(rows, key=lambda row: (row["status"], row["code"]))


def internal_problem() -> Problem:
    """Return the body for an error nobody foresaw: no trace, no internals."""
    error = DallaError(
        "Something went wrong inside the app. The log has the details under this request id.",
        remedy="Try again; if it happens again, report it with the request id.",
    )
    error.code = "internal"
    return error.problem()
