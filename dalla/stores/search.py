"""Finding words in prompts: the one place that differs between databases.

A word is found wherever its letters stand, in any case: "fores" finds "Enchanted Forest". SQLite
answers from a trigram index (`media_words`); without FTS5, and on other databases, the prompts
themselves are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    TextualSelect,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    not_,
    text,
)

from dalla.stores.schema import media

_TRIGRAM = 3  # shorter words are in no trigram; they are looked for in the stored text


class Search:
    """Keeps the index in step with the media, in their transaction, and turns words into conditions."""

    def __init__(self, sqlite: bool) -> None:
        self._sqlite = sqlite
        self._indexed = False

    def detect(self, connection: Connection) -> None:
        """Find out whether this database has the index."""
        if self._sqlite:
            found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'media_words'")).scalar()
            self._indexed = bool(found)

    def add(self, connection: Connection, prompts: Sequence[tuple[int, str]]) -> None:
        """Index the prompts of new rows (seq, prompt)."""
        if self._indexed and prompts:
            connection.execute(
                text("INSERT INTO media_words (rowid, prompt) VALUES (:seq, :prompt)"),
                [{"seq": seq, "prompt": prompt.lower()} for seq, prompt in prompts],
            )

    def remove(self, connection: Connection, seqs: Sequence[int]) -> None:
        if self._indexed and seqs:
            connection.execute(text("DELETE FROM media_words WHERE rowid = :seq"), [{"seq": seq} for seq in seqs])

    def condition(self, words: Sequence[str], not_words: Sequence[str], *, many: bool = False) -> ColumnElement[bool]:
        """Return what a row of `media` must fulfil: each word occurs, none of `not_words` does.

        `many`: a large part of the library matches, so walking the gallery in order and testing each
        row is cheaper than fetching and sorting all that match.
        """
        wanted = [_clean(word) for word in words if _clean(word)]
        unwanted = [_clean(word) for word in not_words if _clean(word)]
        if not self._indexed:
            prompt = func.lower(media.c.prompt)
            return and_(
                *(prompt.contains(word, autoescape=True) for word in wanted),
                *(not_(prompt.contains(word, autoescape=True)) for word in unwanted),
            )
        seq: ColumnElement[int] = literal_column("+media.seq", Integer) if many else media.c.seq
        parts: list[ColumnElement[bool]] = []
        if wanted:
            parts.append(seq.in_(_matching(wanted)))
        for word in unwanted:
            parts.append(seq.not_in(_matching([word])))
        return and_(*parts) if parts else literal_column("1 = 1")


def _clean(word: str) -> str:
    return word.replace("\0", "").strip().lower()


def _matching(words: Sequence[str]) -> TextualSelect:
    """Select the rowids whose prompt has all the words."""
    long = [word for word in words if len(word) >= _TRIGRAM]
    values: dict[str, str] = {}
    tests = []
    if long:
        tests.append("media_words MATCH :words")
        values["words"] = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
    for i, word in enumerate(word for word in words if len(word) < _TRIGRAM):
        tests.append(f"instr(prompt, :short{i}) > 0")
        values[f"short{i}"] = word
    query = text(f"SELECT rowid FROM media_words WHERE {' AND '.join(tests)}")
    # unique: the same names may stand in another part of the statement.
    query = query.bindparams(*(bindparam(name, value, unique=True) for name, value in values.items()))
    return query.columns(column("rowid", Integer))
