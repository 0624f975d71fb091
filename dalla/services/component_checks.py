"""The small questions the system status asks: is a folder there and writable, is there space, did a service answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

LOW_DISK = 1_000_000_000  # bytes

Component = dict[str, Any]


def ok(detail: str, **more: Any) -> Component:
    return {"status": "ok", "detail": detail, **more}


def off(detail: str, **more: Any) -> Component:
    return {"status": "off", "detail": detail, **more}


def error(detail: str, remedy: str | None = None, **more: Any) -> Component:
    return {"status": "error", "detail": detail, **({"remedy": remedy} if remedy else {}), **more}


def fix(label: str, href: str) -> dict[str, str]:
    """Where the person in front of the screen can do something about it."""
    return {"label": label, "href": href}


def writable(folder: Path) -> OSError | None:
    """Write and remove a small file; return why that was refused, or None."""
    # One name per thread: two pages ask at the same time. A left-over one is cleared as a temp file.
    probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as exc:
        with contextlib.suppress(OSError):  # written, but not removed
            probe.unlink()
        return exc
    return None


def folder_row(id: str, label: str, path: Path, setting: str, *, reads_only: bool = False) -> Component:
    """Return how one folder is doing. `reads_only`: one that is only read may be read-only."""
    key, env = to_camel(setting), f"DALLA_{setting.upper()}"
    facts = {"id": id, "label": label, "path": str(path), "setting": key}
    change = fix("Set this folder", f"/settings.html#{key}")
    refused = writable(path)
    if refused is None:
        return ok("Can be written.", writable=True, **facts)
    reason = refused.strerror or str(refused)
    if not path.is_dir():
        remedy = f"Create it, connect the disk it lies on, or set {env} to another folder."
        return error("The folder is not there.", remedy, writable=False, fix=change, **facts)
    if reads_only and os.access(path, os.R_OK):
        return ok(f"Can be read, not written ({reason}). What is in it can be used.", writable=False, **facts)
    remedy = f"Give this user write permission to it, free some space, or set {env} to another folder."
    return error(f"Cannot be written: {reason}.", remedy, writable=False, fix=change, **facts)


def folders(rows: list[Component]) -> Component:
    """Return the component over all folders."""
    broken = [row for row in rows if row["status"] == "error"]
    if not broken:
        return ok(f"All {len(rows)} folders can be used.", items=rows)
    said = " ".join(f"{row['label']}: {row['detail']}" for row in broken)
    return error(said, broken[0].get("remedy"), fix=broken[0]["fix"], items=rows)


def disk(paths: list[Path]) -> Component:
    """Return the free space of every volume these folders lie on; the fullest one decides."""
    volumes: dict[int, Component] = {}
    for path in paths:
        try:
            device, usage = path.stat().st_dev, shutil.disk_usage(path)
        except OSError as exc:
            if path == paths[0]:
                return error(f"The data folder cannot be reached: {exc.strerror}.")
            continue
        row = {"path": str(path), "freeBytes": usage.free, "totalBytes": usage.total}
        volumes.setdefault(device, row)
    rows = list(volumes.values())
    fullest = min(rows, key=lambda row: row["freeBytes"])
    facts = {"freeBytes": rows[0]["freeBytes"], "totalBytes": rows[0]["totalBytes"]}
    if len(rows) > 1:
        facts["volumes"] = rows
    if fullest["freeBytes"] < LOW_DISK:
        where = "" if len(rows) == 1 else f" where {fullest['path']} lies"
        detail = f"Only {fullest['freeBytes'] / 1e6:.0f} MB are free{where}."
        return error(detail, "Empty the trash, clean up, or move a folder to another disk.", **facts)
    return ok(f"{facts['freeBytes'] / 1e9:.0f} GB free of {facts['totalBytes'] / 1e9:.0f} GB.", **facts)


def webhooks(hooks: list[dict[str, Any]]) -> Component:
    """Return whether what is sent to other programs arrives: the last delivery of each webhook decides."""
    active = [hook for hook in hooks if hook["active"]]
    if not active:
        return off("No webhook is switched on.", count=len(hooks))
    failing = [hook for hook in active if (hook["lastDelivery"] or {}).get("status") == "failed"]
    if not failing:
        many = len(active) > 1
        return ok(f"{len(active)} webhook{'s' if many else ''}, and the last events arrived.", count=len(hooks))
    first = failing[0]
    said = first["lastDelivery"].get("detail") or "The last event was not accepted."
    count = f"{len(failing)} of {len(active)} do not accept events. " if len(active) > 1 else ""
    return error(
        f"{count}{said}",
        "Correct its address, send a test event, then send the failed events again.",
        count=len(hooks),
        failing=[hook["id"] for hook in failing],
        fix=fix("Open this webhook", f"/connections.html?webhook={first['id']}"),
    )


def caption_engine(label: str, configured: Component | None, outcome: dict[str, Any] | None) -> Component:
    """Return how a service that writes captions does: its last real answer or failure, if there was one.

    configured: the component to answer instead when it is not set up; None: it is.
    """
    if configured is not None:
        return configured
    if outcome is None:
        return ok("Set up. It has not been asked since the start.", lastAnswerAt=None)
    facts = {"lastAnswerAt": outcome["at"]}
    if outcome.get("latencyMs") is not None:
        facts["latencyMs"] = outcome["latencyMs"]
    if outcome["ok"]:
        return ok(outcome["detail"] or f"{label} answered.", **facts)
    return error(outcome["detail"] or f"{label} did not answer.", outcome.get("remedy"), **facts)
