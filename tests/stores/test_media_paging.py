"""Keyset pages against a plain sorted list, for whatever hypothesis thinks of."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dalla.records.media import MediaFilter, MediaItem
from dalla.stores.library import Library
from dalla.stores.media import SqlMedia

MOMENTS = [f"2026-01-01T00:00:0{n}.000Z" for n in range(4)]  # few, so that many are equal
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "created_at": st.sampled_from(MOMENTS),
            "starred": st.booleans(),
            "character_id": st.sampled_from(["luna", "aria", None]),
            "loras": st.lists(st.sampled_from(["x", "y"]), max_size=2),
            "prompt": st.sampled_from(["forest night", "FOREST day", "city", ""]),
            "trashed_at": st.sampled_from([None, None, None, MOMENTS[0]]),
        }
    ),
    max_size=30,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "character_id": st.sampled_from(["luna", "aria"]),
        "starred": st.booleans(),
        "lora": st.sampled_from(["x", "y"]),
        "collection_id": st.just("coll_1"),
        "words": st.lists(st.sampled_from(["forest", "ni", "CITY"]), max_size=2),
        "not_words": st.lists(st.sampled_from(["day", "ty"]), max_size=1),
        "after": st.sampled_from(MOMENTS),
        "before": st.sampled_from(MOMENTS),
        "trashed": st.booleans(),
    },
)


def matches(item: MediaItem, where: MediaFilter, collected: set[str]) -> bool:
    prompt = item.prompt.lower()
    return (
        (where.character_id is None or item.character_id == where.character_id)
        and (where.starred is None or item.starred == where.starred)
        and (where.lora is None or where.lora in item.loras)
        and (where.collection_id is None or item.id in collected)
        and all(word.lower() in prompt for word in where.words)
        and not any(word.lower() in prompt for word in where.not_words)
        and (where.after is None or item.created_at >= where.after)
        and (where.before is None or item.created_at <= where.before)
        and (item.trashed_at is not None) == where.trashed
    )


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, where=FILTERS, limit=st.integers(1, 7), oldest=st.booleans(), collect=st.integers(1, 4))
def test_pages_give_every_match_once_and_in_order(library: Library, rows, where, limit, oldest, collect):
    media = SqlMedia(library)
    media.delete(media.ids(MediaFilter()) + media.ids(MediaFilter(trashed=True)))
    items = [MediaItem(id=f"media_{n}", path=f"{n}.png", **row) for n, row in enumerate(rows)]
    media.insert_many(items)
    media.save_collection("coll_1", "Some", MOMENTS[0])
    collected = {item.id for item in items[::collect]}
    media.add_to_collection("coll_1", sorted(collected), MOMENTS[0])

    filter = MediaFilter(**where)
    place = {item.id: n for n, item in enumerate(items)}
    expected = sorted(
        (item for item in items if matches(item, filter, collected)),
        key=lambda item: (item.created_at, place[item.id]),
        reverse=not oldest,
    )
    ids, cursor = [], None
    while True:
        page = media.page(filter, limit=limit, cursor=cursor, sort="oldest" if oldest else "newest")
        assert page.total == len(expected)
        assert len(page.items) <= limit
        ids += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        assert len(page.items) == limit
    assert ids == [item.id for item in expected]
