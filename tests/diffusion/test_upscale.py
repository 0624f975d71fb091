"""ESRGAN with tiny weights: both spellings, tiles without seams, and files that are something else.

Weights that hand the picture through make the result known: the pixels, each repeated.
"""

from __future__ import annotations

import io
import pickle
import threading
from pathlib import Path

import pytest
from PIL import Image

torch = pytest.importorskip("torch")
from safetensors.torch import save_file  # noqa: E402

from dalla.diffusion.rrdbnet import RRDBNet, load  # noqa: E402
from dalla.diffusion.upscale import OVERLAP, Enlarger, UpscaleTask  # noqa: E402
from dalla.engines.upscale import UPSCALERS  # noqa: E402
from dalla.engines.upscale.esrgan import Esrgan  # noqa: E402
from dalla.errors import Cancelled, InvalidInput  # noqa: E402
from dalla.records.dataset import ImageFilter  # noqa: E402
from tests.services.batch_kit import Desk, NoFaces, encoded, portrait  # noqa: E402


class Quiet:
    def __init__(self):
        self.told = []

    def phase(self, message):
        self.told.append(message)

    def progress(self, done, total, message=""):
        self.told.append((done, total))

    def preview(self, *args):
        raise AssertionError("no preview is made")

    def check_cancelled(self):
        pass


def handing_through(folds=1, blocks=1, doublings=2):
    """A network whose result is the picture, every pixel repeated."""
    net = RRDBNet(folds=folds, width=6, blocks=blocks, growth=4, doublings=doublings)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for layer in (net.conv_hr, net.conv_last, *(getattr(net, f"conv_up{n + 1}") for n in range(doublings))):
            for channel in range(3):
                layer.weight[channel, channel, 1, 1] = 1
        for channel in range(3):
            net.conv_first.weight[channel, channel * folds**2, 1, 1] = 1  # the first pixel of each fold
    return net


def random_net(**more):
    torch.manual_seed(7)
    net = RRDBNet(width=8, blocks=1, growth=4, **more)
    with torch.no_grad():
        net.conv_last.bias.fill_(0.4)
        net.conv_last.weight.mul_(4)
    return net


def old_names(net):
    """The same weights as ESRGAN itself spells them."""
    doublings, blocks = net.doublings, len(net.body)
    places = {"conv_first": 0, "conv_hr": 3 * doublings + 2, "conv_last": 3 * doublings + 4}
    places |= {f"conv_up{n + 1}": 3 * n + 3 for n in range(doublings)}
    found = {}
    for key, value in net.state_dict().items():
        parts = key.split(".")
        if parts[0] == "body":
            name = f"model.1.sub.{parts[1]}.RDB{parts[2][-1]}.{parts[3]}.0.{parts[4]}"
        elif parts[0] == "conv_body":
            name = f"model.1.sub.{blocks}.{parts[1]}"
        else:
            name = f"model.{places[parts[0]]}.{parts[1]}"
        found[name] = value
    return found


def enlarged(path, image, **task):
    listener = Quiet()
    png, factor, device = Enlarger().enlarge(
        UpscaleTask(str(path), device="cpu", **task), encoded(image), listener, threading.Event()
    )
    return Image.open(io.BytesIO(png)), factor, listener


