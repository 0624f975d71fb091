/**
 * Every setting of a training: its name in the API, its kind, what it does. And a wish as text: form ⇄ JSON. Pure.
 * A wish is what POST /api/lora/train takes: {characterId?, datasetId? | trainingData?, baseModel?, name?, triggerWord?, params: {preset, …}}.
 */

export const PRESETS = [
  { key: "quick", label: "Draft", hint: "A first look at what it learns. Few steps, a small file." },
  { key: "balanced", label: "Good", hint: "The right choice for most characters." },
  { key: "best", label: "Best", hint: "Slower. A larger file, and weights averaged over the run." },
];
export const DEFAULT_PRESET = "balanced";

const onOff = "switch";
/** Kinds: integer, number, text, lines (one per line), switch (on, off, or as the preset says), choice. */
export const GROUPS = [
  {
    key: "length",
    label: "Length",
    fields: [
      { name: "steps", label: "Steps", kind: "integer", min: 1, max: 100000, help: "How often the weights are changed. More steps learn more, until the pictures are only memorised." },
      { name: "epochs", label: "Epochs", kind: "integer", min: 1, max: 10000, help: "How often every picture is seen. Used when no steps are given." },
      { name: "batchSize", label: "Batch size", kind: "integer", min: 1, max: 64, help: "Pictures per step. Larger is steadier and needs more memory." },
      { name: "gradientAccumulation", label: "Gradient accumulation", kind: "integer", min: 1, max: 256, help: "Batches that count as one step: a larger batch without more memory, but slower." },
      { name: "repeats", label: "Repeats per picture", kind: "integer", min: 1, max: 1000, help: "How often each picture stands in one epoch." },
      { name: "earlyStop", label: "Stop early after", kind: "integer", min: 0, max: 100, help: "Checks that were clearly worse than the best held-out loss. 0: never stop early." },
      { name: "seed", label: "Seed", kind: "integer", min: 0, help: "The same seed and settings train the same LoRA on the same machine." },
    ],
  },
  {
    key: "size",
    label: "Picture size",
    fields: [
      { name: "resolution", label: "Resolution", kind: "integer", min: 64, max: 2048, step: 8, help: "Side in pixels of a square of the same area. Pictures keep their shape (buckets)." },
      { name: "bucketStep", label: "Bucket step", kind: "integer", min: 8, max: 256, step: 8, help: "Sides of the buckets are multiples of this. Smaller steps cut off less." },
    ],
  },
  {
    key: "lora",
    label: "What is trained",
    fields: [
      { name: "rank", label: "Rank", kind: "integer", min: 1, max: 256, help: "How much the LoRA can hold. 8 to 32 are enough for a character; the file grows with it." },
      { name: "alpha", label: "Alpha", kind: "number", min: 0.001, max: 1024, help: "Strength of the LoRA is alpha ÷ rank. Here alpha equals the rank unless you say otherwise." },
      { name: "targets", label: "Layers", kind: "choice", options: [["attention", "Attention only"], ["full", "All linear layers"]], help: "All layers learn more detail; attention alone is smaller and overfits later." },
      { name: "convRank", label: "Rank of convolutions", kind: "integer", min: 0, max: 256, help: "0: convolutions are not trained. Above 0 it is a LoCon, which learns texture better." },
      { name: "trainTextEncoder", label: "Train the text encoder", kind: onOff, help: "Binds the trigger word more tightly. Needs more memory." },
      { name: "useRslora", label: "rsLoRA scaling", kind: onOff, help: "Strength is alpha ÷ √rank: steadier with high ranks." },
      { name: "useDora", label: "DoRA", kind: onOff, help: "Trains size and direction of the weights apart. Slower, sometimes better at low ranks." },
    ],
  },
  {
    key: "learning",
    label: "Learning",
    fields: [
      { name: "learningRate", label: "Learning rate", kind: "number", min: 1e-9, max: 10, help: "How far each step goes. Too high shows as a jumping loss and burnt pictures." },
      { name: "textEncoderLearningRate", label: "Learning rate of the text encoder", kind: "number", min: 0, max: 10, help: "Only used when the text encoder is trained." },
      { name: "optimizer", label: "Optimizer", kind: "choice", options: [["adamw", "AdamW"], ["adamw8bit", "AdamW, 8 bit"], ["prodigy", "Prodigy"], ["adafactor", "Adafactor"]], help: "Prodigy finds the learning rate itself; 8 bit needs a CUDA card and less memory." },
      { name: "lrScheduler", label: "Learning rate over time", kind: "choice", options: [["cosine", "Cosine"], ["constant", "Constant"], ["linear", "Linear"]], help: "How the learning rate falls towards the end." },
      { name: "warmup", label: "Warm-up", kind: "number", min: 0, help: "Steps in which the learning rate rises. Below 1: a share of all steps." },
      { name: "weightDecay", label: "Weight decay", kind: "number", min: 0, max: 10, help: "Pulls weights towards zero." },
      { name: "maxGradNorm", label: "Largest gradient", kind: "number", min: 0, help: "Longer gradients are cut to this. 1 is usual; 0 cuts nothing." },
      { name: "ema", label: "Average the weights", kind: onOff, help: "Delivers an average over the last steps instead of the last state: smoother." },
    ],
  },
  {
    key: "noise",
    label: "Noise and loss",
    fields: [
      { name: "minSnrGamma", label: "Min-SNR gamma", kind: "number", min: 0, max: 100, help: "Evens out easy and hard noise levels. 5 is usual, 0 is off. Not for SD 3 and FLUX." },
      { name: "noiseOffset", label: "Noise offset", kind: "number", min: 0, max: 1, step: 0.01, help: "Helps with very dark or bright pictures. 0: off; 0.05 is a lot." },
      { name: "timestepSampling", label: "Noise levels", kind: "choice", options: [["auto", "As the model wants"], ["uniform", "Uniform"], ["logit_normal", "Logit-normal"], ["sigmoid", "Sigmoid"], ["shift", "Shifted"]], help: "Which noise levels are trained most often." },
      { name: "shift", label: "Shift", kind: "number", min: 0.01, max: 100, help: "For SD 3 and FLUX only. Empty: read from the model." },
      { name: "maskedLoss", label: "Masked loss", kind: onOff, help: "Only what is opaque (or white in <name>-masklabel.png) counts." },
    ],
  },
  {
    key: "captions",
    label: "Captions",
    fields: [
      { name: "classWord", label: "Class word", kind: "text", help: "What it is, for example: woman. Captions may hold it." },
      { name: "captionDropout", label: "Caption dropout", kind: "number", min: 0, max: 1, step: 0.01, help: "Share of steps without a caption; keeps the model steerable." },
      { name: "shuffleCaptions", label: "Shuffle captions", kind: onOff, help: "For comma separated tags: another order each time." },
      { name: "keepTokens", label: "Tags that stay in front", kind: "integer", min: 0, max: 100, help: "When shuffling, the first tags keep their place: the trigger word." },
      { name: "priorWeight", label: "Prior weight", kind: "number", min: 0, max: 10, help: "Above 0, what the model draws for the class word is kept as it was. A trigger word and a class word are enough; class pictures are trained along." },
      { name: "priorFolder", label: "Folder of class pictures", kind: "text", help: "Optional, only with a prior weight: the name of a folder in training_data/ with pictures of other members of the class." },
    ],
  },
  {
    key: "memory",
    label: "Memory and speed",
    fields: [
      { name: "gradientCheckpointing", label: "Gradient checkpointing", kind: onOff, help: "Much less memory, about 40 % slower." },
      { name: "quantize", label: "Quantise the base model", kind: "choice", options: [["none", "No"], ["fp8", "fp8"], ["int8", "int8"], ["nf4", "nf4 (4 bit)"]], help: "The base model takes less memory while training; needs an NVIDIA card. The LoRA stays exact. Not together with DoRA." },
      { name: "mixedPrecision", label: "Precision", kind: "choice", options: [["auto", "As the machine can"], ["no", "fp32"], ["fp16", "fp16"], ["bf16", "bf16"]], help: "bf16 where the card can; fp32 on the CPU." },
      { name: "cacheToDisk", label: "Keep prepared pictures on disk", kind: onOff, help: "The next run with these pictures starts sooner." },
      { name: "compile", label: "Compile the model", kind: onOff, help: "Slow start, faster steps. For SD 3 and FLUX on an NVIDIA card; elsewhere it is left out." },
      { name: "device", label: "Device", kind: "choice", options: [["auto", "Automatic"], ["cuda", "NVIDIA GPU"], ["mps", "Apple GPU"], ["cpu", "CPU"]], help: "Where it is trained." },
      { name: "processes", label: "NVIDIA cards", kind: "integer", min: 1, max: 64, help: "How many train together, each with its own pictures of every step. They must be in this computer." },
    ],
  },
  {
    key: "check",
    label: "Held-out check",
    fields: [
      { name: "validation.fraction", label: "Share held out", kind: "number", min: 0, max: 0.5, step: 0.01, help: "Pictures that are never trained on and show whether it learns or memorises." },
      { name: "validation.count", label: "Pictures held out", kind: "integer", min: 0, max: 1000, help: "Goes before the share. 0: no check." },
      { name: "validation.every", label: "Check every … steps", kind: "integer", min: 1, help: "Empty: ten times in the run." },
      { name: "validation.timesteps", label: "Noise levels per picture", kind: "integer", min: 1, max: 32, help: "More is more exact and slower." },
      { name: "validation.noises", label: "Noises per level", kind: "integer", min: 1, max: 16, help: "The same noises each time, so that values can be compared." },
    ],
  },
  {
    key: "samples",
    label: "Samples and checkpoints",
    fields: [
      { name: "samplePrompts", label: "Sample prompts", kind: "lines", help: "One per line, at most eight. Empty: prompts made of the captions, with and without the trigger word." },
      { name: "sampleEvery", label: "Samples every … steps", kind: "integer", min: 0, help: "0: no samples." },
      { name: "sampleSteps", label: "Drawing steps of a sample", kind: "integer", min: 1, max: 150, help: "Fewer is faster." },
      { name: "sampleSeed", label: "Seed of the samples", kind: "integer", min: 0, help: "The same for all, so that only the LoRA differs." },
      { name: "saveEvery", label: "Checkpoint every … steps", kind: "integer", min: 0, help: "0: only the best and the last." },
      { name: "keepCheckpoints", label: "Checkpoints that are kept", kind: "integer", min: 1, max: 100, help: "Older ones are deleted, the best never." },
    ],
  },
];
export const FIELDS = GROUPS.flatMap((group) => group.fields.map((field) => ({ ...field, group: group.key })));
const BY_NAME = new Map(FIELDS.map((field) => [field.name, field]));
const TOP = ["characterId", "datasetId", "trainingData", "baseModel", "name", "triggerWord"];
/** In a run's complete config, but not for a wish to say. */
const DECIDED = new Set(["family", "runFolder", "outputFolder", "datasetFolder", "modelsFolder", "resumeFrom"]);

