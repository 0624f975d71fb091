/** One run from close by: its steps on a time line, what came of it, and why not. Live while it runs. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { debounce, onAction, render } from "../../dom.js";
import { dateTime, duration, words } from "../../format.js";
import { html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { dryBadge, runBadge } from "./tasks.js";
import { results } from "./runs.js";
import { bars, isOver, needs, stepLabel, took, TRIGGERS, typeLabel } from "./words.js";

const ICONS = { ok: "ok", failed: "error", running: "play", skipped: "minus", held: "pause" };

function stepLinks(data = {}) {
  const ids = data.mediaIds ?? (data.mediaId ? [data.mediaId] : []);
  return html`${ids.slice(0, 4).map((id) => html`<a href="/gallery.html?media=${encodeURIComponent(id)}">picture</a> `)}${data.promptId && html`<a href="/prompts.html?id=${encodeURIComponent(data.promptId)}">prompt</a> `}${data.postId && html`<a href="/content.html?post=${encodeURIComponent(data.postId)}">post</a> `}`;
}

function view(run, zone, now) {
  const steps = run.steps ?? [];
  const lines = bars(steps, now);
  const seconds = isOver(run) && run.durationMs !== null && run.durationMs !== undefined ? run.durationMs / 1000 : took(run, now);
  const planned = /^\d{4}-/.test(run.slot ?? "") ? run.slot : null;
  const facts = [
    ["Task", run.taskName || typeLabel(run.type)],
    ["Character", run.characterName],
    ["Started by", TRIGGERS[run.trigger] ?? words(run.trigger)],
    ["Planned for", planned && dateTime(planned, zone)],
    ["Late", run.lateSeconds > 60 && duration(run.lateSeconds)],
    ["Started", run.startedAt && dateTime(run.startedAt, zone)],
    ["Finished", run.finishedAt && dateTime(run.finishedAt, zone)],
    ["Took", seconds !== null && duration(seconds)],
    ["Id", html`<code>${run.id}</code>`],
  ];
  return html`<div class="row">${runBadge(run.status)}${run.dryRun && dryBadge()}<span class="spacer"></span>
      ${!isOver(run) && html`<button type="button" class="btn btn-small" data-action="cancel" data-needs="${needs(run)}">${icon("x")}Cancel</button>`}${["failed", "missed", "cancelled", "skipped", "completed"].includes(run.status) && html`<button type="button" class="btn btn-small" data-action="again" data-needs="${needs(run)}">${icon("refresh")}Run again</button>`}${run.dryRun && html`<a class="btn btn-small" href="/content.html?tab=outbox">${icon("eye")}Outbox</a>`}</div>
    ${run.error && html`<div class="sc-problem" role="note"><strong>${run.error.detail ?? run.error.error}</strong>${run.error.remedy && html`<p>${run.error.remedy}</p>`}${run.error.code && html`<p class="small muted">${run.error.code}</p>`}</div>`}
    ${run.reason && !run.error && html`<p class="sc-reason">${icon("info")}<span>${run.reason}</span></p>`}
    ${steps.length > 0 && html`<section class="stack-2"><h3>Steps</h3><ol class="sc-steps">${steps.map((s, i) => html`<li class="is-${s.status}" data-key="step-${i}"><span class="sc-step-icon">${icon(ICONS[s.status] ?? "circle", words(s.status))}</span><div class="sc-step-text"><p><strong>${stepLabel(s.name)}</strong>${s.detail && html` <span class="muted">${s.detail}</span>`} ${stepLinks(s.data)}</p><span class="sc-bar" aria-hidden="true"><span data-left="${lines[i].left}" data-width="${lines[i].width}"></span></span></div><span class="small muted nowrap">${s.status === "skipped" ? "" : duration(took(s, now))}</span></li>`)}</ol></section>`}
    ${(run.mediaIds?.length > 0 || run.postIds?.length > 0) && html`<section class="stack-2"><h3>Result</h3><div class="sc-result is-large">${results(run, 12)}</div></section>`}
    <dl class="facts">${facts.filter(([, v]) => v).map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`;
}

/** @param {string} id @param {{zone: () => string, retry: (id: string, el: HTMLElement) => Promise<any>, cancel: (id: string, el: HTMLElement) => Promise<any>}} page @returns {Promise<void>} */
export function openRun(id, page) {
  const ended = new AbortController();
  const { dialog, closed } = openDialog({
    title: "Run",
    size: "m",
    body: html`<div class="stack-4 sc-rundialog">${skeleton("lines", 6)}</div>`,
  });
  const box = dialog.querySelector(".sc-rundialog");
  let run = null;
  const paint = () => {
    dialog.querySelector("h2").textContent = run.taskName || typeLabel(run.type);
    render(box, view(run, page.zone(), Date.now()));
    box.querySelectorAll("[data-width]").forEach((el) => {
      el.style.setProperty("inset-inline-start", `${el.dataset.left}%`);
      el.style.setProperty("inline-size", `${el.dataset.width}%`);
    });
  };
  const load = async () => {
    try {
      run = await api.get(`/api/scheduler/runs/${encodeURIComponent(id)}`, { signal: ended.signal });
      paint();
    } catch (error) {
      if (!ended.signal.aborted && !run) render(box, errorState(error, { title: "This run could not be read", compact: true }));
    }
  };
  const soon = debounce(load, 150);
  stream.on("run.updated", (r) => r.id === id && soon(), { signal: ended.signal });
  stream.on("post.updated", (p) => run?.postIds?.includes(p.id) && soon(), { signal: ended.signal });
  const timer = setInterval(() => run && !isOver(run) && paint(), 1000);
  onAction(dialog, {
    retry: () => load(),
    cancel: async (_e, el) => {
      await page.cancel(id, el);
      load();
    },
    again: async (_e, el) => {
      if (await page.retry(id, el)) dialog.close("");
    },
  });
  load();
  return closed.then(() => {
    ended.abort();
    clearInterval(timer);
  });
}
