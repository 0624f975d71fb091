/** What the states of a run mean, in words; figures of an estimate in words; small rules shared by the parts of the page. Pure. */
import { bytes, duration, eta, number, percent, plural, words } from "../../format.js";

export const ACTIVE = new Set(["queued", "running", "paused"]);
/** What the trainer is doing before its first step, and after its last, by the name of its phase. */
const STARTING = { pictures: "Reading the pictures", model: "Loading the model", latents: "Preparing the pictures", texts: "Encoding the captions" };
const ENDING = { report: "Measuring what was learned", saving: "Writing and checking the LoRA" };
/** Its trainer has said nothing yet: after a resume, what is known is of the attempt before. */
const unheard = (run) => !run.lastSignAt;

/** Where a running run is. @returns {"start"|"train"|"end"} after a resume it loads again: start, though it has a step */
export function stageOf(run) {
  if (unheard(run)) return "start";
  if (run.phase in ENDING) return "end";
  return !run.step || run.phase in STARTING ? "start" : "train";
}
function doing(run) {
  if (unheard(run)) return "";
  return ENDING[run.phase] ?? STARTING[run.phase] ?? (run.step ? "" : run.message);
}

/** @returns {{status: string, label: string, text: string}} state of a run: key for the badge, word, sentence */
export function stateOf(run) {
  if (run.status === "running" && run.stopping) return { status: "running", label: "Stopping", text: "It finishes its step and saves before it ends." };
  if (run.status === "running" && run.pausing) return { status: "running", label: "Pausing", text: "It finishes its step, saves its state and frees the memory." };
  if (run.status === "running" && run.stale) return { status: "warning", label: "No sign of life", text: "The trainer has said nothing for a while. It may be busy; if it does not come back it is ended, and the run can be resumed." };
  const known = {
    queued: ["Waiting", run.ahead ? `${plural(run.ahead, "task")} ${run.ahead === 1 ? "waits" : "wait"} before it.` : "It starts when the work before it is done."],
    running: { start: ["Starting", doing(run) || "The trainer is starting. That takes up to a minute."], train: ["Training", ""], end: ["Finishing", doing(run)] }[stageOf(run)],
    paused: ["Paused", "Its state is saved and the memory is free. Resume goes on from here."],
    completed: ["Finished", ""],
    failed: ["Failed", ""],
    cancelled: ["Stopped", ""],
    interrupted: ["Interrupted", "The app or the trainer was ended from outside."],
  }[run.status] ?? [words(run.status), ""];
  return { status: run.status, label: known[0], text: known[1] };
}

/** Fraction done, 0..1, or null when there is nothing to say. */
export const fraction = (run) => (run.totalSteps ? Math.min(1, (run.step ?? 0) / run.totalSteps) : null);

/** "6.4 steps/s" or, when slow, "2.5 s per step". */
export function speed(rate) {
  if (!rate || !Number.isFinite(rate)) return "–";
  return rate >= 1 ? `${number(rate, rate < 10 ? 1 : 0)} steps/s` : `${number(1 / rate, 1)} s per step`;
}
/** Losses always with four digits, so that they line up. */
export const loss = (value) => (typeof value === "number" && Number.isFinite(value) ? value.toFixed(4) : "–");
/** "30 % lower than without" for a held-out loss beside that of the bare model. */
export function against(value, base) {
  if (typeof value !== "number" || typeof base !== "number" || !base) return "";
  const change = value / base - 1;
  if (Math.abs(change) < 0.005) return "as without the LoRA";
  return `${percent(Math.abs(change))} ${change < 0 ? "lower" : "higher"} than without the LoRA`;
}

/** Whether samples came out as training pictures again. @returns {{tone: "good"|"warn", text: string}} */
export function copiesText({ copies = 0, nearest = [] }) {
  if (!copies) return { tone: "good", text: "No sample is a copy: each differs clearly from the training picture it is most like." };
  const files = nearest.filter((row) => row.copy).map((row) => row.file);
  const named = files.length ? `: ${[...new Set(files)].slice(0, 4).join(", ")}` : "";
  return { tone: "warn", text: `${number(copies)} of ${plural(nearest.length, "sample")} ${copies === 1 ? "is" : "are"} nearly a training picture again${named}. Fewer steps, a lower learning rate or more pictures help against copying.` };
}

