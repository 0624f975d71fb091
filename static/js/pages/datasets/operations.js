/** Dialogs that start a batch over pictures: what, with which options, a trial first where something would change. */
import { api, idempotencyKey } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { busy, render } from "../../dom.js";
import { number, percent, plural } from "../../format.js";
import { clearErrors, readForm, showErrors } from "../../forms.js";
import { html, icon } from "../../html.js";
import { prefs } from "../../prefs.js";
import { captionFields, captionOptions } from "./engines.js";

const TRIED = 3; // pictures a trial takes
const choice = (name, label, options, value, hint) => ({ name, label, type: "select", value, options: options.map(([v, l]) => ({ value: v, label: l })), hint });
const whole = (name, label, value, min, max, hint) => ({ name, label, type: "number", value, min, max, dataType: "integer", hint });

/**
 * title, what it does, its fields; `options(form values)` what is sent; `when(name, values)` hides fields; `trial` offers a dry run.
 * @type {Record<string, {title: string, verb: string, text: string, fields: any[], options?: (v: any) => any, when?: Record<string, (v: any) => boolean>, trial?: boolean, icon: string}>}
 */
const OPERATIONS = {
  face_crop: {
    title: "Crop faces", verb: "Crop", icon: "face", trial: true,
    text: "Each face becomes a picture of its own, beside the original. The original stays as it is.",
    fields: [choice("margin", "Space around the face", [["tight", "Tight"], ["normal", "Normal"], ["loose", "Loose"]], "normal"), choice("aspect", "Shape", [["1:1", "1:1"], ["4:5", "4:5"], ["3:4", "3:4"], ["2:3", "2:3"], ["free", "As it comes"]], "1:1"), choice("which", "Which faces", [["all", "All"], ["largest", "The largest"]], "all"), whole("minSize", "Smallest face, px", 48, 8, 4096), whole("size", "Long side at most, px", 0, 0, 16384, "0 leaves it as it comes"), choice("caption", "Caption of the crop", [["copy", "That of the picture"], ["none", "None"]], "copy")],
  },
  mask_faces: {
    title: "Mask faces", verb: "Mask", icon: "layers", trial: true,
    text: "Each picture gets a mask of the faces in it. With “Masked loss” on, training then looks at the person and hardly at what is around.",
    fields: [choice("area", "What counts", [["head", "Head and shoulders"], ["face", "The face only"]], "head"), choice("which", "Which faces", [["all", "All"], ["largest", "The largest"]], "all"), choice("softness", "Edge", [["0", "Hard"], ["0.3", "Soft"], ["0.8", "Very soft"]], "0.3"), whole("floor", "The rest counts, %", 10, 0, 90, "A little keeps the picture in one piece"), { name: "replace", label: "Also replace masks that are there", type: "checkbox" }],
    options: (v) => ({ ...v, softness: Number(v.softness) }),
  },
  resize: {
    title: "Resize", verb: "Resize", icon: "fit", trial: true,
    text: "A smaller or exactly sized copy is made beside each original.",
    fields: [choice("mode", "Size by", [["longSide", "Long side"], ["exact", "Exact size"]], "longSide"), whole("size", "Long side, px", 1024, 16, 16384), whole("width", "Width, px", 1024, 16, 16384), whole("height", "Height, px", 1024, 16, 16384), choice("fit", "What does not fit", [["crop", "Crop, faces kept"], ["pad", "Pad"]], "crop"), { name: "background", label: "Padding", type: "text", value: "#000000" }, choice("format", "Format", [["png", "PNG"], ["jpeg", "JPEG"], ["webp", "WebP"]], "png"), { name: "enlarge", label: "Also enlarge small pictures", type: "checkbox" }],
    when: { size: (v) => v.mode === "longSide", width: (v) => v.mode === "exact", height: (v) => v.mode === "exact", fit: (v) => v.mode === "exact", background: (v) => v.mode === "exact" && v.fit === "pad" },
  },
  upscale: {
    title: "Upscale", verb: "Upscale", icon: "expand", trial: true,
    text: "A larger copy is made beside each original.",
    fields: [choice("factor", "Factor", [["1.5", "1.5 ×"], ["2", "2 ×"], ["3", "3 ×"], ["4", "4 ×"]], "2"), choice("engine", "With", [["lanczos", "Lanczos: fast, no new detail"], ["esrgan", "ESRGAN: weights from models/upscale"]], "lanczos"), whole("belowSide", "Only when the short side is under, px", 1024, 0, 16384, "0 takes all")],
    options: (v) => ({ ...v, factor: Number(v.factor) }),
  },
  analyze: {
    title: "Analyze", verb: "Analyze", icon: "monitoring",
    text: "Faces and whose they are, sharpness and exposure are measured again. Pictures and captions stay as they are.",
    fields: [{ name: "faces", label: "Look for faces", type: "checkbox", value: true }],
  },
  dedupe: {
    title: "Find doubles", verb: "Find", icon: "copy",
    text: "Exact and near doubles are put into groups to look through in Clean. Nothing is removed.",
    fields: [whole("distance", "Distance, 0 to 12", 6, 0, 12, "Higher finds more, and more that only looks alike"), { name: "exact", label: "Only the same pixels", type: "checkbox" }],
  },
  tag: { title: "Tag with an engine", verb: "Tag", icon: "tag", trial: true, text: "An engine writes tags for each picture. Every text goes into the history, and the batch can be undone.", fields: [], custom: true },
  caption: { title: "Write captions", verb: "Write", icon: "bolt", trial: true, text: "An engine looks at each picture. Every text goes into the history, and the batch can be undone.", fields: [], custom: true },
};

