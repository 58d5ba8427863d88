"""Workers in containers: the engine that has their image, and those of one server. What they may do is in `harden`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.container import (
    HOME_LABEL,
    RUNTIME_LABEL,
    SERVER_LABEL,
    DockerWorker,
    labels_of,
    new_name,
    remove_container,
)
from dynasaur_mcp.sandbox.engine import (
    NO_ENGINE,
    NO_IMAGE,
    Client,
    connect,
    explain,
    is_missing,
    load_client,
    patience_seconds,
)
from dynasaur_mcp.sandbox.harden import describe_container
from dynasaur_mcp.sandbox.image import PLATFORM_LABEL, PYTHON_LABEL, build_image, image_tag
from dynasaur_mcp.sandbox.packages import PackageStore
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.volume import PackageVolume
from dynasaur_mcp.sandbox.wheels import Target
from dynasaur_mcp.types import Limits

__all__ = ["DockerSandbox", "Engine", "build_image", "find_engine", "image_tag"]

logger = logging.getLogger(__name__)

VOLUME = "dynasaur-mcp-packages"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answered and has the image."""

    client: Client
    image: str
    python_version: str
    """`3.12`: of the image."""
    platform: str
    """`x86_64-manylinux_2_36`: wheels for it run in the image."""


async def find_engine(image: str = "") -> Engine:
    """The engine of DOCKER_HOST, else of docker's current context, with the worker image.

    Raises:
        SandboxUnavailable: no answer within two seconds, or no image; says what to do.
    """
    await anyio.to_thread.run_sync(load_client)
    with anyio.move_on_after(patience_seconds()):
        return await anyio.to_thread.run_sync(_find_engine, image or image_tag(), abandon_on_cancel=True)
    raise SandboxUnavailable(NO_ENGINE)


def _find_engine(image: str) -> Engine:
    client = connect()
    try:
        labels = client.inspect_image(image)["Config"]["Labels"] or {}
        return Engine(client, image, labels[PYTHON_LABEL], labels[PLATFORM_LABEL])
    except OSError as error:
        client.close()
        raise SandboxUnavailable(NO_IMAGE if is_missing(error) else NO_ENGINE) from error
    except KeyError:
        client.close()
        raise SandboxUnavailable(
            f"The image {image!r} is no worker image: build one with `dynasaur-mcp image build --base {image}`."
        ) from None


def find_targets(client: Client) -> set[str]:
    """Blocking: tags of all targets that the engine has worker images for.

    Raises:
        SandboxUnavailable
    """
    try:
        images = client.images(filters={"label": [PYTHON_LABEL, PLATFORM_LABEL]})
    except OSError as error:
        raise SandboxUnavailable(NO_ENGINE) from error
    return {Target(image["Labels"][PYTHON_LABEL], image["Labels"][PLATFORM_LABEL]).tag for image in images}


class DockerSandbox:
    """Containers of one server on one engine."""

    name = "docker"

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        store: PackageStore,
        presence: Presence,
        *,
        runtime: str = "",
        volume: str = VOLUME,
    ) -> None:
        """
        Args:
            engine: As `find_engine` gave it; closed with the sandbox.
            limits: Of every worker.
            store: Of packages, for the engine's image.
            presence: This server's. Servers of one folder reap each other's leftovers, no others'.
            runtime: OCI runtime other than the engine's default. One with `runsc` in its name is taken for gVisor.
            volume: Of the engine, for packages; made by it when it is not there. Servers share it.
        """
        self.engine = engine
        self.limits = limits
        self.runtime = runtime
        self.volume = volume
        self._presence = presence
        self._store = store
        self._packages = PackageVolume(
            lambda: self.engine.client,
            presence,
            volume,
            engine.image,
            store.target.tag,
            most_bytes=store.rules.most_bytes,
        )
        self._workers: dict[str, DockerWorker] = {}
        self._is_away = False
        """The engine did not answer."""

    @property
    def labels(self) -> dict[str, str]:
        """On every container of this server."""
        return labels_of(self._presence) | ({RUNTIME_LABEL: self.runtime} if self.runtime else {})

    async def start(self) -> DockerWorker:
        if self._is_away:  # then each call would leave a socket to the garbage collector, and a worker to remove
            await self._find_again()
        try:
            return await self._start()
        except OSError as error:
            logger.error("docker did not start a worker: %s", error)
            if getattr(error, "status_code", None) is not None:
                raise SandboxUnavailable(NO_IMAGE if is_missing(error) else explain(error)) from error
        # No answer. The engine may have been started anew, or elsewhere.
        await self._find_again()
        try:
            return await self._start()
        except OSError as error:
            raise SandboxUnavailable(explain(error)) from error

    async def _start(self) -> DockerWorker:
        """Raises: OSError, SandboxUnavailable."""
        try:
            name = new_name(self._presence)
        except OSError as error:
            raise SandboxUnavailable(f"The cache folder cannot be written: {error.strerror}.") from error
        config = describe_container(self.engine.image, self.limits, self.labels, self.volume, self.runtime)
        worker = DockerWorker(lambda: self.engine.client, name, self._forget)
        # Registered before it exists and forgotten after it is gone, so aclose never misses one.
        self._workers[worker.id] = worker
        try:
            await anyio.to_thread.run_sync(worker.launch, config)
            for left in [one for one in self._workers.values() if one.is_left]:
                await left.kill()
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def _find_again(self) -> None:
        """
        Raises:
            SandboxUnavailable: none answers now.
        """
        self._is_away = True
        engine = await find_engine(self.engine.image)
        self._is_away = False
        before, self.engine = self.engine, engine
        await anyio.to_thread.run_sync(before.client.close)

    async def reap(self) -> int:
        return await anyio.to_thread.run_sync(self._reap)

    async def leftovers(self) -> list[str]:
        """Names of the containers of killed servers.

        Raises:
            OSError: the engine does not answer.
        """
        return await anyio.to_thread.run_sync(self._find_leftovers)

    async def packages(self, requirements: tuple[str, ...], is_gone: bool = False) -> str:
        resolved = await self._store.resolve(requirements)
        if not resolved.key:
            return ""
        return await self._packages.bring(resolved.key, partial(self._store.install, resolved), is_gone=is_gone)

    async def sweep_packages(self, tags: set[str] | None = None) -> dict[str, int]:
        """As `sets.sweep`, in the volume.

        Raises:
            SandboxUnavailable
        """
        return await self._packages.sweep(tags)

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as killing:
                for worker in list(self._workers.values()):
                    killing.start_soon(worker.kill)
            await anyio.to_thread.run_sync(self.engine.client.close)

    def _forget(self, worker: str) -> None:
        self._workers.pop(worker, None)

    def _find_leftovers(self) -> list[str]:
        found = self.engine.client.containers(all=True, filters={"label": f"{HOME_LABEL}={self._presence.home}"})
        return [
            one["Names"][0].lstrip("/") for one in found if not self._presence.is_alive(one["Labels"][SERVER_LABEL])
        ]

    def _reap(self) -> int:
        """Raises: SandboxUnavailable."""
        try:
            leftovers = self._find_leftovers()
            for name in leftovers:
                remove_container(self.engine.client, name)
        except OSError as error:
            logger.error("leftovers were not removed: %s", error)
            raise SandboxUnavailable(NO_ENGINE) from error
        self._presence.forget_dead()
        return len(leftovers)
