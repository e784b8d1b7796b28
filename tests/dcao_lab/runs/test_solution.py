import dataclasses
import itertools

import pytest
import torch

from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.runs.runner import start
from dcao_lab.runs.schedules import get_schedule
from dcao_lab.runs.solution import NUM_BATCHES, measure_solution
from dcao_lab.runs.store import RunStore
from dcao_lab.runs.training import TrainingPlan, train
from dcao_lab.workloads import Problem, get_workload
from helpers.lab_runs import finish, small_config

SIZE = 6


def regression(loss_factor=1.0, dropout=0.0):
    """Linear regression in float64, whose Hessian is ``2 X'X / n`` wherever its weights are."""
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(16, SIZE, generator=generator, dtype=torch.float64) for _ in range(NUM_BATCHES)]
    model = torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(SIZE, 1, bias=False)).double()
    batches = [(x, x.sum(dim=1, keepdim=True)) for x in data]
    problem = Problem(
        model=model,
        batches=itertools.cycle(batches),
        loss=lambda batch: loss_factor * (model(batch[0]) - batch[1]).square().mean(),
        evaluate=lambda split: {"loss": 1.0},
        criterion=None,
        batches_per_epoch=NUM_BATCHES,
    )
    X = torch.cat(data)
    return problem, 2.0 * X.T @ X / len(X)


def measured(problem, optimizer):
    return measure_solution(problem, optimizer, problem.batches, seed=0)


def sgd(problem, lr=0.05):
    return torch.optim.SGD(problem.model.parameters(), lr=lr)


def test_of_a_linear_regression_it_is_the_dense_hessians():
    problem, H = regression()
    solution = measured(problem, sgd(problem))
    eigenvalues = torch.linalg.eigvalsh(H)
    assert solution["status"] == solution["preconditioned_status"] == "measured"
    # A Ritz value's error is at most its residual, here squared over a gap of order 1; the run stops at 1e-3 relative.
    assert solution["sharpness"] == pytest.approx(eigenvalues.max().item(), rel=1e-6)
    probe_tolerance = 0.05
    assert solution["preconditioned_sharpness"] == pytest.approx(eigenvalues.max().item(), rel=probe_tolerance)
    assert abs(solution["trace"] - H.trace().item()) < 4.0 * solution["trace_standard_error"]
    nodes, weights = solution["density"]["nodes"], solution["density"]["weights"]
    assert sum(weights) == pytest.approx(1.0)
    assert (min(nodes), max(nodes)) == pytest.approx((eigenvalues.min().item(), eigenvalues.max().item()))
    assert solution["num_batches"] == NUM_BATCHES


def test_adams_sharpness_is_that_of_the_preconditioned_hessian():
    problem, H = regression()
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    list(train(problem, optimizer, TrainingPlan(num_steps=30, eval_every=30)))
    state = optimizer.state[problem.model[1].weight]
    solution = measured(problem, optimizer)
    # P of the coming step: bias corrections of both moments at step 31, the second moment with the coming gradient.
    weight = problem.model[1].weight
    full_loss = torch.stack([problem.loss(batch) for batch in itertools.islice(problem.batches, NUM_BATCHES)]).mean()
    (gradient,) = torch.autograd.grad(full_loss, weight)
    second = 0.99 * state["exp_avg_sq"] + 0.01 * gradient.square()
    P = (1 - 0.9**31) * ((second / (1 - 0.99**31)).sqrt() + 1e-8)
    root = P.detach().flatten().rsqrt()
    expected = torch.linalg.eigvalsh(root[:, None] * H * root).max().item()
    assert solution["preconditioned_sharpness"] == pytest.approx(expected, rel=0.05)  # a probe's Lanczos tolerance


def test_it_is_measured_in_eval_mode_and_leaves_train_mode_and_no_gradient():
    problem, H = regression(dropout=0.5)
    solution = measured(problem, sgd(problem))
    assert solution["sharpness"] == pytest.approx(torch.linalg.eigvalsh(H).max().item(), rel=1e-6)
    assert problem.model.training
    assert problem.model[1].weight.grad is None


def test_an_averaging_optimizer_is_measured_at_its_average():
    problem, _ = regression()
    modes = []

    class Averaging(torch.optim.SGD):
        def eval(self):
            modes.append("eval")

        def train(self):
            modes.append("train")

    measured(problem, Averaging(problem.model.parameters(), lr=0.1))
    assert modes == ["eval", "train"]


def test_an_optimizer_that_dcao_cannot_model_says_why_and_has_the_rest():
    class Unknown(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def step(self):
            """Nothing."""

    problem, _ = regression()
    solution = measured(problem, Unknown(problem.model.parameters()))
    assert solution["preconditioned_sharpness"] is None
    assert "DCAO knows no stability threshold of Unknown" in solution["preconditioned_status"]
    assert solution["status"] == "measured"


def test_a_loss_that_is_not_finite_is_a_status():
    problem, _ = regression(loss_factor=float("nan"))
    solution = measured(problem, sgd(problem))
    assert (solution["sharpness"], solution["density"], solution["cost"]) == (None, None, 0.0)
    assert solution["status"] == solution["preconditioned_status"] == "ArithmeticError: the training loss is nan"


def test_what_torch_raises_is_a_status():
    problem, _ = regression()

    def broken(batch):
        raise RuntimeError("out of memory")

    solution = measured(dataclasses.replace(problem, loss=broken), sgd(problem))
    assert solution["status"] == solution["preconditioned_status"] == "RuntimeError: out of memory"


def test_a_run_that_ends_at_lr_zero_is_measured():
    config = small_config(optimizer="dcao:adamw")
    problem = start(config, get_workload(config.workload))
    optimizer = get_baseline(config.optimizer).build(problem, BuildRequest(lr=1e-3))
    points = list(train(problem, optimizer, TrainingPlan(num_steps=6, eval_every=6, schedule=get_schedule("cosine"))))
    assert points[-1].lr == 0.0
    solution = measured(problem, optimizer)
    assert solution["preconditioned_status"] == "measured"
    assert solution["preconditioned_sharpness"] > 0.0
    assert [group["lr"] for group in optimizer.param_groups] == [0.0]


def test_a_run_has_it_when_asked_and_does_not_count_its_cost(tmp_path):
    with_it, without = finish(RunStore(tmp_path), small_config(measure_solution=True), small_config())
    assert without.result.solution is None
    assert with_it.result.solution["cost"] > 100.0
    assert with_it.result.gradient_evaluations == without.result.gradient_evaluations == 6.0
    assert with_it.points[-1].metrics == without.points[-1].metrics
    assert with_it.timing.solution_seconds > 0.0
