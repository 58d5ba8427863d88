"""One transaction on the ledger, and how actions are written in its rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.types import JSON, Action, Entry, Parameter, Problem, Schemas, Status, Tests

_WHAT = "name, version, sha256, details, defined_at"
_KEEPING = "author, status, tests, schemas"

FILE_AUTHOR = "file"
"""The author of versions found in the folder."""

Stat = tuple[int, int]
"""A file's mtime_ns and size."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of a version besides its source."""

    author: str
    status: Status
    tests: Tests
    schemas: Schemas | None

    def write(self) -> tuple[str, Status, str, str | None]:
        return self.author, self.status, _write_tests(self.tests), _write_schemas(self.schemas)


def _read_keeping(row: tuple[str, str, str, str | None]) -> Keeping:
    author, status, tests, schemas = row
    return Keeping(author, Status(status), _read_tests(tests), _read_schemas(schemas))


def _read_tests(text: str) -> Tests:
    passed, failures = json.loads(text)
    return Tests(passed, tuple(failures))


def _write_tests(tests: Tests) -> str:
    return json.dumps([tests.passed, tests.failures])


def _read_schemas(text: str | None) -> Schemas | None:
    return Schemas(*json.loads(text)) if text else None


def _write_schemas(schemas: Schemas | None) -> str | None:
    return json.dumps([schemas.input, schemas.output, schemas.wraps_result]) if schemas else None


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction under way, and the actions it has changed."""

    connection: sqlite3.Connection
    via: str = ""
    """As `Record.via`."""
    names: set[str] = field(default_factory=set)

    def note_deed(self, deed: Deed, name: str, version: int, principal: str, note: str = "") -> None:
        values = (datetime.now(UTC).isoformat(), deed, name, version, principal, self.via, note)
        self.connection.execute("INSERT INTO deeds VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", values)

    def find_version(self, name: str) -> tuple[int, str]:
        """The current version and its hash; 0 and empty when there is none."""
        query = """SELECT a.version, v.sha256 FROM actions a
            JOIN versions v ON v.name = a.name AND v.version = a.version WHERE a.name = ?"""
        row = self.connection.execute(query, (name,)).fetchone()
        return (row[0], row[1]) if row else (0, "")

    def set_version(self, name: str, version: int) -> None:
        """Which version is current; 0: none."""
        query = """INSERT INTO actions (name, version) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET version = ?2, recent = ''"""
        self.connection.execute(query, (name, version))
        self.names.add(name)

    def lose(self, name: str, deed: Deed, principal: str) -> None:
        """There is no good file of it any more."""
        if version := self.find_version(name)[0]:
            self.set_version(name, 0)
            self.note_deed(deed, name, version, principal)

    def set_status(self, name: str, status: Status) -> int:
        """Of the current version; which that is, 0 for none."""
        version, _ = self.find_version(name)
        query = "UPDATE versions SET status = ? WHERE name = ? AND version = ?"
        self.connection.execute(query, (status, name, version))
        self.names.add(name)
        return version

    def set_pinned(self, name: str, pinned: bool) -> int:
        """Which version is current, 0 for none."""
        query = "UPDATE actions SET pinned = ? WHERE name = ? AND version > 0 RETURNING version"
        self.names.add(name)
        row = self.connection.execute(query, (pinned, name)).fetchone()
        return int(row[0]) if row else 0

    def record_check(self, name: str, version: int, tests: Tests, schemas: Schemas | None, status: Status) -> bool:
        """A version that was disabled while it was being checked stays so."""
        kept = f"CASE status WHEN '{Status.DISABLED}' THEN status ELSE ? END"
        values = (status, _write_tests(tests), _write_schemas(schemas), name, version)
        query = f"UPDATE versions SET status = {kept}, tests = ?, schemas = ? WHERE name = ? AND version = ?"
        self.names.add(name)
        return bool(self.connection.execute(query, values).rowcount)

    def add_version(self, action: Action, keeping: Keeping, deed: Deed, note: str = "") -> None:
        """The next version, now current."""
        execute = self.connection.execute
        execute("INSERT OR IGNORE INTO sources VALUES (?, ?)", (action.sha256, action.source))
        (last,) = execute("SELECT max(version) FROM versions WHERE name = ?", (action.name,)).fetchone()
        version = (last or 0) + 1
        now = datetime.now(UTC).isoformat()
        what = (action.name, version, action.sha256, _write_details(action), now)
        execute(f"INSERT INTO versions ({_WHAT}, {_KEEPING}) VALUES ({_marks(9)})", (*what, *keeping.write()))
        uses = [(used, action.name, version) for used in action.uses]
        self.connection.executemany("INSERT INTO uses VALUES (?, ?, ?)", uses)
        self.set_version(action.name, version)
        how = f"{keeping.status}, {keeping.tests}"
        self.note_deed(deed, action.name, version, keeping.author, f"{note}: {how}" if note else how)

    def set_shape(self, version_id: int, shape: str) -> None:
        query = "UPDATE versions SET details = json_set(details, '$.shape', ?) WHERE rowid = ?"
        self.connection.execute(query, (shape, version_id))

    def note_intent(self, action: Action, keeping: Keeping) -> None:
        values = (action.name, action.sha256, *keeping.write())
        query = f"INSERT OR REPLACE INTO intents (name, sha256, {_KEEPING}) VALUES ({_marks(6)})"
        self.connection.execute(query, values)

    def forget_intent(self, action: Action) -> None:
        query = "DELETE FROM intents WHERE name = ? AND sha256 = ?"
        self.connection.execute(query, (action.name, action.sha256))

    def adopt(self, action: Action) -> None:
        """Take note that this is what the file of the action says now."""
        execute, names = self.connection.execute, (action.name, action.sha256)
        # Of a ledger that was damaged, a version may be known whose source is lost.
        execute("INSERT OR IGNORE INTO sources VALUES (?, ?)", (action.sha256, action.source))
        query = "SELECT version, sha256 FROM versions WHERE name = ? ORDER BY version DESC LIMIT 1"
        latest = execute(query, (action.name,)).fetchone()
        if latest and latest[1] == action.sha256:
            if self.find_version(action.name)[0] != latest[0]:
                self.set_version(action.name, latest[0])
                self.note_deed(Deed.FOUND, action.name, latest[0], FILE_AUTHOR)
            return
        intent = execute(f"SELECT {_KEEPING} FROM intents WHERE name = ? AND sha256 = ?", names).fetchone()
        query = f"SELECT {_KEEPING} FROM versions WHERE name = ? AND sha256 = ? ORDER BY version DESC LIMIT 1"
        earlier = execute(query, names).fetchone()
        if intent:
            keeping = _read_keeping(intent)
        elif earlier and Status(earlier[1]) is not Status.DISABLED:
            keeping = replace(_read_keeping(earlier), author=FILE_AUTHOR)
        else:
            # Of one that was disabled it is not known whether a person had approved it: it is checked as if new.
            keeping = Keeping(FILE_AUTHOR, Status.DRAFT, Tests(), None)
        self.add_version(action, keeping, Deed.DEFINE if intent else Deed.FOUND)
        self.forget_intent(action)

    def find_file(self, file: str) -> Stat | None:
        row = self.connection.execute("SELECT mtime_ns, size FROM files WHERE file = ?", (file,)).fetchone()
        return (row[0], row[1]) if row else None

    def note_file(self, file: str, stat: Stat, problems: Sequence[Problem] = ()) -> None:
        """How a file was when it was read, and why it is no action, if so."""
        text = json.dumps([[problem.message, problem.line] for problem in problems]) if problems else None
        self.connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (file, *stat, text))

    def forget_file(self, file: str) -> None:
        self.connection.execute("DELETE FROM files WHERE file = ?", (file,))

    def stamp(self) -> int:
        """Count the change; its revision, 0 if it changed no action."""
        if not self.names:
            return 0
        query = "UPDATE state SET revision = revision + 1 RETURNING revision"
        (revision,) = self.connection.execute(query).fetchone()
        stamps = [(revision, name) for name in self.names]
        self.connection.executemany("UPDATE actions SET revision = ? WHERE name = ?", stamps)
        return int(revision)


def decide_status(tests: Tests, require_approval: bool = False) -> Status:
    """Active if it has tests, they passed, and no person has to look at it first."""
    return Status.ACTIVE if tests.passed and not tests.failures and not require_approval else Status.DRAFT


def read_row(row: tuple[JSON, ...]) -> Entry:
    name, version, status, pinned, author, defined_at, tests, schemas, details, sha256, source, *used = row
    calls, successes, recent, used_at, revision = used
    return Entry(
        action=_read_details(name, source, sha256, json.loads(details)),
        version=version,
        status=Status(status),
        pinned=bool(pinned),
        author=author,
        defined_at=datetime.fromisoformat(defined_at),
        tests=_read_tests(tests),
        schemas=_read_schemas(schemas),
        calls=calls,
        successes=successes,
        recent=recent,
        used_at=datetime.fromisoformat(used_at) if used_at else None,
        revision=revision,
    )


def _read_details(name: str, source: str, sha256: str, details: JSON) -> Action:
    lists = {key: tuple(value) for key, value in details.items() if isinstance(value, list)}
    parameters = tuple(Parameter(*values) for values in details["parameters"])
    return Action(**{**details, **lists, "parameters": parameters}, name=name, source=source, sha256=sha256)


def _write_details(action: Action) -> str:
    details = {key: value for key, value in asdict(action).items() if key not in ("name", "source", "sha256")}
    details["parameters"] = [list(parameter.values()) for parameter in details["parameters"]]
    return json.dumps(details)


def _marks(count: int) -> str:
    return ", ".join("?" * count)
