"""Sources and what is found in them: pairing captions, kohya trees, encodings, tables, links and limits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dalla.errors import Forbidden, InvalidInput, NotFound, UnsupportedMedia
from dalla.services.dataset_import_captions import decode, sidecar, table, tidy
from dalla.services.dataset_import_inventory import Inventory, take_inventory, words_of_precedence
from dalla.services.dataset_import_plan import exact_twins, sentence
from dalla.services.dataset_sources import FolderSource, kind_of, open_source, server_path
from tests.services.dataset_import_kit import picture, zipped


def tree(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def look(tmp_path: Path, files: dict[str, bytes | str], **options: object) -> Inventory:
    """The inventory of a folder with these files."""
    return take_inventory(FolderSource(tree(tmp_path / "set", files)), options)


def captions(found: Inventory) -> dict[str, tuple[str, str]]:
    return {p.name: (p.caption, p.caption_from) for p in found.pictures}


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("Größe, ルナ".encode(), "utf-8"),
        ("Größe, ルナ".encode("utf-8-sig"), "utf-8"),
        ("Größe, ルナ".encode("utf-16"), "utf-16"),
        ("Größe, ルナ".encode("utf-16-le"), "utf-16-le"),
        ("Größe, ルナ".encode("utf-16-be"), "utf-16-be"),
        ("Größe, ルナ".encode("utf-32"), "utf-32"),
    ],
)
def test_unicode_in_every_form(data: bytes, encoding: str) -> None:
    assert decode(data) == ("Größe, ルナ", encoding)


def test_older_encodings() -> None:
    assert decode("Größe – €".encode("cp1252")) == ("Größe – €", "cp1252")
    assert decode(b"Gr\xf6\xdfe \x81")[1] == "latin-1"
    assert decode(b"") == ("", "utf-8")


def test_captions_are_one_line() -> None:
    assert tidy("  a\r\n b\t\x00c\u200b ") == "a b c"
    assert tidy("नमस्ते\u200dक") == "नमस्ते\u200dक"


@pytest.mark.parametrize(
    ("kind", "text", "caption"),
    [
        ("txt", "luna,\n smiling\n", "luna, smiling"),
        ("tags", "1girl\nlong hair\nsmile", "1girl, long hair, smile"),
        ("tags", "1girl, long hair", "1girl, long hair"),
        ("json", '{"caption": "luna smiles"}', "luna smiles"),
        ("json", '{"tags": ["1girl", "smile"]}', "1girl, smile"),
        ("json", '{"tag_string": "1girl long_hair"}', "1girl, long_hair"),
        ("json", '{"tags": {"1girl": 0.98, "smile": 0.7}}', "1girl, smile"),
        ("json", '"just a text"', "just a text"),
        ("json", '{"caption": ""}', ""),
        ("json", '{"width": 12}', None),
        ("json", "{broken", None),
        ("json", "[" * 100_000, None),
    ],
)
def test_files_beside_a_picture(kind: str, text: str, caption: str | None) -> None:
    assert sidecar(kind, text.encode()) == caption


# ---------------------------------------------------------------- pairing


def test_the_order_of_precedence_is_kept_and_told(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.png": picture(1),
        "a.txt": "from txt",
        "a.caption": "from caption",
        "b.png": picture(2),
        "b.caption": "from caption",
        "b.json": '{"caption": "from json"}',
        "c.png": picture(3),
        "c.tags": "from, tags",
        "d.png": picture(4),
        "metadata.jsonl": json.dumps({"file_name": "d.png", "text": "from jsonl"})
        + "\n"
        + json.dumps({"file_name": "a.png", "text": "late"}),
        "e.png": picture(5),
        "metadata.csv": "file_name,text\ne.png,from csv\n",
        "f.png": picture(6),
        "captions.json": '{"f.png": "from table", "e.png": "late"}',
    }
    found = look(tmp_path, files)
    assert captions(found) == {
        "a.png": ("from txt", "txt"),
        "b.png": ("from caption", "caption"),
        "c.png": ("from, tags", "tags"),
        "d.png": ("from jsonl", "jsonl"),
        "e.png": ("from csv", "csv"),
        "f.png": ("from table", "table"),
    }
    assert found.captions["txt"] == {"used": 1, "overruled": 0}
    assert found.captions["caption"] == {"used": 1, "overruled": 1}
    assert found.paired == 6 and found.orphans == []
    [line] = words_of_precedence(found)
    assert "4 were not taken" in line and line.index(".txt") < line.index(".caption") < line.index("metadata.jsonl")


def test_orphans_and_empties_are_listed(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {
            "a.png": picture(1),
            "a.txt": "  \n",
            "lost.txt": "no picture",
            "sub/b.png": picture(2),
            "b.txt": "in another folder",
            "metadata.jsonl": '{"file_name": "gone.png", "text": "x"}\nnot json\n{"file_name": "sub/b.png", "text": "found"}\n',
            "c.json": '{"caption": "whose?"}',
        },
    )
    assert found.empties == ["a.txt"]
    assert sorted(row["name"] for row in found.orphans) == ["b.txt", "c.json", "lost.txt", "metadata.jsonl: gone.png"]
    assert captions(found)["sub/b.png"] == ("found", "jsonl")
    assert found.bad_rows == 1


def test_odd_names_of_caption_files(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {
            "a.png": picture(1),
            "a.png.txt": "with the whole name",
            "UPPER.PNG": picture(2),
            "upper.TXT": "in other case",
            "two.png": picture(3),
            "two.jpg": picture(4, "JPEG"),
            "two.txt": "for both",
            "dots.v1.2.png": picture(5),
            "dots.v1.2.txt": "with dots",
            "u\u0308.png": picture(6),
            "\u00fc.txt": "accent in one piece",
        },
    )
    assert {name: caption for name, (caption, _) in captions(found).items()} == {
        "a.png": "with the whole name",
        "UPPER.PNG": "in other case",
        "two.png": "for both",
        "two.jpg": "for both",
        "dots.v1.2.png": "with dots",
        "\u00fc.png": "accent in one piece",
    }
    assert found.orphans == []


def test_tables_of_every_kind() -> None:
    kohya = {
        "/old/disk/img/a": {"caption": "luna", "tags": "1girl", "train_resolution": [512, 512]},
        "b": {"tags": "x, y"},
    }
    found = table("meta.json", json.dumps(kohya).encode())
    assert found is not None and found.rows == [("/old/disk/img/a", "luna"), ("b", "x, y")]
    found = table("captions.json", json.dumps([{"image": "a.png", "caption": "c"}, {"image": "b.png"}]).encode())
    assert found is not None and (found.rows, found.bad) == ([("a.png", "c")], 1)
    coco = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "caption": "c"}, {"image_id": 2}],
    }
    found = table("coco.json", json.dumps(coco).encode())
    assert found is not None and (found.rows, found.bad) == ([("a.png", "c")], 1)
    found = table("x.csv", 'filename;caption\na.png;"one; two"\n'.encode("utf-16"))
    assert found is not None and found.rows == [("a.png", "one; two")]
    found = table("x.tsv", b"text\tfile_name\nc\ta.png\n")
    assert found is not None and found.rows == [("a.png", "c")]
    assert table("x.csv", b"a,b\n1,2\n") is None
    assert table("x.json", b"{broken") is None
    assert table("x.json", b'{"caption": "a sidecar"}') is None
    assert table("x.json", b"[" * 100_000) is None


def test_a_table_is_matched_by_path_stem_or_the_only_such_name(tmp_path: Path) -> None:
    meta = {
        "C:\\train\\set\\one": {"caption": "by its last part"},
        "./sub/two.png": {"caption": "by its path"},
        "same": {"caption": "the one beside the table"},
    }
    found = look(
        tmp_path,
        {
            "sub/one.png": picture(1),
            "sub/two.png": picture(2),
            "same.png": picture(3),
            "sub/same.png": picture(4),
            "meta.json": json.dumps(meta),
        },
    )
    assert {n: c for n, (c, _) in captions(found).items()} == {
        "sub/one.png": "by its last part",
        "sub/two.png": "by its path",
        "same.png": "the one beside the table",
        "sub/same.png": "",
    }


def test_captions_may_be_left_out(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"3_x/a.png": picture(1), "3_x/a.txt": "words"}
    assert captions(look(tmp_path, files, captions=False)) == {"3_x/a.png": ("", "")}
    assert captions(look(tmp_path, files, folder_captions=False)) == {"3_x/a.png": ("words", "txt")}


# ---------------------------------------------------------------- kohya


@pytest.mark.parametrize(
    ("folder", "files", "level"),
    [
        ("", ["img/10_luna woman/a.png", "reg/1_woman/b.png"], "root"),
        ("", ["10_luna woman/a.png", "3_dress/b.png"], "img"),
        ("10_luna woman", ["a.png"], "leaf"),
        ("reg", ["1_woman/a.png"], "reg"),
    ],
)
def test_kohya_trees_at_every_level(tmp_path: Path, folder: str, files: list[str], level: str) -> None:
    root = tmp_path / "set" / folder
    tree(root, {name: picture(n) for n, name in enumerate(files)})
    found = take_inventory(FolderSource(root))
    assert found.kohya is not None and found.kohya["level"] == level and found.kohya["told"]
    assert [p.name for p in found.pictures] == sorted(files)


def test_repeats_concepts_and_multipliers(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {
            "10_luna woman/a.png": picture(1),
            "10_luna woman/closeups/b.png": picture(2),
            "2_dress {3}/c.png": picture(3),
            "plain/d.png": picture(4),
            "plain/multiply.txt": "4",
            "9999_much {9}/e.png": picture(5),
            "0_zero/f.png": picture(6),
            "2024/g.png": picture(7),
        },
    )
    got = {p.name: (p.repeats, p.concept, p.regularization) for p in found.pictures}
    assert got == {
        "10_luna woman/a.png": (10, "luna woman", False),
        "10_luna woman/closeups/b.png": (10, "luna woman", False),
        "2_dress {3}/c.png": (6, "dress", False),
        "plain/d.png": (4, "", False),
        "9999_much {9}/e.png": (1000, "much", False),
        "0_zero/f.png": (1, "zero", False),
        "2024/g.png": (1, "", False),
    }
    assert found.orphans == []
    assert sentence(found, 0) == "7 pictures, 0 captions paired, kohya repeats 1000 and 10 and 6 and 1"


def test_folder_names_may_mean_nothing(tmp_path: Path) -> None:
    found = look(tmp_path, {"10_luna/a.png": picture(1)}, kohya=False)
    assert (found.pictures[0].repeats, found.pictures[0].concept, found.kohya) == (1, "", None)


def test_the_folder_that_wraps_everything_goes(tmp_path: Path) -> None:
    found = look(tmp_path, {"My set/inner/a/x.png": picture(1), "My set/inner/b/x.png": picture(2), "readme.md": "hi"})
    assert [p.name for p in found.pictures] == ["a/x.png", "b/x.png"]
    assert found.other == ["readme.md"]


# ---------------------------------------------------------------- sources


def test_links_and_devices_in_a_folder(tmp_path: Path) -> None:
    secret = tree(tmp_path / "elsewhere", {"secret.png": picture(9)})
    root = tree(tmp_path / "set", {"a.png": picture(1), ".hidden.png": picture(2), "x.zip": b"PK\3\4"})
    (root / "out.png").symlink_to(secret / "secret.png")
    (root / "folder").symlink_to(secret)
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "broken.png").symlink_to(root / "nothing.png")
    os.mkfifo(root / "pipe.png")
    source = FolderSource(root)
    assert sorted(file.name for file in source.files) == ["a.png", "inside.png"]
    assert {r.name: r.code for r in source.refused} == {
        "out.png": "link",
        "folder": "link",
        "broken.png": "unreadable",
        "pipe.png": "special_file",
        "x.zip": "archive_in_folder",
    }


def test_places_that_are_not_imported_from(tmp_path: Path) -> None:
    data = tmp_path / "app" / "data"
    (data / "media").mkdir(parents=True)
    for place in (data, data / "media", tmp_path / "app", Path("/")):
        with pytest.raises(Forbidden):
            server_path(str(place), data)
    with pytest.raises(InvalidInput):
        server_path("relative/folder", data)
    with pytest.raises(InvalidInput):
        server_path("  ", data)
    with pytest.raises(InvalidInput):
        server_path("/a\0b", data)
    with pytest.raises(NotFound):
        server_path(str(tmp_path / "nowhere"), data)
    (tmp_path / "shortcut").symlink_to(data / "media")
    with pytest.raises(Forbidden):
        server_path(str(tmp_path / "shortcut"), data)
    (tmp_path / "fine").mkdir()
    assert server_path(f"{tmp_path}/app/../fine", data) == tmp_path / "fine"


def test_a_zip_and_a_picture_on_this_computer(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(zipped({"a.png": picture(1)}))
    (tmp_path / "b.png").write_bytes(picture(2))
    for name, kind, names in (("set.zip", "zip", ["a.png"]), ("b.png", "files", ["b.png"])):
        source = open_source(path=str(tmp_path / name), private=tmp_path / "data")
        assert (source.kind, source.label, [f.name for f in source.files]) == (kind, name, names)
        source.close()


def test_one_broken_archive_among_several_uploads(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(zipped({"a.png": picture(1)}))
    (tmp_path / "2").write_bytes(b"PK\3\4 broken")
    uploads = [("good.zip", tmp_path / "1"), ("bad.zip", tmp_path / "2")]
    source = open_source(uploads=uploads, private=tmp_path / "data")
    assert [f.name for f in source.files] == ["a.png"]
    assert [(r.name, r.code) for r in source.refused] == [("bad.zip", "damaged")]
    source.close()
    with pytest.raises(UnsupportedMedia):
        open_source(uploads=uploads[1:], private=tmp_path / "data")


def test_names_of_uploads_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(picture(1))
    given = ["10_luna\\a.png", "../up.png", "/abs.png", ".hidden", "set.7z"]
    source = open_source(uploads=[(name, tmp_path / "1") for name in given], private=tmp_path / "data")
    assert [f.name for f in source.files] == ["10_luna/a.png"]
    assert [r.code for r in source.refused] == ["path_escape", "absolute_path", "unsupported_archive"]


def test_a_name_sent_twice_is_numbered(tmp_path: Path) -> None:
    for n, data in enumerate((picture(1), b"one", picture(2), b"two")):
        (tmp_path / str(n)).write_bytes(data)
    given = ["a.png", "a.txt", "A.png", "a.txt"]
    source = open_source(uploads=[(n, tmp_path / str(i)) for i, n in enumerate(given)], private=tmp_path / "data")
    assert captions(take_inventory(source)) == {"a.png": ("one", "txt"), "A-2.png": ("two", "txt")}


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode on these disks")
def test_a_folder_with_names_in_latin_1(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for name, data in (("Gr\xfc\xdfe.png", picture(1)), ("Gr\xfc\xdfe.txt", b"words")):
        (Path(os.fsdecode(os.fsencode(root) + b"/" + name.encode("latin-1")))).write_bytes(data)
    assert captions(take_inventory(FolderSource(root))) == {"Gr\xfc\xdfe.png": ("words", "txt")}


def test_a_picture_larger_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dalla.services import dataset_import_inventory

    monkeypatch.setattr(dataset_import_inventory, "MAX_BYTES", 100)
    found = look(tmp_path, {"a.png": picture(1, size=(300, 300)), "b.xyz": picture(2, size=(300, 300))})
    assert {r.name: r.code for r in found.refused} == {"a.png": "too_large", "b.xyz": "too_large"}


def test_captions_beyond_measure_are_told(tmp_path: Path) -> None:
    long = "word " * 5000
    rows = json.dumps({"file_name": "b.png", "text": long})
    found = look(tmp_path, {"a.png": picture(1), "a.txt": long, "b.png": picture(2), "metadata.jsonl": rows})
    assert [row["name"] for row in found.orphans] == ["a.txt", "metadata.jsonl: b.png"]
    assert all("too long" in row["reason"] for row in found.orphans) and found.paired == 0


def test_masks_and_videos_are_named(tmp_path: Path) -> None:
    found = look(
        tmp_path,
        {
            "a.png": picture(1),
            "a-masklabel.png": picture(2),
            "clip.mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 20,
            "b.xyz": picture(3),
            "drawing.psd": b"8BPS",
        },
    )
    assert [(p.name, p.mask.name if p.mask else None) for p in found.pictures] == [
        ("a.png", "a-masklabel.png"),
        ("b.xyz", None),
    ]
    assert {r.name: r.code for r in found.refused} == {
        "clip.mp4": "unsupported",
        "drawing.psd": "unsupported",
    }
    assert [p.name for p in found.pictures] == ["a.png", "b.xyz"]  # a picture whatever its ending says


def test_kinds_by_the_first_bytes() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"):
        assert kind_of(picture(1, kind)[:32]) == "picture", kind
    assert kind_of(b"") == "empty" and kind_of(b"hello") == "other"
    assert kind_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "heic"
    assert kind_of(b"\0\0\0\x18ftypisom") == "video"
    assert kind_of(zipped({"a": b""})[:32]) == "zip"


# ---------------------------------------------------------------- twins


def test_twins_are_found_without_reading_everything(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "set",
        {"a.png": picture(1), "b.png": picture(1), "c.bmp": picture(2, "BMP", (64, 64)), "b.txt": "words"},
    )
    source = FolderSource(root)
    found = take_inventory(source)
    read = []
    real = source.read
    source.read = lambda file, limit=None: (read.append(file.name), real(file, limit))[1]  # type: ignore[method-assign]
    twins = exact_twins(source, found.pictures)
    assert twins.of == {"a.png": ("b.png", "import")} and twins.complete
    assert sorted(read) == ["a.png", "b.png"]
    limited = exact_twins(source, found.pictures, lambda hashes: {}, budget=len(picture(1)) * 2)
    assert limited.of == {"a.png": ("b.png", "import")} and not limited.complete
