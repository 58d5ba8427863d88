"""The command `dynasaur-mcp`: where it starts, and where every error ends."""

from __future__ import annotations

import errno
import gc
import io
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
    complete_streams()
    try:
        if given[:1] == ["serve"] or (not given and not sys.stdin.isatty() and COMPLETION not in os.environ):
            # Importing makes very many objects and no garbage: looking for some takes a tenth of the time to the first
            # answer. `app.serve` turns it on again.
            gc.disable()
            if sys.platform == "win32":
                raise SettingsError("The server runs on Linux and macOS. On Windows, install and run it in WSL.")
            from dynasaur_mcp.serve import serve

            return serve(given[1:])
        from dynasaur_mcp.commands import run

        return run(given)
    except KeyboardInterrupt:
        return 130
    except (Exception, BaseExceptionGroup) as error:
        # Boundary: what a user can mend is one line on stderr, a bug keeps its traceback.
        causes = list(find_causes(error))
        lines = [explain(cause) for cause in causes]
        if None in lines:
            raise
        sys.stderr.writelines(f"dynasaur-mcp: {line}\n" for line in lines if line)
        if "" in lines:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the end
        return 2 if any(isinstance(cause, SettingsError) for cause in causes) else 1


def complete_streams() -> None:
    """Open the standard streams that the program was started without: other files would take their places.

    What a stream has no characters for is written as an escape.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode))  # noqa: SIM115 - for as long as it runs
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")


def find_causes(error: BaseException) -> Iterator[BaseException]:
    """It, or what task groups hold."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from find_causes(inner)
    else:
        yield error


def explain(error: BaseException) -> str | None:
    """A line for the user; nothing where they have read enough, as `head` does. None of a bug."""
    if isinstance(error, DynasaurError):
        return error.told_by_command()
    if isinstance(error, BrokenPipeError | SystemExit):  # rich makes the second of the first
        return ""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"What is to be written has no room: {error.strerror}."
    return None
