"""What the Graph API's errors mean: one table, and the reader of an answer that looks a row up in it.

HTTP is nearly always 400, so rows are found by `code` and `error_subcode`. Most specific first:
both, then the subcode alone (2207… is unique, and the text of a container's state holds only that),
then the code alone, then `is_transient`, then the row for anything unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from dalla.platforms.base import Action, PlatformError
from dalla.platforms.session import scrub

NAME = "instagram"
THROTTLE_MINUTES = 15
THROTTLE_MINUTES_MAX = 60


@dataclass(frozen=True)
class Rule:
    """One row. `published`: whether `media_publish` may have had its effect when it answers this."""

    code: int | None
    subcode: int | None
    cause: str
    detail: str
    remedy: str
    action: Action
    published: Literal["none", "unknown"] = "none"
    stops_account: bool = False
    new_container: bool = False  # the container is dead, another one may work
    wait: float | None = None  # seconds until the next try; None: publishing decides
    stop_hours: float | None = None  # with stops_account: how long; None: until a person closes it


_RECONNECT = "Make a new token in the Meta app dashboard and enter it under Connections."
_LATER = "Nothing to do: it is tried again by itself."
_EDIT = "Edit the post, then schedule it again."
_PERMISSIONS = (
    "Give the token the rights to publish (instagram_business_basic and instagram_business_content_publish, or with "
    "Facebook login instagram_basic, instagram_content_publish and pages_read_engagement), then enter it under Connections."
)
_LOOK = "Open the account in the Instagram app, answer what it asks, then close the stop under Connections."


def _dead(subcode: int | None, why: str) -> Rule:
    cause = "token_expired" if subcode in (463, None) else "token_invalid"
    return Rule(190, subcode, cause, why, _RECONNECT, "reconnect", stops_account=True)


def _slow(code: int) -> Rule:
    return Rule(code, None, "throttled", "Instagram takes no more requests at the moment.", _LATER, "defer", "unknown")


def _denied(code: int) -> Rule:
    detail = "The token may not publish for this account."
    return Rule(code, None, "permission", detail, _PERMISSIONS, "reconnect", stops_account=True)


def _server(code: int | None, subcode: int | None = None) -> Rule:
    return Rule(code, subcode, "server_error", "Instagram had an internal error.", _LATER, "retry", "unknown")


def _upload(code: int | None, subcode: int) -> Rule:
    detail = "Instagram could not process the picture."
    return Rule(code, subcode, "upload_failed", detail, _LATER, "retry", new_container=True)


RULES: tuple[Rule, ...] = (
    # the token
    _dead(458, "The Instagram account has removed the app's permission."),
    _dead(459, "Instagram wants the account's owner to confirm something (a checkpoint)."),
    _dead(460, "The password of the account was changed, which ended the token."),
    _dead(463, "The Instagram token has expired."),
    _dead(464, "The account is not confirmed."),
    _dead(467, "The Instagram token is no longer valid."),
    _dead(492, "The person behind the token no longer has a role on the Facebook Page."),
    _dead(None, "Instagram does not accept the token."),
    Rule(102, None, "token_expired", "The Instagram session has ended.", _RECONNECT, "reconnect", stops_account=True),
    Rule(104, None, "token_invalid", "Instagram did not see a token.", _RECONNECT, "reconnect", stops_account=True),
    Rule(2500, None, "token_invalid", "Instagram did not see a token.", _RECONNECT, "reconnect", stops_account=True),
    _denied(3),
    _denied(10),
    _denied(200),  # stands for 200 to 299
    # limits
    Rule(
        4,
        2207051,
        "spam_block",
        "Instagram blocked this action as spam. The post may be live nevertheless.",
        "Post less often. Look at the account in the app; nothing is sent for 24 hours.",
        "ask",
        "unknown",
        stops_account=True,
        stop_hours=24,
    ),
    Rule(9, 2207042, "quota", "The account has used up its posts for 24 hours.", _LATER, "defer", wait=3600),
    _slow(4),
    _slow(17),
    _slow(32),
    _slow(613),
    _slow(341),
    _slow(80001),
    _slow(80002),
    _slow(429),
    # the server
    _server(1),
    _server(2),
    _server(-1, 2207001),
    # the container
    Rule(-2, 2207003, "fetch_timeout", "Instagram took too long to fetch the picture.", _LATER, "retry", new_container=True),
    Rule(-2, 2207020, "container_expired", "The upload has expired.", _LATER, "retry", new_container=True),
    _upload(-1, 2207032),
    _upload(-1, 2207053),
    _upload(None, 2207082),
    _upload(None, 2207077),
    _upload(None, 2207076),
    Rule(24, 2207006, "container_missing", "Instagram does not find the upload.", _LATER, "retry", "unknown", wait=45),
    Rule(24, 2207008, "container_missing", "Instagram does not find the upload.", _LATER, "retry", "unknown", wait=45),
    Rule(9007, 2207027, "not_ready", "Instagram is still processing the picture.", _LATER, "defer", wait=15),
    Rule(100, 33, "unreadable", "Instagram says that the object cannot be read.", _LATER, "retry", "unknown", wait=30),
    Rule(
        9004,
        2207052,
        "fetch_failed",
        "Instagram could not fetch the picture from its public address.",
        "Run the test of the public address under Connections: the address must be open to everybody over https and answer "
        "the picture itself, without a login or a warning page.",
        "fix",
        new_container=True,
    ),
    # the account
    Rule(25, 2207050, "account_restricted", "Instagram has restricted this account.", _LOOK, "ask", stops_account=True),
    Rule(368, None, "policy_block", "Instagram blocks this action because of its rules.", _LOOK, "ask", stops_account=True),
    Rule(
        506,
        None,
        "duplicate",
        "Instagram says that this was posted already.",
        "Look at the account. If the post is not there, change its words and schedule it again.",
        "fix",
    ),
    # the content
    Rule(100, 2207023, "media_type", "Instagram does not know this kind of post.", _EDIT, "fix"),
    Rule(100, 2207028, "carousel_count", "A carousel needs 2 to 10 pictures.", _EDIT, "fix"),
    Rule(100, 2207040, "too_many_tags", "The caption mentions more than 20 accounts.", "Remove some @mentions.", "fix"),
    Rule(352, 2207026, "format", "Instagram does not take this video format.", "Choose a picture.", "fix"),
    Rule(36000, 2207004, "too_large", "The picture is larger than 8 MB.", "Prepare the picture again.", "fix"),
    Rule(36001, 2207005, "format", "Instagram takes JPEG pictures only.", "Prepare the picture again.", "fix"),
    Rule(
        36003,
        2207009,
        "aspect_ratio",
        "The picture is too tall or too wide for Instagram (4:5 to 1.91:1).",
        "Choose how the picture is fitted (pad or crop) and schedule it again.",
        "fix",
    ),
    Rule(
        36004,
        2207010,
        "caption_length",
        "The caption is too long: Instagram takes 2,200 characters and 30 hashtags.",
        "Shorten the caption.",
        "fix",
    ),
)  # fmt: skip
UNKNOWN = Rule(
    None,
    None,
    "unknown",
    "Instagram refused the request.",
    "Read what Instagram says and try again.",
    "retry",
    "unknown",
)
REFUSED = Rule(
    None,
    None,
    "refused",
    "Instagram refused the request.",
    "Read what Instagram says and try again.",
    "retry",
    "unknown",
)
LOST = Rule(
    None,
    None,
    "network",
    "Instagram did not answer.",
    "Check this computer's connection to the internet.",
    "retry",
    "unknown",
)

_BOTH = {(r.code, r.subcode): r for r in RULES if r.code is not None and r.subcode is not None}
_SUBCODE = {r.subcode: r for r in RULES if r.subcode is not None and r.subcode > 1_000_000}
_CODE = {r.code: r for r in RULES if r.code is not None and r.subcode is None}


def rule_for(code: int | None, subcode: int | None, *, transient: bool = False, http: int | None = None) -> Rule:
    """Find the row of an error."""
    if code is not None and subcode is not None and (code, subcode) in _BOTH:
        return _BOTH[code, subcode]
    if subcode in _SUBCODE:
        return _SUBCODE[subcode]
    if code is not None and 200 <= code <= 299:
        return _CODE[200]
    if code in _CODE:
        return _CODE[code]
    if transient or (http is not None and http >= 500):
        return _server(code, subcode)
    if http == 429:
        return _CODE[429]
    return REFUSED if code is not None and http is not None and 400 <= http < 500 else UNKNOWN


def subcode_in(text: str) -> int | None:
    """Find the 2207… number in the text of a container's state."""
    found = re.search(r"\b22\d{5}\b", text)
    return int(found[0]) if found else None


