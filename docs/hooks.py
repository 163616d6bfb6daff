"""What mkdocs does beside its own work: README.md is the first page, and links to files of the project become names."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    text = (ROOT / "README.md").read_text()
    # Seen from docs/.
    text = re.sub(r"\]\((?!https?:|#)([^)]+)\)", lambda link: f"]({posixpath.relpath(link[1], 'docs')})", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The site holds docs/ alone, so a link that leads out of it is written as the file's name."""
    return re.sub(r"(?<!!)\[[^\]]*\]\(\.\./([^)#]+)[^)]*\)", r"`\1`", markdown)
