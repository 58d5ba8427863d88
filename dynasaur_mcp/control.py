"""What a running server does for its own user's commands: say what runs, close a session, move files in and out.

It answers on a socket in a folder that only this user can enter, one request a connection, in the workers' frames. The
commands find servers by their signs of life; no port is open, and a client of the server has no way here.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import ByteStream

from dynasaur_mcp.errors import DynasaurError
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.wire import FrameError, FrameReader, encode_frame

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""For a server to say what runs; others are waited for as long as their work takes."""

_CUT_OFF = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class ControlError(DynasaurError):
    """A server cannot do what a command asks, and says why."""


class Frames:
    """Messages over a stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._reader = FrameReader()
        self._waiting: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        await self._stream.send(encode_frame(message))

    async def receive(self) -> dict[str, Any]:
        while not self._waiting:
            self._waiting += self._reader.feed(await self._stream.receive())
        return self._waiting.pop(0)


class Control:
    """The server's side."""

    def __init__(self, pool: Pool, presence: Presence, library: Path) -> None:
        self._pool = pool
        self._presence = presence
        self._library = library

    async def serve(self) -> None:
        """Answer commands until cancelled. A server that cannot have its socket works without."""
        try:
            with _reachable(self._presence.socket_of(self._presence.id)) as path:
                listener = await anyio.create_unix_listener(path, mode=0o600)
        except OSError as error:
            logger.warning("Commands such as `dynasaur-mcp ps` will not see this server: %s", error)
            return
        async with listener:
            await listener.serve(self._answer)

    async def _answer(self, stream: ByteStream) -> None:
        async with stream:
            frames = Frames(stream)
            with contextlib.suppress(
                anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError, FrameError
            ):
                try:
                    # A command may go away in the middle: the session is to be let go of at once, and by this task.
                    async with contextlib.aclosing(self._do(await frames.receive(), frames)) as messages:
                        async for message in messages:
                            await frames.send(message)
                    await frames.send({"done": True})
                except DynasaurError as error:
                    await frames.send({"error": error.told_by_command()})
                    while True:  # closed with something unread, the connection would take the answer back
                        await frames.receive()
                except (KeyError, TypeError, ValueError) as error:
                    await frames.send({"error": f"This server does not understand the command: {error!r}."})

    async def _do(self, request: dict[str, Any], frames: Frames) -> AsyncGenerator[dict[str, Any]]:
        match request["op"]:
            case "state":
                yield await self._state()
                return
            case "close":
                await self._pool.close_session(request["principal"], request["session"])
                return
        verb, path = request["op"], request["path"]
        async with self._pool.session(request["principal"], request["session"], create=verb == "write") as session:
            match verb:
                case "list":
                    yield dataclasses.asdict(await session.files.list(path))
                case "read":
                    offset = 0
                    while (piece := await session.files.read(path, offset, skips_holes=True)).data:
                        offset = piece.offset + len(piece.data)
                        yield {"data": base64.b64encode(piece.data).decode(), "offset": piece.offset}
                    yield {"size_bytes": piece.size_bytes}
                case "write":
                    size_bytes = await session.files.write(path, _receive_pieces(frames))
                    self._pool.on_files(session.principal, session.name, (path,))
                    yield {"size_bytes": size_bytes}
                case _:
                    raise ValueError(verb)

    async def _state(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "library": str(self._library),
            "sandbox": self._pool.workers.sandbox_name,
            "held": [dataclasses.asdict(one) for one in await self._pool.held()],
            "warm": self._pool.workers.warm_ids(),
        }


async def _receive_pieces(frames: Frames) -> AsyncIterator[bytes]:
    while data := base64.b64decode((await frames.receive())["data"]):
        yield data


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs now, seen from a command."""

    id: str
    path: Path
    state: dict[str, Any]

    async def ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """All it answers.

        Raises:
            ControlError: it refuses, or is gone.
        """
        async with self.connect() as frames:
            await frames.send(request)
            return [message async for message in read_answers(frames)]

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Frames]:
        async with _connect(self.path) as frames:
            yield frames


async def read_answers(frames: Frames) -> AsyncIterator[dict[str, Any]]:
    """What a server answers, up to its word that this was all.

    Raises:
        ControlError
    """
    while True:
        message = await frames.receive()
        if "error" in message:
            raise ControlError(message["error"])
        if "done" in message:
            return
        yield message


async def find_running(cache: Path) -> list[Running]:
    """The servers of this cache folder that answer; one that does not is left out, and logged."""
    presence = Presence(cache / "servers")
    found = []
    for server in sorted(presence.others()):
        path = presence.socket_of(server)
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                running = Running(server, path, {})
                (state,) = await running.ask({"op": "state"})
        except (ControlError, TimeoutError) as error:
            logger.warning("Server %s does not say what runs: %s", server, error)
            continue
        found.append(dataclasses.replace(running, state=state))
    return found


@contextlib.asynccontextmanager
async def _connect(path: Path) -> AsyncIterator[Frames]:
    try:
        with _reachable(path) as reachable:
            stream = await anyio.connect_unix(reachable)
        async with stream:
            yield Frames(stream)
    except (OSError, *_CUT_OFF, FrameError) as error:
        raise ControlError("The server went away in the middle.") from error


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for a socket that fits the 108 bytes there are for one: through a descriptor of its folder."""
    if not sys.platform.startswith("linux"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
