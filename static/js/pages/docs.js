/** The API, read from /api/openapi.json: groups, parameters, bodies, answers, a curl line each, and trying the reading ones. */
import { api, withQuery } from "../api.js";
import { attrs, html, icon } from "../html.js";
import { curl, here } from "../curl.js";
import { busy, debounce, onAction, render, url } from "../dom.js";
import { plural } from "../format.js";
import { copyText, emptyState, errorState, skeleton } from "../components/states.js";
import { asCall, operations, resolve, typeName } from "./docs/operations.js";

const note = (text) =>
  html`${String(text ?? "")
    .split(/(`[^`]+`)/)
    .map((part) => (part.startsWith("`") && part.length > 2 ? html`<code>${part.slice(1, -1)}</code>` : part))}`;
const fields = (doc, rows) =>
  html`<div class="dc-fields" role="table">${rows.map(({ name, schema, required, where, description }) => {
    const s = resolve(doc, schema);
    const said = description || s.description;
    return html`<div role="row" class="dc-field"><span role="rowheader"><code>${name}</code>${required && html`<span class="dc-req">required</span>`}</span><span role="cell"><span class="muted">${typeName(doc, schema)}${where && `, in the ${where}`}${s.default !== undefined && s.default !== null && s.default !== "" ? `, default ${JSON.stringify(s.default)}` : ""}</span>${said && html`<span>${note(said)}</span>`}</span></div>`;
  })}</div>`;

function properties(doc, schema) {
  const s = resolve(doc, schema),
    of = s.type === "array" ? resolve(doc, s.items) : s;
  return Object.entries(of.properties ?? {}).map(([name, one]) => ({ name, schema: one, required: of.required?.includes(name) }));
}

/** What a good answer looks like: its fields, or its content type. */
function answer(doc, code, response) {
  const r = resolve(doc, response);
  const [type, media] = Object.entries(r.content ?? {})[0] ?? [];
  const rows = media?.schema && /json$/.test(type) && !/problem/.test(type) ? properties(doc, media.schema) : [];
  const what = !type || /problem/.test(type) ? "" : /json/.test(type) ? typeName(doc, media.schema) : Object.keys(r.content).join(", ");
  const line = html`<code>${code}</code> ${note(r.description)}${what && html` <span class="muted">${what}</span>`}`;
  return rows.length ? html`<li><details><summary>${line}</summary>${fields(doc, rows)}</details></li>` : html`<li>${line}</li>`;
}

const RIGHTS = { public: "anybody", read: "read", write: "write", publish: "publish", admin: "an administrator, signed in", self: "a person, signed in" };

/** Fields for the parameters and a button: GET only, so that nothing is changed by trying. */
function tryIt(op) {
  if (op.method !== "get" || op.path === "/api/events") return "";
  const own = op.parameters.filter((p) => p.in === "path" || p.in === "query");
  return html`<section class="dc-try" data-op="${op.id}"><h4>Try it</h4><form class="dc-form" data-op="${op.id}">${own.map(
    (p) =>
      html`<label class="dc-input"><span><code>${p.name}</code></span><input name="${p.name}" data-in="${p.in}" autocomplete="off" spellcheck="false" ${attrs({ required: p.in === "path", placeholder: p.schema?.default ?? undefined })}></label>`,
  )}<button type="submit" class="btn btn-small">${icon("play")}Send</button></form><div class="dc-result" role="status"></div></section>`;
}

/** One call. Its inside is made when it is opened: 270 of them at once make the page slow. */
function operation(doc, op, where, open) {
  const inside = open ? details(doc, op, where) : "";
  return html`<details class="card dc-op" id="${op.id}" data-key="${op.id}" ${attrs({ open })}><summary><span class="dc-method is-${op.method}">${op.method.toUpperCase()}</span><code class="dc-path">${op.path}</code><span class="dc-summary">${op.summary}</span>${icon("chevron-down")}</summary>${inside}</details>`;
}

function details(doc, op, where) {
  const body = op.body ? properties(doc, op.body) : [];
  const line = curl(asCall(op), { ...where, token: where.token && op.right !== "public" });
  const byHand = where.token && ["admin", "self"].includes(op.right); // what no token may, no command line can
  return html`<div class="dc-body">${op.description && html`<p>${note(op.description)}</p>`}<p class="muted small dc-right">Needs: ${RIGHTS[op.right] ?? op.right}</p>
      ${
        op.parameters.length > 0 &&
        html`<section><h4>Parameters</h4>${fields(
          doc,
          op.parameters.map((p) => ({
            name: p.name,
            schema: p.schema,
            required: p.required,
            where: p.in === "path" ? "address" : p.in,
            description: p.description,
          })),
        )}</section>`
      }
      ${op.body && html`<section><h4>Body <span class="muted">${op.bodyTypes.join(" or ")}</span></h4>${body.length ? fields(doc, body) : html`<p class="muted">${typeName(doc, op.body)}</p>`}</section>`}
      <section><h4>Answers</h4><ul class="dc-answers">${op.responses.map(([code, r]) => answer(doc, code, r))}</ul></section>
      ${byHand ? html`<p class="muted small">An API token never has this right, so there is no command for it. It works on the pages, for whoever is signed in.</p>` : html`<section><header class="dc-curl-head"><h4>Example</h4><button type="button" class="btn btn-ghost btn-small" data-action="copy" data-text="${line}" aria-label="Copy the command for ${op.method.toUpperCase()} ${op.path}">${icon("copy")}Copy as curl</button></header><pre tabindex="0">${line}</pre></section>`}${tryIt(op)}</div>`;
}

/** The codes an error answer can carry; `type` of every problem leads here. */
const errorList = (rows) => html`<h2 id="errors">Errors</h2>
  <div class="dc-fields" role="table" aria-label="Error codes">${rows.map(
    (e) => html`<div role="row" class="dc-field" id="error-${e.code}">
    <span role="rowheader"><code>${e.code}</code></span><span role="cell"><span class="muted">${e.status}</span> ${e.title}</span></div>`,
  )}</div>`;

const MOST = 20_000;

/** Send a GET with what was typed and show the answer as it came. */
async function send(form, op) {
  const given = [...form.querySelectorAll("input")].filter((input) => input.value !== "");
  const path = op.path.replace(/{(\w+)}/g, (_all, name) => {
    const value = given.find((input) => input.dataset.in === "path" && input.name === name)?.value ?? "";
    return value.split("/").map(encodeURIComponent).join("/");
  });
  const address = withQuery(path, Object.fromEntries(given.filter((i) => i.dataset.in === "query").map((i) => [i.name, i.value])));
  const slot = form.parentElement.querySelector(".dc-result");
  try {
    const response = await fetch(address, { credentials: "same-origin" });
    const type = response.headers.get("Content-Type") ?? "";
    const bytes = response.headers.get("Content-Length");
    let text = /json|text\//.test(type) ? await response.text() : `${type}${bytes ? `, ${plural(Number(bytes), "byte")}` : ""}`;
    if (/json/.test(type)) text = JSON.stringify(JSON.parse(text), null, 2);
    render(slot, html`<p class="small"><strong>${response.status}</strong> <span class="muted">${address}</span></p><pre tabindex="0">${text.slice(0, MOST)}${text.length > MOST ? "\n…" : ""}</pre>`);
  } catch {
    render(slot, html`<p class="field-error">Digital Dalla does not answer.</p>`);
  }
}

export async function mount(main) {
  document.querySelector("app-shell").pageTitle = "API";
  const onLoad = () =>
    mountDoc(main).catch((error) => render(main, errorState(error, { title: "The description of the API could not be loaded" })));
  onAction(main, {
    retry: onLoad,
    copy: (_e, el) => copyText(el.dataset.text),
    clear: () => {
      main.querySelector("#dc-q").value = "";
      main.querySelector("#dc-q").dispatchEvent(new Event("input", { bubbles: true }));
    },
  });
  await onLoad();
}

async function mountDoc(main) {
  render(main, skeleton("rows", 8));
  const [doc, where] = await Promise.all([api.get("/api/openapi.json"), here()]);
  const all = operations(doc),
    about = new Map((doc.tags ?? []).map((t) => [t.name, t.description]));
  render(
    main,
    html`<div class="dc"><aside class="dc-side"><nav aria-label="Groups"><ul class="dc-nav"></ul></nav></aside><div class="dc-main stack-4">
    <header class="stack-3"><p class="dc-intro">Everything the pages do goes through this API, so scripts can do it too. JSON in and out, times in UTC. Errors are <a href="https://www.rfc-editor.org/rfc/rfc9457" rel="noopener">problem details</a> with <code>code</code>, <code>detail</code> and often a <code>remedy</code>. Long work answers 202 with a <code>taskId</code>.${where.token ? html` Programs send an API token, made under <a href="/settings.html?section=account">Settings, Account</a>.` : ""}</p>
      <div class="row"><div class="search-box">${icon("search")}<input type="search" id="dc-q" data-search value="${url.get("q") ?? ""}" placeholder="Search paths and words" aria-label="Search the API" autocomplete="off" spellcheck="false"></div><span class="muted" role="status" id="dc-count"></span><span class="spacer"></span><a class="btn" href="/api/openapi.json" target="_blank" rel="noopener">${icon("external")}openapi.json</a></div></header><div class="dc-list stack-5"></div></div></div>`,
  );
  const errors = document.createElement("section");
  errors.className = "stack-2";
  render(errors, errorList(doc["x-errors"] ?? []));
  main.querySelector(".dc-main").append(errors);
  const input = main.querySelector("#dc-q");
  const opened = new Set();
  function paint() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = all.filter((op) => {
      const text = `${op.method} ${op.path} ${op.summary} ${op.tag} ${op.description} ${op.parameters.map((p) => p.name).join(" ")} ${
        op.body
          ? properties(doc, op.body)
              .map((p) => p.name)
              .join(" ")
          : ""
      }`.toLowerCase();
      return words.every((w) => text.includes(w));
    });
    const groups = Map.groupBy
      ? Map.groupBy(shown, (op) => op.tag)
      : shown.reduce((m, op) => m.set(op.tag, [...(m.get(op.tag) ?? []), op]), new Map());
    const slug = (tag) => `group-${tag.toLowerCase().replace(/\W+/g, "-")}`;
    main.querySelector("#dc-count").textContent = plural(shown.length, "call");
    render(
      main.querySelector(".dc-nav"),
      html`${[...groups].map(([tag, list]) => html`<li><a href="#${slug(tag)}"><span class="truncate">${tag}</span><span class="count">${list.length}</span></a></li>`)}`,
    );
    render(
      main.querySelector(".dc-list"),
      shown.length
        ? html`${[...groups].map(([tag, list]) => html`<section class="stack-2" id="${slug(tag)}" data-key="${slug(tag)}"><h2>${tag}</h2>${about.get(tag) && html`<p class="muted">${about.get(tag)}</p>`}${list.map((op) => operation(doc, op, where, opened.has(op.id)))}</section>`)}`
        : emptyState({
            icon: "search",
            title: "No call fits",
            text: "Try another word, or part of a path.",
            action: { label: "Clear search", action: "clear" },
          }),
    );
  }
  input.addEventListener(
    "input",
    debounce(() => {
      url.set({ q: input.value.trim() });
      paint();
    }, 120),
  );
  main.addEventListener(
    "toggle",
    (event) => {
      if (!event.target.matches?.(".dc-op")) return;
      const { id, open } = event.target;
      if (opened.has(id) === open) return;
      opened[open ? "add" : "delete"](id);
      if (open) {
        paint();
        history.replaceState(history.state, "", `${location.pathname}${location.search}#${id}`);
      }
    },
    true,
  );
  paint();
  main.addEventListener("submit", (event) => {
    const form = event.target.closest?.(".dc-form");
    if (!form) return;
    event.preventDefault();
    busy(form.querySelector("button"), () => send(form, all.find((op) => op.id === form.dataset.op)));
  });
  const reveal = () => {
    const el = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (el) {
      if (el.tagName === "DETAILS" && !el.open) {
        opened.add(el.id);
        paint();
      }
      el.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
}
