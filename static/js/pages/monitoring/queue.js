/** What runs, what waits for what, and what is kept from running. */
import { attrs, html, icon } from "../../html.js";
import { busy, debounce, render } from "../../dom.js";
import { api } from "../../api.js";
import { ago, dateTime, eta, number, percent, words } from "../../format.js";
import { retry, runNext, stream, tasks } from "../../jobs.js";
import { toast } from "../../notices.js";
import { taskId, taskNeeds } from "../../tasks.js";
import { errorState } from "../../components/states.js";
import { laneName } from "./components.js";
import { nameOf, waits } from "./waits.js";

const SHOWN = 4;

const stop = (t) =>
  html`<button type="button" class="icon-btn" data-action="cancel-task" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Stop ${nameOf(t)}" title="Stop" ${attrs({ disabled: t.cancelRequested })}>${icon("stop")}</button>`;
const forward = (t) =>
  html`<button type="button" class="icon-btn" data-action="run-next" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Run ${nameOf(t)} next" title="Run next">${icon("chevron-up")}</button>`;
const link = (t) => html`<button type="button" class="mo-link" data-action="task" data-id="${taskId(t)}">${nameOf(t)}</button>`;

function lane(l) {
  const idle = !l.running.length && !l.waiting.length && !l.paused.length;
  return html`<li class="mo-lane ${idle ? "is-idle" : ""}" data-key="${l.lane}"><header><h3>${laneName(l.lane)}</h3><span class="small muted">${idle ? "Nothing to do" : `${number(l.running.length)} of ${number(l.workers)} busy${l.waiting.length ? `, ${number(l.waiting.length)} waiting` : ""}`}</span></header>
    ${
      !idle &&
      html`<ul class="mo-queue">${l.running.map((t) => html`<li data-key="${taskId(t)}"><span class="mo-dot is-running">${icon("play", "Running")}</span><div>${link(t)}<progress max="1" aria-label="${nameOf(t)}" ${attrs({ value: t.total ? t.progress : null })}></progress><span class="small muted">${[t.cancelRequested && "Stopping", t.waitsFor.length && `Waits for ${t.waitsFor.map((n) => `“${n}”`).join(", ")}`, t.message, t.total && percent(t.progress), eta(t.etaSeconds)].filter(Boolean).join(" · ")}</span></div>${stop(t)}</li>`)}
      ${l.paused.map((t) => html`<li data-key="${taskId(t)}"><span class="mo-dot">${icon("pause", "Paused")}</span><div>${link(t)}<span class="small muted">Paused</span></div>${stop(t)}</li>`)}
      ${l.waiting.slice(0, SHOWN).map(({ task, why }, i) => html`<li data-key="${taskId(task)}"><span class="mo-dot">${icon("clock", "Waiting")}</span><div>${link(task)}<span class="small muted">${why} · queued ${ago(task.createdAt)}</span></div><span class="mo-actions">${i > 0 && forward(task)}${stop(task)}</span></li>`)}
      ${l.waiting.length > SHOWN && html`<li class="small muted" data-key="more"><span></span><span>and ${number(l.waiting.length - SHOWN)} more</span></li>`}</ul>`
    }</li>`;
}

/** @param {HTMLElement} root @param {{lanes: () => any[], changed: () => void}} page */
export function queueSection(root, page) {
  let held = [],
    problem = null;
  render(root, html`<div class="mo-held"></div><section class="panel" aria-label="Queue"><header class="panel-head"><h2>Now</h2></header><ul class="mo-lanes"></ul></section>`);

  function paint() {
    render(root.querySelector(".mo-lanes"), html`${waits(tasks.active(), page.lanes()).map(lane)}`);
    render(
      root.querySelector(".mo-held"),
      problem
        ? errorState(problem, { title: "The quarantined tasks could not be loaded", action: "retry-held", compact: true })
        : held.length
          ? html`<section class="panel mo-quarantine" aria-label="Quarantined tasks"><header class="panel-head"><h2>Quarantined</h2><span class="small muted">These ended the program twice, so they do not start by themselves.</span></header>
            <ul class="mo-queue">${held.map((t) => html`<li data-key="${taskId(t)}"><span class="mo-dot is-bad">${icon("alert", "Quarantined")}</span><div>${link(t)}<span class="small muted" title="${dateTime(t.finishedAt)}">${words(t.kind)} · ${ago(t.finishedAt ?? t.createdAt)}</span></div>
            <span class="row mo-held-actions"><button type="button" class="btn btn-small" data-action="run-again" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Run ${nameOf(t)} again">${icon("refresh")}Run again</button><button type="button" class="btn btn-small btn-ghost" data-action="dismiss" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Dismiss ${nameOf(t)}">Dismiss</button></span></li>`)}</ul></section>`
          : html``,
    );
  }
  async function load() {
    try {
      held = (await api.get("/api/tasks", { query: { quarantined: true, limit: 50 } })).items;
      problem = null;
    } catch (error) {
      problem = error;
    }
    paint();
    page.changed();
  }
  const soon = debounce(load, 400);
  const frame = debounce(paint, 150);
  stream.on("task.updated", (t) => {
    if (t.quarantined || held.some((h) => taskId(h) === taskId(t))) soon();
    frame();
  });
  stream.on("snapshot", frame);
  stream.on("task.deleted", frame);

  const act = (el, work, said) =>
    busy(el, async () => {
      try {
        await work();
        held = held.filter((t) => taskId(t) !== el.dataset.id);
        toast.success(said);
        paint();
        page.changed();
      } catch (error) {
        toast.error(error);
        load();
      }
    });
  return {
    paint,
    load,
    get held() {
      return held.length;
    },
    handlers: {
      "retry-held": () => load(),
      "run-again": (_e, el) => act(el, () => retry(el.dataset.id), "It runs again"),
      "run-next": (_e, el) => busy(el, () => runNext(el.dataset.id).then(() => toast.success("It runs next")).catch(toast.error)),
      dismiss: (_e, el) =>
        act(el, () => api.post(`/api/tasks/${encodeURIComponent(el.dataset.id)}/dismiss`), "Dismissed. It stays among the interrupted tasks"),
    },
  };
}
