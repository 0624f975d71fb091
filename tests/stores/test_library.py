"""Opening the database: from nothing, from an older version, from a newer one, from rubble."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from dalla.errors import StorageError
from dalla.records.media import MediaFilter
from dalla.stores import library as library_module
from dalla.stores.library import Library, head, known_versions
from dalla.stores.media import SqlMedia
from dalla.stores.schema import metadata
from tests.conftest import PRAGMAS
from tests.stores.conftest import picture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "dalla.db"


def test_an_empty_folder_becomes_a_library(file):
    library = Library.open(file)
    assert library.version() == head() == known_versions()[-1]
    SqlMedia(library).insert(picture(1))
    library.close()
    assert [p.name for p in file.parent.glob("*.bak")] == []
    again = Library.open(f"sqlite:///{file}")
    assert SqlMedia(again).page(MediaFilter()).total == 1
    again.close()


def test_opening_a_current_database_imports_no_migrations(file):
    Library.open(file).close()
    code = "import sys; from dalla.stores.library import Library; Library.open(sys.argv[1]); assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(file)], cwd=ROOT, check=True)


def test_the_migrations_make_the_tables_of_the_schema(library):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with library.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
        # Conditions of partial indexes are not compared above.
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        made = {row.name: row.sql for row in connection.execute(text(query))}
    for table in metadata.tables.values():
        for index in table.indexes:
            condition = index.dialect_options["sqlite"]["where"]
            assert ("WHERE" in made[index.name]) == (condition is not None)
            assert condition is None or made[index.name].endswith(f"WHERE {condition}")


def test_migrations_can_be_taken_back(library):
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(library_module.MIGRATIONS))
    with library.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        command.upgrade(config, "head")
    SqlMedia(library).insert(picture(1, prompt="forest"))
    assert SqlMedia(library).page(MediaFilter(words=["fores"])).total == 1


def test_sqlite_is_set_up_for_durability(file, monkeypatch):
    monkeypatch.setattr(library_module, "_PRAGMAS", PRAGMAS)
    library = Library.open(file)
    with library.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}
    library.close()


def test_before_a_migration_the_file_is_copied(file):
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as old:
        old.execute("CREATE TABLE treasure (word TEXT)")
        old.execute("INSERT INTO treasure VALUES ('gold')")
        old.commit()
    before = file.read_bytes()
    Library.open(file).close()
    copies = list(file.parent.glob("*.bak"))
    assert [c.name for c in copies] == [f"dalla.db.before-{head()}.bak"]
    with closing(sqlite3.connect(copies[0])) as copy:
        assert copy.execute("SELECT word FROM treasure").fetchall() == [("gold",)]
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'media'").fetchone() == (0,)
    with closing(sqlite3.connect(file)) as now:
        assert now.execute("SELECT word FROM treasure").fetchall() == [("gold",)]
    assert file.read_bytes() != before


def test_a_failed_migration_changes_nothing(file):
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as old:
        old.execute("CREATE TABLE media (surprise TEXT)")  # in the way of ours
        old.commit()
    with pytest.raises(StorageError, match="already exists"):
        Library.open(file)
    with closing(sqlite3.connect(file)) as now:
        tables = [name for (name,) in now.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert tables == ["media"]


def test_a_database_of_a_newer_version_is_refused_untouched(file):
    library = Library.open(file)
    with library.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    library.close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="newer version") as caught:
        Library.open(file)
    assert "Update the app" in caught.value.remedy
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "rubble", [b"this is not a database, it is a letter " * 200, b"SQLite format 3\0" + b"\xff" * 8176]
)
def test_a_damaged_file_is_refused_untouched(file, rubble):
    file.parent.mkdir()
    file.write_bytes(rubble)
    with pytest.raises(StorageError) as caught:
        Library.open(file)
    assert "damaged" in caught.value.detail
    assert str(file) in caught.value.detail
    assert "backup" in caught.value.remedy
    assert file.read_bytes() == rubble


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(StorageError):
        Library.open(tmp_path / "data" / "dalla.db")


def test_processes_that_open_at_once_migrate_once(file):
    code = "import sys; from dalla.stores.library import Library; print(Library.open(sys.argv[1]).version())"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == [head()] * 3


def test_a_write_that_fails_leaves_nothing(library):
    media = SqlMedia(library)
    with pytest.raises(RuntimeError), library.write() as connection:
        connection.execute(text("INSERT INTO revisions VALUES ('x', 1)"))
        raise RuntimeError("in the middle")
    with library.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM revisions")).scalar() == 1
    media.insert(picture(1))


def test_a_full_disk_is_said_in_words(library):
    media = SqlMedia(library)
    media.insert(picture(1))
    with library.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    library.close()

    from sqlalchemy import event

    @event.listens_for(library.engine, "connect")
    def limit(connection, _record):
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StorageError, match="no space left"):
        media.insert(picture(2, prompt="x" * 100_000))
    assert media.page(MediaFilter()).total == 1


def test_readers_see_one_moment_while_a_writer_works(library):
    media = SqlMedia(library)
    media.insert(picture(1))
    read, wrote = threading.Event(), threading.Event()
    seen = []

    def reader() -> None:
        with library.read() as connection:
            seen.append(connection.execute(text("SELECT count(*) FROM media")).scalar())
            read.set()
            wrote.wait(10)
            seen.append(connection.execute(text("SELECT count(*) FROM media")).scalar())

    thread = threading.Thread(target=reader)
    thread.start()
    assert read.wait(10)
    media.insert(picture(2))
    wrote.set()
    thread.join()
    assert seen == [1, 1]
    assert media.page(MediaFilter()).total == 2


def test_writers_that_read_first_wait_for_each_other(library, library_url):
    SqlMedia(library).insert_many([picture(n) for n in range(4)])
    libraries = [Library.open(library_url) for _ in range(3)]  # as separate processes would have
    failures = []

    def work(media: SqlMedia) -> None:
        try:
            for _ in range(25):
                media.update(["media_1", "media_2"], starred=True)
        except StorageError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(SqlMedia(one),)) for one in libraries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in libraries:
        one.close()
    assert failures == []
    with library.read() as connection:
        assert library.revision(connection, "media") == 1 + 3 * 25


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_kill_minus_nine_never_loses_what_was_acknowledged(file):
    code = """
