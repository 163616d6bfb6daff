"""What the agent can do during a call. The model reads each function's name, its docstring and its type hints."""

from __future__ import annotations

from typing import Literal

from twentyms import ToolError, tool

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# In place of a real shop's database.
REPAIRS = {1001: "ready to be collected", 1002: "waiting for a new chain"}


@tool(side_effect=False)
def opening_hours(day: Day) -> str:
    """When the workshop is open on a day of the week."""
    return "closed" if day == "Sunday" else "9 to 18"


# side_effect=False says that a call only looks something up, so it may be repeated. Leave it out for a tool that
# changes something.
@tool(side_effect=False)
def repair_status(number: int) -> str:
    """Whether a repair is done.

    Args:
        number: The number on the receipt, four digits.
    """
    if number not in REPAIRS:
        # The model hears this sentence, and tells the caller in its own words.
        raise ToolError(f"There is no repair with the number {number}. Ask the caller to read it again.")
    return f"The bicycle is {REPAIRS[number]}."
