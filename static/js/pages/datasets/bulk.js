/** What is done with several pictures: the bar, and the changes with their undo. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { busy } from "../../dom.js";
import { number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { historyDialog } from "./history.js";
import { operationDialog } from "./operations.js";

const AT_ONCE = 10_000; // ids one request takes
async function inParts(ids, send) {
  for (let i = 0; i < ids.length; i += AT_ONCE) await send(ids.slice(i, i + AT_ONCE));
}
const item = (name, label, glyph, extra = {}) => html`<button type="button" role="menuitem" data-action="${extra.action ?? "operate"}" ${attrs({ "data-name": extra.action ? undefined : name, "data-value": extra.value })} class="${extra.danger ? "is-danger" : ""}">${icon(glyph)}<span>${label}</span></button>`;

/** @param {{count: number, total: number, trashed: boolean, someExcluded: boolean}} view */
export function bulkBar({ count, total, trashed, someExcluded }) {
  return html`<strong>${number(count)} selected</strong>${count < total && html`<button type="button" class="btn btn-ghost btn-small" data-action="select-matching">Select all ${number(total)} matching</button>`}<button type="button" class="btn btn-ghost btn-small" data-action="clear-selection">Clear</button><span class="spacer"></span>
    ${
      trashed
        ? html`<button type="button" class="btn" data-action="restore">${icon("undo")}Restore ${number(count)}</button><button type="button" class="btn gl-trash" data-action="purge" data-needs="write">${icon("trash")}Delete ${number(count)} for good</button>`
        : html`<button type="button" class="btn" popovertarget="ds-bulk-words" aria-haspopup="menu">${icon("tag")}<span>Captions</span>${icon("chevron-up")}</button>
      <div id="ds-bulk-words" popover class="popover menu" role="menu" aria-label="Captions">${item("caption", "Write with an engine…", "bolt")}${item("tag", "Tag with an engine…", "tag")}${item("", "Add or remove tags…", "edit", { action: "tags" })}${item("", "Find and replace…", "search", { action: "edit-captions" })}${item("", "Lock captions", "lock", { action: "lock", value: "true" })}${item("", "Unlock captions", "unlock", { action: "lock", value: "false" })}</div>
      <button type="button" class="btn" popovertarget="ds-bulk-pictures" aria-haspopup="menu">${icon("image")}<span>Pictures</span>${icon("chevron-up")}</button>
      <div id="ds-bulk-pictures" popover class="popover menu" role="menu" aria-label="Pictures">${item("face_crop", "Crop faces…", "face")}${item("mask_faces", "Mask faces…", "layers")}${item("resize", "Resize…", "fit")}${item("upscale", "Upscale…", "expand")}${item("analyze", "Analyze…", "monitoring")}${item("dedupe", "Find doubles…", "copy")}<hr>${item("", "Repeats…", "repeat", { action: "repeats" })}${item("", "Concept…", "folder", { action: "concept" })}</div>
      <button type="button" class="btn" data-action="exclude" data-value="${String(!someExcluded)}">${icon(someExcluded ? "eye" : "eye-off")}<span>${someExcluded ? "Include" : "Exclude"}</span></button>
      <button type="button" class="btn gl-trash" data-action="trash" data-needs="write">${icon("trash")}<span>Trash</span></button>`
    }`;
}

