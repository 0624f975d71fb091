"""What a batch can do to pictures: crop faces, analyse, resize. `upscale` and `dedupe` have files of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dalla import imaging
from dalla.engines.faces.base import Face, FaceFinder, FaceReader
from dalla.errors import Unavailable
from dalla.framing import crop_box, parse_ratio
from dalla.measures import measure, pixel_sha256, sharpness
from dalla.records.dataset import DatasetImage
from dalla.services.batch_options import MAX_SIDE, choice, colour, flag, known, number, rgb, whole
from dalla.services.batch_run import BatchContext
from dalla.services.dataset_pictures import encode
from dalla.services.face_identity import MATCH, VECTORS, compare, vectors_of
from dalla.services.processed_pictures import Made, ProcessedPictures
from dalla.stores.base import DatasetStore

if TYPE_CHECKING:
    from PIL import Image

#: Space around a face, as part of its size, by name.
MARGINS = {"tight": 0.15, "normal": 0.4, "loose": 0.9}
#: width:height of a face crop; "free" is the face with its margin.
ASPECTS = ("1:1", "4:5", "3:4", "2:3", "free")
_FORMATS = {"png": ("PNG", "image/png"), "jpeg": ("JPEG", "image/jpeg"), "webp": ("WEBP", "image/webp")}
_FACE_KEYS = ("faceShare", "faceSharpness", "yaw", "roll")

Box = tuple[int, int, int, int]


class FaceCrop:
    """`processed/<name>_face_0.png`, `_face_1.png`, … : the faces of a picture, largest first."""

    name, label, changes = "face_crop", "Crop faces", True
    kinds = ("original",)

    def __init__(self, store: DatasetStore, pictures: ProcessedPictures, faces: FaceFinder) -> None:
        self._store = store
        self._pictures = pictures
        self._faces = faces

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """margin: tight, normal, loose or a number 0..3; aspect; which: all or largest; minSize: least side of a face,
        px; size: long side of the crop, px (0: as it comes; never enlarged); caption: copy or none."""
        known(options, ("margin", "aspect", "which", "minSize", "size", "caption"))
        need_faces(self._faces)
        margin = options.get("margin", "normal")
        if margin not in MARGINS:
            margin = number(options, "margin", 0.4, 0, 3, hint=f"or {', '.join(MARGINS)}")
        return {
            "margin": margin,
            "aspect": choice(options, "aspect", ASPECTS, "1:1"),
            "which": choice(options, "which", ("all", "largest"), "all"),
            "minSize": whole(options, "minSize", 48, 8, 4096),
            "size": whole(options, "size", 0, 0, MAX_SIDE),
            "caption": choice(options, "caption", ("copy", "none"), "copy"),
        }

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any]:
        picture, _ = self._pictures.read(image)
        found = self._faces.find(picture.image)
        if not ctx.dry_run:
            self._store.put_metadata(image.dataset_id, {image.id: face_facts(picture.image, found)})
        large = [face for face in found if min(face.width, face.height) >= options["minSize"]]
        if options["which"] == "largest":
            large = large[:1]
        if not large:
            return {"skipped": f"Its faces are under {options['minSize']} px." if found else "No face was found."}
        boxes = [face_box(picture.image.size, face, _margin(options), options["aspect"]) for face in large]
        shown = [{"x": b[0], "y": b[1], "width": b[2] - b[0], "height": b[3] - b[1]} for b in boxes]
        if ctx.dry_run:
            tails = [(f"_face_{place}", "image/png") for place in range(len(boxes))]
            expected = self._pictures.expected(ctx, image, self.name, tails)
            return {"faces": len(large), "outputs": [a | {"box": b} for a, b in zip(expected, shown, strict=True)]}
        made = []
        for place, box in enumerate(boxes):
            crop = _within(picture.image.crop(box), options["size"])
            made.append(Made(f"_face_{place}", crop, encode(crop, "PNG", 100)))
        written = self._pictures.put(ctx, image, self.name, made, caption=options["caption"] == "copy")
        outputs = [a | {"box": b} for a, b in zip(written["outputs"], shown, strict=True)]
        return {**written, "faces": len(large), "outputs": outputs}

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        return self._pictures.undo(ctx, results)


class Analyze:
    """Measures again what is measured at import, and the faces. Writes metadata only."""

    name, label, changes = "analyze", "Analyse", False

    def __init__(
        self,
        store: DatasetStore,
        pictures: ProcessedPictures,
        faces: FaceFinder,
        reader: FaceReader | None = None,
        count_tokens: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """`count_tokens` counts what captions of a dataset lack a count, and returns how many (by dataset id)."""
        self._store = store
        self._pictures = pictures
        self._faces = faces
        self._reader = reader
        self._count_tokens = count_tokens

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """faces: look for faces, too (true)."""
        known(options, ("faces",))
        faces = flag(options, "faces", True)
        if faces:
            need_faces(self._faces, "Untick 'faces' to measure the rest.")
        return {"faces": faces}

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any]:
        picture, data = self._pictures.read(image)
        found = measure(picture.image, data)
        if options["faces"]:
            faces = self._faces.find(picture.image)
            found |= face_facts(picture.image, faces)
            if self._reader is not None and self._reader.available():
                found[VECTORS] = vectors_of(self._reader, picture.image, faces)
                if not found[VECTORS]:
                    found[MATCH] = None
        if not ctx.dry_run:
            self._store.put_metadata(image.dataset_id, {image.id: found})
            if not image.pixel_sha256:
                self._store.update_images([image.id], pixel_sha256=pixel_sha256(picture.image))
        return {key: value for key, value in found.items() if value is not None and key != VECTORS}

    def finish(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Say whose the faces are, now that they are all known; count tokens that were never counted."""
        if ctx.dry_run:
            return {}
        found: dict[str, Any] = {"tokensCounted": self._count_tokens(ctx.dataset_id)}
        if ctx.journal.plan()["options"]["faces"] and self._reader is not None and self._reader.available():
            found["identity"] = compare(self._store, ctx.dataset_id, self._reader.maker)
        return found


