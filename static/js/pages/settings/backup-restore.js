/** Restoring a backup: what it holds and replaces, then the word typed, then it is prepared for the next start. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, render } from "../../dom.js";
import { bytes, dateTime, number, percent, plural, words } from "../../format.js";
import { cancel, follow } from "../../jobs.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { comparison } from "./backup-words.js";

const WORD = "restore";

/**
 * @param {{name: string, uploadId?: string}} what a backup of the list by name, or an upload
 * @returns {Promise<boolean>} whether a restore is prepared now
 */
export async function restoreDialog({ name, uploadId }) {
  let plan = null,
    problem = null,
    passphrase = "",
    task = null;
  const source = uploadId ? { uploadId } : { name };
  const { dialog, closed } = openDialog({
    title: "Restore a backup",
    body: html`<div class="stack-4" data-plan></div>`,
    footer: html`<button type="button" class="btn" data-close="" autofocus>Cancel</button><span class="spacer"></span><button type="button" class="btn btn-danger" data-go disabled>Prepare the restore</button>`,
    onOpen: (d) => d.querySelector("[autofocus]").focus(),
  });
  const body = dialog.querySelector("[data-plan]");
  const goButton = dialog.querySelector("[data-go]");
  const typed = () => dialog.querySelector("#se-typed")?.value.trim().toLowerCase() === WORD;
  const refresh = () => {
    goButton.disabled = !plan?.restorable || !typed() || Boolean(task);
  };

  function paint() {
    if (task) {
      const { done = 0, total = 0, message = "" } = task.progress ?? {};
      render(body, html`<p role="status">${message || "Checking and unpacking"}${total > 0 && html` · ${percent(done / total)}`}</p><progress ${attrs({ value: total > 0 ? done / total : undefined, max: 1 })} aria-label="Preparing the restore"></progress><p class="muted small">Nothing is replaced before the restart.</p>`);
    } else if (problem) render(body, html`<div class="se-result is-bad" role="alert">${icon("alert")}<div class="stack-1"><p>${problem.message}</p>${problem.remedy && html`<p class="se-fix">${problem.remedy}</p>`}</div></div>`);
    else if (!plan) render(body, html`<p role="status">Looking into ${name}…</p><progress aria-label="Looking into the backup"></progress>`);
    else render(body, view());
    refresh();
  }
  function view() {
    const rows = comparison(plan.replaces, words);
    return html`<p>Made <strong>${dateTime(plan.createdAt)}</strong> with version ${plan.version}: ${plural(plan.files, "file")}, ${bytes(plan.bytes)}.</p>
      ${plan.problems?.length > 0 && html`<div class="se-result is-bad" role="alert">${icon("alert")}<div class="stack-1"><p><strong>It cannot be restored.</strong></p><ul>${plan.problems.map((p) => html`<li>${p.detail ?? p}</li>`)}</ul></div></div>`}
      ${rows.length > 0 && html`<table class="se-compare"><thead><tr><th scope="col">What</th><th scope="col" class="end">Here now</th><th scope="col" class="end">After</th></tr></thead><tbody>${rows.map((r) => html`<tr class="${r.less ? "is-less" : ""}"><th scope="row">${r.label}</th><td class="end">${number(r.now)}</td><td class="end">${number(r.backup)}${r.less && html`<span class="visually-hidden">, fewer</span>`}</td></tr>`)}</tbody></table>`}
      ${plan.notes?.length > 0 && html`<ul class="consequences">${plan.notes.map((n) => html`<li>${n}</li>`)}</ul>`}
      ${plan.encryptedKeys && plan.keys === null && html`<form class="field" data-form="keys" novalidate><label for="se-restore-pass">Passphrase of its keys (leave empty to keep the keys that are here)</label><div class="field-control"><input type="password" id="se-restore-pass" autocomplete="off"><button type="submit" class="btn">Check</button></div><p class="field-error" data-wrong hidden></p></form>`}
      ${plan.restorable && html`<div class="field"><label for="se-typed">Type <strong>${WORD}</strong> to go on</label><input id="se-typed" autocomplete="off" spellcheck="false" autocapitalize="off"></div>`}`;
  }

  async function look() {
    try {
      plan = await api.post("/api/backups/restore", { ...source, dryRun: true, ...(passphrase ? { passphrase } : {}) });
      problem = null;
    } catch (error) {
      if (passphrase && plan) {
        passphrase = "";
        const slot = dialog.querySelector("[data-wrong]");
        slot.textContent = error.message;
        slot.hidden = false;
        return;
      }
      problem = error;
    }
    if (dialog.open) paint();
  }
  async function go() {
    try {
      const { taskId } = await api.post("/api/backups/restore", { ...source, dryRun: false, ...(passphrase ? { passphrase } : {}) });
      task = { id: taskId };
      paint();
      await follow(taskId, {
        onProgress: (t) => {
          task = { ...t, id: taskId };
          if (dialog.open) paint();
        },
      });
      dialog.beforeClose = undefined;
      dialog.close("done");
    } catch (error) {
      task = null;
      plan = null;
      problem = error;
      if (dialog.open) paint();
    }
  }

  dialog.addEventListener("input", refresh);
  dialog.addEventListener("submit", (event) => {
    event.preventDefault();
    passphrase = dialog.querySelector("#se-restore-pass").value;
    busy(event.target.querySelector("button"), look);
  });
  goButton.addEventListener("click", () => busy(goButton, go));
  dialog.beforeClose = () => {
    if (task) cancel(task.id).catch(() => {});
  };
  paint();
  look();
  return (await closed) === "done";
}
