/** The last tasks that failed, with why and what helps. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { debounce, render } from "../../dom.js";
import { ago, dateTime, words } from "../../format.js";
import { stream } from "../../jobs.js";
import { session } from "../../session.js";
import { taskId, taskNeeds } from "../../tasks.js";

const FAILED = ["failed", "interrupted"];
const SHOWN = 3;

/** @param {HTMLElement} root nothing is shown while nothing failed */
export function failuresSection(root) {
  let items = [],
    total = 0;
  const name = (t) => t.title || words(t.kind);
  function paint() {
    render(
      root,
      items.length
        ? html`<section class="panel" aria-label="Recent failures"><header class="panel-head"><h2>Recent failures</h2>${total > items.length && html`<button type="button" class="btn btn-ghost btn-small" data-action="all-failed">All failed tasks${icon("arrow-right")}</button>`}</header>
          <ul class="mo-queue mo-failures">${items.map((t) => html`<li data-key="${taskId(t)}"><span class="mo-dot is-bad">${icon(t.status === "failed" ? "error" : "alert", words(t.status))}</span><div><button type="button" class="mo-link" data-action="task" data-id="${taskId(t)}">${name(t)}</button>${t.error && html`<span class="small">${t.error.detail}${t.error.remedy && html` <span class="muted">${t.error.remedy}</span>`}</span>`}<span class="small muted" title="${dateTime(t.finishedAt)}">${words(t.kind)} · ${words(t.status).toLowerCase()} ${ago(t.finishedAt ?? t.createdAt)}</span></div>
            <span class="row mo-held-actions">${session.can("admin") && html`<a class="btn btn-small btn-ghost" href="/monitoring.html?tab=logs&taskId=${encodeURIComponent(taskId(t))}" aria-label="Log of ${name(t)}">Log</a>`}<button type="button" class="btn btn-small" data-action="retry-task" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Run ${name(t)} again">${icon("refresh")}Run again</button></span></li>`)}</ul></section>`
        : html``,
    );
  }
  async function load() {
    try {
      const answer = await api.get("/api/tasks", { query: { status: FAILED.join(","), limit: SHOWN } });
      items = answer.items;
      total = answer.total;
      paint();
    } catch {
      /* the status says that the tasks cannot be read */
    }
  }
  const soon = debounce(load, 500);
  stream.on("task.updated", (t) => {
    const shown = items.some((i) => taskId(i) === taskId(t));
    if (FAILED.includes(t.status) !== shown || (shown && !FAILED.includes(t.status))) soon();
  });
  return { load, paint };
}
