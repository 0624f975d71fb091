"""The OpenAPI document, made from the routes themselves when it is first asked for.

Addresses, parameters and bodies come from the views and their models, rights from the access table, whether a route
takes an `Idempotency-Key` from its decorator. What an answer looks like and one example per operation stand in
`openapi_shapes.json` and `openapi_examples.json`; a test runs every example and compares.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import dalla
from dalla import errors
from dalla.web import access, openapi_bodies, openapi_parts, payload, rate_limits
from dalla.web.blueprint import routes

Json = dict[str, Any]
Model = type[BaseModel]

HERE = Path(__file__).parent
PREFIXES = ("/api/", "/tasks/", "/health/", "/metrics")
REF = "#/components/schemas/{model}"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

#: Records that carry an ETag: their addresses.
TAGGED = {
    "/api/characters/{id}",
    "/api/collections/{id}",
    "/api/datasets/{id}",
    "/api/images/{id}",
    "/api/loras/{name}",
    "/api/media/{id}",
    "/api/posts/{id}",
    "/api/prompts/{id}",
    "/api/scheduler/tasks/{id}",
    "/api/webhooks/{id}",
}


@dataclass
class Operation:
    """One method of one address."""

    rule: str
    path: str
    method: str
    view: Callable[..., Any]
    models: dict[str, Model]
    summary: str
    tag: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def keyed(self) -> bool:
        """Whether it takes an Idempotency-Key."""
        view: Any = self.view
        while view is not None:
            if getattr(view, "__code__", None) is not None and view.__code__.co_filename == payload.__file__:
                return True
            view = getattr(view, "__wrapped__", None)
        return False


def document(app: Flask) -> Json:
    """Return the OpenAPI 3.1 document of an app; made once."""
    known: Json | None = app.extensions.get("dalla_openapi")
    if known is None:
        known = app.extensions["dalla_openapi"] = _build(app)
    return known


def examples() -> Json:
    """Return `calls`, in an order in which they can be made one after the other, and sample `names` for the reader."""
    return _read("openapi_examples.json")


def operations(app: Flask) -> list[Operation]:
    """Return every documented operation by address."""
    notes = {(rule, method): note for rule, method, note in routes(app)}
    found = []
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith(PREFIXES) or rule.rule == "/api/docs":
            continue
        view = app.view_functions[rule.endpoint]
        inner = inspect.unwrap(view)
        hints = {k: v for k, v in get_type_hints(inner).items() if k in ("path", "query", "form", "body")}
        path = re.sub(r"<(?:[^<:>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        for method in METHODS:
            if method in (rule.methods or ()):
                note = notes.get((rule.rule, method), {})
                summary = note.get("summary") or (inspect.getdoc(inner) or "").partition("\n")[0].rstrip(".")
                tag = next((tag.name for tag in note.get("tags") or ()), "System")
                found.append(Operation(rule.rule, path, method, view, hints, summary, tag))
    return sorted(found, key=lambda operation: (operation.path, METHODS.index(operation.method)))


# ---------------------------------------------------------------- the document


def _build(app: Flask) -> Json:
    found, bodies, made = operations(app), openapi_bodies.contents(), examples()
    calls: dict[str, Json] = {}
    for call in made["calls"]:
        calls.setdefault(call["call"], call)
    builder = _Builder(found, bodies, calls, made["names"])
    paths: Json = {}
    for operation in found:
        paths.setdefault(operation.path, {})[operation.method.lower()] = builder.operation(operation)
    used = {operation.tag for operation in found}
    shapes = {name: openapi_parts.shape(value) for name, value in _read("openapi_shapes.json").items()}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": "Digital Dalla", "version": dalla.__version__, "description": openapi_parts.ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": n, "description": openapi_parts.TAGS.get(n, n)} for n in sorted(used, key=_place)],
        "paths": paths,
        "components": {
            "schemas": {**builder.bodies(), **shapes, "Problem": openapi_parts.PROBLEM},
            "responses": openapi_parts.problems(),
            "headers": openapi_parts.HEADERS,
            "securitySchemes": openapi_parts.SECURITY,
        },
        "x-errors": errors.catalogue(),
    }


def _place(tag: str) -> tuple[int, str]:
    """Return where a tag stands: in the order of TAGS, others behind them."""
    names = list(openapi_parts.TAGS)
    return (names.index(tag) if tag in names else len(names), tag)


class _Builder:
    """Makes the operations; keeps the schemas of the models they name."""

    def __init__(self, found: list[Operation], bodies: dict[str, Json], calls: dict[str, Json], names: Json) -> None:
        self._extra, self._calls, self._names = bodies, calls, names
        models: set[Model] = {model for operation in found for model in operation.models.values()}
        models |= {m for contents in bodies.values() for m in contents.values() if isinstance(m, type)}
        ordered = sorted(models, key=lambda model: (model.__module__, model.__qualname__))
        refs, together = models_json_schema([(model, "validation") for model in ordered], ref_template=REF)
        # Of two models with one name pydantic spells out the module; its last part says enough.
        text, schemas = json.dumps(together.get("$defs", {})), together.get("$defs", {})
        self._of: dict[Model, str] = {m: refs[(m, "validation")]["$ref"].rpartition("/")[2] for m in ordered}
        for name in schemas:
            module, _, own = name.rpartition("__")
            if module:
                short = "".join(word.title() for word in module.rpartition("__")[2].split("_")) + own
                text = text.replace(f'"{name}"', f'"{short}"').replace(f'/{name}"', f'/{short}"')
                self._of = {m: short if known == name else known for m, known in self._of.items()}
        self._schemas: dict[str, Json] = json.loads(text)
        self._used: set[str] = set()

    def bodies(self) -> dict[str, Json]:
        """Return the schemas that bodies use, not those whose fields became parameters."""
        gone = set(self._of.values()) - self._used
        return {name: schema for name, schema in self._schemas.items() if name not in gone}

    def operation(self, operation: Operation) -> Json:
        call = self._calls.get(operation.name, {})
        right = access.right_of(operation.rule, operation.method)
        made: Json = {
            "operationId": re.sub(r"\W+", "_", operation.name).strip("_").lower(),
            "summary": operation.summary,
            "tags": [operation.tag],
            "parameters": self._parameters(operation, call),
            "responses": self._responses(operation, call, right),
            "security": openapi_parts.security(right),
            "x-right": right,
        }
        if call.get("note"):
            made["description"] = call["note"]
        body = self._body(operation, call)
        if body:
            made["requestBody"] = body
        return made

    def _parameters(self, operation: Operation, call: Json) -> list[Json]:
        found: list[Json] = []
        path = self._properties(operation.models.get("path"))
        for name in re.findall(r"{(\w+)}", operation.path):
            schema = path.get(name, {"type": "string", "minLength": 1})
            sample = self._sample(call.get("path", {}).get(name, f"{{{name}}}"))
            found.append({"name": name, "in": "path", "required": True, "schema": schema, "example": sample})
        model = operation.models.get("query")
        required = self._schemas[self._of[model]].get("required", []) if model is not None else []
        for name, schema in self._properties(model).items():
            parameter: Json = {"name": name, "in": "query", "required": name in required, "schema": schema}
            if name in call.get("query", {}):
                parameter["example"] = self._sample(call["query"][name])
            found.append(parameter)
        for parameter in found:
            if parameter["schema"].get("description"):
                parameter["description"] = parameter["schema"]["description"]
        return found + openapi_parts.header_parameters(
            keyed=operation.keyed,
            changes=operation.path in TAGGED and operation.method in ("PUT", "PATCH", "DELETE"),
            reads=operation.path in TAGGED and operation.method == "GET",
            waits=operation.name in openapi_parts.WAITING,
        )

    def _properties(self, model: Model | None) -> dict[str, Json]:
        return self._schemas[self._of[model]].get("properties", {}) if model is not None else {}

    def _responses(self, operation: Operation, call: Json, right: str) -> Json:
        made: Json = {}
        for status, answer in {str(call.get("status", 200)): call.get("answer", "any"), **call.get("also", {})}.items():
            made[status] = openapi_parts.response(status, answer, tagged=operation.path in TAGGED)
        if operation.path in TAGGED and operation.method == "GET":
            made["304"] = {"description": "The caller has this already (If-None-Match)"}
        has_body = "body" in operation.models or "form" in operation.models or operation.name in self._extra
        limited = right != access.PUBLIC and operation.path.startswith("/api/")
        problems = openapi_parts.problem_statuses(
            operation.method,
            public=right == access.PUBLIC,
            input=bool(operation.models) or has_body or "{" in operation.path,
            body=has_body,
            tagged=operation.path in TAGGED and operation.method in ("PUT", "PATCH", "DELETE"),
            limited=limited or operation.rule in rate_limits.BUDGETS or operation.rule.startswith("/api/auth/"),
        )
        for status in problems:
            made.setdefault(status, {"$ref": f"#/components/responses/Problem{status}"})
        return made

    def _body(self, operation: Operation, call: Json) -> Json:
        content: Json = {}
        contents: Json = dict(self._extra.get(operation.name, {}))
        if "body" in operation.models:
            contents.setdefault("application/json", operation.models["body"])
        if "form" in operation.models:
            contents.setdefault("multipart/form-data", operation.models["form"])
        required = contents.pop("required", True)
        for kind, what in contents.items():
            if isinstance(what, type):
                self._used.add(self._of[what])
                what = {"$ref": REF.format(model=self._of[what])}
            content[kind] = {"schema": what}
        if "body" in call and "application/json" in content:
            content["application/json"]["example"] = self._sample(call["body"])
        if "form" in call and "multipart/form-data" in content:
            content["multipart/form-data"]["example"] = self._sample(call["form"])
        return {"content": content, "required": required} if content else {}

    def _sample(self, value: Any) -> Any:
        """Return a value of an example with readable ids in place of its `{names}`."""
        if isinstance(value, str):
            whole = re.fullmatch(r"{(\w+)}", value)
            if whole:
                return self._names.get(whole[1], whole[1].upper())
            return re.sub(r"{(\w+)}", lambda found: str(self._names.get(found[1], found[1].upper())), value)
        if isinstance(value, list):
            return [self._sample(one) for one in value]
        if isinstance(value, dict):
            return {key: self._sample(one) for key, one in value.items()}
        return value


def _read(name: str) -> Json:
    return json.loads((HERE / name).read_text("utf-8"))  # type: ignore[no-any-return]
