"""uv: requirements -> versions, and versions -> a folder.

From wheels only: unpacking one runs nothing of it, so no code of theirs ever runs with the server's rights.
"""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import uv

from dynasaur_mcp.errors import RequirementsInvalid, SandboxUnavailable
from dynasaur_mcp.sandbox.requirements import explain, explain_refusal
from dynasaur_mcp.types import Problem

logger = logging.getLogger(__name__)

INSTALL_SECONDS = 600.0
"""For each of the two; gigabytes take a while."""
NO_SPACE = "There is no space left for packages: make room, or let `dynasaur-mcp gc` do it."

_REFUSED = 1
"""uv's exit status when a set does not resolve; 2 is everything else."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where wheels are to run."""

    python_version: str
    """`3.12`"""
    platform: str | None = None
    """As uv names it, such as `x86_64-manylinux_2_36`; None for the interpreter that runs this."""

    @property
    def tag(self) -> str:
        """A name for it."""
        return f"cpython-{self.python_version}-{self.platform or sysconfig.get_platform()}"


async def resolve_versions(asked: dict[str, str], target: Target) -> tuple[str, ...]:
    """The version of each package that a set needs, as `name==version`, sorted.

    Args:
        asked: As `read_requirements` gives them.

    Raises:
        RequirementsInvalid: they do not resolve; names those to blame.
        SandboxUnavailable: uv could not do its work: no network, no space, too slow.
    """
    words = ["compile", "--no-header", "--no-annotate", "-"]
    done = await _run_uv(words, tuple(asked), target, data="\n".join(asked).encode())
    if done.returncode == _REFUSED:
        where = f"Python {target.python_version} on {target.platform or sysconfig.get_platform()}"
        raise explain_refusal(done.stderr.decode(errors="replace"), asked, where)
    lines = (line.strip() for line in done.stdout.decode().splitlines())
    # The index that they come from may stand among them, as an option.
    return tuple(sorted(line for line in lines if line and not line.startswith("-")))


async def install_wheels(versions: Sequence[str], folder: Path, target: Target) -> None:
    """Unpack just these into a folder.

    Raises:
        RequirementsInvalid: one of them is no longer there.
        SandboxUnavailable: uv could not do its work: no network, no space, too slow.
    """
    words = ["install", "--no-deps", "--target", str(folder), "--link-mode", "copy", "--", *versions]
    done = await _run_uv(words, versions, target)
    if done.returncode == _REFUSED:
        gone = f"{explain(done.stderr.decode(errors='replace'))} `dynasaur-mcp gc --packages` has versions chosen anew"
        raise RequirementsInvalid([Problem(gone)])


async def _run_uv(
    words: Sequence[str], wanted: Sequence[str], target: Target, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    command = [
        uv.find_uv_bin(), "pip", words[0], "--quiet", "--no-progress", "--color", "never",
        "--python", sys.executable, "--no-python-downloads", "--only-binary", ":all:",
        "--python-version", target.python_version, *(("--python-platform", target.platform) if target.platform else ()),
        *words[1:],
    ]  # fmt: skip
    named = ", ".join(wanted[:10]) + (" …" if len(wanted) > 10 else "")
    try:
        with anyio.fail_after(INSTALL_SECONDS):
            # In the root folder: uv reads the settings of the project it runs in.
            done = await anyio.run_process(command, input=data, check=False, cwd="/", umask=0o022)
    except TimeoutError:
        raise SandboxUnavailable(
            f"Installing {named} took over {INSTALL_SECONDS:.0f} s: is the package index reachable?"
        ) from None
    except OSError as error:
        raise SandboxUnavailable(f"uv does not run: {error.strerror}.") from error
    if done.returncode not in (0, _REFUSED):
        said = done.stderr.decode(errors="replace")
        logger.error("uv failed with status %s: %s", done.returncode, said.strip())
        raise SandboxUnavailable(NO_SPACE if _lacks_space(said) else f"Installing {named} failed: {explain(said)}")
    return done


def _lacks_space(said: str) -> bool:
    return f"os error {errno.ENOSPC}" in said
