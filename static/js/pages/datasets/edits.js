/** Edits of many captions: which there are, their fields, what is sent. Pure. */

const text = (name, label, more = {}) => ({ name, label, type: "text", spellcheck: false, ...more });
const choice = (name, label, options, value) => ({ name, label, type: "select", value, options: options.map(([v, l]) => ({ value: v, label: l })) });
const check = (name, label, value = false) => ({ name, label, type: "checkbox", value });
const MODE = choice("mode", "Match", [["plain", "Text"], ["tag", "Whole tag"], ["regex", "Regular expression"]], "plain");
const CASE = check("caseSensitive", "Upper and lower case matter");

/** @type {Record<string, {label: string, fields: any[], needs?: string, hint?: string}>} `needs`: nothing is asked before this field has text */
export const EDITS = {
  replace: { label: "Find and replace", needs: "find", fields: [text("find", "Find"), text("replacement", "Replace with", { placeholder: "Empty removes it" }), MODE, CASE], hint: "In regular expressions $1 or \\1 is the first group." },
  remove: { label: "Remove text", needs: "find", fields: [text("find", "Text to remove"), MODE, CASE] },
  prefix: { label: "Put in front", needs: "text", fields: [text("text", "Text"), text("separator", "Joined by", { value: ", " })], hint: "{trigger} {tags} {name} and {folder} are filled in." },
  suffix: { label: "Put behind", needs: "text", fields: [text("text", "Text"), text("separator", "Joined by", { value: ", " })], hint: "{trigger} {tags} {name} and {folder} are filled in." },
  trigger: { label: "Trigger word", fields: [text("word", "Trigger word", { placeholder: "That of the dataset" }), text("oldWord", "Instead of this earlier word"), check("remove", "Take it out everywhere")], hint: "It goes to the front of every caption that lacks it." },
  add_tag: { label: "Add tags", needs: "tags", fields: [text("tags", "Tags, with commas", { dataType: "list" }), choice("position", "Where", [["end", "At the end"], ["start", "At the start"], ["after_trigger", "After the trigger word"]], "end")] },
  remove_tag: { label: "Remove tags", needs: "tags", fields: [text("tags", "Tags, with commas", { dataType: "list" })] },
  rename_tag: { label: "Rename a tag", needs: "to", fields: [text("tag", "Tag"), text("to", "New name")] },
  dedupe_tags: { label: "Remove repeated tags", fields: [] },
  sort_tags: { label: "Sort tags", fields: [choice("order", "By", [["alphabetical", "Alphabet"], ["frequency", "Frequency"]], "alphabetical"), { name: "keepFirst", label: "Leave the first ones", type: "number", value: 0, min: 0, max: 1000, dataType: "integer" }] },
  shuffle_tags: { label: "Shuffle tags", fields: [{ name: "keepFirst", label: "Leave the first ones", type: "number", value: 1, min: 0, max: 1000, dataType: "integer" }, { name: "seed", label: "Seed", type: "number", value: 0, min: 0, dataType: "integer" }] },
  case: { label: "Upper and lower case", fields: [choice("to", "To", [["lower", "lower case"], ["sentence", "Sentence case"], ["title", "Title Case"], ["upper", "UPPER CASE"]], "lower")] },
  tidy: { label: "Tidy spaces and commas", fields: [] },
};

/** Options of an edit from the form's values: empty ones left out (an empty replacement stays). */
export function optionsOf(operation, values) {
  const options = {};
  for (const { name } of EDITS[operation].fields) {
    const value = values[name];
    if (name === "replacement" || name === "separator") options[name] = value ?? "";
    else if (value !== null && value !== undefined && value !== "" && value !== false && !(Array.isArray(value) && !value.length)) options[name] = value;
  }
  return options;
}

/** Whether there is enough to ask for a preview. */
export const isReady = (operation, options) => {
  const { needs } = EDITS[operation];
  return !needs || Boolean(options[needs]?.length);
};
