"""One post on its way: from the claim to what the platform answered, or to the question that stays open.

The order is what makes a post go out once. Everything `stage` does is harmless to repeat. Before the one
call with an effect the row says `publishing` on disk. After that only the platform's answer, or asking
the platform, or a person changes it; a lost answer is never taken for a failure.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Protocol

from dalla.errors import Cancelled, Conflict, DallaError, NotFound, StorageError
from dalla.jobs.base import Context
from dalla.log import scrub
from dalla.platforms.base import Account, Look, NotReady, Platform, PlatformError, Published
from dalla.records.character import Character
from dalla.records.post import Attempt, Post, PostFilter, PreparedFile, Snapshot
from dalla.services.platform_access import PlatformAccess
from dalla.settings import Settings
from dalla.stores.base import BlobStore, PostStore
from dalla.times import iso, parse

logger = logging.getLogger(__name__)

#: Waits before the next try, seconds; after the last one the post has failed.
RETRY_SECONDS = (60, 300, 900, 3600)
DEFER_SECONDS = 900
MAX_LOOKS = 12
OURS = 25  # as many as a platform lists at once
WRITE_TRIES = 5


class Hosting(Protocol):
    """Where a platform can fetch a picture (platforms/hosting.py)."""

    def public_url(self, file: PreparedFile) -> str:
        """Raises NotConfigured."""

    def pretend_url(self, file: PreparedFile) -> str:
        """Return the address a rehearsal shows. Uploads nothing, never raises."""


class SnapshotFiles:
    """The prepared pictures as an adapter may use them."""

    def __init__(self, blobs: BlobStore, hosting: Hosting, dry_run: bool) -> None:
        self._blobs = blobs
        self._hosting = hosting
        self._dry_run = dry_run

    def read(self, file: PreparedFile) -> bytes:
        return self._blobs.get(file.key)

    def public_url(self, file: PreparedFile) -> str:
        return self._hosting.pretend_url(file) if self._dry_run else self._hosting.public_url(file)


class PostWatch:
    """Writes what an adapter does into the attempts of the post, and its checkpoints into the row."""

    def __init__(
        self, posts: PostStore, post_id: str, owner: str, now: Callable[[], datetime], context: Context
    ) -> None:
        self._posts = posts
        self._post_id = post_id
        self._owner = owner
        self._now = now
        self._context = context
        self.may_cancel = True

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        attempt = self._posts.begin_attempt(Attempt(post_id=self._post_id, step=name, started_at=iso(self._now())))
        end: dict[str, Any] = {"outcome": "ok"}
        try:
            yield
        except PlatformError as exc:
            end = {
                "outcome": "unknown" if exc.effect == "unknown" else "error",
                "http": exc.http,
                "code": _short(exc.platform_code or exc.cause),
                "subcode": _short(exc.subcode),
                "trace": _short(exc.trace, 200),
                "detail": scrub(exc.detail)[:2000],
            }
            raise
        except NotReady as exc:
            end = {"outcome": "ok", "detail": scrub(str(exc))[:500] or "not ready yet"}
            raise
        except BaseException as exc:
            end = {"outcome": "unknown", "detail": scrub(f"{type(exc).__name__}: {exc}")[:2000]}
            raise
        finally:
            # The log of a step must never decide about the step itself.
            with contextlib.suppress(StorageError):
                self._posts.end_attempt(attempt.id, ended_at=iso(self._now()), **end)

    def save(self, remote: dict[str, Any]) -> None:
        self._posts.save(self._post_id, self._owner, remote=remote)

    def check_cancelled(self) -> None:
        if self.may_cancel:
            self._context.check_cancelled()


class Drive:
    """Takes one claimed post as far as it can go now. Settling is done by the callbacks of Publishing."""

    def __init__(
        self,
        settings: Settings,
        posts: PostStore,
        platforms: PlatformAccess,
        blobs: BlobStore,
        hosting: Hosting,
        owner: str,
        now: Callable[[], datetime],
        snapshot: Callable[[Post], Snapshot],
        settle: Callable[[Post], None],
        stop_account: Callable[[Post, PlatformError], None],
        count_failure: Callable[[Post, PlatformError], None],
        remember: Callable[[Post, dict[str, Any]], None],
        stopped: Callable[[Post, bool], tuple[str, str] | None],
        wanted: Callable[[Context], bool],
    ) -> None:
        """`stopped(post, at_once)` tells (try again at, reason) when the stop switch was pressed meanwhile;
        `wanted` whether a job that was asked to stop was stopped by a person, not by the app closing."""
        self._stopped = stopped
        self._wanted = wanted
        self._settings = settings
        self._posts = posts
        self._platforms = platforms
        self._blobs = blobs
        self._hosting = hosting
        self._owner = owner
        self._now = now
        self._snapshot = snapshot
        self._settle = settle
        self._stop_account = stop_account
        self._count_failure = count_failure
        self._remember = remember

    # ------------------------------------------------------------ the way out

    def run(self, post: Post, character: Character, context: Context, *, at_once: bool) -> Post:
        """Drive the post; return it as it stands afterwards. Raises nothing for what the platform says."""
        account = self._platforms.account(character, post.platform, dry_run=post.dry_run, post_id=post.id)
        known = dict(account.extra)
        try:
            with contextlib.closing(account.session):
                return self._run(post, account, context, at_once)
        finally:
            if not post.dry_run and account.extra != known:
                with contextlib.suppress(DallaError):  # what the adapter remembers only saves requests
                    self._remember(post, account.extra)

    def _run(self, post: Post, account: Account, context: Context, at_once: bool) -> Post:
        platform = self._platforms.get(post.platform)
        watch = PostWatch(self._posts, post.id, self._owner, self._now, context)
        try:
            if post.status == "publishing":
                return self._look(post, account, platform, watch)
            return self._send(post, account, platform, watch, context, at_once)
        except Cancelled:
            if not self._wanted(context):  # the app is closing: the next process goes on with the same checkpoints
                due = iso(self._now())
                return self._posts.save(post.id, self._owner, due_at=due, lease_owner=None, lease_until=None)
            return self._finish(post, "cancelled", only_from=frozenset({"claimed", "uploading"}))
        except PlatformError as exc:
            return self._refused(post, exc, at_once)

    def _send(
        self, post: Post, account: Account, platform: Platform, watch: PostWatch, context: Context, at_once: bool
    ) -> Post:
        label = platform.info.label
        if post.snapshot is None:
            with watch.step("prepare"):
                try:
                    snapshot = self._snapshot(post)
                except PlatformError:
                    raise
                except DallaError as exc:
                    raise _as_refusal(exc, post.platform) from exc
            post = self._posts.save(post.id, self._owner, snapshot=snapshot)
        snapshot = post.snapshot or self._snapshot(post)
        files = SnapshotFiles(self._blobs, self._hosting, post.dry_run)
        if post.status == "claimed":
            post = self._posts.transition(post.id, "uploading", owned_by=self._owner)
        context.progress(1, 3, f"Sending to {label}")
        try:
            remote = platform.stage(account, snapshot, dict(post.remote), files, watch)
        except NotReady as exc:
            due = iso(self._now() + timedelta(seconds=max(1.0, exc.seconds)))
            return self._posts.save(post.id, self._owner, due_at=due, lease_owner=None, lease_until=None)
        except (PlatformError, Cancelled):
            raise
        except DallaError as exc:  # e.g. no public address, a prepared picture that is gone
            raise _as_refusal(exc, post.platform) from exc
        except Exception as exc:
            logger.exception("staging %s failed", post.id)
            raise _surprise(exc, post.platform, effect="none") from exc
        context.check_cancelled()
        context.progress(2, 3, f"Publishing on {label}")
        stop = self._stopped(post, at_once)
        if stop is not None:  # staging may have taken minutes; what is staged stays usable
            due, reason = stop
            return self._posts.transition(
                post.id, "scheduled", owned_by=self._owner, due_at=due, deferred_reason=reason, remote=remote
            )
        watch.may_cancel = False
        # The write-ahead: from here on only an answer of the platform tells what happened.
        post = self._posts.transition(
            post.id,
            "publishing",
            owned_by=self._owner,
            publish_started_at=iso(self._now()),
            looks=0,
            remote=remote,
        )
        try:
            with watch.step("publish"):
                try:
                    published = platform.publish(account, snapshot, remote, watch)
                except (PlatformError, Cancelled):
                    raise
                except Exception as exc:
                    logger.exception("publishing %s ended in a surprise", post.id)
                    raise _surprise(exc, post.platform, effect="unknown") from exc
        except PlatformError as exc:
            if exc.effect != "unknown":
                raise
            if exc.stops_account:  # whatever became of this post, the next ones would meet the same wall
                self._stop_account(post, exc)
            self._posts.save(post.id, self._owner, error=exc.problem())
            return self._look(self._posts.get(post.id), account, platform, watch)
        return self._published(post, account, published)

    def _published(self, post: Post, account: Account, published: Published) -> Post:
        if post.dry_run:
            done = self._write(lambda: self._posts.transition(post.id, "dry_run", owned_by=self._owner, error=None))
            self._settle(done)
            return done
        fields: dict[str, Any] = {
            "platform_post_id": published.id,
            "permalink": published.permalink,
            "published_at": published.published_at or iso(self._now()),
            "error": None,
            "deferred_reason": None,
        }
        # Nothing matters more than this write: a full disk for a moment must not lose the platform's id.
        try:
            done = self._write(lambda: self._posts.transition(post.id, "published", owned_by=self._owner, **fields))
        except Conflict:
            # The lease went to somebody else while the platform was answering. What it answered stays true.
            unclear = frozenset({"publishing", "unconfirmed"})
            done = self._write(lambda: self._posts.transition(post.id, "published", only_from=unclear, **fields))
        if not done.permalink:
            with contextlib.suppress(Exception):  # cosmetic: a link that cannot be read now is fetched later
                link = self._platforms.get(post.platform).permalink(account, published.id)
                if link:
                    done = self._posts.edit(post.id, only_from=frozenset({"published"}), permalink=link)
        self._settle(done)
        return done

    # ------------------------------------------------------------ a lost answer

    def _look(self, post: Post, account: Account, platform: Platform, watch: PostWatch) -> Post:
        """Ask the platform what became of a publish whose answer is not known."""
        watch.may_cancel = False
        if post.dry_run:
            return self._published(post, account, Published(id="dry-run"))
        snapshot = post.snapshot or self._snapshot(post)
        started = post.publish_started_at or post.updated_at
        try:
            with watch.step("look"):
                remote = {**post.remote, "ours": self._ours(post)}
                found = platform.look(account, snapshot, remote, started, post.looks, watch)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing was learned
            logger.warning("looking for %s failed: %s", post.id, scrub(str(exc)))
            found = Look("not_yet", seconds=60, detail="The platform could not be asked.")
        if found.state == "published" and found.post is not None:
            return self._published(post, account, found.post)
        if found.state == "not_there":
            return self._again(post, found)
        if found.state == "not_yet" and post.looks + 1 < MAX_LOOKS:
            due = iso(self._now() + timedelta(seconds=max(1.0, found.seconds)))
            return self._posts.save(
                post.id, self._owner, looks=post.looks + 1, due_at=due, lease_owner=None, lease_until=None
            )
        if post.platform == "twitter" and self._settings.x_repeat_unconfirmed and not post.remote.get("repeated"):
            remote = {**post.remote, "repeated": True}
            return self._again(post.with_(remote=remote), found)
        label = platform.info.label
        error = {
            "detail": found.detail or f"{label} did not say whether the post is live.",
            "remedy": f"Look at {label}: if it is there, say so with its link; if it is not, post it again.",
            "code": "unconfirmed",
            "cause": "unconfirmed",
            "action": "ask",
        }
        done = self._posts.transition(post.id, "unconfirmed", owned_by=self._owner, error=error)
        self._settle(done)
        return done

    def _ours(self, post: Post) -> list[str]:
        """The platform's ids of this account's newest posts: what is already known to be another one."""
        where = PostFilter(character_id=post.character_id, platform=post.platform, statuses=["published"])
        newest = self._posts.page(where, limit=OURS).items
        return [one.platform_post_id for one in newest if one.platform_post_id]

    def _again(self, post: Post, found: Look) -> Post:
        """It is certainly not live: give it back to the queue, with the same checkpoints unless they are dead."""
        attempts = post.attempts + 1
        if attempts > len(RETRY_SECONDS):
            error = PlatformError(
                found.detail or "The platform never showed the post, although it was sent several times.",
                platform=post.platform,
                cause="never_appeared",
                action="ask",
                remedy="Look at the account, then press 'Try again'.",
            )
            return self._fail(post, error)
        return self._posts.transition(
            post.id,
            "scheduled",
            owned_by=self._owner,
            attempts=attempts,
            due_at=iso(self._now()),
            remote={} if found.restart else post.remote,
            deferred_reason=found.detail or "It had not been published; it is sent again.",
        )

    # ------------------------------------------------------------ refusals

    def _refused(self, post: Post, error: PlatformError, at_once: bool) -> Post:
        """Do what the error calls for: again, later, stop the account, or fail."""
        try:
            post = self._posts.get(post.id)
        except NotFound:
            return post
        if post.lease_owner != self._owner:
            return post  # cancelled or taken over meanwhile
        if error.restart:
            post = self._posts.save(post.id, self._owner, remote={})
        if error.stops_account:
            self._stop_account(post, error)
        if error.action == "retry":
            self._count_failure(post, error)
            return self._retry(post, error)
        if error.action == "defer":
            return self._defer(post, error)
        if error.action in ("reconnect", "ask") and error.stops_account and not at_once:
            # It waits for the account; when nobody mends it in time it becomes `missed`.
            return self._release(post, error, due=post.due_at or iso(self._now()), reason=error.detail)
        return self._fail(post, error)

    def _retry(self, post: Post, error: PlatformError) -> Post:
        if post.attempts >= len(RETRY_SECONDS):
            return self._fail(post, error)
        wait = RETRY_SECONDS[post.attempts] * random.uniform(0.8, 1.2)
        due = self._now() + timedelta(seconds=max(wait, error.retry_after or 0))
        if due > self._deadline(post):
            return self._fail(post, error)
        return self._release(post, error, due=iso(due), reason=error.detail, attempts=post.attempts + 1)

    def _defer(self, post: Post, error: PlatformError) -> Post:
        until = error.until or self._now() + timedelta(seconds=error.retry_after or DEFER_SECONDS)
        return self._release(post, error, due=iso(until), reason=error.detail)

    def _deadline(self, post: Post) -> datetime:
        window = timedelta(minutes=self._settings.late_window_minutes)
        wanted = parse(post.scheduled_at or post.created_at)
        return max(wanted, parse(post.created_at)) + window

    def _release(self, post: Post, error: PlatformError, *, due: str, reason: str, **fields: Any) -> Post:
        return self._posts.transition(
            post.id,
            "scheduled",
            owned_by=self._owner,
            due_at=due,
            deferred_reason=reason,
            error=error.problem(),
            **fields,
        )

    def _fail(self, post: Post, error: PlatformError) -> Post:
        return self._finish(post, "failed", error=error.problem())

    def _finish(self, post: Post, to: str, *, only_from: frozenset[str] | None = None, **fields: Any) -> Post:
        done = self._posts.transition(post.id, to, owned_by=self._owner, only_from=only_from, **fields)
        self._settle(done)
        return done

    @staticmethod
    def _write(work: Callable[[], Post]) -> Post:
        """Try a write that must not be lost a few times before giving up (recovery by `look` is left then)."""
        for n in range(WRITE_TRIES):
            try:
                return work()
            except StorageError:
                if n == WRITE_TRIES - 1:
                    raise
                time.sleep(0.2 * 2**n)
        raise AssertionError("unreachable")


def _as_refusal(exc: DallaError, platform: str) -> PlatformError:
    """Turn an error of our own (a missing picture, no public address) into what publishing acts on."""
    action = "retry" if isinstance(exc, StorageError) else "fix"
    return PlatformError(
        exc.detail,
        platform=platform,
        cause=exc.code,
        action=action,  # type: ignore[arg-type]
        remedy=exc.remedy,
        errors=exc.errors,
    )


def _surprise(exc: Exception, platform: str, *, effect: Any) -> PlatformError:
    return PlatformError(
        f"Something unforeseen happened while posting ({type(exc).__name__}). The log has the details.",
        platform=platform,
        cause="internal",
        action="retry",
        effect=effect,
    )


def _short(text: str | None, longest: int = 64) -> str | None:
    return None if text is None else str(text)[:longest]
