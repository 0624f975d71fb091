// @ts-check
/** What the settings page works out: which settings stand where, what was changed, what a source is called. Pure. */
import { CHOICES, EXTRAS, GROUPS, SECTIONS } from "./layout.js";
import { same } from "../../forms.js";

/**
 * @typedef {{name: string, env: string, kind: string, choices: string[]|null, group: string, label: string, help: string, unit: string|null,
 *   min: number|null, max: number|null, secret: boolean, value: any, set: boolean, default: any, source: string, locked: boolean,
 *   needsRestart: boolean, pending: boolean, pendingValue?: any, problem: string|null}} Setting
 */

/** The value a field shows: the saved one, also when it waits for the restart. @param {Setting} s */
export const shown = (s) => (s.pending ? (s.pendingValue ?? s.default) : s.value);

/** Is something saved here that a reset would take away? @param {Setting} s */
export const isSaved = (s) => !s.locked && (s.source === "file" || s.pending);

/** The panels of a section, with settings nobody named put into one of their own. @param {string} id @param {Map<string, Setting>} settings */
export function panelsOf(id, settings) {
  const section = SECTIONS.find((s) => s.id === id);
  const named = new Set(SECTIONS.flatMap((s) => (s.panels ?? []).flatMap((p) => p.names)));
  const panels = (section?.panels ?? [])
    .map((p) => ({ ...p, rows: p.names.map((/** @type {string} */ n) => settings.get(n)).filter(Boolean) }))
    .filter((p) => p.rows.length);
  const rest = [...settings.values()].filter((s) => !named.has(s.name) && (GROUPS[/** @type {keyof typeof GROUPS} */ (s.group)] ?? "general") === id);
  return rest.length ? [...panels, { id: "more", title: "More", names: rest.map((s) => s.name), rows: rest }] : panels;
}

/** The section a setting stands in. @param {string} name @param {Map<string, Setting>} settings */
export function sectionOf(name, settings) {
  const found = SECTIONS.find((s) => s.panels?.some((p) => p.names.includes(name)));
  if (found) return found.id;
  const group = settings.get(name)?.group ?? "";
  return settings.has(name) ? (GROUPS[/** @type {keyof typeof GROUPS} */ (group)] ?? "general") : "";
}

/** @param {string} name @param {string} value @returns {[string, string]} label and hint of a choice */
export const choice = (name, value) =>
  /** @type {any} */ (CHOICES)[name]?.[value] ?? [value.charAt(0).toUpperCase() + value.slice(1), ""];

/** Where a value comes from: {label, title, locked}. "" when it is the default. @param {Setting} s */
export function origin(s) {
  if (s.source === "env") return { label: s.env, title: `${s.env} is set in the environment, which wins over this page. Change it there and restart.`, locked: true };
  if (s.source === "dotenv") return { label: `${s.env} in .env`, title: `${s.env} is set in the file .env, which wins over this page. Change it there and restart.`, locked: true };
  if (s.source === "flag") return { label: "Command line", title: "This was given when the app was started. Start it without, and this page decides.", locked: true };
  if (s.locked) return { label: s.env, title: `This can only be set in the environment or .env, as ${s.env}.`, locked: true };
  if (isSaved(s)) return { label: "Changed", title: s.secret ? "Saved here, encrypted." : "Saved here, in settings.json.", locked: false };
  return { label: "", title: "", locked: false };
}

/** A value in words: "Off", "30 days", "Automatic", "(empty)". @param {Setting} s @param {any} value */
export function said(s, value) {
  if (s.secret) return value ? String(value) : "not set";
  if (typeof value === "boolean") return value ? "On" : "Off";
  if (s.kind === "choice") return choice(s.name, String(value))[0];
  if (value === null || value === undefined || value === "") return "empty";
  if (typeof value === "object") return Object.keys(value).length ? JSON.stringify(value) : "empty";
  return s.unit ? `${value} ${s.unit}` : String(value);
}

const STEPS = /** @type {Record<string, [number, string][]>} */ ({
  minutes: [[1440, "day"], [60, "hour"]],
  seconds: [[3600, "hour"], [60, "minute"]],
  days: [[365, "year"], [7, "week"]],
});
/** "180 minutes" → "3 hours". "" where that says no more. @param {any} value @param {string|null} unit */
export function span(value, unit) {
  const number = Number(value);
  if (value === null || value === "" || !Number.isFinite(number) || number <= 0) return "";
  for (const [size, word] of STEPS[unit ?? ""] ?? []) {
    if (number >= size && (number / size) % 0.5 === 0) {
      const count = number / size;
      return `${count} ${word}${count === 1 ? "" : "s"}`;
    }
  }
  return "";
}

/**
 * What a field's text means as a value to send: null resets.
 * @param {Setting} s @param {{text?: string, checked?: boolean, cleared?: boolean}} field
 * @returns {{value?: any, unchanged?: boolean, problem?: string}}
 */
