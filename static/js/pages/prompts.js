/**
 * Prompts: the library. Words and captions are edited where they stand; filters live in the address
 * (characterId, used=false|true, q, sort; id= shows one prompt; new=1, ideas=1, wildcards=1 open a dialog).
 */
import { api, isAbort } from "../api.js";
import { confirmDialog } from "../components/confirm-dialog.js";
import { copyText, emptyState, errorState, skeleton } from "../components/states.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { number, plural } from "../format.js";
import { attrs, html, icon } from "../html.js";
import { cancel, retry, stream, tasks } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { isFinished, taskId } from "../tasks.js";
import { chooseCharacter, ideasDialog, newPrompt, olderCaptions } from "./prompts/dialogs.js";
import { editInPlace, mark } from "./prompts/editing.js";
import { importPrompts } from "./prompts/importer.js";
import { PAGE, piece } from "./prompts/piece.js";
import { bulkBar, promptRow } from "./prompts/rows.js";
import { previewDialog, wildcardsDialog } from "./prompts/wildcards.js";
import { captionWish } from "./prompts/wish.js";

const KIND = "caption_prompts";
const BULK = 1000;
const path = (id) => `/api/prompts/${encodeURIComponent(id)}`;

export async function mount(main) {
  const root = document.createElement("div");
  root.className = "pr";
  main.append(root);
  let rows = null,
    total = 0,
    error = null,
    turn = 0,
    more = Promise.resolve(), // what "Load more" asked for
    adding = 0;
  const selection = new Set(),
    writing = new Set(),
    errors = new Map(); // id -> {prompt?, caption?}
  let anchor = null;
  render(
    root,
    html`<div class="toolbar" role="search" aria-label="Filter the prompts" id="pr-filters"></div><div class="toolbar pr-tools"><span class="muted" role="status" id="pr-total"></span><span class="spacer"></span><button type="button" class="btn btn-small" id="pr-wish-button" popovertarget="pr-wish" aria-haspopup="dialog"></button><div id="pr-wish" popover class="popover panel-pop" role="dialog" aria-label="How captions are written" data-align="end"></div></div>
    <div id="pr-jobs" class="stack-2"></div><div id="pr-list"></div><div id="pr-more"></div><div id="pr-bulk" class="pr-bulk" role="region" aria-label="Selected prompts" hidden></div>`,
  );
  const $ = (selector) => root.querySelector(selector);
  const listBox = $("#pr-list");
  const wish = captionWish($("#pr-wish"), $("#pr-wish-button"));
  const filter = () => ({
    characterId: url.get("characterId") ?? session.characterId,
    used: url.get("used") ?? "",
    q: url.get("q") ?? "",
    sort: url.get("sort") === "oldest" ? "oldest" : "newest",
    id: url.get("id") ?? "",
  });
  const find = (id) => rows?.find((p) => p.id === id);

  // ------------------------------------------------------------ drawing
  function paintFilters() {
    const f = filter();
    const option = (value, label, now) => html`<option ${attrs({ value, selected: value === now })}>${label}</option>`;
    const chip = (value, label) =>
      html`<button type="button" data-action="used" data-value="${value}" aria-pressed="${String(f.used === value)}">${label}</button>`;
    render(
      $("#pr-filters"),
      html`<div class="search-box">${icon("search")}<input type="search" data-search aria-label="Search prompts and captions" placeholder="Search prompts" value="${f.q}" autocomplete="off"></div>
      <select aria-label="Character" data-filter="characterId">${option("", "All characters", f.characterId)}${session.known.map((c) => option(c.id, c.name, f.characterId))}</select>
      <div class="segmented" role="group" aria-label="Use">${chip("", "All")}${chip("false", "Unused")}${chip("true", "Used")}</div>
      <select aria-label="Order" data-filter="sort">${option("newest", "Newest first", f.sort)}${option("oldest", "Oldest first", f.sort)}</select>
      <span class="spacer"></span>
      <button type="button" class="btn" popovertarget="pr-file-menu" aria-haspopup="menu" aria-label="Import, export and wildcards">${icon("more")}<span>More</span></button>
      <div id="pr-file-menu" popover class="popover menu" role="menu" aria-label="More" data-align="end"><button type="button" role="menuitem" data-action="import">${icon("upload")}<span>Import CSV or JSON</span></button>${["csv", "json"].map((format) => html`<a role="menuitem" href="/api/prompts/export?${new URLSearchParams({ format, ...(f.characterId ? { characterId: f.characterId } : {}) })}" download="prompts.${format}">${icon("download")}<span>Export ${format.toUpperCase()}${f.characterId && " of this character"}</span></a>`)}<hr><button type="button" role="menuitem" data-action="wildcards">${icon("dice")}<span>Wildcards</span></button></div>
      <button type="button" class="btn" data-action="ideas" data-needs="write" title="Ideas (i)">${icon("bolt")}<span>Ideas</span></button>
      <button type="button" class="btn btn-primary" data-action="new" data-needs="write" title="New (n)">${icon("plus")}<span>New prompt</span></button>`,
    );
    root.querySelectorAll("[data-filter]").forEach((el) => {
      if (el !== document.activeElement) el.value = f[el.dataset.filter];
    });
  }

  function empty() {
    const f = filter();
    const who = session.find(f.characterId) ?? (session.known.length === 1 ? session.known[0] : null);
    if (f.q || f.used)
      return emptyState({
        icon: "search",
        title: "Nothing fits",
        text: "No prompt fits these words and filters.",
        action: { label: "Clear filters", action: "clear" },
      });
    return html`<div class="empty-state"><span class="empty-icon">${icon("book")}</span><h3>No prompts${who ? ` for ${who.name}` : ""} yet</h3><p>Write one, or ask for 10 ideas${who ? ` for ${who.name}` : ""}. Scheduled tasks take theirs from here.</p><div class="row"><button type="button" class="btn btn-primary" data-action="new" data-needs="write">${icon("plus")}Write one</button>${session.known.length > 0 ? html`<button type="button" class="btn" data-action="ten" data-needs="write">${icon("bolt")}10 ideas${who ? ` for ${who.name}` : ""}</button>` : html`<a class="btn" href="/characters.html?new=1">${icon("characters")}Create a character</a>`}</div></div>`;
  }

  function paint() {
    paintFilters();
    const f = filter();
    $("#pr-total").textContent = rows ? `${plural(total, "prompt")}${f.id ? " shown" : ""}` : "";
    const view = (p) => ({ selected: selection.has(p.id), busy: writing.has(p.id), errors: errors.get(p.id) });
    render(
      listBox,
      error && !rows
        ? errorState(error, { title: "The prompts could not be loaded" })
        : !rows
          ? skeleton("rows", 8)
          : !rows.length
            ? f.id
              ? emptyState({
                  icon: "book",
                  title: "This prompt is not here",
                  text: "It may have been deleted.",
                  action: { label: "All prompts", action: "clear" },
                })
              : empty()
            : html`${f.id && html`<p class="row"><span class="muted">One prompt.</span><button type="button" class="btn btn-small" data-action="clear">${icon("arrow-left")}All prompts</button></p>`}<div class="pr-heads" aria-hidden="true"><span></span><span>Prompt</span><span>Caption</span><span>Used</span><span></span></div><ul class="pr-list" aria-label="Prompts">${rows.map((p) => promptRow(p, view(p)))}</ul>`,
    );
    // typed values are properties: what is not being edited shows what is stored
    listBox.querySelectorAll("[data-select]").forEach((el) => {
      el.checked = selection.has(el.dataset.select);
    });
    listBox.querySelectorAll("textarea[data-edit]").forEach(mark);
    render(
      $("#pr-more"),
      rows && !f.id && rows.length < total
        ? html`<p class="row pr-more"><button type="button" class="btn" data-action="more">Load more</button><span class="small muted">${number(rows.length)} of ${plural(total, "prompt")}</span></p>`
        : html``,
    );
    const bulk = $("#pr-bulk");
    bulk.hidden = !selection.size;
    main.classList.toggle("has-bulk", selection.size > 0);
    render(bulk, selection.size ? bulkBar({ ids: [...selection], total }) : html``);
  }

  function paintJobs() {
    const active = tasks.active().filter((t) => t.kind === KIND);
    render(
      $("#pr-jobs"),
      html`${active.map((t) => html`<div class="card pr-job" data-key="${taskId(t)}"><job-progress></job-progress></div>`)}`,
    );
    active.forEach((t) => {
      $(`#pr-jobs [data-key="${CSS.escape(taskId(t))}"] job-progress`).task = t;
    });
  }

  // ------------------------------------------------------------ loading
  const query = () => {
    const { characterId, used, q } = filter();
    return { characterId, used, q };
  };
  async function get(offset, limit) {
    const { data, headers } = await api.get("/api/prompts", { query: { ...query(), limit, offset }, full: true });
    return { items: data, total: Number(headers.get("X-Total-Count") ?? data.length) };
  }
  /** @param {{keep?: number, append?: boolean}} [options] keep: at least so many rows, as before */
  async function load({ keep = PAGE, append = false } = {}) {
    const mine = (turn += 1);
    const { sort, id } = filter();
    try {
      let items,
        sum = 1;
      if (id)
        items = await api.get(path(id)).then(
          (one) => [one],
          (problem) => {
            if (problem.status !== 404) throw problem;
            sum = 0;
            return [];
          },
        );
      else {
        const have = append ? (rows?.length ?? 0) : 0;
        sum = append ? total : (await get(0, 1)).total;
        const next = piece(sort, sum, have, append ? PAGE : Math.max(PAGE, keep));
        items = next.limit ? (await get(next.offset, next.limit)).items : [];
        if (sort === "newest") items.reverse();
      }
      if (mine !== turn) return;
      const known = new Set(append ? rows.map((p) => p.id) : []);
      rows = [...(append ? rows : []), ...items.filter((p) => !known.has(p.id))];
      total = append && !items.length ? rows.length : sum;
      error = null;
      if (!append) [...selection].forEach((one) => find(one) || rows.length < total || selection.delete(one));
    } catch (problem) {
      if (mine !== turn || isAbort(problem)) return;
      error = problem;
      if (rows) toast.error(problem);
    }
    paint();
  }
  const again = () => {
    rows = null;
    selection.clear();
    errors.clear();
    paint();
    return load();
  };
  function take(prompt) {
    const at = rows?.findIndex((p) => p.id === prompt.id) ?? -1;
    if (at < 0) return false;
    rows[at] = { ...rows[at], ...prompt };
    return true;
  }
  function added(list) {
    const f = filter();
    const fresh = list.filter((p) => !take(p) && (!f.characterId || p.characterId === f.characterId) && f.used !== "true" && !f.id);
    if (rows && !f.q && f.sort === "newest") {
      rows = [...fresh.toReversed(), ...rows];
      total += fresh.length;
    } else if (fresh.length) soon();
    paint();
  }
  const soon = debounce(() => more.then(() => load({ keep: rows?.length ?? PAGE })), 300);

  const editing = editInPlace(listBox, {
    find,
    take,
    refuse: (id, field, message) => errors.set(id, { ...errors.get(id), [field]: message }),
    paint,
  });
  async function writeCaption(id) {
    if (writing.has(id)) return;
    await editing.settled(); // what was just typed is what the caption is about
    writing.add(id);
    paint();
    try {
      const answer = await api.post(`${path(id)}/caption`, wish.body());
      writing.delete(id);
      const { generated, ...prompt } = answer;
      take(prompt);
      const note = generated?.failure ? [generated.failure.detail, generated.failure.remedy].filter(Boolean).join(" ") : "";
      if (note) toast.info("The caption was composed offline", { detail: note });
    } catch (problem) {
      writing.delete(id);
      toast.error(problem);
    }
    paint();
  }
  async function remove(prompt) {
    try {
      const answer = await api.delete(path(prompt.id));
      gone([prompt.id]);
      const record = answer?.prompt ?? prompt;
      toast.success("The prompt was deleted", {
        detail: prompt.prompt.slice(0, 80),
        undo: () => restore([record]),
      });
      return true;
    } catch (problem) {
      toast.error(problem);
      return false;
    }
  }
  function gone(ids) {
    const set = new Set(ids);
    const before = rows?.length ?? 0;
    rows = rows?.filter((p) => !set.has(p.id)) ?? null;
    total -= before - (rows?.length ?? 0);
    ids.forEach((id) => selection.delete(id));
    if (rows && !rows.length && total > 0) load();
    paint();
  }
  async function restore(records) {
    try {
      await api.post("/api/prompts/restore", records.length === 1 ? { prompt: records[0] } : { prompts: records });
      await load({ keep: rows?.length ?? PAGE });
    } catch (problem) {
      toast.error(problem);
    }
  }

  // ------------------------------------------------------------ many at once
  const settle = (answer, done) => {
    if (answer.failed?.length)
      toast.error(`${plural(answer.failed.length, "prompt")} could not be changed.`, { detail: answer.failed[0].detail });
    if (answer.succeeded?.length) done(answer.succeeded);
  };
  async function bulk(action, more = {}) {
    const ids = [...selection];
    const answer = { succeeded: [], failed: [], deleted: [] };
    for (let at = 0; at < ids.length; at += BULK) {
      const part = await api.post("/api/prompts/bulk", { ids: ids.slice(at, at + BULK), action, ...more });
      answer.taskId ??= part.taskId;
      for (const key of ["succeeded", "failed", "deleted"]) answer[key].push(...(part[key] ?? []));
    }
    return answer;
  }
  function selectTo(id, on, range) {
    const ids = rows.map((p) => p.id);
    const [from, to] = range && ids.includes(anchor) ? [ids.indexOf(anchor), ids.indexOf(id)].sort((a, b) => a - b) : [ids.indexOf(id), ids.indexOf(id)];
    for (const one of ids.slice(Math.max(0, from), to + 1)) selection[on ? "add" : "delete"](one);
    anchor = id;
    paint();
  }
  async function selectAll() {
    for (let offset = 0; offset < total;) {
      const { items } = await get(offset, 500);
      if (!items.length) break;
      items.forEach((p) => selection.add(p.id));
      offset += items.length;
    }
    paint();
  }

  // ------------------------------------------------------------ dialogs
  let open = false;
  async function dialogue(name, work) {
    if (open) return;
    open = true;
    url.set({ [name]: 1 });
    try {
      await work();
    } finally {
      open = false;
      url.set({ [name]: null });
    }
  }
  const ownerId = () => filter().characterId || (session.known.length === 1 ? session.known[0].id : "");
  const create = () => dialogue("new", () => newPrompt({ characterId: ownerId(), wish: wish.body, made: (prompt) => added([prompt]) }));
  const ideas = (begin = false) =>
    dialogue("ideas", () => {
      adding += 1;
      return ideasDialog({ characterId: ownerId(), engine: wish.engine, begin, made: added, removed: remove }).finally(() => {
        adding -= 1;
      });
    });
  const wildcards = (sample) => dialogue("wildcards", () => wildcardsDialog({ sample })).then(() => soon());
  const bringIn = (file = null) =>
    dialogue("import", async () => {
      if (await importPrompts({ characterId: filter().characterId, file })) await again();
    });

  // ------------------------------------------------------------ what people do
  const search = debounce((q) => {
    url.set({ q, id: null });
    load();
  }, 250);
  root.addEventListener("input", (event) => {
    if (event.target.matches("[data-search]")) search(event.target.value);
  });
  root.addEventListener("change", (event) => {
    const { filter: name } = event.target.dataset;
    if (!name) return;
    if (name === "characterId") {
      url.set({ characterId: event.target.value || null, id: null });
      session.choose(event.target.value);
    } else url.set({ [name]: event.target.value === "newest" ? null : event.target.value });
    again();
  });
  root.addEventListener("click", (event) => {
    const box = event.target.closest("[data-select]");
    if (box) selectTo(box.dataset.select, box.checked, event.shiftKey);
  });
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files") && !document.querySelector("dialog[open]");
  root.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    root.classList.add("is-over");
  });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(event.relatedTarget)) root.classList.remove("is-over");
  });
  root.addEventListener("drop", (event) => {
    root.classList.remove("is-over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    bringIn(event.dataTransfer.files[0]);
  });
  onAction(root, {
    retry: () => {
      error = null;
      again();
    },
    new: create,
    ideas: () => ideas(),
    ten: () => ideas(Boolean(ownerId())),
    import: () => bringIn(),
    wildcards: () => wildcards(""),
    used: (_e, el) => {
      url.set({ used: el.dataset.value, id: null });
      again();
    },
    clear: () => {
      url.set({ q: null, used: null, id: null });
      const box = root.querySelector("[data-search]");
      if (box) box.value = "";
      again();
    },
    more: (_e, el) => busy(el, () => (more = load({ append: true }))),
    caption: (_e, el) => writeCaption(el.dataset.id),
    preview: (_e, el) => previewDialog(find(el.dataset.id)),
    older: async (_e, el) => {
      const prompt = find(el.dataset.id);
      const caption = await olderCaptions(prompt);
      if (caption === null) return;
      try {
        take(await api.put(path(prompt.id), { caption }));
        paint();
        toast.success("The earlier caption is back");
      } catch (problem) {
        toast.error(problem);
      }
    },
    copy: (_e, el) => copyText(find(el.dataset.id).prompt, "Prompt copied"),
    "copy-caption": (_e, el) => copyText(find(el.dataset.id).caption, "Caption copied"),
    mark: async (_e, el) => {
      const prompt = find(el.dataset.id);
      try {
        take(await api.put(path(prompt.id), { used: !prompt.used }));
        paint();
      } catch (problem) {
        toast.error(problem);
      }
    },
    move: async (_e, el) => {
      const prompt = find(el.dataset.id);
      const characterId = await chooseCharacter(prompt);
      if (characterId === undefined || characterId === (prompt.characterId ?? null)) return;
      try {
        const changed = await api.put(path(prompt.id), { characterId });
        const f = filter();
        if (f.characterId && changed.characterId !== f.characterId) gone([prompt.id]);
        else take(changed);
        paint();
        toast.success(`It belongs to ${session.find(characterId)?.name ?? "any character"} now`);
      } catch (problem) {
        toast.error(problem);
      }
    },
    remove: (_e, el) => remove(find(el.dataset.id)),
    "select-none": () => {
      selection.clear();
      paint();
    },
    "select-all": (_e, el) => busy(el, () => selectAll().catch(toast.error)),
    "bulk-caption": (_e, el) =>
      busy(el, async () => {
        const has = [...selection].filter((id) => find(id)?.caption).length;
        if (
          has &&
          !(await confirmDialog({
            title: `Write ${plural(selection.size, "caption")}?`,
            consequences: [
              `${plural(has, "of the shown prompts has a caption", "of the shown prompts have a caption")} already.`,
              "The present ones are kept as earlier captions.",
            ],
            confirmLabel: `Write ${number(selection.size)}`,
            danger: false,
          }))
        )
          return;
        try {
          const answer = await bulk("caption", wish.body());
          if (answer.taskId && !tasks.get(answer.taskId)) // else it has been heard of already, and may be done
            tasks.update({
              taskId: answer.taskId,
              kind: KIND,
              title: plural(selection.size, "caption"),
              status: "queued",
              done: 0,
              total: selection.size,
            });
          selection.clear();
          paintJobs();
          paint();
        } catch (problem) {
          toast.error(problem);
        }
      }),
    "bulk-mark": async (_e, el) => {
      try {
        settle(await bulk(el.dataset.mark), (ids) => {
          ids.forEach((id) => take({ id, used: el.dataset.mark === "mark_used" }));
          selection.clear();
          toast.success(`${plural(ids.length, "prompt")} marked`);
          load({ keep: rows.length });
        });
      } catch (problem) {
        toast.error(problem);
      }
    },
    "bulk-delete": (_e, el) =>
      busy(el, async () => {
        const known = [...selection].map(find).filter(Boolean);
        try {
          settle(await bulk("delete").then((answer) => ({ ...answer, deleted: answer.deleted.length ? answer.deleted : known })), (ids) => {
            const records = known.filter((p) => ids.includes(p.id));
            gone(ids);
            load({ keep: rows?.length ?? PAGE });
            toast.success(`${plural(ids.length, "prompt")} deleted`, { undo: () => restore(records) });
          });
        } catch (problem) {
          toast.error(problem);
        }
      }),
  });

  // ------------------------------------------------------------ live
  // one look at the list: asking for each would ask for deleted ones too
  stream.on("prompt.updated", () => rows && !adding && soon());
  stream.on("state", (live) => live === "live" && !rows && soon()); // the app is back after the first load had failed
  const told = new Set();
  stream.on("task.updated", (t) => {
    if (t.kind !== KIND) return;
    paintJobs();
    if (!isFinished(t) || told.has(taskId(t))) return;
    told.add(taskId(t));
    soon();
    const written = t.result?.written ?? t.done;
    if (t.status === "completed") {
      const failed = t.itemsFailed?.length ?? 0;
      if (failed) toast.error(`${plural(written, "caption")} written, ${number(failed)} failed`, { detail: t.itemsFailed[0].detail });
      else
        toast.success(`${plural(written, "caption")} written`, {
          detail: t.result?.failure ? `Composed offline: ${t.result.failure.detail}` : "",
        });
    }
  });
  stream.on("snapshot", ({ lost }) => {
    paintJobs();
    if (lost && rows && !adding) soon();
  });
  root.addEventListener("task:cancel", (event) => {
    event.stopPropagation();
    cancel(event.detail.id).catch(toast.error);
  });
  root.addEventListener("task:retry", (event) => {
    event.stopPropagation();
    retry(event.detail.id).catch(toast.error);
  });
  document.addEventListener("session:character", ({ detail }) => {
    if ((url.get("characterId") ?? "") === detail.id && rows) return;
    url.set({ characterId: detail.id || null, id: null });
    again();
  });
  document.addEventListener("session:characters", () => rows && paint());
  addEventListener("popstate", again);
  registerKeys("Prompts", [
    { keys: "n", label: "New prompt", run: create },
    { keys: "i", label: "Ideas", run: () => ideas() },
    {
      keys: "Escape",
      label: "Clear the selection",
      when: () => selection.size > 0 && !document.querySelector(":popover-open:not(toast-stack), dialog[open]"),
      run: () => {
        selection.clear();
        paint();
      },
    },
    { keys: "Enter", label: "Save the field (Shift+Enter: new line, Esc: as it was)" },
  ]);

  paint();
  paintJobs();
  await Promise.all([session.characters().catch(() => {}), load()]);
  paint();
  if (url.get("new")) create();
  else if (url.get("ideas")) ideas();
  else if (url.get("wildcards")) wildcards("");
}
