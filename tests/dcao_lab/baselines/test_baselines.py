import dataclasses
import functools

import pytest
import torch

import dcao
from dcao_lab.baselines import BASELINES, BuildRequest
from dcao_lab.errors import LabError
from dcao_lab.runs.training import TrainingPlan, evaluation_mode, probe_cost, train
from dcao_lab.workloads import StartRequest, get_workload
from helpers.lab_runs import minimize

NUM_STEPS = 20
NAMES = [
    *("sgd", "adam", "adamw", "kfac", "adler", "cdat", "adahessian", "sophia", "schedule_free_adamw", "prodigy"),
    *("dadapt_adam", "muon", "soap", "lion", "dcao:adamw", "dcao:sgd", "dcao-literal:adamw", "dcao-literal:sgd"),
]
BARE = [name for name, baseline in BASELINES.items() if not baseline.is_wrapped]
WITHOUT_THRESHOLD = [name for name in BARE if name not in ("sgd", "adam", "adamw")]
NEEDS_MORE_THAN_GRADIENTS = ["kfac", "adler", "cdat", "adahessian", "sophia"]


def start(workload="digits_mlp"):
    torch.manual_seed(0)
    return get_workload(workload).start(StartRequest(seed=0))


def build(name, problem, lr=None, **changes):
    return BASELINES[name].build(problem, BuildRequest(lr=lr or BASELINES[name].lr, **changes))


def step(problem, optimizer):
    batch = next(problem.batches)
    return minimize(optimizer, lambda: problem.loss(batch), batch)


def weights_after(name, num_steps, workload="digits_mlp"):
    problem = start(workload)
    optimizer = build(name, problem)
    for _ in range(num_steps):
        step(problem, optimizer)
    return [param.detach().clone() for param in problem.model.parameters()]


@functools.cache
def trained(name):
    problem = start()
    return list(train(problem, build(name, problem), TrainingPlan(num_steps=NUM_STEPS, eval_every=NUM_STEPS)))


def test_every_optimizer_of_the_study_is_registered():
    assert sorted(BASELINES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_trial_of_a_search_lowers_the_validation_loss(name):
    first, last = trained(name)
    assert last.metrics["validation_loss"] < first.metrics["validation_loss"]


@pytest.mark.parametrize("name", BARE)
def test_a_step_costs_the_gradient_evaluations_that_the_record_says(name):
    assert trained(name)[-1].gradient_evaluations == pytest.approx(NUM_STEPS * BASELINES[name].evaluations_per_step)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_network(name):
    one, two = weights_after(name, 4), weights_after(name, 4)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_an_optimizer_does_not_know_is_refused_with_those_that_it_knows(name):
    with pytest.raises(LabError, match=r"unknown setting warp of .*; it knows: .*"):
        build(name, start(), settings={"warp": 9.0})


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_of_the_search_space_are_settings_within_their_range(name):
    space = dict(BASELINES[name].space)
    assert 2 <= len(space) <= 5
    for parameter in space.values():
        if hasattr(parameter, "values"):
            assert parameter.default in parameter.values
        else:
            assert parameter.low <= parameter.default <= parameter.high
    if "lr" in space:
        assert space.pop("lr").default == BASELINES[name].lr
    build(name, start(), settings={key: parameter.default for key, parameter in space.items()})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"momentum": "much"}, "momentum must be a number, got 'much'"),
        ({"nesterov": 1}, "nesterov must be true or false, got 1"),
        ({"momentum": True}, "momentum must be a number, got True"),
        ({"momentum": float("nan")}, "momentum must be finite, got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite, got inf"),
    ],
    ids=str,
)
def test_a_setting_of_another_type_is_refused(settings, sentence):
    with pytest.raises(LabError, match=sentence):
        build("sgd", start(), settings=settings)


@pytest.mark.parametrize("name", ["adahessian", "sophia"])
def test_an_estimate_every_0_steps_is_refused(name):
    with pytest.raises(ValueError, match="update_period must be at least 1 step, got 0"):
        build(name, start(), settings={"update_period": 0})


def test_a_share_of_the_lr_below_0_is_refused_by_muon():
    with pytest.raises(LabError, match=r"adamw_share must be 0 or more, got -1\.0"):
        build("muon", start(), settings={"adamw_share": -1.0})


