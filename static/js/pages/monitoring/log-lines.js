/** Log entries: joining what was followed to what is there, and how one looks. Pure but for `html`. */
import { attrs, html, icon } from "../../html.js";
import { clock, date } from "../../format.js";

export const LEVELS = [
  ["DEBUG", "All"],
  ["INFO", "Info"],
  ["WARNING", "Warnings"],
  ["ERROR", "Errors"],
];
const LOOKS = { DEBUG: "quiet", INFO: "quiet", WARNING: "warn", ERROR: "bad", CRITICAL: "bad" };

/** How many entries the page keeps; older ones are loaded again when asked for. */
export const KEEP = 1000;

/** Newer entries in front, each once, at most `keep`. @param {any[]} items @param {any[]} fresh both newest first */
export function prepended(items, fresh, keep = KEEP) {
  const known = new Set(items.map((i) => i.id));
  return [...fresh.filter((i) => !known.has(i.id)), ...items].slice(0, keep);
}

/** Older entries behind, each once. */
export function appended(items, older) {
  const known = new Set(items.map((i) => i.id));
  return [...items, ...older.filter((i) => !known.has(i.id))];
}

/** The filters as they stand in the address. @returns {{level: string, q: string, requestId: string, taskId: string}} */
export function filtersOf(query) {
  const level = String(query.level ?? "").toUpperCase();
  return {
    level: LEVELS.some(([l]) => l === level) ? level : "INFO",
    q: query.q ?? "",
    requestId: query.requestId ?? "",
    taskId: query.taskId ?? "",
  };
}

/** What the filters ask of the API; what asks for everything is left out. */
export const queryOf = (f) => ({
  level: f.level === "DEBUG" || f.requestId || f.taskId ? null : f.level,
  q: f.q,
  requestId: f.requestId,
  taskId: f.taskId,
});

/** The entry as one piece of text, as it stands in the file. */
export const plain = (i) => `${i.at} ${i.level} ${i.logger} [${i.requestId ?? "-"} ${i.taskId ?? "-"}] ${i.message}${i.trace ? `\n${i.trace}` : ""}`;

/** The text with every place marked where it says `q`. */
function marked(text, q) {
  const wanted = q.trim().toLowerCase();
  if (!wanted) return text;
  const out = [];
  let at = 0;
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return text; // letters that change their length: better no marks than wrong ones
  for (let found = lower.indexOf(wanted); found >= 0; found = lower.indexOf(wanted, at)) {
    out.push(text.slice(at, found), html`<mark>${text.slice(found, found + wanted.length)}</mark>`);
    at = found + wanted.length;
  }
  return [...out, text.slice(at)];
}

/** @param {any} i an entry @param {{level: string, q: string, requestId: string, taskId: string}} f @param {string} day the day of the entry before */
export function logLine(i, f, day) {
  const last = i.trace?.trimEnd().split("\n").at(-1) ?? "";
  return html`<li class="ml-line is-${LOOKS[i.level] ?? "quiet"}" data-key="${i.id}">${date(i.at) !== day && html`<p class="ml-day">${date(i.at)}</p>`}
    <div class="ml-head"><time datetime="${i.at}" title="${i.at}">${clock(i.at)}</time><span class="ml-level">${i.level}</span><span class="ml-from" title="${i.logger}">${i.logger.replace(/^dalla\./, "")}</span>
      <span class="ml-ids">${i.requestId && html`<button type="button" class="ml-id" data-action="log-request" data-id="${i.requestId}" title="Only this request" ${attrs({ "aria-pressed": String(f.requestId === i.requestId) })}>${i.requestId}</button>`}${i.taskId && html`<button type="button" class="ml-id" data-action="task" data-id="${i.taskId}" title="Open the task">${i.taskId}</button>`}</span>
      <button type="button" class="icon-btn ml-copy" data-action="log-copy" data-id="${i.id}" aria-label="Copy this entry" title="Copy">${icon("copy")}</button></div>
    <p class="ml-text">${marked(i.message, f.q)}</p>
    ${i.trace && html`<details class="ml-trace" ${attrs({ open: Boolean(f.q) && i.trace.toLowerCase().includes(f.q.trim().toLowerCase()) })}><summary>${last.slice(0, 160) || "Traceback"}</summary><pre tabindex="0" aria-label="Traceback">${marked(i.trace, f.q)}</pre></details>`}</li>`;
}
