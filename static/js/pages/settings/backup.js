/** Settings, "Backup": make, list, download, delete with Undo, restore (look, confirm, stage, restart). */
import { api, isAbort } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { clearErrors, readForm, showErrors } from "../../forms.js";
import { ago, bytes, dateTime, percent, plural } from "../../format.js";
import { cancel, follow, stream } from "../../jobs.js";
import { session } from "../../session.js";
import { toast } from "../../notices.js";
import { fieldRow } from "../../components/field-row.js";
import { passwordField, watchPasswords } from "../../components/password-field.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { forget, send } from "../datasets/uploads.js";
import { restoreDialog } from "./backup-restore.js";
import { contents } from "./backup-words.js";

/** @returns {{id: string, label: string, icon: string, mount: (root: HTMLElement, options: any) => Promise<void>}} */
export function backupSection() {
  return { id: "backup", label: "Backup", icon: "save", needs: "admin", mount };
}

const path = (name) => `/api/backups/${encodeURIComponent(name)}`;

function row(b) {
  return html`<li class="se-item" data-key="${b.name}"><span class="se-sign">${icon(b.readable === false ? "alert" : "save")}</span><div class="se-item-what"><h3>${dateTime(b.createdAt)}</h3>
      <p class="small muted">${bytes(b.sizeBytes)} · ${b.readable === false ? "no backup of this app" : html`${plural(b.files, "file")} · ${ago(b.createdAt)}${b.byHand ? "" : " · by the scheduler"}`}</p>
      <p class="se-badges">${contents(b).map(([label, tone]) => html`<span class="badge badge-${tone}"><span>${label}</span></span>`)}</p></div>
    <div class="se-item-do"><a class="btn btn-small" href="${path(b.name)}" download="${b.name}" aria-label="Download the backup of ${dateTime(b.createdAt)}">${icon("download")}Download</a><button type="button" class="btn btn-small" data-action="restore" data-name="${b.name}" data-needs="admin" ${attrs({ disabled: b.readable === false })} aria-label="Restore the backup of ${dateTime(b.createdAt)}">${icon("history")}Restore</button><button type="button" class="icon-btn" data-action="delete" data-name="${b.name}" data-needs="admin" aria-label="Delete the backup of ${dateTime(b.createdAt)}">${icon("trash")}</button></div></li>`;
}

function maker(making) {
  return html`<header class="panel-head"><h2 id="se-make">Make a backup</h2></header>
    <p class="muted se-text">Characters, prompts, schedule, posts, accounts, settings and the database are always in it. Model weights are not: they can be fetched again.</p>
    <form class="stack-4" data-form="make" novalidate><fieldset class="se-picks" data-needs="admin"><legend class="visually-hidden">What goes into it too</legend>
      ${fieldRow({ name: "media", id: "se-media", label: "Pictures of the gallery", type: "checkbox", value: true })}
      ${fieldRow({ name: "datasets", id: "se-datasets", label: "Datasets and training pictures", type: "checkbox", value: true })}
      ${fieldRow({ name: "loras", id: "se-loras", label: "Trained LoRAs", type: "checkbox", value: false })}
      ${fieldRow({ name: "keys", id: "se-keys", label: "Keys of accounts and services", type: "checkbox", value: false, hint: "Encrypted with a passphrase. Without them, keys have to be entered again on another computer." })}</fieldset>
      <div class="se-narrow stack-1" data-passphrase hidden>${passwordField({ id: "se-passphrase", name: "passphrase", label: "Passphrase", isNew: true })}<p class="field-hint">Without it, nobody gets the keys out of the backup again. It is not stored.</p></div>
      <div class="row"><button type="submit" class="btn btn-primary" data-primary data-needs="admin" ${attrs({ disabled: Boolean(making) })}>${icon("save")}Make a backup</button></div></form>
    <div data-making></div>`;
}

