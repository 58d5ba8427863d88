"""The actions of this folder: `from actions import f`, and `from actions.f import f` too, give the function f of f.py.

Written by dynasaur-mcp and kept up to date by it as long as this sentence stays. Needs nothing but Python.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType


class _Actions(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or not (Path(__file__).parent / f"{name}.py").is_file():
            raise AttributeError(f"no action named {name!r} in {__name__!r}")
        return getattr(importlib.import_module(f"{__name__}.{name}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        # Python binds each imported submodule to its package; the function goes there instead.
        if isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}":
            value = getattr(value, name, value)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


sys.modules[__name__].__class__ = _Actions
