/** The middle: the picture in work, then the result and what can be done with it. Markup only. */
import { attrs, html, icon } from "../../html.js";
import { ago, duration, eta, middle, number, percent } from "../../format.js";
import { altOf, fileUrl, thumbUrl } from "../../components/media-grid.js";
import { errorState, skeleton } from "../../components/states.js";
import { taskId } from "../../tasks.js";

export function stageView(s) {
  return html`${s.banner && bannerView(s.banner)}
    <div class="st-canvas" data-key="canvas">${canvas(s)}</div>
    ${strip(s)}
    <span class="visually-hidden" role="status" data-key="say">${s.said}</span>`;
}

/** ComfyUI is wanted and off. */
function bannerView(b) {
  return html`<div class="st-banner" role="status" data-key="banner">${icon("wifi-off")}<div><p><strong>${b.title}</strong></p><p class="small">${b.text}</p></div>
    <div class="row"><button type="button" class="btn btn-small" data-action="check-engines">${icon("refresh")}Check again</button>
    ${b.builtin && html`<button type="button" class="btn btn-small btn-primary" data-action="use-builtin">Use built-in engine</button>`}</div></div>`;
}

function canvas(s) {
  const { view } = s;
  if (view.kind === "live" && s.live) return liveView(s, s.live);
  if (view.kind === "problem") return problemView(view.error, { id: view.taskId, title: view.title, s });
  if (view.kind === "batch") {
    const items = view.ids.map((id) => s.find(id)).filter(Boolean);
    if (items.length > 1) return batchView(items);
  }
  const item = s.current;
  if (item) return resultView(s, item);
  if (s.itemsError) return errorState(s.itemsError, { title: "The pictures could not be loaded", action: "reload-items" });
  if (!s.items) return skeleton("lines", 3, "Loading the studio");
  return welcome(s);
}

/** A box that holds its picture at the right shape; studio.js sets the size variables. */
const frame = (w, h, inner, extra = "") => html`<div class="st-frame ${extra}" data-w="${w}" data-h="${h}">${inner}</div>`;

function liveView(s, live) {
  const { task } = live;
  const known = task.total > 0;
  const facts = [
    known && task.done > 0 && `Step ${number(task.done)} of ${number(task.total)}`,
    task.rate && `${number(task.rate, task.rate < 10 ? 1 : 0)} steps/s`,
    eta(task.etaSeconds),
  ].filter(Boolean);
  const state = task.cancelRequested
    ? "Stopping…"
    : task.status === "queued"
      ? "Waiting for its turn"
      : known && task.done > 0
        ? task.kind === "upscale_image"
          ? "Enlarging"
          : "Drawing"
        : task.message || "Starting";
  return html`<div class="st-live" data-key="live-${taskId(task)}">
    <div class="st-fit">${frame(live.width, live.height, task.previewUrl ? html`<img src="${task.previewUrl}" alt="Preview of the unfinished picture">` : live.source ? html`<img class="is-dim" src="${thumbUrl(live.source)}" alt="The picture being enlarged">` : html`<span class="st-ghost" aria-hidden="true">${icon("studio")}</span>`, "is-live")}</div>
    <div class="st-progress"><div class="st-progress-line"><strong>${state}</strong><span class="muted small truncate">${facts.join(" · ")}</span><span class="spacer"></span>${known && task.done > 0 && html`<span class="st-percent">${percent(task.progress)}</span>`}
        <button type="button" class="btn btn-small" data-action="cancel-task" data-id="${taskId(task)}" ${attrs({ disabled: task.cancelRequested })}>${icon("x")}Cancel</button></div>
      <progress max="1" aria-label="${task.title}" ${attrs({ value: task.status === "queued" ? 0 : known && task.done > 0 ? task.progress : null })}></progress></div></div>`;
}

function problemView(error, { id, title, s }) {
  const builtin = s.catalog.engines.find((e) => e.name === "builtin");
  const fixes = s.fixes(error);
  return html`<div class="st-problem" role="alert" data-key="problem"><span class="empty-icon">${icon("alert")}</span>
    <h2>${title ?? "This could not be drawn"}</h2><p>${error.detail || error.message}</p>
    ${error.errors?.length > 0 && html`<ul class="st-problem-list">${error.errors.filter((e) => e.message !== error.detail).map((e) => html`<li>${e.message}</li>`)}</ul>`}
    ${error.remedy && html`<p class="muted">${error.remedy}</p>`}
    <div class="row">${fixes.builtin && builtin?.available && html`<button type="button" class="btn btn-primary" data-action="use-builtin" data-again="1">${icon("cpu")}Use built-in engine</button>`}
      ${fixes.model && !(fixes.builtin && builtin?.available) && html`<button type="button" class="btn btn-primary" data-action="use-standard" data-again="1">Use ${s.found.standard.label}</button>`}
      ${id && html`<button type="button" class="btn" data-action="retry-task" data-needs="write" data-id="${id}">${icon("refresh")}Run again</button>`}
      ${fixes.monitoring && html`<a class="btn" href="/settings.html?section=engines#comfyuiUrl">${icon("settings")}Engine settings</a><a class="btn btn-ghost" href="/monitoring.html">${icon("monitoring")}Monitoring</a>`}
      ${id && html`<a class="btn btn-ghost" href="/api/tasks/${encodeURIComponent(id)}/log" target="_blank" rel="noopener">${icon("list")}Log</a>`}
      <button type="button" class="btn btn-ghost" data-action="dismiss">Close</button></div></div>`;
}

