"""flask_openapi3 and Flask as they are, but for what only some requests need: that is built when it is first read.

At the start an app registers two hundred routes. Their documentation (a JSON schema per model) and the functions
that build addresses from them cost more than everything else together, and most runs never ask for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_openapi3 import APIBlueprint as Documented
from flask_openapi3 import OpenAPI
from flask_openapi3.utils import parse_parameters
from werkzeug.routing import Rule

_lock = threading.Lock()


class APIBlueprint(Documented):
    """A blueprint that remembers what its routes say about themselves until `document()`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._undocumented: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **about: Any) -> Any:
        self._undocumented.append((rule, func, about))
        return parse_parameters(func, doc_ui=False)

    def document(self) -> None:
        """Fill `paths`, `tags` and `components_schemas`."""
        with _lock:
            while self._undocumented:
                rule, func, about = self._undocumented[0]
                super()._collect_openapi_info(rule, func, **about)
                del self._undocumented[0]


class Application(OpenAPI):
    """The Flask app; its document is complete as soon as somebody reads `api_doc`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parts: list[APIBlueprint] = []

    def register_api(self, api: APIBlueprint, **options: Any) -> None:  # type: ignore[override]
        """Register the routes of a blueprint now, what they say about themselves later."""
        self._parts.append(api)
        self.register_blueprint(api, **options)

    def generate_spec_json(self) -> None:
        """Build the document from the parts, in the order they were registered."""
        for part in self._parts:
            part.document()
            new = [tag for tag in part.tags if tag.name not in self.tag_names]
            self.tags.extend(new)
            self.tag_names.extend(tag.name for tag in new)
            self.paths.update(part.paths)
            self.components_schemas.update(part.components_schemas)
        super().generate_spec_json()


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


Flask.url_rule_class = LazyRule
