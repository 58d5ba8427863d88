"""The part of a job that is no job's own, done on nothing of the user's, so that a fork finds its ways worn in.

A fork copies each page that it writes to, and counting references writes to most that it touches; copying is what a
call mostly costs. Rehearsed in the template, code is specialised and names are cached before any fork: a quarter
fewer pages are left. Rehearsed in a fork that waits for its job, most of these are copied while nobody waits: until it
has been learnt which they are (`pages`).
"""

from __future__ import annotations

from dynasaur_mcp.sandbox.wire import decode_json, encode_frame
from dynasaur_mcp.sandbox.worker.harden import heed_interrupt, set_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rehearse_beginning() -> dict[str, Any]:
    """What a job is told, in about such words."""
    heed_interrupt(False)
    set_readable(False)
    message: dict[str, Any]
    message, _ = decode_json('{"op": "rehearsal", "text": "text", "number": 1}')
    return message


def rehearse_end(done: dict[str, Any]) -> None:
    """
    Raises:
        RuntimeError: it would have failed, which it can only where user code has seen to that.
    """
    if done["ending"] != "returned":
        raise RuntimeError(done["error"])
    encode_frame({"done": done})
