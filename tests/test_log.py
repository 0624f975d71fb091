"""Log lines carry their request and task, and never a credential."""

from __future__ import annotations

import logging

import pytest

from dalla import log


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("GET /v23/me?access_token=IGQVJabcdef123456&fields=id", "IGQVJabcdef123456"),
        ('{"instagramApiKey": "EAAB-secret-value"}', "EAAB-secret-value"),
        ("Authorization: Bearer dd_abcdef0123456789", "dd_abcdef0123456789"),
        ("x-goog-api-key: AIzaSyExample123", "AIzaSyExample123"),
        ("twitterAccessSecret=abcdefghijkl", "abcdefghijkl"),
        ("connecting to postgresql://dalla:hunter2hunter2@db/dalla", "hunter2hunter2"),
    ],
)
def test_credentials_are_dotted_out(text, secret):
    assert secret not in log.scrub(text) and "••••" in log.scrub(text)


def test_ordinary_words_stay():
    text = "generate_image completed after 1.20 s: a key to the city, password-free"
    assert log.scrub(text) == text


def test_lines_of_a_task_also_go_to_its_own_file(tmp_path):
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        log.configure(tmp_path)
        token = log.job_id.set("job_1")
        logging.getLogger("dalla.test").info("drawing with api_key=abcdefgh123")
        log.job_id.reset(token)
        text = (tmp_path / "runs" / "job_1" / "log.txt").read_text()
        assert "drawing" in text and "job_1" in text and "abcdefgh123" not in text
        assert "drawing" in (tmp_path / "logs" / "dalla.log").read_text()
        log.configure(tmp_path, "DEBUG")
        logging.getLogger("oauthlib.oauth1.rfc5849").debug("Signing request with client_key=zyxwvut987")
        assert "zyxwvut987" not in (tmp_path / "logs" / "dalla.log").read_text()
    finally:
        for handler in list(root.handlers):
            if handler not in before:
                root.removeHandler(handler)
                handler.close()
        root.setLevel(level)
