/**
 * The loss of a training over its steps: each step, smoothed, and on held-out pictures; linear or logarithmic.
 * Property: `data` {points: [{step, loss, lr?}], validation: [{step, loss}], base: number|null, totalSteps, marks: [{step, label}]}.
 * Lines differ by colour, dash and mark, and carry their names; the same numbers stand in a table. Remembers how it was set.
 */
import { attrs, html, icon } from "../html.js";
import { render } from "../dom.js";
import { number } from "../format.js";
import { prefs } from "../prefs.js";

const finite = (v) => typeof v === "number" && Number.isFinite(v);
const digits = (v) => (finite(v) ? (v !== 0 && Math.abs(v) < 0.001 ? v.toExponential(1) : v.toFixed(4)) : "–");

/** A running mean that forgets: `amount` 0 (nothing) to 0.99. Unbiased at the start; gaps stay gaps. */
export function smooth(values, amount) {
  let sum = 0,
    weight = 0;
  return values.map((value) => {
    if (!finite(value)) return null;
    sum = sum * amount + value * (1 - amount);
    weight = weight * amount + (1 - amount);
    return weight ? sum / weight : value;
  });
}

/** The value below which the share `q` of all values lies. */
export function quantile(values, q) {
  const sorted = values.filter(finite).sort((a, b) => a - b);
  if (!sorted.length) return null;
  const at = (sorted.length - 1) * q,
    low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** Round values between two ends, both kinds of scale. @returns {number[]} */
export function ticks(low, high, count = 5, log = false) {
  if (!finite(low) || !finite(high) || high <= low) return finite(low) ? [low] : [];
  if (log) {
    const out = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
      for (const m of [1, 2, 5]) {
        const value = Number((m * 10 ** power).toPrecision(6));
        if (value >= low && value <= high) out.push(value);
      }
    const tens = out.filter((value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6);
    if (out.length >= 2) return out.length > count + 3 && tens.length > 1 ? tens : out;
  }
  const raw = (high - low) / count,
    unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw) ?? raw;
  const out = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) out.push(Number((n * step).toPrecision(10)));
  return out;
}

/** The ends of the loss axis. `clip` leaves single peaks outside. `series` are lists of values, the first the raw one. */
export function range(series, { clip = true, log = false } = {}) {
  const [raw = [], ...others] = series;
  const usable = (v) => finite(v) && (!log || v > 0);
  const own = raw.filter(usable);
  const rest = others.flat().filter(usable);
  if (!own.length && !rest.length) return null;
  const ends = own.length ? [clip && own.length > 8 ? quantile(own, 0.01) : Math.min(...own), clip && own.length > 8 ? quantile(own, 0.98) : Math.max(...own)] : [];
  let low = Math.min(...ends, ...rest),
    high = Math.max(...ends, ...rest);
  if (high === low) {
    const by = Math.abs(low) * 0.1 || 0.1;
    low -= log ? low / 10 : by;
    high += by;
  }
  if (log) return { low: low / 1.06, high: high * 1.06 };
  const room = (high - low) * 0.06;
  return { low: low >= 0 ? Math.max(0, low - room) : low - room, high: high + room };
}

/** Where a value stands between the ends, 0 (low) to 1 (high), cut off outside. */
export function place(value, { low, high }, log = false) {
  const f = log ? (Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low)) : (value - low) / (high - low);
  return Math.min(1, Math.max(0, f));
}

