from __future__ import annotations

from shared.audio import MULAW_TO_LINEAR, SILENCE, linear_to_mulaw, ms_of


def test_the_decoding_table_is_the_one_of_g711() -> None:
    # The ends and the middle of ITU-T G.711, table 2a, in 16 bits.
    assert MULAW_TO_LINEAR[0x00] == -32_124
    assert MULAW_TO_LINEAR[0x80] == 32_124
    assert MULAW_TO_LINEAR[0x7F] == 0
    assert MULAW_TO_LINEAR[SILENCE[0]] == 0


def test_encoding_a_decoded_code_gives_the_same_code() -> None:
    for code, value in enumerate(MULAW_TO_LINEAR):
        if code != 0x7F:  # the second zero
            assert linear_to_mulaw(value) == code


def test_milliseconds_are_rounded_down() -> None:
    assert [ms_of(n) for n in (0, 7, 8, 159, 160)] == [0, 0, 1, 19, 20]
