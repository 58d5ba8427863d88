"""A session's first call and its steps: with a worker that waits and without, empty and with 200 MB of state.

    python benchmarks/session.py [--rounds 10] [--steps 30] [--sandboxes docker jail] [--runtimes runsc]

The floor of a first call is create-to-ready: a container of the same kind (or jail), through the docker SDK alone, from
its creation to the first frame of a small program in it. The floor of a step on state is the same step in an empty
session. Both are measured in the same run, in turns.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from call import ADD, TOTAL
from peer import OURS, Peer
from places import Place, add_place_options, read_places
from timing import Row, Turn, check, median, print_rows, take_turns

SETTLE_SECONDS = 1.5
"""Before each first call: in which the worker of the turn before has ended, and a pool has one ready again."""
READY, WARM, COLD, ACTION = (
    "create to ready",
    "first call, a worker waits",
    "first call, none does",
    "the action's first",
)
STEPS_IN_A_ROW = 5
EMPTY = "empty session"
STATES = {
    EMPTY: "x = 0",
    "numpy and pandas imported": "from actions import total",
    "200 MB in a numpy array": "from actions import total; import numpy; data = numpy.ones(25_000_000)",
    "200 MB in a DataFrame": """
from actions import total
import numpy, pandas
data = pandas.DataFrame({f"number {i}": numpy.random.random(1_000_000) for i in range(16)})
data["text"] = [f"row {i}" for i in range(1_000_000)]
""",
}


@contextmanager
def open_ours(place: Place, warm_workers: int) -> Iterator[Peer]:
    options = ["--warm-workers", str(warm_workers), "--timeout-seconds", "300", *place.options]
    with tempfile.TemporaryDirectory() as library, Peer([*OURS, "--library", library, *options]) as peer:
        peer.call("define_action", source=ADD)
        yield peer


def time_ready(place: Place) -> float:
    time.sleep(SETTLE_SECONDS)
    began = time.perf_counter()
    with place.open_bare():
        return time.perf_counter() - began


def time_first(peer: Peer, tool: str, **arguments: object) -> float:
    """Of a new session, which is closed again."""
    time.sleep(SETTLE_SECONDS)
    began = time.perf_counter()
    peer.call(tool, **arguments)
    seconds = time.perf_counter() - began
    peer.call("manage_action", op="close_session", name="default")
    return seconds


def measure_first_calls(places: list[Place], rounds: int) -> list[Row]:
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for place in places:
            warm, cold = (stack.enter_context(open_ours(place, workers)) for workers in (1, 0))
            turns[f"{place.name}: {READY}"] = partial(time_ready, place)
            turns[f"{place.name}: {WARM}"] = partial(time_first, warm, "run_python", code="1+1")
            turns[f"{place.name}: {COLD}"] = partial(time_first, cold, "run_python", code="1+1")
            turns[f"{place.name}: {ACTION}"] = partial(time_first, warm, "add", a=1, b=2)
        times = take_turns(turns, rounds, warm_up=1)
    rows = []
    for name, seconds in times.items():
        where, _, what = name.partition(": ")
        aim = {WARM: "50 ms", COLD: "1.3" if where != "jail" else ""}.get(what, "")
        rows.append(
            Row(
                name,
                seconds,
                median(times[f"{where}: {READY}"]) if what != READY else 0,
                READY if what != READY else "",
                aim,
            )
        )
    return rows


def measure_steps(places: list[Place], steps: int) -> list[Row]:
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for place in places:
            peer = stack.enter_context(open_ours(place, 0))
            peer.call("define_action", source=TOTAL)
            for session, (state, code) in zip("abcd", STATES.items(), strict=True):
                peer.call("run_python", session=session, code=code)
                turns[f"{place.name}: a step, {state}"] = partial(step, peer, session)
        times = take_turns(turns, steps, warm_up=5)
    rows = []
    for name, seconds in times.items():
        empty = f"{name.partition(', ')[0]}, {EMPTY}"
        rows.append(Row(name, seconds, median(times[empty]) if name != empty else 0, EMPTY if name != empty else ""))
    return rows


def step(peer: Peer, session: str) -> float:
    """Of one among several in a row: a fork for the next step is made while nobody waits, but is a part of it."""
    began = time.perf_counter()
    for _ in range(STEPS_IN_A_ROW):
        check("7" in peer.call("run_python", session=session, code="x = 3\nx + 4")["content"][0]["text"])
    return (time.perf_counter() - began) / STEPS_IN_A_ROW


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10, help="first calls of each kind")
    options.add_argument("--steps", type=int, default=30, help=f"of each kind, {STEPS_IN_A_ROW} in a row")
    add_place_options(options)
    given = options.parse_args()
    places = read_places(given)
    print_rows("first call of a new session", measure_first_calls(places, given.rounds))
    print()
    print_rows("a step that commits", measure_steps(places, given.steps))


if __name__ == "__main__":
    main()
