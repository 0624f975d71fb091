/** The fields of a scheduled task, and the way between the form and the task. No state, no requests. */
import { fieldRow } from "../../components/field-row.js";
import { attrs, html, icon } from "../../html.js";
import { getPath, same, setPath } from "../../forms.js";
import { needs, PLATFORMS, TYPES } from "./words.js";

export const DEFAULTS = {
  type: "generate_and_post",
  schedule: "0 18 * * *",
  active: true,
  missedRunPolicy: "skip",
  dryRun: false,
  config: {
    promptSource: "library",
    promptRule: "unused",
    promptEmpty: "ideas",
    generateCaption: true,
    kind: "single",
    mediaRule: "newest_unposted",
    mediaEmpty: "skip",
    options: { fit: "pad", background: "blur" },
    keep: 7,
  },
};

/** The config keys a type has; the others are not shown and not sent. */
const COMMON_POST = [
  "postToInstagram",
  "postToTwitter",
  "kind",
  "generateCaption",
  "caption",
  "captionTone",
  "captionLanguage",
  "hashtags",
  "approval",
  "options.fit",
  "options.ratio",
  "options.background",
  "jitterMinutes",
];
const PICTURE = ["promptSource", "prompt", "promptRule", "promptEmpty", "model", "width", "height", "steps", "batchSize", "engine"];
export const KEYS = {
  generate_and_post: [...PICTURE, ...COMMON_POST],
  generate_only: [...PICTURE, "generateCaption", "captionTone", "captionLanguage"],
  post_existing: ["mediaRule", "collectionId", "mediaEmpty", ...COMMON_POST, ...PICTURE],
  backup: ["keep", "includeMedia"],
  train_lora: [],
};
export const TOP = ["name", "characterId", "type", "schedule", "timezone", "missedRunPolicy", "dryRun", "active"];

/** What the form starts from: a stored task over the defaults. Old tasks without promptSource mean what they say. Pure. */
export function formValues(task = {}) {
  const config = { ...DEFAULTS.config, ...(task.id || task.config ? inferred(task.config ?? {}) : {}), ...task.config };
  config.options = { ...DEFAULTS.config.options, ...(task.config?.options ?? {}) };
  return { ...DEFAULTS, ...task, config };
}
const inferred = (config) => (config.promptSource ? {} : config.prompt ? { promptSource: "fixed" } : { promptSource: "base" });

/**
 * The task to send: what the form says for the keys its type has, everything else as it was stored. Pure.
 * @param {Record<string, any>} form dotted values already nested @param {Record<string, any>} [stored]
 */
export function taskFrom(form, stored = {}) {
  const out = {};
  for (const key of TOP) if (form[key] !== undefined) out[key] = form[key];
  const type = form.type ?? stored.type;
  if (type === "backup") out.characterId = null;
  const config = structuredClone(stored.config ?? {});
  for (const key of KEYS[type] ?? []) {
    const value = getPath(form.config ?? {}, key);
    if (value === undefined) continue;
    const nothing = value === null || value === false || (Array.isArray(value) && !value.length);
    if (nothing && getPath(config, key) === undefined && key !== "generateCaption") continue; // never set, still not set
    setPath(config, key, value);
  }
  if (config.options && same(config.options, {})) delete config.options;
  out.config = config;
  return out;
}

const select = (name, label, value, options, more = {}) =>
  fieldRow({ name, label, type: "select", value, options: options.map(([v, l]) => ({ value: v, label: l })), ...more });
const shown = (when) => attrs({ hidden: !when });

/** @param {Record<string, any>} v formValues() */
export const typeField = (
  v,
  { trainer = false, admin = true } = {},
) => html`<fieldset class="sc-types"><legend class="visually-hidden">What it does</legend>
  ${Object.entries(TYPES)
    .filter(([key]) => v.type === key || ((key !== "train_lora" || trainer) && (needs({ type: key }) !== "admin" || admin)))
    .map(
      ([key, t]) =>
        html`<label class="sc-type"><input type="radio" name="type" ${attrs({ value: key, checked: v.type === key })}><span class="sc-type-icon">${icon(t.icon)}</span><span class="sc-type-text"><strong>${t.label}</strong><small class="muted">${t.text}</small></span></label>`,
    )}</fieldset>`;

export const whoFields = (v, characters) => html`<div class="cols-2">
  ${fieldRow({ name: "name", label: "Name", value: v.name, maxlength: 200, placeholder: "Evening post", hint: "Optional, for your own lists." })}
  <div data-for="generate_and_post generate_only post_existing train_lora">${fieldRow({ name: "characterId", label: "Character", type: "select", value: v.characterId, required: true, options: characterOptions(v.characterId, characters) })}</div></div>`;

function characterOptions(current, characters) {
  const options = [
    { value: "", label: "Choose…" },
    ...characters.map((c) => ({ value: c.id, label: c.isActive === false ? `${c.name} (inactive)` : c.name })),
  ];
  if (current && !characters.some((c) => c.id === current)) options.push({ value: current, label: `${current} (not there any more)` });
  return options;
}

