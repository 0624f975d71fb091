/** Adding weights: a .safetensors file dropped on the page goes to the server in pieces; its header is checked before it lands. */
import { api, isAbort } from "../../api.js";
import { onAction, render } from "../../dom.js";
import { bytes, percent } from "../../format.js";
import { html, icon } from "../../html.js";
import { follow } from "../../jobs.js";
import { toast } from "../../notices.js";
import { forget, send } from "../datasets/uploads.js";
import { headerProblem } from "./words.js";

const WHERE = { model: "a model", lora: "a LoRA", vae: "a VAE", text_encoder: "a text encoder", upscaler: "an upscaler" };

/** @param {HTMLElement} root @param {{added: () => void}} owner */
export function addPanel(root, owner) {
  let rows = [],
    serial = 0;
  render(root, html`<drop-zone accept=".safetensors" multiple label="Drop .safetensors files here or choose" hint="Models, LoRAs, VAEs, text encoders, upscalers: each goes where it belongs." data-needs="write"></drop-zone><ul class="ms-uploads"></ul>`);
  const list = root.querySelector("ul");
  const paint = () =>
    render(
      list,
      html`${rows.map((r) => html`<li class="ms-upload" data-key="${r.key}"><div class="ms-held-what"><strong>${r.file.name}</strong><small class="${r.error ? "ms-wrong" : "muted"}">${r.error ? html`${icon("alert")}<span>${r.error}</span>` : `${bytes(r.file.size)} · ${r.said}`}</small></div>
        ${r.error ? html`<button type="button" class="btn btn-small" data-action="add-again" data-key="${r.key}">Try again</button>` : html`<progress max="1" value="${r.sent}" aria-label="${r.file.name}"></progress><small class="mono">${percent(r.sent)}</small>`}
        <button type="button" class="icon-btn" data-action="add-drop" data-key="${r.key}" aria-label="Leave out ${r.file.name}" title="Leave out">${icon("x")}</button></li>`)}`,
    );
  async function go(row) {
    row.stop = new AbortController();
    const { signal } = row.stop;
    Object.assign(row, { error: "", sent: 0, said: "Checking" });
    paint();
    try {
      const wrong = headerProblem(await row.file.slice(0, 9).arrayBuffer(), row.file.size);
      if (wrong) throw new Error(wrong);
      row.said = "Sending";
      const id = await send(row.file, row.file.name, {
        signal,
        onProgress: (fraction, resumed) => {
          row.sent = fraction;
          row.said = resumed ? "Sending, from where it was" : "Sending";
          paint();
        },
      });
      row.said = "Checking the header";
      paint();
      let task;
      try {
        task = await api.post("/api/shelf/add", { uploadId: id }, { signal });
      } catch (problem) {
        if (problem.status === 422 || problem.status === 409) {
          api.delete(`/api/uploads/${encodeURIComponent(id)}`).catch(() => {});
          forget(row.file, row.file.name);
        }
        throw problem;
      }
      const done = await follow(task.taskId, { signal });
      forget(row.file, row.file.name);
      rows = rows.filter((one) => one !== row);
      paint();
      toast.success(`${done.result.name} is on the shelf as ${WHERE[done.result.kind] ?? "a part"}`);
      owner.added();
    } catch (problem) {
      if (isAbort(problem)) return;
      row.error = [problem.message, problem.remedy].filter(Boolean).join(" ");
      paint();
    }
  }
  root.addEventListener("drop-zone:files", ({ detail }) => {
    if (detail.refused?.length) toast.error(`${detail.refused.map((f) => f.name).join(", ")}: only .safetensors files can be added here.`);
    for (const file of detail.files) {
      const row = { key: String((serial += 1)), file, sent: 0, said: "Waiting", error: "", stop: null };
      rows.push(row);
      go(row);
    }
  });
  const find = (el) => rows.find((r) => r.key === el.dataset.key);
  onAction(root, {
    "add-again": (_e, el) => go(find(el)),
    "add-drop": (_e, el) => {
      const row = find(el);
      row?.stop?.abort();
      rows = rows.filter((one) => one !== row);
      paint();
    },
  });
}
