"""Pickles become .safetensors in a process of their own; a pickle that asks for anything but tensors is refused unrun."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dalla.diffusion import convert as child
from dalla.engines.weights_converter import WeightsConverter
from dalla.errors import Cancelled, InvalidInput
from tests.services.shelf_kit import SD15


class Quiet:
    def progress(self, done, total, message=""): ...
    def preview(self, image, mime): ...
    def check_cancelled(self): ...


class Stopped(Quiet):
    def check_cancelled(self):
        raise Cancelled("Cancelled.")


def tensors():
    torch.manual_seed(4)
    table = {name: torch.randn(shape).half() for name, shape in SD15.items()}
    tied = torch.arange(12.0)
    return {**table, "one": tied, "other": tied, "part": torch.arange(1000.0)[10:14], "turned": torch.rand(3, 5).T}


@pytest.mark.parametrize("old_format", [False, True])
def test_the_same_tensors_come_out(tmp_path, old_format):
    weights = tensors()
    source = tmp_path / "model.ckpt"
    wrapped = {"state_dict": weights, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}
    torch.save(wrapped, source, _use_new_zipfile_serialization=not old_format)
    facts = WeightsConverter().convert(source, tmp_path / "out.safetensors", Quiet())
    made = load_file(tmp_path / "out.safetensors")
    assert made.keys() == weights.keys() and facts["tensors"] == len(weights)
    for name, tensor in weights.items():
        assert made[name].dtype == tensor.dtype and torch.equal(made[name], tensor), name
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "dalla.converted_from": "model.ckpt"}
    assert (tmp_path / "out.safetensors").stat().st_size < facts["bytes"] + 4000, "a part does not drag its whole along"


class Harm:
    """What a malicious checkpoint holds: a call, made while it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.system, (f"touch {self.target}",))


def test_a_pickle_that_would_run_a_command_is_refused_by_name_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.zeros(2), "b": Harm(mark)}}, tmp_path / "zip.pt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps({"a": Harm(mark)}, protocol=2))
    for name in ("zip.pt", "plain.ckpt"):
        with pytest.raises(InvalidInput, match="system") as caught:
            WeightsConverter().convert(tmp_path / name, tmp_path / "out.safetensors", Quiet())
        assert name in caught.value.detail and "Nothing of it was run" in caught.value.detail
        assert not mark.exists() and not (tmp_path / "out.safetensors").exists()
    pickle.loads((tmp_path / "plain.ckpt").read_bytes())
    assert mark.exists(), "the file does what it is accused of"


def test_what_is_no_weights_is_said(tmp_path):
    torch.save([1, 2, 3], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    for path in sorted(tmp_path.glob("*.pt")):
        with pytest.raises(InvalidInput) as caught:
            child.convert(path, tmp_path / "out.safetensors")
        assert path.name in caught.value.detail
        if path.name == "module.pt":
            assert caught.value.extra["asksFor"] == "torch.nn.modules.linear.Linear"
    assert not (tmp_path / "out.safetensors").exists()


def test_the_child_knows_no_secrets_and_a_cancel_ends_it(tmp_path, monkeypatch):
    import dalla.engines.weights_converter as module

    started = {}
    real = module.subprocess.Popen

    def watched(*args, **more):
        started["env"], started["process"] = more["env"], real(*args, **more)
        return started["process"]

    monkeypatch.setenv("GEMINI_API_KEY", "secret-key")
    monkeypatch.setattr(module.subprocess, "Popen", watched)
    torch.save(tensors(), tmp_path / "a.pt")
    with pytest.raises(Cancelled):
        WeightsConverter().convert(tmp_path / "a.pt", tmp_path / "out.safetensors", Stopped())
    assert started["process"].poll() is not None and not (tmp_path / "out.safetensors").exists()
    assert "secret-key" not in started["env"].values()


def test_the_shelf_converts_beside_the_pickle_and_finds_the_result(running):
    settings = running.settings
    settings.change({"pickleWeights": True})
    models = Path(settings.models_dir)
    torch.save({"state_dict": tensors()}, models / "old.ckpt")
    mark = models.parent / "ran"
    torch.save({"state_dict": Harm(mark)}, models / "evil.pt")
    shelf = running.model_shelf
    ids = {row["name"]: row["id"] for row in shelf.all()["items"]}
    job = running.jobs.wait(shelf.files.convert(ids["old.ckpt"]).id, 120)
    assert job.status == "completed" and job.result["kind"] == "model", job.error
    found = {row["name"]: row for row in shelf.all()["items"]}
    assert found["old.safetensors"]["family"] == "sd15" and found["old.safetensors"]["loadable"]
    assert (models / "old.ckpt").exists() and not found["old.ckpt"]["loadable"]
    again = SimpleNamespace(job=SimpleNamespace(id=job.id, attempt=2), progress=lambda *a: None)
    assert shelf.files.run_convert(again, {"id": ids["old.ckpt"]})["name"] == "old.safetensors", "it was done before"
    job = running.jobs.wait(shelf.files.convert(ids["evil.pt"]).id, 120)
    assert job.status == "failed" and "system" in job.error["detail"] and not mark.exists()
    assert not (models / "evil.safetensors").exists() and not list(models.glob(".*.tmp"))
