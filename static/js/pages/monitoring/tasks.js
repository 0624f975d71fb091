/** The table of background tasks: by state, newest first, live. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, debounce, render } from "../../dom.js";
import { ago, dateTime, duration, eta, number, ofTotal, percent, plural, words } from "../../format.js";
import { cancel, retry, stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { isFinished, taskId, taskNeeds } from "../../tasks.js";
import { session } from "../../session.js";
import { statusBadge } from "../../components/status-badge.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { took } from "./task-dialog.js";

export const STATES = [
  ["", "All", []],
  ["active", "Active", ["queued", "running", "paused"]],
  ["failed", "Failed", ["failed"]],
  ["interrupted", "Interrupted", ["interrupted"]],
  ["completed", "Completed", ["completed"]],
  ["cancelled", "Cancelled", ["cancelled"]],
];
const of = (key) => STATES.find(([k]) => k === key)?.[2] ?? [];

const columns = [
  {
    key: "title",
    label: "Task",
    primary: true,
    render: (t) =>
      html`<button type="button" class="mo-link" data-action="task" data-id="${taskId(t)}">${t.title || words(t.kind)}</button><span class="small muted mo-kind">${[words(t.kind) !== t.title && words(t.kind), session.find(t.characterId)?.name].filter(Boolean).join(" · ")}</span>`,
  },
  {
    key: "status",
    label: "State",
    render: (t) =>
      html`<div class="mo-state">${statusBadge(t.status)}${t.quarantined && html`<span class="badge badge-bad">${icon("alert")}Quarantined</span>`}${t.error && t.status !== "cancelled" && html`<span class="small mo-why" title="${t.error.remedy ?? ""}">${t.error.detail ?? t.error.error}${t.error.remedy && html` <span class="muted">${t.error.remedy}</span>`}</span>`}</div>`,
  },
  {
    key: "progress",
    label: "Progress",
    render: (t) =>
      t.status === "running" || t.status === "paused"
        ? html`<div class="mo-progress"><progress max="1" aria-label="${t.title || words(t.kind)}" ${attrs({ value: t.total ? t.progress : null })}></progress><span class="small muted">${[t.total ? ofTotal(t.done, t.total) : t.message, t.total && percent(t.progress), eta(t.etaSeconds)].filter(Boolean).join(" · ")}</span></div>`
        : html`<span class="muted">${t.status === "queued" ? "Waiting" : t.total > 1 ? ofTotal(t.done, t.total) : "–"}</span>`,
  },
  {
    key: "createdAt",
    label: "Created",
    render: (t) => html`<time class="nowrap" datetime="${t.createdAt}" title="${dateTime(t.createdAt)}">${ago(t.createdAt)}</time>`,
  },
  { key: "took", label: "Took", align: "end", render: (t) => (t.startedAt && isFinished(t) ? duration(took(t)) : "–") },
  {
    key: "actions",
    label: "",
    align: "end",
    render: (t) =>
      html`<span class="mo-actions">${!isFinished(t) && html`<button type="button" class="icon-btn" data-action="cancel-task" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Cancel ${t.title || words(t.kind)}" title="Cancel" ${attrs({ disabled: t.cancelRequested })}>${icon("x")}</button>`}${["failed", "interrupted", "cancelled"].includes(t.status) && html`<button type="button" class="icon-btn" data-action="retry-task" data-needs="${taskNeeds(t)}" data-id="${taskId(t)}" aria-label="Run ${t.title || words(t.kind)} again" title="Run again">${icon("refresh")}</button>`}<button type="button" class="icon-btn" data-action="task" data-id="${taskId(t)}" aria-label="Details and log of ${t.title || words(t.kind)}" title="Details and log">${icon("list")}</button></span>`,
  },
];

/** @param {HTMLElement} root @param {{state: () => string, counts: () => Record<string, number>, changed: () => void}} page */
export function tasksSection(root, page) {
  let rows = [],
    cursor = null,
    total = 0,
    error = null,
    loaded = false,
    run = 0,
    more = false;
  render(
    root,
    html`<header class="panel-head"><h2>Tasks</h2><div class="row mo-filters" role="group" aria-label="State"></div></header><div class="mo-tasks-state"></div><data-table hidden></data-table><div class="mo-more"></div>`,
  );
  const table = root.querySelector("data-table");
  table.columns = columns;
  table.rowKey = "taskId";
  table.label = "Background tasks";

  function paint() {
    const counts = page.counts(),
      sum = (list) => (list.length ? list : Object.keys(counts)).reduce((n, s) => n + (counts[s] ?? 0), 0);
    render(
      root.querySelector(".mo-filters"),
      html`${STATES.map(([key, label, list]) => html`<button type="button" class="chip" data-action="state" data-value="${key}" aria-pressed="${String(key === page.state())}">${label} <span class="mo-count">${number(sum(list))}</span></button>`)}`,
    );
    table.hidden = !rows.length;
    if (rows.length) table.rows = rows;
    const label = STATES.find(([k]) => k === page.state())?.[1].toLowerCase();
    render(
      root.querySelector(".mo-tasks-state"),
      error && !rows.length
        ? errorState(error, { title: "The tasks could not be loaded", action: "retry-tasks", compact: true })
        : !loaded
          ? skeleton("rows", 4)
          : rows.length
            ? html``
            : emptyState(
                page.state()
                  ? { icon: "tasks", title: `No ${label} tasks`, compact: true }
                  : {
                      icon: "tasks",
                      title: "Nothing has run yet",
                      text: "Every picture, upscale and other long piece of work shows up here, with its log.",
                      action: { label: "Open the studio", href: "/studio.html" },
                      compact: true,
                    },
              ),
    );
    render(
      root.querySelector(".mo-more"),
      cursor
        ? html`<button type="button" class="btn" data-action="more-tasks">Load more</button><span class="small muted">${number(rows.length)} of ${plural(total, "task")}</span>`
        : html``,
    );
  }
  async function load({ append = false } = {}) {
    const mine = (run += 1);
    try {
      const answer = await api.get("/api/tasks", {
        query: { status: of(page.state()).join(","), limit: 30, cursor: append ? cursor : null },
      });
      if (mine !== run) return;
      const known = new Set(append ? rows.map(taskId) : []);
      rows = [...(append ? rows : []), ...answer.items.filter((t) => !known.has(taskId(t)))];
      cursor = answer.nextCursor;
      total = answer.total;
      error = null;
      loaded = true;
      more = append || more;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
      if (rows.length) toast.error(problem);
    }
    paint();
  }
  const frame = debounce(paint, 120);
  const counted = debounce(page.changed, 800);
  stream.on("task.updated", (task) => {
    const id = taskId(task),
      fits = !of(page.state()).length || of(page.state()).includes(task.status),
      at = rows.findIndex((t) => taskId(t) === id);
    const moved = at >= 0 ? rows[at].status !== task.status : true;
    if (at >= 0) {
      if (fits) rows[at] = { ...rows[at], ...task };
      else {
        rows.splice(at, 1);
        total -= 1;
      }
    } else if (fits && loaded && (!rows.length || (task.createdAt ?? "") >= (rows.at(-1).createdAt ?? ""))) {
      rows.push(task);
      rows.sort((a, b) => (b.createdAt ?? "").localeCompare(a.createdAt ?? ""));
      total += 1;
    }
    if (moved) counted();
    frame();
  });
  stream.on("task.deleted", ({ id }) => {
    rows = rows.filter((t) => taskId(t) !== id);
    frame();
  });

  return {
    paint,
    load,
    handlers: {
      "more-tasks": (_e, el) => busy(el, () => load({ append: true })),
      "retry-tasks": () => load(),
      "cancel-task": (_e, el) => busy(el, () => cancel(el.dataset.id).catch(toast.error)),
      "retry-task": (_e, el) =>
        busy(el, () =>
          retry(el.dataset.id)
            .then(() => toast.success("It runs again"))
            .catch(toast.error),
        ),
    },
  };
}
