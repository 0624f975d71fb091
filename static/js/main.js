/** Boot: shell, theme, live data, shortcuts, then the page named by <body data-page>. */
import "./components/index.js";
import { api } from "./api.js";
import { debounce, emit } from "./dom.js";
import { hasUnsaved } from "./forms.js";
import { start, stream, tasks, cancel, retry, runNext } from "./jobs.js";
import { registerKeys, startKeys } from "./keys.js";
import { PAGES } from "./nav.js";
import { toast } from "./notices.js";
import { applyTheme, prefs } from "./prefs.js";
import { startNotifications } from "./notifications.js";
import { startRights } from "./rights.js";
import { session, startSession } from "./session.js";
import { showKeys } from "./components/keys-help.js";
import { signInDialog } from "./components/sign-in.js";
import { errorState, watchErrorStates } from "./components/states.js";
import { render } from "./dom.js";

const page = document.body.dataset.page;
const shell = document.querySelector("app-shell");
const main = document.querySelector("main");

applyTheme(prefs.get("theme", "system"));
watchErrorStates();
shell.pages = PAGES;
shell.page = page;

const showTasks = () => {
  shell.tasks = { active: tasks.active(), recent: tasks.recent() };
};
let frame = 0;
const soon = () => {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    showTasks();
  });
};
["task.updated", "snapshot", "task.deleted"].forEach((type) => stream.on(type, soon));
stream.on("state", (state) => {
  shell.live = state;
});

/** What holds for every post stands on every page: a stop, a rehearsal. */
const showPublishing = debounce(async () => {
  try {
    const { paused, dryRun } = await api.get("/api/scheduler/state");
    const reason = paused?.reason ? `: ${paused.reason.replace(/[.\s]+$/, "")}` : "";
    shell.banner(
      "stopped",
      paused && page !== "schedule"
        ? { tone: "bad", icon: "stop", text: `Publishing is stopped${reason}. Nothing goes out.`, action: { label: "Schedule", href: "/schedule.html" } }
        : null,
    );
    shell.banner("dry-run", dryRun ? { tone: "warn", icon: "eye", text: "Dry run: every post is only rehearsed. Nothing leaves this machine." } : null);
  } catch {
    /* the page says itself what does not work */
  }
}, 100);
["snapshot", "schedule.updated", "settings.changed"].forEach((type) => stream.on(type, showPublishing));

const showCharacters = () => {
  shell.characters = { list: session.known, currentId: session.characterId };
};
["session:characters", "session:character"].forEach((type) => document.addEventListener(type, showCharacters));
document.addEventListener("api:unauthorized", () => {
  if (!shell.signedOut) session.ended();
  shell.signedOut = true;
});
document.addEventListener("api:forbidden", (event) => toast.error(event.detail));
document.addEventListener("session:me", (event) => {
  shell.signedOut = false;
  shell.user = event.detail.mode === "accounts" ? event.detail.user : null;
});
document.addEventListener("app-shell:sign-in", async () => {
  const before = session.user;
  if (!(await signInDialog({ name: before?.name }))) return;
  const { user } = await session.signedIn();
  if (before && user.id !== before.id) toast.info(`You are signed in as ${user.displayName || user.name} now`);
  else toast.success("You are signed in again");
});
document.addEventListener("app-shell:sign-out", () => {
  if (hasUnsaved() && !confirm("Discard unsaved changes?")) return;
  session.signOut().catch((error) => toast.error(error));
});

document.addEventListener("app-shell:character", (event) => session.choose(event.detail.id));
document.addEventListener("app-shell:theme", (event) => {
  prefs.set("theme", event.detail.theme);
  applyTheme(event.detail.theme);
});
document.addEventListener("app-shell:help", () => showKeys());
document.addEventListener("app-shell:tray", async () => {
  try {
    const done = await api.get("/api/tasks", { query: { status: "completed,failed,cancelled,interrupted", limit: 10 } });
    (done.items ?? done).forEach((t) => tasks.update(t));
    showTasks();
  } catch {
    /* the tray still shows what came over the stream */
  }
});
const onTask = (type, call) => document.addEventListener(type, (event) => call(event.detail.id).catch((error) => toast.error(error)));
onTask("task:cancel", cancel);
onTask("task:retry", retry);
onTask("task:next", runNext);

registerKeys("Everywhere", [
  { keys: "?", label: "Show shortcuts", run: () => showKeys() },
  {
    keys: "/",
    label: "Search",
    run: () => {
      const own = main.querySelector("[data-search]");
      if (own?.checkVisibility?.()) own.focus();
      else shell.focusSearch();
    },
  },
  { keys: "mod+z", label: "Undo (while an Undo message shows)", run: () => emit(document, "toast:undo") },
  {
    keys: "mod+enter",
    label: "Primary action",
    always: true,
    run: () => {
      const scope = document.querySelector("dialog[open]:modal") ?? main;
      [...scope.querySelectorAll("[data-primary]")].find((b) => b.checkVisibility())?.click();
    },
  },
  { keys: "Escape", label: "Close what is on top" },
]);
registerKeys(
  "Go to",
  PAGES.map((p) => ({
    keys: `g ${p.key}`,
    label: p.label,
    run: () => {
      location.href = p.href;
    },
  })),
);

/** Links inside the app ask before unsaved changes are lost; the browser's own question covers the rest. */
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-discard]");
  if (link && hasUnsaved() && !confirm("Discard unsaved changes?")) event.preventDefault();
});

startRights();
startKeys();
start();
startSession();
const known = session.me().catch(() => null); // pages may ask session.can() from the start
showPublishing();
startNotifications();
session.characters().catch(() => {
  shell.characters = { list: [], currentId: "", failed: true };
});
showCharacters();

try {
  const [module] = await Promise.all([import(`./pages/${page}.js`), known]);
  await module.mount(main);
} catch (error) {
  console.error(error);
  render(main, errorState(error, { title: "This page could not be opened", action: "reload-page" }));
  main.addEventListener("click", (event) => {
    if (event.target.closest("[data-action=reload-page]")) location.reload();
  });
}
