/** The rules of the connections page: grouping, filters, the sentence at the top. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { byCharacter, characterPanel, filtered, needsYou, summary } from "../../static/js/pages/connections/accounts.js";

const account = (values) => ({
  characterId: "c1",
  characterName: "Luna",
  platform: "instagram",
  platformLabel: "Instagram",
  status: "ok",
  detail: "Connected.",
  remedy: null,
  username: null,
  missing: [],
  breaker: null,
  paused: null,
  dryRun: false,
  tokenDaysLeft: null,
  tokenExpired: false,
  quotaTotal: null,
  fromEnvironment: [],
  checkOk: true,
  href: "/characters.html?id=c1&tab=accounts",
  ...values,
});
const platforms = (...accounts) => [{ name: "instagram", accounts }];
const panel = (a) => String(characterPanel({ id: a.characterId, name: a.characterName, accounts: [a] }, { platforms: new Map(), marked: "" }));

test("accounts are grouped by character in their order", () => {
  const groups = byCharacter([
    { name: "instagram", accounts: [account({}), account({ characterId: "c2", characterName: "Nova" })] },
    { name: "twitter", accounts: [account({ platform: "twitter" })] },
  ]);
  assert.deepEqual(
    groups.map((g) => [g.name, g.accounts.map((a) => a.platform)]),
    [
      ["Luna", ["instagram", "twitter"]],
      ["Nova", ["instagram"]],
    ],
  );
});

test("filters and search", () => {
  const groups = byCharacter(
    platforms(
      account({}),
      account({ characterId: "c2", characterName: "Nova", status: "off" }),
      account({ characterId: "c3", characterName: "Mia", status: "error", username: "mia_art" }),
    ),
  );
  const names = (filter) => filtered(groups, { show: "", q: "", ...filter }).map((g) => g.name);
  assert.deepEqual(names({}), ["Luna", "Nova", "Mia"]);
  assert.deepEqual(names({ show: "attention" }), ["Mia"]);
  assert.deepEqual(names({ show: "off" }), ["Nova"]);
  assert.deepEqual(names({ show: "connected" }), ["Luna", "Mia"]);
  assert.deepEqual(names({ q: " ART" }), ["Mia"]);
  assert.deepEqual(names({ q: "nobody" }), []);
});

test("the sentence at the top tells the worst", () => {
  assert.equal(summary([account({ status: "off" })]).title, "No account is connected yet");
  assert.equal(summary([account({})]).tone, "good");
  assert.equal(summary([account({}), account({ status: "warning" })]).title, "One account needs a look");
  assert.equal(summary([account({ status: "error" }), account({ status: "error" }), account({ status: "warning" })]).title, "2 accounts do not work");
  assert.equal(needsYou(account({ status: "off" })), false);
});

test("the button that mends it comes first", () => {
  const first = (a) => panel(account(a)).match(/btn-primary[^>]*>.*?<\/svg>([^<]+)</s)?.[1];
  assert.equal(first({ status: "error", checkOk: false }), "Reconnect");
  assert.equal(first({ status: "error", breaker: { reason: "Spam", code: "spam_block", reconnect: false } }), "Close breaker");
  assert.equal(first({ status: "error", breaker: { reason: "Dead", code: "token_expired", reconnect: true } }), "Reconnect");
  assert.equal(first({ status: "warning", tokenDaysLeft: 4 }), "Renew token");
  assert.equal(first({ status: "warning", checkOk: null }), "Test");
  assert.equal(first({ status: "warning", paused: { scope: "account" } }), "Resume");
  assert.equal(first({}), undefined);
});

test("a token from the environment has no Renew button", () => {
  assert.doesNotMatch(panel(account({ status: "warning", tokenDaysLeft: 4, fromEnvironment: ["LUNA_KEY"] })), /Renew token/);
});

test("a dry run is said in words", () => {
  assert.match(panel(account({ dryRun: true })), /Dry run\./);
  assert.doesNotMatch(panel(account({})), /Dry run/);
});

test("what others wrote is escaped", () => {
  assert.doesNotMatch(panel(account({ status: "error", checkOk: false, detail: "<img src=x>", username: "<b>" })), /<img src=x>|<b>/);
});
