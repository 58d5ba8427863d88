"""What is like something the library has: shown, or refused, before anything is kept."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dynasaur_mcp import likeness
from dynasaur_mcp.errors import ActionAlike
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Status
from tests.library.conftest import Define, OpenStore, put

pytestmark = pytest.mark.anyio

MEAN = '''\
import statistics


def mean_of(numbers: list[float]) -> float:
    """Average some numbers.

    >>> mean_of([1, 2, 6])
    3.0
    """
    # The arithmetic one.
    total = statistics.fmean(numbers)
    return round(total, 6)
'''
SPLIT = '''\
def split_by_comma(text: str) -> list[str]:
    """Split a text at its commas.

    >>> split_by_comma("a,b;c")
    ['a', 'b;c']
    """
    return text.split(",")
'''


@pytest.mark.parametrize(
    "source",
    [
        MEAN.replace("mean_of", "average"),
        MEAN.replace("mean_of", "average")
        .replace("total", "t")
        .replace("numbers", "ys")
        .replace("The arithmetic", "A"),
        MEAN.replace("mean_of", "average")
        .replace("import statistics", "from statistics import fmean as f")
        .replace("statistics.fmean", "f"),
        MEAN.replace("mean_of", "average").replace("Average", "The mean of"),
        MEAN.replace("mean_of", "average") + "\n\ndef test_one() -> None:\n    assert average([1]) == 1\n",
    ],
    ids=["renamed", "other names", "other import", "other docstring", "with a test"],
)
async def test_same_code_under_another_name_is_refused_by_what_to_use(
    define: Define, store: FileStore, source: str
) -> None:
    await define(MEAN)
    for given in ({}, {"anyway": True}):
        with pytest.raises(ActionAlike, match=r"'average' was not kept: 'mean_of' is the same code.*Use that"):
            await define(source, **given)
    assert [entry.name for entry in store.entries()] == ["mean_of"]


@pytest.mark.parametrize(
    "source",
    [
        MEAN.replace("mean_of", "average").replace("fmean", "median").replace("3.0", "2"),
        MEAN.replace("mean_of", "average").replace("6)", "5)"),
        MEAN.replace("mean_of", "average").replace("numbers: list", "numbers: tuple"),
        "def best(xs: list[int]) -> int:\n    '''Best.'''\n    return max(xs)\n\n\n"
        "def _other(xs: list[int]) -> int:\n    return min(xs)\n",
    ],
    ids=["other function", "other number", "other type", "other"],
)
async def test_other_code_is_not_called_the_same(define: Define, store: FileStore, source: str) -> None:
    await define(MEAN)
    await define(source, anyway=True)
    assert len(store.entries()) == 2


async def test_which_function_of_a_file_is_the_action_makes_a_difference(define: Define, store: FileStore) -> None:
    both = '''def {}(x: int) -> int:
    """Count {}."""
    return x + 1 if x > 3 else _down(x)


def _up(x: int) -> int:
    return x + 1 if x > 3 else _down(x)


def _down(x: int) -> int:
    return x - 1
'''
    await define(both.format("lift", "up"))
    with pytest.raises(ActionAlike):
        await define(both.format("raise_it", "further"))
    await define(both.format("drop", "down").replace("> 3 else _down(x)\n\n\ndef _up", "> 3 else _up(x)\n\n\ndef _up"))
    assert {entry.name for entry in store.entries()} == {"lift", "drop"}


async def test_same_code_but_for_texts_is_kept_when_its_examples_give_other_results(define: Define) -> None:
    await define(SPLIT)
    source = SPLIT.replace("comma", "semicolon").replace('(",")', '(";")').replace("['a', 'b;c']", "['a,b', 'c']")
    (alike,) = (await define(source)).near
    assert not alike.is_likely
    assert "split_by_comma(text='a,b;c'): ['a', 'b;c'], with the new one: ['a,b', 'c']" in alike.why


async def test_same_code_but_for_texts_that_cannot_be_told_apart_needs_anyway(define: Define, store: FileStore) -> None:
    source = SPLIT[: SPLIT.index("\n    >>>")] + SPLIT[SPLIT.index('    """\n') :]
    await define(source)
    other = source.replace("comma", "semicolon").replace('(",")', '(";")')
    with pytest.raises(ActionAlike, match="the same code but for texts and types"):
        await define(other)
    definition = await define(other, anyway=True)
    assert [alike.entry.name for alike in definition.near] == ["split_by_comma"]
    assert len(store.entries()) == 2


