import dataclasses
import itertools
import math
import random

import pytest
import torch

from dcao_lab.baselines import BuildRequest, get_baseline
from dcao_lab.runs.schedules import get_schedule, warmup_cosine
from dcao_lab.runs.training import PATIENCE, TrainingPlan, is_lost, train
from dcao_lab.runs.training_log import TrainingLog
from dcao_lab.workloads import get_workload
from dcao_lab.workloads.base import Problem, StartRequest
from helpers.lab_runs import minimize


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


def squares(size=3):
    """Half the squared length of a vector, from (3, 0, 4): the gradient is the vector."""
    model = torch.nn.Linear(1, size, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0], [0.0], [4.0]]))
    problem = line_problem()
    return dataclasses.replace(
        problem,
        model=model,
        batches=itertools.repeat(None),
        loss=lambda batch: 0.5 * model.weight.square().sum(),
        evaluate=lambda split: {"loss": 0.0},
        batches_per_epoch=4.0,
    )


def test_norms_are_those_of_the_step_that_ended_at_the_point():
    problem = squares()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.5)
    start, end = train(problem, optimizer, TrainingPlan(num_steps=2, eval_every=2))
    assert (start.gradient_norm, start.parameter_norm, start.update_norm) == (None, None, None)
    # (3, 0, 4) of length 5 is halved by each of two steps.
    assert (end.gradient_norm, end.parameter_norm, end.update_norm) == (2.5, 1.25, 1.25)


def test_decoupled_weight_decay_is_part_of_the_update():
    problem = squares()
    optimizer = torch.optim.AdamW(problem.model.parameters(), lr=0.1, weight_decay=1.0)
    _, end = train(problem, optimizer, TrainingPlan(num_steps=1, eval_every=1))
    # Adam's first step is lr for each entry that has a gradient; decay takes lr * w.
    assert end.update_norm == pytest.approx(((0.1 + 0.3) ** 2 + (0.1 + 0.4) ** 2) ** 0.5, rel=1e-6)


def test_an_optimizer_that_leaves_no_gradients_has_no_gradient_norm():
    class Forgetful(torch.optim.SGD):
        def minimize(self, loss_fn):
            loss = minimize(torch.optim.SGD(self.param_groups[0]["params"], lr=0.5), loss_fn)
            self.zero_grad()
            return torch.tensor(loss)

    problem = squares()
    _, end = train(problem, Forgetful(problem.model.parameters(), lr=0.5), TrainingPlan(num_steps=1, eval_every=1))
    assert (end.gradient_norm, end.parameter_norm, end.update_norm) == (None, 2.5, 2.5)


def test_an_epoch_is_a_pass_over_the_batches():
    problem = squares()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    points = train(problem, optimizer, TrainingPlan(num_steps=6, eval_every=2))
    assert [point.epoch for point in points] == [0.0, 0.5, 1.0, 1.5]


def test_the_log_has_the_loss_before_each_step_and_the_lr_of_it():
    problem, log = squares(), TrainingLog()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.5)
    plan = TrainingPlan(num_steps=3, eval_every=3, schedule=lambda share: 1.0 if share < 0.9 else 0.25)
    list(train(problem, optimizer, plan, log))
    assert log.loss.tolist() == [12.5, 3.125, 0.78125]
    assert log.lr.tolist() == [0.5, 0.5, 0.125]
    assert log.gradient_evaluations.tolist() == [1.0, 2.0, 3.0]
    assert log.num_steps == 3
    assert log.seconds > 0.0
    assert log.evaluation_seconds > 0.0


class Probing(torch.optim.SGD):
    """SGD that spends ``cost`` on a probe at every fifth step."""

    def __init__(self, params, cost):
        super().__init__(params, lr=0.1)
        self.cost, self.probe_cost, self.num_steps = cost, 0.0, 0

    def step(self, closure=None):
        self.num_steps += 1
        self.probe_cost += self.cost if self.num_steps % 5 == 0 else 0.0
        return super().step(closure)


@pytest.mark.parametrize("budget", [1.0, 17.0, 100.0, 100.5])
@pytest.mark.parametrize("cost", [0.0, 0.5, 7.0])
def test_a_budget_is_exceeded_by_less_than_one_step(budget, cost):
    problem, log = squares(), TrainingLog()
    optimizer = Probing(problem.model.parameters(), cost)
    points = list(train(problem, optimizer, TrainingPlan(num_steps=1000, eval_every=1000, budget=budget), log))
    spent = [0.0, *log.gradient_evaluations]
    assert spent[-2] < budget <= spent[-1] == points[-1].gradient_evaluations
    assert spent[-1] - budget < 1.0 + cost
    assert points[-1].metrics.keys() == {"train_loss", "validation_loss", "test_loss"}


@pytest.mark.parametrize("cost", [0.0, 1.0, 7.0])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_schedule_ends_with_the_budget_also_when_probes_eat_part_of_it(schedule, cost):
    problem, log = squares(), TrainingLog()
    plan = TrainingPlan(num_steps=1000, eval_every=1000, budget=400.0, schedule=get_schedule(schedule))
    points = list(train(problem, Probing(problem.model.parameters(), cost), plan, log))
    # A probe that ends the run jumps over its own cost: at most 7 of 380 evaluations after the warmup.
    assert log.lr[-1] < 0.1 * 8 / 380
    assert max(log.lr) == pytest.approx(0.1, rel=0.03)
    assert points[-1].lr == log.lr[-1]


