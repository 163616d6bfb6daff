"""`python -m toolbox.runners KIND FD`: a child of toolbox, started by it. FD is its end of the socket to toolbox.

What the child needs to know comes over the socket, because a command line is visible to every user of the machine.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
from typing import Final

from shared.process import die_with_parent

from ..pipe import CannotStart, Frames, Setup, ToChild, frame
from .limits import end_first

MODULES: Final = {"python": "python_tools", "http": "http_tools", "mcp": "mcp_server"}


def main() -> None:
    kind, descriptor = sys.argv[1:]
    # User code may ignore any other signal.
    die_with_parent(signal.SIGKILL)
    end_first()
    # Ctrl-C reaches toolbox, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(int(descriptor), False)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    sock = socket.socket(fileno=int(descriptor))
    setup = _read_setup(sock)
    try:
        module = importlib.import_module(f"toolbox.runners.{MODULES[kind]}")
    except ModuleNotFoundError as exc:
        if exc.name not in ("mcp", "mcp_types"):
            raise
        sock.sendall(frame(CannotStart("the mcp package is not installed: pip install 'twentyms[mcp]'")))
        sys.exit(1)
    module.main(sock, setup)


def _read_setup(sock: socket.socket) -> Setup:
    """The first message. toolbox sends nothing else before the child is ready."""
    frames = Frames(ToChild)
    while data := sock.recv(65_536):
        for message in frames.feed(data):
            if isinstance(message, Setup):
                return message
    sys.exit(0)


if __name__ == "__main__":
    main()
