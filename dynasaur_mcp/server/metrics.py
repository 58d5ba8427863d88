"""What Prometheus reads at /metrics. Of the server as a whole: no principal, and no name of an action, is in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from mcp.server.context import CallNext, HandlerResult
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.types import META_TOOLS

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts calls, as middleware of the MCP server, and answers, as middleware of the web application."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        """
        Args:
            gauges: By name, what each says and how it is read.
        """
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for name, (text, read) in gauges.items():
            Gauge(f"dynasaur_{name}", text, registry=registry).set_function(read)
        self._calls = Counter("dynasaur_calls", "Calls of tools that ended", ["tool", "ending"], registry=registry)
        self._seconds = Histogram(
            "dynasaur_call_seconds", "Time of a call", ["tool"], registry=registry, buckets=BUCKETS
        )
        self._answers = Counter("dynasaur_http_answers", "Answers over HTTP", ["status"], registry=registry)
        self._registry = registry

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /metrics. (That of prometheus_client breaks on headers that are not UTF-8.)"""
        await Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)

    async def watch(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        name = (ctx.params or {}).get("name")
        tool = name if name in META_TOOLS else "action"
        began, ending = time.perf_counter(), "cancelled"
        try:
            result = await call_next(ctx)
            ending = "error" if isinstance(result, dict) and result.get("isError") else "returned"
            return result
        finally:
            self._calls.labels(tool, ending).inc()
            self._seconds.labels(tool).observe(time.perf_counter() - began)

    def count_answers(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._answers.labels(message["status"]).inc()
                await send(message)

            await app(scope, receive, watch)

        return counted