def test_a_value_out_of_range_is_refused_by_the_optimizer_itself():
    with pytest.raises(ValueError, match="Invalid momentum value: -1"):
        build("sgd", start(), settings={"momentum": -1.0})


@pytest.mark.parametrize("name", WITHOUT_THRESHOLD)
def test_what_has_no_stability_threshold_cannot_be_watched(name):
    with pytest.raises(LabError, match="cannot be watched: DCAO knows no stability threshold"):
        build(name, start(), watch=True)


def test_a_watched_optimizer_trains_as_a_bare_one():
    problem, watched = start(), start()
    bare, wrapped = build("sgd", problem), build("sgd", watched, watch=True, recorder=dcao.MemoryRecorder())
    for _ in range(3):
        step(problem, bare)
        step(watched, wrapped)
    assert isinstance(wrapped, dcao.DCAO)
    assert torch.equal(problem.model[1].weight, watched.model[1].weight)


@pytest.mark.parametrize("name", NEEDS_MORE_THAN_GRADIENTS)
@pytest.mark.parametrize("workload", ["pydoc_gpt", "pydoc_lstm", "digits_resnet"])
def test_derivatives_pass_attention_and_recurrence_and_norms(name, workload):
    problem = start(workload)
    optimizer = build(name, problem)
    losses = torch.tensor([step(problem, optimizer) for _ in range(2)])
    assert torch.isfinite(losses).all()
    assert probe_cost(optimizer) > 0.0


@pytest.mark.parametrize("name", NEEDS_MORE_THAN_GRADIENTS)
def test_no_graph_is_left_on_the_gradients(name):
    problem = start()
    step(problem, build(name, problem))
    assert not any(param.grad.requires_grad for param in problem.model.parameters())


@pytest.mark.parametrize("name", NEEDS_MORE_THAN_GRADIENTS)
def test_running_statistics_see_each_batch_once(name):
    plain, problem = start("digits_resnet"), start("digits_resnet")
    batch = next(plain.batches)
    plain.loss(batch)
    step(problem, build(name, problem))
    for one, other in zip(plain.model.buffers(), problem.model.buffers(), strict=True):
        torch.testing.assert_close(other, one)


def test_schedule_free_is_evaluated_at_its_average_and_goes_on_from_where_it_was():
    problem = start()
    optimizer = build("schedule_free_adamw", problem)
    for _ in range(3):
        step(problem, optimizer)
    before = problem.model[1].weight.detach().clone()
    with evaluation_mode(problem.model, optimizer):
        inside = problem.model[1].weight.detach().clone()
    assert not torch.allclose(inside, before)
    torch.testing.assert_close(problem.model[1].weight, before)


def test_warmup_of_schedule_free_is_a_share_of_the_run():
    optimizer = build("schedule_free_adamw", start(), num_steps=200, settings={"warmup": 0.05})
    assert optimizer.param_groups[0]["warmup_steps"] == 10


def test_muon_leaves_embeddings_norms_biases_and_the_output_layer_to_adamw():
    problem = start("pydoc_gpt")
    hidden = {id(param) for param in build("muon", problem).param_groups[0]["params"]}
    names = {name for name, param in problem.model.named_parameters() if id(param) in hidden}
    layers = ("query_key_value", "attention_output", "network.0", "network.2")
    assert names == {f"blocks.{block}.{layer}.weight" for block in (0, 1) for layer in layers}


def test_the_schedule_keeps_the_ratio_of_muons_two_learning_rates():
    groups = build("muon", start(), lr=0.1, settings={"adamw_share": 0.2}).param_groups
    assert [group["lr"] for group in groups] == [0.1, pytest.approx(0.02)]


def test_a_loss_of_another_form_is_refused_by_kfac():
    problem = dataclasses.replace(start(), criterion=None)
    with pytest.raises(LabError, match=r"K-FAC needs a loss that is CrossEntropyLoss or MSELoss"):
        build("kfac", problem)


def test_a_network_without_linear_layers_is_refused_by_kfac():
    problem = dataclasses.replace(start(), model=torch.nn.LSTM(2, 2))
    with pytest.raises(LabError, match=r"K-FAC needs Linear or Conv2d layers"):
        build("kfac", problem)
