/** Editing in place: Enter or leaving the field saves, Shift+Enter is a new line, Esc takes the change back. */
import { api } from "../../api.js";
import { toast } from "../../notices.js";

const AREA = "textarea[data-edit]";
export const mark = (area) => area.classList.toggle("is-dirty", area.value !== area.defaultValue);

/**
 * @param {HTMLElement} box holds the text areas (data-edit = the field, data-id = the prompt)
 * @param {{find: (id: string) => any, take: (prompt: any) => void, refuse: (id: string, field: string, message?: string) => void, paint: () => void}} page
 * @returns {{settled: () => Promise<any>}} `settled` waits for what is being saved
 */
export function editInPlace(box, page) {
  const saving = new Map(); // id of the text area -> promise

  function save(area) {
    const { edit, id } = area.dataset;
    if (!page.find(id) || area.value === area.defaultValue || saving.has(area.id)) return;
    const value = area.value.trim();
    const work = async () => {
      let saved = false;
      try {
        const answer = await api.put(`/api/prompts/${encodeURIComponent(id)}`, { [edit]: value || (edit === "caption" ? null : "") });
        page.refuse(id, edit);
        page.take(answer);
        area.defaultValue = answer[edit] ?? "";
        if (area.value.trim() === value) area.value = area.defaultValue;
        saved = true;
      } catch (problem) {
        page.refuse(id, edit, problem.errors?.[0]?.message ?? problem.message);
        if (problem.status === 404) toast.error(problem);
      }
      saving.delete(area.id);
      page.paint();
      mark(area);
      if (!saved) return;
      area.classList.add("is-saved");
      setTimeout(() => area.classList.remove("is-saved"), 1600);
      if (document.activeElement !== area) save(area); // typed on while it was being saved
    };
    saving.set(area.id, work());
  }

  box.addEventListener("input", (event) => {
    if (event.target.matches(AREA)) mark(event.target);
  });
  box.addEventListener("focusout", (event) => {
    if (event.target.matches(AREA)) save(event.target);
  });
  box.addEventListener("keydown", (event) => {
    const area = event.target;
    if (!area.matches(AREA) || event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      save(area);
    }
    if (event.key === "Escape" && area.value !== area.defaultValue) {
      event.preventDefault();
      event.stopPropagation();
      area.value = area.defaultValue;
      page.refuse(area.dataset.id, area.dataset.edit);
      page.paint();
    }
  });
  addEventListener("beforeunload", (event) => {
    if (box.querySelector(`${AREA}.is-dirty`)) event.preventDefault();
  });
  return { settled: () => Promise.all(saving.values()) };
}
