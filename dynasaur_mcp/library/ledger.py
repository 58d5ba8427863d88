"""The SQLite ledger beside the action files: versions, calls, pins, disablings. Knows no file but its own.

One connection per process, behind one lock: every operation is short, and the cache of entries needs no second guess.
It stays valid until `PRAGMA data_version` says that another process has written. Every question to the ledger is one
method here, since each has to keep to that lock and that cache; that makes the file long. Opening it is in `database`,
changing it in `change`, saving it in `rescue`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.audit import KEPT_RUNS
from dynasaur_mcp.library.change import Change, Stat, read_row
from dynasaur_mcp.library.database import (
    IS_REUSE,
    LEDGER_FILE,
    PACE,
    can_write,
    check_version,
    open_for_writing,
    open_in_memory,
)
from dynasaur_mcp.library.rescue import Place, alone, find_place, restore, salvage, set_aside
from dynasaur_mcp.types import (
    RECENT_CALLS,
    Action,
    Broken,
    Ending,
    Entry,
    LibraryChanged,
    Moment,
    Problem,
    Status,
    Usage,
)

KEPT_ARGUMENTS = 20
"""Of each action, for each principal: those of the last distinct calls."""

_ENTRIES = """
SELECT a.name, v.version, v.status, a.pinned, v.author, v.defined_at, v.tests, v.schemas, v.details, v.sha256,
    s.source, a.calls, a.successes, CASE a.version WHEN v.version THEN a.recent ELSE '' END, a.used_at,
    a.revision
FROM actions a JOIN versions v ON v.name = a.name JOIN sources s ON s.sha256 = v.sha256
"""
_IS_EXPOSED = f"v.status = '{Status.ACTIVE}' AND v.schemas IS NOT NULL"
_COUNT_CALL = f"""
UPDATE actions SET calls = calls + 1, successes = successes + ?4, reuse = reuse + (?4 AND {IS_REUSE}), used_at = ?5,
    recent = CASE version WHEN ?2 THEN substr(recent || ?4, -{RECENT_CALLS}) ELSE recent END
WHERE name = ?1
"""
_COUNT_PACE = f"INSERT INTO paces VALUES (?2, {PACE}, 1) ON CONFLICT DO UPDATE SET count = count + 1"
_COUNT_IMPORT = f"UPDATE actions SET imports = imports + 1, reuse = reuse + {IS_REUSE} WHERE name = ?1"
_FORGET_ARGUMENTS = """
DELETE FROM arguments WHERE name = ?1 AND principal = ?2
    AND id <= (SELECT id FROM arguments WHERE name = ?1 AND principal = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)
"""
_FORGET_QUERIES = """
DELETE FROM queries WHERE name = ?1
    AND id <= (SELECT id FROM queries WHERE name = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)
