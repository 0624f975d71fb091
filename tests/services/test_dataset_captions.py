"""Edits of captions: what each does to a text, the guard on patterns, previews, locks, history, undo, tags, tokens."""

from __future__ import annotations

import json

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.dataset import ImageFilter
from dalla.services import caption_edits, caption_find
from dalla.services.caption_text import Item, join, tidy, with_trigger
from dalla.tokens import TokenCounter
from tests.services.captions_world import CaptionWorld

ALL = ImageFilter()
ITEM = Item("img_1", "10_mira/walk in park.png")


def edit(operation: str, before: str, /, *, trigger: str = "mira_v1", frequency=None, **options) -> str:
    return caption_edits.prepare(operation, options, trigger=trigger, frequency=frequency).apply(before, ITEM)[0]


def places(operation: str, before: str, /, **options) -> int:
    return caption_edits.prepare(operation, options, trigger="mira_v1").apply(before, ITEM)[1]


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("operation", "before", "options", "after"),
    [
        ("replace", "a Cat and a cat", {"find": "cat", "replacement": "dog"}, "a dog and a dog"),
        ("replace", "a Cat and a cat", {"find": "cat", "replacement": "dog", "caseSensitive": True}, "a Cat and a dog"),
        ("replace", "1+1 (x)", {"find": "+1 (", "replacement": r"\1 ["}, r"1\1 [x)"),
        ("replace", "red hat, blue hat", {"find": r"(\w+) hat", "mode": "regex", "replacement": r"hat of \1"}, "hat of red, hat of blue"),
        ("replace", "red hat", {"find": r"(?P<c>\w+) hat", "mode": "regex", "replacement": "${c} cap for $$5"}, "red cap for $5"),
        ("replace", "red hat", {"find": r"(\w+) hat", "mode": "regex", "replacement": "$1 {folder}"}, "red 10_mira"),
        ("replace", "hat, red hat,  hat ", {"find": "hat", "mode": "tag", "replacement": "cap"}, "cap, red hat,  cap "),
        ("replace", "a, b, c", {"find": "B", "mode": "tag", "replacement": ""}, "a, c"),
        ("replace", "cat", {"find": "cat", "replacement": "{name} of {trigger}"}, "walk in park of mira_v1"),
        ("remove", "a big, red  cat", {"find": "big,"}, "a red cat"),
        ("remove", "a, blurry, b", {"find": "blurry"}, "a, b"),
        ("remove", "a, b, c", {"find": "a", "mode": "tag"}, "b, c"),
        ("remove", "x (1), y (22)", {"find": r" \(\d+\)", "mode": "regex"}, "x, y"),
        ("prefix", "a cat", {"text": "photo of"}, "photo of, a cat"),
        ("prefix", "a cat", {"text": "photo of", "separator": " "}, "photo of a cat"),
        ("prefix", "Photo of a cat", {"text": "photo of"}, "Photo of a cat"),
        ("prefix", "", {"text": "{trigger}"}, "mira_v1"),
        ("suffix", "a cat", {"text": "{folder}"}, "a cat, 10_mira"),
        ("suffix", "a cat,", {"text": "sharp"}, "a cat, sharp"),
        ("suffix", "a cat, sharp", {"text": "Sharp"}, "a cat, sharp"),
        ("set", "old", {"text": "{trigger}, {name}, {tags}"}, "mira_v1, walk in park, old"),
        ("trigger", "a cat", {}, "mira_v1, a cat"),
        ("trigger", "a cat of MIRA_V1", {}, "a cat of MIRA_V1"),
        ("trigger", "mira_v10, a cat", {}, "mira_v1, mira_v10, a cat"),
        ("trigger", "old_one, a cat", {"oldWord": "old_one"}, "mira_v1, a cat"),
        ("trigger", "mira_v1, a cat", {"remove": True}, "a cat"),
        ("rename_tag", "Red  Dress, cat", {"tag": "red dress", "to": "gown"}, "gown, cat"),
        ("rename_tag", "gown, red dress, red dress", {"tag": "red dress", "to": "gown"}, "gown"),
        ("remove_tag", "a, b, c", {"tags": ["a", "C"]}, "b"),
        ("add_tag", "a, b", {"tags": "B, c"}, "a, b, c"),
        ("add_tag", "a", {"tag": "z", "position": "start"}, "z, a"),
        ("add_tag", "mira_v1, a", {"tag": "z", "position": "after_trigger"}, "mira_v1, z, a"),
        ("add_tag", "mira_v1", {"tag": "z", "position": "after_trigger"}, "mira_v1, z"),
        ("add_tag", "a", {"tag": "z", "position": "after_trigger"}, "z, a"),
        ("add_tag", "", {"tag": "z"}, "z"),
        ("dedupe_tags", "a, B, a, b , c", {}, "a, B, c"),
        ("sort_tags", "mira_v1, c, A, b", {}, "mira_v1, A, b, c"),
        ("sort_tags", "c, b, a", {"keepFirst": 1}, "c, a, b"),
        ("case", "Mira_V1, A Dog'S LIFE", {"to": "lower"}, "Mira_V1, a dog's life"),
        ("case", "a dog. it sits", {"to": "sentence"}, "A dog. It sits"),
        ("case", "a dog's life", {"to": "title"}, "A Dog's Life"),
        ("tidy", " a ,, b  ,c\n d, ", {}, "a, b,c d"),
    ],
)  # fmt: skip
def test_every_edit(operation, before, options, after):
    assert edit(operation, before, **options) == after


