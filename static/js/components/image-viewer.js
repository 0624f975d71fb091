/**
 * Full-screen viewer: zoom, pan, ←/→, `i` info, `.` star, Del, Esc.
 * `open(items, index, {total, more})`: `more(index)` → Promise<items> is asked when the end, or a place that is not loaded, comes near (its list replaces the old).
 * Property `actions` [{key, label, icon}] adds buttons; `stars = false` takes the star away. `details(item)` → markup replaces the built-in info panel.
 * `patch(id, changes)`, `remove(id)`, `close()`, `current`.
 * Emits image-viewer:change {item, index}, :star {item, starred}, :delete {item}, :action {key, item}, :close.
 */
import { attrs, html, icon } from "../html.js";
import { emit, render } from "../dom.js";
import { bytes, dateTime, number } from "../format.js";
import { prefs } from "../prefs.js";
import { altOf, fileUrl, thumbUrl } from "./media-grid.js";

class ImageViewer extends HTMLElement {
  ownsContent = true;
  actions = [];
  details = null;
  stars = true;
  #items = [];
  #i = 0;
  #total = 0;
  #more = null;
  #zoom = 1;
  #x = 0;
  #y = 0;
  #dialog = null;
  #body = null;
  #drag = null;
  #asking = false;

  get current() {
    return this.#items[this.#i];
  }
  get isOpen() {
    return Boolean(this.#dialog?.open);
  }

  open(items, index = 0, { total, more } = {}) {
    this.#items = items;
    this.#i = index;
    this.#total = total ?? items.length;
    this.#more = more ?? null;
    if (!this.#dialog) this.#build();
    this.#reset();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#render();
    this.#dialog.querySelector(".viewer-stage").focus();
    emit(this, "image-viewer:change", { item: this.current, index });
  }
  close() {
    this.#dialog?.close();
  }
  patch(id, changes) {
    this.#items = this.#items.map((item) => (item?.id === id ? { ...item, ...changes } : item));
    if (this.isOpen) this.#render();
  }
  remove(id) {
    const at = this.#items.findIndex((item) => item?.id === id);
    if (at < 0) return;
    this.#items = this.#items.filter((item) => item?.id !== id);
    this.#total -= 1;
    if (!this.#items.length) {
      this.close();
      return;
    }
    if (at < this.#i || this.#i >= this.#items.length) this.#i = Math.max(0, this.#i - 1);
    this.#reset();
    this.#render();
    emit(this, "image-viewer:change", { item: this.current, index: this.#i });
  }

  #build() {
    this.#dialog = document.createElement("dialog");
    this.#dialog.className = "viewer";
    this.#dialog.setAttribute("aria-label", "Picture viewer");
    this.#body = document.createElement("div"); // the dialog itself may get guests (messages)
    this.#body.className = "viewer-body";
    this.#dialog.append(this.#body);
    this.append(this.#dialog);
    this.#dialog.addEventListener("close", () => emit(this, "image-viewer:close"));
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#dialog.addEventListener("click", (event) => {
      const what = event.target.closest("[data-do]")?.dataset;
      if (what) this.#do(what.do, what.id);
    });
    this.#dialog.addEventListener(
      "wheel",
      (event) => {
        if (!event.target.closest(".viewer-stage") || this.current?.type === "video") return;
        event.preventDefault();
        const box = this.#dialog.querySelector(".viewer-stage").getBoundingClientRect();
        this.#zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
      },
      { passive: false },
    );
    this.#dialog.addEventListener("dblclick", (event) => {
      if (event.target.closest(".viewer-stage img")) this.#do("zoom-toggle");
    });
    this.#dialog.addEventListener("pointerdown", (event) => {
      const stage = event.target.closest(".viewer-stage");
      if (!stage || event.target.closest("button, video") || event.button !== 0) return;
      this.#drag = { x: event.clientX, y: event.clientY, fromX: this.#x, fromY: this.#y };
      stage.setPointerCapture(event.pointerId);
    });
    this.#dialog.addEventListener("pointermove", (event) => {
      if (!this.#drag || this.#zoom <= 1) return;
      this.#x = this.#drag.fromX + event.clientX - this.#drag.x;
      this.#y = this.#drag.fromY + event.clientY - this.#drag.y;
      this.#place();
    });
    this.#dialog.addEventListener("pointerup", (event) => {
      const d = this.#drag;
      this.#drag = null;
      if (d && this.#zoom <= 1 && event.pointerType === "touch" && Math.abs(event.clientX - d.x) > 60)
        this.#go(event.clientX < d.x ? 1 : -1);
    });
  }

  #reset() {
    this.#zoom = 1;
    this.#x = 0;
    this.#y = 0;
  }
  #zoomBy(factor, px = 0, py = 0) {
    const next = Math.min(16, Math.max(1, this.#zoom * factor));
    const k = next / this.#zoom;
    this.#x = next === 1 ? 0 : px - (px - this.#x) * k;
    this.#y = next === 1 ? 0 : py - (py - this.#y) * k;
    this.#zoom = next;
    this.#place();
  }
  #place() {
    const img = this.#dialog.querySelector(".viewer-stage img");
    img?.style.setProperty("transform", `translate(${this.#x}px, ${this.#y}px) scale(${this.#zoom})`);
    this.#dialog.querySelector(".viewer-stage")?.classList.toggle("is-zoomed", this.#zoom > 1);
    const out = this.#dialog.querySelector(".viewer-zoom");
    if (out) out.textContent = this.#zoom === 1 ? "Fit" : `${Math.round(this.#zoom * 100)} %`; // of the fitted size
  }

  async #go(step) {
    const next = this.#i + step;
    if (next < 0) return;
    let to = next;
    const gap = [0, 1, 2, 3, 4, 5].map((k) => next + k * step).find((i) => i >= 0 && i < this.#total && !this.#items[i]);
    if (this.#more && !this.#asking && gap !== undefined) {
      this.#asking = true;
      const id = this.current?.id;
      const ask = this.#more(gap)
        .then((items) => {
          if (!items) return;
          const at = items.findIndex((item) => item?.id === id); // the list may have grown at its beginning
          if (at >= 0 && this.current?.id === id) {
            to = at + step;
            this.#i = at;
          }
          this.#items = items;
        })
        .catch(() => {})
        .finally(() => {
          this.#asking = false;
          if (this.isOpen) this.#render();
        });
      if (!this.#items[next]) await ask;
    }
    if (!this.#items[to]) return;
    this.#i = to;
    this.#reset();
    this.#render();
    emit(this, "image-viewer:change", { item: this.current, index: to });
  }

  #key(event) {
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const what = {
      ArrowLeft: "prev",
      ArrowRight: "next",
      i: "info",
      ".": "star",
      Delete: "delete",
      "+": "zoom-in",
      "=": "zoom-in",
      "-": "zoom-out",
      0: "fit",
    }[event.key];
    if (what) {
      event.preventDefault();
      event.stopPropagation();
      this.#do(what);
      return;
    }
    const action = this.actions.find((a) => a.shortcut === event.key);
    if (action) {
      event.preventDefault();
      this.#do("action", action.key);
    }
  }

  #do(what, id) {
    const item = this.current;
    if (what === "prev") this.#go(-1);
    else if (what === "next") this.#go(1);
    else if (what === "close") this.close();
    else if (what === "info") {
      prefs.set("viewerInfo", !prefs.get("viewerInfo", false));
      this.#render();
    } else if (what === "star" && this.stars) emit(this, "image-viewer:star", { item, starred: !item.starred });
    else if (what === "delete") emit(this, "image-viewer:delete", { item });
    else if (what === "zoom-in") this.#zoomBy(1.4);
    else if (what === "zoom-out") this.#zoomBy(1 / 1.4);
    else if (what === "fit") {
      this.#reset();
      this.#place();
    } else if (what === "zoom-toggle") {
      if (this.#zoom > 1) {
        this.#reset();
        this.#place();
      } else this.#zoomBy(2.5);
    } else if (what === "action") emit(this, "image-viewer:action", { key: id, item });
  }

  #render() {
    const item = this.current;
    if (!item) return;
    const info = prefs.get("viewerInfo", false);
    const button = (name, label, glyph, extra = {}) =>
      html`<button type="button" class="icon-btn" data-do="${name}" aria-label="${label}" title="${label}" ${attrs(extra)}>${icon(glyph)}</button>`;
    render(
      this.#body,
      html`<header class="viewer-bar"><span class="viewer-count" role="status">${number(this.#i + 1)} / ${number(this.#total)}</span><span class="spacer"></span>
        ${this.actions.map((a) => html`<button type="button" class="btn btn-ghost" data-do="action" data-id="${a.key}" title="${a.label}" aria-label="${a.label}">${icon(a.icon)}<span class="viewer-label">${a.label}</span></button>`)}
        ${this.stars && button("star", item.starred ? "Remove star (.)" : "Star (.)", item.starred ? "star-filled" : "star", { "aria-pressed": String(Boolean(item.starred)) })}${button("info", "Details (i)", "info", { "aria-pressed": String(info) })}
        <a class="icon-btn" href="${fileUrl(item)}" download aria-label="Download" title="Download">${icon("download")}</a>${button("delete", "Move to trash (Del)", "trash")}${button("close", "Close (Esc)", "x")}</header>
      <div class="viewer-main ${info ? "has-info" : ""}"><div class="viewer-stage" tabindex="-1" data-key="stage-${item.id}">
          ${item.type === "video" ? html`<video src="${fileUrl(item)}" poster="${thumbUrl(item)}" controls loop playsinline aria-label="${altOf(item)}"></video>` : html`<img src="${fileUrl(item)}" alt="${altOf(item)}" draggable="false">`}</div>
        ${this.#i > 0 && html`<button type="button" class="viewer-nav is-prev" data-do="prev" aria-label="Previous">${icon("chevron-left")}</button>`}
        ${this.#i < this.#total - 1 && html`<button type="button" class="viewer-nav is-next" data-do="next" aria-label="Next">${icon("chevron-right")}</button>`}
        <div class="viewer-tools">${button("zoom-out", "Zoom out (-)", "zoom-out")}<span class="viewer-zoom">Fit</span>${button("zoom-in", "Zoom in (+)", "zoom-in")}${button("fit", "Fit (0)", "fit")}</div>
        ${info && html`<aside class="viewer-info" aria-label="Details" tabindex="0">${this.details ? this.details(item) : infoPanel(item)}</aside>`}</div>`,
    );
    this.#place();
    if (this.isOpen && document.activeElement === document.body) this.#dialog.querySelector(".viewer-stage").focus(); // the old stage took the focus with it
    for (const near of [this.#items[this.#i + 1], this.#items[this.#i - 1]])
      if (near && near.type !== "video") new Image().src = fileUrl(near);
  }
}
customElements.define("image-viewer", ImageViewer);

/** What is known about a picture, as a definition list. */
export function infoPanel(item) {
  const r = item.recipe ?? {};
  const rows = [
    ["Made", dateTime(item.createdAt)],
    ["Size", item.width ? `${item.width} × ${item.height}` : null],
    ["File", item.sizeBytes ? bytes(item.sizeBytes) : null],
    ["Model", item.model],
    ["LoRAs", (r.loras ?? []).map((l) => `${l.name} ${l.strength}`).join(", ") || (item.loras ?? []).join(", ")],
    ["Seed", r.seed],
    ["Steps", r.steps],
    ["CFG", r.cfgScale],
    ["Guidance", r.guidance],
    ["Sampler", [r.sampler, r.scheduler].filter(Boolean).join(" / ")],
    ["Engine", item.engine],
    ["Character", r.characterName],
  ];
  return html`<h2>Details</h2>${item.prompt && html`<section><h3>Prompt</h3><p class="prompt-text">${item.prompt}</p></section>`}${item.negativePrompt && html`<section><h3>Negative</h3><p class="prompt-text">${item.negativePrompt}</p></section>`}${item.caption && html`<section><h3>Caption</h3><p class="prompt-text">${item.caption}</p></section>`}
    <dl class="facts">${rows.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`;
}
