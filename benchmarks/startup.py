"""Process start to the first `tools/list` answered, against a bare low-level server in the same run.

    python benchmarks/startup.py [--rounds 15] [--actions 1000]

The servers take turns, so that what else the machine does weighs on all alike; medians are compared.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from peer import BARE, OURS, Peer
from timing import median, percentile_95

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Schemas, Status, Tests

VERBS = ("count", "find", "sum_up", "convert", "split", "merge", "rank", "check", "clean", "compare")
NOUNS = ("orders", "prices", "dates", "words", "rows", "invoices", "links", "names", "sensors", "routes")

SOURCE = '''"""Kept by a client."""

from collections import Counter

LIMIT = {number}


def {name}(values: list[str], smallest: int = 1) -> dict[str, int]:
    """{title} in a list of {noun}, leaving out what is rare.

    Args:
        values: One text for each of the {noun}.
        smallest: How often a value must be there to be kept.

    Examples:
        >>> {name}(["a", "b", "a"], smallest=2)
        {{'a': 2}}
    """
    counted = Counter(values[: LIMIT + 1000])
    return {{value: count for value, count in counted.items() if count >= smallest}}
'''

SCHEMAS = Schemas(
    input={
        "type": "object",
        "properties": {
            "values": {"type": "array", "items": {"type": "string"}, "description": "One text for each."},
            "smallest": {"type": "integer", "default": 1, "description": "How often a value must be there to be kept."},
        },
        "required": ["values"],
    },
    output={"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}},
    wraps_result=False,
)


def fill_library(folder: Path, size: int) -> None:
    """A library of that many active, tested actions."""
    store = FileStore(folder)
    names = (f"{verb}_{noun}_{number}" for number in itertools.count() for verb in VERBS for noun in NOUNS)
    for number, name in enumerate(itertools.islice(names, size)):
        title = name.rsplit("_", 1)[0].replace("_", " ").capitalize()
        source = SOURCE.format(name=name, title=title, noun=name.split("_")[-2], number=number)
        store.put(
            read_action(source),
            author="bench",
            tests=Tests(passed=1),
            schemas=SCHEMAS,
            status=Status.ACTIVE,
            expected_version=0,
        )
    store.close()


def time_start(command: list[str]) -> tuple[float, int]:
    """Seconds until the list is there, and how many tools are on it."""
    began = time.perf_counter()
    with Peer(command) as peer:
        tools = peer.request("tools/list")["tools"]
        return time.perf_counter() - began, len(tools)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--actions", type=int, default=1000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        empty, full = Path(temporary, "empty"), Path(temporary, "full")
        fill_library(full, given.actions)
        servers = {
            "bare low-level server, 1 tool": BARE,
            "dynasaur-mcp, empty library": [*OURS, "--library", str(empty)],
            f"dynasaur-mcp, {given.actions:,} actions": [*OURS, "--library", str(full)],
        }
        for command in servers.values():  # byte code, file cache, and the library's own caches
            time_start(command)
        times: dict[str, list[float]] = {name: [] for name in servers}
        listed: dict[str, int] = {}
        for _ in range(given.rounds):
            for name, command in servers.items():
                took, listed[name] = time_start(command)
                times[name].append(took)
    bare = median(times["bare low-level server, 1 tool"])
    print(f"{'process start to first tools/list':<36} {'tools':>5} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>6}")
    for name, seconds in times.items():
        here = median(seconds)
        print(f"{name:<36} {listed[name]:>5} {here:>8.0f} {percentile_95(seconds):>8.0f} {here / bare:>6.2f}")


if __name__ == "__main__":
    main()
