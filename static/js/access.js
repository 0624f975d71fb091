// @ts-check
/** Accounts in words: roles, scopes, devices, waiting times, where to go after signing in. Pure. */

/** @type {Record<string, {label: string, can: string, icon: string}>} */
export const ROLES = {
  admin: { label: "Administrator", can: "Everything: settings, people, backups, and all below.", icon: "key" },
  editor: { label: "Editor", can: "Makes pictures and posts, publishes, and deletes. No settings, no people.", icon: "edit" },
  viewer: { label: "Viewer", can: "Looks at everything, changes nothing.", icon: "eye" },
};
export const roleLabel = (/** @type {string} */ role) => ROLES[role]?.label ?? role;

/** @type {Record<string, {label: string, can: string}>} */
export const SCOPES = {
  read: { label: "Read", can: "See characters, pictures, posts and the state of tasks." },
  write: { label: "Write", can: "Generate, upload, change and delete. Includes Read." },
  publish: { label: "Publish", can: "Post to the connected accounts and plan posts. Includes Read." },
};
/** @type {Record<string, string[]>} the scopes that a role can give away */
export const ROLE_SCOPES = { viewer: ["read"], editor: ["read", "write", "publish"], admin: ["read", "write", "publish"] };

/** Why a control does not work for this person. @param {string} right @param {string|null} role */
export function refusal(right, role) {
  if (role === "viewer") return "You are signed in as a viewer: you can look, not change.";
  const what = right === "admin" ? "Only an administrator can do this." : "Your account may not do this.";
  return role ? `You are signed in as ${role === "editor" ? "an editor" : `a ${role}`}. ${what}` : what;
}

/** "4 min 12 s", "38 s", "1 h 03 min": a waiting time that counts down. @param {number} seconds */
export function waitWords(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s`;
  return `${Math.floor(left / 3600)} h ${String(Math.floor((left % 3600) / 60)).padStart(2, "0")} min`;
}

/**
 * Where to go after signing in: only an address of this app that is not the sign-in page itself.
 * @param {string|null|undefined} next @param {string} origin @returns {string} a whole address
 */
export function safeNext(next, origin) {
  const home = `${origin}/`;
  if (!next || !next.startsWith("/")) return home;
  let url;
  try {
    url = new URL(next, origin);
  } catch {
    return home;
  }
  if (url.origin !== origin || /^\/login(\.html)?\/?$/.test(url.pathname) || url.username || url.password) return home;
  return url.href;
}

const BROWSERS = /** @type {[RegExp, string][]} */ ([
  [/\bEdgi?A?(?:OS)?\//, "Edge"],
  [/\bOPR\/|\bOPT\//, "Opera"],
  [/\bVivaldi\//, "Vivaldi"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\bFirefox\/|\bFxiOS\//, "Firefox"],
  [/\bHeadlessChrome\//, "Chrome without a window"],
  [/\bChrome\/|\bCriOS\/|\bChromium\//, "Chrome"],
  [/\bVersion\/[\d.]+.*\bSafari\//, "Safari"],
]);
const SYSTEMS = /** @type {[RegExp, string, boolean][]} */ ([
  [/\biPhone\b/, "iPhone", true],
  [/\biPad\b/, "iPad", true],
  [/\bAndroid\b/, "Android", true],
  [/\bWindows\b/, "Windows", false],
  [/\bMacintosh\b|\bMac OS X\b/, "Mac", false],
  [/\bCrOS\b/, "ChromeOS", false],
  [/\bLinux\b|\bX11\b/, "Linux", false],
]);
const PROGRAMS = /** @type {[RegExp, string][]} */ ([
  [/^curl\//i, "curl"],
  [/^python-requests\//i, "Python (requests)"],
  [/^python-httpx\/|^httpx\//i, "Python (httpx)"],
  [/^Wget\//i, "Wget"],
  [/^PostmanRuntime\//i, "Postman"],
]);

/** A device as people know it: "Firefox on Windows". @param {string|null|undefined} userAgent @returns {{label: string, kind: "computer"|"phone"|"program"|"unknown"}} */
export function device(userAgent) {
  const text = String(userAgent ?? "").trim();
  if (!text) return { label: "Unknown device", kind: "unknown" };
  const program = PROGRAMS.find(([pattern]) => pattern.test(text));
  if (program) return { label: program[1], kind: "program" };
  const browser = BROWSERS.find(([pattern]) => pattern.test(text))?.[1];
  const system = SYSTEMS.find(([pattern]) => pattern.test(text));
  if (!browser && !system) return { label: text.split(/[\s/]/)[0].slice(0, 40), kind: "program" };
  const label = browser && system ? `${browser} on ${system[1]}` : browser || `Browser on ${system?.[1]}`;
  return { label, kind: system?.[2] ? "phone" : "computer" };
}

/** Where from, in words. @param {string|null|undefined} address */
export const place = (address) => (!address ? "" : /^(127\.|::1$|localhost$)/.test(address) ? "this computer" : address);

/** What a token can still do, in words: [tone, label]. @param {{expired?: boolean, expiresAt: string|null}} token @param {number} [now] */
export function tokenState(token, now = Date.now()) {
  if (token.expired || (token.expiresAt && Date.parse(token.expiresAt) <= now)) return ["bad", "Ended"];
  if (token.expiresAt && Date.parse(token.expiresAt) - now < 7 * 86_400_000) return ["warn", "Ends soon"];
  return ["good", "Works"];
}
