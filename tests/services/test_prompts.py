"""The prompt library, wildcards, import and export."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter

import orjson
import pytest

from dalla.errors import InvalidInput, NotFound, Stale
from dalla.services.prompt_files import read_rows, write_csv
from dalla.services.wildcards import Wildcards


@pytest.fixture
def luna(container):
    return container.characters.create({"name": "Luna", "personality": "Dreamy"})


@pytest.fixture
def prompts(container):
    return container.prompts


def stored(container) -> list[dict]:
    return json.loads((container.settings.data_dir / "prompts.json").read_text())


# ------------------------------------------------------------ records


def test_a_new_prompt_looks_as_the_seed_shows(container, prompts, luna):
    made = prompts.create(prompt="  in a forest ", character_id=luna.id, caption="Hi")
    record = stored(container)[0]
    assert record["characterName"] == "Luna" and record["prompt"] == "in a forest" and record["used"] is False
    assert {"id", "characterId", "characterName", "prompt", "caption", "createdAt", "used"} <= record.keys()
    assert made.id.startswith("prompt_") and made.created_at.endswith("Z")


def test_the_name_shown_is_the_live_one(container, prompts, luna):
    made = prompts.create(prompt="x", character_id=luna.id)
    container.characters.update(luna.id, {"name": "Luna Two"})
    assert prompts.public(made)["characterName"] == "Luna Two"
    container.characters.delete(luna.id)
    shown = prompts.public(made)
    assert shown["characterName"] == "Luna" and shown["characterMissing"] is True


def test_finding(prompts, luna):
    a = prompts.create(prompt="Red dress in Paris", character_id=luna.id)
    b = prompts.create(prompt="Forest", character_id=luna.id, caption="Paris is far")
    c = prompts.create(prompt="Beach")
    prompts.mark_used(a.id, "media", "media_1")

    def ids(**where):
        return [p.id for p in prompts.find(**where)]

    assert ids() == [a.id, b.id, c.id] and ids(character_id=luna.id) == [a.id, b.id]
    assert ids(used=False) == [b.id, c.id] and ids(used=True) == [a.id]
    assert ids(text="paris") == [a.id, b.id] and ids(text="PARIS dress") == [a.id] and ids(text="nothing") == []


@pytest.mark.parametrize("prompt", [None, "", "   ", "x" * 10_001])
def test_prompts_without_words_are_refused(prompts, prompt):
    with pytest.raises(InvalidInput) as caught:
        prompts.create(prompt=prompt)
    assert caught.value.errors[0]["field"] == "prompt" and prompts.find() == []


def test_an_unknown_character_is_refused(prompts):
    with pytest.raises(NotFound):
        prompts.create(prompt="x", character_id="char_0")


def test_use_is_remembered_once_with_a_link(prompts, luna):
    made = prompts.create(prompt="x", character_id=luna.id)
    prompts.mark_used(made.id, "media", "media_1")
    prompts.mark_used(made.id, "media", "media_1")
    marked = prompts.mark_used(made.id, "post", "post_1")
    shown = prompts.public(marked)
    assert shown["used"] and shown["usedAt"]
    assert [(u["type"], u["id"], u["href"]) for u in shown["usedIn"]] == [
        ("media", "media_1", "/gallery.html?media=media_1"),
        ("post", "post_1", "/content.html?post=post_1"),
    ]
    assert prompts.update(made.id, {"used": False}).used_at is None


def test_picking(prompts, luna):
    ids = [prompts.create(prompt=f"p{n}", character_id=luna.id).id for n in range(3)]
    prompts.create(prompt="somebody else's")
    assert prompts.pick(luna.id).id == ids[0]
    prompts.mark_used(ids[0], "post", "post_1")
    assert prompts.pick(luna.id, rule="unused").id == ids[1] == prompts.pick(luna.id, rule="oldest").id
    for id in ids[1:]:
        prompts.mark_used(id, "post", f"post_{id}")
    assert prompts.pick(luna.id) is None and prompts.pick(luna.id, rule="oldest").id == ids[0]
    assert {prompts.pick(luna.id, rule="random").id for _ in range(100)} == set(ids)
    assert prompts.pick("char_other", rule="random") is None
    with pytest.raises(InvalidInput):
        prompts.pick(luna.id, rule="best")


def test_older_captions_are_kept(prompts, luna):
    made = prompts.create(prompt="in a forest", character_id=luna.id, caption="First")
    changed, result = prompts.caption(made.id, tone="playful")
    assert changed.caption == result.caption != "First"
    assert [old["caption"] for old in changed.captions] == ["First"]
    assert prompts.public(changed)["captionProvider"] == "composer"
    edited = prompts.update(made.id, {"caption": "By hand"})
    assert [old["caption"] for old in edited.captions] == ["First", result.caption]
    assert edited.captions[1]["provider"] == "composer" and prompts.public(edited)["captionProvider"] is None
    for n in range(40):
        edited = prompts.update(made.id, {"caption": f"c{n}"})
    assert len(edited.captions) == 20 and edited.captions[-1]["caption"] == "c38"


def test_regenerating_never_gives_the_same_again(prompts, luna):
    made = prompts.create(prompt="in a forest", character_id=luna.id)
    written = [prompts.caption(made.id)[0].caption for _ in range(15)]
    assert len(set(written)) == 15


def test_delete_can_be_undone(container, prompts, luna):
    made = prompts.create(prompt="x", character_id=luna.id, caption="c")
    prompts.mark_used(made.id, "media", "media_1")
    gone = prompts.public(prompts.delete(made.id))
    with pytest.raises(NotFound):
        prompts.get(made.id)
    back = prompts.restore(gone)
    assert prompts.restore(gone).id == back.id and len(prompts.find()) == 1
    assert back.caption == "c" and back.used_in[0]["id"] == "media_1" and back.created_at == made.created_at
    assert "href" not in stored(container)[0]["usedIn"][0] and "characterMissing" not in stored(container)[0]
    for bad in ({}, {"id": "../x", "prompt": "x"}, {"id": "prompt_9"}, {"id": "prompt_9", "prompt": 5}):
        with pytest.raises(InvalidInput):
            prompts.restore(bad)


def test_hand_edits_and_unknown_fields_survive(container, prompts, luna):
    made = prompts.create(prompt="x", character_id=luna.id)
    file = container.settings.data_dir / "prompts.json"
    records = json.loads(file.read_text())
    records[0]["myNote"] = {"a": 1}
    file.write_text(json.dumps(records))
    prompts.update(made.id, {"caption": "new"})
    prompts.caption(made.id)
    assert stored(container)[0]["myNote"] == {"a": 1}


def test_stale_edits_are_refused(prompts):
    made = prompts.create(prompt="x")
    tag = prompts.etag(made)
    prompts.update(made.id, {"prompt": "y"}, if_match=tag)
    with pytest.raises(Stale):
        prompts.update(made.id, {"prompt": "z"}, if_match=tag)
    with pytest.raises(Stale):
        prompts.delete(made.id, if_match=tag)
    assert prompts.get(made.id).prompt == "y"


def test_bulk_tells_what_failed(prompts, luna):
    ids = [prompts.create(prompt=f"p{n}", character_id=luna.id).id for n in range(3)]
    marked = prompts.bulk("mark_used", [*ids, "prompt_0", ids[0]])
    assert marked["succeeded"] == ids and [f["id"] for f in marked["failed"]] == ["prompt_0"]
    assert marked["failed"][0]["code"] == "not_found"
    assert all(p.used for p in prompts.find())
    prompts.bulk("mark_unused", ids)
    assert not any(p.used for p in prompts.find())
    gone = prompts.bulk("delete", ids[:2])
    assert [p.id for p in prompts.find()] == ids[2:] and [d["id"] for d in gone["deleted"]] == ids[:2]


# ------------------------------------------------------------ many captions


def test_captions_for_many_in_the_background(container, running, prompts, luna):
    ids = [prompts.create(prompt=f"in forest number {n}", character_id=luna.id).id for n in range(4)]
    job = prompts.submit_captions([*ids, "prompt_gone"], platform="x", tone="calm")
    done = container.jobs.wait(job.id, 30)
    assert done.status == "completed" and done.lane == "net"
    assert done.result["written"] == 4 and done.result["providers"] == {"composer": 4}
    assert [f["id"] for f in done.items_failed] == ["prompt_gone"]
    assert all(prompts.get(id).caption for id in ids)


def test_captions_for_many_can_be_stopped(prompts, luna):
    from dalla.errors import Cancelled

    ids = [prompts.create(prompt=f"p{n}", character_id=luna.id).id for n in range(5)]

    class Context:
        def progress(self, done, total, message=""):
            if done == 2:
                raise Cancelled("stop")

    with pytest.raises(Cancelled):
        prompts.run(Context(), {"ids": ids})
    assert [bool(prompts.get(id).caption) for id in ids] == [True, True, False, False, False]


# ------------------------------------------------------------ ideas


def test_ideas_are_kept_in_the_library(prompts, luna):
    made, provider, notes = prompts.generate(luna.id, 6, theme="autumn")
    assert provider == "composer" and len(made) == 6 and not notes
    assert all(p.source == "ideas" and p.character_id == luna.id and not p.used for p in made)
    more, _, _ = prompts.generate(luna.id, 6, theme="autumn")
    texts = [p.prompt for p in prompts.find()]
    assert len(texts) == len(set(texts)) == 12 and len(more) == 6
    for count in (0, 51):
        with pytest.raises(InvalidInput):
            prompts.generate(luna.id, count)
    with pytest.raises(NotFound):
        prompts.generate("char_0", 3)


# ------------------------------------------------------------ import and export


def test_what_is_exported_can_be_imported(container, prompts, luna):
    texts = [
        "plain",
        "with, comma",
        'with "quotes"',
        "two\nlines",
        "=SUM(A1)",
        "+1",
        "-x",
        "@y",
        "'=z",
        "ünï 🦊",
        "a;b\tc",
    ]
    for text in texts:
        prompts.create(prompt=text, character_id=luna.id, caption=text + " caption")
    for form in ("csv", "json"):
        data, _ = prompts.export(form)
        before = [(p.prompt, p.caption, p.character_id) for p in prompts.find()]
        prompts.bulk("delete", [p.id for p in prompts.find()])
        answer = prompts.import_(data)
        assert answer["errors"] == [] and answer["imported"] == len(texts)
        assert [(p.prompt, p.caption, p.character_id) for p in prompts.find()] == before
        assert prompts.import_(data)["skipped"] == len(texts)


def test_no_cell_is_a_formula():
    rows = [{"prompt": text, "caption": text} for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "ok")]
    data = write_csv(rows)
    assert data.startswith(b"\xef\xbb\xbf")
    for cells in list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))[1:]:
        assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


@pytest.mark.parametrize(
    "data",
    [
        b"prompt,caption\nred dress,Hi\n",
        b"\xef\xbb\xbfPrompt;Caption\r\nred dress;Hi\r\n",
        b"caption\tprompt\nHi\tred dress\n",
        "prompt|caption\nred dress|Hi".encode("utf-16"),
        b'"prompt","caption"\r"red dress","Hi"\r',
        b'[{"prompt": "red dress", "caption": "Hi"}]',
        b'{"prompts": [{"prompt": "red dress", "caption": "Hi", "other": 1}]}',
        [{"prompt": "red dress", "caption": "Hi"}],
    ],
)
def test_every_form_of_file_is_read(prompts, data):
    answer = prompts.import_(data)
    assert (answer["imported"], answer["errors"]) == (1, []), answer
    made = prompts.find()[0]
    assert (made.prompt, made.caption, made.source) == ("red dress", "Hi", "import")


def test_a_list_without_a_header():
    rows = read_rows("a dress, red\n\nby the sea\n".encode("cp1252"))
    assert rows == [(1, {"prompt": "a dress, red"}), (3, {"prompt": "by the sea"})]
    assert read_rows(b'["one", "two"]') == [(1, {"prompt": "one"}), (2, {"prompt": "two"})]
    assert read_rows("caf\xe9 scene".encode("cp1252")) == [(1, {"prompt": "café scene"})]


def test_bad_rows_are_told_and_the_others_taken(prompts, luna):
    data = (
        "prompt,character,used\n"
        "good,Luna,yes\n"
        ",Luna,\n"
        "two,Nobody,\n"
        f'"multi\nline",luna,\n'
        f"{'x' * 10_001},Luna,\n"
        "GOOD,Luna,no\n"
        "free,,\n"
    )
    dry = prompts.import_(data.encode(), dry_run=True)
    assert prompts.find() == [] and dry["dryRun"] is True
    answer = prompts.import_(data.encode())
    assert [e["row"] for e in answer["errors"]] == [3, 4, 7] and "Nobody" in answer["errors"][1]["message"]
    assert answer["imported"] == dry["imported"] == 3 and answer["skipped"] == 1
    kept = {p.prompt: p for p in prompts.find()}
    assert set(kept) == {"good", "multi\nline", "free"} and kept["good"].used and kept["free"].character_id is None
    assert len(answer["preview"]) == 3 and answer["preview"][0]["characterName"] == "Luna"


def test_rows_without_a_character_take_the_given_one(prompts, luna):
    prompts.import_(["a", "b"], character_id=luna.id)
    assert {p.character_id for p in prompts.find()} == {luna.id}
    with pytest.raises(NotFound):
        prompts.import_(["c"], character_id="char_0")


@pytest.mark.parametrize("data", [b"", b"   ", b"[1, {", b'{"a": 1}', b"PK\x03\x04\0\0\xff\xfe\0", b'prompt,caption\n"open,quote\n', ["x"] * 2001])  # fmt: skip
def test_files_that_cannot_be_read_are_refused(prompts, data):
    with pytest.raises(InvalidInput) as caught:
        prompts.import_(data)
    assert caught.value.errors[0]["field"] == "file" and prompts.find() == []


def test_entries_of_a_wrong_kind_are_rows_with_an_error(prompts):
    answer = prompts.import_(orjson.loads(b'[5, null, ["a"], {"prompt": 7}, {}, "ok"]'))
    assert [e["row"] for e in answer["errors"]] == [1, 2, 3, 4, 5] and answer["imported"] == 1


# ------------------------------------------------------------ wildcards


@pytest.fixture
def cards(tmp_path):
    cards = Wildcards(tmp_path / "wildcards")
    cards.save("colour", "red\n# not this\n\ngreen\nblue\n")
    return cards


def test_expanding_is_seeded(cards):
    text = "{a|b|c|d} __colour__ {x|y {1|2}}"
    assert all(cards.expand(text, n) == cards.expand(text, n) for n in range(20))
    assert len({cards.expand(text, n) for n in range(60)}) > 15
    assert {cards.expand("__colour__", n) for n in range(60)} == {"red", "green", "blue"}


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("{a|b}", {"a", "b"}),
        ("x {a|{b|c} d} y", {"x a y", "x b d y", "x c d y"}),
        ("a {|very} big", {"a big", "a very big"}),
        ("{red}, (x:1.2), [y]", {"{red}, (x:1.2), [y]"}),
        (r"\{a\|b\}", {"{a|b}"}),
        ("{open {a|b}", {"{open a", "{open b"}),
        ("a} b", {"a} b"}),
        ("x, {|}, y", {"x, y"}),
        ("{{a|b}|{c|d}}", {"a", "b", "c", "d"}),
        ("a|b", {"a|b"}),
        ("__init", {"__init"}),
    ],
)
def test_braces(cards, text, results):
    assert {cards.expand(text, n) for n in range(80)} == results


def test_weights(cards):
    counts = Counter(cards.expand("{9::often|1::rarely|0::never}", n) for n in range(600))
    assert counts["never"] == 0 and 400 < counts["often"] < 600 and counts["rarely"] > 15
    cards.save("w", "9::often\nrarely\n")
    assert Counter(cards.expand("__w__", n) for n in range(200))["often"] > 140


def test_wildcards_may_use_wildcards_but_not_without_end(cards):
    cards.save("dress", "a __colour__ {dress|gown}")
    assert cards.expand("__dress__", 1).split()[0] == "a"
    cards.save("loop", "x __loop__")
    cards.save("wide", " ".join(["__wide2__"] * 100))
    cards.save("wide2", " ".join(["__colour__"] * 100))
    for name in ("loop", "wide"):
        with pytest.raises(InvalidInput):
            cards.expand(f"__{name}__", 1)
    with pytest.raises(InvalidInput):
        cards.expand("{a|" * 40 + "b" + "}" * 40 + "".join("{" for _ in range(5)), 3) and cards.expand(
            "{" * 30 + "a|b" + "}" * 30, 1
        )


def test_a_missing_file_is_named(cards):
    with pytest.raises(InvalidInput) as caught:
        cards.expand("a __hair__", 1)
    assert "hair.txt" in caught.value.detail and caught.value.remedy
    assert cards.missing("__hair__ __colour__") == ["hair"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "x" * 65, "a__b", "_a", "con.txt", "ä"])
def test_names_are_checked(cards, name):
    for call in (lambda: cards.save(name, "x"), lambda: cards.get(name), lambda: cards.delete(name)):
        with pytest.raises(InvalidInput):
            call()


def test_wildcard_files(cards):
    assert [(c["name"], c["count"]) for c in cards.all()] == [("colour", 3)]
    with pytest.raises(InvalidInput):
        cards.save("empty", "# only a comment\n\n")
    cards.delete("colour")
    for call in (cards.delete, cards.get):
        with pytest.raises(NotFound):
            call("colour")
    assert cards.all() == []
