"""`dynasaur-mcp actions add`: files and the starter actions, checked and tested before they are kept."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dynasaur_mcp.add import find_starter
from tests.conftest import ADD, README, TWICE, Run, assert_one_line, write


def test_changed_file_is_a_new_version_only_when_asked(jailed: Run, tmp_path: Path) -> None:
    assert jailed("actions", "add", *write(tmp_path, add=ADD)).returncode == 0
    (file,) = write(tmp_path, add=ADD.replace("a + b", "b + a"))
    refused = jailed("actions", "add", file)
    assert refused.returncode == 1
    assert "--replace" in refused.stdout
    replaced = jailed("actions", "add", "--replace", file)
    assert "add.py\tkept\tv2, 1/1 tests, active\n" in replaced.stdout, replaced.stderr


def test_what_is_there_under_another_name_is_named_with_commands_for_it(jailed: Run, tmp_path: Path) -> None:
    assert jailed("actions", "add", *write(tmp_path, add=ADD)).returncode == 0
    refused = jailed("actions", "add", *write(tmp_path, plus=ADD.replace("add", "plus")))
    assert "`dynasaur-mcp actions remove add`" in refused.stdout, refused.stdout
    other = ADD.replace("add", "total").replace("a + b", "sum((a, b))").replace("1, 2", "2, 1")
    refused = jailed("actions", "add", *write(tmp_path, total=other))
    assert "`dynasaur-mcp actions add --anyway` keeps it" in refused.stdout, refused.stdout
    assert "anyway=true" not in refused.stdout
    kept = jailed("actions", "add", "--anyway", str(tmp_path / "total.py"))
    assert "total.py\tkept\t" in kept.stdout


def test_bad_file_is_named_and_stops_no_other(jailed: Run, tmp_path: Path) -> None:
    wrong = ADD.replace("        3\n", "        4\n").replace("add", "wrong")
    files = write(tmp_path, broken="def broken(:\n", untyped="def untyped(a):\n    return a\n", wrong=wrong, add=ADD)
    added = jailed("actions", "add", *files, str(tmp_path / "missing.py"))
    assert added.returncode == 1
    for name in ("broken.py", "untyped.py", "wrong.py", "missing.py"):
        assert re.search(rf"^{name}\tnot kept\t", added.stdout, re.MULTILINE), added.stdout
    assert "add.py\tkept\t" in added.stdout


def test_what_is_no_file_is_not_waited_for(jailed: Run, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    pipe = str(tmp_path / "pipe.py")
    for path in (pipe, tmp_path / "library" / "pipe.py"):
        os.mkfifo(path)
    added = jailed("actions", "add", pipe, "/dev/zero", *write(tmp_path, add=ADD))
    assert "pipe.py\tnot kept\tit is no file\nzero\tnot kept\tit is no file\nadd.py\tkept\t" in added.stdout
    assert "it is no file" in jailed("actions", "test", pipe).stdout
    assert_one_line(jailed("actions", "show", "pipe"), 1, "No action named 'pipe'")
    (tmp_path / "library" / "add.py").unlink()
    os.mkfifo(tmp_path / "library" / "add.py")
    assert_one_line(jailed("actions", "show", "add"), 1, "No action named 'add'")


def test_all_problems_of_a_file_are_named_at_once(dynasaur: Run, tmp_path: Path) -> None:
    added = dynasaur("actions", "add", *write(tmp_path, three="def three(a, *b):\n    print(a)\n"))
    assert added.returncode == 1
    assert [added.stdout.count(words) for words in ("line 1: ", "'a'", "'b'", "-> str", "docstring")] == [4, 1, 1, 1, 2]


def test_files_added_twice_at_once_are_there_for_both(jailed: Run, tmp_path: Path) -> None:
    files = write(tmp_path, twice=TWICE, add=ADD)
    with ThreadPoolExecutor() as threads:
        both = list(threads.map(lambda _: jailed("actions", "add", *files), range(2)))
    assert [ran.returncode for ran in both] == [0, 0], [ran.stdout for ran in both]


def test_nothing_is_added_without_a_sandbox_and_one_line_says_why(dynasaur: Run, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/no.sock"
    assert_one_line(dynasaur("actions", "add", "starter", "--sandbox", "docker", DOCKER_HOST=nowhere), 1, "No Docker")


def test_action_of_the_readme_can_be_added(jailed: Run, tmp_path: Path) -> None:
    source = re.search(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert source
    added = jailed("actions", "add", *write(tmp_path, count_words=source[1]))
    assert "count_words.py\tkept\tv1, 2/2 tests, active\n" in added.stdout, added.stdout + added.stderr


def test_starter_actions_are_added_whole(jailed: Run) -> None:
    added = jailed("actions", "add", "starter")
    assert added.returncode == 0, added.stdout + added.stderr
    assert len(find_starter()) >= 12
    listed = jailed("actions", "list").stdout
    assert [path.stem for path in find_starter() if f"{path.stem}\tv1\tactive\t" not in listed] == []
