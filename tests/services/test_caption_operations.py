"""The batch operations "caption" and "tag": modes, locks, failures of one picture and of all, restart, undo."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from dalla.engines.captions.vision.base import TAGS, VisionText
from dalla.engines.captions.vision.gemini import GeminiVision
from dalla.errors import Conflict, InvalidInput, NotConfigured, UpstreamError
from dalla.records.image import EngineStatus
from dalla.services import caption_operations
from tests.conftest import NOWHERE
from tests.fakes.gemini import GeminiFake
from tests.fakes.openai_server import PICTURE, OpenAIFake
from tests.services.captions_world import CaptionWorld


@pytest.fixture
def make(tmp_path):
    open_ones = []

    def build(**more):
        world = CaptionWorld(tmp_path, **more)
        open_ones.append(world)
        return world

    yield build
    for world in open_ones:
        world.close()


@pytest.fixture
def world(make):
    return make()


@pytest.fixture
def gemini(make, monkeypatch):
    """(world, fake) with a Gemini that is asked for one picture at a time, by a clock that sleeping moves."""
    monkeypatch.setattr(caption_operations, "WORKERS", {})
    with GeminiFake() as fake:
        world = make(GEMINI_API_KEY=fake.key, GEMINI_BASE_URL=fake.url)
        world.engines._built["gemini"] = GeminiVision(
            world.settings, sleep=lambda s: None, clock=lambda: sum(world.slept)
        )
        yield world, fake


@pytest.fixture
def local(make):
    with OpenAIFake() as fake:
        yield make(DALLA_CAPTION_URL=fake.url + "/v1"), fake


class Stub:
    """An engine that says what the test wants, or does what it wants."""

    name, label, styles, sends = "blip", "Stub", ("sentence", "tags"), False

    def __init__(self, say="seen"):
        self.say = say
        self.requests = []
        self.released = 0

    def status(self, *, fresh=False):
        return EngineStatus(True)

    def models(self):
        return []

    def describe(self, request):
        self.requests.append(request)
        said = self.say(request) if callable(self.say) else self.say
        return said if isinstance(said, VisionText) else VisionText(text=said, model="stub-1")

    def release(self):
        self.released += 1

    def close(self):
        pass


@pytest.fixture
def stub(world):
    engine = world.engines._built["blip"] = Stub()
    return engine


def counts(job):
    return {key: job.result[key] for key in ("done", "skipped", "failed")}


# ---------------------------------------------------------------- a whole run


def test_basic_captions_the_empty_ones_and_leaves_the_rest(world):
    ids = [world.add("a.png"), world.add("b.png", "kept"), world.add("c.png", "", locked=True)]
    job = world.run("caption", engine="basic")
    assert job.status == "completed" and job.kind == "image_batch"
    assert counts(job) == {"done": 1, "skipped": 2, "failed": 0}
    assert job.result["kept"] == 1 and job.result["locked"] == 1 and job.result["engine"] == "basic"
    image = world.store.image(ids[0])
    assert image.caption == "mira_v1, A picture, soft light, vivid warm colors, orange tones, vertical format"
    assert image.caption_source == "engine" and not image.caption_locked
    assert world.text(ids[1]) == "kept" and world.text(ids[2]) == ""
    entry = world.captions.history(ids[0])["entries"][0]
    assert entry["modelUsed"] == "basic" and entry["batchId"] == job.result["batchId"]
    assert world.heard("caption.updated")[-1]["imageIds"] == [ids[0]]


def test_the_whole_batch_is_taken_back(world):
    ids = [world.add("a.png", "mine"), world.add("b.png")]
    job = world.run("caption", engine="basic", mode="replace")
    assert world.text(ids[0]) != "mine" and world.text(ids[1])
    undone = world.batches.undo(job.id)
    assert undone.status == "completed" and undone.result["undone"] == 2
    assert world.texts() == ["mine", ""]


def test_a_trial_changes_nothing(world):
    id = world.add("a.png")
    job = world.batches.submit("caption", world.id, None, {"engine": "basic"}, dry_run=True)
    assert job.result["items"][0]["result"]["after"].startswith("mira_v1, A picture")
    assert world.text(id) == "" and world.captions.history(id)["entries"] == []


def test_locked_captions_are_replaced_when_ticked(world):
    id = world.add("a.png", "by hand", locked=True)
    assert counts(world.run("caption", engine="basic", mode="replace"))["skipped"] == 1
    assert counts(world.run("caption", engine="basic", mode="replace", includeLocked=True))["done"] == 1
    image = world.store.image(id)
    assert image.caption != "by hand" and image.caption_locked


def test_basic_uses_what_was_measured(world):
    id = world.add("a.png")
    world.store.put_metadata(world.id, {id: {"faces": 2, "faceBoxes": [{"height": 40}, {"height": 8}]}})
    world.run("caption", engine="basic", trigger=False)
    assert world.text(id).startswith("A close-up of two people")


def test_a_network_of_our_own_gets_the_memory(world, stub):
    world.add("a.png")
    asked = []
    world.pictures.free_memory = lambda: asked.append(True)
    world.run("caption", engine="basic", mode="replace")
    assert not asked
    world.run("caption", engine="blip", mode="replace")
    assert asked == [True]


# ---------------------------------------------------------------- what becomes of the words


def test_words_are_put_together(world, stub):
    cases = [
        ("", "A woman on a bench", {}, "mira_v1, A woman on a bench"),
        ("", "Mira_V1 on a bench", {}, "mira_v1 on a bench"),
        ("", "A woman", {"trigger": False}, "A woman"),
        ("", "A woman.", {"mention": ["film grain"]}, "mira_v1, A woman, film grain"),
        ("It rains.", "A woman.", {"mode": "append", "trigger": False}, "It rains. A woman."),
        ("rain", "a woman", {"mode": "append"}, "mira_v1, rain, a woman"),
        ("old", "new", {"mode": "replace"}, "mira_v1, new"),
    ]
    for number, (before, said, options, after) in enumerate(cases):
        id = world.add(f"{number}.png", before)
        stub.say = said
        world.batches.submit("caption", None, [id], {"engine": "blip", **options})
        assert world.text(id) == after


def test_tags_are_put_together(world, stub):
    stub.say = VisionText(tags=("woman", "red hair", "dress"), model="m")
    id = world.add("a.png", "mira_v1, Dress")
    job = world.batches.submit("tag", None, [id], {"engine": "blip", "avoid": "hair, hat", "mention": ["photo"]})
    assert world.text(id) == "mira_v1, Dress, woman, photo" and counts(job)["done"] == 1
    again = world.batches.submit("tag", None, [id], {"engine": "blip", "avoid": "hair", "mention": ["photo"]})
    assert counts(again)["skipped"] == 1  # nothing new


def test_a_forbidden_word_in_a_sentence_is_told(world, stub):
    stub.say = "A woman with red hair"
    id = world.add("a.png")
    job = world.run("caption", engine="blip", avoid=["red hair"])
    assert job.result["mentions"] == 1 and job.result["items"][0]["result"]["mentions"] == ["red hair"]
    assert world.text(id) == "mira_v1, A woman with red hair"  # a sentence is not cut to pieces


def test_what_the_engine_is_told(world, stub):
    world.add("10_mira/park walk.png", "one, two")
    world.run(
        "caption", engine="blip", mode="replace", prompt="{trigger} {tags} {name} {folder}", length="long", avoid="a\nb",
        style="sentence", model="m", threshold=0.5, maxTags=3,
    )  # fmt: skip
    request = stub.requests[0]
    assert request.instruction == "mira_v1 one, two park walk 10_mira" and request.trigger == "mira_v1"
    assert request.avoid == ("a", "b") and request.length == "long" and request.model == "m"
    assert (request.width, request.height) == (48, 64) and request.threshold == 0.5 and request.max_tags == 3
    with Image.open(io.BytesIO(request.image)) as sent:
        assert sent.format == "JPEG" and not sent.getexif()
    assert stub.released == 1


def test_a_person_who_writes_meanwhile_wins(world, stub):
    id = world.add("a.png")

    def look(request):
        world.write(id, "by hand", locked=True)
        return "by the engine"

    stub.say = look
    job = world.run("caption", engine="blip")
    assert world.text(id) == "by hand" and counts(job)["skipped"] == 1 and job.result["locked"] == 1


def test_a_machine_that_writes_meanwhile_is_not_overwritten(world, stub):
    id = world.add("a.png", "old")

    def look(request):
        world.write(id, "edited", source="edit")
        return "by the engine"

    stub.say = look
    job = world.run("caption", engine="blip", mode="replace")
    assert world.text(id) == "edited" and job.result["changedMeanwhile"] == 1


# ---------------------------------------------------------------- failures


def test_a_picture_that_fails_does_not_end_the_batch(gemini):
    world, fake = gemini
    ids = world.many("", "", "")
    fake.next({"caption": "one"}, "safety", {"caption": "three"})
    job = world.run("caption", engine="gemini")
    assert job.status == "completed" and job.kind == "image_batch_net" and counts(job)["failed"] == 1
    assert world.texts() == ["mira_v1, one", "", "mira_v1, three"]
    assert job.items_failed[0]["id"] == ids[1] and "safety" in job.items_failed[0]["detail"]
    assert world.captions.history(ids[0])["entries"][0]["modelUsed"] == "gemini:gemini-3.5-flash-lite"


def test_a_file_that_is_gone_or_broken_is_its_own_failure(world, stub):
    ids = world.many("", "", "")
    world.blobs.delete(world.store.image(ids[0]).path)
    world.blobs.put(world.store.image(ids[1]).path, b"no picture")
    job = world.run("caption", engine="blip")
    assert [row["code"] for row in job.items_failed] == ["not_found", "unsupported_media"]
    assert world.texts() == ["", "", "mira_v1, seen"]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("forbidden", "may not do that"),
        ("quota_day", "daily quota"),
        ("no_quota", "no quota"),
        ("location", "does not offer"),
    ],
)
def test_what_every_picture_would_meet_ends_the_batch(gemini, order, said):
    world, fake = gemini
    world.many("", "", "", "")
    fake.next({"caption": "one"}, order)
    job = world.run("caption", engine="gemini")
    assert job.status == "failed" and said in job.error["detail"] and job.error["remedy"]
    assert world.texts() == ["mira_v1, one", "", "", ""] and len(fake.questions) == 2
    world.slept.append(4000.0)
    again = world.jobs.retry(job.id)  # with the reason gone, it goes on with the rest
    assert again.status == "completed" and all(world.texts()) and len(fake.questions) == 5


def test_a_bad_key_ends_the_batch_at_once(gemini):
    world, fake = gemini
    world.many("", "")
    fake.key = "another"
    job = world.run("caption", engine="gemini")
    assert job.status == "failed" and "key" in job.error["detail"] and len(fake.questions) == 1


def test_a_quota_by_the_minute_is_waited_for(gemini):
    world, fake = gemini
    world.many("", "")
    fake.next({"caption": "one"}, "quota", {"caption": "two"})
    job = world.run("caption", engine="gemini")
    assert job.status == "completed" and world.texts() == ["mira_v1, one", "mira_v1, two"]
    assert 21 <= sum(world.slept) < 22


def test_waiting_can_be_cancelled(gemini):
    world, fake = gemini
    world.many("", "")
    fake.next("quota")

    def sleep(seconds):
        world.slept.append(seconds)
        (job,) = world.jobs.tasks.page(statuses=["running"])[0]
        world.jobs.cancel(job.id)

    world.pictures._sleep = sleep
    job = world.run("caption", engine="gemini")
    assert job.status == "cancelled" and len(world.slept) == 1 and world.texts() == ["", ""]


def test_a_server_that_goes_down_ends_the_batch_and_keeps_what_is_done(local):
    world, fake = local
    world.many("", "", "")
    original = world.captions.write

    def write(*args, **more):
        done = original(*args, **more)
        fake.stop()
        return done

    world.captions.write = write
    job = world.run("caption", engine="local")
    assert job.status == "failed" and "cannot be reached" in job.error["detail"]
    assert world.texts() == [f"mira_v1, {PICTURE['caption']}", "", ""]


def test_failures_one_after_another_end_the_batch(local):
    world, fake = local
    world.many(*[""] * 8)
    fake.next("json", 500, 500, "json", 500, 500, 500, 500)
    job = world.run("caption", engine="local")
    assert job.status == "failed" and "4 failures one after another" in job.error["detail"]
    assert sum(bool(text) for text in world.texts()) == 2


def test_a_model_that_sees_nothing_ends_the_batch(make):
    with OpenAIFake(vision=False) as fake:
        world = make(DALLA_CAPTION_URL=fake.url + "/v1")
        world.many("", "")
        job = world.run("caption", engine="local")
        assert job.status == "failed" and "takes no pictures" in job.error["detail"]


def test_a_crash_of_the_engine_is_an_item_failure(world, stub):
    turns = iter([UpstreamError("The captioner crashed.", service="captions", kind="retry"), None, None])

    def look(request):
        if (error := next(turns)) is not None:
            raise error
        return "seen"

    stub.say = look
    world.many("", "", "")
    job = world.run("caption", engine="blip")
    assert job.status == "completed" and counts(job) == {"done": 2, "skipped": 0, "failed": 1}


# ---------------------------------------------------------------- killed and started again


def test_a_picture_written_before_the_kill_is_not_written_twice(world, stub):
    """The caption is saved, the journal's line is not: the picture comes again."""
    id = world.add("a.png", "old")
    stub.say = "new"
    job = world.run("caption", engine="blip", mode="append", trigger=False)
    assert world.text(id) == "old, new"
    journal = next((world.settings.data_dir / "batches").glob("*/journal.jsonl"))
    journal.write_bytes(b"")
    _again(world, job.id)
    assert world.text(id) == "old, new" and len(stub.requests) == 1
    finished = world.jobs.get(job.id)
    assert finished.status == "completed" and counts(finished)["done"] == 1
    result = finished.result["items"][0]["result"]
    assert (result["before"], result["after"], result["model"]) == ("old", "old, new", "stub-1")


