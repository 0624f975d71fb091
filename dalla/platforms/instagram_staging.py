"""Bringing pictures to Instagram: containers made, waited for, and replaced when they die. All of it invisible."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from dalla import times
from dalla.errors import DallaError, NotConfigured, NotFound
from dalla.platforms import instagram_account, instagram_errors
from dalla.platforms.base import Account, Files, NotReady, PlatformError, Watch
from dalla.platforms.instagram_api import Graph
from dalla.records.post import PreparedFile, Snapshot
from dalla.settings import Settings

NAME = instagram_errors.NAME
#: Pauses between looks at a new container, in seconds; afterwards every 15 s to 5 min, then every minute.
PAUSES = (1.0, 2.0, 3.0, 5.0, 8.0)
IN_CALL_SECONDS = 4.0  # one call of `stage` sleeps no longer than this
SLOW_AFTER = 300.0
GIVE_UP_AFTER = 1800.0
CONTAINER_HOURS = 23  # they die after 24
BLIND_AFTER = 45.0  # an unreadable container of ours is published unseen after so many seconds
MAX_RESTARTS = 3
RESTART_PAUSES = (5.0, 20.0, 60.0)
QUOTA_FRESH_SECONDS = 600.0


class Staging:
    """One call of `Instagram.stage`."""

    def __init__(
        self,
        settings: Settings,
        account: Account,
        snapshot: Snapshot,
        remote: dict[str, Any],
        files: Files,
        watch: Watch,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self.now, self._sleep = now, sleep
        self.account, self.snapshot, self.files, self.watch = account, snapshot, files, watch
        self.graph = Graph(settings, account, now)
        self.remote = dict(remote)
        self.slept = 0.0

    def run(self) -> dict[str, Any]:
        self._begin()
        fresh = not self.remote.get("container") and not self.remote.get("children")
        if fresh:
            self._check_quota()
        try:
            if not self.remote.get("container"):
                children = self._children() if self.snapshot.kind == "carousel" else []
                self._parent(children)
            self._wait(self.remote, "containerAt", "container")
        except PlatformError as exc:
            if exc.restart:
                self._start_over(exc)
            if exc.cause == "throttled":
                throttled(self.remote, exc, self.now())
                self.watch.save(self.remote)
            raise
        self.remote.pop("throttled", None)
        if not fresh and self._quota_is_old():
            self._check_quota()
        return self.remote

    # ------------------------------------------------------------------ beginning

    def _begin(self) -> None:
        """Forget containers of other content, and those too old to live."""
        of = _fingerprint(self.snapshot)
        if self.remote.get("of") != of:
            self.remote = {"of": of}
        made = [c.get("at") for c in self.remote.get("children") or []] + [self.remote.get("containerAt")]
        oldest = min((m for m in made if m), default=None)
        if oldest and self.now() - times.parse(oldest) > timedelta(hours=CONTAINER_HOURS):
            drop_container(self.remote)
        if hold := self.remote.get("hold"):
            if times.parse(hold["until"]) > self.now():
                raise _held(hold)
            del self.remote["hold"]
        if not self.snapshot.files:
            raise self._refuse("no_picture", "Instagram posts need at least one picture.", "Choose a picture.")
        if self.snapshot.kind == "carousel" and not 2 <= len(self.snapshot.files) <= 10:
            raise self._refuse("carousel_count", "A carousel needs 2 to 10 pictures.", "Choose 2 to 10 pictures.")

    def _check_quota(self) -> None:
        """Read how many posts are left. Raises PlatformError(defer) when none is; unreadable counts as some."""
        with self.watch.step("quota"):
            try:
                used, total = instagram_account.quota(self.graph)
            except PlatformError as exc:
                if exc.stops_account:
                    raise
                return
            self.remote["quotaAt"] = times.iso(self.now())
            self.account.extra["quota"] = {"used": used, "total": total, "at": self.remote["quotaAt"]}
            if used is None or total is None or used < total:
                return
            until = instagram_account.quota_frees_at(self.graph, self.now())
            raise PlatformError(
                f"The account has used its {total} posts of the last 24 hours.",
                platform=NAME,
                cause="quota",
                action="defer",
                until=until,
                retry_after=(until - self.now()).total_seconds(),
                remedy="Nothing to do: the post goes out as soon as Instagram allows another one.",
            )

    def _quota_is_old(self) -> bool:
        at = self.remote.get("quotaAt")
        return not at or (self.now() - times.parse(at)).total_seconds() > QUOTA_FRESH_SECONDS

    # ------------------------------------------------------------------ containers

    def _children(self) -> list[str]:
        """Make one container per picture, then wait for each. Returns their ids in order."""
        children = [dict(c) for c in self.remote.get("children") or []]
        self.remote["children"] = children
        for index in range(len(children), len(self.snapshot.files)):
            body: dict[str, Any] = {"image_url": self._url(self.snapshot.files[index]), "is_carousel_item": True}
            if alt := self._alt(index):
                body["alt_text"] = alt
            children.append({"id": self._create(body), "at": times.iso(self.now())})
            self.watch.save(self.remote)
        for child in children:
            self._wait(child, "at", "id")
        return [child["id"] for child in children]

    def _parent(self, children: list[str]) -> None:
        body: dict[str, Any] = {}
        if self.snapshot.kind == "carousel":
            body = {"media_type": "CAROUSEL", "children": ",".join(children)}
        elif self.snapshot.kind == "story":
            body = {"media_type": "STORIES", "image_url": self._url(self.snapshot.files[0])}
        else:
            body = {"image_url": self._url(self.snapshot.files[0])}
            if alt := self._alt(0):
                body["alt_text"] = alt
        if self.snapshot.kind != "story":
            if self.snapshot.caption:
                body["caption"] = self.snapshot.caption
            if self.snapshot.options.made_with_ai:
                body["is_ai_generated"] = True
        try:
            self.remote["container"] = self._create(body)
        except PlatformError as exc:
            if children and exc.cause == "container_missing":  # the pictures of the carousel are gone
                raise self._dead(exc.detail) from exc
            raise
        self.remote["containerAt"] = times.iso(self.now())
        self.remote.pop("polls", None)
        self.remote.pop("ready", None)
        self.watch.save(self.remote)

    def _create(self, body: dict[str, Any]) -> str:
        self.watch.check_cancelled()
        with self.watch.step("container"):
            answer = self.graph.post(f"{self.graph.id}/media", body)
            if not answer.get("id"):
                raise instagram_errors.make(instagram_errors.UNKNOWN, now=self.now())
            return str(answer["id"])

    # ------------------------------------------------------------------ waiting

    def _wait(self, record: dict[str, Any], born: str, key: str) -> None:
        """Return when the container is ready. Raises NotReady to come back later, PlatformError when it is dead."""
        if record.get("ready"):
            return
        with self.watch.step("poll"):
            pause = self._poll(record, born, key)
        if pause is not None:
            self.watch.save(self.remote)
            raise NotReady(pause, "Instagram is processing the picture.")
        record["ready"] = True
        self.watch.save(self.remote)

    def _poll(self, record: dict[str, Any], born: str, key: str) -> float | None:
        """Read the state until it is ready (None) or the patience of one call is used up (seconds to wait)."""
        while True:
            age = (self.now() - times.parse(record[born])).total_seconds()
            if self._ready(record[key], age):
                return None
            polls = int(record.get("polls") or 0)
            record["polls"] = polls + 1
            if age > GIVE_UP_AFTER:
                raise self._dead("Instagram did not finish processing the picture within half an hour.")
            pause = PAUSES[polls] if polls < len(PAUSES) else 15.0 if age < SLOW_AFTER else 60.0
            if self.slept + pause > IN_CALL_SECONDS:
                return pause
            self.watch.check_cancelled()
            self.slept += pause
            self._sleep(pause)

    def _ready(self, id: str, age: float) -> bool:
        """Read the state once. Raises PlatformError for a dead container."""
        try:
            answer = self.graph.get(id, fields="status_code,status")
        except PlatformError as exc:
            if exc.cause == "unreadable":  # also seen in outages: ours exists nevertheless
                return age >= BLIND_AFTER
            if exc.cause == "container_missing":
                if age >= 2 * BLIND_AFTER:
                    raise self._dead("Instagram lost the upload.") from exc
                return False
            if exc.cause in ("network", "timeout", "server_error"):
                return False
            raise
        state, text = str(answer.get("status_code") or ""), str(answer.get("status") or "")
        if state == "PUBLISHED":
            self.remote["published"] = True  # by an earlier try: publish() must not ask for it again
        if state in ("FINISHED", "PUBLISHED"):
            return True
        if state == "EXPIRED":
            raise self._dead("The upload was not published within 24 hours and has expired.")
        if state == "ERROR" or (not state and text.lower().startswith("error")):
            raise self._failed(text)
        return False

    def _failed(self, text: str) -> PlatformError:
        subcode = instagram_errors.subcode_in(text)
        if subcode is None:
            return self._dead(f"Instagram could not process the picture. Instagram says: {text[:200]}")
        rule = instagram_errors.rule_for(None, subcode)
        return instagram_errors.make(rule, now=self.now(), said=text, subcode=subcode)

    def _dead(self, detail: str) -> PlatformError:
        return PlatformError(
            detail,
            platform=NAME,
            cause="container_dead",
            action="retry",
            restart=True,
            remedy="Nothing to do: it is uploaded again by itself.",
        )

    def _start_over(self, exc: PlatformError) -> None:
        """Throw the containers away; come back soon with new ones, or give the error on after the third time."""
        restarts = int(self.remote.get("restarts") or 0)
        drop_container(self.remote)
        self.remote["restarts"] = restarts + 1
        self.watch.save(self.remote)
        exc.restart = False  # done here; the count of restarts must survive
        if restarts < MAX_RESTARTS:
            raise NotReady(RESTART_PAUSES[restarts], exc.detail) from exc

    # ------------------------------------------------------------------ parts

    def _url(self, file: PreparedFile) -> str:
        try:
            return self.files.public_url(file)
        except PlatformError:
            raise
        except DallaError as exc:
            lasting = isinstance(exc, NotConfigured | NotFound)
            raise PlatformError(
                exc.detail,
                platform=NAME,
                cause="hosting",
                action="fix" if lasting else "retry",
                remedy=exc.remedy,
            ) from exc

    def _alt(self, index: int) -> str:
        texts = self.snapshot.alt_texts
        return texts[index].strip() if index < len(texts) else ""

    def _refuse(self, cause: str, detail: str, remedy: str) -> PlatformError:
        return PlatformError(detail, platform=NAME, cause=cause, action="fix", remedy=remedy)


def drop_container(remote: dict[str, Any]) -> None:
    """Forget what belongs to the containers; the counts of restarts and throttles stay."""
    for key in ("container", "containerAt", "children", "polls", "ready", "published", "publishTries", "lost"):
        remote.pop(key, None)


def throttled(remote: dict[str, Any], error: PlatformError, now: datetime) -> None:
    """Wait longer each time in a row."""
    if error.cause == "throttled":
        remote["throttled"] = int(remote.get("throttled") or 0) + 1
        instagram_errors.be_patient(error, remote["throttled"], now)


def hold_of(error: PlatformError) -> dict[str, Any]:
    """Keep a refusal that says for how long, so that a post which is not live after all waits for its end."""
    return {
        "until": times.iso(error.until) if error.until else None,
        "detail": error.detail,
        "remedy": error.remedy,
        "cause": error.cause,
        "action": error.action,
        "stops": error.stops_account,
    }


def _held(hold: dict[str, Any]) -> PlatformError:
    return PlatformError(
        hold["detail"],
        platform=NAME,
        cause=hold["cause"],
        action=hold["action"],
        stops_account=hold["stops"],
        until=times.parse(hold["until"]),
        remedy=hold["remedy"],
    )


def _fingerprint(snapshot: Snapshot) -> str:
    """Name the content, so that containers of an earlier version of the post are never published."""
    parts = [
        snapshot.kind,
        snapshot.caption,
        snapshot.alt_texts,
        [f.sha256 for f in snapshot.files],
        snapshot.options.made_with_ai,
    ]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]
