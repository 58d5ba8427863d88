"""What was searched for before an action was used: it says in the words of those who need it what the action is for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Collection

from dynasaur_mcp.errors import DynasaurError
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.words import clean_text

QUERY_CHARACTERS = 300
"""A longer query is about one case, and is not kept."""
_SEARCHES = 8
"""The last ones of a principal are remembered, in memory."""
_PRINCIPALS = 256

_log = logging.getLogger(__name__)


class Asked:
    """Who searched for what lately, and what it found. Any thread may use it."""

    def __init__(self, store: Store, index: Index) -> None:
        self._store = store
        self._index = index
        self._lock = threading.Lock()
        self._searches: OrderedDict[str, deque[tuple[str, set[str]]]] = OrderedDict()

    def found(self, principal: str, query: str, names: Collection[str]) -> None:
        """A search. The name of an action says nothing new of it."""
        query = " ".join(clean_text(query).split())
        if not names or query in names or len(query) > QUERY_CHARACTERS:
            return
        with self._lock:
            self._searches.setdefault(principal, deque(maxlen=_SEARCHES)).append((query, set(names)))
            self._searches.move_to_end(principal)
            if len(self._searches) > _PRINCIPALS:
                self._searches.popitem(last=False)

    def has_searched(self, principal: str) -> bool:
        with self._lock:
            return principal in self._searches

    def used(self, principal: str, names: Collection[str]) -> None:
        """These did what was asked. Never raises; takes a few milliseconds for each that was found."""
        for name in names:
            if queries := self._take(principal, name):
                try:
                    if self._store.record_queries(name, queries):
                        self._index.renew(name)
                except DynasaurError as error:
                    _log.warning("what %s was asked for was not kept: %s", name, error)

    def _take(self, principal: str, name: str) -> list[str]:
        """The searches that found it and did not lead to it before."""
        queries = []
        with self._lock:
            for query, found in self._searches.get(principal, ()):
                if name in found:
                    found.remove(name)
                    queries.append(query)
        return queries
