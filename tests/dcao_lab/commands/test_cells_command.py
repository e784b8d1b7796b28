"""``dcao-lab cells``: from the runs of a study, and from the tables of its report alone."""

from pathlib import Path

from typer.testing import CliRunner

from dcao_lab.commands.cli import app
from dcao_lab.report.parquet import write_tables
from dcao_lab.study import Arm, Sweep
from dcao_lab.study.conduct import conduct
from dcao_lab.study.folders import STUDY, StudyFolder
from helpers.lab_studies import HereExecutor, silent, tiny_study

RESULTS = Path(__file__).parents[3] / "results"
ARMS = (
    Arm(name="adamw", title="AdamW", optimizer="adamw", sweep=Sweep(lowest=1e-3, num_lrs=3, num_best=1)),
    Arm(name="dcao:adamw", title="DCAO(AdamW)", optimizer="dcao:adamw", reference="adamw"),
)


def invoke(folder):
    return CliRunner().invoke(app, ["cells", str(folder)])


def test_it_prints_the_same_from_the_runs_and_from_the_tables_alone(tmp_path):
    study = tiny_study(arms=ARMS, tuning=None, watching=None)
    folder = StudyFolder.of(study, tmp_path / "studies")
    result = conduct(study, folder, HereExecutor(), silent())
    from_runs = invoke(folder.root)
    assert from_runs.exit_code == 0, from_runs.output
    assert "| workload | metric | DCAO(AdamW) | best AdamW | cells |" in from_runs.output
    alone = tmp_path / "results"
    write_tables(result, alone)
    (alone / STUDY).write_bytes((folder.root / STUDY).read_bytes())
    assert invoke(alone).output == from_runs.output


def test_it_prints_the_cells_of_the_published_transfer_study():
    output = invoke(RESULTS / "transfer-embedded").output
    assert output.startswith("Cells within the goal of a sweep, with one run that nobody tuned: DCAO(AdamW) ")
    assert "\n| Digits ViT | test accuracy | " in output


def test_a_study_without_a_sweep_is_told(tmp_path):
    study = tiny_study(tuning=None, watching=None, seeds=(0,))
    folder = StudyFolder.of(study, tmp_path)
    conduct(study, folder, HereExecutor(), silent())
    result = invoke(folder.root)
    assert result.exit_code == 2
    assert "dcao-lab: this study has no cells: it has no sweep, or no arm that nobody tuned beside one" in result.output
