/** The tail of a trainer's log: read from where it ended last time; scrolls along only when the end is in sight. */
import { api } from "../../api.js";
import { html, icon } from "../../html.js";
import { render } from "../../dom.js";

const FIRST = 64 * 1024;
const MOST = 400_000; // characters kept on the page
const NEAR = 24; // px from the end that count as the end

/** Join what was shown with what came, cut at a line when it grows too long. */
export function joined(before, more, most = MOST) {
  const text = before + more;
  if (text.length <= most) return text;
  const cut = text.indexOf("\n", text.length - most);
  return text.slice(cut < 0 ? text.length - most : cut + 1);
}

/** @param {HTMLElement} root @param {() => {logUrl: string, active: boolean}|null} run */
export function logSection(root, run) {
  let text = "",
    offset = null,
    url = "",
    loading = false,
    problem = "";
  render(
    root,
    html`<details class="lo-log-box"><summary><h2>Log</h2><span class="small muted lo-log-said"></span></summary><pre class="lo-log small mono" tabindex="0" role="log" aria-live="off" aria-label="Log of the trainer"></pre><div class="row lo-log-foot"><a class="btn btn-small lo-log-all" download>${icon("download")}Whole log</a><button type="button" class="btn btn-small lo-log-end" hidden>${icon("chevron-down")}To the end</button></div></details>`,
  );
  const box = root.querySelector("details"),
    pre = root.querySelector("pre"),
    end = root.querySelector(".lo-log-end");
  const atEnd = () => pre.scrollHeight - pre.scrollTop - pre.clientHeight <= NEAR;
  const toEnd = () => {
    pre.scrollTop = pre.scrollHeight;
    end.hidden = true;
  };

  async function read() {
    const now = run();
    if (!now || !box.open || loading) return;
    if (now.logUrl !== url) {
      url = now.logUrl;
      text = "";
      offset = null;
      pre.textContent = "";
      const link = root.querySelector(".lo-log-all");
      link.href = url;
      link.download = `${url.split("/").at(-2)}.log`;
    }
    loading = true;
    const mine = url;
    try {
      const { data, headers } = await api.get(url, { query: { offset: offset ?? -FIRST }, full: true });
      if (mine !== url) return;
      const start = Number(headers.get("X-Start-Offset"));
      let more = data ?? "";
      if (offset === null && start > 0) more = more.slice(more.indexOf("\n") + 1);
      const next = Number(headers.get("X-Next-Offset"));
      if (offset !== null && next < offset) text = ""; // a new file
      offset = next;
      problem = "";
      if (more || !pre.textContent) {
        const follow = atEnd();
        text = joined(text, more);
        pre.textContent = text || "Nothing has been written yet.";
        if (follow) toEnd();
        else end.hidden = atEnd();
      }
    } catch (error) {
      problem = error.message;
    } finally {
      loading = false;
      root.querySelector(".lo-log-said").textContent = problem ? `Could not be read: ${problem}` : "";
    }
  }
  box.addEventListener("toggle", () => box.open && read().then(toEnd));
  pre.addEventListener("scroll", () => {
    end.hidden = atEnd();
  });
  end.addEventListener("click", toEnd);
  return { read };
}
