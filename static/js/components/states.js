/** What a list shows when it has nothing to show: loading, empty, failed. Template functions for html``. */
import { attrs, html, icon } from "../html.js";
import { logHref, toast } from "../notices.js";

/**
 * Grey shapes; they appear after 200 ms so that a fast answer never flashes.
 * @param {"cards"|"rows"|"grid"|"lines"|"form"} kind @param {number} [count] @param {string} [label] read to screen readers
 */
export function skeleton(kind = "rows", count = 6, label = "Loading") {
  return html`<div class="skeleton skeleton-${kind}" aria-busy="true"><span class="visually-hidden" role="status">${label}…</span>
    ${Array.from({ length: count }, () => html`<span class="bone"></span>`)}</div>`;
}

/**
 * @param {{icon?: string, title: string, text?: string, action?: {label: string, href?: string, action?: string, icon?: string, needs?: string}, compact?: boolean}} options
 * `action.action` becomes data-action, to be handled with onAction(); `action.needs` is the right it takes.
 */
export function emptyState({ icon: name = "image", title, text = "", action, compact = false }) {
  const button =
    action &&
    (action.href
      ? html`<a class="btn btn-primary" href="${action.href}">${action.icon && icon(action.icon)}${action.label}</a>`
      : html`<button type="button" class="btn btn-primary" data-action="${action.action}" ${attrs({ "data-needs": action.needs })}>${action.icon && icon(action.icon)}${action.label}</button>`);
  return html`<div class="empty-state ${compact ? "is-compact" : ""}"><span class="empty-icon">${icon(name)}</span><h3>${title}</h3>${text && html`<p>${text}</p>`}${button}</div>`;
}

/**
 * What failed, why, what to do, and the details for somebody who can help.
 * @param {any} error @param {{title?: string, action?: string, compact?: boolean}} [options] action = data-action of the retry button ("" for none)
 */
export function errorState(error, { title = "This could not be loaded", action = "retry", compact = false } = {}) {
  const details = JSON.stringify(
    {
      message: error?.message,
      code: error?.code,
      status: error?.status,
      requestId: error?.requestId || undefined,
      page: globalThis.location?.pathname,
      at: new Date().toISOString(),
    },
    null,
    2,
  );
  return html`<div class="error-state ${compact ? "is-compact" : ""}" role="alert"><span class="empty-icon">${icon(error?.code === "network" ? "wifi-off" : "alert")}</span>
    <div class="stack-1"><h3>${title}</h3><p>${error?.message || "Something went wrong."}</p>${error?.remedy && html`<p class="muted">${error.remedy}</p>`}
    <div class="row">${action && html`<button type="button" class="btn" data-action="${action}">${icon("refresh")}Try again</button>`}
    <button type="button" class="btn btn-ghost" ${attrs({ "data-copy-details": details })}>${icon("copy")}Copy details</button>${logHref(error) && html`<a class="btn btn-ghost" href="${logHref(error)}">${icon("list")}Show in the log</a>`}</div></div></div>`;
}

/** Makes "Copy details" work everywhere. Called once by main.js. */
export function watchErrorStates() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy-details]");
    if (!button) return;
    await copyText(button.dataset.copyDetails, "Details copied");
  });
}

/** Copy and say so. @param {string} text @param {string} [said] */
export async function copyText(text, said = "Copied") {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      // plain http on a local network has no clipboard API
      const area = document.createElement("textarea");
      area.value = text;
      (document.querySelector("dialog[open]:modal") ?? document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    toast.success(said);
  } catch {
    toast.error("The browser did not allow copying.");
  }
}
