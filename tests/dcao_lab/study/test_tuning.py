import itertools

import optuna
import pytest

from dcao_lab.errors import LabError
from dcao_lab.study import Arm
from dcao_lab.study.plan import trials
from dcao_lab.study.tuning import Candidate, Trials, best
from helpers.lab_studies import ended, tiny_study

PAIR = ("digits_mlp", "adamw")
ONE_ARM = tiny_study(arms=(Arm(name="adamw", title="AdamW", optimizer="adamw"),))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'trials.db'}"


def states(url):
    storage = optuna.storages.RDBStorage(url)
    studies = storage.get_all_studies()
    found = [trial.state.name for study in studies for trial in storage.get_all_trials(study._study_id)]
    storage.engine.dispose()
    return found


def do(trials_of_study, values):
    """Claim everything and tell ``values`` in turn."""
    for config, value in zip(trials_of_study.claims(trials_of_study.pending()), values, strict=True):
        trials_of_study.tell(config, value)


@pytest.mark.parametrize(
    ("candidates", "higher_is_better", "expected"),
    [
        ([(0.5, 1.0), (0.9, 1.0), (0.7, 1.0)], True, 1),
        ([(5.0, 1.0), (9.0, 1.0), (7.0, 1.0)], False, 0),
        ([(0.9, 0.4), (0.9, 0.3), (0.5, 0.1)], True, 1),
        ([(0.9, 0.3), (0.9, 0.3)], True, 0),
        ([(None, None), (0.1, 9.0)], True, 1),
        ([(None, None), (99.0, 9.0)], False, 1),
        ([(0.9, None), (0.9, 0.3)], True, 1),
        ([(None, None), (None, None)], True, 0),
    ],
    ids=[
        "highest",
        "lowest",
        "tie by loss",
        "tie by order",
        "diverged",
        "diverged of losses",
        "no loss",
        "all diverged",
    ],
)
def test_the_best_trial_is_by_value_then_loss_and_diverged_ones_come_last(candidates, higher_is_better, expected):
    assert best([Candidate(value=v, loss=loss) for v, loss in candidates], higher_is_better) == expected


def test_the_choice_is_the_best_point_of_the_design(url):
    with Trials(ONE_ARM, url) as tuning:
        do(tuning, [ended(0.1), ended(0.9), ended(0.2)])
        chosen = tuning.choices()[PAIR]
    config = trials(ONE_ARM)[1].config
    assert chosen == {"lr": config.lr, **dict(config.settings)}
    assert states(url) == ["COMPLETE"] * 3


def test_an_arm_of_which_every_trial_diverged_takes_the_defaults_and_keeps_them_as_censored(url):
    with Trials(ONE_ARM, url) as tuning:
        do(tuning, [ended(None)] * 3)
        assert tuning.choices()[PAIR] == {"lr": 1e-3, "beta1": 0.9, "weight_decay": 0.01}
    assert states(url) == ["FAIL"] * 3


def test_trials_are_there_once_however_often_the_study_starts(url):
    for _ in range(3):
        with Trials(tiny_study(), url) as tuning:
            assert len(tuning.pending()) == 6
    assert states(url) == ["WAITING"] * 6


def test_a_design_that_a_kill_cut_short_is_completed(url, monkeypatch):
    calls = itertools.count()
    add_trial = optuna.Study.add_trial

    def killed(study, trial):
        if study._storage.__class__.__name__ != "InMemoryStorage" and next(calls) == 4:
            raise KeyboardInterrupt
        add_trial(study, trial)

    monkeypatch.setattr(optuna.Study, "add_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        Trials(tiny_study(), url)
    assert len(states(url)) == 4
    with Trials(tiny_study(), url) as tuning:
        assert len(tuning.pending()) == 6
    assert len(states(url)) == 6


def test_two_at_once_share_the_trials_and_do_none_twice(url):
    with Trials(tiny_study(), url) as first, Trials(tiny_study(), url) as second:
        turns = itertools.zip_longest(first.claims(first.pending()), second.claims(second.pending()))
        mine, others = zip(*turns, strict=True)
        assert len([config for config in (*mine, *others) if config is not None]) == 6
        assert not set(mine) & set(others) - {None}
        assert not list(second.claims(second.pending())), "they are under way"


def test_what_a_dead_process_left_is_claimed_anew(url):
    dead = Trials(ONE_ARM, url)
    left = next(dead.claims(dead.pending()))
    with Trials(ONE_ARM, url) as alive:
        assert left not in list(alive.claims([left]))
        dead.close()
        assert list(alive.claims([left])) == [left]


def test_a_failed_trial_is_left_to_the_next_start(url):
    with Trials(ONE_ARM, url) as tuning:
        do(tuning, [ended(0.1), RuntimeError("out of memory"), ended(0.2)])
        assert tuning.pending() == []
        assert tuning.choices()[PAIR]["lr"] == trials(ONE_ARM)[2].config.lr
    with Trials(ONE_ARM, url) as again:
        assert list(again.claims(again.pending())) == [trials(ONE_ARM)[1].config]


def test_a_result_of_a_trial_that_another_took_over_is_ignored(url):
    with Trials(ONE_ARM, url) as first:
        config = next(first.claims(first.pending()))
        first.tell(config, ended(0.9))
        first.tell(config, ended(0.1))
        do(first, [ended(0.2), ended(0.3)])
        assert first.choices()[PAIR]["lr"] == config.lr


def test_arms_that_differ_in_name_alone_share_their_trials(url):
    arms = tuple(Arm(name=name, title=name, optimizer="adamw") for name in ("one", "two"))
    with Trials(tiny_study(arms=arms), url) as tuning:
        do(tuning, [ended(0.1), ended(0.9), ended(0.2)])
        choices = tuning.choices()
    assert choices["digits_mlp", "one"] == choices["digits_mlp", "two"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("trials", "--storage must be a database URL, for example postgresql"),
        (
            "mysql://user:secret@host/name",
            r"--storage must be an SQLite file or PostgreSQL, got mysql://user:\*\*\*@host",
        ),
        ("sqlite://", "--storage must be an SQLite file or PostgreSQL, got sqlite://"),
        (
            "postgresql+psycopg://u:secret@/none?host=/nowhere",
            r"cannot use the database postgresql\+psycopg://u:\*\*\*@",
        ),
    ],
    ids=str,
)
def test_a_database_that_cannot_be_used_is_a_sentence_without_its_password(url, sentence):
    with pytest.raises(LabError, match=sentence) as caught:
        Trials(ONE_ARM, url)
    assert "secret" not in str(caught.value)