/** How much the LoRA changes pictures without its trigger word, beside those with it. @returns {{tone: "good"|"warn", text: string}} */
export function driftText({ withTrigger, withoutTrigger }) {
  const figures = `With the trigger word the samples change by ${percent(withTrigger)}, without it by ${percent(withoutTrigger)}`;
  const share = withTrigger > 0 ? withoutTrigger / withTrigger : withoutTrigger > 0 ? 1 : 0;
  if (share < 0.5) return { tone: "good", text: `${figures}: it keeps to its word.` };
  if (share < 0.8) return { tone: "warn", text: `${figures}: pictures without the word are changed, too.` };
  return { tone: "warn", text: `${figures}: it changes every picture, whether the word is in the prompt or not. A class word with a prior weight keeps them apart.` };
}

/** What stands under the bar of a run in the list. */
export function progressLine(run) {
  const parts = [`Step ${number(run.step ?? 0)} of ${number(run.totalSteps)}`];
  if (run.status === "running" && run.etaSeconds && stageOf(run) === "train") parts.push(eta(run.etaSeconds));
  if (typeof run.loss === "number") parts.push(`loss ${loss(run.loss)}`);
  return parts.join(" · ");
}

/** What a finished run is remembered by: how long it trained and what the check said. */
export function resultLine(run) {
  const v = run.validation ?? {};
  return [plural(run.step ?? 0, "step"), v.best !== null && against(v.best, v.base) && `held-out loss ${against(v.best, v.base)}`].filter(Boolean).join(" · ");
}

/** Why it ended, and what to try: {detail, remedy} of a run that did not end well, else null. */
export function troubleOf(run) {
  if (run.status === "interrupted")
    return { detail: run.error?.detail || "The run was interrupted: the app or the trainer was ended from outside.", remedy: run.canResume ? "Resume goes on from the last checkpoint; nothing before it is lost." : "There was no checkpoint yet, so it starts again from the beginning." };
  if (run.status !== "failed") return null;
  const remedy = run.error?.remedy || (run.canResume ? "Resume goes on from the last checkpoint." : "Start it again, or clone it with other settings.");
  return { detail: run.error?.detail || run.error?.error || "The training failed.", remedy };
}

/** An estimate says no seconds that it cannot know: "about 45 s", "about 12 min", "about 2 h 10 min". */
export const roughly = (seconds) => `about ${duration(seconds < 60 ? Math.max(5, Math.round(seconds / 5) * 5) : Math.round(seconds / 60) * 60).replace(" 00 s", "").replace(" 00 min", "")}`;

/** The facts beside the form: [label, value, note][] from an estimate. */
export function factsOf(e) {
  const rows = [];
  const held = e.heldOut ? `${number(e.heldOut)} more held out for checking` : "none held out";
  rows.push(["Pictures", `${number(e.trained)}`, held]);
  rows.push(["Shown each", `${number(e.shownPerPicture, 1)} times`, e.stepsPerEpoch ? `${plural(e.stepsPerEpoch, "step")} for all of them once` : ""]);
  rows.push(["Steps", number(e.steps), `${number(e.trained)} pictures × ${number(e.shownPerPicture, 1)} ÷ ${(e.config?.batchSize ?? 1) * (e.config?.gradientAccumulation ?? 1)} per step`]);
  rows.push(["Time", e.time?.seconds ? roughly(e.time.seconds) : "not known yet", e.time?.detail ?? ""]);
  const m = e.memory ?? {};
  const where = m.on === "gpu" ? "on the graphics card" : "of main memory";
  rows.push(["Memory", m.neededBytes ? `about ${bytes(m.neededBytes)}` : "–", m.freeBytes ? `${bytes(m.freeBytes)} ${where} free${m.totalBytes ? ` of ${bytes(m.totalBytes)}` : ""}` : where]);
  rows.push(["Disk", e.disk?.neededBytes ? `about ${bytes(e.disk.neededBytes)}` : "–", e.disk?.freeBytes ? `${bytes(e.disk.freeBytes)} free` : ""]);
  return rows;
}

