/** Moving a folder to another place: say where, see what it means, then it is copied, compared and switched over. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, render } from "../../dom.js";
import { bytes, percent, plural } from "../../format.js";
import { cancel, follow } from "../../jobs.js";
import { openDialog } from "../../components/confirm-dialog.js";

/**
 * How the data folder is moved, which cannot be done while the app uses it. The media lie in it.
 * @param {any} data the data folder, of GET /api/storage @param {any} [media] the media in it
 */
export function dataMoveDialog(data, media) {
  const size = (l) => (l.sizeBytes === null ? "" : ` (${bytes(l.sizeBytes)})`);
  const setting = data.locked
    ? html`Change <code>${data.env}</code> to the new folder where it is set now, in the environment or in <code>.env</code>.`
    : html`Write <code>${data.env}=/the/new/folder</code> into the file <code>.env</code> beside <code>app.py</code>.`;
  openDialog({
    title: "Move the data folder",
    body: html`<div class="stack-4"><p>The media, the database and everything else of the app lie in <span class="mono se-path">${data.path}</span>${size(data)}${media && html`, the media in <span class="mono se-path">${media.path}</span>${size(media)}`}. They are moved together, while the app is stopped.</p>
      <ol><li><a href="/settings.html?section=backup">Make a backup</a>.</li><li>Stop Digital Dalla: Ctrl-C where it runs.</li><li>Move the folder with everything in it to its new place.</li><li>${setting}</li><li>Start Digital Dalla. This page then names the new folder.</li></ol></div>`,
    footer: html`<span class="spacer"></span><button type="button" class="btn" data-close="" autofocus>Close</button>`,
    onOpen: (d) => d.querySelector("[autofocus]").focus(),
  });
}

/** @param {any} location of GET /api/storage @returns {Promise<any>} what the task answered; null when nothing was moved */
export async function moveDialog(location) {
  let plan = null,
    task = null,
    done = null;
  const { dialog, closed } = openDialog({
    title: `Move ${location.label}`,
    body: html`<form class="stack-4" data-form="move" novalidate><p>Now in <span class="mono se-path">${location.path}</span></p>
      <div class="field"><label for="se-target">New folder</label><div class="field-control"><input id="se-target" name="target" class="mono" autocomplete="off" spellcheck="false" placeholder="/mnt/large/${location.id}" autofocus><button type="submit" class="btn">Look</button></div><p class="field-hint">A folder that is not there yet, or an empty one.</p><p class="field-error" role="alert" data-wrong hidden></p></div><div data-plan></div></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><span class="spacer"></span><button type="button" class="btn btn-primary" data-go data-primary disabled>Move</button>`,
    onOpen: (d) => d.querySelector("[autofocus]").focus(),
  });
  const input = dialog.querySelector("#se-target"),
    goButton = dialog.querySelector("[data-go]"),
    wrong = dialog.querySelector("[data-wrong]");
  const text = (p) => p.detail ?? p.message ?? p;
  function paint() {
    goButton.disabled = !plan || plan.problems.length > 0 || Boolean(task);
    input.disabled = Boolean(task);
    const slot = dialog.querySelector("[data-plan]");
    if (task) {
      const { done: n = 0, total = 0, message = "" } = task.progress ?? {};
      render(slot, html`<p role="status">${message || "Moving"}${total > 0 && html` · ${percent(n / total)}`}</p><progress ${attrs({ value: total > 0 ? n / total : undefined, max: 1 })} aria-label="Moving"></progress><p class="small muted">The old folder stays until everything is there.</p>`);
    } else if (plan)
      render(
        slot,
        plan.problems.length
          ? html`<div class="se-result is-bad" role="alert">${icon("alert")}<div class="stack-1">${plan.problems.map((p) => html`<p>${text(p)}</p>`)}</div></div>`
          : html`<div class="se-result is-ok" role="status">${icon("ok")}<div class="stack-1"><p><strong>${plural(plan.files, "file")}, ${bytes(plan.bytes)}</strong> would be moved. ${plan.freeBytes !== null && plan.freeBytes !== undefined ? `${bytes(plan.freeBytes)} are free there.` : ""}</p>${(plan.notes ?? []).map((n) => html`<p class="small muted">${text(n)}</p>`)}</div></div>`,
      );
    else render(slot, "");
  }
  const complain = (message) => {
    wrong.textContent = message;
    wrong.hidden = !message;
  };
  async function look() {
    complain("");
    plan = null;
    const target = input.value.trim();
    if (!target) {
      complain("Enter a folder.");
      input.focus();
      return;
    }
    try {
      plan = { problems: [], ...(await api.post("/api/storage/move", { location: location.id, target, dryRun: true })), target };
    } catch (error) {
      complain([error.message, error.remedy].filter(Boolean).join(" "));
    }
    if (dialog.open) paint();
  }
  async function go() {
    try {
      const { taskId } = await api.post("/api/storage/move", { location: location.id, target: plan.target, dryRun: false });
      task = { id: taskId };
      paint();
      const end = await follow(taskId, {
        onProgress: (t) => {
          task = { ...t, id: taskId };
          if (dialog.open) paint();
        },
      });
      done = end.result ?? {};
      task = null;
      dialog.beforeClose = undefined;
      dialog.close("done");
    } catch (error) {
      task = null;
      plan = null;
      complain([error.message, error.remedy].filter(Boolean).join(" "));
      if (dialog.open) paint();
    }
  }
  dialog.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(event.target.querySelector("[type=submit]"), look);
  });
  input.addEventListener("input", () => {
    plan = null;
    complain("");
    paint();
  });
  goButton.addEventListener("click", () => busy(goButton, go));
  dialog.beforeClose = () => {
    if (task) cancel(task.id).catch(() => {});
  };
  await closed;
  return done;
}
