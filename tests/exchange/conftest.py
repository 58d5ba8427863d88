"""A package to import, and what became of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import write

MEAN = '''"""Numbers."""
from collections.abc import Callable

from .base import check as _check

SCALE = 2


def mean(values: list[float]) -> float:
    """The mean of some numbers.

    >>> mean([1, 2])
    3.0
    """
    return SCALE * sum(_check(values)) / len(values)


def scaled(value, by=3):
    """A number, larger.

    >>> scaled(2)
    6
    """
    return value * by


def untyped(value):
    """Nothing shows what this takes."""
    return value


def wrong(value: int) -> int:
    """Not what its example says.

    >>> wrong(1)
    2
    """
    return value


def total(*values: int) -> int:
    """The sum of all.

    >>> total(1, 2)
    3
    """
    return sum(values)


def lazily(make: Callable[[], int]) -> int:
    """What a function makes.

    >>> lazily(lambda: 3)
    3
    """
    return make()


def _private(value: int) -> int:
    """Nobody's business."""
    return value
'''
BASE = '''def check(values: list[float]) -> list[float]:
    """The numbers, if there are any."""
    if not values:
        raise ValueError("no numbers")
    return values
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package `numbers_` of two modules."""
    folder = tmp_path / "code" / "numbers_"
    folder.mkdir(parents=True)
    write(folder, __init__="", mean=MEAN, base=BASE)
    return folder


def rows(ran: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Name -> what became of it, and the note."""
    lines = [line.split("\t") for line in ran.stdout.splitlines()]
    return {name.rpartition(".")[2]: (how, note) for name, how, note in lines}


def library(tmp_path: Path) -> dict[str, str]:
    """Every file of an action, by name."""
    folder = tmp_path / "library"
    return {path.stem: path.read_text() for path in sorted(folder.glob("[a-z]*.py"))}
