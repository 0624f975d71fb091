"""Text lengths: the table, X's own library, the copy in the browser, and trimming."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import random
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from dalla import text_length as t
from dalla import tlds
from dalla.records.platform import TextRules
from tests.test_js import node

ROOT = Path(__file__).parent.parent
TABLE = json.loads((ROOT / "tests" / "data" / "text_lengths.json").read_text(encoding="utf-8"))
X = TextRules(280, "weighted")
INSTAGRAM = TextRules(2200, "characters", max_hashtags=30, warn_hashtags=5, max_mentions=20)

#: What captions consist of, and a little of what they should not.
PIECES = [
    "Morning", "light", "a", "I'm", "é", "e\u0301", "naïve", "日本語", "こんにちは", "中国", "한국어", "привет", "مرحبا", "हिन्दी",
    "#luna", "#日本", "#a1_b", "#2026", "＃tag", "@luna", "@kai.b", "me@mail.com", "https://example.com/a?b=c&d=1#e",
    "http://例え.jp/道", "example.com", "www.foo-bar.co.uk/x_(y)", "t.co/abc", "https://t.co/aBc123", "file.txt", "v2.0",
    "(example.org)", "foo_bar.net", "sub.domain.museum/path/", "example.com:8080/x", "HTTPS://EXAMPLE.COM", "a.b.c", "...",
    "👍", "👍🏽", "❤️", "❤", "👨‍👩‍👧", "🏳️‍🌈", "1️⃣", "#️⃣", "🇩🇪", "©", "™", "☀️", "👩🏾‍🚀", "…", "—", "“", "”", "«", "•", "½", "€",
    "!", "?", ",", ":", ";", "(", ")", "$9", "%", "+", "~", "|", "/", "\\", "<b>", "\n", "\t", "\u00a0", "\u3000",
]  # fmt: skip


def texts(seed: int, count: int, joiners: str = "      \n") -> list[str]:
    rng = random.Random(seed)
    return [
        "".join(rng.choice(PIECES) + rng.choice(joiners) for _ in range(rng.randint(1, 25))).strip()
        for _ in range(count)
    ]


@pytest.mark.parametrize(("text", "weight"), TABLE, ids=lambda v: repr(v)[:40])
def test_the_table(text, weight):
    assert t.weighted_length(text) == weight


def test_the_limit_is_280():
    assert t.issues("X", "👾" * 140, X) == []
    (issue,) = t.issues("X", "👾" * 141, X)
    assert (issue.code, issue.level, issue.field) == ("caption_too_long", "error", "caption")
    assert "282" in issue.message and "2" in issue.remedy


# ------------------------------------------------------------ X's own library


@pytest.fixture(scope="module")
def twitter_text():
    """The library. It reads its emoji table by pkg_resources, which newer setuptools no longer have."""
    pytest.importorskip("requests")
    if importlib.util.find_spec("twitter_text") is None:
        pytest.skip("twitter-text-parser is not installed")
    stand_in = types.ModuleType("pkg_resources")
    stand_in.resource_string = lambda package, name: (  # type: ignore[attr-defined]
        importlib.resources.files(package.rpartition(".")[0]).joinpath(name).read_bytes()
    )
    before = sys.modules.get("pkg_resources")
    sys.modules["pkg_resources"] = stand_in
    try:
        return importlib.import_module("twitter_text")
    finally:
        del sys.modules["pkg_resources"]
        if before:
            sys.modules["pkg_resources"] = before


def test_every_emoji_of_the_library_weighs_two(twitter_text):
    emojis = [e.emoji for e in importlib.import_module("twitter_text.regexp.emoji").emoji_list]
    assert len(emojis) > 3000
    assert [e for e in emojis if t.weighted_length(e) != 2] == []
    assert [e for e in emojis if t.weighted_length(f"a{e}{e} b") != 7 and not e.startswith(("#", "*"))] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agrees_with_the_library(twitter_text, seed):
    for text in texts(seed, 400):
        assert t.weighted_length(text) == twitter_text.parse_tweet(text).weightedLength, repr(text)


def test_agrees_with_the_library_without_spaces(twitter_text):
    # Left out: an emoji, 。 or 64 letters inside a domain, which the library's IDNA check refuses, and X's short addresses.
    pieces = [
        "a",
        "b",
        "-",
        ".",
        "/",
        "://",
        "http://",
        "example.com",
        "x.co.uk",
        "日本",
        " ",
        "?q=1",
        "#t",
        "@",
        "(a)",
        ".com",
        ":80",
        "!",
        '"',
        "%20",
        "ж",
        ".рф",
        "中国",
    ]
    rng = random.Random(5)
    for _ in range(2500):
        text = " " + "".join(rng.choice(pieces) for _ in range(rng.randint(1, 9)))
        assert t.weighted_length(text) == twitter_text.parse_tweet(text).weightedLength, repr(text)


def test_the_top_level_domains_are_those_of_the_library(twitter_text):
    names = set()
    for kind in ("gtld", "cctld"):
        module = importlib.import_module(f"twitter_text.regexp.valid_{kind}")
        names |= set(re.match(r"\(\?:\(\?:(.*)\)\(\?=", getattr(module, f"valid_{kind}").pattern)[1].split("|"))
    assert {*tlds.LATIN, *tlds.OTHER} == names


# ------------------------------------------------------------ the browser


def test_agrees_with_the_browser(tmp_path):
    program = node()
    if program is None:
        pytest.skip("there is no Node")
    rules = TextRules(
        280,
        "weighted",
        max_hashtags=3,
        warn_hashtags=1,
        max_mentions=1,
        caption_optional=False,
        warn_links="Links cost.",
    )
    rng = random.Random(9)
    noise = ["".join(rng.choice(PIECES) for _ in range(rng.randint(0, 12))) for _ in range(150)]
    given = [
        *texts(7, 150),
        *noise,
        *texts(8, 40, joiners=" \r"),
        "",
        "  ",
        "a\ufeffb",
        "x" * 2000,
        "https://t.co/" + "a" * 41,
    ]
    (tmp_path / "texts.json").write_text(json.dumps(given), encoding="utf-8")
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { readFileSync } from "node:fs";\n'
        f'import * as t from "{(ROOT / "static/js/text-limits.js").as_uri()}";\n'
        'const rules = { maxLength: 280, count: "weighted", maxHashtags: 3, warnHashtags: 1, maxMentions: 1, '
        'captionOptional: false, warnLinks: "Links cost." };\n'
        f'const texts = JSON.parse(readFileSync("{(tmp_path / "texts.json").as_posix()}", "utf8"));\n'
        "console.log(JSON.stringify(texts.map((x) => { const c = t.normalized(x); return [t.weightedLength(x), "
        't.measure(x, rules, "X"), t.findLinks(c).map((l) => l.text), t.textLength(x, { count: "characters" })]; })));\n',
        encoding="utf-8",
    )
    done = subprocess.run([program, str(script)], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == len(given) > 300
    for text, (weight, told, links, characters) in zip(given, answers, strict=True):
        m = t.measure(text, rules)
        assert weight == t.weighted_length(text), repr(text)
        assert (told["used"], told["max"]) == (m.used, m.maximum), repr(text)
        assert (told["hashtags"], told["mentions"], told["links"]) == (m.hashtags, m.mentions, m.links), repr(text)
        assert links == [s.text for s in t.find_links(t.normalized(text))], repr(text)
        assert characters == t.length(text, INSTAGRAM), repr(text)
        here = [(i.level, i.code, i.message, i.remedy) for i in t.issues("X", text, rules)]
        there = [(p["level"], p["code"], p["message"], p.get("remedy")) for p in told["problems"]]
        assert here == there, repr(text)


def test_the_browser_has_the_same_top_level_domains():
    source = (ROOT / "static" / "js" / "text-limits.js").read_text(encoding="utf-8")
    for name, wanted in (("LATIN", tlds.LATIN), ("OTHER", tlds.OTHER)):
        block = re.search(rf"const {name} =\n(.*?);\n", source, re.DOTALL)[1]
        assert " ".join(re.findall(r'"([^"]*)"', block)).split() == wanted


# ------------------------------------------------------------ counting and checking


def test_counts():
    m = t.measure("#one #zwei＃drei #日本 #2026 a#b &#x @luna @kai.x me@mail.de https://e.com/#no/@x", INSTAGRAM)
    assert (m.hashtags, m.mentions, m.links, m.maximum) == (4, 2, 1, 2200)
    assert t.measure("a\r\n👍🏽é", INSTAGRAM).used == 5
    assert t.find_hashtags("#हिन्दी x")[0].text == "#हिन्दी"


def test_limits_of_instagram():
    codes = lambda text: [i.code for i in t.issues("Instagram", text, INSTAGRAM)]  # noqa: E731
    assert codes("x" * 2200) == []
    assert codes("x" * 2201) == ["caption_too_long"]
    assert codes(" ".join(f"#tag{i}" for i in range(5))) == []
    assert codes(" ".join(f"#tag{i}" for i in range(6))) == ["many_hashtags"]
    assert codes(" ".join(f"#tag{i}" for i in range(60))) == ["too_many_hashtags"]
    assert codes(" ".join(f"@name{i}" for i in range(21))) == ["too_many_mentions"]
    assert codes("") == []
    assert [i.code for i in t.issues("X", "", TextRules(280, "weighted", caption_optional=False))] == ["caption_empty"]
    assert [i.code for i in t.issues("X", "a\ufeffb", X)] == ["forbidden_characters"]
    assert [i.code for i in t.issues("X", "a.com", TextRules(280, "weighted", warn_links="Costs."))] == ["links"]


@pytest.mark.parametrize(
    "text",
    [
        "http://" + "a." * 1400, "a." * 2000 + "a_.com", "日本語" * 2000 + "a.b", "x.com/" + "(a" * 3000, "a..com" * 900,
        "-a.com" * 900, "x.com/" + "!(a)" * 2000, "#" * 6000, "@a." * 2000, "a.com " * 800, "x.com/" + "((" * 2000,
    ],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_hostile_texts_do_not_take_long(text):
    """Quadratic patterns would take tens of seconds here (X's library does), which the suite's time limit notices."""
    for _ in range(20):
        t.weighted_length(text)


# ------------------------------------------------------------ trimming


@pytest.mark.parametrize(
    "rules", [TextRules(60, "weighted"), TextRules(60, "characters")], ids=["weighted", "characters"]
)
def test_trim_cuts_nothing_in_two(rules):
    shortened = 0
    for text in texts(11, 400):
        short = t.trim(text, rules)
        assert t.length(short, rules) <= 60
        if t.length(text, rules) <= 60:
            assert short == text
            continue
        shortened += 1
        clean = t.normalized(text)
        assert short.endswith("…") and clean.startswith(short[:-1])
        cut = len(short) - 1
        links = t.find_links(clean)
        whole = links + t.find_hashtags(t._without(clean, links))
        whole += [t.Span(m.start(), m.end(), m[0]) for m in t._EMOJI.finditer(t._without(clean, links))]
        assert not [s for s in whole if s.start < cut < s.end], repr((text, short))
    assert shortened > 100


def test_trim_examples():
    rules = TextRules(20, "weighted")
    assert t.trim("short", rules) == "short"
    assert t.trim("one two three four five", rules) == "one two three four…"
    assert t.trim("one two three, four five six", TextRules(16, "weighted")) == "one two three…"
    assert t.trim("x" * 30, rules) == "x" * 18 + "…"
    assert t.trim("日" * 30, rules) == "日" * 9 + "…"
    assert (
        t.trim("look at 👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦 all", rules)
        == "look at 👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦👨‍👩‍👧‍👦…"
    )
    assert t.trim("see example.com/a/very/long/path now", rules) == "see…"
    assert t.trim("some words #averylonghashtag", rules) == "some words…"
    # What is left over must not read as an address of 23.
    assert t.length(t.trim("a" * 13 + ".cozyhome", TextRules(18, "weighted")), X) <= 18


def test_strip_links():
    assert t.strip_links("Read more at https://example.com/a?b=1 today") == "Read more at today"
    assert t.strip_links("Look: example.com.") == "Look:."  # the sentence stays as it was written
    assert t.strip_links("Dawn (example.com)\nand www.foo.org \n#luna") == "Dawn\nand\n#luna"
    assert t.strip_links("No links. At all, 3.5 and e.g. this") == "No links. At all, 3.5 and e.g. this"
