"""Are the samples like the training pictures? Faces by SFace, whole pictures by CLIP or DINO weights of the user's.

Faces: the face in every training picture becomes a vector, and their mean is the person. A sample's best face is
compared with that mean (is it the same person?) and with every single picture (was one copied?). The bands were
measured on photographs, so a model of drawn characters gets no reading. Whole pictures: the same comparison with an
image encoder that lies in `models/vision/<name>/`. Nothing here ends a run: what cannot be measured is told in
`text`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalla import training_set
from dalla.paths import read_object

log = logging.getLogger(__name__)

DETECTOR = "face_detection_yunet_2023mar_int8bq.onnx"
RECOGNISER = "face_recognition_sface_2021dec_int8bq.onnx"
#: The detector's settings: the side in px that the longer side is brought to, and how sure it must be.
LONG_SIDE, SCORE, OVERLAP, SHORT_SIDE = 640, 0.7, 0.3, 24
#: Cosine to the person's mean -> what it means. Measured on photographs (SFace, mean of four and more pictures).
BANDS = ((0.60, "strong"), (0.45, "likely"), (0.363, "weak"))
STRANGER = BANDS[-1][0]
#: So few faces make no dependable mean.
FEWEST = 4
#: At most so many training pictures are compared, spread evenly over the set.
MOST = 160
#: A face nearer than this to that of one picture, at the same place and of the same size (shares of the picture's
#: sides), is likely that picture again. Different photographs of one person reach about 0.75.
COPIED_FACE, SAME_PLACE = 0.9, 0.06
#: A picture nearer than this to one training picture, and nearer than any two of those are to each other, as well.
COPIED_PICTURE = 0.95
#: Models up to this side in px draw cartoons here; a face's vector means nothing for those.
DRAWN_SIDE = 256
_OWN = Path(__file__).resolve().parents[2] / "models" / "faces"
_ENCODERS = {
    "clip": "CLIP", "clip_vision_model": "CLIP", "dinov2": "DINOv2", "dinov2_with_registers": "DINOv2", "vit": "DINO",
}  # fmt: skip
_CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_PLAIN_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class Vector:
    """One picture's unit vector (numpy float32), and where the face lies: middle x, y, width, height as shares."""

    file: str
    values: Any
    place: tuple[float, float, float, float] | None = None


def of_samples(loop: Any, final: dict[int, Any]) -> dict[str, Any]:
    """Return {"faces": …, "images": …} for the report of a run; see `compare_faces` and `compare_images`.

    `loop` is the training that has ended (training/loop.py), `final` its last sample pictures by prompt index.
    Never raises; a reading that cannot be had has `measured` false and a `text` that says why.
    """
    prompts = {p.index: p for p in loop.loaded.sampler.prompts}
    named = [i for i in final if prompts[i].with_trigger] or list(final)
    lora = [(str(i), final[i]) for i in named]
    base = [(str(i), loop.base_samples[i]) for i in named if i in loop.base_samples]
    models = _models_of(loop)
    return {
        "faces": _safely(lambda: faces(lambda: _training(loop, False), lora, base, models, drawn=_draws(loop))),
        "images": _safely(lambda: images(lambda: _training(loop, True), lora, base, models)),
    }


def _training(loop: Any, cut: bool) -> Iterator[tuple[str, Any]]:
    """Yield a run's pictures by name, one in memory at a time: they may be large."""
    folder = Path(loop.config.dataset_folder)
    for row in spread([*loop.prepared.train, *loop.prepared.held_out]):
        yield row.file, training_picture(folder, row, cut)


def _models_of(loop: Any) -> Path | None:
    return Path(loop.config.models_folder) if loop.config.models_folder else None


def _draws(loop: Any) -> bool:
    """Say whether a run's base model draws cartoons."""
    side: int = loop.prepared.model.native_size
    return side <= DRAWN_SIDE


class Person:
    """Whose face a run's training pictures show: the mean of their vectors, which samples are compared with."""

    def __init__(self, reader: FaceReader, own: list[Vector]) -> None:
        self._reader = reader
        self._values = _mean_of(own)
        self.among = _round(sum(_to_others(own)) / len(own))  # of the training pictures' faces to the others' mean

    @classmethod
    def of_run(cls, loop: Any, tell: Callable[[int], None] = lambda done: None) -> Person | None:
        """Return the person of a run, None where faces cannot be compared; the report says why.

        `tell` hears how many pictures were looked at: with many large ones it takes a while.
        """
        if _draws(loop):
            return None
        try:
            reader = FaceReader(_models_of(loop))
            own = []
            for done, (name, image) in enumerate(_training(loop, False)):
                tell(done)
                own += reader.read(name, image)[:1]
        except Exception as exc:  # noqa: BLE001 - as in `faces`
            log.info("No faces are compared while the run trains: %s", _first_line(exc))
            return None
        kept = _same_person(own)
        return cls(reader, kept) if _enough(kept, own) else None

    def similarity(self, pictures: list[Any]) -> float | None:
        """Return the mean cosine of each picture's best face to the person; None when no picture shows a face."""
        found = [self._reader.read(str(number), image) for number, image in enumerate(pictures)]
        best = [max(float(face.values @ self._values) for face in faces) for faces in found if faces]
        return _round(sum(best) / len(best)) if best else None


