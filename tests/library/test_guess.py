"""Types that are proposed where a signature lacks them, and requirements that code to import does not declare."""

from __future__ import annotations

import ast

import pytest

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.guess import add_types
from dynasaur_mcp.library.modules import Modules, Reference
from dynasaur_mcp.library.needs import borrow_function, declare_needs


def write(takes: str, *examples: str, body: str = "return x", above: str = "", gives: str = "") -> str:
    lines = "".join(f"    {line}\n" for example in examples for line in example.splitlines())
    docstring = f'    """F.\n\n{lines}    """\n' if examples else ""
    return f"{above}def f({takes}){gives}:\n{docstring}    {body}\n"


def sign(source: str) -> str:
    """The signature after types were added; what it names is there."""
    typed = add_types(source, "f")
    names: dict[str, object] = {}
    exec(compile(typed, "f.py", "exec"), names)
    *_, function = (node for node in ast.parse(typed).body if isinstance(node, ast.FunctionDef) and node.name == "f")
    assert function.returns
    return f"{ast.unparse(function.args)} -> {ast.unparse(function.returns)}"


OVERLOAD = "@typing.overload\n"


@pytest.mark.parametrize(
    ("source", "signature"),
    [
        (write("x, by=3", ">>> f(2)\n6"), "x: int, by: int=3 -> int"),
        (write("x", ">>> f('a')\n'b'", ">>> f(None)\n'c'"), "x: str | None -> str"),
        (write("x", ">>> f(1)\n2", ">>> f(1.5)\n2.5"), "x: float | int -> int | float"),
        (write("x", ">>> f([1, 2])\n[1]", ">>> f(['a'])\n['a']"), "x: list[int | str] -> list[int] | list[str]"),
        (write("x", ">>> f({'a': 1})\n{'a': [1]}"), "x: dict[str, int] -> dict[str, list[int]]"),
        (write("x", ">>> f((1, 'a'))\n(1, 'a')"), "x: tuple[int, str] -> tuple[int, str]"),
        (write("x", ">>> f(())\n()", ">>> f((1, 2))\n()"), "x: tuple[int, ...] -> tuple[Any, ...]"),
        (write("x", ">>> f([])\n[]"), "x: list[Any] -> list[Any]"),
        (write("x", ">>> f({1, 2})\n{1}"), "x: set[int] -> set[int]"),
        (write("x", ">>> f(b'a')\nTrue"), "x: bytes -> bool"),
        (write("x, *, y", ">>> f(1, y='a')\n1"), "x: int, *, y: str -> int"),
        (write("x, *y", ">>> f(1)\n1", ">>> f(1, 'a', 2.5)\n1"), "x: int, *y: float | str -> int"),
        (write("*x", ">>> list(f([1], ['a']))\n[1]"), "*x: list[int | str] -> Iterable[int]"),
        (write("x: int", body="yield x"), "x: int -> Iterator[Any]"),
        (
            write("x, y=None, *z", "Args:\n  x (int): a\n  y (list of str): b\n  *z (callable): c", body="print(x)"),
            "x: int, y: list[str] | None=None, *z: Callable -> None",
        ),
        (write("x", "Args:\n  x (float): a\n", ">>> f(1)\n2"), "x: float -> int"),
        (write("x: int", "Returns:\n  dict: all\n"), "x: int -> dict"),
        (
            write(
                "x, y=None",
                body="return g",
                above=f"import typing\n{OVERLOAD}def f(x: int) -> int: ...\n"
                f"{OVERLOAD}def f(x: 'str', y: str) -> 'int': ...\n{OVERLOAD}def f(x, y: int) -> None: ...\n",
            ),
            "x: int | str, y: str | int | None=None -> int | None",
        ),
        (write("x, key=bool", ">>> f([1], lambda x: x)\n1"), "x: list[int], key: Callable=bool -> int"),
        (write("x, key=None", ">>> f(1, len)\n1"), "x: int, key: Callable | None=None -> int"),
        (write("x, key=g", ">>> f(1)\n1", above="def g(): ...\n"), "x: int, key: Callable=g -> int"),
        (write("x", ">>> def g(): ...\n>>> f(g)\n1"), "x: Callable -> int"),
        (
            write("x, y, z", ">>> f((n for n in g), iter([1]), map(str, g))\n1"),
            "x: Iterable[Any], y: Iterable[int], z: Iterable[Any] -> int",
        ),
        (write("x: int", ">>> y = f(1)\n>>> y\n[1]\n>>> y = 2\n>>> y\n2"), "x: int -> list[int]"),
        (write("x: int", ">>> y = f(1)\n>>> next(y)\n'a'"), "x: int -> Iterator[str]"),
        (write("x: int", ">>> a, b = f(1)"), "x: int -> Iterable[Any]"),
        (write("x: int", ">>> ''.join(f(1))\n'a'"), "x: int -> Iterable[str]"),
        (write("x: int", "Returns:\n  dict: all\n", ">>> f(1)\n[1]"), "x: int -> list[int]"),
        (
            write(
                "x, y",
                "Parameters\n----------\nx : int or None\n\ny : Optional[str], optional\n\nReturns\n-------\nbool\n  c",
            ),
            "x: int | None, y: Optional[str] -> bool",
        ),
        (write("x", ":param x: a\n:type x: string\n:returns: b\n:rtype: Sequence[int]"), "x: str -> Sequence[int]"),
        (write("x: int", body="print(lambda: (yield x))"), "x: int -> None"),
        (write("x", ">>> f(range(3))\n3"), "x: Iterable[int] -> int"),
        (write("x", ">>> rows = [[1], [2]]\n>>> f(rows)\n2"), "x: list[list[int]] -> int"),
        (write("x", ">>> list(f([1]))\n[1]", body="yield from x"), "x: list[int] -> Iterable[int]"),
        (write("x=None", ">>> f()\n1"), "x: Any=None -> int"),
        (write("x: int = 1", body="print(x)"), "x: int=1 -> None"),
        (write("x, y: str", ">>> f(1, 'a')\n1", gives=" -> int"), "x: int, y: str -> int"),
        (write("x=(1,\n        2)", ">>> f()\n(1, 2)"), "x: tuple[int, int]=(1, 2) -> tuple[int, int]"),
        (write("x={'ü': 1}", ">>> f()\n1"), "x: dict[str, int]={'ü': 1} -> int"),
        (write("x", ">>> f([])\n[]", above="from __future__ import annotations\n\n\n"), "x: list[Any] -> list[Any]"),
        (write("x", ">>> f([])\n[]", above="from typing import Any\n\n\n"), "x: list[Any] -> list[Any]"),
    ],
)
def test_types_are_those_of_defaults_and_examples(source: str, signature: str) -> None:
    assert sign(source) == signature


