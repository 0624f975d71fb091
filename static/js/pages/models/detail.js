/** One thing on the shelf: hashes, licence, notes, who uses it, whether it fits, what its file says about itself. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { copyText, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render } from "../../dom.js";
import { ago, bytes, dateTime, number, plural } from "../../format.js";
import { readForm, showErrors } from "../../forms.js";
import { html, icon } from "../../html.js";
import { follow } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { badge } from "./rows.js";
import { fitLook, fitText, userHref } from "./words.js";

const SAYS = { person: "written here", metadata: "from its metadata", card: "from the card beside it", file: "from the licence beside it" };
const SIZES = [512, 768, 1024, 1536, 2048];
const itemUrl = (id) => `/api/shelf/${encodeURIComponent(id)}`;

const hash = (label, value) => html`<div><dt>${label}</dt><dd class="ms-hash"><code>${value}</code><button type="button" class="icon-btn" data-action="copy-hash" data-text="${value}" aria-label="Copy ${label}" title="Copy">${icon("copy")}</button></dd></div>`;

const facts = (row) => html`<dl class="facts">
  <div><dt>Kind</dt><dd>${row.kindLabel}${row.source === "comfyui" ? ", on the ComfyUI server" : ""}</dd></div>
  ${row.kind === "model" || row.kind === "lora" ? html`<div><dt>Family</dt><dd>${row.familyLabel ?? html`<span class="muted">not known${row.familyNote ? `. ${row.familyNote}` : ""}</span>`}</dd></div>` : ""}
  <div><dt>Size</dt><dd>${row.sizeBytes == null ? "not told" : bytes(row.sizeBytes)}${row.tensors ? html` <span class="muted">${plural(row.tensors, "tensor")}, ${Object.keys(row.dtypes).join(", ")}</span>` : ""}</dd></div>
  ${row.modifiedAt ? html`<div><dt>Changed</dt><dd title="${dateTime(row.modifiedAt)}">${ago(row.modifiedAt)}</dd></div>` : ""}
  ${row.path ? html`<div><dt>Place</dt><dd class="mono small">${row.path}</dd></div>` : ""}
  ${row.sha256 ? html`${hash("SHA-256", row.sha256)}${row.autoV2 ? hash("AutoV2", row.autoV2) : ""}` : html`<div><dt>Hash</dt><dd>${row.hashable ? html`<button type="button" class="btn btn-small" data-action="hash-one" data-needs="write">Compute</button>` : html`<span class="muted">The file is not on this computer.</span>`}</dd></div>`}
  <div><dt>Licence</dt><dd>${row.license ? html`${row.license} <span class="muted">${SAYS[row.licenseSource]}</span>` : html`<span class="muted">not known</span>`}</dd></div></dl>`;

const users = (row) => html`<section class="stack-2"><h3>Used by</h3>${row.usedBy.length || row.default || row.kind === "face" ? html`<ul class="ms-users">${row.usedBy.map((u) => html`<li><a href="${userHref(u)}">${icon({ character: "user", task: "clock", run: "play" }[u.type])}${u.name}</a>${u.strength !== undefined && u.strength !== 1 ? html` <span class="muted">at ${number(u.strength, 2)}</span>` : ""}</li>`)}${row.default ? html`<li>${icon("star")}What is drawn with when nobody chooses</li>` : ""}${row.kind === "face" ? html`<li>${icon("face")}Faces in datasets, crops and posts</li>` : ""}</ul>` : html`<p class="muted">Nobody.</p>`}
  ${row.pinnedBy.length ? html`<p class="small">${icon("lock")} Pinned by ${row.pinnedBy.join(", ")}.</p>` : ""}
  ${row.duplicates.length ? html`<p class="small ms-wrong">${icon("alert")}<span>The same bytes: ${row.duplicates.map((d) => d.name).join(", ")}.</span></p>` : ""}</section>`;

const fitView = (fit) => html`<p class="row">${badge(fitLook(fit))}<span>${fitText(fit)}.</span></p><p class="small muted">${fit.device}${fit.freeBytes != null ? `, ${bytes(fit.freeBytes)} free` : ""} · ${fit.precision} · ${fit.detail}</p>
  ${fit.advice.length ? html`<ul class="ms-advice small">${fit.advice.map((a) => html`<li>${a}</li>`)}</ul>` : ""}`;

const fitSection = (row) => html`<section class="stack-2"><h3>Will it fit</h3><div class="row"><label class="small" for="ms-fit-w">Picture</label><select id="ms-fit-w" data-fit>${[...new Set([row.fit?.width ?? 512, ...SIZES])].sort((a, b) => a - b).map((s) => html`<option value="${s}" ${s === (row.fit?.width ?? 512) ? html`selected` : ""}>${s} × ${s}</option>`)}</select></div><div data-fit-answer aria-live="polite"></div>
  ${row.measured.length ? html`<details class="small"><summary>Measured here</summary><ul class="ms-advice">${row.measured.map((m) => html`<li>${m.width} × ${m.height}: ${bytes(m.bytes)} (${m.device}, ${m.precision}, ${ago(m.at)})</li>`)}</ul></details>` : ""}</section>`;

const inside = (row) => {
  const entries = Object.entries(row.metadata);
  return html`${entries.length ? html`<details class="ms-inside"><summary>Metadata (${entries.length})</summary><dl class="facts ms-meta">${entries.map(([k, v]) => html`<div><dt class="mono">${k}</dt><dd>${v}</dd></div>`)}</dl></details>` : ""}
  ${row.files.length > 1 ? html`<details class="ms-inside"><summary>Files (${row.files.length})</summary><ul class="ms-files">${row.files.map((f) => html`<li><span class="mono">${f.name}</span><span class="muted">${bytes(f.sizeBytes)}</span></li>`)}</ul></details>` : ""}`;
};

/** @param {string} id @param {{changed: () => Promise<void>, remove: (row: any) => Promise<boolean>, open: (id: string) => void, pickles: () => boolean}} owner */
export async function itemDialog(id, owner) {
  let row = null;
  const { dialog, closed } = openDialog({ title: "On the shelf", size: "l", body: html`<div class="ms-detail" data-item></div>`, footer: html`<span data-acts class="row"></span><span class="spacer"></span><button type="button" class="btn" data-close="">Close</button>` });
  const body = dialog.querySelector("[data-item]");

  const paint = () => {
    dialog.querySelector("h2").textContent = row.label;
    render(
      body,
      html`${row.reason ? html`<div class="ms-problem" role="note">${icon("alert")}<div><p>${row.reason}</p>${row.remedy ? html`<p class="muted small">${row.remedy}</p>` : ""}</div></div>` : row.note ? html`<p class="small muted">${row.note}</p>` : ""}
      <div class="ms-cols"><div class="stack-4">${facts(row)}
        <form class="stack-3" novalidate>${fieldRow({ name: "license", label: "Licence", id: "ms-license", value: row.licenseSource === "person" ? row.license : "", maxlength: 300, placeholder: row.licenseSource && row.licenseSource !== "person" ? row.license : "e.g. CreativeML OpenRAIL-M", hint: "Empty: what the file or the card beside it says." })}
        ${fieldRow({ name: "notes", label: "Notes", type: "textarea", rows: 2, id: "ms-notes", value: row.notes, maxlength: 5000 })}<p class="field-error" role="alert" hidden></p><div><button type="submit" class="btn btn-small" data-needs="write">${icon("save")}Save</button></div></form></div>
        <div class="stack-4">${users(row)}${row.kind === "model" && row.family ? fitSection(row) : ""}</div></div>${inside(row)}`,
    );
    render(
      dialog.querySelector("[data-acts]"),
      html`${row.removable ? html`<button type="button" class="btn" data-action="remove-one" data-needs="admin">${icon("trash")}Remove</button>` : ""}${row.convertible && owner.pickles() ? html`<button type="button" class="btn btn-primary" data-action="convert" data-needs="admin">${icon("repeat")}Convert to .safetensors</button>` : ""}`,
    );
  };
  const fit = async () => {
    const slot = body.querySelector("[data-fit-answer]");
    if (!slot) return;
    const side = body.querySelector("[data-fit]").value;
    try {
      render(slot, fitView(await api.get("/api/shelf/fit", { query: { name: row.name, source: row.source, width: side, height: side } })));
    } catch (problem) {
      render(slot, html`<p class="field-error">${problem.message}</p>`);
    }
  };
  const load = async () => {
    if (!row) render(body, skeleton("form", 4));
    try {
      row = await api.get(itemUrl(id));
      paint();
      await fit();
    } catch (problem) {
      render(body, errorState(problem, { title: "This could not be read", action: "item-reload" }));
    }
  };
  body.addEventListener("change", debounce((event) => event.target.matches("[data-fit]") && fit(), 50));
  body.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    busy(form.querySelector("[type=submit]"), async () => {
      try {
        row = { ...(await api.patch(itemUrl(id), readForm(form))) };
        toast.success("Saved");
        paint();
        await Promise.all([fit(), owner.changed()]);
      } catch (problem) {
        const left = showErrors(form, problem.errors ?? []);
        const slot = form.querySelector("[role=alert]");
        slot.textContent = left.length || !problem.errors?.length ? problem.message : "";
        slot.hidden = !slot.textContent;
      }
    });
  });
  const work = (el, ask, said) =>
    busy(el, async () => {
      try {
        const task = await ask();
        const done = await follow(task.taskId);
        toast.success(said(done.result));
        await Promise.all([load(), owner.changed()]);
      } catch (problem) {
        toast.error(problem);
      }
    });
  onAction(dialog, {
    "item-reload": load,
    "copy-hash": (_e, el) => copyText(el.dataset.text, "Hash copied"),
    "hash-one": (_e, el) => work(el, () => api.post("/api/shelf/hash", { ids: [id] }), () => "The hash is known"),
    convert: (_e, el) => work(el, () => api.post("/api/shelf/convert", { id }), (r) => `${r.name} is on the shelf; the pickle is still there`),
    "remove-one": (_e, el) =>
      busy(el, async () => {
        try {
          if (await owner.remove(row)) dialog.close("removed");
        } catch (problem) {
          toast.error(problem);
        }
      }),
  });
  await session.me().catch(() => {});
  await load();
  return closed;
}
