/** Content: every post in every state, what is wrong with it and the button that mends it; and the outbox of dry runs. */
import { api } from "../api.js";
import { html } from "../html.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { number, plural } from "../format.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { session } from "../session.js";
import { confirmDialog } from "../components/confirm-dialog.js";
import { actOn } from "../components/post-actions.js";
import { openComposer } from "../components/post-composer.js";
import { openPost } from "../components/post-dialog.js";
import { outboxSection } from "./content/outbox.js";
import { address, countsOf, FILTERS, firstTab, listsOf, merged, readQuery, TABS } from "./content/query.js";
import { bulkBar, listView, toolbar } from "./content/rows.js";

const PAGE = 50;

export async function mount(main) {
  let state = readQuery(location.search);
  let rows = [],
    cursors = [],
    total = 0,
    counts = {},
    error = null,
    loaded = false,
    run = 0,
    newest = Promise.resolve(),
    adding = Promise.resolve(), // what "Load more" asked for
    current = "",
    dialogId = "",
    platforms = [
      { name: "instagram", label: "Instagram" },
      { name: "twitter", label: "X" },
    ];
  const selection = new Set();
  render(
    main,
    html`<div class="ct"><tab-bar class="ct-tabs" aria-label="Posts by state"></tab-bar><div class="toolbar ct-toolbar"></div><div id="ct-list" class="ct-list" role="tabpanel" tabindex="-1"></div><div class="ct-bulk gl-bulk" role="toolbar" aria-label="Selected posts" hidden></div></div>`,
  );
  const $ = (selector) => main.querySelector(selector);
  const tabs = $("tab-bar"),
    list = $(".ct-list");
  const outbox = outboxSection(list, { state: () => state });
  const find = (id) => rows.find((p) => p.id === id);
  const chosen = () => rows.filter((p) => selection.has(p.id));

  // ---------------------------------------------------------------- painting

  function paintTabs() {
    const n = countsOf(counts);
    tabs.tabs = TABS.map((t) => ({ ...t, controls: "ct-list", count: n[t.key] ? number(n[t.key]) : undefined }));
    tabs.value = state.tab;
    list.setAttribute("aria-labelledby", `tab-${state.tab}`);
  }
  const paintToolbar = () => render($(".ct-toolbar"), toolbar(state, platforms));
  function paintList() {
    if (state.tab === "outbox") return outbox.paint();
    return render(list, listView({ state, rows, total, more: cursors.some(Boolean), error, loaded, selection, current }));
  }
  function paintBulk() {
    const bar = $(".ct-bulk");
    bar.hidden = !selection.size || state.tab === "outbox";
    if (!bar.hidden) render(bar, bulkBar(chosen(), rows.length));
  }
  function paint() {
    paintTabs();
    paintToolbar();
    paintList();
    paintBulk();
  }

  // ---------------------------------------------------------------- loading

  /** At least `limit` posts of a list that has so many: an answer holds 200 at most. */
  async function gather(query, limit, cursor) {
    const items = [];
    let page;
    do {
      page = await api.get("/api/posts", { query: { ...query, limit: Math.min(200, limit - items.length), cursor } });
      items.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor && items.length < limit);
    return { ...page, items };
  }
  /** The newest list is the one that counts: whoever asked for an older one waits for it, too. */
  const load = (wanted) => (newest = loadList(wanted));
  async function loadList({ append = false, limit = PAGE } = {}) {
    if (state.tab === "outbox") return Promise.all([outbox.load(), loadCounts()]);
    const mine = (run += 1);
    try {
      const asked = listsOf(state);
      const answers = await Promise.all(
        asked.map((query, i) => (append && !cursors[i] ? null : gather(query, limit, append ? cursors[i] : null))),
      );
      if (mine !== run) return newest;
      cursors = answers.map((a) => a?.nextCursor ?? null);
      const fresh = merged(answers.map((a) => a?.items ?? []));
      const known = new Set(append ? rows.map((p) => p.id) : []);
      const before = rows;
      rows = [...(append ? rows : []), ...fresh.filter((p) => !known.has(p.id))];
      if (current && !find(current)) current = heir(before);
      if (!append) total = answers.reduce((n, a) => n + (a?.total ?? 0), 0);
      counts = answers.find(Boolean)?.counts ?? counts;
      for (const id of [...selection]) if (!find(id)) selection.delete(id);
      error = null;
      loaded = true;
    } catch (problem) {
      if (mine !== run) return newest;
      error = problem;
      if (rows.length) toast.error(problem);
    }
    const held = list.contains(document.activeElement);
    paint();
    if (held && !append) keepFocus();
    return undefined;
  }
  /** The row or button with the focus is gone: the current row gets it, so that the keys go on there. */
  const keepFocus = () => document.activeElement === document.body && focusRow(current);
  async function loadCounts() {
    try {
      ({ counts } = await api.get("/api/posts", { query: { limit: 1, characterId: state.characterId } }));
      paintTabs();
    } catch {
      /* the numbers stay as they are */
    }
  }
  const again = debounce(() => adding.then(() => load({ limit: Math.max(PAGE, rows.length) })), 300);
  stream.on("post.updated", again);
  stream.on("snapshot", ({ lost }) => lost && again());

  function go(changes, { push = true } = {}) {
    const next = { ...state, ...changes };
    for (const name of FILTERS) if (!next[name]) delete next[name];
    if (address(next) === address(state)) return;
    const fresh = next.tab !== state.tab;
    state = next;
    history[push ? "pushState" : "replaceState"](null, "", address(state));
    if (fresh) {
      rows = [];
      loaded = false;
      current = "";
    }
    selection.clear();
    paint();
    load();
  }

  // ---------------------------------------------------------------- one post

  /** Details in the address, so that Back closes them and a link opens them. */
  async function open(id, { push = true } = {}) {
    if (dialogId === id) return;
    current = id;
    dialogId = id;
    if (push) history.pushState(null, "", `${address(state)}${address(state).includes("?") ? "&" : "?"}post=${encodeURIComponent(id)}`);
    await openPost(id, { onChange: again });
    dialogId = "";
    if (url.get("post") === id) history.replaceState(null, "", address(state));
    paintList();
    focusRow(find(id) ? id : current);
  }
  async function compose(options = {}) {
    url.set({ compose: options.postId ? null : "1" });
    const posts = await openComposer(options);
    url.set({ compose: null });
    if (posts) again();
  }
  /** The row in the place of the current one, which is gone: the nearest below it, else above. */
  function heir(before) {
    const at = before.findIndex((p) => p.id === current);
    return [...before.slice(at + 1), ...before.slice(0, Math.max(0, at)).reverse()].find((p) => find(p.id))?.id ?? "";
  }
  const acting = new Set(); // posts that something is being done to: a key pressed again waits for the answer
  async function act(id, what, button) {
    const post = find(id);
    if (!post || acting.has(id)) return;
    current = id;
    if (what === "edit") {
      await compose({ postId: id });
      return;
    }
    acting.add(id);
    try {
      const work = () => actOn(post, what);
      const done = button ? await busy(button, work) : await work();
      if (!done) return;
      if (what === "duplicate" && done.id) {
        await load();
        await compose({ postId: done.id });
        return;
      }
      await load({ limit: Math.max(PAGE, rows.length) });
      keepFocus();
    } finally {
      acting.delete(id);
    }
  }
  function focusRow(id) {
    if (!id) return;
    current = id;
    list.querySelector(`.ct-row[data-id="${CSS.escape(id)}"] [data-focus-row]`)?.focus();
  }
  const step = (by) => {
    const at = rows.findIndex((p) => p.id === current);
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by))];
    if (!next) return;
    focusRow(next.id);
    paintList();
  };

  // ---------------------------------------------------------------- several

  async function bulk(what, button) {
    const targets = chosen().filter((p) => (p.actions ?? []).includes(what));
    if (!targets.length) return;
    const n = plural(targets.length, "post");
    const live = targets.filter((p) => !p.dryRun);
    const questions = {
      delete: { title: `Delete ${n}?`, consequences: ["The pictures stay in the gallery.", "This cannot be undone."], confirmLabel: `Delete ${targets.length}` },
      cancel: { title: `Cancel ${n}?`, consequences: ["They are not sent. They can be planned again later."], confirmLabel: `Cancel ${targets.length}`, cancelLabel: "Keep them" },
      schedule: {
        title: `Schedule ${n}?`,
        body: "Each one takes the next free slot of its account, in this order.",
        consequences: live.length ? [`${plural(live.length, "post")} will really be posted at that time.`] : ["All of them are dry runs: nothing leaves this machine."],
        confirmLabel: `Schedule ${targets.length}`,
        danger: false,
      },
    };
    if (questions[what] && !(await confirmDialog(questions[what]))) return;
    await busy(button, async () => {
      try {
        const body = { ids: targets.map((p) => p.id), action: what };
        const { succeeded, failed } = await api.post("/api/posts/bulk", body);
        const said = { approve: "approved", cancel: "cancelled", delete: "deleted", schedule: "scheduled" }[what];
        if (succeeded.length) toast.success(`${plural(succeeded.length, "post")} ${said}`);
        if (failed.length) toast.error(`${plural(failed.length, "post")} could not be ${said}.`, { detail: failed[0].detail });
        selection.clear();
        await load({ limit: Math.max(PAGE, rows.length) });
      } catch (problem) {
        toast.error(problem);
      }
    });
  }

  // ---------------------------------------------------------------- wiring

  onAction(main, {
    retry: () => load(),
    clear: () => {
      if (state.characterId && state.characterId === session.characterId) session.choose("");
      go(Object.fromEntries(FILTERS.map((name) => [name, ""])));
    },
    unfilter: (_e, el) => go({ [el.dataset.name]: "" }),
    new: () => compose({ characterId: state.characterId, platform: state.platform }),
    more: (_e, el) => busy(el, () => (adding = load({ append: true }))),
    open: (_e, el) => open(el.dataset.id),
    fix: (_e, el) => act(el.dataset.id, el.dataset.fix, el),
    bulk: (_e, el) => bulk(el.dataset.what, el),
    "select-all": () => {
      rows.forEach((p) => selection.add(p.id));
      paint();
    },
    "clear-selection": () => {
      selection.clear();
      paint();
    },
    ...outbox.handlers,
  });
  let anchor = "";
  let shift = false;
  main.addEventListener("click", (event) => {
    shift = event.shiftKey;
  }, true);
  main.addEventListener("change", (event) => {
    const el = event.target;
    if (el.dataset.filter) {
      if (el.dataset.filter === "characterId" && session.characterId) session.choose(el.value);
      go({ [el.dataset.filter]: el.value });
    } else if (el.dataset.select) {
      const id = el.dataset.select;
      const ids = rows.map((p) => p.id);
      const [a, b] = [ids.indexOf(anchor), ids.indexOf(id)].sort((x, y) => x - y);
      const range = shift && a >= 0 ? ids.slice(a, b + 1) : [id];
      range.forEach((one) => selection[el.checked ? "add" : "delete"](one));
      anchor = id;
      current = id;
      paintList();
      paintBulk();
    }
  });
  list.addEventListener("focusin", (event) => {
    const row = event.target.closest(".ct-row");
    if (row) current = row.dataset.id;
  });
  tabs.addEventListener("tab-bar:change", ({ detail }) => go({ tab: detail.key, postId: "" }));
  document.addEventListener("session:characters", paint);
  document.addEventListener("session:character", ({ detail }) => go({ characterId: detail.id }));
  addEventListener("popstate", () => {
    const next = readQuery(location.search);
    next.tab ||= firstTab(counts);
    if (address(next) !== address(state)) {
      state = next;
      rows = [];
      loaded = false;
      selection.clear();
      paint();
      load();
    }
    const id = url.get("post");
    if (id) open(id, { push: false });
    else document.querySelector("dialog.post-dialog[open]")?.close();
  });
  const here = () => state.tab !== "outbox" && rows.length > 0;
  const can = (name) => () => here() && (find(current)?.actions ?? []).includes(name);
  registerKeys("Content", [
    { keys: "n", label: "New post", run: () => compose({ characterId: state.characterId }) },
    { keys: "j", label: "Next post", when: here, run: () => step(1) },
    { keys: "k", label: "Previous post", when: here, run: () => step(-1) },
    { keys: "a", label: "Approve", when: can("approve"), run: () => act(current, "approve") },
    { keys: "e", label: "Edit", when: can("edit"), run: () => act(current, "edit") },
    { keys: "x", label: "Reject or cancel", when: can("cancel"), run: () => act(current, "cancel") },
    { keys: "enter", label: "Details" },
    { keys: "Escape", label: "Clear the selection", when: () => selection.size > 0, run: () => { selection.clear(); paint(); } },
  ]);

  if (!location.search && session.characterId) state = { ...state, characterId: session.characterId };
  const asked = url.all();
  await Promise.all([session.characters().catch(() => []), state.tab ? null : loadCounts()]);
  state.tab ||= firstTab(counts);
  history.replaceState(null, "", `${address(state)}${asked.post ? `${address(state).includes("?") ? "&" : "?"}post=${encodeURIComponent(asked.post)}` : ""}`);
  paint();
  api
    .get("/api/platforms")
    .then((answer) => {
      platforms = answer.platforms ?? platforms;
      paintToolbar();
    })
    .catch(() => {});
  await load();
  if (asked.post) open(asked.post, { push: false });
  else if (asked.compose) compose({ mediaIds: asked.mediaIds ? asked.mediaIds.split(",") : [], characterId: state.characterId, scheduledAt: asked.at });
}
