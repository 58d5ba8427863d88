"""Commands for servers that run, all of this user's that share the cache folder: `ps`, `sessions`, `files`."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import anyio
import anyio.to_thread
import typer

from dynasaur_mcp.control import ControlError, Running, find_running, read_answers
from dynasaur_mcp.options import AsJson
from dynasaur_mcp.server.text import show_name
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.sweep import find_leftovers
from dynasaur_mcp.tables import show_json, show_table
from dynasaur_mcp.types import LOCAL, NAME_PATTERN

PIECE_BYTES = 4 << 20

sessions = typer.Typer(help="List and close sessions of running servers.", invoke_without_command=True)
files = typer.Typer(help="Move files into a session's workspace, and out of it.", invoke_without_command=True)

Session = Annotated[str, typer.Option("--session", help="Name of the session.")]
Server = Annotated[str, typer.Option("--server", metavar="PID", help="Which server, where several run.")]
Principal = Annotated[str, typer.Option("--principal", help="Whose session.")]


def ps(as_json: AsJson = False) -> None:
    """List the workers that run, of all servers, and what killed servers left behind."""
    settings = read_settings()
    rows: list[tuple[str, ...]] = []
    running = anyio.run(find_running, settings.cache)
    left = anyio.run(find_leftovers, settings)
    if as_json:
        gone = [{"sandbox": sandbox, "name": name} for sandbox, name in left]
        show_json({"servers": [server.state for server in running], "left_over": gone})
        return
    for server in running:
        state = server.state
        head = (str(state["pid"]), state["sandbox"] or "none yet")
        rows += [(*head, one["worker"], one["name"], *describe_session(one)) for one in state["held"]]
        rows += [(*head, worker, "", "", "warm", "") for worker in state["warm"]]
        if not state["held"] and not state["warm"]:
            rows.append((*head, "", "", "", "no worker", ""))
    rows += [("gone", *what, "", "", "left over: `dynasaur-mcp gc` removes it", "") for what in left]
    if not rows:
        typer.echo("No server runs.", err=True)
    show_table(["server", "sandbox", "worker", "session", "principal", "state", "memory"], rows)


@sessions.command("list")
def list_sessions(as_json: AsJson = False) -> None:
    """List open sessions: who holds them, for how long they have been idle, what memory they use."""
    running = anyio.run(find_running, read_settings().cache)
    if as_json:
        servers = [(one.state["pid"], one.state["library"], one.state["held"]) for one in running]
        show_json([{**held, "server": pid, "library": library} for pid, library, each in servers for held in each])
        return
    rows = [
        (one["name"], *describe_session(one), str(server.state["pid"]), server.state["library"])
        for server in running
        for one in server.state["held"]
    ]
    if not rows:
        typer.echo("No session is open." if running else "No server runs.", err=True)
    show_table(["session", "principal", "state", "memory", "server", "library"], rows)


@sessions.command("close")
def close_sessions(
    names: Annotated[list[str], typer.Argument(metavar="NAME…")], server: Server = "", principal: Principal = LOCAL
) -> None:
    """End sessions, with their variables and files."""

    async def close() -> None:
        running = await find_running(read_settings().cache)
        for name in names:
            holder = find_holder(running, name, principal, server)
            await holder.ask({"op": "close", "principal": principal, "session": name})
            typer.echo(f"Session {name!r} is closed.")

    anyio.run(close)


@files.command("put")
def put_files(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files and folders.")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="Folder of the workspace.")] = "",
    session: Session = "default",
    server: Server = "",
    principal: Principal = LOCAL,
) -> None:
    """Copy files and folders into a session's workspace; the session is opened if need be."""
    found = [(path, inside) for given in paths for path, inside in find_local(given)]

    async def put() -> None:
        running = await find_running(read_settings().cache)
        holder = find_holder(running, session, principal, server, may_open=True)
        for path, inside in found:
            target = str(PurePosixPath(to, inside))
            size_bytes = await put_file(holder, path, {"principal": principal, "session": session, "path": target})
            typer.echo(f"{show_name(target)}\t{size_bytes} bytes")

    anyio.run(put)


@files.command("get")
def get_files(
    path: Annotated[str, typer.Argument(metavar="PATH", help="File or folder of the workspace.")],
    target: Annotated[
        Path, typer.Argument(metavar="[TARGET]", help="Where to: a folder, or the name of a file.")
    ] = Path(),
    session: Session = "default",
    server: Server = "",
    principal: Principal = LOCAL,
    most_bytes: Annotated[
        int,
        typer.Option("--most-bytes", min=0, help="What the files may have together; long holes in them do not count."),
    ] = 1 << 30,
) -> None:
    """Copy a file or a folder out of a session's workspace. Links, pipes and the like stay there."""

    async def get() -> None:
        running = await find_running(read_settings().cache)
        holder = find_holder(running, session, principal, server)
        where = {"principal": principal, "session": session}
        place = target / (PurePosixPath(path).name or "workspace") if target.is_dir() else target
        await get_all(holder, where, path.rstrip("/"), place, most_bytes)

    anyio.run(get)