export const getIn = (object, path) => path.split(".").reduce((at, key) => at?.[key], object);
/** Set a value, or take it out when it is null; empty objects go too. Returns a new object. */
export function setIn(object, path, value) {
  const [key, ...rest] = path.split(".");
  const inner = rest.length ? setIn(object?.[key] ?? {}, rest.join("."), value) : value;
  const gone = inner === null || inner === undefined || (rest.length && !Object.keys(inner).length);
  const { [key]: _old, ...others } = object ?? {};
  return gone ? others : { ...others, [key]: inner };
}

/** What a control's text means: {value} (null: as the preset says) or {message}. */
export function parse(field, text) {
  const plain = String(text ?? "").trim();
  if (plain === "") return { value: null };
  if (field.kind === "switch") return { value: plain === "true" };
  if (field.kind === "lines") return { value: plain.split("\n").map((line) => line.trim()).filter(Boolean) };
  if (field.kind !== "integer" && field.kind !== "number") return { value: plain };
  const value = Number(plain.replace(",", "."));
  if (!Number.isFinite(value)) return { message: "This must be a number." };
  if (field.kind === "integer" && !Number.isInteger(value)) return { message: "This must be a whole number." };
  if (field.min !== undefined && value < field.min) return { message: `At least ${field.min}.` };
  if (field.max !== undefined && value > field.max) return { message: `At most ${field.max.toLocaleString("en")}.` };
  return { value };
}
/** The control's text for a value. */
export const textOf = (field, value) => (value === null || value === undefined ? "" : field.kind === "lines" ? [value].flat().join("\n") : String(value));

