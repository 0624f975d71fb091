"""Every hostile archive, made here: each sin is refused by its own name, and the rest stays readable."""

from __future__ import annotations

import io
import random
import stat
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dalla.archives import SINS, Archive, Limits, clean_path, describe, is_hidden, is_zip
from dalla.errors import InvalidInput, TooLarge, UnsupportedMedia


def build(*entries: tuple[str, bytes], **how: Any) -> bytes:
    """A zip of (name, bytes) in this order, names as they are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how.get("method", zipfile.ZIP_DEFLATED)) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = how.get("method", zipfile.ZIP_DEFLATED)
            archive.writestr(info, data)
    return out.getvalue()


def opened(tmp_path: Path, data: bytes, **how: Any) -> Archive:
    file = tmp_path / "a.zip"
    file.write_bytes(data)
    return Archive(file, temp=tmp_path, **how)


def sins(archive: Archive) -> dict[str, str]:
    return {refusal.name: refusal.code for refusal in archive.refused}


def test_a_plain_archive(tmp_path: Path) -> None:
    with opened(tmp_path, build(("b/ä.png", b"one"), ("a.txt", b"two" * 1000), ("b/", b""))) as archive:
        assert [(e.name, e.size) for e in archive.entries] == [("b/ä.png", 3), ("a.txt", 3000)]
        assert [archive.read(e) for e in archive.entries] == [b"one", b"two" * 1000]
        assert archive.read(archive.entries[1], 4) == b"twot"
        assert b"".join(archive.pieces(archive.entries[1])) == b"two" * 1000
        assert archive.refused == []


@pytest.mark.parametrize(
    ("name", "sin"),
    [
        ("../../evil.png", "path_escape"),
        ("a/../../evil.png", "path_escape"),
        ("..\\evil.png", "path_escape"),
        ("/etc/passwd", "absolute_path"),
        ("\\\\server\\share\\a.png", "absolute_path"),
        ("C:\\Windows\\a.png", "absolute_path"),
        ("c:a.png", "absolute_path"),
        ("nul.png", "device_name"),
        ("a/CON", "device_name"),
        ("com1.txt.png", "device_name"),
        ("lpt² .png", "device_name"),
        ("line\nbreak.png", "bad_name"),
        ("turned\u202egnp.exe", "bad_name"),
        ("x" * 300, "bad_name"),
        ("/".join(["deep"] * 300), "bad_name"),
        ("set.rar", "unsupported_archive"),
        ("set.tar.gz", "unsupported_archive"),
    ],
)
def test_hostile_names(tmp_path: Path, name: str, sin: str) -> None:
    with opened(tmp_path, build(("good.png", b"fine"), (name, b"bad"))) as archive:
        assert [e.name for e in archive.entries] == ["good.png"]
        assert archive.read(archive.entries[0]) == b"fine"
        [refusal] = archive.refused
        assert (refusal.code, refusal.detail) == (sin, SINS[sin])
        assert len(refusal.name) <= 300 and refusal.name.isprintable()


def test_a_link_and_a_device(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, kind in (("link.png", stat.S_IFLNK), ("pipe.png", stat.S_IFIFO), ("plain.png", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            archive.writestr(info, "/etc/passwd")
    with opened(tmp_path, out.getvalue()) as found:
        assert sins(found) == {"link.png": "link", "pipe.png": "special_file"}
        assert [e.name for e in found.entries] == ["plain.png"]


def test_names_that_meet(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = build(("A.png", b"1"), ("a.PNG", b"2"), ("A.png", b"3"), ("e\u0301.png", b"4"), ("\u00e9.png", b"5"))
    with opened(tmp_path, data) as archive:
        assert [(r.name, r.code) for r in archive.refused] == [
            ("a.PNG", "case_collision"),
            ("A.png", "same_name"),
            ("\u00e9.png", "same_name"),
        ]
        assert [archive.read(e) for e in archive.entries] == [b"1", b"4"]


def patched(data: bytes, name: bytes, **fields: int) -> bytes:
    """Change fields of the local and the central header of an entry: flags, method, size (unpacked)."""
    changed = bytearray(data)
    for signature, at, places in (
        (b"PK\3\4", 30, {"flags": (6, "<H"), "method": (8, "<H"), "crc": (14, "<I"), "size": (22, "<I")}),
        (b"PK\1\2", 46, {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "size": (24, "<I")}),
    ):
        start = 0
        while (start := data.find(signature, start)) >= 0:
            if data[start + at : start + at + len(name)] == name:
                for field, value in fields.items():
                    offset, form = places[field]
                    struct.pack_into(form, changed, start + offset, value)
            start += 4
    return bytes(changed)


def test_encrypted_and_unknown_packing(tmp_path: Path) -> None:
    data = build(("good.png", b"fine"), ("secret.png", b"x" * 50), ("aes.png", b"y" * 50), ("odd.png", b"z" * 50))
    data = patched(data, b"secret.png", flags=1)
    data = patched(data, b"aes.png", method=99)
    data = patched(data, b"odd.png", method=9)
    with opened(tmp_path, data) as archive:
        assert sins(archive) == {"secret.png": "encrypted", "aes.png": "encrypted", "odd.png": "compression"}
        assert archive.read(archive.entries[0]) == b"fine"


def test_a_bomb_by_ratio(tmp_path: Path) -> None:
    data = build(("good.png", b"fine"), ("bomb.png", b"\0" * (20 * 1024 * 1024)))
    assert len(data) < 100_000
    with opened(tmp_path, data) as archive:
        assert sins(archive) == {"bomb.png": "bomb"}
        assert archive.read(archive.entries[0]) == b"fine"


def test_a_bomb_whose_entries_share_their_bytes(tmp_path: Path) -> None:
    """The table of contents lists the same packed bytes many times under other names."""
    data = build(("0.png", random.Random(1).randbytes(5000)), ("1.png", b"apart"))
    end = data.rfind(b"PK\5\6")
    start = struct.unpack_from("<I", data, end + 16)[0]
    first_size = 46 + len("0.png")
    first = data[start : start + first_size]
    copies = b"".join(first[:46] + f"{n}.png".encode() for n in range(2, 9))
    directory = data[start:end] + copies
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 9, 9, len(directory))
    with opened(tmp_path, data[:start] + directory + bytes(tail)) as archive:
        assert {code for code in sins(archive).values()} == {"bomb"} and len(archive.refused) == 8
        assert [e.name for e in archive.entries] == ["1.png"] and archive.read(archive.entries[0]) == b"apart"


def test_a_size_that_lies_never_gives_more_than_it_says(tmp_path: Path) -> None:
    data = patched(build(("good.png", b"fine"), ("liar.png", b"\0" * 1_000_000)), b"liar.png", size=10)
    with opened(tmp_path, data) as archive:
        good, liar = archive.entries
        with pytest.raises(InvalidInput, match="damaged") as told:
            archive.read(liar)
        assert told.value.extra == {"sin": "damaged"}
        assert archive.read(good) == b"fine"


def test_damaged_bytes_are_told_for_that_entry_only(tmp_path: Path) -> None:
    noise = random.Random(2).randbytes(4000)
    data = bytearray(build(("a.png", noise), ("b.png", b"fine"), method=zipfile.ZIP_STORED))
    data[data.find(noise) + 2000] ^= 0xFF
    with opened(tmp_path, bytes(data)) as archive:
        with pytest.raises(InvalidInput, match=r"a\.png"):
            archive.read(archive.entries[0])
        assert archive.read(archive.entries[1]) == b"fine"


def test_counts_and_sizes_are_capped(tmp_path: Path) -> None:
    many = build(*((f"{n}.png", b"12345") for n in range(12)))
    with opened(tmp_path, many, limits=Limits(entries=10)) as archive:
        assert len(archive.entries) == 10 and set(sins(archive).values()) == {"too_many"}
    with opened(tmp_path, many, limits=Limits(total_bytes=32)) as archive:
        assert len(archive.entries) == 6 and set(sins(archive).values()) == {"too_much"}
    with opened(tmp_path, build(("a.png", b"x" * 100), ("b.png", b"y")), limits=Limits(entry_bytes=50)) as archive:
        assert sins(archive) == {"a.png": "too_large"} and len(archive.entries) == 1


def test_a_table_of_contents_beyond_measure_is_refused_before_it_is_read(tmp_path: Path) -> None:
    data = bytearray(build(("a.png", b"x")))
    end = data.rfind(b"PK\5\6")
    struct.pack_into("<HH", data, end + 8, 65_000, 65_000)
    with pytest.raises(TooLarge, match="65,000"):
        opened(tmp_path, bytes(data), limits=Limits(entries=1000))


def test_one_archive_inside_is_opened_and_no_deeper(tmp_path: Path) -> None:
    innermost = build(("deep.png", b"deep"))
    inner = build(("in.png", b"inside"), ("more.zip", innermost), ("../up.png", b"x"))
    data = build(("a.png", b"out"), ("sub/set.zip", inner), ("broken.zip", b"PK\3\4 nothing"))
    with opened(tmp_path, data) as archive:
        assert {e.path: archive.read(e) for e in archive.entries} == {"a.png": b"out", "sub/set/in.png": b"inside"}
        assert sins(archive) == {
            "sub/set.zip/more.zip": "nested_archive",
            "sub/set.zip/../up.png": "path_escape",
            "broken.zip": "damaged",
        }
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]  # what was unpacked to look inside is gone


def test_a_nested_archive_too_large(tmp_path: Path) -> None:
    inner = build(("in.png", random.Random(3).randbytes(5000)))
    with opened(tmp_path, build(("a.png", b"out"), ("set.zip", inner)), limits=Limits(nested_bytes=1000)) as archive:
        assert sins(archive) == {"set.zip": "too_large"} and len(archive.entries) == 1


def test_litter_is_left_out_without_a_word(tmp_path: Path) -> None:
    data = build(
        ("__MACOSX/._a.png", b"x"),
        (".DS_Store", b"x"),
        ("a/.hidden/b.png", b"x"),
        ("a/Thumbs.db", b"x"),
        ("a.png", b"y"),
    )
    with opened(tmp_path, data) as archive:
        assert [e.name for e in archive.entries] == ["a.png"] and archive.refused == []
    assert is_hidden("a/._b.png") and not is_hidden("a/b.png")


def test_names_in_utf8_that_do_not_say_so(tmp_path: Path) -> None:
    """Many programs write UTF-8 names without the flag; read as cp437 they would be garbage."""
    name = "Übung 写真.png"
    plain = build(("X" * len(name.encode()), b"x"))
    data = plain.replace(b"X" * len(name.encode()), name.encode())
    with opened(tmp_path, data) as archive:
        assert [e.name for e in archive.entries] == [name]
        assert archive.read(archive.entries[0]) == b"x"


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all" * 10, build(("a.png", b"x" * 100))[:-30]])
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    with pytest.raises((UnsupportedMedia, InvalidInput)):
        opened(tmp_path, data)


def test_entries_may_be_read_from_several_threads(tmp_path: Path) -> None:
    files = [(f"{n}.bin", random.Random(n).randbytes(50_000)) for n in range(40)]
    with opened(tmp_path, build(*files)) as archive:
        wrong: list[str] = []

        def read(part: int) -> None:
            for entry in archive.entries[part::4]:
                if archive.read(entry) != dict(files)[entry.name]:
                    wrong.append(entry.name)

        threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_clean_paths() -> None:
    assert clean_path("./a//b.png") == ("a/b.png", None)
    assert clean_path("a\\b.png") == ("a/b.png", None)
    assert clean_path("e\u0301.png") == ("\u00e9.png", None)
    assert clean_path("what? [1]*.png") == ("what? [1]*.png", None)
    assert clean_path("")[1] == "bad_name" and clean_path(".")[1] == "bad_name"


def test_refusals_are_grouped(tmp_path: Path) -> None:
    with opened(tmp_path, build(("../a", b""), ("../b", b""), ("/c", b""))) as archive:
        rows = describe(archive.refused)
    assert [(row["code"], row["count"], row["names"]) for row in rows] == [
        ("path_escape", 2, ["../a", "../b"]),
        ("absolute_path", 1, ["/c"]),
    ]


def test_zip_by_its_first_bytes() -> None:
    assert is_zip(build(("a", b""))) and not is_zip(b"\x89PNG") and not is_zip(b"")
