/** The texts a picture had, and the way back to one of them. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, dateTime } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { SOURCES } from "./query.js";

/** Who wrote it, in words. */
export const writer = (entry) => (String(entry.modelUsed ?? "").startsWith("undo:") ? "brought back" : entry.source === "engine" && entry.modelUsed ? entry.modelUsed : entry.source === "edit" && entry.modelUsed ? `edit: ${String(entry.modelUsed).replace(/_/g, " ")}` : (SOURCES[entry.source] ?? entry.source));

/** @param {any} image @returns {Promise<any|null>} the picture as it is then, null when nothing changed */
export async function historyDialog(image) {
  const path = `/api/images/${encodeURIComponent(image.id)}`;
  let answer = null;
  const { dialog, closed } = openDialog({ title: "Caption history", size: "m", body: html`<div class="ds-history">${skeleton("rows", 3)}</div>`, footer: html`<button type="button" class="btn" data-action="undo">${icon("undo")}Undo the last change</button><button type="button" class="btn btn-primary" data-close="">Close</button>` });
  const box = dialog.querySelector(".ds-history");
  async function load() {
    try {
      const { entries: items, undoTo } = await api.get(`${path}/captions`);
      render(box, html`<p class="small muted">${image.filename}</p><ol class="ds-entries">${items.map((e, i) => html`<li data-key="e${e.id}"><p class="prompt-text">${e.text || html`<span class="muted">No caption</span>`}</p><p class="small muted row"><span>${writer(e)}</span><span title="${dateTime(e.createdAt)}">${ago(e.createdAt)}</span>${e.locked && html`<span>${icon("lock", "Locked")}</span>`}${i === 0 ? html`<span class="badge badge-good"><span>Current</span></span>` : html`<button type="button" class="btn btn-small" data-action="back" data-id="${e.id}">${icon("undo")}Use this one</button>`}</p></li>`)}</ol>`);
      dialog.querySelector("[data-action=undo]").disabled = !undoTo;
    } catch (error) {
      render(box, errorState(error, { compact: true }));
    }
  }
  onAction(dialog, {
    retry: load,
    undo: (_e, el) => busy(el, async () => {
      try {
        const back = await api.post(`${path}/captions/undo`);
        answer = back;
        toast.success("The last change of the caption was taken back");
        await load();
      } catch (error) {
        toast.error(error);
      }
    }),
    back: (_e, el) => busy(el, async () => {
      try {
        answer = await api.post(`${path}/captions/undo`, { entryId: Number(el.dataset.id) });
        await load();
      } catch (error) {
        toast.error(error);
      }
    }),
  });
  await load();
  await closed;
  return answer;
}
