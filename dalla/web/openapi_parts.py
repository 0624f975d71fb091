"""What every operation of the OpenAPI document shares: errors, headers, rights, and the notation of answers."""

from __future__ import annotations

from typing import Any

from dalla.web import access

Json = dict[str, Any]

ABOUT = """Everything the pages do goes through this API. JSON in and out (camelCase), times as ISO 8601 in UTC.

Without accounts the app listens on this computer only and asks for nothing. With accounts, programs send an API token
(`Authorization: Bearer dd_…`, made under Settings, Account); its scopes are `read`, `write` and `publish`. Errors are
problem details (RFC 9457) with a stable `code`, a `detail` in plain words and often a `remedy`. What takes longer than
a moment answers 202 with a `taskId`; follow it under `/api/tasks/{id}`."""

#: The groups, in the order the page shows them.
TAGS = {
    "Characters": "Who the characters are: personality, look, accounts. Keys of accounts are write-only.",
    "Models and images": "What can be drawn with, and drawing.",
    "Gallery": "Pictures with their recipes, and collections of them.",
    "Prompts": "The prompt library and its word lists.",
    "Captions": "Texts for pictures: by Gemini, by a local model, or composed offline.",
    "Posts": "Write, check, plan, approve and settle posts. Each goes out once.",
    "Publishing": "Post one picture now and wait for the outcome; the outbox of dry runs.",
    "Platforms": "Instagram and X as data, every account's health, and what mends it.",
    "Calendar": "Posts and the coming occurrences of rules together.",
    "Scheduler": "Rules, what comes next, what ran, and the stop switch.",
    "LoRA training": "Start, watch and end training runs; the pictures they are trained with.",
    "LoRAs": "The LoRAs on the shelf.",
    "Datasets": "Sets of pictures: captions, statistics, versions, exports, batch work.",
    "Dataset import": "How pictures come into a dataset, and whether all of them are still there.",
    "Uploads": "Large files in pieces that may be interrupted.",
    "Background tasks": "Long work, whatever it is.",
    "Events": "What happens, as it happens.",
    "Notifications": "What the app has to tell.",
    "Webhooks": "Addresses elsewhere that are told what happens.",
    "Accounts": "Signing in, sessions, API tokens and users.",
    "Model shelf": "Weights on this computer: where they are used, whether they fit, the trash.",
    "Settings": "Every setting with its source.",
    "Storage": "Where the data lies, and making room.",
    "Backups": "The whole app as one file, and back.",
    "Logs": "What the app wrote down.",
    "System": "How the app is doing.",
}

#: Operations that can answer 202 at once instead of waiting (`Prefer: respond-async`).
WAITING = {
    "POST /api/generate-image",
    "POST /api/post-to-instagram",
    "POST /api/post-to-twitter",
    "POST /api/datasets/{id}/captions",
    "POST /api/datasets/{id}/versions/{number}/restore",
}

PROBLEM: Json = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "error", "requestId"],
    "properties": {
        "type": {"type": "string", "description": "Where the code is explained"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For the person in front of the screen"},
        "code": {"type": "string", "description": "Stable, for programs; see x-errors"},
        "error": {"type": "string", "description": "The same as detail"},
        "remedy": {"type": "string", "description": "What helps"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "retryAfter": {"type": "number", "description": "Seconds"},
        "requestId": {"type": "string", "description": "Under this id it stands in the log"},
        "current": {"description": "With 412: the record as it is now"},
    },
}

SECURITY: Json = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": access.COOKIE,
        "description": f"The pages. POST, PUT, PATCH and DELETE also need the header `{access.CSRF_HEADER}: 1`.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token (`dd_…`) with the scopes read, write or publish. "
        "Tokens cannot administer the app or their own account.",
    },
}

HEADERS: Json = {
    "ETag": {"schema": {"type": "string"}, "description": "Changes with the record; send it back as If-Match"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds until asking again makes sense"},
    "Location": {"schema": {"type": "string"}, "description": "Address of what was made"},
    "RateLimit-Limit": {"schema": {"type": "integer"}, "description": "Requests a minute"},
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "description": "How many are left"},
    "RateLimit-Reset": {"schema": {"type": "integer"}, "description": "Seconds until there is room again"},
}

_PROBLEMS = {
    "400": "The request cannot be read",
    "401": "Nobody is signed in, or the token is not valid",
    "403": "Not allowed",
    "404": "There is no such thing",
    "409": "Not possible in this state, or not set up yet",
    "412": "The record changed since it was read; `current` holds it",
    "413": "Too large",
    "415": "This kind of content is not taken here",
    "422": "Some values are not acceptable; `errors` names them",
    "429": "Too many requests",
    "502": "Another service reported a problem",
    "503": "Not available right now",
    "504": "It took too long",
}


