/** The composer's state and its talks with the server. No markup. */
import { api, idempotencyKey, isAbort } from "../../api.js";
import { debounce } from "../../dom.js";
import { draft, prefs } from "../../prefs.js";
import { session } from "../../session.js";
import { browserZone, inputOf, isZone, toUtc } from "../../zones.js";
import * as model from "./model.js";

const CHECK_MS = 600;
export const draftKey = (postId) => `post-composer${postId ? `.${postId}` : ""}`;

export class Composer {
  form = model.blank();
  asked = []; // picture ids it was opened with
  phase = "edit"; // edit | results
  items = new Map(); // pictures by id
  fallbackZone = browserZone(); // of characters without a zone of their own
  gone = new Set(); // ids that are no longer in the gallery
  infos = [];
  infosError = null;
  hosting = null;
  check = null;
  checkError = null;
  checking = false;
  selected = ""; // picture whose alt text and focus are edited
  shown = ""; // platform of the preview
  slide = 0;
  tab = ""; // platform whose own caption is edited
  generated = null; // what the last caption came with
  generating = false;
  before = null; // the words that were there before the generated ones
  problem = null; // why the last try to save was refused
  refused = "draft"; // and what was wanted of it
  restored = false;
  posts = []; // what was made
  etag = null;
  tone = prefs.get("captionTone", "");
  language = prefs.get("captionLanguage", "");
  #abort = null;
  #key = null;
  #checked = "";

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.checkSoon = debounce(() => this.runCheck(), CHECK_MS);
    this.saveSoon = debounce(() => this.keep(), 300);
  }

  // ------------------------------------------------------------ opening

  async open({ postId = "", mediaIds = [], items = [], characterId = "", platform, platforms, scheduledAt, caption, altText, zone } = {}) {
    if (isZone(zone)) this.fallbackZone = zone;
    items.forEach((item) => this.items.set(item.id, item));
    const characters = session.characters().catch(() => []);
    if (postId) {
      const { data, etag } = await api.get(`/api/posts/${encodeURIComponent(postId)}`, { full: true });
      await characters;
      this.etag = etag;
      this.post = data;
      (data.media ?? []).forEach((m) => this.items.set(m.id, { ...m, ...this.items.get(m.id) }));
      this.form = model.fromPost(data, (iso) => inputOf(iso, this.zoneFor(data.characterId)));
      const kept = draft(draftKey(postId)).load();
      if (kept?.form?.revision === data.revision && JSON.stringify(kept.form) !== JSON.stringify(this.form)) {
        this.form = kept.form;
        this.restored = true;
      }
    } else {
      await characters;
      this.asked = mediaIds;
      const first = items[0] ?? this.items.get(mediaIds[0]);
      const someone = characterId || first?.characterId || session.characterId || (session.known.length === 1 ? session.known[0].id : "");
      const kept = draft(draftKey("")).load();
      if (model.fitsDraft(kept, { mediaIds, characterId, caption }) && !model.isEmpty(kept.form)) {
        this.form = { ...model.blank(), ...kept.form, postId: "", revision: null };
        this.asked = kept.asked ?? [];
        this.restored = true;
      } else {
        const used = prefs.get("postPlatforms", ["instagram"]);
        this.form = model.addMedia(
          model.blank({ characterId: someone, platforms: platforms ?? (platform ? [platform] : used), caption: caption ?? "" }),
          mediaIds,
        );
        const [id] = mediaIds;
        const text = altText ?? (first?.id === id ? first?.altText : "");
        if (id && text) this.form = model.withAlt(this.form, id, text);
        if (!this.form.caption && mediaIds.length === 1 && first?.caption) this.form = { ...this.form, caption: first.caption };
      }
    }
    if (scheduledAt) this.form = { ...this.form, at: inputOf(scheduledAt, this.zone) };
    this.initial = JSON.stringify(this.form);
    this.selected = this.form.mediaIds[0] ?? "";
    this.shown = this.form.platforms[0] ?? "";
    await Promise.all([this.loadPlatforms(), this.loadItems()]);
    const owner = this.items.get(this.form.mediaIds[0])?.characterId;
    if (!this.form.characterId && session.find(owner)) {
      const at = toUtc(this.form.at, this.zone);
      this.form = { ...this.form, characterId: owner };
      if (at) this.form = { ...this.form, at: inputOf(at.iso, this.zone) };
      this.initial = JSON.stringify(this.form);
      await this.loadPlatforms();
    }
    this.trimPlatforms();
    this.checkSoon();
  }
  /** Begin again with nothing. */
  startOver() {
    draft(draftKey(this.form.postId)).clear();
    this.restored = false;
    this.form = this.form.postId
      ? model.fromPost(this.post, (iso) => inputOf(iso, this.zone))
      : model.addMedia(model.blank({ characterId: this.form.characterId, platforms: this.form.platforms }), this.asked);
    this.selected = this.form.mediaIds[0] ?? "";
    this.generated = null;
    this.after();
  }

  async loadPlatforms() {
    try {
      const answer = await api.get("/api/platforms", { query: { characterId: this.form.characterId || null } });
      this.infos = answer.platforms ?? [];
      this.hosting = answer.hosting ?? null;
      this.infosError = null;
    } catch (error) {
      this.infosError = error;
    }
    this.changed();
  }
  async loadItems() {
    const missing = this.form.mediaIds.filter((id) => !this.items.has(id) && !this.gone.has(id));
    await Promise.all(
      missing.map(async (id) => {
        try {
          this.items.set(id, await api.get(`/api/media/${encodeURIComponent(id)}`));
        } catch (error) {
          if (error.status === 404) this.gone.add(id);
        }
      }),
    );
    this.changed();
  }
  /** Platforms this app does not know (any more) cannot be chosen. */
  trimPlatforms() {
    if (!this.infos.length) return;
    const known = this.form.platforms.filter((p) => this.info(p));
    if (known.length !== this.form.platforms.length) this.form = { ...this.form, platforms: known.length ? known : [this.infos[0].name] };
  }

  // ------------------------------------------------------------ reading

  info = (name) => this.infos.find((i) => i.name === name);
  account(name) {
    return (this.info(name)?.accounts ?? []).find((a) => a.characterId === this.form.characterId);
  }
  zoneFor(characterId) {
    const own = session.find(characterId)?.timezone;
    return isZone(own) ? own : this.fallbackZone;
  }
  get zone() {
    return this.zoneFor(this.form.characterId);
  }
  get character() {
    return session.find(this.form.characterId) ?? null;
  }
  /** Will nothing leave this machine? @returns {{dry: boolean, reason: string}} */
  rehearsal(name) {
    const told = this.check?.platforms?.[name];
    if (told && told.dryRun !== undefined) return { dry: Boolean(told.dryRun), reason: told.dryRunReason ?? "" };
    const account = this.account(name);
    if (this.form.dryRun) return { dry: true, reason: "You chose a dry run." };
    if (account?.dryRun) return { dry: true, reason: account.dryRunReason ?? "" };
    if (account && model.lacksKeys(account)) return { dry: true, reason: "The account is not connected." };
    return { dry: false, reason: "" };
  }
  /** The chosen time in UTC, as long as it is to come. */
  get plannedAt() {
    const iso = this.form.at ? toUtc(this.form.at, this.zone)?.iso : null;
    return iso && Date.parse(iso) > Date.now() - 60_000 ? iso : null;
  }
  get live() {
    return this.form.platforms.filter((p) => !this.rehearsal(p).dry);
  }
  get errors() {
    return model.errorsOf(this.form, this.check);
  }
  get dirty() {
    return JSON.stringify(this.form) !== this.initial;
  }
  accountName(name) {
    const user = this.account(name)?.username;
    return user ? `@${String(user).replace(/^@/, "")}` : (this.character?.name ?? "the account");
  }

  // ------------------------------------------------------------ changing

  set(form) {
    const before = this.form;
    this.form = form;
    if (before.characterId !== form.characterId) {
      this.check = null;
      this.loadPlatforms();
      const [from, to] = [this.zoneFor(before.characterId), this.zone];
      const at = form.at === before.at && from !== to && toUtc(form.at, from);
      if (at) this.form = { ...this.form, at: inputOf(at.iso, to) }; // the moment stays, the clock is another
    }
    if (!form.mediaIds.includes(this.selected)) this.selected = form.mediaIds[0] ?? "";
    if (!form.platforms.includes(this.shown)) this.shown = form.platforms[0] ?? "";
    if (form.mediaIds !== before.mediaIds) this.loadItems();
    this.after();
  }
  after() {
    this.#key = null;
    this.problem = null;
    this.saveSoon();
    this.checkSoon();
    this.changed();
  }
  keep() {
    if (this.phase !== "edit") return;
    const kept = draft(draftKey(this.form.postId));
    if (this.form.postId ? !this.dirty : model.isEmpty(this.form)) kept.clear();
    else kept.save({ form: this.form, asked: this.asked, at: new Date().toISOString() });
  }

  // ------------------------------------------------------------ the server

  async runCheck({ force = false } = {}) {
    this.checkSoon.cancel();
    const body = model.toBody(this.form);
    const at = this.plannedAt;
    if (at && at !== this.post?.scheduledAt) body.scheduledAt = at;
    if (this.post) body.postId = this.post.id;
    const text = JSON.stringify(body);
    if (!force && text === this.#checked && !this.checkError) return;
    this.#abort?.abort();
    if (model.whatIsMissing(this.form)) {
      this.check = null;
      this.checking = false;
      this.#checked = "";
      this.changed();
      return;
    }
    const abort = (this.#abort = new AbortController());
    this.checking = true;
    this.changed();
    try {
      const answer = await api.post("/api/posts/check", body, { signal: abort.signal });
      this.check = answer;
      this.checkError = null;
      this.#checked = text;
    } catch (error) {
      if (isAbort(error)) return;
      this.checkError = error;
      this.#checked = "";
    }
    if (abort !== this.#abort) return;
    this.checking = false;
    this.changed();
  }

  /** The next time that is free on all chosen accounts, as the zone's input text. */
  async nextFree() {
    const { characterId, platforms } = this.form;
    const answers = await Promise.all(platforms.map((platform) => api.get("/api/posts/next-free", { query: { characterId, platform } })));
    const latest = answers.map((a) => a.scheduledAt).sort((a, b) => Date.parse(a) - Date.parse(b)).at(-1);
    return inputOf(latest, this.zone);
  }

  /** Ask for words. What was there before can be taken back. */
  async generate() {
    const before = this.form;
    this.generating = true;
    this.changed();
    try {
      const answer = await api.post("/api/generate-caption", {
        characterId: before.characterId || undefined,
        mediaId: before.mediaIds[0],
        prompt: this.items.get(before.mediaIds[0])?.prompt || undefined,
        platform: before.platforms.length === 1 ? before.platforms[0] : undefined,
        tone: this.tone || undefined,
        language: this.language || undefined,
        avoid: before.platforms.map((p) => model.captionFor(before, p)).filter((text) => text.trim()),
      });
      const words = (form) => JSON.stringify(form.platforms.map((p) => model.captionFor(form, p)));
      const same = words(model.withGenerated(this.form, answer)) === words(before);
      this.generated = same ? { ...answer, notes: ["These are the same words again. Another tone or language gives others."] } : answer;
      this.generating = false;
      this.set(model.withGenerated(this.form, answer));
      const had = before.platforms.some((p) => model.captionFor(before, p).trim());
      this.before = had ? { linked: before.linked, caption: before.caption, captions: before.captions } : null;
    } finally {
      this.generating = false;
      this.changed();
    }
  }

  /**
   * Save, plan or send. The same intention keeps its key, so a second press after a lost answer posts nothing twice.
   * @param {"draft"|"schedule"|"now"} publish @returns {Promise<any[]>} the posts
   */
  async save(publish) {
    const scheduledAt = publish === "now" ? null : this.plannedAt;
    this.#key ??= { publish, key: idempotencyKey() };
    if (this.#key.publish !== publish) this.#key = { publish, key: idempotencyKey() };
    try {
      if (this.form.postId) this.posts = [await this.#saveEdit(publish, scheduledAt)];
      else {
        const body = model.toBody(this.form, { publish, scheduledAt });
        this.posts = model.postsOf(await api.post("/api/posts", body, { idempotencyKey: this.#key.key }));
        prefs.set("postPlatforms", this.form.platforms);
      }
    } catch (error) {
      this.problem = error;
      this.refused = publish;
      this.changed();
      throw error;
    }
    draft(draftKey(this.form.postId)).clear();
    this.saveSoon.cancel();
    return this.posts;
  }
  async #saveEdit(publish, scheduledAt) {
    const path = `/api/posts/${encodeURIComponent(this.form.postId)}`;
    const { data, etag } = await api.patch(path, { ...model.toPatch(this.form, this.post), ...(publish === "draft" && scheduledAt ? { scheduledAt } : {}) }, { ifMatch: this.etag, full: true });
    this.etag = etag;
    this.form = { ...this.form, revision: data.revision };
    if (publish === "schedule") return api.post(`${path}/schedule`, { scheduledAt });
    if (publish === "now") return api.post(`${path}/publish`, {}, { idempotencyKey: this.#key.key });
    return data;
  }
  /** The call that sends the post as it stands: at its time when it has one, else now. */
  asCall() {
    if (this.form.postId) return { method: "POST", path: `/api/posts/${encodeURIComponent(this.form.postId)}/publish` };
    const scheduledAt = this.plannedAt;
    return { method: "POST", path: "/api/posts", body: model.toBody(this.form, { publish: scheduledAt ? "schedule" : "now", scheduledAt }) };
  }
  /** Somebody else changed the post meanwhile: take theirs as the base, keep what was typed. */
  async rebase() {
    const { data, etag } = await api.get(`/api/posts/${encodeURIComponent(this.form.postId)}`, { full: true });
    this.etag = etag;
    this.post = data;
    this.form = { ...this.form, revision: data.revision };
    this.problem = null;
    this.changed();
  }

  stop() {
    this.checkSoon.cancel();
    this.saveSoon.flush();
    this.#abort?.abort();
  }
}
