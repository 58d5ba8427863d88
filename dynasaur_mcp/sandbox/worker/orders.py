"""What the supervisor tells processes that fork on request: see `forker`."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORK, FORK_AHEAD, PROVE, SHOW, HIDE = b"F", b"A", b"P", b"S", b"H"
DESCRIPTORS = Struct("3i")
"""What comes along with the first three: a job's own socket, its stdout, its stderr."""
MAKE_READY: dict[str, Any] = {}
"""What a fork made ahead is sent while nobody needs the processor."""
PROOF = {"ready": True}
"""What a fork made to PROVE it says, once it has done all that a job does but run the user's code."""
NO_ROOM = 1
"""In place of the pid of a fork: none could be made, as there are as many processes as there may be."""
