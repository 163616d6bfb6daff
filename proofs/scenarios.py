"""Every order of events that matters to turn taking, as calls that proofs.matrix carries and judges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, Final

from shared.audio import BYTES_PER_MS, FRAME_BYTES, SILENCE, linear_to_mulaw
from simulator.carrier.caller import AfterAnswer, AiHeard, AiSilent, HangUp, Say, Wait
from simulator.model.behaviour import Behaviour
from simulator.voice import clip

from .cell.cell import Cell
from .early_scenarios import early_scenarios
from .ending_scenarios import ending_scenarios
from .key_scenarios import key_scenarios
from .scenario import Expected, Scenario, Sessions
from .tool_scenarios import tool_scenarios
from .verdict import Verdict

# A polite end: the AI has said everything.
BYE: Final = HangUp(AiSilent(ms=1_200))
# A caller's utterance of 1.4 s, and one of 0.8 s.
LONG: Final = "vm-sorry"
SHORT: Final = "hello"
# The longest answer: it is heard long after it was made.
ANSWER_MS: Final = 9_000
# What Twilio notes whenever the server ends a call (protocol facts of Media Streams, error 31921).
_CLOSED: Final = Expected("warning", "31921")


@cache
def spoken(ms: int, seed: int = 7) -> bytes:
    """Speech of exactly this length: a recorded voice, from its first loud moment on."""
    audio = clip("tt-weasels").audio[1_600:]
    assert len(audio) >= ms * BYTES_PER_MS
    return audio[: ms * BYTES_PER_MS]


@cache
def cough(ms: int = 180) -> bytes:
    """A burst of noise, which voice activity detection takes for speech."""
    noise = random.Random(5)
    return bytes(linear_to_mulaw(noise.randint(-9_000, 9_000)) for _ in range(ms * BYTES_PER_MS)) + SILENCE * 160


def say(ms: int, when: Any) -> Say:
    return Say(f"speech of {ms} ms", when, spoken(ms))


def _heard_whole_greeting(verdict: Verdict, _: Sessions) -> str:
    greeting = verdict.greeting
    if greeting is None or greeting.heard_ms < greeting.total_ms:
        return "The greeting was cut although the caller had stopped."
    return ""


def _protection() -> Iterator[Scenario]:
    """Greeting protection of every length, with speech that ends inside it and after it."""
    for protect in (0, 100, 300, 499, 500, 501, 900):
        env = {"GREETING_PROTECT_MS": str(protect)}
        yield Scenario(
            f"greeting: {protect} ms, speech goes on",
            (say(2_000, AiHeard(ms=0)), BYE),
            env=env,
            interruptions=1,
            virtual_only=protect != 500,
        )
        yield Scenario(
            f"greeting: {protect} ms, speech after it",
            (say(1_500, AiHeard(ms=protect + 300)), BYE),
            env=env,
            interruptions=1,
            virtual_only=protect != 500,
        )
        if protect >= 300:
            # Noticed 60 ms after its start, over 200 ms before the window ends; the server says so 500 ms later still.
            yield Scenario(
                f"greeting: {protect} ms, speech ends inside",
                (Say("cough", AiHeard(ms=0), cough(min(180, protect - 240) if protect < 499 else 160)), BYE),
                env=env,
                interruptions=0,
                also=_heard_whole_greeting,
                virtual_only=protect != 500,
            )
    for start in (300, 340, 380, 420, 440, 460, 480, 500, 520, 560, 600):
        yield Scenario(
            f"greeting: 500 ms, speech from {start} ms on",
            (say(900, AiHeard(ms=start)), BYE),
            interruptions=1,
            virtual_only=True,
        )
    yield Scenario(
        "greeting: the caller speaks first",
        (say(500, AfterAnswer(ms=40)), BYE),
        behaviours=(Behaviour(first_delta_ms=500),),
        interruptions=0,
        also=_heard_whole_greeting,
    )
    yield Scenario(
        "greeting: made whole before the interruption",
        (say(1_500, AiHeard(ms=200)), BYE),
        behaviours=(Behaviour(speed=50),),
        interruptions=1,
    )


def _answers() -> Iterator[Scenario]:
    """Interruptions of an answer in every state of the response and of the playout."""
    polite = (Say(SHORT, AiSilent(ms=400)),)
    for name, behaviour in {
        "one item": Behaviour(answer_ms=ANSWER_MS),
        "preamble, then the answer": Behaviour(answer_ms=ANSWER_MS, preamble=True),
        "made whole at once": Behaviour(answer_ms=ANSWER_MS, speed=60),
        "made whole at once, two items": Behaviour(answer_ms=ANSWER_MS, speed=60, preamble=True),
        # An answer of 90 s: the caller does not wait for the end of the last one.
        "ten times as much": replace(
            Behaviour(answer_ms=ANSWER_MS, speed=60, flood_times=10), responses=(Behaviour(speed=60),)
        ),
        "made hardly faster than speech": Behaviour(answer_ms=ANSWER_MS, speed=1.2),
        "ragged deltas": Behaviour(answer_ms=ANSWER_MS, ragged=True),
        "stale deltas after the cancel": Behaviour(answer_ms=ANSWER_MS, stale_deltas_after_cancel=4, speed=3),
        "transcript early": Behaviour(answer_ms=ANSWER_MS, transcript="early"),
        "transcript late": Behaviour(answer_ms=ANSWER_MS, transcript="late"),
        "transcript never": Behaviour(answer_ms=ANSWER_MS, transcript="never", transcription="never"),
    }.items():
        for at_ms in (0, 60, 700, 1_500, 4_000):
            yield Scenario(
                f"answer: {name}, interrupted at {at_ms} ms",
                (
                    *polite,
                    Say(LONG, AiHeard(ms=at_ms)),
                    HangUp(AiHeard(ms=9_000)) if behaviour.flood_times > 1 else BYE,
                ),
                (behaviour,),
                interruptions=1,
                virtual_only=at_ms not in (700, 4_000),
            )
    yield Scenario(
        "answer: interrupted while it is thought of",
        (*polite, Say(SHORT, Wait(ms=800)), BYE),
        (Behaviour(first_delta_ms=1_500),),
    )
    yield Scenario(
        "answer: speech twice in one interruption",
        (*polite, say(300, AiHeard(ms=2_000)), say(900, Wait(ms=560)), BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
    )
    yield Scenario(
        "answer: three in a row, each interrupted",
        (*polite, *(Say(LONG, AiHeard(ms=200, upto_ms=3_000)) for _ in range(3)), BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
        interruptions=3,
    )
    # The cancel is on its way while the response is finished: its end is moved over 24 ms, and some calls cross.
    for made_ms in range(1_048, 1_073, 3):
        yield Scenario(
            f"answer: made in {made_ms} ms, the cancel may cross its end",
            (*polite, Say(LONG, AiHeard(ms=1_000)), BYE),
            (Behaviour(answer_ms=8_000, speed=8_000 / made_ms),),
            interruptions=1,
            virtual_only=True,
        )


def _model() -> Iterator[Scenario]:
    """Failures and delays of the model."""
    polite = (Say(SHORT, AiSilent(ms=400)), Say(LONG, AiSilent(ms=400)))
    yield Scenario(
        "model: no audio, then an answer",
        (Say(SHORT, AfterAnswer(ms=1_500)), Say(LONG, AiSilent(ms=400)), BYE),
        (Behaviour(responses=(Behaviour(no_audio="empty"),)),),
    )
    yield Scenario(
        "model: text only, then an answer",
        (Say(SHORT, AfterAnswer(ms=1_500)), BYE),
        (Behaviour(responses=(Behaviour(no_audio="text"),)),),
    )
    yield Scenario(
        "model: a function call, interrupted",
        (Say(SHORT, AiSilent(ms=400)), Say(LONG, AiHeard(ms=900)), BYE),
        (Behaviour(responses=(Behaviour(), Behaviour(preamble=True, tool_call="end_call"))),),
        virtual_only=True,
    )
    yield Scenario(
        "model: hangs up after its goodbye",
        (Say(SHORT, AiSilent(ms=400)), HangUp(AiSilent(ms=9_000))),
        (Behaviour(responses=(Behaviour(), Behaviour(preamble=True, tool_call="end_call"))),),
        forced=(_CLOSED,),
        also=_ended_by_server,
    )
    yield Scenario(
        "model: speaks up by itself (idle time-out)",
        (HangUp(AfterAnswer(ms=24_000)),),
        agent={"turn_detection": {"idle_timeout_ms": 5_000}},
        virtual_only=True,
    )
    yield Scenario(
        "model: recoverable errors all the time",
        (*polite, BYE),
        (Behaviour(recoverable_error_every_ms=700),),
        forced=(Expected("error", "server_error", amount=(30, 60)),),
    )
    for code in ("rate_limit_exceeded", "server_error"):
        for which, responses in {
            "greeting": (Behaviour(failure=code), Behaviour(failure=code), Behaviour()),
            "answer": (Behaviour(), Behaviour(failure=code), Behaviour()),
        }.items():
            yield Scenario(
                f"model: the {which} fails ({code})",
                (Say(SHORT, AiSilent(ms=400)), BYE),
                (Behaviour(responses=responses),),
                # Asked again after a pause, and once more for the model's own 300 ms.
                forced=(Expected("late answer", amount=(550, 1_000)),) if which == "answer" else (),
                virtual_only=code == "server_error",
            )
    yield Scenario(
        "model: every response fails",
        (HangUp(AfterAnswer(ms=30_000)),),
        (Behaviour(failure="server_error"),),
        forced=(Expected("silence"), _CLOSED),
        also=_ended_by_server,
    )
    yield Scenario(
        "model: stalls in mid-sentence",
        (Say(SHORT, AiSilent(ms=400)), Say(LONG, AiHeard(ms=2_500)), BYE),
        (Behaviour(answer_ms=ANSWER_MS, stall_at_ms=600, stall_ms=1_500, speed=4),),
        # The model was slower than speech: 1.5 s, less what it was ahead by then.
        forced=(Expected("gap", amount=(950, 1_150)),),
    )
    yield Scenario(
        "model: goes mute in mid-sentence, and answers no cancel",
        (Say(SHORT, AiSilent(ms=400)), Say(LONG, AiHeard(ms=2_500)), BYE),
        (
            Behaviour(
                responses=(
                    Behaviour(),
                    Behaviour(answer_ms=ANSWER_MS, stall_at_ms=5_000, stall_ms=90_000, stale_deltas_after_cancel=1),
                )
            ),
            Behaviour(),
        ),
        interruptions=1,
        # The session that was given up is not told what was heard: 5 s had been made.
        forced=(Expected("history", amount=(1_500, 2_500)), Expected("late answer", amount=(1_500, 2_600))),
        also=_went_on_with_another_session,
        virtual_only=True,
    )
    for name, mute in {
        "before its first word": Behaviour(first_delta_ms=90_000),
        "in mid-sentence": Behaviour(answer_ms=ANSWER_MS, stall_at_ms=3_000, stall_ms=90_000),
    }.items():
        yield Scenario(
            f"model: goes mute {name}, and the caller waits",
            (Say(SHORT, AiSilent(ms=400)), HangUp(AfterAnswer(ms=45_000))),
            (Behaviour(responses=(Behaviour(), mute)), Behaviour()),
            interruptions=0,
            # A response yields nothing for 20 s: that is when it is given up.
            forced=() if mute.stall_ms else (Expected("late answer", amount=(19_500, 20_500)),),
            also=_went_on_with_another_session,
            virtual_only=True,
        )


def _went_on_with_another_session(_: Verdict, sessions: Sessions) -> str:
    said = [any(response["status"] == "completed" for response in session["responses"]) for session in sessions]
    return "" if said == [True, True] else "The call did not go on with another session."


def _ended_by_server(verdict: Verdict, _: Sessions) -> str:
    return "" if verdict.outcome == "hung-up-by-server" else f"It ended {verdict.outcome}."


def _uncut(_: Verdict, sessions: Sessions) -> str:
    cut = any(item["truncated_ms"] is not None for session in sessions for item in session["items"])
    return "An item was cut without an interruption." if cut else ""


def _losses() -> Iterator[Scenario]:
    """The model's socket is lost."""
    polite = (Say(SHORT, AiSilent(ms=400)),)
    ends = (Say(LONG, AiSilent(ms=1_500)), BYE)
    healthy = Behaviour(answer_ms=ANSWER_MS)
    breaks = Behaviour(responses=(Behaviour(), Behaviour(answer_ms=ANSWER_MS, drop_utterance_at_ms=3_000)))
    yield Scenario("loss: in mid-sentence", (*polite, *ends), (breaks, healthy))
    yield Scenario(
        "loss: in mid-sentence, interrupted",
        (*polite, Say(LONG, AiHeard(ms=1_500)), BYE),
        (breaks, healthy),
    )
    yield Scenario(
        "loss: in the greeting",
        ends,
        (Behaviour(responses=(Behaviour(drop_utterance_at_ms=900),)), healthy),
    )
    yield Scenario("loss: before the greeting", ends, (Behaviour(first_delta_ms=900, drop_session_at_ms=700), healthy))
    for at_ms in (3_700, 4_200, 4_600, 5_000):
        yield Scenario(
            f"loss: while the caller speaks ({at_ms})",
            (Say("tt-weasels", AfterAnswer(ms=3_400)), BYE),
            (Behaviour(drop_session_at_ms=at_ms), Behaviour(answer_ms=3_000)),
            virtual_only=True,
        )
    for at_ms in (8_280, 8_320, 8_360, 8_500):  # the words begin 8,290 ms after the session
        yield Scenario(
            f"loss: as the caller begins to speak ({at_ms})",
            (Say(LONG, AfterAnswer(ms=8_000)), BYE),
            (Behaviour(drop_session_at_ms=at_ms), Behaviour(answer_ms=3_000)),
            virtual_only=True,
        )
    yield Scenario(
        "loss: the session expires (1001)",
        (*polite, Say(LONG, AiSilent(ms=400)), *ends),
        (Behaviour(expire_after_ms=9_000), Behaviour()),
        forced=(Expected("error", "session_expired"),),
    )
    yield Scenario(
        "loss: three refusals, then the model is back",
        (*polite, *ends),
        (breaks, *3 * (Behaviour(refuse="unavailable"),), healthy),
    )
    yield Scenario(
        "loss: the model never comes back",
        (*polite, HangUp(AfterAnswer(ms=40_000))),
        (breaks, Behaviour(refuse="unavailable")),
        forced=(_CLOSED,),
        also=_ended_by_server,
    )
    yield Scenario(
        "loss: the key is refused",
        (*polite, HangUp(AfterAnswer(ms=40_000))),
        (breaks, Behaviour(refuse="key")),
        forced=(_CLOSED,),
        also=_ended_by_server,
    )
    yield Scenario(
        "loss: a fatal error",
        (*polite, HangUp(AfterAnswer(ms=40_000))),
        (Behaviour(fatal_error="insufficient_quota", fatal_error_at_ms=5_000),),
        forced=(Expected("error", "insufficient_quota"), _CLOSED),
        also=_ended_by_server,
    )
    yield Scenario(
        "loss: the dialled-ahead session fails first", ends, (Behaviour(refuse="rate_limit"), Behaviour()), ring_ms=900
    )
    yield Scenario(
        "renewal: every 6 s, between turns",
        (*polite, Say(LONG, AiSilent(ms=700)), Say(SHORT, AiSilent(ms=700)), Say(LONG, AiHeard(ms=900)), BYE),
        (Behaviour(answer_ms=4_000),),
        env={"MODEL_SESSION_MINUTES": "0.1"},
        interruptions=1,
    )


