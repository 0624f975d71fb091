"""How the layers of a LoRA are called, and the way from one program's names to another's.

kohya's flat names (`lora_unet_down_blocks_0_…`) lost their dots and come with three spellings of the blocks: diffusers',
the original code's (`input_blocks_4_1_…`), and joined projections (`double_blocks_0_img_attn_qkv`). A layer is said here
as (component, module): the attribute of a diffusers pipeline, and the path of the module in it. Pure; no file is read.
"""

from __future__ import annotations

import re

from dalla.weights import Header

#: Families whose denoiser is a transformer.
FLOW = ("sd3", "flux")
#: Family -> what kohya's tools call its base model. A1111 takes anything else for Stable Diffusion 1.
BASE_VERSIONS = {"sd15": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "sd3": "sd3m", "flux": "flux1"}
RESNET = {
    "in_layers_2": "conv1", "out_layers_3": "conv2", "emb_layers_1": "time_emb_proj", "skip_connection": "conv_shortcut"
}  # fmt: skip
SGM_ENDS = {
    "input_blocks_0_0": "conv_in", "out_2": "conv_out", "time_embed_0": "time_embedding.linear_1",
    "time_embed_2": "time_embedding.linear_2", "label_emb_0_0": "add_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
}  # fmt: skip
_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
#: Layers of the original transformers: flat name with the number of the block, diffusers' block, name -> modules.
JOINED: tuple[tuple[re.Pattern[str], str, dict[str, tuple[str, ...]]], ...] = (
    (
        re.compile(r"joint_blocks_(\d+)_((?:x|context)_block_.+)"),
        "transformer_blocks",
        {
            "x_block_attn_qkv": _QKV, "x_block_attn_proj": ("attn.to_out.0",),
            "x_block_attn2_qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"), "x_block_attn2_proj": ("attn2.to_out.0",),
            "x_block_mlp_fc1": ("ff.net.0.proj",), "x_block_mlp_fc2": ("ff.net.2",),
            "context_block_attn_qkv": _ADDED, "context_block_attn_proj": ("attn.to_add_out",),
            "context_block_mlp_fc1": ("ff_context.net.0.proj",), "context_block_mlp_fc2": ("ff_context.net.2",),
        },
    ),
    (
        re.compile(r"double_blocks_(\d+)_(.+)"),
        "transformer_blocks",
        {
            "img_attn_qkv": _QKV, "img_attn_proj": ("attn.to_out.0",), "img_mlp_0": ("ff.net.0.proj",),
            "img_mlp_2": ("ff.net.2",), "img_mod_lin": ("norm1.linear",), "txt_attn_qkv": _ADDED,
            "txt_attn_proj": ("attn.to_add_out",), "txt_mlp_0": ("ff_context.net.0.proj",),
            "txt_mlp_2": ("ff_context.net.2",), "txt_mod_lin": ("norm1_context.linear",),
        },
    ),
    (
        re.compile(r"single_blocks_(\d+)_(.+)"),
        "single_transformer_blocks",
        {
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), "linear2": ("proj_out",),
            "modulation_lin": ("norm.linear",),
        },
    ),
)  # fmt: skip
#: Layers of the original transformers outside their blocks. FLUX's and SD3's last modulation is not here: diffusers
#: has its halves the other way round.
FLOW_ENDS = {
    "flux": {
        "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer_linear": "proj_out",
        "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
        "time_in_out_layer": "time_text_embed.timestep_embedder.linear_2",
        "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
        "vector_in_out_layer": "time_text_embed.text_embedder.linear_2",
        "guidance_in_in_layer": "time_text_embed.guidance_embedder.linear_1",
        "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
    },
    "sd3": {
        "x_embedder_proj": "pos_embed.proj", "context_embedder": "context_embedder", "final_layer_linear": "proj_out",
        "t_embedder_mlp_0": "time_text_embed.timestep_embedder.linear_1",
        "t_embedder_mlp_2": "time_text_embed.timestep_embedder.linear_2",
        "y_embedder_mlp_0": "time_text_embed.text_embedder.linear_1",
        "y_embedder_mlp_2": "time_text_embed.text_embedder.linear_2",
    },
}  # fmt: skip
#: The words that modules' paths are made of; longer ones are taken first.
_WORDS = frozenset(
    "down_blocks up_blocks mid_block resnets attentions downsamplers upsamplers conv conv1 conv2 conv_in conv_out"
    " conv_shortcut time_emb_proj time_embedding add_embedding linear linear_1 linear_2 proj_in proj_out"
    " transformer_blocks single_transformer_blocks attn attn1 attn2 to_q to_k to_v to_out to_add_out add_q_proj"
    " add_k_proj add_v_proj ff ff_context net proj proj_mlp norm norm1 norm1_context norm_out pos_embed x_embedder"
    " context_embedder time_text_embed timestep_embedder guidance_embedder text_embedder text_model encoder layers"
    " self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 text_projection".split()
)
_LONGEST = 4  # words joined by "_" in one name
#: How the paths of a part's modules begin.
UNET = re.compile(r"(?:down_blocks|up_blocks|mid_block|conv_in|conv_out|conv_norm_out|time_embedding|add_embedding)\b")
TRANSFORMER = re.compile(
    r"(?:transformer_blocks|single_transformer_blocks|x_embedder|context_embedder|time_text_embed|norm_out|proj_out|pos_embed)\b"
)
TEXT = re.compile(r"(?:text_model\.)?(?:encoder\.layers|embeddings|final_layer_norm)\.|text_projection\b")
_FLAT = re.compile(r"lora_(?:(unet|transformer)|te([123]?))_(.+)")
_COMFY = re.compile(r"(?:(diffusion_model)|text_encoders\.clip_([lg])\.transformer)\.(.+)")
_SGM = re.compile(
    r"(?P<way>input|output)_blocks_(?P<number>\d+)_(?P<slot>\d)_(?P<tail>.+)|middle_block_(?P<part>\d)_(?P<rest>.+)"
)


