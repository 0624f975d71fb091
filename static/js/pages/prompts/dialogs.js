/** The dialogs of the library: a new prompt, ideas, earlier captions, another character. */
import { api, idempotencyKey, isAbort } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { copyText } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { ago, number, plural } from "../../format.js";
import { clearErrors, fillForm, readForm, showErrors } from "../../forms.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { draft } from "../../prefs.js";
import { session } from "../../session.js";
import { providerBadge } from "./facts.js";

const characterField = (value, { any = true, required = false } = {}) =>
  fieldRow({
    name: "characterId",
    label: "Character",
    type: "select",
    value: value ?? "",
    required,
    options: [
      ...(any ? [{ value: "", label: "Any character" }] : [{ value: "", label: "Choose…" }]),
      ...session.known.map((c) => ({ value: c.id, label: c.name })),
    ],
  });

/** Put a problem where it belongs, the rest above the buttons. */
function refuse(form, slot, error) {
  const left = showErrors(form, error.errors ?? []);
  slot.textContent =
    left.length || !error.errors?.length
      ? left.map((e) => e.message).join(" ") || [error.message, error.remedy].filter(Boolean).join(" ")
      : "";
  slot.hidden = !slot.textContent;
}

/**
 * What was typed survives a closed tab.
 * @param {{characterId?: string, wish: () => Record<string, string>, made: (prompt: any) => void}} page
 */
export async function newPrompt({ characterId, wish, made }) {
  const kept = draft("prompt.new");
  const { dialog, closed } = openDialog({
    title: "New prompt",
    size: "m",
    body: html`<form id="pr-new" class="stack-4" novalidate>${characterField(characterId)}
      ${fieldRow({ name: "prompt", label: "Prompt", type: "textarea", rows: 4, required: true, autofocus: true, placeholder: "in a magical forest, {dawn|dusk}, __outfit__", hint: "The character's base prompt is added to it. {a|b} and __wildcards__ change from picture to picture." })}
      ${fieldRow({ name: "caption", label: "Caption", type: "textarea", rows: 3, placeholder: "Leave it empty to write one later" })}
      ${fieldRow({ name: "write", label: "Write the caption for me", type: "switch" })}
      <p class="field-error" role="alert" id="pr-new-problem" hidden></p></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn" data-action="another">Save and add another</button><button type="button" class="btn btn-primary" data-action="save" data-needs="write" data-primary title="Ctrl+Enter">${icon("save")}Save</button>`,
  });
  const form = dialog.querySelector("form");
  const before = kept.load();
  if (before) fillForm(form, { ...before, characterId: before.characterId ?? characterId });
  form.elements.prompt.focus();
  const arrange = () => {
    form.elements.caption.disabled = form.elements.write.checked;
  };
  arrange();
  form.addEventListener("input", () => {
    arrange();
    kept.save(readForm(form));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const save = (button, more) =>
    busy(button, async () => {
      clearErrors(form);
      const slot = dialog.querySelector("#pr-new-problem");
      slot.hidden = true;
      const { write, ...values } = readForm(form);
      try {
        const prompt = await api.post("/api/prompts", {
          prompt: values.prompt ?? "",
          characterId: values.characterId,
          ...(write ? {} : { caption: values.caption ?? null }),
        });
        kept.clear();
        made(prompt);
        if (write)
          api
            .post(`/api/prompts/${encodeURIComponent(prompt.id)}/caption`, wish())
            .then(made)
            .catch((error) => toast.error(error));
        if (!more) dialog.close("saved");
        else {
          form.elements.prompt.value = "";
          form.elements.caption.value = "";
          form.elements.prompt.focus();
        }
        toast.success("The prompt was saved");
      } catch (error) {
        refuse(form, slot, error);
      }
    });
  onAction(dialog, { save: (_e, el) => save(el, false), another: (_e, el) => save(el, true) });
  await closed;
}

/**
 * Ideas from the character's texts. They are in the library at once; what is not wanted is deleted here.
 * @param {{characterId?: string, count?: number, engine: string, begin?: boolean, made: (prompts: any[]) => void, removed: (prompt: any) => Promise<boolean>}} page
 */
export async function ideasDialog({ characterId, count = 10, engine, begin = false, made, removed }) {
  const ended = new AbortController();
  const kept = draft("prompt.ideas");
  let ideas = [],
    answer = null,
    timer = 0,
    busySince = 0;
  const { dialog, closed } = openDialog({
    title: "Ideas",
    size: "m",
    body: html`<form id="pr-ideas" class="stack-4" novalidate><div class="cols-2">${characterField(characterId, { any: false, required: true })}${fieldRow({ name: "count", label: "How many", type: "number", dataType: "integer", min: 1, max: 50, value: count })}</div>
      ${fieldRow({ name: "theme", label: "Theme", maxlength: 500, value: kept.load()?.theme, placeholder: "autumn, a trip to Lisbon, the first snow", hint: "Optional. Without one the personality, the backstory, the story of today and the last posts decide." })}
      <p class="field-error" role="alert" id="pr-ideas-problem" hidden></p></form><div id="pr-ideas-result" class="pr-ideas" aria-live="polite"></div>`,
    footer: html`<span class="small muted" id="pr-ideas-engine"></span><span class="spacer"></span><button type="button" class="btn" data-close="">Close</button><button type="button" class="btn btn-primary" data-action="think" data-primary title="Ctrl+Enter">${icon("bolt")}<span>Get ideas</span></button>`,
  });
  const form = dialog.querySelector("form");
  const result = dialog.querySelector("#pr-ideas-result");
  const go = dialog.querySelector("[data-action=think] span");
  dialog.querySelector("#pr-ideas-engine").textContent = engine ? `By: ${engine}` : "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector("[data-action=think]").click();
  });
  const paint = () =>
    render(
      result,
      html`${busySince > 0 && html`<div class="stack-1"><progress max="1" aria-label="Thinking of ideas"></progress><p class="small muted">Thinking of ${plural(form.elements.count.value, "idea")} for ${session.find(form.elements.characterId.value)?.name ?? "the character"}, ${Math.round((Date.now() - busySince) / 1000)} s. You may close this: the ideas land in the library.</p></div>`}
      ${answer && html`<p class="row small">${providerBadge(answer.provider)}<span>${plural(answer.prompts.length, "new prompt")} in the library.</span></p>${(answer.notes ?? []).map((note) => html`<p class="pr-engine-note">${icon("info")}<span>${note}</span></p>`)}`}
      ${ideas.length > 0 && html`<ul class="pr-idea-list">${ideas.map((p) => html`<li data-key="${p.id}"><p>${p.prompt}</p><button type="button" class="icon-btn" data-action="drop" data-id="${p.id}" aria-label="Delete this idea" title="Delete this idea">${icon("trash")}</button></li>`)}</ul>`}`,
    );
  const think = (button) =>
    busy(button, async () => {
      clearErrors(form);
      const slot = dialog.querySelector("#pr-ideas-problem");
      slot.hidden = true;
      const values = readForm(form);
      if (!values.characterId) {
        showErrors(form, [{ field: "characterId", message: "Choose whose ideas these are." }]);
        return;
      }
      kept.save({ theme: values.theme });
      busySince = Date.now();
      timer = setInterval(paint, 1000);
      paint();
      try {
        answer = await api.post(
          "/api/prompts/generate",
          { characterId: values.characterId, count: values.count ?? 10, ...(values.theme ? { theme: values.theme } : {}) },
          { idempotencyKey: idempotencyKey(), signal: ended.signal },
        );
        ideas = [...answer.prompts, ...ideas];
        made(answer.prompts);
        go.textContent = "More ideas";
      } catch (error) {
        if (!isAbort(error)) refuse(form, slot, error);
      } finally {
        busySince = 0;
        clearInterval(timer);
        paint();
      }
    });
  onAction(dialog, {
    think: (_e, el) => think(el),
    drop: async (_e, el) => {
      const idea = ideas.find((p) => p.id === el.dataset.id);
      if (await removed(idea)) {
        ideas = ideas.filter((p) => p !== idea);
        paint();
      }
    },
  });
  if (begin && form.elements.characterId.value) think(dialog.querySelector("[data-action=think]"));
  await closed;
  clearInterval(timer);
}

