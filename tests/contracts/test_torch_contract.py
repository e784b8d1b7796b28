"""torch's own optimizer contract, from the inputs of the installed torch: under ``policies.Fixed()`` all of it holds.

Each input of ``torch.testing._internal.common_optimizers.optim_db`` is given to a bare optimizer and to one inside of
DCAO, and both do the same things. What comes out has to be the same, bit for bit.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao import DCAO, policies

pytest.importorskip("expecttest", reason="torch.testing._internal needs it")
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, OptimizerInfo, optim_db

NUM_STEPS = 2

# What the wrapper does not pass on, and why.
REASONS = {
    ("state_dict", "dcao"): "DCAO's own part, beside the base's",
    ("param_groups", "dcao"): "a place for DCAO's part in the first group, for torch.distributed.checkpoint",
    ("none-with", "steps_with_a_closure"): "a closure that returns a loss must have called backward() at some step",
}


class Pair:
    """Two runs from the same weights with the same gradients: one optimizer bare, one in DCAO."""

    def __init__(self, info: OptimizerInfo, kwargs: dict[str, Any], kind: str = "plain", *, wrap: bool = True) -> None:
        self.info, self.kwargs, self.kind = info, kwargs, kind
        self.params = [self._make_params() for _ in range(2)]
        self.bare, self.wrapped = (self._make(params) for params in self.params)
        self.base = self.wrapped
        if wrap:
            self.wrapped = DCAO(self.base, policy=policies.Fixed())
        self.count = 0

    @property
    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        return self.bare, self.wrapped

    def _make_params(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        dtype = torch.complex64 if self.kind == "complex" else torch.float32
        params = [nn.Parameter(torch.randn(4, 3, generator=generator, dtype=dtype)) for _ in range(3)]
        if self.kind == "frozen":
            params[1].requires_grad_(False)
        if self.kind == "all-frozen":
            params = [p.requires_grad_(False) for p in params]
        if self.kind == "differentiable":
            params = [p.detach().clone().requires_grad_().clone() for p in params]
        return params

    def _make(self, params: list[Tensor]) -> Optimizer:
        inputs: Any = params
        if self.kind == "groups":
            inputs = [{"params": params[:1]}, {"params": params[1:], "lr": 0.003}]
            if "weight_decay" in self.kwargs:
                inputs[1]["weight_decay"] = 0.2
        if self.kind == "named":
            inputs = [(f"layer.{index}", p) for index, p in enumerate(params)]
        kwargs = copy.deepcopy(self.kwargs)  # a tensor lr is the optimizer's own
        return self.info.optim_cls(inputs, **kwargs)

    def set_grads(self) -> None:
        for params in self.params:
            generator = torch.Generator().manual_seed(100 + self.count)
            for index, p in enumerate(params):
                grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                skip = (self.kind == "one-without" and index == 1) or self.kind == "none-with"
                if skip or (not p.requires_grad and self.kind in ("frozen", "all-frozen")):
                    continue
                if self.kind == "zero":
                    grad.zero_()
                sparse = self.kind == "sparse" or self.info.only_supports_sparse_grads
                p.grad = grad.to_sparse(1) if sparse else grad

    def step(self, num_steps: int = NUM_STEPS, **kwargs: Any) -> None:
        for _ in range(num_steps):
            if self.info.step_requires_closure:
                self.closure_step()
                continue
            self.set_grads()
            assert self.bare.step(**kwargs) is self.wrapped.step(**kwargs) is None
            self.count += 1

    def closure_step(self) -> None:
        losses = []
        for params, optimizer in zip(self.params, self.optimizers, strict=True):

            def closure(params: list[Tensor] = params, optimizer: Optimizer = optimizer) -> Tensor:
                optimizer.zero_grad()
                loss = sum((index + 1.0) * (p.abs() ** 2).sum() for index, p in enumerate(params))
                if self.kind not in ("none-with", "all-frozen"):
                    loss.backward()
                for p in params:
                    if self.info.only_supports_sparse_grads and p.grad is not None:
                        p.grad = p.grad.to_sparse(1)
                return loss

            losses.append(optimizer.step(closure).detach())
        self.count += 1
        assert torch.equal(*losses)

    def require_same(self) -> None:
        for left, right in zip(*self.params, strict=True):
            assert_same(left.detach(), right.detach(), "values")
            assert_same(left.grad, right.grad, "gradients")
        assert_same(plain(self.bare.state_dict()), plain(self.wrapped.state_dict()), "state_dict")


def plain(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Without what is DCAO's own."""
    left = {key: value for key, value in state_dict.items() if ("state_dict", key) not in REASONS}
    groups = [
        {key: value for key, value in group.items() if ("param_groups", key) not in REASONS}
        for group in left["param_groups"]
    ]
    return {**left, "param_groups": groups}


