/** What some sections show beside their settings: this browser, the way to related pages. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { render } from "../../dom.js";
import { plural } from "../../format.js";
import { applyTheme, prefs } from "../../prefs.js";

const THEMES = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

/** What only this browser remembers. @param {HTMLElement} root @param {{signal: AbortSignal}} options */
function browser(root, { signal }) {
  const paint = () =>
    render(
      root,
      html`<section class="panel se-panel" aria-labelledby="se-browser"><header class="panel-head"><h2 id="se-browser">This browser</h2></header><p class="muted se-text">Kept in this browser only, at once.</p><div class="se-rows">
        <div class="se-row" id="theme" data-setting="theme"><div class="se-what"><p class="se-label" id="se-theme-label">Theme</p></div><div class="se-control"><div class="se-choice" role="radiogroup" aria-labelledby="se-theme-label">${THEMES.map(([value, label]) => html`<label><input type="radio" name="se-theme" value="${value}" ${value === prefs.get("theme", "system") ? html`checked` : ""}><span>${label}</span></label>`)}</div></div></div>
        <div class="se-row is-switch" id="shortcuts" data-setting="shortcuts"><div class="se-what"><label class="se-label" for="se-shortcuts">Keyboard shortcuts</label><p class="se-help">Press <kbd>?</kbd> for the list.</p></div><div class="se-control"><input type="checkbox" role="switch" class="switch" id="se-shortcuts" ${prefs.get("shortcuts", true) ? html`checked` : ""}></div></div></div></section>`,
    );
  root.addEventListener(
    "change",
    (event) => {
      if (event.target.name === "se-theme") {
        prefs.set("theme", event.target.value);
        applyTheme(event.target.value);
        document.querySelector("app-shell").pageTitle = "Settings"; // the shell's own theme button follows
      }
      if (event.target.id === "se-shortcuts") prefs.set("shortcuts", event.target.checked);
    },
    { signal },
  );
  paint();
}

/** A panel that leads elsewhere, with a fact when it can be told. */
const pointer = (title, text, links, load) => (root, { signal }) => {
  const paint = (fact = "") =>
    render(
      root,
      html`<section class="panel se-panel se-pointer"><header class="panel-head"><h2>${title}</h2></header><p class="muted">${fact || text}</p><div class="row">${links.map(([href, label, glyph]) => html`<a class="btn" href="${href}">${icon(glyph)}${label}</a>`)}</div></section>`,
    );
  paint();
  load?.()
    .then((fact) => !signal.aborted && paint(fact))
    .catch(() => {});
};

/** By section: what stands before and after the form. */
export const EXTRA_PANELS = {
  general: { after: browser },
  engines: {
    after: pointer("More about engines", "Monitoring shows how they are doing and what they have loaded.", [
      ["/monitoring.html", "Monitoring", "monitoring"],
      ["/studio.html", "Studio", "studio"],
    ]),
  },
  publishing: {
    after: pointer("Accounts", "Keys belong to the characters. Connections shows how each account is doing.", [
      ["/connections.html", "Connections", "link"],
      ["/characters.html", "Characters", "characters"],
    ]),
  },
  scheduler: {
    before: pointer(
      "Tasks and stops",
      "The schedule page has the tasks and the switch that stops everything.",
      [["/schedule.html", "Schedule", "clock"]],
      async () => {
        const { paused } = await api.get("/api/scheduler/state");
        return paused ? `Publishing is stopped${paused.reason ? `: ${paused.reason.replace(/[.\s]+$/, "")}` : ""}. Nothing goes out until it is started again.` : "";
      },
    ),
  },
  models: {
    before: pointer("Models", "The models page shows what is there, how large it is, where it is used and whether it fits this machine.", [["/models.html", "Models", "layers"]]),
  },
  webhooks: {
    before: pointer(
      "Webhooks",
      "Webhooks are made and tested under Connections.",
      [["/connections.html#webhooks", "Edit webhooks", "link"]],
      async () => {
        const { items } = await api.get("/api/webhooks");
        const broken = items.filter((h) => h.enabled === false || h.isActive === false).length;
        return items.length ? `${plural(items.length, "webhook")}${broken ? `, ${broken} switched off` : ""}. They are made and tested under Connections.` : "";
      },
    ),
  },
};
