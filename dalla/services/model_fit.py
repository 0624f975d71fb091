"""Will a model fit into this machine's memory at a size? Measured where the app has drawn with it, else estimated.

Bytes throughout. A batch needs no more than one picture: both engines draw the pictures of a batch one after another.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dalla import weights
from dalla.errors import DallaError
from dalla.records.family import FAMILIES
from dalla.records.shelf import Peak
from dalla.services.model_inventory import Entry, Inventory
from dalla.settings import Settings
from dalla.stores.base import ShelfStore

logger = logging.getLogger(__name__)

GIB = 1 << 30
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
#: Decoding one pixel with the VAE of these families in fp32 (128 channels at full size); measured with ComfyUI and here.
VAE_PER_PIXEL = 4400
#: One forward pass of the denoiser for one pixel of the picture in fp32, with the second pass for guidance.
DENOISER_PER_PIXEL = {"sd15": 2400, "sdxl": 1600, "sd3": 1500, "flux": 1800}
#: Python with torch and diffusers, or the context of a graphics card.
OVERHEAD = {"cpu": int(0.45 * GIB), "cuda": int(0.6 * GIB), "mps": int(0.9 * GIB)}
#: The engine keeps this much of the card free before it lets parts take turns (diffusion/hardware.py).
HEADROOM = int(2.5 * GIB)
#: More than this share of what is free is called tight, and more than this share of all memory too much.
TIGHT, FULL = 0.9, 0.97
_PARTS = ("denoiser", "encoders", "vae")


@dataclass(frozen=True)
class Machine:
    """Where an engine computes, with its memory. None: not known."""

    device: str  # "cpu" | "cuda" | "mps"
    label: str
    total: int | None
    free: int | None  # what the engine may take: free now, and what it holds itself
    ram_total: int | None = None


class ModelFit:
    """Answers for models of the built-in engine and, as far as the server tells its memory, of ComfyUI."""

    def __init__(
        self,
        settings: Settings,
        inventory: Inventory,
        store: ShelfStore,
        machine: Callable[[], dict[str, Any]],
        engines: Any,
    ) -> None:
        """`machine` answers a sample as the monitoring has it: gpuName, gpuMemoryTotal, memoryTotal, …"""
        self._settings = settings
        self._inventory = inventory
        self._store = store
        self._machine = machine
        self._engines = engines
        self._counted: dict[tuple[str, str], dict[str, float]] = {}
        self._vae: dict[tuple[str, str], float] = {}

    # ------------------------------------------------------------ learning

    def learn(self, facts: dict[str, Any]) -> None:
        """Keep what a drawing took: model, stamp, device, precision, width, height, peakBytes, loras. Never raises."""
        try:
            if facts.get("peakBytes"):
                self._store.save_peak(
                    Peak(
                        model=facts["model"],
                        device=facts["device"],
                        precision=facts["precision"],
                        width=facts["width"],
                        height=facts["height"],
                        peak_bytes=int(facts["peakBytes"]),
                        stamp=facts.get("stamp") or "",
                        loras=int(facts.get("loras") or 0),
                        extra={"processBytes": facts.get("processBytes")},
                    )
                )
        except (DallaError, KeyError, TypeError, ValueError) as exc:
            logger.warning("The memory of a drawing could not be kept: %s", exc)

    # ------------------------------------------------------------ answering

    def answer(
        self,
        entry: Entry,
        width: int | None = None,
        height: int | None = None,
        batch: int = 1,
        precision: str | None = None,
        *,
        machine: Machine | None = None,
        peaks: list[Peak] | None = None,
    ) -> dict[str, Any]:
        """Return {fits, needBytes, haveBytes, freeBytes, basis, detail, device, precision, width, height, parts, advice}."""
        side = self._native(entry)
        width, height = width or height or side, height or width or side
        machine = machine or self.machine(entry.source)
        precision = precision or self._precision(entry, machine)
        need, basis, detail, parts = self._need(entry, machine, precision, width, height, peaks)
        answer: dict[str, Any] = {
            "name": entry.name,
            "source": entry.source,
            "width": width,
            "height": height,
            "batch": batch,
            "precision": precision,
            "device": machine.label,
            "needBytes": need,
            "haveBytes": machine.total,
            "freeBytes": machine.free,
            "basis": basis,
            "detail": detail,
            "parts": parts,
        }
        fits, advice = self._verdict(entry, machine, precision, need, parts, (width, height), batch, peaks)
        return {**answer, "fits": fits, "advice": advice}

    def brief(self, entry: Entry, machine: Machine, peaks: list[Peak]) -> dict[str, Any] | None:
        """Return {fits, needBytes, haveBytes, basis, width, height} at the native size; None for what cannot be drawn with."""
        if entry.family not in FAMILIES:
            return None
        answer = self.answer(entry, machine=machine, peaks=peaks)
        return {name: answer[name] for name in ("fits", "needBytes", "haveBytes", "basis", "width", "height")}

    def _need(
        self, entry: Entry, machine: Machine, precision: str, width: int, height: int, peaks: list[Peak] | None
    ) -> tuple[int | None, str, str, dict[str, int]]:
        parts = self.parts(entry, precision, width, height, machine.device)
        rows = [
            p
            for p in (self._store.peaks(entry.name) if peaks is None else peaks)
            if entry.source == "local"
            and p.model == entry.name
            and (p.device, p.precision) == (machine.device, precision)
        ]
        if rows:  # weights that were replaced since may need more or less
            stamp = self._file_stamp(entry)
            rows = [p for p in rows if not p.stamp or p.stamp == stamp]
        exact = [p for p in rows if (p.width, p.height) == (width, height)]
        if exact:
            # A larger picture never needs less; the first of a model also counts its loading.
            need = max(p.peak_bytes for p in rows if p.width * p.height <= width * height)
            return need, "measured", "Measured when it drew at this size here.", parts
        if not parts:
            return None, "unknown", entry.reason or "Its size and parts cannot be read from here.", parts
        estimate = _peak(parts)
        if rows:
            near = min(rows, key=lambda p: abs(math.log(p.width * p.height / (width * height))))
            then = _peak(self.parts(entry, precision, near.width, near.height, machine.device))
            need = int(estimate * near.peak_bytes / then)
            return need, "estimated", f"Worked out from a measurement at {near.width} × {near.height}.", parts
        return int(estimate), "estimated", "Worked out from the sizes in its header; not drawn with here yet.", parts

    def parts(self, entry: Entry, precision: str, width: int, height: int, device: str) -> dict[str, int]:
        """Return bytes by part: denoiser, encoders, vae, loading, denoising, decoding, overhead; {}: nothing is known."""
        if entry.family not in FAMILIES:
            return {}
        counts = self._counts(entry)
        if not counts:
            return {}
        width_of_vae = self._vae_width(entry)
        bits = BYTES.get(precision, 4)
        # SDXL's VAE overflows in fp16, so diffusers computes it in fp32.
        vae_bits = 4 if entry.family == "sdxl" and precision == "fp16" else bits
        pixels = width * height
        small = min(1.0, counts["denoiser"] / 860e6)  # the starter model is a fraction of SD 1.5
        return {
            "denoiser": int(counts["denoiser"] * bits),
            "encoders": int(counts["encoders"] * bits),
            "vae": int(counts["vae"] * vae_bits),
            # On the processor the file lies in memory beside the model until that is complete.
            "loading": int(entry.size_bytes or 0) if device == "cpu" and entry.source == "local" else 0,
            "denoising": int(DENOISER_PER_PIXEL[entry.family or "sd15"] * pixels * bits / 4 * math.sqrt(small)),
            "decoding": int(VAE_PER_PIXEL * pixels * vae_bits / 4 * width_of_vae / 128),
            "overhead": OVERHEAD.get(device, OVERHEAD["cpu"]),
        }

    # ------------------------------------------------------------ the machine

    def machine(self, source: str = "local") -> Machine:
        """Where this engine computes."""
        return self._server_machine() if source == "comfyui" else self._own_machine()

    def _own_machine(self) -> Machine:
        sample = self._machine()
        engine = next((e for e in self._engines.all() if e.name == "builtin"), None)
        detail = engine.status().detail if engine else {}
        held = int(detail.get("memoryBytes") or 0)
        device = str(detail.get("device") or "").split(":")[0] or self._device(sample)
        ram = sample.get("memoryTotal")
        ram_free = max(0, ram - sample.get("memoryUsed", 0)) + held if ram else None
        if device == "cuda" and sample.get("gpuMemoryTotal"):
            total, used = int(sample["gpuMemoryTotal"]), int(sample.get("gpuMemoryUsed") or 0)
            own = int(detail.get("gpuMemoryBytes") or 0)
            return Machine("cuda", str(sample.get("gpuName") or "graphics card"), total, total - used + own, ram)
        if device == "mps":
            return Machine("mps", "Apple graphics (shared memory)", ram, ram_free, ram)
        return Machine("cpu", "processor (main memory)", ram, ram_free, ram)

    def _device(self, sample: dict[str, Any]) -> str:
        wanted = self._settings.device
        if wanted != "auto":
            return str(wanted)
        try:
            plain = "+cpu" in version("torch")
        except PackageNotFoundError:
            plain = True
        if sample.get("gpuName") and not plain:
            return "cuda"
        return "mps" if sys.platform == "darwin" else "cpu"

    def _server_machine(self) -> Machine:
        engine = next((e for e in self._engines.all() if e.name == "comfyui"), None)
        detail = engine.status().detail if engine else {}
        kind = str(detail.get("deviceType") or "cuda")
        total, free = detail.get("vramTotal"), detail.get("vramFree")
        if total is not None and free is not None:
            free = min(int(total), int(free) + int(detail.get("torchHeld") or 0))
        device = kind if kind in OVERHEAD else "cuda"
        return Machine(
            device, f"ComfyUI: {detail.get('device') or 'not reachable'}", total, free, detail.get("ramTotal")
        )

    def _precision(self, entry: Entry, machine: Machine) -> str:
        if entry.source == "local" and self._settings.precision != "auto":
            return str(self._settings.precision)
        if machine.device == "cuda":
            return "bf16" if entry.source == "local" else "fp16"
        return "fp16" if machine.device == "mps" else "fp32"

    # ------------------------------------------------------------ the verdict

    def _verdict(
        self,
        entry: Entry,
        machine: Machine,
        precision: str,
        need: int | None,
        parts: dict[str, int],
        size: tuple[int, int],
        batch: int,
        peaks: list[Peak] | None,
    ) -> tuple[str, list[str]]:
        advice: list[str] = []
        if batch > 1:
            advice.append("The pictures of a batch are drawn one after another, so a batch needs no more memory.")
        if need is None or not machine.total:
            return "unknown", advice
        free = machine.total if machine.free is None else machine.free
        if need <= free * TIGHT:
            return "yes", advice
        on_card = machine.device == "cuda"
        if precision == "fp32":
            half = "DALLA_PRECISION=bf16" if entry.source == "local" else "the server's --fp16-unet"
            advice.append(f"Half precision ({half}) halves the weights.")
        smaller = self._smaller(entry, machine, precision, size, free, peaks)
        if smaller:
            advice.append(f"{smaller[0]} × {smaller[1]} would fit.")
        if parts and parts["decoding"] > parts["denoising"] and need - parts["decoding"] < free:
            advice.append("Decoding is the peak: ComfyUI decodes in tiles when the memory runs out; upscaling a smaller picture avoids it.")  # fmt: skip
        if need <= machine.total * FULL:
            advice.insert(0, f"Close other programs: {size_text(need - free)} more must be free." if need > free else "It fits with little to spare.")  # fmt: skip
            return "tight", advice
        if on_card and parts:
            largest = max(parts[k] for k in _PARTS)
            ram = machine.ram_total or 0
            weights_bytes = sum(parts[k] for k in _PARTS)
            if weights_bytes <= ram * FULL and (largest + min(HEADROOM, need) <= free or entry.source == "comfyui"):
                advice.insert(0, "The parts of the model take turns on the card, the rest waits in main memory. That is slower.")  # fmt: skip
                return "tight", advice
            if weights_bytes <= ram * FULL:
                advice.insert(0, "It would be computed layer by layer from main memory. That is much slower.")
                return "tight", advice
        advice.append("Use a smaller model, or a machine with more memory.")
        return "no", advice

    def _smaller(
        self, entry: Entry, machine: Machine, precision: str, size: tuple[int, int], free: int, peaks: list[Peak] | None
    ) -> tuple[int, int] | None:
        """The largest size of the same shape, in steps of 64, that would fit now."""
        side = max(size)
        while side > 256:
            side -= 64
            width, height = (max(64, round(v * side / max(size) / 64) * 64) for v in size)
            need = self._need(entry, machine, precision, width, height, peaks)[0]
            if need is not None and need <= free * TIGHT:
                return width, height
        return None

    # ------------------------------------------------------------ what the files say

    def _native(self, entry: Entry) -> int:
        info = self._inventory.info(entry)
        family = FAMILIES.get(entry.family or "")
        return int((info.native_size if info else None) or (family.native_size if family else 512))

    def _file_stamp(self, entry: Entry) -> str:
        """The stamp that the built-in engine knows the model by."""
        model = self._inventory.model(entry.name) if entry.source == "local" else None
        return model.stamp if model else entry.stamp

    def _counts(self, entry: Entry) -> dict[str, float]:
        """Count the numbers (parameters) of denoiser, text encoders and VAE from the headers."""
        place = (entry.id, entry.stamp)
        if entry.path is None or entry.shape == "diffusion_model" or place not in self._counted:
            self._counted[place] = self._count(entry)
        return self._counted[place]

    def _count(self, entry: Entry) -> dict[str, float]:
        counts = dict.fromkeys(_PARTS, 0.0)
        try:
            if entry.path is None:
                return self._by_size(entry)
            if entry.path.is_dir():
                for file in entry.files:
                    part = _part_of_folder(file.parent.name)
                    if part and file.suffix == ".safetensors":
                        counts[part] += _numbers(self._inventory.header(file))
            else:
                for name, info in self._inventory.header(entry.path).items():
                    counts[_part_of_key(name)] += math.prod(info.shape)
                if entry.shape == "diffusion_model" and entry.source == "local":
                    for kind, part in (("text_encoder", "encoders"), ("vae", "vae")):
                        for other in self._inventory.local():
                            if other.kind == kind and other.path is not None and other.loadable:
                                counts[part] += _numbers(self._inventory.header(other.path))
        except (DallaError, OSError):
            return {}
        return counts if counts["denoiser"] else {}

    @staticmethod
    def _by_size(entry: Entry) -> dict[str, float]:
        """A file that only the server sees: its size, taken as 16-bit numbers, shared out as in its family."""
        if not entry.size_bytes:
            return {}
        numbers = entry.size_bytes / 2
        shares = {"sd15": (0.81, 0.11, 0.08), "sdxl": (0.74, 0.24, 0.02), "sd3": (0.85, 0.13, 0.02), "flux": (0.98, 0.01, 0.01)}  # fmt: skip
        share = shares.get(entry.family or "", (1.0, 0.0, 0.0))
        return {part: numbers * share[i] for i, part in enumerate(_PARTS)}

    def _vae_width(self, entry: Entry) -> float:
        """Channels of the VAE at full size: 128, fewer in small models."""
        place = (entry.id, entry.stamp)
        if place not in self._vae:
            self._vae[place] = self._look_at_vae(entry)
        return self._vae[place]

    def _look_at_vae(self, entry: Entry) -> float:
        if entry.path is not None and entry.path.is_dir():
            try:
                config = json.loads((entry.path / "vae" / "config.json").read_text("utf-8"))
                return float(config["block_out_channels"][0])
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                return 128.0
        if entry.path is not None:
            try:
                header = self._inventory.header(entry.path)
            except DallaError:
                return 128.0
            found = next((i for k, i in header.items() if re.search(r"decoder\.norm_out\.weight$", k)), None)
            return float(found.shape[0]) if found is not None and found.shape else 128.0
        return 128.0


def size_text(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if abs(count) >= 1e8 else f"{count / 1e6:.0f} MB"


def _peak(parts: dict[str, int]) -> int:
    """Add up: loading, denoising and decoding come one after the other."""
    return sum(parts[k] for k in (*_PARTS, "overhead")) + max(parts[k] for k in ("loading", "denoising", "decoding"))


def _numbers(header: weights.Header) -> float:
    return float(sum(math.prod(info.shape) for info in header.values()))


def _part_of_folder(name: str) -> str | None:
    if name in ("unet", "transformer"):
        return "denoiser"
    if name.startswith("text_encoder"):
        return "encoders"
    return "vae" if name == "vae" else None


def _part_of_key(name: str) -> str:
    if name.startswith(("first_stage_model.", "vae.")):
        return "vae"
    if name.startswith(("cond_stage_model.", "conditioner.", "text_encoder")):
        return "encoders"
    return "denoiser"
