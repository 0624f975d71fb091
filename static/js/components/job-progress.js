/**
 * One background task: what it does, bar, n/total, rate, time left, cancel / retry.
 * Property `task` (as GET /api/tasks/{id}), and before it `movable`: others wait before it; attribute `compact` hides the
 * preview. Emits `task:cancel`, `task:retry`, `task:next` {id}.
 */
import { attrs, html, icon } from "../html.js";
import { emit, render } from "../dom.js";
import { ago, bytes, eta, number, ofTotal, percent, words } from "../format.js";
import { isFinished, taskId, taskNeeds } from "../tasks.js";
import { statusBadge } from "./status-badge.js";

/** Where the result of a task is looked at, "" when nowhere. */
export function taskHref(task) {
  const ids = task.result?.mediaIds ?? (task.result?.mediaId ? [task.result.mediaId] : []);
  if (ids.length) return `/gallery.html?media=${encodeURIComponent(ids[0])}`;
  if (task.result?.datasetId) return `/datasets.html?dataset=${encodeURIComponent(task.result.datasetId)}`;
  if (/image_batch|dataset/.test(task.kind ?? "")) return "";
  if (/image|generat/.test(task.kind ?? "") && !isFinished(task)) return "/studio.html";
  return "";
}

class JobProgress extends HTMLElement {
  ownsContent = true;
  movable = false;
  #task = null;
  #said = -1;
  set task(task) {
    if (taskId(task) !== (this.#task && taskId(this.#task))) this.#said = -1;
    this.#task = task;
    this.#render();
  }
  get task() {
    return this.#task;
  }

  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    this.addEventListener("click", (event) => {
      const button = event.target.closest("[data-task-action]");
      if (!button) return;
      button.setAttribute("aria-busy", "true");
      emit(this, `task:${button.dataset.taskAction}`, { id: taskId(this.#task) });
      setTimeout(() => button.removeAttribute("aria-busy"), 30_000);
    });
  }

  #render() {
    const t = this.#task;
    if (!t) {
      this.replaceChildren();
      return;
    }
    const done = isFinished(t);
    const known = t.total > 0;
    const title = t.title || words(t.kind);
    const href = taskHref(t);
    const shows = t.result?.mediaIds?.[0] ?? t.result?.mediaId;
    const facts = done
      ? [ago(t.finishedAt)]
      : [known && ofTotal(t.done, t.total), t.rate && `${t.total >= 100_000 ? bytes(t.rate) : number(t.rate, 2)}/s`, eta(t.etaSeconds)].filter(Boolean);
    const quarter = known ? Math.floor((t.progress ?? 0) * 4) : -1;
    const announce = !done && quarter > this.#said ? `${title}: ${percent(t.progress)}` : done ? `${title}: ${words(t.status)}` : undefined;
    this.#said = Math.max(quarter, this.#said);
    render(
      this,
      html`<div class="job">
      ${t.previewUrl && !done && !this.hasAttribute("compact") && html`<img class="job-preview" src="${t.previewUrl}" alt="Preview of the unfinished picture">`}
      ${done && shows && html`<a class="job-preview" href="${href}" tabindex="-1" aria-hidden="true"><img src="/api/media/${shows}/thumb" alt="" loading="lazy"></a>`}
      <div class="job-body"><div class="job-line"><strong class="job-title">${href ? html`<a href="${href}">${title}</a>` : title}</strong>
        ${(done || t.status !== "running") && statusBadge(t.status)}
        ${this.movable && t.status === "queued" && html`<button type="button" class="icon-btn" data-task-action="next" data-needs="${taskNeeds(t)}" aria-label="Run ${title} next" title="Run next">${icon("chevron-up")}</button>`}
        ${!done && html`<button type="button" class="icon-btn" data-task-action="cancel" data-needs="${taskNeeds(t)}" aria-label="Cancel ${title}" title="Cancel" ${attrs({ disabled: t.cancelRequested })}>${icon("x")}</button>`}
        ${["failed", "interrupted", "cancelled"].includes(t.status) && html`<button type="button" class="icon-btn" data-task-action="retry" data-needs="${taskNeeds(t)}" aria-label="Run ${title} again" title="Run again">${icon("refresh")}</button>`}</div>
      ${t.status === "running" && html`<progress max="1" aria-label="${title}" ${attrs({ value: known ? t.progress : null })}></progress>`}
      ${t.status === "failed" && t.error && html`<p class="job-error">${t.error.detail ?? t.error.error}${t.error.remedy && html` <span class="muted">${t.error.remedy}</span>`}</p>`}
      <p class="job-facts">${t.cancelRequested && !done ? html`<span>Stopping…</span>` : !done && t.message && html`<span class="job-message">${t.message}</span>`}${facts.map((f) => html`<span>${f}</span>`)}</p>
      <span class="visually-hidden" role="status">${announce ?? this.querySelector("[role=status]")?.textContent ?? ""}</span></div></div>`,
    );
  }
}
customElements.define("job-progress", JobProgress);