export function read(s, { text = "", checked = false, cleared = false }) {
  if (cleared) return { value: null };
  if (s.kind === "bool") return { value: checked };
  const trimmed = text.trim();
  if (s.secret && !trimmed) return { unchanged: true }; // an empty field keeps what is stored
  if (s.kind === "int" || s.kind === "float") {
    if (!trimmed) return { problem: "Enter a number." };
    const number = Number(trimmed.replace(",", "."));
    if (!Number.isFinite(number)) return { problem: "This must be a number." };
    if (s.kind === "int" && !Number.isInteger(number)) return { problem: "This must be a whole number." };
    const unit = s.unit ? ` ${s.unit}` : "";
    if ((s.min !== null && number < s.min) || (s.max !== null && number > s.max))
      return { problem: `This must be between ${s.min?.toLocaleString("en")} and ${s.max?.toLocaleString("en")}${unit}.` };
    return { value: number };
  }
  if (s.kind === "json" && !(s.secret && trimmed.startsWith("env:"))) {
    if (!trimmed) return { value: {} };
    try {
      const value = JSON.parse(trimmed);
      if (value === null || typeof value !== "object" || Array.isArray(value)) return { problem: 'This must be a JSON object: {"name": "value"}.' };
      return { value };
    } catch (error) {
      return { problem: `This is not valid JSON: ${error instanceof Error ? error.message : error}` };
    }
  }
  return { value: trimmed };
}

/** Does a read value differ from what is saved? @param {Setting} s @param {{value?: any, unchanged?: boolean}} now */
export function differs(s, now) {
  if (now.unchanged) return false;
  if (now.value === null) return isSaved(s) || s.set;
  if (s.secret) return true;
  if (s.kind === "json") return JSON.stringify(sorted(now.value)) !== JSON.stringify(sorted(shown(s) ?? {}));
  return !same(shown(s), now.value);
}
const sorted = (/** @type {any} */ v) => (v && typeof v === "object" ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => a.localeCompare(b))) : v);

/**
 * Somebody else saved meanwhile: which of my changes touch what they touched?
 * @param {Map<string, Setting>} before what I saw @param {Map<string, Setting>} now what is there @param {Record<string, any>} changes mine
 * @returns {string[]} names both of us changed (to something different)
 */
export function collisions(before, now, changes) {
  return Object.keys(changes).filter((name) => {
    const a = before.get(name),
      b = now.get(name);
    return a && b && !same(shown(a), shown(b)) && !same(shown(b), changes[name]);
  });
}

/**
 * Everything the search finds, best first.
 * @param {string} q @param {Map<string, Setting>} settings
 * @returns {{section: string, sectionLabel: string, name: string, label: string, help: string}[]}
 */
export function search(q, settings) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const label = (/** @type {string} */ id) => SECTIONS.find((s) => s.id === id)?.label ?? id;
  const all = [
    ...[...settings.values()].map((s) => {
      const section = sectionOf(s.name, settings);
      const panel = SECTIONS.find((x) => x.id === section)?.panels?.find((p) => p.names.includes(s.name))?.title ?? "";
      return {
        section, sectionLabel: label(section), name: s.name, label: s.label, help: s.help,
        haystack: [s.label, `${s.name} ${s.env} ${panel} ${label(section)}`, `${s.help} ${(s.choices ?? []).map((c) => choice(s.name, c).join(" ")).join(" ")}`],
      };
    }),
    ...EXTRAS.map(([section, name, text, more]) => ({ section, sectionLabel: label(section), name, label: text, help: "", haystack: [text, label(section), more] })),
  ]; // prettier-ignore
  const rank = (/** @type {string[]} */ haystack) => {
    let total = 0;
    for (const word of words) {
      const at = haystack.findIndex((text) => text.toLowerCase().includes(word));
      if (at < 0) return -1;
      total += at * 2 + (haystack[at].toLowerCase().startsWith(word) ? 0 : 1);
    }
    return total;
  };
  return all
    .map((entry) => ({ ...entry, rank: rank(entry.haystack) }))
    .filter((entry) => entry.rank >= 0)
    .sort((a, b) => a.rank - b.rank || a.label.localeCompare(b.label))
    .map(({ haystack, rank: _rank, ...entry }) => entry);
}

/** Where the app answers after a restart: the same origin, or another one when address or port were changed. @param {Map<string, Setting>} settings @param {{protocol: string, hostname: string, port: string, origin: string}} here */
export function addressAfterRestart(settings, here) {
  const port = settings.get("port"),
    host = settings.get("host");
  if (!port?.pending && !host?.pending) return here.origin;
  const to = port?.pending ? String(port.pendingValue) : here.port;
  const wide = ["0.0.0.0", "::", ""];
  const name = host?.pending && !wide.includes(host.pendingValue) && here.hostname !== "localhost" ? host.pendingValue : here.hostname;
  return `${here.protocol}//${String(name).includes(":") && !String(name).startsWith("[") ? `[${name}]` : name}${to ? `:${to}` : ""}`;
}
