/** Settings: every setting with its source, lock and test; storage, backups, accounts. A section per address `?section=…`. */
import { html, icon } from "../html.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { openDialog } from "../components/confirm-dialog.js";
import { errorState, skeleton } from "../components/states.js";
import { aboutSection } from "./settings/about.js";
import { accountSection } from "./settings/account.js";
import { backupSection } from "./settings/backup.js";
import { EXTRA_PANELS } from "./settings/extras.js";
import { settingsForm } from "./settings/form.js";
import { SECTIONS } from "./settings/layout.js";
import { search, sectionOf } from "./settings/model.js";
import { restartApp, restartBanner } from "./settings/restart.js";
import { securitySection } from "./settings/security.js";
import { settingsStore } from "./settings/store.js";
import { storageSection } from "./settings/storage.js";

const FIRST = "general";
/** Sections that are more than a form; each mounts itself. */
const MODULES = new Map([storageSection(), backupSection(), accountSection(), securitySection(), aboutSection()].map((s) => [s.id, s]));
const NEEDS = (id) => MODULES.get(id)?.needs;

export async function mount(main) {
  let current = "",
    form = null,
    stop = new AbortController(),
    staged = null,
    dirty = false,
    found = [],
    at = 0;
  const store = settingsStore({
    changed: () => {
      paintNav();
      paintBanner();
      form?.refresh();
      if ($("[data-find]").value) look(); // typed before the settings were here
      main.dispatchEvent(new Event("settings:known"));
    },
  });
  const context = {
    store,
    restart: () => restartApp(store),
    setStaged: (value) => {
      staged = value;
      paintBanner();
    },
  };
  render(
    main,
    html`<div class="se"><aside class="se-side"><div class="se-find"><div class="search-box" role="combobox" aria-expanded="false" aria-haspopup="listbox" aria-owns="se-found">${icon("search")}<input type="search" data-search data-find aria-label="Search the settings" aria-controls="se-found" aria-autocomplete="list" placeholder="Search settings" autocomplete="off" spellcheck="false"></div><div class="se-found" id="se-found" role="listbox" aria-label="Found settings" hidden></div></div><nav class="se-nav" aria-label="Sections"></nav></aside>
      <div class="se-main"><div class="se-top"></div><header class="se-head"></header><div class="se-body"></div></div></div>`,
  );
  const $ = (s) => main.querySelector(s);
  const wide = matchMedia("(min-width: 900px)");
  const allowed = (id) => !NEEDS(id) || session.can(NEEDS(id));
  const sections = () => SECTIONS.filter((s) => allowed(s.id));

  function paintNav() {
    const waits = new Set(store.pending.map((name) => sectionOf(name, store.settings)));
    render(
      $(".se-nav"),
      html`<ul>${sections().map((s) => html`<li><a href="/settings.html?section=${s.id}" data-go="${s.id}" ${s.id === current ? html`aria-current="page"` : ""}>${icon(s.icon)}<span class="se-nav-label">${s.label}<span class="se-nav-text">${s.text}</span></span>${s.id === current && dirty ? html`<span class="se-dot is-dirty" title="Unsaved changes"></span>` : waits.has(s.id) ? html`<span class="se-dot" title="Waits for a restart"></span>` : ""}<span class="se-chevron">${icon("chevron-right")}</span></a></li>`)}</ul>`,
    );
  }
  const paintBanner = () => render($(".se-top"), restartBanner(store, current === "backup" ? null : staged)); // that section says it itself

  /** Show a section. `name` is a setting to go to. */
  function show(id, name = "") {
    stop.abort();
    stop = new AbortController();
    form = null;
    dirty = false;
    current = id;
    main.querySelector(".se").classList.toggle("is-list", !id);
    paintNav();
    paintBanner();
    const body = $(".se-body");
    const section = SECTIONS.find((s) => s.id === id);
    if (!section) {
      render($(".se-head"), "");
      render(body, "");
      return;
    }
    render(
      $(".se-head"),
      html`<a class="icon-btn se-back" href="/settings.html" data-go="" aria-label="All settings">${icon("chevron-left")}</a><div><h2>${section.label}</h2><p class="muted small">${section.text}</p></div>${!store.mayChange && section.panels && html`<p class="se-note">${icon("eye")}<span>Only an administrator can change settings.</span></p>`}`,
    );
    const signal = stop.signal;
    body.replaceChildren();
    const slot = () => body.appendChild(Object.assign(document.createElement("div"), { className: "se-slot" }));
    const extra = EXTRA_PANELS[id] ?? {};
    extra.before?.(slot(), { signal });
    const module = MODULES.get(id);
    const mounted = module ? module.mount(slot(), { signal, ...context }) : undefined;
    if (section.panels) {
      form = settingsForm(slot(), id, store, {
        signal,
        onDirty: (now) => {
          if (signal.aborted || now === dirty) return;
          dirty = now;
          paintNav();
        },
      });
    }
    extra.after?.(slot(), { signal });
    if (name) Promise.resolve(mounted).then(() => !signal.aborted && point(name));
    else scrollTo({ top: 0 });
  }

  /** Bring a setting into view and let it shine for a moment. */
  function point(name) {
    const row = document.getElementById(name);
    if (!row) return;
    row.closest("details")?.setAttribute("open", "");
    row.scrollIntoView({ block: "center" });
    row.classList.add("is-pointed");
    row.querySelector("input:not(:disabled), select:not(:disabled), textarea:not(:disabled), button:not(:disabled)")?.focus({ preventScroll: true });
    setTimeout(() => row.classList.remove("is-pointed"), 2500);
  }

  /** May the section be left? Asks when something is unsaved. */
  async function mayLeave() {
    if (!form?.dirty) return true;
    const { closed } = openDialog({
      title: "Save your changes?",
      size: "s",
      body: html`<p>This section has unsaved changes.</p>`,
      footer: html`<button type="button" class="btn" data-close="" autofocus>Keep editing</button><span class="spacer"></span><button type="button" class="btn" data-close="discard">Discard</button><button type="button" class="btn btn-primary" data-primary data-close="save">Save</button>`,
    });
    const answer = await closed;
    if (answer === "save") return form.save();
    if (answer === "discard") form.discard();
    return answer === "discard";
  }

  async function go(id, name = "", { push = true } = {}) {
    if (id === current) {
      if (name) point(name);
      return;
    }
    if (!(await mayLeave())) {
      if (!push) history.pushState(null, "", address(current));
      return;
    }
    if (push) history.pushState(null, "", address(id, name));
    show(id, name);
    if (!name) $(".se-head h2")?.focus?.();
  }
  const address = (id, name = "") => `/settings.html${id ? `?section=${id}` : ""}${name ? `#${name}` : ""}`;
  /** The section the address means: by `?section`, by `#setting`, else the first (a phone shows the list). */
  function wanted() {
    const name = location.hash.slice(1);
    const asked = url.get("section") ?? "";
    const id = SECTIONS.some((s) => s.id === asked) && allowed(asked) ? asked : sectionOf(name, store.settings);
    if (asked && !allowed(asked)) toast.info("Only an administrator can open this section");
    return [id || (wide.matches ? FIRST : ""), name];
  }

  // ---------- search
  function paintFound() {
    const open = found.length > 0 || Boolean($("[data-find]").value.trim());
    $(".se-find [role=combobox]").setAttribute("aria-expanded", String(open));
    $("[data-find]").setAttribute("aria-activedescendant", open && found[at] ? `se-hit-${at}` : "");
    $(".se-found").hidden = !open;
    render(
      $(".se-found"),
      found.length
        ? html`${found.slice(0, 12).map((hit, i) => html`<div role="option" class="se-hit" id="se-hit-${i}" data-action="hit" data-index="${i}" aria-selected="${String(i === at)}"><strong>${hit.label}</strong><span class="small muted">${hit.sectionLabel}</span></div>`)}`
        : html`<p class="muted small se-none">Nothing is called that.</p>`,
    );
  }
  const look = () => {
    found = search($("[data-find]").value, store.settings).filter((hit) => allowed(hit.section));
    at = 0;
    paintFound();
  };
  async function take(hit) {
    $("[data-find]").value = "";
    look();
    $("[data-find]").blur();
    if (hit) await go(hit.section, hit.name);
  }

  onAction(main, {
    restart: (_e, el) => busy(el, () => restartApp(store)),
    hit: (_e, el) => take(found[Number(el.dataset.index)]),
    "settings-retry": () => begin(),
  });
  main.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-go], a[href^='/settings.html']");
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const to = new URL(link.href);
    const name = to.hash.slice(1);
    go(to.searchParams.get("section") ?? (name ? sectionOf(name, store.settings) : wide.matches ? FIRST : ""), name);
  });
  main.addEventListener("input", debounce((event) => event.target.matches("[data-find]") && look(), 80));
  main.addEventListener("keydown", (event) => {
    if (!event.target.matches("[data-find]")) return;
    const last = Math.min(found.length, 12) - 1;
    if (event.key === "ArrowDown") at = Math.min(last, at + 1);
    else if (event.key === "ArrowUp") at = Math.max(0, at - 1);
    else if (event.key === "Enter") {
      look();
      take(found[at]);
      return;
    } else if (event.key === "Escape") {
      take(null);
      return;
    } else return;
    event.preventDefault();
    paintFound();
    $(`#se-hit-${at}`)?.scrollIntoView({ block: "nearest" });
  });
  addEventListener("popstate", () => {
    const [id, name] = wanted();
    go(id, name, { push: false });
  });
  stream.on("settings.changed", debounce(() => store.load().catch(() => {}), 200));
  registerKeys("Settings", [
    { keys: "j", label: "Next section", run: () => step(1) },
    { keys: "k", label: "Previous section", run: () => step(-1) },
    { keys: "mod+enter", label: "Save" },
  ]);
  const step = (by) => {
    const list = sections();
    const next = list[list.findIndex((s) => s.id === current) + by];
    if (next) go(next.id);
  };

  async function begin() {
    render($(".se-body"), skeleton("form", 6));
    try {
      await Promise.all([store.load(), session.me()]);
    } catch (error) {
      render($(".se-body"), errorState(error, { title: "The settings could not be loaded", action: "settings-retry" }));
      return;
    }
    show(...wanted());
  }
  await begin();
}
