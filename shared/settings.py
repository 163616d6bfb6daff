"""Every setting, from the environment and `.env`. `.env.example` says what each means for a user."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import bus
from .process import ConfigError, log_at

# An interruption is silent within the lead, a frame and what the hops take: 200 ms at most (the promise).
WITHDRAW_LEAD_MAX_MS: Final = 180
# How alike a name and a setting's name have to be (1: the same) for the one to be the other, misspelt. The environment
# holds variables of other programs: TWILIO_API_KEY and TWILIO_API_URL are 0.79 alike.
ALIKE_IN_FILE: Final = 0.7
ALIKE_IN_ENVIRONMENT: Final = 0.85

# The end of the simulated model's name.
SIMULATED: Final = "-simulated"


def _default_run_dir() -> Path:
    """A directory for this user on a memory file system, short enough for a socket path (107 bytes)."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "twentyms"
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"twentyms-{os.getuid()}"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    gateway_host: str = "0.0.0.0"
    gateway_port: int = Field(default=8080, ge=1, le=65_535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9464, ge=1, le=65_535)
    public_url: str = ""

    twilio_account_sid: str = ""
    twilio_auth_token: str = Field(default="", repr=False)
    twilio_shared_key: str = Field(default="", repr=False)
    twilio_api_url: str = ""
    allow_unsigned: Literal["on", "off"] = "off"

    phone_page: Literal["", "on", "off"] = ""

    openai_api_key: str = Field(default="", repr=False)
    openai_base_url: str = ""
    openai_realtime_model: str = "gpt-realtime-2.1"
    simulated_model: Literal["talk", "parrot"] = "talk"
    agent_file: Path | None = None
    agents_dir: Path | None = None
    # Often holds a token.
    call_config_url: str = Field(default="", repr=False)

    # On the grid of txpacer's ticks.
    tx_lead_ms: int = Field(default=120, ge=40, le=1_000, multiple_of=10)
    tx_lead_min_ms: int = Field(default=60, ge=40, le=1_000, multiple_of=10)
    tx_lead_max_ms: int = Field(default=180, ge=40, le=1_000, multiple_of=10)
    tx_realtime: Literal["auto", "on", "off"] = "auto"
    tx_cpu: str = Field(default="", pattern=r"^(\d+(,\d+)*)?$")
    greeting_protect_ms: int = Field(default=500, ge=0, le=10_000)
    barge_in: Literal["withdraw", "drain", "clear"] = "withdraw"
    barge_in_confirm_ms: int = Field(default=0, ge=0, le=2_000)
    barge_in_early: Literal["on", "off"] = "off"
    barge_in_early_ms: int = Field(default=600, ge=100, le=2_000)
    barge_in_short_ms: int = Field(default=0, ge=0, le=1_000)
    barge_in_threshold: float = Field(default=0.5, gt=0, lt=1)
    echo_guard: Literal["on", "off"] = "off"

    model_reconnect_seconds: int = Field(default=10, ge=1, le=120)
    model_session_minutes: float = Field(default=55.0, gt=0, le=59)

    fallback_say: str = "We are sorry, we cannot take your call right now. Please try again in a few minutes."
    # With or without the country, and with the usual signs between the digits.
    fallback_dial: str = Field(default="", pattern=r"^(\+?\(?\d([ ().-]*\d){2,14})?$")
    max_calls: int = Field(default=150, ge=1)
    max_calls_per_source: int = Field(default=20, ge=1)
    drain_seconds: int = Field(default=600, ge=0)

    recording: Literal["off", "on"] = "off"
    # Holds calls.db (unless DATABASE_URL names another database) and the facts that wait for the database.
    data_dir: Path = Path("data")
    # May hold a password.
    database_url: str = Field(default="", repr=False)
    spool_mb: int = Field(default=256, ge=1)
    retention_days: int = Field(default=0, ge=0)
    # Often holds a token.
    webhook_url: str = Field(default="", repr=False)
    webhook_secret: str = Field(default="", repr=False)
    model_prices: str = ""

    tool_processes: int = Field(default=4, ge=1, le=64)
    tool_memory_mb: int = Field(default=512, ge=64)

    # Stands in paths, queries and tokens, and is the name of a Kubernetes pod where cells are pods.
    cell: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?$")
    fleet: Literal["on", "off"] = "off"
    # 0: no such port.
    agent_check_port: int = Field(default=0, ge=0, le=65_535)

    aibridge_workers: int = Field(default=1, ge=1, le=64)
    gateways: int = Field(default=1, ge=1, le=64)
    run_dir: Path = Field(default_factory=_default_run_dir)
    bus_url: str = Field(default="", pattern=r"^(tcp://[\w.:\[\]-]+:\d{1,5})?$")
    bus_secret_key: str = Field(default="", repr=False, pattern=r"^(.{40})?$")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _origin_only(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.rstrip("/") or parts.query:
            raise ValueError("must be an origin such as https://voice.example.com, without path or query")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_source_of_agents(self) -> Self:
        if self.agent_file and self.agents_dir:
            raise ValueError("AGENT_FILE and AGENTS_DIR are both set; move the file into the directory, and set one")
        return self

    @model_validator(mode="after")
    def _a_fleet_has_names(self) -> Self:
        if self.fleet == "on" and not self.cell:
            raise ValueError("FLEET is on and CELL is not set; give each cell of the fleet a name of its own")
        return self

    @model_validator(mode="after")
    def _leads_in_order(self) -> Self:
        start, (least, most) = self.lead_ms, self.lead_bounds_ms
        if not least <= start <= most:
            raise ValueError(f"TX_LEAD_MS {start} must lie between TX_LEAD_MIN_MS {least} and TX_LEAD_MAX_MS {most}")
        if most > WITHDRAW_LEAD_MAX_MS and self.barge_in == "withdraw":
            raise ValueError(
                f"TX_LEAD_MAX_MS {most} is too long for BARGE_IN=withdraw, which stops the AI within the lead; use "
                f"{WITHDRAW_LEAD_MAX_MS} at most, or BARGE_IN=clear"
            )
        return self

    @property
    def lead_ms(self) -> int:
        """Where the lead starts. After a `clear` nobody hears a long lead: unless set, it starts at its maximum."""
        is_free = self.barge_in == "clear" and "tx_lead_ms" not in self.model_fields_set
        return self.tx_lead_max_ms if is_free else self.tx_lead_ms

    @property
    def lead_bounds_ms(self) -> tuple[int, int]:
        """Between what the lead adapts. A bound that is not set gives way to a TX_LEAD_MS that is.

        With BARGE_IN=clear the lead does not fall below its start, unless TX_LEAD_MIN_MS is set.
        """
        least, start, most = self.tx_lead_min_ms, self.lead_ms, self.tx_lead_max_ms
        is_set = self.model_fields_set
        if "tx_lead_min_ms" not in is_set:
            least = start if self.barge_in == "clear" else min(least, start)
        return least, most if "tx_lead_max_ms" in is_set else max(most, start)

    @property
    def is_simulated(self) -> bool:
        """Whether the simulated model answers (twentyms/stack.py)."""
        return self.openai_realtime_model.endswith(SIMULATED)

    @property
    def origin(self) -> str:
        """PUBLIC_URL, or the address of this machine."""
        return self.public_url or f"http://localhost:{self.gateway_port}"

    @property
    def bus(self) -> Path | str:
        """Where the sockets between the processes are: in RUN_DIR, or at BUS_URL."""
        return self.bus_url or self.run_dir

    @property
    def tx_cpus(self) -> frozenset[int]:
        """CPU numbers of TX_CPU; empty: any."""
        return frozenset(int(number) for number in self.tx_cpu.split(",") if number)

    @property
    def metrics_dir(self) -> Path:
        return self.run_dir / "metrics"


def load(directory: Path = Path()) -> Settings:
    """Read the environment and the `.env` of `directory`, and log from LOG_LEVEL on.

    Relative paths in the settings belong to `directory`. Raises ConfigError, one line, for a value that cannot be used.
    """
    try:
        settings = Settings(_env_file=directory / ".env")  # type: ignore[call-arg]  # mypy does not know pydantic's own
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = f"{str(first['loc'][0]).upper()} " if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}{reason}; set it in .env or the environment") from None
    log_at(settings.log_level)
    paths = {name: getattr(settings, name) for name in ("data_dir", "agent_file", "agents_dir", "run_dir")}
    return settings.model_copy(
        update={name: directory.absolute() / path for name, path in paths.items() if path and not path.is_absolute()}
    )


