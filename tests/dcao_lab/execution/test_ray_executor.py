"""The Ray executor on a real cluster: two nodes on this machine, one of which is killed."""

import builtins

import pytest

from dcao_lab.errors import LabError
from dcao_lab.execution.ray_executor import RayExecutor, tasks_in_flight
from dcao_lab.runs.runner import RunResult
from dcao_lab.runs.store import RunState, RunStore
from helpers.lab_runs import finish, one_thread, run_bytes, small_config

STEPS = {"num_steps": 400, "eval_every": 100}  # about a second: a machine can be lost in the middle of some


@pytest.fixture(autouse=True)
def usual_print(monkeypatch):
    """Ray replaces print in this process, for good; what other tests pickle may hold the usual one."""
    monkeypatch.setattr(builtins, "print", builtins.print)


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one CPU each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; Ray warns without it
    ray = pytest.importorskip("ray", reason="needs dcao[cluster]")
    from ray.cluster_utils import Cluster

    nodes = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=nodes)
    cluster.lost = cluster.add_node(**nodes)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_all_runs_arrive_once_and_the_same_when_a_node_is_lost_in_the_middle(cluster, tmp_path):
    store, local = RunStore(tmp_path / "ray"), RunStore(tmp_path / "local")
    configs = [small_config(seed=seed, **STEPS) for seed in range(6)]
    bad = small_config(workload="no such thing")
    outcomes = []

    def on_done(config, outcome):
        if len(outcomes) == 2:
            cluster.remove_node(cluster.lost, allow_graceful=False)
        outcomes.append((config, outcome))

    RayExecutor(cluster.address).run_all([*configs, bad], store, on_done)
    with one_thread():
        finish(local, *configs)
    assert sorted(config.seed for config, outcome in outcomes if isinstance(outcome, RunResult)) == list(range(6))
    assert [type(outcome) for config, outcome in outcomes if config is bad] == [LabError]
    assert all(store.state(config) is RunState.FINISHED for config in configs)
    assert [run_bytes(store, config) for config in configs] == [run_bytes(local, config) for config in configs]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "127.0.0.1:99999999"])
def test_a_cluster_that_does_not_answer_is_one_sentence(tmp_path, address):
    pytest.importorskip("ray", reason="needs dcao[cluster]")
    with pytest.raises(LabError, match=rf"no Ray cluster at {address} \(.*\); start one with `ray start --head`"):
        RayExecutor(address).run_all([small_config()], RunStore(tmp_path), lambda *_: None)


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_ray(name, *arguments, **keywords):
        if name == "ray":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(LabError, match=r"runs on a cluster need Ray: pip install '.\[cluster\]' in a clone"):
        RayExecutor(None).run_all([small_config()], RunStore(tmp_path), lambda *_: None)


def test_what_no_machine_has_is_said_before_the_tasks_wait_for_it_forever():
    with pytest.raises(LabError, match="no machine of the Ray cluster has the 1 CPUs and 1 GPUs that a run needs"):
        tasks_in_flight([{"CPU": 4.0}, {"CPU": 4.0, "GPU": 0.5}], {"CPU": 1.0, "GPU": 1.0})


def test_twice_as_many_tasks_as_fit_are_in_flight():
    assert tasks_in_flight([{"CPU": 4.0}, {"CPU": 3.0}], {"CPU": 2.0, "GPU": 0.0}) == 6


def test_a_run_needs_some_cpu():
    with pytest.raises(LabError, match=r"a run needs more than 0 CPUs and 0 GPUs or more, got 0.0 and 0.0"):
        RayExecutor(None, cpus_per_run=0.0)