async function mount(root, { signal, restart, setStaged }) {
  let items = null,
    staged = null,
    problem = null,
    making = null;
  render(
    root,
    html`<div class="stack-4"><div data-part="staged"></div><section class="panel se-panel" id="make" aria-labelledby="se-make">${maker(null)}</section>
      <section class="panel se-panel" aria-labelledby="se-backups"><header class="panel-head"><h2 id="se-backups">Backups</h2></header><div data-part="list">${skeleton("rows", 3)}</div></section>
      <section class="panel se-panel" id="restore" aria-labelledby="se-restore"><header class="panel-head"><h2 id="se-restore">Restore from a file</h2></header><div data-part="file"></div></section></div>`,
  );
  const $ = (s) => root.querySelector(s);
  const form = $("[data-form=make]");
  watchPasswords(form, { own: () => [], signal });

  function paintList() {
    if (problem) render($("[data-part=list]"), errorState(problem, { title: "The backups could not be listed", action: "retry", compact: true }));
    else if (items)
      render(
        $("[data-part=list]"),
        items.length
          ? html`<ul class="se-items">${items.map(row)}</ul>`
          : emptyState({ icon: "save", title: "No backup yet", text: "Make one above, or have the schedule make one every night.", action: { label: "Open the schedule", href: "/schedule.html" }, compact: true }),
      );
  }
  function paintStaged() {
    render(
      $("[data-part=staged]"),
      staged &&
        html`<div class="se-staged ${staged.error ? "is-bad" : ""}" role="status">${icon(staged.error ? "alert" : "history")}<div class="stack-2"><h3>${staged.error ? "The restore failed" : "A backup is ready to be restored"}</h3><p>${staged.error ? staged.error : html`Of ${dateTime(staged.createdAt)}, ${plural(staged.files, "file")}, ${bytes(staged.bytes)}. It takes the place of what is here at the next start; what is here now is set aside, not deleted.`}</p>
          <div class="row">${!staged.error && html`<button type="button" class="btn btn-primary" data-action="restart-now" data-needs="admin">${icon("refresh")}Restart now</button>`}<button type="button" class="btn" data-action="forget" data-needs="admin">Forget it</button></div></div></div>`,
    );
    setStaged(staged && !staged.error ? staged : null);
  }
  function paintFile(state = null) {
    render(
      $("[data-part=file]"),
      state
        ? html`<div class="stack-2"><p role="status">${state.text}</p><progress ${attrs({ value: state.done, max: 1 })} aria-label="${state.text}"></progress><div><button type="button" class="btn btn-small" data-action="stop-upload">Cancel</button></div></div>`
        : html`<p class="muted se-text">A backup that was downloaded before. It is checked first: what it holds and what it replaces is shown before anything changes.</p><label class="se-file btn" data-needs="admin">${icon("upload")}Choose a file<input type="file" accept=".zip,application/zip" class="visually-hidden" data-file></label>`,
    );
  }
  function paintMaking() {
    render(
      form.parentElement.querySelector("[data-making]"),
      making &&
        html`<div class="se-progress stack-2" role="status"><p>${making.message || "Making the backup"}${making.total > 0 && html` · ${percent(making.done / making.total)}`}</p><progress ${attrs({ value: making.total > 0 ? making.done / making.total : undefined, max: 1 })} aria-label="Backup"></progress><div><button type="button" class="btn btn-small" data-action="stop-making" data-id="${making.id}">Cancel</button></div></div>`,
    );
    form.querySelector("[type=submit]").disabled = Boolean(making) || !session.can("admin");
  }

  async function load() {
    try {
      const answer = await api.get("/api/backups", { signal });
      items = answer.items;
      staged = answer.staged ?? null;
      problem = null;
    } catch (error) {
      if (isAbort(error)) return;
      problem = error;
    }
    if (signal.aborted) return;
    paintList();
    paintStaged();
  }

  async function make() {
    clearErrors(form);
    const { keys, passphrase, ...wish } = readForm(form);
    if (keys && !passphrase) {
      showErrors(form, [{ field: "passphrase", message: "Enter a passphrase for the keys." }]);
      return;
    }
    try {
      const { taskId } = await api.post("/api/backups", { ...wish, ...(keys ? { passphrase } : {}) });
      form.elements.passphrase.value = "";
      await watch(taskId);
    } catch (error) {
      if (error.errors?.length && !showErrors(form, error.errors).length) return;
      if (!isAbort(error)) toast.error(error);
    } finally {
      making = null;
      if (!signal.aborted) paintMaking();
    }
  }
  async function watch(taskId) {
    making = { id: taskId, done: 0, total: 0, message: "" };
    paintMaking();
    const task = await follow(taskId, {
      signal,
      onProgress: (t) => {
        const { done = 0, total = 0, message = "" } = t.progress ?? {};
        making = { id: taskId, done, total, message };
        if (!signal.aborted) paintMaking();
      },
    });
    toast.success("The backup is made", { detail: `${bytes(task.result?.sizeBytes)}, ${plural(task.result?.files ?? 0, "file")}. ${(task.result?.notes ?? []).join(" ")}`.trim() });
    await load();
  }

  let upload = null;
  async function restoreFile(file) {
    upload = new AbortController();
    signal.addEventListener("abort", () => upload?.abort());
    try {
      const id = await send(file, file.name, { signal: upload.signal, onProgress: (done) => paintFile({ text: `Sending ${file.name}, ${bytes(file.size)}`, done }) });
      paintFile();
      if (await restoreDialog({ uploadId: id, name: file.name })) {
        forget(file, file.name);
        await prepared();
      }
    } catch (error) {
      if (!isAbort(error)) toast.error(error);
    } finally {
      upload = null;
      if (!signal.aborted) paintFile();
    }
  }
  async function prepared() {
    await load();
    if (staged && !staged.error) root.querySelector("[data-part=staged]").scrollIntoView({ block: "center" });
  }

  onAction(
    root,
    {
      retry: load,
      restore: async (_e, el) => {
        if (await restoreDialog({ name: el.dataset.name })) await prepared();
      },
      delete: (_e, el) =>
        busy(el, async () => {
          try {
            const { trashId } = await api.delete(path(el.dataset.name));
            items = items.filter((b) => b.name !== el.dataset.name);
            paintList();
            toast.success("The backup was deleted", {
              undo: async () => {
                try {
                  await api.post("/api/backups/undelete", { trashId });
                } catch (error) {
                  toast.error(error);
                }
                await load();
              },
            });
          } catch (error) {
            toast.error(error);
            await load();
          }
        }),
      forget: (_e, el) =>
        busy(el, async () => {
          try {
            await api.delete("/api/backups/restore");
            toast.info("Nothing is restored at the next start");
          } catch (error) {
            toast.error(error);
          }
          await load();
        }),
      "restart-now": (_e, el) => busy(el, restart),
      "stop-making": (_e, el) => busy(el, () => cancel(el.dataset.id).catch(toast.error)),
      "stop-upload": () => upload?.abort(),
    },
    { signal },
  );
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(form.querySelector("[type=submit]"), make);
  }, { signal }); // prettier-ignore
  root.addEventListener("change", (event) => {
    if (event.target.name === "keys") $("[data-passphrase]").hidden = !event.target.checked;
    if (event.target.matches("[data-file]") && event.target.files[0]) restoreFile(event.target.files[0]);
  }, { signal }); // prettier-ignore
  ["backup.updated", "restore.updated"].forEach((type) => stream.on(type, load, { signal }));
  paintFile();
  await load();
}
