"""What a try of the built-in engine draws with, and what no try may do. The other services are in tests/web/test_settings.py."""

from __future__ import annotations

import pytest

from dalla.errors import NotFound, Unavailable
from dalla.records.finding import Finding
from dalla.records.image import EngineStatus, ImageResult, ModelInfo
from dalla.services.service_tests import ServiceTests


class Engine:
    """Remembers what it was asked to draw."""

    name = label = "builtin"

    def __init__(self, *models: ModelInfo, fails: Exception | None = None) -> None:
        self._models, self._fails, self.asked, self.closed = models, fails, [], False

    def status(self, *, fresh: bool = False) -> EngineStatus:
        return EngineStatus(True)

    def models(self):
        return list(self._models)

    def generate(self, request, report):
        self.asked.append(request)
        if self._fails:
            raise self._fails
        return ImageResult([b"png"], device="cpu", precision="fp32")

    def close(self) -> None:
        self.closed = True


def model(name: str, size: int, **more) -> ModelInfo:
    return ModelInfo(name, more.pop("family", "sdxl"), "builtin", size, **more)


def built(settings, engine, **probes) -> ServiceTests:
    return ServiceTests(
        settings,
        engine=lambda name, s: engine,
        writer=lambda name, s: engine,
        hosting=lambda s: engine,
        probes=probes,
        has_accounts=lambda: False,
    )


def test_the_smallest_model_draws_and_the_engine_is_closed(settings):
    small = model("small", 10, family="sd15", native_size=128, defaults={"sampler": "uni_pc", "scheduler": "normal"})
    engine = Engine(model("large", 2_000_000_000), small, model("unknown", 1, family=None))
    found = built(settings, engine).run("builtin")
    assert found["ok"] and "small" in found["detail"] and engine.closed
    (request,) = engine.asked
    assert (request.model, request.width, request.steps, request.sampler) == ("small", 128, 2, "uni_pc")


def test_models_that_take_minutes_to_load_are_not_loaded_for_a_try(settings):
    engine = Engine(model("large", 12_000_000_000))
    found = built(settings, engine).run("builtin")
    assert found["ok"] and "too large" in found["detail"] and not engine.asked


def test_what_goes_wrong_is_the_answer_and_the_engine_is_closed(settings):
    engine = Engine(model("small", 10), fails=Unavailable("No memory is left.", remedy="Close something."))
    found = built(settings, engine).run("builtin")
    assert (found["ok"], found["detail"], found["remedy"]) == (False, "No memory is left.", "Close something.")
    assert engine.closed and found["info"] == {"code": "unavailable"}


def test_probes_get_the_unsaved_values(settings):
    seen = []

    def probe(trial) -> Finding:
        seen.append((trial.trash_days, settings.trash_days))
        return Finding(True, "fine")

    tests = built(settings, Engine(), teapot=probe)
    assert tests.run("teapot", {"trashDays": 3})["ok"] and seen == [(3, 30)]
    with pytest.raises(NotFound):
        tests.run("kettle")
