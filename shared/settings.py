"""Every setting, from the environment and `.env`. `.env.example` says what each means for a user.

pydantic-settings reads and checks them. A process lets a child do that (`load_in_child`), because the library takes
16 MB, which no process needs after its start.
"""

from __future__ import annotations

import errno
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, get_type_hints
from urllib.parse import urlsplit

from . import bus
from .alike import nearest
from .process import ConfigError, log_at

# An interruption is silent within the lead, a frame and what the hops take: 200 ms at most (the promise).
WITHDRAW_LEAD_MAX_MS: Final = 180
# How alike a name and a setting's name have to be (1: the same) for the one to be the other, misspelt. The environment
# holds variables of other programs: TWILIO_API_KEY and TWILIO_API_URL are 0.79 alike.
ALIKE_IN_FILE: Final = 0.7
ALIKE_IN_ENVIRONMENT: Final = 0.85

EVERY_HOST: Final = frozenset({"0.0.0.0", "::"})
PRIVATE: Final = "set RUN_DIR to a directory that only this user can enter"

# The end of the simulated model's name.
SIMULATED: Final = "-simulated"


def _default_run_dir() -> Path:
    """A directory for this user on a memory file system, short enough for a socket path (107 bytes)."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "twentyms"
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):
        base = memory
    else:
        import tempfile

        base = Path(tempfile.gettempdir())
    return base / f"twentyms-{os.getuid()}"


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _origin_only(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.rstrip("/") or parts.query:
        raise ValueError("must be an origin such as https://voice.example.com, without path or query")
    return value.rstrip("/")


def _url_of_server(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname):
        raise ValueError("must be a URL such as https://host/v1")
    return value


def _by_cores(choose: Callable[[int], int]) -> Callable[[object], object]:
    """For `auto`: the number that `choose` finds for the cores that this process may use, and at least 1."""

    def chosen(value: object) -> object:
        if value != "auto":
            return value
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return max(1, choose(cores))

    return chosen


def setting(
    default: Any,
    *,
    repr: bool = True,
    before: Callable[[Any], object] | None = None,
    after: Callable[[Any], object] | None = None,
    **bounds: object,
) -> Any:
    """A field of Settings. `bounds` are pydantic's; `before` and `after` change a value before or after their check."""
    checks = {"bounds": bounds, "before": before, "after": after}
    return field(default=default, repr=repr, metadata=checks)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings as the processes use them. Raises ValueError for two that contradict each other."""

    # The names of those that the user has set.
    given: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    gateway_host: str = "0.0.0.0"
    gateway_port: int = setting(8080, ge=1, le=65_535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = setting(9464, ge=1, le=65_535)
    public_url: str = setting("", after=_origin_only)

    twilio_account_sid: str = ""
    twilio_auth_token: str = setting("", repr=False)
    twilio_shared_key: str = setting("", repr=False)
    twilio_api_url: str = setting("", after=_url_of_server)
    allow_unsigned: Literal["on", "off"] = "off"

    phone_page: Literal["", "on", "off"] = ""

    openai_api_key: str = setting("", repr=False)
    openai_base_url: str = setting("", after=_url_of_server)
    openai_realtime_model: str = "gpt-realtime-2.1"
    simulated_model: Literal["talk", "parrot"] = "talk"
    agent_file: Path | None = None
    agents_dir: Path | None = None
    # Often holds a token.
    call_config_url: str = setting("", repr=False)

    # On the grid of txpacer's ticks.
    tx_lead_ms: int = setting(120, ge=40, le=1_000, multiple_of=10)
    tx_lead_min_ms: int = setting(60, ge=40, le=1_000, multiple_of=10)
    tx_lead_max_ms: int = setting(180, ge=40, le=1_000, multiple_of=10)
    tx_realtime: Literal["auto", "on", "off"] = "auto"
    tx_cpu: str = setting("", pattern=r"^(\d+(,\d+)*)?$")
    greeting_protect_ms: int = setting(500, ge=0, le=10_000)
    barge_in: Literal["withdraw", "drain", "clear"] = "withdraw"
    barge_in_confirm_ms: int = setting(0, ge=0, le=2_000)
    barge_in_early: Literal["on", "off"] = "off"
    barge_in_early_ms: int = setting(600, ge=100, le=2_000)
    barge_in_short_ms: int = setting(0, ge=0, le=1_000)
    barge_in_threshold: float = setting(0.5, gt=0, lt=1)
    echo_guard: Literal["on", "remove", "off"] = "off"

    model_reconnect_seconds: int = setting(10, ge=1, le=120)
    model_session_minutes: float = setting(55.0, gt=0, le=59)

    fallback_say: str = "We are sorry, we cannot take your call right now. Please try again in a few minutes."
    # With or without the country, and with the usual signs between the digits.
    fallback_dial: str = setting("", pattern=r"^(\+?\(?\d([ ().-]*\d){2,14})?$")
    max_calls: int = setting(150, ge=1)
    max_calls_per_source: int = setting(20, ge=1)
    drain_seconds: int = setting(600, ge=0)

    recording: Literal["off", "on"] = "off"
    # Holds calls.db (unless DATABASE_URL names another database) and the facts that wait for the database.
    data_dir: Path = Path("data")
    # May hold a password.
    database_url: str = setting("", repr=False)
    spool_mb: int = setting(256, ge=1)
    retention_days: int = setting(0, ge=0)
    # Often holds a token.
    webhook_url: str = setting("", repr=False)
    webhook_secret: str = setting("", repr=False)
    model_prices: str = ""
    # The names and meanings are OpenTelemetry's.
    otel_exporter_otlp_endpoint: str = ""
    # Often holds a token.
    otel_exporter_otlp_headers: str = setting("", repr=False)
    otel_service_name: str = "twentyms"
    otel_resource_attributes: str = ""
    trace_words: Literal["on", "off"] = "off"

    # Redis protocol; may hold a password.
    state_url: str = setting("", repr=False, pattern=r"^(rediss?://.+)?$")
    state_key: str = setting("", repr=False)

    tool_processes: int = setting(4, ge=1, le=64)
    tool_memory_mb: int = setting(512, ge=64)

    # Stands in paths, queries and tokens, and is the name of a Kubernetes pod where cells are pods.
    cell: str = setting("", pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?$")
    fleet: Literal["on", "off"] = "off"
    # 0: no such port.
    agent_check_port: int = setting(0, ge=0, le=65_535)

    aibridge_workers: int = setting(1, before=_by_cores(lambda cores: cores // 2), ge=1, le=64)
    # A call costs a gateway and a worker about the same (docs/pacing.md). One core is left to txpacer.
    gateways: int = setting(1, before=_by_cores(lambda cores: (cores - 1) // 2), ge=1, le=64)
    run_dir: Path = field(default_factory=_default_run_dir)
    bus_url: str = setting("", pattern=r"^(tcp://[\w.:\[\]-]+:\d{1,5})?$")
    bus_secret_key: str = setting("", repr=False, pattern=r"^(.{40})?$")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = setting("INFO", before=_in_capitals)

    def __post_init__(self) -> None:
        self._need_one_source_of_agents()
        self._need_names_in_a_fleet()
        self._need_leads_in_order()
        self._need_two_ports()

    def _need_one_source_of_agents(self) -> None:
        if self.agent_file and self.agents_dir:
            raise ValueError("AGENT_FILE and AGENTS_DIR are both set; move the file into the directory, and set one")

    def _need_names_in_a_fleet(self) -> None:
        if self.fleet == "on" and not self.cell:
            raise ValueError("FLEET is on and CELL is not set; give each cell of the fleet a name of its own")

    def _need_leads_in_order(self) -> None:
        start, (least, most) = self.lead_ms, self.lead_bounds_ms
        if not least <= start <= most:
            raise ValueError(f"TX_LEAD_MS {start} must lie between TX_LEAD_MIN_MS {least} and TX_LEAD_MAX_MS {most}")
        if most > WITHDRAW_LEAD_MAX_MS and self.barge_in == "withdraw":
            raise ValueError(
                f"TX_LEAD_MAX_MS {most} is too long for BARGE_IN=withdraw, which stops the AI within the lead; use "
                f"{WITHDRAW_LEAD_MAX_MS} at most, or BARGE_IN=clear"
            )

    def _need_two_ports(self) -> None:
        hosts = {self.gateway_host, self.metrics_host}
        if self.gateway_port == self.metrics_port and (len(hosts) == 1 or hosts & EVERY_HOST):
            raise ValueError(f"GATEWAY_PORT and METRICS_PORT are both {self.gateway_port}; each needs its own")

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


# Settings whose relative paths become absolute.
PATHS: Final = ("data_dir", "agent_file", "agents_dir", "run_dir")
NAMES: Final = tuple(each.name for each in fields(Settings) if each.name != "given")


def read_settings(env_file: Path | None = None, /, **given: Any) -> Settings:
    """Settings from `given`, the environment and `env_file`; the first of them that names a setting decides.

    Raises ConfigError, a line for each value that cannot be used.
    """
    # Not at the top of the file: see there.
    from pydantic import ValidationError
    from pydantic_settings import SettingsConfigDict

    model = _model(SettingsConfigDict(env_file=env_file, extra="ignore", env_ignore_empty=True))
    try:
        found = model(**given)
        return Settings(**{name: getattr(found, name) for name in NAMES}, given=frozenset(found.model_fields_set))
    except ValidationError as exc:
        reasons = [
            f"{str(error['loc'][0]).upper()} {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors(include_url=False, include_input=False)
        ]
    except UnicodeDecodeError:
        raise ConfigError(f"{env_file} is not UTF-8 text; save it as that") from None
    except ValueError as exc:
        reasons = [str(exc)]
    raise ConfigError("\n".join(f"{reason}; set it in .env or the environment" for reason in reasons))


def _model(config: Any) -> Any:
    """pydantic's model of Settings."""
    from pydantic import AfterValidator, BeforeValidator, Field, create_model
    from pydantic_settings import BaseSettings

    class Environment(BaseSettings):
        model_config = config

    types = get_type_hints(Settings)
    definitions: dict[str, Any] = {}
    for each in fields(Settings):
        if each.name not in NAMES:
            continue
        kind = types[each.name]
        if before := each.metadata.get("before"):
            kind = Annotated[kind, BeforeValidator(before)]
        if after := each.metadata.get("after"):
            kind = Annotated[kind, AfterValidator(after)]
        value = each.default_factory() if each.default_factory is not MISSING else each.default
        definitions[each.name] = (kind, Field(default=value, **each.metadata.get("bounds", {})))
    return create_model("Environment", __base__=Environment, **definitions)


