/** All sets: a mosaic, what is in them, how healthy they are; new ones by dropping files. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { ago, bytes, number, percent, plural } from "../../format.js";
import { readForm, showErrors } from "../../forms.js";
import { attrs, html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { address } from "./query.js";
import { healthLook } from "./words.js";

const PAGE = 48;

/** @param {HTMLElement} root @param {{open: (id: string, changes?: any) => void, go: (own: Record<string, string>) => void, importer: any}} page */
export function listView(root, page) {
  let sets = null, cursor = null, total = 0, error = null, own = {}, run = 0, adding = Promise.resolve(), shown = false, runs = new Map();

  render(root, html`<div class="toolbar"><form class="search-box" role="search">${icon("search")}<input type="search" name="q" data-search aria-label="Search the datasets" placeholder="Search datasets" autocomplete="off" spellcheck="false"></form>
    <div class="segmented" role="group" aria-label="Place"><button type="button" data-action="place" data-value="" aria-pressed="true">Datasets</button><button type="button" data-action="place" data-value="trash" aria-pressed="false">${icon("trash")}Trash</button></div>
    <span class="spacer"></span><button type="button" class="btn" data-action="empty-set">${icon("plus")}Empty dataset</button><button type="button" class="btn btn-primary" data-action="new" data-needs="write" data-primary>${icon("upload")}New dataset</button></div>
    <div class="ds-list" aria-live="off"></div>`);
  const $ = (selector) => root.querySelector(selector);
  const trash = () => own.list === "trash";

  const mosaic = (set) => html`<span class="ds-mosaic is-${Math.min(4, set.covers?.length ?? 0)}" aria-hidden="true">${set.covers?.length ? set.covers.slice(0, 4).map((src) => html`<img src="${src}" alt="" loading="lazy" decoding="async">`) : icon("dataset")}</span>`;
  function card(set) {
    const { images = 0, captioned = 0, processed = 0, excluded = 0, sizeBytes = 0 } = set.counts ?? {};
    const look = healthLook(set.health?.score);
    const who = session.find(set.characterId)?.name;
    const used = runs.get(set.id) ?? 0;
    return html`<li class="card ds-card" data-key="${set.id}">
      <a class="ds-card-link" href="${address({ dataset: set.id })}" ${attrs({ "data-action": trash() ? undefined : "open", "data-id": set.id, "aria-label": `${set.name}, ${plural(images, "picture")}` })}>${mosaic(set)}</a>
      <div class="ds-card-text"><h2 class="truncate"><a href="${address({ dataset: set.id })}" data-action="open" data-id="${set.id}" tabindex="-1" title="${set.name}">${set.name}</a></h2>
        <p class="small muted ds-facts"><span>${plural(images - processed, "picture")}</span>${processed > 0 && html`<span>${number(processed)} made from them</span>`}${excluded > 0 && html`<span>${number(excluded)} excluded</span>`}<span>${bytes(sizeBytes)}</span></p>
        ${images > 0 && html`<div class="ds-captioned"><progress max="${images}" value="${captioned}" aria-label="Captioned"></progress><span class="small">${percent(captioned / images)} captioned</span></div>`}
        <p class="row small">${set.health && html`<span class="badge badge-${look.tone}">${icon(look.icon)}<span>${look.word}${typeof set.health.score === "number" ? ` ${number(set.health.score)}` : ""}</span></span>`}${set.triggerWord && html`<span class="badge badge-neutral">${icon("bolt")}<span>${set.triggerWord}</span></span>`}${who && html`<span class="badge badge-neutral">${icon("user")}<span>${who}</span></span>`}${used > 0 && html`<span class="badge badge-info">${icon("layers")}<span>${plural(used, "training")}</span></span>`}<span class="muted">${trash() ? `deleted ${ago(set.trashedAt)}` : ago(set.updatedAt)}</span></p></div>
      <div class="ds-card-acts">${
        trash()
          ? html`<button type="button" class="btn btn-small" data-action="restore" data-id="${set.id}">${icon("undo")}Restore</button> <button type="button" class="icon-btn" data-action="purge" data-needs="write" data-id="${set.id}" aria-label="Delete ${set.name} for good" title="Delete for good">${icon("trash")}</button>`
          : html`<button type="button" class="icon-btn" popovertarget="ds-menu-${set.id}" aria-label="Actions for ${set.name}">${icon("more")}</button><div id="ds-menu-${set.id}" popover class="popover menu" role="menu" aria-label="${set.name}" data-align="end"><button type="button" role="menuitem" data-action="edit" data-id="${set.id}">${icon("edit")}<span>Name, trigger word…</span></button><a role="menuitem" href="${address({ dataset: set.id, tab: "versions" })}">${icon("download")}<span>Versions and exports</span></a><a role="menuitem" href="/lora.html?tab=train&amp;dataset=${set.id}">${icon("bolt")}<span>Train a LoRA with this</span></a><button type="button" role="menuitem" class="is-danger" data-action="trash" data-needs="write" data-id="${set.id}">${icon("trash")}<span>Move to the trash</span></button></div>`
      }</div></li>`;
  }
  function paint() {
    root.querySelectorAll("[data-action=place]").forEach((b) => b.setAttribute("aria-pressed", String((b.dataset.value === "trash") === trash())));
    const at = $(".ds-list");
    if (error && !sets) return render(at, errorState(error, { title: "The datasets could not be loaded" }));
    if (!sets) return render(at, skeleton("cards", 6));
    if (!sets.length) {
      return render(at, own.q
        ? emptyState({ icon: "search", title: "No dataset fits", text: `Nothing is called “${own.q}”.`, action: { label: "Show all", action: "clear", icon: "x" } })
        : trash()
          ? emptyState({ icon: "trash", title: "The trash is empty", text: "Datasets you delete wait here and can be restored." })
          : emptyState({ icon: "dataset", title: "No datasets yet", text: "A dataset is a set of pictures with captions to train a LoRA on. Drop a zip, a folder or pictures anywhere on this page.", action: { label: "New dataset", action: "new", icon: "upload", needs: "write" } }));
    }
    return render(at, html`<ul class="ds-cards">${sets.map(card)}</ul>${cursor && html`<p class="row"><button type="button" class="btn" data-action="more">Show more of ${number(total)}</button></p>`}`);
  }
  async function load({ more = false } = {}) {
    const mine = (run += 1);
    try {
      const page_ = await api.get("/api/datasets", { query: { q: own.q, trashed: trash() || null, limit: more ? PAGE : Math.min(500, Math.max(PAGE, sets?.length ?? 0)), cursor: more ? cursor : null } });
      if (mine !== run) return;
      sets = more ? [...sets, ...page_.items] : page_.items;
      cursor = page_.nextCursor ?? null;
      total = page_.total ?? sets.length;
      error = null;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
      if (sets) toast.error(problem);
    }
    paint();
  }
  async function loadRuns() {
    try {
      const { items } = await api.get("/api/lora/train", { query: { limit: 100 } });
      runs = new Map();
      for (const one of items ?? []) if (one.datasetId) runs.set(one.datasetId, (runs.get(one.datasetId) ?? 0) + 1);
      if (sets) paint();
    } catch {
      /* the cards do without this figure */
    }
  }
  const soon = debounce(() => adding.then(() => { if (shown) load(); }), 600);
  stream.on("dataset.updated", soon);
  stream.on("snapshot", ({ lost }) => lost && soon());

  async function move(id, back) {
    const path = `/api/datasets/${encodeURIComponent(id)}`;
    await (back ? api.post(`${path}/restore`) : api.delete(path));
    await load();
  }
  const find = (el) => sets?.find((s) => s.id === el.dataset.id);
  onAction(root, {
    retry: () => { error = null; paint(); load(); },
    more: (_e, el) => busy(el, () => (adding = load({ more: true }))),
    open: (event, el) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      page.open(el.dataset.id);
    },
    place: (_e, el) => page.go({ list: el.dataset.value, q: "" }),
    clear: () => page.go({ q: "" }),
    new: () => page.importer.start(),
    "empty-set": async () => {
      const made = await editSet(null);
      if (made) page.open(made.id);
    },
    edit: async (_e, el) => { if (await editSet(find(el))) load(); },
    restore: (_e, el) => busy(el, () => move(el.dataset.id, true).then(() => toast.success("Restored")).catch((e) => toast.error(e))),
    purge: async (_e, el) => {
      const set = find(el);
      const yes = await confirmDialog({ title: `Delete “${set.name}” for good?`, consequences: [`${plural(set.counts?.images ?? 0, "picture")}, their captions, all versions and exports are removed from the disk.`, "This cannot be undone."], confirmLabel: "Delete for good", typed: "delete" });
      if (!yes) return;
      try {
        await api.delete(`/api/datasets/${encodeURIComponent(set.id)}`, { query: { permanent: "true" } });
        toast.success(`“${set.name}” deleted for good`);
      } catch (problem) {
        toast.error(problem);
      }
      load();
    },
    trash: async (_e, el) => {
      const set = find(el);
      if (await trashSet(set, load)) load();
    },
  });
  const search = debounce((q) => page.go({ q }, { push: false }), 350);
  root.addEventListener("input", (event) => { if (event.target.name === "q") search(event.target.value.trim()); });
  root.addEventListener("submit", (event) => { event.preventDefault(); search.flush(); });
  document.addEventListener("session:characters", () => { if (shown && sets) paint(); });

  return {
    show(next) {
      const input = $("[name=q]");
      const other = next.list !== own.list || next.q !== own.q;
      own = next;
      if (document.activeElement !== input) input.value = own.q ?? "";
      if (other) sets = null;
      shown = true;
      paint();
      loadRuns();
      return load();
    },
    hide() { shown = false; },
  };
}

