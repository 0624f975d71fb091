/** The run history: what fired when, how it went, and why not. Newest first, live. */
import { api } from "../../api.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render, url } from "../../dom.js";
import { ago, duration, number, plural, words } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { dryBadge, runBadge } from "./tasks.js";
import { isOver, local, LOOKS, needs, PLATFORMS, RUN_STATES, stepLabel, took, TRIGGERS, typeLabel } from "./words.js";

const PAGE = 30;
const STEP_ICONS = { ok: "ok", failed: "error", running: "play", skipped: "minus", held: "pause" };
const stateLabel = (status) => LOOKS[status]?.[2] ?? words(status);

/** Small pictures of what a run made, and links to what it posted. */
export const results = (run, max = 3) =>
  html`${(run.mediaIds ?? []).slice(0, max).map((id) => html`<a class="sc-thumb" href="/gallery.html?media=${encodeURIComponent(id)}" aria-label="The picture of this run"><img src="/api/media/${encodeURIComponent(id)}/thumb" alt="" loading="lazy"></a>`)}${(run.postIds ?? []).slice(0, max).map((id, i) => html`<a class="chip sc-post" href="/content.html?post=${encodeURIComponent(id)}">${icon("send")}${postName(run, id, i)}</a>`)}`;
const postName = (run, id, i) => {
  const step = (run.steps ?? []).find((s) => s.data?.postId === id)?.name;
  return PLATFORMS[step?.split(":")[1]] ?? (run.postIds.length > 1 ? `Post ${i + 1}` : "Post");
};

const columns = (zone) => [
  {
    key: "startedAt",
    label: "Started",
    primary: true,
    render: (r) =>
      html`<div class="sc-run-when"><button type="button" class="sc-link" data-action="run-open" data-id="${r.id}">${local(r.startedAt ?? r.createdAt, zone)}</button><span class="small muted">${ago(r.startedAt ?? r.createdAt)}</span></div>`,
  },
  {
    key: "task",
    label: "Task",
    render: (r) =>
      html`<div class="sc-run-task"><span>${r.taskName || typeLabel(r.type)}${r.taskDeleted && html` <span class="muted">(deleted)</span>`}</span><span class="small muted">${[r.characterName, TRIGGERS[r.trigger] ?? words(r.trigger)].filter(Boolean).join(" · ")}</span></div>`,
  },
  {
    key: "status",
    label: "State",
    render: (r) => html`<div class="row sc-run-state">${runBadge(r.status)}${r.dryRun && dryBadge()}</div>`,
  },
  {
    key: "steps",
    label: "Steps",
    render: (r) =>
      r.steps?.length
        ? html`<span class="sc-dots" role="img" aria-label="${r.steps.map((s) => `${stepLabel(s.name)}: ${words(s.status)}`).join(", ")}">${r.steps.map((s) => html`<span class="sc-dot is-${s.status}" title="${stepLabel(s.name)}: ${words(s.status)}">${icon(STEP_ICONS[s.status] ?? "circle")}</span>`)}</span>`
        : html`<span class="muted">–</span>`,
  },
  {
    key: "result",
    label: "Result",
    render: (r) =>
      html`<div class="sc-result">${results(r)}${(r.error || r.reason) && html`<span class="small ${r.status === "failed" ? "sc-why" : "muted"}">${r.error?.detail ?? r.error?.error ?? r.reason}</span>`}${!r.error && !r.reason && !r.mediaIds?.length && !r.postIds?.length && html`<span class="muted">${isOver(r) ? "–" : ""}</span>`}</div>`,
  },
  {
    key: "took",
    label: "Took",
    align: "end",
    render: (r) => {
      const seconds = r.durationMs !== null && r.durationMs !== undefined && isOver(r) ? r.durationMs / 1000 : took(r);
      return html`<span class="nowrap">${duration(seconds)}</span>`;
    },
  },
  {
    key: "actions",
    label: "",
    align: "end",
    render: (r) =>
      html`<span class="sc-run-acts">${!isOver(r) && html`<button type="button" class="icon-btn" data-action="run-cancel" data-needs="${needs(r)}" data-id="${r.id}" aria-label="Cancel this run" title="Cancel">${icon("x")}</button>`}${["failed", "missed", "cancelled", "skipped"].includes(r.status) && html`<button type="button" class="icon-btn" data-action="run-retry" data-needs="${needs(r)}" data-id="${r.id}" aria-label="Run ${r.taskName || "it"} again" title="Run again">${icon("refresh")}</button>`}</span>`,
  },
];

