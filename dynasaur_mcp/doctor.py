"""What the server needs, each thing tried for real, and what to do about what is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TextIO, cast

import anyio
import anyio.to_thread

from dynasaur_mcp.app import choose_sandbox, open_store
from dynasaur_mcp.clients import CLIENTS, Client, ClientError, Machine, find_machine, read_entry, server_command
from dynasaur_mcp.errors import DynasaurError
from dynasaur_mcp.library.embedding import Embedder
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.cgroup import find_place
from dynasaur_mcp.sandbox.docker import find_engine
from dynasaur_mcp.sandbox.presence import Presence
from dynasaur_mcp.sandbox.session import open_session
from dynasaur_mcp.settings import Settings

WORKER_SECONDS = 60
"""For one worker to start and answer."""
SERVER_SECONDS = 60
"""For a server to start, answer one call, and end."""
MODEL_SECONDS = 120
"""For the model to load, torch and all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    needed: bool
    """Whether nothing works without it."""
    ok: bool
    found: str
    advice: str = ""


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether the server can do its work."""
    return all(finding.ok for finding in findings if finding.needed)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Check one thing after the other. The sandbox that the settings name is needed; with `auto`, either."""
    yield _check_python()
    yield await anyio.to_thread.run_sync(_check_library, settings)
    docker = await _check_sandbox(settings, "docker", needed=settings.sandbox == "docker")
    yield docker
    if docker.ok:
        yield await _check_image(settings.image)
    needed = settings.sandbox == "jail" or (settings.sandbox == "auto" and not docker.ok)
    jail = await _check_sandbox(settings, "jail", needed=needed)
    yield jail
    if jail.ok:
        yield await anyio.to_thread.run_sync(_check_groups)
    if docker.ok or jail.ok:
        yield await _check_server(settings)
    yield await anyio.to_thread.run_sync(_check_uv)
    yield await anyio.to_thread.run_sync(_check_model, settings.model)
    machine = find_machine()
    for client in CLIENTS.values():
        if client.is_installed(machine):
            yield await anyio.to_thread.run_sync(_check_client, client, machine)


def _check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", True, sys.version_info >= (3, 11), f"{version} at {sys.executable}", "")


def _check_library(settings: Settings) -> Finding:
    folder = settings.library
    try:
        with open_store(settings) as store:
            store.refresh()
            entries, broken = store.entries(), store.broken()
    except DynasaurError as error:
        return Finding("library", True, False, str(error), "Choose another folder with --library.")
    found = f"{len(entries)} action{'s' * (len(entries) != 1)} in {folder}"
    if not os.access(folder, os.W_OK):
        advice = "Make the folder writable, or choose another one with --library."
        return Finding("library", True, False, f"{found}; it cannot be written", advice)
    if broken:
        names = "; ".join(f"{one.file}: {one.problems[0]}" for one in broken)
        return Finding("library", True, True, f"{found}; files that are no actions: {names}", "Mend or remove them.")
    return Finding("library", True, True, found)


async def _check_sandbox(settings: Settings, name: Literal["docker", "jail"], *, needed: bool) -> Finding:
    started = time.perf_counter()
    try:
        with anyio.fail_after(WORKER_SECONDS):
            answer = await _ask_worker(settings.model_copy(update={"sandbox": name}))
    except DynasaurError as error:
        # The first sentence says what is wrong, the rest what to do.
        wrong, _, advice = str(error).partition(": ")
        return Finding(name, needed, False, wrong, advice)
    except TimeoutError:
        return Finding(name, needed, False, f"no worker answered within {WORKER_SECONDS} s")
    milliseconds = (time.perf_counter() - started) * 1000
    if answer != "42":
        return Finding(name, needed, False, f"a worker answered {answer!r} to 6 * 7")
    return Finding(name, needed, True, f"a worker answered after {milliseconds:,.0f} ms")


async def _ask_worker(settings: Settings) -> str:
    with contextlib.closing(Presence(settings.cache / "servers")) as presence:
        return await _ask(await choose_sandbox(settings, presence), settings)


