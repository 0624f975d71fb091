/** Settings, "My account": profile, password, where the person is signed in, API tokens. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { clearErrors, showErrors, trackDirty } from "../../forms.js";
import { ago, date, dateTime, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { ROLES, device, place, roleLabel } from "../../access.js";
import { avatar } from "../../components/avatar.js";
import { fieldRow } from "../../components/field-row.js";
import { passwordField, watchPasswords } from "../../components/password-field.js";
import { errorState, skeleton } from "../../components/states.js";
import { tokenActions, tokensPanel } from "./account-tokens.js";

const DEVICE_ICONS = { computer: "system", phone: "phone", program: "keyboard", unknown: "help" };

/** What to do where nobody is signed in because nobody has to be; for both sections. @returns {Promise<any>} markup */
export async function openPanel() {
  const { setupNeeded } = await api.get("/api/auth/state");
  if (!setupNeeded)
    return html`<div class="ac-open" role="note">${icon("unlock")}<div class="stack-2"><h3>Signing in is switched off</h3>
      <p>There are accounts, but with <code>DALLA_AUTH=off</code> nobody is asked for one and everybody may do everything. They count again with Automatic or Always under Accounts and security, Sign-in.</p></div></div>`;
  return html`<div class="ac-open" role="note">${icon("unlock")}<div class="stack-2"><h3>There are no accounts</h3>
    <p>Everybody who uses this computer may do everything here, without signing in. With the first account that ends:</p>
    <ul><li>Everybody signs in with a name and a password, on this computer too.</li><li>You decide who only looks, who makes and publishes, and who manages the app.</li><li>Programs need an API token of somebody.</li><li>Digital Dalla may then also be opened from other computers.</li></ul>
    <div class="row"><a class="btn btn-primary" href="/login.html?setup=1&amp;next=${encodeURIComponent("/settings.html?section=security")}">${icon("key")}Create the first account</a></div></div></div>`;
}

/** @param {any} s a session of GET /api/auth/sessions @param {{end?: boolean}} [options] */
export function sessionRow(s, { end = true } = {}) {
  const { label, kind } = device(s.userAgent);
  const from = place(s.address);
  return html`<li class="ac-row" data-key="${s.id}"><span class="ac-sign">${icon(DEVICE_ICONS[kind])}</span><div class="ac-what"><h4>${label}${s.current && html`<span class="badge badge-good">${icon("ok")}<span>This one</span></span>`}</h4>
      <p class="small muted">${from && html`${from} · `}${s.current ? "active now" : html`last active <time title="${dateTime(s.lastSeenAt)}">${ago(s.lastSeenAt)}</time>`} · signed in ${date(s.createdAt)}</p></div>
    <div class="ac-do">${end && !s.current && html`<button type="button" class="btn btn-small" data-action="session-end" data-id="${s.id}" aria-label="Sign out ${label}">${icon("log-out")}Sign out</button>`}</div></li>`;
}

function profilePanel(user) {
  return html`<header class="panel-head"><h3 id="ac-profile-title">Profile</h3></header>
    <div class="stack-4"><div class="row row-nowrap">${avatar({ id: user.id, name: user.displayName || user.name }, "l")}<div class="stack-1"><strong>${user.displayName || user.name}</strong><p class="small muted">You sign in as <strong>${user.name}</strong> · ${roleLabel(user.role)}. ${ROLES[user.role]?.can}</p></div></div>
    <form class="stack-3 ac-narrow" data-form="profile" novalidate>${fieldRow({ id: "ac-display", name: "displayName", label: "Display name", value: user.displayName, maxlength: 80, placeholder: user.name, autocomplete: "name", hint: "Shown in the menu and in the list of people." })}
      <div><button class="btn btn-primary" data-save disabled>Save</button></div></form></div>`;
}

function passwordPanel(user) {
  return html`<header class="panel-head"><h3 id="ac-password-title">Password</h3></header>
    <form class="stack-4 ac-narrow" data-form="password" novalidate>
      <input class="visually-hidden" name="username" value="${user.name}" autocomplete="username" tabindex="-1" aria-hidden="true" readonly>
      ${passwordField({ id: "ac-current", name: "currentPassword", label: "Present password" })}
      ${passwordField({ id: "ac-new", name: "password", label: "New password", isNew: true })}
      <div class="row"><button class="btn btn-primary">Change password</button><span class="small muted">Your other devices are signed out.</span></div></form>`;
}

