"""The egress proxy of this server, seen from it: a process that is started when first needed and ends with the server.

It listens on nothing. Each connection is one end of a socket pair, handed over on its stdin, so none but this server
can use it, there is no port or path to find, and it knows for whom it works. When the server is gone, however that
came, its stdin ends, and with it the process.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import SocketStream

logger = logging.getLogger(__name__)

_END_SECONDS = 2.0


class Outlet:
    """To the hosts in `hosts` and to no other."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)
        self._starting = anyio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def dial(self, who: str) -> SocketStream:
        """A connection to the proxy.

        Args:
            who: Whom it is for, for the log: one line.

        Raises:
            OSError: the proxy cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                ours.sendall(f"{who}\n".encode())
                async with self._starting:
                    await self._hand_over(theirs)
            return await SocketStream.from_socket(ours)
        except BaseException:
            ours.close()
            raise

    async def aclose(self) -> None:
        """End it."""
        async with self._starting:
            await anyio.to_thread.run_sync(self._end)

    async def _hand_over(self, connection: socket.socket) -> None:
        for is_last in (False, True):
            if self._control is None:
                await anyio.to_thread.run_sync(self._start)
            assert self._control
            try:
                socket.send_fds(self._control, [b"\n"], [connection.fileno()])
                return
            except OSError:
                # It has ended; a new one may do better.
                await anyio.to_thread.run_sync(self._end)
                if is_last:
                    raise

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        # One that takes nothing for so long that this fills up is of no more use than one that has ended.
        ours.setblocking(False)
        package = Path(__file__).parents[2]
        level = str(logger.getEffectiveLevel())
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "dynasaur_mcp.sandbox.egress", level, *self.hosts],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    # A user without an entry in passwd has no home, and the proxy's library asks for one.
                    env={"PYTHONPATH": str(package), "HOME": "/nonexistent"},
                    cwd="/",
                    # An interrupt from the terminal is for the server alone, which then ends this.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                logger.error("the egress proxy did not start: %s", error)
                raise
        self._control = ours

    def _end(self) -> None:
        if self._control is None or self._process is None:
            return
        self._control.close()
        self._control = None
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        if self._process.returncode:
            logger.error("the egress proxy ended with status %s", self._process.returncode)
