"""Sets of packages in a volume of the Docker engine: brought there once, for the workers of every server on it.

What is done in the volume is done by `sets.py` in a container without network, or by archives put into one that is
never started. Neither mounts anything of the host, so an engine elsewhere does as well.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox import sets
from dynasaur_mcp.sandbox.container import RUNTIME_LABEL, labels_of, new_name, remove_container
from dynasaur_mcp.sandbox.engine import NO_IMAGE, NO_SPACE, Client, is_missing
from dynasaur_mcp.sandbox.image import as_root
from dynasaur_mcp.sandbox.packages import check_kept
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.seccomp import profile_text
from dynasaur_mcp.sandbox.wheels import INSTALL_SECONDS
from dynasaur_mcp.stages import tell_stage

logger = logging.getLogger(__name__)

PLACE = "/packages"
"""Where workers see the volume."""
LOOK_SECONDS = 3600.0
"""A set that was seen in the volume is looked for again after this, which also says that it is in use."""

_PROGRAM = "/opt/worker/dynasaur_mcp/sandbox/sets.py"
_CANCEL_SECONDS = 10.0

T = TypeVar("T")


class PackageVolume:
    """The sets of one version and platform."""

    def __init__(
        self, client: Callable[[], Client], presence: Presence, volume: str, image: str, tag: str, *, most_bytes: int
    ) -> None:
        """
        Args:
            client: Gives the engine's as of now.
            volume: Made by the engine when it is not there.
            image: Of a worker.
            tag: As the store's.
        """
        self._client = client
        self._presence = presence
        self._volume = volume
        self._image = image
        self._tag = tag
        self._most_bytes = most_bytes
        self._seen_at: dict[str, float] = {}
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def bring(self, key: str, install: Callable[[], Awaitable[Path]], *, is_gone: bool) -> str:
        """Have a set in the volume: at once if it was seen there, else it is looked for, and copied if need be.

        Args:
            install: Gives the set's folder on this side.
            is_gone: It is looked for whatever is known.

        Returns:
            The folder in workers.

        Raises:
            SandboxUnavailable
        """
        final = f"{PLACE}/{self._tag}/{key}"
        if is_gone:
            self._seen_at.pop(key, None)
        if self._was_seen(key):
            return final
        lock = self._locks.get(key) or anyio.Lock()
        self._locks[key] = lock
        async with lock:
            if not self._was_seen(key):
                if not await self._work(partial(self._find, key)):
                    folder = await install()
                    tell_stage("Copying packages to where containers find them")
                    await self._work(partial(self._copy, key, folder))
                self._seen_at[key] = time.monotonic()
        return final

    async def sweep(self, tags: set[str] | None) -> dict[str, int]:
        """As `sets.sweep`, over all versions and platforms.

        Raises:
            SandboxUnavailable
        """
        return await self._work(partial(self._sweep, tags))

    def _was_seen(self, key: str) -> bool:
        return time.monotonic() - self._seen_at.get(key, -LOOK_SECONDS) < LOOK_SECONDS

    async def _work(self, work: Callable[[str], T]) -> T:
        """Do something with a container of this name, in a thread; cancelled, the container is taken from it."""
        name = ""
        try:
            name = new_name(self._presence)
            return await anyio.to_thread.run_sync(work, name, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_CANCEL_SECONDS, shield=True):
                await anyio.to_thread.run_sync(self._take_away, name, abandon_on_cancel=True)
            raise
        except OSError as error:
            logger.error("packages in the volume: %s", error)
            said = str(error).lower()
            if "no space left" in said:
                raise SandboxUnavailable(NO_SPACE) from error
            if "no such image" in said:
                raise SandboxUnavailable(NO_IMAGE) from error
            raise SandboxUnavailable("Packages could not be copied to the Docker engine.") from error

    def _find(self, key: str, name: str) -> bool:
        """Whether a set is there; if so, it is said to be in use."""
        self._create(name, [])
        try:
            for _ in self._client().get_archive(name, f"{PLACE}/{self._tag}/{key}/{sets.NOTE}")[0]:
                pass
            used = tarfile.TarInfo(f"{self._tag}/{key}/{sets.USED}")
            used.mtime = int(time.time())
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as members:
                members.addfile(as_root(used))
            self._client().put_archive(name, PLACE, archive.getvalue())
            return True
        except OSError as error:
            if is_missing(error):
                return False
            raise
        finally:
            self._take_away(name)

    def _copy(self, key: str, folder: Path, name: str) -> None:
        staged = f"{self._tag}/{sets.STAGED}{name}"
        self._create(name, [*self._options({"compiles": True}), f"{PLACE}/{staged}", f"{PLACE}/{self._tag}/{key}"])
        held = sets.HeldSets()
        try:
            held.hold(str(folder))
            with tempfile.TemporaryFile() as archive:
                with tarfile.open(fileobj=archive, mode="w") as members:
                    members.add(folder, staged, filter=as_root)
                archive.seek(0)
                self._client().put_archive(name, PLACE, archive)
            status, _, said = self._run(name)
            check_kept(status, self._most_bytes, said)
        finally:
            held.let_go()
            self._take_away(name)

    def _sweep(self, tags: set[str] | None, name: str) -> dict[str, int]:
        self._create(name, self._options({"tags": sorted(tags)} if tags is not None else {}))
        try:
            status, answer, said = self._run(name)
            if status != 0:
                raise OSError(f"the container that sweeps packages ended with status {status}: {said[-200:]}")
            return {key: int(number) for key, number in json.loads(answer).items()}
        finally:
            self._take_away(name)

    def _options(self, more: Mapping[str, Any]) -> list[str]:
        """Arguments of `sets.py`: the root, and what is known of who uses the volume."""
        users = self._client().containers(all=True, filters={"volume": self._volume})
        being_made = [sets.STAGED + user["Names"][0].lstrip("/") for user in users]
        # gVisor keeps locks to itself. What its containers use was looked for not long before they were made, or later.
        unseen = [user["Created"] for user in users if (user["Labels"] or {}).get(RUNTIME_LABEL)]
        options = {
            "most_bytes": self._most_bytes,
            "being_made": being_made,
            "unseen_since": min(unseen) - LOOK_SECONDS if unseen else None,
            **more,
        }
        return [PLACE, json.dumps(options)]

    def _create(self, name: str, arguments: list[str]) -> None:
        config = {
            "Image": self._image,
            "Entrypoint": ["python3", "-I", _PROGRAM],
            "Cmd": arguments,
            "User": "0:0",
            "Labels": labels_of(self._presence),
            "NetworkDisabled": True,
            "HostConfig": {
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges", f"seccomp={profile_text()}"],
                "NetworkMode": "none",
                "Mounts": [{"Type": "volume", "Source": self._volume, "Target": PLACE}],
                "LogConfig": {"Type": "json-file"},
            },
        }
        self._client().create_container_from_config(config, name)

    def _run(self, name: str) -> tuple[int, str, str]:
        """Run a container that was made: its exit status, and what it printed on stdout and stderr."""
        self._client().start(name)
        status = self._client().wait(name, timeout=INSTALL_SECONDS)["StatusCode"]
        stdout, stderr = (
            self._client().logs(name, stdout=which, stderr=not which).decode(errors="replace")
            for which in (True, False)
        )
        return status, stdout, stderr

    def _take_away(self, name: str) -> None:
        try:
            remove_container(self._client(), name)
        except OSError as error:
            # The next server's to remove.
            logger.error("container %s was not removed: %s", name, error)
