"""Tell faces apart with SFace, a 10 MB network that OpenCV runs on the processor: 128 numbers for a face."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalla.engines.faces.base import Face
from dalla.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

FILE = "face_recognition_sface_2021dec_int8bq.onnx"
#: Longest side of the picture that faces are cut from, px: enough for the 112 px the network sees.
LONG_SIDE = 1024
_OWN = Path(__file__).resolve().parents[3] / "models" / "faces" / FILE


class SFace:
    """Vectors through `cv2.FaceRecognizerSF`. Nothing is loaded before the first face."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._network: Any = None
        self._reason: str | None = None
        self.maker = ""

    def available(self) -> bool:
        """Whether faces can be read (library and weights are there)."""
        with self._lock:
            return self._ready()

    @property
    def reason(self) -> str | None:
        """Why faces cannot be read; None while nothing is known to be wrong (`available` looks)."""
        return self._reason

    def read(self, image: Image.Image, faces: Sequence[Face]) -> list[tuple[float, ...] | None]:
        """Return a unit vector of 128 numbers for each face; None for one without landmarks or that cannot be read."""
        with self._lock:
            if not faces or not self._ready():
                return [None] * len(faces)
            try:
                return self._read(image, faces)
            except Exception as exc:  # noqa: BLE001 - cv2.error and whatever a picture provokes: it goes without
                log.warning("Faces could not be read: %s", exc)
                return [None] * len(faces)

    def _read(self, image: Image.Image, faces: Sequence[Face]) -> list[tuple[float, ...] | None]:
        import numpy
        from PIL import Image

        scale = min(1.0, LONG_SIDE / max(image.size))
        small = image.convert("RGB")
        if scale < 1:
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            small = small.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = numpy.ascontiguousarray(numpy.asarray(small)[:, :, ::-1])
        found: list[tuple[float, ...] | None] = []
        for face in faces:
            if len(face.landmarks) != 5:
                found.append(None)
                continue
            points = [value * scale for point in face.landmarks for value in point]
            row = numpy.array([[*(value * scale for value in face.box), *points, face.score]], dtype=numpy.float32)
            values = self._network.feature(self._network.alignCrop(pixels, row))[0].astype(numpy.float64)
            length = float(numpy.linalg.norm(values))
            found.append(tuple(float(v) for v in values / length) if length > 0 else None)
        return found

    def _ready(self) -> bool:
        """Load the network once; remember why it cannot be loaded. Call with the lock held."""
        if self._network is None and self._reason is None:
            places = (Path(self._settings.models_dir) / "faces" / FILE, _OWN)
            file = next((place for place in places if place.is_file()), None)
            try:
                import cv2
                import numpy  # noqa: F401 - the network speaks in its arrays

                if file is None:
                    raise FileNotFoundError(f"{FILE} is neither in {places[0].parent} nor in {_OWN.parent}")
                self._network = cv2.FaceRecognizerSF.create(str(file), "")
                self.maker = f"sface-128-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
            except Exception as exc:  # noqa: BLE001 - no library, no file, a broken file: all mean the same here
                self._reason = f"Faces cannot be compared: {exc}."
                log.warning("%s", self._reason)
        return self._network is not None