def test_every_operation_is_tried_above():
    tried = {mark.args[1][n][0] for mark in test_every_edit.pytestmark for n in range(len(mark.args[1]))}
    assert tried | {"shuffle_tags"} == set(caption_edits.OPERATIONS)


def test_an_edit_that_changes_nothing_counts_nothing():
    assert places("replace", "a cat", find="dog", replacement="x") == 0
    assert places("replace", "a cat", find="cat", replacement="cat") == 0
    assert places("replace", "cat cat cat", find="cat", replacement="dog") == 3
    assert places("dedupe_tags", "a, a, a") == 2


def test_shuffling_is_the_same_every_time_and_keeps_the_first():
    tags = "mira_v1, " + ", ".join("abcdefgh")
    mixed = edit("shuffle_tags", tags, seed=7)
    assert mixed == edit("shuffle_tags", tags, seed=7) != edit("shuffle_tags", tags, seed=8)
    assert mixed.startswith("mira_v1, ") and sorted(mixed.split(", ")) == sorted(tags.split(", "))
    assert edit("shuffle_tags", tags, seed=7, keepFirst=3).startswith("mira_v1, a, b, ")


def test_sorting_by_frequency():
    counts = {"common": 9, "rare": 1}
    assert (
        edit("sort_tags", "rare, other, Common", order="frequency", frequency=lambda: counts) == "Common, rare, other"
    )


@pytest.mark.parametrize(
    ("operation", "options", "field"),
    [
        ("explode", {}, "operation"),
        ("replace", {}, "find"),
        ("replace", {"find": ""}, "find"),
        ("replace", {"find": "a", "mode": "fuzzy"}, "mode"),
        ("replace", {"find": 3}, "find"),
        ("replace", {"find": "a", "caseSensitive": "yes"}, "caseSensitive"),
        ("prefix", {"text": "  "}, "text"),
        ("rename_tag", {"tag": "a"}, "to"),
        ("rename_tag", {"tag": "a", "to": " "}, "to"),
        ("remove_tag", {}, "tag"),
        ("remove_tag", {"tags": [1]}, "tags"),
        ("trigger", {"word": "a, b"}, "word"),
        ("sort_tags", {"keepFirst": -1}, "keepFirst"),
        ("sort_tags", {"order": "size"}, "order"),
        ("case", {"to": "camel"}, "to"),
    ],
)
def test_bad_options_are_named(operation, options, field):
    with pytest.raises(InvalidInput) as caught:
        caption_edits.prepare(operation, options, trigger="x")
    assert caught.value.errors[0]["field"] == field


def test_without_a_trigger_word_one_must_be_given():
    with pytest.raises(InvalidInput, match="no trigger word"):
        caption_edits.prepare("trigger", {})
    assert edit("trigger", "a", trigger="", word="luna") == "luna, a"


def test_captions_do_not_grow_without_end():
    with pytest.raises(InvalidInput, match="walk in park"):
        edit("replace", "a" * 70, find="a", replacement="x" * 1000)


def test_small_parts():
    assert join("", "b") == "b" and join("a", " ") == "a" and join("a,", "b") == "a, b"
    assert tidy(" , a,  ,b ,") == "a,b"
    assert with_trigger("a", "") == "a"


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize("pattern", ["(a", "[z-a]", "*", "(?P<1>x)"])
def test_a_bad_pattern_says_what_is_wrong(pattern):
    with pytest.raises(InvalidInput, match="not a pattern") as caught:
        caption_edits.prepare("replace", {"find": pattern, "mode": "regex"})
    assert caught.value.errors[0]["field"] == "find" and "\\" in caught.value.remedy


