"""`files` against servers that run: what goes in and comes out, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

from tests.flows.conftest import environment
from tests.flows.raw import RawServer, open_raw

from .conftest import ONE_IS_ENOUGH, Shell


def test_files_and_folders_go_in_and_come_out_as_they_were(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "inner").mkdir(parents=True)
    big = os.urandom(9 << 20)
    (given / "big.bin").write_bytes(big)
    (given / "empty").touch()
    (given / "inner" / "ümlaut\n?#.txt").write_text("hé")
    (given / "link").symlink_to("/etc/passwd")
    os.mkfifo(given / "pipe")
    done = shell.run("files", "put", str(given), str(given / "big.bin"), "--to", "data", "--session", "x")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is no regular file: left out") == 2
    code = "import glob\nlen(open('data/big.bin', 'rb').read()), sorted(glob.glob('data/given/**', recursive=True))[1:]"
    text = server.call("run_python", 6, code=code, session="x")["result"]["content"][0]["text"]
    assert str(len(big)) in text
    assert "data/given/inner/ümlaut\\n?#.txt" in text
    assert "link" not in text
    out = tmp_path / "out"
    out.mkdir()
    shell.rows("files", "get", "data", str(out), "--session", "x")
    assert (out / "data" / "big.bin").read_bytes() == big
    assert (out / "data" / "given" / "big.bin").read_bytes() == big
    assert (out / "data" / "given" / "inner" / "ümlaut\n?#.txt").read_text() == "hé"
    assert (out / "data" / "given" / "empty").read_bytes() == b""
    shell.rows("files", "get", "data/given/empty", str(out / "named"), "--session", "x")
    assert (out / "named").read_bytes() == b""


@ONE_IS_ENOUGH
def test_folder_comes_out_without_what_is_no_file_and_says_so(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    code = "import os\nos.mkdir('d')\nos.symlink('/etc/passwd', 'd/link')\nopen('d/f', 'w').write('x')"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert (done.returncode, done.stderr) == (0, "'d/link' is no regular file: left out\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["f"]


@ONE_IS_ENOUGH
def test_folder_with_more_than_is_listed_says_what_was_left(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    code = "import os\nos.mkdir('d')\nfor n in range(5001): os.symlink('x', f'd/{n}')"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert done.stderr.splitlines()[-1] == "'d' has 5001 entries: only the first 5000 were taken"


@ONE_IS_ENOUGH
def test_file_that_cannot_be_asked_for_keeps_no_other_from_coming_out(
    server: RawServer, shell: Shell, tmp_path: Path
) -> None:
    code = "import os\nos.mkdir('d')\nfor n in (b'a', b'b\\xff', b'c'): open(b'd/' + n, 'wb').write(n)"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
    assert done.stderr == "'d/b\ufffd': there is no such file in the workspace. It is left out.\n"
    assert done.returncode == 0


@ONE_IS_ENOUGH
def test_name_that_gives_orders_to_a_terminal_gives_none(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    name = "\x1b]52;c;eA==\x07\u202e\nx"
    answer = server.call("run_python", 6, code=f"open({name!r}, 'w').close()", session="x")
    assert f"- {name!r} (0 bytes)" in answer["result"]["content"][0]["text"]
    done = shell.run("files", "get", "", str(tmp_path / "out"), "--session", "x")
    assert done.stdout == f"{str(tmp_path / 'out' / name)!r}\t0 bytes\n"
    assert (tmp_path / "out" / name).exists()


@ONE_IS_ENOUGH
def test_file_put_before_the_first_call_is_there_in_it(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    shell.rows("files", "put", str(tmp_path / "a.txt"))
    text = server.call("run_python", 7, code="open('a.txt').read()")["result"]["content"][0]["text"]
    assert text.startswith("Value:\n'hello'")


def test_nothing_outside_the_workspace_comes_out(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    links = {"link": "/etc/passwd", "inside/link": "/proc/1/environ", "folder_link": "/etc"}
    code = "import os\nos.mkdir('inside')\n" + "".join(f"os.symlink({to!r}, {name!r})\n" for name, to in links.items())
    server.call("run_python", 8, code=code, session="x")
    for path in ("../etc/passwd", "/etc/passwd", "nothing", "folder_link/passwd", *links):
        said = shell.fail("files", "get", path, str(tmp_path / "out"), "--session", "x")
        assert repr(path) in said
        assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_hole_in_a_file_comes_out_as_one(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    code = """
with open('sparse', 'wb') as file:
    for place in (0, 9 << 20, 20 << 20):
        file.seek(place); file.write(b'x' * 5000)
    file.truncate(200 << 20)
"""
    server.call("run_python", 6, code=code, session="x")
    out = tmp_path / "sparse"
    assert shell.rows("files", "get", "sparse", str(out), "--session", "x", "--most-bytes", str(1 << 20))[0][1] == (
        f"{200 << 20} bytes"
    )
    assert (out.stat().st_size, out.stat().st_blocks * 512 < 1 << 20) == (200 << 20, True)
    with out.open("rb") as file:
        head = file.read(30 << 20)
    assert head.count(b"x") == 15000
    assert head[9 << 20 : (9 << 20) + 5000] == head[20 << 20 : (20 << 20) + 5000] == b"x" * 5000


@ONE_IS_ENOUGH
def test_more_than_is_to_come_out_is_refused_and_leaves_no_part_of_a_file(
    server: RawServer, shell: Shell, tmp_path: Path
) -> None:
    code = "import os\nos.mkdir('d')\nfor name in 'ab': open(f'd/{name}', 'wb').write(bytes(6 << 20))"
    server.call("run_python", 6, code=code, session="x")
    (tmp_path / "one").mkdir()
    said = shell.fail("files", "get", "d/a", str(tmp_path / "one"), "--session", "x", "--most-bytes", "6000000")
    assert "'d/a' is not taken: it would be more than --most-bytes allows" in said
    assert list((tmp_path / "one").iterdir()) == []
    said = shell.fail("files", "get", "d", str(tmp_path / "out"), "--session", "x", "--most-bytes", "7000000")
    assert "'d/b' is not taken" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_file_that_does_not_fit_is_refused_and_leaves_nothing(
    library: Path, shell: Shell, sandbox: str, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(6 << 20))
    with open_raw(environment(library, sandbox, workspace_bytes=4 << 20)) as server:
        server.request("tools/list", number=2)
        server.call("run_python", 3, code="n = 1", session="x")
        while shell.run("sessions", "list").stderr:
            pass
        shell.fail("files", "put", str(tmp_path / "big"), "--session", "x")
        code = "import os\nos.listdir('.'), open('f', 'wb').write(bytes(3 << 20))"
        text = server.call("run_python", 9, code=code, session="x")["result"]["content"][0]["text"]
        assert text.startswith(f"Value:\n([], {3 << 20})")


@ONE_IS_ENOUGH
def test_file_that_is_not_there_is_named(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    assert "There is no file" in shell.fail("files", "put", str(tmp_path / "nope"), "--session", "x")
    # No model could give that name.
    assert "cannot be a session's name" in shell.fail("files", "put", __file__, "--session", "my session")
