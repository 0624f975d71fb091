/** The composer's form as markup. */
import { attrs, html, icon } from "../../html.js";
import { plural } from "../../format.js";
import { offsetLabel, toUtc } from "../../zones.js";
import { measure } from "../../text-limits.js";
import { thumbUrl } from "../media-grid.js";
import { dryRunBadge, platformIcon, platformLabel } from "../post-state.js";
import * as model from "./model.js";

export const TONES = [
  ["", "In character"],
  ["playful", "Playful"],
  ["warm", "Warm"],
  ["confident", "Confident"],
  ["calm", "Calm"],
  ["poetic", "Poetic"],
  ["funny", "Funny"],
  ["short", "Short"],
];
export const LANGUAGES = [
  ["", "Usual language"],
  ["English", "English"],
  ["German", "German"],
  ["Spanish", "Spanish"],
  ["French", "French"],
  ["Italian", "Italian"],
  ["Portuguese", "Portuguese"],
  ["Japanese", "Japanese"],
];
const BY = { gemini: "Gemini", local: "Local model", composer: "Composed offline" };

/** A counter beside a caption: what it takes of how much. */
export function counter(text, info) {
  if (!info?.text) return "";
  const told = measure(text, info.text);
  const over = told.used - told.max;
  const left = told.max - told.used;
  const level = over > 0 ? "is-over" : left <= told.max * 0.08 ? "is-near" : "";
  return html`<span class="pc-count ${level}" title="${info.label}: ${told.used} of ${told.max} characters">${platformIcon(info.name)}<span class="visually-hidden">${info.label}: </span><span class="pc-num">${told.used}</span><span class="muted">/ ${told.max}</span>${over > 0 && html`<strong>${over} too many</strong>`}</span>`;
}
/** How many hashtags, told once for all platforms, by the strictest of their rules. */
function tagCounter(text, infos) {
  const told = infos.filter((i) => i.text).map((i) => ({ rules: i.text, n: measure(text, i.text).hashtags ?? model.hashtagsIn(text) }));
  const n = Math.max(0, ...told.map((t) => t.n));
  if (!n) return "";
  const over = told.some((t) => t.rules.maxHashtags && t.n > t.rules.maxHashtags);
  const near = told.some((t) => t.rules.warnHashtags && t.n > t.rules.warnHashtags);
  return html`<span class="pc-count ${over ? "is-over" : near ? "is-near" : ""}">${plural(n, "hashtag")}</span>`;
}
/** The tightest limit of the platforms that share a text. */
export function excess(text, infos) {
  let rest = "";
  for (const info of infos) {
    if (!info?.text) continue;
    const over = model.overLimit(text, (part) => measure(part, info.text).used, info.text.maxLength)[1];
    if (over.length > rest.length) rest = over;
  }
  return rest;
}

export function editView(c) {
  return html`${c.restored && html`<p class="pc-note" data-key="restored">${icon("history")}<span>This is what you had begun.</span><button type="button" class="btn btn-ghost btn-small" data-action="start-over">Start over</button></p>`}
    ${c.problem && problemView(c)}
    ${c.infosError && html`<p class="pc-note is-error" role="alert" data-key="infos">${icon("error")}<span>${c.infosError.message} The accounts are not known.</span><button type="button" class="btn btn-small" data-action="reload-platforms">Try again</button></p>`}
    ${pictures(c)}${who(c)}${words(c)}${alt(c)}${framing(c)}${disclosure(c)}`;
}

/** What the button that goes on in spite of somebody else's change does, by what was wanted. */
const OVER = { draft: "Save mine over it", schedule: "Schedule mine instead", now: "Send mine instead" };

