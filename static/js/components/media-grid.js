/**
 * A windowed grid of pictures: any number of items, only the visible rows in the DOM.
 *
 * Properties
 *   loadPage(cursor, limit) → Promise<{items, nextCursor, total}>; set it, then call `reload()`
 *   loadRange(offset, limit, first) → Promise<{items, total}>: instead of loadPage, for long lists: only what is looked at is
 *              loaded, so a jump into the middle costs one request. `first` is the item at place 0: answer the list as it is from there
 *   size       cell width in px (the real one fills the row), default 180
 *   fit        "cover" | "contain"
 *   label      accessible name
 *   clickMode  "open" (default; clicks select once something is selected) | "select" (double click opens)
 *   emptyView  markup for an empty list
 *   badges     (item) → [{icon, label, text?}] shown at the bottom of a cell, added to length and "Posted"
 *   stars      false: no star on the cells (and no `.` key)
 *   overlay    (item) → markup laid over the picture, which it must not cover from the pointer
 *   below      (item, index) → markup under the picture, `extra` px high: what is inside keeps its own clicks and keys
 *   extra      px under each picture, default 0
 *   dragType   a MIME type: cells can then be dragged, the data is the JSON list of ids (the selection when it is part of it)
 *   items (with loadRange: undefined where nothing is loaded yet), total, selection (Set of ids; assign an iterable to change), allLoaded
 * Methods
 *   reload(), prepend(item), patch(id, changes), remove(ids) → removed items with their places, restore(removed),
 *   find(id) → item, selectAll(), clearSelection(), focusItem(id), more() (loads the next page),
 *   ensure(from, to?) (with loadRange: loads these places), refresh() (paints again),
 *   again() (with loadRange: loads what is in view again in place, the rest when it is looked at; the selection stays)
 * Events (bubbling)
 *   media-grid:open {item, index}   media-grid:select {ids, total}   media-grid:star {item, starred}
 *   media-grid:delete {ids}         media-grid:loaded {items, total}
 * Items: {id, type, thumbUrl?, prompt?, altText?, starred?, posted?, durationSeconds?, caption?}. thumbUrl defaults to /api/media/{id}/thumb.
 */
import { attrs, html, icon } from "../html.js";
import { element, emit, render } from "../dom.js";
import { number } from "../format.js";
import { emptyState, errorState } from "./states.js";

const GAP = 8;
const OVERSCAN = 2;
const PAGE = 100;
const CATCH_UP = 500;
const RANGE = 10_000; // places a Shift selection may load

export const thumbUrl = (item) => item.thumbUrl ?? `/api/media/${encodeURIComponent(item.id)}/thumb`;
export const fileUrl = (item) => item.fileUrl ?? `/api/media/${encodeURIComponent(item.id)}/file`;
export const altOf = (item) =>
  item.altText || item.caption || item.prompt || (item.type === "video" ? "Video without a description" : "Picture without a description");

class MediaGrid extends HTMLElement {
  ownsContent = true;
  loadPage = null;
  loadRange = null;
  label = "Pictures";
  clickMode = "open";
  emptyView = null;
  badges = () => [];
  dragType = "";
  stars = true;
  overlay = null;
  below = null;
  #extra = 0;
  #items = [];
  #index = new Map();
  #total = 0;
  #cursor = null;
  #done = false;
  #loading = null;
  #error = null;
  #generation = 0;
  #selection = new Set();
  #anchor = -1;
  #focus = 0;
  #size = 180;
  #fit = "cover";
  #columns = 1;
  #cell = 180;
  #frame = 0;
  #stop = null;
  #rows = new Map();
  #started = false;
  #asked = new Map();
  #wantTimer = 0;
  #wanted = [0, 0];
  #inView = [0, 0];
  #shape = 0;

