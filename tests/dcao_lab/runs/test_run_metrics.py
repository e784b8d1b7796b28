import dataclasses
import math
import statistics

import pytest

from dcao_lab.runs.metrics import WINDOW, best_of, first_at_target, generalisation_gap, largest_rise, oscillation
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.workloads import WORKLOADS

ACCURACY = WORKLOADS["digits_mlp"].info  # target 0.97, higher is better
PERPLEXITY = WORKLOADS["pydoc_gpt"].info  # lower is better


def points(info, *values, split="validation"):
    return [
        EvaluationPoint(
            step=10 * index,
            epoch=1.0 * index,
            gradient_evaluations=12.0 * index,
            lr=0.1,
            train_loss=1.0,
            metrics={f"{split}_{info.metric}": value},
            seconds=0.5 * index,
        )
        for index, value in enumerate(values)
    ]


def slow_trend(log_losses):
    """The running median as its definition has it."""
    half, last = WINDOW // 2, len(log_losses) - 1
    windows = ([log_losses[min(max(i + j, 0), last)] for j in range(-half, half + 1)] for i in range(last + 1))
    return [statistics.median(window) for window in windows]


WAVY = [2.0 + math.sin(0.7 * t) + 0.3 * math.cos(2.9 * t) for t in range(60)]


def test_oscillation_is_the_mean_distance_from_the_running_median():
    logs = [math.log(loss) for loss in WAVY]
    expected = statistics.fmean(abs(x - m) for x, m in zip(logs, slow_trend(logs), strict=True))
    assert oscillation(WAVY) == pytest.approx(expected, rel=1e-12)


def test_largest_rise_is_how_far_the_trend_rose_above_its_best():
    trend = slow_trend([math.log(loss) for loss in WAVY])
    expected = max(trend[t] - min(trend[: t + 1]) for t in range(len(trend)))
    assert largest_rise(WAVY) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rate", [0.1, 0.9, 1.0])
def test_a_loss_that_only_falls_is_smooth_however_fast(rate):
    losses = [3.0 * rate**step for step in range(50)]
    assert (oscillation(losses), largest_rise(losses)) == (0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_loss_that_alternates_scores_its_full_swing_whatever_its_size(scale):
    losses = [scale, 1.1 * scale] * 500
    assert oscillation(losses) == pytest.approx(math.log(1.1), rel=1e-2)  # of 1000 steps 10 are near the ends


def test_one_spike_moves_no_trend():
    losses = [1.0] * 30 + [math.e] + [1.0] * 30
    assert largest_rise(losses) == 0.0
    assert oscillation(losses) == pytest.approx(1.0 / 61.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_losses_without_a_logarithm_are_left_out(bad):
    spoiled = [*WAVY[:20], bad, bad, *WAVY[20:], bad]
    assert oscillation(spoiled) == oscillation(WAVY)
    assert largest_rise(spoiled) == largest_rise(WAVY)


@pytest.mark.parametrize("losses", [[], [1.0] * (WINDOW - 1), [math.nan] * 100, [0.0] * 100], ids=len)
def test_too_few_losses_have_no_oscillation(losses):
    assert oscillation(losses) is None
    assert largest_rise(losses) is None


def test_the_target_is_reached_at_the_first_evaluation_that_is_as_good():
    reached = first_at_target(points(ACCURACY, 0.1, math.nan, 0.97, 0.9, 0.99), ACCURACY)
    assert (reached.step, reached.gradient_evaluations, reached.seconds) == (20, 24.0, 1.0)


def test_of_a_metric_that_is_better_small_the_target_is_reached_from_above():
    target = PERPLEXITY.target
    assert first_at_target(points(PERPLEXITY, 2 * target, target / 2), PERPLEXITY).step == 10


@pytest.mark.parametrize("values", [(0.1, 0.9), (math.nan, None)], ids=str)
def test_a_target_that_is_never_reached_is_censored(values):
    assert first_at_target(points(ACCURACY, *values), ACCURACY) is None


def test_test_data_reach_no_target():
    (point,) = points(ACCURACY, 0.5)
    good_on_test = dataclasses.replace(point, metrics={**point.metrics, "test_accuracy": 1.0})
    assert first_at_target([good_on_test], ACCURACY) is None


def test_the_best_is_the_largest_or_the_smallest_as_the_metric_wants():
    assert best_of(points(ACCURACY, 0.1, math.nan, 0.8, 0.5), ACCURACY, "validation") == 0.8
    assert best_of(points(PERPLEXITY, 9.0, 3.0, None, split="test"), PERPLEXITY, "test") == 3.0
    assert best_of(points(ACCURACY, math.nan), ACCURACY, "validation") is None


def test_the_generalisation_gap_is_test_loss_less_training_loss():
    assert generalisation_gap({"test_loss": 0.5, "train_loss": 0.125}) == 0.375
    assert generalisation_gap({"test_loss": None, "train_loss": 0.125}) is None
    assert generalisation_gap({"test_loss": 0.5}) is None
