/** Captions under the pictures: typed text lives until it is saved, a newer text of somebody else is never overwritten unasked. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { number, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { SOURCES } from "./query.js";

const BLURRED = 60; // sharpness below which the statistics count a picture as blurry
const drafts = new Map(); // image id → what was typed and is not saved
const bases = new Map(); // image id → the caption that it is typed over
const saving = new Map(); // image id → what is on its way
const failed = new Map(); // image id → why
const refused = new Map(); // image id → the text that was not saved because somebody else had written another
export const draftOf = (item) => drafts.get(item.id) ?? item.caption ?? "";
export const hasDrafts = () => drafts.size > 0;
export const isDraft = (id) => drafts.has(id);
/** A field of this picture gets the focus: from now on what it shows is what is typed over. */
export const begin = (item) => { if (!drafts.has(item.id)) bases.set(item.id, item.caption ?? ""); };
/** Something was typed. */
export const typed = (id, text) => drafts.set(id, text);
/** This very text was refused, which was said: only Enter or “Use mine” saves it over the other one. */
export const wasRefused = (id, text) => refused.get(id) === text;
/** A field is left: what was typed is saved. @param {any} item @param {(item: any) => void} changed */
export function leave(item, changed) {
  const text = drafts.get(item.id);
  return text === undefined || wasRefused(item.id, text) ? null : saveCaption(item, text, changed);
}

/**
 * Save a caption. Resolves with the picture as it is then, or null when it was left as it is.
 * @param {any} item as it was shown @param {string} text @param {(item: any) => void} changed
 */
export async function saveCaption(item, text, changed) {
  const before = saving.get(item.id);
  if (before?.text === text) return before.done; // Enter and leaving the field both save
  begin(item);
  const over = bases.get(item.id);
  const done = (before?.done ?? Promise.resolve(null)).then((saved) => save(saved ?? item, text, saved ? (saved.caption ?? "") : over, changed));
  const mine = { text, done };
  saving.set(item.id, mine);
  try {
    return await done;
  } finally {
    if (saving.get(item.id) === mine) saving.delete(item.id);
  }
}
async function save(item, text, over, changed) {
  const words = text.trim();
  if (words === (item.caption ?? "").trim()) {
    revert(item);
    changed(item);
    return null;
  }
  const path = `/api/images/${encodeURIComponent(item.id)}`;
  const done = (saved) => {
    if (drafts.get(item.id) === undefined || drafts.get(item.id).trim() === words) drafts.delete(item.id);
    bases.set(item.id, saved.caption ?? "");
    failed.delete(item.id);
    refused.delete(item.id);
    changed(saved);
    return saved;
  };
  drafts.set(item.id, text);
  try {
    return done(await api.patch(path, { caption: words, ifCaption: over }));
  } catch (error) {
    failed.set(item.id, error.message);
    changed(item);
    if (error.status === 409 || error.status === 412) {
      const now = await api.get(path).catch(() => null);
      if (now && (now.caption ?? "").trim() === words) return done(now);
      refused.set(item.id, text);
      toast.error(`The caption of ${item.filename} was changed meanwhile.`, {
        detail: now ? `It is now: ${now.caption || "(none)"}` : error.remedy,
        action: { label: "Use mine", run: () => api.patch(path, { caption: words }).then(done).catch((e) => toast.error(e)) },
      });
      if (now) {
        bases.set(item.id, now.caption ?? ""); // it was said: saving again is meant
        changed({ ...now });
      }
    } else toast.error(error);
    return null;
  }
}
/** Throw away what was typed. */
export function revert(item) {
  drafts.delete(item.id);
  bases.set(item.id, item.caption ?? "");
  failed.delete(item.id);
  refused.delete(item.id);
}

