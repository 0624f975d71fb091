"""The texts inside a LoRA file and the JSON beside it: what other programs show, and how it was made.

Names follow kohya's sd-scripts (`ss_*`, read by A1111, Forge, Civitai) and the modelspec (`modelspec.*`,
read by ComfyUI managers and InvokeAI). All values are strings. Folders of the user's computer are
never written, only the last part of a path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dalla.lora_names import BASE_VERSIONS
from dalla.paths import write_atomic

ARCHITECTURES = {
    "sd15": "stable-diffusion-v1/lora",
    "sd2": "stable-diffusion-v2-512/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "sd3": "stable-diffusion-3{variant}/lora",
    "flux": "flux-1{variant}/lora",
}
#: ComfyUI does not show a header of more than 1 MB; the tensor names need their part of it.
MAX_TEXTS = 600_000
MAX_TAGS = 2_000
_PATHS = {
    *("base_model", "dataset_folder", "output_folder", "run_folder", "prior_folder", "resume_from", "models_folder"),
    *("baseModel", "datasetFolder", "outputFolder", "runFolder", "priorFolder", "resumeFrom", "modelsFolder"),
}
_ABSOLUTE = re.compile(r"(?:[A-Za-z]:[\\/]|[\\/]|~[\\/])")


def metadata_for(
    config: Any,
    report: Any,
    family: str,
    *,
    name: str | None = None,
    base_name: str | None = None,
    base_sha256: str | None = None,
    prediction: str | None = None,
    variant: str | None = None,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
    result: Mapping[str, Any] | None = None,
    author: str | None = None,
) -> dict[str, str]:
    """Return the texts for the file. What is not known is left out, never guessed.

    `config` is a TrainingConfig (or a mapping of its fields), `report` the set's report (anything with
    `pictures` that have `file`, `caption`, `bucket`, `sha256`). `prediction` is epsilon, v_prediction
    or flow; `variant` is what the family's `variant` says (medium, 3-5-large, dev, schnell); `result` holds
    step, steps, epochs, loss and the validation, as the run's report has them. Times are aware datetimes.
    """
    get = _getter(config)
    result = dict(result or {})
    pictures = _rows(_getter(report)("pictures"))
    resolution = _resolution(get("resolution"))
    trigger = str(get("trigger_word") or "").strip()
    title = name or str(get("name") or "lora")
    finished = finished_at or datetime.now(UTC)
    dataset = _last(get("dataset_folder")) or title
    base = base_name or _last(get("base_model"))
    texts: dict[str, Any] = {
        "ss_v2": family == "sd2",
        # kohya calls Stable Diffusion 3.5 by its size alone.
        "ss_base_model_version": variant
        if variant and variant.startswith("3-5-")
        else BASE_VERSIONS.get(family, family),
        "ss_sd_model_name": base,
        "ss_new_sd_model_hash": base_sha256,
        "ss_output_name": title,
        "ss_training_started_at": started_at.timestamp() if started_at else None,
        "ss_training_finished_at": finished.timestamp(),
        "ss_learning_rate": get("learning_rate"),
        "ss_unet_lr": get("learning_rate"),
        "ss_text_encoder_lr": get("text_encoder_learning_rate") if get("train_text_encoder") else None,
        "ss_num_train_images": len(pictures) or None,
        "ss_num_epochs": result.get("epochs") or get("epochs"),
        "ss_epoch": result.get("epoch"),
        "ss_max_train_steps": result.get("steps") or get("steps"),
        "ss_steps": result.get("step"),
        "ss_batch_size_per_device": get("batch_size"),
        "ss_total_batch_size": _times(get("batch_size"), get("gradient_accumulation")),
        "ss_gradient_accumulation_steps": get("gradient_accumulation"),
        "ss_gradient_checkpointing": get("gradient_checkpointing"),
        "ss_lr_scheduler": get("lr_scheduler"),
        "ss_optimizer": get("optimizer"),
        "ss_mixed_precision": get("mixed_precision"),
        "ss_seed": get("seed"),
        "ss_resolution": f"({resolution}, {resolution})" if resolution else None,
        "ss_max_grad_norm": get("max_grad_norm"),
        "ss_min_snr_gamma": get("min_snr_gamma"),
        "ss_noise_offset": get("noise_offset"),
        "ss_caption_dropout_rate": get("caption_dropout"),
        "ss_shuffle_caption": get("shuffle_captions"),
        "ss_keep_tokens": get("keep_tokens"),
        "ss_prior_loss_weight": get("prior_weight") if get("prior_folder") else None,
        "ss_enable_bucket": True if pictures else None,
        "ss_bucket_info": _buckets(pictures),
        "ss_dataset_dirs": {dataset: {"n_repeats": int(get("repeats") or 1), "img_count": len(pictures)}}
        if pictures
        else None,
        "ss_tag_frequency": {dataset: tags} if (tags := _tags(pictures)) else None,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURES.get(family, family + "/lora").format(
            variant=f"-{variant}" if variant else ""
        ),
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
        "modelspec.author": author,
        "modelspec.date": finished.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "modelspec.resolution": f"{resolution}x{resolution}" if resolution else None,
        "modelspec.prediction_type": {"epsilon": "epsilon", "v_prediction": "v"}.get(prediction or ""),
        "modelspec.trigger_phrase": trigger or None,
        "modelspec.usage_hint": f"Write '{trigger}' in the prompt. Strength 0.7 to 1." if trigger else None,
        "dalla.family": family,
        "dalla.trigger_word": trigger or None,
        "dalla.base_model": base,
        "dalla.base_sha256": base_sha256,
        "dalla.dataset_sha256": dataset_fingerprint(report),
        "dalla.config": plain_config(config),
        "dalla.config_sha256": config_fingerprint(config),
        "dalla.result": {k: v for k, v in result.items() if k != "samples"} or None,
    }
    out = {key: _text(value) for key, value in texts.items() if value is not None}
    return _within(out)


def sidecar(
    config: Any,
    report: Any,
    *,
    name: str,
    family: str,
    sha256: str,
    size_bytes: int | None = None,
    base_name: str | None = None,
    base_sha256: str | None = None,
    created_at: datetime | None = None,
    result: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the JSON that lies beside the file as `<name>.json`: what the app shows without opening it.

    `more` (camelCase keys, such as taskId and characterId) is added as it is.
    """
    get = _getter(config)
    result = dict(result or {})
    pictures = _rows(_getter(report)("pictures"))
    settings = plain_config(config)
    return {
        "name": name,
        "file": f"{name}.safetensors",
        "family": family,
        "triggerWord": str(get("trigger_word") or "").strip() or None,
        "classWord": get("class_word") or None,
        "baseModel": base_name or _last(get("base_model")),
        "baseModelSha256": base_sha256,
        "sha256": sha256,
        "sizeBytes": size_bytes,
        "rank": get("rank"),
        "alpha": get("alpha"),
        "targets": get("targets"),
        "step": result.get("step"),
        "steps": result.get("steps") or get("steps"),
        "createdAt": (created_at or datetime.now(UTC))
        .astimezone(UTC)
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z"),
        "dataset": {
            "name": _last(get("dataset_folder")),
            "pictures": len(pictures),
            "captions": sum(bool(str(_getter(p)("caption") or "").strip()) for p in pictures),
            "sha256": dataset_fingerprint(report),
        },
        "settings": settings,
        "configSha256": config_fingerprint(config),
        "result": result or None,
        **more,
    }


