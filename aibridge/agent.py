"""An agent in a call: its file with its recordings, and its words with the call's variables."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from shared.agents import variables
from shared.agents.agent_file import AgentFile
from shared.plan import CallPlan, Fallback, HangUp

from .core.rules import Line, Script


class Agent(AgentFile, frozen=True):
    """An agent with everything that a call needs of it; agent.toml explains the fields of the file."""

    name: str = ""
    version: str = ""
    # What the files hold, mu-law.
    greeting_audio: bytes = b""
    notice_audio: bytes = b""
    fallback_audio: bytes = b""

    def is_recorded(self, recording: Literal["off", "on"]) -> bool:
        """As the agent says, or as the setting RECORDING does."""
        return (recording if self.recording == "default" else self.recording) == "on"

    def script(self, *, recorded: bool = False, fallback_ends_call: bool = False) -> Script:
        """The agent's fixed sentences. `fallback_ends_call`: no other number is dialled after the fallback."""
        ends_call = fallback_ends_call and bool(self.fallback_audio)
        return Script(
            notice=Line(self.recording_notice, self.notice_audio) if recorded else Line(),
            greeting=Line(self.greeting, self.greeting_audio),
            fallback=Line(self.fallback, self.fallback_audio),
            fallback_order=HangUp() if ends_call else Fallback(),
        )

    def in_call(self, plan: CallPlan) -> Agent:
        """The agent of one call: its words hold the call's variables."""
        known = variables.values(plan, self.name, self.timezone, self.variables)
        instructions, greeting = variables.fill(self.instructions, known), variables.fill(self.greeting, known)
        return msgspec.structs.replace(self, instructions=instructions, greeting=greeting)

    def told(self) -> bytes:
        """The agent for the story: without its recordings, which a successor may have."""
        return _encoder.encode(msgspec.structs.replace(self, greeting_audio=b"", notice_audio=b"", fallback_audio=b""))


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Agent)


def retold(told: bytes) -> Agent | None:
    """The agent of a story; None: the story holds none that can be read."""
    try:
        return _decoder.decode(told)
    except (msgspec.MsgspecError, RecursionError):
        return None
