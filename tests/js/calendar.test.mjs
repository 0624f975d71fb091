import assert from "node:assert/strict";
import test from "node:test";
import * as p from "../../static/js/pages/calendar/plan.js";
import * as q from "../../static/js/pages/content/query.js";
import { addressOf, bodyText, requestText } from "../../static/js/pages/content/outbox.js";

const BERLIN = "Europe/Berlin";
const NOW = Date.parse("2026-11-21T12:00:00Z");
const post = (status, at, actions = ["schedule"]) => ({ type: "post", at, post: { id: `x${at}`, status, actions, characterId: "c" } });

test("the address says view, day, character and zone", () => {
  const today = "2026-11-21";
  const state = p.readQuery("?view=week&date=2026-12-01&zone=UTC&characterId=c", { view: "month", today });
  assert.deepEqual(state, { view: "week", date: "2026-12-01", characterId: "c", zone: "UTC" });
  assert.equal(p.address(state, { today }), "/calendar.html?view=week&date=2026-12-01&characterId=c&zone=UTC");
  assert.deepEqual(p.readQuery("?view=x&date=2026-02-31&zone=Nowhere", { view: "list", today }), { view: "list", date: today, characterId: "", zone: "" });
});

test("the range covers whole days of the zone, also when the clock changes", () => {
  assert.deepEqual(p.rangeOf(["2026-10-25"], BERLIN), { from: "2026-10-24T22:00:00.000Z", to: "2026-10-25T23:00:00.000Z" });
  assert.equal(p.daysOf("month", "2026-11-21").length, 42);
  assert.equal(p.turn("month", "2026-01-31", 1), "2026-02-01");
  assert.equal(p.turn("week", "2026-11-21", -1), "2026-11-14");
  assert.equal(p.titleOf("week", "2026-11-21"), "16 – 22 November 2026");
  assert.equal(p.titleOf("week", "2026-12-31"), "28 December 2026 – 3 January 2027");
});

test("entries stand on the day of the zone, in order", () => {
  const days = p.byDay([post("scheduled", "2026-11-21T23:30:00Z"), post("scheduled", "2026-11-21T08:00:00Z"), post("published", "2026-11-22T05:00:00Z")], BERLIN);
  assert.deepEqual([...days.keys()], ["2026-11-21", "2026-11-22"]);
  assert.deepEqual(days.get("2026-11-22").map((i) => i.at), ["2026-11-21T23:30:00Z", "2026-11-22T05:00:00Z"]);
  assert.equal(p.shownOf(4, 4), 4);
  assert.equal(p.shownOf(5, 4), 3);
});

test("a crowded day shows what needs somebody, then what is to come", () => {
  const at = (h) => `2026-11-21T${h}:00:00Z`;
  const items = [post("cancelled", at("05")), post("failed", at("06")), post("published", at("07")), post("scheduled", at("15")), post("scheduled", at("16"))];
  assert.deepEqual(p.mostUseful(items, 3, NOW).map((i) => i.at), [at("06"), at("15"), at("16")]);
});

test("a post keeps its time on another day, or its minutes in another hour", () => {
  const item = post("scheduled", "2026-11-22T17:30:00Z"); // 18:30 in Berlin
  assert.deepEqual(p.dropOf(item, "2026-11-25", null, BERLIN, NOW), { at: "2026-11-25T17:30:00.000Z", note: "" });
  assert.deepEqual(p.dropOf(item, "2026-11-25", "9", BERLIN, NOW), { at: "2026-11-25T08:30:00.000Z", note: "" });
});

test("the past, rules and what is over refuse, and say why", () => {
  const item = post("scheduled", "2026-11-22T17:30:00Z");
  assert.match(p.dropOf(item, "2026-11-20", null, BERLIN, NOW).refused, /passed/);
  assert.match(p.dropOf(item, "2026-11-21", "9", BERLIN, NOW).refused, /passed/);
  assert.equal(p.dropOf({ type: "occurrence", at: "2026-11-22T17:00:00Z" }, "2026-11-25", null, BERLIN, NOW).offer, "rule");
  assert.equal(p.dropOf(post("published", "2026-11-20T17:00:00Z"), "2026-11-25", null, BERLIN, NOW).offer, "duplicate");
  assert.ok(p.dropOf(post("publishing", "2026-11-22T17:00:00Z", []), "2026-11-25", null, BERLIN, NOW).refused);
});

