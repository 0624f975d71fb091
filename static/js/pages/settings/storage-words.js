// @ts-check
/** Storage in words and bars. Pure. */

/**
 * The places as bars, the data folder first, what lies in it under it, largest first.
 * @param {any[]} locations @returns {{location: any, share: number, inside: boolean, empty: boolean}[]} `empty`: nothing in it, so nothing to say but its name
 */
export function bars(locations) {
  const data = locations.find((l) => l.id === "data");
  const isInside = (/** @type {any} */ l) => Boolean(data) && l.within === "data";
  const size = (/** @type {any} */ l) => l.sizeBytes ?? 0;
  const top = Math.max(1, ...locations.map(size));
  const bySize = (/** @type {any} */ a, /** @type {any} */ b) => size(b) - size(a);
  const outside = locations.filter((l) => l.id !== "data" && !isInside(l)).sort(bySize);
  const inside = locations.filter(isInside).sort(bySize);
  const row = (/** @type {any} */ l) => ({ location: l, share: size(l) / top, inside: isInside(l), empty: isInside(l) && l.sizeBytes === 0 });
  return [...(data ? [row(data)] : []), ...inside.map(row), ...outside.map(row)];
}

/** A path as it lies in the data folder. @param {string} path @param {string} base */
export const shortPath = (path, base) => (base && path.startsWith(`${base}/`) ? path.slice(base.length + 1) : path);

/** How long the room lasts. @param {{bytesPerDay: number|null, daysLeft: number|null, basis?: string}|null|undefined} forecast @param {(n: number) => string} bytes */
export function forecastWords(forecast, bytes) {
  if (!forecast || forecast.bytesPerDay === null || forecast.bytesPerDay === undefined) return "How long the room lasts is told after a few days of use.";
  const rate = `${bytes(forecast.bytesPerDay)} a day${forecast.basis ? ` (last ${forecast.basis})` : ""}`;
  if (forecast.bytesPerDay <= 0) return "Nothing was added lately, so the room lasts.";
  if (forecast.daysLeft === null || forecast.daysLeft === undefined) return `Growing by ${rate}.`;
  return `Growing by ${rate}: ${lasts(forecast.daysLeft)}.`;
}

const lasts = (/** @type {number} */ days) => {
  if (days < 1) return "full today";
  if (days < 60) return `full in about ${Math.round(days)} ${Math.round(days) === 1 ? "day" : "days"}`;
  if (days < 730) return `full in about ${Math.round(days / 30)} months`;
  return `full in about ${Math.round(days / 365).toLocaleString("en")} years`;
};
