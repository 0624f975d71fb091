/** The Shelf tab: the LoRAs there are, what each is for, who uses it; edit, give to a character, download, delete with undo. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";
import { busy, debounce, onAction, render, url } from "../../dom.js";
import { ago, bytes, number, plural } from "../../format.js";
import { readForm, showErrors } from "../../forms.js";
import { html, icon } from "../../html.js";
import { stream } from "../../jobs.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { downloadMenu, saveAs } from "./download.js";
import { bestSample, fits } from "./words.js";

const loraUrl = (name, more = "") => `/api/loras/${encodeURIComponent(name)}${more}`;

/** @param {HTMLElement} root */
export function shelfTab(root) {
  let rows = [],
    error = null,
    loaded = false,
    turn = 0,
    opening = false, // a dialog waits for what it shows
    text = url.get("q") ?? "";
  const pictures = new Map(); // name → sample or null
  render(root, html`<div class="toolbar lo-shelf-tools" hidden><div class="search-box">${icon("search")}<input type="search" aria-label="Search the shelf" placeholder="Search" data-search></div><span class="spacer"></span><span class="small muted" role="status"></span></div><div class="lo-shelf"></div>`);
  const list = root.querySelector(".lo-shelf");
  const search = root.querySelector("input");
  search.value = text;

  const card = (l, place) => {
    const sample = pictures.get(l.name);
    return html`<li class="card lo-lora ${url.get("lora") === l.name ? "is-marked" : ""}" data-key="${l.name}">
      <div class="lo-lora-picture">${sample ? html`<img src="${sample.fileUrl}" alt="Sample: ${sample.prompt}" loading="lazy">` : icon("layers")}</div>
      <div class="lo-lora-main"><div class="row"><h2>${l.name}</h2>${l.familyLabel && html`<span class="badge badge-neutral">${l.familyLabel}</span>`}</div>
      ${l.note && html`<p class="small lo-problem">${icon("alert")}<span>${l.note}</span></p>`}
      ${l.description && html`<p class="small clamp-2">${l.description}</p>`}
      <p class="row lo-words">${l.triggerWord ? html`<button type="button" class="chip mono" data-action="lora-copy" data-text="${l.triggerWord}" aria-label="Copy the trigger word ${l.triggerWord}">${icon("copy")}${l.triggerWord}</button>` : html`<span class="small muted">no trigger word</span>`}${(l.tags ?? []).map((t) => html`<span class="chip">${icon("tag")}${t}</span>`)}</p>
      <p class="small muted">${[bytes(l.sizeBytes), l.baseModel ? `on ${l.baseModel}` : "", l.step ? `step ${number(l.step)}` : "", ago(l.createdAt)].filter(Boolean).join(" · ")}${l.taskId && html` · <a href="/lora.html?run=${encodeURIComponent(l.taskId)}" data-action="lora-run" data-id="${l.taskId}">its run</a>`}</p>
      <p class="small">${l.usedBy.length ? html`Used by ${l.usedBy.map((c, i) => html`${i > 0 && ", "}<a href="/characters.html?id=${encodeURIComponent(c.id)}&tab=looks">${c.name}</a>${c.strength !== 1 && ` (${number(c.strength, 2)})`}`)}` : html`<span class="muted">Used by nobody</span>`}</p></div>
      <div class="lo-lora-acts"><button type="button" class="btn btn-small" data-action="lora-give" data-name="${l.name}" aria-label="Give ${l.name} to a character">${icon("characters")}Give to…</button>${l.usedBy.length === 1 && html`<a class="btn btn-small" href="/studio.html?character=${encodeURIComponent(l.usedBy[0].id)}">${icon("studio")}Draw</a>`}<span class="spacer"></span><button type="button" class="icon-btn" data-action="lora-edit" data-name="${l.name}" aria-label="Edit ${l.name}" title="Edit">${icon("edit")}</button>${downloadMenu(l, place)}<button type="button" class="icon-btn" data-action="lora-delete" data-needs="write" data-name="${l.name}" aria-label="Delete ${l.name}" title="Delete">${icon("trash")}</button></div></li>`;
  };
  function paint() {
    root.querySelector(".lo-shelf-tools").hidden = rows.length < 2 && !text;
    const shown = rows.filter((l) => fits(l, text));
    root.querySelector("[role=status]").textContent = loaded ? (text ? `${number(shown.length)} of ${plural(rows.length, "LoRA")}` : plural(rows.length, "LoRA")) : "";
    render(
      list,
      error && !rows.length
        ? errorState(error, { title: "The shelf could not be loaded", action: "shelf-reload" })
        : !loaded
          ? skeleton("cards", 4)
          : !rows.length
            ? emptyState({ icon: "layers", title: "The shelf is empty", text: "A trained LoRA stands here. Others can be put into the folder loras/ as .safetensors files.", action: { label: "Train a LoRA", action: "to-train", icon: "bolt" } })
            : !shown.length
              ? emptyState({ icon: "search", title: "Nothing fits", text: `No LoRA fits “${text}”.`, action: { label: "Show all", action: "shelf-clear" }, compact: true })
              : html`<ul class="lo-loras">${shown.map(card)}</ul>`,
    );
  }
  async function load() {
    const mine = (turn += 1);
    try {
      const answer = await api.get("/api/loras");
      if (mine !== turn) return;
      rows = answer;
      error = null;
      loaded = true;
    } catch (problem) {
      if (mine !== turn) return;
      error = problem;
      if (rows.length) toast.error(problem);
    }
    paint();
    if (loaded) samples(); // the page does not wait for them
  }
  /** A picture of each LoRA that was trained here; a few requests at a time. */
  async function samples() {
    const wanted = rows.filter((l) => l.taskId && !pictures.has(l.name));
    const runs = new Map();
    for (let i = 0; i < wanted.length; i += 4) {
      await Promise.all(
        wanted.slice(i, i + 4).map(async (l) => {
          if (pictures.has(l.name)) return; // asked for meanwhile
          pictures.set(l.name, null);
          try {
            if (!runs.has(l.taskId)) runs.set(l.taskId, api.get(`/api/lora/train/${encodeURIComponent(l.taskId)}`));
            pictures.set(l.name, bestSample((await runs.get(l.taskId)).samples ?? [], l.step));
          } catch {
            /* its run is gone: no picture */
          }
        }),
      );
      paint();
    }
  }
  const again = debounce(() => !root.hidden && load(), 400);
  stream.on("lora.updated", again);
  stream.on("character.updated", again);
  stream.on("training.progress", (event) => event.event === "done" && again());
  stream.on("snapshot", ({ lost }) => lost && again());

  /** What a dialog needs before it opens; undefined while one is opening: they would have the same ids. */
  async function before(ask) {
    if (opening) return undefined;
    opening = true;
    try {
      return await ask();
    } finally {
      opening = false;
    }
  }
  async function edit(l) {
    const families = await before(() => api.get("/api/lora/options").then((o) => o.families).catch(() => ({})));
    if (!families) return;
    const { dialog, closed } = openDialog({
      title: `Edit ${l.name}`,
      body: html`<form class="stack-3" novalidate>${fieldRow({ name: "triggerWord", label: "Trigger word", value: l.triggerWord, maxlength: 100, spellcheck: false, id: "lo-e-trigger", hint: "Stands in the prompt so that the LoRA does what it learned." })}
      ${fieldRow({ name: "description", label: "Description", type: "textarea", value: l.description, maxlength: 5000, id: "lo-e-text" })}
      ${fieldRow({ name: "tags", label: "Tags", value: (l.tags ?? []).join(", "), dataType: "list", id: "lo-e-tags", hint: "Separated by commas." })}
      <div class="cols-2">${fieldRow({ name: "strength", label: "Recommended strength", type: "number", step: 0.05, min: -10, max: 10, value: l.strength, id: "lo-e-strength", placeholder: "1" })}
      ${fieldRow({ name: "family", label: "Family", type: "select", value: l.family ?? "", id: "lo-e-family", options: [{ value: "", label: "As the file says" }, ...Object.entries(families).map(([value, label]) => ({ value, label }))], hint: "Which models it fits." })}</div><p class="field-error" role="alert" hidden></p></form>`,
      footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-primary data-do="save">Save</button>`,
    });
    const form = dialog.querySelector("form");
    const save = () =>
      busy(dialog.querySelector("[data-do]"), async () => {
        const { family, ...values } = readForm(form);
        if ((family ?? "") !== (l.family ?? "")) values.family = family;
        try {
          await api.patch(loraUrl(l.name), values);
          dialog.close("saved");
        } catch (problem) {
          const left = showErrors(form, problem.errors ?? []);
          const slot = form.querySelector("[role=alert]");
          slot.textContent = left.length || !problem.errors?.length ? problem.message : "";
          slot.hidden = !slot.textContent;
        }
      });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      save();
    });
    dialog.querySelector("[data-do]").addEventListener("click", save);
    if ((await closed) === "saved") {
      toast.success("Saved");
      await load();
    }
  }

  async function give(l) {
    const characters = await before(() => session.characters().catch(() => []));
    if (!characters) return undefined;
    if (!characters.length) return toast.info("There is no character yet.", { action: { label: "Characters", href: "/characters.html" } });
    const uses = (c) => (c.loras ?? []).some((u) => u.name.replace(/\.safetensors$/, "") === l.name);
    const { dialog, closed } = openDialog({
      title: `Give ${l.name} to a character`,
      size: "s",
      body: html`<form class="stack-3">${fieldRow({ name: "id", label: "Character", type: "select", id: "lo-g-id", value: (characters.find((c) => c.id === l.characterId && !uses(c)) ?? characters.find((c) => !uses(c)))?.id, options: characters.map((c) => ({ value: c.id, label: `${c.name}${uses(c) ? " (has it)" : ""}`, disabled: uses(c) })) })}
      ${fieldRow({ name: "strength", label: "Strength", type: "number", step: 0.05, min: -10, max: 10, value: l.strength ?? 1, id: "lo-g-strength", hint: "1 is as trained; 0.6 to 0.9 leaves the model more freedom." })}
      ${l.triggerWord && fieldRow({ name: "trigger", label: `Also take over the trigger word “${l.triggerWord}”`, type: "checkbox", value: true, id: "lo-g-trigger" })}<p class="field-error" role="alert" hidden></p></form>`,
      footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-primary data-do="give">Give</button>`,
    });
    const form = dialog.querySelector("form");
    const send = () =>
      busy(dialog.querySelector("[data-do]"), async () => {
        const { id, strength, trigger } = readForm(form);
        const slot = form.querySelector("[role=alert]");
        try {
          if (!id) throw new Error("Every character has it already.");
          const { data: now, etag } = await api.get(`/api/characters/${encodeURIComponent(id)}`, { full: true });
          await api.patch(`/api/characters/${encodeURIComponent(id)}`, { loras: [...(now.loras ?? []), { name: l.name, strength: strength ?? 1 }], ...(trigger ? { triggerWord: l.triggerWord } : {}) }, { ifMatch: etag });
          toast.success(`${now.name} uses ${l.name}`, { action: { label: "Draw", href: `/studio.html?character=${encodeURIComponent(id)}` } });
          dialog.close("given");
        } catch (problem) {
          slot.textContent = [problem.message, problem.remedy].filter(Boolean).join(" ");
          slot.hidden = false;
        }
      });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    dialog.querySelector("[data-do]").addEventListener("click", send);
    if ((await closed) === "given") {
      await session.characters({ fresh: true }).catch(() => {});
      await load();
    }
    return undefined;
  }

  search.addEventListener("input", () => {
    text = search.value.trim();
    url.set({ q: text });
    paint();
  });
  const find = (el) => rows.find((l) => l.name === el.dataset.name);
  onAction(root, {
    "shelf-reload": () => load(),
    "shelf-clear": () => {
      text = search.value = "";
      url.set({ q: null });
      paint();
      search.focus();
    },
    "lora-copy": (_e, el) => copyText(el.dataset.text, "Trigger word copied"),
    "lora-edit": (_e, el) => edit(find(el)),
    "lora-get": (_e, el) => {
      el.closest("[popover]").hidePopover();
      return busy(root.querySelector(`[popovertarget="${el.closest("[popover]").id}"]`), () => saveAs(find(el), el.dataset.form).catch((problem) => toast.error(problem)));
    },
    "lora-give": (_e, el) => give(find(el)),
    "lora-delete": async (_e, el) => {
      const l = find(el);
      if (l.usedBy.length && !(await confirmDialog({ title: `Delete ${l.name}?`, consequences: [`It is taken off ${l.usedBy.map((c) => c.name).join(", ")}.`, "It can be brought back with Undo."], confirmLabel: "Delete" }))) return;
      await busy(el, async () => {
        try {
          const { trashId } = await api.delete(loraUrl(l.name));
          rows = rows.filter((one) => one.name !== l.name);
          paint();
          load(); // also instead of one that was asked for before
          toast.success(`${l.name} deleted`, {
            undo: async () => {
              await api.post("/api/loras/restore", { trashId });
              await load();
            },
          });
        } catch (problem) {
          toast.error(problem);
        }
      });
    },
  });
  return {
    show() {
      paint();
      return load().then(() => root.querySelector(".is-marked")?.scrollIntoView({ block: "center" }));
    },
  };
}
