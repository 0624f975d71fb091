/**
 * Tabs (ARIA "tabs", automatic activation).
 * Properties: `tabs` [{key, label, icon?, count?, controls?}], `value`. Emits `tab-bar:change` {key}.
 * `controls` is the id of the role=tabpanel it shows.
 */
import { attrs, html, icon } from "../html.js";
import { emit, render } from "../dom.js";

class TabBar extends HTMLElement {
  ownsContent = true;
  #tabs = [];
  #value = "";
  set tabs(tabs) {
    this.#tabs = tabs;
    this.#value ||= tabs[0]?.key ?? "";
    this.#render();
  }
  get tabs() {
    return this.#tabs;
  }
  set value(value) {
    this.#value = value;
    this.#render();
  }
  get value() {
    return this.#value;
  }

  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    this.setAttribute("role", "tablist");
    this.addEventListener("click", (event) => {
      const tab = event.target.closest("[role=tab]");
      if (tab) this.#choose(tab.dataset.key);
    });
    this.addEventListener("keydown", (event) => {
      const now = this.#tabs.findIndex((t) => t.key === this.#value),
        n = this.#tabs.length;
      const to = { ArrowRight: (now + 1) % n, ArrowLeft: (now - 1 + n) % n, Home: 0, End: n - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.#choose(this.#tabs[to].key);
      this.querySelector("[aria-selected=true]")?.focus();
    });
  }

  #choose(key) {
    if (key === this.#value) return;
    if (!emit(this, "tab-bar:change", { key })) return; // preventDefault keeps the old one
    this.value = key;
    this.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #render() {
    render(
      this,
      html`${this.#tabs.map((t) => html`<button type="button" role="tab" data-key="${t.key}" id="tab-${t.key}" ${attrs({ "aria-selected": String(t.key === this.#value), tabindex: t.key === this.#value ? 0 : -1, "aria-controls": t.controls })}>${t.icon && icon(t.icon)}<span>${t.label}</span>${t.count !== undefined && t.count !== null && html`<span class="count">${t.count}</span>`}</button>`)}`,
    );
  }
}
customElements.define("tab-bar", TabBar);
