"""The channel: each message once and in order at its intended incarnation, whatever happens to either end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.channel import Channel
from shared.liveness import ASK_AGAIN_S, LATE_S, ns
from shared.messages import BridgeHello, Header, Speech

MS = 1_000_000


def speech(number: int) -> Speech:
    return Speech(1, number, b"")


def numbers(messages: Any) -> list[int]:
    return [message.utterance for message in messages if isinstance(message, Speech)]


def send(sender: Channel, receiver: Channel, now_ns: int = 0) -> list[int]:
    """Everything that `sender` has to send, taken by `receiver`."""
    taken: list[int] = []
    while batch := sender.batch():
        sender.sent(batch, now_ns)
        taken += numbers(receiver.receive(batch, now_ns)[0])
    return taken


def greet(one: Channel, other: Channel, now_ns: int = 0) -> None:
    """Hellos both ways until both know each other's epoch and acknowledgement."""
    for _ in range(2):
        other.receive([one.hello()], now_ns)
        one.receive([other.hello()], now_ns)


def pair(**options: Any) -> tuple[Channel, Channel]:
    one, other = Channel(1, **{"max_weight": 100, **options}), Channel(2, max_weight=100)
    greet(one, other)
    return one, other


def test_messages_are_kept_until_the_peer_acknowledges_them() -> None:
    sender, receiver = pair()
    sender.put([speech(1), speech(2)])
    sender.put([speech(3)])
    assert send(sender, receiver) == [1, 2, 3]
    assert (sender.waiting, sender.acknowledged_by_peer) == (3, 0)
    sender.receive([receiver.hello()], 0)
    assert (sender.waiting, sender.acknowledged_by_peer, sender.weight) == (0, 3, 0)


def test_an_acknowledgement_travels_with_the_messages_of_the_other_direction() -> None:
    one, other = pair()
    one.put([speech(1)])
    send(one, other)
    other.put([speech(2)])
    assert send(other, one) == [2]
    assert one.waiting == 0


def test_hints_are_handled_although_messages_before_them_are_missing() -> None:
    sender, receiver = pair()
    sender.put([speech(1)])
    lost = sender.batch()
    assert lost is not None
    sender.sent(lost, 0)
    assert receiver.receive([sender.hello(), BridgeHello("x")], 0) == ([BridgeHello("x")], False)
    assert receiver.hello().again


def test_a_batch_without_a_header_is_handled_unchanged() -> None:
    _, receiver = pair()
    assert receiver.receive([BridgeHello("x")], 0) == ([BridgeHello("x")], False)


def test_a_header_that_promises_more_than_follows_is_dropped() -> None:
    _, receiver = pair()
    assert receiver.receive([Header(1, 2, 1, 1, 3, 0, False), speech(1)], 0) == ((), False)
    assert receiver.taken == 0


@pytest.mark.parametrize("is_last", [True, False])
def test_a_lost_batch_is_repeated_on_request_and_nothing_is_handled_twice(is_last: bool) -> None:
    sender, receiver = pair()
    for number in (1, 2, 3):
        sender.put([speech(number)])
        batch = sender.batch()
        assert batch is not None
        sender.sent(batch, 0)
        if number != (3 if is_last else 2):
            receiver.receive(batch, 0)
    receiver.receive([sender.hello()], 0)
    sender.receive([receiver.hello()], 0)
    assert send(sender, receiver) == ([3] if is_last else [2, 3])


def test_a_frozen_peer_is_sent_nothing_twice_and_a_request_is_answered_once() -> None:
    sender, receiver = pair()
    sender.put([speech(1)])
    sender.sent(sender.batch() or [], 0)
    for _ in range(10):
        sender.hello()
        assert sender.batch() is None
    receiver.receive([sender.hello()], 0)
    asks = receiver.hello()
    assert asks.again
    sender.receive([asks], 0)
    sender.sent(sender.batch() or [], 0)
    sender.receive([asks], 1)
    assert sender.batch() is None
    sender.receive([asks], ns(ASK_AGAIN_S))
    assert sender.batch() is not None


