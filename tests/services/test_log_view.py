"""The log read backwards: entries whole, filters, pages without gaps, following over a rotation, nothing secret."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler

import pytest

from dalla import log
from dalla.errors import InvalidInput
from dalla.services import log_view
from dalla.services.log_view import LogView, Query

TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nValueError: no'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def line(n, level="INFO", text="", request="-", task="-", name="dalla.test"):
    return f"2026-11-21 19:{n // 60 % 60:02}:{n % 60:02}.{n % 1000:03}+00:00 {level:<7} {name} [{request} {task}] {text or f'line {n}'}\n"


def write(folder, text, name="dalla.log"):
    with (folder / name).open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def messages(answer):
    return [item["message"] for item in answer["items"]]


def test_newest_first_with_every_part_of_a_line(folder):
    write(folder, line(1, "WARNING", "first thing", "ab12", "job_7", "dalla.web"))
    write(folder, line(2, "ERROR", f"it broke\n{TRACE}"))
    newest, oldest = LogView(folder).page(Query())["items"]
    assert newest["message"] == "it broke" and newest["trace"] == TRACE and newest["requestId"] is None
    assert oldest | {"id": ""} == {
        "id": "",
        "at": "2026-11-21T19:00:01.001Z",
        "level": "WARNING",
        "logger": "dalla.web",
        "requestId": "ab12",
        "taskId": "job_7",
        "message": "first thing",
    }


def test_old_lines_without_a_zone_are_read_as_local_time(folder):
    write(folder, "2026-11-21 19:22:11,123 INFO    dalla [- -] as it was written before\n")
    (item,) = LogView(folder).page(Query())["items"]
    local = datetime(2026, 11, 21, 19, 22, 11, 123000).astimezone().astimezone(UTC)
    assert item["at"] == local.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("piece", [7, 64, 64 * 1024])
def test_pages_of_any_size_hold_every_entry_once(folder, monkeypatch, piece):
    monkeypatch.setattr(log_view, "PIECE", piece)
    for n in range(40):
        trace = f"\n{TRACE}" if n % 7 == 0 else ""
        write(folder, line(n, text=f"entry {n} äöü{trace}"), "dalla.log.1" if n < 20 else "dalla.log")
    view, seen, before = LogView(folder), [], None
    while True:
        answer = view.page(Query(), before=before, limit=7)
        seen += answer["items"]
        before = answer["nextCursor"]
        if before is None:
            break
    assert [item["message"] for item in seen] == [f"entry {n} äöü" for n in reversed(range(40))]
    assert [bool(item.get("trace")) for item in seen] == [n % 7 == 0 for n in reversed(range(40))]
    assert len({item["id"] for item in seen}) == 40


def test_filters(folder):
    write(
        folder,
        line(1, "DEBUG", "a whisper") + line(2, "INFO", "Talk", "r1") + line(3, "WARNING", "shout", "r2", "job_1"),
    )
    write(folder, line(4, "ERROR", f"scream\n{TRACE}", "r1", name="dalla.jobs.local"))
    view = LogView(folder)
    assert messages(view.page(Query(level="WARNING"))) == ["scream", "shout"]
    assert messages(view.page(Query(q="TALK"))) == ["Talk"]
    assert messages(view.page(Query(q="valueerror"))) == ["scream"]  # in the traceback
    assert messages(view.page(Query(q="jobs.local"))) == ["scream"]
    assert messages(view.page(Query(request_id="r1"))) == ["scream", "Talk"]
    assert messages(view.page(Query(task_id="job_1"))) == ["shout"]
    assert messages(view.page(Query(level="ERROR", request_id="r2"))) == []


def test_following_gets_what_came_since_also_over_a_rotation(folder):
    view = LogView(folder)
    write(folder, line(1))
    newest = view.page(Query())["newest"]
    assert view.page(Query(), after=newest)["items"] == []
    write(folder, line(2) + line(3)[:30])  # the end of the third is not written yet
    answer = view.page(Query(), after=newest)
    assert messages(answer) == ["line 2"]
    write(folder, line(3)[30:])
    (folder / "dalla.log").rename(folder / "dalla.log.1")
    write(folder, line(4))
    answer = view.page(Query(), after=answer["newest"])
    assert messages(answer) == ["line 4", "line 3"] and answer["complete"]
    assert view.page(Query(), after=answer["newest"])["items"] == []


def test_more_than_fits_is_said_to_be_incomplete(folder):
    view = LogView(folder)
    write(folder, line(1))
    newest = view.page(Query())["newest"]
    write(folder, "".join(line(n) for n in range(2, 30)))
    answer = view.page(Query(), after=newest, limit=5)
    assert messages(answer)[0] == "line 29" and len(answer["items"]) == 5 and not answer["complete"]


def test_a_search_that_finds_nothing_reads_in_bounds_and_can_go_on(folder, monkeypatch):
    monkeypatch.setattr(log_view, "PIECE", 1000)
    monkeypatch.setattr(log_view, "BUDGET", 5000)
    write(folder, line(0, text="the needle") + "".join(line(n) for n in range(1, 300)))
    view, before, calls = LogView(folder), None, 0
    while calls < 50:
        answer = view.page(Query(q="needle"), before=before)
        calls += 1
        if answer["items"] or answer["nextCursor"] is None:
            break
        assert not answer["complete"]
        before = answer["nextCursor"]
    assert messages(answer) == ["the needle"] and calls > 1


def test_secrets_are_dotted_out_again_and_cannot_be_searched_for(folder):
    write(
        folder, line(1, text="api_key=abcdef123456 Cookie: dalla_session=s3cr3tcookie; token: dd_0123456789abcdefghij")
    )
    write(folder, line(2, "ERROR", "it broke\nrequests.get('https://u:hunter2hunter@host/?access_token=IGQVabcdef12')"))
    view = LogView(folder)
    text = str(view.page(Query())["items"])
    for secret in ("abcdef123456", "s3cr3tcookie", "0123456789abcdefghij", "hunter2hunter", "IGQVabcdef12"):
        assert secret not in text and view.page(Query(q=secret))["items"] == [], secret


def test_a_message_cannot_pretend_to_be_another_line(tmp_path):
    logger = logging.getLogger("dalla.forged")
    root, before, level = logging.getLogger(), list(logging.getLogger().handlers), logging.getLogger().level
    try:
        log.configure(tmp_path)
        logger.info("hello\n" + line(5, "CRITICAL", "the moon fell down").rstrip())
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("it broke")
    finally:
        for handler in [h for h in root.handlers if h not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
    broke, hello = LogView(tmp_path / "logs").page(Query())["items"]
    assert broke["message"] == "it broke" and broke["trace"].endswith("ValueError: no")
    assert hello["level"] == "INFO" and "the moon fell down" in hello["trace"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(hello["at"])).total_seconds()) < 3600


def test_the_real_handler_rotates_under_a_reader(folder):
    handler = RotatingFileHandler(folder / "dalla.log", maxBytes=2000, backupCount=3, encoding="utf-8")
    handler.setFormatter(log._Scrubbing("%(asctime)s %(levelname)-7s %(name)s [- -] %(message)s"))
    view, seen, newest = LogView(folder), [], None
    for n in range(100):
        handler.emit(logging.LogRecord("dalla", logging.INFO, "", 0, f"line {n}", None, None))
        if n % 5 == 4:
            answer = view.page(Query(), after=newest)
            seen += reversed(messages(answer))
            newest = answer["newest"]
    handler.close()
    assert seen == [f"line {n}" for n in range(100)]


def test_broken_positions_and_levels_are_refused(folder):
    view = LogView(folder)
    assert view.page(Query()) == {"items": [], "nextCursor": None, "newest": None, "complete": True}
    for bad in ({"before": "../etc"}, {"after": "zz-1"}, {"limit": 0}):
        with pytest.raises(InvalidInput):
            view.page(Query(), **bad)
    with pytest.raises(InvalidInput):
        view.page(Query(level="LOUD"))
    write(folder, line(1))
    assert view.page(Query(), before="ffffffff-3")["items"] == []  # a file that is gone


def test_lines_of_other_forms_and_bytes_do_not_stop_it(folder):
    (folder / "dalla.log").write_bytes(
        b"half of a trace\n" + line(1).encode() + b"\xff\xfe\x00 odd\n" + line(2).encode()
    )
    two, one = LogView(folder).page(Query())["items"]
    assert two["message"] == "line 2" and one["trace"].endswith("odd")
    write(folder, "x" * 300_000)  # a line whose end never came
    assert len(LogView(folder).page(Query())["items"]) == 2
