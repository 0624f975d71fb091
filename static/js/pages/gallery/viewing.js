/** The full-screen viewer as the gallery uses it: details with editable texts, actions, its place in the address. */
import { api } from "../../api.js";
import { html, icon, attrs } from "../../html.js";
import { onAction, url } from "../../dom.js";
import { bytes, dateTime, words } from "../../format.js";
import { follow } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { copyText } from "../../components/states.js";
import { factsOf } from "./query.js";

const ORIGIN = { generated: "Generated here", imported: "Imported", upscaled: "Upscaled", edited: "Edited" };
const field = (item, name, label, hint) =>
  html`<div class="field gl-edit"><label for="gl-${name}">${label}<span class="gl-saved" data-saved="${name}" role="status"></span></label><textarea id="gl-${name}" data-edit="${name}" data-id="${item.id}" rows="2" maxlength="${name === "altText" ? 2000 : 10000}" placeholder="${hint}">${item[name] ?? ""}</textarea></div>`;

/** The details beside the picture. */
function details(item) {
  const facts = factsOf(item),
    prompt = facts.get("Prompt"),
    negative = facts.get("Negative prompt"),
    r = item.recipe ?? {};
  facts.delete("Prompt");
  facts.delete("Negative prompt");
  facts.delete("Size");
  const parents = [...new Set([item.parentId, r.initImageMediaId])].filter(Boolean);
  const line = (k, v, more = {}) => html`<div><dt>${k}</dt><dd ${attrs(more)}>${v}</dd></div>`;
  const person = session.find(item.characterId);
  return html`<div class="stack-4" data-key="info-${item.id}">
    ${item.trashedAt && html`<p class="badge badge-warn">${icon("trash")}In the trash since ${dateTime(item.trashedAt)}</p>`}
    <section><header class="gl-info-head"><h2>Prompt</h2>${prompt && html`<button type="button" class="btn btn-ghost btn-small" data-action="copy-prompt">${icon("copy")}Copy</button>`}</header>${prompt ? html`<p class="prompt-text">${prompt}</p>` : html`<p class="muted">${item.hasRecipe ? "This picture was made without a prompt." : "The file does not say how it was made."}</p>`}
      ${negative && html`<h3 class="gl-sub">Negative prompt</h3><p class="prompt-text muted">${negative}</p>`}</section>
    ${
      (facts.size > 0 || item.characterId) &&
      html`<section><header class="gl-info-head"><h2>How it was made</h2>${item.hasRecipe && html`<button type="button" class="btn btn-ghost btn-small" data-action="copy-recipe">${icon("copy")}Copy recipe</button>`}</header>
      <dl class="facts">${[...facts].map(([k, v]) => line(k, k === "Seed" ? html`<code>${v}</code>` : v))}${r.modelSha256 && line("Model hash", html`<code title="${r.modelSha256}">${r.modelSha256.slice(0, 12)}</code>`)}
        ${item.characterId && line("Character", person?.name ?? r.characterName ?? "Deleted character")}</dl></section>`
    }
    ${parents.length > 0 && html`<section><h2>Made from</h2><div class="gl-parents">${parents.map((id) => html`<button type="button" data-action="open-parent" data-id="${id}" aria-label="Open the original"><img src="/api/media/${encodeURIComponent(id)}/thumb" alt=""></button><button type="button" class="btn btn-small" data-action="compare-parent" data-id="${id}">${icon("compare")}Compare</button>`)}</div></section>`}
    <section class="stack-3"><h2>Words</h2>${field(item, "caption", "Caption", "What you would write under it")}${field(item, "altText", "Alt text", "What it shows, for people who cannot see it")}</section>
    <section><h2>File</h2><dl class="facts">${line("Size", `${item.width} × ${item.height}`)}${line("File", `${bytes(item.sizeBytes)}, ${(item.mime ?? "").replace(/^\w+\//, "").toUpperCase()}`)}${line("Origin", ORIGIN[item.origin] ?? words(item.origin))}${line("Added", dateTime(item.createdAt))}${line("Id", html`<code>${item.id}</code>`)}</dl></section>
    <div class="row">${item.type !== "video" && !item.trashedAt && html`<button type="button" class="btn btn-small" data-action="init">${icon("image")}Use as start image</button>`}<a class="btn btn-small" href="/api/media/${encodeURIComponent(item.id)}/file?download=true" download>${icon("download")}Download</a>${item.hasRecipe && html`<a class="btn btn-small" href="/api/media/${encodeURIComponent(item.id)}/recipe" target="_blank" rel="noopener">${icon("external")}Recipe as JSON</a>`}</div></div>`;
}

/**
 * @param {HTMLElement} viewer @param {HTMLElement} grid
 * @param {{star: Function, trash: Function, restore: Function, deleteForGood: Function, compare: (a: any, b: any) => void, trashed: () => boolean, post: (item: any, when?: string) => void, changed: (item: any) => void}} page
 */
export function setUpViewer(viewer, grid, page) {
  const full = new Map(); // id → item with its recipe
  let marked = null; // first picture of a comparison
  let pushed = false;
  viewer.details = (item) => details({ ...item, ...(full.get(item.id) ?? {}), starred: item.starred, trashedAt: item.trashedAt });

  const actions = () =>
    page.trashed()
      ? [{ key: "restore", label: "Restore", icon: "undo", shortcut: "r" }]
      : [
          { key: "post", label: "Post…", icon: "send", shortcut: "p" },
          { key: "schedule", label: "Schedule…", icon: "calendar" },
          { key: "studio", label: "Open in studio", icon: "studio", shortcut: "o" },
          { key: "upscale", label: "Upscale 2×", icon: "expand", shortcut: "u" },
          { key: "compare", label: marked ? "Compare with marked" : "Compare", icon: "compare", shortcut: "c" },
        ];

  /** Details come when a picture is shown. A picture of the list may be old: the answer is the truth. */
  async function load(id) {
    if (full.has(id)) return full.get(id);
    const item = await api.get(`/api/media/${encodeURIComponent(id)}`);
    full.set(id, item);
    if (full.size > 60) full.delete(full.keys().next().value);
    return item;
  }

  function openAt(index, { push = true } = {}) {
    viewer.actions = actions();
    const item = grid.items[index];
    if (push && !viewer.isOpen) {
      url.set({ media: item.id }, { push: true });
      pushed = true;
    }
    viewer.open(grid.items, index, { total: grid.total, more: (at) => grid.ensure(at).then(() => grid.items) });
  }

  /** Open by id: in its place in the list when it is loaded, else alone. */
  async function openId(id, { push = false } = {}) {
    const index = grid.items.findIndex((item) => item?.id === id);
    if (index >= 0) {
      openAt(index, { push });
      return;
    }
    try {
      const item = await load(id);
      viewer.actions = actions();
      if (push) {
        url.set({ media: id }, { push: true });
        pushed = true;
      }
      viewer.open([item], 0);
    } catch (error) {
      url.set({ media: null });
      toast.error(error.status === 404 ? "This picture is no longer in the gallery." : error);
    }
  }

  async function saveField(area) {
    const { edit: name, id } = area.dataset,
      value = area.value.trim();
    if (value === area.defaultValue.trim()) {
      area.classList.remove("is-dirty");
      return;
    }
    const said = area.closest(".gl-edit")?.querySelector("[data-saved]");
    if (said) said.textContent = "Saving…";
    try {
      const item = await api.patch(`/api/media/${encodeURIComponent(id)}`, { [name]: value || null });
      area.defaultValue = value;
      area.classList.remove("is-dirty");
      if (said) {
        said.textContent = "Saved";
        setTimeout(() => {
          if (said.textContent === "Saved") said.textContent = "";
        }, 3000);
      }
      full.set(id, { ...full.get(id), ...item });
      page.changed(item);
    } catch (error) {
      if (said) said.textContent = "Not saved";
      toast.error(error, { action: { label: "Try again", run: () => saveField(area) } });
    }
  }

  async function upscale(item) {
    try {
      const { taskId } = await api.post(
        `/api/media/${encodeURIComponent(item.id)}/upscale`,
        { factor: 2 },
        { headers: { Prefer: "respond-async" } },
      );
      toast.info("Upscaling has started", { detail: "The larger picture appears in the gallery when it is ready." });
      const task = await follow(taskId);
      const id = task.result?.mediaIds?.[0] ?? task.result?.mediaId;
      toast.success("The larger picture is ready", {
        action: id ? { label: "Open", run: () => openId(id, { push: !viewer.isOpen }) } : undefined,
      });
    } catch (error) {
      toast.error(error);
    }
  }

  async function compareWith(item, other) {
    try {
      page.compare(...(await Promise.all([load(other), load(item)])));
    } catch (error) {
      toast.error(error);
    }
  }

  const act = {
    studio: (item) => {
      location.href = `/studio.html?recall=${encodeURIComponent(item.id)}`;
    },
    upscale,
    post: (item) => page.post({ ...item, ...full.get(item.id) }),
    schedule: (item) => page.post({ ...item, ...full.get(item.id) }, "schedule"),
    restore: (item) => page.restore([item.id]),
    compare(item) {
      if (marked && marked !== item.id) {
        const first = marked;
        marked = null;
        viewer.actions = actions();
        compareWith(item.id, first);
        return;
      }
      marked = item.id;
      viewer.actions = actions();
      viewer.patch(item.id, {});
      toast.info("Marked for comparison", { detail: "Go to another picture and press c again." });
    },
  };

  document.addEventListener("image-viewer:action", (event) => act[event.detail.key]?.(event.detail.item));
  viewer.addEventListener("image-viewer:star", ({ detail }) => page.star([detail.item.id], detail.starred));
  viewer.addEventListener("image-viewer:delete", ({ detail }) =>
    page.trashed() ? page.deleteForGood([detail.item.id]) : page.trash([detail.item.id]),
  );
  viewer.addEventListener("image-viewer:change", ({ detail: { item } }) => {
    url.set({ media: item.id });
    load(item.id)
      .then((whole) => {
        if (viewer.current?.id === item.id) viewer.patch(item.id, { caption: whole.caption, altText: whole.altText });
      })
      .catch((error) => {
        if (error.status === 404) {
          viewer.remove(item.id);
          grid.remove([item.id]);
        } else toast.error(error);
      });
  });
  viewer.addEventListener("image-viewer:close", () => {
    viewer.querySelectorAll("[data-edit].is-dirty").forEach(saveField);
    marked = null;
    const id = url.get("media");
    if (id && pushed) history.back();
    else url.set({ media: null });
    pushed = false;
    if (id) grid.focusItem(id);
  });
  viewer.addEventListener("input", (event) => {
    const area = event.target.closest("[data-edit]");
    if (area) area.classList.toggle("is-dirty", area.value.trim() !== area.defaultValue.trim());
  });
  viewer.addEventListener("focusout", (event) => {
    const area = event.target.closest("[data-edit]");
    if (area) saveField(area);
  });
  onAction(viewer, {
    "copy-prompt": () => copyText(factsOf({ ...viewer.current, ...full.get(viewer.current.id) }).get("Prompt"), "Prompt copied"),
    "copy-recipe": async () => {
      try {
        copyText(
          JSON.stringify((await api.get(`/api/media/${encodeURIComponent(viewer.current.id)}/recipe`)).recipe, null, 2),
          "Recipe copied",
        );
      } catch (error) {
        toast.error(error);
      }
    },
    init: () => {
      location.href = `/studio.html?init=${encodeURIComponent(viewer.current.id)}`;
    },
    "open-parent": (_e, el) => openId(el.dataset.id),
    "compare-parent": (_e, el) => compareWith(viewer.current.id, el.dataset.id),
  });

  return {
    openAt,
    openId,
    compareWith,
    forget(ids) {
      ids.forEach((id) => full.delete(id));
    },
    /** Follow the address after Back or Forward. */
    follow(id) {
      if (!id) {
        pushed = false;
        if (viewer.isOpen) viewer.close();
      } else if (viewer.current?.id !== id || !viewer.isOpen) openId(id);
    },
  };
}
