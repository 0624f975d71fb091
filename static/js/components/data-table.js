/**
 * A table that becomes cards on phones.
 * Properties: `columns` [{key, label, render?(row) → markup, sortable?, align?: "end", primary?}], `rows`, `rowKey` ("id"),
 * `sort` {key, dir: "asc"|"desc"}, `label` (caption, read aloud), `rowHref?(row)`. `primary` marks the heading of the card.
 * Emits `data-table:sort` {key, dir}, `data-table:open` {row}. Sorting itself is the owner's.
 */
import { attrs, html, icon } from "../html.js";
import { emit, render } from "../dom.js";

class DataTable extends HTMLElement {
  ownsContent = true;
  columns = [];
  rowKey = "id";
  label = "";
  sort = null;
  rowHref = null;
  #rows = [];
  set rows(rows) {
    this.#rows = rows;
    this.#render();
  }
  get rows() {
    return this.#rows;
  }
  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    this.addEventListener("click", (event) => {
      const head = event.target.closest("[data-sort]");
      if (head) {
        const key = head.dataset.sort;
        emit(this, "data-table:sort", { key, dir: this.sort?.key === key && this.sort.dir === "asc" ? "desc" : "asc" });
        return;
      }
      if (event.target.closest("a, button, input, label, select")) return;
      const tr = event.target.closest("tbody tr");
      if (tr) emit(this, "data-table:open", { row: this.#rows.find((r) => String(r[this.rowKey]) === tr.dataset.key) });
    });
  }
  #render() {
    const s = this.sort;
    render(
      this,
      html`<div class="table-wrap" tabindex="0" role="region" aria-label="${this.label}"><table class="table"><caption class="visually-hidden">${this.label}</caption>
      <thead><tr>${this.columns.map((c) => html`<th scope="col" class="${c.align === "end" ? "end" : ""}" ${attrs({ "aria-sort": s?.key === c.key ? (s.dir === "asc" ? "ascending" : "descending") : undefined })}>${c.sortable ? html`<button type="button" class="th-btn" data-sort="${c.key}">${c.label}${icon(s?.key === c.key && s.dir === "desc" ? "chevron-down" : "chevron-up")}</button>` : c.label || html`<span class="visually-hidden">Actions</span>`}</th>`)}</tr></thead>
      <tbody>${this.#rows.map((row) => html`<tr data-key="${row[this.rowKey]}">${this.columns.map((c) => html`<td class="${c.align === "end" ? "end" : ""} ${c.primary ? "primary" : ""}" data-label="${c.label}">${c.render ? c.render(row) : row[c.key]}</td>`)}</tr>`)}</tbody></table></div>`,
    );
  }
}
customElements.define("data-table", DataTable);
