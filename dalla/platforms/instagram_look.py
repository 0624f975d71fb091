"""Whether a publish with a lost or doubtful answer became a post. Reads only."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from typing import Any

from dalla import times
from dalla.platforms.base import Look, PlatformError, Published
from dalla.platforms.instagram_api import Graph
from dalla.records.post import Snapshot

SURE_AFTER = 60.0  # seconds after which "not published yet" of a container is believed
CLOCKS = 10.0  # seconds our clock and theirs may differ
LIST = 25
LOOKS_FOR_ID = 5  # for the id of a post that is live
LOOKS_UNREADABLE = 6
PAUSES = (20.0, 40.0, 90.0, 180.0, 300.0, 600.0)


def look(
    graph: Graph, snapshot: Snapshot, remote: dict[str, Any], started_at: datetime, looks: int, now: datetime
) -> Look:
    """Read the container, then the list. Raises PlatformError only for a dead token."""
    if remote.get("mediaId"):
        return Look("published", Published(str(remote["mediaId"])))
    state, text = _state(graph, remote)
    if state is None and text in ("token_expired", "token_invalid", "permission", "credentials"):
        return cannot_tell(looks, "The token does not work, so Instagram cannot be asked. Renew it under Connections.")
    live = state == "PUBLISHED"
    found = _find(graph, snapshot, started_at, set(remote.get("ours") or ()), certain=live)
    if found is not None:
        return Look("published", found)
    if live:
        if looks < LOOKS_FOR_ID:
            return Look("not_yet", seconds=_pause(looks), detail="The post is live; its id is not listed yet.")
        return Look(
            "unknown",
            detail="Instagram says that the post is live, but it cannot be told which one it is. "
            "Open the account and copy the address of the post.",
        )
    elapsed = (now - started_at).total_seconds()
    if state in ("FINISHED", "IN_PROGRESS"):
        if elapsed < SURE_AFTER:
            return Look("not_yet", seconds=max(5.0, SURE_AFTER - elapsed + 1), detail="Not published so far.")
        if int(remote.get("lost") or 0) >= 2:
            return Look(
                "unknown",
                detail="Instagram left two attempts without an answer and says that nothing is published. "
                "Look at the account, then post again.",
            )
        return Look("not_there", detail="Instagram has the picture and did not publish it.")
    if state in ("EXPIRED", "ERROR"):
        if elapsed < SURE_AFTER:
            return Look("not_yet", seconds=max(5.0, SURE_AFTER - elapsed + 1), detail="Not published so far.")
        return Look("not_there", restart=True, detail="The upload is dead and was not published.")
    if text == "container_missing" and elapsed >= SURE_AFTER and looks >= 2:
        return Look("not_there", restart=True, detail="Instagram no longer knows the upload and lists no such post.")
    return cannot_tell(looks, "Instagram does not say what became of the post.")


def cannot_tell(looks: int, detail: str) -> Look:
    """Ask again a few times, then leave it to a person."""
    if looks < LOOKS_UNREADABLE:
        return Look("not_yet", seconds=_pause(looks), detail=detail)
    return Look("unknown", detail=f"{detail} Look at the account and say whether the post is there.")


def _pause(looks: int) -> float:
    return PAUSES[min(max(looks, 0), len(PAUSES) - 1)]


def _state(graph: Graph, remote: dict[str, Any]) -> tuple[str | None, str]:
    """Return (status_code, text); (None, cause) when it cannot be read."""
    try:
        answer = graph.get(str(remote.get("container") or ""), fields="status_code,status")
    except PlatformError as exc:
        return None, exc.cause
    state, text = str(answer.get("status_code") or ""), str(answer.get("status") or "")
    if not state and text.lower().startswith("error"):
        state = "ERROR"
    return state or None, text


def _find(graph: Graph, snapshot: Snapshot, started_at: datetime, ours: set[str], *, certain: bool) -> Published | None:
    """Find the post in the account's list; only one that can be no other. `ours`: ids known to be other posts.

    certain: the container is published, so the post exists. Only then its time alone may identify it
    (Instagram login does not show captions of posts, stories have none).
    """
    story = snapshot.kind == "story"
    if story and not certain:
        return None
    try:
        fields = "id,caption,timestamp,permalink,media_type"
        answer = graph.get(f"{graph.id}/{'stories' if story else 'media'}", fields=fields, limit=str(LIST))
    except PlatformError:
        return None
    rows = answer.get("data")
    recent = (
        [r for r in rows if isinstance(r, dict) and str(r.get("id")) not in ours and _since(r, started_at)]
        if isinstance(rows, list)
        else []
    )
    if not story:
        kind = "CAROUSEL_ALBUM" if snapshot.kind == "carousel" else "IMAGE"
        recent = [row for row in recent if row.get("media_type") in (None, kind)]
    wanted = _words(snapshot.caption)
    fits = [row for row in recent if _words(row.get("caption")) == wanted] if wanted and not story else []
    if not fits and certain and (not wanted or story or all(row.get("caption") is None for row in recent)):
        end = started_at + timedelta(seconds=180)
        fits = [row for row in recent if times.parse(row["timestamp"]) <= end]
    if len(fits) != 1 or not fits[0].get("id"):
        return None
    row = fits[0]
    link = row.get("permalink")
    return Published(str(row["id"]), link if isinstance(link, str) else None, times.iso(times.parse(row["timestamp"])))


def _since(row: dict[str, Any], started_at: datetime) -> bool:
    try:
        return times.parse(str(row["timestamp"])) >= started_at - timedelta(seconds=CLOCKS)
    except (KeyError, ValueError):
        return False


def _words(text: Any) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip() if isinstance(text, str) else ""
