"""The scripts of the simulated model: what it says and which tools it calls."""

from __future__ import annotations

from typing import Any

from simulator.model.behaviour import Behaviour
from simulator.model.script import ASKED, scripts
from simulator.voice import clip

from .session_client import Client

OPENING_HOURS = {"type": "function", "name": "opening_hours", "description": "d", "parameters": {}}
BOOK_TABLE = OPENING_HOURS | {"name": "book_table"}
END_CALL = OPENING_HOURS | {"name": "end_call"}
TRANSFER_CALL = OPENING_HOURS | {"name": "transfer_call"}
OWN = OPENING_HOURS | {
    "name": "order_pizza",
    "parameters": {"type": "object", "properties": {"size": {"enum": ["big"]}}, "required": ["size"]},
}


class Talk(Client):
    """A client that answers tools, and lists what the model said and called."""

    def __init__(self, *tools: dict[str, Any]) -> None:
        super().__init__(Behaviour.embedded("talk"))
        self.update(tools=list(tools))

    def turn(self, **response: Any) -> list[str]:
        """The model's next response: the names of the lines, and of the functions with their arguments."""
        seen = len(self.events)
        self.send("response.create", response=response)
        self.run(40_000)
        done = [event["item"] for event in self.events[seen:] if event["type"] == "response.output_item.done"]
        return [
            f"{item['name']} {item['arguments']}" if item["type"] == "function_call" else name_of(item) for item in done
        ]

    def answer(self, output: str) -> None:
        calls = [event["item"] for event in self.events if event["type"] == "response.output_item.done"]
        call_id = [item["call_id"] for item in calls if item["type"] == "function_call"][-1]
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        self.send("conversation.item.create", item=item)

    def speaks(self, text: str = "(speech)") -> None:
        self.send("conversation.item.create", item=_message("user", "input_text", text))


def _message(role: str, kind: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def name_of(item: dict[str, Any]) -> str:
    words = item["content"][0]["transcript"]
    return next(name for name in LINES if clip(name).text == words)


LINES = {
    *(line for script in scripts() for line in (script.greeting, script.interrupted_greeting, script.keys)),
    *(line for script in scripts() for line in script.interrupted),
    *(step.say for script in scripts() for step in script.steps if step.say),
    *(step.say for script in scripts() for step in script.on_keys.values()),
    *(
        answer.say
        for script in scripts()
        for step in (*script.steps, *script.on_keys.values())
        for answer in step.answers
    ),
    *(line for _, line in ASKED),
    "tool-calling",
    "tool-answered",
    "tool-failed",
}


def test_every_line_of_every_script_is_recorded() -> None:
    assert all(clip(line).audio for line in LINES)


def test_the_receptionist_looks_up_books_and_says_goodbye() -> None:
    talk = Talk(OPENING_HOURS, BOOK_TABLE, END_CALL)
    assert talk.turn(instructions="Greet the caller now.") == ["restaurant-greeting"]
    talk.speaks()
    assert talk.turn() == ["restaurant-looking", 'opening_hours {"day": "Saturday"}']
    talk.answer("12:00 to 23:00")
    assert talk.turn() == ["restaurant-open"]
    talk.speaks()
    line, call = talk.turn()
    assert (line, call.split()[0]) == ("restaurant-booking", "book_table")
    talk.answer("There is no table for 4 on Saturday.")
    assert talk.turn() == ["restaurant-full"]
    talk.speaks()
    assert talk.turn() == ["restaurant-terrace"]
    talk.speaks()
    assert talk.turn() == ["restaurant-goodbye", "end_call {}"]


def test_a_tool_that_no_script_knows_is_called_with_arguments_of_its_schema() -> None:
    talk = Talk(OWN, END_CALL)
    assert talk.turn() == ["script-greeting"]
    talk.speaks()
    assert talk.turn() == ["tool-calling", 'order_pizza {"size": "big"}']
    talk.answer('{"error": "no oven"}')
    assert talk.turn() == ["tool-failed"]
    talk.speaks()
    assert talk.turn() == ["script-interrupt"]


def test_an_interrupted_line_is_not_said_again_and_the_interruption_is_answered() -> None:
    talk = Talk()
    talk.turn()
    greeting = talk.events[-1]["response"]["output"][0]["id"]
    talk.send("conversation.item.truncate", item_id=greeting, content_index=0, audio_end_ms=700)
    talk.speaks()
    assert talk.turn() == ["go-ahead"]
    talk.speaks()
    assert talk.turn() == ["script-interrupt"]


def test_a_new_session_goes_on_where_the_history_ends() -> None:
    talk = Talk()
    for line in ("script-greeting", "script-interrupt"):
        talk.send("conversation.item.create", item=_message("assistant", "output_text", clip(line).text[:30]))
        talk.speaks()
    assert talk.turn() == ["script-frames"]


def test_a_key_connects_the_caller_with_a_person_where_the_agent_may_do_so() -> None:
    talk = Talk(OPENING_HOURS, BOOK_TABLE, TRANSFER_CALL)
    talk.turn()
    talk.speaks("(The caller pressed on the phone's keypad: 4)")
    assert talk.turn() == ["keys-received"]
    talk.speaks("(The caller pressed on the phone's keypad: 0)")
    assert talk.turn() == ["restaurant-transfer", 'transfer_call {"destination": "staff"}']
    talk.answer('{"ok":false,"state":"Nobody answered."}')
    assert talk.turn() == ["restaurant-nobody"]
    other = Talk(OPENING_HOURS, BOOK_TABLE)
    other.turn()
    other.speaks("(The caller pressed on the phone's keypad: 0)")
    assert other.turn() == ["keys-received"]


def test_what_a_clients_instructions_ask_for_comes_first() -> None:
    talk = Talk(OPENING_HOURS)
    talk.turn()
    asked = talk.turn(instructions="Ask in a few words whether they are still there.", tool_choice="none")
    assert asked == ["still-there"]


def test_a_script_without_an_end_begins_again() -> None:
    talk = Talk()
    said = []
    for _ in range(7):
        said += talk.turn()
        talk.speaks()
    assert len(set(said[1:5])) == 4
    assert set(said[5:]) <= set(said[1:5])
