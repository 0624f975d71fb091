// @ts-check
/** A form and an object, both ways. Field names are the API's (camelCase); dots go deeper: `promptSettings.mood`. */

/** @param {Record<string, any>} object @param {string} path */
export const getPath = (object, path) =>
  path.split(".").reduce((at, key) => (at === null || at === undefined ? undefined : at[key]), object);

/** Set a dotted path, making objects on the way. Refuses names that would reach a prototype. */
export function setPath(/** @type {any} */ object, /** @type {string} */ path, /** @type {any} */ value) {
  const keys = path.split(".");
  if (keys.some((key) => key === "__proto__" || key === "constructor" || key === "prototype"))
    throw new TypeError(`bad field name: ${path}`);
  let at = object;
  for (const key of keys.slice(0, -1)) at = at[key] = at[key] !== null && typeof at[key] === "object" ? at[key] : {};
  at[keys[keys.length - 1]] = value;
  return object;
}

/**
 * What a control's text means. Empty text is null ("not set"), `data-type` overrides the input's type.
 * @param {{type?: string, value: string, checked?: boolean, dataType?: string}} control
 */
export function parseValue({ type, value, checked, dataType }) {
  const kind = dataType || type;
  if (kind === "checkbox" || kind === "boolean") return type === "checkbox" ? Boolean(checked) : value === "true";
  if (kind === "number" || kind === "range" || kind === "integer") {
    if (value.trim() === "") return null;
    const n = Number(value);
    return Number.isFinite(n) ? n : value;
  }
  if (kind === "list")
    return value
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean);
  const text = kind === "password" ? value : value.replace(/\r\n/g, "\n");
  return text.trim() === "" ? null : text;
}

const controls = (/** @type {HTMLFormElement} */ form) =>
  /** @type {any[]} */ ([...form.elements]).filter(
    (el) => el.name && !["submit", "button", "reset", "fieldset", "file"].includes(el.type) && el.tagName !== "FIELDSET",
  );

/** @param {HTMLFormElement} form @returns {Record<string, any>} */
export function readForm(form) {
  const out = {};
  for (const el of controls(form)) {
    if (el.disabled || (el.type === "radio" && !el.checked)) continue;
    setPath(out, el.name, parseValue({ type: el.type, value: el.value, checked: el.checked, dataType: el.dataset.type }));
  }
  return out;
}

/** Show an object in a form. Names the object does not have are emptied. */
export function fillForm(/** @type {HTMLFormElement} */ form, /** @type {Record<string, any>} */ values) {
  for (const el of controls(form)) {
    const value = getPath(values, el.name);
    if (el.type === "checkbox") el.checked = Boolean(value);
    else if (el.type === "radio") el.checked = String(value) === el.value;
    else {
      const text = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : String(value);
      if (el.tagName === "SELECT" && text && ![...el.options].some((o) => o.value === text))
        el.add(new Option(`${text} (not available)`, text));
      el.value = text;
    }
  }
}

/**
 * Only what changed between two objects, deep; arrays count as one value. Good for PATCH.
 * @param {Record<string, any>} before @param {Record<string, any>} after
 */
export function changed(before, after) {
  /** @type {Record<string, any>} */ const out = {};
  for (const [key, value] of Object.entries(after)) {
    const old = before?.[key];
    if (isObject(value) && isObject(old)) {
      const inner = changed(old, value);
      if (Object.keys(inner).length) out[key] = inner;
    } else if (!same(old, value)) out[key] = value;
  }
  return out;
}
const isObject = (/** @type {any} */ v) => v !== null && typeof v === "object" && !Array.isArray(v);
const empty = (/** @type {any} */ v) =>
  v === null || v === undefined || v === "" || (Array.isArray(v) && !v.length) || (isObject(v) && Object.values(v).every(empty));
/** Deep equality in which null, undefined, "" and empty containers are the same nothing. @returns {boolean} */
export function same(/** @type {any} */ a, /** @type {any} */ b) {
  if (empty(a) && empty(b)) return true;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((v, i) => same(v, b[i]));
  if (isObject(a) && isObject(b)) return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((k) => same(a[k], b[k]));
  return a === b;
}

/**
 * Put a problem's `errors[]` beside their fields. The slot is `[data-error-for="name"]` (fieldRow makes it).
 * @param {HTMLFormElement} form @param {{field: string, message: string}[]} errors
 * @returns {{field: string, message: string}[]} errors no field was found for: show these in a summary
 */
export function showErrors(form, errors) {
  clearErrors(form);
  const left = [];
  let first = null;
  for (const error of errors) {
    const el = controls(form).find((c) => c.name === error.field) ?? controls(form).find((c) => error.field?.startsWith(`${c.name}.`));
    const slot = el && form.querySelector(`[data-error-for="${CSS.escape(el.name)}"]`);
    if (!el || !slot) {
      left.push(error);
      continue;
    }
    slot.textContent = error.message;
    /** @type {HTMLElement} */ (slot).hidden = false;
    el.setAttribute("aria-invalid", "true");
    const described = new Set((el.getAttribute("aria-describedby") || "").split(/\s+/).filter(Boolean));
    el.setAttribute("aria-describedby", [...described.add(slot.id)].join(" "));
    first ??= el;
  }
  first?.focus();
  return left;
}

export function clearErrors(/** @type {HTMLFormElement} */ form) {
  for (const slot of form.querySelectorAll("[data-error-for]")) {
    slot.textContent = "";
    /** @type {HTMLElement} */ (slot).hidden = true;
  }
  for (const el of form.querySelectorAll("[aria-invalid]")) el.removeAttribute("aria-invalid");
}

const dirtyForms = new Set();

/**
 * Watch a form for unsaved changes. While one is dirty the browser asks before the page is left.
 * @param {HTMLFormElement} form
 * @param {{onChange?: (dirty: boolean, values: Record<string, any>) => void, read?: () => Record<string, any>}} [options]
 */
export function trackDirty(form, { onChange, read = () => readForm(form) } = {}) {
  let clean = read();
  const check = () => {
    const now = read();
    const dirty = !same(clean, now);
    dirtyForms[dirty ? "add" : "delete"](form);
    onChange?.(dirty, now);
    return dirty;
  };
  form.addEventListener("input", check);
  form.addEventListener("change", check);
  return {
    check,
    get dirty() {
      return dirtyForms.has(form);
    },
    /** what was changed since the last reset() */
    changes: () => changed(clean, read()),
    /** the present values are the saved ones */
    reset() {
      clean = read();
      dirtyForms.delete(form);
      onChange?.(false, clean);
    },
    stop() {
      dirtyForms.delete(form);
      form.removeEventListener("input", check);
      form.removeEventListener("change", check);
    },
  };
}

/** True when some form on the page has unsaved changes. */
export const hasUnsaved = () => {
  for (const form of dirtyForms) if (!form.isConnected) dirtyForms.delete(form);
  return dirtyForms.size > 0;
};

globalThis.window?.addEventListener?.("beforeunload", (event) => {
  if (hasUnsaved()) event.preventDefault();
});
