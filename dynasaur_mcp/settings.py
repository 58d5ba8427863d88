"""The only reader of the environment: every setting, from `DYNASAUR_*` variables or the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.hosts import read_host
from dynasaur_mcp.types import Limits, PackageRules

_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class Settings(BaseSettings):
    """What can be set. Each field `x` is the variable `DYNASAUR_X`; sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="DYNASAUR_", frozen=True, extra="forbid", env_ignore_empty=True)

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
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="warning", description="Log on stderr.")

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


def read_settings(**overrides: Any) -> Settings:
    """Settings from the environment; overrides that are None do not count.

    Raises:
        SettingsError: one line that names every wrong setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise SettingsError(f"Wrong setting: {wrong}") from None