def problems() -> Json:
    """Return one response component per status of a problem."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    made: Json = {}
    for status, text in _PROBLEMS.items():
        made[f"Problem{status}"] = {"description": text, "content": content}
        names = {"429": ("Retry-After", "RateLimit-Limit", "RateLimit-Reset"), "503": ("Retry-After",)}.get(status, ())
        if names:
            made[f"Problem{status}"]["headers"] = {n: {"$ref": f"#/components/headers/{n}"} for n in names}
    return made


def problem_statuses(method: str, *, public: bool, input: bool, body: bool, tagged: bool, limited: bool) -> list[str]:
    """Return the statuses of problems that an operation can answer."""
    found = ["403", "503"]
    if not public or body:
        found.append("401")
    if input:
        found += ["404", "422"]
    if body:
        found += ["400", "413", "415"]
    if method != "GET":
        found += ["400", "404", "409", "413", "415", "502", "504"]
    if tagged:
        found.append("412")
    if limited:
        found.append("429")
    return sorted(set(found))


def security(right: str) -> list[Json]:
    """Return what has to be sent for a right: nothing, a session, or also a token with its scope."""
    if right == access.PUBLIC:
        return []
    session: Json = {"session": []}
    return [session, {"token": [right]}] if right in ("read", "write", "publish") else [session]


def header_parameters(*, keyed: bool, changes: bool, reads: bool, waits: bool) -> list[Json]:
    """Return the headers an operation understands."""
    found: list[Json] = []

    def add(name: str, text: str, schema: Json) -> None:
        found.append({"name": name, "in": "header", "required": False, "description": text, "schema": schema})

    if keyed:
        text = "The same key answers the first answer for 24 hours instead of doing it again"
        add("Idempotency-Key", text, {"type": "string", "minLength": 1, "maxLength": 200})
    if changes:
        add("If-Match", "ETag the change is based on; another one now: 412", {"type": "string"})
    if reads:
        add("If-None-Match", "ETag of what the caller has; the same now: 304", {"type": "string"})
    if waits:
        add("Prefer", "respond-async: answer 202 at once", {"type": "string", "enum": ["respond-async"]})
    return found


# ---------------------------------------------------------------- answers


def response(status: str, answer: Any, *, tagged: bool = False) -> Json:
    """Return the response object of a good answer.

    `answer` is a shape (see `shape`), or the content type of bytes or text as `=image/png`.
    """
    words = {"201": "Made", "202": "Taken on", "207": "Some of it was done", "503": "Not ready"}
    made: Json = {"description": words.get(status, "As asked")}
    headers = {"201": ["Location"], "202": ["Location", "Retry-After"], "200": ["ETag"] if tagged else []}.get(
        status, []
    )
    if headers:
        made["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if isinstance(answer, str) and answer.startswith("="):
        made["content"] = {
            kind: {"schema": {"type": "string"} if kind.startswith("text/") else {}} for kind in answer[1:].split("|")
        }
    else:
        made["content"] = {"application/json": {"schema": shape(answer)}}
    return made


_SCALARS: dict[str, Json] = {
    "text": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "object": {"type": "object"},
    "any": {},
}


def shape(value: Any) -> Json:
    """Turn the notation of `openapi_shapes.json` into a JSON schema.

    "text", "time", "int", "number", "bool", "object", "any", or the name of another shape; "…?" may be null, "a|b" is
    either. ["…"] is a list. {"name": …} is an object whose named fields are always there, {"name?": …} one that may be
    missing, {"*": …} the values of any further names. An object may always have more fields than are named.
    """
    if isinstance(value, list):
        return {"type": "array", "items": shape(value[0])}
    if isinstance(value, dict):
        made: Json = {"type": "object"}
        named = {key.removesuffix("?"): shape(one) for key, one in value.items() if key != "*"}
        required = [key for key in value if key != "*" and not key.endswith("?")]
        if named:
            made["properties"] = named
        if required:
            made["required"] = required
        if "*" in value:
            made["additionalProperties"] = shape(value["*"])
        return made
    alternatives = [_named(name) for name in value.removesuffix("?").split("|")]
    if value.endswith("?"):
        if len(alternatives) == 1 and isinstance(alternatives[0].get("type"), str):
            return {**alternatives[0], "type": [alternatives[0]["type"], "null"]}
        alternatives.append({"type": "null"})
    return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}


def _named(name: str) -> Json:
    if name.startswith("["):
        return {"type": "array", "items": _named(name[1:-1])}
    return dict(_SCALARS[name]) if name in _SCALARS else {"$ref": f"#/components/schemas/{name}"}
