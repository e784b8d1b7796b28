"""In every mode of mixed and half precision s is that of float64, as far as the precision goes."""

from __future__ import annotations

import pytest
import torch

from dcao import DCAO, policies
from dcao.probing.probed_loss import HALF_PRECISION_ERROR
from stability_by_precision import MODES, NETWORKS, Mode, Training, stability_and_truth

NUM_STEPS = 16
BY_NAME = {mode.name: mode for mode in MODES}


def errors(mode: Mode) -> list[float]:
    """Relative errors of s at four probes on each network."""
    return [
        abs(s / truth - 1.0) for name in NETWORKS for s, truth in stability_and_truth(name, "AdamW", mode, NUM_STEPS)
    ]


# One-sided differences in float32 are balanced at sqrt(u) = 2.4e-4 for numbers of order 1, and a few times that for
# these networks (`default_step_length` has measured 6e-4 to 1.4e-3). A gradient that is rounded to 8 bits (11 in
# float16) turns the step by 2^-9 (2^-12), which s sees twice: as the step, and as its own denominator.
IN_FLOAT32 = {
    "float32": 5e-3,
    "parameters in float16": 5e-3 + 2 * 2**-12,
    "parameters in bfloat16": 5e-3 + 2 * 2**-9,
}


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_s_of_what_is_evaluated_in_float32_is_that_of_float64_to_three_digits(name):
    found = errors(BY_NAME[name])
    assert len(found) >= 10
    assert max(found) <= IN_FLOAT32[name]


@pytest.mark.parametrize("name", ["autocast bfloat16", "autocast float16, GradScaler", "the same, a loss of 0.001"])
def test_s_under_autocast_is_within_the_error_that_its_trust_says_nine_times_in_ten(name):
    found = errors(BY_NAME[name])
    assert len(found) >= 10
    assert sum(error <= HALF_PRECISION_ERROR for error in found) >= 0.9 * len(found)
    training = Training("MLP", "AdamW", BY_NAME[name])
    training.advance()
    assert training.pair[1].last_estimate.trust == pytest.approx(1.0 - HALF_PRECISION_ERROR)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_the_size_of_a_loss_in_float16_does_not_matter_where_the_step_is_the_same(num_parts):
    training = Training("MLP", "AdamW", BY_NAME["autocast float16, GradScaler"])
    model, found = training.pair[0], []
    for size in (1.0, 2.0**-12):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1 / size)
        optimizer = DCAO(sgd, policy=policies.Fixed(), every=1)

        def loss_of(rows: slice, size=size) -> torch.Tensor:
            with torch.autocast("cpu", torch.float16):
                outputs = model(training.inputs[0, rows])
            return size * torch.nn.functional.cross_entropy(outputs.float(), training.targets[0, rows])

        parts = [slice(part, None, num_parts) for part in range(num_parts)]
        found.append(optimizer.probe_if_due([lambda rows=rows, loss_of=loss_of: loss_of(rows) for rows in parts]).s)
    # Powers of two round nothing; of what is left the least number is 2^-24 / 2^16 of a gradient that counts.
    assert found[1] == pytest.approx(found[0], rel=1e-3)
