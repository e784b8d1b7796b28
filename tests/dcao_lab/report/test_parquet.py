"""What the tables of a report keep of a study is read again as it was."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dcao_lab.errors import LabError
from dcao_lab.report.numbers import analyse
from dcao_lab.report.parquet import read_tables, write_tables
from dcao_lab.study import Variation
from dcao_lab.study.folders import StudyFolder
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, finals, result_of, study, task

RESULTS = Path(__file__).parents[3] / "results"


def kept(plan, run):
    """What the tables have of a run: no loss on training data but in its result, and probes where it was watched."""
    points = [
        replace(point, metrics={name: value for name, value in point.metrics.items() if name != "train_loss"})
        for point in run.points
    ]
    commit = run.provenance.get("commit")
    probes = run.probes if plan.phase == "watched" else ()
    return replace(run, points=points, probes=probes, provenance={"commit": commit})


def test_the_runs_of_a_study_come_back_as_they_were(study_result, tmp_path):
    write_tables(study_result, tmp_path)
    found = read_tables(study_result.study, tmp_path)
    assert [plan for plan, _ in found.runs] == [plan for plan, _ in study_result.runs]
    for (plan, there), (_, run) in zip(found.runs, study_result.runs, strict=True):
        assert kept(plan, there) == kept(plan, run)
    assert sum(len(run.probes) for _, run in found.runs) > 10  # of the watched runs


def test_probes_of_an_older_study_do_not_stay_beside_newer_runs(study_result, tmp_path):
    assert {path.name for path in write_tables(study_result, tmp_path)} == {
        "runs.parquet",
        "evaluations.parquet",
        "probes.parquet",
    }
    made = result_of(study(ADAMW), finals(ADAMW, [0.9]))
    assert {path.name for path in write_tables(made, tmp_path)} == {"runs.parquet", "evaluations.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == {"runs.parquet", "evaluations.parquet"}


def test_runs_that_diverged_metrics_of_other_tasks_and_variations_come_back_too(tmp_path):
    gpt, varied = task("pydoc_gpt"), Variation(axis="lr", value=0.1)
    tasks = (task(), gpt)
    made = result_of(
        study(ADAMW, DCAO_ADAMW, tasks=tasks, variations=(varied,)),
        finals(ADAMW, [0.9, None, 0.8]),
        finals(ADAMW, [9.0], on=gpt, lr=0.1, variation=varied),
        finals(DCAO_ADAMW, [None, None], on=gpt),
    )
    write_tables(made, tmp_path)
    found = read_tables(made.study, tmp_path)
    assert [plan for plan, _ in found.runs] == [plan for plan, _ in made.runs]
    assert [run.result for _, run in found.runs] == [run.result for _, run in made.runs]
    assert [run.points for _, run in found.runs] == [run.points for _, run in made.runs]
    assert analyse(found).results == analyse(made).results


def test_tables_of_another_study_are_refused(tmp_path):
    write_tables(result_of(study(ADAMW), finals(ADAMW, [0.9])), tmp_path)
    with pytest.raises(
        LabError, match=r"runs of adamw on digits_mlp, which the study\.json beside it has not; copy both"
    ):
        read_tables(study(SGD), tmp_path)


@pytest.mark.parametrize("folder", sorted(RESULTS.iterdir()), ids=lambda folder: folder.name)
def test_every_study_whose_results_are_published_can_be_read_from_them(folder):
    found = read_tables(StudyFolder(folder).study(), folder)
    assert len(found.runs) == pq.read_metadata(folder / "runs.parquet").num_rows
    assert sum(len(run.points) for _, run in found.runs) == pq.read_metadata(folder / "evaluations.parquet").num_rows