# ---------------------------------------------------------------- reading names


def modules_of(layer: str, family: str | None, second_encoder: bool = False) -> tuple[str, tuple[str, ...]] | None:
    """Return (component, modules) of a layer under any program's name; None when it is not known.

    Several modules: a joined projection, its rows are theirs one after the other. `second_encoder`: a text encoder's
    layers without a component are SDXL's wide one's (`is_second_encoder`). Blocks of the original U-Net are counted
    with two ResNets each, as SD1.5, SDXL and their distilled kin have them.
    """
    if found := _FLAT.fullmatch(layer):
        if found[1] is None:
            path = dotted(found[3])
            return (_encoder(found[2]), (with_text_model(path),)) if path and TEXT.match(path) else None
        component, flat = ("transformer" if family in FLOW else "unet"), found[3]
    elif found := _COMFY.fullmatch(layer):
        if found[1] is None:
            return ("text_encoder" if found[2] == "l" else "text_encoder_2"), (with_text_model(found[3]),)
        component, flat = ("transformer" if family in FLOW else "unet"), found[3].replace(".", "_")
    else:
        return _plain(layer, family, second_encoder)
    if component == "transformer":
        if modules := joined(flat):
            return component, modules
        path = dotted(flat)
        return (component, (path,)) if path and TRANSFORMER.match(path) else None
    path = from_sgm(flat) or dotted(flat)
    return (component, (path,)) if path and UNET.match(path) else None


def _encoder(number: str) -> str:
    return "text_encoder" if number in ("", "1") else f"text_encoder_{number}"


def _plain(layer: str, family: str | None, second_encoder: bool) -> tuple[str, tuple[str, ...]] | None:
    part, plain = split_layer(layer)
    if part in (None, "unet") and UNET.match(plain):
        plain = plain.replace(".processor.", ".")
        return "unet", (f"{plain}.0" if plain.endswith(".to_out") else plain,)  # old processors left the index out
    if part in (None, "transformer") and TRANSFORMER.match(plain):
        return "transformer", (plain,)
    if part not in ("unet", "transformer") and TEXT.match(plain):
        own = part or ("text_encoder_2" if second_encoder else "text_encoder")
        return own, (with_text_model(plain),)
    return None


def dotted(flat: str) -> str | None:
    """Return the path of a module whose dots were made underscores; None when it has a word nobody knows."""
    parts, out, at = flat.split("_"), [], 0
    while at < len(parts):
        for end in range(min(len(parts), at + _LONGEST), at, -1):
            word = "_".join(parts[at:end])
            if word in _WORDS or word.isdigit():
                out.append(word)
                at = end
                break
        else:
            return None
    return ".".join(out)


