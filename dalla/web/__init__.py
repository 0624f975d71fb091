"""The REST API and the pages on Flask. `install` puts everything onto an app."""

from __future__ import annotations

from flask_openapi3 import OpenAPI

from dalla.settings import Settings


def install(app: OpenAPI, settings: Settings) -> None:
    """Register guards, error handlers and every resource."""
    from dalla.web import (
        access,
        auth,
        backups,
        calendar,
        captions,
        characters,
        dataset_captions,
        dataset_import,
        dataset_versions,
        datasets,
        events,
        generate,
        guard,
        image_batches,
        images,
        logs,
        lora,
        loras,
        media,
        metrics,
        notifications,
        pages,
        payload,
        platforms,
        posts,
        problems,
        prompts,
        public_media,
        publish,
        queries,
        rate_limits,
        scheduler,
        shelf,
        storage,
        system,
        tasks,
        webhooks,
    )
    from dalla.web import settings as settings_routes

    payload.install(app)
    problems.install(app)
    metrics.install(app)
    guard.install(app, settings, access.check)
    rate_limits.install(app)
    queries.install(app)
    app.register_blueprint(pages.bp)
    app.register_blueprint(public_media.bp)
    for part in (
        auth,
        characters,
        generate,
        media,
        prompts,
        captions,
        posts,
        publish,
        platforms,
        calendar,
        scheduler,
        datasets,
        dataset_import,
        dataset_captions,
        dataset_versions,
        images,
        image_batches,
        lora,
        notifications,
        webhooks,
        tasks,
        events,
        logs,
        metrics,
        system,
    ):
        app.register_api(part.bp)
    app.register_api(loras.bp)
    app.register_api(storage.bp)
    app.register_api(storage.restart)
    app.register_api(backups.bp)
    app.register_api(shelf.bp)
    app.register_api(shelf.pins)
    shelf.install(app)
    app.register_api(tasks.plain)
    app.register_api(settings_routes.bp)
    app.register_api(dataset_import.uploads)
    app.wsgi_app = datasets.ShortAddresses(app.wsgi_app)  # type: ignore[method-assign]
