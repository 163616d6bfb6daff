"""The spool: appended records are read in order, however the process or the file ends."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbook.core.segments import TornError, frame, records
from callbook.spool import Spool


def opened(path, **options):
    return Spool(path, **{"max_bytes": 1_000_000, **options})


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_a_torn_end_costs_only_the_torn_record(payloads, data):
    whole = b"".join(map(frame, payloads))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = []
    try:
        for payload, _ in records(cut):
            found.append(payload)
    except TornError:
        assert len(cut) < len(whole)
    assert found == payloads[: len(found)]
    assert sum(len(frame(each)) for each in found) <= len(cut)


def test_a_flipped_bit_is_noticed():
    data = bytearray(frame(b"one") + frame(b"two"))
    data[-1] ^= 1
    with pytest.raises(TornError):
        list(records(bytes(data)))


def test_records_that_are_not_done_are_read_again_after_a_crash(tmp_path):
    spool = opened(tmp_path)
    spool.append([b"1", b"2"])
    spool.append([b"3"])
    found, _ = spool.read(2)
    assert found == [b"1", b"2"]
    # No close: the process is gone.
    again = opened(tmp_path)
    assert again.append([b"4"])
    found, position = again.read(10)
    assert found == [b"1", b"2", b"3", b"4"]
    again.done(position)
    assert not again.unread
    assert again.held_bytes == 0
    assert opened(tmp_path).read(10)[0] == []


def test_nothing_is_appended_to_a_segment_with_a_torn_record(tmp_path):
    spool = opened(tmp_path)
    spool.append([b"kept"])
    spool.close()
    (segment,) = tmp_path.glob("*.spool")
    segment.write_bytes(segment.read_bytes() + frame(b"torn")[:-2])
    again = opened(tmp_path)
    again.append([b"after"])
    assert again.read(10)[0] == [b"kept", b"after"]
    assert again.torn == 1


def test_a_full_spool_refuses_records_until_some_were_read(tmp_path):
    spool = opened(tmp_path, max_bytes=100)
    assert spool.append([b"x" * 60])
    assert not spool.append([b"y" * 60])
    spool.done(spool.read(10)[1])
    assert spool.append([b"y" * 60])


def test_segments_are_deleted_as_they_are_read(tmp_path):
    spool = opened(tmp_path, segment_bytes=50)
    for number in range(10):
        spool.append([b"%030d" % number])
    assert len(list(tmp_path.glob("*.spool"))) == 10
    found, position = spool.read(5)
    spool.done(position)
    assert len(found) == 5
    assert len(list(tmp_path.glob("*.spool"))) <= 6
    assert [int(each) for each in spool.read(100)[0]] == [5, 6, 7, 8, 9]


def test_a_spool_whose_disk_failed_accepts_records_when_the_disk_does(tmp_path, monkeypatch):
    spool = opened(tmp_path)
    assert spool.append([b"1"])
    really_open = os.open

    def open_nothing_new(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_open(path, flags, *mode)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", open_nothing_new)
        broken.setattr(os, "fdatasync", fail)
        # The write fails, and then the spool cannot be reopened.
        for _ in range(3):
            with pytest.raises(OSError, match=r"error|space"):
                spool.append([b"not acknowledged"])
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="error"):
            spool.append([b"not acknowledged"])
    assert spool.append([b"2"])
    found, position = spool.read(10)
    assert (found[0], found[-1]) == (b"1", b"2")
    spool.done(position)
    spool.close()
    assert opened(tmp_path).read(10)[0] == []
