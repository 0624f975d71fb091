/** Pictures in: choose or drop, watch each file go up, read the plan, then import as a task. */
import { api, idempotencyKey } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { busy, debounce, element, onAction, render } from "../../dom.js";
import { bytes, number, plural } from "../../format.js";
import { clearErrors, readForm, showErrors } from "../../forms.js";
import { html, icon } from "../../html.js";
import { session } from "../../session.js";
import { fetchList } from "./fetched.js";
import { filesOf, uploadList } from "./uploads.js";
import { nameFrom } from "./words.js";

const SHOWN = 120;
const LOOK = { waiting: ["clock", "Waiting"], sending: ["upload", "Sending"], sent: ["ok", "Sent"], failed: ["error", "Failed"] };

/**
 * @param {{veil: HTMLElement, set: () => any, imported: (datasetId: string, taskId: string) => void}} page `set`: the dataset that is open, or null
 */
export function importDialog(page) {
  let open = null;

  // ---------------------------------------------------------------- drop anywhere

  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const veil = (on) => {
    page.veil.hidden = !on;
    if (on) render(page.veil, html`<p>${icon("upload")}<strong>${page.set() ? `Drop to add to ${page.set().name}` : "Drop to make a dataset"}</strong><span>A zip, a folder or pictures. A plan comes first; nothing is imported yet.</span></p>`);
  };
  document.addEventListener("dragenter", (event) => {
    if (!hasFiles(event) || open) return;
    depth += 1;
    veil(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!hasFiles(event) || open) return;
    depth = Math.max(0, depth - 1);
    if (!depth) veil(false);
  });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    depth = 0;
    veil(false);
    if (event.defaultPrevented && event.target.closest?.("drop-zone")) return;
    event.preventDefault();
    const files = await filesOf(event.dataTransfer);
    if (open) open.add(files);
    else if (files.length) start(files);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length || event.target.closest?.("input, textarea")) return;
    const files = [...event.clipboardData.files].map((file) => ({ file, name: file.name }));
    if (open) open.add(files);
    else start(files);
  });

  // ---------------------------------------------------------------- the dialog

  /** @param {{file: File, name: string}[]} [files] */
  async function start(files = []) {
    if (open) { open.add(files); return; }
    const set = page.set();
    let plan = null, planError = null, planning = 0, path = "", named = false, busyPlan = false;
    const key = idempotencyKey();
    const paintSoon = debounce(() => paint(), 60);
    const uploads = uploadList({ changed: () => { paintSoon(); if (allHere() && !busyPlan) planSoon(); } });
    const fetched = fetchList({ changed: () => { paintSoon(); if (fetched.state !== "fetching" && allHere()) planSoon(); } });
    /** Whether everything that was chosen has arrived. */
    const allHere = () => (uploads.rows.length ? uploads.done : fetched.ids.length > 0) && fetched.state !== "fetching";
    const planSoon = debounce(() => makePlan(), 150);
    const { dialog, closed } = openDialog({
      title: set ? `Add pictures to ${set.name}` : "New dataset",
      size: "l",
      body: html`<form id="ds-import" class="stack-4 ds-import" novalidate><div class="ds-import-drop" data-key="drop"></div><div class="ds-rows" data-key="rows"></div><div class="ds-plan" data-key="plan" aria-live="polite"></div>
        ${set ? "" : html`<div class="cols-2" data-key="new">${fieldRow({ id: "ds-import-name", name: "name", label: "Name of the dataset", maxlength: 200 })}${fieldRow({ id: "ds-import-who", name: "characterId", label: "Character", type: "select", value: session.characterId ?? "", options: [{ value: "", label: "None" }, ...session.known.map((c) => ({ value: c.id, label: c.name }))] })}</div>`}
        <details class="ds-import-more" data-key="more"><summary>Options</summary><div class="stack-1">${fieldRow({ id: "ds-opt-captions", name: "captions", label: "Take captions from files beside the pictures", type: "checkbox", value: true })}${fieldRow({ id: "ds-opt-kohya", name: "kohya", label: "Read repeats and concepts from kohya folder names (10_name)", type: "checkbox", value: true })}${fieldRow({ id: "ds-opt-folders", name: "folderCaptions", label: "Use the concept as caption where there is no other", type: "checkbox", value: true })}${fieldRow({ id: "ds-opt-recipes", name: "recipes", label: "Use the prompt inside generated pictures where there is no caption", type: "checkbox", value: true })}${fieldRow({ id: "ds-opt-duplicates", name: "keepDuplicates", label: "Also import exact doubles", type: "checkbox" })}${fieldRow({ id: "ds-opt-masks", name: "masks", label: "Take masks for training along (a-masklabel.png, a.mask.png, a folder masks)", type: "checkbox", value: true })}</div></details>
        <p class="field-error" role="alert" id="ds-import-problem" hidden></p></form>`,
      footer: html`<span class="spacer small muted ds-import-said" role="status"></span><button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ds-import" class="btn btn-primary" data-primary disabled>${icon("upload")}<span class="ds-import-go">Import</span></button>`,
    });
    const $ = (selector) => dialog.querySelector(selector);
    const form = $("form"), slot = $("#ds-import-problem");
    const zone = element(html`<drop-zone multiple label="Drop a zip, a folder or pictures here, or choose files" hint="JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, HEIC, zip; captions as .txt, .caption, .json, .jsonl, .csv"></drop-zone>`);
    const folder = element(html`<input type="file" webkitdirectory multiple class="visually-hidden" id="ds-folder" aria-label="Choose a folder">`);
    $(".ds-import-drop").append(zone, element(html`<div class="row ds-import-ways"></div>`));
    $(".ds-import-ways").append(folder, element(html`<button type="button" class="btn btn-small" data-action="folder">${icon("folder")}Choose a folder</button>`), element(html`<div class="ds-path"><label for="ds-path" class="small">or a folder or zip on the server</label><span class="field-control"><input id="ds-path" name="path" placeholder="/data/pictures" autocomplete="off" spellcheck="false"><button type="button" class="btn btn-small" data-action="look">Look</button></span></div>`), element(html`<details class="ds-import-web"><summary>Addresses of pictures</summary><label for="ds-urls" class="small">Pictures or zips on the web, one address a line</label><textarea id="ds-urls" name="urls" rows="4" spellcheck="false" autocomplete="off" placeholder="https://example.com/luna-01.jpg"></textarea><button type="button" class="btn btn-small" data-action="fetch">${icon("download")}Fetch</button></details>`));

    const options = () => {
      const v = readForm(form);
      return { captions: v.captions, kohya: v.kohya, folderCaptions: v.folderCaptions, recipes: v.recipes, masks: v.masks, duplicates: v.keepDuplicates ? "keep" : "skip" };
    };
    const source = () => (path ? { path } : { uploadIds: [...uploads.rows.filter((r) => r.state === "sent").map((r) => r.id), ...fetched.ids] });
    const where = () => (set ? { datasetId: set.id } : {});

    async function makePlan() {
      if (!path && !allHere()) return;
      const mine = (planning += 1);
      busyPlan = true;
      plan = null;
      planError = null;
      paint();
      try {
        const answer = await api.post("/api/datasets/plan", { ...source(), ...where(), options: options() });
        if (mine !== planning) return;
        plan = answer;
        if (!set && !named && !form.elements.name.value) form.elements.name.value = nameFrom(uploads.rows.map((r) => r.name)) || fetched.host || answer.dataset?.name || "";
      } catch (error) {
        if (mine !== planning) return;
        planError = error;
      }
      busyPlan = false;
      paint();
    }

    // ---------------------------------------------------------------- painting

    function rowsView() {
      const rows = uploads.rows;
      if (!rows.length) return html``;
      const rank = { failed: 0, sending: 1, waiting: 2, sent: 3 };
      const part = [...rows].sort((a, b) => rank[a.state] - rank[b.state] || a.key - b.key).slice(0, SHOWN);
      const size = rows.reduce((n, r) => n + r.file.size, 0), sent = rows.reduce((n, r) => n + r.file.size * (r.state === "sent" ? 1 : r.sent), 0);
      return html`<div class="row ds-rows-head"><strong>${plural(rows.length, "file")}</strong><span class="small muted">${bytes(sent)} of ${bytes(size)}</span><span class="spacer"></span>${uploads.count("failed") > 0 && html`<button type="button" class="btn btn-small" data-action="retry-uploads">${icon("refresh")}Try ${number(uploads.count("failed"))} again</button>`}</div>
        <progress max="${Math.max(1, size)}" value="${size ? sent : 1}" aria-label="Files sent"></progress>
        <ul class="ds-row-list" tabindex="0" aria-label="Files">${part.map((r) => html`<li class="is-${r.state}" data-key="r${r.key}"><span class="ds-row-state" title="${LOOK[r.state][1]}">${icon(LOOK[r.state][0], LOOK[r.state][1])}</span><span class="ds-row-text"><span class="truncate" title="${r.name}">${r.name}</span><span class="small muted">${r.state === "failed" ? html`<span class="field-error">${r.error?.message} ${r.error?.remedy}</span>` : html`${bytes(r.file.size)}${r.resumed && r.state === "sending" ? ", goes on where it broke off" : ""}`}</span>${r.state === "sending" && html`<progress max="1" value="${r.sent}" aria-label="${r.name}"></progress>`}</span><button type="button" class="icon-btn" data-action="drop-row" data-id="${r.key}" aria-label="Take ${r.name} out">${icon("x")}</button></li>`)}</ul>${rows.length > SHOWN && html`<p class="small muted">${number(rows.length - SHOWN)} more are not listed.</p>`}`;
    }
    const list = (title, rows, count, view) => count > 0 && html`<details data-key="${title}"><summary>${title} <span class="count">${number(count)}</span></summary><ul class="ds-plain small">${rows.slice(0, 100).map((r) => html`<li>${view(r)}</li>`)}${count > Math.min(100, rows.length) && html`<li class="muted">and ${number(count - Math.min(100, rows.length))} more</li>`}</ul></details>`;
    function planView() {
      if (planError) return html`<section class="ds-plan-box is-bad" role="alert"><h3>${icon("error")}This cannot be imported</h3><p>${planError.message}</p>${planError.errors?.length > 0 && html`<ul class="ds-plain small">${planError.errors.slice(0, 20).map((e) => html`<li>${e.message}</li>`)}</ul>`}${planError.remedy && html`<p class="muted">${planError.remedy}</p>`}</section>`;
      if (busyPlan) return html`<section class="ds-plan-box"><h3>Looking at what is in it…</h3><progress aria-label="Making the plan"></progress></section>`;
      if (!plan) return html``;
      const c = plan.counts ?? {};
      const told = (plan.warnings ?? []).filter((w) => !/^(refused_|needs_plugin|loose_masks)/.test(w.code) || (w.fix && w.code !== "loose_masks")); // what is refused has a list of its own
      const facts = [["Pictures", c.pictures], ["Captions paired", c.captionsPaired], ["Without caption", c.withoutCaption], ["Masks", c.masks], ["Doubles, skipped", plan.options?.duplicates === "keep" ? 0 : c.duplicates], ["Refused", c.refused], ["For regularisation", c.regularization]].filter(([, n], i) => i < 3 || n > 0);
      return html`<section class="ds-plan-box"><h3>The plan</h3><p class="ds-plan-said">${plan.summary}</p>
        <dl class="ds-plan-facts">${facts.map(([k, v]) => html`<div><dt>${k}</dt><dd>${number(v ?? 0)}</dd></div>`)}<div><dt>On disk</dt><dd>${bytes(plan.neededBytes)}</dd></div></dl>
        ${plan.fits === false && html`<p class="field-error">There is not enough room: ${bytes(plan.freeBytes)} are free.</p>`}
        ${told.length > 0 && html`<ul class="ds-warnings">${told.map((w) => html`<li>${icon(/^(no_|refused_)/.test(w.code) ? "alert" : "info")}<span>${w.message}${w.fix && html` <span class="muted">${w.fix}</span>`}</span></li>`)}</ul>`}
        <div class="ds-plan-lists">${plan.kohya?.folders?.length > 0 && html`<details data-key="kohya"><summary>Folders <span class="count">${number(plan.kohya.folders.length)}</span></summary><ul class="ds-plain small">${plan.kohya.folders.map((f) => html`<li><span class="mono">${f.folder ?? f.name}</span> ${plural(f.pictures, "picture")}, × ${number(f.repeats)}${f.concept && `, ${f.concept}`}${f.regularization ? ", regularisation" : ""}</li>`)}</ul></details>`}
          ${(plan.refused ?? []).map((g) => html`<details data-key="refused-${g.code}"><summary>Refused: ${g.detail} <span class="count">${number(g.count)}</span></summary><ul class="ds-plain small">${g.names.map((n) => html`<li class="mono">${n}</li>`)}${g.count > g.names.length && html`<li class="muted">and ${number(g.count - g.names.length)} more</li>`}</ul></details>`)}
          ${list("Needs a plugin", plan.needPlugin ?? [], c.needPlugin, (n) => html`<span class="mono">${n}</span>`)}${list("Captions without a picture", plan.orphans ?? [], c.orphans, (o) => html`<span class="mono">${o.name}</span> <span class="muted">${o.reason}</span>`)}
          ${list("Masks without a picture", plan.looseMasks ?? [], c.looseMasks, (n) => html`<span class="mono">${n}</span>`)}${list("Empty caption files", plan.empties ?? [], c.empties, (n) => html`<span class="mono">${n}</span>`)}${list("Doubles", plan.duplicates ?? [], c.duplicates, (d) => html`<span class="mono">${d.name}</span> is <span class="mono">${d.of}</span>${d.in === "dataset" ? ", which is in the dataset already" : ""}`)}
          ${list("Renamed, because the name is taken", plan.renamed ?? [], c.renamed, (n) => html`<span class="mono">${n}</span>`)}${list("Other files, left alone", plan.otherFiles ?? [], c.otherFiles, (n) => html`<span class="mono">${n}</span>`)}
          ${plan.samples?.length > 0 && html`<details data-key="samples"><summary>The first pictures</summary><ul class="ds-plain small">${plan.samples.map((s) => html`<li><span class="mono">${s.name}</span> <span class="muted">${s.caption || "no caption"}</span></li>`)}</ul></details>`}</div></section>`;
    }
    const ready = () => Boolean(plan && (plan.counts?.pictures > 0 || (set && plan.counts?.looseMasks > 0)) && plan.fits !== false && (path || allHere()));
    function paint() {
      if (!dialog.isConnected) return;
      render($(".ds-rows"), path ? html`<p class="row"><strong class="mono">${path}</strong><button type="button" class="btn btn-small" data-action="other-source">Something else</button></p>` : html`${rowsView()}${fetched.view()}`);
      $(".ds-import-drop").hidden = Boolean(path) || uploads.rows.length > 0 || Boolean(fetched.state);
      render($(".ds-plan"), planView());
      $("[data-primary]").disabled = !ready();
      $(".ds-import-go").textContent = plan ? `Import ${plural((plan.counts?.pictures ?? 0) - (plan.options?.duplicates === "keep" ? 0 : (plan.counts?.duplicates ?? 0)), "picture")}` : "Import";
      $(".ds-import-said").textContent = uploads.busy ? `${number(uploads.count("sent"))} of ${number(uploads.rows.length)} sent` : uploads.count("failed") ? `${plural(uploads.count("failed"), "file")} failed: try again, or take them out` : "";
    }

    open = { add: (more) => { path = ""; plan = null; planError = null; uploads.add(more); } };
    zone.addEventListener("drop", async (event) => {
      // folders come as entries, which the zone itself does not know
      event.preventDefault();
      event.stopImmediatePropagation();
      zone.classList.remove("is-over");
      open.add(await filesOf(event.dataTransfer));
    }, { capture: true });
    zone.addEventListener("drop-zone:files", ({ detail }) => open.add(detail.files.map((file) => ({ file, name: file.name }))));
    folder.addEventListener("change", () => { open.add([...folder.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }))); folder.value = ""; });
    form.addEventListener("input", (event) => { if (event.target.name === "name") named = true; });
    form.addEventListener("change", (event) => { if (event.target.type === "checkbox" && (path || allHere())) planSoon(); });
    const look = () => { path = form.elements.path.value.trim(); if (path) makePlan(); else form.elements.path.focus(); };
    onAction(dialog, {
      folder: () => folder.click(),
      look,
      fetch: () => { const text = form.elements.urls.value; if (text.trim()) fetched.start(text); else form.elements.urls.focus(); },
      "fetch-again": () => { fetched.stop(); fetched.reset(); plan = null; planError = null; planning += 1; busyPlan = false; paint(); form.elements.urls.focus(); },
      "other-source": () => { path = ""; plan = null; planError = null; planning += 1; busyPlan = false; paint(); },
      "retry-uploads": () => uploads.retry(),
      "drop-row": (_e, el) => { plan = null; planError = null; uploads.drop(Number(el.dataset.id)); if (allHere()) planSoon(); else paint(); },
    });
    form.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.name === "path") { event.preventDefault(); look(); } });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!ready()) return;
      busy($("[data-primary]"), async () => {
        clearErrors(form);
        slot.hidden = true;
        const { name, characterId } = readForm(form);
        try {
          const answer = await api.post("/api/datasets/import", { ...source(), ...where(), ...(set ? {} : { name: name ?? undefined, characterId: characterId || undefined }), options: options() }, { idempotencyKey: key });
          uploads.forgetAll();
          dialog.close("imported");
          page.imported(answer.datasetId, answer.taskId);
        } catch (error) {
          const left = showErrors(form, error.errors ?? []);
          slot.textContent = left.length || !error.errors?.length ? [left.map((e) => e.message).join(" ") || error.message, error.remedy].filter(Boolean).join(" ") : "";
          slot.hidden = !slot.textContent;
        }
      });
    });
    const leaving = (event) => { if (uploads.busy || fetched.state === "fetching") event.preventDefault(); };
    addEventListener("beforeunload", leaving);
    paint();
    if (files.length) uploads.add(files);
    await closed;
    removeEventListener("beforeunload", leaving);
    uploads.stop();
    fetched.stop();
    planSoon.cancel();
    open = null;
  }

  return { start: () => start([]), add: (files) => start(files) };
}
