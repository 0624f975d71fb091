/** The pictures of a training set as they will be trained: what is cut off, their captions, what is wrong with them. */
import { api } from "../../api.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { busy, onAction, render } from "../../dom.js";
import { number, percent, plural } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { ownCaption } from "./words.js";

const FILTERS = { no_caption: "Without caption", upscaled: "Enlarged", heavy_crop: "Much cut off", duplicate: "Copies", near_duplicate: "Alike", long_caption: "Long caption" };
const FIRST = 60; // shown at once; more on demand

/** A picture with what is cut off darkened. Template function. @param {any} p as the estimate's images @param {string} size "s" or "m" */
export function cropView(p, size = "s") {
  const [x0, y0, x1, y1] = p.box;
  const words = `${p.file}, ${p.width} × ${p.height}, trained as ${p.bucket[0]} × ${p.bucket[1]}${p.lostFraction > 0.005 ? `, ${percent(p.lostFraction)} is cut off` : ""}`;
  return html`<svg class="lo-crop" viewBox="0 0 ${p.width} ${p.height}" role="img" aria-label="${words}"><image href="${p.fileUrl}?size=${size}" width="${p.width}" height="${p.height}" preserveAspectRatio="none"/>
    ${p.lostFraction > 0.005 && html`<path class="lo-cut" fill-rule="evenodd" d="M0 0H${p.width}V${p.height}H0ZM${x0} ${y0}H${x1}V${y1}H${x0}Z"/><rect class="lo-box" x="${x0}" y="${y0}" width="${x1 - x0}" height="${y1 - y0}" vector-effect="non-scaling-stroke"/>`}</svg>`;
}

/**
 * @param {HTMLElement} root
 * @param {{set: () => string, elsewhere?: () => string, trigger: () => string, changed: () => any}} owner `elsewhere`: the page
 *   where these pictures are edited, "" when it is here
 */
