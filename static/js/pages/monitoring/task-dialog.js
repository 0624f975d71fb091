/** One task from close by: what happened, why, and its log, followed while it runs. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { onAction, render } from "../../dom.js";
import { dateTime, duration, percent, ofTotal, number, words, eta } from "../../format.js";
import { stream } from "../../jobs.js";
import { isFinished, taskId, taskNeeds } from "../../tasks.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { taskHref } from "../../components/job-progress.js";
import { statusBadge } from "../../components/status-badge.js";
import { errorState, skeleton } from "../../components/states.js";
import { laneName } from "./components.js";
import { session } from "../../session.js";

const KEEP = 200_000; // characters of log in the page; the file has all
const EVERY = 1500;

export const took = (t) => (t.startedAt ? ((t.finishedAt ? Date.parse(t.finishedAt) : Date.now()) - Date.parse(t.startedAt)) / 1000 : null);

function view(t) {
  const rows = [
    ["What", words(t.kind)],
    ["Queue", t.lane && laneName(t.lane)],
    ["Character", t.characterId && (session.find(t.characterId)?.name ?? t.characterId)],
    ["Created", dateTime(t.createdAt)],
    ["Started", t.startedAt && dateTime(t.startedAt)],
    ["Finished", t.finishedAt && dateTime(t.finishedAt)],
    ["Took", t.startedAt && duration(took(t))],
    ["Attempt", t.attempt > 1 && number(t.attempt)],
    ["Id", html`<code>${taskId(t)}</code>`],
  ];
  const href = taskHref(t);
  return html`<div class="row">${statusBadge(t.status)}${t.quarantined && html`<span class="badge badge-bad">${icon("alert")}Quarantined</span>`}<span class="spacer"></span>
      ${!isFinished(t) && html`<button type="button" class="btn btn-small" data-action="cancel" data-needs="${taskNeeds(t)}" aria-busy="${String(Boolean(t.cancelRequested))}">${icon("x")}${t.cancelRequested ? "Stopping…" : "Cancel"}</button>`}${["failed", "interrupted", "cancelled"].includes(t.status) && html`<button type="button" class="btn btn-small" data-action="retry" data-needs="${taskNeeds(t)}">${icon("refresh")}Run again</button>`}${href && t.status === "completed" && html`<a class="btn btn-small" href="${href}">${icon("image")}Show the result</a>`}</div>
    ${t.status === "running" && html`<div class="stack-1"><progress max="1" ${t.total ? html`value="${t.progress}"` : ""} aria-label="Progress"></progress><p class="small muted">${[t.message, t.total && ofTotal(t.done, t.total), t.total && percent(t.progress), eta(t.etaSeconds)].filter(Boolean).join(" · ")}</p></div>`}
    ${t.quarantined && html`<p class="mo-error">It ended the program that ran it twice, so it is kept from starting by itself. Run it again when the cause is gone.</p>`}
    ${t.error && t.status !== "cancelled" && html`<div class="mo-error" role="note"><strong>${t.error.detail ?? t.error.error}</strong>${t.error.remedy && html`<p>${t.error.remedy}</p>`}<p class="small muted">${t.error.code}</p></div>`}
    ${t.itemsFailed?.length > 0 && html`<details class="mo-failed"><summary>${number(t.itemsFailed.length)} parts failed</summary><ul>${t.itemsFailed.slice(0, 50).map((f) => html`<li><code>${f.id}</code> ${f.detail ?? f.error}</li>`)}</ul></details>`}
    <dl class="facts">${rows.filter(([, v]) => v).map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`;
}

/** @param {string} id @param {{cancel: (id: string) => any, retry: (id: string) => any}} actions @returns {Promise<void>} resolves when closed */
export function openTask(id, actions) {
  const ended = new AbortController();
  const path = `/api/tasks/${encodeURIComponent(id)}`;
  const { dialog, closed } = openDialog({
    title: "Task",
    size: "l",
    body: html`<div class="stack-4"><div class="mo-task stack-3">${skeleton("lines", 4)}</div><section><header class="mo-log-head"><h3>Log</h3><span class="small muted mo-log-state" role="status"></span><span class="spacer"></span>${session.can("admin") && html`<a class="btn btn-ghost btn-small" href="/monitoring.html?tab=logs&taskId=${encodeURIComponent(id)}">${icon("search")}In the app's log</a>`}<a class="btn btn-ghost btn-small" href="${path}/log" download="${id}.txt">${icon("download")}Download</a></header><pre class="mo-log" tabindex="0" aria-label="Log" hidden></pre><p class="muted mo-log-none" hidden>This task wrote no log.</p></section></div>`,
  });
  const $ = (s) => dialog.querySelector(s),
    log = $(".mo-log");
  let task = null,
    offset = 0,
    text = "",
    timer = 0;
  const paint = () => {
    dialog.querySelector("h2").textContent = task.title || words(task.kind);
    render($(".mo-task"), view(task));
  };

  async function tail() {
    clearTimeout(timer);
    try {
      const { data, headers } = await api.get(`${path}/log`, { query: { offset }, full: true, signal: ended.signal });
      offset = Number(headers.get("X-Next-Offset")) || offset;
      if (data) {
        const stick = log.hidden || log.scrollHeight - log.scrollTop - log.clientHeight < 24; // follow only a reader who is at the end
        text = (text + data).slice(-KEEP);
        log.textContent = text;
        log.hidden = false;
        if (stick) log.scrollTop = log.scrollHeight;
      }
    } catch (error) {
      if (ended.signal.aborted) return;
      if (error.status === 404) {
        $(".mo-log-none").hidden = false;
        return;
      }
    }
    const running = task && !isFinished(task);
    $(".mo-log-none").hidden = Boolean(text) || running;
    $(".mo-log-state").textContent = running ? "following" : "";
    if (running && !ended.signal.aborted) timer = setTimeout(tail, EVERY);
  }
  const load = async () => {
    try {
      task = await api.get(path, { signal: ended.signal });
      paint();
      await tail();
    } catch (error) {
      if (!ended.signal.aborted) render($(".mo-task"), errorState(error, { title: "This task could not be read", compact: true }));
    }
  };
  stream.on(
    "task.updated",
    (t) => {
      if (taskId(t) !== id || !task) return;
      const was = isFinished(task);
      task = { ...task, ...t };
      paint();
      if (was !== isFinished(task)) {
        if (!isFinished(task)) {
          offset = 0;
          text = "";
        }
        tail();
      }
    },
    { signal: ended.signal },
  );
  onAction(dialog, { retry: (_e, el) => (task ? actions.retry(id, el) : load()), cancel: (_e, el) => actions.cancel(id, el) });
  load();
  return closed.then(() => {
    ended.abort();
    clearTimeout(timer);
  });
}
