"""Every route, asked by everybody, against the table in docs/access.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app import create_app
from dalla.web import access
from tests.web.auth_kit import ROLES, SCOPES, People

PAGE = Path(__file__).parent.parent.parent / "docs" / "access.md"
CALLERS = ("nobody", *ROLES, *(f"token {scope}" for scope in SCOPES))
ALLOWED = {
    "public": set(CALLERS),
    "read": set(CALLERS) - {"nobody"},
    "write": {"editor", "admin", "token write"},
    "publish": {"editor", "admin", "token publish"},
    "admin": {"admin"},
    "self": set(ROLES),
}
#: Addresses that a rule with a name in it answers, and that have a row of their own.
OWN_ROWS = {("GET", "/login.html"): "/login.html", ("GET", "/static/{page}.html"): "/static/index.html"}
FILLED = {"/static/<path:filename>": "/static/js/main.js", "/<name>.html": "/studio.html"}


@pytest.fixture
def environ():
    return {"DALLA_RATE_LIMIT": "0"}  # the sweep asks more often than a program should


def documented() -> dict[tuple[str, str], str]:
    rows = re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    table = {(method, rule): right for method, rule, right in rows}
    assert len(table) == len(rows), "a route stands there twice"
    return table


def routes(app) -> dict[tuple[str, str], str]:
    """Every (method, rule as documented) with an address to ask."""
    found = dict(OWN_ROWS)
    for rule in app.url_map.iter_rules():
        address = FILLED.get(rule.rule) or re.sub(r"<int:\w+>", "1", rule.rule)
        address = re.sub(r"<[^>]+>", "x1", address)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            found[method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)] = address
    return found


def test_the_table_has_every_route_and_no_other(app):
    real, table = routes(app), documented()
    rows = [f"| `{method}` | `{rule}` | {right_now(app, method, real[method, rule])} |" for method, rule in sorted(real.keys() - table.keys(), key=lambda r: r[1])]  # fmt: skip
    assert not rows, "docs/access.md lacks these rows:\n" + "\n".join(rows)
    assert not table.keys() - real.keys(), "docs/access.md has rows of routes that are gone"


def right_now(app, method: str, address: str) -> str:
    """What dalla/web/access.py says of an address."""
    with app.test_request_context(address, method=method):
        return access.right_of(access._rule(), method)


def test_everybody_is_let_in_where_the_table_says_so_and_nowhere_else(app, settings, container):
    people = People(app)
    table, real = documented(), routes(app)
    tokens = {f"token {scope}": people.token(scope) for scope in SCOPES}
    cookies = {role: getattr(people, role).cookie for role in ROLES}

    # Who is to be refused meets the real views: were one reached, it would do what it does. Who is to be let in
    # meets views that only say so, as restarting and deleting in earnest is not what is looked at here.
    calm = create_app(settings, container=container)
    for endpoint in calm.view_functions:
        calm.view_functions[endpoint] = lambda **values: ("reached", 299)

    wrong = []
    for (method, rule), address in sorted(real.items()):
        for caller in CALLERS:
            expected = caller in ALLOWED[table[method, rule]]
            client = (calm if expected else app).test_client(use_cookies=False)
            headers = {"X-Dalla": "1", **tokens.get(caller, {})}
            if caller in cookies:
                headers["Cookie"] = f"{access.COOKIE}={cookies[caller]}"
            answer = client.open(address, method=method, headers=headers)
            refused = answer.status_code in (401, 403) or (
                answer.status_code == 303 and answer.headers["Location"].startswith("/login.html?")
            )
            fits = answer.status_code == 299 if expected else refused
            if not fits:
                wrong.append(f"{caller}: {method} {address} answers {answer.status_code}, {table[method, rule]}")
            answer.close()
    assert not wrong, "\n".join(wrong)


def test_head_and_options_need_what_get_needs(app):
    people = People(app)
    for (method, rule), address in routes(app).items():
        if method != "GET" or documented()[method, rule] == "public":
            continue
        for other in ("HEAD", "OPTIONS"):
            answer = app.test_client().open(address, method=other)
            assert answer.status_code in (401, 303), (other, address, answer.status_code)
    assert people.viewer.open("OPTIONS", "/api/characters").status_code == 200
    assert people.viewer.open("OPTIONS", "/api/auth/users").status_code == 403


def test_every_kind_of_task_has_a_right(container):
    assert set(container.jobs._kinds) <= set(access.TASKS), "name the new kind in dalla/web/access.py, TASKS"
