import math

import pytest
import torch

from dcao.operators import HessianOperator, LinearOperator, MatrixOperator
from dcao.spectra.lanczos import LanczosStatus, lanczos
from helpers.cases import NETWORK_CASES, NETWORKS, SPECTRUM_CASES, SpectrumCase
from helpers.reference import dense_hessian, textbook_lanczos

NETWORK_LIKE = SPECTRUM_CASES[0]


def by_name(case):
    return case.name


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Identity(LinearOperator):
    """Returns its very argument, as an operator may."""

    size, device, dtype = 6, torch.device("cpu"), torch.float64

    def matvec(self, vector):
        return vector


def test_what_is_no_operator_is_refused():
    with pytest.raises(TypeError, match=r"operator must be a dcao.operators.LinearOperator, got Tensor; subclass it"):
        lanczos(torch.eye(3))


def distance_to_spectrum(values, matrix):
    eigenvalues = torch.linalg.eigvalsh(matrix.double())
    return (values[:, None] - eigenvalues[None]).abs().min(dim=1).values


@pytest.mark.parametrize("case", SPECTRUM_CASES, ids=by_name)
@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e14])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_full_run_finds_the_ends_of_the_spectrum_at_any_scale(case, scale, dtype):
    matrix = case.matrix(scale, dtype)
    result = lanczos(MatrixOperator(matrix), which="both", num_steps=matrix.shape[0], generator=seeded())
    eigenvalues = torch.linalg.eigvalsh(matrix.double())
    # rounding of a backward stable method: a small multiple of eps * n relative to the norm of the matrix
    atol = 4 * torch.finfo(dtype).eps * matrix.shape[0] * float(eigenvalues.abs().max())
    ends = torch.stack([eigenvalues[-1], eigenvalues[0]])[: len(result.ritz_values)]
    torch.testing.assert_close(result.ritz_values, ends, rtol=0.0, atol=atol)
    assert result.status is LanczosStatus.INVARIANT


@pytest.mark.parametrize("case", SPECTRUM_CASES, ids=by_name)
@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e14])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("basis", ["operator", "bfloat16"])
@pytest.mark.parametrize("num_steps", [3, 10, 40])
def test_residuals_bound_the_true_residuals_of_the_stored_vectors(case, scale, dtype, basis, num_steps):
    matrix = case.matrix(scale, dtype)
    result = lanczos(
        MatrixOperator(matrix),
        3,
        num_steps=num_steps,
        vectors=True,
        basis_dtype=torch.bfloat16 if basis == "bfloat16" else None,
        generator=seeded(1),
    )
    A, Y = matrix.double(), result.ritz_vectors.double()
    true = torch.linalg.vector_norm(Y @ A - result.ritz_values[:, None] * Y, dim=1)
    true /= torch.linalg.vector_norm(Y, dim=1)
    assert (true <= result.residuals).all()
    assert (distance_to_spectrum(result.ritz_values, matrix) <= result.residuals).all()


def test_residual_bounds_are_not_much_larger_than_the_truth():
    matrix = NETWORK_LIKE.matrix()
    result = lanczos(MatrixOperator(matrix), 3, num_steps=8, vectors=True, generator=seeded())
    Y = result.ritz_vectors
    true = torch.linalg.vector_norm(Y @ matrix - result.ritz_values[:, None] * Y, dim=1)
    torch.testing.assert_close(result.residuals, true, rtol=1e-6, atol=1e-13)