/**
 * @param {{page: any, name: string, ids: string[]|null, filter?: Record<string, string>}} what ids null: all that match the filter
 * @returns {Promise<string>} the task's id, "" when it was left
 */
export async function operationDialog({ page, name, ids, filter = {} }) {
  const spec = OPERATIONS[name];
  const count = ids ? ids.length : null;
  const kept = prefs.get(`dataset.${name}`, {});
  const key = idempotencyKey();
  const { dialog, closed } = openDialog({
    title: count === null ? spec.title : `${spec.title}: ${plural(count, "picture")}`,
    size: "m",
    body: html`<form id="ds-operation" class="stack-4" novalidate><p class="muted">${spec.text}</p><div class="ds-op-fields ${spec.custom ? "stack-4" : "cols-2"}">${spec.fields.map((f) => html`<div data-field="${f.name}">${fieldRow({ ...f, value: kept[f.name] ?? f.value })}</div>`)}</div><div class="ds-trial" aria-live="polite"></div><p class="field-error" role="alert" hidden></p></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button>${spec.trial && html`<button type="button" class="btn" data-do="trial">${icon("eye")}Try it first</button>`}<button type="submit" form="ds-operation" class="btn btn-primary" data-primary>${icon(spec.icon)}${spec.verb}${count === null ? "" : ` ${number(count)}`}</button>`,
  });
  const form = dialog.querySelector("form"), slot = form.querySelector("[role=alert]"), trial = form.querySelector(".ds-trial");
  let taskId = "", trialRun = null;
  if (spec.custom) await captionFields(form.querySelector(".ds-op-fields"), page, kept, name);
  const arrange = () => {
    const v = readForm(form);
    for (const [field, shown] of Object.entries(spec.when ?? {})) form.querySelector(`[data-field="${field}"]`).hidden = !shown(v);
  };
  arrange();
  form.addEventListener("change", arrange);
  const read = () => {
    const values = readForm(form);
    for (const [field, shown] of Object.entries(spec.when ?? {})) if (!shown(values)) delete values[field];
    return values;
  };
  async function submit(dryRun) {
    clearErrors(form);
    slot.hidden = true;
    const values = read();
    const options = spec.custom ? captionOptions(values) : spec.options ? spec.options(values) : values;
    const body = { operation: name, options, dryRun };
    try {
      if (ids) body.imageIds = dryRun ? ids.slice(0, TRIED) : ids;
      else body.imageIds = await page.allIds(filter, dryRun ? TRIED : undefined);
      if (!body.imageIds.length) throw new Error("There is no picture to do this with.");
      return await api.post("/api/images/batch-process", body, dryRun ? {} : { idempotencyKey: key });
    } catch (error) {
      const left = showErrors(form, (error.errors ?? []).map((e) => ({ ...e, field: e.field.replace(/^options\./, "") })));
      slot.textContent = left.length || !error.errors?.length ? [left.map((e) => e.message).join(" ") || error.message, error.remedy].filter(Boolean).join(" ") : "";
      slot.hidden = !slot.textContent;
      return null;
    }
  }
  const remember = () => { const values = read(); delete values.includeLocked; prefs.set(`dataset.${name}`, values); };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(dialog.querySelector("[data-primary]"), async () => {
      const answer = await submit(false);
      if (!answer) return;
      remember();
      taskId = answer.taskId;
      dialog.close("started");
    });
  });
  dialog.querySelector("[data-do=trial]")?.addEventListener("click", (event) => {
    busy(event.currentTarget, async () => {
      trialRun?.abort();
      trialRun = new AbortController();
      render(trial, html`<p class="small muted">Trying it on up to three pictures…</p>`);
      const answer = await submit(true);
      if (!answer) { render(trial, html``); return; }
      const { follow } = await import("../../jobs.js");
      try {
        const task = await follow(answer.taskId, { signal: trialRun.signal });
        const all = await api.get(`/api/images/batch-process/${encodeURIComponent(answer.taskId)}`);
        render(trial, trialView({ ...task, result: all }));
        trial.scrollIntoView({ block: "nearest" });
      } catch (error) {
        if (error.name !== "AbortError") render(trial, html`<p class="field-error">${error.message} ${error.remedy ?? ""}</p>`);
      }
    });
  });
  await closed;
  trialRun?.abort();
  return taskId;
}

/** What of a picture its mask would leave, in words and as training would weigh it. */
const maskSaid = (r) => html`${plural(r.faces, "face")}, ${percent(r.covered)} of the picture counts${r.preview && html`<img class="ds-trial-mask" src="${r.preview}" alt="The picture with what hardly counts darkened">`}`;

/** What a trial would do, picture by picture. */
function trialView(task) {
  const items = task.result?.items ?? [];
  const said = (r) => r?.skipped ? r.skipped
    : r?.covered !== undefined ? maskSaid(r)
    : r?.after !== undefined ? html`<q>${r.after}</q>`
      : r?.outputs ? r.outputs.map((o) => `${o.filename ?? ""}${o.box ? ` ${o.box.width} × ${o.box.height}` : o.width ? ` ${o.width} × ${o.height}` : ""}`).join(", ") : html`<span class="muted">stays as it is</span>`;
  const failed = task.itemsFailed ?? [];
  return html`<section class="ds-trial-box"><h3>A trial: nothing was changed</h3><ul class="ds-plain small">${items.map((i) => html`<li><span class="mono">${i.filename}</span> <span class="muted" aria-hidden="true">→</span> ${said(i.result)}</li>`)}${failed.map((f) => html`<li class="field-error">${f.detail}</li>`)}${!items.length && !failed.length && html`<li>There would be nothing to do for these pictures.</li>`}</ul></section>`;
}
