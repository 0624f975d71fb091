"""A real try of everything the settings point at, with the values in force or with unsaved ones.

The concrete services come in as functions of settings (see wiring.py), so that a try with unsaved values uses the same
code as the work itself, and leaves the running services alone.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from dalla.engines.captions.base import CaptionEngine
from dalla.engines.images.base import ImageEngine
from dalla.errors import DallaError, InvalidInput, NotFound
from dalla.plural import counted
from dalla.records.family import FAMILIES
from dalla.records.finding import Finding
from dalla.records.image import ImageRequest, ModelInfo
from dalla.services.post_times import zone_named
from dalla.settings import ROWS, Settings

LOW_DISK = 1_000_000_000  # bytes
MAX_TRY_BYTES = 3_000_000_000  # a larger model would take minutes to load, only to prove that it can
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Hosting(Protocol):
    """The part of platforms/hosting.py used here."""

    def check(self) -> dict[str, Any]: ...


class _Quiet:
    """A Report that nobody reads."""

    def progress(self, done: float, total: float, message: str = "") -> None: ...
    def preview(self, image: bytes, mime: str) -> None: ...
    def check_cancelled(self) -> None: ...


class ServiceTests:
    """Tries services by name: `run("comfyui", {"comfyuiUrl": "http://gpu:8188"})`."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Callable[[str, Settings], ImageEngine],
        writer: Callable[[str, Settings], CaptionEngine],
        hosting: Callable[[Settings], Hosting],
        probes: Mapping[str, Callable[[Settings], Finding]],
        has_accounts: Callable[[], bool],
    ) -> None:
        """`engine`, `writer`, `hosting` build the thing for the given settings; `probes` are tries that need no more."""
        self._settings = settings
        self._engine, self._writer, self._hosting, self._has_accounts = engine, writer, hosting, has_accounts
        self._tests: dict[str, Callable[[Settings], Finding]] = {
            "comfyui": self._comfyui,
            "builtin": self._builtin,
            "gemini": lambda s: self._caption("gemini", s),
            "local": lambda s: self._caption("local", s),
            "composer": lambda s: self._caption("composer", s),
            "hosting": self._check_hosting,
            "paths": _paths,
            "timezone": _timezone,
            **probes,
        }

    def names(self) -> list[str]:
        return list(self._tests)

    def run(self, service: str, unsaved: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Try one service: {"ok", "detail", "remedy", "durationMs", "info"}. `unsaved` values are used, not saved.

        What keeps the service from working is in the answer. Raises NotFound for a service there is no try of,
        InvalidInput by field and Conflict for unsaved values that could not be saved either.
        """
        test = self._tests.get(service)
        if test is None:
            raise NotFound(f"There is no test for '{service}'. There is one for {', '.join(self._tests)}.")
        settings = self._settings.trial(unsaved or {})
        began = time.monotonic()
        try:
            found = test(settings)
        except DallaError as exc:
            found = Finding(False, exc.detail, exc.remedy, {"code": exc.code})
        return {
            "service": service,
            "ok": found.ok,
            "detail": found.detail,
            "remedy": found.remedy,
            "durationMs": round((time.monotonic() - began) * 1000),
            "info": found.info,
        }

    def refuse_lockout(self, changes: Mapping[str, Any]) -> None:
        """Refuse an address or port with which the app could not come back after a restart. Raises InvalidInput."""
        now, then = self._settings, self._settings.trial(changes)
        if then.host not in LOOPBACK and then.auth != "off" and not self._has_accounts() and then.host != now.host:
            raise InvalidInput.field(
                "host",
                "Others could reach this address, and there is no account yet: the app would not start.",
                remedy="Create an account first, under Accounts and security.",
            )
        if (then.host, then.port) != (now.host, now.port) and then.port != 0:
            why = _not_bindable(then.host, then.port, is_ours=then.port == now.port)
            if why is not None:
                raise InvalidInput.field("port" if then.port != now.port else "host", why)

    # ------------------------------------------------------------------ engines

    def _comfyui(self, settings: Settings) -> Finding:
        engine = self._engine("comfyui", settings)
        try:
            status = engine.status(fresh=True)
            if not status.available:
                return Finding(False, status.reason or "It cannot be used.", status.remedy, status.detail)
            models, loras = len(engine.models()), len(engine.loras())
            said = f"{engine.label} answers: {counted(models, 'model')}, {counted(loras, 'LoRA')}."
            info = {**status.detail, "models": models, "loras": loras}
            if not models:
                return Finding(False, said, "Put a checkpoint into ComfyUI's models/checkpoints.", info)
            return Finding(True, said, info=info)
        finally:
            engine.close()

    def _builtin(self, settings: Settings) -> Finding:
        """Draw a small picture with the smallest model: only this shows that libraries, device and files fit."""
        engine = self._engine("builtin", settings)
        try:
            status = engine.status(fresh=True)
            if not status.available:
                return Finding(False, status.reason or "It cannot be used.", status.remedy, status.detail)
            known = [model for model in engine.models() if model.family]
            info: dict[str, Any] = {"models": len(known)}
            small = [model for model in known if (model.size_bytes or MAX_TRY_BYTES) < MAX_TRY_BYTES]
            if not small:
                said = f"{counted(len(known), 'model')} found; all are too large for a quick try."
                return Finding(True, said, info=info)
            model = min(small, key=lambda one: one.size_bytes or 0)
            result = engine.generate(_smallest_request(model), _Quiet())
            info |= {"model": model.name, "device": result.device, "precision": result.precision}
            return Finding(
                True, f"Drew a small picture with {model.name} on {result.device} ({result.precision}).", info=info
            )
        finally:
            engine.close()

    def _caption(self, name: str, settings: Settings) -> Finding:
        engine = self._writer(name, settings)
        try:
            status = engine.status(fresh=True)
            if not status.available:
                return Finding(False, status.reason or "It cannot be used.", status.remedy, status.detail)
            return Finding(True, status.reason or f"{engine.label} answers.", info=status.detail)
        finally:
            engine.close()

    def _check_hosting(self, settings: Settings) -> Finding:
        result = self._hosting(settings).check()
        info = {"mode": result["mode"], "url": result["url"], "steps": result["steps"]}
        wrong = next((step for step in result["steps"] if not step["ok"]), None)
        if wrong is not None:
            return Finding(False, wrong["detail"], wrong["remedy"], info)
        return Finding(True, f"A test picture can be fetched from {urlsplit(result['url']).netloc}.", info=info)


def _smallest_request(model: ModelInfo) -> ImageRequest:
    family = FAMILIES[model.family or "sd15"]
    chosen: dict[str, Any] = {"sampler": family.sampler, "scheduler": family.scheduler, **model.defaults}
    size = min(model.native_size or family.native_size, 256)
    return ImageRequest(
        prompt="a portrait",
        negative_prompt="",
        model=model.name,
        family=family.name,
        width=size,
        height=size,
        steps=2,
        seed=1,
        sampler=chosen["sampler"],
        scheduler=chosen["scheduler"],
        cfg_scale=chosen.get("cfg_scale", family.cfg_scale),
        guidance=chosen.get("guidance", family.guidance),
    )


def _paths(settings: Settings) -> Finding:
    """Look at every folder of the settings: there, or can it be made; writable; free space."""
    folders: list[dict[str, Any]] = []
    wrong = []
    for row in ROWS:
        if row.kind != "path" or not getattr(settings, row.name):
            continue
        path = Path(getattr(settings, row.name))
        problem, free = _writable(path)
        folders.append({"name": row.key, "path": str(path), "problem": problem, "freeBytes": free})
        if problem:
            wrong.append(f"{row.title}: {problem}")
    info = {"folders": folders}
    if wrong:
        return Finding(
            False, " ".join(wrong), "Choose another folder, or give this user the right to write there.", info
        )
    least = min((f["freeBytes"] for f in folders if f["freeBytes"] is not None), default=None)
    said = f"{counted(len(folders), 'folder')} can be written."
    if least is not None and least < LOW_DISK:
        return Finding(False, f"{said} Only {least / 1e6:.0f} MB are free.", "Free some space.", info)
    return Finding(True, said, info=info)


def _writable(path: Path) -> tuple[str | None, int | None]:
    """Return what is wrong (None: nothing) and the free bytes where the folder is or would be."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = None
    if path.exists() and not path.is_dir():
        return f"{path} is a file.", free
    if path != there:
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            return f"{path} is not there and cannot be made in {there}.", free
        return None, free
    probe = path / f".probe-{os.getpid()}-{time.monotonic_ns()}.tmp"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as exc:
        return f"{path} cannot be written ({exc.strerror}).", free
    return None, free


def _timezone(settings: Settings) -> Finding:
    zone = zone_named(settings.timezone)
    now = datetime.now(zone)
    offset = now.strftime("%z")
    said = f"In {zone.key} it is now {now:%H:%M}, {now.day} {now:%B %Y} (UTC{offset[:3]}:{offset[3:]})."
    return Finding(True, said, info={"zone": zone.key, "now": now.isoformat(timespec="seconds")})


def _not_bindable(host: str, port: int, *, is_ours: bool) -> str | None:
    """Say why the app could not listen there; None when it could, or when it does now."""
    if is_ours:
        return _no_such_address(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return f"Port {port} on {host} cannot be used: {exc.strerror or exc}."
    return None


def _no_such_address(host: str) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as exc:
            return f"This computer cannot listen on {host}: {exc.strerror or exc}."
    return None
