/** The Clean tab: queues of what is worth a second look. Doubles are compared side by side; a verdict is remembered. */
import { api } from "../../api.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { bytes, number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { registerKeys } from "../../keys.js";
import { toast } from "../../notices.js";
import { prefs } from "../../prefs.js";
import { operationDialog } from "./operations.js";
import { address } from "./query.js";
import { distanceWords, sizeText } from "./words.js";

const MIN_SIDE = 512;
/** Queues: key, title, icon, why, what lists them, what can be done with all. Filters are those of the picture list. */
const QUEUES = [
  { key: "exact", title: "Exact doubles", icon: "copy", text: "The same pixels more than once. Keep one." },
  { key: "near", title: "Near doubles", icon: "compare", text: "They look alike: crops, recompressions, neighbours of a burst." },
  { key: "blurry", title: "Blurry", icon: "alert", text: "Little fine detail. A LoRA learns the blur as well.", filter: { blurry: "1", excluded: "false" }, sort: "blurriest" },
  { key: "small", title: "Too small", icon: "expand", text: `Short side under ${MIN_SIDE} px. Upscale them, or replace them.`, filter: { maxSide: String(MIN_SIDE - 1), kind: "original", excluded: "false" }, sort: "smallest", operation: "upscale" },
  { key: "noface", title: "No face", icon: "eye-off", text: "Right for places and things, not for a portrait set.", filter: { faces: "0", excluded: "false" } },
  { key: "faces", title: "Several faces", icon: "face", text: "Crop the one that is meant.", filter: { faces: "2+", excluded: "false" }, operation: "face_crop" },
  { key: "stranger", title: "Somebody else", icon: "user", text: "The face is unlike the one most pictures show. Made for photographs: drawn faces may stand here wrongly.", filter: { "range.faceMatch": "..<0.363", excluded: "false" }, sort: "faceMatch" },
  { key: "turned", title: "Turned by EXIF", icon: "repeat", text: "They stand upright only where a program reads the camera's turn. Training and exports here do; resize makes upright copies.", filter: { "range.exifTurn": "2..", kind: "original", excluded: "false" }, operation: "resize" },
  { key: "wide", title: "Very wide", icon: "fit", text: "More than twice as wide as high: much is cut off in training.", filter: { "range.aspect": "2..", excluded: "false" }, operation: "resize" },
  { key: "tall", title: "Very tall", icon: "fit", text: "More than twice as high as wide: much is cut off in training.", filter: { "range.aspect": "..0.5", excluded: "false" }, operation: "resize" },
  { key: "unmeasured", title: "Not analyzed", icon: "face", text: "Nobody has looked for faces in them yet.", filter: { missing: "faces", excluded: "false" }, operation: "analyze" },
];
const SHOWN = 60;

