"""pid 1 of a sandbox: runs jobs in forks, holds them to their limits, ends what they leave behind.

It never runs user code.

Requests (one at a time; `cancel` may come in between):
    {"id", "op": "step", "branch", "code", "sources", "folders", "seconds"}
    {"id", "op": "call", "branch", "key", "action", "arguments", "seconds"[, "sources", "folders"]}
    {"id", "op": "check", "action", "sources", "folders", "seconds"}
    {"id", "op": "files", "branch", "do", "path", …, "seconds"}, see `files`
    {"id", "op": "fork", "branch", "as", "seconds"}, {"id", "op": "drop" | "measure", "branch"}
    {"id", "op": "ping"}
    {"op": "cancel", "id"}
and, while a request is under way, frames of connections to the outside, both ways: see `wire`.
Answers: {"ready": pid} once, then for each request {"id", "stream": "stdout" | "stderr", "text"} … and
{"id", "done": {…}}.
A `call` whose key it does not know, sent without sources, is answered {"done": {"ending": "unknown"}}; a request whose
folders of packages are not all there, {"done": {"ending": "gone"}}.

A worker has one session, and those that were forked from it: each a branch, with an interpreter and a workspace of its
own. Branch 0 is there from the start; a number is never used again.

The template is a fork with pydantic imported that has run nothing; every other process descends from it:

    supervisor ── template ─┬─ interpreter of a session ── its next step (which replaces it, or dies)
                            └─ zygote of an action ── one fork a call
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any

from dynasaur_mcp.sandbox.sets import HeldSets
from dynasaur_mcp.sandbox.wire import FrameReader, encode_frame
from dynasaur_mcp.sandbox.worker import problems
from dynasaur_mcp.sandbox.worker.harden import expendable_forks
from dynasaur_mcp.sandbox.worker.jobs import Forker, Job, LostError
from dynasaur_mcp.sandbox.worker.relay import Relay
from dynasaur_mcp.sandbox.worker.template import become_template
from dynasaur_mcp.sandbox.worker.usage import (
    INODE_BYTES,
    ON_GVISOR,
    count_files,
    kill_strays,
    memory_of,
    uses_more_than,
)
from dynasaur_mcp.sandbox.worker.workspaces import Workspaces

MAX_KNOWN_ACTIONS = 512
MAX_ZYGOTES = 48
MAX_SPARES = 4
"""Forks that wait for their job."""
SPARE_BYTES = 16 << 20
"""What one of them may own beyond what it was forked with, and not be counted."""
BURIAL_SECONDS = 1.0
LOOK_SECONDS = 0.25
"""Between two looks, while no request is there, for what threads and signal handlers of a session may do by then."""
MOST_LOOKS_OVER = 3 if ON_GVISOR else 1
"""In a row, at which memory is over its limit, before all is ended: gVisor gives back late what was ended."""
ZYGOTE_MEMORY_SHARE = 0.25
"""Of the memory limit; past it the least recently used zygote goes."""
NAMES_MEMORY_SHARE = 0.25
"""Of the memory limit, for the files there may be, whatever is in them; there must be some left to remove them."""


class Supervisor:
    """Serves one server over two descriptors until the first ends."""

    def __init__(self, frames_in: int, frames_out: int, limits: dict[str, Any]) -> None:
        self._in = frames_in
        self._out = frames_out
        self._limits = limits
        self._relay: Relay | None = None
        if limits["network"]:
            self._relay = Relay(self._write, limits["open_files"])
            # Before the template, which everything that connects descends from.
            self._relay.set_environment(limits["network"])
            problems.hosts = tuple(limits["network"])
        self._reader = FrameReader()
        self._waiting: collections.deque[dict[str, Any]] = collections.deque()
        self._template: Forker | None = None
        self._sessions: dict[int, Forker] = {}
        self._workspaces = Workspaces()
        self._sets = HeldSets()
        self._leaving: list[Forker] = []
        self._spares: collections.OrderedDict[Forker, Job] = collections.OrderedDict()
        self._used_last: Forker | None = None
        self._steps = 0
        self._looks_over = 0
        self._names_before = 0
        """How many files there were when the last job began."""
        self._zygotes: collections.OrderedDict[str, Forker] = collections.OrderedDict()
        self._known: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()
        self._answer: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "step": self._step,
            "call": self._call,
            "check": self._run_aside,
            "files": self._files,
            "fork": self._fork,
            "drop": self._drop,
            "measure": self._measure,
            "ping": lambda _: {"ending": "returned"},
        }

    def serve(self) -> None:
        self._template = self._start_template()
        self._send({"ready": os.getpid()})
        while True:
            request = self._next_request()
            if request["op"] == "cancel":
                continue
            done = self._answer[request["op"]](request) if self._has_packages(request) else {"ending": "gone"}
            if self._relay:
                # Before the answer: after it the server has nobody to carry for.
                self._relay.stop()
            self._send({"id": request["id"], "done": done})
            # After the answer, before the next request: nobody waits for the end of what is over.
            self._sweep()
            self._fork_ahead()

    def _has_packages(self, request: dict[str, Any]) -> bool:
        """Whether all folders that it needs are there; they then stay for as long as this worker does."""
        needs = request if "folders" in request else self._known.get(request.get("key", ""), {})
        return all(self._sets.hold(folder) for folder in needs.get("folders", ()))

    def _step(self, request: dict[str, Any]) -> dict[str, Any]:
        branch = request["branch"]
        self._activate(branch)
        session = self._sessions.get(branch)
        if session:
            session.show()
        payload = {**request, "keep": True, "number": self._steps + 1}
        done, job = self._run(session or self._fork_base(), payload, request)
        in_place = job is not None and job.in_place
        commits = job is not None and done["ending"] in ("returned", "raised") and not done.get("overran")
        if job and commits:
            self._sessions[branch] = self._used_last = job.forker
            self._steps += 1
        elif job:
            self._dismiss(job.forker)
        if session and commits and in_place:
            self._let_go(session)
        elif session and (commits or in_place or not session.hide()):
            self._dismiss(session)
            if not commits:
                del self._sessions[branch]
                done["session_lost"] = True
        return done

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        self._activate(request["branch"])
        key = request["key"]
        if "sources" in request:
            self._known[key] = {name: request[name] for name in ("action", "sources", "folders")}
            if len(self._known) > MAX_KNOWN_ACTIONS:
                self._known.popitem(last=False)
        if key not in self._known:
            return {"ending": "unknown"}
        self._known.move_to_end(key)
        zygote = self._zygotes.get(key)
        if zygote is None or not zygote.is_alive():
            if zygote:
                self._dismiss(self._zygotes.pop(key))
            done, child = self._run(self._fork_base(), {"op": "load", "keep": True, **self._known[key]}, request)
            if not child or done["ending"] != "returned" or done.get("overran"):
                if child:
                    self._dismiss(child.forker)
                return done
            zygote = self._zygotes[key] = child.forker
            self._evict_zygotes()
        self._zygotes.move_to_end(key)
        payload = {"op": "call", "arguments": request["arguments"]}
        self._used_last = zygote
        done, child = self._run(zygote, payload, request)
        if child and child.in_place and done["ending"] == "returned":
            self._let_go(zygote)
            self._zygotes[key] = child.forker
        elif child:
            self._dismiss(child.forker)
        return done

    def _files(self, request: dict[str, Any]) -> dict[str, Any]:
        self._activate(request["branch"])
        return self._run_aside(request)

    def _run_aside(self, request: dict[str, Any]) -> dict[str, Any]:
        """A job of its own, in a process that has run nothing before and nothing after."""
        done, child = self._run(self._fork_base(), request, request)
        if child:
            self._dismiss(child.forker)
        return done

    def _fork(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a branch: a copy of the workspace, then a fork of the interpreter that finds itself there."""
        branch, copy = request["branch"], request["as"]
        self._activate(branch)
        try:
            target = self._workspaces.make(copy)
        except OSError as error:
            return {"ending": "raised", "error": f"there is no room for its files: {error.strerror}."}
        done = self._work_aside({"op": "copy", "target": target}, request)
        session = self._sessions.get(branch)
        if done["ending"] == "returned" and session:
            # The session that is to fork must be awake for it, so this is no `_activate`.
            self._workspaces.activate(copy)
            payload = {"op": "move", "before": self._workspaces.place_of(branch), "keep": True}
            done, job = self._run(session, payload, request)
            if job and job.in_place:
                self._let_go(session)
                self._sessions[branch] = job.forker
                done = {"ending": "raised", "error": "it keeps threads running, which no copy would have."}
            elif job and done["ending"] == "returned":
                self._sessions[copy] = job.forker
            elif job:
                self._dismiss(job.forker)
            self._workspaces.activate(branch)
        if done["ending"] != "returned":
            self._work_aside({"op": "remove", "target": target}, request)
        return done

    def _drop(self, request: dict[str, Any]) -> dict[str, Any]:
        """End a branch; there is another."""
        branch = request["branch"]
        if session := self._sessions.pop(branch, None):
            self._dismiss(session)
        if branch == self._workspaces.active:
            self._activate(request["other"])
        return self._work_aside({"op": "remove", "target": self._workspaces.place_of(branch)}, request)

    def _work_aside(self, payload: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """A job on the files of a branch that is not active."""
        with self._workspaces.opened():
            done, job = self._run(self._fork_base(), payload, request)
        if job:
            self._dismiss(job.forker)
        return done

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        session = self._sessions.get(request["branch"])
        return {"ending": "returned", "bytes": memory_of(session.pid) if session else 0}

    def _activate(self, branch: int) -> None:
        """Let /workspace be a branch's. The others stand still meanwhile: threads of theirs would work in its files."""
        before = self._workspaces.active
        if branch == before:
            return
        if before in self._sessions:
            self._sessions[before].process.signal(signal.SIGSTOP)
        self._workspaces.activate(branch)
        if branch in self._sessions:
            self._sessions[branch].process.signal(signal.SIGCONT)

    def _run(self, base: Forker, payload: dict[str, Any], request: dict[str, Any]) -> tuple[dict[str, Any], Job | None]:
        """See a job through in a fork of `base`; without a Job when the fork itself was lost."""
        try:
            job = self._spares.pop(base, None)
            if job is None or not job.forker.is_alive():
                if job:
                    self._dismiss_spare(job)
                job = base.fork(self._spared())
            assert job
        except LostError as error:
            self._dismiss(base)
            return {"ending": "lost", "error": str(error)}, None
        self._names_before = count_files()
        job.start(payload)
        job.watch(
            seconds=request["seconds"],
            grace_seconds=self._limits["grace_seconds"],
            output_bytes=self._limits["output_bytes"],
            on_output=lambda stream, text: self._send({"id": request["id"], "stream": stream, "text": text}),
            requests=self._in,
            is_cancelled=lambda: self._is_cancelled(request["id"]),
            uses_too_much=self._uses_too_much,
            relay=self._relay if request["op"] in ("step", "call") else None,
        )
        return job.done, job

    # The processes

    def _fork_base(self) -> Forker:
        if self._template is None or not self._template.is_alive():
            if self._template:
                self._dismiss(self._template)
            self._template = self._start_template()
        return self._template

    def _start_template(self) -> Forker:
        ours, theirs = socket.socketpair()
        with expendable_forks():
            pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                ours.close()
                os.closerange(3, theirs.fileno())
                os.closerange(theirs.fileno() + 1, self._limits["open_files"])
            become_template(theirs, self._limits["memory_bytes"])
        theirs.close()
        return Forker(pid, ours)

    def _spared(self) -> set[int]:
        return self._idle() | {forker.pid for forker in self._forkers()}

    def _forkers(self) -> list[Forker]:
        return [forker for forker in (self._template, *self._sessions.values(), *self._zygotes.values()) if forker]

    def _idle(self) -> set[int]:
        return {1, os.getpid(), *(job.forker.pid for job in self._spares.values())}

    def _uses_too_much(self) -> bool:
        # Removing files must be possible also for one who has too many.
        names = count_files()
        if names > self._names_before and names * INODE_BYTES > self._limits["memory_bytes"] * NAMES_MEMORY_SHARE:
            return True
        shared_bytes = memory_of(self._template.pid) if self._template else 0
        return uses_more_than(self._limits["memory_bytes"], shared_bytes, self._uncounted())

    def _uncounted(self) -> set[int]:
        """Forks that wait share what they have with whom they were forked from; user code may change that."""
        grown = {
            job.forker.pid
            for base, job in self._spares.items()
            if memory_of(job.forker.pid) > memory_of(base.pid) + SPARE_BYTES
        }
        return self._idle() - grown

    def _fork_ahead(self) -> None:
        """Have a fork waiting for the next job of what was used last: it is then spared the time of a fork."""
        base, self._used_last = self._used_last, None
        if base is None or base in self._spares or not base.is_alive():
            return
        try:
            job = base.fork(self._spared(), ahead=True)
        except LostError:
            self._dismiss(base)
            return
        if job:
            self._spares[base] = job
        if len(self._spares) > MAX_SPARES:
            self._dismiss_spare(self._spares.popitem(last=False)[1])

    def _dismiss_spare(self, job: Job) -> None:
        job.close_output()
        self._dismiss(job.forker)

    def _dismiss(self, forker: Forker) -> None:
        forker.kill()
        self._leaving.append(forker)
        if spare := self._spares.pop(forker, None):
            self._dismiss_spare(spare)

    def _let_go(self, forker: Forker) -> None:
        """Of a process that goes on, under a socket of its last job."""
        forker.control.close()
        self._leaving.append(forker)

    def _sweep(self) -> None:
        spared = self._spared()
        for forker in self._leaving:
            forker.process.close(0 if forker.pid in spared else BURIAL_SECONDS)
        self._leaving.clear()
        self._end_strays()
        asleep = [forker for branch, forker in self._sessions.items() if branch != self._workspaces.active]
        for forker in (*self._forkers(), *(job.forker for job in self._spares.values())):
            if forker in asleep:
                continue
            # What was over may have stopped them; a stopped one would cost the next request FORK_SECONDS.
            forker.process.signal(signal.SIGCONT)
        for key in [key for key, zygote in self._zygotes.items() if not zygote.is_alive()]:
            self._dismiss(self._zygotes.pop(key))

    def _end_strays(self) -> None:
        if not kill_strays(self._spared()):
            # What cannot be ended takes the worker with it: pid 1 going ends every process of the sandbox.
            os._exit(3)

    def _look(self) -> None:
        """Nothing may be started or outgrow the limit between requests either."""
        if not (self._sessions or self._zygotes):
            return
        self._end_strays()
        self._looks_over = self._looks_over + 1 if self._uses_too_much() else 0
        if self._looks_over == MOST_LOOKS_OVER:
            for forker in self._forkers():
                forker.kill()

    def _evict_zygotes(self) -> None:
        cap = self._limits["memory_bytes"] * ZYGOTE_MEMORY_SHARE
        most = min(MAX_ZYGOTES, self._limits["processes"] // 3)
        # About half of what a fork shares it comes to own, as counting references writes to it. Measured: 7.8 of 14 MB.
        shared = memory_of(self._fork_base().pid) // 2
        while len(self._zygotes) > 1 and (
            len(self._zygotes) > most or sum(memory_of(z.pid) - shared for z in self._zygotes.values()) > cap
        ):
            self._dismiss(self._zygotes.popitem(last=False)[1])

    # The frames

    def _send(self, message: dict[str, Any]) -> None:
        self._write(encode_frame(message))

    def _write(self, frame: bytes) -> None:
        data = memoryview(frame)
        while data:
            data = data[os.write(self._out, data) :]

    def _read(self) -> None:
        data = os.read(self._in, 1 << 16)
        if not data:
            os._exit(0)
        for message in self._reader.feed(data):
            if "net" not in message:
                self._waiting.append(message)
            elif self._relay:
                self._relay.take(message)

    def _next_request(self) -> dict[str, Any]:
        while not self._waiting:
            if select.select([self._in], [], [], LOOK_SECONDS)[0]:
                self._read()
            else:
                self._look()
        return self._waiting.popleft()

    def _is_cancelled(self, identifier: int) -> bool:
        """Read what has come; whether it cancels this request. Later requests wait."""
        while select.select([self._in], [], [], 0)[0]:
            self._read()
        cancelled = any(m["op"] == "cancel" and m["id"] == identifier for m in self._waiting)
        self._waiting = collections.deque(m for m in self._waiting if m["op"] != "cancel")
        return cancelled
