import pytest
import torch

from dcao.vectors import flatten, random_vector, trainable, unflatten, unique


def test_flatten_and_unflatten_are_inverse():
    tensors = [torch.rand(2, 3), torch.rand(()), torch.rand(4, dtype=torch.float64)]
    flat = flatten(tensors, dtype=torch.float64)
    for piece, tensor in zip(unflatten(flat, tensors), tensors, strict=True):
        assert torch.equal(piece, tensor)
        assert piece.dtype is tensor.dtype


def test_flatten_never_shares_memory_and_keeps_no_graph():
    w = torch.ones(3, requires_grad=True)
    flat = flatten([w])
    flat.zero_()
    assert w.tolist() == [1.0, 1.0, 1.0]
    assert not flat.requires_grad


def test_unflatten_refuses_another_size():
    with pytest.raises(ValueError, match=r"vector must have shape \(2,\) to match the tensors, got \(3,\)"):
        unflatten(torch.ones(3), [torch.ones(2)])


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_random_vectors_have_mean_zero_and_variance_one(kind):
    v = random_vector(100_000, kind=kind, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(v.mean()) < 5 / 100_000**0.5  # five standard errors
    assert abs(v.square().mean() - 1) < 5 * (2 / 100_000) ** 0.5
    if kind == "rademacher":
        assert set(v.tolist()) == {-1.0, 1.0}


def test_random_vectors_follow_their_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(random_vector(5), random_vector(5))
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(random_vector(5, generator=generator), random_vector(5, generator=generator))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match=r"kind must be \"gaussian\" or \"rademacher\", got 'uniform'"):
        random_vector(5, kind="uniform")


def test_tied_tensors_count_once_in_order():
    a, b = torch.ones(1), torch.ones(1)
    assert [id(t) for t in unique([b, a, b])] == [id(b), id(a)]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, r"no parameter requires grad; pass the parameters that are trained"),
        ([torch.ones(1)], ValueError, r"no parameter requires grad"),
        (torch.ones(1, requires_grad=True), TypeError, r"params must be a list .* got one tensor"),
    ],
)
def test_parameters_that_cannot_be_measured_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        trainable(params)
