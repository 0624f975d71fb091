/**
 * The frame of every page: skip link, navigation, top bar (title, character switcher, search, tasks, notices, theme), banners.
 * Properties: `pages` (nav.js), `page`, `pageTitle` (defaults to the page's label), `tasks` {active, recent}, `characters` {list, currentId},
 * `live` ("connecting"|"live"|"down"), `user` (null without accounts), `signedOut`, `banner(key, {tone, text, action?, onClose?}|null)`.
 * Emits app-shell:character {id}, app-shell:theme {theme}, app-shell:tray, app-shell:help, app-shell:sign-in, app-shell:sign-out.
 */
import { attrs, html, icon, raw } from "../html.js";
import { roleLabel } from "../access.js";
import { emit, onAction, render } from "../dom.js";
import { plural } from "../format.js";
import { prefs } from "../prefs.js";
import { movable, overall, taskId } from "../tasks.js";
import { avatar } from "./avatar.js";

const MARK = raw(
  '<svg class="mark" viewBox="0 0 24 24" aria-hidden="true"><g fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"><path d="M7.6 20.5h8.3c1.5-2 1.9-4.2 1-6.2-.8-1.8-2.6-2.6-2.9-4.3H9.5c-.3 1.7-2.1 2.5-2.9 4.3-.9 2-.5 4.2 1 6.2Z"/><path d="M9.5 10c.2-2.2 1-3.5 2.25-4.3C13 6.5 13.8 7.8 14 10M11.75 5.5V3.4M16.8 14.1c2.7-.6 4.2-3 4.2-7.1-1.8 2.4-3.9 3.6-6.5 4M6.6 14.3C3.7 13.7 2.5 10.7 3.8 7.7c1.6-.4 3.7.1 5.7 1.8"/></g></svg>',
);
const THEMES = [
  ["light", "Light", "sun"],
  ["dark", "Dark", "moon"],
  ["system", "System", "system"],
];