  get items() {
    return this.#items;
  }
  get total() {
    return this.#total;
  }
  get allLoaded() {
    return this.#done;
  }
  get selection() {
    return this.#selection;
  }
  set selection(ids) {
    this.#selection = new Set(ids);
    this.#selected();
  }
  set size(v) {
    this.#size = Number(v) || 180;
    this.#layout();
  }
  get size() {
    return this.#size;
  }
  /** Paint what is shown again: what `badges`, `overlay` or `below` say has changed. */
  refresh() {
    this.#paint(true);
  }
  set extra(v) {
    this.#extra = Math.max(0, Number(v) || 0);
    this.style.setProperty("--mg-extra", `${this.#extra}px`);
    this.#layout();
  }
  get extra() {
    return this.#extra;
  }
  /** px from one row to the next */
  get #step() {
    return this.#cell + this.#extra + GAP;
  }
  set fit(v) {
    this.#fit = v;
    this.dataset.fit = v;
  }
  get fit() {
    return this.#fit;
  }

  connectedCallback() {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    if (!this.body) {
      this.body = element(html`<div class="mg-body" role="grid" aria-multiselectable="true"></div>`);
      this.state = element(html`<div class="mg-state"></div>`);
      this.append(this.body, this.state);
    }
    this.body.setAttribute("aria-label", this.label);
    this.dataset.fit = this.#fit;
    this.observer = new ResizeObserver(() => this.#layout());
    this.observer.observe(this);
    document.addEventListener("scroll", () => this.#soon(), { capture: true, passive: true, signal });
    addEventListener("resize", () => this.#soon(), { signal });
    this.body.addEventListener("click", (e) => this.#click(e), { signal });
    this.body.addEventListener(
      "dblclick",
      (e) => {
        const cell = e.target.closest("[data-own]") ? null : e.target.closest("[role=gridcell]");
        if (cell && this.clickMode === "select") this.#open(Number(cell.dataset.i));
      },
      { signal },
    );
    this.body.addEventListener("keydown", (e) => this.#key(e), { signal });
    this.body.addEventListener(
      "focusin",
      (e) => {
        const cell = e.target.closest("[role=gridcell]");
        if (cell) this.#setFocus(Number(cell.dataset.i), false);
      },
      { signal },
    );
    this.body.addEventListener(
      "dragstart",
      (e) => {
        const item = this.#items[Number(e.target.closest("[role=gridcell]")?.dataset.i)];
        if (!item || !this.dragType) return;
        e.dataTransfer.setData(this.dragType, JSON.stringify(this.#selection.has(item.id) ? [...this.#selection] : [item.id]));
        e.dataTransfer.effectAllowed = "copy";
      },
      { signal },
    );
    this.state.addEventListener(
      "click",
      (e) => {
        if (e.target.closest("[data-action=mg-retry]")) {
          this.#error = null;
          this.#soon();
          this.#paintState();
        }
      },
      { signal },
    );
    this.#layout();
  }
  disconnectedCallback() {
    this.#stop?.abort();
    this.observer?.disconnect();
  }

  /** Start again from the first page; keeps what is shown until the new first page is there. */
  async reload() {
    this.#generation += 1;
    this.#cursor = null;
    this.#done = false;
    this.#error = null;
    this.#loading = null;
    this.#started = true;
    this.fresh = true;
    if (!this.#items.length) this.#paintState();
    await this.more();
  }

  /** Load the next page. */
  more(limit = PAGE) {
    if (this.#loading || this.#done || this.#error || !(this.loadPage ?? this.loadRange)) return this.#loading ?? Promise.resolve();
    const generation = this.#generation;
    this.#loading = (async () => {
      let back = null;
      try {
        const page = this.loadRange ? await this.loadRange(0, limit, null) : await this.loadPage(this.#cursor, limit);
        if (generation !== this.#generation) return;
        const [focus, anchor] = this.#kept();
        const { fresh } = this;
        if (fresh) {
          back = this.#held();
          this.#items = [];
          this.#index.clear();
          this.fresh = false;
          this.#selection.clear();
          this.#rows.forEach((r) => r.remove());
          this.#rows.clear();
        }
        for (const item of page.items)
          if (!this.#index.has(item.id)) {
            this.#index.set(item.id, this.#items.length);
            this.#items.push(item);
          }
        if (fresh) {
          this.#focus = this.#index.get(focus) ?? 0;
          this.#anchor = this.#index.get(anchor) ?? -1;
        }
        this.#cursor = page.nextCursor ?? null;
        this.#done = !this.#cursor;
        this.#total = this.#done && !this.loadRange ? this.#items.length : Math.max(page.total ?? 0, this.#items.length);
        if (this.loadRange) {
          this.#shape += 1;
          this.#asked.clear();
          while (this.#items.length < this.#total) this.#items.push(undefined);
        }
      } catch (error) {
        if (generation !== this.#generation) return;
        if (this.fresh) {
          this.#items = [];
          this.#total = 0;
          this.#index.clear();
          this.#rows.forEach((r) => r.remove());
          this.#rows.clear();
        } // what is shown would not be what was asked for
        this.#error = error;
      } finally {
        if (generation === this.#generation) this.#loading = null;
      }
      if (generation !== this.#generation) return;
      this.#layout();
      this.#paintState();
      back?.();
      emit(this, "media-grid:loaded", { items: this.#items, total: this.#total });
    })();
    return this.#loading;
  }

  /** Load the places from..to that are not there yet. */
  async ensure(from, to = from + 1) {
    const blocks = [];
    for (let b = Math.floor(Math.max(0, from) / PAGE) * PAGE; b < Math.min(to, this.#total); b += PAGE)
      if (this.#missing(b, b + PAGE)) blocks.push(b);
    for (let i = 0; i < blocks.length; i += 4) await Promise.all(blocks.slice(i, i + 4).map((b) => this.#block(b)));
  }
  #missing(from, to) {
    for (let i = from; i < Math.min(to, this.#total); i += 1) if (!this.#items[i]) return true;
    return false;
  }
  #block(offset) {
    if (this.#asked.has(offset)) return this.#asked.get(offset);
    const generation = this.#generation,
      shape = this.#shape;
    const work = (async () => {
      try {
        const page = await this.loadRange(offset, PAGE, this.#items[0] ?? null);
        if (generation !== this.#generation || shape !== this.#shape) return; // the places have moved meanwhile
        if (page.total !== this.#total || page.items.some((item, k) => (this.#index.get(item.id) ?? offset + k) !== offset + k))
          this.#forget(page.total);
        page.items.forEach((item, k) => {
          this.#items[offset + k] = item;
          this.#index.set(item.id, offset + k);
        });
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 3000));
      } finally {
        // asked again while it is looked at
        if (this.#asked.get(offset) === work) this.#asked.delete(offset);
      }
      if (generation === this.#generation) this.#paint(false);
    })();
    this.#asked.set(offset, work);
    return work;
  }
  /** The list has changed elsewhere. */
  async again() {
    if (!this.loadRange || this.#loading || this.fresh || this.#error || !this.#items.length) {
      await this.reload();
      return;
    }
    const generation = (this.#generation += 1);
    const [from, to] = this.#inView.map((i) => Math.floor(Math.max(0, i) / PAGE));
    let pages;
    try {
      pages = await Promise.all(
        Array.from({ length: Math.min(4, to - from + 1) }, (_, k) => this.loadRange((from + k) * PAGE, PAGE, null).then((page) => ({ page, offset: (from + k) * PAGE }))),
      );
    } catch {
      return; // what is shown stays; the next change or look tries again
    }
    if (generation !== this.#generation) return;
    this.#change(() => {
      this.#total = pages.at(-1).page.total;
      this.#items = new Array(this.#total).fill(undefined);
      for (const { page, offset } of pages) page.items.forEach((item, k) => (this.#items[offset + k] = item));
    });
    emit(this, "media-grid:loaded", { items: this.#items, total: this.#total });
  }
  /** The list has changed elsewhere: what is not asked for again is not known any more. */
  #forget(total) {
    const first = this.#items[0];
    this.#shape += 1;
    this.#total = total;
    this.#items = new Array(total).fill(undefined);
    if (first && total) this.#items[0] = first;
    this.#index = new Map(first && total ? [[first.id, 0]] : []);
    this.#asked.clear();
    this.#layout();
    emit(this, "media-grid:loaded", { items: this.#items, total });
  }
  #want(from, to) {
    this.#wanted = [from - (to - from), to + (to - from)]; // a screen more on both sides
    if (!this.#wantTimer && this.#missing(...this.#wanted.map((i) => Math.max(0, i))))
      this.#wantTimer = setTimeout(() => {
        this.#wantTimer = 0;
        this.ensure(...this.#wanted);
      }, 60); // not for all that only flies past
  }

  prepend(item) {
    if (this.#index.has(item.id)) {
      this.patch(item.id, item);
      return;
    }
    this.#change(() => {
      this.#items = [item, ...this.#items]; // a new list: the viewer goes on with the one it has
      this.#total += 1;
    });
  }
  patch(id, changes) {
    const i = this.#index.get(id);
    if (i === undefined) return;
    this.#items[i] = { ...this.#items[i], ...changes };
    this.#paint(true);
  }
  remove(ids) {
    const gone = new Set(ids),
      removed = [];
    this.#items.forEach((item, index) => {
      if (item && gone.has(item.id)) removed.push({ item, index });
    });
    const hadFocus = this.body.contains(document.activeElement);
    this.#change(() => {
      this.#focus -= removed.filter(({ index }) => index < this.#focus).length; // the one behind takes its place
      this.#items = this.#items.filter((item) => !item || !gone.has(item.id));
      this.#total -= removed.length;
      gone.forEach((id) => this.#selection.delete(id));
    });
    this.#selected();
    if (hadFocus && !this.body.contains(document.activeElement)) this.#setFocus(this.#focus, true);
    return removed;
  }
  restore(removed) {
    this.#change(() => {
      this.#items = [...this.#items];
      for (const { item, index } of removed) {
        if (this.#index.has(item.id)) continue;
        this.#items.splice(Math.min(index, this.#items.length), 0, item);
        this.#total += 1;
      }
    });
  }
  find(id) {
    return this.#items[this.#index.get(id)];
  }
  selectAll() {
    this.selection = this.#items.filter(Boolean).map((i) => i.id);
  }
  clearSelection() {
    this.selection = [];
  }
  focusItem(id) {
    const i = this.#index.get(id);
    if (i !== undefined) this.#setFocus(i, true);
  }

  /** The ids of the items that have the focus and begin a Shift range. */
  #kept() {
    return [this.#items[this.#focus]?.id, this.#items[this.#anchor]?.id];
  }
  /** Change the list by `work`: the focus and the begin of a Shift range stay with their items, not with their places. */
  #change(work) {
    const [focus, anchor] = this.#kept();
    const back = this.#held();
    work();
    this.#shape += 1;
    this.#asked.clear();
    this.#index = new Map();
    this.#items.forEach((item, i) => {
      if (item) this.#index.set(item.id, i);
    });
    this.#focus = this.#index.get(focus) ?? Math.max(0, Math.min(this.#focus, this.#total - 1));
    this.#anchor = this.#index.get(anchor) ?? (this.#anchor < this.#total && !this.#items[this.#anchor] ? this.#anchor : -1);
    this.#layout();
    this.#paintState();
    back?.();
  }
  /** What has the focus in a cell, to give it back when the cell was made anew in another row. */
  #held() {
    const active = document.activeElement;
    const cell = this.body.contains(active) && active.closest("[role=gridcell]");
    if (!cell) return null;
    const { key } = cell.dataset,
      field = active.matches("textarea") && [active.selectionStart, active.selectionEnd];
    return () => {
      if (this.body.contains(document.activeElement)) return;
      const now = this.body.querySelector(`[role=gridcell][data-key="${CSS.escape(key)}"]`);
      const target = (field && now?.querySelector("textarea")) || now;
      target?.focus({ preventScroll: true });
      if (field && target !== now) target.setSelectionRange(...field);
    };
  }

  #layout() {
    if (!this.body) return;
    const width = this.clientWidth;
    if (!width) return;
    this.#columns = Math.max(2, Math.floor((width + GAP) / (this.#size + GAP)));
    this.#cell = (width - GAP * (this.#columns - 1)) / this.#columns;
    this.style.setProperty("--mg-columns", this.#columns);
    this.style.setProperty("--mg-cell", `${this.#cell}px`);
    const rows = Math.ceil(this.#total / this.#columns);
    this.body.style.setProperty("height", `${rows ? rows * this.#step - GAP : 0}px`);
    this.body.setAttribute("aria-rowcount", rows);
    this.body.setAttribute("aria-colcount", this.#columns);
    this.#paint(true);
  }
  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint(false);
    });
  }

  #paint(all) {
    if (!this.body?.isConnected || !this.#started) return;
    const step = this.#step;
    const box = this.body.getBoundingClientRect();
    const rows = Math.ceil(this.#total / this.#columns);
    let first = Math.floor(Math.max(0, -box.top) / step) - OVERSCAN;
    let last = Math.ceil((innerHeight - box.top) / step) + OVERSCAN;
    first = Math.max(0, Math.min(first, rows - 1));
    last = Math.max(first, Math.min(last, rows));
    const focusRow = Math.floor(this.#focus / this.#columns);
    const wanted = new Set();
    for (let r = first; r < last; r += 1) wanted.add(r);
    if (focusRow < rows && this.body.contains(document.activeElement)) wanted.add(focusRow); // never throw away what has the focus
    if (this.#focus < first * this.#columns || this.#focus >= last * this.#columns) {
      if (!this.body.contains(document.activeElement)) this.#focus = first * this.#columns;
    }
    for (const [r, el] of this.#rows)
      if (!wanted.has(r)) {
        el.remove();
        this.#rows.delete(r);
      }
    for (const r of [...wanted].sort((a, b) => a - b)) {
      let el = this.#rows.get(r);
      const waiting = el?.dataset.waiting === "1" && (this.loadRange || this.#items.length > r * this.#columns);
      if (!el) {
        el = document.createElement("div");
        el.className = "mg-row";
        el.setAttribute("role", "row");
        this.#rows.set(r, el);
        this.body.append(el);
      } else if (!all && !waiting) continue;
      el.style.setProperty("transform", `translateY(${r * step}px)`);
      el.setAttribute("aria-rowindex", r + 1);
      const start = r * this.#columns,
        end = Math.min(start + this.#columns, this.#total);
      el.dataset.waiting = this.#missing(start, end) ? "1" : "";
      render(el, html`${Array.from({ length: end - start }, (_, k) => this.#cellView(start + k, k))}`);
    }
    const need = last * this.#columns;
    this.#inView = [first * this.#columns, Math.max(first * this.#columns, need - 1)];
    if (this.loadRange) this.#want(first * this.#columns, need);
    else if (need >= this.#items.length && !this.#done && !this.#error && this.#total > 0)
      this.more(need - this.#items.length > PAGE ? CATCH_UP : PAGE);
  }

  #cellView(i, column) {
    const item = this.#items[i];
    if (!item)
      return html`<div class="mg-cell is-waiting" role="gridcell" data-key="w${i}" aria-colindex="${column + 1}" data-i="${i}" aria-busy="true"></div>`;
    const selected = this.#selection.has(item.id);
    const video = item.type === "video",
      badges = this.badges(item);
    return html`<div class="mg-cell" role="gridcell" data-key="${item.id}" data-i="${i}" aria-colindex="${column + 1}" ${attrs({ tabindex: i === this.#focus ? 0 : -1, "aria-selected": String(selected), draggable: this.dragType ? "true" : undefined, "aria-label": `${altOf(item).slice(0, 160)}${item.starred ? ", starred" : ""}${item.posted ? ", posted" : ""}${badges.map((b) => `, ${b.label.toLowerCase()}`).join("")}` })}>
      <img src="${thumbUrl(item)}" alt="" loading="lazy" decoding="async" draggable="false">
      <button type="button" class="mg-check" tabindex="-1" data-do="check" aria-label="${selected ? "Deselect" : "Select"}">${icon("check")}</button>
      ${this.overlay && html`<span class="mg-over">${this.overlay(item)}</span>`}
      ${this.stars && html`<button type="button" class="mg-star ${item.starred ? "is-on" : ""}" tabindex="-1" data-do="star" aria-label="${item.starred ? "Remove star" : "Star"}">${icon(item.starred ? "star-filled" : "star")}</button>`}
      ${(item.posted || video || badges.length > 0) && html`<span class="mg-badges">${video && html`<span>${icon("play")}${item.durationSeconds ? `${number(item.durationSeconds, 1)} s` : "Video"}</span>`}${item.posted && html`<span>${icon("send")}Posted</span>`}${badges.map((b) => html`<span title="${b.label}">${icon(b.icon)}${b.text}</span>`)}</span>`}${this.below && html`<div class="mg-below" data-own>${this.below(item, i)}</div>`}</div>`;
  }

  #paintState() {
    let view = html``;
    if (this.#error)
      view = errorState(this.#error, {
        title: this.#items.length ? "The rest could not be loaded" : "The pictures could not be loaded",
        action: "mg-retry",
        compact: this.#items.length > 0,
      });
    else if (!this.#items.length && !this.#done)
      view = html`<div class="skeleton skeleton-grid" aria-busy="true"><span class="visually-hidden" role="status">Loading…</span>${Array.from({ length: this.#columns * 2 }, () => html`<span class="bone"></span>`)}</div>`;
    else if (!this.#items.length)
      view =
        this.emptyView ??
        emptyState({
          icon: "image",
          title: "No pictures yet",
          text: "Pictures you make or import show up here.",
          action: { label: "Open the studio", href: "/studio.html", icon: "studio" },
        });
    this.body.hidden = !this.#items.length;
    render(this.state, view);
  }

  #click(event) {
    if (event.target.closest("[data-own]")) return;
    const cell = event.target.closest("[role=gridcell]");
    if (!cell) return;
    const i = Number(cell.dataset.i),
      item = this.#items[i];
    if (!item) return;
    const what = event.target.closest("[data-do]")?.dataset.do;
    this.#setFocus(i, true);
    if (what === "star") {
      emit(this, "media-grid:star", { item, starred: !item.starred });
      return;
    }
    if (event.shiftKey) {
      this.#range(i);
      return;
    }
    if (what === "check" || event.ctrlKey || event.metaKey || (this.clickMode === "open" && this.#selection.size)) {
      this.#toggle(i);
      return;
    }
    if (this.clickMode === "select") {
      this.#anchor = i;
      this.selection = [item.id];
      return;
    }
    this.#open(i);
  }
  #open(index) {
    const item = this.#items[index];
    if (item) emit(this, "media-grid:open", { item, index });
  }
  #toggle(i) {
    const { id } = this.#items[i];
    if (!this.#selection.delete(id)) this.#selection.add(id);
    this.#anchor = i;
    this.#selected();
  }
  #range(i) {
    const from = this.#anchor < 0 ? this.#focus : this.#anchor,
      low = Math.min(from, i),
      high = Math.max(from, i);
    if (this.loadRange && high - low <= RANGE && this.#missing(low, high + 1)) {
      this.ensure(low, high + 1).then(() => {
        if (!this.#missing(low, high + 1)) this.#range(i);
      });
      return;
    }
    for (let k = Math.min(from, i); k <= Math.max(from, i); k += 1) if (this.#items[k]) this.#selection.add(this.#items[k].id);
    if (this.#anchor < 0) this.#anchor = from;
    this.#selected();
  }
  #selected() {
    this.classList.toggle("is-selecting", this.#selection.size > 0);
    this.#paint(true);
    emit(this, "media-grid:select", { ids: [...this.#selection], total: this.#total });
  }

  #key(event) {
    if (event.target.closest("[data-own]")) return;
    const c = this.#columns,
      i = this.#focus,
      last = this.#total - 1;
    const page = Math.max(1, Math.floor(innerHeight / this.#step) - 1) * c;
    const to = {
      ArrowRight: i + 1,
      ArrowLeft: i - 1,
      ArrowDown: i + c,
      ArrowUp: i - c,
      Home: event.ctrlKey ? 0 : i - (i % c),
      End: event.ctrlKey ? last : Math.min(last, i - (i % c) + c - 1),
      PageDown: Math.min(last, i + page),
      PageUp: Math.max(0, i - page),
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      if (to < 0 || to > last) return;
      if (!this.#items[to]) {
        if (this.loadRange)
          this.ensure(to).then(() => {
            if (this.#items[to]) this.#setFocus(to, true);
          });
        else if (to > i) this.more();
        return;
      }
      if (event.shiftKey) {
        if (this.#anchor < 0) this.#anchor = i;
        this.#range(to);
      }
      this.#setFocus(to, true);
      return;
    }
    const item = this.#items[i];
    if (!item || event.altKey) return;
    const mod = event.ctrlKey || event.metaKey;
    if (mod && event.key.toLowerCase() === "a") {
      event.preventDefault();
      this.selectAll();
    } else if (event.key === " ") {
      event.preventDefault();
      this.#toggle(i);
    } else if (event.key === "Enter" && !mod) {
      event.preventDefault();
      this.#open(i);
    } else if (event.key === "." && !mod && this.stars) {
      event.preventDefault();
      emit(this, "media-grid:star", { item, starred: !item.starred });
    } else if (event.key === "Delete") {
      event.preventDefault();
      emit(this, "media-grid:delete", { ids: this.#selection.size ? [...this.#selection] : [item.id] });
    } else if (event.key === "Escape" && this.#selection.size) {
      event.preventDefault();
      event.stopPropagation();
      this.clearSelection();
    }
  }

  #setFocus(i, move) {
    const before = this.#focus;
    this.#focus = i;
    if (before !== i)
      for (const cell of this.body.querySelectorAll("[role=gridcell]")) cell.tabIndex = Number(cell.dataset.i) === i ? 0 : -1;
    if (!move) return;
    let cell = this.body.querySelector(`[data-i="${i}"]`);
    if (!cell) {
      const top = this.body.getBoundingClientRect().top + Math.floor(i / this.#columns) * this.#step;
      (this.closest("[data-scroller]") ?? document.scrollingElement).scrollBy({ top: top - innerHeight / 2, behavior: "instant" });
      this.#paint(false);
      cell = this.body.querySelector(`[data-i="${i}"]`);
    }
    cell?.focus({ preventScroll: true });
    cell?.scrollIntoView({ block: "nearest" });
  }
}
customElements.define("media-grid", MediaGrid);