def describe_session(held: dict[str, Any]) -> tuple[str, str, str]:
    """Principal, state and memory."""
    state = "at work" if held["is_busy"] else f"idle {held['idle_seconds']:.0f} s"
    memory = "" if held["memory_bytes"] is None else f"{held['memory_bytes'] / (1 << 20):.1f} MiB"
    return held["principal"], state, memory


def find_holder(running: list[Running], name: str, principal: str, server: str, *, may_open: bool = False) -> Running:
    """The server that has the session.

    Raises:
        ControlError: none or more than one has.
    """
    asked = [one for one in running if server in ("", str(one.state["pid"]), one.id)]
    if not asked:
        raise ControlError(f"No server {server!r} runs: `dynasaur-mcp ps` lists them." if server else "No server runs.")
    holders = [one for one in asked if any((s["name"], s["principal"]) == (name, principal) for s in one.state["held"])]
    if not holders and may_open:
        if not NAME_PATTERN.fullmatch(name):
            raise ControlError(
                f"{name!r} cannot be a session's name: use a to z, digits and _, a letter first, 40 at most."
            )
        holders = asked
    if not holders:
        raise ControlError(f"No session {name!r} of {principal!r} is open: `dynasaur-mcp sessions list` lists them.")
    if len(holders) > 1:
        pids = ", ".join(str(one.state["pid"]) for one in holders)
        raise ControlError(f"More than one server can be meant: {pids}. Choose one by --server.")
    return holders[0]


def find_local(given: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Files to put, each with its path in the workspace. Links below a folder, pipes and the like are named and left.

    Raises:
        ControlError: there is no such file.
    """
    if not given.exists():
        raise ControlError(f"There is no file {str(given)!r}.")
    name = given.resolve().name
    if given.is_file():
        yield given, PurePosixPath(name)
        return
    for folder, folders, names in os.walk(given):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            if stat.S_ISREG(path.lstat().st_mode):
                yield path, PurePosixPath(name, path.relative_to(given).as_posix())
            else:
                typer.echo(f"{show_name(str(path))} is no regular file: left out", err=True)


async def put_file(server: Running, path: Path, where: dict[str, str]) -> int:
    async with server.connect() as frames:
        await frames.send({"op": "write", **where})
        async with await anyio.open_file(path, "rb") as file:
            while data := await file.read(PIECE_BYTES):
                await frames.send({"data": base64.b64encode(data).decode()})
        await frames.send({"data": ""})
        (answer,) = [message async for message in read_answers(frames)]
        return int(answer["size_bytes"])


async def get_all(server: Running, where: dict[str, str], path: str, target: Path, most_bytes: int) -> int:
    """A file, or a folder with all below it; how many bytes were taken."""
    try:
        (listing,) = await server.ask({"op": "list", **where, "path": path})
    except ControlError:
        size_bytes, taken = await get_file(server, {**where, "path": path}, target, most_bytes)
        typer.echo(f"{show_name(str(target))}\t{size_bytes} bytes")
        return taken
    await anyio.Path(target).mkdir(parents=True, exist_ok=True)
    taken = 0
    for item in listing["items"]:
        inner = f"{path}/{item['name']}".lstrip("/")
        if item["kind"] == "other":
            typer.echo(f"{inner!r} is no regular file: left out", err=True)
            continue
        try:
            taken += await get_all(server, where, inner, target / item["name"], most_bytes - taken)
        except ControlError as error:
            # A name that is no Unicode is listed with this in it, and cannot be asked for.
            if "\ufffd" not in item["name"]:
                raise
            typer.echo(f"{error} It is left out.", err=True)
    if listing["total"] > len(listing["items"]):
        typer.echo(
            f"{path!r} has {listing['total']} entries: only the first {len(listing['items'])} were taken", err=True
        )
    return taken


async def get_file(server: Running, where: dict[str, str], target: Path, most_bytes: int) -> tuple[int, int]:
    """What was at `target` stays until the file is whole. Its size, and how much of it is in no hole.

    Raises:
        ControlError: it cannot be had, or there is more of it than `most_bytes`.
    """
    draft = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    size_bytes = taken = 0
    try:
        async with server.connect() as frames:
            await frames.send({"op": "read", **where})
            async with await anyio.open_file(draft, "xb") as file:
                async for message in read_answers(frames):
                    if "size_bytes" in message:
                        size_bytes = message["size_bytes"]
                        await file.truncate(size_bytes)
                        continue
                    data = base64.b64decode(message["data"])
                    taken += len(data)
                    if taken > most_bytes:
                        raise ControlError(
                            f"{where['path']!r} is not taken: it would be more than --most-bytes allows in all."
                        )
                    await file.seek(message["offset"])
                    await file.write(data)
        await anyio.to_thread.run_sync(os.replace, draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return size_bytes, taken
