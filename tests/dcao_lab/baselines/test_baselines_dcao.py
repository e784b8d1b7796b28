import dataclasses
import itertools
import re
from pathlib import Path

import pytest
import torch

import dcao
from dcao_lab.baselines import BASELINES, BuildRequest, watch
from dcao_lab.baselines.dcao.arms import literal, steered
from dcao_lab.baselines.dcao.policies import make_policy
from dcao_lab.baselines.dcao.settings import CEILING_DEFAULTS, known_settings
from dcao_lab.baselines.dcao.target_schedule import ScheduledTarget
from dcao_lab.baselines.torch_bases import ADAMW
from dcao_lab.errors import LabError
from dcao_lab.runs.training import TrainingLog, TrainingPlan, evaluation_mode, train
from dcao_lab.workloads import StartRequest, get_workload
from helpers.lab_runs import minimize

HERE = dcao.Hyperparameters(lr=0.1, momentum=0.9, weight_decay=0.01)
FIELDS = ("lr", "momentum", "weight_decay")
COMBINATIONS = [combination for size in range(4) for combination in itertools.combinations(FIELDS, size)]
NUM_STEPS = 100


def start():
    return get_workload("digits_mlp").start(StartRequest(seed=0))


def build(name="dcao:adamw", problem=None, *, lr=1e-3, **settings):
    request = BuildRequest(lr=lr, settings=settings, num_steps=NUM_STEPS)
    return BASELINES[name].build(problem or start(), request)


def policy_of(**settings):
    return make_policy({**known_settings(settings), **settings}, NUM_STEPS)


def step(problem, optimizer):
    batch = next(problem.batches)
    return minimize(optimizer, lambda: problem.loss(batch))


def seen(s, hyperparameters=HERE, step=0):
    return dcao.Observation(step=step, s=s, trust=1.0, hyperparameters=hyperparameters, relative_step=0.05)


def test_an_arm_that_ignores_the_agreement_decides_as_the_default_does_where_none_was_measured():
    told, ignoring = policy_of(), policy_of(agreement="ignored")
    noisy = dataclasses.replace(seen(2.0, step=NUM_STEPS // 10), agreement=0.05)
    unmeasured = dataclasses.replace(noisy, agreement=None)
    decided = {name: policy.propose(each, policy.init(HERE)) for name, policy, each in (
        ("told", told, noisy), ("ignoring", ignoring, noisy), ("not measured", told, unmeasured))}  # fmt: skip
    assert decided["ignoring"] == decided["not measured"]
    assert decided["told"][1] != decided["ignoring"][1]
    assert told.watches_agreement(noisy.step, decided["told"][1])
    assert not ignoring.watches_agreement(noisy.step, decided["ignoring"][1])


def test_a_word_for_the_agreement_that_there_is_not_is_refused():
    with pytest.raises(LabError, match="unknown agreement 'unused'; did you mean used"):
        policy_of(agreement="unused")


def decision(policy, s, step=0):
    return policy.propose(seen(s, step=step), policy.init(HERE))[0].hyperparameters


def probed_steps(num_steps, *, name="dcao:adamw", **settings):
    """The steps before which an arm probes, each as often as it does."""
    problem = start()
    optimizer, steps = build(name, problem, **settings), []
    for number in range(num_steps):
        before = optimizer.probe_cost
        step(problem, optimizer)
        steps += [number] * round(optimizer.probe_cost - before)
    return steps[1:]  # without the check of the loss, which the first probe makes


def first_lr(**settings):
    """What trains at the first step."""
    problem = start()
    optimizer = build(problem=problem, **settings)
    step(problem, optimizer)
    return optimizer.effective_lrs[0]


# --- as it comes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_without_settings_it_is_dcao_as_it_comes_and_told_when_the_run_ends(name):
    ours, theirs = start(), start()
    make = {
        "adamw": lambda params: torch.optim.AdamW(params, lr=1e-3),
        "sgd": lambda params: torch.optim.SGD(params, lr=1e-3, momentum=0.9),
    }[name]
    one = build(f"dcao:{name}", ours)
    other = dcao.DCAO(make(theirs.model.parameters()), total_steps=NUM_STEPS)
    assert one.policy == other.policy
    for _ in range(12):
        batch = next(ours.batches)
        minimize(one, lambda batch=batch: ours.loss(batch))
        minimize(other, lambda batch=batch: theirs.loss(batch))
    assert one.probe_cost == other.probe_cost
    assert all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))


@pytest.mark.parametrize("name", CEILING_DEFAULTS)
def test_a_default_given_is_the_default_policy(name):
    assert build(**{name: CEILING_DEFAULTS[name]}).policy == build().policy


