"""Find faces with YuNet, a 120 kB network that OpenCV runs on the processor in well under a tenth of a second."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalla.engines.faces.base import Face
from dalla.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

FILE = "face_detection_yunet_2023mar_int8bq.onnx"
#: Longest side the network sees, px. Larger finds smaller faces in groups, and more that are none.
LONG_SIDE = 640
#: A strip narrower than this, px, after scaling holds no face; the network sees some in it nevertheless.
SHORT_SIDE = 24
#: Least certainty of a face.
SCORE = 0.7
#: Boxes that overlap more than this are the same face.
OVERLAP = 0.3
_OWN = Path(__file__).resolve().parents[3] / "models" / "faces" / FILE


class YuNet:
    """Faces through `cv2.FaceDetectorYN`. Nothing is loaded before the first picture."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()  # the detector keeps state between its calls
        self._detector: Any = None
        self._reason: str | None = None

    def available(self) -> bool:
        """Whether faces can be found (library and weights are there)."""
        with self._lock:
            return self._ready()

    @property
    def reason(self) -> str | None:
        """Why no faces can be found; None while nothing is known to be wrong (`available` looks)."""
        return self._reason

    def find(self, image: Image.Image) -> list[Face]:
        """Return the faces in px of `image`, largest first. An empty list, and a log line, when they cannot be found."""
        with self._lock:
            if not self._ready():
                return []
            try:
                return self._find(image)
            except Exception as exc:  # noqa: BLE001 - cv2.error and whatever a picture provokes: a crop without faces is fine
                log.warning("Faces could not be looked for: %s", exc)
                return []

    def _find(self, image: Image.Image) -> list[Face]:
        import numpy
        from PIL import Image

        rgb = image.convert("RGB")
        scale = LONG_SIDE / max(rgb.size)
        # Small pictures are enlarged too: the network is best with faces of a certain size.
        size = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
        if min(size) < SHORT_SIDE:
            return []
        pixels = numpy.asarray(rgb.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))[:, :, ::-1]
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(numpy.ascontiguousarray(pixels))
        found = []
        for row in rows if rows is not None else ():
            left, top = max(0.0, float(row[0]) / scale), max(0.0, float(row[1]) / scale)
            right = min(float(rgb.width), float(row[0] + row[2]) / scale)
            bottom = min(float(rgb.height), float(row[1] + row[3]) / scale)
            if right > left and bottom > top:
                points = tuple((float(row[k]) / scale, float(row[k + 1]) / scale) for k in range(4, 14, 2))
                found.append(Face(left, top, right - left, bottom - top, float(row[-1]), points))
        return sorted(found, key=lambda face: -face.width * face.height)

    def _ready(self) -> bool:
        """Load the detector once; remember why it cannot be loaded. Call with the lock held."""
        if self._detector is None and self._reason is None:
            file = self._file()
            try:
                import cv2
                import numpy  # noqa: F401 - the detector speaks in its arrays

                if file is None:
                    raise FileNotFoundError(
                        f"{FILE} is neither in {self._settings.models_dir}/faces nor in {_OWN.parent}"
                    )
                self._detector = cv2.FaceDetectorYN.create(str(file), "", (LONG_SIDE, LONG_SIDE), SCORE, OVERLAP, 50)
            except Exception as exc:  # noqa: BLE001 - no library, no file, a broken file: all mean the same here
                self._reason = f"Faces cannot be found in pictures: {exc}."
                log.warning("%s Crops keep the middle instead.", self._reason)
        return self._detector is not None

    def _file(self) -> Path | None:
        places = (Path(self._settings.models_dir) / "faces" / FILE, _OWN)
        return next((place for place in places if place.is_file()), None)
