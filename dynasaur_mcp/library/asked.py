"""What was searched for before an action was used: it says in the words of those who need it what the action is for.

That search may have found nothing, and the action have been defined for it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass

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


@dataclass(slots=True)
class _Search:
    query: str
    names: set[str]
    """Of what it may have been for and was not used since."""
    has_led: bool = False
    """Whether any of them was used."""


class Asked:
    """Who searched for what lately, and what it was for. Any thread may use it."""

    def __init__(self, store: Store, index: Index) -> None:
        self._store = store
        self._index = index
        self._lock = threading.Lock()
        self._searches: OrderedDict[str, deque[_Search]] = OrderedDict()

    def found(self, principal: str, query: str, names: Collection[str]) -> None:
        """A search. The name of an action says nothing new of it."""
        query = " ".join(clean_text(query).split())
        if query in names or len(query) > QUERY_CHARACTERS:
            return
        with self._lock:
            self._searches.setdefault(principal, deque(maxlen=_SEARCHES)).append(_Search(query, set(names)))
            self._searches.move_to_end(principal)
            if len(self._searches) > _PRINCIPALS:
                self._searches.popitem(last=False)

    def defined(self, principal: str, name: str) -> None:
        """An action was kept: it is what the last search was for, if nothing that it found was used since."""
        with self._lock:
            if (searches := self._searches.get(principal)) and not searches[-1].has_led:
                searches[-1].names.add(name)

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
        """The searches that may have been for it and did not lead to it before."""
        queries = []
        with self._lock:
            for search in self._searches.get(principal, ()):
                if name in search.names:
                    search.names.remove(name)
                    search.has_led = True
                    queries.append(search.query)
        return queries
