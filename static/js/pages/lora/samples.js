/** The sample pictures of a run: one slider through the steps, two steps side by side, or all at once. */
import { openDialog } from "../../components/confirm-dialog.js";
import { emptyState } from "../../components/states.js";
import { onAction, render } from "../../dom.js";
import { number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { likenessLine, likenessRow } from "./likeness.js";

/**
 * Samples as a grid. @param {any[]} samples {step, index, prompt, seed, withTrigger, fileUrl}
 * @returns {{steps: number[], prompts: {key: string, prompt: string, seed: number, withTrigger: boolean}[], at: (step: number, key: string) => any}}
 */
export function gridOf(samples) {
  const steps = [...new Set(samples.map((s) => s.step))].sort((a, b) => a - b);
  const prompts = new Map();
  const cells = new Map();
  for (const s of [...samples].sort((a, b) => a.index - b.index)) {
    const key = `${s.index}${s.withTrigger === false ? "-plain" : ""}`;
    if (!prompts.has(key)) prompts.set(key, { key, prompt: s.prompt, seed: s.seed, withTrigger: s.withTrigger !== false });
    cells.set(`${s.step} ${key}`, s);
  }
  return { steps, prompts: [...prompts.values()], at: (step, key) => cells.get(`${step} ${key}`) ?? null };
}
/** Why there are no samples, and when there will be. @param {boolean} running @param {number} [every] steps; 0: none */
export function noneYet(running, every) {
  if (!running) return "No sample pictures were drawn in this run.";
  if (every === 0) return "This run draws none by itself. “Sample now” draws them from the step it has reached.";
  return `The first ones are drawn before the training begins, then ${every ? `every ${plural(every, "step")}` : "at every quarter of it"}.`;
}
const stepName = (step) => (step === 0 ? "Before training" : `Step ${number(step)}`);

/** One sample large; ← and → go through the steps of its prompt. @param {any[]} items all samples of one prompt */
function enlarge(items, index) {
  let at = index;
  const body = document.createElement("div");
  body.className = "lo-large";
  const { dialog } = openDialog({
    title: "Sample",
    size: "l",
    body: html`<div class="lo-large-slot"></div>`,
    footer: html`<button type="button" class="btn" data-by="-1">${icon("arrow-left")}Earlier</button><button type="button" class="btn" data-by="1">Later${icon("arrow-right")}</button>`,
    onOpen: (d) => d.querySelector(".lo-large-slot").replaceWith(body),
  });
  const show = (by = 0) => {
    at = Math.max(0, Math.min(items.length - 1, at + by));
    const s = items[at];
    render(body, html`<img src="${s.fileUrl}" alt="${s.prompt}"><p role="status"><strong>${stepName(s.step)}</strong> <span class="muted">${s.prompt} · seed ${s.seed}${s.withTrigger === false && " · without the trigger word"}</span></p>`);
    dialog.querySelector('[data-by="-1"]').disabled = at === 0;
    dialog.querySelector('[data-by="1"]').disabled = at === items.length - 1;
  };
  dialog.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-by]");
    if (button) show(Number(button.dataset.by));
  });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    show(by);
  });
  show();
}