def assert_same(left: Any, right: Any, where: str) -> None:
    assert type(left) is type(right), where
    if isinstance(left, Tensor):
        left, right = (t.to_dense() if t.is_sparse else t for t in (left, right))
        assert left.dtype == right.dtype, where
        assert torch.equal(torch.nan_to_num(left, 7.0), torch.nan_to_num(right, 7.0)), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}[{key!r}]")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert left == right or (left != left and right != right), where


# --- checks ---------------------------------------------------------------------------------------------------------


def steps(pair: Pair) -> None:
    pair.step()


def steps_with_a_closure(pair: Pair) -> None:
    for _ in range(NUM_STEPS):
        pair.closure_step()


def empties_gradients(pair: Pair) -> None:
    for set_to_none in (True, False):
        pair.step(1)
        for optimizer in pair.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)
        pair.require_same()


def loads_each_others_state(pair: Pair) -> None:
    pair.step()
    saved = [copy.deepcopy(optimizer.state_dict()) for optimizer in pair.optimizers]
    pair.bare.load_state_dict(saved[1])
    pair.wrapped.load_state_dict(saved[0])
    pair.step()


def loads_its_state_from_a_file(pair: Pair) -> None:
    pair.step()
    for optimizer in pair.optimizers:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        optimizer.load_state_dict(torch.load(file, weights_only=True))
    pair.step()


def survives_deepcopy(pair: Pair) -> None:
    pair.step()
    for index in range(2):
        params, optimizer = copy.deepcopy((pair.params[index], pair.optimizers[index]))
        pair.params[index] = params
        setattr(pair, ("bare", "wrapped")[index], optimizer)
    pair.step()


def survives_pickle(pair: Pair) -> None:
    pair.step()
    for index in range(2):
        params, optimizer = pickle.loads(pickle.dumps((pair.params[index], pair.optimizers[index])))
        pair.params[index] = params
        setattr(pair, ("bare", "wrapped")[index], optimizer)
    pair.step()


def fires_hooks(pair: Pair) -> None:
    calls: list[list[str]] = [[], []]
    for own, optimizer in zip(calls, pair.optimizers, strict=True):
        optimizer.register_step_pre_hook(lambda o, args, kwargs, own=own: own.append("step pre"))
        optimizer.register_step_post_hook(lambda o, args, kwargs, own=own: own.append("step post"))
        optimizer.register_state_dict_pre_hook(lambda o, own=own: own.append("save pre"))
        optimizer.register_state_dict_post_hook(lambda o, state, own=own: own.append("save post"))
        optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1}, prepend=True)
        optimizer.register_load_state_dict_pre_hook(lambda o, state, own=own: own.append(f"load pre {state['note']}"))
        optimizer.register_load_state_dict_post_hook(lambda o, own=own: own.append("load post"))
    pair.step()
    for optimizer in pair.optimizers:
        optimizer.load_state_dict(optimizer.state_dict())
    pair.step(1)
    assert calls[0] == calls[1]
    assert len(calls[0]) == 2 * (NUM_STEPS + 1) + 4


def takes_a_group_more(pair: Pair) -> None:
    pair.step()
    for params, optimizer in zip(pair.params, pair.optimizers, strict=True):
        generator = torch.Generator().manual_seed(9)
        params.append(nn.Parameter(torch.randn(4, 3, generator=generator, dtype=params[0].dtype)))
        group = {"params": [params[-1]], "lr": 0.02}
        optimizer.add_param_group({"params": [("more", params[-1])]} if pair.kind == "named" else group)
    pair.step()


def follows_schedulers(pair: Pair) -> None:
    for make in pair.info.scheduler_inputs:
        made = [[scheduler(optimizer) for scheduler in make] for optimizer in pair.optimizers]
        for _ in range(NUM_STEPS):
            pair.step(1)
            for schedulers in made:
                for scheduler in schedulers:
                    args = (0.5,) if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else ()
                    scheduler.step(*args)
        pair.require_same()


def shows_its_state_and_defaults(pair: Pair) -> None:
    pair.step()
    assert pair.bare.defaults.keys() == pair.wrapped.defaults.keys()
    assert pair.wrapped.state is pair.base.state
    assert len(pair.bare.state) == len(pair.wrapped.state)
    assert isinstance(pair.wrapped, Optimizer)


FEW_CHECKS: list[Callable[[Pair], None]] = [
    steps,
    steps_with_a_closure,
    empties_gradients,
    loads_each_others_state,
    takes_a_group_more,
]
MORE_CHECKS: list[Callable[[Pair], None]] = [
    loads_its_state_from_a_file,
    survives_deepcopy,
    survives_pickle,
    fires_hooks,
    follows_schedulers,
    shows_its_state_and_defaults,
]


