/**
 * Live data. One event stream per browser: the tab that holds the lock reads /api/events and tells the others.
 * When the stream is down it tries again every 2 s, and active tasks are polled meanwhile.
 * A "snapshot" says with `lost` whether events may have been missed before it: then what a page shows is to be loaded again.
 * Where a browser has no locks (plain http from another computer), only tabs that are seen hold a stream: a browser opens six
 * connections to one address, and hidden tabs would take them all.
 */
import { api, ApiError, isAbort, withQuery } from "./api.js";
import { TaskBook, isFinished, taskId } from "./tasks.js";

const TYPES = [
  "snapshot",
  "task.updated",
  "task.deleted",
  "media.created",
  "media.updated",
  "media.deleted",
  "character.updated",
  "character.deleted",
  "collection.updated",
  "settings.changed",
  "caption.updated",
  "dataset.updated",
  "training.progress",
  "lora.updated",
  "shelf.updated",
  "post.updated",
  "prompt.updated",
  "schedule.updated",
  "run.updated",
  "account.updated",
  "system.sample",
  "notification",
  "notification.changed",
  "storage.updated",
  "backup.updated",
  "restore.updated",
];
const RETRY_MS = 2000;
const SIGNED_OUT_MS = 30_000; // nobody answers until somebody signs in, which is heard at once
const POLL_MS = 2500;

export const tasks = new TaskBook();

const target = new EventTarget();
const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("dalla.events") : null;
let state = "connecting";
let leader = false;
let alone = false; // no way to share a stream between tabs: each has its own, while it is looked at
let lastEventId = "";
let source = null;
let retryTimer = 0;
let pollTimer = 0;
let polling = false;
let signedOut = false;
let whole = true; // listening since the page was opened: no event can have been missed

export const stream = {
  /** "connecting" | "live" | "down" */
  get state() {
    return state;
  },
  /**
   * Listen to one event type, or to "state". @param {string} type @param {(data: any) => void} fn
   * @param {{signal?: AbortSignal}} [options] @returns {() => void} stop listening
   */
  on(type, fn, { signal } = {}) {
    const listener = (event) => fn(event.detail);
    target.addEventListener(type, listener, { signal });
    return () => target.removeEventListener(type, listener);
  },
};

const tell = (type, data) => target.dispatchEvent(new CustomEvent(type, { detail: data }));

/** Something happened, heard by whichever tab: bring the book up to date, then tell the page. */
function receive(type, data, { share = leader } = {}) {
  if (share) channel?.postMessage({ kind: "event", type, data, id: lastEventId });
  if (type === "snapshot") {
    const gone = tasks.snapshot(data.tasks ?? []);
    tell("snapshot", data);
    (data.tasks ?? []).forEach((task) => tell("task.updated", task));
    if (leader) gone.forEach(refresh);
    return;
  }
  tell(type, type === "task.updated" ? tasks.update(data) : data);
}

async function refresh(id) {
  try {
    receive("task.updated", await api.get(`/api/tasks/${encodeURIComponent(id)}`));
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) {
      tasks.remove(id);
      receive("task.deleted", { id });
    }
  }
}

function setState(next) {
  if (leader) channel?.postMessage({ kind: "state", state: next });
  if (next === state) return;
  state = next;
  tell("state", next);
  if (leader) {
    if (next === "down") schedulePoll(0);
    else clearTimeout(pollTimer);
  }
}

function connect() {
  clearTimeout(retryTimer);
  source?.close();
  if (alone && document.hidden) {
    whole = false;
    return;
  }
  source = new EventSource(withQuery("/api/events", { lastEventId }));
  source.addEventListener("open", () => setState("live"));
  source.addEventListener("error", () => {
    source.close(); // our own retry: the browser gives up for good after some answers
    whole = false;
    setState("down");
    retryTimer = setTimeout(connect, signedOut ? SIGNED_OUT_MS : RETRY_MS);
  });
  for (const type of TYPES) {
    source.addEventListener(type, (event) => {
      if (event.lastEventId) lastEventId = event.lastEventId;
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        return;
      }
      setState("live");
      if (type === "snapshot") {
        data.lost = !whole;
        whole = false; // the next one comes because the stream could not be taken up again where it was
      }
      receive(type, data);
    });
  }
}

function schedulePoll(ms) {
  clearTimeout(pollTimer);
  if (alone && document.hidden) return;
  pollTimer = setTimeout(poll, ms);
}

