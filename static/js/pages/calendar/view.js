/** The calendar as markup: month, week, day, list and lanes. */
import { attrs, html, icon } from "../../html.js";
import { number, plural } from "../../format.js";
import { dayWords, offsetLabel, timeOf, weekDays } from "../../zones.js";
import { avatar } from "../../components/avatar.js";
import { canMove, platformIcon, platformLabel, postThumb, stateOf } from "../../components/post-state.js";
import { emptyState } from "../../components/states.js";
import { byDay, daysOf, keyOf, lanesOf, mostUseful, nameOf, shownOf, slotAt, titleOf, VIEWS } from "./plan.js";

const ROOM = 4; // entries a day of the month has room for

export function head({ state, zone, zones, characters }) {
  return html`<div class="cal-head"><div class="row cal-turn"><button type="button" class="btn" data-action="today" title="Today (t)">Today</button><button type="button" class="icon-btn" data-action="turn" data-by="-1" aria-label="Earlier" title="Earlier (k)">${icon("chevron-left")}</button><button type="button" class="icon-btn" data-action="turn" data-by="1" aria-label="Later" title="Later (j)">${icon("chevron-right")}</button><h2 id="cal-title" aria-live="polite">${titleOf(state.view, state.date)}</h2></div>
    <span class="spacer"></span><div class="segmented cal-views" role="group" aria-label="View">${VIEWS.map((v) => html`<button type="button" data-action="view" data-value="${v.key}" aria-pressed="${String(v.key === state.view)}">${v.label}</button>`)}</div>
    <button type="button" class="btn btn-primary" data-action="new" data-needs="publish" data-primary>${icon("plus")}New post</button></div>
    <div class="cal-sub"><label class="visually-hidden" for="cal-character">Character</label><select id="cal-character" data-filter="characterId"><option value="">All characters</option>${characters.map((c) => html`<option ${attrs({ value: c.id, selected: c.id === state.characterId })}>${c.name}</option>`)}</select>
      <label class="cal-zone">${icon("clock")}<span>Times in</span><select data-filter="zone">${zones.map((z) => html`<option ${attrs({ value: z, selected: z === zone })}>${z} (${offsetLabel(z)})</option>`)}</select></label><span class="spacer"></span>
      <ul class="cal-key" aria-label="Meaning of the edges"><li class="k-post">Post</li><li class="k-rule">Rule, not made yet</li><li class="k-dry">${icon("eye")}Dry run</li></ul></div>`;
}

/** One entry. @param {any} item @param {any} v */
function entry(item, v, { wide = false } = {}) {
  const time = timeOf(item.at, v.zone);
  const key = keyOf(item);
  if (item.type !== "post") {
    const off = item.skipped || item.active === false;
    const where = (item.platforms ?? []).map(platformLabel).join(" and ");
    return html`<button type="button" class="cal-item is-rule ${item.dryRun ? "is-dry" : ""} ${off ? "is-off" : ""}" data-action="open" data-item="${key}" data-key="${key}" draggable="true" aria-label="${time}, rule ${item.name ?? "without a name"}, ${nameOf(item)}${where ? `, ${where}` : ""}${item.skipped ? ", skipped" : item.active === false ? ", switched off" : ""}${item.dryRun ? ", dry run" : ""}"><span class="cal-time">${time}</span>${icon("repeat")}${(item.platforms ?? []).map((p) => platformIcon(p))}<span class="cal-name truncate">${item.name || nameOf(item)}</span>${item.skipped && icon("off")}${item.dryRun && icon("eye")}${wide && html`<span class="muted small truncate">${item.note ?? nameOf(item)}</span>`}</button>`;
  }
  const { post } = item;
  const look = stateOf(post);
  return html`<button type="button" class="cal-item is-${look.tone} s-${post.status} ${post.dryRun ? "is-dry" : ""}" data-action="open" data-item="${key}" data-key="${key}" draggable="true" data-movable="${String(canMove(post))}" aria-label="${time}, ${platformLabel(post.platform)}, ${nameOf(item)}, ${look.label}${post.dryRun ? ", dry run" : ""}${post.caption ? `: ${post.caption.slice(0, 60)}` : ""}">${postThumb(post)}<span class="cal-time">${time}</span>${platformIcon(post.platform)}<span class="cal-state" title="${look.label}">${icon(look.icon)}</span>${post.dryRun && post.status !== "dry_run" && html`<span class="cal-state" title="Dry run">${icon("eye")}</span>`}<span class="cal-name truncate">${wide ? post.caption || nameOf(item) : nameOf(item)}</span>${wide && html`<span class="muted small nowrap cal-word">${nameOf(item)} · ${look.label}${post.dryRun ? " · Dry run" : ""}</span>`}</button>`;
}

