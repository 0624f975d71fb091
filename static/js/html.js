/** Markup from strings, safely: everything is escaped unless it was made by `html` itself. Pure. */

/** Finished markup. Only `html`, `raw` and `attrs` make it. */
export class Markup {
  constructor(text) {
    this.text = text;
  }
  toString() {
    return this.text;
  }
}

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** @param {unknown} value @returns {string} the value as text that means nothing to a browser */
export const escape = (value) => String(value).replace(/[&<>"']/g, (c) => ESCAPES[c]);

const toText = (value) => {
  if (value === null || value === undefined || value === false || value === true) return "";
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(toText).join("");
  return escape(value);
};

/**
 * Template tag. null, undefined and booleans print nothing (so `${cond && html`…`}` works), arrays are joined.
 * @returns {Markup}
 */
export function html(strings, ...values) {
  let text = strings[0];
  values.forEach((value, i) => {
    text += toText(value) + strings[i + 1];
  });
  return new Markup(text);
}

/** Markup that is known to be safe. Never call it with anything a person or a server wrote. */
export const raw = (text) => new Markup(text);

/**
 * Attributes from an object: true prints the bare name, false/null/undefined leave it out.
 * @param {Record<string, unknown>} values @returns {Markup}
 */
export function attrs(values) {
  const parts = [];
  for (const [name, value] of Object.entries(values)) {
    if (value === false || value === null || value === undefined) continue;
    if (!/^[a-z][\w:-]*$/i.test(name) || /^(on|style$)/i.test(name)) throw new TypeError(`attribute not allowed: ${name}`);
    parts.push(value === true ? name : `${name}="${escape(value)}"`);
  }
  return new Markup(parts.join(" "));
}

/** An icon of the sprite. Give a label only when no text beside it says the same. @returns {Markup} */
export function icon(name, label) {
  const use = html`<use href="/static/img/icons.svg#${name}"></use>`;
  return label
    ? html`<svg class="icon" role="img" aria-label="${label}" viewBox="0 0 24 24">${use}</svg>`
    : html`<svg class="icon" aria-hidden="true" viewBox="0 0 24 24">${use}</svg>`;
}
