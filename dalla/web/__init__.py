"""The REST API and the pages on Flask. `install` puts everything onto an app."""

from __future__ import annotations

from flask_openapi3 import OpenAPI

from dalla.settings import Settings


def install(app: OpenAPI, settings: Settings) -> None:
    """Register guards, error handlers and every resource."""
    from dalla.web import characters, events, generate, guard, media, pages, payload, problems, system, tasks

    payload.install(app)
    problems.install(app)
    guard.install(app, settings)
    app.register_blueprint(pages.bp)
    for bp in (characters.bp, generate.bp, media.bp, tasks.bp, tasks.plain, events.bp, system.bp):
        app.register_api(bp)
