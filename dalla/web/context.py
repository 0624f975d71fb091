"""The way from a request to the services: `services().characters.get(id)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import current_app

if TYPE_CHECKING:
    from dalla.wiring import Container


def services() -> Container:
    """Return the container of this app."""
    return cast("Container", current_app.extensions["dalla"])
