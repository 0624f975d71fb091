"""Captions by local OpenAI-compatible servers, in the ways of Ollama, LM Studio and llama.cpp."""

from __future__ import annotations

import pytest

from dalla.engines.captions.base import CaptionRequest, IdeasRequest
from dalla.engines.captions.local import LocalEngine
from dalla.errors import DallaError, NotConfigured, RateLimited, TimedOut, Unavailable, UpstreamError
from tests.conftest import NOWHERE, make_settings
from tests.engines.test_captions_gemini import jpeg
from tests.fakes.openai_server import CAPTION, OpenAIFake

REQUEST = CaptionRequest(prompt="drinking tea by the window", name="Luna")


@pytest.fixture
def make(tmp_path):
    """Build (engine, fake) of a flavour."""
    open_ones = []

    def build(flavour: str = "ollama", env: dict[str, str] | None = None, **more):
        fake = OpenAIFake(flavour=flavour, **more).start()
        settings = make_settings(tmp_path, **{"DALLA_CAPTION_URL": fake.url + "/v1", **(env or {})})
        engine = LocalEngine(settings, timeout=(2.0, 10.0))
        open_ones.extend([engine.close, fake.stop])
        return engine, fake

    yield build
    for end in open_ones:
        end()


@pytest.mark.parametrize("flavour", ["ollama", "lmstudio", "llamacpp", "plain"])
def test_every_flavour_writes(make, flavour):
    engine, fake = make(flavour)
    text = engine.write(REQUEST)
    assert text.instagram == CAPTION["caption_instagram"] and text.x == CAPTION["caption_x"]
    assert text.hashtags == ("morning", "tea", "slowliving") and text.model == "gemma3:4b"
    assert fake.written == 1


@pytest.mark.parametrize("style", ["json", "fenced", "think", "bare_think", "parts", "comma"])
def test_every_dress_of_json_is_read(make, style):
    engine, fake = make()
    fake.next(style)
    text = engine.write(REQUEST)
    assert text.instagram == CAPTION["caption_instagram"] and text.alt_text == CAPTION["alt_text"]
    assert len(fake.questions) == 1


def test_missing_fields_are_made_good(make):
    engine, fake = make()
    fake.next("missing", "missing")
    text = engine.write(REQUEST)
    assert text.x == text.instagram == CAPTION["caption_instagram"]
    assert text.hashtags == ("morning", "tea")
    assert "drinking tea by the window" in text.alt_text


def test_a_plain_answer_is_the_caption(make):
    engine, fake = make()
    fake.next("plain", "plain")
    text = engine.write(REQUEST)
    assert text.instagram == "Tea first, everything else later." and text.hashtags == ("tea", "morning")


def test_a_refused_format_is_not_tried_again(make):
    engine, fake = make("plain")
    engine.write(REQUEST)
    engine.write(REQUEST)
    formats = [(q.get("response_format") or {}).get("type") for q in fake.questions]
    assert formats == ["json_schema", "json_object", None, None]


@pytest.mark.parametrize("flavour", ["ollama", "lmstudio", "llamacpp"])
def test_a_model_without_eyes_gets_the_words_alone(make, flavour):
    engine, fake = make(flavour, vision=False)
    request = CaptionRequest(prompt="drinking tea", image=jpeg())
    text = engine.write(request)
    assert text.instagram and any("no pictures" in note for note in text.notes)
    engine.write(request)
    with_picture = [isinstance(q["messages"][1]["content"], list) for q in fake.questions]
    assert with_picture == [True, False, False]


def test_a_model_with_eyes_gets_the_picture(make):
    engine, fake = make()
    picture = jpeg()
    text = engine.write(CaptionRequest(prompt="x", image=picture))
    assert fake.pictures == [picture] and not text.notes


def test_other_refusals_do_not_cost_the_picture(make):
    engine, fake = make()
    fake.next(500)
    with pytest.raises(UpstreamError):
        engine.write(CaptionRequest(prompt="x", image=jpeg()))
    assert len(fake.questions) == 1


