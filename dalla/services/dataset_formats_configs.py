"""The text files of an export: captions, tables and the configurations other trainers read.

Every key written here is one the trainer's own source knows (tests hold the lists). JSON strings are valid YAML and
TOML strings, so no library for either is needed to write them.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from dalla.bucketing import buckets
from dalla.plural import counted
from dalla.services.dataset_formats import ExportOptions, Format, Item, clean_label
from dalla.training_set import with_trigger

#: Base models where none was named, by family.
BASES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3": "stabilityai/stable-diffusion-3.5-large",
    "flux1": "black-forest-labs/FLUX.1-dev",
}
STEPS_PER_PICTURE, LEAST_STEPS, MOST_STEPS = 100, 600, 2000


@dataclass(frozen=True)
class About:
    """What the configurations say of the dataset."""

    name: str
    description: str
    trigger: str

    @property
    def slug(self) -> str:
        return clean_label(self.name).replace(" ", "_") or "dataset"


@dataclass(frozen=True)
class Group:
    """Pictures of one folder: they share repeats and concept."""

    folder: str
    split: str
    repeats: int
    label: str
    items: list[Item]

    @property
    def masked(self) -> bool:
        return all(item.mask is not None for item in self.items)


def texts(format: Format, items: list[Item], options: ExportOptions, about: About) -> dict[str, str]:
    """Return every text file of an export by its name in the archive."""
    files: dict[str, str] = {}
    if format.captions:
        for item in items:
            caption = item.caption
            if not caption and format.every_caption:
                word = "" if item.split == "reg" else about.trigger
                caption = with_trigger("", word, options.class_word)[0] or item.label
            if caption:
                files[item.caption_path] = caption + "\n"
    if format.name == "kohya":
        files["dataset.toml"] = kohya(items, options, about)
    elif format.name == "imagefolder":
        for split in ("train", "validation", "reg"):
            rows = [item for item in items if item.split == split]
            if rows or split == "train":
                files[f"{split}/metadata.jsonl"] = lines({"file_name": _base(i.path), "text": i.caption} for i in rows)
        files["README.md"] = card(items, about)
    elif format.name == "jsonl":
        files["data.jsonl"] = lines(row(item) for item in items)
    elif format.name == "csv":
        files["data.csv"] = table([row(item) for item in items])
    elif format.name == "ai-toolkit":
        files["config.yaml"] = ai_toolkit(items, options, about)
    elif format.name == "onetrainer":
        files["concepts.json"] = json.dumps(onetrainer(items, options, about), indent=4, ensure_ascii=False) + "\n"
    elif format.name == "simpletuner":
        found = simpletuner(items, options, about)
        files["multidatabackend.json"] = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    return files


def groups(items: list[Item]) -> list[Group]:
    """Return the folders of an export, training first."""
    found: dict[tuple[str, str, int, str], list[Item]] = defaultdict(list)
    for item in items:
        found[(item.folder, item.split, item.repeats, item.label)].append(item)
    made = [Group(*key, rows) for key, rows in found.items()]
    return sorted(made, key=lambda g: (("train", "validation", "reg").index(g.split), g.folder))


# ---------------------------------------------------------------- tables


def row(item: Item) -> dict[str, Any]:
    """Return everything known of a picture of an export."""
    facts: dict[str, Any] = {k: item.facts[k] for k in ("width", "height", "sha256") if k in item.facts}
    return {
        "file_name": item.path,
        "text": item.caption,
        "split": item.split,
        **facts,
        "repeats": item.repeats,
        "concept": item.entry["concept"],
        "mask": item.mask_path or "",
        "source": item.entry["filename"],
    }


def lines(rows: Any) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)


def table(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    names = ["file_name", "text", "split", "width", "height", "sha256", "repeats", "concept", "mask", "source"]
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def card(items: list[Item], about: About) -> str:
    """Return the dataset card of a Hugging Face repository."""
    splits = [s for s in ("train", "validation") if s == "train" or any(item.split == s for item in items)]
    counts = {split: sum(item.split == split for item in items) for split in ("train", "validation", "reg")}
    head = ["---", f"pretty_name: {_text(about.name)}", "task_categories:", "- text-to-image", "configs:"]
    head += ["- config_name: default", "  drop_labels: true", "  data_files:"]
    for split in splits:
        head += [f"  - split: {split}", f"    path: {_text(f'{split}/**')}"]
    body = [f"# {about.name}", ""]
    if about.description.strip():
        body += [about.description.strip(), ""]
    body += [f"{counted(counts['train'], 'picture')} with captions in `train/`" + (
        f", {counted(counts['validation'], 'picture')} in `validation/`." if counts["validation"] else "."
    )]  # fmt: skip
    if counts["reg"]:
        body += [f"{counted(counts['reg'], 'regularization picture')} in `reg/`, in no split."]
    if about.trigger:
        body += ["", f"Trigger word: `{about.trigger}`"]
    body += ["", "```python", "from datasets import load_dataset", "", 'pictures = load_dataset("imagefolder", data_dir=".")["train"]', "```"]  # fmt: skip
    return "\n".join([*head, "---", "", *body, ""])


# ---------------------------------------------------------------- trainers


def kohya(items: list[Item], options: ExportOptions, about: About) -> str:
    """Return dataset.toml of sd-scripts."""
    sizes = buckets(options.resolution, options.bucket_step)
    out = [
        *_where("image_dir", options),
        "[general]",
        'caption_extension = ".txt"  # sd-scripts looks for .caption otherwise',
        "enable_bucket = true",
        f"min_bucket_reso = {min(min(size) for size in sizes)}",
        f"max_bucket_reso = {max(max(size) for size in sizes)}",
        f"bucket_reso_steps = {options.bucket_step}",
        "bucket_no_upscale = false",
        "",
        "[[datasets]]",
        f"resolution = {options.resolution}",
        f"batch_size = {options.batch_size}",
    ]
    if options.validation_percent:
        out += [f"validation_split = {options.validation_percent / 100:.4f}", "validation_seed = 42"]
    for group in groups(items):
        out += ["", "[[datasets.subsets]]", f"image_dir = {_text(_at(group.folder, options))}"]
        out += [f"num_repeats = {group.repeats}", f"class_tokens = {_text(group.label)}"]
        if group.split == "reg":
            out += ["is_reg = true"]
        elif group.masked:
            folder = _text(_at(f"masks/{group.folder}", options))
            out += ["# For --masked_loss; then every subset of this dataset needs masks:", f"# conditioning_data_dir = {folder}"]  # fmt: skip
    return "\n".join(out) + "\n"


def onetrainer(items: list[Item], options: ExportOptions, about: About) -> list[dict[str, Any]]:
    """Return the concepts of OneTrainer (training_concepts/concepts.json); what is left out has its default."""
    kinds = {"train": "STANDARD", "validation": "VALIDATION", "reg": "PRIOR_PREDICTION"}
    return [
        {
            "__version": 2,
            "name": f"{group.label}" + {"train": "", "validation": " (validation)", "reg": " (regularization)"}[group.split],
            "path": _at(group.folder, options),
            "seed": 42 + number,
            "enabled": True,
            "type": kinds[group.split],
            "include_subdirectories": False,
            "image_variations": 1,
            "text_variations": 1,
            "balancing": 1.0 if group.split == "validation" else float(group.repeats),
            "balancing_strategy": "REPEATS",
            "loss_weight": 1.0,
            "image": {
                "__version": 0,
                "enable_crop_jitter": False,
                "enable_random_flip": False,
                "enable_resolution_override": False,
                "resolution_override": str(options.resolution),
            },
            "text": {"__version": 0, "prompt_source": "sample", "prompt_path": "", "enable_tag_shuffling": False},
        }
        for number, group in enumerate(groups(items))
    ]  # fmt: skip


def simpletuner(items: list[Item], options: ExportOptions, about: About) -> list[dict[str, Any]]:
    """Return multidatabackend.json of SimpleTuner: one backend per folder, and the cache of text embeddings.

    `repeats` counts additional passes there, so it is one less than kohya's.
    """
    found: list[dict[str, Any]] = []
    for number, group in enumerate(groups(items), 1):
        id = f"{about.slug}-{number}"
        found.append(
            {
                "id": id,
                "type": "local",
                "dataset_type": "eval" if group.split == "validation" else "image",
                "instance_data_dir": _at(group.folder, options),
                "caption_strategy": "textfile",
                "metadata_backend": "discovery",
                "crop": False,
                "resolution": options.resolution,
                "resolution_type": "pixel_area",
                "minimum_image_size": 0,
                "cache_dir_vae": _at(f"cache/vae/{id}", options),
                "repeats": 0 if group.split == "validation" else group.repeats - 1,
                **({"is_regularisation_data": True} if group.split == "reg" else {}),
            }
        )
    text = {"id": f"{about.slug}-text", "type": "local", "dataset_type": "text_embeds", "default": True}
    return [*found, {**text, "cache_dir": _at("cache/text", options)}]


def ai_toolkit(items: list[Item], options: ExportOptions, about: About) -> str:
    """Return a whole job of ai-toolkit: `python run.py config.yaml`."""
    flow = options.family in ("sd3", "flux1")
    train = [item for item in items if item.split == "train"]
    steps = min(MOST_STEPS, max(LEAST_STEPS, STEPS_PER_PICTURE * len(train)))
    scheduler = "flowmatch" if flow else "ddpm"
    subject = (
        " ".join(part for part in ("[trigger]" if about.trigger else "", options.class_word) if part) or about.name
    )
    datasets: list[dict[str, Any]] = []
    for group in groups(items):
        if group.split != "validation":
            datasets.append(
                {
                    "folder_path": _at(group.folder, options),
                    "caption_ext": "txt",
                    "caption_dropout_rate": 0.05,
                    "shuffle_tokens": False,
                    "cache_latents_to_disk": True,
                    "num_repeats": group.repeats,
                    "resolution": [options.resolution],
                    **({"is_reg": True, "trigger_word": ""} if group.split == "reg" else {}),
                    **({"mask_path": _at(f"masks/{group.folder}", options)} if group.masked else {}),
                }
            )
    aside = [item for item in items if item.split == "validation"]
    validation = {
        "validation_config": {
            "resolution": options.resolution,
            "validate_every_n_steps": 100,
            "validation_items": [
                {"image_path": _at(item.path, options), "prompt": item.caption or subject} for item in aside
            ],
        }
    }
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": "output",
        "device": "cuda:0",
        **({"trigger_word": about.trigger} if about.trigger else {}),
        "network": {"type": "lora", "linear": 16, "linear_alpha": 16},
        "save": {"dtype": "float16", "save_every": 250, "max_step_saves_to_keep": 4},
        "datasets": datasets,
        "train": {
            "batch_size": options.batch_size,
            "steps": steps,
            "gradient_accumulation_steps": 1,
            "train_unet": True,
            "train_text_encoder": False,
            "gradient_checkpointing": True,
            "noise_scheduler": scheduler,
            "optimizer": "adamw8bit",
            "lr": 0.0001,
            "dtype": "bf16",
            **(validation if aside else {}),
        },
        "model": {
            "name_or_path": options.base_model or BASES[options.family],
            "arch": {"sd15": "sd1", "sdxl": "sdxl", "sd3": "sd3", "flux1": "flux"}[options.family],
            **({"quantize": True} if flow else {}),
        },
        "sample": {
            "sampler": scheduler,
            "sample_every": 250,
            "width": options.resolution,
            "height": options.resolution,
            "prompts": [f"a photo of {subject}", f"a close-up portrait of {subject}, soft light"],
            "neg": "",
            "seed": 42,
            "walk_seed": True,
            "guidance_scale": 4 if flow else 7,
            "sample_steps": 25,
        },
    }
    job = {"job": "extension", "config": {"name": about.slug, "process": [process]}}
    return "\n".join([*_where("folder_path", options), "---", *_yaml({**job, "meta": {"name": "[name]", "version": "1.0"}})]) + "\n"  # fmt: skip


# ---------------------------------------------------------------- parts


def _yaml(value: Any, indent: int = 0) -> list[str]:
    """Return block YAML of dicts and lists; scalars as JSON, which YAML reads."""
    pad = "  " * indent
    out: list[str] = []
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, dict | list) and one:
                out += [f"{pad}{key}:", *_yaml(one, indent + 1)]
            else:
                out.append(f"{pad}{key}: {_text(one)}")
    else:
        for one in value:
            if isinstance(one, dict | list) and one:
                first, *rest = _yaml(one, indent + 1)
                out += [f"{pad}- {first.strip()}", *rest]
            else:
                out.append(f"{pad}- {_text(one)}")
    return out


def _text(value: Any) -> str:
    """Return a scalar as JSON; DEL and what breaks lines elsewhere is escaped, so TOML and YAML read it the same."""
    text = json.dumps(value, ensure_ascii=False)
    for code in (0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF):
        text = text.replace(chr(code), f"\\u{code:04x}")
    return text


def _at(path: str, options: ExportOptions) -> str:
    base = options.base_path.rstrip("/\\")
    if not base:
        return path
    return f"{base}\\{path}".replace("/", "\\") if "\\" in base else f"{base}/{path}"


def _where(key: str, options: ExportOptions) -> list[str]:
    if options.base_path:
        return []
    return [f"# Start the training in the folder of this file, or put its path in front of every {key}.", ""]


def _base(path: str) -> str:
    return path.rpartition("/")[2]
