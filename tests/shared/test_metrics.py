from __future__ import annotations

import pytest

from shared.metrics import Page, counter

DEFINITIONS = (counter("frames", "Frames"), counter("sends", "Sends by outcome", "outcome", ("ok", "late")))


def test_a_metric_is_found_only_by_its_kind_its_name_and_a_known_label_value() -> None:
    page = Page.in_memory(DEFINITIONS)
    with pytest.raises(TypeError):
        page.gauge("frames")
    with pytest.raises(ValueError, match="not in tuple"):
        page.counter("sends", "CA0123456789")
    with pytest.raises(ValueError, match="no label"):
        page.counter("frames", "x")