/** A value in words: "On", "All linear layers", "0.0001". */
export function shown(field, value) {
  if (value === null || value === undefined) return "";
  if (field.kind === "switch") return value ? "On" : "Off";
  if (field.kind === "choice") return field.options.find(([key]) => key === value)?.[1] ?? String(value);
  if (field.kind === "lines") return [value].flat().join(" · ");
  return String(value);
}

/** How many settings a person has changed. */
export const changedCount = (params) => FIELDS.filter((f) => getIn(params, f.name) !== undefined && getIn(params, f.name) !== null).length;

/** The wish as JSON text, without what was not said. */
export function toText(wish) {
  const out = {};
  for (const name of TOP) if (wish[name] !== null && wish[name] !== undefined && wish[name] !== "") out[name] = wish[name];
  out.params = { preset: wish.params?.preset ?? DEFAULT_PRESET };
  for (const field of FIELDS) {
    const value = getIn(wish.params, field.name);
    if (value !== null && value !== undefined) out.params = setIn(out.params, field.name, value);
  }
  return JSON.stringify(out, null, 2);
}

/** The config in a run's folder names its folders by whole paths; the form by their names. */
const lastName = (text) => (/^([a-z]:)?[\\/]/i.test(text ?? "") ? text.split(/[\\/]/).filter(Boolean).at(-1) : text);
const camel = (key) => key.replace(/_([a-z0-9])/g, (_all, letter) => letter.toUpperCase());
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * A wish from JSON text: what `toText` writes, or the complete settings of a run (config.json) in either spelling.
 * @returns {{wish?: object, problems: string[], valid?: object}} problems name the setting in words; then there is no wish, and
 *   what of it can be used is in valid
 */
