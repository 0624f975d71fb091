/** The studio: write a prompt, press Generate, see it being drawn, go on from there. Wires state, markup and keys together. */
import { api, ApiError } from "../api.js";
import { copyCurl } from "../curl.js";
import { busy, element, onAction, render, url } from "../dom.js";
import { html, icon } from "../html.js";
import { cancel, retry } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { prefs } from "../prefs.js";
import { session } from "../session.js";
import { taskId } from "../tasks.js";
import { copyText, errorState, skeleton } from "../components/states.js";
import { actions } from "./studio/actions.js";
import { pickFromGallery, upload, watchIntake } from "./studio/intake.js";
import { panelView } from "./studio/panel.js";
import { queueView } from "./studio/queue.js";
import { stageView } from "./studio/stage.js";
import { Store } from "./studio/store.js";
import { asCall, compose, fresh, modelKey, toRequest } from "./studio/wish.js";
import { modelKinds } from "./studio/kinds.js";

export async function mount(main) {
  const stop = new AbortController();
  const { signal } = stop;
  main.classList.add("st");
  render(main, html`<div class="st-loading">${skeleton("form", 6, "Loading the studio")}</div>`);
  let frame = 0;
  const s = new Store(() => {
    frame ||= requestAnimationFrame(draw);
  });
  try {
    await Promise.all([s.loadCatalog(), session.characters().catch(() => [])]);
  } catch (error) {
    render(main, errorState(error, { title: "The studio could not be opened", action: "again" }));
    main.addEventListener(
      "click",
      (e) => {
        if (e.target.closest("[data-action=again]")) mount(main);
      },
      { once: true },
    );
    return;
  }
  main.replaceChildren();
  const form = element(html`<form class="st-panel" aria-label="What to draw" novalidate></form>`);
  const stage = element(html`<section class="st-stage" aria-label="Picture"></section>`);
  const queue = element(html`<aside class="st-queue" aria-label="Queue"></aside>`);
  const unfold = element(
    html`<button type="button" class="st-unfold" data-action="fold-queue" aria-label="Show the queue" title="Show the queue">${icon("tasks")}<span></span></button>`,
  );
  const shade = element(
    html`<div class="st-shade" aria-hidden="true"><p>${icon("download")}<strong>Drop the picture</strong><span>to read its recipe or to start from it</span></p></div>`,
  );
  const viewer = document.createElement("image-viewer");
  main.append(form, stage, queue, unfold, shade, viewer);

  function draw() {
    frame = 0;
    s.derive();
    render(form, panelView(s));
    render(stage, stageView(s));
    render(queue, queueView(s));
    unfold.lastElementChild.textContent = s.active.length || "";
    for (const el of stage.querySelectorAll(".st-frame")) {
      const w = Number(el.dataset.w) || 1,
        h = Number(el.dataset.h) || 1;
      const grow = Math.min(4, Math.max(1, 640 / Math.max(w, h))); // small pictures are shown larger, never huge and soft
      el.style.setProperty("--r", w / h);
      el.style.setProperty("--w", `${Math.round(w * grow)}px`);
    }
    const picked = stage.querySelector('.st-cell[aria-selected="true"]')?.dataset.key;
    if (picked !== draw.picked) {
      draw.picked = picked;
      keepInView(stage.querySelector(`.st-cell[data-key="${CSS.escape(picked ?? "")}"]`));
    }
  }

  await openFromAddress(s);
  s.derive();
  draw();
  const more = form.querySelector("#st-more");
  more.open = prefs.get("studioMore", false);
  more.addEventListener("toggle", () => prefs.set("studioMore", more.open), { signal });
  const wide = matchMedia("(min-width: 1280px)"); // narrower, the queue lies over the picture: closed until asked for
  const fold = (open) => {
    main.classList.toggle("is-folded", !open);
    if (wide.matches) prefs.set("studioQueue", open);
  };
  const foldByWidth = () => main.classList.toggle("is-folded", !(wide.matches && prefs.get("studioQueue", true)));
  foldByWidth();
  wide.addEventListener("change", foldByWidth, { signal });

  s.listen(signal);
  s.compose();
  s.advise();
  s.loadInit();
  s.loadItems();
  s.loadFailed();
  s.onErrors = (names) => {
    if (
      names.some(
        (n) => !["prompt", "negativePrompt", "width", "height", "batchSize", "denoise", "initImageMediaId", "characterId"].includes(n),
      )
    )
      more.open = true;
    requestAnimationFrame(() => requestAnimationFrame(() => form.querySelector('[aria-invalid="true"]')?.focus()));
  };
  s.onDone = (task) => {
    if (document.hidden || !stage.checkVisibility()) toast.info(`${task.title} is ready`);
  };

  // ------------------------------------------------------------ the form
  form.addEventListener("input", (event) => change(s, event.target), { signal });
  form.addEventListener("change", (event) => choose(s, event.target), { signal });
  form.addEventListener(
    "submit",
    (event) => {
      event.preventDefault();
      go();
    },
    { signal },
  );
  const go = () =>
    busy(form.querySelector("#st-go"), async () => {
      s.keepNow();
      const { prompt } = s.form;
      if (await s.generate()) {
        s.remember(prompt.trim());
        walked = -1;
        if (matchMedia("(max-width: 899px)").matches) requestAnimationFrame(() => stage.scrollIntoView({ block: "start" }));
      }
    });

  let walked = -1,
    typed = "";
  const walk = (by) => {
    if (!s.history.length) return;
    if (walked < 0) typed = s.form.prompt;
    const at = Math.max(-1, Math.min(s.history.length - 1, walked + by));
    if (at === walked) return;
    walked = at;
    write(at < 0 ? typed : s.history[at]);
  };
  const write = (text) => {
    const area = form.querySelector("#st-prompt");
    s.set({ prompt: text });
    area.value = text;
    area.focus();
    area.setSelectionRange(text.length, text.length);
  };
  form.addEventListener(
    "keydown",
    (event) => {
      if (event.target.id !== "st-prompt" || !event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
      event.preventDefault();
      walk(event.key === "ArrowUp" ? 1 : -1);
    },
    { signal },
  );

  // ------------------------------------------------------------ actions
  const seed = () => crypto.getRandomValues(new Uint32Array(1))[0];
  const withLoras = (fn) => {
    const list = s.v.loras.map((use) => ({ name: use.name, strength: use.strength }));
    s.set({ loras: fn(list) ?? list });
  };
  const onItem = (name) => (_e, el) => {
    const item = s.current;
    if (item) return busy(el.matches("button") ? el : form.querySelector("#st-go"), async () => actions[name](s, item, el.dataset));
  };
  onAction(
    main,
    {
      character: (_e, el) => {
        session.choose(el.dataset.id);
        pickCharacter(el.dataset.id);
      },
      "clear-prompt": () => write(""),
      "old-prompt": (_e, el) => write(s.history[Number(el.dataset.i)]),
      idea: (_e, el) => write(el.dataset.text),
      unraw: () => s.set(compose(s.form, s.character)),
      "copy-composed": () => copyText(s.composed.prompt, "Prompt copied"),
      shape: (_e, el) =>
        s.tune({
          shape: el.dataset.id,
          ...(el.dataset.id === "custom"
            ? { width: s.v.width ?? s.found.model.defaults.width, height: s.v.height ?? s.found.model.defaults.height }
            : {}),
        }),
      swap: () => s.tune({ shape: "custom", width: s.v.height, height: s.v.width }),
      count: (_e, el) => s.set({ batchSize: Math.max(1, Math.min(8, s.form.batchSize + Number(el.dataset.step))) }),
      engine: (_e, el) =>
        s.set({
          engine: el.dataset.id,
          model: el.dataset.id !== "auto" && s.found.model && s.found.model.engine !== el.dataset.id ? "" : s.form.model,
        }),
      "use-builtin": (_e, el) => {
        const { body } = s.view;
        s.set({ engine: "builtin", model: "" });
        if (s.found.missing && s.found.standard) s.set({ model: s.found.standard.name });
        if (el.dataset.again && body) againWith(body);
      },
      "use-standard": (_e, el) => {
        const { body } = s.view;
        s.set({ model: s.found.standard.name });
        if (el.dataset.again && body) againWith(body);
      },
      "check-engines": (_e, el) => busy(el, () => s.loadCatalog().catch((error) => toast.error(error))),
      "lora-remove": (_e, el) =>
        withLoras((list) => {
          list.splice(Number(el.dataset.i), 1);
        }),
      "lora-inherit": () => s.set({ loras: null }),
      "add-word": (_e, el) => {
        if (!s.form.prompt.includes(el.dataset.word)) s.set({ prompt: [el.dataset.word, s.form.prompt].filter(Boolean).join(", ") });
      },
      "seed-lock": () => s.set(s.form.seedLocked ? { seedLocked: false } : { seedLocked: true, seed: s.form.seed ?? s.lastSeed ?? seed() }),
      "seed-dice": () => s.set({ seedLocked: true, seed: seed() }),
      "seed-last": () => s.set({ seedLocked: true, seed: s.lastSeed }),
      "clear-init": () => s.set({ initMediaId: "" }),
      "pick-init": async () => {
        const item = await pickFromGallery(s);
        if (item) s.set({ initMediaId: item.id });
      },
      "reset-model": () => {
        const before = s.form;
        const tuned = { ...s.form.tuned };
        delete tuned[modelKey(s.found.model)];
        s.set({ tuned });
        toast.success("Back to the defaults of the model", { undo: () => s.set(before) });
      },
      "model-kinds": (_e, el) =>
        busy(el, async () => {
          if (await modelKinds(s.catalog.models)) await s.loadCatalog();
        }),
      "reset-all": () => {
        const before = s.form;
        s.errors = {};
        s.set({ ...fresh(), characterId: before.characterId });
        toast.success("The form is empty again", { undo: () => s.set(before) });
      },
      "curl-form": () => copyCurl(asCall(toRequest(s.form, s.found, s.character))),
      "reload-items": () => s.loadItems(),
      show: (_e, el) => s.show(el.dataset.id),
      "show-live": () => {
        s.view = { kind: "live" };
        s.changed();
      },
      "show-batch": () => {
        const ids = s.batchOf(s.current);
        s.view = { kind: "batch", ids, id: ids[0] };
        s.changed();
      },
      dismiss: () => s.show(""),
      zoom,
      "cancel-task": (_e, el) => busy(el, () => cancel(el.dataset.id).catch((error) => toast.error(error))),
      "cancel-waiting": (_e, el) =>
        busy(el, async () => {
          const all = await Promise.allSettled(s.active.filter((t) => t.status === "queued").map((t) => cancel(taskId(t))));
          const bad = all.find((r) => r.status === "rejected");
          if (bad) toast.error(bad.reason);
        }),
      "retry-task": (_e, el) =>
        busy(el, async () => {
          try {
            const task = await retry(el.dataset.id);
            s.started(task, s.mine.get(el.dataset.id) ?? {});
          } catch (error) {
            toast.error(error);
          }
        }),
      "forget-failed": () => s.forgetFailed(),
      "fold-queue": () => {
        fold(main.classList.contains("is-folded"));
        (main.classList.contains("is-folded") ? unfold : queue.querySelector(".st-fold"))?.focus();
      },
      ...Object.fromEntries(Object.keys(actions).map((name) => [name, onItem(name)])),
    },
    { signal },
  );

  /** The same wish with the engine or model the form has now. */
  function againWith(body) {
    const { engine: _e, model: _m, sampler: _s, scheduler: _c, width: _w, height: _h, ...rest } = body;
    const now = toRequest(s.form, s.found, s.character);
    s.generate({ ...rest, engine: now.engine, model: now.model, width: now.width, height: now.height });
  }
  async function pickCharacter(id) {
    if (id === s.form.characterId) return;
    s.set({ characterId: id });
    url.set({ character: null, characterId: null });
    s.view = s.view.kind === "live" && s.live ? s.view : { kind: "item", id: "" };
    await s.loadItems();
  }
  function zoom() {
    const list = s.items ?? [],
      at = list.findIndex((i) => i.id === s.current?.id);
    if (at >= 0) viewer.open(list, at, { total: list.length });
  }
  viewer.details = null;
  viewer.addEventListener(
    "image-viewer:change",
    ({ detail }) => {
      s.show(detail.item.id);
    },
    { signal },
  );
  viewer.addEventListener(
    "image-viewer:star",
    ({ detail }) => {
      viewer.patch(detail.item.id, { starred: detail.starred });
      actions.star(s, detail.item);
    },
    { signal },
  );
  viewer.addEventListener(
    "image-viewer:delete",
    ({ detail }) => {
      viewer.remove(detail.item.id);
      actions.trash(s, detail.item);
    },
    { signal },
  );

  document.addEventListener("session:characters", () => s.changed(), { signal });
  document.addEventListener("session:character", ({ detail }) => pickCharacter(detail.id), { signal });
  addEventListener("pagehide", () => s.keepNow(), { signal });
  watchIntake(main, s, { signal });
  stage.addEventListener(
    "keydown",
    (event) => {
      // the strip holds the focus: move it with the selection
      if (!event.target.closest(".st-strip") || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key === "Home") s.show(s.items[0]?.id ?? "");
      else if (event.key === "End") s.show(s.items.at(-1)?.id ?? "");
      else s.step(event.key === "ArrowRight" ? 1 : -1);
      requestAnimationFrame(() => requestAnimationFrame(() => stage.querySelector('.st-cell[aria-selected="true"]')?.focus()));
    },
    { signal },
  );

  const has = () => Boolean(s.current) && s.view.kind !== "problem";
  const key = (keys, label, name) => ({ keys, label, when: has, run: () => actions[name](s, s.current) });
  registerKeys(
    "Studio",
    [
      { keys: "mod+enter", label: "Generate" },
      { keys: "alt+ArrowUp", label: "Earlier prompt (in the prompt)" },
      { keys: "alt+ArrowDown", label: "Later prompt (in the prompt)" },
      {
        keys: "p",
        label: "Write in the prompt",
        run: () => {
          const area = form.querySelector("#st-prompt");
          area.focus();
          area.setSelectionRange(area.value.length, area.value.length);
        },
      },
      { keys: "ArrowLeft", label: "Newer picture", run: () => s.step(-1) },
      { keys: "ArrowRight", label: "Older picture", run: () => s.step(1) },
      { keys: "z", label: "Open large", when: has, run: zoom },
      key(".", "Star", "star"),
      key("v", "Vary subtle", "vary-subtle"),
      key("shift+v", "Vary strong", "vary-strong"),
      key("u", "Upscale 2×", "upscale"),
      key("r", "Recall everything", "recall-all"),
      key("i", "Start from it", "as-init"),
      key("o", "Post", "post"),
      key("Delete", "Move to the trash", "trash"),
      {
        keys: "x",
        label: "Cancel what is being drawn",
        when: () => Boolean(s.live),
        run: () => cancel(taskId(s.live.task)).catch((error) => toast.error(error)),
      },
    ],
    { signal },
  );
  form.addEventListener(
    "change",
    async (event) => {
      if (event.target.id !== "st-init-file" || !event.target.files[0]) return;
      const item = await upload(event.target.files[0]);
      event.target.value = "";
      if (item) {
        s.put(item);
        s.set({ initMediaId: item.id });
      }
    },
    { signal },
  );
}

/** ?character= (or characterId=) ?recall= ?prompt= ?init= ?media=: how other pages send people here. */
async function openFromAddress(s) {
  const { recall, prompt, init, media, characterId, character = characterId } = url.all();
  const changes = {};
  if (character !== undefined) {
    changes.characterId = session.find(character) ? character : "";
    session.choose(changes.characterId);
  } else if (s.form.characterId && !session.find(s.form.characterId)) changes.characterId = "";
  else if (!s.form.characterId && session.characterId && session.find(session.characterId)) changes.characterId = session.characterId;
  if (prompt) Object.assign(changes, { prompt, rawPrompt: false });
  if (init) changes.initMediaId = init;
  if (Object.keys(changes).length) s.set(changes);
  const shown = media || recall;
  if (shown) {
    s.view = { kind: "item", id: shown };
    try {
      s.extra = await api.get(`/api/media/${encodeURIComponent(shown)}`);
    } catch {
      s.view = { kind: "item", id: "" };
    }
  }
  if (recall) {
    try {
      const answer = await api.get(`/api/media/${encodeURIComponent(recall)}/recipe`);
      s.recall(answer.request, { typed: answer.recipe.userPrompt ?? null });
    } catch (error) {
      toast.error(error instanceof ApiError ? error : "The picture could not be recalled.");
    }
  }
  url.set({ recall: null, prompt: null, init: null });
}

/** Typing. */
function change(s, el) {
  const { field, tune, lora } = el.dataset;
  if (field === "seed") {
    const digits = el.value.replace(/\D/g, "").slice(0, 15);
    if (digits !== el.value) el.value = digits;
    s.set(digits === "" ? { seedLocked: false, seed: null } : { seedLocked: true, seed: Number(digits) });
  } else if (field === "denoise") s.set({ denoise: Number(el.value) });
  else if (field) s.set({ [field]: el.value });
  else if (tune && el.value !== "" && Number.isFinite(Number(el.value)))
    s.tune({
      [tune]: Number(el.value),
      ...(tune === "width" || tune === "height" ? { shape: "custom", width: s.v.width, height: s.v.height, [tune]: Number(el.value) } : {}),
    });
  else if (lora !== undefined && el.value !== "" && Number.isFinite(Number(el.value)))
    s.set({ loras: s.v.loras.map((use, i) => ({ name: use.name, strength: i === Number(lora) ? Number(el.value) : use.strength })) });
}

/** Choosing in a list. */
function choose(s, el) {
  const { pick } = el.dataset;
  if (pick === "model") {
    const [engine, ...rest] = el.value.split(":");
    const name = rest.join(":");
    s.set({ model: name });
    if (name && s.found.model && s.found.model.engine !== engine) s.set({ engine });
  } else if (pick === "lora" && el.value) {
    s.set({ loras: [...s.v.loras.map((use) => ({ name: use.name, strength: use.strength })), { name: el.value, strength: 1 }] });
    el.value = "";
  } else if (pick) s.tune({ [pick]: el.value });
}

function keepInView(el) {
  const row = el?.closest(".st-strip");
  if (!row) return;
  const left = el.offsetLeft - row.offsetLeft,
    right = left + el.offsetWidth;
  if (left < row.scrollLeft || right > row.scrollLeft + row.clientWidth)
    row.scrollTo({
      left: left - row.clientWidth / 2 + el.offsetWidth / 2,
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth",
    });
}
