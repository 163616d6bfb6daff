"""Make a folder with an agent of your own: its file, its tools and its settings, ready to run.

  twentyms new my-agent
  cd my-agent
  twentyms run

Asks nothing; comments in the files explain what to change. Never writes over a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.process import ConfigError

from .arguments import Parser

TEMPLATE: Final = Path(__file__).with_name("template")
# A wheel and a checkout would leave out names that begin with a dot.
NAMES: Final = {"env": ".env", "gitignore": ".gitignore"}


def main(arguments: Sequence[str]) -> int:
    """Raises ConfigError for a folder that holds something already, or cannot be made."""
    parser = Parser("new", __doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder to make, such as my-agent")
    folder: Path = parser.parse_args(arguments).folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; name a new folder")
        for source in sorted(path for path in TEMPLATE.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            made = folder / source.relative_to(TEMPLATE).with_name(NAMES.get(source.name, source.name))
            made.parent.mkdir(exist_ok=True)
            made.write_bytes(source.read_bytes())
        # Keys will stand in it.
        (folder / ".env").chmod(0o600)
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be made ({exc.strerror}); name another folder") from None
    print(
        f"Made {folder}:\n"
        "  agent.toml  who answers: instructions, greeting, voice\n"
        "  tools.py    what it can do: two functions to replace by yours\n"
        "  scenarios/  its tests: what callers say, and what must come of it\n"
        "  .env        the settings: keys, Twilio, recording\n"
        "  README.md   the commands to know\n\n"
        f"Next:\n  cd {folder}\n  twentyms run"
    )
    return 0