export function body(v) {
  if (v.view === "month") return month(v);
  if (v.view === "week") return week(v, weekDays(v.date));
  if (v.view === "day") return week(v, [v.date]);
  if (v.view === "lanes") return lanes(v);
  return list(v);
}

/** A gridcell: roving tabindex, Enter makes a post there. */
const cell = (v, day, hour, inner, extra = "", label = "") => {
  const id = `${day}${hour === null ? "" : `T${hour}`}`;
  const over = !slotAt(day, hour, v.zone, v.now);
  return html`<div role="gridcell" class="cal-cell ${over ? "is-over" : ""} ${extra}" data-key="c-${id}" data-cell="${id}" data-day="${day}" ${attrs({ "data-hour": hour, tabindex: v.focus === id ? 0 : -1, "aria-label": label, "aria-current": day === v.today && hour === null ? "date" : undefined })}>${inner}</div>`;
};

function month(v) {
  const days = daysOf("month", v.date);
  const found = byDay(v.items, v.zone);
  const weeks = Array.from({ length: days.length / 7 }, (_, i) => days.slice(i * 7, i * 7 + 7));
  return html`<div class="cal-month" role="grid" aria-labelledby="cal-title" data-weeks="${weeks.length}"><div role="row" class="cal-days">${weeks[0].map((d) => html`<span role="columnheader">${dayWords(d, { weekday: "short" })}</span>`)}</div>
    ${weeks.map(
      (week) => html`<div role="row" class="cal-week" data-key="w-${week[0]}">${week.map((day) => {
        const items = found.get(day) ?? [];
        const n = shownOf(items.length, ROOM);
        const shown = mostUseful(items, n, v.now);
        const words = dayWords(day, { weekday: "long", day: "numeric", month: "long" });
        return cell(
          v,
          day,
          null,
          html`<span class="cal-num">${Number(day.slice(8))}</span>${shown.map((item) => entry(item, v))}${items.length > n && html`<button type="button" class="cal-more" data-action="day" data-day="${day}" data-key="more">+${number(items.length - n)} more</button>`}`,
          `${day.slice(0, 7) === v.date.slice(0, 7) ? "" : "is-other"} ${day === v.today ? "is-today" : ""}`,
          `${words}, ${items.length ? plural(items.length, "entry", "entries") : "empty"}`,
        );
      })}</div>`,
    )}</div>`;
}

const HOURS = Array.from({ length: 24 }, (_, h) => h);

