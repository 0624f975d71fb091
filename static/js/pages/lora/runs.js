/** The Runs tab: every training, newest first, live; and the acts on a run that the list and the run's page share. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { statusBadge } from "../../components/status-badge.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { ago, bytes, number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { runNext, stream, tasks } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { PRESETS } from "./params.js";
import { ACTIVE, actLabel, ACTS, fraction, progressLine, resultLine, stateOf, troubleOf } from "./words.js";

const PAGE = 30;
const LANE = "gpu"; // where trainings and drawings take turns
const runUrl = (id, more = "") => `/api/lora/train/${encodeURIComponent(id)}${more}`;
const presetLabel = (key) => PRESETS.find((p) => p.key === key)?.label ?? key ?? "";

/** Ask what is kept of a run that is stopped. @returns {Promise<"lora"|"checkpoints"|"nothing"|null>} null: not at all */
async function askKeep(run) {
  const waits = run.status === "queued";
  if (waits && !run.canResume) return (await confirmDialog({ title: `Cancel ${run.name}?`, body: "It has not begun yet.", confirmLabel: "Cancel it", cancelLabel: "Keep it" })) ? "checkpoints" : null;
  const choices = [
    ["checkpoints", "Keep the checkpoints", "It can be resumed later, and a LoRA can be made of each checkpoint."],
    ["lora", "Make a LoRA of it now", "The newest checkpoint goes onto the shelf and to the character."],
    ["nothing", "Keep nothing", "The checkpoints are deleted. The log, the curves and the samples stay."],
  ];
  const { dialog, closed } = openDialog({
    title: `${waits ? "Cancel" : "Stop"} ${run.name}?`,
    size: "s",
    body: html`<form class="stack-3"><p>It ${waits ? "waits to go on" : "is"} at step ${number(run.step ?? 0)} of ${number(run.totalSteps)}.</p><fieldset class="lo-keep"><legend class="visually-hidden">What is kept</legend>${choices.map(([value, label, hint], i) => html`<label class="lo-preset"><input type="radio" name="keep" value="${value}" ${attrs({ checked: i === 0 })}><span><strong>${label}</strong><span class="small muted">${hint}</span></span></label>`)}</fieldset></form>`,
    footer: html`<button type="button" class="btn" data-close="">${waits ? "Keep it waiting" : "Go on training"}</button><button type="button" class="btn btn-danger" data-close="yes">${waits ? "Cancel it" : "Stop"}</button>`,
  });
  let keep = "checkpoints";
  dialog.addEventListener("change", (event) => {
    keep = event.target.value;
  });
  return (await closed) === "yes" ? keep : null;
}

/** Do something with a run. @returns {Promise<any>} the run afterwards, true, or null when nothing was done */
export async function act(run, name) {
  const id = run.taskId;
  try {
    if (name === "clone") {
      location.assign(`/lora.html?tab=train&clone=${encodeURIComponent(id)}`);
      return null;
    }
    if (name === "next") {
      await runNext(id);
      toast.success(ACTS.next.said);
      return true;
    }
    if (name === "cancel") {
      const keep = await askKeep(run);
      if (!keep) return null;
      const answer = await api.post(runUrl(id, "/cancel"), { keep });
      toast.success(run.status === "queued" ? "Cancelled" : "It is being stopped");
      return answer;
    }
    if (name === "delete") {
      const sure = await confirmDialog({ title: `Delete the files of ${run.name}?`, consequences: ["Samples, curves, log and checkpoints are deleted.", "LoRAs on the shelf stay.", "This cannot be undone."], confirmLabel: "Delete files" });
      if (!sure) return null;
      const { freedBytes } = await api.delete(runUrl(id));
      toast.success("Files deleted", { detail: `${bytes(freedBytes)} are free again.` });
      return true;
    }
    const answer = await api.post(runUrl(id, `/${name === "retry" ? "resume" : name}`));
    toast.success(name === "resume" && run.status === "running" ? "It goes on without a pause" : ACTS[name].said);
    return answer?.taskId ? answer : true;
  } catch (error) {
    toast.error(error);
    return null;
  }
}

export const bar = (run) => {
  const f = fraction(run);
  if (run.status === "running" && !run.step) return html`<progress max="1" aria-label="${run.name}: starting"></progress>`;
  return ACTIVE.has(run.status) && f !== null ? html`<progress max="1" value="${f}" aria-label="${run.name}: ${Math.floor(f * 100)} %"></progress>` : "";
};

