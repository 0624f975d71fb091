/** One prompt as a row: words and caption to edit in place, where it was used, what can be done. Markup only. */
import { avatar } from "../../components/avatar.js";
import { ago, dateTime, number, words } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { session } from "../../session.js";
import { hasChoices } from "./expand.js";
import { providerBadge, studioHref, usesOf } from "./facts.js";

const SOURCES = { manual: ["edit", "Written"], ideas: ["bolt", "Idea"], import: ["upload", "Imported"], task: ["calendar", "By a task"] };
function usedCell(prompt) {
  const uses = usesOf(prompt);
  if (!prompt.used && !uses.length) return html`<span class="badge badge-neutral">${icon("circle")}<span>Unused</span></span>`;
  return html`<div class="pr-uses"><span class="badge badge-good" title="${prompt.usedAt ? dateTime(prompt.usedAt) : ""}">${icon("ok")}<span>Used</span></span>${prompt.usedAt && html`<span class="small muted">${ago(prompt.usedAt)}</span>`}
    ${uses.slice(0, 3).map((use) => (use.href ? html`<a class="small" href="${use.href}" title="${use.at ? dateTime(use.at) : ""}">${use.label}</a>` : html`<span class="small">${use.label}</span>`))}${uses.length > 3 && html`<span class="small muted">and ${number(uses.length - 3)} more</span>`}</div>`;
}

/**
 * @param {any} prompt @param {{selected: boolean, busy: boolean, error?: {prompt?: string, caption?: string}}} view
 */
export function promptRow(prompt, { selected, busy, errors = {} }) {
  const character = session.find(prompt.characterId);
  const name = character?.name ?? prompt.characterName;
  const [sourceIcon, sourceLabel] = SOURCES[prompt.source] ?? ["edit", words(prompt.source || "manual")];
  const short = prompt.prompt.length > 60 ? `${prompt.prompt.slice(0, 58)}…` : prompt.prompt;
  const menu = `pr-menu-${prompt.id}`;
  const id = (part) => `pr-${part}-${prompt.id}`;
  const field = (part, label, value, placeholder) =>
    html`<div class="pr-field"><textarea rows="2" id="${id(part)}" data-edit="${part}" data-id="${prompt.id}" aria-label="${label}" placeholder="${placeholder}" ${attrs({ "aria-invalid": errors[part] ? "true" : undefined, "aria-describedby": errors[part] ? `${id(part)}-error` : undefined })}>${value ?? ""}</textarea>${errors[part] && html`<p class="field-error" id="${id(part)}-error" role="alert">${errors[part]}</p>`}</div>`;
  const older = prompt.captions?.length ?? 0;
  return html`<li class="pr-row ${selected ? "is-selected" : ""} ${busy ? "is-busy" : ""}" data-key="${prompt.id}">
    <label class="pr-check"><input type="checkbox" data-select="${prompt.id}" aria-label="Select “${short}”" ${attrs({ checked: selected })}></label>
    <div class="pr-text">${field("prompt", `Prompt of ${name ?? "no character"}`, prompt.prompt, "Write the picture")}
      <p class="pr-meta small muted"><span class="pr-who">${character ? avatar(character, "s") : icon("user")}<span>${name ?? "Any character"}</span>${prompt.characterMissing && html` <span class="pr-warn">(deleted)</span>`}</span><span>${icon(sourceIcon)}${sourceLabel}</span><time datetime="${prompt.createdAt}" title="${dateTime(prompt.createdAt)}">${ago(prompt.createdAt)}</time>${hasChoices(prompt.prompt) && html`<button type="button" class="pr-dice" data-action="preview" data-id="${prompt.id}">${icon("dice")}Varies</button>`}${prompt.missingWildcards?.length > 0 && html`<span class="pr-warn">${icon("alert")}No wildcard ${prompt.missingWildcards.map((w) => `__${w}__`).join(", ")}</span>`}</p></div>
    <div class="pr-caption">${field("caption", `Caption of “${short}”`, prompt.caption, "No caption yet")}
      <p class="pr-meta small muted">${prompt.caption ? html`${providerBadge(prompt.captionProvider)}${[...prompt.caption].length > 280 && html`<span class="pr-count">${number([...prompt.caption].length)} characters</span>`}` : ""}${older > 0 && html`<button type="button" class="pr-older" data-action="older" data-id="${prompt.id}">${icon("history")}${older === 1 ? "1 earlier" : `${older} earlier`}</button>`}${busy ? html`<span class="pr-writing" role="status">Writing…</span>` : html`<button type="button" class="pr-write" data-action="caption" data-id="${prompt.id}">${icon("bolt")}${prompt.caption ? "Write another" : "Generate caption"}</button>`}</p>${busy && html`<progress max="1" aria-label="Writing the caption"></progress>`}</div>
    <div class="pr-used">${usedCell(prompt)}</div>
    <div class="pr-acts"><a class="icon-btn" href="${studioHref(prompt)}" aria-label="Use “${short}” in the studio" title="Use in the studio">${icon("studio")}</a>
      <button type="button" class="icon-btn" popovertarget="${menu}" aria-label="More for “${short}”" title="More" aria-haspopup="menu">${icon("more")}</button>
      <div id="${menu}" popover class="popover menu" role="menu" aria-label="Prompt" data-align="end"><button type="button" role="menuitem" data-action="copy" data-id="${prompt.id}">${icon("copy")}<span>Copy the prompt</span></button>${prompt.caption && html`<button type="button" role="menuitem" data-action="copy-caption" data-id="${prompt.id}">${icon("copy")}<span>Copy the caption</span></button>`}<button type="button" role="menuitem" data-action="mark" data-id="${prompt.id}">${icon(prompt.used ? "circle" : "ok")}<span>${prompt.used ? "Mark as unused" : "Mark as used"}</span></button><button type="button" role="menuitem" data-action="move" data-id="${prompt.id}">${icon("characters")}<span>Give to another character</span></button><hr><button type="button" role="menuitem" class="is-danger" data-action="remove" data-needs="write" data-id="${prompt.id}">${icon("trash")}<span>Delete</span></button></div></div></li>`;
}

/** @param {{ids: string[], total: number}} view */
export const bulkBar = ({ ids, total }) => {
  const n = number(ids.length);
  return html`<button type="button" class="icon-btn" data-action="select-none" aria-label="Clear the selection" title="Clear the selection (Esc)">${icon("x")}</button><strong role="status">${n} selected</strong>
    ${ids.length < total && html`<button type="button" class="btn btn-ghost btn-small" data-action="select-all">Select all ${number(total)}</button>`}<span class="spacer"></span>
    <button type="button" class="btn" data-action="bulk-caption" data-needs="write">${icon("bolt")}<span>Write ${n} ${ids.length === 1 ? "caption" : "captions"}</span></button>
    <button type="button" class="btn" popovertarget="pr-bulk-mark" aria-haspopup="menu">${icon("ok")}<span>Mark</span></button>
    <div id="pr-bulk-mark" popover class="popover menu" role="menu" aria-label="Mark the selected"><button type="button" role="menuitem" data-action="bulk-mark" data-needs="write" data-mark="mark_unused">${icon("circle")}<span>As unused</span></button><button type="button" role="menuitem" data-action="bulk-mark" data-needs="write" data-mark="mark_used">${icon("ok")}<span>As used</span></button></div>
    <button type="button" class="btn pr-trash" data-action="bulk-delete" data-needs="write">${icon("trash")}<span>Delete ${n}</span></button>`;
};
