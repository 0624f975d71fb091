/** The Images tab: a grid of any length with editable captions, filters, selection and what is done with it. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { emptyState } from "../../components/states.js";
import { busy, debounce, onAction, render, url } from "../../dom.js";
import { html } from "../../html.js";
import { registerKeys } from "../../keys.js";
import { prefs } from "../../prefs.js";
import { bulkActions, bulkBar } from "./bulk.js";
import { asItem, badgesOf, begin, captionBelow, captionKeys, details, editHere, hasDrafts, isDraft, leave, overlayOf, saveCaption, typed } from "./editing.js";
import { panel, summary, toolbar } from "./filters.js";
import { focusMode } from "./focus.js";
import { change, hasFilters, same } from "./query.js";
import { toast } from "../../notices.js";

/** @param {HTMLElement} root @param {any} page as detail.js gives it */
export function imagesTab(root, page) {
  let facets = null, facetError = null, sheet = null, loaded = false, shown = false, seen = null, facetRun = 0;
  const open = new Set();
  const overlays = new Set(prefs.get("datasetOverlays", ["size"]));
  render(root, html`<div class="gl"><aside class="gl-side" aria-label="Filters" data-key="side"></aside><div class="gl-main"><div class="toolbar gl-toolbar"></div><div class="gl-summary"></div><media-grid></media-grid><div class="gl-bulk" role="toolbar" aria-label="Selected pictures" hidden></div></div></div><image-viewer></image-viewer>`);
  const $ = (selector) => root.querySelector(selector);
  const grid = $("media-grid"), viewer = $("image-viewer"), side = $(".gl-side");
  const isPhone = matchMedia("(max-width: 719px)");
  const filter = () => page.at().filter;
  grid.size = prefs.get("datasetSize", isPhone.matches ? 150 : 200);
  grid.fit = prefs.get("datasetFit", "cover");
  grid.stars = false;
  grid.label = "Pictures";
  grid.extra = isPhone.matches ? 108 : 88;
  isPhone.addEventListener("change", () => { grid.extra = isPhone.matches ? 108 : 88; });
  grid.below = captionBelow;
  grid.badges = (item) => badgesOf(item, overlays);
  grid.overlay = (item) => overlayOf(item, overlays, grid.fit);
  grid.loadRange = async (offset, limit) => {
    const answer = await api.get(page.path("/images"), { query: { ...filter(), sort: page.at().sort, limit, offset: offset || null } });
    return { ...answer, items: answer.items.map(asItem) };
  };

  // ---------------------------------------------------------------- painting

  const view = () => ({ filter: filter(), sort: page.at().sort, size: grid.size, fit: grid.fit, overlays });
  const paintToolbar = () => render($(".gl-toolbar"), toolbar(view()));
  const paintSummary = () => render($(".gl-summary"), summary({ filter: filter(), total: grid.total, loaded }));
  function paintPanel() {
    render(side, panel({ ...view(), facets, error: facetError, open }));
    if (sheet) render(sheet.querySelector(".gl-sheet"), panel({ ...view(), facets, error: facetError, open, prefix: "sheet" }));
  }
  function paintBulk() {
    const ids = [...grid.selection], bar = $(".gl-bulk");
    bar.hidden = !ids.length;
    page.selection = ids;
    document.querySelector("main").classList.toggle("has-bulk", ids.length > 0 && shown);
    if (ids.length) render(bar, bulkBar({ count: ids.length, total: grid.total, trashed: Boolean(filter().trashed), someExcluded: ids.some((id) => grid.find(id)?.excluded) }));
  }
  const paint = () => { paintToolbar(); paintSummary(); paintPanel(); };

  // ---------------------------------------------------------------- loading

  async function loadFacets() {
    const run = (facetRun += 1);
    try {
      const answer = await api.get(page.path("/facets"), { query: filter() });
      if (run !== facetRun) return;
      facets = answer;
      facetError = null;
    } catch (error) {
      if (run !== facetRun) return;
      facetError = error;
    }
    if (shown) paintPanel();
  }
  const facetsSoon = debounce(loadFacets, 500);
  function emptyView() {
    if (filter().trashed) return emptyState({ icon: "trash", title: "The trash is empty", text: "Pictures you delete wait here and can be restored." });
    if (hasFilters(filter())) return emptyState({ icon: "search", title: "No picture fits", text: "Nothing matches all of these filters together.", action: { label: "Clear filters", action: "clear", icon: "x" } });
    if (page.working) return emptyState({ icon: "clock", title: "Pictures are on their way", text: "They show up here as they are imported." });
    return emptyState({ icon: "image", title: "No pictures yet", text: "Drop a zip, a folder or pictures onto this page. Captions in .txt, .caption, .json, .jsonl and .csv files come along.", action: { label: "Add pictures", action: "add", icon: "upload", needs: "write" } });
  }
  async function reload() {
    grid.emptyView = emptyView();
    loadFacets();
    await grid.reload();
  }
  const go = (changes, options) => page.go({ filter: change(filter(), changes), own: {} }, options);

  // ---------------------------------------------------------------- changing

  let viewed = null; // the picture in the viewer
  const patch = (item) => {
    const known = grid.find(item.id);
    if (known) grid.patch(item.id, asItem({ ...known, ...item }));
    if (viewer.isOpen) viewer.patch(item.id, asItem(item));
    if (viewed?.id === item.id) viewed = { ...viewed, ...item };
    page.touched();
  };
  captionKeys(grid, (item) => patch(item));
  const actions = bulkActions({ page, grid, viewer, reload, facetsSoon, patch });

  // ---------------------------------------------------------------- viewer

  viewer.details = details;
  viewer.stars = false;
  viewer.actions = [{ key: "crop", label: "Crop faces", icon: "face", shortcut: "f" }, { key: "exclude", label: "Exclude or include", icon: "eye-off", shortcut: "x" }, { key: "history", label: "Caption history", icon: "history", shortcut: "h" }];
  const openAt = (index) => viewer.open(grid.items, index, { total: grid.total, more: async (at) => { await grid.ensure(at); return grid.items; } });
  grid.addEventListener("media-grid:open", ({ detail }) => { url.set({ image: detail.item.id }, { push: true }); openAt(detail.index); });
  const leaveViewed = () => viewed && leave(grid.find(viewed.id) ?? viewed, patch);
  viewer.addEventListener("image-viewer:change", ({ detail }) => {
    if (viewed?.id !== detail.item?.id) leaveViewed();
    viewed = detail.item;
    url.set({ image: detail.item?.id });
  });
  viewer.addEventListener("image-viewer:close", () => {
    const id = viewer.current?.id;
    leaveViewed();
    viewed = null;
    url.set({ image: null });
    if (id && shown) grid.focusItem(id);
  });
  viewer.addEventListener("image-viewer:delete", ({ detail }) => (filter().trashed ? actions.restore([detail.item.id]) : actions.trash([detail.item.id])));
  viewer.addEventListener("image-viewer:action", ({ detail }) => {
    if (detail.key === "crop") actions.operate("face_crop", [detail.item.id]);
    else if (detail.key === "exclude") actions.exclude([detail.item.id], !detail.item.excluded);
    else if (detail.key === "history") actions.history(detail.item);
  });
  const saveInViewer = (el) => {
    const id = el.dataset.viewerImage, item = grid.find(id) ?? viewer.current;
    if (item?.id === id && isDraft(id)) saveCaption(item, el.value, patch);
  };
  viewer.addEventListener("focusin", (event) => { if (event.target.matches("[data-viewer-image]")) begin(viewer.current); });
  viewer.addEventListener("input", (event) => { if (event.target.matches("[data-viewer-image]")) typed(event.target.dataset.viewerImage, event.target.value); });
  viewer.addEventListener("keydown", (event) => {
    const el = event.target.closest("[data-viewer-image]");
    if (!el || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    saveInViewer(el);
  });
  viewer.addEventListener("focusout", (event) => { const el = event.target.closest?.("[data-viewer-image]"); if (el && el.dataset.viewerImage === viewed?.id) leaveViewed(); });
  async function openId(id) {
    if (viewer.isOpen && viewer.current?.id === id) return;
    const at = grid.items.findIndex((item) => item?.id === id);
    if (at >= 0) { openAt(at); return; }
    try {
      viewer.open([asItem(await api.get(`/api/images/${encodeURIComponent(id)}`))], 0, { total: 1 });
    } catch (error) {
      url.set({ image: null });
      toast.error(error);
    }
  }

  // ---------------------------------------------------------------- handlers

  const selected = () => [...grid.selection];
  const handlers = {
    clear: () => page.go({ filter: filter().trashed ? { trashed: "true" } : {}, own: {} }),
    add: () => page.importer.start(),
    fit: (_e, el) => { grid.fit = el.dataset.value; prefs.set("datasetFit", grid.fit); grid.refresh(); paintToolbar(); paintPanel(); },
    drop: (_e, el) => go({ [el.dataset.name]: "" }),
    facet: (_e, el) => { const { name, value } = el.dataset; go({ [name]: filter()[name] === value ? "" : value }); },
    place: (_e, el) => go({ trashed: el.dataset.value === "trash" ? "true" : "", kind: "", excluded: "" }),
    "leave-trash": () => go({ trashed: "" }),
    more: (_e, el) => { if (!open.delete(el.dataset.name)) open.add(el.dataset.name); paintPanel(); },
    "retry-facets": () => loadFacets(),
    "focus-mode": () => startFocus(),
    filters: () => {
      const { dialog, closed } = openDialog({ title: "Filters", body: html`<div class="gl-sheet"></div>`, footer: html`<button type="button" class="btn" data-action="clear">Clear</button><button type="button" class="btn btn-primary" data-close="">Show pictures</button>` });
      sheet = dialog;
      onAction(dialog, handlers);
      dialog.addEventListener("input", onInput);
      paintPanel();
      closed.then(() => { sheet = null; });
    },
    "clear-selection": () => grid.clearSelection(),
    "select-matching": (_e, el) => busy(el, async () => { try { grid.selection = await page.allIds(filter()); } catch (error) { toast.error(error); } }),
    operate: (_e, el) => actions.operate(el.dataset.name, selected()),
    exclude: (_e, el) => actions.exclude(selected(), el.dataset.value === "true"),
    repeats: () => actions.repeats(selected()),
    concept: () => actions.concept(selected()),
    lock: (_e, el) => actions.lock(selected(), el.dataset.value === "true"),
    "edit-captions": () => page.go({ tab: "captions", own: { from: "selection" } }),
    tags: () => page.go({ tab: "captions", own: { from: "selection", op: "add_tag" } }),
    trash: () => actions.trash(selected()),
    restore: () => actions.restore(selected()),
    purge: () => actions.purge(selected()),
  };
  onAction(root, handlers);
  root.addEventListener("change", (event) => {
    const el = event.target;
    if (el.dataset.change === "sort") page.go({ sort: el.value, own: {} });
    else if (el.dataset.overlay) {
      if (el.checked) overlays.add(el.dataset.overlay);
      else overlays.delete(el.dataset.overlay);
      prefs.set("datasetOverlays", [...overlays]);
      grid.refresh();
    }
  });
  function onInput(event) {
    if (event.target.dataset.input === "size") { grid.size = event.target.value; prefs.set("datasetSize", grid.size); }
  }
  root.addEventListener("input", onInput);
  const searchSoon = debounce((q) => go({ q: q.trim() }, { push: false }), 400);
  root.addEventListener("input", (event) => { if (event.target.name === "q") searchSoon(event.target.value); });
  root.addEventListener("submit", (event) => { event.preventDefault(); searchSoon.cancel(); go({ q: event.target.elements.q.value.trim() }); });
  grid.addEventListener("media-grid:select", paintBulk);
  grid.addEventListener("media-grid:delete", ({ detail }) => (filter().trashed ? actions.purge(detail.ids) : actions.trash(detail.ids)));
  grid.addEventListener("media-grid:loaded", () => { loaded = true; paintSummary(); paintBulk(); });
  addEventListener("beforeunload", (event) => { if (hasDrafts()) event.preventDefault(); });

  function startFocus() {
    const at = grid.querySelector("[role=gridcell][tabindex='0']")?.dataset.i;
    url.set({ edit: "1" }, { push: true });
    focusMode({ page, filter: filter(), sort: page.at().sort, start: Number(at ?? 0) || 0, changed: patch }).then(() => { url.set({ edit: null }); if (shown) grid.again(); });
  }
  const here = () => shown;
  registerKeys("Pictures of a dataset", [
    { keys: "e", label: "Edit the caption of the picture in focus", when: here, run: () => editHere(grid) },
    { keys: "k", label: "Caption by keyboard", when: here, run: startFocus },
    { keys: "mod+a", label: "Select all that are loaded", when: here, run: () => grid.selectAll() },
    { keys: "x", label: "Exclude the selected, or include them", when: () => shown && grid.selection.size > 0, run: () => actions.exclude(selected(), !selected().every((id) => grid.find(id)?.excluded)) },
    { keys: "Delete", label: "Move the selected to the trash", when: () => shown && grid.selection.size > 0 && !filter().trashed, run: () => actions.trash(selected()) },
    { keys: "Escape", label: "Clear the selection", when: () => shown && grid.selection.size > 0, run: () => grid.clearSelection() },
  ]);

  return {
    async show() {
      shown = true;
      paint();
      const next = { id: page.id, filter: filter(), sort: page.at().sort };
      const fresh = !seen || seen.id !== next.id || seen.sort !== next.sort || !same(seen.filter, next.filter);
      if (fresh) {
        if (seen?.id !== next.id) { facets = null; loaded = false; }
        seen = next;
        const input = $("[name=q]");
        if (input && document.activeElement !== input) input.value = filter().q ?? "";
        await reload();
      } else paintBulk();
      if (page.at().own.image) openId(page.at().own.image);
      else if (viewer.isOpen) viewer.close();
      if (page.at().own.edit && !document.querySelector("dialog.ds-focus")) startFocus();
    },
    hide() {
      shown = false;
      document.querySelector("main").classList.remove("has-bulk");
      if (viewer.isOpen) viewer.close();
    },
    /** The set changed: what is in view is loaded again, what is typed stays. */
    news() {
      if (!shown) { seen = null; return; }
      grid.emptyView = emptyView();
      grid.again();
      facetsSoon();
    },
    captioned() { if (shown) grid.again(); else seen = null; },
  };
}