def test_the_step_that_spends_the_budget_has_an_update_norm():
    problem = squares()
    points = train(
        problem, Probing(problem.model.parameters(), 2.0), TrainingPlan(num_steps=99, eval_every=99, budget=21.0)
    )
    assert list(points)[-1].update_norm > 0.0


class Spending(torch.optim.SGD):
    """Its steps cost what ``costs`` says, one after the other."""

    def __init__(self, params, costs):
        super().__init__(params, lr=0.1)
        self.costs, self.probe_cost = iter(costs), 0.0

    def step(self, closure=None):
        self.probe_cost += next(self.costs)
        return super().step(closure)


def losses_problem(losses):
    """Has these losses, whatever the weights are, and no gradient."""
    problem, coming = line_problem(), iter(losses)
    return dataclasses.replace(problem, loss=lambda batch: 0.0 * problem.model.weight.sum() + next(coming))


@pytest.mark.parametrize("seed", range(40))
def test_a_run_ends_and_is_evaluated_where_the_plain_rules_say(seed):
    draw = random.Random(seed)
    plan = TrainingPlan(
        num_steps=draw.randint(1, 40), eval_every=draw.randint(1, 12), budget=draw.choice([None, draw.uniform(1, 45)])
    )
    losses = [math.nan if seed % 3 == 0 and draw.random() < 0.9 else 1.0 for _ in range(40)]
    costs = [draw.choice([0.0, 0.0, 1.5, 3.0]) if seed % 2 else 0.0 for _ in range(40)]
    problem, log = losses_problem(losses), TrainingLog()
    params = problem.model.parameters()
    optimizer = Spending(params, costs) if seed % 2 else torch.optim.SGD(params, lr=0.1)  # torch's own is trusted
    points = list(train(problem, optimizer, plan, log))
    end = next(step for step in range(1, 41) if is_over(plan, step, losses[:step], costs[:step]))
    assert repr(log.loss.tolist()) == repr(losses[:end])  # nan as well
    assert log.lr.tolist() == [0.1] * end
    # Neither a dear step that ends the run nor a lost one is foreseen.
    assert seed % 2 or is_lost(log.loss) or all(point.update_norm is not None for point in points[1:])
    assert [point.step for point in points] == [0, *(s for s in range(1, end) if s % plan.eval_every == 0), end]
    assert log.gradient_evaluations.tolist() == [step + sum(costs[:step]) for step in range(1, end + 1)]


def is_over(plan, step, losses, costs):
    ten_lost = len(losses) >= 10 and all(map(math.isnan, losses[-10:]))
    return step >= plan.num_steps or ten_lost or step + sum(costs) >= (plan.budget or math.inf)


@pytest.mark.parametrize("lr", [1e-3, 10.0])
def test_dcao_takes_the_shape_of_a_schedule_and_finds_the_scale_itself(lr):
    def trained(given: float) -> list[float]:
        problem, log = workload_problem(), TrainingLog()
        optimizer = get_baseline("dcao:adamw").build(problem, BuildRequest(lr=given, num_steps=60))
        list(train(problem, optimizer, TrainingPlan(num_steps=60, eval_every=60, schedule=warmup_cosine), log))
        return log.lr.tolist()

    lrs = trained(lr)
    assert lrs == pytest.approx(trained(1e-6), rel=1e-6)
    assert max(lrs) > 5e-4
    assert lrs[-1] < 1e-3 * max(lrs)  # the schedule ends at 0


def test_dcao_knows_of_a_schedule_that_begins_at_its_own_lr():
    problem, log = workload_problem(), TrainingLog()
    optimizer = get_baseline("dcao:sgd").build(problem, BuildRequest(lr=1e-4, num_steps=5))
    list(train(problem, optimizer, TrainingPlan(num_steps=5, eval_every=5, schedule=lambda share: 1.0), log))
    assert optimizer.param_groups[0]["lr"] == 1e-4  # the schedule's; by itself DCAO would have raised it at once
    assert log.lr[0] > 1e-4


def workload_problem():
    return get_workload("digits_mlp").start(StartRequest(seed=0))


def test_an_optimizer_that_needs_the_batch_gets_it():
    seen = []

    class Needy(torch.optim.SGD):
        needs_batch = True

        def minimize(self, loss_fn, batch):
            seen.append(batch)
            return loss_fn().detach()

    problem = line_problem()
    list(train(problem, Needy(problem.model.parameters(), lr=0.1), TrainingPlan(num_steps=1, eval_every=1)))
    assert seen == [next(problem.batches)]


def test_an_optimizer_with_modes_is_in_eval_mode_for_evaluations_alone():
    class Averaging(torch.optim.SGD):
        mode = "train"

        def eval(self):
            self.mode = "eval"

        def train(self):
            self.mode = "train"

        def step(self, closure=None):
            assert self.mode == "train"
            return super().step(closure)

    problem = squares()
    optimizer = Averaging(problem.model.parameters(), lr=0.1)
    watched = dataclasses.replace(problem, evaluate=lambda split: {"averaged": float(optimizer.mode == "eval")})
    points = list(train(watched, optimizer, TrainingPlan(num_steps=2, eval_every=1)))
    assert [point.metrics["test_averaged"] for point in points] == [1.0, 1.0, 1.0]
    assert optimizer.mode == "train"