def _again(world, id):
    from sqlalchemy import update

    from dalla.stores.schema import background_tasks

    with world.library.write() as connection:
        connection.execute(
            update(background_tasks).where(background_tasks.c.id == id).values(status="queued", owner=None)
        )
    world.jobs.run_task(id)


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"engine": "oracle"}, "engine"),
        ({"mode": "some"}, "mode"),
        ({"style": "poem"}, "style"),
        ({"length": "endless"}, "length"),
        ({"prompt": 3}, "prompt"),
        ({"avoid": [1]}, "avoid"),
        ({"mention": [str(n) for n in range(60)]}, "mention"),
        ({"threshold": 2}, "threshold"),
        ({"trigger": "yes"}, "trigger"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_options_are_named(world, options, field):
    world.add("a.png")
    with pytest.raises(InvalidInput) as caught:
        world.run("caption", **{"engine": "basic", **options})
    assert caught.value.errors[0]["field"] == field


def test_an_engine_that_cannot_work_is_told_before_anything_starts(world):
    world.add("a.png")
    for name, said in (("gemini", "No Gemini key"), ("local", "No local caption server"), ("blip", "no BLIP model")):
        with pytest.raises(NotConfigured, match=said):
            world.run("caption", engine=name)
    assert world.jobs.tasks.page()[2] == 0


def test_engines_write_what_they_can(world, stub):
    world.add("a.png")
    stub.styles = ("sentence",)
    with pytest.raises(InvalidInput) as caught:
        world.run("tag", engine="blip")
    assert caught.value.errors[0]["field"] == "engine" and "sentences only" in caught.value.detail
    stub.styles = (TAGS,)
    assert world.batches._operation("caption").check({"engine": "blip"})["style"] == TAGS
    with pytest.raises(InvalidInput, match="tags only"):
        world.run("caption", engine="blip", style="sentence")


def test_auto_takes_the_best_there_is(make, monkeypatch):
    world = make()
    assert world.pictures.engines()["auto"] == {"caption": "basic", "tag": "basic"}
    monkeypatch.setitem(world.engines._built, "blip", Stub())
    assert world.pictures.choose("sentence") == "blip"
    world.settings._values["gemini_api_key"] = "AIza-x"
    assert world.pictures.choose("sentence") == world.pictures.choose(TAGS) == "gemini"
    world.settings._values["caption_send_image"] = False
    assert world.pictures.choose("sentence") == "blip"


def test_pictures_stay_here_when_they_are_told_to(make):
    world = make(GEMINI_API_KEY="AIza-x", DALLA_CAPTION_SEND_IMAGE="false", DALLA_CAPTION_URL=NOWHERE)
    world.add("a.png")
    with pytest.raises(NotConfigured, match="switched off"):
        world.run("caption", engine="gemini")
    assert world.pictures.engine("local").name == "local"  # on this computer: nothing leaves it
    world.settings._values["dry_run"] = True
    with pytest.raises(Conflict, match="dry run"):
        world.run("caption", engine="gemini")


def test_the_engines_are_listed_with_what_they_lack(make):
    with GeminiFake() as fake:
        world = make(GEMINI_API_KEY=fake.key, GEMINI_BASE_URL=fake.url)
        rows = {row["name"]: row for row in world.pictures.engines()["engines"]}
        assert not fake.requests  # nobody was asked
        assert rows["gemini"]["available"] and rows["gemini"]["sends"] and rows["gemini"]["models"] == []
        assert rows["basic"]["basic"] and rows["basic"]["available"] and not rows["gemini"]["basic"]
        assert (
            not rows["blip"]["available"] and "models/captioners/" in rows["blip"]["reason"] and rows["blip"]["remedy"]
        )
        assert rows["wd_tagger"]["styles"] == ["tags"]
        fresh = {row["name"]: row for row in world.pictures.engines(fresh=True)["engines"]}
        assert "gemini-3.8-flash" in fresh["gemini"]["models"]
