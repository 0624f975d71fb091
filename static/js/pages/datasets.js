/** Datasets: all of them, or one with its pictures, captions, figures, duplicates and versions. What is shown is in the address. */
import { html } from "../html.js";
import { render } from "../dom.js";
import { registerKeys } from "../keys.js";
import { session } from "../session.js";
import { detailView } from "./datasets/detail.js";
import { importDialog } from "./datasets/importer.js";
import { listView } from "./datasets/list.js";
import { address, readQuery } from "./datasets/query.js";

export async function mount(main) {
  render(main, html`<div class="ds"><section class="ds-all" aria-label="Datasets" data-key="all"></section><section class="ds-one" data-key="one" hidden></section>
    <div class="ds-veil" data-key="veil" hidden></div></div>`);
  const $ = (selector) => main.querySelector(selector);
  const shell = document.querySelector("app-shell");
  let at = readQuery(location.search);
  history.scrollRestoration = "manual";

  const importer = importDialog({
    veil: $(".ds-veil"),
    set: () => (at.dataset ? detail.set : null),
    imported: (datasetId, taskId) => {
      if (at.dataset === datasetId) detail.follow(taskId);
      else go({ dataset: datasetId, tab: "images", filter: {}, own: {} }).then(() => detail.follow(taskId));
    },
  });
  const list = listView($(".ds-all"), {
    open: (id) => go({ dataset: id, tab: "images", sort: "name", filter: {}, own: {} }),
    go: (own, options) => go({ dataset: "", filter: "q" in own ? { q: own.q } : at.filter, own: { ...at.own, ...own } }, options),
    importer,
  });
  const detail = detailView($(".ds-one"), { at: () => at, go, importer, gone: () => go({ dataset: "", tab: "images", filter: {}, own: {} }) });

  /** Show what the address says. */
  async function show() {
    const one = Boolean(at.dataset);
    $(".ds-all").hidden = one;
    $(".ds-one").hidden = !one;
    if (one) {
      list.hide();
      await detail.show();
    } else {
      detail.hide();
      shell.pageTitle = "Datasets";
      await list.show({ q: at.filter.q ?? "", list: at.own.list ?? "" });
    }
  }
  /** Change where the page is. @param {Partial<ReturnType<typeof readQuery>>} changes */
  function go(changes, { push = true } = {}) {
    const before = at;
    const target = address({ ...at, ...changes });
    if (target === location.pathname + location.search) return Promise.resolve();
    history[push ? "pushState" : "replaceState"](null, "", target);
    at = readQuery(location.search);
    if (before.dataset !== at.dataset || before.tab !== at.tab) scrollTo({ top: 0, behavior: "instant" });
    return show();
  }
  addEventListener("popstate", () => {
    at = readQuery(location.search);
    show();
  });
  registerKeys("Datasets", [
    { keys: "n", label: "New dataset", when: () => !at.dataset, run: () => importer.start() },
    { keys: "shift+i", label: "Add pictures", when: () => Boolean(at.dataset), run: () => importer.start() },
    ...["images", "captions", "stats", "clean", "versions"].map((tab, i) => ({
      keys: String(i + 1), label: `Tab ${tab[0].toUpperCase()}${tab.slice(1)}`, when: () => Boolean(at.dataset), run: () => go({ tab, own: {} }),
    })),
  ]);
  await Promise.all([session.characters().catch(() => {}), show()]);
  if (at.own.new) importer.start();
}
