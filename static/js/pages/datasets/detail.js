/** One dataset: its name and figures, the tabs, what is being done to it, files dropped on it. */
import { api } from "../../api.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { bytes, number, percent, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { cancel, retry, stream, tasks } from "../../jobs.js";
import { toast } from "../../notices.js";
import { draft } from "../../prefs.js";
import { session } from "../../session.js";
import { isFinished, taskId } from "../../tasks.js";
import { captionsTab } from "./captions.js";
import { cleanTab } from "./clean.js";
import { imagesTab } from "./images.js";
import { editSet, trashSet } from "./list.js";
import { statsTab } from "./stats.js";
import { versionsTab } from "./versions.js";
import { healthLook } from "./words.js";

const LABELS = [["images", "Images", "gallery"], ["captions", "Captions", "tag"], ["stats", "Stats", "monitoring"], ["clean", "Clean", "compare"], ["versions", "Versions", "history"]];

const kept = draft("dataset-tasks"); // what was started from here: {datasetId: task ids}

/** @param {HTMLElement} root @param {{at: () => any, go: (changes: any, options?: any) => Promise<void>, importer: any, gone: () => void}} page */
export function detailView(root, page) {
  let set = null, error = null, shownId = "", shownTab = "", run = 0;
  const watched = new Map(); // tasks this page shows: id → task
  const ended = new Set();
  const undoable = new Map(); // batches without a result that can be taken back: id → {done, skipped, failed}

  render(root, html`<div class="ds-detail"><header class="ds-head" data-key="head"></header><div class="ds-jobs" data-key="jobs" aria-label="Work on this dataset" role="region" hidden></div><tab-bar data-key="tabs"></tab-bar>
    ${LABELS.map(([key]) => html`<section role="tabpanel" id="ds-${key}" data-key="${key}" aria-labelledby="tab-${key}" tabindex="-1" hidden></section>`)}<div class="ds-problem" data-key="problem" hidden></div></div>`);
  const $ = (selector) => root.querySelector(selector);
  const bar = $("tab-bar");
  const path = (rest = "") => `/api/datasets/${encodeURIComponent(page.at().dataset)}${rest}`;
  const shell = document.querySelector("app-shell");

  /** What the tabs may know and do. */
  const own = {
    path,
    at: page.at,
    go: page.go,
    get set() { return set; },
    /** Whether a task works on the set that this page knows of. */
    get working() { return [...watched.values()].some((t) => !isFinished(t)); },
    get id() { return page.at().dataset; },
    reload: () => load(),
    importer: page.importer,
    selection: [], // ids chosen in the grid
    /** The ids of all that match, by file name; at most `most`. */
    async allIds(filter, most) {
      if (most) return (await api.get(path("/images"), { query: { ...filter, limit: most } })).items.map((i) => i.id);
      return (await api.get(path("/images/ids"), { query: filter })).ids;
    },
    follow: (id) => follow(id),
    /** Something here changed the set: the head and the tab agree with it again soon. */
    touched: () => soon(),
  };
  const tabs = { images: imagesTab($("#ds-images"), own), captions: captionsTab($("#ds-captions"), own), stats: statsTab($("#ds-stats"), own), clean: cleanTab($("#ds-clean"), own), versions: versionsTab($("#ds-versions"), own) };

  function paintHead() {
    if (!set) {
      render($(".ds-head"), error ? html`` : skeleton("lines", 2));
      return;
    }
    const { images = 0, captioned = 0, processed = 0, excluded = 0, sizeBytes = 0 } = set.counts ?? {};
    const look = healthLook(set.health?.score);
    const who = session.find(set.characterId)?.name;
    render($(".ds-head"), html`<div class="page-head"><a class="icon-btn" href="/datasets.html" data-action="back" aria-label="All datasets" title="All datasets">${icon("arrow-left")}</a>
        <h2 class="ds-title truncate" title="${set.name}">${set.name}</h2>${set.trashedAt && html`<span class="badge badge-warn">${icon("trash")}<span>In the trash</span></span>`}<span class="spacer"></span>
        <button type="button" class="btn" data-action="add" data-needs="write">${icon("upload")}Add pictures</button>
        <a class="btn btn-primary" href="/lora.html?tab=train&amp;dataset=${encodeURIComponent(set.id)}">${icon("bolt")}Train a LoRA</a>
        <button type="button" class="icon-btn" popovertarget="ds-menu" aria-label="More">${icon("more")}</button><div id="ds-menu" popover class="popover menu" role="menu" aria-label="Dataset" data-align="end"><button type="button" role="menuitem" data-action="edit">${icon("edit")}<span>Name, trigger word…</span></button><button type="button" role="menuitem" data-action="check">${icon("disk")}<span>Compare with the disk</span></button><hr>${set.trashedAt ? html`<button type="button" role="menuitem" data-action="restore">${icon("undo")}<span>Restore</span></button>` : html`<button type="button" role="menuitem" class="is-danger" data-action="trash" data-needs="write">${icon("trash")}<span>Move to the trash</span></button>`}</div></div>
      <p class="ds-facts muted"><span>${plural(images - processed, "picture")}</span>${images > 0 && html`<span>${percent(captioned / images)} captioned</span>`}${processed > 0 && html`<span>${number(processed)} made from them</span>`}${excluded > 0 && html`<span>${number(excluded)} excluded</span>`}<span>${bytes(sizeBytes)}</span>${set.triggerWord ? html`<span>trigger word <code>${set.triggerWord}</code></span>` : html`<span>no trigger word</span>`}${who && html`<span>${who}</span>`}${typeof set.health?.score === "number" && html`<span class="badge badge-${look.tone}">${icon(look.icon)}<span>${look.word} ${number(set.health.score)}</span></span>`}</p>`);
  }
  function paintTabs() {
    bar.tabs = LABELS.map(([key, label, glyph]) => ({ key, label, icon: glyph, controls: `ds-${key}`, count: key === "images" && set ? number(set.counts?.images ?? 0) : undefined }));
    if (bar.value !== page.at().tab) bar.value = page.at().tab;
    const chosen = bar.querySelector("[aria-selected=true]");
    if (chosen && !bar.hidden && bar.scrollWidth > bar.clientWidth) bar.scrollLeft = chosen.offsetLeft - bar.offsetLeft - 16;
  }

  // ---------------------------------------------------------------- work under way

  const known = (id) => (kept.load() ?? {})[id] ?? [];
  const mine = (task) => (task.datasetId ?? task.result?.datasetId) === page.at().dataset || known(page.at().dataset).includes(taskId(task));
  function paintJobs() {
    const list = [...watched.values()].filter((t) => !isFinished(t) || !ended.has(taskId(t)));
    const box = $(".ds-jobs");
    box.hidden = !list.length;
    render(box, html`${list.map((t) => html`<div class="ds-job" data-key="${taskId(t)}"><job-progress compact data-id="${taskId(t)}"></job-progress>${isFinished(t) && html`<div class="ds-job-end">${taskSaid(t, undoable.get(taskId(t)))}${(canUndo(t) || undoable.get(taskId(t))) && html`<button type="button" class="btn btn-small" data-action="job-undo" data-id="${taskId(t)}" data-needs="write">${icon("undo")}Undo</button>`}<button type="button" class="icon-btn" data-action="job-close" data-id="${taskId(t)}" aria-label="Close">${icon("x")}</button></div>`}</div>`)}`);
    for (const el of box.querySelectorAll("job-progress")) el.task = watched.get(el.dataset.id);
  }
  function follow(id) {
    if (!id) return;
    ended.delete(id);
    const at = page.at().dataset; // the page may be left and opened again while it runs
    kept.save(Object.fromEntries([...Object.entries(kept.load() ?? {}).filter(([key]) => key !== at).slice(-29), [at, [...known(at).filter((one) => one !== id).slice(-9), id]]]));
    watched.set(id, tasks.get(id) ?? { taskId: id, status: "queued", kind: "dataset", title: "Working on it", total: 0 });
    paintJobs();
    tabs[page.at().tab].news?.();
    api.get(`/api/tasks/${encodeURIComponent(id)}`).then((t) => seen(tasks.update(t))).catch(() => {});
  }
  function seen(task) {
    const id = taskId(task);
    if (!watched.has(id)) {
      if (!mine(task) || isFinished(task) || isTrial(task)) return;
      watched.set(id, task);
    }
    const was = watched.get(id);
    if (!isFinished(task)) undoable.delete(id); // it was started again
    watched.set(id, task);
    paintJobs();
    if (isFinished(task) && !isFinished(was)) soon();
    if (isFinished(task) && !task.result && /^image_batch(_net|_gpu)?$/.test(task.kind)) askUndo(id);
  }
  /** A batch that was stopped or failed has no result, and may have changed pictures all the same. */
  async function askUndo(id) {
    if (undoable.has(id)) return;
    undoable.set(id, null);
    try {
      const said = await api.get(`/api/images/batch-process/${encodeURIComponent(id)}`, { query: { limit: 1 } });
      undoable.set(id, said.undoable ? said.counts : null);
      if (watched.has(id)) paintJobs();
    } catch {
      undoable.delete(id); // asked again with the next news of it
    }
  }
  stream.on("task.updated", seen);
  root.addEventListener("task:cancel", ({ detail }) => cancel(detail.id).catch((e) => toast.error(e)));
  root.addEventListener("task:retry", ({ detail }) => retry(detail.id).then((t) => follow(taskId(t) ?? detail.id)).catch((e) => toast.error(e)));

  // ---------------------------------------------------------------- loading

  async function load() {
    const mineRun = (run += 1), id = page.at().dataset;
    try {
      const answer = await api.get(path());
      if (mineRun !== run || id !== page.at().dataset) return;
      set = answer;
      error = null;
    } catch (problem) {
      if (mineRun !== run) return;
      if (set && problem.status !== 404) return; // an older truth is better than none
      error = problem;
      set = null;
    }
    paint();
  }
  function paint() {
    paintHead();
    paintTabs();
    const box = $(".ds-problem");
    box.hidden = !error;
    bar.hidden = Boolean(error);
    render(box, error ? html`${errorState(error, { title: error.status === 404 ? "This dataset does not exist" : "The dataset could not be loaded", action: error.status === 404 ? "" : "retry" })}<p class="row ds-center"><a class="btn" href="/datasets.html" data-action="back">${icon("arrow-left")}All datasets</a></p>` : html``);
    if (set) shell.pageTitle = set.name;
    for (const [key] of LABELS) $(`#ds-${key}`).hidden = Boolean(error) || key !== page.at().tab;
  }
  const soon = debounce(async () => {
    if (!page.at().dataset) return;
    await load();
    tabs[page.at().tab].news?.();
  }, 400);
  stream.on("dataset.updated", (data) => { if (data.datasetId === page.at().dataset) soon(); });
  stream.on("snapshot", ({ lost }) => lost && stream.state === "live" && soon()); // while it is down, each poll brings one
  stream.on("caption.updated", (data) => { if (data.datasetId === page.at().dataset) tabs[page.at().tab].captioned?.(data.imageIds ?? []); });

  bar.addEventListener("tab-bar:change", ({ detail }) => page.go({ tab: detail.key, own: {} }));
  onAction(root, {
    back: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      page.gone();
    },
    retry: () => { error = null; paint(); load(); },
    add: () => page.importer.start(),
    edit: async () => {
      const saved = await editSet(set);
      if (saved) { set = { ...set, ...saved }; paint(); load(); }
    },
    trash: async () => { if (await trashSet(set, load)) page.gone(); },
    restore: () => api.post(path("/restore")).then(() => { toast.success("Restored"); load(); }).catch((e) => toast.error(e)),
    check: () => import("./check.js").then((m) => m.checkDialog(own)),
    "job-close": (_e, el) => { ended.add(el.dataset.id); paintJobs(); },
    "job-undo": (_e, el) => busy(el, async () => {
      try {
        const answer = await api.post(`/api/images/batch-process/${encodeURIComponent(el.dataset.id)}/undo`);
        ended.add(el.dataset.id);
        follow(answer.taskId);
      } catch (problem) {
        toast.error(problem);
      }
    }),
  });
  document.addEventListener("session:characters", () => { if (set) paintHead(); });

  return {
    get set() { return set; },
    follow,
    async show() {
      const { dataset, tab } = page.at();
      if (dataset !== shownId) {
        if (shownTab) tabs[shownTab].hide?.();
        shownId = dataset;
        shownTab = "";
        set = null;
        error = null;
        watched.clear();
        for (const t of tasks.active()) if (mine(t) && !isTrial(t)) watched.set(taskId(t), t);
        paintJobs();
        paint();
        await load();
        if (dataset !== page.at().dataset) return;
      } else paint();
      if (error) return;
      if (shownTab && shownTab !== tab) tabs[shownTab].hide?.();
      shownTab = tab;
      await tabs[tab].show();
    },
    hide() {
      if (shownTab) tabs[shownTab].hide?.();
      shownTab = "";
      shownId = "";
      set = null;
    },
  };
}

