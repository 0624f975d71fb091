"""How one account is doing, told from what is known about it. Pure: no store, no network."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dalla.records.character import Character
from dalla.records.platform import PlatformInfo
from dalla.records.post import AccountState
from dalla.times import parse

ALARM_DAYS = 10
#: Alarms go out when one of these many days are left, not every hour.
ALARM_STEPS = (10, 7, 3, 1, 0)
#: Causes of a stopped account that new keys settle.
KEY_CAUSES = frozenset(
    {
        "credentials",
        "keys_missing",
        "keys_refused",
        "other_account",
        "permission",
        "read_only",
        "token_expired",
        "token_invalid",
        "wrong_keys",
    }
)
#: Causes that a person has to look into on the platform; a test that goes well does not settle them.
PERSON_CAUSES = frozenset({"account_restricted", "app_tier", "no_credits", "policy_block", "spam_block", "suspended"})


@dataclass(frozen=True)
class Facts:
    """Everything the state of an account follows from."""

    character: Character
    info: PlatformInfo
    state: AccountState
    missing: list[str]
    pause: dict[str, Any] | None  # {"reason", "since", "scope": "all" | "character" | "account"}
    dry_run: bool
    from_env: list[str]  # names of the environment variables its keys come from
    next_post_at: str | None
    now: datetime


def account_json(facts: Facts) -> dict[str, Any]:
    """Return the account as the API shows it."""
    state, now = facts.state, facts.now
    status, detail, remedy = health(facts)
    breaker = open_breaker(state, now)
    known = not facts.missing
    left = days_left(state, now) if known else None
    return {
        "characterId": facts.character.id,
        "characterName": facts.character.name,
        "platform": facts.info.name,
        "platformLabel": facts.info.label,
        "connected": known and state.check_ok is not False and not (breaker and breaker["code"] in KEY_CAUSES),
        "missing": facts.missing,
        "username": state.username or (_handle(facts.character, facts.info.name) if known else None),
        "accountType": state.account_type,
        "status": status,
        "detail": detail,
        "remedy": remedy,
        "tokenIssuedAt": state.token_issued_at if known else None,
        "tokenExpiresAt": state.token_expires_at if known else None,
        "tokenDaysLeft": None if left is None else max(0, left),
        "tokenExpired": left is not None and left < 0,
        "tokenEstimated": bool(state.extra.get("tokenEstimated")) and left is not None,
        "quotaUsed": state.quota_used,
        "quotaTotal": state.quota_total,
        "quotaAt": state.quota_at,
        "lastSuccessAt": state.last_success_at,
        "lastError": state.last_error,
        "lastErrorAt": state.last_error_at,
        "failures": state.failures,
        "breaker": breaker,
        "paused": facts.pause,
        "dryRun": facts.dry_run,
        "checkedAt": state.checked_at,
        "checkOk": state.check_ok,
        "nextPostAt": facts.next_post_at,
        "fromEnvironment": facts.from_env,
        "href": accounts_tab(facts.character.id),
        "passing": status == "warning" and remedy in _PASSING,
        "untested": not (facts.missing or facts.state.checked_at or facts.state.last_success_at),
    }


#: What to do about a warning that mends itself, or that its post tells: the home page does not repeat it.
_SEE_POST = "Posts that can be sent again are; see Content."
_QUOTA_WAITS = "Posts wait until the quota frees."
_PASSING = frozenset({_SEE_POST, _QUOTA_WAITS})


def health(facts: Facts) -> tuple[Literal["ok", "off", "warning", "error"], str, str | None]:
    """Return (status, what is the matter, what to do). The most urgent thing is told."""
    state, now, label = facts.state, facts.now, facts.info.label
    required = sum(c.required for c in facts.info.credentials)
    enter = "Enter the keys on the character's Accounts tab."
    if facts.missing and len(facts.missing) >= required:
        return "off", f"Not connected to {label}. Posts are only rehearsed.", enter
    if facts.missing:
        return "warning", f"{_and(facts.missing)} {'is' if len(facts.missing) == 1 else 'are'} missing.", enter
    breaker = open_breaker(state, now)
    if breaker:
        return "error", f"Stopped: {breaker['reason']}", _breaker_remedy(breaker, state)
    left = days_left(state, now)
    estimated = bool(state.extra.get("tokenEstimated"))
    if left is not None and left < 0 and not estimated:
        return "error", "The access token has ended.", renew_remedy(facts.from_env)
    if state.check_ok is False:
        return "error", state.check_detail or f"{label} refuses the keys.", state.check_remedy or enter
    if facts.pause and facts.pause["scope"] == "account":
        return "warning", "Stopped by hand. Nothing is sent until you resume it.", "Press Resume."
    if left is not None and left < ALARM_DAYS:
        if left < 0:
            return "warning", "The access token has probably ended.", renew_remedy(facts.from_env)
        about = "about " if estimated else ""
        days = "today" if left == 0 else f"in {about}{left} day{'' if left == 1 else 's'}"
        return "warning", f"The access token ends {days}.", renew_remedy(facts.from_env)
    if state.checked_at and state.check_ok is None:
        return "warning", f"The last test got no answer: {state.check_detail or 'unknown'}", "Test it again later."
    if state.failures and (state.last_error_at or "") > (state.last_success_at or ""):
        times = "once" if state.failures == 1 else f"{state.failures} times in a row"
        return "warning", f"Posting failed {times}: {state.last_error or 'unknown'}", _SEE_POST
    if state.quota_total and (state.quota_used or 0) >= state.quota_total and _within_a_day(state.quota_at, now):
        return "warning", f"All {state.quota_total} posts of 24 hours are used up.", _QUOTA_WAITS
    if state.check_ok:
        return "ok", state.check_detail or "Connected.", None
    if state.last_success_at:
        return "ok", "Connected: the last post went out.", None
    return "warning", "The keys are set, but not tested yet.", "Press Test."


def open_breaker(state: AccountState, now: datetime) -> dict[str, Any] | None:
    """Return the breaker while it is open."""
    if not state.breaker_reason:
        return None
    until = _moment(state.breaker_until)
    if until is not None and until <= now:
        return None
    return {
        "reason": state.breaker_reason,
        "code": state.breaker_code,
        "since": state.breaker_since,
        "until": state.breaker_until,
        "reconnect": state.breaker_code in KEY_CAUSES,
    }


def days_left(state: AccountState, now: datetime) -> int | None:
    """Return the whole days the token still works (0: less than one day, negative: ended); None when not known."""
    end = _moment(state.token_expires_at)
    if end is None:
        return None
    seconds = (end - now).total_seconds()
    return int(seconds // 86400) if seconds > 0 else min(-1, int(seconds // 86400))


def alarm_step(left: int | None) -> int | None:
    """Return which alarm is due with so many days left; None: none."""
    if left is None or left >= ALARM_DAYS:
        return None
    return min(step for step in ALARM_STEPS if left <= step)


def renew_remedy(from_env: list[str]) -> str:
    """Say how a token is renewed by hand."""
    if from_env:
        return (
            f"It comes from the environment variable {_and(from_env)}, which the app cannot rewrite: "
            "make a new token on the platform, set the variable and restart."
        )
    return "Press Renew token, or enter a new one on the character's Accounts tab."


def accounts_tab(character_id: str) -> str:
    return f"/characters.html?id={character_id}&tab=accounts"


def _breaker_remedy(breaker: dict[str, Any], state: AccountState) -> str:
    if breaker["reconnect"]:
        return state.check_remedy or "Enter new keys on the character's Accounts tab, then press Test."
    if breaker["until"]:
        return "It is tried again by itself; Close breaker lets it post at once."
    return "Look at the account on the platform. When it is in order, press Close breaker."


def _handle(character: Character, platform: str) -> str | None:
    handle = {"instagram": character.instagram_handle, "twitter": character.twitter_handle}.get(platform)
    return (handle or "").strip().lstrip("@") or None


def _within_a_day(moment: str | None, now: datetime) -> bool:
    at = _moment(moment)
    return at is not None and (now - at).total_seconds() < 86400


def _moment(text: str | None) -> datetime | None:
    try:
        return parse(text) if text else None
    except ValueError:
        return None


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
