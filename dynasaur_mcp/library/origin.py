"""Where functions to import come from: a file, a folder, an archive, an installed package. Read, never imported."""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.metadata
import io
import os
import stat
import sys
import tokenize
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dynasaur_mcp.errors import ActionError, ActionInvalid
from dynasaur_mcp.library.folder import INIT_MARK
from dynasaur_mcp.library.guarded import list_branches
from dynasaur_mcp.library.modules import Modules, Reference
from dynasaur_mcp.library.reading import parse_source, read_action
from dynasaur_mcp.library.rules import CODING_COOKIE, MAX_SOURCE_BYTES, Function
from dynasaur_mcp.library.statements import is_main_guard
from dynasaur_mcp.library.symbols import parse

MAX_FILES = 20_000
MAX_ARCHIVE_BYTES = 100_000_000
"""Of Python in an archive, unpacked."""

_NOT_ITS_CODE = frozenset(
    {"__MACOSX", "__pycache__", "build", "dist", "node_modules", "site-packages", "test", "tests", "venv"}
)

_UNDECODABLE = (UnicodeError, SyntaxError, LookupError)

Files = Mapping[PurePosixPath, Callable[[], bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Functions, and the code that they are part of."""

    modules: Modules
    functions: tuple[Reference, ...]
    """Public ones, in the order of their files."""
    actions: Mapping[str, str]
    """Files that are actions already, to be kept as they are: name -> source."""
    unread: Mapping[str, str]
    """Files that are no Python here: path -> why."""
    requirement: str | None = None
    """What provides its modules, as `boltons>=25.0.0`; empty for Python's own; None: nothing that can be installed."""


def find_origin(what: str) -> Origin:
    """
    Args:
        what: A path, or the dotted name of an installed module.

    Raises:
        ActionError: there is no such thing, or it cannot be read.
    """
    path = Path(what)
    if path.is_dir():
        return _read_files(_list_folder(path))
    if path.is_file() and zipfile.is_zipfile(path):
        return _read_files(_unpack(path))
    if path.is_file() and path.suffix == ".py":
        return _read_file(path.absolute())
    if path.is_file():
        raise ActionError(f"{what!r} is neither Python nor a zip archive: import a .py file, a folder or a .zip.")
    if all(part.isidentifier() for part in what.split(".")):
        return _read_installed(what)
    raise ActionError(f"There is no file or folder {what!r}.")


def _read_file(path: Path) -> Origin:
    """One file; what it imports may be beside it, or in the package that it is part of."""
    top = path.parent
    while (top / "__init__.py").exists():
        top = top.parent
    if top != path.parent:
        files = _list_folder(top / path.relative_to(top).parts[0])
    else:
        files = {PurePosixPath(each.name): each.read_bytes for each in sorted(top.glob("*.py"))}
    return _read_files(files, only=PurePosixPath(path.relative_to(top).as_posix()))


def _list_folder(folder: Path) -> dict[PurePosixPath, Callable[[], bytes]]:
    files: dict[PurePosixPath, Callable[[], bytes]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if _is_code(n) and not Path(place, n, "pyvenv.cfg").exists())
        for path in (Path(place, name) for name in sorted(names) if name.endswith(".py")):
            if stat.S_ISREG(path.lstat().st_mode):
                files[PurePosixPath(path.relative_to(folder).as_posix())] = path.read_bytes
            if len(files) > MAX_FILES:
                raise ActionError(f"{str(folder)!r} has more than {MAX_FILES:,} Python files: import a part of it.")
    if (folder / "__init__.py").exists():
        # A package is known to its own modules by its name.
        files = {PurePosixPath(folder.resolve().name) / path: read for path, read in files.items()}
    return files


def _is_code(folder: str) -> bool:
    return folder not in _NOT_ITS_CODE and not folder.startswith(".")


def _unpack(path: Path) -> dict[PurePosixPath, Callable[[], bytes]]:
    """The Python files of an archive, in memory: nothing is written, wherever its names may lead."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_read_members(archive))
    except ActionError:
        raise
    except Exception as error:  # boundary: a damaged archive ends in whatever a decompressor raises
        raise ActionError(f"{str(path)!r} cannot be unpacked: {error}.") from None


def _read_members(archive: zipfile.ZipFile) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise ActionError(f"The archive has more than {MAX_FILES:,} files: import a part of it.")
    room = MAX_ARCHIVE_BYTES
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
            raise ActionError(
                f"The archive has a file {member.filename!r}, which leads out of it: nothing was imported."
            )
        is_regular = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
        if path.suffix != ".py" or member.is_dir() or not is_regular or not all(map(_is_code, path.parent.parts)):
            continue
        # What a member says of its size may be a lie.
        with archive.open(member) as file:
            data = file.read(min(MAX_SOURCE_BYTES, room) + 1)
        room -= len(data)
        if room < 0:
            raise ActionError(f"The archive has more than {MAX_ARCHIVE_BYTES // 1_000_000} MB of Python.")
        yield path, functools.partial(bytes, data)


def _read_installed(name: str) -> Origin:
    top = name.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top)
    place = Path(spec.origin) if spec and spec.origin else None
    if place is None or place.suffix != ".py":
        hint = "Give the name of an installed module, or a path"
        raise ActionError(f"There is no file, folder or module with Python source {name!r}. {hint}.")
    is_package = place.name == "__init__.py"
    files = _list_folder(place.parent) if is_package else {PurePosixPath(place.name): place.read_bytes}
    origin = _read_files(files, below=name)
    requirement = find_requirement(top)
    return replace(origin, actions={}, requirement=requirement if requirement or is_of_python(top) else None)


def is_of_python(module: str) -> bool:
    return module in sys.stdlib_module_names


def find_requirement(module: str) -> str:
    """The distribution that a module is installed from, in the version that is here; empty if there is none."""
    found = [] if is_of_python(module) else _distributions().get(module, [])
    return f"{found[0]}>={importlib.metadata.version(found[0]).partition('+')[0]}" if found else ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _read_files(files: Files, *, only: PurePosixPath | None = None, below: str = "") -> Origin:
    names, packages = _name_modules(files)
    texts = {name: functools.cache(functools.partial(_decode, files[path])) for name, path in names.items()}
    libraries = {
        path.parent for path, read in files.items() if path.name == "__init__.py" and INIT_MARK in _decode(read)
    }
    modules = Modules(texts, packages)
    functions: list[Reference] = []
    actions: dict[str, str] = {}
    unread: dict[str, str] = {}
    for name, path in names.items():
        if only not in (None, path) or not (f"{name}.".startswith(f"{below}.") or not below):
            continue
        text = texts[name]()
        tree = parse(text)
        in_library = path.parent in libraries and not path.name.startswith("_")
        if tree is None or not text:
            unread |= {str(path): why for why in _explain_unread(files[path]())}
        elif in_library or (path.parent / "__init__.py" not in files and _is_action(text, path.stem)):
            actions[path.stem] = text
        elif not path.name.startswith("test_") and path.name not in ("setup.py", "conftest.py"):
            functions += [Reference(name, function) for function in find_public(tree)]
    if below and not any(f"{name}.".startswith(f"{below}.") for name in names):
        raise ActionError(f"There is no module {below!r} with Python source.")
    return Origin(modules, tuple(functions), actions, unread)


def _decode(read: Callable[[], bytes]) -> str:
    """Its text; empty if it is none, or too large."""
    data = read()
    try:
        return _decode_source(data) if len(data) <= MAX_SOURCE_BYTES else ""
    except _UNDECODABLE:
        return ""


def _decode_source(data: bytes) -> str:
    """As Python does, without what a file says of its encoding: what is kept is UTF-8.

    Raises:
        _UNDECODABLE: it is not in the encoding that it says, or Python has none of that name that is one of texts.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    text = data.decode(encoding)
    if encoding.startswith("utf-8"):
        return text
    lines = text.split("\n", 2)
    return "\n".join([*("" if CODING_COOKIE.match(line) else line for line in lines[:2]), *lines[2:]])


def _explain_unread(data: bytes) -> Iterator[str]:
    """Why a file is no Python here, if so."""
    if len(data) > MAX_SOURCE_BYTES:
        yield f"it has more than {MAX_SOURCE_BYTES // 1_000_000} MB."
        return
    try:
        parse_source(_decode_source(data))
    except _UNDECODABLE:
        yield "it is not in the encoding that it says, or not UTF-8 where it says none."
    except ActionInvalid as error:
        yield from map(str, error.problems)


def _name_modules(paths: Iterable[PurePosixPath]) -> tuple[dict[str, PurePosixPath], frozenset[str]]:
    """Dotted names, within a package from its own top on."""
    there = set(paths)
    names: dict[str, PurePosixPath] = {}
    packages: set[str] = set()
    for path in sorted(there, key=lambda path: (len(path.parts), path)):
        top = path.parent
        while top.name and top / "__init__.py" in there:
            top = top.parent
        own = path.relative_to(top)
        in_package = len(own.parts) > 1
        name = ".".join((own if in_package else path).with_suffix("").parts)
        if path.name == "__init__.py":
            name = name.removesuffix(".__init__")
            packages.add(name)
        names.setdefault(name, path)
    return names, frozenset(packages)


def _is_action(text: str, name: str) -> bool:
    """Whether it is the file of one action, and nothing more."""
    try:
        return read_action(text).name == name
    except ActionInvalid:
        return False


def find_public(tree: ast.Module) -> list[str]:
    """Functions that a module offers: those in `__all__`, if it has one, else those without a leading `_`."""
    names: dict[str, None] = {}
    offered: set[str] = set()
    for node in find_statements(tree.body):
        if isinstance(node, Function):
            names[node.name] = None
        elif any(isinstance(each, ast.Name) and each.id == "__all__" for each in ast.walk(node)):
            texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            offered |= {each for each in texts if isinstance(each, str)}
    return [name for name in names if not name.startswith(("_", "test_")) and (not offered or name in offered)]


def find_statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that may run when the module is imported: under an `if` or a `try`, too."""
    for node in body:
        branches = list(list_branches(node))
        for branch in [] if is_main_guard(node) else branches:
            yield from find_statements(branch)
        if not branches:
            yield node
