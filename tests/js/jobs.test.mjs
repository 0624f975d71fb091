import test from "node:test";
import assert from "node:assert/strict";
import { TaskBook, movable, overall } from "../../static/js/tasks.js";
import { stroke, keyCaps } from "../../static/js/keys.js";
import { ApiError, withQuery } from "../../static/js/api.js";
import { points } from "../../static/js/components/chart.js";

const task = (id, status, more = {}) => ({ taskId: id, status, attempt: 1, ...more });

test("a snapshot names the tasks that ended meanwhile", () => {
  const book = new TaskBook();
  book.update(task("a", "running"));
  book.update(task("b", "queued"));
  assert.deepEqual(book.snapshot([task("b", "running")]), ["a"]);
  assert.equal(book.get("b").status, "running");
});
test("an answer from before a task was begun does not put it back among those that wait", () => {
  const book = new TaskBook();
  assert.equal(book.update(task("a", "queued", { attempt: 0 })).status, "queued");
  book.update(task("a", "completed"));
  assert.equal(book.update(task("a", "queued", { attempt: 0 })).status, "completed");
  assert.equal(book.update(task("a", "queued")).status, "queued", "started again: it waits with the attempt it had");
  book.update(task("a", "running", { attempt: 2 }));
  assert.equal(book.update(task("a", "failed")).status, "running");
  assert.equal(book.update({ taskId: "a", message: "told in part" }).status, "running");
});

test("a late progress message does not revive a finished task, a retry does", () => {
  const book = new TaskBook();
  book.update(task("a", "completed", { finishedAt: "2026-01-01T00:00:00Z" }));
  assert.equal(book.update(task("a", "running")).status, "completed");
  assert.equal(book.update(task("a", "running", { attempt: 2 })).status, "running");
});
test("running before paused before queued, older first", () => {
  const book = new TaskBook();
  book.update(task("q2", "queued", { createdAt: "2" }));
  book.update(task("q1", "queued", { createdAt: "1" }));
  book.update(task("p", "paused", { createdAt: "0" }));
  book.update(task("r", "running", { createdAt: "3" }));
  assert.deepEqual(
    book.active().map((t) => t.taskId),
    ["r", "p", "q1", "q2"],
  );
});
test("what was moved forward comes before older ones, and only what has another before it can be moved", () => {
  const waiting = [
    task("new", "queued", { lane: "gpu", createdAt: "3", turn: -1 }),
    task("old", "queued", { lane: "gpu", createdAt: "1", turn: 0 }),
    task("mid", "queued", { lane: "gpu", createdAt: "2" }),
    task("alone", "queued", { lane: "net", createdAt: "4" }),
    task("busy", "running", { lane: "gpu", createdAt: "0" }),
  ];
  const book = new TaskBook();
  waiting.forEach((t) => book.update(t));
  assert.deepEqual(book.active().map((t) => t.taskId), ["busy", "new", "old", "mid", "alone"]);
  assert.deepEqual([...movable(waiting)].sort(), ["mid", "old"]);
});
test("only the newest finished tasks are remembered", () => {
  const book = new TaskBook(2);
  for (const n of [1, 2, 3]) book.update(task(`t${n}`, "completed", { finishedAt: `2026-01-0${n}` }));
  assert.deepEqual(
    book.recent().map((t) => t.taskId),
    ["t3", "t2"],
  );
});
test("overall progress leaves out what is unknown", () => {
  assert.equal(overall([task("a", "queued")]), null);
  assert.equal(
    overall([
      task("a", "running", { total: 4, progress: 0.5 }),
      task("b", "running", { total: 0, progress: 0 }),
      task("c", "running", { total: 2, progress: 1 }),
    ]),
    0.75,
  );
});
test("keys are named the same on every keyboard", () => {
  const key = (k, more = {}) => ({ key: k, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more });
  assert.equal(stroke(key("?", { shiftKey: true }), false), "?");
  assert.equal(stroke(key("Enter", { ctrlKey: true }), false), "mod+enter");
  assert.equal(stroke(key("Enter", { metaKey: true }), true), "mod+enter");
  assert.equal(stroke(key("G", { shiftKey: true }), false), "shift+g");
  assert.equal(stroke(key("ArrowLeft"), false), "ArrowLeft");
  assert.deepEqual(keyCaps("g h", false), ["G", "then", "H"]);
  assert.deepEqual(keyCaps("mod+enter", false), ["Ctrl", "Enter"]);
});
test("a problem becomes an error that people can read", () => {
  const error = new ApiError(422, {
    detail: "Too many steps.",
    code: "invalid_input",
    remedy: "Use 50.",
    errors: [{ field: "steps", message: "At most 50." }],
    requestId: "r1",
  });
  assert.equal(error.message, "Too many steps.");
  assert.deepEqual([error.code, error.remedy, error.requestId, error.errors.length], ["invalid_input", "Use 50.", "r1", 1]);
  assert.equal(new ApiError(502).message, "The server answered 502.");
});
test("query strings leave out what is not set", () => {
  assert.equal(
    withQuery("/api/media", { q: "a b", cursor: null, starred: false, tag: ["x", "y"], empty: "" }),
    "/api/media?q=a+b&starred=false&tag=x&tag=y",
  );
  assert.equal(withQuery("/api/media?a=1", { b: 2 }), "/api/media?a=1&b=2");
});
test("chart points start at the right edge and break at gaps", () => {
  assert.deepEqual(points([0, 10], { max: 10, width: 100, height: 12, slots: 11 }), ["90,11 100,1"]);
  assert.deepEqual(points([5, null, 5], { max: 10, width: 100, height: 12, slots: 3 }), ["0,6", "100,6"]);
});
test("a snapshot says whether events may have been missed before it", async () => {
  const sources = [];
  class Source extends EventTarget {
    constructor() {
      super();
      sources.push(this);
    }
    close() {}
    send(type) {
      this.dispatchEvent(Object.assign(new Event(type), { data: '{"tasks":[]}', lastEventId: "run-1" }));
    }
  }
  const target = new EventTarget();
  Object.assign(globalThis, {
    EventSource: Source,
    document: Object.assign(new EventTarget(), { hidden: false }),
    addEventListener: target.addEventListener.bind(target),
  });
  delete globalThis.BroadcastChannel; // each tab has a stream of its own
  const { start, stream } = await import("../../static/js/jobs.js");
  const lost = [];
  stream.on("snapshot", (data) => lost.push(data.lost));
  start();
  sources[0].send("snapshot"); // the first one: the page has just been loaded
  document.dispatchEvent(new Event("visibilitychange")); // connects again
  sources[1].send("snapshot"); // the events in between are gone
  assert.deepEqual(lost, [false, true]);
});
