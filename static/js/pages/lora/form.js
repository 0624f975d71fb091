/** The form of a training as markup, and putting a wish into its controls. Template functions and DOM helpers. */
import { fieldRow } from "../../components/field-row.js";
import { attrs, html, icon } from "../../html.js";
import { number, plural } from "../../format.js";
import { changedCount, DEFAULT_PRESET, FIELDS, getIn, GROUPS, PRESETS, shown, textOf } from "./params.js";

function advancedField(field) {
  const common = { name: `params.${field.name}`, label: field.label, hint: field.help, id: `lo-p-${field.name.replace(".", "-")}` };
  if (field.kind === "switch") return fieldRow({ ...common, type: "select", options: [{ value: "", label: "As the preset says" }, { value: "true", label: "On" }, { value: "false", label: "Off" }] });
  if (field.kind === "choice") return fieldRow({ ...common, type: "select", options: [{ value: "", label: "As the preset says" }, ...field.options.map(([value, label]) => ({ value, label }))] });
  if (field.kind === "lines") return fieldRow({ ...common, type: "textarea", rows: 3 });
  if (field.kind === "text") return fieldRow(common);
  return fieldRow({ ...common, type: "number", min: field.min, max: field.max, step: field.step ?? "any" });
}

/** The whole form, once; what changes is filled in afterwards. */
export const formView = () => html`<form class="lo-form" novalidate autocomplete="off">
  <section class="panel stack-3"><h2>Pictures</h2>
    <div class="lo-set">${fieldRow({ name: "trainingData", label: "Dataset or folder", type: "select", id: "lo-set", after: html`<button type="button" class="icon-btn" data-action="set-delete" data-needs="write" aria-label="Delete this training set" title="Delete this training set" hidden>${icon("trash")}</button>` })}
    <div class="field lo-new-set"><label for="lo-new-set">Name of the new set</label><div class="field-control"><input id="lo-new-set" maxlength="80" autocomplete="off" spellcheck="false"></div></div></div>
    <drop-zone accept="image/*,.txt,.caption,.tif,.tiff,.avif,.bmp" multiple paste label="Drop pictures here, or choose" hint="PNG, JPEG or WebP; captions as .txt files of the same name. 10 to 30 pictures are a good number."></drop-zone>
    <p class="lo-from small" hidden></p>
    <div class="lo-upload" aria-live="polite"></div></section>
  <section class="panel stack-3"><h2>Who</h2>
    <div class="cols-2">${fieldRow({ name: "characterId", label: "Character", type: "select", id: "lo-character", hint: "Gets the LoRA and its trigger word when the training is finished." })}
    ${fieldRow({ name: "baseModel", label: "Base model", type: "select", id: "lo-model", hint: html`<span class="lo-model-note">The model the character is drawn with.</span>` })}
    ${fieldRow({ name: "name", label: "Name of the LoRA", id: "lo-name", maxlength: 100, spellcheck: false, hint: "A new name each time: programs do not read a replaced file again." })}
    ${fieldRow({ name: "triggerWord", label: "Trigger word", id: "lo-trigger", maxlength: 100, spellcheck: false, hint: "A made-up word that calls the likeness up." })}</div></section>
  <section class="panel stack-3"><h2 id="lo-preset-label">Quality</h2>
    <div class="lo-presets" role="radiogroup" aria-labelledby="lo-preset-label">${PRESETS.map((p) => html`<label class="lo-preset"><input type="radio" name="preset" value="${p.key}"><span><strong>${p.label}</strong><span class="small muted">${p.hint}</span></span></label>`)}</div>
    <p class="field-error" id="lo-preset-error" data-error-for="params.preset" hidden></p></section>
  <details class="panel lo-advanced"><summary><h2>Advanced <span class="count lo-changed" hidden></span></h2><span class="small muted">Every setting. Empty fields are decided by the quality you chose.</span></summary>
    <div class="stack-4 lo-groups">${GROUPS.map((g) => html`<details class="lo-group" data-group="${g.key}"><summary><h3>${g.label}</h3><span class="small muted lo-group-said"></span></summary><div class="lo-grid">${g.fields.map(advancedField)}</div></details>`)}
    <div class="row"><button type="button" class="btn btn-small" data-action="reset-params">${icon("undo")}Back to the preset</button></div></div></details>
  <details class="panel lo-raw"><summary><h2>Raw config</h2><span class="small muted">The same wish as JSON, to keep, share or edit.</span></summary>
    <div class="stack-2"><label class="visually-hidden" for="lo-json">Wish as JSON</label><textarea id="lo-json" class="mono" rows="14" spellcheck="false" aria-describedby="lo-json-note lo-json-error"></textarea><p id="lo-json-note" class="small muted" role="status"></p><div id="lo-json-error" class="field-error" role="alert" hidden></div>
    <div class="row"><button type="button" class="btn" data-action="json-apply">Use this</button><button type="button" class="btn btn-ghost" data-action="json-copy">${icon("copy")}Copy</button><button type="button" class="btn btn-ghost" data-action="json-full">${icon("copy")}Copy every setting</button><button type="button" class="btn btn-ghost" data-action="curl">${icon("copy")}Copy as curl</button><span class="small muted">A run's config.json can be pasted here too.</span></div></div></details>
</form>`;

const option = (value, label, { disabled, selected } = {}) => html`<option ${attrs({ value, disabled, selected })}>${label}</option>`;

/** The value of the picture select for a wish: a folder's name, or "dataset:" and an id. */
export const sourceOf = (wish) => (wish.datasetId ? `dataset:${wish.datasetId}` : (wish.trainingData ?? ""));
/** What a value of the picture select means for the wish. */
export const fromSource = (value) => (value.startsWith("dataset:") ? { datasetId: value.slice(8), trainingData: "" } : { datasetId: "", trainingData: value });