function problemView(c) {
  const e = c.problem;
  const stale = e.status === 412;
  return html`<div class="pc-note is-error" role="alert" data-key="problem">${icon("error")}<div class="stack-1"><p>${stale ? "Somebody else has changed this post meanwhile." : e.message}</p>
    ${e.errors?.length > 0 && html`<ul>${e.errors.map((one) => html`<li>${one.message}</li>`)}</ul>`}${e.remedy && !stale && html`<p class="muted">${e.remedy}</p>`}
    ${stale && html`<button type="button" class="btn btn-small" data-action="rebase">${OVER[c.refused]}</button>`}</div></div>`;
}

function pictures(c) {
  const { form } = c;
  const one = form.mediaIds.length < 2;
  const story = model.canStory(form, c.infos);
  return html`<section class="pc-part" aria-labelledby="pc-pictures" data-key="pictures"><header class="pc-head"><h3 id="pc-pictures">Pictures</h3><span class="muted small">${one ? "" : `A carousel of ${form.mediaIds.length}; drag to change the order`}</span><span class="spacer"></span>
      ${(story || form.story) && html`<div class="segmented pc-kind" role="group" aria-label="What it becomes"><button type="button" data-action="kind" data-value="post" aria-pressed="${String(!form.story)}">Post</button><button type="button" data-action="kind" data-value="story" aria-pressed="${String(form.story)}">Story</button></div>`}</header>
    <ul class="pc-strip" aria-label="Pictures of the post">${form.mediaIds.map((id, i) => picture(c, id, i))}
      <li class="pc-add" data-key="add"><button type="button" class="pc-cell" data-action="add">${icon("plus")}<span>${form.mediaIds.length ? "Add" : "Add pictures"}</span></button></li></ul></section>`;
}
function picture(c, id, i) {
  const item = c.items.get(id) ?? { id };
  const n = c.form.mediaIds.length;
  const on = id === c.selected;
  const bad = c.gone.has(id) ? "This picture is no longer in the gallery" : item.trashed || item.trashedAt ? "This picture is in the trash" : "";
  return html`<li data-key="pic-${id}" data-id="${id}" class="${on ? "is-on" : ""} ${bad ? "is-bad" : ""}" draggable="${String(n > 1)}">
    <button type="button" class="pc-cell" data-action="select" data-id="${id}" aria-pressed="${String(on)}" aria-label="Picture ${i + 1} of ${n}${bad ? `: ${bad}` : ""}" title="${bad}">${bad && c.gone.has(id) ? icon("error") : html`<img src="${thumbUrl(item)}" alt="" draggable="false">`}${n > 1 && html`<span class="pc-place">${i + 1}</span>`}</button>
    <span class="pc-cell-tools">${n > 1 && html`<button type="button" class="icon-btn" data-action="left" data-id="${id}" aria-label="Move picture ${i + 1} forward" title="Forward" ${attrs({ disabled: i === 0 })}>${icon("chevron-left")}</button>`}<button type="button" class="icon-btn" data-action="remove" data-id="${id}" aria-label="Take picture ${i + 1} out" title="Take out">${icon("x")}</button>${n > 1 && html`<button type="button" class="icon-btn" data-action="right" data-id="${id}" aria-label="Move picture ${i + 1} back" title="Back" ${attrs({ disabled: i === n - 1 })}>${icon("chevron-right")}</button>`}</span></li>`;
}

