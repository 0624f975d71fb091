/** Gallery: everything that was made or imported. Any number of pictures; what is shown is in the address. */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { date, number, plural } from "../format.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { prefs } from "../prefs.js";
import { session } from "../session.js";
import { openDialog } from "../components/confirm-dialog.js";
import { emptyState } from "../components/states.js";
import { openComposer, scheduleEach } from "../components/post-composer.js";
import { bulk, bulkBar, confirmForGood, download } from "./gallery/bulk.js";
import { editCollection, forgetCollection } from "./gallery/collections.js";
import { openCompare } from "./gallery/compare.js";
import { panel, summary, toolbar } from "./gallery/filters.js";
import { dropAnywhere, setUpImport } from "./gallery/importer.js";
import { watchNews } from "./gallery/news.js";
import { address, change, filterOf, hasFilters, readQuery } from "./gallery/query.js";
import { setUpViewer } from "./gallery/viewing.js";

const DRAG_TYPE = "application/x-dalla-media";
const count = (ids) => plural(ids.length, "picture");

export async function mount(main) {
  let state = readQuery(location.search);
  let facets = null,
    facetError = null,
    collections = [],
    sheet = null,
    loaded = false;
  const openFacets = new Set();
  render(
    main,
    html`<div class="gl"><aside class="gl-side" aria-label="Filters" data-key="side"></aside>
    <div class="gl-main"><div class="toolbar gl-toolbar"></div><div class="gl-summary"></div><div class="gl-news" hidden><button type="button" class="btn btn-primary" data-action="show-news"></button></div>
      <media-grid></media-grid><div class="gl-bulk" role="toolbar" aria-label="Selected pictures" hidden></div></div>
    <section class="gl-import" aria-label="Import" hidden></section><image-viewer></image-viewer>
    <div class="gl-veil" hidden><p>${icon("upload")}<strong>Drop to import</strong><span>Pictures keep the recipe that is inside them</span></p></div></div>`,
  );
  const $ = (selector) => main.querySelector(selector);
  history.scrollRestoration = "manual"; // closing the viewer goes back, and then to the picture that was looked at last
  const grid = $("media-grid"),
    viewer = $("image-viewer"),
    side = $(".gl-side");
  const isPhone = matchMedia("(max-width: 719px)");
  grid.size = prefs.get("gallerySize", isPhone.matches ? 110 : 190);
  grid.fit = prefs.get("galleryFit", "cover");
  grid.label = "Pictures";
  grid.badges = (item) =>
    ({
      imported: [{ icon: "upload", label: "Imported" }],
      upscaled: [{ icon: "expand", label: "Upscaled" }],
      edited: [{ icon: "edit", label: "Edited" }],
    })[item.origin] ?? [];
  grid.dragType = DRAG_TYPE;
  grid.loadRange = (offset, limit, first) => {
    const query = { ...filterOf(state), sort: state.sort, limit, offset: offset || null };
    // What was made since the first picture of the list is not in the list yet: it must not move the places.
    if (first && state.sort !== "oldest")
      query.before = state.before && `${state.before}T23:59:59.999Z` < first.createdAt ? state.before : first.createdAt;
    return api.get("/api/media", { query });
  };

  // ---------------------------------------------------------------- painting

  const names = { character: (id) => session.find(id)?.name, collection: (id) => collections.find((c) => c.id === id)?.name, day: date };
  const paintSummary = () => render($(".gl-summary"), summary({ state, total: grid.total, loaded, names }));
  const paintToolbar = () => render($(".gl-toolbar"), toolbar({ state, size: grid.size, fit: grid.fit }));
  const panelView = (prefix) =>
    panel({
      state,
      facets,
      error: facetError,
      collections,
      open: openFacets,
      character: session.find,
      prefix,
      size: grid.size,
      fit: grid.fit,
    });
  function paintPanel() {
    render(side, panelView("side"));
    if (sheet) render(sheet.querySelector(".gl-sheet"), panelView("sheet"));
  }
  function paintBulk() {
    const ids = [...grid.selection],
      bar = $(".gl-bulk");
    bar.hidden = !ids.length;
    main.classList.toggle("has-bulk", ids.length > 0);
    if (ids.length)
      render(
        bar,
        bulkBar({
          ids,
          total: grid.total,
          state,
          allStarred: ids.every((id) => grid.find(id)?.starred),
          collections,
          characters: session.known,
        }),
      );
  }
  function paint() {
    paintToolbar();
    paintSummary();
    paintPanel();
  }

  // ---------------------------------------------------------------- loading

  let facetRun = 0;
  async function loadFacets() {
    const run = (facetRun += 1),
      filter = filterOf(state);
    // A chosen value must not hide its alternatives: its own list is counted without it.
    const own = { characters: "characterId", models: "model", loras: "lora", engines: "engine" };
    const extra = Object.entries(own).filter(([, name]) => filter[name]);
    try {
      const [all, ...without] = await Promise.all([
        api.get("/api/media/facets", { query: filter }),
        ...extra.map(([, name]) => api.get("/api/media/facets", { query: { ...filter, [name]: "" } })),
      ]);
      if (run !== facetRun) return;
      facets = { ...all, ...Object.fromEntries(extra.map(([key], i) => [key, without[i][key]])) };
      facetError = null;
    } catch (error) {
      if (run !== facetRun) return;
      facetError = error;
    }
    paintPanel();
  }
  const facetsSoon = debounce(loadFacets, 400);
  async function loadCollections() {
    try {
      collections = (await api.get("/api/collections")).items;
      paintPanel();
      paintSummary();
      paintBulk();
    } catch {
      /* the list says nothing new; the grid tells about the server */
    }
  }
  async function reload() {
    news.clear();
    grid.emptyView = state.trashed
      ? emptyState({ icon: "trash", title: "The trash is empty", text: "Pictures you delete wait here until you empty it." })
      : hasFilters(state)
        ? emptyState({
            icon: "search",
            title: "No picture fits",
            text: "Nothing matches all of these filters together.",
            action: { label: "Clear filters", action: "clear", icon: "x" },
          })
        : emptyState({
            icon: "image",
            title: "No pictures yet",
            text: "Make the first one in the studio, or drop pictures onto this page to import them with their recipes.",
            action: { label: "Open the studio", href: "/studio.html", icon: "studio" },
          });
    loadFacets();
    await grid.reload();
  }
  /** Change what is shown, and the address with it. */
  function go(changes, { push = true } = {}) {
    const next = change(state, changes);
    if (address(next) === address(state)) return;
    state = next;
    history[push ? "pushState" : "replaceState"](null, "", address(state));
    paint();
    scrollTo({ top: 0, behavior: "instant" });
    reload();
  }
  const clear = () => {
    if (state.characterId && state.characterId === session.characterId) session.choose("");
    go(
      Object.fromEntries(
        Object.keys(state)
          .filter((k) => k !== "sort" && k !== "trashed")
          .map((k) => [k, ""]),
      ),
    );
  };

  // ---------------------------------------------------------------- changing

  const afterwards = () => {
    facetsSoon();
    paintSummary();
    paintBulk();
  };
  const fail = (error) => toast.error(error);
  function patchAll(ids, changes) {
    ids.forEach((id) => {
      grid.patch(id, changes);
      if (viewer.isOpen) viewer.patch(id, changes);
    });
    view.forget(ids);
  }
  async function star(ids, starred) {
    patchAll(ids, { starred }); // shown at once, taken back when it fails
    try {
      news.mine(ids);
      await bulk(starred ? "star" : "unstar", ids);
      paintBulk();
    } catch (error) {
      patchAll(ids, { starred: !starred });
      fail(error);
    }
  }
  function takeOut(ids) {
    const removed = grid.remove(ids);
    if (removed.length < ids.length) grid.reload(); // some were not loaded: where they stood is not known
    if (viewer.isOpen) ids.forEach((id) => viewer.remove(id));
    view.forget(ids);
    afterwards();
    return removed;
  }
  async function trash(ids) {
    try {
      news.mine(ids);
      const done = await bulk("trash", ids);
      const removed = takeOut(done);
      loadCollections();
      if (done.length)
        toast.success(`${count(done)} moved to the trash`, {
          undo: async () => {
            try {
              news.mine(done);
              await bulk("restore", done);
              if (removed.length < done.length) grid.reload();
              else grid.restore(removed);
              afterwards();
              loadCollections();
            } catch (error) {
              fail(error);
            }
          },
        });
    } catch (error) {
      fail(error);
    }
  }
  async function restore(ids) {
    try {
      news.mine(ids);
      const done = await bulk("restore", ids);
      takeOut(done);
      loadCollections();
      if (done.length) toast.success(`${count(done)} restored`);
    } catch (error) {
      fail(error);
    }
  }
  async function deleteForGood(ids) {
    if (!(await confirmForGood(ids.length))) return;
    try {
      news.mine(ids);
      const done = await bulk("delete", ids);
      takeOut(done);
      if (done.length) toast.success(`${count(done)} deleted for good`);
    } catch (error) {
      fail(error);
    }
  }
  async function emptyTrash(button) {
    await busy(button, async () => {
      try {
        const { ids } = await api.get("/api/media/ids", { query: { trashed: true } });
        if (!ids.length) {
          toast.info("The trash is empty");
          return;
        }
        if (!(await confirmForGood(ids.length))) return;
        let done = 0;
        for (let left = ids; left.length; left = (await api.get("/api/media/ids", { query: { trashed: true } })).ids) {
          const gone = await bulk("delete", left);
          done += gone.length;
          if (!gone.length) break;
        }
        toast.success(`${plural(done, "picture")} deleted for good`);
        reload();
      } catch (error) {
        fail(error);
      }
    });
  }
  async function collect(ids, id) {
    try {
      const done = await bulk("addToCollection", ids, { collectionId: id });
      await loadCollections();
      toast.success(`${count(done)} added to ${names.collection(id) ?? "the collection"}`, {
        action: { label: "Show", href: address({ collectionId: id }) },
      });
    } catch (error) {
      fail(error);
    }
  }
  async function newCollection(ids = []) {
    const made = await editCollection({ hint: ids.length ? `${count(ids)} will be put into it.` : "" });
    if (!made) return;
    await loadCollections();
    if (ids.length) await collect(ids, made.id);
  }

  /** One picture or a carousel to the composer; several to schedule become a post each. */
  async function postThese(ids, when = "") {
    const items = ids.map((id) => grid.find(id)).filter(Boolean);
    const owners = new Set(items.map((item) => item.characterId).filter(Boolean));
    const characterId = owners.size === 1 ? [...owners][0] : state.characterId || session.characterId;
    const posts =
      when === "schedule" && ids.length > 1
        ? await scheduleEach({ mediaIds: ids, items, characterId })
        : await openComposer({ mediaIds: ids, items, characterId, nextFree: when === "schedule" });
    if (posts?.length) grid.clearSelection();
  }

  // ---------------------------------------------------------------- parts

  const news = watchNews({ grid, stream, state: () => state, pill: $(".gl-news"), changed: afterwards, collections: loadCollections });
  const view = setUpViewer(viewer, grid, {
    star,
    trash,
    restore,
    deleteForGood,
    trashed: () => Boolean(state.trashed),
    changed: (item) => grid.patch(item.id, item),
    post: (item, when) => postThese([item.id], when),
    compare: (a, b) => {
      url.set({ compare: `${a.id},${b.id}` });
      openCompare(a, b).then(() => url.set({ compare: null }));
    },
  });
  const importer = setUpImport($(".gl-import"), {
    characterId: () => (state.characterId && session.find(state.characterId) ? state.characterId : ""),
    open: (id) => view.openId(id, { push: true }),
    done: () => facetsSoon(),
  });
  dropAnywhere($(".gl-veil"), (files) => importer.add(files));
  addEventListener("beforeunload", (event) => {
    if (importer.busy) event.preventDefault();
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length && !event.target.closest?.("input, textarea")) importer.add(event.clipboardData.files);
  });

  const selected = () => [...grid.selection];
  const handlers = {
    clear,
    fit: (_e, el) => {
      grid.fit = el.dataset.value;
      prefs.set("galleryFit", grid.fit);
      paintToolbar();
      paintPanel();
    },
    example: (_e, el) => {
      const input = $("[name=q]"),
        text = el.dataset.text;
      input.value = `${input.value.trim()} ${text}`.trim();
      $("#gl-help").hidePopover();
      input.focus();
      const at = input.value.length - text.length + text.indexOf(":") + 1;
      input.setSelectionRange(at, input.value.length);
    },
    drop: (_e, el) => {
      if (el.dataset.name === "characterId" && state.characterId === session.characterId) session.choose("");
      go({ [el.dataset.name]: "" });
    },
    facet: (_e, el) => {
      const { name, value } = el.dataset;
      go({ [name]: state[name] === value ? "" : value });
    },
    place: (_e, el) => go({ trashed: el.dataset.value === "trash" ? "true" : "", collectionId: "" }),
    "leave-trash": () => go({ trashed: "" }),
    more: (_e, el) => {
      if (!openFacets.delete(el.dataset.name)) openFacets.add(el.dataset.name);
      paintPanel();
    },
    "retry-facets": () => loadFacets(),
    import: () => importer.choose(),
    "empty-trash": (_e, el) => emptyTrash(el),
    "show-news": () => news.show(),
    filters: () => {
      const { dialog, closed } = openDialog({
        title: "Filters",
        body: html`<div class="gl-sheet"></div>`,
        footer: html`<button type="button" class="btn" data-action="clear">Clear</button><button type="button" class="btn btn-primary" data-close="">Show pictures</button>`,
      });
      sheet = dialog;
      onAction(dialog, handlers);
      dialog.addEventListener("change", onChange);
      dialog.addEventListener("input", onInput);
      paintPanel();
      closed.then(() => {
        sheet = null;
      });
    },
    "new-collection": () => newCollection(),
    "rename-collection": async (_e, el) => {
      const c = collections.find((one) => one.id === el.dataset.id);
      if (c && (await editCollection(c))) loadCollections();
    },
    "delete-collection": async (_e, el) => {
      const c = collections.find((one) => one.id === el.dataset.id);
      if (c && (await forgetCollection(c))) {
        if (state.collectionId === c.id) go({ collectionId: "" });
        loadCollections();
      }
    },
    "clear-selection": () => grid.clearSelection(),
    "select-matching": (_e, el) =>
      busy(el, async () => {
        try {
          grid.selection = (await api.get("/api/media/ids", { query: filterOf(state) })).ids;
        } catch (error) {
          fail(error);
        }
      }),
    "bulk-star": () => {
      const ids = selected();
      star(ids, !ids.every((id) => grid.find(id)?.starred));
    },
    "bulk-collect": (_e, el) => collect(selected(), el.dataset.id),
    "bulk-collect-new": () => newCollection(selected()),
    "bulk-uncollect": async () => {
      const id = state.collectionId;
      try {
        const done = await bulk("removeFromCollection", selected(), { collectionId: id });
        const removed = takeOut(done);
        loadCollections();
        toast.success(`${count(done)} taken out of ${names.collection(id) ?? "the collection"}`, {
          undo: async () => {
            await bulk("addToCollection", done, { collectionId: id });
            if (state.collectionId === id) grid.restore(removed);
            afterwards();
            loadCollections();
          },
        });
      } catch (error) {
        fail(error);
      }
    },
    "bulk-character": async (_e, el) => {
      const ids = selected(),
        characterId = el.dataset.id || null;
      try {
        news.mine(ids);
        const done = await bulk("setCharacter", ids, { characterId });
        patchAll(done, { characterId });
        if (state.characterId) reload();
        else facetsSoon();
        toast.success(characterId ? `${count(done)} set to ${names.character(characterId)}` : `${count(done)} without a character now`);
      } catch (error) {
        fail(error);
      }
    },
    "bulk-post": () => postThese(selected()),
    "bulk-schedule": () => postThese(selected(), "schedule"),
    "bulk-compare": () => {
      const [a, b] = selected();
      view.compareWith(b, a);
    },
    "bulk-download": (_e, el) => {
      const ids = selected(),
        word = el.querySelector(".gl-word");
      busy(el, () =>
        download(
          ids,
          (id) => grid.find(id),
          (done) => {
            word.textContent = `${number(done)} of ${number(ids.length)}`;
          },
        ),
      ).finally(() => {
        word.textContent = "Download";
      });
    },
    "bulk-trash": () => trash(selected()),
    "bulk-restore": () => restore(selected()),
    "bulk-delete": () => deleteForGood(selected()),
  };
  onAction(main, handlers);
  const onChange = (event) => {
    const el = event.target;
    if (el.dataset.change === "sort") go({ sort: el.value === "oldest" ? "oldest" : "" });
    else if (el.name === "after" || el.name === "before") go({ [el.name]: el.value });
  };
  main.addEventListener("change", onChange);
  const onInput = (event) => {
    if (event.target.dataset.input === "size") {
      grid.size = event.target.value;
      prefs.set("gallerySize", grid.size);
    }
  };
  main.addEventListener("input", onInput);
  const searchSoon = debounce((q) => go({ q: q.trim() }, { push: false }), 450);
  main.addEventListener("input", (event) => {
    if (event.target.name === "q") searchSoon(event.target.value);
  });
  main.addEventListener("submit", (event) => {
    event.preventDefault();
    searchSoon.cancel();
    go({ q: event.target.elements.q.value.trim() });
  });

  grid.addEventListener("media-grid:open", ({ detail }) => view.openAt(detail.index));
  grid.addEventListener("media-grid:select", paintBulk);
  grid.addEventListener("media-grid:star", ({ detail }) => star([detail.item.id], detail.starred));
  grid.addEventListener("media-grid:delete", ({ detail }) => (state.trashed ? deleteForGood(detail.ids) : trash(detail.ids)));
  grid.addEventListener("media-grid:loaded", () => {
    loaded = true;
    paintSummary();
    paintBulk();
  });
  const target = (event) => event.target.closest?.("[data-drop]");
  side.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes(DRAG_TYPE)) return;
    const at = target(event);
    side.querySelectorAll(".is-over").forEach((el) => el !== at && el.classList.remove("is-over"));
    if (at) {
      event.preventDefault();
      at.classList.add("is-over");
    }
  });
  side.addEventListener("dragleave", (event) => target(event)?.classList.remove("is-over"));
  side.addEventListener("drop", (event) => {
    const at = target(event);
    if (!at) return;
    event.preventDefault();
    at.classList.remove("is-over");
    collect(JSON.parse(event.dataTransfer.getData(DRAG_TYPE)), at.dataset.drop);
  });

  document.addEventListener("session:characters", () => {
    paintPanel();
    paintSummary();
    paintBulk();
  });
  document.addEventListener("session:character", ({ detail }) => go({ characterId: detail.id }));
  addEventListener("popstate", () => {
    const next = readQuery(location.search);
    if (address(next) !== address(state)) {
      state = next;
      paint();
      const input = $("[name=q]");
      input.value = state.q ?? "";
      reload();
    }
    view.follow(url.get("media"));
  });
  registerKeys("Gallery", [
    { keys: "mod+a", label: "Select all that are loaded", run: () => grid.selectAll() },
    {
      keys: "Delete",
      label: "Move the selected to the trash",
      when: () => grid.selection.size > 0,
      run: () => (state.trashed ? deleteForGood(selected()) : trash(selected())),
    },
    { keys: ".", label: "Star the selected", when: () => grid.selection.size > 0, run: () => handlers["bulk-star"]() },
    { keys: "c", label: "Compare the two selected", when: () => grid.selection.size === 2, run: () => handlers["bulk-compare"]() },
    { keys: "p", label: "Post the selected", when: () => grid.selection.size > 0 && !state.trashed, run: () => postThese(selected()) },
    { keys: "Escape", label: "Clear the selection", when: () => grid.selection.size > 0, run: () => grid.clearSelection() },
    { keys: "shift+i", label: "Import pictures", run: () => importer.choose() },
  ]);
  registerKeys(
    "Picture viewer",
    [
      ["ArrowLeft", "Previous"],
      ["ArrowRight", "Next"],
      ["i", "Details"],
      [".", "Star"],
      ["c", "Mark, then compare"],
      ["o", "Open in studio"],
      ["u", "Upscale 2×"],
      ["p", "Post"],
      ["Delete", "Move to the trash"],
      ["+", "Zoom in"],
      ["0", "Fit"],
    ].map(([keys, label]) => ({ keys, label })),
  );

  // A page opened without any filter starts with the character that is being worked with.
  if (!location.search && session.characterId) {
    state = change(state, { characterId: session.characterId });
    history.replaceState(null, "", address(state));
  }
  paint();
  await Promise.all([session.characters().catch(() => {}), loadCollections(), reload()]);
  paint();
  if (url.get("focus") === "search") {
    url.set({ focus: null });
    $("[name=q]").focus();
  }
  if (url.get("media")) view.openId(url.get("media"));
  const pair = (url.get("compare") ?? "").split(",");
  if (pair.length === 2) view.compareWith(pair[1], pair[0]);
}
