/** What the buttons under a picture do. */
import { api, idempotencyKey } from "../../api.js";
import { copyCurl } from "../../curl.js";
import { toast } from "../../notices.js";
import { copyText } from "../../components/states.js";
import { fileUrl } from "../../components/media-grid.js";
import { openComposer } from "../../components/post-composer.js";
import { asCall, toRequest } from "./wish.js";

const path = (item) => `/api/media/${encodeURIComponent(item.id)}`;
const said = (work) =>
  work.catch((error) => {
    toast.error(error);
    return null;
  });

/** The request that made a picture, or for a foreign one what the form says now. */
async function requestOf(s, item) {
  if (!item.hasRecipe) return toRequest(s.form, s.found, s.character);
  return (await api.get(`${path(item)}/recipe`)).request;
}

export const actions = {
  async star(s, item) {
    const starred = !item.starred;
    s.put({ id: item.id, starred });
    try {
      await api.patch(path(item), { starred });
    } catch (error) {
      s.put({ id: item.id, starred: !starred });
      toast.error(error);
    }
  },
  async again(s, item) {
    const answer = await said(api.get(`${path(item)}/recipe`));
    if (!answer) return;
    const { seed: _seed, ...body } = answer.request;
    await s.generate(body);
  },
  "vary-subtle": (s, item) => vary(s, item, 0.35),
  "vary-strong": (s, item) => vary(s, item, 0.65),
  async upscale(s, item, { model, engine } = {}) {
    const answer = await said(api.post(`${path(item)}/upscale`, { factor: 2, model, engine }, { idempotencyKey: idempotencyKey() }));
    if (answer) s.started(answer, { source: item, kind: "upscale_image", title: "Upscale 2×" });
  },
  "as-init"(s, item) {
    s.set({ initMediaId: item.id });
    toast.success("The next picture starts from this one");
  },
  async "recall-all"(s, item) {
    const answer = await said(api.get(`${path(item)}/recipe`));
    if (answer) s.recall(answer.request, { typed: answer.recipe.userPrompt ?? null });
  },
  async "recall-prompt"(s, item) {
    const answer = await said(api.get(`${path(item)}/recipe`));
    if (!answer) return;
    const typed = answer.recipe.userPrompt;
    const before = { prompt: s.form.prompt, negativePrompt: s.form.negativePrompt, rawPrompt: s.form.rawPrompt };
    s.set(
      typed
        ? { prompt: typed, rawPrompt: false }
        : { prompt: answer.recipe.prompt, negativePrompt: answer.recipe.negativePrompt ?? "", rawPrompt: Boolean(s.form.characterId) },
    );
    toast.success("Prompt recalled", { undo: () => s.set(before) });
  },
  "recall-seed"(s, item) {
    if (item.seed === null || item.seed === undefined) {
      toast.info("This picture has no seed.");
      return;
    }
    s.set({ seed: item.seed, seedLocked: true });
    toast.success(`Seed ${item.seed} is kept for the next pictures`);
  },
  async "copy-recipe"(s, item) {
    const answer = await said(api.get(`${path(item)}/recipe`));
    if (answer) await copyText(JSON.stringify(answer.recipe, null, 2), "Recipe copied");
  },
  async "copy-curl"(s, item) {
    const body = await said(requestOf(s, item));
    if (body) await copyCurl(asCall(body));
  },
  async "copy-image"(s, item) {
    try {
      if (!navigator.clipboard?.write) throw new Error();
      await navigator.clipboard.write([new ClipboardItem({ "image/png": asPng(item) })]);
      toast.success("Picture copied");
    } catch {
      toast.error("The browser did not allow copying the picture. Download it instead.");
    }
  },
  async post(s, item, _data, more = {}) {
    openComposer({ mediaIds: [item.id], items: [item], characterId: item.characterId ?? s.form.characterId, ...more });
  },
  schedule: (s, item) => actions.post(s, item, null, { nextFree: true }),
  async avatar(s, item) {
    const id = item.characterId ?? s.form.characterId;
    const owner = s.characters.find((c) => c.id === id);
    const before = owner?.avatarMediaId ?? null;
    const put = (avatarMediaId) => api.patch(`/api/characters/${encodeURIComponent(id)}`, { avatarMediaId });
    if (await said(put(item.id))) toast.success(`${owner?.name ?? "The character"} has a new avatar`, { undo: () => said(put(before)) });
  },
  async trash(s, item) {
    const index = (s.items ?? []).findIndex((i) => i.id === item.id);
    s.drop(item.id);
    const back = () => {
      if (!s.find(item.id)) {
        const list = [...s.items];
        list.splice(Math.max(0, index), 0, item);
        s.items = list;
      }
      s.show(item.id);
    };
    try {
      await api.delete(path(item));
      toast.success("Moved to the trash", {
        undo: async () => {
          if (await said(api.post(`${path(item)}/restore`))) back();
        },
      });
    } catch (error) {
      back();
      toast.error(error);
    }
  },
};

async function vary(s, item, denoise) {
  const made = await said(requestOf(s, item));
  if (!made) return;
  const { seed: _seed, width, height, batchSize: _n, ...body } = made;
  const sized = item.hasRecipe && item.origin === "generated" && width === item.width ? { width, height } : {};
  await s.generate({ ...body, ...sized, batchSize: 1, initImageMediaId: item.id, denoise });
}

/** The clipboard takes PNG only. */
async function asPng(item) {
  const blob = await (await fetch(fileUrl(item))).blob();
  if (blob.type === "image/png") return blob;
  const bitmap = await createImageBitmap(blob);
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
