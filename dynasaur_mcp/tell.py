"""Tell of a change that is kept: search first, then clients, who may search at once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio.to_thread

from dynasaur_mcp.errors import LibraryError
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.types import LibraryChanged

logger = logging.getLogger(__name__)

Changed = Callable[[LibraryChanged], Awaitable[None]]


async def tell_change(change: LibraryChanged, index: Index, changed: Changed) -> None:
    """Index the actions and announce them. Never fails."""
    try:
        await anyio.to_thread.run_sync(index.update)
        await changed(change)
    except LibraryError as error:
        logger.error("The change of %s could not be told to all: %s", ", ".join(change.names), error)
    except Exception:  # boundary: the change itself is kept
        logger.exception("The change of %s could not be told to all", ", ".join(change.names))
