/** The rules of the LoRA page: settings and their text, facts and checks in words, uploads in pieces, states of runs, samples. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as p from "../../static/js/pages/lora/params.js";
import * as w from "../../static/js/pages/lora/words.js";
import { joined } from "../../static/js/pages/lora/log.js";
import { gridOf, noneYet } from "../../static/js/pages/lora/samples.js";
import { cropView } from "../../static/js/pages/lora/pictures.js";
import * as f from "../../static/js/pages/lora/form.js";
import * as e from "../../static/js/pages/lora/edit.js";
import { report } from "../../static/js/pages/lora/report.js";

const { actLabel, appended, bestSample, fits } = w;
const field = (name) => p.FIELDS.find((f) => f.name === name);

// ---------------------------------------------------------------- settings

test("every setting has a name of its own, a label and a help text", () => {
  assert.equal(new Set(p.FIELDS.map((f) => f.name)).size, p.FIELDS.length);
  for (const f of p.FIELDS) assert.ok(f.label && f.help, f.name);
});

test("a control's text becomes a value or a message", () => {
  assert.deepEqual(p.parse(field("rank"), "16"), { value: 16 });
  assert.deepEqual(p.parse(field("rank"), ""), { value: null });
  assert.match(p.parse(field("rank"), "0").message, /At least 1/);
  assert.match(p.parse(field("rank"), "1.5").message, /whole/);
  assert.match(p.parse(field("steps"), "1000000000").message, /100,000/);
  assert.match(p.parse(field("learningRate"), "fast").message, /number/);
  assert.deepEqual(p.parse(field("learningRate"), "1e-4"), { value: 0.0001 });
  assert.deepEqual(p.parse(field("learningRate"), "0,0001"), { value: 0.0001 });
  assert.deepEqual(p.parse(field("ema"), "false"), { value: false });
  assert.deepEqual(p.parse(field("samplePrompts"), " a, b \n\n c"), { value: ["a, b", "c"] });
});

test("a wish goes to JSON and back without loss", () => {
  const wish = {
    characterId: "c1", trainingData: "luna", baseModel: "starter", name: "luna-2", triggerWord: "ohwx luna",
    params: { preset: "best", rank: 4, ema: false, learningRate: 3e-3, samplePrompts: ["a, b", "c"], validation: { count: 2, every: 10 }, cacheToDisk: false },
  };
  const { wish: back, problems } = p.fromText(p.toText(wish));
  assert.deepEqual(problems, []);
  assert.deepEqual(back, wish);
});

test("a dataset goes to JSON and back, and into the select of pictures", () => {
  const { wish, problems } = p.fromText(p.toText({ datasetId: "dataset_1", params: {} }));
  assert.deepEqual(problems, []);
  assert.equal(wish.datasetId, "dataset_1");
  assert.equal(wish.trainingData, undefined);
  assert.equal(f.sourceOf({ datasetId: "d", trainingData: "" }), "dataset:d");
  assert.equal(f.sourceOf({ datasetId: "", trainingData: "luna" }), "luna");
  for (const value of ["dataset:d", "luna", ""]) assert.equal(f.sourceOf(f.fromSource(value)), value);
  const state = { wish: { datasetId: "d", trainingData: "" }, sets: [{ name: "luna", pictures: 2, captions: 1 }], options: null, characters: [] };
  const known = String(f.selects({ ...state, datasets: [{ id: "d", name: "Luna", counts: { images: 12, captioned: 3 } }] }).trainingData);
  assert.match(known, /<option value="dataset:d" selected[^>]*>Luna \(12 pictures, 3 captioned\)/);
  assert.match(known, /luna \(2 pictures, 1 captioned\)/);
  assert.match(String(f.selects({ ...state, datasets: [] }).trainingData), /value="dataset:d" selected[^>]*>A dataset that is not there/);
});

test("every setting survives the way through JSON", () => {
  const sample = { integer: (f) => Math.max(f.min ?? 1, 8), number: (f) => Math.max(f.min ?? 0, 0.25), switch: () => true, choice: (f) => f.options.at(-1)[0], text: () => "x", lines: () => ["one", "two"] };
  let params = { preset: "quick" };
  for (const f of p.FIELDS) params = p.setIn(params, f.name, sample[f.kind](f));
  const { wish, problems } = p.fromText(p.toText({ params }));
  assert.deepEqual(problems, []);
  assert.deepEqual(wish.params, params);
  assert.equal(p.changedCount(params), p.FIELDS.length);
  for (const f of p.FIELDS) assert.deepEqual(p.parse(f, p.textOf(f, p.getIn(params, f.name))), { value: p.getIn(params, f.name) }, f.name);
});

test("whole paths of a run's config become the names that the form knows", () => {
  const { wish, problems } = p.fromText(JSON.stringify({ base_model: "/srv/models/starter", prior_folder: "/srv/training_data/women", prior_weight: 1 }));
  assert.deepEqual(problems, []);
  assert.equal(wish.baseModel, "starter");
  assert.equal(wish.params.priorFolder, "women");
  const same = p.fromText(JSON.stringify({ baseModel: "sub/model", params: { priorFolder: "D:\\app\\training_data\\men" } })).wish;
  assert.equal(same.baseModel, "sub/model"); // names of models may hold a folder
  assert.equal(same.params.priorFolder, "men");
});

test("an estimate is rough, a waiting run says what is before it, a finished one what it came to", () => {
  assert.deepEqual([3, 44, 61, 600, 3600, 7800].map(w.roughly), ["about 5 s", "about 45 s", "about 1 min", "about 10 min", "about 1 h", "about 2 h 10 min"]);
  assert.equal(w.stateOf({ status: "queued", ahead: 2 }).text, "2 tasks wait before it.");
  assert.match(w.stateOf({ status: "queued", ahead: 0 }).text, /when the work before it is done/);
  assert.match(w.stateOf({ status: "running", step: 0 }).text, /starting/);
  assert.equal(w.resultLine({ step: 80, validation: { base: 0.2, best: 0.1 } }), "80 steps · held-out loss 50 % lower than without the LoRA");
  assert.equal(w.resultLine({ step: 1, validation: { base: null, best: null } }), "1 step");
  assert.deepEqual(w.fixOf({ code: "other_trigger", word: "luna_v1" }), { label: "Use luna_v1", act: "use-trigger", value: "luna_v1" });
});

test("a run's config.json is taken too: flat, in its own spelling, what is decided elsewhere left out", () => {
  const { wish, problems } = p.fromText(JSON.stringify({ name: "luna", base_model: "starter", run_folder: "/x", output_folder: "loras", family: "sd15", resume_from: null, learning_rate: 0.003, use_rslora: true, validation: { fraction: 0.1, count: null }, preset: "quick" }));
  assert.deepEqual(problems, []);
  assert.deepEqual(wish, { name: "luna", baseModel: "starter", params: { learningRate: 0.003, useRslora: true, validation: { fraction: 0.1 }, preset: "quick" } });
});

test("what is wrong in the JSON is named, and nothing is taken then", () => {
  assert.match(p.fromText("{").problems[0], /not JSON/);
  assert.match(p.fromText("[1]").problems[0], /object/);
  const found = p.fromText(JSON.stringify({ params: { rank: 0, nonsense: 1, optimizer: "magic", ema: "yes", samplePrompts: "one", preset: "huge" }, name: 7 }));
  assert.equal(found.wish, undefined);
  assert.equal(found.problems.length, 7);
  assert.deepEqual(p.fromText('{"name": "luna", "params": {"preset": "quick", "rank": "8", "steps": 40}}').valid, { name: "luna", params: { preset: "quick", steps: 40 } });
  assert.deepEqual(p.fromText("{").valid?.params, undefined);
  assert.ok(found.problems.some((line) => line.includes('"nonsense"')));
  assert.equal(p.fromText('{"__proto__": {"x": 1}, "params": {}}').problems.length, 1);
});

test("what the app filled in is left for it to decide again; an emptied trigger word is sent", () => {
  const wish = { name: "luna", triggerWord: "luna_character", params: {} };
  assert.deepEqual(p.toBody(wish, { name: true, triggerWord: true }), { params: { preset: "balanced" } });
  assert.equal(p.toBody(wish, { name: false, triggerWord: false }).name, "luna");
  assert.equal(p.toBody({ ...wish, triggerWord: "" }, { name: true, triggerWord: false }).triggerWord, "");
  assert.equal(p.fromText('{"triggerWord": ""}').wish.triggerWord, "");
});

test("an error of a folded setting opens its group", () => {
  assert.equal(p.groupOf("params.rank"), "lora");
  assert.equal(p.groupOf("params.validation.count"), "check");
  assert.equal(p.groupOf("params.validation"), "check");
  assert.equal(p.groupOf("name"), null);
});

test("setIn leaves the old object alone and takes empty parts out", () => {
  const before = { validation: { count: 2 }, rank: 4 };
  assert.deepEqual(p.setIn(before, "validation.count", null), { rank: 4 });
  assert.deepEqual(before, { validation: { count: 2 }, rank: 4 });
});

// ---------------------------------------------------------------- words

test("states of a run tell what is meant", () => {
  const run = (values) => w.stateOf({ status: "running", step: 3, lastSignAt: "2026-11-21T12:00:01.000Z", ...values });
  assert.equal(run({}).label, "Training");
  assert.equal(run({ stopping: true }).label, "Stopping");
  assert.equal(run({ pausing: true }).label, "Pausing");
  assert.equal(run({ stale: true }).status, "warning");
  assert.equal(run({ step: 0, phase: "model" }).text, "Loading the model");
  assert.equal(w.stateOf({ status: "cancelled" }).label, "Stopped");
  assert.equal(actLabel("resume", { status: "running" }), "Do not pause");
  assert.equal(actLabel("cancel", { status: "queued" }), "Cancel");
});

test("a run that measures and saves, or loads again after a resume, does not say that it trains", () => {
  const told = (values) => {
    const run = { status: "running", step: 60, totalSteps: 100, etaSeconds: 7, message: "Step 60 of 100", lastSignAt: "2026-11-21T12:00:01.000Z", ...values };
    return [w.stageOf(run), w.stateOf(run).label, w.stateOf(run).text, w.progressLine(run).includes("left")];
  };
  for (const phase of ["place", "resumed", null]) assert.deepEqual(told({ phase }), ["train", "Training", "", true]);
  assert.deepEqual(told({ phase: "report" }), ["end", "Finishing", "Measuring what was learned", false]);
  assert.deepEqual(told({ phase: "saving" }), ["end", "Finishing", "Writing and checking the LoRA", false]);
  for (const [phase, text] of [["pictures", "Reading the pictures"], ["model", "Loading the model"], ["latents", "Preparing the pictures"], ["texts", "Encoding the captions"]]) assert.deepEqual(told({ phase }), ["start", "Starting", text, false]);
  assert.deepEqual(told({ phase: "report", lastSignAt: null }), ["start", "Starting", "The trainer is starting. That takes up to a minute.", false], "what is known is of the attempt before");
  assert.equal(told({ phase: "report", stale: true })[1], "No sign of life");
  assert.equal(told({ phase: "report", pausing: true })[1], "Pausing");
});

test("a run that did not end well says why and what to try", () => {
  assert.equal(w.troubleOf({ status: "completed" }), null);
  assert.equal(w.troubleOf({ status: "cancelled" }), null);
  assert.deepEqual(w.troubleOf({ status: "failed", error: { detail: "No memory.", remedy: "Less." } }), { detail: "No memory.", remedy: "Less." });
  assert.match(w.troubleOf({ status: "failed", canResume: true }).remedy, /Resume/);
  assert.match(w.troubleOf({ status: "interrupted", canResume: true }).remedy, /last checkpoint/);
  assert.match(w.troubleOf({ status: "interrupted", canResume: false }).remedy, /beginning/);
});

test("figures", () => {
  assert.equal(w.speed(6.43), "6.4 steps/s");
  assert.equal(w.speed(0.4), "2.5 s per step");
  assert.equal(w.speed(null), "–");
  assert.equal(w.against(0.14, 0.2), "30 % lower than without the LoRA");
  assert.equal(w.against(0.25, 0.2), "25 % higher than without the LoRA");
  assert.equal(w.against(0.2, 0.2), "as without the LoRA");
  assert.equal(w.fraction({ step: 30, totalSteps: 20 }), 1);
  assert.equal(w.fraction({}), null);
});

test("facts of an estimate, also when nothing is known of the time", () => {
  const facts = Object.fromEntries(
    w.factsOf({ trained: 11, heldOut: 1, shownPerPicture: 72.7, stepsPerEpoch: 5, steps: 200, time: { seconds: null, detail: "Known after the first run on this machine." }, memory: { neededBytes: 2 ** 30, on: "gpu", freeBytes: 2 ** 31, totalBytes: 2 ** 32 }, disk: { neededBytes: 1024 }, config: { batchSize: 4, gradientAccumulation: 1 } }).map(([label, value, note]) => [label, `${value} | ${note}`]),
  );
  assert.equal(facts.Pictures, "11 | 1 more held out for checking");
  assert.equal(facts.Steps, "200 | 11 pictures × 72.7 ÷ 4 per step");
  assert.equal(facts.Time, "not known yet | Known after the first run on this machine.");
  assert.equal(facts.Memory, "about 1 GB | 2 GB on the graphics card free of 4 GB");
});

test("checks have buttons that mend them", () => {
  assert.equal(w.fixOf({ code: "captions_missing" }).act, "show-problem");
  assert.equal(w.fixOf({ code: "duplicates" }).act, "remove-copies");
  assert.equal(w.fixOf({ code: "disk_full" }), null);
  for (const code of ["memory_too_small", "very_long", "no_masks"]) assert.ok(p.GROUPS.some((g) => g.key === w.fixOf({ code }).value), code);
});

test("the caption of the file, without the trigger word that was put in front", () => {
  assert.equal(w.ownCaption({ caption: "ohwx, red dress", captionSource: "txt", triggerAdded: true }, "ohwx"), "red dress");
  assert.equal(w.ownCaption({ caption: "ohwx, red dress", captionSource: "txt", triggerAdded: false }, "ohwx"), "ohwx, red dress");
  assert.equal(w.ownCaption({ caption: "ohwx", captionSource: "none", triggerAdded: true }, "ohwx"), "");
});

test("uploads go in pieces, every caption with its picture, captions of older pictures last", () => {
  const files = ["a.png", "b.jpg", "c.webp", "c.txt", "a.txt", "b.jpg.txt", "old.txt"].map((name) => ({ name }));
  const names = w.pieces(files, 2).map((part) => part.map((f) => f.name));
  assert.deepEqual(names, [["a.png", "b.jpg", "a.txt", "b.jpg.txt"], ["c.webp", "c.txt"], ["old.txt"]]);
  assert.deepEqual(w.pieces([]), []);
});

// ---------------------------------------------------------------- the run

test("a curve is continued, and replaced behind the step of a resume", () => {
  const at = (...steps) => steps.map((step) => ({ step }));
  assert.deepEqual(appended(at(1, 2, 3), at(4, 5), 3), at(1, 2, 3, 4, 5));
  assert.deepEqual(appended(at(1, 2, 3, 4), at(3, 4), 2), at(1, 2, 3, 4));
});

test("samples by step and prompt; what was drawn without the trigger word stands apart", () => {
  const sample = (step, index, withTrigger = true) => ({ step, index, prompt: `p${index}`, seed: 42, withTrigger, fileUrl: `${step}-${index}` });
  const grid = gridOf([sample(50, 1), sample(0, 0), sample(50, 0), sample(0, 1), sample(50, 0, false)]);
  assert.deepEqual(grid.steps, [0, 50]);
  assert.deepEqual(grid.prompts.map((x) => x.key), ["0", "0-plain", "1"]);
  assert.equal(grid.at(50, "1").fileUrl, "50-1");
  assert.equal(grid.at(0, "0-plain"), null);
});

test("a long log is cut at a line", () => {
  assert.equal(joined("one\n", "two\n"), "one\ntwo\n");
  assert.equal(joined("first line\n", "second line\n", 15), "second line\n");
});

// ---------------------------------------------------------------- what came out

const ran = (pictures, more = {}) => ({ trainingData: "my set", samples: [{ step: 9, index: 0, prompt: "a <b>", fileUrl: "/s/9_0.png" }, { step: 5, index: 1, prompt: "old", fileUrl: "/s/5_1.png" }], report: { step: 9, verdict: { level: "learned", text: "It learned." }, readings: {}, pictures }, ...more });

test("copies are counted and named, and none are said to be none", () => {
  const near = [{ index: 0, file: "3.png", similarity: 0.99, copy: true }, { index: 1, file: "4.png", similarity: 0.4, copy: false }];
  const told = w.copiesText({ copies: 1, nearest: near });
  assert.equal(told.tone, "warn");
  assert.match(told.text, /^1 of 2 samples is nearly a training picture again: 3\.png\. Fewer steps/);
  assert.match(w.copiesText({ copies: 2, nearest: near.map((row) => ({ ...row, copy: true })) }).text, /^2 of 2 samples are .*3\.png, 4\.png/);
  assert.deepEqual([w.copiesText({ copies: 0, nearest: near }).tone, w.copiesText({ copies: 0, nearest: near }).text.slice(0, 19)], ["good", "No sample is a copy"]);
});

test("every sample stands beside the training picture it is most like", () => {
  const nearest = [{ index: 0, file: "a b/3.png", similarity: 0.987, copy: true }, { index: 1, file: "4.png", similarity: 0.4, copy: false }];
  const text = String(report(ran({ nearest, copies: 1, similarity: { base: -0.1, lora: 0.6, trainingAmongThemselves: null } })));
  assert.match(text, /src="\/s\/9_0\.png" alt="Sample 1: a &lt;b&gt;"/);
  assert.match(text, /src="\/api\/lora\/training-data\/my%20set\/files\/a%20b\/3\.png\?size=s" alt="Training picture a b\/3\.png"/);
  assert.match(text, /similarity 0\.99 · <strong>nearly the same/);
  assert.match(text, /no picture kept.*Sample 2/s, "a sample of another step would be a wrong picture");
  assert.equal(text.match(/<strong>nearly the same/g).length, 1);
  assert.match(text, /On average 0\.60 with the LoRA, −0\.10 without it\./);
});

test("drift is one sentence with its numbers", () => {
  const told = (withTrigger, withoutTrigger) => w.driftText({ withTrigger, withoutTrigger });
  assert.deepEqual(told(0.2, 0.02), { tone: "good", text: "With the trigger word the samples change by 20 %, without it by 2 %: it keeps to its word." });
  assert.equal(told(0.2, 0.12).tone, "warn");
  assert.match(told(0.2, 0.19).text, /changes every picture/);
  assert.equal(told(0, 0).tone, "good");
  assert.match(String(report(ran({ drift: { withTrigger: 0.2, withoutTrigger: 0.02 } }))), /keep to its trigger word\?.*it keeps to its word/s);
});

test("the colours asked for are told in a table, with the trigger word only where there is one", () => {
  const counts = { background: [4, 4], hair: [3, 4], clothes: [2, 4] };
  const found = { measured: true, sound: true, trigger: true, notes: [], text: "11 of 12 colours.", base: counts, lora: counts, withTrigger: { background: [1, 4], clothes: [4, 4] }, hair: { left: "green", right: "purple", agree: 3, of: 4, pictures: 12 } };
  const text = String(report(ran({ colours: found })));
  for (const part of [/still follow prompts/, /11 of 12 colours\./, /is-good/, /3 of 4 as in the pictures/, />1 of 4</]) assert.match(text, part);
  assert.match(String(report(ran({ colours: { ...found, notes: ["Less."] } }))), /is-warn/);
  const bare = String(report(ran({ colours: { ...found, withTrigger: null, hair: null, trigger: false, sound: false } })));
  assert.ok(!bare.includes("With the trigger word") && bare.includes("is-info"));
  const not = String(report(ran({ colours: { measured: false, text: "It could not be measured." } })));
  assert.ok(not.includes("It could not be measured.") && !not.includes("<table"));
});

test("a report of an older run shows what it has", () => {
  assert.equal(String(report({ report: null })), "");
  assert.match(String(report(ran(undefined))), /It learned\./);
  assert.match(String(report(ran({ nearest: [{ index: 0, file: "3.png", similarity: 0.5 }], copies: 0 }))), /No sample is a copy/);
});

// ---------------------------------------------------------------- edit and resume

const stopped = (more = {}) => ({ status: "cancelled", actions: ["resume", "clone", "delete"], step: 60, config: { steps: 100, learningRate: 0.001, sampleEvery: 25, saveEvery: 0, earlyStop: 0, validation: { every: null } }, ready: { heldOut: ["8.png"], config: { validation: { every: 10 } } }, ...more });
const textsOf = (run, changes = {}) => ({ ...Object.fromEntries(e.fieldsOf(run).map((x) => [x.name, p.textOf(x, x.value)])), ...changes });

test("a run can be edited when it has stopped, not while it trains or after it has finished", () => {
  for (const status of ["cancelled", "failed", "interrupted", "paused"]) assert.ok(e.canEdit(stopped({ status })), status);
  assert.ok(e.canEdit(stopped({ status: "failed", actions: ["retry", "clone"] })));
  assert.ok(!e.canEdit(stopped({ status: "running", actions: ["resume", "cancel"] })));
  assert.ok(!e.canEdit(stopped({ status: "completed", actions: ["clone", "delete"] })));
});

test("the dialog has the settings that mean something in this run, as they are now", () => {
  assert.deepEqual(e.fieldsOf(stopped()).map((x) => [x.name, x.value]), [["steps", 100], ["learningRate", 0.001], ["earlyStop", 0], ["validation.every", 10], ["sampleEvery", 25], ["saveEvery", 0]]);
  assert.ok(e.fieldsOf(stopped({ config: { trainTextEncoder: true, textEncoderLearningRate: 1e-4 } })).some((x) => x.name === "textEncoderLearningRate"));
  assert.ok(!e.fieldsOf(stopped({ ready: { heldOut: [] } })).some((x) => ["earlyStop", "validation.every"].includes(x.name)));
});

test("only what was changed is sent", () => {
  const run = stopped();
  assert.deepEqual(e.changesOf(run, textsOf(run)), { settings: {}, errors: [] });
  assert.deepEqual(e.changesOf(run, textsOf(run, { steps: "200", learningRate: "5e-4", "validation.every": "20" })).settings, { steps: 200, learningRate: 0.0005, validation: { every: 20 } });
  assert.deepEqual(e.changesOf(run, textsOf(run, { steps: "", sampleEvery: "-1", saveEvery: "1.5" })).errors.map((x) => x.field), ["steps", "sampleEvery", "saveEvery"]);
});

test("a refusal stands at its field", () => {
  assert.equal(e.fieldOf("settings.steps"), "steps");
  assert.equal(e.fieldOf("settings.validation"), "validation.every");
});

// ---------------------------------------------------------------- the shelf

test("the picture of a LoRA is of its own step, with the trigger word", () => {
  const s = (step, index, withTrigger) => ({ step, index, withTrigger });
  assert.deepEqual(bestSample([s(0, 0, true), s(50, 1, true), s(50, 0, true), s(100, 0, true), s(50, 2, false)], 50), s(50, 0, true));
  assert.deepEqual(bestSample([s(0, 0, true), s(100, 0, true)], null), s(100, 0, true));
  assert.deepEqual(bestSample([s(10, 0, false)], 5), s(10, 0, false));
  assert.equal(bestSample([], 5), null);
});

test("the shelf is searched by all that stands on a card", () => {
  const lora = { name: "luna-2", triggerWord: "ohwx", familyLabel: "SDXL", tags: ["portrait"], usedBy: [{ name: "Luna" }] };
  assert.ok(fits(lora, "sdxl PORT"));
  assert.ok(fits(lora, ""));
  assert.ok(!fits(lora, "luna kai"));
});

test("a crop shows what is cut off, in words too, and escapes names", () => {
  const markup = String(cropView({ file: '"><img onerror=x>.png', width: 400, height: 600, bucket: [96, 160], box: [20, 0, 380, 600], lostFraction: 0.1, fileUrl: "/x" }));
  assert.match(markup, /10 % is cut off/);
  assert.match(markup, /M20 0H380V600H20Z/);
  assert.ok(!markup.includes("<img"));
  assert.ok(!String(cropView({ file: "a", width: 1, height: 1, bucket: [1, 1], box: [0, 0, 1, 1], lostFraction: 0, fileUrl: "/x" })).includes("lo-cut"));
});

test("samples are promised only where they will be drawn", () => {
  assert.match(noneYet(true, 25), /before the training begins, then every 25 steps/);
  assert.match(noneYet(true, undefined), /every quarter/);
  assert.doesNotMatch(noneYet(true, 0), /before the training|quarter/);
  assert.match(noneYet(true, 0), /Sample now/);
  assert.match(noneYet(false, 0), /No sample pictures were drawn/);
});

test("a text that is no value keeps standing in its field, others follow the wish", () => {
  const field = (name, value) => ({ name: `params.${name}`, value });
  const elements = Object.fromEntries([field("rank", "0"), field("steps", "7")].map((el) => [el.name, el]));
  globalThis.document = { activeElement: null };
  try {
    f.fillParams({ elements, querySelectorAll: () => [] }, { params: { rank: 6, steps: 10 } }, new Map([["params.rank", "At least 1."]]));
  } finally {
    delete globalThis.document;
  }
  assert.deepEqual([elements["params.rank"].value, elements["params.steps"].value], ["0", "10"]);
});

test("a note is no warning, and stands under its field", () => {
  assert.ok(w.isNote({ code: "no_effect", level: "note" }) && !w.isNote({ code: "no_captions", level: "warning" }));
  const made = () => ({ children: [], append(child) { this.children.push(child); } });
  const hints = { "#lo-p-shift-hint": made(), "#lo-p-noiseOffset-hint": made() };
  const old = { remove: () => (old.gone = true) };
  const form = { elements: { "params.shift": { id: "lo-p-shift" }, "params.noiseOffset": { id: "lo-p-noiseOffset" } }, querySelectorAll: () => [old], querySelector: (selector) => hints[selector] ?? null };
  globalThis.CSS = { escape: (text) => text };
  globalThis.document = { createElement: () => ({}) };
  try {
    f.noteParams(form, [{ field: "params.shift", message: "Not used." }, { message: "About all." }, { field: "params.gone", message: "?" }]);
  } finally {
    delete globalThis.CSS;
    delete globalThis.document;
  }
  assert.ok(old.gone);
  assert.deepEqual(hints["#lo-p-shift-hint"].children.map((n) => n.textContent.trim()), ["Not used."]);
  assert.equal(hints["#lo-p-noiseOffset-hint"].children.length, 0);
});
