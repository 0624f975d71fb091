"""Every row of the table of errors, through real answers of the pretend Graph API."""

from __future__ import annotations

import json

import pytest

from dalla.platforms.base import NotReady, PlatformError
from dalla.platforms.instagram_errors import RULES, error_of, regain_seconds, rule_for, subcode_in
from tests.fakes.graph import GraphFake
from tests.platforms.instagram_kit import Pictures, Stage

# code, subcode -> cause, action, stops the account, may be live when media_publish answers it, new container
TABLE = [
    *[(190, sub, "token_invalid", "reconnect", True, False, False) for sub in (458, 459, 460, 464, 467, 492)],
    (190, 463, "token_expired", "reconnect", True, False, False),
    (190, None, "token_expired", "reconnect", True, False, False),
    (102, None, "token_expired", "reconnect", True, False, False),
    *[(code, None, "permission", "reconnect", True, False, False) for code in (3, 10, 200, 210, 299)],
    *[(code, None, "throttled", "defer", False, True, False) for code in (4, 17, 32, 613, 341, 80001, 80002, 429)],
    (4, 2207051, "spam_block", "ask", True, True, False),
    (9, 2207042, "quota", "defer", False, False, False),
    (1, None, "server_error", "retry", False, True, False),
    (2, None, "server_error", "retry", False, True, False),
    (-1, 2207001, "server_error", "retry", False, True, False),
    (-2, 2207003, "fetch_timeout", "retry", False, False, True),
    (-2, 2207020, "container_expired", "retry", False, False, True),
    (-1, 2207032, "upload_failed", "retry", False, False, True),
    (-1, 2207053, "upload_failed", "retry", False, False, True),
    *[(9, sub, "upload_failed", "retry", False, False, True) for sub in (2207082, 2207077, 2207076)],
    (24, 2207006, "container_missing", "retry", False, True, False),
    (24, 2207008, "container_missing", "retry", False, True, False),
    (25, 2207050, "account_restricted", "ask", True, False, False),
    (100, 33, "unreadable", "retry", False, True, False),
    (100, 2207023, "media_type", "fix", False, False, False),
    (100, 2207028, "carousel_count", "fix", False, False, False),
    (100, 2207040, "too_many_tags", "fix", False, False, False),
    (352, 2207026, "format", "fix", False, False, False),
    (9004, 2207052, "fetch_failed", "fix", False, False, True),
    (9007, 2207027, "not_ready", "defer", False, False, False),
    (36000, 2207004, "too_large", "fix", False, False, False),
    (36001, 2207005, "format", "fix", False, False, False),
    (36003, 2207009, "aspect_ratio", "fix", False, False, False),
    (36004, 2207010, "caption_length", "fix", False, False, False),
    (368, None, "policy_block", "ask", True, False, False),
    (506, None, "duplicate", "fix", False, False, False),
    (424242, None, "refused", "retry", False, True, False),
]


@pytest.fixture(scope="module")
def pictures():
    with Pictures() as server:
        yield server


@pytest.fixture(scope="module")
def server():
    with GraphFake() as fake:
        yield fake


@pytest.fixture
def ig(tmp_path, server, pictures):
    stage = Stage(tmp_path, server, pictures)
    yield stage
    stage.account.session.close()
    server._faults.clear()


@pytest.mark.parametrize("code, subcode, cause, action, stops, maybe_live, again", TABLE)
def test_each_row_on_publish(ig, server, code, subcode, cause, action, stops, maybe_live, again):
    snapshot = ig.snapshot()
    ig.stage(snapshot)
    before = len(server.published)
    server.fault("publish", code=code, subcode=subcode)
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    error = caught.value
    assert (error.cause, error.action, error.stops_account) == (cause, action, stops)
    assert error.effect == ("unknown" if maybe_live else "none") and error.restart == again
    assert error.platform_code == str(code) and error.subcode == (None if subcode is None else str(subcode))
    assert error.http == 400 and error.remedy and error.detail.endswith(f"fault {code}/{subcode}.")
    assert ("container" in ig.remote) is not again
    assert len(server.published) == before
    assert (error.until is not None) == (action == "defer" or cause == "spam_block")


