/** Picture sizes by shape, made from what a model was trained at. Pure. */

/** The shapes on offer, named by where they are posted. `ratio` is width / height. */
export const SHAPES = [
  { key: "square", ratio: 1, label: "Square", short: "1:1", where: "Feed posts, avatars" },
  { key: "portrait", ratio: 4 / 5, label: "Portrait", short: "4:5", where: "Instagram feed" },
  { key: "story", ratio: 9 / 16, label: "Story", short: "9:16", where: "Stories, Reels" },
  { key: "photo", ratio: 3 / 2, label: "Photo", short: "3:2", where: "Classic photo" },
  { key: "landscape", ratio: 16 / 9, label: "Wide", short: "16:9", where: "X, covers" },
];

/**
 * Width and height near `ratio` with the area of the model's native square, in whole multiples, none above the cap.
 * @param {number} ratio @param {{width: number, sizeMultiple: number, maxSize?: number|null}} defaults
 */
export function sizeFor(ratio, { width: native, sizeMultiple: multiple, maxSize }) {
  const cap = Math.floor((maxSize || 4096) / multiple) * multiple;
  const shrink = Math.min(1, cap / (native * Math.max(Math.sqrt(ratio), 1 / Math.sqrt(ratio))));
  const area = (native * shrink) ** 2;
  let best = null;
  const ideal = Math.sqrt(area * ratio);
  for (let w = Math.max(multiple, Math.floor(ideal / multiple - 1) * multiple); w <= Math.min(cap, ideal + 2 * multiple); w += multiple) {
    for (const h of [Math.floor(w / ratio / multiple) * multiple, Math.ceil(w / ratio / multiple) * multiple]) {
      if (h < multiple || h > cap) continue;
      const off = Math.abs(Math.log(w / h / ratio)) + 0.6 * Math.abs(Math.log((w * h) / area));
      if (!best || off < best.off - 1e-9) best = { off, width: w, height: h };
    }
  }
  return best ? { width: best.width, height: best.height } : { width: native, height: native };
}

/** The shape a size belongs to, "custom" when none. */
export function shapeOf(width, height, defaults) {
  const hit = SHAPES.find((shape) => {
    const s = sizeFor(shape.ratio, defaults);
    return s.width === width && s.height === height;
  });
  return hit ? hit.key : "custom";
}
