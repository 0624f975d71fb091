import assert from "node:assert/strict";
import test from "node:test";
import * as z from "../../static/js/zones.js";

const BERLIN = "Europe/Berlin";

test("a moment is a day and a time of the zone", () => {
  assert.equal(z.inputOf("2026-11-21T23:30:00Z", BERLIN), "2026-11-22T00:30");
  assert.equal(z.inputOf("2026-11-21T23:30:00Z", "UTC"), "2026-11-21T23:30");
  assert.equal(z.timeOf("2026-07-01T00:00:00Z", "Asia/Kolkata"), "05:30");
  assert.equal(z.dayOf("2026-01-01T02:00:00Z", "America/New_York"), "2025-12-31");
});

test("a time of the zone is a moment, both ways, all year", () => {
  for (const zone of [BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"])
    for (let day = "2026-01-01"; day < "2027-01-01"; day = z.addDays(day, 11)) {
      const found = z.toUtc(`${day}T12:34`, zone);
      assert.equal(found.note, "", `${zone} ${day}`);
      assert.equal(z.inputOf(found.iso, zone), `${day}T12:34`);
    }
});

test("the hour a clock jumps over, and the hour it shows twice", () => {
  assert.deepEqual(z.toUtc("2026-03-29T02:30", BERLIN), { iso: "2026-03-29T01:30:00.000Z", note: "gap" }); // shown as 03:30
  assert.deepEqual(z.toUtc("2026-10-25T02:30", BERLIN), { iso: "2026-10-25T00:30:00.000Z", note: "twice" });
  assert.equal(z.toUtc("2026-10-25T04:30", BERLIN).note, "");
});

test("what is no time is refused", () => {
  for (const bad of ["", null, undefined, "2026-02-30T10:00", "2026-11-21", "2026-11-21T25:00", "tomorrow"])
    assert.equal(z.toUtc(bad, BERLIN), null, String(bad));
});

test("zones are told by their distance", () => {
  assert.equal(z.offsetLabel(BERLIN, "2026-11-21T12:00:00Z"), "UTC+1");
  assert.equal(z.offsetLabel(BERLIN, "2026-07-21T12:00:00Z"), "UTC+2");
  assert.equal(z.offsetLabel("Asia/Kolkata", "2026-07-21T12:00:00Z"), "UTC+5:30");
  assert.equal(z.offsetLabel("America/New_York", "2026-11-21T12:00:00Z"), "UTC−5");
  assert.equal(z.offsetLabel("UTC"), "UTC");
  assert.equal(z.isZone("Mars/Olympus"), false);
  assert.equal(z.isZone(BERLIN), true);
});

test("weeks begin on Monday, months show whole weeks", () => {
  assert.equal(z.weekStart("2026-11-22"), "2026-11-16");
  assert.equal(z.weekStart("2026-11-16"), "2026-11-16");
  const weeks = z.monthWeeks("2026-11-21");
  assert.equal(weeks.length, 6);
  assert.equal(weeks[0][0], "2026-10-26");
  assert.equal(weeks.at(-1).at(-1), "2026-12-06");
  assert.equal(z.monthWeeks("2027-02-10").length, 4);
  assert.equal(z.addMonths("2026-01-31", 1), "2026-02-28");
  assert.equal(z.addMonths("2026-01-15", -1), "2025-12-15");
  assert.equal(z.isDay("2026-02-30"), false);
});
