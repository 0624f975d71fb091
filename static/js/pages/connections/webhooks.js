/** Webhooks: the list, the form, the secret shown once, and the deliveries of one. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { showErrors } from "../../forms.js";
import { ago, dateTime } from "../../format.js";
import { toast } from "../../notices.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";

const EVENTS = {
  "post.published": "A post went out",
  "post.failed": "A post failed or was missed",
  "post.unconfirmed": "It is not known whether a post is live",
  "task.completed": "A scheduled task is done",
  "task.failed": "A scheduled task failed",
  "training.completed": "A training is done",
  "training.failed": "A training failed",
  "token.expiring": "An access token ends soon",
  test: "Test",
};
const FORMS = { discord: "Discord", slack: "Slack", ntfy: "ntfy", json: "JSON" };
const RESULTS = { delivered: ["good", "ok", "Delivered"], pending: ["info", "clock", "Waits"], failed: ["bad", "error", "Failed"] };

const host = (address) => {
  try {
    return new URL(address).host;
  } catch {
    return address;
  }
};
const badge = ([tone, glyph, label]) => html`<span class="badge badge-${tone}">${icon(glyph)}<span>${label}</span></span>`;
const path = (hook, rest = "") => `/api/webhooks/${encodeURIComponent(hook)}${rest}`;

/** @param {{hooks: any[]|null, problem: any, private: any}} view `private`: the setting that allows addresses of the private network */
export function webhooksPanel({ hooks, problem, private: setting }) {
  return html`<header class="panel-head"><h2 id="co-webhooks-title">Webhooks</h2>${hooks?.length > 0 && html`<button type="button" class="btn" data-action="hook-add" data-needs="admin">${icon("plus")}Add webhook</button>`}</header>
    ${problem ? errorState(problem, { title: "The webhooks could not be loaded", action: "hooks-retry", compact: true }) : hooks === null ? skeleton("rows", 2) : hooks.length ? html`<ul class="co-hooks">${hooks.map(row)}</ul>` : emptyState({ icon: "send", title: "No webhook yet", text: "Let Discord, Slack, ntfy or your own program know when a post went out, failed or needs you.", action: { label: "Add webhook", action: "hook-add", icon: "plus", needs: "admin" }, compact: true })}
    ${setting && html`<p class="co-private">${privateSwitch(setting)}</p>`}`;
}

const privateSwitch = (s) =>
  html`<label class="check small"><input type="checkbox" role="switch" class="switch" data-private data-needs="admin" ${attrs({ checked: Boolean(s.value), disabled: s.locked })}><span>Allow addresses in the private network${s.locked && html` <span class="muted">(${s.env} is set in the environment)</span>`}</span></label>`;

function row(hook) {
  const last = hook.lastDelivery;
  return html`<li class="co-hook ${hook.active ? "" : "is-off"}" data-key="${hook.id}"><div class="co-hook-what"><h3>${hook.description || host(hook.url)}</h3>
      <p class="small muted truncate" title="${hook.url}">${hook.description && `${host(hook.url)} · `}${FORMS[hook.format] ?? hook.format} · ${hook.events.length === Object.keys(EVENTS).length - 1 ? "all events" : hook.events.map((e) => EVENTS[e] ?? e).join(", ")}</p>
      <p class="small row">${!hook.active && badge(["neutral", "pause", "Off"])}${last ? html`${badge(RESULTS[last.status])}<span class="muted">${EVENTS[last.event] ?? last.event}, <time title="${dateTime(last.createdAt)}">${ago(last.createdAt)}</time>${last.status === "pending" && last.nextTryAt && last.attempts > 0 ? `, next try ${ago(last.nextTryAt)}` : ""}</span>` : html`<span class="muted">Nothing sent yet</span>`}</p></div>
    <div class="co-hook-actions"><button type="button" class="btn btn-small" data-action="hook-test" data-needs="admin" data-id="${hook.id}">${icon("bolt")}Test</button><button type="button" class="btn btn-small" data-action="hook-deliveries" data-id="${hook.id}">${icon("history")}Deliveries</button>
      <button type="button" class="icon-btn" popovertarget="co-menu-${hook.id}" aria-label="More for ${hook.description || host(hook.url)}">${icon("more")}</button>
      <div id="co-menu-${hook.id}" popover class="popover menu" role="menu" data-align="end"><button type="button" role="menuitem" data-action="hook-edit" data-needs="admin" data-id="${hook.id}">${icon("edit")}<span>Edit</span></button><button type="button" role="menuitem" data-action="hook-toggle" data-needs="admin" data-id="${hook.id}">${icon(hook.active ? "pause" : "play")}<span>${hook.active ? "Switch off" : "Switch on"}</span></button><button type="button" role="menuitem" data-action="hook-secret" data-needs="admin" data-id="${hook.id}">${icon("key")}<span>New secret</span></button><hr><button type="button" role="menuitem" class="is-danger" data-action="hook-delete" data-needs="admin" data-id="${hook.id}">${icon("trash")}<span>Delete</span></button></div></div></li>`;
}

