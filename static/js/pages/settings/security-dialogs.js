/** Dialogs of "Accounts and security": a person, a new password, the devices and tokens of somebody. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { clearErrors, showErrors } from "../../forms.js";
import { toast } from "../../notices.js";
import { ROLES } from "../../access.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { passwordField, watchPasswords } from "../../components/password-field.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";
import { sessionRow } from "./account.js";
import { tokenRow } from "./account-tokens.js";

const path = (id, rest = "") => `/api/auth/users/${encodeURIComponent(id)}${rest}`;
const nameOf = (u) => u.displayName || u.name;

/** A dialog with a form; `save(form)` may throw a problem. Resolves with what save answered, null when closed. */
async function formDialog({ title, body, label, save, own }) {
  let done = null;
  const { dialog, closed } = openDialog({
    title,
    body: html`<form id="person-form" class="stack-4" novalidate>${body}</form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="person-form" class="btn btn-primary" data-primary>${label}</button>`,
  });
  const form = dialog.querySelector("form");
  watchPasswords(form, { own: () => own(form) });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(dialog.querySelector("[data-primary]"), async () => {
      clearErrors(form);
      try {
        done = await save(form);
        dialog.close("done");
      } catch (error) {
        if (!error.errors?.length || showErrors(form, error.errors).length) toast.error(error);
      }
    });
  });
  dialog.querySelector("[autofocus]")?.focus();
  await closed;
  return done;
}

/** What the administrator passes on; shown once. */
function handOver({ title, name, password }) {
  const text = `Digital Dalla: ${location.origin}/\nName: ${name}\nPassword: ${password}`;
  return openDialog({
    title,
    size: "s",
    body: html`<div class="stack-3"><p>Pass this on. <strong>The password is not shown again.</strong></p>
      <dl class="facts"><div><dt>Address</dt><dd>${location.origin}/</dd></div><div><dt>Name</dt><dd>${name}</dd></div><div><dt>Password</dt><dd><code>${password}</code></dd></div></dl>
      <p class="small muted">It can be changed after signing in, under Settings, My account.</p></div>`,
    footer: html`<button type="button" class="btn" data-copy ${attrs({ autofocus: true })}>${icon("copy")}Copy all</button><button type="button" class="btn btn-primary" data-close="">Done</button>`,
    onOpen: (dialog) => {
      dialog.querySelector("[data-copy]").addEventListener("click", () => copyText(text, "Copied: address, name and password"));
      dialog.querySelector("[autofocus]").focus();
    },
  }).closed;
}

/** Add somebody, or change the display name of somebody. @param {any} [user] @returns {Promise<any>} the saved user, null when closed */
export async function personDialog(user) {
  if (user) {
    const saved = await formDialog({
      title: `Name of ${user.name}`,
      label: "Save",
      own: () => [],
      body: fieldRow({ id: "person-display", name: "displayName", label: "Display name", value: user.displayName, maxlength: 80, placeholder: user.name, autofocus: true }),
      save: (form) => api.patch(path(user.id), { displayName: form.elements.displayName.value.trim() }),
    });
    if (saved) toast.success("Saved");
    return saved;
  }
  let password = "";
  const made = await formDialog({
    title: "Add a person",
    label: "Add person",
    own: (form) => [form.elements.name.value, form.elements.displayName.value],
    body: html`<div class="cols-2">${fieldRow({ id: "person-name", name: "name", label: "Name to sign in with", required: true, maxlength: 64, placeholder: "mira", autofocus: true, spellcheck: false })}${fieldRow({ id: "person-display", name: "displayName", label: "Display name", maxlength: 80, placeholder: "As above" })}</div>
      <fieldset class="ac-choices"><legend>Role</legend>${Object.entries(ROLES)
        .reverse()
        .map(([id, r]) => html`<label class="ac-choice"><input type="radio" name="role" value="${id}" ${attrs({ checked: id === "editor" })}><strong>${r.label}</strong><small>${r.can}</small></label>`)}<p class="field-error" data-error-for="role" hidden></p></fieldset>
      ${passwordField({ id: "person-password", name: "password", label: "First password", isNew: true })}`,
    save: (form) => {
      const { name, displayName, role } = form.elements;
      password = form.elements.password.value;
      return api.post("/api/auth/users", {
        name: name.value.trim(),
        role: role.value,
        password,
        ...(displayName.value.trim() && { displayName: displayName.value.trim() }),
      });
    },
  });
  if (made) await handOver({ title: `${nameOf(made)} was added`, name: made.name, password });
  return made;
}

/** Set a new password for somebody who forgot theirs. @returns {Promise<any>} */
export async function passwordDialog(user) {
  let password = "";
  const saved = await formDialog({
    title: `New password for ${nameOf(user)}`,
    label: "Set password",
    own: () => [user.name, user.displayName],
    body: html`<p class="muted">${nameOf(user)} is signed out everywhere and signs in with the new one. API tokens go on working; revoke them under Devices and tokens.</p>${passwordField({ id: "person-password", name: "password", label: "New password", isNew: true, autofocus: true })}`,
    save: (form) => {
      password = form.elements.password.value;
      return api.patch(path(user.id), { password });
    },
  });
  if (saved) await handOver({ title: "The password was set", name: user.name, password });
  return saved;
}

/** Where somebody is signed in and which tokens there are; all of it can be ended. @param {any} user @param {{own: boolean}} options */
export async function accessDialog(user, { own }) {
  let access = null,
    problem = null;
  const { dialog, closed } = openDialog({
    title: `Devices and tokens of ${nameOf(user)}`,
    body: html`<div class="stack-5" data-access></div>`,
    footer: html`${!own && html`<button type="button" class="btn" data-action="end-all" disabled>${icon("log-out")}Sign out and revoke all</button>`}<button type="button" class="btn btn-primary" data-close="" ${attrs({ autofocus: true })}>Close</button>`,
  });
  const paint = () =>
    render(
      dialog.querySelector("[data-access]"),
      problem
        ? errorState(problem, { title: "This could not be loaded", action: "access-retry", compact: true })
        : !access
          ? skeleton("rows", 3)
          : !access.sessions.length && !access.tokens.length
            ? emptyState({ icon: "lock", title: "Signed in nowhere", text: "And there is no API token.", compact: true })
            : html`<section class="stack-2"><h3>Devices</h3>${access.sessions.length ? html`<ul class="ac-list">${access.sessions.map((s) => sessionRow(s, { end: false }))}</ul>` : html`<p class="muted">Signed in nowhere.</p>`}</section>
              <section class="stack-2"><h3>API tokens</h3>${access.tokens.length ? html`<ul class="ac-list">${access.tokens.map((t) => tokenRow(t, { revoke: false }))}</ul>` : html`<p class="muted">None.</p>`}</section>
              ${own && html`<p class="small muted">Your own are ended under <a href="/settings.html?section=account">My account</a>.</p>`}`,
    );
  const load = async () => {
    try {
      access = await api.get(path(user.id, "/access"));
      problem = null;
    } catch (error) {
      problem = error;
    }
    paint();
    const all = dialog.querySelector("[data-action=end-all]");
    if (all) all.disabled = !access || (!access.sessions.length && !access.tokens.length);
  };
  onAction(dialog, {
    "access-retry": load,
    "end-all": (_e, el) =>
      busy(el, async () => {
        try {
          await api.delete(path(user.id, "/access"));
          toast.success(`${nameOf(user)} is signed out everywhere`);
        } catch (error) {
          toast.error(error);
        }
        await load();
      }),
  });
  dialog.querySelector("[autofocus]").focus();
  paint();
  await load();
  await closed;
}
