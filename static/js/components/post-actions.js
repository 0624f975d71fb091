/**
 * What can be done to a post, with the questions that have to be asked before. Every function answers the changed post,
 * null when nothing was done; errors are told to the person here.
 */
import { api, idempotencyKey } from "../api.js";
import { html, icon } from "../html.js";
import { dateTime } from "../format.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { browserZone, inputOf, isZone, offsetLabel, toUtc } from "../zones.js";
import { confirmDialog, openDialog } from "./confirm-dialog.js";
import { platformLabel, stateOf } from "./post-state.js";

const path = (post, what = "") => `/api/posts/${encodeURIComponent(post.id)}${what && `/${what}`}`;
const label = (post) => post.platformLabel ?? platformLabel(post.platform);
const whose = (post) => post.characterName ?? session.find(post.characterId)?.name ?? "the character";
/** The zone a character's times are meant in. */
export function zoneOfCharacter(characterId) {
  const own = session.find(characterId)?.timezone;
  return isZone(own) ? own : browserZone();
}

const said = async (work, text) => {
  try {
    const done = await work;
    if (text) toast.success(text);
    return done;
  } catch (error) {
    toast.error(error);
    return null;
  }
};

/** Ask before something becomes public. */
export const sureToPost = (post) =>
  post.dryRun
    ? confirmDialog({
        title: "Rehearse this post now?",
        body: "This is a dry run. Nothing leaves this machine; the exact requests are kept in the outbox.",
        confirmLabel: "Rehearse",
        danger: false,
      })
    : confirmDialog({
        title: `Post live to ${label(post)} now?`,
        consequences: [`${whose(post)} on ${label(post)}: everybody can see it at once.`],
        confirmLabel: "Post now",
        danger: false,
      });

/**
 * Ask for a day and a time. @param {{title: string, at?: string|null, characterId?: string, note?: string, confirmLabel?: string}} options
 * @returns {Promise<string|null>} the moment in UTC
 */
export async function askTime({ title, at = null, characterId = "", note = "", confirmLabel = "Schedule" }) {
  const zone = zoneOfCharacter(characterId);
  const start = at && Date.parse(at) > Date.now() ? at : new Date(Math.ceil((Date.now() + 600_000) / 900_000) * 900_000).toISOString();
  let value = null;
  const { dialog, closed } = openDialog({
    title,
    size: "s",
    body: html`<form class="stack-3" id="ask-time">${note && html`<p>${note}</p>`}<div class="field"><label for="ask-at">Day and time</label><input type="datetime-local" id="ask-at" value="${inputOf(start, zone)}" required aria-describedby="ask-zone ask-error"><p class="field-hint" id="ask-zone">${zone} (${offsetLabel(zone, start)})</p><p class="field-error" id="ask-error" role="alert"></p></div></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="ask-time" class="btn btn-primary" data-primary>${confirmLabel}</button>`,
    onOpen: (d) => d.querySelector("#ask-at").focus(),
  });
  const input = dialog.querySelector("#ask-at");
  const error = dialog.querySelector("#ask-error");
  const check = () => {
    const found = toUtc(input.value, zone);
    const past = found && Date.parse(found.iso) < Date.now() - 60_000;
    error.textContent = !found
      ? "Choose a day and a time."
      : past
        ? "This time has passed. Choose a later one."
        : found.note === "gap"
          ? "The clock jumps over this time that day; it goes out right after."
          : "";
    input.setAttribute("aria-invalid", String(!found || past));
    return found && !past ? found.iso : null;
  };
  input.addEventListener("input", check);
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    value = check();
    if (value) dialog.close("ok");
  });
  return (await closed) === "ok" ? value : null;
}

/** Give a post another time; with Undo. @param {any} post @param {string} at UTC */
export async function moveTo(post, at, { undo = true } = {}) {
  const before = post.scheduledAt;
  try {
    const done = await api.post(path(post, "schedule"), { scheduledAt: at });
    const zone = zoneOfCharacter(post.characterId);
    toast.success(`Moved to ${dateTime(at, zone)}`, {
      detail: zone,
      undo:
        undo && before && Date.parse(before) > Date.now() && post.status === "scheduled"
          ? async () => {
              await said(api.post(path(post, "schedule"), { scheduledAt: before }));
            }
          : undefined,
    });
    return done;
  } catch (error) {
    toast.error(error);
    return null;
  }
}

