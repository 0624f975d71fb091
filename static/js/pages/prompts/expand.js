/**
 * Prompts with choices, for the preview: `{red|green}` and `__colour__` (a line of the wildcard "colour"). Braces nest, options may be
 * weighted (`{3::often|rarely}`) and empty; braces without `|` are text, as is what follows a backslash. The rules are those of
 * dalla/services/wildcards.py. Pure: chance is an argument.
 */
const DEPTH = 12;
const USE = /__([A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}?[A-Za-z0-9])??)__/g;
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$/;
const WEIGHT = /^\s*(\d+(?:\.\d+)?)::/;

/** The options of a wildcard file: one per line, `#` begins a comment line. */
export const optionsOf = (text) =>
  String(text ?? "")
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line && !line.startsWith("#"));

export const goodName = (name) => NAME.test(name) && !name.includes("__");

/** The wildcards a text uses, each once. */
export const used = (text) => [...new Set([...String(text ?? "").matchAll(USE)].map(([, name]) => name))];
/** Whether a text says something else each time. */
export const hasChoices = (text) => used(text).length > 0 || /\{[^{}]*\|/.test(String(text ?? ""));

/**
 * One way the text may come out.
 * @param {string} text @param {Record<string, string[]>} wildcards options by name @param {() => number} [random] 0..1
 * @returns {{text: string, missing: string[]}} names that have no options stay in the text as they are
 */
export function expand(text, wildcards = {}, random = Math.random) {
  const missing = new Set();
  const whole = (source, depth) => {
    if (depth > DEPTH) return source;
    return braces(source, random).replace(USE, (use, name) => {
      const options = wildcards[name];
      if (options?.length) return whole(choose(options, random), depth + 1);
      missing.add(name);
      return use;
    });
  };
  const out = whole(String(text ?? ""), 0).replace(/\\([{}|])/g, "$1");
  return { text: tidy(out), missing: [...missing] };
}

function choose(options, random) {
  const weighed = options.map((option) => {
    const weight = WEIGHT.exec(option);
    return weight ? [Number(weight[1]), option.slice(weight[0].length)] : [1, option];
  });
  const sum = weighed.reduce((total, [weight]) => total + weight, 0);
  if (!sum) return weighed[Math.floor(random() * weighed.length)][1];
  let left = random() * sum;
  for (const [weight, option] of weighed) {
    left -= weight;
    if (left < 0) return option;
  }
  return weighed.at(-1)[1];
}

function braces(text, random, depth = 0) {
  if (depth > DEPTH) return text;
  const ends = pairs(text);
  let out = "";
  for (let at = 0; at < text.length;) {
    if (text[at] === "\\" && "{}|".includes(text[at + 1] || " ")) {
      out += text.slice(at, at + 2); // taken off at the very end
      at += 2;
    } else if (ends.has(at)) {
      const inner = text.slice(at + 1, ends.get(at));
      const parts = split(inner);
      out += parts.length > 1 ? braces(choose(parts, random).trim(), random, depth + 1) : `{${braces(inner, random, depth + 1)}}`;
      at = ends.get(at) + 1;
    } else {
      out += text[at];
      at += 1;
    }
  }
  return out;
}

function* unescaped(text) {
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\" && "{}|".includes(text[at + 1] || " ")) at += 1;
    else yield [at, text[at]];
  }
}
/** The place of the closing brace for each opening one that has one. */
function pairs(text) {
  const ends = new Map(),
    open = [];
  for (const [at, char] of unescaped(text)) {
    if (char === "{") open.push(at);
    else if (char === "}" && open.length) ends.set(open.pop(), at);
  }
  return ends;
}
/** Cut the inside of a group at its own `|`, not at those of groups within. */
function split(inner) {
  const cuts = [-1];
  let depth = 0;
  for (const [at, char] of unescaped(inner)) {
    depth += (char === "{") - (char === "}");
    if (char === "|" && !depth) cuts.push(at);
  }
  return cuts.map((cut, i) => inner.slice(cut + 1, cuts[i + 1] ?? inner.length));
}
const tidy = (text) =>
  text
    .replace(/[ \t]{2,}/g, " ")
    .replace(/(?:[ \t]*,){2,}/g, ",")
    .replace(/^[ ,]+|[ ,]+$/g, "");
