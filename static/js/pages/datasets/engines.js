/** What writes captions: the engines there are, and the fields of a run. */
import { api } from "../../api.js";
import { fieldRow } from "../../components/field-row.js";
import { errorState, skeleton } from "../../components/states.js";
import { render } from "../../dom.js";
import { plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";

const MODES = [["only_empty", "Only pictures without a caption"], ["append", "Add to captions that are there"], ["replace", "Replace captions"]];
const LENGTHS = [["short", "Short"], ["medium", "Medium"], ["long", "Long"]];
const options = (list) => list.map(([value, label]) => ({ value, label }));

/** @param {HTMLElement} box @param {any} page @param {any} kept what was chosen last @param {"caption"|"tag"} name */
export async function captionFields(box, page, kept = {}, name = "caption") {
  render(box, skeleton("form", 3));
  let answer;
  try {
    answer = await api.get("/api/datasets/caption-engines");
  } catch (error) {
    render(box, errorState(error, { compact: true, action: "" }));
    return;
  }
  const tags = name === "tag";
  const engines = answer.engines.filter((e) => !tags || !e.styles?.length || e.styles.includes("tags"));
  const auto = engines.find((e) => e.name === answer.auto?.[name]);
  const chosen = engines.some((e) => e.name === kept.engine && e.available) ? kept.engine : "auto";
  const off = engines.filter((e) => !e.available);
  render(box, html`${fieldRow({ name: "engine", label: "Engine", type: "select", value: chosen, options: [{ value: "auto", label: `The best there is${auto ? `: ${auto.label}` : ""}` }, ...engines.map((e) => ({ value: e.name, label: `${e.label}${e.basic ? " (basic)" : ""}${e.available ? "" : ": not ready"}`, disabled: !e.available }))] })}
    <div class="small ds-engine" data-key="engine"></div>${off.length > 0 && html`<details class="small" data-key="off"><summary>${plural(off.length, "engine")} not ready</summary><ul class="ds-plain">${off.map((o) => html`<li>${o.label}: ${o.reason} <span class="muted">${o.remedy}</span></li>`)}</ul></details>`}
    <div class="cols-2">${fieldRow({ name: "mode", label: "Which captions", type: "select", value: kept.mode ?? (tags ? "append" : "only_empty"), options: options(MODES) })}${tags ? fieldRow({ name: "maxTags", label: "Tags at most", type: "number", min: 0, max: 500, value: kept.maxTags ?? 0, dataType: "integer", hint: "0: as many as there are" }) : fieldRow({ name: "length", label: "Length", type: "select", value: kept.length ?? "medium", options: options(LENGTHS) })}</div>
    ${fieldRow({ name: "prompt", label: "What to write", type: "textarea", rows: 2, value: kept.prompt ?? "", maxlength: 4000, placeholder: "Left empty: the engine's usual instructions", hint: "{trigger} {tags} {name} and {folder} are filled in." })}
    <div class="cols-2">${fieldRow({ name: "avoid", label: "Do not describe", dataType: "list", value: (kept.avoid ?? []).join(", "), placeholder: "hair colour, freckles", hint: "What the LoRA should learn by itself" })}${fieldRow({ name: "mention", label: "Always mention", dataType: "list", value: (kept.mention ?? []).join(", ") })}</div>
    <div>${page.set?.triggerWord ? fieldRow({ name: "trigger", label: `Begin with the trigger word ${page.set.triggerWord}`, type: "checkbox", value: kept.trigger ?? true }) : ""}${fieldRow({ name: "includeLocked", label: "Also captions a person wrote", type: "checkbox", value: false, hint: "Otherwise they stay as they are." })}</div>`);
  const form = box.closest("form");
  const say = () => {
    const e = engines.find((one) => one.name === (form.elements.engine.value === "auto" ? answer.auto?.[name] : form.elements.engine.value));
    render(box.querySelector(".ds-engine"), html`${e?.sends && html`<p>${icon("external")} Pictures are sent to the service of this engine.</p>`}${e?.basic && html`<p>It says what was measured: framing, light, faces. Other engines see what is in the picture.</p>`}${e?.models?.length > 0 && html`<div class="field"><label for="ds-engine-model">Model</label><select id="ds-engine-model" name="model">${e.models.map((m) => html`<option value="${m}" ${attrs({ selected: m === (kept.model || e.model) })}>${m}</option>`)}</select></div>`}`);
  };
  form.addEventListener("change", (event) => { if (event.target.name === "engine") say(); });
  say();
}

/** What is sent for the fields. */
export function captionOptions({ includeLocked, trigger, ...v }) {
  return { ...Object.fromEntries(Object.entries(v).filter(([, value]) => value !== null && value !== "")), trigger: trigger ?? false, includeLocked: Boolean(includeLocked) };
}
