"""Train a LoRA from the shell; the dashboard starts the same file as a child process.

    python train_lora.py --dataset training_data/luna --base-model models/starter --name luna --trigger luna
    python train_lora.py --config data/runs/<id>/config.json
    python train_lora.py --resume data/runs/<id>
    python train_lora.py --dataset … --base-model … --name … --dry-run      (looks and estimates, trains nothing)
    python train_lora.py --convert luna.safetensors luna-peft.safetensors --to peft      (key names for other programs)

Exit codes: 0 done, 1 failed, 2 bad input, 3 out of memory, 4 not a number, 5 the file is not what was trained,
130 stopped. Several graphics cards: `accelerate launch --multi_gpu --num_processes 2 train_lora.py …`; the first of the
processes tells and writes everything.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
BAD_INPUT = 2
STOPPED = 130
#: So long another process than the first waits with its failure: the launcher ends all when one fails, and the first,
#: which met the same, has to tell it before.
LAST_SECONDS = 3.0
#: Where no terminal shows one line that updates itself, a step is told this often.
SECONDS_PER_LINE = 5.0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="train_lora.py", description="Train a LoRA on a folder of pictures.")
    p.add_argument("--config", type=Path, help="a run's config.json; the other options overrule it")
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run folder (or one checkpoint folder)")
    p.add_argument("--dry-run", action="store_true", help="report on pictures, steps and memory; train nothing")
    p.add_argument("--dataset", dest="dataset_folder", help="folder with pictures and .txt captions")
    p.add_argument("--base-model", help="diffusers folder or .safetensors file, e.g. models/starter")
    p.add_argument("--name", help="name of the LoRA")
    p.add_argument("--trigger", dest="trigger_word", help="made-up word that calls the likeness up")
    p.add_argument("--class-word", help="what it is, e.g. woman")
    p.add_argument("--preset", choices=("quick", "balanced", "best"))
    p.add_argument("--output", dest="output_folder", help="folder of the finished LoRA (default: loras)")
    p.add_argument("--run-folder", help="folder of events, samples and checkpoints (default: data/runs/<name>-<time>)")
    p.add_argument("--models-folder", help="where parts of single-file models lie (default: models)")
    for option, kind in (
        ("steps", int), ("epochs", int), ("batch-size", int), ("gradient-accumulation", int), ("resolution", int),
        ("rank", int), ("alpha", float), ("conv-rank", int), ("learning-rate", float), ("repeats", int),
        ("text-encoder-learning-rate", float), ("warmup", float), ("min-snr-gamma", float), ("noise-offset", float),
        ("caption-dropout", float), ("prior-weight", float), ("prior-folder", str), ("sample-every", int),
        ("save-every", int), ("early-stop", int), ("seed", int), ("quantize", str), ("mixed-precision", str),
        ("targets", str), ("optimizer", str), ("lr-scheduler", str), ("timestep-sampling", str), ("shift", float),
        ("device", str),
    ):  # fmt: skip
        p.add_argument(f"--{option}", type=kind)
    for option in ("train-text-encoder", "use-rslora", "use-dora", "masked-loss", "shuffle-captions", "ema", "compile",
                   "gradient-checkpointing"):  # fmt: skip
        p.add_argument(f"--{option}", action="store_const", const=True)
    p.add_argument("--sample-prompt", dest="sample_prompts", action="append", help="may be given several times")
    p.add_argument("--convert", nargs=2, type=Path, metavar=("IN", "OUT"), help="write a LoRA file in the form --to")
    p.add_argument("--to", choices=("kohya", "peft"), help="kohya: also ComfyUI, A1111 and Forge; peft: diffusers")
    return p


def read_config(args: argparse.Namespace) -> Any:
    """Join a config file and the options into a TrainingConfig. Raises InvalidInput in plain words."""
    from pydantic import ValidationError

    from dalla import paths, times
    from dalla.errors import InvalidInput, StorageError
    from dalla.records.training import TrainingConfig

    values: dict[str, Any] = {}
    source = args.config or (_run_of(args.resume) / "config.json" if args.resume else None)
    if source is not None:
        try:
            values = json.loads(source.read_text("utf-8"))
        except (OSError, ValueError) as exc:
            raise StorageError(f"The settings in {source} cannot be read: {exc}") from exc
        if not isinstance(values, dict):
            raise InvalidInput(f"{source} holds no settings.")
    given = {k: v for k, v in vars(args).items() if v is not None and k not in ("config", "resume", "dry_run")}
    if not values:
        missing = [o for o, k in (("--dataset", "dataset_folder"), ("--base-model", "base_model"), ("--name", "name"))
                   if k not in given]  # fmt: skip
        if missing:
            raise InvalidInput(f"Give {', '.join(missing)} (or --config).", remedy="See: python train_lora.py --help")
    try:
        if values:
            config = TrainingConfig.model_validate(values)
            config = (_anew(config) if args.config and not _has_starter(args) else config).with_(**given)
        else:
            config = TrainingConfig(**given)
    except ValidationError as exc:
        rows = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in exc.errors()]
        raise InvalidInput("; ".join(f"{r['field']}: {r['message']}" for r in rows), errors=rows) from exc
    config.refuse_problems()
    changes: dict[str, Any] = {}
    if args.resume:
        changes = {"run_folder": str(_run_of(args.resume)), "resume_from": str(args.resume)}
    elif not config.run_folder and not args.dry_run:
        stamp = times.now_iso()[:19].replace(":", "").replace("-", "").replace("T", "-")
        changes["run_folder"] = str(ROOT / "data" / "runs" / f"{paths.safe_name(config.name)}-{stamp}")
    if config.models_folder is None:
        changes["models_folder"] = str(ROOT / "models")
    return config.with_(**changes)


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _anew(config: Any) -> Any:
    """Return a run's settings for another run: a folder that was trained in stays that run's, and is not gone on with."""
    folder = Path(config.run_folder)
    if not config.run_folder or not (folder / "events.jsonl").exists():
        return config
    going_on = bool(config.resume_from) and _run_of(Path(config.resume_from)).resolve() == folder.resolve()
    return config.with_(run_folder="", resume_from=None if going_on else config.resume_from)


def keep_config(config: Any, *, anew: bool) -> None:
    """Write config.json into the run folder, so that the run can be resumed; over an earlier one when it begins anew."""
    from dalla import paths
    from dalla.engines.trainer_files import lock_is_held

    folder = Path(config.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    if not file.exists() or (anew and not lock_is_held(folder / "run.lock")):  # of a run at work they stay
        paths.write_atomic(file, json.dumps(config.to_json(), indent=2, ensure_ascii=False).encode())


class Screen:
    """Prints events as lines a person can read: steps in one line that updates itself on a terminal, elsewhere
    one line every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._open = False  # the cursor stands behind a step line
        self._told = -math.inf

    def __call__(self, event: dict[str, Any]) -> None:
        text = line_of(event)
        if text is None:
            return
        step = event["event"] == "step"
        if step and not self._terminal:
            if event["step"] < event["steps"] and time.monotonic() - self._told < SECONDS_PER_LINE:
                return
            self._told = time.monotonic()
        if step and self._terminal:
            width = shutil.get_terminal_size((80, 24)).columns - 1
            last = event["step"] == event["steps"]
            print(f"\r{text[:width].ljust(width)}", end="\n" if last else "", flush=True)
            self._open = not last
            return
        if self._open:
            print(flush=True)
            self._open = False
        print(text, flush=True, file=sys.stderr if event["event"] == "error" else sys.stdout)