@pytest.mark.parametrize(("folds", "doublings", "factor"), [(1, 2, 4), (2, 2, 2), (1, 1, 2), (4, 2, 1), (1, 3, 8)])
def test_the_factor_and_the_pixels_are_right(tmp_path, folds, doublings, factor):
    save_file(handing_through(folds, doublings=doublings).state_dict(), tmp_path / "m.safetensors")
    small = portrait().resize((22, 15))
    large, told, _ = enlarged(tmp_path / "m.safetensors", small)
    assert told == factor and large.size == (22 * factor, 15 * factor)
    for y in range(large.height):
        for x in range(large.width):
            cell = (x // factor) // folds * folds, (y // factor) // folds * folds
            assert large.getpixel((x, y)) == small.getpixel(cell), (x, y)


def test_both_spellings_and_wrappers_are_the_same_network(tmp_path):
    net = random_net()
    plain = net.state_dict()
    save_file(plain, tmp_path / "new.safetensors")
    save_file(old_names(net), tmp_path / "old.safetensors")
    save_file({f"params_ema.{key}": value for key, value in plain.items()}, tmp_path / "flat.safetensors")
    save_file({key: value.half() for key, value in plain.items()}, tmp_path / "half.safetensors")
    probe = torch.rand(1, 3, 9, 7)
    with torch.inference_mode():
        expected = net(probe)
        for name in ("new.safetensors", "old.safetensors", "flat.safetensors"):
            assert torch.equal(load(tmp_path / name)(probe), expected), name
        assert torch.allclose(load(tmp_path / "half.safetensors")(probe), expected, atol=0.02)


@pytest.mark.parametrize("folds", [1, 2])
def test_tiles_leave_no_seam(tmp_path, folds):
    save_file(random_net(folds=folds).state_dict(), tmp_path / "m.safetensors")
    image = portrait().resize((150, 131))
    whole, _, once = enlarged(tmp_path / "m.safetensors", image, tile=512)
    tiled, _, many = enlarged(tmp_path / "m.safetensors", image, tile=64)
    assert once.told[-1] == (1, 1) and many.told[-1] == (9, 9)
    assert whole.size == tiled.size and OVERLAP >= 19, "one block sees some nineteen pixels around"
    difference = [abs(a - b) for a, b in zip(whole.tobytes(), tiled.tobytes(), strict=True)]
    assert max(difference) <= 1 and len(set(whole.tobytes())) > 20, "a picture, and the same one"


def test_transparency_stays(tmp_path):
    save_file(handing_through().state_dict(), tmp_path / "m.safetensors")
    image = Image.new("RGBA", (10, 10), (10, 200, 30, 0))
    image.paste((200, 10, 30, 255), (0, 0, 5, 10))
    large, _, _ = enlarged(tmp_path / "m.safetensors", image)
    assert large.mode == "RGBA" and large.getpixel((1, 1))[3] == 255 and large.getpixel((38, 38))[3] == 0


def test_memory_that_is_short_makes_the_tiles_smaller(tmp_path, monkeypatch):
    save_file(handing_through().state_dict(), tmp_path / "m.safetensors")
    forward, sizes = RRDBNet.forward, []

    def short(self, x):
        sizes.append(x.shape[3])
        if x.shape[3] > 130:
            raise RuntimeError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(RRDBNet, "forward", short)
    large, _, _ = enlarged(tmp_path / "m.safetensors", portrait())
    assert large.size == (640, 640) and sizes[0] > 130 and max(sizes[2:]) <= 130


def test_a_cancel_is_heard_between_tiles(tmp_path):
    save_file(handing_through().state_dict(), tmp_path / "m.safetensors")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        Enlarger().enlarge(UpscaleTask(str(tmp_path / "m.safetensors"), device="cpu"), encoded(portrait()), Quiet(), stop)  # fmt: skip


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))

    def __init__(self, path):
        self.path = path


def test_a_file_that_holds_code_is_not_run(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv_first.weight": Evil(str(tmp_path / "ran"))}, protocol=2))
    torch.save({"params": Evil(str(tmp_path / "ran"))}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(InvalidInput, match="no .safetensors file"):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_something_else(tmp_path):
    save_file({"conv_first.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "part.safetensors")
    save_file({"down_blocks.0.weight": torch.zeros(4)}, tmp_path / "unet.safetensors")
    bad = random_net().state_dict()
    bad["conv_hr.weight"] = torch.zeros(3, 3, 3, 3)
    save_file(bad, tmp_path / "shape.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "shape.safetensors").read_bytes()[:300])
    (tmp_path / "none.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InvalidInput) as caught:
            load(path)
        assert path.name in caught.value.detail and caught.value.remedy


# ---------------------------------------------------------------- the process, and the batch


@pytest.fixture
def weights(settings):
    folder = Path(settings.models_dir) / "upscale"
    folder.mkdir(parents=True)
    save_file(handing_through().state_dict(), folder / "sharp_x4.safetensors")
    return folder


def test_the_engine_lists_the_files_of_the_safe_format(settings, weights):
    torch.save(handing_through().state_dict(), weights / "sharp_x4.pth")
    save_file(handing_through().state_dict(), weights / "other.safetensors")
    (weights / "readme.txt").write_text("x")
    engine = UPSCALERS.load("esrgan")(settings)
    assert isinstance(engine, Esrgan)
    assert [(model.name, model.file) for model in engine.models()] == [
        ("other", "other.safetensors"),
        ("sharp_x4", "sharp_x4.safetensors"),
    ]
    with pytest.raises(InvalidInput):
        engine.upscale(b"", "../secret", Quiet())
    engine.close()


def test_a_batch_enlarges_in_a_process_of_its_own(settings, weights):
    (weights / "zz_broken.safetensors").write_bytes(b"nothing")
    engine = Esrgan(settings)
    desk = Desk(settings, faces=NoFaces(), upscaler=engine)
    set_id = desk.new_set()
    small = portrait().resize((40, 30))
    desk.add(set_id, "a.png", small)
    job = desk.batches.submit("upscale", set_id, options={"engine": "esrgan", "factor": 4})
    assert job.status == "completed" and job.kind == "image_batch_gpu", job.error
    made = desk.processed(set_id)["a_4x.png"]
    assert desk.pixels(made).tobytes() == small.resize((160, 120), Image.Resampling.NEAREST).tobytes()
    assert engine._child is None, "the process ends with the batch"
    job = desk.batches.submit("upscale", set_id, options={"engine": "esrgan", "factor": 2, "model": "sharp_x4"})
    assert desk.processed(set_id)["a_2x.png"].width == 80
    job = desk.batches.submit("upscale", set_id, options={"engine": "esrgan", "model": "zz_broken"})
    assert job.result["failed"] == 1 and "zz_broken" in job.items_failed[0]["detail"]
    with pytest.raises(InvalidInput):
        desk.batches.submit("upscale", set_id, options={"engine": "esrgan", "model": "gone"})
    assert len(desk.store.image_ids(set_id, ImageFilter(kind="original"))) == 1
    desk.close()
