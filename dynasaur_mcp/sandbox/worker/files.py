"""Files of the workspace for the server: listed, read, written; no link is followed anywhere on the way.

The job runs in a fork of the template, which has run no user code. User code may have made what it meets: every part
of a path is opened beneath the one before it, and only regular files are read or replaced.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from dynasaur_mcp.sandbox.worker.forker import Channel
from dynasaur_mcp.sandbox.worker.workspaces import ASIDE, WORKSPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_ITEMS = 5000
"""Of one listing: a frame must hold their names."""
_SHORT_HOLE_BYTES = 256 << 10
"""Up to here a hole is read as the zeros that it stands for: what comes after it would take a job of its own."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO would keep the opener waiting.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINKED = "it is no folder or file, or lies behind a link: links are not followed"


class RefusedError(Exception):
    """The path is none that the server may ask for."""


def work_on_files(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `files`: `do` is list, read, write or discard, each with a `path` relative to the workspace."""
    verbs = {"list": _list, "read": _read, "write": _write, "discard": _discard}
    try:
        return {"ending": "returned", **verbs[message["do"]](message)}
    except (OSError, RefusedError) as error:
        return {"ending": "raised", "error": f"{message['path']!r}: {_explain(error)}."}


def _list(message: dict[str, Any]) -> dict[str, Any]:
    """What is in a folder, by name, up to MAX_ITEMS; `total` counts the rest too."""
    with _opened(_names(message["path"])) as folder:
        names = sorted(name for name in os.listdir(folder) if name != ASIDE)
        items = []
        for name in names[:MAX_ITEMS]:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                kind = "folder" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "other"
                # A name that is no Unicode is shown with replacement, and cannot be asked for.
                shown = os.fsencode(name).decode("utf-8", "replace")
                items.append({"name": shown, "kind": kind, "size_bytes": status.st_size if kind == "file" else 0})
    return {"items": items, "total": len(names)}


def _read(message: dict[str, Any]) -> dict[str, Any]:
    """Up to `length` bytes from `offset`, or from the next in no hole up to a long one; and the file's whole size."""
    *parents, name = _names(message["path"]) or [""]
    with _opened(parents) as folder, _opened_file(name, os.O_RDONLY, folder) as file:
        data, offset, left = bytearray(), message["offset"], message["length"]
        size_bytes = os.fstat(file).st_size
        if message.get("skips_holes"):
            offset, end = _find_data(file, offset, left, size_bytes)
            left = min(left, end - offset)
        while left > 0 and (part := os.pread(file, left, offset + len(data))):
            data += part
            left -= len(part)
        return {"data": base64.b64encode(data).decode(), "offset": offset, "size_bytes": size_bytes}


def _find_data(file: int, offset: int, length: int, size_bytes: int) -> tuple[int, int]:
    """Where the next part begins that is in no hole, and a place before which there is no long one; both the end where
    there is none."""
    try:
        start = os.lseek(file, offset, os.SEEK_DATA)
        end = os.lseek(file, start, os.SEEK_HOLE)
    except OSError as error:
        # Where holes cannot be looked for, all is data.
        end = max(offset, size_bytes)
        return (end, end) if error.errno == errno.ENXIO else (offset, end)
    with contextlib.suppress(OSError):  # nothing but a hole is left
        while end < start + length and (after := os.lseek(file, end, os.SEEK_DATA)) - end <= _SHORT_HOLE_BYTES:
            end = os.lseek(file, after, os.SEEK_HOLE)
    return start, end


def _write(message: dict[str, Any]) -> dict[str, Any]:
    """`data` at `offset` of the unfinished file `part` beside `path`; with the `last` it takes the place of `path`."""
    *parents, name = _names(message["path"]) or [""]
    part, offset = message["part"], message["offset"]
    with _opened(parents, make=True) as folder:
        try:
            with _opened_file(part, os.O_WRONLY | (0 if offset else os.O_CREAT | os.O_EXCL), folder) as file:
                left = memoryview(base64.b64decode(message["data"]))
                while left:
                    written = os.pwrite(file, left, offset)
                    left, offset = left[written:], offset + written
            if message["last"]:
                _require_replaceable(name, folder)
                os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # what interrupts it included
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=folder)
            raise
    return {}


def _discard(message: dict[str, Any]) -> dict[str, Any]:
    """Remove the unfinished file `part`, if it is there."""
    with contextlib.suppress(FileNotFoundError), _opened(_names(message["path"])[:-1]) as folder:
        os.unlink(message["part"], dir_fd=folder)
    return {}


def _names(path: str) -> list[str]:
    """The parts of a path beneath the workspace. A path that begins with the workspace's own is taken as meant."""
    if path == WORKSPACE or path.startswith(f"{WORKSPACE}/"):
        path = path[len(WORKSPACE) + 1 :]
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/") or ".." in names or "\0" in path:
        raise RefusedError("give a path beneath the workspace, without '..'")
    return names


@contextlib.contextmanager
def _opened(names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    folder = os.open(WORKSPACE, _FOLDER)
    try:
        for name in names:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=folder)
            # gVisor follows a link to a folder in spite of O_NOFOLLOW.
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "")
            inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def _opened_file(name: str, flags: int, folder: int) -> Iterator[int]:
    """A regular file; an empty `name` is the folder itself, which is none."""
    file = os.open(name or ".", flags | _FILE, 0o644, dir_fd=folder)
    try:
        mode = os.fstat(file).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, "")
        yield file
    finally:
        os.close(file)


def _require_replaceable(name: str, folder: int) -> None:
    if not name:
        raise IsADirectoryError(errno.EISDIR, "")
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, "")


def _explain(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    match error.errno:
        case errno.ENOENT:
            return "there is no such file in the workspace"
        case errno.EISDIR:
            return "it is a folder"
        # ENXIO: a socket, or a FIFO opened for writing.
        case errno.ELOOP | errno.ENOTDIR | errno.ENXIO:
            return _LINKED
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "there is no room for it in the workspace"
    return os.strerror(error.errno or 0).lower()
