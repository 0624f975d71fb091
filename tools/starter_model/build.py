"""The stages in their order. A finished stage is kept; one that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.starter_model import data, export, latents, text, tokenizer, unet, vae
from tools.starter_model.plan import Plan
from tools.starter_model.training import Work, state_file

Run = Callable[[Work, Plan, dict[str, Path], Path, str], None]


@dataclass(frozen=True)
class Stage:
    """One step of the build: what it needs, which values of the plan decide it, and its work.

    `run(work, plan, folders, out, fingerprint)` writes everything into the folder `out`.
    """

    name: str
    needs: tuple[str, ...]
    decides: tuple[str, ...]
    run: Run


def _data(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    data.make(work, plan, out)


def _tokenizer(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    made = tokenizer.build(out, count=plan.tokenizer_captions, most=plan.merges_until, seed=work.seed)
    work.say(f"tokenizer: {len(made)} pieces")


def _vae(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    vae.train(work, plan, f["data"], out, fingerprint)


def _text(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    text.warm_up(work, plan, f["tokenizer"], out, fingerprint)


def _latents(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    latents.encode(work, plan, f["data"], f["vae"], f["tokenizer"], out)


def _unet(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    unet.train(work, plan, f["latents"], f["text_encoder"], f["tokenizer"], out, fingerprint)


def _decoder(work: Work, plan: Plan, f: dict[str, Path], out: Path, fingerprint: str) -> None:
    vae.finish(work, plan, f["data"], f["vae"], out, fingerprint)


STAGES = (
    Stage("data", (), ("avatars", "shapes"), _data),
    Stage("tokenizer", (), ("tokenizer_captions", "merges_until"), _tokenizer),
    Stage("vae", ("data",), ("vae_steps", "vae_batch", "vae_crop_share"), _vae),
    Stage("text_encoder", ("tokenizer",), ("text_captions", "text_steps", "text_batch"), _text),
    Stage("latents", ("data", "vae", "tokenizer"), ("captions_per_avatar",), _latents),
    Stage("unet", ("latents", "text_encoder", "tokenizer"), ("unet_steps", "unet_batch"), _unet),
    Stage("decoder", ("data", "vae"), ("decoder_steps", "decoder_batch"), _decoder),
)


def build(work: Work, plan: Plan, out: Path) -> dict[str, Any]:
    """Run what is not done yet and write the model to `out`, which must not exist; return the export's figures.

    Each stage has a folder in `work.folder`; it is valid while its own part of the plan, the seed and the
    stages it needs are the same. Raises FileExistsError, FloatingPointError, RuntimeError, OSError.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already.")
    work.folder.mkdir(parents=True, exist_ok=True)
    folders: dict[str, Path] = {}
    fingerprints: dict[str, str] = {}
    for number, stage in enumerate(STAGES, 1):
        folder = work.folder / stage.name
        told = [
            stage.name, work.seed, [getattr(plan, key) for key in stage.decides], [fingerprints[n] for n in stage.needs],
        ]  # fmt: skip
        fingerprint = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        head = f"[{number}/{len(STAGES) + 1}] {stage.name}"
        if done(folder, fingerprint):
            work.say(f"{head}: done before")
        else:
            work.say(head)
            part = work.folder / f"{stage.name}.part"
            shutil.rmtree(part, ignore_errors=True)
            stage.run(work, plan, dict(folders), part, fingerprint)
            (part / "stage.json").write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        state_file(work.folder, stage.name).unlink(missing_ok=True)
        folders[stage.name], fingerprints[stage.name] = folder, fingerprint
    work.say(f"[{len(STAGES) + 1}/{len(STAGES) + 1}] export")
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    figures = export.export(folders, part)
    part.rename(out)
    return figures


def done(folder: Path, fingerprint: str) -> bool:
    """Say whether a stage's folder holds exactly what would be made now."""
    try:
        return json.loads((folder / "stage.json").read_text("utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False
