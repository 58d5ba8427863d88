"""What makes actions findable: words by SQLite's FTS5, and vectors once an embedder is ready.

All of it can be thrown away: it is made again from the store, and follows it change by change before each search. The
words of a query weigh as much as its meaning: neither alone finds as much on both kinds of requests, short paraphrased
ones and long ones with many parts. How they become one order is in `ranking`.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dynasaur_mcp.errors import ActionNotFound, DynasaurError
from dynasaur_mcp.library.documents import (
    LEADING,
    DamagedError,
    Documents,
    add_document,
    count_words,
    explain_words,
    match_words,
    remove_document,
    renew_words,
)
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.ranking import (
    COSINE_NATS,
    FITTING_NATS,
    Scores,
    measure_words,
    rank,
    spread_words,
    weigh_evidence,
)
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.vectors import Vectors, pack_vector
from dynasaur_mcp.library.words import clean_text, read_parts, read_query, split_name
from dynasaur_mcp.types import Action, Entry, Found, Match, Status

WORDS_ONLY = "words"
WORDS_AND_MEANING = "words and meaning"

MIN_COSINE = 0.3
"""Below this, and without a common word, an action has nothing to do with the query (all-MiniLM-L6-v2)."""

MIN_SHARE = 0.3
"""What neither stands out as much as this share of the best match, nor has as much to do with the query, is noise.

In a small library of like actions none but the first stands out; what does one of many needs shares few of the words.
"""

LOOKED_AT = 5
"""Whether anything fits is told by the first so many."""

CANDIDATES = 500
"""So many of the best by words, and of the nearest by meaning, are ranked together."""

STEADY_SHARE = 0.01
"""Of all documents: before so many more or fewer, common words are not counted again."""

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
        self._common: dict[str, int] = {}
        self._counted_size = 0
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
        return self.uses == WORDS_AND_MEANING

    def find(self, query: str, limit: int) -> Found:
        """The best matches, best first, and whether any of them fits."""
        query = clean_text(query)
        try:
            return self._find(query, limit)
        except DamagedError:
            return self._find(query, limit)

    def find_any(self, queries: Sequence[str], limit: int) -> list[Match]:
        """The best matches of each query, for little more than what one costs."""
        queries = [clean_text(query) for query in queries]
        counts, scores = self._score(queries)
        found = [self._show(query, counts, [each], limit) for query, each in zip(queries, scores, strict=True)]
        return [match for each in found for match in each.matches]

    def _find(self, query: str, limit: int) -> Found:
        return self._show(query, *self._score([query, *read_parts(query)]), limit)

    def _score(self, texts: Sequence[str]) -> tuple[dict[str, int], list[list[Scores]]]:
        """How many documents have each word; for each text, scores by words, and by meaning where there is a model."""
        before = self._seen
        if not self._sync() or self._seen != before:
            self._follow_behind()
        vectors, asked = self._vectors, None
        if vectors is not None and self._embedder is not None and texts[0].strip():
            # On its way while words are matched: the two take about as long.
            asked = self._embedder.begin(texts)
        tokens = [read_query(text) for text in texts]
        with self._documents.using() as connection:
            counts = self._count(connection, {token for some in tokens for token in some})
            found = match_words(connection, tokens, counts, self.size)
        scores = [[spread_words(each, self.size)] for each in found]
        if vectors is not None and asked is not None:
            leading = [heapq.nlargest(CANDIDATES, each, key=each.__getitem__) for each in found]
            meanings = vectors.find_nearest(asked.result(), CANDIDATES, leading)
            scores = [[words, meaning] for (words,), meaning in zip(scores, meanings, strict=True)]
        return counts, scores

    def _show(self, query: str, counts: Mapping[str, int], scores: Sequence[Sequence[Scores]], limit: int) -> Found:
        tokens = read_query(query)
        ranked, total = _order(scores)
        shown = ranked[: max(limit, LOOKED_AT)]
        with self._documents.using() as connection:
            names = _find_names(connection, shown)
            why = {id_: explain_words(connection, tokens, id_) for id_ in shown}
        nats = measure_words({token: counts[token] for token in tokens}, self.size)
        cosines = {id_: _find_cosine(scores, id_) for id_ in shown}
        shared = {id_: math.fsum(nats[token] for token in why[id_]) for id_ in shown}
        whole = math.fsum(nats.values())
        evidence = max((weigh_evidence(shared[id_], whole, cosines[id_]) for id_ in shown[:LOOKED_AT]), default=0.0)
        relations = {id_: shared[id_] + COSINE_NATS * (cosines[id_] or 0.0) for id_ in shown}
        least = MIN_SHARE * max(relations.values(), default=0.0)
        matches: list[Match] = []
        for id_ in [id_ for place, id_ in enumerate(shown) if place < total or relations[id_] >= least][:limit]:
            with contextlib.suppress(ActionNotFound, KeyError):
                cosine = cosines[id_] or 0.0
                meant = ("meaning",) if cosine >= MIN_COSINE else ()
                score = min(max(shared[id_] / (whole or 1.0), cosine), 1.0)
                matches.append(Match(self._store.get(names[id_]), score, (*why[id_], *meant)))
        total = max(total, len(matches))
        used = WORDS_ONLY if len(scores[0]) == 1 else WORDS_AND_MEANING
        return Found(tuple(matches), total, self.size, used, evidence, evidence >= FITTING_NATS)

    def _count(self, connection: sqlite3.Connection, tokens: Collection[str]) -> dict[str, int]:
        """How many documents have each word. To count a common one takes long, and next time it is as common."""
        if abs(self.size - self._counted_size) > self._counted_size * STEADY_SHARE:
            self._common.clear()
            self._counted_size = self.size
        counts = count_words(connection, [token for token in tokens if token not in self._common])
        self._common |= {token: count for token, count in counts.items() if count > LEADING}
        return {token: self._common.get(token, counts.get(token, 0)) for token in tokens}

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
        revision = self._store.revision
        if (revision, self._documents.life) == self._seen:
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


def _find_names(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, str]:
    marks = ", ".join("?" * len(ids))
    return dict(connection.execute(f"SELECT id, name FROM documents WHERE id IN ({marks})", tuple(ids)).fetchall())


def _order(parts: Sequence[Sequence[Scores]]) -> tuple[list[int], int]:
    """Ids of what has anything to do with the query, best first, and how many of them stand out like the first."""
    candidates: set[int] = set()
    for words, *meanings in parts:
        candidates.update(heapq.nlargest(CANDIDATES, words.found, key=words.found.__getitem__))
        candidates.update(id_ for scores in meanings for id_, cosine in scores.found.items() if cosine >= MIN_COSINE)
    ranks = rank(parts, candidates)
    least = MIN_SHARE * max(ranks.values(), default=0.0)
    return sorted(ranks, key=lambda id_: (-ranks[id_], id_)), sum(rank >= least for rank in ranks.values())


def _find_cosine(parts: Sequence[Sequence[Scores]], id_: int) -> float | None:
    """That of the part to which it is nearest; None without a model."""
    return max((scores.found.get(id_, 0.0) for _, *meanings in parts for scores in meanings), default=None)


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
    return tuple(map(clean_text, texts))


def _hash_text(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
