/** Settings, "Storage": what takes room and for how long it lasts, measuring, cleaning, moving. */
import { api, isAbort } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, bytes, dateTime, number, plural } from "../../format.js";
import { follow, stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { errorState, skeleton } from "../../components/states.js";
import { cleanDialog } from "./storage-clean.js";
import { dataMoveDialog, moveDialog } from "./storage-move.js";
import { bars, forecastWords, shortPath } from "./storage-words.js";

/** @returns {{id: string, label: string, icon: string, mount: (root: HTMLElement, options: any) => Promise<void>}} */
export function storageSection() {
  return { id: "storage", label: "Storage", icon: "disk", mount };
}

/** A bar as a picture: a width needs no style attribute. @param {number} share 0..1 @param {string} [label] */
const bar = (share, label) =>
  html`<svg class="se-bar" viewBox="0 0 1000 10" preserveAspectRatio="none" ${attrs(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" })}><rect height="10" width="${Math.round(Math.min(1, share) * 1000)}"></rect></svg>`;

function volume(v, names) {
  const used = v.totalBytes - v.freeBytes;
  const share = v.totalBytes ? used / v.totalBytes : 0;
  const tone = v.freeBytes < 1e9 ? "is-bad" : share > 0.9 ? "is-warn" : "";
  return html`<li class="se-volume ${tone}" data-key="${v.path}"><div class="se-volume-head"><strong>${bytes(v.freeBytes)} free</strong><span class="muted small">of ${bytes(v.totalBytes)} · <span class="mono">${v.path}</span></span></div>
    ${bar(share, `${bytes(used)} of ${bytes(v.totalBytes)} used`)}${names.length > 0 && html`<p class="small muted">Holds ${names.join(", ")}</p>`}</li>`;
}

function place(one, { mayChange }, base) {
  const { location: l, share, inside } = one;
  return html`<li class="se-place ${inside ? "is-inside" : ""}" data-key="${l.id}"><div class="se-place-what"><h3>${l.label}</h3><p class="small muted mono se-path" title="${l.path}">${inside ? shortPath(l.path, base) : l.path}</p></div>
    <div class="se-place-size"><strong>${l.sizeBytes === null ? "–" : bytes(l.sizeBytes)}</strong><span class="small muted">${l.files === null ? "not measured" : plural(l.files, "file")}</span></div>
    ${bar(share)}
    <div class="se-place-do">${l.movable && l.locked && html`<span class="se-origin is-locked" title="${l.env} is set in the environment, so this folder is moved there.">${icon("lock")}<span>${l.env}</span></span>`}${l.movable && !l.locked && mayChange && html`<button type="button" class="btn btn-small" data-action="move" data-id="${l.id}" data-needs="admin" aria-label="Move ${l.label}">${icon("folder")}Move…</button>`}${mayChange && ["data", "media"].includes(l.id) && html`<button type="button" class="btn btn-small" data-action="move-data" aria-label="How to move ${l.label}">${icon("folder")}Move…</button>`}</div></li>`;
}

async function mount(root, { signal, store }) {
  let data = null,
    problem = null,
    measuring = false;
  const paint = () => {
    if (signal.aborted) return;
    if (!data) {
      render(root, problem ? errorState(problem, { title: "The storage could not be read" }) : skeleton("rows", 6));
      return;
    }
    const byId = new Map(data.locations.map((l) => [l.id, l]));
    const base = byId.get("data")?.path ?? "";
    const rows = bars(data.locations),
      empty = rows.filter((one) => one.empty);
    const measured = data.locations.map((l) => l.measuredAt).filter(Boolean).sort()[0];
    render(
      root,
      html`<div class="stack-4"><section class="panel se-panel" aria-labelledby="se-disks"><header class="panel-head"><h2 id="se-disks">Disks</h2></header><ul class="se-volumes">${data.volumes.map((v) => volume(v, v.locations.map((id) => byId.get(id)).filter((l) => l && l.id !== "data" && (l.movable || l.id === "media")).map((l) => l.label)))}</ul>
          <p class="se-forecast">${icon("clock")}<span>${forecastWords(data.forecast, bytes)}</span></p></section>
        <section class="panel se-panel" id="usage" aria-labelledby="se-usage"><header class="panel-head"><h2 id="se-usage">What takes room</h2><span class="small muted" ${attrs({ title: measured ? dateTime(measured) : undefined })}>${measuring ? "Measuring…" : measured ? `Measured ${ago(measured)}` : "Not measured yet"}</span>${store.mayChange && html`<button type="button" class="btn btn-small" data-action="measure" data-needs="admin" aria-busy="${String(measuring)}">${icon("refresh")}Measure now</button>`}</header>
          <ul class="se-places" id="move">${rows.filter((one) => !one.empty).map((one) => place(one, store, base))}${empty.length > 0 && html`<li class="se-empty" data-key="empty">Empty: ${empty.map((one) => one.location.label).join(", ")}</li>`}</ul></section>
        <section class="panel se-panel" id="clean" aria-labelledby="se-clean"><header class="panel-head"><h2 id="se-clean">Clean up</h2></header><p class="muted se-text">Looks for what nothing needs any more: leftovers of uploads and trainings, old exports and logs, the trash. Nothing goes before you have seen the list.</p>
          ${store.mayChange && html`<div class="row"><button type="button" class="btn" data-action="clean" data-needs="admin">${icon("search")}Look for leftovers</button></div>`}</section></div>`,
    );
  };
  async function load() {
    try {
      data = await api.get("/api/storage", { signal });
      problem = null;
    } catch (error) {
      if (isAbort(error)) return;
      problem = error;
      if (data) toast.error(error);
    }
    paint();
  }
  /** Measure, or wait for the measuring that is under way. */
  async function measure(task = "") {
    measuring = true;
    paint();
    try {
      await follow(task || (await api.post("/api/storage/measure")).taskId, { signal });
    } catch (error) {
      if (!isAbort(error)) toast.error(error);
    }
    measuring = false;
    await load();
  }
  onAction(
    root,
    {
      retry: load,
      measure: () => measuring || measure(),
      clean: (_e, el) =>
        busy(el, async () => {
          const done = await cleanDialog(data.cleaning ?? []);
          if (!done) return;
          toast.success(`${bytes(done.bytes)} freed`, { detail: `${number(done.files)} ${done.files === 1 ? "file" : "files"} deleted${done.left ? `, ${number(done.left)} left because they are in use now` : ""}.` });
              await measure();
        }),
      "move-data": () => dataMoveDialog(data.locations.find((l) => l.id === "data"), data.locations.find((l) => l.id === "media")),
      move: async (_e, el) => {
        const moved = await moveDialog(data.locations.find((l) => l.id === el.dataset.id));
        if (!moved) return;
        toast.success("The folder was moved", { detail: moved.detail ?? "" });
        await Promise.all([load(), store.load()]);
      },
    },
    { signal },
  );
  stream.on("storage.updated", load, { signal });
  paint();
  await load();
  if (data?.measuring) measure(data.measuring);
}
