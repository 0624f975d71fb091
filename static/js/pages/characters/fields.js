/** The fields of a character, used by the detail page and the add dialog. No state, no requests. */
import { fieldRow } from "../../components/field-row.js";
import { html, icon } from "../../html.js";

/** Named as the platforms name them (`credentials` of GET /api/platforms); the section says of which. */
export const SECRETS = [
  ["instagramApiKey", "Instagram access token"],
  ["twitterAppKey", "API key"],
  ["twitterAppSecret", "API key secret"],
  ["twitterAccessToken", "Access token"],
  ["twitterAccessSecret", "Access token secret"],
];
const hasName = (key) => `has${key[0].toUpperCase()}${key.slice(1)}`;
export const hasSecret = (character, key) => Boolean(character[hasName(key)]);

/** Why a character needs a look, as sentences; [] when nothing is missing. Pure. */
export function attention(character, models = null) {
  const reasons = [];
  if (!character.promptSettings?.basePrompt?.trim()) reasons.push("No base prompt: every picture will look like somebody else.");
  if (models?.models && character.preferredModel && !models.models.some((m) => sameModel(m.name, character.preferredModel)))
    reasons.push(`The model “${character.preferredModel}” is not available.`);
  for (const use of character.loras ?? [])
    if (models?.loras && !models.loras.some((l) => sameModel(l.name, use.name))) reasons.push(`The LoRA “${use.name}” is not available.`);
  if (character.instagramAccountId && !character.hasInstagramApiKey) reasons.push("Instagram: the access token is missing.");
  if (character.twitterAccountId && !(character.hasTwitterAccessToken && character.hasTwitterAccessSecret))
    reasons.push("X: keys are missing.");
  return reasons;
}
/** Names are equal with or without the file ending. Pure. */
export const sameModel = (a, b) =>
  String(a)
    .replace(/\.(safetensors|ckpt|gguf|pt)$/i, "")
    .toLowerCase() ===
  String(b)
    .replace(/\.(safetensors|ckpt|gguf|pt)$/i, "")
    .toLowerCase();

/** The story of today, if any. Pure. @param {string} today YYYY-MM-DD */
export const activeNarrative = (character, today) =>
  (character.narratives ?? []).find(
    (n) =>
      (n.startDate || n.endDate) && (!n.startDate || n.startDate.slice(0, 10) <= today) && (!n.endDate || n.endDate.slice(0, 10) >= today),
  ) ?? null;

const zones = () => {
  try {
    return Intl.supportedValuesOf("timeZone");
  } catch {
    return [];
  }
};

export const profileFields = (c = {}) => html`<div class="stack-4">
  <div class="cols-2">${fieldRow({ name: "name", label: "Name", value: c.name, required: true, maxlength: 200 })}
    ${fieldRow({ name: "timezone", label: "Time zone", value: c.timezone, list: "zones", placeholder: Intl.DateTimeFormat().resolvedOptions().timeZone, hint: "Days and stories follow this clock." })}</div>
  <datalist id="zones">${zones().map((z) => html`<option value="${z}"></option>`)}</datalist>
  ${fieldRow({ name: "personality", label: "Personality", type: "textarea", rows: 4, value: c.personality, placeholder: "How they talk, what they love, what they never do. Captions are written from this." })}</div>`;

export const lookFields = (c = {}, models = null) => html`<div class="stack-4">
  ${fieldRow({ name: "promptSettings.basePrompt", label: "Base prompt", type: "textarea", rows: 3, value: c.promptSettings?.basePrompt, placeholder: "photo of a young woman, freckles, dark wavy hair", hint: "Goes into every picture of this character." })}
  ${fieldRow({ name: "promptSettings.negativePrompt", label: "Negative prompt", type: "textarea", rows: 2, value: c.promptSettings?.negativePrompt, placeholder: "blurry, extra fingers" })}
  <div class="cols-2">${fieldRow({ name: "promptSettings.style", label: "Style", value: c.promptSettings?.style, placeholder: "35mm film, natural light" })}${fieldRow({ name: "promptSettings.mood", label: "Mood", value: c.promptSettings?.mood, placeholder: "calm" })}</div>
  <div class="cols-2">${fieldRow({ name: "preferredModel", label: "Model", type: "select", value: c.preferredModel, options: modelOptions(models, c.preferredModel), hint: models ? undefined : "The list of models is being read." })}
    ${fieldRow({ name: "triggerWord", label: "Trigger word", value: c.triggerWord, spellcheck: false, maxlength: 100, hint: "The word the LoRA was trained with; added once to each prompt. A LoRA's own word is added even if another one stands here." })}</div></div>`;

export function modelOptions(models, current) {
  const list = models?.models ?? [];
  const options = [
    { value: "", label: "Default model" },
    ...list.map((m) => ({ value: m.name, label: `${m.label ?? m.name}${m.familyLabel ? ` · ${m.familyLabel}` : ""}` })),
  ];
  if (current && !options.some((o) => o.value === current))
    options.push({ value: current, label: models ? `${current} (not available)` : current });
  return options;
}

