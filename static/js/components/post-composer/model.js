/** The post that is being written, as data: what it holds, how it changes, what is asked of the server. Pure. */

export const PLATFORMS = ["instagram", "twitter"];
const OPTIONS = { fit: "pad", ratio: null, background: "blur", focus: null, madeWithAi: true };

/**
 * @typedef {object} Form
 * @property {string} postId "" for a new one
 * @property {number|null} revision what an edit is based on
 * @property {string} characterId
 * @property {string[]} platforms
 * @property {string[]} mediaIds
 * @property {string[]} altTexts beside mediaIds
 * @property {boolean} story
 * @property {boolean} linked one caption for all platforms
 * @property {string} caption the shared one
 * @property {Record<string, string>} captions by platform, once they have been edited apart
 * @property {{fit: string, ratio: string|null, background: string, focus: number[]|null, madeWithAi: boolean}} options
 * @property {string} at "YYYY-MM-DDTHH:MM" in the character's zone, "" for none
 * @property {boolean} dryRun rehearse although it could go out
 */

/** @param {Partial<Form>} [given] @returns {Form} */
export const blank = (given = {}) => ({
  postId: "",
  revision: null,
  characterId: "",
  platforms: ["instagram"],
  mediaIds: [],
  altTexts: [],
  story: false,
  linked: true,
  caption: "",
  captions: {},
  at: "",
  dryRun: false,
  ...given,
  options: { ...OPTIONS, ...given.options },
});

/** An existing post as a form. @param {any} post @param {(iso: string) => string} local a moment as the zone's input text */
export const fromPost = (post, local) =>
  blank({
    postId: post.id,
    revision: post.revision,
    characterId: post.characterId,
    platforms: [post.platform],
    mediaIds: [...(post.mediaIds ?? [])],
    altTexts: fitTexts(post.altTexts, post.mediaIds?.length ?? 0),
    story: post.kind === "story",
    caption: post.caption ?? "",
    options: post.options,
    at: post.scheduledAt ? local(post.scheduledAt) : "",
    dryRun: Boolean(post.dryRun),
  });

const fitTexts = (texts, n) => Array.from({ length: n }, (_, i) => texts?.[i] ?? "");

/** Is there anything in it that would be missed? @param {Form} form */
export const isEmpty = (form) =>
  !form.mediaIds.length && !form.caption.trim() && !Object.values(form.captions).some((c) => c.trim()) && !form.altTexts.some((t) => t.trim());

/** @param {Form} form */
export const kindOf = (form) => (form.story ? "story" : form.mediaIds.length > 1 ? "carousel" : "single");

/** @param {Form} form @param {string} platform */
export const captionFor = (form, platform) => (form.linked ? form.caption : (form.captions[platform] ?? form.caption));

/** Type a caption. While linked it goes to all. @param {Form} form @param {string} platform "" for the shared one @param {string} text @returns {Form} */
export const withCaption = (form, platform, text) =>
  form.linked || !platform
    ? { ...form, caption: text, captions: form.linked ? {} : form.captions }
    : { ...form, captions: { ...form.captions, [platform]: text } };

/** Edit apart: every platform keeps the words it has. @param {Form} form @returns {Form} */
export const unlink = (form) => ({
  ...form,
  linked: false,
  captions: Object.fromEntries(PLATFORMS.map((p) => [p, captionFor(form, p)])),
});
/** One caption again: the words of that platform. @param {Form} form @param {string} platform @returns {Form} */
export const link = (form, platform) => ({ ...form, linked: true, caption: captionFor(form, platform), captions: {} });

