/**
 * Signing in, on the sign-in page and in a dialog over a page whose session has ended.
 * `signInForm({…})` is a template function; `watchSignIn(form, {onDone})` makes it work, the wait after too many tries included.
 */
import { api } from "../api.js";
import { attrs, html, icon } from "../html.js";
import { busy } from "../dom.js";
import { waitWords } from "../access.js";
import { openDialog } from "./confirm-dialog.js";
import { passwordField, watchPasswords } from "./password-field.js";

/** @param {{id: string, name?: string, large?: boolean, submit?: boolean}} options `name` is filled in; `submit: false` leaves the button to a dialog's foot */
export function signInForm({ id, name = "", large = false, submit = true }) {
  return html`<form id="${id}" class="stack-4 si" method="post" action="/login.html" novalidate>
    <div class="si-problem" role="alert" hidden></div>
    <div class="field"><label for="${id}-name">Name</label><input ${attrs({ id: `${id}-name`, name: "name", value: name, required: true, autocomplete: "username", autocapitalize: "none", autocorrect: "off", spellcheck: "false", maxlength: 200, autofocus: !name })}></div>
    ${passwordField({ id: `${id}-password`, name: "password", label: "Password", autofocus: Boolean(name) })}
    <label class="check"><input type="checkbox" name="remember"><span>Keep me signed in on this device</span></label>
    ${submit && html`<button class="btn btn-primary btn-block ${large ? "btn-large" : ""}" data-primary>${icon("log-in")}Sign in</button>`}</form>`;
}

/** @param {HTMLFormElement} form @param {{onDone: (answer: any) => void, signal?: AbortSignal}} options */
export function watchSignIn(form, { onDone, signal }) {
  const box = form.querySelector(".si-problem");
  const button = form.querySelector("[data-primary]") ?? document.querySelector(`[data-primary][form="${form.id}"]`);
  let timer = 0;
  watchPasswords(form, { signal });
  const say = (text, detail = "") => {
    box.hidden = !text;
    box.innerHTML = text ? String(html`${icon("error")}<div><p>${text}</p>${detail && html`<p class="small">${detail}</p>`}</div>`) : "";
  };
  const wait = (seconds) => {
    const until = performance.now() + seconds * 1000;
    clearInterval(timer);
    button.disabled = true;
    box.hidden = false;
    box.innerHTML = String(
      html`${icon("clock")}<div><p>Too many tries.</p><p class="small">Try again in <strong class="si-left" role="timer" aria-live="off">${waitWords(seconds)}</strong>.</p></div>`,
    );
    const tick = () => {
      const left = (until - performance.now()) / 1000;
      if (left > 0 && form.isConnected) {
        box.querySelector(".si-left").textContent = waitWords(left);
        return;
      }
      clearInterval(timer);
      button.disabled = false;
      if (form.isConnected) say("You can try again now.");
    };
    timer = setInterval(tick, 500);
  };
  form.addEventListener(
    "submit",
    (event) => {
      event.preventDefault();
      if (button.disabled) return;
      const { name, password, remember } = form.elements;
      const empty = !name.value.trim() ? name : !password.value ? password : null;
      if (empty) {
        say(empty === name ? "Enter your name." : "Enter your password.");
        empty.focus();
        return;
      }
      busy(button, async () => {
        say("");
        try {
          onDone(await api.post("/api/auth/login", { name: name.value.trim(), password: password.value, remember: remember.checked }));
        } catch (error) {
          if (error.status === 429) wait(error.retryAfter ?? 60);
          else {
            say(error.message, error.status === 401 ? "" : error.remedy);
            password.focus();
            password.select();
          }
        }
      });
    },
    { signal },
  );
}

let open = null;
/**
 * Sign in over the page; nothing of it is lost. Resolves with true when somebody signed in.
 * @param {{name?: string}} [options] @returns {Promise<boolean>}
 */
export function signInDialog({ name = "" } = {}) {
  open ??= (async () => {
    const { dialog, closed } = openDialog({
      title: "Sign in again",
      size: "s",
      body: html`<div class="stack-4"><p class="muted">The page stays as it is: what you typed is still here.</p>${signInForm({ id: "sign-in-again", name, submit: false })}</div>`,
      footer: html`<button type="button" class="btn" data-close="">Later</button><button type="submit" form="sign-in-again" class="btn btn-primary" data-primary>${icon("log-in")}Sign in</button>`,
    });
    watchSignIn(dialog.querySelector("form"), { onDone: () => dialog.close("done") });
    dialog.querySelector("[autofocus]")?.focus();
    return (await closed) === "done";
  })().finally(() => {
    open = null;
  });
  return open;
}
