"""Every order in Twilio's terms: as TwiML, and as the parameters of a call update over REST.

`<Dial>` with an `action` never falls through to the next verb: Twilio requests that URL when the dialled leg has ended
or was never answered, and runs the TwiML that it gets. The URL leads back to the voice webhook, which connects the
caller to the agent again.

Sources: twilio.com/docs/voice/twiml/dial, .../conference, and the Call resource ("Update a Call resource").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from twilio.twiml.voice_response import VoiceResponse

from shared.plan import CallOrder, Conference, Dial, Fallback, HangUp, Reject

from .twiml import resume_url

# DialCallStatus of the request to `action`; "over" stands for any other word.
DIAL_ENDS: Final = frozenset(("completed", "answered", "busy", "no-answer", "failed", "canceled"))


def dial_end(query: Mapping[str, str], fields: Mapping[str, str]) -> str:
    """How the order of a call ended that returns from one, by its webhook; "" for any other webhook."""
    if query.get("after") != "order":
        return ""
    return dial_status(fields)


def dial_status(fields: Mapping[str, str]) -> str:
    """Twilio's DialCallStatus, in a known word."""
    status = fields.get("DialCallStatus", "")
    return status if status in DIAL_ENDS else "over"


@dataclass(frozen=True)
class Orders:
    """Renders orders for the gateway at `origin`. `worker` of `cell` holds the conversation (None: unknown)."""

    origin: str
    # FALLBACK_SAY and FALLBACK_DIAL.
    fallback_say: str
    fallback_dial: str
    cell: str = ""

    def twiml(self, order: CallOrder, worker: int | None, *, is_new: bool = False) -> str:
        """`is_new`: the call had no conversation yet; when it returns, one begins, with notice and greeting."""
        back = resume_url(self.origin, worker, self.cell, after_order=not is_new)
        response = VoiceResponse()
        match order:
            case HangUp():
                response.hangup()
            case Reject(reason):
                response.reject(reason=reason)
            case Dial(to, caller_id, timeout_s):
                dial = response.dial(action=back, method="POST", caller_id=caller_id or None, timeout=timeout_s)
                if to.startswith(("sip:", "sips:")):
                    dial.sip(to)
                else:
                    dial.number(to)
            case Conference(name):
                response.dial(action=back, method="POST").conference(name)
            case Fallback():
                self._fall_back(response)
            case _:
                assert_never(order)
        return str(response)

    def _fall_back(self, response: VoiceResponse) -> None:
        """The fallback: another number, words, or neither."""
        if self.fallback_say:
            response.say(self.fallback_say)
        if self.fallback_dial:
            response.dial(self.fallback_dial)
        elif self.fallback_say:
            response.hangup()
        else:
            response.reject()