/** @param {HTMLElement} root @param {any} page as detail.js gives it */
export function cleanTab(root, page) {
  let counts = {}, groups = null, groupTotal = 0, steps = [], items = null, total = 0, error = null, run = 0, shown = false, seenId = "";
  const covers = new Map(); // group → the picture to keep
  const queue = () => QUEUES.find((q) => q.key === page.at().own.queue) ?? QUEUES[0];
  const distance = () => { const d = Number(page.at().own.distance ?? 6); return Number.isFinite(d) ? Math.min(12, Math.max(0, Math.round(d))) : 6; };
  const isGroups = () => ["exact", "near"].includes(queue().key);

  const step = () => steps.find((one) => one.distance === distance());
  const nav = () => html`<nav class="ds-queues" aria-label="Queues"><ul>${QUEUES.map((q) => html`<li><a href="${address({ dataset: page.id, tab: "clean", own: { queue: q.key } })}" data-action="queue" data-key="${q.key}" class="gl-facet" ${attrs({ "aria-current": q.key === queue().key ? "true" : undefined })}>${icon(q.icon)}<span>${q.title}</span><span class="gl-num">${counts[q.key] === undefined ? "" : number(counts[q.key])}</span></a></li>`)}</ul></nav>`;
  const rule = () => prefs.get("datasetKeep", "largest");
  const best = (group) => {
    const chosen = covers.get(group.key) ?? group.keep?.[rule()];
    return group.images.some((i) => i.id === chosen) ? chosen : group.images[0].id;
  };
  function groupView(g) {
    const keep = best(g);
    return html`<li class="panel ds-group" data-key="g-${g.key}"><fieldset><legend class="small muted">${g.exact ? "The same pixels" : `${distanceWords(g.distance)} (distance ${g.distance})`}<span class="visually-hidden">: which picture to keep</span></legend><div class="ds-group-pictures">${g.images.map((i) => html`<label class="ds-double ${i.id === keep ? "is-kept" : ""}" data-key="${i.id}"><img src="${i.thumbUrl}" alt="${i.filename}" loading="lazy" decoding="async"><span class="ds-double-text small"><span class="truncate" title="${i.filename}">${i.filename}</span><span class="muted">${sizeText(i)}, ${bytes(i.sizeBytes)}</span><span class="muted">${[i.metadata?.sharpness !== undefined && `sharpness ${number(i.metadata.sharpness)}`, i.caption ? plural(i.words ?? i.caption.split(/\s+/).length, "word") : "no caption"].filter(Boolean).join(", ")}</span></span><span class="check small"><input type="radio" name="keep-${g.key}" value="${i.id}" data-group="${g.key}" ${attrs({ checked: i.id === keep })}><span>${i.id === keep ? "Keep this" : "Keep this instead"}</span></span></label>`)}</div></fieldset>
      <div class="row ds-group-acts"><button type="button" class="btn btn-primary" data-action="keep" data-needs="write" data-group="${g.key}">${icon("check")}Keep one, ${plural(g.images.length - 1, "other")} to the trash</button><button type="button" class="btn" data-action="separate" data-group="${g.key}">${icon("x")}Keep all: they differ</button></div></li>`;
  }
  const card = (i) => html`<li class="ds-double" data-key="${i.id}"><a href="${address({ dataset: page.id, filter: queue().filter, sort: queue().sort, own: { image: i.id } })}" data-action="look" data-id="${i.id}"><img src="${i.thumbUrl}" alt="${i.filename}" loading="lazy" decoding="async"></a><span class="ds-double-text small"><span class="truncate" title="${i.filename}">${i.filename}</span><span class="muted">${sizeText(i)}${queue().key === "stranger" ? `, likeness ${number(i.metadata?.faceMatch, 2)}` : i.metadata?.sharpness !== undefined ? `, sharpness ${number(i.metadata.sharpness)}` : ""}</span></span><span class="row"><button type="button" class="btn btn-small" data-action="exclude" data-id="${i.id}" aria-label="Exclude ${i.filename}">${icon("eye-off")}Exclude</button><button type="button" class="icon-btn" data-action="trash" data-needs="write" data-id="${i.id}" aria-label="Move ${i.filename} to the trash">${icon("trash")}</button></span></li>`;
  function body() {
    const q = queue();
    const head = html`<header class="panel-head" data-key="head"><div class="ds-queue-title"><h3>${q.title}</h3><p class="small muted">${q.text}</p></div>${!isGroups() && total > 0 && html`<a class="btn btn-small" href="${address({ dataset: page.id, filter: q.filter, sort: q.sort })}" data-action="all-in-grid">${icon("grid")}All ${number(total)} in the grid</a>`}${!isGroups() && total > 0 && q.operation && html`<button type="button" class="btn btn-small btn-primary" data-action="operate" data-needs="write" data-name="${q.operation}">${{ upscale: "Upscale all", face_crop: "Crop faces", resize: "Resize all", analyze: "Analyze all" }[q.operation]}</button>`}</header>
      ${q.key === "near" && html`<div class="ds-distance" data-key="distance"><label for="ds-distance">Distance <output>${distance()}</output></label><input id="ds-distance" type="range" min="0" max="12" step="1" value="${distance()}" data-change="distance" aria-describedby="ds-distance-said"><span id="ds-distance-said" class="small muted">${distanceWords(distance())}${step() ? `: ${plural(step().groups, "group")}, ${plural(step().images, "picture")}` : ""}</span></div>`}
      ${isGroups() && groups?.length > 0 && html`<div class="row small" data-key="rule"><label for="ds-rule">Keep the</label><select id="ds-rule" data-change="rule">${[["largest", "largest"], ["sharpest", "sharpest"], ["captioned", "best captioned"]].map(([v, l]) => html`<option value="${v}" ${attrs({ selected: v === rule() })}>${l}</option>`)}</select></div>`}`;
    if (error) return html`${head}${errorState(error, { compact: true })}`;
    if (isGroups()) {
      if (!groups) return html`${head}${skeleton("rows", 3)}`;
      if (!groups.length) return html`${head}${emptyState({ icon: "ok", title: q.key === "exact" ? "No exact doubles" : "No near doubles at this distance", text: q.key === "near" ? "Move the distance up to find more." : "", compact: true })}`;
      return html`${head}<ol class="ds-groups">${groups.slice(0, SHOWN).map(groupView)}</ol>${groupTotal > Math.min(SHOWN, groups.length) && html`<p class="muted small">${plural(groupTotal - Math.min(SHOWN, groups.length), "more group")} follow when these are done.</p>`}`;
    }
    if (!items) return html`${head}${skeleton("grid", 10)}`;
    if (!items.length) return html`${head}${emptyState({ icon: "ok", title: "Nothing here", text: q.key === "unmeasured" ? "Every picture has been analyzed." : counts.unmeasured > 0 && (q.filter.faces || q.key === "stranger") ? `${plural(counts.unmeasured, "picture")} not analyzed yet.` : "", compact: true })}`;
    return html`${head}<ul class="ds-cards-small">${items.map(card)}</ul>${total > items.length && html`<p class="muted small">${number(total - items.length)} more: see them in the grid.</p>`}`;
  }
  const paint = () => render(root, html`<div class="ds-clean">${nav()}<section class="panel ds-queue" aria-label="${queue().title}">${body()}</section></div>`);

  async function loadCounts() {
    const id = page.id;
    await Promise.all(QUEUES.map(async (q) => {
      try {
        const n = q.filter ? (await api.get(page.path("/images"), { query: { ...q.filter, limit: 1 } })).total : null;
        if (id === page.id && n !== null) counts = { ...counts, [q.key]: n };
      } catch {
        /* the number stays away */
      }
    }));
    if (shown) paint();
  }
  async function load({ quiet = false } = {}) {
    const mine = (run += 1), q = queue();
    if (!quiet) { error = null; groups = null; items = null; total = 0; paint(); }
    try {
      if (isGroups()) {
        const answer = await api.get(page.path("/duplicates"), { query: { exact: q.key === "exact" || null, distance: distance(), limit: SHOWN } });
        if (mine !== run) return;
        takeGroups(answer);
      } else {
        const answer = await api.get(page.path("/images"), { query: { ...q.filter, sort: q.sort, limit: SHOWN } });
        if (mine !== run) return;
        items = answer.items;
        total = answer.total;
        counts = { ...counts, [q.key]: total };
      }
      error = null;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
    }
    if (shown) paint();
  }
  function takeGroups(answer) {
    groups = groupsOf(answer);
    groupTotal = answer.total;
    steps = answer.counts ?? [];
    counts = { ...counts, exact: answer.exact?.groups ?? counts.exact, near: step()?.groups ?? counts.near };
  }
  async function countGroups() {
    if (isGroups()) return; // the list itself says it
    try {
      const answer = await api.get(page.path("/duplicates"), { query: { distance: distance(), limit: 1 } });
      counts = { ...counts, exact: answer.exact.groups, near: answer.counts.find((one) => one.distance === distance())?.groups };
      if (shown) paint();
    } catch {
      /* the number stays away */
    }
  }
  const find = (key) => groups.find((g) => g.key === key);
  /** What was decided goes away at once, focus to the next group. */
  function away(g) {
    const at = groups.indexOf(g);
    groups = groups.filter((one) => one.key !== g.key);
    groupTotal = Math.max(0, groupTotal - 1);
    counts = { ...counts, [queue().key]: groupTotal };
    paint();
    const next = groups[Math.min(at, groups.length - 1)];
    root.querySelector(next ? `[data-key="g-${CSS.escape(next.key)}"] [data-action=keep]` : ".ds-queues [aria-current]")?.focus();
  }
  async function verdict(g, which) {
    const ids = g.images.map((i) => i.id), keepId = best(g);
    try {
      const answer = await api.post(page.path("/duplicates"), which === "keep" ? { verdict: "keep", imageIds: ids, keepId } : { verdict: "separate", imageIds: ids });
      away(g);
      page.touched();
      if (which === "separate") {
        toast.success("Remembered: these pictures differ", { undo: async () => { await api.post(page.path("/duplicates"), { verdict: "forget", imageIds: ids }); load({ quiet: true }); } });
        return;
      }
      const list = answer.trashed;
      toast.success(`${plural(list.length, "picture")} moved to the trash`, { undo: async () => { await api.post("/api/images/restore", { ids: list }); page.touched(); load({ quiet: true }); } });
    } catch (problem) {
      toast.error(problem);
    }
  }
  async function takeOut(id, how) {
    try {
      await (how === "trash" ? api.post("/api/images/trash", { ids: [id] }) : api.patch("/api/images", { ids: [id], changes: { excluded: true } }));
      const at = items.findIndex((i) => i.id === id);
      items = items.filter((i) => i.id !== id);
      total -= 1;
      counts = { ...counts, [queue().key]: total };
      paint();
      (root.querySelectorAll(".ds-double")[Math.min(at, items.length - 1)]?.querySelector("button") ?? root.querySelector(".ds-queues [aria-current]"))?.focus();
      page.touched();
      toast.success(how === "trash" ? "Moved to the trash" : "Excluded", { undo: async () => { await (how === "trash" ? api.post("/api/images/restore", { ids: [id] }) : api.patch("/api/images", { ids: [id], changes: { excluded: false } })); load({ quiet: true }); } });
    } catch (problem) {
      toast.error(problem);
    }
  }

  const slide = debounce((value) => page.go({ own: { ...page.at().own, distance: value === "6" ? "" : value } }, { push: false }), 250);
  root.addEventListener("input", (event) => {
    if (event.target.dataset.change !== "distance") return;
    root.querySelector(".ds-distance output").textContent = event.target.value;
    slide(event.target.value);
  });
  root.addEventListener("change", (event) => {
    const { group, change } = event.target.dataset;
    if (change === "rule") { prefs.set("datasetKeep", event.target.value); covers.clear(); paint(); }
    if (group) { covers.set(group, event.target.value); paint(); }
  });
  onAction(root, {
    retry: () => load(),
    queue: (event, el) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      page.go({ own: { queue: el.dataset.key === "exact" ? "" : el.dataset.key } });
    },
    keep: (_e, el) => busy(el, () => verdict(find(el.dataset.group), "keep")),
    separate: (_e, el) => busy(el, () => verdict(find(el.dataset.group), "separate")),
    exclude: (_e, el) => takeOut(el.dataset.id, "exclude"),
    trash: (_e, el) => takeOut(el.dataset.id, "trash"),
    look: (event, el) => { if (event.metaKey || event.ctrlKey) return; event.preventDefault(); page.go({ tab: "images", filter: queue().filter, sort: queue().sort ?? "name", own: { image: el.dataset.id } }); },
    "all-in-grid": (event) => { if (event.metaKey || event.ctrlKey) return; event.preventDefault(); page.go({ tab: "images", filter: queue().filter, sort: queue().sort ?? "name", own: {} }); },
    operate: async (_e, el) => {
      const taskId = await operationDialog({ page, name: el.dataset.name, ids: null, filter: queue().filter });
      if (taskId) page.follow(taskId);
    },
  });
  const first = () => (shown && isGroups() && groups?.length ? groups[0] : null);
  registerKeys("Doubles", [
    { keys: "Enter", label: "Keep the chosen picture of the first group", when: () => Boolean(first()) && document.activeElement === document.body, run: () => verdict(first(), "keep") },
    { keys: "s", label: "Keep all of the first group: they differ", when: () => Boolean(first()), run: () => verdict(first(), "separate") },
  ]);
  let seen = "";
  return {
    async show() {
      shown = true;
      if (seenId !== page.id) { seenId = page.id; counts = {}; covers.clear(); seen = ""; }
      const wanted = `${queue().key} ${distance()}`;
      if (seen !== wanted) {
        const slid = seen.startsWith("near ") && wanted.startsWith("near ");
        seen = wanted;
        await load({ quiet: slid && groups !== null });
      } else { paint(); load({ quiet: true }); }
      loadCounts();
      countGroups();
    },
    hide() { shown = false; },
    news() { if (shown) { load({ quiet: true }); loadCounts(); } },
  };
}

/** Groups of the answer: {key, images, distance, exact, keep}. */
const groupsOf = (answer) => (answer?.items ?? []).map((g) => ({ ...g, key: String(g.id) })).filter((g) => g.images.length > 1);
