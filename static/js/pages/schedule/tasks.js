/** The list of scheduled tasks: one row each, with what comes next, what was last, and what is wrong. Markup only. */
import { avatar } from "../../components/avatar.js";
import { daily, until } from "../../components/cron-field.js";
import { emptyState } from "../../components/states.js";
import { statusBadge } from "../../components/status-badge.js";
import { ago, dateTime } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { session } from "../../session.js";
import { differs, lastAt, local, LOOKS, PLATFORMS, needs, platformsOf, posts, taskName, typeLabel, TYPES } from "./words.js";

export const runBadge = (status) => {
  const look = LOOKS[status];
  return look ? html`<span class="badge badge-${look[0]}">${icon(look[1])}<span>${look[2]}</span></span>` : statusBadge(status);
};
export const dryBadge = () =>
  html`<span class="badge badge-info sc-drybadge" title="The whole path runs; nothing is sent.">${icon("eye")}<span>Dry run</span></span>`;

/** @param {any} task @param {{zone: string, paused: any, now?: number}} page */
export function taskRow(task, { zone, stopped, now = Date.now() }) {
  const name = taskName(task);
  const character = session.find(task.characterId);
  const halt = stopped(task);
  const platforms = platformsOf(task);
  const last = lastAt(task);
  const skipped = (task.skippedSlots ?? []).filter((slot) => Date.parse(slot) > now);
  const named = Boolean(task.name?.trim());
  const menu = `sc-menu-${task.id}`;
  const right = needs(task);
  const waits = task.active && !task.problem && !halt;
  return html`<li class="card sc-task ${task.active ? "" : "is-off"} ${task.problem ? "is-broken" : ""}" data-key="${task.id}">
    <label class="sc-switch"><input type="checkbox" role="switch" class="switch" data-toggle="${task.id}" data-needs="${right}" aria-label="${name} is active" ${attrs({ checked: task.active })}></label>
    <div class="sc-what">${character ? avatar(character, "m") : html`<span class="avatar avatar-m" aria-hidden="true">${icon(TYPES[task.type]?.icon ?? "clock")}</span>`}
      <div class="sc-names"><h3><button type="button" class="sc-link" data-action="edit" data-id="${task.id}">${task.name?.trim() || typeLabel(task.type)}</button></h3>
      <p class="small muted sc-meta">${named && html`<span>${icon(TYPES[task.type]?.icon ?? "clock")}${typeLabel(task.type)}</span>`}${task.characterName && html`<span>${task.characterName}</span>`}${posts(task) && platforms.length > 0 && html`<span>${platforms.map((p) => PLATFORMS[p] ?? p).join(" and ")}</span>`}${task.dryRun && posts(task) && dryBadge()}</p></div></div>
    <div class="sc-when"><p class="sc-words">${daily(task.description) || html`<code>${task.schedule || "no expression"}</code>`}</p>
      <p class="small muted">${task.zone ? task.zone : ""}${task.missedRunPolicy === "run_once" && html` · catches up`}</p></div>
    <div class="sc-next">${
      waits && task.nextRun
        ? html`<p><strong data-until="${task.nextRun}">${Date.parse(task.nextRun) > now ? until(task.nextRun, now) : "due now"}</strong></p><p class="small muted"><time datetime="${task.nextRun}" title="${new Date(task.nextRun).toISOString().slice(0, 16).replace("T", " ")} UTC">${local(task.nextRun, zone, now)}</time>${differs(task.zone, zone, task.nextRun) && html`<span class="sc-other">${local(task.nextRun, task.zone, now)} there</span>`}</p>`
        : html`<p class="muted">${task.problem ? "Cannot run" : halt ? html`${icon("pause")} ${halt}` : task.active ? "No next run" : "Switched off"}</p>`
    }</div>
    <div class="sc-last">${task.lastStatus ? html`<button type="button" class="sc-lastbtn" data-action="last" data-id="${task.id}" title="Show this run">${runBadge(task.lastStatus)}</button>${last && html`<time class="small muted" datetime="${last}" title="${dateTime(last, zone)}">${ago(last, now)}</time>`}` : html`<span class="small muted">Never ran</span>`}</div>
    <div class="sc-acts"><button type="button" class="btn btn-small" data-action="run" data-needs="${right}" data-id="${task.id}" aria-label="Run ${name} now">${icon("play")}<span>Run now</span></button>
      <button type="button" class="icon-btn" popovertarget="${menu}" aria-label="More for ${name}" title="More" aria-haspopup="menu">${icon("more")}</button>
      <div id="${menu}" popover class="popover menu" role="menu" aria-label="${name}" data-align="end"><button type="button" role="menuitem" data-action="edit" data-id="${task.id}">${icon("edit")}<span>Edit</span></button><button type="button" role="menuitem" data-action="duplicate" data-needs="${right}" data-id="${task.id}">${icon("copy")}<span>Duplicate</span></button>${posts(task) && html`<button type="button" role="menuitem" data-action="run-dry" data-needs="${right}" data-id="${task.id}">${icon("eye")}<span>Run now as dry run</span></button>`}${waits && task.nextRun && html`<button type="button" role="menuitem" data-action="skip" data-needs="${right}" data-id="${task.id}">${icon("minus")}<span>Leave out the next run</span></button>`}<button type="button" role="menuitem" data-action="history" data-id="${task.id}">${icon("history")}<span>Run history</span></button><button type="button" role="menuitem" data-action="curl" data-id="${task.id}">${icon("copy")}<span>Copy “Run now” as curl</span></button><hr><button type="button" role="menuitem" class="is-danger" data-action="remove" data-needs="${right}" data-id="${task.id}">${icon("trash")}<span>Delete</span></button></div></div>
    ${skipped.length > 0 && html`<p class="sc-skips small">${icon("minus")}<span>Leaves out ${skipped.slice(0, 3).map((slot, i) => html`${i ? ", " : ""}${local(slot, zone, now)} <button type="button" class="sc-undo" data-action="unskip" data-needs="${right}" data-id="${task.id}" data-slot="${slot}" aria-label="Run at ${local(slot, zone, now)} after all">undo</button>`)}${skipped.length > 3 && ` and ${skipped.length - 3} more`}</span></p>`}
    ${task.problem && html`<div class="sc-fault" role="note">${icon("alert")}<p>${problemText(task.problem)}${task.problemRemedy && html` <span class="muted">${task.problemRemedy}</span>`}</p><button type="button" class="btn btn-small" data-action="edit" data-id="${task.id}">Fix it</button></div>`}</li>`;
}

/** The server tells a sentence or a problem. Pure. */
export const problemText = (problem) =>
  typeof problem === "string"
    ? problem
    : [problem?.detail ?? problem?.message ?? "This task cannot run.", problem?.remedy].filter(Boolean).join(" ");

export const noTasks = (characters) =>
  characters.length
    ? emptyState({
        icon: "calendar",
        title: "Nothing is scheduled yet",
        text: "A task makes a picture, writes a caption and posts both at its hours. It can rehearse first: a dry run sends nothing.",
        action: { label: "New task", action: "new", icon: "plus", needs: "publish" },
      })
    : emptyState({
        icon: "characters",
        title: "A schedule needs a character",
        text: "Create one first; then say when it posts.",
        action: { label: "Create a character", href: "/characters.html?new=1" },
      });
