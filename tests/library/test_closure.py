"""A function with all that it uses: found by symbols and statements, put together to a file by closure and assembly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.closure import extract_from, extract_function
from dynasaur_mcp.library.modules import Modules, Reference
from dynasaur_mcp.library.reading import read_action


def extract(*steps: str) -> str:
    return extract_function(steps, "f")


def extract_file(text: str, **others: str) -> str:
    """Function f of package `p`'s module `m`; `others` are modules beside it, `init` the package itself."""
    texts = {f"p.{name}".removesuffix(".init"): other for name, other in {"init": "", "m": text, **others}.items()}
    modules = Modules({name: lambda text=text: text for name, text in texts.items()}, frozenset({"p"}))  # type: ignore[misc]
    return extract_from(modules, Reference("p.m", "f"))


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


def test_examples_of_what_supports_it_stay_behind() -> None:
    source = extract(
        'def g():\n    """G.\n\n    Examples:\n        >>> g() == no\n        True\n    """\n    return 1\nno = 1',
        "def f(): return g()",
    )
    assert source == 'def g():\n    """G."""\n    return 1\n\n\ndef f(): return g()\n'


def test_docstring_in_two_parts_keeps_its_example_rather_than_break() -> None:
    helper = """def g():\n    'G.' "\\n\\n>>> g()\\n1"\n    return 1"""
    source = extract(helper, "def f(): return g()")
    assert helper in source
    assert call(source) == 1


def test_what_it_was_decorated_with_sees_what_came_later() -> None:
    source = extract("RATE = 2\ndef d(g): return lambda: RATE", "@d\ndef f(): ...", "RATE = 3")
    assert call(source) == 3


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
        ("def f(): return 1\nif __name__ == '__main__':\n    f = None", 1),
    ],
)
def test_what_a_function_of_a_file_needs_is_found(text: str, returned: object) -> None:
    assert call(extract_file(text)) == returned


@pytest.mark.skipif(sys.version_info < (3, 12), reason="newer syntax: refused by its line where Python is older")
@pytest.mark.parametrize(
    ("text", "returned"),
    [
        ("class P: pass\nN = P\ntype T = list[N]\ndef f(t: T = ()) -> T: return T.__value__.__args__[0] is P", True),
        ("type T = list[P]\nclass P: pass\ndef f(t: T = ()) -> T: return T.__value__.__args__[0] is P", True),
        (
            "class P: pass\ntype T[X: P] = list[X]\ndef f(t: 'T[P]' = ()): return T.__type_params__[0].__bound__ is P",
            True,
        ),
        ("class P: pass\ndef f[X: P](x: X = None) -> X: return f.__type_params__[0].__bound__ is P", True),
        ("N = 3\nclass G[X]:\n    n = N\n    def g(self, x: X = None) -> X: return N\ndef f(): return G[int]().g()", 3),
    ],
)
def test_type_aliases_and_parameters_come_along_with_what_they_name(text: str, returned: object) -> None:
    for source in (extract_file(f"unused = 1\n{text}"), extract(f"unused = 1\n{text}")):
        assert call(source) == returned
        assert "unused" not in source


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python can read it")
def test_newer_syntax_than_pythons_own_is_named_with_its_version() -> None:
    with pytest.raises(
        ActionInvalid, match=r"line 1: does not parse with Python 3\.11: invalid syntax in `type T = int`"
    ):
        read_action("type T = int\ndef f(t: T) -> T: return t")


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("from .b import g\ndef f(): return g()", {"b": "N = 7\ndef g(): return N"}),
        ("from p.b import g as h\ndef f(): return h()", {"b": "def g(): return 7"}),
        ("from . import b\ndef f(): return b.g() + b.N", {"b": "N = 3\ndef g(): return 4"}),
        ("import p.b as x\ndef f(): return x.g()", {"b": "def g(): return 7"}),
        ("import p.b\ndef f(): return p.b.g()", {"b": "def g(): return 7"}),
        ("import p.b, p.c\nM = p.c.N\ndef f(): return p.b.g() + M", {"b": "def g(): return 3", "c": "N = 4"}),
        (
            "import p.b.d\nfrom . import c\ndef f(): return p.b.d.g() + c.h()",
            {"b": "", "b.d": "N = 4\ndef g(): return 3", "c": "import p.b.d\ndef h(): return p.b.d.N"},
        ),
        ("from .b import *\ndef f(): return g()", {"b": "from .c import g", "c": "def g(): return 7"}),
        ("from . import g\ndef f(): return g()", {"init": "from .b import *", "b": "def g(): return 7"}),
        ("def f():\n    from .b import g as h\n    return h()", {"b": "def g(): return 7"}),
        ("def f():\n    from .b import g\n    return g()", {"b": "def g(): return 7"}),
        (
            "try:\n    from .b import g\nexcept ImportError:\n    g = None\ndef f(): return g()",
            {"b": "def g(): return 7"},
        ),
        (
            "try:\n    from .b import g\n    N = g()\nexcept ImportError:\n    N = 0\ndef f(): return N",
            {"b": "def g(): return 7"},
        ),
        ("from .b import g\ndef f(): return g()\ndef h(): return 7", {"b": "from . import m\ndef g(): return m.h()"}),
        ("import re\nfrom .b import g\ndef f(): return re and g()", {"b": "import re\ndef g(): return 7 if re else 0"}),
    ],
)
def test_what_other_modules_give_is_copied(text: str, others: dict[str, str]) -> None:
    source = extract_file(text, **others)
    assert call(source) == 7
    assert "import *" not in source
    assert not re.search(r"(from|import) (\.|p)", source)


