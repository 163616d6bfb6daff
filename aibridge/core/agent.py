"""An agent in a call: its file with its recordings, and its words with the call's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from shared.agents import variables
from shared.agents.agent_file import AgentFile
from shared.plan import CallPlan, Fallback, HangUp

from .rules import Line, Script

# Keys that a call may have of its own. None of them names a file, a server or a key.
OVERRIDABLE: Final = frozenset(("instructions", "greeting", "voice", "language", "model"))


class Agent(AgentFile, frozen=True):
    """An agent with everything that a call needs of it; agent.toml explains the fields of the file."""

    name: str = ""
    version: str = ""
    # toolbox carries out its tools; what the file says of them stays there.
    has_tools: bool = False
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
        """The agent of one call, with the values of the plan: its words hold the call's variables."""
        own: dict[str, Any] = {key: value for key, value in plan.overrides.items() if key in OVERRIDABLE}
        if "greeting" in own:
            own["greeting_audio"] = b""
        known = variables.values(plan, self.name, self.timezone, self.variables)
        for name in ("instructions", "greeting"):
            own[name] = variables.fill(own.get(name, getattr(self, name)), known)
        return msgspec.structs.replace(self, **own)

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


class Agents:
    """All agents by name, the default, and the keys of their models by the name of the environment variable."""

    def __init__(self, agents: Mapping[str, Agent], default: Agent, keys: Mapping[str, str] | None = None) -> None:
        self.by_name = agents
        self.default = default
        self.keys = keys or {}

    def of_plan(self, plan: CallPlan) -> Agent | None:
        """The agent that a plan names, in that call; None: there is none of this name."""
        agent = self.by_name.get(plan.agent) if plan.agent else self.default
        return agent.in_call(plan) if agent is not None else None

    def of_story(self, told: bytes) -> Agent | None:
        """The agent of a predecessor's call, as it began; None: the story holds none.

        Its recordings are those of this worker if the agent's file is the same here.
        """
        agent = retold(told)
        here = self.by_name.get(agent.name) if agent is not None else None
        if agent is None or here is None or here.version != agent.version:
            return agent
        # A call may have other words for its greeting.
        greeting = here.greeting_audio if here.greeting == agent.greeting else b""
        return msgspec.structs.replace(
            agent, greeting_audio=greeting, notice_audio=here.notice_audio, fallback_audio=here.fallback_audio
        )
