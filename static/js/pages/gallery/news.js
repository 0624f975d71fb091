/** Pictures that come, change or go while the gallery is open. The scroll position is never lost: above it waits a button. */
import { api } from "../../api.js";
import { debounce } from "../../dom.js";
import { number } from "../../format.js";
import { filterOf } from "./query.js";

const AT_TOP = 240;
const REFETCH = 12;

/**
 * @param {{grid: any, stream: any, state: () => any, pill: HTMLElement, changed: () => void, collections: () => void}} page
 */
export function watchNews({ grid, stream, state, pill, changed, collections }) {
  let waiting = []; // newest first, not yet in the grid
  const own = new Map(); // id → until when a change of it is our own doing
  const button = pill.querySelector("button");

  function paint() {
    pill.hidden = !waiting.length;
    button.textContent = `${number(waiting.length)} new`;
    button.setAttribute("aria-label", `Show ${number(waiting.length)} new pictures`);
  }
  function show() {
    const list = waiting;
    waiting = [];
    paint();
    [...list].reverse().forEach((item) => grid.prepend(item));
    scrollTo({ top: 0, behavior: "smooth" });
    changed();
  }

  /** Ask for the newest that fit: the server knows the filters best. */
  const fetchNew = debounce(async () => {
    const now = state();
    if (now.trashed) return;
    try {
      const page = await api.get("/api/media", { query: { ...filterOf(now), limit: 50 } });
      if (state() !== now) return;
      const known = new Set(waiting.map((i) => i.id));
      const fresh = page.items.filter((item) => !grid.find(item.id) && !known.has(item.id));
      const last = grid.items[0]?.createdAt ?? "";
      const newer = now.sort === "oldest" ? [] : fresh.filter((item) => item.createdAt >= last);
      if (newer.length) {
        if (scrollY < AT_TOP) [...newer].reverse().forEach((item) => grid.prepend(item));
        else {
          waiting = [...newer, ...waiting];
          paint();
        }
      }
      changed();
    } catch {
      /* the stream or the next event brings it */
    }
  }, 350);

  stream.on("media.created", fetchNew);
  stream.on("collection.updated", () => collections());
  stream.on("media.deleted", ({ ids }) => {
    waiting = waiting.filter((i) => !ids.includes(i.id));
    paint();
    if (ids.some((id) => grid.find(id))) {
      grid.remove(ids);
      changed();
    }
  });
  stream.on("media.updated", async ({ ids, count }) => {
    const until = Date.now();
    const theirs = ids.filter((id) => !(own.get(id) > until));
    if (!theirs.length) return;
    changed();
    collections();
    const shown = theirs.filter((id) => grid.find(id));
    const trashed = Boolean(state().trashed);
    if (shown.length && shown.length <= REFETCH && count <= 500) {
      for (const id of shown) {
        try {
          const item = await api.get(`/api/media/${encodeURIComponent(id)}`);
          if (Boolean(item.trashedAt) !== trashed) grid.remove([id]);
          else grid.patch(id, item);
        } catch (error) {
          if (error.status === 404) grid.remove([id]);
        }
      }
    } else if (shown.length && !grid.selection.size && scrollY < AT_TOP) grid.reload();
    if (theirs.some((id) => !grid.find(id))) fetchNew(); // brought back from the trash elsewhere
  });
  stream.on("state", (value) => {
    if (value === "live") fetchNew();
  });

  return {
    show,
    clear() {
      waiting = [];
      paint();
    },
    /** These changes are ours: the page shows them already. */
    mine(ids) {
      const until = Date.now() + 5000;
      if (own.size > 5000) own.clear();
      ids.forEach((id) => own.set(id, until));
    },
  };
}
