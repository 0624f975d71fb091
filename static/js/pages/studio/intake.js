/** Pictures from outside: dropped, pasted or chosen. Shows the recipe they carry and what can be done with it. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { busy } from "../../dom.js";
import { toast } from "../../notices.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { resolve } from "./wish.js";

const SOURCES = { dalla: "Digital Dalla", comfyui: "ComfyUI", a1111: "A1111 / Forge" };

/** Watch a page for dropped and pasted pictures. */
export function watchIntake(main, s, { signal }) {
  let depth = 0,
    own = false; // a picture of this page being dragged counts as a file, too
  addEventListener(
    "dragstart",
    () => {
      own = true;
    },
    { signal },
  );
  addEventListener(
    "dragend",
    () => {
      own = false;
    },
    { signal },
  );
  const files = (event) => !own && [...(event.dataTransfer?.types ?? [])].includes("Files");
  const over = (on) => main.classList.toggle("is-dropping", on);
  addEventListener(
    "dragenter",
    (e) => {
      if (files(e)) {
        depth += 1;
        over(true);
      }
    },
    { signal },
  );
  addEventListener(
    "dragleave",
    (e) => {
      if (files(e) && (depth -= 1) <= 0) {
        depth = 0;
        over(false);
      }
    },
    { signal },
  );
  addEventListener(
    "dragover",
    (e) => {
      if (files(e)) e.preventDefault();
    },
    { signal },
  );
  addEventListener(
    "drop",
    (e) => {
      if (!files(e)) return;
      e.preventDefault();
      depth = 0;
      over(false);
      take(s, [...e.dataTransfer.files]);
    },
    { signal },
  );
  document.addEventListener(
    "paste",
    (e) => {
      const list = [...(e.clipboardData?.files ?? [])];
      if (e.clipboardData?.types.includes("text/plain") && e.target.closest?.("textarea, input")) return;
      if (list.some((f) => f.type.startsWith("image/")) && !document.querySelector("dialog[open]")) {
        e.preventDefault();
        take(s, list);
      }
    },
    { signal },
  );
}

function take(s, list) {
  const file = list.find((f) => f.type.startsWith("image/"));
  if (!file) {
    toast.error("That is not a picture. Drop a PNG, JPEG or WebP.");
    return;
  }
  if (list.length > 1)
    toast.info("The first picture is shown here. Several at once are imported in the gallery.", {
      action: { label: "Open the gallery", href: "/gallery.html" },
    });
  inspect(s, file);
}

/** Read what a picture says about itself and offer what can be done. */
export async function inspect(s, file) {
  const form = new FormData();
  form.append("file", file);
  let found;
  try {
    found = await api.post("/api/media/inspect", form);
  } catch (error) {
    toast.error(error);
    return;
  }
  const address = URL.createObjectURL(file);
  const { dialog, closed } = openDialog({
    title: found.recipe ? `Recipe found (${SOURCES[found.source] ?? found.source})` : "A picture without a recipe",
    size: "l",
    body: body(s, found, address, file),
    footer: footer(found),
  });
  dialog.classList.add("st-intake");
  dialog.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-take]");
    if (!button) return;
    if (await busy(button, () => use(s, button.dataset.take, found, file))) dialog.close();
  });
  await closed;
  URL.revokeObjectURL(address);
}

function body(s, found, address, file) {
  const r = found.recipe;
  const rows = r
    ? [
        ["Model", r.model],
        ["Seed", r.seed],
        ["Size", r.width && `${r.width} × ${r.height}`],
        ["Steps", r.steps],
        ["CFG", r.cfgScale],
        ["Guidance", r.guidance],
        ["Sampler", [r.sampler, r.scheduler].filter(Boolean).join(" / ")],
        ["LoRAs", (r.loras ?? []).map((l) => `${l.name} (${l.strength})`).join(", ")],
      ].filter(([, v]) => v !== null && v !== undefined && v !== "")
    : [];
  const missing = r?.model ? resolve(s.catalog, { ...s.form, engine: "auto", model: r.model }, null).missing : "";
  return html`<div class="st-intake-body"><img src="${address}" alt="${file.name}"><div class="stack-3">
    ${
      r
        ? html`<div><h3 class="label">Prompt</h3><p class="prompt-text">${r.prompt || "(empty)"}</p></div>${r.negativePrompt && html`<div><h3 class="label">Negative prompt</h3><p class="prompt-text muted">${r.negativePrompt}</p></div>`}
      <dl class="facts">${rows.map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>
      ${missing && html`<p class="field-hint st-warn">${icon("alert")}<span>The model “${missing}” is not here: “Use all” takes the rest, and you choose another model.</span></p>`}`
        : html`<p>${found.width} × ${found.height}. It does not say how it was made. It can still be the picture to start from.</p>`
    }</div></div>`;
}

const footer = (
  found,
) => html`<button type="button" class="btn btn-ghost" data-take="import">${icon("gallery")}Import to gallery</button><button type="button" class="btn ${found.recipe ? "" : "btn-primary"}" data-take="init">${icon("image")}Start from it</button>
  ${found.recipe && html`<button type="button" class="btn" data-take="prompt">${icon("edit")}Prompt only</button><button type="button" class="btn btn-primary" data-take="all">${icon("check")}Use all</button>`}`;

async function use(s, what, found, file) {
  if (what === "all") {
    s.recall(
      { characterId: s.form.characterId || undefined, ...found.request, model: known(s, found.request.model) },
      { typed: found.recipe.userPrompt ?? null },
    );
    return true;
  }
  if (what === "prompt") {
    s.set({
      prompt: found.recipe.userPrompt || found.recipe.prompt,
      negativePrompt: found.recipe.negativePrompt ?? s.form.negativePrompt,
      rawPrompt: false,
    });
    toast.success("Prompt taken over");
    return true;
  }
  const item = await upload(file);
  if (!item) return false;
  s.put(item);
  if (what === "init") {
    s.set({ initMediaId: item.id });
    toast.success("The next picture starts from this one");
  } else {
    s.show(item.id);
    toast.success(item.duplicate ? "It was in the gallery already" : "Imported", {
      action: { label: "Open", href: `/gallery.html?media=${encodeURIComponent(item.id)}` },
    });
  }
  return true;
}
const known = (s, name) => (name && resolve(s.catalog, { ...s.form, engine: "auto", model: name }, null).model ? name : undefined);

/** Take a file into the gallery. @returns the item, null when it was refused (and said so) */
export async function upload(file) {
  const form = new FormData();
  form.append("file", file);
  try {
    return (await api.upload("/api/media", form)).items[0];
  } catch (error) {
    toast.error(error);
    return null;
  }
}

/** Choose one picture of the gallery. @returns the item or null */
export async function pickFromGallery(s) {
  let chosen = null;
  const { dialog, closed } = openDialog({
    title: "Choose a picture to start from",
    size: "l",
    body: html`<media-grid class="st-picker"></media-grid>`,
  });
  dialog.querySelector(".dialog-body").setAttribute("data-scroller", "");
  const grid = dialog.querySelector("media-grid");
  grid.size = 140;
  grid.loadPage = (cursor, limit) => api.get("/api/media", { query: { cursor, limit, type: "image" } });
  grid.addEventListener("media-grid:open", (event) => {
    chosen = event.detail.item;
    dialog.close();
  });
  grid.reload();
  await closed;
  if (chosen) s.put(chosen);
  return chosen;
}
