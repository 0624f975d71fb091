"""Gemini captions: the real google-genai library against the strict fake."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dalla.engines.captions.base import CaptionRequest, IdeasRequest
from dalla.engines.captions.gemini import GeminiEngine
from dalla.errors import DallaError, NotConfigured, RateLimited, TimedOut, Unavailable, UpstreamError
from dalla.text_length import weighted_length
from tests.conftest import NOWHERE, make_settings
from tests.fakes.gemini import GeminiFake

REQUEST = CaptionRequest(
    prompt="luna_character in a magical forest, (glowing lantern:1.3), masterpiece",
    name="Luna",
    personality="Dreamy and mystical",
    trigger_word="luna_character",
    narratives=(("The Crystal Quest", "Luna is searching for a legendary crystal."),),
    recent=("The moss remembers my steps.",),
    hashtags=("magic", "forest"),
    language="Deutsch",
    tone="playful",
)


@pytest.fixture
def fake():
    with GeminiFake() as fake:
        yield fake


@pytest.fixture
def make(fake, tmp_path):
    """Build an engine for the fake; further settings by their environment names."""
    engines = []

    def build(timeout: float = 20.0, **env: str) -> GeminiEngine:
        settings = make_settings(tmp_path, **{"GEMINI_BASE_URL": fake.url, "GEMINI_API_KEY": fake.key, **env})
        engine = GeminiEngine(settings, timeout=timeout, sleep=naps.append)
        engines.append(engine)
        return engine

    naps: list[float] = []
    build.naps = naps  # type: ignore[attr-defined]
    yield build
    for engine in engines:
        engine.close()


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((80, 60), 90).convert("RGB").save(out, "JPEG")  # many bytes that base64 writes as + and /
    return out.getvalue()


def test_one_request_gives_a_whole_caption(make, fake):
    text = make().write(REQUEST)
    assert text.instagram and text.x and text.instagram != text.x and text.alt_text
    assert text.model == "gemini-3.5-flash-lite" and 1 <= len(text.hashtags) <= 5
    assert fake.written == 1 and len(fake.questions) == 1


def test_the_request_says_who_speaks_and_what_is_shown(make, fake):
    make().write(REQUEST)
    system = fake.questions[0]["systemInstruction"]["parts"][0]["text"]
    for wanted in ("Luna", "Dreamy and mystical", "The Crystal Quest", "Deutsch", "playful", "magic, forest"):
        assert wanted in system
    said = fake.questions[0]["contents"][0]["parts"][0]["text"]
    assert "glowing lantern" in said and "The moss remembers my steps." in said
    assert "luna_character" not in said and "masterpiece" not in said and "1.3" not in said


def test_the_picture_arrives_byte_for_byte(make, fake):
    picture = jpeg()
    make().write(CaptionRequest(prompt="x", image=picture))
    assert fake.pictures == [picture]


@pytest.mark.parametrize("model", ["gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-2.5-flash"])
def test_no_field_that_a_model_refuses_is_sent(make, fake, model):
    make(GEMINI_MODEL=model).write(REQUEST)
    config = fake.questions[0]["generationConfig"]
    assert not config.keys() & {"temperature", "topP", "topK"}
    assert "thinkingBudget" not in config.get("thinkingConfig", {})
    assert config["maxOutputTokens"] >= 1024 and config["responseMimeType"] == "application/json"
    assert config.get("thinkingConfig", {}).get("thinkingLevel") == (None if "2.5" in model else "LOW")
    assert len(fake.questions) == 1  # nothing had to be asked twice


@pytest.mark.parametrize(
    ("order", "kind", "cause", "words"),
    [
        ("block", UpstreamError, "blocked", "blocked"),
        ("safety", UpstreamError, "safety", "safety filter"),
        ("prohibited", UpstreamError, "safety", "prohibited"),
        ("recitation", UpstreamError, "safety", "somebody else"),
        ("cut", UpstreamError, "cut_off", "cut off"),
        ("cut_empty", UpstreamError, "cut_off", "cut off"),
        ("empty", UpstreamError, "empty", "empty"),
        ("no_candidates", UpstreamError, "empty", "empty"),
        ("quota", RateLimited, "quota", "21 seconds"),
        ("quota_day", RateLimited, "quota", "daily"),
        ("no_quota", RateLimited, "quota", "no quota"),
        ("forbidden", UpstreamError, "forbidden", "may not"),
        ("location", UpstreamError, "location", "where this computer is"),
        ("busy", UpstreamError, "overloaded", "overloaded"),
        ("internal", UpstreamError, "server", "of its own"),
        ("not_json", UpstreamError, "unreadable", "not JSON"),
        ("html", UpstreamError, "unreadable", "not come from Gemini"),
        ("html_502", UpstreamError, "server", "of its own"),
        ("drop", Unavailable, "unreachable", "cannot be reached"),
    ],
)
def test_every_failure_is_told_apart(make, fake, order, kind, cause, words):
    fake.next(*[order] * 4)
    with pytest.raises(DallaError) as caught:
        make().write(REQUEST)
    error = caught.value
    assert type(error) is kind and error.extra["cause"] == cause
    assert words in error.detail and error.remedy
    assert fake.key not in f"{error.detail} {error.remedy} {error.extra}"
    assert fake.written == (2 if order == "not_json" else 0)


@pytest.mark.parametrize(
    ("order", "calls"), [("cut", 2), ("cut_empty", 2), ("busy", 2), ("internal", 2), ("not_json", 2)]
)
def test_one_second_chance_and_no_more(make, fake, order, calls):
    fake.next(order)
    assert make().write(REQUEST).instagram
    assert len(fake.questions) == calls
    fake.next(*[order] * 5)
    with pytest.raises(DallaError):
        make().write(REQUEST)
    assert len(fake.questions) == 2 * calls


@pytest.mark.parametrize("order", ["block", "safety", "forbidden", "empty", "quota"])
def test_what_a_repeat_cannot_mend_is_asked_once(make, fake, order):
    fake.next(order)
    with pytest.raises(DallaError):
        make().write(REQUEST)
    assert len(fake.questions) == 1


def test_a_cut_answer_gets_more_room(make, fake):
    fake.next("cut")
    make().write(REQUEST)
    rooms = [question["generationConfig"]["maxOutputTokens"] for question in fake.questions]
    assert rooms[1] == 2 * rooms[0]


def test_the_pause_before_a_repeat_is_short(make, fake):
    fake.next("busy")
    make().write(REQUEST)
    assert make.naps == [1.0]


def test_a_model_without_thinking_levels_is_asked_without(make, fake):
    fake.next("no_thinking")
    engine = make()
    assert engine.write(REQUEST).x
    engine.write(REQUEST)
    assert ["thinkingConfig" in q["generationConfig"] for q in fake.questions] == [True, False, False]


def test_where_v1_lacks_a_field_v1beta_is_asked(make, fake):
    fake.v1_lacks = {"responseSchema"}
    engine = make()
    engine.write(REQUEST)
    engine.write(REQUEST)
    versions = [call.path.split("/")[1] for call in fake.requests]
    assert versions == ["v1", "v1beta", "v1beta"]


def test_after_a_quota_answer_nothing_is_asked_before_its_time(fake, tmp_path):
    now = [100.0]
    settings = make_settings(tmp_path, GEMINI_BASE_URL=fake.url, GEMINI_API_KEY=fake.key)
    engine = GeminiEngine(settings, clock=lambda: now[0])
    fake.next("quota")
    with pytest.raises(RateLimited):
        engine.write(REQUEST)
    now[0] += 11
    with pytest.raises(RateLimited) as caught:
        engine.write(REQUEST)
    assert caught.value.retry_after == pytest.approx(10) and len(fake.questions) == 1
    now[0] += 11
    assert engine.write(REQUEST).x and len(fake.questions) == 2
    engine.close()


@pytest.mark.parametrize(
    ("model", "cause", "better"),
    [
        ("gemini-2.0-flash", "model_retired", "gemini-3.5-flash-lite"),
        ("gemini-1.5-pro", "model_retired", "gemini-3.8-flash"),
        ("gemini-2.5-pro", "model_retired", "gemini-3.8-flash"),
        ("gemini-9-imaginary", "model_unknown", "gemini-3.5-flash-lite"),
    ],
)
def test_a_model_that_is_gone_names_its_replacement(make, model, cause, better):
    with pytest.raises(UpstreamError) as caught:
        make(GEMINI_MODEL=model).write(REQUEST)
    assert caught.value.extra["cause"] == cause and caught.value.extra["replacement"] == better
    assert model in caught.value.detail and better in (caught.value.remedy or "")


def test_a_retired_model_that_answers_429_is_told_as_retired(make, fake):
    fake.models["gemini-2.0-flash"] = "Gemini 2.0 Flash"
    fake.next("no_quota")
    with pytest.raises(UpstreamError) as caught:
        make(GEMINI_MODEL="gemini-2.0-flash").write(REQUEST)
    assert caught.value.extra["cause"] == "model_retired"


def test_keys(make, fake):
    with pytest.raises(NotConfigured) as caught:
        make(GEMINI_API_KEY="").write(REQUEST)
    assert "GEMINI_API_KEY" in (caught.value.remedy or "") and not fake.requests
    wrong = make(GEMINI_API_KEY="AIza-wrong-key-000000")
    with pytest.raises(UpstreamError) as bad:
        wrong.write(REQUEST)
    assert bad.value.kind == "reauth" and "not valid" in bad.value.detail
    fake.expired_keys.add("AIza-old")
    with pytest.raises(UpstreamError) as old:
        make(GEMINI_API_KEY="AIza-old").write(REQUEST)
    assert "expired" in old.value.detail and old.value.extra["cause"] == "bad_key"


def test_a_key_in_the_environment_does_not_win(make, fake, monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-somebody-elses")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    assert make().write(REQUEST).x
    assert fake.requests[0].headers["x-goog-api-key"] == fake.key


def test_slow_and_absent_services(make, fake):
    fake.delay = 1.0
    with pytest.raises(TimedOut) as slow:
        make(timeout=0.2).write(REQUEST)
    assert slow.value.extra["cause"] == "timeout"
    with pytest.raises(Unavailable) as gone:
        make(GEMINI_BASE_URL=NOWHERE).write(REQUEST)
    assert gone.value.extra["cause"] == "unreachable"


def test_a_changed_key_takes_effect_without_a_restart(make, fake, tmp_path):
    settings = make_settings(tmp_path, GEMINI_BASE_URL=fake.url)
    engine = GeminiEngine(settings)
    settings._values["gemini_api_key"] = "AIza-wrong-key-000000"
    assert engine.status(fresh=True).available is False
    settings._values["gemini_api_key"] = fake.key
    assert engine.status(fresh=True).available is True
    engine.close()


def test_too_long_texts_get_one_correction_and_are_then_trimmed(make, fake):
    long = {
        "caption_instagram": "word " * 600,
        "caption_x": "See https://example.com/page now. " + "日本語" * 90,
        "hashtags": ["#one tag", "two", "two", "three", "four", "five", "six"],
        "alt_text": "a " * 700,
    }
    fake.next(long, long)
    text = make().write(REQUEST)
    assert len(fake.questions) == 2
    assert "caption_instagram has" in fake.questions[1]["contents"][0]["parts"][0]["text"]
    assert len(text.instagram) <= 2200 and weighted_length(text.x) <= 280 and "example.com" not in text.x
    assert text.hashtags == ("onetag", "two", "three", "four", "five") and len(text.alt_text) <= 500
    assert any("shortened" in note for note in text.notes)


def test_a_correction_that_helps_is_taken(make, fake):
    fake.next({"caption_instagram": "x" * 2300, "caption_x": "ok", "hashtags": [], "alt_text": "a"})
    text = make().write(REQUEST)
    assert len(fake.questions) == 2 and "xxx" not in text.instagram and not text.notes


def test_an_exact_repeat_is_asked_again(make, fake):
    fake.next(
        {"caption_instagram": "The moss remembers my steps!", "caption_x": "New.", "hashtags": [], "alt_text": "a"}
    )
    text = make().write(REQUEST)
    assert len(fake.questions) == 2 and "moss" not in text.instagram


def test_ideas(make, fake):
    ideas = make().ideas(IdeasRequest(count=7, theme="autumn", name="Luna", avoid=("by the lake",)))
    assert len(ideas.prompts) == 7 and len(set(ideas.prompts)) == 7 and ideas.model
    said = fake.questions[0]["contents"][0]["parts"][0]["text"]
    assert "autumn" in said and "by the lake" in said


def test_status_and_models(make, fake):
    engine = make()
    assert engine.status().available and not fake.requests  # asks nobody
    assert engine.status(fresh=True).available
    assert {"gemini-3.8-flash", "gemini-3.5-flash-lite"} <= set(engine.models())
    gone = make(GEMINI_MODEL="gemini-2.0-flash").status(fresh=True)
    assert not gone.available and "retired" in (gone.reason or "") and gone.remedy
    assert not make(GEMINI_API_KEY="").status().available and make(GEMINI_API_KEY="").models() == []


# ------------------------------------------------------------ the fake refuses what the service refuses


@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        ("gemini-3.8-flash", {"temperature": 0.7}, "temperature"),
        ("gemini-3.5-flash-lite", {"top_p": 0.9}, "topP"),
        ("gemini-3.5-flash-lite", {"thinking_config": {"thinking_budget": 0}}, "budget"),
        ("gemini-3.8-flash", {"thinking_config": {"thinking_level": "MINIMAL"}}, "MINIMAL"),
        ("gemini-2.5-flash", {"thinking_config": {"thinking_level": "LOW"}}, "level"),
        ("gemini-3.8-flash", {"thinking_config": {"thinking_level": "LOW", "thinking_budget": 5}}, "only set one"),
    ],
)
def test_the_fake_is_strict(fake, model, config, words):
    from google import genai
    from google.genai import errors

    client = genai.Client(api_key=fake.key, http_options={"base_url": fake.url})
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=model, contents="hello", config=config)
    assert caught.value.code == 400 and words in str(caught.value)
    assert fake.written == 0
    client.close()


def test_the_fake_cuts_what_has_no_room_for_thinking(fake):
    from google import genai

    client = genai.Client(api_key=fake.key, http_options={"base_url": fake.url})
    answer = client.models.generate_content(
        model="gemini-3.8-flash", contents="hello", config={"max_output_tokens": 200}
    )
    assert answer.text is None and answer.candidates[0].finish_reason.value == "MAX_TOKENS"
    client.close()
