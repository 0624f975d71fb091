/** Making, renaming and forgetting collections. */
import { api } from "../../api.js";
import { html } from "../../html.js";
import { showErrors } from "../../forms.js";
import { busy } from "../../dom.js";
import { plural } from "../../format.js";
import { toast } from "../../notices.js";
import { confirmDialog, openDialog } from "../../components/confirm-dialog.js";
import { fieldRow } from "../../components/field-row.js";

/**
 * Ask for a name until the server takes it. @returns {Promise<any|null>} the saved collection, null when given up
 * @param {{id?: string, name?: string, hint?: string}} [collection]
 */
export async function editCollection({ id, name = "", hint } = {}) {
  let saved = null;
  const { closed } = openDialog({
    title: id ? "Rename collection" : "New collection",
    size: "s",
    body: html`<form id="gl-coll-form" novalidate>${fieldRow({ name: "name", label: "Name", value: name, maxlength: 200, required: true, autofocus: true, placeholder: "Portfolio", hint })}</form>`,
    footer: html`<button type="button" class="btn" data-close="">Cancel</button><button type="submit" form="gl-coll-form" class="btn btn-primary" data-primary>${id ? "Rename" : "Create"}</button>`,
    onOpen(dialog) {
      const form = dialog.querySelector("form");
      form.elements.name.select();
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        busy(dialog.querySelector("[data-primary]"), async () => {
          const body = { name: form.elements.name.value.trim() };
          if (!body.name) {
            showErrors(form, [{ field: "name", message: "Give it a name." }]);
            return;
          }
          try {
            saved = id ? await api.patch(`/api/collections/${encodeURIComponent(id)}`, body) : await api.post("/api/collections", body);
            dialog.close("saved");
          } catch (error) {
            if (error.errors?.length || error.status === 409)
              showErrors(form, error.errors?.length ? error.errors : [{ field: "name", message: error.message }]);
            else toast.error(error);
          }
        });
      });
    },
  });
  await closed;
  return saved;
}

/** @returns {Promise<boolean>} whether it is gone */
export async function forgetCollection(collection) {
  const yes = await confirmDialog({
    title: `Delete the collection “${collection.name}”?`,
    confirmLabel: "Delete collection",
    consequences: [
      collection.count
        ? `Its ${plural(collection.count, "picture")} ${collection.count === 1 ? "stays" : "stay"} in the gallery.`
        : "It is empty.",
      "Which pictures were in it is forgotten.",
    ],
  });
  if (!yes) return false;
  try {
    await api.delete(`/api/collections/${encodeURIComponent(collection.id)}`);
    return true;
  } catch (error) {
    toast.error(error);
    return false;
  }
}
