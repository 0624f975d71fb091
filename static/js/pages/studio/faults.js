/** A field's error beside it, tied to the control. Template functions for html``. */
import { html } from "../../html.js";

const idOf = (name) => `st-err-${name.replaceAll(".", "-")}`;
/** The slot of a field's error. */
export const fault = (s, name) => (s.errors[name] ? html`<p class="field-error" id="${idOf(name)}">${s.errors[name]}</p>` : "");
/** The attributes that tie a control to it. */
export const faulty = (s, name) => (s.errors[name] ? { "aria-invalid": "true", "aria-describedby": idOf(name) } : {});