def implementations(info: OptimizerInfo) -> list[dict[str, Any]]:
    names = [name for name in info.supported_impls if name != "fused" or "cpu" in info.supports_fused_on]
    return [{}, *({name: True} for name in names if name != "differentiable")]


def checks(kind: str) -> list[Callable[[Pair], None]]:
    """All of them where the kind of parameters may matter to the check."""
    chosen = FEW_CHECKS + MORE_CHECKS * (kind in ("plain", "named", "groups", "complex"))
    return [check for check in chosen if (kind, check.__name__) not in REASONS]


def kinds(info: OptimizerInfo, kwargs: dict[str, Any]) -> list[str]:
    found = ["plain", "named", "frozen", "one-without", "none-with", "zero", "all-frozen"]
    found += ["groups"] * info.supports_param_groups
    found += ["complex"] * info.supports_complex
    plain_update = not kwargs.get("weight_decay") and not kwargs.get("foreach") and not kwargs.get("fused")
    found += ["sparse"] * (info.supports_sparse and plain_update)
    return found


def inputs(info: OptimizerInfo) -> Iterator[tuple[str, dict[str, Any], str]]:
    for given in info.optim_inputs_func(device="cpu", dtype=torch.float32):
        for implementation in implementations(info):
            kwargs = {**given.kwargs, **implementation}
            for kind in kinds(info, kwargs):
                yield f"{given.desc} {implementation} {kind}", kwargs, kind


def outcome(function: Callable[[], Any]) -> BaseException | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def bare_fails(info: OptimizerInfo, kwargs: dict[str, Any], kind: str, check: Callable[[Pair], None]) -> bool:
    """Whether two bare optimizers fail in this check as well: torch's own limits are no fault of the wrapper."""

    def both_bare() -> None:
        pair = Pair(info, kwargs, kind, wrap=False)
        check(pair)
        pair.require_same()

    return outcome(both_bare) is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("info", optim_db, ids=lambda info: info.optim_cls.__name__)
def test_whatever_the_bare_optimizer_does_the_wrapped_one_does(info):
    failures, num_checks = [], 0
    for name, kwargs, kind in inputs(info):
        for check in checks(kind):
            num_checks += 1

            def run(kwargs=kwargs, kind=kind, check=check) -> None:
                pair = Pair(info, kwargs, kind)
                check(pair)
                pair.require_same()

            error = outcome(run)
            if error is not None and not bare_fails(info, kwargs, kind, check):
                failures.append(f"{name}: {check.__name__}: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} of {num_checks} checks:\n" + "\n".join(failures[:20])
    assert num_checks >= 100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("info", optim_db, ids=lambda info: info.optim_cls.__name__)
def test_what_the_bare_optimizer_refuses_the_wrapped_one_refuses_alike(info):
    for error_input in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = error_input.optimizer_error_input
        params = given.params if given.params is not None else [nn.Parameter(torch.randn(2, 2))]
        if error_input.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                with pytest.raises(error_input.error_type, match=error_input.error_regex):
                    DCAO(info.optim_cls(params, **given.kwargs), policy=policies.Fixed())
            continue
        optimizer = DCAO(info.optim_cls(params, **given.kwargs), policy=policies.Fixed())
        with pytest.raises(error_input.error_type, match=error_input.error_regex):
            optimizer.step()


@pytest.mark.parametrize(
    "info", [each for each in optim_db if "differentiable" in each.supported_impls], ids=lambda i: i.optim_cls.__name__
)
def test_gradients_flow_through_a_differentiable_step(info):
    slopes = []
    for wrap in (False, True):
        start = torch.arange(1.0, 7.0).reshape(2, 3).requires_grad_()
        param = start.clone()
        optimizer = info.optim_cls([param], differentiable=True)
        optimizer = DCAO(optimizer, policy=policies.Fixed()) if wrap else optimizer
        param.grad = 0.1 * start
        optimizer.step()
        slopes.append(torch.autograd.grad(param.square().sum(), start)[0])
    assert torch.equal(*slopes)
    assert slopes[0].abs().sum() > 0.0


@pytest.mark.parametrize(
    "info", [each for each in optim_db if "cpu" in each.supports_fused_on], ids=lambda i: i.optim_cls.__name__
)
@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_scaler_steps_alike(info, fused):
    pair = Pair(info, {"fused": fused})
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0) for _ in range(2)]
    for step in range(4):
        for params, optimizer, scaler in zip(pair.params, pair.optimizers, scalers, strict=True):
            optimizer.zero_grad()
            factor = float("inf") if step == 2 else 1.0
            scaler.scale(factor * sum(p.square().sum() for p in params)).backward()
            scaler.step(optimizer)
            scaler.update()
    for left, right in zip(*pair.params, strict=True):
        assert torch.equal(left, right)  # the scale is a power of two
