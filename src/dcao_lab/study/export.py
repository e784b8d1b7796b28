"""Export the trials of a study to an Optuna storage, for example to look at them in Optuna's dashboard."""

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from dcao_lab.runs.metrics import number
from dcao_lab.runs.result import StoredRun
from dcao_lab.study.design import distributions, search_space, searched_point
from dcao_lab.study.result import PlannedRun, StudyResult
from dcao_lab.study.tuning import end_of
from dcao_lab.workloads import get_workload


def export_trials(result: StudyResult, storage: str | BaseStorage) -> int:
    """Copy the trials of a study into ``storage``, and return how many there were.

    Each workload and arm is a study of Optuna's, for example ``headline-embedded/digits_mlp/adamw``. A trial has its
    hyperparameters, the workload's metric on validation data at the end and at every evaluation, and the fingerprint
    of its run. One that diverged has the state FAIL and no value.

    Args:
        result: The study, from :func:`dcao_lab.study.conduct.load_study`.
        storage: A storage of Optuna's, or its URL, for example ``sqlite:///trials.db``.

    Raises:
        optuna.exceptions.DuplicatedStudyError: ``storage`` has these trials already.
    """
    trials = [(run, stored) for run, stored in result.runs if run.phase == "trial"]
    for task, arm in dict.fromkeys((run.task, run.arm) for run, _ in trials):
        info = get_workload(task.workload).info
        study = optuna.create_study(
            study_name=f"{result.study.name}-{result.study.size}/{task.workload}/{arm.name}",
            storage=storage,
            direction="maximize" if info.higher_is_better else "minimize",
        )
        own = [pair for pair in trials if (pair[0].task, pair[0].arm) == (task, arm)]
        study.add_trials([_exported(run, stored, info.metric) for run, stored in own])
    return len(trials)


def _exported(run: PlannedRun, stored: StoredRun, metric: str) -> FrozenTrial:
    value, loss = end_of(stored.result, metric)
    curve = {point.step: point.metrics[f"validation_{metric}"] for point in stored.points}
    return create_trial(
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        value=value,
        params=searched_point(run.arm, run.config),
        distributions=distributions(search_space(run.arm)),
        intermediate_values={step: v for step, v in curve.items() if number(v) is not None},
        user_attrs={"run": run.config.fingerprint(), "validation_loss": loss},
    )
