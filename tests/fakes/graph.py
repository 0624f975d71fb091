"""A pretend Instagram Graph API on 127.0.0.1. It refuses what the real one refuses and counts posts, not calls.

    with GraphFake(accounts={"17841400000000001": "token"}) as fake:
        fake.fault("publish", code=4, subcode=2207051, effect=True)   # answers an error, the post is live
        fake.advance(hours=25)                                         # its clock; containers expire
        fake.published                                                 # what is really there

`open=True` takes any token (of the first account, until a request names another one) and any account id. A prefix with "facebook" in it behaves as graph.facebook.com.
"""

from __future__ import annotations

import io
import json
import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from tests.fakes.server import Call, LoopbackFake, Reply

ACCOUNT = "17841400000000001"
TOKEN = "IGAAfaketoken0123456789abcdefghij"
APP_ID, APP_SECRET = "1234567890", "fake-app-secret"
AGENT = "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MAX_BYTES = 8 * 1024 * 1024

Body = dict[str, Any]


class Refused(Exception):
    """An answer that is no success."""

    def __init__(
        self, code: int, subcode: int | None = None, message: str = "", *, http: int = 400, transient: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.subcode, self.message, self.http, self.transient = code, subcode, message, http, transient

    def reply(self, headers: Mapping[str, str]) -> Reply:
        error: Body = {
            "message": self.message or f"(#{self.code}) Refused",
            "type": "OAuthException",
            "code": self.code,
            "is_transient": self.transient,
            "fbtrace_id": "AFakeTrace0123456789",
        }
        if self.subcode is not None:
            error |= {"error_subcode": self.subcode, "error_user_title": "Refused", "error_user_msg": self.message}
        return Reply(self.http, {"error": error}, dict(headers))


@dataclass
class Account:
    """An Instagram account and its posts, newest last."""

    id: str
    username: str
    account_type: str = "BUSINESS"
    posts: list[Body] = field(default_factory=list)
    containers: list[datetime] = field(default_factory=list)

    @property
    def scoped_id(self) -> str:
        """The id of the account as this app sees it; it differs from the id in the paths."""
        return "9" + self.id[1:]


@dataclass
class Token:
    account: str
    issued: datetime
    expires: datetime
    state: str = "valid"  # valid | expired | revoked | no_scope | checkpoint


@dataclass
class Container:
    id: str
    account: str
    kind: str  # single | child | carousel | story
    body: Body
    created: datetime
    polls: int = 0
    error: str | None = None  # text of the status once it has failed
    media_id: str | None = None
    children: list[str] = field(default_factory=list)


@dataclass
class Fault:
    step: str
    times: int
    reply: Callable[[Mapping[str, str]], Reply]
    effect: bool
    skip: int


class GraphFake(LoopbackFake):
    """See the module. Attributes may be changed at any time."""

    def __init__(
        self,
        accounts: Mapping[str, str] | None = None,
        *,
        open: bool = False,
        port: int = 0,
        prefix: str = "",
        versions: tuple[str, ...] = ("v22.0", "v23.0", "v24.0", "v25.0", "v26.0"),
    ) -> None:
        super().__init__(port=port, prefix=prefix)
        self.open, self.versions = open, versions
        self.polls_until_finished = 0  # reads of a container that say IN_PROGRESS
        self.ready_after = 0.0  # seconds of its clock until a container is FINISHED
        self.quota_total, self.container_limit = 100, 400
        self.strict_png = True  # False: PNG is taken, as it often is in practice
        self.refuse_progressive = True
        self.max_hashtags: int | None = 30
        self.late_fetch_errors = False  # a picture that cannot be fetched fails the container, not its creation
        self.fetch_pictures = True
        self.header_tokens = True  # False: the Authorization header is not looked at
        self.list_captions = "facebook" in prefix  # Instagram login does not list captions
        self.list_lag = 0.0  # seconds until a post is listed
        self.usage_limit: int | None = None  # calls; above, everything is throttled
        self.regain_minutes = 30
        self.tokens_in_urls: list[str] = []
        self.fetched: list[str] = []
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, Token] = {}
        self.containers: dict[str, Container] = {}
        self._offset = timedelta()
        self._faults: list[Fault] = []
        self._calls = 0
        self._ids = random.Random(7)
        self._state = threading.RLock()
        for id, token in (accounts if accounts is not None else {ACCOUNT: TOKEN}).items():
            self.add_account(id, token)

    # ------------------------------------------------------------------ for tests

    @property
    def facebook(self) -> bool:
        return "facebook" in self.prefix

    @property
    def published(self) -> list[Body]:
        """Every post that is live, oldest first: id, account, kind, caption, image_urls, alt_texts, made_with_ai, at."""
        with self._state:
            posts = [post for account in self.accounts.values() for post in account.posts]
            return sorted(posts, key=lambda post: post["at"])

    def now(self) -> datetime:
        """Return the time of its clock."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float = 0, *, hours: float = 0, days: float = 0) -> None:
        """Put its clock forward."""
        self._offset += timedelta(seconds=seconds, hours=hours, days=days)

    def add_account(self, id: str, token: str, username: str | None = None) -> Account:
        account = Account(id, username or f"user_{id[-4:]}")
        self.accounts[id] = account
        now = self.now()
        self.tokens[token] = Token(id, now - timedelta(days=31), now + timedelta(days=29))
        return account

    def set_token_state(self, token: str, state: str) -> None:
        self.tokens[token].state = state

    def fault(
        self,
        step: str,
        *,
        code: int = 1,
        subcode: int | None = None,
        http: int = 400,
        message: str = "",
        transient: bool = False,
        effect: bool = False,
        cut: bool = False,
        text: str | None = None,
        times: int = 1,
        skip: int = 0,
    ) -> None:
        """Make a step go wrong `times` times after `skip` calls.

        step: create, read, publish, quota, list, permalink, me, refresh. effect: it happens first, then the
        answer is spoilt. cut: the connection ends without an answer. text: this instead of JSON (HTML of a proxy).
        """

        def reply(headers: Mapping[str, str]) -> Reply:
            if cut:
                return Reply(0)
            if text is not None:
                return Reply(http, text, dict(headers))
            return Refused(code, subcode, message or f"fault {code}/{subcode}", http=http, transient=transient).reply(
                headers
            )

        with self._state:
            self._faults.append(Fault(step, times, reply, effect, skip))

    def post_by_hand(self, account: str = ACCOUNT, caption: str = "", *, at: datetime | None = None) -> str:
        """Add a post that somebody made in the Instagram app."""
        with self._state:
            post = self._post(self.accounts[account], "single", caption, [], [], False, at or self.now())
            return post["id"]

    # ------------------------------------------------------------------ requests

    def handle(self, call: Call) -> Reply:
        with self._state:
            self._calls += 1
            headers = self._usage()
            try:
                return self._route(call, headers)
            except Refused as refused:
                return refused.reply(headers)

    def _route(self, call: Call, headers: dict[str, str]) -> Reply:
        values = _values(call)
        method = str(values.pop("method", call.method)).upper() if call.method == "POST" else call.method
        if "access_token" in call.query:
            self.tokens_in_urls.append(call.query["access_token"])
        parts = [p for p in call.path.split("/") if p]
        if parts and re.fullmatch(r"v\d+\.\d+", parts[0]):
            if parts[0] not in self.versions:
                raise Refused(2635, None, f"You are calling a deprecated version of the API: {parts[0]}.")
            parts = parts[1:]
        path = "/".join(parts)
        if path in ("oauth/access_token", "access_token"):
            return Reply(200, self._exchange(values), headers)
        if path == "debug_token":
            return Reply(200, self._debug(values), headers)
        if self.usage_limit is not None and self._calls > self.usage_limit:
            code = 80002 if parts and parts[0] in self.accounts else 4
            raise Refused(code, None, "There have been too many calls to this Instagram account.")
        name = self._token(call, values)
        if path == "refresh_access_token":
            return self._step("refresh", lambda: self._refresh(name, values), headers)
        token = self.tokens[name]
        if path == "me":
            return self._step("me", lambda: self._me(token, values), headers)
        if len(parts) == 2:
            account = self._account(parts[0], token)
            reads = {
                "media": lambda: self._list(account, values),
                "stories": lambda: self._stories(account, values),
                "content_publishing_limit": lambda: self._quota(account),
            }
            writes = {
                "media": ("create", lambda: self._create(account, values)),
                "media_publish": ("publish", lambda: self._publish(account, values)),
            }
            if method == "POST" and parts[1] in writes:
                self._needs_scope(token)
                step, act = writes[parts[1]]
                return self._step(step, act, headers)
            if method == "GET" and parts[1] in reads:
                if parts[1] == "content_publishing_limit":
                    self._needs_scope(token)
                step = "quota" if parts[1] == "content_publishing_limit" else "list"
                return self._step(step, reads[parts[1]], headers)
        if len(parts) == 1 and method == "GET":
            return self._read(parts[0], token, values, headers)
        raise Refused(2500, None, f"Unknown path components: /{path}")

    def _step(self, step: str, act: Callable[[], Body], headers: Mapping[str, str]) -> Reply:
        """Do it unless a fault is ordered; a fault may come after the effect."""
        for fault in self._faults:
            if fault.step != step:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                break
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
            if fault.effect:
                act()
            return fault.reply(headers)
        return Reply(200, act(), dict(headers))

    def _usage(self) -> dict[str, str]:
        limit = self.usage_limit or 200
        percent = min(100, self._calls * 100 // limit) if self.usage_limit is None else self._calls * 100 // limit
        regain = self.regain_minutes if self.usage_limit is not None and self._calls > self.usage_limit else 0
        row = {"type": "instagram", "call_count": percent, "total_cputime": 1, "total_time": 1}
        business = {"1": [row | {"estimated_time_to_regain_access": regain}]}
        return {
            "X-App-Usage": json.dumps({"call_count": percent, "total_cputime": 1, "total_time": 1}),
            "X-Business-Use-Case-Usage": json.dumps(business),
        }

    # ------------------------------------------------------------------ who asks

    def _token(self, call: Call, values: Body) -> str:
        scheme, _, credential = (call.headers.get("Authorization") or "").partition(" ")
        name = str(values.pop("access_token", "") or "")
        if not name and self.header_tokens and scheme.lower() in ("bearer", "oauth"):
            name = credential.strip()
        if not name:
            raise Refused(104, None, "An access token is required to request this resource.", http=401)
        if name not in self.tokens and self.open:
            now = self.now()
            self.tokens[name] = Token(next(iter(self.accounts)), now - timedelta(days=31), now + timedelta(days=29))
        token = self.tokens.get(name)
        if token is None:
            raise Refused(190, 467, "The access token is invalid.", http=401)
        states = {"revoked": (458, "The user has not authorized application."), "checkpoint": (459, "Checkpoint.")}
        if token.state == "expired" or self.now() >= token.expires:
            raise Refused(190, 463, f"Error validating access token {name}: Session has expired.")
        if token.state in states:
            raise Refused(190, states[token.state][0], states[token.state][1])
        return name

    def _needs_scope(self, token: Token) -> None:
        if token.state == "no_scope":
            raise Refused(10, None, "Application does not have permission for this action", http=403)

    def _account(self, id: str, token: Token) -> Account:
        if self.open and id.isdigit():
            if id not in self.accounts:
                self.accounts[id] = Account(id, f"user_{id[-4:]}")
            token.account = id
        if id == "me":
            id = token.account
        if id not in self.accounts or token.account != id:
            raise _unreadable(id)
        return self.accounts[id]

    def _me(self, token: Token, values: Body) -> Body:
        account = self.accounts[token.account]
        return _select(
            {
                "id": account.scoped_id,
                "user_id": account.id,
                "username": account.username,
                "name": account.username.title(),
                "account_type": account.account_type,
                "media_count": len(account.posts),
            },
            values,
        )

    # ------------------------------------------------------------------ tokens

    def _refresh(self, name: str, values: Body) -> Body:
        token = self.tokens[name]
        if values.get("grant_type") != "ig_refresh_token":
            raise Refused(100, None, "Invalid grant_type")
        if self.now() - token.issued < timedelta(hours=24):
            raise Refused(100, None, "The access token must be at least 24 hours old to be refreshed")
        return self._new_token(token)

    def _exchange(self, values: Body) -> Body:
        kind = values.get("grant_type")
        if kind == "client_credentials":
            if (values.get("client_id"), values.get("client_secret")) != (APP_ID, APP_SECRET) and not self.open:
                raise Refused(1, None, "Error validating client secret.")
            return {"access_token": f"{APP_ID}|{self._id()}", "token_type": "bearer"}
        old = str(values.get("fb_exchange_token" if kind == "fb_exchange_token" else "access_token") or "")
        if kind not in ("fb_exchange_token", "ig_exchange_token"):
            raise Refused(100, None, "Invalid grant_type")
        if values.get("client_secret") != APP_SECRET and not self.open:
            raise Refused(1, None, "Error validating client secret.")
        token = self.tokens.get(old)
        if token is None or token.state != "valid" or self.now() >= token.expires:
            raise Refused(190, 463, "Error validating access token: Session has expired.")
        return self._new_token(token)

    def _new_token(self, old: Token) -> Body:
        name = f"IGAArenewed{len(self.tokens):020d}"
        seconds = 60 * 24 * 3600
        self.tokens[name] = Token(old.account, self.now(), self.now() + timedelta(seconds=seconds))
        return {"access_token": name, "token_type": "bearer", "expires_in": seconds}

    def _debug(self, values: Body) -> Body:
        if values.get("access_token") != f"{APP_ID}|{APP_SECRET}":
            raise Refused(190, None, "Invalid OAuth access token")
        token = self.tokens.get(str(values.get("input_token") or ""))
        if token is None:
            return {"data": {"is_valid": False}}
        valid = token.state == "valid" and self.now() < token.expires
        return {"data": {"is_valid": valid, "expires_at": int(token.expires.timestamp()), "scopes": []}}

    # ------------------------------------------------------------------ containers

    def _create(self, account: Account, values: Body) -> Body:
        recent = [at for at in account.containers if at > self.now() - timedelta(hours=24)]
        if len(recent) >= self.container_limit:
            raise Refused(4, None, "The account has made too many containers.")
        kind, media_type = "single", str(values.get("media_type") or "")
        child = _flag(values.get("is_carousel_item"))
        children = values.get("children") or []
        ids = [c.strip() for c in children.split(",")] if isinstance(children, str) else [str(c) for c in children]
        if media_type not in ("", "IMAGE", "CAROUSEL", "STORIES"):
            raise Refused(100, 2207023, f"The media type {media_type} is unknown.")
        _check_caption(str(values.get("caption") or ""), self.max_hashtags)
        if media_type == "CAROUSEL":
            kind = "carousel"
            if not 2 <= len([i for i in ids if i]) <= 10:
                raise Refused(100, 2207028, "Carousel needs 2 to 10 children.")
            for id in ids:
                self._check_child(account, id)
        elif not values.get("image_url"):
            raise Refused(100, None, "The parameter image_url is required.")
        elif child:
            kind = "child"
            if "is_ai_generated" in values:
                raise Refused(100, None, "is_ai_generated is not supported on carousel items.")
            if values.get("caption"):
                raise Refused(100, None, "caption is not supported on carousel items.")
        elif media_type == "STORIES":
            kind = "story"
        error = None
        if kind != "carousel" and self.fetch_pictures:
            try:
                self._fetch(str(values["image_url"]), story=kind == "story")
            except Refused as refused:
                if not (self.late_fetch_errors and refused.code == 9004):
                    raise
                error = f"Error: Media upload has failed with error code {refused.subcode}"
        container = Container(
            self._id(),
            account.id,
            kind,
            dict(values),
            self.now(),
            error=error,
            children=ids if kind == "carousel" else [],
        )
        self.containers[container.id] = container
        account.containers.append(self.now())
        return {"id": container.id}

    def _check_child(self, account: Account, id: str) -> None:
        child = self.containers.get(id)
        if child is None or child.account != account.id or child.media_id or self._state_of(child)[0] == "EXPIRED":
            raise Refused(24, 2207008, "The media container is not found.")
        if child.kind != "child":
            raise Refused(100, 2207028, "A child was not made as is_carousel_item.")
        if self._state_of(child)[0] != "FINISHED":
            raise Refused(9007, 2207027, "The media is not ready for publishing, please wait for a moment")

    def _state_of(self, container: Container) -> tuple[str, str]:
        if container.media_id:
            return "PUBLISHED", "Published: Media has been published"
        age = (self.now() - container.created).total_seconds()
        if age >= 24 * 3600:
            return "EXPIRED", "Expired: The container was not published within 24 hours"
        if container.error:
            return "ERROR", container.error
        if container.polls < self.polls_until_finished or age < self.ready_after:
            return "IN_PROGRESS", "In Progress: Media is still being processed."
        return "FINISHED", "Finished: Media has been uploaded and it is ready to be published."

    def _read(self, id: str, token: Token, values: Body, headers: Mapping[str, str]) -> Reply:
        container = self.containers.get(id)
        if container is not None and (container.account == token.account or self.open):

            def state() -> Body:
                code, text = self._state_of(container)
                container.polls += 1
                return _select({"id": id, "status_code": code, "status": text}, values)

            return self._step("read", state, headers)
        for account in self.accounts.values():
            if account.id != token.account and not self.open:
                continue
            if id in (account.id, account.scoped_id):
                row = {"id": id, "username": account.username, "name": account.username.title()}
                return self._step("me", lambda row=row: _select(row, values), headers)
            for post in account.posts:
                if post["id"] == id:
                    return self._step("permalink", lambda post=post: _select(self._shown(post), values), headers)
        raise _unreadable(id)

    # ------------------------------------------------------------------ publishing

    def _publish(self, account: Account, values: Body) -> Body:
        id = str(values.get("creation_id") or "")
        container = self.containers.get(id)
        if container is None or container.account != account.id:
            raise Refused(24, 2207008, "The media container is not found.")
        state, _ = self._state_of(container)
        if state == "PUBLISHED":
            raise Refused(24, 2207006, "The media was published already.")
        if state in ("EXPIRED", "ERROR"):
            raise Refused(24, 2207008, "The media container has expired.")
        if container.kind == "child":
            raise Refused(100, None, "A carousel item cannot be published alone.")
        if state != "FINISHED":
            raise Refused(9007, 2207027, "The media is not ready for publishing, please wait for a moment")
        if self._used(account) >= self.quota_total:
            raise Refused(9, 2207042, "You have reached the maximum number of posts.")
        bodies = [self.containers[c].body for c in container.children] or [container.body]
        post = self._post(
            account,
            container.kind,
            str(container.body.get("caption") or ""),
            [str(b.get("image_url")) for b in bodies],
            [str(b.get("alt_text") or "") for b in bodies],
            _flag(container.body.get("is_ai_generated")),
            self.now(),
        )
        container.media_id = post["id"]
        for child in container.children:
            self.containers[child].media_id = post["id"]
        return {"id": post["id"]}

    def _post(
        self, account: Account, kind: str, caption: str, urls: list[str], alts: list[str], ai: bool, at: datetime
    ) -> Body:
        post = {
            "id": self._id(),
            "account": account.id,
            "kind": kind,
            "caption": caption,
            "image_urls": urls,
            "alt_texts": alts,
            "made_with_ai": ai,
            "at": at,
            "code": f"C{self._ids.randrange(16**8):08x}",
        }
        account.posts.append(post)
        return post

    def _used(self, account: Account) -> int:
        return sum(post["at"] > self.now() - timedelta(hours=24) for post in account.posts)

    def _quota(self, account: Account) -> Body:
        config = {"quota_total": self.quota_total, "quota_duration": 86400}
        return {"data": [{"quota_usage": self._used(account), "config": config}]}

    def _shown(self, post: Body) -> Body:
        kinds = {"carousel": "CAROUSEL_ALBUM"}
        shown = {
            "id": post["id"],
            "timestamp": post["at"].strftime("%Y-%m-%dT%H:%M:%S+0000"),
            "permalink": f"https://www.instagram.com/p/{post['code']}/",
            "media_type": kinds.get(post["kind"], "IMAGE"),
            "media_product_type": "STORY" if post["kind"] == "story" else "FEED",
        }
        return shown | {"caption": post["caption"]} if self.list_captions and post["caption"] else shown

    def _list(self, account: Account, values: Body) -> Body:
        return self._page([p for p in account.posts if p["kind"] != "story"], values)

    def _stories(self, account: Account, values: Body) -> Body:
        day = self.now() - timedelta(hours=24)
        return self._page([p for p in account.posts if p["kind"] == "story" and p["at"] > day], values)

    def _page(self, posts: list[Body], values: Body) -> Body:
        listed = [p for p in posts if (self.now() - p["at"]).total_seconds() >= self.list_lag]
        listed.sort(key=lambda post: post["at"], reverse=True)
        start, limit = int(values.get("after") or 0), min(100, int(values.get("limit") or 25))
        page: Body = {"data": [_select(self._shown(p), values) for p in listed[start : start + limit]]}
        if start + limit < len(listed):
            page["paging"] = {"cursors": {"after": str(start + limit)}}
        return page

    # ------------------------------------------------------------------ pictures

    def _fetch(self, url: str, *, story: bool) -> None:
        """Fetch as Meta does (here from loopback only) and look at the bytes."""
        import requests

        unfetchable = Refused(9004, 2207052, "Only photo or video can be accepted as media type.")
        body, kind = b"", ""
        try:
            for _ in range(3):
                if urlsplit(url).hostname not in LOOPBACK:
                    raise unfetchable
                self.fetched.append(url)
                with requests.Session() as session:
                    session.trust_env = False
                    got = session.get(url, headers={"User-Agent": AGENT}, timeout=10, allow_redirects=False)
                if 300 <= got.status_code < 400:
                    url = urljoin(url, got.headers.get("Location", ""))
                    continue
                body, kind = got.content, got.headers.get("Content-Type", "")
                break
        except requests.RequestException:
            raise unfetchable from None
        if not body or got.status_code != 200 or not kind.startswith("image/"):
            raise unfetchable
        self._check_picture(body, story, unfetchable)

    def _check_picture(self, body: bytes, story: bool, unfetchable: Refused) -> None:
        from PIL import Image

        if len(body) > MAX_BYTES:
            raise Refused(36000, 2207004, "The image is too large.")
        try:
            with Image.open(io.BytesIO(body)) as image:
                image.load()
                form, (width, height) = image.format, image.size
                progressive = bool(image.info.get("progressive"))
        except (OSError, ValueError, SyntaxError):
            raise unfetchable from None
        if form != "JPEG" and (self.strict_png or form != "PNG"):
            raise Refused(36001, 2207005, "The image format is not supported.")
        if progressive and self.refuse_progressive:
            raise unfetchable
        if not story and not 0.8 - 0.002 <= width / height <= 1.91 + 0.005:
            raise Refused(36003, 2207009, "The aspect ratio is not supported.")

    def _id(self) -> str:
        return f"17{self._ids.randrange(10**14, 10**15)}"


def _values(call: Call) -> Body:
    """Parameters may stand in the query, a form or JSON."""
    values: Body = dict(call.query)
    kind = (call.headers.get("Content-Type") or "").partition(";")[0]
    if kind == "application/json" and isinstance(call.json, dict):
        values |= call.json
    elif kind == "application/x-www-form-urlencoded":
        values |= dict(parse_qsl(call.body.decode(), keep_blank_values=True))
    return values


def _select(row: Body, values: Body) -> Body:
    """Only the fields asked for; the id always."""
    fields = [f.strip() for f in str(values.get("fields") or "id").split(",")]
    return {"id": row["id"]} | {k: v for k, v in row.items() if k in fields}


def _flag(value: Any) -> bool:
    return value is True or str(value).lower() == "true"


def _check_caption(caption: str, hashtags: int | None) -> None:
    if len(caption) > 2200:
        raise Refused(36004, 2207010, "The caption is too long.")
    if hashtags is not None and len(re.findall(r"#\w+", caption)) > hashtags:
        raise Refused(36004, 2207010, "The caption has too many hashtags.")
    if len(re.findall(r"@\w+", caption)) > 20:
        raise Refused(100, 2207040, "The caption has too many tags.")


def _unreadable(id: str) -> Refused:
    return Refused(
        100,
        33,
        f"Unsupported get request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, "
        "or does not support this operation.",
    )
