/**
 * Keyboard shortcuts. Notation: "n", "?", ".", "g h" (one after the other), "mod+enter" (Ctrl, on a Mac Cmd), "ArrowLeft".
 * Plain keys are inert while typing and while a dialog is open, and can be switched off as a whole in the help.
 */
import { prefs } from "./prefs.js";

const groups = new Set();
const isMac = /mac|iphone|ipad/i.test(globalThis.navigator?.platform ?? "");
let pending = "";
let pendingTimer = 0;

/** "mod+enter", "ArrowLeft", "?" of a keyboard event. Pure. */
export function stroke(event, mac = isMac) {
  const mod = mac ? event.metaKey : event.ctrlKey;
  const key =
    event.key.length === 1
      ? event.shiftKey && /[a-z]/i.test(event.key)
        ? `shift+${event.key.toLowerCase()}`
        : event.key.toLowerCase()
      : event.key;
  const name = key === "Enter" ? "enter" : key === " " ? "space" : key;
  return `${mod ? "mod+" : ""}${event.altKey ? "alt+" : ""}${event.shiftKey && key.length > 1 && !key.startsWith("shift+") ? "shift+" : ""}${name}`;
}

/** How a shortcut is written for people: ["Ctrl", "Enter"]. Pure. */
export const keyCaps = (keys, mac = isMac) =>
  keys
    .split(" ")
    .flatMap((part, i) => [
      ...(i ? ["then"] : []),
      ...part
        .split("+")
        .map(
          (k) =>
            ({
              mod: mac ? "⌘" : "Ctrl",
              alt: "Alt",
              shift: "Shift",
              enter: "Enter",
              space: "Space",
              ArrowLeft: "←",
              ArrowRight: "→",
              ArrowUp: "↑",
              ArrowDown: "↓",
              Delete: "Del",
              Escape: "Esc",
            })[k] ?? k.toUpperCase(),
        ),
    ]);

const typing = (el) =>
  el?.closest?.("input:not([type=checkbox],[type=radio],[type=range],[type=button]), textarea, select, [contenteditable=true]");

/**
 * @typedef {{keys: string, label: string, run?: (event: KeyboardEvent) => void, when?: () => boolean, always?: boolean}} Shortcut
 * `always` also works while typing (for mod+ combinations); without `run` the line only shows in the help.
 * @param {string} title heading in the help @param {Shortcut[]} shortcuts @param {{signal?: AbortSignal}} [options]
 * @returns {() => void} unregister
 */
export function registerKeys(title, shortcuts, { signal } = {}) {
  const group = { title, shortcuts };
  groups.add(group);
  const stop = () => groups.delete(group);
  signal?.addEventListener("abort", stop);
  return stop;
}

export const allShortcuts = () => [...groups];

function onKey(event) {
  if (event.defaultPrevented || event.isComposing || ["Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  const inField = Boolean(typing(event.target));
  const inDialog = Boolean(document.querySelector("dialog[open]:modal"));
  const pressed = stroke(event);
  const plain = !pressed.includes("mod+");
  if (plain && !prefs.get("shortcuts", true)) return;
  const sequence = pending ? `${pending} ${pressed}` : pressed;
  const candidates = [...groups]
    .reverse()
    .flatMap((g) => g.shortcuts)
    .filter((s) => s.run && (s.when?.() ?? true) && (s.always || (!inField && !inDialog)));
  clearTimeout(pendingTimer);
  pending = "";
  const hit = candidates.find((s) => s.keys === sequence) ?? candidates.find((s) => s.keys === pressed);
  if (hit) {
    event.preventDefault();
    hit.run(event);
    return;
  }
  if (!inField && candidates.some((s) => s.keys.startsWith(`${pressed} `))) {
    pending = pressed;
    pendingTimer = setTimeout(() => {
      pending = "";
    }, 1500);
  }
}

/** Start listening. Called once by main.js. */
export function startKeys() {
  document.addEventListener("keydown", onKey);
}
