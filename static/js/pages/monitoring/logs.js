/** The log: level, search, what one request or task wrote; followed live; older entries on demand. */
import { api, isAbort, withQuery } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, debounce, render, url } from "../../dom.js";
import { date, dateTime } from "../../format.js";
import { prefs } from "../../prefs.js";
import { toast } from "../../notices.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";
import { LEVELS, appended, filtersOf, logLine, plain, prepended, queryOf } from "./log-lines.js";

const EVERY = 2000;
const PAGE = 100;
/** A search that found nothing goes on by itself so many times; then it asks. */
const TRIES = 6;

/** @param {HTMLElement} root @param {{visible: () => boolean}} page */
export function logsSection(root, page) {
  let filters = filtersOf(url.all()),
    items = [],
    older = null,
    newest = null,
    problem = null,
    loaded = false,
    asking = null,
    timer = 0,
    searched = "",
    follow = prefs.get("followLog", true);
  render(
    root,
    html`<section class="panel ml" aria-label="Log"><div class="toolbar ml-bar"><div class="segmented ml-levels" role="group" aria-label="Level"></div>
      <label class="search-box">${icon("search")}<span class="visually-hidden">Search the log</span><input type="search" data-search name="log-q" placeholder="Search the log" autocomplete="off" maxlength="200"></label>
      <label class="check"><input type="checkbox" role="switch" class="switch" data-follow><span>Follow</span></label><span class="spacer"></span>
      <a class="btn" href="/api/logs/bundle" download title="Log, state and versions as a zip, without secrets">${icon("download")}Report for support</a></div>
      <div class="row ml-chips"></div><div class="ml-state"></div><ol class="ml-list" aria-label="Entries, newest first"></ol><div class="mo-more ml-more"></div></section>`,
  );
  const $ = (s) => root.querySelector(s);
  const box = $("[data-search]");
  box.value = filters.q;
  $("[data-follow]").checked = follow;

  function paint() {
    const one = filters.requestId || filters.taskId;
    render(
      $(".ml-levels"),
      html`${LEVELS.map(([level, label]) => html`<button type="button" data-action="log-level" data-value="${level}" ${attrs({ "aria-pressed": String(!one && filters.level === level), disabled: Boolean(one) })}>${label}</button>`)}`,
    );
    const chip = (what, label, value) =>
      value && html`<button type="button" class="chip" data-action="log-clear" data-what="${what}" aria-label="Remove: ${label} ${value}" aria-pressed="true">${label} <code>${value}</code>${icon("x")}</button>`;
    render(
      $(".ml-chips"),
      html`${chip("requestId", "Request", filters.requestId)}${chip("taskId", "Task", filters.taskId)}${filters.taskId && html`<button type="button" class="btn btn-small" data-action="task" data-id="${filters.taskId}">${icon("tasks")}Open this task</button>`}`,
    );
    let day = date(new Date());
    render(
      $(".ml-list"),
      html`${items.map((i) => {
        const line = logLine(i, filters, day);
        day = date(i.at);
        return line;
      })}`,
    );
    $(".ml-list").hidden = !items.length;
    $(".ml-bar").hidden = problem?.status === 403;
    render($(".ml-state"), state());
    render(
      $(".ml-more"),
      older
        ? html`<button type="button" class="btn" data-action="log-older">${items.length ? "Load older" : "Search further back"}</button>${searched && html`<span class="small muted">Read back to ${searched}</span>`}`
        : html``,
    );
  }
  function state() {
    if (problem && !items.length)
      return problem.status === 403
        ? emptyState({ icon: "lock", title: "Only an administrator can read the log", text: "It names addresses and files of this computer.", compact: true })
        : errorState(problem, { title: "The log could not be read", action: "log-retry", compact: true });
    if (!loaded) return skeleton("lines", 8);
    if (items.length) return html``;
    const filtered = filters.q || filters.requestId || filters.taskId || filters.level !== "DEBUG";
    return emptyState({
      icon: "list",
      title: filtered ? "Nothing in the log fits" : "The log is empty",
      text: filtered ? "Try another level or fewer words." : "",
      action: filtered ? { label: "Show everything", action: "log-reset" } : undefined,
      compact: true,
    });
  }

  async function ask(query) {
    asking?.abort();
    asking = new AbortController();
    return api.get("/api/logs", { query: { ...queryOf(filters), ...query }, signal: asking.signal });
  }
  /** Read from the end, or go on towards older entries. */
  async function load({ more = false } = {}) {
    clearTimeout(timer);
    if (!more) {
      loaded = false;
      older = null;
      items = [];
      searched = "";
      paint();
    }
    try {
      for (let n = 0; n < TRIES; n += 1) {
        const answer = await ask({ limit: PAGE, before: older });
        if (!more && n === 0) newest = answer.newest;
        items = appended(items, answer.items);
        older = answer.nextCursor;
        if (answer.items.length || !older) break;
      }
      problem = null;
      loaded = true;
      searched = older && items.length ? dateTime(items.at(-1).at) : "";
    } catch (error) {
      if (isAbort(error)) return;
      problem = error;
      loaded = true;
      if (items.length) toast.error(error);
    }
    paint();
    schedule();
  }
  /** Ask for what came since; a gap too large to close begins anew. */
  async function tail() {
    try {
      const answer = newest ? await ask({ limit: 500, after: newest }) : await ask({ limit: PAGE });
      if (newest && !answer.complete) items = [];
      if (newest && !answer.complete) older = null;
      newest = answer.newest ?? newest;
      if (answer.items.length) {
        items = prepended(items, answer.items);
        paint();
      }
      problem = null;
    } catch (error) {
      if (isAbort(error)) return;
      problem = error;
    }
    schedule();
  }
  function schedule() {
    clearTimeout(timer);
    if (follow && loaded && page.visible() && document.visibilityState === "visible") timer = setTimeout(tail, EVERY);
  }
  function change(next, { push = true } = {}) {
    filters = { ...filters, ...next };
    if (box.value !== filters.q) box.value = filters.q;
    url.set(
      { tab: "logs", level: filters.level === "INFO" ? null : filters.level, q: filters.q, requestId: filters.requestId, taskId: filters.taskId },
      { push },
    );
    load();
  }
  const typed = debounce(() => change({ q: box.value.trim() }, { push: false }), 300);
  box.addEventListener("input", typed);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") typed.flush();
  });
  $("[data-follow]").addEventListener("change", (event) => {
    follow = event.target.checked;
    prefs.set("followLog", follow);
    schedule();
  });
  document.addEventListener("visibilitychange", schedule);

  return {
    /** The tab is shown: read, or go on following. */
    show() {
      if (loaded) schedule();
      else load();
    },
    hide: () => clearTimeout(timer),
    /** The address changed (Back, a link). */
    sync() {
      const next = filtersOf(url.all());
      if (JSON.stringify(next) === JSON.stringify(filters)) return;
      filters = next;
      box.value = filters.q;
      loaded = false;
    },
    /** Address of the tab with these filters. */
    href: (query) => withQuery("/monitoring.html", { tab: "logs", ...query }),
    handlers: {
      "log-level": (_e, el) => change({ level: el.dataset.value }),
      "log-request": (_e, el) => change({ requestId: el.dataset.id === filters.requestId ? "" : el.dataset.id, taskId: "", q: "" }),
      "log-clear": (_e, el) => change({ [el.dataset.what]: "" }),
      "log-reset": () => change({ level: "DEBUG", q: "", requestId: "", taskId: "" }),
      "log-older": (_e, el) => busy(el, () => load({ more: true })),
      "log-retry": () => load(),
      "log-copy": (_e, el) => {
        const entry = items.find((i) => i.id === el.dataset.id);
        if (entry) copyText(plain(entry), "Entry copied");
      },
    },
  };
}
