"""Sessions that all call at once: calls a second, what each costs the server, and the memory of each session.

    python benchmarks/throughput.py [--sessions 1 8 32] [--seconds 3] [--sandboxes docker jail] [--runtimes runsc]

The floor is the same number of containers (or jails) without us, each asked anew as soon as it has answered: a frame
in, a fork, its answer out. A second one forks from a process that has pydantic imported, which every call of ours needs
and no fork comes free of. Ours are measured twice: by `execute_action` in this process, which is all of us but MCP,
and over stdio, where the SDK's own cost (a bare echo tool is in the table) comes on top.

Memory is that of the host: the proportional share of every process of a worker, what holds it from outside (bubblewrap,
containerd's shim) included.

Where the time goes: processor time of one call, in the server, in the workers' supervisors (or the bare program, which
forks itself), in what forks (zygotes), and in the forks. What is left of the cores is the client's and the kernel's.
"""

import argparse
import os
import select
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
from call import ADD
from peer import BARE, OURS, Peer
from places import Bare, Place, add_place_options, ask, cpu_of, memory_of, read_places
from timing import check

from dynasaur_mcp.app import open_app
from dynasaur_mcp.check import check_action
from dynasaur_mcp.execute import execute_action
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.types import Status

REQUEST = b'{"a": 1, "b": 2}'
WARM_UP_CALLS = 5
"""Of each session."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a measurement came to."""

    per_second: float
    bytes_each: float | None = None
    cpu_ms: tuple[float | None, ...] = ()
    """Of one call: server, supervisor, zygotes, forks."""


def measure_bare(place: Place, sessions: int, seconds: float, *, with_pydantic: bool) -> Rate:
    with ExitStack() as stack:
        opened = (place.open_bare(with_pydantic=with_pydantic) for _ in range(sessions))
        bares: list[Bare] = [stack.enter_context(bare) for bare in opened]
        for bare in bares * WARM_UP_CALLS:
            ask(bare)
        calls = 0
        before = _workers_cpu(place, [bare.id for bare in bares])
        began = time.perf_counter()
        for bare in bares:
            bare.send(REQUEST)
        while (elapsed := time.perf_counter() - began) < seconds:
            for bare in select.select(bares, [], [])[0]:
                check(bare.receive() == b'{"value": 3}')
                bare.send(REQUEST)
                calls += 1
        for bare in bares:
            bare.receive()
        after = _workers_cpu(place, [bare.id for bare in bares])
        return Rate(
            calls / elapsed, _mean(memory_of(place, bare.id) for bare in bares), (None, *_each(before, after, calls))
        )


async def measure_app(place: Place, sessions: int, seconds: float, library: Path) -> Rate:
    settings = read_settings(
        library=library,
        sandbox=place.sandbox,
        docker_runtime=place.runtime,
        sessions=sessions + 1,
        warm_workers=0,
    )
    async with open_app(settings) as app:
        calls = 0
        ends_at = 0.0

        async def call(principal: str) -> None:
            outcome = await execute_action(
                app.store.get("add"),
                {"a": 1, "b": 2},
                principal=principal,
                session=None,
                store=app.store,
                pool=app.pool,
                on_output=lambda _stream, _text: None,
            )
            check(outcome.value == 3)

        async def keep_calling(principal: str) -> None:
            nonlocal calls
            while time.perf_counter() < ends_at:
                await call(principal)
                calls += 1

        action = read_action(ADD)
        found = await check_action(action, app.store.get, app.pool)
        app.store.put(
            action,
            author="bench",
            tests=found.tests,
            schemas=found.schemas,
            status=Status.ACTIVE,
            expected_version=0,
        )
        principals = [f"principal{number}" for number in range(sessions)]
        for principal in principals * WARM_UP_CALLS:
            await call(principal)
        workers = [held.worker for held in await app.pool.held()]
        before = _workers_cpu(place, workers)
        began, used = time.perf_counter(), time.process_time()
        ends_at = began + seconds
        async with anyio.create_task_group() as tasks:
            for principal in principals:
                tasks.start_soon(keep_calling, principal)
        elapsed, cpu = time.perf_counter() - began, time.process_time() - used
        after = _workers_cpu(place, workers)
        return Rate(
            calls / elapsed,
            _mean(memory_of(place, worker) for worker in workers),
            (cpu / calls * 1000, *_each(before, after, calls)),
        )


