import assert from "node:assert/strict";
import test from "node:test";
import * as m from "../../static/js/components/post-composer/model.js";
import { canMove, fixesOf, momentOf, needsYou, postBadge, stateOf, troubleOf } from "../../static/js/components/post-state.js";
import { measure, weightedLength } from "../../static/js/text-limits.js";

const both = (more = {}) => m.blank({ characterId: "c", platforms: ["instagram", "twitter"], ...more });

test("one caption goes to all platforms until it is edited apart, and back", () => {
  let form = m.withCaption(both(), "", "Hello");
  assert.equal(m.captionFor(form, "twitter"), "Hello");
  form = m.withCaption(m.unlink(form), "twitter", "Short");
  assert.deepEqual([m.captionFor(form, "instagram"), m.captionFor(form, "twitter")], ["Hello", "Short"]);
  assert.deepEqual(m.toBody(form).captions, { instagram: "Hello", twitter: "Short" });
  form = m.link(form, "twitter");
  assert.deepEqual([m.captionFor(form, "instagram"), m.captionFor(form, "twitter")], ["Short", "Short"]);
});

test("a generated caption stays linked only when all platforms got the same words", () => {
  const same = m.withGenerated(both({ mediaIds: ["a"], altTexts: [""] }), { caption: "A", captions: { instagram: "A", twitter: "A" }, altText: "Alt" });
  assert.equal(same.linked, true);
  assert.deepEqual(same.altTexts, ["Alt"]);
  const apart = m.withGenerated(both(), { caption: "A", captions: { instagram: "A long", twitter: "A" } });
  assert.equal(apart.linked, false);
  assert.equal(m.captionFor(apart, "twitter"), "A");
  const own = m.withGenerated(both({ mediaIds: ["a"], altTexts: ["Mine"] }), { caption: "A", altText: "Alt" });
  assert.deepEqual(own.altTexts, ["Mine"]);
});

test("alt texts follow their pictures", () => {
  let form = m.addMedia(both(), ["a", "b", "c", "b"]);
  assert.deepEqual(form.mediaIds, ["a", "b", "c"]);
  form = m.withAlt(m.withAlt(form, "a", "first"), "c", "third");
  form = m.moveMedia(form, "c", 0);
  assert.deepEqual([form.mediaIds, form.altTexts], [["c", "a", "b"], ["third", "first", ""]]);
  form = m.removeMedia(form, "a");
  assert.deepEqual([form.mediaIds, form.altTexts], [["c", "b"], ["third", ""]]);
  assert.equal(m.moveMedia(form, "c", -1), form);
  assert.equal(m.kindOf(form), "carousel");
  assert.equal(m.kindOf(m.removeMedia(form, "b")), "single");
});

test("a story is one picture, and only where stories exist", () => {
  const infos = [{ name: "instagram", kinds: ["single", "carousel", "story"] }, { name: "twitter", kinds: ["single", "carousel"] }];
  assert.equal(m.canStory(m.blank({ platforms: ["instagram"] }), infos), true);
  assert.equal(m.canStory(both(), infos), false);
  assert.equal(m.canStory(m.blank({ platforms: ["instagram"], mediaIds: ["a", "b"] }), infos), false);
  assert.equal(m.addMedia(m.blank({ story: true, mediaIds: ["a"] }), ["b"]).story, false);
});

test("an edit sends the rehearsal only when it was changed", () => {
  const post = { id: "p", revision: 3, characterId: "c", platform: "twitter", mediaIds: ["a"], caption: "x", altTexts: [], options: { fit: "crop" }, dryRun: true, kind: "single", scheduledAt: "2026-11-21T10:00:00Z" };
  const form = m.fromPost(post, () => "2026-11-21T11:00");
  assert.equal(form.options.fit, "crop");
  assert.equal(form.options.madeWithAi, true);
  assert.equal("dryRun" in m.toPatch(form, post), false);
  assert.equal(m.toPatch({ ...form, dryRun: false }, post).dryRun, null);
  assert.equal(m.toPatch({ ...form, dryRun: true }, { ...post, dryRun: false }).dryRun, true);
});

