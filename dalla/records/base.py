"""The two kinds of pydantic model everything else derives from, and the one camelCase mapping.

snake_case in Python, camelCase in JSON (HTTP and files). Nobody types a camelCase key by hand
outside tests: `record.to_json()` and `Model.model_validate(json)` are the two doors.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Record(BaseModel):
    """Something we keep. Immutable; change it with `record.with_(name="…")`.

    Keys we do not know survive a round trip (`extra="allow"`): the files belong to the user.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        frozen=True,
        protected_namespaces=(),
        defer_build=True,
    )

    def with_(self, **changes: Any) -> Self:
        """Return a validated copy with the given fields (snake_case) changed."""
        known = type(self).model_fields
        values = {name: getattr(self, name) for name in self.model_fields_set if name in known}
        # Extras come from `model_extra`: getattr would answer a method for an unknown key named "copy" or "json".
        return type(self).model_validate({**(self.model_extra or {}), **values, **changes})

    def to_json(self, **options: Any) -> dict[str, Any]:
        """Return a JSON-ready dict with camelCase keys."""
        return self.model_dump(by_alias=True, mode="json", **options)


class RequestBody(BaseModel):
    """Something a client sends. Unknown keys are refused with their name (422)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", protected_namespaces=(), defer_build=True
    )

    def sent(self) -> dict[str, Any]:
        """Return only the fields the client sent, snake_case: what a partial update changes."""
        return {name: getattr(self, name) for name in self.model_fields_set}
