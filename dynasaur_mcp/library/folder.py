"""The files of a library folder: finding, reading and replacing them. Other files in it are nobody's business."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dynasaur_mcp.errors import ActionInvalid, LibraryError
from dynasaur_mcp.library.change import Stat
from dynasaur_mcp.library.ledger import Ledger
from dynasaur_mcp.library.rescue import find_place
from dynasaur_mcp.types import Action, Problem

READ_ONLY = (
    "The library folder cannot be written, or its ledger, so nothing can be defined, changed or deleted. "
    "Make it writable, or start with another folder by --library."
)

_GIT_IGNORE = """\
# Written by dynasaur-mcp. Its ledger and its search index change while it runs, and belong to this machine.
.ledger.sqlite3*
.index.sqlite3*
.*.dynasaur-tmp
__pycache__/
"""
INIT_MARK = "Written by dynasaur-mcp and kept up to date by it as long as this sentence stays."
_TEMPORARY_SUFFIX = ".dynasaur-tmp"
_STALE_SECONDS = 3600
_RACY_NS = 100_000_000
_COARSE_NS = 2_000_000_000
"""The tick of file systems whose times have no fractions, FAT's being the longest."""
_STILL_MS = 150
"""A change is told when there was none for so long: the file's time is then to be trusted."""
_DEBOUNCE_MS = 1000
"""Or when the first is so old: the ledger's files change with each call."""
_NOT_TRUSTED = -1


@dataclass(frozen=True, slots=True)
class Reading:
    """A file as it was when it was looked at: an action, or problems."""

    stat: Stat
    action: Action | None
    problems: tuple[Problem, ...] = ()


def open_folder(folder: Path) -> None:
    """Make it if need be, with an `__init__.py` by which plain Python finds its actions, and a `.gitignore`, since git
    must not exchange a ledger that is in use.

    Raises:
        LibraryError: it cannot be made, or cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.scandir(folder).close()
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise LibraryError(f"The library folder {str(folder)!r} cannot be used: {reason}.") from error
    path = folder / "__init__.py"
    wanted = init_text().encode()
    with contextlib.suppress(OSError, LibraryError):
        found = path.read_bytes() if path.exists() else INIT_MARK.encode()
        if found != wanted and INIT_MARK.encode() in found:
            write_file(path, wanted)
        if not (folder / ".gitignore").exists():
            write_file(folder / ".gitignore", _GIT_IGNORE.encode())


def init_text() -> str:
    """What makes a folder of actions a package of them."""
    return Path(__file__).with_name("folder_init.py").read_text(encoding="utf-8")


def scan_folder(folder: Path) -> dict[str, Stat]:
    """The files that should be actions. What a killed server left half-written is removed.

    Raises:
        LibraryError: the folder cannot be read now; nothing follows from that about what is in it.
    """
    with explained(), os.scandir(folder) as entries:
        found = {}
        for entry in entries:
            if entry.name.endswith(_TEMPORARY_SUFFIX):
                _remove_stale(entry)
            elif _is_action_file(entry.name):
                try:
                    if entry.is_file():
                        found[entry.name] = _reduce(entry.stat())
                except OSError as error:
                    if not _leads_nowhere(entry.path, error):
                        raise
        return found


def watch_folder(folder: Path, stop: threading.Event) -> Iterator[list[str]]:
    """Names of files that should be actions, as the system says that they have changed; it may not say so of all.

    Ends once another folder has taken the place of this one.

    Raises:
        LibraryError: it cannot tell.
    """
    # Imported here: few libraries are large enough to be watched.
    from watchfiles import Change, watch

    def is_wanted(_: Change, path: str) -> bool:
        return _is_action_file(os.path.basename(path)) and not os.path.isdir(path)

    try:
        place = find_place(folder)
        for changes in watch(
            folder,
            watch_filter=is_wanted,
            stop_event=stop,
            step=_STILL_MS,
            debounce=_DEBOUNCE_MS,
            recursive=False,
            force_polling=False,
            yield_on_timeout=True,
        ):
            if find_place(folder) != place:
                return
            yield sorted({os.path.basename(path) for _, path in changes})
    except (OSError, RuntimeError) as error:
        raise LibraryError(f"Changes by hand are seen late: the folder cannot be watched: {error}.") from error


def _is_action_file(name: str) -> bool:
    # The ledger keeps names as text: one that is no UTF-8 is no action's, nor is it named.
    is_text = name.isascii() or name.encode(errors="ignore").decode() == name
    return is_text and name.endswith(".py") and not name.startswith(("_", ".", "test_")) and name != "conftest.py"


def _leads_nowhere(path: str | Path, error: OSError) -> bool:
    """Whether it was not found, or is a link that cannot be followed: that says nothing about the folder."""
    return isinstance(error, FileNotFoundError) or os.path.islink(path)


def _reduce(status: os.stat_result) -> Stat:
    """SQLite's integers end in the year 2262, file systems' times do not."""
    return status.st_mtime_ns % 2**63, status.st_size


def _remove_stale(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            os.unlink(entry.path)


def stat_file(path: Path) -> Stat | None:
    """None where there is no such file, or none that can be read to its end: a pipe, a device, a folder, a link to one
    that cannot be reached.

    Raises:
        LibraryError: that cannot be told.
    """
    with explained():
        try:
            status = path.stat()
        except OSError as error:
            if not _leads_nowhere(path, error):
                raise
            return None
    return _reduce(status) if stat.S_ISREG(status.st_mode) else None


def settle_stat(stat: Stat) -> Stat:
    """What to note of a file: a time so recent that a later change may not show in it is not to be trusted."""
    age_ns = time.time_ns() - stat[0]
    racy_ns = _RACY_NS if stat[0] % 1_000_000_000 else _COARSE_NS
    return (_NOT_TRUSTED, stat[1]) if 0 <= age_ns < racy_ns else stat


def read_file(path: Path, ledger: Ledger) -> Reading:
    """What a file says, by parsing it unless the ledger knows this very text."""
    # Imported here: a folder in which nothing changed needs no parser.
    from dynasaur_mcp.library.reading import hash_source, read_action
    from dynasaur_mcp.library.rules import check_size

    name = path.name.removesuffix(".py")
    found = stat_file(path) or (_NOT_TRUSTED, 0)
    if problems := tuple(check_size(found[1])):
        return Reading(found, None, problems)
    try:
        source = path.read_bytes().decode("utf-8-sig")
        known = ledger.find_source(name, hash_source(source))
        return Reading(found, known or read_action(source, name))
    except ActionInvalid as error:
        return Reading(found, None, error.problems)
    except UnicodeDecodeError as error:
        problem = Problem(f"byte {error.object[error.start]:#x} is not UTF-8. Save the file as UTF-8.")
    except OSError as error:
        problem = Problem(f"it cannot be read ({error.strerror}). Mend its permissions.")
    return Reading(found, None, (problem,))


def write_file(path: Path, content: bytes) -> Stat:
    """Replace a file so that a reader sees the old or the new one, whole, also after a power cut.

    Raises:
        LibraryError: it cannot be written; the old one is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY_SUFFIX}")
    with explained():
        try:
            with open(temporary, "xb") as file:
                with contextlib.suppress(OSError):
                    # Who may read it stays as its owner has set it.
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                status = os.fstat(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    return _reduce(status)


def remove_file(path: Path) -> None:
    """Raises LibraryError when it cannot be removed; a missing file is removed already."""
    with explained():
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the file system as LibraryErrors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise LibraryError(READ_ONLY) from error
        raise LibraryError(f"The library folder cannot be used: {error.strerror}.") from error
