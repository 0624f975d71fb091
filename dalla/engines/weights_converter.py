"""The parent's side of converting pickled weights: one child process per file (`dalla/diffusion/convert.py`).

The pickle is never opened here. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dalla.engines.children import environment, own_session
from dalla.engines.images.base import Report
from dalla.engines.images.child import error_of
from dalla.errors import InvalidInput, Unavailable, UpstreamError
from dalla.settings import ROOT

POLL_SECONDS = 0.2
MOST_SECONDS = 3600.0
#: Beside these nothing of the app's environment reaches the child: no keys, no tokens.
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "OMP_NUM_THREADS",
)


class WeightsConverter:
    """A `Converter` (services/model_files.py)."""

    def convert(self, source: Path, target: Path, report: Report) -> dict[str, Any]:
        """Write `target` as .safetensors; return {tensors, bytes, skipped}.

        Raises InvalidInput (it holds more than weights; the name of what it asks for is told), StorageError,
        UpstreamError (memory, killed), Unavailable (no PyTorch), Cancelled; then `target` is not there.
        """
        from importlib.util import find_spec

        if find_spec("torch") is None:
            raise Unavailable("Converting needs the Python package 'torch'.", remedy="Run 'make install'.")
        process = subprocess.Popen(
            [sys.executable, "-m", "dalla.diffusion.convert", str(source.resolve()), str(target.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**{k: os.environ[k] for k in _KEPT if k in os.environ}, **environment()},
            **own_session(),
        )
        try:
            out, errors = self._wait(process, source, report)
        except BaseException:
            process.kill()
            process.communicate()
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            raise
        answer = _last_object(out)
        if answer is None or process.returncode not in (0, 1):
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            raise _death(process.returncode, source, errors)
        if "problem" in answer:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
            raise error_of(answer["problem"])
        return answer

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], source: Path, report: Report) -> tuple[bytes, bytes]:
        waited = 0.0
        while True:
            try:
                return process.communicate(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                report.check_cancelled()
                waited += POLL_SECONDS
                if waited > MOST_SECONDS:
                    raise InvalidInput(f"{source.name} took longer than an hour to read; it was given up.") from None


def _last_object(out: bytes) -> dict[str, Any] | None:
    lines = out.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _death(code: int, source: Path, errors: bytes) -> UpstreamError:
    words = errors.decode("utf-8", "replace").strip().splitlines()
    why = (
        "was killed (out of memory?)"
        if code < 0
        else f"ended with code {code}: {words[-1][:200] if words else 'no reason given'}"
    )
    return UpstreamError(
        f"Reading {source.name} {why}. Nothing was written.",
        service="converter",
        remedy="Close other programs that use the memory, or convert it elsewhere.",
    )
