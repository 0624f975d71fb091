/** The API, read from /api/openapi.json: groups, parameters, bodies and a curl line each. */
import { api } from "../api.js";
import { html, icon } from "../html.js";
import { debounce, onAction, render, url } from "../dom.js";
import { plural } from "../format.js";
import { copyText, emptyState, errorState, skeleton } from "../components/states.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const MAX_DEPTH = 4;

/** The schema behind a `$ref`, unions without their null. */
function resolve(doc, schema) {
  let s = schema ?? {};
  for (let n = 0; s.$ref && n < 10; n += 1)
    s =
      s.$ref
        .replace(/^#\//, "")
        .split("/")
        .reduce((at, key) => at?.[key], doc) ?? {};
  const union = s.anyOf ?? s.oneOf ?? (s.allOf?.length === 1 ? s.allOf : null);
  if (union) {
    const real = union.filter((one) => one.type !== "null");
    if (real.length === 1)
      return {
        ...resolve(doc, real[0]),
        ...Object.fromEntries(Object.entries(s).filter(([k]) => !["anyOf", "oneOf", "allOf"].includes(k))),
      };
  }
  return s;
}

/** "array of string", "integer, 1 to 500", "newest | oldest". */
export function typeName(doc, schema) {
  const s = resolve(doc, schema);
  if (s.enum) return s.enum.map((v) => JSON.stringify(v)).join(" | ");
  const union = (s.anyOf ?? s.oneOf)?.filter((one) => one.type !== "null");
  if (union) return union.map((one) => typeName(doc, one)).join(" or ");
  if (s.type === "array") return `array of ${typeName(doc, s.items)}`;
  if (s.format === "binary") return "file";
  const low = s.minimum ?? s.exclusiveMinimum,
    high = s.maximum ?? s.exclusiveMaximum;
  const range =
    low !== undefined && high !== undefined
      ? `, ${low} to ${high}`
      : low !== undefined
        ? `, from ${low}`
        : high !== undefined
          ? `, up to ${high}`
          : "";
  return `${s.type ?? (s.properties ? "object" : "any")}${range}`;
}

/** A body somebody could send: required fields, or the first few when none is required. */
export function example(doc, schema, depth = 0) {
  const s = resolve(doc, schema);
  if (s.example !== undefined) return s.example;
  if (s.default !== undefined && s.default !== null) return s.default;
  if (s.enum) return s.enum[0];
  if (s.anyOf || s.oneOf) return example(doc, (s.anyOf ?? s.oneOf)[0], depth);
  if (s.type === "array") return depth >= MAX_DEPTH ? [] : [example(doc, s.items ?? {}, depth + 1)];
  if (s.properties || s.type === "object") {
    const all = Object.keys(s.properties ?? {}),
      names = s.required?.length ? s.required : all.slice(0, 3);
    return depth >= MAX_DEPTH
      ? {}
      : Object.fromEntries(names.filter((n) => s.properties?.[n]).map((n) => [n, example(doc, s.properties[n], depth + 1)]));
  }
  return { integer: s.minimum ?? 1, number: s.minimum ?? 1, boolean: true, string: "…" }[s.type] ?? null;
}

/** Every operation, flat, in the order of the document. */
export function operations(doc) {
  return Object.entries(doc.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((m) => item[m]).map((method) => {
      const op = item[method],
        content = resolve(doc, op.requestBody)?.content ?? {};
      const [type, media] = Object.entries(content)[0] ?? [];
      return {
        id: `${method}-${path.replace(/[^\w]+/g, "-").replace(/^-|-$/g, "")}`,
        method,
        path,
        tag: op.tags?.[0] ?? "Other",
        summary: op.summary ?? "",
        description: op.description ?? "",
        parameters: [...(item.parameters ?? []), ...(op.parameters ?? [])].map((p) => resolve(doc, p)),
        bodyType: type,
        body: media?.schema,
        responses: Object.entries(op.responses ?? {}),
      };
    }),
  );
}

const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
/** A line for the shell. @param {string} origin */
export function curl(doc, op, origin) {
  const query = op.parameters
    .filter((p) => p.in === "query" && p.required)
    .map((p) => `${p.name}=${encodeURIComponent(example(doc, p.schema) ?? "")}`)
    .join("&");
  const parts = [
    `curl ${op.method === "get" ? "" : `-X ${op.method.toUpperCase()} `}${quote(origin + op.path.replace(/{(\w+)}/g, (_all, name) => name.toUpperCase()) + (query ? `?${query}` : ""))}`,
  ];
  if (op.body && /multipart/.test(op.bodyType))
    for (const [name, s] of Object.entries(resolve(doc, op.body).properties ?? {}).slice(0, 1))
      parts.push(`-F ${quote(`${name}=@${/file|array/.test(typeName(doc, s)) ? "picture.png" : "…"}`)}`);
  else if (op.body) parts.push("-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(example(doc, op.body)))}`);
  return parts.join(" \\\n  ");
}

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

function operation(doc, op) {
  const body = op.body ? properties(doc, op.body) : [];
  const line = curl(doc, op, location.origin);
  return html`<details class="card dc-op" id="${op.id}" data-key="${op.id}"><summary><span class="dc-method is-${op.method}">${op.method.toUpperCase()}</span><code class="dc-path">${op.path}</code><span class="dc-summary">${op.summary}</span>${icon("chevron-down")}</summary>
    <div class="dc-body">${op.description && html`<p>${note(op.description)}</p>`}
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
      ${op.body && html`<section><h4>Body <span class="muted">${op.bodyType}</span></h4>${body.length ? fields(doc, body) : html`<p class="muted">${typeName(doc, op.body)}</p>`}</section>`}
      <section><h4>Answers</h4><ul class="dc-answers">${op.responses.map(([code, r]) => html`<li><code>${code}</code> ${resolve(doc, r).description}</li>`)}</ul></section>
      <section><header class="dc-curl-head"><h4>Example</h4><button type="button" class="btn btn-ghost btn-small" data-action="copy" data-text="${line}">${icon("copy")}Copy</button></header><pre tabindex="0">${line}</pre></section></div></details>`;
}

/** The codes an error answer can carry; `type` of every problem leads here. */
const errorList = (rows) => html`<h2 id="errors">Errors</h2>
  <div class="dc-fields" role="table" aria-label="Error codes">${rows.map(
    (e) => html`<div role="row" class="dc-field" id="error-${e.code}">
    <span role="rowheader"><code>${e.code}</code></span><span role="cell"><span class="muted">${e.status}</span> ${e.title}</span></div>`,
  )}</div>`;

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
  const doc = await api.get("/api/openapi.json");
  const all = operations(doc),
    about = new Map((doc.tags ?? []).map((t) => [t.name, t.description]));
  render(
    main,
    html`<div class="dc"><aside class="dc-side"><nav aria-label="Groups"><ul class="dc-nav"></ul></nav></aside><div class="dc-main stack-4">
    <header class="stack-3"><p class="dc-intro">Everything the pages do goes through this API, so scripts can do it too. JSON in and out, times in UTC. Errors are <a href="https://www.rfc-editor.org/rfc/rfc9457" rel="noopener">problem details</a> with <code>code</code>, <code>detail</code> and often a <code>remedy</code>. Long work answers 202 with a <code>taskId</code>.</p>
      <div class="row"><div class="search-box">${icon("search")}<input type="search" id="dc-q" data-search value="${url.get("q") ?? ""}" placeholder="Search paths and words" aria-label="Search the API" autocomplete="off" spellcheck="false"></div><span class="muted" role="status" id="dc-count"></span><span class="spacer"></span><a class="btn" href="/api/openapi.json" target="_blank" rel="noopener">${icon("external")}openapi.json</a></div></header><div class="dc-list stack-5"></div></div></div>`,
  );
  const errors = document.createElement("section");
  errors.className = "stack-2";
  render(errors, errorList(doc["x-errors"] ?? []));
  main.querySelector(".dc-main").append(errors);
  const input = main.querySelector("#dc-q");
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
        ? html`${[...groups].map(([tag, list]) => html`<section class="stack-2" id="${slug(tag)}" data-key="${slug(tag)}"><h2>${tag}</h2>${about.get(tag) && html`<p class="muted">${about.get(tag)}</p>`}${list.map((op) => operation(doc, op))}</section>`)}`
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
      if (event.target.matches?.(".dc-op") && event.target.open)
        history.replaceState(history.state, "", `${location.pathname}${location.search}#${event.target.id}`);
    },
    true,
  );
  paint();
  const reveal = () => {
    const el = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (el) {
      if (el.tagName === "DETAILS") el.open = true;
      el.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
}
