"""What the tests of a file train with. And one thread for torch: threads that spin while they wait cost minutes on a busy
machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of SD 1.5's layout."""
    from tests.diffusion import tiny

    return tiny.save("sd15", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures of noise with captions."""
    from tests.diffusion.training_kit import noise_pictures

    return noise_pictures(tmp_path_factory.mktemp("pictures"))
