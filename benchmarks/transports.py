"""A trivial action over stdio and HTTP, against the echo of a bare low-level server over the same transport.

    python benchmarks/transports.py [--in-flight 1 8 32] [--seconds 3] [--rounds 3] [--sandbox docker|jail]

Both servers are asked by the same client, in turns, so that what else the machine does weighs on both alike. So many
requests are under way at once, and each is followed by the next; the action's calls are spread over as many sessions,
16 at most, as those of one session are worked on in turn.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from call import ADD
from peer import BARE, OURS, Peer
from timing import check, median, percentile_95
from web import ERAS, TOKEN, Caller, start_http

MOST_SESSIONS = 16


@dataclass
class Times:
    """Of calls that were under way together."""

    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.elapsed


@dataclass(frozen=True, slots=True)
class Asked:
    """What is called, and how the right answer looks."""

    tool: str
    arguments: Callable[[int], dict[str, Any]]
    holds: str


ECHO = Asked("echo", lambda _: {"text": "3"}, '"3"')
ACTION = Asked(
    "execute_action",
    lambda number: {"name": "add", "arguments": {"a": 1, "b": 2}, "session": f"s{number % MOST_SESSIONS}"},
    "3",
)
Measure = Callable[[int, float, Times], None]


@contextmanager
def open_stdio(command: list[str], asked: Asked) -> Iterator[Measure]:
    with Peer(command) as peer:
        if asked is ACTION:
            prepare(lambda tool, **arguments: peer.call(tool, **arguments))

        def measure(in_flight: int, seconds: float, times: Times) -> None:
            began: dict[int, tuple[int, float]] = {}

            def begin(number: int) -> None:
                arguments = asked.arguments(number)
                began[peer.begin("tools/call", {"name": asked.tool, "arguments": arguments})] = (
                    number,
                    time.perf_counter(),
                )

            start = time.perf_counter()
            for number in range(in_flight):
                begin(number)
            while began:
                request, result = peer.next_result()
                number, since = began.pop(request)
                times.seconds.append(time.perf_counter() - since)
                check("3" in result["content"][0]["text"] and not result.get("isError"))
                if time.perf_counter() - start < seconds:
                    begin(number)
            times.elapsed += time.perf_counter() - start

        yield measure


@contextmanager
def open_http(command: list[str], asked: Asked, era: str, settings: dict[str, Any]) -> Iterator[Measure]:
    with start_http(command, settings) as served, asyncio.Runner() as runner:

        async def call(caller: Caller, number: int) -> None:
            answer = await caller.call(asked.tool, **asked.arguments(number))
            text = answer.body.decode()
            check(answer.status == 200 and asked.holds in text and '"isError":true' not in text)

        async def ask(number: int, seconds: float, times: Times) -> None:
            caller = Caller(served.port, era)
            await caller.open()
            start = time.perf_counter()
            while (since := time.perf_counter()) - start < seconds:
                await call(caller, number)
                times.seconds.append(time.perf_counter() - since)
            await caller.close()

        async def ask_all(in_flight: int, seconds: float, times: Times) -> None:
            start = time.perf_counter()
            await asyncio.gather(*(ask(number, seconds, times) for number in range(in_flight)))
            times.elapsed += time.perf_counter() - start

        if asked is ACTION:
            caller = Caller(served.port, ERAS[0])
            prepare(lambda tool, **arguments: runner.run(caller.call(tool, **arguments)))
            caller.abort()
        yield lambda in_flight, seconds, times: runner.run(ask_all(in_flight, seconds, times))


def prepare(call: Callable[..., Any]) -> None:
    """Define the action, and open all sessions."""
    call("define_action", source=ADD)
    for number in range(MOST_SESSIONS):
        call("run_python", code="", session=f"s{number}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--in-flight", nargs="*", type=int, default=[1, 8, 32])
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--sandbox", choices=["docker", "jail"], default="jail")
    given = options.parse_args()

    head = f"{'p50 ms':>8} {'p95 ms':>8}"
    print(f"{'over':<16} {'in flight':>9} {'echo/s':>8} {head} {'action/s':>9} {head}")
    for transport in ["stdio", *(f"HTTP {era}" for era in ERAS)]:
        with tempfile.TemporaryDirectory() as folder:
            ours = [*OURS, "--sandbox", given.sandbox, "--library", folder]
            if transport == "stdio":
                both = open_stdio(BARE, ECHO), open_stdio(ours, ACTION)
            else:
                era = transport.removeprefix("HTTP ")
                settings = {"transport": "http", "port": 0, "token": TOKEN}
                both = open_http([*BARE, "--http"], ECHO, era, settings), open_http(ours, ACTION, era, settings)
            with both[0] as echo, both[1] as action:
                for in_flight in given.in_flight:
                    times = Times(), Times()
                    for measure in (echo, action):  # not counted: first calls
                        measure(in_flight, 0.5, Times())
                    for _ in range(given.rounds):
                        echo(in_flight, given.seconds, times[0])
                        action(in_flight, given.seconds, times[1])
                    columns = [
                        f"{one.per_second:>{width}.0f} {median(one.seconds):>8.2f} {percentile_95(one.seconds):>8.2f}"
                        for one, width in zip(times, (8, 9), strict=True)
                    ]
                    print(f"{transport:<16} {in_flight:>9} {' '.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
