import math

import numpy as np
import pytest
from scipy.stats import qmc

from dcao_lab.baselines import BASELINES
from dcao_lab.baselines.space import Choice, Continuous
from dcao_lab.study.config import Arm
from dcao_lab.study.design import design, search_space

SPACE = {
    "beta1": Continuous(low=0.8, high=0.99, default=0.9, is_log=False),
    "frequency": Choice(values=(1, 10, 50), default=10),
    "lr": Continuous(low=1e-5, high=1e-1, default=1e-3),
}


def test_the_first_point_has_the_documented_defaults():
    assert design(SPACE, 1, seed=3) == [{"beta1": 0.9, "frequency": 10, "lr": 1e-3}]


@pytest.mark.parametrize("seed", [0, 7])
def test_the_other_points_are_the_scrambled_sobol_sequence_of_scipy(seed):
    points = design(SPACE, 17, seed=seed)[1:]
    unit = qmc.Sobol(3, scramble=True, seed=seed).random(16)  # rng=seed would scramble otherwise
    np.testing.assert_allclose([p["beta1"] for p in points], 0.8 + 0.19 * unit[:, 0], rtol=1e-3)  # 4 digits are kept
    assert [p["frequency"] for p in points] == [(1, 10, 50)[int(3 * share)] for share in unit[:, 1]]
    np.testing.assert_allclose([math.log10(p["lr"]) for p in points], -5 + 4 * unit[:, 2], atol=1e-3)


def test_points_cover_the_space_better_than_random_ones():
    space = {name: SPACE[name] for name in ("beta1", "lr")}
    points = design(space, 33, seed=0)[1:]
    unit = np.array([[(p["beta1"] - 0.8) / 0.19, (math.log10(p["lr"]) + 5) / 4] for p in points])
    random = [qmc.discrepancy(np.random.default_rng(seed).random((32, 2))) for seed in range(100)]
    assert qmc.discrepancy(unit) < min(random)


def test_a_longer_design_begins_with_the_shorter_one():
    assert design(SPACE, 12, seed=0)[:5] == design(SPACE, 5, seed=0)


def test_points_are_the_same_whenever_they_are_drawn_and_differ_by_seed():
    assert design(SPACE, 6, seed=0) == design(SPACE, 6, seed=0)
    assert design(SPACE, 6, seed=0) != design(SPACE, 6, seed=1)


def test_what_an_arm_fixes_is_not_searched():
    arm = Arm(name="a", title="a", optimizer="dcao:adamw", settings={"target": 4.0})
    assert set(search_space(arm)) == {"max_relative_step", "weight_decay"}


@pytest.mark.parametrize("name", BASELINES)
def test_every_search_space_has_its_points_inside(name):
    space = search_space(Arm(name=name, title=name, optimizer=name))
    for point in design(space, 9, seed=0):
        assert list(point) == sorted(space)
        for key, value in point.items():
            parameter = space[key]
            is_choice = isinstance(parameter, Choice)
            assert value in parameter.values if is_choice else parameter.low <= value <= parameter.high
