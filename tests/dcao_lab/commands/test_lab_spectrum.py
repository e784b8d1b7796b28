import dataclasses
import math

import pytest
import torch

import dcao
from dcao_lab.commands.density import draw
from dcao_lab.commands.spectrum import bins

DENSITY = dcao.SpectralDensity(
    nodes=torch.tensor([-1.0, 0.0, 0.1, 9.0], dtype=torch.float64),
    weights=torch.tensor([0.1, 0.5, 0.3, 0.1], dtype=torch.float64),
    num_samples=1,
    num_matvecs=4,
    cost=4.0,
    status=dcao.LanczosStatus.MAX_STEPS,
)


def test_bins_hold_every_eigenvalue_once():
    rows = bins(DENSITY, num_bins=5)
    assert [round(high, 9) for _, high, _ in rows] == [9.0, 7.0, 5.0, 3.0, 1.0]
    assert [share for *_, share in rows] == pytest.approx([0.1, 0.0, 0.0, 0.0, 0.9])


def test_the_picture_is_the_density_smoothed_as_widely_as_it_says():
    figure = draw("Digits MLP, AdamW, lr 0.001, after 50 steps", DENSITY, [9.0, 0.1])
    (axes,) = figure.axes
    (legend,) = figure.legends
    curve, marks = axes.lines
    assert axes.get_title() == "Digits MLP, AdamW, lr 0.001, after 50 steps"
    said = legend.get_title().get_text().replace("\n", " ")
    assert (
        said == "Smoothing: a Gaussian of standard deviation 0.10, a hundredth of the range of the 4 quadrature nodes."
    )
    # the bell of the node at 9.0 stands alone: a tenth of the eigenvalues, 0.10 wide
    x, y = (torch.tensor(values) for values in curve.get_data())
    bell = 0.1 * torch.exp(-0.5 * ((x - 9.0) / 0.1) ** 2) / (0.1 * math.sqrt(2 * math.pi))
    is_near = (x - 9.0).abs() < 0.3
    torch.testing.assert_close(y[is_near], bell[is_near], rtol=1e-9, atol=0.0)  # the same formula in float64
    assert marks.get_xdata().tolist() == [9.0, 0.1]
    assert [text.get_text() for text in legend.get_texts()] == ["largest Ritz values"]


@pytest.mark.filterwarnings("error")
def test_a_hessian_of_one_eigenvalue_has_a_picture_too():
    one = dataclasses.replace(DENSITY, nodes=torch.zeros(2, dtype=torch.float64), weights=torch.full((2,), 0.5))
    draw("", one, [0.0]).canvas.draw()
