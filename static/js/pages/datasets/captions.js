/** The Captions tab: tags by frequency, edits of many captions with a preview, what was written together and its undo. */
import { api, isAbort } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { ago, dateTime, number, plural } from "../../format.js";
import { readForm } from "../../forms.js";
import { attrs, html, icon } from "../../html.js";
import { registerKeys } from "../../keys.js";
import { toast } from "../../notices.js";
import { EDITS, isReady, optionsOf } from "./edits.js";
import { focusMode } from "./focus.js";
import { writer } from "./history.js";
import { operationDialog } from "./operations.js";
import { chipsOf, hasFilters } from "./query.js";
import { patternProblem, pieces } from "./words.js";

const SHOWN = 300;

/** @param {HTMLElement} root @param {any} page as detail.js gives it */
export function captionsTab(root, page) {
  let tags = null, tagTotal = 0, tagError = null, find = "", all = false, batches = null, batchError = null;
  let preview = null, previewError = null, asking = null, shown = false, seenId = "", formOp = "";
  render(root, html`<div class="ds-words"><aside class="panel ds-tags" aria-label="Tags"></aside><div class="ds-words-main stack-4"><section class="panel ds-edit"><div class="ds-scope" data-key="scope"></div><form class="ds-edit-form stack-3" data-key="form" novalidate></form><div class="ds-preview" data-key="preview" aria-live="polite"></div></section><section class="panel ds-batches" data-key="batches" aria-label="What was written together"></section></div></div>`);
  const $ = (selector) => root.querySelector(selector);
  const form = $("form");
  const op = () => (page.at().own.op in EDITS ? page.at().own.op : "replace");
  const scope = () => {
    const from = page.at().own.from;
    if (from === "selection" && page.selection.length) return "selection";
    return from === "all" || !hasFilters(page.at().filter) ? "all" : "filter";
  };
  const scopeBody = () => (scope() === "selection" ? { imageIds: page.selection } : scope() === "filter" ? { filter: page.at().filter } : {});

  // ---------------------------------------------------------------- tags

  function paintTags() {
    const head = html`<header class="panel-head"><h3>Tags ${tags && html`<span class="count">${number(tagTotal)}</span>`}</h3></header><div class="search-box ds-tag-find" data-key="find">${icon("search")}<input type="search" name="tagq" value="${find}" placeholder="Find a tag" aria-label="Find a tag" autocomplete="off" spellcheck="false"></div>`;
    if (tagError && !tags) return render($(".ds-tags"), html`${head}${errorState(tagError, { compact: true, action: "retry-tags" })}`);
    if (!tags) return render($(".ds-tags"), html`${head}${skeleton("lines", 8)}`);
    const wanted = find.trim().toLowerCase();
    const list = wanted ? tags.filter((t) => t.tag.toLowerCase().includes(wanted)) : tags;
    if (!tags.length) return render($(".ds-tags"), html`${head}${emptyState({ icon: "tag", title: "No tags yet", text: "Tags are the comma-separated parts of the captions.", compact: true })}`);
    const most = tags[0]?.count ?? 1;
    const part = all ? list : list.slice(0, SHOWN);
    return render($(".ds-tags"), html`${head}<ul class="ds-tag-list">${part.map((t, i) => html`<li class="ds-tag" data-key="t-${t.tag}"><button type="button" class="ds-tag-name" data-action="tag" data-tag="${t.tag}" title="Show the pictures. F2 renames, Del removes it everywhere" ${attrs({ tabindex: i === 0 ? 0 : -1 })}><span class="truncate">${t.tag}</span><svg class="ds-bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect class="ds-bar-fill" width="${Math.max(1, (100 * t.count) / most)}" height="1"></rect></svg><span class="gl-num">${number(t.count)}</span></button><button type="button" class="icon-btn" tabindex="-1" data-action="rename-tag" data-tag="${t.tag}" aria-label="Rename ${t.tag}" title="Rename (F2)">${icon("edit")}</button><button type="button" class="icon-btn" tabindex="-1" data-action="remove-tag" data-needs="write" data-tag="${t.tag}" aria-label="Remove ${t.tag} everywhere" title="Remove everywhere (Del)">${icon("trash")}</button></li>`)}</ul>
      ${!list.length && html`<p class="muted small">No tag is called like that.</p>`}${part.length < list.length && html`<button type="button" class="btn btn-small" data-action="all-tags">Show all ${number(list.length)}</button>`}`);
  }
  async function loadTags() {
    const id = page.id;
    try {
      const answer = await api.get(page.path("/tags"), { query: { limit: 5000 } });
      if (id !== page.id) return;
      tags = answer.tags;
      tagTotal = answer.total;
      tagError = null;
    } catch (error) {
      if (id !== page.id) return;
      tagError = error;
    }
    if (shown) paintTags();
  }

  // ---------------------------------------------------------------- edits

  function paintScope() {
    const kind = scope();
    const chips = chipsOf(page.at().filter);
    const button = (key, label, on, disabled) => html`<button type="button" data-action="scope" data-value="${key}" aria-pressed="${String(on)}" ${attrs({ disabled })}>${label}</button>`;
    render($(".ds-scope"), html`<div class="row"><span class="small muted" id="ds-scope-label">On</span><div class="segmented" role="group" aria-labelledby="ds-scope-label">${button("all", "All pictures", kind === "all", false)}${button("filter", chips.length ? `Filter: ${chips.map((c) => `${c.label} ${c.value}`.trim()).join(", ").slice(0, 60)}` : "Filter", kind === "filter", !hasFilters(page.at().filter))}${button("selection", `Selection (${number(page.selection.length)})`, kind === "selection", !page.selection.length)}</div></div>
      <div class="row"><button type="button" class="btn" data-action="focus-mode">${icon("keyboard")}By keyboard</button><button type="button" class="btn" data-action="engine" data-name="caption">${icon("bolt")}Write with an engine</button><button type="button" class="btn" data-action="engine" data-name="tag">${icon("tag")}Tag with an engine</button></div>`);
  }
  function paintForm() {
    const operation = op();
    const edit = EDITS[operation];
    const before = formOp === operation ? readForm(form) : {};
    const kind = (f) => (f.type === "checkbox" ? "checks" : "fields");
    const view = (f) => fieldRow({ ...f, id: `ds-edit-${f.name}`, value: before[f.name] ?? f.value });
    render(form, html`<div class="ds-op"><label for="ds-op">Edit</label><select id="ds-op" data-change="op">${Object.entries(EDITS).map(([key, e]) => html`<option value="${key}" ${attrs({ selected: key === operation })}>${e.label}</option>`)}</select></div>
      <div class="cols-2" data-key="fields-${operation}">${edit.fields.filter((f) => kind(f) === "fields").map(view)}</div>${edit.hint && html`<p class="field-hint">${edit.hint}</p>`}
      <div class="row ds-checks" data-key="checks-${operation}">${edit.fields.filter((f) => kind(f) === "checks").map(view)}${fieldRow({ name: "includeLocked", id: "ds-edit-includeLocked", label: "Also captions a person wrote", type: "checkbox", value: before.includeLocked })}</div>
      <p class="field-error" role="alert" id="ds-edit-problem" hidden></p>`);
    formOp = operation;
  }
  function problem(said) {
    const slot = $("#ds-edit-problem");
    if (!slot) return;
    slot.textContent = said;
    slot.hidden = !said;
  }
  function paintPreview() {
    const p = preview;
    const said = p && (p.matches ? html`<strong>${plural(p.matches, "caption")}</strong> would change${p.occurrences > p.matches ? html`, in ${plural(p.occurrences, "place")}` : ""}` : html`No caption would change`);
    render($(".ds-preview"), previewError ? html`` : html`<div class="row ds-preview-head"><p role="status">${p ? html`${said}${p.locked > 0 && html`. ${p.locked === 1 ? "One that a person wrote stays" : `${number(p.locked)} that people wrote stay`} as ${p.locked === 1 ? "it is" : "they are"}.`}` : ""}</p><span class="spacer"></span><button type="button" class="btn btn-primary" data-action="apply" data-needs="write" data-primary ${attrs({ disabled: !p?.matches })}>${icon("check")}${p?.matches ? `Change ${plural(p.matches, "caption")}` : "Change"}</button></div>
      ${p?.changes?.length > 0 && html`<ul class="ds-changes">${p.changes.map((c) => html`<li data-key="c-${c.imageId}"><span class="mono small muted truncate" title="${c.filename}">${c.filename}</span><p class="ds-change">${pieces(c.before, c.after).map((x) => (x.kind === "gone" ? html`<del>${x.text}</del>` : x.kind === "new" ? html`<ins>${x.text}</ins>` : x.text))}</p></li>`)}</ul>${p.matches > p.changes.length && html`<p class="small muted">and ${plural(p.matches - p.changes.length, "more caption")}</p>`}`}`);
  }
  const request = (operation, options, more = {}) => ({ operation, options, ...scopeBody(), ...more });
  async function ask() {
    asking?.abort();
    const operation = op(), values = readForm(form), options = optionsOf(operation, values);
    const wrong = values.mode === "regex" ? patternProblem(values.find, true) : "";
    problem(wrong);
    if (wrong || !isReady(operation, options)) { preview = null; previewError = null; paintPreview(); return; }
    const mine = (asking = new AbortController());
    try {
      preview = await api.post(page.path("/captions"), request(operation, options, { includeLocked: Boolean(values.includeLocked), dryRun: true }), { signal: mine.signal });
      previewError = null;
    } catch (error) {
      if (isAbort(error)) return;
      preview = null;
      previewError = error;
      problem([error.errors?.map((e) => e.message).join(" ") || error.message, error.remedy].filter(Boolean).join(" "));
    }
    if (asking === mine && shown) paintPreview();
  }
  const askSoon = debounce(ask, 300);
  /** Do an edit and offer its undo. */
  async function run(body, said) {
    const done = await api.post(page.path("/captions"), { ...body, dryRun: false });
    if (done.taskId) { page.follow(done.taskId); return done; }
    toast.success(said(done), done.batchId ? { undo: () => undoBatch(done.batchId, { quiet: true }) } : {});
    after();
    return done;
  }
  function after() {
    page.touched();
    loadTags();
    loadBatches();
    askSoon();
  }
  const changedWords = (d) => `${plural(d.changed, "caption")} changed`;

  // ---------------------------------------------------------------- batches

  function paintBatches() {
    const rows = batches ?? [];
    render($(".ds-batches"), html`<header class="panel-head"><h3>Written together</h3></header>${
      batchError && !batches ? errorState(batchError, { compact: true, action: "retry-batches" })
        : !batches ? skeleton("lines", 3)
          : !rows.length ? html`<p class="small muted">Edits and runs of engines stand here and can be taken back.</p>`
            : html`<ul class="ds-version-list">${rows.map((b) => html`<li class="ds-version" data-key="${b.batchId}"><div class="ds-version-main"><p>${b.undoOf ? "Taken back" : b.source === "file" ? "Import" : b.source === "engine" ? `Written by ${b.modelUsed}` : writer(b).replace(/^edit: /, "").replace(/^./, (c) => c.toUpperCase())}</p><p class="small muted ds-facts"><span>${plural(b.images, "caption")}</span><span title="${dateTime(b.createdAt)}">${ago(b.createdAt)}</span></p></div>${b.undone ? html`<span class="badge badge-neutral">${icon("undo")}<span>Undone</span></span>` : html`<button type="button" class="btn btn-small" data-action="undo-batch" data-id="${b.batchId}">${icon("undo")}Undo</button>`}</li>`)}</ul>`
    }`);
  }
  async function loadBatches() {
    const id = page.id;
    try {
      const answer = await api.get(page.path("/caption-batches"));
      if (id !== page.id) return;
      batches = answer.items ?? answer.batches ?? answer;
      batchError = null;
    } catch (error) {
      if (id !== page.id) return;
      batchError = error;
    }
    if (shown) paintBatches();
  }
  async function undoBatch(id, { quiet = false } = {}) {
    const done = await api.post(page.path(`/caption-batches/${encodeURIComponent(id)}/undo`));
    if (!quiet) toast.success(`${plural(done.undone, "caption")} taken back`, { detail: done.left ? `${plural(done.left, "caption")} changed since and stayed.` : "" });
    after();
  }

  // ---------------------------------------------------------------- what is done

  async function renameTag(tag) {
    const { dialog, closed } = openDialog({
      title: `Rename “${tag}” everywhere`, size: "s",
      body: html`<form id="ds-rename" class="stack-3" novalidate>${fieldRow({ name: "to", label: "New name", value: tag, autofocus: true, spellcheck: false, hint: `${plural(tags.find((t) => t.tag === tag)?.count ?? 0, "caption")} have it. Captions a person wrote are changed as well.` })}<p class="field-error" role="alert" hidden></p></form>`,
      footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-rename" class="btn btn-primary" data-primary>Rename</button>`,
      onOpen: (d) => d.querySelector("[name=to]").select(),
    });
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const to = event.target.elements.to.value.trim(), slot = event.target.querySelector("[role=alert]");
      busy(dialog.querySelector("[data-primary]"), async () => {
        try {
          if (to && to !== tag) await run({ operation: "rename_tag", options: { tag, to }, includeLocked: true }, (d) => `“${tag}” is now “${to}” in ${plural(d.changed, "caption")}`);
          dialog.close("");
        } catch (error) {
          slot.textContent = error.errors?.[0]?.message || error.message;
          slot.hidden = false;
        }
      });
    });
    await closed;
  }
  async function removeTag(tag) {
    const count = tags.find((t) => t.tag === tag)?.count ?? 0;
    if (!(await confirmDialog({ title: `Remove “${tag}” everywhere?`, consequences: [`${plural(count, "caption")} lose it, those a person wrote as well.`, "It can be undone."], confirmLabel: `Remove from ${number(count)}` }))) return;
    try {
      await run({ operation: "remove_tag", options: { tag }, includeLocked: true }, (d) => `“${tag}” removed from ${plural(d.changed, "caption")}`);
    } catch (error) {
      toast.error(error);
    }
  }
  function startFocus() {
    focusMode({ page, filter: scope() === "filter" ? page.at().filter : {}, sort: page.at().sort, start: 0, changed: () => page.touched() }).then(() => { if (shown) after(); });
  }
  onAction(root, {
    tag: (_e, el) => page.go({ tab: "images", filter: { tag: el.dataset.tag }, own: {} }),
    "rename-tag": (_e, el) => renameTag(el.dataset.tag),
    "remove-tag": (_e, el) => removeTag(el.dataset.tag),
    "all-tags": () => { all = true; paintTags(); },
    "retry-tags": loadTags,
    "retry-batches": loadBatches,
    scope: (_e, el) => page.go({ own: { ...page.at().own, from: el.dataset.value } }, { push: false }),
    "focus-mode": startFocus,
    engine: async (_e, el) => {
      const taskId = await operationDialog({ page, name: el.dataset.name, ids: scope() === "selection" ? page.selection : null, filter: scope() === "filter" ? page.at().filter : {} });
      if (taskId) page.follow(taskId);
    },
    apply: (_e, el) => busy(el, async () => {
      const values = readForm(form);
      try {
        await run(request(op(), optionsOf(op(), values), { includeLocked: Boolean(values.includeLocked) }), changedWords);
        preview = null;
        paintPreview();
      } catch (error) {
        toast.error(error);
      }
    }),
    "undo-batch": (_e, el) => busy(el, () => undoBatch(el.dataset.id).catch((e) => toast.error(e))),
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); askSoon.flush(); });
  form.addEventListener("input", () => askSoon());
  form.addEventListener("change", (event) => {
    if (event.target.dataset.change === "op") { preview = null; page.go({ own: { ...page.at().own, op: event.target.value } }, { push: false }); }
  });
  root.addEventListener("input", (event) => { if (event.target.name === "tagq") { find = event.target.value; all = false; paintTags(); } });
  root.addEventListener("keydown", (event) => {
    const el = event.target.closest(".ds-tag-name");
    if (!el) return;
    const list = [...root.querySelectorAll(".ds-tag-name")];
    const at = list.indexOf(el);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      const next = list[Math.max(0, Math.min(list.length - 1, to))];
      list.forEach((one) => { one.tabIndex = one === next ? 0 : -1; });
      next.focus();
    } else if (event.key === "F2") { event.preventDefault(); renameTag(el.dataset.tag); }
    else if (event.key === "Delete") { event.preventDefault(); removeTag(el.dataset.tag); }
  });
  registerKeys("Captions of a dataset", [
    { keys: "k", label: "Caption by keyboard", when: () => shown, run: startFocus },
    { keys: "f", label: "Find and replace", when: () => shown, run: async () => { if (op() !== "replace") await page.go({ own: { ...page.at().own, op: "replace" } }, { push: false }); root.querySelector("#ds-edit-find")?.focus(); } },
    { keys: "F2", label: "Rename the tag in focus" },
    { keys: "Delete", label: "Remove the tag in focus everywhere" },
  ]);

  return {
    async show() {
      shown = true;
      if (seenId !== page.id) { seenId = page.id; tags = null; batches = null; preview = null; find = ""; all = false; formOp = ""; render(form, html``); }
      paintScope();
      paintForm();
      paintTags();
      paintPreview();
      paintBatches();
      loadTags();
      loadBatches();
      askSoon();
    },
    hide() { shown = false; asking?.abort(); askSoon.cancel(); },
    news() { if (shown) { loadTags(); loadBatches(); askSoon(); } },
    captioned: debounce(() => { if (shown) { loadTags(); loadBatches(); } }, 800),
  };
}
