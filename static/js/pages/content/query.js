/** What the Content page shows, as the address says it, and what to ask for. Pure. */

export const TABS = [
  { key: "needs", label: "Needs you", icon: "alert" },
  { key: "drafts", label: "Drafts", icon: "edit" },
  { key: "scheduled", label: "Scheduled", icon: "calendar" },
  { key: "published", label: "Published", icon: "ok" },
  { key: "dry", label: "Dry runs", icon: "eye" },
  { key: "all", label: "All", icon: "list" },
  { key: "outbox", label: "Outbox", icon: "send" },
];
const STATUS = {
  drafts: ["draft", "approved"],
  scheduled: ["scheduled", "claimed", "uploading", "publishing"],
  published: ["published"],
  dry: ["dry_run"],
  all: [],
};
const NEEDS = ["failed", "unconfirmed", "missed"];
/** Filters that narrow the list, in the order of their chips. */
export const FILTERS = ["characterId", "platform", "taskId", "runId", "mediaId", "groupId", "postId"];

/** @param {string} search @returns {{tab: string} & Record<string, string>} */
export function readQuery(search) {
  const query = new URLSearchParams(search);
  const tab = query.get("tab") ?? "";
  const state = { tab: TABS.some((t) => t.key === tab) ? tab : "" };
  for (const name of FILTERS) if (query.get(name)) state[name] = query.get(name);
  return state;
}

/** @param {Record<string, string>} state */
export function address(state, path = "/content.html") {
  const query = new URLSearchParams();
  if (state.tab) query.set("tab", state.tab);
  for (const name of FILTERS) if (state[name]) query.set(name, state[name]);
  return query.size ? `${path}?${query}` : path;
}

export const hasFilters = (state) => FILTERS.some((name) => state[name] && !(name === "postId" && state.tab !== "outbox"));

/**
 * What to ask for: one list, or two that are shown as one ("Needs you" is what failed and what is held).
 * @param {Record<string, string>} state @returns {Record<string, any>[]}
 */
export function listsOf(state) {
  const { characterId, platform, taskId, runId, mediaId, groupId } = state;
  const narrow = { characterId, platform, taskId, runId, mediaId, groupId };
  if (state.tab === "needs")
    return [
      { ...narrow, status: NEEDS.join(","), sort: "newest" },
      { ...narrow, status: "draft", hold: "any", sort: "newest" },
    ];
  const status = (STATUS[state.tab] ?? []).join(",");
  const held = state.tab === "drafts" ? { hold: "none" } : {}; // a draft that waits for a person is under "Needs you"
  return [{ ...narrow, ...held, status: status || null, sort: state.tab === "scheduled" ? "soonest" : "newest" }];
}

/** How many stand behind each tab. @param {Record<string, number>} counts of GET /posts */
export function countsOf(counts = {}) {
  const sum = (list) => list.reduce((n, s) => n + (counts[s] ?? 0), 0);
  const statuses = Object.keys(counts).filter((k) => k !== "held" && k !== "total" && k !== "all");
  return {
    needs: sum(NEEDS) + (counts.held ?? 0),
    drafts: sum(STATUS.drafts) - (counts.held ?? 0),
    scheduled: sum(STATUS.scheduled),
    published: sum(STATUS.published),
    dry: sum(STATUS.dry),
    all: sum(statuses),
  };
}

/** Which tab opens when the address names none: what waits for a person first. */
export function firstTab(counts) {
  const n = countsOf(counts);
  return n.needs ? "needs" : n.scheduled ? "scheduled" : n.drafts ? "drafts" : n.published ? "published" : n.dry ? "dry" : "all";
}

/** Two lists as one, the newest first, none twice. @param {any[][]} lists */
export function merged(lists) {
  if (lists.length === 1) return lists[0];
  const seen = new Map(lists.flat().map((p) => [p.id, p]));
  const at = (p) => p.updatedAt ?? p.scheduledAt ?? p.createdAt ?? "";
  return [...seen.values()].sort((a, b) => at(b).localeCompare(at(a)));
}