/** Ask, then move a set to the trash, with undo. @returns {Promise<boolean>} */
export async function trashSet(set, restored = () => {}) {
  const ok = await confirmDialog({
    title: `Move “${set.name}” to the trash?`,
    consequences: [`${plural(set.counts?.images ?? 0, "picture")} with captions, versions and exports go with it.`, "It can be restored from the trash."],
    confirmLabel: "Move to the trash",
  });
  if (!ok) return false;
  try {
    await api.delete(`/api/datasets/${encodeURIComponent(set.id)}`);
  } catch (error) {
    toast.error(error);
    return false;
  }
  toast.success(`“${set.name}” moved to the trash`, {
    undo: async () => {
      await api.post(`/api/datasets/${encodeURIComponent(set.id)}/restore`);
      restored();
    },
  });
  return true;
}

/** Name, trigger word, character, description. @param {any|null} set null makes a new one @returns {Promise<any|null>} the set as it is then */
export async function editSet(set) {
  const { dialog, closed } = openDialog({
    title: set ? "Dataset" : "Empty dataset",
    size: "s",
    body: html`<form id="ds-edit" class="stack-4" novalidate>${fieldRow({ name: "name", label: "Name", value: set?.name, required: true, maxlength: 120, autofocus: true })}
      ${fieldRow({ name: "triggerWord", label: "Trigger word", value: set?.triggerWord, maxlength: 100, spellcheck: false, hint: "A word that means nothing else. Captions start with it, and later the prompt." })}
      ${fieldRow({ name: "characterId", label: "Character", type: "select", value: set?.characterId ?? "", options: [{ value: "", label: "None" }, ...session.known.map((c) => ({ value: c.id, label: c.name }))] })}
      ${fieldRow({ name: "description", label: "Notes", type: "textarea", rows: 3, value: set?.description })}<p class="field-error" role="alert" hidden></p></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-edit" class="btn btn-primary" data-primary>${set ? "Save" : "Create"}</button>`,
    onOpen: (d) => d.querySelector("[name=name]").focus(),
  });
  const form = dialog.querySelector("form");
  let answer = null;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(dialog.querySelector("[data-primary]"), async () => {
      const { name, triggerWord, characterId, description } = readForm(form);
      const body = { name: name ?? "", triggerWord: triggerWord ?? "", characterId: characterId || null, description: description ?? "" };
      try {
        answer = set ? await api.patch(`/api/datasets/${encodeURIComponent(set.id)}`, body) : await api.post("/api/datasets", body);
        dialog.close("saved");
      } catch (error) {
        const left = showErrors(form, error.errors ?? []);
        const slot = form.querySelector("[role=alert]");
        slot.textContent = left.length || !error.errors?.length ? [error.message, error.remedy].filter(Boolean).join(" ") : "";
        slot.hidden = !slot.textContent;
      }
    });
  });
  await closed;
  return answer;
}
