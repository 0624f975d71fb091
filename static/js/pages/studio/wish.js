/** What the studio's form holds, and the way from it to a request and back. Pure: no DOM, no fetch. */
import { SHAPES, shapeOf, sizeFor } from "./sizes.js";

/** An untouched form. `tuned` keeps, per model, only what differs from that model's defaults. */
export const fresh = () => ({
  characterId: "",
  prompt: "",
  negativePrompt: "",
  rawPrompt: false,
  engine: "auto",
  model: "",
  batchSize: 1,
  loras: null,
  seed: null,
  seedLocked: false,
  initMediaId: "",
  denoise: 0.6,
  tuned: {},
  typed: null,
});

const slashes = (name) => String(name).replaceAll("\\", "/");
/** Whether two model names are one file. */
export const sameName = (a, b) => slashes(a) === slashes(b);
const plain = (name) => slashes(name).replace(/\.safetensors$/i, "").toLowerCase();
/** Whether two LoRA names are one file: one engine lists it with its ending, another without. */
export const sameLora = (a, b) => plain(a) === plain(b);
/** Where a model's own values are kept. */
export const modelKey = (model) => `${model.engine}:${slashes(model.name)}`;

/**
 * Find what a form draws with: the chosen model, else the character's, else the default.
 * `missing` names a wanted model no usable engine has; then `model` is null and nothing is chosen in its place.
 * @param {{models: any[], engines: any[]}} catalog
 */
export function resolve(catalog, form, character) {
  const usable = catalog.engines.filter((e) => e.available && (form.engine === "auto" || e.name === form.engine));
  const pool = catalog.models.filter((m) => m.family && usable.some((e) => e.name === m.engine));
  const wanted = form.model || character?.preferredModel || "";
  const model = wanted ? (pool.find((m) => sameName(m.name, wanted)) ?? null) : standard(pool);
  return {
    model,
    wanted,
    usable,
    pool,
    missing: wanted && !model ? wanted : "",
    from: form.model ? "chosen" : wanted ? "character" : "default",
    engine: model ? catalog.engines.find((e) => e.name === model.engine) : (usable[0] ?? null),
    standard: standard(pool),
  };
}
const standard = (pool) => pool.find((m) => m.default) ?? pool.find((m) => m.kind === "checkpoint") ?? pool[0] ?? null;

const TUNABLE = ["steps", "cfgScale", "guidance", "sampler", "scheduler"];

/** All values as they would be used: the tuned ones over the model's defaults. */
export function values(form, model, character) {
  const d = model?.defaults ?? null;
  const own = (model && form.tuned[modelKey(model)]) || {};
  const out = { tuned: Object.keys(own).length > 0 };
  for (const name of TUNABLE) out[name] = own[name] ?? d?.[name] ?? null;
  out.shape = own.shape ?? (form.initMediaId ? "init" : "square");
  if (out.shape === "init" && !form.initMediaId) out.shape = "square";
  const size =
    !d || out.shape === "init"
      ? { width: null, height: null }
      : out.shape === "custom"
        ? { width: own.width ?? d.width, height: own.height ?? d.height }
        : sizeFor((SHAPES.find((s) => s.key === out.shape) ?? SHAPES[0]).ratio, d);
  out.width = size.width;
  out.height = size.height;
  out.loras = form.loras ?? (form.rawPrompt ? [] : (character?.loras ?? []));
  out.lorasInherited = form.loras === null && out.loras.length > 0;
  out.negative = d ? d.negativePrompt : true;
  return out;
}

/** Set values of a model; what equals its default is forgotten. */
export function tune(form, model, changes) {
  const key = modelKey(model);
  const own = { ...form.tuned[key], ...changes };
  for (const name of TUNABLE) if (own[name] === model.defaults?.[name]) delete own[name];
  if (own.shape !== "custom") {
    delete own.width;
    delete own.height;
  }
  if (own.shape === (form.initMediaId ? "init" : "square")) delete own.shape;
  for (const name of Object.keys(own)) if (own[name] === null || own[name] === undefined || own[name] === "") delete own[name];
  const tuned = { ...form.tuned, [key]: own };
  if (!Object.keys(own).length) delete tuned[key];
  return { ...form, tuned };
}