function who(c) {
  const { form } = c;
  const list = c.characters();
  return html`<section class="pc-part pc-who" aria-label="Who posts where" data-key="who">
    <div class="field"><label for="pc-character">Character</label><select id="pc-character" data-field="characterId" ${attrs({ disabled: Boolean(form.postId) })}>${!form.characterId && html`<option value="" selected>Choose…</option>`}${list.map((p) => html`<option ${attrs({ value: p.id, selected: p.id === form.characterId })}>${p.name}</option>`)}${form.characterId && !list.some((p) => p.id === form.characterId) && html`<option value="${form.characterId}" selected>${c.post?.characterName ?? "Deleted character"}</option>`}</select>${!list.length && html`<a class="btn btn-small" href="/characters.html?new=1">${icon("plus")}Create a character</a>`}</div>
    <div class="field"><span class="label" id="pc-platforms">Platforms</span><div class="pc-platforms" role="group" aria-labelledby="pc-platforms">${c.infos.map((info) => platformButton(c, info))}</div></div></section>`;
}
function platformButton(c, info) {
  const on = c.form.platforms.includes(info.name);
  const account = c.account(info.name);
  const { dry } = c.rehearsal(info.name);
  const broken = account?.breaker || account?.paused || account?.status === "error";
  const said = !c.form.characterId
    ? ""
    : !account || model.lacksKeys(account)
      ? "not connected"
      : account.paused
        ? "paused"
        : broken
          ? account.breaker
            ? "stopped"
            : "needs attention"
          : account.username
            ? `@${account.username.replace(/^@/, "")}`
            : "connected";
  return html`<button type="button" class="pc-platform" data-key="p-${info.name}" data-action="platform" data-id="${info.name}" aria-pressed="${String(on)}" ${attrs({ disabled: Boolean(c.form.postId) })}><span class="pc-tick">${icon("check")}</span>${platformIcon(info.name)}<span class="pc-platform-name"><strong>${info.label}</strong><span class="small muted">${said}</span></span>${on && dry && dryRunBadge()}${broken && icon("alert", "Needs attention")}</button>`;
}

function words(c) {
  const { form } = c;
  const apart = !form.linked && form.platforms.length > 1;
  const infos = form.platforms.map((p) => c.info(p)).filter(Boolean);
  const tab = apart ? (form.platforms.includes(c.tab) ? c.tab : form.platforms[0]) : "";
  return html`<section class="pc-part" aria-label="Caption" data-key="words"><header class="pc-head"><h3 id="pc-caption-label">Caption</h3><span class="spacer"></span>
      ${form.platforms.length > 1 && html`<button type="button" class="btn btn-ghost btn-small" data-action="${form.linked ? "unlink" : "link"}" title="${form.linked ? "Write different words for each platform" : `Use the words for ${platformLabel(tab)} everywhere`}">${icon(form.linked ? "link" : "undo")}${form.linked ? "Edit apart" : "Same for all"}</button>`}</header>
    ${apart && html`<div class="segmented pc-tabs" role="group" aria-label="Caption for">${form.platforms.map((p) => html`<button type="button" data-action="tab" data-id="${p}" aria-pressed="${String(p === tab)}">${platformIcon(p)}<span>${platformLabel(p)}</span></button>`)}</div>`}
    ${area(c, tab, apart ? [c.info(tab)].filter(Boolean) : infos)}
    <div class="pc-generate"><button type="button" class="btn btn-small" data-action="generate" data-needs="write" ${attrs({ disabled: c.generating, "aria-busy": c.generating ? "true" : undefined })}>${icon("bolt")}${model.captionFor(form, tab || form.platforms[0]) ? "Write another" : "Generate caption"}</button>
      <label class="visually-hidden" for="pc-tone">Tone</label><select id="pc-tone" data-pref="tone">${TONES.map(([v, l]) => html`<option ${attrs({ value: v, selected: v === c.tone })}>${l}</option>`)}</select>
      <label class="visually-hidden" for="pc-language">Language</label><select id="pc-language" data-pref="language">${LANGUAGES.map(([v, l]) => html`<option ${attrs({ value: v, selected: v === c.language })}>${l}</option>`)}</select>
      <span class="pc-by" role="status">${c.generating ? "Writing…" : c.generated && by(c.generated)}</span>${c.before && !c.generating && html`<button type="button" class="btn btn-ghost btn-small" data-action="ungenerate">${icon("undo")}Take back</button>`}</div>
    ${c.generated?.failure && html`<p class="small pc-why">${icon("alert")}<span>${c.generated.failure.detail ?? c.generated.failure.error} ${c.generated.failure.remedy ?? ""}</span></p>`}
    ${c.generated?.notes?.length > 0 && html`<p class="small muted">${c.generated.notes.join(" ")}</p>`}</section>`;
}
const by = (g) =>
  html`<span class="badge ${g.provider === "composer" ? "badge-warn" : "badge-info"}">${icon(g.provider === "composer" ? "wifi-off" : "bolt")}<span>${BY[g.provider] ?? g.provider}</span></span>`;

