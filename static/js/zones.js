// @ts-check
/** Days and clock times in a named time zone. Pure. Moments are ISO texts or Dates in UTC, days are "YYYY-MM-DD". */

const MINUTE = 60_000;
const formatters = new Map();
const pad = (/** @type {number} */ n, width = 2) => String(n).padStart(width, "0");

/** The zone of this browser. */
export const browserZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** @param {string|null|undefined} zone @returns {boolean} whether the browser knows this zone */
export function isZone(zone) {
  if (!zone) return false;
  try {
    formatter(zone);
    return true;
  } catch {
    return false;
  }
}

function formatter(/** @type {string} */ zone) {
  let known = formatters.get(zone);
  if (!known) {
    known = new Intl.DateTimeFormat("en-GB", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
    });
    formatters.set(zone, known);
  }
  return known;
}

/**
 * What a clock and a calendar on the wall of that zone show.
 * @param {string|Date|number} when @param {string} zone
 * @returns {{year: number, month: number, day: number, hour: number, minute: number, second: number}}
 */
export function wall(when, zone) {
  /** @type {Record<string, number>} */ const out = {};
  for (const part of formatter(zone).formatToParts(new Date(when))) if (part.type !== "literal") out[part.type] = Number(part.value);
  return /** @type {any} */ (out);
}

/** "2026-11-21" there. @param {string|Date|number} when @param {string} zone */
export function dayOf(when, zone) {
  const w = wall(when, zone);
  return `${pad(w.year, 4)}-${pad(w.month)}-${pad(w.day)}`;
}

/** "18:30" there. @param {string|Date|number} when @param {string} zone */
export function timeOf(when, zone) {
  const w = wall(when, zone);
  return `${pad(w.hour)}:${pad(w.minute)}`;
}

/** "2026-11-21T18:30" there, as <input type="datetime-local"> wants it. @param {string|Date|number} when @param {string} zone */
export const inputOf = (when, zone) => `${dayOf(when, zone)}T${timeOf(when, zone)}`;

/** Minutes the zone is ahead of UTC at that moment. @param {string|Date|number} when @param {string} zone */
export function offsetOf(when, zone) {
  const at = new Date(when).getTime();
  const w = wall(at, zone);
  return Math.round((Date.UTC(w.year, w.month - 1, w.day, w.hour, w.minute, w.second) - at) / MINUTE);
}

/** "UTC+1", "UTC−3:30", "UTC". @param {string} zone @param {string|Date|number} [when] */
export function offsetLabel(zone, when = Date.now()) {
  const minutes = offsetOf(when, zone);
  const size = Math.abs(minutes);
  const rest = size % 60 ? `:${pad(size % 60)}` : "";
  return minutes ? `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${rest}` : "UTC";
}

/**
 * The moment a clock there shows this. `note` is "gap" when the clock jumps over that time (the moment after the jump is
 * answered) and "twice" when it shows it twice (the first one is answered).
 * @param {string} local "YYYY-MM-DDTHH:MM" @param {string} zone
 * @returns {{iso: string, note: ""|"gap"|"twice"}|null} null when the text is no date and time
 */
export function toUtc(local, zone) {
  const found = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})/.exec(local ?? "");
  if (!found) return null;
  const [, y, mo, d, h, mi] = found.map(Number);
  const naive = Date.UTC(y, mo - 1, d, h, mi);
  if (Number.isNaN(naive) || new Date(naive).getUTCDate() !== d || h > 23 || mi > 59) return null;
  const offsets = [offsetOf(naive - 1440 * MINUTE, zone), offsetOf(naive + 1440 * MINUTE, zone)];
  const fits = [...new Set(offsets)].map((o) => naive - o * MINUTE).filter((at) => inputOf(at, zone) === local.slice(0, 16));
  fits.sort((a, b) => a - b);
  if (fits.length) return { iso: new Date(fits[0]).toISOString(), note: fits.length > 1 ? "twice" : "" };
  return { iso: new Date(naive - offsets[0] * MINUTE).toISOString(), note: "gap" };
}

const noon = (/** @type {string} */ day) => Date.parse(`${day}T12:00:00Z`);
/** @param {string} day @param {number} n */
export const addDays = (day, n) => new Date(noon(day) + n * 86_400_000).toISOString().slice(0, 10);
/** The same day n months on, or the last one of that month. @param {string} day @param {number} n */
export function addMonths(day, n) {
  const [y, m, d] = day.split("-").map(Number);
  const last = new Date(Date.UTC(y, m + n, 0)).getUTCDate();
  return new Date(Date.UTC(y, m - 1 + n, Math.min(d, last), 12)).toISOString().slice(0, 10);
}
/** 0 Monday … 6 Sunday. @param {string} day */
export const weekday = (day) => (new Date(noon(day)).getUTCDay() + 6) % 7;
/** The Monday of that week. @param {string} day */
export const weekStart = (day) => addDays(day, -weekday(day));
/** Seven days from Monday. @param {string} day */
export const weekDays = (day) => Array.from({ length: 7 }, (_, i) => addDays(weekStart(day), i));
/** The weeks that show the month of that day, as lists of seven days. @param {string} day */
export function monthWeeks(day) {
  const first = `${day.slice(0, 7)}-01`;
  const weeks = [];
  for (let at = weekStart(first); at.slice(0, 7) <= day.slice(0, 7); at = addDays(at, 7)) weeks.push(weekDays(at));
  return weeks;
}
/** @param {string} day */
export const isDay = (day) => /^\d{4}-\d{2}-\d{2}$/.test(day ?? "") && !Number.isNaN(noon(day)) && addDays(day, 0) === day;

/** Words for a day: dayWords("2026-11-21", {weekday: "long"}). @param {string} day @param {Intl.DateTimeFormatOptions} options */
export const dayWords = (day, options) => new Date(noon(day)).toLocaleDateString("en-GB", { ...options, timeZone: "UTC" });
