/** Characters: the list, and one of them. What is open stands in the address (?id=, ?new=1). */
import { api } from "../api.js";
import { avatar } from "../components/avatar.js";
import { emptyState, errorState, skeleton } from "../components/states.js";
import { statusBadge } from "../components/status-badge.js";
import { debounce, onAction, render, url } from "../dom.js";
import { ago, plural } from "../format.js";
import { attrs, html, icon } from "../html.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { prefs } from "../prefs.js";
import { session } from "../session.js";
import { showCharacter } from "./characters/detail.js";
import { attention } from "./characters/fields.js";
import { newCharacter } from "./characters/new.js";

const SORTS = [
  ["name", "Name"],
  ["updated", "Last changed"],
  ["created", "Newest"],
];

/** The characters that fit the filters, in order. Pure. */
export function choose(list, { q = "", only = [], sort = "name" }, models) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (c) => {
    const text = [c.name, c.personality, c.instagramHandle, c.twitterHandle, c.triggerWord, c.preferredModel].join(" ").toLowerCase();
    return (
      words.every((w) => text.includes(w)) &&
      (!only.includes("active") || c.isActive) &&
      (!only.includes("lora") || c.loras?.length) &&
      (!only.includes("attention") || attention(c, models).length)
    );
  };
  const by = {
    name: (a, b) => a.name.localeCompare(b.name),
    updated: (a, b) => String(b.updatedAt ?? "").localeCompare(String(a.updatedAt ?? "")),
    created: (a, b) => String(b.createdAt ?? "").localeCompare(String(a.createdAt ?? "")),
  };
  return list.filter(fits).sort(by[sort] ?? by.name);
}

