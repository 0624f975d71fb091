/** The outbox: every request a dry run would have sent, as it would have gone over the line. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { busy, render } from "../../dom.js";
import { dateTime, plural } from "../../format.js";
import { toast } from "../../notices.js";
import { confirmDialog } from "../../components/confirm-dialog.js";
import { platformIcon } from "../../components/post-state.js";
import { copyText, emptyState, errorState, skeleton } from "../../components/states.js";

/** A body as text that people can read. @param {any} body */
export function bodyText(body) {
  if (body === null || body === undefined || body === "") return "";
  if (typeof body === "string") {
    try {
      return JSON.stringify(JSON.parse(body), null, 2);
    } catch {
      return /^[\w.~%+-]+=[^\n]*$/.test(body) ? [...new URLSearchParams(body)].map(([k, v]) => `${k} = ${v}`).join("\n") : body;
    }
  }
  return JSON.stringify(body, null, 2);
}
/** The request as text, for another program or a question to somebody. @param {any} r */
export const requestText = (r) =>
  [`${r.method} ${r.url}`, ...Object.entries(r.headers ?? {}).map(([k, v]) => `${k}: ${v}`), "", bodyText(r.body)].join("\n").trim();
/** "graph.instagram.com" and the way below it. */
export function addressOf(text) {
  try {
    const u = new URL(text);
    return { host: u.host, path: `${decodeURI(u.pathname)}${u.search ? "?…" : ""}` };
  } catch {
    return { host: "", path: String(text) };
  }
}

/** @param {HTMLElement} root @param {{state: () => Record<string, string>}} page */
export function outboxSection(root, page) {
  let items = [],
    cursor = null,
    total = 0,
    error = null,
    loaded = false,
    run = 0;
  const paint = () => {
    if (error && !items.length) return render(root, errorState(error, { title: "The outbox could not be loaded", action: "outbox-retry" }));
    if (!loaded) return render(root, skeleton("rows", 5));
    if (!items.length)
      return render(
        root,
        emptyState({
          icon: "eye",
          title: page.state().postId ? "This post sent nothing yet" : "The outbox is empty",
          text: "A dry run leaves here what it would have sent: address, headers and words, with the keys masked.",
        }),
      );
    const { characterId, platform } = page.state();
    const shown = items.filter((r) => (!characterId || r.characterId === characterId) && (!platform || r.platform === platform));
    render(
      root,
      html`<p class="ct-outbox-note pc-dry">${icon("eye")}<span><strong>None of these left this machine.</strong> They are the requests a dry run would have sent, the newest first. Keys are masked.</span></p>
      <ul class="ct-outbox">${shown.map(request)}</ul>
      <div class="ct-more">${cursor ? html`<button type="button" class="btn" data-action="outbox-more">Load more</button>` : ""}<span class="small muted">${plural(total, "request")}${shown.length < total ? `, ${shown.length} shown` : ""}</span></div>`,
    );
  };
  async function load({ append = false } = {}) {
    const mine = (run += 1);
    try {
      const answer = await api.get("/api/outbox", { query: { postId: page.state().postId, limit: 50, cursor: append ? cursor : null } });
      if (mine !== run) return;
      items = append ? [...items, ...answer.items] : answer.items;
      cursor = answer.nextCursor;
      total = answer.total ?? items.length;
      error = null;
      loaded = true;
    } catch (problem) {
      if (mine !== run) return;
      error = problem;
      if (items.length) toast.error(problem);
    }
    paint();
  }
  return {
    paint,
    load,
    handlers: {
      "outbox-retry": () => load(),
      "outbox-more": (_e, el) => busy(el, () => load({ append: true })),
      "copy-request": (_e, el) => copyText(requestText(items.find((r) => String(r.id) === el.dataset.id)), "Request copied"),
      "clear-outbox": async (_e, el) => {
        const sure = await confirmDialog({
          title: "Clear the outbox?",
          consequences: ["The requests of all dry runs are removed.", "The posts themselves stay."],
          confirmLabel: "Clear",
        });
        if (!sure) return;
        await busy(el, async () => {
          try {
            await api.delete("/api/outbox");
            toast.success("The outbox is empty");
            await load();
          } catch (problem) {
            toast.error(problem);
          }
        });
      },
    },
  };
}

function request(r) {
  const { host, path } = addressOf(r.url);
  const body = bodyText(r.body);
  const headers = Object.entries(r.headers ?? {});
  return html`<li data-key="${r.id}"><details><summary>${platformIcon(r.platform, true)}<span class="badge badge-neutral mono ct-method">${r.method}</span><span class="ct-url truncate"><span class="muted">${host}</span>${path}</span><span class="small muted nowrap">${r.characterName ? `${r.characterName}, ` : ""}${dateTime(r.at)}</span></summary>
    <div class="stack-3 ct-request"><p class="mono ct-full">${r.method} ${r.url}</p>${headers.length > 0 && html`<dl class="facts">${headers.map(([k, v]) => html`<div><dt>${k}</dt><dd class="mono">${v}</dd></div>`)}</dl>`}${body ? html`<pre tabindex="0" aria-label="Body">${body}</pre>` : html`<p class="muted small">Without a body.</p>`}
      <div class="row"><button type="button" class="btn btn-small" data-action="copy-request" data-id="${r.id}">${icon("copy")}Copy</button>${r.postId && html`<button type="button" class="btn btn-small btn-ghost" data-action="open" data-id="${r.postId}">${icon("list")}Open the post</button>`}</div></div></details></li>`;
}
