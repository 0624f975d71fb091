"""Captions from measurements alone: framing, number of people, light, colours, format. No model looks at the picture.

It says little and nothing that is not measured, so it never invents a thing. Everywhere it is shown as "basic", so
that nobody takes it for the words of a model that sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dalla.engines.captions.vision.base import SENTENCE, TAGS, VisionRequest, VisionText
from dalla.records.image import EngineStatus
from dalla.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

#: Height of the largest face / height of the picture, from this on.
FRAMING = ((0.5, "close-up"), (0.18, "portrait"), (0.1, "upper body"), (0.0, "full body"))
#: Mean luminance (0..255) up to this.
LIGHT = ((60, "very dark"), (95, "dim light"), (165, ""), (200, "bright light"), (256, "very bright"))
SOFT, STRONG = 35, 75  # standard deviation of the luminance: up to, from
GREY, MUTED, VIVID = 0.06, 0.22, 0.55  # mean saturation
WARM = 14  # mean red less mean blue (0..255), from this on; cool below the negative
#: Part of the picture that a colour needs to be named.
COLOUR_SHARE = 0.18
COLOURS = 2
_SAMPLE = 96  # px; colours are counted in a copy of this size
#: Hue in degrees up to which a colour has this name.
_HUES = (
    (15, "red"), (40, "orange"), (68, "yellow"), (165, "green"), (195, "turquoise"), (255, "blue"), (290, "purple"),
    (345, "pink"), (361, "red"),
)  # fmt: skip


class BasicVision:
    """Works always, on this computer, at once."""

    name = "basic"
    label = "Basic (measured)"
    styles: tuple[str, ...] = (SENTENCE, TAGS)
    sends = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faces: Any = None

    def status(self, *, fresh: bool = False) -> EngineStatus:
        return EngineStatus(True, "From measurements only: framing, people, light, colours.", None, {"model": None})

    def models(self) -> list[str]:
        return []

    def describe(self, request: VisionRequest) -> VisionText:
        from dalla import imaging
        from dalla.measures import measure

        image = imaging.flatten(imaging.open_image(request.image, name="the picture").image)
        known = request.measures
        if any(key not in known for key in ("brightness", "contrast", "saturation")):
            known = {**measure(image), **known}
        facts = self._facts(image, known, request)
        return VisionText(
            text=sentence(facts), tags=tuple(tags(facts)[: request.max_tags or None]), model=self.name, notes=()
        )

    def release(self) -> None:
        """Nothing is held that matters."""

    def close(self) -> None:
        """Nothing is held."""

    def _facts(self, image: Image.Image, known: dict[str, Any], request: VisionRequest) -> dict[str, Any]:
        """Return what can be said: people, framing, light, colour words, colour names, format. "" where nothing can."""
        people, share = self._people(image, known, request)
        width, height = (request.width, request.height) if request.width and request.height else image.size
        ratio = width / height
        saturation = float(known["saturation"])
        grey = saturation < GREY
        return {
            "people": people,
            "framing": next(name for least, name in FRAMING if share >= least) if people in (1, 2) else "",
            "light": light(float(known["brightness"]), float(known["contrast"])),
            "tone": "black and white" if grey else tone(image, saturation),
            "colours": [] if grey else colours(image),
            "format": "square" if 0.95 <= ratio <= 1.05 else "vertical" if ratio < 1 else "horizontal",
        }

    def _people(self, image: Image.Image, known: dict[str, Any], request: VisionRequest) -> tuple[int | None, float]:
        """Return (faces, height of the largest / height of the picture); None when faces cannot be looked for."""
        boxes = known.get("faceBoxes")
        if isinstance(known.get("faces"), int | float) and (isinstance(boxes, list) or not known["faces"]):
            height = request.height or image.height
            return int(known["faces"]), max((float(box["height"]) / height for box in boxes or []), default=0.0)
        if self._faces is None:
            from dalla.engines.faces.yunet import YuNet

            self._faces = YuNet(self._settings)
        if not self._faces.available():
            return None, 0.0
        found = self._faces.find(image)
        return len(found), max((face.height / image.height for face in found), default=0.0)


def light(brightness: float, contrast: float) -> str:
    """Name the light of a picture; "" for an ordinary one."""
    name = next(name for most, name in LIGHT if brightness < most)
    if name:
        return name
    return "soft light" if contrast < SOFT else "strong contrast" if contrast > STRONG else ""


def tone(image: Image.Image, saturation: float) -> str:
    """Name saturation and temperature: "muted warm colours"; "" for ordinary ones."""
    from PIL import ImageStat

    red, _, blue = ImageStat.Stat(image.resize((_SAMPLE, _SAMPLE))).mean
    words = ["muted"] if saturation < MUTED else ["vivid"] if saturation > VIVID else []
    words += ["warm"] if red - blue > WARM else ["cool"] if blue - red > WARM else []
    return " ".join([*words, "colors"]) if words else ""


def colours(image: Image.Image) -> list[str]:
    """Name the one or two colours that take the most of the picture."""
    import numpy

    pixels = numpy.asarray(image.resize((_SAMPLE, _SAMPLE)).convert("HSV")).reshape(-1, 3).astype(numpy.float32)
    hue, saturation, value = pixels[:, 0] * (360 / 255), pixels[:, 1] / 255, pixels[:, 2] / 255
    names = numpy.full(len(pixels), "", dtype="U10")
    lowest = 0.0
    for most, name in _HUES:
        names[(hue >= lowest) & (hue < most)] = name
        lowest = most
    names[(names == "orange") & (value < 0.6)] = "brown"
    names[(names == "orange") & (value >= 0.6) & (saturation < 0.45)] = "beige"
    names[saturation < 0.12] = "gray"
    names[(saturation < 0.12) & (value > 0.88)] = "white"
    names[value < 0.14] = "black"
    found, counts = numpy.unique(names, return_counts=True)
    order = sorted(zip(counts, found, strict=True), key=lambda row: (-row[0], row[1]))
    return [str(name) for count, name in order[:COLOURS] if count / len(pixels) >= COLOUR_SHARE]


def people_words(count: int | None) -> str:
    if not count:
        return ""
    return {1: "one person", 2: "two people", 3: "three people"}.get(count, f"a group of {count} people")


def sentence(facts: dict[str, Any]) -> str:
    """Put the facts into one sentence."""
    people = people_words(facts["people"])
    subject = f"{_article(facts['framing'])} of {people}" if people and facts["framing"] else people or "a picture"
    rest = [facts["light"], facts["tone"], " and ".join(facts["colours"]) + " tones" if facts["colours"] else ""]
    rest.append(f"{facts['format']} format")
    line = ", ".join(part for part in (subject, *rest) if part)
    return line[:1].upper() + line[1:]


def tags(facts: dict[str, Any]) -> list[str]:
    """Return the facts as tags."""
    people = facts["people"]
    count = "" if not people else "1 person" if people == 1 else f"{people} people"
    found = [count, facts["framing"], facts["light"], facts["tone"], *(f"{c} tones" for c in facts["colours"])]
    return [tag for tag in (*found, f"{facts['format']} format") if tag]


def _article(framing: str) -> str:
    return {"close-up": "a close-up", "portrait": "a portrait", "upper body": "an upper body shot", "full body": "a full body shot"}[framing]  # fmt: skip
