"""docs/conversation.md holds the tables as the code has them.

`python tests/aibridge/core/test_tables_in_docs.py` writes them there, between their markers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from aibridge.core.barge_in import FLOOR_TABLE
from aibridge.core.cancel_once import MAKING_TABLE
from aibridge.core.chart import Table, as_markdown
from aibridge.core.early_pause import EARLY_PAUSE_TABLE
from aibridge.core.goodbye_and_fallback import GOODBYE_TABLE
from aibridge.core.greeting_protection import GREETING_TABLE
from aibridge.core.hand_off import HAND_OFF_TABLE
from aibridge.core.keypad import KEYS_TABLE
from aibridge.core.owed_and_retry import OWED_TABLE
from aibridge.core.playout import LINE_TABLE
from aibridge.core.reconnect_and_renewal import SESSION_TABLE
from aibridge.core.recording_notice import NOTICE_TABLE
from aibridge.core.responses import TRUTH_TABLE
from aibridge.core.silence import SILENCE_TABLE
from aibridge.core.tones import TONES_TABLE
from aibridge.core.tools import REPLY_TABLE, TOOL_TABLE

DOC: Final = Path(__file__).parents[3] / "docs" / "conversation.md"
TABLES: Final[dict[str, Table[Any, Any, Any]]] = {
    "making": MAKING_TABLE,
    "truth": TRUTH_TABLE,
    "line": LINE_TABLE,
    "floor": FLOOR_TABLE,
    "near": EARLY_PAUSE_TABLE,
    "notice": NOTICE_TABLE,
    "greeting": GREETING_TABLE,
    "owed": OWED_TABLE,
    "session": SESSION_TABLE,
    "goodbye": GOODBYE_TABLE,
    "handoff": HAND_OFF_TABLE,
    "silence": SILENCE_TABLE,
    "keys": KEYS_TABLE,
    "tones": TONES_TABLE,
    "tool": TOOL_TABLE,
    "reply": REPLY_TABLE,
}
MARKED: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def printed(text: str) -> str:
    """The page with every table as the code has it."""
    return MARKED.sub(lambda found: f"{found[1]}{as_markdown(TABLES[found[2]])}\n{found[3]}", text)


def test_the_page_holds_every_table_as_the_code_has_it() -> None:
    text = DOC.read_text()
    assert [found[2] for found in MARKED.finditer(text)] == list(TABLES)
    assert text == printed(text), f"the tables have changed: run python {Path(__file__).name}"


if __name__ == "__main__":
    DOC.write_text(printed(DOC.read_text()))
