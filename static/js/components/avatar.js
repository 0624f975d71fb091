/** A character's picture, or its initials on a colour of its own. Template function for html``. */
import { html } from "../html.js";
import { initials } from "../format.js";

const tone = (id) => [...String(id ?? "")].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 6, 0);

/** @param {{id: string, name: string, avatarMediaId?: string|null, avatarUrl?: string|null}} character @param {"s"|"m"|"l"} [size] */
export function avatar(character, size = "m") {
  const src = character.avatarUrl || (character.avatarMediaId ? `/api/media/${encodeURIComponent(character.avatarMediaId)}/thumb` : "");
  return html`<span class="avatar avatar-${size} avatar-tone-${tone(character.id)}" aria-hidden="true">${src ? html`<img src="${src}" alt="" loading="lazy">` : initials(character.name)}</span>`;
}
