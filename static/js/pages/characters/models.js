/** The panel "Models" of a character: what it is pinned to, whether the files are still the same, and the log of every change. */
import { api, isAbort } from "../../api.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, dateTime, number } from "../../format.js";
import { html, icon } from "../../html.js";
import { follow } from "../../jobs.js";
import { toast } from "../../notices.js";
import { badge } from "../models/rows.js";
import { stateLook } from "../models/words.js";

/** @param {HTMLElement} root @param {string} id @param {{signal: AbortSignal, used: () => Promise<void>}} owner `used`: the character was changed */
export function modelsPanel(root, id, owner) {
  const base = `/api/characters/${encodeURIComponent(id)}/models`;
  let now = null,
    log = [],
    cursor = null,
    error = null;

  const row = (r) => html`<li data-key="${r.kind}:${r.name}">${badge(stateLook(r.state), r.note ?? "")}<span class="mv-what"><strong>${r.name}</strong><small class="muted">${[r.kind === "model" ? "model" : "LoRA", r.strength != null ? `at ${number(r.strength, 2)}` : "", r.autoV2 ? `hash ${r.autoV2}` : "hash being computed", r.used ? "" : "not used now"].filter(Boolean).join(" · ")}</small>${r.note ? html`<small>${r.note}</small>` : ""}</span>${r.shelfId ? html`<a class="btn btn-small btn-ghost" href="/models.html?item=${encodeURIComponent(r.shelfId)}">On the shelf</a>` : ""}</li>`;
  const entry = (e) => html`<li data-key="${e.id}"><span class="mv-what"><span>${e.text}</span><small class="muted" title="${dateTime(e.at)}">${ago(e.at)} · ${e.by === "person" ? e.actor || "by a person" : "noticed by the app"}</small></span><button type="button" class="btn btn-small btn-ghost" data-action="mv-use" data-change="${e.id}" data-needs="write" aria-label="Use the version of ${dateTime(e.at)} again">${icon("undo")}Use again</button></li>`;

  function paint() {
    const pin = now?.pin;
    const pinnable = now && (now.current.model || now.current.loras.length);
    render(
      root,
      error
        ? errorState(error, { title: "The versions could not be read", action: "mv-reload", compact: true })
        : !now
          ? skeleton("rows", 2)
          : html`<div class="stack-3 mv"><div class="row"><h3>Versions</h3><span class="spacer"></span>${pin ? html`<button type="button" class="btn btn-small btn-ghost" data-action="mv-unpin" data-needs="write">Take the pin off</button>` : ""}${pinnable ? html`<button type="button" class="btn btn-small" data-action="mv-pin" data-needs="write">${icon("lock")}${pin ? "Pin what is used now" : "Pin these versions"}</button>` : ""}</div>
          ${now.warnings.length ? html`<ul class="mv-warnings">${now.warnings.map((w) => html`<li>${icon("alert")}<span>${w}</span></li>`)}</ul>` : ""}
          ${pin ? html`<p class="small muted">Pinned ${ago(pin.at)}${pin.by ? ` by ${pin.by}` : ""}. A change is shown here and before a picture is drawn; it stops nothing.</p><ul class="mv-rows">${now.rows.map(row)}</ul>${now.warnings.length ? html`<div><button type="button" class="btn btn-small" data-action="mv-use" data-needs="write">${icon("undo")}Use the pinned version again</button></div>` : ""}` : html`<p class="small muted">${pinnable ? "Pin them, and you are told when a file behind a name is replaced or goes." : "With a model or a LoRA chosen, their versions can be pinned here."}</p>`}
          ${log.length ? html`<details class="ms-inside"><summary>Changes (${log.length}${cursor ? "+" : ""})</summary><ul class="mv-log">${log.map(entry)}</ul>${cursor ? html`<button type="button" class="btn btn-small" data-action="mv-more">Older</button>` : ""}</details>` : ""}</div>`,
    );
  }
  async function load() {
    try {
      const [state, changes] = await Promise.all([api.get(base, { signal: owner.signal }), api.get(`${base}/log`, { query: { limit: 20 }, signal: owner.signal })]);
      now = state;
      log = changes.items;
      cursor = changes.nextCursor;
      error = null;
    } catch (problem) {
      if (isAbort(problem)) return;
      error = problem;
    }
    paint();
  }
  const act = (el, work) =>
    busy(el, async () => {
      try {
        await work();
      } catch (problem) {
        if (!isAbort(problem)) toast.error(problem);
      }
    });
  onAction(root, {
    "mv-reload": load,
    "mv-pin": (_e, el) =>
      act(el, async () => {
        const { taskId } = await api.post(`${base}/pin`);
        toast.success("Pinned");
        await load();
        if (taskId) follow(taskId, { signal: owner.signal }).then(load, () => {});
      }),
    "mv-unpin": (_e, el) =>
      act(el, async () => {
        await api.delete(`${base}/pin`);
        await load();
        toast.success("The pin is off");
      }),
    "mv-use": (_e, el) =>
      act(el, async () => {
        const { notes } = await api.post(`${base}/use`, el.dataset.change ? { changeId: el.dataset.change } : {});
        toast.success("Model, LoRAs and trigger word are as they were then", { detail: notes.join(" ") });
        await owner.used();
      }),
    "mv-more": (_e, el) =>
      act(el, async () => {
        const more = await api.get(`${base}/log`, { query: { limit: 50, cursor }, signal: owner.signal });
        log = [...log, ...more.items];
        cursor = more.nextCursor;
        paint();
      }),
  });
  paint();
  return { load };
}
