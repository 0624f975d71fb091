/**
 * Schedule: the tasks, the stop switch and the run history.
 * Address: ?tab=runs, filters (q characterId type state sort; task status), ?edit=<task id|new> and ?run=<id> for open dialogs.
 */
import { api } from "../api.js";
import { until } from "../components/cron-field.js";
import { errorState, emptyState, skeleton } from "../components/states.js";
import { copyCurl } from "../curl.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { ago, dateTime, number, plural } from "../format.js";
import { attrs, html, icon } from "../html.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { avatar } from "../components/avatar.js";
import { pause, removeTask, resume, runNow, stored } from "./schedule/acts.js";
import { editTask } from "./schedule/editor.js";
import { openRun } from "./schedule/run-dialog.js";
import { runsSection } from "./schedule/runs.js";
import { noTasks, taskRow } from "./schedule/tasks.js";
import { choose, local, posts, taskName, TYPES } from "./schedule/words.js";

const SHOWN = 200; // rows drawn at once; the rest by "Show more"
const SORTS = [
  ["next", "Next run"],
  ["last", "Last run"],
  ["name", "Name"],
  ["character", "Character"],
];
const STATES = [
  ["", "Any state"],
  ["on", "Active"],
  ["off", "Switched off"],
  ["problem", "With a problem"],
];
const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