class AppShell extends HTMLElement {
  ownsContent = true;
  #state = {
    pages: [],
    page: "",
    title: "",
    tasks: { active: [], recent: [] },
    characters: { list: [], currentId: "" },
    live: "connecting",
    user: null,
    signedOut: false,
    banners: new Map(),
  };

  set pages(v) {
    this.#state.pages = v;
    this.#render();
  }
  set page(v) {
    this.#state.page = v;
    this.#render();
  }
  set pageTitle(v) {
    this.#state.title = v;
    document.title = `${v} · Digital Dalla`;
    this.#render();
  }
  set tasks(v) {
    this.#state.tasks = v;
    this.#renderTray();
  }
  set characters(v) {
    this.#state.characters = v;
    this.#render();
  }
  set live(v) {
    this.#state.live = v;
    clearTimeout(this.downTimer);
    if (v === "down")
      this.downTimer = setTimeout(
        () => this.banner("live", { tone: "warn", icon: "wifi-off", text: "Live updates paused, retrying…" }),
        1500,
      ); // a short hiccup is no news
    else this.banner("live", null);
  }
  set user(v) {
    this.#state.user = v;
    this.#render();
  }
  /** The page stays as it is: signing in happens in a dialog over it. */
  set signedOut(v) {
    if (v === this.#state.signedOut) return;
    this.#state.signedOut = v;
    this.banner(
      "session",
      v
        ? {
            tone: "bad",
            icon: "lock",
            text: "Your session has ended. What you typed is still here.",
            action: { label: "Sign in", run: () => emit(this, "app-shell:sign-in") },
          }
        : null,
    );
  }
  get signedOut() {
    return this.#state.signedOut;
  }
  /**
   * @param {string} key
   * @param {{tone?: "info"|"warn"|"bad", icon?: string, text: string, action?: {label: string, href?: string, run?: () => void}, onClose?: () => void}|null} content
   * null removes it; with `onClose` it can be closed
   */
  banner(key, content) {
    if (content) this.#state.banners.set(key, content);
    else if (!this.#state.banners.delete(key)) return;
    this.#renderBanners();
  }
  focusSearch() {
    const input = this.querySelector("#shell-search");
    if (input.checkVisibility()) {
      input.focus();
      input.select();
    } else location.href = "/gallery.html?focus=search";
  }

  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    onAction(this, {
      character: (_e, el) => emit(this, "app-shell:character", { id: el.dataset.id }),
      theme: (_e, el) => {
        emit(this, "app-shell:theme", { theme: el.dataset.id });
        this.#render();
      },
      help: () => emit(this, "app-shell:help"),
      "sign-out": () => emit(this, "app-shell:sign-out"),
      "banner-run": (_e, el) => this.#state.banners.get(el.dataset.id)?.action.run(),
      "banner-close": (_e, el) => {
        this.#state.banners.get(el.dataset.id)?.onClose();
        this.banner(el.dataset.id, null);
      },
    });
    this.addEventListener(
      "toggle",
      (event) => {
        if (event.newState !== "open") return;
        if (event.target.id === "shell-tray") emit(this, "app-shell:tray");
      },
      true,
    );
    this.addEventListener("submit", (event) => {
      event.preventDefault();
      const q = new FormData(event.target).get("q").trim();
      location.href = `/gallery.html${q ? `?q=${encodeURIComponent(q)}` : ""}`;
    });
  }

  #render() {
    const { pages, page, characters, title, user } = this.#state;
    if (!pages.length) return;
    const heading = title || pages.find((p) => p.page === page)?.label || "Digital Dalla";
    const current = characters.list.find((c) => c.id === characters.currentId);
    const theme = prefs.get("theme", "system");
    render(
      this,
      html`<a class="skip-link" href="#main">Skip to content</a>
      <nav class="nav" aria-label="Pages"><a class="brand" href="/" aria-label="Digital Dalla, home">${MARK}<span>Digital <b>Dalla</b></span></a>
        <ul class="nav-list">${pages.map((p) => html`<li class="${p.bar ? "" : "nav-rest"}"><a href="${p.href}" ${attrs({ "aria-current": p.page === page ? "page" : undefined })}>${icon(p.icon)}<span>${p.label}</span></a></li>`)}
          <li class="nav-more"><button type="button" popovertarget="shell-more" ${attrs({ "aria-haspopup": "menu", "aria-current": pages.some((p) => p.page === page && !p.bar) ? "true" : undefined })}>${icon("more")}<span>More</span></button></li></ul>
        <div id="shell-more" popover class="popover menu" role="menu" aria-label="More pages" data-align="end">${pages.filter((p) => !p.bar).map((p) => html`<a role="menuitem" href="${p.href}" ${attrs({ "aria-current": p.page === page ? "page" : undefined })}>${icon(p.icon)}<span>${p.label}</span></a>`)}</div>
        <button type="button" class="nav-help" data-action="help">${icon("keyboard")}<span>Shortcuts</span><kbd>?</kbd></button></nav>
      <header class="top"><h1 class="top-title">${heading}</h1>
        <form class="top-search" role="search">${icon("search")}<input id="shell-search" name="q" type="search" placeholder="Search the gallery" aria-label="Search the gallery" autocomplete="off"><kbd aria-hidden="true">/</kbd></form>
        <div class="top-tools">
          <button type="button" class="switcher" popovertarget="shell-characters" aria-label="${current?.name ?? "All characters"}, choose the character" ${attrs({ "aria-haspopup": "menu" })}>${current ? avatar(current, "s") : html`<span class="avatar avatar-s" aria-hidden="true">${icon("characters")}</span>`}<span class="switcher-name">${current?.name ?? "All characters"}</span>${icon("chevron-down")}</button>
          <div id="shell-characters" popover class="popover menu" role="menu" aria-label="Character" data-align="end">
            <button type="button" role="menuitemradio" data-action="character" data-id="" aria-checked="${String(!current)}"><span class="avatar avatar-s" aria-hidden="true">${icon("characters")}</span><span>All characters</span>${icon("check")}</button>
            ${characters.list.map((c) => html`<button type="button" role="menuitemradio" data-action="character" data-id="${c.id}" aria-checked="${String(c.id === current?.id)}">${avatar(c, "s")}<span>${c.name}</span>${icon("check")}</button>`)}
            ${characters.failed && html`<p class="menu-note">The characters could not be loaded.</p>`}
            <hr><a role="menuitem" href="/characters.html${characters.list.length ? "" : "?new=1"}">${icon(characters.list.length ? "settings" : "plus")}<span>${characters.list.length ? "Manage characters" : "Create a character"}</span></a></div>
          <span id="shell-tray-slot" class="tray-slot" data-key="tray"></span>
          <notification-centre data-key="notices"></notification-centre>
          <button type="button" class="icon-btn" popovertarget="shell-theme" aria-label="Theme: ${theme}" title="Theme" ${attrs({ "aria-haspopup": "menu" })}>${icon(THEMES.find(([id]) => id === theme)[2])}</button>
          <div id="shell-theme" popover class="popover menu" role="menu" aria-label="Theme" data-align="end">${THEMES.map(([id, label, name]) => html`<button type="button" role="menuitemradio" data-action="theme" data-id="${id}" aria-checked="${String(id === theme)}">${icon(name)}<span>${label}</span>${icon("check")}</button>`)}</div>
          ${user && this.#userMenu(user)}
        </div></header>
      <div class="banners" role="status" data-key="banners"></div>`,
    );
    this.querySelector(".tray-slot").ownsContent = true;
    this.querySelector(".banners").ownsContent = true;
    this.#renderTray();
    this.#renderBanners();
  }

  #userMenu(user) {
    const name = user.displayName || user.name;
    return html`<button type="button" class="user-btn" data-key="user" popovertarget="shell-user" aria-label="${name}, ${roleLabel(user.role)}: account" title="${name}" ${attrs({ "aria-haspopup": "menu" })}>${avatar({ id: user.id, name }, "s")}</button>
      <div id="shell-user" popover class="popover menu" role="menu" aria-label="Account" data-align="end"><div class="menu-who" role="presentation">${avatar({ id: user.id, name }, "m")}<div><strong>${name}</strong><span class="small muted">${roleLabel(user.role)}</span></div></div>
        <a role="menuitem" href="/settings.html?section=account">${icon("user")}<span>Account and security</span></a>
        ${user.role === "admin" && html`<a role="menuitem" href="/settings.html?section=security">${icon("characters")}<span>People</span></a>`}
        <hr><button type="button" role="menuitem" data-action="sign-out">${icon("log-out")}<span>Sign out</span></button></div>`;
  }

  #renderBanners() {
    const area = this.querySelector(".banners");
    if (!area) return;
    const button = (key, { action }) =>
      action.href
        ? html`<a class="btn btn-small" href="${action.href}">${action.label}</a>`
        : html`<button type="button" class="btn btn-small" data-action="banner-run" data-id="${key}">${action.label}</button>`;
    const shown = [...this.#state.banners.entries()].filter(([key]) => !(key === "live" && this.#state.signedOut)); // one cause, one banner
    render(
      area,
      html`${shown.map(([key, b]) => html`<div class="banner banner-${b.tone ?? "info"}" data-key="${key}">${icon(b.icon ?? (b.tone === "bad" ? "error" : b.tone === "warn" ? "alert" : "info"))}<p>${b.text}</p>${b.action && button(key, b)}${b.onClose && html`<button type="button" class="icon-btn" data-action="banner-close" data-id="${key}" aria-label="Close">${icon("x")}</button>`}</div>`)}`,
    );
  }

  #renderTray() {
    const slot = this.querySelector(".tray-slot");
    if (!slot) return;
    const { active, recent } = this.#state.tasks;
    const done = overall(active);
    const failed = recent.filter((t) => t.status === "failed").length;
    render(
      slot,
      html`<button type="button" class="tray-btn ${active.length ? "is-busy" : ""}" popovertarget="shell-tray" aria-label="${active.length ? `Tasks: ${active.length} active` : "Tasks"}" title="Tasks">${icon("tasks")}
        ${active.length > 0 && html`<span class="tray-count" aria-hidden="true">${active.length}</span><progress max="1" aria-hidden="true" ${attrs({ value: done })}></progress>`}</button>
      <div id="shell-tray" popover class="popover panel-pop" role="dialog" aria-label="Tasks" data-align="end"><header class="pop-head"><h2>Tasks</h2><span class="muted">${active.length ? plural(active.length, "task") + " active" : "Nothing is running"}</span></header>
        ${active.length > 0 && html`<ul class="tray-list">${active.slice(0, 30).map((t) => html`<li data-key="${taskId(t)}"><job-progress></job-progress></li>`)}</ul>`}
        ${recent.length > 0 ? html`<h3 class="pop-sub">Recent${failed > 0 && html` · ${failed} failed`}</h3><ul class="tray-list">${recent.slice(0, 10).map((t) => html`<li data-key="${taskId(t)}"><job-progress compact></job-progress></li>`)}</ul>` : active.length === 0 && html`<p class="pop-empty">Pictures, exports and other long work show their progress here, on every page.</p>`}</div>`,
    );
    const byId = new Map([...active, ...recent].map((t) => [taskId(t), t]));
    const later = movable(active);
    for (const li of slot.querySelectorAll("li[data-key]")) {
      li.firstElementChild.movable = later.has(li.dataset.key);
      li.firstElementChild.task = byId.get(li.dataset.key);
    }
  }
}
customElements.define("app-shell", AppShell);
