"""Which servers are alive: each holds the lock of a file, and the system lets go of it however a server ends.

Beside that file a server has a socket on which it answers the commands of its own user: see `control`.

Process ids would not do: they are reused, and mean nothing to a server in another container that uses the same engine.
For the same reason a folder of such files has an id of its own: a server judges only those of its own folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path


class Presence:
    """This server's sign of life, and those of the servers that use the same folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written before `id` or `home` is asked for."""
        self._folder = folder
        self._lock = -1

    @cached_property
    def home(self) -> str:
        """Id of the folder.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _read_home(self._folder / "home")

    @cached_property
    def id(self) -> str:
        """Id of this server, which is seen to be alive from now on.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = secrets.token_hex(6)
        # Locked before it has its name, so that a file of that name is never taken for a dead server's.
        unnamed = self._folder / f".{name}"
        self._lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self._path(name))
        return name

    def is_alive(self, server: str) -> bool:
        """Whether a server of this folder still runs."""
        if self._lock >= 0 and server == self.id:
            return True
        try:
            lock = os.open(self._path(server), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def others(self) -> list[str]:
        """Ids of the other servers that run now."""
        own = self.id if self._lock >= 0 else ""
        return [path.stem for path in self._folder.glob("*.lock") if path.stem != own and self.is_alive(path.stem)]

    def socket_of(self, server: str) -> Path:
        """Where a server answers commands."""
        return self._folder / f"{server}.sock"

    def forget_dead(self) -> None:
        """Remove the files of servers that run no more; after what they left has been removed."""
        for path in self._folder.glob("*.lock"):
            if not self.is_alive(path.stem):
                self.socket_of(path.stem).unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Be dead to the others."""
        if self._lock >= 0:
            self.socket_of(self.id).unlink(missing_ok=True)
            self._path(self.id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _path(self, server: str) -> Path:
        return self._folder / f"{server}.lock"


def _read_home(path: Path) -> str:
    """The folder's id; written once, by whoever is first."""
    if not path.exists():
        draft = path.with_name(f".home-{secrets.token_hex(6)}")
        draft.write_text(secrets.token_hex(12))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text().strip()
