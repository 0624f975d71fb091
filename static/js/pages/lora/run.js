/** One run: state, curve, samples, checkpoints, log, settings and report; live while it trains. */
import "../../components/loss-chart.js";
import { api } from "../../api.js";
import { confirmDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { statusBadge } from "../../components/status-badge.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { ago, bytes, dateTime, duration, eta, number, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { canEdit, editAndResume } from "./edit.js";
import { logSection } from "./log.js";
import { FIELDS, getIn, PRESETS, shown } from "./params.js";
import { report } from "./report.js";
import { act, bar } from "./runs.js";
import { samplesSection } from "./samples.js";
import { ACTIVE, actLabel, ACTS, against, appended, loss, speed, stageOf, stateOf, troubleOf } from "./words.js";

const POLL = { live: 15_000, down: 3000 };

const fact = (label, value, note = "") => html`<div data-key="${label}"><dt>${label}</dt><dd><strong>${value}</strong>${note && html`<span class="small muted">${note}</span>`}</dd></div>`;

function head(run) {
  const state = stateOf(run);
  const trouble = troubleOf(run);
  const active = ACTIVE.has(run.status);
  const trains = stageOf(run) === "train"; // only then its pace says something
  const v = run.validation ?? {};
  const preset = PRESETS.find((p) => p.key === run.preset)?.label;
  const took = run.startedAt && run.finishedAt ? (Date.parse(run.finishedAt) - Date.parse(run.startedAt)) / 1000 : null;
  return html`<div class="page-head"><a class="icon-btn" href="/lora.html?tab=runs" data-action="run-back" aria-label="All runs" title="All runs">${icon("arrow-left")}</a><div class="lo-run-title"><h2>${run.name}</h2><p class="small muted">${[run.characterName, run.trainingData, run.baseModel, preset].filter(Boolean).join(" · ")}</p></div>${statusBadge(state.status, state.label)}<span class="spacer"></span>
    ${run.lora && run.characterId && run.status === "completed" && html`<a class="btn btn-primary" href="/studio.html?character=${encodeURIComponent(run.characterId)}" data-key="draw">${icon("studio")}Draw with it</a>`}${Object.keys(ACTS)
      .filter((a) => run.actions?.includes(a))
      .map((a) => html`<button type="button" class="btn ${a === "resume" ? "btn-primary" : ["delete", "cancel"].includes(a) ? "btn-ghost is-danger" : ""}" data-key="${a}" data-action="run-do" data-needs="write" data-act="${a}">${icon(ACTS[a].icon)}${actLabel(a, run)}</button>${["resume", "retry"].includes(a) && canEdit(run) && html`<button type="button" class="btn" data-key="edit" data-action="run-edit" data-needs="write">${icon("edit")}${a === "resume" ? "Edit and resume" : "Edit and start again"}</button>`}`)}</div>
    ${(state.text || run.message) && active && html`<p class="lo-state-text" role="status">${state.text || (run.step ? "" : run.message)}</p>`}
    ${trouble && html`<div class="lo-trouble" role="alert">${icon("error")}<div><p><strong>${trouble.detail}</strong></p><p>${trouble.remedy}</p>${run.error?.logTail?.length > 0 && html`<details><summary class="small">Last lines of the log</summary><pre class="small mono lo-tail" tabindex="0">${run.error.logTail.join("\n")}</pre></details>`}</div></div>`}
    ${run.lora && html`<p class="lo-made">${icon("ok")}<span>On the shelf as <a href="/lora.html?tab=shelf&lora=${encodeURIComponent(run.lora)}">${run.lora}</a>${run.result?.step && html`, as it was at step ${number(run.result.step)}`}.${(run.result?.notes ?? []).map((n) => html` <span class="muted">${n}</span>`)}</span></p>`}
    ${bar(run)}
    <dl class="lo-figures">${fact("Step", `${number(run.step ?? 0)} / ${number(run.totalSteps)}`, run.totalEpochs ? `epoch ${number(Math.min(run.totalEpochs, Math.ceil(run.epoch ?? 0)))} of ${number(run.totalEpochs)}` : "")}
    ${run.status === "running" ? fact("Speed", speed(trains ? run.stepsPerSecond : null), run.memoryBytes ? `${bytes(run.memoryBytes)} in use` : "") : took !== null ? fact("Took", duration(took), `ended ${ago(run.finishedAt)}`) : fact("Asked for", ago(run.createdAt), dateTime(run.createdAt))}
    ${run.status === "running" && fact("Time left", trains && run.etaSeconds ? eta(run.etaSeconds).replace(" left", "").replace("about ", "~ ").replace("a few seconds", "seconds") : "–", run.startedAt ? `started ${ago(run.startedAt)}` : "")}
    ${fact("Loss", loss(run.loss), run.learningRate ? `learning rate ${run.learningRate.toPrecision(2)}` : "")}
    ${fact("Held out", loss(v.latest), against(v.latest, v.base))}
    ${v.best !== null && v.best !== undefined && fact("Best", loss(v.best), `at step ${number(v.bestStep)}`)}</dl>
    ${run.ladder?.length > 0 && html`<ul class="lo-ladder small">${run.ladder.map((l) => html`<li>${icon("info")}<span>${l.detail}</span></li>`)}</ul>`}`;
}

function checkpoints(run) {
  const list = [...(run.checkpoints ?? [])].reverse();
  const v = run.validation ?? {};
  return html`<header class="panel-head"><h2>Checkpoints <span class="count">${number(list.length)}</span></h2></header>${
    list.length
      ? html`<ul class="lo-points">${list.map((c) => html`<li data-key="${c.step}"><div><strong>Step ${number(c.step)}</strong>${c.best && html` <span class="badge badge-good">${icon("star")}<span>Best</span></span>`}<p class="small muted">${[bytes(c.sizeBytes), c.validationLoss !== null && c.validationLoss !== undefined ? `held out ${loss(c.validationLoss)}` : ""].filter(Boolean).join(" · ")}${v.base && c.validationLoss ? html`<br>${against(c.validationLoss, v.base)}` : ""}</p></div>
      <div class="row"><a class="icon-btn" href="${c.fileUrl}" download aria-label="Download the LoRA of step ${c.step}" title="Download">${icon("download")}</a>${!ACTIVE.has(run.status) && html`<button type="button" class="icon-btn" data-action="point-delete" data-step="${c.step}" aria-label="Delete the checkpoint of step ${c.step}" title="Delete">${icon("trash")}</button>`}<button type="button" class="btn btn-small" data-action="point-use" data-needs="write" data-step="${c.step}" aria-label="Use the LoRA of step ${c.step}">Use this</button></div></li>`)}</ul><p class="small muted">“Use this” puts the LoRA onto the shelf${run.characterName ? ` and gives it to ${run.characterName}` : ""}. The files work in ComfyUI, A1111 and Forge too.</p>`
      : html`<p class="muted">${ACTIVE.has(run.status) ? "The first one is written at the first check." : "There are none."}</p>`
  }`;
}

function settings(run) {
  const config = run.config ?? {};
  const rows = FIELDS.map((f) => [f.label, shown(f, getIn(config, f.name))]).filter(([, value]) => value !== "");
  const ready = run.ready ?? {};
  return html`<details class="lo-config"><summary><h2>Settings</h2></summary><dl class="facts small"><div><dt>Trigger word</dt><dd>${run.triggerWord ? html`<code>${run.triggerWord}</code>` : "none"}</dd></div>${ready.pictures !== undefined && html`<div><dt>Trained on</dt><dd>${plural(ready.pictures, "picture")}${Array.isArray(ready.heldOut) && ready.heldOut.length > 0 && html`, ${number(ready.heldOut.length)} held out`}${ready.device && html`, on ${ready.device}`}</dd></div>`}${ready.parameters && html`<div><dt>Parameters</dt><dd>${number(ready.parameters)}</dd></div>`}${rows.map(([label, value]) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`)}</dl></details>`;
}
const warnings = (run) =>
  run.warnings?.length ? html`<details class="lo-warnings"><summary><h2>Warnings <span class="count">${number(run.warnings.length)}</span></h2></summary><ul class="lo-checks">${run.warnings.map((w) => html`<li class="lo-check is-warn">${icon("alert")}<div><p>${w.detail}</p>${w.remedy && html`<p class="small muted">${w.remedy}</p>`}</div></li>`)}</ul></details>` : html``;

/** @param {HTMLElement} root @param {{back: () => void, gone: () => void}} page */
export function runView(root, page) {
  let id = "",
    run = null,
    error = null,
    points = [],
    ladder = [],
    timer = 0,
    turn = 0,
    reading = null, // the read of the curve that counts: what it was asked for may be over when it is there
    built = false,
    samples = null,
    log = null;
  const path = (more = "") => `/api/lora/train/${encodeURIComponent(id)}${more}`;

  function build() {
    if (built) return;
    built = true;
    render(
      root,
      html`<div class="lo-run-page stack-4"><div class="lo-head"></div><div class="lo-report-slot"></div><div class="lo-columns"><div class="stack-4"><section class="panel"><header class="panel-head"><h2>Loss</h2></header><loss-chart></loss-chart><p class="small muted">Held-out and training loss are measured differently. Compare the held-out line with the one without the LoRA, not with the training loss.</p></section><section class="panel lo-run-samples"></section></div><div class="stack-4"><section class="panel lo-run-points"></section><section class="panel lo-run-more stack-3"></section></div></div><section class="panel lo-run-log"></section><section class="panel lo-run-settings"></section></div>`,
    );
    samples = samplesSection(root.querySelector(".lo-run-samples"));
    log = logSection(root.querySelector(".lo-run-log"), () => run && { logUrl: run.logUrl, active: ACTIVE.has(run.status) });
  }
  /** Pictures stand under the curve while it trains, and before the report when there is something to see. */
  function place() {
    const panel = root.querySelector(".lo-run-samples");
    const up = !ACTIVE.has(run.status) && run.samples?.length > 0;
    if (up === panel.parentElement.matches(".lo-run-page")) return;
    if (up) root.querySelector(".lo-report-slot").before(panel);
    else root.querySelector(".lo-columns > div").append(panel);
  }
  function paintHead() {
    render(root.querySelector(".lo-head"), head(run));
  }
  function paintChart() {
    root.querySelector("loss-chart").data = {
      points,
      validation: run.validations ?? [],
      base: run.validation?.base ?? null,
      totalSteps: ACTIVE.has(run.status) ? run.totalSteps : 0,
      marks: ladder.filter((l) => l.step).map((l) => ({ step: l.step, label: l.detail })),
    };
  }
  function paint() {
    if (!run) {
      built = false;
      render(root, error ? html`<div class="stack-4"><p><a href="/lora.html?tab=runs" data-action="run-back">${icon("arrow-left")} All runs</a></p>${errorState(error, { title: error.status === 404 ? "There is no such run" : "The run could not be loaded", action: error.status === 404 ? "" : "run-reload" })}</div>` : skeleton("rows", 6));
      return;
    }
    build();
    paintHead();
    render(root.querySelector(".lo-report-slot"), report(run));
    render(root.querySelector(".lo-run-points"), checkpoints(run));
    render(root.querySelector(".lo-run-more"), warnings(run));
    root.querySelector(".lo-run-more").hidden = !run.warnings?.length;
    render(root.querySelector(".lo-run-settings"), settings(run));
    place();
    samples.show(run.samples, { active: ACTIVE.has(run.status), checkpoints: run.checkpoints ?? [], usedStep: run.lora ? run.result?.step : null, sampleEvery: run.config?.sampleEvery, resemblances: run.resemblances });
    paintChart();
    log.read();
  }

  async function load() {
    if (!id) return; // left while something was being done
    const mine = (turn += 1);
    try {
      const [answer] = await Promise.all([api.get(path()), readCurve()]);
      if (mine !== turn) return;
      run = answer;
      error = null;
    } catch (problem) {
      if (mine !== turn) return;
      if (run && problem.status !== 404) return; // what is known stays; the next try tells
      error = problem;
      run = null;
    }
    paint();
  }
  async function readCurve({ whole = false } = {}) {
    if (reading) return;
    const mine = (reading = {});
    try {
      const since = whole ? 0 : (points.at(-1)?.step ?? 0);
      const answer = await api.get(path("/metrics"), { query: { sinceStep: since || null } });
      if (mine !== reading) return;
      if (answer.step < since) {
        reading = null;
        await readCurve({ whole: true });
        return;
      }
      points = since ? appended(points, answer.points, since) : answer.points;
      ladder = answer.ladder ?? [];
      if (run) paintChart();
    } catch (problem) {
      if (problem.status === 404 && !run && mine === reading) error = problem;
    } finally {
      if (mine === reading) reading = null;
    }
  }
  const again = debounce(() => load(), 250);
  const curve = debounce(() => readCurve(), 700);
  const tail = debounce(() => log?.read(), 700);

  stream.on("training.progress", (event) => {
    if (event.taskId !== id || !run) return;
    if (event.event === "resumed" || event.event === "ready") {
      points = [];
      reading = null;
      again();
    } else if (event.event === "step") {
      run = { ...run, step: event.step, totalSteps: event.totalSteps ?? run.totalSteps, epoch: event.epoch, loss: event.loss, learningRate: event.lr, stepsPerSecond: event.stepsPerSecond, etaSeconds: event.etaSeconds, memoryBytes: event.memoryBytes ?? run.memoryBytes, phase: "train", stale: false, lastSignAt: new Date().toISOString() };
      if (run.status === "running") paintHead();
      else again();
      curve();
    } else again();
    tail();
  });
  stream.on("task.updated", (task) => {
    if ((task.taskId ?? task.id) === id && run && task.status !== run.status) again();
  });
  stream.on("snapshot", ({ lost }) => lost && run && ACTIVE.has(run.status) && again());

  function poll() {
    clearTimeout(timer);
    timer = setTimeout(
      async () => {
        if (id && document.visibilityState === "visible" && (!run || ACTIVE.has(run.status))) await load();
        else if (id) log?.read();
        if (id) poll();
      },
      stream.state === "live" ? POLL.live : POLL.down,
    );
  }

  onAction(root, {
    "run-back": (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      page.back();
    },
    "run-reload": (_e, el) => busy(el, load),
    "run-do": (_e, el) =>
      busy(el, async () => {
        const done = await act(run, el.dataset.act);
        if (!done) return;
        if (el.dataset.act === "delete") {
          page.gone();
          return;
        }
        await load();
      }),
    "run-edit": async () => {
      if (await editAndResume(run)) await load();
    },
    "point-use": (_e, el) =>
      busy(el, async () => {
        try {
          const lora = await api.post(path(`/checkpoints/${el.dataset.step}/use`));
          toast.success(`${lora.name} is on the shelf`, { detail: (lora.notes ?? []).join(" "), action: { label: "Shelf", href: `/lora.html?tab=shelf&lora=${encodeURIComponent(lora.name)}` } });
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      }),
    "point-delete": async (_e, el) => {
      if (!(await confirmDialog({ title: `Delete the checkpoint of step ${el.dataset.step}?`, consequences: ["Its LoRA and the state to resume from are deleted.", "This cannot be undone."], confirmLabel: "Delete" }))) return;
      await busy(el, async () => {
        try {
          await api.delete(path(`/checkpoints/${el.dataset.step}`));
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      });
    },
  });
  return {
    show(next) {
      if (next !== id) {
        id = next;
        turn += 1;
        run = null;
        error = null;
        points = [];
        reading = null;
        built = false;
        root.replaceChildren();
      }
      paint();
      poll();
      return load();
    },
    hide() {
      for (const waiting of [again, curve, tail]) waiting.cancel();
      clearTimeout(timer);
      id = "";
      turn += 1;
      reading = null;
    },
    can: (name) => Boolean(run?.actions?.includes(name)),
    click: (name) => root.querySelector(`[data-action=run-do][data-act=${name}]`)?.click(),
  };
}
