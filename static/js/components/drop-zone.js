/**
 * Files by dropping, choosing or pasting. Attributes: `accept` ("image/*"), `multiple`, `label`, `hint`, `paste` (listens on the page).
 * Emits `drop-zone:files` {files, refused}. Never uploads: the page does.
 */
import { attrs, html, icon } from "../html.js";
import { emit } from "../dom.js";

let serial = 0;
const fits = (file, accept) =>
  !accept ||
  accept
    .split(",")
    .map((a) => a.trim().toLowerCase())
    .some((a) =>
      a.startsWith(".") ? file.name.toLowerCase().endsWith(a) : a.endsWith("/*") ? file.type.startsWith(a.slice(0, -1)) : file.type === a,
    );

class DropZone extends HTMLElement {
  ownsContent = true;
  #stop = null;
  connectedCallback() {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    if (!this.firstElementChild) {
      const id = `drop-${(serial += 1)}`;
      this.innerHTML = html`<input type="file" id="${id}" class="visually-hidden" ${attrs({ accept: this.getAttribute("accept"), multiple: this.hasAttribute("multiple") })}>
        <label for="${id}" class="drop">${icon("upload")}<span><strong>${this.getAttribute("label") || "Drop files here or choose"}</strong>${this.getAttribute("hint") && html`<small class="muted">${this.getAttribute("hint")}</small>`}</span></label>`;
    }
    const input = this.querySelector("input");
    input.addEventListener(
      "change",
      () => {
        this.#take(input.files);
        input.value = "";
      },
      { signal },
    );
    this.addEventListener(
      "dragover",
      (event) => {
        if (![...event.dataTransfer.types].includes("Files")) return;
        event.preventDefault();
        this.classList.add("is-over");
      },
      { signal },
    );
    this.addEventListener(
      "dragleave",
      (event) => {
        if (!this.contains(event.relatedTarget)) this.classList.remove("is-over");
      },
      { signal },
    );
    this.addEventListener(
      "drop",
      (event) => {
        event.preventDefault();
        this.classList.remove("is-over");
        this.#take(event.dataTransfer.files);
      },
      { signal },
    );
    if (this.hasAttribute("paste"))
      document.addEventListener(
        "paste",
        (event) => {
          if (event.clipboardData?.files.length && this.checkVisibility()) this.#take(event.clipboardData.files);
        },
        { signal },
      );
  }
  disconnectedCallback() {
    this.#stop?.abort();
  }
  #take(list) {
    const all = [...list],
      accept = this.getAttribute("accept");
    const files = all.filter((f) => fits(f, accept));
    if (all.length)
      emit(this, "drop-zone:files", {
        files: this.hasAttribute("multiple") ? files : files.slice(0, 1),
        refused: all.filter((f) => !fits(f, accept)),
      });
  }
}
customElements.define("drop-zone", DropZone);
