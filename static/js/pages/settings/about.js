/** Settings, "About": version, licences, links, shortcuts; back to the defaults. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { onAction, render } from "../../dom.js";
import { dateTime, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { showKeys } from "../../components/keys-help.js";
import { GROUPS, SECTIONS } from "./layout.js";
import { isSaved, said, sectionOf } from "./model.js";

const LINKS = [
  ["/api/docs", "API for programs", "book"],
  ["/api/openapi.json", "OpenAPI document", "external"],
  ["/monitoring.html", "Monitoring", "monitoring"],
];

/** @returns {{id: string, label: string, icon: string, mount: (root: HTMLElement, options: any) => Promise<void>}} */
export function aboutSection() {
  return { id: "about", label: "About", icon: "info", mount };
}

/** Everything saved here that a reset takes away, by section. @param {import("./store.js").Store} store @param {string} [only] a section */
function savedNames(store, only) {
  return [...store.settings.values()].filter((s) => isSaved(s) && (!only || sectionOf(s.name, store.settings) === only)).map((s) => s.name);
}

/** List what a reset would change, with a tick for each, then do it. @param {import("./store.js").Store} store */
async function reset(store, only = "") {
  const names = savedNames(store, only);
  if (!names.length) {
    toast.info("Everything is at its default already");
    return;
  }
  let rows;
  try {
    rows = await store.plan(Object.fromEntries(names.map((n) => [n, null])));
  } catch (error) {
    toast.error(error);
    return;
  }
  const { dialog, closed } = openDialog({
    title: "Back to the defaults",
    body: html`<div class="stack-3"><p>${plural(rows.length, "setting")} would change. Untick what is to stay.</p><ul class="se-plan">${rows.map((r) => {
      const s = store.settings.get(r.name);
      return html`<li><label class="check"><input type="checkbox" checked value="${r.name}"><span><strong>${r.label}</strong><span class="small muted">${said(s, r.before)} → ${s.secret ? "removed" : said(s, r.after ?? s.default)}${r.needsRestart && ", at the next start"}</span></span></label></li>`;
    })}</ul></div>`,
    footer: html`<button type="button" class="btn" data-close="" autofocus>Cancel</button><span class="spacer"></span><button type="button" class="btn btn-danger" data-close="yes" data-reset>Reset</button>`,
    onOpen: (d) => d.querySelector("[autofocus]").focus(),
  });
  const ticked = () => [...dialog.querySelectorAll("input:checked")].map((i) => i.value);
  let wish = ticked();
  dialog.addEventListener("change", () => {
    wish = ticked();
    dialog.querySelector("[data-reset]").disabled = !wish.length;
  });
  if ((await closed) !== "yes") return;
  try {
    const answer = await store.save(Object.fromEntries(wish.map((n) => [n, null])));
    if (answer) store.told(answer, `${plural(wish.length, "setting")} back to the default`);
  } catch (error) {
    toast.error(error);
  }
}

async function mount(root, { signal, store }) {
  let status = null;
  const sections = [...new Set(Object.values(GROUPS))].map((id) => SECTIONS.find((s) => s.id === id)).filter(Boolean);
  const paint = () => {
    const all = savedNames(store).length;
    render(
      root,
      html`<div class="stack-4"><section class="panel se-panel" id="version" aria-labelledby="se-about"><header class="panel-head"><h2 id="se-about">Digital Dalla</h2></header>
        <dl class="facts"><div><dt>Version</dt><dd>${status?.version ?? "…"}</dd></div><div><dt>Running since</dt><dd>${status ? dateTime(status.startedAt) : "…"}</dd></div><div><dt>Settings file</dt><dd class="mono">${store.file}</dd></div></dl>
        <div class="row">${LINKS.map(([href, label, glyph]) => html`<a class="btn" href="${href}">${icon(glyph)}${label}</a>`)}<button type="button" class="btn" data-action="keys">${icon("keyboard")}Shortcuts</button></div></section>
      <section class="panel se-panel" aria-labelledby="se-licences"><header class="panel-head"><h2 id="se-licences">Licences</h2></header><p class="muted se-text">Pictures and LoRAs are yours. Models have licences of their own: read them before you publish or sell what they draw.</p>
        <ul class="se-licences"><li><strong>Digital Dalla and its starter model</strong><span class="muted">MIT licence. The starter model learned from drawings the project made itself.</span></li><li><strong>Finding faces (YuNet)</strong><span class="muted">MIT licence, from OpenCV Zoo.</span></li><li><strong>Comparing faces (SFace)</strong><span class="muted">Apache 2.0, from OpenCV Zoo.</span></li><li><strong>Python libraries</strong><span class="muted">Each under its own open-source licence; requirements.txt names them all.</span></li></ul></section>
      <section class="panel se-panel" id="reset" aria-labelledby="se-reset"><header class="panel-head"><h2 id="se-reset">Back to the defaults</h2></header><p class="muted se-text">${all ? `${plural(all, "setting")} saved here. What would change is listed first, and it can be undone.` : "Everything is at its default."} Values from the environment and from .env stay.</p>
        ${store.mayChange && all > 0 && html`<div class="row">${sections.map((s) => [s, savedNames(store, s.id).length]).filter(([, n]) => n).map(([s, n]) => html`<button type="button" class="btn" data-action="reset-section" data-section="${s.id}">${s.label} (${n})</button>`)}<button type="button" class="btn btn-ghost is-danger" data-action="reset-all">${icon("undo")}Everything (${all})</button></div>`}</section></div>`,
    );
  };
  onAction(
    root,
    {
      keys: () => showKeys(),
      "reset-all": () => reset(store),
      "reset-section": (_e, el) => reset(store, el.dataset.section),
    },
    { signal },
  );
  document.querySelector("main").addEventListener("settings:known", paint, { signal });
  paint();
  try {
    status = await api.get("/api/system/status", { signal });
    paint();
  } catch {
    /* the rest of the page stands */
  }
}
