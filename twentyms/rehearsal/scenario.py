"""A scenario of `twentyms rehearse`: what a caller says, when, and what must hold. docs/rehearse.md shows one.

Pure but for `read`, which opens a file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from shared.alike import nearest
from shared.process import ConfigError
from simulator.carrier.caller import AiHeard, AiSilent, HangUp, Press, Say, Trigger, Wait
from simulator.carrier.caller import Step as CallerStep

When = Literal["after", "into", "silence"]
Ms = Annotated[int, Meta(ge=0, le=600_000)]
# What `ms` is where a step does not say it.
USUAL_MS: Final[dict[str, int]] = {"after": 600, "into": 1_500, "silence": 3_000}
# Between two keys that one step presses.
KEY_MS: Final = 250


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of `say` (words), `wav` (a file), `clip` (a recording of the simulator), `keys` and `hang_up`."""

    say: str = ""
    wav: str = ""
    clip: str = ""
    keys: Annotated[str, Meta(pattern=r"^[0-9*#A-D]*$")] = ""
    hang_up: bool = False
    # "after" the AI has spoken and is silent for `ms`; `ms` "into" its words; `ms` of "silence" after the step before.
    when: When = "after"
    ms: Ms | None = None

    @property
    def trigger(self) -> Trigger:
        ms = USUAL_MS[self.when] if self.ms is None else self.ms
        match self.when:
            case "after":
                return AiSilent(ms)
            case "into":
                return AiHeard(ms)
            case "silence":
                return Wait(ms)


class ExpectedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that must have been called. `arguments` are those that must be equal; there may be more."""

    name: str
    arguments: dict[str, Any] = {}
    times: Annotated[int, Meta(ge=0)] = 1
    outcome: str = "done"


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold. What is not named is not judged, but for gaps: the caller must hear none."""

    tool: tuple[ExpectedTool, ...] = ()
    # Words that the caller heard, or must not have heard; case does not count.
    heard: tuple[str, ...] = ()
    not_heard: tuple[str, ...] = ()
    ended_by: Literal["", "caller", "agent"] = ""
    agent: str = ""  # who spoke last
    # From the caller's last sound to the AI's first, at each polite turn.
    answered_within_ms: Ms | None = None
    interruptions_at_most: Annotated[int, Meta(ge=0)] | None = None
    gaps_ms_at_most: Ms = 0
    # Sentences about the transcript that a text model must find true.
    opinion: tuple[str, ...] = ()


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    step: tuple[Step, ...]
    expect: Expect = Expect()
    name: str = ""
    # The agent that is called; empty: the one that answers unknown numbers.
    agent: str = ""
    from_number: Annotated[str, Meta(pattern=r"^(\+\d{3,15}|anonymous)?$")] = ""
    limit_s: Annotated[float, Meta(gt=0, le=3_600)] = 120.0
    times: Annotated[int, Meta(ge=1, le=1_000)] = 1
    # Of the file, for `wav`.
    directory: str = "."


def read(path: Path) -> Scenario:
    """Raises ConfigError: one line with the file, the key, what is wrong and what to do."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read ({exc.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not TOML ({exc}); docs/rehearse.md shows a scenario") from None
    return convert({"name": path.stem, **table, "directory": str(path.parent)}, str(path))


def convert(table: dict[str, Any], label: str) -> Scenario:
    """A scenario of a table that was read from `label`. Raises ConfigError."""
    for problem in (*_unknown(table, Scenario, ""), *_malformed(table)):
        raise ConfigError(f"{label}: {problem}")
    try:
        scenario = msgspec.convert(table, Scenario)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{label}: {exc}; docs/rehearse.md shows what each key holds") from None
    for number, step in enumerate(scenario.step, 1):
        said = sum(map(bool, (step.say, step.wav, step.clip, step.keys, step.hang_up)))
        if said != 1:
            raise ConfigError(f"{label}: step {number}: write one of say, wav, clip, keys and hang_up in it")
    return scenario


def _malformed(table: dict[str, Any]) -> Iterator[str]:
    if not table.get("step"):
        yield "no [[step]] is there; say what the caller does"


def _unknown(table: Any, kind: Any, prefix: str) -> Iterator[str]:
    """A line for each key that does not exist, with the nearest one that does."""
    for struct in (kind, *get_args(kind)):
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            break
    else:
        return
    if isinstance(table, list):
        for each in table:
            yield from _unknown(each, struct, prefix)
    elif isinstance(table, dict):
        known = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
        for key, value in table.items():
            if key not in known:
                right = nearest(key, known)
                advice = f"did you mean {prefix}{right}?" if right else "docs/rehearse.md has the keys"
                yield f"{prefix}{key}: there is no such key; {advice}"
            elif not prefix.endswith("arguments."):
                yield from _unknown(value, known[key], f"{prefix}{key}.")


def script(scenario: Scenario, audio: Callable[[Step], bytes]) -> tuple[CallerStep, ...]:
    """The caller's steps; `audio` gives the mu-law of a step that speaks. The caller hangs up after the last one."""
    steps: list[CallerStep] = []
    for step in scenario.step:
        if step.hang_up:
            steps.append(HangUp(step.trigger))
        elif step.keys:
            steps.append(Press(step.keys[0], step.trigger))
            steps += (Press(key, Wait(KEY_MS)) for key in step.keys[1:])
        else:
            steps.append(Say(step.say or step.wav or step.clip, step.trigger, audio(step)))
    if not isinstance(steps[-1], HangUp):
        # An agent that ends the call itself does so before.
        steps.append(HangUp(AiSilent(ms=8_000)))
    return tuple(steps)
