/** One account as a card: state, token, quota, what went wrong, and the button that mends it. Template functions and pure rules. */
import { attrs, html, icon } from "../../html.js";
import { ago, date, dateTime, plural } from "../../format.js";
import { avatar } from "../../components/avatar.js";

const STATES = {
  ok: ["good", "ok", "Connected"],
  off: ["neutral", "off", "Not connected"],
  warning: ["warn", "alert", "Look at this"],
  error: ["bad", "error", "Does not work"],
};
const FILTERS = [
  ["", "All"],
  ["attention", "Needs you"],
  ["connected", "Connected"],
  ["off", "Not connected"],
];

export const keyOf = (account) => `${account.characterId}:${account.platform}`;
export const isOff = (account) => account.status === "off";
export const needsYou = (account) => ["warning", "error"].includes(account.status);
const matches = { attention: needsYou, connected: (a) => !isOff(a), off: isOff };

/** Accounts by character, in the order of the characters. @param {any[]} platforms as GET /api/platforms answers */
export function byCharacter(platforms) {
  const groups = new Map();
  for (const platform of platforms)
    for (const account of platform.accounts) {
      const group = groups.get(account.characterId) ?? { id: account.characterId, name: account.characterName, accounts: [] };
      group.accounts.push(account);
      groups.set(account.characterId, group);
    }
  return [...groups.values()];
}

/** @param {any[]} groups @param {{show: string, q: string}} filter */
export function filtered(groups, { show, q }) {
  const wanted = matches[show] ?? (() => true);
  const words = q.trim().toLowerCase();
  return groups
    .filter((g) => !words || g.name.toLowerCase().includes(words) || g.accounts.some((a) => (a.username ?? "").toLowerCase().includes(words)))
    .map((g) => ({ ...g, accounts: show ? g.accounts.filter(wanted) : g.accounts }))
    .filter((g) => g.accounts.length);
}

export function filterChips(accounts, show) {
  return html`<div class="row" role="group" aria-label="Which accounts">${FILTERS.map(([value, label]) => html`<button type="button" class="chip" data-action="show" data-value="${value}" aria-pressed="${String(value === show)}">${label} <span class="co-count">${value ? accounts.filter(matches[value]).length : accounts.length}</span></button>`)}</div>`;
}

/** What is on the page in one sentence. */
export function summary(accounts) {
  const connected = accounts.filter((a) => !isOff(a)).length;
  const wrong = accounts.filter((a) => a.status === "error").length;
  const look = accounts.filter((a) => a.status === "warning").length;
  if (!connected) return { tone: "neutral", icon: "link", title: "No account is connected yet", text: "Until then every post is only rehearsed." };
  if (wrong)
    return {
      tone: "bad",
      icon: "error",
      title: wrong === 1 ? "One account does not work" : `${wrong} accounts do not work`,
      text: `${plural(connected, "account")} connected${look ? `, ${look} to look at` : ""}`,
    };
  if (look)
    return {
      tone: "warn",
      icon: "alert",
      title: look === 1 ? "One account needs a look" : `${look} accounts need a look`,
      text: `${plural(connected, "account")} connected`,
    };
  return { tone: "good", icon: "ok", title: "Every account works", text: `${plural(connected, "account")} connected` };
}

/** @param {any} group @param {{platforms: Map<string, any>, marked: string}} view */
export function characterPanel(group, { platforms, marked }) {
  const person = { id: group.id, name: group.name };
  return html`<section class="panel co-character" data-key="${group.id}" aria-labelledby="co-${group.id}"><header class="panel-head">${avatar(person, "s")}<h3 id="co-${group.id}"><a href="/characters.html?id=${encodeURIComponent(group.id)}">${group.name}</a></h3></header>
    <div class="co-accounts">${group.accounts.map((a) => (isOff(a) ? offCard(a) : accountCard(a, platforms.get(a.platform), marked === keyOf(a))))}</div></section>`;
}

function offCard(a) {
  return html`<article class="co-card is-off" data-key="${keyOf(a)}" aria-label="${a.platformLabel}"><div class="co-head">${sign(a)}<h4>${a.platformLabel}</h4>${stateBadge(a)}<span class="spacer"></span><a class="btn btn-small" href="${a.href}">${icon("key")}Connect</a></div>
    <p class="small muted">Posts are only rehearsed.</p></article>`;
}

function accountCard(a, platform, marked) {
  const stopped = a.breaker || a.paused;
  return html`<article class="co-card is-${a.status} ${marked ? "is-marked" : ""}" data-key="${keyOf(a)}" id="co-${a.platform}-${a.characterId}" aria-label="${a.platformLabel} of ${a.characterName}">
    <div class="co-head">${sign(a)}<div class="co-name"><h4>${a.platformLabel}</h4>${a.username && html`<span class="small muted truncate">@${a.username}${a.accountType && ` · ${a.accountType.replaceAll("_", " ")}`}</span>`}</div><span class="spacer"></span>${stateBadge(a)}</div>
    ${a.dryRun && html`<p class="co-dry">${icon("eye")}<span><strong>Dry run.</strong> Posts are rehearsed, nothing is really sent.</span></p>`}
    ${a.breaker ? breakerBox(a) : html`<p class="co-detail">${a.detail}${a.remedy && a.status !== "ok" && html` <span class="muted">${a.remedy}</span>`}</p>`}
    ${a.paused && (a.breaker || a.paused.scope !== "account" || a.status === "error") && html`<p class="co-paused">${icon("pause")}<span>${pauseText(a.paused)}</span></p>`}
    <dl class="co-facts">${tokenFact(a)}${quotaFact(a)}
      <div><dt>Last post</dt><dd>${a.lastSuccessAt ? html`<time title="${dateTime(a.lastSuccessAt)}">${ago(a.lastSuccessAt)}</time>` : "None yet"}</dd></div>
      ${a.nextPostAt && html`<div><dt>Next post</dt><dd>${stopped && html`<span class="visually-hidden">waits: </span>`}<time title="${dateTime(a.nextPostAt)}">${new Date(a.nextPostAt) <= new Date() ? "due now" : ago(a.nextPostAt)}</time></dd></div>`}
      ${a.lastErrorAt && a.lastError !== a.breaker?.reason && html`<div class="is-wide"><dt>Last error</dt><dd><time title="${dateTime(a.lastErrorAt)}">${ago(a.lastErrorAt)}</time>: ${a.lastError}</dd></div>`}
      <div><dt>Last test</dt><dd>${a.checkedAt ? html`<time title="${dateTime(a.checkedAt)}">${ago(a.checkedAt)}</time>` : "Never"}</dd></div></dl>
    <div class="co-actions">${actions(a, platform)}</div></article>`;
}