def line_of(event: dict[str, Any]) -> str | None:
    """Return an event in words, or None for one that is not for people."""
    kind = event["event"]
    if kind == "step":
        return (
            f"step {event['step']}/{event['steps']}  epoch {event['epoch']}  loss {event['loss']}  "
            f"{event['stepsPerSecond']:.2f} steps/s  {duration(event['etaSeconds'])} left"
        )
    if kind == "validation":
        return f"held-out loss at step {event['step']}: {event['loss']} (base model: {event['base']})"
    if kind == "ready":
        return (
            f"{event['pictures']} pictures, {event['steps']} steps ({event['epochs']} epochs), "
            f"{event['parameters']:,} numbers to train on {event['device']}"
        )
    if kind == "report":
        verdict = event["verdict"]
        return " ".join([verdict["text"], verdict["reason"], *verdict["hints"]])
    if kind == "done":
        return f"Done: {event['path']} (step {event['step']}, {event['layers']} layers checked)"
    if kind == "cancelled":
        return f"Stopped at step {event['step']}." + (f" Kept: {event['kept']}" if event["kept"] else "")
    if kind in ("error", "warning"):
        text = f"{'Error' if kind == 'error' else 'Note'}: {event['detail']}"
        return text + (f" {event['remedy']}" if event.get("remedy") else "")
    if kind in ("phase", "ladder") and not event.get("done"):
        return str(event["detail"])
    if kind == "checkpoint":
        return f"saved {event['file']}" + (" (best so far)" if event["best"] else "")
    return None