import sys
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia
from tests.conftest import PRAGMAS
from tests.stores.conftest import picture
media = SqlMedia(Library.open(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**9):
    media.insert(picture(number % 20000, id=f"media_{number}", prompt="forest", loras=["a"], recipe={"n": number}))
    print(number, flush=True)
"""
    acknowledged: set[str] = set()
    for round in range(4):
        first = round * 1_000_000
        with subprocess.Popen(
            [sys.executable, "-c", code, str(file), str(first)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            for line in child.stdout:
                acknowledged.add(f"media_{line.strip()}")
                if int(line) >= first + 20 + round:
                    break
            child.kill()
            acknowledged |= {f"media_{line.strip()}" for line in child.stdout if line.endswith("\n")}
        library = Library.open(file)
        media = SqlMedia(library)
        ids = media.ids(MediaFilter())
        assert acknowledged <= set(ids)
        total = len(ids)  # nothing is there by half
        assert media.page(MediaFilter(words=["forest"])).total == media.page(MediaFilter(lora="a")).total == total
        assert all(item.recipe for item in media.get_many(ids))
        with library.read() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
        library.close()
    assert len(acknowledged) > 80


def test_without_the_word_index_the_prompts_are_read(library):
    with library.write() as connection:
        connection.execute(text("DROP TABLE media_words"))
    with library.read() as connection:
        library.search.detect(connection)
    media = SqlMedia(library)
    media.insert_many([picture(1, prompt="Enchanted FOREST"), picture(2, prompt='50% "off" my_shop'), picture(3)])

    def found(**where):
        return [item.id for item in media.page(MediaFilter(**where)).items]

    assert found(words=["fores", "ch"]) == ["media_1"]
    assert found(not_words=["forest"]) == ["media_3", "media_2"]
    assert found(words=["0% "]) == ["media_2"]
    assert found(words=["%"]) == ["media_2"]
    assert found(words=["y_s"]) == ["media_2"]
    assert found(words=["yxs"]) == []
    media.update(["media_1"], prompt="city")
    media.delete(["media_2"])
    assert found(words=["city"]) == ["media_1"]


def test_a_pool_without_a_free_connection_is_said(tmp_path, monkeypatch):
    from sqlalchemy import exc

    library = Library.open(tmp_path / "dalla.db")
    monkeypatch.setattr(
        library.engine.pool, "connect", lambda: (_ for _ in ()).throw(exc.TimeoutError("QueuePool limit"))
    )
    with pytest.raises(StorageError, match="busy"), library.read():
        pass
    monkeypatch.undo()
    library.close()
