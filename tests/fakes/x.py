"""A pretend X API v2 that refuses what the real one refuses and counts what became visible (`fake.posted`).

OAuth 1.0a signatures are really verified (unless `open`), uploads are checked, posts cost credits, a recent text is a
duplicate, reads lag behind. `lose_answer` lets the effect happen and the answer get lost. Control: GET /_fake/state,
POST /_fake/reset.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from dalla import text_length
from tests.fakes.server import Call, LoopbackFake, Reply

DAY = 24 * 3600
WINDOW = 15 * 60
MAX_IMAGE = 5 * 1024 * 1024
MAX_GIF = 15 * 1024 * 1024
LIMITS = {"post": 100, "upload": 500, "chunk": 1875, "metadata": 500, "me": 75, "read": 900, "delete": 50}
POST_FIELDS = {
    "text", "media", "reply", "reply_settings", "community_id", "poll", "quote_tweet_id", "made_with_ai",
    "paid_partnership", "edit_options", "nullcast", "geo",
}  # fmt: skip
_MAGIC = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG", "image/gif": b"GIF8", "image/webp": b"RIFF"}


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass
class User:
    """An account with the four keys of an app that acts for it."""

    id: str
    username: str
    keys: dict[str, str]
    read_only: bool = False
    suspended: bool = False


@dataclass
class Media:
    """An upload."""

    id: str
    owner: str
    category: str
    expires: float
    total: int = 0
    mime: str = ""
    chunks: dict[int, bytes] = field(default_factory=dict)
    data: bytes | None = None
    steps: int = 0  # polls until it is ready
    alt_text: str = ""

    @property
    def key(self) -> str:
        return f"{16 if self.category == 'tweet_gif' else 3}_{self.id}"


@dataclass
class _Lost:
    method: str
    path: str
    reply: Reply
    times: int


class XFake(LoopbackFake):
    """`with XFake() as fake: Settings(x_api_url=fake.url)`, keys in `fake.user.keys`."""

    def __init__(self, *, open: bool = False, credits: float = 100.0, **more: Any) -> None:
        super().__init__(**more)
        self.open = open  # any keys will do
        self.offset = 0.0  # seconds the fake's clock is ahead
        self.credits = credits
        self.credits_variant = "credits"  # or "credits-depleted"
        self.lag = 0  # reads of a timeline that do not show a new post yet
        self.gif_steps = 1
        self.limits = dict(LIMITS)
        self.users: list[User] = []
        self.user = self.add_user("luna")
        self.reset()

    # ------------------------------------------------------------ for tests

    def reset(self) -> None:
        """Forget posts, uploads, counters and orders. Users stay."""
        with self._lock:
            self.posted: list[dict[str, Any]] = []
            self.media: dict[str, Media] = {}
            self.deleted: list[str] = []
            self.spent = 0.0
            self._nonces: set[tuple[str, str]] = set()
            self._used: dict[tuple[str, str], tuple[float, int]] = {}
            self._lost: list[_Lost] = []
            self._unseen: dict[str, int] = {}
            self._number = 0

    def add_user(self, username: str) -> User:
        """Create an account; its token begins with its number, as X's do."""
        id = str(1_500_000_000_000_000_000 + len(self.users))
        part = lambda kind: hashlib.sha256(f"{kind}{username}".encode()).hexdigest()[:32]  # noqa: E731
        keys = {
            "twitter_app_key": part("app"),
            "twitter_app_secret": part("app-secret"),
            "twitter_access_token": f"{id}-{part('token')}",
            "twitter_access_secret": part("token-secret"),
        }
        user = User(id, username, keys)
        self.users.append(user)
        return user

    def lose_answer(self, path: str = "/2/tweets", *, status: int = 0, body: Any = b"", times: int = 1) -> None:
        """The next `times` POSTs to this path do their work, but this is answered (0: the connection is cut)."""
        with self._lock:
            self._lost.append(_Lost("POST", path, Reply(status, body), times))

    def clock(self) -> float:
        """Unix seconds as the fake sees them."""
        return time.time() + self.offset

    # ------------------------------------------------------------ requests

    def handle(self, call: Call) -> Reply:
        with self._lock:
            if call.path.startswith("/_fake/"):
                return self._control(call)
            headers: dict[str, str] = {}
            try:
                reply = self._route(call, headers)
            except Refused as refused:
                reply = refused.reply
            lost = next((x for x in self._lost if x.method == call.method and x.path == call.path), None)
            if lost and reply.status < 300:
                lost.times -= 1
                if not lost.times:
                    self._lost.remove(lost)
                reply = Reply(lost.reply.status, lost.reply.body, dict(lost.reply.headers))
            reply.headers = {**headers, **reply.headers}
            return reply

    def _control(self, call: Call) -> Reply:
        if call.path == "/_fake/reset" and call.method == "POST":
            self.reset()
        return Reply(200, {"posted": self.posted, "uploads": len(self.media), "credits": self.credits})

    def _route(self, call: Call, headers: dict[str, str]) -> Reply:
        path, method = call.path, call.method
        if path.startswith("/1.1/"):
            raise _errors(403, 453, "You currently have access to a subset of X API V2 endpoints only.")
        routes: list[tuple[str, str, str, Callable[..., Reply]]] = [
            ("GET", r"/2/users/me", "me", self._me),
            ("GET", r"/2/users/(\d+)/tweets", "read", self._timeline),
            ("GET", r"/2/tweets/(\d+)", "read", self._one),
            ("DELETE", r"/2/tweets/(\d+)", "delete", self._delete),
            ("POST", r"/2/tweets", "post", self._post),
            ("POST", r"/2/media/upload", "upload", self._upload),
            ("GET", r"/2/media/upload", "upload", self._status),
            ("POST", r"/2/media/upload/initialize", "chunk", self._initialize),
            ("POST", r"/2/media/upload/(\d+)/append", "chunk", self._append),
            ("POST", r"/2/media/upload/(\d+)/finalize", "chunk", self._finalize),
            ("POST", r"/2/media/metadata", "metadata", self._metadata),
        ]
        for verb, pattern, limit, work in routes:
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                user = self._authenticate(call)
                headers["x-access-level"] = "read" if user.read_only else "read-write"
                headers["x-transaction-id"] = f"{len(self.requests):016x}"
                self._count(user, limit, headers)
                if user.suspended:
                    raise _errors(403, 64, "Your account is suspended and is not permitted to access this feature.")
                if user.read_only and method != "GET":
                    raise Refused(
                        Reply(
                            403,
                            {
                                "title": "Forbidden",
                                "status": 403,
                                "detail": "Your client app is not configured with the appropriate oauth1 app permissions "
                                "for this endpoint.",
                                "type": "https://api.twitter.com/2/problems/oauth1-permissions",
                            },
                        )
                    )
                return work(user, call, *found.groups())
        raise _problem(404, "Not Found", f"Nothing at {path}")

    # ------------------------------------------------------------ who asks

    def _authenticate(self, call: Call) -> User:
        header = call.headers.get("Authorization") or ""
        if header.startswith("Bearer "):
            raise Refused(
                Reply(
                    403,
                    {
                        "title": "Unsupported Authentication",
                        "detail": "Authenticating with OAuth 2.0 Application-Only is forbidden for this endpoint.",
                        "type": "https://api.twitter.com/2/problems/unsupported-authentication",
                        "status": 403,
                    },
                )
            )
        given = {k: _decoded(v) for k, v in re.findall(r'(\w+)="([^"]*)"', header)}
        if not header.startswith("OAuth ") or "oauth_signature" not in given:
            raise _problem(401, "Unauthorized", "Unauthorized")
        if self.open:
            return self._anybody(given)
        user = next(
            (
                u
                for u in self.users
                if u.keys["twitter_app_key"] == given.get("oauth_consumer_key")
                and u.keys["twitter_access_token"] == given.get("oauth_token")
            ),
            None,
        )
        if user is None:
            raise _errors(401, 89, "Invalid or expired token.")
        if abs(float(given.get("oauth_timestamp") or 0) - self.clock()) > 300:
            raise _errors(401, 135, "Timestamp out of bounds.")
        if not hmac.compare_digest(self._signature(call, given, user), given["oauth_signature"]):
            raise _errors(401, 32, "Could not authenticate you.")
        nonce = (given["oauth_timestamp"], given["oauth_nonce"])
        if nonce in self._nonces:
            raise _errors(401, 32, "Could not authenticate you.")
        self._nonces.add(nonce)
        return user

    def _signature(self, call: Call, given: dict[str, str], user: User) -> str:
        pairs = [(k, v) for k, v in given.items() if k not in ("oauth_signature", "realm")]
        pairs += list(call.query.items())
        if (call.headers.get("Content-Type") or "").startswith("application/x-www-form-urlencoded"):
            pairs += parse_qsl(call.body.decode(), keep_blank_values=True)
        joined = "&".join(f"{k}={v}" for k, v in sorted((_encoded(a), _encoded(b)) for a, b in pairs))
        address = f"http://{(call.headers.get('Host') or '').lower()}{self.prefix}{call.path}"
        text = "&".join([call.method.upper(), _encoded(address), _encoded(joined)])
        secret = f"{_encoded(user.keys['twitter_app_secret'])}&{_encoded(user.keys['twitter_access_secret'])}"
        return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()

    def _anybody(self, given: dict[str, str]) -> User:
        token = given.get("oauth_token", "")
        user = next((u for u in self.users if u.keys["twitter_access_token"] == token), None)
        if user is None:
            user = self.add_user(f"account{len(self.users)}")
            own = re.match(r"(\d+)-", token)
            user.id = own[1] if own else user.id
            user.keys["twitter_access_token"] = token
        return user

    def _count(self, user: User, limit: str, headers: dict[str, str]) -> None:
        begun, used = self._used.get((user.id, limit), (self.clock(), 0))
        if self.clock() - begun >= WINDOW:
            begun, used = self.clock(), 0
        most = self.limits[limit]
        headers["x-rate-limit-limit"] = str(most)
        headers["x-rate-limit-remaining"] = str(max(0, most - used - 1))
        headers["x-rate-limit-reset"] = str(int(begun + WINDOW))
        if used >= most:
            raise _problem(429, "Too Many Requests", "Too Many Requests")
        self._used[(user.id, limit)] = (begun, used + 1)

    def _charge(self, price: float) -> None:
        if self.credits < price:
            if self.credits_variant == "credits":
                body = {"title": "CreditsDepleted", "detail": "Your enrolled account does not have any credits."}
            else:
                body = {"title": "Payment Required", "detail": "Credits are depleted."}
            raise Refused(Reply(402, {**body, "type": f"https://api.x.com/2/problems/{self.credits_variant}"}))
        self.credits -= price
        self.spent += price

    # ------------------------------------------------------------ uploads

    def _upload(self, user: User, call: Call) -> Reply:
        fields, data = _form(call)
        if data is None:
            raise _problem(400, "Invalid Request", "media is required.")
        category = fields.get("media_category") or ""
        if category not in ("tweet_image", "tweet_gif"):
            raise _problem(400, "Invalid Request", "$.media_category: is missing but it is required")
        media = Media(self._new_id(), user.id, category, self.clock() + DAY)
        self._accept(media, data)
        return Reply(200, {"data": self._told(media)})

    def _initialize(self, user: User, call: Call) -> Reply:
        body = call.json or {}
        if not {"media_type", "total_bytes", "media_category"} <= set(body):
            raise _problem(400, "Invalid Request", "media_type, total_bytes and media_category are required.")
        media = Media(self._new_id(), user.id, body["media_category"], self.clock() + DAY, int(body["total_bytes"]))
        media.mime = body["media_type"]
        self.media[media.id] = media
        return Reply(200, {"data": self._told(media)})

    def _append(self, user: User, call: Call, id: str) -> Reply:
        media = self._own(user, id)
        fields, data = _form(call)
        index = int(fields.get("segment_index", "-1"))
        if data is None or not 0 <= index <= 999 or len(data) > MAX_IMAGE:
            raise _problem(400, "Invalid Request", "segment_index or media is invalid.")
        media.chunks[index] = data
        return Reply(200, {"data": {"expires_at": int(media.expires)}})

    def _finalize(self, user: User, call: Call, id: str) -> Reply:
        media = self._own(user, id)
        data = b"".join(media.chunks[i] for i in sorted(media.chunks))
        if sorted(media.chunks) != list(range(len(media.chunks))) or len(data) != media.total:
            raise _problem(400, "Invalid Request", "Segments do not add up to total_bytes.")
        if media.category == "tweet_gif":
            media.steps = self.gif_steps
        self._accept(media, data)
        return Reply(200, {"data": self._told(media)})

    def _status(self, user: User, call: Call) -> Reply:
        if call.query.get("command") != "STATUS":
            raise _problem(400, "Invalid Request", "command must be STATUS.")
        media = self._own(user, call.query.get("media_id", ""))
        media.steps = max(0, media.steps - 1)
        return Reply(200, {"data": self._told(media)})

    def _metadata(self, user: User, call: Call) -> Reply:
        body = call.json or {}
        text = ((body.get("metadata") or {}).get("alt_text") or {}).get("text")
        if not re.fullmatch(r"\d{1,19}", str(body.get("id"))) or not isinstance(text, str) or len(text) > 1000:
            raise _problem(400, "Invalid Request", "id or alt_text is invalid.")
        media = self._own(user, body["id"])
        self._charge(0.005)
        media.alt_text = text
        return Reply(200, {"data": {"id": media.id, "associated_metadata": body["metadata"]}})

    def _accept(self, media: Media, data: bytes) -> None:
        gif = media.category == "tweet_gif"
        if len(data) > (MAX_GIF if gif else MAX_IMAGE):
            raise _problem(413, "Request Entity Too Large", "The media file is too large.")
        if not any(data.startswith(magic) for magic in _MAGIC.values()) or gif != data.startswith(b"GIF8"):
            raise _problem(400, "Invalid Request", "media type unrecognized.")
        media.data = data
        self.media[media.id] = media

    def _own(self, user: User, id: str) -> Media:
        media = self.media.get(id)
        if media is None or media.owner != user.id or media.expires < self.clock():
            raise _problem(400, "Invalid Request", f"Your media IDs are invalid: {id} was not found.")
        return media

    def _told(self, media: Media) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": media.id,
            "media_key": media.key,
            "size": len(media.data or b"") or media.total,
            "expires_after_secs": int(media.expires - self.clock()),
        }
        if media.steps:
            told["processing_info"] = {"state": "in_progress", "check_after_secs": 1, "progress_percent": 50}
        elif media.category == "tweet_gif" and media.data:
            told["processing_info"] = {"state": "succeeded", "progress_percent": 100}
        return told

    # ------------------------------------------------------------ posts

    def _post(self, user: User, call: Call) -> Reply:
        body = call.json
        if not isinstance(body, dict) or set(body) - POST_FIELDS:
            raise _problem(400, "Invalid Request", "One or more parameters to your request was invalid.")
        text = body.get("text") or ""
        ids = [str(i) for i in (body.get("media") or {}).get("media_ids") or []]
        if not text.strip() and not ids:
            raise _problem(400, "Invalid Request", "$.text: is missing but it is required")
        if len(ids) > 4:
            raise _problem(400, "Invalid Request", "$.media.media_ids: must have a maximum of 4 items in the array")
        files = [self.media.get(i) for i in ids]
        for id, media in zip(ids, files, strict=True):
            if not media or media.owner != user.id or media.expires < self.clock() or media.data is None or media.steps:
                raise _problem(400, "Invalid Request", f"Your media IDs are invalid: {id}")
        if len({m.category for m in files if m}) > 1 or (
            len(files) > 1 and files[0] and files[0].category == "tweet_gif"
        ):
            raise _problem(400, "Invalid Request", "Your media IDs are invalid: four pictures or one GIF")
        if text_length.weighted_length(text) > 280:
            raise _problem(403, "Forbidden", "Your Tweet text is too long. (186)")
        if len(set(re.findall(r"(?<!\w)\$[A-Za-z]{1,6}\b", text))) > 1:
            raise _problem(400, "Invalid Request", "A post may have only one cashtag.")
        plain = " ".join(text_length.normalized(text).split())
        recent = [p for p in self.posted if p["userId"] == user.id and self.clock() - p["at"] < DAY]
        if plain and any(p["plain"] == plain for p in recent):
            raise _problem(403, "Forbidden", "You are not allowed to create a Tweet with duplicate content.")
        links = text_length.find_links(text_length.normalized(text))
        self._charge(0.200 if links else 0.015)
        post = self._stored(user, text, plain, [m for m in files if m], bool(body.get("made_with_ai")))
        return Reply(201, {"data": {"id": post["id"], "text": post["text"], "edit_history_tweet_ids": [post["id"]]}})

    def _stored(self, user: User, text: str, plain: str, files: list[Media], made_with_ai: bool) -> dict[str, Any]:
        id = self._new_id()
        told, urls = text_length.normalized(text), []
        for link in reversed(text_length.find_links(told)):
            short = f"https://t.co/{hashlib.sha256(f'{id}{link.start}'.encode()).hexdigest()[:10]}"
            told = told[: link.start] + short + told[link.end :]
            long = link.text if "://" in link.text else f"http://{link.text}"
            urls.insert(0, {"url": short, "expanded_url": long, "display_url": link.text})
        told = html.escape(told, quote=False)
        if files:
            short = f"https://t.co/{hashlib.sha256(id.encode()).hexdigest()[:10]}"
            told = f"{told} {short}".strip()
            address = f"https://x.com/{user.username}/status/{id}/photo/1"
            urls += [{"url": short, "expanded_url": address, "media_key": m.key} for m in files]
        post = {
            "id": id,
            "text": told,
            "written": text,
            "plain": plain,
            "userId": user.id,
            "username": user.username,
            "mediaIds": [m.id for m in files],
            "mediaKeys": [m.key for m in files],
            "altTexts": [m.alt_text for m in files],
            "sha256": [hashlib.sha256(m.data or b"").hexdigest() for m in files],
            "madeWithAi": made_with_ai,
            "entities": {"urls": urls} if urls else {},
            "at": self.clock(),
        }
        self.posted.append(post)
        self._unseen[id] = self.lag
        return post

    def _me(self, user: User, call: Call) -> Reply:
        return Reply(200, {"data": {"id": user.id, "name": user.username.title(), "username": user.username}})

    def _timeline(self, user: User, call: Call, id: str) -> Reply:
        most = int(call.query.get("max_results", "10"))
        if not 5 <= most <= 100:
            raise _problem(400, "Invalid Request", f"The `max_results` query parameter value [{most}] is not in 5..100")
        start = datetime.fromisoformat(call.query.get("start_time", "2010-11-06T00:00:00Z")).timestamp()
        if start > self.clock():
            raise _problem(400, "Invalid Request", "Invalid 'start_time': must not be in the future.")
        found = []
        for post in reversed(self.posted):
            if post["userId"] != id or int(post["at"]) < start:
                continue
            if self._unseen.get(post["id"], 0) > 0:
                self._unseen[post["id"]] -= 1
                continue
            found.append(self._public(post, call.query.get("tweet.fields", "")))
        body: dict[str, Any] = {"meta": {"result_count": len(found[:most])}}
        return Reply(200, {"data": found[:most], **body} if found else body)

    def _one(self, user: User, call: Call, id: str) -> Reply:
        post = next((p for p in self.posted if p["id"] == id), None)
        if post is None:
            return Reply(200, {"errors": [{"title": "Not Found Error", "detail": f"Could not find tweet {id}."}]})
        return Reply(200, {"data": self._public(post, call.query.get("tweet.fields", ""))})

    def _delete(self, user: User, call: Call, id: str) -> Reply:
        before = len(self.posted)
        self.posted = [p for p in self.posted if p["id"] != id or p["userId"] != user.id]
        self.deleted += [id] if len(self.posted) < before else []
        return Reply(200, {"data": {"deleted": len(self.posted) < before}})

    def _public(self, post: dict[str, Any], wanted: str) -> dict[str, Any]:
        told = {"id": post["id"], "text": post["text"], "edit_history_tweet_ids": [post["id"]]}
        if "created_at" in wanted:
            told["created_at"] = datetime.fromtimestamp(post["at"], UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        if "entities" in wanted and post["entities"]:
            told["entities"] = post["entities"]
        if "attachments" in wanted and post["mediaKeys"]:
            told["attachments"] = {"media_keys": post["mediaKeys"]}
        return told

    def _new_id(self) -> str:
        self._number += 1
        return str(((int(self.clock() * 1000) - 1_288_834_974_657) << 22) + self._number)


# ---------------------------------------------------------------- wire forms


def _encoded(text: str) -> str:
    return quote(text, safe="~-._")


def _decoded(text: str) -> str:
    return unquote(text)


def _problem(status: int, title: str, detail: str) -> Refused:
    kind = "https://api.twitter.com/2/problems/invalid-request" if status == 400 else "about:blank"
    return Refused(Reply(status, {"title": title, "detail": detail, "type": kind, "status": status}))


def _errors(status: int, code: int, message: str) -> Refused:
    return Refused(Reply(status, {"errors": [{"code": code, "message": message}]}))


def _form(call: Call) -> tuple[dict[str, str], bytes | None]:
    """Return the fields and the media of a multipart or JSON upload."""
    kind = call.headers.get("Content-Type") or ""
    if kind.startswith("application/json"):
        body = json.loads(call.body or b"{}")
        data = base64.b64decode(body["media"]) if body.get("media") else None
        return {k: str(v) for k, v in body.items() if k != "media"}, data
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + call.body)
    fields, media = {}, None
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        payload = part.get_payload(decode=True)
        if name == "media":
            media = payload if isinstance(payload, bytes) else None
        elif isinstance(payload, bytes):
            fields[name] = payload.decode()
    return fields, media
