/** Import: a file is looked at first (nothing is stored), then taken in. */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { busy, onAction, render } from "../../dom.js";
import { bytes, number, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";

const SHOWN_ERRORS = 50;

/** @param {{characterId?: string, file?: File|null}} options @returns {Promise<number>} how many were taken in */
export async function importPrompts({ characterId = "", file = null }) {
  let plan = null,
    problem = null,
    looking = false,
    taken = 0,
    turn = 0;
  const { dialog, closed } = openDialog({
    title: "Import prompts",
    size: "m",
    body: html`<div class="stack-4 pr-import"><drop-zone accept=".csv,.json,.txt,.tsv,text/csv,application/json,text/plain" label="Drop a CSV or JSON file here, or choose one" hint="A CSV needs a column “prompt”; “caption” and “character” are read too."></drop-zone>
      <div class="field"><label for="pr-import-character">Character for rows that name none</label><select id="pr-import-character"><option value="">Any character</option>${session.known.map((c) => html`<option ${attrs({ value: c.id, selected: c.id === characterId })}>${c.name}</option>`)}</select></div>
      <div id="pr-import-plan" aria-live="polite"></div></div>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-action="take" data-needs="write" data-primary disabled>Import</button>`,
  });
  const slot = dialog.querySelector("#pr-import-plan");
  const go = dialog.querySelector("[data-action=take]");
  const owner = dialog.querySelector("#pr-import-character");

  function paint() {
    go.disabled = !plan?.imported || looking;
    go.textContent = plan?.imported ? `Import ${number(plan.imported)}` : "Import";
    render(
      slot,
      html`${file && html`<p class="row small">${icon("folder")}<strong>${file.name}</strong><span class="muted">${bytes(file.size)}</span>${looking && html`<span class="muted">Reading…</span>`}</p>`}
      ${problem && html`<div class="pr-problem" role="alert">${icon("alert")}<p><strong>${problem.errors?.[0]?.message ?? problem.message}</strong>${problem.remedy && html` ${problem.remedy}`}</p></div>`}
      ${
        plan &&
        html`<dl class="pr-plan"><div class="is-good"><dt>${icon("ok")}New</dt><dd>${number(plan.imported)}</dd></div><div><dt>${icon("copy")}Already here</dt><dd>${number(plan.skipped)}</dd></div><div class="${plan.errors.length ? "is-bad" : ""}"><dt>${icon("error")}Cannot be used</dt><dd>${number(plan.errors.length)}</dd></div></dl>
        ${plan.errors.length > 0 && html`<section class="stack-1"><h3>Rows that are left out</h3><ul class="pr-import-errors">${plan.errors.slice(0, SHOWN_ERRORS).map((e) => html`<li><strong>Row ${e.row}</strong> ${e.message}</li>`)}${plan.errors.length > SHOWN_ERRORS && html`<li class="muted">and ${number(plan.errors.length - SHOWN_ERRORS)} more</li>`}</ul></section>`}
        ${plan.preview?.length > 0 && html`<section class="stack-1"><h3>${plan.preview.length < plan.imported ? `The first ${plan.preview.length} of ${number(plan.imported)}` : plural(plan.imported, "new prompt")}</h3><ul class="pr-preview">${plan.preview.map((p, i) => html`<li data-key="p${i}"><p>${p.prompt}</p><p class="small muted">${p.characterName ?? session.find(p.characterId)?.name ?? "Any character"}${p.caption && html` · ${p.caption}`}</p></li>`)}</ul></section>`}`
      }`,
    );
  }
  const send = (dryRun) => {
    const form = new FormData();
    form.append("file", file, file.name);
    return api.upload("/api/prompts/import", form, { query: { ...(dryRun ? { dryRun: 1 } : {}), characterId: owner.value } });
  };
  async function look() {
    if (!file) return;
    const mine = (turn += 1);
    looking = true;
    problem = null;
    paint();
    try {
      const answer = await send(true);
      if (mine !== turn) return;
      plan = { ...answer, errors: answer.errors ?? [] };
    } catch (error) {
      if (mine !== turn) return;
      plan = null;
      problem = error;
    }
    looking = false;
    paint();
  }
  dialog.addEventListener("drop-zone:files", ({ detail }) => {
    if (detail.refused.length && !detail.files.length) {
      plan = null;
      problem = { message: `“${detail.refused[0].name}” is neither CSV nor JSON.`, remedy: "Save the sheet as CSV first." };
      file = null;
      paint();
      return;
    }
    [file] = detail.files;
    look();
  });
  owner.addEventListener("change", look);
  onAction(dialog, {
    take: (_e, el) =>
      busy(el, async () => {
        try {
          const answer = await send(false);
          taken = answer.imported;
          toast.success(`${plural(taken, "prompt")} imported`, {
            detail: answer.skipped ? `${number(answer.skipped)} were there already.` : "",
          });
          dialog.close("done");
        } catch (error) {
          problem = error;
          paint();
        }
      }),
  });
  paint();
  look();
  await closed;
  return taken;
}