/** An SVG path through points, broken at gaps. @param {{x: number, y: number|null}[]} points */
export function pathOf(points) {
  let out = "",
    pen = "M";
  for (const { x, y } of points) {
    if (!finite(y)) {
      pen = "M";
      continue;
    }
    out += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return out;
}

/** The curve as rows of a table: means over equal stretches, with the held-out value that falls into each. */
export function tableRows(data, most = 24) {
  const points = data.points.filter((p) => finite(p.loss));
  const held = (data.validation ?? []).filter((v) => finite(v.loss));
  const stretches = Math.min(most, points.length);
  const rows = [];
  for (let n = 0; n < stretches; n += 1) {
    const part = points.slice(Math.floor((n * points.length) / stretches), Math.floor(((n + 1) * points.length) / stretches));
    const from = n === 0 ? -Infinity : rows[n - 1].to,
      to = n === stretches - 1 ? Infinity : part.at(-1).step;
    rows.push({
      from: part[0].step,
      to: part.at(-1).step,
      loss: part.reduce((sum, p) => sum + p.loss, 0) / part.length,
      held: held.filter((v) => v.step > from && v.step <= to).at(-1)?.loss ?? null,
      rate: part.at(-1).lr ?? null,
    });
  }
  return rows;
}

/** The whole chart in a sentence. */
export function describe(data) {
  const losses = smooth(data.points.map((p) => p.loss), 0.9).filter(finite);
  if (!losses.length) return "No step has been measured yet.";
  const parts = [`Loss over ${number(data.points.length)} measured steps, up to step ${number(data.points.at(-1).step)}: smoothed ${digits(losses[0])} at first, ${digits(losses.at(-1))} now.`];
  const held = (data.validation ?? []).filter((v) => finite(v.loss));
  if (held.length) {
    const best = held.reduce((a, b) => (b.loss < a.loss ? b : a));
    parts.push(`On held-out pictures ${digits(held.at(-1).loss)} now, best ${digits(best.loss)} at step ${number(best.step)}${finite(data.base) ? `; without the LoRA ${digits(data.base)}` : ""}.`);
  }
  return parts.join(" ");
}

const SERIES = [
  { key: "raw", label: "Each step" },
  { key: "smooth", label: "Smoothed" },
  { key: "held", label: "Held out" },
  { key: "base", label: "Without LoRA" },
];
const PARTS = { all: ["All", 0], half: ["Last half", 0.5], quarter: ["Last quarter", 0.75] };
const EDGE = { left: 52, right: 14, top: 12, bottom: 28 };

const Base = globalThis.HTMLElement ?? class {};
class LossChart extends Base {
  ownsContent = true;
  #data = { points: [], validation: [], base: null, totalSteps: 0, marks: [] };
  #how = { log: false, smooth: 80, clip: true, part: "all", hidden: [], ...prefs.get("lossChart", {}) };
  #width = 640;
  #at = null;
  #frame = 0;
  #observer = null;

  set data(data) {
    this.#data = { points: [], validation: [], base: null, totalSteps: 0, marks: [], ...data };
    this.#soon();
  }
  get data() {
    return this.#data;
  }

  connectedCallback() {
    if (!this.firstElementChild)
      render(this, html`<div class="lc-tools"></div><p class="lc-read small" aria-live="off"></p><div class="lc-plot"></div><div class="lc-foot"></div>`);
    this.#observer = new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width && width !== this.#width) {
        this.#width = width;
        this.#soon();
      }
    });
    this.#observer.observe(this);
    if (!this.dataset.ready) this.#listen();
    this.dataset.ready = "1";
    this.#soon();
  }
  disconnectedCallback() {
    this.#observer?.disconnect();
  }

  #listen() {
    this.addEventListener("click", (event) => {
      const el = event.target.closest("[data-lc]");
      if (!el) return;
      const { lc, value } = el.dataset;
      if (lc === "scale") this.#set({ log: value === "log" });
      if (lc === "part") this.#set({ part: value });
      if (lc === "series") this.#set({ hidden: this.#how.hidden.includes(value) ? this.#how.hidden.filter((k) => k !== value) : [...this.#how.hidden, value] });
    });
    this.addEventListener("input", (event) => {
      const el = event.target;
      if (el.dataset.lcInput === "smooth") this.#set({ smooth: Number(el.value) });
      if (el.dataset.lcInput === "clip") this.#set({ clip: el.checked });
      if (el.dataset.lcInput === "at") {
        this.#at = Number(el.value);
        this.#draw();
      }
    });
    const plot = this.querySelector(".lc-plot");
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const { low, high } = this.#span();
      const f = (event.clientX - box.left - EDGE.left) / Math.max(1, box.width - EDGE.left - EDGE.right);
      if (f < 0 || f > 1) return;
      this.#at = Math.round(low + f * (high - low));
      this.#soon();
    });
    plot.addEventListener("pointerleave", () => {
      this.#at = null;
      this.#soon();
    });
  }
  #set(change) {
    this.#how = { ...this.#how, ...change };
    prefs.set("lossChart", this.#how);
    this.#draw();
  }
  #soon() {
    if (this.isConnected)
      this.#frame ||= requestAnimationFrame(() => {
        this.#frame = 0;
        if (this.isConnected) this.#draw();
      });
  }
  /** The steps that are shown. */
  #span() {
    const { points, totalSteps } = this.#data;
    const last = points.at(-1)?.step ?? 0,
      first = points[0]?.step ?? 0;
    const [, share] = PARTS[this.#how.part] ?? PARTS.all;
    if (share) return { low: Math.floor(first + (last - first) * share), high: Math.max(last, 1) };
    return { low: 0, high: Math.max(totalSteps || 0, last, 1) };
  }

  #draw() {
    const how = this.#how,
      { points, validation, base, marks } = this.#data;
    const show = (key) => !how.hidden.includes(key);
    const span = this.#span();
    const peak = how.clip && points.length > 8 ? quantile(points.map((p) => p.loss), 0.99) : Infinity;
    const smoothed = smooth(points.map((p) => (finite(p.loss) ? Math.min(p.loss, peak) : null)), how.smooth / 100);
    const inside = points.map((p, i) => ({ ...p, soft: smoothed[i] })).filter((p) => p.step >= span.low && p.step <= span.high);
    const held = validation.filter((v) => finite(v.loss) && v.step >= span.low && v.step <= span.high);
    const has = { raw: inside.length > 0, smooth: inside.length > 1, held: held.length > 0, base: finite(base) };
    render(this.querySelector(".lc-tools"), this.#tools(has));
    this.querySelectorAll("[data-lc-input]").forEach((el) => {
      if (el.dataset.lcInput === "smooth" && el !== document.activeElement) el.value = how.smooth;
      if (el.dataset.lcInput === "clip") el.checked = how.clip;
    });
    const axis = range(
      [show("raw") ? inside.map((p) => p.loss) : [], show("smooth") || !show("raw") ? inside.map((p) => p.soft) : [], show("held") ? held.map((v) => v.loss) : [], show("base") && has.base ? [base] : []],
      { clip: how.clip, log: how.log },
    );
    const plot = this.querySelector(".lc-plot");
    if (!axis || !inside.length) {
      render(plot, html`<p class="lc-none muted">${points.length ? "Nothing to show: switch a line on." : "The curve begins with the first step."}</p>`);
      render(this.querySelector(".lc-foot"), html``);
      this.querySelector(".lc-read").textContent = "";
      return;
    }
    const w = this.#width,
      h = w < 480 ? 210 : 270;
    const px = (step) => EDGE.left + ((step - span.low) / Math.max(1, span.high - span.low)) * (w - EDGE.left - EDGE.right);
    const py = (value) => (finite(value) && (!how.log || value > 0) ? h - EDGE.bottom - place(value, axis, how.log) * (h - EDGE.top - EDGE.bottom) : null);
    const line = (rows, key) => pathOf(rows.map((r) => ({ x: px(r.step), y: py(r[key]) })));
    const near = this.#at === null ? null : inside.reduce((a, b) => (Math.abs(b.step - this.#at) < Math.abs(a.step - this.#at) ? b : a));
    const heldNear = near && held.length ? held.reduce((a, b) => (Math.abs(b.step - near.step) < Math.abs(a.step - near.step) ? b : a)) : null;
    render(
      plot,
      html`<svg class="lc-svg" viewBox="0 0 ${w} ${h}" ${attrs({ width: w, height: h, role: "img", "aria-label": describe(this.#data) })}>
      ${ticks(axis.low, axis.high, 5, how.log).map((t) => html`<g class="lc-tick"><line x1="${EDGE.left}" x2="${w - EDGE.right}" y1="${py(t)}" y2="${py(t)}"/><text x="${EDGE.left - 6}" y="${py(t) + 4}" text-anchor="end">${Number(t.toPrecision(3))}</text></g>`)}
      ${ticks(span.low, span.high, w < 480 ? 3 : 6)
        .filter((t) => Number.isInteger(t))
        .map((t) => html`<text class="lc-step" x="${px(t)}" y="${h - 8}" text-anchor="middle">${number(t)}</text>`)}
      ${marks.filter((m) => m.step >= span.low && m.step <= span.high).map((m) => html`<line class="lc-mark" x1="${px(m.step)}" x2="${px(m.step)}" y1="${EDGE.top}" y2="${h - EDGE.bottom}"><title>${m.label}</title></line>`)}
      ${show("base") && has.base && html`<line class="lc-base" x1="${EDGE.left}" x2="${w - EDGE.right}" y1="${py(base)}" y2="${py(base)}"/>`}
      ${show("raw") && html`<path class="lc-raw" d="${line(inside, "loss")}"/>`}
      ${show("smooth") && html`<path class="lc-smooth" d="${line(inside, "soft")}"/>`}
      ${show("held") && html`<path class="lc-held" d="${line(held, "loss")}"/>${held.map((v) => html`<circle class="lc-dot" cx="${px(v.step).toFixed(1)}" cy="${py(v.loss).toFixed(1)}" r="3.5"/>`)}`}
      ${near && html`<line class="lc-cross" x1="${px(near.step)}" x2="${px(near.step)}" y1="${EDGE.top}" y2="${h - EDGE.bottom}"/>${py(near.soft) !== null && html`<circle class="lc-here" cx="${px(near.step)}" cy="${py(near.soft)}" r="4"/>`}`}</svg>`,
    );
    const now = near ?? inside.at(-1);
    const heldNow = heldNear ?? held.at(-1);
    this.querySelector(".lc-read").textContent = `Step ${number(now.step)}: loss ${digits(now.loss)}, smoothed ${digits(now.soft)}${heldNow ? `, held out ${digits(heldNow.loss)} (step ${number(heldNow.step)})` : ""}${finite(now.lr) ? `, learning rate ${now.lr.toPrecision(2)}` : ""}`;
    this.#foot(inside, now);
  }

  #tools(has) {
    const how = this.#how;
    const button = (lc, value, label, on) => html`<button type="button" data-lc="${lc}" data-value="${value}" aria-pressed="${String(on)}">${label}</button>`;
    return html`<div class="row lc-series" role="group" aria-label="Lines">${SERIES.filter((s) => has[s.key]).map((s) => html`<button type="button" class="chip" data-key="${s.key}" data-lc="series" data-value="${s.key}" aria-pressed="${String(!how.hidden.includes(s.key))}"><svg class="lc-key" viewBox="0 0 24 8" aria-hidden="true"><line class="lc-${s.key === "held" ? "held" : s.key}" x1="0" x2="24" y1="4" y2="4"/>${s.key === "held" && html`<circle class="lc-dot" cx="12" cy="4" r="3"/>`}</svg>${s.label}</button>`)}</div><span class="spacer"></span>
      <label class="lc-slide small">Smoothing <input type="range" min="0" max="98" step="1" data-lc-input="smooth"></label>
      <label class="check small"><input type="checkbox" data-lc-input="clip" name="clip">Cut peaks</label>
      <div class="segmented" role="group" aria-label="Steps shown">${Object.entries(PARTS).map(([key, [label]]) => button("part", key, label, how.part === key))}</div>
      <div class="segmented" role="group" aria-label="Scale of the loss">${button("scale", "linear", "Linear", !how.log)}${button("scale", "log", "Log", how.log)}</div>`;
  }
  #foot(inside, now) {
    const foot = this.querySelector(".lc-foot");
    render(
      foot,
      html`<label class="lc-at small"><span>Read off at step</span><input type="range" data-lc-input="at" min="${inside[0].step}" max="${inside.at(-1).step}" step="1" value="${now.step}" aria-valuetext="${this.querySelector(".lc-read").textContent}"></label>
      <details class="lc-details"><summary class="small">${icon("list")}As a table</summary><div class="lc-table" tabindex="0" role="region" aria-label="Loss as a table"><table class="table"><caption class="visually-hidden">${describe(this.#data)}</caption><thead><tr><th scope="col">Steps</th><th scope="col" class="end">Loss</th><th scope="col" class="end">Held out</th><th scope="col" class="end">Learning rate</th></tr></thead>
      <tbody>${tableRows(this.#data).map((r) => html`<tr><td data-label="Steps">${r.from === r.to ? number(r.to) : `${number(r.from)} to ${number(r.to)}`}</td><td class="end" data-label="Loss">${digits(r.loss)}</td><td class="end" data-label="Held out">${digits(r.held)}</td><td class="end" data-label="Learning rate">${finite(r.rate) ? r.rate.toPrecision(2) : "–"}</td></tr>`)}</tbody></table></div></details>`,
    );
    const slider = foot.querySelector("[data-lc-input=at]");
    if (slider !== document.activeElement) slider.value = now.step;
  }
}
globalThis.customElements?.define("loss-chart", LossChart);
