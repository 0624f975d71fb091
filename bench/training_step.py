"""What one training step costs: our trainer beside diffusers' own example script, on the same model, data and settings.

    git clone --depth 1 https://github.com/huggingface/diffusers /tmp/diffusers
    python -m bench.training_step --script /tmp/diffusers/examples/text_to_image/train_text_to_image_lora.py

The script is theirs as it is, never a copy of ours; DALLA_DIFFUSERS_SCRIPT may name it, too. Two models: the starter
model (128 px), and one with the layout of Stable Diffusion 1.5 at a fraction of its width with random weights.
Goals: at least 2.5 times less processor time per step on the starter model, 1.4 times on the other, never more memory.

What makes it fair: same model folder, pictures, captions, size, batch, rank, target layers (attention), optimizer,
learning rate, min-SNR weights, fp32, one thread. Neither draws samples, validates or saves on the way. The two take
turns, each round starts with the other one. Measured is the processor time of the process between two
optimizer steps (mean after the first three), by the same hook of torch's in both; time to the first step from the
start of the process, so our encoding of the pictures ahead counts there; the highest resident memory of the whole
process, writing and checking the file included. At the end both files are asked whether they lowered the error on the
pictures trained on and on 24 others of the same character, at fixed noise.

The script imports `torchvision` and `datasets`, which this project does without. It gets stand-ins with the few
functions it calls (crop, flip, to tensor; a folder with metadata.jsonl). They do the same work on the picture with
Pillow, start faster and need less memory than the real packages, so they are no disadvantage to the script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.figures import median, save, table  # noqa: E402

WARM = 3  # steps that are not counted
GOALS = {"starter": 2.5, "sd15": 1.4}
RANK, BATCH, RATE, SIDE = 8, 4, 2e-3, 128
#: The share of Stable Diffusion 1.5's widths the random model has.
NARROW = 4


# ---------------------------------------------------------------- the child: one training, watched


class Watch:
    """Notes processor time and clock at every optimizer step of this process."""

    def __init__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.rows: list[tuple[float, float]] = []
        register_optimizer_step_post_hook(lambda *_: self.rows.append((time.process_time(), time.time())))

    def figures(self, began: float) -> dict[str, float]:
        counted = self.rows[WARM:]
        steps = len(counted) - 1
        return {
            "cpuMs": (counted[-1][0] - counted[0][0]) / steps * 1000,
            "wallMs": (counted[-1][1] - counted[0][1]) / steps * 1000,
            "firstStepSeconds": self.rows[0][1] - began,
            "totalCpuSeconds": time.process_time(),
            "peakMib": peak_mib(),
        }


def peak_mib() -> float:
    """Return the highest resident memory of this process so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def child(side: str, arguments: list[str]) -> None:
    """Train as `side` and print the figures as the last line."""
    began = float(os.environ["BENCH_BEGAN"])
    watch = Watch()
    if side == "ours":
        import train_lora

        if code := train_lora.main(arguments):
            sys.exit(code)
    else:
        import runpy

        stand_ins()
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    print("\n" + json.dumps(watch.figures(began)), flush=True)


