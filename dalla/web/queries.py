"""Query parameters that an address does not know are refused by name, also where it knows none at all.

Views with a query model refuse them by themselves; this is for the others, where a misspelt `?dryRun=1` on a DELETE
would otherwise be passed over.
"""

from __future__ import annotations

import inspect

from flask import Flask, request

from dalla.errors import InvalidInput

#: Understood on every address: not to wait, and parts of addresses that only keep browsers from older copies.
EVERYWHERE = frozenset({"async", "n", "v"})


def install(app: Flask) -> None:
    """Look at the query of every route of the API before its view."""
    described: dict[str, bool] = {}

    def has_model(endpoint: str) -> bool:
        if endpoint not in described:
            described[endpoint] = "query" in inspect.unwrap(app.view_functions[endpoint]).__annotations__
        return described[endpoint]

    @app.before_request
    def check() -> None:
        rule = request.url_rule
        if not request.args or rule is None or not rule.rule.startswith(("/api/", "/tasks/")):
            return
        if rule.rule == "/api/docs" or has_model(rule.endpoint):
            return
        unknown = [name for name in request.args if name not in EVERYWHERE]
        if unknown:
            raise InvalidInput(
                f"{unknown[0]}: There is no such parameter.",
                errors=[{"field": name, "message": "There is no such parameter."} for name in unknown],
            )
