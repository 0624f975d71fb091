/** What all pages share: the characters and which of them is being worked with. */
import { api } from "./api.js";
import { emit } from "./dom.js";
import { stream } from "./jobs.js";
import { prefs } from "./prefs.js";

let list = null;
let loading = null;

export const session = {
  /** All characters, fetched once; live events keep the list fresh. @returns {Promise<any[]>} */
  characters({ fresh = false } = {}) {
    if (list && !fresh) return Promise.resolve(list);
    loading ??= api
      .get("/api/characters")
      .then((answer) => {
        list = answer;
        emit(document, "session:characters", list);
        return list;
      })
      .finally(() => {
        loading = null;
      });
    return loading;
  },
  /** What is known now, without asking. */
  get known() {
    return list ?? [];
  },
  find: (id) => (list ?? []).find((c) => c.id === id),
  /** Id of the character being worked with, or "" for all. */
  get characterId() {
    return prefs.get("characterId", "");
  },
  get character() {
    return session.find(session.characterId) ?? null;
  },
  /** Choose a character; every page hears `session:character` on document. */
  choose(id) {
    if (id === session.characterId) return;
    prefs.set("characterId", id || null);
    emit(document, "session:character", { id: id || "" });
  },
};

/** Keep the list fresh. Called once by main.js. */
export function startSession() {
  let timer = 0;
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => session.characters({ fresh: true }).catch(() => {}), 200);
  };
  stream.on("character.updated", again);
  stream.on("character.deleted", again);
}
