"""One connection of HTTP, as uvicorn keeps it, but for what breaks it off."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """Answers a request that is no HTTP once; uvicorn would let the application answer too, if it had begun with it."""

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # an answer has begun, or may have no body, as to HEAD
            self.transport.close()
