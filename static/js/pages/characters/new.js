/** The add dialog: four steps, each of which can be saved. What was typed survives a closed tab. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { busy, onAction, render } from "../../dom.js";
import { clearErrors, fillForm, readForm, showErrors } from "../../forms.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { draft } from "../../prefs.js";
import { handleFields, lookFields, profileFields, storyFields } from "./fields.js";

const STEPS = [
  ["who", "Who"],
  ["looks", "Looks"],
  ["story", "Story"],
  ["accounts", "Accounts"],
];

/** Drop what is not set, so that the server's defaults stay. Pure. */
export const compact = (values) =>
  Object.fromEntries(
    Object.entries(values)
      .map(([k, v]) => [k, v && typeof v === "object" && !Array.isArray(v) ? compact(v) : v])
      .filter(([, v]) => v !== null && v !== undefined && !(typeof v === "object" && !Array.isArray(v) && !Object.keys(v).length)),
  );

/** @returns {Promise<any|null>} the new character, or null */
export async function newCharacter(models) {
  const kept = draft("character.new");
  let step = 0,
    made = null;
  const { dialog, closed } = openDialog({
    title: "New character",
    size: "m",
    body: html`<ol class="steps" aria-label="Steps">${STEPS.map(([key, label], i) => html`<li><button type="button" data-action="step" data-step="${i}" data-key="${key}"><span class="step-n">${i + 1}</span>${label}</button></li>`)}</ol>
      <form id="new-character" novalidate><section data-panel="0">${profileFields()}</section><section data-panel="1" hidden>${lookFields({}, models)}</section><section data-panel="2" hidden>${storyFields()}</section><section data-panel="3" hidden><div class="stack-4">${handleFields()}<p class="muted small">Account ids and keys can be added on the character's Accounts tab.</p></div></section>
      <p class="field-error" role="alert" id="new-problem" hidden></p></form>`,
    footer: html`<button type="button" class="btn btn-ghost" data-action="back">${icon("arrow-left")}Back</button><span class="spacer"></span><button type="button" class="btn" data-action="save">Save and close</button><button type="button" class="btn btn-primary" data-action="next" data-needs="write" data-primary>Next</button>`,
  });
  const form = dialog.querySelector("form");
  const problem = dialog.querySelector("#new-problem");
  const before = kept.load();
  if (before) fillForm(form, before);

  const show = (focus = true) => {
    form.querySelectorAll("[data-panel]").forEach((panel) => {
      panel.hidden = Number(panel.dataset.panel) !== step;
    });
    dialog.querySelectorAll("[data-action=step]").forEach((b) => {
      if (Number(b.dataset.step) === step) b.setAttribute("aria-current", "step");
      else b.removeAttribute("aria-current");
    });
    dialog.querySelector("[data-action=back]").hidden = step === 0;
    const last = step === STEPS.length - 1;
    render(dialog.querySelector("[data-action=next]"), last ? html`Create character` : html`Next${icon("arrow-right")}`);
    dialog.querySelector("[data-action=save]").hidden = last;
    if (focus) form.querySelector(`[data-panel="${step}"] :is(input, textarea, select)`)?.focus();
  };
  const save = (button) =>
    busy(button, async () => {
      clearErrors(form);
      problem.hidden = true;
      try {
        made = await api.post("/api/characters", compact(readForm(form)));
        kept.clear();
        dialog.close("saved");
      } catch (error) {
        const first = error.errors?.[0]?.field;
        const at = first && form.elements.namedItem(first)?.closest("[data-panel]");
        if (at) {
          step = Number(at.dataset.panel);
          show(false);
        }
        const left = showErrors(form, error.errors ?? []);
        if (left.length || !error.errors?.length) {
          problem.textContent = left.map((e) => e.message).join(" ") || `${error.message} ${error.remedy ?? ""}`;
          problem.hidden = false;
        }
      }
    });
  onAction(dialog, {
    step: (_e, el) => {
      step = Number(el.dataset.step);
      show();
    },
    back: () => {
      step -= 1;
      show();
    },
    next: (_e, el) => {
      if (step < STEPS.length - 1) {
        step += 1;
        show();
      } else save(el);
    },
    save: (_e, el) => save(el),
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector("[data-action=next]").click();
  });
  form.addEventListener("input", () => kept.save(readForm(form)));
  show();
  await closed;
  if (made) toast.success(`${made.name} was created`);
  return made;
}
