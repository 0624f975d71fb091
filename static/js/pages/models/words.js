/** What the shelf says in words, which rows a filter shows and in which order. Pure. */
import { bytes, plural } from "../../format.js";

export const SORTS = { size: "Size", used: "Last use", name: "Name", modified: "Newest" };
export const SHOWS = { "": "Used or not", used: "In use", unused: "Used by nobody", problems: "With problems" };
const FITS = {
  yes: ["good", "ok", "Fits"],
  tight: ["warn", "alert", "Tight"],
  no: ["bad", "error", "Too large"],
  unknown: ["neutral", "help", "Not known"],
};
const STATES = {
  same: ["good", "ok", "Same"],
  changed: ["warn", "alert", "Changed"],
  missing: ["bad", "error", "Missing"],
  unknown: ["neutral", "help", "Not known"],
};

/** @returns {[tone: string, icon: string, label: string]} */
export const fitLook = (fit) => FITS[fit?.fits] ?? FITS.unknown;
/** @returns {[tone: string, icon: string, label: string]} of a pinned file */
export const stateLook = (state) => STATES[state] ?? STATES.unknown;

/** "needs 6.8 GB of 24 GB, measured" */
export function fitText(fit) {
  if (!fit || fit.needBytes == null) return "How much memory it needs is not known.";
  const have = fit.haveBytes ? ` of ${bytes(fit.haveBytes)}` : "";
  return `${bytes(fit.needBytes)}${have} at ${fit.width} × ${fit.height}, ${fit.basis}`;
}

/** What is wrong with a row, or "". */
export function problemOf(row) {
  if (!row.loadable) return row.reason ?? "It cannot be loaded.";
  if (row.duplicates?.length) return `The same file is here ${plural(row.duplicates.length + 1, "time")}.`;
  return "";
}

/** The folder of a row, or its name where the label says something else. */
export function whereText(row) {
  const folder = row.name.includes("/") ? row.name.slice(0, row.name.lastIndexOf("/") + 1) : "";
  const own = [row.label, `${row.label}.safetensors`].includes(row.name.slice(folder.length));
  return own ? folder : row.name;
}

/** "Luna, Nova and 1 task" */
export function usedText(row) {
  const by = (type) => (row.usedBy ?? []).filter((u) => u.type === type);
  const parts = by("character").map((u) => u.name);
  if (by("task").length) parts.push(plural(by("task").length, "task"));
  if (by("run").length) parts.push("running work");
  if (row.default) parts.push("the default");
  if (row.kind === "face") parts.push("datasets and posts"); // found and compared there, whoever is in the picture
  if (parts.length < 2) return parts[0] ?? "";
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** Where a user of weights is looked at. @param {{type: string, id: string}} user */
export function userHref(user) {
  if (user.type === "character") return `/characters.html?id=${encodeURIComponent(user.id)}&tab=looks`;
  return user.type === "task" ? `/schedule.html?edit=${encodeURIComponent(user.id)}` : "/monitoring.html";
}

/** @param {any[]} rows @param {{q?: string, kind?: string, family?: string, source?: string, show?: string}} want */
export function filterRows(rows, want) {
  const words = (want.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    if (want.kind && row.kind !== want.kind) return false;
    if (want.source && row.source !== want.source) return false;
    if (want.family && (want.family === "none" ? row.family : row.family !== want.family)) return false;
    const used = Boolean(row.usedBy?.length || row.default);
    if (want.show === "used" && !used) return false;
    if (want.show === "unused" && used) return false;
    if (want.show === "problems" && !problemOf(row)) return false;
    const text = [row.name, row.label, row.familyLabel, row.kindLabel, row.sha256, row.autoV2, row.notes, row.license, usedText(row)].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** @param {any[]} rows @param {string} key one of SORTS @param {"asc"|"desc"} dir */
export function sortRows(rows, key, dir) {
  const value = { size: (r) => r.sizeBytes ?? -1, used: (r) => r.lastUsedAt ?? "", modified: (r) => r.modifiedAt ?? "", name: (r) => r.name.toLowerCase() }[key] ?? ((r) => r.sizeBytes ?? -1);
  const turn = dir === "asc" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return x < y ? -turn : x > y ? turn : a.name.localeCompare(b.name);
  });
}

/** The families there are: [[key, label]], "none" for those without one. */
export function familiesOf(rows) {
  const found = new Map();
  for (const row of rows) if (row.family) found.set(row.family, row.familyLabel ?? row.family);
  const list = [...found].sort((a, b) => a[1].localeCompare(b[1]));
  return rows.some((row) => !row.family && (row.kind === "model" || row.kind === "lora")) ? [...list, ["none", "No family"]] : list;
}

/** Consequences of a removal in sentences. @param {any[]} items answer of POST /api/shelf/trash with dryRun */
export function consequences(items) {
  const found = [];
  for (const item of items) {
    const name = items.length > 1 ? `${item.name}: ` : "";
    const people = item.usedBy.filter((u) => u.type !== "run").map((u) => u.name);
    if (people.length) found.push(`${name}${item.kind === "lora" ? "it is taken off" : "it is used by"} ${people.join(", ")}.`);
    for (const warning of item.warnings) found.push(name + warning);
  }
  return found;
}

/** Why a file whose first 9 bytes these are is no .safetensors file, or "". @param {ArrayBuffer} start @param {number} size */
export function headerProblem(start, size) {
  if (start.byteLength < 8) return "The file is empty.";
  const length = new DataView(start).getBigUint64(0, true);
  const first = new Uint8Array(start)[8];
  if (length > 100_000_000n || length + 8n > BigInt(size)) return "It does not begin like a .safetensors file.";
  return first === undefined || first === 0x7b ? "" : "It does not begin like a .safetensors file.";
}