def load(directory: Path = Path()) -> Settings:
    """Read the environment and the `.env` of `directory`, and log from LOG_LEVEL on.

    Relative paths in `.env` belong to `directory`, those in the environment to the working directory.
    Raises ConfigError, a line for each value that cannot be used.
    """
    return _use(read_settings(directory / ".env"), directory)


def load_in_child(*, warn: Callable[[str], None] | None = None) -> Settings:
    """Do as `load` does for this directory, with a child that reads. For a process without threads.

    `warn` is called with each line of `misspelt`.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        _answer(sender, is_warned=warn is not None)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise ConfigError("the settings could not be read; the lines above say why")
    found, warnings = pickle.loads(answer)
    if isinstance(found, ConfigError):
        raise found
    settings = _use(found, Path())
    if warn is not None:
        for line in warnings:
            warn(line)
    return settings


def _answer(sender: int, *, is_warned: bool) -> NoReturn:
    """In the child: send the settings, or the ConfigError, and end without the parent's exit handlers."""
    status = 1
    try:
        try:
            # A search for plugins of pydantic reads the metadata of every installed package.
            os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
            answer: Settings | ConfigError = read_settings(Path(".env"))
            warnings = misspelt() if is_warned else []
        except ConfigError as exc:
            answer, warnings = exc, []
        with os.fdopen(sender, "wb") as pipe:
            pickle.dump((answer, warnings), pipe)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _use(settings: Settings, directory: Path) -> Settings:
    log_at(settings.log_level)
    in_environment = {name.lower() for name, value in os.environ.items() if value}
    paths = {name: getattr(settings, name) for name in PATHS}
    homes = {name: Path.cwd() if name in in_environment else directory.absolute() for name in paths}
    return replace(settings, **{name: homes[name] / path for name, path in paths.items() if path})


