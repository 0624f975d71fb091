// @ts-check
/** Backups in words. Pure. */

const PARTS = /** @type {[string, string][]} */ ([
  ["media", "Pictures"],
  ["datasets", "Datasets"],
  ["loras", "LoRAs"],
  ["encryptedKeys", "Keys"],
]);

/** What is in a backup, as badges [label, tone]. @param {Record<string, any>} b */
export function contents(b) {
  if (b.readable === false) return [];
  const parts = /** @type {[string, string][]} */ ([["Records", "neutral"], ...PARTS.filter(([key]) => b[key]).map(([, label]) => [label, "neutral"])]);
  if (b.verified) parts.push(["Read back after writing", "good"]);
  return parts;
}

/** What is replaced, in words. @type {Record<string, string>} */
export const KINDS = {
  characters: "Characters",
  prompts: "Prompts",
  scheduler: "Scheduled tasks",
  scheduledTasks: "Scheduled tasks",
  tasks: "Scheduled tasks",
  media: "Pictures",
  collections: "Collections",
  datasets: "Datasets",
  datasetImages: "Pictures of datasets",
  posts: "Posts",
  runs: "Runs",
  users: "Accounts",
  trainingSets: "Training sets",
  loras: "LoRAs",
};

/** Rows of the comparison: {label, now, backup, less}. @param {Record<string, {now: number, backup: number}>} replaces @param {(k: string) => string} words */
export const comparison = (replaces, words) =>
  Object.entries(replaces ?? {})
    .filter(([, { now, backup }]) => now || backup)
    .map(([kind, { now, backup }]) => ({ label: KINDS[kind] ?? words(kind), now, backup, less: backup < now }));
