"""The shelf over HTTP: downloads in another program's form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.engines.standin_trainer import lora_file
from tests.fakes import comfy_draw
from tests.web.test_lora import client, world  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in uses flock")


def tensors(data: bytes) -> list[str]:
    import json

    return sorted(k for k in json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]) if k != "__metadata__")


def test_a_lora_is_downloaded_in_the_form_that_is_asked_for(client: Any, world: Any) -> None:  # noqa: F811
    file = Path(world.container.settings.loras_dir) / "style.safetensors"
    lora_file(file)
    before = file.read_bytes()
    for query in ("", "?format=kohya"):  # as it lies there: it is kohya's already
        answer = client.get(f"/api/loras/style/file{query}")
        assert answer.data == before and "filename=style.safetensors" in answer.headers["Content-Disposition"]
    answer = client.get("/api/loras/style/file?format=peft")
    assert answer.status_code == 200 and answer.mimetype == "application/octet-stream"
    assert "filename=style-peft.safetensors" in answer.headers["Content-Disposition"]
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert tensors(answer.data) == [f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"]
    assert b'"modelspec.trigger_phrase":"luna_character"' in answer.data
    part = client.get("/api/loras/style/file?format=peft", headers={"Range": "bytes=0-7"})
    assert part.status_code == 206 and part.data == answer.data[:8]
    assert file.read_bytes() == before and [p.name for p in file.parent.iterdir()] == [file.name]


def test_what_cannot_be_converted_is_said(client: Any, world: Any) -> None:  # noqa: F811
    folder = Path(world.container.settings.loras_dir)
    lora_file(folder / "style.safetensors")
    answer = client.get("/api/loras/style/file?format=onnx")
    assert answer.status_code == 422 and [row["field"] for row in answer.json["errors"]] == ["format"]
    numbers = bytes(64)
    rows = {
        f"lora_unet_mid_block_attentions_0_proj_in.hada_w{n}_{x}": ("F32", [4, 4], numbers) for n in "12" for x in "ab"
    }
    (folder / "loha.safetensors").write_bytes(comfy_draw.safetensors(rows))
    answer = client.get("/api/loras/loha/file?format=peft")
    assert answer.status_code == 422 and "hada" in answer.json["detail"] and answer.json["remedy"]
    assert client.get("/api/loras/none/file?format=peft").status_code == 404


@pytest.mark.parametrize("name", ["50%41 more", "take #2", "who?", "a&b+c", "é ß"])
def test_a_lora_with_any_name_is_found_at_its_address(client: Any, world: Any, name: str) -> None:  # noqa: F811
    lora_file(Path(world.container.settings.loras_dir) / f"{name}.safetensors")
    row = next(row for row in client.get("/api/loras").json if row["name"] == name)
    answer = client.get(row["fileUrl"])
    assert answer.status_code == 200 and len(answer.data) == row["sizeBytes"]
    assert client.get(f"{row['fileUrl']}?format=peft").status_code == 200
