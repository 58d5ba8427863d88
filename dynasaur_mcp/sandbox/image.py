"""The image of a worker: its tag, its build context, its build.

The tag carries a hash of all that goes in, so an image of an older worker is never used. Wheels are unpacked on the
host, by the same uv that installs actions' requirements, and copied: see docker/Dockerfile for why.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread

from dynasaur_mcp import __version__
from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.engine import Client, connect, is_missing
from dynasaur_mcp.sandbox.wheels import Target, install_wheels, resolve_versions

DEFAULT_BASE = "python:3.12-slim"
PYTHON_LABEL, PLATFORM_LABEL = "dynasaur-mcp.python", "dynasaur-mcp.platform"

_PACKAGE = Path(__file__).parents[1]
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_GLIBC_MINORS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""The manylinux versions uv knows."""


def image_folder() -> Path:
    """The Dockerfile's folder: `dynasaur_mcp/image` in a wheel, `docker` in a checkout."""
    shipped = _PACKAGE / "image"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "docker"


def worker_files() -> dict[str, bytes]:
    """What a worker imports of ours, by path below /opt/worker. `dynasaur_mcp/__init__.py` is empty there."""
    files = {"dynasaur_mcp/__init__.py": b"", "dynasaur_mcp/sandbox/__init__.py": b""}
    sandbox = _PACKAGE / "sandbox"
    for path in (sandbox / "wire.py", sandbox / "sets.py", *sorted((sandbox / "worker").rglob("*.py"))):
        files[path.relative_to(_PACKAGE.parent).as_posix()] = path.read_bytes()
    return files


@cache
def image_tag() -> str:
    """The image that fits this version's worker."""
    digest = hashlib.sha256()
    folder = image_folder()
    recipe = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    for name, data in sorted({**recipe, **worker_files()}.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return f"dynasaur-mcp-worker:{__version__}-{digest.hexdigest()[:12]}"


async def build_image(base: str | None = None, *, on_line: Callable[[str], None] = lambda _: None) -> str:
    """Build the worker image on the engine, from `base` (pulled when it is not there), and give back its tag.

    Args:
        base: An image with Python 3.11 or later as `python3`.
        on_line: Called in the event loop with each line of progress.

    Raises:
        SandboxUnavailable: no engine, no such base, a step that failed: one sentence.
    """
    base = base or DEFAULT_BASE
    client = await anyio.to_thread.run_sync(connect)
    client.timeout = 600

    def say(line: str) -> None:
        anyio.from_thread.run_sync(on_line, line)

    try:
        await anyio.to_thread.run_sync(_ensure_base, client, base, say)
        python_version, platform = await anyio.to_thread.run_sync(_probe, client, base)
        on_line(f"{base}: Python {python_version}, {platform}")
        with tempfile.TemporaryDirectory(prefix="dynasaur-image-") as folder:
            requirements = (image_folder() / "requirements.txt").read_text().split("\n")
            asked = {text: text for text in requirements if text}
            target = Target(python_version, platform)
            await install_wheels(await resolve_versions(asked, target), Path(folder), target)
            await anyio.to_thread.run_sync(
                _build, client, base, Path(folder), {PYTHON_LABEL: python_version, PLATFORM_LABEL: platform}, say
            )
    finally:
        client.close()
    return image_tag()


def _ensure_base(client: Client, base: str, say: Callable[[str], None]) -> None:
    try:
        client.inspect_image(base)
        return
    except OSError as error:
        if not is_missing(error):
            raise SandboxUnavailable(f"Docker could not look for the base image {base!r}: {error}") from error
    say(f"pulling {base}")
    name, _, tag = base.partition("@") if "@" in base else base.rpartition(":")
    repository, tag = (name, tag) if name and "/" not in tag else (base, "latest")
    try:
        _follow(client.pull(repository, tag=tag, stream=True, decode=True), say)
    except (OSError, SandboxUnavailable) as error:
        raise SandboxUnavailable(
            f"The base image {base!r} cannot be pulled. Where no registry is reachable, make one with "
            f"{image_folder() / 'build_base.sh'} and give it as --base. ({_one_line(error)})"
        ) from error


def _probe(client: Client, base: str) -> tuple[str, str]:
    """Python version and wheel platform of an image."""
    config = {
        "Image": base,
        "Entrypoint": ["python3", "-I", "-c", (image_folder() / "probe.py").read_text()],
        "Cmd": [],
        "NetworkDisabled": True,
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file"}},
    }
    container = None
    try:
        container = client.create_container_from_config(config)["Id"]
        client.start(container)
        client.wait(container)
        found = json.loads(client.logs(container, stdout=True, stderr=False))
    except (OSError, ValueError) as error:
        raise SandboxUnavailable(f"The base image {base!r} has no working python3. ({_one_line(error)})") from error
    finally:
        if container:
            client.remove_container(container, force=True, v=True)
    if tuple(map(int, found["python"].split("."))) < (3, 11):
        raise SandboxUnavailable(f"The base image {base!r} has Python {found['python']}; 3.11 or later is needed.")
    return found["python"], wheel_platform(found["machine"], found["libc"])


def wheel_platform(machine: str, libc: str) -> str:
    """What uv calls the platform: `x86_64` and `glibc 2.36` give `x86_64-manylinux_2_36`; no glibc is musl."""
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine)
    if not libc.startswith("glibc "):
        return f"{machine}-unknown-linux-musl"
    minor = int(libc.split(".")[1])
    return f"{machine}-manylinux_2_{max(known for known in _GLIBC_MINORS if known <= minor)}"


def _build(client: Client, base: str, wheels: Path, labels: Mapping[str, str], say: Callable[[str], None]) -> None:
    with tempfile.TemporaryFile() as context:
        _write_context(context, wheels)
        context.seek(0)
        try:
            events: Any = client.build(
                fileobj=context,
                custom_context=True,
                tag=image_tag(),
                rm=True,
                forcerm=True,
                network_mode="none",
                buildargs={"BASE": base},
                labels=labels,
                decode=True,
            )
            _follow(events, say)
        except OSError as error:
            raise SandboxUnavailable(f"The worker image could not be built: {_one_line(error)}") from error


def _write_context(file: Any, wheels: Path) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as context:
        for name, folder in (("Dockerfile", ""), ("prepare_image.py", "worker/")):
            _add_bytes(context, folder + name, (image_folder() / name).read_bytes())
        for name, data in worker_files().items():
            _add_bytes(context, f"worker/{name}", data)
        context.add(wheels, "worker", filter=as_root)


def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member that root owns and all may read."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o755 if member.isdir() else 0o644
    return member


def _add_bytes(context: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    context.addfile(member, io.BytesIO(data))


def _follow(events: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> None:
    """Say what a pull or a build says.

    Raises:
        SandboxUnavailable: it failed.
    """
    for event in events:
        if "error" in event:
            raise SandboxUnavailable(f"Docker says: {_one_line(event['error'])}")
        for line in _lines(event):
            say(line)


def _lines(event: Mapping[str, Any]) -> Iterator[str]:
    # A pull's progress bars come as events with an id, many a second.
    if "id" not in event:
        text = _COLOURS.sub("", str(event.get("stream") or event.get("status") or ""))
        yield from filter(None, map(str.rstrip, text.splitlines()))


def _one_line(error: object) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())[:400]