def test_a_restarted_peer_gets_no_message_that_was_meant_for_its_predecessor() -> None:
    sender, receiver = pair()
    sender.put([speech(1)])
    in_flight = sender.batch()
    assert in_flight is not None
    sender.sent(in_flight, 0)
    successor = Channel(3, max_weight=100)
    assert successor.receive(in_flight, 0) == ([], False)
    assert successor.owes_answer
    assert sender.receive([successor.hello()], 0) == ([], True)
    assert (sender.waiting, sender.batch()) == (0, None)
    # Nor does the predecessor's last acknowledgement, read late, change anything.
    assert sender.receive([receiver.hello()], 0) == ((), False)
    sender.put([speech(2)])
    assert send(sender, successor) == [2]


def test_a_lasting_channel_repeats_unacknowledged_messages_to_a_restarted_peer() -> None:
    sender, receiver = pair(is_lasting=True)
    for number in (1, 2, 3):
        sender.put([speech(number)])
        send(sender, receiver)
        if number == 1:
            sender.receive([receiver.hello()], 0)
    successor = Channel(3, max_weight=100)
    sender.put([speech(4)])
    assert send(sender, successor) == []
    assert sender.receive([successor.hello()], 0)[1]
    assert send(sender, successor) == [2, 3, 4]


def test_an_acknowledgement_of_a_predecessors_messages_says_nothing_about_the_successors() -> None:
    sender, receiver = pair()
    sender.put([speech(1), speech(2)])
    send(sender, receiver)
    to_the_predecessor = receiver.hello()
    successor = Channel(9, max_weight=100)
    successor.put([speech(3)])
    successor.receive([to_the_predecessor], 0)
    assert send(successor, receiver) == [3]


def test_a_restarted_sender_is_heard_from_its_first_message() -> None:
    sender, receiver = pair()
    sender.put([speech(1)])
    send(sender, receiver)
    successor = Channel(9, max_weight=100)
    successor.put([speech(5)])
    batch = successor.batch()
    assert batch is not None
    messages, restarted = receiver.receive(batch, 0)
    assert (numbers(messages), restarted) == ([5], True)


def test_a_full_channel_drops_the_newest_batch_or_the_oldest_ones() -> None:
    newest, _ = pair(max_weight=3)
    assert [newest.put([speech(number)]) for number in range(5)] == [True] * 3 + [False] * 2
    assert newest.dropped == 2
    oldest, receiver = pair(max_weight=3, drops="oldest")
    assert all(oldest.put([speech(number)]) for number in range(5))
    assert oldest.dropped == 2
    assert send(oldest, receiver) == [2, 3, 4]


def test_messages_without_weight_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.channel.ENTRIES_MAX", 2)
    sender, _ = pair()
    assert [sender.put([speech(number)], weight=0) for number in range(3)] == [True, True, False]


def test_no_more_than_the_window_is_unacknowledged() -> None:
    sender, receiver = pair(window=3, batch_max=2)
    for number in range(1, 6):
        sender.put([speech(number)])
    assert send(sender, receiver) == [1, 2, 3]
    sender.receive([receiver.hello()], 0)
    assert send(sender, receiver) == [4, 5]


def test_a_peer_is_late_when_it_acknowledges_nothing_for_a_while() -> None:
    sender, receiver = pair()
    assert not sender.is_late(ns(100))
    sender.put([speech(1)])
    send(sender, receiver, ns(100))
    assert not sender.is_late(ns(100) + 1)
    assert sender.is_late(ns(100 + LATE_S) + 1)
    sender.receive([receiver.hello()], ns(101))
    assert not sender.is_late(ns(200))


def test_messages_are_repeated_until_they_are_acknowledged_by_hand() -> None:
    sender = Channel(1, max_weight=100, is_lasting=True)
    receiver = Channel(2, max_weight=100, acknowledges_at_once=False)
    greet(sender, receiver)
    sender.put([speech(1), speech(2)])
    send(sender, receiver)
    sender.receive([receiver.hello()], 0)
    assert sender.waiting == 2
    receiver.acknowledge(2)
    assert receiver.owes_answer
    sender.receive([receiver.hello()], 0)
    assert sender.waiting == 0


