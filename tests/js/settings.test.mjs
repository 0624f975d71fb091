import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { SECTIONS } from "../../static/js/pages/settings/layout.js";
import { addressAfterRestart, collisions, differs, isSaved, origin, panelsOf, read, said, search, sectionOf, shown, span } from "../../static/js/pages/settings/model.js";
import { bars, forecastWords, shortPath } from "../../static/js/pages/settings/storage-words.js";
import { comparison, contents } from "../../static/js/pages/settings/backup-words.js";

const setting = (more) => ({
  name: "trashDays", env: "DALLA_TRASH_DAYS", kind: "int", choices: null, group: "storage", label: "Keep the trash for", help: "Days until it goes.",
  unit: "days", min: 1, max: 3650, secret: false, value: 30, set: true, default: 30, source: "default", locked: false, needsRestart: false, pending: false, problem: null, ...more,
}); // prettier-ignore
const map = (...rows) => new Map(rows.map((s) => [s.name, s]));

test("every setting of the server has its place, and each only one", () => {
  const source = readFileSync(new URL("../../dalla/settings.py", import.meta.url), "utf8");
  const names = [...source.matchAll(/Row\(\s*"([a-z0-9_]+)"/g)].map((m) => m[1].replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase()));
  assert.ok(names.length > 50);
  const placed = SECTIONS.flatMap((s) => (s.panels ?? []).flatMap((p) => p.names));
  assert.deepEqual([...placed].sort(), [...new Set(placed)].sort());
  for (const name of placed) assert.ok(names.includes(name), `${name} is no setting`);
});

test("a setting nobody placed still shows, in the section of its group", () => {
  const settings = map(setting(), setting({ name: "newThing", group: "security" }), setting({ name: "odd", group: "nowhere" }));
  assert.equal(sectionOf("newThing", settings), "security");
  assert.deepEqual(panelsOf("security", settings).at(-1).names, ["newThing"]);
  assert.deepEqual(panelsOf("general", settings).at(-1).names, ["odd"]);
  assert.equal(sectionOf("absent", settings), "");
});

test("what a field means, and what is wrong with it", () => {
  assert.deepEqual(read(setting(), { text: " 14 " }), { value: 14 });
  assert.match(read(setting(), { text: "" }).problem, /number/);
  assert.match(read(setting(), { text: "1.5" }).problem, /whole/);
  assert.match(read(setting(), { text: "0" }).problem, /between 1 and 3,650 days/);
  assert.deepEqual(read(setting({ kind: "float" }), { text: "1,5" }), { value: 1.5 });
  assert.deepEqual(read(setting(), { cleared: true, text: "30" }), { value: null });
  assert.deepEqual(read(setting({ kind: "bool" }), { checked: true }), { value: true });
  const json = setting({ kind: "json", value: {} });
  assert.deepEqual(read(json, { text: "" }), { value: {} });
  assert.deepEqual(read(json, { text: '{"a": 1}' }), { value: { a: 1 } });
  assert.match(read(json, { text: "[1]" }).problem, /JSON object/);
  assert.match(read(json, { text: "{" }).problem, /not valid JSON/);
  const key = setting({ kind: "str", secret: true, value: "••••6f2a" });
  assert.deepEqual(read(key, { text: "" }), { unchanged: true });
  assert.deepEqual(read(key, { text: "env:KEY" }), { value: "env:KEY" });
  assert.deepEqual(read({ ...key, kind: "json" }, { text: "env:HEADERS" }), { value: "env:HEADERS" });
});

test("only what differs from the saved value is a change", () => {
  assert.equal(differs(setting(), { value: 30 }), false);
  assert.equal(differs(setting(), { value: 7 }), true);
  assert.equal(differs(setting({ pending: true, pendingValue: 7 }), { value: 7 }), false);
  assert.equal(differs(setting({ kind: "json", value: { a: 1, b: 2 } }), { value: { b: 2, a: 1 } }), false);
  assert.equal(differs(setting({ secret: true, value: "••••" }), { unchanged: true }), false);
  assert.equal(differs(setting({ secret: true, value: "••••", source: "file" }), { value: null }), true);
});

test("sources in words", () => {
  assert.equal(origin(setting()).label, "");
  assert.deepEqual(origin(setting({ source: "env", locked: true })).label, "DALLA_TRASH_DAYS");
  assert.match(origin(setting({ source: "dotenv", locked: true })).label, /\.env/);
  assert.equal(origin(setting({ source: "flag", locked: true })).locked, true);
  assert.equal(origin(setting({ source: "file" })).label, "Changed");
  assert.equal(isSaved(setting({ source: "env", locked: true })), false);
  assert.equal(isSaved(setting({ pending: true, pendingValue: 4 })), true);
});

