/** What is folded away: model, engine, LoRAs, sampling, seed, start picture. Markup only. */
import { attrs, html, icon } from "../../html.js";
import { bytes, middle } from "../../format.js";
import { fault, faulty } from "./faults.js";
import { sameLora } from "./wish.js";

export function moreView(s) {
  const { model } = s.found;
  const line = [
    model && middle(model.label.replace(/ \(.*\)$/, ""), 24),
    s.v.steps && `${s.v.steps} steps`,
    s.form.seedLocked ? `seed ${s.form.seed}` : "random seed",
    s.v.loras.length > 0 && `${s.v.loras.length} LoRA${s.v.loras.length > 1 ? "s" : ""}`,
  ]
    .filter(Boolean)
    .join(" · ");
  return html`<details class="st-more" id="st-more"><summary>${icon("sliders")}<strong>More</strong><span class="muted small truncate">${line}</span>${icon("chevron-down")}</summary>
    <div class="st-more-body">
      ${modelField(s)}${engineField(s)}${loraField(s)}${samplingField(s)}${seedField(s)}${startField(s)}
      <div class="row st-more-foot"><button type="button" class="btn btn-small btn-ghost" data-action="reset-model" ${attrs({ disabled: !s.v.tuned })}>${icon("undo")}Model defaults</button>
        <button type="button" class="btn btn-small btn-ghost" data-action="model-kinds" title="Say what kind a model is">${icon("layers")}Model kinds</button>
        <button type="button" class="btn btn-small btn-ghost" data-action="reset-all">${icon("refresh")}Reset the form</button>
        <button type="button" class="btn btn-small btn-ghost" data-action="curl-form">${icon("copy")}Copy as curl</button></div>
    </div></details>`;
}

function modelField(s) {
  const { catalog, found, form } = s;
  const groups = new Map();
  for (const m of catalog.models) {
    if (form.engine !== "auto" && m.engine !== form.engine) continue;
    const engine = catalog.engines.find((e) => e.name === m.engine);
    const key = `${engine?.label ?? m.engine} · ${m.familyLabel ?? "kind not recognised"}`;
    groups.set(key, [...(groups.get(key) ?? []), m]);
  }
  const auto =
    found.from === "character"
      ? `${s.character.name}'s choice${found.model ? `: ${found.model.label}` : ""}`
      : `Automatic${found.standard ? `: ${found.standard.label}` : ""}`;
  const chosen = form.model && found.model ? `${found.model.engine}:${found.model.name}` : "";
  return html`<div class="field" data-key="model"><label for="st-model">Model</label>
    <select id="st-model" data-pick="model" ${attrs(faulty(s, "model"))}>
      <option value="" ${attrs({ selected: !form.model })}>${form.model && found.model ? "Automatic" : auto}</option>
      ${form.model && !found.model && html`<option value="?" ${attrs({ selected: true, disabled: true })}>${form.model} (not available)</option>`}
      ${[...groups].map(([label, list]) => html`<optgroup label="${label}">${list.map((m) => html`<option value="${m.engine}:${m.name}" ${attrs({ selected: `${m.engine}:${m.name}` === chosen, disabled: !m.family })}>${m.label}${m.sizeBytes ? ` – ${bytes(m.sizeBytes)}` : ""}</option>`)}</optgroup>`)}</select>
    ${found.model?.note && html`<p class="field-hint">${found.model.note}</p>`}
    ${found.missing && !s.errors.model && html`<p class="field-hint st-warn">${icon("alert")}<span>“${found.missing}”${found.from === "character" ? `, which ${s.character.name} prefers,` : ""} is not among the models that can be used now.${found.standard && html` <button type="button" class="st-link" data-action="use-standard">Use ${found.standard.label}</button>`}</span></p>`}
    ${fault(s, "model")}</div>`;
}

