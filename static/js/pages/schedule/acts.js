/** What is done with the schedule: run now, stop and go on. Everything public asks first. */
import { api, idempotencyKey } from "../../api.js";
import { openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";
import { plural } from "../../format.js";
import { html, icon } from "../../html.js";
import { toast } from "../../notices.js";
import { session } from "../../session.js";
import { liveWords, PLATFORMS, taskName } from "./words.js";

/** Which posts would go out, for one task or for all. @returns {Promise<"live"|"dry"|"">} */
async function askLive({ livePosts, tasks = [] }, all) {
  const { closed } = openDialog({
    title: livePosts === 1 ? "Publish one post now?" : `Publish ${livePosts} posts now?`,
    size: "s",
    body: html`<div class="stack-3"><p>This means <strong>${liveWords({ livePosts, tasks })}</strong>. Anybody can see them at once, and a post cannot be unsent from here.</p>
      <ul class="sc-live">${tasks.slice(0, 12).map((t) => html`<li>${icon("send")}<span><strong>${t.characterName ?? ""}</strong> ${(t.platforms ?? []).map((p) => PLATFORMS[p] ?? p).join(" and ")}<small class="muted">${t.name ?? ""}</small></span></li>`)}</ul>${tasks.length > 12 && html`<p class="muted small">and ${plural(tasks.length - 12, "more task")}</p>`}
      ${all && html`<div class="field"><label for="sc-typed">Type <strong>post</strong> to publish</label><input id="sc-typed" autocomplete="off" spellcheck="false" autocapitalize="off"></div>`}</div>`,
    footer: html`<button type="button" class="btn" data-close="" autofocus>Cancel</button><button type="button" class="btn" data-close="dry">${icon("eye")}Dry run</button><button type="button" class="btn btn-danger" data-close="live" ${all ? html`disabled` : ""}>${icon("send")}Post live</button>`,
    onOpen(dialog) {
      const live = dialog.querySelector('[data-close="live"]');
      dialog.querySelector("#sc-typed")?.addEventListener("input", (event) => {
        live.disabled = event.target.value.trim().toLowerCase() !== "post";
      });
      dialog.querySelector("[autofocus]").focus();
    },
  });
  return closed;
}

/**
 * Run one task, or all active ones when `task` is null.
 * @param {any|null} task @param {{dryRun?: boolean}} [options] @returns {Promise<{taskId: string, runId: string}[]|null>} null: not started
 */
export async function runNow(task, { dryRun } = {}) {
  const body = { action: "run_now", ...(task ? { id: task.id } : {}), ...(dryRun ? { dryRun: true } : {}) };
  const key = idempotencyKey();
  let answer;
  try {
    answer = await api.post("/api/scheduler", { ...body, confirm: false }, { idempotencyKey: key, headers: { "X-Confirm": "ask" } });
  } catch (error) {
    if (error.code !== "confirmation_needed") {
      toast.error(error);
      return null;
    }
    const choice = await askLive({ livePosts: error.problem.livePosts ?? 1, tasks: error.problem.tasks ?? [] }, !task);
    if (!choice) return null;
    try {
      answer = await api.post(
        "/api/scheduler",
        { ...body, ...(choice === "dry" ? { dryRun: true } : {}), confirm: true },
        { idempotencyKey: `${key}-${choice}` },
      );
    } catch (problem) {
      toast.error(problem);
      return null;
    }
  }
  const runs = answer.runs ?? [];
  if (!runs.length) toast.info("There was nothing to run.", { detail: "No task is active." });
  else
    toast.success(task ? `“${taskName(task)}” has started` : `${plural(runs.length, "task")} started`, {
      action: {
        label: "Watch",
        href: runs.length === 1 ? `/schedule.html?tab=runs&run=${encodeURIComponent(runs[0].runId)}` : "/schedule.html?tab=runs",
      },
    });
  return runs;
}

/** The stop switch. @param {string|null} characterId null: everything @returns {Promise<boolean>} */
export async function pause(characterId = null) {
  const name = characterId ? (session.find(characterId)?.name ?? "this character") : "";
  const { dialog, closed } = openDialog({
    title: characterId ? `Stop ${name}?` : "Stop everything?",
    size: "s",
    body: html`<form class="stack-3" id="sc-pause"><ul class="consequences"><li>No task ${characterId ? `of ${name} ` : ""}runs and nothing is posted until you go on.</li><li>What is being sent at this moment ends as it ends.</li><li>Runs and posts that come due meanwhile are written down as skipped or late, never sent in a burst.</li></ul>
      ${fieldRow({ name: "reason", label: "Reason", maxlength: 300, placeholder: "shown beside the switch", autofocus: true })}</form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="button" class="btn btn-danger" data-close="yes" data-primary>${icon("stop")}${characterId ? `Stop ${name}` : "Stop everything"}</button>`,
    onOpen(d) {
      d.querySelector("input").focus();
    },
  });
  const input = dialog.querySelector("input");
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector('[data-close="yes"]').click();
  });
  if ((await closed) !== "yes") return false;
  try {
    await api.post("/api/scheduler/pause", { reason: input.value.trim() || null, ...(characterId ? { characterId } : {}) });
    toast.success(characterId ? `${name} is stopped` : "Everything is stopped");
    return true;
  } catch (error) {
    toast.error(error);
    return false;
  }
}

/** @param {string|null} characterId null: everything @returns {Promise<boolean>} */
export async function resume(characterId = null) {
  try {
    await api.post("/api/scheduler/resume", characterId ? { characterId } : {});
    toast.success(characterId ? `${session.find(characterId)?.name ?? "The character"} goes on` : "Everything goes on");
    return true;
  } catch (error) {
    toast.error(error);
    return false;
  }
}

/** Deletes at once; Undo puts it back as it was. @returns {Promise<boolean>} */
export async function removeTask(task, { restored }) {
  try {
    await api.delete(`/api/scheduler/tasks/${encodeURIComponent(task.id)}`);
  } catch (error) {
    toast.error(error);
    return false;
  }
  toast.success(`“${taskName(task)}” was deleted`, {
    detail: "Its runs, pictures and posts stay.",
    undo: async () => {
      try {
        await api.post("/api/scheduler", { action: "add_task", task: { id: task.id, ...stored(task) } });
        restored();
      } catch (error) {
        toast.error(error);
      }
    },
  });
  return true;
}

const FILE_KEYS = ["name", "characterId", "type", "schedule", "active", "config", "timezone", "missedRunPolicy", "dryRun"];
/** Only what belongs into scheduler.json, of a task as the API answers it. */
export const stored = (task) => Object.fromEntries(FILE_KEYS.filter((k) => task[k] !== undefined).map((k) => [k, task[k]]));
