"""Lists within results that are kept as JSON: stdio writes them as they are, however often they are asked for.

The SDK writes what goes over HTTP, and gives no way past its own serialisation: there, they are lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from functools import cached_property

from mcp_types import JSONRPCMessage, JSONRPCResponse
from pydantic_core import from_json, to_json

from dynasaur_mcp.types import JSON

takes_json: ContextVar[bool] = ContextVar("takes_json", default=False)
"""Whether the answer to the request at hand goes through `write_line`."""


class Ready:
    """A list, as JSON."""

    def __init__(self, items: Iterable[bytes]) -> None:
        """
        Args:
            items: Each as JSON.
        """
        self.json = b"[" + b",".join(items) + b"]"

    @cached_property
    def items(self) -> list[JSON]:
        """Not to be changed."""
        return from_json(self.json)  # type: ignore[no-any-return]


def write_line(message: JSONRPCMessage) -> bytes:
    """A message as it goes over stdio."""
    if isinstance(message, JSONRPCResponse):
        ready = [to_json(key) + b":" + value.json for key, value in message.result.items() if isinstance(value, Ready)]
        if ready:
            rest = {key: value for key, value in message.result.items() if not isinstance(value, Ready)}
            members = b",".join(filter(None, (to_json(rest)[1:-1], *ready)))
            return b'{"jsonrpc":"2.0","id":' + to_json(message.id) + b',"result":{' + members + b"}}\n"
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
