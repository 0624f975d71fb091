/** The left side: who, what, how large, how many, Generate. Markup only; studio.js holds the state. */
import { attrs, html, icon } from "../../html.js";
import { duration, middle, plural } from "../../format.js";
import { avatar } from "../../components/avatar.js";
import { thumbUrl } from "../../components/media-grid.js";
import { SHAPES, sizeFor } from "./sizes.js";
import { denoiseWord, expect } from "./wish.js";
import { fault, faulty } from "./faults.js";
import { moreView } from "./more.js";

const SOURCES = {
  triggerWord: "Trigger word",
  loraWord: "Trigger word of a LoRA",
  basePrompt: "Base prompt",
  prompt: "Yours",
  style: "Style",
  mood: "Mood",
  narrative: "Story",
};

export function panelView(s) {
  return html`<div class="st-scroll">
      ${characterPicker(s)}
      ${promptField(s)}
      ${negativeField(s)}
      ${s.form.initMediaId && initCard(s)}
      ${sizeField(s)}
      ${moreView(s)}
    </div>
    <div class="st-foot">${footer(s)}</div>`;
}

function characterPicker(s) {
  const c = s.character;
  const adds = c
    ? [
        c.triggerWord && "trigger word",
        c.promptSettings?.basePrompt && "base prompt",
        c.promptSettings?.style && "style",
        c.promptSettings?.mood && "mood",
        c.promptSettings?.negativePrompt && "negative prompt",
        c.loras?.length && plural(c.loras.length, "LoRA"),
        c.preferredModel && "model",
      ].filter(Boolean)
    : [];
  const what = !c
    ? s.characters.length
      ? "Draw without a character"
      : "Works without one, too"
    : s.form.rawPrompt
      ? "Adds nothing: the prompt is used as it is"
      : adds.length
        ? `Adds ${adds.join(", ")}`
        : "Has no prompt settings yet";
  return html`<div class="st-block" data-key="who">
    <button type="button" class="st-who" popovertarget="st-characters" aria-haspopup="menu" aria-label="Character: ${c?.name ?? "none"}. ${what}">
      ${c ? avatar(c, "m") : html`<span class="avatar avatar-m" aria-hidden="true">${icon("user")}</span>`}
      <span class="st-who-text"><strong class="truncate">${c?.name ?? "No character"}</strong><small class="muted">${what}</small></span>${icon("chevron-down")}</button>
    <div id="st-characters" popover class="popover menu st-menu" role="menu" aria-label="Character">
      <button type="button" role="menuitemradio" data-action="character" data-id="" aria-checked="${String(!c)}"><span class="avatar avatar-s" aria-hidden="true">${icon("user")}</span><span>No character</span>${icon("check")}</button>
      ${s.characters.map((one) => html`<button type="button" role="menuitemradio" data-key="${one.id}" data-action="character" data-id="${one.id}" aria-checked="${String(one.id === c?.id)}">${avatar(one, "s")}<span>${one.name}</span>${icon("check")}</button>`)}
      <hr><a role="menuitem" href="/characters.html?${c ? `id=${encodeURIComponent(c.id)}` : "new=1"}">${icon(c ? "edit" : "plus")}<span>${c ? `Edit ${middle(c.name, 24)}` : "Create a character"}</span></a></div>
    ${fault(s, "characterId")}</div>`;
}

function promptField(s) {
  const history = s.history.slice(0, 12);
  return html`<div class="st-block" data-key="prompt">
    <div class="st-label"><label for="st-prompt">Prompt</label>
      <button type="button" class="icon-btn st-mini" popovertarget="st-history" aria-label="Earlier prompts" title="Earlier prompts (Alt+↑ / Alt+↓)" ${attrs({ disabled: !history.length, "aria-haspopup": "menu" })}>${icon("history")}</button>
      <button type="button" class="icon-btn st-mini" data-action="clear-prompt" aria-label="Clear the prompt" title="Clear the prompt" ${attrs({ disabled: !s.form.prompt })}>${icon("x")}</button>
      <div id="st-history" popover class="popover menu st-menu st-history" role="menu" aria-label="Earlier prompts" data-align="end">${history.map((text, i) => html`<button type="button" role="menuitem" data-action="old-prompt" data-i="${i}"><span class="clamp-2">${text}</span></button>`)}</div></div>
    <textarea id="st-prompt" data-field="prompt" rows="4" spellcheck="true" placeholder="${s.character ? `What is ${s.character.name} doing, where, in which light?` : "Describe the picture: who, where, light, mood"}" ${attrs({ maxlength: 10000, ...faulty(s, "prompt") })}>${s.form.prompt}</textarea>
    ${fault(s, "prompt")}
    <div class="st-composed" data-key="composed">${composed(s)}</div></div>`;
}