/** What stands under a picture. Template function. */
export function captionBelow(item) {
  const dirty = drafts.has(item.id), why = failed.get(item.id);
  return html`<textarea class="ds-caption ${dirty ? "is-dirty" : ""} ${why ? "is-bad" : ""}" tabindex="-1" data-image="${item.id}" rows="2" maxlength="20000" spellcheck="false" aria-label="Caption of ${item.filename}" placeholder="No caption">${draftOf(item)}</textarea>
    <span class="ds-under small muted"><span class="truncate" title="${item.filename}">${item.filename.split("/").pop()}</span>${item.captionLocked && html`<span title="Written by a person: batches leave it alone">${icon("lock", "Locked")}</span>`}</span>`;
}

/**
 * Make the captions of a grid editable. Enter saves, Shift+Enter is a new line, Tab saves and goes on, Esc takes it back.
 * @param {HTMLElement} grid @param {(item: any) => void} changed
 */
export function captionKeys(grid, changed) {
  const itemOf = (el) => grid.find(el.dataset.image);
  const save = (el) => { const item = itemOf(el); return item && isDraft(item.id) ? saveCaption(item, el.value, changed) : null; };
  async function go(item, step) {
    const at = grid.items.findIndex((one) => one?.id === item.id) + step;
    if (at < 0 || at >= grid.total) return false;
    if (!grid.items[at]) await grid.ensure?.(at);
    const next = grid.items[at];
    if (!next) return false;
    grid.focusItem(next.id);
    editHere(grid);
    return true;
  }
  grid.addEventListener("focusin", (event) => {
    const item = event.target.matches("textarea[data-image]") && itemOf(event.target);
    if (item) begin(item);
  });
  grid.addEventListener("input", (event) => {
    const el = event.target.closest("textarea[data-image]");
    if (!el) return;
    typed(el.dataset.image, el.value);
    el.classList.add("is-dirty");
  });
  grid.addEventListener("focusout", (event) => {
    const el = event.target.closest?.("textarea[data-image]");
    if (!el) return;
    const item = itemOf(el);
    if (item && isDraft(item.id)) leave(item, changed);
    else el.value = item?.caption ?? el.value; // it may have changed while the field had the focus
  });
  grid.addEventListener("keydown", (event) => {
    const el = event.target.closest("textarea[data-image]");
    if (!el) {
      if ((event.key === "e" || event.key === "F2") && !event.ctrlKey && !event.metaKey && event.target.closest("[role=gridcell]")) {
        event.preventDefault();
        editHere(grid);
      }
      return;
    }
    if (event.isComposing) return;
    const item = itemOf(el);
    if (!item) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      save(el);
      grid.focusItem(item.id);
    } else if (event.key === "Tab") {
      const step = event.shiftKey ? -1 : 1;
      const at = grid.items.findIndex((one) => one?.id === item.id) + step;
      if (at < 0 || at >= grid.total) return; // at the ends Tab leaves the grid
      event.preventDefault();
      leave(item, changed);
      go(item, step);
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      revert(item);
      el.value = item.caption ?? "";
      grid.focusItem(item.id);
      changed(item);
    }
  });
}
/** Put the caret into the caption of the cell that has the focus. */
export function editHere(grid) {
  const cell = grid.querySelector("[role=gridcell][tabindex='0']");
  const el = cell?.querySelector("textarea[data-image]");
  if (!el) return;
  el.focus();
  el.setSelectionRange(el.value.length, el.value.length);
}

export const OVERLAYS = [["size", "Size"], ["faces", "Faces"], ["mask", "Masks"], ["group", "Doubles"], ["blur", "Blur"]];