/** Take over what was generated: apart only when the platforms got different words. @param {Form} form @param {any} answer @returns {Form} */
export function withGenerated(form, answer) {
  const own = answer.captions ?? {};
  const words = form.platforms.map((p) => own[p] ?? answer.caption ?? "");
  const altTexts = form.mediaIds.map((_, i) => form.altTexts[i] || (i === 0 ? (answer.altText ?? "") : ""));
  if (new Set(words).size <= 1) return { ...form, linked: true, caption: words[0] ?? "", captions: {}, altTexts };
  const captions = Object.fromEntries(PLATFORMS.map((p) => [p, own[p] ?? answer.caption ?? ""]));
  return { ...form, linked: false, caption: answer.caption ?? words[0], captions, altTexts };
}

// ---------------------------------------------------------------- pictures

/** @param {Form} form @param {string[]} ids @returns {Form} */
export function addMedia(form, ids) {
  const fresh = ids.filter((id, i) => !form.mediaIds.includes(id) && ids.indexOf(id) === i);
  const mediaIds = [...form.mediaIds, ...fresh];
  return { ...form, mediaIds, altTexts: fitTexts(form.altTexts, mediaIds.length), story: form.story && mediaIds.length <= 1 };
}
/** @param {Form} form @param {string} id @returns {Form} */
export function removeMedia(form, id) {
  const keep = form.mediaIds.map((m) => m !== id);
  return { ...form, mediaIds: form.mediaIds.filter((_, i) => keep[i]), altTexts: form.altTexts.filter((_, i) => keep[i]) };
}
/** Move a picture to another place, its alt text with it. @param {Form} form @param {string} id @param {number} to @returns {Form} */
export function moveMedia(form, id, to) {
  const from = form.mediaIds.indexOf(id);
  const place = Math.max(0, Math.min(form.mediaIds.length - 1, to));
  if (from < 0 || from === place) return form;
  const move = (/** @type {any[]} */ list) => {
    const next = [...list];
    next.splice(place, 0, ...next.splice(from, 1));
    return next;
  };
  return { ...form, mediaIds: move(form.mediaIds), altTexts: move(fitTexts(form.altTexts, form.mediaIds.length)) };
}
/** @param {Form} form @param {string} id @param {string} text @returns {Form} */
export function withAlt(form, id, text) {
  const at = form.mediaIds.indexOf(id);
  return { ...form, altTexts: fitTexts(form.altTexts, form.mediaIds.length).map((t, i) => (i === at ? text : t)) };
}

// ---------------------------------------------------------------- platforms

/** @param {Form} form @param {string} platform @returns {Form} */
export function togglePlatform(form, platform) {
  const on = form.platforms.includes(platform);
  const platforms = PLATFORMS.filter((p) => (p === platform ? !on : form.platforms.includes(p)));
  const known = [...platforms, ...form.platforms.filter((p) => !PLATFORMS.includes(p) && p !== platform)];
  return { ...form, platforms: known };
}
/** The ratios all chosen platforms offer. @param {string[]} platforms @param {any[]} infos of GET /platforms */
export function ratiosOf(platforms, infos) {
  const lists = platforms.map((p) => infos.find((i) => i.name === p)?.images?.ratios).filter(Boolean);
  return lists.length ? lists.reduce((a, b) => a.filter((r) => b.includes(r))) : [];
}
/** May it be a story: one picture, and every chosen platform has stories. */
export const canStory = (form, infos) =>
  form.mediaIds.length <= 1 && form.platforms.every((p) => infos.find((i) => i.name === p)?.kinds?.includes("story"));

// ---------------------------------------------------------------- what is sent

/**
 * Body for POST /posts and /posts/check.
 * @param {Form} form @param {{publish?: "draft"|"schedule"|"now", scheduledAt?: string|null}} [how]
 */
export function toBody(form, { publish, scheduledAt } = {}) {
  const body = {
    characterId: form.characterId,
    platforms: form.platforms,
    mediaIds: form.mediaIds,
    captions: Object.fromEntries(form.platforms.map((p) => [p, captionFor(form, p)])),
    altTexts: fitTexts(form.altTexts, form.mediaIds.length),
    kind: kindOf(form),
    options: form.options,
  };
  if (form.dryRun) body.dryRun = true;
  if (scheduledAt) body.scheduledAt = scheduledAt;
  if (publish) body.publish = publish;
  return body;
}

