"""Which weights a character is held to (its pin), and the log of every change of its models.

A state holds names with the hashes and stamps of that moment, so a file that was replaced under its old name shows.
The log compares what is with what was last logged: it also sees edits of characters.json by hand.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from dalla.errors import Conflict, DallaError, NotFound
from dalla.ids import new_id
from dalla.records.character import Character, LoraUse
from dalla.records.shelf import ModelChange, ModelPin, ModelState, UsedWeights
from dalla.services.characters import Characters
from dalla.services.model_hashes import ModelHashes, autov2
from dalla.services.model_inventory import Entry, Inventory
from dalla.services.model_states import Look, carry, differences, public_state, sentence
from dalla.services.model_usage import key
from dalla.stores.base import ShelfStore

logger = logging.getLogger(__name__)

SAME, CHANGED, MISSING, UNKNOWN = "same", "changed", "missing", "unknown"
_NOTES = {
    SAME: None,
    CHANGED: "The file behind this name is another one than when it was pinned.",
    MISSING: "The file is not there any more.",
    UNKNOWN: "Whether it is still the same is not known: hash it, or start the ComfyUI server.",
}


class ModelVersions:
    """Pins and change logs of all characters."""

    def __init__(self, characters: Characters, inventory: Inventory, hashes: ModelHashes, store: ShelfStore) -> None:
        self._characters = characters
        self._inventory = inventory
        self._hashes = hashes
        self._store = store
        self._lock = threading.RLock()
        #: Answers the name of the person who acts in this thread; None: the app itself. Set by the web.
        self.who: Callable[[], str | None] = lambda: None
        hashes.listeners.append(self.look)

    # ------------------------------------------------------------ reading

    def of(self, character_id: str) -> dict[str, Any]:
        """Return {current, pin, state, rows, warnings}: what is set now, and how that compares with the pin.

        Raises NotFound.
        """
        character = self._characters.get(character_id)
        look = self._look()
        self._log(character, look)
        pin = self._store.pin(character_id)
        current = look.state(character)
        rows = self._compare(character, pin, look) if pin else []
        states = {row["state"] for row in rows}
        overall = next((s for s in (MISSING, CHANGED, UNKNOWN) if s in states), SAME) if pin else None
        return {
            "current": public_state(current),
            "pin": {**public_state(pin.state), "at": pin.at, "by": pin.actor} if pin else None,
            "state": overall,
            "rows": rows,
            "warnings": self._warnings(character, current, rows, look),
        }

    def warnings(self, character_id: str | None, model: str | None = None) -> list[str]:
        """Return what should be known before a picture of a character is drawn; never raises.

        `model` is what it will be drawn with, when somebody chose another than the character's.
        """
        if not character_id:
            return []
        try:
            character = self._characters.get(character_id)
            pin = self._store.pin(character_id)
            if pin is None:
                return []
            look = self._look()
            rows = self._compare(character, pin, look)
            if model and pin.state.model and key(model) != key(pin.state.model.name):
                rows = [row for row in rows if row["kind"] != "model"]
                return [f"{character.name} is pinned to the model '{pin.state.model.name}'; this uses '{model}'.",
                        *self._pin_warnings(character, rows)]  # fmt: skip
            return self._pin_warnings(character, rows)
        except DallaError as exc:
            logger.info("no warnings on the models of %s: %s", character_id, exc.detail)
            return []

    def log(self, character_id: str, *, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        """Return {items, nextCursor}, newest first. Raises NotFound, InvalidInput (cursor, limit)."""
        self._log(self._characters.get(character_id), self._look())
        items, after = self._store.changes(character_id, limit=limit, cursor=cursor)
        return {
            "items": [
                {
                    "id": item.id,
                    "at": item.at,
                    "kinds": item.kinds,
                    "by": item.by,
                    "actor": item.actor,
                    "before": public_state(item.before) if item.before else None,
                    "after": public_state(item.after),
                    "text": sentence(item),
                    "note": item.note,
                }
                for item in items
            ],
            "nextCursor": after,
        }

    # ------------------------------------------------------------ pinning

    def pin(self, character_id: str) -> dict[str, Any]:
        """Hold the character to what it uses now; hashes that are not known yet are computed in the background.

        Return {pin, taskId | null}. Raises NotFound, Conflict (neither a model nor a LoRA is set).
        """
        character = self._characters.get(character_id)
        look = self._look()
        self._log(character, look)
        state = look.state(character)
        if state.model is None and not state.loras:
            raise Conflict(
                f"{character.name} has neither a model nor a LoRA to pin.",
                remedy="Choose a preferred model or add a LoRA on the tab Looks first.",
            )
        who = self.who()
        with self._lock:
            self._store.save_pin(ModelPin(character_id=character_id, state=state, actor=who or ""))
            self._add(character_id, ["pin"], state, state, who)
        waiting = [e.id for e in look.entries(character) if e.path and not self._hashes.known(e, look.facts)]
        job = self._hashes.start(waiting) if waiting else None
        return {**self.of(character_id), "taskId": job.id if job else None}

    def unpin(self, character_id: str) -> bool:
        """Forget the pin; return whether there was one. Raises NotFound."""
        character = self._characters.get(character_id)
        with self._lock:
            pin = self._store.pin(character_id)
            gone = self._store.delete_pin(character_id)
            if gone and pin:
                self._add(character_id, ["unpin"], pin.state, self._look().state(character), self.who())
        return gone

    def use(self, character_id: str, change_id: str | None = None) -> dict[str, Any]:
        """Set model, LoRAs, strengths and trigger word as they were after a change (None: as pinned).

        Weights that lie under another name by now are found by their hash. Return {notes, …of()}. Raises NotFound,
        Conflict when something of it is not there any more.
        """
        self._characters.get(character_id)
        if change_id is None:
            pin = self._store.pin(character_id)
            if pin is None:
                raise NotFound("This character is not pinned.")
            state = pin.state
        else:
            change = self._store.change(change_id)
            if change.character_id != character_id:
                raise NotFound.of("model change", change_id)
            state = change.after
        look = self._look()
        notes: list[str] = []
        missing: list[str] = []

        def name_of(kind: str, used: UsedWeights) -> str:
            entry = look.find(kind, used.name)
            if used.sha256:
                same = entry is not None and self._state(used, entry, look) == SAME
                other = None if same else look.by_hash(kind, used.sha256)
                if other is not None:
                    notes.append(f"'{used.name}' of then is called '{other.name}' now.")
                    return other.name
            if entry is None and look.complete(used):
                missing.append(used.name)
            elif entry is not None and self._state(used, entry, look) == CHANGED:
                notes.append(f"'{used.name}' has other weights than then.")
            return used.name

        model = name_of("model", state.model) if state.model else None
        loras = [LoraUse(name=name_of("lora", used), strength=used.strength or 0.0) for used in state.loras]
        if missing:
            raise Conflict(
                f"Not there any more: {', '.join(missing)}.",
                remedy="Bring it back from the trash of the shelf, or put the file back.",
            )
        self._characters.update(
            character_id, {"preferred_model": model, "loras": loras, "trigger_word": state.trigger_word}
        )
        return {"notes": notes, **self.of(character_id)}

    def _look(self, *, ask: bool = True) -> Look:
        return Look(self._inventory, self._hashes, self._store, ask=ask)

    # ------------------------------------------------------------ logging

    def changed(self, character: Character) -> None:
        """Told by the characters after each change of one. Never raises."""
        try:
            self._log(character, self._look(ask=False), person=True)
        except DallaError as exc:
            logger.warning("The models of %s could not be logged: %s", character.id, exc.detail)

    def look(self) -> None:
        """Compare every character with what was logged last, and complete pins by hashes that are known now."""
        look = self._look()
        for character in self._characters.all():
            self._log(character, look)

    def forget(self, character_ids: set[str]) -> None:
        """Drop the pins of characters that are gone for good."""
        for id in character_ids:
            self._store.delete_pin(id)

    def _log(self, character: Character, look: Look, *, person: bool = False) -> None:
        with self._lock:
            after = look.state(character)
            last = self._store.last_change(character.id)
            who = self.who() if person else None
            by_person = person and who is not None
            if last is None:
                if after.model or after.loras or after.trigger_word:
                    self._add(character.id, ["start"], None, after, who if by_person else None)
            else:
                before = last.after
                after = carry(before, after)
                kinds = differences(before, after)
                if kinds:
                    self._add(character.id, kinds, before, after, who if by_person else None)
                elif before != after:  # a hash became known, or a server came or went
                    self._store.set_after(last.id, after.to_json())
            self._complete_pin(character.id, look)

    def _complete_pin(self, character_id: str, look: Look) -> None:
        pin = self._store.pin(character_id)
        if pin is None:
            return

        def whole(kind: str, used: UsedWeights) -> UsedWeights:
            entry = None if used.sha256 else look.find(kind, used.name)
            if entry is None or entry.stamp != used.stamp:
                return used
            return used.with_(sha256=self._hashes.known(entry, look.facts))

        state = pin.state
        full = ModelState(
            model=whole("model", state.model) if state.model else None,
            loras=[whole("lora", used) for used in state.loras],
            trigger_word=state.trigger_word,
        )
        if full != state:
            self._store.save_pin(pin.with_(state=full))

    def _add(
        self, character_id: str, kinds: list[Any], before: ModelState | None, after: ModelState, who: str | None
    ) -> None:
        self._store.add_change(
            ModelChange(
                id=new_id("change"),
                character_id=character_id,
                kinds=kinds,
                by="system" if who is None else "person",
                actor=who or "",
                before=before,
                after=after,
            )
        )

    # ------------------------------------------------------------ comparing

    def _compare(self, character: Character, pin: ModelPin, look: Look) -> list[dict[str, Any]]:
        """One row per pinned file, then what is used beside the pin."""
        rows: list[dict[str, Any]] = []
        now = {key(use.name): use for use in character.loras}
        pinned = [("model", pin.state.model)] if pin.state.model else []
        pinned += [("lora", used) for used in pin.state.loras]
        for kind, used in pinned:
            assert used is not None
            entry = look.find(kind, used.name)
            state = self._state(used, entry, look)
            row = {
                "kind": kind,
                "name": used.name,
                "state": state,
                "note": _NOTES[state],
                "sha256": used.sha256,
                "autoV2": autov2(used.sha256),
                "sha256Now": self._hashes.known(entry, look.facts) if entry else None,
                "strength": used.strength,
                "shelfId": entry.id if entry else None,
                "used": kind == "model" and key(character.preferred_model or "") == key(used.name),
            }
            if kind == "lora":
                use = now.pop(key(used.name), None)
                row["used"] = use is not None
                row["strengthNow"] = use.strength if use else None
            rows.append(row)
        return rows

    def _state(self, used: UsedWeights, entry: Entry | None, look: Look) -> str:
        if entry is None:
            return MISSING if look.complete(used) else UNKNOWN
        if not used.stamp and not used.sha256:
            return SAME if entry.path is None else UNKNOWN  # only its name was known then
        if used.stamp and used.stamp == entry.stamp:
            return SAME
        known = self._hashes.known(entry, look.facts)
        if used.sha256 and known:
            return SAME if known == used.sha256 else CHANGED
        if used.size_bytes is not None and entry.size_bytes is not None and used.size_bytes != entry.size_bytes:
            return CHANGED
        return UNKNOWN

    def _warnings(self, character: Character, current: ModelState, rows: list[dict[str, Any]], look: Look) -> list[str]:
        found = self._pin_warnings(character, rows)
        for kind, used in [("model", current.model), *(("lora", u) for u in current.loras)]:
            if used is not None and look.find(kind, used.name) is None and look.complete(used):
                text = f"The {'model' if kind == 'model' else 'LoRA'} '{used.name}' is not there."
                if not any(used.name in one for one in found):
                    found.append(text)
        return found

    @staticmethod
    def _pin_warnings(character: Character, rows: list[dict[str, Any]]) -> list[str]:
        found = []
        for row in rows:
            what = "model" if row["kind"] == "model" else "LoRA"
            if row["state"] == CHANGED:
                found.append(f"The {what} '{row['name']}' has other weights than those {character.name} is pinned to.")
            elif row["state"] == MISSING:
                found.append(f"The {what} '{row['name']}' that {character.name} is pinned to is not there.")
            elif not row["used"]:
                found.append(f"{character.name} is pinned to the {what} '{row['name']}' and does not use it now.")
            elif row["kind"] == "lora" and row["strengthNow"] != row["strength"]:
                found.append(f"The LoRA '{row['name']}' is pinned at {row['strength']:g} and used at {row['strengthNow']:g}.")  # fmt: skip
        return found
