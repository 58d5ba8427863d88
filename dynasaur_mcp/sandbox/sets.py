"""Sets of packages in a folder, as ROOT/TAG/KEY: made whole, held while a worker uses them, removed to make room.

A worker holds a set by a shared lock on the set's note. The kernel lets go of it when the worker ends, however that
happens, and knows of it across servers and containers; a set is removed only by who gets the lock alone.

The standard library only, and a program as well: the sets of a Docker volume are looked after by a container that runs
this file.

    sets.py ROOT OPTIONS [STAGED FINAL]

It keeps STAGED as FINAL, then sweeps ROOT. OPTIONS is a JSON object: what `sweep` takes, and `compiles` for `keep`. It
prints what `sweep` gives as JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOTE = ".set.json"
"""In each set: its bytes on disk, and what is imported from it. Written last, so its being there says it is whole."""
USED = ".used"
"""In each set: its time of modification is when a server last had it used."""
STAGED = ".new-"
"""How the name of a set begins while it is made."""
TOO_LARGE = 3
"""Exit status of `keep`: the set is larger than all of them may be."""
MAKING_SECONDS = 60.0
"""What is being made is not taken for left behind before it is so old: its maker may just be about to lock it."""

_REMOVED = ".old-"
_BLOCK_BYTES = 4096
_TESTS = re.compile(r"/tests?/")


class HeldSets:
    """The sets of one user of them, who holds each until its own end."""

    def __init__(self) -> None:
        self._notes: dict[str, int] = {}

    def hold(self, folder: str) -> bool:
        """Hold a set from now on. Whether it is there."""
        note = self._notes.get(folder)
        if note is not None and os.fstat(note).st_nlink:
            return True
        path = os.path.join(folder, NOTE)
        try:
            new = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        if note is not None:
            os.close(note)
        self._notes[folder] = new
        # Not waited for: code in some sandbox may have locked it alone, which must cost others nothing.
        with contextlib.suppress(OSError):
            fcntl.flock(new, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.path.exists(path)

    def let_go(self) -> None:
        for note in self._notes.values():
            os.close(note)
        self._notes.clear()


def keep(staged: str, final: str, most_bytes: int, *, compiles: bool) -> None:
    """Note what is in a set, and give it its name.

    Args:
        compiles: Whether workers have the Python that runs this. Compiling only parses: nothing of the set runs.

    Raises:
        OverflowError: it is larger than `most_bytes`; it is gone.
        OSError
    """
    if compiles:
        import compileall
        import py_compile

        # Workers see the folder read-only, and no file of it ever changes.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(
            staged, quiet=2, rx=_TESTS, invalidation_mode=mode, stripdir=staged, prependdir=final, workers=0
        )
    size = _measure(staged)
    if size > most_bytes:
        _remove_tree(staged)
        raise OverflowError
    for name, text in ((USED, ""), (NOTE, json.dumps({"bytes": size, "modules": find_modules(staged)}))):
        path = os.path.join(staged, name)
        # A wheel may have brought something of that name.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with open(path, "x") as file:
            file.write(text)
        # Whatever the umask: in a jail that root started, the worker is another user.
        os.chmod(path, 0o644)
    os.chmod(staged, 0o755)  # noqa: S103
    _give_name(staged, final)


def _give_name(staged: str, final: str) -> None:
    try:
        os.rename(staged, final)
    except OSError:
        if is_whole(final):
            # Another server was first.
            _remove_tree(staged)
            return
        # What someone removed in part.
        _remove_tree(final)
        os.rename(staged, final)


def is_whole(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, NOTE))


def find_modules(folder: str) -> dict[str, str]:
    """What can be imported from a folder of installed wheels: top-level name -> `name==version` of its package.

    Names that several packages share are left out.
    """
    found: dict[str, str] = {}
    shared = set()
    for info in sorted(name for name in os.listdir(folder) if name.endswith(".dist-info")):
        package, _, version = info.removesuffix(".dist-info").rpartition("-")
        for module in _top_levels(os.path.join(folder, info, "RECORD")):
            if found.setdefault(module, f"{package}=={version}") != f"{package}=={version}":
                shared.add(module)
    return {module: package for module, package in found.items() if module not in shared}


def _top_levels(record: str) -> set[str]:
    try:
        with open(record, encoding="utf-8", errors="replace") as file:
            paths = [line.split(",")[0].strip('"') for line in file]
    except OSError:
        return set()
    importable = (path for path in paths if path.endswith((".py", ".so", ".pyi")))
    return {name for path in importable if (name := path.split("/")[0].split(".")[0]).isidentifier()}


def sweep(
    root: str,
    most_bytes: int,
    *,
    tags: Collection[str] | None = None,
    being_made: Collection[str] = (),
    unseen_since: float | None = None,
) -> dict[str, int]:
    """Remove what was left half way, and sets until the rest fits; those used least recently first, none that is held.

    Args:
        tags: All tags that anything can still use; the sets of others go. None for not known.
        being_made: Names of sets that are being made, where no lock tells.
        unseen_since: Unix time since which there may have been users whose locks are not seen here.

    Returns:
        `sets` and `bytes` removed, `left_bytes` that are there.
    """
    removed = removed_bytes = left_bytes = 0
    sets = []
    for tag in _folders(root):
        for entry in _folders(tag.path):
            if entry.name.startswith((STAGED, _REMOVED)) or not is_whole(entry.path):
                _clear(entry, being_made)
            else:
                sets.append((_used_at(entry.path), _noted_bytes(entry.path), entry.path, tag.name))
    total = sum(size for _, size, _, _ in sets)
    for used_at, size, path, tag_name in sorted(sets):
        unwanted = total > most_bytes or (tags is not None and tag_name not in tags)
        unseen = unseen_since is not None and used_at >= unseen_since
        if unwanted and not unseen and _remove(path):
            removed, removed_bytes, total = removed + 1, removed_bytes + size, total - size
        else:
            left_bytes += size
    return {"sets": removed, "bytes": removed_bytes, "left_bytes": left_bytes}


def _folders(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return


def _clear(entry: os.DirEntry[str], being_made: Collection[str]) -> None:
    """Remove what is no set, unless it is about to be one."""
    try:
        is_new = time.time() - entry.stat(follow_symlinks=False).st_mtime < MAKING_SECONDS
        if not is_new and entry.name not in being_made:
            with _lock_alone(entry.path):
                _remove_tree(entry.path)
    except OSError:
        return


def _remove(folder: str) -> bool:
    """Remove a set that nobody holds; whether it is gone."""
    gone = os.path.join(os.path.dirname(folder), f"{_REMOVED}{os.urandom(6).hex()}")
    try:
        with _lock_alone(os.path.join(folder, NOTE)):
            os.rename(folder, gone)
    except OSError:
        return False
    _remove_tree(gone)
    return True


@contextlib.contextmanager
def _lock_alone(path: str) -> Iterator[None]:
    """Raises: OSError: someone else has it, or it is gone."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _used_at(folder: str) -> float:
    try:
        return os.stat(os.path.join(folder, USED)).st_mtime
    except OSError:
        return 0.0


def _noted_bytes(folder: str) -> int:
    return int(read_note(folder).get("bytes", 0))


def read_note(folder: str) -> dict[str, Any]:
    """A set's note; empty where there is none to read."""
    try:
        with open(os.path.join(folder, NOTE), encoding="utf-8") as file:
            note = json.load(file)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _measure(folder: str) -> int:
    """Bytes on disk, by blocks: packages are many small files."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(-(-os.lstat(path).st_size // _BLOCK_BYTES) * _BLOCK_BYTES for path in paths)


def _remove_tree(folder: str) -> None:
    # Not at the top: workers import this file, and need nothing of that.
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def main(root: str, options: str, staged: str = "", final: str = "") -> None:
    given: dict[str, Any] = json.loads(options)
    compiles = given.pop("compiles", False)
    new = HeldSets()
    if staged:
        try:
            keep(staged, final, given["most_bytes"], compiles=compiles)
        except OverflowError:
            sys.exit(TOO_LARGE)
        # Where all others are held, the sweep would take this one.
        new.hold(final)
    sys.stdout.write(json.dumps(sweep(root, **given)))


if __name__ == "__main__":
    main(*sys.argv[1:])
