/** A ZIP file from files that are compressed already (PNG, WebP, MP4): stored, not deflated. Pure, up to 4 GB and 65,535 files. */

const TABLE = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {Uint8Array} bytes */
export function crc32(bytes) {
  let c = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) c = TABLE[(c ^ bytes[i]) & 0xff] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** @param {number[][]} fields [value, bytes] little-endian */
function record(fields) {
  const out = new Uint8Array(fields.reduce((n, [, size]) => n + size, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [value, size] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return out;
}

const dosTime = (d) => [
  (d.getHours() << 11) | (d.getMinutes() << 5) | (d.getSeconds() >> 1),
  (Math.max(0, d.getFullYear() - 1980) << 9) | ((d.getMonth() + 1) << 5) | d.getDate(),
];

/**
 * @param {{name: string, data: Uint8Array, date?: Date}[]} files names must differ
 * @returns {Uint8Array[]} parts, for `new Blob(parts)`
 */
export function zipParts(files) {
  const parts = [],
    directory = [];
  let offset = 0;
  for (const { name, data, date = new Date() } of files) {
    const title = new TextEncoder().encode(name),
      sum = crc32(data),
      [time, day] = dosTime(date);
    const shared = [
      [20, 2],
      [0x0800, 2],
      [0, 2],
      [time, 2],
      [day, 2],
      [sum, 4],
      [data.length, 4],
      [data.length, 4],
      [title.length, 2],
      [0, 2],
    ]; // 0x0800: names are UTF-8
    const head = record([[0x04034b50, 4], ...shared]);
    parts.push(head, title, data);
    directory.push(record([[0x02014b50, 4], [20, 2], ...shared, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]), title);
    offset += head.length + title.length + data.length;
  }
  const size = directory.reduce((n, p) => n + p.length, 0);
  return [
    ...parts,
    ...directory,
    record([
      [0x06054b50, 4],
      [0, 2],
      [0, 2],
      [files.length, 2],
      [files.length, 2],
      [size, 4],
      [offset, 4],
      [0, 2],
    ]),
  ];
}
