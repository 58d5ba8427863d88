"""A function of a file with all that it uses there."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from .extracting import call, extract_file


@pytest.mark.parametrize(
    ("text", "returned"),
    [
        ("import json as j\nfrom re import escape as e\ndef f(): return j.dumps(e('a'))", '"a"'),
        ("async def g(): return 5\nimport asyncio\ndef f(): return asyncio.run(g())", 5),
        ("from typing import Union\nN = Union[int, str]\ndef f(n: 'N' = 1) -> N: return n", 1),
        ("T = {}\ndef fill(): T['a'] = 1\nfill()\ndef f(): return T", {"a": 1}),
        ("def init():\n    global N\n    N = 6\ninit()\ndef f(): return N", 6),
        ("T = []\ndef add(g):\n    T.append(g.__name__)\n    return g\n@add\ndef g(): ...\ndef f(): return T", ["g"]),
        ("T = []\ndef grow(t): t.append(1)\ngrow(T)\ndef f(): return T", [1]),
        ("def g(): return 1\ng.x = 4\ndef f(): return g.x", 4),
        ("for N in range(3): globals()[f'N{N}'] = N\ndef f(): return N2", 2),
        ("import sys\nif sys.version_info > (3,):\n    N = 3\nelse:\n    N = 2\ndef f(): return N", 3),
        (
            "try:\n    import tomllib as t\nexcept ImportError:\n    t = None\ndef f(): return t.loads('a = 1')",
            {"a": 1},
        ),
        ("from enum import Enum\nclass E(Enum):\n    A = 1\ndef f(e: E = E.A) -> int: return e.value", 1),
        ("N = 3\nif N > 2:\n    # why\n    M = N\n    def f(): return M", 3),
        ("try:\n    from nothing import f\nexcept ImportError as error:\n    def f(): return 4", 4),
        ("try:\n    import re\n    def f(): return re.escape('a')\nexcept ImportError:\n    f = None", "a"),
        ("if 1 < 0:\n    N = 2\n    def f(): ...\nelif 1:\n    N = 5\nelse:\n    N = 6\n    def f(): return N", 6),
        (
            "if 1:\n  try:\n    import nothing\n  except ImportError:\n    def f(): return g()\ndef g(): return 5",
            5,
        ),
        ("if 1:\n    def g(): return 5\nelse:\n    g = None\ndef f(): return g()", 5),
        ("if 1:\n    def f(): return 1\ndef f(): return 2", 2),
        ("def f(): return 1\nif __name__ == '__main__':\n    f = None", 1),
        ("T = []\nU = T\nU.append(3)\ndef f(): return T", [3]),
        ("T = []\ndef _add(g): T.append(g())\ndef add(g): _add(g)\n@add\ndef g(): return 5\ndef f(): return T", [5]),
        (
            "class A:\n    T = []\n    def __init_subclass__(cls): A.T.append(cls.N)\n"
            "class B(A): N = 1\nclass C(B): N = 2\ndef f(): return A.T",
            [1, 2],
        ),
    ],
)
def test_what_a_function_of_a_file_needs_is_found(text: str, returned: object) -> None:
    assert call(extract_file(text)) == returned


def test_names_for_types_only_are_there_when_schemas_are_made() -> None:
    source = extract_file(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from datetime import date\n    import nothing\ndef g(x: nothing.A): return x\n"
        "def f(day: date) -> date: return g(day)"
    )
    assert "\nfrom datetime import date\n" in source
    assert "if TYPE_CHECKING:\n    import nothing\n" in source


def test_overloads_of_the_function_come_along_for_their_types() -> None:
    stubs = "@t.overload\ndef f(x: A) -> A: ...\n@t.overload\ndef f(x: int) -> int: ...\n"
    source = extract_file(f"import typing as t\nclass A: ...\n{stubs}def f(x): return x\n{stubs.replace('f(', 'g(')}")
    assert call(source, 1) == 1
    assert source.count("def f(") == 3
    assert "class A" in source
    assert "def g" not in source


def test_what_only_type_checkers_have_is_anything() -> None:
    source = extract_file(
        "import typing as t\nif t.TYPE_CHECKING:\n    from _typeshed import SupportsAdd as A, SupportsSub as S\n"
        "def g(x: 'S'): return x\ndef f(x: 'list[A]' = ()): return g(x)"
    )
    names: dict[str, Any] = {}
    exec(source, names)
    assert typing.get_type_hints(names["f"]) == {"x": list[Any]}
    assert "if TYPE_CHECKING:\n    from _typeshed import SupportsSub as S\n" in source


def test_imports_of_its_own_module_in_examples_are_left_out() -> None:
    examples = ">>> from p.m import f, g\n    >>> f() == g()\n    True"
    source = extract_file(f'def g(): return 1\ndef f():\n    """F.\n\n    {examples}\n    """\n    return 1\n')
    assert "import" not in source
    assert "def g()" in source


def test_other_imports_in_examples_stay_and_new_names_are_bound_again() -> None:
    examples = ">>> from os import path\n    >>> from p.m import g,\n    >>> from p.m import g as h\n    >>> h()\n    1"
    source = extract_file(f'def g(): return 1\ndef f():\n    """F.\n\n    {examples}\n    """\n    return g()\n')
    again = examples.replace("from p.m import g as h", "h = g")
    assert again in source
