"""The comparison of vectors is exact: what it finds is what looking at each would find."""

from __future__ import annotations

import pytest

from dynasaur_mcp.library.vectors import Vectors, pack_vector

numpy = pytest.importorskip("numpy")
COUNT = 50


@pytest.mark.parametrize("size", [1, COUNT - 1, COUNT, 2 * COUNT, 2 * COUNT + 1, 1024, 1025, 5000])
@pytest.mark.parametrize("different", [1, 40, 5000])
def test_the_nearest_of_any_number_are_the_ones_with_the_highest_cosines(size: int, different: int) -> None:
    numbers = numpy.random.default_rng(size)
    rows = numbers.standard_normal((different, 16), dtype="float32")[numpy.arange(size) % different]
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[:1], -rows[-1:]
    ids = range(3, 3 + 2 * size, 2)
    vectors = Vectors()
    for start in range(0, size, 700):
        packed = zip(ids[start : start + 700], rows[start : start + 700], strict=True)
        vectors.append({id_: pack_vector(row.tobytes()) for id_, row in packed})
    others = ids[:: size // 7 + 1]
    found = vectors.find_nearest([query.tobytes() for query in queries], COUNT, [[*others, 4, 10**9], []])
    for query, scores, wanted in zip(queries, found, [set(others), set()], strict=True):
        cosines = dict(zip(ids, (rows @ query[0]).tolist(), strict=True))
        assert all(cosine == pytest.approx(cosines[id_], abs=0.01) for id_, cosine in scores.found.items())
        highest = sorted(cosines.values(), reverse=True)[:COUNT]
        assert sorted(scores.found.values(), reverse=True)[: len(highest)] == pytest.approx(highest, abs=0.01)
        assert wanted <= scores.found.keys()
        assert len(scores.found) <= COUNT + len(wanted)
        assert scores.mean == pytest.approx(sum(cosines.values()) / size, abs=0.01)