test("an empty slot is a time that is still to come, or nothing", () => {
  assert.equal(p.slotAt("2026-11-25", null, BERLIN, NOW), "2026-11-25T17:00:00.000Z");
  assert.equal(p.slotAt("2026-11-25", 9, BERLIN, NOW), "2026-11-25T08:00:00.000Z");
  assert.equal(p.slotAt("2026-11-20", null, BERLIN, NOW), null);
  assert.equal(p.slotAt("2026-11-21", 9, BERLIN, NOW), null);
  const evening = Date.parse("2026-11-21T19:20:00Z");
  assert.equal(p.slotAt("2026-11-21", null, BERLIN, evening), "2026-11-21T20:00:00.000Z");
  const late = Date.parse("2026-11-21T22:50:00Z"); // 23:50 in Berlin: the next hour is tomorrow
  assert.equal(p.slotAt("2026-11-21", null, BERLIN, late), "2026-11-21T22:55:00.000Z");
  assert.equal(p.slotAt("2026-11-21", null, BERLIN, Date.parse("2026-11-21T22:57:00Z")), null);
  assert.equal(p.slotAt("2026-11-21", 13, BERLIN, NOW + 1000), "2026-11-21T12:10:00.000Z");
});

test("lanes hold everybody, also characters that are gone", () => {
  const lanes = p.lanesOf([post("scheduled", "2026-11-22T17:30:00Z"), { type: "occurrence", at: "x", taskId: "t", characterId: "gone", characterName: "Zed" }], [{ id: "c", name: "Luna" }, { id: "k", name: "Kai" }]);
  assert.deepEqual(lanes.map((l) => [l.name, l.items.length]), [["Kai", 0], ["Luna", 1], ["Zed", 1]]);
});

// ---------------------------------------------------------------- the Content page

test("Needs you asks for what failed and for what is held", () => {
  const [failed, held] = q.listsOf({ tab: "needs", characterId: "c" });
  assert.equal(failed.status, "failed,unconfirmed,missed");
  assert.equal(held.hold, "any");
  assert.equal(held.characterId, "c");
  assert.equal(q.listsOf({ tab: "drafts" })[0].hold, "none"); // what is held stands under "Needs you", once
  assert.equal(q.listsOf({ tab: "scheduled" })[0].sort, "soonest");
  assert.equal(q.listsOf({ tab: "all" })[0].status, null);
});

test("counts of the tabs, and which one opens first", () => {
  const counts = { draft: 3, approved: 1, scheduled: 2, published: 5, failed: 1, held: 2, dry_run: 4, cancelled: 1 };
  assert.deepEqual(q.countsOf(counts), { needs: 3, drafts: 2, scheduled: 2, published: 5, dry: 4, all: 17 });
  assert.equal(q.firstTab(counts), "needs");
  assert.equal(q.firstTab({ published: 1 }), "published");
  assert.equal(q.firstTab({}), "all");
});

test("the address keeps tab and filters, and nothing unknown", () => {
  const state = q.readQuery("?tab=drafts&platform=twitter&bogus=1&post=p");
  assert.deepEqual(state, { tab: "drafts", platform: "twitter" });
  assert.equal(q.address(state), "/content.html?tab=drafts&platform=twitter");
  assert.equal(q.readQuery("?tab=nonsense").tab, "");
  const twice = q.merged([[{ id: "a", updatedAt: "1" }], [{ id: "b", updatedAt: "2" }, { id: "a", updatedAt: "1" }]]);
  assert.deepEqual(twice.map((p) => p.id), ["b", "a"]);
});

test("a request of the outbox reads well", () => {
  assert.equal(bodyText('{"a":1}'), '{\n  "a": 1\n}');
  assert.equal(bodyText("caption=A%20quiet+morning&x=1"), "caption = A quiet morning\nx = 1");
  assert.equal(bodyText(null), "");
  assert.equal(requestText({ method: "POST", url: "https://x/2", headers: { A: "b" }, body: { text: "hi" } }), 'POST https://x/2\nA: b\n\n{\n  "text": "hi"\n}');
  assert.deepEqual(addressOf("https://api.x.com/2/tweets?x=1"), { host: "api.x.com", path: "/2/tweets?…" });
});
