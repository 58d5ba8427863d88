"""`from actions import f` inside a worker: a package whose modules are the sources sent with the call."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import linecache
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
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


class _Loader(importlib.abc.InspectLoader):
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


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "actions":
            return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=True)
        if fullname.startswith("actions.") and fullname.removeprefix("actions.") in sources:
            return importlib.machinery.ModuleSpec(fullname, _Loader(), origin=file_of(fullname[8:]))
        return None


sources: dict[str, str] = {}
"""The actions this process knows, by name."""


def add_sources(new: Mapping[str, str], folders: Sequence[str]) -> None:
    """Make actions importable, and folders of packages. If one changed, all are imported anew."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if any(name in sources and sources[name] != text for name, text in new.items()):
        for name in [name for name in sys.modules if name == "actions" or name.startswith("actions.")]:
            del sys.modules[name]
    sources.update(new)
    for name, text in new.items():
        cache_lines(file_of(name), text)
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)
            importlib.invalidate_caches()


def cache_lines(filename: str, text: str) -> None:
    """Let tracebacks show lines of a source that is no file."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