@pytest.mark.parametrize("base", ["adamw", "sgd"])
def test_it_is_as_hard_to_tune_as_its_base_and_the_lr_is_none_of_it(base):
    space = BASELINES[f"dcao:{base}"].space
    assert set(space) == {"weight_decay", "target", "max_relative_step"}
    assert len(space) == len(BASELINES[base].space)
    assert (space["target"].default, space["max_relative_step"].default) == (8.0, 0.1)


def test_the_lr_that_is_given_has_no_effect_unless_it_is_asked_for():
    assert first_lr(lr=1e-5) == pytest.approx(first_lr(lr=1e-1), rel=1e-3)
    assert first_lr(lr=1e-5, first_relative_step="given") == pytest.approx(1e-5)


@pytest.mark.parametrize("budget", [40.0, 100.0, 150.0])
def test_a_budget_ends_when_the_decay_does(budget):
    baseline, problem, log = BASELINES["dcao:adamw"], start(), TrainingLog()
    num_steps = baseline.steps_within(budget)
    optimizer = baseline.build(problem, BuildRequest(lr=1e-3, num_steps=num_steps))
    list(train(problem, optimizer, TrainingPlan(num_steps=1000, eval_every=1000, budget=budget), log))
    assert log.num_steps == num_steps
    # The last two steps have 2 and 1 parts of a straight line to 0, and may rise by a tenth beside it.
    assert log.lr[-1] == pytest.approx(0.5 * log.lr[-2], rel=0.11)


# --- rules and their settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize(("rule", "s"), [("proposal", 0.7), ("proposal", 2.5), ("ceiling", 0.7), ("ceiling", 25.0)])
def test_rules_change_the_hyperparameters_that_they_name_and_no_other(rules, rule, s):
    after = decision(policy_of(rule=rule, rules="+".join(rules) or "none"), s)
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
    assert optimizer.probe_cost > 0.0


@pytest.mark.parametrize("rule", ["ceiling", "proposal"])
def test_momentum_rests_at_a_target_of_its_own_whatever_the_lr_rule_aims_at(rule):
    policy = policy_of(rule=rule, rules="lr+momentum", target=4.0)
    assert decision(policy, s=1.5).momentum == pytest.approx(HERE.momentum, rel=1e-12)  # a root is taken
    assert decision(policy, s=4.0).momentum < HERE.momentum


def test_rules_together_decide_as_each_alone():
    together = policy_of(rules="lr+momentum+weight_decay")
    alone = {
        "lr": policy_of(),
        "momentum": policy_of(rules="momentum"),
        "weight_decay": policy_of(rules="weight_decay"),
    }
    state, states = together.init(HERE), {name: policy.init(HERE) for name, policy in alone.items()}
    now = HERE
    for number, s in enumerate((0.5, 9.0, 3.0, 40.0)):  # the lr goes up and down between, and s is in units of it
        observation = seen(s, now, step=number)
        for name, policy in alone.items():
            wanted, states[name] = policy.propose(observation, states[name])
            now = dcao.Hyperparameters(**{**vars(now), name: getattr(wanted.hyperparameters, name)})
        decided, state = together.propose(observation, state)
        assert decided.hyperparameters == now


@pytest.mark.parametrize(
    "changed",
    [
        {"target": 4.0},
        {"target": 1e9},
        {"max_relative_step": 1e9},
        {"first_relative_step": 1e-4},
        {"growth": 1.3},
        {"gamma_down": 0.5},
        {"gamma_arrival": 0.8},
        {"decay": 0.0},
        {"decay": 0.3},
        {"watched": 0.0},
        {"window": 7},
    ],
    ids=str,
)
def test_a_setting_of_the_ceiling_reaches_it(changed):
    assert build(**changed).policy == dcao.policies.Ceiling(total_steps=NUM_STEPS, **changed)


def test_settings_reach_the_base_and_the_proposals_rule():
    optimizer = build(rule="proposal", beta1=0.8, weight_decay=0.3, target=1.0, gamma_down=0.5, gamma_up=1.5, window=5)
    group = optimizer.base.param_groups[0]
    assert (group["betas"][0], group["weight_decay"]) == (0.8, 0.3)
    expected = dcao.policies.LearningRate(1.0, gamma_down=0.5, gamma_up=1.5)
    assert optimizer.policy == dcao.policies.Smoothed(expected, window=5)


def test_the_proposals_rule_has_the_proposals_defaults():
    assert build(rule="proposal").policy == dcao.policies.Smoothed(dcao.policies.LearningRate())


