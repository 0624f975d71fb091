"""The stop switch: nothing is published, for everybody or for one character, until a person says so."""

from __future__ import annotations

from typing import Any

from dalla.events import EventBus
from dalla.stores.base import LeaseStore
from dalla.times import now_iso

_SWITCH = "paused"


class Pauses:
    """One switch in the database, so that every process obeys it at once."""

    def __init__(self, leases: LeaseStore, events: EventBus) -> None:
        self._leases = leases
        self._events = events

    def all(self) -> dict[str, Any]:
        """Return {"all": {"reason", "since"} | None, "characters": {id: {"reason", "since"}}}."""
        value = self._leases.switch(_SWITCH) or {}
        return {"all": value.get("all"), "characters": value.get("characters") or {}}

    def of(self, character_id: str) -> dict[str, Any] | None:
        """Return what stops this character: its own switch or the one for everything."""
        value = self.all()
        return value["all"] or value["characters"].get(character_id)

    def pause(self, reason: str, character_id: str | None = None) -> dict[str, Any]:
        """Stop; a second time only the reason changes."""
        entry = {"reason": reason.strip()[:500], "since": now_iso()}

        def change(value: Any) -> dict[str, Any]:
            value = value or {}
            if character_id is None:
                since = (value.get("all") or entry)["since"]
                return {**value, "all": {**entry, "since": since}}
            return {**value, "characters": {**(value.get("characters") or {}), character_id: entry}}

        return self._changed(change)

    def resume(self, character_id: str | None = None) -> dict[str, Any]:
        """Let it go on. Without a character only the switch for everything is lifted."""

        def change(value: Any) -> dict[str, Any]:
            value = value or {}
            if character_id is None:
                return {**value, "all": None}
            others = {k: v for k, v in (value.get("characters") or {}).items() if k != character_id}
            return {**value, "characters": others}

        return self._changed(change)

    def _changed(self, change: Any) -> dict[str, Any]:
        self._leases.change_switch(_SWITCH, now_iso(), change)
        self._events.publish("schedule.updated", {"paused": True})
        return self.all()
