"""What is particular to the JSON files: people edit them, programs break them, disks fill up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from dalla.errors import StorageError
from dalla.records.character import Character, Prompt, ScheduledTask
from dalla.stores.documents_json import JsonDocuments

SEEDS = Path(__file__).parents[1] / "data" / "seeds"
CHILD = [sys.executable, "-m", "tests.stores.child_documents"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "characters.json"


@pytest.fixture
def store(path):
    return JsonDocuments(path, Character, "character")


def write(path: Path, text: str) -> None:
    """Save as an editor does that writes in place."""
    path.write_text(text, encoding="utf-8")


def temps(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]


# ---------------------------------------------------------------------- the format


@pytest.mark.parametrize(
    ("name", "record_type"), [("character", Character), ("task", ScheduledTask), ("prompt", Prompt)]
)
def test_the_seed_examples_round_trip_unchanged(tmp_path, name, record_type):
    example = (SEEDS / f"{name}.json").read_text("utf-8")
    raw = json.loads(example)
    store = JsonDocuments(tmp_path / "file.json", record_type, name)
    store.insert(record_type.model_validate(raw))
    text = store.path.read_text("utf-8")
    assert json.loads(text) == [raw]
    assert list(json.loads(text)[0]) == list(raw)
    assert text == "[\n" + textwrap.indent(example.strip(), "  ") + "\n]\n"
    store.update(raw["id"], lambda r: r.with_(character_id="char_9") if name != "character" else r.with_(name="New"))
    after = json.loads(store.path.read_text("utf-8"))[0]
    changed = {"name": "New"} if name == "character" else {"characterId": "char_9"}
    assert after == {**raw, **changed}
    assert list(after) == list(raw)


def test_defaults_do_not_gain_a_place_in_the_file(path, store):
    write(path, '[{"id": "char_1", "name": "Luna", "promptSettings": {"style": "x"}}]')
    store.update("char_1", lambda c: c.with_(name="Aria", prompt_settings=c.prompt_settings.with_(mood="calm")))
    assert json.loads(path.read_text()) == [
        {"id": "char_1", "name": "Aria", "promptSettings": {"style": "x", "mood": "calm"}}
    ]


def test_unknown_keys_survive_at_every_level(path, store):
    raw = {
        "zodiac": "pisces",
        "id": "char_1",
        "copy": {"json": [1, 2.5, None]},
        "name": "Luna",
        "promptSettings": {"lens": "85mm", "style": "artistic"},
        "narratives": [{"id": "n1", "title": "Quest", "mapUrl": "x"}],
    }
    write(path, json.dumps([raw]))
    store.update("char_1", lambda c: c.with_(backstory="b", prompt_settings=c.prompt_settings.with_(style="noir")))
    after = json.loads(path.read_text())[0]
    assert after == {**raw, "promptSettings": {"lens": "85mm", "style": "noir"}, "backstory": "b"}
    assert list(after) == [*raw, "backstory"]
    assert list(after["promptSettings"]) == ["lens", "style"]


def test_a_field_can_be_emptied_and_a_snake_case_key_keeps_its_spelling(path, store):
    write(path, '[{"id": "char_1", "name": "Luna", "is_active": true, "personality": "calm"}]')
    store.update("char_1", lambda c: c.with_(is_active=False, personality=None))
    assert json.loads(path.read_text()) == [{"id": "char_1", "name": "Luna", "is_active": False, "personality": None}]
    assert JsonDocuments(path, Character, "character").get("char_1").is_active is False


def test_untouched_records_keep_their_exact_text(path, store):
    untouched = '{"id":"char_1",   "name":"Luna", "big": 123456789012345678901234567890, "x": 1.10, "e": "\\u00e9"}'
    write(path, f'[\n\t{untouched},\n  {{"id": "char_2", "name": "Aria"}} ]')
    store.update("char_2", lambda c: c.with_(name="Nova"))
    text = path.read_text("utf-8")
    assert untouched in text
    assert [c["name"] for c in json.loads(text)] == ["Luna", "Nova"]
    store.insert(Character(id="char_3", name="Stella"))
    store.delete("char_2")
    assert untouched in path.read_text("utf-8")


# ---------------------------------------------------------------------- edits by hand


def test_edits_by_hand_are_seen_at_the_next_read(path, store):
    store.insert(Character(id="char_1", name="Luna"))
    write(path, path.read_text().replace("Luna", "Aria"))
    assert store.get("char_1").name == "Aria"
    replacement = path.with_name("new.json")
    replacement.write_text('[{"id": "char_2", "name": "Nova"}]')
    os.replace(replacement, path)  # as editors do that write a new file
    assert [c.id for c in store.all()] == ["char_2"]
    path.unlink()
    assert store.all() == ()
    store.insert(Character(id="char_3", name="Stella"))
    assert [c.id for c in store.all()] == ["char_3"]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(path, store):
    path.write_bytes(
        b'\xef\xbb\xbf[\r\n  {"id": "char_1", "name": "Luna"},\r\n  {"id": "c2", "name": "Z\xc3\xb6"}\r\n]\r\n'
    )
    assert [c.name for c in store.all()] == ["Luna", "Zö"]
    store.update("char_1", lambda c: c.with_(name="Aria"))
    assert [c["name"] for c in json.loads(path.read_text("utf-8"))] == ["Aria", "Zö"]


def test_records_that_do_not_fit_are_reported_and_kept_in_place(path, store):
    odd = [
        "just text",
        {"name": "no id"},
        {"id": "char_1", "name": "Luna"},
        {"id": "char_2", "name": 5},
        {"id": "char_1", "name": "twin"},
        {"id": "../x", "name": "path"},
        {"id": "char_3", "name": "Aria"},
    ]
    write(path, json.dumps(odd))
    assert [c.id for c in store.all()] == ["char_1", "char_3"]
    status = store.status()
    assert status.ok
    assert status.count == 2
    assert len(status.skipped) == 5
    assert "number 1" in status.skipped[0]
    assert "'char_2'" in status.skipped[2] and "name" in status.skipped[2]
    store.update("char_1", lambda c: c.with_(name="Nova"))
    store.delete("char_3")
    assert json.loads(path.read_text()) == [*odd[:2], {"id": "char_1", "name": "Nova"}, *odd[3:6]]
    assert len(store.status().skipped) == 5


BROKEN = [
    ('[\n  {"id": "char_1", "name": "Luna",}\n]', "line 2"),
    ("", "empty"),
    ('{"id": "char_1"}', "list"),
    ('[{"id": "char_1", "name": "\xff"}]', "JSON"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_a_broken_file_is_served_from_memory_and_never_overwritten(path, store, text, said):
    store.insert(Character(id="char_1", name="Luna"))
    broken = text.encode("latin-1")
    path.write_bytes(broken)
    assert store.get("char_1").name == "Luna"
    status = store.status()
    assert not status.ok
    assert said in status.detail
    for call in (
        lambda: store.insert(Character(id="char_2", name="x")),
        lambda: store.update("char_1", lambda c: c.with_(name="x")),
        lambda: store.delete("char_1"),
        lambda: store.rewrite(lambda c: c.with_(name="x"), scrub_backup=True),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert said in caught.value.detail
        assert str(path) in caught.value.remedy
    assert path.read_bytes() == broken
    write(path, '[{"id": "char_9", "name": "Fixed"}]')
    assert store.status().ok
    assert store.update("char_9", lambda c: c.with_(name="Saved")).name == "Saved"


def test_after_a_restart_a_broken_file_is_served_from_the_backup(path, store):
    store.insert(Character(id="char_1", name="Luna"))
    store.insert(Character(id="char_2", name="Aria"))
    write(path, "[oops")
    again = JsonDocuments(path, Character, "character")
    assert [c.id for c in again.all()] == ["char_1"]
    assert not again.status().ok
    with pytest.raises(StorageError):
        again.delete("char_1")
    assert path.read_text() == "[oops"


def test_without_any_good_version_reads_say_so(path, store):
    write(path, "[oops")
    with pytest.raises(StorageError, match="line 1"):
        store.all()
    with pytest.raises(StorageError):
        store.get("char_1")
    assert store.status().count == 0
    write(path, "[]")
    assert store.all() == ()


def test_the_backup_is_the_version_before(path, store):
    store.insert(Character(id="char_1", name="Luna"))
    before = path.read_bytes()
    store.update("char_1", lambda c: c.with_(name="Aria"))
    assert store.backup.read_bytes() == before
    assert store.backup.name == "characters.json.bak"


def test_scrubbing_leaves_no_old_version(path, store):
    store.insert(Character(id="char_1", name="Luna", instagram_api_key="PLAIN"))
    store.update("char_1", lambda c: c.with_(name="Aria"))
    assert store.rewrite(lambda c: c.with_(instagram_api_key="secret:1"), scrub_backup=True) == 1
    for file in path.parent.iterdir():
        assert b"PLAIN" not in file.read_bytes(), file.name
    assert not store.backup.exists()


def test_scrubbing_is_finished_when_the_first_attempt_was_cut_off(path, store):
    store.insert(Character(id="char_1", name="Luna"))
    store.backup.write_text('[{"id": "char_1", "instagramApiKey": "PLAIN"}]')
    assert store.rewrite(lambda c: c, scrub_backup=True) == 0
    assert not store.backup.exists()


def test_the_file_keeps_its_permissions_and_a_link_stays_a_link(tmp_path):
    real = tmp_path / "synced" / "characters.json"
    real.parent.mkdir()
    write(real, "[]")
    real.chmod(0o600)
    link = tmp_path / "characters.json"
    link.symlink_to(real)
    JsonDocuments(link, Character, "character").insert(Character(id="char_1", name="Luna"))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert json.loads(real.read_text())[0]["name"] == "Luna"


def test_a_missing_folder_is_made(tmp_path):
    store = JsonDocuments(tmp_path / "deep" / "data" / "characters.json", Character, "character")
    assert store.all() == ()
    store.insert(Character(id="char_1", name="Luna"))
    assert store.path.exists()


def test_reads_share_the_frozen_records(store):
    store.insert(Character(id="char_1", name="Luna"))
    assert store.all() is store.all()
    assert store.get("char_1") is store.all()[0]


def test_readers_meet_whole_versions_while_others_write(path, store):
    store.insert(Character(id="char_1", name="0", backstory="0"))
    reader = JsonDocuments(path, Character, "character")
    done = threading.Event()
    wrong = []

    def read() -> None:
        while not done.is_set():
            for source in (store, reader):
                character = source.get("char_1")
                if character.name != character.backstory:
                    wrong.append(character)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(60):
        store.update("char_1", lambda c, n=number: c.with_(name=str(n), backstory=str(n)))
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert reader.get("char_1").name == "59"


# ---------------------------------------------------------------------- other processes, crashes, full disks


def start_child(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [*CHILD, str(path), str(first), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def let_go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def test_two_processes_and_this_one_lose_nothing(tmp_path):
    path = tmp_path / "prompts.json"
    store = JsonDocuments(path, Prompt, "prompt")
    children = [start_child(path, first, 150) for first in (0, 1000)]
    for child in children:
        let_go(child)
    for number in range(2000, 2150):
        store.insert(Prompt(id=f"prompt_{number}"))
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert {p.id for p in store.all()} == {
        f"prompt_{n}" for first in (0, 1000, 2000) for n in range(first, first + 150)
    }
    assert len(store.all()) == 450


def test_kill_minus_nine_never_loses_what_was_acknowledged(tmp_path):
    path = tmp_path / "prompts.json"
    acknowledged: set[str] = set()
    for round in range(8):
        first = round * 100_000
        with start_child(path, first, 100_000) as child:
            let_go(child)
            for line in child.stdout:
                acknowledged.add(f"prompt_{line.strip()}")
                if int(line) >= first + 5 + round * 3:
                    break
            child.kill()
            acknowledged |= {f"prompt_{line.strip()}" for line in child.stdout if line.endswith("\n")}
        json.loads(path.read_text())  # whole, whenever the blow fell
        store = JsonDocuments(path, Prompt, "prompt")
        assert acknowledged <= {p.id for p in store.all()}
        assert temps(tmp_path) == []
    assert len(acknowledged) > 100


def test_a_write_looks_different_even_when_the_clock_stands_still(path, store):
    store.insert(Character(id="char_1", name="Luna"))
    later = path.stat().st_mtime_ns + 10**12
    os.utime(path, ns=(later, later))  # as if the next write fell into the same tick, or before it
    store.update("char_1", lambda c: c.with_(name="Aria"))
    assert path.stat().st_mtime_ns > later


def test_stale_temp_files_are_cleaned_at_start(path):
    stale = path.with_name(".characters.json.0123456789ab.tmp")
    stale.write_text("half")
    other = path.with_name(".prompts.json.0123456789ab.tmp")
    other.write_text("of another file")
    JsonDocuments(path, Character, "character")
    assert not stale.exists()
    assert other.exists()


def run_child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="limits of the file size are POSIX")
def test_when_the_disk_takes_no_more_nothing_changes(path, store):
    for number in range(20):
        store.insert(Character(id=f"char_{number}", name="Luna", backstory="x" * 500))
    before = path.read_bytes()
    said = run_child(
        """
        import resource, signal, sys
        from pathlib import Path
        from dalla.errors import StorageError
        from dalla.records.character import Character
        from dalla.stores.documents_json import JsonDocuments
        store = JsonDocuments(Path(sys.argv[1]), Character, "character")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            store.update("char_3", lambda c: c.with_(name="Aria"))
        except StorageError as exc:
            print(exc.detail)
        assert store.get("char_3").name == "Luna"
        """,
        str(path),
    )
    assert "Nothing was changed" in said
    assert path.read_bytes() == before
    assert temps(path.parent) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small file system to fill")
def test_a_full_disk_is_said_in_words(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("only the superuser may mount the small disk of this test")
    try:
        store = JsonDocuments(folder / "characters.json", Character, "character")
        store.insert(Character(id="char_1", name="Luna"))
        with pytest.raises(StorageError, match="no space left"):
            store.insert(Character(id="char_2", name="Aria", backstory="x" * 100_000))
        assert [c.id for c in store.all()] == ["char_1"]
        assert temps(folder) == []
        store.insert(Character(id="char_3", name="Nova"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="permissions are POSIX")
def test_an_unreadable_file_is_served_from_memory_until_it_can_be_read(open_folder):
    path = open_folder / "characters.json"
    JsonDocuments(path, Character, "character").insert(Character(id="char_1", name="Luna"))
    os.chown(open_folder, 65534, -1) if os.getuid() == 0 else None
    os.chown(path, 65534, -1) if os.getuid() == 0 else None
    run_child(
        """
        import os, sys
        from pathlib import Path
        from dalla.records.character import Character
        from dalla.stores.documents_json import JsonDocuments
        if os.getuid() == 0:
            Character(id="x", name="x")  # built now: that user may not read the libraries
            os.setuid(65534)
        path = Path(sys.argv[1])
        store = JsonDocuments(path, Character, "character")
        assert store.status().ok
        os.utime(path, ns=(1, 1))
        path.chmod(0)
        assert store.get("char_1").name == "Luna"
        assert "cannot be read" in store.status().detail
        path.chmod(0o644)
        assert store.status().ok and store.get("char_1").name == "Luna"
        """,
        str(path),
    )


@pytest.fixture
def open_folder():
    """Give a folder that another user may enter too (those of tmp_path are private)."""
    folder = Path(tempfile.mkdtemp(prefix="dalla-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="permissions are POSIX")
def test_a_read_only_folder_is_said_in_words(open_folder):
    path = open_folder / "characters.json"
    JsonDocuments(path, Character, "character").insert(Character(id="char_1", name="Luna"))
    before = path.read_bytes()
    open_folder.chmod(0o555)
    said = run_child(
        """
        import os, sys
        from pathlib import Path
        import filelock
        from dalla.errors import StorageError
        from dalla.records.character import Character
        from dalla.stores.documents_json import JsonDocuments
        store = JsonDocuments(Path(sys.argv[1]), Character, "character")
        if os.getuid() == 0:
            Character(id="x", name="x")  # built now: that user may not read the libraries
            os.setuid(65534)  # permissions do not bind the superuser
        assert store.get("char_1").name == "Luna"
        try:
            store.update("char_1", lambda c: c.with_(name="Aria"))
        except StorageError as exc:
            print(exc.detail, exc.remedy)
        assert store.get("char_1").name == "Luna"
        """,
        str(path),
    )
    assert "read-only" in said
    assert "DALLA_DATA_DIR" in said
    assert path.read_bytes() == before
