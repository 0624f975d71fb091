/** One character: tabs, one form over four of them, content and history. */
import { api, isAbort } from "../../api.js";
import { avatar } from "../../components/avatar.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { emptyState, errorState, skeleton } from "../../components/states.js";
import { statusBadge } from "../../components/status-badge.js";
import { busy, debounce, onAction, render, url } from "../../dom.js";
import { ago, dateTime, plural, words } from "../../format.js";
import { clearErrors, readForm, same, showErrors, trackDirty } from "../../forms.js";
import { html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { draft } from "../../prefs.js";
import { session } from "../../session.js";
import { taskId } from "../../tasks.js";
import {
  accountFields,
  activeNarrative,
  attention,
  loraRows,
  lookFields,
  narrativeRows,
  profileFields,
  sameModel,
  SECRETS,
  storyFields,
} from "./fields.js";
import { modelsPanel } from "./models.js";

const TABS = [
  ["overview", "Overview", "user"],
  ["looks", "Looks", "looks"],
  ["story", "Story", "book"],
  ["accounts", "Accounts", "account"],
  ["content", "Content", "gallery"],
  ["history", "History", "history"],
];
const FORM_TABS = ["overview", "looks", "story", "accounts"];
const today = () => new Date().toLocaleDateString("sv-SE");

/**
 * Show a character in `root`. `owner` = {models, viewer, neighbours(id) → {before, after}, open(id), close(), removed(character)}.
 * @returns {{leave: () => Promise<boolean>, stop: () => void, edit: () => void, remove: () => void, save: () => void}}
 */
export function showCharacter(root, id, owner) {
  const stop = new AbortController();
  const { signal } = stop;
  const kept = draft(`character.${id}`);
  let character = null,
    etag = null,
    loras = [],
    narratives = [],
    forgotten = new Set(),
    dirty = null,
    versions = null,
    restored = false,
    mediaTotal = null;
  const $ = (selector) => root.querySelector(selector);
  const tab = () => (TABS.some(([key]) => key === url.get("tab")) ? url.get("tab") : "overview");

  async function load() {
    if (!character) render(root, skeleton("form", 6));
    try {
      const answer = await api.get(`/api/characters/${encodeURIComponent(id)}`, { full: true, signal });
      take(answer.data, answer.etag);
    } catch (error) {
      if (isAbort(error)) return;
      if (error.status === 404)
        render(
          root,
          html`<p><a class="btn btn-ghost btn-small" href="/characters.html" data-action="close">${icon("arrow-left")}All characters</a></p>${emptyState({ icon: "user", title: "This character is not here", text: "It may have been deleted. Deleted characters can be restored from the message that follows a delete.", action: { label: "All characters", href: "/characters.html" } })}`,
        );
      else render(root, errorState(error, { title: "The character could not be loaded" }));
    }
  }

  function take(data, tag) {
    character = data;
    etag = tag;
    loras = structuredClone(character.loras ?? []);
    narratives = structuredClone(character.narratives ?? []);
    forgotten = new Set();
    build();
  }

  function build() {
    dirty?.stop();
    root.replaceChildren();
    render(
      root,
      html`<div class="detail"><header class="detail-head" id="detail-head"></header><tab-bar aria-label="About ${character.name}"></tab-bar>
      <form id="character-form" class="detail-form" novalidate>
        ${FORM_TABS.map((key) => html`<section role="tabpanel" id="panel-${key}" aria-labelledby="tab-${key}" class="panel" hidden></section>`)}
        <div class="form-bar" id="save-bar" hidden><span class="save-state" role="status">${icon("edit")}<span>Unsaved changes</span></span><p class="field-error" id="save-problem" role="alert" hidden></p><span class="spacer"></span><button type="button" class="btn btn-ghost" data-action="discard">Discard</button><button type="submit" class="btn btn-primary" data-primary data-needs="write" title="Ctrl+Enter">${icon("save")}Save</button></div></form>
      <section role="tabpanel" id="panel-content" aria-labelledby="tab-content" hidden><media-grid></media-grid></section>
      <section role="tabpanel" id="panel-history" aria-labelledby="tab-history" class="panel" hidden></section></div>`,
    );
    const bar = $("tab-bar");
    bar.tabs = TABS.map(([key, label, glyph]) => ({ key, label, icon: glyph, controls: `panel-${key}` }));
    bar.addEventListener("tab-bar:change", (event) => {
      url.set({ tab: event.detail.key === "overview" ? null : event.detail.key });
      showTab(event.detail.key);
    });
    fillPanels(character);
    const form = $("#character-form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      save();
    });
    dirty = trackDirty(form, {
      read,
      onChange: (is, values) => {
        $("#save-bar").hidden = !is;
        keepDraft(is, values);
      },
    });
    const before = kept.load();
    if (before?.values && !same(before.values, withoutSecrets(read()))) restoreDraft(before);
    head();
    bar.value = tab();
    showTab(tab());
  }

  function fillPanels(c) {
    const why = attention(c, owner.models());
    const story = activeNarrative(c, today());
    render(
      $("#panel-overview"),
      html`<div class="overview"><div class="stack-4">${profileFields(c)}</div>
      <aside class="stack-3"><h3>At a glance</h3>${why.length ? html`<ul class="reasons">${why.map((w) => html`<li>${icon("alert")}<span>${w}</span></li>`)}</ul>` : html`<p class="row">${icon("ok")}Everything that pictures need is set.</p>`}
        <dl class="facts"><div><dt>Model</dt><dd>${c.preferredModel || "Default"}</dd></div><div><dt>LoRAs</dt><dd>${c.loras?.length ? c.loras.map((l) => l.name).join(", ") : "None"}</dd></div><div><dt>Trigger</dt><dd>${c.triggerWord ? html`<code>${c.triggerWord}</code>` : "–"}</dd></div><div><dt>Story now</dt><dd>${story?.title ?? "–"}</dd></div><div><dt>Instagram</dt><dd>${c.instagramHandle || "–"}</dd></div><div><dt>X</dt><dd>${c.twitterHandle || "–"}</dd></div><div><dt>Changed</dt><dd>${ago(c.updatedAt)}</dd></div></dl></aside></div>`,
    );
    render($("#panel-looks"), html`<div class="stack-5">${lookFields(c, owner.models())}<div id="lora-slot"></div><div id="versions-slot"></div></div>`);
    versions = modelsPanel($("#versions-slot"), id, { signal, used: load });
    render($("#panel-story"), html`<div class="stack-5">${storyFields(c)}<div id="narrative-slot"></div></div>`);
    render($("#panel-accounts"), accountFields(c));
    paintLists();
  }
  function paintLists() {
    render($("#lora-slot"), loraRows(loras, owner.models()));
    render($("#narrative-slot"), narrativeRows(narratives, today()));
    // typed values are properties: say again what the lists hold
    root.querySelectorAll(".lora-row").forEach((row, i) => {
      row.querySelector("[data-lora=name]").value = loras[i].name;
      row.querySelector("[data-lora=strength]").value = loras[i].strength ?? 1;
    });
    root.querySelectorAll(".narrative").forEach((row, i) =>
      row.querySelectorAll("[data-n]").forEach((el) => {
        const v = narratives[i][el.dataset.n] ?? "";
        el.value = el.type === "date" ? v.slice(0, 10) : v;
      }),
    );
  }

  function read() {
    const values = readForm($("#character-form"));
    for (const [key] of SECRETS) values[key] = values[key] ?? (forgotten.has(key) ? null : (character[key] ?? null));
    const text = (el) => el.value.trim() || null;
    values.loras = [...root.querySelectorAll(".lora-row")]
      .map((row) => ({
        name: row.querySelector("[data-lora=name]").value,
        strength: Number(row.querySelector("[data-lora=strength]").value),
      }))
      .filter((l) => l.name);
    values.narratives = [...root.querySelectorAll(".narrative")].map((row, i) => {
      const now = Object.fromEntries([...row.querySelectorAll("[data-n]")].map((el) => [el.dataset.n, text(el)]));
      for (const key of ["startDate", "endDate"])
        if (now[key] && narratives[i]?.[key]?.slice(0, 10) === now[key]) now[key] = narratives[i][key]; // a stored time of day stays
      return { ...(narratives[i]?.id ? { id: narratives[i].id } : {}), ...now };
    });
    return values;
  }
  const withoutSecrets = (values) => Object.fromEntries(Object.entries(values).filter(([key]) => !SECRETS.some(([s]) => s === key)));
  const keepDraft = debounce((is, values) => {
    if (is) kept.save({ at: new Date().toISOString(), values: withoutSecrets(values) });
    else kept.clear();
  }, 400);

  function restoreDraft(before) {
    const { loras: l, narratives: n, ...fields } = before.values;
    loras = l ?? loras;
    narratives = n ?? narratives;
    for (const el of $("#character-form").elements) {
      if (!el.name || SECRETS.some(([s]) => s === el.name)) continue;
      const value = el.name.split(".").reduce((at, k) => at?.[k], fields);
      el.value = value ?? "";
    }
    paintLists();
    dirty.check();
    if (!restored)
      toast.info("Your unsaved changes were restored", { detail: `Typed ${ago(before.at)}.`, action: { label: "Discard", run: discard } });
    restored = true;
  }

  function head() {
    const c = character;
    const { before, after } = owner.neighbours(id);
    render(
      $("#detail-head"),
      html`<a class="icon-btn" href="/characters.html" data-action="close" aria-label="All characters" title="All characters">${icon("arrow-left")}</a>${avatar(c, "l")}
      <div class="stack-1 detail-name"><h2>${c.name}</h2><p class="row muted small">${c.isActive ? statusBadge("active") : statusBadge("inactive")}${mediaTotal !== null && plural(mediaTotal, "picture")}${c.triggerWord && html`<code>${c.triggerWord}</code>`}</p></div>
      <span class="spacer"></span><label class="check"><input type="checkbox" role="switch" class="switch" data-toggle-active ${c.isActive ? html`checked` : ""}><span>Active</span></label>
      <a class="btn btn-primary" href="/studio.html?characterId=${encodeURIComponent(c.id)}" data-action="studio">${icon("studio")}Create</a>
      <div class="row row-nowrap detail-arrows"><button type="button" class="icon-btn" data-action="before" aria-label="Previous character" title="Previous (←)" ${before ? "" : html`disabled`}>${icon("chevron-left")}</button><button type="button" class="icon-btn" data-action="after" aria-label="Next character" title="Next (→)" ${after ? "" : html`disabled`}>${icon("chevron-right")}</button>
      <button type="button" class="icon-btn" popovertarget="character-menu" aria-label="More" aria-haspopup="menu">${icon("more")}</button>
      <div id="character-menu" popover class="popover menu" role="menu" data-align="end"><button type="button" role="menuitem" data-action="copy-id">${icon("copy")}<span>Copy id</span></button><hr><button type="button" role="menuitem" class="is-danger" data-action="delete" data-needs="write">${icon("trash")}<span>Delete…</span></button></div></div>`,
    );
    $("[data-toggle-active]").checked = c.isActive;
  }

  function showTab(key) {
    for (const [name] of TABS) $(`#panel-${name}`).hidden = name !== key;
    $("#character-form").hidden = !FORM_TABS.includes(key);
    if (key === "content") content();
    if (key === "looks") versions.load();
    if (key === "history") historyTab();
  }

  function content() {
    const grid = $("media-grid");
    if (grid.loadPage) return;
    grid.label = `Pictures of ${character.name}`;
    grid.size = 170;
    grid.emptyView = emptyState({
      icon: "image",
      title: `No pictures of ${character.name} yet`,
      text: "Make the first one in the studio.",
      action: { label: "Open the studio", href: `/studio.html?characterId=${encodeURIComponent(id)}`, icon: "studio" },
    });
    grid.loadPage = (cursor, limit) => api.get("/api/media", { query: { characterId: id, cursor, limit }, signal });
    owner.connectGrid(grid, { onAvatar: (media) => saveNow({ avatarMediaId: media.id }, `Avatar of ${character.name} changed`) });
    grid.addEventListener("media-grid:loaded", ({ detail }) => {
      if (mediaTotal !== detail.total) {
        mediaTotal = detail.total;
        head();
      }
    });
    grid.reload();
  }

  async function historyTab() {
    const panel = $("#panel-history");
    if (!panel.firstElementChild) render(panel, skeleton("rows", 4));
    try {
      const answer = await api.get("/api/tasks", { query: { limit: 100, characterId: id }, signal });
      const mine = (answer.items ?? []).filter((t) => t.characterId === id);
      render(
        panel,
        html`<div class="stack-4"><dl class="facts"><div><dt>Created</dt><dd>${dateTime(character.createdAt)}</dd></div><div><dt>Last change</dt><dd>${dateTime(character.updatedAt)}</dd></div></dl><h3>Tasks</h3>
        ${mine.length ? html`<ul class="history">${mine.map((t) => html`<li data-key="${taskId(t)}">${statusBadge(t.status)}<span class="truncate">${t.title || words(t.kind)}</span><span class="spacer"></span><small class="muted">${ago(t.finishedAt ?? t.createdAt)}</small></li>`)}</ul>` : html`<p class="muted">No tasks among the latest hundred were for ${character.name}.</p>`}</div>`,
      );
    } catch (error) {
      if (!isAbort(error)) render(panel, errorState(error, { title: "The history could not be loaded", action: "history", compact: true }));
    }
  }

  /** Save fields that are not in the form (switch, avatar) at once. */
  async function saveNow(changes, said) {
    try {
      const answer = await api.patch(`/api/characters/${encodeURIComponent(id)}`, changes, { full: true });
      character = { ...character, ...changes, updatedAt: answer.data.updatedAt };
      etag = answer.etag;
      head();
      toast.success(said);
    } catch (error) {
      head();
      toast.error(error);
    }
  }

  async function save(force = false) {
    const form = $("#character-form");
    const button = $("#save-bar [type=submit]");
    await busy(button, async () => {
      clearErrors(form);
      const problem = $("#save-problem");
      problem.hidden = true;
      const values = read();
      const changes = {};
      for (const [key, value] of Object.entries(values)) if (!same(character[key] ?? null, value)) changes[key] = value;
      if ("name" in changes && !changes.name) changes.name = "";
      try {
        const answer = await api.patch(`/api/characters/${encodeURIComponent(id)}`, changes, { full: true, ifMatch: force ? null : etag });
        kept.clear();
        dirty.reset();
        toast.success("Saved");
        const open = tab();
        take(answer.data, answer.etag);
        url.set({ tab: open === "overview" ? null : open });
      } catch (error) {
        if (error.status === 412) {
          await conflict(error, changes);
          return;
        }
        const at =
          error.errors?.[0]?.field && [...form.elements].find((el) => el.name === error.errors[0].field)?.closest("[role=tabpanel]");
        if (at) {
          const key = at.id.replace("panel-", "");
          $("tab-bar").value = key;
          url.set({ tab: key });
          showTab(key);
        }
        const left = showErrors(form, error.errors ?? []);
        if (left.length || !error.errors?.length) {
          problem.textContent = left.map((e) => e.message).join(" ") || `${error.message} ${error.remedy ?? ""}`.trim();
          problem.hidden = false;
        }
      }
    });
  }

  async function conflict(error, changes) {
    const theirs = error.problem.current ?? {};
    const keys = Object.keys(changes).filter((key) => !same(theirs[key], character[key]));
    const { closed } = openDialog({
      title: "Somebody else changed this",
      size: "s",
      body: html`<div class="stack-3"><p>${theirs.name ?? character.name} was changed elsewhere ${theirs.updatedAt ? ago(theirs.updatedAt) : ""}. Nothing was saved.</p>${keys.length ? html`<p>Both of you changed:</p><ul class="consequences">${keys.map((k) => html`<li>${words(k)}</li>`)}</ul>` : html`<p>You changed different fields, so saving yours keeps theirs.</p>`}</div>`,
      footer: html`<button type="button" class="btn" data-close="">Go on editing</button><button type="button" class="btn" data-close="theirs">Load theirs</button><button type="button" class="btn btn-primary" data-close="mine">Save mine</button>`,
    });
    const answer = await closed;
    if (answer === "theirs") {
      kept.clear();
      dirty.reset();
      await load();
    }
    if (answer === "mine") await forceSave();
  }
  const forceSave = () => {
    $("#save-bar [type=submit]").removeAttribute("aria-busy");
    return save(true);
  };

  function discard() {
    keepDraft.cancel();
    kept.clear();
    dirty?.reset();
    take(character, etag);
  }

  async function remove() {
    let affects = {};
    try {
      affects = (await api.delete(`/api/characters/${encodeURIComponent(id)}`, { query: { dryRun: true } })).affects ?? {};
    } catch (error) {
      toast.error(error);
      return;
    }
    const says = {
      media: (n) => `${plural(n, "picture")} stay in the gallery, without this character's page.`,
      tasks: (n) => `${plural(n, "scheduled task")} will not run any more.`,
      prompts: (n) => `${plural(n, "prompt")} stay in the library.`,
      loras: (n) => `${plural(n, "LoRA")} stay on disk.`,
    };
    const sure = await confirmDialog({
      title: `Delete ${character.name}?`,
      body: "You can undo this right after.",
      consequences: Object.entries(affects)
        .filter(([, n]) => n > 0)
        .map(([k, n]) => says[k]?.(n) ?? `${words(k)}: ${n}`),
      confirmLabel: `Delete ${character.name}`,
      cancelLabel: "Keep",
    });
    if (!sure) return;
    try {
      await api.delete(`/api/characters/${encodeURIComponent(id)}`);
      kept.clear();
      dirty?.stop();
      owner.removed(character);
    } catch (error) {
      toast.error(error);
    }
  }

  async function leave() {
    if (!dirty?.dirty) return true;
    const sure = await confirmDialog({
      title: "Discard unsaved changes?",
      body: `Your changes to ${character.name} have not been saved.`,
      confirmLabel: "Discard changes",
      cancelLabel: "Go on editing",
    });
    if (sure) {
      keepDraft.cancel();
      kept.clear();
      dirty.stop();
    }
    return sure;
  }

  const syncLists = () => {
    const now = read();
    narratives = now.narratives;
    loras = [...root.querySelectorAll(".lora-row")].map((row) => ({
      name: row.querySelector("[data-lora=name]").value,
      strength: Number(row.querySelector("[data-lora=strength]").value),
    }));
  };
  onAction(
    root,
    {
      retry: load,
      history: historyTab,
      discard,
      close: (event) => {
        event.preventDefault();
        owner.close();
      },
      before: () => owner.open(owner.neighbours(id).before),
      after: () => owner.open(owner.neighbours(id).after),
      studio: () => session.choose(id),
      delete: remove,
      "copy-id": async () => {
        const { copyText } = await import("../../components/states.js");
        copyText(id, "Id copied");
      },
      "add-lora": () => {
        syncLists();
        const free = owner.models()?.loras?.find((l) => !loras.some((u) => sameModel(u.name, l.name)));
        loras.push({ name: free?.name ?? "", strength: 1 });
        paintLists();
        dirty.check();
        $(".lora-row:last-of-type select")?.focus();
      },
      "remove-lora": (_e, el) => {
        syncLists();
        loras.splice(Number(el.dataset.index), 1);
        paintLists();
        dirty.check();
        $("[data-action=add-lora]").focus();
      },
      "add-narrative": () => {
        syncLists();
        narratives.unshift({ title: "", startDate: today() });
        paintLists();
        dirty.check();
        $(".narrative input")?.focus();
      },
      "remove-narrative": (_e, el) => {
        syncLists();
        const index = Number(el.dataset.index),
          [gone] = narratives.splice(index, 1);
        paintLists();
        dirty.check();
        $("[data-action=add-narrative]").focus();
        toast.info("Narrative removed", {
          undo: () => {
            syncLists();
            narratives.splice(index, 0, gone);
            paintLists();
            dirty.check();
          },
        });
      },
      "forget-secret": (_e, el) => {
        const key = el.dataset.keyName;
        forgotten.add(key);
        const input = $("#character-form").elements.namedItem(key);
        input.value = "";
        input.placeholder = "will be removed when you save";
        el.hidden = true;
        dirty.check();
        input.focus();
      },
    },
    { signal },
  );
  root.addEventListener(
    "change",
    (event) => {
      if (event.target.matches("[data-toggle-active]"))
        saveNow({ isActive: event.target.checked }, event.target.checked ? `${character.name} is active` : `${character.name} is paused`);
    },
    { signal },
  );
  stream.on(
    "character.updated",
    (data) => {
      if ((data.id ?? data.characterId) !== id || !character || data.updatedAt === character.updatedAt) return;
      if (!dirty?.dirty && !root.querySelector("[aria-busy=true]")) load();
    },
    { signal },
  );

  load();
  return {
    leave,
    remove,
    save: () => dirty?.dirty && save(),
    edit: () => {
      $("tab-bar").value = "overview";
      url.set({ tab: null });
      showTab("overview");
      $("#character-form [name=name]")?.focus();
    },
    stop: () => {
      stop.abort();
      dirty?.stop();
    },
    refresh() {
      if (!character) return;
      if (!dirty.dirty) {
        fillPanels(character);
        dirty.reset();
      } else render($("#lora-slot"), loraRows(loras, owner.models()));
    },
  };
}
