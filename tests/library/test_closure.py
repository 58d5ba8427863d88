from __future__ import annotations

from typing import Any

import pytest

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.closure import extract_function


def extract(*steps: str) -> str:
    return extract_function(steps, "f")


def call(source: str, *arguments: object) -> Any:
    names: dict[str, Any] = {"__name__": "f"}
    exec(compile(source, "f.py", "exec"), names)
    return names["f"](*arguments)


def test_everything_it_uses_comes_along_and_nothing_else() -> None:
    source = extract(
        "import re, json as j\nimport os\nRATE = 2  # per hour\nunused = 3\nprint(RATE)",
        "# how a point is shown\nclass Point:\n    def show(self): return helper()\nclass Other: pass",
        "def helper(): return j.dumps(RATE)\ndef other(): ...",
        "def f(): return Point().show()",
    )
    assert source == (
        "import json as j\n\nRATE = 2  # per hour\n\n\n# how a point is shown\nclass Point:\n"
        "    def show(self): return helper()\n\n\n"
        "def helper(): return j.dumps(RATE)\n\n\ndef f(): return Point().show()\n"
    )
    assert call(source) == "2"


def test_later_definitions_win() -> None:
    source = extract("def g(): return 1\ndef f(): return 'old'", "def f(): return g()", "def g(): return 2")
    assert call(source) == 2
    assert "old" not in source
    assert "return 1" not in source


def test_a_value_is_made_from_what_was_there_when_it_was_made() -> None:
    source = extract("RATE = 2\ndef make(): return RATE\nA = make()", "RATE = 50\ndef f(): return A, RATE")
    assert call(source) == (2, 50)


def test_values_changed_in_place_are_as_the_session_left_them() -> None:
    source = extract(
        "WORDS = ['a']\nTABLE = {}\ntotal = 1",
        "WORDS.append('b')\nfor word in WORDS:\n    TABLE[word] = len(TABLE)\ntotal += 4",
        "def f(): return WORDS, TABLE, total",
    )
    assert call(source) == (["a", "b"], {"a": 0, "b": 1}, 5)


@pytest.mark.parametrize(
    ("before", "function", "returned"),
    [
        ("def d(g): return lambda: 7", "@d\ndef f(): ...", 7),
        ("N = 3", "def f(n=N): return n", 3),
        ("class T: pass", "def f(t: 'list[T]' = ()) -> T: return 1", 1),
        ("import functools\nN = 4", "def g(): return N\ng = functools.cache(g)\ndef f(): return g()", 4),
        ("import functools", "def f(): return 1\nf = functools.cache(f)", 1),
        ("from math import *", "def f(): return floor(pi)", 3),
        ("import os.path\nimport os", "def f(): return os.path.basename('a/b')", "b"),
        ("try:\n    import nothing_there as n\nexcept ImportError:\n    n = None", "def f(): return n", None),
        ("A, (B, *C) = 1, (2, 3)", "def f(): return C", [3]),
        ("N = 5; M = 6", "def f(): return [N for _ in range(1)]", [5]),
        ("N = 5", "def f():\n    def g(): return (lambda: N)()\n    return g()", 5),
        ("N = 1", "def f():\n    global N\n    N += 1\n    return N", 2),
        ("x = 1\nx = x + 1", "def f(): return x", 2),
        ("if True:\n    N = 1\nelse:\n    N = 2", "def f(): return N", 1),
        ("def g(x): return x\n", "def f(): return g(1)\n# the end", 1),
    ],
)
def test_what_it_needs_is_found(before: str, function: str, returned: object) -> None:
    assert call(extract(before, function)) == returned


def test_names_in_doctests_come_along() -> None:
    source = extract(
        "def make(): return 1", 'def f():\n    """F.\n\n    >>> f() == make()\n    True\n    """\n    return 1'
    )
    assert "def make()" in source


def test_imports_of_actions_are_kept_and_only_those_used() -> None:
    source = extract("from actions import a, b\nimport actions.c", "def f(): return a(1)")
    assert source.startswith("from actions import a\n\n\ndef f")


def test_an_import_that_is_bound_again_stays_in_its_place() -> None:
    source = extract("from math import floor as g\nA = g(1.5)", "def g(): return 3\ndef f(): return A, g()")
    assert call(source) == (1, 3)


def test_future_imports_and_requirements_come_first() -> None:
    block = "# /// script\n# dependencies = ['pandas']\n# ///"
    source = extract(f"{block}\nfrom __future__ import annotations\nimport re", "def f(): return re.escape('a')")
    assert source.startswith(f"{block}\nfrom __future__ import annotations\nimport re\n")


def test_steps_that_do_not_parse_are_passed_over() -> None:
    assert call(extract("N = 1", "N = (", "def f(): return N")) == 1


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("def g(): ...", "'f' is not defined in it. Its functions: 'g'"),
        ("f = lambda: 1", "'f' is no function made by `def`"),
        ("import x\nd = await x.load()\ndef f(): return d", "it depends on `d = await x.load()`"),
    ],
)
def test_what_no_file_can_hold_is_explained(step: str, said: str) -> None:
    with pytest.raises(ActionInvalid, match="cannot be kept") as raised:
        extract(step)
    assert said in str(raised.value)
