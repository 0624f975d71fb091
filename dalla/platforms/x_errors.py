"""What X says when it refuses, as a table: cause, what to do, and the words for the person who has to do it.

X answers problems in two shapes, `{"type", "title", "detail"}` and `{"errors": [{"code", "message"}]}`; the status alone
tells little (403 is a duplicate, a read-only key or a locked account). `RULES` is read from the top; the first row that fits counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from dalla.platforms.base import Action, PlatformError
from dalla.platforms.session import never_sent, scrub

NAME = "twitter"
#: X's limits run in windows of 15 minutes; waited when it does not say how long.
WINDOW_SECONDS = 15 * 60
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Rule:
    """One kind of refusal. `says` is a pattern for type, title, detail, message and `code:<n>` together."""

    http: tuple[int, ...]
    says: str
    cause: str
    action: Action
    detail: str
    remedy: str
    stops_account: bool = False
    wait: float | None = None  # seconds, for defer and for a breaker that closes by itself
    restart: bool = False


RULES: tuple[Rule, ...] = (
    Rule(
        (402,),
        "",
        "no_credits",
        "ask",
        "The X account has no credits left, so X takes no posts.",
        "Buy credits in console.x.com under Billing, then close the stop of this account on Connections.",
        stops_account=True,
    ),
    Rule(
        (401, 403),
        r"timestamp|code:135\b",
        "clock",
        "retry",
        "X refused the request because the clock of this computer is wrong.",
        "Set the computer's clock (best by itself, over the network).",
    ),
    Rule(
        (401,),
        "",
        "keys_refused",
        "reconnect",
        "X does not accept the keys. The four keys do not belong together, or were made anew or revoked.",
        "In the X developer console create all four keys again and enter them at the character under Accounts.",
        stops_account=True,
    ),
    Rule(
        (429,),
        r"usage-capped|usagecap|monthly",
        "usage_cap",
        "defer",
        "The X account has used up its allowance of posts.",
        "Raise the spending limit or the plan in console.x.com, or wait until it begins anew.",
        wait=DAY_SECONDS,
    ),
    Rule(
        (429, 403, 420),
        r"code:185\b|over daily|daily limit",
        "daily_limit",
        "defer",
        "This account has reached the number of posts X allows in a day.",
        "Nothing to do: the post goes out when X takes posts again.",
        wait=6 * 3600,
    ),
    Rule(
        (429, 420),
        "",
        "rate_limited",
        "defer",
        "X asks to wait: too many requests in a short time.",
        "Nothing to do: the post goes out when X takes requests again.",
        wait=WINDOW_SECONDS,
    ),
    Rule(
        (403,),
        r"duplicate|code:187\b",
        "duplicate",
        "fix",
        "X refuses the post because the account has published the same text recently.",
        "Look at the account; if the post is not there, change the text a little and post again.",
    ),
    Rule(
        (403,),
        r"code:226\b|automated|spam",
        "spam_block",
        "ask",
        "X took the post for spam and blocked it.",
        "Look at the account on x.com, and post less often or vary the texts. Posting resumes after a day.",
        stops_account=True,
        wait=DAY_SECONDS,
    ),
    Rule(
        (401, 403),
        r"code:(64|63|326|141)\b|suspended|temporarily locked|account-locked",
        "suspended",
        "ask",
        "X has suspended or locked this account.",
        "Sign in on x.com and follow what it says there, then close the stop of this account on Connections.",
        stops_account=True,
    ),
    Rule(
        (403,),
        r"unsupported-authentication|unsupported authentication|application-only",
        "wrong_keys",
        "reconnect",
        "The keys are those of the app alone; X wants the keys of the account to post for it.",
        "In the X developer console create the access token and secret of the account and enter them at the character.",
        stops_account=True,
    ),
    Rule(
        (403,),
        r"client-forbidden|client-not-enrolled|code:453\b|attached to a project|access level",
        "app_tier",
        "ask",
        "The X app may not use this part of the API: it belongs to no project, or its plan does not include posting.",
        "In console.x.com put the app into a project with pay-per-use, then create the keys again.",
        stops_account=True,
    ),
    Rule(
        (403,),
        r"oauth1-permissions|not permitted to perform|read-only|read only|code:(261|220)\b",
        "read_only",
        "reconnect",
        "The X app may only read, so it cannot post.",
        "In the X developer console set the app to Read and write, then regenerate the tokens and enter them again.",
        stops_account=True,
    ),
    Rule(
        (400, 403),
        r"code:(186|354)\b|too long|text is longer|weighted length",
        "text_too_long",
        "fix",
        "The text is too long for X.",
        "Shorten the caption.",
    ),
    Rule(
        (400, 403),
        r"cashtag",
        "cashtags",
        "fix",
        "X takes only one cashtag ($NAME) in a post.",
        "Keep one of them.",
    ),
    Rule(
        (400, 403),
        r"maximum of 4|at most 4|4 items|code:324\b.*too many",
        "too_many_images",
        "fix",
        "X takes at most four pictures in a post.",
        "Remove some pictures.",
    ),
    Rule(
        (400, 403, 404),
        r"media.{0,40}(invalid|not found|expired)|code:324\b",
        "media_expired",
        "retry",
        "X no longer knows the uploaded picture.",
        "Nothing to do: it is uploaded again.",
        restart=True,
    ),
    Rule(
        (413,),
        "",
        "picture_too_large",
        "fix",
        "The picture is too large for X.",
        "Use a smaller picture.",
    ),
    Rule(
        (400, 415, 422),
        r"media type|unrecognized|file type|not a valid image|media_category",
        "picture_refused",
        "fix",
        "X cannot read the picture.",
        "Use another picture.",
    ),
    Rule(
        (400, 422),
        "",
        "refused",
        "fix",
        "X refused the request: {said}",
        "Change the post and try again.",
    ),
    Rule(
        (403,),
        "",
        "refused",
        "fix",
        "X refused the post: {said}",
        "Look at the account on x.com; when nothing is wrong there, change the post and try again.",
    ),
    Rule(
        (404,),
        "",
        "not_found",
        "retry",
        "X does not know what was asked for: {said}",
        "Check the setting X_API_URL when this stays.",
    ),
)

_OTHER = Rule((), "", "unexpected", "retry", "X gave an answer nobody expected ({http}): {said}", "Try again later.")
_DOWN = Rule(
    (), "", "server_error", "retry", "X has a problem of its own ({http}).", "Nothing to do: it is tried again."
)


def refused(
    http: int,
    body: Any,
    headers: Mapping[str, str] | None = None,
    *,
    publishing: bool = False,
    now: Callable[[], datetime] | None = None,
    secrets: Iterable[str] = (),
) -> PlatformError:
    """Return what an answer means. `body`: parsed JSON or text. A server error while publishing leaves the effect unknown.

    secrets: values that must not stay in the text.
    """
    secrets = tuple(secrets)
    moment = now() if now else datetime.now(UTC)
    headers = {k.lower(): v for k, v in (headers or {}).items()}
    words, code, kind = _words(body)
    rule = _rule(http, words)
    effect: Literal["none", "unknown"] = "unknown" if publishing and (http >= 500 or http == 408) else "none"
    said = scrub(_said(body), secrets)[:300] or "no reason given"
    until = None
    if rule.wait is not None:
        until = _reset(headers, moment) if http == 429 else None
        until = until or moment + timedelta(seconds=rule.wait)
    return PlatformError(
        rule.detail.format(said=said.rstrip("."), http=http) + ("" if rule.detail.rstrip().endswith(".") else "."),
        platform=NAME,
        cause=rule.cause,
        action=rule.action,
        effect=effect,
        stops_account=rule.stops_account,
        http=http,
        platform_code=code,
        subcode=kind,
        trace=scrub(headers.get("x-transaction-id") or headers.get("x-request-id") or "", secrets) or None,
        until=until,
        retry_after=max(1.0, (until - moment).total_seconds()) if until and rule.action == "defer" else None,
        restart=rule.restart,
        remedy=rule.remedy,
        extra={"said": said} if "{said}" not in rule.detail and said != "no reason given" else None,
    )


def no_answer(exc: BaseException, *, publishing: bool = False) -> PlatformError:
    """Return what a broken connection means. While publishing the post may be live, unless nothing was sent."""
    sent = not never_sent(exc)
    if publishing and sent:
        return PlatformError(
            "X did not answer, so it is not certain whether the post is live.",
            platform=NAME,
            cause="no_answer",
            action="retry",
            effect="unknown",
            remedy="The account is read to find out; nothing is posted twice.",
            extra={"said": scrub(str(exc))[:300]},
        )
    return PlatformError(
        "X did not answer." if sent else "X cannot be reached.",
        platform=NAME,
        cause="no_answer" if sent else "unreachable",
        action="retry",
        remedy="Check the internet connection of this computer; it is tried again by itself.",
        extra={"said": scrub(str(exc))[:300]},
    )


def unreadable(http: int, text: str, *, publishing: bool = False, secrets: Iterable[str] = ()) -> PlatformError:
    """Return the error for a success that does not say what it should (a proxy's page, a cut answer)."""
    return PlatformError(
        "X's answer cannot be read." + (" It is not certain whether the post is live." if publishing else ""),
        platform=NAME,
        cause="unreadable_answer",
        action="retry",
        effect="unknown" if publishing else "none",
        http=http,
        remedy="When this stays: check that nothing (proxy, firewall) stands between this computer and X.",
        extra={"said": scrub(text, secrets)[:200]},
    )


def _rule(http: int, words: str) -> Rule:
    if http >= 500 or http == 408:
        return _DOWN
    return next((r for r in RULES if http in r.http and (not r.says or re.search(r.says, words))), _OTHER)


def _words(body: Any) -> tuple[str, str | None, str | None]:
    """Return everything the answer says in lower case, its first error code, and the last part of its type."""
    if not isinstance(body, dict):
        return str(body or "").lower()[:2000], None, None
    parts = [str(body.get(k) or "") for k in ("type", "title", "detail", "reason")]
    code = None
    for error in body.get("errors") or []:
        if isinstance(error, dict):
            parts += [str(error.get(k) or "") for k in ("message", "detail", "title", "type")]
            if error.get("code") is not None:
                code = code or str(error["code"])
                parts.append(f"code:{error['code']}")
        else:
            parts.append(str(error))
    kind = str(body.get("type") or "").rpartition("/")[2] or None
    return " ".join(parts).lower(), code, None if kind == "about:blank" else kind


def _said(body: Any) -> str:
    """Return the most telling sentence of the answer."""
    if not isinstance(body, dict):
        text = str(body or "")
        return "" if text.lstrip().startswith("<") else text.strip()
    for error in body.get("errors") or []:
        if isinstance(error, dict) and (error.get("message") or error.get("detail")):
            return str(error.get("message") or error.get("detail"))
    return str(body.get("detail") or body.get("title") or "")


def _reset(headers: Mapping[str, str], now: datetime) -> datetime | None:
    """Return when X takes requests again, by the headers of the limit that is used up."""
    moments = []
    for prefix in ("x-user-limit-24hour", "x-app-limit-24hour", "x-rate-limit"):
        if headers.get(f"{prefix}-remaining", "0" if prefix == "x-rate-limit" else "1") == "0":
            try:
                moments.append(datetime.fromtimestamp(int(headers[f"{prefix}-reset"]), UTC))
            except (KeyError, ValueError, OverflowError, OSError):
                continue
    latest = max(moments, default=None)
    # A second more than it says; nonsense (the past, a week ahead) is not believed.
    return latest + timedelta(seconds=1) if latest and now < latest < now + timedelta(days=7) else None
