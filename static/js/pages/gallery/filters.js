/** The narrowing part of the gallery: search bar, chips, facets, collections. Template functions only. */
import { attrs, html, icon } from "../../html.js";
import { number } from "../../format.js";
import { fieldRow } from "../../components/field-row.js";
import { avatar } from "../../components/avatar.js";
import { chipsOf, stem } from "./query.js";

const SHOWN = 8;
const HELP = [
  ["red dress", "both words occur in the prompt"],
  ['"red dress"', "exactly this phrase"],
  ["-hat", "the word must not occur"],
  ["character:luna", "pictures of a character, by name"],
  ["model:sdxl.safetensors", "made with this model file"],
  ["lora:luna_v3", "made with this LoRA"],
  ["engine:builtin", "drawn by this engine"],
  ["is:starred", "starred only (also is:posted, -is:starred)"],
  ["after:2026-01-01", "from this day on"],
  ["before:2026-02-01", "up to this day"],
];

const density = ({
  size,
  fit,
  id,
}) => html`<div class="gl-density row-nowrap row"><label class="visually-hidden" for="${id}">Picture size</label>${icon("grid")}<input id="${id}" type="range" min="90" max="420" step="10" value="${size}" data-input="size" title="Picture size">
      <div class="segmented" role="group" aria-label="Crop"><button type="button" data-action="fit" data-value="cover" aria-pressed="${String(fit === "cover")}" title="Square crops" aria-label="Square crops">${icon("grid")}</button><button type="button" data-action="fit" data-value="contain" aria-pressed="${String(fit === "contain")}" title="Whole pictures" aria-label="Whole pictures">${icon("fit")}</button></div></div>`;

/** @param {{state: any, size: number, fit: string}} view */
export function toolbar({ state, size, fit }) {
  return html`<form class="search-box gl-search" role="search" data-key="search">${icon("search")}
      <input type="search" name="q" data-search value="${state.q ?? ""}" placeholder="Search prompts, or character: model: is:starred" aria-label="Search the gallery" autocomplete="off" spellcheck="false" enterkeyhint="search">
      <button type="button" class="icon-btn gl-help-btn" popovertarget="gl-help" aria-label="How to search" title="How to search">${icon("help")}</button>
      <div id="gl-help" popover class="popover gl-help" role="dialog" aria-label="How to search" data-align="end"><h2>How to search</h2><p class="muted">Put as many together as you like; all must fit.</p>
        <ul class="gl-help-list">${HELP.map(([code, text]) => html`<li><button type="button" data-action="example" data-text="${code}"><code>${code}</code><span>${text}</span></button></li>`)}</ul></div></form>
    <button type="button" class="btn gl-filters-btn" data-action="filters" aria-haspopup="dialog">${icon("filter")}Filters</button>
    <span class="spacer gl-spacer"></span>
    <label class="visually-hidden" for="gl-sort">Order</label><select id="gl-sort" class="gl-sort" data-change="sort"><option value="newest" ${attrs({ selected: state.sort !== "oldest" })}>Newest first</option><option value="oldest" ${attrs({ selected: state.sort === "oldest" })}>Oldest first</option></select>
    ${density({ size, fit, id: "gl-size" })}
    ${state.trashed ? html`<button type="button" class="btn" data-action="empty-trash" aria-label="Empty trash">${icon("trash")}<span class="gl-word">Empty trash</span></button>` : html`<button type="button" class="btn" data-action="import" data-needs="write" aria-label="Import pictures">${icon("upload")}<span class="gl-word">Import</span></button>`}`;
}

/** The line under the toolbar: how many, and what narrows them. */
export function summary({ state, total, loaded, names }) {
  const chips = chipsOf(state, names);
  return html`<p class="gl-total" role="status">${loaded ? html`<strong>${number(total)}</strong> ${state.trashed ? "in the trash" : total === 1 ? "picture" : "pictures"}` : ""}</p>
    ${state.trashed && html`<button type="button" class="chip" data-action="leave-trash" aria-label="Leave the trash">${icon("trash")}Trash${icon("x")}</button>`}
    ${chips.map((c) => html`<button type="button" class="chip gl-chip" data-key="chip-${c.name}" data-action="drop" data-name="${c.name}" aria-label="Remove filter ${c.label} ${c.value}" title="Remove this filter">${icon(c.icon)}${c.label && html`<span class="muted">${c.label}</span>`}<span class="truncate">${c.value}</span>${icon("x")}</button>`)}
    ${chips.length > 1 && html`<button type="button" class="btn btn-ghost btn-small" data-action="clear">Clear all</button>`}`;
}

const row = ({ name, value, label, count, on, lead }) =>
  html`<li><button type="button" class="gl-facet" data-action="facet" data-name="${name}" data-value="${value}" aria-pressed="${String(on)}" title="${value}">${lead}<span class="truncate">${label}</span>${count !== undefined && html`<span class="gl-num">${number(count)}</span>`}</button></li>`;

