import json
import shutil

import pytest

from dcao_lab.errors import LabError
from dcao_lab.study import Task, Variation
from dcao_lab.study.conduct import Selection, conduct, failures, load_study
from dcao_lab.study.folders import StudyFolder
from helpers.lab_studies import HereExecutor, silent, tinier_study, tiny_study


def do(study, out, executor=None, **options):
    executor = executor or HereExecutor()
    return conduct(study, StudyFolder.of(study, out), executor, silent(), **options), executor


def phases(result):
    return [run.phase for run, _ in result.runs]


def test_a_study_tunes_then_does_the_final_and_the_watched_runs(tmp_path):
    result, executor = do(tiny_study(), tmp_path)
    assert phases(result) == ["trial"] * 6 + ["final"] * 4 + ["watched"] * 2
    assert len(executor.done) == 6 + 4 + 2
    assert (result.missing, result.absences) == ((), {})
    assert all(stored.config == run.config for run, stored in result.runs)


def test_the_final_runs_have_the_settings_of_the_best_trial(tmp_path):
    result, _ = do(tinier_study(), tmp_path)
    for arm in ("adamw", "dcao:adamw"):
        own = [(run, stored) for run, stored in result.runs if run.arm.name == arm]
        tried = [(run, stored.result.final) for run, stored in own if run.phase == "trial"]
        best = max(tried, key=lambda pair: (pair[1]["validation_accuracy"], -pair[1]["validation_loss"]))[0].config
        finals = [run.config for run, _ in own if run.phase == "final"]
        assert {(config.lr, config.settings) for config in finals} == {(best.lr, best.settings)}


def test_a_study_that_is_done_is_not_done_again(tmp_path):
    first, _ = do(tinier_study(), tmp_path)
    second, executor = do(tinier_study(), tmp_path)
    assert executor.done == []
    assert [run for run, _ in second.runs] == [run for run, _ in first.runs]


@pytest.mark.parametrize("num_done", [0, 2, 4, 5])
def test_a_study_that_was_stopped_goes_on_where_it_was(tmp_path, num_done):
    def stop(config):
        if len(stopped.done) == num_done:
            raise KeyboardInterrupt

    stopped = HereExecutor(fail=stop)
    with pytest.raises(KeyboardInterrupt):
        do(tinier_study(), tmp_path, stopped)
    result, executor = do(tinier_study(), tmp_path)
    assert len(result.runs) == 6
    assert len(stopped.done) == num_done
    assert set(stopped.done) | set(executor.done) == {run.config for run, _ in result.runs}
    assert not set(stopped.done) & set(executor.done)


def test_a_damaged_trial_is_done_again(tmp_path):
    study = tinier_study()
    first, _ = do(study, tmp_path)
    store, victim = StudyFolder.of(study, tmp_path).store(), first.runs[0][1].config
    shutil.rmtree(store.folder(victim))
    assert len(load_study(StudyFolder.of(study, tmp_path)).missing) == 1
    _, executor = do(study, tmp_path)
    assert executor.done == [victim]


def test_studies_of_one_folder_share_their_runs(tmp_path):
    do(tinier_study(), tmp_path)
    more = tinier_study(name="other", seeds=(0, 1, 2))
    result, executor = do(more, tmp_path)
    assert {config.seed for config in executor.done} == {1, 2}
    assert len(result.runs) == 6 + 4


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    do(tinier_study(tuning=None), tmp_path)
    with pytest.raises(LabError, match=r"tiny-demo has the study tiny with another config .* give another --out, or"):
        do(tinier_study(), tmp_path)


def test_a_study_without_tuning_has_no_trials(tmp_path):
    result, _ = do(tinier_study(tuning=None), tmp_path)
    assert phases(result) == ["final"] * 2


def test_an_arm_that_refuses_a_workload_is_missing_with_its_sentence_and_no_failure(tmp_path):
    sentence = "DCAO cannot train this, for a reason of its own"
    executor = HereExecutor(fail=lambda config: LabError(sentence) if config.optimizer == "dcao:adamw" else None)
    result, _ = do(tinier_study(), tmp_path, executor)
    assert {run.arm.name for run in result.missing} == {"dcao:adamw"}
    assert {run.phase for run in result.missing} == {"trial", "final"}
    assert {absence.reason for absence in result.absences.values()} == {sentence}
    assert failures(result) == []


