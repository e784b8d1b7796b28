"""What limits the threads of a run: affinity, container quotas of both versions of control groups, OMP_NUM_THREADS."""

import math
import os
import subprocess
import sys

import pytest

from dcao_lab.execution.cores import available_cores, cpu_quota, default_threads

V2_ROOT = {"proc/self/cgroup": "0::/\n"}
V1_ROOT = {"proc/self/cgroup": "9:pids:/\n4:cpuset:/other\n3:cpu,cpuacct:/\n0::/\n"}


def machine(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v1(folder, quota, period="100000\n"):
    return {
        f"sys/fs/cgroup/cpu{folder}/cpu.cfs_quota_us": quota,
        f"sys/fs/cgroup/cpu{folder}/cpu.cfs_period_us": period,
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    {
        "no control groups": ({}, math.inf),
        "v2, no limit": ({**V2_ROOT, "sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        "v2, the root group has no file": (V2_ROOT, math.inf),
        "v2, two and a half cores": ({**V2_ROOT, "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        "v2, another period": ({**V2_ROOT, "sys/fs/cgroup/cpu.max": "60000 20000\n"}, 3.0),
        "v2, a group and its parents": (
            {
                "proc/self/cgroup": "0::/a.slice/b.scope\n",
                "sys/fs/cgroup/a.slice/b.scope/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a.slice/cpu.max": "400000 100000\n",
            },
            4.0,
        ),
        "v2, a group of the host": (
            {"proc/self/cgroup": "0::/../host\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
            1.0,
        ),
        "v1, no limit": ({**V1_ROOT, **v1("", "-1\n")}, math.inf),
        "v1, half a core": ({**V1_ROOT, **v1("", "50000\n")}, 0.5),
        "v1, a group": ({"proc/self/cgroup": "3:cpu:/docker/x\n", **v1("/docker/x", "300000\n")}, 3.0),
        "v1, a group of the host": ({"proc/self/cgroup": "3:cpu:/docker/x\n", **v1("", "200000\n")}, 2.0),
        "v1, the quota of another controller": (
            {"proc/self/cgroup": "4:cpuset:/\n", **v1("", "200000\n")},
            math.inf,
        ),
        "nonsense": ({**V2_ROOT, "sys/fs/cgroup/cpu.max": "many\n"}, math.inf),
    }.values(),
    ids=lambda value: None,
)
def test_the_quota_is_what_the_control_groups_say(tmp_path, files, expected):
    assert cpu_quota(machine(tmp_path, files)) == expected


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("1600000 100000", 8), ("350000 100000", 3), ("20000 100000", 1)]
)
def test_a_quota_leaves_whole_cores_and_at_least_one(tmp_path, quota, expected):
    assert available_cores(machine(tmp_path, {**V2_ROOT, "sys/fs/cgroup/cpu.max": quota})) == expected


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("jobs", "variable", "expected"),
    [
        (1, None, 8),
        (2, None, 4),
        (3, None, 2),
        (9, None, 1),
        (2, "1", 1),
        (2, "3", 3),
        (2, "16", 4),
        (1, "2,4", 2),
        (1, "", 8),
        (1, "0", 8),
        (1, "many", 8),
    ],
)
def test_processes_share_the_cores_and_have_no_more_threads_than_omp_num_threads(tmp_path, jobs, variable, expected):
    environment = {} if variable is None else {"OMP_NUM_THREADS": variable}
    assert default_threads(jobs, environment, root=tmp_path) == expected


@pytest.mark.usefixtures("eight_cores")
def test_processes_share_the_quota_of_a_container(tmp_path):
    container = machine(tmp_path, {**V2_ROOT, "sys/fs/cgroup/cpu.max": "400000 100000"})
    assert [default_threads(jobs, {}, container) for jobs in (1, 2, 4, 8)] == [4, 2, 1, 1]


def test_the_variable_of_this_process_counts():
    code = "from dcao_lab.execution.executors import LocalExecutor; print(LocalExecutor(1).threads)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