/** @param {{page: any, grid: any, viewer: any, reload: () => any, facetsSoon: () => void, patch: (item: any) => void}} own */
export function bulkActions({ page, grid, viewer, facetsSoon }) {
  const after = () => { facetsSoon(); page.touched(); };
  const takeOut = (ids) => {
    grid.remove(ids);
    if (viewer.isOpen) ids.forEach((id) => viewer.remove(id));
    grid.again();
    after();
  };
  /** Set the same fields on many; what they were before is kept for the undo. */
  async function set(ids, changes, said) {
    const before = new Map();
    for (const id of ids) {
      const one = grid.find(id);
      if (one) before.set(id, Object.fromEntries(Object.keys(changes).map((k) => [k, one[k]])));
    }
    try {
      await inParts(ids, (some) => api.patch("/api/images", { ids: some, changes }));
      ids.forEach((id) => { grid.patch(id, changes); if (viewer.isOpen) viewer.patch(id, changes); });
      grid.again();
      after();
      const whole = before.size === ids.length;
      toast.success(said, whole ? {
        undo: async () => {
          const groups = new Map();
          for (const [id, old] of before) { const key = JSON.stringify(old); groups.set(key, [...(groups.get(key) ?? []), id]); }
          for (const [key, some] of groups) await inParts(some, (part) => api.patch("/api/images", { ids: part, changes: JSON.parse(key) }));
          grid.again();
          after();
        },
      } : {});
    } catch (error) {
      toast.error(error);
    }
  }
  async function ask({ title, name, label, type, value, hint, min, max, done }) {
    const { dialog, closed } = openDialog({
      title, size: "s",
      body: html`<form id="ds-ask" novalidate>${fieldRow({ name, label, type, value, hint, min, max, autofocus: true })}</form>`,
      footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-ask" class="btn btn-primary" data-primary>Set</button>`,
      onOpen: (d) => d.querySelector("input").focus(),
    });
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      busy(dialog.querySelector("[data-primary]"), async () => { await done(event.target.elements[name].value); dialog.close(""); });
    });
    await closed;
  }
  const actions = {
    async operate(name, ids) {
      const taskId = await operationDialog({ page, name, ids });
      if (taskId) { page.follow(taskId); grid.clearSelection(); }
    },
    exclude: (ids, excluded) => set(ids, { excluded }, `${plural(ids.length, "picture")} ${excluded ? "excluded: kept, but in no version, export or training" : "included again"}`),
    lock: (ids, captionLocked) => set(ids, { captionLocked }, `${plural(ids.length, "caption")} ${captionLocked ? "locked" : "unlocked"}`),
    repeats: (ids) => ask({ title: `Repeats of ${plural(ids.length, "picture")}`, name: "repeats", label: "Times per epoch", type: "number", min: 1, max: 999, value: grid.find(ids[0])?.repeats ?? 1, hint: "How often a picture is seen in one pass over the set.", done: (v) => set(ids, { repeats: Math.min(999, Math.max(1, Math.round(Number(v)) || 1)) }, `Repeats set on ${plural(ids.length, "picture")}`) }),
    concept: (ids) => ask({ title: `Concept of ${plural(ids.length, "picture")}`, name: "concept", label: "Concept", type: "text", value: grid.find(ids[0])?.concept ?? "", hint: "Pictures of one concept share a folder in kohya exports. Leave it empty for none.", done: (v) => set(ids, { concept: v.trim() }, `Concept set on ${plural(ids.length, "picture")}`) }),
    async trash(ids) {
      try {
        await inParts(ids, (some) => api.post("/api/images/trash", { ids: some }));
        takeOut(ids);
        toast.success(`${plural(ids.length, "picture")} moved to the trash`, { undo: async () => { await inParts(ids, (some) => api.post("/api/images/restore", { ids: some })); grid.again(); after(); } });
      } catch (error) {
        toast.error(error);
      }
    },
    async restore(ids) {
      try {
        await inParts(ids, (some) => api.post("/api/images/restore", { ids: some }));
        takeOut(ids);
        toast.success(`${plural(ids.length, "picture")} restored`);
      } catch (error) {
        toast.error(error);
      }
    },
    async purge(ids) {
      const yes = await confirmDialog({ title: `Delete ${plural(ids.length, "picture")} for good?`, consequences: ["The files and their captions are removed from the disk.", "Versions that hold them keep their own copies of the captions, but not of removed files."], confirmLabel: `Delete ${number(ids.length)}`, typed: ids.length > 20 ? "delete" : undefined });
      if (!yes) return;
      try {
        await inParts(ids, (some) => api.post("/api/images/trash", { ids: some, permanent: true }));
        takeOut(ids);
        toast.success(`${plural(ids.length, "picture")} deleted for good`);
      } catch (error) {
        toast.error(error);
        grid.again();
      }
    },
    history: async (one) => { if (await historyDialog(one)) { grid.again(); after(); } },
  };
  return actions;
}
