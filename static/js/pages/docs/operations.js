/** What the API page shows, read out of the OpenAPI document. Pure. */

const METHODS = ["get", "post", "put", "patch", "delete"];

/** The schema behind a `$ref`, unions without their null. */
export function resolve(doc, schema) {
  let s = schema ?? {};
  for (let n = 0; s.$ref && n < 10; n += 1)
    s =
      s.$ref
        .replace(/^#\//, "")
        .split("/")
        .reduce((at, key) => at?.[key], doc) ?? {};
  const union = s.anyOf ?? s.oneOf ?? (s.allOf?.length === 1 ? s.allOf : null);
  if (union) {
    const real = union.filter((one) => one.type !== "null");
    if (real.length === 1)
      return {
        ...resolve(doc, real[0]),
        ...Object.fromEntries(Object.entries(s).filter(([k]) => !["anyOf", "oneOf", "allOf"].includes(k))),
      };
  }
  return s;
}

/** "array of string", "integer, 1 to 500", "newest | oldest". */
export function typeName(doc, schema) {
  const s = resolve(doc, schema);
  const named = schema?.$ref?.split("/").pop();
  if (named && s.properties && !/(Body|Patch|Form|Record)$/.test(named)) return named;
  if (s.enum) return s.enum.map((v) => JSON.stringify(v)).join(" | ");
  const union = (s.anyOf ?? s.oneOf)?.filter((one) => one.type !== "null");
  if (union) return union.map((one) => typeName(doc, one)).join(" or ");
  if (s.type === "array") return `array of ${typeName(doc, s.items)}`;
  if (s.format === "binary") return "file";
  const low = s.minimum ?? s.exclusiveMinimum,
    high = s.maximum ?? s.exclusiveMaximum;
  const range =
    low !== undefined && high !== undefined
      ? `, ${low} to ${high}`
      : low !== undefined
        ? `, from ${low}`
        : high !== undefined
          ? `, up to ${high}`
          : "";
  return `${s.type ?? (s.properties ? "object" : "any")}${range}`;
}

/** Every operation, flat: the groups in the order of the document's tags, in each by address. */
export function operations(doc) {
  const tags = (doc.tags ?? []).map((t) => t.name);
  const found = Object.entries(doc.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((m) => item[m]).map((method) => {
      const op = item[method],
        content = resolve(doc, op.requestBody)?.content ?? {};
      const [type, media] = Object.entries(content).find(([, one]) => one.example !== undefined) ?? Object.entries(content)[0] ?? [];
      return {
        id: `${method}-${path.replace(/[^\w]+/g, "-").replace(/^-|-$/g, "")}`,
        method,
        path,
        tag: op.tags?.[0] ?? "Other",
        summary: op.summary ?? "",
        description: op.description ?? "",
        parameters: [...(item.parameters ?? []), ...(op.parameters ?? [])].map((p) => resolve(doc, p)),
        bodyType: type,
        body: media?.schema,
        example: media?.example,
        bodyTypes: Object.keys(content),
        right: op["x-right"] ?? "",
        responses: Object.entries(op.responses ?? {}),
      };
    }),
  );
  return found.sort((a, b) => tags.indexOf(a.tag) - tags.indexOf(b.tag));
}

/** The example of an operation as a call: see curl.js. @returns {import("../curl.js").Call} */
export function asCall(op) {
  const query = Object.fromEntries(op.parameters.filter((p) => p.in === "query" && p.example !== undefined).map((p) => [p.name, p.example]));
  const path = op.path.replace(/{(\w+)}/g, (_all, name) =>
    String(op.parameters.find((p) => p.in === "path" && p.name === name)?.example ?? name.toUpperCase())
      .split("/")
      .map(encodeURIComponent)
      .join("/"),
  );
  const call = { method: op.method.toUpperCase(), path, query };
  if (/octet-stream|^image\//.test(op.bodyType ?? "")) return { ...call, file: "file.bin" };
  if (op.example === undefined) return call;
  return /multipart/.test(op.bodyType) ? { ...call, form: op.example } : { ...call, body: op.example };
}
