"""Listing ten thousand exposed actions over stdio, against the transfer of the same bytes alone.

    python benchmarks/listing.py [--actions 10000] [--rounds 10]

The floor is a process that writes the same answers, made before, as soon as it has read a request: no MCP, no work.
Beside it stands the bare low-level server of the SDK with those answers ready made: what the SDK costs by itself. All
page alike, and take turns. Nobody parses what comes: that is the client's time.

A list is first made when it is first asked for, and again when the library has changed: both are timed too, the second
after one new version of one action.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import PaginatedRequestParams
from peer import OURS, Peer
from synthetic import fill_library
from timing import Row, check, median, print_rows, take_turns

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status

Page = tuple[bytes, bytes]
"""A request for it, and the answer, as lines."""


def list_all(peer: Peer) -> list[Page]:
    """All pages, each asked for as the one before says."""
    pages: list[Page] = []
    cursor = None
    while True:
        request = {"jsonrpc": "2.0", "id": len(pages), "method": "tools/list", "params": {}}
        if cursor:
            request["params"] = {"cursor": cursor}
        line = json.dumps(request).encode() + b"\n"
        pages.append((line, peer.exchange(line)))
        cursor = json.loads(pages[-1][1])["result"].get("nextCursor")
        if cursor is None:
            return pages


def serve_raw(pages: list[Page]) -> None:
    answers = dict(pages)
    while line := sys.stdin.buffer.readline():
        answer = answers.get(line)
        if answer is None and "id" in json.loads(line):
            answer = json.dumps({"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": {}}).encode() + b"\n"
        sys.stdout.buffer.write(answer or b"")
        sys.stdout.buffer.flush()


async def serve_bare(pages: list[Page]) -> None:
    answers: dict[str | None, dict[str, Any]]
    answers = {json.loads(line)["params"].get("cursor"): json.loads(answer)["result"] for line, answer in pages}

    async def list_tools(_context: object, params: PaginatedRequestParams) -> dict[str, Any]:
        return answers[params.cursor]

    server = Server("bare")
    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def change(library: Path) -> None:
    """Pin or unpin the first action, and so end the library's revision."""
    with closing(FileStore(library)) as store:
        first = store.entries("", 1, Status.ACTIVE)[0]
        store.set_pinned(first.name, not first.pinned)


def transfer(peer: Peer, pages: list[Page]) -> None:
    for request, answer in pages:
        check(len(peer.exchange(request)) == len(answer))


def measure(library: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Bytes of the whole list, and seconds of each way to get it."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        ours = stack.enter_context(Peer([*OURS, "--library", str(library), "--expose", "all"]))
        pages: list[Page] = []
        first = take_turns({"first": lambda: pages.extend(list_all(ours))}, 1)["first"]
        recorded = Path(temporary, "pages")
        recorded.write_bytes(pickle.dumps(pages))
        peers = {
            name: stack.enter_context(Peer([sys.executable, __file__, "--serve", name, "--pages", str(recorded)]))
            for name in SERVERS
        }
        turns = {name: partial(transfer, peer, pages) for name, peer in peers.items()}
        times = take_turns({**turns, "ours": lambda: transfer(ours, pages)}, rounds, warm_up=1)

        def list_changed() -> float:
            change(library)
            began = time.perf_counter()
            list_all(ours)
            return time.perf_counter() - began

        changed = take_turns({"changed": list_changed}, 3)
        return sum(len(answer) for _, answer in pages), {**times, "first": first, **changed}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--actions", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options.add_argument("--pages", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        SERVERS[given.serve](pickle.loads(given.pages.read_bytes()))
        return
    with tempfile.TemporaryDirectory() as library:
        fill_library(Path(library), given.actions)
        size, times = measure(Path(library), given.rounds)
    raw = median(times["raw"])
    print_rows(
        f"a list of {given.actions:,} tools, {size / 1e6:.1f} MB",
        [
            Row("the same bytes alone", times["raw"]),
            Row("bare low-level server, answers ready", times["bare"], raw, "the bytes"),
            Row("ours, from the second time on", times["ours"], raw, "the bytes", "2"),
            Row("ours, the first time", times["first"], raw, "the bytes"),
            Row("ours, after a change", times["changed"], raw, "the bytes"),
        ],
    )


SERVERS: dict[str, Callable[[list[Page]], None]] = {
    "raw": serve_raw,
    "bare": lambda pages: anyio.run(serve_bare, pages),
}

if __name__ == "__main__":
    main()
