"""Source text read into an action: what is taken from it, and what is refused with its line."""

from __future__ import annotations

import builtins
import keyword
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.reading import add_tags, find_used_actions, read_action
from dynasaur_mcp.library.script import read_script
from dynasaur_mcp.types import META_TOOLS, NAME_PATTERN

PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
WHOLE = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = ["pandas>=2"]
# [tool.dynasaur]
# tags = ["table", "statistics"]
# ///
"""For readers."""
from actions import read_table

LIMIT = 3


def _clean(name):
    return name


def describe_column(path: str, column: str = "price", *, digits: int = LIMIT) -> dict[str, float]:
    """Summarise one numeric column
    of a table.

    Args:
        path: CSV or Excel file
            in the workspace.
        column: Header of the column.

    Examples:
        >>> describe_column("prices.csv", "price")["max"]
        9.5
    """
    return read_table(path)[column]


def test_missing_column() -> None: ...
'''


def problems_of(source: str, name: str | None = "f") -> str:
    with pytest.raises(ActionInvalid) as raised:
        read_action(source, name)
    return str(raised.value)


def test_a_whole_file_is_read_without_being_run() -> None:
    action = read_action(WHOLE)
    assert action.name == "describe_column"
    assert action.signature.startswith("describe_column(path: str, column: str='price', *, digits: int=LIMIT) -> dict")
    assert action.summary == "Summarise one numeric column of a table."
    assert [each.name for each in action.parameters] == ["path", "column", "digits"]
    assert [each.default for each in action.parameters] == [None, "'price'", "LIMIT"]
    assert action.parameters[0].description == "CSV or Excel file in the workspace."
    assert action.examples == ('describe_column("prices.csv", "price")["max"]',)
    assert (action.requirements, action.tags) == (("pandas>=2",), ("table", "statistics"))
    assert action.uses == ("read_table",)
    assert action.source == WHOLE


@pytest.mark.parametrize(
    "docstring",
    [
        "Sum.\n\n    :param x: the number\n    ",
        "Sum.\n\n    Parameters\n    ----------\n    x : int\n        the number\n    ",
    ],
    ids=["sphinx", "numpy"],
)
def test_parameters_are_described_in_any_docstring_style(docstring: str, capfd: pytest.CaptureFixture[str]) -> None:
    action = read_action(f'def f(x: int) -> int:\n    """{docstring}"""\n    return x\n')
    assert action.parameters[0].description == "the number"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("depth", [3_000, 20_000])
def test_a_docstring_whose_types_are_nested_without_end_describes_nothing(depth: int) -> None:
    docstring = f"Do it.\n\n    Args:\n        x ({'-' * depth}1): a number\n"
    action = read_action(f'def f(x: int) -> int:\n    """{docstring}    """\n    return x\n', "f")
    assert [parameter.description for parameter in action.parameters] == [""]


def test_several_values_are_a_list_that_may_be_empty() -> None:
    action = read_action('def f(a: int, /, *rows: str, b: int) -> int:\n    """F.\n\n    :param rows: some"""\n')
    assert [(each.name, each.annotation, each.default) for each in action.parameters] == [
        ("a", "int", None),
        ("b", "int", None),
        ("rows", "list[str]", "[]"),
    ]
    assert action.parameters[-1].description == "some"


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Sum\n    it.\n\n    More.", "Sum it."),
        ("Sum it.\n    >>> f(1)\n    1\n", "Sum it."),
        ("Sum it: a >> b.\n\n    >>> f(1)\n    1\n", "Sum it: a >> b."),
        ("S\x1b[2Ju\u202em", "S[2Jum"),
        ("word " * 100, ("word " * 100)[:199] + "…"),
    ],
)
def test_summary_is_one_line_of_what_it_does(docstring: str, summary: str) -> None:
    assert read_action(f'def f(x: int) -> int:\n    """{docstring}"""\n    return x\n').summary == summary


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:\n", f"line 1: does not parse with {PYTHON}: invalid syntax"),
        ("x = 1\nreturn x\n", f"line 2: does not parse with {PYTHON}: 'return' outside function"),
        ("\n\0\n", "line 2: a NUL character"),
        ("x = '\ud800'", "half of a surrogate pair"),
        ("# -*- coding: latin-1 -*-\n", "line 1: it says that it is encoded as latin-1"),
        ("x = 1", "no function named 'f'. Write `def f(…)`"),
        ("def g(): ...\ndef h(): ...", "The file has 'g' (line 1), 'h' (line 2)"),
        ("if True:\n    def f(): ...", "line 2: 'f' is defined inside another statement"),
        ("def f(a, b): ...", "parameter 'b' of 'f' has no type"),
        ("def f(a, b): ...", "'f' does not say what type it returns"),
        ("def f(a, b): ...", "'f' has no docstring"),
        ("def f(*rows: int, **more: int) -> None: ...", "**more cannot be described"),
        ("def f(*rows) -> None: ...", "parameter 'rows' of 'f' has no type"),
        ('def f() -> None:\n    """>>> f()"""', "begins with an example. First say what it does"),
        ('def f() -> None:\n    """F.\n\n    >>> f(1\n  2\n    """', "line 5: an example in the docstring"),
        ("from .g import g", "line 1: a relative import"),
        ("from actions import *", "hides what is used"),
        ("# /// script\n# dependencies = [\n# ///\n", "block is no TOML"),
        ("# /// script\n# x = " + "9" * 5000 + "\n# ///\n", "block is no TOML"),
        ("# /// script\n# x = " + "[" * 3000 + "]" * 3000 + "\n# ///\n", "block is no TOML"),
        (
            f'def f(x: int = 0x{"f" * 5000}) -> int:\n    """Do it."""\n    return x\n',
            "line 1: a number in its signature",
        ),
        ("# /// script\n# dependencies = []\n\nx = 1\n", "line 1: the `# /// script` block is broken"),
        ("# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n", "line 5: a second"),
        ("# /// script\n# dependencies = ['a b']\n# ///\n", "line 2: the dependency 'a b' cannot be read"),
        ("# /// script\n# dependencies = ['a @ file:///etc']\n# ///\n", "is a link"),
        ("# /// script\n# dependencies = 'a'\n# ///\n", "`dependencies` is no list of texts"),
        ("# /// script\n# requires-python = '3.x.y'\n# ///\n", "`requires-python` is '3.x.y'"),
        ("# /// script\n# [tool.dynasaur]\n# tags = [1]\n# ///\n", "line 3: `tags` is no list of texts"),
        ("x = " + "-" * 100_000 + "1", "nested too deep"),
        ("x = " + "1 + " * 20_000 + "1", "nested too deep"),
        ("x = " + "(" * 1000 + ")" * 1000, "too many nested parentheses"),
    ],
)
def test_each_broken_rule_has_its_own_message(source: str, said: str) -> None:
    assert said in problems_of(source)


def test_numbers_longer_than_python_writes_out_tell_actions_apart() -> None:
    one, other = (named("f") + f"LONG = 0x{digit * 5000}\n" for digit in "ef")
    assert read_action(one).shape != read_action(other).shape


def test_all_problems_are_said_at_once() -> None:
    source = "# /// script\n# dependencies = ['a b']\n# ///\nfrom . import g\ndef F(a, b: int): ...\n"
    said = problems_of(source, "F")
    for part in ("the name 'F'", "dependency 'a b'", "relative import", "parameter 'a'", "returns", "no docstring"):
        assert part in said


@pytest.mark.parametrize("size", [1_000_001, 5_000_000])
def test_a_huge_source_is_refused_unread(size: int) -> None:
    assert "1 MB at most" in problems_of("(" * size)


def test_a_source_whose_bytes_are_too_many_is_refused() -> None:
    assert "1 MB at most" in problems_of("# " + "ä" * 600_000)


def test_the_only_public_function_is_the_action_when_no_name_is_given() -> None:
    source = 'def _g(): ...\ndef test_f(): ...\ndef f() -> None:\n    """F."""\n'
    assert read_action(source).name == "f"


def test_several_public_functions_need_a_name() -> None:
    said = problems_of("def g(): ...\ndef h(): ...", None)
    assert "2 public functions: 'g' (line 1), 'h' (line 2)" in said


def test_the_last_definition_of_a_name_counts() -> None:
    source = 'def f(): ...\ndef f() -> int:\n    """Second."""\n    return 2\n'
    assert read_action(source).docstring == "Second."


def named(name: str) -> str:
    return f'def {name}() -> None:\n    """Do it."""\n'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("run_python", "is a tool of this server"),
        ("class", "is a word of Python"),
        ("list", "is a builtin"),
        ("a" * 41, "has 41 characters"),
        ("größe", "is not ASCII"),
        ("minPath", "for instance to 'min_path'"),
        ("test_it", "taken for a test"),
        ("conftest", "a file of pytest"),
        ("", "is empty"),
    ],
)
def test_bad_names_are_refused_with_a_way_out(name: str, said: str) -> None:
    assert said in problems_of(named(name), name)


@given(st.from_regex(NAME_PATTERN, fullmatch=True))
def test_every_name_of_the_pattern_is_kept_or_explained(name: str) -> None:
    special = keyword.iskeyword(name) or hasattr(builtins, name) or name in META_TOOLS
    if special or name.startswith("test_") or name == "conftest":
        assert repr(name) in problems_of(named(name), name)
    else:
        assert read_action(named(name), name).name == name


@given(st.text(max_size=60))
def test_no_text_as_a_name_is_anything_but_kept_or_refused(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        assert "name" in problems_of(named("f"), name)


@given(st.text(max_size=200))
def test_no_text_as_a_source_is_anything_but_kept_or_refused(source: str) -> None:
    assert "cannot be an action" in problems_of(source)


def test_used_actions_are_found_however_they_are_imported() -> None:
    code = "from actions import a, b as c\nfrom actions.d import d\nimport actions\nactions.e(1)\nimport actions.g\n"
    assert find_used_actions(code) == {"a", "b", "d", "e", "g"}
    assert find_used_actions("import actions as x\nprint(await x.f())") == {"f"}
    assert find_used_actions("from json import a\nother.b") == frozenset()
    assert find_used_actions("from actions import") == frozenset()


TAGGED = [
    named("f"),
    "#!/usr/bin/env python\n# coding: utf-8\n" + named("f"),
    "# /// script\n# dependencies = ['a']\n# ///\n" + named("f"),
    "# /// script\n# [tool.dynasaur]\n# tags = [\n#   'old',\n# ]\n# [tool.other]\n# x = 1\n# ///\n" + named("f"),
    WHOLE.replace("\n", "\r\n"),
]


@pytest.mark.parametrize("source", TAGGED)
def test_tags_are_added_to_what_the_block_says(source: str) -> None:
    before = read_script(source)
    tagged = add_tags(source, ["new", "größe", "new"])
    after = read_script(tagged)
    assert after.tags == (*(before.tags or ()), "new", "größe")
    assert after.requirements == before.requirements
    assert add_tags(tagged, ["new"]) == tagged
    assert read_action(tagged).docstring == read_action(source).docstring


def test_tags_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ActionInvalid, match="1 to 40 printable"):
        add_tags(named("f"), ["a\nb"])


def test_a_block_too_unusual_to_extend_is_left_alone() -> None:
    source = "# /// script\n# tool.dynasaur.tags = ['a']\n# ///\n" + named("f")
    with pytest.raises(ActionInvalid, match="Write the tags into it yourself"):
        add_tags(source, ["b"])


def write_network(hosts: str) -> str:
    return f"# /// script\n# [tool.dynasaur]\n# network = {hosts}\n# ///\n" + (
        'def fetch() -> None:\n    """Fetch it."""\n'
    )


def test_hosts_it_needs_are_read_into_normal_form() -> None:
    action = read_action(write_network('["API.example.org", "*.example.com:8443", "api.example.org"]'))
    assert action.network == ("api.example.org", "*.example.com:8443")
    assert read_action(add_tags(action.source, ["web"])).network == action.network


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ('"api.example.org"', "`network` is no list of texts"),
        ("[80]", "`network` is no list of texts"),
        ('["https://api.example.org/x"]', "'https://api.example.org/x' is no host. Write it like api.example.org"),
        ('["*"]', "'*' is no host"),
        ('["localhost"]', "'localhost' never leads to this machine"),
        (str([f"h{number}.example.org" for number in range(21)]), "21 hosts: 20 at most"),
    ],
)
def test_hosts_that_are_none_are_told_with_their_line(hosts: str, message: str) -> None:
    with pytest.raises(ActionInvalid) as refused:
        read_action(write_network(hosts))
    (problem,) = refused.value.problems
    assert problem.line == 3
    assert message in problem.message
