/** CPU, memory, GPU, disk and the queue over two minutes, an hour or a day, with their numbers in words. Pure but for `html`. */
import { attrs, html, icon } from "../../html.js";
import { bytes, clock, number, percent, plural } from "../../format.js";

const W = 240,
  H = 56;

/** Name → seconds it covers, seconds between two points, how it is called. */
export const SPANS = {
  "2m": { seconds: 120, every: 2, label: "2 min", words: "the last two minutes" },
  "1h": { seconds: 3600, every: 20, label: "1 h", words: "the last hour" },
  "24h": { seconds: 86_400, every: 300, label: "24 h", words: "the last day" },
};

/** What each chart shows: `value(sample)`, null where there is nothing; 0..1 unless the chart has a `top`. */
export const CHARTS = [
  {
    key: "cpu",
    label: "CPU",
    icon: "cpu",
    value: (s) => (s.cpu === undefined ? null : s.cpu / 100),
    now: (s) => percent(s.cpu / 100),
    note: (s) => (s.processMemory ? `This app uses ${bytes(s.processMemory)} of memory` : ""),
  },
  {
    key: "memory",
    label: "Memory",
    icon: "memory",
    value: (s) => (s.memoryTotal ? s.memoryUsed / s.memoryTotal : null),
    now: (s) => percent(s.memoryUsed / s.memoryTotal),
    note: (s) => `${bytes(s.memoryUsed)} of ${bytes(s.memoryTotal)}`,
  },
  {
    key: "gpu",
    label: "GPU",
    icon: "gpu",
    value: (s) => (s.gpu === undefined ? null : s.gpu / 100),
    second: (s) => (s.gpuMemoryTotal ? s.gpuMemoryUsed / s.gpuMemoryTotal : null),
    now: (s) => percent(s.gpu / 100),
    note: (s) =>
      `${s.gpuName}, ${bytes(s.gpuMemoryUsed)} of ${bytes(s.gpuMemoryTotal)} (dashed)${s.gpuTemperature ? `, ${Math.round(s.gpuTemperature)} °C` : ""}`,
    none: "No NVIDIA GPU was found. Drawing works without one, more slowly.",
  },
  {
    key: "disk",
    label: "Disk",
    icon: "disk",
    value: (s) => (s.diskTotal ? 1 - s.diskFree / s.diskTotal : null),
    now: (s) => percent(1 - s.diskFree / s.diskTotal),
    note: (s) => `${bytes(s.diskFree)} free of ${bytes(s.diskTotal)}`,
  },
  {
    key: "queue",
    label: "Queue",
    icon: "tasks",
    value: (s) => s.queued ?? null,
    second: (s) => s.running ?? null,
    now: (s) => number(s.queued),
    say: (v) => number(v),
    top: (samples) => Math.max(4, ...samples.map((s) => Math.max(s.queued ?? 0, s.running ?? 0))),
    note: (s) => `${plural(s.queued, "task")} waiting, ${number(s.running ?? 0)} running (dashed)`,
  },
];

/**
 * Points of a line, broken where nothing was measured for five steps.
 * @param {any[]} samples @param {(s: any) => number|null} value @param {number} end seconds since 1970 at the right edge
 * @param {{seconds?: number, every?: number, top?: number}} [scale] @returns {string} SVG path
 */
export function path(samples, value, end, { seconds = 120, every = 2, top = 1 } = {}) {
  let out = "",
    before = -Infinity;
  for (const sample of samples) {
    const v = value(sample),
      at = Date.parse(sample.at) / 1000;
    if (v === null || at < end - seconds) continue;
    const x = W - ((end - at) / seconds) * W,
      y = H - 1 - Math.min(1, Math.max(0, v / top)) * (H - 2);
    out += `${at - before > 5 * every ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = at;
  }
  return out;
}

/** @param {any[]} samples oldest first @param {string} [name] of the span */
export function charts(samples, name = "2m") {
  const last = samples.at(-1),
    span = SPANS[name];
  const end = last ? Date.parse(last.at) / 1000 : 0;
  return html`${CHARTS.map((c) => {
    const known = samples.map(c.value).filter((v) => v !== null);
    const has = last && c.value(last) !== null;
    const scale = { seconds: span.seconds, every: span.every, top: c.top?.(samples) ?? 1 };
    const line = has ? path(samples, c.value, end, scale) : "";
    const area = line && !line.slice(1).includes("M") ? `${line}L${W} ${H}L${line.slice(1, line.indexOf(" "))} ${H}Z` : "";
    const say = c.say ?? percent;
    const words = has
      ? `${c.label} over ${span.words}: now ${c.now(last)}, lowest ${say(Math.min(...known))}, highest ${say(Math.max(...known))}`
      : `${c.label}: nothing measured`;
    return html`<figure class="panel mo-chart" data-key="${c.key}"><figcaption><span class="mo-chart-name">${icon(c.icon)}${c.label}</span><strong>${has ? c.now(last) : "–"}</strong></figcaption>
      ${has ? html`<svg class="mo-plot" viewBox="0 0 ${W} ${H}" preserveAspectRatio="none" role="img" aria-label="${words}"><path class="mo-rule" d="M0 ${H / 2}H${W}M0 .5H${W}M0 ${H - 0.5}H${W}"/>${area && html`<path class="mo-area" d="${area}"/>`}<path class="mo-line" d="${line}"/>${c.second && html`<path class="mo-line mo-line-2" d="${path(samples, c.second, end, scale)}"/>`}</svg>` : html`<p class="mo-none muted">${last ? (c.none ?? "Nothing was measured.") : "Measuring…"}</p>`}
      <p class="small muted mo-note" ${attrs({ title: has ? words : undefined })}>${has ? c.note(last) : html`&nbsp;`}</p></figure>`;
  })}`;
}

/** "19:02 to 20:02", from the first point that is there. */
export const span = (samples) => (samples.length > 1 ? `${clock(samples[0].at)} to ${clock(samples.at(-1).at)}` : "");
