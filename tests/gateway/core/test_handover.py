from __future__ import annotations

from gateway.core import handover
from gateway.core.handover import MEMORY_MAX_BYTES

from .bench import Bench


def test_a_memory_that_is_too_large_leaves_the_one_before():
    call = Bench().call()
    handover.remember(call, b"x" * MEMORY_MAX_BYTES)
    handover.remember(call, b"y" * (MEMORY_MAX_BYTES + 1))
    assert call.memory == b"x" * MEMORY_MAX_BYTES
