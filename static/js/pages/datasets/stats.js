/** The Stats tab: what is in the set, every bar a way to the pictures it counts. */
import { api } from "../../api.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { debounce, onAction, render } from "../../dom.js";
import { bytes, date, number, percent, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { operationDialog } from "./operations.js";
import { address, asFilter, measureName, SOURCES } from "./query.js";
import { healthLook, share } from "./words.js";

const BASES = [512, 768, 1024, 1280];

/** @param {HTMLElement} root @param {any} page as detail.js gives it */
export function statsTab(root, page) {
  let stats = null, error = null, run = 0, shown = false, seen = "";
  const resolution = () => Number(page.at().own.base) || 512;
  const batch = () => Number(page.at().own.batch) || 4;
  const to = (filter) => address({ dataset: page.id, tab: "images", filter: asFilter(filter) });
  const has = (filter) => Object.keys(asFilter(filter)).length > 0;

  // ---------------------------------------------------------------- parts

  /** A figure that leads to what it counts. */
  const figure = (label, value, filter, note) => html`<div class="ds-figure"><dt>${label}</dt><dd>${has(filter) ? html`<a href="${to(filter)}" data-action="show-filter"><strong>${value}</strong></a>` : html`<strong>${value}</strong>`}${note && html`<span class="small muted">${note}</span>`}</dd></div>`;
  const figures = (list) => html`<dl class="ds-figures">${list.filter(Boolean)}</dl>`;
  /** Horizontal bars: label, bar, number. */
  function bars(list, { label, none = "Nothing to count yet", note } = {}) {
    const rows = (list ?? []).filter((r) => r.count > 0);
    if (!rows.length) return html`<p class="small muted">${none}</p>`;
    const most = Math.max(...rows.map((r) => r.count));
    return html`<ul class="ds-bars ${rows.some((r) => r.after) ? "has-after" : ""}" aria-label="${label}">${rows.map((r) => {
      const inner = html`<span class="ds-bar-name truncate" title="${r.name}">${r.name}</span><svg class="ds-bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect class="ds-bar-fill ${r.warn ? "is-warn" : ""}" width="${share(r.count, most)}" height="1"></rect></svg><span class="ds-bar-num">${number(r.count)}${r.after && html` <span class="muted">${r.after}</span>`}</span>`;
      return html`<li>${has(r.filter) ? html`<a class="ds-bar-row" href="${to(r.filter)}" data-action="show-filter" aria-label="${r.name}: ${number(r.count)}. Show them">${inner}</a>` : html`<span class="ds-bar-row">${inner}</span>`}</li>`;
    })}</ul>${note && html`<p class="small muted">${note}</p>`}`;
  }
  /** Upright columns of neighbouring ranges. */
  function histogram(list, { label, name, none = "Not measured yet" }) {
    const rows = list ?? [];
    if (!rows.some((r) => r.count > 0)) return html`<p class="small muted">${none}</p>`;
    const most = Math.max(...rows.map((r) => r.count));
    return html`<ul class="ds-histogram" aria-label="${label}">${rows.map((r) => {
      const said = `${name(r)}: ${plural(r.count, "picture")}`;
      const column = html`<svg viewBox="0 0 10 100" preserveAspectRatio="none" aria-hidden="true"><rect class="ds-bar-fill" x="0" y="${100 - share(r.count, most)}" width="10" height="${share(r.count, most)}"></rect></svg>`;
      return html`<li>${r.count > 0 && has(r.filter) ? html`<a href="${to(r.filter)}" data-action="show-filter" title="${said}" aria-label="${said}. Show them">${column}</a>` : html`<span title="${said}">${column}<span class="visually-hidden">${said}</span></span>`}</li>`;
    })}</ul><p class="ds-axis small muted"><span>${name(rows[0])}</span><span>${name(rows.at(-1))}</span></p>`;
  }
  const turned = ({ from, to }) => (from <= -180 ? `beyond ${number(to)}°` : to >= 180 ? `beyond ${number(from)}°` : `${number(from)}° to ${number(to)}°`);
  const range = (digits, unit = "") => (r) => {
    const n = (v) => number(v, digits);
    if (r.label) return r.label;
    if (r.from === null || r.from === undefined) return `up to ${n(r.to)}${unit}`;
    if (r.to === null || r.to === undefined) return `from ${n(r.from)}${unit}`;
    return `${n(r.from)}–${n(r.to)}${unit}`;
  };
  const panel = (key, title, body, tools = "") => html`<section class="panel ds-block" data-key="${key}"><header class="panel-head"><h3>${title}</h3>${tools}</header>${body}</section>`;

  function healthPanel(h) {
    if (!h) return "";
    const look = healthLook(h.score);
    return html`<section class="panel ds-health" data-key="health"><div class="ds-score is-${look.tone}" role="img" aria-label="Health ${h.score ?? "not rated"} of 100, ${look.word}"><svg viewBox="0 0 36 36" aria-hidden="true"><circle class="ds-ring" cx="18" cy="18" r="15.9"></circle><circle class="ds-ring-fill" cx="18" cy="18" r="15.9" pathLength="100" stroke-dasharray="${Math.max(0, Math.min(100, h.score ?? 0))} 100"></circle></svg><strong>${h.score ?? "–"}</strong><span class="small">${look.word}</span></div>
      <div class="ds-fixes"><h3>${h.fixes?.length ? "What would help most" : "Nothing stands out"}</h3>${h.fixes?.length ? html`<ul class="stack-3">${h.fixes.slice(0, 3).map((f, i) => html`<li class="ds-fix" data-key="fix-${f.code}"><div><strong>${f.title}</strong><p class="small muted">${f.detail}</p></div><div class="row">${has(f.filter) && f.count > 0 && html`<a class="btn btn-small" href="${to(f.filter)}" data-action="show-filter">Show ${number(f.count)}</a>`}${actionOf(f) && html`<button type="button" class="btn btn-small btn-primary" data-action="fix" data-i="${i}">${actionOf(f)}</button>`}</div></li>`)}</ul>` : html`<p class="muted">${h.score === null || h.score === undefined ? "Add pictures, then this says what to do next." : "Take a snapshot in Versions before you train."}</p>`}</div></section>`;
  }
  function bucketsPanel(s) {
    const list = s.buckets ?? [];
    const small = list.filter((b) => b.smallerThanBatch);
    return panel("buckets", "Buckets", html`${bars(list.map((b) => ({ name: `${b.width} × ${b.height}`, count: b.count, filter: b.filter, warn: b.smallerThanBatch, after: b.lost > 0.005 ? `${percent(b.lost)} cut off` : "" })), { label: "Pictures per bucket", none: "No picture yet" })}
      ${small.length > 0 && html`<p class="small ds-warn">${icon("alert")}<span>${plural(small.length, "bucket")} with fewer pictures than a batch of ${number(batch())}: some trainers leave those out.</span></p>`}`,
      html`<label class="visually-hidden" for="ds-base">Base size</label><select id="ds-base" data-change="base">${BASES.map((b) => html`<option value="${b}" ${attrs({ selected: b === resolution() })}>${b} px</option>`)}</select><label class="small" for="ds-batch">Batch</label><input id="ds-batch" type="number" min="1" max="64" value="${batch()}" data-change="batch">`);
  }

  function coveragePanel(c) {
    if (!c?.cells?.length) return "";
    const names = { ...Object.fromEntries(c.axes.flatMap((axis) => (c.scales[axis] ?? []).map((row) => [`${axis}:${row.value}`, row.label ?? row.value]))) };
    const said = (axis, value) => String(names[`${axis}:${value}`] ?? value ?? "unknown").replace(/_/g, " ");
    return panel("coverage", "Coverage", html`${bars(c.cells.map((cell) => ({ name: c.axes.map((axis) => said(axis, cell[axis])).join(", "), count: cell.count, filter: cell.filter })), { label: "Framing, pose and light" })}${c.gaps?.length > 0 && html`<h4>Missing</h4><p class="small muted">${c.gaps.map((g) => `${measureName(g.axis).toLowerCase()}: ${said(g.axis, g.value)}`).join("; ")}</p>`}`);
  }
  function view(s) {
    const { size = {}, resolution: r = {}, captions: c = {}, tags = {}, faces = {}, duplicates: d = {}, blur = {}, balance = {}, exposure = {} } = s;
    const w = c.words ?? {}, t = c.trigger, below = r.belowTarget ?? {}, over = c.over ?? {}, alike = c.duplicates ?? {};
    const tokens = (name, x) => x && figure(name, number(x.median), null, `${number(x.min)} to ${number(x.max)}, limit ${number(x.limit)}`);
    const tagBars = (list) => (list ?? []).map((x) => ({ name: x.tag, count: x.count, filter: x.filter ?? { tag: x.tag } }));
    const chips = (list, more = list.length) => html`<p class="ds-chips">${list.slice(0, 40).map((x) => html`<a class="chip" href="${to(x.filter ?? { tag: x.tag })}" data-action="show-filter">${x.tag}</a>`)}${more > 40 && html`<span class="small muted">and ${number(more - 40)} more</span>`}</p>`;
    const once = tags.once ?? [], all = tags.all ?? [], similar = tags.similar ?? [];
    const analyzed = faces.analyzed ?? 0, missing = faces.missing?.count ?? 0;
    const together = (tags.pairs ?? []).filter((x) => x.count > 1);
    const who = faces.identity ?? {}, languages = c.languages ?? [], lost = c.orphans ?? { count: 0, items: [] };
    const faceBars = ["none", "one", "many"].map((key, i) => ({ name: ["No face", "One face", "Several faces"][i], count: faces[key]?.count ?? 0, filter: faces[key]?.filter }));
    const concepts = balance.concepts ?? [];
    return html`<div class="ds-stats">${healthPanel(s.health)}
      ${panel("size", "Size", html`${figures([figure("Pictures", number(size.images), s.filter), size.excluded?.count > 0 && figure("Excluded", number(size.excluded.count), size.excluded.filter), size.videos > 0 && figure("Videos", number(size.videos)), figure("On disk", bytes(size.bytes)), size.folders?.length > 1 && figure("Folders", number(size.folders.length))])}
        ${size.folders?.length > 1 && html`<h4>Folders</h4>${bars(size.folders.slice(0, 12).map((f) => ({ name: !f.value || f.value === "." ? "Top" : f.value, count: f.count, filter: f.filter })), { label: "Folders" })}`}<h4>Formats</h4>${bars((size.formats ?? []).map((f) => ({ name: f.value, count: f.count, filter: f.filter })), { label: "Formats" })}${size.added?.length > 1 && html`<h4>Added</h4>${bars(size.added.slice(-14).map((a) => ({ name: date(a.day), count: a.count, filter: a.filter })), { label: "Added by day" })}`}`)}
      ${panel("resolution", "Resolution", html`${figures([figure("Smallest", `${number(r.minMp, 2)} MP`, r.minImageId ? { ids: r.minImageId } : null), figure("Median", `${number(r.medianMp, 2)} MP`), figure("Largest", `${number(r.maxMp, 2)} MP`, r.maxImageId ? { ids: r.maxImageId } : null), figure("Below target", number(below.count), below.count ? below.filter : null, below.target ? `under ${number(below.target)} × ${number(below.target)} px` : "")])}${histogram(r.histogram, { label: "Megapixels", name: range(2, " MP"), none: "No picture yet" })}`)}
      ${bucketsPanel(s)}
      ${panel("captions", "Captions", html`${figures([figure("With caption", number(c.with), c.with ? c.withFilter : null), figure("Without", number(c.without), c.without ? c.withoutFilter : null), c.locked?.count > 0 && figure("Written by a person", number(c.locked.count), c.locked.filter), figure("Words, median", number(w.median, 1), null, w.max ? `${number(w.min)} to ${number(w.max)}` : ""), tokens("CLIP tokens", c.tokensClip), tokens("T5 tokens", c.tokensT5), figure("Too long", number(over.count), over.count ? over.filter : null, over.limit ? `over ${number(over.limit)} ${over.unit === "words" ? "words" : "CLIP tokens"}` : ""), figure("Same caption twice", number(alike.count ?? 0), alike.count ? alike.filter : null), t && figure("Trigger word", percent(t.coverage), t.filter, `“${t.word}” in ${number(t.count)}`), t?.missing > 0 && figure("Without trigger word", number(t.missing), t.missingFilter), lost.count > 0 && figure("Without a picture", number(lost.count), null, "caption files of imports")])}
        ${w.histogram?.length > 0 && html`<h4>Words</h4>${histogram(w.histogram, { label: "Words per caption", name: range(0, " words") })}`}${c.sources?.length > 0 && html`<h4>Written by</h4>${bars(c.sources.map((x) => ({ name: SOURCES[x.value] ?? x.value, count: x.count, filter: x.filter })), { label: "Written by" })}`}${languages.length > 0 && html`<h4>Language</h4>${bars(languages.map((x) => ({ name: x.name, count: x.count, filter: x.filter })), { label: "Language of the captions", note: languages.filter((x) => x.value !== "unclear").length > 1 ? "One language throughout is learned best." : "" })}`}${lost.count > 0 && html`<details class="small" data-key="orphans"><summary>Captions without a picture <span class="count">${number(lost.count)}</span></summary><ul class="ds-plain">${lost.items.map((o) => html`<li><span class="mono">${o.name}</span> <span class="muted">${o.reason}</span></li>`)}${lost.count > lost.items.length && html`<li class="muted">and ${number(lost.count - lost.items.length)} more</li>`}</ul></details>`}`)}
      ${panel("tags", "Tags", html`${bars(tagBars(tags.top).slice(0, 20), { label: "Most frequent tags", none: "No tags yet" })}${tags.distinct > 20 && html`<p class="small muted">${number(tags.distinct)} different tags.</p>`}${all.length > 0 && html`<h4>On every caption</h4><p class="small muted">They say nothing that the trigger word does not say.</p>${chips(all)}`}${together.length > 0 && html`<h4>Together</h4><ul class="ds-plain small">${together.slice(0, 8).map((x) => html`<li>${x.tags[0]} <span class="muted">with</span> ${x.tags[1]} <span class="muted">${number(x.count)}</span></li>`)}</ul>`}${similar.length > 0 && html`<h4>Spelled alike</h4><p class="small muted">Perhaps the same thing in two spellings.</p><ul class="ds-plain small">${similar.slice(0, 12).map((x) => html`<li><a href="${to(x.filter)}" data-action="show-filter">${x.tag}</a>${typeof x.count === "number" && html` <span class="muted">${number(x.count)}</span>`}${(x.similarTo ?? x.other ?? x.to) && html` and <a href="${to({ tag: x.similarTo ?? x.other ?? x.to })}" data-action="show-filter">${x.similarTo ?? x.other ?? x.to}</a>`}</li>`)}</ul>`}${once.length > 0 && html`<h4>Only once</h4><p class="small muted">Often a slip of the pen.</p>${chips(once, tags.onceCount ?? once.length)}`}`)}
      ${panel("faces", "Faces", html`${analyzed > 0 ? html`${bars(faceBars, { label: "Faces" })}${who.measured > 0 && html`<h4>Likeness to the person of the set</h4>${histogram(who.histogram, { label: "Likeness of the face", name: (x) => (x.from <= -1 ? `under ${number(x.to, 2)}` : x.to >= 1 ? `from ${number(x.from, 2)}` : `${number(x.from, 2)} to ${number(x.to, 2)}`) })}${figures([figure("Somebody else?", number(who.strangers.count), who.strangers.count ? who.strangers.filter : null, `likeness under ${number(who.threshold, 2)}`), figure("Median", number(who.median, 2))])}`}<h4>Share of the picture</h4>${histogram(faces.share, { label: "Share of the face", name: (x) => (x.to === null ? `from ${percent(x.from)}` : `${percent(x.from ?? 0)} to ${percent(x.to)}`) })}${faces.yaw?.some((x) => x.count) && html`<h4>Turned by</h4>${histogram(faces.yaw, { label: "Turned by", name: turned })}`}` : html`<p class="small muted">Faces are counted when pictures are analyzed.</p>`}${missing > 0 && html`<p class="row"><span class="small muted">${number(missing)} not analyzed.</span><button type="button" class="btn btn-small" data-action="analyze">${icon("face")}Analyze ${analyzed > 0 ? "the rest" : "all"}</button></p>`}`)}
      ${panel("duplicates", "Doubles", html`${figures([figure("Exact", number(d.exact?.images ?? 0), d.exact?.images ? d.exact.filter : null, d.exact?.groups ? plural(d.exact.groups, "group") : ""), figure("Alike", number(d.images ?? 0), d.images ? d.filter : null, d.groups ? plural(d.groups, "group") : "")])}<p class="row"><a class="btn btn-small" href="${address({ dataset: page.id, tab: "clean" })}" data-action="to-clean">${icon("compare")}Review doubles</a></p>`)}
      ${panel("blur", "Sharpness", html`${histogram(blur.histogram, { label: "Sharpness", name: range(0) })}${figures([figure("Blurry", number(blur.blurry?.count ?? 0), blur.blurry?.count ? blur.blurry.filter : null, blur.blurry ? `sharpness under ${number(blur.blurry.threshold)}` : ""), blur.blurryFaces?.measured > 0 && figure("Blurry faces", number(blur.blurryFaces.count), blur.blurryFaces.count ? blur.blurryFaces.filter : null)])}`)}
      ${panel("exposure", "Exposure", html`${histogram(exposure.brightness, { label: "Brightness", name: range(0) })}${figures([figure("Too dark", number(exposure.dark?.count ?? 0), exposure.dark?.count ? exposure.dark.filter : null), figure("Too bright", number(exposure.bright?.count ?? 0), exposure.bright?.count ? exposure.bright.filter : null)])}`)}
      ${coveragePanel(s.coverage)}
      ${panel("balance", "Balance", concepts.length ? html`<div class="ds-scroll" tabindex="0" role="region" aria-label="Balance of the concepts"><table class="ds-balance"><caption class="visually-hidden">Pictures and repeats per concept</caption><thead><tr><th scope="col">Concept</th><th scope="col" class="end">Pictures</th><th scope="col" class="end">Repeats</th><th scope="col" class="end">Share</th></tr></thead><tbody>${concepts.map((b) => html`<tr><th scope="row"><a href="${to(b.filter)}" data-action="show-filter">${!b.concept || b.concept === "." ? "No concept" : b.concept}</a>${b.regularization && html` <span class="small muted">regularisation</span>`}</th><td class="end">${number(b.images)}</td><td class="end">× ${number(b.repeats, 1)}</td><td class="end">${percent(b.share)}</td></tr>`)}</tbody></table></div><p class="small muted">${plural(balance.stepsPerEpoch, "step")} per epoch at this batch.</p>` : html`<p class="small muted">No concepts.</p>`)}</div>`;
  }

  function paint() {
    if (error && !stats) return render(root, errorState(error, { title: "The figures could not be loaded" }));
    if (!stats) return render(root, html`<div class="ds-stats">${skeleton("cards", 6)}</div>`);
    if (!stats.size?.images) return render(root, emptyState({ icon: "monitoring", title: "Nothing to count yet", text: "Add pictures; what is measured at import shows up here at once.", action: { label: "Add pictures", action: "add", icon: "upload", needs: "write" } }));
    return render(root, view(stats));
  }
  async function load() {
    const mine = (run += 1);
    seen = `${page.id} ${resolution()} ${batch()}`;
    try {
      const answer = await api.get(page.path("/stats"), { query: { resolution: resolution(), batch: batch() } });
      if (mine !== run) return;
      stats = answer;
      error = null;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
    }
    if (shown) paint();
  }
  async function operate(name, filter) {
    const taskId = await operationDialog({ page, name, ids: null, filter });
    if (taskId) page.follow(taskId);
  }
  const own = debounce((name, value) => page.go({ own: { ...page.at().own, [name]: value } }, { push: false }), 250);
  root.addEventListener("change", (event) => {
    const name = event.target.dataset.change;
    if (name) own(name, name === "batch" ? String(Math.min(64, Math.max(1, Number(event.target.value) || 1))) : event.target.value);
  });
  onAction(root, {
    retry: () => { error = null; paint(); load(); },
    add: () => page.importer.start(),
    analyze: () => operate("analyze", { missing: "faces" }),
    "to-clean": (event) => { if (!event.metaKey && !event.ctrlKey) { event.preventDefault(); page.go({ tab: "clean", own: {} }); } },
    "show-filter": (event, el) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      page.go({ tab: "images", filter: asFilter(new URL(el.href).search), own: {} });
    },
    fix: (_e, el) => {
      const f = stats.health.fixes[Number(el.dataset.i)];
      const kind = actionKey(f), filter = asFilter(f.filter);
      if (kind === "dedupe") page.go({ tab: "clean", own: {} });
      else if (kind === "trigger") page.go({ tab: "captions", own: { op: "trigger" } });
      else if (kind === "edit") page.go({ tab: "captions", filter, own: {} });
      else if (kind === "import") page.importer.start();
      else operate(kind, filter);
    },
  });
  return {
    show() {
      shown = true;
      if (seen !== `${page.id} ${resolution()} ${batch()}`) { if (!seen.startsWith(`${page.id} `)) stats = null; }
      paint();
      return load();
    },
    hide() { shown = false; },
    news() { if (shown) load(); },
    captioned: debounce(() => { if (shown) load(); }, 1500),
  };
}

const ACTIONS = { caption: "Write captions", analyze: "Analyze", face_crop: "Crop faces", upscale: "Upscale", resize: "Resize", dedupe: "Review doubles", trigger: "Add the trigger word", edit: "Open captions", import: "Add pictures" };
/** What the button of a fix does: one of ACTIONS, "" when looking at the pictures is all there is to do. */
const actionKey = (fix) => (fix.action in ACTIONS ? fix.action : "");
const actionOf = (fix) => ACTIONS[actionKey(fix)] ?? "";
