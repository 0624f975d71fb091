/** Connections: how every account is doing and what mends it, where Instagram fetches pictures, and webhooks. */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { stream } from "../jobs.js";
import { registerKeys } from "../keys.js";
import { toast } from "../notices.js";
import { confirmDialog } from "../components/confirm-dialog.js";
import { emptyState, errorState, skeleton } from "../components/states.js";
import { byCharacter, characterPanel, filterChips, filtered, keyOf, summary } from "./connections/accounts.js";
import { hostingActions, hostingPanel } from "./connections/hosting.js";
import { webhookActions, webhooksPanel } from "./connections/webhooks.js";

const FEW = 6; // below this many characters a search box is only in the way
const DONE = {
  check: (a) => (a.checkOk ? ["success", a.detail] : ["error", a.detail]),
  "close-breaker": (a) => ["success", `${a.characterName} posts on ${a.platformLabel} again`],
  pause: (a) => ["success", `${a.characterName} is paused on ${a.platformLabel}`],
  resume: (a) => ["success", `${a.characterName} posts on ${a.platformLabel} again`],
  refresh: (a) => ["success", `The token was renewed: ${a.tokenDaysLeft} days left`],
};

export async function mount(main) {
  let overview = null,
    problem = null,
    hooks = null,
    hooksProblem = null,
    settings = new Map(),
    result = null,
    turn = 0,
    newest = Promise.resolve(),
    hooksTurn = 0,
    editing = location.hash === "#hosting",
    show = url.get("show") ?? "",
    q = url.get("q") ?? "";
  const marked = () => `${url.get("character") ?? url.get("characterId") ?? ""}:${url.get("platform") ?? ""}`;
  render(
    main,
    html`<div class="co stack-5"><div class="co-top"></div><section class="stack-3" aria-label="Accounts"><div class="co-tools"></div><div class="co-list stack-3"></div></section>
      <section class="panel" id="hosting" aria-labelledby="co-hosting-title"></section><section class="panel" id="webhooks" aria-labelledby="co-webhooks-title"></section></div>`,
  );
  const $ = (s) => main.querySelector(s);
  const accounts = () => (overview?.platforms ?? []).flatMap((p) => p.accounts);

  function paintAccounts() {
    if (!overview) {
      render($(".co-top"), "");
      render($(".co-list"), problem ? errorState(problem, { title: "The accounts could not be loaded" }) : skeleton("rows", 4));
      return;
    }
    const all = accounts(),
      groups = byCharacter(overview.platforms),
      said = summary(all),
      stop = overview.pauses?.all;
    render(
      $(".co-top"),
      html`${overview.dryRun && html`<p class="co-banner is-dry" role="note">${icon("eye")}<span><strong>The whole app runs as a dry run.</strong> Nothing leaves this computer: posts and tests are only rehearsed.</span></p>`}
        ${stop && html`<p class="co-banner is-stop" role="note">${icon("stop")}<span><strong>Publishing is stopped for everybody.</strong> ${stop.reason}</span><a class="btn btn-small" href="/schedule.html">Open schedule</a></p>`}
        <div class="page-head co-summary"><span class="co-light badge-${said.tone}">${icon(said.icon)}</span><div><h2 role="status">${said.title}</h2><p class="small muted">${said.text}${problem && html` · <span class="co-stale">not reachable now</span>`}</p></div></div>`,
    );
    render(
      $(".co-tools"),
      groups.length > 0 &&
        html`<div class="toolbar co-filters">${filterChips(all, show)}${(groups.length > FEW || q) && html`<div class="search-box">${icon("search")}<input type="search" data-search data-q aria-label="Search accounts" placeholder="Search accounts" value="${q}" autocomplete="off"></div>`}</div>`,
    );
    const shown = filtered(groups, { show, q });
    const platforms = new Map(overview.platforms.map((p) => [p.name, p]));
    render(
      $(".co-list"),
      !groups.length
        ? emptyState({
            icon: "characters",
            title: "No character yet",
            text: "Accounts belong to characters. Create one, then enter its keys.",
            action: { label: "Create a character", href: "/characters.html?new=1", icon: "plus" },
          })
        : shown.length
          ? html`${shown.map((g) => characterPanel(g, { platforms, marked: marked() }))}`
          : emptyState({
              icon: "filter",
              title: show === "attention" && !q ? "Nothing needs you" : "No account fits",
              text: show === "attention" && !q ? "Every connected account works." : "",
              action: { label: "Show all", action: "show-all" },
              compact: true,
            }),
    );
  }
  const paintHosting = () =>
    overview && render($("#hosting"), hostingPanel({ hosting: overview.hosting, settings, result, open: editing }));
  const paintHooks = () =>
    render($("#webhooks"), webhooksPanel({ hooks, problem: hooksProblem, private: settings.get("webhookPrivate") }));
  const paint = () => {
    paintAccounts();
    paintHosting();
  };

  /** The newest answer is the one that counts: whoever asked before waits for it, too. */
  const load = () => (newest = loadAccounts());
  async function loadAccounts() {
    const mine = (turn += 1);
    try {
      const answer = await api.get("/api/platforms");
      if (mine !== turn) return newest;
      overview = answer;
      problem = null;
    } catch (error) {
      if (mine !== turn) return newest;
      problem = error;
    }
    return paint();
  }
  async function loadHooks() {
    const mine = (hooksTurn += 1);
    try {
      const { items } = await api.get("/api/webhooks");
      if (mine !== hooksTurn) return;
      hooks = items;
      hooksProblem = null;
    } catch (error) {
      if (mine !== hooksTurn) return;
      hooksProblem = error;
    }
    paintHooks();
  }
  async function loadSettings() {
    try {
      setSettings((await api.get("/api/settings")).items);
    } catch {
      /* the page works without; the forms are left out */
    }
  }
  const setSettings = (items) => {
    settings = new Map(items.map((s) => [s.name, s]));
    paintHosting();
    paintHooks();
  };

  /** Put a changed account in its place. */
  const put = (account) => {
    for (const platform of overview.platforms)
      platform.accounts = platform.accounts.map((a) => (keyOf(a) === keyOf(account) ? account : a));
    paintAccounts();
  };
  const act = (call, body) => (_e, el) =>
    busy(el, async () => {
      try {
        const account = await api.post(`/api/platforms/${encodeURIComponent(el.dataset.platform)}/${call}`, {
          characterId: el.dataset.id,
          ...body,
        });
        put(account);
        const [kind, text] = DONE[call](account);
        toast[kind](text, kind === "error" ? { detail: account.remedy ?? "" } : {});
      } catch (error) {
        toast.error(error);
        load();
      }
    });
  const accountOf = (el) => accounts().find((a) => a.characterId === el.dataset.id && a.platform === el.dataset.platform);
  const closeBreaker = act("close-breaker");

  const hosting = hostingActions({
    settings: () => settings,
    saved: setSettings,
    tested: (r) => {
      result = r;
      paintHosting();
    },
    changed: load,
    toggle: () => {
      editing = !editing;
      paintHosting();
      if (editing) $("#hosting form input:not(:disabled)")?.focus();
    },
  });
  const webhooks = webhookActions({
    hooks: () => hooks ?? [],
    load: loadHooks,
    opened: (id) => url.set({ webhook: id }),
  });
  const setShow = (value) => {
    show = value;
    url.set({ show });
    paintAccounts();
  };

  const { openHook, ...hookHandlers } = webhooks;
  onAction(main, {
    ...hookHandlers,
    "check-hosting": hosting["check-hosting"],
    "hosting-edit": hosting["hosting-edit"],
    retry: () => load(),
    show: (_e, el) => setShow(el.dataset.value),
    "show-all": () => {
      q = "";
      url.set({ q });
      setShow("");
    },
    check: act("check", { force: true }),
    renew: act("refresh"),
    pause: act("pause"),
    resume: act("resume"),
    "close-breaker": async (event, el) => {
      const a = accountOf(el);
      const sure =
        a.breaker?.reconnect ||
        (await confirmDialog({
          title: `Post on ${a.platformLabel} again?`,
          body: html`${a.characterName} was stopped: ${a.breaker?.reason ?? ""}`,
          consequences: ["Posts that are due go out at once.", "If the cause is still there, the account may be harmed further."],
          confirmLabel: "Close breaker",
        }));
      if (sure) closeBreaker(event, el);
    },
  });
  main.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.target.dataset.form === "hosting") hosting.submit(event.target);
  });
  main.addEventListener(
    "input",
    debounce((event) => {
      if (!event.target.matches("[data-q]")) return;
      q = event.target.value;
      url.set({ q });
      paintAccounts();
    }, 150),
  );
  main.addEventListener("change", async (event) => {
    if (!event.target.matches("[data-private]")) return;
    try {
      setSettings((await api.patch("/api/settings", { webhookPrivate: event.target.checked })).items);
      toast.success(event.target.checked ? "Private addresses are allowed" : "Private addresses are refused");
    } catch (error) {
      event.target.checked = !event.target.checked;
      toast.error(error);
    }
  });
  const soon = debounce(load, 300);
  ["account.updated", "character.updated", "character.deleted", "schedule.updated", "settings.changed"].forEach((type) => stream.on(type, soon));
  stream.on("snapshot", ({ lost }) => lost && soon());
  stream.on("state", (live) => live === "live" && problem && soon()); // the app is back
  addEventListener("popstate", () => {
    show = url.get("show") ?? "";
    q = url.get("q") ?? "";
    paintAccounts();
  });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && soon());
  registerKeys("Connections", [{ keys: "r", label: "Look again", run: () => load() }]);

  paintAccounts();
  paintHooks();
  await Promise.all([load(), loadHooks(), loadSettings()]);
  main.querySelector(".is-marked")?.scrollIntoView({ block: "center" });
  if (location.hash && !url.get("character")) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  const wanted = hooks?.find((h) => h.id === url.get("webhook"));
  if (wanted) openHook(wanted);
}
