"""Engines that look at the pictures of a dataset: Gemini, local servers, the measured one; and how answers are read."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dalla.engines.captions.answer import Unreadable
from dalla.engines.captions.vision import VISION_ENGINES, question
from dalla.engines.captions.vision.base import TAGS, VisionEngines, VisionRequest, VisionText, is_fatal
from dalla.engines.captions.vision.basic import BasicVision
from dalla.engines.captions.vision.gemini import GeminiVision
from dalla.engines.captions.vision.local import LocalVision
from dalla.engines.captions.vision.weights import Blip, Florence2, WdTagger
from dalla.errors import DallaError, NotConfigured, RateLimited, Unavailable, UpstreamError
from tests.conftest import NOWHERE, make_settings
from tests.fakes.gemini import GeminiFake
from tests.fakes.openai_server import PICTURE, PICTURE_TAGS, OpenAIFake


def jpeg(color=(200, 80, 20), size=(64, 48)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "JPEG")
    return out.getvalue()


REQUEST = VisionRequest(image=jpeg(), width=640, height=480)


def request(**changes) -> VisionRequest:
    return VisionRequest(**{**vars(REQUEST), **changes})


@pytest.fixture
def gemini(tmp_path):
    with GeminiFake() as fake:
        settings = make_settings(tmp_path, GEMINI_API_KEY=fake.key, GEMINI_BASE_URL=fake.url)
        engine = GeminiVision(settings, timeout=10.0, sleep=lambda seconds: None)
        yield engine, fake
        engine.close()


@pytest.fixture
def local(tmp_path):
    open_ones = []

    def build(flavour="ollama", env=None, **more):
        fake = OpenAIFake(flavour=flavour, **more).start()
        settings = make_settings(tmp_path, **{"DALLA_CAPTION_URL": fake.url + "/v1", **(env or {})})
        engine = LocalVision(settings, timeout=(2.0, 10.0))
        open_ones.extend([engine.close, fake.stop])
        return engine, fake

    yield build
    for end in open_ones:
        end()


# ---------------------------------------------------------------- the table


def test_every_engine_of_the_table_can_be_built(settings):
    engines = VisionEngines(settings)
    assert engines.names() == list(VISION_ENGINES.names())
    for name in engines.names():
        engine = engines.get(name)
        assert engine.name == name and engine.label and engine.styles
        status = engine.status()
        assert status.available is (name == "basic")
        assert status.reason and (status.available or status.remedy)
    engines.close()


def test_fatal_is_what_the_next_picture_would_meet():
    assert is_fatal(NotConfigured("x"))
    assert is_fatal(RateLimited("x", service="gemini", kind="retry", extra={"cause": "quota"}))
    assert not is_fatal(UpstreamError("x", service="gemini", extra={"cause": "safety"}))


# ---------------------------------------------------------------- Gemini


def test_gemini_sees_the_picture_and_writes_a_sentence(gemini):
    engine, fake = gemini
    seen = engine.describe(request(trigger="mira_v1", avoid=("blonde hair",), mention=("photo",), length="short"))
    assert seen.text.startswith("A woman in a red dress") and not seen.tags
    assert seen.model == "gemini-3.5-flash-lite"
    body = fake.questions[0]
    assert fake.pictures == [REQUEST.image]
    rules = body["systemInstruction"]["parts"][0]["text"]
    assert "mira_v1" in rules and "blonde hair" in rules and "photo" in rules and "15 words" in rules
    assert list(body["generationConfig"]["responseSchema"]["properties"]) == ["caption"]


def test_gemini_writes_tags(gemini):
    engine, fake = gemini
    assert engine.describe(request(style=TAGS)).tags == ("woman", "red dress", "city street", "soft light")
    assert engine.describe(request(style=TAGS, max_tags=2)).tags == ("woman", "red dress")
    assert list(fake.questions[0]["generationConfig"]["responseSchema"]["properties"]) == ["tags"]


def test_own_words_reach_the_model(gemini):
    engine, fake = gemini
    engine.describe(request(instruction="Name the shoes of mira."))
    assert "Name the shoes of mira." in fake.questions[0]["contents"][0]["parts"][-1]["text"]


def test_another_model_for_one_batch(gemini):
    engine, fake = gemini
    seen = engine.describe(request(model="gemini-3.8-flash"))
    assert seen.model == "gemini-3.8-flash"
    assert any("models/gemini-3.8-flash:generateContent" in call.path for call in fake.requests)


def test_a_forbidden_word_is_asked_away_once(gemini):
    engine, fake = gemini
    fake.next({"caption": "A woman with blonde hair"}, {"caption": "A woman in a coat"})
    assert engine.describe(request(avoid=("Blonde hair",))).text == "A woman in a coat"
    assert "You mentioned 'Blonde hair'" in fake.questions[1]["contents"][0]["parts"][-1]["text"]
    fake.next({"caption": "A woman with blonde hair"}, {"caption": "Her blonde hair"})
    assert engine.describe(request(avoid=("blonde hair",))).text == "A woman with blonde hair"
    assert len(fake.questions) == 4


def test_an_answer_that_cannot_be_read_twice_fails(gemini):
    engine, fake = gemini
    fake.next("not_json", "not_json")
    with pytest.raises(UpstreamError) as caught:
        engine.describe(REQUEST)
    assert caught.value.extra["cause"] == "unreadable" and not is_fatal(caught.value)


@pytest.mark.parametrize(
    ("order", "cause", "fatal"),
    [
        ("safety", "safety", False),
        ("block", "blocked", False),
        ("forbidden", "forbidden", True),
        ("quota_day", "quota", True),
    ],
)
def test_gemini_failures_are_judged(gemini, order, cause, fatal):
    engine, fake = gemini
    fake.next(order, order)
    with pytest.raises(DallaError) as caught:
        engine.describe(REQUEST)
    assert caught.value.extra["cause"] == cause and is_fatal(caught.value) is fatal


def test_a_wrong_key_is_fatal(gemini):
    engine, fake = gemini
    fake.key = "another"
    with pytest.raises(UpstreamError) as caught:
        engine.describe(REQUEST)
    assert caught.value.kind == "reauth" and is_fatal(caught.value)


# ---------------------------------------------------------------- local servers


@pytest.mark.parametrize("flavour", ["ollama", "lmstudio", "llamacpp", "plain"])
def test_every_flavour_sees(local, flavour):
    engine, fake = local(flavour)
    seen = engine.describe(REQUEST)
    assert seen.text == PICTURE["caption"] and seen.model == "gemma3:4b"
    assert fake.pictures[-1] == REQUEST.image
    assert engine.describe(request(style=TAGS)).tags == tuple(PICTURE_TAGS["tags"])


@pytest.mark.parametrize("flavour", ["ollama", "lmstudio", "llamacpp"])
def test_a_model_that_is_blind_ends_the_batch(local, flavour):
    engine, fake = local(flavour, vision=False)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            engine.describe(REQUEST)
        assert caught.value.extra["cause"] == "no_pictures" and is_fatal(caught.value)
        assert "gemma3:4b" in caught.value.detail
    assert len(fake.questions) == 1  # it is remembered


@pytest.mark.parametrize("style", ["fenced", "think", "parts", "comma"])
def test_every_dress_of_json_is_read(local, style):
    engine, fake = local()
    fake.next(style)
    assert engine.describe(REQUEST).text == PICTURE["caption"]


def test_plain_words_count_as_the_caption(local):
    engine, fake = local("plain")
    fake.next({"caption": "This image shows a dog on a beach."})
    assert engine.describe(REQUEST).text == "A dog on a beach."


def test_the_servers_first_model_is_asked_for_once(local):
    engine, fake = local()
    engine.describe(REQUEST)
    engine.describe(REQUEST)
    assert len(fake.calls("GET", "/v1/models")) == 1
    engine.release()
    engine.describe(REQUEST)
    assert len(fake.calls("GET", "/v1/models")) == 2


def test_a_server_that_is_off_ends_the_batch(tmp_path):
    engine = LocalVision(make_settings(tmp_path, DALLA_CAPTION_URL=NOWHERE), timeout=(2.0, 2.0))
    with pytest.raises(Unavailable) as caught:
        engine.describe(REQUEST)
    assert is_fatal(caught.value) and "cannot be reached" in caught.value.detail
    engine.close()


def test_pictures_leave_the_computer_only_for_servers_elsewhere(tmp_path):
    assert LocalVision(make_settings(tmp_path, DALLA_CAPTION_URL="http://192.0.2.7:11434")).sends
    assert not LocalVision(make_settings(tmp_path, DALLA_CAPTION_URL="http://127.0.0.1:11434")).sends


# ---------------------------------------------------------------- measured


def test_basic_says_what_is_measured_and_nothing_else(settings):
    engine = BasicVision(settings)
    measures = {"brightness": 230, "contrast": 20, "saturation": 0.7, "faces": 1, "faceBoxes": [{"height": 300}]}
    seen = engine.describe(request(image=jpeg((250, 60, 40)), width=480, height=640, measures=measures))
    assert seen.text == "A portrait of one person, very bright, vivid warm colors, red tones, vertical format"
    assert seen.tags == ("1 person", "portrait", "very bright", "vivid warm colors", "red tones", "vertical format")
    assert seen.model == "basic"


@pytest.mark.parametrize(
    ("height", "framing"), [(400, "close-up"), (150, "portrait"), (70, "upper body"), (30, "full body")]
)
def test_framing_by_the_height_of_the_face(settings, height, framing):
    measures = {"brightness": 120, "contrast": 50, "saturation": 0.4, "faces": 1, "faceBoxes": [{"height": height}]}
    assert framing in BasicVision(settings).describe(request(measures=measures)).tags


def test_no_face_means_no_word_about_people(settings):
    measures = {"brightness": 120, "contrast": 50, "saturation": 0.02, "faces": 0}
    seen = BasicVision(settings).describe(request(measures=measures))
    assert seen.text == "A picture, black and white, horizontal format"


def test_basic_measures_what_is_missing(settings):
    seen = BasicVision(settings).describe(request(image=jpeg((20, 20, 160), (300, 300)), width=300, height=300))
    assert seen.text == "A picture, very dark, vivid cool colors, blue tones, square format"


def test_groups_are_counted(settings):
    measures = {"brightness": 120, "contrast": 50, "saturation": 0.4, "faces": 5, "faceBoxes": [{"height": 60}] * 5}
    seen = BasicVision(settings).describe(request(measures=measures))
    assert seen.text.startswith("A group of 5 people") and seen.tags[0] == "5 people"


# ---------------------------------------------------------------- weights, as far as the parent goes


def test_weights_that_are_not_there(settings):
    for engine in (Blip(settings), Florence2(settings), WdTagger(settings)):
        status = engine.status()
        assert not status.available and "models/captioners/" in status.reason
        with pytest.raises(NotConfigured) as caught:
            engine.describe(REQUEST)
        assert is_fatal(caught.value) and caught.value.remedy.startswith("Put a")
        engine.release()
        engine.close()


def test_folders_are_told_apart_by_what_is_in_them(settings):
    root = settings.models_dir / "captioners"
    for name, files in {
        "a-blip": {"config.json": '{"model_type": "blip"}'},
        "a-florence": {"config.json": '{"model_type": "florence2"}'},
        "a-tagger": {"model.onnx": "", "selected_tags.csv": ""},
        "broken": {"config.json": "{"},
        ".hidden": {"config.json": '{"model_type": "blip"}'},
    }.items():
        (root / name).mkdir(parents=True)
        for file, text in files.items():
            (root / name / file).write_text(text)
    assert Blip(settings).models() == ["a-blip"]
    assert Florence2(settings).models() == ["a-florence"]
    assert WdTagger(settings).models() == ["a-tagger"]
    with pytest.raises(NotConfigured, match="other"):
        Blip(settings).describe(request(model="other"))


# ---------------------------------------------------------------- reading answers


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The image shows a cat.", "A cat."),
        ('"A cat\non a mat."', "A cat on a mat."),
        ("This photo depicts two men", "Two men"),
        ("The picture of Dorian Gray hangs on a wall", "The picture of Dorian Gray hangs on a wall"),
        ("In the image, a dog", "In the image, a dog"),
    ],
)
def test_sentences_are_cleaned(text, clean):
    assert question.clean_sentence(text) == clean


def test_tags_are_cleaned():
    assert question.clean_tags(["Red_Dress", "red dress", " #woman ", "a, b", 3, ""]) == [
        "red dress",
        "woman",
        "a",
        "b",
    ]
    assert question.clean_tags("one; two\nthree, - four.") == ["one", "two", "three", "four"]
    assert question.clean_tags("x" * 200) == []


def test_answers_under_other_names_are_read():
    assert question.read('{"description": "A cat"}', REQUEST, "m").text == "A cat"
    assert question.read('["A", "b"]', request(style=TAGS), "m").tags == ("a", "b")
    assert question.read('{"caption": "a, b"}', request(style=TAGS), "m").tags == ("a", "b")
    for nothing in ("{}", "[]", '{"caption": ""}', "words alone", ""):
        with pytest.raises(Unreadable):
            question.read(nothing, REQUEST, "m")


def test_words_of_the_other_style_stand_in():
    assert VisionText(tags=("a", "b")).words("sentence") == "a, b"
    assert VisionText(text="A cat").words("tags") == "A cat"
    assert question.mentioned(VisionText(text="Blonde hairs", tags=("blonde hair",)), ("blonde hair", "hat")) == [
        "blonde hair"
    ]
