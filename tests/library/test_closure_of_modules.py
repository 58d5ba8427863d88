"""A function of a file with what it uses of other modules, and what these do to each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from dynasaur_mcp.errors import ActionInvalid

from .extracting import call, extract_file


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
        (
            "import p\nfrom . import b, N\ndef f(): return N + b.N + p.b.g() - p.b.M",
            {"init": "from p import b\nN = b.g() - 1", "b": "N = M = 3\ndef g(): return 4"},
        ),
        (
            "import p\ndef f(): return p.b.g()",
            {"init": "from .b import *", "b": "b = None\n__all__ = ['h']\n__all__ += ['i']\ndef g(): return 7"},
        ),
        (
            "from .b import *\ndef f(): return g() + _h()\ndef _h(): return 3",
            {"b": "__all__ = list('g')\ndef g(): return 4\ndef _h(): return 0"},
        ),
        ("from . import b\ndef f(): return b()", {"init": "from .b import b", "b": "def b(): return 7"}),
        ("def f():\n    from .b import g as h\n    return h()", {"b": "def g(): return 7"}),
        ("def f():\n    from .b import g\n    return g()", {"b": "def g(): return 7"}),
        ("def f():\n    from . import b\n    return b.g()", {"b": "def g(): return 7"}),
        ("def f():\n    import p.b, json\n    return p.b.g()", {"b": "def g(): return 7"}),
        ("def f():\n    import p.b as x\n    return x.g()", {"b": "def g(): return 7"}),
        ("def f():\n    import p\n    return p.g()", {"init": "from .b import g", "b": "def g(): return 7"}),
        (
            "from . import b\ndef f():\n    from . import b\n    return b.g() - h()\ndef h(): return b.N",
            {"b": "N = 0\ndef g(): return 7"},
        ),
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


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("from .b import g\nN = 3\ndef f(): return N + g()", {"b": "N = 4\ndef g(): return N"}),
        ("from .b import g\nN = 3\ndef f(): return N + g()", {"b": "N = 1\nN += 3\ndef g(N=N): return N"}),
        ("from .b import g\nN = 3\ndef f(): return N + g(4)", {"b": "N = 5\ndef g(N): return (lambda N: N)(N)"}),
        (
            "from .b import g as h\ndef g(): return 3\ndef f(): return g() + h(0)",
            {"b": "def g(n=1): return 4 if n else g(1)"},
        ),
        (
            "from .b import C as B\nclass C: n = 3\ndef f(): return C.n + B().é().n",
            {"b": "class C:\n    n = 4\n    def é(self): return 'é' and C()"},
        ),
        ("from . import b\nN = 3\ndef f(): return N + b.N", {"b": "N = 4"}),
        (
            "N = 3\ndef f():\n    def g():\n        from .b import N\n        return N\n    return g() + N",
            {"b": "N = 4"},
        ),
        (
            "from .b import g\nimport os.path as j\ndef f(): return len(j.join('a', 'b')) + g()",
            {"b": "import json as j\ndef g(): return j.loads('4')"},
        ),
        (
            "from .b import g\nfrom math import sin as floor\ndef f(): return int(floor(0)) + g()",
            {"b": "from math import floor\ndef g(): return floor(7.5)"},
        ),
        (
            "from .b import g\nfrom .c import N\ndef f(): return N + g()",
            {"b": "N = 4\ndef g(): return N", "c": "N = 3"},
        ),
        (
            "from .b import g\nfrom .c import h\nN = 1\ndef f(): return N + g() + h()",
            {"b": "N = 4\ndef g(): return N", "c": "from .b import N\ndef h(): return N - 2"},
        ),
        (
            "from .b import g\nx = 3\ndef f(): return x + g()",
            {"b": "x = 5\ndef g(): return sum(x for x in range(3)) + [1 for x in [x]][0]"},
        ),
        (
            "from .b import G\ndef get(): return 3\ndef f(): return get() + G().get()",
            {"b": "def get(): return 4\nclass G:\n    def get(self): return get()"},
        ),
        ("from .b import g\nN = 3\ndef f(): return N + g()", {"b": "N = 'N'\ndef g(): return {'N': 4}[N]"}),
        ("from .b import g\nN = 3\ndef f(): return N + g()", {"b": "N = 4\ndef g(k=lambda N: N - N): return N + k(N)"}),
        (
            "from .b import g\nN = 3\ndef h(): return N\ndef f(): return h() + g()",
            {"b": "N = 4\ndef h(): return N\ndef g(): return h()"},
        ),
        (
            "from .c.b import g\nfrom .d.b import h\nN = 1\ndef f(): return N + g() + h()",
            {"c.b": "N = 2\ndef g(): return N", "d.b": "N = 4\ndef h(): return N"},
        ),
        (
            "from .b import g\nN = []\ndef f():\n    N.append(6)\n    return g() + N[0]",
            {"b": "N = []\ndef g():\n    N.append(1)\n    return len(N)"},
        ),
        (
            "from .b import g\nN = iter('34')\ndef f(): return int(next(N)) + g()",
            {"b": "N = iter('34')\ndef g(): return int(next(N)) + 1"},
        ),
        (
            "from .b import N, put\ndef f():\n    put(9)\n    return N",
            {"b": "N = 7\ndef put(n):\n    global N\n    N = n"},
        ),
        (
            "from .b import *\nM = N - 3\ndef f():\n    put(9)\n    return N + M",
            {"b": "N = 5\ndef put(n):\n    global N\n    N = n"},
        ),
        (
            "from .c import N\nfrom .b import put\ndef f():\n    put(9)\n    return N",
            {"b": "N = 7\ndef put(n):\n    global N\n    N = n", "c": "from .b import N"},
        ),
        (
            "from .b import g\nclass C: ...\ndef f(): return 7 * (type(g()) is not C and type(g()).__name__ == 'C')",
            {"b": "class C: ...\ndef g(): return C()"},
        ),
        (
            "from .b import h\ndef g(t=[]):\n    t.append(1)\n    return len(t)\ndef f(): return g() + g() + h() + 3",
            {"b": "def g(t=[]):\n    t.append(1)\n    return len(t)\ndef h(): return g()"},
        ),
        (
            "from .b import g\ndef f(): return max(1, 3) + g()",
            {"b": "def max(*n): return 4\ndef g(): return max(1, 3)"},
        ),
        (
            "from .b import h\nfrom .c import T\nT.append(1)\ndef f(): return h() + len(T) + 3",
            {"b": "from .c import T\nT.append(1)\ndef h(): return len(T)", "c": "T = []"},
        ),
    ],
)
def test_what_is_called_alike_in_two_modules_is_told_apart(text: str, others: dict[str, str]) -> None:
    assert call(extract_file(text, **others)) == 7


def test_what_is_renamed_takes_no_name_that_is_there() -> None:
    source = extract_file(
        "from .b import g\nN = 3\n_b_N = 10\ndef f(): return N + g() + _b_N", b="N = 4\ndef g(): return N"
    )
    assert call(source) == 17


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


@pytest.mark.parametrize(
    ("text", "others", "said"),
    [
        (
            "from .b import g\nN = 1\ndef f(): return N + g()",
            {"b": "N = 2\ndef g():\n    global N\n    return N"},
            "'N' is one thing in 'p.m', another in 'p.b', and cannot be renamed: `global N`",
        ),
        (
            "from .b import g\nN = 1\ndef f(): return N + g()",
            {"b": "N = 2\ndef g(): return N or globals()['N']"},
            "the text 'N' beside `globals`",
        ),
        ("from .b import g\nN = 1\ndef f(): return N + g()", {"b": "N = 2\ndef g(x: 'N' = N): ..."}, "written as text"),
        (
            "from .b import g\nimport os\ndef f(): return os, g()",
            {"b": "import re as os, os.path\ndef g(): return os"},
            "another in 'p.b'",
        ),
        (
            "from .b import G\nN = 1\ndef f(): return N + G().N",
            {"b": "N = 2\nclass G:\n    N = N\n    def g(self): return N"},
            "the class 'G' has one of its own",
        ),
        (
            "from .b import G\nN = 1\ndef f(): return N + G().N",
            {"b": "N = 2\nclass G:\n    @property\n    def N(self): ...\n    @N.setter\n    def N(self, n): return N"},
            "the class 'G' has one of its own",
        ),
        (
            "from .b import g\nN = 1\ndef f(): return N, g()",
            {"b": "N = 1\ndef g():\n    global N\n    N = 2"},
            "`global N`",
        ),
        (
            "from .b import N, g\ndef f():\n    global N\n    N = 2\n    return g()",
            {"b": "N = 1\ndef g(): return N"},
            "'N' is one thing in 'p.m', another in 'p.b', and cannot be renamed: `global N`",
        ),
        (
            "from .b import put\ndef f():\n    from .b import N\n    put()\n    return N",
            {"b": "N = 1\ndef put():\n    global N\n    N = 2"},
            "`from .b import N` inside, which cannot be followed",
        ),
        ("from . import b\ndef f(): return vars(b)", {"b": "N = 1"}, "uses the module 'b' as a whole"),
        (
            "from .b import N, g\nN += 1\ndef f(): return N, g()",
            {"b": "from .c import N\nN += 1\ndef g(): return N", "c": "N = 1"},
            "it is changed in several modules",
        ),
        ("from . import b\ndef f(): b.N = 2", {"b": "N = 1"}, "uses the module 'b' as a whole"),
        (
            "from .b import N\ndef f(): return N",
            {"init": "from . import b\nb.N = 2", "b": "N = 1"},
            "uses the module 'b' as a whole",
        ),
        (
            "from . import b\ndef f(): return b.g(), b.N",
            {"b": "def g():\n    global N\n    N = 2\nN = 1"},
            "functions there change",
        ),
        ("import p.b\ndef f(): return vars(p.b)", {"b": "N = 1"}, "uses the module 'p.b' as a whole"),
        ("def f():\n    import p.b\n    return vars(p.b)", {"b": "N = 1"}, "uses the module 'p.b' as a whole"),
        ("def f():\n    from . import b\n    return b.N\nb = 1", {"b": "N = 1"}, "`from . import b` inside"),
        ("from ._fast import g\ndef f(): return g()", {}, "`from ._fast import g`, which cannot be followed"),
        ("from .b import g\ndef f(): return g()", {"b": "N = 1"}, "uses 'g' of 'p.b'"),
    ],
)
def test_what_cannot_be_copied_is_explained(text: str, others: dict[str, str], said: str) -> None:
    with pytest.raises(ActionInvalid, match="cannot be copied") as raised:
        extract_file(text, **others)
    assert said in str(raised.value)
