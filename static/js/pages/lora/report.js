/** What came out of a run, in words and figures: verdict, readings, prompts, likeness, copies, drift. Pure templates. */
import { number, percent, plural, words } from "../../format.js";
import { html, icon } from "../../html.js";
import { copiesText, driftText, loss } from "./words.js";

const VERDICTS = { learned: ["good", "ok", "It learned"], weak: ["warn", "alert", "A little"], overfitted: ["warn", "alert", "Memorised"], not_learned: ["bad", "error", "Learned nothing"], unknown: ["info", "info", "Cannot be told"] };
const BANDS = { strong: ["good", "ok"], likely: ["good", "ok"], weak: ["warn", "alert"], none: ["bad", "error"] };
const READINGS = { heldOut: "Held-out pictures", train: "Training pictures", swap: "Without the trigger word", prior: "Pictures of the class" };
const two = (value) => (typeof value === "number" ? value.toFixed(2).replace("-", "−") : "–"); // similarities line up: 0.60, not 0.6
const COLOURS = { background: "Background", hair: "Hair", clothes: "Clothes" };

/** Whose face it is and how like the samples are to the pictures, in words, with the numbers of each sample. */
function likeness(found) {
  const readings = [["Face", "user", found?.faces], ["Whole picture", "image", found?.images]].filter(([, , one]) => one?.text);
  const told = readings.filter(([, , one]) => one.measured);
  const not = readings.filter(([, , one]) => !one.measured).map(([label, , one]) => html`<p class="small muted" data-key="no-${label}">${one.text}</p>`);
  if (!told.length) return html`${not}`;
  return html`<div class="lo-likeness stack-2"><h3>Does it look like the pictures?</h3><ul class="lo-checks">${told.map(([label, glyph, one]) => {
    const [tone, mark] = BANDS[one.band] ?? ["info", glyph];
    return html`<li class="lo-check is-${tone}" data-key="${label}">${icon(mark, label)}<div><p>${one.text}</p>${(one.notes ?? []).map((note) => html`<p class="small lo-problem">${icon("alert")}<span>${note}</span></p>`)}
      ${one.samples?.length > 0 && html`<details class="lo-buckets"><summary class="small">${plural(one.samples.length, "sample")} one by one</summary><div class="lo-scroll" tabindex="0" role="region" aria-label="${label}: each sample"><table class="table small"><thead><tr><th scope="col">Sample</th><th scope="col" class="end">Similarity</th><th scope="col">Nearest training picture</th></tr></thead><tbody>${one.samples.map((s) => html`<tr><td data-label="Sample" class="primary">${number(s.index + 1)}</td><td class="end" data-label="Similarity">${two(s.similarity)}</td><td data-label="Nearest training picture"><span class="mono">${s.nearest.file}</span> ${two(s.nearest.similarity)}${s.copy && html` <strong>nearly the same</strong>`}</td></tr>`)}</tbody></table></div></details>`}</div></li>`;
  })}</ul>${found.faces?.measured && html`<p class="small muted">1.00 is the same face. From 0.60 on it is clearly the person, from 0.45 likely, from 0.36 weakly; these bounds were measured on photographs.</p>`}${not}</div>`;
}

/** The colours of the starter model's pictures: asked for and drawn, without the LoRA, with it, and with the trigger word. */
function colours(found) {
  if (!found) return html``;
  if (!found.measured) return html`<p class="small muted">${found.text}</p>`;
  const named = found.withTrigger;
  const count = (pair) => (pair ? html`${number(pair[0])} of ${number(pair[1])}` : "–");
  const [tone, glyph] = !found.sound ? ["info", "info"] : found.notes?.length ? ["warn", "alert"] : ["good", "ok"];
  return html`<div class="lo-told stack-2"><h3>Does the model still follow prompts?</h3><div class="lo-check is-${tone}">${icon(glyph)}<div><p>${found.text}</p></div></div>
    <div class="lo-scroll" tabindex="0" role="region" aria-label="Colours as asked for"><table class="table small"><thead><tr><th scope="col">Colour as asked for</th><th scope="col" class="end">Without LoRA</th><th scope="col" class="end">With LoRA</th>${named && html`<th scope="col" class="end">With the trigger word</th>`}</tr></thead><tbody>${Object.entries(COLOURS).map(([key, label]) => html`<tr><td data-label="Colour as asked for" class="primary">${label}</td><td class="end" data-label="Without LoRA">${count(found.base?.[key])}</td><td class="end" data-label="With LoRA">${count(found.lora?.[key])}</td>${named && html`<td class="end" data-label="With the trigger word">${key === "hair" ? (found.hair ? html`${count([found.hair.agree, found.hair.of])} as in the pictures` : "not asked for") : count(named[key])}</td>`}</tr>`)}</tbody></table></div></div>`;
}

