"""How a prompt is composed from a character."""

from __future__ import annotations

from datetime import date

import pytest

from dalla.records.character import Character, Narrative, PromptSettings
from dalla.services.characters import active_narratives
from dalla.services.composing import compose
from dalla.services.gallery import parse_query

LUNA = Character(
    id="char_1",
    name="Luna",
    trigger_word="luna_character",
    prompt_settings=PromptSettings(
        base_prompt="a beautiful portrait of luna_character",
        negative_prompt="ugly, disfigured",
        style="artistic",
        mood="serene",
    ),
    narratives=[
        Narrative(
            id="n1",
            title="The Crystal Quest",
            description="Luna is searching for a crystal.",
            start_date="2025-08-01",
            end_date="2025-08-31",
        )
    ],
)
AUGUST, WINTER = date(2025, 8, 31), date(2025, 12, 1)


def test_everything_in_its_order():
    composed = compose(LUNA, "in a magical forest", "hat", AUGUST)
    assert composed.prompt == (
        "a beautiful portrait of luna_character, in a magical forest, artistic, serene, Luna is searching for a crystal."
    )
    assert composed.negative_prompt == "ugly, disfigured, hat"
    assert [p["source"] for p in composed.parts] == ["basePrompt", "prompt", "style", "mood", "narrative"]


def test_a_narrative_colours_only_its_days():
    assert "crystal" not in compose(LUNA, "x", None, WINTER).prompt
    assert [n.id for n in active_narratives(LUNA, date(2025, 8, 1))] == ["n1"]
    assert active_narratives(LUNA, date(2025, 9, 1)) == []


@pytest.mark.parametrize(
    ("base", "given", "expected"),
    [
        (None, "by the sea", "luna_character, by the sea"),
        ("portrait of luna_character", "luna_character in a forest", "portrait of luna_character, in a forest"),
        (None, "LUNA_CHARACTER by the sea", "LUNA_CHARACTER by the sea"),
        (None, "luna_character2 by the sea", "luna_character, luna_character2 by the sea"),
        ("luna_character", "luna_character", "luna_character"),
        (None, "", "luna_character"),
    ],
)
def test_the_trigger_word_is_said_once(base, given, expected):
    character = LUNA.with_(prompt_settings=PromptSettings(base_prompt=base))
    assert compose(character, given, None, WINTER).prompt == expected


def test_without_a_character_the_prompt_is_left_alone():
    composed = compose(None, " a cat,  a dog ", "blurry", WINTER)
    assert (composed.prompt, composed.negative_prompt) == ("a cat,  a dog", "blurry")


def test_what_is_said_twice_is_said_once():
    assert compose(LUNA, "serene", "ugly, disfigured", WINTER).prompt.count("serene") == 1
    assert compose(LUNA, "x", "ugly, disfigured", WINTER).negative_prompt == "ugly, disfigured"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red dress", {"words": ["red", "dress"], "not_words": []}),
        ('"red dress" -hat', {"words": ["red dress"], "not_words": ["hat"]}),
        (
            "model:sdxl.safetensors is:starred",
            {"words": [], "not_words": [], "model": "sdxl.safetensors", "starred": True},
        ),
        ("-is:starred", {"words": [], "not_words": [], "starred": False}),
        ("unknown:thing", {"words": ["unknown:thing"], "not_words": []}),
        ("after:2026-01-01", {"words": [], "not_words": [], "after": "2026-01-01T00:00:00.000Z"}),
        ("before:2026-01-01", {"words": [], "not_words": [], "before": "2026-01-01T23:59:59.999Z"}),
        ('model:"my model.safetensors"', {"words": [], "not_words": [], "model": "my model.safetensors"}),
    ],
)
def test_the_search_box(text, expected):
    assert parse_query(text) == expected


def test_a_lora_gets_its_word_whatever_the_character_is_called_by():
    composed = compose(LUNA.with_(prompt_settings=None), "in the rain", None, WINTER, ["zorvex", "ink style"])
    assert composed.prompt == "luna_character, zorvex, ink style, in the rain"
    assert [p["source"] for p in composed.parts] == ["triggerWord", "loraWord", "loraWord", "prompt"]


def test_the_word_of_a_lora_is_not_said_again_and_takes_nothing_away():
    plain = LUNA.with_(trigger_word=None, prompt_settings=None)
    composed = compose(plain, "Zorvex in a dress, a red dress", None, WINTER, ["zorvex", "dress"])
    assert composed.prompt == "Zorvex in a dress, a red dress"
    assert compose(LUNA, "x", None, WINTER, ["luna_character"]).prompt == compose(LUNA, "x", None, WINTER).prompt
    assert compose(plain, "zorvex2", None, WINTER, ["zorvex"]).prompt == "zorvex, zorvex2"
