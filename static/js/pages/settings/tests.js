/** Trying a service: a button per service, with what it found below. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { bytes, duration, number, words } from "../../format.js";
import { TESTS } from "./layout.js";

/** @param {string[]} services @param {Record<string, any>} results by service; `{running: true}` while one is under way */
export function testButtons(services, results, { mayChange }) {
  if (!mayChange) return "";
  return html`${services.map((s) => html`<button type="button" class="btn btn-small" data-action="test" data-service="${s}" data-needs="admin" aria-busy="${String(Boolean(results[s]?.running))}">${icon("bolt")}${TESTS[s] ?? `Test ${s}`}</button>`)}`;
}

/** @param {string[]} services @param {Record<string, any>} results */
export function testResults(services, results) {
  return html`${services.filter((s) => results[s] && !results[s].running).map((s) => result(s, results[s]))}`;
}

function result(service, r) {
  const facts = flat(r.info);
  return html`<div class="se-result ${r.ok ? "is-ok" : "is-bad"}" data-key="result-${service}" role="status">${icon(r.ok ? "ok" : "alert")}<div class="stack-1"><p><strong>${r.ok ? "Works." : "Does not work."}</strong> ${r.detail}</p>
    ${r.remedy && html`<p class="se-fix">${r.remedy}</p>`}
    <p class="small muted">${r.unsaved ? "Tried with the unsaved values" : "Tried with what is saved"}${Number.isFinite(r.durationMs) && html` · took ${duration(r.durationMs / 1000)}`}</p>
    ${facts.length > 0 && html`<details><summary class="small">Details</summary><dl class="facts small">${facts.map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl></details>`}</div>
    <button type="button" class="icon-btn" data-action="test-close" data-service="${service}" aria-label="Close">${icon("x")}</button></div>`;
}

/** What a test found, as rows. */
function flat(info, prefix = "") {
  return Object.entries(info ?? {})
    .filter(([, v]) => v !== null && v !== "" && !(Array.isArray(v) && !v.length))
    .flatMap(([k, v]) => {
      const label = prefix + words(k);
      if (Array.isArray(v)) return v.flatMap((x) => (x && typeof x === "object" ? [[words(x.name ?? x.id ?? k), inOne(x)]] : [[label, x]]));
      if (v && typeof v === "object") return flat(v, `${label}: `);
      return [[label, one(k, v)]];
    });
}
const inOne = (x) =>
  [x.path, x.detail, x.problem, x.freeBytes !== undefined && x.freeBytes !== null && `${bytes(x.freeBytes)} free`].filter(Boolean).join(" · ");
const one = (k, v) =>
  typeof v === "boolean" ? (v ? "Yes" : "No") : /(bytes|vram(total|free))$/i.test(k) ? bytes(v) : typeof v === "number" ? number(v, 2) : v;

/** @param {string} service @param {Record<string, any>} unsaved */
export async function tryService(service, unsaved) {
  const has = Object.keys(unsaved).length > 0;
  try {
    const answer = await api.post(`/api/settings/test/${encodeURIComponent(service)}`, has ? { settings: unsaved } : {});
    return { ...answer, unsaved: has };
  } catch (error) {
    if (error.errors?.length) throw error; // a field is wrong: the form shows it
    return { ok: false, detail: error.message, remedy: error.remedy, unsaved: has, info: {} };
  }
}
