/** Several pictures, a post for each: they take the next free times of the account, one after the other. */
import { api, idempotencyKey } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy, onAction, render } from "../../dom.js";
import { dateTime, number, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { prefs } from "../../prefs.js";
import { session } from "../../session.js";
import { openDialog } from "../confirm-dialog.js";
import { zoneOfCharacter } from "../post-actions.js";
import { openComposer } from "../post-composer.js";
import { dryRunBadge, platformIcon, platformLabel } from "../post-state.js";
import { lacksKeys } from "./model.js";

const CAPTIONS = [
  ["generate", "Write one for each picture"],
  ["own", "Use the picture's own caption"],
  ["fixed", "The same words for all"],
];

/** @param {{mediaIds: string[], items?: any[], characterId?: string}} options @returns {Promise<any[]|null>} */
export async function scheduleEach({ mediaIds, items = [], characterId = "" }) {
  const known = new Map(items.map((item) => [item.id, item]));
  let who = characterId,
    platforms = prefs.get("postPlatforms", ["instagram"]),
    infos = [],
    captions = "generate",
    words = "",
    phase = "ask", // ask | work | done
    done = 0,
    stopped = false,
    carousel = false;
  const made = [],
    failed = [],
    rest = []; // not begun: stopped, or the app did not answer
  const keys = new Map(); // one per picture: going on after a lost answer makes nothing twice
  await session.characters().catch(() => []);
  if (!session.find(who)) who = session.known.length === 1 ? session.known[0].id : "";
  const n = plural(mediaIds.length, "picture");
  const { dialog, closed } = openDialog({
    title: `Schedule ${n}`,
    size: "m",
    body: html`<div class="pc-each stack-4"></div>`,
    footer: html`<div class="pc-foot"></div>`,
  });
  const left = () => failed.length + rest.length;
  const account = (name) => infos.find((i) => i.name === name)?.accounts?.find((a) => a.characterId === who);
  const dry = (name) => {
    const a = account(name);
    return Boolean(a && (a.dryRun || lacksKeys(a)));
  };
  const room = () => Math.min(...platforms.map((p) => infos.find((i) => i.name === p)?.images?.maxImages ?? 10), 10);

  function draw() {
    if (!dialog.open) return;
    render(dialog.querySelector(".pc-each"), phase === "ask" ? ask() : progress());
    render(dialog.querySelector(".pc-foot"), foot());
  }
  function ask() {
    const live = platforms.filter((p) => !dry(p));
    return html`<div class="pc-who pc-part"><div class="field"><label for="each-who">Character</label><select id="each-who">${!who && html`<option value="" selected>Choose…</option>`}${session.known.map((c) => html`<option ${attrs({ value: c.id, selected: c.id === who })}>${c.name}</option>`)}</select></div>
      <div class="field"><span class="label" id="each-platforms">Platforms</span><div class="pc-platforms" role="group" aria-labelledby="each-platforms">${infos.map((i) => html`<button type="button" class="pc-platform" data-action="platform" data-id="${i.name}" aria-pressed="${String(platforms.includes(i.name))}"><span class="pc-tick">${icon("check")}</span>${platformIcon(i.name)}<strong>${i.label}</strong>${platforms.includes(i.name) && who && dry(i.name) && dryRunBadge()}</button>`)}</div></div></div>
      <div class="field"><label for="each-captions">Captions</label><select id="each-captions">${CAPTIONS.map(([v, l]) => html`<option ${attrs({ value: v, selected: v === captions })}>${l}</option>`)}</select></div>
      ${captions === "fixed" && html`<div class="field"><label for="each-words">Words</label><textarea id="each-words" rows="3">${words}</textarea></div>`}
      <p class="muted">${`Each picture becomes a post of its own${platforms.length > 1 ? " on each platform" : ""}, at the next free time after the one before.`} ${who && live.length ? `${number(mediaIds.length * live.length)} will really be posted on ${live.map(platformLabel).join(" and ")}.` : who ? "All of them are dry runs: nothing leaves this machine." : ""}</p>`;
  }
  function progress() {
    const zone = zoneOfCharacter(who);
    return html`<div class="stack-3"><p role="status">${phase === "done" ? (left() ? `${plural(made.length, "post")} planned, ${plural(left(), "picture")} left out.` : `${plural(made.length, "post")} planned.`) : `Planning ${number(Math.min(done + 1, mediaIds.length))} of ${number(mediaIds.length)}…`}</p><progress max="${mediaIds.length}" value="${done}" aria-label="Pictures planned"></progress>
      ${failed.length > 0 && html`<ul class="post-issues">${failed.map((f) => html`<li class="is-error">${icon("error", "Problem")}<span>${f.error.message} <span class="muted">${f.error.remedy ?? ""}</span></span></li>`)}</ul>`}
      ${made.length > 0 && html`<ul class="small muted">${made.slice(0, 12).map((p) => html`<li>${platformLabel(p.platform)}: ${dateTime(p.scheduledAt, zone)}${p.dryRun ? ", dry run" : ""}</li>`)}${made.length > 12 && html`<li>and ${number(made.length - 12)} more</li>`}</ul>`}</div>`;
  }
  function foot() {
    if (phase === "work") return html`<span class="spacer"></span><button type="button" class="btn" data-action="stop" ${attrs({ disabled: stopped })}>${stopped ? "Stopping…" : "Stop here"}</button>`;
    if (phase === "done")
      return html`<span class="spacer"></span>${left() > 0 && html`<button type="button" class="btn" data-action="again">${icon("refresh")}Try the others again</button>`}<a class="btn" href="/calendar.html">${icon("calendar")}Calendar</a><button type="button" class="btn btn-primary" data-close="" data-primary>Done</button>`;
    return html`${mediaIds.length <= room() && html`<button type="button" class="btn btn-ghost" data-action="carousel">${icon("layers")}One carousel instead</button>`}<span class="spacer"></span><button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-action="go" data-needs="publish" data-primary ${attrs({ disabled: !who || !platforms.length })}>${icon("calendar")}Schedule ${number(mediaIds.length)}</button>`;
  }
  async function wordsFor(id) {
    if (captions === "fixed") return { caption: words };
    const item = known.get(id) ?? (await api.get(`/api/media/${encodeURIComponent(id)}`));
    if (captions === "own") return { caption: item.caption ?? "", altText: item.altText || undefined };
    const g = await api.post("/api/generate-caption", { characterId: who, mediaId: id, prompt: item.prompt || undefined });
    return { caption: g.caption, captions: g.captions, altText: item.altText || g.altText || undefined };
  }
  async function work(ids) {
    phase = "work";
    stopped = false;
    draw();
    for (const [i, id] of ids.entries()) {
      if (stopped) {
        rest.push(...ids.slice(i));
        break;
      }
      try {
        if (!keys.has(id)) keys.set(id, idempotencyKey());
        const text = await wordsFor(id);
        const answer = await api.post("/api/posts", { characterId: who, platforms, mediaIds: [id], publish: "next_free", ...text }, { idempotencyKey: keys.get(id) });
        made.push(...(answer.posts ?? [answer]));
      } catch (error) {
        failed.push({ id, error });
        if (error.code === "network") {
          rest.push(...ids.slice(i + 1));
          break;
        }
      }
      done += 1;
      draw();
    }
    phase = "done";
    draw();
    dialog.querySelector("[data-primary]")?.focus();
  }
  const loadInfos = async () => {
    try {
      infos = (await api.get("/api/platforms", { query: { characterId: who || null } })).platforms ?? [];
      platforms = platforms.filter((p) => infos.some((i) => i.name === p));
      if (!platforms.length && infos.length) platforms = [infos[0].name];
    } catch (error) {
      toast.error(error);
    }
    draw();
  };
  dialog.addEventListener("change", (event) => {
    const { id, value } = event.target;
    if (id === "each-who") {
      who = value;
      loadInfos();
    } else if (id === "each-captions") {
      captions = value;
      draw();
    }
  });
  dialog.addEventListener("input", (event) => {
    if (event.target.id === "each-words") words = event.target.value;
  });
  onAction(dialog, {
    platform: (_e, el) => {
      const name = el.dataset.id;
      platforms = platforms.includes(name) ? platforms.filter((p) => p !== name) : [...platforms, name];
      draw();
    },
    go: (_e, el) => busy(el, () => work(mediaIds)),
    stop: () => {
      stopped = true;
      draw();
    },
    again: () => {
      const ids = [...failed.splice(0).map((f) => f.id), ...rest.splice(0)];
      done = mediaIds.length - ids.length;
      work(ids);
    },
    carousel: () => {
      carousel = true;
      dialog.close("");
    },
  });
  dialog.beforeClose = () => {
    if (phase === "work") stopped = true;
    return phase !== "work";
  };
  draw();
  loadInfos();
  await closed;
  if (carousel) return openComposer({ mediaIds, items, characterId: who, platforms, nextFree: true });
  return made.length ? made : null;
}
