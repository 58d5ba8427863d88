"""Builds every object once from Settings and owns their lifetimes. The only place that chooses implementations."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from dynasaur_mcp.control import Control
from dynasaur_mcp.errors import DynasaurError, LibraryError, SandboxUnavailable
from dynasaur_mcp.follow import Follower
from dynasaur_mcp.library.documents import INDEX_FILE
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.logs import set_up_logging
from dynasaur_mcp.runs import Runs, open_runs
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.pool import Pool, open_pool
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.settings import Settings
from dynasaur_mcp.tell import Changed
from dynasaur_mcp.types import LibraryChanged

if TYPE_CHECKING:
    from dynasaur_mcp.server.announce import Announcer
    from dynasaur_mcp.server.build import AnnouncingServer

logger = logging.getLogger(__name__)

AFTER_LIST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class App:
    """The parts, ready to use."""

    settings: Settings
    presence: Presence
    store: Store
    index: Index
    embedder: Embedder
    pool: Pool
    runs: Runs

    def is_ready(self) -> bool:
        """Whether the library can be read."""
        try:
            return self.store.revision >= 0
        except LibraryError:
            return False

    def gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        """What can be measured at any time: by name, what it says and how it is read."""
        return {
            "sessions": ("Sessions that are open", lambda: self.pool.open_sessions),
            "workers_ready": ("Workers that wait for a session", lambda: len(self.pool.workers.warm_ids())),
        }

    async def changed(self, _change: LibraryChanged) -> None:
        """Nobody to announce a change to, where no client is served."""


@contextlib.contextmanager
def open_store(settings: Settings, via: str = "command") -> Iterator[FileStore]:
    """The library alone, for what runs no code."""
    with contextlib.closing(FileStore(settings.library, settings.arguments_bytes, via)) as store:
        yield store


@contextlib.asynccontextmanager
async def open_app(settings: Settings, via: str = "command") -> AsyncIterator[App]:
    """Everything but the MCP face. No sandbox is chosen, no model loaded and no file read before it is needed.

    Args:
        via: What does all that is done here, for the audit log.
    """
    with open_store(settings, via) as store:
        embedder = Embedder(settings.model)
        presence = Presence(settings.cache / "servers")
        with (
            contextlib.closing(presence),
            contextlib.closing(Index(store, settings.library / INDEX_FILE, embedder)) as index,
        ):
            async with (
                open_pool(
                    lambda: choose_sandbox(settings, presence),
                    settings.limits(),
                    sessions=settings.sessions,
                    session_idle_seconds=settings.session_idle_seconds,
                    warm_workers=settings.warm_workers,
                    quota=settings.quota(),
                ) as pool,
                open_runs(wait_seconds=settings.wait_seconds, kept_from_characters=settings.output_characters) as runs,
            ):
                yield App(settings, presence, store, index, embedder, pool, runs)


Also = Callable[[App], Awaitable[None]] | None


async def serve(settings: Settings, also: Also = None) -> None:
    """Serve MCP by the transport that the settings name, until its end.

    Args:
        also: What to do beside, once the first client has its tools.

    Raises:
        SettingsError: it cannot be served so.
    """
    set_up_logging(settings.log_level, settings.log_format)
    async with open_app(settings, "serve") as app:
        await (_serve_stdio if settings.transport == "stdio" else _serve_http)(app, also)


async def _serve_stdio(app: App, also: Also) -> None:
    from dynasaur_mcp.server import transports

    listed = anyio.Event()
    server, announcer = _build_server(app, on_first_list=listed.set)
    async with _work_beside(app, listed, announcer, also):
        await transports.serve_stdio(server)


async def _serve_http(app: App, also: Also) -> None:
    from dynasaur_mcp.reach import make_verifier, read_front, warn
    from dynasaur_mcp.server import auth, web

    front = read_front(app.settings)
    verifier, tell = make_verifier(app.settings)
    warn(app.settings)
    server, announcer = _build_server(app, principal_of=auth.principal_of, scopes_of=auth.scopes_of)
    at_once = anyio.Event()
    at_once.set()
    async with _work_beside(app, at_once, announcer, also):
        await web.serve_http(server, verifier, front, is_ready=app.is_ready, gauges=app.gauges(), on_listening=tell)


def _build_server(app: App, **options: Any) -> tuple[AnnouncingServer, Announcer]:
    from dynasaur_mcp.server.build import build_server

    settings = app.settings
    return build_server(
        store=app.store,
        index=app.index,
        pool=app.pool,
        runs=app.runs,
        expose=settings.expose,
        expose_tokens=settings.expose_tokens,
        output_characters=settings.output_characters,
        require_approval=settings.require_approval,
        **options,
    )


@contextlib.asynccontextmanager
async def _work_beside(app: App, listed: anyio.Event, announcer: Announcer, also: Also) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_work_behind, app, listed, announcer.publish, also)
        tasks.start_soon(announcer.tell_news)
        tasks.start_soon(_answer_commands, app, listed)
        gc.freeze()
        gc.enable()
        yield
        tasks.cancel_scope.cancel()


async def _work_behind(
    app: App,
    listed: anyio.Event,
    publish: Changed,
    also: Also,
) -> None:
    """What can wait until the first client has its tools: a warm worker, the model, the folder."""
    await listed.wait()
    # The answer is not yet written: importing what follows would compete with it.
    await anyio.sleep(AFTER_LIST_SECONDS)
    app.pool.workers.warm_up()
    app.embedder.start()
    if also:
        try:
            await also(app)
        except DynasaurError as error:
            logger.error("%s", error)
    follower = Follower(
        store=app.store,
        index=app.index,
        pool=app.pool,
        require_approval=app.settings.require_approval,
        changed=publish,
    )
    await follower.follow()


async def _answer_commands(app: App, listed: anyio.Event) -> None:
    await listed.wait()
    await anyio.sleep(AFTER_LIST_SECONDS)
    await Control(app.pool, app.presence, app.settings.library).serve()


async def choose_sandbox(settings: Settings, presence: Presence) -> Sandbox:
    """The sandbox that the settings name; `auto` takes Docker if it is ready to use, else the jail.

    Raises:
        SandboxUnavailable: with one sentence on what to install.
    """
    if settings.sandbox == "docker":
        return await _open_docker(settings, presence)
    if settings.sandbox == "jail":
        return _open_jail(settings, presence)
    try:
        return await _open_docker(settings, presence)
    except SandboxUnavailable as no_docker:
        try:
            jail = _open_jail(settings, presence)
        except SandboxUnavailable as no_jail:
            raise SandboxUnavailable(f"Code can run nowhere here. {no_docker} Or: {no_jail}") from None
        print(f"dynasaur-mcp: running code in the embedded jail. For Docker instead: {no_docker}", file=sys.stderr)  # noqa: T201
        return jail


async def _open_docker(settings: Settings, presence: Presence) -> Sandbox:
    from dynasaur_mcp.sandbox.docker import DockerSandbox, find_engine
    from dynasaur_mcp.sandbox.packages import PackageStore
    from dynasaur_mcp.sandbox.wheels import Target

    engine = await find_engine(settings.image)
    target = Target(engine.python_version, engine.platform)
    store = PackageStore(settings.cache, target, settings.package_rules())
    return DockerSandbox(engine, settings.limits(), store, presence, runtime=settings.docker_runtime)


def _open_jail(settings: Settings, presence: Presence) -> Sandbox:
    from dynasaur_mcp.sandbox.bubblewrap import find_bwrap
    from dynasaur_mcp.sandbox.jail import Jail
    from dynasaur_mcp.sandbox.packages import PackageStore
    from dynasaur_mcp.sandbox.wheels import Target

    find_bwrap()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    store = PackageStore(settings.cache, Target(version), settings.package_rules())
    return Jail(settings.limits(), store, presence)
