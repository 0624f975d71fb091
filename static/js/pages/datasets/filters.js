/** Narrowing the pictures of a set: toolbar, chips, facets. Template functions only. */
import { attrs, html, icon } from "../../html.js";
import { number } from "../../format.js";
import { OVERLAYS } from "./editing.js";
import { chipsOf, SORTS, SOURCES } from "./query.js";

const SHOWN = 8;
const NONE = "."; // how the API says "the empty one"
const density = ({ size, fit, id }) => html`<div class="gl-density row-nowrap row"><label class="visually-hidden" for="${id}">Picture size</label>${icon("grid")}<input id="${id}" type="range" min="110" max="420" step="10" value="${size}" data-input="size" title="Picture size">
  <div class="segmented" role="group" aria-label="Crop"><button type="button" data-action="fit" data-value="cover" aria-pressed="${String(fit === "cover")}" title="Square crops" aria-label="Square crops">${icon("grid")}</button><button type="button" data-action="fit" data-value="contain" aria-pressed="${String(fit === "contain")}" title="Whole pictures" aria-label="Whole pictures">${icon("fit")}</button></div></div>`;

/** @param {{filter: any, sort: string, size: number, fit: string, overlays: Set<string>}} view */
export function toolbar({ filter, sort, size, fit, overlays }) {
  return html`<form class="search-box gl-search" role="search" data-key="search">${icon("search")}<input type="search" name="q" data-search value="${filter.q ?? ""}" placeholder="Search captions and file names" aria-label="Search the pictures" autocomplete="off" spellcheck="false" enterkeyhint="search"></form>
    <button type="button" class="btn gl-filters-btn" data-action="filters" aria-haspopup="dialog">${icon("filter")}Filters</button><span class="spacer gl-spacer"></span>
    <button type="button" class="btn" data-action="focus-mode" title="Caption by keyboard: one picture after the other">${icon("keyboard")}<span class="gl-word">By keyboard</span></button>
    <button type="button" class="btn" popovertarget="ds-overlays" aria-haspopup="dialog">${icon("eye")}<span class="gl-word">Overlays</span></button>
    <div id="ds-overlays" popover class="popover ds-pop" role="dialog" aria-label="Overlays" data-align="end">${OVERLAYS.map(([key, label]) => html`<label class="check"><input type="checkbox" data-overlay="${key}" ${attrs({ checked: overlays.has(key) })}><span>${label}</span></label>`)}</div>
    <label class="visually-hidden" for="ds-sort">Order</label><select id="ds-sort" class="gl-sort" data-change="sort">${Object.entries(SORTS).map(([key, label]) => html`<option value="${key}" ${attrs({ selected: key === sort })}>${label}</option>`)}</select>
    ${density({ size, fit, id: "ds-size" })}`;
}

/** The line under the toolbar: how many, and what narrows them. */
export function summary({ filter, total, loaded }) {
  const chips = chipsOf(filter);
  return html`<p class="gl-total" role="status">${loaded ? html`<strong>${number(total)}</strong> ${filter.trashed ? "in the trash" : total === 1 ? "picture" : "pictures"}` : ""}</p>
    ${filter.trashed && html`<button type="button" class="chip" data-action="leave-trash" aria-label="Leave the trash">${icon("trash")}Trash${icon("x")}</button>`}
    ${chips.map((c) => html`<button type="button" class="chip gl-chip" data-key="chip-${c.name}" data-action="drop" data-name="${c.name}" aria-label="Remove filter ${c.label} ${c.value}" title="Remove this filter">${c.label && html`<span class="muted">${c.label}</span>`}<span class="truncate">${c.value}</span>${icon("x")}</button>`)}
    ${chips.length > 1 && html`<button type="button" class="btn btn-ghost btn-small" data-action="clear">Clear all</button>`}`;
}

const row = ({ name, value, label, count, on, glyph }) =>
  html`<li><button type="button" class="gl-facet" data-action="facet" data-name="${name}" data-value="${value}" aria-pressed="${String(on)}" title="${label}">${glyph && icon(glyph)}<span class="truncate">${label}</span>${count !== undefined && count !== null && html`<span class="gl-num">${number(count)}</span>`}</button></li>`;

/** Which facet of the server is which filter, and how its values read. */
const FACETS = [
  ["captioned", "captioned", "Caption", (v) => (v === "true" ? "Captioned" : "Without caption")],
  ["captionSources", "captionSource", "Caption by", (v) => SOURCES[v] ?? v],
  ["faces", "faces", "Faces", (v) => (String(v) === "0" ? "No face" : String(v) === "1" ? "One face" : "Several faces")],
  ["concepts", "concept", "Concept", (v) => (v === NONE ? "None" : v)],
  ["folders", "folder", "Folder", (v) => (v === NONE ? "Top" : v)],
  ["formats", "format", "Format", (v) => v],
  ["tags", "tag", "Tag", (v) => v],
];

/** @param {{filter: any, facets: any, error?: any, open: Set<string>, prefix?: string, size: number, fit: string}} view */
export function panel({ filter, facets, error, open, prefix = "side", size, fit }) {
  const flag = (name, value, label, glyph) => row({ name, value, label, on: filter[name] === value, glyph });
  const plain = !filter.trashed && !filter.kind && !filter.excluded;
  return html`${prefix === "sheet" && density({ size, fit, id: "ds-size-sheet" })}<ul class="gl-list gl-places">
      <li><button type="button" class="gl-facet" data-action="place" data-value="" aria-pressed="${String(plain)}">${icon("gallery")}<span>All pictures</span></button></li>
      ${flag("kind", "processed", "Made from others", "crop")}${flag("excluded", "true", "Excluded", "eye-off")}${flag("captioned", "false", "Without caption", "edit")}${flag("locked", "true", "Locked captions", "lock")}${flag("blurry", "1", "Blurry", "alert")}${flag("has", "mask", "With a mask", "layers")}${flag("missing", "faces", "Not analyzed", "face")}
      <li><button type="button" class="gl-facet" data-action="place" data-value="trash" aria-pressed="${String(Boolean(filter.trashed))}">${icon("trash")}<span>Trash</span></button></li></ul>
    ${error && html`<p class="gl-note" role="alert">The counts could not be loaded. <button type="button" class="btn btn-small" data-action="retry-facets">Try again</button></p>`}
    ${!facets && !error && html`<div class="skeleton skeleton-lines" aria-hidden="true"><span class="bone"></span><span class="bone"></span><span class="bone"></span><span class="bone"></span></div>`}
    ${FACETS.map(([key, name, title, label]) => {
      const list = (facets?.[key] ?? []).filter((e) => e.value !== null && (e.count > 0 || (String(e.value) || NONE) === filter[name])).map((e) => ({ ...e, value: e.value === "" ? NONE : String(e.value) }));
      if (list.length < 2 && !filter[name]) return "";
      const shown = open.has(key) ? list : list.filter((e, i) => i < SHOWN || e.value === filter[name]);
      return html`<details class="gl-group" data-key="facet-${key}" ${attrs({ open: true })}><summary><span>${title}</span>${icon("chevron-down")}</summary><ul class="gl-list">${shown.map((e) => row({ name, value: e.value, label: label(e.value), count: e.count, on: filter[name] === e.value }))}</ul>
        ${list.length > SHOWN && html`<button type="button" class="btn btn-ghost btn-small" data-action="more" data-name="${key}">${open.has(key) ? "Show fewer" : `Show all ${number(list.length)}`}</button>`}</details>`;
    })}`;
}
