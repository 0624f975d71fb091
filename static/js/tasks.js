/** What is known about background tasks. Pure: fed with events, asked by the tray. */

export const FINISHED = new Set(["completed", "failed", "cancelled", "interrupted"]);
export const isFinished = (task) => FINISHED.has(task.status);
export const taskId = (task) => task.taskId ?? task.id;
/** Kinds of work that only an admin may stop or run again. */
export const ADMIN_KINDS = new Set([
  "measure_storage",
  "clean_storage",
  "move_storage",
  "make_backup",
  "restore_backup",
  "convert_weights",
  "deliver_webhooks",
]);
/** The right that stopping a task or running it again needs. @param {{kind?: string}} task @returns {"admin"|"write"} */
export const taskNeeds = (task) => (ADMIN_KINDS.has(task.kind ?? "") ? "admin" : "write");

/** The order in which a lane takes what waits in it: what was moved forward first, then the oldest. */
export const byTurn = (a, b) => (a.turn ?? 0) - (b.turn ?? 0) || String(a.createdAt ?? "").localeCompare(String(b.createdAt ?? ""));
/** Ids of waiting tasks that have another one before them in their lane, so that they can be moved to the front. */
export function movable(tasks) {
  const lanes = new Map();
  for (const t of tasks) if (t.status === "queued") lanes.set(t.lane, [...(lanes.get(t.lane) ?? []), t]);
  return new Set([...lanes.values()].flatMap((list) => list.sort(byTurn).slice(1).map(taskId)));
}

export class TaskBook {
  #tasks = new Map();
  /** @param {number} keep how many finished tasks to remember */
  constructor(keep = 20) {
    this.keep = keep;
  }

  /** Take a task as the server tells it. A late answer, of an attempt before or from before the end of this one, changes nothing. */
  update(task) {
    const id = taskId(task);
    const known = this.#tasks.get(id);
    if (known && task.attempt < known.attempt) return known; // asked while it still waited, answered when it had begun or ended
    if (known && isFinished(known) && !isFinished(task) && (task.attempt ?? 0) <= (known.attempt ?? 0) && task.status === "running")
      return known;
    const merged = { ...known, ...task, taskId: id };
    this.#tasks.set(id, merged);
    this.#forget();
    return merged;
  }

  /** Take the full list of active tasks. @returns {string[]} ids that were active before and are not listed: ask for their end */
  snapshot(tasks) {
    const listed = new Set(tasks.map(taskId));
    const gone = this.active()
      .map(taskId)
      .filter((id) => !listed.has(id));
    tasks.forEach((task) => this.update(task));
    return gone;
  }

  remove(id) {
    this.#tasks.delete(id);
  }
  get(id) {
    return this.#tasks.get(id);
  }
  all() {
    return [...this.#tasks.values()];
  }

  /** Unfinished, running first, then in the order in which their turn comes. */
  active() {
    const rank = { running: 0, paused: 1, queued: 2 };
    return this.all()
      .filter((t) => !isFinished(t))
      .sort((a, b) => (rank[a.status] ?? 3) - (rank[b.status] ?? 3) || byTurn(a, b));
  }

  /** Finished, newest first. */
  recent() {
    return this.all()
      .filter(isFinished)
      .sort((a, b) => String(b.finishedAt ?? "").localeCompare(String(a.finishedAt ?? "")));
  }

  #forget() {
    for (const old of this.recent().slice(this.keep)) this.#tasks.delete(taskId(old));
  }
}

/** One number for several tasks: the mean of what is known, null when nothing is. */
export function overall(tasks) {
  const known = tasks.filter((t) => t.status === "running" && t.total);
  return known.length ? known.reduce((sum, t) => sum + (t.progress ?? 0), 0) / known.length : null;
}
