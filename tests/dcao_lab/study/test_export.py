import math

import optuna
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from dcao_lab.commands.cli import app
from dcao_lab.study.conduct import conduct
from dcao_lab.study.export import export_trials
from dcao_lab.study.folders import StudyFolder
from dcao_lab.study.plan import trials
from dcao_lab.study.tuning import choices
from helpers.lab_studies import HereExecutor, silent, tiny_study
from helpers.report_studies import result_of, stored

STUDY = tiny_study()
NAMES = ["tiny-demo/digits_mlp/adamw", "tiny-demo/digits_mlp/dcao:adamw"]


def test_optuna_finds_the_best_trial_that_tuning_chose(tmp_path):
    folder = StudyFolder.of(STUDY, tmp_path)
    result = conduct(STUDY, folder, HereExecutor(), silent())
    out = tmp_path / "trials.db"
    output = CliRunner().invoke(app, ["export-trials", str(folder.root), "--out", str(out)]).output
    assert output == f"6 trials are in {out}\n"
    url = f"sqlite:///{out}"
    assert sorted(optuna.get_all_study_names(url)) == NAMES
    for name in NAMES:
        study = optuna.load_study(study_name=name, storage=url)
        assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
        values = {trial.number: trial.value for trial in study.trials}
        tied = [study.trials[number] for number, value in values.items() if value == study.best_value]
        best = min(tied, key=lambda trial: trial.user_attrs["validation_loss"])
        assert best.params == folder.choices()["digits_mlp", name.rpartition("/")[2]]
        runs = {run.config.fingerprint(): each for run, each in result.runs}
        for trial in study.trials:
            points = runs[trial.user_attrs["run"]].points
            assert trial.intermediate_values == {p.step: p.metrics["validation_accuracy"] for p in points}


def test_a_diverged_trial_is_exported_as_one_without_a_value():
    runs = [run for run in trials(STUDY) if run.arm.name == "adamw"]
    values = (0.5, None, 0.7)
    result = result_of(STUDY, [(run, stored(run.config, value)) for run, value in zip(runs, values, strict=True)])
    storage = optuna.storages.InMemoryStorage()
    assert export_trials(result, storage) == 3
    study = optuna.load_study(study_name=NAMES[0], storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert study.trials[1].intermediate_values == {0: 0.1}  # before the first step it was a number
    chosen = choices(runs, {run.config: each.result for run, each in result.runs})
    assert study.best_params == chosen["digits_mlp", "adamw"]
    assert not any(math.isnan(trial.value) for trial in study.trials if trial.value is not None)


def test_trials_are_exported_once():
    storage = optuna.storages.InMemoryStorage()
    run = trials(STUDY)[0]
    result = result_of(STUDY, [(run, stored(run.config, 0.5))])
    export_trials(result, storage)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError, match="'tiny-demo/digits_mlp/adamw' already exists"):
        export_trials(result, storage)


def test_an_export_does_not_write_into_a_file_that_is_there(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.keep(STUDY)
    out = tmp_path / "mine"
    out.write_text("precious")
    result = CliRunner().invoke(app, ["export-trials", str(folder.root), "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr == f"dcao-lab: cannot read or write {out}: File exists; try another --out\n"
    assert out.read_text() == "precious"
