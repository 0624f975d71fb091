/** A section of settings as one form: panels of rows, tests, a bar to save. Several may be on the page at once (storage, security). */
import { html, icon } from "../../html.js";
import { busy, render } from "../../dom.js";
import { clearErrors, showErrors, trackDirty } from "../../forms.js";
import { plural } from "../../format.js";
import { toast } from "../../notices.js";
import { fieldValue, refreshHints, settingRow, showDefault } from "./fields.js";
import { differs, panelsOf } from "./model.js";
import { testButtons, testResults, tryService } from "./tests.js";

/**
 * @param {HTMLElement} root @param {string} section
 * @param {import("./store.js").Store} store @param {{signal: AbortSignal, onDirty?: (dirty: boolean) => void}} options
 */
export function settingsForm(root, section, store, { signal, onDirty = () => {} }) {
  const results = {};
  const cleared = new Set();
  let changes = {},
    problems = [];
  render(root, html`<form class="se-form stack-4" data-form="${section}" novalidate autocomplete="off"><div class="stack-4" data-panels></div><div data-bar></div></form>`);
  const form = root.querySelector("form");

  /** What the fields were filled with. A field somebody works on keeps its own until it is saved or discarded. */
  let base = new Map(store.settings);
  const settings = () => base;
  const rows = () => panelsOf(section, settings()).flatMap((p) => p.rows);

  function look() {
    changes = {};
    problems = [];
    for (const s of rows()) {
      const now = fieldValue(form, s, cleared);
      if (now.problem) problems.push({ field: s.name, message: now.problem });
      else if (differs(s, now)) changes[s.name] = now.value;
    }
  }
  const count = () => Object.keys(changes).length + problems.length;

  function paintPanels() {
    render(
      form.querySelector("[data-panels]"),
      html`${panelsOf(section, settings()).map((p) => {
        const head = html`<h2 id="se-${section}-${p.id}">${p.title}</h2>`;
        const body = html`${p.text && html`<p class="muted se-text">${p.text}</p>`}<div data-results="${p.id}">${testResults(p.test ?? [], results)}</div><div class="se-rows">${p.rows.map((s) => settingRow(s, { mayChange: store.mayChange }))}</div>`;
        return html`<section class="panel se-panel" data-key="panel-${p.id}" aria-labelledby="se-${section}-${p.id}"><header class="panel-head">${head}<span class="row" data-tests="${p.id}">${p.test && testButtons(p.test, results, store)}</span></header>${body}</section>`;
      })}`,
    );
  }
  function paintTests() {
    for (const p of panelsOf(section, settings())) {
      if (!p.test) continue;
      render(form.querySelector(`[data-tests="${p.id}"]`), testButtons(p.test, results, store));
      render(form.querySelector(`[data-results="${p.id}"]`), testResults(p.test, results));
    }
  }
  function paintBar() {
    const n = count();
    for (const row of form.querySelectorAll("[data-setting]"))
      row.classList.toggle("is-dirty", row.dataset.setting in changes || problems.some((p) => p.field === row.dataset.setting));
    render(
      form.querySelector("[data-bar]"),
      n > 0 &&
        html`<div class="form-bar"><p role="status"><strong>${plural(n, "unsaved change")}</strong></p><span class="spacer"></span><button type="button" class="btn" data-action="discard">Discard</button><button type="submit" class="btn btn-primary" data-primary data-needs="admin">${icon("save")}Save</button></div>`,
    );
  }

  const watch = trackDirty(form, {
    read: () => {
      look();
      return { ...changes, ...Object.fromEntries(problems.map((p) => [p.field, p.message])) };
    },
    onChange: (dirty) => {
      paintBar();
      onDirty(dirty);
    },
  });

  /** Show what is saved; what was typed and not saved goes. */
  function show() {
    base = new Map(store.settings);
    cleared.clear();
    clearErrors(form);
    paintPanels();
    for (const s of rows()) setField(s);
    watch.reset();
  }
  function setField(s) {
    const row = form.querySelector(`[data-setting="${s.name}"]`);
    for (const input of row?.querySelectorAll("input[name], textarea[name], select[name]") ?? []) {
      if (input.type === "checkbox") input.checked = input.defaultChecked;
      else if (input.type === "radio") input.checked = input.defaultChecked;
      else if (input.tagName !== "SELECT") input.value = input.defaultValue;
      else input.value = [...input.options].find((o) => o.defaultSelected)?.value ?? input.value;
    }
    refreshHints(form, settings(), s.name);
  }

  async function save() {
    look();
    clearErrors(form);
    if (problems.length) {
      showErrors(form, problems);
      return false;
    }
    if (!Object.keys(changes).length) return true;
    try {
      const answer = await store.save(changes, base);
      if (!answer) return false;
      show();
      store.told(answer);
      return true;
    } catch (error) {
      fail(error);
      return false;
    }
  }
  function fail(error) {
    const left = error.errors?.length ? showErrors(form, error.errors) : [{}];
    if (left.length) toast.error(error);
    else form.querySelector("[aria-invalid]")?.scrollIntoView({ block: "center" });
  }

  form.addEventListener("input", (event) => {
    const name = event.target.name;
    cleared.delete(name);
    refreshHints(form, settings(), name);
    const slot = form.querySelector(`[data-error-for="${CSS.escape(name)}"]`);
    if (slot && !slot.hidden) {
      slot.hidden = true;
      event.target.removeAttribute("aria-invalid");
    }
    watch.check();
  }, { signal }); // prettier-ignore
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("[data-bar] [type=submit]");
    if (button) busy(button, save);
  }, { signal }); // prettier-ignore
  form.addEventListener("click", async (event) => {
    const el = event.target.closest("[data-action]");
    const action = el?.dataset.action;
    if (action === "discard") show();
    else if (action === "reset-one") {
      const s = settings().get(el.dataset.name);
      showDefault(form, s);
      cleared.add(s.name);
      refreshHints(form, settings(), s.name);
      watch.check();
      form.querySelector("[data-bar] [type=submit]")?.focus();
    } else if (action === "reveal") {
      const input = form.elements[el.dataset.name];
      const open = input.type === "password";
      input.type = open ? "text" : "password";
      el.setAttribute("aria-pressed", String(open));
    } else if (action === "test-close") {
      delete results[el.dataset.service];
      paintTests();
    } else if (action === "test") await test(el.dataset.service);
  }, { signal }); // prettier-ignore

  async function test(service) {
    if (results[service]?.running) return;
    look();
    clearErrors(form);
    if (problems.length) {
      showErrors(form, problems);
      return;
    }
    results[service] = { running: true };
    paintTests();
    try {
      results[service] = await tryService(service, changes);
    } catch (error) {
      delete results[service];
      fail(error);
    }
    if (!signal.aborted) paintTests();
  }

  signal.addEventListener("abort", () => {
    watch.stop();
    onDirty(false);
  });
  paintPanels();
  watch.reset();
  return {
    save,
    discard: show,
    get dirty() {
      return watch.dirty;
    },
    /** New values came from elsewhere: rows nobody works on follow. */
    refresh() {
      if (!watch.dirty) {
        show();
        return;
      }
      look();
      const mine = new Set([...Object.keys(changes), ...problems.map((p) => p.field)]);
      base = new Map([...store.settings].map(([name, s]) => [name, mine.has(name) ? (base.get(name) ?? s) : s]));
      paintPanels();
      for (const s of rows()) if (!mine.has(s.name)) setField(s);
      watch.check();
    },
  };
}