def write_sidecar(lora: Path, values: Mapping[str, Any]) -> Path:
    """Write `values` beside the LoRA file, whole or not at all; return the path. Raises OSError."""
    path = lora.with_suffix(".json") if lora.suffix == ".safetensors" else lora.with_name(lora.name + ".json")
    write_atomic(path, (json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n").encode())
    return path


def dataset_fingerprint(report: Any) -> str | None:
    """Return a hash of the pictures and captions, in no particular order; None without pictures."""
    lines = sorted(
        f"{get('sha256') or get('file')}\0{str(get('caption') or '').strip()}"
        for get in map(_getter, _rows(_getter(report)("pictures")))
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def config_fingerprint(config: Any) -> str:
    """Return a hash of the settings; where the folders lie does not change it."""
    return hashlib.sha256(json.dumps(plain_config(config), sort_keys=True, default=str).encode()).hexdigest()


def plain_config(config: Any) -> dict[str, Any]:
    """Return the settings as JSON values, with every path cut down to its last part."""

    def clean(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): clean(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(key, v) for v in value]
        if isinstance(value, Path) or (isinstance(value, str) and (key in _PATHS or _ABSOLUTE.match(value))):
            return _last(value)
        return value if isinstance(value, str | int | float | bool) or value is None else str(value)

    return {key: clean(key, value) for key, value in _mapping(config).items() if value is not None}


# ---------------------------------------------------------------- reading what came


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "model_dump"):
        return dict(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(vars(value)) if value is not None and hasattr(value, "__dict__") else {}


def _getter(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get
    return lambda key: getattr(value, key, None)


def _rows(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _last(value: Any) -> str | None:
    text = str(value or "").rstrip("/\\")
    return re.split(r"[\\/]", text)[-1] or None


def _resolution(value: Any) -> int | None:
    if isinstance(value, list | tuple):
        value = max(value, default=None)
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _times(a: Any, b: Any) -> int | None:
    return int(a) * int(b or 1) if isinstance(a, int) else None


def _tags(pictures: list[Any]) -> dict[str, int]:
    """Count the comma-separated parts of the captions, most frequent first."""
    counts: Counter[str] = Counter()
    for picture in pictures:
        caption = str(_getter(picture)("caption") or "")
        counts.update({tag.strip()[:200] for tag in caption.split(",") if tag.strip()})
    return dict(counts.most_common(MAX_TAGS))


def _buckets(pictures: list[Any]) -> dict[str, Any] | None:
    counts: Counter[tuple[int, int]] = Counter()
    for picture in pictures:
        bucket = _getter(picture)("bucket")
        if isinstance(bucket, list | tuple) and len(bucket) == 2:
            counts[int(bucket[0]), int(bucket[1])] += 1
    if not counts:
        return None
    rows = {
        str(n): {"resolution": list(size), "count": count} for n, (size, count) in enumerate(sorted(counts.items()))
    }
    return {"buckets": rows}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _within(texts: dict[str, str]) -> dict[str, str]:
    """Drop what is long and can be done without until the texts fit."""

    def size() -> int:
        return sum(len(json.dumps(k)) + len(json.dumps(v)) for k, v in texts.items())

    if size() > MAX_TEXTS and "ss_tag_frequency" in texts:
        folders = json.loads(texts["ss_tag_frequency"])
        texts["ss_tag_frequency"] = json.dumps({f: dict(list(tags.items())[:100]) for f, tags in folders.items()})
    for key in ("dalla.result", "ss_bucket_info", "ss_tag_frequency", "dalla.config"):
        if size() > MAX_TEXTS:
            texts.pop(key, None)
    return texts