def test_where_a_pattern_is_wrong():
    with pytest.raises(InvalidInput, match=r"at character \d+"):
        caption_edits.prepare("replace", {"find": "abc(d", "mode": "regex"})


@pytest.mark.parametrize("replacement", [r"\2", "$2", "${name}", r"\g<other>"])
def test_a_replacement_without_its_group_is_refused_before_anything_matches(replacement):
    with pytest.raises(InvalidInput) as caught:
        caption_edits.prepare("replace", {"find": "(a)", "mode": "regex", "replacement": replacement})
    assert caught.value.errors[0]["field"] == "replacement"


def test_a_pattern_that_would_never_end_is_stopped(monkeypatch):
    monkeypatch.setattr(caption_find, "ONE_TEXT", 0.05)
    hopeless = caption_edits.prepare("replace", {"find": "(a|aa)+$", "mode": "regex", "replacement": ""})
    with pytest.raises(InvalidInput, match="takes too long") as caught:
        hopeless.apply("a" * 60 + "b", ITEM)
    assert "walk in park" in caught.value.detail and "repeat" in caught.value.remedy


def test_all_captions_together_have_a_limit(monkeypatch):
    monkeypatch.setattr(caption_find, "ALL_TEXTS", 0.0)
    with pytest.raises(InvalidInput, match="takes too long"):
        edit("replace", "abc", find="b", mode="regex")


# ---------------------------------------------------------------- the service


@pytest.fixture
def world(tmp_path):
    world = CaptionWorld(tmp_path)
    yield world
    world.close()


def do(world, operation, where=ALL, **more):
    options = more.pop("options", {})
    return world.captions.edit(world.id, operation, options, where, **more)


def test_a_preview_changes_nothing_and_says_the_truth(world):
    ids = world.many("a cat", "a dog", "cat, cat")
    revision = world.store.get(world.id).revision
    shown = do(world, "replace", options={"find": "cat", "replacement": "bird"}, dry_run=True)
    assert shown["matches"] == 2 and shown["occurrences"] == 3 and shown["images"] == 3 and shown["changed"] == 0
    assert shown["changes"] == [
        {"imageId": ids[0], "filename": "000.png", "before": "a cat", "after": "a bird"},
        {"imageId": ids[2], "filename": "002.png", "before": "cat, cat", "after": "bird, bird"},
    ]
    assert world.texts() == ["a cat", "a dog", "cat, cat"] and shown["batchId"] is None
    assert world.store.get(world.id).revision == shown["revision"] == revision
    done = do(world, "replace", options={"find": "cat", "replacement": "bird"})
    assert done["changed"] == 2 and done["changes"] == shown["changes"] and done["revision"] > revision
    assert world.texts() == ["a bird", "a dog", "bird, bird"]
    image = world.store.image(ids[0])
    assert image.caption_source == "edit" and not image.caption_locked


def test_a_preview_shows_fifty_and_counts_all(world):
    world.many(*["x"] * 60)
    shown = do(world, "suffix", options={"text": "y"}, dry_run=True)
    assert shown["matches"] == 60 and len(shown["changes"]) == 50


def test_what_people_wrote_stays_unless_ticked(world):
    world.add("a.png", "a cat", locked=True)
    world.add("b.png", "a cat")
    done = do(world, "replace", options={"find": "cat", "replacement": "dog"})
    assert done["matches"] == done["changed"] == 1 and done["locked"] == 1
    assert world.texts() == ["a cat", "a dog"]
    done = do(world, "replace", options={"find": "cat", "replacement": "dog"}, include_locked=True)
    assert done["changed"] == 1 and done["locked"] == 0
    image = world.store.image(world.store.image_ids(world.id, ALL)[0])
    assert image.caption == "a dog" and image.caption_locked  # still that person's


def test_the_scope_is_kept_to(world):
    ids = world.many("a", "a", "b, a")
    do(world, "suffix", ImageFilter(ids=ids[:1]), options={"text": "x"})
    do(world, "suffix", ImageFilter(tag="b"), options={"text": "y"})
    assert world.texts() == ["a, x", "a", "b, a, y"]


def test_every_change_is_told_with_its_revision(world):
    world.many("a", "b")
    do(world, "suffix", options={"text": "x"})
    told = world.heard("caption.updated")[-1]
    assert told["datasetId"] == world.id and told["count"] == len(told["imageIds"]) == 2
    assert told["revision"] == world.store.get(world.id).revision


