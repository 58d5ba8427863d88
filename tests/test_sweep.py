"""`gc` as a user types it."""

import re
from pathlib import Path

from .conftest import Run


def test_gc_says_how_many_leftovers_it_removed(dynasaur: Run) -> None:
    ran = dynasaur("gc")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^jail\t0\t", ran.stdout, re.MULTILINE), ran.stdout


def test_gc_removes_packages_on_demand_and_has_them_resolved_anew(jailed: Run, tmp_path: Path) -> None:
    file = tmp_path / "need_six.py"
    file.write_text(
        "# /// script\n# dependencies = ['six']\n# ///\nimport six\n\ndef need_six() -> str:\n"
        '    """Name a package.\n\n    >>> need_six()\n    \'six\'\n    """\n    return six.__name__\n'
    )
    own = {"DYNASAUR_CACHE": str(tmp_path / "cache"), "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    assert jailed("actions", "add", str(file), **own).returncode == 0
    assert re.search(r"^jail\t0\t0\t0\.0 MiB\t", jailed("gc", **own).stdout, re.MULTILINE)
    ran = jailed("gc", "--packages", **own)
    assert re.search(r"^jail\t0\t1\t0\.\d MiB\t", ran.stdout, re.MULTILINE), ran.stdout
    assert list((tmp_path / "cache" / "resolved").glob("*/*")) == []
