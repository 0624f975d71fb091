/** Choose pictures of the gallery for a post. */
import { api } from "../../api.js";
import { html } from "../../html.js";
import { plural } from "../../format.js";
import { openDialog } from "../confirm-dialog.js";
import { emptyState } from "../states.js";

/**
 * @param {{characterId?: string, taken?: string[], characters?: any[]}} [options] `taken` are in the post already
 * @returns {Promise<any[]>} the chosen items, in the order they were chosen
 */
export async function pickPictures({ characterId = "", taken = [], characters = [] } = {}) {
  const chosen = new Map();
  let who = characterId;
  const { dialog, closed } = openDialog({
    title: "Add pictures",
    size: "l",
    body: html`<div class="toolbar pc-pick-bar"><label class="row">Character <select data-who><option value="">All</option>${characters.map((c) => html`<option value="${c.id}">${c.name}</option>`)}</select></label>
        <label class="check"><input type="checkbox" data-unposted><span>Not posted yet</span></label></div><media-grid class="pc-pick"></media-grid>`,
    footer: html`<span class="muted small pc-pick-said" role="status"></span><span class="spacer"></span><button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-primary" data-close="ok" data-primary disabled>Add</button>`,
  });
  dialog.querySelector(".dialog-body").setAttribute("data-scroller", "");
  const grid = dialog.querySelector("media-grid");
  const add = dialog.querySelector("[data-close=ok]");
  const select = dialog.querySelector("[data-who]");
  const unposted = dialog.querySelector("[data-unposted]");
  select.value = who;
  grid.size = 140;
  grid.label = "Pictures to choose from";
  grid.badges = (item) => (taken.includes(item.id) ? [{ icon: "check", label: "In this post already" }] : []);
  grid.emptyView = emptyState({ icon: "image", title: "No pictures here", text: "Choose another character, or make one in the studio." });
  grid.loadPage = (cursor, limit) =>
    api.get("/api/media", {
      query: { cursor, limit, type: "image", characterId: who, posted: unposted.checked ? "false" : null },
    });
  const say = () => {
    add.disabled = !chosen.size;
    add.textContent = chosen.size ? `Add ${plural(chosen.size, "picture")}` : "Add";
    dialog.querySelector(".pc-pick-said").textContent = chosen.size ? "" : "Click the pictures you want, in the order they shall stand.";
  };
  grid.addEventListener("media-grid:select", ({ detail }) => {
    const ids = new Set(detail.ids);
    for (const id of [...chosen.keys()]) if (!ids.has(id)) chosen.delete(id);
    for (const id of detail.ids) if (!chosen.has(id) && grid.find(id)) chosen.set(id, grid.find(id));
    say();
  });
  grid.addEventListener("media-grid:open", ({ detail }) => {
    grid.selection = [...chosen.keys(), detail.item.id]; // from here on clicks choose and unchoose
  });
  const again = () => {
    who = select.value;
    grid.clearSelection();
    grid.reload();
  };
  select.addEventListener("change", again);
  unposted.addEventListener("change", again);
  say();
  grid.reload();
  return (await closed) === "ok" ? [...chosen.values()] : [];
}