function breakerBox(a) {
  const b = a.breaker;
  return html`<div class="co-breaker" role="note">${icon("stop")}<div><p><strong>Nothing is sent.</strong> ${b.reason}</p><p class="small">Stopped ${b.since ? html`<time title="${dateTime(b.since)}">${ago(b.since)}</time>` : "some time ago"}${b.until ? html`, tried again by itself ${ago(b.until)}` : " until you mend it"}.${a.remedy && ` ${a.remedy}`}</p></div></div>`;
}

function pauseText(pause) {
  if (pause.scope === "all") return `Publishing is stopped for everybody${pause.reason ? `: ${pause.reason}` : "."}`;
  if (pause.scope === "character") return `This character is stopped${pause.reason ? `: ${pause.reason}` : "."}`;
  return "Stopped by hand.";
}

function tokenFact(a) {
  if (a.tokenDaysLeft === null || (a.breaker?.reconnect && !a.tokenExpired)) return ""; // the platform has refused it, whatever its date says
  const left = a.tokenExpired ? 0 : a.tokenDaysLeft;
  const tone = left < 3 || a.tokenExpired ? "is-bad" : left < 10 ? "is-warn" : "";
  const text = a.tokenExpired ? "Ended" : left === 0 ? "Ends today" : `${a.tokenEstimated ? "about " : ""}${plural(left, "day")} left`;
  return html`<div class="is-wide"><dt>Access token</dt><dd class="co-bar ${tone}"><progress max="60" value="${Math.min(60, left)}" aria-hidden="true"></progress><span title="${a.tokenExpired ? "Ended" : "Ends"} ${date(a.tokenExpiresAt)}">${text}</span></dd></div>`;
}

function quotaFact(a) {
  if (a.quotaTotal === null || a.quotaTotal === undefined) return "";
  const used = a.quotaUsed ?? 0;
  const tone = used >= a.quotaTotal ? "is-bad" : used >= a.quotaTotal * 0.8 ? "is-warn" : "";
  return html`<div class="is-wide"><dt>Posts in 24 h</dt><dd class="co-bar ${tone}"><progress max="${a.quotaTotal}" value="${Math.min(used, a.quotaTotal)}" aria-hidden="true"></progress><span title="${a.quotaAt ? `Read ${ago(a.quotaAt)}` : ""}">${used} of ${a.quotaTotal}</span></dd></div>`;
}

/** The buttons of an account, the one that mends it first. */
function actions(a, platform) {
  const data = { "data-id": a.characterId, "data-platform": a.platform };
  const button = (action, glyph, label, extra = "", more = {}) =>
    html`<button type="button" class="btn btn-small ${extra}" data-action="${action}" data-needs="publish" ${attrs({ ...data, ...more })}>${icon(glyph)}${label}</button>`;
  const reconnect = (extra) => html`<a class="btn btn-small ${extra}" href="${a.href}">${icon("key")}Reconnect</a>`;
  const broken = a.status === "error" && (a.breaker?.reconnect || a.tokenExpired || a.checkOk === false);
  const byHand = a.paused?.scope === "account";
  const ends = a.tokenDaysLeft !== null && !a.tokenExpired && !a.fromEnvironment.length;
  const renewFirst = ends && a.tokenDaysLeft < 10 && !broken;
  return html`${broken && reconnect("btn-primary")}
    ${renewFirst && button("renew", "repeat", "Renew token", "btn-primary")}
    ${button("check", "bolt", "Test", !broken && !renewFirst && !a.breaker && needsYou(a) && !byHand ? "btn-primary" : "", { title: platform?.billedChecks ? `${a.platformLabel} bills each test (about $0.01)` : undefined })}
    ${a.breaker && button("close-breaker", "unlock", "Close breaker", broken ? "" : "btn-primary")}
    ${byHand ? button("resume", "play", "Resume", "btn-primary") : button("pause", "pause", "Pause")}
    ${ends && !renewFirst && button("renew", "repeat", "Renew token", "btn-ghost")}
    ${!broken && html`<a class="btn btn-small btn-ghost" href="${a.href}">${icon("key")}Keys</a>`}`;
}

function stateBadge(a) {
  const [tone, glyph, label] = a.breaker
    ? ["bad", "stop", "Stopped"]
    : a.paused?.scope === "account"
      ? ["warn", "pause", "Paused"]
      : (STATES[a.status] ?? STATES.warning);
  return html`<span class="badge badge-${tone}">${icon(glyph)}<span>${label}</span></span>`;
}

const sign = (a) => html`<span class="co-sign">${icon(a.platform === "instagram" || a.platform === "twitter" ? a.platform : "send")}</span>`;
