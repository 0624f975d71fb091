"""Captioning: what an engine is told, which engine is asked, and what happens when it fails."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dalla.errors import DallaError, InvalidInput, NotConfigured, NotFound
from dalla.services.captioning import small_jpeg
from dalla.text_length import weighted_length
from tests.conftest import NOWHERE, png
from tests.fakes.gemini import GeminiFake
from tests.fakes.openai_server import CAPTION, OpenAIFake

KEY = "AIza-test-key-0123456789"


@pytest.fixture
def fake():
    with GeminiFake(key=KEY) as fake:
        yield fake


@pytest.fixture
def local():
    with OpenAIFake() as fake:
        yield fake


@pytest.fixture
def environ(request):
    """Tests say with `@uses("gemini", "local")` what is set up."""
    wanted = getattr(request.function, "wanted", ())
    env = {}
    if "gemini" in wanted:
        env |= {"GEMINI_BASE_URL": request.getfixturevalue("fake").url, "GEMINI_API_KEY": KEY}
    if "local" in wanted:
        env["DALLA_CAPTION_URL"] = request.getfixturevalue("local").url + "/v1"
    if "dead-local" in wanted:
        env["DALLA_CAPTION_URL"] = NOWHERE + "/v1"
    return env


def uses(*names):
    def mark(function):
        function.wanted = names
        return function

    return mark


@pytest.fixture
def luna(container):
    return container.characters.create(
        {
            "name": "Luna",
            "personality": "Dreamy and mystical",
            "trigger_word": "luna_character",
            "narratives": [
                {"title": "The Crystal Quest", "description": "A search.", "start_date": "2020-01-01"},
                {"title": "Long ago", "start_date": "2001-01-01", "end_date": "2001-02-01"},
            ],
        }
    )


@pytest.fixture
def picture(container, luna):
    item, _ = container.gallery.add_file(png(size=(64, 48)), name="a.png", character_id=luna.id)
    return item


def test_without_any_service_the_composer_answers_and_nothing_has_failed(container, luna):
    result = container.captioning.write(character_id=luna.id, prompt="luna_character in a forest")
    assert result.provider == "composer" and result.failure is None and result.model is None
    assert result.caption == result.captions["instagram"] and result.alt_text
    assert weighted_length(result.captions["twitter"]) <= 280
    assert all(f"#{tag}" in result.caption for tag in result.hashtags)


@uses("gemini")
def test_gemini_answers_when_a_key_is_set(container, luna, fake):
    result = container.captioning.write(character_id=luna.id, prompt="luna_character in a forest", platform="x")
    assert (result.provider, result.model, result.failure) == ("gemini", "gemini-3.5-flash-lite", None)
    assert result.caption == result.captions["twitter"] and result.notes == []
    system = fake.questions[0]["systemInstruction"]["parts"][0]["text"]
    assert "The Crystal Quest" in system and "Long ago" not in system  # only the story of today


@uses("gemini")
def test_a_failure_is_told_and_the_post_keeps_a_caption(container, luna, fake):
    fake.next("block")
    result = container.captioning.write(character_id=luna.id, prompt="in a forest")
    assert result.provider == "composer" and result.caption
    assert result.failure["cause"] == "blocked" and result.failure["detail"] and result.failure["remedy"]
    assert any("blocked" in note for note in result.notes)


@uses("gemini")
def test_without_fallback_the_engines_error_is_raised(container, luna, fake):
    fake.next("quota")
    with pytest.raises(DallaError) as caught:
        container.captioning.write(character_id=luna.id, prompt="x", allow_fallback=False)
    assert caught.value.code == "rate_limited" and caught.value.retry_after == 21


@uses("gemini", "local")
def test_auto_goes_on_to_the_local_server(container, luna, fake, local):
    fake.next("safety")
    result = container.captioning.write(character_id=luna.id, prompt="tea")
    assert result.provider == "local" and result.failure is None
    assert result.captions["twitter"].startswith(CAPTION["caption_x"])
    assert any("Gemini" in note for note in result.notes)
    assert container.captioning.write(character_id=luna.id, prompt="tea").provider == "gemini"


@uses("dead-local")
def test_the_first_failure_is_the_one_told(container, luna):
    result = container.captioning.write(character_id=luna.id, prompt="tea")
    assert result.provider == "composer" and result.failure["cause"] == "unreachable"


def test_an_engine_chosen_without_its_setting_says_what_is_missing(container, luna):
    result = container.captioning.write(character_id=luna.id, prompt="tea", engine="gemini")
    assert result.provider == "composer" and result.failure["code"] == "not_configured"
    with pytest.raises(NotConfigured):
        container.captioning.write(character_id=luna.id, prompt="tea", engine="gemini", allow_fallback=False)


@uses("gemini")
def test_the_setting_chooses(container, luna, fake):
    container.settings.change({"captionEngine": "composer"})
    result = container.captioning.write(character_id=luna.id, prompt="tea")
    assert result.provider == "composer" and result.failure is None and not fake.requests
    assert container.captioning.selected() == "composer"


def test_a_librarys_surprise_is_a_failure_too(container, luna):
    class Broken:
        name, label = "gemini", "Gemini"

        def write(self, request):
            raise RuntimeError("boom")

    class Engines:
        def names(self):
            return ["gemini", "composer"]

        def get(self, name):
            return Broken() if name == "gemini" else real.get(name)

        def close(self):
            real.close()

    real = container.captioning._engines
    container.captioning._engines = Engines()
    result = container.captioning.write(character_id=luna.id, prompt="tea", engine="gemini")
    assert result.provider == "composer" and result.failure["code"] == "internal"
    assert "boom" not in str(result.failure)


# ------------------------------------------------------------ what is sent along


@uses("gemini")
def test_a_small_clean_copy_of_the_picture_goes_along(container, luna, fake):
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    Image.effect_noise((2000, 1000), 60).convert("RGB").save(out, "JPEG", exif=exif, comment=b"secret prompt")
    item, _ = container.gallery.add_file(out.getvalue(), name="big.jpg", character_id=luna.id)
    container.captioning.write(media_id=item.id)
    sent = fake.pictures[0]
    shown = Image.open(io.BytesIO(sent))
    assert shown.size == (1024, 512) and shown.format == "JPEG" and not shown.getexif()
    assert b"secret" not in sent


@uses("gemini")
def test_the_setting_keeps_the_picture_here(container, picture, fake):
    container.settings.change({"captionSendImage": False})
    container.captioning.write(media_id=picture.id)
    assert fake.pictures == [] and fake.written == 1


@uses("gemini")
def test_a_lost_file_costs_only_the_picture(container, picture, fake):
    container.blobs.delete(picture.path)
    result = container.captioning.write(media_id=picture.id)
    assert result.provider == "gemini" and fake.pictures == [] and any("picture" in note for note in result.notes)


def test_small_jpeg_of_a_transparent_picture():
    data = small_jpeg(png((10, 200, 30, 0), size=(40, 30)))
    assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 5)) == (255, 255, 255)


@uses("gemini")
def test_earlier_captions_are_shown_so_that_they_are_not_repeated(container, luna, fake):
    made = container.prompts.create(prompt="in a forest", character_id=luna.id, caption="The moss remembers me.")
    container.captioning.write(prompt_id=made.id)
    container.captioning.write(character_id=luna.id, prompt="by the sea")
    for question in fake.questions:
        assert "The moss remembers me." in question["contents"][0]["parts"][-1]["text"]


def test_prompt_and_character_come_from_what_is_named(container, luna, picture):
    entry = container.prompts.create(prompt="drinking tea on a balcony", character_id=luna.id)
    assert container.captioning.write(prompt_id=entry.id).alt_text == "Luna drinking tea on a balcony."
    assert container.captioning.write(media_id=picture.id).alt_text == "A picture of Luna."
    container.characters.delete(luna.id)
    assert container.captioning.write(prompt_id=entry.id).alt_text == "Drinking tea on a balcony."


def test_the_composed_prompt_of_a_picture_gives_way_to_what_was_typed(container, luna):
    from dalla.records.media import Recipe

    recipe = Recipe(
        prompt="luna_character, portrait, by the sea, oil paint", user_prompt="by the sea", character_id=luna.id
    )
    item = container.gallery.add_generated(png(), recipe, task_id=None)
    result = container.captioning.write(media_id=item.id, prompt=item.prompt)
    assert result.alt_text == "Luna by the sea."


def test_a_character_need_not_be_stored(container):
    result = container.captioning.write(
        character={"name": "Nova", "personality": "bold", "preferredModel": None, "hair": "red"},
        narrative={"title": "Night Shift", "description": "Nova works at night."},
        prompt="on a rooftop",
    )
    assert "Night Shift" in result.caption and result.alt_text == "Nova on a rooftop."
    with pytest.raises(InvalidInput):
        container.captioning.write(character={"name": ["a"]}, prompt="x")


def test_the_language_of_the_setting(container, luna):
    container.settings.change({"captionLanguage": "Deutsch"})
    result = container.captioning.write(character_id=luna.id, prompt="")
    assert result.alt_text == "Bild von Luna."
    assert container.captioning.write(character_id=luna.id, prompt="", language="en").alt_text == "A picture of Luna."


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"platform": "myspace"}, "platform"),
        ({"engine": "gpt"}, "engine"),
        ({"prompt": "x" * 10_001}, "prompt"),
        ({"tone": "x" * 201}, "tone"),
    ],
)
def test_bad_wishes_are_named(container, wish, field):
    with pytest.raises(InvalidInput) as caught:
        container.captioning.write(**{"prompt": "tea", **wish})
    assert caught.value.errors[0]["field"] == field


def test_unknown_things_are_not_found(container):
    for wish in ({"character_id": "char_0"}, {"prompt_id": "prompt_0"}, {"media_id": "media_0"}):
        with pytest.raises(NotFound):
            container.captioning.write(**wish)


def test_saving_with_a_picture(container, picture):
    seen = container.events.last_id
    result = container.captioning.write(media_id=picture.id, prompt="by the sea")
    container.captioning.save_to_media(picture.id, result)
    item = container.gallery.get(picture.id)
    assert item.caption == result.caption and item.alt_text == result.alt_text
    events, _ = container.events.since(seen, 0)
    assert ("caption.updated", {"mediaId": picture.id}) in [(e.type, e.data) for e in events]


@uses("gemini")
def test_engines_and_their_test(container, fake):
    rows = {row["name"]: row for row in container.captioning.engines()["engines"]}
    assert list(rows) == ["gemini", "local", "composer"] and not fake.requests
    assert rows["gemini"]["available"] and rows["composer"]["available"] and not rows["local"]["available"]
    assert rows["local"]["reason"] and rows["local"]["remedy"] and rows["gemini"]["reason"] is None
    fresh = container.captioning.engines(fresh=True)
    assert fresh["selected"] == "gemini" and "gemini-3.8-flash" in fresh["engines"][0]["models"]
    assert container.captioning.test("gemini")["ok"] is True
    container.settings.change({"geminiModel": "gemini-2.0-flash"})
    failed = container.captioning.test("gemini")
    assert failed["ok"] is False and "retired" in failed["detail"] and "gemini-3.5-flash-lite" in failed["remedy"]
    with pytest.raises(NotFound):
        container.captioning.test("nothing")
