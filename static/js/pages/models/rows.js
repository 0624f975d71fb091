/** The table of the shelf: columns, and small pieces that the details show too. */
import { ago, bytes } from "../../format.js";
import { attrs, html, icon } from "../../html.js";
import { fitLook, fitText, problemOf, usedText, whereText } from "./words.js";

export const badge = ([tone, glyph, label], title) => html`<span class="badge badge-${tone}" ${attrs({ title })}>${icon(glyph)}<span>${label}</span></span>`;

const GLYPHS = { model: "cube", lora: "layers", captioner: "book", face: "face", upscaler: "expand", tokenizer: "tag", vision: "eye", vae: "image", text_encoder: "keyboard" };

const nameCell = (row) => {
  const wrong = problemOf(row);
  return html`<div class="ms-name"><span class="ms-glyph">${icon(GLYPHS[row.kind] ?? "disk")}</span><span class="ms-title"><button type="button" class="ms-link" data-action="shelf-open" data-id="${row.id}">${row.label}</button>
    <small class="muted">${[row.kindLabel, whereText(row), row.source === "comfyui" ? "ComfyUI" : ""].filter(Boolean).join(" · ")}</small>
    ${wrong && html`<small class="ms-wrong">${icon("alert")}<span>${wrong}</span></small>`}</span></div>`;
};

const none = html`<span class="muted ms-none">–</span>`;
export const hashText = (row) => (row.sha256 ? html`<code class="nowrap" title="SHA-256 ${row.sha256}">${row.autoV2 ?? row.sha256.slice(0, 10)}</code>` : row.hashable ? none : html`<span class="muted ms-none">not here</span>`);

export const COLUMNS = [
  { key: "name", label: "Name", sortable: true, primary: true, render: nameCell },
  { key: "family", label: "Family", render: (row) => row.familyLabel ?? html`<span class="muted ms-none" ${attrs({ title: row.familyNote ?? undefined })}>–</span>` },
  { key: "size", label: "Size", sortable: true, align: "end", render: (row) => html`<span class="nowrap">${row.sizeBytes == null ? "–" : bytes(row.sizeBytes)}</span>` },
  { key: "fit", label: "Memory", render: (row) => (row.fit ? badge(fitLook(row.fit), fitText(row.fit)) : none) },
  { key: "hash", label: "Hash", render: hashText },
  { key: "usedBy", label: "Used by", render: (row) => html`<span class="ms-used">${usedText(row) || html`<span class="muted">nobody</span>`}${row.pinnedBy.length ? html` <span class="badge badge-info" title="Pinned by ${row.pinnedBy.join(", ")}">${icon("lock")}<span>pinned</span></span>` : ""}</span>` },
  { key: "used", label: "Last use", sortable: true, render: (row) => (row.lastUsedAt ? html`<span class="nowrap">${ago(row.lastUsedAt)}</span>` : none) },
];
