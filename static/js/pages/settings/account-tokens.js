/** API tokens of the person who is signed in: list, create (shown once), revoke. */
import { api } from "../../api.js";
import { curl } from "../../curl.js";
import { attrs, html, icon } from "../../html.js";
import { busy } from "../../dom.js";
import { clearErrors, showErrors } from "../../forms.js";
import { ago, date, dateTime } from "../../format.js";
import { toast } from "../../notices.js";
import { ROLE_SCOPES, SCOPES, tokenState } from "../../access.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";

const DAYS = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
  ["365", "1 year"],
  ["", "Never"],
];
const BADGE_ICONS = { good: "ok", warn: "clock", bad: "off" };

/** A request that can be tried at once. @param {string} origin @param {string} token */
export const curlExample = (origin, token) => curl({ path: "/api/characters", headers: { Authorization: `Bearer ${token}` } }, { origin });

/** @param {any} t a token of GET /api/auth/tokens @param {{revoke?: boolean}} [options] */
export function tokenRow(t, { revoke = true } = {}) {
  const [tone, label] = tokenState(t);
  return html`<li class="ac-row ${t.expired ? "is-off" : ""}" data-key="${t.id}"><span class="ac-sign">${icon("key")}</span><div class="ac-what"><h4>${t.name}<span class="badge badge-${tone}">${icon(BADGE_ICONS[tone])}<span>${label}</span></span></h4>
      <p class="small muted"><code>${t.prefix}…</code> · ${t.scopes.map((s) => SCOPES[s]?.label ?? s).join(", ")}</p>
      <p class="small muted">${t.lastUsedAt ? html`used <time title="${dateTime(t.lastUsedAt)}">${ago(t.lastUsedAt)}</time>` : "never used"} · ${t.expiresAt ? `${label === "Ended" ? "ended" : "until"} ${date(t.expiresAt)}` : "no end"}</p></div>
    <div class="ac-do">${revoke && html`<button type="button" class="btn btn-small" data-action="token-revoke" data-id="${t.id}" aria-label="Revoke ${t.name}">${icon("trash")}Revoke</button>`}</div></li>`;
}

export function tokensPanel({ items, problem }) {
  return html`<header class="panel-head"><h3 id="ac-tokens-title">API tokens</h3>${items?.length > 0 && html`<button type="button" class="btn" data-action="token-new">${icon("plus")}New token</button>`}</header>
    ${problem ? errorState(problem, { title: "The tokens could not be loaded", action: "tokens-retry", compact: true }) : !items ? skeleton("rows", 2) : items.length ? html`<ul class="ac-list">${items.map((t) => tokenRow(t))}</ul>` : emptyState({ icon: "key", title: "No token yet", text: "A token lets a program of yours use the API in your name, with no more rights than you give it.", action: { label: "New token", action: "token-new", icon: "plus" }, compact: true })}`;
}

const scopeChoice = (role, [id, { label, can }]) => {
  const allowed = ROLE_SCOPES[role]?.includes(id) ?? false;
  return html`<label class="ac-choice"><input type="checkbox" name="scope" value="${id}" ${attrs({ checked: id === "read", disabled: !allowed || id === "read" })}><strong>${label}</strong><small>${can}${!allowed && " Your role does not have it."}</small></label>`;
};