@pytest.mark.parametrize("code, subcode, cause, action, stops, maybe_live, again", TABLE)
def test_each_row_on_create_has_no_effect(ig, server, code, subcode, cause, action, stops, maybe_live, again):
    server.fault("create", code=code, subcode=subcode)
    with pytest.raises(NotReady if again else PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    if not again:
        assert caught.value.cause == cause and caught.value.effect == "none"
    else:
        assert ig.remote["restarts"] == 1 and caught.value.seconds == 5


def test_every_rule_is_in_the_table():
    rows = {(code, subcode) for code, subcode, *_ in TABLE}
    missing = [
        (rule.code, rule.subcode)
        for rule in RULES
        if (rule.code, rule.subcode) not in rows
        and rule.code not in (104, 2500)
        and not any(subcode == rule.subcode for _, subcode in rows if subcode)
    ]
    assert not missing


def test_a_failed_container_is_classified_by_the_number_in_its_text(ig, server):
    snapshot = ig.snapshot()
    server.ready_after = 30
    with pytest.raises(NotReady):
        ig.stage_once(snapshot)
    server.containers[ig.remote["container"]].error = "Error: Media upload has failed with error code 2207009"
    server.ready_after = 0
    with pytest.raises(PlatformError) as caught:
        ig.stage(snapshot)
    assert (caught.value.cause, caught.value.action) == ("aspect_ratio", "fix")


def test_is_transient_is_a_server_error_whatever_the_code():
    assert rule_for(77777, None, transient=True).cause == "server_error"
    assert rule_for(None, None, http=502).published == "unknown"
    assert rule_for(None, 2207004).cause == "too_large"


def test_throttled_by_usage_says_for_how_long(ig, server):
    server.usage_limit, server.regain_minutes = 0, 42
    try:
        with pytest.raises(PlatformError) as caught:
            ig.stage_once(ig.snapshot())
    finally:
        server.usage_limit = None
    assert caught.value.action == "defer" and caught.value.retry_after == 42 * 60
    assert 41 * 60 < (caught.value.until - server.now()).total_seconds() <= 42 * 60


@pytest.mark.parametrize(
    "header", [None, "", "{", "[]", '{"1": 3}', '{"1": [{"estimated_time_to_regain_access": "x"}]}']
)
def test_usage_headers_that_say_nothing(header):
    assert regain_seconds({} if header is None else {"X-Business-Use-Case-Usage": header}) is None


def test_subcode_in():
    assert subcode_in("Error: code 2207052.") == 2207052
    assert subcode_in("Error: 12345678") is None


@pytest.mark.parametrize(
    "http, text, cause",
    [
        (502, "<html>bad gateway</html>", "server_error"),
        (403, "<html>login</html>", "unknown"),
        (302, "", "unknown"),
        (200, "not json", "unknown"),
        (429, "slow down", "throttled"),
        (400, '{"error": "words"}', "unknown"),
        (400, '{"error": {"code": "190"}}', "token_expired"),
    ],
)
def test_answers_that_are_no_graph_answers(ig, server, http, text, cause):
    server.fault("create", http=http, text=text)
    with pytest.raises(PlatformError) as caught:
        ig.stage_once(ig.snapshot())
    assert caught.value.cause == cause and "<" not in caught.value.detail


def test_throttles_in_a_row_wait_longer_each_time(ig, server):
    waits, snapshot = [], ig.snapshot()
    for _ in range(4):
        server.fault("create", code=4)
        with pytest.raises(PlatformError) as caught:
            ig.stage_once(snapshot)
        waits.append(caught.value.retry_after / 60)
        assert caught.value.until > server.now()
    assert waits == [15, 30, 60, 60]
    ig.stage(snapshot)
    server.fault("publish", code=4)
    with pytest.raises(PlatformError) as caught:
        ig.publish(snapshot)
    assert caught.value.retry_after == 15 * 60


def test_a_token_that_instagram_repeats_is_taken_out(server):
    token = "IGAAtoken-of-the-account-0123456789"
    text = json.dumps({"error": {"code": 1, "message": f"no {token}", "fbtrace_id": token}})
    error = error_of(400, text, {}, now=server.now(), publishing=False, secrets=(token,))
    assert token not in str(error.problem())