/** @param {HTMLElement} root @param {{zone: () => string, tasks: () => any[], open: (id: string) => void, retry: (id: string, el: HTMLElement) => any, cancel: (id: string, el: HTMLElement) => any}} page */
export function runsSection(root, page) {
  let rows = [],
    cursor = null,
    total = 0,
    error = null,
    loaded = false,
    turn = 0;
  render(
    root,
    html`<div class="toolbar" role="search" aria-label="Filter the runs"></div><div class="sc-runs-state"></div><data-table hidden></data-table><div class="sc-more-rows"></div>`,
  );
  const table = root.querySelector("data-table");
  table.label = "Runs";
  const filter = () => ({ taskId: url.get("task") ?? "", status: url.get("status") ?? "", characterId: url.get("characterId") ?? "" });

  function paint() {
    const f = filter();
    const option = (value, label, now) => html`<option ${attrs({ value, selected: value === now })}>${label}</option>`;
    const known = page.tasks();
    render(
      root.querySelector(".toolbar"),
      html`<select aria-label="Task" data-run-filter="task">${option("", "All tasks", f.taskId)}${known.map((t) => option(t.id, t.label, f.taskId))}${f.taskId && !known.some((t) => t.id === f.taskId) ? option(f.taskId, "A deleted task", f.taskId) : ""}</select>
      <select aria-label="State" data-run-filter="status">${option("", "Any state", f.status)}${RUN_STATES.map((s) => option(s, stateLabel(s), f.status))}</select>
      <select aria-label="Character" data-run-filter="characterId">${option("", "All characters", f.characterId)}${session.known.map((c) => option(c.id, c.name, f.characterId))}</select>
      <span class="spacer"></span><span class="small muted" role="status">${loaded ? plural(total, "run") : ""}</span>`,
    );
    root.querySelectorAll("[data-run-filter]").forEach((el) => {
      el.value = { task: f.taskId, status: f.status, characterId: f.characterId }[el.dataset.runFilter];
    });
    table.columns = columns(page.zone());
    table.hidden = !rows.length;
    if (rows.length) table.rows = rows;
    const filtered = f.taskId || f.status || f.characterId;
    render(
      root.querySelector(".sc-runs-state"),
      error && !rows.length
        ? errorState(error, { title: "The runs could not be loaded", action: "runs-retry-load" })
        : !loaded
          ? skeleton("rows", 6)
          : rows.length
            ? html``
            : filtered
              ? emptyState({
                  icon: "search",
                  title: "Nothing fits",
                  text: "No run fits these filters.",
                  action: { label: "Clear filters", action: "runs-clear" },
                })
              : emptyState({
                  icon: "history",
                  title: "Nothing has run yet",
                  text: "Every run is kept here with its steps, its result, and the reason when it failed.",
                }),
    );
    render(
      root.querySelector(".sc-more-rows"),
      cursor
        ? html`<button type="button" class="btn" data-action="runs-more">Load more</button><span class="small muted">${number(rows.length)} of ${plural(total, "run")}</span>`
        : html``,
    );
  }

  async function load({ append = false } = {}) {
    const mine = (turn += 1);
    try {
      const answer = await api.get("/api/scheduler/runs", {
        query: { ...filter(), limit: append ? PAGE : Math.max(PAGE, Math.min(200, rows.length)), cursor: append ? cursor : null },
      });
      if (mine !== turn) return;
      const known = new Set(append ? rows.map((r) => r.id) : []);
      rows = [...(append ? rows : []), ...answer.items.filter((r) => !known.has(r.id))];
      cursor = answer.nextCursor;
      total = answer.total ?? rows.length;
      error = null;
      loaded = true;
    } catch (problem) {
      if (mine !== turn) return;
      error = problem;
      if (rows.length) toast.error(problem);
    }
    paint();
  }
  const fetchOne = async (id) => {
    try {
      const run = await api.get(`/api/scheduler/runs/${encodeURIComponent(id)}`);
      const at = rows.findIndex((r) => r.id === id);
      const f = filter();
      const fits =
        (!f.taskId || run.taskId === f.taskId) &&
        (!f.status || run.status === f.status) &&
        (!f.characterId || run.characterId === f.characterId);
      if (at >= 0 && fits) rows[at] = { ...rows[at], ...run };
      else if (at >= 0) {
        rows.splice(at, 1);
        total -= 1;
      } else if (fits && loaded) {
        rows = [run, ...rows];
        total += 1;
      }
      paint();
    } catch {
      /* the next load tells */
    }
  };
  const waiting = new Set();
  const flush = debounce(() => {
    if (root.hidden) return;
    const ids = [...waiting];
    waiting.clear();
    if (ids.length > 5) load();
    else ids.forEach(fetchOne);
  }, 250);
  stream.on("run.updated", (run) => {
    const at = rows.findIndex((r) => r.id === run.id);
    if (at >= 0 && run.status && rows[at].status !== run.status) {
      rows[at] = { ...rows[at], status: run.status };
      if (!root.hidden) paint();
    }
    waiting.add(run.id);
    flush();
  });
  setInterval(() => {
    if (!root.hidden && rows.some((r) => !isOver(r))) paint();
  }, 1000);

  root.addEventListener("change", (event) => {
    const { runFilter } = event.target.dataset;
    if (!runFilter) return;
    url.set({ [runFilter]: event.target.value });
    rows = [];
    loaded = false;
    paint();
    load();
  });
  root.addEventListener("data-table:open", ({ detail }) => detail.row && page.open(detail.row.id));
  onAction(root, {
    "runs-more": (_e, el) => busy(el, () => load({ append: true })),
    "runs-retry-load": () => load(),
    "runs-clear": () => {
      url.set({ task: null, status: null, characterId: null });
      rows = [];
      loaded = false;
      paint();
      load();
    },
    "run-open": (_e, el) => page.open(el.dataset.id),
    "run-retry": (_e, el) => page.retry(el.dataset.id, el),
    "run-cancel": (_e, el) => page.cancel(el.dataset.id, el),
  });
  return {
    paint,
    load,
    fresh() {
      rows = [];
      loaded = false;
      paint();
      return load();
    },
  };
}
