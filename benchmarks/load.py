"""Many HTTP clients at once, each with a request in flight all the time: what is answered, what not, what is left.

    python benchmarks/load.py [--clients 500] [--seconds 600] [--faults none|kill|engine] [--sandbox jail|docker]

Half of the clients speak 2026-07-28, half 2025-11-25 with a session of the protocol. They are spread over
--principals, each with a token, and these over the sessions that the server may have open; the calls of one session
are worked on in turn. Each client asks, at random: 12 times of 20 it calls an action, else runs a step of code,
searches, lists the tools, calls what is not there. Every answer is checked. As all ask again at once, the times are
those of a server that is never idle: clients divided by requests a second.

Faults: `kill` ends one client a second in the middle of its request, as its process being killed does, and another
takes its place; `engine` runs --restart-engine twice.

A call that is answered with a run id, as it has waited for 45 s, is followed by `check_run`. An answer with 429 and
Retry-After is the client's own doing, and followed. While the engine is away, answers that say so are its doing. All
else that is not the right answer is an error.

The time has three parts. After each all clients go, and the sessions of those that were killed are ended, which the
server would do after half an hour; then what the server holds is looked at: a leak grows with each part, what is kept
to be used again does not. Threads are such, and UNIX sockets to the engine: at most 40 of each, as that many work at
once.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import shlex
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from call import ADD
from peer import OURS
from web import ERAS, TOKEN, Answer, Caller, Served, start_http

ANSWER_SECONDS = 120
SETTLE_SECONDS = 60
WARM_UP_SECONDS = 20
PARTS = 3
RETRY_SECONDS = 0.5
"""Until a client whose connection broke connects again."""
STILL_RUNNING = re.compile(r"Still running for \d+ s: run '(\w+)'")
ENGINE_IS_AWAY = re.compile(r"engine|Docker|lost|sandbox|worker|No session named", re.IGNORECASE)


@dataclass
class Record:
    """What came of the requests."""

    seconds: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    orphans: list[Caller] = field(default_factory=list)
    """Clients that were killed, whose sessions of the protocol are open."""


@dataclass
class Load:
    """The clients, and how they ask."""

    port: int
    principals: int
    sessions_each: int
    faults: str
    record: Record = field(default_factory=Record)
    callers: dict[int, Caller] = field(default_factory=dict)
    ends_at: float = 0.0

    async def run(self, clients: int, seconds: float, restart: list[str] | None = None) -> None:
        """All clients for a time, in the middle of which the engine is restarted, if there is a command for that."""
        await self.open_sessions()
        self.ends_at = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(self._be_client(number))
            if self.faults == "kill":
                tasks.create_task(self._kill(clients))
            if restart:
                tasks.create_task(self._restart(seconds / 2, restart))
        await self.close_sessions()

    def caller(self, number: int) -> Caller:
        return Caller(self.port, ERAS[number % 2], f"{TOKEN}-{number // 2 % self.principals}")

    async def _be_client(self, number: int) -> None:
        choose = random.Random(number)
        while time.monotonic() < self.ends_at:
            self.callers[number] = caller = self.caller(number)
            try:
                if (refused := await caller.open()) is not None:
                    await self._wait_as_told(refused, "initialize")
                while not refused and time.monotonic() < self.ends_at and self.callers[number] is caller:
                    await self._ask(caller, choose, f"s{number // (2 * self.principals) % self.sessions_each}")
                await caller.close()
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                if caller in self.record.orphans:
                    continue
                self.record.wrong[f"{type(error).__name__}: {error}"[:100]] += 1
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                caller.abort()

    async def _ask(self, caller: Caller, choose: random.Random, session: str) -> None:
        a = choose.randrange(1000)
        kind = choose.choice(["action"] * 12 + ["code"] * 3 + ["search", "search", "list", "unknown", "wrong"])
        add = {"name": "add", "arguments": {"a": a, "b": 1}, "session": session}
        cases: dict[str, tuple[str, dict[str, Any], str]] = {
            "action": ("execute_action", add, str(a + 1)),
            "code": ("run_python", {"code": f"{a} + 1", "session": session}, str(a + 1)),
            "search": ("search_actions", {"query": "add two numbers"}, "add(a: int"),
            "list": ("", {}, "run_python"),
            "unknown": ("execute_action", add | {"name": "ad"}, "Did you"),
            "wrong": ("execute_action", add | {"arguments": {"a": "x"}}, "'b' is missing"),
        }
        tool, arguments, holds = cases[kind]
        began = time.perf_counter()
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await (caller.call(tool, **arguments) if tool else caller.request("tools/list", {}))
            while run := STILL_RUNNING.search(answer.body.decode()):
                self.record.counts["handed over"] += 1
                answer = await caller.call("check_run", run=run[1], wait_seconds=30)
        self.record.counts["requests"] += 1
        text = answer.body.decode()
        if answer.status == 200 and holds in text and ('"isError":true' in text) == (kind in ("unknown", "wrong")):
            self.record.counts["answered"] += 1
            self.record.seconds.append(time.perf_counter() - began)
        else:
            await self._wait_as_told(answer, kind)

    async def _wait_as_told(self, answer: Answer, what: str) -> None:
        text = answer.body.decode()
        if answer.status == 429 and "retry-after" in answer.headers:
            self.record.counts["429"] += 1
            await asyncio.sleep(int(answer.headers["retry-after"]))
        elif self.faults == "engine" and answer.status == 200 and ENGINE_IS_AWAY.search(text):
            self.record.counts["engine away"] += 1
            await asyncio.sleep(RETRY_SECONDS)
        else:
            self.record.wrong[f"{what}: {answer.status} {text[-300:].strip()}"] += 1

    async def _kill(self, clients: int) -> None:
        choose = random.Random(0)
        while time.monotonic() < self.ends_at - 2:
            await asyncio.sleep(1)
            caller = self.callers[choose.randrange(clients)]
            if caller.session is None and caller.era != ERAS[0]:
                continue  # it is shaking hands: nobody could end the session that it is about to have
            self.record.orphans.append(caller)
            self.record.counts["killed"] += 1
            caller.abort()

    async def _restart(self, after_seconds: float, command: list[str]) -> None:
        await asyncio.sleep(after_seconds)
        restarted = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        if await restarted.wait():
            raise SystemExit("the engine could not be restarted")
        self.record.counts["restarts"] += 1

    async def open_sessions(self) -> None:
        for number in range(self.principals):
            caller = self.caller(2 * number)
            for session in range(self.sessions_each):
                await caller.call("run_python", code="", session=f"s{session}")
            caller.abort()

    async def close_sessions(self) -> None:
        """Those of the sandbox, and of the protocol what killed clients left."""
        while self.record.orphans:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.record.orphans.pop().close()
        for number in range(self.principals):
            caller = self.caller(2 * number)
            for session in range(self.sessions_each):
                await caller.call("manage_action", name=f"s{session}", op="close_session")
            caller.abort()


async def warm_up(load: Load, clients: int) -> None:
    """With as many clients: what so many take for good, such as memory, is no leak."""
    caller = load.caller(0)
    defined = await caller.call("define_action", source=ADD)
    if "'add'" not in defined.body.decode():
        raise SystemExit(f"not defined: {defined.body.decode()}")
    caller.abort()
    await load.run(clients, WARM_UP_SECONDS)
    if load.record.wrong:
        raise SystemExit(f"wrong: {load.record.wrong}")


LEFT = ["descriptors", "tasks", "requests open", "sessions", "processes or containers"]
KEPT = ["UNIX sockets", "threads", "memory MiB"]
"""What may be more for good than it was at first."""


def look(served: Served, sandbox: str) -> dict[str, float]:
    """What the server has and holds."""
    headers = {"Authorization": f"Bearer {TOKEN}-0", "Connection": "close"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{served.port}/metrics", headers=headers), timeout=ANSWER_SECONDS
    ) as answer:
        told = answer.read().decode()
    process = psutil.Process(served.pid)
    if sandbox == "docker":
        workers = len(subprocess.check_output(["docker", "ps", "-q", "--filter", "label=dynasaur-mcp.server"]).split())
    else:
        workers = len(process.children())

    def gauge(name: str) -> float:
        (value,) = re.findall(rf"^dynasaur_{name} (\S+)$", told, re.MULTILINE)
        return float(value)

    unix = len(process.net_connections("unix"))
    held = [process.num_fds() - unix, gauge("tasks"), gauge("http_requests_open"), gauge("sessions"), workers]
    held += [unix, process.num_threads(), process.memory_info().rss / (1 << 20)]
    return dict(zip([*LEFT, *KEPT], held, strict=True))


def wait_until_settled(served: Served, sandbox: str, wanted: dict[str, float] | None) -> dict[str, float]:
    """Once nothing is open; and until no more is held than before, or for as long as that may take."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        held = look(served, sandbox)
        most = wanted or {"requests open": 1, "sessions": 0}
        if all(held[name] <= most[name] for name in most if name not in KEPT):
            break
        time.sleep(0.5)
    return held


