/** What a post's state is called, how it looks and what can be done about it. Template functions and pure rules. */
import { attrs, html, icon } from "../html.js";
import { plural, words } from "../format.js";

const IN_FLIGHT = new Set(["claimed", "uploading", "publishing"]);
const HOLDS = {
  approval: { label: "Waits for approval", icon: "check" },
  caption: { label: "Needs a caption", icon: "edit" },
  picture: { label: "Needs a picture", icon: "image" },
};
const STATES = {
  draft: { label: "Draft", icon: "edit", tone: "neutral" },
  approved: { label: "Approved", icon: "check", tone: "info" },
  scheduled: { label: "Scheduled", icon: "calendar", tone: "info" },
  claimed: { label: "Being sent", icon: "send", tone: "accent" },
  uploading: { label: "Uploading", icon: "upload", tone: "accent" },
  publishing: { label: "Publishing", icon: "send", tone: "accent" },
  published: { label: "Published", icon: "ok", tone: "good" },
  failed: { label: "Failed", icon: "error", tone: "bad" },
  unconfirmed: { label: "Unconfirmed", icon: "help", tone: "warn" },
  cancelled: { label: "Cancelled", icon: "off", tone: "neutral" },
  missed: { label: "Missed", icon: "clock", tone: "warn" },
  dry_run: { label: "Rehearsed", icon: "eye", tone: "info" },
};

/** @param {any} post @returns {{key: string, label: string, icon: string, tone: "good"|"bad"|"warn"|"info"|"accent"|"neutral"}} */
export function stateOf(post) {
  if (post.status === "draft" && post.hold) {
    const hold = HOLDS[post.hold] ?? { label: "Held", icon: "pause" };
    return { key: "held", tone: "warn", ...hold };
  }
  if (post.status === "scheduled" && post.deferredReason) return { key: "scheduled", label: "Put off", icon: "clock", tone: "warn" };
  const state = STATES[post.status];
  return state ? { key: post.status, ...state } : { key: post.status, label: words(post.status), icon: "circle", tone: "neutral" };
}

export const inFlight = (post) => IN_FLIGHT.has(post.status);
/** Does it wait for a person? */
export const needsYou = (post) =>
  ["failed", "unconfirmed", "missed"].includes(post.status) || (post.status === "draft" && Boolean(post.hold));
/** Only the record of something that is over: its time cannot be changed. */
export const canMove = (post) => (post.actions ?? []).includes("schedule") && !["published", "dry_run"].includes(post.status);
/** The moment a list or a calendar puts it at. */
export const momentOf = (post) =>
  (post.status === "published" ? post.publishedAt : null) ??
  (post.status === "scheduled" && post.deferredReason ? post.dueAt : null) ??
  post.scheduledAt ??
  post.createdAt;

/** A state as icon + word; a dry run has a dashed edge and says so. */
export function postBadge(post) {
  const state = stateOf(post);
  return html`<span class="post-badges"><span class="badge badge-${state.tone}">${icon(state.icon)}<span>${state.label}</span></span>${post.dryRun && dryRunBadge()}</span>`;
}
export const dryRunBadge = (label = "Dry run") => html`<span class="badge post-dry">${icon("eye")}<span>${label}</span></span>`;

export const platformLabel = (name) => ({ instagram: "Instagram", twitter: "X" })[name] ?? words(name);
/** The platform's sign. Give `label: true` when no word stands beside it. */
export const platformIcon = (name, label = false) =>
  icon(["instagram", "twitter"].includes(name) ? name : "send", label ? platformLabel(name) : undefined);

const KIND = { carousel: "Carousel", story: "Story", single: "Picture" };
export const kindLabel = (post) =>
  post.kind === "carousel" ? `Carousel of ${plural(post.mediaIds?.length ?? 0, "picture")}` : (KIND[post.kind] ?? words(post.kind));

