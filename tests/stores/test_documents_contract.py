"""What every DocumentStore does."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import Conflict, InvalidInput, NotFound
from dalla.records.character import Character, Prompt, PromptSettings


@pytest.fixture
def store(open_documents):
    return open_documents(Character, "character")


def test_a_new_store_is_empty(store):
    assert store.all() == ()
    assert store.status().ok
    assert store.status().count == 0


def test_insert_keeps_order_and_survives_reopening(store, open_documents):
    for name in ("Luna", "Aria", "Nova"):
        store.insert(Character(id=f"char_{name}", name=name))
    assert [c.name for c in store.all()] == ["Luna", "Aria", "Nova"]
    again = open_documents(Character, "character")
    assert again.all() == store.all()
    assert again.get("char_Aria").name == "Aria"


def test_insert_refuses_a_taken_id_and_an_impossible_one(store):
    store.insert(Character(id="char_1", name="Luna"))
    with pytest.raises(Conflict, match="char_1"):
        store.insert(Character(id="char_1", name="Other"))
    with pytest.raises(InvalidInput):
        store.insert(Character(id="../char", name="Other"))
    assert [c.name for c in store.all()] == ["Luna"]


def test_missing_records_are_not_found(store):
    for call in (lambda: store.get("no"), lambda: store.update("no", lambda c: c), lambda: store.delete("no")):
        with pytest.raises(NotFound, match="character with the id 'no'"):
            call()


def test_update_changes_one_record(store, open_documents):
    store.insert(Character(id="char_1", name="Luna", prompt_settings=PromptSettings(style="artistic", mood="calm")))
    store.insert(Character(id="char_2", name="Aria"))
    changed = store.update(
        "char_1", lambda c: c.with_(name="Stella", prompt_settings=c.prompt_settings.with_(mood="wild"))
    )
    assert (changed.name, changed.prompt_settings.style, changed.prompt_settings.mood) == ("Stella", "artistic", "wild")
    again = open_documents(Character, "character")
    assert again.get("char_1") == changed == store.get("char_1")
    assert again.get("char_2").name == "Aria"


def test_a_change_that_raises_leaves_all_as_it_was(store):
    store.insert(Character(id="char_1", name="Luna"))
    before = store.revision()

    def refuse(character):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.update("char_1", refuse)
    with pytest.raises(InvalidInput, match="id"):
        store.update("char_1", lambda c: c.with_(id="char_2"))
    assert store.revision() == before
    assert store.get("char_1").name == "Luna"


def test_an_update_without_a_difference_writes_nothing(store):
    store.insert(Character(id="char_1", name="Luna"))
    before = store.revision()
    assert store.update("char_1", lambda c: c.with_(name="Luna")).name == "Luna"
    assert store.revision() == before


def test_delete_returns_what_was_removed(store, open_documents):
    store.insert(Character(id="char_1", name="Luna"))
    store.insert(Character(id="char_2", name="Aria"))
    assert store.delete("char_1").name == "Luna"
    assert [c.id for c in store.all()] == ["char_2"]
    assert store.get("char_2").name == "Aria"
    assert [c.id for c in open_documents(Character, "character").all()] == ["char_2"]


def test_rewrite_counts_what_changed(store):
    for number in range(3):
        store.insert(Character(id=f"char_{number}", name="Luna", instagram_api_key="key" if number else None))
    moved = store.rewrite(lambda c: c.with_(instagram_api_key="secret:x") if c.instagram_api_key else c)
    assert moved == 2
    assert [c.instagram_api_key for c in store.all()] == [None, "secret:x", "secret:x"]
    assert store.rewrite(lambda c: c) == 0


def test_revision_changes_with_every_write(store):
    seen = {store.revision()}
    for number in range(20):
        store.insert(Character(id=f"char_{number}", name="Luna"))
        seen.add(store.revision())
        store.update(f"char_{number}", lambda c: c.with_(name="Lune"))
        seen.add(store.revision())
    assert len(seen) == 41


def test_two_stores_see_each_other(store, open_documents):
    other = open_documents(Character, "character")
    store.insert(Character(id="char_1", name="Luna"))
    assert other.get("char_1").name == "Luna"
    other.update("char_1", lambda c: c.with_(name="Aria"))
    assert store.get("char_1").name == "Aria"


def test_64_threads_lose_nothing(open_documents):
    stores = [open_documents(Prompt, "prompt") for _ in range(2)]
    stores[0].insert(Prompt(id="shared", prompt=""))
    gate = threading.Barrier(64)
    failures = []

    def work(number: int) -> None:
        store = stores[number % 2]
        try:
            gate.wait()
            store.insert(Prompt(id=f"prompt_{number}", prompt=str(number)))
            store.update("shared", lambda p: p.with_(prompt=p.prompt + "x"))
            store.update(f"prompt_{number}", lambda p: p.with_(used=True))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    again = open_documents(Prompt, "prompt")
    assert again.get("shared").prompt == "x" * 64
    assert {p.id for p in again.all() if p.used} == {f"prompt_{n}" for n in range(64)}
