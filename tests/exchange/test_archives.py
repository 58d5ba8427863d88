"""`actions import` of archives: good ones, hostile ones, damaged ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.conftest import ADD, Run, assert_one_line

from .conftest import library, rows


def test_functions_of_an_archive_are_imported(jailed: Run, package: Path, tmp_path: Path) -> None:
    archive = tmp_path / "numbers.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.glob("*.py"):
            file.write(path, f"numbers-1.0/{path.relative_to(package.parent)}")
        # What macOS adds of its own.
        file.writestr("__MACOSX/numbers-1.0/._mean.py", b"\x00\x05\x16\x07")
    told = rows(jailed("actions", "import", str(archive)))
    assert told["mean"][0] == "kept"
    assert not [name for name in told if "MACOSX" in name]


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:/evil.py"])
def test_an_archive_that_leads_out_of_itself_is_refused(dynasaur: Run, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("good.py", ADD)
        file.writestr(zipfile.ZipInfo(name), ADD)
    assert_one_line(dynasaur("actions", "import", str(archive)), 1, "leads out of it")
    assert library(tmp_path) == {}


def test_a_huge_archive_is_refused(dynasaur: Run, tmp_path: Path) -> None:
    archive = tmp_path / "huge.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(110):
            file.writestr(f"m{number}.py", "#" * 1_000_000)
    assert_one_line(dynasaur("actions", "import", str(archive)), 1, "more than 100 MB")
    archive.write_bytes(archive.read_bytes()[:5000])
    assert_one_line(dynasaur("actions", "import", str(archive)), 1, "neither Python nor a zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_refused_in_one_line(dynasaur: Run, tmp_path: Path, method: int) -> None:
    archive = tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("add.py", ADD)
    data = archive.read_bytes()
    archive.write_bytes(data[:50] + bytes(40) + data[90:])
    assert_one_line(dynasaur("actions", "import", str(archive)), 1, "cannot be unpacked")
    assert library(tmp_path) == {}


def test_an_archive_or_a_folder_of_too_many_files_is_refused(dynasaur: Run, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(20_001):
            file.writestr(f"m{number}.py", "")
            (folder / f"m{number}.py").touch()
    assert_one_line(dynasaur("actions", "import", str(archive)), 1, "more than 20,000 files")
    assert_one_line(dynasaur("actions", "import", str(folder)), 1, "more than 20,000 Python files")