def stand_ins() -> None:
    """Put `torchvision.transforms` and `datasets` in place for the script, after the libraries looked for the real ones."""
    import random
    from enum import Enum

    import numpy
    import torch
    import transformers  # noqa: F401
    from diffusers import StableDiffusionPipeline  # noqa: F401
    from peft import LoraConfig  # noqa: F401
    from PIL import Image
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

    class InterpolationMode(Enum):
        NEAREST, BILINEAR, BICUBIC, LANCZOS = "nearest", "bilinear", "bicubic", "lanczos"

    class Compose:
        def __init__(self, parts: list[Any]) -> None:
            self.parts = parts

        def __call__(self, image: Any) -> Any:
            for part in self.parts:
                image = part(image)
            return image

    def resize(side: int, interpolation: Any) -> Any:
        method = Image.Resampling[interpolation.name]

        def apply(image: Any) -> Any:
            if min(image.size) == side:
                return image
            scale = side / min(image.size)
            return image.resize((round(image.width * scale), round(image.height * scale)), method)

        return apply

    def crop(side: int, place: Any) -> Any:
        def apply(image: Any) -> Any:
            if image.size == (side, side):
                return image
            left, top = place(image.width - side), place(image.height - side)
            return image.crop((left, top, left + side, top + side))

        return apply

    def to_tensor(image: Any) -> Any:
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)

    transforms: Any = ModuleType("torchvision.transforms")
    transforms.InterpolationMode = InterpolationMode
    transforms.Compose = Compose
    transforms.Resize = resize
    transforms.CenterCrop = lambda side: crop(side, lambda rest: rest // 2)
    transforms.RandomCrop = lambda side: crop(side, lambda rest: random.randint(0, rest))
    transforms.RandomHorizontalFlip = lambda: (
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image
    )
    transforms.Lambda = lambda function: function
    transforms.ToTensor = lambda: to_tensor
    transforms.Normalize = lambda mean, deviation: lambda tensor: (tensor - mean[0]) / deviation[0]
    torchvision: Any = ModuleType("torchvision")
    torchvision.transforms = transforms

    class Folder:
        column_names = ["image", "text"]

        def __init__(self, rows: list[tuple[bytes, str]], transform: Any = None) -> None:
            self.rows, self.transform = rows, transform

        def with_transform(self, transform: Any) -> Folder:
            return Folder(self.rows, transform)

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, number: int) -> dict[str, Any]:
            return self.__getitems__([number])[0]

        def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
            import io

            found = {"image": [Image.open(io.BytesIO(self.rows[n][0])) for n in numbers],
                     "text": [self.rows[n][1] for n in numbers]}  # fmt: skip
            found = self.transform(found)
            return [{name: column[i] for name, column in found.items()} for i in range(len(numbers))]

    def load_dataset(kind: str, data_files: dict[str, str], cache_dir: Any = None) -> dict[str, Folder]:
        folder = Path(data_files["train"]).parent
        lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        return {"train": Folder([((folder / line["file_name"]).read_bytes(), line["text"]) for line in lines])}

    datasets: Any = ModuleType("datasets")
    datasets.load_dataset = load_dataset
    datasets.utils = ModuleType("datasets.utils")
    datasets.utils.logging = transformers.utils.logging
    sys.modules |= {
        "torchvision": torchvision, "torchvision.transforms": transforms, "datasets": datasets,
        "datasets.utils": datasets.utils,
    }  # fmt: skip


