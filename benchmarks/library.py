"""The server on a large library against the same server on an empty one: start, search, define, call, memory.

    python benchmarks/library.py [--sizes 10000 100000] [--rounds 15] [--sandbox jail] [--keep FOLDER] [--embed]

Actions are made up but look real (`synthetic.py`). Their vectors are random, of length 1: to embed a hundred thousand
texts takes a quarter of an hour, and comparing takes as long for any vectors. Queries are embedded by the real model.
`--embed` has the server embed the texts instead, and says how long that takes; use it with small sizes.

The servers of all sizes take turns, so that what else the machine does weighs on all alike. A search by vectors alone
is timed in this process; everything else is asked of servers over stdio. `--keep` keeps the libraries for the next run.
"""

import argparse
import contextlib
import itertools
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy
from peer import OURS, Peer
from synthetic import KINDS, OWNERS, THINGS, fill_library
from timing import Turn, check, percentile_95, take_turns

from dynasaur_mcp.library.database import LEDGER_FILE
from dynasaur_mcp.library.documents import INDEX_FILE
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import CANDIDATES, Index
from dynasaur_mcp.library.vectors import Vectors, pack_vector
from dynasaur_mcp.settings import Settings

SEARCHES = 60
CALLS = 30
WARM_SECONDS = 600.0
MODEL = str(Settings.model_fields["model"].default)

Times = dict[int, list[float]]
"""Seconds by size of the library."""


def make_queries() -> Iterator[str]:
    """As a model would ask: what is to be done, and to what, in more and less words."""
    choose = random.Random(7)
    while True:
        kind, owner, thing = choose.choice(KINDS), choose.choice(OWNERS), choose.choice(THINGS).replace("_", " ")
        sentence = kind.sentence.format(owner=owner, thing=thing)
        more = f"I have {owner} {thing} data. {kind.more.format(plain=thing)}"
        yield choose.choice((sentence, f"{kind.verb} {thing}", more))


def make_sources() -> Iterator[tuple[str, str]]:
    """New actions, each of another shape: their names and sources."""
    choose = random.Random(8)
    for number in itertools.count(1):
        terms = "".join(f" {choose.choice('+-*')} {choose.randint(2, 99)}" for _ in range(8))
        name = f"compute_term_{number}"
        lines = (
            f"def {name}(value: int) -> int:",
            f'    """Compute the value of term number {number}.',
            "",
            "    Args:",
            "        value: Where to begin.",
            "",
            f"    >>> {name}(1)",
            f"    {eval('1' + terms)}",
            '    """',
            f"    return value{terms}",
        )
        yield name, "\n".join(lines) + "\n"


def prepare(folder: Path, size: int, *, has_vectors: bool) -> None:
    """A library of that many actions with its index, and random vectors."""
    if not (folder / LEDGER_FILE).exists():
        began = time.perf_counter()
        fill_library(folder, size)
        print(f"{size:,} actions written in {time.perf_counter() - began:.0f} s", flush=True)
    with contextlib.closing(FileStore(folder)) as store:
        began = time.perf_counter()
        store.look()
        looked = time.perf_counter()
        with contextlib.closing(Index(store, folder / INDEX_FILE, None)) as index:
            index.update()
            check(index.size >= size)
        indexed = time.perf_counter()
    print(
        f"{size:,} actions: a look at all takes {looked - began:.2f} s, indexing what is new {indexed - looked:.1f} s"
    )
    if has_vectors:
        give_vectors(folder)


def give_vectors(folder: Path) -> None:
    numbers = numpy.random.default_rng(1)
    with contextlib.closing(sqlite3.connect(folder / INDEX_FILE)) as index, index:
        for (key,) in index.execute("SELECT key FROM documents").fetchall():
            vector = numbers.standard_normal(384, dtype="float32")
            packed = pack_vector((vector / numpy.linalg.norm(vector)).tobytes())
            index.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", (key, MODEL, packed))


def time_start(folder: Path) -> float:
    began = time.perf_counter()
    with Peer([*OURS, "--library", str(folder)]) as peer:
        peer.request("tools/list")
        return time.perf_counter() - began


def search(peer: Peer, queries: Iterator[str]) -> None:
    peer.call("search_actions", query=next(queries))


def define(peer: Peer, sources: Iterator[tuple[str, str]]) -> None:
    peer.call("define_action", source=next(sources)[1], anyway=True)


def call(peer: Peer) -> None:
    check(isinstance(peer.call("execute_action", name="compute_term_1", arguments={"value": 1}), dict))


