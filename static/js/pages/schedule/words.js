/** Words, times and order for the schedule. Pure: "now" and the zone are arguments. */
import { words } from "../../format.js";

export const TYPES = {
  generate_and_post: { label: "Generate and post", icon: "send", text: "Makes a new picture, writes the caption and posts both." },
  generate_only: { label: "Generate only", icon: "image", text: "Makes pictures for the gallery. Nothing is posted." },
  post_existing: {
    label: "Post from the gallery",
    icon: "gallery",
    text: "Posts a picture that is already there, never the same one twice.",
  },
  backup: { label: "Backup", icon: "save", text: "Keeps a verified copy of characters, prompts, schedule and library." },
  train_lora: { label: "Train a LoRA", icon: "layers", text: "Trains the character's LoRA from its dataset." },
};
export const TRIGGERS = { cron: "Schedule", manual: "Run now", catch_up: "Caught up" };
export const PLATFORMS = { instagram: "Instagram", twitter: "X" };
export const RUN_STATES = ["queued", "running", "waiting", "completed", "failed", "skipped", "missed", "cancelled"];
export const LOOKS = {
  waiting: ["info", "clock", "Waiting to post"],
  skipped: ["neutral", "minus", "Skipped"],
};
export const isOver = (run) => !["queued", "running", "waiting"].includes(run?.status);

export const typeLabel = (type) => TYPES[type]?.label ?? words(type);
/** The right that touching a task needs: a backup fills the disk and replaces older ones. @param {{type: string}} task @returns {"admin"|"publish"} */
export const needs = (task) => (task.type === "backup" ? "admin" : "publish");
export const posts = (task) => ["generate_and_post", "post_existing"].includes(task.type);
/** The platforms of a task, by what the server says or else by its config. */
export const platformsOf = (task) =>
  task.platforms ?? [task.config?.postToInstagram && "instagram", task.config?.postToTwitter && "twitter"].filter(Boolean);

/** What a task is called: its name, else what it does and for whom. */
export const taskName = (task) =>
  task.name?.trim() || [typeLabel(task.type), task.characterName && `for ${task.characterName}`].filter(Boolean).join(" ");

/** "Sun 22 Nov, 18:00" in a zone (the browser's when none is given). @param {string} when @param {string} [timeZone] @param {number} [now] */
export function local(when, timeZone, now = Date.now()) {
  const at = new Date(when);
  if (!when || Number.isNaN(at.getTime())) return "–";
  const zone = knownZone(timeZone) ? timeZone : undefined;
  const year = (d) => d.toLocaleDateString("en-GB", { year: "numeric", timeZone: zone });
  const sameYear = year(at) === year(new Date(now));
  const day = at.toLocaleDateString("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    year: sameYear ? undefined : "numeric",
    timeZone: zone,
  });
  return `${day.replace(/^(\w+),/, "$1")}, ${at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: zone })}`;
}

const zones = new Map();
/** Whether this browser knows the zone. */
export function knownZone(zone) {
  if (!zone) return false;
  if (!zones.has(zone)) {
    try {
      new Intl.DateTimeFormat("en", { timeZone: zone });
      zones.set(zone, true);
    } catch {
      zones.set(zone, false);
    }
  }
  return zones.get(zone);
}
/** Whether two zones show another wall clock at this instant. */
export const differs = (a, b, when) => knownZone(a) && knownZone(b) && local(when, a) !== local(when, b);

/** Tasks that fit the filters, in order. @param {any[]} list @param {{q?: string, characterId?: string, type?: string, state?: string, sort?: string}} filter */
export function choose(list, { q = "", characterId = "", type = "", state = "", sort = "next" } = {}) {
  const needles = q.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (t) => {
    const text = [
      taskName(t),
      t.characterName,
      typeLabel(t.type),
      t.description,
      t.schedule,
      t.config?.prompt,
      ...platformsOf(t).map((p) => PLATFORMS[p]),
    ]
      .join(" ")
      .toLowerCase();
    return (
      needles.every((w) => text.includes(w)) &&
      (!characterId || t.characterId === characterId) &&
      (!type || t.type === type) &&
      (!state ||
        (state === "on" && t.active) ||
        (state === "off" && !t.active) ||
        (state === "problem" && (t.problem || t.lastStatus === "failed")))
    );
  };
  const far = "9999";
  const by = {
    next: (a, b) => (a.nextRun ?? far).localeCompare(b.nextRun ?? far) || taskName(a).localeCompare(taskName(b)),
    last: (a, b) => lastAt(b).localeCompare(lastAt(a)),
    name: (a, b) => taskName(a).localeCompare(taskName(b)),
    character: (a, b) => (a.characterName ?? "").localeCompare(b.characterName ?? "") || (a.nextRun ?? far).localeCompare(b.nextRun ?? far),
  };
  return list.filter(fits).sort(by[sort] ?? by.next);
}
/** When a task ran last; the server says a time or a run. */
export const lastAt = (task) =>
  typeof task.lastRun === "string" ? task.lastRun : (task.lastRun?.startedAt ?? task.lastRun?.createdAt ?? task.lastRun?.at ?? "");

/** Seconds a run or a step took; running ones count to `now`, one that waits for its posts to its last step. Null when it has not begun. */
export function took(thing, now = Date.now()) {
  const from = Date.parse(thing.startedAt ?? "");
  const ends = thing.status === "waiting" ? (thing.steps ?? []).map((step) => step.endedAt).filter(Boolean) : [];
  const to = Date.parse(thing.finishedAt ?? thing.endedAt ?? ends.sort().at(-1) ?? "");
  if (Number.isNaN(from)) return null;
  return Math.max(0, ((Number.isNaN(to) ? now : to) - from) / 1000);
}

/** Where each step stands in its run, in percent: for the bars. @returns {{left: number, width: number}[]} */
export function bars(steps, now = Date.now()) {
  const times = steps.map((s) => [Date.parse(s.startedAt ?? ""), Date.parse(s.endedAt ?? "") || now]);
  const known = times.filter(([from]) => !Number.isNaN(from));
  if (!known.length) return steps.map(() => ({ left: 0, width: 100 }));
  const first = Math.min(...known.map(([from]) => from));
  const span = Math.max(1, Math.max(...known.map(([, to]) => to)) - first);
  return times.map(([from, to]) => {
    if (Number.isNaN(from)) return { left: 0, width: 0 };
    const left = Math.min(99, ((from - first) / span) * 100);
    return { left: Math.round(left * 10) / 10, width: Math.round(Math.max(1, Math.min(100 - left, ((to - from) / span) * 100)) * 10) / 10 };
  });
}

const STEPS = {
  choose: "Choose a picture",
  prompt: "Choose the prompt",
  generate: "Make the picture",
  caption: "Write the caption",
  backup: "Write the backup",
};
/** "post:instagram" → "Post to Instagram" */
export function stepLabel(name) {
  const [what, platform] = String(name).split(":");
  if (platform) return `${words(what)} to ${PLATFORMS[platform] ?? platform}`;
  return STEPS[what] ?? words(what);
}

/** "3 live posts: 2 on Instagram, 1 on X". @param {{livePosts: number, tasks: any[]}} answer */
export function liveWords({ livePosts, tasks = [] }) {
  const counts = {};
  for (const task of tasks) for (const p of task.platforms ?? []) counts[p] = (counts[p] ?? 0) + 1;
  const parts = Object.entries(counts).map(([p, n]) => `${n} on ${PLATFORMS[p] ?? p}`);
  const head = livePosts === 1 ? "1 live post" : `${livePosts} live posts`;
  return parts.length ? `${head}: ${parts.join(", ")}` : head;
}
