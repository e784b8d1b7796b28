import itertools

import pytest
import torch

from dcao_lab.training import PATIENCE, TrainingPlan, minimize, train
from dcao_lab.workloads.base import Problem


def line_problem(losses=None):
    """Fit one weight; entries of ``losses`` that are not None replace the loss of their step."""
    model = torch.nn.Linear(1, 1, bias=False)
    forced = itertools.repeat(None) if losses is None else iter(losses)

    def loss(batch):
        fit = (model(batch[0]) - batch[1]).square().mean()
        value = next(forced)
        return fit if value is None else fit * value

    batch = (torch.ones(4, 1), torch.ones(4, 1))
    evaluate = lambda split: {"loss": loss_now(model, batch), "training": float(model.training)}  # noqa: E731
    return Problem(
        model=model,
        batches=itertools.repeat(batch),
        loss=loss,
        evaluate=evaluate,
        criterion=None,
        batches_per_epoch=1.0,
    )


def loss_now(model, batch):
    return (model(batch[0]) - batch[1]).square().mean().item()


def steps_of(points):
    return [point.step for point in points]


@pytest.mark.parametrize(
    ("num_steps", "eval_every", "expected"), [(6, 3, [0, 3, 6]), (7, 3, [0, 3, 6, 7]), (2, 5, [0, 2])], ids=str
)
def test_there_is_a_point_before_during_and_at_the_end(num_steps, eval_every, expected):
    problem = line_problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    assert steps_of(train(problem, optimizer, TrainingPlan(num_steps=num_steps, eval_every=eval_every))) == expected


def test_evaluation_is_in_eval_mode_and_training_goes_on_in_train_mode():
    problem = line_problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    points = list(train(problem, optimizer, TrainingPlan(num_steps=2, eval_every=1)))
    assert [point.metrics["test_training"] for point in points] == [0.0, 0.0, 0.0]
    assert problem.model.training


def test_a_run_ends_once_the_loss_is_not_finite_for_ten_steps_in_a_row():
    problem = line_problem(itertools.chain([None] * 3, itertools.repeat(float("nan"))))
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    assert steps_of(train(problem, optimizer, TrainingPlan(num_steps=100, eval_every=50))) == [0, 3 + PATIENCE]


def test_a_few_losses_that_are_not_finite_do_not_end_a_guarded_run():
    class Guarded(torch.optim.SGD):
        def minimize(self, loss_fn):
            return loss_fn().detach()

    problem = line_problem(itertools.chain([float("inf")] * (PATIENCE - 1), itertools.repeat(None)))
    points = list(
        train(problem, Guarded(problem.model.parameters(), lr=0.1), TrainingPlan(num_steps=20, eval_every=20))
    )
    assert steps_of(points) == [0, 20]


def test_probes_count_as_gradient_evaluations():
    problem = line_problem()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    optimizer.probe_cost = 2.5
    points = train(problem, optimizer, TrainingPlan(num_steps=4, eval_every=4))
    assert [point.gradient_evaluations for point in points] == [2.5, 6.5]


def test_a_step_is_torchs_own():
    one, two = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    two.load_state_dict(one.state_dict())
    x = torch.ones(3, 2)
    ours, theirs = torch.optim.AdamW(one.parameters()), torch.optim.AdamW(two.parameters())
    for _ in range(3):
        minimize(ours, lambda: one(x).square().mean())
        theirs.zero_grad()
        two(x).square().mean().backward()
        theirs.step()
    assert torch.equal(one.weight, two.weight)
