/** After the button: what becomes of each post, platform by platform, until all are settled. */
import { api, ApiError } from "../../api.js";
import { html, icon } from "../../html.js";
import { dateTime, plural } from "../../format.js";
import { stream } from "../../jobs.js";
import { fixesOf, inFlight, platformIcon, platformLabel, postBadge, stateOf, troubleOf } from "../post-state.js";

const POLL_MS = 2000;
const WORDS = {
  claimed: "Taken up…",
  uploading: "Uploading the picture…",
  publishing: "Publishing…",
};

export const headline = (posts) => {
  if (posts.some(waiting)) return "Sending";
  const is = (status) => posts.every((p) => p.status === status);
  if (is("published")) return "Published";
  if (is("dry_run")) return "Rehearsed";
  if (posts.every((p) => p.status === "scheduled")) return "Scheduled";
  if (posts.every((p) => p.status === "draft")) return "Saved as a draft";
  return posts.some((p) => ["failed", "unconfirmed"].includes(p.status)) ? "Not everything worked" : "Done";
};
/** On its way: the answer will come by itself. */
export const waiting = (post) => inFlight(post) || Boolean(post.sending && post.status === "scheduled" && !post.deferredReason);

/** @param {any[]} posts @param {(post: any) => string} local when, as words of the character's zone */
export function resultsView(posts, local) {
  return html`<ul class="pc-results">${posts.map((post) => result(post, local))}</ul>`;
}
function result(post, local) {
  const trouble = troubleOf(post);
  const busy = waiting(post);
  return html`<li class="pc-result is-${stateOf(post).tone} ${post.dryRun ? "is-dry" : ""}" data-key="${post.id}"><span class="pc-result-icon">${platformIcon(post.platform)}</span><div class="stack-2">
    <p class="row"><strong>${post.platformLabel ?? platformLabel(post.platform)}</strong>${postBadge(post)}</p>
    ${busy && html`<p class="small muted" role="status">${WORDS[post.status] ?? "Starting…"}</p><progress aria-label="Sending to ${post.platformLabel ?? platformLabel(post.platform)}"></progress>`}
    ${post.status === "published" && html`<p class="small">${post.publishedAt && `Since ${dateTime(post.publishedAt)}. `}${post.permalink ? html`<a href="${post.permalink}" target="_blank" rel="noopener">Open it on ${post.platformLabel ?? platformLabel(post.platform)}${icon("external")}</a>` : "The platform has not told its address yet."}</p>`}
    ${post.status === "dry_run" && html`<p class="small">Nothing has left this machine. ${post.dryRunReason ?? ""} <a href="/content.html?tab=outbox&postId=${encodeURIComponent(post.id)}">See the exact requests</a></p>`}
    ${post.status === "scheduled" && !busy && html`<p class="small">Goes out ${local(post)}.</p>`}
    ${trouble && !busy && html`<p class="small"><strong>${trouble.text}</strong> ${trouble.remedy}</p>`}
    ${!busy && fixesOf(post).length > 0 && html`<div class="row">${fixesOf(post).map((f) => (f.href ? html`<a class="btn btn-small" href="${f.href}">${icon(f.icon)}${f.label}</a>` : html`<button type="button" class="btn btn-small" data-action="fix" data-fix="${f.action}" data-id="${post.id}">${icon(f.icon)}${f.label}</button>`))}</div>`}</div></li>`;
}

/**
 * Keep posts up to date by events, and by asking while one is on its way.
 * @param {() => any[]} posts @param {(post: any) => void} update @param {AbortSignal} signal
 */
export function watchPosts(posts, update, signal) {
  let timer = 0;
  const asking = new Set();
  const ask = async (id) => {
    if (asking.has(id)) return;
    asking.add(id);
    try {
      update(await api.get(`/api/posts/${encodeURIComponent(id)}`, { signal }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) update({ id, status: "cancelled", actions: [] });
    }
    asking.delete(id);
  };
  stream.on("post.updated", ({ id }) => posts().some((p) => p.id === id) && ask(id), { signal });
  const turn = async () => {
    await Promise.all(posts().filter(waiting).map((p) => ask(p.id)));
    if (!signal.aborted) timer = setTimeout(turn, POLL_MS);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  timer = setTimeout(turn, POLL_MS);
}

/** One sentence for a toast. @param {any[]} posts */
export function summary(posts) {
  const by = (status) => posts.filter((p) => p.status === status).map((p) => platformLabel(p.platform));
  const parts = [
    by("published").length && `Published on ${by("published").join(" and ")}`,
    by("dry_run").length && `Rehearsed for ${by("dry_run").join(" and ")}`,
    by("failed").length && `Failed on ${by("failed").join(" and ")}`,
    by("unconfirmed").length && `Unconfirmed on ${by("unconfirmed").join(" and ")}`,
  ].filter(Boolean);
  return parts.join(", ") || plural(posts.length, "post");
}
