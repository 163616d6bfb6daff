"""TCP settings of a media socket."""

from __future__ import annotations

import socket
import sys

import pytest

from gateway.tcp_options import NOT_SENT_BYTES, tune


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
def test_a_media_socket_holds_little_unsent_and_does_not_stop_to_measure_its_path() -> None:
    with socket.socket() as raw:
        tune(raw)
        assert raw.getsockopt(socket.IPPROTO_TCP, 25) == NOT_SENT_BYTES
        assert raw.getsockopt(socket.IPPROTO_TCP, 13, 16).rstrip(b"\0") in (b"cubic", b"reno")


def test_a_socket_that_is_not_tcp_stays_as_it_is() -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        tune(raw)
