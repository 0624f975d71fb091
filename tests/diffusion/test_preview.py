"""Previews show roughly the picture that is coming, also without decoding it."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from PIL import Image  # noqa: E402

from dalla.diffusion.preview import Previewer  # noqa: E402
from dalla.settings import ROOT  # noqa: E402


@pytest.mark.parametrize("direct", [True, False], ids=["decoded", "linear"])
def test_colours_are_in_the_right_place(direct: bool) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(ROOT / "models" / "starter" / "vae", local_files_only=True)
    previewer = Previewer(vae)
    assert previewer._direct
    previewer._direct = direct  # the linear way is what models with a big VAE get
    picture = torch.full((1, 3, 128, 128), -0.8)
    picture[:, 0, :, :64] = 0.8  # red on the left
    picture[:, 2, :, 64:] = 0.8  # blue on the right
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mean * vae.config.scaling_factor
    data = previewer.jpeg(latents)
    assert data is not None
    image = Image.open(io.BytesIO(data)).resize((4, 4), Image.Resampling.BOX)
    left, right = image.getpixel((0, 1)), image.getpixel((3, 1))
    assert left[0] > left[2] + 40
    assert right[2] > right[0] + 40


def test_nothing_is_shown_when_numbers_went_wrong() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(ROOT / "models" / "starter" / "vae", local_files_only=True)
    assert Previewer(vae).jpeg(torch.full((1, 8, 16, 16), float("nan"))) is None
