/** Removing weights with Undo, and the dialog of what was removed. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, bytes } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { consequences } from "./words.js";

/** Move weights to the trash after saying what that affects. @returns {Promise<boolean>} whether they went */
export async function removeWeights(rows, { changed }) {
  const ids = rows.map((row) => row.id);
  const { items } = await api.post("/api/shelf/trash", { ids, dryRun: true });
  const bundled = rows.some((row) => row.bundled);
  const blocked = items.find((item) => item.blocked && !(bundled && /comes with the app/.test(item.blocked)));
  if (blocked) {
    toast.error(`${blocked.name} cannot be removed. ${blocked.blocked}`);
    return false;
  }
  const effects = consequences(items);
  if (effects.length && !(await confirmDialog({ title: rows.length === 1 ? `Remove ${rows[0].label}?` : `Remove ${rows.length} of the shelf?`, consequences: [...effects, "It can be brought back from the trash."], confirmLabel: "Remove", danger: bundled }))) return false;
  const gone = (await api.post("/api/shelf/trash", { ids, force: bundled })).items;
  await changed();
  toast.success(gone.length === 1 ? `${gone[0].name} removed` : `${gone.length} removed`, {
    undo: async () => {
      await api.post("/api/shelf/restore", { ids: gone.map((item) => item.trashId) });
      await changed();
    },
  });
  return true;
}

/** What was removed: bring back, or delete for good. @param {{changed: () => Promise<void>, kinds?: Record<string, string>}} owner `kinds`: key → label */
export async function trashDialog(owner) {
  let items = null,
    error = null;
  const { dialog, closed } = openDialog({ title: "Removed weights", size: "m", body: html`<div data-list></div>`, footer: html`<button type="button" class="btn" data-close="">Close</button>` });
  const list = dialog.querySelector("[data-list]");
  const paint = () =>
    render(
      list,
      error
        ? errorState(error, { action: "trash-reload", compact: true })
        : !items
          ? skeleton("rows", 3)
          : !items.length
            ? emptyState({ icon: "trash", title: "The trash is empty", text: "What is removed from the shelf stays here for a while.", compact: true })
            : html`<ul class="ms-trash">${items.map((t) => html`<li data-key="${t.id}"><div class="ms-held-what"><strong>${t.name}</strong><small class="muted">${[owner.kinds?.[t.kind] ?? t.kind, bytes(t.sizeBytes), ago(t.deletedAt)].join(" · ")}</small></div>
              <button type="button" class="btn btn-small" data-action="trash-back" data-id="${t.id}" data-needs="admin" aria-label="Bring ${t.name} back">${icon("undo")}Bring back</button><button type="button" class="icon-btn" data-action="trash-purge" data-id="${t.id}" data-needs="admin" aria-label="Delete ${t.name} for good" title="Delete for good">${icon("trash")}</button></li>`)}</ul>`,
    );
  const load = async () => {
    try {
      items = (await api.get("/api/shelf/trash")).items;
      error = null;
    } catch (problem) {
      error = problem;
    }
    paint();
  };
  onAction(dialog, {
    "trash-reload": load,
    "trash-back": (_e, el) =>
      busy(el, async () => {
        try {
          await api.post("/api/shelf/restore", { ids: [el.dataset.id] });
          await Promise.all([load(), owner.changed()]);
        } catch (problem) {
          toast.error(problem);
        }
      }),
    "trash-purge": async (_e, el) => {
      const item = items.find((t) => t.id === el.dataset.id);
      if (!(await confirmDialog({ title: `Delete ${item.name} for good?`, consequences: [`${bytes(item.sizeBytes)} are freed.`, "This cannot be undone."], confirmLabel: "Delete for good", danger: true }))) return;
      await busy(el, async () => {
        try {
          await api.delete(`/api/shelf/trash/${encodeURIComponent(item.id)}`);
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      });
    },
  });
  paint();
  await load();
  await closed;
}
