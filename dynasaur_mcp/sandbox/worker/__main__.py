"""`python -m dynasaur_mcp.sandbox.worker LIMITS`: pid 1 of a sandbox, speaking frames on stdin and stdout.

LIMITS is a JSON object: the fields of `Limits`, and where the kernel does not do it, `limit_processes`, `uid` (give up
root for it) and `own_uid` (keep it as the supervisor's real one).
"""

from __future__ import annotations

import gc
import json
import os
import sys

from dynasaur_mcp.sandbox.worker.frames import Frames
from dynasaur_mcp.sandbox.worker.harden import descriptors_end, harden_supervisor
from dynasaur_mcp.sandbox.worker.template import start_template


def main() -> None:
    # Until all is imported, which stays: looking for garbage in it would only take time.
    gc.disable()
    limits = json.loads(sys.argv[1])
    harden_supervisor(limits)
    os.chdir("/workspace")
    # The frames keep private descriptors; 0 and 1 become /dev/null and stderr before anything else runs.
    frames = Frames(os.dup(0), os.dup(1))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    if limits["network"]:
        from dynasaur_mcp.sandbox.worker.relay import Relay

        frames.relay = relay = Relay(frames.write, descriptors_end())
        # Before the templates, which everything that connects descends from.
        relay.set_environment(limits["network"])
    template = start_template(limits, for_calls=False)
    # While the template does its own imports.
    from dynasaur_mcp.sandbox.worker.supervisor import Supervisor

    supervisor = Supervisor(frames, limits, template)
    gc.freeze()
    gc.enable()
    supervisor.serve()


main()
