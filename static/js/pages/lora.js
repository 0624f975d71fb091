/** LoRA: train one, watch the runs, look after the shelf. ?tab= train | runs | shelf; ?run=<id> is the page of a run. */
import { html } from "../html.js";
import { onAction, render, url } from "../dom.js";
import { registerKeys } from "../keys.js";
import { runsTab } from "./lora/runs.js";
import { runView } from "./lora/run.js";
import { shelfTab } from "./lora/shelf.js";
import { trainTab } from "./lora/train.js";

const TABS = [
  { key: "train", label: "Train", icon: "bolt" },
  { key: "runs", label: "Runs", icon: "history" },
  { key: "shelf", label: "Shelf", icon: "layers" },
];

export async function mount(main) {
  render(
    main,
    html`<div class="lo"><tab-bar class="lo-tabs" aria-label="LoRA"></tab-bar>${TABS.map((t) => html`<div id="lo-${t.key}" role="tabpanel" aria-labelledby="tab-${t.key}" tabindex="-1" hidden></div>`)}<div id="lo-run" hidden></div></div>`,
  );
  const $ = (id) => main.querySelector(`#lo-${id}`);
  const bar = main.querySelector("tab-bar");
  let active = 0;
  const paintTabs = () => {
    bar.tabs = TABS.map((t) => ({ ...t, controls: `lo-${t.key}`, count: t.key === "runs" && active ? active : undefined }));
    bar.value = url.get("run") ? "runs" : tab();
  };
  const tab = () => (TABS.some((t) => t.key === url.get("tab")) ? url.get("tab") : "train");

  const parts = {
    train: trainTab($("train"), { opened: (id) => go({ run: id }) }),
    runs: runsTab($("runs"), {
      open: (id) => go({ run: id }),
      counts: (n) => {
        active = n;
        paintTabs();
      },
    }),
    shelf: shelfTab($("shelf")),
  };
  const run = runView($("run"), { back: () => go({ tab: "runs" }), gone: () => go({ tab: "runs" }) });
  let shown = "";

  /** Show what the address says. */
  function show() {
    const id = url.get("run");
    const next = id ? `run:${id}` : tab();
    paintTabs();
    for (const t of TABS) $(t.key).hidden = Boolean(id) || t.key !== tab();
    $("run").hidden = !id;
    if (next === shown) return undefined;
    shown = next;
    if (!id) run.hide();
    if (next !== "runs") parts.runs.hide();
    return id ? run.show(id) : parts[tab()].show();
  }
  function go(changes) {
    const to = new URLSearchParams(changes);
    history.pushState(null, "", `/lora.html?${to}`);
    scrollTo(0, 0);
    show();
  }
  bar.addEventListener("tab-bar:change", ({ detail }) => go({ tab: detail.key }));
  bar.addEventListener("click", ({ target }) => {
    if (url.get("run") && target.closest("[data-key=runs]")) go({ tab: "runs" }); // marked already, as a run is one of the runs
  });
  addEventListener("popstate", show);
  onAction(main, {
    "to-train": () => go({ tab: "train" }),
    "lora-run": (event, el) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go({ run: el.dataset.id });
    },
  });
  const can = (name) => () => shown.startsWith("run:") && run.can(name);
  registerKeys("LoRA", [
    { keys: "n", label: "New training", run: () => go({ tab: "train" }) },
    { keys: "p", label: "Pause this run", when: can("pause"), run: () => run.click("pause") },
    { keys: "r", label: "Resume this run", when: can("resume"), run: () => run.click("resume") },
    { keys: "w", label: "Save a checkpoint now", when: can("save"), run: () => run.click("save") },
  ]);
  if (url.get("clone")) url.set({ tab: "train" });
  await show();
  if (tab() !== "runs" || url.get("run")) parts.runs.load();
}
