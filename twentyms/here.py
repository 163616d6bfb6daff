"""Where twentyms runs on this machine: its directory with the settings, and its ports."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from shared.settings import Settings, load

# The checkout, or the directory into which the wheel was installed.
SOURCE: Final = Path(__file__).resolve().parent.parent
PROCFILE: Final = Path(__file__).with_name("Procfile")
# The agent that answers when nobody has written one.
RESTAURANT: Final = Path(__file__).with_name("examples").resolve() / "restaurant" / "restaurant.toml"


def directory() -> Path:
    """The directory of `.env` and of DATA_DIR: the working directory if it holds a `.env`, else the checkout's.

    A wheel has no checkout: the working directory counts.
    """
    is_checkout = (SOURCE / "pyproject.toml").exists()
    return SOURCE if is_checkout and not Path(".env").exists() else Path.cwd()


def settings() -> Settings:
    """The settings with which `twentyms run` runs. Raises ConfigError."""
    return load(directory())


def is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True
