/** Values as people read them. Pure: everything that depends on "now" takes it as an argument. */

const DASH = "–";
const valid = (value) => {
  const d = value instanceof Date ? value : new Date(value);
  return value !== null && value !== undefined && value !== "" && !Number.isNaN(d.getTime()) ? d : null;
};

/** "1.4 MB". Powers of 1024, at most one decimal. @param {number|null|undefined} n */
export function bytes(n) {
  if (n === null || n === undefined || !Number.isFinite(Number(n))) return DASH;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = Math.abs(Number(n)),
    unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit < units.length - 1 && unit > 0 && Math.round(value * 10) / 10 >= 1024) {
    value /= 1024;
    unit += 1;
  }
  const text = unit === 0 || value >= 100 ? String(Math.round(value)) : String(Math.round(value * 10) / 10);
  return `${Number(n) < 0 ? "-" : ""}${text} ${units[unit]}`;
}

/** "12,345" in the reader's language. */
export const number = (n, digits = 0) =>
  n === null || n === undefined || Number.isNaN(Number(n)) ? DASH : Number(n).toLocaleString(undefined, { maximumFractionDigits: digits });

/** "42 %" from 0..1. Never rounds up to 100 % before it is true. */
export function percent(fraction) {
  if (fraction === null || fraction === undefined || Number.isNaN(Number(fraction))) return DASH;
  const value = Number(fraction) * 100;
  return `${value < 100 ? Math.min(99, Math.round(value)) : Math.round(value)} %`;
}

/** "1 h 05 min", "2 min 03 s", "850 ms". @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(Number(seconds)) || seconds < 0) return DASH;
  if (seconds < 1 && seconds > 0) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  const total = Math.round(seconds);
  const pad = (n) => String(n).padStart(2, "0");
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min ${pad(total % 60)} s`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${pad(Math.floor((total % 3600) / 60))} min`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

/** Time left, coarse on purpose so that it does not jitter: "about 2 min left". "" when unknown. */
export function eta(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(Number(seconds)) || seconds < 0) return "";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3300) return `about ${Math.max(1, Math.round(seconds / 60))} min left`;
  return `about ${Math.floor((seconds + 150) / 3600)} h ${String(Math.floor(((seconds + 150) % 3600) / 300) * 5).padStart(2, "0")} min left`;
}

const STEPS = [
  ["year", 31536000],
  ["month", 2592000],
  ["week", 604800],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];

/** "3 minutes ago", "in 2 hours", "just now". @param {string|Date|null} when @param {Date|number} [now] */
export function ago(when, now = Date.now()) {
  const at = valid(when);
  if (!at) return DASH;
  const seconds = (at.getTime() - Number(now)) / 1000;
  if (Math.abs(seconds) < 45) return "just now";
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size * (unit === "minute" ? 0.75 : 0.95))
      return words.format(Math.round(seconds / size) || Math.sign(seconds), unit);
  }
  return "just now";
}

/** "21 Nov 2026, 14:05" in the browser's zone, or in the one named. */
export function dateTime(when, timeZone) {
  const at = valid(when);
  return at
    ? at.toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZone })
    : DASH;
}

/** "21 Nov 2026". A plain date (YYYY-MM-DD) is not shifted by the zone. */
export function date(when) {
  const plain = /^\d{4}-\d{2}-\d{2}$/.test(String(when));
  const at = valid(plain ? `${when}T12:00:00Z` : when);
  return at
    ? at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: plain ? "UTC" : undefined })
    : DASH;
}

/** "14:05:09" */
export function clock(when) {
  const at = valid(when);
  return at ? at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : DASH;
}

/** plural(1, "picture") → "1 picture"; plural(3, "entry", "entries") → "3 entries" */
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${Number(n) === 1 ? one : many}`;

/** "generate_and_post" → "Generate and post" */
export function words(identifier) {
  const text = String(identifier ?? "")
    .replace(/[._-]+/g, " ")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Cut in the middle so that both ends stay readable. */
export function middle(text, max = 32) {
  const value = String(text ?? "");
  if (value.length <= max) return value;
  const head = Math.ceil((max - 1) / 2);
  return `${value.slice(0, head)}…${value.slice(value.length - (max - 1 - head))}`;
}

/** Initials for an avatar without a picture. */
export const initials = (name) =>
  String(name ?? "")
    .trim()
    .split(/\s+/)
    .filter(Boolean)
    .slice(0, 2)
    .map((part) => [...part][0].toUpperCase())
    .join("") || "?";

/** How far a task is: "12 / 40"; in bytes where it counts those, for nothing else is counted in hundreds of thousands. */
export const ofTotal = (done, total) => (total >= 100_000 ? `${bytes(done)} of ${bytes(total)}` : `${number(done)} / ${number(total)}`);
