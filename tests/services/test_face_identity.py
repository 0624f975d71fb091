"""Whose face a set shows, and which faces are somebody else's."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from PIL import ImageEnhance

from dalla.engines.faces.sface import SFace
from dalla.measures import STRANGER
from dalla.records.dataset import ImageFilter
from dalla.services.face_identity import MATCH, VECTORS, compare
from dalla.services.image_operations import Analyze
from dalla.services.image_queries import image_filter
from dalla.services.processed_pictures import ProcessedPictures
from tests.conftest import make_settings
from tests.services.batch_kit import Desk, encoded, group_photo, portrait


@pytest.fixture
def desk(tmp_path: Any) -> Iterator[Desk]:
    desk = Desk(make_settings(tmp_path))
    pictures = ProcessedPictures(desk.store, desk.blobs, desk.versions)
    desk.reader = SFace(desk.settings)  # type: ignore[attr-defined]
    desk.batches.register(Analyze(desk.store, pictures, desk.faces, desk.reader, lambda _: 3))  # type: ignore[attr-defined]
    yield desk
    desk.close()


def kept(vector: Any, maker: str = "m") -> dict[str, Any]:
    return {"maker": maker, "values": [base64.b64encode(numpy.asarray(vector, dtype="<f2").tobytes()).decode()]}


def near(person: Any, random: Any, amount: float) -> Any:
    vector = person + random.normal(0, amount / len(person) ** 0.5, len(person))
    return vector / numpy.linalg.norm(vector)


def crowd(desk: Desk, set_id: str, people: list[int], maker: str = "m") -> list[str]:
    """Pictures of faces: `people[n]` says whose."""
    random = numpy.random.default_rng(7)
    centres = [v / numpy.linalg.norm(v) for v in random.normal(size=(max(people) + 1, 128))]
    ids = [desk.add(set_id, f"{n}.png", portrait().resize((20 + n, 20))).id for n in range(len(people))]
    desk.store.put_metadata(
        set_id,
        {id: {VECTORS: kept(near(centres[who], random, 0.7), maker)} for id, who in zip(ids, people, strict=True)},
    )
    return ids


def matches(desk: Desk, set_id: str) -> dict[str, Any]:
    return dict(desk.store.columns(set_id, [MATCH]))  # type: ignore[arg-type]


def test_strangers_stand_out_and_the_filter_lists_them(desk: Desk) -> None:
    set_id = desk.new_set()
    ids = crowd(desk, set_id, [0, 0, 0, 1, 0, 0, 2])
    assert compare(desk.store, set_id, "m") == {"faces": 7, "strangers": 2}
    found = matches(desk, set_id)
    assert [found[id] < STRANGER for id in ids] == [False, False, False, True, False, False, True]
    identity = desk.datasets.statistics.of(set_id)["faces"]["identity"]
    assert identity["measured"] == 7 and identity["strangers"]["count"] == 2
    where = image_filter(identity["strangers"]["filter"])
    assert set(desk.store.image_ids(set_id, where)) == {ids[3], ids[6]}
    assert sum(bar["count"] for bar in identity["histogram"]) == 7


@pytest.mark.parametrize("people", [[0, 0, 0], [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3, 4, 5]])
def test_sets_about_nobody_have_no_outliers(desk: Desk, people: list[int]) -> None:
    set_id = desk.new_set()
    crowd(desk, set_id, people)
    assert compare(desk.store, set_id, "m")["strangers"] == 0
    assert set(matches(desk, set_id).values()) == {None}


def test_vectors_of_another_network_are_not_compared(desk: Desk) -> None:
    set_id = desk.new_set()
    crowd(desk, set_id, [0, 0, 0, 0], maker="older")
    assert compare(desk.store, set_id, "m") == {"faces": 0, "strangers": 0}


def test_what_no_longer_holds_is_forgotten(desk: Desk) -> None:
    set_id = desk.new_set()
    ids = crowd(desk, set_id, [0, 0, 0, 0, 1])
    compare(desk.store, set_id, "m")
    desk.store.update_images(ids[:3], excluded=True)
    compare(desk.store, set_id, "m")
    rest = matches(desk, set_id)
    assert rest[ids[3]] is None and rest[ids[4]] is None


def test_analyze_reads_the_faces_and_compares_them(desk: Desk) -> None:
    set_id = desk.new_set()
    for n in range(5):
        bright = ImageEnhance.Brightness(portrait()).enhance(0.8 + 0.1 * n)
        desk.add(set_id, f"{n}.jpg", encoded(bright, "JPEG", quality=92))
    desk.add(set_id, "both.png", group_photo())
    job = desk.batches.submit("analyze", set_id)
    result = desk.jobs.get(job.id).result
    assert result is not None and result["identity"] == {"faces": 6, "strangers": 0}
    assert result["tokensCounted"] == 3
    assert all(value > 0.8 for value in matches(desk, set_id).values())
    assert VECTORS not in result["items"][0]["result"]
    image = desk.store.images_by_id(desk.store.image_ids(set_id, ImageFilter()))[0]
    shown = desk.datasets.public_image(image)["metadata"]
    assert VECTORS not in shown and shown[MATCH] > 0.8


def test_without_weights_there_is_a_reason_and_no_vector(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from dalla.engines.faces import sface

    monkeypatch.setattr(sface, "FILE", "not_there.onnx")
    monkeypatch.setattr(sface, "_OWN", sface._OWN.with_name("not_there.onnx"))
    reader = SFace(desk.settings)
    assert not reader.available() and "not_there.onnx" in str(reader.reason)
    assert reader.read(portrait(), desk.faces.find(portrait())) == [None]
