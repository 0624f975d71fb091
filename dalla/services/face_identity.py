"""Who a set is about, and which of its faces are somebody else's.

`analyze` keeps the vectors of a picture's largest faces as the measured value `faceVectors`; from those of the whole
set comes `faceMatch`: how alike the likeliest face of a picture is to the person most pictures show (cosine, -1..1).
The vectors were made for photographs; drawn faces may well be told apart wrongly, so the number is shown, not judged.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from dalla.engines.faces.base import Face, FaceReader
from dalla.measures import STRANGER
from dalla.records.dataset import ImageFilter
from dalla.stores.base import DatasetStore

VECTORS, MATCH = "faceVectors", "faceMatch"
#: So many faces of a picture are kept, the largest first: one of them may be the person's.
FACES = 3
#: Two photographs with a cosine from here on show the same person (1 in 10,000 pairs of strangers does as well).
SAME = 0.45
#: Fewer faces tell nothing about who the set is about.
FEWEST = 4
#: Pictures compared with each other to find the person; larger sets are sampled evenly.
MOST = 1500


def vectors_of(reader: FaceReader, image: Any, faces: Sequence[Face]) -> dict[str, Any] | None:
    """Return what is kept of the largest faces: {maker, values: base64 of 128 half floats each}; None without any."""
    import numpy

    found = [vector for vector in reader.read(image, list(faces)[:FACES]) if vector is not None]
    if not found:
        return None
    values = [base64.b64encode(numpy.asarray(v, dtype="<f2").tobytes()).decode() for v in found]
    return {"maker": reader.maker, "values": values}


def compare(store: DatasetStore, dataset_id: str, maker: str) -> dict[str, int]:
    """Compare all faces of a dataset with the person it is about and keep `faceMatch`.

    Return {faces (pictures with vectors), strangers}. Sets that show nobody in most of their pictures, and sets with
    fewer than four faces, have no `faceMatch`.
    """
    import numpy

    where = ImageFilter(excluded=False, regularization=False)
    rows = [
        (id, kept["values"], before)
        for id, kept, before in store.columns(dataset_id, [VECTORS, MATCH], where)
        if isinstance(kept, dict) and kept.get("maker") == maker and kept.get("values")
    ]
    faces = [numpy.stack([_vector(value) for value in values]) for _, values, _ in rows]
    person = _person(numpy.stack([some[0] for some in faces])) if len(faces) >= FEWEST else None
    matches = [None if person is None else round(float((some @ person).max()), 4) for some in faces]
    changes: dict[str, dict[str, Any]] = {
        id: {MATCH: match} for (id, _, before), match in zip(rows, matches, strict=True) if match != before
    }
    store.put_metadata(dataset_id, changes)
    return {"faces": len(rows), "strangers": sum(match is not None and match < STRANGER for match in matches)}


def _person(faces: Any) -> Any:
    """Return the mean face (unit vector) of whom most of these faces (rows) show; None: there is no such person."""
    import numpy

    step = -(-len(faces) // MOST)
    some = faces[::step]
    alike = (some @ some.T) >= SAME
    members = some[alike[int(alike.sum(axis=1).argmax())]]
    centre = _unit(members.mean(axis=0))
    for _ in range(3):  # the first choice leans to one picture; its friends settle it
        members = some[(some @ centre) >= SAME]
        if not len(members):
            return None
        centre = _unit(members.mean(axis=0))
    if len(members) < max(FEWEST, len(some) / 2):
        return None
    return _unit(faces[(faces @ centre) >= SAME].mean(axis=0)) if numpy.isfinite(centre).all() else None


def _unit(values: Any) -> Any:
    import numpy

    return values / max(float(numpy.linalg.norm(values)), 1e-9)


def _vector(text: str) -> Any:
    import numpy

    return _unit(numpy.frombuffer(base64.b64decode(text), dtype="<f2").astype(numpy.float32))
