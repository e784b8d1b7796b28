import itertools

import pytest
import torch

import dcao
from dcao_lab.baselines import BASELINES, BuildRequest, watch
from dcao_lab.baselines.dcao_arms import POLICY_DEFAULTS, make_policy
from dcao_lab.baselines.target_schedule import scheduled_target
from dcao_lab.errors import LabError
from dcao_lab.training import minimize
from dcao_lab.workloads import StartRequest, get_workload

HERE = dcao.Hyperparameters(lr=0.1, momentum=0.9, weight_decay=0.01)
FIELDS = ("lr", "momentum", "weight_decay")
COMBINATIONS = [combination for size in range(4) for combination in itertools.combinations(FIELDS, size)]


def start():
    return get_workload("digits_mlp").start(StartRequest(seed=0))


def build(name="dcao:adamw", problem=None, **settings):
    return BASELINES[name].build(problem or start(), BuildRequest(lr=1e-3, settings=settings, num_steps=100))


def step(problem, optimizer):
    batch = next(problem.batches)
    return minimize(optimizer, lambda: problem.loss(batch))


def decision(policy, s, step=0):
    observation = dcao.Observation(step=step, s=s, trust=1.0, hyperparameters=HERE)
    return policy.propose(observation, policy.init(HERE))[0].hyperparameters


@pytest.mark.parametrize("rules", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("s", [0.7, 2.5])
def test_rules_change_the_hyperparameters_that_they_name_and_no_other(rules, s):
    policy = make_policy({**POLICY_DEFAULTS, "rules": "+".join(rules) or "none"}, num_steps=100)
    after = decision(policy, s)
    assert {name for name in FIELDS if getattr(after, name) != getattr(HERE, name)} == set(rules)


@pytest.mark.parametrize("rules", COMBINATIONS, ids="+".join)
def test_every_combination_of_rules_trains_adamw(rules):
    problem = start()
    optimizer = build(problem=problem, rules="+".join(rules) or "none", every=1)
    before = {key: optimizer.base.param_groups[0][key] for key in ("lr", "betas", "weight_decay")}
    for _ in range(4):
        step(problem, optimizer)
    changed = {key for key, value in before.items() if optimizer.base.param_groups[0][key] != value}
    keys = {"lr": "lr", "momentum": "betas", "weight_decay": "weight_decay"}
    assert changed == {keys[rule] for rule in rules}
    assert optimizer.probe_cost > 0.0  # "none" probes as often as the others, so that s can be compared


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_without_settings_it_is_dcao_as_it_comes(name):
    ours, theirs = start(), start()
    make = {
        "adamw": lambda params: torch.optim.AdamW(params, lr=1e-3),
        "sgd": lambda params: torch.optim.SGD(params, lr=1e-3, momentum=0.9),
    }[name]
    one, other = build(f"dcao:{name}", ours), dcao.DCAO(make(theirs.model.parameters()), k=5, seed=0)
    assert one.policy == other.policy
    for _ in range(12):
        batch = next(ours.batches)
        minimize(one, lambda batch=batch: ours.loss(batch))
        minimize(other, lambda batch=batch: theirs.loss(batch))
    assert one.probe_cost == other.probe_cost
    assert all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))


def test_the_default_target_given_is_the_default_policy():
    assert build(target=1.5).policy == build().policy


def test_settings_reach_the_base_and_the_policy():
    optimizer = build(beta1=0.8, weight_decay=0.3, target=1.0, gamma_down=0.5, gamma_up=1.5)
    group = optimizer.base.param_groups[0]
    assert (group["betas"][0], group["weight_decay"]) == (0.8, 0.3)
    expected = dcao.policies.smoothed(dcao.policies.learning_rate(1.0, gamma_down=0.5, gamma_up=1.5))
    assert optimizer.policy == expected