function row(run) {
  const state = stateOf(run);
  const trouble = troubleOf(run);
  return html`<li class="card lo-run" data-key="${run.taskId}" data-id="${run.taskId}">
    <a class="lo-run-picture" href="/lora.html?run=${encodeURIComponent(run.taskId)}" data-action="run-open" data-id="${run.taskId}" tabindex="-1" aria-hidden="true">${run.coverUrl ? html`<img src="${run.coverUrl}" alt="" loading="lazy" decoding="async">` : icon("layers")}</a>
    <div class="lo-run-main"><div class="row"><h2><a href="/lora.html?run=${encodeURIComponent(run.taskId)}" data-action="run-open" data-id="${run.taskId}">${run.name}</a></h2>${statusBadge(state.status, state.label)}</div>
    <p class="small muted">${[run.characterName, run.trainingData, run.baseModel, presetLabel(run.preset)].filter(Boolean).join(" · ")}</p>
    ${bar(run)}
    <p class="small">${trouble ? html`<span class="lo-why">${trouble.detail}</span>` : run.status === "completed" ? html`${run.lora ? html`Made <a href="/lora.html?tab=shelf&lora=${encodeURIComponent(run.lora)}">${run.lora}</a> · ` : ""}${resultLine(run)}` : (run.status === "queued" || !run.step) && ACTIVE.has(run.status) ? state.text || run.message : [progressLine(run), ACTIVE.has(run.status) && state.text].filter(Boolean).join(" · ")}</p></div>
    <div class="lo-run-side"><span class="small muted nowrap">${ago(run.finishedAt ?? run.startedAt ?? run.createdAt)}</span><div class="row">${["next", "pause", "resume", "retry", "cancel"].filter((a) => run.actions?.includes(a)).map((a) => html`<button type="button" class="btn btn-small" data-key="${a}" data-action="run-act" data-id="${run.taskId}" data-act="${a}" aria-label="${actLabel(a, run)}: ${run.name}">${icon(ACTS[a].icon)}${actLabel(a, run)}</button>`)}</div></div></li>`;
}

/** @param {HTMLElement} root @param {{open: (id: string) => void, counts: (active: number) => void}} page */
export function runsTab(root, page) {
  let rows = [],
    cursor = null,
    total = 0,
    error = null,
    loaded = false,
    turn = 0,
    timer = 0;

  function paint() {
    page.counts(rows.filter((r) => ACTIVE.has(r.status)).length);
    render(
      root,
      error && !rows.length
        ? errorState(error, { title: "The runs could not be loaded", action: "runs-reload" })
        : !loaded
          ? skeleton("rows", 5)
          : !rows.length
            ? emptyState({ icon: "history", title: "Nothing has been trained yet", text: session.characterId ? "No run belongs to the character you are working with." : "Every training is kept here with its curve, samples and log.", action: session.characterId ? { label: "Show all characters", action: "runs-everybody" } : { label: "Train a LoRA", action: "to-train", icon: "bolt" } })
            : html`<ul class="lo-runs">${rows.map(row)}</ul>${cursor && html`<div class="row lo-more"><button type="button" class="btn" data-action="runs-more">Load more</button><span class="small muted">${number(rows.length)} of ${plural(total, "run")}</span></div>`}`,
    );
  }
  async function load({ append = false } = {}) {
    const mine = (turn += 1);
    try {
      const answer = await api.get("/api/lora/train", { query: { characterId: session.characterId, limit: append ? PAGE : Math.min(200, Math.max(PAGE, rows.length)), cursor: append ? cursor : null } });
      if (mine !== turn) return;
      const known = new Set(append ? rows.map((r) => r.taskId) : []);
      rows = [...(append ? rows : []), ...answer.items.filter((r) => !known.has(r.taskId))];
      ({ nextCursor: cursor, total } = answer);
      error = null;
      loaded = true;
    } catch (problem) {
      if (mine !== turn) return;
      error = problem;
    }
    paint();
  }
  const again = debounce(() => load(), 300);
  stream.on("training.progress", (event) => {
    const at = rows.findIndex((r) => r.taskId === event.taskId);
    if (at < 0 || event.event !== "step") return again();
    rows[at] = { ...rows[at], step: event.step, totalSteps: event.totalSteps ?? rows[at].totalSteps, loss: event.loss, etaSeconds: event.etaSeconds, stepsPerSecond: event.stepsPerSecond, phase: "train", stale: false, lastSignAt: new Date().toISOString() };
    return root.hidden ? undefined : paint();
  });
  const seen = new Map(tasks.active().filter((t) => t.lane === LANE).map((t) => [t.taskId ?? t.id, `${t.status} ${t.turn ?? 0}`])); // what was last heard of each task of the trainings' lane: what waits depends on all of them
  stream.on("task.updated", (task) => {
    const id = task.taskId ?? task.id;
    const now = `${task.status} ${task.turn ?? 0}`;
    const moved = task.lane === LANE && seen.has(id) && seen.get(id) !== now && rows.some((r) => r.status === "queued");
    if (task.lane === LANE) seen.set(id, now);
    const known = rows.find((r) => r.taskId === id);
    if (moved || (task.kind === "train_lora" && known?.status !== task.status)) again();
  });
  stream.on("snapshot", ({ lost }) => lost && again());
  document.addEventListener("session:character", () => {
    rows = [];
    loaded = false;
    if (!root.hidden) load();
  });

  onAction(root, {
    "runs-reload": () => load(),
    "runs-more": (_e, el) => busy(el, () => load({ append: true })),
    "runs-everybody": () => session.choose(""),
    "run-open": (event, el) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      page.open(el.dataset.id);
    },
    "run-act": (_e, el) => busy(el, async () => {
      if (await act(rows.find((r) => r.taskId === el.dataset.id), el.dataset.act)) await load();
    }),
  });
  return {
    show() {
      paint();
      clearInterval(timer);
      timer = setInterval(() => stream.state !== "live" && document.visibilityState === "visible" && rows.some((r) => ACTIVE.has(r.status)) && load(), 5000);
      return load();
    },
    hide: () => clearInterval(timer),
    load,
  };
}