def test_the_same_function_gives_the_same_file_in_every_process() -> None:
    code = """
from dynasaur_mcp.library.closure import extract_from
from dynasaur_mcp.library.modules import Modules, Reference
letters = "abcdefgh"
texts = {letter: lambda letter=letter: f"def use_{letter}(): ..." for letter in letters}
calls = "; ".join(f"use_{letter}()" for letter in letters)
texts["m"] = lambda: "\\n".join([*(f"from {each} import use_{each}" for each in letters), f"def f(): {calls}"])
print(extract_from(Modules(texts), Reference("m", "f")))
"""
    written = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(1, 5)
    ]
    assert written[0].count("def use_") == 8
    assert len(set(written)) == 1


def test_names_for_types_only_are_there_when_schemas_are_made() -> None:
    source = extract_file(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from datetime import date\n    import nothing\ndef g(x: nothing.A): return x\n"
        "def f(day: date) -> date: return g(day)"
    )
    assert "\nfrom datetime import date\n" in source
    assert "if TYPE_CHECKING:\n    import nothing\n" in source


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


@pytest.mark.parametrize(
    ("text", "others", "said"),
    [
        (
            "from .b import g\nN = 1\ndef f(): return N + g()",
            {"b": "N = 2\ndef g(): return N"},
            "'N' is one thing in 'p.m', another in 'p.b'",
        ),
        ("from . import b\ndef f(): return vars(b)", {"b": "N = 1"}, "uses the module 'b' as a whole"),
        ("import p.b\ndef f(): return vars(p.b)", {"b": "N = 1"}, "uses the module 'p.b' as a whole"),
        ("def f():\n    import p.b\n    return p.b.N", {"b": "N = 1"}, "`import p.b` inside"),
        ("from ._fast import g\ndef f(): return g()", {}, "`from ._fast import g`, which cannot be followed"),
        ("from .b import g\ndef f(): return g()", {"b": "N = 1"}, "uses 'g' of 'p.b'"),
        (
            "\n".join(f"N{n} = {n}" for n in range(200))
            + "\ndef f(): return ("
            + ",".join(f"N{n}" for n in range(200))
            + ")",
            {},
            "more than 150",
        ),
    ],
)
def test_what_cannot_be_copied_is_explained(text: str, others: dict[str, str], said: str) -> None:
    with pytest.raises(ActionInvalid, match="cannot be copied") as raised:
        extract_file(text, **others)
    assert said in str(raised.value)


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
        ("if 1 < 2:\n    def f(): return 1", "'f' is defined under an `if`, a `try` or the like. Define it at the top"),
        ("import x\nd = await x.load()\ndef f(): return d", "it depends on `d = await x.load()`"),
    ],
)
def test_what_no_file_can_hold_is_explained(step: str, said: str) -> None:
    with pytest.raises(ActionInvalid, match="cannot be kept") as raised:
        extract(step)
    assert said in str(raised.value)
