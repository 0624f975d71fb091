/** Taking files in: drop them anywhere, two go up at a time, each says how it went. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { onAction, render } from "../../dom.js";
import { bytes, number, plural } from "../../format.js";
import { thumbUrl } from "../../components/media-grid.js";

const AT_ONCE = 2;
const SHOWN = 100;

/**
 * @param {HTMLElement} panel where the list is shown
 * @param {{characterId: () => string, open: (id: string) => void, done: (items: any[]) => void}} page
 */
export function setUpImport(panel, page) {
  /** @type {{id: number, file: File, state: "waiting"|"sending"|"done"|"duplicate"|"refused", sent: number, item?: any, error?: any}[]} */
  let rows = [];
  let serial = 0,
    running = 0,
    frame = 0;
  const soon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      paint();
    });
  };
  const count = (state) => rows.filter((r) => r.state === state).length;
  const LOOK = {
    waiting: ["clock", "Waiting"],
    sending: ["upload", "Sending"],
    done: ["ok", "Imported"],
    duplicate: ["copy", "Already here"],
    refused: ["error", "Refused"],
  };

  function paint() {
    panel.hidden = !rows.length;
    if (!rows.length) {
      render(panel, html``);
      return;
    }
    const open = count("waiting") + count("sending"),
      finished = rows.length - open;
    const facts = [
      count("done") && plural(count("done"), "new picture"),
      count("duplicate") && `${number(count("duplicate"))} already here`,
      count("refused") && `${number(count("refused"))} refused`,
    ].filter(Boolean);
    // what needs eyes first: failures, then what is going on, then the newest
    const rank = { refused: 0, sending: 1, waiting: 2, duplicate: 3, done: 4 };
    const shown = [...rows].sort((a, b) => rank[a.state] - rank[b.state] || a.id - b.id).slice(0, SHOWN);
    render(
      panel,
      html`<header class="gl-import-head"><div><h2>${open ? `Importing ${number(finished + 1 > rows.length ? rows.length : finished + 1)} of ${number(rows.length)}` : "Import finished"}</h2><p class="small muted" role="status">${open ? "" : facts.join(", ")}</p></div>
        ${count("refused") > 0 && !open && html`<button type="button" class="btn btn-small" data-action="import-retry">Try refused again</button>`}
        <button type="button" class="icon-btn" data-action="import-close" aria-label="${open ? "Cancel what waits, and close" : "Close"}" title="${open ? "Cancel what waits, and close" : "Close"}">${icon("x")}</button></header>
      <progress max="${rows.length}" value="${finished}" aria-label="Files imported"></progress>
      <ul class="gl-import-list">${shown.map(
        (
          r,
        ) => html`<li class="is-${r.state}" data-key="f${r.id}">${r.item ? html`<img src="${thumbUrl(r.item)}" alt="">` : html`<span class="gl-import-icon">${icon("image")}</span>`}
        <div class="gl-import-text"><strong class="truncate">${r.file.name}</strong><span class="small">${r.state === "refused" ? html`${r.error?.message}${r.error?.remedy && html` <span class="muted">${r.error.remedy}</span>`}` : r.state === "duplicate" ? html`<span class="muted">The same file is in the gallery already, so nothing was added.</span>` : html`<span class="muted">${bytes(r.file.size)}${r.item?.hasRecipe ? ", with its recipe" : ""}</span>`}</span>${r.state === "sending" && html`<progress max="1" aria-label="${r.file.name}" ${attrs({ value: r.sent || null })}></progress>`}</div>
        <span class="gl-import-state" title="${LOOK[r.state][1]}">${icon(LOOK[r.state][0], LOOK[r.state][1])}</span>${r.item && html`<button type="button" class="btn btn-ghost btn-small" data-action="import-open" data-id="${r.item.id}">Open</button>`}</li>`,
      )}</ul>
      ${rows.length > SHOWN && html`<p class="gl-note">${number(rows.length - SHOWN)} more are not listed.</p>`}`,
    );
  }

  async function work() {
    running += 1;
    for (let row; (row = rows.find((r) => r.state === "waiting"));) {
      row.state = "sending";
      soon();
      const form = new FormData();
      form.append("file", row.file, row.file.name);
      if (page.characterId()) form.append("characterId", page.characterId());
      try {
        const answer = await api.upload("/api/media", form, {
          onProgress: (fraction) => {
            row.sent = fraction;
            soon();
          },
        });
        row.item = answer.items[0];
        row.state = row.item.duplicate ? "duplicate" : "done";
      } catch (error) {
        row.error = error;
        row.state = "refused";
      }
      soon();
    }
    running -= 1;
    if (!running) page.done(rows.filter((r) => r.item).map((r) => r.item));
  }
  const start = () => {
    while (running < AT_ONCE && running < count("waiting") + count("sending")) work();
  };

  onAction(panel, {
    "import-close": () => {
      rows = [];
      paint();
    }, // what is being sent goes on, what waits is dropped
    "import-retry": () => {
      rows.forEach((r) => {
        if (r.state === "refused") {
          r.state = "waiting";
          r.error = null;
          r.sent = 0;
        }
      });
      start();
      soon();
    },
    "import-open": (_e, el) => page.open(el.dataset.id),
  });

  return {
    /** @param {Iterable<File>} files */
    add(files) {
      const list = [...files];
      if (!list.length) return;
      if (!running) rows = []; // a new import, the last one is history
      rows.push(...list.map((file) => ({ id: (serial += 1), file, state: "waiting", sent: 0 })));
      paint();
      start();
    },
    choose() {
      const input = document.createElement("input");
      input.type = "file";
      input.multiple = true;
      input.accept = "image/png,image/jpeg,image/webp,image/*";
      input.addEventListener("change", () => this.add(input.files));
      input.click();
    },
    get busy() {
      return running > 0;
    },
  };
}

/** Files dropped anywhere on the page, also inside folders. @param {HTMLElement} veil shown while files hang over the page @param {(files: File[]) => void} take */
export function dropAnywhere(veil, take) {
  let depth = 0;
  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const hide = () => {
    depth = 0;
    veil.hidden = true;
  };
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (files(event) && (depth -= 1) <= 0) hide();
  });
  addEventListener("dragover", (event) => {
    if (files(event)) event.preventDefault();
  });
  addEventListener("drop", async (event) => {
    if (!files(event)) return;
    event.preventDefault();
    hide();
    const entries = [...event.dataTransfer.items].map((i) => i.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files];
    take(entries.some((e) => e.isDirectory) ? (await Promise.all(entries.map(walk))).flat() : plain);
  });
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(),
    found = [];
  for (let part; (part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length;) found.push(...part);
  return (await Promise.all(found.map(walk))).flat().filter((f) => f.type.startsWith("image/"));
}
