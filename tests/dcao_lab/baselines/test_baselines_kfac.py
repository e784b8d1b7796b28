"""K-FAC against dense matrices in float64."""

import copy
import sys

import pytest
import torch
from torch import nn

from dcao_lab.baselines.kfac import KFAC
from dcao_lab.baselines.kfac_factors import FactorEstimator, can_be_treated, curvlinops
from dcao_lab.errors import LabError

DAMPING = 0.01


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5)).double()


def estimator(model, batch, **changes):
    settings = {"damping": DAMPING, "fisher_type": "type-2", **changes}
    made = FactorEstimator(model, nn.CrossEntropyLoss(), can_be_treated(model), **settings)
    made.update(batch)
    made.invert()
    return made


def gradients(model, seed=1):
    return [random(*param.shape, seed=seed + index) for index, param in enumerate(model.parameters())]


def output_hessian(logits):
    """Of cross-entropy: diag(p) - p p'."""
    p = logits.softmax(-1)
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def dense_fisher(model, inputs, layer):
    """The Fisher of one layer's weight and bias, as vec([W b]) by rows: mean over examples of J' H_L J."""
    params = dict(model.named_parameters())

    def logits(joint, x):
        values = {**params, f"{layer}.weight": joint[:, :-1], f"{layer}.bias": joint[:, -1]}
        return torch.func.functional_call(model, values, (x,))

    module = model.get_submodule(layer)
    joint = torch.cat([module.weight, module.bias.unsqueeze(1)], dim=1).detach()
    fisher = torch.zeros(joint.numel(), joint.numel(), dtype=torch.float64)
    for x in inputs:
        J = torch.func.jacrev(logits)(joint, x).flatten(1)
        fisher += J.T @ output_hessian(logits(joint, x)).detach() @ J / len(inputs)
    return fisher


def test_for_one_example_the_preconditioned_step_is_that_of_the_dense_damped_fisher():
    """With one example the Kronecker product of the factors is the Fisher of each layer, not an approximation."""
    model = network()
    inputs, labels = random(1, 3), torch.tensor([2])
    g = gradients(model)
    step = estimator(model, (inputs, labels)).precondition(g)
    for index, layer in enumerate(("0", "2")):
        fisher = dense_fisher(model, inputs, layer)
        joint = torch.cat([g[2 * index], g[2 * index + 1].unsqueeze(1)], dim=1)
        damped = fisher + DAMPING * torch.eye(len(fisher), dtype=torch.float64)
        expected = torch.linalg.solve(damped, joint.flatten()).view_as(joint)
        torch.testing.assert_close(step[2 * index], expected[:, :-1])
        torch.testing.assert_close(step[2 * index + 1], expected[:, -1])


def test_for_many_examples_it_is_that_of_the_product_of_the_mean_factors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4)).double()
    inputs, labels = random(6, 3), torch.tensor([0, 1, 2, 3, 0, 1])
    g = gradients(model)
    weight, bias = estimator(model, (inputs, labels)).precondition(g)
    ones = torch.cat([inputs, torch.ones(6, 1, dtype=torch.float64)], dim=1)
    A, B = ones.T @ ones / 6, output_hessian(model(inputs)).mean(dim=0).detach()
    joint = torch.cat([g[0], g[1].unsqueeze(1)], dim=1)
    damped = torch.kron(B, A) + DAMPING * torch.eye(16, dtype=torch.float64)
    expected = torch.linalg.solve(damped, joint.flatten()).view_as(joint)
    torch.testing.assert_close(torch.cat([weight, bias.unsqueeze(1)], dim=1), expected)


def test_for_one_example_and_one_position_a_convolution_is_exact_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()).double()
    x = random(1, 2, 3, 3)
    made = estimator(model, (x, torch.tensor([1])))
    a = torch.cat([x.flatten(), torch.ones(1, dtype=torch.float64)])
    torch.testing.assert_close(made.input_covariances["model.0"], torch.outer(a, a))
    torch.testing.assert_close(made.gradient_covariances["model.0"], output_hessian(model(x))[0].detach())


def test_drawn_labels_average_to_the_exact_factors():
    model, inputs, labels = network(), random(5, 3), torch.zeros(5, dtype=torch.long)
    exact = estimator(model, (inputs, labels))
    drawn = FactorEstimator(model, nn.CrossEntropyLoss(), can_be_treated(model), damping=DAMPING, decay=0.0)
    samples = []
    for _ in range(400):
        drawn.update((inputs, labels))
        samples.append(drawn.gradient_covariances["model.2"].clone())
    stacked = torch.stack(samples)
    error = stacked.std(dim=0) / len(samples) ** 0.5
    gap = (stacked.mean(dim=0) - exact.gradient_covariances["model.2"]).abs()
    assert bool((gap < 5.0 * error).all())  # 25 entries at 5 sigma: 1.4e-5


