"""10,000 active tasks: how long the schedule takes to start, what an idle tick costs, how late things fire.

Start: reading scheduler.json and computing every next time, on an empty and on a kept database.
Idle tick: nothing is due; against the one indexed query it cannot do without. Late: 300 of the tasks are due
in the same minute; from the tick until the run of each is on disk. Goal: p99 below one second.
Run: python -m bench.scheduler_tasks [tasks] [due at once]
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from bench.figures import median, milliseconds, percentile, save, table
from dalla.errors import NotFound
from dalla.events import EventBus
from dalla.jobs.local import LocalQueue
from dalla.records.character import Character, ScheduledTask
from dalla.services.automation import Automation
from dalla.stores.documents_json import JsonDocuments
from dalla.stores.leases import SqlLeases
from dalla.stores.library import Library
from dalla.stores.runs import SqlRuns
from dalla.stores.tasks import SqlTasks
from dalla.times import iso, parse

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
DUE = datetime(2026, 5, 1, 18, 0, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC")


class Nothing:
    """Stands for the services a schedule leads to: here only the schedule is measured."""

    stops: dict[str, Any] = {"all": None, "characters": {}}

    def __init__(self, characters: tuple[Character, ...]) -> None:
        self._all = characters
        self._by_id = {character.id: character for character in characters}

    def all(self) -> tuple[Character, ...]:
        return self._all

    def get(self, id: str) -> Character:
        if id not in self._by_id:
            raise NotFound.of("character", id)
        return self._by_id[id]

    def pauses(self) -> dict[str, Any]:
        return self.stops

    def wake(self) -> None: ...

    def notify(self, *a: Any, **k: Any) -> None: ...

    def emit(self, *a: Any) -> None: ...

    def resolve(self, *a: Any) -> None: ...


def write_tasks(file: Path, count: int, due: int) -> None:
    """Spread the tasks over the day in four zones; `due` of them share one minute."""
    tasks = []
    for n in range(count):
        together = n < due
        tasks.append(
            {
                "id": f"task_{n:06}",
                "characterId": f"char_{n % 50}",
                "type": "generate_and_post",
                "schedule": "0 18 * * *" if together else f"{n % 60} {19 + n % 4} * * {'*' if n % 3 else '1-5'}",
                "timezone": "UTC" if together else ZONES[n % 4] if n % 4 == 3 else "UTC",
                "active": True,
                "config": {"prompt": "a walk in the forest", "postToInstagram": True, "generateCaption": True},
            }
        )
    file.write_bytes(orjson.dumps(tasks, option=orjson.OPT_INDENT_2))


class App:
    """One start of the app, as far as the schedule goes."""

    def __init__(self, folder: Path, now: list[datetime]) -> None:
        self.library = Library.open(folder / "dalla.db")
        self.runs = SqlRuns(self.library)
        self.jobs = LocalQueue(SqlTasks(self.library), EventBus())
        others: Any = Nothing(tuple(Character(id=f"char_{n}", name=f"Luna {n}") for n in range(50)))
        settings: Any = SimpleNamespace(
            timezone="UTC", missed_run_minutes=180, approval="automatic", caption_failure="fallback", dry_run=False
        )
        self.documents = JsonDocuments(folder / "scheduler.json", ScheduledTask, "scheduled task")
        self.schedule = Automation(
            settings, self.documents, self.runs, SqlLeases(self.library), others, others, others, others, others, others,
            others, others, self.jobs, EventBus(), folder, owner="bench", now=lambda: now[0],
        )  # fmt: skip

    def close(self) -> None:
        self.jobs.stop()
        self.library.close()


def measure(folder: Path, count: int, due: int, repeats: int) -> dict[str, Any]:
    write_tasks(folder / "scheduler.json", count, due)
    now = [START]
    first = App(folder, now)
    began = time.perf_counter()
    first.schedule.tick()
    fresh = time.perf_counter() - began
    assert len(first.runs.states()) == count
    first.close()

    app = App(folder, now)
    began = time.perf_counter()
    app.schedule.tick()
    kept = time.perf_counter() - began

    def idle() -> None:
        now[0] += timedelta(milliseconds=1)  # the lease is renewed every 30 s; measured by itself below
        assert app.schedule.tick() == 0

    def renewing() -> None:
        now[0] += timedelta(seconds=31)
        assert app.schedule.tick() == 0

    idle()
    idles = milliseconds(idle, repeats)
    query = milliseconds(lambda: app.runs.due(iso(now[0])), repeats)
    renewals = milliseconds(renewing, max(5, repeats // 10))

    def edit(number: int) -> float:
        began = time.perf_counter()
        app.schedule.update(f"task_{number:06}", {"name": f"Edited {number}"})
        return (time.perf_counter() - began) * 1000

    edits = [edit(count - 1 - n) for n in range(5)]

    # All of them at once: when is the run of each on disk, measured from the tick?
    committed: list[tuple[float, int]] = []
    fire_many = app.runs.fire_many
    began = 0.0

    def timed(moves: Any) -> list[bool]:
        done = fire_many(moves)
        committed.append((time.perf_counter() - began, sum(done)))
        return done

    app.runs.fire_many = timed  # type: ignore[method-assign]
    now[0] = DUE
    began = time.perf_counter()
    started = app.schedule.tick()
    whole = time.perf_counter() - began
    assert started == due, started
    late = sorted(seconds for seconds, many in committed for _ in range(many))
    queued = app.jobs.tasks.counts()["queued"]
    assert queued == due, queued
    began = time.perf_counter()
    ahead = app.schedule.occurrences(now[0], now[0] + timedelta(days=31))
    calendar = time.perf_counter() - began
    assert len(ahead) == 2000 and all(parse(a.slot) >= now[0] for a in ahead)
    app.close()
    return {
        "tasks": count,
        "due": due,
        "startFreshSeconds": fresh,
        "startKeptSeconds": kept,
        "idleTickMs": median(idles),
        "idleTickP99Ms": percentile(idles, 99),
        "queryMs": median(query),
        "renewingTickMs": median(renewals),
        "editMs": median(edits),
        "lateP50Seconds": median(late),
        "lateP99Seconds": percentile(late, 99),
        "allQueuedSeconds": whole,
        "calendarMonthSeconds": calendar,
    }


def main(count: int = 10_000, due: int = 300, repeats: int = 200) -> None:
    with tempfile.TemporaryDirectory() as name:
        f = measure(Path(name), count, due, repeats)
    table(
        f"{count:,} active tasks: start-up (s)",
        ["", "seconds"],
        [["empty database", f["startFreshSeconds"]], ["kept database", f["startKeptSeconds"]]],
    )
    table(
        "A tick with nothing due (ms)",
        ["", "median", "p99"],
        [
            ["whole tick", f["idleTickMs"], f["idleTickP99Ms"]],
            ["the one query alone", f["queryMs"], ""],
            ["a tick that renews the lease", f["renewingTickMs"], ""],
            ["one task edited, states brought in step", f["editMs"], ""],
        ],
    )
    table(
        f"{due} tasks due in one minute: seconds after the tick (goal: p99 below 1)",
        ["", "p50", "p99", "all queued"],
        [["fired (run on disk)", f["lateP50Seconds"], f["lateP99Seconds"], f["allQueuedSeconds"]]],
    )
    print(f"\nthe calendar of a month (2,000 of its occurrences)   {f['calendarMonthSeconds']:.2f} s")
    save("scheduler_tasks", f)


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:3]))