export const loraRows = (uses, models) => html`<fieldset class="stack-2" id="loras"><legend class="label">LoRAs</legend>
  ${uses.map(
    (
      use,
      i,
    ) => html`<div class="lora-row" data-key="lora-${i}"><select data-lora="name" aria-label="LoRA ${i + 1}">${loraOptions(models, use.name).map((o) => html`<option value="${o.value}" ${o.value === use.name ? html`selected` : ""}>${o.label}</option>`)}</select>
    <input type="number" data-lora="strength" step="0.05" min="-10" max="10" value="${use.strength ?? 1}" aria-label="Strength of LoRA ${i + 1}"><button type="button" class="icon-btn" data-action="remove-lora" data-index="${i}" aria-label="Remove LoRA ${i + 1}">${icon("trash")}</button></div>`,
  )}
  ${!uses.length && html`<p class="muted small">None. A LoRA makes the face recognisable in every picture.</p>`}
  <div><button type="button" class="btn btn-small" data-action="add-lora">${icon("plus")}Add LoRA</button></div></fieldset>`;

function loraOptions(models, current) {
  const options = (models?.loras ?? []).map((l) => ({ value: sameModel(l.name, current) ? current : l.name, label: l.name }));
  if (!options.some((o) => o.value === current))
    options.unshift({ value: current, label: current ? (models ? `${current} (not available)` : current) : "Choose…" });
  return options;
}

export const storyFields = (c = {}) =>
  fieldRow({
    name: "backstory",
    label: "Backstory",
    type: "textarea",
    rows: 6,
    value: c.backstory,
    placeholder: "Where they come from and how they got here.",
  });

export const narrativeRows = (
  list,
  today,
) => html`<section class="stack-3" id="narratives" aria-labelledby="narratives-title"><div class="row"><h3 id="narratives-title">Narratives</h3><span class="spacer"></span><button type="button" class="btn btn-small" data-action="add-narrative">${icon("plus")}Add narrative</button></div>
  <p class="muted small">A narrative colours prompts and captions while today lies between its dates.</p>
  ${
    list.length > 0
      ? html`<ol class="timeline">${list.map((n, i) => {
          const now =
            (n.startDate || n.endDate) &&
            (!n.startDate || n.startDate.slice(0, 10) <= today) &&
            (!n.endDate || n.endDate.slice(0, 10) >= today);
          return html`<li class="narrative ${now ? "is-now" : ""}" data-key="narrative-${i}" data-id="${n.id ?? ""}"><div class="narrative-head"><input data-n="title" value="${n.title ?? ""}" placeholder="Title" aria-label="Title of narrative ${i + 1}">${now && html`<span class="badge badge-accent">${icon("play")}<span>Now</span></span>`}<button type="button" class="icon-btn" data-action="remove-narrative" data-index="${i}" aria-label="Remove narrative ${i + 1}">${icon("trash")}</button></div>
      <div class="narrative-dates"><label>From<input type="date" data-n="startDate" value="${(n.startDate ?? "").slice(0, 10)}"></label><label>to<input type="date" data-n="endDate" value="${(n.endDate ?? "").slice(0, 10)}"></label></div>
      <textarea data-n="description" rows="2" placeholder="What happens" aria-label="Description of narrative ${i + 1}">${n.description ?? ""}</textarea></li>`;
        })}</ol>`
      : html`<p class="muted small narrative-none">No narratives yet.</p>`
  }</section>`;

export const handleFields = (c = {}) =>
  html`<div class="cols-2">${fieldRow({ name: "instagramHandle", label: "Instagram handle", value: c.instagramHandle, placeholder: "@name", spellcheck: false, maxlength: 100 })}${fieldRow({ name: "twitterHandle", label: "X handle", value: c.twitterHandle, placeholder: "@name", spellcheck: false, maxlength: 100 })}</div>`;

export function accountFields(c = {}) {
  const secret = ([key, label]) => {
    const value = c[key];
    const env = typeof value === "string" && value.startsWith("env:");
    return html`<div class="secret" data-secret="${key}">${fieldRow({
      name: key,
      label,
      type: env ? "text" : "password",
      value: env ? value : "",
      placeholder: value || "not set",
      spellcheck: false,
      after: value
        ? html`<button type="button" class="btn btn-small" data-action="forget-secret" data-key-name="${key}" aria-label="Remove ${label}">Remove</button>`
        : "",
      hint:
        env && !hasSecret(c, key)
          ? html`<span class="warn-text">This environment variable is not set.</span>`
          : value
            ? env
              ? "Read from the environment."
              : html`${icon("lock")} Saved. Type to replace it.`
            : "",
    })}</div>`;
  };
  return html`<div class="stack-5">${handleFields(c)}
    <section class="stack-4"><h3>Instagram</h3><div class="cols-2">${fieldRow({ name: "instagramAccountId", label: "Instagram account id", value: c.instagramAccountId, spellcheck: false })}${secret(SECRETS[0])}</div></section>
    <section class="stack-4"><h3>X</h3>${fieldRow({ name: "twitterAccountId", label: "Account id", value: c.twitterAccountId, spellcheck: false })}<div class="cols-2">${SECRETS.slice(1).map(secret)}</div></section>
    <p class="muted small">Keys are stored encrypted and never shown again. Write <code>env:NAME</code> to read one from an environment variable.</p></div>`;
}
