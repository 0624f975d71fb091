/** The state of the studio and what changes it: form, catalog, tasks, pictures. No markup; `changed` asks the page to draw. */
import { api, idempotencyKey, isAbort, NetworkError } from "../../api.js";
import { debounce, url } from "../../dom.js";
import { stream, tasks } from "../../jobs.js";
import { toast } from "../../notices.js";
import { draft, prefs } from "../../prefs.js";
import { session } from "../../session.js";
import { isFinished, taskId } from "../../tasks.js";
import { advice, adviceKey } from "./advice.js";
import { fresh, fromRequest, learnSpeed, resolve, sameName, toRequest, tune, values } from "./wish.js";

export const KINDS = new Set(["generate_image", "upscale_image"]);
const kept = { form: draft("studio"), history: draft("studio.history"), speed: draft("studio.speed") };
const STRIP = 40;

export class Store {
  catalog = { models: [], loras: [], engines: [] };
  form = { ...fresh(), ...kept.form.load() };
  history = kept.history.load() ?? [];
  speed = kept.speed.load() ?? {};
  errors = {};
  errorLine = "";
  composed = null;
  advice = [];
  items = null;
  itemsError = null;
  initItem = null;
  view = { kind: "item", id: "" };
  mine = new Map(); // taskId -> {body, source?, key}
  failed = [];
  said = "";
  session = new Set(readSession());
  #results = new Map(); // mediaId -> {durationMs, notes, ids}
  #seen = new Map(); // taskId -> last status told
  #quarter = -1;
  #key = null;
  #asked = 0;
  #advised = "";

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.derive();
  }

  // ------------------------------------------------------------ derived

  get characters() {
    return session.known;
  }
  find(id) {
    return (this.items ?? []).find((i) => i.id === id) ?? (this.extra?.id === id ? this.extra : null);
  }
  get current() {
    return (
      this.find(this.view.id) ??
      (this.view.kind === "item" || this.view.kind === "live" || this.view.kind === "batch" ? ((this.items ?? [])[0] ?? null) : null)
    );
  }
  get active() {
    return tasks.active().filter((t) => KINDS.has(t.kind));
  }
  get lastSeed() {
    const hit =
      (this.items ?? []).find((i) => this.session.has(i.id) && i.seed !== null && i.seed !== undefined) ??
      (this.items ?? []).find((i) => i.seed !== null && i.seed !== undefined);
    return hit ? hit.seed : null;
  }
  /** The task the stage follows: the running one, else the next of ours. */
  get live() {
    const active = this.active;
    const task = active.find((t) => t.status === "running") ?? active[0];
    if (!task) return null;
    const mine = this.mine.get(taskId(task));
    const d = this.found.model?.defaults;
    return {
      task,
      source: mine?.source ?? null,
      width: mine?.body?.width ?? mine?.source?.width ?? d?.width ?? 1,
      height: mine?.body?.height ?? mine?.source?.height ?? d?.height ?? 1,
    };
  }
  labelOf(name) {
    return this.catalog.models.find((m) => sameName(m.name, name))?.label.replace(/ \(.*\)$/, "") ?? name;
  }
  took(item) {
    return this.#results.get(item.id)?.durationMs ?? null;
  }
  notes(item) {
    return this.#results.get(item.id)?.notes ?? [];
  }
  batchOf(item) {
    return (
      this.#results.get(item.id)?.ids ?? (item.taskId ? (this.items ?? []).filter((i) => i.taskId === item.taskId).map((i) => i.id) : [])
    );
  }

  derive() {
    this.character = session.find(this.form.characterId) ?? null;
    this.found = resolve(this.catalog, this.form, this.form.rawPrompt && this.form.model ? null : this.character);
    this.v = values(this.form, this.found.model, this.character);
    const comfy = this.catalog.engines.find((e) => e.name === "comfyui");
    const builtin = this.catalog.engines.some((e) => e.name === "builtin" && e.available);
    const wants =
      this.form.engine === "comfyui" || (this.found.missing && this.form.engine !== "builtin") || (!this.found.model && !builtin);
    this.banner =
      comfy && !comfy.available && wants && this.catalog.engines.length
        ? {
            title: "ComfyUI does not answer",
            text: [
              comfy.detail?.url && !comfy.reason?.includes(comfy.detail.url) && `Address: ${comfy.detail.url}.`,
              comfy.reason,
              comfy.remedy,
            ]
              .filter(Boolean)
              .join(" "),
            builtin,
          }
        : null;
  }

  /** What may help with a problem. */
  fixes(error) {
    const fields = new Set((error.errors ?? []).map((e) => e.field));
    const engine = fields.has("engine") || ["unavailable", "upstream_error", "timed_out", "not_configured"].includes(error.code);
    return {
      builtin: (engine || fields.has("model")) && this.form.engine !== "builtin" && this.found.model?.engine !== "builtin",
      model: fields.has("model") && Boolean(this.found.standard),
      monitoring: engine,
    };
  }

  // ------------------------------------------------------------ form

  /** Change the form; drawn, kept and composed again. */
  set(changes) {
    this.form = { ...this.form, ...changes };
    for (const name of Object.keys(changes)) {
      delete this.errors[name];
      if (name === "loras") this.errors = Object.fromEntries(Object.entries(this.errors).filter(([k]) => !k.startsWith("loras")));
    }
    if ("initMediaId" in changes) {
      delete this.errors.initImageMediaId;
      this.loadInit();
    }
    this.#after();
  }
  tune(changes) {
    if (!this.found.model) return;
    this.form = tune(this.form, this.found.model, changes);
    for (const name of Object.keys(changes)) delete this.errors[name];
    if (changes.shape) {
      delete this.errors.width;
      delete this.errors.height;
    }
    this.#after();
  }
  #after() {
    this.derive();
    this.#keep();
    this.compose();
    this.advise();
    this.changed();
  }
  #keep = debounce(() => kept.form.save(this.form), 250);
  keepNow() {
    this.#keep.flush();
  }

  recall(request, { typed = null } = {}) {
    const { form, missing } = fromRequest(request, this.form, this.catalog);
    form.typed = typed;
    this.errors = {};
    const before = this.form;
    this.form = form;
    this.loadInit();
    this.#after();
    if (missing) toast.info(`“${missing}” is not among the models that can be used now.`, { detail: "Choose another one under More." });
    else
      toast.success("Recalled", {
        undo: () => {
          this.form = before;
          this.loadInit();
          this.#after();
        },
      });
  }

  remember(prompt) {
    if (!prompt) return;
    this.history = [prompt, ...this.history.filter((p) => p !== prompt)].slice(0, 100);
    kept.history.save(this.history);
  }

  /** Ask what should be known before drawing, when something that matters to it changed. */
  advise = debounce(async () => {
    const key = adviceKey(this);
    if (key === this.#advised) return;
    this.#advised = key;
    const lines = await advice(this);
    if (key !== this.#advised) return;
    this.advice = lines;
    this.changed();
  }, 400);

  compose = debounce(async () => {
    const { characterId, prompt, negativePrompt, rawPrompt, loras } = this.form;
    if (!characterId || rawPrompt) {
      this.composed = null;
      this.changed();
      return;
    }
    const asked = (this.#asked += 1);
    try {
      const composed = await api.post("/api/generate-image/preview-prompt", { characterId, prompt, negativePrompt, loras });
      if (asked === this.#asked) {
        this.composed = composed;
        this.changed();
      }
    } catch {
      if (asked === this.#asked) {
        this.composed = null;
        this.changed();
      }
    } // only a preview: Generate says what is wrong
  }, 250);

  async loadInit() {
    const id = this.form.initMediaId;
    if (!id) {
      this.initItem = null;
      return;
    }
    if (this.initItem?.id === id) return;
    this.initItem = this.find(id);
    if (this.initItem) return;
    try {
      const item = await api.get(`/api/media/${encodeURIComponent(id)}`);
      if (this.form.initMediaId === id) {
        this.initItem = item;
        this.changed();
      }
    } catch (error) {
      if (error.status === 404 && this.form.initMediaId === id) this.set({ initMediaId: "" });
    }
  }

  // ------------------------------------------------------------ reading

  async loadCatalog() {
    this.catalog = await api.get("/api/models");
    this.derive();
    this.changed();
  }

  async loadItems() {
    const characterId = this.form.characterId;
    try {
      const page = await api.get("/api/media", { query: { limit: STRIP, characterId } });
      if (characterId !== this.form.characterId) return;
      const mine = (this.items ?? []).filter((i) => this.session.has(i.id) && !page.items.some((p) => p.id === i.id));
      this.items = [...page.items, ...mine].sort((a, b) => String(b.createdAt).localeCompare(String(a.createdAt)));
      this.itemsError = null;
    } catch (error) {
      if (!isAbort(error)) this.itemsError = error;
    }
    this.changed();
  }

  async loadFailed() {
    try {
      const pages = await Promise.all(
        [...KINDS].map((kind) => api.get("/api/tasks", { query: { kind, status: "failed,interrupted", limit: 5 } })),
      );
      const since = prefs.get("studioForgot", "");
      const day = new Date(Date.now() - 864e5).toISOString();
      this.failed = pages
        .flatMap((p) => p.items)
        .filter((t) => (t.finishedAt ?? "") > since && (t.finishedAt ?? "") > day)
        .sort((a, b) => String(b.finishedAt).localeCompare(String(a.finishedAt)))
        .slice(0, 5);
      this.changed();
    } catch {
      /* the list is a convenience; new failures still come over the stream */
    }
  }
  forgetFailed() {
    prefs.set("studioForgot", new Date().toISOString());
    this.failed = [];
    this.changed();
  }

  // ------------------------------------------------------------ pictures

  put(item) {
    const list = this.items ?? [];
    const i = list.findIndex((x) => x.id === item.id);
    this.items = i < 0 ? [item, ...list].slice(0, 400) : list.map((x) => (x.id === item.id ? { ...x, ...item } : x));
    this.changed();
  }
  drop(id) {
    const list = this.items ?? [],
      at = list.findIndex((i) => i.id === id);
    if (at < 0) return;
    this.items = list.filter((i) => i.id !== id);
    if (this.view.id === id) this.show(this.items[Math.min(at, this.items.length - 1)]?.id ?? "");
    this.changed();
  }
  show(id) {
    this.view = { kind: "item", id };
    url.set({ media: id && id !== this.items?.[0]?.id ? id : null });
    this.changed();
  }
  step(by) {
    const list = this.items ?? [],
      at = list.findIndex((i) => i.id === this.current?.id);
    if (this.view.kind === "live") {
      if (by > 0 && list.length) this.show(list[0].id);
      return;
    }
    const next = at + by;
    if (next < 0 && this.live) {
      this.view = { kind: "live" };
      this.changed();
    } else if (list[next]) this.show(list[next].id);
  }

  // ------------------------------------------------------------ drawing

  /** Ask for pictures. The intention keeps its key until the server has answered. */
  async generate(body = toRequest(this.form, this.found, this.character), more = {}) {
    const text = JSON.stringify(body);
    if (this.#key?.text !== text) this.#key = { text, key: idempotencyKey() };
    this.errors = {};
    try {
      const answer = await api.post("/api/generate-image", body, { query: { async: 1 }, idempotencyKey: this.#key.key });
      this.#key = null;
      this.started(answer, { body, ...more });
      return answer;
    } catch (error) {
      if (!(error instanceof NetworkError)) this.#key = null;
      this.failedToStart(error, body);
      return null;
    }
  }
  started(answer, mine) {
    const id = answer.taskId ?? answer.id;
    this.mine.set(id, mine);
    const known = tasks.get(id);
    if (!known)
      tasks.update({ status: "queued", kind: mine.kind ?? "generate_image", title: mine.title ?? "Picture", ...answer, taskId: id });
    this.view = { kind: "live" };
    this.#quarter = -1;
    this.said = "Queued";
    if (known && isFinished(known)) {
      this.#seen.delete(id);
      this.onTask(known);
    } // it ended before the answer came
    this.changed();
  }
  failedToStart(error, body) {
    const own = [
      "prompt",
      "negativePrompt",
      "width",
      "height",
      "batchSize",
      "seed",
      "denoise",
      "initImageMediaId",
      "steps",
      "cfgScale",
      "guidance",
      "sampler",
      "scheduler",
      "loras",
      "model",
      "engine",
      "characterId",
    ];
    for (const { field, message } of error.errors ?? []) {
      const name = String(field).replace(/^body\./, "");
      if (own.includes(name.split(".")[0])) this.errors[name] ??= message;
    }
    const names = Object.keys(this.errors);
    this.errorLine = names.length
      ? names.length === 1
        ? Object.values(this.errors)[0]
        : `${names.length} values do not fit. They are marked above.`
      : "";
    const fixable = this.fixes(error);
    if (!names.length || fixable.builtin || fixable.model) {
      this.view = { kind: "problem", error, body };
      if (names.length === 1) this.errorLine = "";
    }
    this.changed();
    this.onErrors?.(names);
  }

  /** A task changed: follow ours, list what failed, show what was made. */
  async onTask(task) {
    const id = taskId(task);
    if (!KINDS.has(task.kind)) return;
    const before = this.#seen.get(id);
    this.#seen.set(id, task.status);
    if (task.status === "running" && this.live && taskId(this.live.task) === id && task.total) {
      const quarter = Math.floor((task.progress ?? 0) * 4);
      if (quarter > this.#quarter) {
        this.#quarter = quarter;
        this.said = quarter > 0 ? `${quarter * 25} percent` : "Drawing";
      }
    }
    if (!isFinished(task)) this.failed = this.failed.filter((t) => taskId(t) !== id);
    if (isFinished(task) && before !== task.status) {
      this.#quarter = -1;
      if (task.status === "completed") await this.#completed(task, before !== undefined || this.mine.has(id));
      else this.#ended(task);
    }
    this.changed();
  }
  async #completed(task, fresh) {
    const id = taskId(task),
      r = task.result ?? {},
      ids = r.mediaIds ?? [];
    if (!fresh) return;
    ids.forEach((m) => {
      this.session.add(m);
      this.#results.set(m, { durationMs: r.durationMs, notes: r.notes ?? [], ids });
    });
    keepSession(this.session);
    await Promise.all(
      ids
        .filter((m) => !this.find(m))
        .map(async (m) => {
          try {
            this.put(await api.get(`/api/media/${encodeURIComponent(m)}`));
          } catch {
            /* thrown away meanwhile */
          }
        }),
    );
    const body = this.mine.get(id)?.body;
    if (task.kind === "generate_image" && r.model && body) {
      const model = this.catalog.models.find((m) => sameName(m.name, r.model));
      const steps = body.steps ?? model?.defaults?.steps;
      this.speed = learnSpeed(this.speed, {
        model: r.model,
        steps,
        batchSize: ids.length,
        width: r.width,
        height: r.height,
        durationMs: r.durationMs,
      });
      kept.speed.save(this.speed);
    }
    this.said = ids.length > 1 ? `${ids.length} pictures are ready` : "The picture is ready";
    const more = this.active.some((t) => this.mine.has(taskId(t)));
    if (this.view.kind === "live" && !more && ids.length)
      this.view = ids.length > 1 ? { kind: "batch", ids, id: ids[0] } : { kind: "item", id: ids[0] };
    this.onDone?.(task);
  }
  #ended(task) {
    const id = taskId(task);
    if (task.status === "cancelled") {
      this.said = "Cancelled";
      if (this.view.kind === "live" && !this.active.length) this.view = { kind: "item", id: "" };
      return;
    }
    this.failed = [task, ...this.failed.filter((t) => taskId(t) !== id)].slice(0, 8);
    this.said = "It failed";
    if (this.view.kind === "live" && this.mine.has(id))
      this.view = {
        kind: "problem",
        error: { ...(task.error ?? {}), detail: task.error?.detail ?? "It failed." },
        taskId: id,
        title: task.status === "interrupted" ? "It was interrupted" : "This could not be drawn",
        body: this.mine.get(id)?.body,
      };
  }

  /** Listen to what happens on the server. */
  listen(signal) {
    stream.on("task.updated", (task) => this.onTask(task), { signal });
    let first = true;
    stream.on(
      "snapshot",
      () => {
        // opened while something is being drawn: show that
        if (first && this.live?.task.status === "running" && this.view.kind === "item" && !this.view.id) this.view = { kind: "live" };
        first = false;
        this.changed();
      },
      { signal },
    );
    stream.on(
      "media.created",
      (item) => {
        if (!this.form.characterId || item.characterId === this.form.characterId || this.mine.has(item.taskId)) this.put(item);
      },
      { signal },
    );
    stream.on("media.updated", ({ ids }) => this.refresh(ids ?? []), { signal });
    stream.on("media.deleted", ({ ids, id }) => (ids ?? [id]).forEach((x) => this.drop(x)), { signal });
  }
  async refresh(ids) {
    for (const id of ids.filter((x) => this.find(x)).slice(0, 20)) {
      try {
        const item = await api.get(`/api/media/${encodeURIComponent(id)}`);
        if (item.trashedAt) this.drop(id);
        else this.put(item);
      } catch (error) {
        if (error.status === 404) this.drop(id);
      }
    }
  }
}

const SESSION = "dalla.studio.session";
function readSession() {
  try {
    return JSON.parse(sessionStorage.getItem(SESSION) ?? "[]");
  } catch {
    return [];
  }
}
function keepSession(ids) {
  try {
    sessionStorage.setItem(SESSION, JSON.stringify([...ids].slice(-200)));
  } catch {
    /* only the divider in the strip is lost */
  }
}