def duration(seconds: float) -> str:
    """Return a time as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def dry_run(config: Any) -> int:
    """Print the report on the set and what a run would take."""
    from dalla.diffusion.training.setup import prepare

    ready = prepare(config, lambda *a, **k: None)
    config, report = ready.config, ready.report
    print(f"{ready.model.path.name}: {ready.model.family}, made for {ready.model.native_size} px")
    print(f"{len(ready.train)} pictures to train on, {len(ready.held_out)} set aside, {report.captions_found} captions")
    for picture in report.pictures:
        marks = [p["message"] for p in picture.problems]
        size = f"{picture.width}x{picture.height} -> {picture.bucket[0]}x{picture.bucket[1]}"
        print(f'  {picture.file}  {size}  "{picture.caption}"  {" ".join(marks)}')
    for row in report.skipped:
        print(f"  skipped {row['file']}: {row['reason']}")
    for row in report.warnings:
        print(f"Note: {row['message']} {row['fix']}")
    batch = (config.batch_size or 1) * (config.gradient_accumulation or 1)
    print(
        f"{config.steps} steps of {batch} pictures, {ready.batches_per_epoch} batches per epoch, at {config.resolution} px"
    )
    print(f"rank {config.rank}, {config.targets} layers, learning rate {config.learning_rate:g}, {config.optimizer}")
    print(f"weights on the disk: {ready.model.size_bytes / 1e6:.0f} MB")
    for line in estimate_lines(ready):
        print(line)
    return 0


def estimate(ready: Any) -> dict[str, Any]:
    """Return what a run would take on this machine (services/training_estimate.py)."""
    from dalla.events import EventBus
    from dalla.services.system import Samples
    from dalla.services.training_estimate import Estimates

    data = ROOT / "data"
    machine = Samples(data, EventBus()).take
    return Estimates(data, machine).estimate(ready.config, ready.model.native_size, ready.report)


def new_checks(ready: Any, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what an estimate says against the run and the report on its pictures does not."""
    told = {row["code"] for row in ready.report.warnings}
    return [row for row in found["checks"] if row["code"] not in told]