/** Earlier captions of a prompt, newest first. @returns {Promise<string|null>} the one to take back */
export async function olderCaptions(prompt) {
  const list = [...(prompt.captions ?? [])].reverse();
  let chosen = null;
  const { dialog, closed } = openDialog({
    title: "Earlier captions",
    size: "m",
    body: html`<div class="stack-4">${prompt.caption && html`<section class="stack-1"><p class="row small"><strong>Now</strong>${providerBadge(prompt.captionProvider)}</p><p class="prompt-text">${prompt.caption}</p></section>`}
      <ol class="pr-older-list">${list.map((old, i) => html`<li><p class="prompt-text">${old.caption}</p><p class="row small muted">${providerBadge(old.provider)}${old.at && html`<span>${ago(old.at)}</span>`}<span>${number([...(old.caption ?? "")].length)} characters</span><span class="spacer"></span><button type="button" class="btn btn-ghost btn-small" data-action="copy" data-i="${i}">${icon("copy")}Copy</button><button type="button" class="btn btn-small" data-action="take" data-i="${i}">${icon("undo")}Take this one</button></p></li>`)}</ol></div>`,
  });
  onAction(dialog, {
    copy: (_e, el) => copyText(list[Number(el.dataset.i)].caption, "Caption copied"),
    take: (_e, el) => {
      chosen = list[Number(el.dataset.i)].caption;
      dialog.close("taken");
    },
  });
  await closed;
  return chosen;
}

/** @returns {Promise<string|null|undefined>} the character's id, null for any, undefined when given up */
export async function chooseCharacter(prompt) {
  let chosen;
  const { dialog, closed } = openDialog({
    title: "Give to another character",
    size: "s",
    body: html`<form class="stack-3"><fieldset class="pr-choose"><legend class="visually-hidden">Character</legend>${[{ id: "", name: "Any character" }, ...session.known].map((c) => html`<label class="check"><input type="radio" name="characterId" ${attrs({ value: c.id, checked: c.id === (prompt.characterId ?? "") })}><span>${c.name}</span></label>`)}</fieldset></form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-action="give" data-primary>Give</button>`,
  });
  onAction(dialog, {
    give: () => {
      chosen = readForm(dialog.querySelector("form")).characterId ?? null;
      dialog.close("given");
    },
  });
  dialog.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  await closed;
  return chosen;
}