"""

Execute = Callable[[str, tuple[object, ...]], object]
"""As of a connection."""

KEPT_QUERIES = 20
"""Of each action."""
CACHED = 1000
"""Entries that are kept in memory."""
NEIGHBOURS = 500
"""Names on either side of one that is not there, of which the nearest are looked for."""
MOST_OF_SHAPE = 2000
"""Versions of one shape that are looked at: a definition takes no longer where ten thousand are alike."""

Mark = tuple[int, str]
"""Revision and name: how far changes were followed."""


class Ledger:
    """What is known of each action. Opened on first use.

    One that cannot be written is read into memory and goes on there until `retry`; one that is damaged is set aside
    and made anew.
    """

    def __init__(self, folder: Path, *, keeps_arguments: bool = True, via: str = "") -> None:
        """
        Args:
            via: As `Record.via`.
        """
        self._path = folder / LEDGER_FILE
        self._via = via
        self._keeps_arguments = keeps_arguments
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._cache: dict[str, Entry] = {}
        self._data_version = -1
        self._depth = 0
        self._identity = ""
        self._opened = 0
        self._announced = 0
        self._own: set[int] = set()
        self._place: Place = None
        self._damaged: Place = None
        """The file that was found to be no good."""
        self._last_arguments: dict[tuple[str, str], int] = {}
        """Hashes, by action and principal: the same call again need not be written again."""
        self.writable = True

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone, with the cache in step."""
        with self._lock, self._translated():
            if self._depth == 0 and not (self._connection and self._place == find_place(self._path)):
                self._require_folder()
                if self._connection:
                    self._leave()
            connection = self._connection or self._open()
            (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version:
                check_version(connection)
                self._data_version = data_version
                self._forget()
            self._depth += 1
            try:
                yield connection
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def changing(self, *, own: bool = True) -> Iterator[Change]:
        """A durable transaction. The revision grows with it if it changes any action.

        `own` changes are announced by whoever makes them; the others come out of `take_news`.
        """
        with self.reading() as connection:
            change = Change(connection, self._via)
            connection.execute("PRAGMA synchronous = FULL")
            _begin(connection)
            try:
                yield change
                revision = change.stamp()
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                connection.execute("PRAGMA synchronous = NORMAL")
                for name in change.names:
                    self._forget(name)
            if own:
                self._own.add(revision)

    def _forget(self, name: str | None = None) -> None:
        if name is None:
            self._cache.clear()
        else:
            self._cache.pop(name, None)

    def moment(self) -> Moment:
        with self.reading() as connection:
            return Moment(*connection.execute("SELECT id, revision FROM state").fetchone())

    def take_news(self) -> LibraryChanged | None:
        """What others changed, or what was found in the folder, since this was last asked."""
        with self.reading() as connection:
            revision, identity = connection.execute("SELECT revision, id FROM state").fetchone()
            if identity != self._identity:
                # Of one that took the place of another, all is news.
                self._identity, self._announced = identity, 0
                self._own.clear()
            rows = connection.execute("SELECT name, revision FROM actions WHERE revision > ?", (self._announced,))
            names = sorted(name for name, changed in rows if changed not in self._own)
            self._announced = revision
            self._own.clear()
            return LibraryChanged(revision, tuple(names)) if names else None

    def find(self, name: str) -> Entry | None:
        with self.reading() as connection:
            if name not in self._cache:
                query = f"{_ENTRIES} WHERE a.name = ? AND v.version = a.version"
                row = connection.execute(query, (name,)).fetchone()
                if row is None:
                    return None
                if len(self._cache) >= CACHED:
                    self._cache.pop(next(iter(self._cache)))
                self._cache[name] = read_row(row)
            return self._cache[name]

    def find_all(self, after: str, limit: int, status: Status | None) -> list[Entry]:
        """Current entries by name, those after one; a limit of -1 is none."""
        query = f"""{_ENTRIES} WHERE v.version = a.version AND a.name > ?1 AND v.status = coalesce(?3, v.status)
            ORDER BY a.name LIMIT ?2"""
        with self.reading() as connection:
            return [read_row(row) for row in connection.execute(query, (after, limit, status))]

    def find_these(self, names: Collection[str]) -> list[Entry]:
        """Current entries of those that there are."""
        query = f"""{_ENTRIES} WHERE v.version = a.version AND a.name IN (SELECT value FROM json_each(?))"""
        with self.reading() as connection:
            return [read_row(row) for row in connection.execute(query, (json.dumps(list(names)),))]

    def find_exposed(self, after: str, limit: int) -> list[Mark]:
        """Those that can be tools, by name, those after one. CROSS JOIN as in `rank`."""
        query = f"""SELECT a.revision, a.name FROM actions a CROSS JOIN versions v
            ON v.name = a.name AND v.version = a.version WHERE a.name > ? AND {_IS_EXPOSED} ORDER BY a.name LIMIT ?"""
        with self.reading() as connection:
            return connection.execute(query, (after, limit)).fetchall()

    def find_deleted(self) -> list[Entry]:
        """The last versions of those that have no file any more, by name."""
        query = f"""{_ENTRIES} WHERE a.version = 0
            AND v.version = (SELECT max(version) FROM versions WHERE name = a.name)
            AND NOT EXISTS (SELECT 1 FROM files WHERE file = a.name || '.py') ORDER BY a.name"""
        with self.reading() as connection:
            return [read_row(row) for row in connection.execute(query)]

    def find_history(self, name: str) -> list[Entry]:
        """Every version, newest first."""
        with self.reading() as connection:
            rows = connection.execute(f"{_ENTRIES} WHERE a.name = ? ORDER BY v.version DESC", (name,)).fetchall()
            return [read_row(row) for row in rows]

    def opened(self) -> int:
        """How often it was opened: it may be another one than before."""
        with self.reading():
            return self._opened

    def find_changed(self, mark: Mark, limit: int) -> list[Mark]:
        """The actions that changed after it, also those that are gone, in the order of their last changes."""
        query = "SELECT revision, name FROM actions WHERE (revision, name) > (?, ?) ORDER BY revision, name LIMIT ?"
        with self.reading() as connection:
            return connection.execute(query, (*mark, limit)).fetchall()

    def find_near(self, name: str) -> list[str]:
        """Names that begin like it, or else sort next to it: all, where there are few."""
        query = """SELECT name FROM (SELECT name FROM actions WHERE version > 0 AND name >= ?1 ORDER BY name LIMIT ?2)
            UNION ALL SELECT name FROM (
                SELECT name FROM actions WHERE version > 0 AND name < ?1 ORDER BY name DESC LIMIT ?2)"""
        return self._find_names(query, (name, NEIGHBOURS))

    def find_users(self, name: str) -> list[str]:
        """Those whose current version imports it."""
        query = """SELECT a.name FROM uses u JOIN actions a ON a.name = u.name AND a.version = u.version
            WHERE u.used = ? ORDER BY a.name"""
        return self._find_names(query, (name,))

    def find_alike(self, shape: str) -> list[str]:
        """Those whose current version has this shape: of the first so many versions of it, not of all."""
        query = """WITH some AS MATERIALIZED (
                SELECT name, version FROM versions WHERE json_extract(details, '$.shape') = ? LIMIT ?)
            SELECT a.name FROM some CROSS JOIN actions a ON a.name = some.name AND a.version = some.version
            ORDER BY a.calls DESC, a.name"""
        return self._find_names(query, (shape, MOST_OF_SHAPE))

    def find_unshaped(self, limit: int) -> list[tuple[int, str, str]]:
        """Id, name and source of versions that were kept before shapes were."""
        query = """SELECT v.rowid, v.name, s.source FROM versions v JOIN sources s ON s.sha256 = v.sha256
            WHERE json_extract(v.details, '$.shape') IS NULL LIMIT ?"""
        with self.reading() as connection:
            return connection.execute(query, (limit,)).fetchall()

    def find_unchecked(self) -> list[str]:
        """By name. CROSS JOIN has SQLite begin with those versions; it would go through all actions."""
        query = """SELECT v.name FROM versions v CROSS JOIN actions a ON a.name = v.name AND a.version = v.version
            WHERE v.schemas IS NULL ORDER BY v.name"""
        return self._find_names(query, ())

    def rank(self, newest: int, limit: int) -> list[str]:
        """Those that can be tools: all pinned ones, then so many of the newest and of the most called; ties by name.

        CROSS JOIN has SQLite begin with the first table, in the order of its index, and stop when it has enough.
        """
        of_actions = "FROM actions a CROSS JOIN versions v ON v.name = a.name AND v.version = a.version"
        of_versions = "FROM versions v CROSS JOIN actions a ON a.name = v.name AND a.version = v.version"
        first = f"WHERE a.pinned AND {_IS_EXPOSED} ORDER BY a.name"
        rest = f"WHERE NOT a.pinned AND {_IS_EXPOSED} ORDER BY"
        with self.reading():
            pinned = self._find_names(f"SELECT a.name {of_actions} {first}", ())
            new = self._find_names(f"SELECT a.name {of_versions} {rest} v.defined_at DESC, v.name LIMIT ?", (newest,))
            most = self._find_names(f"SELECT a.name {of_actions} {rest} a.calls DESC, a.name LIMIT ?", (limit,))
        return [*pinned, *list(dict.fromkeys([*new, *most]))[:limit]]

    def _find_names(self, query: str, values: tuple[str | int, ...]) -> list[str]:
        with self.reading() as connection:
            return [name for (name,) in connection.execute(query, values)]

    def find_source(self, name: str, sha256: str) -> Action | None:
        """What some version of it with this source was read as."""
        with self.reading() as connection:
            query = f"{_ENTRIES} WHERE a.name = ? AND v.sha256 = ? LIMIT 1"
            row = connection.execute(query, (name, sha256)).fetchone()
            return read_row(row).action if row else None

    def find_files(self) -> dict[str, Stat]:
        """Each file as it was when it was last read."""
        with self.reading() as connection:
            rows = connection.execute("SELECT file, mtime_ns, size FROM files")
            return {file: (mtime_ns, size) for file, mtime_ns, size in rows}

    def find_file(self, file: str) -> Stat | None:
        with self.reading() as connection:
            return Change(connection).find_file(file)

    def find_broken(self, file: str | None = None) -> list[Broken]:
        """Files that are no actions; of that name, or all."""
        query = "SELECT file, problems FROM files WHERE problems IS NOT NULL AND file = coalesce(?, file) ORDER BY file"
        with self.reading() as connection:
            rows = connection.execute(query, (file,))
            return [Broken(file, tuple(Problem(*values) for values in json.loads(text))) for file, text in rows]

    def add_call(
        self,
        name: str,
        version: int,
        *,
        principal: str,
        session: str,
        ending: Ending,
        seconds: float,
        arguments: str | None,
        uses: Iterable[str],
    ) -> None:
        """
        Args:
            arguments: As JSON, of a call that can be made again; None: they are not kept.
            uses: Names of the actions that were used by way of it.
        """
        now = datetime.now(UTC)
        succeeded = ending is Ending.RETURNED
        with self._counting() as execute:
            at = now.isoformat()
            row = (at, name, version, principal, ending, seconds, session)
            execute("INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
            execute(_COUNT_CALL, (name, version, session, succeeded, at))
            if succeeded:
                execute(_COUNT_PACE, (seconds, name))
            whose = (name, principal)
            if arguments is not None and self._last_arguments.get(whose) != hash(arguments):
                execute("INSERT OR REPLACE INTO arguments VALUES (NULL, ?, ?, ?)", (*whose, arguments))
                execute(_FORGET_ARGUMENTS, (*whose, KEPT_ARGUMENTS))
                self._last_arguments[whose] = hash(arguments)
            self._note_use(execute, now, uses)
            if entry := self._cache.get(name):
                recent = f"{entry.recent}{succeeded:d}"[-RECENT_CALLS:] if entry.version == version else entry.recent
                self._cache[name] = replace(
                    entry,
                    calls=entry.calls + 1,
                    successes=entry.successes + succeeded,
                    recent=recent,
                    used_at=now,
                )

    def add_imports(self, versions: Mapping[str, int], session: str, uses: Iterable[str]) -> None:
        """Count a step that imported these actions. `uses` as in `add_call`."""
        now = datetime.now(UTC)
        with self._counting() as execute:
            for name, version in versions.items():
                row = (now.isoformat(), name, version, session)
                execute("INSERT INTO imports VALUES (NULL, ?, ?, ?, ?)", row)
                execute(_COUNT_IMPORT, (name, version, session))
            self._note_use(execute, now, [*versions, *uses])

    def add_run(
        self,
        name: str,
        version: int,
        *,
        principal: str,
        session: str,
        request: str,
        ending: str,
        ended_at: datetime,
        seconds: float,
        sha256: str,
        code_bytes: int | None,
    ) -> None:
        """A run that `add_call` does not count. See `Record`."""
        at = ended_at.isoformat()
        row = (at, name, version, principal, session, request, ending, seconds, sha256, code_bytes)
        with self._counting() as execute:
            execute("INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            execute("DELETE FROM runs WHERE id <= last_insert_rowid() - ?", (KEPT_RUNS,))

    @contextlib.contextmanager
    def _counting(self) -> Iterator[Execute]:
        """A transaction by hand that changes no action: it need not be on the disk at once."""
        with self.reading() as connection:
            _begin(connection)
            try:
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                self._forget()
                raise

    def _note_use(self, execute: Execute, now: datetime, names: Iterable[str]) -> None:
        for name in names:
            execute("UPDATE actions SET used_at = ? WHERE name = ?", (now.isoformat(), name))
            if entry := self._cache.get(name):
                self._cache[name] = replace(entry, used_at=now)

    def find_usages(self) -> dict[str, Usage]:
        """Of each action there ever was."""
        with self.reading() as connection:
            query = """SELECT v.name, v.author, coalesce(a.imports, 0), coalesce(a.reuse, 0), min(v.version)
                FROM versions v LEFT JOIN actions a ON a.name = v.name GROUP BY v.name"""
            rows = connection.execute(query).fetchall()
            paces = connection.execute("SELECT name, seconds, count FROM paces ORDER BY name, seconds").fetchall()
        medians = {name: _find_median(list(group)) for name, group in groupby(paces, itemgetter(0))}
        return {name: Usage(maker, imports, reuse, medians.get(name)) for name, maker, imports, reuse, _ in rows}

    def find_arguments(self, name: str, principal: str) -> list[str]:
        """Those kept of the principal's calls of it, as JSON, newest first."""
        with self.reading() as connection:
            query = "SELECT arguments FROM arguments WHERE name = ? AND principal = ? ORDER BY id DESC"
            rows = connection.execute(query, (name, principal))
            return [arguments for (arguments,) in rows]

    def add_queries(self, name: str, queries: Iterable[str]) -> bool:
        """Whether any of them is new. So many are kept, the last ones asked."""
        before = self.find_queries(name)
        with self._counting() as execute:
            for query in queries:
                execute("INSERT OR REPLACE INTO queries VALUES (NULL, ?, ?)", (name, query))
            execute(_FORGET_QUERIES, (name, KEPT_QUERIES))
        return not set(before) >= set(self.find_queries(name))

    def find_queries(self, name: str) -> list[str]:
        """Newest first."""
        with self.reading() as connection:
            rows = connection.execute("SELECT query FROM queries WHERE name = ? ORDER BY id DESC", (name,))
            return [query for (query,) in rows]

    def retry(self) -> None:
        """Go on in the file if it could not be written and now can. What was known in memory alone is forgotten."""
        with self._lock:
            if self.writable or not can_write(self._path):
                return
            with contextlib.suppress(LibraryError, sqlite3.Error):
                open_for_writing(self._path).close()
                self.close()
                self.writable = True

    def close(self) -> None:
        with self._lock:
            if self._connection:
                self._connection.close()
                self._connection = None
                self._forget()

    def _open(self) -> sqlite3.Connection:
        # On a read-only file system SQLite opens it all the same, and fails at the first change.
        self.writable = can_write(self._path)
        try:
            connection = self._open_file() if self.writable else open_in_memory(self._path)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            self.writable = False
            connection = open_in_memory(self._path)
        if not self._keeps_arguments:
            _forget_arguments(connection)
        self._connection, self._place = connection, find_place(self._path)
        self._opened += 1
        self._last_arguments.clear()
        if self._identity:
            # It may be an earlier copy of the one that was here, whose revisions mean something else.
            connection.execute("UPDATE state SET id = hex(randomblob(8)) WHERE id = ?", (self._identity,))
        else:
            self._announced, self._identity = connection.execute("SELECT revision, id FROM state").fetchone()
        return connection

    def _open_file(self) -> sqlite3.Connection:
        with alone(self._path.parent):
            damaged = self._damaged
            self._damaged = None
            try:
                # Another server may have set it aside already.
                if damaged is None or damaged != find_place(self._path):
                    return open_for_writing(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                pass
            aside = set_aside(self._path)
            connection = open_for_writing(self._path)
            salvage(aside, connection)
            return connection

    def _require_folder(self) -> None:
        """What is open stays so while its folder is away: it may be the only copy of the history."""
        if not self._path.parent.is_dir():
            raise LibraryError("The library folder is not there now. It is used again once it is back.")

    def _leave(self) -> None:
        """The file that is open has its name no more. Write it again if there is none; the one of that name is next."""
        try:
            with alone(self._path.parent):
                if self._connection and find_place(self._path) is None:
                    restore(self._connection, self._path)
        except (sqlite3.Error, OSError):
            if find_place(self._path) is None:
                return  # nobody else may have the history: it stays open, and is written with the next question
        self.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise LibraryError("The library is busy: another process is writing to it. Try again.") from error
            raise LibraryError(f"The library's ledger cannot be used: {error}.") from error
        except OSError as error:
            raise LibraryError(f"The library's ledger cannot be reached: {error.strerror}.") from error
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            self._damaged = self._place
            self.close()
            raise LibraryError("The library's ledger was damaged and is made anew. Try again.") from error


def _begin(connection: sqlite3.Connection) -> None:
    """A transaction that writes; nothing is written to what a newer release has taken over."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_version(connection)
    except BaseException:
        _roll_back(connection)
        raise


def _find_median(paces: Sequence[tuple[str, float, int]]) -> float:
    """Of so many times each of these seconds, which ascend."""
    ends = list(accumulate(count for *_, count in paces))
    low, high = (bisect_right(ends, place) for place in ((ends[-1] - 1) // 2, ends[-1] // 2))
    return (paces[low][1] + paces[high][1]) / 2


def _roll_back(connection: sqlite3.Connection) -> None:
    # On a full disk SQLite has done so by itself.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _forget_arguments(connection: sqlite3.Connection) -> None:
    """Those kept before they were not wanted: also from the file, where what is deleted stays for a while.

    With them goes what was searched for before the calls.
    """
    if connection.execute("SELECT 1 FROM arguments UNION ALL SELECT 1 FROM queries").fetchone():
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM arguments")
        connection.execute("DELETE FROM queries")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
