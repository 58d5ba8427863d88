"""`python -m dynasaur_mcp.sandbox.worker LIMITS`: pid 1 of a sandbox, speaking frames on stdin and stdout.

LIMITS is a JSON object: the fields of `Limits`, and where the kernel does not do it, `limit_processes`, `uid` (give up
root for it) and `own_uid` (keep it as the supervisor's real one).
"""

from __future__ import annotations

import json
import os
import sys

from dynasaur_mcp.sandbox.worker.harden import harden_supervisor
from dynasaur_mcp.sandbox.worker.supervisor import Supervisor


def main() -> None:
    limits = json.loads(sys.argv[1])
    harden_supervisor(limits)
    os.chdir("/workspace")
    # The frames keep private descriptors; 0 and 1 become /dev/null and stderr before anything else runs.
    frames_in, frames_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    Supervisor(frames_in, frames_out, limits).serve()


main()
