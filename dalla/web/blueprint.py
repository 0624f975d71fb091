"""flask_openapi3 and Flask as they are, but for what only some requests need: that is built when it is first read.

At the start an app registers two hundred routes. Their documentation (a JSON schema per model) and the functions
that build addresses from them cost more than everything else together, and most runs never ask for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask
from flask_openapi3 import APIBlueprint as Documented
from flask_openapi3 import OpenAPI
from flask_openapi3.utils import parse_parameters
from werkzeug.routing import Rule

Note = dict[str, Any]


class APIBlueprint(Documented):
    """A blueprint that remembers what its routes say about themselves; `routes` tells it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.notes: list[tuple[str, Note]] = []

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **about: Any) -> Any:
        self.notes.append((f"{self.url_prefix or ''}{rule}", {**about, "tags": about.get("tags") or self.abp_tags}))
        return parse_parameters(func, doc_ui=False)


class LazyRule(Rule):
    """A rule whose address builders are compiled when an address is built; matching is not affected."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_now = super()._compile_builder
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not made:
                made.append(compile_now(append_unknown))
            return made[0](rule, **values)

        return build


class Application(OpenAPI):
    """The Flask app; `dalla.web.openapi` makes its document from `parts` when somebody asks for it."""

    url_rule_class = LazyRule

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parts: list[APIBlueprint] = []

    def register_api(self, api: APIBlueprint, **options: Any) -> None:  # type: ignore[override]
        """Register the routes of a blueprint now; what they say about themselves is asked later."""
        self.parts.append(api)
        self.register_blueprint(api, **options)


def routes(app: Flask) -> Iterator[tuple[str, str, Note]]:
    """Yield (rule, method, what was said where it was written: `summary`, `tags`) of every documented route."""
    for part in getattr(app, "parts", ()):
        for rule, note in part.notes:
            yield rule, str(note["method"]), note
