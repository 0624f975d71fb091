"""Characters whose keys lead to the same real account: they share its pace, though each has its own settings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from dalla.records.character import Character
from dalla.records.post import IN_FLIGHT, AccountState, PostFilter
from dalla.stores.base import PostStore
from dalla.times import iso

Key = tuple[str, str]  # character id, platform


def shared(characters: Iterable[Character], states: Iterable[AccountState]) -> list[tuple[str, list[str]]]:
    """Return (platform, character ids) of every real account that more than one character posts to.

    An account is known by its number, else by the fingerprint of its keys.
    """
    groups: dict[Key, list[str]] = {}
    known = {(state.character_id, state.platform): state for state in states}
    for character in characters:
        for platform, number in (
            ("instagram", character.instagram_account_id),
            ("twitter", character.twitter_account_id),
        ):
            state = known.get((character.id, platform))
            told = state.extra.get("userId") if state else None
            name = (number or "").strip() or told or (state.token_fingerprint if state else None)
            if name:
                groups.setdefault((platform, str(name)), []).append(character.id)
    return [(platform, ids) for (platform, _), ids in groups.items() if len(ids) > 1]


def must_wait(
    store: PostStore,
    groups: list[tuple[str, list[str]]],
    now: datetime,
    gap: timedelta,
    *,
    blocked: set[Key],
    only: Key | None = None,
) -> set[Key]:
    """Return those of the accounts that must wait because another character is using the same one, has just done so
    (within `gap`), or comes first. `blocked`: accounts that cannot post now anyway, for which nobody waits.
    `only`: look at the group of this one, and let it come first."""
    waiting: set[Key] = set()
    for platform, ids in groups:
        if only is not None and (only[1] != platform or only[0] not in ids):
            continue
        flying = store.page(PostFilter(statuses=sorted(IN_FLIGHT), platform=platform), limit=200).items
        busy = {post.character_id for post in flying} & set(ids)
        last = [post.published_at or "" for id in ids if (post := store.last_published(id, platform)) is not None]
        if busy:
            waiting |= {(id, platform) for id in ids if id not in busy}
        elif gap and max(last, default="") > iso(now - gap):
            waiting |= {(id, platform) for id in ids}
        elif only is None:
            due: list[tuple[str, str]] = []
            for id in ids:
                if (id, platform) not in blocked:
                    where = PostFilter(statuses=["scheduled"], character_id=id, platform=platform, before=iso(now))
                    found = store.page(where, limit=50, sort="soonest").items
                    due += [(post.due_at, id) for post in found if post.due_at and post.due_at <= iso(now)]
            waiting |= {(id, platform) for id in ids if due and id != min(due)[1]}
    return waiting
