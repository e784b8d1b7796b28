import gc
import math
import weakref

import pytest
import torch

from dcao.spectra.density import spectral_density
from dcao.spectra.hessian import hessian_spectrum, sharpness
from dcao.spectra.lanczos import LanczosStatus
from dcao.spectra.trace import hessian_trace
from helpers.cases import NETWORK_CASES, NETWORKS
from helpers.reference import dense_hessian


@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("which", ["largest", "smallest", "both"])
def test_the_wanted_pairs_of_every_network_converge_within_the_default_budget(case, which):
    problem = case.problem()
    result = hessian_spectrum(problem.loss, problem.params, k=4, which=which)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(problem))
    assert result.status in (LanczosStatus.CONVERGED, LanczosStatus.INVARIANT), result.reason
    ends = {
        "largest": eigenvalues.flip(0)[:4],
        "smallest": eigenvalues[:4],
        "both": torch.cat([eigenvalues.flip(0)[:4], eigenvalues[:4].flip(0)]),
    }
    # a converged pair is off by less than its residual, 1e-3 of its value
    torch.testing.assert_close(result.ritz_values, ends[which], rtol=1e-3, atol=1e-9)
    assert result.hvp == "exact"


def test_sharpness_is_the_largest_eigenvalue():
    problem = NETWORKS["lstm"].problem()
    truth = float(torch.linalg.eigvalsh(dense_hessian(problem))[-1])
    assert sharpness(problem.loss, problem.params) == pytest.approx(truth, rel=1e-2)
    assert sharpness(problem.loss, problem.params, hvp="central", tolerance=1e-6) == pytest.approx(truth, rel=1e-6)


def test_a_sharpness_that_is_not_settled_warns():
    problem = NETWORKS["gpt"].problem()
    with pytest.warns(UserWarning, match=r"sharpness is not reliable: step budget spent .*2 products"):
        sharpness(problem.loss, problem.params, num_steps=2)


def test_a_loss_of_nan_gives_nan_and_a_warning():
    w = torch.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match=r"sharpness is not reliable: a product with the operator has nan or inf"):
        assert math.isnan(sharpness(lambda: (w * math.nan).square().sum(), [w]))


def test_the_reason_says_how_products_were_made():
    problem = NETWORKS["mlp"].problem()
    result = hessian_spectrum(problem.loss, problem.params, 2, hvp="forward", step_length=1e-4)
    assert result.hvp == "forward"
    assert result.reason.endswith("forward finite differences, step length 0.0001")


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"k must be at least 1, got 0"):
        hessian_spectrum(lambda: None, [torch.ones(1, requires_grad=True)], k=0)
    with pytest.raises(ValueError, match=r"no parameter requires grad"):
        sharpness(lambda: None, [torch.ones(1)])


@pytest.mark.parametrize("hvp", ["exact", "central"])
def test_the_arithmetic_is_our_own_also_under_autocast(hvp):
    network = NETWORKS["mlp"].problem(torch.float32)
    loss_fn, params = network.loss, network.params
    with torch.autocast("cpu", torch.bfloat16):
        inside = hessian_spectrum(loss_fn, params, 2, hvp=hvp, step_length=0.1)
        trace = hessian_trace(loss_fn, params, hvp=hvp, method="hutch++", num_samples=6)
    outside = hessian_spectrum(loss_fn, params, 2)
    assert math.isfinite(trace.trace)
    # The loss runs in bfloat16, 8 bits, as the caller asked; a difference divides its rounding by the step length.
    torch.testing.assert_close(inside.ritz_values, outside.ritz_values, rtol=0.1, atol=0.0)
    assert inside.ritz_values.tolist() != outside.ritz_values.tolist()


@pytest.mark.parametrize("hvp", ["auto", "exact", "central", "forward"])
def test_the_batch_is_freed_with_the_call_and_not_at_a_collection(hvp):
    w = torch.ones(2, requires_grad=True)
    batch = torch.ones(2)
    alive = weakref.ref(batch)
    gc.disable()
    try:
        hessian_spectrum(lambda batch=batch: (batch * w**2).sum(), [w], 1, hvp=hvp)
        del batch
        assert alive() is None
    finally:
        gc.enable()


def test_a_default_device_of_the_callers_does_not_move_our_own_numbers():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with torch.device("meta"):  # nothing can be read from there: what lands on it fails
        spectrum = hessian_spectrum(lambda: (w**3).sum(), [w], 2)
        density = spectral_density(lambda: (w**3).sum(), [w])
    assert spectrum.ritz_values.tolist() == pytest.approx([18.0, 12.0])
    assert density.nodes.max() == pytest.approx(18.0)
