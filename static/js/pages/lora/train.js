/** The Train tab: pictures, who, quality; what it will need and what speaks against it; start. */
import { api, idempotencyKey, isAbort } from "../../api.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";
import { copyCurl } from "../../curl.js";
import { busy, debounce, onAction, render, url } from "../../dom.js";
import { bytes, plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { stream } from "../../jobs.js";
import { draft } from "../../prefs.js";
import { session } from "../../session.js";
import { fillParams, formView, fromSource, hintParams, mark, noteParams, selects, sourceOf } from "./form.js";
import { DEFAULT_PRESET, FIELDS, fromText, groupOf, parse, PRESETS, setIn, toBody } from "./params.js";
import { picturesSection } from "./pictures.js";
import { factsOf, fixOf, isNote, pieces } from "./words.js";

const DEMO = "demo"; // the drawn character that comes with the app, in training_data/
const kept = draft("lora-train");
const fresh = () => ({ characterId: "", datasetId: "", trainingData: "", baseModel: "", name: "", triggerWord: "", params: { preset: DEFAULT_PRESET } });

/** @param {HTMLElement} root @param {{opened: (taskId: string) => void}} page */
export function trainTab(root, page) {
  let wish = fresh(),
    auto = { name: true, triggerWord: true },
    options = null,
    sets = null,
    datasets = null,
    laid = null, // {id, folder}: the folder that a dataset was written to for the estimate
    estimate = null,
    problem = null,
    failed = null,
    busyUpload = "",
    uploadFailed = [],
    turn = null,
    thinking = false,
    startKey = "",
    written = false, // JSON was typed that is not applied yet
    ready = null;
  const bad = new Map(); // fields whose text is no value
  const saved = kept.load();
  if (saved?.wish?.params) {
    wish = { ...fresh(), ...saved.wish };
    auto = { ...auto, ...saved.auto };
  }

  render(
    root,
    html`<div class="lo-train"><div class="lo-main">${formView()}<section class="panel stack-3 lo-set-pictures" hidden aria-label="Pictures of the training set"></section></div>
    <aside class="lo-side" aria-label="What it will need"><div class="lo-estimate"></div></aside></div>
    <div class="form-bar lo-start"><p class="lo-start-said small" role="status"></p><span class="spacer"></span><button type="button" class="btn btn-primary btn-large" data-action="start" data-needs="write" data-primary>${icon("bolt")}Start training</button></div>`,
  );
  const $ = (selector) => root.querySelector(selector);
  const form = $("form");
  const folder = () => (wish.datasetId ? (laid?.id === wish.datasetId ? laid.folder : "") : wish.trainingData);
  const datasetPage = (tab = "") => `/datasets.html?dataset=${encodeURIComponent(wish.datasetId)}${tab && `&tab=${tab}`}`;
  const pictures = picturesSection($(".lo-set-pictures"), { set: folder, elsewhere: () => (wish.datasetId ? datasetPage() : ""), trigger: () => estimate?.triggerWord ?? wish.triggerWord, changed: () => changed({ sets: true }) });

  // ---------------------------------------------------------------- painting

  function paintSelects() {
    const lists = selects({ wish, sets: sets ?? [], datasets: datasets ?? [], options, characters: session.known });
    for (const [name, markup] of Object.entries(lists)) {
      render(form.elements[name], markup);
      form.elements[name].value = name === "trainingData" ? sourceOf(wish) : (wish[name] ?? "");
    }
    $("[data-action=set-delete]").hidden = !wish.trainingData;
    $(".lo-new-set").hidden = Boolean(sourceOf(wish));
    $("drop-zone").hidden = Boolean(wish.datasetId);
    $(".lo-from").hidden = !wish.datasetId;
    render($(".lo-from"), html`${wish.datasetId && html`Pictures and captions come from the dataset as it is when the training starts. <a href="${datasetPage()}">Open the dataset</a>`}`);
    const who = session.find(wish.characterId)?.name ?? "";
    $("#lo-new-set").placeholder = who || "pictures";
    const model = options?.baseModels.find((m) => m.name === (wish.baseModel || estimate?.baseModel));
    $(".lo-model-note").textContent = model ? [wish.baseModel ? "" : `Uses ${model.label}.`, model.note, model.nativeSize ? `Made for ${model.nativeSize} px.` : ""].filter(Boolean).join(" ") : "The model the character is drawn with.";
  }
  function paintFields() {
    for (const name of ["name", "triggerWord"]) {
      const el = form.elements[name];
      if (el !== document.activeElement) el.value = auto[name] ? (estimate?.[name] ?? "") : wish[name];
    }
    fillParams(form, wish, bad);
    hintParams(form, wish, estimate?.config);
    noteParams(form, problem ? [] : (estimate?.checks ?? []));
    paintWritten();
    if (!written && document.activeElement !== $("#lo-json")) $("#lo-json").value = JSON.stringify(toBody(wish, auto), null, 2);
  }
  const paintWritten = () => { $("#lo-json-note").textContent = written ? "Not applied yet. “Use this” puts it into the form; emptied, it shows the form again." : ""; };
  function paintUpload() {
    render(
      $(".lo-upload"),
      html`${busyUpload && html`<p class="small">${icon("upload")} ${busyUpload}</p>`}${uploadFailed.length > 0 && html`<details open><summary class="small">${plural(uploadFailed.length, "file")} could not be used</summary><ul class="small consequences">${uploadFailed.map((f) => html`<li><span class="mono">${f.id}</span>: ${f.detail}</li>`)}</ul></details>`}`,
    );
  }
  /** What is wrong with a dataset's pictures is mended in the dataset: the folder is only written from it. */
  function fixInDataset(check) {
    const fix = fixOf(check);
    const named = { "remove-copies": ["clean", "Clean the dataset"], "focus-drop": ["images", "Add pictures to the dataset"] }[fix?.act] ?? (fix?.value === "no_caption" ? ["captions", "Write captions in the dataset"] : null);
    return named ? { href: datasetPage(named[0]), label: named[1] } : fix;
  }
  const checkRow = (check) => {
    const group = groupOf(check.field ?? "");
    const fix = group ? { label: "Open the setting", act: "open-group", value: group } : wish.datasetId ? fixInDataset(check) : fixOf(check);
    const tone = check.level === "error" ? "bad" : isNote(check) ? "info" : "warn";
    return html`<li class="lo-check is-${tone}" data-key="${check.code}${check.field ?? ""}">${icon({ bad: "error", warn: "alert", info: "info" }[tone], { bad: "Stops the training", warn: "Warning", info: "Note" }[tone])}<div><p>${check.message}</p>${check.fix && html`<p class="small muted">${check.fix}</p>`}${fix && (fix.href ? html`<a class="btn btn-small" href="${fix.href}">${fix.label}</a>` : html`<button type="button" class="btn btn-small" data-action="${fix.act}" data-value="${fix.value ?? ""}">${fix.label}</button>`)}</div></li>`;
  };
  function paintEstimate() {
    const side = $(".lo-estimate");
    const blocked = whyNot();
    if (failed && !options) render(side, errorState(failed, { title: "The page could not be loaded", action: "reload" }));
    else if (!options || (!estimate && thinking)) render(side, html`<section class="panel">${skeleton("lines", 8)}</section>`);
    else if (!sourceOf(wish) && !problem) render(side, html`<section class="panel">${emptyState({ icon: "image", title: "Begin with pictures", text: "Drop 10 to 30 pictures of one character, or choose a training set. What the training will need is shown here before it starts.", action: (sets ?? []).some((s) => s.name === DEMO) ? { label: "Try the demo pictures", action: "use-demo", icon: "image" } : undefined, compact: true })}</section>`);
    else if (problem)
      render(
        side,
        html`<section class="panel lo-problem-panel" role="alert"><h2>${icon("alert")}This cannot start yet</h2><p>${problem.message}</p>${problem.remedy && html`<p class="small muted">${problem.remedy}</p>`}${problem.problem?.suggestion && html`<button type="button" class="btn btn-small" data-action="use-name" data-value="${problem.problem.suggestion}">Use ${problem.problem.suggestion}</button>`}${problem.code === "network" && html`<button type="button" class="btn btn-small" data-action="again">${icon("refresh")}Try again</button>`}</section>`,
      );
    else if (estimate)
      render(
        side,
        html`<section class="panel ${thinking ? "is-old" : ""}"><header class="panel-head"><h2>What it will need</h2></header><dl class="lo-facts">${factsOf(estimate).map(([label, value, note]) => html`<div data-key="${label}"><dt>${label}</dt><dd><strong>${value}</strong>${note && html`<span class="small muted">${note}</span>`}</dd></div>`)}</dl>
      ${estimate.waiting > 0 && html`<p class="small muted">${icon("clock")} ${plural(estimate.waiting, "task")} before it; the GPU does one thing at a time.</p>`}
      <details class="lo-buckets"><summary class="small">${plural(estimate.buckets.length, "bucket")}</summary><ul class="small muted">${estimate.buckets.map((b) => html`<li>${b.width} × ${b.height}: ${plural(b.pictures, "picture")}, ${plural(b.batches, "batch", "batches")}</li>`)}</ul></details>
      <details class="lo-buckets"><summary class="small">Where the memory goes</summary><ul class="small muted">${Object.entries(estimate.memory?.parts ?? {}).map(([key, value]) => html`<li>${{ weights: "Base model", lora: "LoRA and optimizer", activations: "Activations", overhead: "Program", caching: "Preparing the pictures (before)" }[key] ?? key}: ${bytes(value)}</li>`)}</ul></details></section>
      <section class="panel"><header class="panel-head"><h2>Before you start</h2></header>${estimate.checks.length ? html`<ul class="lo-checks">${estimate.checks.map(checkRow)}</ul>` : html`<p class="lo-clear">${icon("ok")} Nothing speaks against it.</p>`}</section>`,
      );
    const start = $("[data-action=start]");
    start.disabled = Boolean(blocked);
    $(".lo-start-said").textContent = blocked || (estimate ? `${plural(estimate.pictures, "picture")}, ${plural(estimate.steps, "step")}${estimate.waiting ? `, after ${plural(estimate.waiting, "task")}` : ""}` : "");
  }
  function whyNot() {
    if (options && !options.available) return `${options.reason} ${options.remedy ?? ""}`;
    if (busyUpload) return "Pictures are being uploaded.";
    if (bad.size) return "A setting is not a value.";
    if (problem) return problem.message;
    if (!sourceOf(wish)) return "Choose pictures first.";
    if (!estimate) return thinking ? "Working out what it needs…" : "Choose pictures first.";
    return estimate.checks.find((c) => c.level === "error")?.message ?? "";
  }
  function paint() {
    paintSelects();
    paintFields();
    paintUpload();
    paintEstimate();
  }

  // ---------------------------------------------------------------- asking

  const fieldsOf = (error) => (error.errors ?? []).map((e) => (e.field === "datasetId" ? { ...e, field: "trainingData" } : e));
  const badErrors = () => [...bad].map(([field, message]) => ({ field, message }));
  async function ask() {
    turn?.abort();
    if (!options || bad.size) {
      mark(form, badErrors());
      return paintEstimate();
    }
    if (!sourceOf(wish)) {
      estimate = problem = null;
      pictures.show([], []);
      mark(form, []);
      return paint();
    }
    const mine = (turn = new AbortController());
    thinking = true;
    paintEstimate();
    try {
      const asked = wish.datasetId;
      const body = toBody(wish, auto);
      if (asked && laid?.id === asked) {
        delete body.datasetId; // it was written a moment ago; only the start writes it anew
        body.trainingData = laid.folder;
      }
      const answer = await api.post("/api/lora/estimate", body, { signal: mine.signal });
      if (mine !== turn) return undefined;
      estimate = answer;
      if (asked) laid = { id: asked, folder: answer.trainingData };
      problem = null;
      mark(form, []);
      pictures.show(answer.images, answer.skipped);
    } catch (error) {
      if (isAbort(error) || mine !== turn) return undefined;
      problem = error;
      if (error.status === 404) laid = null; // the folder was deleted meanwhile: the next try writes it again
      const errors = error.code === "conflict" && error.problem?.suggestion ? [{ field: "name", message: error.message }] : fieldsOf(error);
      mark(form, errors);
      for (const e of errors) openGroup(groupOf(e.field ?? ""));
      if (error.status === 404 || errors.some((e) => e.field === "trainingData")) pictures.show([], []);
      else if (folder() && (!estimate || estimate.trainingData !== folder())) await showSet(mine);
    } finally {
      if (mine === turn) thinking = false;
    }
    return mine === turn ? paint() : undefined;
  }
  /** The pictures alone, when the rest of the wish cannot be worked out. */
  async function showSet(mine) {
    try {
      const report = await api.get(`/api/lora/training-data/${encodeURIComponent(folder())}`, { signal: mine.signal });
      if (mine === turn) pictures.show(report.images, report.skipped);
    } catch {
      /* the panel says what is wrong */
    }
  }
  const soon = debounce(ask, 350);
  async function loadSets() {
    [sets] = await Promise.all([api.get("/api/lora/training-data"), loadDatasets()]);
  }
  async function loadDatasets() {
    try {
      datasets = (await api.get("/api/datasets", { query: { limit: 200 } })).items;
      if (wish.datasetId && !datasets.some((d) => d.id === wish.datasetId)) datasets = [...datasets, await api.get(`/api/datasets/${encodeURIComponent(wish.datasetId)}`)];
    } catch {
      datasets ??= []; // folders can still be trained with; a dataset that is gone is told by the estimate
    }
  }
  /** Take pictures from a folder or a dataset; a dataset brings its character and its trigger word. */
  function chooseSource(value) {
    wish = { ...wish, ...fromSource(value) };
    const set = datasets?.find((d) => d.id === wish.datasetId);
    if (set?.characterId && !wish.characterId) wish = { ...wish, characterId: set.characterId };
    if (set?.triggerWord && auto.triggerWord) {
      wish = { ...wish, triggerWord: set.triggerWord };
      auto = { ...auto, triggerWord: false };
    }
  }
  /** Something about the wish or its pictures is new. */
  async function changed({ sets: again = false, now = false } = {}) {
    startKey = "";
    kept.save({ wish, auto });
    if (again) await loadSets().catch((error) => toast.error(error));
    paint();
    if (now || again) return ask();
    return soon();
  }

  async function load() {
    failed = null;
    try {
      [options] = await Promise.all([api.get("/api/lora/options"), loadSets(), session.characters().catch(() => [])]);
    } catch (error) {
      failed = error;
      sets ??= [];
      return paint();
    }
    if (wish.characterId && session.known.length && !session.find(wish.characterId)) wish = { ...wish, characterId: "" };
    if (sets.some((s) => s.name === wish.datasetId)) wish = { ...wish, ...fromSource(wish.datasetId) }; // as older configs name a folder
    if (wish.trainingData && !sets.some((s) => s.name === wish.trainingData)) wish = { ...wish, trainingData: "" };
    if (wish.datasetId) chooseSource(sourceOf(wish));
    if (!saved && session.characterId) chooseCharacter(session.characterId);
    paint();
    return ask();
  }
  function chooseCharacter(id) {
    wish = { ...wish, characterId: id };
    const name = (session.find(id)?.name ?? "").toLowerCase();
    const own = name && (sets ?? []).find((s) => s.name.toLowerCase() === name.replace(/\s+/g, "-"));
    const set = (datasets ?? []).find((d) => id && d.characterId === id);
    if (sourceOf(wish)) return;
    if (set) chooseSource(`dataset:${set.id}`);
    else if (own) chooseSource(own.name);
  }

  // ---------------------------------------------------------------- pictures in

  async function upload(files, refused) {
    uploadFailed = refused.map((f) => ({ id: f.name, detail: "This kind of file cannot be trained on." }));
    if (busyUpload) return toast.info("Wait until the pictures before are uploaded.");
    if (wish.datasetId) return toast.info("Add these pictures to the dataset", { action: { label: "Open it", href: datasetPage() } });
    if (!files.length) return paintUpload();
    const parts = pieces(files);
    let name = wish.trainingData || $("#lo-new-set").value.trim();
    const done = { files: 0, duplicates: 0, captions: 0 };
    let sent = 0;
    try {
      for (const part of parts) {
        const data = new FormData();
        if (name) data.set("name", name);
        else if (wish.characterId) data.set("characterId", wish.characterId);
        else data.set("name", "pictures");
        part.forEach((f) => data.append("files", f));
        busyUpload = `Uploading ${sent + 1} to ${sent + part.length} of ${files.length}…`;
        paintUpload();
        paintEstimate();
        try {
          const answer = await api.upload("/api/lora/upload", data);
          name = answer.trainingData;
          done.files += answer.files.length;
          done.duplicates += answer.duplicates.length;
          uploadFailed.push(...answer.failed);
        } catch (error) {
          if (error.status !== 422 || !(error.errors ?? []).length || error.errors.some((e) => e.field === "name")) throw error;
          uploadFailed.push(...error.errors.map((e) => ({ id: e.message.split(": ")[0], detail: e.message.split(": ").slice(1).join(": ") || e.message })));
        }
        sent += part.length;
      }
    } catch (error) {
      toast.error(error);
    }
    busyUpload = "";
    if (done.files || done.duplicates) {
      const detail = done.duplicates ? `${plural(done.duplicates, "picture")} were there already.` : "";
      toast.success(`${plural(done.files, "picture")} added to ${name}`, { detail });
      wish = { ...wish, ...fromSource(name) }; // a dataset may have been chosen meanwhile
      $("#lo-new-set").value = "";
    }
    return changed({ sets: true });
  }

  // ---------------------------------------------------------------- wiring

  function say(name, value) {
    wish = { ...wish, [name]: value };
    auto = { ...auto, [name]: false };
    changed({ now: true });
  }
  function openGroup(key) {
    if (!key) return;
    $(".lo-advanced").open = true;
    const group = root.querySelector(`[data-group="${key}"]`);
    if (group) group.open = true;
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    const { name, value } = target;
    if (target.id === "lo-json") {
      written = value.trim() !== ""; // emptied: it shows the form again
      paintWritten();
      return undefined;
    }
    if (name === "preset") {
      wish = { ...wish, params: { ...wish.params, preset: value } };
      return changed({ now: true });
    }
    if (name === "name" || name === "triggerWord") {
      auto = { ...auto, [name]: name === "name" && value.trim() === "" };
      wish = { ...wish, [name]: value.trim() };
      return changed();
    }
    if (name?.startsWith("params.")) {
      const field = FIELDS.find((f) => `params.${f.name}` === name);
      const text = target.type === "number" && target.validity?.badInput ? "?" : value;
      const found = parse(field, text);
      if (found.message) bad.set(name, found.message);
      else {
        bad.delete(name);
        wish = { ...wish, params: setIn(wish.params, field.name, found.value) };
      }
      return changed();
    }
    return undefined;
  });
  form.addEventListener("change", ({ target }) => {
    if (!["trainingData", "characterId", "baseModel"].includes(target.name)) return undefined;
    if (target.name === "characterId") chooseCharacter(target.value);
    else if (target.name === "trainingData") chooseSource(target.value);
    else wish = { ...wish, [target.name]: target.value };
    if (target.name === "trainingData") uploadFailed = [];
    return changed({ now: true });
  });
  form.addEventListener("focusout", ({ target }) => {
    if (target.name === "name" && auto.name) paintFields();
  });
  root.addEventListener("drop-zone:files", ({ detail }) => upload(detail.files, detail.refused));

  onAction(root, {
    reload: () => load(),
    again: () => ask(),
    "use-name": (_e, el) => say("name", el.dataset.value),
    "use-trigger": (_e, el) => say("triggerWord", el.dataset.value),
    "use-demo": () => {
      wish = { ...wish, ...fromSource(DEMO) };
      changed({ now: true });
    },
    focus: (_e, el) => form.elements[el.dataset.value]?.focus(),
    "focus-drop": () => $("drop-zone input")?.focus(),
    "show-problem": (_e, el) => pictures.problem(el.dataset.value),
    "show-skipped": () => pictures.skipped(),
    "remove-copies": (_e, el) => busy(el, () => pictures.removeCopies()),
    "open-group": (_e, el) => {
      openGroup(el.dataset.value);
      const group = root.querySelector(`[data-group="${el.dataset.value}"]`);
      group?.scrollIntoView({ block: "center" });
      group?.querySelector("summary").focus();
    },
    "reset-params": () => {
      bad.clear();
      wish = { ...wish, params: { preset: wish.params.preset } };
      changed({ now: true });
    },
    "set-delete": (_e, el) =>
      busy(el, async () => {
        const name = wish.trainingData;
        try {
          const { trashId } = await api.delete(`/api/lora/training-data/${encodeURIComponent(name)}`);
          wish = { ...wish, trainingData: "" };
          toast.success(`Training set ${name} deleted`, {
            undo: async () => {
              await api.post("/api/lora/training-data/restore", { trashId });
              wish = { ...wish, ...fromSource(name) };
              await changed({ sets: true });
            },
          });
        } catch (error) {
          toast.error(error);
        }
        await changed({ sets: true });
      }),
    "json-apply": () => {
      const found = fromText($("#lo-json").value);
      const slot = $("#lo-json-error");
      slot.hidden = !found.problems.length;
      render(slot, html`${found.problems.map((p) => html`<p>${p}</p>`)}`);
      if (!found.wish) return;
      written = false;
      wish = { ...fresh(), ...found.wish };
      auto = { name: !found.wish.name, triggerWord: found.wish.triggerWord === undefined };
      bad.clear();
      toast.success("The form follows the config");
      changed({ now: true });
    },
    "json-copy": () => copyText($("#lo-json").value, "Config copied"),
    "json-full": () => (estimate ? copyText(JSON.stringify({ ...toBody(wish, auto), params: undefined, ...estimate.config }, null, 2), "Every setting copied") : toast.info("Choose pictures first; then every setting is known.")),
    curl: () => copyCurl({ method: "POST", path: "/api/lora/train", body: toBody(wish, auto) }),
    start: (_e, el) =>
      busy(el, async () => {
        if (whyNot()) return;
        startKey ||= idempotencyKey();
        try {
          const answer = await api.post("/api/lora/train", toBody(wish, auto), { idempotencyKey: startKey });
          startKey = "";
          wish = { ...wish, name: "" };
          auto = { ...auto, name: true };
          estimate = null;
          kept.save({ wish, auto });
          page.opened(answer.taskId);
        } catch (error) {
          if (error.code !== "network") startKey = "";
          mark(form, fieldsOf(error));
          toast.error(error);
        }
      }),
  });
  document.addEventListener("session:characters", paintSelects);
  const again = debounce(() => root.hidden || changed({ sets: true }), 2000); // a batch tells of every picture
  stream.on("dataset.updated", ({ datasetId }) => {
    if (!wish.datasetId || datasetId !== wish.datasetId) return;
    laid = null; // written again with the next estimate
    again();
  });

  return {
    /** Shown: load, or bring up to date. */
    async show() {
      const clone = url.get("clone");
      if (clone) {
        url.set({ clone: null });
        try {
          const run = await api.get(`/api/lora/train/${encodeURIComponent(clone)}`);
          const { problems, wish: whole, valid = whole } = fromText(JSON.stringify(run.request ?? {}));
          wish = { ...fresh(), ...run.request, params: valid.params };
          written = false;
          const named = Boolean(run.request?.name) || Boolean(run.name);
          if (named) wish.name = "";
          auto = { name: true, triggerWord: run.request?.triggerWord === undefined };
          toast.info(`Settings of ${run.name}`, { detail: "Change what you like; it gets a new name." });
          if (problems.length) toast.error("Not every setting could be taken over", { detail: problems.join(" ") });
        } catch (error) {
          toast.error(error);
        }
      }
      const character = url.get("characterId"),
        set = url.get("set"),
        dataset = url.get("dataset");
      if (set || dataset) {
        wish = { ...wish, ...fromSource(dataset ? `dataset:${dataset}` : set) };
        auto = { ...auto, triggerWord: auto.triggerWord || Boolean(dataset) };
        laid = null;
      }
      if (character) wish = { ...wish, characterId: character };
      if (set || dataset || character) url.set({ set: null, dataset: null, characterId: null });
      if (ready && !clone && !set && !dataset && !character) {
        await ready;
        return changed({ sets: true });
      }
      ready = load();
      return ready;
    },
    presetLabel: (key) => PRESETS.find((p) => p.key === key)?.label ?? key,
  };
}
