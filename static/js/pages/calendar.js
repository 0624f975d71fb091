/** Calendar: every planned and published post beside what the rules will make; move by dragging or by "Move…". */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { dateTime } from "../format.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { prefs } from "../prefs.js";
import { session } from "../session.js";
import { addDays, browserZone, dayOf, isZone, timeOf } from "../zones.js";
import { confirmDialog, openDialog } from "../components/confirm-dialog.js";
import { actOn, moveTo } from "../components/post-actions.js";
import { openComposer } from "../components/post-composer.js";
import { openPost } from "../components/post-dialog.js";
import { platformIcon, platformLabel } from "../components/post-state.js";
import { errorState, skeleton } from "../components/states.js";
import { address, daysOf, dropOf, keyOf, rangeOf, readQuery, slotAt, turn } from "./calendar/plan.js";
import { body, head } from "./calendar/view.js";
import { needs } from "./schedule/words.js";

export async function mount(main) {
  const phone = matchMedia("(max-width: 719px)");
  const here = browserZone();
  const firstView = () => (phone.matches ? "list" : prefs.get("calendarView", "month"));
  let today = dayOf(Date.now(), here);
  let state = readQuery(location.search, { view: firstView(), today });
  let items = [],
    error = null,
    loaded = false,
    run = 0,
    focus = "",
    openId = "",
    dragged = null,
    held = false, // the pointer is down on an entry that may become a drag
    waiting = false; // something changed while an entry was held or dragged
  render(
    main,
    html`<div class="cal"><div class="cal-top"></div><p class="cal-notes" role="status" hidden></p><div class="cal-body" tabindex="-1"></div><p class="visually-hidden" role="status" id="cal-said"></p></div>`,
  );
  const $ = (selector) => main.querySelector(selector);
  const root = $(".cal-body");
  const zone = () => state.zone || (isZone(session.find(state.characterId)?.timezone) ? session.find(state.characterId).timezone : here);
  const zones = () => [...new Set([zone(), here, ...session.known.map((c) => c.timezone).filter(isZone), "UTC"])];
  const find = (key) => items.find((item) => keyOf(item) === key);

  // ---------------------------------------------------------------- painting

  function viewOf() {
    const now = Date.now();
    today = dayOf(now, zone());
    const cells = cellIds();
    if (!cells.includes(focus)) focus = cells.find((id) => id.split("T")[0].split("|").at(-1) === today) ?? cells[0] ?? "";
    if (state.view === "week" || state.view === "day") {
      const hour = Number(timeOf(now, zone()).slice(0, 2));
      if (!focus.includes("T")) focus = `${state.view === "day" ? state.date : focus || today}T${hour}`;
    }
    return { ...state, zone: zone(), items, now, today, focus, characters: session.known.filter((c) => !state.characterId || c.id === state.characterId) };
  }
  function cellIds() {
    const days = daysOf(state.view, state.date);
    if (state.view === "week" || state.view === "day") return days.flatMap((d) => Array.from({ length: 24 }, (_, h) => `${d}T${h}`));
    if (state.view === "lanes") return session.known.flatMap((c) => days.map((d) => `${c.id}|${d}`));
    return days;
  }
  let scrolled = "";
  function paint() {
    if (dragged || held) {
      waiting = true; // a picture that changes under the pointer ends the drag
      return;
    }
    render($(".cal-top"), head({ state, zone: zone(), zones: zones(), characters: session.known }));
    if (error && !items.length) {
      render(root, errorState(error, { title: "The calendar could not be loaded" }));
      return;
    }
    if (!loaded) {
      render(root, skeleton(state.view === "list" ? "rows" : "cards", 8));
      return;
    }
    root.classList.toggle("is-stale", Boolean(error));
    render(root, body(viewOf()));
    if ((state.view === "week" || state.view === "day") && scrolled !== state.view) {
      const rows = root.querySelectorAll("[data-hour-row]");
      const hours = items.map((i) => Number(timeOf(i.at, zone()).slice(0, 2)));
      const first = Math.max(0, Math.min(8, ...hours, Number(timeOf(Date.now(), zone()).slice(0, 2))) - 1);
      const box = root.querySelector(".cal-hours");
      if (rows[first] && box) box.scrollTop = rows[first].offsetTop - rows[0].offsetTop;
      const column = box?.querySelector(".cal-days .is-today");
      if (column && box.scrollWidth > box.clientWidth) box.scrollLeft = column.offsetLeft - column.offsetWidth;
    }
    scrolled = state.view;
  }
  const say = (text) => {
    $("#cal-said").textContent = text;
  };

  // ---------------------------------------------------------------- loading

  async function load() {
    const mine = (run += 1);
    try {
      const { from, to } = rangeOf(daysOf(state.view, state.date), zone());
      const answer = await api.get("/api/calendar", { query: { from, to, characterId: state.characterId, zone: zone() } });
      if (mine !== run) return;
      items = answer.items ?? [];
      error = null;
      loaded = true;
      const notes = [...new Set(answer.notes ?? [])];
      $(".cal-notes").hidden = !notes.length;
      $(".cal-notes").textContent = notes.join(" ");
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
      if (items.length) toast.error(problem);
    }
    paint();
  }
  const again = debounce(load, 350);
  ["post.updated", "schedule.updated", "run.updated"].forEach((type) => stream.on(type, again));
  stream.on("snapshot", ({ lost }) => lost && again());
  setInterval(() => document.hidden || !loaded || paint(), 60_000);

  function go(changes, { push = true } = {}) {
    const next = { ...state, ...changes };
    if (address(next, { today }) === address(state, { today })) return;
    if (changes.view && !phone.matches) prefs.set("calendarView", next.view);
    const other = daysOf(next.view, next.date).join() !== daysOf(state.view, state.date).join();
    state = next;
    history[push ? "pushState" : "replaceState"](null, "", address(state, { today }));
    if (other) items = items.filter((i) => daysOf(state.view, state.date).includes(dayOf(i.at, zone())));
    paint();
    load();
  }

  // ---------------------------------------------------------------- entries

  async function open(item) {
    if (item.type !== "post") {
      await openRule(item);
      return;
    }
    const { id } = item.post;
    if (openId === id) return;
    openId = id;
    url.set({ post: id }, { push: true });
    await openPost(id, { onChange: again });
    openId = "";
    if (url.get("post") === id) url.set({ post: null });
    root.querySelector(`[data-item="p-${CSS.escape(id)}"]`)?.focus();
  }

  /** A time a rule will make: it cannot be moved, only left out. */
  async function openRule(item) {
    const past = Date.parse(item.at) < Date.now();
    const { dialog, closed } = openDialog({
      title: item.name || "A scheduled task",
      size: "s",
      body: html`<div class="stack-3"><p class="row">${icon("repeat")}<strong>${dateTime(item.at, zone())}</strong><span class="muted">${zone()}</span></p>
        <p>${item.skipped ? "This one time is left out." : item.active === false ? "The task is switched off, so nothing will happen." : past ? "The task was due here." : "The scheduled task will do this by itself; there is no post yet."} ${item.note ?? ""}</p>
        <p class="row">${item.characterName ?? ""}${(item.platforms ?? []).map((p) => html`<span class="badge badge-neutral">${platformIcon(p)}<span>${platformLabel(p)}</span></span>`)}${item.dryRun && html`<span class="badge post-dry">${icon("eye")}<span>Dry run</span></span>`}</p>
        <p class="small muted">A rule keeps its times, so it cannot be dragged. Leave out this one time, or change the rule.</p></div>`,
      footer: html`<a class="btn" href="/schedule.html?edit=${encodeURIComponent(item.taskId)}">${icon("edit")}Edit rule</a><span class="spacer"></span>${!past && item.slot !== undefined && html`<button type="button" class="btn btn-primary" data-skip data-needs="${needs({ type: item.taskType })}">${icon(item.skipped ? "undo" : "off")}${item.skipped ? "Do it after all" : "Skip this time"}</button>`}`,
      onOpen: (d) => (d.querySelector("[data-skip]") ?? d.querySelector("a.btn"))?.focus(),
    });
    dialog.querySelector("[data-skip]")?.addEventListener("click", (event) =>
      busy(event.target.closest("button"), async () => {
        if (await skip(item, !item.skipped)) dialog.close("");
      }),
    );
    await closed;
    root.querySelector(`[data-item="${CSS.escape(keyOf(item))}"]`)?.focus();
  }
  async function skip(item, yes) {
    try {
      await api.post(`/api/scheduler/tasks/${encodeURIComponent(item.taskId)}/skip`, { slot: item.slot, skip: yes });
      await load();
      toast.success(yes ? "This one time is left out" : "It happens after all", { undo: () => skip({ ...item }, !yes) });
      return true;
    } catch (problem) {
      toast.error(problem);
      return false;
    }
  }
  async function compose(at, characterId = state.characterId) {
    const posts = await openComposer({ scheduledAt: at ?? undefined, characterId, zone: zone() });
    if (posts) again();
  }

  // ---------------------------------------------------------------- moving

  async function move(item, day, hour) {
    const plan = dropOf(item, day, hour, zone());
    if (plan.refused) {
      say(plan.refused);
      if (plan.offer === "rule") {
        openRule(item);
        return;
      }
      if (plan.offer === "duplicate") {
        const sure = await confirmDialog({ title: "It keeps its time", body: plan.refused, confirmLabel: "Plan a copy", cancelLabel: "Leave it", danger: false });
        if (!sure) return;
        const copy = await actOn(item.post, "duplicate");
        if (copy?.id) {
          const posts = await openComposer({ postId: copy.id, scheduledAt: slotAt(day, hour === null ? null : Number(hour), zone()) ?? undefined });
          if (posts) again();
          again();
        }
        return;
      }
      toast.error(plan.refused);
      return;
    }
    if (plan.at === item.at) return;
    const before = item.at;
    items = items.map((i) => (i === item ? { ...i, at: plan.at } : i)); // shown at once
    paint();
    const done = await moveTo(item.post, plan.at);
    if (done) {
      say(`Moved to ${dateTime(plan.at, zone())}`);
      if (plan.note === "gap") toast.info("The clock jumps over this time that day; it goes out right after.");
      load();
    } else {
      items = items.map((i) => (keyOf(i) === keyOf(item) ? { ...i, at: before } : i));
      paint();
    }
  }

  const cellAt = (event) => event.target.closest?.("[data-cell]");
  root.addEventListener("dragstart", (event) => {
    const el = event.target.closest?.("[data-item]");
    dragged = el && find(el.dataset.item);
    if (!dragged) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", el.dataset.item);
    root.classList.add("is-dragging");
  });
  root.addEventListener("dragover", (event) => {
    const at = cellAt(event);
    root.querySelectorAll(".is-target").forEach((el) => el !== at && el.classList.remove("is-target", "is-refused"));
    if (!dragged || !at) return;
    event.preventDefault(); // also where it is refused: the drop says why
    const plan = dropOf(dragged, at.dataset.day, at.dataset.hour ?? null, zone());
    at.classList.add("is-target");
    at.classList.toggle("is-refused", Boolean(plan.refused));
    event.dataTransfer.dropEffect = "move";
  });
  root.addEventListener("drop", (event) => {
    const at = cellAt(event);
    if (!dragged || !at) return;
    event.preventDefault();
    const item = dragged;
    endDrag();
    if (dayOf(item.at, zone()) === at.dataset.day && (at.dataset.hour === undefined || Number(at.dataset.hour) === Number(timeOf(item.at, zone()).slice(0, 2)))) return;
    if (at.dataset.lane !== undefined && at.dataset.lane !== (item.type === "post" ? item.post.characterId : item.characterId)) {
      toast.error("A post stays with its character.", { detail: "Drop it in the same row, or duplicate it for somebody else." });
      return;
    }
    move(item, at.dataset.day, at.dataset.hour ?? null);
  });
  function endDrag() {
    dragged = null;
    held = false;
    if (waiting) paint();
    waiting = false;
    root.classList.remove("is-dragging");
    root.querySelectorAll(".is-target").forEach((el) => el.classList.remove("is-target", "is-refused"));
  }
  root.addEventListener("dragend", endDrag);
  root.addEventListener("pointerdown", (event) => {
    held = event.pointerType === "mouse" && Boolean(event.target.closest?.("[data-item]"));
  });
  for (const type of ["pointerup", "pointercancel"]) {
    // pointercancel comes when the drag begins (dragstart was before it) or the browser takes the pointer away
    addEventListener(type, () => held && !dragged && setTimeout(endDrag)); // after the click that follows
  }

  // ---------------------------------------------------------------- wiring

  onAction(main, {
    retry: load,
    today: () => go({ date: today }),
    turn: (_e, el) => go({ date: turn(state.view, state.date, Number(el.dataset.by)) }),
    view: (_e, el) => go({ view: el.dataset.value }),
    day: (_e, el) => go({ view: "day", date: el.dataset.day }),
    new: () => compose(null),
    open: (_e, el) => {
      const item = find(el.dataset.item);
      if (item) open(item);
    },
  });
  function composeIn(at) {
    const when = slotAt(at.dataset.day, at.dataset.hour === undefined ? null : Number(at.dataset.hour), zone());
    if (!when) {
      toast.info("This time has passed.", { detail: "Choose a later one." });
      return;
    }
    compose(when, at.dataset.lane ?? state.characterId);
  }
  root.addEventListener("click", (event) => {
    const at = cellAt(event);
    if (!at || event.target.closest("button, a")) return;
    setFocus(at.dataset.cell, false);
    composeIn(at);
  });
  function setFocus(id, moveIt = true) {
    focus = id;
    for (const el of root.querySelectorAll("[data-cell]")) el.tabIndex = el.dataset.cell === id ? 0 : -1;
    if (moveIt) root.querySelector(`[data-cell="${CSS.escape(id)}"]`)?.focus();
  }
  root.addEventListener("keydown", (event) => {
    if (!event.target.matches?.("[data-cell]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target;
    if (event.key === "Enter") {
      event.preventDefault();
      composeIn(at);
      return;
    }
    const row = at.parentElement;
    const cells = [...row.querySelectorAll("[data-cell]")];
    const column = cells.indexOf(at);
    const sibling = (by) => [...(row.parentElement.querySelectorAll("[role=row]") ?? [])].filter((r) => r.querySelector("[data-cell]"))[[...row.parentElement.querySelectorAll("[role=row]")].filter((r) => r.querySelector("[data-cell]")).indexOf(row) + by]?.querySelectorAll("[data-cell]")[column];
    const to = { ArrowLeft: () => cells[column - 1], ArrowRight: () => cells[column + 1], ArrowUp: () => sibling(-1), ArrowDown: () => sibling(1), Home: () => cells[0], End: () => cells.at(-1) }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const target = to();
    if (target) setFocus(target.dataset.cell);
    else if (state.view === "month" && (event.key === "ArrowUp" || event.key === "ArrowDown" || event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const day = addDays(at.dataset.day, { ArrowUp: -7, ArrowDown: 7, ArrowLeft: -1, ArrowRight: 1 }[event.key]);
      focus = day;
      go({ date: day });
      setFocus(day);
    }
  });
  main.addEventListener("change", (event) => {
    const { filter } = event.target.dataset;
    if (!filter) return;
    if (filter === "characterId") session.choose(event.target.value);
    go({ [filter]: event.target.value });
  });
  document.addEventListener("session:characters", paint);
  document.addEventListener("session:character", ({ detail }) => go({ characterId: detail.id }));
  addEventListener("popstate", () => {
    const next = readQuery(location.search, { view: firstView(), today });
    if (address(next, { today }) !== address(state, { today })) {
      state = next;
      paint();
      load();
    }
    const id = url.get("post");
    if (!id) document.querySelector("dialog.post-dialog[open]")?.close();
    else if (openId !== id) openById(id);
  });
  const openById = (id) => open(find(`p-${id}`) ?? { type: "post", at: new Date().toISOString(), post: { id } });
  const focused = () => find(document.activeElement?.closest?.("[data-item]")?.dataset.item ?? "");
  registerKeys("Calendar", [
    { keys: "t", label: "Today", run: () => go({ date: today }) },
    { keys: "j", label: "Later", run: () => go({ date: turn(state.view, state.date, 1) }) },
    { keys: "k", label: "Earlier", run: () => go({ date: turn(state.view, state.date, -1) }) },
    { keys: "n", label: "New post", run: () => compose(null) },
    {
      keys: "m",
      label: "Move the post that has the focus",
      when: () => Boolean(focused()),
      run: async () => {
        const item = focused();
        if (item.type !== "post") openRule(item);
        else if (["published", "dry_run"].includes(item.post.status)) move(item, addDays(dayOf(Date.now(), zone()), 1), null);
        else if (await actOn(item.post, "schedule")) load();
      },
    },
    { keys: "1", label: "Month", run: () => go({ view: "month" }) },
    { keys: "2", label: "Week", run: () => go({ view: "week" }) },
    { keys: "3", label: "Day", run: () => go({ view: "day" }) },
    { keys: "4", label: "List", run: () => go({ view: "list" }) },
    { keys: "5", label: "Characters", run: () => go({ view: "lanes" }) },
  ]);

  const { post: asked } = url.all();
  await session.characters().catch(() => []);
  if (!location.search && session.characterId) state = { ...state, characterId: session.characterId };
  history.replaceState(null, "", `${address(state, { today })}${asked ? `&post=${encodeURIComponent(asked)}` : ""}`);
  paint();
  await load();
  if (asked) openById(asked);
}
