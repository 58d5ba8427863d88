"""What makes actions findable: words by SQLite's FTS5, and vectors once an embedder is ready.

All of it can be thrown away: it is made again from the store, and follows it change by change before each search. The
words of a query weigh as much as its meaning: neither alone finds as much on both kinds of requests, short paraphrased
ones and long ones with many parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dynasaur_mcp.errors import ActionNotFound, DynasaurError
from dynasaur_mcp.library.documents import DamagedError, Documents, add_document, match_words, remove_document
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.vectors import Vectors, pack_vector
from dynasaur_mcp.library.words import quote_words, read_query, split_name
from dynasaur_mcp.types import Action, Entry, Match, Status

WORDS_ONLY = "words"
WORDS_AND_MEANING = "words and meaning"

MIN_COSINE = 0.3
"""Below this, and without a common word, an action has nothing to do with the query (all-MiniLM-L6-v2)."""

MIN_SHARE = 0.3
"""Matches that score less than this share of the best one are noise."""

CANDIDATES = 500
"""So many of the best by words, and of the nearest by meaning, are ranked together."""

_SYNC_BATCH = 200
"""Changes taken in at once. A search waits for no more than these; the rest follows behind it."""

_PAUSE_SECONDS = 0.002
_EMBED_BATCH = 16
_PAGE = 2048
_log = logging.getLogger(__name__)


class Index:
    """Finds the actions of a store. Any thread may search; nothing waits for the embedder to load."""

    def __init__(self, store: Store, path: Path | None, embedder: Embedder | None) -> None:
        """
        Args:
            path: Its database file, made on first use; None, or one that cannot be written: in memory.
        """
        self._store = store
        self._documents = Documents(path)
        self._embedder = embedder
        self._seen = (-1, 0)
        """The store's revision and the file's life that all was taken in of."""
        self._vectors: Vectors | None = None
        self._vectors_life = 0
        self._last_id = 0
        self._following = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.size = 0
        """Actions that can be found."""
        if embedder is not None:
            embedder.when_ready(self._follow_behind)

    @property
    def uses(self) -> str:
        """What a search goes by now."""
        return WORDS_ONLY if self._vectors is None else WORDS_AND_MEANING

    def update(self) -> None:
        """Take in all that has changed."""
        self._catch_up()
        self._follow_behind()

    def settle(self, seconds: float) -> bool:
        """Wait until meaning is up to date, or cannot be; whether searches go by it now."""
        if self._embedder is not None:
            self._embedder.wait(seconds)
        if self._thread is not None:
            self._thread.join(seconds)
        return self.uses == WORDS_AND_MEANING

    def search(self, query: str, limit: int) -> list[Match]:
        """The best matches, best first; none when nothing fits."""
        return self.find(query, limit)[0]

    def find(self, query: str, limit: int) -> tuple[list[Match], int]:
        """The best matches, and how many there are among the candidates."""
        try:
            return self._find(query, limit)
        except DamagedError:
            return self._find(query, limit)

    def _find(self, query: str, limit: int) -> tuple[list[Match], int]:
        tokens = read_query(query)
        before = self._seen
        if not self._sync() or self._seen != before:
            self._follow_behind()
        vector = self._embed_query(query)
        with self._documents.using() as connection:
            words, meanings = self._match(connection, tokens, vector)
            ranked = _fuse(words, meanings)
            # A score also says how well the best one fits: 1 only if it has every word of the query, or the same
            # meaning.
            best = max(words, key=words.__getitem__, default=None)
            shared = len(_explain(connection, tokens, best)) / len(tokens) if best else 0.0
            shown = [(name, score, _explain(connection, tokens, name)) for name, score in ranked[:limit]]
        scale = max(shared, *meanings.values(), 0.0)
        matches: list[Match] = []
        for name, score, why in shown:
            with contextlib.suppress(ActionNotFound):
                meant = ("meaning",) if meanings.get(name, 0.0) >= MIN_COSINE else ()
                matches.append(Match(self._store.get(name), min(scale * score, 1.0), (*why, *meant)))
        return matches, len(ranked)

    def close(self) -> None:
        """Close it before its store. Waits for the batch that is being embedded."""
        self._closed = True
        with self._following:
            self._documents.close()

    def _embed_query(self, query: str) -> bytes | None:
        if self._vectors is None or self._embedder is None or not query.strip():
            return None
        return self._embedder.embed([query[:2000]])[0]

    def _match(
        self, connection: sqlite3.Connection, tokens: Sequence[str], vector: bytes | None
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Names -> BM25 relative to the best, and names -> cosine, of all candidates."""
        scores = match_words(connection, tokens, self.size)
        # FTS5 gives a word that is in most documents a score of next to nothing, never less than nothing.
        best = max(scores.values(), default=0.0) or 1.0
        top = sorted(scores, key=scores.__getitem__, reverse=True)[:CANDIDATES]
        vectors = self._vectors
        cosines = vectors.find_nearest(vector, CANDIDATES, top) if vectors and vector else {}
        names = _find_names(connection, {*top, *cosines})
        words = {names[id_]: max(scores[id_] / best, 0.0) for id_ in {*top, *cosines} & scores.keys() if id_ in names}
        return words, {names[id_]: cosine for id_, cosine in cosines.items() if id_ in names}

    def _catch_up(self) -> None:
        while not self._sync():
            # A lock that is taken again at once is had by nobody else.
            time.sleep(_PAUSE_SECONDS)

    def _sync(self) -> bool:
        """Bring the words in step with the store, a batch at a time; whether that is all."""
        revision = self._store.revision
        if (revision, self._documents.life) == self._seen:
            return True
        with self._documents.changing() as connection:
            ledger, *mark = connection.execute("SELECT ledger, revision, name FROM state").fetchone()
            if ledger != self._store.identity:
                connection.execute("DELETE FROM documents")
                connection.execute("DELETE FROM words")
                connection.execute("UPDATE state SET ledger = ?", (self._store.identity,))
                mark = [0, ""]
            changed = self._store.changed_after((mark[0], mark[1]), _SYNC_BATCH)
            for _, name in changed:
                self._take_in(connection, name)
            if changed:
                connection.execute("UPDATE state SET revision = ?, name = ?", changed[-1])
            (self.size,) = connection.execute("SELECT count(*) FROM documents").fetchone()
        if len(changed) == _SYNC_BATCH:
            return False
        self._seen = (revision, self._documents.life)
        return True

    def _take_in(self, connection: sqlite3.Connection, name: str) -> None:
        entry = self._find_entry(name)
        known = connection.execute("SELECT id, sha256 FROM documents WHERE name = ?", (name,)).fetchone()
        if known and entry and known[1] == entry.action.sha256:
            return
        if known:
            remove_document(connection, known[0])
        if entry:
            action = entry.action
            add_document(connection, name, action.sha256, _hash_text(_write_text(action)), _write_words(action))

    def _find_entry(self, name: str) -> Entry | None:
        with contextlib.suppress(ActionNotFound):
            entry = self._store.get(name)
            return None if entry.status is Status.DISABLED else entry
        return None

    def _follow_behind(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="index", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        """Take in what a search did not wait for, then the vectors. Runs in a thread of its own."""
        with self._following:
            try:
                if not self._closed:
                    self._catch_up()
                if self._embedder is not None and self._embedder.ready:
                    self._follow_vectors(self._embedder)
            except DynasaurError as error:
                if not self._closed:
                    _log.warning("the search index is behind for now: %s", error)

    def _follow_vectors(self, embedder: Embedder) -> None:
        if self._vectors is None or self._is_stale(self._vectors):
            with self._documents.changing() as connection:
                connection.execute("DELETE FROM vectors WHERE key NOT IN (SELECT key FROM documents)")
            self._last_id, self._vectors_life = 0, self._documents.life
            vectors = Vectors()
        else:
            vectors = self._vectors
        while not self._closed and (page := self._load_page(embedder.model)):
            missing = [name for _, name, vector in page if vector is None]
            made: dict[str, bytes] = {}
            for start in range(0, len(missing), _EMBED_BATCH):
                if self._closed:
                    return
                made |= self._embed(embedder, missing[start : start + _EMBED_BATCH])
            found = {id_: vector or made.get(name) for id_, name, vector in page}
            vectors.append({id_: vector for id_, vector in found.items() if vector})
            self._last_id = max(found)
        # Not before it has all the first time: search by a part of the library would prefer that part.
        self._vectors = vectors

    def _is_stale(self, vectors: Vectors) -> bool:
        """What was replaced or removed stays in memory until it is too much."""
        return self._vectors_life != self._documents.life or len(vectors) > 2 * self.size + _PAGE

    def _load_page(self, model: str) -> list[tuple[int, str, bytes | None]]:
        """The next documents: id, name, and the vector if its text had one before."""
        query = """SELECT d.id, d.name, v.vector FROM documents d LEFT JOIN vectors v ON v.key = d.key AND v.model = ?
            WHERE d.id > ? ORDER BY d.id LIMIT ?"""
        with self._documents.using() as connection:
            return connection.execute(query, (model, self._last_id, _PAGE)).fetchall()

    def _embed(self, embedder: Embedder, names: Sequence[str]) -> dict[str, bytes]:
        """Vectors by name, kept by their text: a document whose action has changed meanwhile has a successor."""
        entries = [entry for entry in map(self._find_entry, names) if entry]
        texts = {entry.name: _write_text(entry.action) for entry in entries}
        vectors = [pack_vector(vector) for vector in embedder.embed(list(texts.values()))]
        keys = map(_hash_text, texts.values())
        rows = [(key, embedder.model, vector) for key, vector in zip(keys, vectors, strict=True)]
        with self._documents.changing() as connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        return dict(zip(texts, vectors, strict=True))


def _explain(connection: sqlite3.Connection, tokens: Sequence[str], name: str) -> tuple[str, ...]:
    """Those words of the query that are in it."""
    (id_,) = connection.execute("SELECT id FROM documents WHERE name = ?", (name,)).fetchone()
    query = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"
    return tuple(token for token in tokens if connection.execute(query, (quote_words([token]), id_)).fetchone())


def _find_names(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, str]:
    marks = ", ".join("?" * len(ids))
    return dict(connection.execute(f"SELECT id, name FROM documents WHERE id IN ({marks})", tuple(ids)).fetchall())


def _fuse(words: Mapping[str, float], meanings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Names with scores, best first, without those that do not fit."""
    if not meanings:
        scores = dict(words)
    else:
        near = {name for name, cosine in meanings.items() if cosine >= MIN_COSINE}
        scores = {
            name: 0.5 * words.get(name, 0.0) + 0.5 * max(meanings.get(name, 0.0), 0.0) for name in words.keys() | near
        }
    least = MIN_SHARE * max(scores.values(), default=0.0)
    return sorted(((n, s) for n, s in scores.items() if s >= least), key=lambda pair: (-pair[1], pair[0]))


def _write_text(action: Action) -> str:
    """What is embedded."""
    return f"{split_name(action.name)}. {action.docstring}"


def _write_words(action: Action) -> tuple[str, ...]:
    """What is searched for words: name, tags, parameters, docstring, examples."""
    parameters = " ".join(f"{split_name(each.name)} {each.description}" for each in action.parameters)
    return split_name(action.name), " ".join(action.tags), parameters, action.docstring, " ".join(action.examples)


def _hash_text(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
