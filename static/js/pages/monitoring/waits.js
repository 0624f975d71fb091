/** What runs in each lane, and what each task that waits is waiting for. Pure. */
import { number, plural, words } from "../../format.js";
import { byTurn, taskId } from "../../tasks.js";

export const nameOf = (t) => t.title || words(t.kind);

/**
 * Each lane with what it runs and, for what waits, the reason.
 * @param {any[]} active queued, running and paused tasks @param {any[]} lanes of the status' worker component
 * @returns {{lane: string, workers: number, running: any[], paused: any[], waiting: {task: any, why: string}[]}[]}
 */
export function waits(active, lanes) {
  const known = new Map(lanes.map((l) => [l.lane, l.workers]));
  for (const t of active) if (!known.has(t.lane)) known.set(t.lane, 0);
  const children = new Map();
  for (const t of active) if (t.parentId) children.set(t.parentId, [...(children.get(t.parentId) ?? []), t]);
  return [...known].map(([lane, workers]) => {
    const here = active.filter((t) => t.lane === lane).sort(byTurn);
    const running = here.filter((t) => t.status === "running"),
      queued = here.filter((t) => t.status === "queued");
    const free = Math.max(0, workers - running.length);
    return {
      lane,
      workers,
      running: running.map((t) => ({ ...t, waitsFor: (children.get(taskId(t)) ?? []).map(nameOf) })),
      paused: here.filter((t) => t.status === "paused"),
      waiting: queued.map((task, i) => ({ task, why: reason(i, free, running, queued, workers) })),
    };
  });
}

/** Why the task at place `i` of a lane's queue does not run yet. */
function reason(i, free, running, queued, workers) {
  if (!workers) return "No worker of this app takes such work";
  if (i < free) return "Starts now";
  const ahead = i - free;
  if (workers === 1) return ahead === 0 ? `Waits for “${nameOf(running[0] ?? queued[0])}”` : `Behind “${nameOf(queued[i - 1])}”`;
  const said = ahead === 0 ? "Next, as soon as one" : `${plural(ahead, "task")} ahead, then as soon as one`;
  return `${said} of ${number(workers)} is done`;
}

