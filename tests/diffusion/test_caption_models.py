"""Captioners and taggers from folders: with random weights, but through the same code as real ones."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from dalla.diffusion.caption_models import Captioner, CaptionTask
from dalla.diffusion.caption_tagger import input_side, prepare, read_labels
from dalla.diffusion.generate import Listener
from dalla.engines.captions.vision.base import VisionRequest, is_fatal
from dalla.engines.captions.vision.weights import Blip, Florence2, WdTagger
from dalla.errors import InvalidInput, NotConfigured, StorageError, UpstreamError
from tests.diffusion import tiny_captioners

MAKERS = {"blip": tiny_captioners.blip, "florence2": tiny_captioners.florence2, "wd_tagger": tiny_captioners.tagger}
ENGINES = {"blip": Blip, "florence2": Florence2, "wd_tagger": WdTagger}


def jpeg(color, size=(64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "JPEG", quality=95)
    return out.getvalue()


RED, BLUE = jpeg((250, 10, 10)), jpeg((10, 10, 250))


class Heard(Listener):
    """Keeps what the captioner says."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, message: str) -> None:
        self.phases.append(message)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The three tiny models, by kind."""
    root = tmp_path_factory.mktemp("models") / "captioners"
    return {kind: make(root / f"tiny-{kind}") for kind, make in MAKERS.items()}


def task(models, kind, **more) -> CaptionTask:
    return CaptionTask(kind=kind, path=str(models[kind]), device="cpu", precision="fp32", **more)


# ---------------------------------------------------------------- in this process


@pytest.mark.parametrize("length", ["short", "medium", "long"])
@pytest.mark.parametrize("kind", ["blip", "florence2"])
def test_captioners_write_text(models, kind, length):
    answer = Captioner().describe(task(models, kind, length=length), RED, Heard())
    assert answer["text"] and answer["text"] == " ".join(answer["text"].split())
    assert not any(mark in answer["text"] for mark in ("[DEC]", "[PAD]", "[SEP]", "</s>", "<pad>"))
    assert answer["tags"] == [] and answer["device"] == "cpu" and answer["precision"] == "fp32"


def test_the_same_picture_gives_the_same_words(models):
    captioner = Captioner()
    first = captioner.describe(task(models, "blip"), RED, Heard())
    assert captioner.describe(task(models, "blip"), RED, Heard()) == first


def test_a_model_is_loaded_once_until_another_is_asked_for(models):
    captioner, heard = Captioner(), Heard()
    for kind in ("wd_tagger", "wd_tagger", "blip", "wd_tagger"):
        captioner.describe(task(models, kind), RED, heard)
    assert heard.phases == ["Loading tiny-wd_tagger", "Loading tiny-blip", "Loading tiny-wd_tagger"]
    captioner.describe(task(models, "wd_tagger", stamp="changed"), RED, heard)
    assert len(heard.phases) == 4


def test_the_tagger_sees_colours_the_right_way_round(models):
    red = Captioner().describe(task(models, "wd_tagger"), RED, Heard())["tags"]
    assert [tag for tag, _ in red] == ["red dress", "mira (series)"]
    assert red[0][1] > red[1][1] > 0.99
    blue = Captioner().describe(task(models, "wd_tagger"), BLUE, Heard())["tags"]
    assert [tag for tag, _ in blue] == ["blue sky"]


def test_the_threshold_decides(models):
    grey = jpeg((130, 130, 130))
    tags = Captioner().describe(task(models, "wd_tagger", threshold=0.5), grey, Heard())["tags"]
    assert [tag for tag, _ in tags] == ["o_o", "blue sky", "green grass", "red dress"]
    assert Captioner().describe(task(models, "wd_tagger", threshold=0.999), grey, Heard())["tags"] == []


def test_the_tagger_pads_white_to_a_square():
    pixels = prepare(Image.new("RGB", (40, 20), (10, 20, 30)), 40)
    assert pixels.shape == (1, 40, 40, 3) and pixels.dtype.name == "float32"
    assert pixels[0, 20, 20].tolist() == [30, 20, 10] and pixels[0, 0, 0].tolist() == [255, 255, 255]


def test_tagger_files(tmp_path):
    (tmp_path / "selected_tags.csv").write_text("tag_id,name,category,count\n1,long_hair,0,5\n2,^_^,0,5\n3,safe,9,5\n")
    assert read_labels(tmp_path / "selected_tags.csv") == [("long hair", True), ("^_^", True), ("safe", False)]
    assert input_side(tmp_path) == 448
    (tmp_path / "config.json").write_text('{"image_size": 320}')
    assert input_side(tmp_path) == 320
    (tmp_path / "selected_tags.csv").write_text("name\nx\n")
    with pytest.raises(StorageError, match="selected_tags"):
        read_labels(tmp_path / "selected_tags.csv")


def test_a_tagger_with_the_wrong_list_is_refused(models, tmp_path):
    folder = tiny_captioners.tagger(tmp_path / "wrong")
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n1,long_hair,0,5\n")
    with pytest.raises(StorageError, match="6 numbers"):
        Captioner().describe(CaptionTask("wd_tagger", str(folder)), RED, Heard())


def test_a_broken_tagger_is_told_with_what_helps(tmp_path):
    folder = tiny_captioners.tagger(tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"not a network at all")
    with pytest.raises(StorageError, match="broken") as caught:
        Captioner().describe(CaptionTask("wd_tagger", str(folder)), RED, Heard())
    assert is_fatal(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "florence2", "auto_map": {"AutoModel": "x.Y"}},
        {"text_config": {"model_type": "florence2_language"}},
    ],
)
def test_folders_with_program_code_are_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "x.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(NotConfigured, match="program code") as caught:
        Captioner().describe(CaptionTask("florence2", str(tmp_path)), RED, Heard())
    assert "florence-community" in caught.value.remedy


@pytest.mark.parametrize("kind", ["blip", "florence2"])
def test_an_incomplete_folder_is_told(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(StorageError, match="cannot be loaded"):
        Captioner().describe(CaptionTask(kind, str(tmp_path)), RED, Heard())


def test_a_picture_that_is_none(models):
    with pytest.raises(InvalidInput):
        Captioner().describe(task(models, "wd_tagger"), RED[:400], Heard())


# ---------------------------------------------------------------- in the child process


@pytest.fixture
def engine(settings, models):
    """Build an engine whose models folder holds the tiny ones."""
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    (settings.models_dir / "captioners").symlink_to(models["blip"].parent)
    made = []

    def build(kind):
        made.append(ENGINES[kind](settings))
        return made[-1]

    yield build
    for one in made:
        one.close()


def test_the_child_describes_and_is_kept_until_released(engine):
    tagger = engine("wd_tagger")
    assert tagger.status().available and tagger.models() == ["tiny-wd_tagger"]
    seen = tagger.describe(VisionRequest(image=RED, style="tags"))
    assert seen.tags == ("red dress", "mira (series)") and seen.model == "tiny-wd_tagger"
    child = tagger._child
    assert tagger.describe(VisionRequest(image=RED, style="tags", max_tags=1)).tags == ("red dress",)
    assert tagger._child is child and child.is_alive
    with pytest.raises(UpstreamError) as caught:  # nothing is sure enough: this picture's own failure
        tagger.describe(VisionRequest(image=jpeg((0, 0, 0)), style="tags"))
    assert caught.value.extra["cause"] == "empty" and not is_fatal(caught.value)
    tagger.release()
    assert not child.is_alive and tagger._child is None
    assert tagger.describe(VisionRequest(image=BLUE)).tags == ("blue sky",)


def test_a_child_that_is_killed_costs_one_picture(engine):
    tagger = engine("wd_tagger")
    tagger.describe(VisionRequest(image=RED))
    tagger._child._process.kill()
    tagger._child._process.wait()
    assert tagger.describe(VisionRequest(image=RED)).tags[0] == "red dress"  # it was idle: a new one takes over


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blip", "florence2"])
def test_captioners_work_in_the_child(engine, kind):
    captioner = engine(kind)
    seen = captioner.describe(VisionRequest(image=RED, length="short"))
    assert seen.text and seen.model == f"tiny-{kind}"


def test_the_childs_errors_come_back_as_they_were(engine, settings):
    folder = settings.models_dir / "captioners" / "remote"
    folder.mkdir()
    try:
        (folder / "config.json").write_text(json.dumps({"model_type": "florence2", "auto_map": {"a": "b"}}))
        florence = engine("florence2")
        with pytest.raises(NotConfigured, match="program code"):
            florence.describe(VisionRequest(image=RED, model="remote"))
    finally:
        (folder / "config.json").unlink()
        folder.rmdir()
