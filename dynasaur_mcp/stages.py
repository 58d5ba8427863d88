"""What a request is at, told from wherever that is known to whoever waits for it.

By a context variable, as no layer between the two has anything to do with it. Tasks that a request starts inherit it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_hear: ContextVar[Callable[[str], None]] = ContextVar("hear", default=lambda _: None)


def tell_stage(text: str) -> None:
    """Say what begins now, as in `Installing pandas`. Not from another thread."""
    _hear.get()(text)


@contextlib.contextmanager
def hearing_stages(hear: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile what is told in this task goes there. `hear` must return at once."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)
