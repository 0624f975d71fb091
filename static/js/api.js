// @ts-check
/** The only place that talks HTTP: JSON in and out, problems become ApiError, no network becomes NetworkError. */

/** The server answered, and the answer is no. `message` is the problem's detail. */
export class ApiError extends Error {
  /** @param {number} status @param {Record<string, any>} problem */
  constructor(status, problem = {}) {
    super(problem.detail || problem.error || problem.title || `The server answered ${status}.`);
    this.name = "ApiError";
    this.status = status;
    this.code = problem.code || `http_${status}`;
    this.title = problem.title || "";
    this.detail = this.message;
    this.remedy = problem.remedy || "";
    /** @type {{field: string, message: string}[]} */
    this.errors = problem.errors || [];
    /** @type {number|null} seconds */
    this.retryAfter = problem.retryAfter ?? null;
    this.requestId = problem.requestId || "";
    /** The whole problem; on 412 it carries the current record. */
    this.problem = problem;
  }
}

/** Nothing was answered: the app is not running, or the network is gone. */
export class NetworkError extends Error {
  constructor() {
    super("Digital Dalla does not answer.");
    this.name = "NetworkError";
    this.code = "network";
    this.detail = this.message;
    this.remedy = "Check that the app is still running, then try again.";
  }
}

/** @param {unknown} error true when somebody cancelled on purpose (say nothing then) */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/** A new Idempotency-Key. Make one per intention and reuse it when the same intention is retried. */
export const idempotencyKey = () =>
  globalThis.crypto?.randomUUID?.() ?? `k-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 12)}`;

/** @param {string} path @param {Record<string, any>} [query] null, undefined and "" are left out */
export function withQuery(path, query) {
  if (!query) return path;
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) search.append(name, String(one));
  }
  return search.size ? `${path}${path.includes("?") ? "&" : "?"}${search}` : path;
}

/**
 * @typedef {object} Options
 * @property {any} [body] sent as JSON (a FormData or Blob as it is)
 * @property {Record<string, any>} [query]
 * @property {AbortSignal} [signal]
 * @property {Record<string, string>} [headers]
 * @property {string|null} [ifMatch] ETag the change is based on
 * @property {string} [idempotencyKey]
 * @property {boolean} [full] answer {data, etag, status, headers} instead of the data alone
 */

/** @param {string} method @param {string} path @param {Options} [options] @returns {Promise<any>} */
export async function request(method, path, options = {}) {
  const { body, query, signal, ifMatch, full } = options;
  const headers = new Headers({ Accept: "application/json, application/problem+json", ...options.headers });
  let payload;
  if (body instanceof FormData || body instanceof Blob) payload = body;
  else if (body !== undefined) {
    payload = JSON.stringify(body);
    headers.set("Content-Type", "application/json");
  }
  addSafety(method, headers, options);
  if (ifMatch) headers.set("If-Match", ifMatch);
  let response;
  try {
    response = await fetch(withQuery(path, query), { method, headers, body: payload, signal, keepalive: options.keepalive, credentials: "same-origin" });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new NetworkError();
  }
  const data = await parse(response.status, response.headers.get("Content-Type") || "", () => response.text());
  if (!response.ok) throw failure(method, response.status, data, response.headers.get("Retry-After"));
  return full ? { data, etag: response.headers.get("ETag"), status: response.status, headers: response.headers } : data;
}

/** @param {string} method @param {Headers} headers @param {Options} options */
function addSafety(method, headers, options) {
  if (method !== "GET" && method !== "HEAD") headers.set("X-Dalla", "1");
  if (options.idempotencyKey) headers.set("Idempotency-Key", options.idempotencyKey);
}

/** @param {number} status @param {string} type @param {() => Promise<string>|string} text */
async function parse(status, type, text) {
  if (status === 204) return null;
  const content = await text();
  if (!/json/.test(type)) return content;
  try {
    return JSON.parse(content);
  } catch {
    return null;
  }
}

/** @param {string} method @param {number} status @param {any} data @param {string|null} retryAfter */
function failure(method, status, data, retryAfter) {
  const problem = data && typeof data === "object" ? data : {};
  if (problem.retryAfter === undefined && retryAfter && Number.isFinite(Number(retryAfter))) problem.retryAfter = Number(retryAfter);
  const error = new ApiError(status, problem);
  if (status === 401) document.dispatchEvent(new CustomEvent("api:unauthorized", { detail: error }));
  if (status === 403 && method !== "GET") document.dispatchEvent(new CustomEvent("api:forbidden", { detail: error }));
  return error;
}

export const api = {
  /** @param {string} path @param {Options} [options] */
  get: (path, options) => request("GET", path, options),
  /** @param {string} path @param {any} [body] @param {Options} [options] */
  post: (path, body, options) => request("POST", path, { ...options, body }),
  /** @param {string} path @param {any} [body] @param {Options} [options] */
  put: (path, body, options) => request("PUT", path, { ...options, body }),
  /** @param {string} path @param {any} [body] @param {Options} [options] */
  patch: (path, body, options) => request("PATCH", path, { ...options, body }),
  /** @param {string} path @param {Options} [options] */
  delete: (path, options) => request("DELETE", path, options),

  /**
   * Send files with progress (fetch cannot report it).
   * @param {string} path @param {FormData} form
   * @param {Options & {onProgress?: (fraction: number, sent: number, total: number) => void}} [options]
   */
  upload: (path, form, options = {}) =>
    new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      xhr.open("POST", withQuery(path, options.query));
      const headers = new Headers({ Accept: "application/json, application/problem+json", ...options.headers });
      addSafety("POST", headers, options);
      headers.forEach((value, name) => xhr.setRequestHeader(name, value));
      xhr.upload.addEventListener("progress", (e) => {
        if (e.lengthComputable) options.onProgress?.(e.loaded / e.total, e.loaded, e.total);
      });
      xhr.addEventListener("load", async () => {
        const data = await parse(xhr.status, xhr.getResponseHeader("Content-Type") || "", () => xhr.responseText);
        if (xhr.status >= 200 && xhr.status < 300) resolve(data);
        else reject(failure("POST", xhr.status, data, xhr.getResponseHeader("Retry-After")));
      });
      xhr.addEventListener("error", () => reject(new NetworkError()));
      xhr.addEventListener("abort", () => reject(new DOMException("Aborted", "AbortError")));
      options.signal?.addEventListener("abort", () => xhr.abort());
      xhr.send(form);
    }),
};