/** @param {HTMLElement} root */
export function samplesSection(root) {
  let grid = gridOf([]),
    at = null, // null: the newest
    other = null, // a step's number or "" for nothing; null: what it was like before, once the run has ended
    all = false,
    running = false,
    every,
    points = [],
    likeness = [],
    used = null; // step of the LoRA that went onto the shelf

  const step = () => (at !== null && grid.steps.includes(at) ? at : grid.steps.at(-1));
  const cell = (prompt, s) => {
    const sample = grid.at(s, prompt.key);
    return sample
      ? html`<button type="button" class="lo-sample" data-action="sample-open" data-step="${s}" data-prompt="${prompt.key}" aria-label="${stepName(s)}: ${prompt.prompt}. Open large"><img src="${sample.fileUrl}" alt="" loading="lazy" decoding="async"></button>`
      : html`<span class="lo-sample is-missing small muted">${running && s === grid.steps.at(-1) ? "being drawn" : "not drawn"}</span>`;
  };
  const title = (p) => html`<span class="clamp-2">${p.prompt || "(no words)"}</span><span class="small muted">${p.withTrigger ? "" : "without the trigger word · "}seed ${p.seed}</span>`;

  /** What can be done with the LoRA of a step: it is used here, not looked for among the checkpoints. */
  function pointOf(now) {
    if (!now || !points.length) return "";
    const nearest = points.reduce((best, c) => (Math.abs(c.step - now) < Math.abs(best.step - now) ? c : best));
    if (nearest.step === now && now === used) return html`<p class="small muted lo-step-use">The LoRA on the shelf is the one of this step.</p>`;
    const use = html`<button type="button" class="btn btn-small" data-action="point-use" data-needs="write" data-step="${nearest.step}">Use step ${number(nearest.step)}</button>`;
    return html`<p class="row small lo-step-use">${nearest.step === now ? "" : html`<span class="muted">The nearest checkpoint that was kept is step ${number(nearest.step)}.</span>`}${use}</p>`;
  }

  function paint() {
    if (!grid.steps.length) {
      render(root, html`<header class="panel-head"><h2>Samples</h2></header>${emptyState({ icon: "image", title: "No samples yet", text: noneYet(running, every), compact: true })}`);
      return;
    }
    const now = step();
    const i = grid.steps.indexOf(now);
    const wanted = other ?? (running || now === 0 || !grid.steps.includes(0) ? "" : 0);
    const against = wanted !== "" && grid.steps.includes(Number(wanted)) ? Number(wanted) : null;
    render(
      root,
      html`<header class="panel-head"><h2>Samples</h2><div class="segmented" role="group" aria-label="View"><button type="button" data-action="samples-view" data-value="" aria-pressed="${String(!all)}">${icon("image")}One step</button><button type="button" data-action="samples-view" data-value="all" aria-pressed="${String(all)}">${icon("grid")}All steps</button></div></header>
      ${
        all
          ? html`<div class="lo-matrix" tabindex="0" role="region" aria-label="Samples of all steps"><table><thead><tr><th scope="col"><span class="visually-hidden">Prompt</span></th>${grid.steps.map((s) => html`<th scope="col" class="small nowrap">${s === 0 ? "Before" : number(s)}</th>`)}</tr></thead><tbody>${likenessRow(likeness, grid.steps)}${grid.prompts.map((p) => html`<tr data-key="${p.key}"><th scope="row" class="small">${title(p)}</th>${grid.steps.map((s) => html`<td>${cell(p, s)}</td>`)}</tr>`)}</tbody></table></div>`
          : html`<div class="lo-steps"><button type="button" class="icon-btn" data-action="sample-step" data-by="-1" aria-label="Earlier samples" ${attrs({ disabled: i <= 0 })}>${icon("arrow-left")}</button><input type="range" min="0" max="${Math.max(0, grid.steps.length - 1)}" step="1" value="${i}" data-samples="at" aria-label="Step of the samples" aria-valuetext="${stepName(now)}" ${attrs({ disabled: grid.steps.length < 2 })}><button type="button" class="icon-btn" data-action="sample-step" data-by="1" aria-label="Later samples" ${attrs({ disabled: i >= grid.steps.length - 1 })}>${icon("arrow-right")}</button><strong class="lo-step-name" role="status">${stepName(now)}</strong>
          <label class="lo-against small">Beside it <select data-samples="other"><option value="">nothing</option>${grid.steps.map((s) => html`<option ${attrs({ value: s, selected: s === against })}>${stepName(s)}</option>`)}</select></label></div>${likenessLine(likeness, now, stepName)}
          <ul class="lo-samples ${against === null ? "" : "is-pair"}">${grid.prompts.map((p) => html`<li data-key="${p.key}"><div class="lo-pair">${against !== null && html`<figure>${cell(p, against)}<figcaption class="small muted">${stepName(against)}</figcaption></figure>`}<figure>${cell(p, now)}${against !== null && html`<figcaption class="small muted">${stepName(now)}</figcaption>`}</figure></div><p class="lo-prompt small">${title(p)}</p></li>`)}</ul>${pointOf(now)}`
      }`,
    );
    const slider = root.querySelector("[data-samples=at]");
    if (slider) slider.value = i; // also one that has the focus: the newest step moves on
  }
  const go = (i) => {
    const next = Math.max(0, Math.min(grid.steps.length - 1, i));
    at = next === grid.steps.length - 1 ? null : grid.steps[next];
    paint();
  };
  root.addEventListener("input", ({ target }) => {
    if (target.dataset.samples === "at") go(Number(target.value));
  });
  root.addEventListener("change", ({ target }) => {
    if (target.dataset.samples !== "other") return;
    other = target.value;
    paint();
  });
  onAction(root, {
    "samples-view": (_e, el) => {
      all = el.dataset.value === "all";
      paint();
    },
    "sample-step": (_e, el) => go(grid.steps.indexOf(step()) + Number(el.dataset.by)),
    "sample-open": (_e, el) => {
      const items = grid.steps.map((s) => grid.at(s, el.dataset.prompt)).filter(Boolean);
      enlarge(items, items.findIndex((s) => s.step === Number(el.dataset.step)));
    },
  });
  return {
    show(samples, { active, checkpoints, usedStep, sampleEvery, resemblances }) {
      likeness = resemblances ?? [];
      every = sampleEvery;
      grid = gridOf(samples ?? []);
      running = active;
      points = checkpoints;
      used = usedStep;
      paint();
    },
  };
}