test("what goes over the limit is cut between characters people see", () => {
  const used = (text) => weightedLength(text);
  const text = `${"a".repeat(279)}👨‍👩‍👧‍👦 and more`;
  const [fits, rest] = m.overLimit(text, used, 280);
  assert.equal(fits, "a".repeat(279));
  assert.equal(fits + rest, text);
  assert.deepEqual(m.overLimit("short", used, 280), ["short", ""]);
  const x = { maxLength: 280, count: "weighted" };
  assert.equal(measure("日".repeat(141), x).used, 282);
});

test("a kept draft is taken up for the same pictures only", () => {
  const kept = { form: m.blank({ characterId: "c", mediaIds: ["a", "b"] }), asked: ["a"] };
  assert.equal(m.fitsDraft(kept, { mediaIds: ["a"] }), true);
  assert.equal(m.fitsDraft(kept, {}), true);
  assert.equal(m.fitsDraft(kept, { mediaIds: ["z"] }), false);
  assert.equal(m.fitsDraft(kept, { mediaIds: ["a"], characterId: "other" }), false);
  assert.equal(m.fitsDraft(null, {}), false);
});

test("money, hashtags and ratios", () => {
  assert.equal(m.costWords(0.015), "about $0.015");
  assert.equal(m.costWords({ amount: 0.2, currency: "USD", note: "a link costs more" }), "about $0.2, a link costs more");
  assert.equal(m.costWords(null), "");
  assert.equal(m.hashtagsIn("#luna and #forest_2, no#tag, #1"), 2);
  assert.deepEqual(m.ratiosOf(["a", "b"], [{ name: "a", images: { ratios: ["1:1", "4:5"] } }, { name: "b", images: { ratios: ["16:9", "1:1"] } }]), ["1:1"]);
});

test("errors of any chosen platform block, those of others do not", () => {
  const check = { platforms: { instagram: { issues: [{ level: "error", message: "no picture" }] }, twitter: { issues: [{ level: "warning", message: "w" }] } } };
  assert.equal(m.errorsOf(both(), check).length, 1);
  assert.equal(m.errorsOf(m.blank({ platforms: ["twitter"] }), check).length, 0);
});

// ---------------------------------------------------------------- states

test("every state has a word, held drafts say why", () => {
  const label = (post) => stateOf(post).label;
  assert.equal(label({ status: "draft", hold: "approval" }), "Waits for approval");
  assert.equal(label({ status: "draft" }), "Draft");
  assert.equal(label({ status: "scheduled", deferredReason: "full" }), "Put off");
  for (const status of ["draft", "approved", "scheduled", "claimed", "uploading", "publishing", "published", "failed", "unconfirmed", "cancelled", "missed", "dry_run"])
    assert.match(label({ status }), /^\w/);
  assert.match(String(postBadge({ status: "scheduled", dryRun: true })), /Dry run/);
});

test("the first button mends the cause", () => {
  const first = (post) => fixesOf({ characterId: "c", platform: "twitter", actions: ["edit", "retry", "schedule", "publish", "approve"], ...post })[0];
  assert.equal(first({ status: "failed", error: { action: "fix" } }).action, "edit");
  assert.equal(first({ status: "failed", error: { action: "retry" } }).action, "retry");
  assert.match(first({ status: "failed", error: { action: "reconnect" } }).href, /connections\.html/);
  assert.equal(first({ status: "unconfirmed" }).action, "settle");
  assert.equal(first({ status: "missed" }).action, "schedule");
  assert.equal(first({ status: "draft", hold: "approval" }).action, "approve");
  assert.equal(first({ status: "draft", hold: "caption" }).action, "edit");
  assert.deepEqual(fixesOf({ status: "published", actions: ["duplicate"] }), []);
});

test("what waits for a person, what may be moved, and where it stands", () => {
  assert.equal(needsYou({ status: "draft", hold: "caption" }), true);
  assert.equal(needsYou({ status: "draft" }), false);
  assert.equal(canMove({ status: "scheduled", actions: ["schedule"] }), true);
  assert.equal(canMove({ status: "dry_run", actions: ["schedule"] }), false);
  assert.equal(momentOf({ status: "published", publishedAt: "b", scheduledAt: "a" }), "b");
  assert.equal(momentOf({ status: "scheduled", scheduledAt: "a", dueAt: "c", deferredReason: "x" }), "c");
  assert.equal(troubleOf({ status: "failed", error: { detail: "D", remedy: "R" } }).remedy, "R");
  assert.equal(troubleOf({ status: "published", error: null }), null);
});
