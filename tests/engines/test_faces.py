"""Faces in pictures. data/face.jpg is a part of NASA's portrait of Eileen Collins (public domain)."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from dalla.engines.faces import FACE_FINDERS
from dalla.engines.faces import yunet as module
from dalla.engines.faces.yunet import YuNet
from dalla.framing import crop_box

ROOT = Path(__file__).parent.parent.parent
FACE = ROOT / "tests" / "data" / "face.jpg"


@pytest.fixture
def finder(settings):
    pytest.importorskip("cv2")
    return YuNet(settings)


@pytest.fixture
def portrait():
    with Image.open(FACE) as image:
        return image.convert("RGB")


def test_a_face_is_found_where_it_is(finder, portrait):
    (face,) = finder.find(portrait)
    assert face.score >= 0.7 and finder.reason is None and finder.available()
    middle = face.x + face.width / 2, face.y + face.height / 2
    assert 70 < middle[0] < 90 and 60 < middle[1] < 90, middle
    assert 40 < face.width < 80 and 50 < face.height < 90


def test_boxes_are_in_pixels_of_the_picture_as_given(finder, portrait):
    wide = Image.new("RGB", (1600, 640), "navy")
    wide.paste(portrait.resize((320, 320)), (1200, 100))
    (face,) = finder.find(wide)
    assert 1200 < face.x and face.x + face.width < 1520
    left, _, right, _ = crop_box(1600, 640, 0.8, faces=[face.box])
    assert left <= face.x and face.x + face.width <= right


def test_two_faces_largest_first_and_alpha_is_fine(finder, portrait):
    both = Image.new("RGBA", (640, 320))
    both.paste(portrait, (20, 80))
    both.paste(portrait.resize((320, 320)), (300, 0))
    found = finder.find(both)
    assert len(found) == 2 and found[0].width > found[1].width and found[0].x > 300


@pytest.mark.parametrize("size", [(1, 1), (10, 2000), (2000, 10), (640, 640)])
def test_no_face_no_boxes(finder, size):
    assert finder.find(Image.new("RGB", size, "teal")) == []


def test_several_threads_at_once(finder, portrait):
    found, threads = [], []
    for scale in (1, 2, 3, 4):
        image = portrait.resize((160 * scale, 120 * scale))
        threads.append(threading.Thread(target=lambda i=image: found.extend(len(finder.find(i)) for _ in range(3))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 12


def test_without_opencv_the_reason_is_logged_once(settings, portrait, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "cv2", None)
    finder = YuNet(settings)
    with caplog.at_level(logging.WARNING):
        assert finder.find(portrait) == [] and finder.find(portrait) == []
    assert not finder.available() and "cv2" in finder.reason
    assert len(caplog.records) == 1


def test_without_the_file(settings, portrait, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_OWN", tmp_path / "nothing.onnx")
    finder = YuNet(settings)
    assert finder.find(portrait) == [] and module.FILE in finder.reason


def test_a_broken_file_in_the_models_folder_does_no_harm(settings, portrait):
    pytest.importorskip("cv2")
    folder = Path(settings.models_dir) / "faces"
    folder.mkdir(parents=True)
    (folder / module.FILE).write_bytes(b"not a network")
    finder = YuNet(settings)
    assert finder.find(portrait) == [] and finder.reason


def test_the_file_is_the_one_that_was_checked():
    folder = ROOT / "models" / "faces"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    models = {module.FILE, "face_recognition_sface_2021dec_int8bq.onnx"}
    assert {p.name for p in folder.iterdir()} == {"LICENSE", "README.md", "SHA256SUMS", *models}
    assert FACE_FINDERS.load("yunet") is YuNet