export function picturesSection(root, owner) {
  let images = [],
    skipped = [],
    filter = "",
    all = false;
  const path = (file, set = owner.set()) => `/api/lora/training-data/${encodeURIComponent(set)}/files/${file.split("/").map(encodeURIComponent).join("/")}`;
  const has = (p, code) => p.problems.some((problem) => problem.code === code);
  const shown = () => (filter ? images.filter((p) => has(p, filter)) : images);

  function paint() {
    if (filter && !shown().length) filter = "";
    const counts = Object.entries(FILTERS).map(([code, label]) => [code, label, images.filter((p) => has(p, code)).length]);
    const list = shown();
    const part = all ? list : list.slice(0, FIRST);
    render(
      root,
      !images.length && !skipped.length
        ? html``
        : html`<header class="panel-head"><h2>Pictures <span class="count">${number(images.length)}</span></h2></header>
      <div class="row lo-chips" role="group" aria-label="Show"><button type="button" class="chip" data-action="picture-filter" data-value="" aria-pressed="${String(!filter)}">All</button>${counts.filter(([, , n]) => n).map(([code, label, n]) => html`<button type="button" class="chip" data-key="${code}" data-action="picture-filter" data-value="${code}" aria-pressed="${String(filter === code)}">${label} ${number(n)}</button>`)}</div>
      <ul class="lo-pictures">${part.map(
        (p) => html`<li data-key="${p.file}"><button type="button" class="lo-picture ${p.problems.length ? "has-problem" : ""}" data-action="picture" data-file="${p.file}" aria-label="${p.file}: caption and crop${p.problems.length ? `. ${p.problems.map((x) => x.message).join(" ")}` : ""}">${cropView(p)}
        <span class="lo-caption small ${p.captionSource === "none" ? "is-none" : ""}">${p.captionSource === "none" ? "No caption" : p.caption}</span>
        <span class="lo-size small muted">${p.bucket[0]} × ${p.bucket[1]}${p.lostFraction > 0.005 && html` · ${percent(p.lostFraction)} cut`}${p.repeats > 1 && html` · × ${p.repeats}`}</span>
        ${p.problems.length > 0 && html`<span class="lo-flag" title="${p.problems.map((x) => x.message).join(" ")}">${icon("alert")}</span>`}</button></li>`,
      )}</ul>
      ${part.length < list.length && html`<button type="button" class="btn" data-action="pictures-all">Show all ${number(list.length)}</button>`}
      ${skipped.length > 0 && html`<details class="lo-skipped" id="lo-skipped"><summary>${plural(skipped.length, "file")} cannot be used</summary><ul>${skipped.map((s) => html`<li><span class="mono">${s.file}</span>: ${s.reason}</li>`)}</ul></details>`}`,
    );
  }

  /** Caption and crop of one picture, with the ones before and after it. */
  async function open(file) {
    const elsewhere = owner.elsewhere?.() ?? "";
    let at = Math.max(0, shown().findIndex((p) => p.file === file));
    const list = [...shown()];
    let dirty = false,
      changed = false;
    const body = document.createElement("div");
    const view = () => {
      const p = list[at];
      const own = ownCaption(p, owner.trigger());
      render(
        body,
        html`<div class="lo-edit" data-key="${p.file}">${cropView(p, "m")}<form class="stack-3"><div class="field"><label for="lo-words">Caption</label><textarea id="lo-words" name="caption" rows="5" maxlength="20000" spellcheck="true" ${attrs({ readonly: Boolean(elsewhere) })}>${own}</textarea><p class="field-hint">Name what should stay changeable: clothes, background, expression. ${owner.trigger() && html`The trigger word <code>${owner.trigger()}</code> is put in front when it is missing.`}</p><p class="field-error" role="alert" hidden></p></div>
        <dl class="facts small"><div><dt>File</dt><dd>${p.file}</dd></div><div><dt>Size</dt><dd>${p.width} × ${p.height}${p.rotated && ", turned upright"}${p.alpha && ", transparent"}</dd></div><div><dt>Trained as</dt><dd>${p.bucket[0]} × ${p.bucket[1]}${p.lostFraction > 0.005 && html`, ${percent(p.lostFraction)} is cut off`}</dd></div></dl>
        ${p.problems.map((x) => html`<p class="small lo-problem">${icon("alert")}<span>${x.message}</span></p>`)}</form></div>`,
      );
      const area = body.querySelector("textarea");
      area.value = own;
      dirty = false;
    };
    const save = async () => {
      const p = list[at];
      const text = body.querySelector("textarea").value;
      if (!dirty) return true;
      try {
        await api.put(path(p.file), { caption: text });
        const empty = !text.trim();
        list[at] = { ...p, caption: text.trim(), captionSource: empty ? "none" : "txt", triggerAdded: false, problems: [...p.problems.filter((x) => x.code !== "no_caption"), ...(empty ? [{ code: "no_caption", message: "It has no caption." }] : [])] };
        dirty = false;
        changed = true;
        return true;
      } catch (problem) {
        const slot = body.querySelector(".field-error");
        slot.textContent = problem.message;
        slot.hidden = false;
        return false;
      }
    };
    const { dialog, closed } = openDialog({
      title: "Training picture",
      size: "l",
      body: html`<div class="lo-edit-slot"></div>`,
      footer: html`${elsewhere ? html`<a class="btn btn-ghost" href="${elsewhere}">${icon("edit")}Edit in the dataset</a>` : html`<button type="button" class="btn btn-ghost is-danger" data-do="remove">${icon("trash")}Take it out</button>`}<span class="spacer"></span><button type="button" class="btn" data-do="back" aria-label="Previous picture">${icon("arrow-left")}</button><span class="small muted lo-count" role="status"></span><button type="button" class="btn" data-do="next" aria-label="${elsewhere ? "Next picture" : "Save and next picture"}">${icon("arrow-right")}</button><button type="button" class="btn btn-primary" data-primary data-do="done">${elsewhere ? "Close" : "Save"}</button>`,
      onOpen: (d) => d.querySelector(".lo-edit-slot").replaceWith(body),
    });
    const show = () => {
      view();
      dialog.querySelector(".lo-count").textContent = `${at + 1} of ${list.length}`;
      dialog.querySelector("[data-do=back]").disabled = at === 0;
      dialog.querySelector("[data-do=next]").disabled = at === list.length - 1;
      body.querySelector("textarea").focus();
    };
    body.addEventListener("input", () => {
      dirty = true;
    });
    body.addEventListener("submit", (event) => event.preventDefault());
    dialog.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-do]");
      if (!button) return;
      const what = button.dataset.do;
      await busy(button, async () => {
        if (what === "remove") {
          const gone = list[at];
          if (await remove([gone.file])) {
            dirty = false;
            dialog.close();
          }
          return;
        }
        if (!(await save())) return;
        if (what === "done") dialog.close();
        else {
          at = Math.min(list.length - 1, Math.max(0, at + (what === "next" ? 1 : -1)));
          show();
        }
      });
    });
    let asking = false;
    dialog.beforeClose = () => {
      if (!dirty) return true;
      if (!asking) {
        asking = true;
        confirmDialog({ title: "Leave the caption as it was?", body: "What you have typed is not saved.", confirmLabel: "Discard", cancelLabel: "Go on writing" }).then((yes) => {
          asking = false;
          if (yes) {
            dirty = false;
            dialog.close();
          }
        });
      }
      return false;
    };
    show();
    await closed;
    if (changed) await owner.changed();
  }

  /** Move pictures to the trash, with undo. */
  async function remove(files) {
    const trash = [];
    const set = owner.set(); // another may be chosen before the last is gone
    let problem = null;
    for (const file of files) {
      try {
        trash.push((await api.delete(path(file, set))).trashId);
      } catch (error) {
        problem = error;
        break;
      }
    }
    if (problem) toast.error(problem);
    if (trash.length)
      toast.success(`${plural(trash.length, "picture")} taken out`, {
        undo: async () => {
          for (const trashId of trash) await api.post("/api/lora/training-data/restore", { trashId });
          await owner.changed();
        },
      });
    await owner.changed();
    return trash.length > 0;
  }

  onAction(root, {
    "picture-filter": (_e, el) => {
      filter = el.dataset.value;
      all = false;
      paint();
    },
    "pictures-all": () => {
      all = true;
      paint();
    },
    picture: (_e, el) => open(el.dataset.file),
  });
  return {
    show(nextImages, nextSkipped) {
      images = [...(nextImages ?? [])].sort((a, b) => a.file.localeCompare(b.file, undefined, { numeric: true }));
      skipped = nextSkipped ?? [];
      root.hidden = !images.length && !skipped.length;
      paint();
    },
    /** Show what has this problem; a caption that is missing is opened for writing. */
    problem(code) {
      filter = images.some((p) => has(p, code)) ? code : "";
      all = true;
      paint();
      root.scrollIntoView({ block: "start" });
      if (code === "no_caption" && shown().length) open(shown()[0].file);
      else root.querySelector(".lo-picture")?.focus();
    },
    skipped() {
      const details = root.querySelector("#lo-skipped");
      if (!details) return;
      details.open = true;
      details.scrollIntoView({ block: "center" });
    },
    removeCopies: () => remove(images.filter((p) => p.duplicateOf).map((p) => p.file)),
  };
}

