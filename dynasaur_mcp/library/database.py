"""The ledger's SQLite file: its tables, and opening it whatever state it is in."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

from dynasaur_mcp.errors import LibraryError

LEDGER_FILE = ".ledger.sqlite3"

ADD_DEEDS_OF_VERSIONS = """
INSERT INTO deeds
    SELECT NULL, defined_at, CASE author WHEN 'file' THEN 'found' ELSE 'define' END, name, version, author, '', ''
    FROM versions WHERE (name, version) NOT IN (SELECT name, version FROM deeds) ORDER BY defined_at"""
"""Those that are known from nothing else."""

PACE = "CAST(printf('%.1e', ?1) AS REAL)"
"""Seconds to two digits: an action's calls have few such, however many they are."""
IS_REUSE = "EXISTS (SELECT 1 FROM versions v WHERE v.name = ?1 AND v.version = ?2 AND ?3 > v.defined_at)"
"""Of an action's name, a version and a session: whether that began after the version was defined."""
COUNT_USES = f"""
UPDATE actions SET imports = 0, reuse = 0;
UPDATE actions SET imports = found.count FROM (SELECT name, count(*) AS count FROM imports GROUP BY name) AS found
    WHERE found.name = actions.name;
UPDATE actions SET reuse = found.count FROM (
    SELECT used.name, count(*) AS count FROM (
        SELECT name, version, session FROM calls WHERE ending = 'returned'
        UNION ALL SELECT name, version, session FROM imports) AS used
    JOIN versions v ON v.name = used.name AND v.version = used.version
    WHERE used.session > v.defined_at GROUP BY used.name) AS found
    WHERE found.name = actions.name;
DELETE FROM paces;
INSERT INTO paces SELECT name, {PACE.replace("?1", "seconds")} AS pace, count(*) FROM calls WHERE ending = 'returned'
    GROUP BY name, pace;
"""
"""From every call and import there is: a few seconds for each million."""

_SCHEMAS = (
    """
CREATE TABLE state (revision INTEGER NOT NULL);
INSERT INTO state VALUES (0);
-- version is the current one, 0 while the action has no good file; revision is that of its last change.
CREATE TABLE actions (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0, successes INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE sources (sha256 TEXT PRIMARY KEY, source TEXT NOT NULL);
CREATE TABLE versions (
    name TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL, details TEXT NOT NULL, author TEXT NOT NULL,
    defined_at TEXT NOT NULL, status TEXT NOT NULL, tests TEXT NOT NULL, schemas TEXT, PRIMARY KEY (name, version));
-- What a definition under way will write: a server killed between its file and its version is understood by this.
CREATE TABLE intents (
    name TEXT NOT NULL, sha256 TEXT NOT NULL, author TEXT NOT NULL, status TEXT NOT NULL, tests TEXT NOT NULL,
    schemas TEXT, PRIMARY KEY (name, sha256));
CREATE TABLE files (file TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, problems TEXT);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, principal TEXT NOT NULL,
    ending TEXT NOT NULL, seconds REAL NOT NULL);
""",
    """
-- recent: how the last calls of the current version ended, 1 returned and 0 not, newest last. used_at: the last call of
-- it or of an action that uses it, or step that imports it; empty for never.
ALTER TABLE actions ADD COLUMN recent TEXT NOT NULL DEFAULT '';
ALTER TABLE actions ADD COLUMN used_at TEXT NOT NULL DEFAULT '';
UPDATE actions SET used_at = last.at FROM (SELECT name, max(at) AS at FROM calls GROUP BY name) AS last
    WHERE last.name = actions.name;
-- session: an id that begins with the time when the session did; empty where it is not known.
ALTER TABLE calls ADD COLUMN session TEXT NOT NULL DEFAULT '';
-- Steps that imported it and succeeded.
CREATE TABLE imports (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, session TEXT NOT NULL);
-- Of a principal's last distinct calls of it that returned, to be made again when that principal replaces it.
CREATE TABLE arguments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, principal TEXT NOT NULL, arguments TEXT NOT NULL,
    UNIQUE (name, principal, arguments));
""",
    """
-- id: no other ledger has it; revisions mean nothing to whoever knows another one.
ALTER TABLE state ADD COLUMN id TEXT NOT NULL DEFAULT '';
UPDATE state SET id = hex(randomblob(8));
-- Actions that a version imports.
CREATE TABLE uses (used TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (used, name, version))
    WITHOUT ROWID;
INSERT INTO uses SELECT DISTINCT used.value, v.name, v.version FROM versions v, json_each(v.details, '$.uses') AS used;
-- No question that is asked again and again goes through all actions.
CREATE INDEX changed ON actions (revision, name);
CREATE INDEX called ON actions (calls DESC, name);
CREATE INDEX pinned ON actions (name) WHERE pinned;
CREATE INDEX newest ON versions (defined_at DESC, name) WHERE status = 'active' AND schemas IS NOT NULL;
CREATE INDEX unchecked ON versions (name) WHERE schemas IS NULL;
CREATE INDEX broken ON files (file) WHERE problems IS NOT NULL;
""",
    """
-- What was searched for before it was used.
CREATE TABLE queries (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, query TEXT NOT NULL, UNIQUE (name, query));
""",
    """
CREATE INDEX shaped ON versions (json_extract(details, '$.shape'));
""",
    f"""
-- Changes of actions, by whom. via: by a server or a command; empty where it is not known.
CREATE TABLE deeds (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, deed TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
    principal TEXT NOT NULL, via TEXT NOT NULL, note TEXT NOT NULL);
{ADD_DEEDS_OF_VERSIONS};
-- Of code; and of actions, what is not in calls: those that were cancelled, or could not be run. name: empty for code.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, principal TEXT NOT NULL,
    session TEXT NOT NULL, request TEXT NOT NULL, ending TEXT NOT NULL, seconds REAL NOT NULL, sha256 TEXT NOT NULL,
    code_bytes INTEGER);
""",
    f"""
-- Steps that imported it; calls and imports in sessions that began after the version used was defined.
ALTER TABLE actions ADD COLUMN imports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE actions ADD COLUMN reuse INTEGER NOT NULL DEFAULT 0;
-- How many of its calls that returned took so many seconds.
CREATE TABLE paces (
    name TEXT NOT NULL, seconds REAL NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (name, seconds)) WITHOUT ROWID;
{COUNT_USES}
""",
)
"""What makes each version of the schema from the one before."""