/** Body for PATCH of one post. @param {Form} form @param {any} [post] as it is: the rehearsal is only sent when it changed */
export function toPatch(form, post) {
  const [platform] = form.platforms;
  return {
    mediaIds: form.mediaIds,
    caption: captionFor(form, platform),
    altTexts: fitTexts(form.altTexts, form.mediaIds.length),
    kind: kindOf(form),
    options: form.options,
    ...(Boolean(post?.dryRun) === form.dryRun ? {} : { dryRun: form.dryRun || null }),
  };
}

/** The answer of POST /posts as a list. */
export const postsOf = (answer) => answer?.posts ?? (answer?.id ? [answer] : []);

// ---------------------------------------------------------------- reading the check

/** Does something keep it from going out on any chosen platform? @param {Form} form @param {any} check answer of /posts/check */
export const errorsOf = (form, check) =>
  form.platforms.flatMap((p) =>
    (check?.platforms?.[p]?.issues ?? []).filter((i) => i.level === "error").map((i) => ({ ...i, platform: p })),
  );

/** Only what concerns the plan would change nothing for a draft. @param {any} form */
export function whatIsMissing(form) {
  if (!form.characterId) return "Choose a character.";
  if (!form.platforms.length) return "Choose at least one platform.";
  return "";
}

/** Money as the check tells it, as words. @param {any} cost */
export function costWords(cost) {
  if (cost === null || cost === undefined || cost === 0) return "";
  if (typeof cost === "string") return cost;
  if (typeof cost === "number") return `about $${trim(cost)}`;
  const amount = cost.amount ?? cost.usd ?? cost.total ?? cost.value;
  if (amount === undefined || amount === null) return cost.note ?? cost.detail ?? "";
  const unit = !cost.currency || cost.currency === "USD" ? "$" : `${cost.currency} `;
  return [`about ${unit}${trim(amount)}`, cost.note ?? cost.detail].filter(Boolean).join(", ");
}
const trim = (n) => String(Math.round(Number(n) * 1000) / 1000);

/** Hashtags in a text. */
export const hashtagsIn = (text) => String(text ?? "").match(/(?:^|[^\p{L}\p{N}_&/])[#＃][\p{L}\p{M}\p{N}_]*[\p{L}\p{M}][\p{L}\p{M}\p{N}_]*/gu)?.length ?? 0;

/**
 * Where a text goes over its limit: the part that fits and the rest. Cuts between what people see as characters.
 * @param {string} text @param {(part: string) => number} used how much a text takes @param {number} max
 * @returns {[string, string]}
 */
export function overLimit(text, used, max) {
  if (!max || used(text) <= max) return [text, ""];
  const pieces = globalThis.Intl?.Segmenter
    ? [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text)].map((s) => s.segment)
    : [...text];
  let low = 0,
    high = pieces.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (used(pieces.slice(0, middle).join("")) <= max) low = middle;
    else high = middle - 1;
  }
  return [pieces.slice(0, low).join(""), pieces.slice(low).join("")];
}

/** Is that draft the same intention as what was asked for? @param {any} kept @param {{mediaIds?: string[], characterId?: string, caption?: string}} asked */
export function fitsDraft(kept, asked) {
  if (!kept?.form) return false;
  if (asked.caption && asked.caption !== kept.form.caption) return false;
  if (asked.characterId && asked.characterId !== kept.form.characterId && asked.mediaIds?.length) return false;
  const ids = asked.mediaIds ?? [];
  return !ids.length || (ids.length === kept.asked?.length && ids.every((id) => kept.asked.includes(id)));
}

/** Without its keys an account only rehearses; one that is stopped or refused has them, and its posts wait. */
export const lacksKeys = (account) => !account.connected && (account.missing?.length ?? 1) > 0;