def test_positions_of_a_sequence_are_examples():
    model = network()
    inputs, labels = random(4, 6, 3), torch.arange(24).remainder(5).view(4, 6)
    g = gradients(model)
    as_sequences = estimator(model, (inputs, labels)).precondition(g)
    as_examples = estimator(model, (inputs.flatten(0, 1), labels.flatten())).precondition(g)
    for one, other in zip(as_sequences, as_examples, strict=True):
        torch.testing.assert_close(one, other)


def test_factors_are_averages_of_those_of_the_batches():
    model, labels = network(), torch.tensor([0, 1])
    first, second = (random(2, 3, seed=0), labels), (random(2, 3, seed=9), labels)
    alone = [estimator(model, batch).input_covariances["model.0"] for batch in (first, second)]
    both = estimator(model, first, decay=0.75)
    both.update(second)
    torch.testing.assert_close(both.input_covariances["model.0"], 0.75 * alone[0] + 0.25 * alone[1])


def test_a_step_is_sgd_on_preconditioned_gradients_and_no_longer_than_the_clip():
    model, batch = network(), (random(3, 3), torch.tensor([0, 1, 2]))
    loss_fn = lambda: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    reference = estimator(copy.deepcopy(model), batch)
    g = torch.autograd.grad(loss_fn(), list(model.parameters()))
    full = reference.precondition(g)
    squared = sum(torch.sum(a * b).item() for a, b in zip(g, full, strict=True)) * 0.5**2
    before = [param.detach().clone() for param in model.parameters()]
    clip = squared / 9.0  # a third of the step
    made = FactorEstimator(model, nn.CrossEntropyLoss(), can_be_treated(model), damping=DAMPING, fisher_type="type-2")
    optimizer = KFAC(made, list(model.parameters()), 0.5, momentum=0.0, kl_clip=clip)
    optimizer.minimize(loss_fn, batch)
    for param, start, direction in zip(model.parameters(), before, full, strict=True):
        torch.testing.assert_close(param.detach(), start - 0.5 * direction / 3.0)


@pytest.mark.parametrize(("factor_every", "expected"), [(1, 7.0), (3, 3.0), (10, 1.0)])
def test_an_estimate_of_the_factors_counts_one_gradient_evaluation(factor_every, expected):
    model, batch = network(), (random(3, 3), torch.tensor([0, 1, 2]))
    made = FactorEstimator(model, nn.CrossEntropyLoss(), can_be_treated(model), damping=DAMPING)
    optimizer = KFAC(made, list(model.parameters()), 0.1, factor_every=factor_every)
    for _ in range(7):
        optimizer.minimize(lambda: nn.functional.cross_entropy(model(batch[0]), batch[1]), batch)
    assert optimizer.probe_cost == expected


def test_a_lost_network_is_left_lost_without_an_error():
    model, batch = network(), (random(3, 3), torch.tensor([0, 1, 2]))
    made = FactorEstimator(model, nn.CrossEntropyLoss(), can_be_treated(model), damping=DAMPING)
    optimizer = KFAC(made, list(model.parameters()), 0.1)
    for scale in (float("nan"), 1.0):
        optimizer.minimize(lambda s=scale: s * nn.functional.cross_entropy(model(batch[0]), batch[1]), batch)
    assert not torch.isfinite(model[0].weight).all()


def test_layers_that_share_weights_or_are_of_another_kind_are_not_treated():
    model = nn.ModuleDict(
        {
            "tokens": nn.Embedding(7, 3),
            "norm": nn.LayerNorm(3),
            "attention": nn.MultiheadAttention(3, 1),
            "grouped": nn.Conv2d(4, 4, 3, groups=2),
            "conv": nn.Conv2d(1, 2, 3),
            "head": nn.Linear(3, 7, bias=False),
        }
    )
    model["head"].weight = model["tokens"].weight
    assert {id(p) for p in can_be_treated(model)} == {id(p) for p in model["conv"].parameters()}


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_damping_that_is_not_positive_is_refused(damping):
    with pytest.raises(ValueError, match="damping must be positive and finite"):
        FactorEstimator(network(), nn.CrossEntropyLoss(), [], damping=damping)


def test_without_curvlinops_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(LabError, match=r"pip install --no-deps -r requirements-cross.txt"):
        curvlinops()
