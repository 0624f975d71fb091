/** The Content page as markup: tabs, filters, the rows, the bar for a selection. */
import { attrs, html, icon } from "../../html.js";
import { ago, dateTime, number, plural } from "../../format.js";
import { session } from "../../session.js";
import { zoneOfCharacter } from "../../components/post-actions.js";
import { fixesOf, inFlight, kindLabel, momentOf, platformIcon, platformLabel, postBadge, postThumb, stateOf, troubleOf } from "../../components/post-state.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { hasFilters } from "./query.js";

const EMPTY = {
  needs: { icon: "ok", title: "All clear", text: "Nothing failed, nothing was missed, and nothing waits for your approval." },
  drafts: { icon: "edit", title: "No drafts", text: "Posts you save without a time wait here.", action: { label: "New post", action: "new", icon: "plus", needs: "publish" } },
  scheduled: { icon: "calendar", title: "Nothing is planned", text: "Give a post a time, or let a scheduled task make one.", action: { label: "New post", action: "new", icon: "plus", needs: "publish" } },
  published: { icon: "send", title: "Nothing published yet", text: "What went out is kept here with its link.", action: { label: "New post", action: "new", icon: "plus", needs: "publish" } },
  dry: { icon: "eye", title: "No dry runs", text: "A dry run goes the whole way without sending anything. Try one with any picture.", action: { label: "New post", action: "new", icon: "plus", needs: "publish" } },
  all: { icon: "send", title: "No posts yet", text: "Choose a picture, write a few words, and post it now or later.", action: { label: "New post", action: "new", icon: "plus", needs: "publish" } },
};

export function toolbar(state, platforms) {
  const who = state.characterId ?? "";
  return html`<div class="row ct-filters"><label class="visually-hidden" for="ct-character">Character</label><select id="ct-character" data-filter="characterId"><option value="">All characters</option>${session.known.map((c) => html`<option ${attrs({ value: c.id, selected: c.id === who })}>${c.name}</option>`)}${who && !session.find(who) && html`<option value="${who}" selected>Deleted character</option>`}</select>
      <label class="visually-hidden" for="ct-platform">Platform</label><select id="ct-platform" data-filter="platform"><option value="">All platforms</option>${platforms.map((p) => html`<option ${attrs({ value: p.name, selected: p.name === state.platform })}>${p.label}</option>`)}</select>
      ${chips(state)}</div><span class="spacer"></span>
    ${state.tab === "outbox" ? html`<button type="button" class="btn" data-action="clear-outbox">${icon("trash")}Clear</button>` : ""}<button type="button" class="btn btn-primary" data-action="new" data-needs="publish" data-primary>${icon("plus")}New post</button>`;
}
function chips(state) {
  const named = { taskId: "One scheduled task", runId: "One run", mediaId: "One picture", groupId: "Written together", postId: state.tab === "outbox" ? "One post" : "" };
  return Object.entries(named)
    .filter(([name, label]) => state[name] && label)
    .map(([name, label]) => html`<button type="button" class="chip" data-action="unfilter" data-name="${name}" data-key="chip-${name}" aria-label="Show more than: ${label}">${label}${icon("x")}</button>`);
}

export function listView({ state, rows, total, more, error, loaded, selection, current }) {
  if (error && !rows.length) return errorState(error, { title: "The posts could not be loaded" });
  if (!loaded) return skeleton("rows", 6);
  if (!rows.length)
    return hasFilters(state)
      ? emptyState({ icon: "search", title: "No post fits", text: "Nothing matches these filters.", action: { label: "Clear filters", action: "clear", icon: "x" } })
      : emptyState(EMPTY[state.tab] ?? EMPTY.all);
  const days = state.tab === "scheduled" || state.tab === "published";
  let last = "";
  return html`<ul class="ct-rows" aria-label="Posts">${rows.map((post) => {
    const day = days ? dateTime(momentOf(post), zoneOfCharacter(post.characterId)).split(",")[0] : "";
    const head = days && day !== last;
    last = day;
    return html`${head && html`<li class="ct-day" data-key="day-${day}"><h2>${day}</h2></li>`}${row(post, selection.has(post.id), post.id === current)}`;
  })}</ul>
    <div class="ct-more">${more ? html`<button type="button" class="btn" data-action="more">Load more</button>` : ""}<span class="small muted">${plural(Math.max(total, rows.length), "post")}${more ? `, ${number(rows.length)} shown` : ""}</span></div>`;
}

