"""How hits by words and by meaning become one order, and whether the best of them fit at all. Numbers in, numbers out.

BM25 and cosine have no common scale, and none that holds from one query to the next. So each is measured against how
it is spread over all documents for that very query: where words single out few documents they weigh more, where many
share them meaning does. No weight is chosen.

A long request often names several needs. It is also searched part by part, and a document counts by the whole and by
the part that it answers best: otherwise what shares a little with each need stands before what does one of them.

Standing out says nothing of fitting, as something always does. What fits is told by evidence, in nats: the information
of the shared words, which is how rare they are, and the cosine.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

COSINE_NATS = 20.0
"""What a cosine of 1 counts; anything from 15 to 40 decides alike. The scale is that of all-MiniLM-L6-v2."""

USUAL_COSINE = 0.3
"""Taken where there is no model, so that words alone are held to the same."""

FITTING_NATS = 12.0
"""Least evidence that something fits: about a usual cosine, and one word that one document in 400 has."""

LEAST_DOCUMENTS = 1000
"""How rare a word is, is told as if there were at least so many: in a small library, every word is in few of them."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the candidates score by words, or by meaning, and how all documents' scores are spread."""

    found: Mapping[int, float]
    mean: float
    deviation: float
    absent: float
    """Of a document that is not among the found ones."""

    def standardise(self, ids: Sequence[int]) -> list[float]:
        find, absent, mean, deviation = self.found.get, self.absent, self.mean, self.deviation
        return [(find(id_, absent) - mean) / deviation if deviation > 0 else 0.0 for id_ in ids]


def spread_words(found: Mapping[int, float], size: int) -> Scores:
    """BM25 scores among `size` documents: those that are not found have none of the words."""
    size = max(size, len(found), 1)
    mean = math.fsum(found.values()) / size
    square = math.fsum(score * score for score in found.values()) / size
    return Scores(found, mean, math.sqrt(max(square - mean * mean, 0.0)), absent=0.0)


def rank(parts: Sequence[Sequence[Scores]], candidates: Collection[int]) -> dict[int, float]:
    """Candidates -> how far they stand out.

    Args:
        parts: The scores by words and by meaning, of the whole query first, then of each part if it has several.
    """

    ids = list(candidates)

    def stand_out(part: Sequence[Scores]) -> list[float]:
        return [sum(each) / len(part) for each in zip(*(scores.standardise(ids) for scores in part), strict=True)]

    whole, *rest = map(stand_out, parts)
    if rest:
        best = map(max, zip(*rest, strict=True))
        whole = [(by_whole + by_part) / 2 for by_whole, by_part in zip(whole, best, strict=True)]
    return dict(zip(ids, whole, strict=True))


def measure_words(counts: Mapping[str, int], size: int) -> dict[str, float]:
    """The information of each word, in nats, of how many documents out of `size` have it."""
    size = max(size, LEAST_DOCUMENTS)
    return {word: math.log((size + 1) / (count + 0.5)) for word, count in counts.items()}


def weigh_evidence(shared_nats: float, query_nats: float, cosine: float | None, is_named: bool) -> float:
    """In nats, that a document fits a query.

    What has every word of it fits, however common these are, if it means the like or has its name there: some text or
    other has each word of small talk.

    Args:
        cosine: None where there is no model.
    """
    if cosine is None:
        cosine = USUAL_COSINE
    evidence = shared_nats + COSINE_NATS * cosine
    has_all = shared_nats >= query_nats > 0 and (is_named or cosine >= USUAL_COSINE)
    return max(evidence, FITTING_NATS) if has_all else evidence
