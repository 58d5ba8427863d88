"""The audit log: what was done to the library and what was run, by whom and when. Of code it has a hash, of arguments
and results nothing.

Changes of actions are *deeds*, written in the transaction of the change itself, so that there is none without the
other. Calls are those that are counted anyway. Everything else that ran is written as it ends.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

KEPT_RUNS = 100_000
"""Runs of code; the oldest go first."""
REQUEST_CHARACTERS = 100
"""Of the id that a client gave its request."""


class Deed(StrEnum):
    """What was done."""

    DEFINE = "define"
    ROLLBACK = "rollback"
    """Also the restoring of a deleted action."""
    TEST = "test"
    """Checked again; a draft may have become active by it."""
    APPROVE = "approve"
    ENABLE = "enable"
    DISABLE = "disable"
    PIN = "pin"
    UNPIN = "unpin"
    DELETE = "delete"
    FOUND = "found"
    """In the folder: written, changed or brought back by hand."""
    GONE = "gone"
    """From the folder, or made unreadable there, by hand."""
    CALL = "call"
    RUN = "run"
    """Of a piece of code."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log. Empty or None is what is not known, or is nothing that this deed has."""

    at: datetime
    """Of a call or a run its end."""
    deed: Deed
    name: str
    """Of the action."""
    version: int
    principal: str
    via: str
    """Of a change: `serve`, for what was done through a server, or `command`."""
    note: str
    session: str
    """Of a call its id; of a run its name."""
    request: str
    """As its client numbers it."""
    ending: str
    seconds: float | None
    sha256: str
    """Of the code that was run, in UTF-8."""
    code_bytes: int | None


_RECORDS = """
SELECT at, deed, name, version, principal, via, note, session, request, ending, seconds, sha256, code_bytes FROM (
    SELECT at, deed, name, version, principal, via, note, '' AS session, '' AS request, '' AS ending, NULL AS seconds,
        '' AS sha256, NULL AS code_bytes FROM deeds
    UNION ALL SELECT * FROM (
        SELECT at, 'call', name, version, principal, '', '', session, '', ending, seconds, '', NULL FROM calls
        WHERE at >= ?1 AND principal = coalesce(?2, principal) AND name = coalesce(?3, name)
        ORDER BY id DESC LIMIT ?5)
    UNION ALL SELECT at, CASE name WHEN '' THEN 'run' ELSE 'call' END, name, version, principal, '', '', session,
        request, ending, seconds, sha256, code_bytes FROM runs)
WHERE at >= ?1 AND principal = coalesce(?2, principal) AND name = coalesce(?3, name)
    AND deed IN (SELECT value FROM json_each(?4))
ORDER BY at DESC LIMIT ?5
"""
"""Calls may be very many: they are gone through from the newest on, and not sorted."""


def find_records(
    connection: sqlite3.Connection,
    *,
    since: datetime | None = None,
    principal: str | None = None,
    name: str | None = None,
    deeds: Collection[Deed] = tuple(Deed),
    limit: int,
) -> list[Record]:
    """The last ones of these, newest first. Goes through all changes and runs, and as many calls as it takes."""
    after = since.isoformat() if since else ""
    rows = connection.execute(_RECORDS, (after, principal, name, json.dumps(list(deeds)), limit))
    return [Record(datetime.fromisoformat(at), Deed(deed), *rest) for at, deed, *rest in rows]
