/**
 * Controls that need a right: `<button data-needs="write">` works only for those who have it ("write", "publish", "admin").
 * For everybody else it is marked disabled, says why when pressed, and does nothing. `<fieldset data-needs>` and single
 * inputs become disabled. Everybody who may do everything pays nothing for it. The server decides in any case.
 */
import { refusal } from "./access.js";
import { emit } from "./dom.js";
import { session } from "./session.js";

const SEEN = "dalla.viewer-hint";
const FIELDS = new Set(["FIELDSET", "INPUT", "SELECT", "TEXTAREA"]);
const refused = new Set();
let observer = null;

const lacks = (el) => !session.can(el.dataset.needs);
const why = (el) => refusal(el.dataset.needs, session.user?.role ?? null);

function mark(el) {
  if (lacks(el)) {
    refused.add(el);
    if (FIELDS.has(el.nodeName)) {
      if (!el.disabled) el.disabled = true; // setting it again would be heard as a change, for ever
    } else if (el.getAttribute("aria-disabled") !== "true") el.setAttribute("aria-disabled", "true");
    if (el.title !== why(el)) el.title = why(el);
  } else if (refused.delete(el)) {
    if (FIELDS.has(el.nodeName)) el.disabled = false;
    el.removeAttribute("aria-disabled");
    el.removeAttribute("title");
  }
}

const markAll = (root) => {
  if (root.matches?.("[data-needs]")) mark(root);
  root.querySelectorAll?.("[data-needs]").forEach(mark);
};

function apply() {
  const limited = !["write", "publish", "admin"].every(session.can);
  if (!limited && !observer) return;
  observer?.disconnect();
  observer = null;
  markAll(document);
  viewerHint();
  if (!limited) return;
  observer = new MutationObserver((records) => {
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") {
        if (target.dataset.needs) mark(target);
      } else addedNodes.forEach(markAll);
    }
    for (const el of refused) if (!el.isConnected) refused.delete(el);
  });
  observer.observe(document.body, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["data-needs", "aria-disabled", "disabled"],
  });
}

/** Said once per visit; the user menu says it always. */
function viewerHint() {
  const shell = document.querySelector("app-shell");
  let seen = false;
  try {
    seen = sessionStorage.getItem(SEEN) === session.user?.id;
  } catch {
    /* no storage: it is said on every page */
  }
  const close = () => {
    try {
      sessionStorage.setItem(SEEN, session.user?.id ?? "");
    } catch {
      /* as above */
    }
  };
  const viewer = session.user && !session.can("write");
  shell?.banner("viewer", viewer && !seen ? { tone: "info", icon: "eye", text: refusal("write", "viewer"), onClose: close } : null);
}

/** Called once by main.js. */
export function startRights() {
  document.addEventListener("session:me", apply);
  const stop = (event) => {
    const el = event.target.closest?.("[data-needs]");
    if (!el || !lacks(el)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    emit(document, "toast:show", { kind: "info", text: why(el) }); // a word now, nothing to keep in the centre
  };
  document.addEventListener("click", stop, true);
  document.addEventListener("submit", stop, true);
}
