/** What the browser remembers about the person's taste (theme, sizes, last character). Falls back to memory. */
const KEY = "dalla.prefs";
let memory = {};

const read = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return memory;
  }
};

export const prefs = {
  /** @template T @param {string} name @param {T} fallback @returns {T} */
  get(name, fallback = undefined) {
    const value = read()[name];
    return value === undefined ? fallback : value;
  },
  set(name, value) {
    const all = { ...read(), [name]: value };
    if (value === undefined || value === null) delete all[name];
    memory = all;
    try {
      localStorage.setItem(KEY, JSON.stringify(all));
    } catch {
      /* private window or full: this page still remembers */
    }
    document.dispatchEvent(new CustomEvent("prefs:changed", { detail: { name, value } }));
  },
};

/** Something bigger kept per key (drafts, the studio form). @returns {{load: () => any, save: (v: any) => void, clear: () => void}} */
export function draft(key) {
  const name = `dalla.draft.${key}`;
  return {
    load() {
      try {
        return JSON.parse(localStorage.getItem(name) ?? "null");
      } catch {
        return null;
      }
    },
    save(value) {
      try {
        localStorage.setItem(name, JSON.stringify(value));
      } catch {
        /* nothing lost but the draft */
      }
    },
    clear() {
      try {
        localStorage.removeItem(name);
      } catch {
        /* as above */
      }
    },
  };
}

/** @param {"light"|"dark"|"system"} theme */
export function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