/** The two honest answers to "did it arrive?". */
async function settle(post) {
  const name = label(post);
  let answer = null;
  const { dialog, closed } = openDialog({
    title: `Is it on ${name}?`,
    size: "m",
    body: html`<div class="stack-4"><p>${post.error?.detail ?? `${name} did not answer, so nobody here knows whether this post arrived.`} Look at ${whose(post)}'s account on ${name}, then say what you see.</p>
      <form class="stack-3 post-settle" id="settle-yes"><h3>${icon("ok")}It is on ${name}</h3><div class="field"><label for="settle-link">Link or id of the post</label><input id="settle-link" autocomplete="off" placeholder="${post.platform === "instagram" ? "https://www.instagram.com/p/…" : "https://x.com/…/status/…"}" aria-describedby="settle-error"><p class="field-error" id="settle-error" role="alert"></p></div><div class="row"><button type="submit" class="btn btn-primary">${icon("check")}It is on ${name}</button></div></form>
      <section class="stack-3 post-settle"><h3>${icon("x")}It is not there</h3><div class="row"><button type="button" class="btn" data-close="again">${icon("refresh")}It is not there: post again</button><button type="button" class="btn btn-ghost" data-close="failed">It is not there, leave it</button></div></section></div>`,
    onOpen: (d) => d.querySelector("#settle-link").focus(),
  });
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = dialog.querySelector("#settle-link").value.trim();
    if (!text) {
      dialog.querySelector("#settle-error").textContent = "Paste the link of the post, so that it can be found again.";
      dialog.querySelector("#settle-link").setAttribute("aria-invalid", "true");
      return;
    }
    answer = /^https?:/i.test(text) ? { posted: true, permalink: text } : { posted: true, platformPostId: text };
    dialog.close("yes");
  });
  const value = await closed;
  if (value === "again" || value === "failed") answer = { posted: false, again: value === "again" };
  if (!answer) return null;
  return said(api.post(path(post, "confirm"), answer), answer.posted ? "Settled: it is published" : answer.again ? "It is sent again" : "Settled: it was not posted");
}

const ACTIONS = {
  approve: (post) => said(api.post(path(post, "approve"), {}), !post.scheduledAt ? "Approved" : Date.parse(post.scheduledAt) > Date.now() ? "Approved and planned" : "Approved: it goes out now"),
  retry: (post) => said(api.post(path(post, "retry"), {}), "It is tried again"),
  async publish(post) {
    if (!(await sureToPost(post))) return null;
    return said(api.post(path(post, "publish"), {}, { idempotencyKey: idempotencyKey() }));
  },
  async schedule(post) {
    const at = await askTime({
      title: post.status === "scheduled" ? "Move this post" : "Schedule this post",
      at: post.scheduledAt,
      characterId: post.characterId,
      confirmLabel: post.status === "scheduled" ? "Move" : "Schedule",
    });
    return at ? moveTo(post, at) : null;
  },
  async cancel(post) {
    const before = stateOf(post).label.toLowerCase();
    const done = await said(api.post(path(post, "cancel"), {}));
    if (done)
      toast.success(post.status === "draft" ? "Rejected" : "Cancelled", {
        detail: `It was ${before}.`,
        undo:
          post.scheduledAt && Date.parse(post.scheduledAt) > Date.now() && post.status === "scheduled"
            ? async () => {
                await said(api.post(path(post, "schedule"), { scheduledAt: post.scheduledAt }));
              }
            : undefined,
      });
    return done;
  },
  settle,
  duplicate: (post) => said(api.post(path(post, "duplicate"), {}), "A copy is among the drafts"),
  async delete(post) {
    const sure = await confirmDialog({
      title: "Delete this post?",
      body: post.status === "published" ? `It stays on ${label(post)}; only the record here goes.` : "",
      consequences: ["Its words and its log are removed.", "The pictures stay in the gallery.", "This cannot be undone."],
      confirmLabel: "Delete",
    });
    if (!sure) return null;
    const done = await said(api.delete(path(post)), "Deleted");
    return done ? { ...post, deleted: true, actions: [] } : null;
  },
};

/** Do what a button says. @param {any} post @param {string} action a name of `post.actions`, or "settle" @returns {Promise<any|null>} */
export const actOn = (post, action) => ACTIONS[action === "confirm" ? "settle" : action](post);
