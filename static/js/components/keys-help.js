/** The `?` dialog: every shortcut that works now, and the switch that turns plain keys off. */
import { html } from "../html.js";
import { allShortcuts, keyCaps } from "../keys.js";
import { prefs } from "../prefs.js";
import { openDialog } from "./confirm-dialog.js";

let open = false;

export async function showKeys() {
  if (open) return;
  open = true;
  const groups = allShortcuts().filter((g) => g.shortcuts.length);
  const { dialog, closed } = openDialog({
    title: "Keyboard shortcuts",
    size: "l",
    body: html`<div class="keys">${groups.map((g) => html`<section><h3>${g.title}</h3><dl>${g.shortcuts.map((s) => html`<div><dt>${s.label}</dt><dd>${keyCaps(s.keys).map((k) => (k === "then" ? html`<span class="muted">then</span>` : html`<kbd>${k}</kbd>`))}</dd></div>`)}</dl></section>`)}</div>
      <hr><label class="check"><input type="checkbox" role="switch" class="switch" id="keys-on"><span>Single-key shortcuts</span></label><p class="field-hint">Off: only combinations with Ctrl work.</p>`,
  });
  const box = dialog.querySelector("#keys-on");
  box.checked = prefs.get("shortcuts", true);
  box.addEventListener("change", () => prefs.set("shortcuts", box.checked));
  await closed;
  open = false;
}
