/** Messages to the person: shown by <toast-stack>, kept in the notification centre. */
import { emit } from "./dom.js";

const KEY = "dalla.notices";
let kept = load();
function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}
function save() {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept.slice(0, 50)));
  } catch {
    /* this page still has them */
  }
}

const changed = () => emit(document, "notices:changed");

/**
 * @typedef {object} ToastOptions
 * @property {string} [detail] second line
 * @property {() => (void|Promise<void>)} [undo] shows Undo for 8 s (also Ctrl+Z)
 * @property {{label: string, href?: string, run?: () => void}} [action]
 */
function show(kind, text, options = {}) {
  const notice = {
    id: `n${Date.now().toString(36)}${Math.random().toString(36).slice(2, 6)}`,
    kind,
    text,
    detail: options.detail ?? "",
    href: options.action?.href ?? "",
    at: new Date().toISOString(),
    read: false,
  };
  kept.unshift(notice);
  kept = kept.slice(0, 50);
  save();
  emit(document, "toast:show", { ...options, ...notice });
  changed();
  return notice.id;
}

/**
 * Where the log tells what happened inside the app; "" for a refusal that says all there is to say, and for who may not read it.
 * @param {any} error
 */
export function logHref(error) {
  const rights = globalThis.document?.documentElement.dataset.rights; // unknown so far: the server decides
  if (!error?.requestId || !(error.status >= 500) || (rights !== undefined && !rights.split(" ").includes("admin"))) return "";
  return `/monitoring.html?requestId=${encodeURIComponent(error.requestId)}`;
}

/** Errors that were shown: main.js shows every refused action, the page that asked may do so again. */
const shown = new WeakMap();

export const toast = {
  /** 5 s. @param {string} text @param {ToastOptions} [options] */
  success: (text, options) => show("success", text, options),
  /** 5 s. @param {string} text @param {ToastOptions} [options] */
  info: (text, options) => show("info", text, options),
  /** Stays until closed. @param {unknown} error an Error (ApiError's remedy is shown) or a sentence @param {ToastOptions} [options] */
  error(error, options = {}) {
    if (typeof error === "string") return show("error", error, options);
    if (shown.has(error)) return shown.get(error);
    const log = logHref(error);
    const action = log ? { label: "Log", href: log } : undefined;
    const id = show("error", error?.message || "Something went wrong.", { detail: error?.remedy || "", action, ...options });
    if (error instanceof Error) shown.set(error, id);
    return id;
  },
};

export const notices = {
  all: () => kept,
  unread: () => kept.filter((n) => !n.read && n.kind !== "success").length,
  markRead() {
    kept.forEach((n) => {
      n.read = true;
    });
    save();
    changed();
  },
  clear() {
    kept = [];
    save();
    changed();
  },
  /** One that the server sent. */
  receive: (data) =>
    show(data.kind === "error" || data.level === "error" ? "error" : "info", data.title || data.text || data.detail, {
      detail: data.title ? data.detail : "",
      action: data.href ? { label: "Open", href: data.href } : undefined,
    }),
};

globalThis.addEventListener?.("storage", (event) => {
  if (event.key === KEY) {
    kept = load();
    changed();
  }
});
