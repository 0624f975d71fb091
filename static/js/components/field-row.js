/** Label, control, hint and error slot, tied together for screen readers. Template function for html``. */
import { attrs, html } from "../html.js";

let serial = 0;

/**
 * @param {{name: string, label: string, type?: "text"|"textarea"|"select"|"number"|"range"|"checkbox"|"switch"|"password"|"date"|"search"|"email"|"url",
 *   value?: any, hint?: any, placeholder?: string, options?: {value: string, label: string, disabled?: boolean}[], required?: boolean, disabled?: boolean,
 *   min?: number, max?: number, step?: number|"any", rows?: number, maxlength?: number, dataType?: string, autocomplete?: string, autofocus?: boolean, after?: any, id?: string,
 *   list?: string, spellcheck?: boolean, hideLabel?: boolean}} field
 * `after` is markup beside the control (a button, a unit). `name` is the API's camelCase name; dots go deeper.
 */
export function fieldRow(field) {
  const { name, label, type = "text", value, hint, options = [], after } = field;
  const id = field.id ?? `auto-${(serial += 1)}-${name.replace(/\W+/g, "-")}`;
  const common = attrs({
    id,
    name,
    required: field.required,
    disabled: field.disabled,
    autofocus: field.autofocus,
    placeholder: field.placeholder,
    maxlength: field.maxlength,
    autocomplete: field.autocomplete ?? (type === "password" ? "new-password" : "off"),
    "data-type": field.dataType,
    list: field.list,
    spellcheck: field.spellcheck === undefined ? undefined : String(field.spellcheck),
    "aria-describedby": hint ? `${id}-hint` : undefined,
  });
  const error = html`<p class="field-error" id="${id}-error" data-error-for="${name}" hidden></p>`;
  const hinted = hint && html`<p class="field-hint" id="${id}-hint">${hint}</p>`;
  if (type === "checkbox" || type === "switch") {
    return html`<div class="field field-check"><label for="${id}" class="check"><input type="checkbox" ${type === "switch" && attrs({ role: "switch", class: "switch" })} ${common} ${attrs({ checked: Boolean(value) })}><span>${label}</span></label>${hinted}${error}</div>`;
  }
  let control;
  if (type === "textarea") control = html`<textarea ${common} rows="${field.rows ?? 3}">${value ?? ""}</textarea>`;
  else if (type === "select")
    control = html`<select ${common}>${options.map((o) => html`<option ${attrs({ value: o.value, disabled: o.disabled, selected: String(o.value) === String(value ?? "") })}>${o.label}</option>`)}</select>`;
  else control = html`<input ${attrs({ type, value: value ?? "", min: field.min, max: field.max, step: field.step })} ${common}>`;
  return html`<div class="field"><label for="${id}" class="${field.hideLabel ? "visually-hidden" : ""}">${label}${field.required && html` <span class="required" aria-hidden="true">*</span>`}</label>
    <div class="field-control">${control}${after}</div>${hinted}${error}</div>`;
}