def error_of(
    http: int, text: str, headers: Mapping[str, str], *, now: datetime, publishing: bool, secrets: tuple[str, ...] = ()
) -> PlatformError:
    """Build the error of an answer that is no success.

    publishing: it answered `media_publish`, so whether the post is live matters.
    secrets: values that must not stay in the text.
    """
    given = _error_object(text)
    code, subcode = _number(given.get("code")), _number(given.get("error_subcode"))
    rule = rule_for(code, subcode, transient=given.get("is_transient") is True, http=http)
    said = str(given.get("error_user_msg") or given.get("message") or "")
    if not given:
        said = "" if "<" in text[:200] else text[:200]
        rule = rule if http >= 500 or http == 429 else UNKNOWN
    return make(
        rule,
        said=scrub(said, secrets),
        http=http,
        code=code,
        subcode=subcode,
        trace=scrub(str(given.get("fbtrace_id") or ""), secrets) or None,
        now=now,
        publishing=publishing,
        retry_after=regain_seconds(headers) if rule.cause == "throttled" else None,
    )


def make(
    rule: Rule,
    *,
    now: datetime,
    said: str = "",
    http: int | None = None,
    code: int | None = None,
    subcode: int | None = None,
    trace: str | None = None,
    publishing: bool = False,
    retry_after: float | None = None,
    until: datetime | None = None,
) -> PlatformError:
    """Turn a row into the error publishing understands."""
    wait = rule.wait if retry_after is None else retry_after
    if rule.cause == "throttled" and wait is None:
        wait = THROTTLE_MINUTES * 60
    if until is None and rule.stop_hours is not None:
        until = now + timedelta(hours=rule.stop_hours)
    if until is None and rule.action == "defer" and wait is not None:
        until = now + timedelta(seconds=wait)
    quoted = said.strip()[:300]
    detail = f"{rule.detail} Instagram says: {quoted}{'' if quoted[-1] in '.!?…' else '.'}" if quoted else rule.detail
    return PlatformError(
        detail,
        platform=NAME,
        cause=rule.cause,
        action=rule.action,
        effect=rule.published if publishing else "none",
        stops_account=rule.stops_account,
        http=http,
        platform_code=None if code is None else str(code),
        subcode=None if subcode is None else str(subcode),
        trace=trace,
        until=until,
        restart=rule.new_container,
        remedy=rule.remedy,
        retry_after=wait,
    )


def be_patient(error: PlatformError, times: int, now: datetime) -> None:
    """Lengthen the wait of a throttle that does not say how long it lasts: 15, 30, 60 minutes."""
    if error.cause != "throttled" or error.retry_after != THROTTLE_MINUTES * 60:
        return
    error.retry_after = min(THROTTLE_MINUTES_MAX, THROTTLE_MINUTES * 2 ** max(0, times - 1)) * 60
    error.until = now + timedelta(seconds=error.retry_after)


def regain_seconds(headers: Mapping[str, str]) -> float | None:
    """Read how long a throttle lasts from the usage header (minutes there); None when it does not say."""
    try:
        usage = json.loads(headers.get("X-Business-Use-Case-Usage") or "{}")
        rows = [row for rows in usage.values() for row in rows]
        minutes = max((float(row.get("estimated_time_to_regain_access") or 0) for row in rows), default=0.0)
    except (ValueError, TypeError, AttributeError):
        return None
    return min(minutes, 24 * 60) * 60 if minutes > 0 else None


def _error_object(text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
