/** One setting as a row: name, help and source on one side, the control on the other. Names are the API's, so errors find their field. */
import { attrs, html, icon } from "../../html.js";
import { HELP, PLACEHOLDERS } from "./layout.js";
import { choice, isSaved, origin, read, said, shown, span } from "./model.js";

const FEW = 4; // choices shown at once; more go into a select
const ZONES = Intl.supportedValuesOf?.("timeZone") ?? [];

/** @param {import("./model.js").Setting} s @param {{mayChange: boolean}} view */
export function settingRow(s, { mayChange }) {
  const from = origin(s);
  const off = s.locked || !mayChange;
  const grouped = s.kind === "choice" && s.choices.length <= FEW;
  return html`<div class="se-row ${s.kind === "bool" ? "is-switch" : ""}" id="${s.name}" data-setting="${s.name}" data-key="row-${s.name}">
    <div class="se-what">${grouped ? html`<p class="se-label" id="se-${s.name}-label">${s.label}</p>` : html`<label class="se-label" for="se-${s.name}">${s.label}</label>`}
      <p class="se-help" id="se-${s.name}-help">${HELP[s.name] ?? s.help}</p>
      ${from.label && html`<p class="se-origin ${from.locked ? "is-locked" : ""}">${from.locked && icon("lock")}<span title="${from.title}">${from.label}</span>${from.locked && html`<span class="visually-hidden">${from.title}</span>`}
        ${isSaved(s) && mayChange && html`<button type="button" class="link-btn" data-action="reset-one" data-name="${s.name}">${icon("undo")}${s.secret ? "Remove" : html`Back to ${said(s, s.default)}`}</button>`}</p>`}
      ${s.pending && html`<p class="se-note is-warn">${icon("clock")}<span>Saved. Until the restart: ${said(s, s.value)}.</span></p>`}
      ${s.problem && html`<p class="se-note is-bad">${icon("alert")}<span>${s.problem}</span></p>`}</div>
    <div class="se-control">${control(s, off)}<p class="field-error" id="se-${s.name}-error" data-error-for="${s.name}" hidden></p></div></div>`;
}

function control(s, off) {
  const value = shown(s);
  const common = attrs({ id: `se-${s.name}`, name: s.name, disabled: off, "aria-describedby": `se-${s.name}-help`, autocomplete: "off", spellcheck: "false" });
  if (s.kind === "bool") return html`<input type="checkbox" role="switch" class="switch" ${common} ${attrs({ checked: Boolean(value) })}>`;
  if (s.kind === "choice") return s.choices.length <= FEW ? radios(s, value, off) : select(s, value, common);
  if (s.secret) return secret(s, value, common, off);
  if (s.kind === "json")
    return html`<textarea class="mono" rows="${Math.min(8, Math.max(2, Object.keys(value ?? {}).length + 2))}" ${common} placeholder="{}">${Object.keys(value ?? {}).length ? JSON.stringify(value, null, 2) : ""}</textarea>`;
  if (s.kind === "int" || s.kind === "float")
    return html`<div class="se-number"><input type="number" inputmode="${s.kind === "int" ? "numeric" : "decimal"}" ${attrs({ min: s.min, max: s.max < 1e6 ? s.max : undefined, step: s.kind === "int" ? 1 : "any", value: value ?? "" })} ${common}>${s.unit && html`<span class="se-unit">${s.unit}</span>`}<span class="muted small" data-span="${s.name}">${spanText(s, value)}</span></div>`;
  if (s.kind === "zone")
    return html`<input type="text" list="se-zones" placeholder="This computer's" ${attrs({ value: value ?? "" })} ${common}><datalist id="se-zones">${ZONES.map((z) => html`<option value="${z}"></option>`)}</datalist><p class="muted small" data-clock="${s.name}">${clockText(value)}</p>`;
  const type = s.kind === "url" ? "url" : "text";
  return html`<input type="${type}" class="${s.kind === "path" ? "mono" : ""}" ${attrs({ value: value ?? "", placeholder: PLACEHOLDERS[s.name] ?? (s.default || (s.kind === "url" ? "https://…" : "Not set")) })} ${common}>`;
}

function radios(s, value, off) {
  const chosen = choice(s.name, String(value));
  return html`<div class="stack-2"><div class="se-choice" role="radiogroup" aria-labelledby="se-${s.name}-label">${s.choices.map((c) => html`<label><input type="radio" name="${s.name}" ${attrs({ value: c, checked: c === value, disabled: off })}><span>${choice(s.name, c)[0]}</span></label>`)}</div>
    <p class="muted small" data-hint="${s.name}">${chosen[1]}</p></div>`;
}

const select = (s, value, common) =>
  html`<select ${common}>${s.choices.map((c) => html`<option ${attrs({ value: c, selected: c === value })}>${choice(s.name, c)[0]}</option>`)}</select>`;

/** A secret is never sent to the page: the field is empty, and empty keeps what is stored. */
function secret(s, value, common, off) {
  const points = typeof value === "string" && value.startsWith("env:");
  const stored = value && !points;
  const placeholder = stored ? `${value}  (stored)` : s.kind === "json" ? '{"Authorization": "Bearer …"}' : "Not set";
  if (s.kind === "json") return html`<textarea class="mono" rows="2" ${common} ${attrs({ placeholder })}>${points ? value : ""}</textarea>`;
  return html`<div class="se-secret"><input type="${points ? "text" : "password"}" autocomplete="new-password" ${attrs({ value: points ? value : "", placeholder })} ${common}>${!off && html`<button type="button" class="icon-btn" data-action="reveal" data-name="${s.name}" aria-label="Show what is typed" aria-pressed="false">${icon("eye")}</button>`}</div>
    ${!off && html`<p class="muted small">${stored ? "Type to replace it." : html`Or <code>env:NAME</code> for an environment variable.`}</p>`}`;
}

const spanText = (s, value) => {
  const words = span(value, s.unit);
  return words && `= ${words}`;
};

/** The time in a zone, so that a wrong one is seen. */
function clockText(zone) {
  try {
    return `Now ${new Date().toLocaleString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit", timeZone: zone || undefined })}${zone ? "" : " in this browser"}`;
  } catch {
    return "";
  }
}

/** What depends on the typed value: spans, hints of choices, the clock. @param {HTMLFormElement} form @param {Map<string, any>} settings */
export function refreshHints(form, settings, name) {
  const s = settings.get(name);
  if (!s) return;
  const input = form.elements[name];
  const spanSlot = form.querySelector(`[data-span="${name}"]`);
  if (spanSlot) spanSlot.textContent = spanText(s, input.value);
  const hint = form.querySelector(`[data-hint="${name}"]`);
  if (hint) hint.textContent = choice(name, input.value)[1];
  const clock = form.querySelector(`[data-clock="${name}"]`);
  if (clock) clock.textContent = clockText(input.value.trim());
}

/** What a form says about a setting now; see read() in model.js. @param {HTMLFormElement} form @param {import("./model.js").Setting} s @param {Set<string>} cleared names to be reset */
export function fieldValue(form, s, cleared) {
  const input = form.elements[s.name];
  if (!input || s.locked) return { unchanged: true };
  return read(s, { text: input.value ?? "", checked: Boolean(input.checked), cleared: cleared.has(s.name) });
}

/** Show the default in a field that is going to be reset. @param {HTMLFormElement} form @param {import("./model.js").Setting} s */
export function showDefault(form, s) {
  const input = form.elements[s.name];
  if (!input) return;
  if (s.kind === "bool") input.checked = Boolean(s.default);
  else if (s.kind === "json" || s.secret) input.value = "";
  else input.value = s.default ?? "";
}