/** Ask for a webhook's values. Resolves with the saved webhook, null when it was closed. @param {any} [hook] */
async function hookDialog(hook) {
  let saved = null;
  const chosen = new Set(hook?.events ?? ["post.published", "post.failed", "post.unconfirmed", "task.failed", "token.expiring"]);
  const { dialog, closed } = openDialog({
    title: hook ? "Edit webhook" : "Add webhook",
    body: html`<form id="hook-form" class="stack-4" novalidate>
      ${fieldRow({ name: "url", label: "Address", type: "url", required: true, value: hook?.url ?? "", placeholder: "https://", spellcheck: false, maxlength: 2000, autofocus: true, hint: "Discord, Slack and ntfy addresses are recognised and get a readable message; others get JSON. Every message is signed." })}
      ${fieldRow({ name: "description", label: "Name", value: hook?.description ?? "", maxlength: 200, placeholder: "Phone, team channel …" })}
      <fieldset class="co-events"><legend class="label">Tell it when</legend>${Object.entries(EVENTS)
        .filter(([name]) => name !== "test")
        .map(([name, label]) => html`<label class="check"><input type="checkbox" name="event" value="${name}" ${attrs({ checked: chosen.has(name) })}><span>${label}</span></label>`)}<p class="field-error" data-error-for="events" hidden></p></fieldset></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="hook-form" class="btn btn-primary" data-primary>${hook ? "Save" : "Add webhook"}</button>`,
  });
  const form = dialog.querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(dialog.querySelector("[data-primary]"), async () => {
      const values = {
        url: form.elements.url.value.trim(),
        description: form.elements.description.value.trim(),
        events: [...form.querySelectorAll("[name=event]:checked")].map((box) => box.value),
      };
      try {
        saved = hook ? await api.patch(path(hook.id), values) : await api.post("/api/webhooks", values);
        dialog.close("saved");
      } catch (error) {
        if (error.errors?.length) showErrors(form, error.errors);
        else toast.error(error);
      }
    });
  });
  await closed;
  return saved;
}

/** Show a signing secret, which cannot be read again. */
function showSecret(secret) {
  return openDialog({
    title: "Signing secret",
    body: html`<div class="stack-3"><p><strong>Copy it now: it is not shown again.</strong> A receiver of your own needs it to know that a message is from here. Discord, Slack and ntfy do not.</p>
      <div class="co-secret"><code id="hook-secret">${secret}</code><button type="button" class="btn" data-copy>${icon("copy")}Copy</button></div>
      <p class="small muted">The header <code>X-Dalla-Signature</code> is <code>sha256=</code> and the HMAC-SHA256, in hex, of the header <code>X-Dalla-Timestamp</code>, a dot and the body as it came. The same <code>id</code> may come twice; take it once.</p></div>`,
    footer: html`<button type="button" class="btn btn-primary" data-close="" data-primary>Done</button>`,
    onOpen: (dialog) => dialog.querySelector("[data-copy]").addEventListener("click", () => copyText(secret, "The secret was copied")),
  }).closed;
}

/** The deliveries of one webhook, newest first. */
async function deliveriesDialog(hook) {
  let items = [],
    cursor = null,
    problem = null,
    loaded = false;
  const { dialog, closed } = openDialog({
    title: `Deliveries to ${hook.description || host(hook.url)}`,
    size: "l",
    body: html`<div class="co-deliveries"></div>`,
    footer: html`<button type="button" class="btn" data-action="reload">${icon("refresh")}Refresh</button><button type="button" class="btn btn-primary" data-close="" ${attrs({ autofocus: true })}>Close</button>`,
  });
  const area = dialog.querySelector(".co-deliveries");
  const paint = () =>
    render(
      area,
      problem
        ? errorState(problem, { title: "The deliveries could not be loaded", action: "reload", compact: true })
        : !loaded
          ? skeleton("rows", 4)
          : items.length
            ? html`<div class="table-wrap" tabindex="0" role="region" aria-label="Deliveries"><table class="table"><thead><tr><th scope="col">When</th><th scope="col">Event</th><th scope="col">Result</th><th scope="col">Answer</th><th scope="col">Tries</th><th scope="col">Next try</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead><tbody>${items.map(deliveryRow)}</tbody></table></div>${cursor && html`<p><button type="button" class="btn" data-action="more">Show older ones</button></p>`}`
            : emptyState({ icon: "send", title: "Nothing was sent yet", text: "Send a test, or wait for the first event.", compact: true }),
    );
  const load = async (more = false) => {
    try {
      const page = await api.get(path(hook.id, "/deliveries"), { query: { limit: 25, cursor: more ? cursor : null } });
      items = more ? [...items, ...page.items] : page.items;
      cursor = page.nextCursor;
      problem = null;
    } catch (error) {
      problem = error;
    }
    loaded = true;
    paint();
  };
  onAction(dialog, {
    reload: (_e, el) => busy(el, () => load()),
    more: (_e, el) => busy(el, () => load(true)),
    again: (_e, el) =>
      busy(el, async () => {
        try {
          await api.post(path(hook.id, `/deliveries/${encodeURIComponent(el.dataset.id)}/retry`));
          toast.success("It is sent again");
          await load();
        } catch (error) {
          toast.error(error);
        }
      }),
  });
  paint();
  load();
  await closed;
}

