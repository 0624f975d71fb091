/**
 * When something repeats: presets for people, the raw expression for everybody else, what it means, and the next runs.
 * Properties: `value` (five cron fields), `zone` (IANA name, "" = the default), `load(schedule, zone, signal)` → the answer of
 * GET /api/scheduler/preview (rejects with the refusal), `hint` (markup under the runs). `check()` asks again.
 * Emits `cron-field:change` {value, valid} (valid is null until the server has answered). Holds no form control with a name.
 */
import { attrs, html, icon } from "../html.js";
import { debounce, emit, onAction, render } from "../dom.js";

export const PRESETS = [
  ["daily", "Daily"],
  ["weekdays", "Weekdays"],
  ["weekly", "Weekly"],
  ["monthly", "Monthly"],
  ["hours", "Hourly"],
  ["custom", "Custom"],
];
const DAYS = [
  ["1", "Mon", "Monday"],
  ["2", "Tue", "Tuesday"],
  ["3", "Wed", "Wednesday"],
  ["4", "Thu", "Thursday"],
  ["5", "Fri", "Friday"],
  ["6", "Sat", "Saturday"],
  ["0", "Sun", "Sunday"],
];
export const EVERY = [1, 2, 3, 4, 6, 8, 12];
const NAMES = { sun: "0", mon: "1", tue: "2", wed: "3", thu: "4", fri: "5", sat: "6" };
const whole = (text, low, high) => /^\d{1,2}$/.test(text) && Number(text) >= low && Number(text) <= high;
const two = (n) => String(n).padStart(2, "0");

/** "At 18:00" leaves open which days; a person wants to read it. Pure. */
export const daily = (words) => (/^At \d\d:\d\d(, \d\d:\d\d)*( and \d\d:\d\d)?$/.test(words ?? "") ? `Every day at${words.slice(2)}` : words);

/** "in 2 h 05 min", "in 40 s", "due now", "3 min ago": short, for counting down. Pure. @param {string|Date} when @param {number} [now] */
export function until(when, now = Date.now()) {
  const at = new Date(when).getTime();
  if (when === null || when === undefined || Number.isNaN(at)) return "";
  const seconds = Math.round((at - now) / 1000);
  if (seconds > -60 && seconds <= 0) return "due now";
  const n = Math.abs(seconds);
  const text =
    n < 60
      ? `${n} s`
      : n < 3600
        ? `${Math.floor(n / 60)} min`
        : n < 86_400
          ? `${Math.floor(n / 3600)} h ${two(Math.floor((n % 3600) / 60))} min`
          : n < 14 * 86_400
            ? `${Math.floor(n / 86_400)} d ${Math.floor((n % 86_400) / 3600)} h`
            : `${Math.floor(n / 86_400)} days`;
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

/** "1-3,5,sun" → ["1","2","3","5","0"], null when it is anything more clever. */
function weekdays(text) {
  const out = [];
  for (const part of text.toLowerCase().split(",")) {
    const ends = part.split("-").map((end) => NAMES[end] ?? end);
    if (ends.length > 2 || !ends.every((end) => whole(end, 0, 7))) return null;
    const [from, to = from] = ends.map(Number);
    if (from > to) return null;
    for (let day = from; day <= to; day += 1) out.push(String(day % 7));
  }
  return DAYS.map(([day]) => day).filter((day) => out.includes(day));
}

const MACROS = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
};

/**
 * Which preset an expression is. Anything a preset cannot say is "custom". Pure.
 * @param {string} value @returns {{kind: string, time: string, days: string[], day: string, every: number, minute: number}}
 */
export function parse(value) {
  const base = { kind: "custom", time: "18:00", days: ["1"], day: "1", every: 6, minute: 0 };
  const text = String(value ?? "").trim();
  const fields = (MACROS[text.toLowerCase()] ?? text).split(/\s+/);
  if (fields.length !== 5) return base;
  const [minute, hour, day, month, weekday] = fields;
  if (!whole(minute, 0, 59) || month !== "*") return base;
  const every = hour === "*" ? 1 : hour.startsWith("*/") && whole(hour.slice(2), 1, 23) ? Number(hour.slice(2)) : 0;
  if (every && day === "*" && weekday === "*")
    return EVERY.includes(every) ? { ...base, kind: "hours", every, minute: Number(minute) } : base;
  if (!whole(hour, 0, 23)) return base;
  const timed = { ...base, time: `${two(hour)}:${two(minute)}` };
  if (day === "*" && weekday === "*") return { ...timed, kind: "daily" };
  if (weekday === "*") return whole(day, 1, 31) || day === "L" ? { ...timed, kind: "monthly", day: String(day) } : base;
  if (day !== "*") return base;
  const days = weekdays(weekday);
  if (!days?.length) return base;
  if (days.join() === "1,2,3,4,5") return { ...timed, kind: "weekdays", days };
  return { ...timed, kind: days.length === 7 ? "daily" : "weekly", days };
}