@dataclass
class End:
    """One end with its incarnations; `handled` of each incarnation of this end: what, by the sender's epoch."""

    channel: Channel
    is_frozen: bool = False
    handled: list[dict[int, list[int]]] = field(default_factory=lambda: [{}])
    # By our epoch: what was put.
    put: dict[int, list[int]] = field(default_factory=dict)


class Network:
    """Two ends, and batches in flight between them, in order; each batch may be lost or come twice."""

    def __init__(self, *, is_lasting: bool, drops: Any) -> None:
        self.is_lasting = is_lasting
        self.drops = drops
        self.now_ns = 0
        self.epoch = 0
        self.counter = 0
        self.ends = [End(self._channel()), End(self._channel())]
        self.in_flight: tuple[deque[list[Any]], deque[list[Any]]] = (deque(), deque())

    def _channel(self) -> Channel:
        self.epoch += 1
        return Channel(self.epoch, max_weight=8, is_lasting=self.is_lasting, drops=self.drops, batch_max=4)

    def put(self, who: int) -> None:
        end = self.ends[who]
        if not end.is_frozen:
            self.counter += 1
            if end.channel.put([speech(self.counter)]):
                end.put.setdefault(end.channel.epoch, []).append(self.counter)

    def send(self, who: int, *, loses: bool = False, doubles: bool = False) -> None:
        end = self.ends[who]
        if end.is_frozen:
            return
        batches = [[end.channel.hello()]]
        while batch := end.channel.batch():
            end.channel.sent(batch, self.now_ns)
            batches.append(batch)
        for batch in batches:
            if not loses:
                self.in_flight[who].append(batch)
            if doubles:
                self.in_flight[who].append(batch)

    def receive(self, who: int) -> None:
        end, coming = self.ends[who], self.in_flight[1 - who]
        while coming and not end.is_frozen:
            batch = coming.popleft()
            messages, _ = end.channel.receive(batch, self.now_ns)
            end.handled[-1].setdefault(batch[0].epoch, []).extend(numbers(messages))

    def restart(self, who: int) -> None:
        end = self.ends[who]
        end.channel = self._channel()
        end.is_frozen = False
        end.handled.append({})

    def settle(self) -> None:
        for end in self.ends:
            end.is_frozen = False
        for _ in range(8):
            self.now_ns += ns(ASK_AGAIN_S)
            for who in (0, 1):
                self.send(who)
                self.receive(1 - who)


ACTS = st.tuples(
    st.sampled_from(["put", "put", "put", "send", "send", "lose", "double", "receive", "receive", "freeze", "restart"]),
    st.integers(0, 1),
)


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.sampled_from(["newest", "oldest"]), st.lists(ACTS, max_size=60))
def test_in_any_course_of_events_each_message_is_handled_once_in_order_by_its_intended_receiver(
    is_lasting: bool, drops: str, acts: list[tuple[str, int]]
) -> None:
    network = Network(is_lasting=is_lasting, drops=drops)
    for act, who in acts:
        network.now_ns += 20 * MS
        if act == "put":
            network.put(who)
        elif act == "receive":
            network.receive(who)
        elif act == "freeze":
            network.ends[who].is_frozen = not network.ends[who].is_frozen
        elif act == "restart":
            network.restart(who)
        else:
            network.send(who, loses=act == "lose", doubles=act == "double")
        for end in network.ends:
            assert end.channel.weight <= 8
    network.settle()
    for who, end in enumerate(network.ends):
        other = network.ends[1 - who]
        assert (other.channel.waiting, other.channel.weight) == (0, 0)
        for handled in end.handled:
            for epoch, got in handled.items():
                assert got == sorted(set(got))
                assert set(got) <= set(other.put.get(epoch, []))
        # What was put and neither dropped nor meant for an earlier incarnation arrived.
        epoch = other.channel.epoch
        handled_ever = {number for handled in end.handled for number in handled.get(epoch, [])}
        missing = set(other.put.get(epoch, [])) - handled_ever
        if drops == "newest" and (is_lasting or len(end.handled) == 1):
            assert not missing
        else:
            assert not missing or other.channel.dropped or len(end.handled) > 1
        # A lasting channel's survivor has everything that its peer still held.
        if is_lasting and drops == "newest":
            assert not missing
