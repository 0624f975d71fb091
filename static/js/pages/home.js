/** Home: what needs you, what goes out next, the characters, the last pictures, the machine, what is running. */
import { api } from "../api.js";
import { avatar } from "../components/avatar.js";
import { areaChart } from "../components/chart.js";
import { confirmDialog } from "../components/confirm-dialog.js";
import { altOf, thumbUrl } from "../components/media-grid.js";
import { actOn, zoneOfCharacter } from "../components/post-actions.js";
import { openComposer } from "../components/post-composer.js";
import { openPost } from "../components/post-dialog.js";
import { dryRunBadge, fixesOf, momentOf, platformIcon, platformLabel, postBadge, postThumb, stateOf } from "../components/post-state.js";
import { errorState, skeleton } from "../components/states.js";
import { statusBadge } from "../components/status-badge.js";
import { busy, debounce, onAction, render } from "../dom.js";
import { ago, bytes, dateTime, percent, plural } from "../format.js";
import { attrs, html, icon } from "../html.js";
import { retry, stream, tasks } from "../jobs.js";
import { toast } from "../notices.js";
import { prefs } from "../prefs.js";
import { session } from "../session.js";
import { taskId } from "../tasks.js";

const KEEP = 60; // two minutes at one sample every two seconds
const NEXT = 5;
const WEEK = 7 * 86_400_000;

