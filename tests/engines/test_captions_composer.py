"""The offline composer: always an answer, never the last one again, in the right voice and language."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from dalla.engines.captions import composer_words
from dalla.engines.captions.base import CaptionRequest, IdeasRequest, Limits, with_hashtags
from dalla.engines.captions.composer import ComposerEngine, choose_voice, is_german
from dalla.engines.captions.scene import alt_text, read_scene
from dalla.text_length import measure, weighted_length

LUNA: dict[str, Any] = {
    "name": "Luna the Mystic",
    "personality": "Dreamy and mystical",
    "backstory": "Luna is a mysterious character who lives in a hidden forest.",
    "trigger_word": "luna_character",
    "mood": "serene",
}
FOREST = "a beautiful portrait of luna_character in a magical forest"
LIMITS = Limits()
composer = ComposerEngine()


def fits(text) -> bool:
    whole = with_hashtags(text.x, text.hashtags, LIMITS.x)
    return (
        bool(text.instagram.strip() and text.x.strip() and text.alt_text)
        and len(text.instagram) <= 2200
        and weighted_length(whole) <= 280
        and len(text.hashtags) <= 5
        and "{" not in text.instagram + text.x
    )


def test_the_same_request_gives_the_same_caption_and_the_next_use_another():
    first, again = (composer.write(CaptionRequest(prompt=FOREST, **LUNA)) for _ in range(2))
    assert first == again and "forest" in f"{first.instagram} {first.hashtags}"
    written = {composer.write(CaptionRequest(prompt=FOREST, uses=n, **LUNA)).instagram for n in range(12)}
    assert len(written) >= 8


def test_the_last_captions_are_never_repeated():
    recent: list[str] = []
    for _ in range(150):
        request = CaptionRequest(prompt=FOREST, recent=tuple(reversed(recent[-24:])), **LUNA)
        text = composer.write(request)
        bare = [re.sub(r"\W+", " ", r) for r in recent[-24:]]
        assert re.sub(r"\W+", " ", text.instagram) not in bare and fits(text)
        recent.append(text.instagram)


def test_a_repeated_opening_is_avoided():
    first = composer.write(CaptionRequest(prompt=FOREST, **LUNA))
    second = composer.write(CaptionRequest(prompt=FOREST, recent=(first.instagram,), **LUNA))
    assert first.instagram.split(".")[0] != second.instagram.split(".")[0]


@pytest.mark.parametrize("prompt", ["", "   ", "masterpiece, best quality, 8k", "((((", "<lora:x:1>", "🦄" * 50, "日本語の森", "x" * 9000, ",,,,", "luna_character"])  # fmt: skip
@pytest.mark.parametrize("person", [{}, LUNA, {"name": "   "}, {"name": "Zoë-Ann O'Neil"}])
def test_empty_and_strange_inputs_still_give_a_caption(prompt, person):
    text = composer.write(CaptionRequest(prompt=prompt, **person))
    assert fits(text), text
    assert (
        "luna_character" not in text.instagram + text.alt_text and "masterpiece" not in text.instagram + text.alt_text
    )


@pytest.mark.parametrize("voice", [v for v in composer_words.ENGLISH if v != "plain"])
@pytest.mark.parametrize("language", ["English", "Deutsch"])
def test_tone_decides_the_voice(voice, language):
    tone = composer_words.VOICE_WORDS[voice][0]
    request = CaptionRequest(prompt="", tone=tone, language=language, personality="calm and dreamy", mood="serene")
    assert choose_voice(request) == voice
    frames = (composer_words.ENGLISH if language == "English" else composer_words.GERMAN)[voice]
    opening = composer.write(request).instagram.split("\n\n")[0]
    assert any(opening.startswith(frame) for frame in frames["none"])


def test_german_from_the_characters_own_words():
    text = composer.write(
        CaptionRequest(prompt="ein Porträt im Wald, goldenes Licht", name="Luna", personality="Luna ist verträumt und lebt im Wald.")
    )  # fmt: skip
    assert is_german(text.instagram) or any(
        text.instagram.startswith(o) for o in composer_words.GERMAN["dreamy"]["none"]
    )
    assert not text.notes


def test_german_of_an_english_prompt_has_no_english_in_it():
    for uses in range(20):
        text = composer.write(CaptionRequest(prompt="drinking coffee in a small cafe", language="de", uses=uses))
        assert not re.search(r"\b(?:drinking|small|in a)\b", text.instagram + " ".join(text.hashtags)), text


def test_another_language_is_english_with_a_note():
    text = composer.write(CaptionRequest(prompt=FOREST, language="Français", **LUNA))
    assert text.notes and "Français" in text.notes[0]


def test_the_story_of_today_is_told():
    told = [
        composer.write(CaptionRequest(prompt=FOREST, uses=n, narratives=(("The Crystal Quest", ""),), **LUNA)) for n in range(5)
    ]  # fmt: skip
    assert all("The Crystal Quest" in text.instagram for text in told)
    assert any("CrystalQuest" in text.hashtags for text in told)


def test_hashtags_come_from_the_pool_first():
    pool = ("arthouse", "slowlife", "analog", "filmlook")
    text = composer.write(CaptionRequest(prompt=FOREST, hashtags=pool, **LUNA))
    assert len(set(text.hashtags) & set(pool)) == 3 and len(text.hashtags) == 5


def test_random_requests_always_fit():
    rng = random.Random(7)
    bits = ["in a red dress", "on a rooftop", "holding her cat", "neon", "(rain:1.4)", "8k", "at sunset", "#tag", "https://a.b/c", "{x|y}", "by the sea", "им", "🌙"]  # fmt: skip
    for n in range(300):
        request = CaptionRequest(
            prompt=", ".join(rng.choices(bits, k=rng.randrange(8))),
            name=rng.choice(["", "Luna", "Кира", "Max Power"]),
            personality=rng.choice(["", "wild and loud", "ruhig und sanft"]),
            tone=rng.choice(["", "playful", "düster", "???"]),
            language=rng.choice(["", "en", "Deutsch", "xx"]),
            narratives=rng.choice([(), (("A" * 200, "b" * 500),), (("", "She looks for her brother."),)]),
            uses=n,
        )
        text = composer.write(request)
        assert fits(text), (request, text)
        assert "http" not in text.x


def test_the_tone_may_say_how_long():
    said = {length: composer.write(CaptionRequest(prompt=FOREST, tone=f"playful; {length}", **LUNA)).instagram for length in ("short, a single sentence", "two or three sentences", "long, a small story in several sentences")}  # fmt: skip
    short, medium, long = said.values()
    assert "\n" not in short and "\n\n" in medium and long.count("\n\n") == 2


@pytest.mark.parametrize(
    ("tone", "voice"),
    [
        ("mysterious", "dark"),
        ("mystical", "dreamy"),
        ("matter-of-fact", "clear"),
        ("friendly", "cosy"),
        ("confident", "bold"),
    ],
)
def test_tones_of_the_page(tone, voice):
    assert choose_voice(CaptionRequest(tone=tone)) == voice


def test_style_and_mood_are_not_the_scene():
    text = composer.write(
        CaptionRequest(prompt="luna_character, by the sea, artistic, serene", style="artistic", **LUNA)
    )
    assert text.alt_text == "Luna the Mystic by the sea."


# ---------------------------------------------------------------- scenes


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (FOREST, "in a magical forest"),
        ("masterpiece, best quality, 1girl, solo, (red dress:1.3), <lora:a:0.8>", "red dress"),
        ("((neon lights)), [rain:0.4], bokeh, 85mm, f/1.8, shot on Canon EOS R5", "neon lights, rain"),
        ("photo of a young woman drinking tea, by greg rutkowski, trending on artstation", "drinking tea"),
        ("highly detailed, intricate details, 4k, raw photo", ""),
        ("by the lake at sunset BREAK silver hair", "by the lake at sunset, silver hair"),
        ("embedding:bad_hands, __hair__, foggy street", "foggy street"),
    ],
)
def test_prompts_are_freed_of_what_cannot_be_seen(prompt, text):
    assert read_scene(prompt, trigger="luna_character").text == text


def test_alt_texts_are_sentences():
    assert alt_text(read_scene(FOREST, trigger="luna_character"), "Luna") == "Luna in a magical forest."
    assert alt_text(read_scene("drinking tea"), "Luna") == "Luna drinking tea."
    assert alt_text(read_scene("neon lights"), "") == "Neon lights."
    assert alt_text(read_scene(""), "Luna") == "A picture of Luna." and alt_text(read_scene(""), "") == "A picture."
    assert alt_text(read_scene(""), "Luna", german=True) == "Bild von Luna."


# ---------------------------------------------------------------- hashtags and ideas


def test_hashtags_are_appended_as_far_as_they_fit():
    tags = ("forest", "magic", "moon")
    assert with_hashtags("Hello.", tags, LIMITS.instagram) == "Hello.\n\n#forest #magic #moon"
    assert with_hashtags("Hello.", tags, LIMITS.x) == "Hello. #forest #magic"
    assert with_hashtags("Hello #Forest.", tags, LIMITS.instagram) == "Hello #Forest.\n\n#magic #moon"
    long = "x" * 272
    assert with_hashtags(long, tags, LIMITS.x) == long + " #forest"
    assert measure(with_hashtags("y" * 279, tags, LIMITS.x), LIMITS.x).used <= 280


def test_ideas_are_different_new_and_about_the_character():
    request = IdeasRequest(count=30, narratives=(("The Crystal Quest", "Luna is searching for a legendary crystal."),), seed=3, **{k: LUNA[k] for k in ("name", "personality", "backstory")})  # fmt: skip
    ideas = composer.ideas(request).prompts
    assert len(ideas) == len(set(ideas)) == 30
    assert any("hidden forest" in idea for idea in ideas) and any("legendary crystal" in idea for idea in ideas)
    more = composer.ideas(IdeasRequest(**{**vars(request), "avoid": ideas})).prompts
    assert not set(more) & set(ideas)
    assert composer.ideas(request).prompts == ideas
    assert len(composer.ideas(IdeasRequest(count=50)).prompts) == 50


def test_a_theme_shows_in_the_ideas():
    ideas = composer.ideas(IdeasRequest(count=10, theme="a trip to Lisbon")).prompts
    assert all("Lisbon" in idea for idea in ideas)
    assert sum("fallen leaves" in idea for idea in composer.ideas(IdeasRequest(count=10, theme="autumn")).prompts) >= 4
