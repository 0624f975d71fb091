/** Small DOM tools: render() that keeps focus and typed text, delegated actions, one-shot helpers. */

/**
 * Make `target`'s content equal to `markup`, changing only what differs: focus, caret, scroll and typed text survive.
 * Children are matched by `data-key` or `id`, else by tag in order. The inside of a custom element that says
 * `ownsContent = true` is left alone; only its attributes are updated.
 * @param {Element} target @param {import("./html.js").Markup|string} markup
 */
export function render(target, markup) {
  const template = document.createElement("template");
  template.innerHTML = markup ? String(markup) : ""; // `condition && html`…`` prints nothing when it does not hold
  patchChildren(target, template.content);
}

/** A single element from markup. */
export function element(markup) {
  const template = document.createElement("template");
  template.innerHTML = String(markup).trim();
  return document.importNode(template.content.firstElementChild, true);
}

/** Ids made up anew at each render (fieldRow's `auto-…`) say nothing about which element it is. */
const keyOf = (node) =>
  node.nodeType === 1 ? node.getAttribute("data-key") || (node.id.startsWith("auto-") ? null : node.id) || null : null;

function patchChildren(parent, next) {
  const keyed = new Map();
  const stays = new Set([...next.children].map(keyOf));
  for (const child of [...parent.children]) {
    const key = keyOf(child);
    if (key && !stays.has(key)) child.remove(); // first of all: those behind it need not be moved, which would cost them the focus
    else if (key) keyed.set(key, child);
  }
  let current = parent.firstChild;
  for (const wanted of [...next.childNodes]) {
    const key = keyOf(wanted);
    let match = null;
    if (key) {
      match = keyed.get(key)?.nodeName === wanted.nodeName ? keyed.get(key) : null;
      while (match && current?.nodeType === 3) {
        const space = current; // between elements: it goes, the element stays where it is
        current = current.nextSibling;
        space.remove();
      }
    } else if (current && !keyOf(current) && current.nodeName === wanted.nodeName) match = current;
    else if (current && !keyOf(current) && current.nodeType === 3) {
      // text between elements comes and goes: look one further
      const after = current.nextSibling;
      if (after && !keyOf(after) && after.nodeName === wanted.nodeName) {
        current.remove();
        match = current = after;
      }
    }
    if (!match) {
      parent.insertBefore(document.importNode(wanted, true), current);
      continue;
    }
    if (match !== current) parent.insertBefore(match, current);
    else current = current.nextSibling;
    if (key) keyed.delete(key);
    patchNode(match, wanted);
  }
  while (current) {
    const gone = current;
    current = current.nextSibling;
    gone.remove();
  }
}

function patchNode(node, wanted) {
  if (node.nodeType === 3 || node.nodeType === 8) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    if (wanted.hasAttribute(name)) continue;
    if (name === "style" || (name === "open" && node.nodeName === "DETAILS")) continue;
    node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) === value) continue;
    node.setAttribute(name, value);
    if (name === "value" && "value" in node && node !== document.activeElement) node.value = value;
  }
  if (node.nodeName === "INPUT" && node.type === "checkbox" && !node.name) node.checked = wanted.hasAttribute("checked");
  if (node.ownsContent) return;
  if (node.nodeName === "TEXTAREA") {
    if (node.defaultValue !== wanted.defaultValue && node !== document.activeElement) {
      node.defaultValue = wanted.defaultValue;
      node.value = wanted.defaultValue;
    }
    return;
  }
  const selected =
    node.nodeName === "SELECT" ? [...wanted.querySelectorAll("option")].find((o) => o.hasAttribute("selected"))?.value : undefined;
  patchChildren(node, wanted);
  if (selected !== undefined && node !== document.activeElement && node.value !== selected) node.value = selected;
}

/**
 * Delegate clicks: `<button data-action="remove" data-id="7">` calls `handlers.remove(event, button)`.
 * @param {Element} root @param {Record<string, (event: Event, el: HTMLElement) => void>} handlers
 */
export function onAction(root, handlers, { signal } = {}) {
  root.addEventListener(
    "click",
    (event) => {
      const el = event.target.closest?.("[data-action]");
      if (!el || !root.contains(el) || !handlers[el.dataset.action]) return;
      handlers[el.dataset.action](event, el);
    },
    { signal },
  );
}

/** Send an action up: a bubbling CustomEvent. */
export const emit = (el, type, detail) => el.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, cancelable: true }));

/**
 * Run `work` while `button` is busy: label kept, not clickable twice, focus restored, unlocked after 30 s at the latest.
 * @template T @param {HTMLButtonElement} button @param {() => Promise<T>} work @returns {Promise<T|undefined>}
 */
export async function busy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  const hadFocus = document.activeElement === button;
  button.setAttribute("aria-busy", "true");
  const unlock = () => button.removeAttribute("aria-busy");
  const timer = setTimeout(unlock, 30_000);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
    unlock();
    if (hadFocus && document.activeElement === document.body && button.isConnected) button.focus();
  }
}

/** Call `fn` at most once per `ms`, the last call wins. `.flush()` runs a waiting call now, `.cancel()` drops it. */
export function debounce(fn, ms) {
  let timer = 0,
    args;
  const run = (...given) => {
    args = given;
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = 0;
      fn(...args);
    }, ms);
  };
  run.flush = () => {
    if (timer) {
      clearTimeout(timer);
      timer = 0;
      fn(...args);
    }
  };
  run.cancel = () => {
    clearTimeout(timer);
    timer = 0;
  };
  return run;
}

/** Read and write the address bar: every filter and open thing lives there, so Back works. */
export const url = {
  get: (name) => new URLSearchParams(location.search).get(name),
  all: () => Object.fromEntries(new URLSearchParams(location.search)),
  /** @param {Record<string, string|number|boolean|null|undefined>} changes null or "" removes a name */
  set(changes, { push = false } = {}) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "" || value === false) query.delete(name);
      else query.set(name, value);
    }
    const target = `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`;
    if (target === location.pathname + location.search + location.hash) return;
    history[push ? "pushState" : "replaceState"](history.state, "", target);
  },
};
