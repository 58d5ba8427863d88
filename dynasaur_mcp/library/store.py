"""What a store is: where actions, their versions and their history are kept. The one there is, is `filestore`."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.ledger import Mark
from dynasaur_mcp.types import (
    JSON,
    LOCAL,
    Action,
    Broken,
    Ending,
    Entry,
    LibraryChanged,
    Moment,
    Schemas,
    Status,
    Tests,
    Usage,
)


class Store(Protocol):
    """All actions. Any thread may call any method; each raises LibraryError when the store cannot be used."""

    @property
    def revision(self) -> int:
        """Grows with every change of any action."""
        ...

    def get(self, name: str) -> Entry:
        """The current version.

        Raises:
            ActionNotFound: names the nearest ones.
            ActionBroken: its file is no action now.
        """
        ...

    @property
    def identity(self) -> str:
        """Of its history, which another begun anew does not have: revisions are only comparable within one."""
        ...

    @property
    def moment(self) -> Moment:
        """Identity and revision, read at once."""
        ...

    def changed_after(self, mark: Mark, limit: int) -> list[Mark]:
        """Revision and name of each action that changed since, also of those that are gone, oldest change first."""
        ...

    def entries(self, after: str = "", limit: int | None = None, status: Status | None = None) -> list[Entry]:
        """Current versions by name: so many after one, or all; those of a status, or disabled ones too."""
        ...

    def entries_of(self, names: Collection[str]) -> list[Entry]:
        """Current versions of these, in no order; nothing for what is not there."""
        ...

    def marks(self, after: str, limit: int) -> list[Mark]:
        """Revision and name of each active action that was checked, by name: so many after one."""
        ...

    def near(self, name: str) -> list[str]:
        """Names to be taken for this one, which is not there."""
        ...

    def users(self, name: str) -> list[str]:
        """Names of the actions that import it."""
        ...

    def alike(self, shape: str) -> list[str]:
        """Those of that shape, see `shape`; the most called first, not all where there are many."""
        ...

    def exposed(self, limit: int) -> list[Entry]:
        """Active ones that were checked: all pinned ones, then the newest few, then the most called; ties by name.

        Args:
            limit: Of those that are not pinned.
        """
        ...

    def put(
        self,
        action: Action,
        *,
        author: str,
        tests: Tests,
        schemas: Schemas | None,
        status: Status,
        expected_version: int,
    ) -> Entry:
        """Keep a new version: the commit point of a definition. It is there wholly or not at all.

        Args:
            expected_version: The current version it replaces; 0: no action has the name now.

        Raises:
            ActionExists: another version is current.
            ActionNotFound: there is none to replace.
        """
        ...

    def record_check(
        self, name: str, version: int, *, tests: Tests, schemas: Schemas | None, status: Status, author: str = LOCAL
    ) -> Entry:
        """What a worker found out about a version that is already kept.

        Args:
            author: Who had it checked.

        Raises:
            ActionNotFound: no such version.
        """
        ...

    def unchecked(self) -> list[str]:
        """Names of those without schemas."""
        ...

    def history(self, name: str) -> list[Entry]:
        """Every version, newest first, also of a deleted action.

        Raises:
            ActionNotFound: there never was one.
        """
        ...

    def deleted(self) -> list[Entry]:
        """The last version of each action that is there no more, by name."""
        ...

    def rollback(self, name: str, version: int, *, author: str, require_approval: bool = False) -> Entry:
        """A new version like an old one; also brings back a deleted action. A disabled action stays disabled.

        Args:
            require_approval: One that was disabled comes back as a draft: whether it was approved is not known.

        Raises:
            ActionNotFound: there never was an action of that name.
            ActionError: no such version, or it is the current one.
        """
        ...

    def set_status(
        self,
        name: str,
        status: Status,
        *,
        expected_version: int | None = None,
        author: str = LOCAL,
        deed: Deed | None = None,
        note: str = "",
    ) -> Entry:
        """
        Args:
            expected_version: Only if this is the current one.
            deed: What goes on record, with a note; None: that it was disabled or enabled.

        Raises:
            ActionNotFound
            ActionExists: another version is current.
        """
        ...

    def set_pinned(self, name: str, pinned: bool, *, author: str = LOCAL) -> Entry: ...

    def delete(self, name: str, *, author: str = LOCAL) -> None:
        """Remove it; its history stays.

        Raises:
            ActionNotFound
        """
        ...

    def record_call(
        self,
        name: str,
        version: int,
        *,
        principal: str,
        ending: Ending,
        seconds: float,
        session: str = "",
        arguments: Mapping[str, JSON] | None = None,
        uses: Iterable[str] = (),
    ) -> None:
        """Count a call. Never raises: a call that was made is not undone by its bookkeeping.

        Args:
            session: As `Pool.identify` gives it; empty where it is not known.
            arguments: Kept if it returned, to be made again; None: it is not to be.
            uses: The actions that were used by way of it.
        """
        ...

    def record_imports(self, versions: Mapping[str, int], *, session: str, uses: Iterable[str] = ()) -> None:
        """Count a step that imported these actions and succeeded. Never raises. Otherwise as `record_call`."""
        ...

    def record_run(
        self,
        name: str = "",
        version: int = 0,
        *,
        principal: str,
        session: str,
        request: str,
        ending: str,
        ended_at: datetime,
        seconds: float,
        code: str = "",
    ) -> None:
        """Put on record that code ran, or an action whose call is not counted. Never raises. See `Record`."""
        ...

    def recorded_arguments(self, name: str, principal: str) -> list[dict[str, JSON]]:
        """Those of the principal's last distinct calls that returned, newest first; size-capped, none with secrets."""
        ...

    def record_queries(self, name: str, queries: Sequence[str]) -> bool:
        """Keep what was searched for before it was used, unless arguments are not kept; whether any of it is new."""
        ...

    def queries(self, name: str) -> list[str]:
        """What was searched for before it was used, newest first."""
        ...

    def look(self) -> None:
        """Take in what was changed by hand. Takes time for each action, so it is nothing to do every second."""
        ...

    def watch(self, stop: threading.Event) -> Iterator[None]:
        """Take in what is changed by hand once the system says so, until `stop` is set; each step is one time.

        It may not say so of all: this goes beside looks, not in place of them.

        Raises:
            LibraryError: the system cannot tell.
        """
        ...

    def news(self) -> LibraryChanged | None:
        """What others changed, or a look took in, since this was last asked; None: nothing."""
        ...

    def usages(self) -> dict[str, Usage]:
        """By name, also of deleted actions. Takes time for each action, not for each call."""
        ...

    def refresh(self) -> LibraryChanged | None:
        """Look, then the news."""
        ...

    def broken(self) -> list[Broken]:
        """What looks like an action and is none."""
        ...

    def close(self) -> None: ...
