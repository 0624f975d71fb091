/** What is answered at an address that leads nowhere: which address, and the ways on. */
import { emptyState } from "../components/states.js";
import { render } from "../dom.js";

export function mount(main) {
  render(
    main,
    emptyState({
      icon: "search",
      title: "There is no page here",
      text: `Nothing is at ${decoded(location.pathname)}. The address may be mistyped, or the page has moved.`,
      action: { label: "Go home", href: "/", icon: "home" },
    }),
  );
}

/** The address as people write it, cut where it would fill the screen. */
function decoded(path) {
  let text = path;
  try {
    text = decodeURIComponent(path);
  } catch {
    /* it stays as it is */
  }
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
