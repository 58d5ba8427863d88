"""The store in a folder of `.py` files, which are the truth, with a ledger beside them. `store` says what it promises.

What a file says now is an action's current version; the ledger adds what no file can say. A definition is kept at the
moment its file is replaced: the ledger learns of it in the same transaction, and the intent noted before lets the next
reader finish the sentence when a server is killed between the two.

Every promise of the contract is one method here, most of them a few lines over the ledger; that makes the file long.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from dynasaur_mcp.errors import ActionBroken, ActionDeleted, ActionError, ActionExists, ActionNotFound, LibraryError
from dynasaur_mcp.library import folder as files
from dynasaur_mcp.library.audit import REQUEST_CHARACTERS, Deed, Record, find_records
from dynasaur_mcp.library.change import FILE_AUTHOR, Change, Keeping, decide_status
from dynasaur_mcp.library.ledger import Ledger, Mark
from dynasaur_mcp.library.recording import write_arguments
from dynasaur_mcp.types import (
    JSON,
    LOCAL,
    NAME_PATTERN,
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

NEWEST = 5
"""So many of the newest actions are exposed before the most called ones."""

_BATCH = 200
"""Changed files that are taken in at once: the next server is not kept waiting for all of them."""
_FIRST_LOOK_SECONDS = 1.0

SHAPED_AT_ONCE = 200

_log = logging.getLogger(__name__)


class FileStore:
    """A store in a folder; see `Store`. Several processes may use one folder at a time."""

    def __init__(self, folder: Path, arguments_bytes: int = 8192, via: str = "") -> None:
        """Makes the folder if need be. What is in it is read on first use.

        Args:
            arguments_bytes: Kept of one call's arguments at most, as JSON; 0: none are, nor those of before.
            via: As `Record.via`.

        Raises:
            LibraryError: it cannot be made, or is no folder.
        """
        self._folder = Path(folder).absolute()
        files.open_folder(self._folder)
        self._arguments_bytes = arguments_bytes
        self._known = Ledger(self._folder, keeps_arguments=arguments_bytes > 0, via=via)
        self._looking = threading.Lock()
        self._looked = 0
        """Into the folder, with the ledger as it was opened at that time."""

    @property
    def _ledger(self) -> Ledger:
        """What is known, after a first look at the folder; one that takes long is not waited for by all."""
        if self._has_to_look() and self._looking.acquire(timeout=_FIRST_LOOK_SECONDS):
            self._looking.release()
            if self._has_to_look():
                self.look()
        return self._known

    def _ledger_of(self, name: str) -> Ledger:
        """What is known, with the latest of one action: nobody who calls it waits for a look at all."""
        if self._has_to_look():
            self._look_at(name)
        return self._known

    def _has_to_look(self) -> bool:
        return self._looked != self._known.opened()

    @property
    def revision(self) -> int:
        return self._known.moment().revision

    def get(self, name: str) -> Entry:
        ledger = self._ledger_of(name)
        if entry := ledger.find(name):
            return entry
        for broken in ledger.find_broken(f"{name}.py"):
            raise ActionBroken(name, broken.problems)
        if versions := ledger.find_history(name):
            raise ActionDeleted(name, versions[0].version)
        raise ActionNotFound(name, self._known.find_near(name))

    @property
    def identity(self) -> str:
        return self._known.moment().identity  # as with `exposed`

    @property
    def moment(self) -> Moment:
        return self._known.moment()

    def changed_after(self, mark: Mark, limit: int) -> list[Mark]:
        return self._ledger.find_changed(mark, limit)

    def entries(self, after: str = "", limit: int | None = None, status: Status | None = None) -> list[Entry]:
        return self._ledger.find_all(after, -1 if limit is None else limit, status)

    def entries_of(self, names: Collection[str]) -> list[Entry]:
        return self._ledger.find_these(names)

    def marks(self, after: str, limit: int) -> list[Mark]:
        return self._ledger.find_exposed(after, limit)

    def near(self, name: str) -> list[str]:
        return self._ledger.find_near(name)

    def users(self, name: str) -> list[str]:
        return self._ledger.find_users(name)

    def alike(self, shape: str) -> list[str]:
        self._shape_old()
        return self._ledger.find_alike(shape)

    def _shape_old(self) -> None:
        """Versions that were kept before shapes were get theirs, some at a time: no definition waits for all."""
        old = self._ledger.find_unshaped(SHAPED_AT_ONCE)
        if not old or not self._ledger.writable:
            return
        # Imported here: a library without such versions needs no parser.
        from dynasaur_mcp.library.reading import read_shape

        shapes = [(version_id, read_shape(source, name)) for version_id, name, source in old]
        with self._ledger.changing() as change:
            for version_id, shape in shapes:
                change.set_shape(version_id, shape)

    def exposed(self, limit: int) -> list[Entry]:
        # Of what the ledger knows: the first list of tools does not wait for a look at the folder.
        found = (self._known.find(name) for name in self._known.rank(NEWEST, limit))
        return [entry for entry in found if entry]

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
        return self._keep(action, Keeping(author, status, tests, schemas), expected_version, Deed.DEFINE)

    def _keep(self, action: Action, keeping: Keeping, expected_version: int, deed: Deed, note: str = "") -> Entry:
        # A file that someone has just edited must be seen, not overwritten.
        self._look_at(action.name)
        self._require_writable()
        with self._known.changing() as change:
            self._check_expected(change, action.name, expected_version)
            change.note_intent(action, keeping)
        try:
            with contextlib.ExitStack() as undo:
                with self._known.changing() as change:
                    if self._check_expected(change, action.name, expected_version) != action.sha256:
                        self._write(change, action, undo)
                    change.add_version(action, keeping, deed, note)
                undo.pop_all()
        finally:
            with contextlib.suppress(LibraryError), self._known.changing() as change:
                change.forget_intent(action)
        return self.get(action.name)

    def _write(self, change: Change, action: Action, undo: contextlib.ExitStack) -> None:
        path = self._folder / f"{action.name}.py"
        before = path.read_bytes() if path.exists() else None
        change.note_file(path.name, files.settle_stat(files.write_file(path, action.source.encode())))
        # Should the ledger be unable to follow, as on a full disk, nothing was defined.
        undo.callback(files.remove_file, path) if before is None else undo.callback(files.write_file, path, before)

    def _check_expected(self, change: Change, name: str, expected: int) -> str:
        """The hash of what is there now, empty if nothing is.

        Raises:
            ActionExists, ActionNotFound: it is not what was expected.
        """
        current, sha256 = change.find_version(name)
        if expected == 0 and current:
            hint = "Say that it replaces it, or choose another name"
            raise ActionExists(f"An action named {name!r} exists, at version {current}. {hint}.")
        if expected and not current:
            raise ActionNotFound(name, self._known.find_near(name))
        if expected != current:
            hint = "Look at it with manage_action, then define it again"
            raise ActionExists(f"{name!r} has changed meanwhile: it is at version {current}, not {expected}. {hint}.")
        if (self._folder / f"{name}.py").exists() != bool(current):
            hint = "Choose another name, or ask a person to mend or remove that file"
            raise ActionExists(f"The library has a file named {name!r} that is no action. {hint}.")
        return sha256

    def record_check(
        self, name: str, version: int, *, tests: Tests, schemas: Schemas | None, status: Status, author: str = LOCAL
    ) -> Entry:
        with self._known.changing() as change:
            if not change.record_check(name, version, tests, schemas, status):
                raise ActionNotFound(name, self._known.find_near(name))
            change.note_deed(Deed.TEST, name, version, author, f"{status}, {tests}")
        return self._find_version(name, version)

    def unchecked(self) -> list[str]:
        return self._ledger.find_unchecked()

    def history(self, name: str) -> list[Entry]:
        if versions := self._ledger_of(name).find_history(name):
            return versions
        raise ActionNotFound(name, self._known.find_near(name))

    def _find_version(self, name: str, version: int) -> Entry:
        versions = self.history(name)
        for entry in versions:
            if entry.version == version:
                return entry
        there = ", ".join(str(entry.version) for entry in reversed(versions))
        raise ActionError(f"{name!r} has no version {version}. There is {there}.")

    def deleted(self) -> list[Entry]:
        return self._ledger.find_deleted()

    def rollback(self, name: str, version: int, *, author: str, require_approval: bool = False) -> Entry:
        old = self._find_version(name, version)
        current = self._ledger_of(name).find(name)
        if current and current.version == version:
            raise ActionError(f"{name!r} is at version {version} already.")
        status = decide_status(old.tests, require_approval) if old.status is Status.DISABLED else old.status
        if current and current.status is Status.DISABLED:
            status = Status.DISABLED
        keeping = Keeping(author, status, old.tests, old.schemas)
        return self._keep(
            old.action, keeping, current.version if current else 0, Deed.ROLLBACK, f"to what v{version} was"
        )

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
        self._look_at(name)
        self._require_writable()
        with self._known.changing() as change:
            current, _ = change.find_version(name)
            if expected_version is not None and current and current != expected_version:
                raise ActionExists(
                    f"{name!r} has changed meanwhile: it is at version {current}, not {expected_version}."
                )
            if not (version := change.set_status(name, status)):
                raise ActionNotFound(name, self._known.find_near(name))
            deed = deed or (Deed.DISABLE if status is Status.DISABLED else Deed.ENABLE)
            change.note_deed(deed, name, version, author, f"{status}, {note}" if note else status)
        return self.get(name)

    def set_pinned(self, name: str, pinned: bool, *, author: str = LOCAL) -> Entry:
        self._look_at(name)
        self._require_writable()
        with self._known.changing() as change:
            if not (version := change.set_pinned(name, pinned)):
                raise ActionNotFound(name, self._known.find_near(name))
            change.note_deed(Deed.PIN if pinned else Deed.UNPIN, name, version, author)
        return self.get(name)

    def delete(self, name: str, *, author: str = LOCAL) -> None:
        self._look_at(name)
        self.get(name)
        self._require_writable()
        with self._known.changing() as change:
            files.remove_file(self._folder / f"{name}.py")
            change.forget_file(f"{name}.py")
            change.lose(name, Deed.DELETE, author)

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
        is_kept = arguments is not None and ending is Ending.RETURNED
        try:
            self._ledger.add_call(
                name,
                version,
                principal=principal,
                session=session,
                ending=ending,
                seconds=seconds,
                arguments=write_arguments(arguments or {}, self._arguments_bytes) if is_kept else None,
                uses=uses,
            )
        except LibraryError as error:
            _log.warning("a call of %s was not counted: %s", name, error)

    def record_imports(self, versions: Mapping[str, int], *, session: str, uses: Iterable[str] = ()) -> None:
        try:
            self._ledger.add_imports(versions, session, uses)
        except LibraryError as error:
            _log.warning("the import of %s was not counted: %s", ", ".join(versions), error)

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
        text = code.encode("utf-8", "surrogatepass")
        try:
            self._ledger.add_run(
                name,
                version,
                principal=principal,
                session=session,
                request=request[:REQUEST_CHARACTERS],
                ending=ending,
                ended_at=ended_at,
                seconds=seconds,
                sha256="" if name else hashlib.sha256(text).hexdigest(),
                code_bytes=None if name else len(text),
            )
        except LibraryError as error:
            _log.warning("a run of %r was not put on record: %s", principal, error)

    def records(
        self,
        *,
        since: datetime | None = None,
        principal: str | None = None,
        name: str | None = None,
        deeds: Collection[Deed] = tuple(Deed),
        limit: int,
    ) -> list[Record]:
        """The last ones of these in the audit log, newest first. Takes time for each change ever made."""
        with self._known.reading() as connection:
            return find_records(connection, since=since, principal=principal, name=name, deeds=deeds, limit=limit)

    def recorded_arguments(self, name: str, principal: str) -> list[dict[str, JSON]]:
        return [json.loads(text) for text in self._ledger.find_arguments(name, principal)]

    def usages(self) -> dict[str, Usage]:
        return self._ledger.find_usages()

    def look(self) -> None:
        with self._looking:
            self._known.retry()
            opened = self._known.opened()
            if opened != self._looked:
                # It may have been made anew while this was running.
                files.open_folder(self._folder)
            found, known = files.scan_folder(self._folder), self._known.find_files()
            changed = [file for file, stat in found.items() if known.get(file) != stat]
            changed += known.keys() - found.keys()
            self._take_in_all(changed)
            self._looked = opened

    def watch(self, stop: threading.Event) -> Iterator[None]:
        for changed in files.watch_folder(self._folder, stop):
            self._take_in_all(changed)
            yield

    def _look_at(self, name: str) -> None:
        self._known.retry()
        if NAME_PATTERN.fullmatch(name):
            self._take_in([f"{name}.py"])

    def news(self) -> LibraryChanged | None:
        return self._known.take_news()

    def record_queries(self, name: str, queries: Sequence[str]) -> bool:
        return self._arguments_bytes > 0 and self._ledger.add_queries(name, queries)

    def queries(self, name: str) -> list[str]:
        return self._known.find_queries(name)

    def refresh(self) -> LibraryChanged | None:
        self.look()
        return self.news()

    def broken(self) -> list[Broken]:
        return self._ledger.find_broken()

    def close(self) -> None:
        self._known.close()

    def _require_writable(self) -> None:
        if not (self._known.writable and os.access(self._folder, os.W_OK)):
            raise LibraryError(files.READ_ONLY)

    def _take_in_all(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _BATCH):
            self._take_in(names[start : start + _BATCH])

    def _take_in(self, names: Iterable[str]) -> None:
        """Bring the ledger in step with these files of the folder. Reads only those that changed."""
        # Parsing takes a while: nobody waits for it on the ledger's lock.
        readings: dict[str, files.Reading | None] = {}
        for file in names:
            stat = files.stat_file(self._folder / file)
            if stat != self._known.find_file(file):
                readings[file] = files.read_file(self._folder / file, self._known) if stat else None
        if not readings:
            return
        with self._known.changing(own=False) as change:
            for file, reading in readings.items():
                if reading:
                    self._adopt(change, file, reading)
                elif files.stat_file(self._folder / file) is None:
                    change.forget_file(file)
                    change.lose(file.removesuffix(".py"), Deed.GONE, FILE_AUTHOR)

    def _adopt(self, change: Change, file: str, reading: files.Reading) -> None:
        # Another process, or a further edit, may have been faster than the parser.
        if files.stat_file(self._folder / file) != reading.stat or change.find_file(file) == reading.stat:
            return
        change.note_file(file, files.settle_stat(reading.stat), reading.problems)
        if reading.action:
            change.adopt(reading.action)
        else:
            change.lose(file.removesuffix(".py"), Deed.GONE, FILE_AUTHOR)
