"""Source text -> Action, by parsing. Nothing here runs what it reads."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import hashlib
import inspect
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library import rules, worth
from dynasaur_mcp.library.docstring import describe_parameters
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.library.script import Script, read_script, write_tags
from dynasaur_mcp.library.shape import hash_shape
from dynasaur_mcp.types import Action, Parameter, Problem

PARSING_SECONDS = 5
"""Of the processor. A megabyte of what people write takes one or two."""
_SOON_READ_CHARACTERS = 20_000
_TRY = """
import ast, resource, sys
seconds = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
compile(ast.parse(sys.stdin.buffer.read().decode()), "", "exec", dont_inherit=True)
"""
_TOLD_TO_END = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
_parsing = threading.Lock()


@contextlib.contextmanager
def parsing() -> Iterator[None]:
    """Wrap what parses in it: Python warns about odd source on stderr, which is the server's log."""
    # Filters belong to the whole process, and definitions are read in threads.
    with _parsing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.lru_cache(maxsize=4)
def read_action(source: str, name: str | None = None, *, is_new: bool = False) -> Action:
    """The action that a file's text defines.

    Args:
        source: The whole file.
        name: The function that is the action; None: the only public function.
        is_new: Hold it to what is worth keeping too, and give it advice.

    Raises:
        ActionInvalid: with every problem found, each with its line.
    """
    headline = f"{name[:60]!r} cannot be an action:" if name is not None else "This cannot be an action:"
    if problems := list(rules.check_size(len(source))):
        raise ActionInvalid(headline, problems)
    problems = [*rules.check_text(source)]
    script = read_script(source)
    problems += script.problems
    if name is not None:
        problems += rules.check_name(name)
    tree: ast.Module | None = None
    function: Function | None = None
    if not any("NUL" in problem.message or "surrogate" in problem.message for problem in problems):
        try:
            tree = parse_source(source)
            function = _find_function(tree, name)
        except ActionInvalid as error:
            problems += error.problems
    if tree is not None:
        problems += rules.check_imports(tree)
    advice: list[Problem] = []
    if tree is not None and function is not None:
        if name is None:
            problems += rules.check_name(function.name, function.lineno)
        problems += rules.check_signature(function)
        problems += rules.check_docstring(function)
        problems += _check_examples(function)
        if is_new:
            with parsing():
                found, advice = worth.judge(tree, function)
            problems += found
    if problems or tree is None or function is None:
        raise ActionInvalid(headline, sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0))
    return _build_action(source, tree, function, script, advice)


def _build_action(
    source: str, tree: ast.Module, function: Function, script: Script, advice: Sequence[Problem]
) -> Action:
    docstring = inspect.cleandoc(_raw_docstring(function))
    descriptions = describe_parameters(docstring)
    try:
        returns = ast.unparse(function.returns) if function.returns else "None"
        signature = f"{function.name}({ast.unparse(function.args)}) -> {returns}"
        parameters = tuple(_read_parameters(function.args, descriptions))
    except RecursionError:
        raise ActionInvalid("This cannot be an action:", [_nested_too_deep(function.lineno)]) from None
    except ValueError:
        problem = Problem("a number in its signature is too long to write out. Name it above.", function.lineno)
        raise ActionInvalid("This cannot be an action:", [problem]) from None
    return Action(
        name=function.name,
        source=source,
        sha256=hash_source(source),
        signature=signature,
        docstring=docstring,
        parameters=parameters,
        returns=returns,
        examples=tuple(example.source.strip() for example in _parse_examples(_raw_docstring(function))),
        requirements=script.requirements,
        tags=script.tags or (),
        network=script.network,
        uses=tuple(sorted(_find_uses(tree) - {function.name})),
        advice=tuple(map(str, advice)),
        shape=hash_shape(tree, function.name),
    )


def read_shape(source: str, name: str) -> str:
    """Of an action's source, as `Action.shape`; empty where it does not parse with this Python."""
    try:
        return hash_shape(parse_source(source), name)
    except ActionInvalid:
        return ""


