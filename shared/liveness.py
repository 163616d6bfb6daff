"""Every time-out by which one end decides that another end is alive, late or gone: one table, in seconds.

A value stands here when two files need it, or when it has to fit to another value of this table. `ns` converts.
"""

from __future__ import annotations

from typing import Final

# --- between the processes of a cell ---

# Gateways and workers say hello this often. A restarted peer is known after one period; its calls wait until then.
HELLO_S: Final = 0.1
# A gateway gives a worker's calls to another worker after this silence, and takes no new call without txpacer. A worker
# or txpacer that is frozen for 2 s, or starts again (1 to 2 s), keeps its calls.
PEER_SILENT_S: Final = 3.0
# A worker treats the media sockets of a silent gateway as lost after this. Longer than PEER_SILENT_S: a gateway that
# was frozen finds its calls where they were.
GATEWAY_SILENT_S: Final = 4.0
# A draining gateway leaves new connections to another one whose last hello is younger: ten hellos.
GATEWAY_LIVES_S: Final = 1.0
# A gateway keeps caller audio this long for a worker that has not acknowledged it: until PEER_SILENT_S have passed, the
# next sweep has moved the call, and its successor has started.
HELD_S: Final = 8.0
# txpacer forgets a gateway without lines after this silence.
GATEWAY_GONE_S: Final = 10.0
# txpacer is gone for good and its calls get the fallback. A standby takes over within milliseconds and a supervisor
# starts another txpacer within 3 s on a busy machine; no caller listens to silence for longer than this.
PACER_GONE_S: Final = 10.0
# A channel repeats a request for missing messages after this. Batches in flight arrive within milliseconds.
ASK_AGAIN_S: Final = 0.5
# An end of a channel whose peer is late by this gathers more into each batch: the peer reads nothing now.
LATE_S: Final = 0.3
# A refused send is tried again: the peer is full or not connected. ZeroMQ reconnects after 50 ms.
RETRY_S: Final = 0.02
# txpacer forgets its channel to a peer after this silence: longer than any time-out of the peer's calls.
FORGET_S: Final = 60.0
# txpacer waits this long for Twilio's echo to a `clear`, before it answers with an estimate: a stall of the path of one
# second, which is as long as a lead may be, and the longest round trip that a conversation bears.
CLEAR_ECHO_S: Final = 1.5
# txpacer answers a withdrawal within its tick of 10 ms, or after CLEAR_ECHO_S, unless it is frozen. After this, the
# ear's clock gives the answer.
WITHDRAWN_S: Final = 2.5
# A starting process waits for the end of its predecessor, which ends within seconds of its supervisor's death.
HANDOVER_S: Final = 10.0
# A starting gateway waits this long for txpacer and a worker before it accepts connections: five hellos.
MEET_S: Final = 0.5
# A draining gateway trusts what it knows of the others after this: one hello, the answer, and a margin.
NEWS_S: Final = 0.25

# --- facts on their way to callbook ---

# Every sender of facts says hello this often, and asks for the acknowledgement of what waits. An acknowledgement takes
# callbook one sync of the disk.
FACTS_HELLO_S: Final = 1.0
# A sender that is silent for this long is gone, and callbook ends the records of its calls.
FACTS_SILENT_S: Final = 10.0
# A process that ends waits this long for callbook to take its last facts: callbook answers within 50 ms.
LAST_FACTS_S: Final = 1.0
# honcho sends SIGTERM to all processes at once, and SIGKILL this long after the first one ended.
HONCHO_KILL_S: Final = 5.0
# callbook ends last: at SIGTERM it waits for its senders to leave. The rest of HONCHO_KILL_S is for its last writes.
SENDERS_LEAVE_S: Final = 4.0

# --- tools ---

# A worker answers the calls of tools itself when toolbox is silent for this long. A supervisor starts it again within
# 1 to 2 s, and toolbox then waits for its tools to be imported.
TOOLBOX_SILENT_S: Final = 3.0
# A worker waits this long beyond a tool's deadline for toolbox's answer, which comes within milliseconds.
TOOL_LATE_S: Final = 0.5

# --- towards the caller ---

# A stream token is valid this long, a session that was dialled ahead waits this long, and so does a phone page for its
# call. Twilio opens the media socket within 2 s of our TwiML; Twilio's own SDK allows twice this.
TOKEN_S: Final = 60.0
# CALL_CONFIG_URL has this long to answer while the phone rings; Twilio waits 15 s for our webhook. A gateway waits a
# little longer, for the worker that asks.
CONFIG_S: Final = 2.0
CONFIG_WAIT_S: Final = 2.2
# A webhook waits this long for what other cells know of a returning call. The caller listens to silence meanwhile, so
# a slower store is treated as one that knows nothing.
RECALL_S: Final = 0.25
# An offered call whose media socket has not come by now belongs to a caller who hung up: its place is free again.
PROMPT_S: Final = 3.0
# A conversation waits for a caller whose media socket was lost. Twilio returns at once through the <Redirect>; a caller
# who really left costs an open session for this long.
GRACE_S: Final = 10.0
# From accept to the end of the first request, from the handshake to `start`, and for a webhook's body: each is one
# packet or two.
REQUEST_S: Final = 10.0
# A live call sends 50 messages a second. A socket that is silent for this long is dead, whatever answers its pings.
IDLE_S: Final = 60.0
# A media socket that has accepted no frame for this long is given up.
UNREAD_S: Final = 20.0
# A WebSocket peer is pinged this often, and is dead when a ping stays unanswered for as long.
PING_S: Final = 20.0
# A model's socket is pinged this often, and a ping may stay unanswered for this long. Together they are the longest
# that a dark path goes unnoticed while nobody speaks: as long as MODEL_RECONNECT_SECONDS.
MODEL_PING_S: Final = 4.0
MODEL_PONG_S: Final = 6.0
# From our close frame to the peer's; it waits for nothing but TCP.
CLOSE_S: Final = 2.0
# A hang-up waits for the mark of the goodbye while no frame leaves.
MARK_S: Final = 10.0


def ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