def test_what_broke_is_a_failure_and_done_at_the_next_start(tmp_path):
    broken = HereExecutor(fail=lambda config: RuntimeError("out of memory") if config.seed == 0 else None)
    result, _ = do(tinier_study(), tmp_path, broken)
    assert len(failures(result)) == 2
    assert next(iter(result.absences.values())).reason == "RuntimeError: out of memory"
    result, executor = do(tinier_study(), tmp_path)
    assert {config.seed for config in executor.done} == {0}
    assert (result.missing, result.absences) == ((), {})


def test_a_study_of_which_nothing_can_be_done_says_why(tmp_path):
    executor = HereExecutor(fail=lambda config: LabError("there is no data in /nowhere; give --data-dir"))
    with pytest.raises(LabError, match="none of the 6 runs could be done; the first says: there is no data in"):
        do(tinier_study(), tmp_path, executor)


def test_a_selection_does_its_part_and_the_rest_comes_later(tmp_path):
    part, executor = do(tinier_study(), tmp_path, selection=Selection(arms=("adamw",)))
    assert {config.optimizer for config in executor.done} == {"adamw"}
    assert {run.arm.name for run, _ in part.runs} == {"adamw"}
    whole, executor = do(tinier_study(), tmp_path)
    assert {config.optimizer for config in executor.done} == {"dcao:adamw"}
    assert len(whole.runs) == 6


def test_variations_are_told_apart_in_the_result(tmp_path):
    variations = tuple(Variation(axis="lr", value=value) for value in (1e-3, 1e-1))
    result, _ = do(tinier_study(tuning=None, variations=variations), tmp_path)
    assert [(run.variation.value, stored.config.lr) for run, stored in result.runs] == [(1e-3, 1e-3)] * 2 + [
        (1e-1, 1e-1)
    ] * 2


def test_what_is_not_done_yet_is_missing(tmp_path):
    study = tinier_study(tuning=None)
    folder = StudyFolder.of(study, tmp_path)
    folder.keep(study)
    result = load_study(folder)
    assert (len(result.runs), len(result.missing)) == (0, 2)


def test_divergence_is_a_result(tmp_path):
    task = Task(workload="digits_mlp", num_steps=40, eval_every=20)
    study = tinier_study(tasks=(task,), tuning=None, variations=(Variation(axis="lr", value=1e3),))
    result, _ = do(study, tmp_path)
    assert {stored.result.outcome.value for run, stored in result.runs if run.arm.name == "adamw"} == {"diverged"}
    assert result.missing == ()


def test_a_study_reads_back_as_it_was_written(tmp_path):
    study = tinier_study(variations=(Variation(axis="momentum", value=0.5),), measure_solution=True)
    folder = StudyFolder.of(study, tmp_path)
    folder.keep(study)
    assert folder.study() == study
    assert folder.study().fingerprint() == study.fingerprint()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 99}, "this study is of format 99 and this dcao_lab reads format 1; run it again with this version"),
        ({"surprise": 1}, "this study is of format 1 and this dcao_lab reads format 1"),
    ],
    ids=["other version", "other fields"],
)
def test_a_study_of_another_version_is_a_sentence(tmp_path, change, sentence):
    folder = StudyFolder(tmp_path)
    folder.keep(tinier_study())
    path = tmp_path / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LabError, match=sentence):
        load_study(folder)


@pytest.mark.parametrize("part", ["arms", "tasks", "tuning", "variations"])
def test_a_study_whose_parts_are_of_another_version_is_a_sentence(tmp_path, part):
    folder = StudyFolder(tmp_path)
    folder.keep(tinier_study(variations=(Variation(axis="momentum", value=0.5),)))
    path = tmp_path / "study.json"
    data = json.loads(path.read_text())
    (data[part] if isinstance(data[part], dict) else data[part][0])["surprise"] = 1
    path.write_text(json.dumps(data))
    with pytest.raises(LabError, match="this study is of format 1 and this dcao_lab reads format 1; run it again"):
        load_study(folder)


@pytest.mark.parametrize("name", ["study.json", "choices.json", "missing.json"])
def test_a_file_of_a_study_that_holds_something_else_is_a_sentence(tmp_path, name):
    folder = StudyFolder(tmp_path)
    folder.keep(tinier_study())
    (tmp_path / name).write_text("[3]")
    sentence = "this study is of format None" if name == "study.json" else f"{name} is damaged; delete it and start"
    with pytest.raises(LabError, match=sentence):
        load_study(folder)


def test_a_folder_without_a_study_and_a_damaged_one_are_sentences(tmp_path):
    with pytest.raises(LabError, match=r"there is no study in .*; give the folder that has study.json"):
        load_study(StudyFolder(tmp_path))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(LabError, match=r"study.json is damaged; delete it and start the study again"):
        load_study(StudyFolder(tmp_path))
