/** Which rows of the library to ask for next. */
export const PAGE = 50;

/**
 * The next piece of a list that the server keeps oldest first. Pure.
 * @param {"newest"|"oldest"} sort @param {number} total @param {number} have rows loaded already
 * @returns {{offset: number, limit: number}} limit 0: everything is loaded
 */
export function piece(sort, total, have, size = PAGE) {
  const left = Math.max(0, total - have);
  const limit = Math.min(size, left);
  return { offset: sort === "oldest" ? have : left - limit, limit };
}
