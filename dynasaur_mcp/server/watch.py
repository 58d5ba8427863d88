"""Files of sessions that clients subscribed to: which of them changed, came or went.

A run says which files it wrote. What it removed it does not say, so the subscribed ones are looked for after it, as
soon as their session is free.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

import anyio

from dynasaur_mcp.errors import ActionError, FileRefused, SandboxError
from dynasaur_mcp.sandbox.files import Files
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.server.resources import file_of


class Watch:
    """Looks after what is subscribed to, whoever does so."""

    def __init__(self, pool: Pool, uris_of: Callable[[str], Iterable[str]], tell: Callable[[str, str], None]) -> None:
        """
        Args:
            uris_of: All that a principal subscribed to.
            tell: Called with a principal and the URI of a file of its that changed.
        """
        self._pool = pool
        self._uris_of = uris_of
        self._tell = tell
        self._gone: set[tuple[str, str]] = set()
        """Principal and URI of each that was not there when it was looked for."""
        self._to_look: list[tuple[str, str]] = []
        self._waiting: set[tuple[str, str]] = set()
        """Sessions that are to be looked at and were not yet free."""
        self._has_work = anyio.Event()

    def hear(self, principal: str, session: str, paths: Collection[str] | None) -> None:
        """These files of a session changed, and others may be gone; None where nobody knows which changed."""
        watched = self._files(principal, session)
        for uri, path in watched.items():
            if paths is None or any(_is_in(changed, path) for changed in paths):
                self._gone.discard((principal, uri))
                self._tell(principal, uri)
        if watched and (principal, session) not in self._waiting:
            self._waiting.add((principal, session))
            self._to_look.append((principal, session))
            self._has_work.set()

    async def serve(self) -> None:
        """Look for what may be gone."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._has_work.wait()
                self._has_work = anyio.Event()
                while self._to_look:
                    tasks.start_soon(self._look, *self._to_look.pop())

    async def _look(self, principal: str, session: str) -> None:
        there: set[str] = set()
        try:
            async with self._pool.session(principal, session, create=False) as opened:
                self._waiting.discard((principal, session))
                for path in set(self._files(principal, session).values()):
                    if await _is_there(opened.files, path):
                        there.add(path)
        except (ActionError, SandboxError):
            pass  # with the session all its files are gone
        finally:
            self._waiting.discard((principal, session))
        for uri, path in self._files(principal, session).items():
            if ((principal, uri) in self._gone) == (path in there):
                self._gone ^= {(principal, uri)}
                self._tell(principal, uri)
        uris = set(self._uris_of(principal))
        self._gone = {each for each in self._gone if each[0] != principal or each[1] in uris}

    def _files(self, principal: str, session: str) -> dict[str, str]:
        """The path of each URI that is subscribed to."""
        files = {uri: file_of(uri) for uri in self._uris_of(principal)}
        return {uri: file[1] for uri, file in files.items() if file and file[0] == session}


def _is_in(path: str, place: str) -> bool:
    """Whether it is that file, or in that folder."""
    return not place or path == place or path.startswith(f"{place}/")


async def _is_there(files: Files, path: str) -> bool:
    with suppress(FileRefused):
        await files.read(path, 0, 1)
        return True
    with suppress(FileRefused):
        await files.list(path)
        return True
    return False
