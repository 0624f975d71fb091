"""What is known about models: hashes, licences, what characters are pinned to."""

from __future__ import annotations

from typing import Any, Protocol

from dalla.records.shelf import FileFacts, ModelChange, ModelPin, Peak


class ShelfStore(Protocol):
    """What is remembered about weights: facts of files, what characters are pinned to, changes, measured memory."""

    def facts(self) -> dict[str, FileFacts]:
        """All, by id."""

    def save_facts(self, id: str, **values: Any) -> FileFacts:
        """Set some of stamp, sha256, license, notes; the others stay."""

    def pins(self) -> dict[str, ModelPin]:
        """All, by character."""

    def pin(self, character_id: str) -> ModelPin | None: ...

    def save_pin(self, pin: ModelPin) -> ModelPin:
        """Keep it instead of the character's pin before."""

    def delete_pin(self, character_id: str) -> bool:
        """Return whether there was one."""

    def add_change(self, change: ModelChange) -> ModelChange: ...

    def change(self, id: str) -> ModelChange:
        """Raises NotFound."""

    def last_change(self, character_id: str) -> ModelChange | None: ...

    def set_after(self, id: str, after: dict[str, Any]) -> None:
        """Complete the state of a change with a hash that was computed later."""

    def changes(
        self, character_id: str, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[ModelChange], str | None]:
        """Return (newest first, cursor of the next page or None). Raises InvalidInput: bad cursor or limit."""

    def last_used(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return when the newest picture was drawn: ({model: time}, {LoRA: time}), names as the recipes have them."""

    def peaks(self, model: str | None = None) -> list[Peak]:
        """Oldest first."""

    def save_peak(self, peak: Peak) -> None:
        """Keep the larger of this and what the same weights needed before at this size."""
