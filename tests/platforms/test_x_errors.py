"""What X's answers mean: the table, with answers as X gives them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from dalla.platforms import x_errors
from dalla.platforms.x_errors import no_answer, refused, unreadable

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PROBLEMS = "https://api.twitter.com/2/problems"


def problem(status, title, detail, kind="about:blank"):
    return {"title": title, "detail": detail, "type": kind, "status": status}


def code(number, message="no"):
    return {"errors": [{"code": number, "message": message}]}


ROWS = [
    # http, body, cause, action, stops the account, stage anew
    (401, problem(401, "Unauthorized", "Unauthorized"), "keys_refused", "reconnect", True, False),
    (401, code(89, "Invalid or expired token."), "keys_refused", "reconnect", True, False),
    (401, code(32, "Could not authenticate you."), "keys_refused", "reconnect", True, False),
    (401, code(135, "Timestamp out of bounds."), "clock", "retry", False, False),
    (402, {"title": "CreditsDepleted", "type": f"{PROBLEMS}/credits"}, "no_credits", "ask", True, False),
    (402, {"title": "Payment Required", "type": f"{PROBLEMS}/credits-depleted"}, "no_credits", "ask", True, False),
    (402, "<html>", "no_credits", "ask", True, False),
    (403, problem(403, "Forbidden", "You are not allowed to create a Tweet with duplicate content."), "duplicate", "fix", False, False),
    (403, code(187, "Status is a duplicate."), "duplicate", "fix", False, False),
    (403, problem(403, "Forbidden", "Your client app is not configured with the appropriate oauth1 app permissions for this endpoint.", f"{PROBLEMS}/oauth1-permissions"), "read_only", "reconnect", True, False),
    (403, problem(403, "Forbidden", "You are not permitted to perform this action."), "read_only", "reconnect", True, False),
    (403, code(64, "Your account is suspended."), "suspended", "ask", True, False),
    (403, problem(403, "Forbidden", "x", f"{PROBLEMS}/user-suspended"), "suspended", "ask", True, False),
    (403, code(326, "To protect our users, this account is temporarily locked."), "suspended", "ask", True, False),
    (403, problem(403, "Client Forbidden", "When authenticating requests to the Twitter API v2 endpoints, you must use keys from an App attached to a Project.", f"{PROBLEMS}/client-forbidden"), "app_tier", "ask", True, False),
    (403, code(453, "You currently have access to a subset"), "app_tier", "ask", True, False),
    (403, problem(403, "Unsupported Authentication", "Application-Only is forbidden", f"{PROBLEMS}/unsupported-authentication"), "wrong_keys", "reconnect", True, False),
    (403, code(226, "This request looks like it might be automated."), "spam_block", "ask", True, False),
    (403, code(185, "User is over daily status update limit."), "daily_limit", "defer", False, False),
    (403, problem(403, "Forbidden", "Your Tweet text is too long. (186)"), "text_too_long", "fix", False, False),
    (403, problem(403, "Forbidden", "Something new."), "refused", "fix", False, False),
    (400, problem(400, "Invalid Request", "Your media IDs are invalid.", f"{PROBLEMS}/invalid-request"), "media_expired", "retry", False, True),
    (400, problem(400, "Invalid Request", "$.media.media_ids: must have a maximum of 4 items in the array"), "too_many_images", "fix", False, False),
    (400, problem(400, "Invalid Request", "Only one cashtag is allowed."), "cashtags", "fix", False, False),
    (400, problem(400, "Invalid Request", "media type unrecognized."), "picture_refused", "fix", False, False),
    (400, problem(400, "Invalid Request", "One or more parameters to your request was invalid."), "refused", "fix", False, False),
    (413, "", "picture_too_large", "fix", False, False),
    (429, problem(429, "Too Many Requests", "Too Many Requests"), "rate_limited", "defer", False, False),
    (429, code(88, "Rate limit exceeded"), "rate_limited", "defer", False, False),
    (429, problem(429, "UsageCapExceeded", "Usage cap exceeded: Monthly product cap", f"{PROBLEMS}/usage-capped"), "usage_cap", "defer", False, False),
    (404, problem(404, "Not Found", "nothing here"), "not_found", "retry", False, False),
    (302, "<html>", "unexpected", "retry", False, False),
    (418, None, "unexpected", "retry", False, False),
    (500, "boom", "server_error", "retry", False, False),
    (503, problem(503, "Service Unavailable", "over capacity"), "server_error", "retry", False, False),
]  # fmt: skip


@pytest.mark.parametrize(("http", "body", "cause", "action", "stops", "restart"), ROWS)
def test_the_table(http, body, cause, action, stops, restart):
    error = refused(http, body, {}, now=lambda: NOW)
    assert (error.cause, error.action, error.stops_account, error.restart) == (cause, action, stops, restart)
    assert error.http == http and error.effect == "none"
    assert error.detail.endswith(".") and "{" not in error.detail and error.remedy
    assert (error.until is not None) == (action == "defer" or cause == "spam_block")


@pytest.mark.parametrize("http", [500, 502, 503, 504, 408])
def test_a_server_error_while_publishing_may_have_published(http):
    assert refused(http, "", publishing=True).effect == "unknown"
    assert refused(http, "").effect == "none"


@pytest.mark.parametrize("http", [302, 400, 401, 402, 403, 404, 413, 429])
def test_a_refusal_while_publishing_has_not(http):
    assert refused(http, "", publishing=True).effect == "none"


def test_every_row_can_be_reached_and_is_written_well():
    reached = {refused(http, body).cause for http, body, *_ in ROWS}
    assert {rule.cause for rule in x_errors.RULES} <= reached
    for rule in x_errors.RULES:
        assert rule.remedy.endswith(".") and rule.detail.endswith((".", "{said}"))
        assert not rule.stops_account or rule.action in ("ask", "reconnect")
        assert rule.action != "defer" or rule.wait


def reset(seconds, prefix="x-rate-limit"):
    moment = NOW + timedelta(seconds=seconds)
    return {f"{prefix}-reset": str(int(moment.timestamp())), f"{prefix}-remaining": "0"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 900),
        (reset(300), 301),
        ({k.upper(): v for k, v in reset(300).items()}, 301),
        ({**reset(300), **reset(7200, "x-user-limit-24hour")}, 7201),
        ({**reset(300), **reset(7200, "x-app-limit-24hour"), "x-app-limit-24hour-remaining": "5"}, 301),
        (reset(-60), 900),  # in the past
        (reset(60 * 86400), 900),  # nonsense
        ({"x-rate-limit-reset": "soon"}, 900),
    ],
)
def test_when_x_takes_requests_again(headers, seconds):
    error = refused(429, "", headers, now=lambda: NOW)
    assert error.until == NOW + timedelta(seconds=seconds)
    assert error.retry_after == seconds


def test_codes_and_trace_are_kept():
    error = refused(403, code(64), {"X-Transaction-Id": "abc"})
    assert (error.platform_code, error.trace) == ("64", "abc")
    assert refused(403, {"type": f"{PROBLEMS}/client-forbidden"}).subcode == "client-forbidden"
    told = error.problem()
    assert (told["platform"], told["cause"], told["action"], told["trace"]) == ("twitter", "suspended", "ask", "abc")


def test_what_x_says_is_shown_without_secrets():
    error = refused(400, {"detail": "bad oauth_token=12345-secretvalue {odd}."})
    assert "secretvalue" not in error.detail and "{odd}" in error.detail
    assert "bad" in refused(403, {"errors": [{"message": "bad {0}"}]}).detail


def test_keys_that_x_repeats_are_taken_out():
    said = {"errors": [{"message": "no: k-1234567 s-7654321"}]}
    for error in (
        refused(500, said, {"x-request-id": "k-1234567"}, secrets=("k-1234567", "s-7654321")),
        unreadable(200, "<p>k-1234567 s-7654321", secrets=("k-1234567", "s-7654321")),
    ):
        told = str(error.problem())
        assert "k-1234567" not in told and "s-7654321" not in told


@pytest.mark.parametrize(
    "body", [None, [], 5, "", {"errors": "x"}, {"errors": ["x", None]}, {"detail": {"a": 1}}, {"errors": None}]
)
def test_odd_answers_do_no_harm(body):
    for http in (200, 302, 400, 403, 429, 500):
        assert refused(http, body).detail


def test_connections():
    lost = no_answer(requests.ReadTimeout("slow"), publishing=True)
    assert (lost.effect, lost.action) == ("unknown", "retry")
    assert no_answer(requests.ReadTimeout("slow")).effect == "none"
    early = requests.ConnectionError("refused")
    early.never_sent = True
    assert no_answer(early, publishing=True).effect == "none"
    assert no_answer(early, publishing=True).cause == "unreachable"
    assert unreadable(200, "<html>", publishing=True).effect == "unknown"
    assert unreadable(200, "<html>").effect == "none"
