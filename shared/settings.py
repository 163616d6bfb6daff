"""Every setting, from the environment and `.env`. `.env.example` says what each means for a user."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is not given has its default. `read` checks and converts values; this class checks how they fit together."""

    gateway_host: str = "0.0.0.0"
    gateway_port: Annotated[int, Meta(ge=1, le=65_535)] = 8080
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=1, le=65_535)] = 9464
    public_url: str = ""

    twilio_account_sid: str = ""
    twilio_auth_token: str = field(default="", repr=False)
    twilio_shared_key: str = field(default="", repr=False)
    twilio_api_url: str = ""
    allow_unsigned: Literal["on", "off"] = "off"

    phone_page: Literal["", "on", "off"] = ""

    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = ""
    openai_realtime_model: str = "gpt-realtime-2.1"
    simulated_model: Literal["talk", "parrot"] = "talk"
    agent_file: Path | None = None
    agents_dir: Path | None = None
    # Often holds a token.
    call_config_url: str = field(default="", repr=False)

    # On the grid of txpacer's ticks.
    tx_lead_ms: Annotated[int, Meta(ge=40, le=1_000, multiple_of=10)] = 120
    tx_lead_min_ms: Annotated[int, Meta(ge=40, le=1_000, multiple_of=10)] = 60
    tx_lead_max_ms: Annotated[int, Meta(ge=40, le=1_000, multiple_of=10)] = 180
    tx_realtime: Literal["auto", "on", "off"] = "auto"
    tx_cpu: Annotated[str, Meta(pattern=r"^(\d+(,\d+)*)?$")] = ""
    greeting_protect_ms: Annotated[int, Meta(ge=0, le=10_000)] = 500
    barge_in: Literal["withdraw", "drain", "clear"] = "withdraw"
    barge_in_confirm_ms: Annotated[int, Meta(ge=0, le=2_000)] = 0
    barge_in_early: Literal["on", "off"] = "off"
    barge_in_early_ms: Annotated[int, Meta(ge=100, le=2_000)] = 600
    barge_in_short_ms: Annotated[int, Meta(ge=0, le=1_000)] = 0
    barge_in_threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    echo_guard: Literal["on", "off"] = "on"

    model_reconnect_seconds: Annotated[int, Meta(ge=1, le=120)] = 10
    model_session_minutes: Annotated[float, Meta(le=59, gt=0)] = 55.0

    fallback_say: str = "We are sorry, we cannot take your call right now. Please try again in a few minutes."
    # With or without the country, and with the usual signs between the digits.
    fallback_dial: Annotated[str, Meta(pattern=r"^(\+?\(?\d([ ().-]*\d){2,14})?$")] = ""
    max_calls: Annotated[int, Meta(ge=1)] = 150
    max_calls_per_source: Annotated[int, Meta(ge=1)] = 20
    drain_seconds: Annotated[int, Meta(ge=0)] = 600

    recording: Literal["off", "on"] = "off"
    # Holds calls.db (unless DATABASE_URL names another database) and the facts that wait for the database.
    data_dir: Path = Path("data")
    # May hold a password.
    database_url: str = field(default="", repr=False)
    spool_mb: Annotated[int, Meta(ge=1)] = 256
    retention_days: Annotated[int, Meta(ge=0)] = 0
    # Often holds a token.
    webhook_url: str = field(default="", repr=False)
    webhook_secret: str = field(default="", repr=False)
    model_prices: str = ""

    tool_processes: Annotated[int, Meta(ge=1, le=64)] = 4
    tool_memory_mb: Annotated[int, Meta(ge=64)] = 512

    aibridge_workers: Annotated[int, Meta(ge=1, le=64)] = 1
    gateways: Annotated[int, Meta(ge=1, le=64)] = 1
    run_dir: Path = field(default_factory=_default_run_dir)
    bus_url: Annotated[str, Meta(pattern=r"^(tcp://[\w.:\[\]-]+:\d{1,5})?$")] = ""
    bus_secret_key: Annotated[str, Meta(pattern=r"^(.{40})?$")] = field(default="", repr=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"

    # The names of the settings that were given: some defaults depend on that.
    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.given:
            given = frozenset(each.name for each in fields(self) if getattr(self, each.name) != each.default)
            object.__setattr__(self, "given", given - {"run_dir", "given"})
        if self.agent_file and self.agents_dir:
            raise ConfigError("AGENT_FILE and AGENTS_DIR are both set; move the file into the directory, and set one")
        start, (least, most) = self.lead_ms, self.lead_bounds_ms
        if not least <= start <= most:
            raise ConfigError(f"TX_LEAD_MS {start} must lie between TX_LEAD_MIN_MS {least} and TX_LEAD_MAX_MS {most}")
        if most > WITHDRAW_LEAD_MAX_MS and self.barge_in == "withdraw":
            raise ConfigError(
                f"TX_LEAD_MAX_MS {most} is too long for BARGE_IN=withdraw, which stops the AI within the lead; use "
                f"{WITHDRAW_LEAD_MAX_MS} at most, or BARGE_IN=clear"
            )

    @property
    def lead_ms(self) -> int:
        """Where the lead starts. After a `clear` nobody hears a long lead: unless set, it starts at its maximum."""
        is_free = self.barge_in == "clear" and "tx_lead_ms" not in self.given
        return self.tx_lead_max_ms if is_free else self.tx_lead_ms

    @property
    def lead_bounds_ms(self) -> tuple[int, int]:
        """Between what the lead adapts. A bound that is not set gives way to a TX_LEAD_MS that is.

        With BARGE_IN=clear the lead does not fall below its start, unless TX_LEAD_MIN_MS is set.
        """
        least, start, most = self.tx_lead_min_ms, self.lead_ms, self.tx_lead_max_ms
        is_set = self.given
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


NAMES: Final = tuple(each.name for each in fields(Settings) if each.name != "given")
_HINTS: Final = get_type_hints(Settings, include_extras=True)


def read(values: Mapping[str, str]) -> Settings:
    """Settings from text, by names in any case; an empty text means the default. Raises ConfigError, one line."""
    given = {name.lower(): text for name, text in values.items() if text and name.lower() in NAMES}
    try:
        return Settings(**{name: _value(name, text) for name, text in given.items()}, given=frozenset(given))
    except ConfigError as exc:
        raise ConfigError(f"{exc}; set it in .env or the environment") from None


def _value(name: str, text: str) -> Any:
    hint = _HINTS[name]
    if hint in (Path, Path | None):
        return Path(text)
    if name == "log_level":
        text = text.upper()
    if name == "public_url":
        return _origin(text)
    if get_origin(hint) is Literal and text not in get_args(hint):
        raise ConfigError(f"{name.upper()} is {text!r}, and must be one of {', '.join(filter(None, get_args(hint)))}")
    try:
        return msgspec.convert(text, hint, strict=False)
    except msgspec.ValidationError as exc:
        reason = str(exc).replace("`", "")
        raise ConfigError(f"{name.upper()} cannot be used ({reason[:1].lower()}{reason[1:]})") from None


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.rstrip("/") or parts.query:
        raise ConfigError("PUBLIC_URL must be an origin such as https://voice.example.com, without path or query")
    return text.rstrip("/")


def load(directory: Path = Path()) -> Settings:
    """Read the environment and the `.env` of `directory`, and log from LOG_LEVEL on.

    Relative paths in the settings belong to `directory`. Raises ConfigError, one line, for a value that cannot be used.
    """
    settings = read({name.upper(): text for source in _sources(directory) for name, text in source.items() if text})
    log_at(settings.log_level)
    paths = {name: getattr(settings, name) for name in ("data_dir", "agent_file", "agents_dir", "run_dir")}
    given = {name: directory.absolute() / path for name, path in paths.items() if path and not path.is_absolute()}
    return replace(settings, **given)


def _sources(directory: Path) -> tuple[Mapping[str, str | None], ...]:
    """The later one counts."""
    return dotenv_values(directory / ".env"), os.environ


def secret(name: str, directory: Path = Path()) -> str:
    """The value of a variable that a file names, such as an agent's key: from the environment or `.env`."""
    return os.environ.get(name) or dotenv_values(directory / ".env").get(name) or ""


def misspelt(directory: Path = Path()) -> list[str]:
    """A line for each name in the `.env` of `directory` or the environment that is nearly a setting's name."""
    known = [name.upper() for name in NAMES]
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
