"""A saved LoRA is the trained one: in diffusers' own loader, in ours, in its names, numbers and texts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402

from dalla import weights  # noqa: E402
from dalla.diffusion import kohya  # noqa: E402
from dalla.diffusion.families import family  # noqa: E402
from dalla.diffusion.loras import Loras, Use  # noqa: E402
from dalla.diffusion.training import export  # noqa: E402
from dalla.errors import Conflict, InvalidInput, StorageError  # noqa: E402
from dalla.settings import ROOT  # noqa: E402
from tests.diffusion import tiny  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
FAMILIES = ["sd15", "sdxl", "sd3", "flux"]
CONV = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv")
STARTER = ROOT / "models" / "starter"


def make(name: str) -> Any:
    torch.manual_seed(11)
    pipe = tiny.PIPELINES[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def attach(
    pipe: Any, name: str, which: str, *, rank: int = 4, alpha: float = 4, size: float = 0.2, **more: Any
) -> dict[str, int]:
    """Put a LoRA of random numbers on a pipeline, as the trainer does; return the layers by component."""
    layout = family(name).lora
    groups = {
        "attention": {layout.denoiser: layout.attention},
        "full": {layout.denoiser: layout.full},
        "conv": {layout.denoiser: (*layout.attention, *CONV)},
        "text": {component: layout.text for component in layout.prefixes if component != layout.denoiser},
        "all": {layout.denoiser: layout.full}
        | {component: layout.text for component in layout.prefixes if component != layout.denoiser},
    }[which]
    counts = {}
    torch.manual_seed(3)
    for component, targets in groups.items():
        part = getattr(pipe, component)
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), **more)
        part.requires_grad_(False)
        part.add_adapter(config, adapter_name="trained")
        counts[component] = 0
        for _, module in export.adapted(part):
            module.lora_A["trained"].weight.data.normal_(std=size)
            module.lora_B["trained"].weight.data.normal_(std=size)
            if "trained" in (vectors := getattr(module, "lora_magnitude_vector", {})):
                vectors["trained"].weight.data *= 1 + 0.2 * torch.randn_like(vectors["trained"].weight)
            counts[component] += 1
    return counts


def draw(pipe: Any, size: int = 64) -> Any:
    flux = type(pipe).__name__.startswith("Flux")
    more = {"guidance_scale": 3.5} if flux else {"guidance_scale": 3.0, "negative_prompt": "a dog"}
    out = pipe(
        "a cat on a mat", num_inference_steps=2, height=size, width=size, output_type="np",
        generator=torch.Generator().manual_seed(5), **more,
    )  # fmt: skip
    return out.images[0]


def gap(a: Any, b: Any) -> float:
    """Return the largest difference of two pictures in steps of 1/255."""
    return float(abs(a - b).max() * 255)


CASES = [
    *[(name, which) for name in FAMILIES for which in ("text", "all")],
    ("sd15", "attention"),
    ("sd15", "conv"),
    ("sdxl", "conv"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "which"), CASES)
def test_the_file_draws_what_the_adapter_in_memory_drew(tmp_path: Path, name: str, which: str) -> None:
    layout = family(name).lora
    pipe = make(name)
    plain = draw(pipe)
    counts = attach(pipe, name, which, alpha=8)
    trained = draw(pipe)
    assert gap(trained, plain) > 5
    path = tmp_path / "luna.safetensors"
    digest = export.save_lora(path, pipe, layout=layout, rank=4, dtype="fp32")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()

    verified = export.verify(pipe, path, layout)
    assert verified.ok and verified.problem() is None
    assert verified.matched == sum(counts.values())
    assert verified.max_difference < 1e-4 < verified.effect
    assert gap(draw(pipe), trained) == 0  # the adapter is still on, and alone

    fresh = make(name)
    fresh.load_lora_weights(str(tmp_path), weight_name=path.name)  # diffusers' own loader, told nothing
    assert gap(draw(fresh), trained) <= 1
    ours = make(name)
    loras = Loras(ours, family(name))
    assert loras.apply([Use("luna", str(path), 1.0)]) == []
    assert gap(draw(ours), trained) <= 1
    loras.remove()
    assert gap(draw(ours), plain) == 0


@pytest.mark.skipif(not (STARTER / "model_index.json").is_file(), reason="the starter model is not installed")
@pytest.mark.parametrize(("which", "dtype"), [("attention", "fp32"), ("conv", "bf16"), ("all", "fp16")])
def test_on_the_starter_model(tmp_path: Path, which: str, dtype: str) -> None:
    one = family("sd15")
    pipe = one.load_pipeline(STARTER, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    attach(pipe, "sd15", which, rank=8, alpha=8, size=0.05)
    trained = draw(pipe, 128)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=one.lora, rank=8, dtype=dtype)
    verified = export.verify(pipe, path, one.lora)
    assert verified.problem() is None
    fresh = one.load_pipeline(STARTER, torch.float32)
    fresh.set_progress_bar_config(disable=True)
    plain = draw(fresh, 128)
    fresh.load_lora_weights(str(tmp_path), weight_name=path.name)
    drawn = draw(fresh, 128)
    assert gap(trained, plain) > 5
    assert gap(drawn, trained) <= (1 if dtype == "fp32" else 4)
    assert float(abs(drawn - trained).mean() * 255) < 1


@pytest.mark.parametrize("name", FAMILIES)
def test_ranks_and_alphas_of_their_own_come_out_right(tmp_path: Path, name: str) -> None:
    """rsLoRA, and layers with another rank and alpha than the rest: the file holds what is applied."""
    layout = family(name).lora
    special = "to_out.0"
    for more in ({"use_rslora": True}, {"rank_pattern": {special: 2}, "alpha_pattern": {special: 5}}):
        pipe = make(name)
        attach(pipe, name, "attention", alpha=6, **more)
        trained = draw(pipe)
        path = tmp_path / f"luna-{len(more)}.safetensors"
        export.save_lora(path, pipe, layout=layout, dtype="fp32")
        assert export.verify(pipe, path, layout).problem() is None
        fresh = make(name)
        fresh.load_lora_weights(str(tmp_path), weight_name=path.name)
        assert gap(draw(fresh), trained) <= 1
        found = load_file(path)
        alphas = {float(value) for key, value in found.items() if key.endswith(".alpha")}
        if layout.style == "peft":
            assert not alphas
        else:
            assert alphas == ({12.0} if "use_rslora" in more else {6.0})  # one for all, or diffusers mixes them up
            assert all(v.dtype == torch.float32 for k, v in found.items() if k.endswith(".alpha"))
        path.unlink()


@pytest.mark.parametrize(
    ("name", "which"), [("sd15", "conv"), ("sd15", "text"), ("sdxl", "all"), ("sd3", "full"), ("flux", "full")]
)
def test_dora_keeps_its_magnitudes(tmp_path: Path, name: str, which: str) -> None:
    layout = family(name).lora
    pipe = make(name)
    counts = attach(pipe, name, which, alpha=8, use_dora=True)
    trained = draw(pipe)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout, dtype="fp32")
    found = load_file(path)
    scales = {key: value for key, value in found.items() if key.endswith(".dora_scale")}
    assert len(scales) == sum(counts.values())
    for key, value in scales.items():
        up = found[key.replace(".dora_scale", ".lora_up.weight" if layout.style == "kohya" else ".lora_B.weight")]
        assert value.shape == (up.shape[0], *[1] * (up.dim() - 1)) and value.dtype == torch.float32
    assert export.verify(pipe, path, layout).problem() is None
    ours = make(name)
    assert Loras(ours, family(name)).apply([Use("luna", str(path), 1.0)]) == []
    assert gap(draw(ours), trained) <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_names_are_those_that_load_everywhere(tmp_path: Path, name: str) -> None:
    layout = family(name).lora
    pipe = make(name)
    attach(pipe, name, "all", alpha=2)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout)
    keys = set(load_file(path))
    if name in ("sd3", "flux"):
        assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in keys
        assert "transformer.transformer_blocks.0.ff_context.net.0.proj.lora_B.weight" in keys
        assert "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight" in keys
        assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys)
    else:
        first = "lora_te_" if name == "sd15" else "lora_te1_"
        assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in keys
        assert "lora_unet_mid_block_attentions_0_proj_in.alpha" in keys
        assert f"{first}text_model_encoder_layers_1_self_attn_out_proj.lora_up.weight" in keys
        assert all(key.startswith(("lora_unet_", first, *(["lora_te2_"] if name == "sdxl" else []))) for key in keys)
    if name in ("sdxl", "sd3"):
        assert any("te2_" in key or "text_encoder_2." in key for key in keys)
    header = weights.read_header(path)
    assert weights.lora_family(header) == name
    assert weights.lora_format(header) == ("kohya" if layout.style == "kohya" else "diffusers")
    assert {info.dtype for key, info in header.items() if not key.endswith(".alpha")} == {"BF16"}


def test_the_scale_of_a_transformer_is_folded_into_the_up_matrix() -> None:
    layout = family("flux").lora
    down, up = torch.randn(4, 6), torch.randn(5, 4)
    rows = {"transformer": {"proj_out": kohya.Layer(down, up, 2.0)}}
    found = kohya.file_tensors(rows, layout, torch.float32)
    assert torch.equal(found["transformer.proj_out.lora_A.weight"], down)
    assert torch.equal(found["transformer.proj_out.lora_B.weight"], up * 0.5)


# ------------------------------------------------------------ verification


def test_a_file_with_another_scale_is_found_out(tmp_path: Path) -> None:
    layout = family("flux").lora
    pipe = make("flux")
    attach(pipe, "flux", "full", alpha=8)
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout, dtype="fp32")
    tensors = {k: v * 0.5 if "lora_B" in k else v for k, v in load_file(path).items()}
    save_file(tensors, path)
    verified = export.verify(pipe, path, layout)
    assert not verified.ok and verified.worst_layer == pytest.approx(0.5, abs=0.01)
    assert "50" in (verified.problem() or "")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"matched": 4}, None),
        ({}, "no layer that fits"),
        ({"matched": 3, "unmatched": ["x"]}, "1 of 4 layers"),
        ({"matched": 4, "worst_layer": 0.5}, "up to 50.0%"),
        ({"matched": 4, "worst_layer": float("nan")}, "differ"),
        ({"matched": 4, "effect": 0.01, "max_difference": 0.02}, "answers differently"),
        ({"matched": 4, "effect": 0.01, "max_difference": 0.02, "dtype": "torch.bfloat16"}, None),
        ({"matched": 4, "max_difference": float("inf"), "dtype": "torch.bfloat16"}, "answers differently"),
    ],
)
def test_the_verdict_in_words(values: dict[str, Any], said: str | None) -> None:
    verified = export.Verified(**({"matched": 0} | values))
    assert verified.ok is (said is None)
    assert said is None or said in (verified.problem() or "")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_verifies_on_a_model_in_half_precision(tmp_path: Path, dtype: Any) -> None:
    layout = family("sd15").lora
    pipe = make("sd15").to(dtype=dtype)
    attach(pipe, "sd15", "all", size=0.1)
    for component in layout.prefixes:
        for _, module in export.adapted(getattr(pipe, component)):
            for half in (module.lora_A, module.lora_B):
                half["trained"].weight.data = half["trained"].weight.data.float()  # as the trainer keeps them
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout)
    verified = export.verify(pipe, path, layout)
    assert verified.problem() is None and verified.effect > 0.05


@pytest.mark.parametrize("change", ["left out", "renamed"])
def test_layers_that_do_not_arrive_are_named(tmp_path: Path, change: str) -> None:
    layout = family("sd15").lora
    pipe = make("sd15")
    attach(pipe, "sd15", "attention")
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout)
    tensors = load_file(path)
    one = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    moved = {key: tensors.pop(key) for key in list(tensors) if key.startswith(one + ".")}
    if change == "renamed":
        tensors |= {key.replace("mid_block", "mid_block_9"): value for key, value in moved.items()}
    save_file(tensors, path)
    verified = export.verify(pipe, path, layout)
    assert one in verified.unmatched and one in str(verified.unmatched)
    assert "no place" in (verified.problem() or "")


def test_verifying_leaves_the_training_as_it_was(tmp_path: Path) -> None:
    layout = family("sd15").lora
    pipe = make("sd15")
    attach(pipe, "sd15", "all")
    pipe.unet.train()
    before = {name: p.requires_grad for name, p in pipe.unet.named_parameters()}
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, pipe, layout=layout)
    export.verify(pipe, path, layout)
    assert pipe.unet.training and not pipe.text_encoder.training
    assert {name: p.requires_grad for name, p in pipe.unet.named_parameters()} == before
    assert any(before.values()) and not all(before.values())


# ------------------------------------------------------------ what is refused, and what stays whole


def layers(**more: Any) -> dict[str, Any]:
    values = {"down": torch.randn(4, 8), "up": torch.randn(8, 4), "alpha": 4.0} | more
    return {"unet": {"mid_block.attentions.0.proj_in": tuple(values.values())}}


@pytest.mark.parametrize(
    ("adapter", "dtype", "said"),
    [
        ({}, "bf16", "no LoRA layers"),
        ({"unet": {}}, "bf16", "no LoRA layers"),
        (layers(up=torch.randn(8, 3)), "bf16", "do not belong together"),
        (layers(up=torch.zeros(8, 4)), "bf16", "all zeros"),
        (layers(up=torch.full((8, 4), float("nan"))), "bf16", "not finite"),
        (layers(up=torch.full((8, 4), 1e9)), "fp16", "bf16 or fp32"),
        (layers(), "int4", "number format"),
        ({"transformer": layers()["unet"]}, "bf16", "no part for 'transformer'"),
    ],
)
def test_what_would_be_no_lora_is_not_written(tmp_path: Path, adapter: Any, dtype: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        export.save_lora(tmp_path / "luna.safetensors", adapter, layout=family("sd15").lora, dtype=dtype)
    assert said in refused.value.detail + (refused.value.remedy or "")
    assert list(tmp_path.iterdir()) == []


def test_the_rank_has_to_be_the_one_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="rank 4, not 16"):
        export.save_lora(tmp_path / "luna.safetensors", layers(), layout=family("sd15").lora, rank=16)


def test_a_lora_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "luna.safetensors"
    export.save_lora(path, layers(), layout=family("sd15").lora)
    before = path.read_bytes()
    with pytest.raises(Conflict, match="never replaced"):
        export.save_lora(path, layers(), layout=family("sd15").lora)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["luna.safetensors"]


def test_a_checked_file_is_put_on_the_shelf_whole(tmp_path: Path) -> None:
    staged, shelf = tmp_path / "run" / "result.safetensors", tmp_path / "loras" / "luna.safetensors"
    digest = export.save_lora(staged, layers(), layout=family("sd15").lora)
    assert export.publish(staged, shelf) == digest and shelf.read_bytes() == staged.read_bytes()
    with pytest.raises(Conflict):
        export.publish(staged, shelf)
    (tmp_path / "note.safetensors").write_bytes(b"no LoRA")
    with pytest.raises(InvalidInput):
        export.publish(tmp_path / "note.safetensors", shelf.with_name("note.safetensors"))
    assert [p.name for p in shelf.parent.iterdir()] == ["luna.safetensors"]


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed_files: bool) -> None:
    def full(file: Any, data: bytes) -> None:
        file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_write_through", full)
    if not unnamed_files:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    with pytest.raises(StorageError, match="no space left"):
        export.save_lora(tmp_path / "luna.safetensors", layers(), layout=family("sd15").lora)
    assert list(tmp_path.iterdir()) == []


def test_without_unnamed_files_the_result_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = layers()
    first = export.save_lora(tmp_path / "a.safetensors", adapter, layout=family("sd15").lora)
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    assert export.save_lora(tmp_path / "b.safetensors", adapter, layout=family("sd15").lora) == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name (Linux)")
def test_killed_while_it_writes_it_leaves_nothing(tmp_path: Path) -> None:
    loras, ready = tmp_path / "loras", tmp_path / "half-way"
    loras.mkdir()
    code = f"""
