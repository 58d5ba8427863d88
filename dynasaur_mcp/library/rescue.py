"""What is done for a ledger that is damaged, or that somebody deleted or exchanged while it was in use.

Nothing is thrown away: a damaged one is set aside, and what can be read of it goes into the new one. A deleted one is
still whole for whoever has it open, and is written again from there. The actions are in their files in any case.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dynasaur_mcp.library.database import ADD_DEEDS_OF_VERSIONS, COUNT_USES

Place = tuple[int, int] | None
"""Device and inode of a file; None: there is none."""

_SUFFIXES = ("", "-wal", "-shm")
_TABLES = ("sources", "versions", "actions", "calls", "imports", "arguments", "queries", "deeds", "runs")
_log = logging.getLogger(__name__)


def find_place(path: Path) -> Place:
    """
    Raises:
        OSError: whether there is one cannot be told.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other server opens, sets aside or restores the ledger of this folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Where it is now."""
    aside = next(p for n in itertools.count(1) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def restore(connection: sqlite3.Connection, path: Path) -> None:
    """Write a ledger again whose file was deleted while it was open.

    Raises:
        sqlite3.Error, OSError: it cannot be written.
    """
    copy = path.with_name(f"{path.name}.restored")
    try:
        copy.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", (str(copy),))
        # A log that was left behind belongs to other pages than these.
        for suffix in _SUFFIXES[1:]:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        os.link(copy, path)
    finally:
        copy.unlink(missing_ok=True)
    _log.warning("the ledger was deleted while it was in use, and is written again")


def salvage(damaged: Path, connection: sqlite3.Connection) -> None:
    """Take over each row that can be read. What the files say is read from them again."""
    connection.execute("BEGIN IMMEDIATE")
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as found:
        # SQLite refuses a file that is shorter than it should be, but to whom asks for this.
        found.execute("PRAGMA writable_schema = ON")
        for table in _TABLES:
            # From both ends: what is behind a damaged page is seen from the other side only.
            for order in ("ASC", "DESC"):
                with contextlib.suppress(sqlite3.Error, OverflowError):
                    rows = found.execute(f"SELECT * FROM {table} ORDER BY rowid {order}")
                    columns = ", ".join(column for column, *_ in rows.description)
                    marks = ", ".join("?" * len(rows.description))
                    query = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"
                    for row in rows:
                        connection.execute(query, row)
    connection.execute(
        "INSERT OR IGNORE INTO uses SELECT used.value, v.name, v.version "
        "FROM versions v, json_each(v.details, '$.uses') AS used WHERE json_valid(v.details)"
    )
    connection.execute(ADD_DEEDS_OF_VERSIONS)
    for statement in COUNT_USES.split(";\n"):
        connection.execute(statement)
    # Current are those whose files say so, which is found out by the next look.
    connection.execute("UPDATE actions SET version = 0")
    connection.execute("UPDATE state SET revision = (SELECT coalesce(max(revision), 0) FROM actions)")
    connection.execute("COMMIT")
    (versions,) = connection.execute("SELECT count(*) FROM versions").fetchone()
    _log.warning("the ledger was damaged: kept as %s, %d versions could be read", damaged.name, versions)