/** Faces as boxes over the picture, and its mask: what training leaves out is dark. @param {Set<string>} shown @param {string} fit */
export function overlayOf(item, shown, fit) {
  const boxes = shown.has("faces") ? (item.metadata?.faceBoxes ?? []) : [];
  const mask = shown.has("mask") && item.maskUrl ? html`<img class="ds-mask is-${fit === "contain" ? "whole" : "cut"}" src="${item.maskUrl}" alt="" loading="lazy" decoding="async">` : "";
  return boxes.length && item.width
    ? html`${mask}<svg class="ds-faces" viewBox="0 0 ${item.width} ${item.height}" preserveAspectRatio="xMidYMid ${fit === "contain" ? "meet" : "slice"}" aria-hidden="true">${boxes.map((b) => html`<rect x="${b.x}" y="${b.y}" width="${b.width}" height="${b.height}" vector-effect="non-scaling-stroke"></rect>`)}</svg>`
    : mask;
}

/** What is said at the bottom of a picture. @param {Set<string>} shown */
export function badgesOf(item, shown) {
  const m = item.metadata ?? {};
  const list = [];
  if (item.excluded) list.push({ icon: "eye-off", label: "Excluded", text: "Excluded" });
  if (item.kind === "processed") list.push({ icon: "crop", label: `Made by ${String(item.operation ?? "an operation").replace("_", " ")}` });
  if (item.repeats > 1) list.push({ icon: "repeat", label: `Repeated ${item.repeats} times`, text: `× ${item.repeats}` });
  if (shown.has("size") && item.width) list.push({ icon: "expand", label: `${item.width} × ${item.height}`, text: `${item.width} × ${item.height}` });
  if (shown.has("faces") && typeof m.faces === "number") list.push({ icon: "face", label: m.faces ? plural(m.faces, "face") : "No face", text: number(m.faces) });
  if (shown.has("mask") && item.maskUrl) list.push({ icon: "layers", label: "Has a mask" });
  if (shown.has("group") && m.duplicateGroup) list.push({ icon: "copy", label: "Has a double" });
  if (shown.has("blur") && typeof m.sharpness === "number") list.push({ icon: m.sharpness < BLURRED ? "alert" : "eye", label: `Sharpness ${number(m.sharpness)}${m.sharpness < BLURRED ? ", blurry" : ""}`, text: number(m.sharpness) });
  return list;
}

/** A picture as the grid and the viewer want it. */
export const asItem = (image) => ({ ...image, type: "image", altText: image.filename });

/** What is known about a picture, for the viewer's side panel. */
export function details(item) {
  const m = item.metadata ?? {};
  const figure = (value, digits = 0) => (typeof value === "number" ? number(value, digits) : null);
  const rows = [
    ["File", item.filename], ["Size", item.width ? `${item.width} × ${item.height}` : null], ["Format", item.format], ["Folder", item.folder], ["Repeats", item.repeats > 1 ? item.repeats : null], ["Concept", item.concept],
    ["Mask", item.maskUrl ? html`<a href="${item.maskUrl}" target="_blank" rel="noopener">${m.mask?.width} × ${m.mask?.height}</a>` : null],
    ["Faces", figure(m.faces)], ["Likeness of the face", figure(m.faceMatch, 2)], ["Sharpness", figure(m.sharpness)], ["Brightness", figure(m.brightness)], ["Contrast", figure(m.contrast)], ["JPEG quality", figure(m.jpegQuality)],
    ["Tokens", [typeof m.tokensClip === "number" && `${m.tokensClip} CLIP`, typeof m.tokensT5 === "number" && `${m.tokensT5} T5`].filter(Boolean).join(", ")],
    ["Caption by", item.captionSource && item.captionSource !== "none" ? SOURCES[item.captionSource] : null], ["SHA-256", item.sha256?.slice(0, 16)],
  ];
  return html`<h2>Details</h2><section class="stack-1"><h3><label for="ds-viewer-caption">Caption</label></h3><textarea id="ds-viewer-caption" data-key="c-${item.id}" data-viewer-image="${item.id}" rows="4" maxlength="20000" spellcheck="false">${draftOf(item)}</textarea><p class="small muted">Enter saves, Shift+Enter is a new line.</p></section>
    <dl class="facts">${rows.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>`;
}
