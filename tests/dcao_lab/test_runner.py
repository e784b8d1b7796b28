import json

import pytest

from dcao_lab.errors import LabError
from dcao_lab.runner import Outcome, run, summarise
from dcao_lab.store import RunStore
from dcao_lab.training import EvaluationPoint
from dcao_lab.workloads import WORKLOADS
from lab_runs import finish, small_config

SAME_BYTES = ("config.json", "metrics.jsonl", "result.json")


@pytest.mark.parametrize("optimizer", ["adamw", "dcao:sgd"])
def test_the_same_config_gives_the_same_bytes(tmp_path, optimizer):
    config = small_config(optimizer=optimizer)
    folders = []
    for name in ("one", "two"):
        store = RunStore(tmp_path / name)
        run(config, store)
        folders.append(store.folder(config))
    for name in SAME_BYTES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


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
    (stored,) = finish(RunStore(tmp_path), small_config(optimizer="sgd", lr=1e30, num_steps=100, eval_every=100))
    assert stored.result.outcome is Outcome.DIVERGED
    assert stored.result.num_steps < 100
    assert stored.result.final["test_loss"] is None


def test_what_an_optimizer_refuses_is_a_sentence(tmp_path):
    with pytest.raises(LabError, match=r"dcao:sgd from lr=1e\+30: bounds of lr .* exclude its present value"):
        run(small_config(optimizer="dcao:sgd", lr=1e30), RunStore(tmp_path))


def test_an_unknown_optimizer_leaves_no_folder(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(LabError, match="unknown optimizer 'adamv'; did you mean"):
        run(small_config(optimizer="adamv"), store)
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_run_is_strict_json(tmp_path):
    store = RunStore(tmp_path)
    finish(store, config := small_config(optimizer="sgd", watch=True, lr=1e30, num_steps=30))
    for path in store.folder(config).iterdir():
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(line, parse_constant=pytest.fail)


def points(*values):
    return [
        EvaluationPoint(
            step=i,
            gradient_evaluations=i,
            lr=0.1,
            train_loss=0.5,
            metrics={"test_loss": 1.0, "test_perplexity": v},
            seconds=0.0,
        )
        for i, v in enumerate(values)
    ]


def test_the_best_of_a_metric_that_is_better_small_is_its_minimum():
    result = summarise(points(9.0, 2.0, 4.0), 0.0, WORKLOADS["pydoc_gpt"].info)
    assert (result.best, result.final["test_perplexity"], result.outcome) == (2.0, 4.0, Outcome.FINISHED)