def from_sgm(flat: str) -> str | None:
    """Return diffusers' path of a U-Net's module that has the original code's flat name; None for another name."""
    if known := SGM_ENDS.get(flat):
        return known
    found = _SGM.fullmatch(flat)
    if found is None:
        return None
    if found["part"] is not None:
        start = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}.get(
            found["part"]
        )
        return _inside(start, found["rest"]) if start else None
    number, slot, tail = int(found["number"]), found["slot"], found["tail"]
    if found["way"] == "input":
        level, n = divmod(number - 1, 3)
        if n == 2:
            return f"down_blocks.{level}.downsamplers.0.conv" if tail == "op" else None
        blocks = f"down_blocks.{level}"
    else:
        level, n = divmod(number, 3)
        blocks = f"up_blocks.{level}"
        if tail == "conv":
            return f"{blocks}.upsamplers.0.conv"
    return _inside(f"{blocks}.{'resnets' if slot == '0' else 'attentions'}.{n}", tail)


def _inside(start: str, tail: str) -> str | None:
    if ".resnets." in start:
        return f"{start}.{RESNET[tail]}" if tail in RESNET else None
    path = dotted(tail)
    return f"{start}.{path}" if path else None


def joined(flat: str) -> tuple[str, ...]:
    """Return the modules that a layer of an original transformer means; () for another name."""
    for pattern, blocks, table in JOINED:
        if found := pattern.fullmatch(flat):
            return tuple(f"{blocks}.{found[1]}.{module}" for module in table.get(found[2], ()))
    return next(((ends[flat],) for ends in FLOW_ENDS.values() if flat in ends), ())


def split_layer(layer: str) -> tuple[str | None, str]:
    """Split `unet.down_blocks…` into its component and the module path. None: the name has no component."""
    layer = layer.removeprefix("base_model.model.")
    head, _, rest = layer.partition(".")
    if head in ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"):
        return head, rest.removeprefix("base_model.model.")
    return None, layer


def with_text_model(plain: str) -> str:
    """Spell a text encoder's path with the level that newer libraries have dropped and programs expect."""
    return plain if plain.startswith(("text_model.", "text_projection")) else f"text_model.{plain}"


def half_of(tail: re.Match[str]) -> str | None:
    """Return down or up for the two halves of a LoRA layer, whatever they are called."""
    groups = tail.groupdict()
    if groups["peft"]:
        return {"A": "down", "B": "up"}[groups["peft"]]
    return groups["kohya"] or groups["diffusers"] or groups["linear"] or groups["old"]


def is_second_encoder(header: Header) -> bool:
    """Whether text-encoder layers without a component belong to SDXL's wide encoder."""
    return any(
        re.search(r"self_attn\.[qkv]_proj\.(?:lora_A|lora\.down|lora_linear_layer\.down)\.", k)
        and v.shape[-1:] == (1280,)
        for k, v in header.items()
    )


# ---------------------------------------------------------------- writing names


def kohya_name(component: str, module: str, family: str | None) -> tuple[str, int, tuple[str, ...]] | None:
    """Return (flat name, place in it, all modules that share it) of a module in kohya's file of the family.

    None: sd-scripts has no name for it. A place beyond 0 means rows after those of the modules before it.
    """
    if component in ("unet", "transformer"):
        if family is None or family not in FLOW:
            return (f"lora_unet_{module.replace('.', '_')}", 0, (module,)) if component == "unet" else None
        return _joined_name(module, family)
    if not TEXT.match(module):
        return None
    number = component.removeprefix("text_encoder").removeprefix("_") or "1"
    prefix = "lora_te_" if family not in ("sdxl", *FLOW) else f"lora_te{number}_"
    return f"{prefix}{with_text_model(module).replace('.', '_')}", 0, (module,)


def _joined_name(module: str, family: str) -> tuple[str, int, tuple[str, ...]] | None:
    found = re.fullmatch(r"((?:single_)?transformer_blocks)\.(\d+)\.(.+)", module)
    tables = JOINED[:1] if family == "sd3" else JOINED[1:]
    for pattern, blocks, table in tables:
        if found is None or blocks != found[1]:
            continue
        for name, members in table.items():
            if found[3] in members:
                start = pattern.pattern.partition("_(")[0]
                whole = tuple(f"{blocks}.{found[2]}.{member}" for member in members)
                return f"lora_unet_{start}_{found[2]}_{name}", members.index(found[3]), whole
    names = {path: flat for flat, path in FLOW_ENDS[family].items()}
    return (f"lora_unet_{names[module]}", 0, (module,)) if module in names else None
