/** The task editor: one dialog for a new task, a changed one and a copy. What is unsaved is asked about before it goes. */
import { api, isAbort } from "../../api.js";
import "../../components/cron-field.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { clearErrors, readForm, showErrors, trackDirty } from "../../forms.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import {
  backupFields,
  captionFields,
  formValues,
  galleryFields,
  pictureFields,
  platformField,
  postFields,
  taskFrom,
  typeField,
  whoFields,
  zoneFields,
} from "./fields.js";
import { knownZone, needs, posts, taskName } from "./words.js";

const zonesOf = () => {
  try {
    return Intl.supportedValuesOf("timeZone");
  } catch {
    return ["UTC"];
  }
};
const KNOWN_PLATFORMS = [
  { name: "instagram", label: "Instagram" },
  { name: "twitter", label: "X" },
];

/**
 * @param {{id?: string, task?: any, trainer?: boolean}} options `id` of a stored task; or `task` with what a new one begins
 * with; `trainer`: training can be scheduled
 * @returns {Promise<any|null>} the saved task, or null
 */
export async function editTask({ id = null, task = null, trainer = false }) {
  const ended = new AbortController();
  const { signal } = ended;
  let stored = task,
    etag = null,
    saved = null,
    dirty = null,
    models = null,
    collections = [],
    platforms = KNOWN_PLATFORMS,
    accounts = {},
    asked = 0;
  const title = () => (id ? `Edit “${taskName(stored ?? {})}”` : "New scheduled task");
  const { dialog, closed } = openDialog({
    title: id ? "Edit task" : "New scheduled task",
    size: "l",
    body: html`<div class="sc-editor">${skeleton("form", 6)}</div>`,
    footer: html`<p class="field-error" id="sc-problem" role="alert" hidden></p><span class="spacer"></span><button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-action="save" data-needs="publish" data-primary title="Ctrl+Enter" disabled>${icon("save")}${id ? "Save" : "Add task"}</button>`,
  });
  dialog.classList.add("sc-dialog");
  const $ = (selector) => dialog.querySelector(selector);
  const box = $(".sc-editor");
  const form = () => $("#sc-form");
  const cron = () => $("cron-field");

  // ------------------------------------------------------------ leaving
  let leaving = false;
  dialog.beforeClose = (value) => {
    if (leaving) return false; // the question is on the screen
    if (value === "saved" || !dirty?.dirty) return true;
    leaving = true;
    confirmDialog({
      title: "Discard the changes?",
      body: "What you changed in this task is not saved yet.",
      confirmLabel: "Discard",
      cancelLabel: "Keep editing",
    }).then((yes) => {
      leaving = false;
      if (yes) {
        dirty?.stop();
        dialog.close("");
      }
    });
    return false;
  };

  // ------------------------------------------------------------ what the form depends on
  const read = () => (form() ? readForm(form()) : {});
  /** The zone that is asked about; "" when neither task nor character name one: the app's, which its answer tells. */
  const zone = (values = read()) => (values.timezone ?? "").trim() || zoneOf(values);
  const zoneOf = ({ type, characterId }) => (type !== "backup" && session.find(characterId)?.timezone) || "";
  let appZone = "";
  function tellZone() {
    const values = read();
    if (!(values.timezone ?? "").trim() && !zoneOf(values)) appZone = cron().answer?.timezone ?? appZone;
    const name = zoneOf(values) || appZone;
    $("#sc-zone-default").textContent = name || "the app's zone";
    form().elements.timezone.placeholder = name;
  }

  function paint(values) {
    render(
      box,
      html`<form id="sc-form" novalidate><input type="hidden" name="schedule" value="${values.schedule}">
      <div class="sc-part-1 stack-4">${typeField(values, { trainer, admin: session.can("admin") })}${whoFields(values, session.known)}</div>
      <section class="sc-part-when stack-3" aria-labelledby="sc-when"><h3 id="sc-when">When</h3><cron-field></cron-field><p class="field-error" id="sc-schedule-error" role="alert" hidden></p>
        ${zoneFields(values, zoneOf(values))}<datalist id="sc-zones">${zonesOf().map((z) => html`<option value="${z}"></option>`)}</datalist></section>
      <div class="sc-part-2 stack-5">
        <section class="stack-3" data-for="post_existing"><h3>Picture</h3><div id="sc-gallery">${galleryFields(values, collections)}</div></section>
        <section class="stack-3" data-for="generate_and_post generate_only" data-or-generate><h3 id="sc-picture-title">Picture</h3><div id="sc-picture">${pictureFields(values, models)}</div></section>
        <section class="stack-3" data-for="generate_and_post generate_only post_existing"><h3>Caption</h3>${captionFields(values)}</section>
        <section class="stack-4" data-for="generate_and_post post_existing"><h3>Posting</h3><div id="sc-platforms">${platformField(values, platforms, accounts)}</div>${postFields(values)}
          <label class="check sc-dry"><input type="checkbox" class="switch" role="switch" name="dryRun" ${attrs({ checked: Boolean(values.dryRun), "aria-describedby": "sc-dry-hint" })}><span><strong>Dry run</strong><small class="muted" id="sc-dry-hint">Everything happens but the sending. The outbox shows what would have gone out.</small></span></label></section>
        <section class="stack-3" data-for="backup"><h3>Backup</h3>${backupFields(values)}</section>
        <section data-for="train_lora"><p class="muted">Training takes its options from the character's dataset.</p></section>
        <label class="check"><input type="checkbox" class="switch" role="switch" name="active" ${attrs({ checked: values.active !== false })}><span>Active</span></label>
      </div></form>`,
    );
    dialog.querySelector("h2").textContent = title();
    const field = cron();
    field.load = (schedule, given, abort) =>
      api.get("/api/scheduler/preview", { query: { schedule, timezone: given, count: 10 }, signal: abort });
    field.zone = zone();
    field.value = values.schedule;
    field.addEventListener("cron-field:change", ({ detail }) => {
      form().elements.schedule.value = detail.value;
      $("#sc-schedule-error").hidden = true;
      if (detail.valid !== false) showZoneError("");
      if (detail.valid) tellZone();
      const fault = field.refused?.errors?.find((e) => e.field === "timezone");
      if (fault) showZoneError([fault.message, field.refused.remedy].filter(Boolean).join(" "));
      dirty?.check();
    });
    form().addEventListener("submit", (event) => {
      event.preventDefault();
      $("[data-action=save]").click();
    });
    form().addEventListener("input", changed);
    form().addEventListener("change", changed);
    arrange();
    dirty?.stop();
    dirty = trackDirty(form());
    $("[data-action=save]").disabled = false;
    $("[data-action=save]").dataset.needs = needs(stored ?? {});
    if (document.activeElement?.matches("[data-close]")) form().querySelector("[name=type]:checked")?.focus({ focusVisible: false });
  }

  function showZoneError(message) {
    const input = form().elements.timezone;
    const slot = form().querySelector('[data-error-for="timezone"]');
    slot.textContent = message;
    slot.hidden = !message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  /** Show what the chosen type needs, and nothing else. */
  function arrange() {
    const values = read();
    const config = values.config ?? {};
    const type = values.type;
    form()
      .querySelectorAll("[data-for]")
      .forEach((el) => {
        const extra = el.hasAttribute("data-or-generate") && type === "post_existing" && config.mediaEmpty === "generate";
        el.hidden = !el.dataset.for.split(" ").includes(type) && !extra;
      });
    $("#sc-picture-title").textContent = type === "post_existing" ? "The new picture" : "Picture";
    const source = config.promptSource;
    form().querySelector('[data-source="library"]').hidden = source !== "library";
    $("#sc-prompt-row").hidden = !(source === "fixed" || (source === "library" && config.promptEmpty === "fixed"));
    form().querySelector('[data-caption="on"]').hidden = !config.generateCaption;
    form().querySelector('[data-caption="off"]').hidden = Boolean(config.generateCaption);
  }
  function changed(event) {
    if (!event.target.name) return;
    arrange();
    const slot = form().querySelector(`[data-error-for="${CSS.escape(event.target.name)}"]`);
    if (slot && !slot.hidden && event.target.name !== "timezone") {
      slot.hidden = true;
      event.target.removeAttribute("aria-invalid");
    }
    if (event.target.name.startsWith("config.postTo")) $("#sc-platform-error").hidden = true;
    if (event.target.name === "characterId" && event.type === "change") loadAccounts();
    if (["characterId", "type", "timezone"].includes(event.target.name)) {
      tellZone();
      const wanted = zone();
      // half a name while typing is no mistake yet
      if (event.type === "change" || !wanted || knownZone(wanted)) cron().zone = wanted;
    }
  }

  // ------------------------------------------------------------ what stands beside
  async function loadAccounts() {
    const characterId = read().characterId;
    const mine = (asked += 1);
    if (!characterId) accounts = {};
    else
      try {
        const answer = await api.get("/api/platforms", { query: { characterId }, signal });
        if (mine !== asked) return;
        platforms = answer.platforms?.length ? answer.platforms : KNOWN_PLATFORMS;
        accounts = Object.fromEntries(
          platforms.map((p) => [p.name, p.accounts?.find((a) => a.characterId === characterId)]).filter(([, a]) => a),
        );
      } catch (error) {
        if (isAbort(error)) return;
        accounts = {};
      }
    const config = read().config ?? {};
    render($("#sc-platforms"), platformField({ config }, platforms, accounts));
    for (const name of ["postToInstagram", "postToTwitter"]) {
      const el = form().elements[`config.${name}`];
      if (el) el.checked = Boolean(config[name]);
    }
  }
  async function loadChoices() {
    const [m, c] = await Promise.allSettled([api.get("/api/models", { signal }), api.get("/api/collections", { signal })]);
    if (signal.aborted || !form()) return;
    if (m.status === "fulfilled") models = m.value;
    if (c.status === "fulfilled") collections = c.value.items ?? c.value;
    // only the lists grow: what is chosen and typed stays, and nothing becomes unsaved by it
    const before = formValues({ ...stored, config: { ...(stored?.config ?? {}), ...(read().config ?? {}) } });
    const was = dirty.dirty;
    keeping(["config.model", "config.collectionId"], () => {
      render($("#sc-picture"), pictureFields(before, models));
      render($("#sc-gallery"), galleryFields(before, collections));
    });
    arrange();
    if (!was) dirty.reset();
  }
  function keeping(names, work) {
    const kept = names.map((name) => form().elements[name]?.value);
    work();
    names.forEach((name, i) => {
      const el = form().elements[name];
      if (el && kept[i] !== undefined && [...el.options].some((o) => o.value === kept[i])) el.value = kept[i];
    });
  }

  // ------------------------------------------------------------ load and save
  async function load() {
    try {
      await Promise.all([session.characters(), session.me()]);
      if (id) {
        const answer = await api.get(`/api/scheduler/tasks/${encodeURIComponent(id)}`, { full: true, signal });
        stored = answer.data;
        etag = answer.etag;
      }
    } catch (error) {
      if (!isAbort(error)) render(box, errorState(error, { title: "The task could not be loaded", action: "reload" }));
      return;
    }
    paint(formValues(stored ?? {}));
    if (!id && stored?.unsaved) dirty.check();
    loadAccounts();
    loadChoices();
  }

  function refuse(errors, summary) {
    const problem = $("#sc-problem");
    const schedule = errors.find((e) => e.field === "schedule");
    const platform = errors.find((e) =>
      ["config.postToInstagram", "config.postToTwitter", "platforms", "config.platforms"].includes(e.field),
    );
    const others = errors.filter((e) => e !== schedule && e !== platform);
    for (const error of others) {
      const name = error.field?.replace(/^task\./, "");
      form().elements[name]?.closest?.("details")?.setAttribute("open", "");
      error.field = name;
    }
    const left = showErrors(form(), others);
    if (schedule) {
      const slot = $("#sc-schedule-error");
      slot.textContent = schedule.message;
      slot.hidden = Boolean(cron().refused);
      cron().scrollIntoView({ block: "center" });
    }
    if (platform) {
      const slot = $("#sc-platform-error");
      slot.textContent = platform.message;
      slot.hidden = false;
      if (!others.length && !schedule) form().elements["config.postToInstagram"]?.focus();
    }
    const text = left.length ? left.map((e) => e.message).join(" ") : errors.length ? "" : summary;
    problem.textContent = text;
    problem.hidden = !text;
  }

  /** What can be told without asking. */
  function early(values) {
    const errors = [];
    if (values.type !== "backup" && !values.characterId)
      errors.push({ field: "characterId", message: "Choose the character this is for." });
    if (posts(values) && !values.config.postToInstagram && !values.config.postToTwitter)
      errors.push({ field: "config.postToInstagram", message: "Choose at least one place to post to." });
    if (values.type !== "backup" && values.config.promptSource === "fixed" && values.type !== "post_existing" && !values.config.prompt)
      errors.push({ field: "config.prompt", message: "Write the words for the picture, or choose another source." });
    return errors;
  }

  const save = (button) =>
    busy(button, async () => {
      clearErrors(form());
      $("#sc-problem").hidden = true;
      const values = read();
      const errors = early(values);
      if (errors.length) return refuse(errors, "");
      if (cron().refused) {
        cron().scrollIntoView({ block: "center" });
        return refuse([{ field: "schedule", message: cron().refused.message }], "");
      }
      const body = taskFrom(values, stored ?? {});
      try {
        const answer = id
          ? await api.put(`/api/scheduler/tasks/${encodeURIComponent(id)}`, body, { ifMatch: etag })
          : await api.post("/api/scheduler", { action: "add_task", task: body });
        saved = answer.task ?? answer;
        dirty.stop();
        dialog.close("saved");
      } catch (error) {
        if (error.status === 412)
          refuse(
            [],
            "This task was changed meanwhile, in another window or in scheduler.json. Close and open it again to see the newer version.",
          );
        else refuse([...(error.errors ?? [])], [error.message, error.remedy].filter(Boolean).join(" "));
      }
      return undefined;
    });

  onAction(dialog, { save: (_e, el) => save(el), reload: () => load() });
  load();
  await closed;
  dirty?.stop();
  ended.abort();
  if (saved) toast.success(id ? `“${taskName(saved)}” was saved` : `“${taskName(saved)}” was added`);
  return saved;
}
