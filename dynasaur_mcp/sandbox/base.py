"""What a sandbox must supply: a byte stream to a worker, and kill()."""

from __future__ import annotations

from typing import Protocol


class Worker(Protocol):
    """One running sandbox program, seen from outside. One owner, one reader, one writer at a time."""

    @property
    def id(self) -> str:
        """For logs and `ps`: container or process id."""
        ...

    async def send(self, data: bytes) -> None:
        """Write all of `data` to its stdin. What a cancelled call leaves unwritten goes before what the next one gives.

        Raises:
            WorkerLost: it is gone.
        """
        ...

    async def receive(self) -> bytes:
        """The next bytes of its stdout, at least one.

        Raises:
            WorkerLost: it is gone; its last words on stderr are in the message.
        """
        ...

    def has_ended(self) -> bool:
        """Whether it is seen to be gone, without asking it. Costs microseconds; False proves nothing."""
        ...

    async def kill(self) -> None:
        """End it and all it started, now. Returns when nothing of it remains; calling again does nothing."""
        ...


class Sandbox(Protocol):
    """A kind of place that can start workers."""

    @property
    def name(self) -> str:
        """`docker` or `jail`."""
        ...

    async def start(self) -> Worker:
        """Start a worker. It need not be ready: ready is its first frame.

        Raises:
            SandboxUnavailable: with one sentence on what to do.
        """
        ...

    async def reap(self) -> int:
        """Remove what killed servers left behind, never anything of a living one; how many there were."""
        ...

    async def packages(self, requirements: tuple[str, ...], is_gone: bool = False) -> str:
        """Make a set of third-party requirements importable in every worker, also running ones.

        Args:
            is_gone: A worker did not find the folder that this gave before.

        Returns:
            The folder inside workers to put on `sys.path`; empty for no requirements.

        Raises:
            RequirementsInvalid: the set is refused, or does not resolve; names the requirement.
            SandboxUnavailable: it cannot be installed now.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Workers still alive are killed."""
        ...
