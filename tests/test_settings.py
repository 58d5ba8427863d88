"""Settings: by flag, by variable, by file; which count, where each comes from, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from pydantic import SecretStr

from dynasaur_mcp import settings
from dynasaur_mcp.commands import run
from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.settings import Settings, read_settings, trace_settings


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a configuration folder of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in [name for name in os.environ if name.startswith("DYNASAUR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that DYNASAUR_CONFIG names."""
    monkeypatch.setenv("DYNASAUR_CONFIG", str(tmp_path / "named.toml"))
    return tmp_path / "named.toml"


@pytest.fixture
def of_the_user() -> Path:
    folder = platformdirs.user_config_path("dynasaur-mcp")
    folder.mkdir(parents=True)
    return folder / "dynasaur.toml"


def shown_by_config(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert run(["config", "--json", *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_flag_counts_over_variable_over_named_file_over_file_of_the_user(
    named: Path, of_the_user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_the_user.write_text("sessions = 1\ncpus = 1.5\nprocesses = 33\nwarm_workers = 0\n")
    named.write_text("sessions = 2\ncpus = 2.5\nprocesses = 44\n")
    monkeypatch.setenv("DYNASAUR_SESSIONS", "3")
    monkeypatch.setenv("DYNASAUR_CPUS", "3.5")
    found = shown_by_config(capsys, "--sessions", "4")
    assert found["sessions"] == {"value": 4, "from": "--sessions"}
    assert found["cpus"] == {"value": 3.5, "from": "DYNASAUR_CPUS"}
    assert found["processes"] == {"value": 44, "from": str(named)}
    assert found["warm_workers"] == {"value": 0, "from": str(of_the_user)}
    assert found["expose"] == {"value": "auto", "from": "default"}
    assert list(found) == list(Settings.model_fields)


def test_file_of_the_working_folder_counts_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dynasaur.toml").write_text('network = "allow:evil.example"\n')
    assert shown_by_config(capsys)["network"] == {"value": "none", "from": "default"}


def test_named_file_that_is_not_there_is_refused(named: Path) -> None:
    with pytest.raises(SettingsError, match="which DYNASAUR_CONFIG names, is not there"):
        read_settings()


def test_config_is_lines_with_the_files_that_count(
    named: Path, of_the_user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named.write_text("require_approval = true\n")
    assert run(["config"]) == 0
    printed = capsys.readouterr()
    assert f"require_approval\ton\t{named}\n" in printed.out
    assert printed.err == f"{of_the_user}: not there\n{named}: read\n"


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ("sesions = 3", ["'sesions' in {file} is no setting", "Did you mean 'sessions'?"]),
        ("zzz = 3", ["'zzz' in {file} is no setting", "`dynasaur-mcp config` shows what there is."]),
        ("sessions = [3]", ["sessions: ", "got [3]", "(from {file})"]),
        ("sesions = 1\ntimeout = 2", ["'sesions'", "'timeout'", "'timeout_seconds'?"]),
        ("[sessions]\nmost = 3", ["sessions: ", "(from {file})"]),
        ("sessions = ", ["{file} is no TOML"]),
    ],
    ids=["misspelt", "like nothing", "wrong type", "two at once", "table", "broken"],
)
def test_wrong_file_is_refused_with_what_is_right(named: Path, text: str, blamed: list[str]) -> None:
    named.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert [words for words in blamed if words.format(file=named) not in str(refused.value)] == []
    assert "\n" not in str(refused.value)


def test_file_of_an_editor_on_windows_is_read(named: Path) -> None:
    named.write_bytes(b"\xef\xbb\xbfsessions = 3\r\ncpus = 2.5\r\n")
    settings = read_settings()
    assert (settings.sessions, settings.cpus) == (3, 2.5)


def test_file_that_is_no_text_is_refused(named: Path) -> None:
    named.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no TOML"):
        read_settings()


def test_folder_by_the_name_of_a_file_is_refused(named: Path) -> None:
    named.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings()


def test_unknown_variable_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNASAUR_TIMEOUT", "5")
    with pytest.raises(SettingsError, match=r"'DYNASAUR_TIMEOUT' in the environment .* 'DYNASAUR_TIMEOUT_SECONDS'\?"):
        read_settings()


def test_variables_of_the_tests_are_no_settings_and_empty_ones_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNASAUR_TESTS_REQUIRE", "jail")
    monkeypatch.setenv("DYNASAUR_SESSIONS", "")
    assert read_settings().sessions == 16


def test_unknown_flag_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"Did you mean --sessions\?"):
        run(["config", "--sesions", "3"])


def test_paths_of_a_file_are_relative_to_it_and_have_a_home(of_the_user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_the_user.write_text('library = "actions"\ncache = "~/cache"\n')
    monkeypatch.setenv("HOME", "/home/someone")
    found = read_settings()
    assert (found.library, found.cache) == (of_the_user.parent / "actions", Path("/home/someone/cache"))
    monkeypatch.setenv("DYNASAUR_LIBRARY", "~/other")
    assert read_settings().library == Path("/home/someone/other")


def test_secret_is_neither_shown_nor_told_in_an_error(
    named: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithSecret(Settings):
        key: SecretStr = SecretStr("")

    monkeypatch.setattr(settings, "Settings", WithSecret)
    named.write_text('key = "open sesame"\n')
    assert trace_settings()[0].key.get_secret_value() == "open sesame"  # type: ignore[attr-defined]
    assert "open sesame" not in str(shown_by_config(capsys))
    named.write_text("key = 31337\n")
    with pytest.raises(SettingsError, match="key: ") as refused:
        read_settings()
    assert "31337" not in str(refused.value)
