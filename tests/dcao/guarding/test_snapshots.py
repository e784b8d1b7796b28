"""What a run can go back to: bit for bit, in other forms, and in the same memory again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dcao.guarding.kept import Form, Kept
from dcao.guarding.snapshots import Snapshot

FORMS = [Form(), Form(device=torch.device("cpu")), Form(dtype=torch.bfloat16)]


def trained(steps: int = 3, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 5, dtype=next(model.parameters()).dtype)).square().sum().backward()
    optimizer.step()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = [value for p in model.parameters() for value in optimizer.state[p].values()]
    return [t.detach().clone() for t in (*model.parameters(), *model.buffers(), *states)]


def snapshot_of(model: nn.Module, optimizer: torch.optim.Optimizer, form: Form) -> Snapshot:
    return Snapshot(optimizer, list(model.modules()), 7, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_trading_places_twice_leaves_everything_as_it_was_to_the_last_bit(form, dtype):
    model, optimizer = trained(dtype=dtype)
    snapshot = snapshot_of(model, optimizer, form)
    for _ in range(2):
        step(model, optimizer)
    present = everything(model, optimizer)
    for _ in range(2):  # and again
        snapshot.trade_places()
        assert not torch.equal(next(model.parameters()), present[0])
        snapshot.trade_places()
        now = everything(model, optimizer)
        assert all(torch.equal(a, b) and a.dtype is b.dtype for a, b in zip(now, present, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_gone_back_to_is_what_was_there_as_far_as_the_form_holds_it(form):
    model, optimizer = trained()
    then = everything(model, optimizer)
    snapshot = snapshot_of(model, optimizer, form)
    step(model, optimizer)
    snapshot.trade_places()
    buffers = {t.data_ptr() for t in model.buffers()}
    live = [
        *model.parameters(),
        *model.buffers(),
        *(v for p in model.parameters() for v in optimizer.state[p].values()),
    ]
    for now, before in zip(live, then, strict=True):
        is_narrow = form.dtype is not None and now.dim() > 0 and now.data_ptr() not in buffers
        assert torch.equal(now, before.to(form.dtype).to(before.dtype) if is_narrow else before)
        assert now.dtype is before.dtype


def test_bfloat16_takes_half_the_memory():
    model, optimizer = trained()
    sizes = []
    for form in (Form(), Form(dtype=torch.bfloat16)):
        snapshot = snapshot_of(model, optimizer, form)
        kept = [each for _, each in snapshot.params]
        kept += [each for state in snapshot.states.values() for each in state.values()]
        sizes.append(sum(each.content.nbytes for each in kept if each.content.dim()))
    assert sizes[1] == sizes[0] / 2


@pytest.mark.parametrize("form", FORMS)
def test_the_next_snapshot_is_made_in_the_same_memory(form):
    model, optimizer = trained()
    snapshot = snapshot_of(model, optimizer, form)
    addresses = [kept.content.data_ptr() for _, kept in snapshot.params]
    step(model, optimizer)
    expected = snapshot_of(model, optimizer, form)
    assert snapshot.take_again(list(model.modules()), 8)
    assert snapshot.step == 8
    assert [kept.content.data_ptr() for _, kept in snapshot.params] == addresses
    for (_, ours), (_, theirs) in zip(snapshot.params, expected.params, strict=True):
        assert torch.equal(ours.content, theirs.content)
    for p in model.parameters():
        for key, value in expected.states[p].items():
            assert torch.equal(snapshot.states[p][key].content, value.content)
    for ours, theirs in zip(snapshot.buffers, expected.buffers, strict=True):
        assert torch.equal(ours.value, theirs.value)


def no_state_before(model, optimizer):
    optimizer.state.clear()


def another_parameter(model, optimizer):
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


def another_shape(model, optimizer):
    model[0].weight.data = torch.zeros(4, 6)


def another_average(model, optimizer):
    optimizer.state[model[0].weight]["max_exp_avg_sq"] = torch.zeros(4, 5)


@pytest.mark.parametrize("change", [no_state_before, another_parameter, another_shape, another_average])
def test_what_does_not_fit_its_memory_is_not_copied_into_it(change):
    model, optimizer = trained()
    snapshot = snapshot_of(model, optimizer, Form())
    before = [kept.content.clone() for _, kept in snapshot.params]
    change(model, optimizer)
    assert not snapshot.take_again(list(model.modules()), 8)
    assert snapshot.step == 7
    assert all(torch.equal(kept.content, b) for (_, kept), b in zip(snapshot.params, before, strict=True))


def test_a_copy_that_was_interrupted_is_not_gone_back_to(monkeypatch):
    model, optimizer = trained()
    snapshot = snapshot_of(model, optimizer, Form())
    assert snapshot.is_complete()
    takes = []

    def interrupted(kept: Kept, original: Tensor) -> None:
        takes.append(original)
        if len(takes) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Kept, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        snapshot.take_again(list(model.modules()), 8)
    assert not snapshot.is_complete()