def _same_person(own: list[Vector]) -> list[Vector]:
    """Return the faces that fit the others."""
    return [v for v, near in zip(own, _to_others(own), strict=True) if near >= STRANGER] if len(own) > 1 else []


def _enough(kept: list[Vector], own: list[Vector]) -> bool:
    return len(kept) >= max(FEWEST, len(own) // 2)


def _mean_of(own: list[Vector]) -> Any:
    import numpy

    return _unit(numpy.mean([v.values for v in own], axis=0))


def faces(
    training: Callable[[], Iterable[tuple[str, Any]]],
    lora: list[tuple[str, Any]],
    base: list[tuple[str, Any]],
    models: Path | None,
    *,
    drawn: bool = False,
) -> dict[str, Any]:
    """Return the reading of the faces; pictures are (name, PIL image), `models` the user's models folder."""
    if drawn:
        return _none("Faces are not compared: this base model draws cartoons, and the measure is for photographs.")
    try:
        reader = FaceReader(models)
    except Exception as exc:  # noqa: BLE001 - no library, no file, a broken file: all mean the same here
        return _none(f"Faces could not be compared: {_first_line(exc)}")
    own = [face for name, image in training() for face in reader.read(name, image)[:1]]
    if len(own) < FEWEST:
        return _none(f"Faces are not compared: {_count(len(own))} with a face; {FEWEST} are needed.", pictures=len(own))
    answer = compare_faces(
        own, [reader.read(name, image) for name, image in lora], [reader.read(name, image) for name, image in base]
    )
    return {**answer, "model": RECOGNISER, "dimensions": len(own[0].values), "sha256": reader.sha256()}


def compare_faces(own: list[Vector], lora: list[list[Vector]], base: list[list[Vector]]) -> dict[str, Any]:
    """Compare the samples' faces (each: all faces of one sample) with those of the training pictures.

    Returns {measured, band, text, notes, similarity: {lora, base, training}, samples: [{index, similarity, band,
    nearest: {file, similarity}, copy}], odd: [files that show somebody else], pictures}. `similarity` is the cosine
    to the mean of the training faces, for those each to the mean of the others.
    """
    import numpy

    kept = _same_person(own)
    odd = [v.file for v in own if v not in kept]
    if not _enough(kept, own):
        return _none(
            "Faces are not compared: the training pictures show different people, or faces that are not photographs.",
            pictures=len(own),
        )
    person = _mean_of(kept)
    rows = []
    for found in lora:
        if not found:
            continue
        best = max(found, key=lambda v: float(v.values @ person))
        nearest = max(kept, key=lambda v: float(v.values @ best.values))
        near = float(nearest.values @ best.values)
        rows.append(
            {
                "index": int(best.file),
                "similarity": _round(best.values @ person),
                "band": band(float(best.values @ person)),
                "nearest": {"file": nearest.file, "similarity": _round(near)},
                "copy": near >= COPIED_FACE and _same_place(best, nearest),
            }
        )
    before = [max(float(v.values @ person) for v in found) for found in base if found]
    among = float(numpy.mean(_to_others(kept)))
    result: dict[str, Any] = {
        "measured": bool(rows),
        "pictures": len(kept),
        "odd": odd,
        "samples": rows,
        "similarity": {
            "lora": _round(numpy.mean([row["similarity"] for row in rows])) if rows else None,
            "base": _round(numpy.mean(before)) if before else None,
            "training": _round(among),
        },
        "notes": [],
    }
    if not rows:
        return {**result, "band": None, "text": "No face was found in the samples, so it cannot be told whose it is."}
    mean = result["similarity"]["lora"]
    result["band"] = band(mean)
    told = {
        "strong": "The face in the samples is clearly the one in the training pictures",
        "likely": "The face in the samples is probably the one in the training pictures",
        "weak": "The face in the samples resembles the one in the training pictures only a little",
        "none": "The face in the samples is not the one in the training pictures",
    }[result["band"]]
    without = f", {result['similarity']['base']:.2f} without the LoRA" if before else ""
    result["text"] = f"{told}: similarity {mean:.2f}{without}; the pictures among themselves {among:.2f}."
    if len(rows) < len(lora):
        result["notes"].append(f"{len(lora) - len(rows)} of {len(lora)} samples show no face.")
    result["notes"] += _copies(rows)
    if odd:
        result["notes"].append(f"Perhaps somebody else is in {', '.join(odd[:5])}: these faces do not fit the others.")
    return result


def images(
    training: Callable[[], Iterable[tuple[str, Any]]],
    lora: list[tuple[str, Any]],
    base: list[tuple[str, Any]],
    models: Path | None,
) -> dict[str, Any]:
    """Return the reading of whole pictures by the encoder in `models/vision/`, if there is one."""
    folder = find_encoder(models)
    if folder is None:
        return _none("Whole pictures are not compared: there is no CLIP or DINO image encoder in models/vision/.")
    try:
        encoder = ImageEncoder(folder)
    except Exception as exc:  # noqa: BLE001 - a broken or foreign folder of the user's
        return _none(f"The image encoder '{folder.name}' cannot be used: {_first_line(exc)}")
    own = encoder.read(training())
    if len(own) < 2:
        return _none("Whole pictures are not compared: at least two training pictures are needed.", pictures=len(own))
    return {**compare_images(own, encoder.read(lora), encoder.read(base), encoder.label), "model": folder.name}


def compare_images(own: list[Vector], lora: list[Vector], base: list[Vector], label: str) -> dict[str, Any]:
    """Compare whole pictures: {measured, text, notes, similarity: {lora, base, training}, samples, pictures}.

    `similarity` is the mean cosine to every training picture; for those, to every other.
    """
    import numpy

    matrix = numpy.stack([v.values for v in own])
    among = matrix @ matrix.T
    others = among[~numpy.eye(len(own), dtype=bool)]
    closest = float(others.max())
    rows = []
    for vector in lora:
        near = matrix @ vector.values
        at = int(near.argmax())
        rows.append(
            {
                "index": int(vector.file),
                "similarity": _round(near.mean()),
                "nearest": {"file": own[at].file, "similarity": _round(near[at])},
                "copy": bool(near[at] >= COPIED_PICTURE and near[at] > closest),
            }
        )
    if not rows:
        return _none("Whole pictures are not compared: there are no samples.", pictures=len(own))
    mean = float(numpy.mean([row["similarity"] for row in rows]))
    before = float(numpy.mean([(matrix @ v.values).mean() for v in base])) if base else None
    without = f", {before:.2f} without the LoRA" if before is not None else ""
    told = f"{label} sees the samples {mean:.2f} like the training pictures{without}"
    return {
        "measured": True,
        "text": f"{told}; the pictures among themselves {float(others.mean()):.2f}.",
        "notes": _copies(rows),
        "pictures": len(own),
        "samples": rows,
        "similarity": {
            "lora": _round(mean),
            "base": None if before is None else _round(before),
            "training": _round(others.mean()),
        },
    }


def band(similarity: float) -> str:
    """Return "strong", "likely", "weak" or "none" for a cosine to the mean of a person's photographs."""
    return next((name for least, name in BANDS if similarity >= least), "none")


class FaceReader:
    """Faces as vectors, on the processor. Raises FileNotFoundError, ImportError or cv2.error when it cannot be made."""

    def __init__(self, models: Path | None) -> None:
        import cv2

        self._file = _weights(RECOGNISER, models)
        self._detector = cv2.FaceDetectorYN.create(
            str(_weights(DETECTOR, models)), "", (LONG_SIDE, LONG_SIDE), SCORE, OVERLAP, 50
        )
        self._recogniser = cv2.FaceRecognizerSF.create(str(self._file), "")

    def read(self, name: str, image: Any) -> list[Vector]:
        """Return the faces of an upright picture, largest first; empty when there are none."""
        import numpy
        from PIL import Image

        scale = LONG_SIDE / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if min(size) < SHORT_SIDE:
            return []
        small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = numpy.ascontiguousarray(numpy.asarray(small)[:, :, ::-1])
        self._detector.setInputSize(size)
        _, found = self._detector.detect(pixels)
        vectors = []
        for row in sorted(found if found is not None else (), key=lambda row: -row[2] * row[3]):
            values = self._recogniser.feature(self._recogniser.alignCrop(pixels, row))[0]
            x, y, width, height = (float(v) for v in row[:4])
            place = (x + width / 2) / size[0], (y + height / 2) / size[1], width / size[0], height / size[1]
            vectors.append(Vector(name, _unit(values), place))
        return vectors

    def sha256(self) -> str:
        """Return the hash of the recogniser's file: vectors of different files must not be compared."""
        return hashlib.sha256(self._file.read_bytes()).hexdigest()


def find_encoder(models: Path | None) -> Path | None:
    """Return the first folder in `models/vision/` (or that folder itself) whose config is of CLIP or DINO."""
    if models is None or not (root := models / "vision").is_dir():
        return None
    return next((p for p in (root, *sorted(root.iterdir())) if read_object(p / "config.json").get("model_type") in _ENCODERS), None)  # fmt: skip


class ImageEncoder:
    """Whole pictures as vectors by transformers' own classes, from local safetensors only, on the processor.

    Raises what transformers raises for a folder it cannot load.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModel, CLIPVisionModelWithProjection

        kind = read_object(folder / "config.json")["model_type"]
        self.label = _ENCODERS[kind]
        self._clip = self.label == "CLIP"
        loader = CLIPVisionModelWithProjection if self._clip else AutoModel
        self._model = loader.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        ).eval()
        said = read_object(folder / "preprocessor_config.json")
        self._side = int(self._model.config.image_size)
        colours = _CLIP_COLOURS if self._clip else _PLAIN_COLOURS
        self._mean, self._std = said.get("image_mean") or colours[0], said.get("image_std") or colours[1]

    def read(self, pictures: Iterable[tuple[str, Any]]) -> list[Vector]:
        """Return one vector for each picture: the middle square, scaled to what the network reads."""
        import numpy
        import torch
        from PIL import Image, ImageOps

        vectors = []
        for name, image in pictures:
            square = ImageOps.fit(image.convert("RGB"), (self._side, self._side), Image.Resampling.BICUBIC)
            pixels = (numpy.asarray(square, dtype=numpy.float32) / 255 - self._mean) / self._std
            batch = torch.from_numpy(pixels.astype(numpy.float32)).permute(2, 0, 1)[None]
            with torch.no_grad():
                out = self._model(pixel_values=batch)
            vectors.append(Vector(name, _unit((out.image_embeds if self._clip else out.last_hidden_state[:, 0])[0].numpy())))  # fmt: skip
        return vectors


# ---------------------------------------------------------------- small things


def _to_others(vectors: list[Vector]) -> list[float]:
    """Return each vector's cosine to the mean of the others."""
    import numpy

    total = numpy.sum([v.values for v in vectors], axis=0)
    return [float(v.values @ _unit(total - v.values)) for v in vectors]


def _copies(rows: list[dict[str, Any]]) -> list[str]:
    copied = [row for row in rows if row["copy"]]
    if not copied:
        return []
    named = ", ".join(f"sample {row['index'] + 1} ({row['nearest']['file']})" for row in copied[:5])
    return [f"Nearly a training picture again: {named}. Fewer steps or more pictures help against copying."]


def _same_place(a: Vector, b: Vector) -> bool:
    return a.place is not None and b.place is not None and all(
        abs(x - y) <= SAME_PLACE for x, y in zip(a.place, b.place, strict=True)
    )  # fmt: skip


def spread(rows: list[Any]) -> list[Any]:
    """Return at most MOST of the rows, evenly over the list."""
    return rows if len(rows) <= MOST else [rows[i * len(rows) // MOST] for i in range(MOST)]


def training_picture(folder: Path, row: Any, cut: bool) -> Any:
    """Return a picture of the training folder, upright RGB; `row` is its SetPicture, `cut`: only what is trained on."""
    image, _ = training_set.open_rgb(folder / row.file)
    return image.crop(row.box) if cut else image


def _weights(name: str, models: Path | None) -> Path:
    places = [*([models / "faces" / name] if models else []), _OWN / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{name} is not in models/faces/.")
    return found


def _unit(values: Any) -> Any:
    import numpy

    values = numpy.asarray(values, dtype=numpy.float32)
    return values / max(float(numpy.linalg.norm(values)), 1e-12)


def _round(value: Any) -> float:
    return round(float(value), 4)


def _none(text: str, *, pictures: int = 0) -> dict[str, Any]:
    return {"measured": False, "text": text, "notes": [], "samples": [], "similarity": None, "pictures": pictures}


def _safely(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return measure()
    except Exception as exc:  # noqa: BLE001 - a report without one reading is better than a run without its LoRA
        log.warning("A similarity could not be measured", exc_info=True)
        return _none(f"This could not be measured: {_first_line(exc)}")


def _first_line(exc: Exception) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)[:200]


def _count(pictures: int) -> str:
    return "no training picture" if not pictures else f"{pictures} training picture{'s' * (pictures > 1)}"