SCHEMA_VERSION = len(_SCHEMAS)
_TABLE = re.compile(r"CREATE TABLE (\w+)")

_log = logging.getLogger(__name__)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """
    Raises:
        LibraryError: it is no file, or cannot be read, or is of a newer release.
        sqlite3.OperationalError: it cannot be written, or not now.
        sqlite3.DatabaseError: it is damaged.
    """
    if os.path.lexists(path) and not (path.is_file() and os.access(path, os.R_OK)):
        what = "may not be read: mend its permissions" if path.is_file() else "is no file: move it away"
        if not path.exists():
            what = "is a link to a file that is not there: bring that back, or remove the link"
        raise LibraryError(f"The library's ledger {path.name!r} {what}. The actions are in their files, unharmed.")
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        # Taking the write lock here is what tells a ledger that can be written from one that cannot.
        connection.execute("BEGIN IMMEDIATE")
        _prepare(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def can_write(path: Path) -> bool:
    """Whether it is more than a ledger that can only be read. SQLite says so of a file in WAL mode only later."""
    return os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not os.access(path, os.R_OK))


def use_wal(connection: sqlite3.Connection) -> None:
    """Readers beside a writer, from now on or from the next opening on."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # SQLite does not wait for others here. They are about to do the same, and all is well without it.
        if "locked" not in str(error):
            raise


def _prepare(connection: sqlite3.Connection) -> None:
    found = check_version(connection)
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not there.issuperset(_TABLE.findall("".join(_SCHEMAS[:found]))) or (there and not found):
        raise sqlite3.DatabaseError("its tables are not those of a ledger")
    if 0 < found < SCHEMA_VERSION:
        _log.warning("the ledger of an earlier release is brought up to date: seconds for each million calls")
    for schema in _SCHEMAS[found:]:
        for statement in schema.split(";\n"):
            connection.execute(statement)
    if found < SCHEMA_VERSION:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_version(connection: sqlite3.Connection) -> int:
    """Which version of the schema it has now: a newer release may take over while this one has it open.

    Raises:
        LibraryError: it is of a newer release.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA_VERSION:
        raise LibraryError("The library was written by a newer dynasaur-mcp. Upgrade this one.")
    return int(found)


def open_in_memory(path: Path) -> sqlite3.Connection:
    """A copy that changes without reaching the disk; empty where there is nothing to copy."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    # A ledger in a folder that cannot be written cannot be opened with its write-ahead log; a copy of both can.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        try:
            for suffix in ("", "-wal"):
                if os.path.lexists(f"{path}{suffix}"):
                    shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
            with contextlib.closing(sqlite3.connect(copy)) as disk:
                disk.backup(memory)
            _prepare(memory)
        except (OSError, sqlite3.DatabaseError) as error:
            _log.warning("the ledger cannot be read, so pins, counts and versions are unknown: %s", error)
            memory.close()
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            _prepare(memory)
    return memory
