"""Points in time as the JSON has them: ISO-8601, UTC, milliseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dalla.errors import InvalidInput


def iso(moment: datetime) -> str:
    """Format an aware datetime as `2025-08-07T00:57:56.811Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_iso() -> str:
    return iso(datetime.now(UTC))


def ago_iso(seconds: float) -> str:
    """Return the time `seconds` before now."""
    try:
        return iso(datetime.now(UTC) - timedelta(seconds=seconds))
    except OverflowError:  # before the calendar begins
        return iso(datetime.min.replace(tzinfo=UTC))


def parse(text: str) -> datetime:
    """Read an ISO time; one without a zone is taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def boundary(text: str, field: str, *, end_of_day: bool = False) -> str:
    """Turn a date or time given by a user into a comparable `…Z` text. Raises InvalidInput."""
    try:
        moment = parse(text)
        if end_of_day and len(text) == 10:
            moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_000)
        return iso(moment)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput.field(field, "Give a date such as 2026-01-31, or an ISO time.") from exc
