/** Where ComfyUI is and which engine draws: two settings, changed in place. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy } from "../../dom.js";
import { showErrors } from "../../forms.js";
import { toast } from "../../notices.js";
import { fieldRow } from "../../components/field-row.js";

const CHOICES = [
  ["auto", "Automatic", "ComfyUI when it answers, otherwise the built-in engine."],
  ["comfyui", "ComfyUI", "Only ComfyUI; without it nothing is drawn."],
  ["builtin", "Built-in", "Only the built-in engine on this machine."],
];
const SOURCE = { default: "the default", file: "saved here", env: "set in the environment", dotenv: "set in .env", flag: "set on the command line" };

/** @param {Map<string, any>} settings by name @param {{test?: {ok: boolean, detail: string, remedy?: string}|null}} view */
export function enginePanel(settings, { test } = {}) {
  const url = settings.get("comfyuiUrl"),
    engine = settings.get("imageEngine");
  if (!url || !engine) return "";
  const locked = (s) =>
    s.locked && html`${icon("lock")} ${s.env} is ${SOURCE[s.source]}, which wins over this page. Change it there and restart.`;
  const chosen = CHOICES.find(([value]) => value === engine.value);
  return html`<div class="mo-engine" id="engine">
    <div class="mo-engine-grid"><div class="stack-2"><span class="label" id="mo-engine-label">Which engine draws</span><div class="segmented mo-choice" role="group" aria-labelledby="mo-engine-label">${CHOICES.map(([value, label]) => html`<button type="button" data-action="engine" data-value="${value}" aria-pressed="${String(value === engine.value)}" ${attrs({ disabled: engine.locked })}>${label}</button>`)}</div><p class="field-hint">${locked(engine) || chosen?.[2]}</p></div>
      <form class="mo-address" novalidate>${fieldRow({
        name: "comfyuiUrl",
        id: "mo-url",
        label: "Address of ComfyUI",
        type: "url",
        value: url.value,
        disabled: url.locked,
        spellcheck: false,
        placeholder: url.default,
        hint: locked(url) || html`Now ${SOURCE[url.source]}${url.source === "file" && html`; the default is <code>${url.default}</code>`}.`,
        after: html`${!url.locked && html`<button type="submit" class="btn" data-needs="admin" data-action-save>Save and test</button>`}${url.locked && html`<button type="button" class="btn" data-action="test" data-needs="admin">Test</button>`}`,
      })}
        ${!url.locked && url.source === "file" && html`<button type="button" class="btn btn-ghost btn-small mo-reset" data-action="reset-url" data-needs="admin">${icon("undo")}Back to the default</button>`}
        ${test && html`<p class="mo-test ${test.ok ? "is-ok" : "is-bad"}" role="status">${icon(test.ok ? "ok" : "alert")}<span>${test.detail}${test.remedy && html` <span class="muted">${test.remedy}</span>`}</span></p>`}</form></div></div>`;
}

/** @param {{settings: () => Map<string, any>, set: (items: any[]) => void, tested: (t: any) => void, changed: () => void}} page */
export function engineActions(page) {
  const test = async () => {
    try {
      page.tested(await api.post("/api/settings/test/comfyui"));
    } catch (error) {
      page.tested({ ok: false, detail: error.message, remedy: error.remedy });
    }
    page.changed();
  };
  const save = async (changes) => {
    page.set((await api.patch("/api/settings", changes)).items);
  };
  return {
    test: (_e, el) => busy(el, test),
    engine: async (_e, el) => {
      try {
        await save({ imageEngine: el.dataset.value });
        toast.success("The engine was changed");
        page.changed();
      } catch (error) {
        toast.error(error);
      }
    },
    "reset-url": (_e, el) =>
      busy(el, async () => {
        try {
          await save({ comfyuiUrl: null });
          await test();
        } catch (error) {
          toast.error(error);
        }
      }),
    /** @param {HTMLFormElement} form */
    submit: (form) =>
      busy(form.querySelector("[data-action-save]"), async () => {
        try {
          await save({ comfyuiUrl: form.elements.comfyuiUrl.value.trim() || null });
          await test();
        } catch (error) {
          if (error.errors?.length) showErrors(form, error.errors);
          else toast.error(error);
        }
      }),
  };
}
