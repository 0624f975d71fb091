/** Cleaning: what could go, with a tick each, then it goes. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, render } from "../../dom.js";
import { bytes, percent, plural } from "../../format.js";
import { cancel, follow } from "../../jobs.js";
import { openDialog } from "../../components/confirm-dialog.js";

/** Gone for good and wanted by many: ticked only by hand. */
const BY_HAND = new Set(["trash", "before_restore", "exports_old"]);

/** @param {any[]} kinds of GET /api/storage `cleaning` @returns {Promise<{files: number, bytes: number, left: number}|null>} */
export async function cleanDialog(kinds) {
  let plan = null,
    problem = null,
    task = null,
    done = null,
    ticked = new Set();
  const { dialog, closed } = openDialog({
    title: "Clean up",
    size: "m",
    body: html`<div class="stack-3" data-list></div>`,
    footer: html`<p class="small" role="status" data-total></p><span class="spacer"></span><button type="button" class="btn" data-close="" autofocus data-cancel>Cancel</button><button type="button" class="btn btn-danger" data-go data-primary disabled>Delete</button>`,
    onOpen: (d) => d.querySelector("[autofocus]").focus(),
  });
  const list = dialog.querySelector("[data-list]"),
    goButton = dialog.querySelector("[data-go]");
  const chosen = () => (plan?.items ?? []).filter((i) => ticked.has(i.what) && i.files > 0);

  function paint() {
    const sum = chosen().reduce((a, i) => ({ files: a.files + i.files, bytes: a.bytes + i.bytes }), { files: 0, bytes: 0 });
    dialog.querySelector("[data-total]").textContent = plan && !task ? (sum.files ? `${plural(sum.files, "file")}, ${bytes(sum.bytes)}` : "Nothing is ticked") : "";
    goButton.disabled = !sum.files || Boolean(task);
    const nothing = Boolean(plan) && !plan.items.some((i) => i.files);
    goButton.hidden = nothing;
    dialog.querySelector("[data-cancel]").textContent = nothing ? "Close" : "Cancel";
    if (nothing) dialog.querySelector("[data-total]").textContent = "";
    if (task) {
      const { done: n = 0, total = 0 } = task.progress ?? {};
      render(list, html`<p role="status">Deleting${total > 0 && html` · ${percent(n / total)}`}</p><progress ${attrs({ value: total > 0 ? n / total : undefined, max: 1 })} aria-label="Deleting"></progress>`);
    } else if (problem) render(list, html`<div class="se-result is-bad" role="alert">${icon("alert")}<div class="stack-1"><p>${problem.message}</p>${problem.remedy && html`<p class="se-fix">${problem.remedy}</p>`}</div></div>`);
    else if (!plan) render(list, html`<p role="status">Looking…</p><progress aria-label="Looking for leftovers"></progress>`);
    else if (!plan.items.some((i) => i.files)) render(list, html`<p role="status">There is nothing to clean up.</p>`);
    else
      render(
        list,
        html`<p class="muted">This is the list; nothing has gone yet.</p><ul class="se-plan">${plan.items.filter((i) => i.files).map((i) => html`<li data-key="${i.what}"><label class="check"><input type="checkbox" value="${i.what}" ${attrs({ checked: ticked.has(i.what) })}><span><strong>${i.label}</strong><span class="small muted">${i.detail}</span>${i.examples?.length > 0 && html`<span class="small muted mono se-examples">${i.examples.slice(0, 3).join(", ")}${i.files > 3 ? " …" : ""}</span>`}</span></label><span class="end"><strong>${bytes(i.bytes)}</strong><span class="small muted">${plural(i.files, "file")}</span></span></li>`)}</ul>`,
      );
  }
  async function look() {
    try {
      const what = kinds.map((k) => (typeof k === "string" ? k : (k.what ?? k.id)));
      plan = await api.post("/api/storage/clean", { what, dryRun: true });
      ticked = new Set(plan.items.filter((i) => i.files && !BY_HAND.has(i.what)).map((i) => i.what));
    } catch (error) {
      problem = error;
    }
    if (dialog.open) paint();
  }
  async function go() {
    try {
      const { taskId } = await api.post("/api/storage/clean", { what: [...chosen().map((i) => i.what)], dryRun: false, planId: plan.planId });
      task = { id: taskId };
      paint();
      const end = await follow(taskId, {
        onProgress: (t) => {
          task = { ...t, id: taskId };
          if (dialog.open) paint();
        },
      });
      done = end.result ?? { files: 0, bytes: 0, left: 0 };
      task = null;
      dialog.beforeClose = undefined;
      dialog.close("done");
    } catch (error) {
      task = null;
      plan = null;
      problem = error;
      if (dialog.open) paint();
    }
  }
  dialog.addEventListener("change", (event) => {
    ticked[event.target.checked ? "add" : "delete"](event.target.value);
    paint();
  });
  goButton.addEventListener("click", () => busy(goButton, go));
  dialog.beforeClose = () => {
    if (task) cancel(task.id).catch(() => {});
  };
  paint();
  look();
  await closed;
  return done;
}
