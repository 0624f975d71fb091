import test from "node:test";
import assert from "node:assert/strict";
import { build, localText, parse, until, utcText } from "../../static/js/components/cron-field.js";
import { accountWords, formValues, taskFrom, typeField } from "../../static/js/pages/schedule/fields.js";
import {
  bars,
  choose,
  differs,
  knownZone,
  lastAt,
  liveWords,
  local,
  needs,
  platformsOf,
  stepLabel,
  taskName,
  took,
} from "../../static/js/pages/schedule/words.js";

test("presets and expressions are the same thing, both ways", () => {
  for (const [text, kind] of [
    ["0 18 * * *", "daily"],
    ["30 7 * * 1-5", "weekdays"],
    ["5 9 * * 1,3,5", "weekly"],
    ["0 9 * * 0", "weekly"],
    ["15 6 31 * *", "monthly"],
    ["0 9 L * *", "monthly"],
    ["0 * * * *", "hours"],
    ["20 */6 * * *", "hours"],
  ]) {
    const preset = parse(text);
    assert.equal(preset.kind, kind, text);
    assert.equal(build(preset), text);
  }
});

test("other ways to say the same are understood", () => {
  assert.equal(build(parse("@daily")), "0 0 * * *");
  assert.equal(build(parse("0 9 * * mon-fri")), "0 9 * * 1-5");
  assert.deepEqual(parse("0 9 * * 5-7").days, ["5", "6", "0"]);
  assert.equal(parse("0 9 * * 0-6").kind, "daily");
  assert.equal(build(parse("  0   9  *  *  Sat,7 ")), "0 9 * * 0,6");
});

test("what no preset can say stays an expression", () => {
  for (const text of [
    "*/7 * * * *",
    "0 9 1-7 * 1",
    "0 9 * 6 *",
    "0 */5 * * *",
    "60 9 * * *",
    "0 24 * * *",
    "0 9 * * 6-1",
    "0 9 * * 5L",
    "* * * *",
    "",
    null,
  ])
    assert.equal(parse(text).kind, "custom", String(text));
});

test("an unfinished preset has no expression", () => {
  assert.equal(build({ ...parse("0 9 * * 1"), days: [] }), null);
  assert.equal(build({ ...parse("0 9 * * *"), time: "" }), null);
});

test("counting down", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  for (const [when, wanted] of [
    ["2026-11-21T12:00:40Z", "in 40 s"],
    ["2026-11-21T12:03:20Z", "in 3 min"],
    ["2026-11-21T14:05:00Z", "in 2 h 05 min"],
    ["2026-11-24T15:00:00Z", "in 3 d 3 h"],
    ["2027-01-21T12:00:00Z", "in 61 days"],
    ["2026-11-21T11:59:50Z", "due now"],
    ["2026-11-21T11:50:00Z", "10 min ago"],
    [null, ""],
    ["nonsense", ""],
  ])
    assert.equal(until(when, now), wanted, when);
});

test("the wall clock of the server is shown as it is", () => {
  assert.equal(localText({ local: "2026-11-22T09:00", offset: "+01:00" }, 2026), "Sun 22 Nov, 09:00 +01:00");
  assert.match(localText({ local: "2027-03-28T03:00:00+02:00" }, 2026), /^Sun,? 28 Mar 2027, 03:00 \+02:00$/);
  assert.equal(localText({ local: "what" }), "what");
  assert.equal(utcText("2026-11-22T08:00:00.000Z"), "22 Nov, 08:00");
});

test("local times name the year only when it is another", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  assert.equal(local("2026-11-22T08:00:00Z", "Europe/Berlin", now), "Sun 22 Nov, 09:00");
  assert.match(local("2027-01-02T08:00:00Z", "Asia/Tokyo", now), /2 Jan 2027, 17:00$/);
  assert.equal(local(null), "–");
  assert.equal(knownZone("Mars/Olympus"), false);
  assert.equal(differs("Europe/Berlin", "Europe/Paris", "2026-11-22T08:00:00Z"), false);
  assert.equal(differs("Europe/Berlin", "Asia/Tokyo", "2026-11-22T08:00:00Z"), true);
});

const TASKS = [
  {
    id: "a",
    name: "Evening",
    characterId: "c1",
    characterName: "Luna",
    type: "generate_and_post",
    active: true,
    nextRun: "2026-11-22T18:00:00Z",
    config: { postToInstagram: true },
  },
  {
    id: "b",
    characterId: "c2",
    characterName: "Kai",
    type: "post_existing",
    active: true,
    nextRun: "2026-11-21T18:00:00Z",
    lastStatus: "failed",
    lastRun: "2026-11-20T00:00:00Z",
    platforms: ["twitter"],
    config: {},
  },
  { id: "c", type: "backup", active: false, nextRun: null, config: {} },
  {
    id: "d",
    type: "generate_only",
    characterId: "c1",
    characterName: "Luna",
    active: true,
    nextRun: null,
    problem: "bad cron",
    config: {},
  },
];
const ids = (filter) =>
  choose(TASKS, filter)
    .map((t) => t.id)
    .join("");

