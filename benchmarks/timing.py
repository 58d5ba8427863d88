"""Taking turns, and the table of what came of it."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Turn = Callable[[], float | None]
"""Does one of what is timed; gives its own seconds where not all of it counts."""


def take_turns(
    turns: Mapping[str, Turn], rounds: int, *, warm_up: int = 0, every: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Seconds of each turn. All take turns, so that what else the machine does weighs on all alike.

    Args:
        every: Slow ones, whose median settles soon, and in how many rounds each has one turn.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(warm_up + rounds):
        for name, turn in turns.items():
            if number % (every or {}).get(name, 1):
                continue
            began = time.perf_counter()
            told = turn()
            seconds = time.perf_counter() - began if told is None else told
            if number >= warm_up:
                times[name].append(seconds)
    return times


def median(seconds: Sequence[float]) -> float:
    """In milliseconds."""
    return statistics.median(seconds) * 1000


def percentile_95(seconds: Sequence[float]) -> float:
    """In milliseconds."""
    return statistics.quantiles(seconds, n=20)[-1] * 1000 if len(seconds) > 1 else seconds[0] * 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table of times."""

    name: str
    seconds: Sequence[float]
    floor: float = 0.0
    """In milliseconds; 0 where there is none."""
    of: str = ""
    """What the floor is."""
    aim: str = ""


def print_rows(title: str, rows: Sequence[Row]) -> None:
    widest = max(len(title), *(len(row.name) for row in rows))
    print(f"{title:<{widest}} {'n':>5} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>7}  to")
    for row in rows:
        here = median(row.seconds)
        ratio = f"{here / row.floor:.2f} x" if row.floor else ""
        to = f"{row.of}{f' (aim {row.aim})' if row.aim else ''}"
        times = f"{len(row.seconds):>5} {here:>8.2f} {percentile_95(row.seconds):>8.2f}"
        print(f"{row.name:<{widest}} {times} {ratio:>7}  {to}".rstrip())


def check(true: bool) -> None:
    """Of an answer: what is fast and wrong does not count."""
    if not true:
        raise SystemExit("a wrong answer")
