"""Posts in the table `posts`. Decides nothing about when and how; services/publishing.py does.

Every change of state is one conditional update, so that exactly one caller wins, and a post is never
taken by two: the claim and the rule "one in flight per account" are checked in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dalla.errors import Conflict, NotFound, Stale
from dalla.records.base import Record
from dalla.records.post import (
    EDITABLE,
    IN_FLIGHT,
    POST_TRANSITIONS,
    Post,
    PostFilter,
)
from dalla.stores import cursors
from dalla.stores.base import Page
from dalla.stores.leases import serialize
from dalla.stores.library import Library
from dalla.stores.post_log import PostLog
from dalla.stores.schema import post_media, posts
from dalla.times import iso, now_iso, parse

_COLUMNS = {column.name for column in posts.c} - {"seq", "when_at"}
_FIXED = {"id", "status", "created_at", "character_id", "platform", "task_id", "slot", "revision", "updated_at"}
_WAITING = ("draft", "approved", "scheduled")
#: A picture counts as used while one of these posts has it.
_HOLDS_MEDIA = ("draft", "approved", "scheduled", "claimed", "uploading", "publishing", "published", "unconfirmed")
#: A post that was published this much after "now" is still a recent one.
AHEAD_SECONDS = 120
_DELETABLE = frozenset({"draft", "approved", "cancelled", "failed", "missed", "dry_run"})


class SqlPosts:
    """A PostStore on a Library. Safe for threads and processes."""

    def __init__(self, library: Library) -> None:
        self._library = library
        log = PostLog(library)
        self.begin_attempt, self.end_attempt, self.attempts = log.begin_attempt, log.end_attempt, log.attempts
        self.add_outbox, self.outbox, self.clear_outbox = log.add_outbox, log.outbox, log.clear_outbox

    # ------------------------------------------------------------------ single posts

    def insert(self, post: Post) -> Post:
        now = now_iso()
        post = post.with_(created_at=post.created_at or now, updated_at=now)
        values = {name: getattr(post, name) for name in Post.model_fields}
        try:
            with self._library.write() as connection:
                values = {**_columns(values), "when_at": post.scheduled_at or post.created_at}
                seq = connection.execute(insert(posts).values(**values).returning(posts.c.seq)).scalar_one()
                _relate(connection, seq, post.media_ids)
        except IntegrityError as exc:
            if post.slot and self.for_slot(post.task_id or "", post.platform, post.slot):
                raise Conflict("This slot of the rule has its post for this platform already.") from exc
            raise Conflict(f"There is already a post with the id '{post.id}'.") from exc
        return post

    def get(self, id: str) -> Post:
        with self._library.read() as connection:
            row = connection.execute(select(posts).where(posts.c.id == id)).one_or_none()
        if row is None:
            raise NotFound.of("post", id)
        return _post(row)

    def get_many(self, ids: list[str]) -> list[Post]:
        with self._library.read() as connection:
            found = {row.id: _post(row) for row in connection.execute(select(posts).where(posts.c.id.in_(ids)))}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def for_slot(self, task_id: str, platform: str, slot: str) -> Post | None:
        same = and_(posts.c.task_id == task_id, posts.c.platform == platform, posts.c.slot == slot)
        return self._first(select(posts).where(same))

    def delete(self, id: str) -> Post:
        gone = delete(posts).where(posts.c.id == id, posts.c.status.in_(sorted(_DELETABLE))).returning(*posts.c)
        with self._library.write() as connection:
            row = connection.execute(gone).one_or_none()
            if row is not None:
                PostLog.forget(connection, id)
        if row is not None:
            return _post(row)
        status = self.get(id).status
        raise Conflict(
            f"A post that is {status} cannot be deleted.",
            remedy="Cancel it first." if status == "scheduled" else None,
        )

    # ------------------------------------------------------------------ changes

    def edit(
        self, id: str, *, if_revision: int | None = None, only_from: frozenset[str] = EDITABLE, **changes: Any
    ) -> Post:
        change = update(posts).where(posts.c.id == id, posts.c.status.in_(sorted(only_from)))
        if if_revision is not None:
            change = change.where(posts.c.revision == if_revision)
        row = self._change(change, _checked(changes))
        if row is not None:
            return row
        current = self.get(id)
        if current.status not in only_from:
            raise Conflict(f"A post that is {current.status} cannot be changed.", extra={"postStatus": current.status})
        raise Stale(
            "The post was changed elsewhere since you opened it. Nothing was saved.",
            remedy="Load it again and repeat your change.",
            extra={"current": current.to_json()},
        )

    def transition(
        self, id: str, to: str, *, only_from: frozenset[str] | None = None, owned_by: str | None = None, **fields: Any
    ) -> Post:
        """See PostStore. A post that leaves the flight loses its lease."""
        allowed = {status for status, targets in POST_TRANSITIONS.items() if to in targets}
        if only_from is not None:
            allowed &= only_from
        if to not in IN_FLIGHT:
            fields = {"lease_owner": None, "lease_until": None, **fields}
        if to == "published" and not fields.get("platform_post_id"):
            raise TypeError("a post is published only together with the platform's id")
        change = update(posts).where(posts.c.id == id, posts.c.status.in_(sorted(allowed)))
        if owned_by is not None:
            change = change.where(posts.c.lease_owner == owned_by)
        post = self._change(change, {**_checked(fields), "status": to})
        if post is not None:
            return post
        now = self.get(id)
        raise Conflict(f"The post is {now.status}; it cannot become {to} now.", extra={"postStatus": now.status})

    def save(self, id: str, owner: str, **fields: Any) -> Post:
        mine = update(posts).where(
            posts.c.id == id, posts.c.lease_owner == owner, posts.c.status.in_(sorted(IN_FLIGHT))
        )
        post = self._change(mine, _checked(fields))
        if post is None:
            raise Conflict("Another process has taken over this post.")
        return post

    def renew(self, id: str, owner: str, until: str) -> bool:
        mine = update(posts).where(
            posts.c.id == id, posts.c.lease_owner == owner, posts.c.status.in_(sorted(IN_FLIGHT))
        )
        with self._library.write() as connection:
            return connection.execute(mine.values(lease_until=until)).rowcount == 1

    def _change(self, change: Any, fields: dict[str, Any]) -> Post | None:
        values = _columns(fields)
        if fields.get("deferred_reason") and fields.get("due_at"):
            values["when_at"] = fields["due_at"]  # a post that was put off stands where it will be tried
        elif "scheduled_at" in fields:
            values["when_at"] = func.coalesce(fields["scheduled_at"], posts.c.created_at)
        change = change.values(**values, revision=posts.c.revision + 1, updated_at=now_iso()).returning(*posts.c)
        with self._library.write() as connection:
            row = connection.execute(change).one_or_none()
            if row is None:
                return None
            if "media_ids" in fields:
                connection.execute(delete(post_media).where(post_media.c.post_seq == row.seq))
                _relate(connection, row.seq, fields["media_ids"])
        return _post(row)

    # ------------------------------------------------------------------ who works on what

    def claim(
        self,
        owner: str,
        now: str,
        until: str,
        *,
        gaps: dict[str, int],
        skip: set[tuple[str, str]],
        limit: int = 10,
        only: str | None = None,
    ) -> list[Post]:
        """See PostStore. With `only` just that post is considered, whatever its `due_at`."""
        due = posts.c.id == only if only else posts.c.due_at <= now
        ready = and_(posts.c.status == "scheduled", due)
        with self._library.read() as connection:  # most looks find nothing, and need not wait for the write lock
            if connection.execute(select(posts.c.seq).where(ready).limit(1)).scalar() is None:
                return []
        in_flight = posts.alias("in_flight")
        busy = exists().where(
            in_flight.c.character_id == posts.c.character_id,
            in_flight.c.platform == posts.c.platform,
            in_flight.c.status.in_(sorted(IN_FLIGHT)),
        )
        recent = posts.alias("recent")
        rested = [
            exists().where(
                posts.c.platform == platform,
                recent.c.character_id == posts.c.character_id,
                recent.c.platform == platform,
                recent.c.status == "published",
                recent.c.published_at > _before(now, seconds),
                # `now` was read before this transaction, and the platform's clock may differ a little; an hour ahead
                # of the clock is no recent post, though: the clock has been set back.
                recent.c.published_at <= _before(now, -AHEAD_SECONDS),
            )
            for platform, seconds in gaps.items()
            if seconds > 0
        ]
        query = select(posts).where(ready, ~busy, *(~rule for rule in rested))
        if skip:
            query = query.where(tuple_(posts.c.character_id, posts.c.platform).not_in(sorted(skip)))
        taken: list[Post] = []
        with self._library.write() as connection:
            serialize(connection, "claim", now)
            accounts: set[tuple[str, str]] = set()
            for row in connection.execute(query.order_by(posts.c.due_at, posts.c.seq).limit(limit * 20)).all():
                account = (row.character_id, row.platform)
                if account in accounts or len(taken) == limit:
                    continue
                accounts.add(account)
                change = update(posts).where(posts.c.seq == row.seq, posts.c.status == "scheduled")
                change = change.values(
                    status="claimed",
                    lease_owner=owner,
                    lease_until=until,
                    revision=posts.c.revision + 1,
                    updated_at=now_iso(),
                )
                claimed = connection.execute(change.returning(*posts.c)).one_or_none()
                if claimed is not None:
                    taken.append(_post(claimed))
        return taken

    def adopt(self, owner: str, now: str, until: str, *, limit: int = 10) -> list[Post]:
        lost = and_(posts.c.status.in_(sorted(IN_FLIGHT)), posts.c.lease_owner.is_not(None), posts.c.lease_until < now)
        return self._take(lost, owner, now, until, limit)

    def resume(self, owner: str, now: str, until: str, *, limit: int = 10) -> list[Post]:
        waiting = and_(
            posts.c.status.in_(sorted(IN_FLIGHT)),
            posts.c.lease_owner.is_(None),
            or_(posts.c.due_at.is_(None), posts.c.due_at <= now),
        )
        return self._take(waiting, owner, now, until, limit)

    def abandon(self, owners: Iterable[str], now: str) -> int:
        """Let the leases of dead owners run out at once; return how many."""
        dead = update(posts).where(posts.c.lease_owner.in_(list(owners)), posts.c.status.in_(sorted(IN_FLIGHT)))
        with self._library.write() as connection:
            return connection.execute(dead.values(lease_until=_before(now, 1))).rowcount

    def owners(self) -> set[str]:
        """Return who holds leases of posts in flight."""
        query = select(posts.c.lease_owner).where(
            posts.c.status.in_(sorted(IN_FLIGHT)), posts.c.lease_owner.is_not(None)
        )
        with self._library.read() as connection:
            return set(connection.execute(query.distinct()).scalars())

    def _take(self, which: ColumnElement[bool], owner: str, now: str, until: str, limit: int) -> list[Post]:
        query = select(posts.c.seq).where(which).order_by(posts.c.due_at, posts.c.seq).limit(limit)
        with self._library.read() as connection:
            if connection.execute(query.limit(1)).scalar() is None:
                return []
        with self._library.write() as connection:
            serialize(connection, "claim", now)
            seqs = list(connection.execute(query).scalars())
            change = update(posts).where(posts.c.seq.in_(seqs), which)
            change = change.values(lease_owner=owner, lease_until=until, updated_at=now_iso())
            rows = connection.execute(change.returning(*posts.c)).all()
        return [_post(row) for row in sorted(rows, key=lambda row: row.seq)]

    def next_due(self) -> str | None:
        scheduled = select(func.min(posts.c.due_at)).where(posts.c.status == "scheduled")
        waiting = select(func.min(posts.c.due_at)).where(
            posts.c.status.in_(sorted(IN_FLIGHT)), posts.c.lease_owner.is_(None)
        )
        with self._library.read() as connection:
            found = [connection.execute(query).scalar() for query in (scheduled, waiting)]
        return min((moment for moment in found if moment), default=None)

    # ------------------------------------------------------------------ lists

    def page(self, where: PostFilter, *, limit: int = 50, cursor: str | None = None, sort: str = "newest") -> Page:
        cursors.check_limit(limit)
        tests = _tests(where)
        place = tuple_(posts.c.when_at, posts.c.seq)
        soonest = sort == "soonest"
        query = select(posts).where(*tests)
        if soonest:
            query = query.order_by(posts.c.when_at, posts.c.seq)
        else:
            query = query.order_by(posts.c.when_at.desc(), posts.c.seq.desc())
        if cursor:
            moment = tuple_(*cursors.decode(cursor, f"posts.{sort}"))
            query = query.where(place > moment if soonest else place < moment)
        with self._library.read() as connection:
            total = connection.execute(select(func.count()).select_from(posts).where(*tests)).scalar_one()
            rows = connection.execute(query.limit(limit + 1)).all()
        following = None
        if len(rows) > limit:
            following = cursors.encode(f"posts.{sort}", rows[limit - 1].when_at, rows[limit - 1].seq)
        return Page([_post(row) for row in rows[:limit]], following, total)

    def between(self, start: str, end: str, *, character_id: str | None = None, limit: int = 5000) -> list[Post]:
        tests = [posts.c.when_at >= start, posts.c.when_at < end]
        if character_id is not None:
            tests.append(posts.c.character_id == character_id)
        query = select(posts).where(*tests).order_by(posts.c.when_at, posts.c.seq).limit(limit)
        with self._library.read() as connection:
            return [_post(row) for row in connection.execute(query)]

    def overdue(self, before: str) -> list[Post]:
        """See PostStore. By `due_at`: what was deferred for a reason is late only after that."""
        late = and_(posts.c.status.in_(_WAITING), posts.c.scheduled_at.is_not(None), posts.c.due_at < before)
        query = select(posts).where(late).order_by(posts.c.due_at, posts.c.seq).limit(500)
        with self._library.read() as connection:
            return [_post(row) for row in connection.execute(query)]

    def counts(self, *, character_id: str | None = None) -> dict[str, int]:
        mine = [] if character_id is None else [posts.c.character_id == character_id]
        query = select(posts.c.status, func.count()).where(*mine).group_by(posts.c.status)
        held = (
            select(func.count()).select_from(posts).where(posts.c.hold.is_not(None), posts.c.status == "draft", *mine)
        )
        with self._library.read() as connection:
            found = {status: n for status, n in connection.execute(query)}
            found["held"] = connection.execute(held).scalar_one()
        return {status: found.get(status, 0) for status in (*POST_TRANSITIONS, "held")}

    def counts_by_platform(self) -> list[tuple[str, str, int]]:
        query = select(posts.c.platform, posts.c.status, func.count()).group_by(posts.c.platform, posts.c.status)
        with self._library.read() as connection:
            return [(platform, status, count) for platform, status, count in connection.execute(query)]

    def last_published(self, character_id: str, platform: str) -> Post | None:
        mine = and_(posts.c.character_id == character_id, posts.c.platform == platform, posts.c.status == "published")
        return self._first(select(posts).where(mine).order_by(posts.c.published_at.desc(), posts.c.seq.desc()))

    def similar(
        self, character_id: str, platform: str, *, caption: str, sha256: list[str], after: str, except_id: str
    ) -> list[Post]:
        query = select(posts).where(
            posts.c.character_id == character_id,
            posts.c.platform == platform,
            posts.c.status.in_(sorted(set(_HOLDS_MEDIA) - {"draft"})),
            posts.c.when_at >= after,
            posts.c.id != except_id,
        )
        words, pictures = " ".join(caption.split()), set(sha256)
        with self._library.read() as connection:
            found = [_post(row) for row in connection.execute(query.order_by(posts.c.when_at.desc()).limit(1000))]
        return [
            post
            for post in found
            if (words and " ".join(post.caption.split()) == words) or pictures & {file.sha256 for file in post.files}
        ]

    def used_media(self, character_id: str, platform: str | None = None) -> set[str]:
        query = select(post_media.c.media_id).join(posts, posts.c.seq == post_media.c.post_seq)
        query = query.where(posts.c.character_id == character_id, posts.c.status.in_(_HOLDS_MEDIA))
        if platform is not None:
            query = query.where(posts.c.platform == platform)
        with self._library.read() as connection:
            return set(connection.execute(query.distinct()).scalars())

    def file_hashes(self, *, settled_before: str) -> set[str]:
        """Return the hashes of prepared pictures that some post still needs (all but those settled long ago)."""
        old = and_(posts.c.status.in_(["published", "cancelled", "dry_run"]), posts.c.updated_at < settled_before)
        query = select(posts.c.files, posts.c.snapshot).where(~old)
        needed: set[str] = set()
        with self._library.read() as connection:
            for files, snapshot in connection.execute(query):
                needed.update(file["sha256"] for file in files)
                needed.update(file["sha256"] for file in (snapshot or {}).get("files", []))
        return needed

    def _first(self, query: Any) -> Post | None:
        with self._library.read() as connection:
            row = connection.execute(query.limit(1)).one_or_none()
        return None if row is None else _post(row)


def _tests(where: PostFilter) -> list[ColumnElement[bool]]:
    tests: list[ColumnElement[bool]] = []
    if where.statuses is not None:
        tests.append(posts.c.status.in_(where.statuses))
    for name in ("character_id", "platform", "task_id", "run_id", "group_id"):
        value = getattr(where, name)
        if value is not None:
            tests.append(posts.c[name] == value)
    if where.hold == "none":
        tests.append(or_(posts.c.hold.is_(None), posts.c.status != "draft"))
    elif where.hold is not None:
        tests.append(posts.c.hold.is_not(None) if where.hold == "any" else posts.c.hold == where.hold)
        tests.append(posts.c.status == "draft")
    if where.media_id is not None:
        mine = select(post_media.c.post_seq).where(post_media.c.media_id == where.media_id)
        tests.append(posts.c.seq.in_(mine))
    if where.after is not None:
        tests.append(posts.c.when_at >= where.after)
    if where.before is not None:
        tests.append(posts.c.when_at <= where.before)
    return tests


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    unknown = fields.keys() - (_COLUMNS - _FIXED)
    if unknown:
        raise TypeError(f"not columns of posts that may change: {', '.join(sorted(unknown))}")
    return fields


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn records into what the JSON columns hold (snake_case: it never leaves the stores)."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value


def _relate(connection: Connection, seq: int, media_ids: list[str]) -> None:
    rows = [{"post_seq": seq, "media_id": id} for id in dict.fromkeys(media_ids)]
    if rows:
        connection.execute(insert(post_media), rows)


def _before(now: str, seconds: float) -> str:
    return iso(parse(now) - timedelta(seconds=seconds))


def _post(row: Row[Any]) -> Post:
    values = row._asdict()
    del values["seq"], values["when_at"]
    return Post.model_validate(values)
