"""A function of a file, where other modules change on import what it uses."""

from __future__ import annotations

import pytest

from .extracting import call, extract_file

REGISTRY = "T = {}\ndef put(g):\n    T[g.__name__] = g\n    return g\ndef get(n): return T[n]()"


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (
            "from . import c\nfrom .b import C\ndef f(): return C.N",
            {"b": "class C: N = 1", "c": "from .b import C\nC.N = 7"},
        ),
        (
            "from .b import C\ndef f(): return C.N",
            {"init": "from . import c", "b": "class C: N = 1", "c": "from .b import C\nC.N = 7"},
        ),
        ("from .b import C\ndef f(): return C.N", {"init": "from . import b\nb.C.N = 7", "b": "class C: N = 1"}),
        (
            "import p.c\nfrom .b import T\nM = T[0]\ndef f(): return M",
            {"b": "T = [1]", "c": "import p.b as b\nb.T[0] = 7"},
        ),
        (
            "from .b import get\nfrom . import c\ndef f(): return get('g')",
            {"b": REGISTRY, "c": "from .b import put\n@put\ndef g(): return N\nN = 7"},
        ),
        (
            "from .b import get\ndef f(): return get('g')",
            {"b": f"{REGISTRY}\nfrom . import c", "c": "from . import b\ndef g(): return 7\nb.put(g)"},
        ),
        (
            "import functools\n@functools.singledispatch\ndef g(x): return 0\ndef f(): return g(1)\nfrom . import b",
            {"b": "from .m import g\n@g.register\ndef h(x: int): return 7"},
        ),
        (
            "from .b import N, M\nimport p.c\ndef f(): return N",
            {"b": "def put(n):\n    global N\n    N = n\nN = 7\nM = 3", "c": "import p.b\np.b.put(9)"},
        ),
        (
            "def f():\n    from .b import T\n    return T[0]",
            {"b": "T = [1]\nfrom . import c", "c": "from .b import T\nT[0] = 7"},
        ),
        ("from .b import N\ndef f(): return N", {"b": "N = 7", "c": "from .b import N\nN += 1"}),
        ("N = 1\nfrom .b import *\ndef f(): return N", {"b": "N = 7"}),
        (
            "from .b import T\nN = 7\ndef f(): return T and N\nfrom . import c",
            {"b": "T = {'N': 1}", "c": "from .b import T\nglobals().update(T)"},
        ),
        ("from .b import *\ndef f(): return len('a')", {"b": "def len(x): return 7"}),
        (
            "from .b import A\nfrom . import c\ndef f(): return A.T[0]",
            {
                "b": "class A:\n    T = []\n    def __init_subclass__(cls): A.T.append(cls.N)",
                "c": "from .b import A\nclass B(A): N = 7",
            },
        ),
    ],
)
def test_what_other_modules_change_on_import_is_changed(text: str, others: dict[str, str]) -> None:
    assert call(extract_file(text, **others)) == 7


def test_function_below_a_thousand_branches_is_copied() -> None:
    branches = "".join(f"elif N == {number}: pass\n" for number in range(1000))
    assert call(extract_file(f"from .b import N\nif N == 0: pass\n{branches}def f(): return N", b="N = 7")) == 7
