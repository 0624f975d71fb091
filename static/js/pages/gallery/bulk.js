/** What can be done to the selected pictures: the bar at the bottom and its actions. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { number, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { avatar } from "../../components/avatar.js";
import { confirmDialog } from "../../components/confirm-dialog.js";
import { zipParts } from "./zip.js";

export const BULK_LIMIT = 10_000;
const ZIP_FILES = 500;
const ZIP_BYTES = 1.5e9;

/** @param {{ids: string[], total: number, state: any, allStarred: boolean, collections: any[], characters: any[]}} view */
export function bulkBar({ ids, total, state, allStarred, collections, characters }) {
  const n = number(ids.length);
  const matching = Math.min(total, BULK_LIMIT);
  const all =
    ids.length < matching
      ? html`<button type="button" class="btn btn-ghost btn-small" data-action="select-matching">Select all ${number(matching)}${total > BULK_LIMIT ? ` of ${number(total)}` : ""}</button>`
      : "";
  const head = html`<button type="button" class="icon-btn" data-action="clear-selection" aria-label="Clear the selection" title="Clear the selection (Esc)">${icon("x")}</button><strong role="status">${n} selected</strong>${all}<span class="spacer"></span>`;
  if (state.trashed)
    return html`${head}<button type="button" class="btn" data-action="bulk-restore">${icon("undo")}Restore ${n}</button><button type="button" class="btn btn-danger" data-action="bulk-delete" data-needs="write">${icon("trash")}<span>Delete ${n} for good</span></button>`;
  return html`${head}
    <button type="button" class="btn" data-action="bulk-star" data-needs="write" aria-label="${allStarred ? `Unstar ${n}` : `Star ${n}`}">${icon(allStarred ? "star-filled" : "star")}<span class="gl-word">${allStarred ? "Unstar" : "Star"}</span></button>
    <button type="button" class="btn" data-action="bulk-post" data-needs="publish" aria-label="Post ${n}" title="Post (p)">${icon("send")}<span class="gl-word">Post…</span></button>
    <button type="button" class="btn" data-action="bulk-schedule" data-needs="publish" aria-label="Schedule ${n}">${icon("calendar")}<span class="gl-word">Schedule…</span></button>
    <button type="button" class="btn" popovertarget="gl-bulk-coll" aria-label="Add ${n} to a collection">${icon("folder")}<span class="gl-word">Collection</span></button>
    <div id="gl-bulk-coll" popover class="popover menu" role="menu" aria-label="Add to a collection">${collections.map((c) => html`<button type="button" role="menuitem" data-action="bulk-collect" data-needs="write" data-id="${c.id}">${icon("folder")}<span>${c.name}</span></button>`)}${collections.length > 0 && html`<hr>`}
      <button type="button" role="menuitem" data-action="bulk-collect-new">${icon("plus")}<span>New collection…</span></button>${state.collectionId && html`<hr><button type="button" role="menuitem" data-action="bulk-uncollect" data-needs="write">${icon("minus")}<span>Take out of this collection</span></button>`}</div>
    <button type="button" class="btn" popovertarget="gl-bulk-char" aria-label="Set the character of ${n}">${icon("user")}<span class="gl-word">Character</span></button>
    <div id="gl-bulk-char" popover class="popover menu" role="menu" aria-label="Set the character">${characters.map((c) => html`<button type="button" role="menuitem" data-action="bulk-character" data-needs="write" data-id="${c.id}">${avatar(c, "s")}<span>${c.name}</span></button>`)}${characters.length > 0 && html`<hr>`}<button type="button" role="menuitem" data-action="bulk-character" data-needs="write" data-id="">${icon("off")}<span>No character</span></button></div>
    ${ids.length === 2 && html`<button type="button" class="btn" data-action="bulk-compare" title="Compare (c)">${icon("compare")}<span class="gl-word">Compare</span></button>`}
    <button type="button" class="btn" data-action="bulk-download" aria-label="Download ${n}">${icon("download")}<span class="gl-word">Download</span></button>
    <button type="button" class="btn gl-trash" data-action="bulk-trash" data-needs="write">${icon("trash")}<span>Trash ${n}</span></button>`;
}

/** One bulk call, in pieces the server takes; says what failed. @returns {Promise<string[]>} ids it worked for */
export async function bulk(action, ids, more = {}) {
  const succeeded = [],
    failed = [];
  for (let at = 0; at < ids.length; at += BULK_LIMIT) {
    const answer = await api.post("/api/media/bulk", { action, ids: ids.slice(at, at + BULK_LIMIT), ...more });
    succeeded.push(...answer.succeeded);
    failed.push(...answer.failed);
  }
  if (failed.length) toast.error(`${plural(failed.length, "picture")} could not be changed.`, { detail: failed[0].detail });
  return succeeded;
}

/** @param {number} count */
export const confirmForGood = (count) =>
  confirmDialog({
    title: count === 1 ? "Delete this picture for good?" : `Delete ${plural(count, "picture")} for good?`,
    consequences: [
      count === 1
        ? "The file and what is known about how it was made are removed."
        : "The files and what is known about how they were made are removed.",
      "This cannot be undone.",
    ],
    confirmLabel: count === 1 ? "Delete for good" : `Delete ${number(count)} for good`,
    typed: count > 1 ? "delete" : undefined,
  });

const save = (href, name) => {
  const a = document.createElement("a");
  a.href = href;
  a.download = name;
  document.body.append(a);
  a.click();
  a.remove();
};

/**
 * One picture as it is, several as one ZIP.
 * @param {string[]} ids @param {(id: string) => any} known @param {(done: number) => void} onProgress
 */
export async function download(ids, known, onProgress) {
  const item = (id) => known(id) ?? { id, fileUrl: `/api/media/${encodeURIComponent(id)}/file`, mime: "image/png" };
  const name = (i) => `${i.id}.${{ "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4", "image/gif": "gif" }[i.mime] ?? "png"}`;
  if (ids.length === 1) {
    const one = item(ids[0]);
    save(one.fileUrl, name(one));
    return;
  }
  if (ids.length > ZIP_FILES) {
    toast.error(`At most ${number(ZIP_FILES)} pictures go into one download.`, { detail: "Select fewer, and download the others next." });
    return;
  }
  const files = [],
    missing = [];
  let bytes = 0,
    next = 0;
  const work = async () => {
    while (next < ids.length) {
      const one = item(ids[next++]);
      try {
        const response = await fetch(one.fileUrl);
        if (!response.ok) throw new Error(String(response.status));
        const data = new Uint8Array(await response.arrayBuffer());
        bytes += data.length;
        if (bytes > ZIP_BYTES) throw new RangeError("too large");
        files.push({ name: name(one), data, date: one.createdAt ? new Date(one.createdAt) : undefined });
      } catch (error) {
        if (error instanceof RangeError) throw error;
        missing.push(one.id);
      }
      onProgress(files.length);
    }
  };
  try {
    await Promise.all([work(), work(), work(), work()]);
  } catch {
    toast.error("Together these pictures are too large for one download.", { detail: "Select fewer, and download the others next." });
    return;
  }
  if (!files.length) {
    toast.error("None of these files could be read.");
    return;
  }
  const href = URL.createObjectURL(new Blob(zipParts(files), { type: "application/zip" }));
  save(href, `pictures-${new Date().toISOString().slice(0, 10)}.zip`);
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
  if (missing.length) toast.error(`${plural(missing.length, "file")} could not be read.`, { detail: missing.slice(0, 3).join(", ") });
  else toast.success(`${plural(files.length, "picture")} downloaded as a ZIP`);
}
