"""The files of a session's workspace, in and out through its worker, in pieces that fit a frame."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from dynasaur_mcp.errors import FileRefused, WorkerLost
from dynasaur_mcp.sandbox.answer import Answer, Done

PIECE_BYTES = 4 << 20
"""Of one reading, and of one writing."""

Request = Callable[[dict[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Listed:
    """One name in a folder; `other` is a link, a FIFO and the like, which can be neither read nor replaced."""

    name: str
    kind: Literal["file", "folder", "other"]
    size_bytes: int
    """Of a file; else 0."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's names in order. `total` is how many there are; at most 5,000 are told."""

    items: tuple[Listed, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes from `offset` of a file of `size_bytes`."""

    data: bytes
    size_bytes: int
    offset: int


class Files:
    """Paths are relative to the workspace, with `/` between their parts; `/workspace/x` is taken as `x`.

    Every method raises FileRefused (no such file, no regular one, behind a link or outside, no room) and WorkerLost.
    Names that are listed come from the sandbox: for the model, never to trust.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    async def list(self, path: str = "") -> Listing:
        """What is in a folder, the workspace itself when `path` is empty."""
        done = await self._ask("list", path)
        return Listing(tuple(Listed(item.name, item.kind, item.size_bytes) for item in done.items), done.total)

    async def read(self, path: str, offset: int = 0, length: int = PIECE_BYTES, *, skips_holes: bool = False) -> Piece:
        """At most `length` and PIECE_BYTES bytes from `offset`, or the next place in no hole; none at the end.

        Args:
            skips_holes: Those at `offset`, and those of more than 256 KiB, are not read.
        """
        length = min(length, PIECE_BYTES)
        done = await self._ask("read", path, offset=offset, length=length, skips_holes=skips_holes)
        try:
            data = base64.b64decode(done.data, validate=True)
        except ValueError:
            data = None
        if data is None or len(data) > length or done.offset < offset:
            raise WorkerLost("The worker sent no bytes of a file")
        return Piece(data, done.size_bytes, done.offset)

    async def write(self, path: str, pieces: AsyncIterable[bytes]) -> int:
        """Make or replace a file, and the folders it lies in; how many bytes it has.

        Until the last piece is there, what was there before is. Nothing is left of an attempt that fails.
        """
        part = f".{secrets.token_hex(8)}.part"
        size_bytes = 0
        is_kept = False
        try:
            async for piece in pieces:
                for start in range(0, len(piece), PIECE_BYTES):
                    data = piece[start : start + PIECE_BYTES]
                    await self._put(path, part, size_bytes, data)
                    size_bytes += len(data)
            await self._put(path, part, size_bytes, b"", last=True)
            is_kept = True
        finally:
            if not is_kept:
                with anyio.CancelScope(shield=True):
                    await self._request({"op": "files", "do": "discard", "path": path, "part": part})
        return size_bytes

    async def _put(self, path: str, part: str, offset: int, data: bytes, *, last: bool = False) -> None:
        encoded = base64.b64encode(data).decode()
        await self._ask("write", path, part=part, offset=offset, data=encoded, last=last)

    async def _ask(self, verb: str, path: str, **details: Any) -> Done:
        done = (await self._request({"op": "files", "do": verb, "path": path, **details})).done
        if done.ending == "returned":
            return done
        if done.ending == "raised":
            raise FileRefused(done.error)
        raise WorkerLost(f"The worker did not {verb} a file: {done.ending}")
