from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import plans
from gateway.core.plans import PACKED_MAX, PARAMETER_MAX, PlanError
from gateway.core.tokens import TokenError
from shared.plan import CallPlan

TEXT = st.text(max_size=60)
PLANS = st.builds(
    CallPlan,
    direction=st.sampled_from(["inbound", "outbound"]),
    account_sid=TEXT,
    from_number=TEXT,
    to_number=TEXT,
    agent=TEXT,
    variables=st.dictionaries(TEXT, st.text(max_size=400), max_size=4),
)


@given(PLANS)
def test_a_plan_returns_unchanged_in_parameters_that_twilio_accepts(plan):
    sent = plans.parameters("token", plans.pack(plan))
    assert all(len(name) + len(value) <= PARAMETER_MAX for name, value in sent.items())
    assert plans.unpack(plans.packed_in(sent)) == plan


def test_a_plan_that_is_too_large_to_travel_is_refused_with_its_size():
    with pytest.raises(PlanError, match="shorten its variables"):
        plans.pack(CallPlan(variables={"notes": "x" * PACKED_MAX}))


@given(st.text())
def test_text_that_is_not_a_plan_raises_the_documented_error_only(text):
    with contextlib.suppress(TokenError):
        plans.unpack(text)


def test_a_form_field_of_any_length_makes_a_plan_that_can_travel():
    plan = plans.inbound("𝄞" * 60_000, "𝄞" * 60_000, "𝄞" * 60_000, 2**63)
    assert len(plans.pack(plan)) < PACKED_MAX
