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
"""

from __future__ import annotations

import collections
import os
import signal

from dynasaur_mcp.sandbox.sets import HeldSets
from dynasaur_mcp.sandbox.worker.jobs import Forker, FullError, HungError, Job, LostError
from dynasaur_mcp.sandbox.worker.processes import Processes
from dynasaur_mcp.sandbox.worker.usage import ON_GVISOR, count_files, memory_of
from dynasaur_mcp.sandbox.worker.workspaces import Workspaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from dynasaur_mcp.sandbox.worker.frames import Frames

MAX_KNOWN_ACTIONS = 512
SESSIONS_PART = 4
"""One in so many of the processes that there may be can be a session: each takes a fork to go on."""
CHECKER = ""
"""Among the zygotes; no action's key."""


class Supervisor:
    """Serves one server over its frames until they end."""

    def __init__(self, frames: Frames, limits: dict[str, Any], template: tuple[int, socket]) -> None:
        """
        Args:
            template: As `start_template` gives it, not for calls.
        """
        self._limits = limits
        self._frames = frames
        self._processes = Processes(limits, Forker(*template))
        self._sessions, self._zygotes = self._processes.sessions, self._processes.zygotes
        self._workspaces = Workspaces()
        self._sets = HeldSets()
        self._used_last: Forker | None = None
        self._steps = 0
        self._taken_back: set[int] = set()
        """Branches whose last step is undone, as nothing could be run after it; until they have been told."""
        self._has_checked = False
        self._known: collections.OrderedDict[str, dict[str, Any]] = collections.OrderedDict()
        self._answer: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "step": self._step,
            "call": self._call,
            "check": self._check,
            "files": self._files,
            "fork": self._fork,
            "drop": self._drop,
            "measure": self._measure,
            "ping": lambda _: {"ending": "returned"},
        }

    def serve(self) -> None:
        # Ready is who has done its imports: the server lets so many workers start at once, no more.
        self._processes.fork_ahead(self._processes.template())
        self._frames.send({"ready": os.getpid()})
        while True:
            request = self._frames.next_request(self._processes.prepare, self._processes.look)
            try:
                done = self._answer[request["op"]](request) if self._has_packages(request) else {"ending": "gone"}
            except FullError:
                done = {"ending": "full"}
            if self._frames.relay:
                # Before the answer: after it the server has nobody to carry for.
                self._frames.relay.stop()
            self._frames.send({"id": request["id"], "done": done})
            # After the answer, before the next request: nobody waits for the end of what is over.
            self._processes.sweep([s for branch, s in self._sessions.items() if branch != self._workspaces.active])
            if (branch := self._processes.prove()) is not None:
                self._taken_back.add(branch)
            base, self._used_last = self._used_last, None
            self._processes.fork_ahead(base)

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
        done, job = self._run(session or self._processes.template(), payload, request)
        if branch in self._taken_back:
            self._taken_back.remove(branch)
            done["taken_back"] = True
        has_copies = bool(self._sessions.keys() - {branch})
        if job and has_copies and not (job.in_place or self._processes.have_room_without(session)):
            # Copies of a session have grown apart. Kept, it would leave none of them room for another step.
            done |= {"ending": "memory", "overran": True}
        if job and done["ending"] in ("returned", "raised") and not done.get("overran"):
            self._steps += 1
            if session and job.in_place:
                self._processes.let_go(session)
                self._sessions[branch] = job.forker
            else:
                self._processes.replace_session(branch, job.forker)
            return done
        if job:
            self._processes.dismiss(job.forker)
        if session and ((job and job.in_place) or not session.hide()):
            self._processes.dismiss(session)
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
                self._processes.dismiss(self._zygotes.pop(key))
            payload = {"op": "load", "keep": True, **self._known[key]}
            done, child = self._run(self._processes.template_of_calls(), payload, request)
            if not child or done["ending"] != "returned" or done.get("overran"):
                if child:
                    self._processes.dismiss(child.forker)
                return done
            zygote = self._zygotes[key] = child.forker
            self._processes.evict_zygotes()
        self._zygotes.move_to_end(key)
        self._used_last = zygote
        done, child = self._run(zygote, {"op": "call", "arguments": request["arguments"]}, request)
        if child and child.in_place and done["ending"] == "returned":
            self._processes.let_go(zygote)
            self._zygotes[key] = child.forker
        elif child:
            self._processes.dismiss(child.forker)
        return done

    def _files(self, request: dict[str, Any]) -> dict[str, Any]:
        self._activate(request["branch"])
        return self._run_aside(self._processes.template(), request)

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        """A check, which says whether the worker is as it was before: no process of it lives, and no file is left."""
        before = count_files()
        done = self._run_aside(self._find_checker(request), request)
        self._processes.sweep([])
        # gVisor does not count them.
        return {**done, "as_new": not ON_GVISOR and count_files() == before}

    def _find_checker(self, request: dict[str, Any]) -> Forker:
        """What to fork a check from: from the second on, what has all imported that a check needs, and has run nothing.

        That import takes longer than most checks. The template has no part in it, as every call would carry it.
        """
        template = self._processes.template_of_calls()
        if not self._has_checked:
            self._has_checked = True
            return template
        checker = self._zygotes.get(CHECKER)
        if checker is None or not checker.is_alive():
            if checker:
                self._processes.dismiss(self._zygotes.pop(CHECKER))
            done, job = self._run(template, {"op": "learn", "keep": True}, request)
            if job is None or done["ending"] != "returned" or job.in_place:
                if job:
                    self._processes.dismiss(job.forker)
                return template
            checker = self._zygotes[CHECKER] = job.forker
        return checker

    def _run_aside(self, template: Forker, request: dict[str, Any]) -> dict[str, Any]:
        """A job of its own, in a process that has run nothing before and nothing after."""
        done, child = self._run(template, request, request)
        if child:
            self._processes.dismiss(child.forker)
        return done

    def _fork(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a branch: a copy of the workspace, then a fork of the interpreter that finds itself there."""
        branch, copy = request["branch"], request["as"]
        if (there := len(self._sessions)) >= self._limits["processes"] // SESSIONS_PART:
            return {"ending": "raised", "error": f"its worker has {there} sessions, and room for no more"}
        self._activate(branch)
        session = self._sessions.get(branch)
        if session and not self._processes.have_room_for_copy(session):
            needs = f"its variables take {memory_of(session.pid) >> 20} MiB, and a copy could come to need as many more"
            return {"ending": "raised", "error": f"{needs}; its worker has {self._limits['memory_bytes'] >> 20} MiB."}
        try:
            target = self._workspaces.make(copy)
        except OSError as error:
            return {"ending": "raised", "error": f"there is no room for its files: {error.strerror}."}
        done = self._work_aside({"op": "copy", "target": target}, request)
        if done["ending"] == "returned" and session:
            # The session that is to fork must be awake for it, so this is no `_activate`.
            self._workspaces.activate(copy)
            payload = {"op": "move", "before": self._workspaces.place_of(branch), "keep": True}
            done, job = self._run(session, payload, request)
            if job and job.in_place:
                self._processes.let_go(session)
                self._sessions[branch] = job.forker
                done = {"ending": "raised", "error": "it keeps threads running, which no copy would have."}
            elif job and done["ending"] == "returned":
                self._sessions[copy] = job.forker
            elif job:
                self._processes.dismiss(job.forker)
            self._workspaces.activate(branch)
        if done["ending"] != "returned":
            self._work_aside({"op": "remove", "target": target}, request)
        elif branch in self._taken_back:
            self._taken_back.add(copy)
        return done

    def _drop(self, request: dict[str, Any]) -> dict[str, Any]:
        """End a branch; there is another."""
        branch = request["branch"]
        if session := self._sessions.pop(branch, None):
            self._processes.dismiss(session)
        if branch == self._workspaces.active:
            self._activate(request["other"])
        return self._work_aside({"op": "remove", "target": self._workspaces.place_of(branch)}, request)

    def _work_aside(self, payload: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """A job on the files of a branch that is not active."""
        with self._workspaces.opened():
            done, job = self._run(self._processes.template(), payload, request)
        if job:
            self._processes.dismiss(job.forker)
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
            job = self._processes.begin_job(base)
        except HungError:
            return {"ending": "hung"}, None
        except LostError as error:
            return {"ending": "lost", "error": str(error)}, None
        except FullError:
            return {"ending": "full"}, None
        job.start(payload)
        job.watch(
            seconds=request["seconds"],
            grace_seconds=self._limits["grace_seconds"],
            output_bytes=self._limits["output_bytes"],
            on_output=lambda stream, text: self._frames.send({"id": request["id"], "stream": stream, "text": text}),
            requests=self._frames.incoming,
            is_cancelled=lambda: self._frames.is_cancelled(request["id"]),
            uses_too_much=self._processes.use_too_much,
            relay=self._frames.relay if request["op"] in ("step", "call") else None,
        )
        if payload.get("keep") or job.in_place:
            job.forker.rest()
        return job.done, job
