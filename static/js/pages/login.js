/** The sign-in page: first account, sign in, or a word that no account is needed. Stands alone: it asks nothing but /api/auth/state. */
import "../components/toast-stack.js";
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, onAction, render, url } from "../dom.js";
import { clearErrors, showErrors } from "../forms.js";
import { applyTheme, prefs } from "../prefs.js";
import { safeNext } from "../access.js";
import { passwordField, watchPasswords } from "../components/password-field.js";
import { signInForm, watchSignIn } from "../components/sign-in.js";
import { errorState, skeleton, watchErrorStates } from "../components/states.js";

const root = document.getElementById("lg-form");
const next = () => safeNext(url.get("next"), location.origin);
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("dalla.session") : null;
let setupNeeded = false;

applyTheme(prefs.get("theme", "system"));
watchErrorStates();

/** Other tabs of this browser hear it; then to the page that was wanted. */
function arrived() {
  channel?.postMessage("in");
  location.replace(next());
}

const titled = (title) => {
  document.title = `${title} · Digital Dalla`;
};

function showOpen() {
  titled("Open");
  const here = /^(localhost|127\.|\[::1\])/.test(location.hostname);
  render(
    root,
    html`<span class="lg-sign">${icon("unlock")}</span><div class="stack-2"><h1>Digital Dalla is open on this computer.</h1>
      <p class="muted">${setupNeeded ? html`There are no accounts, so nobody needs to sign in${here ? ", and it listens to this computer only" : ""}. Create one when other people should use it, or when it should be reached from elsewhere.` : html`Signing in is switched off in the settings (<code>DALLA_AUTH=off</code>), though there are accounts.`}</p></div>
      <div class="stack-2"><a class="btn btn-primary btn-large btn-block" href="${next()}" data-primary>${icon("arrow-right")}Continue</a>
      ${setupNeeded && html`<button type="button" class="btn btn-large btn-block" data-action="setup">${icon("key")}Create the first account</button>`}</div>`,
  );
}

function showSetup({ back = false } = {}) {
  titled("First account");
  render(
    root,
    html`<div class="stack-2"><h1>Create the first account</h1><p class="muted">It is the administrator. From then on everybody signs in who opens Digital Dalla, on this computer too.</p></div>
      <form id="setup" class="stack-4" method="post" action="/login.html" novalidate>
        <div class="si-problem" role="alert" hidden></div>
        <div class="field"><label for="setup-name">Your name</label><input id="setup-name" name="name" required autofocus autocomplete="username" autocapitalize="none" autocorrect="off" spellcheck="false" maxlength="64" aria-describedby="setup-name-hint"><p class="field-hint" id="setup-name-hint">You sign in with it: letters, digits and . _ - @ +</p><p class="field-error" id="setup-name-error" data-error-for="name" hidden></p></div>
        ${passwordField({ id: "setup-password", name: "password", label: "Password", isNew: true })}
        <button class="btn btn-primary btn-large btn-block" data-primary>${icon("check")}Create the account</button>
        ${back && html`<button type="button" class="btn btn-ghost btn-block" data-action="open">Not now</button>`}</form>`,
  );
  const form = root.querySelector("form");
  const problem = form.querySelector(".si-problem");
  watchPasswords(form, { own: () => [form.elements.name.value] });
  form.elements.name.focus();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(form.querySelector("[data-primary]"), async () => {
      clearErrors(form);
      problem.hidden = true;
      try {
        await api.post("/api/auth/setup", { name: form.elements.name.value.trim(), password: form.elements.password.value });
        arrived();
      } catch (error) {
        const left = error.errors?.length ? showErrors(form, error.errors) : [error];
        if (!left.length) return;
        problem.hidden = false;
        render(problem, html`${icon("error")}<div><p>${left[0].message}</p>${error.remedy && html`<p class="small">${error.remedy}</p>`}</div>`);
      }
    });
  });
}

function showSignIn() {
  titled("Sign in");
  render(
    root,
    html`<div class="stack-2"><h1>Sign in</h1><p class="muted">${url.get("ended") ? "You are signed out." : "Welcome back."}</p></div>${signInForm({ id: "login", large: true })}
      <details class="lg-help"><summary>Forgot your password?</summary><p>An administrator can set a new one for you under Settings, Accounts and security. Is there nobody else? On the computer Digital Dalla runs on, make another administrator: <code>python app.py --create-admin NAME</code></p></details>`,
  );
  watchSignIn(root.querySelector("form"), { onDone: arrived });
  root.querySelector("[autofocus]")?.focus();
}

async function start() {
  render(root, skeleton("form", 4));
  try {
    const state = await api.get("/api/auth/state");
    setupNeeded = state.setupNeeded;
    if (state.signedIn && !url.get("stay")) arrived();
    else if (setupNeeded && (state.loginNeeded || url.get("setup"))) showSetup({ back: !state.loginNeeded });
    else if (state.loginNeeded) showSignIn();
    else showOpen();
  } catch (error) {
    render(root, errorState(error, { title: "Digital Dalla does not answer" }));
  }
}

onAction(root, { retry: start, setup: () => showSetup({ back: true }), open: showOpen });
start();
