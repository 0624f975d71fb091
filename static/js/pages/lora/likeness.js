/** How like the training pictures the samples are, step by step, as a line and in words. */
import { number } from "../../format.js";
import { html } from "../../html.js";

const finite = (v) => typeof v === "number" && Number.isFinite(v);
const two = (v) => v.toFixed(2).replace("-", "−");
const FACE = [
  [0.6, "clearly the person"],
  [0.45, "likely the person"],
  [0.363, "a little like the person"],
  [-Infinity, "not the person"],
];

/**
 * The line that is shown: of faces where they were measured at two steps, else of whole pictures. Pure.
 * @param {{step: number, pictures: number|null, faces: number|null, training?: {pictures: number|null, faces: number|null}}[]} rows
 * @returns {{kind: "faces"|"pictures", points: {step: number, value: number}[], among: number|null}} among: the training pictures
 */
export function lineOf(rows) {
  const kind = rows.filter((r) => finite(r.faces)).length > 1 ? "faces" : "pictures";
  const points = rows.filter((r) => finite(r[kind])).map((r) => ({ step: r.step, value: r[kind] }));
  return { kind, points: points.sort((a, b) => a.step - b.step), among: rows.at(-1)?.training?.[kind] ?? null };
}
/** What a face's similarity means; the bounds were measured on photographs. Pure. */
export const faceWords = (value) => FACE.find(([from]) => value >= from)[1];

/** The line with the step that is looked at. @param {any[]} rows run.resemblances @param {number} now @param {(step: number) => string} stepName */
export function likenessLine(rows, now, stepName) {
  const { kind, points, among } = lineOf(rows);
  if (points.length < 2) return "";
  const values = points.map((p) => p.value);
  const low = Math.min(...values, 0),
    high = Math.max(...values, low + 0.1);
  const last = points.at(-1).step || 1;
  const x = (p) => Number(((p.step / last) * 194 + 3).toFixed(1));
  const y = (p) => Number((41 - ((p.value - low) / (high - low)) * 36).toFixed(1));
  const here = points.find((p) => p.step === now);
  const first = points[0];
  const said = `${kind === "faces" ? "Face" : "Likeness"}: ${points.map((p) => `${two(p.value)} at step ${number(p.step)}`).join(", ")}.`;
  const what =
    kind === "faces"
      ? "How much the faces in the samples are the one in the training pictures."
      : "How like the training pictures the samples with the trigger word are, seen from what the model drew before.";
  return html`<figure class="lo-line"><svg class="chart chart-1" viewBox="0 0 200 44" preserveAspectRatio="none" role="img" aria-label="${said}"><polyline points="${points.map((p) => `${x(p)},${y(p)}`).join(" ")}" vector-effect="non-scaling-stroke"></polyline>${here && html`<line class="lo-line-here" x1="${x(here)}" x2="${x(here)}" y1="0" y2="44" vector-effect="non-scaling-stroke"></line>`}</svg>
    <figcaption class="small"><strong>${kind === "faces" ? "Face" : "Likeness"}</strong> ${here ? html`<span class="lo-line-now">${two(here.value)}</span>${kind === "faces" && html`, ${faceWords(here.value)}`}${here !== first && html` <span class="muted">(${two(first.value)} ${stepName(first.step).toLowerCase()})</span>`}` : html`<span class="muted">not measured at this step</span>`}<span class="muted lo-line-what">${what}${finite(among) && ` The training pictures among themselves: ${two(among)}.`}</span></figcaption></figure>`;
}
/** A row of the table of all steps. @param {any[]} rows @param {number[]} steps */
export function likenessRow(rows, steps) {
  const { kind, points } = lineOf(rows);
  if (points.length < 2) return "";
  const at = new Map(points.map((p) => [p.step, p.value]));
  return html`<tr data-key="likeness"><th scope="row" class="small">${kind === "faces" ? "Face" : "Likeness"}</th>${steps.map((s) => html`<td class="small lo-line-now">${at.has(s) ? two(at.get(s)) : "–"}</td>`)}</tr>`;
}
