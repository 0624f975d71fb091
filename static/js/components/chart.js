/** A small area chart as SVG markup, readable in both themes. Template function for html``. */
import { html } from "../html.js";

/**
 * The points of a line in a 0..width × 0..height box, newest at the right edge; gaps (null) start a new piece. Pure.
 * @param {(number|null|undefined)[]} values @param {{max: number, width?: number, height?: number, slots?: number}} box slots: how many fit the width
 * @returns {string[]} one "x,y x,y …" per piece
 */
export function points(values, { max, width = 200, height = 44, slots = values.length }) {
  const step = width / Math.max(1, slots - 1);
  const pieces = [];
  let piece = [];
  values.forEach((value, i) => {
    if (value === null || value === undefined || Number.isNaN(value)) {
      if (piece.length) pieces.push(piece);
      piece = [];
      return;
    }
    const x = width - (values.length - 1 - i) * step;
    const y = height - 1 - Math.max(0, Math.min(1, max ? value / max : 0)) * (height - 2);
    piece.push(`${Math.round(x * 10) / 10},${Math.round(y * 10) / 10}`);
  });
  if (piece.length) pieces.push(piece);
  return pieces.map((p) => p.join(" "));
}

/** @param {{values: (number|null)[], max?: number, label: string, slots?: number, tone?: 1|2}} chart label is read aloud */
export function areaChart({ values, max, label, slots = 60, tone = 1 }) {
  const known = values.filter((v) => typeof v === "number");
  const top = max ?? Math.max(1, ...known);
  const lines = points(values.slice(-slots), { max: top, slots });
  return html`<svg class="chart chart-${tone}" viewBox="0 0 200 44" preserveAspectRatio="none" role="img" aria-label="${label}">
    ${lines.map((line) => {
      const all = line.split(" ");
      const x = (p) => p.split(",")[0];
      return html`<polygon points="${x(all[0])},44 ${line} ${x(all.at(-1))},44"></polygon><polyline points="${line}" vector-effect="non-scaling-stroke"></polyline>`;
    })}</svg>`;
}
