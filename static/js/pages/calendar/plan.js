/** Which days a calendar shows, what stands on them, and where something may be dropped. Pure. */
import { addDays, addMonths, dayOf, dayWords, isDay, isZone, monthWeeks, timeOf, toUtc, weekDays } from "../../zones.js";

export const VIEWS = [
  { key: "month", label: "Month" },
  { key: "week", label: "Week" },
  { key: "day", label: "Day" },
  { key: "list", label: "List" },
  { key: "lanes", label: "Characters" },
];
const LIST_DAYS = 30;

/** @param {string} search @param {{view: string, today: string}} fallback @returns {{view: string, date: string, characterId: string, zone: string}} */
export function readQuery(search, { view, today }) {
  const query = new URLSearchParams(search);
  const asked = query.get("view") ?? "";
  const date = query.get("date") ?? "";
  const zone = query.get("zone") ?? "";
  return {
    view: VIEWS.some((v) => v.key === asked) ? asked : view,
    date: isDay(date) ? date : today,
    characterId: query.get("characterId") ?? "",
    zone: isZone(zone) ? zone : "",
  };
}
/** @param {{view: string, date: string, characterId: string, zone: string}} state @param {{today: string}} defaults */
export function address(state, { today }, path = "/calendar.html") {
  const query = new URLSearchParams({ view: state.view });
  if (state.date !== today) query.set("date", state.date);
  if (state.characterId) query.set("characterId", state.characterId);
  if (state.zone) query.set("zone", state.zone);
  return `${path}?${query}`;
}

/** The days on show. @param {string} view @param {string} date @returns {string[]} */
export function daysOf(view, date) {
  if (view === "month") return monthWeeks(date).flat();
  if (view === "week" || view === "lanes") return weekDays(date);
  if (view === "day") return [date];
  return Array.from({ length: LIST_DAYS }, (_, i) => addDays(date, i));
}
/** From the first moment of the first day to the last of the last, in UTC. @param {string[]} days @param {string} zone */
export const rangeOf = (days, zone) => ({
  from: toUtc(`${days[0]}T00:00`, zone).iso,
  to: toUtc(`${addDays(days.at(-1), 1)}T00:00`, zone).iso,
});
/** One page on or back. @param {string} view @param {string} date @param {number} by */
export function turn(view, date, by) {
  if (view === "month") return addMonths(`${date.slice(0, 7)}-01`, by);
  if (view === "day") return addDays(date, by);
  if (view === "list") return addDays(date, by * LIST_DAYS);
  return addDays(date, by * 7);
}
/** "November 2026", "16 – 22 November 2026". @param {string} view @param {string} date */
export function titleOf(view, date) {
  if (view === "month") return dayWords(date, { month: "long", year: "numeric" });
  if (view === "day") return dayWords(date, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const days = daysOf(view, date);
  const [a, b] = [days[0], days.at(-1)];
  const head = dayWords(a, {
    day: "numeric",
    ...(a.slice(0, 7) === b.slice(0, 7) ? {} : { month: "long" }),
    ...(a.slice(0, 4) === b.slice(0, 4) ? {} : { year: "numeric" }),
  });
  return `${head} – ${dayWords(b, { day: "numeric", month: "long", year: "numeric" })}`;
}

/** An entry's name for the page: stable over reloads. */
export const keyOf = (item) => (item.type === "post" ? `p-${item.post.id}` : `o-${item.taskId}-${item.slot ?? item.at}`);
export const characterOf = (item) => (item.type === "post" ? item.post.characterId : item.characterId) ?? "";
export const nameOf = (item) => (item.type === "post" ? item.post.characterName : item.characterName) ?? "No character";

/** Entries by day, each day in order of time. @param {any[]} items @param {string} zone @returns {Map<string, any[]>} */
export function byDay(items, zone) {
  const days = new Map();
  const sorted = [...items].sort((a, b) => a.at.localeCompare(b.at) || keyOf(a).localeCompare(keyOf(b)));
  for (const item of sorted) {
    const day = dayOf(item.at, zone);
    days.set(day, [...(days.get(day) ?? []), item]);
  }
  return days;
}
/** Entries by character, the characters by name. */
export function lanesOf(items, characters) {
  const lanes = new Map(characters.map((c) => [c.id, { id: c.id, name: c.name, character: c, items: [] }]));
  for (const item of items) {
    const id = characterOf(item);
    if (!lanes.has(id)) lanes.set(id, { id, name: nameOf(item), character: null, items: [] });
    lanes.get(id).items.push(item);
  }
  return [...lanes.values()].sort((a, b) => a.name.localeCompare(b.name));
}
/** The n entries of a day that matter most, in order of time: what needs somebody, then what is still to come. */
export function mostUseful(items, n, now) {
  if (items.length <= n) return items;
  const weight = (item) =>
    (item.type === "post" && ["failed", "unconfirmed", "missed"].includes(item.post.status) ? 0 : 2) + (Date.parse(item.at) < now ? 1 : 0);
  const chosen = new Set([...items].sort((a, b) => weight(a) - weight(b) || a.at.localeCompare(b.at)).slice(0, n));
  return items.filter((item) => chosen.has(item));
}
/** How many to show of n, so that "+1 more" never takes the place of the one it hides. */
export const shownOf = (n, room) => (n <= room ? n : Math.max(0, room - 1));

/**
 * May this be dropped there? @param {any} item @param {string} day @param {string|null} hour "14" or null to keep the time
 * @param {string} zone @param {number} now
 * @returns {{at: string, note: string}|{refused: string, offer?: "duplicate"|"rule"}}
 */
export function dropOf(item, day, hour, zone, now = Date.now()) {
  if (item.type !== "post") return { refused: "This time comes from a rule. Skip this one time, or change the rule.", offer: "rule" };
  const { post } = item;
  if (post.status === "published" || post.status === "dry_run")
    return { refused: `This post is ${post.status === "published" ? "published" : "rehearsed"} already and keeps its time. A copy can be planned for another day.`, offer: "duplicate" };
  if (!(post.actions ?? []).includes("schedule")) return { refused: "This post cannot be moved in its present state." };
  const time = timeOf(item.at, zone);
  const found = toUtc(`${day}T${hour === null ? time : `${hour.padStart(2, "0")}:${time.slice(3)}`}`, zone);
  if (!found) return { refused: "That is no time." };
  if (Date.parse(found.iso) < now) return { refused: "That time has passed. Choose a later one." };
  return { at: found.iso, note: found.note };
}

/** The moment an empty slot stands for: on a day the next full hour or 18:00, in a week view its hour; null when it is over. */
export function slotAt(day, hour, zone, now = Date.now()) {
  const today = dayOf(now, zone);
  const full = toUtc(`${day}T${String(hour ?? 18).padStart(2, "0")}:00`, zone).iso;
  if (Date.parse(full) > now) return full;
  if (hour === null && day === today) {
    const next = new Date(Math.ceil((now + 60_000) / 3_600_000) * 3_600_000).toISOString();
    if (dayOf(next, zone) === day) return next;
    const soon = new Date(now + 5 * 60_000).toISOString();
    return dayOf(soon, zone) === day ? soon : null;
  }
  if (day === today && Number(timeOf(now, zone).slice(0, 2)) === hour) return new Date(Math.ceil((now + 300_000) / 300_000) * 300_000).toISOString();
  return null;
}
