"""Frames between server and worker: 4 bytes of length, big-endian, then one JSON object in UTF-8.

Connections that code in a worker makes to the server's egress proxy travel in frames too, alike in both directions:
    {"net": number, "data": base64}   some bytes; the first of a number, always the worker's, opens the connection
    {"net": number, "passed": bytes}  of what came, so many were passed on: as many more may be sent
    {"net": number, "end": true}      it is closed, for both directions

The only module both sides import, so standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FRAME_BYTES = 16 << 20
"""Of one frame, either way."""
MAX_DONE_BYTES = 8 << 20
"""Of how a job ended: a value, its text and pictures, or a piece of a file."""
MAX_VALUE_BYTES = 2 << 20
"""Of what an action returned, as JSON."""
MAX_SCHEMAS_BYTES = 100_000
"""Of an action's schemas: they stand in the tool list of each client, which takes a megabyte in one message."""
NET_WINDOW_BYTES = 256 << 10
"""Of one connection, one way: what may be under way before the other side has said that it has passed on as much."""
NET_CHUNK_BYTES = 48 << 10
"""Of a connection in one frame."""
NET_CONNECTIONS = 64
"""Of one worker at once."""

_HEADER = struct.Struct(">I")
encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
decode_json = json.JSONDecoder().raw_decode
"""JSON with no white space before it -> what it says, and where it ends."""


class FrameError(Exception):
    """The bytes are no frames, or a frame is over the cap."""


def encode_frame(message: dict[str, Any]) -> bytes:
    """One frame. Text that is no Unicode (lone surrogates) goes with replacement: most of what reads JSON refuses it.

    Raises:
        FrameError: over MAX_FRAME_BYTES.
        ValueError, TypeError, RecursionError: not JSON (NaN and infinity are not).
    """
    body = encode_json(message).encode(errors="replace")
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is over the cap of {MAX_FRAME_BYTES}")
    return _HEADER.pack(len(body)) + body


def measure(value: Any) -> int:
    """Bytes of a value in a frame.

    Raises:
        ValueError, TypeError, RecursionError: not JSON.
    """
    return len(encode_json(value).encode(errors="replace"))


def encode_net(message: Mapping[str, Any]) -> bytes:
    """As `encode_frame`, for a `net` frame. Base64 needs no escapes, and looking for some takes most of the time."""
    if "data" not in message:
        return encode_frame(dict(message))
    body = b'{"net":%d,"data":"%b"}' % (message["net"], message["data"].encode())
    return _HEADER.pack(len(body)) + body


class FrameReader:
    """Bytes in, whole messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages completed by `data`.

        Raises:
            FrameError: over the cap, not JSON, or not an object. The stream is of no use after that.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes is over the cap of {MAX_FRAME_BYTES}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            try:
                message = json.loads(self._buffer[_HEADER.size : end])
            except (ValueError, RecursionError) as error:
                raise FrameError(f"a frame is not JSON: {error}") from None
            if not isinstance(message, dict):
                raise FrameError("a frame is not a JSON object")
            messages.append(message)
            del self._buffer[:end]
        return messages