export const zoneFields = (v, fallback) => html`<div class="cols-2">
  ${fieldRow({ name: "timezone", label: "Time zone", value: v.timezone, list: "sc-zones", spellcheck: false, placeholder: fallback, hint: html`Empty follows the character, else the app: <span id="sc-zone-default">${fallback || "the app's zone"}</span>.` })}
  ${select(
    "missedRunPolicy",
    "When the app was off at that time",
    v.missedRunPolicy ?? "skip",
    [
      ["skip", "Leave it out"],
      ["run_once", "Run once, late"],
    ],
    { hint: "Either way it is written in the run history." },
  )}</div>`;

export const pictureFields = (v, models) => {
  const c = v.config;
  const list = models?.models ?? [];
  const options = [["", "The character's model"], ...list.map((m) => [m.name, m.label ?? m.name])];
  if (c.model && !list.some((m) => m.name === c.model)) options.push([c.model, models ? `${c.model} (not available)` : c.model]);
  return html`<div class="stack-4">
    ${select("config.promptSource", "Prompt", c.promptSource, [
      ["library", "From the prompt library"],
      ["fixed", "Always the same words"],
      ["base", "Only the character's base prompt"],
    ])}
    <div class="cols-2" data-source="library" ${shown(c.promptSource === "library")}>
      ${select("config.promptRule", "Which one", c.promptRule, [
        ["unused", "The oldest unused one"],
        ["random", "A random one"],
        ["oldest", "The one used longest ago"],
      ])}
      ${select("config.promptEmpty", "When none is left", c.promptEmpty, [
        ["ideas", "Write new ideas"],
        ["fixed", "Use the words below"],
        ["skip", "Skip the run"],
      ])}</div>
    <div data-source="fixed library" ${shown(c.promptSource === "fixed" || c.promptEmpty === "fixed")} id="sc-prompt-row">${fieldRow({ name: "config.prompt", label: "Words", type: "textarea", rows: 3, value: c.prompt, placeholder: "in a magical forest, {dawn|dusk}, __outfit__", hint: "Added to the character's base prompt. {a|b} and __wildcards__ change from run to run." })}</div>
    <details class="sc-more"><summary>${icon("sliders")}Picture options</summary><div class="stack-3">
      <div class="cols-2">${select("config.model", "Model", c.model ?? "", options)}${select("config.engine", "Engine", c.engine ?? "", [
        ["", "As set for the app"],
        ["comfyui", "ComfyUI"],
        ["builtin", "Built in"],
      ])}</div>
      <div class="sc-numbers">${["width", "height", "steps", "batchSize"].map((key) => fieldRow({ name: `config.${key}`, label: { width: "Width", height: "Height", steps: "Steps", batchSize: "Pictures" }[key], type: "number", dataType: "integer", min: 1, value: c[key], placeholder: "default" }))}</div>
      <p class="small muted">Of several pictures the first is posted, and the others stay in the gallery, unless the post takes several.</p></div></details></div>`;
};

export const galleryFields = (v, collections) => {
  const c = v.config;
  const options = [["", "All pictures of the character"], ...collections.map((x) => [x.id, x.name])];
  if (c.collectionId && !collections.some((x) => x.id === c.collectionId))
    options.push([c.collectionId, `${c.collectionId} (not there any more)`]);
  return html`<div class="stack-4"><div class="cols-2">
    ${select(
      "config.mediaRule",
      "Which picture",
      c.mediaRule,
      [
        ["newest_unposted", "The newest that was not posted"],
        ["queue", "In order, oldest first"],
        ["random_unposted", "A random one that was not posted"],
      ],
      { hint: "A picture is never posted twice by the same rule." },
    )}
    ${select("config.collectionId", "From", c.collectionId ?? "", options)}</div>
    ${select("config.mediaEmpty", "When none is left", c.mediaEmpty, [
      ["skip", "Skip the run"],
      ["generate", "Make a new picture"],
      ["alert", "Skip it and tell me"],
    ])}</div>`;
};

/** Where it goes; `accounts` by platform for the chosen character: {connected, dryRun, detail, remedy, missing, paused, breaker}. */
export const platformField = (
  v,
  platforms,
  accounts,
) => html`<fieldset class="sc-platforms"><legend class="label">Post to <span class="required" aria-hidden="true">*</span></legend>
  ${platforms.map((p) => {
    const key = p.name === "twitter" ? "postToTwitter" : `postTo${p.name[0].toUpperCase()}${p.name.slice(1)}`;
    const state = accountWords(accounts[p.name]);
    return html`<label class="sc-platform"><input type="checkbox" class="switch" role="switch" name="config.${key}" ${attrs({ checked: Boolean(v.config[key]), "aria-describedby": `sc-acc-${p.name}` })}><span><strong>${p.label ?? PLATFORMS[p.name]}</strong><small id="sc-acc-${p.name}" class="sc-acc sc-acc-${state.tone}" data-account="${p.name}">${icon(state.icon)}<span>${state.text}</span></small></span></label>`;
  })}<p class="field-error" id="sc-platform-error" data-error-for="config.postToInstagram" hidden></p></fieldset>`;

