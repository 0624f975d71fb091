"""What may change when a run is taken up again."""

from __future__ import annotations

import pytest

from dalla.errors import InvalidInput
from dalla.records.training import TrainingConfig
from dalla.services.training_changes import changed_wish, changes, with_changes


@pytest.fixture
def config() -> TrainingConfig:
    return TrainingConfig(
        name="luna", base_model="starter", dataset_folder="luna", epochs=20, learning_rate=1e-3,
        validation={"count": 2, "every": 50},
    )  # fmt: skip


def test_only_what_is_said_changes_and_later_changes_go_before(config: TrainingConfig) -> None:
    first = changes(config, {"learningRate": 5e-4, "earlyStop": None}, done=10)
    assert first == {"learning_rate": 5e-4}
    again = changes(with_changes(config.model_dump(), first), {"steps": 400, "validation": {"every": 20}}, done=10)
    now = with_changes(config.model_dump(), {**first, **again})
    assert (now.learning_rate, now.steps, now.epochs) == (5e-4, 400, None)
    assert (now.validation.every, now.validation.count) == (20, 2)  # the same pictures stay set aside
    assert changes(config, {}, done=10) == {} == changes(config, {"validation": {}}, done=10)


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"rank": 4}, "settings.rank", "Clone the run"),
        ({"dataset_folder": "x"}, "settings.dataset_folder", "Clone the run"),
        ({"nothing": 4}, "settings.nothing", "no such setting"),
        ({"steps": 100}, "settings.steps", "goes on from step 100"),
        ({"steps": 0}, "settings.steps", "from 1 to"),
        ({"learningRate": "fast"}, "settings.learningRate", "number"),
        ({"validation": {"every": 5, "noises": 1}}, "settings.validation", "only 'every'"),
        ({"validation": 5}, "settings.validation", "only 'every'"),
        ({"validation": {"every": "x"}}, "settings.validation", "integer"),
    ],
)
def test_what_cannot_change_is_refused_by_field(config: TrainingConfig, settings: dict, field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        changes(config, settings, done=100)
    assert [row["field"] for row in caught.value.errors] == [field]
    assert words in caught.value.errors[0]["message"]


def test_a_clone_starts_from_what_was_trained() -> None:
    wish = {"characterId": "c", "params": {"epochs": 20, "learning_rate": 1e-3, "rank": 8}}
    changed = {"steps": 400, "epochs": None, "learning_rate": 5e-4}
    assert changed_wish(wish, changed) == {
        "characterId": "c", "params": {"rank": 8, "steps": 400, "learningRate": 5e-4},
    }  # fmt: skip
    assert wish["params"]["epochs"] == 20
