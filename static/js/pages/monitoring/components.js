/** The components as rows: state, sentence, what helps, and everything else the JSON has. Pure but for `html`. */
import { attrs, html, icon } from "../../html.js";
import { ago, bytes, dateTime, duration, number, words } from "../../format.js";
import { statusBadge } from "../../components/status-badge.js";

const ICONS = {
  comfyui: "studio",
  builtin: "cpu",
  database: "layers",
  folders: "folder",
  scheduler: "clock",
  worker: "tasks",
  instagram: "instagram",
  twitter: "twitter",
  gemini: "edit",
  captionServer: "edit",
  webhooks: "send",
  disk: "disk",
  gpu: "gpu",
};
/** Their parts are all well while they are: under "More". */
const FOLDED = { folders: true, worker: true, disk: true };
const WORD = { ok: "Working", off: "Off", error: "Error", warning: "Look at it" };
/** Shown in their own place; everything else goes under "More". */
const SAID = new Set(["status", "detail", "remedy", "since", "lastError", "latencyMs", "label", "fix", "href", "accounts", "items", "lanes", "volumes"]);

/** @param {any} status @returns {[string, any][]} the components of GET /api/system/status, in its order */
export const componentsOf = (status) =>
  Object.entries(status ?? {}).filter(([, c]) => c && typeof c === "object" && !Array.isArray(c) && c.status);

function value(name, v) {
  if (/bytes$/i.test(name)) return bytes(v);
  if (/seconds$/i.test(name)) return v ? duration(v) : "none";
  if (typeof v === "number") return number(v, 2);
  if (/At$|Tick$|Due$/.test(name) && typeof v === "string") return dateTime(v);
  if (typeof v === "boolean") return v ? "Yes" : "No";
  return v;
}

/** Everything else a component says, flat: the page hides nothing the JSON has. @returns {[string, any][]} */
export function extras(component, prefix = "") {
  return Object.entries(component)
    .filter(([k, v]) => (prefix || !SAID.has(k)) && v !== null && v !== "" && !(Array.isArray(v) && !v.length))
    .flatMap(([k, v]) => {
      const name = words(k);
      if (Array.isArray(v)) return [[prefix + name, v.map((x) => (typeof x === "object" ? JSON.stringify(x) : x)).join("; ")]];
      return typeof v === "object"
        ? extras(v, k === "info" || k === "files" ? prefix : `${prefix}${name}: `)
        : [[prefix + name, value(k, v)]];
    });
}

/** What a component consists of: folders, disks, lanes, accounts. @returns {{key: string, title: any, status: string, detail: string, remedy?: string, note?: string, since?: string, fix?: any}[]} */
export function parts(name, component, accounts = []) {
  if (name === "folders")
    return (component.items ?? []).map((f) => ({ key: f.id, title: f.label, status: f.status, detail: f.detail, remedy: f.remedy, note: f.path, fix: f.fix }));
  if (name === "disk")
    return (component.volumes ?? []).map((v) => ({ key: v.path, title: v.path, status: "", detail: `${bytes(v.freeBytes)} free of ${bytes(v.totalBytes)}` }));
  if (name === "worker")
    return (component.lanes ?? []).map((l) => ({
      key: l.lane,
      title: laneName(l.lane),
      status: l.alive < l.workers ? "error" : "",
      detail: `${number(l.running.length)} of ${number(l.workers)} busy, ${number(l.queued)} waiting`,
      note: l.heartbeatAt ? `last seen ${ago(l.heartbeatAt).replace("just now", "a moment ago")}` : "not seen yet",
    }));
  return accounts
    .filter((a) => a.platform === name)
    .map((a) => ({ key: a.characterId, title: a.characterName, status: a.status, detail: a.detail, remedy: a.remedy, since: a.since, fix: a.fix, note: lastError(a) }));
}

/** What a lane is for, in words. */
export const laneName = (lane) =>
  ({ gpu: "Drawing and training", net: "Other services", publish: "Publishing", runs: "Scheduled tasks", cpu: "Pictures and files" })[lane] ?? words(lane);

const lastError = (c) =>
  c.lastError && c.lastError.detail !== (c.status === "error" ? c.detail : "") ? `Last error ${ago(c.lastError.at)}: ${c.lastError.detail}` : "";
const since = (when) => `since ${ago(when).replace("just now", "a moment ago")}`;
const fixLink = (fix, plain) => fix && html`<a class="${plain ? "small" : "btn btn-small"}" href="${fix.href}">${fix.label}</a>`;

const part = (p) =>
  html`<li class="mo-part ${p.status === "error" ? "is-error" : ""}" data-key="${p.key}"><div class="mo-part-what"><strong>${p.title}</strong> <span>${p.detail}</span>${p.status !== "ok" && p.remedy && html` <span class="muted">${p.remedy}</span>`}${p.note && html`<span class="small muted mo-part-note">${p.note}</span>`}</div>
    <div class="mo-part-facts">${p.status && statusBadge(p.status, WORD[p.status])}${p.since && html`<span class="small muted" title="${dateTime(p.since)}">${since(p.since)}</span>`}${fixLink(p.fix, true)}</div></li>`;

/**
 * One component. @param {[string, any]} entry @param {{accounts: any[], editor?: {open: boolean, view: any}|null}} page
 */
export function componentRow([name, c], { accounts, editor }) {
  const more = extras(c),
    inside = parts(name, c, accounts),
    open = c.status === "error" || c.status === "warning" || FOLDED[name] === undefined,
    [shown, folded] = open ? [inside, []] : [[], inside],
    error = lastError(c);
  return html`<li class="mo-row is-${c.status}" data-key="${name}" data-component="${name}"><span class="mo-icon">${icon(ICONS[name] ?? "circle")}</span>
    <div class="mo-what"><h3>${c.label ?? words(name)}</h3><p>${c.detail}</p>${c.status !== "ok" && c.remedy && html`<p class="small muted">${c.remedy}</p>`}${error && html`<p class="small muted">${error}</p>`}
      ${shown.length > 0 && html`<ul class="mo-parts">${shown.map(part)}</ul>`}
      ${(more.length > 0 || folded.length > 0) && html`<details><summary class="small">More</summary>${folded.length > 0 && html`<ul class="mo-parts">${folded.map(part)}</ul>`}${more.length > 0 && html`<dl class="facts small">${more.map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`}</details>`}</div>
    <div class="mo-facts">${statusBadge(c.status, WORD[c.status])}<span class="small muted" title="${dateTime(c.since)}">${since(c.since)}</span>${c.latencyMs !== undefined && c.latencyMs !== null && html`<span class="small muted">${number(c.latencyMs)} ms</span>`}${c.status !== "ok" && !editor && fixLink(c.fix, c.status === "off")}${editor && html`<button type="button" class="btn btn-small" data-action="address" ${attrs({ "aria-expanded": String(editor.open) })}>${icon("edit")}Address</button>`}</div>${editor?.open && html`<div class="mo-editor">${editor.view}</div>`}</li>`;
}
