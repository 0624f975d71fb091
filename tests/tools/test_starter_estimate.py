"""The estimate of a full build comes from steps that were really taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from tools.starter_model import estimate  # noqa: E402
from tools.starter_model.plan import FULL, QUICK  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def test_every_stage_is_counted_and_grows_with_the_plan(tmp_path: Path) -> None:
    small = replace(QUICK, avatars=24)
    rows = estimate.costs(tmp_path, plan=replace(FULL, unet_steps=7), small=small, half=False)
    assert [row.stage for row in rows] == list(estimate.GROWS)
    assert all(row.each > 0 for row in rows)
    counts = {row.stage: row.count for row in rows}
    assert counts["unet"] == 7 and counts["data"] == FULL.avatars
    unet = next(row for row in rows if row.stage == "unet")
    assert unet.seconds == pytest.approx(7 * unet.each)
