"""The batch operation that enlarges pictures: Lanczos, or weights of the user's."""

from __future__ import annotations

from typing import Any

from dalla import imaging
from dalla.engines.upscale.base import Upscaler
from dalla.errors import InvalidInput, TooLarge, Unavailable
from dalla.records.dataset import DatasetImage
from dalla.services.batch_options import MAX_SIDE, choice, known, number, whole
from dalla.services.batch_run import BatchContext
from dalla.services.dataset_pictures import encode
from dalla.services.processed_pictures import Made, ProcessedPictures


class Upscale:
    """`processed/<name>_2x.png`: larger by Lanczos, or by an ESRGAN model of the user's brought to the factor."""

    name, label, changes = "upscale", "Upscale", True
    kinds = ("original",)

    def __init__(self, pictures: ProcessedPictures, upscaler: Upscaler | None = None) -> None:
        self._pictures = pictures
        self._upscaler = upscaler

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """factor 1.25..8; engine: lanczos or esrgan; model: name of the weights (the first when not named);
        belowSide: leave pictures alone whose shorter side has that many px (0: take all)."""
        known(options, ("factor", "engine", "model", "belowSide"))
        engine = choice(options, "engine", ("lanczos", "esrgan"), "lanczos")
        complete = {
            "factor": number(options, "factor", 2.0, 1.25, 8),
            "engine": engine,
            "model": None,
            "belowSide": whole(options, "belowSide", 0, 0, MAX_SIDE),
        }
        if engine == "esrgan":
            names = [model.name for model in self._upscaler.models()] if self._upscaler is not None else []
            if not names:
                raise Unavailable(
                    "There are no ESRGAN weights.",
                    remedy="Put a .safetensors or .pth file into models/upscale/, or use Lanczos.",
                )
            model = options.get("model") or names[0]
            if model not in names:
                raise InvalidInput.field("options.model", f"Use one of {', '.join(names)}.")
            complete["model"] = model
        return complete

    def lane(self, options: dict[str, Any]) -> str:
        return "gpu" if options["engine"] == "esrgan" else "cpu"

    def run(self, ctx: BatchContext, image: DatasetImage, options: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        factor = float(options["factor"])
        if options["belowSide"] and min(image.width, image.height) >= options["belowSide"]:
            return {"skipped": f"It is large enough ({image.width} × {image.height})."}
        size = round(image.width * factor), round(image.height * factor)
        if size[0] * size[1] > imaging.MAX_PIXELS or max(size) > MAX_SIDE:
            raise TooLarge(
                f"Enlarged, it would have {size[0]} × {size[1]} px.",
                remedy=f"At most {imaging.MAX_PIXELS // 1_000_000} megapixels and {MAX_SIDE} px a side are written.",
            )
        tail = f"_{factor:g}x".replace(".", "-")
        picture, _ = self._pictures.read(image)  # in a trial, too: a damaged file shows
        if ctx.dry_run:
            (expected,) = self._pictures.expected(ctx, image, self.name, [(tail, "image/png")])
            return {"outputs": [{**expected, "width": size[0], "height": size[1]}]}
        large = picture.image
        if options["engine"] == "esrgan":
            assert self._upscaler is not None
            result = self._upscaler.upscale(encode(large, "PNG", 100), options["model"], _Quiet(ctx))
            large = imaging.open_image(result.png, name=image.filename).image
        if large.size != size:
            large = large.resize(size, Image.Resampling.LANCZOS)
        made = Made(tail, large, encode(large, "PNG", 100))
        return self._pictures.put(ctx, image, self.name, [made])

    def undo(self, ctx: BatchContext, results: dict[str, dict[str, Any]]) -> dict[str, int]:
        return self._pictures.undo(ctx, results)

    def end(self, ctx: BatchContext) -> None:
        if self._upscaler is not None:
            self._upscaler.close()


class _Quiet:
    """Lets the upscaler look for a cancel; the batch counts pictures, not tiles."""

    def __init__(self, ctx: BatchContext) -> None:
        self._ctx = ctx

    def progress(self, done: float, total: float, message: str = "") -> None:
        self._ctx.check_cancelled()

    def preview(self, image: bytes, mime: str) -> None:
        self._ctx.preview(image, mime)

    def check_cancelled(self) -> None:
        self._ctx.check_cancelled()