/** Pure. @param {any} account @returns {{tone: string, icon: string, text: string}} */
export function accountWords(account) {
  if (!account) return { tone: "muted", icon: "circle", text: "Choose a character to see the account." };
  if (account.paused) return { tone: "warn", icon: "pause", text: `Stopped${account.paused.reason ? `: ${account.paused.reason}` : ""}.` };
  if (!account.connected)
    return {
      tone: "info",
      icon: "eye",
      text: `Not connected${account.missing?.length ? ` (${account.missing.join(", ")} missing)` : ""}: posts are rehearsed only.`,
    };
  if (account.breaker) return { tone: "bad", icon: "alert", text: account.breaker.reason ?? "Sending is stopped after failures." };
  if (account.dryRun) return { tone: "info", icon: "eye", text: "Dry run: nothing leaves this machine." };
  if (account.status === "error" || account.status === "warning")
    return {
      tone: account.status === "error" ? "bad" : "warn",
      icon: "alert",
      text: [account.detail, account.remedy].filter(Boolean).join(" "),
    };
  return {
    tone: "good",
    icon: "ok",
    text: account.username ? `Connected as ${account.username}. Posts go out live.` : "Connected. Posts go out live.",
  };
}

export const captionFields = (v) => {
  const c = v.config;
  return html`<div class="stack-3">
    ${fieldRow({ name: "config.generateCaption", label: "Write a new caption each time", type: "switch", value: c.generateCaption !== false })}
    <div class="cols-2" data-caption="on" ${shown(c.generateCaption !== false)}>${fieldRow({ name: "config.captionTone", label: "Tone", value: c.captionTone, list: "sc-tones", placeholder: "as the character talks" })}${fieldRow({ name: "config.captionLanguage", label: "Language", value: c.captionLanguage, list: "sc-languages", placeholder: "as set for the app" })}</div>
    <div data-caption="off" ${shown(c.generateCaption === false)}>${fieldRow({ name: "config.caption", label: "Caption", type: "textarea", rows: 3, value: c.caption })}</div>
    <datalist id="sc-tones">${["friendly", "playful", "dreamy", "confident", "poetic", "matter-of-fact"].map((t) => html`<option value="${t}"></option>`)}</datalist>
    <datalist id="sc-languages">${["English", "Deutsch", "Español", "Français", "Italiano", "Português"].map((t) => html`<option value="${t}"></option>`)}</datalist>
    <div data-for="generate_and_post post_existing">${fieldRow({ name: "config.hashtags", label: "Hashtags", value: Array.isArray(c.hashtags) ? c.hashtags.join(", ") : c.hashtags, dataType: "list", placeholder: "forest, magic", hint: "Separated by commas. Instagram counts at most five." })}</div></div>`;
};

export const postFields = (v) => {
  const c = v.config;
  return html`<div class="stack-4"><div class="cols-2">
    ${select("config.approval", "Before it goes out", c.approval ?? "", [
      ["", "As set for the app"],
      ["automatic", "Post without asking"],
      ["required", "Wait for my approval"],
    ])}
    ${select("config.kind", "As", c.kind ?? "single", [
      ["single", "One picture"],
      ["carousel", "Several pictures in one post"],
      ["story", "Story (Instagram)"],
    ])}</div>
    <details class="sc-more"><summary>${icon("sliders")}Format and timing</summary><div class="stack-3"><div class="cols-2">
      ${select("config.options.fit", "When the shape does not fit", c.options.fit ?? "pad", [
        ["pad", "Add a border"],
        ["crop", "Crop, keeping the face"],
      ])}
      ${select("config.options.background", "Border", c.options.background ?? "blur", [
        ["blur", "Blurred picture"],
        ["white", "White"],
        ["black", "Black"],
      ])}
      ${select("config.options.ratio", "Shape", c.options.ratio ?? "", [
        ["", "The nearest allowed"],
        ["4:5", "4:5 portrait"],
        ["1:1", "1:1 square"],
        ["1.91:1", "1.91:1 landscape"],
      ])}
      ${fieldRow({ name: "config.jitterMinutes", label: "Vary the time by up to", type: "number", dataType: "integer", min: 0, max: 720, value: c.jitterMinutes, placeholder: "0", after: html`<span class="muted">min</span>`, hint: "Looks less like a machine." })}</div></div></details></div>`;
};

export const backupFields = (
  v,
) => html`<div class="stack-3">${fieldRow({ name: "config.includeMedia", label: "Pictures too", type: "switch", value: v.config.includeMedia, hint: "Without them a backup is small: characters, prompts, schedule and what is known about each picture." })}
  ${fieldRow({ name: "config.keep", label: "Keep the newest", type: "number", dataType: "integer", min: 1, max: 1000, value: v.config.keep, after: html`<span class="muted">backups</span>`, hint: "Older ones are removed after a new one was verified." })}</div>`;
