"""What every IdempotencyStore does."""

from __future__ import annotations

import threading

import pytest

from dalla.errors import Conflict, InvalidInput

NOW = "2026-05-01T00:00:00.000Z"
NEXT_DAY = "2026-05-02T00:00:01.000Z"
ANSWER = {"status": 202, "body": {"taskId": "job_1"}, "headers": {"Location": "/x"}}


def test_the_same_key_gets_the_first_answer(idempotency):
    assert idempotency.begin("key", "print", NOW) is None
    with pytest.raises(Conflict, match="running"):
        idempotency.begin("key", "print", NOW)
    idempotency.finish("key", ANSWER)
    assert idempotency.begin("key", "print", NOW) == ANSWER
    assert idempotency.begin("other", "print", NOW) is None


def test_another_request_with_the_key_is_refused(idempotency):
    idempotency.begin("key", "print", NOW)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="another request"):
            idempotency.begin("key", "different", NOW)
        idempotency.finish("key", ANSWER)
    for key in ("", "x" * 256):
        with pytest.raises(InvalidInput):
            idempotency.begin(key, "print", NOW)


def test_a_forgotten_or_old_key_is_free_again(idempotency):
    idempotency.begin("key", "print", NOW)
    idempotency.forget("key")
    assert idempotency.begin("key", "print", NOW) is None
    idempotency.finish("key", ANSWER)
    assert idempotency.begin("key", "different", NEXT_DAY) is None


def test_purge(idempotency):
    idempotency.begin("old", "print", NOW)
    idempotency.begin("new", "print", NEXT_DAY)
    assert idempotency.purge(NEXT_DAY) == 1
    assert idempotency.begin("old", "print", NEXT_DAY) is None


def test_of_many_at_once_one_begins(idempotency):
    results: list[object] = []

    def work() -> None:
        try:
            results.append(idempotency.begin("key", "print", NOW))
        except Conflict as exc:
            results.append(exc)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    assert len(results) == 16


def test_keys_of_requests_that_died_are_freed_and_answers_kept(idempotency):
    idempotency.begin("died", "print", NOW)
    idempotency.begin("answered", "print", NOW)
    idempotency.finish("answered", ANSWER)
    assert idempotency.forget_unfinished() == 1
    assert idempotency.begin("died", "print", NOW) is None
    assert idempotency.begin("answered", "print", NOW) == ANSWER
