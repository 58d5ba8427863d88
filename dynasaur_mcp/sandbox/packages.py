"""Third-party requirements of actions, installed once per set.

Installed on the server's side by uv, from wheels only: unpacking a wheel runs nothing of it, so no code of theirs ever
runs with the server's rights. Workers get the folder read-only. A set is made in a folder of its own and renamed when
it is whole; what was killed half way is never seen.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import anyio
import anyio.to_thread
import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from dynasaur_mcp.errors import ActionInvalid, SandboxUnavailable
from dynasaur_mcp.types import Problem

logger = logging.getLogger(__name__)

INSTALL_SECONDS = 120.0
MAX_REQUIREMENTS = 50
LIST_NAME = "requirements.txt"
"""In each set: what was asked for, one a line. Its being there says that the set is whole."""

_ABANDONED_SECONDS = 3600.0
_REFUSED = 1
"""uv's exit status when a set does not resolve; 2 is everything else."""


def read_requirements(requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Requirements in normal form, sorted, without duplicates: names in the index with versions, extras, markers.

    Raises:
        ActionInvalid: all that are something else: paths, addresses, options.
    """
    problems, read = [], set()
    if len(requirements) > MAX_REQUIREMENTS:
        problems.append(
            Problem(f"there are {len(requirements)} requirements; at most {MAX_REQUIREMENTS} are installed")
        )
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            problems.append(
                Problem(f"{text[:200]!r} is no requirement: write a name and versions, such as 'pandas>=2'")
            )
            continue
        if requirement.url:
            problems.append(
                Problem(f"{text[:200]!r} gives an address: only packages of the index are installed, by name")
            )
            continue
        requirement.name = canonicalize_name(requirement.name)
        read.add(str(requirement))
    if problems:
        raise ActionInvalid("Requirements that cannot be installed:", problems)
    return tuple(sorted(read))


class PackageStore:
    """Sets of packages below a folder, for one Python version and platform."""

    def __init__(self, folder: Path, *, python_version: str, platform: str | None) -> None:
        """
        Args:
            folder: The sets of each version and platform get a folder of their own in it.
            python_version: `3.12`.
            platform: As uv names it, such as `x86_64-manylinux_2_36`; None for the interpreter that runs this.
        """
        self._python_version = python_version
        self._platform = platform
        self.tag = f"cpython-{python_version}-{platform or sysconfig.get_platform()}"
        self._folder = folder / self.tag
        self._locks: dict[str, anyio.Lock] = {}

    @property
    def folder(self) -> Path:
        """Where the sets are; made when it is not there."""
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o755)
        return self._folder

    def path(self, key: str) -> Path:
        """The folder of an installed set, to be put on `sys.path`."""
        return self._folder / key

    async def install(self, requirements: tuple[str, ...]) -> str:
        """Have a set ready: at once when it is there, else by uv.

        Returns:
            The set's key; empty for no requirements.

        Raises:
            ActionInvalid: not requirements, or a set that does not resolve; names the requirement.
            SandboxUnavailable: uv could not do its work: no network, no space, too slow.
        """
        wanted = read_requirements(requirements)
        if not wanted:
            return ""
        key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:24]
        async with self._locks.setdefault(key, anyio.Lock()):
            if not (self.path(key) / LIST_NAME).is_file():
                await self._fill(key, wanted)
        return key

    async def _fill(self, key: str, wanted: tuple[str, ...]) -> None:
        self._sweep()
        staged = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            await install_wheels(wanted, staged, python_version=self._python_version, platform=self._platform)
            if self._platform is None:
                await _compile(staged, self.path(key))
            self._keep(staged, key, wanted)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(staged, ignore_errors=True))

    def _keep(self, staged: Path, key: str, wanted: tuple[str, ...]) -> None:
        (staged / LIST_NAME).write_text("".join(f"{line}\n" for line in wanted))
        # Whatever the umask: in a jail that root started, the worker is another user.
        (staged / LIST_NAME).chmod(0o644)
        staged.chmod(0o755)
        try:
            staged.rename(self.path(key))
        except OSError:
            # Another server was first.
            if not (self.path(key) / LIST_NAME).is_file():
                raise SandboxUnavailable("The folder of packages cannot be written.") from None

    def _sweep(self) -> None:
        """Remove what killed servers left half way; an install of a living one is never that old."""
        for left in self.folder.glob(".new-*"):
            try:
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
            except FileNotFoundError:
                continue


async def install_wheels(
    requirements: tuple[str, ...], target: Path, *, python_version: str, platform: str | None
) -> None:
    """Resolve and unpack wheels into a folder, as `PackageStore.install` says."""
    command = [
        uv.find_uv_bin(), "pip", "install", "--quiet", "--no-progress", "--color", "never",
        "--python", sys.executable, "--no-python-downloads", "--target", str(target), "--link-mode", "copy",
        "--only-binary", ":all:", "--python-version", python_version,
        *(("--python-platform", platform) if platform else ()),
        "--", *requirements,
    ]  # fmt: skip
    try:
        with anyio.fail_after(INSTALL_SECONDS):
            # Its own folder as the working one: uv reads the settings of projects it runs in.
            done = await anyio.run_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, cwd=target, umask=0o022
            )
    except TimeoutError:
        raise SandboxUnavailable(
            f"Installing {', '.join(requirements)} took over {INSTALL_SECONDS:.0f} s: is the package index reachable?"
        ) from None
    said = done.stderr.decode(errors="replace")
    if done.returncode == _REFUSED:
        raise ActionInvalid(
            f"Requirements that cannot be installed: {', '.join(requirements)}", [Problem(explain(said))]
        )
    if done.returncode != 0:
        logger.error("uv failed with status %s: %s", done.returncode, said.strip())
        raise SandboxUnavailable(f"Installing {', '.join(requirements)} failed: {explain(said)}")


def explain(said: str) -> str:
    """uv's reason on one line, without its decoration, addresses and paths.

    >>> explain("error: No solution found when resolving dependencies\\n  cause: Because you require a<2 and a>3.\\n")
    'Because you require a<2 and a>3.'
    """
    text = re.sub(r"[×│╰─▶├]+", " ", said)
    text = re.sub(r"\b(?:error|cause|hint):", " ", text)
    text = " ".join(text.split())
    text = re.sub(r"^.*?No solution found when resolving dependencies:?\s*", "", text)
    text = re.sub(r"\w+://[^\s`'\")]+", "the package index", text)
    text = re.sub(r"(?<![\w.])/[\w.~+-]+(?:/[\w.~+-]+)+", "…", text)
    return text[:400] or "uv gave no reason"


async def _compile(staged: Path, final: Path) -> None:
    """Write the .pyc files: workers see the folder read-only. Compiling only parses, nothing of the packages runs."""
    await anyio.run_process(
        [
            sys.executable, "-I", "-S", "-m", "compileall", "-qq", "-x", "/tests?/",
            "--invalidation-mode", "unchecked-hash", "-s", str(staged), "-p", str(final),
            "-j", str(os.cpu_count() or 1), str(staged),
        ],
        stdin=subprocess.DEVNULL, check=False, umask=0o022,
    )  # fmt: skip