test("tasks are found and ordered", () => {
  assert.equal(ids({}), "bacd".slice(0, 2) + "cd");
  assert.equal(ids({ characterId: "c1" }), "ad");
  assert.equal(ids({ state: "off" }), "c");
  assert.equal(ids({ state: "problem" }), "bd");
  assert.equal(ids({ type: "backup" }), "c");
  assert.equal(ids({ q: "luna instagram" }), "a");
  assert.equal(ids({ q: "gallery" }), "b");
  assert.equal(ids({ sort: "last" })[0], "b");
  assert.equal(taskName(TASKS[1]), "Post from the gallery for Kai");
  assert.deepEqual(platformsOf(TASKS[0]), ["instagram"]);
  assert.equal(lastAt({ lastRun: { startedAt: "x" } }), "x");
});

test("a stored task survives the form", () => {
  const stored = {
    id: "t",
    type: "generate_and_post",
    characterId: "c1",
    schedule: "0 18 * * *",
    config: { prompt: "a forest", postToInstagram: true, mystery: { deep: 1 }, loras: [{ name: "x" }] },
  };
  const form = formValues(stored);
  assert.equal(form.config.promptSource, "fixed", "a prompt without a source is a fixed one, as in the seeds");
  assert.equal(formValues({ id: "t", config: {} }).config.promptSource, "base");
  assert.equal(formValues().config.promptSource, "library");
  const sent = taskFrom({ ...form, config: { ...form.config, caption: null, hashtags: [], postToTwitter: false, model: null } }, stored);
  assert.deepEqual(sent.config.mystery, { deep: 1 });
  assert.deepEqual(sent.config.loras, [{ name: "x" }]);
  for (const key of ["caption", "hashtags", "postToTwitter", "model"]) assert.ok(!(key in sent.config), key);
  assert.equal(taskFrom({ ...form, config: { ...form.config, prompt: null } }, stored).config.prompt, null, "what was set can be emptied");
});

test("a type sends only its own keys", () => {
  const sent = taskFrom({ type: "backup", schedule: "0 3 * * *", config: { keep: 5, prompt: "x", postToInstagram: true } });
  assert.deepEqual(sent.config, { keep: 5 });
  assert.equal(sent.characterId, null);
});

test("accounts in words", () => {
  assert.equal(accountWords(null).tone, "muted");
  assert.match(accountWords({ connected: false, missing: ["access token"] }).text, /access token missing.*rehearsed/);
  assert.match(accountWords({ connected: true, username: "luna" }).text, /live/);
  assert.equal(accountWords({ connected: true, dryRun: true }).tone, "info");
  assert.equal(accountWords({ connected: true, breaker: { reason: "Token refused." } }).text, "Token refused.");
  assert.equal(accountWords({ connected: true, paused: { reason: "rest" }, breaker: {} }).icon, "pause");
});

test("steps stand where they were in time", () => {
  const at = (s) => new Date(Date.parse("2026-11-21T12:00:00Z") + s * 1000).toISOString();
  const [a, b, c] = bars([{ startedAt: at(0), endedAt: at(25) }, { startedAt: at(25), endedAt: at(100) }, { startedAt: null }]);
  assert.deepEqual(
    [a, b, c],
    [
      { left: 0, width: 25 },
      { left: 25, width: 75 },
      { left: 0, width: 0 },
    ],
  );
  assert.equal(bars([{ startedAt: at(0) }], Date.parse(at(10)))[0].width, 100);
  assert.equal(took({ startedAt: at(0), finishedAt: at(9) }), 9);
  assert.equal(took({ startedAt: null }), null);
  assert.equal(stepLabel("post:twitter"), "Post to X");
  assert.equal(stepLabel("generate"), "Make the picture");
});

test("live posts in words", () => {
  const tasks = [{ platforms: ["instagram", "twitter"] }, { platforms: ["instagram"] }];
  assert.equal(liveWords({ livePosts: 3, tasks }), "3 live posts: 2 on Instagram, 1 on X");
  assert.equal(liveWords({ livePosts: 1, tasks: [{ platforms: ["twitter"] }] }), "1 live post: 1 on X");
});

test("a backup is offered to administrators only, one that is stored is shown to everybody", () => {
  const offered = (type, admin) => /value="backup"/.test(String(typeField({ type }, { admin })));
  assert.ok(offered("generate_only", true));
  assert.ok(!offered("generate_only", false));
  assert.ok(offered("backup", false));
  assert.equal(needs({ type: "backup" }), "admin");
  assert.equal(needs({ type: "generate_and_post" }), "publish");
});
