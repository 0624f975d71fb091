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
    String,
    TextualSelect,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    not_,
    select,
    text,
    true,
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

    def condition(self, words: Sequence[str], not_words: Sequence[str], *, few: bool = False) -> ColumnElement[bool]:
        """Return what a row of `media` must fulfil: each word occurs, none of `not_words` does.

        `few`: hardly anything matches, so fetching exactly that is best.
        """
        wanted, unwanted = _cleaned(words), _cleaned(not_words)
        if not self._indexed:
            return self.reading(words, not_words)
        # The plus keeps SQLite from fetching and sorting all matches where it can walk the gallery in order.
        seq: ColumnElement[int] = media.c.seq if few else literal_column("+media.seq", Integer)
        tests: list[ColumnElement[bool]] = [seq.not_in(_matching([word])) for word in unwanted]
        if wanted:
            tests.append(seq.in_(_matching(wanted)))
        return and_(true(), *tests)

    def reading(self, words: Sequence[str], not_words: Sequence[str]) -> ColumnElement[bool]:
        """Return the same condition answered by reading each row's prompt: cheap for a few rows only."""
        if self._indexed:
            text_of_row = literal_column("(SELECT prompt FROM media_words WHERE rowid = media.seq)", String)
            tests = [func.instr(text_of_row, word) > 0 for word in _cleaned(words)]
            tests += [func.instr(text_of_row, word) == 0 for word in _cleaned(not_words)]
        else:
            prompt = func.lower(media.c.prompt)
            tests = [prompt.contains(word, autoescape=True) for word in _cleaned(words)]
            tests += [not_(prompt.contains(word, autoescape=True)) for word in _cleaned(not_words)]
        return and_(true(), *tests)

    def count(self, connection: Connection, words: Sequence[str], not_words: Sequence[str]) -> int | None:
        """Count from the index alone what is not in the trash; None when that is not possible."""
        wanted = _cleaned(words)
        if not self._indexed or not wanted:
            return None
        found = _matching(wanted).subquery()
        query = select(func.count()).select_from(found)
        query = query.where(found.c.rowid.not_in(select(media.c.seq).where(media.c.trashed_at.is_not(None))))
        for word in _cleaned(not_words):
            query = query.where(found.c.rowid.not_in(_matching([word])))
        return connection.execute(query).scalar_one()


def _cleaned(words: Sequence[str]) -> list[str]:
    cleaned = (word.replace("\0", "").strip().lower() for word in words)
    return [word for word in cleaned if word]


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
