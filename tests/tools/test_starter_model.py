"""The starter model's tools: the same drawings every time, and a whole build in small."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalla.training_set import scan
from tools.starter_model import demo, drawing, measure, shapes
from tools.starter_model.avatar import Avatar, sample
from tools.starter_model.captions import caption
from tools.starter_model.palette import HATS, MARKS, SCENES
from tools.starter_model.plan import QUICK

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "training_data" / "demo"


def kept() -> list[str]:
    """What lies in the demo folder; a training run leaves a hidden cache there."""
    return sorted(p.name for p in DEMO.iterdir() if not p.name.startswith("."))


def digest(seed: int) -> list[tuple[bytes, str]]:
    rng, rows = random.Random(seed), []
    for _ in range(12):
        avatar = sample(rng)
        rows.append((drawing.draw(avatar, rng).tobytes(), caption(avatar, rng)))
    return rows


def test_the_same_seed_draws_the_same_pixels_and_captions():
    assert digest(3) == digest(3)
    assert digest(3) != digest(4)


def test_another_process_draws_the_same():
    program = (
        "import hashlib; from tests.tools.test_starter_model import digest;"
        "print(hashlib.sha256(repr(digest(3)).encode()).hexdigest())"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == hashlib.sha256(repr(digest(3)).encode()).hexdigest()


PLAIN = Avatar(
    who="woman", kind="human", hair="long", hair_colour="brown", skin="light", eyes="blue", mood="smiling", eyewear=None,
    hat=None, hat_colour="red", beard=None, wear="hoodie", wear_colour="teal", ground="gray",
)  # fmt: skip
CHANGES = [
    *({"hat": hat} for hat in HATS),
    *({"ground": scene} for scene in SCENES),
    *({"mark": (mark, "red", 1)} for mark in (*MARKS, "star")),
    {"hair": "mohawk"}, {"kind": "robot"}, {"kind": "alien"}, {"kind": "elf"}, {"beard": "beard"}, {"tips": "pink"},
    {"streak": "pink"}, {"eyewear": "sunglasses"}, {"mood": "angry"}, {"wear": "suit"}, {"frame": "far"}, {"grey": True},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: "-".join(map(str, c.values())))
def test_every_attribute_shows(change):
    plain = np.asarray(drawing.draw(PLAIN, random.Random(1))).astype(int)
    changed = np.asarray(drawing.draw(replace(PLAIN, **change), random.Random(1))).astype(int)
    assert (np.abs(plain - changed).max(-1) > 40).sum() >= 5


def test_two_tone_hair_and_star_are_never_in_the_base_data():
    rng = random.Random(0)
    for _ in range(2000):
        avatar = sample(rng)
        assert avatar.two_tone is None
        assert avatar.mark is None or avatar.mark[0] != "star"


def test_shapes_are_pictures_of_the_same_size():
    rng = random.Random(2)
    drawn = [shapes.draw(rng) for _ in range(12)]
    assert {(p.size, p.mode) for p in drawn} == {((128, 128), "RGB")}
    assert len({p.tobytes() for p in drawn}) == 12


def test_the_demo_set_in_the_repository_is_what_the_tool_draws(tmp_path):
    assert demo.main([str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == kept()
    for path in tmp_path.iterdir():
        if path.suffix == ".png":
            with Image.open(path) as mine, Image.open(DEMO / path.name) as theirs:
                assert np.array_equal(np.asarray(mine), np.asarray(theirs)), path.name
        else:
            assert path.read_text("utf-8") == (DEMO / path.name).read_text("utf-8")


def test_the_demo_set_is_ready_to_train():
    report = scan(DEMO, trigger_word=demo.TRIGGER, class_word="woman", resolution=128, bucket_step=16, batch_size=4)
    assert len(report.pictures) == report.captions_found == 12
    assert not report.skipped and not report.warnings
    for picture in report.pictures:
        assert (picture.width, picture.height) == picture.bucket == (128, 128)
        assert not picture.problems and not picture.trigger_added
        assert "green" not in picture.caption.split(", ")[1] and "star" not in picture.caption.split(", ")[:3]
    assert sum((DEMO / name).stat().st_size for name in kept()) < 150_000


def test_git_keeps_the_demo_set_and_ignores_other_sets():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")

    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT).returncode == 0

    assert not ignored("training_data/demo/01.png") and not ignored("training_data/demo/01.txt")
    assert ignored("training_data/somebody/01.png") and ignored("training_data/demo/.cache/x")


def test_the_colour_tests_see_what_was_drawn_and_nothing_else():
    examples = demo.demo_set()
    close = [e.picture for e in examples.held_out if e.avatar.frame == "mid"]
    assert all(right == of == len(close) for right, of in measure.luna_tally(close).values())
    others = measure.luna_tally([e.picture for e in examples.others])
    assert all(right <= of / 4 for right, of in others.values())
    avatars = measure.subjects(30, 5)
    drawn = [drawing.draw(avatar, random.Random(n)) for n, avatar in enumerate(avatars)]
    assert all(right == of > 0 for right, of in measure.colours(drawn, avatars).values())
    shifted = [*drawn[1:], drawn[0]]
    assert all(right < of for right, of in measure.colours(shifted, avatars).values())


def test_prompts_name_colour_clothes_and_place():
    avatar = replace(PLAIN, hat="cap", ground="beach")
    assert measure.describe(avatar) == (
        "portrait of a smiling woman with long brown hair, light skin, wearing a teal hoodie and a red cap, on a beach"
    )


# ---------------------------------------------------------------- building

torch = pytest.importorskip("torch")

TINY = replace(
    QUICK, avatars=20, shapes=2, captions_per_avatar=1, vae_steps=2, vae_batch=1,
    text_captions=40, text_steps=2, text_batch=4, unet_steps=2, unet_batch=2, decoder_steps=1, decoder_batch=1,
)  # fmt: skip


def work(folder: Path, seed: int = 1):
    from tools.starter_model import networks
    from tools.starter_model.training import Work

    networks.quiet()
    torch.set_num_threads(1)
    lines: list[str] = []
    return Work(folder, seed, torch.device("cpu"), False, lines.append), lines


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    from tools.starter_model.build import build

    folder = tmp_path_factory.mktemp("starter")
    todo, lines = work(folder / "work")
    figures = build(todo, TINY, folder / "model")
    return folder, figures, lines


def test_every_stage_runs_and_the_folder_loads(built):
    from diffusers import StableDiffusionPipeline

    folder, figures, lines = built
    pipe = StableDiffusionPipeline.from_pretrained(str(folder / "model"))
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a woman", num_inference_steps=1, generator=torch.Generator().manual_seed(1)).images[0]
    assert picture.size == (128, 128)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.unet.config.in_channels == pipe.vae.config.latent_channels == 8
    assert pipe.vae.config.scaling_factor != 0.18215  # measured, not the library's default
    assert {p.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters()} == {torch.float32}
    assert 10e6 < figures["bytes"] < 13e6
    for stage in ("data", "tokenizer", "vae", "text_encoder", "latents", "unet", "decoder", "export"):
        assert any(line.split("] ")[-1] == stage for line in lines), stage
    assert not list((folder / "work").glob("*.part")) and not list((folder / "work").glob("*.pt"))


def test_it_has_the_shape_of_the_shipped_model(built):
    folder, shipped = built[0] / "model", ROOT / "models" / "starter"

    def config(root: Path, part: str) -> dict:
        found = json.loads(next((root / part).glob("*config.json")).read_text("utf-8"))
        size = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")  # TINY learns fewer pieces
        drop = {"_name_or_path", "scaling_factor", "transformers_version", "_diffusers_version", *size}
        return {key: value for key, value in found.items() if key not in drop}

    for part in ("unet", "vae", "text_encoder", "scheduler"):
        assert config(folder, part) == config(shipped, part), part
    assert {p.name for p in (shipped / "tokenizer").iterdir()} <= {p.name for p in (folder / "tokenizer").iterdir()}


def test_the_tokenizer_reads_anything(built):
    from tools.starter_model.tokenizer import ids, load

    tokenizer = load(built[0] / "model" / "tokenizer")
    text = "Élise ☆ 42, a woman"
    row = ids(tokenizer, [text])[0]
    assert row.shape == (77,)
    assert tokenizer.decode(row, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")
    assert len(tokenizer("woman")["input_ids"]) == 3  # start, woman, end


def test_a_second_build_keeps_what_is_done_and_redoes_what_changed(built, tmp_path):
    from tools.starter_model.build import build

    todo, lines = work(built[0] / "work")
    build(todo, TINY, tmp_path / "again")
    assert sum("done before" in line for line in lines) == 7
    for name in ("unet", "vae"):
        files = [
            root / name / "diffusion_pytorch_model.safetensors" for root in (built[0] / "model", tmp_path / "again")
        ]
        assert files[0].read_bytes() == files[1].read_bytes()
    other, lines = work(tmp_path / "work")
    shutil.copytree(built[0] / "work", other.folder)
    build(other, replace(TINY, unet_steps=1), tmp_path / "changed")
    assert sum("done before" in line for line in lines) == 6
    assert any(line.startswith("unet: step 1/1") for line in lines)


def test_a_folder_that_exists_is_left_alone(tmp_path, capsys):
    from tools.starter_model import __main__ as command

    (tmp_path / "mine").mkdir()
    assert command.main(["--out", str(tmp_path / "mine"), "--quick"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir()) and not (tmp_path / "mine.work").exists()


def loop(folder: Path, steps: int, workers: int = 1):
    from dalla.diffusion.workers import Workers
    from tools.starter_model.muon import Muon, groups
    from tools.starter_model.training import Loop

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 1))
    todo, lines = work(folder)
    todo.workers = Workers(workers)
    folder.mkdir(exist_ok=True)
    made = Loop(
        todo, "net", {"net": net}, Muon(groups(net.named_parameters()), todo.workers, lr=0.1), steps=steps, lr=0.1,
        warm=5, fingerprint="one",
    )  # fmt: skip

    def batch_of(step: int):
        return (torch.randn(32, 6, generator=made.generator),)

    def loss_of(x):
        return (net(x)[:, 0] - x.sum(1)).pow(2).mean()

    return made, (batch_of, loss_of), lines


def test_training_learns_and_goes_on_after_a_stop_with_the_same_weights(tmp_path):
    whole, (batch_of, loss_of), _ = loop(tmp_path / "a", 60)
    first = float(loss_of(*batch_of(0)).detach())
    whole, (batch_of, loss_of), _ = loop(tmp_path / "a", 60)
    straight = whole.run(batch_of, loss_of)["net"].state_dict()
    assert float(loss_of(*batch_of(0)).detach()) < first / 4

    stopped, (batch_of, loss_of), _ = loop(tmp_path / "b", 60)

    def until_30(step: int):
        if step == 30:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        stopped.run(until_30, loss_of)
    again, work_of, lines = loop(tmp_path / "b", 60)
    resumed = again.run(*work_of)["net"].state_dict()
    assert "net: going on at step 30/60" in lines
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_several_workers_take_the_steps_of_one(tmp_path):
    alone, work_of, _ = loop(tmp_path / "one", 20)
    expected = alone.run(*work_of)["net"].state_dict()
    shared, (batch_of, loss_of), _ = loop(tmp_path / "three", 20, workers=3)
    seen: list[tuple[str, int]] = []

    def counted(x):
        seen.append((threading.current_thread().name, len(x)))
        return loss_of(x)

    found = shared.run(batch_of, counted)["net"].state_dict()
    for key in expected:
        assert torch.allclose(expected[key], found[key], rtol=1e-3, atol=1e-4), key
    assert sorted(length for _, length in seen[:3]) == [10, 11, 11]
    assert len({name for name, _ in seen}) > 1 and threading.current_thread().name not in {name for name, _ in seen}


def test_the_error_of_a_worker_reaches_the_caller():
    from dalla.diffusion.workers import Workers

    with pytest.raises(ZeroDivisionError):
        Workers(2).map(lambda n: 1 / n, [1, 0, 2])


def test_a_state_of_another_plan_is_not_used(tmp_path):
    stopped, _, _ = loop(tmp_path, 60)
    stopped.step = 30
    stopped._save()
    again, work_of, lines = loop(tmp_path, 60)
    again.fingerprint = "two"
    again.run(*work_of)
    assert not any("going on" in line for line in lines)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    made, (batch_of, loss_of), _ = loop(tmp_path, 5)
    with pytest.raises(FloatingPointError, match="'net'.* at step 0"):
        made.run(batch_of, lambda x: loss_of(x) * float("nan"))


def test_muon_makes_steps_orthogonal():
    from tools.starter_model.muon import orthogonal

    for shape in ((2, 24, 16), (2, 16, 200), (2, 200, 16)):  # worked out whole, and in the small square
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        left, values, right = torch.linalg.svd(orthogonal(drawn), full_matrices=False)
        assert 0.6 < float(values.min()) and float(values.max()) < 1.3
        wanted = torch.linalg.svd(drawn, full_matrices=False)
        assert torch.allclose(left @ right, wanted[0] @ wanted[2], atol=1e-3)  # the directions stay


def test_all_plan_values_decide_some_stage():
    from tools.starter_model.build import STAGES

    deciding = {name for stage in STAGES for name in stage.decides}
    assert {field.name for field in fields(QUICK)} - deciding == {"measured"}
