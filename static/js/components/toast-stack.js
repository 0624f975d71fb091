/** Short messages at the edge. Success 5 s, with Undo 8 s, errors stay; the timer waits while pointed at or focused. */
import { html, icon } from "../html.js";
import { element } from "../dom.js";

const LOOKS = { success: "ok", info: "info", error: "error" };

class ToastStack extends HTMLElement {
  ownsContent = true;
  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", "Messages");
    this.popover = "manual"; // the top layer: visible above dialogs too
    document.addEventListener("toast:show", (event) => this.#show(event.detail));
    document.addEventListener("toast:undo", () => this.querySelector(".toast [data-undo]")?.click());
  }

  /** What is outside of a modal dialog cannot be clicked, Undo neither: live inside it while it is open. */
  #moveTo(dialog) {
    const home = dialog ?? document.body;
    if (this.parentElement === home) return;
    home.append(this);
    dialog?.addEventListener(
      "close",
      () => {
        if (this.parentElement !== dialog) return;
        this.#moveTo(null);
        if (this.children.length) this.showPopover();
      },
      { once: true },
    );
  }

  #show(notice) {
    const el = element(html`<div class="toast toast-${notice.kind}" role="${notice.kind === "error" ? "alert" : "status"}">
      ${icon(LOOKS[notice.kind])}<div class="toast-text"><p>${notice.text}</p>${notice.detail && html`<p class="muted">${notice.detail}</p>`}</div>
      ${notice.undo && html`<button type="button" class="btn btn-small" data-undo>Undo</button>`}
      ${notice.action && (notice.action.href ? html`<a class="btn btn-small" href="${notice.action.href}">${notice.action.label}</a>` : html`<button type="button" class="btn btn-small" data-run>${notice.action.label}</button>`)}
      <button type="button" class="icon-btn" data-dismiss aria-label="Close message">${icon("x")}</button></div>`);
    let timer = 0;
    const ms = notice.kind === "error" ? 0 : notice.undo ? 8000 : 5000;
    const wait = () => {
      clearTimeout(timer);
      if (ms) timer = setTimeout(close, ms);
    };
    const close = () => {
      clearTimeout(timer);
      el.remove();
      if (!this.children.length && this.matches(":popover-open")) this.hidePopover();
    };
    el.addEventListener("pointerenter", () => clearTimeout(timer));
    el.addEventListener("pointerleave", wait);
    el.addEventListener("focusin", () => clearTimeout(timer));
    el.addEventListener("focusout", wait);
    el.querySelector("[data-dismiss]").addEventListener("click", close);
    el.querySelector("[data-undo]")?.addEventListener("click", async () => {
      close();
      await notice.undo();
    });
    el.querySelector("[data-run]")?.addEventListener("click", () => {
      close();
      notice.action.run();
    });
    this.#moveTo([...document.querySelectorAll("dialog[open]:modal")].at(-1));
    if (this.matches(":popover-open")) this.hidePopover(); // re-opened: on top of a dialog that came later
    this.showPopover();
    this.prepend(el);
    while (this.children.length > 4) this.lastElementChild.remove();
    wait();
  }
}
customElements.define("toast-stack", ToastStack);