function row(post, selected, current) {
  const zone = zoneOfCharacter(post.characterId);
  const trouble = troubleOf(post);
  const fixes = fixesOf(post);
  const at = momentOf(post);
  const name = `${platformLabel(post.platform)}, ${post.characterName ?? "no character"}, ${stateOf(post).label}${post.dryRun ? ", dry run" : ""}`;
  const planned = post.scheduledAt || post.publishedAt || (post.status === "scheduled" && post.deferredReason && post.dueAt);
  return html`<li class="ct-row ${post.dryRun ? "is-dry" : ""} ${selected ? "is-selected" : ""} ${current ? "is-current" : ""} is-${stateOf(post).tone}" data-key="${post.id}" data-id="${post.id}">
    <label class="ct-check"><input type="checkbox" data-select="${post.id}" aria-label="Select: ${name}" ${attrs({ checked: selected })}></label>
    <button type="button" class="ct-thumb" data-action="open" data-id="${post.id}" tabindex="-1" aria-hidden="true">${postThumb(post)}</button>
    <div class="ct-main"><p class="ct-line">${platformIcon(post.platform, true)}<strong class="truncate">${post.characterName ?? "Deleted character"}</strong>${postBadge(post)}${post.source === "task" && html`<span class="ct-rule" title="Made by a scheduled task">${icon("repeat", "Made by a scheduled task")}</span>`}</p>
      <button type="button" class="ct-caption clamp-2" data-action="open" data-id="${post.id}" data-focus-row aria-label="Open: ${name}. ${(post.caption ?? "").slice(0, 80)}">${(post.caption ?? "").replace(/\n\s*\n/g, "\n") || html`<span class="muted">${post.kind === "story" ? "A story" : "Without words"}</span>`}</button>
      ${trouble && html`<p class="ct-trouble is-${trouble.tone}">${icon(trouble.tone === "bad" ? "error" : "alert")}<span>${trouble.text}${trouble.remedy && html` <span class="muted">${trouble.remedy}</span>`}</span></p>`}
      ${inFlight(post) && html`<progress aria-label="Sending"></progress>`}
      <p class="small muted ct-facts"><time datetime="${at}" title="${dateTime(at, zone)} ${zone}">${planned ? `${dateTime(at, zone)}, ${ago(at)}` : `${post.status === "dry_run" ? "Rehearsed" : "Written"} ${ago(post.status === "dry_run" ? post.updatedAt : post.createdAt)}`}</time>${post.kind !== "single" && html`<span>${kindLabel(post)}</span>`}${post.permalink && html`<a href="${post.permalink}" target="_blank" rel="noopener">Open on ${post.platformLabel ?? platformLabel(post.platform)}${icon("external")}</a>`}${post.status === "dry_run" && html`<a href="/content.html?tab=outbox&postId=${encodeURIComponent(post.id)}">See the requests</a>`}</p></div>
    <div class="ct-fixes">${fixes.slice(0, 2).map((f, i) => (f.href ? html`<a class="btn btn-small" href="${f.href}">${icon(f.icon)}${f.label}</a>` : html`<button type="button" class="btn btn-small ${i === 0 && f.action === "approve" ? "btn-primary" : ""}" data-action="fix" data-needs="publish" data-fix="${f.action}" data-id="${post.id}">${icon(f.icon)}${f.label}</button>`))}${menu(post, fixes)}</div></li>`;
}
const MENU = [
  ["open", "Details", "list"],
  ["edit", "Edit", "edit"],
  ["approve", "Approve", "check"],
  ["publish", "Post now", "send"],
  ["schedule", "Schedule…", "calendar"],
  ["retry", "Try again", "refresh"],
  ["duplicate", "Duplicate", "copy"],
  ["cancel", "Cancel post", "off"],
  ["delete", "Delete…", "trash"],
];
function menu(post) {
  const can = new Set(["open", ...(post.actions ?? [])]);
  const id = `ct-menu-${post.id}`;
  return html`<button type="button" class="icon-btn" popovertarget="${id}" aria-label="More for this post" title="More" ${attrs({ "aria-haspopup": "menu" })}>${icon("more")}</button>
    <div id="${id}" popover class="popover menu" role="menu" aria-label="More for this post" data-align="end">${MENU.filter(([name]) => can.has(name)).map(([name, label, glyph]) => html`<button type="button" role="menuitem" class="${name === "delete" ? "is-danger" : ""}" data-action="${name === "open" ? "open" : "fix"}" data-fix="${name}" data-id="${post.id}">${icon(glyph)}<span>${name === "cancel" && post.status === "draft" ? "Reject" : name === "schedule" && post.status === "scheduled" ? "Move…" : name === "publish" && post.dryRun ? "Rehearse now" : label}</span></button>`)}</div>`;
}

/** @param {any[]} chosen */
export function bulkBar(chosen, total) {
  const n = chosen.length;
  const can = (name) => chosen.filter((p) => (p.actions ?? []).includes(name)).length;
  const button = (name, label, glyph, extra = "") =>
    html`<button type="button" class="btn ${extra}" data-action="bulk" data-needs="publish" data-what="${name}" ${attrs({ disabled: !can(name) })}>${icon(glyph)}<span>${label} ${can(name)}</span></button>`;
  return html`<button type="button" class="icon-btn" data-action="clear-selection" aria-label="Clear the selection" title="Clear the selection (Esc)">${icon("x")}</button><strong role="status">${number(n)} selected</strong>${n < total && html`<button type="button" class="btn btn-ghost btn-small" data-action="select-all">Select all shown</button>`}<span class="spacer"></span>
    ${button("approve", "Approve", "check")}${button("schedule", "Schedule", "calendar")}${button("cancel", "Cancel", "off")}${button("delete", "Delete", "trash")}`;
}
