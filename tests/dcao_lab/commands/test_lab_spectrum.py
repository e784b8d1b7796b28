import pytest
import torch

import dcao
from dcao_lab.commands.spectrum import bins


def test_bins_hold_every_eigenvalue_once():
    density = dcao.SpectralDensity(
        nodes=torch.tensor([-1.0, 0.0, 0.1, 9.0], dtype=torch.float64),
        weights=torch.tensor([0.1, 0.5, 0.3, 0.1], dtype=torch.float64),
        num_samples=1,
        num_matvecs=4,
        cost=4.0,
        status=dcao.LanczosStatus.MAX_STEPS,
    )
    rows = bins(density, num_bins=5)
    assert [round(high, 9) for _, high, _ in rows] == [9.0, 7.0, 5.0, 3.0, 1.0]
    assert [share for *_, share in rows] == pytest.approx([0.1, 0.0, 0.0, 0.0, 0.9])
