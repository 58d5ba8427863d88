"""A trivial action called over stdio, warm, against a bare echo tool and `docker exec python3 -c` in the same run.

    python benchmarks/call.py [--calls 300] [--sandboxes docker jail]

All take turns, so that what else the machine does weighs on all alike.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
from peer import BARE, OURS, Peer, median, percentile_95

from dynasaur_mcp.sandbox.image import image_tag
from dynasaur_mcp.settings import read_settings

ADD = '''def add(a: int, b: int) -> int:
    """Add two numbers.

    Examples:
        >>> add(1, 2)
        3
    """
    return a + b
'''
WARM_UP = 20
EXEC_EVERY = 10
"""A turn of `docker exec` for so many of the others: it is slow, and its median settles soon."""


@contextlib.contextmanager
def open_exec() -> Iterator[Callable[[], None]]:
    """`docker exec … python3 -c` in a running container of the workers' image, through the engine's API: no time goes
    into starting the `docker` command."""
    engine = docker.from_env()
    container = engine.containers.run(
        read_settings().image or image_tag(),
        ["infinity"],
        entrypoint=["sleep"],
        network_mode="none",
        init=True,
        detach=True,
    )
    try:
        yield lambda: _check(container.exec_run(["python3", "-c", "print(1 + 2)"]).output == b"3\n")
    finally:
        container.remove(force=True)
        engine.close()


def _check(true: bool) -> None:
    if not true:
        raise SystemExit("a wrong answer")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--sandboxes", nargs="*", default=["docker", "jail"], choices=["docker", "jail"])
    given = options.parse_args()
    with contextlib.ExitStack() as stack:
        turns: dict[str, Callable[[], None]] = {}
        bare = stack.enter_context(Peer(BARE))
        turns["bare echo tool"] = lambda: _check(bare.call("echo", text="3")["content"][0]["text"] == "3")
        for sandbox in given.sandboxes:
            library = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            peer = stack.enter_context(Peer([*OURS, "--library", str(library), "--sandbox", sandbox]))
            peer.call("define_action", source=ADD)
            turns[f"action, {sandbox}"] = lambda peer=peer: _check(
                peer.call("add", a=1, b=2)["structuredContent"] == {"result": 3}
            )
        if "docker" in given.sandboxes:
            turns["docker exec python3 -c"] = stack.enter_context(open_exec())
        times: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(WARM_UP + given.calls):
            for name, turn in turns.items():
                if name.startswith("docker exec") and number % EXEC_EVERY:
                    continue
                began = time.perf_counter()
                turn()
                if number >= WARM_UP:
                    times[name].append(time.perf_counter() - began)
    echo = median(times["bare echo tool"])
    slow = median(times.get("docker exec python3 -c", [0.0]))
    print(
        f"{'one warm call over stdio':<26} {'p50 ms':>8} {'p95 ms':>8} {'over echo ms':>13} {'exec is slower by':>18}"
    )
    for name, seconds in times.items():
        here = median(seconds)
        ratio = f"{slow / here:.1f} x" if slow else "-"
        print(f"{name:<26} {here:>8.2f} {percentile_95(seconds):>8.2f} {here - echo:>13.2f} {ratio:>18}")


if __name__ == "__main__":
    main()