def measure_stdio(place: Place, sessions: int, seconds: float, library: Path) -> Rate:
    options = ["--library", str(library), "--sessions", str(sessions + 1), "--warm-workers", "0", *place.options]
    with Peer([*OURS, *options]) as peer:
        for name in (names := [f"s{number}" for number in range(sessions)]):
            peer.call("run_python", session=name, code="1")
            for _ in range(WARM_UP_CALLS):
                peer.call("execute_action", name="add", arguments={"a": 1, "b": 2}, session=name)
        return _keep_calling(
            peer,
            [("execute_action", {"name": "add", "arguments": {"a": 1, "b": 2}, "session": name}) for name in names],
            seconds,
        )


def measure_echo(sessions: int, seconds: float) -> Rate:
    with Peer(BARE) as peer:
        peer.call("echo", text="3")
        return _keep_calling(peer, [("echo", {"text": "3"})] * sessions, seconds)


def _keep_calling(peer: Peer, turns: Iterable[tuple[str, dict[str, object]]], seconds: float) -> Rate:
    """Each of the turns again as soon as it is answered."""
    under_way = {peer.begin("tools/call", {"name": tool, "arguments": given}): (tool, given) for tool, given in turns}
    calls, used, began = 0, peer.cpu_seconds(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        number, result = peer.next_result()
        check(not result.get("isError") and "3" in result["content"][0]["text"])
        tool, given = under_way.pop(number)
        under_way[peer.begin("tools/call", {"name": tool, "arguments": given})] = (tool, given)
        calls += 1
    cpu = peer.cpu_seconds() - used
    for _ in under_way:
        peer.next_result()
    return Rate(calls / elapsed, cpu_ms=(cpu / calls * 1000,))


def _workers_cpu(place: Place, workers: Iterable[str]) -> list[float] | None:
    """Of all of them, as `cpu_of`."""
    each = [cpu_of(place, worker) for worker in workers]
    return None if None in each else [sum(seconds) for seconds in zip(*filter(None, each), strict=True)]


def _each(before: list[float] | None, after: list[float] | None, calls: int) -> tuple[float | None, ...]:
    """Milliseconds a call."""
    if before is None or after is None:
        return ()
    return tuple((late - early) / calls * 1000 for early, late in zip(before, after, strict=True))


def _mean(values: Iterable[int | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else sum(filter(None, known)) / len(known)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sessions", type=int, nargs="*", default=[1, 8, 32])
    options.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    add_place_options(options)
    given = options.parse_args()
    parts = " ".join(f"{part:>10}" for part in ("server ms", "supervisor", "zygotes", "forks"))
    print(f"{'calls at once':<26} {'calls/s':>8} {'per core':>8} {'of bare':>8} {'MB each':>8} {parts}")
    for sessions in given.sessions:
        _print(f"{sessions} bare echo tool", measure_echo(sessions, given.seconds), None)
    for place in read_places(given):
        for sessions in given.sessions:
            with tempfile.TemporaryDirectory() as library:
                bare = measure_bare(place, sessions, given.seconds, with_pydantic=False)
                _print(f"{sessions} {place.name}: bare fork", bare, None)
                heavier = measure_bare(place, sessions, given.seconds, with_pydantic=True)
                _print(f"{sessions} {place.name}: with pydantic", heavier, bare)
                ours = anyio.run(measure_app, place, sessions, given.seconds, Path(library))
                _print(f"{sessions} {place.name}: in process", ours, bare)
                _print(
                    f"{sessions} {place.name}: stdio",
                    measure_stdio(place, sessions, given.seconds, Path(library)),
                    bare,
                )


def _print(name: str, rate: Rate, bare: Rate | None) -> None:
    cores = len(os.sched_getaffinity(0))
    share = f"{rate.per_second / bare.per_second:.0%}" if bare else ""
    parts = " ".join(f"{ms:>10.2f}" if ms is not None else " " * 10 for ms in rate.cpu_ms)
    memory = f"{rate.bytes_each / 1e6:.1f}" if rate.bytes_each is not None else ""
    print(
        f"{name:<26} {rate.per_second:>8.0f} {rate.per_second / cores:>8.0f} {share:>8} {memory:>8} {parts}",
        flush=True,
    )


if __name__ == "__main__":
    main()
