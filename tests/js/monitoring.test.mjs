/** The rules of the monitoring page: charts, components, what waits for what, log entries, links to the log. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CHARTS, charts, path } from "../../static/js/pages/monitoring/charts.js";
import { componentRow, componentsOf, extras, parts } from "../../static/js/pages/monitoring/components.js";
import * as l from "../../static/js/pages/monitoring/log-lines.js";
import { waits } from "../../static/js/pages/monitoring/waits.js";
import { logHref } from "../../static/js/notices.js";

const at = (seconds) => new Date(Date.UTC(2026, 10, 21) + seconds * 1000).toISOString();
const moves = (line) => line.replace(/[^M]/g, "").length;

// ---------------------------------------------------------------- charts

test("a line breaks where nothing was measured, by the step of its span", () => {
  const value = (s) => s.cpu;
  const samples = [0, 20, 40, 400, 420].map((s) => ({ at: at(s), cpu: 0.5 }));
  const end = Date.parse(at(420)) / 1000;
  assert.equal(moves(path(samples, value, end, { seconds: 3600, every: 20 })), 2);
  assert.equal(moves(path(samples, value, end, { seconds: 3600, every: 300 })), 1);
  assert.equal(path(samples, value, end), "M200.0 28.0M240.0 28.0"); // two minutes: the last two, 20 s apart
});

test("values keep inside the box and what is not known is left out", () => {
  const samples = [{ at: at(0), cpu: -1 }, { at: at(2), cpu: null }, { at: at(4), cpu: 7 }];
  assert.equal(path(samples, (s) => s.cpu, Date.parse(at(4)) / 1000), "M232.0 55.0L240.0 1.0");
});

test("the queue has a scale of its own and says its numbers", () => {
  const queue = CHARTS.find((c) => c.key === "queue");
  assert.equal(queue.top([{ queued: 0, running: 1 }]), 4);
  assert.equal(queue.top([{ queued: 30 }, { running: 40 }]), 40);
  const markup = String(charts([{ at: at(0), cpu: 1, queued: 3, running: 1 }, { at: at(20), cpu: 2, queued: 7, running: 2 }], "1h"));
  assert.match(markup, /Queue over the last hour: now 7, lowest 3, highest 7/);
  assert.match(markup, /No NVIDIA GPU was found/);
});

// ---------------------------------------------------------------- components

const status = {
  status: "degraded",
  checkedAt: at(0),
  tasks: { queued: 1 },
  accounts: [{ platform: "instagram", characterId: "c1", characterName: "Lu<na", status: "error", detail: "Refused.", remedy: "Enter it again.", since: at(0), fix: { label: "Open this account", href: "/connections.html?character=c1" } }],
  comfyui: { status: "off", detail: "Refused.", since: at(0), lastError: null, fix: { label: "Set its address", href: "/settings.html?section=engines" }, info: { url: "http://x" } },
  folders: { status: "ok", detail: "Fine.", since: at(0), lastError: null, fix: null, items: [{ id: "data", label: "Data", status: "ok", detail: "Can be written.", path: "/data" }] },
  instagram: { status: "error", detail: "Luna: Refused.", since: at(0), lastError: { at: at(0), detail: "Luna: Refused." }, fix: { label: "Open this account", href: "/connections.html" } },
  disk: { status: "ok", detail: "1 GB", since: at(0), lastError: { at: at(0), detail: "It was full." }, fix: null, freeBytes: 1024 },
};

test("components are what has a state of its own", () => {
  assert.deepEqual(componentsOf(status).map(([name]) => name), ["comfyui", "folders", "instagram", "disk"]);
  assert.deepEqual(componentsOf(null), []);
});

test("a row shows its fix, its accounts one by one, and escapes what others wrote", () => {
  const row = String(componentRow(["instagram", status.instagram], { accounts: status.accounts }));
  assert.match(row, /href="\/connections\.html\?character=c1"/);
  assert.match(row, /Lu&lt;na/);
  assert.match(row, /Enter it again\./);
  assert.doesNotMatch(row, /Last error/); // it is the one shown
  assert.match(String(componentRow(["disk", status.disk], { accounts: [] })), /Last error .*It was full/);
  assert.doesNotMatch(String(componentRow(["disk", status.disk], { accounts: [] })), /<a /);
});

test("nothing of the JSON is hidden", () => {
  assert.deepEqual(extras(status.comfyui), [["Url", "http://x"]]);
  assert.deepEqual(extras(status.disk), [["Free bytes", "1 KB"]]);
  assert.deepEqual(extras({ status: "ok", lagSeconds: 0, running: 3, ok: true }), [["Lag seconds", "none"], ["Running", "3"], ["Ok", "Yes"]]);
  assert.deepEqual(parts("folders", status.folders).map((p) => [p.title, p.note]), [["Data", "/data"]]);
  const [lane] = parts("worker", { lanes: [{ lane: "gpu", workers: 2, alive: 1, running: ["a"], queued: 3, heartbeatAt: null }] });
  assert.equal(lane.status, "error");
  assert.match(lane.detail, /1 of 2 busy, 3 waiting/);
});

// ---------------------------------------------------------------- what waits for what

const task = (id, values) => ({ taskId: id, title: id, lane: "gpu", status: "queued", createdAt: at(Number(id.slice(1))), ...values });

test("in a lane of one each waits for the one before", () => {
  const [gpu] = waits([task("t3"), task("t1", { status: "running" }), task("t2")], [{ lane: "gpu", workers: 1 }]);
  assert.deepEqual(gpu.running.map((t) => t.taskId), ["t1"]);
  assert.deepEqual(gpu.waiting.map((w) => [w.task.taskId, w.why]), [["t2", "Waits for “t1”"], ["t3", "Behind “t2”"]]);
});

test("what was moved forward is next", () => {
  const [gpu] = waits([task("t3", { turn: -1 }), task("t1", { status: "running" }), task("t2")], [{ lane: "gpu", workers: 1 }]);
  assert.deepEqual(gpu.waiting.map((w) => [w.task.taskId, w.why]), [["t3", "Waits for “t1”"], ["t2", "Behind “t3”"]]);
});

test("in a wider lane the free places come first", () => {
  const active = [task("t1", { status: "running", lane: "net" }), ...["t2", "t3", "t4"].map((id) => task(id, { lane: "net" }))];
  const [net] = waits(active, [{ lane: "net", workers: 2 }]);
  assert.deepEqual(net.waiting.map((w) => w.why), ["Starts now", "Next, as soon as one of 2 is done", "1 task ahead, then as soon as one of 2 is done"]);
});

test("a task that has others under way waits for them, and a lane nobody serves says so", () => {
  const lanes = [{ lane: "runs", workers: 4 }, { lane: "gpu", workers: 1 }];
  const found = waits([task("t1", { status: "running", lane: "runs" }), task("t2", { parentId: "t1" }), task("t3", { lane: "odd" })], lanes);
  assert.deepEqual(found.map((l) => l.lane), ["runs", "gpu", "odd"]);
  assert.deepEqual(found[0].running[0].waitsFor, ["t2"]);
  assert.match(found[2].waiting[0].why, /No worker/);
});

// ---------------------------------------------------------------- the log

const entry = (id, values) => ({ id, at: at(0), level: "INFO", logger: "dalla.web", requestId: null, taskId: null, message: `m${id}`, ...values });

test("what is followed comes in front, once, and the list does not grow for ever", () => {
  const ids = (list) => list.map((i) => i.id);
  assert.deepEqual(ids(l.prepended([entry("2"), entry("1")], [entry("3"), entry("2")])), ["3", "2", "1"]);
  assert.deepEqual(ids(l.prepended([entry("2"), entry("1")], [entry("3")], 2)), ["3", "2"]);
  assert.deepEqual(ids(l.appended([entry("2")], [entry("2"), entry("1")])), ["2", "1"]);
});

test("filters come from the address and go to the API", () => {
  assert.deepEqual(l.filtersOf({}), { level: "INFO", q: "", requestId: "", taskId: "" });
  assert.equal(l.filtersOf({ level: "error" }).level, "ERROR");
  assert.equal(l.filtersOf({ level: "LOUD" }).level, "INFO");
  assert.equal(l.queryOf(l.filtersOf({ level: "ERROR" })).level, "ERROR");
  assert.equal(l.queryOf(l.filtersOf({ level: "DEBUG" })).level, null);
  assert.deepEqual(l.queryOf(l.filtersOf({ requestId: "ab", level: "ERROR" })), { level: null, q: "", requestId: "ab", taskId: "" });
});

test("an entry is escaped, marks what was searched for and opens the trace that has it", () => {
  const i = entry("1", { level: "ERROR", message: "a <b> Fox and a fox", trace: "Traceback\n  File x\nValueError: fox", requestId: "r1", taskId: "job_1" });
  const markup = String(l.logLine(i, l.filtersOf({ q: "fox" }), ""));
  assert.match(markup, /a &lt;b&gt; <mark>Fox<\/mark> and a <mark>fox<\/mark>/);
  assert.match(markup, /<details class="ml-trace" open>/);
  assert.match(markup, /data-action="log-request" data-id="r1"/);
  assert.match(markup, /data-action="task" data-id="job_1"/);
  assert.doesNotMatch(String(l.logLine(i, l.filtersOf({}), "")), /<mark>| open>/);
  assert.equal(l.plain(i), `${at(0)} ERROR dalla.web [r1 job_1] a <b> Fox and a fox\nTraceback\n  File x\nValueError: fox`);
});

test("only what went wrong inside the app leads to the log", () => {
  assert.equal(logHref({ requestId: "a b", status: 500 }), "/monitoring.html?requestId=a%20b");
  assert.equal(logHref({ requestId: "ab", status: 422 }), "");
  assert.equal(logHref({ status: 500 }), "");
  assert.equal(logHref(null), "");
});
