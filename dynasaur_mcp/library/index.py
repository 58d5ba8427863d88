"""What makes actions findable: words by SQLite's FTS5, and vectors once an embedder is ready.

All of it can be thrown away: it is made again from the store, and follows it change by change before each search. The
words of a query weigh as much as its meaning: neither alone finds as much on both kinds of requests, short paraphrased
ones and long ones with many parts. How they become one order is in `ranking`.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dynasaur_mcp.errors import ActionNotFound
from dynasaur_mcp.library.catalogue import Catalogue
from dynasaur_mcp.library.documents import (
    LEADING,
    DamagedError,
    count_words,
    explain_words,
    find_names,
    match_words,
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
from dynasaur_mcp.library.words import STOP_WORDS, clean_text, read_parts, read_query
from dynasaur_mcp.types import Found, Match

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


class Index(Catalogue):
    """A catalogue that is searched. Any thread may search; nothing waits for the embedder to load."""

    def __init__(self, store: Store, path: Path | None, embedder: Embedder | None) -> None:
        """
        Args:
            path: Its database file, made on first use; None, or one that cannot be written: in memory.
        """
        super().__init__(store, path, embedder)
        self._common: dict[str, int] = {}
        self._counted_size = 0

    @property
    def uses(self) -> str:
        """What a search goes by now."""
        return WORDS_ONLY if self._vectors is None else WORDS_AND_MEANING

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
        names, counts, scores = self._score(queries)
        found = [self._show(query, names, counts, [each], limit) for query, each in zip(queries, scores, strict=True)]
        return [match for each in found for match in each.matches]

    def _find(self, query: str, limit: int) -> Found:
        return self._show(query, *self._score([query, *read_parts(query)]), limit)

    def _score(self, texts: Sequence[str]) -> tuple[dict[int, str], dict[str, int], list[list[Scores]]]:
        """What each text finds.

        Returns:
            The names of the candidates; how many documents have each word; for each text, scores by words, and by
            meaning where there is a model.
        """
        self.look()
        vectors, asked = self._vectors, None
        if vectors is not None and self._embedder is not None and texts[0].strip():
            # On its way while words are matched: the two take about as long.
            asked = self._embedder.begin(texts)
        tokens = [read_query(text) for text in texts]
        with self._documents.reading() as connection:
            counts = self._count(connection, {token for some in tokens for token in some})
            found = match_words(connection, tokens, counts, self.size)
            leading = [_choose_best(each) for each in found]
            # As of the moment when they were found: an action that is replaced meanwhile has another document then.
            names = find_names(connection, {id_ for ids in leading for id_ in ids})
        scores = [[spread_words(each, self.size)] for each in found]
        if vectors is not None and asked is not None:
            meanings = vectors.find_nearest(asked.result(), CANDIDATES, leading)
            scores = [[words, meaning] for (words,), meaning in zip(scores, meanings, strict=True)]
            near = {id_ for meaning in meanings for id_, cosine in meaning.found.items() if cosine >= MIN_COSINE}
            with self._documents.using() as connection:
                names |= find_names(connection, near - names.keys())
        return names, counts, scores

    def _show(
        self,
        query: str,
        names: Mapping[int, str],
        counts: Mapping[str, int],
        scores: Sequence[Sequence[Scores]],
        limit: int,
    ) -> Found:
        tokens = read_query(query)
        ranked, total = _order(scores, names)
        shown = ranked[: max(limit, LOOKED_AT)]
        with self._documents.using() as connection:
            why = {id_: explain_words(connection, tokens, id_) for id_ in shown}
        nats = measure_words({token: counts[token] for token in tokens if token not in STOP_WORDS}, self.size)
        cosines = {id_: _find_cosine(scores, id_) for id_ in shown}
        shared = {id_: math.fsum(nats.get(token, 0.0) for token in why[id_]) for id_ in shown}
        whole = math.fsum(nats.values())
        named = {id_ for id_ in shown if set(read_query(names[id_])) <= set(tokens)}
        weighed = (weigh_evidence(shared[id_], whole, cosines[id_], id_ in named) for id_ in shown[:LOOKED_AT])
        evidence = max(weighed, default=0.0)
        relations = {id_: shared[id_] + COSINE_NATS * (cosines[id_] or 0.0) for id_ in shown}
        least = MIN_SHARE * max(relations.values(), default=0.0)
        matches: list[Match] = []
        for id_ in [id_ for place, id_ in enumerate(shown) if place < total or relations[id_] >= least][:limit]:
            with contextlib.suppress(ActionNotFound):
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


def _choose_best(found: Mapping[int, float]) -> list[int]:
    return sorted(found, key=found.__getitem__, reverse=True)[:CANDIDATES]


def _order(parts: Sequence[Sequence[Scores]], names: Mapping[int, str]) -> tuple[list[int], int]:
    """Ids of what has anything to do with the query, best first, and how many of them stand out like the first.

    Args:
        names: Of the documents that there are. Vectors of others, which were replaced or removed, are still in memory.
    """
    candidates: set[int] = set()
    for words, *meanings in parts:
        candidates.update(_choose_best(words.found))
        candidates.update(id_ for scores in meanings for id_, cosine in scores.found.items() if cosine >= MIN_COSINE)
    # Of two that one action has had, the later one.
    last = {names[id_]: id_ for id_ in sorted(candidates & names.keys())}
    ranks = rank(parts, last.values())
    least = MIN_SHARE * max(ranks.values(), default=0.0)
    return sorted(ranks, key=lambda id_: (-ranks[id_], id_)), sum(rank >= least for rank in ranks.values())


def _find_cosine(parts: Sequence[Sequence[Scores]], id_: int) -> float | None:
    """That of the part to which it is nearest; None without a model."""
    return max((scores.found.get(id_, 0.0) for _, *meanings in parts for scores in meanings), default=None)