class Resize:
    """`processed/<name>_<width>x<height>.png`: by the long side, or to an exact size by crop or padding."""

    name, label, changes = "resize", "Resize", True
    kinds = ("original",)

    def __init__(self, store: DatasetStore, pictures: ProcessedPictures) -> None:
        self._store = store
        self._pictures = pictures

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """mode longSide: size. mode exact: width, height, fit (crop keeps faces that were found; pad), background
        (#rrggbb) for pad. Both: enlarge (false), format (png, jpeg, webp), quality."""
        known(options, ("mode", "size", "width", "height", "fit", "background", "enlarge", "format", "quality"))
        mode = choice(options, "mode", ("longSide", "exact"), "longSide")
        complete: dict[str, Any] = {"mode": mode}
        if mode == "longSide":
            complete["size"] = whole(options, "size", 1024, 16, MAX_SIDE)
        else:
            complete["width"] = whole(options, "width", 1024, 16, MAX_SIDE)
            complete["height"] = whole(options, "height", 1024, 16, MAX_SIDE)
            complete["fit"] = choice(options, "fit", ("crop", "pad"), "crop")
            complete["background"] = colour(options, "background", "#000000")
        complete["enlarge"] = flag(options, "enlarge", False)
        complete["format"] = choice(options, "format", tuple(_FORMATS), "png")
        complete["quality"] = whole(options, "quality", 95, 50, 100)
        return complete

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any]:
        size = self._size(image, options)
        if isinstance(size, str):
            return {"skipped": size}
        kind, mime = _FORMATS[options["format"]]
        tail = f"_{size[0]}x{size[1]}"
        picture, _ = self._pictures.read(image)  # in a trial, too: a damaged file shows
        if ctx.dry_run:
            (expected,) = self._pictures.expected(ctx, image, self.name, [(tail, mime)])
            return {"outputs": [{**expected, "width": size[0], "height": size[1]}]}
        scaled = self._scaled(image, picture.image, size, options)
        if kind == "JPEG":
            scaled = imaging.flatten(scaled)
        made = Made(tail, scaled, encode(scaled, kind, options["quality"]), mime)
        return self._pictures.put(ctx, image, self.name, [made])

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        return self._pictures.undo(ctx, results)

    @staticmethod
    def _size(image: DatasetImage, options: dict[str, Any]) -> tuple[int, int] | str:
        """The size to bring it to, or why it is left alone."""
        if options["mode"] == "longSide":
            longest = max(image.width, image.height)
            if longest == options["size"]:
                return "It has this size."
            if longest < options["size"] and not options["enlarge"]:
                return f"It is smaller already ({image.width} × {image.height})."
            scale = options["size"] / longest
            return max(1, round(image.width * scale)), max(1, round(image.height * scale))
        wide, high = options["width"], options["height"]
        if (image.width, image.height) == (wide, high):
            return "It has this size."
        if options["fit"] == "crop" and (image.width < wide or image.height < high) and not options["enlarge"]:
            return f"It is too small ({image.width} × {image.height})."
        return wide, high

    def _scaled(
        self, row: DatasetImage, image: Image.Image, size: tuple[int, int], options: dict[str, Any]
    ) -> Image.Image:
        from PIL import Image

        how = Image.Resampling.LANCZOS
        if options["mode"] == "longSide":
            return image.resize(size, how, reducing_gap=3.0)
        if options["fit"] == "crop":
            known = self._store.metadata([row.id], ["faceBoxes"]).get(row.id, {}).get("faceBoxes") or []
            faces = [(box["x"], box["y"], box["width"], box["height"]) for box in known]
            box = crop_box(image.width, image.height, size[0] / size[1], faces=faces)
            return image.resize(size, how, box=box, reducing_gap=3.0)
        scale = min(size[0] / image.width, size[1] / image.height)
        if not options["enlarge"]:
            scale = min(scale, 1.0)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        background = rgb(options["background"])
        small = imaging.flatten(image.resize(inner, how, reducing_gap=3.0), background)
        canvas = Image.new("RGB", size, background)
        canvas.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
        return canvas


