/** Keeps every <notification-centre> up to date: reads /api/notifications, follows the stream, shows a toast for a new one. */
import { api } from "./api.js";
import { debounce, emit } from "./dom.js";
import { stream } from "./jobs.js";

const LIMIT = 30;
let data = { items: [], unread: 0, total: 0, nextCursor: null, problem: null };

const show = (changes) => {
  data = { ...data, ...changes };
  document.querySelectorAll("notification-centre").forEach((centre) => {
    centre.data = data;
  });
};

async function load() {
  try {
    const { items, unread, total, nextCursor } = await api.get("/api/notifications", { query: { limit: LIMIT } });
    show({ items, unread, total, nextCursor, problem: null });
  } catch (problem) {
    show({ problem });
  }
}

async function more() {
  try {
    const page = await api.get("/api/notifications", { query: { limit: LIMIT, cursor: data.nextCursor } });
    const known = new Set(data.items.map((n) => n.id));
    show({ items: [...data.items, ...page.items.filter((n) => !known.has(n.id))], nextCursor: page.nextCursor, problem: null });
  } catch (problem) {
    show({ problem });
  }
}

async function read(ids) {
  const at = new Date().toISOString();
  const hit = (n) => !n.readAt && (!ids || ids.includes(n.id));
  const count = ids ? data.items.filter(hit).length : data.unread;
  show({ items: data.items.map((n) => (hit(n) ? { ...n, readAt: at } : n)), unread: Math.max(0, data.unread - count) });
  try {
    await api.post("/api/notifications/read", ids ? { ids } : {}, { keepalive: true });
  } catch {
    load(); // it stays unread; the list says so
  }
}

/** A toast that is not kept in this browser: the server keeps the notification. */
function announce(notice) {
  const kind = notice.level === "error" ? "error" : notice.level === "success" ? "success" : "info";
  const action = notice.href ? { label: notice.action || "Open", href: notice.href } : undefined;
  emit(document, "toast:show", { kind, text: notice.title, detail: notice.detail, action });
}

/** Called once by main.js, after the shell is there. */
export function startNotifications() {
  const soon = debounce(load, 200);
  document.addEventListener("notification-centre:open", () => load());
  document.addEventListener("notification-centre:more", () => more());
  document.addEventListener("notification-centre:read", (event) => read(event.detail.ids));
  stream.on("notification", (notice) => {
    if (!notice?.title) return;
    const items = data.items.filter((n) => n.id !== notice.id && !(notice.key && n.key === notice.key));
    show({ items: [notice, ...items], unread: notice.unread ?? data.unread + 1 });
    announce(notice);
  });
  stream.on("notification.changed", soon);
  stream.on("snapshot", soon); // also after the connection was lost
  load();
}
