/**
 * Monitoring: what works, what does not and what helps; the machine; the background tasks; the log.
 * What is said about the components is what GET /api/system/status says, nothing else.
 */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, onAction, render, url } from "../dom.js";
import { ago, dateTime, words } from "../format.js";
import { cancel, retry, stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { errorState, skeleton } from "../components/states.js";
import { SPANS, charts, span as spanText } from "./monitoring/charts.js";
import { componentRow, componentsOf } from "./monitoring/components.js";
import { engineActions, enginePanel } from "./monitoring/engine.js";
import { failuresSection } from "./monitoring/failures.js";
import { logsSection } from "./monitoring/logs.js";
import { queueSection } from "./monitoring/queue.js";
import { openTask } from "./monitoring/task-dialog.js";
import { tasksSection } from "./monitoring/tasks.js";

const EVERY = 10_000;
const TABS = ["overview", "tasks", "logs"];
const OVERALL = {
  ok: ["good", "ok", "Everything works"],
  degraded: ["warn", "alert", "Something needs attention"],
  error: ["bad", "error", "Something important does not work"],
};

/** Which tab an address means: links name a task state, a request or a search, not always the tab. */
function tabOf(query) {
  if (TABS.includes(query.tab)) return query.tab;
  if (query.requestId || query.taskId || query.level || query.q) return "logs";
  return query.status ? "tasks" : "overview";
}

export async function mount(main) {
  let status = null,
    problem = null,
    live = [],
    spanName = "2m",
    long = [],
    longAt = 0,
    settings = new Map(),
    test = null,
    editing = location.hash === "#engine",
    timer = 0,
    tab = tabOf(url.all()),
    state = url.get("status") ?? "";
  render(
    main,
    html`<div class="mo stack-4"><div class="mo-head"></div><tab-bar class="mo-tabs" aria-label="Monitoring"></tab-bar>
      <div id="mo-overview" class="stack-5" role="tabpanel" aria-labelledby="tab-overview" hidden><section class="stack-2" aria-label="The machine"><div class="row mo-span"></div><div class="mo-charts"></div></section><div class="mo-failed-now"></div><div class="mo-components"></div></div>
      <div id="mo-tasks" class="stack-5" role="tabpanel" aria-labelledby="tab-tasks" hidden><div class="mo-now stack-5"></div><section class="panel mo-tasks" aria-label="Tasks"></section></div>
      <div id="mo-logs" role="tabpanel" aria-labelledby="tab-logs" hidden></div></div>`,
  );
  const $ = (s) => main.querySelector(s);
  const bar = $("tab-bar");

  function paintHead() {
    const [tone, glyph, title] = OVERALL[status?.status] ?? ["neutral", "circle", "Checking…"];
    const wrong = componentsOf(status)
      .filter(([, c]) => c.status === "error")
      .map(([n, c]) => c.label ?? words(n));
    render(
      $(".mo-head"),
      html`<div class="page-head mo-overall"><span class="mo-light badge-${tone}">${icon(glyph)}</span><div class="mo-title"><h2 role="status">${title}</h2><p class="small muted">${status ? html`${wrong.length > 0 && html`${wrong.join(", ")} · `}Checked ${ago(status.checkedAt)} · version ${status.version} · running since ${dateTime(status.startedAt)}` : html`&nbsp;`}${problem && status && html` · <span class="mo-stale">not reachable now</span>`}</p></div><span class="spacer"></span>
      <a class="btn btn-ghost" href="/api/system/status" target="_blank" rel="noopener">${icon("external")}JSON</a><a class="btn btn-ghost" href="/metrics" target="_blank" rel="noopener">${icon("external")}Metrics</a><button type="button" class="btn" data-action="check">${icon("refresh")}Check now</button></div>`,
    );
  }
  function paintTabs() {
    const list = [
      { key: "overview", label: "Overview", icon: "monitoring", controls: "mo-overview" },
      { key: "tasks", label: "Tasks", icon: "tasks", controls: "mo-tasks", count: queue.held || null },
    ];
    if (session.can("admin")) list.push({ key: "logs", label: "Log", icon: "list", controls: "mo-logs" });
    bar.tabs = list;
    bar.value = tab;
    for (const name of TABS) $(`#mo-${name}`).hidden = name !== tab;
    if (tab === "logs") logs.show();
    else logs.hide();
  }
  function paintComponents() {
    const list = componentsOf(status);
    const editor = (name) => name === "comfyui" && settings.size > 0 && session.can("admin") && { open: editing, view: enginePanel(settings, { test }) };
    render(
      $(".mo-components"),
      problem && !status
        ? errorState(problem, { title: "The state could not be read" })
        : html`<section class="panel"><header class="panel-head"><h2>Components</h2></header>${status ? html`<ul class="mo-list">${list.map((one) => componentRow(one, { accounts: status.accounts ?? [], editor: editor(one[0]) }))}</ul>` : skeleton("rows", 6)}</section>`,
    );
  }
  const samples = () => (spanName === "2m" ? live : [...long, ...live.slice(-1).filter((s) => s.at > (long.at(-1)?.at ?? ""))]);
  const paintCharts = () => {
    if (document.visibilityState !== "visible" || tab !== "overview") return;
    render(
      $(".mo-span"),
      html`<div class="segmented" role="group" aria-label="Span of the charts">${Object.entries(SPANS).map(([name, s]) => html`<button type="button" data-action="span" data-value="${name}" aria-pressed="${String(name === spanName)}">${s.label}</button>`)}</div><span class="small muted">${spanText(samples())}</span>`,
    );
    render($(".mo-charts"), charts(samples(), spanName));
  };
  async function loadSpan() {
    longAt = Date.now();
    const wanted = spanName;
    try {
      const answer = await api.get("/api/system/samples", { query: { span: wanted } });
      if (wanted !== spanName) return;
      if (wanted === "2m") {
        const known = new Set(answer.samples.map((s) => s.at));
        live = [...answer.samples, ...live.filter((s) => !known.has(s.at))].slice(-60);
      } else long = answer.samples;
    } catch (error) {
      if (wanted !== "2m") toast.error(error);
    }
    paintCharts();
  }
  const tasks = tasksSection($(".mo-tasks"), { state: () => state, counts: () => status?.tasks ?? {}, changed: () => check() });
  const queue = queueSection($(".mo-now"), { lanes: () => status?.worker?.lanes ?? [], changed: () => paintTabs() });
  const failures = failuresSection($(".mo-failed-now"));
  const logs = logsSection($("#mo-logs"), { visible: () => tab === "logs" });

  async function check(fresh = false) {
    clearTimeout(timer);
    try {
      status = await api.get("/api/system/status", { query: { fresh: fresh || null } });
      problem = null;
    } catch (error) {
      problem = error;
      if (fresh) toast.error(error);
    }
    paintHead();
    paintComponents();
    tasks.paint();
    queue.paint();
    if (spanName !== "2m" && Date.now() - longAt > Math.min(60, SPANS[spanName].every) * 1000) loadSpan();
    clearTimeout(timer);
    schedule();
  }
  const schedule = () => {
    timer = setTimeout(() => (document.visibilityState === "visible" ? check() : schedule()), EVERY);
  };
  const setSettings = (items) => {
    settings = new Map(items.map((s) => [s.name, s]));
    paintComponents();
  };
  const engine = engineActions({
    settings: () => settings,
    set: setSettings,
    tested: (t) => {
      test = t;
      paintComponents();
    },
    changed: () => check(true),
  });

  let open = "";
  async function showTask(id, { push = true } = {}) {
    if (open) return;
    open = id;
    if (push) url.set({ task: id }, { push: true });
    await openTask(id, {
      cancel: (one, el) => busy(el, () => cancel(one).catch(toast.error)),
      retry: (one, el) => busy(el, () => retry(one).catch(toast.error)),
    });
    open = "";
    if (url.get("task") === id) {
      if (push) history.back();
      else url.set({ task: null });
    }
  }
  const setState = (next) => {
    state = next;
    tasks.paint();
    tasks.load();
  };
  const setTab = (next) => {
    tab = next;
    paintTabs();
    paintCharts();
  };

  onAction(main, {
    ...tasks.handlers,
    ...queue.handlers,
    ...logs.handlers,
    ...engine,
    address: () => {
      editing = !editing;
      test = null;
      paintComponents();
      if (editing) $("#mo-url")?.focus();
    },
    span: (_e, el) => {
      if (el.dataset.value === spanName) return;
      spanName = el.dataset.value;
      long = [];
      paintCharts();
      loadSpan();
    },
    retry: () => check(true),
    check: (_e, el) => busy(el, () => check(true)),
    state: (_e, el) => {
      if (el.dataset.value === state) return;
      url.set({ status: el.dataset.value }, { push: true });
      setState(el.dataset.value);
    },
    task: (_e, el) => showTask(el.dataset.id),
    "all-failed": () => {
      url.set({ tab: "tasks", status: "failed" }, { push: true });
      setState("failed");
      setTab("tasks");
    },
  });
  bar.addEventListener("tab-bar:change", ({ detail }) => {
    // The filters of one tab mean nothing in the other.
    url.set({ tab: detail.key === "overview" ? null : detail.key, status: null, level: null, q: null, requestId: null, taskId: null }, { push: true });
    if (state) setState("");
    if (detail.key !== "logs") logs.sync();
    setTab(detail.key);
  });
  main.addEventListener("submit", (event) => {
    event.preventDefault();
    engine.submit(event.target);
  });
  main.addEventListener("data-table:open", ({ detail }) => detail.row && showTask(detail.row.taskId));
  addEventListener("popstate", () => {
    const next = url.get("status") ?? "";
    if (next !== state) setState(next);
    logs.sync();
    setTab(tabOf(url.all()));
    const id = url.get("task");
    if (!id) document.querySelector("dialog[open] .mo-task")?.closest("dialog").close();
    else showTask(id, { push: false });
  });
  stream.on("system.sample", (sample) => {
    if (live.at(-1)?.at === sample.at) return;
    live = [...live, sample].slice(-60);
    paintCharts();
  });
  document.addEventListener("session:me", () => {
    paintTabs();
    paintComponents();
    failures.paint();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") {
      paintCharts();
      check();
    }
  });
  registerKeys("Monitoring", [{ keys: "r", label: "Check now", run: () => main.querySelector("[data-action=check]")?.click() }]);

  paintHead();
  paintTabs();
  paintComponents();
  paintCharts();
  tasks.paint();
  queue.paint();
  await Promise.all([
    check(),
    tasks.load(),
    queue.load(),
    failures.load(),
    loadSpan(),
    api
      .get("/api/settings")
      .then((answer) => setSettings(answer.items))
      .catch(() => {}),
  ]);
  if (url.get("task")) showTask(url.get("task"), { push: false });
  if (editing) $(".mo-editor")?.scrollIntoView({ block: "center" });
}
