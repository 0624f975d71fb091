/** What is known about a prompt, in words and links. Pure. */
import { words } from "../../format.js";
import { html, icon } from "../../html.js";

export const PROVIDERS = {
  gemini: { label: "Gemini", tone: "accent", icon: "bolt", title: "Written by Gemini." },
  local: { label: "Local", tone: "info", icon: "cpu", title: "Written by the local server." },
  composer: {
    label: "Composed offline",
    tone: "neutral",
    icon: "wifi-off",
    title: "Put together offline from the character and the prompt.",
  },
};
const USES = { media: "Picture", post: "Post", run: "Run" };
const PAGES = { media: "/gallery.html?media=", post: "/content.html?post=", run: "/schedule.html?tab=runs&run=" };

/** Who wrote the caption; "" for a person. */
export function providerBadge(provider) {
  const p = PROVIDERS[provider];
  if (!provider || provider === "manual") return "";
  return html`<span class="badge badge-${p?.tone ?? "neutral"} pr-by" title="${p?.title ?? ""}">${icon(p?.icon ?? "info")}<span>${p?.label ?? words(provider)}</span></span>`;
}
/** Where the prompt was used, newest first. Pure. @returns {{label: string, href: string, at: string}[]} */
export const usesOf = (prompt) =>
  [...(prompt.usedIn ?? [])]
    .sort((a, b) => String(b.at ?? "").localeCompare(String(a.at ?? "")))
    .map((use) => ({
      label: USES[use.type] ?? words(use.type),
      href: use.href ?? (PAGES[use.type] ? PAGES[use.type] + encodeURIComponent(use.id) : ""),
      at: use.at ?? "",
    }));
export const studioHref = (prompt) =>
  `/studio.html?${new URLSearchParams({ ...(prompt.characterId ? { character: prompt.characterId } : {}), prompt: prompt.prompt })}`;
