/** Accounts in words and the rules of passwords: what the sign-in page and the settings sections compute. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ROLE_SCOPES, device, place, refusal, roleLabel, safeNext, tokenState, waitWords } from "../../static/js/access.js";
import { MIN_LENGTH, strength, suggest } from "../../static/js/passwords.js";
import { curlExample } from "../../static/js/pages/settings/account-tokens.js";

const HERE = "http://127.0.0.1:5000";

test("only an address of this app is gone to after signing in", () => {
  assert.equal(safeNext("/studio.html?a=1#b", HERE), `${HERE}/studio.html?a=1#b`);
  for (const bad of [null, undefined, "", "studio.html", "https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example", "/\n//evil.example", "javascript:alert(1)", "/login.html?next=/x", "/login"]) {
    assert.equal(safeNext(bad, HERE), `${HERE}/`, String(bad));
  }
  for (const odd of ["/.//evil.example", "/..//evil.example/", "/%2f%2fevil.example", "/@evil.example"]) {
    assert.equal(new URL(safeNext(odd, HERE)).origin, HERE, odd);
    assert.ok(safeNext(odd, HERE).startsWith(`${HERE}/`), "a whole address, so that a path of two slashes stays a path");
  }
});

test("a waiting time counts down in words", () => {
  assert.equal(waitWords(252), "4 min 12 s");
  assert.equal(waitWords(61), "1 min 01 s");
  assert.equal(waitWords(59.2), "1 min 00 s");
  assert.equal(waitWords(0.4), "1 s");
  assert.equal(waitWords(-3), "0 s");
  assert.equal(waitWords(3600 + 5 * 60 + 30), "1 h 05 min");
});

test("devices are named as people know them", () => {
  const cases = [
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox on Windows", "computer"],
    ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "Edge on Windows", "computer"],
    ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15", "Safari on Mac", "computer"],
    ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", "Safari on iPhone", "phone"],
    ["Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36", "Chrome on Android", "phone"],
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "Chrome on Linux", "computer"],
    ["Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", "Chrome on ChromeOS", "computer"],
    ["Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0 Mobile/15E148 Safari/604.1", "Chrome on iPad", "phone"],
    ["curl/8.5.0", "curl", "program"],
    ["python-requests/2.32.3", "Python (requests)", "program"],
    ["MyTool/1.0 (nightly)", "MyTool", "program"],
    ["", "Unknown device", "unknown"],
    [null, "Unknown device", "unknown"],
  ];
  for (const [agent, label, kind] of cases) assert.deepEqual(device(agent), { label, kind }, String(agent));
  assert.equal(place("127.0.0.1"), "this computer");
  assert.equal(place("::1"), "this computer");
  assert.equal(place("192.168.1.20"), "192.168.1.20");
  assert.equal(place(""), "");
});

test("what somebody may not do is said with their role", () => {
  assert.equal(refusal("write", "viewer"), "You are signed in as a viewer: you can look, not change.");
  assert.equal(refusal("admin", "editor"), "You are signed in as an editor. Only an administrator can do this.");
  assert.equal(roleLabel("admin"), "Administrator");
  assert.equal(roleLabel("owner"), "owner");
  assert.deepEqual(ROLE_SCOPES.viewer, ["read"]);
});

test("tokens end", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  assert.deepEqual(tokenState({ expiresAt: null }, now), ["good", "Works"]);
  assert.deepEqual(tokenState({ expiresAt: "2027-01-01T00:00:00Z" }, now), ["good", "Works"]);
  assert.deepEqual(tokenState({ expiresAt: "2026-11-25T00:00:00Z" }, now), ["warn", "Ends soon"]);
  assert.deepEqual(tokenState({ expiresAt: "2026-11-21T11:59:59Z" }, now), ["bad", "Ended"]);
  assert.deepEqual(tokenState({ expired: true, expiresAt: null }, now), ["bad", "Ended"]);
  assert.equal(curlExample(HERE, "dd_x"), `curl '${HERE}/api/characters' \\\n  -H 'Authorization: Bearer dd_x'`);
});

test("a password is judged by what somebody would try first", () => {
  const score = (text, own) => strength(text, own).score;
  assert.equal(score(""), 0);
  assert.deepEqual(strength("short"), { score: 0, label: "Too short", advice: "5 more, at least", bits: strength("short").bits });
  for (const weak of ["password123", "P4ssw0rd!!!!", "qwertzuiop12", "1234567890", "abcdefghij12", "aaaaaaaaaaaa", "hunter2hunter2"]) assert.equal(score(weak), 1, weak);
  for (const fair of ["Sommer2024!!", "xK9#mQ2$vL"]) assert.equal(score(fair), 2, fair);
  for (const strong of ["correct horse battery staple", "mountain-river-7", "k7mqp-x3vtd-9hdpn-w2rfs"]) assert.equal(score(strong), 4, strong);
  assert.equal(score("mira2024mira", ["Mira"]), 1);
  assert.match(strength("miraculous-day", ["Mira"]).advice + strength("mira-mira-1", ["Mira"]).advice, /name/);
  assert.match(strength("password123").advice, /password/);
});

test("a suggested password is strong, readable and fair", () => {
  const made = suggest();
  assert.match(made, /^(?:[a-hjkmnp-z2-9]{5}-){3}[a-hjkmnp-z2-9]{5}$/);
  assert.equal(strength(made).score, 4);
  assert.notEqual(made, suggest());
  assert.ok(made.length >= MIN_LENGTH);
  // bytes that would favour the first letters are thrown away
  let calls = 0;
  const one = suggest((bytes) => {
    calls += 1;
    return bytes.fill(calls === 1 ? 255 : 30);
  });
  assert.equal(one, "99999-99999-99999-99999");
  assert.equal(calls, 2);
});
