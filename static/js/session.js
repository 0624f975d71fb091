/** What all pages share: who is signed in and what they may do, the characters and which of them is being worked with. */
import { api } from "./api.js";
import { emit } from "./dom.js";
import { stream } from "./jobs.js";
import { prefs } from "./prefs.js";

let list = null;
let loading = null;
let person = null;
let asking = null;
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("dalla.session") : null;

export const session = {
  /**
   * Who is signed in: `{user: {id, name, displayName, role, …}|null, kind, rights, mode}`. Asked once; `session:me` is heard on document.
   * @returns {Promise<any>}
   */
  me({ fresh = false } = {}) {
    if (person && !fresh) return Promise.resolve(person);
    asking ??= api
      .get("/api/auth/me")
      .then((answer) => {
        person = answer;
        document.documentElement.dataset.rights = answer.rights.join(" ");
        emit(document, "session:me", person);
        return person;
      })
      .finally(() => {
        asking = null;
      });
    return asking;
  },
  /** The signed-in user as known now; null where there are no accounts. */
  get user() {
    return person?.user ?? null;
  },
  /** May the person do this? @param {"read"|"write"|"publish"|"admin"|"self"} right Unknown so far counts as yes: the server decides anyway. */
  can: (right) => !person || person.rights.includes(right),
  /** End this session and go to the sign-in page; the other tabs hear it. */
  async signOut() {
    await api.post("/api/auth/logout");
    channel?.postMessage("out");
    location.href = "/login.html?ended=1";
  },
  /** Tell the other tabs that this session has ended; each looks for itself. */
  ended: () => channel?.postMessage("out"),
  /** Tell the other tabs that somebody signed in here. */
  signedIn() {
    channel?.postMessage("in");
    return session.me({ fresh: true });
  },
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

/** Keep the list and the person fresh. Called once by main.js. */
export function startSession() {
  const look = () => session.me({ fresh: true }).catch(() => {}); // a 401 says by itself that the session has ended
  channel?.addEventListener("message", look);
  addEventListener("pageshow", (event) => event.persisted && look());
  let timer = 0;
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => session.characters({ fresh: true }).catch(() => {}), 200);
  };
  stream.on("character.updated", again);
  stream.on("character.deleted", again);
}