/** The body of POST /api/generate-image. Only what was chosen is said; the server fills in the rest. */
export function toRequest(form, found, character) {
  const v = values(form, found.model, character);
  const own = (found.model && form.tuned[modelKey(found.model)]) || {};
  const engine = form.engine !== "auto" ? form.engine : form.model && found.model ? found.model.engine : null;
  const body = {
    characterId: form.characterId || null,
    prompt: form.prompt.trim() || null,
    negativePrompt: v.negative ? form.negativePrompt.trim() || null : null,
    rawPrompt: form.rawPrompt || null,
    engine,
    model: found.model?.name ?? (form.model || null),
    width: v.width,
    height: v.height,
    batchSize: form.batchSize,
    loras: form.loras,
    seed: form.seedLocked ? form.seed : null,
    initImageMediaId: form.initMediaId || null,
    denoise: form.initMediaId ? form.denoise : null,
  };
  for (const name of TUNABLE) body[name] = own[name] ?? null;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== undefined));
}

/** A form that asks for exactly what a request says (as GET /api/media/{id}/recipe answers it). */
export function fromRequest(request, form, catalog) {
  let next = {
    ...form,
    characterId: request.characterId ?? "",
    prompt: request.prompt ?? "",
    negativePrompt: request.negativePrompt ?? "",
    rawPrompt: Boolean(request.rawPrompt && request.characterId), // without a character there is nothing to keep out
    model: request.model ?? "",
    engine: "auto",
    batchSize: Math.min(8, request.batchSize ?? 1),
    loras: request.loras ?? [],
    seed: request.seed ?? null,
    seedLocked: request.seed !== undefined && request.seed !== null,
    initMediaId: request.initImageMediaId ?? "",
    denoise: request.denoise ?? 0.6,
  };
  const found = resolve(catalog, next, null);
  if (!found.model) return { form: next, missing: found.missing };
  const d = found.model.defaults;
  const changes = Object.fromEntries(TUNABLE.map((name) => [name, request[name] ?? null]));
  if (request.width && request.height) {
    changes.shape = shapeOf(request.width, request.height, d);
    if (changes.shape === "custom") Object.assign(changes, { width: request.width, height: request.height });
  } else changes.shape = next.initMediaId ? "init" : "square";
  next = tune({ ...next, tuned: { ...next.tuned, [modelKey(found.model)]: {} } }, found.model, changes);
  return { form: next, missing: "" };
}

/** Back from a recalled, complete prompt to what was typed, with the character composed in again. */
export function compose(form, character) {
  const theirs = (character?.promptSettings?.negativePrompt ?? "").trim();
  const negative =
    theirs && form.negativePrompt.startsWith(theirs)
      ? form.negativePrompt.slice(theirs.length).replace(/^[\s,]+/, "")
      : form.negativePrompt;
  return { rawPrompt: false, typed: null, loras: null, prompt: form.typed ?? form.prompt, negativePrompt: negative };
}

/** The call that asks for the pictures of this form, or of a recipe. */
export const asCall = (body) => ({ method: "POST", path: "/api/generate-image", query: { async: 1 }, body });

/** Remember how long pictures take: seconds per step and megapixel, smoothed. */
export function learnSpeed(known, { model, steps, batchSize, width, height, durationMs }) {
  if (!durationMs || !steps || !width) return known;
  const unit = durationMs / 1000 / (steps * (batchSize || 1) * ((width * height) / 1e6));
  const before = known[model];
  return { ...known, [model]: before ? before * 0.6 + unit * 0.4 : unit };
}
/** Seconds a picture is expected to take, null when nothing like it was drawn here yet. */
export const expect = (known, { model, steps, batchSize, width, height }) =>
  known[model] && steps && width ? known[model] * steps * (batchSize || 1) * ((width * height) / 1e6) : null;

/** How much a start picture changes, in words. */
export const denoiseWord = (d) =>
  d <= 0.25 ? "barely changed" : d <= 0.45 ? "subtle" : d <= 0.7 ? "clear change" : d < 0.95 ? "strong change" : "almost a new picture";
