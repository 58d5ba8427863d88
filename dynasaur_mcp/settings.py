"""What can be set, and the only reader of it: from flags, `DYNASAUR_*` variables, and files named `dynasaur.toml`.

A flag counts most, then the environment, then the file that DYNASAUR_CONFIG names, then that of the user's folder of
configurations. None is read because it lies in the working folder: clients start servers in the folder of whatever
project is open, and what comes with a project must not loosen what protects from it. A name that is no setting is
refused wherever it stands: a misspelt limit must not mean no limit.

Half of this file is the list of settings, which is kept whole: it is what README's table is compared with.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.hosts import read_host
from dynasaur_mcp.types import Limits, PackageRules, Quota

FILE = "dynasaur.toml"
PREFIX = "DYNASAUR_"
CONFIG = "DYNASAUR_CONFIG"
_NOT_OURS = (CONFIG, "DYNASAUR_TESTS_", "DYNASAUR_PEERS_")
"""Variables that are no settings, and no mistakes: those of the tests and the benchmarks too."""
TOKEN_RULE = "a token has at least 16 characters, all of ASCII, none a space"
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class Settings(BaseModel):
    """What can be set. Each field `x_y` is `--x-y`, `DYNASAUR_X_Y` and `x_y = …`. Sizes are bytes, times seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("dynasaur-mcp") / "library",
        description="Folder of the action library.",
    )
    cache: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("dynasaur-mcp"),
        description="Folder for what can be thrown away: installed packages.",
    )
    sandbox: Literal["auto", "docker", "jail"] = Field(
        default="auto", description="Where code runs. auto: docker if its engine answers and has the image, else jail."
    )
    image: str = Field(default="", description="Docker image of the worker. Empty: the one `image build` makes.")
    docker_runtime: str = Field(default="", description="OCI runtime for containers, such as runsc (gVisor).")
    network: str = Field(default="none", description="What code may reach by HTTP(S): none, or allow:HOST,…")
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600, description="Wall time of one call.")
    memory_bytes: int = Field(default=1 << 30, ge=64 << 20, description="Memory of one worker.")
    processes: int = Field(default=128, ge=16, description="Processes of one worker.")
    cpus: float = Field(default=1.0, gt=0, description="CPUs of one worker.")
    workspace_bytes: int = Field(default=1 << 30, ge=1 << 20, description="Size of a session's /workspace.")
    output_bytes: int = Field(default=1 << 20, ge=1024, description="Kept of what one call prints.")
    output_characters: int = Field(default=8000, ge=200, description="Shown of any one text, head and tail.")
    wait_seconds: float = Field(default=45.0, gt=0, description="A run still going after this gives back a run id.")
    sessions: int = Field(default=16, ge=1, description="Open sessions at most.")
    session_idle_seconds: float = Field(default=1800.0, gt=0, description="An idle session is closed after this.")
    warm_workers: int = Field(default=1, ge=0, description="Workers kept ready.")
    expose: Literal["auto", "all", "pinned", "none"] = Field(
        default="auto", description="Which actions are tools. auto: pinned, newest and most used, within expose_tokens."
    )
    expose_tokens: int = Field(default=2000, ge=0, description="Budget of auto, in tokens of tool definitions.")
    packages: Literal["none", "listed", "any"] = Field(
        default="any", description="Which packages actions and steps may require. listed: those of packages_allowed."
    )
    packages_allowed: str = Field(
        default="", description="Names for `listed`, as `numpy,pandas`; what they depend on comes with them."
    )
    packages_bytes: int = Field(
        default=10 << 30, ge=1 << 20, description="Kept of installed packages; those used least recently go first."
    )
    arguments_bytes: int = Field(
        default=8192,
        ge=0,
        description="Kept of a call's arguments, to replay it; 0: none, nor the query that led to it.",
    )
    require_approval: bool = Field(default=False, description="Nothing becomes active before a person approves it.")
    model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="sentence-transformers model for search, by name or folder.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Log on stderr. info: each request and run too."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Lines to read, or JSON to collect.")
    transport: Literal["stdio", "http"] = Field(
        default="stdio", description="stdio: one client on stdin and stdout. http: many, over the network."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any that is free.")
    token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token that clients send. No option, so that `ps` never shows it. Without any, one is made.",
    )
    token_file: Path | None = Field(
        default=None, description="File with the token; or with lines `NAME TOKEN`, for principals of their own."
    )
    allowed_hosts: str = Field(
        default="",
        description="Names that clients call it by, as `mcp.example.com`, besides those of loopback.",
    )
    allowed_origins: str = Field(
        default="", description="Origins of web pages that may call it, as `https://app.example.com`; others may not."
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file with the certificate chain, for HTTPS.")
    tls_key: Path | None = Field(default=None, description="PEM file with its key, where that is another file.")
    behind_proxy: bool = Field(default=False, description="A proxy in front does TLS: no warning without.")
    auth_issuer: str = Field(
        default="", description="URL of the OAuth 2.1 authorization server whose tokens are taken, instead of `token`."
    )
    audience: str = Field(
        default="",
        description="URL of this server's /mcp as clients know it: what these tokens have to be made out for.",
    )
    requests_each: int = Field(
        default=512, ge=1, description="HTTP requests, and sessions of the protocol, of one principal open at once."
    )
    sessions_each: int = Field(default=0, ge=0, description="Open sessions of one principal at most; 0: no limit.")
    calls_per_minute: int = Field(default=0, ge=0, description="Calls of one principal within a minute; 0: no limit.")
    cpu_seconds_per_day: float = Field(
        default=0.0, ge=0, description="Time that code of one principal runs a day (UTC), times cpus; 0: no limit."
    )
    drain_seconds: float = Field(default=30.0, ge=0, description="For calls in flight to end after SIGTERM, over HTTP.")

    @field_validator("*", mode="before")
    @classmethod
    def _expand_home(cls, value: Any, info: ValidationInfo) -> Any:
        """`~` too: files and clients' configurations have no shell to do it."""
        return Path(value).expanduser() if is_path(info.field_name or "") and isinstance(value, str) else value

    @field_validator("network")
    @classmethod
    def _read_network(cls, text: str) -> str:
        """In normal form."""
        if text.strip() == "none":
            return "none"
        mode, _, hosts = text.strip().partition(":")
        if mode != "allow" or not hosts:
            raise ValueError("write none, or allow:HOST,… such as allow:api.example.org,*.example.com")
        return f"allow:{','.join(dict.fromkeys(str(read_host(host)) for host in hosts.split(',')))}"

    @property
    def network_hosts(self) -> tuple[str, ...]:
        return () if self.network == "none" else tuple(self.network.removeprefix("allow:").split(","))

    @field_validator("token")
    @classmethod
    def _is_token(cls, token: SecretStr) -> SecretStr:
        if token.get_secret_value() and not is_token(token.get_secret_value()):
            raise ValueError(TOKEN_RULE)
        return token

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.token.get_secret_value() and self.token_file:
            raise ValueError("token and token_file exclude each other")
        if bool(self.auth_issuer) != bool(self.audience):
            raise ValueError("auth_issuer and audience are given together")
        if self.auth_issuer and (self.token.get_secret_value() or self.token_file):
            raise ValueError("auth_issuer excludes token and token_file")
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key counts only with tls_certificate")
        return self

    @field_validator("packages_allowed")
    @classmethod
    def _names_packages(cls, value: str, info: ValidationInfo) -> str:
        wrong = [name for name in value.split(",") if value and not _PACKAGE_NAME.fullmatch(name.strip())]
        if wrong:
            raise ValueError(f"{wrong[0].strip()!r} is no name of a package: give names alone, with commas between")
        # A list that allows nothing more than is allowed anyway is a mistake, and a dangerous one.
        if value and info.data.get("packages") != "listed":
            raise ValueError("it counts only with packages=listed")
        return value

    def package_rules(self) -> PackageRules:
        allowed = tuple(name.strip() for name in self.packages_allowed.split(",") if name)
        return PackageRules(policy=self.packages, allowed=allowed, most_bytes=self.packages_bytes)

    def quota(self) -> Quota:
        return Quota(self.sessions_each, self.calls_per_minute, self.cpu_seconds_per_day)

    def limits(self) -> Limits:
        return Limits(
            wall_seconds=self.timeout_seconds,
            memory_bytes=self.memory_bytes,
            processes=self.processes,
            cpus=self.cpus,
            workspace_bytes=self.workspace_bytes,
            file_bytes=self.workspace_bytes,
            output_bytes=self.output_bytes,
            network=self.network_hosts,
        )


def read_settings(**flags: Any) -> Settings:
    """The settings that count. Flags that are None were not given.

    Raises:
        SettingsError: one line that names every wrong setting, or every name that is none.
    """
    return trace_settings(**flags)[0]


def trace_settings(**flags: Any) -> tuple[Settings, dict[str, str]]:
    """The same, and where each came from; those not named are at their defaults.

    Raises:
        SettingsError
    """
    given: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in _read_layers({name: value for name, value in flags.items() if value is not None}):
        given |= values
        origins |= {name: origin.format(flag=name.replace("_", "-"), variable=name.upper()) for name in values}
    try:
        return Settings(**given), origins
    except ValidationError as error:
        wrong = "; ".join(_explain(one, origins) for one in error.errors())
        raise SettingsError(f"Wrong setting: {wrong}") from None


def is_token(text: str) -> bool:
    return re.fullmatch(r"[!-~]{16,}", text) is not None


def settings_files() -> list[Path]:
    """Where files may be, the one that counts most last."""
    named = os.environ.get(CONFIG)
    return [platformdirs.user_config_path("dynasaur-mcp") / FILE, *([Path(named).absolute()] if named else [])]


def is_secret(name: str) -> bool:
    return Settings.model_fields[name].annotation in (SecretStr, SecretStr | None)


def is_path(name: str) -> bool:
    annotation = Settings.model_fields[name].annotation
    return Path in (annotation, *get_args(annotation))


def _read_layers(flags: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is set in each place, and what to call that place; those that count more come later."""
    of_the_user, *named = settings_files()
    for file in (of_the_user, *named):
        if (values := _read_file(file)) is None and file in named:
            raise SettingsError(f"{file}, which {CONFIG} names, is not there")
        if values is not None:
            yield str(file).replace("{", "{{").replace("}", "}}"), values
    variables = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if value and not name.startswith(_NOT_OURS)
    }
    _refuse_unknown(values, "the environment", lambda name: PREFIX + name.upper())
    yield PREFIX + "{variable}", values
    yield "--{flag}", dict(flags)


def _read_file(file: Path) -> dict[str, Any] | None:
    """None where there is no such file. Relative paths in it are relative to its folder."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no TOML: {error}") from None
    _refuse_unknown(values, str(file))
    return {
        name: str(file.parent / Path(value).expanduser()) if is_path(name) and isinstance(value, str) else value
        for name, value in values.items()
    }


def _refuse_unknown(values: Iterable[str], place: str, spell: Callable[[str], str] = str) -> None:
    told = []
    for name in values:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, list(Settings.model_fields), n=1, cutoff=0.5)
            hint = f"Did you mean {spell(near[0])!r}?" if near else "`dynasaur-mcp config` shows what there is."
            told.append(f"{spell(name)!r} in {place} is no setting. {hint}")
    if told:
        raise SettingsError(" ".join(told))


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> str:
    name, wrong = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    if not name:  # its input would be all of them, secrets too
        return wrong
    return f"{name}: {wrong}{_show_input(name, error['input'])} (from {origins.get(name, 'its default')})"


def _show_input(name: str, value: object) -> str:
    return "" if name in Settings.model_fields and is_secret(name) else f", got {value!r}"