def test_import_that_a_type_needs_comes_before_decorators_and_after_the_future() -> None:
    above = "from __future__ import annotations\nimport functools\n\n\n@functools.cache\n"
    typed = add_types(write("x=None", ">>> f()\n1", above=above), "f")
    assert typed.startswith(
        "from __future__ import annotations\nfrom typing import Any\nimport functools\n\n\n@functools"
    )
    alone = add_types(write("x=None", ">>> f()\n1", above="@staticmethod\n"), "f")
    assert alone.startswith("from typing import Any\n\n\n@staticmethod\ndef f(x: Any=None) -> int:")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (write("x, y", ">>> f(1, g())\n1"), "'y' has no type"),
        (write("x", ">>> f(*[1])\n1"), "'x' has no type"),
        (write("*x", body="print(x)"), "'x' has no type"),
        (write("x=g()", above="def g(): return 1\n", body="print(x)"), "'x' has no type"),
        (write("x", ">>> f(1 +)\n1", body="print(x)"), "'x' has no type"),
        (write("x", ">>> y = g()\n>>> f(y)\n1"), "'x' has no type"),
        (write("x", "Args:\n  x (file object): a", body="print(x)"), "'x' has no type"),
        (write("x", "Args:\n  x (__import__('os')): a", body="print(x)"), "'x' has no type"),
        (write("x", "Args:\n  x (int, str): a", body="print(x)"), "'x' has no type"),
        (write("x", f"Args:\n  x ({'~' * 20_000}1): a", body="print(x)"), "'x' has no type"),
        (write("x: int", ">>> list(f(1))\n1"), "does not say what type it returns"),
        (write("x: int", "Returns:\n  The mean: of it."), "does not say what type it returns"),
        (write("x: int"), "does not say what type it returns"),
        (write("x: int", ">>> f(1)\n<object>"), "does not say what type it returns"),
        (write("x: int", ">>> f(1).real\n1"), "does not say what type it returns"),
    ],
)
def test_what_nothing_shows_is_no_type(source: str, said: str) -> None:
    with pytest.raises(ActionInvalid, match=said):
        add_types(source, "f")


