/** A state as icon + word; colour is never the only signal. Template function for html``. */
import { html, icon } from "../html.js";
import { words } from "../format.js";

const LOOKS = {
  ok: ["good", "ok"],
  completed: ["good", "ok"],
  ready: ["good", "ok"],
  active: ["good", "ok"],
  published: ["good", "ok"],
  connected: ["good", "ok"],
  running: ["accent", "play"],
  publishing: ["accent", "send"],
  queued: ["neutral", "clock"],
  paused: ["warn", "pause"],
  scheduled: ["info", "calendar"],
  warning: ["warn", "alert"],
  degraded: ["warn", "alert"],
  attention: ["warn", "alert"],
  interrupted: ["warn", "alert"],
  unconfirmed: ["warn", "alert"],
  missed: ["warn", "clock"],
  error: ["bad", "error"],
  failed: ["bad", "error"],
  off: ["neutral", "off"],
  cancelled: ["neutral", "off"],
  inactive: ["neutral", "pause"],
  draft: ["neutral", "edit"],
  dry_run: ["info", "eye"],
};

/** @param {string} status @param {string} [label] the word, when the status itself is not it */
export function statusBadge(status, label) {
  const [tone, name] = LOOKS[status] ?? ["neutral", "circle"];
  return html`<span class="badge badge-${tone}">${icon(name)}<span>${label ?? words(status)}</span></span>`;
}
