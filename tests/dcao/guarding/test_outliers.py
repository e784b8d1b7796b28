"""Which steps are out of line, on numbers that can be judged by hand."""

import json
import math

import pytest
import torch

from dcao.guarding.outliers import MEMORY, RETURNS_WITHIN, StepMemory, loss_and_norm


def memory(*, patience=3, losses=(), norms=(1.0,) * 10):
    filled = StepMemory(factor=100.0, patience=patience)
    for step, norm in enumerate(norms):
        filled.remember(step=step, loss=losses[step] if losses else None, norm=norm)
    return filled


@pytest.mark.parametrize(("norm", "is_out"), [(99.0, False), (100.0, False), (101.0, True)])
def test_a_gradient_is_out_of_line_above_the_factor(norm, is_out):
    assert (memory().trouble(step=10, loss=None, norm=norm) is not None) is is_out


def test_nothing_is_judged_before_five_steps_with_a_gradient():
    filled = memory(norms=(1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0))
    assert filled.trouble(step=9, loss=None, norm=1e9) is None
    filled.remember(step=9, loss=None, norm=1.0)
    assert filled.trouble(step=10, loss=None, norm=1e9) is not None


def test_a_step_without_a_gradient_sets_no_scale():
    filled = memory(norms=(0.0,) * 200, losses=(0.0,) * 200)
    assert filled.state_dict() == StepMemory(factor=100.0, patience=3).state_dict()


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_an_outlier_is_data_after_as_many_of_its_kind_as_patience_says(patience):
    filled = memory(patience=patience)
    for step in range(patience):
        assert filled.trouble(step=step, loss=None, norm=1e6) is not None
        filled.note(step=step, loss=None, norm=1e6)
    assert filled.trouble(step=patience, loss=None, norm=1e6) is None
    assert filled.trouble(step=patience, loss=None, norm=0.99e8) is None  # within a factor of 100
    assert filled.trouble(step=patience, loss=None, norm=1.01e8) is not None  # of another kind
    assert filled.trouble(step=patience, loss=None, norm=200.0) is None  # nearer than those


def test_an_outlier_is_forgotten_after_a_thousand_steps():
    filled = memory(patience=1)
    filled.note(step=10, loss=None, norm=1e6)
    assert filled.trouble(step=10 + RETURNS_WITHIN - 1, loss=None, norm=1e6) is None
    assert filled.trouble(step=10 + RETURNS_WITHIN, loss=None, norm=1e6) is not None


def test_an_outlier_that_is_taken_is_noted_and_measures_the_next_ones():
    filled = memory(patience=1)
    filled.note(step=10, loss=None, norm=1e6)
    assert filled.remember(step=20, loss=None, norm=1e6)
    assert [outlier.step for outlier in filled.outliers] == [10, 20]
    assert not filled.remember(step=21, loss=None, norm=1e6)  # usual now
    for step in range(MEMORY + 1):
        filled.remember(step=22 + step, loss=None, norm=1.0)
    assert filled.trouble(step=20 + RETURNS_WITHIN - 1, loss=None, norm=1e6) is None  # known by the second


@pytest.mark.parametrize("offset", [0.0, -1000.0])  # a loss may be negative
def test_a_loss_is_out_of_line_three_spreads_above_the_highest_and_above_the_first(offset):
    filled = memory(
        losses=[offset + loss for loss in (5.0, 1.0, 1.0, 1.0, 2.0)] + [offset + 1.5] * 50, norms=(1.0,) * 55
    )
    # The last fifty lie between 1.5 and 1.5: any loss above is three spreads above them, but the first one was 5.
    assert filled.trouble(step=60, loss=offset + 4.9, norm=1.0) is None
    assert filled.trouble(step=60, loss=offset + 5.1, norm=1.0) == (
        f"loss {offset + 5.1:.3g}, far over the first one and the last 50"
    )
    for step in (60, 61, 62):
        filled.note(step=step, loss=offset + 9.0, norm=1.0)  # 7.5 above the lowest
    assert filled.trouble(step=63, loss=offset + 1.5 + 740.0, norm=1.0) is None
    assert filled.trouble(step=63, loss=offset + 1.5 + 760.0, norm=1.0) is not None


@pytest.mark.parametrize(("loss", "norm", "is_usual"), [(5.0, 10.0, True), (5.1, 1.0, False), (2.0, 10.1, False)])
def test_usual_is_half_way_to_out_of_line(loss, norm, is_usual):
    filled = memory(losses=(1.0, 3.0) * 5)  # one spread above the highest is 5, and the root of 100 is 10
    assert filled.is_usual(loss=loss, norm=norm) is is_usual
    assert filled.trouble(step=10, loss=loss, norm=norm) is None
    assert filled.is_usual(loss=None, norm=norm) is (norm <= 10.0)


def test_one_outlier_is_forgotten_by_its_step():
    filled = memory()
    filled.note(step=10, loss=1.0, norm=1e6)
    filled.forget_outlier(11)
    assert len(filled.outliers) == 1
    filled.forget_outlier(10)
    assert not filled.outliers


def test_a_memory_goes_through_json():
    filled = memory(losses=(1.0,) * 10)
    filled.note(step=10, loss=None, norm=1e6)
    restored = StepMemory(factor=100.0, patience=3)
    restored.load_state_dict(json.loads(json.dumps(filled.state_dict())))
    assert restored.state_dict() == filled.state_dict()
    assert restored.outliers == filled.outliers
    assert restored.norms.maxlen == MEMORY


def test_the_length_of_half_precision_gradients_does_not_overflow():
    grads = [torch.full((4,), 3e4, dtype=torch.float16), torch.full((4,), 4e4)]
    # 2 * sqrt(9e8 + 16e8); 3e4 in float16 is 30000 exactly.
    assert loss_and_norm(1.5, grads) == (1.5, pytest.approx(1e5, rel=1e-6))
    assert math.isinf(loss_and_norm(None, [torch.full((4,), math.inf)])[1])
