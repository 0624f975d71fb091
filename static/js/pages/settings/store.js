/** The settings as the page knows them: loaded once, saved with If-Match, undone, restarted. One per page. */
import { api, ApiError } from "../../api.js";
import { session } from "../../session.js";
import { toast } from "../../notices.js";
import { plural } from "../../format.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { html } from "../../html.js";
import { collisions, said, shown } from "./model.js";

/** @typedef {ReturnType<typeof settingsStore>} Store */

/** @param {{changed: () => void}} page called whenever other values are known */
export function settingsStore({ changed }) {
  let etag = "";
  const store = {
    /** @type {Map<string, import("./model.js").Setting>} */ settings: new Map(),
    pending: /** @type {string[]} */ ([]),
    tests: /** @type {string[]} */ ([]),
    file: "",
    get mayChange() {
      return session.can("admin");
    },
    /** Which run of the app answered: changes when it was restarted. */
    get boot() {
      return bootOf(etag);
    },
    async load() {
      const before = etag;
      take(await api.get("/api/settings", { full: true }));
      if (before !== etag) changed();
    },
    /**
     * Save. Somebody else's save in between is no obstacle unless both changed the same setting: then the person decides.
     * @param {Record<string, any>} changes @param {Map<string, any>} [seen] what the person saw when changing them
     * @returns {Promise<any>} the answer; null when the person stepped back
     */
    async save(changes, seen = store.settings) {
      for (;;) {
        const both = collisions(seen, store.settings, changes);
        const whose = both.length ? await decide(both, changes) : "mine";
        if (!whose) return null;
        if (whose === "theirs") changes = Object.fromEntries(Object.entries(changes).filter(([name]) => !both.includes(name)));
        if (!Object.keys(changes).length) return { changes: [], undo: null };
        seen = store.settings; // decided: what comes after this is new
        try {
          return take(await api.patch("/api/settings", changes, { ifMatch: etag, full: true }));
        } catch (error) {
          if (!(error instanceof ApiError) || error.status !== 412) throw error;
        }
        take(await api.get("/api/settings", { full: true }));
      }
    },
    /** What a change would do. @param {Record<string, any>} changes */
    plan: (changes) => api.patch("/api/settings", changes, { query: { dryRun: true } }).then((answer) => answer.changes),
    /** Say that it was saved, with Undo. @param {any} answer of save() @param {string} [text] */
    told(answer, text) {
      if (!answer.changes.length) {
        toast.info("Nothing was changed");
        changed();
        return;
      }
      const waits = answer.changes.filter((c) => c.needsRestart).length;
      toast.success(text ?? (answer.changes.length === 1 ? `${answer.changes[0].label} was saved` : `${plural(answer.changes.length, "setting")} saved`), {
        detail: waits ? "Takes effect at the next start." : "",
        undo: answer.undo ? () => store.undo(answer.undo) : undefined,
      });
      changed();
    },
    async undo(id) {
      try {
        take(await api.post("/api/settings/undo", { id }, { full: true }));
        toast.info("Undone");
      } catch (error) {
        toast.error(error);
      }
      changed();
    },
  };

  function take({ data, etag: tag }) {
    etag = tag ?? etag;
    store.settings = new Map(data.items.map((s) => [s.name, s]));
    store.pending = data.pending;
    store.tests = data.tests;
    store.file = data.file;
    return data;
  }

  async function decide(names, changes) {
    const rows = names.map((name) => store.settings.get(name));
    const { closed } = openDialog({
      title: "Somebody else changed this too",
      body: html`<div class="stack-3"><p>While you were editing, other values were saved:</p><ul class="consequences">${rows.map((s) => html`<li><strong>${s.label}</strong>: now ${said(s, shown(s))}, yours ${said(s, changes[s.name] ?? s.default)}</li>`)}</ul></div>`,
      footer: html`<button type="button" class="btn" data-close="" autofocus>Keep editing</button><span class="spacer"></span><button type="button" class="btn" data-close="theirs">Keep theirs</button><button type="button" class="btn btn-primary" data-close="mine">Save mine</button>`,
    });
    return closed;
  }
  return store;
}

/** `"a1b2c3-7"` → `a1b2c3`. */
export const bootOf = (etag) => String(etag ?? "").replace(/^W\/|"/g, "").split("-")[0];