def hash_source(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def parse_source(source: str) -> ast.Module:
    """The syntax tree of text that Python can compile.

    Raises:
        ActionInvalid: one Problem: where it stops being Python, or that it takes too long to read.
    """
    require_readable(source)
    try:
        with parsing():
            tree = ast.parse(source)
            # Compiling finds what parsing does not, such as a `return` outside of a function.
            compile(tree, "<action>", "exec", dont_inherit=True)
    except (RecursionError, MemoryError):
        problem = _nested_too_deep(None)
    except SyntaxError as error:
        text = f" in `{error.text.strip()[:80]}`" if error.text and error.text.strip() else ""
        # Code in a newer Python's syntax is right elsewhere.
        python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
        problem = Problem(f"does not parse with {python}: {error.msg}{text}. Correct the syntax.", error.lineno)
    except (ValueError, OverflowError) as error:
        problem = Problem(f"does not parse: {error}. Correct it.")
    else:
        return tree
    raise ActionInvalid("This is not Python:", [problem])


def require_readable(source: str, what: str = "it") -> None:
    """Parsing takes the whole server's time. For some texts it grows with the square of their size, to minutes: parts
    of one f-string before Python 3.12, functions that are alike. So what is large is first parsed in another process.

    Raises:
        ActionInvalid: it takes over PARSING_SECONDS.
    """
    if len(source) <= _SOON_READ_CHARACTERS:
        return
    command = [sys.executable, "-I", "-S", "-c", _TRY, str(PARSING_SECONDS)]
    try:
        tried = subprocess.run(command, input=source.encode(errors="replace"), capture_output=True, check=False)
    except OSError:
        # No process can be had, or the interpreter was replaced: no fault of the source.
        return
    # What it raises is found again here; who is told to end, as the server is, took no time.
    if tried.returncode < 0 and -tried.returncode not in _TOLD_TO_END:
        problem = Problem(f"{what} takes over {PARSING_SECONDS} s to parse. Split it, or keep its data in files.")
        raise ActionInvalid("This cannot be read:", [problem])


def _nested_too_deep(line: int | None) -> Problem:
    return Problem("its expressions or statements are nested too deep to read. Split it into steps.", line)


def _find_function(tree: ast.Module, name: str | None) -> Function:
    functions = {node.name: node for node in tree.body if isinstance(node, Function)}
    public = [node for node in functions.values() if not node.name.startswith(("_", "test_"))]
    if name is None and len(public) == 1:
        return public[0]
    if name is not None and name in functions:
        return functions[name]
    there = ", ".join(f"{node.name!r} (line {node.lineno})" for node in public[:8])
    if name is not None:
        inner = next((n for n in ast.walk(tree) if isinstance(n, Function) and n.name == name), None)
        if inner:
            problem = Problem(f"{name!r} is defined inside another statement. Move it to the top level.", inner.lineno)
        else:
            has = f" The file has {there}." if there else ""
            problem = Problem(f"no function named {name[:60]!r}.{has} Write `def {name[:60]}(…)` at the top level.")
    elif public:
        hint = "Say by its name which is the action, or begin the other names with _"
        problem = Problem(f"{len(public)} public functions: {there}. {hint}.", public[1].lineno)
    else:
        problem = Problem("no public function. Write `def some_name(…) -> …:` at the top level.")
    raise ActionInvalid("This cannot be an action:", [problem])


def _read_parameters(arguments: ast.arguments, descriptions: Mapping[str, str]) -> Iterable[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [
        *zip(positional, [*padding, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        yield Parameter(
            name=argument.arg,
            annotation=ast.unparse(argument.annotation) if argument.annotation else "",
            default=ast.unparse(default) if default else None,
            description=descriptions.get(argument.arg, ""),
        )
    if several := arguments.vararg:
        annotation = f"list[{ast.unparse(several.annotation)}]" if several.annotation else ""
        yield Parameter(several.arg, annotation, "[]", descriptions.get(several.arg, ""))


def _raw_docstring(function: Function) -> str:
    return ast.get_docstring(function, clean=False) or ""


def _parse_examples(docstring: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(docstring)


def _check_examples(function: Function) -> Iterable[Problem]:
    try:
        _parse_examples(_raw_docstring(function))
    except ValueError as error:
        found = re.search(r"line (\d+) of the docstring for \S+ (.*)", str(error))
        line = function.body[0].lineno + (int(found[1]) - 1 if found else 0)
        reason = found[2] if found else str(error)
        hint = 'Indent its lines alike; where a `\\n` is meant, begin the docstring with r"""'
        yield Problem(f"an example in the docstring cannot be read: {reason}. {hint}.", line)


def find_used_actions(code: str) -> frozenset[str]:
    """Names of the actions that any code imports; none when it does not parse."""
    try:
        require_readable(code)
        with parsing():
            return _find_uses(ast.parse(code))
    except (ActionInvalid, SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()


def _find_uses(tree: ast.Module) -> frozenset[str]:
    used: set[str] = set()
    packages: set[str] = set()
    for node in rules.walk_statements(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            package, _, action = node.module.partition(".")
            if package == "actions":
                used |= {action.split(".")[0]} if action else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, action = alias.name.partition(".")
                if package == "actions":
                    used |= {action.split(".")[0]} if action else set()
                    packages |= {alias.asname or package} if not (action and alias.asname) else set()
    if packages:
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages
        }
    return frozenset(name for name in used if name != "*" and not name.startswith("_"))


def add_tags(source: str, tags: Sequence[str]) -> str:
    """The same file with `tags` added to those in its PEP 723 block, which is made if there is none.

    Raises:
        ActionInvalid: a tag does not fit, or the block is written in a way that cannot be extended.
    """
    script = read_script(source)
    wanted = tuple(dict.fromkeys([*(script.tags or ()), *(tag.strip() for tag in tags)]))
    if problems := [*script.problems, *(Problem(message) for message in rules.check_tags(list(wanted)))]:
        raise ActionInvalid("These tags cannot be kept:", problems)
    if wanted == (script.tags or ()):
        return source
    tagged = write_tags(source, wanted)
    if read_script(tagged) != replace(script, tags=wanted):
        problem = Problem("the `# /// script` block is too unusual to extend. Write the tags into it yourself.")
        raise ActionInvalid("These tags cannot be kept:", [problem])
    return tagged
