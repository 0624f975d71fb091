/** Two pictures over each other with a slider between them, or side by side, and what differs in how they were made. */
import { html, icon } from "../../html.js";
import { element, onAction } from "../../dom.js";
import { plural } from "../../format.js";
import { altOf, fileUrl } from "../../components/media-grid.js";
import { differences } from "./query.js";

/** @param {any} a shown left @param {any} b shown right @returns {Promise<void>} resolves when closed */
export function openCompare(a, b) {
  const { rows, same } = differences(a, b);
  const dialog = element(html`<dialog class="viewer gl-compare" aria-label="Compare two pictures">
    <header class="viewer-bar"><h2>Compare</h2><span class="spacer"></span>
      <div class="segmented" role="group" aria-label="View"><button type="button" data-action="mode" data-value="slider" aria-pressed="true">${icon("compare")}Slider</button><button type="button" data-action="mode" data-value="sides" aria-pressed="false">${icon("grid")}Side by side</button></div>
      <button type="button" class="icon-btn" data-action="swap" aria-label="Swap sides" title="Swap sides">${icon("refresh")}</button><button type="button" class="icon-btn" data-action="close" aria-label="Close (Esc)" title="Close (Esc)">${icon("x")}</button></header>
    <div class="gl-compare-stage"><div class="gl-compare-box"><img class="gl-under" draggable="false"><img class="gl-over" draggable="false"><span class="gl-divider" aria-hidden="true">${icon("compare")}</span>
      <label class="visually-hidden" for="gl-split">How much of the left picture shows, in percent</label><input id="gl-split" type="range" min="0" max="100" step="0.5" value="50"></div></div>
    <footer class="gl-compare-facts"><p class="muted">${rows.length ? `${plural(rows.length, "difference")}, ${same} the same` : "Both were made the same way."}</p>${rows.length > 0 && html`<div class="gl-diff" tabindex="0"><table><thead><tr><th scope="col"><span class="visually-hidden">What</span></th><th scope="col">Left</th><th scope="col">Right</th></tr></thead><tbody>${rows.map((r) => html`<tr><th scope="row">${r.label}</th><td data-side="a">${r.a}</td><td data-side="b">${r.b}</td></tr>`)}</tbody></table></div>`}</footer></dialog>`);
  let sides = [a, b];
  const box = dialog.querySelector(".gl-compare-box"),
    range = dialog.querySelector("#gl-split");
  const place = () => {
    box.style.setProperty("--split", `${range.value}%`);
  };
  const show = () => {
    const [over, under] = [dialog.querySelector(".gl-over"), dialog.querySelector(".gl-under")];
    over.src = fileUrl(sides[0]);
    over.alt = `Left: ${altOf(sides[0]).slice(0, 120)}`;
    under.src = fileUrl(sides[1]);
    under.alt = `Right: ${altOf(sides[1]).slice(0, 120)}`;
  };
  onAction(dialog, {
    close: () => dialog.close(),
    swap: () => {
      sides = [sides[1], sides[0]];
      show();
      for (const tr of dialog.querySelectorAll(".gl-diff tr")) if (tr.cells[2]) tr.insertBefore(tr.cells[2], tr.cells[1]);
      const heads = dialog.querySelectorAll(".gl-diff thead th");
      if (heads.length) {
        heads[1].textContent = "Left";
        heads[2].textContent = "Right";
      }
    },
    mode: (_e, el) => {
      dialog.querySelectorAll("[data-action=mode]").forEach((b) => b.setAttribute("aria-pressed", String(b === el)));
      box.classList.toggle("is-sides", el.dataset.value === "sides");
      range.hidden = el.dataset.value === "sides";
    },
  });
  range.addEventListener("input", place);
  place();
  show();
  document.body.append(dialog);
  dialog.showModal();
  range.focus();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    }),
  );
}
