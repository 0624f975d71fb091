"""Every documented operation has an example, every example works, and its answer looks as documented."""

from __future__ import annotations

import os

import pytest

from tests.web.api_world import Answers, ApiWorld, calls, document

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in trainer uses flock")


def test_every_example_works_and_answers_what_is_documented(tmp_path):
    world = ApiWorld(tmp_path)
    try:
        answers = Answers(document(world.app))
        wrong: list[str] = []
        for number, call in enumerate(calls()):
            try:
                answer = world.run(call)
            except (AssertionError, KeyError, IndexError) as exc:
                wrong.append(f"{number} {call['call']}: {type(exc).__name__} {exc}")
                continue
            expected = call.get("here", call["status"])
            if answer.status_code != expected:
                wrong.append(
                    f"{number} {call['call']}: {answer.status_code} instead of {expected}: {answer.text[:400]}"
                )
            else:
                wrong += answers.problems(call["call"], answer)
            if call.get("stream"):
                answer.close()
        assert not wrong, "\n".join(wrong)
    finally:
        world.close()


def test_every_operation_has_an_example(app):
    documented = {f"{method.upper()} {path}" for path, item in document(app)["paths"].items() for method in item}
    assert documented == {call["call"] for call in calls()}