function deliveryRow(d) {
  return html`<tr data-key="${d.id}"><td data-label="When"><time title="${dateTime(d.createdAt)}">${ago(d.createdAt)}</time></td><td data-label="Event">${EVENTS[d.event] ?? d.event}</td><td data-label="Result">${badge(RESULTS[d.status])}</td>
    <td data-label="Answer"><span class="co-answer">${d.responseCode !== null && html`<code>${d.responseCode}</code> `}${d.detail && html`<span class="${d.status === "failed" ? "" : "muted"}">${d.detail}</span>`}${d.responseCode === null && !d.detail && html`<span class="muted">none yet</span>`}</span></td><td data-label="Tries">${d.attempts}</td><td data-label="Next try" class="nowrap">${d.status === "pending" && d.nextTryAt ? html`<time title="${dateTime(d.nextTryAt)}">${new Date(d.nextTryAt) <= new Date() ? "now" : ago(d.nextTryAt)}</time>` : "–"}</td>
    <td class="end">${d.status === "failed" && d.event !== "test" && html`<button type="button" class="btn btn-small" data-action="again" data-id="${d.id}">${icon("repeat")}Send again</button>`}</td></tr>`;
}

/** @param {{hooks: () => any[], load: () => Promise<void>, opened: (id: string|null) => void}} page */
export function webhookActions(page) {
  const find = (el) => page.hooks().find((h) => h.id === el.dataset.id);
  const shut = (el) => el.closest("[popover]")?.hidePopover();
  const guarded = async (work) => {
    try {
      await work();
    } catch (error) {
      toast.error(error);
    }
    await page.load();
  };
  const open = async (hook) => {
    page.opened(hook.id);
    await deliveriesDialog(hook);
    page.opened(null);
    await page.load();
  };
  return {
    openHook: open,
    "hooks-retry": () => page.load(),
    "hook-add": async () => {
      const saved = await hookDialog();
      if (!saved) return;
      await page.load();
      await showSecret(saved.secret);
    },
    "hook-edit": async (_e, el) => {
      shut(el);
      if (await hookDialog(find(el))) {
        toast.success("The webhook was changed");
        await page.load();
      }
    },
    "hook-toggle": (_e, el) => {
      shut(el);
      const hook = find(el);
      return guarded(() => api.patch(path(hook.id), { active: !hook.active }));
    },
    "hook-secret": async (_e, el) => {
      shut(el);
      const hook = find(el);
      const sure = await confirmDialog({
        title: "Make a new secret?",
        body: html`The old secret of <strong>${hook.description || host(hook.url)}</strong> ends at once.`,
        consequences: ["The receiver refuses messages until it knows the new one."],
        confirmLabel: "Make a new secret",
      });
      if (sure) await guarded(async () => showSecret((await api.post(path(hook.id, "/secret"))).secret));
    },
    "hook-delete": async (_e, el) => {
      shut(el);
      const hook = find(el);
      const sure = await confirmDialog({
        title: "Delete this webhook?",
        body: html`<strong>${hook.description || host(hook.url)}</strong> is told nothing any more.`,
        consequences: ["Its deliveries and its secret are deleted."],
        confirmLabel: "Delete webhook",
      });
      if (sure) await guarded(() => api.delete(path(hook.id)));
    },
    "hook-test": (_e, el) =>
      busy(el, () =>
        guarded(async () => {
          const done = await api.post(path(el.dataset.id, "/test"));
          const answer = done.responseCode ? `It answered ${done.responseCode}.` : "";
          if (done.status === "delivered") toast.success("The test arrived", { detail: answer });
          else toast.error("The test did not arrive", { detail: done.detail || answer });
        }),
      ),
    "hook-deliveries": (_e, el) => open(find(el)),
  };
}