/** What a check's button does: {label, act} (act is a data-action of the form), or null. */
export function fixOf(check) {
  return (
    {
      captions_missing: { label: "Write captions", act: "show-problem", value: "no_caption" },
      no_captions: { label: "Write captions", act: "show-problem", value: "no_caption" },
      other_trigger: { label: `Use ${check.word}`, act: "use-trigger", value: check.word },
      no_trigger: { label: "Give a trigger word", act: "focus", value: "triggerWord" },
      too_small: { label: "Show them", act: "show-problem", value: "upscaled" },
      heavy_crop: { label: "Show them", act: "show-problem", value: "heavy_crop" },
      long_captions: { label: "Show them", act: "show-problem", value: "long_caption" },
      duplicates: { label: "Remove the copies", act: "remove-copies" },
      skipped: { label: "Show them", act: "show-skipped" },
      few_pictures: { label: "Add pictures", act: "focus-drop" },
      no_pictures: { label: "Add pictures", act: "focus-drop" },
      no_masks: { label: "Open the setting", act: "open-group", value: "noise" },
      transparent: { label: "Open the setting", act: "open-group", value: "noise" },
      memory_too_small: { label: "Open memory settings", act: "open-group", value: "memory" },
      very_long: { label: "Open length settings", act: "open-group", value: "length" },
      bucket_smaller_than_batch: { label: "Open length settings", act: "open-group", value: "length" },
    }[check.code] ?? null
  );
}
/** A check that only informs: nothing has to be done. */
export const isNote = (check) => check.level === "note" || ["trigger_added", "bucket_smaller_than_batch", "long_captions", "transparent"].includes(check.code);

/** The caption as it stands in its file, of one that the trigger word was put in front of. */
export function ownCaption(picture, trigger) {
  if (picture.captionSource === "none") return "";
  const lead = `${trigger}, `;
  return picture.triggerAdded && trigger && picture.caption.startsWith(lead) ? picture.caption.slice(lead.length) : picture.caption;
}

/** Upload in pieces of so many pictures, each caption in the piece of its picture. @param {{name: string}[]} files */
export function pieces(files, size = 12) {
  const stem = (name) => name.replace(/\.[^.]+$/, "");
  const isText = (name) => /\.(txt|caption)$/i.test(name);
  const pictures = files.filter((f) => !isText(f.name));
  const texts = files.filter((f) => isText(f.name));
  const out = [];
  for (let i = 0; i < pictures.length; i += size) {
    const part = pictures.slice(i, i + size);
    const stems = new Set(part.flatMap((f) => [stem(f.name), f.name]));
    out.push([...part, ...texts.filter((t) => stems.has(stem(t.name)))]);
  }
  const sent = new Set(out.flat());
  const left = texts.filter((t) => !sent.has(t));
  if (left.length) out.push(left); // captions of pictures that are there already
  return out;
}

/** What can be done with a run, in the order of the buttons. */
export const ACTS = {
  next: { label: "Run next", icon: "chevron-up", said: "It runs next" },
  pause: { label: "Pause", icon: "pause", said: "It pauses after this step" },
  resume: { label: "Resume", icon: "play", said: "The run goes on" },
  retry: { label: "Start again", icon: "refresh", said: "The run starts again" },
  save: { label: "Save now", icon: "save", said: "A checkpoint is written after this step" },
  sample: { label: "Sample now", icon: "image", said: "Samples are drawn after this step" },
  clone: { label: "Clone", icon: "copy" },
  cancel: { label: "Stop", icon: "stop" },
  delete: { label: "Delete files", icon: "trash" },
};
/** A pause that was only asked for can be taken back: its resume is called so. */
export const actLabel = (name, run) => (name === "resume" && run.status === "running" ? "Do not pause" : name === "cancel" && run.status === "queued" ? "Cancel" : ACTS[name].label);

/** Join curves: what came goes behind what there is; after a resume the later part is replaced. Pure. */
export function appended(points, more, since) {
  const kept = points.filter((p) => p.step <= since);
  return [...kept, ...more.filter((p) => p.step > since)];
}

/** The sample that shows a LoRA best: of its step or the newest, with the trigger word. Pure. */
export function bestSample(samples, step) {
  const own = samples.filter((s) => s.withTrigger !== false);
  const list = own.length ? own : samples;
  const at = list.filter((s) => step === null || step === undefined || s.step <= step);
  return (at.length ? at : list).reduce((best, s) => (!best || s.step > best.step || (s.step === best.step && s.index < best.index) ? s : best), null);
}
/** Search over names, trigger words, tags, models and characters. Pure. */
export function fits(lora, text) {
  const hay = [lora.name, lora.triggerWord, lora.description, lora.familyLabel, lora.baseModel, ...(lora.tags ?? []), ...(lora.usedBy ?? []).map((c) => c.name)].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).filter(Boolean).every((part) => hay.includes(part));
}
