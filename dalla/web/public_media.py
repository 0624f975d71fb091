"""`/public/<token>.jpg`: the only thing of this app the internet may read, a prepared picture for a while."""

from __future__ import annotations

from flask import Blueprint, Response

from dalla.errors import DallaError, NotFound
from dalla.web.context import services

bp = Blueprint("public_media", __name__)

ROBOTS = "User-agent: facebookexternalhit\nAllow: /public/\nDisallow: /\n\nUser-agent: *\nDisallow: /\n"


@bp.get("/public/<token>.jpg")
def picture(token: str) -> Response:
    """Answer the JPEG of a valid token; 404 for everything else, whatever the reason."""
    try:
        data = services().hosting.read(token)
    except DallaError:
        raise NotFound("There is no such picture.") from None
    response = Response(data, mimetype="image/jpeg")
    response.headers["Cache-Control"] = "public, max-age=300"
    response.headers["X-Robots-Tag"] = "noindex"
    response.headers["Content-Disposition"] = "inline"
    return response


@bp.get("/robots.txt")
def robots() -> Response:
    """Let Meta's fetcher in and search engines out."""
    return Response(ROBOTS, mimetype="text/plain")
