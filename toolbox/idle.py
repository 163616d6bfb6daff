"""What toolbox becomes when no agent has tools: a process of 5 MB that waits for a signal.

A supervisor may expect its processes to stay. At SIGHUP it looks for tools again.
"""

import os
import signal
import sys


def main() -> None:
    arguments = [sys.executable, "-m", "toolbox"]
    signal.signal(signal.SIGHUP, lambda *_: os.execv(sys.executable, arguments))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
