/** What the gallery shows, as the address bar says it. Names are the API's, so one object is both. Pure. */

/** Parameters of `GET /api/media` that narrow the list, in the order their chips stand. */
export const FILTERS = [
  "collectionId",
  "characterId",
  "q",
  "model",
  "lora",
  "engine",
  "type",
  "starred",
  "posted",
  "after",
  "before",
  "taskId",
];
const KNOWN = new Set([...FILTERS, "trashed", "sort"]);
const TRUE = new Set(["1", "true", "yes", "on"]);
const FLAGS = new Set(["starred", "posted", "trashed"]);

/** @param {string} search location.search @returns {Record<string, string>} only what is known and set */
export function readQuery(search) {
  const state = {};
  for (const [name, value] of new URLSearchParams(search)) {
    if (!KNOWN.has(name) || value === "") continue;
    if (FLAGS.has(name)) {
      if (TRUE.has(value)) state[name] = "true";
      else if (name !== "trashed") state[name] = "false";
    } else if (name === "sort") {
      if (value === "oldest") state.sort = value;
    } else state[name] = value;
  }
  return state;
}

/** The address for a state; other parameters (an open picture) are left out. */
export function address(state, path = "/gallery.html") {
  const query = new URLSearchParams();
  for (const name of [...FILTERS, "trashed", "sort"]) if (state[name]) query.set(name, state[name]);
  return query.size ? `${path}?${query}` : path;
}

/** Query for `/api/media/facets` and `/api/media/ids`: the filters without the order. */
export const filterOf = (state) =>
  Object.fromEntries([...FILTERS, "trashed"].filter((name) => state[name]).map((name) => [name, state[name]]));

export const hasFilters = (state) => FILTERS.some((name) => state[name]);

/** The state with some names changed; "" or null takes one away. */
export function change(state, changes) {
  const next = { ...state };
  for (const [name, value] of Object.entries(changes))
    if (value) next[name] = value;
    else delete next[name];
  return next;
}

const quoted = (text) => (/\s/.test(text) ? `"${text}"` : text);
const LABELS = {
  q: "Search",
  model: "Model",
  lora: "LoRA",
  engine: "Engine",
  type: "Type",
  after: "From",
  before: "Until",
  taskId: "Task",
};

/**
 * Chips for what is narrowed. @param {Record<string, string>} state
 * @param {{character?: (id: string) => string|undefined, collection?: (id: string) => string|undefined, day?: (d: string) => string}} names
 * @returns {{name: string, label: string, value: string, icon: string}[]}
 */
export function chipsOf(state, { character = () => undefined, collection = () => undefined, day = (d) => d } = {}) {
  const icons = {
    q: "search",
    model: "layers",
    lora: "bolt",
    engine: "cpu",
    type: "image",
    after: "calendar",
    before: "calendar",
    taskId: "tasks",
    starred: "star",
    posted: "send",
    characterId: "user",
    collectionId: "folder",
  };
  return FILTERS.filter((name) => state[name]).map((name) => {
    const value = state[name];
    const shown =
      name === "characterId"
        ? (character(value) ?? value)
        : name === "collectionId"
          ? (collection(value) ?? value)
          : name === "starred"
            ? value === "true"
              ? "Starred"
              : "Not starred"
            : name === "posted"
              ? value === "true"
                ? "Posted"
                : "Not posted"
              : name === "after" || name === "before"
                ? day(value)
                : name === "q"
                  ? value
                  : name === "model" || name === "lora"
                    ? stem(value)
                    : name === "type"
                      ? value === "video"
                        ? "Videos"
                        : "Pictures"
                      : quoted(value);
    return { name, label: LABELS[name] ?? "", value: shown, icon: icons[name] };
  });
}

/** A file name without its folder and its ending: how a model is called in lists. */
export const stem = (name) =>
  String(name ?? "")
    .replace(/^.*[\\/]/, "")
    .replace(/\.(safetensors|ckpt|pt|gguf|bin)$/i, "");

/** The rows in which two recipes differ, and how many are the same. @returns {{rows: {label: string, a: string, b: string}[], same: number}} */
export function differences(a, b) {
  const rows = [],
    facts = [a, b].map(factsOf);
  let same = 0;
  for (const label of new Set([...facts[0].keys(), ...facts[1].keys()])) {
    const [left, right] = facts.map((f) => f.get(label) ?? "–");
    if (left === right) same += 1;
    else rows.push({ label, a: left, b: right });
  }
  return { rows, same };
}

/** What is known about how a picture was made: label → text, in reading order. */
export function factsOf(item) {
  const r = item?.recipe ?? {};
  const loras = r.loras?.length
    ? r.loras.map((l) => `${stem(l.name)} × ${l.strength ?? 1}`).join(", ")
    : (item?.loras ?? []).map(stem).join(", ");
  const rows = [
    ["Prompt", r.prompt ?? item?.prompt],
    ["Negative prompt", r.negativePrompt ?? item?.negativePrompt],
    ["Model", stem(r.model ?? item?.model)],
    ["LoRAs", loras],
    ["Seed", r.seed ?? item?.seed],
    ["Steps", r.steps],
    ["CFG scale", r.cfgScale],
    ["Guidance", r.guidance],
    ["Sampler", [r.sampler, r.scheduler].filter(Boolean).join(" / ")],
    ["Denoise", r.initImageMediaId ? r.denoise : null],
    ["Size", item?.width ? `${item.width} × ${item.height}` : null],
    [
      "Engine",
      [r.engine ?? item?.engine, ...Object.entries(r.engineVersions ?? {}).map(([k, v]) => `${k} ${v}`)].filter(Boolean).join(", "),
    ],
    ["Device", [r.device, r.precision].filter(Boolean).join(", ")],
  ];
  return new Map(rows.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) => [k, String(v)]));
}