function area(c, platform, infos) {
  const text = model.captionFor(c.form, platform || c.form.platforms[0]);
  const rest = excess(text, infos);
  return html`<div class="pc-area ${rest ? "is-over" : ""}" data-key="area-${platform || "all"}"><div class="pc-marks" aria-hidden="true">${text.slice(0, text.length - rest.length)}${rest && html`<mark>${rest}</mark>`}${"\n"}</div>
    <textarea data-caption="${platform}" rows="4" aria-labelledby="pc-caption-label" aria-describedby="pc-counts" placeholder="${c.character ? `What does ${c.character.name} say?` : "What the post says"}" ${attrs({ "aria-invalid": rest ? "true" : undefined })}>${text}</textarea></div>
    <p class="pc-counts" id="pc-counts" data-key="counts">${infos.map((info) => counter(text, info))}${tagCounter(text, infos)}</p>`;
}

function alt(c) {
  const at = c.form.mediaIds.indexOf(c.selected);
  if (at < 0) return "";
  const n = c.form.mediaIds.length;
  return html`<section class="pc-part" data-key="alt"><div class="field"><label for="pc-alt">Alt text${n > 1 && ` of picture ${at + 1}`}</label><textarea id="pc-alt" rows="2" maxlength="1000" data-alt="${c.selected}" placeholder="What it shows, for people who cannot see it">${c.form.altTexts[at] ?? ""}</textarea></div></section>`;
}

const choice = (name, now, list) =>
  html`<div class="segmented" role="group">${list.map(([value, label]) => html`<button type="button" data-action="option" data-name="${name}" data-value="${value}" aria-pressed="${String(now === value)}">${label}</button>`)}</div>`;

function framing(c) {
  const { options, mediaIds, story } = c.form;
  if (!mediaIds.length) return "";
  const ratios = model.ratiosOf(c.form.platforms, c.infos);
  const item = c.items.get(c.selected);
  const crop = options.fit === "crop";
  return html`<section class="pc-part" aria-labelledby="pc-framing" data-key="framing"><header class="pc-head"><h3 id="pc-framing">Framing</h3><span class="muted small">when the shape of the picture is not allowed</span></header>
    <div class="pc-frames"><div class="field"><span class="label">Fit</span>${choice("fit", options.fit, [["pad", "Add edges"], ["crop", "Crop"]])}</div>
      ${!story && html`<div class="field"><label for="pc-ratio">Shape</label><select id="pc-ratio" data-option="ratio"><option ${attrs({ value: "", selected: !options.ratio })}>As it is, if allowed</option>${ratios.map((r) => html`<option ${attrs({ value: r, selected: r === options.ratio })}>${r}</option>`)}${options.ratio && !ratios.includes(options.ratio) && html`<option value="${options.ratio}" selected>${options.ratio}</option>`}</select></div>`}
      ${!crop && html`<div class="field"><span class="label">Edges</span>${choice("background", options.background, [["blur", "Blurred"], ["white", "White"], ["black", "Black"]])}</div>`}</div>
    ${
      crop &&
      item &&
      html`<div class="pc-focus-row"><button type="button" class="pc-focus" data-focus aria-label="Point to keep in the picture: ${options.focus ? `${Math.round(options.focus[0] * 100)} % from the left, ${Math.round(options.focus[1] * 100)} % from the top` : "automatic"}. Arrow keys move it." data-x="${options.focus?.[0] ?? ""}" data-y="${options.focus?.[1] ?? ""}"><img src="${item.previewUrl ?? thumbUrl(item)}" alt="" draggable="false">${options.focus && html`<span class="pc-dot" aria-hidden="true"></span>`}</button>
        <div class="stack-2"><p class="small muted">${options.focus ? "The crop keeps the marked point in the picture." : "The crop keeps the face in the picture. Click a point to keep that instead."}</p>${options.focus && html`<button type="button" class="btn btn-small" data-action="unfocus">${icon("undo")}Automatic</button>`}</div></div>`
    }</section>`;
}