@pytest.mark.parametrize(
    ("orders", "cause"),
    [
        (["cut"], "cut_off"),
        (["refusal"], "safety"),
        (["empty", "empty"], "unreadable"),
        (["prose", "prose"], "unreadable"),
        ([500], "server"),
        ([400], "refused_request"),
    ],
)
def test_failures_are_told_apart(make, orders, cause):
    engine, fake = make()
    fake.next(*orders)
    with pytest.raises(UpstreamError) as caught:
        engine.write(REQUEST)
    assert caught.value.extra["cause"] == cause and caught.value.remedy
    assert fake.written <= len(orders)


def test_too_long_for_x_is_asked_again_then_trimmed(make):
    engine, fake = make()
    fake.next("long", "long")
    text = engine.write(REQUEST)
    assert len(fake.questions) == 2 and len(text.x) <= 280 and len(text.hashtags) == 5


def test_models_and_addresses(make):
    engine, fake = make(models=("nomic-embed-text", "llama3.2", "gemma3:4b"))
    assert engine.models() == ["nomic-embed-text", "llama3.2", "gemma3:4b"]
    assert engine.write(REQUEST).model == "llama3.2"  # the first that can write
    chosen, _ = make(env={"DALLA_CAPTION_MODEL": "gemma3:4b"})
    assert chosen.write(REQUEST).model == "gemma3:4b"
    status = chosen.status(fresh=True)
    assert status.available and status.detail["model"] == "gemma3:4b"


@pytest.mark.parametrize("ending", ["", "/", "/v1/", "/v1/chat/completions"])
def test_the_address_may_be_written_in_several_ways(tmp_path, ending):
    with OpenAIFake() as fake:
        engine = LocalEngine(make_settings(tmp_path, DALLA_CAPTION_URL=fake.url + ending))
        assert engine.write(REQUEST).x
        engine.close()


def test_what_is_missing_is_named(make, tmp_path):
    with pytest.raises(NotConfigured):
        LocalEngine(make_settings(tmp_path)).write(REQUEST)
    assert LocalEngine(make_settings(tmp_path)).status().available is False
    absent, _ = make(env={"DALLA_CAPTION_MODEL": "phi9"})
    with pytest.raises(UpstreamError) as unknown:
        absent.write(REQUEST)
    assert unknown.value.extra["cause"] == "model_unknown" and "ollama pull phi9" in (unknown.value.remedy or "")
    assert "gemma3:4b" in (absent.status(fresh=True).remedy or "")
    empty, _ = make(models=())
    with pytest.raises(Unavailable):
        empty.write(REQUEST)


def test_keys_and_limits(make):
    locked, fake = make(key="s3cret")
    with pytest.raises(UpstreamError) as caught:
        locked.write(REQUEST)
    assert caught.value.kind == "reauth"
    opened, _ = make(key="s3cret", env={"DALLA_CAPTION_API_KEY": "s3cret"})
    assert opened.write(REQUEST).x
    busy, fake = make()
    fake.fail_next("/v1/chat", 429, body={"error": {"message": "slow down"}}, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as limited:
        busy.write(REQUEST)
    assert limited.value.retry_after == 7


def test_unreachable_slow_and_wrong_addresses(make, tmp_path):
    with pytest.raises(Unavailable) as gone:
        LocalEngine(make_settings(tmp_path, DALLA_CAPTION_URL=NOWHERE + "/v1")).write(REQUEST)
    assert gone.value.extra["cause"] == "unreachable"
    _, fake = make(env={"DALLA_CAPTION_MODEL": "gemma3:4b"})
    slow = LocalEngine(
        make_settings(tmp_path, DALLA_CAPTION_URL=fake.url, DALLA_CAPTION_MODEL="gemma3:4b"), timeout=(2.0, 0.2)
    )
    fake.delay = 1.0
    with pytest.raises(TimedOut):
        slow.write(REQUEST)
    fake.delay = 0.0
    wrong = LocalEngine(make_settings(tmp_path, DALLA_CAPTION_URL=fake.url + "/wrong/v9"))
    with pytest.raises(DallaError) as caught:
        wrong.write(REQUEST)
    assert "OpenAI-compatible" in caught.value.detail and "/v1" in (caught.value.remedy or "")
    fake.html_proxy = 302
    with pytest.raises(DallaError):
        LocalEngine(make_settings(tmp_path, DALLA_CAPTION_URL=fake.url)).write(REQUEST)


def test_ideas(make):
    engine, _ = make()
    assert len(engine.ideas(IdeasRequest(count=4)).prompts) == 4