import time, torch
from pathlib import Path
from dalla.diffusion.families import family
from dalla.diffusion.training import export
def half(file, data):
    file.write(data[: len(data) // 2]); file.flush()
    Path({str(ready)!r}).write_text("x")
    time.sleep(600)
export._write_through = half
rows = {{"unet": {{"conv_in": (torch.randn(4, 900), torch.randn(900, 4), 4.0)}}}}
export.save_lora(Path({str(loras)!r}) / "luna.safetensors", rows, layout=family("sd15").lora)
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not ready.exists():
            assert child.poll() is None, "the child ended before it wrote anything"
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert list(loras.iterdir()) == []


def test_old_leftovers_of_killed_saves_are_cleared(tmp_path: Path) -> None:
    old = tmp_path / ".luna.safetensors.0123.tmp"
    old.write_bytes(b"half")
    os.utime(old, (1, 1))
    export.save_lora(tmp_path / "luna.safetensors", layers(), layout=family("sd15").lora)
    assert [p.name for p in tmp_path.iterdir()] == ["luna.safetensors"]


# ------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("luna", "luna"), ("Luna Night", "Luna-Night"), ("luna.safetensors", "luna"), ("../../etc/passwd", "etc-passwd"),
        ("a\\b/c", "a-b-c"), ("lora:1<2>,3", "lora-1-2-3"), ("Löwe", "L-we"), ("...", None), ("", None), ("con", None),
        ("x" * 300, "x" * 80),
    ],
)  # fmt: skip
def test_a_wish_becomes_a_file_name(tmp_path: Path, wish: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(InvalidInput) as refused:
            export.fresh_name(tmp_path, wish)
        assert refused.value.errors[0]["field"] == "name"
    else:
        assert export.fresh_name(tmp_path, wish) == name


def test_a_name_in_use_gets_a_number(tmp_path: Path) -> None:
    assert export.fresh_name(tmp_path / "not there yet", "luna") == "luna"
    (tmp_path / "Luna.safetensors").touch()
    (tmp_path / "luna-2.json").touch()
    assert export.fresh_name(tmp_path, "luna") == "luna-3"
    assert export.fresh_name(tmp_path, "luna", taken=["luna-3"]) == "luna-4"


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a\\b", "nul", "x" * 101, "luna.safetensors", ""])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        export.check_name(name)


# ------------------------------------------------------------ texts


CONFIG = {
    "name": "luna", "base_model": "/home/ann/models/starter", "dataset_folder": "/home/ann/training_data/luna",
    "run_folder": "C:\\Users\\ann\\runs\\1", "trigger_word": "luna", "rank": 16, "alpha": 16.0, "targets": "full",
    "resolution": 512, "learning_rate": 1e-4, "batch_size": 2, "gradient_accumulation": 2, "seed": 7, "steps": 400,
    "optimizer": "adamw", "min_snr_gamma": 5.0, "sample_prompts": ["luna in a park"],
}  # fmt: skip
REPORT = {
    "pictures": [
        {"file": "a.png", "caption": "luna, smiling, park", "bucket": [512, 512], "sha256": "aa"},
        {"file": "b.png", "caption": "luna, smiling, hat", "bucket": [512, 512], "sha256": "bb"},
        SimpleNamespace(file="c.png", caption="luna, beach", bucket=(448, 576), sha256="cc"),
    ]
}
WHEN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "version", "architecture"),
    [
        ("sd15", "sd_v1", "stable-diffusion-v1/lora"),
        ("sdxl", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
        ("sd3", "sd3m", "stable-diffusion-3/lora"),
        ("flux", "flux1", "flux-1/lora"),
    ],
)
def test_other_programs_find_what_they_look_for(tmp_path: Path, name: str, version: str, architecture: str) -> None:
    texts = export.metadata_for(
        CONFIG, REPORT, name, base_sha256="ab" * 32, prediction="v_prediction", started_at=WHEN, finished_at=WHEN,
        result={"step": 300, "steps": 400, "epochs": 100},
    )  # fmt: skip
    path = tmp_path / "luna.safetensors"
    layout = family(name).lora
    component = layout.denoiser
    conv = torch.randn(2, 8, 3, 3), torch.randn(8, 2, 1, 1), 1.0
    rows = {component: {"a": (torch.randn(4, 8), torch.randn(8, 4), 8.0), "b": conv}}
    export.save_lora(path, rows, layout=layout, metadata=texts)
    header = weights.read_header(path)
    found = header.metadata
    assert (found["ss_base_model_version"], found["modelspec.architecture"]) == (version, architecture)
    assert found["ss_v2"] == "False" and found["ss_network_module"] == "networks.lora"
    assert found["ss_network_dim"] == "4"
    assert found["ss_network_alpha"] == ("8.0" if layout.style == "kohya" else "4.0")
    assert json.loads(found["ss_network_args"])["conv_dim"] == "2"
    assert found["ss_output_name"] == found["modelspec.title"] == "luna"
    assert json.loads(found["ss_tag_frequency"]) == {"luna": {"luna": 3, "smiling": 2, "park": 1, "hat": 1, "beach": 1}}
    assert json.loads(found["ss_bucket_info"])["buckets"]["1"] == {"resolution": [512, 512], "count": 2}
    assert json.loads(found["ss_dataset_dirs"]) == {"luna": {"n_repeats": 1, "img_count": 3}}
    assert found["ss_num_train_images"] == "3" and found["ss_steps"] == "300" and found["ss_total_batch_size"] == "4"
    assert found["modelspec.trigger_phrase"] == weights.lora_trigger_word(header) == "luna"
    assert found["modelspec.date"] == "2026-11-21T12:00:00Z" and found["modelspec.resolution"] == "512x512"
    assert found["modelspec.prediction_type"] == "v" and found["modelspec.sai_model_spec"] == "1.0.1"
    assert found["ss_sd_model_name"] == "starter" and found["ss_new_sd_model_hash"] == "ab" * 32
    data = path.read_bytes()[header.data_start :]
    assert found["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert found["modelspec.hash_sha256"] == "0x" + found["sshs_model_hash"]
    assert json.loads(found["dalla.config"])["dataset_folder"] == "luna"
    assert "lora_adapter_metadata" not in found
    assert "ann" not in json.dumps(found)  # nobody's folders
    assert weights.lora_family(header) == name and header.metadata["dalla.family"] == name


def test_without_a_trigger_word_or_captions_nothing_is_made_up() -> None:
    texts = export.metadata_for({"name": "x"}, {"pictures": []}, "sd15")
    assert not {"modelspec.trigger_phrase", "modelspec.usage_hint", "ss_tag_frequency", "ss_seed", "ss_steps"} & set(
        texts
    )
    assert "modelspec.prediction_type" not in texts


def test_texts_stay_below_what_comfyui_shows() -> None:
    pictures = [
        {"file": f"{n}.png", "caption": ", ".join(f"tag {n} {m} " + "x" * 150 for m in range(40))} for n in range(900)
    ]
    texts = export.metadata_for(CONFIG, {"pictures": pictures}, "sd15")
    assert len(json.dumps(texts)) < 700_000
    assert json.loads(texts["ss_tag_frequency"])["luna"]


def test_the_sidecar_tells_how_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "luna.v2.safetensors"
    values = export.sidecar(
        CONFIG,
        REPORT,
        name="luna.v2",
        family="sd15",
        sha256="cd" * 32,
        created_at=WHEN,
        result={"step": 300},
        taskId="task_1",
    )
    written = export.write_sidecar(path, values)
    assert written == tmp_path / "luna.v2.json"
    found = json.loads(written.read_text("utf-8"))
    assert found["family"] == "sd15" and found["triggerWord"] == "luna" and found["taskId"] == "task_1"
    assert found["dataset"] == {"name": "luna", "pictures": 3, "captions": 3, "sha256": values["dataset"]["sha256"]}
    assert found["createdAt"] == "2026-11-21T12:00:00Z" and found["baseModel"] == "starter"
    assert "ann" not in json.dumps(found)


def test_fingerprints_follow_content_not_place() -> None:
    from dalla.diffusion.training import export_metadata as texts

    elsewhere = CONFIG | {"dataset_folder": "D:\\sets\\luna"}
    assert texts.config_fingerprint(CONFIG) == texts.config_fingerprint(elsewhere)
    assert texts.config_fingerprint(CONFIG) != texts.config_fingerprint(CONFIG | {"seed": 8})
    turned = {"pictures": list(reversed(REPORT["pictures"]))}
    assert texts.dataset_fingerprint(REPORT) == texts.dataset_fingerprint(turned)
    other = {"pictures": [*REPORT["pictures"][:2], {"file": "c.png", "caption": "luna", "sha256": "cc"}]}
    assert texts.dataset_fingerprint(REPORT) != texts.dataset_fingerprint(other)