OTHER_MEAN = '''\
def compute_average(values: List[float]) -> float:
    """Average some numbers.

    >>> compute_average([2, 4])
    3.0
    """
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
'''


async def test_same_description_types_and_results_need_anyway_or_replaces(define: Define, store: FileStore) -> None:
    await define(MEAN)
    source = f"from typing import List\n\n\n{OTHER_MEAN}"
    with pytest.raises(ActionAlike) as refused:
        await define(source)
    said = str(refused.value)
    assert "'compute_average' was not kept: it likely does what there is already." in said
    assert "mean_of(numbers: list[float]) -> float: Average some numbers. (described alike, the same results of" in said
    assert "2 calls)" in said
    assert "replaces='mean_of'" in said
    await define(source.replace("compute_average", "mean_of"), replaces="mean_of")
    assert store.get("mean_of").version == 2
    await define(MEAN.replace("mean_of", "average"), anyway=True)


async def test_same_description_with_other_types_or_no_examples_is_only_shown(define: Define) -> None:
    await define(MEAN)
    source = OTHER_MEAN.replace("List[float]", "list[int]")
    (alike,) = (await define(source)).near
    assert (alike.is_likely, alike.why) == (False, "described alike")


async def test_new_version_may_be_what_another_action_is(define: Define, store: FileStore) -> None:
    await define(MEAN)
    await define(MEAN.replace("mean_of", "average").replace("6)", "5)"), anyway=True)
    await define(MEAN.replace("mean_of", "average"), replaces="average")
    assert store.get("average").version == 2


async def test_likeness_of_a_disabled_action_says_how_to_have_it_back(define: Define, store: FileStore) -> None:
    await define(MEAN)
    store.set_status("mean_of", Status.DISABLED)
    with pytest.raises(ActionAlike, match="Enable that by manage_action"):
        await define(MEAN.replace("mean_of", "average"))


@pytest.mark.parametrize(
    "harm",
    [
        "import os; os._exit(3)",
        "raise SystemExit",
        "while True: pass",
        "open('/workspace/x', 'w').write('x' * 10_000); import shutil; shutil.rmtree('/workspace', ignore_errors=True)",
    ],
)
async def test_example_that_breaks_the_comparison_costs_no_definition(
    define: Define, store: FileStore, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "COMPARE_SECONDS", 2.0)
    body = f"{harm}\n    return 1.0" if not harm.startswith("raise") else harm
    put(store, MEAN.replace("return round(total, 6)", body))
    definition = await define(OTHER_MEAN.replace("List", "list"))
    assert [alike.is_likely for alike in definition.near] == [False]
    assert store.get("compute_average").status is Status.ACTIVE


async def test_actions_kept_before_shapes_were_are_found_too(
    define: Define, open_store: OpenStore, folder: Path
) -> None:
    put(open_store(), MEAN)
    with sqlite3.connect(folder / ".ledger.sqlite3") as connection:
        (details,) = connection.execute("SELECT details FROM versions").fetchone()
        old = {key: value for key, value in json.loads(details).items() if key not in ("shape", "advice")}
        connection.execute("UPDATE versions SET details = ?", (json.dumps(old),))
    with pytest.raises(ActionAlike, match="'mean_of' is the same code"):
        await define(MEAN.replace("mean_of", "average"))


async def test_file_written_by_hand_is_found_by_its_code(define: Define, store: FileStore, folder: Path) -> None:
    (folder / "mean_of.py").write_text(MEAN)
    store.refresh()
    with pytest.raises(ActionAlike, match="'mean_of' is the same code"):
        await define(MEAN.replace("mean_of", "average"))
