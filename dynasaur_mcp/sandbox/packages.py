"""Third-party requirements of actions and of steps, installed once per resolved set.

What is asked for is resolved to versions (see `resolved`), and a set is kept under the hash of its versions. So what
resolves alike is one set, and what is known needs neither uv nor a network. Sets are installed on the server's side
(see `wheels`); workers get them read-only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox import sets
from dynasaur_mcp.sandbox.requirements import read_requirements
from dynasaur_mcp.sandbox.resolved import Resolutions, Resolved
from dynasaur_mcp.sandbox.wheels import NO_SPACE, Target, install_wheels, resolve_versions
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.types import PackageRules

USED_SECONDS = 60.0
"""How exactly the time of a set's last use is known."""

_HOME = "python"
"""In each tag's folder of sets for this machine: the interpreter they are for."""


class PackageStore:
    """Sets of packages below a folder, for one target."""

    def __init__(self, cache: Path, target: Target, rules: PackageRules | None = None) -> None:
        """
        Args:
            cache: Has a folder for the sets of each target, and one for what was resolved.
        """
        self.target = target
        self.rules = rules or PackageRules()
        self._root = cache / "packages"
        self._folder = self._root / target.tag
        self._resolutions = Resolutions(cache, target.tag)
        self._known: dict[tuple[str, ...], Resolved] = {}
        self._used_at: dict[str, float] = {}
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    @property
    def folder(self) -> Path:
        """Where the sets are; made when it is not there.

        Raises:
            SandboxUnavailable: it cannot be.
        """
        if not self._folder.is_dir():
            with _writing():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._folder.chmod(0o755)
                if self.target.platform is None:
                    (self._folder / _HOME).write_text(os.path.realpath(sys.executable))
        return self._folder

    def path(self, key: str) -> Path:
        """The folder of an installed set, to be put on `sys.path`."""
        return self._folder / key

    async def resolve(self, requirements: tuple[str, ...]) -> Resolved:
        """The versions that requirements come to: at once when they are known, else by uv.

        Raises:
            RequirementsInvalid: not requirements, refused by the rules, or a set that does not resolve; names which.
            SandboxUnavailable: uv could not do its work: no network, no space, too slow.
        """
        if known := self._known.get(requirements):
            return known
        asked = read_requirements(requirements, self.rules)
        async with self._lock(" ".join(asked)):
            resolved = self._resolutions.find(asked) if asked else Resolved(())
            if resolved is None:
                tell_stage(f"Resolving {', '.join(asked)}")
                versions = await resolve_versions(asked, self.target)
                with _writing():
                    resolved = self._resolutions.keep(asked, Resolved(versions))
        self._known[requirements] = resolved
        return resolved

    async def install(self, resolved: Resolved) -> Path:
        """Have a set ready: at once when it is there, else by uv.

        Raises:
            RequirementsInvalid: a version is no longer in the index.
            SandboxUnavailable: as `resolve`; or it takes more than the sets may.
        """
        final = self.path(resolved.key)
        # Outside the lock, as it mostly is there.
        if not sets.is_whole(str(final)):
            async with self._lock(resolved.key):
                if not sets.is_whole(str(final)):
                    await self._make(resolved, final)
        self._note_use(final)
        return final

    async def _make(self, resolved: Resolved, final: Path) -> None:
        async with self._staged() as staged:
            tell_stage(f"Installing {', '.join(resolved.versions)}")
            await install_wheels(resolved.versions, staged, self.target)
            options = json.dumps({"most_bytes": self.rules.most_bytes, "compiles": self.target.platform is None})
            # A process of its own: compiling would hold the server up.
            command = [sys.executable, "-I", sets.__file__, str(self._root), options, str(staged), str(final)]
            with _writing():
                done = await anyio.run_process(command, stdin=subprocess.DEVNULL, check=False, umask=0o022)
                check_kept(done.returncode, self.rules.most_bytes, done.stderr.decode(errors="replace"))

    @contextlib.asynccontextmanager
    async def _staged(self) -> AsyncIterator[Path]:
        """A folder to make a set in, locked for as long as that takes, and gone if it came to nothing."""
        with _writing():
            staged = Path(tempfile.mkdtemp(prefix=sets.STAGED, dir=self.folder))
            lock = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield staged
        finally:
            os.close(lock)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, staged, ignore_errors=True))

    def _note_use(self, final: Path) -> None:
        now = time.monotonic()
        if now - self._used_at.get(final.name, -USED_SECONDS) >= USED_SECONDS:
            self._used_at[final.name] = now
            # A read-only cache serves what is in it.
            with contextlib.suppress(OSError):
                os.utime(final / sets.USED)

    def _lock(self, name: str) -> anyio.Lock:
        lock = self._locks.get(name) or anyio.Lock()
        self._locks[name] = lock
        return lock


def check_kept(status: int, most_bytes: int, said: str) -> None:
    """Whether `sets.py` kept a set, by its exit status.

    Raises:
        SandboxUnavailable: the set is larger than all sets may be.
        OSError: it failed.
    """
    if status == sets.TOO_LARGE:
        limit = f"{most_bytes / (1 << 30):.2g} GiB, which is all that packages may take here (`--packages-bytes`)"
        raise SandboxUnavailable(f"These packages are larger than {limit}.")
    if status != 0:
        space = os.strerror(errno.ENOSPC)
        raise OSError(errno.ENOSPC if space in said else errno.EIO, said.strip()[-200:] or f"it ended with {status}")


def sweep_folder(root: Path, most_bytes: int, tags: set[str] | None = None) -> dict[str, int]:
    """Blocking: `sets.sweep` over a cache's sets, and those of interpreters that are no longer on this machine.

    Args:
        tags: Of all worker images that there are; None for not known.
    """
    wanted = set()
    for folder in root.glob("*"):
        home = folder / _HOME
        is_of_machine = home.is_file()
        if Path(home.read_text()).exists() if is_of_machine else tags is None or folder.name in tags:
            wanted.add(folder.name)
    return sets.sweep(str(root), most_bytes, tags=wanted)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Raises: SandboxUnavailable: the cache cannot be written, in words for the operator."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SandboxUnavailable(NO_SPACE) from error
        raise SandboxUnavailable(
            f"The cache folder of packages cannot be written ({error.strerror}): choose another with `--cache`."
        ) from error
