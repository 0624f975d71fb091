/** What each platform will show: the very bytes that go, the words, what is wrong, what it costs. Markup. */
import { html, icon } from "../../html.js";
import { bytes, plural } from "../../format.js";
import { avatar } from "../avatar.js";
import { errorState } from "../states.js";
import { issuesView, platformIcon, platformLabel } from "../post-state.js";
import { captionFor, costWords, errorsOf } from "./model.js";

const FOLD = 125; // characters Instagram shows before "more"

export function previewView(c) {
  const { form } = c;
  const name = form.platforms.includes(c.shown) ? c.shown : form.platforms[0];
  const dry = form.platforms.filter((p) => c.rehearsal(p).dry);
  return html`${dryBanner(c, dry)}
    ${form.platforms.length > 1 && html`<div class="segmented pc-tabs" role="group" aria-label="Preview for" data-key="tabs">${form.platforms.map((p) => html`<button type="button" data-action="show" data-id="${p}" aria-pressed="${String(p === name)}">${platformIcon(p)}<span>${platformLabel(p)}</span>${mark(c, p)}</button>`)}</div>`}
    ${c.checkError ? errorState(c.checkError, { title: "The preview could not be made", action: "check-again", compact: true }) : name ? onPlatform(c, name) : html`<p class="muted">Choose a platform to see the post.</p>`}
    <p class="visually-hidden" role="status" data-key="say">${c.checking ? "" : said(c)}</p>`;
}
const said = (c) => {
  const n = errorsOf(c.form, c.check).length;
  return n ? `${plural(n, "problem")} to mend` : "";
};
const mark = (c, p) => {
  const issues = c.check?.platforms?.[p]?.issues ?? [];
  const bad = issues.some((i) => i.level === "error");
  return issues.length > 0 && html`<span class="pc-mark ${bad ? "is-error" : "is-warning"}">${icon(bad ? "error" : "alert", bad ? "has problems" : "has notes")}</span>`;
};

function dryBanner(c, dry) {
  if (!dry.length) return "";
  const all = dry.length === c.form.platforms.length;
  const reasons = [...new Set(dry.map((p) => c.rehearsal(p).reason).filter(Boolean))];
  return html`<div class="pc-dry" data-key="dry">${icon("eye")}<div><strong>${all ? "Dry run: nothing leaves this machine" : `Dry run on ${dry.map(platformLabel).join(", ")}`}</strong>${reasons.length > 0 && html`<p class="small">${reasons.join(" ")}</p>`}${!all && html`<p class="small">On ${c.live.map(platformLabel).join(", ")} it is really posted.</p>`}</div></div>`;
}

function onPlatform(c, name) {
  const told = c.check?.platforms?.[name];
  const files = told?.files ?? [];
  const at = Math.min(c.slide, Math.max(0, files.length - 1));
  const file = files[at];
  const caption = captionFor(c.form, name);
  const issues = (told?.issues ?? []).filter((i) => !(i.code === "framed" && files.some((f) => f.notes?.length))); // told beside the bytes
  const cost = costWords(told?.estimatedCost);
  const info = c.info(name);
  const card = name === "twitter" ? xCard : instagramCard;
  return html`<div class="pc-preview ${c.checking ? "is-checking" : ""}" data-key="preview-${name}">
    ${card(c, { name, caption, files, file, at })}
    ${c.checking && html`<p class="small muted pc-working">${icon("refresh")}Preparing…</p>`}
    ${file && html`<p class="small pc-bytes">${icon("ok")}<span>These bytes are sent: ${file.width} × ${file.height}, ${bytes(file.sizeBytes)}, JPEG.${file.notes?.length > 0 && html` <span class="muted">${file.notes.map(sentence).join(" ")}</span>`}</span></p>`}
    ${issuesView(issues)}
    ${cost && html`<p class="small muted">Costs ${cost} at ${info?.label ?? platformLabel(name)}.</p>`}
    ${told && !issues.length && html`<p class="small pc-fine">${icon("ok")}<span>Nothing speaks against it.</span></p>`}</div>`;
}
const sentence = (note) => {
  const text = String(note).trim();
  return text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : "";
};

const person = (c) => c.character ?? { id: "", name: c.post?.characterName ?? "Character" };
const linked = (text) =>
  String(text)
    .split(/((?:^|(?<=\s))[#@][\p{L}\p{N}_]+|https?:\/\/\S+)/gu)
    .map((part) => (/^[#@h]/.test(part) && /^([#@][\p{L}\p{N}_]+|https?:\/\/\S+)$/u.test(part) ? html`<span class="pv-tag">${part}</span>` : part));

function picture(c, { files, file, at, name }) {
  const alt = c.form.altTexts[at] || "The picture as it will be sent";
  if (!file)
    return html`<div class="pv-empty">${icon("image")}<span>${c.form.mediaIds.length ? (!c.form.characterId ? "Choose a character to see it" : c.checking || !c.check ? "Preparing the picture…" : "This picture cannot be shown") : name === "instagram" ? "Instagram needs a picture" : "Words only"}</span></div>`;
  return html`<div class="pv-picture" data-key="pv"><img src="${file.url}" alt="${alt}" width="${file.width}" height="${file.height}">${files.length > 1 && html`<span class="pv-count">${at + 1}/${files.length}</span>${at > 0 && html`<button type="button" class="pv-nav is-prev" data-action="slide" data-step="-1" aria-label="Previous picture">${icon("chevron-left")}</button>`}${at < files.length - 1 && html`<button type="button" class="pv-nav is-next" data-action="slide" data-step="1" aria-label="Next picture">${icon("chevron-right")}</button>`}`}</div>`;
}

function instagramCard(c, view) {
  const p = person(c);
  const user = c.account("instagram")?.username ?? p.name;
  if (c.form.story)
    return html`<article class="pv pv-story" aria-label="Instagram story"><header class="pv-head">${avatar(p, "s")}<strong class="truncate">${user}</strong></header>${picture(c, view)}</article>`;
  const chars = [...view.caption];
  const long = chars.length > FOLD && !c.unfolded;
  return html`<article class="pv pv-instagram" aria-label="Instagram post"><header class="pv-head">${avatar(p, "s")}<strong class="truncate">${user}</strong><span class="spacer"></span>${icon("more")}</header>${picture(c, view)}
    <div class="pv-text"><p><strong>${user}</strong> ${linked(long ? chars.slice(0, FOLD).join("") : view.caption)}${long && html`… <button type="button" class="pv-more" data-action="unfold">more</button>`}</p></div></article>`;
}

function xCard(c, view) {
  const p = person(c);
  const user = c.account("twitter")?.username;
  return html`<article class="pv pv-x" aria-label="Post on X">${avatar(p, "m")}<div class="pv-x-body"><p class="row"><strong>${p.name}</strong>${user && html`<span class="muted">@${user.replace(/^@/, "")}</span>`}</p>
    ${view.caption && html`<p class="pv-text">${linked(view.caption)}</p>`}${(c.form.mediaIds.length > 0 || !view.caption) && (view.files.length > 1 ? html`<div class="pv-grid" data-count="${Math.min(4, view.files.length)}">${view.files.slice(0, 4).map((f, i) => html`<img src="${f.url}" alt="${c.form.altTexts[i] || ""}">`)}</div>` : picture(c, view))}</div></article>`;
}