def estimate_lines(ready: Any) -> list[str]:
    """Return what the run would take in time, memory and disk, and what speaks against it."""
    found = estimate(ready)
    took, memory, disk = found["time"], found["memory"], found["disk"]
    where = "this computer" if took["device"] == "cpu" else took["device"]
    if took["seconds"] is None:
        lines = [f"time: {took['detail']}"]
    else:
        each = f"{took['secondsPerStep']:.2f} s a step"
        lines = [f"time: about {duration(took['seconds'])} on {where} ({each}). {took['detail']}"]
    basis = "measured in an earlier run" if memory["basis"] == "measured" else "from a table, rough"
    free = f", {memory['freeBytes'] / 1e9:.1f} GB are free" if memory["freeBytes"] is not None else ""
    kind = "graphics memory" if memory["on"] == "gpu" else "memory"
    lines.append(f"{kind}: about {memory['neededBytes'] / 1e9:.1f} GB ({basis}){free}")
    lines.append(f"disk: about {disk['neededBytes'] / 1e6:.0f} MB for samples, checkpoints and the cache")
    return lines + [f"Note: {row['message']} {row['fix'] or ''}" for row in new_checks(ready, found)]


def convert(files: list[Path] | None, to: str | None) -> int:
    """Write a LoRA file in another program's form; return the exit code."""
    from dalla.errors import DallaError, InvalidInput
    from dalla.lora_forms import convert_file

    try:
        if not files or not to:
            raise InvalidInput("Give both --convert IN OUT and --to kohya or peft.")
        convert_file(files[0], files[1], to)
    except DallaError as exc:
        print(f"Error: {exc.detail} {exc.remedy or ''}", file=sys.stderr)
        return BAD_INPUT
    print(f"Written: {files[1]}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    from dalla.errors import DallaError

    if args.convert or args.to:
        return convert(args.convert, args.to)
    try:
        config = read_config(args)
        from dalla.diffusion.families.base import environment

        environment()
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
        try:
            import torch  # noqa: F401
        except ImportError as exc:
            print(f"Error: PyTorch is missing ({exc}). pip install -r requirements.txt", file=sys.stderr)
            return BAD_INPUT
        if args.dry_run:
            return dry_run(config)
        if is_first():
            keep_config(config, anew=not args.resume and not _has_starter(args))
    except DallaError as exc:
        if not is_first():
            return _leave(BAD_INPUT)
        print(f"Error: {exc.detail} {exc.remedy or ''}", file=sys.stderr)
        if _has_starter(args):
            _tell_early(args.config.parent, exc)
        return BAD_INPUT
    from dalla.diffusion.training.events import Controls
    from dalla.diffusion.training.run import run

    controls = Controls(Path(config.run_folder))

    def stop(number: int, frame: Any) -> None:
        if controls.stop:  # asked twice: at once
            raise SystemExit(130)
        controls.stop = True

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    if "LOCAL_RANK" in os.environ:
        _end_with_the_launcher()
    # The dashboard has said this before it started us.
    advice = None if _has_starter(args) else lambda ready: new_checks(ready, estimate(ready))
    code = run(config, listener=Screen(), controls=controls, advice=advice)
    return code if is_first() else _leave(code)


def _has_starter(args: argparse.Namespace) -> bool:
    """Say whether a program started this one and reads its events, not a person in a shell.

    A program gives all in the config, and what is printed goes into a file beside it.
    """
    more = [name for name, value in vars(args).items() if name != "config" and value is not None and value is not False]
    return bool(args.config) and (args.config.parent / "run.log").is_file() and not more and not sys.stdout.isatty()


def is_first() -> bool:
    """Say whether this process is the one that tells and writes: the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def _leave(code: int) -> int:
    """Return the exit code of another process than the first. A stop is no failure: the first is still saving."""
    if code == STOPPED:
        return 0
    if code:
        time.sleep(LAST_SECONDS)
    return code


def _end_with_the_launcher(seconds: float = 1.0) -> None:
    """Stop in order when the launcher that started this process is gone: nobody else would end it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        signal.raise_signal(signal.SIGTERM)

    if os.name != "nt":  # where a parent's id never changes
        threading.Thread(target=watch, name="launcher", daemon=True).start()


def _tell_early(folder: Path, exc: Any) -> None:
    from dalla.diffusion.training.events import Events

    events = Events(folder)
    events.emit("error", code=exc.code, detail=exc.detail, remedy=exc.remedy, errors=exc.errors)
    events.close()


if __name__ == "__main__":
    sys.exit(main())