/** Every sample beside the training picture it is most like. @param {any} run */
function nearest(run) {
  const p = run.report.pictures ?? {};
  if (!p.nearest?.length) return html``;
  const told = copiesText(p);
  const drawn = (index) => (run.samples ?? []).find((s) => s.index === index && s.step === run.report.step);
  const file = (name) => `/api/lora/training-data/${encodeURIComponent(run.trainingData ?? "")}/files/${name.split("/").map(encodeURIComponent).join("/")}?size=s`;
  const s = p.similarity;
  return html`<div class="lo-told stack-2"><h3>Are samples copies of training pictures?</h3><div class="lo-check is-${told.tone}">${icon(told.tone === "good" ? "ok" : "alert")}<div><p>${told.text}</p></div></div>
    <ul class="lo-nearest">${p.nearest.map((row) => {
      const sample = drawn(row.index);
      const name = `Sample ${number(row.index + 1)}`;
      return html`<li data-key="${row.index}" class="${row.copy ? "is-copy" : ""}"><div class="lo-pair"><figure>${sample ? html`<img src="${sample.fileUrl}" alt="${name}: ${sample.prompt}" title="${sample.prompt}" loading="lazy" decoding="async">` : html`<span class="lo-gone small muted">no picture kept</span>`}<figcaption class="small muted">${name}</figcaption></figure><figure>${run.trainingData ? html`<img src="${file(row.file)}" alt="Training picture ${row.file}" loading="lazy" decoding="async">` : html`<span class="lo-gone small muted">not there</span>`}<figcaption class="small muted" title="${row.file}">${row.file}</figcaption></figure></div><p class="small">similarity ${two(row.similarity)}${row.copy && html` · <strong>nearly the same</strong>`}</p></li>`;
    })}</ul>
    ${s && html`<p class="small muted">1.00 is the same picture; below 0 it is nearer to what the base model draws. On average ${two(s.lora)} with the LoRA, ${two(s.base)} without it${typeof s.trainingAmongThemselves === "number" && html`, the training pictures among themselves ${two(s.trainingAmongThemselves)}`}.</p>`}</div>`;
}

function drift(found) {
  if (!found) return html``;
  const { tone, text } = driftText(found);
  return html`<div class="lo-told stack-2"><h3>Does it keep to its trigger word?</h3><div class="lo-check is-${tone}">${icon(tone === "good" ? "ok" : "alert")}<div><p>${text}</p></div></div></div>`;
}

/** The whole panel; nothing for a run without a report. @param {any} run as GET /api/lora/train/{id} answers */
export function report(run) {
  const r = run.report;
  if (!r) return html``;
  const likely = r.verdict?.level === "learned" && r.verdict.evidence === "weak"; // one held-out picture proves little
  const [tone, glyph, label] = likely ? ["info", "info", "It seems to have learned"] : (VERDICTS[r.verdict?.level] ?? ["info", "info", "Report"]);
  const like = likeness(r.pictures?.likeness);
  const measured = Object.values(r.pictures?.likeness ?? {}).some((one) => one?.measured); // what is not comes last
  return html`<section class="panel stack-3 lo-report"><header class="panel-head"><h2>What came out</h2><span class="badge badge-${tone}">${icon(glyph)}<span>${label}</span></span></header><p>${r.verdict?.text ?? ""} ${r.verdict?.reason ?? ""}</p>${r.verdict?.hints?.length > 0 && html`<ul class="consequences">${r.verdict.hints.map((h) => html`<li>${h}</li>`)}</ul>`}
    ${r.readings && Object.keys(r.readings).length > 0 && html`<div class="lo-scroll" tabindex="0" role="region" aria-label="Readings"><table class="table"><thead><tr><th scope="col">Loss on</th><th scope="col" class="end">Without LoRA</th><th scope="col" class="end">With LoRA</th><th scope="col" class="end">Change</th><th scope="col" class="end">Better in</th></tr></thead><tbody>${Object.entries(r.readings).map(([key, x]) => html`<tr><td data-label="Loss on" class="primary">${READINGS[key] ?? words(key)}</td><td class="end" data-label="Without LoRA">${loss(x.base)}</td><td class="end" data-label="With LoRA">${loss(x.loss)}</td><td class="end" data-label="Change">${x.change > 0 ? "+" : "−"}${percent(Math.abs(x.change))}</td><td class="end" data-label="Better in">${number(x.improved)} of ${number(x.pairs)}${x.pictures ? html` <span class="muted">(${plural(x.pictures, "picture")})</span>` : ""}</td></tr>`)}</tbody></table></div>`}
    ${measured && like}${colours(r.pictures?.colours)}${drift(r.pictures?.drift)}${nearest(run)}${!measured && like}</section>`;
}