def _modes() -> Iterator[Scenario]:
    """The settings that change the effect of an interruption."""
    polite = (Say(SHORT, AiSilent(ms=400)),)
    for behaviour, name in (
        (Behaviour(answer_ms=ANSWER_MS), "one item"),
        (Behaviour(answer_ms=ANSWER_MS, preamble=True, speed=60), "two items"),
    ):
        for at_ms in (300, 2_500):
            script = (*polite, Say(LONG, AiHeard(ms=at_ms)), BYE)
            yield Scenario(
                f"BARGE_IN=clear: {name}, interrupted at {at_ms} ms",
                script,
                (behaviour,),
                env={"BARGE_IN": "clear", "TX_LEAD_MS": "400"},
                interruptions=1,
            )
            yield Scenario(
                f"BARGE_IN=drain: {name}, interrupted at {at_ms} ms", script, (behaviour,), env={"BARGE_IN": "drain"}
            )
    confirm = {"BARGE_IN_CONFIRM_MS": "300"}
    # The pause, and what was held back by it.
    resumed = (Expected("gap", amount=(120, 400)), Expected("leftover", amount=(5_000, 9_000)))
    yield Scenario(
        "BARGE_IN_CONFIRM_MS: a cough resumes the sentence",
        (*polite, Say("cough", AiHeard(ms=2_000), cough()), BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
        env=confirm,
        forced=resumed,
        also=_uncut,
    )
    yield Scenario(
        "BARGE_IN_CONFIRM_MS: a cough while it is being made",
        (*polite, Say("cough", AiHeard(ms=300), cough()), BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
        env=confirm,
        forced=resumed,
        also=_uncut,
    )
    yield Scenario(
        "BARGE_IN_CONFIRM_MS: speech that lasts",
        (*polite, Say(LONG, AiHeard(ms=2_000)), BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
        env=confirm,
        interruptions=1,
    )


def _recording(least_ms: float, most_ms: float) -> Expected:
    """A greeting from a file belongs to no item of the model: this much of it is heard."""
    return Expected("damage", "invented", amount=(least_ms * BYTES_PER_MS - FRAME_BYTES, most_ms * BYTES_PER_MS))


def _recorded() -> Iterator[Scenario]:
    """A greeting from a file, while the model is still being dialled."""
    agent = {"greeting_file": "greeting.wav", "greeting": clip("demo-congrats").text}
    slow = Behaviour(handshake_ms=1_500)
    whole = clip("demo-congrats").duration_ms

    yield Scenario(
        "recorded greeting: heard whole",
        (Say(SHORT, AiSilent(ms=400)), BYE),
        (slow,),
        agent=agent,
        forced=(_recording(whole, whole),),
    )
    yield Scenario(
        "recorded greeting: interrupted",
        (Say(LONG, AiHeard(ms=2_500)), BYE),
        (slow,),
        agent=agent,
        forced=(_recording(2_500, 2_900),),
    )
    yield Scenario(
        "recorded greeting: interrupted before there is a model",
        (Say(LONG, AiHeard(ms=800)), BYE),
        (Behaviour(handshake_ms=3_000),),
        agent=agent,
        # The speech is found in what was kept for the session, and sent to it when it is there.
        forced=(_recording(800, 3_400),),
    )


def _notice() -> Iterator[Scenario]:
    """A recording notice is heard whole and first, whoever speaks first."""
    agent = {"recording": "on", "recording_notice": "This call is recorded."}
    # The judge knows interruptions only: the AI speaks on until the end of the notice.
    speaks_on = (Expected("leftover", amount=(3_500, 5_500)),)
    for name, script, forced in (
        ("heard by a polite caller", (Say(SHORT, AiSilent(ms=400)), BYE), ()),
        ("the caller speaks first", (say(500, AfterAnswer(ms=40)), BYE), ()),
        ("interrupted at 200 ms", (say(2_000, AiHeard(ms=200)), BYE), speaks_on),
        ("interrupted at 900 ms", (say(2_000, AiHeard(ms=900)), BYE), speaks_on),
    ):
        yield Scenario(
            f"recording notice: {name}", script, agent=agent, forced=forced, also=_heard_whole_notice, virtual_only=True
        )


def _heard_whole_notice(verdict: Verdict, sessions: Sessions) -> str:
    first = next(item for item in sessions[0]["items"] if item["role"] == "assistant")
    whole = first["held_ms"] == first["sent_bytes"] // BYTES_PER_MS and not first["deleted"]
    cut = any(each.item_id == first["item_id"] for each in verdict.cuts)
    return "" if whole and not cut else "The notice was not heard whole."


def _accidents() -> Iterator[Scenario]:
    """txpacer is killed, and its standby takes over: a gap, and nothing else."""
    polite = (Say(SHORT, AiSilent(ms=400)),)
    yield Scenario(
        "txpacer restarts in mid-sentence",
        (*polite, BYE),
        (Behaviour(answer_ms=ANSWER_MS),),
        events=((9_000, Cell.restart_pacer),),
        forced=(Expected("gap", amount=(50, 250)),),
    )


def all_scenarios() -> list[Scenario]:
    groups = (_protection, _answers, _model, _losses, _modes, _recorded, _notice, _accidents)
    return [
        *(scenario for group in groups for scenario in group()),
        *tool_scenarios(),
        *ending_scenarios(),
        *key_scenarios(),
        *early_scenarios(),
    ]