/** First picture of a post, or a sign that there is none. @param {any} post @param {string} [extra] class */
export function postThumb(post, extra = "") {
  const first = post.media?.[0];
  const src = post.files?.[0]?.url ?? first?.thumbUrl ?? (post.mediaIds?.[0] ? `/api/media/${encodeURIComponent(post.mediaIds[0])}/thumb` : "");
  const more = (post.mediaIds?.length ?? 0) - 1;
  return html`<span class="post-thumb ${extra}" ${attrs({ "data-fallback": src ? undefined : "1" })}>${src ? html`<img src="${src}" alt="" loading="lazy">` : icon("image")}${more > 0 && html`<span class="post-thumb-more">+${more}</span>`}</span>`;
}

const has = (post, name) => (post.actions ?? []).includes(name);

/**
 * The buttons that fix what is wrong with a post, the best one first.
 * @param {any} post @returns {{action?: string, href?: string, label: string, icon: string}[]} `action` is a data-action the page handles
 */
export function fixesOf(post) {
  const list = [];
  const edit = has(post, "edit") && { action: "edit", label: "Edit", icon: "edit" };
  const accounts = {
    href: `/connections.html?characterId=${encodeURIComponent(post.characterId ?? "")}&platform=${encodeURIComponent(post.platform ?? "")}`,
    label: "Open connections",
    icon: "link",
  };
  if (post.status === "failed") {
    const what = post.error?.action;
    const again = has(post, "retry") && { action: "retry", label: "Try again", icon: "refresh" };
    if (what === "fix") list.push(edit, again);
    else if (what === "reconnect" || what === "ask") list.push(accounts, again, edit);
    else list.push(again, edit);
  } else if (post.status === "unconfirmed") {
    list.push({ action: "settle", label: "Settle…", icon: "help" });
  } else if (post.status === "missed") {
    if (has(post, "schedule")) list.push({ action: "schedule", label: "New time…", icon: "calendar" });
    if (has(post, "publish")) list.push({ action: "publish", label: "Post now", icon: "send" });
  } else if (post.status === "draft" && post.hold) {
    if (post.hold === "approval" && has(post, "approve")) list.push({ action: "approve", label: "Approve", icon: "check" }, edit);
    else if (edit) list.push({ ...edit, label: post.hold === "caption" ? "Write the caption" : "Choose a picture" });
  }
  return list.filter(Boolean);
}

/** What went wrong, in one or two sentences. @returns {{text: string, remedy: string, tone: "bad"|"warn"}|null} */
export function troubleOf(post) {
  if (post.error && ["failed", "unconfirmed", "scheduled", "missed"].includes(post.status))
    return {
      text: post.error.detail || post.error.error || "It did not work.",
      remedy: post.error.remedy || "",
      tone: post.status === "failed" ? "bad" : "warn",
    };
  if (post.status === "unconfirmed")
    return {
      text: `${post.platformLabel ?? platformLabel(post.platform)} did not answer, so the post may be there or not.`,
      remedy: "Look at the account, then say what you see.",
      tone: "warn",
    };
  if (post.status === "missed") return { text: "Its time passed while it could not be sent.", remedy: "", tone: "warn" };
  if (post.holdReason && post.hold) return { text: post.holdReason, remedy: "", tone: "warn" };
  if (post.status === "scheduled" && post.deferredReason) return { text: post.deferredReason, remedy: "", tone: "warn" };
  return null;
}

/** Sort issues: errors last would be missed, so the order is by weight for the send button, warnings told first. */
export const issueList = (issues) => [...(issues ?? [])].sort((a, b) => (a.level === b.level ? 0 : a.level === "warning" ? -1 : 1));
export const issuesView = (issues) =>
  issues.length > 0 &&
  html`<ul class="post-issues">${issueList(issues).map((i) => html`<li class="is-${i.level}">${icon(i.level === "error" ? "error" : "alert", i.level === "error" ? "Problem" : "Note")}<span>${i.message}${i.remedy && html` <span class="muted">${i.remedy}</span>`}</span></li>`)}</ul>`;
