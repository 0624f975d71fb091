/** Words and small shapes of the Datasets page. Pure. */
import { number, plural } from "../../format.js";

/** How a health score reads. @param {number|null|undefined} score @returns {{tone: string, word: string, icon: string}} */
export function healthLook(score) {
  if (score === null || score === undefined) return { tone: "neutral", word: "Not rated", icon: "circle" };
  if (score >= 80) return { tone: "good", word: "Good", icon: "ok" };
  if (score >= 50) return { tone: "warn", word: "Needs work", icon: "alert" };
  return { tone: "bad", word: "Poor", icon: "error" };
}

/** A name for a new set from what was dropped: the archive's stem, the folder, else "". @param {string[]} names */
export function nameFrom(names) {
  const tidy = (text) => text.replace(/[_-]+/g, " ").replace(/\s+/g, " ").trim();
  if (names.length === 1 && !names[0].includes("/")) return tidy(names[0].replace(/\.(zip|[a-z0-9]{2,5})$/i, ""));
  const roots = new Set(names.map((n) => (n.includes("/") ? n.split("/")[0] : "")));
  const [root] = roots;
  return roots.size === 1 && root ? tidy(root.replace(/^\d+_/, "")) : "";
}

/** Tags of a caption, as they stand. */
export const tagsOf = (text) => String(text ?? "").split(",").map((t) => t.trim()).filter(Boolean);

/** What one picture's change reads like: pieces {text, kind: "same"|"gone"|"new"} of the longer common ends. */
export function pieces(before, after) {
  const a = String(before ?? ""), b = String(after ?? "");
  if (a === b) return a ? [{ text: a, kind: "same" }] : [];
  let head = 0;
  const most = Math.min(a.length, b.length);
  while (head < most && a[head] === b[head]) head += 1;
  while (head > 0 && /\w/.test(a[head - 1] ?? "") && /\w/.test((a[head] ?? "") + (b[head] ?? ""))) head -= 1; // not in the middle of a word
  let tail = 0;
  while (tail < most - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  while (tail > 0 && /\w/.test(a[a.length - tail] ?? "") && /\w/.test((a[a.length - tail - 1] ?? "") + (b[b.length - tail - 1] ?? ""))) tail -= 1;
  return [
    { text: a.slice(0, head), kind: "same" },
    { text: a.slice(head, a.length - tail), kind: "gone" },
    { text: b.slice(head, b.length - tail), kind: "new" },
    { text: tail ? a.slice(a.length - tail) : "", kind: "same" },
  ].filter((p) => p.text);
}

/** Why a search pattern is none, "" when it is one. */
export function patternProblem(text, regex) {
  if (!regex || !text) return "";
  try {
    new RegExp(text, "u");
    return "";
  } catch (error) {
    return String(error.message).replace(/^Invalid regular expression: /, "");
  }
}

/** "1024 × 1536" of a picture, "" when it is not known. */
export const sizeText = (item) => (item.width ? `${item.width} × ${item.height}` : "");

/** Width of a bar in 0..100 so that a small count is still seen. */
export const share = (count, most) => (most > 0 && count > 0 ? Math.max(1.5, Math.round((count / most) * 1000) / 10) : 0);

/** "12 pictures added, 3 captions changed" of a version. */
export function versionLine({ added = 0, removed = 0, recaptioned = 0, number: n = 0 } = {}) {
  const parts = [added && `${number(added)} added`, removed && `${number(removed)} removed`, recaptioned && `${plural(recaptioned, "caption")} changed`].filter(Boolean);
  return parts.length ? parts.join(", ") : n <= 1 ? "The first version" : "Nothing changed since the version before";
}

/** The number of a distance slider in words. */
export const distanceWords = (d) => (d <= 0 ? "Looks exactly the same" : d <= 3 ? "Almost the same" : d <= 6 ? "Very alike" : d <= 9 ? "Alike" : "Somewhat alike");

/** The addresses in a text, each once. @param {string} text */
export const addressesIn = (text) => [...new Set(String(text ?? "").split(/\s+/).filter(Boolean))];
