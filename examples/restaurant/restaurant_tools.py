"""The tools of the restaurant. The model knows their names, type hints and docstrings, and nothing else of them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from twentyms import CallContext, ToolError, tool

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

HOURS = {"Monday": "closed", "Friday": "17:00 to 24:00", "Saturday": "12:00 to 23:00", "Sunday": "12:00 to 22:00"}
SEATS = 40
# What tools share between calls belongs into a database or a file: each runs in one of several processes.
DATABASE = Path(os.environ.get("DATA_DIR") or "data") / "restaurant.db"


@tool(side_effect=False)
def opening_hours(day: Day) -> str:
    """When the restaurant is open on a day of the week."""
    return HOURS.get(day, "17:00 to 23:00")


@tool(deadline_s=5)
def book_table(day: Day, time: str, guests: int, name: str, call: CallContext) -> str:
    """Book a table.

    Args:
        day: The day of the week.
        time: When the guests come, such as 19:30.
        guests: How many come.
        name: Whom the table is for.
    """
    if HOURS.get(day) == "closed":
        raise ToolError(f"The restaurant is closed on {day}.")
    on = upcoming(day)
    # They name this call of the tool: whatever happens, it makes one booking.
    once = f"{call.call_sid} {call.call_id}"
    with closing(database()) as bookings, bookings:
        bookings.execute("BEGIN IMMEDIATE")
        others = "SELECT coalesce(sum(guests), 0) FROM booking WHERE day = ? AND once <> ?"
        (taken,) = bookings.execute(others, (on, once)).fetchone()
        if taken + guests > SEATS:
            raise ToolError(f"There is no table for {guests} on {day}.")
        row = (once, on, time, guests, name, call.from_number)
        bookings.execute("INSERT OR IGNORE INTO booking VALUES (?, ?, ?, ?, ?, ?)", row)
    return f"A table is booked for {guests} on {day} at {time}."


def upcoming(day: str) -> str:
    """The date of the next such day, today included."""
    today = date.today()
    return next(each.isoformat() for each in (today + timedelta(n) for n in range(7)) if f"{each:%A}" == day)


def database() -> sqlite3.Connection:
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    bookings = sqlite3.connect(DATABASE, timeout=4)
    bookings.execute(
        "CREATE TABLE IF NOT EXISTS booking "
        "(once TEXT PRIMARY KEY, day TEXT, time TEXT, guests INTEGER, name TEXT, phone TEXT)"
    )
    return bookings