/** How a task ended: counts, and by name what failed. */
function taskSaid(task, counts) {
  const r = task.result ?? counts ?? {};
  const count = (key, word) => typeof r[key] === "number" && r[key] > 0 && `${number(r[key])} ${word}`;
  const said = r.summary ? [r.summary] : [task.status === "cancelled" && !counts && task.message,r.dryRun && "a trial: nothing was changed", count("done", "done"), count("skipped", "left as they were"), count("failed", "failed")].filter(Boolean);
  const failed = task.itemsFailed ?? [];
  return html`${said.length > 0 && html`<span class="small muted">${said.join(", ")}</span>`}${failed.length > 0 && html`<details class="small"><summary>${task.kind === "dataset_import" ? "Which, and why" : `${plural(failed.length, "picture")} failed`}</summary><ul>${failed.slice(0, 50).map((f) => html`<li>${task.kind === "dataset_import" && f.id ? html`<span class="mono">${f.id}</span> ` : ""}${f.detail ?? f.code}</li>`)}${failed.length > 50 && html`<li class="muted">and ${number(failed.length - 50)} more</li>`}</ul></details>`}`;
}
/** A trial belongs to the dialog that asked for it. */
const isTrial = (task) => /^image_batch/.test(task.kind) && / – trial$/.test(task.title ?? "");
const canUndo = (task) => Boolean(task.result?.undoable);
