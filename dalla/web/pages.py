"""The static pages and their assets. Pages stand at `/<name>.html`, assets below `/static/`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, redirect, request, send_from_directory
from werkzeug.exceptions import NotFound

from dalla.web.access import PROGRAMS

STATIC = Path(__file__).resolve().parent.parent.parent / "static"
_PAGE = re.compile(r"[a-z][a-z0-9-]*\.html\Z")

bp = Blueprint("pages", __name__)


@bp.get("/")
@bp.get("/index.html")
def index() -> Response:
    return _page("index.html")


@bp.get("/<name>.html")
def page(name: str) -> Response:
    return _page(f"{name}.html")


def _short(name: str) -> Any:
    return lambda: redirect(f"/{name}.html")


# `/studio` leads to the page too. One rule per page: a rule for any name would turn 404 into 405.
for _file in sorted(STATIC.glob("[a-z]*.html")):
    bp.add_url_rule(f"/{_file.stem}", f"short_{_file.stem}", _short(_file.stem))


@bp.get("/favicon.ico")
def favicon():
    return redirect("/static/img/favicon.svg", 301)


@bp.get("/api/docs")
def docs() -> Response:
    return _page("docs.html")


@bp.get("/api/openapi.json")
def openapi() -> dict:
    """The description of this API (OpenAPI 3.1)."""
    from dalla.web.openapi import document  # made when it is first asked for

    return document(current_app)


def wanted() -> bool:
    """Whether it is a person in a browser who asks, at an address where no program would."""
    return (
        request.method in ("GET", "HEAD")
        and "text/html" in request.headers.get("Accept", "")
        and not request.path.startswith((*PROGRAMS, "/static/", "/public/", "/robots.txt"))
    )


def not_found() -> Response:
    """Answer an address that leads nowhere with a page that leads on."""
    response = send_from_directory(STATIC, "404.html", mimetype="text/html", conditional=False)
    response.status_code = 404
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(name: str) -> Response:
    if not _PAGE.match(name) or not (STATIC / name).is_file():
        raise NotFound()
    response = send_from_directory(STATIC, name, mimetype="text/html")
    response.headers["Cache-Control"] = "no-cache"
    return response
