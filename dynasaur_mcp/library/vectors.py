"""The vectors of documents in memory, ready to be compared with one.

Each number is kept in a byte: a vector of 384 takes 388 bytes, and its cosine is off by about .0005. All are compared,
block by block so that what is unpacked stays in the processor's cache: a hundred thousand take some 7 ms on one core,
and two share the work. Never as one product of matrices: numpy's then waits for threads of its own, on busy cores for
ten times as long.
An approximate search would be faster, and another library, another file and another way to be wrong.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from dynasaur_mcp.library.ranking import Scores

_BLOCK = 1024
_SCALE_BYTES = 4


def pack_vector(vector: bytes) -> bytes:
    """float32 numbers -> a float32 scale, then a signed byte for each."""
    numpy = importlib.import_module("numpy")
    numbers = numpy.frombuffer(vector, dtype="float32")
    scale = numpy.float32(max(float(numpy.abs(numbers).max()), 1e-9) / 127)
    return bytes(scale.tobytes() + numpy.rint(numbers / scale).astype("int8").tobytes())


class Vectors:
    """Packed vectors by id. Any thread may compare while another appends."""

    def __init__(self) -> None:
        self._numpy = importlib.import_module("numpy")
        self._lock = threading.Lock()
        self._ids = self._numpy.empty(0, dtype="int64")
        self._scales = self._numpy.empty(0, dtype="float32")
        self._blocks: list[Any] = []

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, vectors: Mapping[int, bytes]) -> None:
        """Packed ones by id, in the order of their ids, each higher than all before."""
        if not vectors:
            return
        numpy, ids = self._numpy, list(vectors)
        rows = numpy.frombuffer(b"".join(vectors.values()), dtype="int8").reshape(len(ids), -1)
        scales, numbers = rows[:, :_SCALE_BYTES].copy().view("float32")[:, 0], rows[:, _SCALE_BYTES:]
        with self._lock:
            for number, row in zip(range(len(self._ids), len(self._ids) + len(ids)), numbers, strict=True):
                if number % _BLOCK == 0:
                    self._blocks.append(numpy.zeros((_BLOCK, numbers.shape[1]), dtype="int8"))
                self._blocks[-1][number % _BLOCK] = row
            self._ids = numpy.append(self._ids, numpy.array(ids, dtype="int64"))
            self._scales = numpy.append(self._scales, scales)

    def find_nearest(self, vectors: Sequence[bytes], count: int, others: Sequence[Sequence[int]]) -> list[Scores]:
        """For each vector: the ids of the nearest, and those of its `others` that are here, with the cosine of each.

        Several cost little more than one: what is packed is unpacked once.
        """
        numpy = self._numpy
        with self._lock:
            if not self._blocks:
                return [Scores({}, 0.0, 0.0, absent=0.0) for _ in vectors]
            ids = self._ids
            cosines = self._compare([numpy.frombuffer(vector, dtype="float32") for vector in vectors])
        return [self._choose(ids, row, count, wanted) for row, wanted in zip(cosines, others, strict=True)]

    def _choose(self, ids: Any, cosines: Any, count: int, others: Sequence[int]) -> Scores:
        numpy = self._numpy
        rows = self._lead(cosines, count)
        wanted = numpy.array(others, dtype="int64")
        at = numpy.minimum(numpy.searchsorted(ids, wanted), len(ids) - 1)
        rows = numpy.concatenate([rows, at[ids[at] == wanted]])
        mean = float(cosines.mean())
        found = dict(zip(ids[rows].tolist(), cosines[rows].tolist(), strict=True))
        return Scores(found, mean, float(cosines.std()), absent=mean)

    def _lead(self, cosines: Any, count: int) -> Any:
        """Rows of the `count` highest, in no order."""
        numpy = self._numpy
        if count * 2 >= len(cosines):
            return numpy.argsort(-cosines)[:count]
        # So many groups have one as high: to divide only those takes a tenth of the time of dividing all.
        highest = numpy.maximum.reduceat(cosines, numpy.arange(0, len(cosines), len(cosines) // (2 * count)))
        rows = numpy.flatnonzero(cosines >= numpy.partition(highest, -count)[-count])
        return rows[numpy.argpartition(-cosines[rows], count - 1)[:count]]

    def _compare(self, vectors: Sequence[Any]) -> Any:
        """Cosines: a row for each vector."""
        numpy, half = self._numpy, len(self._blocks) // 2
        cosines = numpy.empty((len(vectors), len(self._blocks) * _BLOCK), dtype="float32")
        # numpy leaves the interpreter to the other.
        other = threading.Thread(target=self._compare_blocks, args=(vectors, cosines, range(half)), name="comparing")
        other.start()
        self._compare_blocks(vectors, cosines, range(half, len(self._blocks)))
        other.join()
        return cosines[:, : len(self._scales)] * self._scales

    def _compare_blocks(self, vectors: Sequence[Any], cosines: Any, numbers: range) -> None:
        numpy = self._numpy
        unpacked = numpy.empty(self._blocks[0].shape, dtype="float32")
        for number in numbers:
            numpy.copyto(unpacked, self._blocks[number])
            for vector, row in zip(vectors, cosines, strict=True):
                numpy.dot(unpacked, vector, out=row[number * _BLOCK : (number + 1) * _BLOCK])
