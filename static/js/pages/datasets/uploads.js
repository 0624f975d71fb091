/** Files to the server in pieces: what broke off goes on where it was, even after the page was closed. */
import { api, ApiError, isAbort, NetworkError } from "../../api.js";
import { draft } from "../../prefs.js";

export const CHUNK = 4 * 1024 * 1024;
const AT_ONCE = 3;
const PAUSES = [500, 1500, 4000]; // ms before a piece is tried again
const kept = draft("dataset-uploads");

/** What a file is known by between two visits. Pure. */
export const fingerprint = (file, name) => `${name}:${file.size}:${file.lastModified ?? 0}`;

const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("Aborted", "AbortError")); }, { once: true });
  });

function remember(key, id) {
  const all = Object.entries(kept.load() ?? {}).filter(([k]) => k !== key).slice(-199);
  kept.save(Object.fromEntries(id ? [...all, [key, id]] : all));
}

async function begin(file, name, signal) {
  const key = fingerprint(file, name);
  const known = (kept.load() ?? {})[key];
  if (known) {
    try {
      const before = await api.get(`/api/uploads/${encodeURIComponent(known)}`, { signal });
      if (before.size === file.size) return { id: known, offset: before.offset ?? 0 };
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
  }
  const made = await api.post("/api/uploads", { name, size: file.size }, { signal });
  remember(key, made.id);
  return { id: made.id, offset: made.offset ?? 0 };
}

/**
 * @param {File} file @param {string} name path below the set, with "/"
 * @param {{signal?: AbortSignal, onProgress?: (fraction: number, resumed: boolean) => void}} [options]
 * @returns {Promise<string>} the upload's id
 */
export async function send(file, name, { signal, onProgress } = {}) {
  let { id, offset } = await begin(file, name, signal);
  const resumed = offset > 0 && offset < file.size;
  for (let tries = 0; offset < file.size; ) {
    onProgress?.(offset / file.size, resumed);
    try {
      const answer = await api.put(`/api/uploads/${encodeURIComponent(id)}`, file.slice(offset, offset + CHUNK), { query: { offset: String(offset) }, signal, headers: { "Content-Type": "application/octet-stream" } });
      offset = answer.offset;
      tries = 0;
    } catch (error) {
      if (isAbort(error)) throw error;
      const again = error instanceof NetworkError || (error instanceof ApiError && (error.status >= 500 || error.status === 409 || error.status === 429));
      if (!again || tries >= PAUSES.length || error.status === 507) throw error;
      await wait(PAUSES[tries], signal);
      tries += 1;
      try {
        offset = (await api.get(`/api/uploads/${encodeURIComponent(id)}`, { signal })).offset ?? offset; // how far it really came
      } catch (problem) {
        if (isAbort(problem) || (problem instanceof ApiError && problem.status === 404)) throw problem;
      }
    }
  }
  onProgress?.(1, resumed);
  return id;
}

/** Forget which upload belongs to a file: it was imported, or thrown away. */
export const forget = (file, name) => remember(fingerprint(file, name), "");

/**
 * Files of a drop, folders walked through. @param {DataTransfer} transfer
 * @returns {Promise<{file: File, name: string}[]>} name: the path as it was dropped
 */
export async function filesOf(transfer) {
  const entries = [...(transfer.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, name: path + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
      if (!part.length) break;
      for (const child of part) await walk(child, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found.filter(({ name }) => !/(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i.test(name));
}

/**
 * A list of files on their way. `rows` [{key, file, name, state, sent, resumed, id, error}], state: waiting, sending, sent, failed.
 * @param {{changed: () => void}} owner
 */
export function uploadList(owner) {
  let rows = [], running = 0, serial = 0;
  const stop = new AbortController();
  async function work() {
    running += 1;
    for (let row; !stop.signal.aborted && (row = rows.find((r) => r.state === "waiting")); ) {
      row.state = "sending";
      owner.changed();
      try {
        row.id = await send(row.file, row.name, { signal: AbortSignal.any([stop.signal, row.stop.signal]), onProgress: (fraction, resumed) => { row.sent = fraction; row.resumed = resumed; owner.changed(); } });
        row.state = "sent";
      } catch (error) {
        if (!rows.includes(row)) continue; // taken out meanwhile
        row.state = "failed";
        row.error = error;
      }
      owner.changed();
    }
    running -= 1;
    owner.changed();
  }
  const start = () => { while (running < AT_ONCE && running < rows.filter((r) => r.state !== "sent" && r.state !== "failed").length) work(); };
  return {
    get rows() { return rows; },
    get busy() { return rows.some((r) => r.state === "waiting" || r.state === "sending"); },
    get done() { return rows.length > 0 && rows.every((r) => r.state === "sent"); },
    count: (state) => rows.filter((r) => r.state === state).length,
    /** @param {{file: File, name: string}[]} files */
    add(files) {
      const known = new Set(rows.map((r) => r.name));
      for (const { file, name } of files)
        if (!known.has(name)) {
          known.add(name);
          rows.push({ key: (serial += 1), file, name, state: "waiting", sent: 0, resumed: false, id: "", error: null, stop: new AbortController() });
        }
      owner.changed();
      start();
    },
    drop(key) {
      const row = rows.find((r) => r.key === key);
      if (!row) return;
      rows = rows.filter((r) => r !== row);
      row.stop.abort();
      if (row.id) api.delete(`/api/uploads/${encodeURIComponent(row.id)}`).catch(() => {});
      forget(row.file, row.name);
      owner.changed();
    },
    retry() {
      rows.forEach((r) => { if (r.state === "failed") Object.assign(r, { state: "waiting", error: null }); });
      owner.changed();
      start();
    },
    /** What is sent stays on the server for a later try. */
    stop() { stop.abort(); },
    forgetAll() { rows.forEach((r) => forget(r.file, r.name)); },
  };
}
