/** Starting the app again: ask, wait until it answers as another run, go on. */
import { api, ApiError } from "../../api.js";
import { html, icon } from "../../html.js";
import { render } from "../../dom.js";
import { hasUnsaved } from "../../forms.js";
import { toast } from "../../notices.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { addressAfterRestart } from "./model.js";
import { bootOf } from "./store.js";

const EVERY = 700;
const PATIENCE = 90_000;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The banner over the section while saved values, or a restore, wait. @param {import("./store.js").Store} store @param {any} staged a restore that waits */
export function restartBanner(store, staged) {
  const names = store.pending.map((name) => store.settings.get(name)?.label ?? name);
  if (!names.length && !staged) return "";
  const what = [names.length > 0 && `${names.join(", ")} ${names.length === 1 ? "is" : "are"} saved and ${names.length === 1 ? "waits" : "wait"} for a restart.`, staged && "A backup is ready to be restored."].filter(Boolean);
  return html`<div class="se-banner" role="status">${icon("refresh")}<p>${what.join(" ")}</p>${store.mayChange && html`<button type="button" class="btn btn-small" data-action="restart" data-needs="admin">Restart now</button>`}</div>`;
}

/** @param {import("./store.js").Store} store @param {{force?: boolean}} [options] */
export async function restartApp(store, { force = false } = {}) {
  if (hasUnsaved() && !(await confirmDialog({ title: "Restart without saving?", body: "There are unsaved changes on this page.", confirmLabel: "Restart" }))) return;
  const to = addressAfterRestart(store.settings, location);
  const before = await boot();
  try {
    await api.post("/api/system/restart", { force });
  } catch (error) {
    if (error instanceof ApiError && error.status === 409 && !force) {
      const sure = await confirmDialog({ title: "Interrupt what is under way?", body: error.message, consequences: [error.remedy || "What is interrupted can be started again under Monitoring."], confirmLabel: "Restart anyway" });
      if (sure) await restartApp(store, { force: true });
      return;
    }
    toast.error(error);
    return;
  }
  await follow(before, to);
}

async function follow(before, to) {
  const { dialog } = openDialog({
    title: "Starting again",
    size: "s",
    body: html`<div class="stack-3" data-wait><p role="status">Digital Dalla ends cleanly and starts again. This takes a few seconds.</p><progress aria-label="Waiting"></progress></div>`,
  });
  let open = true;
  dialog.beforeClose = () => !open;
  const say = (markup) => render(dialog.querySelector("[data-wait]"), markup);
  if (to !== location.origin) {
    say(html`<p role="status">It answers at another address now.</p><p><a class="btn btn-primary" href="${to}/settings.html">${to}</a></p>`);
    open = false;
    await wait(6000);
    location.href = `${to}/settings.html`;
    return;
  }
  const end = Date.now() + PATIENCE;
  while (Date.now() < end) {
    await wait(EVERY);
    const now = await boot();
    if (now && now !== before) {
      location.reload();
      return;
    }
  }
  open = false;
  say(html`<p role="alert"><strong>It has not come back.</strong></p><p class="muted">Look at the window it was started from, or at the log in the data folder. If it runs as a service, start it there.</p><p><button type="button" class="btn" data-close="">Close</button></p>`);
}

/** Which run of the app answers; "" while none does. */
async function boot() {
  try {
    const { etag } = await api.get("/api/settings", { full: true, signal: AbortSignal.timeout(4000) });
    return bootOf(etag);
  } catch (error) {
    return error instanceof ApiError && error.status === 401 ? `signed-out` : "";
  }
}
