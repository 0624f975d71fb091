/** Wildcards: lists of options that stand in a prompt as __name__. On the left the lists, on the right one of them. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { errorState, skeleton } from "../../components/states.js";
import { busy, onAction, render } from "../../dom.js";
import { number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { expand, goodName, optionsOf } from "./expand.js";

/** All lists as {name: options}. */
export async function loadWildcards() {
  const answer = await api.get("/api/wildcards");
  return Object.fromEntries((answer.wildcards ?? []).map((w) => [w.name, optionsOf(w.text)]));
}
/** The way a prompt may come out, marked where something was chosen. */
const tries = (text, lists, n = 5) => Array.from({ length: n }, () => expand(text, lists));

/** @param {{sample?: string}} options `sample` is the prompt the preview begins with */
export async function wildcardsDialog({ sample = "" } = {}) {
  let list = null,
    error = null,
    name = "",
    creating = false,
    saved = "",
    text = "",
    shown = [],
    problem = "";
  const { dialog, closed } = openDialog({
    title: "Wildcards",
    size: "l",
    body: html`<div class="pr-wild"><nav class="pr-wild-list" aria-label="Wildcards"></nav><section class="pr-wild-edit" aria-label="Options"></section><section class="pr-wild-preview stack-2" aria-labelledby="pr-try"><h3 id="pr-try">Try a prompt</h3><div class="field-control"><input id="pr-sample" aria-label="Prompt to try" autocomplete="off" spellcheck="false"><button type="button" class="btn" data-action="roll">${icon("dice")}Roll</button></div><ul class="pr-tries" aria-live="polite"></ul></section></div>`,
  });
  dialog.classList.add("pr-wild-dialog");
  const $ = (selector) => dialog.querySelector(selector);
  const input = $("#pr-sample");
  const dirty = () => (creating ? text.trim() !== "" : text !== saved);
  const lists = () => ({
    ...Object.fromEntries((list ?? []).map((w) => [w.name, optionsOf(w.text)])),
    ...(name && !creating ? { [name]: optionsOf(text) } : {}),
  });

  function paintList() {
    render(
      $(".pr-wild-list"),
      error
        ? errorState(error, { compact: true, action: "reload" })
        : !list
          ? skeleton("rows", 3)
          : html`<ul>${list.map((w) => html`<li data-key="${w.name}"><button type="button" data-action="open" data-name="${w.name}" ${attrs({ "aria-current": w.name === name && !creating ? "true" : undefined })}><code>__${w.name}__</code><span class="muted small">${number(w.count ?? optionsOf(w.text).length)}</span></button></li>`)}</ul>${!list.length && html`<p class="small muted">None yet. A wildcard is a list such as outfits or places.</p>`}<button type="button" class="btn btn-small" data-action="create">${icon("plus")}New wildcard</button>`,
    );
  }
  function paintEdit() {
    const count = optionsOf(text).length;
    render(
      $(".pr-wild-edit"),
      name || creating
        ? html`<form class="stack-3" novalidate>${creating ? html`<div class="field"><label for="pr-wild-name">Name</label><input id="pr-wild-name" class="mono" autocomplete="off" spellcheck="false" autocapitalize="off" maxlength="64" placeholder="outfit" aria-describedby="pr-wild-problem"></div>` : html`<h3><code>__${name}__</code></h3>`}
          <div class="field"><label for="pr-wild-text">Options, one per line</label><textarea id="pr-wild-text" rows="10" spellcheck="false" class="mono ${dirty() ? "is-dirty" : ""}" placeholder="red dress&#10;long coat&#10;3::jeans and a white shirt">${text}</textarea><p class="field-hint">${plural(count, "option")}. <code>3::</code> before one makes it three times as likely; <code>#</code> begins a comment. Options may use other wildcards and braces.</p></div>
          <p class="field-error" id="pr-wild-problem" role="alert" ${attrs({ hidden: !problem })}>${problem}</p>
          <div class="row">${!creating && html`<button type="button" class="btn btn-ghost is-danger" data-action="delete">${icon("trash")}Delete</button>`}<span class="spacer"></span>${dirty() && html`<button type="button" class="btn btn-ghost" data-action="revert">Discard</button>`}<button type="button" class="btn btn-primary" data-action="save" data-needs="write" data-primary title="Ctrl+Enter" ${attrs({ disabled: !dirty() })}>${icon("save")}Save</button></div></form>`
        : html`<p class="muted pr-wild-none">Choose a wildcard, or make a new one. In a prompt, <code>__outfit__</code> stands for one line of the list “outfit”, and <code>{dawn|dusk}</code> for one of both.</p>`,
    );
  }
  function roll() {
    shown = input.value.trim() ? tries(input.value, lists()) : [];
    render(
      $(".pr-tries"),
      html`${shown.map((t, i) => html`<li data-key="t${i}">${t.text}${t.missing.length > 0 && html` <span class="pr-warn">${icon("alert")}no wildcard ${t.missing.map((m) => `__${m}__`).join(", ")}</span>`}</li>`)}`,
    );
  }
  function open(next) {
    const w = list?.find((one) => one.name === next);
    name = w ? next : "";
    creating = false;
    saved = text = w?.text?.replace(/\n$/, "") ?? "";
    problem = "";
    $(".pr-wild-edit").replaceChildren();
    paintList();
    paintEdit();
    if (w && !input.value.includes(`__${next}__`) && !sample) input.value = `__${next}__`;
    roll();
  }
  async function load() {
    try {
      list = (await api.get("/api/wildcards")).wildcards ?? [];
      error = null;
    } catch (fault) {
      error = fault;
    }
    paintList();
    roll();
  }
  const leave = () => !dirty() || globalThis.confirm("Discard the changes to this wildcard?");
  dialog.beforeClose = () => leave();
  dialog.addEventListener("input", (event) => {
    if (event.target.id === "pr-wild-text") {
      text = event.target.value;
      event.target.classList.toggle("is-dirty", dirty());
      paintEdit();
    }
    if (event.target.id === "pr-wild-text" || event.target === input) roll();
  });
  dialog.addEventListener("submit", (event) => event.preventDefault());
  onAction(dialog, {
    reload: load,
    roll,
    open: (_e, el) => leave() && open(el.dataset.name),
    create: () => {
      if (!leave()) return;
      name = saved = text = problem = "";
      creating = true;
      $(".pr-wild-edit").replaceChildren();
      paintList();
      paintEdit();
      $("#pr-wild-name").focus();
    },
    revert: () => {
      text = saved;
      problem = "";
      if (creating) open("");
      else {
        $("#pr-wild-text").value = saved;
        paintEdit();
        roll();
      }
    },
    save: (_e, el) =>
      busy(el, async () => {
        const target = creating
          ? $("#pr-wild-name")
              .value.trim()
              .replace(/^__|__$/g, "")
          : name;
        problem = goodName(target) ? "" : "A name has letters, digits, - and single _ only.";
        if (!problem && creating && list.some((w) => w.name === target)) problem = `There is a wildcard “${target}” already.`;
        if (problem) {
          paintEdit();
          $("#pr-wild-name")?.focus();
          return;
        }
        try {
          await api.put(`/api/wildcards/${encodeURIComponent(target)}`, { text });
          saved = text;
          await load();
          open(target);
          toast.success(`__${target}__ was saved`);
        } catch (fault) {
          problem = fault.errors?.[0]?.message ?? [fault.message, fault.remedy].filter(Boolean).join(" ");
          paintEdit();
        }
      }),
    delete: (_e, el) =>
      busy(el, async () => {
        const gone = { name, text: saved };
        try {
          await api.delete(`/api/wildcards/${encodeURIComponent(name)}`);
        } catch (fault) {
          toast.error(fault);
          return;
        }
        text = saved = "";
        await load();
        open("");
        toast.success(`__${gone.name}__ was deleted`, {
          undo: async () => {
            try {
              await api.put(`/api/wildcards/${encodeURIComponent(gone.name)}`, { text: gone.text });
              await load();
              open(gone.name);
            } catch (fault) {
              toast.error(fault);
            }
          },
        });
      }),
  });
  input.value = sample;
  paintList();
  paintEdit();
  await load();
  if (!sample && list?.length) open(list[0].name);
  await closed;
}

/** A prompt with choices, as it may come out. */
export async function previewDialog(prompt) {
  let lists = null,
    error = null;
  const { dialog, closed } = openDialog({
    title: "As it may come out",
    size: "m",
    body: html`<div class="stack-3"><p class="mono small pr-pattern">${prompt.prompt}</p><ul class="pr-tries" aria-live="polite">${skeleton("lines", 5)}</ul></div>`,
    footer: html`<button type="button" class="btn" data-close="">Close</button><button type="button" class="btn btn-primary" data-action="roll" data-primary>${icon("dice")}Roll again</button>`,
  });
  const roll = () =>
    render(
      dialog.querySelector(".pr-tries"),
      error
        ? html`<li>${errorState(error, { compact: true, action: "" })}</li>`
        : html`${tries(prompt.prompt, lists ?? {}).map((t, i) => html`<li data-key="t${i}">${t.text}${t.missing.length > 0 && html` <span class="pr-warn">${icon("alert")}no wildcard ${t.missing.map((m) => `__${m}__`).join(", ")}</span>`}</li>`)}`,
    );
  onAction(dialog, { roll });
  try {
    lists = await loadWildcards();
  } catch (fault) {
    error = fault;
  }
  roll();
  await closed;
}
