"""`from actions import f` inside a worker: a package whose modules are the sources sent with the call."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from linecache import cache as _lines
from types import ModuleType

from dynasaur_mcp.sandbox.sets import read_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def file_of(name: str) -> str:
    """The file name tracebacks show for an action."""
    return f"actions/{name}.py"


class ActionsPackage(ModuleType):
    """Package `actions`: its attributes are the functions, not the modules of the same names."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in sources:
            raise AttributeError(f"no action named {name!r} in the library" if not name.startswith("__") else name)
        importlib.import_module(f"actions.{name}")
        return self.__dict__[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # importlib sets a submodule as an attribute of its package: keep the function instead.
        if isinstance(value, ModuleType) and value.__name__ == f"actions.{name}":
            value = getattr(value, name, value)
        super().__setattr__(name, value)


class _Loader:
    """As `importlib.abc` has it, whose own import would be a tenth of a worker's start."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return ActionsPackage("actions") if spec.name == "actions" else None

    def get_source(self, fullname: str) -> str:
        return sources.get(fullname.removeprefix("actions."), "")

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "actions":
            return
        name = module.__name__.removeprefix("actions.")
        module.__file__ = file_of(name)
        exec(compile(sources[name], file_of(name), "exec", dont_inherit=True), module.__dict__)  # noqa: S102


_loader: Any = _Loader()
"""typeshed asks for a subclass; importlib does not."""


class _Finder:
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "actions":
            return importlib.machinery.ModuleSpec(fullname, _loader, is_package=True)
        if fullname.startswith("actions.") and fullname.removeprefix("actions.") in sources:
            return importlib.machinery.ModuleSpec(fullname, _loader, origin=file_of(fullname[8:]))
        return None


sources: dict[str, str] = {}
"""The actions this process knows, by name."""


MAX_OTHERS = 20

_folders: list[str] = []
"""Folders of packages on `sys.path`, in its order."""


def add_sources(new: Mapping[str, str]) -> None:
    """Make actions importable. If one changed, all are imported anew."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if any(name in sources and sources[name] != text for name, text in new.items()):
        for name in [name for name in sys.modules if name == "actions" or name.startswith("actions.")]:
            del sys.modules[name]
    sources.update(new)
    for name, text in new.items():
        cache_lines(file_of(name), text)


def add_packages(folders: Sequence[str]) -> list[str]:
    """Put folders of packages on `sys.path`: what is not imported yet comes from the newest that has it.

    Returns:
        Each package that a folder has in another version than is imported already.
    """
    others: list[str] = []
    for folder in folders:
        if _folders[:1] == [folder] and folder in sys.path:
            continue
        if folder in _folders:
            _folders.remove(folder)
            sys.path[:] = [path for path in sys.path if path != folder]
        # After Python's own and the worker's, before those of earlier requests.
        place = min((n for n, path in enumerate(sys.path) if path in _folders), default=len(sys.path))
        sys.path.insert(place, folder)
        _folders.insert(0, folder)
        # Not `importlib.invalidate_caches`: it asks every finder that user code may have put there, and since Python
        # 3.12 it imports a reader of metadata, of whose parts user code may have left none to be found.
        sys.path_importer_cache.pop(folder, None)
        others += _find_other_versions(folder)
    return others[:MAX_OTHERS]


def _find_other_versions(folder: str) -> list[str]:
    """`pandas 2.3.3 (asked for: 3.0.0; a new session has it)`"""
    found = {}
    for module, package in read_note(folder).get("modules", {}).items():
        name, _, wanted = package.partition("==")
        with contextlib.suppress(Exception):  # boundary: what user code may have put among the modules
            there = sys.modules.get(module) or _import_own(module)
            has, remedy = _version_of(there, module) if there else ("", "")
            if has and has != wanted:
                found[name] = f"{name} {has} (asked for: {wanted}; {remedy})"
    return [text[:200] for text in found.values()][:MAX_OTHERS]


def _import_own(name: str) -> ModuleType | None:
    """A module that the sandbox itself brings, which goes before those of folders; None where it has no such one."""
    spec = importlib.util.find_spec(name)
    is_own = spec is not None and not str(spec.origin).startswith(tuple(f"{folder}/" for folder in _folders))
    return importlib.import_module(name) if is_own else None


def _version_of(module: ModuleType, name: str) -> tuple[str, str]:
    """As the set that it came from says, else as it says itself; empty where neither does. And what is to be done."""
    origin = module.__file__ or next(iter(module.__path__))
    for folder in _folders:
        if origin.startswith(f"{folder}/"):
            package = str(read_note(folder).get("modules", {}).get(name, ""))
            return package.partition("==")[2], "a new session has it"
    return str(getattr(module, "__version__", "")), "the sandbox itself needs the other"


def cache_lines(filename: str, text: str) -> None:
    """Let tracebacks show lines of a source that is no file."""
    _lines[filename] = (len(text), None, split_lines(text), filename)


def split_lines(text: str) -> list[str]:
    """As Python counts them. The last one ends too, as in a file: what marks a place in it counts on that."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    return [f"{line}\n" for line in lines]
