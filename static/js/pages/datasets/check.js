/** Records against files: what is missing, what is there that nobody knows, and the repair. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { number, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";

/** @param {any} page as detail.js gives it */
export async function checkDialog(page) {
  const { dialog, closed } = openDialog({
    title: "Compare with the disk", size: "m", body: html`<div class="ds-check">${skeleton("lines", 4)}</div>`,
    footer: html`<button type="button" class="btn" data-close="">Close</button><button type="button" class="btn" data-action="read">${icon("disk")}Read every file</button><button type="button" class="btn btn-primary" data-action="repair" disabled>${icon("refresh")}Repair</button>`,
  });
  const box = dialog.querySelector(".ds-check");
  async function look() {
    try {
      const report = await api.get(page.path("/check"));
      const codes = [...new Set(report.problems.map((p) => p.code))];
      dialog.querySelector("[data-action=repair]").disabled = !report.problems.length;
      render(box, report.problems.length
        ? html`<p>These records and files do not fit together:</p>${codes.map((code) => {
            const rows = report.problems.filter((p) => p.code === code);
            return html`<section class="stack-1 ds-check-part" data-key="${code}"><h3>${rows[0].detail} <span class="count">${number(report.counts?.[code] ?? rows.length)}</span></h3><p class="small muted">Repair: ${rows[0].repair}</p><ul class="ds-plain small">${rows.slice(0, 20).map((r) => html`<li class="mono">${r.name}</li>`)}${rows.length > 20 && html`<li>and ${number(rows.length - 20)} more</li>`}</ul></section>`;
          })}`
        : html`<p class="ds-good">${icon("ok")}<span>Every record has its file and every file its record${typeof report.images === "number" ? ` (${plural(report.images, "picture")})` : ""}. Whether the bytes are still the same is found out by reading them.</span></p>`);
    } catch (error) {
      render(box, errorState(error, { compact: true }));
    }
  }
  const start = (repair) => async (_e, el) => busy(el, async () => {
    try {
      const { taskId } = await api.post(page.path("/check"), { repair });
      page.follow(taskId);
      dialog.close("");
    } catch (error) {
      toast.error(error);
    }
  });
  onAction(dialog, { retry: look, read: start(false), repair: start(true) });
  await look();
  await closed;
}
