"""Weights that come onto the shelf: an upload whose header was read first, and pickles converted to .safetensors."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import Any, Protocol

from dalla import weights
from dalla.errors import Conflict, DallaError, InvalidInput, NotConfigured, NotFound, StorageError
from dalla.events import EventBus
from dalla.jobs.base import Context, JobQueue
from dalla.paths import fsync_folder, remove_stale_temps, safe_name
from dalla.records.job import Job
from dalla.records.lora import LoraCard
from dalla.services.lora_shelf import LoraShelf
from dalla.services.model_inventory import KINDS, Inventory
from dalla.services.uploads import Uploads
from dalla.settings import Settings

logger = logging.getLogger(__name__)

PIECE = 4 << 20
#: Where each kind belongs below models/; LoRAs go to loras/.
FOLDERS = {"model": "", "vae": "vae", "text_encoder": "text_encoders", "upscaler": "upscale"}
CONVERTIBLE = (".ckpt", ".pt", ".pth")


class Converter(Protocol):
    """Turns a pickle into .safetensors in a process of its own (engines/weights_converter.py)."""

    def convert(self, source: Path, target: Path, report: Any) -> dict[str, Any]:
        """Write `target`; return {tensors, bytes, skipped}. Raises InvalidInput (refused, named), StorageError,
        UpstreamError (out of memory, killed), Cancelled."""


class ModelFiles:
    """Adds files and converts them; both are jobs."""

    ADD = "add_weights"
    CONVERT = "convert_weights"

    def __init__(
        self,
        settings: Settings,
        inventory: Inventory,
        loras: LoraShelf,
        uploads: Uploads,
        converter: Converter,
        jobs: JobQueue,
        events: EventBus,
    ) -> None:
        self._settings = settings
        self._inventory = inventory
        self._loras = loras
        self._uploads = uploads
        self._converter = converter
        self._jobs = jobs
        self._events = events
        jobs.register(self.ADD, self.run_add, lane="cpu", restartable=True)
        jobs.register(self.CONVERT, self.run_convert, lane="cpu", restartable=True)

    # ------------------------------------------------------------ adding

    def add(self, upload_id: str) -> Job:
        """Check an upload's header and queue its move onto the shelf.

        Raises NotFound, Conflict (not complete, name taken), InvalidInput (no .safetensors, or nothing we know).
        """
        name, path = self._upload(upload_id)
        kind, target = self._target(name, path)
        self._uploads.touch([upload_id])
        return self._jobs.submit(
            self.ADD, {"upload_id": upload_id, "kind": kind, "target": target.name}, title=f"Add {name} to the shelf"
        )

    def run_add(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """The handler of the job. A second run after a stop finds the file at its place."""
        upload_id = payload["upload_id"]
        if done := self._uploads.outcome(context.job.id):
            return done
        name, path = self._upload(upload_id)
        again = context.job.attempt > 1
        kind, target = self._target(name, path, again=again)
        if again and target.is_file():
            result = {"kind": kind, "name": self._name(kind, target)}
        elif kind == "lora":
            family = weights.lora_family(weights.read_header(path, name=name))
            final = self._loras.add_copy(path, target.stem, LoraCard(family=family))
            result = {"kind": kind, "name": final}
        else:
            self._move(path, target, context)
            result = {"kind": kind, "name": target.relative_to(Path(self._settings.models_dir)).as_posix()}
        self._uploads.keep_outcome(context.job.id, result)
        self._uploads.discard([upload_id])
        self._events.publish("shelf.updated", {"ids": []})
        return result

    def _name(self, kind: str, target: Path) -> str:
        """What the shelf calls a file at this place."""
        return target.stem if kind == "lora" else target.relative_to(Path(self._settings.models_dir)).as_posix()

    def _upload(self, id: str) -> tuple[str, Path]:
        [(name, path)] = self._uploads.files([id])
        return name.replace("\\", "/").rsplit("/", 1)[-1], path

    def _target(self, name: str, path: Path, *, again: bool = False) -> tuple[str, Path]:
        """Return (kind, where it belongs), from the header alone. `again`: an earlier attempt may have put it there."""
        if not name.lower().endswith(".safetensors"):
            ending = Path(name).suffix or "no ending"
            raise InvalidInput.field(
                "uploadId",
                f"'{name}' is no .safetensors file ({ending}).",
                remedy="Send the .safetensors version. A pickle put into models/ by hand can be converted there.",
            )
        safe_name(name, "uploadId")
        header = weights.read_header(path, name=name)
        kind = kind_of(header)
        if kind is None:
            raise InvalidInput.field(
                "uploadId",
                f"'{name}' is neither a model, a LoRA, a VAE, a text encoder nor an upscaler that the app knows.",
                remedy="If it is one, put it into the right folder below models/ by hand (see models/README.md).",
            )
        if kind == "lora":
            target = Path(self._settings.loras_dir) / name
            if self._loras.exists(target.stem) and not again:
                raise Conflict(f"There is a LoRA called '{target.stem}' already.", remedy="Rename the file and send it again.")  # fmt: skip
            return kind, target
        target = Path(self._settings.models_dir) / FOLDERS[kind] / name
        if target.exists() and not again:
            raise Conflict(f"There is a '{name}' already.", remedy="Rename the file, or remove the old one first.")
        return kind, target

    def _move(self, source: Path, target: Path, context: Context) -> None:
        """Put a file in place, whole or not at all: a link on the same disk, else a copy with progress."""
        temp = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_temps(target.parent)
            try:
                os.link(source, temp)
            except OSError:
                self._copy(source, temp, context)
            os.replace(temp, target)
            fsync_folder(target.parent)
        except OSError as exc:
            raise StorageError.from_os(exc, "the weights") from exc
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)

    @staticmethod
    def _copy(source: Path, temp: Path, context: Context) -> None:
        total, done = source.stat().st_size, 0
        with open(source, "rb") as old, open(temp, "xb") as new:
            while piece := old.read(PIECE):
                new.write(piece)
                done += len(piece)
                context.progress(done, total, "Copying")
            new.flush()
            os.fsync(new.fileno())

    # ------------------------------------------------------------ converting

    def convert(self, id: str) -> Job:
        """Queue the conversion of a .ckpt, .pt or .pth; the pickle stays.

        Raises NotFound, NotConfigured (the setting pickleWeights is off), InvalidInput, Conflict.
        """
        source = self._convertible(id)
        return self._jobs.submit(self.CONVERT, {"id": id}, title=f"Convert {source.name}")

    def _convertible(self, id: str, *, again: bool = False) -> Path:
        entry = self._inventory.find(id)
        if entry is None:
            raise NotFound.of("item on the shelf", id)
        if not self._settings.pickle_weights:
            raise NotConfigured(
                "Converting pickled weights is switched off.",
                remedy="If you trust where the file is from, switch on “Convert pickled weights” under Settings,"
                " Models and weights (DALLA_PICKLE_WEIGHTS).",
            )
        if entry.path is None or entry.source != "local" or entry.path.suffix.lower() not in CONVERTIBLE:
            raise InvalidInput.field("id", f"'{entry.name}' is no .ckpt, .pt or .pth file in models/ or loras/.")
        target = entry.path.with_suffix(".safetensors")
        if target.exists() and not (again and _made_of(target, entry.path)):
            raise Conflict(f"There is a '{target.name}' beside it already.", remedy="Remove or rename it first.")
        return entry.path

    def run_convert(self, context: Context, payload: dict[str, Any]) -> dict[str, Any]:
        """The handler of the job."""
        again = context.job.attempt > 1
        source = self._convertible(payload["id"], again=again)
        target = source.with_suffix(".safetensors")
        if again and target.exists():  # an earlier attempt had finished it
            header = weights.read_header(target)
            return {
                "name": target.name,
                "kind": kind_of(header),
                "sizeBytes": target.stat().st_size,
                "tensors": len(header),
            }
        temp = target.with_name(f".{secrets.token_hex(8)}.tmp")
        remove_stale_temps(target.parent)
        try:
            context.progress(0, 1, f"Converting {source.name}")
            facts = self._converter.convert(source, temp, context)
            header = weights.read_header(temp, name=target.name)
            try:
                os.link(temp, target)  # never over a file that came meanwhile
            except FileExistsError as exc:
                raise Conflict(f"There is a '{target.name}' meanwhile.", remedy="Remove or rename it first.") from exc
            except OSError:
                os.replace(temp, target)
            fsync_folder(target.parent)
        except OSError as exc:
            raise StorageError.from_os(exc, "the converted weights") from exc
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
        self._events.publish("shelf.updated", {"ids": [payload["id"]]})
        return {"name": target.name, "kind": kind_of(header), "sizeBytes": target.stat().st_size, **facts}


def _made_of(target: Path, source: Path) -> bool:
    """Whether a .safetensors file says that it was converted from this pickle."""
    try:
        return weights.read_header(target).metadata.get("dalla.converted_from") == source.name
    except DallaError:
        return False


def kind_of(header: weights.Header) -> str | None:
    """Return model, lora, vae, text_encoder or upscaler; None for anything else."""
    if weights.lora_format(header) is not None:
        return "lora"
    found = weights.checkpoint_kind(header)
    if found in ("checkpoint", "diffusion_model"):
        return "model"
    if found in ("vae", "text_encoder"):
        return found
    keys = set(header)
    if any(k.endswith(("body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight", "1.sub.0.RDB1.conv1.0.weight")) for k in keys):  # fmt: skip
        return "upscaler"
    return None


def check_kind(kind: str) -> str:
    """Raises InvalidInput for a kind the shelf does not know."""
    if kind not in KINDS:
        raise InvalidInput.field("kind", f"Use one of {', '.join(KINDS)}.")
    return kind