def test_a_dataset_in_the_trash_is_left_alone(world):
    world.many("a")
    world.store.update(world.id, trashed_at="2026-01-01T00:00:00.000Z")
    with pytest.raises(Conflict, match="trash"):
        do(world, "suffix", options={"text": "x"})
    with pytest.raises(NotFound):
        world.captions.edit("dataset_none", "tidy", {}, ALL)


def test_an_edit_as_a_task(world):
    world.many("a", "b")
    job = world.captions.submit_edit(world.id, "suffix", {"text": "x"}, ALL)
    assert job.status == "completed" and job.result["changed"] == 2
    assert world.texts() == ["a, x", "b, x"]


def test_a_task_that_was_killed_after_its_work_does_not_do_it_twice(world):
    world.many("a", "b")
    job = world.captions.submit_edit(
        world.id, "replace", {"find": "", "mode": "tag"} | {"find": "a", "replacement": "a, a"}, ALL
    )
    assert world.texts() == ["a, a", "b"]
    again = world.captions._run(_Context(), world.jobs.get(job.id).payload)
    assert again["changed"] == 1 and world.texts() == ["a, a", "b"]


class _Context:
    job = None

    def progress(self, *_: object) -> None: ...
    def check_cancelled(self) -> None: ...


def test_a_task_with_a_bad_pattern_is_refused_at_once(world):
    with pytest.raises(InvalidInput):
        world.captions.submit_edit(world.id, "replace", {"find": "(", "mode": "regex"}, ALL)


# ---------------------------------------------------------------- history


def test_the_history_tells_who_wrote_what(world):
    (id,) = world.many("from a file")
    world.write(id, "by hand", locked=True)
    do(world, "suffix", options={"text": "x"}, include_locked=True)
    told = world.captions.history(id)
    rows = [(row["text"], row["source"], row["modelUsed"], row["locked"], row["current"]) for row in told["entries"]]
    assert rows == [
        ("by hand, x", "edit", "suffix", True, True),
        ("by hand", "human", None, True, False),
        ("from a file", "file", None, False, False),
    ]
    assert told["undoTo"] == told["entries"][1]["id"] and told["captionLocked"]


def test_undo_goes_back_step_by_step(world):
    (id,) = world.many("one")
    for text in ("two", "three"):
        world.write(id, text, locked=True)
    assert world.captions.undo(id).caption == "two"
    back = world.captions.undo(id)
    assert (back.caption, back.caption_source, back.caption_locked) == ("one", "file", False)
    with pytest.raises(Conflict, match="no earlier"):
        world.captions.undo(id)
    entries = world.captions.history(id)["entries"]
    assert len(entries) == 5 and entries[0]["undoOf"] == str(entries[-1]["id"])  # nothing is lost
    world.write(id, "four")
    assert world.captions.undo(id).caption == "one"  # what was undone is not come back to


def test_any_text_of_the_history_can_be_brought_back(world):
    (id,) = world.many("one")
    world.write(id, "two")
    world.write(id, "three")
    entries = world.captions.history(id)["entries"]
    assert world.captions.undo(id, entries[1]["id"]).caption == "two"
    with pytest.raises(NotFound):
        world.captions.undo(id, 999_999)


def test_a_picture_without_history_has_nothing_to_undo(world):
    id = world.add("a.png")
    assert world.captions.history(id)["entries"] == []
    with pytest.raises(Conflict):
        world.captions.undo(id)


def test_undoing_the_first_caption_leaves_none(world):
    id = world.add("a.png")
    world.write(id, "one")
    world.write(id, "")
    assert world.captions.undo(id).caption == "one"


# ---------------------------------------------------------------- batches


def test_a_batch_is_taken_back_but_not_what_came_after(world):
    ids = world.many("a", "b", "c")
    batch = do(world, "suffix", options={"text": "x"})["batchId"]
    world.write(ids[1], "by hand")
    done = world.captions.undo_batch(world.id, batch)
    assert (done["undone"], done["images"], done["left"]) == (2, 3, 1)
    assert world.texts() == ["a", "by hand", "c"]
    rows = world.captions.batches(world.id)
    assert [row["batchId"] for row in rows] == [done["batchId"], batch]
    assert rows[0]["undoOf"] == batch and rows[1]["undone"] and not rows[0]["undone"]
    assert world.captions.undo_batch(world.id, batch)["undone"] == 0  # once is enough
    redone = world.captions.undo_batch(world.id, done["batchId"])
    assert redone["undone"] == 2 and world.texts() == ["a, x", "by hand", "c, x"]