def test_the_literal_form_takes_its_settings():
    optimizer = build("dcao-literal:sgd", every=7, k=3, target=1.2, gamma_up=1.3, alpha_beta=0.2, weight_decay=1e-3)
    reference = dcao.DCAO.literal(
        torch.optim.SGD(start().model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3),
        every=7,
        k=3,
        target=1.2,
        gamma_up=1.3,
        alpha_beta=0.2,
    )
    assert optimizer.policy == reference.policy


@pytest.mark.parametrize("measure", ["load", "batch", "preconditioned", "hessian"])
def test_every_measure_is_a_setting(measure):
    problem = start()
    optimizer = build(problem=problem, measure=measure)
    step(problem, optimizer)
    assert optimizer.last_estimate.s is not None


def test_one_epoch_is_a_number_of_steps_between_probes():
    problem = start()
    optimizer = build("dcao-literal:adamw", problem, every="epoch")
    costs = []
    for _ in range(round(problem.batches_per_epoch) + 1):
        step(problem, optimizer)
        costs.append(optimizer.probe_cost)
    changes = [step for step, (a, b) in enumerate(itertools.pairwise(costs), start=1) if b > a]
    assert costs[0] > 0.0
    assert changes == [round(problem.batches_per_epoch)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1.0, 1.0, 1.0]), ("linear", [1.0, 0.525, 0.05]), ("cosine", [1.0, 0.525, 0.05])],
    ids=str,
)
def test_the_target_falls_to_a_twentieth(schedule, expected):
    policy = scheduled_target(dcao.policies.learning_rate, 1.0, schedule, num_steps=100)
    if schedule == "constant":
        assert [policy.target_at(step) for step in (0, 50, 100)] == expected
    else:
        assert [policy.target_at(step) for step in (0, 50, 100)] == pytest.approx(expected)


def test_a_scheduled_target_moves_the_lr_to_where_the_rule_at_that_target_would():
    values = {**POLICY_DEFAULTS, "gamma_down": 0.01, "target_schedule": "linear"}
    policy = make_policy(values, num_steps=100)
    for step, target in [(0, 1.5), (50, 1.5 * 0.525), (100, 1.5 * 0.05)]:
        assert decision(policy, s=3.0, step=step).lr == pytest.approx(HERE.lr * target / 3.0)


def test_a_scheduled_target_ends_with_a_smaller_lr_than_a_constant_one():
    lrs = {}
    for schedule in ("constant", "linear"):
        problem = start()
        optimizer = BASELINES["dcao:sgd"].build(
            problem,
            BuildRequest(lr=1e-2, settings={"target_schedule": schedule, "every": 2, "gamma_down": 0.3}, num_steps=40),
        )
        for _ in range(40):
            step(problem, optimizer)
        lrs[schedule] = optimizer.effective_lrs[0]
    assert lrs["linear"] < 0.5 * lrs["constant"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rules": "lr+warp"}, "rules must be none, or some of lr, momentum, weight_decay joined by"),
        ({"rules": "lr+lr"}, "rules must be none, or some of"),
        ({"target_schedule": "sine"}, "unknown target_schedule 'sine'"),
        ({"gamma_down": 2.0}, "gammas must satisfy"),
        ({"target": -1.0}, "target must be positive"),
        ({"measure": "taste"}, "measure must be"),
        ({"every": 0}, "every"),
        (
            {"rules": "weight_decay", "weight_decay": 0.0},
            "the weight_decay rule multiplies .*, which is 0",
        ),
        ({"alpha_beta": "big"}, "alpha_beta must be a number, got 'big'"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**settings)


def test_an_optimizer_without_a_threshold_has_no_spectrum_of_its_steps():
    problem = start()
    lion = BASELINES["lion"].build(problem, BuildRequest(lr=1e-4))
    with pytest.raises(LabError, match="DCAO knows no stability threshold of Lion; choose sgd, adam, adamw"):
        watch(lion, "preconditioned", seed=0)
