"""What `make lint` makes of the answers of pip-audit."""

from __future__ import annotations

from tools.audit import judge

HOLE = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-0001"], "fix_versions": ["2.0.1"]}


def test_a_hole_fails_and_names_the_version_that_mends_it():
    code, lines = judge({"dependencies": [{"name": "leaky", "version": "2.0", "vulns": [HOLE]}]}, {})
    assert code == 1
    assert "leaky 2.0: PYSEC-2026-1 (mended in 2.0.1)" in lines


def test_an_accepted_hole_is_named_with_its_reason_and_passes():
    report = {"dependencies": [{"name": "leaky", "version": "2.0", "vulns": [HOLE]}]}
    code, lines = judge(report, {"CVE-2026-0001": "the server part is not used"})
    assert code == 0
    assert "accepted: the server part is not used" in lines[0]


def test_what_the_index_does_not_know_is_not_called_audited():
    unknown = {"name": "mine", "version": "1", "skip_reason": "not found"}
    assert "Nothing was audited" in judge({"dependencies": [unknown]})[1][0]
    code, lines = judge({"dependencies": [unknown, {"name": "good", "version": "1", "vulns": []}]})
    assert code == 0 and "mine" in lines[0] and "1 packages audited, 0 known holes" in lines[-1]
