"""Reading what a node permits, from files as other nodes have them."""

from __future__ import annotations

import gzip

import pytest

from twentyms import realtime_facts
from twentyms.realtime_rules import findings


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Write the kernel's files of another node, and gather its facts. Timers are measured for a moment only."""
    monkeypatch.setattr(realtime_facts, "_MEASURED_S", 0.02)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def gather(**files: str | bytes):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return realtime_facts.gather(tmp_path)

    return gather


def test_a_node_without_any_of_the_files_is_examined_all_the_same(node):
    facts = node()
    assert (facts.quota_cpus, facts.preemption, facts.busy, facts.stolen, facts.has_swap) == (
        None,
        "",
        None,
        None,
        None,
    )
    assert facts.ordinary is not None
    assert findings(facts, "auto")


def test_the_tightest_quota_of_all_control_groups_around_counts(node):
    facts = node(
        **{
            "proc/self/cgroup": "0::/pod/cell\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/cpu.stat": "usage_usec 9\nnr_periods 40\nnr_throttled 3\nthrottled_usec 5\n",
            "sys/fs/cgroup/pod/cell/cpu.max": "max 100000\n",
        }
    )
    assert (facts.quota_cpus, facts.quota_period_ms) == (1.5, 100.0)
    assert (facts.quota_periods, facts.throttled_periods) == (40, 3)


def test_the_quota_of_control_groups_of_the_first_kind_is_found(node):
    facts = node(
        **{
            # The name is the host's; inside, the group is the mount.
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }
    )
    assert facts.quota_cpus == 0.5


@pytest.mark.parametrize(
    ("files", "mode"),
    [
        ({"proc/version": "Linux 6.1 #1 SMP PREEMPT_RT Debian"}, "rt"),
        ({"proc/version": "Linux 6.1 #1 SMP PREEMPT_DYNAMIC Debian"}, "dynamic"),
        ({"proc/version": "Linux 6.1 #1 SMP PREEMPT_DYNAMIC", "proc/cmdline": "quiet preempt=none"}, "none"),
        (
            {"proc/version": "#1 SMP PREEMPT_DYNAMIC", "sys/kernel/debug/sched/preempt": "none (voluntary) full lazy"},
            "voluntary",
        ),
        ({"proc/version": "Linux 5.10 #1 SMP Debian"}, "voluntary"),
    ],
)
def test_the_kernels_preemption_is_read_wherever_it_is_told(files, mode, node):
    assert node(**files).preemption == mode


def test_rights_of_a_container_are_read_from_its_own_files(node):
    facts = node(
        **{
            ".dockerenv": "",
            "proc/self/uid_map": "0 100000 65536\n",
            "proc/self/status": "Name:\tx\nCapEff:\t0000000000804000\n",
            "proc/config.gz": gzip.compress(b"#\nCONFIG_RT_GROUP_SCHED=y\n"),
            "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
        }
    )
    assert (facts.container, facts.is_rootless, facts.rt_group_scheduling) == ("Docker", True, True)
    assert facts.capabilities == {"SYS_NICE", "IPC_LOCK"}
    assert facts.has_swap


def test_a_child_that_dies_leaves_a_fact_unknown():
    assert realtime_facts._result(realtime_facts._begin(lambda: 1 / 0)) is None
    assert realtime_facts._result(realtime_facts._begin(lambda: [1, "a"])) == [1, "a"]


def test_cpus_are_counted_as_the_kernel_lists_them(node):
    assert node(**{"sys/devices/system/cpu/online": "0-3,8"}).cpus_of_machine == 5