def secret(name: str, directory: Path = Path()) -> str:
    """The value of a variable that a file names, such as an agent's key: from the environment or `.env`."""
    return os.environ.get(name) or dotenv_values(directory / ".env").get(name) or ""


def misspelt(directory: Path = Path()) -> list[str]:
    """A line for each name in the `.env` of `directory` or the environment that is nearly a setting's name."""
    known = [name.upper() for name in Settings.model_fields]
    sources = (
        (".env", dotenv_values(directory / ".env"), ALIKE_IN_FILE),
        ("the environment", os.environ, ALIKE_IN_ENVIRONMENT),
    )
    return [
        f"{name} in {source} is not a setting and is not used; did you mean {nearest[0]}?"
        for source, names, alike in sources
        for name in names
        if name.upper() not in known and (nearest := difflib.get_close_matches(name.upper(), known, 1, alike))
    ]


def prepare_run_dir(settings: Settings) -> Path:
    """Make RUN_DIR, mode 0700, or raise ConfigError when it cannot be private to this user."""
    if settings.bus_url and not settings.bus_secret_key:
        raise ConfigError("BUS_SECRET_KEY is not set, and the bus is not used over TCP without it; see .env.example")
    bus.secure(settings.bus_secret_key)
    path = settings.run_dir
    advice = "set RUN_DIR to a directory that only this user can enter"
    if len(str(path)) > 70:
        raise ConfigError(f"RUN_DIR {path} is too long for socket files (70 characters at most); {advice}")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.getuid():
            raise ConfigError(f"RUN_DIR {path} belongs to another user; {advice}")
        if status.st_mode & 0o077:
            path.chmod(0o700)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"RUN_DIR {path} cannot be read and written; {advice}")
    except OSError as exc:
        raise ConfigError(f"RUN_DIR {path} cannot be used ({exc.strerror}); {advice}") from None
    return path
