/**
 * Captioning by keyboard: one picture, its caption, the next one. Enter saves and goes on, Shift+Enter is a new line,
 * Alt+←/→ moves, Ctrl+J goes to the next picture without a caption, Ctrl+Z undoes (in the text first, then the last saved caption).
 */
import { api } from "../../api.js";
import { errorState, skeleton } from "../../components/states.js";
import { element, onAction, render } from "../../dom.js";
import { number, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { draftOf, saveCaption, wasRefused } from "./editing.js";
import { historyDialog } from "./history.js";
import { sizeText, tagsOf } from "./words.js";

const PAGE = 100;

/**
 * @param {{page: any, filter: any, sort: string, start: number, changed: (item: any) => void}} options
 * @returns {Promise<void>} resolves when it is left
 */
export function focusMode({ page, filter, sort, start = 0, changed }) {
  const dialog = element(html`<dialog class="ds-focus" aria-label="Caption by keyboard"><div class="ds-focus-in"></div></dialog>`);
  const box = dialog.firstElementChild;
  document.body.append(dialog);
  let items = [], total = 0, at = Math.max(0, start), error = null, undo = [], busyNext = false;
  const current = () => items[at];
  const area = () => dialog.querySelector("#ds-focus-caption");

  async function need(index) {
    if (items[index]) return;
    const offset = Math.floor(index / PAGE) * PAGE;
    const answer = await api.get(page.path("/images"), { query: { ...filter, sort, limit: PAGE, offset: offset || null } });
    total = answer.total;
    answer.items.forEach((item, k) => { items[offset + k] = item; });
  }
  function paint() {
    const item = current();
    if (error) return render(box, html`${errorState(error)}<p class="row ds-center"><button type="button" class="btn" data-action="leave">Leave</button></p>`);
    if (!item) return render(box, total === 0 && items.length === 0 ? skeleton("form", 3) : html`<div class="empty-state"><h3>No picture here</h3><button type="button" class="btn btn-primary" data-action="leave">Back to the pictures</button></div>`);
    const tags = tagsOf(item.caption);
    render(box, html`<header class="ds-focus-bar"><strong role="status">${number(at + 1)} of ${number(total)}</strong><span class="truncate muted">${item.filename}</span><span class="spacer"></span>
        <button type="button" class="btn btn-ghost" data-action="uncaptioned" title="Ctrl+J">${icon("arrow-right")}<span class="gl-word">Next without caption</span><kbd>Ctrl J</kbd></button>
        <button type="button" class="icon-btn" data-action="history" aria-label="Caption history (Ctrl+H)" title="Caption history (Ctrl+H)">${icon("history")}</button><button type="button" class="icon-btn" data-action="leave" aria-label="Close (Esc)" title="Close (Esc)">${icon("x")}</button></header>
      <div class="ds-focus-main"><div class="ds-focus-stage"><img data-key="p-${item.id}" src="${item.previewUrl}" alt="${item.filename}" width="${item.width || 1}" height="${item.height || 1}"></div>
        <form class="ds-focus-side stack-3"><div class="field"><label for="ds-focus-caption">Caption</label><textarea id="ds-focus-caption" data-key="t-${item.id}" rows="7" maxlength="20000" spellcheck="true">${draftOf(item)}</textarea>
          <p class="field-hint ds-focus-count"></p></div>
          <div class="row"><button type="button" class="btn" data-action="previous" title="Alt+←">${icon("arrow-left")}Previous</button><button type="button" class="btn btn-primary" data-action="next" title="Enter">Save and next${icon("arrow-right")}</button></div>
          ${tags.length > 0 && html`<p class="ds-focus-tags" aria-label="Tags">${tags.map((t) => html`<span class="chip">${t}</span>`)}</p>`}
          <p class="small muted">${sizeText(item)}${item.captionLocked ? ", locked: batches leave this caption alone" : ""}</p>
          <dl class="ds-focus-keys small"><div><dt><kbd>Enter</kbd></dt><dd>save, next picture</dd></div><div><dt><kbd>Alt</kbd> <kbd>←</kbd> <kbd>→</kbd></dt><dd>previous, next</dd></div><div><dt><kbd>Ctrl</kbd> <kbd>J</kbd></dt><dd>next without caption</dd></div><div><dt><kbd>Ctrl</kbd> <kbd>Z</kbd></dt><dd>undo</dd></div><div><dt><kbd>Ctrl</kbd> <kbd>H</kbd></dt><dd>history</dd></div><div><dt><kbd>Esc</kbd></dt><dd>leave</dd></div></dl></form></div>`);
    count();
    return undefined;
  }
  function count() {
    const text = area()?.value ?? "";
    const words = text.trim() ? text.trim().split(/\s+/).length : 0;
    const slot = dialog.querySelector(".ds-focus-count");
    if (slot) slot.textContent = `${plural(words, "word")}, ${plural(tagsOf(text).length, "tag")}. Enter saves and goes on.`;
  }
  const focus = () => { const el = area(); if (el) { el.focus(); el.setSelectionRange(el.value.length, el.value.length); } };
  async function show(index) {
    try {
      await need(index);
      error = null;
      if (index < total || !total) at = Math.max(0, Math.min(index, Math.max(0, total - 1)));
    } catch (problem) {
      error = problem;
    }
    paint();
    focus();
    for (const near of [items[at + 1]]) if (near?.previewUrl) new Image().src = near.previewUrl;
  }
  /** Save what is typed. @returns {Promise<boolean>} false: it was refused, stay here */
  async function save() {
    const item = current(), el = area();
    if (!item || !el || el.value.trim() === (item.caption ?? "").trim()) return true;
    const before = item.caption ?? "";
    const saved = await saveCaption(item, el.value, (now) => { const k = items.findIndex((one) => one?.id === now.id); if (k >= 0) items[k] = { ...items[k], ...now }; changed(now); });
    if (!saved) return false;
    undo.push({ id: item.id, at, before });
    return true;
  }
  async function move(step) {
    if (!(await save())) return;
    const to = at + step;
    if (to < 0) return;
    if (to >= total) { toast.info("That was the last picture"); paint(); focus(); return; }
    await show(to);
  }
  async function uncaptioned() {
    if (busyNext) return;
    busyNext = true;
    try {
      if (!(await save())) return;
      for (let k = 1; k <= total; k += 1) {
        const index = (at + k) % total;
        if (!items[index]) await need(index);
        const item = items[index];
        if (item && !(item.caption ?? "").trim() && index !== at) { await show(index); return; }
      }
      paint();
      focus();
      toast.success("Every picture here has a caption");
    } catch (problem) {
      toast.error(problem);
    } finally {
      busyNext = false;
    }
  }
  async function takeBack() {
    const last = undo.pop();
    if (!last) { toast.info("Nothing to undo here"); return; }
    await show(last.at);
    const item = items[last.at];
    if (!item || item.id !== last.id) return;
    area().value = last.before;
    const saved = await saveCaption(item, last.before, (now) => { items[last.at] = { ...items[last.at], ...now }; changed(now); });
    if (saved) toast.success("Taken back");
    paint();
    area().value = current().caption ?? "";
    focus();
  }
  async function history() {
    const item = current();
    if (!item || !(await save())) return;
    const now = await historyDialog(items[at]);
    if (now) {
      const fresh = await api.get(`/api/images/${encodeURIComponent(item.id)}`).catch(() => null);
      if (fresh) { items[at] = { ...items[at], ...fresh }; changed(fresh); }
      paint();
      area().value = current().caption ?? "";
    }
    focus();
  }
  const leave = async () => { if (wasRefused(current()?.id, area()?.value) || (await save())) dialog.close(); };
  onAction(dialog, { next: () => move(1), previous: () => move(-1), uncaptioned, history, leave, retry: () => show(at) });
  dialog.addEventListener("input", count);
  dialog.addEventListener("submit", (event) => event.preventDefault());
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const mod = event.ctrlKey || event.metaKey, inText = event.target === area();
    const act =
      event.key === "Enter" && inText && !event.shiftKey && !mod ? () => move(1)
        : event.altKey && event.key === "ArrowRight" ? () => move(1)
          : event.altKey && event.key === "ArrowLeft" ? () => move(-1)
            : mod && event.key.toLowerCase() === "j" ? uncaptioned
              : mod && event.key.toLowerCase() === "h" ? history
                : mod && event.key.toLowerCase() === "z" && !event.shiftKey && (!inText || area().value.trim() === (current()?.caption ?? "").trim()) ? takeBack
                  : null;
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  dialog.showModal();
  paint();
  show(at);
  return new Promise((resolve) => dialog.addEventListener("close", () => { dialog.remove(); resolve(); }));
}