function week(v, days) {
  const found = byDay(v.items, v.zone);
  const one = days.length === 1;
  const at = new Map(days.map((d) => [d, grouped(found.get(d) ?? [], v.zone)]));
  const nowHour = Number(timeOf(v.now, v.zone).slice(0, 2));
  return html`<div class="cal-hours ${one ? "is-day" : ""}" role="grid" aria-labelledby="cal-title" data-columns="${days.length}"><div role="row" class="cal-days"><span role="columnheader" class="cal-hour"><span class="visually-hidden">Hour</span></span>${days.map((d) => html`<span role="columnheader" class="${d === v.today ? "is-today" : ""}">${dayWords(d, { weekday: one ? "long" : "short" })} <b>${Number(d.slice(8))}</b></span>`)}</div>
    ${HOURS.map(
      (h) => html`<div role="row" class="cal-row" data-key="h-${h}" ${attrs({ "data-hour-row": h })}><span role="rowheader" class="cal-hour">${String(h).padStart(2, "0")}:00</span>${days.map((day) => {
        const items = at.get(day).get(h) ?? [];
        const n = one ? items.length : shownOf(items.length, 4);
        return cell(
          v,
          day,
          h,
          html`${items.slice(0, n).map((item) => entry(item, v, { wide: one }))}${items.length > n && html`<button type="button" class="cal-more" data-action="day" data-day="${day}" data-key="more">+${items.length - n} more</button>`}`,
          `${day === v.today ? "is-today" : ""} ${day === v.today && h === nowHour ? "is-now" : ""}`,
          `${dayWords(day, { weekday: "long", day: "numeric", month: "long" })}, ${String(h).padStart(2, "0")}:00, ${items.length ? plural(items.length, "entry", "entries") : "empty"}`,
        );
      })}</div>`,
    )}</div>`;
}
function grouped(items, zone) {
  const out = new Map();
  for (const item of items) {
    const h = Number(timeOf(item.at, zone).slice(0, 2));
    out.set(h, [...(out.get(h) ?? []), item]);
  }
  return out;
}

function lanes(v) {
  const days = weekDays(v.date);
  const all = lanesOf(v.items, v.characters);
  if (!all.length) return nothing(v);
  return html`<div class="cal-lanes" role="grid" aria-labelledby="cal-title"><div role="row" class="cal-days"><span role="columnheader" class="cal-lane"><span class="visually-hidden">Character</span></span>${days.map((d) => html`<span role="columnheader" class="${d === v.today ? "is-today" : ""}">${dayWords(d, { weekday: "short" })} <b>${Number(d.slice(8))}</b></span>`)}</div>
    ${all.map((lane) => {
      const found = byDay(lane.items, v.zone);
      return html`<div role="row" class="cal-row" data-key="l-${lane.id}"><span role="rowheader" class="cal-lane">${avatar(lane.character ?? { id: lane.id, name: lane.name }, "s")}<span class="truncate">${lane.name}</span></span>${days.map((day) => {
        const items = found.get(day) ?? [];
        const id = `${lane.id}|${day}`;
        return html`<div role="gridcell" class="cal-cell ${day === v.today ? "is-today" : ""} ${slotAt(day, null, v.zone, v.now) ? "" : "is-over"}" data-key="c-${id}" data-cell="${id}" data-day="${day}" data-lane="${lane.id}" ${attrs({ tabindex: v.focus === id ? 0 : -1, "aria-label": `${lane.name}, ${dayWords(day, { weekday: "long", day: "numeric", month: "long" })}, ${items.length ? plural(items.length, "entry", "entries") : "empty"}` })}>${items.slice(0, shownOf(items.length, 5)).map((item) => entry(item, v))}${items.length > 5 && html`<button type="button" class="cal-more" data-action="day" data-day="${day}" data-key="more">+${items.length - 4} more</button>`}</div>`;
      })}</div>`;
    })}</div>`;
}

const nothing = (v) =>
  emptyState({
    icon: "calendar",
    title: v.characterId ? "Nothing is planned for this character" : "Nothing is planned",
    text: "Schedule a post, or let a scheduled task make posts by itself.",
    action: { label: "New post", action: "new", icon: "plus", needs: "publish" },
  });

function list(v) {
  const found = byDay(v.items, v.zone);
  if (!found.size) return nothing(v);
  return html`<div class="cal-list">${[...found].map(([day, items]) => html`<section data-key="d-${day}" class="${day === v.today ? "is-today" : ""}"><h3>${dayWords(day, { weekday: "long", day: "numeric", month: "long" })}${day === v.today && html` <span class="badge badge-accent">Today</span>`}<span class="muted small">${plural(items.length, "entry", "entries")}</span></h3><ul class="cal-entries">${items.map((item) => html`<li data-key="li-${keyOf(item)}">${entry(item, v, { wide: true })}</li>`)}</ul></section>`)}</div>`;
}