const batchView = (items) =>
  html`<div class="st-batch" data-key="batch" data-count="${items.length}" role="group" aria-label="The pictures of this batch">${items.map((item) => html`<button type="button" class="st-batch-cell" data-key="${item.id}" data-action="show" data-id="${item.id}"><img src="${item.previewUrl ?? thumbUrl(item)}" alt="${altOf(item)}"><span class="st-batch-seed mono">${item.seed ?? ""}</span></button>`)}<p class="st-facts">Choose one to go on from it</p></div>`;

const act = (name, glyph, label, more = {}) =>
  html`<button type="button" class="btn btn-ghost btn-small" data-action="${name}" ${attrs(more)}>${icon(glyph)}<span>${label}</span></button>`;
const item_ = (name, glyph, label, more = {}) =>
  html`<button type="button" role="menuitem" data-action="${name}" ${attrs(more)}>${icon(glyph)}<span>${label}</span></button>`;

function resultView(s, item) {
  const facts = [
    item.model && middle(s.labelOf(item.model), 28),
    `${item.width} × ${item.height}`,
    item.seed !== null &&
      item.seed !== undefined &&
      html`seed <button type="button" class="st-link mono" data-action="recall-seed" title="Use this seed">${item.seed}</button>`,
    s.took(item) && `took ${duration(s.took(item) / 1000)}`,
    ago(item.createdAt),
    { upscaled: "upscaled", imported: "imported" }[item.origin],
  ].filter(Boolean);
  const owner = s.characters.find((c) => c.id === (item.characterId ?? s.form.characterId));
  const recipe = { disabled: !item.hasRecipe, title: item.hasRecipe ? undefined : "This picture carries no recipe" };
  const batch = s.batchOf(item);
  const upscalers = s.catalog.engines
    .filter((e) => e.available)
    .flatMap((e) => (e.upscalers ?? []).filter((name) => name !== "lanczos").map((name) => ({ name, engine: e.name })));
  return html`<div class="st-result" data-key="result">
    <div class="st-fit"><button type="button" class="st-zoom" data-action="zoom" aria-label="Open large" title="Open large (Enter)">${frame(item.width, item.height, html`<img src="${fileUrl(item)}" alt="${altOf(item)}" data-key="img-${item.id}">`)}</button></div>
    <div class="st-acts"><div class="st-acts-row" role="toolbar" aria-label="What to do with this picture">
      <button type="button" class="icon-btn st-star" data-action="star" data-needs="write" aria-pressed="${String(Boolean(item.starred))}" aria-label="${item.starred ? "Remove star" : "Star"}" title="Star (.)">${icon(item.starred ? "star-filled" : "star")}</button>
      ${act("again", "refresh", "Again", { ...recipe, title: recipe.title ?? "Same again: the same settings, another seed" })}
      ${act("vary-subtle", "layers", html`<span class="st-vary">Vary </span>subtle`, { title: "Redraw from this picture, changing little", "aria-label": "Vary subtle" })}
      ${act("vary-strong", "bolt", html`<span class="st-vary">Vary </span>strong`, { title: "Redraw from this picture, changing much", "aria-label": "Vary strong" })}
      ${act("upscale", "expand", html`<span class="st-wide">Upscale </span>2×`, { title: "Upscale 2× (u)" })}<button type="button" class="btn btn-ghost btn-small" data-action="as-init" title="Use as the picture to start from (i)" aria-label="Use as the picture to start from">${icon("image")}<span class="st-wide">Start from it</span></button>
      ${act("post", "send", "Post…", { title: "Post this picture (o)" })}
      <button type="button" class="btn btn-ghost btn-small" popovertarget="st-recall" ${attrs({ "aria-haspopup": "menu", ...recipe, "aria-label": "Recall" })}>${icon("undo")}<span class="st-narrow">Recall</span>${icon("chevron-down")}</button>
      <button type="button" class="icon-btn" popovertarget="st-moremenu" aria-label="More actions" title="More actions" ${attrs({ "aria-haspopup": "menu" })}>${icon("more")}</button>
      <button type="button" class="icon-btn" data-action="trash" data-needs="write" aria-label="Move to trash" title="Move to trash (Del)">${icon("trash")}</button></div>
      <div id="st-recall" popover class="popover menu" role="menu" aria-label="Recall">${item_("recall-all", "sliders", "Everything, for the same picture")}${item_("recall-prompt", "edit", "Only the prompt")}${item_("recall-seed", "dice", "Only the seed")}</div>
      <div id="st-moremenu" popover class="popover menu" role="menu" aria-label="More actions" data-align="end">
        ${upscalers.map((u) => item_("upscale", "expand", `Upscale 2× with ${middle(u.name.replace(/\.\w+$/, ""), 24)}`, { "data-model": u.name, "data-engine": u.engine }))}${upscalers.length > 0 && html`<hr>`}
        ${item_("schedule", "calendar", "Schedule…")}<hr>
        ${item_("copy-image", "copy", "Copy picture")}${item_("copy-recipe", "copy", "Copy recipe", { disabled: !item.hasRecipe })}${item_("copy-curl", "copy", "Copy as curl", { disabled: !item.hasRecipe })}
        <a role="menuitem" href="${fileUrl(item)}${fileUrl(item).includes("?") ? "&" : "?"}download=1" download>${icon("download")}<span>Download</span></a><hr>
        <a role="menuitem" href="/gallery.html?media=${encodeURIComponent(item.id)}">${icon("gallery")}<span>Open in the gallery</span></a>
        ${owner ? item_("avatar", "user", `Set as avatar of ${middle(owner.name, 20)}`) : html`<button type="button" role="menuitem" disabled>${icon("user")}<span>Set as avatar (no character)</span></button>`}</div>
      <p class="st-facts">${batch.length > 1 && html`<span><button type="button" class="st-link" data-action="show-batch">All ${batch.length} of this batch</button></span>`}${facts.map((fact) => html`<span>${fact}</span>`)}</p>
      ${s.notes(item).map((note) => html`<p class="small muted st-note">${icon("info")}<span>${note}</span></p>`)}</div></div>`;
}

