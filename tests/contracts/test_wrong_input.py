"""What the caller got wrong is an error at once, which says the rule, the value and the fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import dcao
from dcao import DCAO, Guard, ProbeLoader, ProbeSettings, literal, operators, policies, schedules
from helpers.contract_cases import BATCHES, Lion, dcao_run, named
from helpers.counting import Count


@dataclass(frozen=True)
class Wrong:
    """A call, and the error it has to raise."""

    name: str
    call: Callable[[], Any]
    error: type[Exception]
    message: str


def params() -> list[Tensor]:
    return [nn.Parameter(torch.ones(3))]


def adamw(**settings: Any) -> optim.Optimizer:
    return optim.AdamW(params(), **{"lr": 1e-3, **settings})


def wrap(**settings: Any) -> Callable[[], DCAO]:
    return lambda: DCAO(adamw(), **settings)


def probing(**settings: Any) -> Callable[[], DCAO]:
    return lambda: DCAO(adamw(), measure=ProbeSettings(**settings))


def weight_of(optimizer: DCAO) -> Tensor:
    return optimizer.param_groups[0]["params"][0]


def minimize(make_loss: Callable[[Tensor], Any]) -> Callable[[], Any]:
    optimizer = DCAO(adamw())
    return lambda: optimizer.minimize(lambda: make_loss(weight_of(optimizer)))


def probe(make_loss: Callable[[Tensor], Any]) -> Callable[[], Any]:
    optimizer = DCAO(adamw())
    return lambda: optimizer.probe(lambda: make_loss(weight_of(optimizer)))


def step_alone(optimizer: DCAO) -> None:
    """A step on a gradient, without which nothing would be due."""
    weight_of(optimizer).square().sum().backward()
    optimizer.step()


def probe_batch(make_loss: Callable[[Tensor], Any], *, loader: bool = False) -> Callable[[], Any]:
    """A probe batch is first evaluated in the first step."""
    weight = nn.Parameter(torch.ones(3))
    loaded = ProbeLoader([torch.ones(2)], lambda _: make_loss(weight), num_batches=1)
    optimizer = DCAO(optim.SGD([weight], lr=0.1), probe_batch=loaded if loader else lambda: make_loss(weight))
    return lambda: optimizer.minimize(lambda: weight.square().sum())


VECTOR = r"loss_fn must return a scalar, got shape \(3,\); reduce it"
NO_GRAPH = "loss_fn returned a loss without a graph; compute it from the parameters"
COMPLEX = "loss_fn must return a real floating-point loss, got torch.complex64"
INTEGER = "loss_fn must return a real floating-point loss, got torch.int64"
NO_TENSOR = r"loss_fn must return a tensor, got float; return the loss alone, without .item\(\)"

LOSSES: list[tuple[str, Callable[[Tensor], Any], type[Exception], str]] = [
    ("vector", lambda w: w.square(), ValueError, VECTOR),
    ("no-graph", lambda w: w.detach().sum(), ValueError, NO_GRAPH),
    ("complex", lambda w: w.sum().to(torch.complex64), TypeError, COMPLEX),
    ("integer", lambda w: w.sum().long(), TypeError, INTEGER),
    ("number", lambda w: float(w.detach().sum()), TypeError, NO_TENSOR),
    ("none", lambda w: None, TypeError, "loss_fn must return a tensor, got NoneType"),
]
LOSS_ROWS = [
    Wrong(f"{way}-{name}", call(loss), error, message)
    for name, loss, error, message in LOSSES
    for way, call in (
        ("minimize", minimize),
        ("probe", probe),
        ("probe-batch", probe_batch),
        ("probe-loader", lambda loss: probe_batch(loss, loader=True)),
    )
]

ROWS = [
    *LOSS_ROWS,
    # --- what is wrapped
    Wrong(
        "base-params",
        lambda: DCAO(params()),
        TypeError,
        r"base must be a torch.optim.Optimizer, got list; wrap one that is built, as in DCAO\(torch.optim.AdamW\(",
    ),
    Wrong(
        "base-class",
        lambda: DCAO(optim.SGD),
        TypeError,
        "base must be a torch.optim.Optimizer, got the class SGD; wrap one that is built",
    ),
    # --- a loss in place of a function that returns it
    *(
        Wrong(
            f"{measure.__name__}-of-a-loss",
            lambda measure=measure: measure(params()[0].square().sum(), params()),
            TypeError,
            "loss_fn must be callable, got Tensor; pass lambda: loss, not the loss",
        )
        for measure in (
            dcao.hessian_spectrum,
            dcao.hessian_trace,
            dcao.sharpness,
            dcao.spectral_density,
            operators.HessianOperator,
            operators.FiniteDifferenceOperator,
        )
    ),
    Wrong(
        "base-twice", lambda: DCAO(DCAO(adamw())), TypeError, "base must be a plain optimizer, got DCAO; wrap it once"
    ),
    Wrong(
        "base-lr-0", lambda: DCAO(adamw(lr=0.0)), ValueError, "lr must be positive in at least one param group, got 0"
    ),
    Wrong(
        "base-lion",
        lambda: DCAO(Lion(params(), lr=1e-3)),
        TypeError,
        "Lion has no stability threshold.*sign of an average.*register_optimizer",
    ),
    Wrong(
        "base-lion-by-its-hessian",
        lambda: DCAO(Lion(params(), lr=1e-3), measure="hessian"),
        TypeError,
        r'Lion has no stability threshold.*policy=policies.Fixed\(\), measure="hessian"',
    ),
    Wrong(
        "base-maximize",
        lambda: DCAO(adamw(maximize=True)),
        ValueError,
        "maximize must be False, got True.*negate the loss",
    ),
    Wrong(
        "base-maximize-watched",
        lambda: DCAO(adamw(maximize=True), policy=policies.Fixed(), measure="hessian", every=2),
        ValueError,
        r"maximize must be False, got True in param group 0.*pass the optimizer through with policy=policies.Fixed\(\)",
    ),
    Wrong(
        "base-momentum-1",
        lambda: DCAO(optim.SGD(params(), lr=0.1, momentum=1.0)),
        ValueError,
        r"momentum must be in \[0, 1\), got 1.0; at 1 the average never forgets.*lower it",
    ),
    Wrong(
        "base-lbfgs-probed",
        lambda: DCAO(optim.LBFGS(params()), every=5),
        TypeError,
        "LBFGS has no stability threshold.*chooses its own step",
    ),
    Wrong(
        "base-lbfgs-guarded",
        lambda: DCAO(optim.LBFGS(params()), guard=True),
        ValueError,
        "guard has no effect on LBFGS.*leave guard out",
    ),
    # --- when
    Wrong("every-0", wrap(every=0), ValueError, "every must be at least 1 step, got 0; to never adapt"),
    Wrong("every-negative", wrap(every=-3), ValueError, "every must be at least 1 step, got -3"),
    Wrong("every-float", wrap(every=2.5), TypeError, "every must be a whole number of steps, got 2.5"),
    Wrong("every-bool", wrap(every=True), TypeError, "every must be a whole number of steps, got True"),
    Wrong("every-text", wrap(every="10"), TypeError, "every must be a whole number of steps, got '10'"),
    Wrong(
        "overhead-0",
        lambda: wrap(every=schedules.Overhead(0.0))(),
        ValueError,
        "share must be between 0 and 1, such as 0.05, got 0.0",
    ),
    Wrong(
        "overhead-5",
        lambda: wrap(every=schedules.Overhead(5))(),
        ValueError,
        "share must be between 0 and 1, such as 0.05, got 5",
    ),
    Wrong(
        "overhead-nan",
        lambda: wrap(every=schedules.Overhead(float("nan")))(),
        ValueError,
        "share must be between 0 and 1.*got nan",
    ),
    Wrong(
        "overhead-text",
        lambda: wrap(every=schedules.Overhead("5%"))(),
        TypeError,
        "share must be a number, got '5%'",
    ),
    Wrong("spectrum-every-0", wrap(spectrum_every=0), ValueError, "spectrum_every must be at least 1 step, got 0"),
    Wrong(
        "spectrum-every-float",
        wrap(spectrum_every=1.5),
        TypeError,
        "spectrum_every must be a whole number of steps, got 1.5",
    ),
    Wrong(
        "snapshot-every-0", lambda: Guard(snapshot_every=0), ValueError, "snapshot_every must be at least 1 step, got 0"
    ),
    Wrong(
        "snapshot-every-float",
        lambda: Guard(snapshot_every=0.5),
        TypeError,
        "snapshot_every must be a whole number of steps, got 0.5",
    ),
    Wrong("guard-outlier", lambda: Guard(outlier=1.0), ValueError, "outlier must be a finite factor above 1, got 1.0"),
    Wrong(
        "snapshot-dtype",
        lambda: Guard(snapshot_dtype=torch.float16),
        ValueError,
        "snapshot_dtype must be torch.bfloat16 or None, got torch.float16: float16 has no room for",
    ),
    Wrong("snapshot-device", lambda: Guard(snapshot_device="meta"), ValueError, 'must hold numbers, got "meta"'),
    Wrong(
        "no-snapshot-device",
        lambda: Guard(snapshot_every=None, snapshot_device="cpu"),
        ValueError,
        "must be None with snapshot_every=None, which keeps no snapshot, got cpu and None; leave them out",
    ),
    Wrong("guard-patience", lambda: Guard(patience=0), ValueError, "patience must be at least 1 skipped step, got 0"),
    Wrong(
        "guard-text",
        wrap(guard="on"),
        TypeError,
        r"guard must be a dcao.Guard, got str; dcao.Guard\(snapshot_every=50\) is one; or pass True or False",
    ),
    Wrong("guard-class", wrap(guard=Guard), TypeError, r"got the class Guard; call it, as in Guard\(\)"),
    # --- what is measured
    Wrong(
        "measure",
        wrap(measure="sharpness"),
        ValueError,
        "measure must be one of load, batch, hessian, preconditioned, got 'sharpness'",
    ),
    Wrong("k-0", probing(k=0), ValueError, "k must be at least 1 eigenpair, got 0"),
    Wrong("k-negative", probing(k=-1), ValueError, "k must be at least 1 eigenpair, got -1"),
    Wrong("k-float", probing(k=2.0), TypeError, "k must be a whole number of eigenpairs, got 2.0"),
    Wrong("k-bool", probing(k=True), TypeError, "k must be a whole number of eigenpairs, got True"),
    Wrong(
        "lanczos-steps-below-k",
        probing(k=5, num_lanczos_steps=3),
        ValueError,
        "num_lanczos_steps must be at least k = 5, got 3",
    ),
    Wrong(
        "lanczos-steps-float",
        probing(num_lanczos_steps=20.0),
        TypeError,
        "num_lanczos_steps must be a whole number of steps, got 20.0",
    ),
    Wrong("hvp", probing(hvp="exakt"), ValueError, "hvp must be one of auto, exact, central, forward, got 'exakt'"),
    Wrong(
        "step-length-0",
        probing(step_length=0.0),
        ValueError,
        'step_length must be positive and finite, "step" or None, got 0.0',
    ),
    Wrong(
        "step-length-nan",
        probing(step_length=float("nan")),
        ValueError,
        "step_length must be positive and finite.*got nan",
    ),
    Wrong(
        "step-length-text",
        probing(step_length="steps"),
        ValueError,
        "step_length must be positive and finite.*got 'steps'",
    ),
    Wrong("groups-outside", probing(groups=(1,)), ValueError, r"groups must be in 0..0, got \[1\]"),
    Wrong(
        "groups-empty",
        probing(groups=()),
        ValueError,
        "groups must name at least one param group, got none; leave it out to measure all",
    ),
    Wrong("groups-twice", probing(groups=(0, 0)), ValueError, r"groups must name each param group once, got \(0, 0\)"),
    Wrong("groups-bool", probing(groups=(True,)), TypeError, "groups must be a tuple of indices, got"),
    Wrong("basis-device", probing(basis_device="gpu"), ValueError, "basis_device must be a device, got 'gpu'"),
    Wrong("basis-device-type", probing(basis_device=1.5), ValueError, "basis_device must be a device, got 1.5"),
    Wrong("basis-dtype", probing(basis_dtype=torch.int8), TypeError, "basis_dtype must be a real floating-point dtype"),
    Wrong("basis-dtype-text", probing(basis_dtype="bf16"), TypeError, "basis_dtype must be.*got 'bf16'"),
    Wrong("groups-number", probing(groups=0), TypeError, r"groups must be a tuple of indices, got 0; write \(0,\)"),
    Wrong("seed", wrap(seed=0.5), TypeError, "seed must be a whole number, got 0.5"),
    Wrong(
        "probe-batch-loader",
        wrap(probe_batch=[BATCHES[0]]),
        TypeError,
        r"probe_batch must be a loss_fn or a dcao.ProbeLoader, got list; wrap a DataLoader as ProbeLoader\(loader, ",
    ),
    Wrong(
        "loader-one-pass",
        lambda: ProbeLoader(iter([1]), lambda batch: batch),
        TypeError,
        "loader must be re-iterable.*got a one-pass iterator",
    ),
    Wrong(
        "loader-no-batches",
        lambda: ProbeLoader([1], lambda batch: batch, num_batches=0),
        ValueError,
        "num_batches must be at least 1, got 0",
    ),
    # --- what follows
    Wrong(
        "policy-class",
        wrap(policy=policies.Fixed),
        TypeError,
        r"policy must be a dcao.Policy, got the class Fixed; call it, as in Fixed\(\)",
    ),
    Wrong(
        "policy-text",
        wrap(policy="fixed"),
        TypeError,
        r"policy must be a dcao.Policy, got str; policies.Fixed\(\) is one",
    ),
    Wrong(
        "every-class",
        wrap(every=schedules.Thinning),
        TypeError,
        r"every must be a number of steps or a schedule, got the class Thinning; call it, as in Thinning\(\)",
    ),
    Wrong("recorder", wrap(recorder=[]), TypeError, "recorder must have a method record, got list"),
    Wrong(
        "recorder-class",
        wrap(recorder=dcao.MemoryRecorder),
        TypeError,
        r"recorder must have a method record, got the class MemoryRecorder; call it, as in MemoryRecorder\(\)",
    ),
    Wrong(
        "target-0",
        lambda: policies.Ceiling(0.0),
        ValueError,
        "target must be positive and finite, got 0.0; the edge of stability is at 2",
    ),
    Wrong(
        "target-nan", lambda: policies.Ceiling(float("nan")), ValueError, "target must be positive and finite, got nan"
    ),
    Wrong(
        "lr-below-bounds",
        wrap(policy=policies.LearningRate(min_lr=0.01)),
        ValueError,
        r"bounds of lr \[0.01, 1000\] exclude its present value 0.001; widen min_lr and max_lr",
    ),
    Wrong(
        "lr-above-bounds",
        wrap(policy=policies.Smoothed(policies.LearningRate(max_lr=1e-4))),
        ValueError,
        r"bounds of lr \[1e-10, 0.0001\] exclude its present value 0.001",
    ),
    Wrong(
        "lr-bounds-crossed",
        lambda: policies.LearningRate(min_lr=1.0, max_lr=0.1),
        ValueError,
        "bounds of lr must satisfy 0.0 <= min <= max <= inf, got 1.0 and 0.1",
    ),
    Wrong(
        "gamma-down",
        lambda: policies.LearningRate(gamma_down=1.2),
        ValueError,
        "gammas must satisfy 0 < gamma_down <= 1 <= gamma_up, got 1.2 and 1.1",
    ),
    Wrong("gamma-up", lambda: policies.LearningRate(gamma_up=0.9), ValueError, "gammas must satisfy.*got 0.8 and 0.9"),
    Wrong(
        "momentum-outside-bounds",
        wrap(policy=policies.Momentum(max_momentum=0.8)),
        ValueError,
        r"bounds of momentum \[0, 0.8\] exclude its present value 0.9",
    ),
    Wrong(
        "momentum-bounds",
        lambda: policies.Momentum(max_momentum=1.0),
        ValueError,
        "bounds of momentum must satisfy 0.0 <= min <= max <= 0.999999999999, got 0.0 and 1.0",
    ),
    Wrong(
        "momentum-of-adagrad",
        lambda: DCAO(optim.Adagrad(params(), lr=0.1), policy=policies.Momentum()),
        ValueError,
        "the momentum rule needs an optimizer with momentum; this one has none",
    ),
    Wrong(
        "momentum-alpha",
        lambda: policies.Momentum(float("inf")),
        ValueError,
        "alpha of the momentum rule must be finite, got inf",
    ),
    Wrong(
        "decay-outside-bounds",
        lambda: DCAO(adamw(weight_decay=2.0), policy=policies.WeightDecay()),
        ValueError,
        r"bounds of weight_decay \[0, 1\] exclude its present value 2",
    ),
    Wrong("anchor", lambda: policies.WeightDecay(anchor=1.5), ValueError, r"anchor must be in \[0, 1\], got 1.5"),
    Wrong(
        "compose-a-class",
        lambda: policies.Compose(policies.Momentum(), policies.LearningRate),
        TypeError,
        r"each rule of Compose must be a dcao.Policy, got the class LearningRate; call it, as in LearningRate\(\)",
    ),
    Wrong(
        "compose-a-list",
        lambda: policies.Compose([policies.LearningRate(), policies.Momentum()]),
        TypeError,
        r"each rule of Compose must be a dcao.Policy, got list; write Compose\(first, second\)",
    ),
    Wrong(
        "smoothed-text",
        lambda: policies.Smoothed("lr"),
        TypeError,
        r"policy must be a dcao.Policy, got str; policies.LearningRate\(\) is one",
    ),
    *(
        Wrong(
            f"{name}-text",
            lambda make=make, name=name: make(**{name: "x"}),
            TypeError,
            f"{name} must be a number, got 'x'",
        )
        for make, names in {
            Guard: ["outlier"],
            ProbeSettings: ["tolerance"],
            schedules.Overhead: ["share"],
            policies.Ceiling: [
                "target",
                "max_relative_step",
                "first_relative_step",
                "growth",
                "gamma_down",
                "gamma_arrival",
                "decay",
                "min_lr",
                "max_lr",
                "min_trust",
            ],
            policies.LearningRate: ["gamma_down", "gamma_up", "min_lr", "max_lr", "min_trust"],
            policies.Momentum: ["alpha", "min_momentum", "max_momentum", "anchor", "min_trust"],
            policies.WeightDecay: ["alpha", "min_weight_decay", "max_weight_decay", "anchor", "min_trust"],
        }.items()
        for name in names
    ),
    Wrong(
        "max-relative-step-none",
        lambda: policies.Ceiling(max_relative_step=None),
        TypeError,
        "max_relative_step must be a number, got None",
    ),
    Wrong(
        "thinning-one-stage",
        lambda: schedules.Thinning(stages=(60, 5)),
        TypeError,
        r"stages must be pairs \(until, interval\), got 60; write stages=\(\(60, 5\), \(500, 20\)\)",
    ),
    Wrong(
        "thinning-not-rising",
        lambda: schedules.Thinning(stages=((500, 20), (60, 5))),
        ValueError,
        "stages must end one after the other, got a stage until 60 after one until 500",
    ),
    Wrong(
        "groups-by-name", lambda: ProbeSettings(groups=("head",)), TypeError, "groups must be a tuple of indices, got"
    ),
    Wrong("compose-nothing", lambda: policies.Compose(), ValueError, "Compose needs at least one policy, got none"),
    Wrong(
        "window-0",
        lambda: policies.Smoothed(policies.Fixed(), window=0),
        ValueError,
        "window must be at least 1 probe, got 0",
    ),
    Wrong("schedule-0", lambda: schedules.Every(0), ValueError, "every must be at least 1 step, got 0"),
    # --- stepping
    Wrong(
        "minimize-a-loss",
        lambda: DCAO(adamw()).minimize(torch.ones(())),
        TypeError,
        "loss_fn must be callable, got Tensor; pass lambda: loss, not the loss",
    ),
    Wrong(
        "probe-a-loss", lambda: DCAO(adamw()).probe(torch.ones(())), TypeError, "loss_fn must be callable, got Tensor"
    ),
    Wrong(
        "step-a-loss",
        lambda: DCAO(adamw()).step(torch.ones(())),
        TypeError,
        r"closure must be callable, got Tensor; after loss.backward\(\) call step\(\)",
    ),
    Wrong(
        "closure-without-backward",
        lambda: DCAO(adamw()).step(lambda: torch.ones(())),
        ValueError,
        r"closure must call backward\(\) on the loss.*optimizer.minimize\(loss_fn\)",
    ),
    Wrong(
        "nothing-to-probe",
        lambda: step_alone(DCAO(adamw())),
        ValueError,
        r"a probe is due at step 0 and there is nothing to probe: call optimizer.minimize",
    ),
    Wrong(
        "nothing-to-probe-as-demanded",
        lambda: step_alone(DCAO(adamw(), policy=policies.Fixed(), every=3)),
        ValueError,
        "a probe is due at step 0 and there is nothing to probe",
    ),
    Wrong("literal-every-0", lambda: literal(adamw(), every=0), ValueError, "every must be at least 1 step, got 0"),
    Wrong("literal-k-0", lambda: literal(adamw(), every=5, k=0), ValueError, "k must be at least 1 eigenpair, got 0"),
    Wrong(
        "group-twice",
        lambda: (lambda o: o.add_param_group({"params": [weight_of(o)]}))(DCAO(adamw())),
        ValueError,
        "some parameters appear in more than one parameter group",
    ),
    Wrong(
        "state-none", lambda: DCAO(adamw()).load_state_dict(None), TypeError, "state_dict must be a dict, got NoneType"
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_wrong_input_is_an_error_at_once_that_says_the_rule_the_value_and_the_fix(row):
    with pytest.raises(row.error, match=row.message):
        row.call()


@pytest.mark.parametrize("row", LOSS_ROWS, ids=lambda row: row.name)
def test_a_refused_loss_has_changed_nothing(row):
    refused = next(cell.cell_contents for cell in row.call.__closure__ if isinstance(cell.cell_contents, DCAO))
    with pytest.raises(row.error):
        row.call()
    assert torch.equal(weight_of(refused), torch.ones(3))
    assert refused.num_steps == 0
    assert not refused.base.state.get(weight_of(refused))


def test_a_loss_where_a_function_is_wanted_leaves_the_gradients():
    optimizer = DCAO(adamw())
    loss = weight_of(optimizer).square().sum()
    loss.backward()
    with pytest.raises(TypeError, match="loss_fn must be callable, got Tensor; pass lambda: loss, not the loss"):
        optimizer.minimize(loss)
    assert torch.equal(weight_of(optimizer).grad, torch.full((3,), 2.0))


def test_a_length_beside_a_policy_warns_that_it_has_no_effect():
    with pytest.warns(UserWarning, match="total_steps has no effect beside policy; give it to the policy") as caught:
        DCAO(adamw(), total_steps=100, policy=policies.Fixed())
    assert caught[0].filename == __file__  # the caller's line, not the one that called the caller


def test_a_step_length_may_be_a_whole_number():
    assert dcao_run(named("sgd"), step_length=1).advance(2).optimizer.last_estimate.s is not None


def test_a_loss_of_one_entry_is_a_scalar():
    optimizer = DCAO(adamw())
    loss = optimizer.minimize(lambda: weight_of(optimizer).square().sum().reshape(1))
    assert loss.shape == ()


def test_a_loss_that_goes_wrong_later_is_a_reason_in_the_log():
    """A probe never stops training; only the first one, which risks nothing, speaks up."""
    weight = nn.Parameter(torch.ones(3))
    count = Count()

    def batch() -> Tensor:
        return weight.square().sum() if count.add() < 4 else weight.square()

    optimizer = DCAO(optim.SGD([weight], lr=0.01), probe_batch=batch, every=1)
    steps = (optimizer.minimize(lambda: weight.square().sum()) for _ in range(6))
    with pytest.warns(UserWarning, match=r"Probes fail: ValueError: loss_fn must return a scalar"):
        list(steps)
    assert "the probe failed: ValueError: loss_fn must return a scalar" in optimizer.last_estimate.reason


def test_a_base_without_an_lr_is_refused():
    class Rateless(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

    with pytest.raises(ValueError, match="base must have an lr in each param group, and Rateless does not"):
        DCAO(Rateless(nn.Linear(1, 1).parameters()), policy=policies.Fixed())


def test_what_is_only_passed_through_may_climb_and_never_forget():
    for base in (adamw(maximize=True), optim.SGD(params(), lr=0.1, momentum=1.0)):
        optimizer = DCAO(base, policy=policies.Fixed())
        weight = weight_of(optimizer)
        before = weight.detach().clone()
        optimizer.minimize(lambda weight=weight: weight.square().sum())
        assert not torch.equal(weight, before)


def test_a_group_that_climbs_is_not_probed():
    optimizer = DCAO(adamw(), every=1)
    optimizer.minimize(lambda: weight_of(optimizer).square().sum())
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "maximize": True})
    optimizer.minimize(lambda: weight_of(optimizer).square().sum())
    assert "maximize must be False, got True in param group 1" in optimizer.last_estimate.reason


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")
@pytest.mark.parametrize("use_orig_params", [False, True])
def test_flat_parameters_are_refused_at_once_and_passed_through_under_fixed(use_orig_params, one_process):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(nn.Linear(4, 3), device_id=torch.device("cpu"), use_orig_params=use_orig_params)
    base = torch.optim.AdamW(model.parameters(), lr=1e-2)
    message = r"must be whole or DTensors, got the flat ones of FullyShardedDataParallel, .*fully_shard, or .*Fixed\(\)"
    for settings in ({}, {"policy": policies.Fixed(), "every": 5}, {"policy": policies.Fixed(), "guard": True}):
        with pytest.raises(ValueError, match=message):
            DCAO(base, **settings)
    optimizer, x = DCAO(base, policy=policies.Fixed()), torch.ones(8, 4)
    losses = [float(optimizer.minimize(lambda: model(x).square().mean())) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")
@pytest.mark.parametrize(
    ("use_orig_params", "message"),
    [(True, "must be whole or DTensors, got the flat ones of FullyShardedDataParallel"), (False, "of another model")],
)
def test_parameters_that_become_flat_after_the_optimizer_was_built_are_refused(use_orig_params, message, one_process):
    from torch.distributed.fsdp import FullyShardedDataParallel

    net = nn.Linear(4, 3)
    optimizer = DCAO(torch.optim.AdamW(net.parameters(), lr=1e-2))
    model = FullyShardedDataParallel(net, device_id=torch.device("cpu"), use_orig_params=use_orig_params)
    with pytest.raises(ValueError, match=message):
        optimizer.minimize(lambda: model(torch.ones(8, 4)).square().mean())


def test_parameters_of_deepspeed_are_refused_at_once():
    weight = nn.Parameter(torch.empty(0))
    weight.ds_id = 0  # as its ZeRO marks parameters, of which it leaves nothing in place
    with pytest.raises(ValueError, match=r"must be whole or DTensors, got those of DeepSpeed's ZeRO, .*fully_shard"):
        DCAO(torch.optim.AdamW([weight]))


def test_exact_products_are_refused_where_parameters_are_sharded_after_the_optimizer_was_built(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(4, 3)
    optimizer = DCAO(torch.optim.AdamW(model.parameters()), measure=ProbeSettings("hessian", hvp="exact"))
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer.param_groups[0]["params"] = list(model.parameters())  # as Accelerate does
    with pytest.raises(ValueError, match=r'hvp must not be "exact" where the parameters are in shards'):
        optimizer.minimize(lambda: model(torch.ones(8, 4)).square().mean())


@pytest.mark.parametrize("way", ["fully_shard", "tensor-parallel"])
def test_exact_products_with_shards_are_refused_at_once(way, one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    mesh, model = init_device_mesh("cpu", (1,)), nn.Linear(4, 3)
    if way == "fully_shard":
        fully_shard(model, mesh=mesh)
    else:
        parallelize_module(model, mesh, ColwiseParallel())
    base = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with pytest.raises(ValueError, match=r'hvp must not be "exact" where the parameters are in shards .*"central"'):
        DCAO(base, measure=ProbeSettings("hessian", hvp="exact"))


def test_shards_on_meshes_of_which_none_contains_the_other_are_refused(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
    for layer, name in zip(layers, ("left", "right"), strict=True):
        parallelize_module(layer, init_device_mesh("cpu", (1,), mesh_dim_names=(name,)), ColwiseParallel())
    params = [p for layer in layers for p in layer.parameters()]
    with pytest.raises(ValueError, match=r"must lie on one device mesh and parts of it, got .*; name the dimensions"):
        DCAO(torch.optim.SGD(params, lr=0.1))
