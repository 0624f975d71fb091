/** Pictures from addresses: the server fetches them as a task; then they are uploads like any other. */
import { api, idempotencyKey } from "../../api.js";
import { number, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { cancel, follow } from "../../jobs.js";
import { addressesIn } from "./words.js";

/** @param {{changed: () => void}} owner @returns what was fetched so far; `state` is "", "fetching", "fetched" or "failed" */
export function fetchList(owner) {
  let state = "", task = null, taskId = "", urls = [], result = null, error = null, watching = null;
  const set = (next) => { state = next; owner.changed(); };
  async function start(text) {
    urls = addressesIn(text);
    if (!urls.length) return;
    result = null;
    error = null;
    task = null;
    watching = new AbortController();
    set("fetching");
    try {
      taskId = (await api.post("/api/uploads/fetch", { urls }, { idempotencyKey: idempotencyKey() })).taskId;
      const done = await follow(taskId, { signal: watching.signal, onProgress: (t) => { task = t; owner.changed(); } });
      result = done.result;
      set("fetched");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
      set("failed");
    }
  }
  return {
    start,
    get state() { return state; },
    get ids() { return result?.uploadIds ?? []; },
    get urls() { return urls; },
    /** Where the first address leads: a name for the set. */
    get host() { try { return new URL(urls[0]).hostname.replace(/^www\./, ""); } catch { return ""; } },
    reset() { state = ""; result = null; error = null; task = null; urls = []; },
    /** Stop; what came already is thrown away by the server. */
    stop() {
      watching?.abort();
      if (state === "fetching" && taskId) cancel(taskId).catch(() => {});
    },
    view() {
      if (!state) return html``;
      const failed = result?.failed ?? (task?.itemsFailed ?? []).map((f) => ({ url: f.id, detail: f.detail }));
      const done = Math.round(task?.done ?? 0);
      return html`<section class="stack-2" data-key="fetched"><div class="row ds-rows-head"><strong>${plural(urls.length, "address", "addresses")}</strong><span class="small muted">${state === "fetching" ? `${number(done)} of ${number(urls.length)} looked at` : result ? `${number(result.uploadIds.length)} fetched` : ""}</span><span class="spacer"></span><button type="button" class="btn btn-small" data-action="fetch-again">${state === "fetching" ? html`${icon("stop")}Stop` : html`${icon("edit")}Change the addresses`}</button></div>
        ${state === "fetching" && html`<progress max="${Math.max(1, urls.length)}" value="${done}" aria-label="Addresses fetched"></progress>`}
        ${error && html`<p class="field-error" role="alert">${error.errors?.length > 1 ? `${plural(error.errors.length, "address", "addresses")} cannot be used:` : `${error.message} ${error.remedy ?? ""}`}</p>${error.errors?.length > 1 && html`<ul class="ds-plain small">${error.errors.slice(0, 20).map((e) => html`<li>${e.message}</li>`)}</ul>`}`}
        ${failed.length > (error ? 1 : 0) && html`<details data-key="fetch-failed" open><summary>Could not be fetched <span class="count">${number(failed.length)}</span></summary><ul class="ds-plain small">${failed.slice(0, 100).map((f) => html`<li><span class="mono">${f.url}</span> <span class="muted">${f.detail}</span></li>`)}</ul></details>`}</section>`;
    },
  };
}