def wait_until_warm(peer: Peer) -> float:
    """Until it searches by meaning too; seconds."""
    began = time.perf_counter()
    while "by words and meaning" not in peer.call("search_actions", query="term")["content"][0]["text"]:
        check(time.perf_counter() - began < WARM_SECONDS)
        time.sleep(0.2)
    return time.perf_counter() - began


def time_vectors(folders: dict[int, Path]) -> Times:
    """Embedding a query and comparing it, in this process."""
    embedder = Embedder(MODEL)
    embedder.start()
    check(embedder.wait(WARM_SECONDS))
    queries = make_queries()

    def compare(vectors: Vectors) -> None:
        vectors.find_nearest(embedder.embed([next(queries)]), CANDIDATES, [()])

    turns: dict[int, Turn] = {}
    for size, folder in folders.items():
        vectors = Vectors()
        with contextlib.closing(sqlite3.connect(folder / INDEX_FILE)) as index:
            query = "SELECT d.id, v.vector FROM documents d JOIN vectors v ON v.key = d.key ORDER BY d.id"
            vectors.append(dict(index.execute(query).fetchall()))
        turns[size] = partial(compare, vectors)
    return take_sized_turns(turns, SEARCHES)


def take_sized_turns(turns: Mapping[int, Turn], rounds: int) -> Times:
    times = take_turns({str(size): turn for size, turn in turns.items()}, rounds, warm_up=3)
    return {int(size): seconds for size, seconds in times.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--sandbox", default="jail")
    options.add_argument("--keep", type=Path)
    options.add_argument("--embed", action="store_true")
    given = options.parse_args()
    table: dict[str, Times] = {}
    memory: dict[str, dict[int, int]] = {}
    with contextlib.ExitStack() as stack:
        place = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = {size: place / str(size) for size in (0, *given.sizes)}
        for size, folder in folders.items():
            prepare(folder, size, has_vectors=not given.embed)
        starts = {size: partial(time_start, folder) for size, folder in folders.items()}
        table["start to the first list of tools"] = take_sized_turns(starts, given.rounds)
        for searched_by, model in (("words", "/nowhere"), ("both", MODEL)):
            with contextlib.ExitStack() as servers:
                started = [*OURS, "--sandbox", given.sandbox, "--model", model]
                peers = {
                    size: servers.enter_context(Peer([*started, "--library", str(folder)]))
                    for size, folder in folders.items()
                }
                for peer in peers.values():
                    peer.request("tools/list")
                # One set of names for each kind of server: what is kept is defined once.
                sources = {
                    size: itertools.islice(make_sources(), 500 * (searched_by == "both"), None) for size in peers
                }
                defines = {size: partial(define, peer, sources[size]) for size, peer in peers.items()}
                for size, peer in peers.items():
                    # There must be something to find.
                    defines[size]()
                    if searched_by == "both":
                        print(f"{size:,} actions: searched by meaning {wait_until_warm(peer):.0f} s later", flush=True)
                queries = {size: make_queries() for size in peers}
                searches = {size: partial(search, peer, queries[size]) for size, peer in peers.items()}
                table[f"search by {searched_by}"] = take_sized_turns(searches, SEARCHES)
                table[f"define, search by {searched_by}"] = take_sized_turns(defines, given.rounds)
                if searched_by == "both":
                    calls = {size: partial(call, peer) for size, peer in peers.items()}
                    table["call"] = take_sized_turns(calls, CALLS)
                memory[f"memory, search by {searched_by}"] = {s: peer.memory_bytes() for s, peer in peers.items()}
        table["search by vectors, no server"] = time_vectors(folders)
    print_table(table, memory)


def print_table(table: dict[str, Times], memory: dict[str, dict[int, int]]) -> None:
    sizes = list(next(iter(table.values())))
    print(
        f"\n{'p50 / p95 in ms':<32}"
        + "".join(f"{f'{size:,} actions':>20}" for size in sizes)
        + f"{'p50, last to first':>20}"
    )
    for name, times in table.items():
        middle = {size: statistics.median(seconds) * 1000 for size, seconds in times.items()}
        cells = [f"{middle[size]:.1f} / {percentile_95(seconds):.1f}" for size, seconds in times.items()]
        print(f"{name:<32}" + "".join(f"{cell:>20}" for cell in cells) + f"{middle[sizes[-1]] / middle[0]:>18.2f} x")
    for name, bytes_ in memory.items():
        cells = [f"{used / 1e6:.0f} MB" for used in bytes_.values()]
        print(
            f"{name:<32}"
            + "".join(f"{cell:>20}" for cell in cells)
            + f"{(bytes_[sizes[-1]] - bytes_[0]) / 1e6:>+17.0f} MB"
        )


if __name__ == "__main__":
    main()
