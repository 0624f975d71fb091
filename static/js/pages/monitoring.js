/** Monitoring: what works, what does not and what helps; the machine; the background tasks. Shows what GET /api/system/status says. */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, onAction, render, url } from "../dom.js";
import { ago, bytes, dateTime, number, words } from "../format.js";
import { cancel, retry, stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { errorState, skeleton } from "../components/states.js";
import { statusBadge } from "../components/status-badge.js";
import { charts, span } from "./monitoring/charts.js";
import { engineActions, enginePanel } from "./monitoring/engine.js";
import { openTask } from "./monitoring/task-dialog.js";
import { tasksSection } from "./monitoring/tasks.js";

const EVERY = 10_000;
const LABELS = {
  comfyui: ["ComfyUI", "studio"],
  builtin: ["Built-in engine", "cpu"],
  database: ["Data", "layers"],
  scheduler: ["Clock", "clock"],
  worker: ["Worker", "tasks"],
  disk: ["Disk", "disk"],
  gpu: ["GPU", "gpu"],
  instagram: ["Instagram", "account"],
  twitter: ["X", "account"],
  gemini: ["Gemini", "edit"],
};
const FIX = {
  instagram: ["/characters.html", "Open characters"],
  twitter: ["/characters.html", "Open characters"],
  disk: ["/gallery.html?trashed=true", "Open the trash"],
};
const OVERALL = {
  ok: ["good", "ok", "Everything works"],
  degraded: ["warn", "alert", "Something needs attention"],
  error: ["bad", "error", "Something important does not work"],
};
const SAID = new Set(["status", "detail", "remedy", "since", "lastError", "latencyMs", "label"]);

const value = (name, v) =>
  /bytes$/i.test(name)
    ? bytes(v)
    : typeof v === "number"
      ? number(v, 2)
      : /At$|Tick$/.test(name) && typeof v === "string"
        ? dateTime(v)
        : typeof v === "boolean"
          ? v
            ? "Yes"
            : "No"
          : v;
/** Everything else a component says, flat: the page hides nothing the JSON has. */
function extras(component, prefix = "") {
  return Object.entries(component)
    .filter(([k, v]) => (prefix || !SAID.has(k)) && v !== null && v !== "" && !(Array.isArray(v) && !v.length))
    .flatMap(([k, v]) => {
      const name = words(k);
      if (Array.isArray(v)) return [[prefix + name, v.map((x) => (typeof x === "object" ? JSON.stringify(x) : x)).join("; ")]];
      return typeof v === "object"
        ? extras(v, k === "info" || k === "files" ? prefix : `${prefix}${name}: `)
        : [[prefix + name, value(k, v)]];
    });
}

function component([name, c], editor) {
  const [label, glyph] = LABELS[name] ?? [words(name), "circle"];
  const more = extras(c),
    fix = c.status !== "ok" && FIX[name];
  return html`<li class="mo-row is-${c.status}" data-key="${name}"><span class="mo-icon">${icon(glyph)}</span>
    <div class="mo-what"><h3>${label}</h3><p>${c.detail}</p>${c.status !== "ok" && c.remedy && html`<p class="small muted">${c.remedy}</p>`}
      ${c.lastError && c.lastError.detail !== (c.status === "error" ? c.detail : "") && html`<p class="small muted">Last error ${ago(c.lastError.at)}: ${c.lastError.detail}</p>`}
      ${more.length > 0 && html`<details><summary class="small">More</summary><dl class="facts small">${more.map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl></details>`}</div>
    <div class="mo-facts">${statusBadge(c.status, { ok: "Working", off: "Off", error: "Error" }[c.status])}<span class="small muted" title="${dateTime(c.since)}">since ${ago(c.since).replace("just now", "a moment ago")}</span>${c.latencyMs !== undefined && html`<span class="small muted">${number(c.latencyMs)} ms</span>`}${fix && html`<a class="small" href="${fix[0]}">${fix[1]}</a>`}${editor && html`<button type="button" class="btn btn-small" data-action="address" aria-expanded="${String(editor.open)}">${icon("edit")}Address</button>`}</div>${editor?.open && html`<div class="mo-editor">${editor.view}</div>`}</li>`;
}

export async function mount(main) {
  let status = null,
    problem = null,
    samples = [],
    settings = new Map(),
    test = null,
    editing = location.hash === "#engine",
    timer = 0,
    state = url.get("status") ?? "";
  render(
    main,
    html`<div class="mo stack-5"><div class="mo-head"></div><div class="mo-charts" aria-label="Last two minutes"></div><section class="panel mo-tasks" aria-label="Tasks"></section><div class="mo-components"></div></div>`,
  );
  const $ = (s) => main.querySelector(s);

  function paintHead() {
    const [tone, glyph, title] = OVERALL[status?.status] ?? ["neutral", "circle", "Checking…"];
    const wrong = status
      ? Object.entries(status)
          .filter(([, c]) => c?.status === "error")
          .map(([n]) => LABELS[n]?.[0] ?? words(n))
      : [];
    render(
      $(".mo-head"),
      html`<div class="page-head mo-overall"><span class="mo-light badge-${tone}">${icon(glyph)}</span><div class="mo-title"><h2 role="status">${title}</h2><p class="small muted">${status ? html`${wrong.length > 0 && html`${wrong.join(", ")} · `}Checked ${ago(status.checkedAt)} · version ${status.version} · running since ${dateTime(status.startedAt)}` : html`&nbsp;`}${problem && status && html` · <span class="mo-stale">not reachable now</span>`}</p></div><span class="spacer"></span>
      <a class="btn btn-ghost" href="/api/system/status" target="_blank" rel="noopener">${icon("external")}JSON</a><a class="btn btn-ghost" href="/api/docs">${icon("book")}API</a><button type="button" class="btn" data-action="check">${icon("refresh")}Check now</button></div>`,
    );
  }
  function paintComponents() {
    const list = status ? Object.entries(status).filter(([k, c]) => k !== "tasks" && c && typeof c === "object" && c.status) : [];
    render(
      $(".mo-components"),
      problem && !status
        ? errorState(problem, { title: "The state could not be read" })
        : html`<section class="panel"><header class="panel-head"><h2>Components</h2></header>${status ? html`<ul class="mo-list">${list.map((one) => component(one, one[0] === "comfyui" && settings.size > 0 && { open: editing, view: enginePanel(settings, { test }) }))}</ul>` : skeleton("rows", 6)}</section>`,
    );
  }
  const paintCharts = () => {
    if (document.visibilityState === "visible") {
      render($(".mo-charts"), charts(samples));
      $(".mo-charts").title = span(samples);
    }
  };
  const tasks = tasksSection($(".mo-tasks"), { state: () => state, counts: () => status?.tasks ?? {}, changed: () => check() });

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
    clearTimeout(timer);
    timer = setTimeout(() => (document.visibilityState === "visible" ? check() : schedule()), EVERY);
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

  onAction(main, {
    ...tasks.handlers,
    ...engine,
    address: () => {
      editing = !editing;
      test = null;
      paintComponents();
      if (editing) $("#mo-url")?.focus();
    },
    retry: () => check(true),
    check: (_e, el) => busy(el, () => check(true)),
    state: (_e, el) => {
      if (el.dataset.value === state) return;
      url.set({ status: el.dataset.value }, { push: true });
      setState(el.dataset.value);
    },
    task: (_e, el) => showTask(el.dataset.id),
  });
  main.addEventListener("submit", (event) => {
    event.preventDefault();
    engine.submit(event.target);
  });
  main.addEventListener("data-table:open", ({ detail }) => detail.row && showTask(detail.row.taskId));
  addEventListener("popstate", () => {
    const next = url.get("status") ?? "";
    if (next !== state) setState(next);
    const id = url.get("task");
    if (!id) document.querySelector("dialog[open] .mo-task")?.closest("dialog").close();
    else showTask(id, { push: false });
  });
  stream.on("system.sample", (sample) => {
    if (samples.at(-1)?.at === sample.at) return;
    samples = [...samples, sample].slice(-60);
    paintCharts();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") {
      paintCharts();
      check();
    }
  });
  registerKeys("Monitoring", [{ keys: "r", label: "Check now", run: () => main.querySelector("[data-action=check]")?.click() }]);

  paintHead();
  paintComponents();
  paintCharts();
  tasks.paint();
  await Promise.all([
    check(),
    tasks.load(),
    api
      .get("/api/system/samples")
      .then((answer) => {
        const known = new Set(answer.samples.map((s) => s.at));
        samples = [...answer.samples, ...samples.filter((s) => !known.has(s.at))].slice(-60);
        paintCharts();
      })
      .catch(() => {}),
    api
      .get("/api/settings")
      .then((answer) => setSettings(answer.items))
      .catch(() => {}),
  ]);
  if (url.get("task")) showTask(url.get("task"), { push: false });
  if (editing) $(".mo-editor")?.scrollIntoView({ block: "center" });
}