export async function mount(main) {
  const viewer = document.createElement("image-viewer");
  document.body.append(viewer);
  const content = document.createElement("div");
  main.append(content);
  let home = null,
    error = null,
    samples = [];

  const show = () => {
    if (error && !home) {
      render(content, errorState(error, { title: "The overview could not be loaded" }));
      return;
    }
    if (!home) {
      render(
        content,
        html`<div class="home"><div class="stack-5">${skeleton("cards", 3)}${skeleton("grid", 6)}</div><div class="stack-5">${skeleton("rows", 4)}</div></div>`,
      );
      return;
    }
    render(content, view(home, samples));
    const byId = new Map([...tasks.active(), ...tasks.recent()].map((t) => [taskId(t), t]));
    for (const el of content.querySelectorAll("job-progress")) el.task = byId.get(el.closest("[data-key]").dataset.key) ?? el.task;
  };
  const load = async () => {
    try {
      home = await api.get("/api/home");
      home.nextUp ??= (await api.get("/api/posts", { query: { status: "scheduled,approved", sort: "soonest", limit: 5 } })).items;
      home.rules = await plannedRuns();
      error = null;
    } catch (problem) {
      error = problem;
      if (home) toast.error(problem);
    }
    show();
  };
  const loadSamples = async () => {
    try {
      samples = (await api.get("/api/system/samples")).samples ?? [];
      show();
    } catch {
      /* the numbers of /api/home stay */
    }
  };

  onAction(content, {
    retry: load,
    "open-media": (_e, el) =>
      viewer.open(
        home.recent,
        home.recent.findIndex((m) => m.id === el.dataset.id),
        { total: home.recent.length },
      ),
    "retry-task": (_e, el) =>
      busy(el, async () => {
        try {
          await retry(el.dataset.id);
          toast.success("Started again");
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      }),
    "open-post": (_e, el) => openPost(el.dataset.id, { onChange: load }).then(load),
    "fix-post": (_e, el) => busy(el, () => fixPost(el.dataset.id)),
    resume: (_e, el) =>
      busy(el, async () => {
        const sure = await confirmDialog({
          title: "Go on with publishing?",
          consequences: ["Posts that are due go out.", "Scheduled tasks run again."],
          confirmLabel: "Resume",
          danger: false,
        });
        if (!sure) return;
        try {
          await api.post("/api/scheduler/resume", {});
          toast.success("Publishing goes on");
          await load();
        } catch (problem) {
          toast.error(problem);
        }
      }),
    "hide-checklist": () => {
      prefs.set("checklistHidden", true);
      show();
    },
    "use-character": (_e, el) => session.choose(el.dataset.id),
  });
  /** Do what mends this post: try again, post now, settle or edit. */
  async function fixPost(id) {
    try {
      const post = await api.get(`/api/posts/${encodeURIComponent(id)}`);
      const wanted = { failed: "retry", missed: "publish", unconfirmed: "settle" }[post.status];
      const fixes = fixesOf(post).filter((f) => f.action);
      const fix = post.error?.action === "fix" ? fixes[0] : (fixes.find((f) => f.action === wanted) ?? fixes[0]);
      if (!fix) await openPost(id, { onChange: load });
      else if (fix.action === "edit") await openComposer({ postId: id });
      else await actOn(post, fix.action);
      await load();
    } catch (problem) {
      toast.error(problem);
    }
  }
  content.addEventListener("change", async (event) => {
    const box = event.target.closest("[data-active]");
    if (!box) return;
    try {
      await api.patch(`/api/characters/${box.dataset.active}`, { isActive: box.checked });
    } catch (problem) {
      box.checked = !box.checked;
      toast.error(problem);
    }
  });
  viewer.addEventListener("image-viewer:star", async ({ detail }) => {
    try {
      await api.patch(`/api/media/${detail.item.id}`, { starred: detail.starred });
      viewer.patch(detail.item.id, { starred: detail.starred });
    } catch (problem) {
      toast.error(problem);
    }
  });
  viewer.addEventListener("image-viewer:delete", async ({ detail }) => {
    const { id } = detail.item;
    try {
      await api.delete(`/api/media/${id}`);
      viewer.remove(id);
      toast.success("Moved to trash", {
        undo: async () => {
          try {
            await api.post(`/api/media/${id}/restore`);
            await load();
          } catch (problem) {
            toast.error(problem);
          }
        },
      });
      await load();
    } catch (problem) {
      toast.error(problem);
    }
  });

  const again = debounce(load, 400);
  ["media.created", "media.deleted", "media.updated", "character.updated", "character.deleted", "post.updated", "account.updated", "schedule.updated"].forEach((type) => stream.on(type, again));
  let wasDown = false;
  stream.on("state", (live) => {
    if (live === "live" && wasDown) again(); // the app is back: what happened meanwhile was not told
    wasDown = live === "down" || (wasDown && live !== "live");
  });
  let finished = 0;
  stream.on("task.updated", (task) => {
    show();
    if (task.finishedAt && Date.parse(task.finishedAt) > finished) {
      finished = Date.parse(task.finishedAt);
      again();
    }
  });
  stream.on("system.sample", (sample) => {
    samples = [...samples.slice(-(KEEP - 1)), sample];
    show();
  });

  show();
  await Promise.all([load(), loadSamples()]);
}

/** What the scheduled tasks will make within a week: a person who left it all to tasks has no posts yet, but plans. */
async function plannedRuns() {
  const now = Date.now();
  try {
    const { items } = await api.get("/api/calendar", { query: { from: new Date(now).toISOString(), to: new Date(now + WEEK).toISOString() } });
    return items.filter((i) => i.type === "occurrence" && i.active && !i.skipped && i.platforms.length > 0).slice(0, NEXT);
  } catch {
    return [];
  }
}

function view(home, samples) {
  const active = tasks.active();
  const open = home.checklist.filter((step) => !step.done);
  const first = open.length > 0 && !prefs.get("checklistHidden", false);
  return html`<div class="home">
    <div class="stack-5">
      ${first && checklist(home.checklist)}
      ${nextUp(home)}
      <section class="stack-3" aria-labelledby="home-characters"><div class="row"><h2 id="home-characters">Characters</h2><span class="spacer"></span><a class="btn btn-small" href="/characters.html?new=1">${icon("plus")}New character</a></div>
        ${home.characters.length ? html`<ul class="home-characters">${home.characters.map(characterCard)}</ul>` : html`<div class="panel home-hint"><p class="muted">No characters yet. A name is enough to begin; looks and story can follow.</p></div>`}</section>
      <section class="stack-3" aria-labelledby="home-recent"><div class="row"><h2 id="home-recent">Recent pictures</h2><span class="spacer"></span><a class="btn btn-ghost btn-small" href="/gallery.html">Open gallery${icon("arrow-right")}</a></div>
        ${
          home.recent.length
            ? html`<ul class="home-recent">${home.recent.map((m) => html`<li data-key="${m.id}"><button type="button" data-action="open-media" data-id="${m.id}" aria-label="Open: ${altOf(m).slice(0, 120)}"><img src="${thumbUrl(m)}" alt="" loading="lazy"></button></li>`)}</ul>`
            : html`<div class="panel home-hint"><p class="muted">The pictures you make show up here.</p><a class="btn" href="/studio.html">${icon("studio")}Open the studio</a></div>`
        }</section>
    </div>
    <div class="stack-5">
      <section class="panel" aria-labelledby="home-needs"><div class="panel-head"><h2 id="home-needs">Needs you</h2>${home.needsYou.length > 0 && html`<span class="count">${home.needsYou.length}</span>`}</div>
        ${home.needsYou.length ? html`<ul class="needs">${home.needsYou.map(need)}</ul>` : html`<p class="all-clear">${icon("ok")}<span><strong>All clear</strong><br><span class="muted">Nothing failed and nothing waits for you.</span></span></p>`}</section>
      <section class="panel" aria-labelledby="home-machine"><div class="panel-head"><h2 id="home-machine">Machine</h2><a class="btn btn-ghost btn-small" href="/monitoring.html">Details${icon("arrow-right")}</a></div>${machine(home, samples)}</section>
      <section class="panel" aria-labelledby="home-activity"><div class="panel-head"><h2 id="home-activity">Activity</h2>${active.length > 0 && html`<span class="count">${active.length} active</span>`}</div>${activity(active, home.activity ?? [])}</section>
    </div></div>`;
}

function checklist(steps) {
  const done = steps.filter((s) => s.done).length;
  const next = steps.find((s) => !s.done);
  return html`<section class="panel checklist" aria-labelledby="home-first"><div class="panel-head"><h2 id="home-first">${done >= steps.length - 1 ? "Almost there" : done ? "Getting started" : "Welcome to Digital Dalla"}</h2><span class="muted small">${done} of ${steps.length} done</span><button type="button" class="icon-btn" data-action="hide-checklist" aria-label="Hide these steps" title="Hide">${icon("x")}</button></div>
    <progress max="${steps.length}" value="${done}" aria-label="Steps done"></progress>
    <ol>${steps.map((s) => html`<li class="${s.done ? "is-done" : s === next ? "is-next" : ""}">${icon(s.done ? "ok" : "circle", s.done ? "Done" : "To do")}<div><strong>${s.label}</strong>${s.detail && html`<p class="muted small">${s.detail}</p>`}</div>${!s.done && s.href && html`<a class="btn ${s === next ? "btn-primary" : ""} btn-small" href="${s.href}" aria-label="Go: ${s.label}">Go${icon("arrow-right")}</a>`}</li>`)}</ol></section>`;
}

/** The next posts of all characters, and what tasks will make. Shown once anything was ever planned or published. */
function nextUp(home) {
  const posts = home.nextUp ?? [],
    rules = home.rules ?? [];
  const ever = posts.length > 0 || rules.length > 0 || Object.values(home.posts ?? {}).some((n) => n > 0);
  if (!ever) return "";
  const when = (post) => (post.scheduledAt || post.deferredReason ? momentOf(post) : "");
  const plan = [...posts.map((p) => ({ at: when(p), item: nextPost(p, when(p)) })), ...rules.map((r) => ({ at: r.at, item: nextRule(r) }))]
    .sort((a, b) => a.at.localeCompare(b.at))
    .slice(0, NEXT);
  return html`<section class="stack-3" aria-labelledby="home-next"><div class="row"><h2 id="home-next">Next up</h2><span class="spacer"></span><a class="btn btn-ghost btn-small" href="/calendar.html">Open calendar${icon("arrow-right")}</a></div>
    ${
      plan.length
        ? html`<ul class="home-next">${plan.map(({ item }) => item)}</ul>`
        : html`<div class="panel home-hint"><p class="muted">Nothing is planned.</p><a class="btn" href="/content.html?compose=1">${icon("plus")}New post</a></div>`
    }</section>`;
}
function nextPost(p, at) {
  const zone = zoneOfCharacter(p.characterId);
  return html`<li data-key="next-${p.id}"><button type="button" class="${p.dryRun ? "is-dry" : ""}" data-action="open-post" data-id="${p.id}" aria-label="${p.characterName ?? "A post"} on ${p.platformLabel ?? platformLabel(p.platform)}, ${at ? dateTime(at, zone) : "no time yet"}, ${stateOf(p).label}${p.dryRun ? ", dry run" : ""}">${postThumb(p)}<span class="home-next-text"><span class="row row-nowrap">${platformIcon(p.platform)}<strong class="truncate">${p.characterName ?? "Deleted character"}</strong></span><span class="small">${at ? dateTime(at, zone) : "No time yet"}</span><span class="small muted">${at ? ago(at) : ""}</span>${postBadge(p)}</span></button></li>`;
}
function nextRule(r) {
  const zone = zoneOfCharacter(r.characterId);
  const where = r.platforms.map(platformLabel).join(" and ");
  return html`<li data-key="next-${r.taskId}-${r.slot}"><a class="is-rule" href="/schedule.html?edit=${encodeURIComponent(r.taskId)}" aria-label="${r.name}, ${where}, ${dateTime(r.at, zone)}, made by a scheduled task${r.dryRun ? ", dry run" : ""}"><span class="post-thumb">${icon("repeat")}</span><span class="home-next-text"><span class="row row-nowrap">${r.platforms.map((p) => platformIcon(p))}<strong class="truncate">${r.characterName ?? r.name}</strong></span><span class="small">${dateTime(r.at, zone)}</span><span class="small muted">${ago(r.at)}</span><span class="post-badges"><span class="badge badge-neutral"><span>To be made</span></span>${r.dryRun && dryRunBadge()}</span></span></a></li>`;
}

function characterCard(c) {
  const href = `/characters.html?id=${encodeURIComponent(c.id)}`;
  return html`<li class="card home-character ${c.isActive ? "" : "is-off"}" data-key="${c.id}">
    <a class="cover" href="${href}" tabindex="-1" aria-hidden="true">${c.lastMedia ? html`<img src="${c.lastMedia.previewUrl ?? thumbUrl(c.lastMedia)}" alt="" loading="lazy">` : avatar(c, "l")}</a>
    <div class="body"><div class="row row-nowrap"><a class="name truncate" href="${href}">${c.name}</a><span class="spacer"></span><input type="checkbox" role="switch" class="switch" data-active="${c.id}" data-needs="write" aria-label="${c.name} is active" ${attrs({ checked: c.isActive })}></div>
      <p class="muted small truncate">${plural(c.mediaCount ?? 0, "picture")}${c.lastMedia && html` · ${ago(c.lastMedia.createdAt)}`}${c.loras?.length > 0 && html` · ${c.loras[0].name}`}</p>
      <a class="btn btn-small btn-block" href="/studio.html?characterId=${encodeURIComponent(c.id)}" data-action="use-character" data-id="${c.id}">${icon("studio")}Create</a></div></li>`;
}

function need(n) {
  return html`<li data-key="${n.postId ?? n.taskId ?? n.title}">${icon(n.kind === "task" ? "error" : "alert")}<div class="stack-1"><strong>${n.title}</strong>${n.detail && html`<p class="muted small clamp-2">${n.detail}</p>`}${n.remedy && html`<p class="small">${n.remedy}</p>`}
    <div class="row">${n.postId ? html`<button type="button" class="btn btn-small" data-action="fix-post" data-needs="publish" data-id="${n.postId}">${icon(n.action === "Edit" ? "edit" : ({ failed: "refresh", missed: "send", unconfirmed: "help" }[n.status] ?? "refresh"))}${n.action || "Mend"}</button><a class="btn btn-ghost btn-small" href="${n.href}">Details</a>` : n.kind === "paused" ? html`<button type="button" class="btn btn-small" data-action="resume" data-needs="publish">${icon("play")}${n.action || "Resume"}</button><a class="btn btn-ghost btn-small" href="${n.href}">Details</a>` : n.taskId ? html`<button type="button" class="btn btn-small" data-action="retry-task" data-needs="write" data-id="${n.taskId}">${icon("refresh")}${n.action || "Run again"}</button><a class="btn btn-ghost btn-small" href="${n.href}">Details</a>` : n.href && html`<a class="btn btn-small" href="${n.href}">${n.action || "Open"}</a>`}${n.at && html`<small class="muted">${ago(n.at)}</small>`}</div></div></li>`;
}

function machine(home, samples) {
  const now = samples.at(-1) ?? home.machine ?? {};
  const rows = [
    {
      name: "CPU",
      glyph: "cpu",
      value: now.cpu === undefined ? null : percent(now.cpu / 100),
      values: samples.map((s) => s.cpu),
      max: 100,
    },
    {
      name: "Memory",
      glyph: "memory",
      value: now.memoryTotal ? bytes(now.memoryUsed) : null,
      values: samples.map((s) => s.memoryUsed),
      max: now.memoryTotal,
      tone: 2,
    },
    {
      name: "GPU",
      glyph: "gpu",
      value: now.gpu === undefined || now.gpu === null ? null : percent(now.gpu / 100),
      values: samples.map((s) => s.gpu),
      max: 100,
    },
    {
      name: "GPU memory",
      glyph: "layers",
      value: now.gpuMemoryUsed === undefined || now.gpuMemoryUsed === null ? null : bytes(now.gpuMemoryUsed),
      values: samples.map((s) => s.gpuMemoryUsed),
      max: now.gpuMemoryTotal,
      tone: 2,
    },
  ].filter((r) => r.value);
  const used = now.diskTotal ? (now.diskTotal - now.diskFree) / now.diskTotal : null;
  return html`<div class="machine">${rows.map((r) => html`<div><p class="machine-line">${icon(r.glyph)}<span>${r.name}</span><b>${r.value}</b></p>${areaChart({ values: r.values, max: r.max, tone: r.tone, label: `${r.name}, last two minutes, now ${r.value}` })}</div>`)}
    ${used !== null && html`<div class="machine-disk"><p class="machine-line">${icon("disk")}<span>Disk</span><b>${bytes(now.diskFree)} free</b></p><progress max="1" value="${used}" aria-label="Disk used"></progress></div>`}
    ${home.status && html`<p class="machine-line machine-engines">${["comfyui", "builtin"].filter((k) => home.status[k]).map((k) => html`<span title="${home.status[k].detail ?? ""}">${statusBadge(home.status[k].status, k === "comfyui" ? "ComfyUI" : "Built-in engine")}</span>`)}</p>`}</div>`;
}

const ACTIVITY_ICONS = { media: "image", post: "send", run: "repeat", training: "bolt", task: "ok" };
const WENT_WRONG = new Set(["failed", "missed", "unconfirmed", "interrupted"]);

/** What runs now, then what happened lately: pictures, posts, runs of tasks, trainings, imports. */
function activity(active, lines) {
  if (!active.length && !lines.length) return html`<p class="muted">Nothing has happened yet.</p>`;
  return html`<ul class="tray-list">${active.slice(0, 5).map((t) => html`<li data-key="${taskId(t)}"><job-progress></job-progress></li>`)}</ul>
    <ul class="home-activity">${lines.map(activityLine)}</ul>`;
}
function activityLine(line) {
  const bad = WENT_WRONG.has(line.status);
  const picture = line.mediaId ? html`<img src="/api/media/${line.mediaId}/thumb" alt="" loading="lazy">` : icon(bad ? "alert" : (ACTIVITY_ICONS[line.kind] ?? "ok"));
  return html`<li data-key="${line.kind}-${line.key}"><a href="${line.href}"><span class="home-activity-what ${bad ? "is-bad" : ""}">${picture}</span><span class="home-activity-text"><strong class="clamp-2">${line.title}</strong>${line.detail && html`<span class="small muted truncate">${line.detail}</span>`}<span class="small muted">${ago(line.at)}</span></span></a></li>`;
}
