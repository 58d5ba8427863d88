"""The command `dynasaur-mcp`: where it starts, and where every error ends."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator, Sequence

from dynasaur_mcp.errors import DynasaurError, SettingsError

COMPLETION = "_DYNASAUR_MCP_COMPLETE"
"""Set by a shell that asks how a command can go on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["serve"] or (not given and not sys.stdin.isatty() and COMPLETION not in os.environ):
            # Importing makes very many objects and no garbage: looking for some takes a tenth of the time to the first
            # answer. `app.serve` turns it on again.
            gc.disable()
            from dynasaur_mcp.serve import serve

            return serve(given[1:])
        from dynasaur_mcp.commands import run

        return run(given)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write(f"dynasaur-mcp: What is to be written has no room: {error.strerror}.\n")
        return 1
    except Exception as error:  # boundary: ours become one line on stderr, a bug keeps its traceback
        ours = list(find_our_errors(error))
        if not ours:
            raise
        for one in ours:
            sys.stderr.write(f"dynasaur-mcp: {one}\n")
        return 2 if any(isinstance(one, SettingsError) for one in ours) else 1


def find_our_errors(error: BaseException) -> Iterator[DynasaurError]:
    """The errors with a message for the user, also from within task groups; nothing when any other is among them."""
    if isinstance(error, DynasaurError):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        found = [list(find_our_errors(inner)) for inner in error.exceptions]
        if all(found):
            for some in found:
                yield from some
