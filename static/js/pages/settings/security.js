/** Settings, "Accounts and security": who may use Digital Dalla, in which role, from where. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, dateTime, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { ROLES, roleLabel } from "../../access.js";
import { avatar } from "../../components/avatar.js";
import { confirmDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { openPanel } from "./account.js";
import { accessDialog, passwordDialog, personDialog } from "./security-dialogs.js";

const path = (id, rest = "") => `/api/auth/users/${encodeURIComponent(id)}${rest}`;
const nameOf = (u) => u.displayName || u.name;

/** @returns {{id: string, label: string, icon: string, needs: "admin", mount: (root: HTMLElement, options?: {signal?: AbortSignal}) => Promise<void>}} */
export function securitySection() {
  return { id: "security", label: "Accounts and security", icon: "lock", needs: "admin", mount };
}

function personRow(u, me, lastAdmin) {
  const own = u.id === me.id;
  const keep = lastAdmin && u.role === "admin" && !u.disabled;
  return html`<li class="ac-row ${u.disabled ? "is-off" : ""}" data-key="${u.id}">${avatar({ id: u.id, name: nameOf(u) }, "m")}
    <div class="ac-what"><h4>${nameOf(u)}${own && html`<span class="badge badge-accent">${icon("user")}<span>You</span></span>`}${u.disabled && html`<span class="badge badge-neutral">${icon("off")}<span>Disabled</span></span>`}</h4>
      <p class="small muted">${u.displayName && u.displayName !== u.name && `Signs in as ${u.name} · `}${u.lastLoginAt ? html`last signed in <time title="${dateTime(u.lastLoginAt)}">${ago(u.lastLoginAt)}</time>` : "never signed in"}</p></div>
    <div class="ac-do"><select class="ac-role" data-role data-id="${u.id}" aria-label="Role of ${nameOf(u)}" ${attrs({ disabled: keep, title: keep ? "The last administrator stays one." : undefined })}>${Object.keys(ROLES).map((r) => html`<option value="${r}" ${attrs({ selected: r === u.role })}>${roleLabel(r)}</option>`)}</select>
      <button type="button" class="icon-btn" popovertarget="ac-menu-${u.id}" aria-label="More for ${nameOf(u)}" ${attrs({ "aria-haspopup": "menu" })}>${icon("more")}</button>
      <div id="ac-menu-${u.id}" popover class="popover menu" role="menu" aria-label="${nameOf(u)}" data-align="end"><button type="button" role="menuitem" data-action="person-access" data-id="${u.id}">${icon("history")}<span>Devices and tokens</span></button>
        <button type="button" role="menuitem" data-action="person-edit" data-id="${u.id}">${icon("edit")}<span>Change the display name</span></button>
        ${own ? html`<a role="menuitem" href="/settings.html?section=account">${icon("key")}<span>Change my password</span></a>` : html`<button type="button" role="menuitem" data-action="person-password" data-id="${u.id}">${icon("key")}<span>Set a new password</span></button>`}
        ${!own && html`<hr><button type="button" role="menuitem" data-action="person-toggle" data-id="${u.id}" ${attrs({ disabled: keep })}>${icon(u.disabled ? "unlock" : "lock")}<span>${u.disabled ? "Enable" : "Disable"}</span></button>
        <button type="button" role="menuitem" class="is-danger" data-action="person-delete" data-id="${u.id}" ${attrs({ disabled: keep })}>${icon("trash")}<span>Delete</span></button>`}</div></div></li>`;
}

function people({ users, me, problem }) {
  const lastAdmin = (users ?? []).filter((u) => u.role === "admin" && !u.disabled).length === 1;
  return html`<section class="panel ac-panel" aria-labelledby="ac-people-title"><header class="panel-head"><h3 id="ac-people-title">People</h3>${users && html`<button type="button" class="btn" data-action="person-new">${icon("plus")}Add a person</button>`}</header>
    ${problem ? errorState(problem, { title: "The accounts could not be loaded", compact: true }) : users ? html`<ul class="ac-list">${users.map((u) => personRow(u, me, lastAdmin))}</ul>` : skeleton("rows", 3)}</section>
    <section class="panel ac-panel" aria-labelledby="ac-roles-title"><header class="panel-head"><h3 id="ac-roles-title">What the roles may do</h3></header>
      <ul class="ac-list">${Object.values(ROLES).map((r) => html`<li class="ac-row"><span class="ac-sign">${icon(r.icon)}</span><div class="ac-what"><h4>${r.label}</h4><p class="small muted">${r.can}</p></div></li>`)}</ul></section>`;
}

