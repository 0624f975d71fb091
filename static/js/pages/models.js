/** Models: every weight there is, with hash, licence, users and problems; what lies in memory; adding, converting, trash. ?item=<id> opens one. */
import { api } from "../api.js";
import { errorState, emptyState, skeleton } from "../components/states.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { bytes, number, plural } from "../format.js";
import { attrs, html, icon } from "../html.js";
import { follow, stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { addPanel } from "./models/add.js";
import { itemDialog } from "./models/detail.js";
import { residentPanel } from "./models/resident.js";
import { COLUMNS } from "./models/rows.js";
import { removeWeights, trashDialog } from "./models/trash.js";
import { familiesOf, filterRows, SHOWS, SORTS, sortRows } from "./models/words.js";

const KEYS = ["q", "kind", "family", "source", "show"];

export async function mount(main) {
  let shelf = null,
    error = null,
    hashing = null,
    turn = 0,
    open = "";
  const want = Object.fromEntries(KEYS.map((key) => [key, url.get(key) ?? ""]));
  let sort = { key: url.get("sort") in SORTS ? url.get("sort") : "size", dir: url.get("dir") === "asc" ? "asc" : "desc" };

  render(
    main,
    html`<div class="ms stack-4"><section class="panel ms-resident" aria-label="In memory"></section>
      <section class="stack-3" aria-label="The shelf"><div class="toolbar ms-tools"><div class="search-box">${icon("search")}<input type="search" aria-label="Search the shelf" placeholder="Name, hash, licence, notes" data-search></div><span class="ms-filters row"></span><span class="spacer"></span><span class="ms-acts row"></span></div>
      <p class="small muted ms-sum" role="status"></p><p class="ms-hashing" hidden></p><div class="ms-state"></div><data-table hidden></data-table></section>
      <section class="panel stack-3" aria-labelledby="ms-add-title"><h2 id="ms-add-title">Add weights</h2><div class="ms-add"></div></section></div>`,
  );
  const $ = (s) => main.querySelector(s);
  const table = $("data-table");
  table.columns = COLUMNS;
  table.label = "Models, LoRAs and parts";
  const search = $("[data-search]");
  search.value = want.q;

  const select = (name, label, options) => html`<select data-filter="${name}" aria-label="${label}">${options.map(([value, text]) => html`<option value="${value}" ${want[name] === value ? html`selected` : ""}>${text}</option>`)}</select>`;
  function paintTools() {
    const rows = shelf?.items ?? [];
    const kinds = Object.entries(shelf?.kinds ?? {}).filter(([key]) => shelf.counts[key]);
    const sources = shelf?.server;
    render(
      $(".ms-filters"),
      html`${select("kind", "Kind", [["", "Every kind"], ...kinds.map(([key, label]) => [key, `${label} (${shelf.counts[key]})`])])}${select("family", "Family", [["", "Every family"], ...familiesOf(rows)])}${sources ? select("source", "Place", [["", "Everywhere"], ["local", "This computer"], ["comfyui", "ComfyUI"]]) : ""}${select("show", "Show", Object.entries(SHOWS))}
      <select class="ms-sort" data-sort-by aria-label="Order">${Object.entries(SORTS).map(([key, label]) => html`<option value="${key}" ${sort.key === key ? html`selected` : ""}>${label}</option>`)}</select>`,
    );
    main.querySelectorAll("[data-filter]").forEach((el) => (el.value = want[el.dataset.filter]));
    render(
      $(".ms-acts"),
      html`<button type="button" class="btn" data-action="shelf-hash" data-needs="write" ${attrs({ disabled: !shelf?.unhashed || Boolean(hashing) })}>${icon("tag")}${shelf?.unhashed ? `Hash all (${shelf.unhashed})` : "All hashed"}</button><button type="button" class="btn" data-action="shelf-trash">${icon("trash")}Trash</button><button type="button" class="btn btn-primary" data-action="shelf-add" data-primary data-needs="write">${icon("upload")}Add</button>`,
    );
  }
  function paint() {
    paintTools();
    const rows = shelf ? sortRows(filterRows(shelf.items, want), sort.key, sort.dir) : [];
    const volumes = (shelf?.volumes ?? []).map((v) => `${bytes(v.freeBytes)} free on the disk of ${v.folders.join(" and ")}`).join(" · ");
    $(".ms-sum").textContent = shelf ? `${rows.length === shelf.total ? plural(shelf.total, "item") : `${number(rows.length)} of ${plural(shelf.total, "item")}`} · ${bytes(shelf.totalBytes)} on this computer · ${volumes}${shelf.server ? "" : " · the ComfyUI server does not answer"}` : "";
    table.hidden = !rows.length;
    table.sort = sort;
    if (rows.length) table.rows = rows;
    render(
      $(".ms-state"),
      error && !shelf
        ? errorState(error, { title: "The shelf could not be loaded", action: "shelf-reload" })
        : !shelf
          ? skeleton("rows", 5)
          : rows.length
            ? ""
            : shelf.total
              ? emptyState({ icon: "search", title: "Nothing fits", text: "No weights fit these filters.", action: { label: "Show all", action: "shelf-clear" }, compact: true })
              : emptyState({ icon: "cube", title: "The shelf is empty", text: "Put weights into the folder models/ or drop a .safetensors file below." }),
    );
  }
  async function load() {
    const mine = (turn += 1);
    try {
      const answer = await api.get("/api/shelf");
      if (mine !== turn) return;
      shelf = answer;
      error = null;
    } catch (problem) {
      if (mine !== turn) return;
      error = problem;
      if (shelf) toast.error(problem);
    }
    paint();
  }
  async function hashAll(el) {
    await busy(el, async () => {
      const slot = $(".ms-hashing");
      try {
        const { taskId } = await api.post("/api/shelf/hash", {});
        hashing = taskId;
        slot.hidden = false;
        const done = await follow(taskId, { onProgress: (t) => render(slot, html`<progress max="1" value="${t.progress ?? 0}" aria-label="Hashing"></progress><small class="muted">${t.message ?? ""}</small>`) });
        toast.success(`${plural(done.result.hashed, "hash", "hashes")} computed`);
      } catch (problem) {
        toast.error(problem);
      }
      hashing = null;
      slot.hidden = true;
    });
    await load();
  }
  async function show(id, { push = true } = {}) {
    if (!id || id === open) return;
    open = id;
    url.set({ item: id }, { push });
    await itemDialog(id, { changed: load, remove: (row) => removeWeights([row], { changed: load }), open: show, pickles: () => Boolean(shelf?.pickleWeights) });
    if (open !== id) return;
    open = "";
    if (url.get("item") !== id) return; // Back closed it
    if (push) history.back();
    else url.set({ item: null });
  }
  function filter(changes) {
    Object.assign(want, changes);
    url.set(Object.fromEntries(KEYS.map((key) => [key, want[key] || null])));
    paint();
  }

  search.addEventListener("input", debounce(() => filter({ q: search.value.trim() }), 120));
  main.addEventListener("change", (event) => {
    const el = event.target;
    if (el.dataset?.filter) filter({ [el.dataset.filter]: el.value });
    else if ("sortBy" in (el.dataset ?? {})) order({ key: el.value, dir: el.value === "name" ? "asc" : "desc" });
  });
  function order(next) {
    sort = next;
    url.set({ sort: sort.key === "size" ? null : sort.key, dir: sort.dir === "desc" ? null : sort.dir });
    paint();
  }
  table.addEventListener("data-table:sort", ({ detail }) => order(detail.key === sort.key ? detail : { key: detail.key, dir: detail.key === "name" ? "asc" : "desc" }));
  table.addEventListener("data-table:open", ({ detail }) => show(detail.row.id));
  onAction(main, {
    "shelf-reload": load,
    "shelf-open": (_e, el) => show(el.dataset.id),
    "shelf-hash": (_e, el) => hashAll(el),
    "shelf-add": () => {
      main.querySelector(".ms-add").scrollIntoView({ block: "center" });
      main.querySelector(".ms-add drop-zone input[type=file]").click();
    },
    "shelf-trash": () => trashDialog({ changed: load, kinds: shelf?.kinds }),
    "shelf-clear": () => {
      search.value = "";
      filter(Object.fromEntries(KEYS.map((key) => [key, ""])));
    },
  });
  addEventListener("popstate", () => {
    const id = url.get("item");
    if (!id) document.querySelector("dialog[open] .ms-detail")?.closest("dialog").close();
    else show(id, { push: false });
  });
  const again = debounce(load, 500);
  for (const name of ["shelf.updated", "lora.updated", "character.updated"]) stream.on(name, again);
  stream.on("snapshot", ({ lost }) => lost && stream.state === "live" && again()); // while it is down, each poll brings one
  registerKeys("Models", [{ keys: "t", label: "Removed weights", run: () => trashDialog({ changed: load, kinds: shelf?.kinds }) }]);

  const resident = residentPanel($(".ms-resident"));
  addPanel($(".ms-add"), { added: load });
  paint();
  resident.load();
  await load();
  if (url.get("item")) show(url.get("item"), { push: false });
}
