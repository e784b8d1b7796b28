import pytest

from dcao_lab.baselines import BASELINES
from dcao_lab.runs.expected import SECONDS_A_RUN, expected_seconds, expected_steps
from helpers.lab_runs import small_config


def expected(optimizer="dcao:adamw", **changes):
    return expected_steps(small_config(optimizer=optimizer, **changes), BASELINES[optimizer])


def test_a_budget_shortens_what_an_optimizer_plans_for():
    # Of 200 gradient evaluations DCAO spends 20: on the check of the first probe, and on probes before steps 0, 5, 10
    # ... 60, 80, 100 ... 180.
    assert expected(num_steps=200, budget=200.0) == 181
    # Of 100 it spends a tenth, since the run is known to be short: before steps 0, 18, 27 ... 81, and one on the check
    # of the first probe.
    assert expected(num_steps=100, budget=100.0) == 90
    assert expected(num_steps=50, budget=100.0) == 50
    # The literal form spends about 1.2 a step.
    assert expected("dcao-literal:adamw", num_steps=100, budget=100.0) == 83
    assert expected(num_steps=100) == 100


def test_probing_and_longer_runs_are_expected_to_take_longer():
    plain = expected_seconds(small_config()) - SECONDS_A_RUN
    assert expected_seconds(small_config(optimizer="dcao:adamw")) - SECONDS_A_RUN > plain
    assert expected_seconds(small_config(watch=True)) - SECONDS_A_RUN > plain
    assert expected_seconds(small_config(num_steps=12)) - SECONDS_A_RUN == pytest.approx(2 * plain, rel=1e-12)
