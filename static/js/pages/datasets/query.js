/** Where the Datasets page is, as the address bar says it: which set, tab and filter. Names are the API's. Pure. */

/** Parameters of `GET /api/datasets/{id}/images` that narrow the list, in the order their chips stand. */
export const FILTERS = [
  "ids", "q", "tag", "withoutTag", "captioned", "captionSource", "locked", "excluded", "kind", "concept", "regularization", "folder", "format", "language",
  "minSide", "maxSide", "faces", "blurry", "group", "samePixels", "sharedCaption", "bucket", "resolution", "step", "has", "missing", "parentId", "trashed",
];
const OWN = new Set(["dataset", "tab", "image", "sort", "edit", "new", "distance", "queue", "version", "against", "base", "batch", "list", "from", "op"]);
const isRange = (name) => /^range\.[A-Za-z]\w*$/.test(name);
export const TABS = ["images", "captions", "stats", "clean", "versions"];
export const SORTS = {
  name: "File name", newest: "Newest first", oldest: "Oldest first", largest: "Largest first", smallest: "Smallest first",
  sharpest: "Sharpest first", blurriest: "Blurriest first", caption: "Caption",
};

/**
 * @param {string} search location.search
 * @returns {{dataset: string, tab: string, sort: string, filter: Record<string, string>, own: Record<string, string>}}
 */
export function readQuery(search) {
  const filter = {}, own = {};
  for (const [name, value] of new URLSearchParams(search)) {
    if (value === "") continue;
    if (OWN.has(name)) own[name] = value;
    else if (FILTERS.includes(name) || isRange(name)) filter[name] = value;
  }
  return { dataset: own.dataset ?? "", tab: TABS.includes(own.tab) ? own.tab : "images", sort: own.sort in SORTS ? own.sort : "name", filter, own };
}

/** A filter as the server writes it beside a number (text or object) → {name: text}. What is not known is left out. */
export function asFilter(given) {
  if (!given) return {};
  const pairs = typeof given === "string" ? [...new URLSearchParams(given.replace(/^\?/, ""))] : Object.entries(given);
  const filter = {};
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "" || !(FILTERS.includes(name) || isRange(name))) continue;
    filter[name] = Array.isArray(value) ? value.join(",") : String(value);
  }
  return filter;
}

/** @param {{dataset?: string, tab?: string, sort?: string, filter?: Record<string, string>, own?: Record<string, string>}} at */
export function address({ dataset = "", tab = "images", sort = "name", filter = {}, own = {} }) {
  const query = new URLSearchParams();
  if (dataset) query.set("dataset", dataset);
  if (dataset && tab !== "images") query.set("tab", tab);
  for (const name of orderOf(filter)) query.set(name, filter[name]);
  if (sort !== "name") query.set("sort", sort);
  for (const [name, value] of Object.entries(own)) if (value && !["dataset", "tab", "sort"].includes(name)) query.set(name, value);
  return query.size ? `/datasets.html?${query}` : "/datasets.html";
}

const orderOf = (filter) => [...FILTERS.filter((n) => filter[n]), ...Object.keys(filter).filter((n) => isRange(n) && filter[n]).sort()];

/** The filter with some names changed; "" or null takes one away. */
export function change(filter, changes) {
  const next = { ...filter };
  for (const [name, value] of Object.entries(changes))
    if (value === null || value === undefined || value === "") delete next[name];
    else next[name] = String(value);
  if (!next.bucket) {
    delete next.resolution;
    delete next.step;
  }
  return next;
}

/** Whether it narrows anything (the trash is a place, not a filter). */
export const hasFilters = (filter) => orderOf(filter).some((name) => !SILENT.has(name));

