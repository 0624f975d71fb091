// The studio's pure parts: sizes, and the way from the form to a request and back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, shapeOf, sizeFor } from "../../static/js/pages/studio/sizes.js";
import {
  compose,
  asCall,
  expect,
  fresh,
  fromRequest,
  learnSpeed,
  modelKey,
  resolve,
  sameLora,
  toRequest,
  tune,
  values,
} from "../../static/js/pages/studio/wish.js";

const defaults = (more = {}) => ({
  width: 1024,
  height: 1024,
  sizeMultiple: 8,
  maxSize: null,
  steps: 28,
  cfgScale: 6,
  guidance: null,
  sampler: "dpmpp_2m",
  scheduler: "karras",
  negativePrompt: true,
  negativePromptReason: null,
  ...more,
});
const model = (name, engine, family, more = {}) => ({
  name,
  label: name,
  engine,
  family,
  kind: "checkpoint",
  default: false,
  defaults: family ? defaults(more) : null,
});
const catalog = {
  engines: [
    { name: "comfyui", label: "ComfyUI", available: true },
    { name: "builtin", label: "Built-in", available: true },
  ],
  models: [
    model("xl.safetensors", "comfyui", "sdxl"),
    { ...model("dir/flux.safetensors", "comfyui", "flux", { cfgScale: null, guidance: 3.5, negativePrompt: false }), default: true },
    model("odd.safetensors", "comfyui", null),
    model("starter", "builtin", "sd15", { width: 128, height: 128, sizeMultiple: 16, maxSize: 256 }),
  ],
  loras: [],
};
const off = { ...catalog, engines: [{ ...catalog.engines[0], available: false }, catalog.engines[1]] };

test("sizes keep the area, the multiple and the cap", () => {
  for (const d of [
    defaults(),
    defaults({ width: 512 }),
    defaults({ width: 128, sizeMultiple: 16, maxSize: 256 }),
    defaults({ sizeMultiple: 16 }),
  ]) {
    for (const { ratio, key } of SHAPES) {
      const { width, height } = sizeFor(ratio, d);
      assert.equal(width % d.sizeMultiple, 0, key);
      assert.equal(height % d.sizeMultiple, 0, key);
      assert.ok(Math.max(width, height) <= (d.maxSize ?? 4096), key);
      const coarse = d.width < 200 ? 0.2 : 0.05;
      assert.ok(Math.abs((width * height) / d.width ** 2 - 1) < coarse, `${key} area ${width}x${height}`);
      assert.ok(Math.abs(width / height / ratio - 1) < coarse, `${key} ratio ${width}x${height}`);
    }
  }
});

test("a native size above the cap shrinks to it", () => {
  const { width, height } = sizeFor(16 / 9, defaults({ width: 1024, maxSize: 1024 }));
  assert.ok(width <= 1024 && height < width);
});

test("a size is recognised as its shape", () => {
  const d = defaults();
  for (const { ratio, key } of SHAPES) {
    const s = sizeFor(ratio, d);
    assert.equal(shapeOf(s.width, s.height, d), key);
  }
  assert.equal(shapeOf(1000, 1000, d), "custom");
});

test("the model is the chosen one, else the character's, else the default; nothing replaces a missing one", () => {
  assert.equal(resolve(catalog, fresh(), null).model.name, "dir/flux.safetensors");
  assert.equal(resolve(catalog, { ...fresh(), engine: "builtin" }, null).model.name, "starter");
  assert.equal(resolve(catalog, { ...fresh(), model: "dir\\flux.safetensors" }, null).model.name, "dir/flux.safetensors");
  const theo = { preferredModel: "xl.safetensors" };
  assert.equal(resolve(catalog, fresh(), theo).model.name, "xl.safetensors");
  const lost = resolve(off, fresh(), theo);
  assert.equal(lost.model, null);
  assert.equal(lost.missing, "xl.safetensors");
  assert.equal(lost.standard.name, "starter");
  assert.equal(resolve(catalog, { ...fresh(), model: "odd.safetensors" }, null).model, null);
});

test("a request says only what was chosen", () => {
  const form = { ...fresh(), prompt: " hello ", engine: "builtin" };
  assert.deepEqual(toRequest(form, resolve(catalog, form, null), null), {
    prompt: "hello",
    engine: "builtin",
    model: "starter",
    width: 128,
    height: 128,
    batchSize: 1,
  });
});