function disclosure(c) {
  const forced = c.form.platforms.length > 0 && c.form.platforms.every((p) => c.rehearsal(p).dry) && !c.form.dryRun;
  return html`<section class="pc-part pc-switches" aria-label="More" data-key="more">
    <label class="check"><input type="checkbox" role="switch" class="switch" data-option="madeWithAi" ${attrs({ checked: c.form.options.madeWithAi })}><span>Say that it was made with AI</span></label>
    <label class="check"><input type="checkbox" role="switch" class="switch" data-field="dryRun" ${attrs({ checked: c.form.dryRun || forced, disabled: forced })}><span>Dry run: rehearse, send nothing</span></label></section>`;
}

/** The bar at the bottom: when, and the three ways out. */
export function footView(c) {
  const { form } = c;
  const blocked = c.errors.length > 0;
  const missing = model.whatIsMissing(form);
  const zone = c.zone;
  const at = form.at ? toUtc(form.at, zone) : null;
  const past = at && Date.parse(at.iso) < Date.now() - 60_000;
  const dry = form.platforms.length > 0 && !c.live.length;
  const planned = Boolean(form.at);
  const why = missing || (blocked ? "Mend what is marked as a problem first." : "");
  const note = past ? "This time has passed." : at?.note === "gap" ? "The clock jumps over this time that day; it goes out right after." : at?.note === "twice" ? "The clock shows this time twice that day; the first one is meant." : "";
  return html`<div class="pc-when" data-key="when"><label for="pc-at">When</label><input type="datetime-local" id="pc-at" data-field="at" data-key="at" value="${form.at}" ${attrs({ "aria-describedby": "pc-zone", "aria-invalid": past ? "true" : undefined })}><button type="button" class="btn btn-ghost btn-small" data-action="free" title="The next time that keeps its distance from other posts" ${attrs({ disabled: !form.characterId || !form.platforms.length })}>Next free slot</button><span class="small muted pc-zone" id="pc-zone">${zone} (${offsetLabel(zone, at?.iso ?? Date.now())})${note && html` <strong class="pc-past">${note}</strong>`}</span></div>
    <span class="spacer"></span>
    <button type="button" class="icon-btn" data-action="curl" data-key="curl" aria-label="Copy as curl" title="Copy as curl" ${attrs({ disabled: Boolean(missing) })}>${icon("terminal")}</button>
    <button type="button" class="btn" data-action="save-draft" data-needs="publish" data-key="draft" ${attrs({ disabled: Boolean(missing), title: missing || undefined })}>${icon("save")}${form.postId && c.post?.status !== "draft" ? "Save changes" : "Save draft"}</button>
    <button type="button" class="btn ${planned ? "btn-primary" : ""}" data-action="save-schedule" data-needs="publish" data-key="schedule" ${attrs({ disabled: Boolean(why) || Boolean(past), title: why || note || undefined, "data-primary": planned ? true : undefined })}>${icon("calendar")}Schedule</button>
    <button type="button" class="btn ${planned ? "" : "btn-primary"} ${dry ? "pc-dry-btn" : ""}" data-action="save-now" data-needs="publish" data-key="now" ${attrs({ disabled: Boolean(why), title: why || undefined, "data-primary": planned ? undefined : true })}>${icon(dry ? "eye" : "send")}${dry ? "Rehearse now" : "Post now"}</button>`;
}
