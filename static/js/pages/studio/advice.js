/** What should be known before drawing: whether it fits into memory, and whether the versions a character is pinned to still hold. */
import { api } from "../../api.js";
import { bytes } from "../../format.js";

/** What the advice depends on. Pure. @param {any} s the studio's store */
export const adviceKey = (s) => [s.form.characterId, s.character?.updatedAt, s.found.model?.engine, s.found.model?.name, s.v.width, s.v.height].join("|");

/** Sentences to show; none when all is well. Pure. @param {any} fit @param {string[]} warnings */
export function adviceLines(fit, warnings) {
  const lines = [...warnings];
  if (fit?.fits === "no") lines.push(`This needs about ${bytes(fit.needBytes)} of memory; there are ${bytes(fit.haveBytes)}. ${fit.advice[0] ?? ""}`.trim());
  if (fit?.fits === "tight") lines.push(`Memory is tight: about ${bytes(fit.needBytes)} of ${bytes(fit.haveBytes)}. ${fit.advice[0] ?? ""}`.trim());
  return lines;
}

/** Ask the shelf. Never fails: without an answer there is nothing to say. @param {any} s @returns {Promise<string[]>} */
export async function advice(s) {
  const { model } = s.found;
  const id = s.form.characterId;
  const [fit, versions] = await Promise.all([
    model && api.get("/api/shelf/fit", { query: { name: model.name, source: model.engine === "comfyui" ? "comfyui" : "local", width: s.v.width ?? undefined, height: s.v.height ?? undefined } }).catch(() => null),
    id && !s.form.rawPrompt && api.get(`/api/characters/${encodeURIComponent(id)}/models`).catch(() => null),
  ]);
  return adviceLines(fit, versions?.warnings ?? []);
}
