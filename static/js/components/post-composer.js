/**
 * Write, preview, plan and send a post; opened from anywhere.
 *
 * `openComposer({mediaIds?, items?, characterId?, platform? | platforms?, scheduledAt?, zone?, nextFree?, caption?, altText?, postId?})`
 *   → Promise<posts|null>: the posts that were made or changed, null when it was closed before.
 *   `items` are the pictures when the caller has them; `postId` edits an existing post; `scheduledAt` is UTC;
 *   `nextFree: true` fills in the next free time of the account; `zone` is for characters without one of their own.
 * `scheduleEach({mediaIds, items?, characterId?})` → Promise<posts|null>: a post for each of several pictures, one after the other.
 * What is being written survives a reload and an accidental close: the next composer for the same pictures goes on with it.
 * `hasDraft()` tells whether an unfinished one is kept, `forgetDraft()` throws it away.
 */
import { html } from "../html.js";
import { copyCurl } from "../curl.js";
import { busy, onAction, render } from "../dom.js";
import { dateTime } from "../format.js";
import { toast } from "../notices.js";
import { draft, prefs } from "../prefs.js";
import { session } from "../session.js";
import { confirmDialog, openDialog } from "./confirm-dialog.js";
import { errorState, skeleton } from "./states.js";
import { momentOf, platformLabel } from "./post-state.js";
import { actOn } from "./post-actions.js";
import * as model from "./post-composer/model.js";
import { pickPictures } from "./post-composer/pick.js";
import { previewView } from "./post-composer/preview.js";
import { headline, resultsView, summary, waiting, watchPosts } from "./post-composer/results.js";
import { Composer, draftKey } from "./post-composer/state.js";
import { editView, footView } from "./post-composer/view.js";

export { scheduleEach } from "./post-composer/each.js";
export const hasDraft = () => Boolean(draft(draftKey("")).load()?.form);
export const forgetDraft = () => draft(draftKey("")).clear();

