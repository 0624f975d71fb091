/**
 * Say what kind a model is where detection is wrong or found nothing: the setting `modelFamilies`, as a dialog.
 * The built-in starter needs none. Resolves true when something was saved.
 */
import { api } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { busy } from "../../dom.js";
import { html } from "../../html.js";
import { toast } from "../../notices.js";

export const FAMILIES = [
  ["sd15", "Stable Diffusion 1.5"],
  ["sdxl", "Stable Diffusion XL"],
  ["sd3", "Stable Diffusion 3"],
  ["flux", "FLUX.1"],
];

/** What to save: the overrides chosen, those of models not listed kept. Pure. */
export function overrides(before, chosen) {
  const kept = { ...before };
  for (const [name, family] of Object.entries(chosen)) {
    if (family) kept[name] = family;
    else delete kept[name];
  }
  return kept;
}

export async function modelKinds(models) {
  const { items } = await api.get("/api/settings");
  const setting = items.find((row) => row.name === "modelFamilies");
  const before = setting?.value ?? {};
  const listed = [...new Map(models.filter((m) => m.name !== "starter").map((m) => [m.name, m])).values()].sort((a, b) =>
    a.label.localeCompare(b.label),
  );
  const option = (value, label, selected) => html`<option value="${value}" ${selected ? html`selected` : ""}>${label}</option>`;
  const row = (m, i) => {
    const own = before[m.name] ?? "";
    const found = own ? "as found in the file" : `as found: ${m.familyLabel ?? "not recognised"}`;
    return html`<div class="field"><label for="kind-${i}">${m.label}</label>
      <select id="kind-${i}" name="${m.name}">${option("", found, !own)}${FAMILIES.map(([key, label]) => option(key, label, own === key))}</select></div>`;
  };
  const locked = setting?.locked;
  const { dialog, closed } = openDialog({
    title: "Kinds of models",
    body: html`<div class="stack-3"><p class="muted">The kind decides which settings a model takes and how it is asked. Set it only where it was found wrong or not at all.</p>
      ${locked && html`<p class="field-hint">DALLA_MODEL_FAMILIES is set in the environment, which wins over this page.</p>`}
      ${listed.length ? html`<form class="stack-3">${listed.map(row)}</form>` : html`<p>Only the starter model is here, and its kind is known.</p>`}</div>`,
    footer: html`<span class="spacer"></span><button type="button" class="btn" data-close="">Cancel</button>
      <button type="button" class="btn btn-primary" data-save data-primary data-needs="admin" ${!listed.length || locked ? html`disabled` : ""}>Save</button>`,
  });
  dialog.querySelector("[data-save]").addEventListener("click", (event) =>
    busy(event.currentTarget, async () => {
      const chosen = Object.fromEntries(new FormData(dialog.querySelector("form")));
      try {
        await api.patch("/api/settings", { modelFamilies: overrides(before, chosen) });
        dialog.close("saved");
        toast.success("Kinds saved");
      } catch (error) {
        toast.error(error);
      }
    }),
  );
  return (await closed) === "saved";
}
