/** The right side: what runs, what waits, what failed, what came out. Markup only. */
import { attrs, html, icon } from "../../html.js";
import { ago, eta, ofTotal, words } from "../../format.js";
import { altOf, thumbUrl } from "../../components/media-grid.js";
import { statusBadge } from "../../components/status-badge.js";
import { taskId } from "../../tasks.js";

export function queueView(s) {
  const { active, failed } = s;
  const waiting = active.filter((t) => t.status === "queued");
  const done = (s.items ?? []).filter((i) => s.session.has(i.id)).slice(0, 12);
  return html`<header class="st-queue-head"><h2>Queue</h2><span class="muted small">${active.length ? `${active.length} active` : "empty"}</span><span class="spacer"></span>
      <button type="button" class="icon-btn st-mini st-fold" data-action="fold-queue" aria-label="Hide the queue" title="Hide the queue">${icon("chevron-right")}</button></header>
    ${active.length > 0 ? html`<ul class="st-tasks">${active.map((t) => row(s, t))}</ul>${waiting.length > 1 && html`<button type="button" class="btn btn-small btn-ghost st-cancel-all" data-action="cancel-waiting">${icon("x")}Cancel all but the current</button>`}` : html`<p class="muted small st-quiet">Press Generate as often as you like; what cannot start at once waits here.</p>`}
    ${failed.length > 0 && html`<h3 class="st-sub">Did not work<button type="button" class="btn btn-small btn-ghost" data-action="forget-failed">Clear</button></h3><ul class="st-tasks">${failed.map((t) => failure(s, t))}</ul>`}
    ${done.length > 0 && html`<h3 class="st-sub">Done now</h3><div class="st-done">${done.map((item) => html`<button type="button" class="st-done-cell" data-key="${item.id}" data-action="show" data-id="${item.id}" title="${altOf(item)}"><img src="${thumbUrl(item)}" alt="${altOf(item)}" loading="lazy"></button>`)}</div>`}`;
}

/** The prompt names a picture best; the task's title, which repeats it, is left to the pointer. */
function heading(s, t) {
  const title = t.title || words(t.kind);
  return html`<strong class="clamp-2" title="${title}">${s.mine.get(taskId(t))?.body?.prompt || title}</strong>`;
}

function row(s, t) {
  const id = taskId(t),
    known = t.total > 0,
    running = t.status === "running";
  const facts = running
    ? [known && t.done > 0 ? ofTotal(t.done, t.total) : t.message || "Starting", eta(t.etaSeconds)]
    : ["Waiting"];
  return html`<li class="st-task ${running ? "is-running" : ""}" data-key="${id}"><span class="st-task-pic">${t.previewUrl ? html`<img src="${t.previewUrl}" alt="">` : icon(running ? "studio" : "clock")}</span>
    <div class="st-task-body">${heading(s, t)}
      ${running && html`<progress max="1" aria-label="${t.title}" ${attrs({ value: known && t.done > 0 ? t.progress : null })}></progress>`}
      <span class="small muted st-num">${t.cancelRequested ? "Stopping…" : facts.filter(Boolean).join(" · ")}</span></div>
    <button type="button" class="icon-btn st-mini" data-action="cancel-task" data-id="${id}" aria-label="Cancel ${t.title}" title="Cancel" ${attrs({ disabled: t.cancelRequested })}>${icon("x")}</button></li>`;
}

function failure(s, t) {
  const id = taskId(t),
    error = t.error ?? {};
  return html`<li class="st-task is-failed" data-key="${id}"><div class="st-task-body">${heading(s, t)}
    <div class="row row-nowrap">${statusBadge(t.status)}<span class="small muted truncate">${ago(t.finishedAt)}</span></div>
    ${t.status !== "cancelled" && error.detail && html`<p class="small st-task-error">${error.detail}</p>`}${t.status !== "cancelled" && error.remedy && html`<p class="small muted">${error.remedy}</p>`}
    <div class="row"><button type="button" class="btn btn-small" data-action="retry-task" data-needs="write" data-id="${id}">${icon("refresh")}Run again</button><a class="btn btn-small btn-ghost" href="/api/tasks/${encodeURIComponent(id)}/log" target="_blank" rel="noopener">Log</a></div></div></li>`;
}
