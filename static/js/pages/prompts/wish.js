/** How captions should be written: language, length, tone, for which platform, by whom. Kept per browser. */
import { api } from "../../api.js";
import { render } from "../../dom.js";
import { attrs, html, icon } from "../../html.js";
import { prefs } from "../../prefs.js";
import { providerBadge, PROVIDERS } from "./facts.js";

const TONES = ["friendly", "playful", "dreamy", "confident", "poetic", "mysterious", "matter-of-fact"];
const LANGUAGES = ["English", "Deutsch", "Español", "Français", "Italiano", "Português", "日本語"];
export const LENGTHS = {
  "": ["As it comes", ""],
  short: ["One sentence", "short, a single sentence"],
  medium: ["Two or three sentences", "two or three sentences"],
  long: ["A small story", "long, a small story in several sentences"],
};
export const PLATFORM_LABELS = { instagram: "Instagram", twitter: "X" };

/** What is sent: the length goes along with the tone, in words. Pure. @param {Record<string, string>} wish */
export function toBody({ language, tone, length, platform, engine } = {}) {
  const how = [tone?.trim(), LENGTHS[length]?.[1]].filter(Boolean).join("; ");
  const body = { language: language?.trim(), tone: how, platform, engine };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value));
}
/** In a few words, for the button. Pure. */
export const summary = ({ language, tone, length, platform } = {}) =>
  [language, tone, length && LENGTHS[length]?.[0].toLowerCase(), platform && `for ${PLATFORM_LABELS[platform]}`].filter(Boolean).join(", ");

/** @param {HTMLElement} slot @param {HTMLElement} button its label says what is chosen */
export function captionWish(slot, button) {
  let wish = prefs.get("captionWish", {}) ?? {};
  let engines = null;
  const option = (value, label, now, disabled) =>
    html`<option ${attrs({ value, selected: value === (now ?? ""), disabled })}>${label}</option>`;
  function paint() {
    const said = summary(wish);
    render(
      button,
      html`${icon("sliders")}<span class="pr-wish-label">Captions${said && html`: <span class="muted">${said}</span>`}</span>`,
    );
    const chosen = engines?.engines?.find((e) => e.name === (wish.engine || engines.selected));
    render(
      slot,
      html`<form class="stack-3 pr-wish"><h2>How captions are written</h2>
      <div class="field"><label for="pr-language">Language</label><input id="pr-language" data-wish="language" list="pr-languages" placeholder="as the character's texts" autocomplete="off" maxlength="100" value="${wish.language ?? ""}"></div>
      <div class="field"><label for="pr-tone">Tone</label><input id="pr-tone" data-wish="tone" list="pr-tones" placeholder="as the character talks" autocomplete="off" maxlength="140" value="${wish.tone ?? ""}"></div>
      <div class="field"><label for="pr-length">Length</label><select id="pr-length" data-wish="length">${Object.entries(LENGTHS).map(([value, [label]]) => option(value, label, wish.length))}</select></div>
      <div class="field"><label for="pr-platform">For</label><select id="pr-platform" data-wish="platform">${option("", "Instagram and X", wish.platform)}${Object.entries(PLATFORM_LABELS).map(([value, label]) => option(value, label, wish.platform))}</select></div>
      <div class="field"><label for="pr-engine">Written by</label><select id="pr-engine" data-wish="engine">${option("", engines ? `As set (${PROVIDERS[engines.selected]?.label ?? engines.selected})` : "As set", wish.engine)}${(engines?.engines ?? []).map((e) => option(e.name, `${PROVIDERS[e.name]?.label ?? e.label}${e.available ? "" : " (not available)"}`, wish.engine))}</select></div>
      <datalist id="pr-languages">${LANGUAGES.map((l) => html`<option value="${l}"></option>`)}</datalist><datalist id="pr-tones">${TONES.map((t) => html`<option value="${t}"></option>`)}</datalist>
      ${chosen && !chosen.available ? html`<p class="pr-engine-note">${icon("alert")}<span>${chosen.reason ?? "It does not answer."} ${chosen.remedy ?? ""} Until then captions are composed offline.</span></p>` : chosen?.name === "composer" ? html`<p class="pr-engine-note">${icon("info")}<span>Captions are put together offline and marked so. With a Gemini key or a local server they are written from the picture's idea and the character's voice.</span></p>` : chosen ? html`<p class="small muted">${providerBadge(chosen.name)} ${chosen.model ?? ""}</p>` : ""}</form>`,
    );
  }
  slot.addEventListener("submit", (event) => event.preventDefault());
  const take = (event) => {
    const { wish: name } = event.target.dataset;
    if (!name) return;
    wish = { ...wish, [name]: event.target.value };
    prefs.set("captionWish", wish);
    paint();
  };
  slot.addEventListener("input", take);
  slot.addEventListener("change", take);
  paint();
  api
    .get("/api/captions/engines")
    .then((answer) => {
      engines = answer;
      paint();
    })
    .catch(() => {});
  return {
    body: () => toBody(wish),
    get engine() {
      return PROVIDERS[wish.engine || engines?.selected]?.label ?? "";
    },
  };
}
