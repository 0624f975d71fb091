"""Every error of every route as one shape: RFC 9457 `application/problem+json`."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from dalla import errors, log
from dalla.errors import DallaError, InvalidInput, Problem, StorageError
from dalla.web import pages

logger = logging.getLogger(__name__)

_HTTP: dict[int, tuple[str, str, str | None]] = {
    400: ("bad_request", "The request cannot be read.", None),
    403: ("forbidden", "Not allowed.", None),
    404: ("not_found", "There is nothing at this address.", "See /api/docs for the addresses there are."),
    405: ("method_not_allowed", "This address does not take this method.", None),
    408: ("timed_out", "The request took too long to arrive.", None),
    411: ("bad_request", "The request needs a Content-Length.", None),
    413: ("too_large", "The request is larger than this address takes.", None),
    414: ("bad_request", "The address is too long.", None),
    415: (
        "unsupported_media",
        "This kind of content is not taken here.",
        "Send JSON with Content-Type: application/json.",
    ),
    416: ("bad_request", "The requested range is outside the file.", None),
    429: ("rate_limited", "Too many requests.", None),
    431: ("bad_request", "The headers are too large.", None),
}


def install(app: Flask) -> None:
    """Register the one handler for known, HTTP and unforeseen errors."""
    app.register_error_handler(DallaError, lambda exc: respond(exc.problem()))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(OSError, _os)
    app.register_error_handler(Exception, _unforeseen)


def respond(problem: Problem) -> Response:
    """Answer a problem, with the request id and the headers that belong to it."""
    problem = {**problem, "requestId": log.request_id.get()}
    response = Response(orjson.dumps(problem), status=problem["status"], content_type="application/problem+json")
    if problem["status"] == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if "retryAfter" in problem:
        response.headers["Retry-After"] = str(max(1, round(problem["retryAfter"])))
    elif problem["status"] == 503:
        response.headers["Retry-After"] = "5"
    return response


def validation_failed(exc: ValidationError) -> Response:
    """Answer pydantic's findings by field, in words for people."""
    return respond(invalid(exc).problem())


def invalid(exc: ValidationError) -> InvalidInput:
    """Turn pydantic's findings into InvalidInput, fields named as the JSON names them."""
    found = []
    for error in exc.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in error["loc"])
        found.append({"field": where, "message": _message(error)})
    if len(found) == 1:
        detail = f"{found[0]['field']}: {found[0]['message']}" if found[0]["field"] else found[0]["message"]
    else:
        detail = f"{len(found)} values are not acceptable."
    return InvalidInput(detail, errors=found)


def _message(error: Any) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "There is no such field."
        case "missing":
            return "This field is required."
        case "model_type" | "model_attributes_type" | "dict_type":
            return "This must be a JSON object."
        case "list_type":
            return "This must be a list."
        case "string_type":
            return "This must be text."
        case "bool_type" | "bool_parsing":
            return "This must be true or false."
        case "int_type" | "int_parsing" | "int_from_float":
            return "This must be a whole number."
        case "float_type" | "float_parsing" | "finite_number":
            return "This must be a number."
    return str(error["msg"]).removeprefix("Value error, ").rstrip(".") + "."


def _http(exc: HTTPException) -> Response:
    status = exc.code or 500
    if status < 400 and exc.response is not None:
        return exc.response  # type: ignore[return-value]  # a redirect
    if status >= 500:
        return _unforeseen(exc)
    if status == 404 and pages.wanted():
        return pages.not_found()
    code, detail, remedy = _HTTP.get(status, ("bad_request", exc.description or exc.name, None))
    error = DallaError(detail, remedy=remedy)
    error.code, error.status, error.title = code, status, exc.name  # type: ignore[misc]
    response = respond(error.problem())
    if status == 405 and getattr(exc, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(exc.valid_methods))  # type: ignore[attr-defined]
    return response


def _os(exc: OSError) -> Response:
    logger.exception("%s %s: the disk refused", request.method, request.path)
    return respond(StorageError.from_os(exc, "the change").problem())


def _unforeseen(exc: Exception) -> Response:
    logger.exception("%s %s failed", request.method, request.path)
    return respond(errors.internal_problem())


def from_problem(problem: Problem, **extra: Any) -> DallaError:
    """Rebuild an error from a stored problem (a failed task's), to answer it with its own status."""
    error = DallaError(
        problem.get("detail", "The task failed."),
        remedy=problem.get("remedy"),
        errors=problem.get("errors"),
        retry_after=problem.get("retryAfter"),
        extra={k: problem[k] for k in ("service", "kind") if k in problem} | extra,
    )
    for name in ("code", "status", "title"):
        setattr(error, name, problem.get(name, getattr(error, name)))
    return error