function composed(s) {
  if (s.form.rawPrompt) {
    return html`<p class="st-raw">${icon("lock")}<span>Used exactly as written: nothing of a character is added.</span><button type="button" class="btn btn-small" data-action="unraw">Add ${s.character ? s.character.name : "the character"} again</button></p>`;
  }
  const parts = s.composed?.parts ?? [];
  if (!parts.some((part) => part.source !== "prompt")) return "";
  return html`<details class="st-parts"><summary><span class="st-parts-row">${parts.map((part, i) => html`<span class="st-part is-${part.source}" data-key="p${i}" title="${part.text}"><b>${SOURCES[part.source] ?? part.source}</b><span>${part.text}</span></span>`)}</span></summary>
    <div class="st-full"><p class="prompt-text">${parts.map((part, i) => html`${i > 0 && ", "}<span class="st-run is-${part.source}">${part.text}</span>`)}</p>
      ${s.composed.negativePrompt && s.v.negative && html`<p class="small muted prompt-text"><b>Negative:</b> ${s.composed.negativePrompt}</p>`}
      <button type="button" class="btn btn-ghost btn-small" data-action="copy-composed">${icon("copy")}Copy the whole prompt</button></div></details>`;
}

function negativeField(s) {
  const reason = s.v.negative ? "" : s.found.model?.defaults?.negativePromptReason || "This model takes no negative prompt.";
  return html`<div class="st-block" data-key="negative">
    <div class="st-label"><label for="st-negative">Negative prompt</label></div>
    <textarea id="st-negative" class="st-negative" data-field="negativePrompt" rows="1" placeholder="${reason ? "Not used by this model" : "What should not be in it"}" ${attrs({ maxlength: 10000, disabled: Boolean(reason), "aria-describedby": reason ? "st-negative-why" : undefined, ...faulty(s, "negativePrompt") })}>${s.form.negativePrompt}</textarea>
    ${reason && html`<p class="field-hint" id="st-negative-why">${reason}</p>`}${fault(s, "negativePrompt")}</div>`;
}

function initCard(s) {
  const item = s.initItem;
  return html`<div class="st-block st-init" data-key="init">
    ${item ? html`<img src="${thumbUrl(item)}" alt="The picture to start from">` : html`<span class="st-init-blank">${icon("image")}</span>`}
    <div class="st-init-body"><div class="st-label"><label for="st-denoise">Start from this picture</label><button type="button" class="icon-btn st-mini" data-action="clear-init" aria-label="Do not start from a picture" title="Remove">${icon("x")}</button></div>
      <input id="st-denoise" type="range" data-field="denoise" data-type="number" min="0.05" max="1" step="0.05" value="${s.form.denoise}" ${attrs({ "aria-valuetext": `${s.form.denoise}, ${denoiseWord(s.form.denoise)}`, ...faulty(s, "denoise") })}>
      <p class="field-hint">Change ${Number(s.form.denoise).toFixed(2)}: ${denoiseWord(s.form.denoise)}</p></div>
    ${fault(s, "denoise")}${fault(s, "initImageMediaId")}</div>`;
}

