/** The Versions tab: snapshots with their differences, exports and downloads, the way to training. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { statusBadge } from "../../components/status-badge.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { copyCurl } from "../../curl.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, bytes, dateTime, number, plural, words } from "../../format.js";
import { readForm, showErrors } from "../../forms.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { pieces, versionLine } from "./words.js";

/** Formats by the name of the API: label, what it is for. */
const FORMATS = {
  kohya: ["kohya", "sd-scripts, kohya_ss, FluxGym: folders with repeats, captions beside the pictures"],
  imagefolder: ["Hugging Face imagefolder", "train/ with metadata.jsonl and a card"],
  pairs: ["Pictures and captions", "a .txt beside each picture"],
  "ai-toolkit": ["ai-toolkit", "with a ready YAML"],
  onetrainer: ["OneTrainer", "with a ready concepts JSON"],
  simpletuner: ["SimpleTuner", "with a ready dataloader JSON"],
  jsonl: ["JSON Lines", "pictures and one .jsonl file"],
  csv: ["CSV", "pictures and one table"],
  captions: ["Captions only", "no pictures"],
};
const formatLabel = (name) => FORMATS[name]?.[0] ?? words(name);
const SHOWN = 100;

/** @param {HTMLElement} root @param {any} page as detail.js gives it */
export function versionsTab(root, page) {
  let versions = null, exports_ = [], error = null, difference = null, differenceError = null, run = 0, shown = false, seenId = "";
  const chosen = () => page.at().own.version ?? "";
  const against = () => page.at().own.against ?? "";
  const name = (n) => (n === "current" ? "Now" : `Version ${n}`);

  function differenceView() {
    if (!chosen()) return "";
    const others = [...(versions ?? []).map((v) => String(v.number)), "current"].filter((n) => n !== chosen());
    const d = difference;
    const list = (title, key, row) => d?.[key]?.length > 0 && html`<details class="ds-diff" data-key="diff-${key}" ${attrs({ open: d[key].length <= 12 })}><summary>${title} <span class="count">${number(d[key].length)}</span></summary><ul>${d[key].slice(0, SHOWN).map(row)}</ul>${d[key].length > SHOWN && html`<p class="small muted">and ${number(d[key].length - SHOWN)} more</p>`}</details>`;
    return html`<section class="panel ds-difference" data-key="difference" aria-label="Difference"><header class="panel-head"><h3>${name(chosen())} against</h3><label class="visually-hidden" for="ds-against">Compared with</label><select id="ds-against" data-change="against"><option value="" ${attrs({ selected: !against() })}>the version before</option>${others.map((n) => html`<option value="${n}" ${attrs({ selected: n === against() })}>${name(n).toLowerCase()}</option>`)}</select><button type="button" class="icon-btn" data-action="close-difference" aria-label="Close the difference">${icon("x")}</button></header>
      ${
        differenceError ? errorState(differenceError, { compact: true, action: "retry-difference" })
          : !d ? skeleton("lines", 3)
            : d.same ? html`<p>${d.against === null ? "There is nothing before it to compare with." : "Nothing differs."}</p>`
              : html`${list("Added", "added", (r) => html`<li><span class="mono small">${r.filename}</span> <span class="muted small">${r.caption}</span></li>`)}${list("Removed", "removed", (r) => html`<li><span class="mono small">${r.filename}</span> <span class="muted small">${r.caption}</span></li>`)}
          ${list("Captions changed", "recaptioned", (r) => html`<li><span class="mono small">${r.filename}</span><p class="ds-change">${pieces(r.before, r.after).map((p) => (p.kind === "gone" ? html`<del>${p.text}</del>` : p.kind === "new" ? html`<ins>${p.text}</ins>` : p.text))}</p></li>`)}
          ${list("Another file", "replaced", (r) => html`<li class="mono small">${r.filename}</li>`)}${list("Settings changed", "changed", (r) => html`<li><span class="mono small">${r.filename}</span> <span class="small muted">${Object.entries(r.fields ?? {}).map(([k, [a, b]]) => `${words(k).toLowerCase()}: ${a === "" ? "none" : a} → ${b === "" ? "none" : b}`).join(", ")}</span></li>`)}`
      }</section>`;
  }
  const versionRow = (v) => html`<li class="ds-version" data-key="v${v.number}" ${attrs({ "aria-current": String(v.number) === chosen() ? "true" : undefined })}><div class="ds-version-main"><h4>Version ${v.number}</h4>${v.note && html`<p>${v.note}</p>`}<p class="small muted ds-facts"><span>${plural(v.images, "picture")}</span><span>${versionLine(v)}</span><span title="${dateTime(v.createdAt)}">${ago(v.createdAt)}</span><span class="mono" title="${v.sha256}">${String(v.sha256).slice(0, 8)}</span></p></div>
    <div class="row"><button type="button" class="btn btn-small" data-action="difference" data-number="${v.number}">${icon("compare")}Changes</button><button type="button" class="btn btn-small" data-action="export" data-needs="write" data-number="${v.number}">${icon("download")}Export</button><button type="button" class="btn btn-small" data-action="restore" data-needs="write" data-number="${v.number}">${icon("undo")}Restore</button></div></li>`;
  const exportRow = (e) => {
    const ready = e.status === "ready";
    return html`<li class="ds-version" data-key="e${e.number}"><div class="ds-version-main"><h4 class="mono">${e.filename || `training_data_v${e.number}.zip`}</h4><p class="small muted ds-facts"><span>${formatLabel(e.format)}</span><span>version ${e.version}</span><span>${plural(e.images, "picture")}</span>${ready ? html`<span>${bytes(e.sizeBytes)}</span><span class="mono" title="SHA-256 ${e.sha256}">${String(e.sha256).slice(0, 8)}</span>` : statusBadge(e.status)}<span title="${dateTime(e.createdAt)}">${ago(e.createdAt)}</span></p></div>
      <div class="row">${ready && html`<a class="btn btn-small btn-primary" href="${e.fileUrl}" download="${e.filename}">${icon("download")}Download</a>`}<button type="button" class="icon-btn" data-action="delete-export" data-number="${e.number}" aria-label="Delete ${e.filename}">${icon("trash")}</button></div></li>`;
  };

  function paint() {
    if (error && !versions) return render(root, errorState(error, { title: "The versions could not be loaded" }));
    if (!versions) return render(root, skeleton("rows", 4));
    const images = page.set?.counts?.images ?? 0;
    return render(root, html`<div class="ds-versions"><div class="ds-versions-main stack-4">
      <section class="panel" data-key="versions"><header class="panel-head"><h3>Versions</h3>${versions.length > 0 && html`<button type="button" class="btn btn-small" data-action="now">${icon("compare")}Changes since ${name(versions[0].number).toLowerCase()}</button>`}</header>
        <form class="ds-snapshot" data-key="snapshot" novalidate>${fieldRow({ id: "ds-note", name: "note", label: "Note", maxlength: 2000, placeholder: "What is special about it", hideLabel: true })}<button type="submit" class="btn btn-primary" data-primary ${attrs({ disabled: !images })}>${icon("save")}Take a snapshot</button></form>
        <p class="small muted">A version keeps pictures, captions, repeats and concepts as they are now. Nothing can change it.</p>
        ${versions.length ? html`<ol class="ds-version-list">${versions.map(versionRow)}</ol>` : emptyState({ icon: "history", title: "No version yet", text: "Take one before you clean up or recaption, and you can always come back.", compact: true })}</section>
      ${differenceView()}</div>
      <div class="ds-versions-side stack-4"><section class="panel stack-3" data-key="train"><h3>Train a LoRA with this</h3><p class="small muted">The pictures and captions of the dataset are laid out for the trainer; the dataset stays as it is.</p><div class="row"><a class="btn btn-primary" href="/lora.html?tab=train&amp;dataset=${encodeURIComponent(page.id)}">${icon("bolt")}Train a LoRA</a><button type="button" class="btn" data-action="materialize">${icon("folder")}Write to training_data</button></div></section>
        <section class="panel" data-key="exports"><header class="panel-head"><h3>Exports</h3><button type="button" class="btn btn-small" data-action="export" data-needs="write" data-number="" ${attrs({ disabled: !images })}>${icon("download")}Export now</button></header>${exports_.length ? html`<ul class="ds-version-list">${exports_.map(exportRow)}</ul>` : html`<p class="small muted">An export is a zip for another trainer, with a manifest of every file. The same version and options give the same bytes.</p>`}</section></div></div>`);
  }
  async function load() {
    const mine = (run += 1);
    try {
      const [a, b] = await Promise.all([api.get(page.path("/versions")), api.get(page.path("/exports"))]);
      if (mine !== run) return;
      versions = a.items ?? a;
      exports_ = b.items ?? b;
      error = null;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
      if (versions) toast.error(problem);
    }
    if (shown) paint();
  }
  async function compare() {
    difference = null;
    differenceError = null;
    if (!chosen()) return paint();
    paint();
    const asked = `${chosen()} ${against()}`;
    try {
      const answer = await api.get(page.path(`/versions/${encodeURIComponent(chosen())}`), { query: { against: against() || null } });
      if (asked !== `${chosen()} ${against()}`) return undefined;
      difference = answer.difference ?? answer;
    } catch (problem) {
      differenceError = problem;
    }
    return paint();
  }
  const at = (changes) => page.go({ own: { ...page.at().own, ...changes } });

  async function exportDialog(version) {
    const set = page.set;
    const select = (field, label, options, value, hint) => fieldRow({ name: field, label, type: "select", value, options: options.map(([v, l]) => ({ value: v, label: l })), hint });
    const { dialog, closed } = openDialog({
      title: version ? `Export version ${version}` : "Export",
      size: "m",
      body: html`<form id="ds-export" class="stack-4" novalidate>${version ? "" : html`<p class="small muted">The dataset as it is now is kept as a version first.</p>`}
        ${select("format", "Format", Object.entries(FORMATS).map(([k, [l, what]]) => [k, `${l}: ${what}`]), "kohya")}
        <div class="cols-2">${select("use", "Pictures", [["originals", "Originals"], ["processed", "Made from them (crops …)"], ["replaced", "Made ones where there are some"], ["all", "All"]], "originals")}
          ${select("resize", "Size", [["none", "As they are"], ["fit", "Longest side at most"], ["buckets", "Cut to training buckets"]], "none")}
          ${fieldRow({ name: "resolution", label: "Resolution, px", type: "number", value: 1024, min: 64, max: 4096, step: 64, dataType: "integer" })}
          ${select("imageFormat", "Picture format", [["keep", "Keep"], ["png", "PNG"], ["jpeg", "JPEG"], ["webp", "WebP"]], "keep")}
          ${fieldRow({ name: "triggerWord", label: "Trigger word", value: set?.triggerWord ?? "", maxlength: 200, spellcheck: false })}${fieldRow({ name: "classWord", label: "What it is", placeholder: "woman, dog, style", maxlength: 200 })}
          ${fieldRow({ name: "validationPercent", label: "Set aside for validation, %", type: "number", value: 0, min: 0, max: 50, dataType: "number" })}
          ${select("family", "Base model", [["sd15", "Stable Diffusion 1.5"], ["sdxl", "SDXL"], ["sd3", "SD 3"], ["flux1", "FLUX.1"]], "sdxl", "For the ready configurations")}</div>
        <div>${fieldRow({ name: "addTrigger", label: "Put the trigger word in front of captions that lack it", type: "checkbox" })}${fieldRow({ name: "stripMetadata", label: "Remove EXIF, recipes and comments", type: "checkbox", value: true })}${fieldRow({ name: "mirror", label: "Add a mirrored copy of each picture", type: "checkbox" })}${fieldRow({ name: "numbering", label: "Number the files instead of keeping their names", type: "checkbox" })}</div><p class="field-error" role="alert" hidden></p></form>`,
      footer: html`<button type="button" class="btn btn-ghost" data-action="curl">${icon("copy")}Copy as curl</button><span class="spacer"></span><button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-export" class="btn btn-primary" data-primary>${icon("download")}Export</button>`,
    });
    const form = dialog.querySelector("form");
    const body = () => {
      const { format, imageFormat, triggerWord, classWord, ...rest } = readForm(form);
      const options = { ...rest, resolution: rest.resolution ?? 1024, validationPercent: rest.validationPercent ?? 0, format: imageFormat, triggerWord: triggerWord ?? "", classWord: classWord ?? "" };
      return { format, options, ...(version ? { version: Number(version) } : {}) };
    };
    onAction(dialog, { curl: () => copyCurl({ method: "POST", path: page.path("/exports"), body: body() }) });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(dialog.querySelector("[data-primary]"), async () => {
        try {
          const answer = await api.post(page.path("/exports"), body());
          page.follow(answer.taskId);
          dialog.close("");
          load();
        } catch (problem) {
          const left = showErrors(form, (problem.errors ?? []).map((e) => ({ ...e, field: e.field === "options.format" ? "imageFormat" : e.field.replace(/^options\./, "") })));
          const slot = form.querySelector("[role=alert]");
          slot.textContent = left.length || !problem.errors?.length ? [problem.message, problem.remedy].filter(Boolean).join(" ") : "";
          slot.hidden = !slot.textContent;
        }
      });
    });
    await closed;
  }
  async function materialize() {
    const { dialog, closed } = openDialog({
      title: "Write to training_data",
      size: "s",
      body: html`<form id="ds-materialize" class="stack-3" novalidate>${fieldRow({ name: "name", label: "Folder", maxlength: 100, spellcheck: false, placeholder: "Left empty: the name of the dataset", autofocus: true, hint: "Our trainer reads training_data/<folder>." })}<p class="field-error" role="alert" hidden></p></form>`,
      footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-materialize" class="btn btn-primary" data-primary>Write</button>`,
    });
    const form = dialog.querySelector("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(dialog.querySelector("[data-primary]"), async () => {
        try {
          const { name: folder } = readForm(form);
          const answer = await api.post(page.path("/materialize"), folder ? { name: folder } : {});
          dialog.close("");
          if (answer.taskId) page.follow(answer.taskId);
          else toast.success(`Written to training_data/${answer.name}`, { action: { label: "Train", href: `/lora.html?tab=train&dataset=${encodeURIComponent(page.id)}` } });
        } catch (problem) {
          const slot = form.querySelector("[role=alert]");
          slot.textContent = [problem.message, problem.remedy].filter(Boolean).join(" ");
          slot.hidden = false;
        }
      });
    });
    await closed;
  }

  root.addEventListener("submit", (event) => {
    if (!event.target.matches(".ds-snapshot")) return;
    event.preventDefault();
    const input = event.target.elements.note;
    busy(event.target.querySelector("button"), async () => {
      try {
        const v = await api.post(page.path("/versions"), { note: input.value.trim() });
        input.value = "";
        if (!v.created) toast.info(`Nothing has changed since version ${v.number}`);
        else toast.success(`Version ${v.number} taken: ${plural(v.images, "picture")}`);
        await load();
      } catch (problem) {
        toast.error(problem);
      }
    });
  });
  root.addEventListener("change", (event) => { if (event.target.dataset.change === "against") at({ against: event.target.value }); });
  onAction(root, {
    retry: () => { error = null; paint(); load(); },
    "retry-difference": compare,
    difference: (_e, el) => at({ version: el.dataset.number === chosen() ? "" : el.dataset.number, against: "" }),
    now: () => at({ version: "current", against: "" }),
    "close-difference": () => at({ version: "", against: "" }),
    export: (_e, el) => exportDialog(el.dataset.number),
    materialize,
    restore: async (_e, el) => {
      const n = el.dataset.number;
      const yes = await confirmDialog({ title: `Go back to version ${n}?`, consequences: ["What is there now is kept as a version first.", "Captions, repeats and concepts become what they were.", "Pictures that came later are excluded, not removed."], confirmLabel: `Restore version ${n}`, danger: false });
      if (!yes) return;
      await busy(el, async () => {
        try {
          const done = await api.post(page.path(`/versions/${n}/restore`));
          if (done.taskId) return page.follow(done.taskId); // a large set: the task tells
          const said = [done.captions && plural(done.captions, "caption"), done.settings && `${number(done.settings)} settings`, done.fromTrash + done.fromFiles > 0 && `${plural(done.fromTrash + done.fromFiles, "picture")} brought back`, done.excluded && `${number(done.excluded)} excluded`].filter(Boolean).join(", ");
          toast.success(`Back at version ${n}`, { detail: `${said || "Nothing had changed"}${done.savedAs ? `. Before that it was kept as version ${done.savedAs}.` : ""}${done.gone?.length ? ` ${plural(done.gone.length, "picture")} could not be brought back: ${done.gone.slice(0, 3).map((g) => g.filename).join(", ")}` : ""}` });
          page.touched();
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      });
    },
    "delete-export": async (_e, el) => {
      const one = exports_.find((e) => String(e.number) === el.dataset.number);
      if (!(await confirmDialog({ title: `Delete ${one.filename}?`, consequences: ["The file is removed. The version it was made from stays, so it can be made again."], confirmLabel: "Delete" }))) return;
      try {
        await api.delete(page.path(`/exports/${one.number}`));
        await load();
      } catch (problem) {
        toast.error(problem);
      }
    },
  });
  let compared = "";
  return {
    async show() {
      shown = true;
      if (seenId !== page.id) { versions = null; exports_ = []; seenId = page.id; compared = ""; }
      paint();
      const wanted = `${page.id} ${chosen()} ${against()}`;
      const first = compared === "" || !versions;
      if (wanted !== compared) { compared = wanted; await Promise.all([first ? load() : null, compare()]); }
      else await load();
    },
    hide() { shown = false; },
    news() { if (shown) load(); },
  };
}