const IDEAS = [
  "portrait, warm smile, soft morning light",
  "reading in a café window, rainy street outside",
  "city rooftop at sunset, wind in the hair",
  "close-up, red scarf, snow falling",
];

function welcome(s) {
  const none = s.characters.length === 0;
  const starter = s.found.model?.note;
  return html`<div class="st-welcome" data-key="welcome"><span class="st-mark" aria-hidden="true">${icon("studio")}</span>
    <h2>${s.character ? `Draw ${s.character.name}` : "What shall it be?"}</h2>
    <p class="muted">Write a prompt and press Generate. Everything else is optional.</p>
    <div class="st-ideas">${IDEAS.map((idea) => html`<button type="button" class="chip" data-action="idea" data-text="${idea}">${idea}</button>`)}</div>
    ${starter && html`<p class="small muted st-note">${icon("info")}<span>${s.found.model.label}: ${starter}</span></p>`}
    ${!s.catalog.models.length && html`<p class="small st-note st-warn">${icon("alert")}<span>No model is there yet. Start ComfyUI, or put a .safetensors file into the models folder. <a href="/settings.html?section=engines#comfyuiUrl">Engine settings</a></span></p>`}
    ${none && html`<div class="st-invite card"><span class="avatar avatar-m" aria-hidden="true">${icon("characters")}</span><div><strong>Pictures of one person?</strong><p class="small muted">A character keeps face, style and story the same from picture to picture.</p></div><a class="btn btn-small" href="/characters.html?new=1">Create a character</a></div>`}</div>`;
}

function strip(s) {
  const items = s.items ?? [];
  if (!items.length && !s.active.length) return "";
  const inSession = items.filter((i) => s.session.has(i.id)),
    before = items.filter((i) => !s.session.has(i.id));
  const cell = (item) =>
    html`<button type="button" role="option" class="st-cell" data-key="${item.id}" data-action="show" data-id="${item.id}" ${attrs({ "aria-selected": String(item.id === s.current?.id && s.view.kind === "item"), tabindex: item.id === (s.current ?? items[0])?.id ? 0 : -1, "aria-label": altOf(item).slice(0, 120) })}><img src="${thumbUrl(item)}" alt="" loading="lazy">${item.starred && html`<span class="st-cell-star">${icon("star-filled")}</span>`}</button>`;
  return html`<div class="st-strip" data-key="strip"><div class="st-strip-list" role="listbox" aria-label="Latest pictures" aria-orientation="horizontal">
    ${s.live && html`<button type="button" role="option" class="st-cell is-live" data-key="live" data-action="show-live" aria-selected="${String(s.view.kind === "live")}" aria-label="In work" tabindex="-1">${s.live.task.previewUrl ? html`<img src="${s.live.task.previewUrl}" alt="">` : icon("studio")}<progress max="1" aria-hidden="true" ${attrs({ value: s.live.task.status === "queued" ? 0 : s.live.task.total && s.live.task.done > 0 ? s.live.task.progress : null })}></progress></button>`}
    ${inSession.map(cell)}
    ${inSession.length > 0 && before.length > 0 && html`<span class="st-rule" data-key="rule" role="presentation"><span>Earlier</span></span>`}
    ${before.map(cell)}</div>
    ${items.length > 0 && html`<a class="st-cell st-all" data-key="all" href="/gallery.html${s.form.characterId ? `?characterId=${encodeURIComponent(s.form.characterId)}` : ""}" aria-label="All pictures in the gallery">${icon("gallery")}<span>All</span></a>`}</div>`;
}