test("a negative prompt is not sent to a family that takes none", () => {
  const form = { ...fresh(), prompt: "x", negativePrompt: "y" };
  assert.equal("negativePrompt" in toRequest(form, resolve(catalog, form, null), null), false);
});

test("tuned values belong to one model and forget its defaults", () => {
  let form = { ...fresh(), model: "xl.safetensors" };
  const found = resolve(catalog, form, null);
  form = tune(form, found.model, { steps: 12, shape: "story" });
  assert.deepEqual(form.tuned, { [modelKey(found.model)]: { steps: 12, shape: "story" } });
  assert.equal(values(form, found.model, null).steps, 12);
  assert.equal(values(form, catalog.models[1], null).steps, 28);
  assert.deepEqual(tune(form, found.model, { steps: 28, shape: "square" }).tuned, {});
  const custom = tune(form, found.model, { shape: "custom", width: 640, height: 480 });
  assert.equal(toRequest(custom, found, null).width, 640);
  assert.equal(tune(custom, found.model, { shape: "story" }).tuned[modelKey(found.model)].width, undefined);
});

test("a recalled request asks for the same again", () => {
  const request = {
    characterId: "char_1",
    rawPrompt: true,
    prompt: "a, b",
    negativePrompt: "c",
    model: "xl.safetensors",
    loras: [{ name: "l", strength: 0.7 }],
    width: 832,
    height: 1000,
    steps: 30,
    cfgScale: 5,
    sampler: "euler",
    scheduler: "normal",
    seed: 0,
    batchSize: 4,
    initImageMediaId: "media_1",
    denoise: 0.4,
  };
  const { form, missing } = fromRequest(request, { ...fresh(), characterId: "char_9", loras: null }, catalog);
  assert.equal(missing, "");
  const again = toRequest(form, resolve(catalog, form, null), null);
  assert.deepEqual(again, { ...request, engine: "comfyui" });
});

test("a recalled model that is not there is named", () => {
  assert.equal(fromRequest({ prompt: "p", model: "gone" }, fresh(), catalog).missing, "gone");
});

test("a character's LoRAs count until the form has its own, and not for a complete prompt", () => {
  const luna = { loras: [{ name: "l", strength: 1 }] };
  assert.equal(values(fresh(), catalog.models[0], luna).lorasInherited, true);
  assert.deepEqual(values({ ...fresh(), loras: [] }, catalog.models[0], luna).loras, []);
  assert.deepEqual(values({ ...fresh(), rawPrompt: true }, catalog.models[0], luna).loras, []);
});

test("composing again goes back to what was typed", () => {
  const back = compose(
    { ...fresh(), rawPrompt: true, prompt: "lp, girl, smile", typed: "smile", negativePrompt: "blurry, text, hat" },
    { promptSettings: { negativePrompt: "blurry, text" } },
  );
  assert.deepEqual(back, { rawPrompt: false, typed: null, loras: null, prompt: "smile", negativePrompt: "hat" });
});

test("the call for a form asks not to wait", () => {
  assert.deepEqual(asCall({ prompt: "x" }), { method: "POST", path: "/api/generate-image", query: { async: 1 }, body: { prompt: "x" } });
});

test("speed is learned per model and scales with the work", () => {
  const known = learnSpeed({}, { model: "m", steps: 10, batchSize: 1, width: 1000, height: 1000, durationMs: 10_000 });
  assert.equal(expect(known, { model: "m", steps: 20, batchSize: 2, width: 1000, height: 1000 }), 40);
  assert.equal(expect(known, { model: "other", steps: 20, batchSize: 1, width: 10, height: 10 }), null);
  assert.equal(learnSpeed(known, { model: "m", steps: 10, width: 10, height: 10, durationMs: 0 }), known);
});

test("a LoRA is the same with and without its ending, in whatever case and with either separator", () => {
  assert.ok(sameLora("luna", "luna.safetensors"));
  assert.ok(sameLora("sub\\Luna.safetensors", "sub/luna"));
  assert.ok(!sameLora("luna", "luna-2"));
  assert.ok(!sameLora("sub/luna", "luna"));
});