function sizeField(s) {
  const d = s.found.model?.defaults;
  if (!d) return "";
  const { shape } = s.v;
  const chips = SHAPES.map((one) => ({ ...one, ...sizeFor(one.ratio, d) }));
  return html`<div class="st-block" data-key="size">
    <div class="st-label"><span id="st-size-label">Size</span><span class="muted small">${shape === "init" ? "as the start picture" : `${s.v.width} × ${s.v.height}`}</span></div>
    <div class="st-shapes-box"><div class="st-shapes" role="group" aria-labelledby="st-size-label">
      ${s.form.initMediaId && html`<button type="button" class="st-shape is-init" data-key="init" data-action="shape" data-id="init" aria-pressed="${String(shape === "init")}" title="The shape of the start picture">${icon("image")}<span>As the start picture</span></button>`}
      ${chips.map((one) => html`<button type="button" class="st-shape" data-key="${one.key}" data-action="shape" data-id="${one.key}" aria-pressed="${String(shape === one.key)}" title="${one.where}: ${one.width} × ${one.height}"><i class="st-glyph is-${one.key}" aria-hidden="true"></i><span>${one.label}</span><small>${one.short}</small></button>`)}
      <button type="button" class="st-shape" data-key="custom" data-action="shape" data-id="custom" aria-pressed="${String(shape === "custom")}" title="Any width and height">${icon("sliders")}<span>Custom</span></button></div></div>
    ${
      shape === "custom" &&
      html`<div class="st-custom" data-key="custom-size"><label for="st-width" class="visually-hidden">Width</label><input id="st-width" type="number" inputmode="numeric" data-tune="width" min="${d.sizeMultiple}" max="${d.maxSize || 4096}" step="${d.sizeMultiple}" value="${s.v.width}" ${attrs(faulty(s, "width"))}>
      <button type="button" class="icon-btn" data-action="swap" aria-label="Swap width and height" title="Swap">${icon("compare")}</button>
      <label for="st-height" class="visually-hidden">Height</label><input id="st-height" type="number" inputmode="numeric" data-tune="height" min="${d.sizeMultiple}" max="${d.maxSize || 4096}" step="${d.sizeMultiple}" value="${s.v.height}" ${attrs(faulty(s, s.errors.height && s.errors.height === s.errors.width ? "width" : "height"))}></div>
      <p class="field-hint">Multiples of ${d.sizeMultiple}${d.maxSize ? `, up to ${d.maxSize}` : ""}. Best near ${d.width} × ${d.height}.</p>`
    }
    ${fault(s, "width")}${s.errors.height !== s.errors.width && fault(s, "height")}</div>`;
}

function footer(s) {
  const { model, missing } = s.found;
  const n = s.form.batchSize;
  const seconds =
    model &&
    expect(s.speed, {
      model: model.name,
      steps: s.v.steps,
      batchSize: n,
      width: s.v.width ?? model.defaults.width,
      height: s.v.height ?? model.defaults.height,
    });
  const facts = model
    ? [
        model.label.replace(/ \(.*\)$/, ""),
        s.v.shape === "init" ? "as the picture" : `${s.v.width} × ${s.v.height}`,
        seconds && `~${duration(seconds < 10 ? Math.ceil(seconds) : Math.round(seconds / 5) * 5)}`,
      ].filter(Boolean)
    : [missing ? `${middle(missing, 28)} is not available` : "No model to draw with"];
  return html`${Object.keys(s.errors).length > 0 && s.errorLine && html`<p class="field-error st-sum" role="alert">${icon("alert")}<span>${s.errorLine}</span></p>`}
    ${s.advice.length > 0 && html`<ul class="st-advice" aria-label="Before you draw">${s.advice.map((line) => html`<li class="small">${icon("alert")}<span>${line}</span></li>`)}</ul>`}
    <div class="st-go-row"><div class="st-count" role="group" aria-label="How many pictures">
        <button type="button" class="icon-btn" data-action="count" data-step="-1" aria-label="One less" ${attrs({ disabled: n <= 1 })}>${icon("minus")}</button>
        <output id="st-count" aria-live="polite" aria-label="${plural(n, "picture")}">${n}</output>
        <button type="button" class="icon-btn" data-action="count" data-step="1" aria-label="One more" ${attrs({ disabled: n >= 8 })}>${icon("plus")}</button></div>
      <button type="submit" id="st-go" class="btn btn-primary st-go" data-primary data-needs="write" title="Ctrl+Enter"><span class="st-go-label">${icon("studio")}Generate</span><small>${facts.join(" · ")}</small></button></div>${fault(s, "batchSize")}`;
}
