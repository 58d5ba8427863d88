"""Kill -9 whoever defines actions, at random moments: is each definition there whole or not at all?

    python benchmarks/kill.py [--times 1000] [--servers 30] [--seed 1]

Killed are processes that keep one version after another through the store, and servers in the middle of `define_action`
in a jail; a server takes a second to start, so these are fewer. After each kill the library is opened: its ledger is
sound, every file is one version, whole, and that of its author, and none that was acknowledged is missing.
"""

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peer import OURS, Peer

from dynasaur_mcp.library.database import LEDGER_FILE
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Status, Tests

SERVER = [*OURS, "--sandbox", "jail", "--model", "/nowhere", "--library"]
"""Without a model, whose loading would only take the time of the definition."""
NAMES = ("first", "second", "third")
STORE_SECONDS = 0.04
"""In which about five versions are kept."""
AUTHOR = "killed"
TIMED = 5
"""Definitions that are timed, each in a server of its own."""
LONGER = 1.2
"""Than a definition takes: the last moment at which a server is killed."""

Version = tuple[str, int]
"""Name and version of an action."""


def write_source(name: str, number: int) -> str:
    filling = "\n".join(f"    # line {line} of definition {number}" for line in range(number % 400))
    return (
        f'def {name}(value: int) -> int:\n    """Add {number}.\n\n'
        f'    >>> {name}(1)\n    {number + 1}\n    """\n{filling}\n    return value + {number}\n'
    )


def keep_versions(folder: Path, told: int, number: int) -> None:
    """One version after another until the end, each told when it is kept."""
    with contextlib.closing(FileStore(folder)) as store:
        while True:
            for name in NAMES:
                number += 1
                versions = {entry.name: entry.version for entry in store.entries()}
                entry = store.put(
                    read_action(write_source(name, number)),
                    author=AUTHOR,
                    tests=Tests(1),
                    schemas=None,
                    status=Status.ACTIVE,
                    expected_version=versions.get(name, 0),
                )
                os.write(told, f"{name} {entry.version}\n".encode())


def kill_store(folder: Path, number: int, seconds: float) -> list[Version]:
    """What it told before it was killed, that many seconds after its first version."""
    reading, told = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            keep_versions(folder, told, number)
        finally:
            os._exit(1)
    os.close(told)
    with open(reading) as lines:
        first = lines.readline()
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kept = [line.split() for line in [first, *lines] if line.endswith("\n")]
    return [(name, int(version)) for name, version in kept]


def kill_server(folder: Path, number: int, seconds: float) -> list[Version]:
    """Nothing is told: it is killed that many seconds after it was asked."""
    with Peer([*SERVER, str(folder)]) as peer:
        begin_definition(peer, folder, number)
        time.sleep(seconds)
        peer.kill()
    return []


def time_server(folder: Path) -> float:
    """Seconds that a definition takes in a server that is not killed: the median of a few."""
    return statistics.median(time_definition(folder, number) for number in range(1, TIMED + 1))


def time_definition(folder: Path, number: int) -> float:
    with Peer([*SERVER, str(folder)]) as peer:
        begin_definition(peer, folder, number)
        began = time.perf_counter()
        result = peer.next_result()[1]
        if result.get("isError"):
            raise SystemExit(f"the definition was refused: {result['content'][0]['text']}")
        return time.perf_counter() - began


def begin_definition(peer: Peer, folder: Path, number: int) -> None:
    peer.request("tools/list")
    # Its first worker is there: kills are to fall into the definition itself.
    peer.call("run_python", code="1")
    name = NAMES[number % len(NAMES)]
    arguments = {"source": write_source(name, number), "anyway": True}
    if (folder / f"{name}.py").exists():
        arguments["replaces"] = name
    peer.begin("tools/call", {"name": "define_action", "arguments": arguments})


def check(folder: Path, told: dict[str, int]) -> Iterator[str]:
    """Every fault that is found."""
    with contextlib.closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger:
        if (said := ledger.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            yield f"the ledger is damaged: {said}"
    with contextlib.closing(FileStore(folder)) as store:
        store.refresh()
        yield from (f"{broken.file} is torn: {broken.problems[0]}" for broken in store.broken())
        entries = {entry.name: entry for entry in store.entries()}
        for entry in entries.values():
            if (folder / f"{entry.name}.py").read_text() != entry.action.source:
                yield f"{entry.name}: its file is not its version {entry.version}"
            if entry.author == "file":
                yield f"{entry.name}: nobody knows who defined version {entry.version}"
            versions = [each.version for each in store.history(entry.name)]
            if versions != list(range(entry.version, 0, -1)):
                yield f"{entry.name}: its versions are {versions[:5]}…"
        for name, version in told.items():
            if name not in entries or entries[name].version < version:
                yield f"{name}: version {version} was acknowledged and is lost"
    if list(folder.glob("*damaged*")):
        yield "a ledger was set aside"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=1000)
    options.add_argument("--servers", type=int, default=30)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    moments = random.Random(given.seed)
    kinds = {"store": (kill_store, given.times), "server": (kill_server, given.servers)}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        told: dict[str, int] = {}
        number = 0
        for kind, (kill, times) in kinds.items():
            seconds = STORE_SECONDS if kind == "store" else LONGER * time_server(folder) if times else 0.0
            acknowledged, before = 0, count_versions(folder)
            kept: list[tuple[float, int]] = []
            for _ in range(times):
                number += 1000
                moment = moments.random() * seconds
                for name, version in kill(folder, number, moment):
                    told[name] = version
                    acknowledged += 1
                faults += (found := [f"{kind}: {fault}" for fault in check(folder, told)])
                for fault in found:
                    print(fault)
                kept.append((moment, count_versions(folder)))
            versions = count_versions(folder) - before
            print(f"{kind:<8} killed {times:>5} times: {versions:>6} versions kept, {acknowledged:>6} acknowledged")
            if kind == "server":
                print_moments(kept, before, seconds)
    print(f"faults: {len(faults)}")
    raise SystemExit(bool(faults))


def print_moments(kept: list[tuple[float, int]], before: int, seconds: float) -> None:
    """Where in a definition the kills fell: by fifths of the time, how many there were and how many were kept.

    Args:
        kept: The moment of each kill, and how many versions there were after it.
    """
    fifths = [[0, 0] for _ in range(5)]
    for moment, versions in kept:
        fifth = fifths[min(4, int(5 * moment / seconds))]
        fifth[0] += 1
        fifth[1] += versions - before
        before = versions
    print(f"         a definition takes {1000 * seconds / LONGER:.0f} ms. Killed in it, and kept:", end="")
    for number, (kills, there) in enumerate(fifths):
        print(f" until {200 * (number + 1) * seconds:.0f} ms {kills}, {there} kept", end=";" if number < 4 else "\n")


def count_versions(folder: Path) -> int:
    with contextlib.closing(FileStore(folder)) as store:
        return sum(entry.version for entry in store.entries())


if __name__ == "__main__":
    main()