@pytest.mark.parametrize(
    ("settings", "unknown", "known"),
    [
        ({"gamma_up": 1.5}, "gamma_up of DCAO(AdamW) with rule=ceiling, rules=lr", "max_relative_step"),
        ({"target_schedule": "cosine"}, "target_schedule of DCAO(AdamW) with rule=ceiling, rules=lr", "decay"),
        ({"rule": "proposal", "growth": 1.3}, "growth of DCAO(AdamW) with rule=proposal, rules=lr", "gamma_up"),
        ({"rule": "proposal", "first_relative_step": "given"}, "first_relative_step of DCAO(AdamW)", "gamma_up"),
        ({"alpha_wd": 0.1, "rules": "lr+momentum"}, "alpha_wd of DCAO(AdamW)", "alpha_beta"),
        ({"target": 1.0, "rules": "momentum"}, "target of DCAO(AdamW) with rule=ceiling, rules=momentum", "every"),
    ],
    ids=str,
)
def test_a_setting_that_has_no_effect_is_refused_with_those_that_have(settings, unknown, known):
    with pytest.raises(LabError, match=rf"unknown setting {re.escape(unknown)}.*; it knows: .*{known}"):
        build(**settings)


def documented_defaults():
    page = (Path(__file__).parents[3] / "docs" / "experiments.md").read_text(encoding="utf-8")
    section = page.split("## What an arm of DCAO may set")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {
        name: default.strip().replace("`", "")
        for names, defaults in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(","), strict=True)
    }


def test_the_documentation_lists_every_setting_with_its_default():
    documented, rules = documented_defaults(), "lr+momentum+weight_decay"
    ceiling, proposal = (known_settings({"rule": rule, "rules": rules}) for rule in ("ceiling", "proposal"))
    assert set(documented) == set(ceiling) | set(proposal)
    for name, words in documented.items():
        own, _, proposals = words.partition("; proposal ")
        for known, expected in ((ceiling, own), (proposal, proposals or own)):
            default = known.get(name, expected)
            assert (default if isinstance(default, str) else f"{default:g}") == expected, name


# --- when and what it probes ----------------------------------------------------------------------------------


def test_ours_probes_when_dcao_does_and_the_proposals_settles_first():
    far_too_long = {"lr": 1.0}  # s is in the hundreds: an alarm, where alarms are heeded
    assert probed_steps(19, first_relative_step="given", **far_too_long) == [0, 18]
    assert probed_steps(2, rule="proposal", **far_too_long).count(0) > 10


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 18]),  # of a run known to be short
        ({"growth": 1.3}, [0, 18]),
        ({"every": 7}, [0, 7, 14]),
        ({"every": 7, "growth": 1.3}, [0, 7, 14]),
        ({"rules": "none"}, [0, 18]),  # as often as the others, so that s can be compared
        ({"rules": "none", "rule": "proposal"}, [0, 10]),
    ],
    ids=str,
)
def test_it_probes_when_it_is_told_to(settings, steps):
    assert probed_steps(19, **settings) == steps


@pytest.mark.parametrize("measure", ["load", "batch", "preconditioned", "hessian"])
@pytest.mark.parametrize("rule", ["ceiling", "proposal"])
def test_every_measure_is_a_setting(measure, rule):
    problem = start()
    optimizer = build(problem=problem, measure=measure, rule=rule)
    step(problem, optimizer)
    assert optimizer.last_estimate.measure == measure
    assert optimizer.last_estimate.s is not None


@pytest.mark.parametrize("name", ["dcao:adamw", "dcao-literal:adamw"])
def test_one_epoch_is_a_number_of_steps_between_probes(name):
    epoch = round(start().batches_per_epoch)
    steps = probed_steps(epoch + 1, name=name, every="epoch")
    assert sorted(set(steps)) == [0, epoch]


# --- the literal form, and targets that fall --------------------------------------------------------------------


def test_the_literal_form_takes_its_settings():
    optimizer = build("dcao-literal:sgd", every=7, k=3, target=1.2, gamma_up=1.3, alpha_beta=0.2, weight_decay=1e-3)
    reference = dcao.literal(
        torch.optim.SGD(start().model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3),
        every=7,
        k=3,
        target=1.2,
        gamma_up=1.3,
        alpha_beta=0.2,
    )
    assert optimizer.policy == reference.policy


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1.0, 1.0, 1.0]), ("linear", [1.0, 0.525, 0.05]), ("cosine", [1.0, 0.525, 0.05])],
    ids=str,
)
def test_the_target_falls_to_a_twentieth(schedule, expected):
    policy = ScheduledTarget(dcao.policies.LearningRate, 1.0, schedule, num_steps=100)
    if schedule == "constant":
        assert [policy.target_at(step) for step in (0, 50, 100)] == expected
    else:
        assert [policy.target_at(step) for step in (0, 50, 100)] == pytest.approx(expected)


def test_a_scheduled_target_moves_the_lr_to_where_the_rule_at_that_target_would():
    policy = policy_of(rule="proposal", gamma_down=0.01, target_schedule="linear")
    for step, target in [(0, 1.5), (50, 1.5 * 0.525), (100, 1.5 * 0.05)]:
        assert decision(policy, s=3.0, step=step).lr == pytest.approx(HERE.lr * target / 3.0)


