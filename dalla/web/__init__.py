"""The REST API and the pages on Flask. `install` puts everything onto an app."""

from __future__ import annotations

from flask_openapi3 import OpenAPI

from dalla.settings import Settings


def install(app: OpenAPI, settings: Settings) -> None:
    """Register guards, error handlers and every resource."""
    from dalla.web import (
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
        lora,
        media,
        notifications,
        pages,
        payload,
        platforms,
        posts,
        problems,
        prompts,
        public_media,
        publish,
        scheduler,
        system,
        tasks,
        webhooks,
    )

    payload.install(app)
    problems.install(app)
    guard.install(app, settings)
    app.register_blueprint(pages.bp)
    app.register_blueprint(public_media.bp)
    for part in (
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
        system,
    ):
        app.register_api(part.bp)
    app.register_api(lora.shelf)
    app.register_api(tasks.plain)
    app.register_api(dataset_import.uploads)
    app.wsgi_app = datasets.ShortAddresses(app.wsgi_app)  # type: ignore[method-assign]