# ------------------------------------------------------------------ faces


def need_faces(faces: FaceFinder, instead: str = "") -> None:
    """Raises Unavailable with the reason and the remedy when faces cannot be found."""
    if not faces.available():
        raise Unavailable(
            faces.reason or "Faces cannot be found in pictures.",
            remedy=f"Run 'make install', and keep the YuNet file in models/faces/. {instead}".strip(),
        )


def face_facts(image: Image.Image, faces: Sequence[Face]) -> dict[str, Any]:
    """Return the metadata of the faces in an upright picture; None removes what no longer holds.

    faces, faceBoxes [{x, y, width, height, score}] px, largest first; of the largest: faceShare (of the picture's
    area), faceSharpness (variance of the Laplacian at 512 px or less), yaw and roll in degrees.
    """
    facts: dict[str, Any] = dict.fromkeys(_FACE_KEYS)
    facts["faces"] = len(faces)
    facts["faceBoxes"] = [
        {
            "x": round(face.x, 1),
            "y": round(face.y, 1),
            "width": round(face.width, 1),
            "height": round(face.height, 1),
            "score": round(face.score, 3),
        }
        for face in faces
    ]
    if faces:
        largest = faces[0]
        facts["faceShare"] = round(largest.width * largest.height / (image.width * image.height), 5)
        facts["faceSharpness"] = sharpness(image.crop(_outer(image.size, largest.box)))
        facts["yaw"], facts["roll"] = largest.yaw, largest.roll
    return facts


def face_box(size: tuple[int, int], face: Face, margin: float, aspect: str) -> Box:
    """Return left, top, right, bottom of the crop: the face with `margin` of its size on every side, widened to the
    aspect, moved into the picture, and made smaller with the aspect kept where the picture ends.
    """
    width, height = face.width * (1 + 2 * margin), face.height * (1 + 2 * margin)
    middle_x, middle_y = face.x + face.width / 2, face.y + face.height / 2
    if aspect != "free":
        ratio = parse_ratio(aspect)
        width, height = max(width, height * ratio), max(height, width / ratio)
        scale = min(1.0, size[0] / width, size[1] / height)
        width, height = width * scale, height * scale
    else:
        width, height = min(width, size[0]), min(height, size[1])
    wide, high = max(1, min(size[0], round(width))), max(1, min(size[1], round(height)))
    left = round(min(size[0] - wide, max(0.0, middle_x - wide / 2)))
    top = round(min(size[1] - high, max(0.0, middle_y - high / 2)))
    return left, top, left + wide, top + high


def _margin(options: dict[str, Any]) -> float:
    return float(MARGINS.get(options["margin"], options["margin"]))


def _outer(size: tuple[int, int], box: tuple[float, float, float, float]) -> Box:
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    return left, top, min(size[0], math.ceil(box[0] + box[2])), min(size[1], math.ceil(box[1] + box[3]))


def _within(image: Image.Image, longest: int) -> Image.Image:
    from PIL import Image

    if not longest or max(image.size) <= longest:
        return image
    scale = longest / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
