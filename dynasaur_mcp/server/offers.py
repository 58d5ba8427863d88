"""What a person reads or picks, not a model: the requests for resources and prompts, and their completion."""

from __future__ import annotations

from dataclasses import dataclass

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    CompleteRequestParams,
    CompleteResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from dynasaur_mcp.errors import ActionError
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.runs import Runs
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.server import prompts, resources
from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.caller import Callers
from dynasaur_mcp.server.completion import complete
from dynasaur_mcp.server.scopes import READ, scope_of_resource
from dynasaur_mcp.server.text import first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What is done on each of these requests. Holds its collaborators, no state."""

    callers: Callers
    store: Store
    pool: Pool
    runs: Runs

    def _admit(self, ctx: Context, what: str, scope: str) -> None:
        """
        Raises:
            MCPError: the caller may not have it, or not yet.
        """
        try:
            self.callers.admit(ctx, what, scope)
        except ActionError as error:
            raise MCPError(INVALID_REQUEST, first_line(error)) from None

    async def list_resources(self, ctx: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        if READ not in self.callers.scopes_of(ctx):
            return ListResourcesResult(resources=[])
        return resources.list_actions(self.store, params.cursor if params else None)

    async def list_resource_templates(
        self, _ctx: Context, _params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return resources.list_templates()

    async def read_resource(self, ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        self._admit(ctx, params.uri, scope_of_resource(params.uri))
        return await resources.read_resource(
            params.uri, store=self.store, runs=self.runs, pool=self.pool, principal=self.callers.principal_of(ctx)
        )

    async def list_prompts(self, _ctx: Context, _params: PaginatedRequestParams | None) -> ListPromptsResult:
        return prompts.list_prompts()

    async def get_prompt(self, ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        self._admit(ctx, params.name, READ)
        return prompts.get_prompt(params.name, params.arguments or {}, self.store)

    async def complete(self, ctx: Context, params: CompleteRequestParams) -> CompleteResult:
        if isinstance(params.ref, PromptReference):
            self._admit(ctx, params.ref.name, READ)
        else:
            self._admit(ctx, params.ref.uri, scope_of_resource(params.ref.uri))
        completion = await complete(
            params.ref,
            params.argument.name,
            params.argument.value,
            (params.context and params.context.arguments) or {},
            store=self.store,
            runs=self.runs,
            pool=self.pool,
            principal=self.callers.principal_of(ctx),
        )
        return CompleteResult(completion=completion)
