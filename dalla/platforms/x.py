"""X (Twitter): pictures by the v2 upload, the post by tweepy, OAuth 1.0a with the four keys of the account.

X has no idempotency key. After a lost answer the account's own timeline is read: a post with our uploaded picture
(or, without one, our words) is ours. What is not found there within three minutes a person settles.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from dalla import text_length
from dalla.platforms import x_errors
from dalla.platforms.base import Account, Check, Files, Look, NotReady, PlatformError, Published, Watch
from dalla.platforms.x_upload import CHUNK, SIMPLE_MAX, Api, Upload, answer
from dalla.records.platform import Credential, ImageRules, Issue, PlatformInfo, TextRules
from dalla.records.post import Snapshot
from dalla.settings import Settings
from dalla.times import iso, now_iso, parse

#: US dollars, pay-per-use prices of April 2026.
PRICE_POST, PRICE_POST_WITH_LINK, PRICE_ALT_TEXT = 0.015, 0.20, 0.005
#: Our clock and X's may differ by so much when the timeline is read.
SKEW_SECONDS = 60
#: Pauses after looks that found nothing; after the last one nobody but a person can tell.
LOOKS = (30.0, 150.0)
#: The same for looks that X did not answer.
BLIND_LOOKS = (30.0, 150.0, 300.0, 600.0, 900.0, 1800.0)
_EPOCH_MS = 1_288_834_974_657
_CASHTAG = re.compile(r"(?<![\w$&])\$[A-Za-z]{1,6}(?:[._][A-Za-z]{1,2})?(?![\w$])")
_KEY_HELP = "X developer console → your app → Keys and tokens"


class X:
    """The platform "twitter"."""

    info = PlatformInfo(
        name=x_errors.NAME,
        label="X",
        kinds=("single", "carousel"),
        credentials=(
            Credential("twitter_app_key", "API key", help=_KEY_HELP),
            Credential("twitter_app_secret", "API key secret", help=_KEY_HELP),
            Credential("twitter_access_token", "Access token", help="Created after the app was set to Read and write"),
            Credential("twitter_access_secret", "Access token secret", help="Shown together with the access token"),
            Credential(
                "twitter_account_id",
                "Account id",
                secret=False,
                required=False,
                help="The number of the account; guards against keys of another account",
            ),
        ),
        images=ImageRules(
            min_ratio=0.2,
            max_ratio=5.0,
            ratios=("16:9", "1:1", "4:5", "3:4"),
            min_width=16,
            max_width=4096,
            max_height=4096,
            max_bytes=5_000_000,
            max_images=4,
        ),
        text=TextRules(
            max_length=280,
            count="weighted",
            warn_links="X charges about $0.20 for a post with a link, and $0.015 without one.",
        ),
        docs_url="https://console.x.com",
    )

    def __init__(
        self,
        settings: Settings,
        *,
        simple_max: int = SIMPLE_MAX,
        chunk: int = CHUNK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`simple_max`, `chunk`: bytes above which a file goes in chunks, and of one chunk."""
        self._settings = settings
        self._simple_max, self._chunk, self._now = simple_max, chunk, now

    # ------------------------------------------------------------ before sending

    def check_text(self, kind: str, caption: str, alt_texts: list[str]) -> list[Issue]:
        """Say what is wrong with the words. Pure; no network."""
        found = text_length.issues(self.info.label, caption, self.info.text)
        if len({m.lower() for m in _CASHTAG.findall(caption)}) > 1:
            found.append(
                Issue("error", "too_many_cashtags", "X takes only one cashtag ($NAME).", "caption", "Keep one of them.")
            )
        for number, text in enumerate(alt_texts, 1):
            if len(text) > self.info.text.max_alt_text:
                found.append(
                    Issue(
                        "error",
                        "alt_text_too_long",
                        f"The description of picture {number} has {len(text):,} characters; "
                        f"X takes {self.info.text.max_alt_text:,}.",
                        "altTexts",
                        "Shorten it.",
                    )
                )
        return found

    def estimate(self, caption: str, alt_texts: list[str]) -> float:
        """Return what X will charge for the post, in US dollars (pay-per-use prices)."""
        links = text_length.find_links(text_length.normalized(caption))
        price = PRICE_POST_WITH_LINK if links else PRICE_POST
        return round(price + PRICE_ALT_TEXT * sum(1 for text in alt_texts if text.strip()), 4)

    # ------------------------------------------------------------ stage

    def stage(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], files: Files, watch: Watch
    ) -> dict[str, Any]:
        """Upload the pictures and their descriptions; what is there already is not sent again.

        Checkpoints: `media`, a list beside `snapshot.files`. Raises NotReady, PlatformError.
        """
        upload = Upload(self._api(account), simple_max=self._simple_max, chunk=self._chunk, now=self._now)
        remote = dict(remote)
        media: list[dict[str, Any]] = [dict(m) for m in remote.get("media") or []]
        del media[len(snapshot.files) :]
        remote["media"] = media
        waiting: NotReady | None = None
        for index, file in enumerate(snapshot.files[: self.info.images.max_images]):
            watch.check_cancelled()
            entry = media[index] if index < len(media) else {}
            if not upload.usable(entry, file.sha256):
                with watch.step("upload"):
                    entry = upload.send(files.read(file), sha256=file.sha256, mime=file.mime)
                media[index : index + 1] = [entry]
                watch.save(remote)
                if entry["state"] == "processing":
                    waiting = NotReady(float(entry["seconds"]), "X is still working on the picture.")
            elif entry.get("state") == "processing":
                try:
                    with watch.step("poll"):
                        state = _polled(upload, entry)
                except PlatformError as exc:
                    if exc.restart:
                        media[index] = {}
                        watch.save(remote)
                    raise
                if isinstance(state, NotReady):
                    waiting = state
                else:
                    media[index] = state
                    watch.save(remote)
        if waiting:
            raise waiting
        for index, entry in enumerate(media):
            alt = snapshot.alt_texts[index].strip() if index < len(snapshot.alt_texts) else ""
            if alt and entry.get("alt") != alt:
                watch.check_cancelled()
                with watch.step("alt_text"):
                    upload.alt_text(entry["id"], alt)
                entry["alt"] = alt
                watch.save(remote)
        return remote

    # ------------------------------------------------------------ publish

    def publish(self, account: Account, snapshot: Snapshot, remote: dict[str, Any], watch: Watch) -> Published:
        """Post. Raises PlatformError, with effect="unknown" when the answer was lost.

        A refusal as a duplicate after a lost answer of our own is looked into: the post may have been made then.
        """
        body = self._body(snapshot, remote)
        before = remote.get("triedAt")
        if not before:
            remote["triedAt"] = iso(self._now())
            watch.save(remote)
        try:
            with watch.step("publish"):
                id = self._post(account, body)
        except PlatformError as exc:
            if exc.cause == "duplicate" and before:
                seen = self.look(account, snapshot, remote, str(before), len(LOOKS), watch)
                if seen.post:
                    return seen.post
                exc.effect = "unknown"
                exc.detail = (
                    "X says it has this text already. An earlier try may have published it, but the post is not found."
                )
            elif exc.effect == "none" and not before:
                remote.pop("triedAt", None)  # certainly not published, so a later duplicate is not ours
                watch.save(remote)
            raise
        return self._published(account, id)

    def _post(self, account: Account, body: dict[str, Any]) -> str:
        import requests

        api = self._api(account)
        client = api.tweepy()
        try:
            response = client.request("POST", "/2/tweets", json=body, user_auth=True)
        except requests.RequestException as exc:
            raise x_errors.no_answer(exc, publishing=True) from None
        except Exception as exc:  # noqa: BLE001 - tweepy's errors, and what it stumbles over in odd answers
            if client.session.last is None:
                raise x_errors.no_answer(exc, publishing=True) from exc
            response = client.session.last
        data = answer(response, publishing=True, secrets=api.secrets).get("data")
        if not isinstance(data, dict) or not data.get("id"):
            raise x_errors.unreadable(response.status_code, response.text, publishing=True, secrets=api.secrets)
        return str(data["id"])

    def _body(self, snapshot: Snapshot, remote: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        text = snapshot.caption.strip()
        ids = [str(m["id"]) for m in remote.get("media") or [] if m.get("id")]
        if text:
            body["text"] = text
        if ids:
            body["media"] = {"media_ids": ids}
        if len(ids) < min(len(snapshot.files), self.info.images.max_images):
            raise _plain(
                "Not every picture is uploaded.", "media_expired", "retry", "It is uploaded again.", restart=True
            )
        if not body:
            raise _plain("The post has neither a picture nor a text.", "empty", "fix", "Add a picture or a caption.")
        if snapshot.options.made_with_ai and ids:
            body["made_with_ai"] = True
        return body

    # ------------------------------------------------------------ after a lost answer

    def look(
        self, account: Account, snapshot: Snapshot, remote: dict[str, Any], started_at: str, looks: int, watch: Watch
    ) -> Look:
        """Read the account's own timeline from `started_at` on. Nothing found: ask again in 30 s and 150 s, then unknown."""
        try:
            with watch.step("look"):
                posts = self._own_posts(account, remote, started_at, watch)
        except PlatformError as exc:
            blind = exc.action in ("retry", "defer") and looks < len(BLIND_LOOKS)
            if blind:
                return Look("not_yet", seconds=max(BLIND_LOOKS[looks], exc.retry_after or 0), detail=exc.detail)
            return Look("unknown", detail=f"The timeline could not be read: {exc.detail}")
        keys = {str(m.get("key")) for m in remote.get("media") or [] if m.get("key")}
        ours = [p for p in posts if _is_ours(p, snapshot.caption, keys)]
        if ours:
            first = min(ours, key=lambda post: int(post["id"]) if str(post["id"]).isdigit() else 0)
            return Look("published", self._published(account, str(first["id"]), first.get("created_at")))
        if looks < len(LOOKS):
            return Look("not_yet", seconds=LOOKS[looks], detail="The post is not in the timeline yet.")
        return Look("unknown", detail="The post is not in the account's timeline.")

    def _own_posts(
        self, account: Account, remote: dict[str, Any], started_at: str, watch: Watch
    ) -> list[dict[str, Any]]:
        user = self._user_id(account, remote, watch)
        start = min(parse(started_at), self._now()) - timedelta(seconds=SKEW_SECONDS)
        body = self._api(account).call(
            "GET",
            f"/2/users/{user}/tweets",
            params={
                "start_time": start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "max_results": "100",
                "tweet.fields": "created_at,entities,attachments",
            },
        )
        found = body.get("data") or []
        return [post for post in found if isinstance(post, dict) and post.get("id")]

    def _user_id(self, account: Account, remote: dict[str, Any], watch: Watch) -> str:
        """Return the account's number: remembered, told by the token itself, or asked for (a paid read)."""
        known = remote.get("userId") or account.extra.get("userId")
        if not known:
            own = re.match(r"(\d{2,})-", account.keys.get("twitter_access_token", ""))
            known = own[1] if own else None
        if not known:
            known = self._me(account)[0].get("id")
        if not known:
            raise x_errors.unreadable(200, "no id")
        if remote.get("userId") != known:
            remote["userId"] = str(known)
            watch.save(remote)
        return str(known)

    # ------------------------------------------------------------ the account

    def permalink(self, account: Account, id: str) -> str | None:
        """Return the address of a post. No network."""
        if not re.fullmatch(r"\d+", id):
            return None
        name = account.extra.get("username")
        return f"https://x.com/{name}/status/{id}" if name else f"https://x.com/i/web/status/{id}"

    def check(self, account: Account) -> Check:
        """Ask X who the keys belong to. One paid read; never raises."""
        try:
            me, headers = self._me(account)
        except PlatformError as exc:
            return Check(False, exc.detail, exc.remedy, extra={"cause": exc.cause})
        name, id = me.get("username"), str(me.get("id") or "")
        extra = {"userId": id, "username": name}
        level = str(headers.get("x-access-level") or "")
        if level and "write" not in level:
            rule = next(r for r in x_errors.RULES if r.cause == "read_only")
            return Check(False, rule.detail, rule.remedy, username=name, extra={**extra, "cause": rule.cause})
        wanted = (account.keys.get("twitter_account_id") or "").strip()
        if wanted.isdigit() and id and wanted != id and not account.dry_run:
            return Check(
                False,
                f"The keys belong to @{name} (account {id}), not to account {wanted}.",
                "Enter the keys of the right account, or correct the account id.",
                username=name,
                extra={**extra, "cause": "other_account"},
            )
        return Check(True, f"Connected as @{name}.", username=name, extra=extra)

    def refresh(
        self, account: Account, now: datetime, issued_at: datetime | None, expires_at: datetime | None
    ) -> dict[str, Any] | None:
        """The keys of OAuth 1.0a do not end: there is nothing to renew."""
        return None

    def _me(self, account: Account) -> tuple[dict[str, Any], Any]:
        body, headers = self._api(account).ask("GET", "/2/users/me")
        data = body.get("data")
        if not isinstance(data, dict) or not data.get("id"):
            raise x_errors.unreadable(200, str(body))
        return data, headers

    def _api(self, account: Account) -> Api:
        missing = [c.label for c in self.info.credentials if c.required and not account.keys.get(c.field)]
        if missing:
            raise _plain(
                f"These keys of X are missing: {', '.join(missing)}.",
                "keys_missing",
                "reconnect",
                "Enter them at the character under Accounts.",
                stops_account=True,
            )
        return Api(account.session, self._settings.x_api_url or "https://api.x.com", account.keys)

    def _published(self, account: Account, id: str, created: str | None = None) -> Published:
        return Published(id, self.permalink(account, id), _moment(created) or _born(id, self._now()) or now_iso())

    # ------------------------------------------------------------ dry run

    def pretend(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Answer a request of a dry run as X would."""
        path = urlsplit(url).path
        path = path[path.find("/2/") :] if "/2/" in path else path
        number = "1000000000000000001"
        if path == "/2/users/me":
            return 200, {"data": {"id": "1", "name": "Dry run", "username": "dry_run"}}
        if path.startswith("/2/users/"):
            return 200, {"meta": {"result_count": 0}}
        if path == "/2/media/metadata":
            return 200, {"data": {"id": number}}
        if path.endswith("/append"):
            return 200, {"data": {"expires_at": int(self._now().timestamp()) + 86_400}}
        if path.startswith("/2/media/upload"):
            return 200, {"data": {"id": number, "media_key": f"3_{number}", "expires_after_secs": 86_400}}
        if path == "/2/tweets" and method == "POST":
            try:
                text = str(json.loads(body or b"{}").get("text") or "")
            except ValueError:
                text = ""
            return 201, {"data": {"id": number, "text": text, "edit_history_tweet_ids": [number]}}
        return 404, {"title": "Not Found Error", "detail": f"Nothing is known about {path}."}


# ---------------------------------------------------------------- helpers


def _polled(upload: Upload, entry: dict[str, Any]) -> dict[str, Any] | NotReady:
    try:
        return upload.wait(entry)
    except NotReady as exc:
        return exc


def _plain(detail: str, cause: str, action: Any, remedy: str, **more: Any) -> PlatformError:
    return PlatformError(detail, platform=x_errors.NAME, cause=cause, action=action, remedy=remedy, **more)


def _is_ours(post: dict[str, Any], caption: str, keys: set[str]) -> bool:
    """Whether a post of the timeline is the one we sent: by the pictures where X tells them, else by the words."""
    attached = {str(k) for k in (post.get("attachments") or {}).get("media_keys") or []}
    if keys and attached:
        return bool(keys & attached)
    return bool(attached) == bool(keys) and _essence(_told(post)) == _essence(caption)


def _told(post: dict[str, Any]) -> str:
    """Return the words of a post as they were written: t.co addresses replaced by what they lead to, pictures left out."""
    text = str(post.get("text") or "")
    for link in (post.get("entities") or {}).get("urls") or []:
        short, long = str(link.get("url") or ""), str(link.get("unwound_url") or link.get("expanded_url") or "")
        if short:
            picture = "media_key" in link or re.search(r"/status/\d+/(photo|video)/\d+$", long)
            text = text.replace(short, "" if picture else str(link.get("expanded_url") or long))
    return html.unescape(text)


def _essence(text: str) -> str:
    """Return a text so that two ways of writing the same (address with or without scheme, spaces) are equal."""
    text = text_length.normalized(text)
    for link in reversed(text_length.find_links(text)):
        short = re.sub(r"^https?://(www\.)?", "", link.text, flags=re.IGNORECASE).rstrip("/").lower()
        text = text[: link.start] + short + text[link.end :]
    return " ".join(text.split())


def _moment(text: Any) -> str | None:
    try:
        return iso(parse(str(text))) if text else None
    except ValueError:
        return None


def _born(id: str, now: datetime) -> str | None:
    """Return when a post was made, which its number tells."""
    if not id.isdigit():
        return None
    seconds = ((int(id) >> 22) + _EPOCH_MS) / 1000
    if abs(seconds - now.timestamp()) > 86_400:
        return None
    return iso(datetime.fromtimestamp(seconds, UTC))
