"""Tags from a WD tagger: a folder with `model.onnx` and `selected_tags.csv`, run by onnxruntime or by OpenCV.

onnxruntime is taken when it is installed; OpenCV, which is there anyway, runs the networks whose layers it knows.
"""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalla.errors import StorageError

if TYPE_CHECKING:
    from dalla.diffusion.caption_models import CaptionTask

log = logging.getLogger(__name__)

#: What the network sees, px, where nothing says otherwise.
SIDE = 448
#: Categories of selected_tags.csv that are kept: what is to be seen, and characters. 9 is the rating.
KEPT = {0: "general", 4: "character"}
#: Tags that are faces made of signs: their underscores stay.
KAOMOJI = frozenset("0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split())


class Tagger:
    """A loaded tagger. Raises StorageError when it cannot be loaded."""

    device, precision = "cpu", "fp32"

    def __init__(self, folder: Path) -> None:
        self._name = folder.name
        self._labels = read_labels(folder / "selected_tags.csv")
        self.side = input_side(folder)
        self._run, self.program = _open(folder / "model.onnx", self.side)

    def describe(self, image: Any, task: CaptionTask) -> dict[str, Any]:
        """Return the answer of `Captioner.describe` for an RGB picture: tags with their certainty, surest first."""
        scores = self._run(prepare(image, self.side))
        if len(scores) != len(self._labels):
            raise StorageError(
                f"The tagger '{self._name}' answers {len(scores)} numbers, but selected_tags.csv has {len(self._labels)} tags.",
                remedy="Take model.onnx and selected_tags.csv from the same model.",
            )
        found = [
            [tag, round(float(score), 4)]
            for (tag, kept), score in zip(self._labels, scores, strict=True)
            if kept and score >= task.threshold
        ]
        found.sort(key=lambda row: -row[1])
        return {"text": "", "tags": found, "device": self.device, "precision": self.precision, "notes": []}


def read_labels(path: Path) -> list[tuple[str, bool]]:
    """Return (tag, whether it is kept) in the network's order. Raises StorageError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [(row["name"], int(row["category"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as exc:
        raise StorageError(
            f"selected_tags.csv of '{path.parent.name}' cannot be read: {exc!r}",
            remedy="Copy the file again; it has the columns tag_id, name, category and count.",
        ) from exc
    return [(name if name in KAOMOJI else name.replace("_", " "), category in KEPT) for name, category in rows]


def input_side(folder: Path) -> int:
    """Return the side in px that the network wants: from config.json when there is one."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return SIDE
    if not isinstance(config, dict):
        return SIDE
    given = (config.get("pretrained_cfg") or {}).get("input_size") or config.get("image_size") or SIDE
    side = given[-1] if isinstance(given, list) and given else given
    return side if isinstance(side, int) and 16 <= side <= 2048 else SIDE


def prepare(image: Any, side: int) -> Any:
    """Return the picture as these networks want it: float32 (1, side, side, 3), BGR 0..255, padded white to a square."""
    import numpy
    from PIL import Image

    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), (255, 255, 255))
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    if longest != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return numpy.ascontiguousarray(numpy.asarray(square, dtype=numpy.float32)[None, :, :, ::-1])


def _open(path: Path, side: int) -> tuple[Any, str]:
    """Return (function of the input, the program's name). Raises StorageError."""
    if not path.is_file():
        raise StorageError(f"'{path.parent.name}' has no model.onnx.", remedy="Copy the complete folder again.")
    try:
        import onnxruntime
    except ImportError:
        return _with_opencv(path, side), "opencv"
    return _with_onnxruntime(onnxruntime, path), "onnxruntime"


def _with_onnxruntime(onnxruntime: Any, path: Path) -> Any:
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as exc:  # the library has a class of its own for every kind of broken file
        raise StorageError(f"The tagger '{path.parent.name}' cannot be loaded: {_line(exc)}") from exc
    entry = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {entry: pixels})[0].reshape(-1)


def _with_opencv(path: Path, side: int) -> Any:
    import cv2
    import numpy

    try:
        network = cv2.dnn.readNetFromONNX(str(path))
        network.setInput(numpy.zeros((1, side, side, 3), numpy.float32))
        network.forward()  # layers it does not know show here at the latest
    except cv2.error as exc:
        raise StorageError(
            f"OpenCV cannot run the tagger '{path.parent.name}': {_line(exc)}",
            remedy="Install onnxruntime (pip install onnxruntime), which knows all layers; it is then used by itself.",
        ) from exc

    def run(pixels: Any) -> Any:
        network.setInput(pixels)
        return network.forward().reshape(-1)

    return run


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__