export function fromText(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch (error) {
    return { problems: [`This is not JSON: ${error.message}.`] };
  }
  if (!isObject(data)) return { problems: ["This must be a JSON object: { … }."] };
  const problems = [];
  const wish = { params: {} };
  const take = (key, value, inside) => {
    const name = camel(key);
    if (value === null || value === undefined || DECIDED.has(name)) return;
    if (!inside && TOP.includes(name)) {
      if (typeof value === "string") wish[name] = name === "baseModel" ? lastName(value) : value;
      else problems.push(`${name} must be text.`);
    } else if (!inside && name === "params") {
      if (!isObject(value)) problems.push("params must be an object.");
      else for (const [k, v] of Object.entries(value)) take(k, v, true);
    } else if (name === "preset") {
      if (PRESETS.some((p) => p.key === value)) wish.params.preset = value;
      else problems.push(`There is no preset "${value}". Use ${PRESETS.map((p) => p.key).join(", ")}.`);
    } else if (name === "validation" && isObject(value)) {
      for (const [k, v] of Object.entries(value)) setting(`validation.${camel(k)}`, v);
    } else setting(name, value);
  };
  const setting = (name, value) => {
    const field = BY_NAME.get(name);
    if (value === null || value === undefined) return;
    if (!field) return void problems.push(`There is no setting "${name}".`);
    const right = { switch: "boolean", integer: "number", number: "number", text: "string", choice: "string" }[field.kind];
    if (field.kind === "lines" ? !Array.isArray(value) || value.some((v) => typeof v !== "string") : typeof value !== right)
      return void problems.push(`${name} must be ${field.kind === "lines" ? "a list of texts" : { boolean: "true or false", number: "a number", string: "text" }[right]}.`);
    const found = parse(field, textOf(field, value));
    if (found.message) return void problems.push(`${name}: ${found.message}`);
    if (field.kind === "choice" && !field.options.some(([key]) => key === value)) return void problems.push(`${name} must be one of ${field.options.map(([key]) => key).join(", ")}.`);
    if (name === "priorFolder") found.value = lastName(found.value);
    if (found.value !== null && !(Array.isArray(found.value) && !found.value.length)) wish.params = setIn(wish.params, name, found.value);
  };
  for (const [key, value] of Object.entries(data)) take(key, value, false);
  wish.params.preset ??= DEFAULT_PRESET;
  return problems.length ? { problems, valid: wish } : { wish, problems };
}

/** What is sent: `auto` names the fields that the app filled in by itself, so they are left for it to decide again. */
export function toBody(wish, auto = {}) {
  const body = JSON.parse(toText(wish));
  for (const name of ["name", "triggerWord"]) if (auto[name]) delete body[name];
  if (!auto.triggerWord && !wish.triggerWord) body.triggerWord = "";
  return body;
}

/** A problem's field in the form: "params.rank" → the rank; the caption of a folded field opens its group. */
export const groupOf = (field) => BY_NAME.get(field.replace(/^params\./, ""))?.group ?? BY_NAME.get(`${field.replace(/^params\./, "")}.fraction`)?.group ?? null;