const NAMES = {
  tag: "Tag", withoutTag: "Without tag", concept: "Concept", folder: "Folder", format: "Format", minSide: "Short side from", maxSide: "Short side up to",
  group: "Duplicate group", bucket: "Bucket", parentId: "Made from", captionSource: "Caption by", language: "Language",
};
const MEASURES = {
  sharpness: "Sharpness", brightness: "Brightness", contrast: "Contrast", clippedDark: "Blocked shadows", clippedBright: "Burnt lights", saturation: "Saturation",
  jpegQuality: "JPEG quality", border: "Border", aspect: "Aspect", megapixels: "Megapixels", faces: "Faces", faceShare: "Face share", faceSharpness: "Sharpness of the face",
  faceMatch: "Likeness of the face", yaw: "Turned by", exifTurn: "Turned by EXIF", mask: "Mask", duplicateDistance: "Distance", tokensClip: "CLIP tokens", tokensT5: "T5 tokens", words: "Words", dhash: "Likeness", duplicateGroup: "Duplicate group",
};
export const measureName = (key) => MEASURES[key] ?? key.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/^./, (c) => c.toUpperCase());
export const SOURCES = { none: "nobody", file: "the import", human: "a person", engine: "an engine", edit: "an edit" };
const FLAGS = {
  captioned: ["Captioned", "Without caption"], locked: ["Locked caption", "Caption not locked"], excluded: ["Excluded", "Not excluded"],
  blurry: ["Blurry", "Not blurry"], regularization: ["Regularisation", "Not regularisation"], samePixels: ["Exact double", "No exact double"], sharedCaption: ["Same caption as another", "A caption of its own"],
};
/** "German" of "de". @param {string} code */
export function languageName(code) {
  if (code === "unclear") return "cannot be told";
  if (code === "other") return "another script";
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code) ?? code;
  } catch {
    return code;
  }
}
const yes = (value) => ["1", "true", "yes"].includes(value);
const short = (text) => (/^\d*\.\d{3,}$/.test(text) ? String(Math.round(Number(text) * 100) / 100) : text);

/** "from 3 to 5" of "3..5"; either end may be open. */
export function rangeWords(value) {
  const [low, high] = String(value).split("..").map((end) => short(end.replace("<", "")));
  if (high === undefined || low === high) return low;
  if (!low) return `up to ${high}`;
  if (!high) return `from ${low}`;
  return `${low} to ${high}`;
}

const SILENT = new Set(["trashed", "resolution", "step"]); // a place; what a bucket was counted with

/** Chips for what is narrowed. @returns {{name: string, label: string, value: string}[]} */
export function chipsOf(filter) {
  return orderOf(filter).filter((name) => !SILENT.has(name)).map((name) => {
    const value = filter[name];
    if (isRange(name)) return { name, label: measureName(name.slice(6)), value: rangeWords(value) };
    if (FLAGS[name]) return { name, label: "", value: FLAGS[name][yes(value) ? 0 : 1] };
    if (name === "q") return { name, label: "Search", value };
    if (name === "faces") return { name, label: "", value: value === "0" ? "No face" : value === "1" ? "One face" : "Several faces" };
    if (name === "kind") return { name, label: "", value: value === "processed" ? "Made from others" : "Originals" };
    if (name === "captionSource") return { name, label: NAMES[name], value: SOURCES[value] ?? value };
    if (name === "has") return { name, label: "", value: value === "duplicateGroup" ? "Has a double" : value === "mask" ? "Has a mask" : `With ${measureName(value).toLowerCase()}` };
    if (name === "missing") return { name, label: "", value: value === "faces" ? "Not analyzed" : `Without ${measureName(value).toLowerCase()}` };
    if (name === "language") return { name, label: NAMES[name], value: languageName(value) };
    if (name === "ids") return { name, label: "", value: `${value.split(",").length} chosen` };
    return { name, label: NAMES[name] ?? name, value: value === "." ? (name === "folder" ? "top" : "none") : value };
  });
}

/** Same filter? Order does not matter. */
export const same = (a, b) => orderOf(a).length === orderOf(b).length && orderOf(a).every((name) => a[name] === b[name]);
