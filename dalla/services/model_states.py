"""The state of a character's models: how it is read off the shelf, how two states differ, and that in words."""

from __future__ import annotations

import contextlib
from typing import Any

from dalla.errors import DallaError
from dalla.records.character import Character
from dalla.records.shelf import ChangeKind, FileFacts, ModelChange, ModelState, UsedWeights
from dalla.services.model_hashes import ModelHashes, autov2
from dalla.services.model_inventory import Entry, Inventory
from dalla.services.model_usage import key
from dalla.stores.base import ShelfStore


class Look:
    """The shelf as it is at one moment. Without `ask`, a server is not asked: its files are then unknown."""

    def __init__(self, inventory: Inventory, hashes: ModelHashes, store: ShelfStore, *, ask: bool = True) -> None:
        self._hashes = hashes
        self.facts: dict[str, FileFacts] = store.facts()
        entries = inventory.local()
        server: list[Entry] = []
        if ask:
            with contextlib.suppress(DallaError):
                server = inventory.comfyui()
        self._server = bool(server)
        self._entries = [*entries, *server]
        self._table: dict[tuple[str, str], Entry] = {}
        for entry in self._entries:
            self._table.setdefault((entry.kind, key(entry.name)), entry)

    def find(self, kind: str, name: str) -> Entry | None:
        return self._table.get((kind, key(name)))

    def by_hash(self, kind: str, sha256: str) -> Entry | None:
        return next((e for e in self._entries if e.kind == kind and self._hashes.known(e, self.facts) == sha256), None)

    def complete(self, used: UsedWeights) -> bool:
        """Whether "not found" means that it is gone: a server's file is only missing when the server answers."""
        return used.source == "local" or self._server

    def entries(self, character: Character) -> list[Entry]:
        names = [("model", character.preferred_model or ""), *(("lora", use.name) for use in character.loras)]
        return [entry for kind, name in names if (entry := self.find(kind, name)) is not None]

    def state(self, character: Character) -> ModelState:
        return ModelState(
            model=self._used("model", character.preferred_model) if character.preferred_model else None,
            loras=[self._used("lora", use.name, use.strength) for use in character.loras],
            trigger_word=character.trigger_word or None,
        )

    def _used(self, kind: str, name: str, strength: float | None = None) -> UsedWeights:
        entry = self.find(kind, name)
        if entry is None:
            return UsedWeights(name=name, strength=strength)
        return UsedWeights(
            name=name,
            strength=strength,
            source=entry.source,
            size_bytes=entry.size_bytes,
            stamp=entry.stamp or None,
            sha256=self._hashes.known(entry, self.facts),
        )


def carry(before: ModelState, after: ModelState) -> ModelState:
    """Keep what was known of a file that cannot be seen right now, and a hash as long as the stamp is the same."""

    def one(old: UsedWeights | None, new: UsedWeights | None) -> UsedWeights | None:
        if old is None or new is None or key(old.name) != key(new.name):
            return new
        if new.source is None:  # gone, or the server is off
            return old.with_(strength=new.strength)
        return new.with_(sha256=old.sha256) if new.sha256 is None and new.stamp == old.stamp else new

    table = {key(used.name): used for used in before.loras}
    loras = [one(table.get(key(used.name)), used) or used for used in after.loras]
    return ModelState(model=one(before.model, after.model), loras=loras, trigger_word=after.trigger_word)


def differences(before: ModelState, after: ModelState) -> list[ChangeKind]:
    """Return what is different: model, loras, strength, trigger, weights (another file behind the same name)."""
    kinds: list[ChangeKind] = []
    if _name(before.model) != _name(after.model):
        kinds.append("model")
    old, new = {key(u.name): u for u in before.loras}, {key(u.name): u for u in after.loras}
    if old.keys() != new.keys():
        kinds.append("loras")
    if any(old[name].strength != new[name].strength for name in old.keys() & new.keys()):
        kinds.append("strength")
    if (before.trigger_word or None) != (after.trigger_word or None):
        kinds.append("trigger")
    pairs = [(old[name], new[name]) for name in old.keys() & new.keys()]
    if before.model and after.model and _name(before.model) == _name(after.model):
        pairs.append((before.model, after.model))
    if any(other_weights(a, b) for a, b in pairs):
        kinds.append("weights")
    return kinds


def other_weights(before: UsedWeights, after: UsedWeights) -> bool:
    if not before.stamp or not after.stamp or before.stamp == after.stamp:
        return False
    if before.sha256 and after.sha256:
        return before.sha256 != after.sha256
    return before.size_bytes != after.size_bytes  # the same size may be the same file, copied: only a hash tells


def _name(used: UsedWeights | None) -> str | None:
    return key(used.name) if used else None


def public_state(state: ModelState) -> dict[str, Any]:
    def one(used: UsedWeights) -> dict[str, Any]:
        return {**used.to_json(exclude={"stamp"}), "autoV2": autov2(used.sha256)}

    return {
        "model": one(state.model) if state.model else None,
        "loras": [one(used) for used in state.loras],
        "triggerWord": state.trigger_word,
    }


def sentence(change: ModelChange) -> str:
    """Say a change in words."""
    before, after = change.before, change.after
    parts: list[str] = []
    old = {key(u.name): u for u in before.loras} if before else {}
    new = {key(u.name): u for u in after.loras}
    for kind in change.kinds:
        match kind:
            case "start":
                names = [u.name for u in (after.model, *after.loras) if u]
                parts.append(f"First seen with {', '.join(names)}" if names else "First seen")
            case "pin":
                parts.append("Pinned")
            case "unpin":
                parts.append("Pin taken off")
            case "model":
                was, now = (before.model.name if before and before.model else "default"), (after.model.name if after.model else "default")  # fmt: skip
                parts.append(f"Model {was} → {now}")
            case "loras":
                parts += [f"LoRA {new[n].name} added ({new[n].strength:g})" for n in new.keys() - old.keys()]
                parts += [f"LoRA {old[n].name} taken off" for n in old.keys() - new.keys()]
            case "strength":
                parts += [
                    f"{new[n].name} {old[n].strength:g} → {new[n].strength:g}"
                    for n in new
                    if n in old and old[n].strength != new[n].strength
                ]
            case "trigger":
                was = (before.trigger_word if before else None) or "none"
                parts.append(f"Trigger word {was} → {after.trigger_word or 'none'}")
            case "weights":
                pairs = [(old[n], new[n]) for n in new if n in old]
                if before and before.model and after.model and _name(before.model) == _name(after.model):
                    pairs.append((before.model, after.model))
                parts += [f"Other weights behind {b.name}" for a, b in pairs if other_weights(a, b)]
    return " · ".join(parts)
