"""Keeps words and vectors in step with a store: the words change by change before each search, the vectors behind it.

A vector is kept by its text, so that what comes back, or is moved, is not embedded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dynasaur_mcp.errors import ActionNotFound, DynasaurError
from dynasaur_mcp.library.documents import Documents, add_document, remove_document, renew_words
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.vectors import Vectors, pack_vector
from dynasaur_mcp.library.words import clean_text, split_name, spread_text
from dynasaur_mcp.types import Action, Entry, Status

_SYNC_BATCH = 200
"""Changes taken in at once. A search waits for no more than these; the rest follows behind it."""

_PAUSE_SECONDS = 0.002
_EMBED_BATCH = 16
_PAGE = 2048
_log = logging.getLogger(__name__)


class Catalogue:
    """Words and vectors of the actions of a store, never far behind it. Nothing waits for the embedder to load."""

    def __init__(self, store: Store, path: Path | None, embedder: Embedder | None) -> None:
        self._store = store
        self._documents = Documents(path)
        self._embedder = embedder
        self._seen = ("", -1, 0)
        """The store's identity and revision and the file's life that all was taken in of."""
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

    def update(self) -> None:
        """Take in all that has changed."""
        self._catch_up()
        self._follow_behind()

    def renew(self, name: str) -> None:
        """Take in what is known of it besides its source."""
        with self._documents.changing() as connection:
            known = connection.execute("SELECT id, sha256 FROM documents WHERE name = ?", (name,)).fetchone()
            entry = self._find_entry(name)
            if known and entry and known[1] == entry.action.sha256:
                renew_words(connection, known[0], _write_words(entry.action, self._store.queries(name)))

    def settle(self, seconds: float) -> bool:
        """Wait until meaning is up to date, or cannot be; whether searches go by it now."""
        if self._embedder is not None:
            self._embedder.wait(seconds)
        if self._thread is not None:
            self._thread.join(seconds)
        return self._vectors is not None

    def look(self) -> None:
        """Take in a few changes, and have the rest follow."""
        before = self._seen
        if not self._sync() or self._seen != before:
            self._follow_behind()

    def close(self) -> None:
        """Close it before its store. Waits for the batch that is being embedded."""
        self._closed = True
        with self._following:
            self._documents.close()

    def _catch_up(self) -> None:
        while not self._sync():
            # A lock that is taken again at once is had by nobody else.
            time.sleep(_PAUSE_SECONDS)

    def _sync(self) -> bool:
        """Bring the words in step with the store, a batch at a time; whether that is all."""
        state = (self._store.identity, self._store.revision, self._documents.life)
        if state == self._seen:
            return True
        with self._documents.changing() as connection:
            ledger, *mark = connection.execute("SELECT ledger, revision, name FROM state").fetchone()
            if ledger != self._store.identity:
                connection.execute("DELETE FROM documents")
                connection.execute("DELETE FROM words")
                connection.execute("UPDATE state SET ledger = ?, size = 0", (self._store.identity,))
                mark = [0, ""]
            changed = self._store.changed_after((mark[0], mark[1]), _SYNC_BATCH)
            for _, name in changed:
                self._take_in(connection, name)
            if changed:
                connection.execute("UPDATE state SET revision = ?, name = ?", changed[-1])
            (self.size,) = connection.execute("SELECT size FROM state").fetchone()
        if len(changed) == _SYNC_BATCH:
            return False
        self._seen = (*state[:2], self._documents.life)
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
            texts = _write_words(action, self._store.queries(name))
            add_document(connection, name, action.sha256, _hash_text(_write_text(action)), texts)

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


def _write_text(action: Action) -> str:
    """What is embedded."""
    return clean_text(f"{split_name(action.name)}. {action.docstring}")


def _write_words(action: Action, queries: Sequence[str]) -> tuple[str, ...]:
    """What is searched for words: name, tags, parameters, docstring, examples, queries."""
    texts = (
        split_name(action.name),
        " ".join(action.tags),
        " ".join(f"{split_name(each.name)} {each.description}" for each in action.parameters),
        action.docstring,
        " ".join(action.examples),
        " ".join(queries),
    )
    return tuple(spread_text(clean_text(text)) for text in texts)


def _hash_text(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