function engineField(s) {
  const { catalog, form } = s;
  const off = catalog.engines.filter((e) => !e.available && (form.engine === "auto" || form.engine === e.name));
  return html`<div class="field" data-key="engine"><span class="label" id="st-engine-label">Engine</span>
    <div class="segmented st-engines" role="group" aria-labelledby="st-engine-label">
      <button type="button" data-action="engine" data-id="auto" aria-pressed="${String(form.engine === "auto")}">Automatic</button>
      ${catalog.engines.map((e) => html`<button type="button" data-action="engine" data-id="${e.name}" aria-pressed="${String(form.engine === e.name)}" title="${e.available ? `${e.label} is ready` : e.reason}"><span class="st-dot ${e.available ? "is-on" : ""}" aria-hidden="true"></span>${e.label}${!e.available && html`<span class="visually-hidden"> (off)</span>`}</button>`)}</div>
    ${off.map((e) => html`<p class="field-hint" data-key="${e.name}">${e.label} is off. ${e.reason}</p>`)}${fault(s, "engine")}</div>`;
}

function loraField(s) {
  const { catalog, found, v } = s;
  const known = catalog.loras.filter((l) => !found.model || l.engines.includes(found.model.engine));
  if (!found.model && !v.loras.length) return "";
  const free = known.filter((l) => !v.loras.some((use) => sameLora(use.name, l.name)));
  return html`<div class="field" data-key="loras"><div class="st-label"><span class="label">LoRAs</span>
      ${s.form.loras !== null && s.character?.loras?.length > 0 && !s.form.rawPrompt && html`<button type="button" class="st-link" data-action="lora-inherit">Use ${s.character.name}'s</button>`}</div>
    ${v.loras.map((use, i) => loraRow(s, use, i, known))}
    ${v.lorasInherited && html`<p class="field-hint">Set for ${s.character.name}. Changes here count for this form only.</p>`}
    ${
      free.length > 0
        ? html`<select id="st-lora-add" data-pick="lora" aria-label="Add a LoRA"><option value="" ${attrs({ selected: true })}>Add a LoRA…</option>${free.map((l) => html`<option value="${l.name}">${l.name}${l.family && found.model && l.family !== found.model.family ? ` (for ${l.family}, not this model)` : ""}</option>`)}</select>`
        : known.length === 0 &&
          html`<p class="field-hint">There are no LoRAs for this engine. Put .safetensors files into its folder of LoRAs, or train one.</p>`
    }${fault(s, "loras")}</div>`;
}

function loraRow(s, use, i, known) {
  const lora = known.find((l) => sameLora(l.name, use.name));
  const family = s.found.model?.family;
  const warning = !lora
    ? "Not there: drawing will be refused."
    : lora.family && family && lora.family !== family
      ? `Made for ${lora.family}; this model is ${family}.`
      : lora.note || "";
  const name = use.name.replace(/^.*[\\/]/, "").replace(/\.safetensors$/, "");
  return html`<div class="st-lora" data-key="lora-${use.name}"><div class="st-lora-line"><span class="truncate" title="${use.name}">${name}</span>${lora?.triggerWord && html`<button type="button" class="st-link mono" data-action="add-word" data-word="${lora.triggerWord}" title="Add the trigger word to the prompt">${lora.triggerWord}</button>`}
      <button type="button" class="icon-btn st-mini" data-action="lora-remove" data-i="${i}" aria-label="Remove ${name}" title="Remove">${icon("x")}</button></div>
    <div class="st-lora-line"><input type="range" id="st-lora-${i}" data-lora="${i}" min="-1" max="2" step="0.05" value="${use.strength}" aria-label="Strength of ${name}"><input type="number" id="st-lora-n${i}" data-lora="${i}" min="-10" max="10" step="0.05" value="${use.strength}" aria-label="Strength of ${name}" ${attrs(faulty(s, `loras.${i}.strength`))}></div>
    ${warning && html`<p class="field-hint st-warn">${icon("alert")}<span>${warning}</span></p>`}${fault(s, `loras.${i}.strength`)}</div>`;
}

const slider = (
  s,
  name,
  label,
  { min, max, top, step },
) => html`<div class="field" data-key="${name}"><label for="st-${name}">${label}</label>
  <div class="st-slide"><input type="range" id="st-${name}-r" data-tune="${name}" min="${min}" max="${max}" step="${step}" value="${s.v[name]}" aria-label="${label}" tabindex="-1"><input type="number" id="st-${name}" data-tune="${name}" min="${min}" max="${top}" step="${step}" value="${s.v[name]}" inputmode="decimal" ${attrs(faulty(s, name))}></div>${fault(s, name)}</div>`;

function samplingField(s) {
  const d = s.found.model?.defaults;
  if (!d) return "";
  const choices = (name, list) => {
    const all = [...new Set([d[name], s.v[name], ...(list ?? [])].filter(Boolean))];
    const sorted = (list ?? []).length ? [...list, ...all.filter((x) => !list.includes(x))] : all;
    return sorted.map(
      (x) => html`<option value="${x}" ${attrs({ selected: x === s.v[name] })}>${x}${x === d[name] ? " (default)" : ""}</option>`,
    );
  };
  const engine = s.found.engine;
  return html`${slider(s, "steps", "Steps", { min: 1, max: Math.max(60, s.v.steps ?? 0), top: 200, step: 1 })}
    ${d.cfgScale !== null && slider(s, "cfgScale", "CFG scale", { min: 0, max: 20, top: 30, step: 0.5 })}
    ${d.guidance !== null && slider(s, "guidance", "Guidance", { min: 0, max: 15, top: 30, step: 0.1 })}
    <div class="st-pair" data-key="sampling"><div class="field"><label for="st-sampler">Sampler</label><select id="st-sampler" data-pick="sampler" ${attrs(faulty(s, "sampler"))}>${choices("sampler", engine?.samplers)}</select>${fault(s, "sampler")}</div>
      <div class="field"><label for="st-scheduler">Noise schedule</label><select id="st-scheduler" data-pick="scheduler" ${attrs(faulty(s, "scheduler"))}>${choices("scheduler", engine?.schedulers)}</select>${fault(s, "scheduler")}</div></div>`;
}

function seedField(s) {
  const { seedLocked: locked, seed } = s.form;
  return html`<div class="field" data-key="seed"><label for="st-seed">Seed</label>
    <div class="field-control"><input id="st-seed" type="text" inputmode="numeric" data-field="seed" autocomplete="off" placeholder="Random each time" value="${locked ? (seed ?? "") : ""}" ${attrs(faulty(s, "seed"))}>
      <button type="button" class="icon-btn" data-action="seed-lock" aria-pressed="${String(locked)}" aria-label="Keep this seed" title="${locked ? "Kept: the same seed each time" : "Keep the seed"}">${icon(locked ? "lock" : "unlock")}</button>
      <button type="button" class="icon-btn" data-action="seed-dice" aria-label="Another seed" title="Another seed, kept">${icon("dice")}</button></div>
    ${s.lastSeed !== null && !(locked && seed === s.lastSeed) && html`<p class="field-hint">Last used: <button type="button" class="st-link mono" data-action="seed-last">${s.lastSeed}</button></p>`}${fault(s, "seed")}</div>`;
}

function startField(s) {
  return html`<div class="field" data-key="start"><span class="label">Start from a picture</span>
    <div class="row"><button type="button" class="btn btn-small" data-action="pick-init">${icon("gallery")}From the gallery</button>
      <label class="btn btn-small" for="st-init-file">${icon("upload")}Upload<input id="st-init-file" class="visually-hidden" type="file" accept="image/*"></label></div>
    <p class="field-hint">Or drop or paste a picture anywhere on this page.</p></div>`;
}