function sessionsPanel({ sessions, problem }) {
  const others = (sessions ?? []).filter((s) => !s.current).length;
  return html`<header class="panel-head"><h3 id="ac-sessions-title">Where you are signed in</h3>${others > 0 && html`<button type="button" class="btn" data-action="sessions-end">${icon("log-out")}Sign out everywhere else</button>`}</header>
    ${problem ? errorState(problem, { title: "The sessions could not be loaded", action: "sessions-retry", compact: true }) : sessions ? html`<ul class="ac-list">${sessions.map((s) => sessionRow(s))}</ul>` : skeleton("rows", 2)}`;
}

/** @returns {{id: string, label: string, icon: string, mount: (root: HTMLElement, options?: {signal?: AbortSignal}) => Promise<void>}} */
export function accountSection() {
  return { id: "account", label: "My account", icon: "user", mount };
}

async function mount(root, { signal } = {}) {
  let sessions = null,
    problem = null,
    user = null;
  render(root, skeleton("form", 4));

  async function start() {
    let open = null;
    try {
      ({ user } = await session.me({ fresh: true }));
      if (!user) open = await openPanel();
    } catch (error) {
      if (!signal?.aborted) render(root, errorState(error, { title: "Your account could not be loaded" }));
      return;
    }
    if (signal?.aborted) return;
    if (!user) {
      render(root, open);
      return;
    }
    render(
      root,
      html`<div class="stack-4"><section class="panel ac-panel" aria-labelledby="ac-profile-title" data-part="profile">${profilePanel(user)}</section>
        <section class="panel ac-panel" aria-labelledby="ac-password-title">${passwordPanel(user)}</section>
        <section class="panel ac-panel" aria-labelledby="ac-sessions-title" data-part="sessions">${sessionsPanel({ sessions: null })}</section>
        <section class="panel ac-panel" aria-labelledby="ac-tokens-title" data-part="tokens"></section></div>`,
    );
    watchPasswords($("[data-form=password]"), { own: () => [user.name, user.displayName], signal });
    watchProfile();
    await Promise.all([loadSessions(), tokens.load()]);
  }
  const $ = (selector) => root.querySelector(selector);
  const paintSessions = () => $("[data-part=sessions]") && render($("[data-part=sessions]"), sessionsPanel({ sessions, problem }));
  async function loadSessions() {
    try {
      sessions = (await api.get("/api/auth/sessions", { signal })).items;
      problem = null;
    } catch (error) {
      problem = error;
    }
    if (!signal?.aborted) paintSessions();
  }
  const tokens = tokenActions({
    user: () => user,
    paint: (view) => $("[data-part=tokens]") && render($("[data-part=tokens]"), tokensPanel(view)),
    signal,
  });

  function watchProfile() {
    const form = $("[data-form=profile]");
    const watch = trackDirty(form, {
      onChange: (dirty) => {
        form.querySelector("[data-save]").disabled = !dirty;
      },
    });
    signal?.addEventListener("abort", watch.stop);
    form.addEventListener("saved", () => watch.reset());
  }
  const saveProfile = async (form) => {
    const answer = await api.patch("/api/auth/me", { displayName: form.elements.displayName.value.trim() });
    user = answer.user ?? answer;
    form.dispatchEvent(new Event("saved"));
    await session.me({ fresh: true });
    render($("[data-part=profile]"), profilePanel(user));
    form.querySelector("[data-save]").disabled = true;
    toast.success("Saved");
  };
  const savePassword = async (form) => {
    const { currentPassword, password } = form.elements;
    await api.patch("/api/auth/me", { currentPassword: currentPassword.value, password: password.value });
    form.reset();
    form.dispatchEvent(new Event("input"));
    toast.success("The password was changed", { detail: "Your other devices were signed out." });
    await loadSessions();
  };

  root.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      const save = { profile: saveProfile, password: savePassword }[form.dataset.form];
      if (!save) return;
      event.preventDefault();
      busy(form.querySelector("button:not([type])"), async () => {
        clearErrors(form);
        try {
          await save(form);
        } catch (error) {
          if (showErrors(form, error.errors ?? []).length || !error.errors?.length) toast.error(error);
        }
      });
    },
    { signal },
  );
  const guarded = async (work) => {
    try {
      await work();
    } catch (error) {
      toast.error(error);
    }
    await loadSessions();
  };
  onAction(
    root,
    {
      ...tokens.actions,
      retry: start,
      "sessions-retry": loadSessions,
      "session-end": (_e, el) => busy(el, () => guarded(() => api.delete(`/api/auth/sessions/${encodeURIComponent(el.dataset.id)}`))),
      "sessions-end": (_e, el) =>
        busy(el, () =>
          guarded(async () => {
            const count = sessions.filter((s) => !s.current).length;
            await api.delete("/api/auth/sessions");
            toast.success(`${plural(count, "other device was", "other devices were")} signed out`);
          }),
        ),
    },
    { signal },
  );
  await start();
}