def test_a_scheduled_target_ends_with_a_smaller_lr_than_a_constant_one():
    lrs = {}
    for schedule in ("constant", "linear"):
        problem = start()
        settings = {"rule": "proposal", "target_schedule": schedule, "every": 2, "gamma_down": 0.3}
        optimizer = build("dcao:sgd", problem, lr=1e-2, **settings)
        for _ in range(NUM_STEPS):
            step(problem, optimizer)
        lrs[schedule] = optimizer.effective_lrs[0]
    assert lrs["linear"] < 0.5 * lrs["constant"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rules": "lr+warp"}, "rules must be none, or some of lr, momentum, weight_decay joined by"),
        ({"rules": "lr+lr"}, "rules must be none, or some of"),
        ({"rule": "warmup"}, "unknown rule 'warmup'; there are: ceiling, proposal"),
        ({"rule": "proposal", "target_schedule": "sine"}, "unknown target_schedule 'sine'"),
        ({"rule": "proposal", "gamma_down": 2.0}, "gammas must satisfy"),
        ({"gamma_down": 2.0}, "gamma_down must be in"),
        ({"first_relative_step": "short"}, "first_relative_step must be a number, got 'short'; its default is 0.01"),
        ({"target": -1.0}, "target must be positive"),
        ({"measure": "taste"}, "measure must be"),
        ({"every": -1}, "every must be at least 1 step, got -1"),
        ({"every": "often"}, "every must be a whole number, got 'often'"),
        (
            {"rules": "weight_decay", "weight_decay": 0.0},
            "the weight_decay rule multiplies .*, which is 0",
        ),
        ({"rules": "momentum", "alpha_beta": "big"}, "alpha_beta must be a number, got 'big'"),
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


@pytest.mark.parametrize("optimizer", [torch.optim.NAdam, torch.optim.RMSprop, torch.optim.Adagrad])
def test_every_optimizer_of_torch_that_dcao_knows_has_a_spectrum_of_its_steps(optimizer):
    problem = start()
    batch = next(problem.batches)
    watched = watch(optimizer(problem.model.parameters(), lr=1e-3), "preconditioned", seed=0)
    assert watched.probe(lambda: problem.loss(batch)).s > 0.0


def test_an_optimizer_of_torch_that_dcao_does_not_know_has_no_spectrum_of_its_steps():
    problem = start()
    with pytest.raises(LabError, match="DCAO knows no stability threshold of Rprop; choose sgd, adam, adamw"):
        watch(torch.optim.Rprop(problem.model.parameters()), "preconditioned", seed=0)


def test_a_base_whose_search_has_no_weight_decay_can_be_wrapped():
    bare = dataclasses.replace(ADAMW, space={"lr": ADAMW.space["lr"]})
    assert set(steered(bare).space) == {"target", "max_relative_step"}
    assert set(literal(bare).space) == {"lr", "target"}


# --- tested with an average -----------------------------------------------------------------------------------


def test_an_averaged_arm_trains_as_without_and_is_tested_with_the_average():
    def weights(problem):
        return torch.cat([p.detach().flatten() for p in problem.model.parameters()])

    found = {}
    for average in (0.0, 8.0):
        problem = get_workload("digits_resnet").start(StartRequest(seed=0, batch_size=16))
        optimizer = build(problem=problem, decay=0.0, average=average)
        for _ in range(6):
            step(problem, optimizer)
        found[average] = problem, optimizer
    (plain, _), (averaged, optimizer) = found[0.0], found[8.0]
    assert torch.equal(weights(plain), weights(averaged))
    trained = {name: value.clone() for name, value in averaged.model.state_dict().items()}
    with evaluation_mode(averaged.model, optimizer):
        assert not torch.equal(weights(averaged), weights(plain))
        assert torch.equal(weights(averaged), torch.cat([p.flatten() for p in optimizer._average.module.parameters()]))
    assert all(torch.equal(value, trained[name]) for name, value in averaged.model.state_dict().items())


def test_an_average_begins_anew_where_a_blown_up_run_has_gone_back():
    problem = start()
    optimizer = build(problem=problem, decay=0.0, average=8.0)
    for _ in range(30):  # there is a snapshot of step 25 at the latest
        step(problem, optimizer)
    with torch.no_grad():
        for p in problem.model.parameters():
            p.mul_(1e8)
    while not optimizer.num_restored:
        step(problem, optimizer)
    for _ in range(3):
        step(problem, optimizer)
    trained = torch.cat([p.detach().flatten() for p in problem.model.parameters()])
    with evaluation_mode(problem.model, optimizer):
        averaged = torch.cat([p.detach().flatten() for p in problem.model.parameters()])
    assert averaged.abs().max() < 2.0 * trained.abs().max()
