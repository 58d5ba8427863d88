"""Workspaces of a worker's branches: /workspace is the active one's, those of the others stand aside.

No process can be given a view of its own here, as that takes rights nobody has in a sandbox. So what is at /workspace
changes hands between requests: renames within one file system, microseconds each.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dynasaur_mcp.sandbox.worker.forker import Channel

WORKSPACE = "/workspace"
ASIDE = ".branches"
"""The folder in it for the others' files. Closed to all while a job runs, so that none finds them by accident."""


class Workspaces:
    """Seen from the supervisor, which renames whole entries and never looks into one."""

    def __init__(self) -> None:
        self.active = 0

    def place_of(self, branch: int) -> str:
        return f"{WORKSPACE}/{ASIDE}/{branch}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the folder aside, which is made if need be and can be entered meanwhile.

        Raises:
            OSError: no space left, or user code is at it.
        """
        path = f"{WORKSPACE}/{ASIDE}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # By the descriptor: the name may have become a link.
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
            yield descriptor
        finally:
            os.chmod(f"/proc/self/fd/{descriptor}", 0)
            os.close(descriptor)

    def make(self, branch: int) -> str:
        """An empty place for a new branch; and one for the active, so that standing aside needs no space later."""
        with self.opened() as aside:
            with contextlib.suppress(FileExistsError):
                os.mkdir(str(self.active), 0o700, dir_fd=aside)
            os.mkdir(str(branch), 0o700, dir_fd=aside)
        return self.place_of(branch)

    def activate(self, branch: int) -> None:
        """
        Raises:
            OSError: it could not be done whole.
        """
        with self.opened() as aside, _folder(WORKSPACE) as workspace:
            with _folder(str(self.active), aside) as place:
                _move_all(workspace, place)
            self.active = branch
            with _folder(str(branch), aside) as place:
                _move_all(place, workspace)


@contextlib.contextmanager
def _folder(name: str, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _move_all(source: int, target: int) -> None:
    for name in os.listdir(source):
        if name == ASIDE:
            continue
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except PermissionError:
            # A folder gets a new parent only where it can be written.
            mode = stat.S_IMODE(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode)
            os.chmod(name, mode | stat.S_IWUSR, dir_fd=source)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            os.chmod(name, mode, dir_fd=target)


def copy_workspace(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `copy`: the files, folders and links of the active workspace into `target`."""
    import shutil

    def leave_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == ASIDE or _is_special(os.path.join(folder, name))]

    try:
        shutil.copytree(WORKSPACE, message["target"], symlinks=True, ignore=leave_out, dirs_exist_ok=True)
    except shutil.Error as error:
        return {"ending": "raised", "error": f"its files cannot be copied: {error.args[0][0][2]}"}
    except (OSError, RecursionError) as error:
        return {"ending": "raised", "error": f"its files cannot be copied: {error}"}
    return {"ending": "returned"}


def _is_special(path: str) -> bool:
    mode = os.lstat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def remove_workspace(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `remove`: a place aside, and all in it.

    What is in a folder comes up to the place before the folder goes: `shutil` goes down, and fails where folders lie
    deeper than its stack.
    """
    with _folder(message["target"]) as place:
        while names := os.listdir(place):
            for name in names:
                if not _is_opened(name, place):
                    os.unlink(name, dir_fd=place)
                    continue
                with _folder(name, place) as folder:
                    for inner in os.listdir(folder):
                        _is_opened(inner, folder)
                        os.rename(inner, os.urandom(16).hex(), src_dir_fd=folder, dst_dir_fd=place)
                os.rmdir(name, dir_fd=place)
    os.rmdir(message["target"])
    return {"ending": "returned"}


def _is_opened(name: str, folder: int) -> bool:
    """Whether it is a folder, which can be read, emptied and moved from now on."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.chmod(name, 0o700, dir_fd=folder)
    return True


def move_in(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `move`: a copy of a session finds itself in the copy of the folder it was in."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = WORKSPACE
    if here.startswith(message["before"]):
        os.chdir(WORKSPACE + here.removeprefix(message["before"]))
    return {"ending": "returned"}
