/**
 * One post with all that is known about it: what goes out, its words, what went wrong and the way out of it, its log.
 * `openPost(id, {onChange?(post), onEdit?(post)})` → Promise that resolves when it is closed. Live.
 */
import { api } from "../api.js";
import { attrs, html, icon } from "../html.js";
import { busy, onAction, render } from "../dom.js";
import { ago, bytes, dateTime, duration, words } from "../format.js";
import { stream } from "../jobs.js";
import { openDialog } from "./confirm-dialog.js";
import { openComposer } from "./post-composer.js";
import { actOn, zoneOfCharacter } from "./post-actions.js";
import { fixesOf, inFlight, issuesView, kindLabel, platformIcon, platformLabel, postBadge, troubleOf } from "./post-state.js";
import { copyText, errorState, skeleton } from "./states.js";

const BUTTONS = [
  ["approve", "Approve", "check"],
  ["publish", "Post now", "send"],
  ["retry", "Try again", "refresh"],
  ["confirm", "Settle…", "help"],
  ["schedule", "Schedule…", "calendar"],
  ["edit", "Edit", "edit"],
  ["duplicate", "Duplicate", "copy"],
  ["cancel", "Cancel post", "off"],
  ["delete", "Delete", "trash"],
];

/** @param {string} id @param {{onChange?: (post: any) => void}} [options] */
export async function openPost(id, { onChange } = {}) {
  const stop = new AbortController();
  const { signal } = stop;
  let post = null,
    error = null,
    timer = 0;
  const { dialog, closed } = openDialog({
    title: "Post",
    size: "l",
    body: html`<div class="pd">${skeleton("lines", 6)}</div>`,
    footer: html`<div class="pd-foot"></div>`,
  });
  dialog.classList.add("post-dialog");
  const body = dialog.querySelector(".pd");
  const draw = () => {
    if (!dialog.open) return;
    if (!post) {
      render(body, error ? errorState(error, { title: "The post could not be loaded" }) : skeleton("lines", 6));
      return;
    }
    dialog.querySelector(".dialog-head h2").textContent = `${post.characterName ?? "Post"} on ${post.platformLabel ?? platformLabel(post.platform)}`;
    render(body, view(post));
    render(dialog.querySelector(".pd-foot"), foot(post));
  };
  const load = async () => {
    try {
      post = await api.get(`/api/posts/${encodeURIComponent(id)}`, { signal });
      error = null;
    } catch (problem) {
      if (signal.aborted) return;
      error = problem;
      if (problem.status === 404) post = null;
    }
    draw();
    clearTimeout(timer);
    if (post && inFlight(post)) timer = setTimeout(load, 2000);
  };
  const changed = (next) => {
    if (!next) return;
    onChange?.(next);
    if (next.deleted) dialog.close("");
    else load();
  };
  stream.on("post.updated", (data) => data.id === id && load(), { signal });
  const act = (_e, el) => busy(el, async () => changed(await actOn(post, el.dataset.action)));
  onAction(dialog, {
    retry: (e, el) => (el.closest(".error-state") ? load() : act(e, el)),
    ...Object.fromEntries(["approve", "publish", "confirm", "settle", "schedule", "cancel", "delete"].map((name) => [name, act])),
    duplicate: (_e, el) =>
      busy(el, async () => {
        const copy = await actOn(post, "duplicate");
        if (!copy?.id) return;
        onChange?.(copy);
        dialog.close("");
        openComposer({ postId: copy.id }).then((posts) => posts?.forEach((p) => onChange?.(p)));
      }),
    edit: () => {
      dialog.close("");
      openComposer({ postId: id }).then((posts) => posts?.forEach((p) => onChange?.(p)));
    },
    "copy-caption": () => copyText(post.caption, "Caption copied"),
  });
  load();
  await closed;
  stop.abort();
  clearTimeout(timer);
}

