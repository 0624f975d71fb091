/**
 * The bell of the top bar: how much is unread, and in its popover what happened, newest first.
 * Property `data` {items, unread, total, nextCursor, problem?}: what the server has (GET /api/notifications); messages of this
 * browser (notices.js) are mixed in by time.
 * Emits notification-centre:open, notification-centre:read {ids?} (none: all), notification-centre:more.
 */
import { attrs, html, icon } from "../html.js";
import { emit, onAction, render } from "../dom.js";
import { ago, dateTime, plural } from "../format.js";
import { notices } from "../notices.js";
import { errorState } from "./states.js";

const LOOKS = { error: ["error", "Error"], warning: ["alert", "Warning"], success: ["ok", "Success"], info: ["info", "Note"] };

/** Both lists as one, newest first. @param {any[]} items @param {any[]} kept @returns {any[]} */
export function merged(items, kept) {
  const server = items.map((n) => ({
    key: n.id,
    id: n.id,
    level: n.level,
    title: n.title,
    detail: n.detail,
    href: n.href,
    action: n.action,
    at: n.createdAt,
    unread: !n.readAt,
  }));
  const local = kept.map((n) => ({
    key: n.id,
    id: "",
    level: n.kind,
    title: n.text,
    detail: n.detail,
    href: n.href,
    action: "",
    at: n.at,
    unread: !n.read && n.kind !== "success",
  }));
  return [...server, ...local].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
}

class NotificationCentre extends HTMLElement {
  ownsContent = true;
  #ready = false;
  #data = { items: [], unread: 0, total: 0, nextCursor: null, problem: null };

  set data(v) {
    this.#data = { ...this.#data, ...v };
    this.#render();
  }
  get data() {
    return this.#data;
  }

  connectedCallback() {
    if (this.#ready) return;
    this.#ready = true; // not an attribute: the shell's next render would take it away
    onAction(this, {
      "notices-read": () => {
        notices.markRead();
        emit(this, "notification-centre:read", {});
      },
      "notices-clear": () => notices.clear(),
      "notices-more": () => emit(this, "notification-centre:more"),
      "notices-retry": () => emit(this, "notification-centre:open"),
      notice: (_e, el) => el.dataset.id && emit(this, "notification-centre:read", { ids: [el.dataset.id] }),
    });
    this.addEventListener(
      "toggle",
      (event) => {
        if (event.newState === "open") emit(this, "notification-centre:open");
      },
      true,
    );
    document.addEventListener("notices:changed", () => this.#render());
    this.#render();
  }

  #render() {
    if (!this.#ready) return;
    const { items, unread, nextCursor, problem } = this.#data;
    const kept = notices.all();
    const list = merged(items, kept);
    const count = unread + notices.unread();
    const label = count ? `Notifications, ${count} unread` : "Notifications";
    render(
      this,
      html`<button type="button" class="icon-btn bell" popovertarget="shell-notices" aria-label="${label}" title="Notifications">${icon("bell")}${count > 0 && html`<span class="bell-count" aria-hidden="true">${count > 99 ? "99+" : count}</span>`}</button>
      <div id="shell-notices" popover class="popover panel-pop" role="dialog" aria-label="Notifications" data-align="end"><header class="pop-head"><h2>Notifications</h2><span class="row">${count > 0 && html`<button type="button" class="btn btn-ghost btn-small" data-action="notices-read">Mark all read</button>`}${kept.length > 0 && html`<button type="button" class="btn btn-ghost btn-small" data-action="notices-clear" title="Forget the messages of this browser">Clear messages</button>`}</span></header>
        ${problem && errorState(problem, { title: "The notifications could not be loaded", action: "notices-retry", compact: true })}
        ${list.length ? html`<ul class="bell-list" tabindex="0" aria-label="${plural(list.length, "notification")}">${list.map(item)}${nextCursor && html`<li data-key="more"><button type="button" class="btn btn-ghost btn-small btn-block" data-action="notices-more">Show older ones</button></li>`}</ul>` : !problem && html`<p class="pop-empty">Nothing new. What fails or needs you shows up here.</p>`}
        <span class="visually-hidden" role="status">${count ? plural(count, "unread notification") : ""}</span></div>`,
    );
  }
}

function item(n) {
  const [glyph, word] = LOOKS[n.level] ?? LOOKS.info;
  const link = (text) => html`<a href="${n.href}" data-action="notice" ${attrs({ "data-id": n.id || undefined })}>${text}</a>`;
  return html`<li class="bell-item is-${n.level} ${n.unread ? "is-unread" : ""}" data-key="${n.key}">${icon(glyph, word)}<div><p class="bell-title">${n.href && !n.action ? link(n.title) : n.title}${n.unread && html`<span class="visually-hidden"> (unread)</span>`}</p>${n.detail && html`<p class="small muted">${n.detail}</p>`}
    <p class="bell-facts"><time title="${dateTime(n.at)}">${ago(n.at)}</time>${n.href && n.action && link(n.action)}</p></div></li>`;
}

customElements.define("notification-centre", NotificationCentre);