def print_record(record: Record, seconds: float) -> None:
    times = sorted(record.seconds)
    cuts = [statistics.quantiles(times, n=100)[at - 1] for at in (50, 95, 99)] if len(times) > 1 else [0.0] * 3
    counts = record.counts
    faults = [
        f"{name} {counts[name]:,}" for name in ("killed", "restarts", "engine away", "handed over") if counts[name]
    ]
    names = f"{'requests':>9} {'answered':>9} {'429':>6} {'errors':>7} {'1/s':>6}"
    print(f"{names} {'p50 s':>7} {'p95 s':>7} {'p99 s':>7}  faults")
    print(
        f"{counts['requests']:>9,} {counts['answered']:>9,} {counts['429']:>6,} {record.wrong.total():>7,} "
        f"{counts['answered'] / seconds:>6.0f} {cuts[0]:>7.2f} {cuts[1]:>7.2f} {cuts[2]:>7.2f}  {', '.join(faults)}"
    )
    for what, often in record.wrong.most_common(10):
        print(f"  {often:>6} x {what}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--faults", choices=["none", "kill", "engine"], default="none")
    options.add_argument("--sandbox", choices=["jail", "docker"], default="jail")
    options.add_argument("--principals", type=int, default=4)
    options.add_argument("--requests-each", type=int, default=512, help="open at once of one principal; less: some 429")
    options.add_argument("--restart-engine", help="command that restarts the engine and returns once it answers")
    given = options.parse_args()
    if given.faults == "engine" and not given.restart_engine:
        options.error("--faults engine needs --restart-engine")

    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder, "tokens")
        tokens.write_text("".join(f"p{number} {TOKEN}-{number}\n" for number in range(given.principals)))
        settings: dict[str, Any] = {"library": f"{folder}/library", "sandbox": given.sandbox, "token_file": tokens}
        settings |= {"transport": "http", "port": 0, "requests_each": given.requests_each}
        with Path(folder, "log").open("wb") as log, start_http(OURS, settings, log) as served:
            sessions_each = 16 // given.principals
            asyncio.run(warm_up(Load(served.port, given.principals, sessions_each, "none"), given.clients))
            held = [wait_until_settled(served, given.sandbox, None)]
            load = Load(served.port, given.principals, sessions_each, given.faults)
            for part in range(PARTS):
                restart = shlex.split(given.restart_engine) if given.faults == "engine" and part < 2 else None
                asyncio.run(load.run(given.clients, given.seconds / PARTS, restart))
                held.append(wait_until_settled(served, given.sandbox, held[0]))
        print(f"{given.clients} clients for {given.seconds:.0f} s, faults: {given.faults}, sandbox: {given.sandbox}")
        print_record(load.record, given.seconds)
        print(f"load average of the last 5 minutes: {os.getloadavg()[1]:.1f}, processors: {os.cpu_count()}")
        print(f"\n{'held by the server':<24} {'before':>8}" + "".join(f" {f'part {n + 1}':>8}" for n in range(PARTS)))
        for name in (*LEFT, *KEPT):
            print(f"{name:<24}" + "".join(f" {one[name]:>8.0f}" for one in held))
        told = Path(folder, "log").read_text()
        errors = re.findall(r"^ERROR.*", told, re.MULTILINE)
        print(f"\nin its log: {told.count('Traceback')} tracebacks, {len(errors)} errors")
        for line in list(dict.fromkeys(errors))[:5]:
            print(f"  {line[:200]}")


if __name__ == "__main__":
    main()
