/**
 * Places every `[popover]` beside the button that opened it and gives `role=menu` its arrow keys.
 * Use: `<button popovertarget="x">…</button><div id="x" popover class="popover" data-align="end">…</div>`.
 * The browser does the rest: light dismiss, Esc closes the topmost only, focus returns.
 */
const invokerOf = (panel) =>
  [...document.querySelectorAll(`[popovertarget="${CSS.escape(panel.id)}"]`)].find((b) => b.checkVisibility()) ?? null;

function place(panel) {
  const invoker = invokerOf(panel);
  if (!invoker || panel.hasAttribute("data-unplaced")) return;
  const at = invoker.getBoundingClientRect();
  const { offsetWidth: w, offsetHeight: h } = panel;
  const gap = 6,
    edge = 8;
  let left = panel.dataset.align === "end" ? at.right - w : at.left;
  left = Math.max(edge, Math.min(left, innerWidth - w - edge));
  const below = innerHeight - at.bottom - gap - edge;
  const up = h > below && at.top > below;
  panel.style.setProperty("left", `${left}px`);
  panel.style.setProperty("top", up ? `${Math.max(edge, at.top - gap - h)}px` : `${at.bottom + gap}px`);
  panel.style.setProperty("max-height", `${Math.max(160, up ? at.top - gap - edge : below)}px`);
}

document.addEventListener(
  "toggle",
  (event) => {
    const panel = event.target;
    if (!panel.matches?.("[popover]") || event.newState !== "open") return;
    place(panel);
    if (panel.getAttribute("role") === "menu") (panel.querySelector("[aria-checked=true]") ?? items(panel)[0])?.focus();
    else panel.querySelector("[autofocus]")?.focus();
  },
  true,
);

const replace = () => document.querySelectorAll("[popover]:popover-open").forEach(place);
addEventListener("resize", replace);
addEventListener("scroll", replace, { capture: true, passive: true });

const items = (menu) => [...menu.querySelectorAll("[role^=menuitem]:not(:disabled)")];

document.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.("[role=menu][popover]");
  if (!menu) return;
  const all = items(menu);
  const now = all.indexOf(document.activeElement);
  const go = { ArrowDown: (now + 1) % all.length, ArrowUp: (now - 1 + all.length) % all.length, Home: 0, End: all.length - 1 }[event.key];
  if (go !== undefined) {
    event.preventDefault();
    all[go]?.focus();
    return;
  }
  if (event.key === "Tab") menu.hidePopover();
  if (event.key.length === 1 && /\w/.test(event.key)) {
    const rest = [...all.slice(now + 1), ...all.slice(0, now + 1)];
    rest.find((el) => el.textContent.trim().toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
  }
});

document.addEventListener("click", (event) => {
  const item = event.target.closest?.("[role^=menuitem]");
  const menu = item?.closest("[role=menu][popover]");
  if (menu?.matches(":popover-open")) menu.hidePopover();
});
