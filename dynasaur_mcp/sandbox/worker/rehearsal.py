"""What a call and a step do, done on nothing of the user's, so that a fork finds the ways of its interpreter worn in.

A fork copies each page that it writes to, and counting references writes to most that it touches; copying is what a
call mostly costs. Rehearsed in the template, code is specialised and names are cached before any fork: a quarter
fewer pages are left. Rehearsed in a fork that waits for its job, most of these are copied while nobody waits.
"""

from __future__ import annotations

import json
import random
import signal

from dynasaur_mcp.sandbox.wire import encode_frame
from dynasaur_mcp.sandbox.worker.calls import call
from dynasaur_mcp.sandbox.worker.harden import set_readable
from dynasaur_mcp.sandbox.worker.schemas import Signature
from dynasaur_mcp.sandbox.worker.steps import execute

_TIMES = 9
"""After eight calls CPython 3.11 specialises a function."""


def _nothing(text: str, number: int = 0) -> str:
    return text[number:]


_signature = Signature(_nothing)


def rehearse_call() -> None:
    random.seed()
    _rehearse_job()
    _say(call(_signature, json.loads('{"text": "text", "number": 1}')))


def rehearse_step() -> None:
    # Without `random`, whose numbers are the session's.
    _rehearse_job()
    _say(execute("0", "<nothing>", {}))


def wear_in() -> None:
    """In the template."""
    for _ in range(_TIMES):
        rehearse_call()
        rehearse_step()


def _rehearse_job() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_readable(False)


def _say(done: dict[str, object]) -> None:
    encode_frame({"done": done})