def test_it_is_the_textbook_recurrence():
    matrix = NETWORK_LIKE.matrix()
    start = torch.randn(matrix.shape[0], generator=seeded(3), dtype=torch.float64)
    result = lanczos(MatrixOperator(matrix), 2, num_steps=12, start=start)
    T = textbook_lanczos(matrix, start, 12)
    torch.testing.assert_close(result.alphas, T.diagonal(), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(result.betas[:-1], T.diagonal(1), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(result.ritz_values, torch.linalg.eigvalsh(T).flip(0)[:2], rtol=1e-10, atol=0)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=by_name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ritz_values_of_a_network_lie_within_their_bounds_of_the_dense_hessian(case, dtype):
    truth = torch.linalg.eigvalsh(dense_hessian(case.problem()))
    problem = case.problem(dtype)
    with HessianOperator(problem.loss, problem.params) as hessian:
        result = lanczos(hessian, 5, generator=seeded())
    distance = (result.ritz_values[:, None] - truth[None]).abs().min(dim=1).values
    assert (distance <= result.residuals).all()
    # float32: the operator's own rounding is some 10 eps; float64: the bound of 30 steps on these spectra
    assert abs(result.ritz_values[0] - truth[-1]) <= 1e-6 * truth[-1]


@pytest.mark.parametrize("case", SPECTRUM_CASES[:2], ids=by_name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("num_steps", [10, 30, 60, 120])
def test_the_light_mode_shows_no_copies(case, dtype, num_steps):
    matrix = case.matrix(dtype=dtype)
    light = lanczos(MatrixOperator(matrix), 3, num_steps=num_steps, reorthogonalize="none", generator=seeded(2))
    full = lanczos(MatrixOperator(matrix), 3, num_steps=num_steps, generator=seeded(2))
    assert (distance_to_spectrum(light.ritz_values, matrix) <= light.residuals).all()
    if num_steps >= 60:  # all three have long converged
        atol = 100 * torch.finfo(dtype).eps
        torch.testing.assert_close(light.ritz_values, full.ritz_values, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", ["full", "none"])
@pytest.mark.parametrize("scale", [1e-14, 2.0, 1e14])
def test_a_multiple_of_the_identity_is_exhausted_after_one_product_a_copy(mode, scale):
    operator = MatrixOperator(scale * torch.eye(8))
    result = lanczos(operator, 2, reorthogonalize=mode)
    # Two copies, and a third direction that brings nothing new; the light mode has no basis to leave, and sees one.
    copies, products = (1, 1) if mode == "none" else (2, 3)
    assert result.ritz_values.tolist() == pytest.approx([scale] * copies, rel=1e-6, abs=0)
    assert (result.status, result.num_matvecs) == (LanczosStatus.INVARIANT, products)
    assert result.num_starts == products


@pytest.mark.parametrize("mode", ["full", "none"])
def test_the_zero_operator_has_the_value_zero(mode):
    result = lanczos(MatrixOperator(torch.zeros(5, 5)), 2, reorthogonalize=mode)
    copies = 1 if mode == "none" else 2
    assert result.ritz_values.tolist() == [0.0] * copies
    assert result.residuals.tolist() == [0.0] * copies
    assert result.status is LanczosStatus.INVARIANT


@pytest.mark.parametrize("mode", ["full", "none"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nonfinite_product_is_a_status(mode, bad):
    result = lanczos(MatrixOperator(torch.full((3, 3), bad)), reorthogonalize=mode)
    assert result.status is LanczosStatus.NONFINITE
    assert len(result.ritz_values) == len(result.residuals) == 0


@pytest.mark.parametrize("mode", ["full", "none"])
def test_a_late_nonfinite_product_keeps_the_steps_before(mode):
    class FailsLate(MatrixOperator):
        calls = 0

        def matvec(self, vector):
            self.calls += 1
            return super().matvec(vector) * (math.nan if self.calls > 4 else 1.0)

    matrix = NETWORK_LIKE.matrix()
    result = lanczos(FailsLate(matrix), 2, reorthogonalize=mode, generator=seeded())
    whole = lanczos(MatrixOperator(matrix), 2, num_steps=4, reorthogonalize=mode, generator=seeded())
    assert (result.status, result.num_matvecs) == (LanczosStatus.NONFINITE, 5)
    torch.testing.assert_close(result.ritz_values, whole.ritz_values)
    torch.testing.assert_close(result.residuals, whole.residuals)


def test_more_pairs_than_dimensions_gives_all_of_them():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    result = lanczos(MatrixOperator(matrix), 7, vectors=True)
    torch.testing.assert_close(result.ritz_values, torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    assert result.status is LanczosStatus.INVARIANT
    assert result.ritz_vectors.shape == (3, 3)


def test_an_operator_may_return_its_argument():
    result = lanczos(Identity(), 2, vectors=True)
    torch.testing.assert_close(result.ritz_vectors.norm(dim=1), torch.ones(2, dtype=torch.float64))
    assert result.ritz_values.tolist() == pytest.approx([1.0, 1.0])


def test_each_end_comes_in_its_order():
    case = SpectrumCase(name="five", eigenvalues=(-2.0, -1.0, 0.0, 3.0, 4.0))
    values = {
        which: lanczos(MatrixOperator(case.matrix()), 2, which=which).ritz_values
        for which in ("largest", "smallest", "both")
    }
    expected = {"largest": [4.0, 3.0], "smallest": [-2.0, -1.0], "both": [4.0, 3.0, -1.0, -2.0]}
    for which, found in values.items():
        assert found.tolist() == pytest.approx(expected[which])


def test_it_stops_as_soon_as_the_wanted_pairs_meet_the_tolerance():
    operator = MatrixOperator(NETWORK_LIKE.matrix())
    loose = lanczos(operator, 1, num_steps=50, tolerance=1e-1, generator=seeded())
    tight = lanczos(operator, 1, num_steps=50, tolerance=1e-6, generator=seeded())
    assert loose.status is tight.status is LanczosStatus.CONVERGED
    assert loose.num_matvecs < tight.num_matvecs < 20
    assert tight.residuals[0] <= 1e-6 * tight.ritz_values[0]
    assert lanczos(operator, 1, num_steps=3, tolerance=1e-6).status is LanczosStatus.MAX_STEPS


def test_a_start_of_previous_ritz_vectors_needs_few_products():
    matrix = NETWORK_LIKE.matrix()
    previous = lanczos(MatrixOperator(matrix), 3, vectors=True, generator=seeded()).ritz_vectors
    moved = matrix + 0.01 * NETWORK_LIKE.matrix(seed=5)
    warm = lanczos(MatrixOperator(moved), 1, start=previous[:1], num_steps=2)
    truth = torch.linalg.eigvalsh(moved)[-1]
    assert abs(warm.ritz_values[0] - truth) < 1e-3 * truth


def test_a_warm_start_sees_an_eigenvector_that_rose_outside_of_it():
    eigenvalues = torch.linspace(0.0, 1.0, 200, dtype=torch.float64)
    matrix = torch.diag(eigenvalues)
    old = torch.zeros(1, 200, dtype=torch.float64)
    old[0, 199] = 1.0  # the exact top eigenvector ...
    matrix[0, 0] = 2.0  # ... until another one overtakes it, at a right angle
    assert lanczos(MatrixOperator(matrix), start=old[0]).ritz_values.tolist() == [1.0]  # used as it is
    assert lanczos(MatrixOperator(matrix), start=old).ritz_values.tolist() == pytest.approx([2.0], rel=1e-3)


def test_cost_is_read_from_the_operator_and_covers_this_run_only():
    w = torch.ones(4, requires_grad=True)
    hessian = HessianOperator(lambda: (w**4).sum() + w.sum() ** 2, [w])
    first, second = lanczos(hessian, num_steps=2), lanczos(hessian, num_steps=1)
    assert (first.num_matvecs, first.cost) == (2, 5.0)  # 1 for the graph, 2 a product
    assert (second.num_matvecs, second.cost) == (1, 2.0)
    assert lanczos(MatrixOperator(torch.eye(3)), num_steps=1).cost == 1.0


@pytest.mark.parametrize("mode", ["full", "none"])
def test_global_random_streams_are_not_used(mode):
    operator = MatrixOperator(NETWORK_LIKE.matrix())
    before = torch.get_rng_state()
    first = lanczos(operator, num_steps=3, reorthogonalize=mode)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = lanczos(operator, num_steps=3, reorthogonalize=mode)
    assert torch.equal(first.ritz_values, again.ritz_values)


def test_results_do_not_depend_on_the_basis_of_the_parameters():
    matrix = NETWORK_LIKE.matrix()
    order = torch.randperm(matrix.shape[0], generator=seeded(4))
    start = torch.randn(matrix.shape[0], generator=seeded(5), dtype=torch.float64)
    plain = lanczos(MatrixOperator(matrix), 3, num_steps=12, start=start)
    permuted = lanczos(MatrixOperator(matrix[order][:, order]), 3, num_steps=12, start=start[order])
    torch.testing.assert_close(plain.ritz_values, permuted.ritz_values, rtol=1e-10, atol=0)


def test_the_bfloat16_basis_is_stored_as_bfloat16():
    operator = MatrixOperator(NETWORK_LIKE.matrix(dtype=torch.float32))
    result = lanczos(operator, 2, vectors=True, basis_dtype=torch.bfloat16, basis_device="cpu")
    assert result.ritz_vectors.dtype is torch.bfloat16
    assert result.ritz_values[0] == pytest.approx(1.0, rel=1e-3)  # residual squared over gap, with 2**-9 of rounding


def test_ritz_vectors_do_not_keep_the_rest_of_the_basis():
    operator = MatrixOperator(NETWORK_LIKE.matrix())
    result = lanczos(operator, 2, num_steps=30, vectors=True)
    assert result.ritz_vectors.untyped_storage().nbytes() == 2 * operator.size * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"k must be at least 1, got 0"),
        ({"num_steps": 0}, r"num_steps must be at least 1, got 0"),
        ({"which": "LA"}, r"which must be .* got 'LA'"),
        ({"tolerance": 0.0}, r"tolerance must be positive and finite, or None to run every step, got 0.0"),
        ({"tolerance": math.nan}, r"tolerance must be positive and finite, .* got nan"),
        ({"reorthogonalize": "some"}, r"reorthogonalize must be .* got 'some'"),
        ({"reorthogonalize": "none", "vectors": True}, r"vectors=True needs the basis"),
        ({"start": torch.ones(4)}, r"start must have shape \(3,\) or \(j, 3\), got \(4,\)"),
        ({"start": torch.ones(0, 3)}, r"start must have shape \(3,\) or \(j, 3\), got \(0, 3\)"),
        ({"start": torch.zeros(3)}, r"start must not be zero"),
        ({"start": torch.tensor([1.0, math.nan, 0.0])}, r"start must be finite"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lanczos(MatrixOperator(torch.eye(3)), **arguments)


def test_a_product_of_the_wrong_shape_is_refused():
    class Wrong(Identity):
        def matvec(self, vector):
            return vector[:2]

    with pytest.raises(ValueError, match=r"operator.matvec must return shape \(6,\), got \(2,\)"):
        lanczos(Wrong())


def test_the_top_eigenvalue_of_a_training_run_is_tracked_within_5_percent_for_4_products_a_probe():
    problem = NETWORKS["mlp"].problem()
    optimizer = torch.optim.SGD(problem.params, lr=0.1, momentum=0.9)
    previous, products = None, []
    for step in range(200):
        if step % 10 == 0:
            truth = float(torch.linalg.eigvalsh(dense_hessian(problem))[-1])
            with HessianOperator(problem.loss, problem.params) as hessian:
                steps = 10 if previous is None else 8
                result = lanczos(hessian, start=previous, num_steps=steps, tolerance=0.05, vectors=True)
            previous = result.ritz_vectors
            products.append(result.num_matvecs)
            assert abs(result.ritz_values[0] - truth) <= 0.05 * truth
        optimizer.zero_grad()
        problem.loss().backward()
        optimizer.step()
    assert sum(products[1:]) / len(products[1:]) <= 4.0
