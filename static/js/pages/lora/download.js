/** Download of a LoRA: the file as it lies on the shelf, or with the key names another program reads. */
import { ApiError, NetworkError } from "../../api.js";
import { html, icon } from "../../html.js";

export const FORMS = [
  { form: "kohya", label: "For kohya, ComfyUI, A1111" },
  { form: "peft", label: "For diffusers (PEFT keys)" },
];

/** The button and its menu. @param {{name: string, fileUrl: string}} l @param {number} place unique on the page */
export const downloadMenu = (l, place) => html`<button type="button" class="icon-btn" popovertarget="lo-get-${place}" aria-haspopup="menu" aria-label="Download ${l.name}" title="Download">${icon("download")}</button>
  <div id="lo-get-${place}" popover class="popover menu" role="menu" aria-label="Download ${l.name}" data-align="end"><a role="menuitem" href="${l.fileUrl}" download>${icon("download")}<span>As it is</span></a>${FORMS.map(({ form, label }) => html`<button type="button" role="menuitem" data-action="lora-get" data-name="${l.name}" data-form="${form}">${icon("download")}<span>${label}</span></button>`)}</div>`;

/** The file name an answer says, or the one given. Pure. @param {string|null} header Content-Disposition @param {string} name */
export function nameIn(header, name) {
  const wide = /filename\*=UTF-8''([^;]+)/i.exec(header ?? "");
  if (wide) return decodeURIComponent(wide[1]);
  return /filename="?([^";]+)"?/i.exec(header ?? "")?.[1] ?? name;
}

/**
 * Fetch a LoRA in another form and hand it to the browser. Throws ApiError where it cannot be converted.
 * @param {{name: string, fileUrl: string}} l @param {string} form
 */
export async function saveAs(l, form) {
  const response = await fetch(`${l.fileUrl}?format=${encodeURIComponent(form)}`, { credentials: "same-origin" }).catch(() => null);
  if (!response) throw new NetworkError();
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = nameIn(response.headers.get("Content-Disposition"), `${l.name}-${form}.safetensors`);
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
