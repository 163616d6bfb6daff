"""What a node's facts mean: `twentyms doctor --realtime`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twentyms.finding import Finding
from twentyms.realtime_rules import Facts, Lateness, findings

GOOD = Facts(
    system="linux",
    uid=10001,
    container="",
    is_rootless=False,
    capabilities=frozenset(),
    fifo_refusal="",
    rtprio_limit=40,
    rt_group_scheduling=False,
    rt_runtime_us=950_000,
    nice=0,
    memory_refusal="",
    memlock_limit=-1,
    has_swap=False,
    huge_pages="madvise",
    quota_cpus=None,
    quota_period_ms=None,
    quota_periods=None,
    throttled_periods=None,
    cpus=4,
    cpus_of_machine=4,
    isolated_cpus="",
    preemption="full",
    clock_source="tsc",
    clock_read_ns=60.0,
    timer_resolution_ns=1,
    busy=0.0,
    stolen=0.0,
    ordinary=Lateness(0.05, 0.3, 2.0),
    realtime=Lateness(0.02, 0.1, 0.3),
)
REFUSED = {"fifo_refusal": "it is not permitted", "rtprio_limit": 0, "realtime": None}


def one(what: str, setting="auto", **changes) -> Finding:
    (found,) = (each for each in findings(replace(GOOD, **changes), setting) if each.what == what)
    return found


def test_a_node_that_permits_everything_needs_no_advice():
    assert {each.outcome for each in findings(GOOD, "auto")} == {"ok"}
    assert not any(each.advice for each in findings(GOOD, "auto"))


def test_a_refused_priority_is_a_problem_only_where_it_was_demanded():
    assert one("SCHED_FIFO", **REFUSED).outcome == "note"
    assert one("SCHED_FIFO", "on", **REFUSED).outcome == "bad"


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        ({}, "LimitRTPRIO=40"),
        ({"container": "Docker"}, "--ulimit rtprio=40"),
        ({"container": "Kubernetes"}, "ulimit-adjuster"),
        ({"container": "Podman", "is_rootless": True}, "rootless"),
        # Root of a rootless container: its capability counts only inside.
        ({"container": "Podman", "is_rootless": True, "uid": 0, "capabilities": frozenset({"SYS_NICE"})}, "rootless"),
        ({"rt_runtime_us": 0, "rtprio_limit": 40}, "sched_rt_runtime_us=950000"),
        ({"rtprio_limit": 40, "rt_group_scheduling": True}, "CONFIG_RT_GROUP_SCHED"),
        ({"uid": 0, "capabilities": frozenset({"SYS_NICE"}), "rt_group_scheduling": None}, "CONFIG_RT_GROUP_SCHED"),
        ({"rtprio_limit": -1, "rt_group_scheduling": False}, "seccomp"),
        # A limit below the priority that txpacer asks for is none.
        ({"rtprio_limit": 39, "rt_group_scheduling": True}, "LimitRTPRIO=40"),
    ],
)
def test_the_advice_names_what_refuses_the_priority_on_this_kind_of_node(facts, remedy):
    assert remedy in one("SCHED_FIFO", **{**REFUSED, **facts}).advice


def test_nice_is_offered_only_where_it_is_permitted_and_the_priority_is_not():
    assert "nice -n -10" in one("nice", **REFUSED, nice=-10).advice
    assert not one("nice", **REFUSED, nice=0).advice
    assert not [each for each in findings(replace(GOOD, nice=-10), "auto") if each.what == "nice"]


def test_memory_that_cannot_be_locked_matters_only_beside_swap():
    assert one("memory", memory_refusal="RLIMIT_MEMLOCK is 64 kB", has_swap=True).outcome == "note"
    assert one("memory", memory_refusal="RLIMIT_MEMLOCK is 64 kB", has_swap=False).outcome == "ok"


def test_a_quota_that_cuts_periods_short_is_a_problem_without_a_real_time_priority():
    quota = {"quota_cpus": 2.0, "quota_period_ms": 100.0, "quota_periods": 50, "throttled_periods": 7}
    assert one("CPU quota", **quota, **REFUSED).outcome == "bad"
    assert one("CPU quota", **quota).outcome == "note"
    assert "used up in 7 of 50 periods" in one("CPU quota", **quota).text
    assert "remove the CPU limit" in one("CPU quota", **{**quota, "throttled_periods": 0}).advice


@pytest.mark.parametrize(
    ("what", "facts"),
    [
        ("huge pages", {"huge_pages": "always"}),
        ("CPUs", {"cpus": 1}),
        ("preemption", {"preemption": "voluntary"}),
        ("clock", {"clock_source": "hpet"}),
        ("clock", {"clock_source": "unknown-one", "clock_read_ns": 4_000.0}),
        ("steal", {"stolen": 0.05}),
        ("load", {"busy": 0.5, **REFUSED}),
        ("wake-ups late", {"realtime": Lateness(0.1, 1.4, 5.0)}),
        ("wake-ups late", {"timer_resolution_ns": 4_000_000}),
    ],
)
def test_what_makes_frames_late_is_a_note_with_something_to_do(what, facts):
    found = one(what, **facts)
    assert found.outcome == "note"
    assert found.advice


def test_a_wake_up_later_than_the_shortest_lead_is_a_problem():
    assert one("wake-ups late", realtime=Lateness(0.1, 5.0, 61.0)).outcome == "bad"
    # Without the priority, the ordinary scheduler is what callers get.
    assert one("wake-ups late", **REFUSED, ordinary=Lateness(0.1, 5.0, 61.0)).outcome == "bad"
    assert one("wake-ups late", ordinary=Lateness(0.1, 5.0, 61.0)).outcome == "ok"


def test_another_system_is_told_in_one_line():
    (found,) = findings(replace(GOOD, system="darwin"), "auto")
    assert (found.outcome, "Linux" in found.advice) == ("note", True)


def test_unknown_facts_are_left_out():
    unknown = replace(
        GOOD,
        memory_refusal=None,
        has_swap=None,
        huge_pages="",
        cpus=None,
        preemption="",
        busy=None,
        stolen=None,
        ordinary=None,
        realtime=None,
    )
    assert {each.what for each in findings(unknown, "auto")} == {"SCHED_FIFO", "CPU quota", "clock"}