def make_model(folder: Path) -> None:
    """Write a model with the layout of Stable Diffusion 1.5 at a fraction of its width. Random weights."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "models" / "starter" / "tokenizer")
    width = 768 // NARROW
    pipe: Any = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=tuple(c // NARROW for c in (128, 256, 512, 512)), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=SIDE,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=12,
                num_attention_heads=12, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=SIDE // 8, block_out_channels=tuple(c // NARROW for c in (320, 640, 1280, 1280)),
            layers_per_block=2, cross_attention_dim=width, attention_head_dim=8, norm_num_groups=16,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)


def judge(model: Path, data: Path, files: list[Path]) -> None:
    """Print the model's error on the pictures at fixed noise, without and with each file."""
    import numpy
    import torch
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from PIL import Image

    pipe = StableDiffusionPipeline.from_pretrained(model, local_files_only=True, safety_checker=None)
    schedule = DDPMScheduler.from_config(pipe.scheduler.config)
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    pixels = [numpy.asarray(Image.open(data / row["file_name"]).convert("RGB")) for row in rows]
    images = torch.from_numpy(numpy.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    ids = pipe.tokenizer([row["text"] for row in rows], padding="max_length", truncation=True, return_tensors="pt")
    errors: list[float] = []
    with torch.no_grad():
        clean = pipe.vae.encode(images).latent_dist.mode() * pipe.vae.config.scaling_factor
        text = pipe.text_encoder(ids.input_ids)[0]
        for file in [None, *files]:
            if file is not None:
                pipe.load_lora_weights(file, adapter_name=f"{len(errors)}")
                pipe.set_adapters([f"{len(errors)}"])
            generator = torch.Generator().manual_seed(1)
            found = []
            for level in (100, 300, 500, 700, 900):
                noise = torch.randn(clean.shape, generator=generator)
                levels = torch.full((len(clean),), level)
                out = pipe.unet(schedule.add_noise(clean, noise, levels), levels, text).sample
                target = (
                    schedule.get_velocity(clean, noise, levels)
                    if schedule.config["prediction_type"] == "v_prediction"
                    else noise
                )
                found.append(float((out - target).pow(2).mean()))
            errors.append(sum(found) / len(found))
    print("\n" + json.dumps(errors))


# ---------------------------------------------------------------- the parent: rounds


def call(*arguments: str) -> Any:
    """Run this file in a process of its own; return the last line it printed."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
        "BENCH_BEGAN": str(time.time()), "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.training_step", *arguments], cwd=ROOT, env=environment, text=True,
        capture_output=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{arguments[0]} {arguments[1]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def pictures(folder: Path) -> Path:
    """Draw the demo character with captions in both forms: .txt for us, metadata.jsonl for the script.

    The folder gets the twelve pictures of the demo set, `<folder>-held-out` 24 others of her.
    """
    from tools.starter_model.demo import demo_set, write

    drawn = demo_set()
    for place, examples in ((folder, drawn.train), (folder.with_name(f"{folder.name}-held-out"), drawn.held_out)):
        lines = [
            json.dumps({"file_name": path.name, "text": example.caption})
            for path, example in zip(write(place, examples), examples, strict=True)
        ]
        (place / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def ours(model: Path, data: Path, out: Path, steps: int) -> dict[str, Any]:
    config = {
        "name": "luna", "baseModel": str(model), "datasetFolder": str(data), "outputFolder": str(out),
        "runFolder": str(out / "run"), "steps": steps, "batchSize": BATCH, "resolution": SIDE, "bucketStep": 64,
        "rank": RANK, "targets": "attention", "convRank": 0, "learningRate": RATE, "lrScheduler": "constant",
        "warmup": 0, "captionDropout": 0, "minSnrGamma": 5, "mixedPrecision": "no", "ema": False, "sampleEvery": 0,
        "saveEvery": 0, "validation": {"count": 0}, "cacheToDisk": False, "device": "cpu", "seed": 1,
    }  # fmt: skip
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps(config))
    found: dict[str, Any] = call("--child", "ours", "--config", str(out / "config.json"))
    return found


def theirs(script: Path, model: Path, data: Path, out: Path, steps: int) -> dict[str, Any]:
    options = {
        "pretrained_model_name_or_path": model, "train_data_dir": data, "output_dir": out, "max_train_steps": steps,
        "train_batch_size": BATCH, "resolution": SIDE, "rank": RANK, "learning_rate": RATE, "lr_scheduler": "constant",
        "lr_warmup_steps": 0, "snr_gamma": 5.0, "checkpointing_steps": 10**6, "seed": 1,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items()]
    found: dict[str, Any] = call("--child", "theirs", str(script), *words)
    return found


def compare(kind: str, model: Path, script: Path, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    data = pictures(folder / f"pictures-{kind}")
    sides = {
        "ours": lambda out: ours(model, data, out, args.steps),
        "script": lambda out: theirs(script, model, data, out, args.steps),
    }
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "script": []}
    for number in range(args.rounds):
        for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
            rows[side].append(sides[side](folder / f"{kind}-{side}-{number}"))
    middle = {side: {key: median([row[key] for row in rows[side]]) for key in rows[side][0]} for side in rows}
    ratio = median([b["cpuMs"] / a["cpuMs"] for a, b in zip(rows["ours"], rows["script"], strict=True)])
    table(
        f"{kind}: {args.steps} steps of {BATCH} pictures, medians of {args.rounds} rounds",
        ["", "CPU ms/step", "wall ms/step", "first step s", "all CPU s", "peak MiB"],
        [[side, *[round(row[key], 1) for key in row]] for side, row in middle.items()],
    )
    print(f"  processor time per step: {ratio:.2f} times less (goal: at least {GOALS[kind]})")
    first, last = folder / f"{kind}-ours-0" / "luna.safetensors", folder / f"{kind}-script-0"
    files = [str(first), str(last / "pytorch_lora_weights.safetensors")]
    errors: dict[str, dict[str, float]] = {}
    for name, place in (("trained on", data), ("held out", data.with_name(f"{data.name}-held-out"))):
        found = call("--judge", str(model), str(place), *files)
        errors[name] = dict(zip(("base", "ours", "script"), found, strict=True))
        print(f"  error, pictures {name}: {found[0]:.4f} without, {found[1]:.4f} our file, {found[2]:.4f} theirs")
    print(f"  memory: {middle['ours']['peakMib'] / middle['script']['peakMib']:.2f} of theirs (goal: never above 1)")
    return {"model": kind, "steps": args.steps, "rounds": args.rounds, "ratio": ratio, "goal": GOALS[kind], **middle,
            "errors": errors}  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--make-model"]:
        make_model(Path(sys.argv[2]))
        return print("\ntrue")
    if sys.argv[1:2] == ["--judge"]:
        return judge(Path(sys.argv[2]), Path(sys.argv[3]), [Path(p) for p in sys.argv[4:]])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, help="train_text_to_image_lora.py of diffusers")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", choices=list(GOALS), default=list(GOALS))
    args = parser.parse_args()
    script = args.script or Path(os.environ.get("DALLA_DIFFUSERS_SCRIPT", "nowhere"))
    if not script.is_file():
        sys.exit(
            "Give diffusers' example with --script or DALLA_DIFFUSERS_SCRIPT: train_text_to_image_lora.py from\n"
            "https://github.com/huggingface/diffusers/tree/main/examples/text_to_image"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in args.models:
            model = ROOT / "models" / "starter"
            if kind != "starter":
                model = folder / "model"
                call("--make-model", str(model))
            save("training_step", compare(kind, model, script.resolve(), folder, args))


if __name__ == "__main__":
    main()