async def _ask(sandbox: Sandbox, settings: Settings) -> str:
    try:
        session = await open_session(sandbox, settings.limits())
        try:
            outcome = await session.run("6 * 7", {}, ())
        finally:
            await session.kill()
    finally:
        await sandbox.aclose()
    return outcome.shown or outcome.error


async def _check_image(name: str) -> Finding:
    """What `docker` ran in; that it is missing is a finding of `docker`."""
    engine = await find_engine(name)
    engine.client.close()
    return Finding("image", False, True, f"{engine.image}, Python {engine.python_version}, {engine.platform}")


def _check_groups() -> Finding:
    """Where the kernel cannot hold what jails use, their workers do, as far as they can see it."""
    place = find_place()
    if place.folders:
        found = f"the jail's {', '.join(place.folders)} are held by cgroups, version {place.version}"
        return Finding("cgroup", False, True, found)
    advice = (
        "Start the server by systemd-run --user --scope -p Delegate=yes dynasaur-mcp serve (without --user as root)."
    )
    found = f"the jail's memory and processes are held by the worker's own count and resource limits: {place.why_none}"
    return Finding("cgroup", False, False, found, advice)


def _check_uv() -> Finding:
    """uv installs the packages that actions declare; all else works without."""
    import uv

    try:
        said = subprocess.run([uv.find_uv_bin(), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        advice = "pip install uv: without it no action can use packages."
        return Finding("uv", False, False, f"it does not run: {error}", advice)
    return Finding("uv", False, True, said.stdout.strip())


def _check_model(model: str) -> Finding:
    """The model makes search find meanings too; without it words are searched."""
    if find_spec("sentence_transformers") is None:
        advice = "pip install '.[semantic]' adds search by meaning."
        return Finding("model", False, False, "sentence-transformers is not installed: search is by words", advice)
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported; a doctor downloads nothing
    embedder = Embedder(model)
    embedder.start()
    if embedder.wait(MODEL_SECONDS):
        return Finding("model", False, True, f"{model} loads without network")
    advice = "The server downloads it on first use; without network, put it in a folder and name that with --model."
    return Finding("model", False, False, f"{model} is not on this machine: search is by words", advice)


async def _check_server(settings: Settings) -> Finding:
    """One call as a client makes it: a server that it starts, spoken to on stdin and stdout."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dynasaur-doctor-") as folder, tempfile.TemporaryFile("w+") as log:
        options = ["--library", str(Path(folder, "library")), "--sandbox", settings.sandbox, "--transport", "stdio"]
        try:
            with anyio.fail_after(SERVER_SECONDS):
                answer = await _call_server(server_command(*options), cast(TextIO, log))
        except Exception as error:  # boundary: whatever ended it, the server's own words say why
            log.seek(0)
            said = log.read().strip().splitlines() or [repr(error)]
            return Finding("server", True, False, f"it gave no answer over stdio: {said[-1]}")
    if "42" not in answer:
        return Finding("server", True, False, f"it answered {answer!r} to 6 * 7")
    seconds = time.perf_counter() - started
    return Finding("server", True, True, f"a call over stdio took {seconds:.1f} s, from its start to its end")


async def _call_server(command: Sequence[str], log: TextIO) -> str:
    import mcp

    server = mcp.StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(os.environ))
    async with mcp.Client(mcp.stdio_client(server, errlog=log)) as client:
        answer = await client.call_tool("run_python", {"code": "6 * 7"})
    return "".join(part.text for part in answer.content if part.type == "text")


def _check_client(client: Client, machine: Machine) -> Finding:
    what, file = client.name, client.file(machine)
    try:
        entry = read_entry(client, machine)
    except ClientError as error:
        return Finding(what, False, False, str(error))
    if entry is None:
        return Finding(what, False, False, f"{client.title} does not know this server", f"dynasaur-mcp setup {what}")
    command = str(entry.get("command"))
    if shutil.which(command) is None:
        found = f"{client.title} starts {command!r}, which is not there"
        return Finding(what, False, False, found, f"dynasaur-mcp setup {what}")
    return Finding(what, False, True, f"{client.title} starts {command}, as {file} says")