def secret(name: str, directory: Path = Path()) -> str:
    """The value of a variable that a file names, such as an agent's key: from the environment or `.env`."""
    return os.environ.get(name) or _env_file(directory).get(name) or ""


def _env_file(directory: Path) -> dict[str, str | None]:
    """The `.env` of `directory`. A name without "=" has the value None."""
    # Not at the top of the file: only a child needs it in a process of a cell, unless an agent's file names a variable.
    from dotenv import dotenv_values

    return dotenv_values(directory / ".env")


def misspelt(directory: Path = Path()) -> list[str]:
    """A line for each name in the `.env` of `directory` or the environment that is nearly a setting's name.

    A setting's name that stands in `.env` alone is a line, too.
    """
    known = [name.upper() for name in NAMES]
    file = _env_file(directory)
    sources = ((".env", file, ALIKE_IN_FILE), ("the environment", os.environ, ALIKE_IN_ENVIRONMENT))
    alone = [name for name, value in file.items() if value is None and name.upper() in known]
    return [f"{name} in .env has no value; write {name}= before it, or take it out" for name in alone] + [
        f"{name} in {source} is not a setting and is not used; did you mean {right}?"
        for source, names, alike in sources
        for name in names
        if name.upper() not in known and (right := nearest(name.upper(), known, alike))
    ]


def obstacle(path: Path) -> str:
    """What keeps this user from making or using a directory at `path`; empty: nothing is seen."""
    try:
        there = next(place for place in (path, *path.parents) if place.exists())
    except OSError as exc:
        return exc.strerror or type(exc).__name__
    if not there.is_dir():
        return os.strerror(errno.ENOTDIR)
    return "" if os.access(there, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def check_run_dir(settings: Settings) -> None:
    """Use the key of the bus, and raise ConfigError for what can be told of RUN_DIR without making it."""
    if settings.bus_url and not settings.bus_secret_key:
        raise ConfigError("BUS_SECRET_KEY is not set, and the bus is not used over TCP without it; see .env.example")
    bus.secure(settings.bus_secret_key)
    path = settings.run_dir
    if len(str(path)) > 70:
        raise ConfigError(f"RUN_DIR {path} is too long for socket files (70 characters at most); {PRIVATE}")
    if reason := obstacle(path):
        raise ConfigError(f"RUN_DIR {path} cannot be used ({reason}); {PRIVATE}")


def prepare_run_dir(settings: Settings) -> Path:
    """Make RUN_DIR, mode 0700, or raise ConfigError when it cannot be private to this user."""
    check_run_dir(settings)
    path, advice = settings.run_dir, PRIVATE
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