export async function mount(main) {
  const root = document.createElement("div");
  main.append(root);
  const viewer = document.createElement("image-viewer");
  document.body.append(viewer);
  let list = null,
    error = null,
    models = null,
    detail = null,
    shownId = null,
    viewing = null;

  const state = () => ({
    q: url.get("q") ?? "",
    only: (url.get("only") ?? "").split(",").filter(Boolean),
    sort: url.get("sort") ?? "name",
    view: url.get("view") ?? prefs.get("charactersView", "cards"),
  });
  const shown = () => choose(list ?? [], state(), models);

  // ---------------------------------------------------------------- list
  function showList() {
    const s = state();
    if (error && !list) {
      render(root, errorState(error, { title: "The characters could not be loaded" }));
      return;
    }
    if (!list) {
      render(root, skeleton("cards", 6));
      return;
    }
    if (!list.length) {
      render(
        root,
        emptyState({
          icon: "characters",
          title: "Who is first?",
          text: "A character is one AI persona: looks, story and accounts. A name is enough to begin.",
          action: { label: "New character", action: "new", icon: "plus", needs: "write" },
        }),
      );
      return;
    }
    const items = shown();
    render(
      root,
      html`<div class="toolbar" role="search"><div class="search-box">${icon("search")}<input type="search" data-search aria-label="Search characters" placeholder="Search characters" value="${s.q}" autocomplete="off"></div>
      ${[
        ["active", "Active"],
        ["lora", "Has LoRA"],
        ["attention", "Needs attention"],
      ].map(
        ([key, label]) =>
          html`<button type="button" class="chip" data-action="only" data-only="${key}" aria-pressed="${String(s.only.includes(key))}">${s.only.includes(key) && icon("check")}${label}</button>`,
      )}
      <span class="spacer"></span><select aria-label="Sort by" data-sort-by>${SORTS.map(([key, label]) => html`<option ${attrs({ value: key, selected: key === s.sort })}>${label}</option>`)}</select>
      <div class="segmented" role="group" aria-label="View"><button type="button" data-action="view" data-view="cards" aria-pressed="${String(s.view === "cards")}" aria-label="Cards" title="Cards">${icon("grid")}</button><button type="button" data-action="view" data-view="table" aria-pressed="${String(s.view === "table")}" aria-label="Table" title="Table">${icon("list")}</button></div>
      <button type="button" class="btn btn-primary" data-action="new" data-needs="write" title="New (n)">${icon("plus")}New character</button></div>
      <p class="visually-hidden" role="status">${plural(items.length, "character")}</p>
      ${
        !items.length
          ? emptyState({
              icon: "search",
              title: "Nothing fits",
              text: "No character fits these words and filters.",
              action: { label: "Clear filters", action: "clear" },
            })
          : s.view === "table"
            ? html`<data-table></data-table>`
            : html`<ul class="character-cards">${items.map(card)}</ul>`
      }`,
    );
    const table = root.querySelector("data-table");
    if (table) {
      table.label = "Characters";
      table.columns = [
        {
          key: "name",
          label: "Name",
          primary: true,
          sortable: true,
          render: (c) =>
            html`<a class="who" href="?id=${c.id}" data-action="open" data-id="${c.id}">${avatar(c, "s")}<span>${c.name}</span></a>`,
        },
        { key: "state", label: "State", render: (c) => states(c) },
        { key: "preferredModel", label: "Model", render: (c) => c.preferredModel || html`<span class="muted">Default</span>` },
        { key: "loras", label: "LoRA", render: (c) => c.loras?.map((l) => l.name).join(", ") || html`<span class="muted">–</span>` },
        { key: "instagramHandle", label: "Instagram", render: (c) => c.instagramHandle || html`<span class="muted">–</span>` },
        { key: "updated", label: "Changed", sortable: true, render: (c) => html`<span class="muted">${ago(c.updatedAt)}</span>` },
      ];
      table.sort = s.sort === "name" ? { key: "name", dir: "asc" } : s.sort === "updated" ? { key: "updated", dir: "desc" } : null;
      table.rows = items;
    }
  }
  const states = (c) =>
    html`<span class="row">${statusBadge(c.isActive ? "active" : "inactive")}${attention(c, models).length > 0 && html`<span title="${attention(c, models).join(" ")}">${statusBadge("attention", "Needs attention")}</span>`}</span>`;
  const card = (
    c,
  ) => html`<li data-key="${c.id}"><a class="card character-card" href="?id=${c.id}" data-action="open" data-id="${c.id}"><div class="row row-nowrap">${avatar(c, "l")}<div class="stack-1 grow"><h3 class="truncate">${c.name}</h3><p class="muted small truncate">${[c.instagramHandle, c.twitterHandle].filter(Boolean).join(" · ") || "No accounts yet"}</p></div></div>
    <p class="small clamp-2 character-say">${c.personality || html`<span class="muted">No personality written yet.</span>`}</p><p class="row character-foot">${states(c)}${c.loras?.length > 0 && html`<span class="badge badge-neutral">${icon("layers")}<span>${c.loras[0].name}</span></span>`}</p></a></li>`;

  // ---------------------------------------------------------------- one of them
  const owner = {
    models: () => models,
    neighbours(id) {
      const ids = shown().map((c) => c.id);
      const i = ids.indexOf(id);
      return { before: i > 0 ? ids[i - 1] : null, after: i >= 0 && i < ids.length - 1 ? ids[i + 1] : null };
    },
    open: (id) => id && go({ id, tab: url.get("tab") }),
    close: () => go({ id: null, tab: null }),
    removed(character) {
      list = list?.filter((c) => c.id !== character.id) ?? null;
      detail?.stop();
      detail = null;
      toast.success(`${character.name} was deleted`, {
        undo: async () => {
          try {
            await api.post(`/api/characters/${character.id}/restore`);
            toast.success(`${character.name} is back`);
            await load();
            route();
          } catch (problem) {
            toast.error(problem);
          }
        },
      });
      url.set({ id: null, tab: null }, { push: true });
      route();
    },
    connectGrid(grid, { onAvatar }) {
      viewing = { grid, onAvatar };
      grid.addEventListener("media-grid:open", ({ detail: d }) =>
        viewer.open(grid.items, d.index, {
          total: grid.total,
          more: async () => {
            await grid.more();
            return grid.items;
          },
        }),
      );
      grid.addEventListener("media-grid:star", ({ detail: d }) => star(d));
      grid.addEventListener("media-grid:delete", ({ detail: d }) => trash(d.ids));
    },
  };
  async function star({ item, starred }) {
    const grid = viewing?.grid;
    grid?.patch(item.id, { starred });
    viewer.patch(item.id, { starred });
    try {
      await api.patch(`/api/media/${item.id}`, { starred });
    } catch (problem) {
      grid?.patch(item.id, { starred: !starred });
      viewer.patch(item.id, { starred: !starred });
      toast.error(problem);
    }
  }
  async function trash(ids) {
    const grid = viewing?.grid;
    try {
      await api.post("/api/media/bulk", { action: "trash", ids });
      const gone = grid?.remove(ids) ?? [];
      ids.forEach((id) => viewer.remove(id));
      toast.success(`${plural(ids.length, "picture")} moved to trash`, {
        undo: async () => {
          try {
            await api.post("/api/media/bulk", { action: "restore", ids });
            grid?.restore(gone);
          } catch (problem) {
            toast.error(problem);
          }
        },
      });
    } catch (problem) {
      toast.error(problem);
    }
  }
  viewer.actions = [{ key: "avatar", label: "Use as avatar", icon: "user" }];
  viewer.addEventListener("image-viewer:star", ({ detail: d }) => star(d));
  viewer.addEventListener("image-viewer:delete", ({ detail: d }) => trash([d.item.id]));
  viewer.addEventListener("image-viewer:action", ({ detail: d }) => viewing?.onAvatar(d.item));
  viewer.addEventListener("image-viewer:close", () => {
    if (viewer.current) viewing?.grid.focusItem(viewer.current.id);
  });
  stream.on("media.created", (m) => {
    if (!viewing?.grid.isConnected || m.characterId !== shownId) return;
    const { grid } = viewing; // another character may be open when the answer is there
    api
      .get(`/api/media/${m.id}`)
      .then((item) => grid.isConnected && grid.prepend(item))
      .catch(() => {});
  });

  // ---------------------------------------------------------------- where we are
  async function go(changes) {
    if (detail && !(await detail.leave())) return;
    url.set(changes, { push: true });
    route();
  }
  function route() {
    const id = url.get("id");
    if (id) {
      if (shownId === id && detail) return;
      detail?.stop();
      root.replaceChildren();
      shownId = id;
      viewing = null;
      detail = showCharacter(root, id, owner);
    } else {
      if (shownId) root.replaceChildren();
      detail?.stop();
      detail = null;
      shownId = null;
      viewing = null;
      showList();
    }
  }
  let here = location.search;
  addEventListener("popstate", async () => {
    const wanted = location.search;
    if (detail && new URLSearchParams(wanted).get("id") !== shownId) {
      history.pushState(history.state, "", location.pathname + here); // stay until the person has answered
      if (!(await detail.leave())) return;
      history.replaceState(history.state, "", location.pathname + wanted);
    }
    route();
  });
  const remember = () => {
    here = location.search;
  };
  addEventListener("click", () => setTimeout(remember));

  async function load() {
    try {
      list = await session.characters({ fresh: true });
      error = null;
    } catch (problem) {
      error = problem;
      if (list) toast.error(problem);
    }
    if (!detail) showList();
  }
  async function add() {
    url.set({ new: 1 });
    const made = await newCharacter(models);
    url.set({ new: null });
    if (!made) return;
    await load();
    session.choose(made.id);
    go({ id: made.id, tab: made.promptSettings?.basePrompt ? null : "looks" });
  }

  const search = debounce((q) => {
    url.set({ q });
    if (!detail) showList();
  }, 120);
  root.addEventListener("input", (event) => {
    if (event.target.matches("[data-search]")) search(event.target.value);
  });
  root.addEventListener("change", (event) => {
    if (event.target.matches("[data-sort-by]")) {
      url.set({ sort: event.target.value === "name" ? null : event.target.value });
      showList();
    }
  });
  root.addEventListener("data-table:open", (event) => go({ id: event.detail.row.id }));
  root.addEventListener("data-table:sort", (event) => {
    url.set({ sort: event.detail.key === "name" ? null : event.detail.key });
    showList();
  });
  onAction(root, {
    retry: () => {
      if (!detail) {
        error = null;
        showList();
        load();
      }
    },
    new: add,
    open: (event, el) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go({ id: el.dataset.id });
    },
    only: (_e, el) => {
      const { only } = state();
      const key = el.dataset.only;
      url.set({ only: (only.includes(key) ? only.filter((o) => o !== key) : [...only, key]).join(",") });
      showList();
    },
    view: (_e, el) => {
      prefs.set("charactersView", el.dataset.view);
      url.set({ view: null });
      showList();
    },
    clear: () => {
      url.set({ q: null, only: null });
      const box = root.querySelector("[data-search]");
      if (box) box.value = "";
      showList();
    },
  });
  const step = (by) => {
    const cards = [...root.querySelectorAll(".character-card")];
    const at = cards.indexOf(document.activeElement);
    if (cards.length) cards[Math.max(0, Math.min(cards.length - 1, at + by))].focus();
  };
  registerKeys("Characters", [
    { keys: "n", label: "New character", run: add },
    { keys: "e", label: "Edit the open character", when: () => Boolean(detail), run: () => detail.edit() },
    { keys: "ArrowLeft", label: "Previous character", run: () => (detail ? owner.open(owner.neighbours(shownId).before) : step(-1)) },
    { keys: "ArrowRight", label: "Next character", run: () => (detail ? owner.open(owner.neighbours(shownId).after) : step(1)) },
    { keys: "mod+s", label: "Save", always: true, when: () => Boolean(detail), run: () => detail.save() },
    {
      keys: "Escape",
      label: "Back to all characters",
      when: () => Boolean(detail) && !document.querySelector(":popover-open:not(toast-stack), dialog[open]"),
      run: () => owner.close(),
    },
  ]);
  document.addEventListener("session:characters", (event) => {
    list = event.detail;
    if (!detail) showList();
  });

  route();
  api
    .get("/api/models")
    .then((answer) => {
      models = answer;
      if (detail) detail.refresh();
      else showList();
    })
    .catch(() => {});
  await load();
  if (url.get("new")) add();
}