KNOWN = {"yaml": "PyYAML>=6.0", "pandas": "pandas>=2.2"}


@pytest.mark.parametrize(
    ("source", "dependencies"),
    [
        ("import json\ndef f(): ...\n", None),
        ("import yaml\ndef f(): ...\n", '["PyYAML>=6.0"]'),
        ("def f():\n    import pandas.io\n    from yaml import load\n", '["pandas>=2.2", "PyYAML>=6.0"]'),
        ("try:\n    import yaml\nexcept ImportError:\n    yaml = None\ndef f(): ...\n", None),
        ("if 1:\n    import nothing\ndef f(): ...\n", None),
        ("from actions import other\ndef f(): ...\n", None),
        ('def f():\n    """F.\n\n    >>> import yaml\n    """\n', '["PyYAML>=6.0"]'),
        ("# /// script\n# dependencies = ['pyyaml']\n# ///\nimport yaml\n", "['pyyaml']"),
        ("# /// script\n# dependencies = ['pyyaml']\n# ///\nimport pandas\n", '["pyyaml", "pandas>=2.2"]'),
        ("# /// script\n# dependencies = ['thing-of-ours']\n# ///\nimport ours\n", "['thing-of-ours']"),
        ("# /// script\n# broken\n# ///\nimport nothing\n", None),
    ],
)
def test_packages_that_it_imports_are_declared(source: str, dependencies: str | None) -> None:
    declared = declare_needs(source, lambda module: KNOWN.get(module, ""))
    lines = [line for line in declared.splitlines() if line.startswith("# dependencies = ")]
    assert lines == ([f"# dependencies = {dependencies}"] if dependencies else [])
    assert declared.endswith(source.partition("# ///\n")[2] or source)


def test_package_that_nobody_knows_is_named() -> None:
    with pytest.raises(ActionInvalid, match="imports 'nothing', which is not installed here"):
        declare_needs("import nothing\n", lambda _: "")


def borrow(text: str, **others: str) -> str:
    texts = {"p": "", "p.m": text, **{f"p.{name}": other for name, other in others.items()}}
    modules = Modules({name: lambda text=text: text for name, text in texts.items()}, frozenset({"p"}))  # type: ignore[misc]
    return borrow_function(modules, Reference("p.m", "f"), "p>=1")


def test_borrowed_function_calls_its_package_with_the_signature_it_has_there() -> None:
    source = borrow(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom .b import T, make\nN = 3\n"
        "if TYPE_CHECKING:\n    from .b import Other\n"
        'def f(t: T, other: Other, *, n: int = N) -> T:\n    """F.\n\n    >>> f(make())\n    1\n    """\n'
        "    return t + _hidden\n",
        b="class T: ...\ndef make(): ...\n",
    )
    assert source == (
        '# /// script\n# dependencies = ["p>=1"]\n# ///\nfrom __future__ import annotations\n'
        "from p.m import f as _f\nfrom p.m import N\nfrom p.b import Other\nfrom p.m import T\nfrom p.m import make\n"
        '\n\ndef f(t: T, other: Other, *, n: int=N) -> T:\n    """F.\n\n    >>> f(make())\n    1\n    """\n'
        "    return _f(t, other, n=n)\n"
    )


def test_borrowed_coroutine_is_awaited() -> None:
    assert borrow("async def f(a: int) -> int:\n    return a\n").endswith(
        "async def f(a: int) -> int:\n    return await _f(a)\n"
    )


def test_borrowed_generator_is_one_and_of_guarded_ones_the_last_is_borrowed() -> None:
    source = borrow("if 1:\n    def f(a): ...\nelse:\n    def f(a: int):\n        yield a\n")
    assert source.endswith("def f(a: int):\n    yield from _f(a)\n")
    assert "-> Iterator[Any]:" in add_types(source, "f")


def test_what_is_no_function_cannot_be_borrowed() -> None:
    with pytest.raises(ActionInvalid, match="no function made by `def`"):
        borrow("f = print\n")