/** The expression of a preset; null when it is not complete. Pure. @param {ReturnType<typeof parse>} preset */
export function build(preset) {
  if (preset.kind === "hours") return `${preset.minute} ${Number(preset.every) === 1 ? "*" : `*/${preset.every}`} * * *`;
  const at = /^(\d{1,2}):(\d{2})/.exec(preset.time ?? "");
  if (!at) return null;
  const time = `${Number(at[2])} ${Number(at[1])}`;
  if (preset.kind === "daily") return `${time} * * *`;
  if (preset.kind === "weekdays") return `${time} * * 1-5`;
  if (preset.kind === "monthly") return `${time} ${preset.day} * *`;
  if (preset.kind === "weekly") {
    const days = [...preset.days].map(Number).sort((a, b) => a - b);
    return days.length ? `${time} * * ${days.join(",")}` : null;
  }
  return null;
}

const Base = globalThis.HTMLElement ?? class {};

export class CronField extends Base {
  ownsContent = true;
  load = null;
  hint = "";
  #value = "0 18 * * *";
  #zone = "";
  #preset = parse(this.#value);
  #answer = null;
  #refused = null;
  #running = null;
  #asking = false;

  set value(value) {
    this.#value = String(value ?? "").trim();
    this.#preset = parse(this.#value);
    this.#answer = null;
    this.#refused = null;
    this.#render();
    this.#ask();
  }
  get value() {
    return this.#value;
  }
  set zone(zone) {
    if ((zone ?? "") === this.#zone) return;
    this.#zone = zone ?? "";
    this.#ask();
  }
  get zone() {
    return this.#zone;
  }
  get answer() {
    return this.#answer;
  }
  get refused() {
    return this.#refused;
  }

  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "1";
    onAction(this, {
      preset: (_e, el) => this.#choose(el.dataset.kind),
      day: (_e, el) => {
        const days = this.#preset.days;
        const { day } = el.dataset;
        const next = days.includes(day) ? days.filter((d) => d !== day) : [...days, day];
        if (next.length) this.#from({ days: next }); // a week without a day would never come
      },
    });
    this.addEventListener("input", (event) => this.#typed(event.target));
    this.addEventListener("change", (event) => {
      if (event.target.tagName === "SELECT") this.#typed(event.target);
    });
    this.#render();
    this.timer = setInterval(() => this.#tick(), 15_000);
  }
  disconnectedCallback() {
    clearInterval(this.timer);
    this.#running?.abort();
    this.#ask.cancel();
  }
  check() {
    this.#ask();
    this.#ask.flush();
  }

  #choose(kind) {
    if (kind === "custom") {
      this.#preset = { ...this.#preset, kind };
      this.#render();
      this.querySelector("[data-raw]")?.focus();
    } else this.#from({ kind, ...(kind === "weekly" && this.#preset.kind === "weekdays" ? { days: ["1"] } : {}) });
  }
  #typed(el) {
    const { part } = el.dataset;
    if (el.matches("[data-raw]")) {
      this.#value = el.value.trim();
      this.#changed();
      return;
    }
    if (!part) return;
    this.#from({ [part]: part === "every" || part === "minute" ? Number(el.value) : el.value });
  }
  #from(changes) {
    this.#preset = { ...this.#preset, ...changes };
    const value = build(this.#preset);
    this.#render();
    if (value === null || value === this.#value) return;
    this.#value = value;
    const raw = this.querySelector("[data-raw]");
    if (raw) raw.value = value;
    this.#changed();
  }
  #changed() {
    emit(this, "cron-field:change", { value: this.#value, valid: null });
    this.#ask();
  }
  #ask = debounce(async () => {
    if (!this.load || !this.isConnected) return;
    this.#running?.abort();
    const mine = (this.#running = new AbortController());
    this.#asking = true;
    this.#render();
    try {
      this.#answer = await this.load(this.#value, this.#zone, mine.signal);
      this.#refused = null;
    } catch (error) {
      if (mine.signal.aborted) return;
      this.#refused = error;
      this.#answer = null;
    }
    if (mine.signal.aborted) return;
    this.#asking = false;
    this.#render();
    emit(this, "cron-field:change", { value: this.#value, valid: !this.#refused });
  }, 250);
  #tick() {
    const now = Date.now();
    for (const el of this.querySelectorAll("[data-until]")) el.textContent = until(el.dataset.until, now);
  }

  #controls() {
    const p = this.#preset;
    const time = html`<label class="cf-part">at<input type="time" data-part="time" value="${p.time}" required></label>`;
    if (p.kind === "daily" || p.kind === "weekdays") return time;
    if (p.kind === "weekly")
      return html`<div class="cf-days" role="group" aria-label="Days">${DAYS.map(([day, short, long]) => html`<button type="button" class="chip" data-action="day" data-day="${day}" aria-pressed="${String(p.days.includes(day))}" aria-label="${long}">${short}</button>`)}</div>${time}`;
    if (p.kind === "monthly")
      return html`<label class="cf-part">on day<select data-part="day">${Array.from({ length: 31 }, (_, i) => String(i + 1)).map((d) => html`<option ${attrs({ value: d, selected: d === p.day })}>${d}</option>`)}<option ${attrs({ value: "L", selected: p.day === "L" })}>the last</option></select></label>${time}${Number(p.day) > 28 && html`<span class="small muted">Months without a day ${p.day} are left out.</span>`}`;
    if (p.kind === "hours")
      return html`<label class="cf-part">every<select data-part="every">${EVERY.map((n) => html`<option ${attrs({ value: n, selected: n === p.every })}>${n === 1 ? "hour" : `${n} hours`}</option>`)}</select></label><label class="cf-part">at minute<input type="number" min="0" max="59" data-part="minute" value="${p.minute}"></label>`;
    return html`<div class="cf-raw"><input data-raw class="mono" aria-label="Cron expression" aria-describedby="cf-words cf-help" spellcheck="false" autocomplete="off" autocapitalize="off" value="${this.#value}" ${attrs({ "aria-invalid": this.#refused ? "true" : undefined })}><span class="small muted" id="cf-help">minute, hour, day of month, month, weekday (0 and 7 are Sunday)</span></div>`;
  }

  #render() {
    if (!this.dataset.ready) return;
    const a = this.#answer;
    const runs = a?.runs ?? (a?.nextRuns ?? []).map((utc) => ({ utc, local: utc }));
    const fault = this.#refused;
    const zone = a?.timezone ?? a?.zone ?? this.#zone;
    const zoned = fault?.errors?.[0]?.field === "timezone"; // said beside the zone, by its owner
    const message = fault && (zoned ? "The next runs need a time zone that exists." : (fault.errors?.[0]?.message ?? fault.message));
    render(
      this,
      html`<div class="segmented cf-presets" role="group" aria-label="How often">${PRESETS.map(([kind, label]) => html`<button type="button" data-action="preset" data-kind="${kind}" aria-pressed="${String(kind === this.#preset.kind)}">${label}</button>`)}</div>
      <div class="cf-controls" data-key="c-${this.#preset.kind}">${this.#controls()}</div>
      <p class="cf-words ${fault ? "is-refused" : ""}" id="cf-words" role="status">${fault ? html`${icon("alert")}<span><strong>${message}</strong>${!zoned && fault.remedy && html` ${fault.remedy}`}</span>` : a ? html`${icon("clock")}<span><strong>${daily(a.description)}</strong>${zone && html` <span class="muted">(${zone})</span>`} <code>${this.#value}</code></span>` : html`<span class="muted">${this.#asking ? "Reading…" : ""}</span>`}</p>
      ${(a?.notes ?? []).map((note) => html`<p class="cf-note">${icon("info")}<span>${note}</span></p>`)}
      ${runs.length > 0 && html`<section class="cf-runs" aria-label="Next runs"><h4>Next ${runs.length} runs</h4><div class="cf-scroll" tabindex="0" role="region" aria-label="Next runs, local time and UTC"><table><thead><tr><th scope="col">${zone || "Local"}</th><th scope="col">UTC</th><th scope="col" class="end">When</th></tr></thead><tbody>${runs.map((r) => html`<tr data-key="${r.utc}"><td><time datetime="${r.utc}">${localText(r)}</time>${r.note && html`<span class="cf-run-note">${icon("info")}${r.note}</span>`}</td><td class="muted">${utcText(r.utc)}</td><td class="end muted" data-until="${r.utc}">${until(r.utc)}</td></tr>`)}</tbody></table></div></section>`}
      ${this.hint}`,
    );
  }
}

/** "Sun 22 Nov, 09:00 +01:00" (the year when it is not this one) of {local: "2026-11-22T09:00:00+01:00", offset}. The wall clock is the server's: no zone maths here. Pure. */
export function localText({ local, offset }, year = new Date().getFullYear()) {
  const at = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(?::\d{2}(?:\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?/.exec(String(local ?? ""));
  if (!at) return String(local ?? "");
  const day = new Date(`${at[1]}T12:00:00Z`)
    .toLocaleDateString("en-GB", {
      weekday: "short",
      day: "numeric",
      month: "short",
      year: at[1].startsWith(`${year}-`) ? undefined : "numeric",
      timeZone: "UTC",
    })
    .replace(/^(\w+),/, "$1");
  const zone = offset ?? at[3] ?? "";
  return `${day}, ${at[2]}${zone ? ` ${zone === "Z" ? "UTC" : zone}` : ""}`;
}
/** "22 Nov, 08:00" in UTC. Pure. */
export function utcText(utc) {
  const at = new Date(utc);
  return Number.isNaN(at.getTime())
    ? String(utc)
    : at.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
}

globalThis.customElements?.define("cron-field", CronField);
