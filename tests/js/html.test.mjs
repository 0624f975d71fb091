import test from "node:test";
import assert from "node:assert/strict";
import { attrs, html, icon, raw } from "../../static/js/html.js";

test("values are escaped, in text and in attributes", () => {
  const evil = `<img src=x onerror="alert(1)">&'`;
  assert.equal(
    String(html`<p title="${evil}">${evil}</p>`),
    `<p title="&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#39;">&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#39;</p>`,
  );
});
test("markup made by html is not escaped twice, and arrays are joined", () => {
  assert.equal(String(html`<ul>${["<a>", "b"].map((x) => html`<li>${x}</li>`)}</ul>`), "<ul><li>&lt;a&gt;</li><li>b</li></ul>");
});
test("a string that only looks like markup in an array is escaped", () => assert.equal(String(html`${["<b>"]}`), "&lt;b&gt;"));
test("null, undefined and booleans print nothing, zero prints", () =>
  assert.equal(String(html`${null}${undefined}${false}${true}${0}`), "0"));
test("an object with its own toString is escaped", () => assert.equal(String(html`${{ toString: () => "<x>" }}`), "&lt;x&gt;"));
test("attrs: booleans, missing values, escaping", () =>
  assert.equal(
    String(attrs({ disabled: true, hidden: false, title: 'a"b', id: null, "aria-label": 0 })),
    'disabled title="a&quot;b" aria-label="0"',
  ));
test("attrs refuses handlers, style and broken names", () => {
  for (const name of ["onclick", "style", "a b", "x>"]) assert.throws(() => attrs({ [name]: "x" }), TypeError);
});
test("an icon is hidden from screen readers unless it has a label", () => {
  assert.match(String(icon("home")), /aria-hidden="true"/);
  assert.match(String(icon("home", "Start <now>")), /aria-label="Start &lt;now&gt;"/);
});
test("raw is passed through", () => assert.equal(String(html`${raw("<hr>")}`), "<hr>"));
