import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch

from dcao_lab.baselines import BASELINES, get_baseline
from dcao_lab.errors import LabError
from dcao_lab.runs.expected import expected_steps
from dcao_lab.runs.runner import Outcome, RunPlace, load, load_steps, run, summarise
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.workloads import WORKLOADS
from helpers.lab_runs import finish, small_config

SAME_BYTES = ("config.json", "metrics.jsonl", "steps.parquet", "result.json")
DIVERGING = small_config(optimizer="sgd", lr=1e30, num_steps=100, eval_every=100)


@pytest.mark.parametrize("optimizer", ["adamw", "dcao:sgd"])
def test_the_same_config_gives_the_same_bytes(tmp_path, optimizer):
    config = small_config(optimizer=optimizer, measure_solution=optimizer == "adamw")
    folders = []
    for name in ("one", "two"):
        store = RunStore(tmp_path / name)
        run(config, store)
        folders.append(store.folder(config))
    for name in SAME_BYTES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
import torch
from dcao_lab.config import RunConfig
from dcao_lab.runs.runner import run
from dcao_lab.runs.store import RunStore
torch.set_num_threads(int(sys.argv[2]))
run(RunConfig.from_dict(json.loads(sys.argv[3])), RunStore(Path(sys.argv[1])))
"""


def test_two_processes_give_the_same_bytes(tmp_path):
    here, there = RunStore(tmp_path / "here"), RunStore(tmp_path / "there")
    config = small_config(optimizer="dcao:adamw", schedule="cosine", budget=8.0)
    arguments = [str(there.root), str(torch.get_num_threads()), json.dumps(config.to_dict())]
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments], check=True)
    run(config, here)
    for name in SAME_BYTES:
        assert (here.folder(config) / name).read_bytes() == (there.folder(config) / name).read_bytes()


def test_every_step_is_stored(tmp_path):
    store, config = RunStore(tmp_path), small_config(optimizer="dcao:adamw")
    (stored,) = finish(store, config)
    steps = load_steps(config, store)
    assert {field.name: str(field.type) for field in steps.schema} == {
        "step": "int32",
        "loss": "double",
        "lr": "double",
        "gradient_evaluations": "double",
    }
    assert steps["step"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert steps["gradient_evaluations"].to_pylist()[-1] == stored.result.gradient_evaluations
    losses = steps["loss"].to_pylist()
    assert math.fsum(losses[3:]) / 3 == stored.points[-1].train_loss
    assert steps["lr"].to_pylist()[-1] == stored.points[-1].lr


def test_the_file_of_steps_is_compressed_and_has_no_metadata_of_pandas(tmp_path):
    store, config = RunStore(tmp_path), small_config()
    finish(store, config)
    file = pq.ParquetFile(store.folder(config) / "steps.parquet")
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"
    assert b"pandas" not in (file.metadata.metadata or {})


def test_losses_that_are_not_finite_are_stored_as_they_were(tmp_path):
    store = RunStore(tmp_path)
    (stored,) = finish(store, DIVERGING)
    losses = load_steps(DIVERGING, store)["loss"].to_pylist()
    assert len(losses) == stored.result.num_steps
    assert math.isfinite(losses[0])
    assert math.isnan(losses[-1])
    assert stored.points[-1].train_loss is None


def test_watching_a_bare_optimizer_changes_no_metric(tmp_path):
    bare, watched = finish(RunStore(tmp_path), small_config(), small_config(watch=True, spectrum_every=3))
    assert [point.metrics for point in bare.points] == [point.metrics for point in watched.points]
    assert not bare.probes
    assert watched.probes
    assert watched.result.probe_evaluations > 0


def test_dcao_records_its_probes_and_counts_them(tmp_path):
    (stored,) = finish(RunStore(tmp_path), small_config(optimizer="dcao:adamw"))
    assert stored.result.gradient_evaluations == 6 + stored.result.probe_evaluations
    assert sum(record.cost for record in stored.probes) == pytest.approx(stored.result.probe_evaluations)


def test_divergence_is_a_result(tmp_path):
    (stored,) = finish(RunStore(tmp_path), DIVERGING)
    assert stored.result.outcome is Outcome.DIVERGED
    assert stored.result.num_steps < 100
    assert stored.result.final["test_loss"] is None


def test_a_run_that_diverges_has_not_reached_its_target(tmp_path):
    (stored,) = finish(RunStore(tmp_path), DIVERGING)
    result = stored.result
    assert (result.target_step, result.target_evaluations, stored.timing.target_seconds) == (None, None, None)
    assert (result.generalisation_gap, result.oscillation) == (None, None)
    assert result.best_validation < 0.5  # from before the first step


def test_a_run_that_reaches_its_target_says_when(tmp_path, monkeypatch):
    workload = WORKLOADS["digits_mlp"]
    easy = dataclasses.replace(workload, info=dataclasses.replace(workload.info, target=0.7))
    monkeypatch.setitem(WORKLOADS, "digits_mlp", easy)
    (stored,) = finish(RunStore(tmp_path), small_config(lr=1e-2, num_steps=40, eval_every=8))
    reached = next(point for point in stored.points if point.metrics["validation_accuracy"] >= 0.7)
    assert stored.result.target_step == reached.step
    assert stored.result.target_evaluations == reached.gradient_evaluations
    assert stored.timing.target_seconds == reached.seconds > 0.0
    final = stored.result.final
    assert stored.result.generalisation_gap == final["test_loss"] - final["train_loss"]
    assert stored.result.best_validation == max(point.metrics["validation_accuracy"] for point in stored.points)
    assert 0.0 < stored.result.oscillation < 1.0
    assert stored.result.largest_rise >= 0.0


def test_times_and_memory_are_in_a_file_of_their_own(tmp_path):
    store, config = RunStore(tmp_path), small_config()
    (stored,) = finish(store, config)
    timing = stored.timing
    assert timing.seconds == tuple(point.seconds for point in stored.points)
    assert timing.steps_seconds == timing.seconds[-1] > 0.0
    assert timing.evaluation_seconds > 0.0
    assert timing.solution_seconds == 0.0
    written = json.loads((store.folder(config) / "timing.json").read_text())
    assert written["peak_bytes"] == timing.peak_bytes
    assert "seconds" not in (store.folder(config) / "result.json").read_text()


def test_what_is_loaded_is_what_was_returned(tmp_path):
    store, config = RunStore(tmp_path), small_config(measure_solution=True)
    assert run(config, store) == load(config, store).result


def test_what_an_optimizer_refuses_is_a_sentence(tmp_path):
    with pytest.raises(LabError, match=r"dcao:sgd from lr=1e\+30: bounds of lr .* exclude its present value"):
        run(small_config(optimizer="dcao:sgd", lr=1e30, settings={"rule": "proposal"}), RunStore(tmp_path))


def test_an_unknown_optimizer_leaves_no_folder(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(LabError, match="unknown optimizer 'adamv'; did you mean"):
        run(small_config(optimizer="adamv"), store)
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_run_is_strict_json(tmp_path):
    store = RunStore(tmp_path)
    finish(store, config := small_config(optimizer="sgd", watch=True, lr=1e30, num_steps=30, measure_solution=True))
    texts = (path for path in store.folder(config).iterdir() if path.suffix != ".parquet")
    for path in texts:
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=pytest.fail)


def points(*values):
    return [
        EvaluationPoint(
            step=i,
            epoch=float(i),
            gradient_evaluations=i,
            lr=0.1,
            train_loss=0.5,
            metrics={"test_loss": 1.0, "test_perplexity": v, "validation_perplexity": v + 1.0},
            seconds=0.0,
        )
        for i, v in enumerate(values)
    ]


def test_the_best_of_a_metric_that_is_better_small_is_its_minimum():
    result = summarise(points(9.0, 2.0, 4.0), [0.5] * 3, 0.0, WORKLOADS["pydoc_gpt"].info)
    assert (result.best, result.final["test_perplexity"], result.outcome) == (2.0, 4.0, Outcome.FINISHED)
    assert result.best_validation == 3.0


def test_a_run_that_recovers_from_a_lost_loss_has_not_diverged():
    # The mean of the last interval is nan, and the run is not.
    ended = [*points(9.0, 2.0)[:1], dataclasses.replace(points(9.0, 2.0)[1], train_loss=math.nan)]
    info = WORKLOADS["pydoc_gpt"].info
    assert summarise(ended, [0.5, math.nan, 0.5], 0.0, info).outcome is Outcome.FINISHED
    assert summarise(ended, [0.5, 0.5, math.inf], 0.0, info).outcome is Outcome.DIVERGED


class CountingRegistry(dict):
    """Counts how often each entry is looked up."""

    def __init__(self, entries):
        super().__init__(entries)
        self.lookups = Counter()

    def __getitem__(self, name):
        self.lookups[name] += 1
        return super().__getitem__(name)


@pytest.mark.parametrize("optimizer", ["adamw", "dcao:adamw"])
def test_a_run_looks_up_its_workload_and_its_optimizer_once(tmp_path, monkeypatch, optimizer):
    workloads, optimizers = CountingRegistry(WORKLOADS), CountingRegistry(BASELINES)
    monkeypatch.setattr("dcao_lab.workloads.WORKLOADS", workloads)
    monkeypatch.setattr("dcao_lab.baselines.BASELINES", optimizers)
    run(small_config(optimizer=optimizer, budget=8.0, watch=True, measure_solution=True), RunStore(tmp_path))
    assert workloads.lookups == {"digits_mlp": 1}
    assert optimizers.lookups == {optimizer: 1}


def test_a_device_that_is_not_here_is_a_sentence(tmp_path):
    with pytest.raises(LabError, match=r"device 'nonsense' cannot be used here: .*; for example --device cpu"):
        run(small_config(), RunStore(tmp_path), RunPlace(device="nonsense"))


def test_a_run_with_fewer_probes_than_usual_ends_where_dcao_was_told(tmp_path):
    # As where the guard goes back at a step that was due for a probe: the budget has evaluations left.
    config = small_config(optimizer="dcao:sgd", settings=(("every", 30),), num_steps=60, eval_every=60, budget=60.0)
    store = RunStore(tmp_path)
    (stored,) = finish(store, config)
    lrs = load_steps(config, store)["lr"].to_pylist()
    assert len(lrs) == expected_steps(config, get_baseline("dcao:sgd"))
    assert stored.result.gradient_evaluations < 60.0
    # lr goes to 0 in a straight line: of the last of n steps 1/n is left, which a step past the end would keep.
    assert lrs[-1] == pytest.approx(lrs[-2] / 2.0)
