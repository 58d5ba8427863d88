"""Who makes a request, and what they may do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dynasaur_mcp.errors import ScopeMissing
from dynasaur_mcp.sandbox.quotas import Quotas
from dynasaur_mcp.server.announce import Context


@dataclass(frozen=True, slots=True)
class Callers:
    """Knows principals by their requests."""

    quotas: Quotas
    principal_of: Callable[[Context], str]
    scopes_of: Callable[[Context], frozenset[str]]

    def admit(self, ctx: Context, what: str, scope: str) -> None:
        """Count a call.

        Raises:
            ScopeMissing, QuotaExceeded: the caller may not make it, or not yet.
        """
        if scope not in self.scopes_of(ctx):
            raise ScopeMissing(what, scope)
        self.quotas.admit_call(self.principal_of(ctx))

    def charged(self, ctx: Context) -> AbstractContextManager[None]:
        """For what runs code in workers of nobody.

        Raises:
            QuotaExceeded
        """
        self.quotas.admit_run(self.principal_of(ctx))
        return self.quotas.charge(self.principal_of(ctx))