async function poll() {
  if (state !== "down" || polling) return;
  polling = true;
  let next = POLL_MS;
  try {
    const answer = await api.get("/api/tasks", { query: { status: "queued,running" } });
    const list = Array.isArray(answer) ? answer : (answer.items ?? []);
    receive("snapshot", { tasks: list, lost: true });
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) next = 60_000; // signed out: the shell says so
  }
  polling = false;
  if (state === "down") schedulePoll(next);
}

function lead() {
  leader = true;
  connect();
}

function rest() {
  source?.close();
  clearTimeout(retryTimer);
  clearTimeout(pollTimer);
}

let started = false;
/** Start listening. Called once by main.js. */
export function start() {
  if (started) return;
  started = true;
  document.addEventListener("api:unauthorized", () => {
    signedOut = true;
  });
  document.addEventListener("session:me", () => {
    const again = signedOut && leader;
    signedOut = false;
    if (again) connect();
  });
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => {
    if (event.persisted && leader) connect();
  });
  if (!channel || !navigator.locks) {
    leader = alone = true;
    const seen = () => (document.hidden ? rest() : connect());
    document.addEventListener("visibilitychange", seen);
    seen();
    return;
  }
  channel.addEventListener("message", ({ data }) => {
    if (data.kind === "hello" && leader) {
      channel.postMessage({ kind: "event", type: "snapshot", data: { tasks: tasks.active(), lost: false }, id: lastEventId });
      channel.postMessage({ kind: "state", state });
    }
    if (leader) return;
    if (data.kind === "state") setState(data.state);
    if (data.kind === "event") {
      whole = false;
      if (data.id) lastEventId = data.id;
      receive(data.type, data.data, { share: false });
    }
  });
  channel.postMessage({ kind: "hello" });
  // A tab that hears nothing for so long has a leader that is held up: what it leads with later may have a gap before it.
  setTimeout(() => {
    whole &&= leader;
  }, 1000);
  navigator.locks.request("dalla.events", () => {
    lead();
    return new Promise(() => {});
  }); // held until the tab goes
}

/** A task that did not end well. `task.error` is a problem; `detail` and `remedy` are for people. */
export class TaskError extends Error {
  constructor(task) {
    const problem = task.error ?? {};
    super(
      problem.detail ||
        problem.error ||
        (task.status === "cancelled"
          ? "It was cancelled."
          : task.status === "interrupted"
            ? "It was interrupted when the app stopped."
            : "It failed."),
    );
    this.name = "TaskError";
    this.task = task;
    this.detail = this.message;
    this.code = problem.code || task.status;
    this.remedy = problem.remedy || "";
    this.errors = problem.errors || [];
  }
}

/**
 * Wait for a task. Resolves with the completed task; rejects with TaskError, or AbortError when `signal` says so
 * (which only stops watching: `cancel(taskId)` stops the work).
 * @param {string} id @param {{onProgress?: (task: any) => void, signal?: AbortSignal}} [options]
 */
export function follow(id, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    let off = () => {};
    const end = (fn, value) => {
      off();
      signal?.removeEventListener("abort", aborted);
      fn(value);
    };
    const aborted = () => end(reject, new DOMException("Aborted", "AbortError"));
    const see = (task) => {
      if (taskId(task) !== id) return;
      onProgress?.(task);
      if (isFinished(task)) end(task.status === "completed" ? resolve : reject, task.status === "completed" ? task : new TaskError(task));
    };
    if (signal?.aborted) {
      aborted();
      return;
    }
    signal?.addEventListener("abort", aborted);
    off = stream.on("task.updated", see);
    api
      .get(`/api/tasks/${encodeURIComponent(id)}`, { signal })
      .then((task) => see(tasks.update(task)))
      .catch((error) => {
        if (error instanceof ApiError) end(reject, error);
        else if (isAbort(error)) aborted();
      }); // no network: the stream or the poll will tell
  });
}

/** @param {string} id */
export const cancel = (id) => api.post(`/api/tasks/${encodeURIComponent(id)}/cancel`);
/** @param {string} id */
export const retry = (id) => api.post(`/api/tasks/${encodeURIComponent(id)}/retry`);
/** Put a waiting task before the others of its lane. @param {string} id */
export const runNext = (id) => api.post(`/api/tasks/${encodeURIComponent(id)}/next`);