export async function mount(main) {
  const root = document.createElement("div");
  main.append(root);
  let list = null,
    error = null,
    state = null,
    shown = SHOWN,
    opened = "";
  render(
    root,
    html`<div id="sc-stop"></div><div id="sc-file"></div><div class="page-head sc-head" id="sc-head"></div><tab-bar aria-label="Schedule"></tab-bar>
    <section role="tabpanel" id="sc-panel-tasks" aria-labelledby="tab-tasks" class="sc-panel"></section>
    <section role="tabpanel" id="sc-panel-runs" aria-labelledby="tab-runs" class="sc-panel" hidden></section>`,
  );
  const $ = (selector) => root.querySelector(selector);
  const panel = $("#sc-panel-tasks");
  const bar = $("tab-bar");
  const tab = () => (url.get("tab") === "runs" ? "runs" : "tasks");
  const filter = () => Object.fromEntries(["q", "characterId", "type", "state", "sort"].map((k) => [k, url.get(k) ?? ""]));
  const find = (id) => list?.find((t) => t.id === id);
  const stopped = (task) => {
    if (state?.paused) return "Everything is stopped";
    if (task.characterId && state?.characters?.[task.characterId]) return "Character stopped";
    if (session.find(task.characterId)?.isActive === false) return "Character inactive";
    return "";
  };

  const runs = runsSection($("#sc-panel-runs"), {
    zone,
    tasks: () => [...(list ?? [])].map((t) => ({ id: t.id, label: taskName(t) })).sort((a, b) => a.label.localeCompare(b.label)),
    open: (id) => showRun(id),
    retry: (id, el) => again(id, el),
    cancel: (id, el) =>
      busy(el, () => api.post(`/api/scheduler/runs/${encodeURIComponent(id)}/cancel`).then(() => runs.load(), toast.error)),
  });

  // ------------------------------------------------------------ drawing
  function paintHead() {
    const active = list?.filter((t) => t.active).length ?? 0;
    const runner = state?.runner;
    const halted = Object.keys(state?.characters ?? {});
    render(
      $("#sc-stop"),
      state?.paused
        ? html`<div class="sc-stopped" role="alert">${icon("stop")}<div><h2>Everything is stopped</h2>${state.paused.reason && html`<p class="sc-reasoned">${state.paused.reason}</p>`}<p>Stopped <time datetime="${state.paused.since}" title="${dateTime(state.paused.since)}">${ago(state.paused.since)}</time>. No task runs and nothing is posted.</p></div><button type="button" class="btn btn-large" data-action="resume" data-needs="publish">${icon("play")}Go on</button></div>`
        : halted.length
          ? html`<ul class="sc-halted">${halted.map((id) => html`<li data-key="halt-${id}">${icon("pause")}<p><strong>${session.find(id)?.name ?? id}</strong> is stopped. ${state.characters[id]?.reason ?? ""}</p><button type="button" class="btn btn-small" data-action="resume" data-needs="publish" data-id="${id}">Go on</button></li>`)}</ul>`
          : html``,
    );
    const file = state?.file;
    render(
      $("#sc-file"),
      file && (!file.ok || file.skipped > 0)
        ? html`<p class="sc-filefault" role="note">${icon("alert")}<span><strong>scheduler.json</strong> ${file.detail ?? `${plural(file.skipped, "entry", "entries")} of it cannot be read and stay as they are.`}</span></p>`
        : html``,
    );
    const next = list
      ?.filter((t) => t.active && !t.problem && !stopped(t) && t.nextRun)
      .sort((a, b) => a.nextRun.localeCompare(b.nextRun))[0];
    render(
      $("#sc-head"),
      html`<div class="sc-clock"><p>${icon("clock")}<span>Times in <strong>${zone()}</strong>, this browser's zone</span></p><p class="small muted">${list ? html`${plural(active, "active task")}${next && html`, next <span data-until="${next.nextRun}">${Date.parse(next.nextRun) > Date.now() ? until(next.nextRun) : "due now"}</span>`}` : ""}${runner && !runner.owner && html` · <span class="sc-warn">No process runs the schedule</span>`}${runner?.owner && runner.thisProcess === false && html` · run by another process`}</p></div>
      <span class="spacer"></span>
      ${!state?.paused && html`<button type="button" class="btn sc-stopbtn" data-action="pause" data-needs="publish">${icon("stop")}<span>Stop everything</span></button>`}
      <button type="button" class="btn" popovertarget="sc-chars" aria-haspopup="menu">${icon("characters")}<span>Stop one</span></button>
      <div id="sc-chars" popover class="popover menu" role="menu" aria-label="Stop one character" data-align="end">${session.known.map((c) => html`<button type="button" role="menuitemcheckbox" aria-checked="${String(Boolean(state?.characters?.[c.id]))}" data-action="${state?.characters?.[c.id] ? "resume" : "pause"}" data-id="${c.id}">${avatar(c, "s")}<span>${c.name}</span>${state?.characters?.[c.id] ? html`<span class="badge badge-warn">${icon("pause")}Stopped</span>` : ""}</button>`)}${!session.known.length && html`<p class="menu-note">There is no character yet.</p>`}</div>
      <button type="button" class="btn" data-action="run-all" data-needs="publish" ${attrs({ disabled: !active || Boolean(state?.paused) })}>${icon("play")}<span>Run all</span></button>
      <button type="button" class="btn btn-primary" data-action="new" data-needs="publish" title="New (n)">${icon("plus")}New task</button>`,
    );
    bar.tabs = [
      { key: "tasks", label: "Tasks", icon: "calendar", count: list ? number(list.length) : null, controls: "sc-panel-tasks" },
      { key: "runs", label: "Run history", icon: "history", controls: "sc-panel-runs" },
    ];
  }

  function paintTasks() {
    const f = filter();
    if (error && !list) {
      render(panel, errorState(error, { title: "The schedule could not be loaded" }));
      return;
    }
    if (!list) {
      render(panel, skeleton("rows", 6));
      return;
    }
    if (!list.length) {
      render(panel, noTasks(session.known));
      return;
    }
    const items = choose(list, f);
    const option = (value, label, now) => html`<option ${attrs({ value, selected: value === now })}>${label}</option>`;
    render(
      panel,
      html`<div class="toolbar" role="search" aria-label="Filter the tasks"><div class="search-box">${icon("search")}<input type="search" data-search aria-label="Search tasks" placeholder="Search tasks" value="${f.q}" autocomplete="off"></div>
      <select aria-label="Character" data-filter="characterId">${option("", "All characters", f.characterId)}${session.known.map((c) => option(c.id, c.name, f.characterId))}</select>
      <select aria-label="Type" data-filter="type">${option("", "All types", f.type)}${Object.entries(TYPES).map(([key, t]) => option(key, t.label, f.type))}</select>
      <select aria-label="State" data-filter="state">${STATES.map(([key, label]) => option(key, label, f.state))}</select>
      <span class="spacer"></span><select aria-label="Sort by" data-filter="sort">${SORTS.map(([key, label]) => option(key, label, f.sort || "next"))}</select></div>
      <p class="visually-hidden" role="status">${plural(items.length, "task")}</p>
      ${items.length ? html`<ul class="sc-tasks">${items.slice(0, shown).map((t) => taskRow(t, { zone: zone(), stopped }))}</ul>` : emptyState({ icon: "search", title: "Nothing fits", text: "No task fits these words and filters.", action: { label: "Clear filters", action: "clear" } })}
      ${items.length > shown && html`<p class="row"><button type="button" class="btn" data-action="more-tasks">Show more</button><span class="small muted">${number(shown)} of ${number(items.length)}</span></p>`}`,
    );
    panel.querySelectorAll("[data-toggle]").forEach((el) => {
      el.checked = Boolean(find(el.dataset.toggle)?.active);
    });
    panel.querySelectorAll("[data-filter]").forEach((el) => {
      if (el !== document.activeElement) el.value = f[el.dataset.filter] || (el.dataset.filter === "sort" ? "next" : "");
    });
  }
  function paint() {
    paintHead();
    bar.value = tab();
    panel.hidden = tab() !== "tasks";
    $("#sc-panel-runs").hidden = tab() !== "runs";
    if (tab() === "tasks") paintTasks();
    else runs.paint();
  }

  // ------------------------------------------------------------ loading
  let turn = 0;
  async function load() {
    const mine = (turn += 1);
    const [tasks, now] = await Promise.allSettled([api.get("/api/scheduler"), api.get("/api/scheduler/state")]);
    if (mine !== turn) return;
    if (tasks.status === "fulfilled") {
      list = tasks.value;
      error = null;
    } else {
      error = tasks.reason;
      if (list) toast.error(error);
    }
    if (now.status === "fulfilled") state = now.value;
    paint();
  }
  const soon = debounce(load, 300);

  // ------------------------------------------------------------ dialogs in the address
  async function showEditor(id, task = null) {
    if (opened) return;
    opened = `edit:${id}`;
    url.set({ edit: id });
    const saved = await editTask({
      id: id === "new" ? null : id,
      task: id === "new" ? task : null,
      trainer: Boolean(state?.types?.find((t) => t.name === "train_lora")?.available),
    });
    opened = "";
    url.set({ edit: null, type: id === "new" && task?.fromAddress ? null : url.get("type") });
    if (saved) await load();
  }
  async function showRun(id) {
    if (opened) return;
    opened = `run:${id}`;
    url.set({ run: id });
    await openRun(id, {
      zone,
      retry: again,
      cancel: (run, el) => busy(el, () => api.post(`/api/scheduler/runs/${encodeURIComponent(run)}/cancel`).catch(toast.error)),
    });
    opened = "";
    url.set({ run: null });
  }
  async function again(id, el) {
    return busy(el, async () => {
      try {
        const answer = await api.get(`/api/scheduler/runs/${encodeURIComponent(id)}`);
        const task = find(answer.taskId);
        // a new run may publish: the same question as for Run now
        if (task && posts(task)) return (await runNow(task, { dryRun: answer.dryRun })) !== null;
        await api.post(`/api/scheduler/runs/${encodeURIComponent(id)}/retry`);
        toast.success("It runs again");
        runs.load();
        return true;
      } catch (problem) {
        toast.error(problem);
        return false;
      }
    });
  }
  const fresh = () => ({ characterId: session.characterId || (session.known.length === 1 ? session.known[0].id : null) });

  // ------------------------------------------------------------ what people do
  bar.addEventListener("tab-bar:change", ({ detail }) => {
    url.set(
      { tab: detail.key === "tasks" ? null : detail.key, q: null, type: null, state: null, sort: null, task: null, status: null },
      { push: true },
    );
    paint();
    if (detail.key === "runs") runs.fresh();
  });
  const search = debounce((q) => {
    url.set({ q });
    paintTasks();
  }, 120);
  panel.addEventListener("input", (event) => {
    if (event.target.matches("[data-search]")) search(event.target.value);
  });
  panel.addEventListener("change", async (event) => {
    const { filter: name, toggle } = event.target.dataset;
    if (name) {
      url.set({ [name]: event.target.value === "next" ? null : event.target.value });
      shown = SHOWN;
      paintTasks();
    }
    if (!toggle) return;
    const task = find(toggle);
    const active = event.target.checked;
    Object.assign(task, { active });
    paintTasks();
    try {
      await api.post("/api/scheduler", { action: "toggle_task", id: toggle, active });
      await load();
      toast.success(active ? `“${taskName(task)}” is on` : `“${taskName(task)}” is off`);
    } catch (problem) {
      Object.assign(task, { active: !active });
      paintTasks();
      toast.error(problem);
    }
  });
  const started = (done) => {
    if (done) soon();
  };
  const put = (changes) => async () => {
    await changes();
    await load();
  };
  onAction(root, {
    retry: () => {
      error = null;
      paint();
      load();
    },
    new: () => showEditor("new", fresh()),
    edit: (_e, el) => showEditor(el.dataset.id),
    duplicate: (_e, el) => {
      const task = find(el.dataset.id);
      showEditor("new", { ...stored(task), name: `${taskName(task)} (copy)`, unsaved: true });
    },
    run: (_e, el) => busy(el, async () => started(await runNow(find(el.dataset.id)))),
    "run-dry": async (_e, el) => started(await runNow(find(el.dataset.id), { dryRun: true })),
    curl: (_e, el) => copyCurl({ method: "POST", path: `/api/scheduler/tasks/${encodeURIComponent(el.dataset.id)}/run`, body: {} }),
    "run-all": (_e, el) => busy(el, async () => started(await runNow(null))),
    pause: async (_e, el) => started(await pause(el.dataset.id ?? null)),
    resume: (_e, el) => busy(el, async () => started(await resume(el.dataset.id ?? null))),
    history: (_e, el) => {
      url.set({ tab: "runs", task: el.dataset.id, q: null, type: null, state: null, sort: null }, { push: true });
      paint();
      runs.fresh();
    },
    last: async (_e, el) => {
      const task = find(el.dataset.id);
      const id = task.lastRunId ?? task.lastRun?.id;
      if (id) return showRun(id);
      try {
        const answer = await api.get("/api/scheduler/runs", { query: { taskId: task.id, limit: 1 } });
        if (answer.items[0]) showRun(answer.items[0].id);
      } catch (problem) {
        toast.error(problem);
      }
      return undefined;
    },
    skip: async (_e, el) => {
      const task = find(el.dataset.id);
      const slot = task.nextRun;
      const send = (skip) => api.post(`/api/scheduler/tasks/${encodeURIComponent(task.id)}/skip`, { slot, skip });
      try {
        await send(true);
        await load();
        toast.success(`The run of ${local(slot, zone())} is left out`, { undo: put(() => send(false).catch(toast.error)) });
      } catch (problem) {
        toast.error(problem);
      }
    },
    unskip: async (_e, el) => {
      try {
        await api.post(`/api/scheduler/tasks/${encodeURIComponent(el.dataset.id)}/skip`, { slot: el.dataset.slot, skip: false });
        await load();
        toast.success("It runs at that time again");
      } catch (problem) {
        toast.error(problem);
      }
    },
    remove: async (_e, el) => {
      if (await removeTask(find(el.dataset.id), { restored: load })) load();
    },
    clear: () => {
      url.set({ q: null, characterId: null, type: null, state: null });
      paintTasks();
      const box = panel.querySelector("[data-search]");
      if (box) box.value = "";
    },
    "more-tasks": () => {
      shown += SHOWN;
      paintTasks();
    },
  });
  addEventListener("popstate", () => {
    paint();
    if (tab() === "runs") runs.fresh();
  });
  document.addEventListener("session:characters", () => list && paint());
  ["schedule.updated", "character.updated", "settings.changed"].forEach((type) => stream.on(type, soon));
  stream.on("run.updated", soon);
  let wasDown = false;
  stream.on("state", (live) => {
    if (live === "live" && wasDown) {
      load();
      if (tab() === "runs") runs.load();
    }
    wasDown = live === "down";
  });
  setInterval(() => {
    const now = Date.now();
    let due = false;
    root.querySelectorAll("[data-until]").forEach((el) => {
      if (el.closest("cron-field")) return;
      const text = Date.parse(el.dataset.until) > now ? until(el.dataset.until, now) : "due now";
      if (el.textContent !== text) el.textContent = text;
      due ||= Date.parse(el.dataset.until) < now - 2000;
    });
    if (due && now % 10_000 < 1000) soon(); // the next one is known by now, even when the event was missed
  }, 1000);
  registerKeys("Schedule", [
    { keys: "n", label: "New task", run: () => showEditor("new", fresh()) },
    {
      keys: "shift+p",
      label: "Stop everything / go on",
      run: async () => started(await (state?.paused ? resume(null) : pause(null))),
    },
  ]);

  paint();
  session.characters().catch(() => {});
  await Promise.all([load(), tab() === "runs" ? runs.load() : null]);
  const { edit, run, type, characterId } = url.all();
  if (edit === "new")
    showEditor("new", { ...fresh(), ...(characterId ? { characterId } : {}), ...(TYPES[type] ? { type, fromAddress: true } : {}) });
  else if (edit) showEditor(edit);
  else if (run) showRun(run);
}
