/** The panel "In memory": which models lie in memory now, how much they take, and giving it back. */
import { api } from "../../api.js";
import { errorState } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, bytes } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";

const EVERY = 5000;

/** @param {HTMLElement} root @param {AbortSignal} [signal] */
export function residentPanel(root, signal) {
  let answer = null,
    machine = null,
    error = null,
    timer = 0;

  const row = (item) => {
    const held = item.gpuMemoryBytes ?? item.memoryBytes ?? 0;
    const total = item.gpuMemoryBytes ? machine?.gpuMemoryTotal : item.pid ? machine?.memoryTotal : null;
    return html`<li class="ms-held" data-key="${item.engine}"><div class="ms-held-what"><strong>${item.name ?? "nothing loaded yet"}</strong><small class="muted">${[item.label, item.device, item.precision, item.lastUsedAt ? `used ${ago(item.lastUsedAt)}` : "", item.pid ? `process ${item.pid}` : ""].filter(Boolean).join(" · ")}</small></div>
      <div class="ms-held-bar">${total ? html`<meter min="0" max="${total}" value="${held}" aria-label="Memory of ${item.name ?? item.label}"></meter>` : ""}<small>${bytes(held)}${total ? html` <span class="muted">of ${bytes(total)}</span>` : ""}</small></div>
      <button type="button" class="btn btn-small" data-action="shelf-free" data-engine="${item.engine}" data-needs="write" aria-label="Free the memory of ${item.label}" ${attrs({ disabled: item.busy })}>${item.busy ? "At work" : "Free"}</button></li>`;
  };
  function paint() {
    const items = answer?.items ?? [];
    render(
      root,
      html`<div class="panel-head"><h2>In memory</h2><span class="spacer"></span>${items.length > 1 ? html`<button type="button" class="btn btn-small" data-action="shelf-free" data-engine="" data-needs="write">Free all</button>` : ""}</div>
      ${error ? errorState(error, { title: "What is in memory could not be read", action: "resident-reload", compact: true }) : !answer ? html`<p class="muted small">Reading…</p>` : items.length ? html`<ul class="ms-helds">${items.map(row)}</ul>` : html`<p class="muted small">No model is in memory. The first picture loads one; it leaves again when nothing was drawn for a while.</p>`}`,
    );
  }
  async function load() {
    clearTimeout(timer);
    try {
      answer = await api.get("/api/shelf/resident", { signal });
      if (answer.items.length && !machine) machine = await api.get("/api/system/samples", { signal }).then((s) => (s.items ?? s.samples ?? s)?.at?.(-1) ?? null).catch(() => null);
      error = null;
    } catch (problem) {
      if (signal?.aborted) return;
      error = problem;
    }
    paint();
    timer = setTimeout(() => (document.hidden ? undefined : load()), EVERY);
  }
  document.addEventListener("visibilitychange", () => !document.hidden && load(), { signal });
  signal?.addEventListener("abort", () => clearTimeout(timer));
  onAction(root, {
    "resident-reload": load,
    "shelf-free": (_e, el) =>
      busy(el, async () => {
        try {
          const { freed } = await api.post("/api/shelf/free", el.dataset.engine ? { engine: el.dataset.engine } : {});
          toast.success(freed.length ? "The memory was given back" : "Nothing was idle");
        } catch (problem) {
          toast.error(problem);
        }
        await load();
      }),
  });
  paint();
  return { load };
}
