"""Where the mean loss turns up for good, on losses that are made up."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable

import pytest

from dcao.guarding.turning import LASTING, LONGEST, SHARE_OF_GAIN, WINDOW, Rising, TurningPoint

GROWTH = 1.1
ERRORS = 5.0  # what the default policy asks for where the loss is the only witness


def alarm(losses: Iterable[float], watch: TurningPoint | None = None, errors: float = ERRORS) -> int | None:
    """The step whose loss gives the alarm; None if there is none."""
    watch = TurningPoint() if watch is None else watch
    for step, loss in enumerate(losses):
        watch.note(loss, Rising(lr=GROWTH**step, errors=errors))
        if watch.has_turned:
            return step
    return None


def there_and_back(bottom: int, num_steps: int) -> list[float]:
    """Falls by 1 a step to 0, and rises by 1 a step."""
    return [float(abs(step - bottom)) for step in range(num_steps)]


def test_a_loss_that_falls_and_rises_turns_where_the_window_was_lowest():
    watch = TurningPoint()
    # The lowest window of 8 is that of 26..33 or 27..34 around the bottom at 30: means 2. The first of them counts.
    step = alarm(there_and_back(30, 80), watch)
    assert watch.lowest.mean == 2.0
    assert watch.lowest.first == 27  # the steps 26 to 33, counted from 1
    assert watch.lowest.lr == pytest.approx(GROWTH**30)
    # Neighbours differ by 1: a variance of 1/2. The first mean without a step of the lowest window is that of 34..41,
    # 7.5, which is up by 5.5: more than 5 errors, 5 sqrt(1/2 (1/8 + 1/8)) = 1.8, and than 20 % of 26.5 - 2. The third
    # one in a row ends at 43.
    assert step == 43


def test_windows_that_overlap_do_not_count():
    # The loss is 0 for eight steps and 100 from then on: a mean with a step of the lowest window says nothing, so that
    # the first that counts is that of steps 16 to 23, and the third in a row ends at 25.
    losses = [50.0] * 8 + [0.0] * 8 + [100.0] * 30
    assert alarm(losses) == 25


def test_a_loss_that_only_falls_never_turns():
    assert alarm(1.0 / (1 + step) for step in range(300)) is None
    assert alarm([1.0] * 300) is None


def test_what_is_small_beside_the_gain_is_none():
    # From 100 to 1, and then up by 18 % or by 22 % of the 99 gained, without noise.
    for share, has_turned in ((0.9 * SHARE_OF_GAIN, False), (1.1 * SHARE_OF_GAIN, True)):
        losses = [100.0] * WINDOW + [1.0] * WINDOW + [1.0 + 99.0 * share] * 40
        assert (alarm(losses) is not None) == has_turned


def test_what_does_not_last_is_none():
    # From step 16 on the loss is 100 instead of 0, for L steps. After n steps the mean is 100 L / n, for n from 8 on,
    # and the variance 1e4 / (n + 7): half of a jump up and one down, over the steps since 8. At n = 8, 9 and 10 five
    # errors are 5 sqrt(1e4 / (n + 7) (1/8 + 1/n)) = 64.5, 60.7 and 57.5. For L = 5 the means are 62.5, 55.6 and 50; for
    # L = 6 they are 75, 66.7 and 60.
    assert (WINDOW, LASTING, LONGEST) == (8, 3, 16)
    for length, has_turned in ((5, False), (6, True)):
        losses = [100.0] * 8 + [0.0] * 8 + [100.0] * length + [0.0] * 60
        assert (alarm(losses) is not None) == has_turned


@pytest.mark.parametrize("num_after", [8, 11, 16, 24])
def test_by_how_many_errors_it_is_up_by_hand(num_after):
    # 0 and 2 in turn for 8 steps, then 1 and 3 in turn. Neighbours differ by 2, a variance of 2, but by 1 where the
    # rise begins. The last 16 steps are compared with the lowest 8, the first ones.
    losses = [float(2 * (step % 2)) for step in range(8)] + [1.0 + 2 * (step % 2) for step in range(num_after)]
    last = losses[8:][-16:]
    variance = (2.0 * (num_after + 6) + 0.5) / (num_after + 7)
    errors = (sum(last) / len(last) - 1.0) / math.sqrt(variance * (1 / 8 + 1 / len(last)))
    for factor, is_up in ((1.001, False), (0.999, True)):
        watch = TurningPoint()
        for loss in losses:
            watch.note(loss, Rising(lr=1.0, errors=factor * errors))
        assert (watch.num_up > 0) == is_up


def noise(kind: str, generator: random.Random) -> float:
    return {"normal": lambda: generator.gauss(0.0, 1.0), "skewed": lambda: generator.expovariate(1.0)}[kind]()


COURSES = {
    "a plateau": lambda step: 0.0,
    "a descent": lambda step: -0.05 * step,
    "a descent that levels off": lambda step: 10.0 * math.exp(-step / 30.0),
}


@pytest.mark.parametrize("kind", ["normal", "skewed"])
@pytest.mark.parametrize("course", COURSES)
def test_noise_gives_hardly_any_alarm(kind, course):
    # 2000 runs of 100 steps. With a probability of 1 % a Poisson number is 10 or less where 20 are expected: so fewer
    # than 1 in 100 are taken back without need.
    generator = random.Random(0)
    runs = ([COURSES[course](step) + noise(kind, generator) for step in range(100)] for _ in range(2000))
    assert sum(alarm(losses) is not None for losses in runs) <= 10


def test_noise_hides_no_rise_that_is_clear():
    # Up by 5 standard deviations of one loss, which are 10 errors of the difference of two windows: sqrt(2 / 8) = 0.5.
    generator, seen = random.Random(0), 0
    for _ in range(100):
        course = [10.0 - 10.0 * min(step, 30) / 30 + (5.0 if step > 50 else 0.0) for step in range(90)]
        seen += alarm(each + generator.gauss(0.0, 1.0) for each in course) is not None
    assert seen > 95


def swinging(curvatures: list[float], lr: float) -> list[float]:
    """Losses of heavy-ball descent on a quadratic, with momentum 0.9, while lr rises to half of where it diverges."""
    weights, buffers, losses = [1.0] * len(curvatures), [0.0] * len(curvatures), []
    for _ in range(300):
        losses.append(sum(h * w * w for h, w in zip(curvatures, weights, strict=True)) / 2.0)
        buffers = [0.9 * v + h * w for h, v, w in zip(curvatures, buffers, weights, strict=True)]
        weights = [w - lr * v for v, w in zip(buffers, weights, strict=True)]
        lr = min(GROWTH * lr, 1.9 / max(curvatures))
    return losses


@pytest.mark.parametrize("curvatures", [[1.0], [1.0, 100.0], [1.0, 10.0, 100.0, 1000.0]], ids=len)
def test_a_swing_of_momentum_across_the_valley_is_no_turning_point(curvatures):
    for exponent in range(24):
        assert alarm(swinging(curvatures, 1e-4 / max(curvatures) * GROWTH**exponent)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_passed_over(bad):
    losses = there_and_back(30, 80)
    with_bad, watch = [each for loss in losses for each in (loss, bad)], TurningPoint()
    assert alarm(with_bad, watch) == 2 * alarm(losses)
    assert watch.lowest.mean == 2.0


def test_losses_at_the_end_of_floating_point_do_no_harm():
    assert alarm([1.7e308] * 40) is None
    assert alarm([1.7e308, -1.7e308] * 40) is None


@pytest.mark.parametrize("spike", [1e9, 1e200])
def test_the_noise_after_a_spike_is_not_lost_in_it(spike):
    # Neighbours differ by 1, a variance of 1/2. After the spike the mean is 1.4 and then 1.55: up by more than 20 % of
    # what was gained since 1.5, but by half of an error, sqrt(1/2 (1/8 + 1/8)) = 0.35. A rise by 10 is none of noise.
    for rise, turns in ((0.15, False), (10.0, True)):
        later = [each + rise for each in (1.9, 0.9)] * 10
        assert (alarm([2.0, 1.0] * 4 + [spike] + [1.9, 0.9] * 4 + later) is not None) == turns


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_the_unit_of_the_loss_and_its_zero_do_not_matter(unit):
    losses = there_and_back(30, 80)
    assert alarm(unit * loss for loss in losses) == alarm(loss - 1000.0 for loss in losses) == 43


@pytest.mark.parametrize("cut", [0, 3, 20, 40, 42])
def test_it_goes_on_from_its_state(cut):
    losses, watch, resumed = there_and_back(30, 80), TurningPoint(), TurningPoint()
    assert alarm(losses[:cut], watch) is None
    resumed.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    for step in range(cut, 44):
        assert not resumed.has_turned
        resumed.note(losses[step], Rising(lr=GROWTH**step, errors=ERRORS))
    assert resumed.has_turned
    assert resumed.lowest.lr == pytest.approx(GROWTH**30)
