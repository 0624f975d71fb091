"""Reading what language models answer, whatever it is wrapped in."""

from __future__ import annotations

import json

import pytest

from dalla.engines.captions.answer import Unreadable, clean_tag, read_caption, read_ideas, read_json, shorten

CAPTION = {"caption_instagram": "Hello there.", "caption_x": "Hi.", "hashtags": ["a1", "b"], "alt_text": "A face."}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CAPTION),
        f"```json\n{json.dumps(CAPTION)}\n```",
        f"```\n{json.dumps(CAPTION)}```",
        f"<think>hmm {{}} ok</think>{json.dumps(CAPTION)}",
        f"reasoning …\n</think>\n{json.dumps(CAPTION)}",
        f"Of course! {json.dumps(CAPTION)} I hope you like it.",
        json.dumps(json.dumps(CAPTION)),
        json.dumps(CAPTION)[:-1] + ",\n}",
        json.dumps([CAPTION]),
        json.dumps(
            {"captionInstagram": "Hello there.", "captionX": "Hi.", "hashtags": "#a1, #b", "altText": "A face."}
        ),
        json.dumps({"Instagram": "Hello there.", "Twitter": "Hi.", "Tags": "#a1 #b", "alt": "A face."}),
        json.dumps(CAPTION | {"caption_instagram": "Hello there.\n\n#a1 #b", "hashtags": []}),
        json.dumps(CAPTION | {"caption_instagram": '"Hello there."'}),
    ],
)
def test_captions_are_found(text):
    draft = read_caption(text)
    assert (draft.instagram, draft.x, draft.alt_text) == ("Hello there.", "Hi.", "A face.")
    assert draft.hashtags == ["a1", "b"]


@pytest.mark.parametrize(
    "text", ["", None, "   ", "{", "null", "[]", "{}", '{"caption": ""}', "42", "<think>x</think>", '{"x": null}']
)
def test_nothing_is_not_a_caption(text):
    with pytest.raises(Unreadable):
        read_caption(text, plain_allowed=False)


def test_a_line_break_inside_a_json_text_is_forgiven():
    assert read_json('{"a": "x\ny"}') == {"a": "x\ny"}


def test_hashtags_inside_a_sentence_stay_as_words():
    draft = read_caption(json.dumps({"caption": "I love #forest walks, item #3 too. #moss #fern"}))
    assert draft.instagram == "I love forest walks, item 3 too." and draft.hashtags == ["forest", "moss", "fern"]


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("#Forest", "Forest"),
        ("slow living", "slowliving"),
        ("été", "été"),
        ("#", ""),
        ("2024", ""),
        ("a-b", "ab"),
        ("__x__", "x"),
    ],
)
def test_hashtags_are_cleaned(text, tag):
    assert clean_tag(text) == tag


@pytest.mark.parametrize(
    "text",
    [
        '{"prompts": ["a walk in the park", "tea by the window"]}',
        '["a walk in the park", "tea by the window"]',
        '{"ideas": [{"prompt": "a walk in the park"}, {"prompt": "tea by the window"}]}',
        "1. a walk in the park\n2. tea by the window",
        "- a walk in the park\n- tea by the window\n",
    ],
)
def test_ideas_are_found(text):
    assert read_ideas(text) == ["a walk in the park", "tea by the window"]


def test_shorten_cuts_at_words():
    assert shorten("one two three", 100) == "one two three"
    assert shorten("one two three four", 12) == "one two…" and len(shorten("x" * 50, 10)) == 10
