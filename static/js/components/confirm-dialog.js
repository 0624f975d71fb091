/** Dialogs by promise. Native <dialog>: focus is trapped, Esc closes the topmost only, focus returns. */
import { attrs, html, icon } from "../html.js";
import { element } from "../dom.js";

let serial = 0;

/**
 * Open a dialog with any content. Resolves with its return value when closed ("" on Esc).
 * @param {{title: string, body: any, footer?: any, size?: "s"|"m"|"l", onOpen?: (dialog: HTMLDialogElement) => void, dismissable?: boolean}} options
 * Buttons with `data-close="value"` close it. `beforeClose(fn)` may be set on the dialog: return false to stay open.
 * @returns {{dialog: HTMLDialogElement, closed: Promise<string>}}
 */
export function openDialog({ title, body, footer, size = "m", onOpen }) {
  const id = `dialog-${(serial += 1)}`;
  const dialog = element(html`<dialog class="dialog dialog-${size}" aria-labelledby="${id}">
    <header class="dialog-head"><h2 id="${id}">${title}</h2><button type="button" class="icon-btn" data-close="" aria-label="Close">${icon("x")}</button></header>
    <div class="dialog-body">${body}</div>${footer && html`<footer class="dialog-foot">${footer}</footer>`}</dialog>`);
  document.body.append(dialog);
  let settle;
  const closed = new Promise((resolve) => {
    settle = resolve;
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    settle(dialog.returnValue);
  });
  const tryClose = (value) => {
    if (dialog.beforeClose?.(value) === false) return;
    dialog.close(value);
    settle(value); // now: the close event comes a task later, and a key pressed in between would meet a dialog half gone
  };
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("[data-close]");
    if (button) tryClose(button.dataset.close);
    else if (event.target === dialog) {
      const r = dialog.getBoundingClientRect();
      if (event.clientX < r.left || event.clientX > r.right || event.clientY < r.top || event.clientY > r.bottom) tryClose("");
    }
  });
  dialog.addEventListener("cancel", (event) => {
    if (event.target === dialog) {
      event.preventDefault();
      tryClose("");
    }
  });
  dialog.showModal();
  onOpen?.(dialog);
  return { dialog, closed };
}

/**
 * Ask before something irreversible or public. The safe button has the focus.
 * @param {{title: string, body?: any, consequences?: string[], confirmLabel: string, cancelLabel?: string, danger?: boolean, typed?: string}} options
 * `consequences` are shown as a list ("12 pictures stay in the gallery"); with `typed` the person must type that word.
 * @returns {Promise<boolean>}
 */
export async function confirmDialog({ title, body = "", consequences = [], confirmLabel, cancelLabel = "Cancel", danger = true, typed }) {
  const { closed } = openDialog({
    title,
    size: "s",
    body: html`<div class="stack-3">${body && html`<p>${body}</p>`}${consequences.length > 0 && html`<ul class="consequences">${consequences.map((c) => html`<li>${c}</li>`)}</ul>`}
      ${typed && html`<div class="field"><label for="confirm-typed">Type <strong>${typed}</strong> to go on</label><input id="confirm-typed" autocomplete="off" spellcheck="false"></div>`}</div>`,
    footer: html`<button type="button" class="btn" data-close="" ${attrs({ autofocus: true })}>${cancelLabel}</button>
      <button type="button" class="btn ${danger ? "btn-danger" : "btn-primary"}" data-close="yes" ${attrs({ disabled: Boolean(typed) })}>${confirmLabel}</button>`,
    onOpen(dialog) {
      const yes = dialog.querySelector('[data-close="yes"]');
      const input = dialog.querySelector("#confirm-typed");
      input?.addEventListener("input", () => {
        yes.disabled = input.value.trim() !== typed;
      });
      dialog.querySelector("[autofocus]")?.focus();
    },
  });
  return (await closed) === "yes";
}