function view(post) {
  const zone = zoneOfCharacter(post.characterId);
  const trouble = troubleOf(post);
  const fixes = fixesOf(post).filter((f) => f.href || f.action === "settle");
  const files = (post.files ?? []).filter((f) => f.url);
  const log = Array.isArray(post.attempts) ? post.attempts : (post.attemptLog ?? []);
  const issues = (post.issues ?? []).filter((i) => !["published", "dry_run", "cancelled"].includes(post.status) || i.level === "warning");
  const line = (k, v) => v && html`<div><dt>${k}</dt><dd>${v}</dd></div>`;
  return html`<div class="pd-grid"><div class="pd-pictures">${
    files.length
      ? files.map((f, i) => html`<figure data-key="${f.sha256}-${i}"><img src="${f.url}" alt="${post.altTexts?.[i] || `Picture ${i + 1} as it is sent`}" width="${f.width}" height="${f.height}"><figcaption class="small muted">${f.width} × ${f.height}, ${bytes(f.sizeBytes)}${f.notes?.length > 0 && html`. ${f.notes.join(". ")}`}</figcaption></figure>`)
      : (post.media ?? []).map((m) => html`<figure data-key="${m.id}"><img src="${m.thumbUrl}" alt="">${m.trashed && html`<figcaption class="small muted">In the trash</figcaption>`}</figure>`)
  }${!files.length && !post.media?.length && html`<p class="pd-none">${icon("image")}<span>No picture</span></p>`}</div>
    <div class="stack-4 pd-text">
      <p class="row pd-state">${platformIcon(post.platform, true)}${postBadge(post)}${inFlight(post) && html`<span class="small muted" role="status">${words(post.status)}…</span>`}<span class="spacer"></span>${post.permalink && html`<a class="btn btn-small" href="${post.permalink}" target="_blank" rel="noopener">${icon("external")}Open on ${post.platformLabel ?? platformLabel(post.platform)}</a>`}</p>
      ${inFlight(post) && html`<progress aria-label="Sending"></progress>`}
      ${post.dryRun && html`<div class="pc-dry">${icon("eye")}<div><strong>${post.status === "dry_run" ? "A rehearsal: nothing has left this machine" : "Dry run: nothing will leave this machine"}</strong>${post.dryRunReason && html`<p class="small">${post.dryRunReason}</p>`}<p class="small"><a href="/content.html?tab=outbox&postId=${encodeURIComponent(post.id)}">See the exact requests</a></p></div></div>`}
      ${trouble && html`<div class="post-trouble is-${trouble.tone}" role="note">${icon(trouble.tone === "bad" ? "error" : "alert")}<div class="stack-2"><p><strong>${trouble.text}</strong>${trouble.remedy && html`<br>${trouble.remedy}`}</p>${post.error?.platformCode && html`<p class="small muted mono">${[post.error.cause, post.error.platformCode, post.error.subcode, post.error.trace].filter(Boolean).join(" · ")}</p>`}
        ${fixes.length > 0 && html`<div class="row">${fixes.map((f) => (f.href ? html`<a class="btn btn-small" href="${f.href}">${icon(f.icon)}${f.label}</a>` : html`<button type="button" class="btn btn-small btn-primary" data-action="${f.action}">${icon(f.icon)}${f.label}</button>`))}</div>`}</div></div>`}
      ${issuesView(issues)}
      <section><header class="pc-head"><h3>Caption</h3><span class="spacer"></span>${post.caption && html`<button type="button" class="btn btn-ghost btn-small" data-action="copy-caption">${icon("copy")}Copy</button>`}</header>${post.caption ? html`<p class="prompt-text">${post.caption}</p>` : html`<p class="muted">Without words.</p>`}</section>
      ${(post.altTexts ?? []).some(Boolean) && html`<section><h3>Alt text</h3>${post.altTexts.filter(Boolean).map((t) => html`<p>${t}</p>`)}</section>`}
      <dl class="facts">${line("What", kindLabel(post))}${line(post.status === "published" ? "Published" : "When", post.publishedAt ? html`${dateTime(post.publishedAt, zone)} <span class="muted">${zone}</span>` : post.scheduledAt ? html`${dateTime(post.scheduledAt, zone)} <span class="muted">${zone}, ${ago(post.scheduledAt)}</span>` : "Not planned")}
        ${post.dueAt && post.dueAt !== post.scheduledAt && post.status === "scheduled" && line("Next try", dateTime(post.dueAt, zone))}
        ${line("Comes from", post.source === "task" ? html`<a href="/schedule.html?edit=${encodeURIComponent(post.taskId ?? "")}">A scheduled task</a>${post.runId && html`, <a href="/schedule.html?tab=runs&run=${encodeURIComponent(post.runId)}">this run</a>`}` : post.source === "api" ? "The API" : "By hand")}
        ${line("Says AI", post.options?.madeWithAi === false ? "No" : "Yes, marked as made with AI")}${line("Id", html`<code>${post.id}</code>`)}${post.platformPostId && line("Id there", html`<code>${post.platformPostId}</code>`)}${line("Changed", ago(post.updatedAt))}</dl>
      ${log.length > 0 && html`<details class="pd-log" ${attrs({ open: post.status === "failed" || post.status === "unconfirmed" })}><summary>Log: ${log.length} ${log.length === 1 ? "step" : "steps"}</summary><ol>${log.map(step)}</ol></details>`}
    </div></div>`;
}
const STEP_LOOK = { ok: ["ok", "good"], error: ["error", "bad"], unknown: ["help", "warn"], running: ["play", "accent"] };
function step(s) {
  const [glyph, tone] = STEP_LOOK[s.outcome] ?? ["circle", "neutral"];
  const took = s.endedAt ? (Date.parse(s.endedAt) - Date.parse(s.startedAt)) / 1000 : null;
  return html`<li class="is-${tone}">${icon(glyph, words(s.outcome))}<div><p><strong>${words(s.step)}</strong> <span class="small muted">${dateTime(s.startedAt)}${took !== null && ` · ${duration(took)}`}${s.http && ` · HTTP ${s.http}`}${s.code && ` · ${s.code}${s.subcode ? `/${s.subcode}` : ""}`}</span></p>${s.detail && html`<p class="small">${s.detail}</p>`}${s.trace && html`<p class="small muted mono">${s.trace}</p>`}</div></li>`;
}

function foot(post) {
  const can = new Set(post.actions ?? []);
  const main = ["approve", "confirm", "retry", "publish"].find((name) => can.has(name));
  const list = BUTTONS.filter(([name]) => can.has(name));
  const rest = list.filter(([name]) => name === "delete" || name === "cancel");
  const others = list.filter(([name]) => name !== main && name !== "delete" && name !== "cancel");
  const button = ([name, label, glyph], extra = "") =>
    html`<button type="button" class="btn ${extra}" data-key="b-${name}" data-action="${name}">${icon(glyph)}${name === "cancel" && post.status === "draft" ? "Reject" : name === "schedule" && post.status === "scheduled" ? "Move…" : name === "publish" && post.dryRun ? "Rehearse now" : label}</button>`;
  const first = list.find(([name]) => name === main);
  return html`${rest.map((b) => button(b, "btn-ghost"))}<span class="spacer"></span>${others.map((b) => button(b))}${first && button(first, "btn-primary")}`;
}
