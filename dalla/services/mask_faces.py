"""Masks made from the faces that are found: training then looks at the person, not at the room.

White counts, and what is far from the faces counts as little as `floor` says. The edge is soft, as a hard one teaches
the edge. The mask lies with its picture as one that was brought would.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

from dalla.engines.faces.base import Face, FaceFinder
from dalla.errors import NotFound
from dalla.records.dataset import DatasetImage
from dalla.services.batch_options import choice, flag, known, number, whole
from dalla.services.batch_run import BatchContext
from dalla.services.dataset_masks import DatasetMasks
from dalla.services.dataset_pictures import encode
from dalla.services.image_operations import face_facts, need_faces
from dalla.services.processed_pictures import ProcessedPictures
from dalla.stores.base import DatasetStore

if TYPE_CHECKING:
    from PIL import Image

#: Ovals of an area, as parts of the face's width and height: middle to the side, middle down, half width, half height.
AREAS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "face": ((0.0, -0.05, 0.65, 0.7),),
    "head": ((0.0, -0.15, 0.95, 1.0), (0.0, 1.75, 2.0, 1.15)),  # with hair, neck and shoulders
}
#: A mask is drawn with its long side at most this, px, and enlarged: its edge is soft anyway.
DRAWN = 512
#: Pictures of a trial that show what they would get, and the long side they are shown with, px.
SHOWN, SHOWN_SIDE = 3, 192
_CORNERS = 72  # of the polygon an oval is drawn as


class MaskFaces:
    """Gives pictures a mask of the faces in them; those that have one keep it unless told otherwise."""

    name, label, changes = "mask_faces", "Mask faces", True

    def __init__(
        self, store: DatasetStore, pictures: ProcessedPictures, masks: DatasetMasks, faces: FaceFinder
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._masks = masks
        self._faces = faces

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """area: head (and shoulders) or face; which: all or largest; floor: what the rest counts, %; softness: width
        of the edge, as a part of the face's height; replace: also pictures that have a mask."""
        known(options, ("area", "which", "floor", "softness", "replace"))
        need_faces(self._faces)
        return {
            "area": choice(options, "area", tuple(AREAS), "head"),
            "which": choice(options, "which", ("all", "largest"), "all"),
            "floor": whole(options, "floor", 10, 0, 90),
            "softness": number(options, "softness", 0.3, 0, 1),
            "replace": flag(options, "replace", False),
        }

    def begin(self, ctx: BatchContext, images: list[DatasetImage], options: dict[str, Any]) -> None:
        ctx.shared["shown"] = {image.id for image in images[:SHOWN]}

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any]:
        note = f"{image.id}.mask"
        begun = ctx.journal.kept_file(note) is not None  # the program was killed at this picture
        has = self._masks.of(image)
        if has is not None and not options["replace"] and not begun:
            return {"skipped": "It has a mask, which is kept."}
        picture, _ = self._pictures.read(image)
        found = self._faces.find(picture.image)
        if not ctx.dry_run:
            self._store.put_metadata(image.dataset_id, {image.id: face_facts(picture.image, found)})
        if not found:
            return {"skipped": "No face was found."}
        faces = found[:1] if options["which"] == "largest" else found
        mask = face_mask(picture.image.size, faces, options["area"], options["softness"], options["floor"])
        result: dict[str, Any] = {"faces": len(faces), "covered": covered(mask)}
        if ctx.dry_run:
            if image.id in ctx.shared.get("shown", ()):
                result["preview"] = _preview(picture.image, mask)
            return result
        if not begun:
            ctx.journal.keep_file(note, self._masks.read(image) or b"")
        facts = self._masks.write(image, encode(mask, "PNG", 100), f"{image.filename}.png")
        return {**result, "undo": {"sha256": facts["sha256"]}}

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Give back the masks there were; one that was changed since stays."""
        counts = {"restored": 0, "left": 0}
        for done, (id, result) in enumerate(results.items()):
            ctx.progress(done, len(results))
            before = ctx.journal.kept_file(f"{id}.mask")
            try:
                image = self._store.image(id)
            except NotFound:
                image = None
            has = self._masks.of(image) if image is not None else None
            if image is None or before is None or has is None or has["sha256"] != result["undo"]["sha256"]:
                counts["left"] += 1
                continue
            if before:
                self._masks.write(image, before)
            else:
                self._masks.erase(image)
            counts["restored"] += 1
        return counts


def face_mask(size: tuple[int, int], faces: list[Face], area: str, softness: float, floor: int) -> Image.Image:
    """Return the mask (mode L, of `size` px) of these faces: 255 inside, `floor` percent of it far outside."""
    from PIL import Image, ImageChops, ImageDraw, ImageFilter

    scale = min(1.0, DRAWN / max(size))
    small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    whole_mask = Image.new("L", small, 0)
    for face in faces:
        one = Image.new("L", small, 0)
        draw = ImageDraw.Draw(one)
        blur = softness * face.height * scale / 3
        for oval in AREAS[area]:
            draw.polygon([(x * scale, y * scale) for x, y in _oval(face, oval, blur / scale)], fill=255)
        if blur >= 0.3:
            one = one.filter(ImageFilter.GaussianBlur(blur))
        whole_mask = ImageChops.lighter(whole_mask, one)
    least = 255 * floor / 100
    graded = whole_mask.point([round(least + (255 - least) * value / 255) for value in range(256)])
    return graded.resize(size, Image.Resampling.BILINEAR)


def _oval(face: Face, oval: tuple[float, float, float, float], more: float) -> list[tuple[float, float]]:
    """Return the corners of an oval around a face in px, tilted with it, `more` px wider on every side.

    The blur takes as much from the inside as it gives to the outside: `more` keeps the inside whole.
    """
    aside, down, wide, high = oval
    tilt = math.radians(face.roll or 0.0)
    middle_x, middle_y = face.x + face.width / 2, face.y + face.height / 2
    corners = []
    for step in range(_CORNERS):
        angle = 2 * math.pi * step / _CORNERS
        x = face.width * aside + (face.width * wide + more) * math.cos(angle)
        y = face.height * down + (face.height * high + more) * math.sin(angle)
        corners.append(
            (
                middle_x + x * math.cos(tilt) - y * math.sin(tilt),
                middle_y + x * math.sin(tilt) + y * math.cos(tilt),
            )
        )
    return corners


def covered(mask: Image.Image) -> float:
    """Return which share of the picture counts at least half of what a face does."""
    counts = mask.histogram()
    return round(sum(counts[128:]) / max(1, sum(counts)), 3)


def _preview(picture: Image.Image, mask: Image.Image) -> str:
    """Return the picture as training would weigh it, small, as a data: address."""
    from PIL import Image

    scale = min(1.0, SHOWN_SIDE / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    dark = Image.composite(small, Image.new("RGB", size), mask.resize(size, Image.Resampling.BILINEAR))
    return "data:image/webp;base64," + base64.b64encode(encode(dark, "WEBP", 70)).decode()
