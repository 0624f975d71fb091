"""Stores under test. A second backend joins the contract suites with one more name in a list here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dalla.records.media import MediaItem
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.idempotency import SqlIdempotency
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia
from dalla.stores.tasks import SqlTasks

DOCUMENTS = ["json"]
LIBRARIES = ["sqlite"]


@pytest.fixture(params=DOCUMENTS)
def open_documents(request, tmp_path: Path) -> Callable[..., JsonDocuments]:
    """Return a function that opens the store of a kind; called twice, it opens the same data twice."""

    def open_store(record_type, kind: str) -> JsonDocuments:
        return JsonDocuments(tmp_path / f"{kind}s.json", record_type, kind)

    return open_store


@pytest.fixture(scope="session")
def empty_library(tmp_path_factory) -> Path:
    """Return a database with its tables, to be copied: making them anew for each test takes a while."""
    file = tmp_path_factory.mktemp("library") / "dalla.db"
    Library.open(file).close()
    return file


@pytest.fixture(params=LIBRARIES)
def library_url(request, tmp_path: Path, empty_library: Path) -> str:
    shutil.copy(empty_library, tmp_path / "dalla.db")
    return f"sqlite:///{tmp_path / 'dalla.db'}"


@pytest.fixture
def library(library_url: str) -> Iterator[Library]:
    library = Library.open(library_url)
    yield library
    library.close()


@pytest.fixture
def media(library: Library) -> SqlMedia:
    return SqlMedia(library)


@pytest.fixture
def tasks(library: Library) -> SqlTasks:
    return SqlTasks(library)


@pytest.fixture
def idempotency(library: Library) -> SqlIdempotency:
    return SqlIdempotency(library)


def picture(number: int, **values) -> MediaItem:
    """Return a picture; the number makes its id, file and time."""
    defaults = {
        "id": f"media_{number}",
        "path": f"media/{number}.png",
        "created_at": f"2026-01-{number // 1000 + 1:02}T00:{number // 60 % 60:02}:{number % 60:02}.000Z",
        "sha256": f"{number:064x}",
    }
    return MediaItem(**{**defaults, **values})