/** @param {any} [options] @returns {Promise<any[]|null>} */
export async function openComposer(options = {}) {
  const stop = new AbortController();
  const { signal } = stop;
  let frame = 0;
  const c = new Composer(() => {
    frame ||= requestAnimationFrame(draw);
  });
  c.characters = () => session.known;
  const { dialog, closed } = openDialog({
    title: options.postId ? "Edit post" : "New post",
    size: "l",
    body: html`<div class="pc"><form class="pc-form" novalidate>${skeleton("form", 5)}</form><aside class="pc-side" aria-label="Preview"></aside></div><div class="pc-done" hidden></div>`,
    footer: html`<div class="pc-foot"></div>`,
  });
  dialog.classList.add("composer");
  const $ = (selector) => dialog.querySelector(selector);
  const form = $(".pc-form");
  form.addEventListener("submit", (event) => event.preventDefault());

  function draw() {
    frame = 0;
    if (!dialog.open || !c.ready) return; // what is typed or in focus before begin() has finished would be lost
    if (c.phase === "results") {
      dialog.querySelector(".dialog-head h2").textContent = headline(c.posts);
      render($(".pc-done"), resultsView(c.posts, (post) => `${dateTime(momentOf(post), c.zone)} (${c.zone})`));
      render(
        $(".pc-foot"),
        html`<span class="muted small">${c.posts.some(waiting) ? "You can close this; it goes on by itself." : ""}</span><span class="spacer"></span><a class="btn" href="/content.html">Open Content</a><button type="button" class="btn btn-primary" data-close="done" data-primary>Done</button>`,
      );
      return;
    }
    render(form, editView(c));
    render($(".pc-side"), previewView(c));
    render($(".pc-foot"), footView(c));
    const focus = form.querySelector("[data-focus]");
    if (focus?.dataset.x) {
      focus.style.setProperty("--x", `${Number(focus.dataset.x) * 100}%`);
      focus.style.setProperty("--y", `${Number(focus.dataset.y) * 100}%`);
    }
    for (const el of form.querySelectorAll(".pc-area textarea")) el.previousElementSibling.scrollTop = el.scrollTop;
  }
  const setField = (selector, value) => {
    const el = dialog.querySelector(selector);
    if (el && el.value !== value) el.value = value;
  };

  // ------------------------------------------------------------ typing

  form.addEventListener("input", (event) => {
    const el = event.target;
    if (el.dataset.caption !== undefined) c.set(model.withCaption(c.form, el.dataset.caption, el.value));
    else if (el.dataset.alt) c.set(model.withAlt(c.form, el.dataset.alt, el.value));
  });
  form.addEventListener(
    "scroll",
    (event) => {
      if (event.target.matches?.(".pc-area textarea")) event.target.previousElementSibling.scrollTop = event.target.scrollTop;
    },
    true,
  );
  dialog.addEventListener("change", (event) => {
    const el = event.target;
    const { field, option, pref } = el.dataset;
    if (pref) {
      c[pref] = el.value;
      prefs.set(pref === "tone" ? "captionTone" : "captionLanguage", el.value || null);
    } else if (field === "characterId") c.set({ ...c.form, characterId: el.value });
    else if (field === "dryRun") c.set({ ...c.form, dryRun: el.checked });
    else if (field === "at") c.set({ ...c.form, at: el.value });
    else if (option === "madeWithAi") setOption({ madeWithAi: el.checked });
    else if (option === "ratio") setOption({ ratio: el.value || null });
  });
  const setOption = (changes) => c.set({ ...c.form, options: { ...c.form.options, ...changes } });

  // ------------------------------------------------------------ pictures

  const at = (id) => c.form.mediaIds.indexOf(id);
  let dragged = "";
  form.addEventListener("dragstart", (event) => {
    const li = event.target.closest?.(".pc-strip [data-id]");
    if (!li) return;
    dragged = li.dataset.id;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", dragged);
  });
  form.addEventListener("dragover", (event) => {
    const li = event.target.closest?.(".pc-strip li[data-id]");
    if (!dragged || !li) return;
    event.preventDefault();
    if (li.dataset.id !== dragged) c.set(model.moveMedia(c.form, dragged, at(li.dataset.id)));
  });
  form.addEventListener("drop", (event) => {
    if (dragged) event.preventDefault();
  });
  form.addEventListener("dragend", () => {
    dragged = "";
  });
  const focusTo = (x, y) => setOption({ focus: [x, y].map((v) => Math.round(Math.min(1, Math.max(0, v)) * 1000) / 1000) });
  form.addEventListener("click", (event) => {
    const el = event.target.closest?.("[data-focus]");
    if (!el || (!event.clientX && !event.clientY)) return;
    const box = el.querySelector("img").getBoundingClientRect();
    focusTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  form.addEventListener("keydown", (event) => {
    if (!event.target.closest?.("[data-focus]")) return;
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] }[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = c.form.options.focus ?? [0.5, 0.5];
    focusTo(x + step[0], y + step[1]);
  });

  // ------------------------------------------------------------ sending

  /** One save at a time: a second press, of whatever button, would be refused as somebody else's change. */
  const once = (work) => busy($(".dialog-foot"), work);
  /** Somebody else changed the post: take theirs as the base, and do what was wanted with ours. */
  async function sendInstead(button) {
    const wanted = c.refused;
    try {
      await busy(button, () => c.rebase());
    } catch (error) {
      toast.error(error);
      return;
    }
    await send(wanted, $(`[data-action=save-${wanted}]`));
  }
  async function send(publish, button) {
    if (publish === "now" && !(await sure())) return;
    await busy(button, async () => {
      try {
        await c.save(publish);
      } catch (error) {
        if (error.code === "network") toast.error(error);
        form.scrollTop = 0;
        draw();
        $("[data-key=problem]")?.scrollIntoView({ block: "nearest" });
        return;
      }
      if (publish === "now") {
        c.posts = c.posts.map((p) => ({ ...p, sending: true }));
        results();
      } else {
        dialog.close("done");
        const [first] = c.posts;
        if (publish === "draft") toast.success(options.postId ? "Saved" : "Kept as a draft", { action: { label: "Open", href: "/content.html?tab=drafts" } });
        else if (first)
          toast.success(`Scheduled for ${dateTime(momentOf(first), c.zone)}`, {
            detail: c.posts.every((p) => p.dryRun) ? "A dry run: nothing will leave this machine." : c.zone,
            action: { label: "Calendar", href: `/calendar.html?date=${momentOf(first).slice(0, 10)}` },
          });
      }
    });
  }
  function sure() {
    const { live } = c;
    const dry = c.form.platforms.filter((p) => !live.includes(p));
    if (!live.length)
      return confirmDialog({
        title: "Rehearse this post now?",
        body: "This is a dry run. Nothing leaves this machine; the exact requests are kept in the outbox.",
        confirmLabel: "Rehearse",
        danger: false,
      });
    return confirmDialog({
      title: live.length === 1 ? `Post live to ${platformLabel(live[0])} now?` : `Post live to ${live.length} accounts now?`,
      consequences: [
        ...live.map((p) => `${c.accountName(p)} on ${platformLabel(p)}: everybody can see it at once.`),
        ...dry.map((p) => `${platformLabel(p)}: dry run, nothing leaves this machine.`),
      ],
      confirmLabel: live.length === 1 ? "Post now" : `Post to ${live.length} accounts`,
      danger: false,
    });
  }
  function results() {
    c.phase = "results";
    $(".pc").hidden = true;
    $(".pc-done").hidden = false;
    dialog.classList.add("is-done");
    watchPosts(
      () => c.posts,
      (post) => {
        const known = c.posts.find((p) => p.id === post.id);
        // a post that has just been handed over still says "scheduled" for a moment
        const sending = Boolean(known?.sending) && post.status === "scheduled" && !post.deferredReason && !post.error;
        c.posts = c.posts.map((p) => (p.id === post.id ? { ...p, ...post, sending } : p));
        c.changed();
      },
      signal,
    );
    draw();
    $("[data-primary]")?.focus();
  }

  onAction(dialog, {
    "start-over": () => c.startOver(),
    "reload-platforms": (_e, el) => busy(el, () => c.loadPlatforms()),
    rebase: (_e, el) => once(() => sendInstead(el)),
    "check-again": () => c.runCheck({ force: true }),
    kind: (_e, el) => c.set({ ...c.form, story: el.dataset.value === "story" }),
    add: async () => {
      const items = await pickPictures({ characterId: c.form.characterId, taken: c.form.mediaIds, characters: session.known });
      if (!items.length) return;
      items.forEach((item) => c.items.set(item.id, item));
      const next = model.addMedia(c.form, items.map((i) => i.id));
      c.set(next.characterId || !items[0].characterId ? next : { ...next, characterId: items[0].characterId });
    },
    select: (_e, el) => {
      c.selected = el.dataset.id;
      c.slide = at(el.dataset.id);
      c.changed();
    },
    left: (_e, el) => c.set(model.moveMedia(c.form, el.dataset.id, at(el.dataset.id) - 1)),
    right: (_e, el) => c.set(model.moveMedia(c.form, el.dataset.id, at(el.dataset.id) + 1)),
    remove: (_e, el) => c.set(model.removeMedia(c.form, el.dataset.id)),
    platform: (_e, el) => c.set(model.togglePlatform(c.form, el.dataset.id)),
    unlink: () => {
      c.tab = c.form.platforms[0];
      c.set(model.unlink(c.form));
    },
    link: () => c.set(model.link(c.form, c.tab || c.form.platforms[0])),
    tab: (_e, el) => {
      c.tab = el.dataset.id;
      c.shown = el.dataset.id;
      c.changed();
    },
    show: (_e, el) => {
      c.shown = el.dataset.id;
      c.changed();
    },
    slide: (_e, el) => {
      c.slide = Math.max(0, c.slide + Number(el.dataset.step));
      c.changed();
    },
    unfold: () => {
      c.unfolded = true;
      c.changed();
    },
    generate: async () => {
      try {
        await c.generate();
      } catch (error) {
        toast.error(error);
      }
    },
    ungenerate: () => {
      const { before } = c;
      c.before = null;
      c.generated = null;
      c.set({ ...c.form, ...before });
    },
    option: (_e, el) => setOption({ [el.dataset.name]: el.dataset.value }),
    unfocus: () => setOption({ focus: null }),
    free: (_e, el) =>
      busy(el, async () => {
        try {
          const at = await c.nextFree();
          c.set({ ...c.form, at });
          setField("#pc-at", at);
        } catch (error) {
          toast.error(error);
        }
      }),
    "save-draft": (_e, el) => once(() => send("draft", el)),
    curl: () => copyCurl(c.asCall()),
    "save-schedule": (_e, el) => {
      if (!c.form.at) {
        const input = $("#pc-at");
        input.setAttribute("aria-invalid", "true");
        input.focus();
        try {
          input.showPicker?.();
        } catch {
          /* the field has the focus: that is enough */
        }
        return;
      }
      once(() => send("schedule", el));
    },
    "save-now": (_e, el) => once(() => send("now", el)),
    fix: (_e, el) =>
      busy(el, async () => {
        const post = c.posts.find((p) => p.id === el.dataset.id);
        if (el.dataset.fix === "edit") {
          dialog.close("done");
          openComposer({ postId: post.id });
          return;
        }
        const next = await actOn(post, el.dataset.fix);
        if (next) {
          c.posts = c.posts.map((p) => (p.id === next.id ? { ...next, sending: ["retry", "publish"].includes(el.dataset.fix) } : p));
          c.changed();
        }
      }),
  });

  dialog.addEventListener("click", () => {
    if (!frame) return; // what a click changed is there before the next key
    cancelAnimationFrame(frame);
    draw();
  });
  addEventListener("pagehide", () => c.saveSoon.flush(), { signal });
  const ended = closed.then(() => {
    stop.abort();
    const unfinished = c.phase === "edit" && !c.posts.length && !model.isEmpty(c.form) && (c.form.postId ? c.dirty : c.dirty || c.restored);
    c.stop();
    if (unfinished && c.ready)
      toast.info(c.form.postId ? "Your changes are not saved yet" : "The unfinished post is kept here", {
        detail: "Only this browser has it.",
        action: { label: "Go on", run: () => openComposer(c.form.postId ? { postId: c.form.postId } : {}) },
      });
    if (c.phase === "results" && c.posts.length && !c.posts.some(waiting)) toast.success(summary(c.posts));
    return c.posts.length ? c.posts : null;
  });
  const begin = async () => {
    try {
      await c.open(options);
      c.ready = true;
      form.replaceChildren();
      draw();
      setField("#pc-at", c.form.at);
      if (options.nextFree && !c.form.at && c.form.characterId) dialog.querySelector("[data-action=free]")?.click();
      if (c.post && !(c.post.actions ?? ["edit"]).includes("edit")) throw new Error("This post cannot be changed any more.");
      (c.form.mediaIds.length ? form.querySelector("[data-caption]") : form.querySelector("[data-action=add]"))?.focus();
    } catch (error) {
      render($(".pc"), errorState(error, { title: "The post could not be opened", action: "" }));
    }
  };
  await begin();
  return ended;
}

