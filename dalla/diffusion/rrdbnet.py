"""RRDBNet, the network of ESRGAN and Real-ESRGAN, read from its weights: how wide, how deep, how large its factor.

Two spellings of the same network are in use: `conv_first`, `body.0.rdb1.conv1`, … (Real-ESRGAN) and `model.0`,
`model.1.sub.0.RDB1.conv1.0`, … (ESRGAN). Nothing but tensors is ever read from a file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from dalla.errors import InvalidInput, StorageError

#: Wrappers around the weights that trainers leave in the file; the averaged ones are the better ones.
_WRAPPERS = ("params_ema", "params", "state_dict", "model", "generator")
_OLD_BLOCK = re.compile(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.(weight|bias)\Z")
_OLD_BODY = re.compile(r"model\.1\.sub\.(\d+)\.(weight|bias)\Z")
_OLD_LAYER = re.compile(r"model\.(\d+)\.(weight|bias)\Z")


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it found."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(4):
            setattr(self, f"conv{number + 1}", nn.Conv2d(width + number * growth, growth, 3, 1, 1))
        self.conv5 = nn.Conv2d(width + 4 * growth, width, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = x
        for number in range(4):
            found = torch.cat((found, _leaky(getattr(self, f"conv{number + 1}")(found))), 1)
        return self.conv5(found) * 0.2 + x


class ResidualBlock(nn.Module):
    """Three dense blocks and a way around them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Module):
    """Enlarges N x 3 x H x W (0..1) by `factor`. H and W are multiples of `folds`."""

    def __init__(
        self, *, folds: int = 1, width: int = 64, blocks: int = 23, growth: int = 32, doublings: int = 2
    ) -> None:
        """`folds` squares of pixels are laid into the channels first (2 for a factor of 2, as Real-ESRGAN does)."""
        super().__init__()
        self.folds, self.doublings = folds, doublings
        self.conv_first = nn.Conv2d(3 * folds**2, width, 3, 1, 1)
        self.body = nn.Sequential(*(ResidualBlock(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, 1, 1)
        for number in range(doublings):
            setattr(self, f"conv_up{number + 1}", nn.Conv2d(width, width, 3, 1, 1))
        self.conv_hr = nn.Conv2d(width, width, 3, 1, 1)
        self.conv_last = nn.Conv2d(width, 3, 3, 1, 1)

    @property
    def factor(self) -> int:
        return 2**self.doublings // self.folds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.folds > 1:
            x = functional.pixel_unshuffle(x, self.folds)
        first = self.conv_first(x)
        found = first + self.conv_body(self.body(first))
        for number in range(self.doublings):
            larger = functional.interpolate(found, scale_factor=2, mode="nearest")
            found = _leaky(getattr(self, f"conv_up{number + 1}")(larger))
        return self.conv_last(_leaky(self.conv_hr(found)))


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, 0.2)


# ------------------------------------------------------------------ weights


def load(path: Path) -> RRDBNet:
    """Build the network that a .safetensors file holds.

    Raises InvalidInput (another network, or a file that holds more than tensors), StorageError (cannot be read).
    """
    weights = _renamed(_tensors(path))
    try:
        first, inner = weights["conv_first.weight"], weights["body.0.rdb1.conv1.weight"]
        blocks = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("body."))
        doublings = sum(bool(re.fullmatch(r"conv_up\d+\.weight", key)) for key in weights)
        folds = math.isqrt(first.shape[1] // 3)
        if folds**2 * 3 != first.shape[1] or folds not in (1, 2, 4) or 2**doublings % folds:
            raise KeyError("conv_first")
        net = RRDBNet(folds=folds, width=first.shape[0], blocks=blocks, growth=inner.shape[0], doublings=doublings)
        net.load_state_dict(weights)
    except (KeyError, IndexError, ValueError, RuntimeError) as exc:
        raise InvalidInput(
            f"{path.name} is no ESRGAN model (a network of the RRDBNet kind).",
            remedy="Use an ESRGAN or Real-ESRGAN file such as RealESRGAN_x4plus, or Lanczos.",
        ) from exc
    return net.eval()


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file's tensors. Pickles are refused unread: they can run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix.lower() != ".safetensors":
        raise InvalidInput(
            f"{path.name} is no .safetensors file, so it is not loaded.",
            remedy="Convert it on the page Models, or use its .safetensors version.",
        )
    try:
        found = load_file(path)
    except SafetensorError as exc:
        raise InvalidInput(f"{path.name} is damaged: {exc}.", remedy="Download it again.") from exc
    except OSError as exc:
        raise StorageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    return {key: value.float() for key, value in found.items()}


def _renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights under the names of `RRDBNet`."""
    for name in (*_WRAPPERS, "module"):
        if weights and all(key.startswith(f"{name}.") for key in weights) and f"{name}.0.weight" not in weights:
            weights = {key.removeprefix(f"{name}."): value for key, value in weights.items()}
    if "model.0.weight" not in weights:
        return weights
    # Behind the body each doubling takes three places (enlarge, convolution, activation), then come two layers.
    places = sorted({int(match[1]) for key in weights if (match := _OLD_LAYER.match(key))})
    ups = places[1:-2]
    named = {places[0]: "conv_first", places[-2]: "conv_hr", places[-1]: "conv_last"}
    named |= {place: f"conv_up{number + 1}" for number, place in enumerate(ups)}
    found = {}
    for key, value in weights.items():
        if match := _OLD_BLOCK.match(key):
            found[f"body.{match[1]}.rdb{match[2]}.conv{match[3]}.{match[4]}"] = value
        elif match := _OLD_BODY.match(key):
            found[f"conv_body.{match[2]}"] = value
        elif match := _OLD_LAYER.match(key):
            found[f"{named[int(match[1])]}.{match[2]}"] = value
        else:
            found[key] = value
    return found