def test_the_lock_comes_back_with_the_text(world):
    world.add("a.png", "a", locked=True)
    batch = do(world, "suffix", options={"text": "x"}, include_locked=True)["batchId"]
    world.captions.undo_batch(world.id, batch)
    image = world.store.image(world.store.image_ids(world.id, ALL)[0])
    assert image.caption == "a" and image.caption_locked


def test_an_unknown_batch(world):
    with pytest.raises(NotFound):
        world.captions.undo_batch(world.id, "batch_none")


def test_an_edit_that_finds_nothing_leaves_no_batch(world):
    world.many("a")
    assert do(world, "replace", options={"find": "zzz"})["batchId"] is None
    assert world.captions.batches(world.id) == []


# ---------------------------------------------------------------- tags and tokens


def test_tags_by_frequency(world):
    world.many("cat, Red", "cat, red", "cat, dog")
    told = world.captions.tags(world.id)
    assert [(row["tag"].lower(), row["count"]) for row in told["tags"]] == [("cat", 3), ("red", 2), ("dog", 1)]
    assert world.captions.tags(world.id, q="RE")["total"] == 1
    few = world.captions.tags(world.id, limit=1)
    assert len(few["tags"]) == 1 and few["total"] == 3


def clip_files(folder, words: int = 49_408) -> None:
    """A tokenizer in CLIP's two old files: single letters, and as many fillers as CLIP has words."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.'"
    signs = [*letters, *(f"{c}</w>" for c in letters), "ca", "cat</w>"]
    signs += ["<|startoftext|>", "<|endoftext|>"]
    signs += [f"filler{n}" for n in range(words - len(signs))]
    (folder / "vocab.json").write_text(json.dumps({sign: n for n, sign in enumerate(signs)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')


def test_tokens_are_counted_when_a_tokenizer_is_there(tmp_path):
    clip_files(tmp_path / "models" / "some-model" / "tokenizer")
    world = CaptionWorld(tmp_path)
    ids = world.many("cat, dog", "")
    assert world.captions.tokens.available() == ["clip"]
    assert world.captions.count_all(world.id) == 1
    counted = world.store.metadata([ids[0]], ["tokensClip", "tokensT5"])
    assert counted[ids[0]] == {"tokensClip": 5}  # "cat" is one, "," one, "dog" three letters
    world.store.put_metadata(world.id, {ids[0]: {"language": None}})  # as captions that were written before
    world.captions.count_all(world.id)
    assert world.store.metadata([ids[0]], ["language"]) == {ids[0]: {"language": "en"}}
    do(world, "suffix", options={"text": "cat"})
    assert world.store.metadata([ids[0]])[ids[0]]["tokensClip"] == 7
    assert world.store.metadata([ids[1]])[ids[1]]["tokensClip"] == 1
    world.close()


def test_counts_agree_with_the_tokenizer_of_transformers(tmp_path):
    from transformers import CLIPTokenizer

    clip_files(tmp_path / "tokenizers" / "clip")
    theirs = CLIPTokenizer.from_pretrained(str(tmp_path / "tokenizers" / "clip"))
    texts = ["Cat, 42 dogs' hats", "  a  cat\ncat ", "it's 2026.", ""]
    wanted = [len(theirs(text, add_special_tokens=False).input_ids) for text in texts]
    assert [row["tokensClip"] for row in TokenCounter(tmp_path).counts(texts)] == wanted
    theirs.save_pretrained(
        tmp_path / "again" / "a-model" / "tokenizer"
    )  # with a tokenizer.json, as newer models have it
    assert [row["tokensClip"] for row in TokenCounter(tmp_path / "again").counts(texts)] == wanted


def test_t5_is_counted_from_its_tokenizer_json(tmp_path):
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in "abcdefgh")]
    pieces += [(f"filler{n}", -9.0) for n in range(32_000)]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(tmp_path / "tokenizers" / "t5")
    counter = TokenCounter(tmp_path)
    assert counter.available() == ["t5"]
    assert counter.counts(["abc def"]) == [{"tokensT5": 8}]  # ▁ a b c ▁ d e f


def test_a_small_or_broken_tokenizer_counts_nothing(tmp_path):
    clip_files(tmp_path / "models" / "toy" / "tokenizer", words=1000)
    broken = tmp_path / "models" / "tokenizers" / "t5"
    broken.mkdir(parents=True)
    (broken / "tokenizer.json").write_text("{")
    world = CaptionWorld(tmp_path)
    (id,) = world.many("a")
    assert world.captions.tokens.available() == [] and world.captions.count_all(world.id) == 0
    do(world, "suffix", options={"text": "x"})
    assert world.store.metadata([id], ["tokensClip", "tokensT5"]) == {}
    world.close()