/** Options of the three selects. @param {any} state {wish, sets, datasets, options, characters} */
export function selects({ wish, sets, datasets, options, characters }) {
  const known = (list, value) => !value || list.some((one) => one === value);
  return {
    trainingData: html`${option("", sets.length || datasets.length ? "Choose, or drop pictures for a new one" : "A new one", { selected: !sourceOf(wish) })}${datasets.length > 0 && html`<optgroup label="Datasets">${datasets.map((d) => option(`dataset:${d.id}`, `${d.name} (${plural(d.counts?.images ?? 0, "picture")}, ${number(d.counts?.captioned ?? 0)} captioned)`, { selected: d.id === wish.datasetId }))}</optgroup>`}${sets.length > 0 && html`<optgroup label="Folders in training_data">${sets.map((s) => option(s.name, `${s.name} (${plural(s.pictures, "picture")}, ${number(s.captions)} captioned)`, { selected: s.name === wish.trainingData }))}</optgroup>`}${!known(datasets.map((d) => d.id), wish.datasetId) ? option(`dataset:${wish.datasetId}`, "A dataset that is not there", { selected: true }) : ""}${!known(sets.map((s) => s.name), wish.trainingData) ? option(wish.trainingData, `${wish.trainingData} (not there)`, { selected: true }) : ""}`,
    characterId: html`${option("", "None", { selected: !wish.characterId })}${characters.map((c) => option(c.id, c.name, { selected: c.id === wish.characterId }))}${!known(characters.map((c) => c.id), wish.characterId) ? option(wish.characterId, "A deleted character", { selected: true }) : ""}`,
    baseModel: html`${option("", "Automatic", { selected: !wish.baseModel })}${(options?.baseModels ?? []).map((m) => option(m.name, `${m.label}${m.familyLabel ? ` · ${m.familyLabel}` : ""}${m.usable ? "" : " (cannot be trained on)"}`, { disabled: !m.usable, selected: m.name === wish.baseModel }))}${!known((options?.baseModels ?? []).map((m) => m.name), wish.baseModel) ? option(wish.baseModel, `${wish.baseModel} (not there)`, { selected: true }) : ""}`,
  };
}

/** Put the wish's settings into the controls that nobody is typing in. @param {Map<string, string>} [bad] by name: they keep their text */
export function fillParams(form, wish, bad = new Map()) {
  for (const field of FIELDS) {
    const el = form.elements[`params.${field.name}`];
    if (el && el !== document.activeElement && !bad.has(el.name)) el.value = textOf(field, getIn(wish.params, field.name));
  }
  for (const el of form.querySelectorAll("[name=preset]")) el.checked = el.value === (wish.params?.preset ?? DEFAULT_PRESET);
}

/** Show in empty fields what the preset decides, and how much differs from it. @param {any} [config] of the estimate */
export function hintParams(form, wish, config) {
  for (const field of FIELDS) {
    const el = form.elements[`params.${field.name}`];
    if (!el || !config) continue;
    const mine = getIn(wish.params, field.name);
    if (mine !== undefined && mine !== null) continue;
    const says = shown(field, getIn(config, field.name));
    if (el.tagName === "SELECT") el.options[0].textContent = says ? `${says} (as the preset says)` : "As the preset says";
    else el.placeholder = says;
  }
  const count = changedCount(wish.params);
  const badge = form.querySelector(".lo-changed");
  badge.hidden = !count;
  badge.textContent = `${count} changed`;
  for (const group of GROUPS) {
    const changed = group.fields.filter((f) => getIn(wish.params, f.name) !== undefined && getIn(wish.params, f.name) !== null);
    form.querySelector(`[data-group="${group.key}"] .lo-group-said`).textContent = changed.map((f) => `${f.label}: ${shown(f, getIn(wish.params, f.name))}`).join(" · ");
  }
}

/** Say under a field what the estimate notes about its value (that it changes nothing, say). @param {any[]} checks */
export function noteParams(form, checks) {
  for (const old of form.querySelectorAll(".lo-field-note")) old.remove();
  for (const { field, message } of checks) {
    const hint = field && form.querySelector(`#${CSS.escape(form.elements[field]?.id || "-")}-hint`);
    if (!hint) continue;
    const note = document.createElement("strong");
    note.className = "lo-field-note";
    note.textContent = ` ${message}`;
    hint.append(note); // in the hint, so that it is read out with the field
  }
}

/** Mark fields without moving the focus. @returns {{field: string, message: string}[]} what has no field */
export function mark(form, errors) {
  const left = [];
  for (const slot of form.querySelectorAll("[data-error-for]")) {
    const error = errors.find((e) => e.field === slot.dataset.errorFor || e.field?.startsWith(`${slot.dataset.errorFor}.`));
    const el = form.elements[slot.dataset.errorFor];
    slot.textContent = error?.message ?? "";
    slot.hidden = !error;
    if (!el?.setAttribute) continue;
    if (error) el.setAttribute("aria-invalid", "true");
    else el.removeAttribute("aria-invalid");
    const hint = form.querySelector(`#${CSS.escape(el.id)}-hint`) ? [`${el.id}-hint`] : [];
    const ids = error ? [...hint, slot.id] : hint;
    if (ids.length) el.setAttribute("aria-describedby", ids.join(" "));
    else el.removeAttribute("aria-describedby");
  }
  for (const error of errors) if (!form.querySelector(`[data-error-for="${CSS.escape(error.field ?? "")}"]`)) left.push(error);
  return left;
}
