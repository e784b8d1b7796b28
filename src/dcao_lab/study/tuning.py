"""The trials of a study: a design that is fixed in advance, worked off by any number of processes and machines.

Optuna keeps each trial's hyperparameters, state and value. A trial waits; a process claims it, which says whose it is;
its result completes it. What a dead process leaves, and what failed, is claimed anew. A trial that diverged has state
FAIL and no value: a censored result, behind all others when the best is chosen.
"""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from dcao_lab.config import RunConfig
from dcao_lab.files import jsontext
from dcao_lab.runs.runner import Outcome, RunResult
from dcao_lab.study.config import StudyConfig
from dcao_lab.study.design import Point, distributions, search_space
from dcao_lab.study.locks import open_locks
from dcao_lab.study.plan import Choices, Pair, trials
from dcao_lab.study.result import PlannedRun
from dcao_lab.workloads import get_workload

OWNER = "owner"
LOSS = "validation_loss"
OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial that ended, as far as choosing goes.

    Attributes:
        value: The workload's metric on validation data at the end; None: the run diverged.
        loss: The validation loss at the end, which decides between equal values.
    """

    value: float | None
    loss: float | None


def best(candidates: Sequence[Candidate], higher_is_better: bool) -> int:
    """Index of the best candidate: by value, then by loss, then the earlier. The first if all diverged.

    Example:
        >>> tied = [Candidate(value=0.9, loss=0.4), Candidate(value=0.9, loss=0.3), Candidate(value=None, loss=None)]
        >>> best(tied, higher_is_better=True)
        1
    """
    sign = -1.0 if higher_is_better else 1.0

    def rank(index: int) -> tuple[bool, float, float]:
        value, loss = candidates[index].value, candidates[index].loss
        return value is None, sign * (value or 0.0), float("inf") if loss is None else loss

    return min(range(len(candidates)), key=rank)


class Trials:
    """The trials of a study in a database.

    Args:
        study: The study.
        url: Database as SQLAlchemy spells it; tables and trials are made where they are not there.
        runs: The trials to work on; None takes all.
    """

    def __init__(self, study: StudyConfig, url: str, runs: Sequence[PlannedRun] | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._locks = open_locks(url)
        self._failed: set[RunConfig] = set()
        self._ids: defaultdict[RunConfig, list[int]] = defaultdict(list)
        self._pairs: dict[Pair, list[tuple[PlannedRun, int]]] = {}
        with self._locks.exclusive():
            self._storage = _storage(url)
            for pair, planned in _by_pair(trials(study) if runs is None else runs).items():
                ids = _enqueued(self._storage, study, planned)
                self._pairs[pair] = list(zip(planned, ids, strict=True))
                for run, trial_id in self._pairs[pair]:
                    self._ids[run.config].append(trial_id)

    def pending(self) -> list[RunConfig]:
        """What has no result yet and has not failed here, in the study's order; others may be at it."""
        return [config for config in self._ids if config not in self._failed and self._open(config)]

    def claims(self, configs: Sequence[RunConfig]) -> Iterator[RunConfig]:
        """Those of ``configs`` that nobody else does, each claimed when it is asked for."""
        for config in configs:
            with self._locks.exclusive():
                claimed = [self._claim(trial_id) for trial_id in self._open(config)]
            if any(claimed):
                yield config

    def tell(self, config: RunConfig, outcome: RunResult | Exception) -> None:
        """Keep what came out of a claimed trial. A failure leaves it to whoever comes after this process."""
        if isinstance(outcome, Exception):
            self._failed.add(config)
            return
        candidate = _candidate(config, outcome)
        for trial_id in self._open(config):
            with contextlib.suppress(UpdateFinishedTrialError):  # another process took this one for dead
                self._complete(trial_id, candidate)

    def choices(self) -> Choices:
        """The best point of every workload and arm whose trials have all ended; the defaults where all diverged."""
        return {pair: self._choice(members) for pair, members in self._pairs.items() if not self._waits_for(members)}

    def close(self) -> None:
        """Leave what is claimed to others, and the database."""
        self._locks.close()
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, config: RunConfig) -> list[int]:
        ids = self._ids[config]
        return [trial_id for trial_id in ids if not self._storage.get_trial(trial_id).state.is_finished()]

    def _claim(self, trial_id: int) -> bool:
        owner = self._storage.get_trial(trial_id).user_attrs.get(OWNER)
        if owner is not None and self._locks.is_alive(owner):
            return False
        self._storage.set_trial_user_attr(trial_id, OWNER, self._locks.owner)
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        return True

    def _complete(self, trial_id: int, candidate: Candidate) -> None:
        is_censored = candidate.value is None
        outcome = Outcome.DIVERGED if is_censored else Outcome.FINISHED
        self._storage.set_trial_user_attr(trial_id, OUTCOME, outcome.value)
        self._storage.set_trial_user_attr(trial_id, LOSS, candidate.loss)
        state, values = (TrialState.FAIL, None) if is_censored else (TrialState.COMPLETE, [candidate.value])
        self._storage.set_trial_state_values(trial_id, state, values)

    def _waits_for(self, members: list[tuple[PlannedRun, int]]) -> bool:
        return any(run.config not in self._failed and self._open(run.config) for run, _ in members)

    def _choice(self, members: list[tuple[PlannedRun, int]]) -> Point:
        candidates = [_stored_candidate(self._storage.get_trial(trial_id)) for _, trial_id in members]
        run = members[best(candidates, _higher_is_better(members[0][0]))][0]
        searched = search_space(run.arm)
        return {name: value for name, value in (*run.config.settings, ("lr", run.config.lr)) if name in searched}