test("values in words", () => {
  assert.equal(said(setting(), 7), "7 days");
  assert.equal(said(setting({ kind: "bool", unit: null }), false), "Off");
  assert.equal(said(setting({ kind: "choice", name: "auth", choices: ["auto"] }), "auto"), "Automatic");
  assert.equal(said(setting({ secret: true }), null), "not set");
  assert.equal(said(setting({ kind: "str", unit: null }), ""), "empty");
  assert.equal(shown(setting({ pending: true, pendingValue: 0 })), 0);
  assert.equal(span(180, "minutes"), "3 hours");
  assert.equal(span(1440, "minutes"), "1 day");
  assert.equal(span(90, "minutes"), "1.5 hours");
  assert.equal(span(7, "minutes"), "");
  assert.equal(span("", "minutes"), "");
});

test("two people changing different settings do not collide", () => {
  const before = map(setting(), setting({ name: "sessionDays" }));
  const now = map(setting({ value: 7 }), setting({ name: "sessionDays" }));
  assert.deepEqual(collisions(before, now, { sessionDays: 5 }), []);
  assert.deepEqual(collisions(before, now, { trashDays: 5 }), ["trashDays"]);
  assert.deepEqual(collisions(before, now, { trashDays: 7 }), []);
});

test("the search finds by name, variable, help, choice and section, best first", () => {
  const settings = map(setting(), setting({ name: "comfyuiUrl", env: "COMFYUI_URL", label: "Address of ComfyUI", help: "A path prefix is allowed.", kind: "url" }));
  assert.equal(search("trash keep", settings)[0].name, "trashDays");
  assert.equal(search("COMFYUI_URL", settings)[0].name, "comfyuiUrl");
  assert.equal(search("prefix", settings)[0].section, "engines");
  assert.equal(search("restore", settings)[0].section, "backup");
  assert.equal(search("theme", settings)[0].name, "theme");
  assert.deepEqual(search("xyzzy", settings), []);
  assert.deepEqual(search("  ", settings), []);
});

test("where the app answers after a restart", () => {
  const here = { protocol: "http:", hostname: "127.0.0.1", port: "5050", origin: "http://127.0.0.1:5050" };
  const port = (more) => setting({ name: "port", value: 5050, ...more });
  assert.equal(addressAfterRestart(map(port()), here), here.origin);
  assert.equal(addressAfterRestart(map(port({ pending: true, pendingValue: 6000 })), here), "http://127.0.0.1:6000");
  const host = setting({ name: "host", kind: "str", value: "127.0.0.1", pending: true, pendingValue: "0.0.0.0" });
  assert.equal(addressAfterRestart(map(port(), host), here), "http://127.0.0.1:5050");
  assert.equal(addressAfterRestart(map(port(), { ...host, pendingValue: "::1" }), here), "http://[::1]:5050");
});

test("places as bars: what lies in the data folder stands below it, largest first", () => {
  const place = (id, sizeBytes, within = null) => ({ id, label: id, path: `/data/${id}`, sizeBytes, within });
  const rows = bars([place("data", 100), place("logs", 0, "data"), place("media", 80, "data"), place("db", 90, "data"), place("models", 200)]);
  assert.deepEqual(rows.map((r) => r.location.id), ["data", "db", "media", "logs", "models"]);
  assert.deepEqual([rows[0].share, rows[4].share, rows[1].inside, rows[3].empty], [0.5, 1, true, true]);
  assert.equal(bars([place("data", null)])[0].share, 0);
  assert.equal(shortPath("/data/media", "/data"), "media");
  assert.equal(shortPath("/database/media", "/data"), "/database/media");
});

test("how long the room lasts", () => {
  const bytes = (n) => `${n} B`;
  assert.match(forecastWords(null, bytes), /after a few days/);
  assert.match(forecastWords({ bytesPerDay: 0, daysLeft: null }, bytes), /lasts/);
  assert.match(forecastWords({ bytesPerDay: 10, daysLeft: 0.5 }, bytes), /full today/);
  assert.match(forecastWords({ bytesPerDay: 10, daysLeft: 45, basis: "14 days" }, bytes), /10 B a day \(last 14 days\): full in about 45 days/);
  assert.match(forecastWords({ bytesPerDay: 10, daysLeft: 4000 }, bytes), /11 years/);
});

test("backups in words", () => {
  assert.deepEqual(contents({ readable: false, media: true }), []);
  assert.deepEqual(contents({ media: true, encryptedKeys: true, verified: true }).map(([l]) => l), ["Records", "Pictures", "Keys", "Read back after writing"]);
  assert.deepEqual(comparison({ media: { now: 5, backup: 3 }, odd: { now: 1, backup: 1 }, none: { now: 0, backup: 0 } }, (k) => k.toUpperCase()), [
    { label: "Pictures", now: 5, backup: 3, less: true },
    { label: "ODD", now: 1, backup: 1, less: false },
  ]);
});