function facet({ key, name, title, list, state, open, label, lead }) {
  if (!list.length && !state[name]) return "";
  const chosen = state[name];
  const all = chosen && !list.some((e) => e.value === chosen) ? [{ value: chosen, count: 0 }, ...list] : list;
  const shown = open.has(key) ? all : all.filter((e, i) => i < SHOWN || e.value === chosen);
  return html`<details class="gl-group" data-key="facet-${key}" ${attrs({ open: true })}><summary><span>${title}</span>${icon("chevron-down")}</summary><ul class="gl-list">${shown.map((e) => row({ name, value: e.value, label: label(e.value), count: e.count, on: e.value === chosen, lead: lead?.(e.value) }))}</ul>
    ${all.length > SHOWN && html`<button type="button" class="btn btn-ghost btn-small" data-action="more" data-name="${key}">${open.has(key) ? "Show fewer" : `Show all ${number(all.length)}`}</button>`}</details>`;
}

/** @param {{state: any, facets: any, collections: any[], open: Set<string>, character: (id: string) => any, prefix?: string, error?: any}} view */
export function panel({ state, facets, collections, open, character, prefix = "side", error, size, fit }) {
  const f = facets ?? {};
  const flag = (name, label, glyph) => row({ name, value: "true", label, on: state[name] === "true", lead: icon(glyph) });
  return html`${prefix === "sheet" && density({ size, fit, id: "gl-size-sheet" })}<ul class="gl-list gl-places">
      <li><button type="button" class="gl-facet" data-action="place" data-value="" aria-pressed="${String(!state.trashed && !state.collectionId)}">${icon("gallery")}<span>All pictures</span></button></li>
      ${flag("starred", "Starred", "star")}
      <li><button type="button" class="gl-facet" data-action="place" data-value="trash" aria-pressed="${String(Boolean(state.trashed))}">${icon("trash")}<span>Trash</span></button></li></ul>
    <section class="gl-group" data-key="collections"><header class="gl-group-head"><h2>Collections</h2><button type="button" class="icon-btn" data-action="new-collection" aria-label="New collection" title="New collection">${icon("plus")}</button></header>
      ${
        collections.length
          ? html`<ul class="gl-list">${collections.map(
              (
                c,
              ) => html`<li class="gl-collection" data-key="${c.id}" data-drop="${c.id}"><button type="button" class="gl-facet" data-action="facet" data-name="collectionId" data-value="${c.id}" aria-pressed="${String(state.collectionId === c.id)}">${icon("folder")}<span class="truncate">${c.name}</span><span class="gl-num">${number(c.count)}</span></button>
        <button type="button" class="icon-btn gl-more" popovertarget="${prefix}-${c.id}" aria-label="Actions for ${c.name}">${icon("more")}</button><div id="${prefix}-${c.id}" popover class="popover menu" role="menu" aria-label="${c.name}" data-align="end"><button type="button" role="menuitem" data-action="rename-collection" data-id="${c.id}">${icon("edit")}<span>Rename</span></button><button type="button" role="menuitem" class="is-danger" data-action="delete-collection" data-needs="write" data-id="${c.id}">${icon("trash")}<span>Delete</span></button></div></li>`,
            )}</ul>`
          : html`<p class="gl-note">Sort pictures into named sets. A picture can be in several.</p>`
      }</section>
    ${error && html`<p class="gl-note" role="alert">The counts could not be loaded. <button type="button" class="btn btn-small" data-action="retry-facets">Try again</button></p>`}
    ${!facets && !error && html`<div class="skeleton skeleton-lines" aria-hidden="true"><span class="bone"></span><span class="bone"></span><span class="bone"></span><span class="bone"></span></div>`}
    ${facet({ key: "characters", name: "characterId", title: "Character", list: f.characters ?? [], state, open, label: (v) => character(v)?.name ?? "Deleted character", lead: (v) => (character(v) ? avatar(character(v), "s") : icon("user")) })}
    ${facet({ key: "models", name: "model", title: "Model", list: f.models ?? [], state, open, label: stem })}
    ${facet({ key: "loras", name: "lora", title: "LoRA", list: f.loras ?? [], state, open, label: stem })}
    ${facet({ key: "engines", name: "engine", title: "Engine", list: f.engines ?? [], state, open, label: (v) => ({ comfyui: "ComfyUI", builtin: "Built-in" })[v] ?? v })}
    <details class="gl-group" data-key="dates" ${attrs({ open: true })}><summary><span>Date</span>${icon("chevron-down")}</summary><div class="gl-dates">${fieldRow({ name: "after", id: `${prefix}-after`, label: "From", type: "date", value: state.after })}${fieldRow({ name: "before", id: `${prefix}-before`, label: "Until", type: "date", value: state.before })}</div></details>`;
}
