"""One warm call over stdio: actions and code, in each sandbox, against the least that it could cost.

    python benchmarks/call.py [--calls 200] [--sandboxes docker jail] [--runtimes runsc]

The floor of a sandbox is the bare echo tool of an MCP server that does nothing else, plus a bare fork: a frame into the
same kind of container (or jail), a fork there, and its answer back, with none of our code. All of it is measured in the
same run, in turns, so that what else the machine does weighs on all alike.

`docker exec` is `python3 -c` in a running container, through the engine's API: no time goes into starting a command.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import docker
from peer import BARE, OURS, Peer
from places import IMAGE, Place, add_place_options, ask, read_places
from timing import Row, Turn, check, median, print_rows, take_turns

ADD = '''def add(a: int, b: int) -> int:
    """Add two numbers.

    Examples:
        >>> add(1, 2)
        3
    """
    return a + b
'''
TOTAL = '''# /// script
# dependencies = ["pandas>=2"]
# ///
import pandas as pd


def total(values: list[int]) -> int:
    """Add numbers up.

    Examples:
        >>> total([1, 2])
        3
    """
    return int(pd.Series(values).sum())
'''
WARM_UP = 20
EXEC = "docker exec python3 -c"


@contextmanager
def open_exec() -> Iterator[Turn]:
    engine = docker.from_env()
    container = engine.containers.run(
        IMAGE, ["infinity"], entrypoint=["sleep"], network_mode="none", init=True, detach=True
    )
    try:
        yield lambda: check(container.exec_run(["python3", "-c", "print(1 + 2)"]).output == b"3\n")
    finally:
        container.remove(force=True)
        engine.close()


@contextmanager
def open_ours(place: Place, pandas: bool) -> Iterator[dict[str, Turn]]:
    """Our server on that sandbox, and its turns by what they call."""
    with tempfile.TemporaryDirectory() as library, Peer([*OURS, "--library", library, *place.options]) as peer:
        peer.call("define_action", source=ADD)
        turns: dict[str, Turn] = {
            "action": lambda: check(peer.call("add", a=1, b=2)["structuredContent"] == {"result": 3}),
            "run_python('1+1')": lambda: check("2" in peer.call("run_python", code="1+1")["content"][0]["text"]),
        }
        if pandas:
            peer.call("define_action", source=TOTAL)
            turns["pandas action"] = lambda: check(
                peer.call("total", values=[1, 2])["structuredContent"] == {"result": 3}
            )
        yield turns


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=200)
    options.add_argument("--no-pandas", action="store_true", help="where no package index is reachable")
    add_place_options(options)
    given = options.parse_args()
    places = read_places(given)
    with ExitStack() as stack:
        echo = stack.enter_context(Peer(BARE))
        turns: dict[str, Turn] = {
            "bare echo tool": lambda: check(echo.call("echo", text="3")["content"][0]["text"] == "3")
        }
        for place in places:
            bare = stack.enter_context(place.open_bare())
            turns[f"{place.name}: bare fork"] = partial(ask, bare)
        ours = {place: stack.enter_context(open_ours(place, not given.no_pandas)) for place in places}
        # By what is called, then by place: no server is called twice in a row, so none still clears up after a call.
        for name in ours[places[0]]:
            for place in places:
                turns[f"{place.name}: {name}"] = ours[place][name]
        if "docker" in given.sandboxes:
            turns[EXEC] = stack.enter_context(open_exec())
        times = take_turns(turns, given.calls, warm_up=WARM_UP, every={EXEC: 10})
    print_rows(
        "one warm call over stdio", [_row(name, times) for name in sorted(times, key=lambda n: n.partition(": ")[0])]
    )


def _row(name: str, times: dict[str, list[float]]) -> Row:
    place, _, what = name.partition(": ")
    if what in ("", "bare fork"):
        return Row(name, times[name])
    if what == "action":
        floor = median(times["bare echo tool"]) + median(times[f"{place}: bare fork"])
        return Row(name, times[name], floor, "echo + bare fork", "1.5")
    aim = "1" if what.startswith("run_python") else "2"
    return Row(name, times[name], median(times[f"{place}: action"]), "the action", aim)


if __name__ == "__main__":
    main()
