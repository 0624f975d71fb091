// @ts-check
/** How strong a password is, and a new one. Pure but for the random numbers. */

/** The server takes no shorter one. */
export const MIN_LENGTH = 10;
/** No lookalikes (l 1 I, o 0), so that it can be read from paper. */
const LETTERS = "abcdefghjkmnpqrstuvwxyz23456789";
const GROUPS = 4;
const GROUP = 5;

/**
 * A random password of four groups: "k7mqp-x3vtd-9hdpn-w2rfs" (99 bits).
 * @param {(bytes: Uint8Array) => Uint8Array} [random]
 */
export function suggest(random = (bytes) => crypto.getRandomValues(bytes)) {
  const fair = 256 - (256 % LETTERS.length);
  let text = "";
  while (text.length < GROUPS * GROUP) {
    for (const byte of random(new Uint8Array(64))) {
      if (byte < fair && text.length < GROUPS * GROUP) text += LETTERS[byte % LETTERS.length];
    }
  }
  return Array.from({ length: GROUPS }, (_, i) => text.slice(i * GROUP, (i + 1) * GROUP)).join("-");
}

/** What people choose again and again, as whole words or inside of a longer one. */
const COMMON =
  "password passwort passwd letmein welcome admin administrator login qwerty qwertz azerty iloveyou monkey dragon football baseball princess sunshine shadow master superman batman trustno1 starwars whatever freedom secret hello hallo test guest changeme default summer winter spring autumn dalla digital".split(
    " ",
  );
const RUNS = ["abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertzuiopasdfghjklyxcvbnm", "qwertyuiopasdfghjklzxcvbnm"];
const LEET = /** @type {Record<string, string>} */ ({ 0: "o", 1: "l", 3: "e", 4: "a", 5: "s", 7: "t", "@": "a", $: "s", "!": "i" });

/**
 * @typedef {{score: 0|1|2|3|4, label: string, advice: string, bits: number}} Strength
 * score 0 is not accepted by the server (too short), 1 weak … 4 strong
 */

/**
 * Judge a password: the bits of its letters, less what is guessed first (known words, runs, repeats, years, the person's own name).
 * @param {string} password @param {string[]} [own] words that belong to the person (name), worth nothing in the password
 * @returns {Strength}
 */
export function strength(password, own = []) {
  const length = [...password].length;
  if (length === 0) return { score: 0, label: "", advice: "", bits: 0 };
  const { text, found } = guessable(password.toLowerCase(), own);
  const bits = Math.round(worth(password, text));
  if (length < MIN_LENGTH) return { score: 0, label: "Too short", advice: `${MIN_LENGTH - length} more, at least`, bits };
  const score = bits < 36 ? 1 : bits < 60 ? 2 : bits < 76 ? 3 : 4;
  const label = ["", "Weak", "Fair", "Good", "Strong"][score];
  return { score: /** @type {1|2|3|4} */ (score), label, advice: score > 2 ? "" : found || "Longer is stronger: three or four unrelated words do", bits };
}

/** Replace what is guessed first by one mark each; say which kind it was. @param {string} lower @param {string[]} own */
function guessable(lower, own) {
  let text = lower,
    found = "";
  const plain = [...lower].map((c) => LEET[c] ?? c).join("");
  const mark = (/** @type {number} */ at, /** @type {number} */ length, /** @type {string} */ why) => {
    text = text.slice(0, at) + "\u0000" + "\u0001".repeat(length - 1) + text.slice(at + length);
    found ||= why;
  };
  for (const word of own.flatMap((o) => o.toLowerCase().split(/[^\p{L}\p{N}]+/u)).filter((w) => w.length > 2)) {
    for (let at = plain.indexOf(word); at >= 0; at = plain.indexOf(word, at + word.length)) mark(at, word.length, "Your name is guessed first");
  }
  for (const word of COMMON) {
    for (let at = plain.indexOf(word); at >= 0; at = plain.indexOf(word, at + word.length)) mark(at, word.length, `“${word}” is guessed first`);
  }
  for (const run of RUNS) {
    for (const order of [run, [...run].reverse().join("")]) {
      for (let at = 0; at < lower.length - 3; at += 1) {
        let length = 0;
        while (at + length < lower.length && order.includes(lower.slice(at, at + length + 1))) length += 1;
        if (length > 3 && !/[\u0000\u0001]/.test(text.slice(at, at + length))) mark(at, length, "Rows of the keyboard are guessed first");
      }
    }
  }
  for (const { 0: hit, index } of text.matchAll(/(?:19|20)\d\d/g)) mark(index, hit.length, "Years are guessed first");
  for (const { 0: hit, index } of text.matchAll(/([^\u0000\u0001])\1{2,}|([^\u0000\u0001]{2,})\2+/g)) mark(index, hit.length, "Repeats do not help");
  return { text, found };
}

/** Bits of what is left. @param {string} password @param {string} text as guessable() left it: one mark per known piece, the rest of it skipped */
function worth(password, text) {
  let alphabet = 0;
  if (/\p{Ll}/u.test(password)) alphabet += 26;
  if (/\p{Lu}/u.test(password)) alphabet += 26;
  if (/\d/.test(password)) alphabet += 10;
  if (/[^\p{L}\d]/u.test(password)) alphabet += 20;
  if (/[^\x00-\x7f]/.test(password)) alphabet += 40;
  const perLetter = Math.log2(Math.max(alphabet, 2));
  const loose = [...text].filter((c) => c !== "\u0000" && c !== "\u0001");
  const known = [...text].filter((c) => c === "\u0000").length;
  const kinds = new Set(loose).size;
  // few different letters are worth less than their number says
  return Math.min(loose.length, kinds * 2.5) * perLetter * 0.9 + known * 8;
}