def _by_pair(runs: Sequence[PlannedRun]) -> dict[Pair, list[PlannedRun]]:
    pairs: defaultdict[Pair, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        pairs[run.task.workload, run.arm.name].append(run)
    return pairs


def _storage(url: str) -> RDBStorage:
    waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **waits})


def _enqueued(storage: RDBStorage, study: StudyConfig, planned: list[PlannedRun]) -> list[int]:
    """Ids of the planned trials; those that are not there are added. Nobody else may be at it."""
    first = planned[0]
    digest = hashlib.sha256(jsontext.dumps([run.config.fingerprint() for run in planned]).encode()).hexdigest()[:16]
    name = f"{study.name}-{study.size}/{first.task.workload}/{first.arm.name}/{digest}"
    direction = "maximize" if _higher_is_better(first) else "minimize"
    there = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    for run in planned[len(there.get_trials(deepcopy=False)) :]:  # in order, so a kill leaves a beginning
        there.add_trial(_waiting(run))
    study_id = storage.get_study_id_from_name(name)
    return [storage.get_trial_id_from_study_id_trial_number(study_id, number) for number in range(len(planned))]


def _waiting(run: PlannedRun) -> FrozenTrial:
    space = search_space(run.arm)
    values = {**dict(run.config.settings), "lr": run.config.lr}
    return create_trial(
        state=TrialState.WAITING,
        params={name: values[name] for name in space},
        distributions=distributions(space),
        user_attrs={"run": run.config.fingerprint()},
    )


def _higher_is_better(run: PlannedRun) -> bool:
    return get_workload(run.task.workload).info.higher_is_better


def _candidate(config: RunConfig, result: RunResult) -> Candidate:
    metric = get_workload(config.workload).info.metric
    if result.outcome is Outcome.DIVERGED:
        return Candidate(value=None, loss=None)
    return Candidate(value=result.final[f"validation_{metric}"], loss=result.final["validation_loss"])


def _stored_candidate(trial: FrozenTrial) -> Candidate:
    has_value = trial.state is TrialState.COMPLETE
    return Candidate(value=trial.value if has_value else None, loss=trial.user_attrs.get(LOSS))