async function mount(root, { signal } = {}) {
  let users = null,
    me = null,
    problem = null;
  const paint = () => {
    if (!signal?.aborted) render(root, html`<div class="stack-4">${people({ users, me, problem })}</div>`);
  };
  async function load() {
    try {
      me = (await session.me()).user;
      if (!me) {
        const open = await openPanel();
        if (!signal?.aborted) render(root, open);
        return;
      }
      users = (await api.get("/api/auth/users", { signal })).items;
      problem = null;
    } catch (error) {
      if (signal?.aborted) return;
      problem = error;
    }
    paint();
  }
  const find = (el) => users.find((u) => u.id === el.dataset.id);
  const change = async (work, said) => {
    try {
      await work();
      if (said) toast.success(said);
    } catch (error) {
      toast.error(error);
    }
    await load();
  };

  root.addEventListener(
    "change",
    async (event) => {
      const select = event.target.closest("[data-role]");
      if (!select) return;
      const user = find(select);
      const role = select.value;
      const own = user.id === me.id;
      if (
        own &&
        !(await confirmDialog({
          title: "Give up the role of administrator?",
          body: `You become ${role === "editor" ? "an editor" : "a viewer"} at once.`,
          consequences: ["Settings and people are closed to you then.", "Another administrator can give the role back."],
          confirmLabel: "Change my role",
        }))
      ) {
        select.value = user.role;
        return;
      }
      await change(() => api.patch(path(user.id), { role }), `${nameOf(user)} is ${role === "viewer" ? "a viewer" : role === "editor" ? "an editor" : "an administrator"} now`);
      select.value = users.find((u) => u.id === user.id)?.role ?? role;
      if (own) {
        await session.me({ fresh: true });
        location.href = "/settings.html?section=account";
      }
    },
    { signal },
  );
  onAction(
    root,
    {
      retry: load,
      "person-new": async () => {
        if (await personDialog()) await load();
      },
      "person-edit": async (_e, el) => {
        const user = find(el);
        if (await personDialog(user)) {
          if (user.id === me.id) await session.me({ fresh: true });
          await load();
        }
      },
      "person-password": async (_e, el) => {
        if (await passwordDialog(find(el))) await load();
      },
      "person-access": async (_e, el) => {
        await accessDialog(find(el), { own: el.dataset.id === me.id });
        await load();
      },
      "person-toggle": (_e, el) => {
        const user = find(el);
        const off = !user.disabled;
        return busy(el, () =>
          change(
            async () => {
              await api.patch(path(user.id), { disabled: off });
              toast.success(off ? `${nameOf(user)} is signed out and cannot sign in` : `${nameOf(user)} can sign in again`, {
                undo: () => change(() => api.patch(path(user.id), { disabled: !off })),
              });
            },
            "",
          ),
        );
      },
      "person-delete": async (_e, el) => {
        const user = find(el);
        let access = { sessions: [], tokens: [] };
        try {
          access = await api.get(path(user.id, "/access"));
        } catch {
          /* the question is asked without the numbers */
        }
        const sure = await confirmDialog({
          title: `Delete ${nameOf(user)}?`,
          body: "What this person made stays: characters, pictures, posts.",
          consequences: [
            `${plural(access.sessions.length, "device")} signed out, ${plural(access.tokens.length, "API token")} revoked.`,
            "To keep somebody out for a while only, disable the account instead.",
          ],
          confirmLabel: "Delete the account",
        });
        if (sure) await change(() => api.delete(path(user.id)), `${nameOf(user)} was deleted`);
      },
    },
    { signal },
  );
  render(root, skeleton("rows", 4));
  await load();
}
