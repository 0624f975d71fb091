/** Where Instagram fetches pictures: the setting, and a test that takes the same way as Instagram. */
import { api } from "../../api.js";
import { attrs, html, icon } from "../../html.js";
import { busy } from "../../dom.js";
import { showErrors } from "../../forms.js";
import { toast } from "../../notices.js";
import { fieldRow } from "../../components/field-row.js";

const STEPS = {
  address: "Address",
  dns: "Name",
  bucket: "Bucket",
  upload: "Upload",
  fetch: "Fetch",
  type: "Kind",
  picture: "Picture",
  robots: "robots.txt",
};
const MODES = { own: ["good", "ok", "This app"], bucket: ["good", "ok", "A bucket"], none: ["neutral", "off", "Not set up"] };
const BUCKET = [
  ["s3Endpoint", "Address of the bucket's service", "https://…r2.cloudflarestorage.com", "url"],
  ["s3Bucket", "Name of the bucket", "", "text"],
  ["s3Region", "Region", "auto", "text"],
  ["s3AccessKey", "Access key", "", "password"],
  ["s3SecretKey", "Secret key", "", "password"],
  ["s3PublicUrl", "Public address of the bucket", "https://pictures.example.com", "url"],
];

/** @param {{hosting: any, settings: Map<string, any>, result: any, open: boolean}} view */
export function hostingPanel({ hosting, settings, result, open }) {
  const [tone, glyph, label] = hosting.remedy && hosting.mode !== "none" ? ["bad", "error", "Cannot work"] : (MODES[hosting.mode] ?? MODES.none);
  return html`<header class="panel-head"><h2 id="co-hosting-title">Where Instagram fetches pictures</h2><span class="badge badge-${tone}">${icon(glyph)}<span>${label}</span></span></header>
    <div class="stack-3"><p class="muted">Instagram takes no uploads: it fetches each picture from an address on the internet. Only prepared pictures are reachable there, under an address nobody can guess.</p>
    <p>${hosting.detail}${hosting.remedy && html` <span class="muted">${hosting.mode === "none" && settings.size ? "Give this app a public https address, or use a bucket. Until then posts on Instagram can only be rehearsed." : hosting.remedy}</span>`}</p>
    ${result && resultView(result)}
    <div class="row"><button type="button" class="btn ${hosting.mode === "none" ? "" : "btn-primary"}" data-action="check-hosting" data-needs="publish" ${attrs({ disabled: hosting.mode === "none" })}>${icon("bolt")}Run check</button>
      ${settings.size > 0 && html`<button type="button" class="btn" data-action="hosting-edit" aria-expanded="${String(open)}">${icon("edit")}${hosting.mode === "none" ? "Set it up" : "Change"}</button>`}</div>
    ${open && settings.size > 0 && editor(settings)}</div>`;
}

function resultView(result) {
  if (result.problem)
    return html`<div class="co-result is-bad" role="status"><p>${icon("alert")}<span>${result.problem.message}${result.problem.remedy && html` <span class="muted">${result.problem.remedy}</span>`}</span></p></div>`;
  return html`<div class="co-result ${result.ok ? "is-ok" : "is-bad"}"><p role="status">${icon(result.ok ? "ok" : "error")}<strong>${result.ok ? "Instagram can fetch pictures." : "Instagram cannot fetch pictures."}</strong></p>
    <ol class="co-steps">${result.steps.map((s) => html`<li class="${s.ok ? "is-ok" : "is-bad"}">${icon(s.ok ? "check" : "x", s.ok ? "Works" : "Does not work")}<div><p><span class="co-step">${STEPS[s.name] ?? s.name}</span> ${s.detail}</p>${!s.ok && s.remedy && html`<p class="co-fix">${s.remedy}</p>`}</div></li>`)}</ol>
    ${result.url && html`<p class="small muted co-url">Tested with <code>${result.url}</code></p>`}</div>`;
}

const locked = (s) => s.locked && html`${icon("lock")} ${s.env} is set in the environment, which wins over this page.`;

function field(settings, [name, label, placeholder, type], hint) {
  const s = settings.get(name);
  if (!s) return "";
  const secret = type === "password";
  return fieldRow({
    name,
    label,
    type,
    value: secret ? "" : (s.value ?? ""),
    placeholder: secret && s.set ? "Saved. Type to replace it" : placeholder,
    disabled: s.locked,
    spellcheck: false,
    hint: locked(s) || hint,
  });
}

function editor(settings) {
  const bucket = BUCKET.some(([name]) => settings.get(name)?.value && settings.get(name).source !== "default");
  return html`<form class="co-editor stack-3" data-form="hosting" novalidate>
    ${field(settings, ["publicBaseUrl", "Public address of this app", "https://dalla.example.com", "url"], "The https name of your tunnel or reverse proxy. Only addresses under /public/ need to be let through.")}
    <details ${attrs({ open: bucket })}><summary>Or a bucket (R2, S3, MinIO)</summary><div class="cols-2 co-bucket">${BUCKET.map((row) => field(settings, row))}</div></details>
    <div class="row"><button type="submit" class="btn btn-primary" data-needs="admin">${icon("save")}Save and check</button><button type="button" class="btn btn-ghost" data-action="hosting-edit">Cancel</button></div></form>`;
}

/** @param {{settings: () => Map<string, any>, saved: (items: any[]) => void, tested: (result: any) => void, changed: () => Promise<void>, toggle: () => void}} page */
export function hostingActions(page) {
  const check = async () => {
    try {
      page.tested(await api.post("/api/platforms/hosting/check"));
    } catch (error) {
      page.tested({ problem: error });
    }
  };
  return {
    "check-hosting": (_e, el) => busy(el, check),
    "hosting-edit": () => page.toggle(),
    /** @param {HTMLFormElement} form */
    submit: (form) =>
      busy(form.querySelector("[type=submit]"), async () => {
        const changes = {};
        for (const [name, s] of page.settings()) {
          const input = form.elements[name];
          if (!input || s.locked) continue;
          const value = input.value.trim();
          if (input.type === "password" ? value : value !== (s.value ?? "")) changes[name] = value || null;
        }
        try {
          if (Object.keys(changes).length) page.saved((await api.patch("/api/settings", changes)).items);
          page.toggle();
          await page.changed();
          toast.success("Saved");
          await check();
        } catch (error) {
          if (error.errors?.length) showErrors(form, error.errors);
          else toast.error(error);
        }
      }),
  };
}
