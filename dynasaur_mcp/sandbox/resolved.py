"""What requirements were resolved to: remembered for good, so that a kept action goes on with what it was tested with.

Nothing is ever resolved anew by itself. `dynasaur-mcp gc --packages` forgets everything, for servers started after it;
so does removing the cache folder. Each is a text file that people can read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_FOLDER = "resolved"
_END = "# end"
"""The last line says that a file is whole."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The packages that requirements come to."""

    versions: tuple[str, ...]
    """`name==version` of each, dependencies included, sorted."""

    @property
    def key(self) -> str:
        """The name of the set of them; empty for none."""
        return _digest(self.versions) if self.versions else ""


class Resolutions:
    """What is remembered for one target, below a cache folder."""

    def __init__(self, cache: Path, tag: str) -> None:
        self._folder = cache / _FOLDER / tag

    def find(self, asked: Iterable[str]) -> Resolved | None:
        """
        Args:
            asked: In normal form, sorted.
        """
        try:
            lines = self._path(asked).read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        if lines[-1:] != [_END]:
            return None
        return Resolved(tuple(line for line in lines if not line.startswith("#")))

    def keep(self, asked: Iterable[str], resolved: Resolved) -> Resolved:
        """Remember one; gives back that of another server which was first, so that both have the same.

        Raises:
            OSError
        """
        path = self._path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as draft:
            lines = ["# Asked for:", *(f"#   {text}" for text in asked), *resolved.versions, _END]
            draft.write("\n".join(lines) + "\n")
            draft.flush()
            try:
                os.link(draft.name, path)
            except FileExistsError:
                if first := self.find(asked):
                    return first
                # Cut off in writing.
                path.unlink(missing_ok=True)
                os.link(draft.name, path)
        return resolved

    def _path(self, asked: Iterable[str]) -> Path:
        return self._folder / f"{_digest(asked)}.txt"


def forget_resolved(cache: Path) -> int:
    """Blocking: forget what was resolved for any target; how many there were."""
    forgotten = list((cache / _FOLDER).glob("*/*.txt"))
    for path in forgotten:
        path.unlink(missing_ok=True)
    return len(forgotten)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
