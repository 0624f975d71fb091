/**
 * A password field with everything around it: show/hide, a Caps Lock hint, and for new ones a meter and a suggestion.
 * `passwordField({…})` is a template function for html``; call `watchPasswords(root, {own})` once for all fields below `root`.
 */
import { attrs, html, icon } from "../html.js";
import { MIN_LENGTH, strength, suggest } from "../passwords.js";
import { copyText } from "./states.js";

/**
 * @param {{id: string, name: string, label: string, isNew?: boolean, hint?: string, required?: boolean, autofocus?: boolean}} field
 * `isNew` shows the meter and "Suggest a password", and tells password managers to offer one.
 */
export function passwordField({ id, name, label, isNew = false, hint = "", required = true, autofocus = false }) {
  const described = [isNew && `${id}-meter`, hint && `${id}-hint`, `${id}-caps`].filter(Boolean).join(" ");
  return html`<div class="field pw" data-pw><div class="pw-head"><label for="${id}">${label}</label>${isNew && html`<button type="button" class="link-btn" data-pw-suggest>${icon("bolt")}Suggest a password</button>`}</div>
    <div class="pw-box"><input ${attrs({ id, name, type: "password", required, autofocus, minlength: isNew ? MIN_LENGTH : undefined, autocomplete: isNew ? "new-password" : "current-password", autocapitalize: "none", autocorrect: "off", spellcheck: "false", maxlength: 256, "aria-describedby": described })}>
      <button type="button" class="icon-btn" data-pw-show aria-pressed="false" aria-label="Show ${label.toLowerCase()}" title="Show">${icon("eye")}</button></div>
    ${isNew && html`<div class="pw-meter" data-score="0" id="${id}-meter"><span class="pw-bars" aria-hidden="true"><i></i><i></i><i></i><i></i></span><p class="field-hint" data-pw-words aria-live="polite">At least ${MIN_LENGTH} characters.</p></div>
    <p class="pw-made" data-pw-made hidden><span>Keep it in your password manager, or write it down now.</span><button type="button" class="btn btn-small" data-pw-copy>${icon("copy")}Copy</button></p>`}
    ${hint && html`<p class="field-hint" id="${id}-hint">${hint}</p>`}
    <p class="pw-caps" id="${id}-caps" role="status" data-pw-caps hidden>${icon("alert")}Caps Lock is on</p>
    <p class="field-error" id="${id}-error" data-error-for="${name}" hidden></p></div>`;
}

/** @param {HTMLElement} root @param {{own?: () => string[], signal?: AbortSignal}} [options] `own`: words worth nothing in a password */
export function watchPasswords(root, { own = () => [], signal } = {}) {
  const part = (field, name) => field.querySelector(`[data-pw-${name}]`);
  const judge = (field) => {
    const meter = field.querySelector(".pw-meter");
    if (!meter) return;
    const { score, label, advice } = strength(field.querySelector("input").value, own());
    meter.dataset.score = String(score);
    part(field, "words").textContent = label ? (advice ? `${label}. ${advice}.` : `${label}.`) : `At least ${MIN_LENGTH} characters.`;
  };
  const show = (field, shown) => {
    const button = part(field, "show");
    field.querySelector("input").type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
    button.title = shown ? "Hide" : "Show";
    button.querySelector("use").setAttribute("href", `/static/img/icons.svg#${shown ? "eye-off" : "eye"}`);
  };
  root.addEventListener(
    "click",
    (event) => {
      const field = event.target.closest("[data-pw]");
      const button = event.target.closest("button");
      if (!field || !button) return;
      const input = field.querySelector("input");
      if (button.matches("[data-pw-show]")) show(field, input.type === "password");
      if (button.matches("[data-pw-copy]")) copyText(input.value, "The password was copied");
      if (button.matches("[data-pw-suggest]")) {
        input.value = suggest();
        show(field, true);
        input.dispatchEvent(new Event("input", { bubbles: true }));
        part(field, "made").hidden = false;
        input.focus();
        input.select();
      }
    },
    { signal },
  );
  root.addEventListener(
    "input",
    (event) => {
      const field = event.target.closest("[data-pw]");
      if (field) {
        judge(field);
        if (event.isTrusted && part(field, "made")) part(field, "made").hidden = true;
      } else root.querySelectorAll("[data-pw]").forEach(judge); // the name may have become part of the password
    },
    { signal },
  );
  const caps = (event) => {
    const field = event.target.closest?.("[data-pw]");
    if (field && event.getModifierState) part(field, "caps").hidden = !event.getModifierState("CapsLock");
  };
  ["keydown", "keyup"].forEach((type) => root.addEventListener(type, caps, { signal }));
  root.addEventListener(
    "focusout",
    (event) => {
      const field = event.target.closest("[data-pw]");
      if (field && event.target.matches("input")) part(field, "caps").hidden = true;
    },
    { signal },
  );
  // what is sent, and what a manager stores, comes from a password field
  root.addEventListener("submit", (event) => event.target.querySelectorAll("[data-pw]").forEach((field) => show(field, false)), { signal, capture: true });
}
