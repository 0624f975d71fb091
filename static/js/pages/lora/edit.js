/** "Edit and resume": the settings of a run that may change on its way, in a small dialog. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { busy } from "../../dom.js";
import { showErrors } from "../../forms.js";
import { number } from "../../format.js";
import { html } from "../../html.js";
import { toast } from "../../notices.js";
import { FIELDS, getIn, parse, setIn, textOf } from "./params.js";

/** What the resume route takes; anything else decided what the saved state is. */
const MAY_CHANGE = ["steps", "learningRate", "textEncoderLearningRate", "earlyStop", "validation.every", "sampleEvery", "saveEvery"];
const CHECKS = ["earlyStop", "validation.every"]; // mean nothing without pictures set aside

/** A run that has ended too early, or is paused, and can be taken up again. */
export const canEdit = (run) => run.status !== "running" && ["resume", "retry"].some((name) => run.actions?.includes(name));
/** A setting as it is now; what the preset decided is known from the trainer. */
const now = (run, name) => getIn(run.config ?? {}, name) ?? getIn(run.ready?.config ?? {}, name) ?? null;

/** The fields of the dialog. @param {any} run as GET /api/lora/train/{id} answers */
export function fieldsOf(run) {
  const held = !Array.isArray(run.ready?.heldOut) || run.ready.heldOut.length > 0;
  const shown = MAY_CHANGE.filter((name) => (held || !CHECKS.includes(name)) && (name !== "textEncoderLearningRate" || now(run, "trainTextEncoder")));
  return shown.map((name) => FIELDS.find((field) => field.name === name)).map((field) => ({ ...field, value: now(run, field.name) }));
}

/**
 * What was changed. @param {any} run @param {Record<string, string>} texts of the controls by name
 * @returns {{settings: any, errors: {field: string, message: string}[]}} only what differs from the run is in settings
 */
export function changesOf(run, texts) {
  let settings = {};
  const errors = [];
  for (const field of fieldsOf(run)) {
    const { value, message } = parse(field, texts[field.name]);
    if (message) errors.push({ field: field.name, message });
    else if (value === null && field.value !== null) errors.push({ field: field.name, message: "This needs a number." });
    else if (value !== field.value) settings = setIn(settings, field.name, value);
  }
  return { settings, errors };
}

/** A refusal's fields as the dialog calls them: "settings.validation" is its only part. */
export const fieldOf = (name) => {
  const plain = name.replace(/^settings\./, "");
  return plain === "validation" ? "validation.every" : plain;
};

/** Ask for the changes and go on with the run. @returns {Promise<boolean>} whether it goes on */
export async function editAndResume(run) {
  const again = !run.actions.includes("resume");
  const { dialog, closed } = openDialog({
    title: `${again ? "Edit and start again" : "Edit and resume"}: ${run.name}`,
    body: html`<form class="stack-3" id="lo-resume" novalidate><p>${again ? "There is no checkpoint, so it starts again from the beginning." : html`It stands at step ${number(run.step ?? 0)} and goes on from its newest checkpoint.`} Layers and pictures stay as they are: clone the run to change those.</p>
      <div class="lo-grid">${fieldsOf(run).map((field) => fieldRow({ name: field.name, label: field.label, hint: field.help, value: textOf(field, field.value), id: `lo-r-${field.name.replace(".", "-")}`, spellcheck: false }))}</div><p class="field-error" role="alert" hidden></p></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="lo-resume" class="btn btn-primary" data-primary data-do="go">${again ? "Start again" : "Resume"}</button>`,
  });
  const form = dialog.querySelector("form");
  const slot = form.querySelector("[role=alert]");
  const told = (errors, message) => {
    const left = showErrors(form, errors);
    slot.textContent = !errors.length ? message : left.map((e) => e.message).join(" ");
    slot.hidden = !slot.textContent;
  };
  const send = () =>
    busy(dialog.querySelector("[data-do]"), async () => {
      const texts = Object.fromEntries(fieldsOf(run).map((field) => [field.name, form.elements[field.name].value]));
      const { settings, errors } = changesOf(run, texts);
      told(errors, "");
      if (errors.length) return;
      try {
        await api.post(`/api/lora/train/${encodeURIComponent(run.taskId)}/resume`, { settings });
        dialog.close("gone on");
      } catch (problem) {
        told((problem.errors ?? []).map((e) => ({ ...e, field: fieldOf(e.field) })), [problem.message, problem.remedy].filter(Boolean).join(" "));
      }
    });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  if ((await closed) !== "gone on") return false;
  toast.success(again ? "The run starts again" : "The run goes on");
  return true;
}
