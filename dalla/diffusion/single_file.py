"""Read the parts of a model out of one .safetensors file, in the layout its family publishes.

Sizes (channels, layers, widths) are measured from the weights; `configs/<family>/` holds the rest:
what cannot be seen in a shape, such as the scaling of the latents. Parts a file lacks are looked
for in the models folder (`text_encoders/`, `vae/`, `tokenizers/t5/`). Nothing is downloaded.
"""

from __future__ import annotations

import lzma
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from dalla.diffusion import flux_layout
from dalla.diffusion.families.base import CONFIGS, find_part, read_config
from dalla.errors import NotConfigured, StorageError

UNET = "model.diffusion_model."
_OPEN_CLIP = (
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)


class Weights:
    """One file, opened lazily: a tensor is read when a part is built from it."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            self._file = safe_open(str(path), "pt")
            self.keys = list(self._file.keys())
        except (OSError, SafetensorError) as exc:
            raise StorageError(
                f"'{path.name}' cannot be read: {exc}", remedy="Copy the file again; it may be cut off."
            ) from exc

    def under(self, prefix: str) -> dict[str, Any]:
        """Return the tensors whose key starts with `prefix`, the prefix removed."""
        return {key[len(prefix) :]: self._file.get_tensor(key) for key in self.keys if key.startswith(prefix)}

    def has(self, key: str) -> bool:
        return key in self.keys

    # --- denoisers ---

    def unet(self, config: Path, dtype: Any) -> Any:
        from diffusers import UNet2DConditionModel

        tensors = self.under(UNET)
        if "input_blocks.0.0.weight" not in tensors:
            raise StorageError(f"'{self.path.name}' holds no U-Net in the layout of this family.")
        measured = measure_unet({key: tuple(t.shape) for key, t in tensors.items()})
        return self._convert(UNet2DConditionModel, tensors, UNET, config, "unet", dtype, measured)

    def sd3_transformer(self, config: Path, dtype: Any) -> Any:
        from diffusers import SD3Transformer2DModel

        tensors = self.under(UNET)
        if "joint_blocks.0.context_block.attn.qkv.weight" not in tensors:
            raise StorageError(f"'{self.path.name}' holds no Stable Diffusion 3 transformer.")
        measured = measure_sd3({key: tuple(t.shape) for key, t in tensors.items()})
        return self._convert(SD3Transformer2DModel, tensors, "", config, "transformer", dtype, measured)

    def flux_transformer(self, dtype: Any) -> Any:
        tensors = self.under(UNET) or self.under("")
        if "double_blocks.0.img_attn.qkv.weight" not in tensors:
            raise StorageError(f"'{self.path.name}' holds no FLUX transformer in its published layout.")
        try:
            return flux_layout.build(tensors, dtype)
        except (KeyError, ValueError, RuntimeError) as exc:
            raise self._misfit("transformer", exc) from exc

    def flux_has_guidance(self) -> bool:
        return any("guidance_in." in key for key in self.keys)

    def discrete_scheduler(self, config: Path) -> Any:
        """Return the family's scheduler; files trained on velocity say so by an empty `v_pred` tensor."""
        from diffusers import DDIMScheduler

        values = read_config(config / "scheduler" / "scheduler_config.json")
        if self.has("v_pred"):
            values["prediction_type"] = "v_prediction"
            values["rescale_betas_zero_snr"] = self.has("ztsnr")
        return DDIMScheduler(**values)

    # --- the other parts ---

    def vae(self, config: Path, dtype: Any, prefixes: tuple[str, ...], parts: Path | None, name: str) -> Any:
        from diffusers import AutoencoderKL

        for prefix in prefixes:
            if self.has(f"{prefix}decoder.conv_in.weight"):
                tensors = self.under(prefix)
                break
        else:
            found = find_part(
                parts, "vae", (f"{name}.safetensors", f"{name}*.safetensors"), "VAE", f"'{self.path.name}'"
            )
            tensors = Weights(found).under("")
        measured = measure_vae({key: tuple(t.shape) for key, t in tensors.items()})
        return self._convert(AutoencoderKL, tensors, "first_stage_model.", config, "vae", dtype, measured)

    def clip(
        self, config: Path, dtype: Any, prefix: str, parts: Path | None, name: str, *, projection: bool = False
    ) -> Any:
        """Build a CLIP text encoder from the tensors under `prefix`, or from `text_encoders/<name>`."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        tensors = self.under(prefix)
        if not tensors:
            patterns = (f"{name}.safetensors", f"{name}*.safetensors")
            found = find_part(parts, "text_encoders", patterns, f"text encoder {name}", f"'{self.path.name}'")
            tensors = Weights(found).under("")
        if "ln_final.weight" in tensors:
            tensors = from_open_clip(tensors)
        tensors = {
            k if k.startswith(("text_model.", "text_projection")) else f"text_model.{k}": t for k, t in tensors.items()
        }
        embedding = tensors["text_model.embeddings.token_embedding.weight"]
        width = embedding.shape[1]
        values = read_config(config / "config.json") | {
            "vocab_size": embedding.shape[0],
            "hidden_size": width,
            "projection_dim": width,
            "num_attention_heads": max(1, width // 64),
            "num_hidden_layers": _count(tensors, r"text_model\.encoder\.layers\.(\d+)\."),
            "intermediate_size": tensors["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            "max_position_embeddings": tensors["text_model.embeddings.position_embedding.weight"].shape[0],
        }
        if projection and ("text_projection.weight" not in tensors or name == "clip_l"):
            import torch

            tensors["text_projection.weight"] = torch.eye(width)  # SD3's first encoder is used unprojected
        cls = CLIPTextModelWithProjection if projection else CLIPTextModel
        return self._fill(cls, CLIPTextConfig(**values), tensors, dtype, f"text encoder {name}")

    def t5(self, config: Path, dtype: Any, parts: Path | None, *, required: bool) -> tuple[Any, Any]:
        """Return (encoder, tokenizer); (None, None) when a piece is missing and not `required`."""
        import torch
        from transformers import T5Config, T5EncoderModel

        try:
            tokenizer = t5_tokenizer(parts, self.path.name)
            tensors = self.under("text_encoders.t5xxl.transformer.")
            if not tensors:
                found = find_part(
                    parts, "text_encoders", ("t5xxl*.safetensors",), "text encoder t5xxl", f"'{self.path.name}'"
                )
                tensors = Weights(found).under("")
        except NotConfigured:
            if required:
                raise
            return None, None
        tensors.setdefault("encoder.embed_tokens.weight", tensors["shared.weight"])
        values = read_config(config / "config.json") | {
            "vocab_size": tensors["shared.weight"].shape[0],
            "d_model": tensors["shared.weight"].shape[1],
            "d_ff": tensors["encoder.block.0.layer.1.DenseReluDense.wo.weight"].shape[1],
            "num_layers": _count(tensors, r"encoder\.block\.(\d+)\."),
            "num_heads": tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1],
        }
        model = self._fill(T5EncoderModel, T5Config(**values), tensors, dtype, "text encoder t5xxl")
        if dtype == torch.float16:  # T5's last projections overflow in half precision
            for name, parameter in model.named_parameters():
                if ".wo." in name:
                    parameter.data = parameter.data.float()
        return model, tokenizer

    def _convert(
        self,
        cls: Any,
        tensors: dict[str, Any],
        prefix: str,
        config: Path,
        part: str,
        dtype: Any,
        measured: dict[str, Any],
    ) -> Any:
        tensors = {prefix + key: value.to(dtype) for key, value in tensors.items()}
        try:
            return cls.from_single_file(
                tensors, config=str(config), subfolder=part, dtype=dtype, local_files_only=True, **measured
            )
        except (ValueError, KeyError, RuntimeError, IndexError) as exc:
            raise self._misfit(part, exc) from exc

    def _misfit(self, part: str, exc: Exception) -> StorageError:
        why = (str(exc).partition(" If you want")[0].splitlines() or [type(exc).__name__])[0][:300]
        return StorageError(
            f"The {part} in '{self.path.name}' does not match its family: {why}",
            remedy="Fetch the file again if it may be cut off, or set its family under Settings, Models and weights.",
        )

    def _fill(self, cls: Any, config: Any, tensors: dict[str, Any], dtype: Any, what: str) -> Any:
        from accelerate import init_empty_weights

        with init_empty_weights():
            model = cls(config)
        nested = any(key.startswith("text_model.") for key in model.state_dict())
        if not nested:
            tensors = {key.removeprefix("text_model."): t for key, t in tensors.items()}
        tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
        missing, _ = model.load_state_dict(tensors, strict=False, assign=True)
        lost = [key for key in missing if not key.endswith("position_ids")]
        if lost:
            raise StorageError(
                f"The {what} of '{self.path.name}' is incomplete: {lost[0]} and {len(lost) - 1} more are missing."
            )
        return model.eval()


def measure_unet(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read a U-Net's config off the shapes of its published layout."""
    channels, counts, depths = [], [0], [0]
    number = 1
    while f"input_blocks.{number}.0.in_layers.2.weight" in shapes or f"input_blocks.{number}.0.op.weight" in shapes:
        if f"input_blocks.{number}.0.op.weight" in shapes:
            counts.append(0)
            depths.append(0)
        else:
            if not counts[-1]:
                channels.append(shapes[f"input_blocks.{number}.0.out_layers.3.weight"][0])
            counts[-1] += 1
            depths[-1] = _count(shapes, rf"input_blocks\.{number}\.1\.transformer_blocks\.(\d+)\.")
        number += 1
    linear = any(key.endswith("proj_in.weight") and len(shape) == 2 for key, shape in shapes.items())
    context = next(shape[1] for key, shape in shapes.items() if key.endswith("attn2.to_k.weight"))
    down = tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths)
    measured: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(channels),
        "layers_per_block": counts[0],
        "down_block_types": down,
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(down)),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in depths),
        "cross_attention_dim": context,
        "use_linear_projection": linear,
        # Not visible in a shape: models with linear projections have heads 64 wide, older ones 8 heads.
        "attention_head_dim": tuple(max(1, c // 64) for c in channels) if linear else 8,
    }
    if "label_emb.0.0.weight" in shapes:
        measured["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return measured


def measure_vae(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read an autoencoder's config off its shapes. Nothing for one that has diffusers' own names."""
    if "encoder.down.0.block.0.conv2.weight" not in shapes:
        return {}
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    return {
        "block_out_channels": tuple(shapes[f"encoder.down.{i}.block.0.conv2.weight"][0] for i in range(levels)),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def measure_sd3(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Read an SD3 transformer's config off its shapes (medium, 3.5 medium and large differ)."""
    width = shapes["x_embedder.proj.weight"][0]
    return {
        "in_channels": shapes["x_embedder.proj.weight"][1],
        "patch_size": shapes["x_embedder.proj.weight"][2],
        "num_layers": _count(shapes, r"joint_blocks\.(\d+)\."),
        "attention_head_dim": 64,
        "num_attention_heads": width // 64,
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["y_embedder.mlp.0.weight"][1],
        "pos_embed_max_size": round(shapes["pos_embed"][1] ** 0.5),
        "qk_norm": "rms_norm" if any(".ln_q." in key for key in shapes) else None,
        "dual_attention_layers": tuple(
            sorted({int(m[1]) for key in shapes if (m := re.match(r"joint_blocks\.(\d+)\.x_block\.attn2\.", key))})
        ),
    }


def from_open_clip(tensors: dict[str, Any]) -> dict[str, Any]:
    """Rename an OpenCLIP text encoder's tensors; its joined query, key and value are split."""
    out = {}
    for key, tensor in tensors.items():
        new = key
        for old, name in _OPEN_CLIP:
            new = new.replace(old, name)
        if key == "text_projection":
            out["text_projection.weight"] = tensor.T.contiguous()
        elif ".attn.in_proj_" in key:
            stem, kind = new.split(".attn.in_proj_")
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                out[f"{stem}.self_attn.{part}_proj.{kind}"] = piece.clone()
        elif new.startswith("text_model."):
            out[new] = tensor
    return out


@lru_cache(maxsize=4)
def clip_tokenizer(pad: str = "<|endoftext|>") -> Any:
    """Build CLIP's tokenizer from its merges; SDXL's and SD3's second one pads with "!"."""
    from transformers import CLIPTokenizer

    lines = (
        lzma.decompress((CONFIGS / "tokenizers" / "clip" / "merges.txt.xz").read_bytes()).decode("utf-8").split("\n")
    )
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # Bytes without a visible character of their own stand as the characters from 256 on, in order.
    letters = [chr(b) for b in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    words = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, pad_token=pad, model_max_length=77
    )


def t5_tokenizer(parts: Path | None, needed_by: str) -> Any:
    """Load T5's tokenizer from the models folder. Raises NotConfigured saying which file goes where."""
    from transformers import AutoTokenizer, T5TokenizerFast

    folder = (parts or Path("models")) / "tokenizers" / "t5"
    if (folder / "tokenizer.json").is_file():
        if (folder / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return T5TokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    if (folder / "spiece.model").is_file():
        return T5TokenizerFast.from_pretrained(str(folder), local_files_only=True)
    raise NotConfigured(
        f"'{needed_by}' needs T5's tokenizer.",
        remedy=f"Put tokenizer.json (or spiece.model) of t5-v1_1-xxl into {folder}.",
    )


def flow_scheduler(config: Path, *, schnell: bool = False) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    values = read_config(config / "scheduler" / "scheduler_config.json")
    if schnell:  # distilled to few steps: no shift of the schedule
        values = {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False}
    return FlowMatchEulerDiscreteScheduler(**values)


def _count(keys: Any, pattern: str) -> int:
    """Return how many different numbers `pattern` captures among the keys."""
    return len({match[1] for key in keys if (match := re.match(pattern, key))})