/** Ask what the token may do. Resolves with the answer of POST /api/auth/tokens, null when closed. */
async function askToken(role) {
  let made = null;
  const { dialog, closed } = openDialog({
    title: "New API token",
    body: html`<form id="token-form" class="stack-4" novalidate>
      ${fieldRow({ name: "name", label: "Name", required: true, maxlength: 80, autofocus: true, placeholder: "Backup script, phone …", hint: "What uses it, so that you know later what to revoke." })}
      <fieldset class="ac-choices"><legend>It may</legend>${Object.entries(SCOPES).map((s) => scopeChoice(role, s))}<p class="field-error" data-error-for="scopes" hidden></p></fieldset>
      ${fieldRow({ name: "days", label: "It ends after", type: "select", value: "90", options: DAYS.map(([value, label]) => ({ value, label })) })}
      <p class="small muted">A token never manages people, settings or backups.</p></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="token-form" class="btn btn-primary" data-primary>Create token</button>`,
  });
  const form = dialog.querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(dialog.querySelector("[data-primary]"), async () => {
      clearErrors(form);
      const scopes = [...form.querySelectorAll("[name=scope]:checked")].map((box) => box.value);
      const days = form.elements.days.value;
      try {
        made = await api.post("/api/auth/tokens", { name: form.elements.name.value.trim(), scopes, ...(days && { days: Number(days) }) });
        dialog.close("made");
      } catch (error) {
        if (!error.errors?.length || showErrors(form, error.errors).length) toast.error(error);
      }
    });
  });
  await closed;
  return made;
}

/** The token, once. Esc asks first whether it was copied. */
function showToken({ token, name, scopes }) {
  const command = curlExample(location.origin, token);
  let copied = false;
  const { dialog, closed } = openDialog({
    title: `Token “${name}”`,
    body: html`<div class="stack-4"><p><strong>Copy it now: it is not shown again.</strong> Who has it can use Digital Dalla as you${scopes.includes("publish") ? ", posting included" : ""}.</p>
      <div class="ac-secret"><code id="token-secret">${token}</code><button type="button" class="btn" data-copy="token" ${attrs({ autofocus: true })}>${icon("copy")}Copy</button></div>
      <div class="stack-1"><p class="label">Try it</p><div class="ac-secret"><code id="token-curl">${command}</code><button type="button" class="btn" data-copy="curl" aria-label="Copy the command">${icon("copy")}Copy</button></div></div>
      <p class="small muted">What else there is: <a href="/api/docs" target="_blank" rel="noopener">the API</a>.</p><p class="field-error" role="alert" data-ask hidden>It was not copied yet. Close once more to go on without it.</p></div>`,
    footer: html`<button type="button" class="btn btn-primary" data-close="done" data-primary>Done</button>`,
  });
  dialog.querySelector("[autofocus]").focus();
  dialog.addEventListener("click", (event) => {
    const which = event.target.closest("[data-copy]")?.dataset.copy;
    if (!which) return;
    copied = true;
    copyText(which === "token" ? token : command, which === "token" ? "The token was copied" : "The command was copied");
  });
  dialog.beforeClose = (value) => {
    const ask = dialog.querySelector("[data-ask]");
    if (value === "done" || copied || !ask.hidden) return true;
    ask.hidden = false;
    return false;
  };
  return closed;
}

/** @param {{user: () => any, paint: (view: {items: any[]|null, problem: any}) => void, signal?: AbortSignal}} page */
export function tokenActions({ user, paint, signal }) {
  let items = null,
    problem = null;
  async function load() {
    paint({ items, problem: null });
    try {
      ({ items } = await api.get("/api/auth/tokens", { signal }));
      problem = null;
    } catch (error) {
      problem = error;
    }
    if (!signal?.aborted) paint({ items, problem });
  }
  return {
    load,
    actions: {
      "tokens-retry": load,
      "token-new": async () => {
        const made = await askToken(user().role);
        if (!made) return;
        const shown = showToken({ name: made.name, scopes: made.scopes, token: made.token });
        await load();
        await shown;
      },
      "token-revoke": async (_e, el) => {
        const token = items.find((t) => t.id === el.dataset.id);
        const sure = await confirmDialog({
          title: "Revoke this token?",
          body: html`<strong>${token.name}</strong> stops working at once.`,
          consequences: [token.lastUsedAt ? `It was last used ${ago(token.lastUsedAt)}.` : "It was never used.", "It cannot be brought back; a new one can be made."],
          confirmLabel: "Revoke token",
        });
        if (!sure) return;
        try {
          await api.delete(`/api/auth/tokens/${encodeURIComponent(token.id)}`);
          toast.success("The token was revoked");
        } catch (error) {
          toast.error(error);
        }
        await load();
      },
    },
  };
}
