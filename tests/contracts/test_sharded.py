"""Parameters in shards: all ranks measure and decide alike, and as one process does on the same global batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dcao import Guard, ProbeSettings, policies
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import WAYS, train

FIXED = {"policy": policies.Fixed(), "every": 2}
CASES: dict[str, dict[str, Any]] = {
    "load": {"steps": 5, **FIXED},
    "load-central": {"steps": 5, **FIXED, "measure": ProbeSettings("load", hvp="central")},
    "batch-in-a-closure": {"steps": 5, **FIXED, "measure": "batch", "entry": "closure"},
    "parts-and-a-clip": {"steps": 5, **FIXED, "entry": "parts", "base": torch.optim.SGD, "lr": 0.05},
    "by-hand": {"steps": 5, **FIXED, "entry": "by hand, after a validation"},
    "preconditioned": {"steps": 3, **FIXED, "measure": ProbeSettings("preconditioned", hvp="central")},
    "hessian": {"steps": 3, **FIXED, "measure": ProbeSettings("hessian", k=2, smallest=True, hvp="central")},
    "narrow-basis": {
        "steps": 2,
        **FIXED,
        "measure": ProbeSettings("hessian", k=2, hvp="central", basis_dtype=torch.bfloat16),
    },
    "default-adamw": {"steps": 30},
    "default-sgd": {"steps": 30, "base": torch.optim.SGD, "total_steps": 30, "spectrum_every": 20},
    "default-float32": {"steps": 30, "dtype": torch.float32},
    "blow-up": {"steps": 23, "blows_up_at": 14, "guard": Guard(snapshot_every=5)},
    "nan-on-one-rank": {"steps": 9, "spoils": {7: [math.nan, 1.0, 1.0, 1.0]}},
}
FEW = ["load-central", "parts-and-a-clip", "hessian", "default-adamw"]
RUNS = [
    *(("fully_shard", case) for case in CASES),
    *((way, case) for way in ("tensor-parallel", "both") for case in FEW),
    *(("hybrid", case) for case in ("load-central", "default-adamw")),
]


def work(rank: int, ways: list[str]) -> dict[tuple[str, str], Any]:
    return {(way, case): train(rank, way, **CASES[case]) for way, case in RUNS if way in ways}


@pytest.fixture(scope="module")
def histories() -> dict[tuple[str, str], list[Any]]:
    """What each rank has seen in each run; processes are started once for two ranks and once for four."""
    found: dict[tuple[str, str], list[Any]] = {}
    for world in (2, 4):
        ranks = on_ranks(world, work, [way for way in WAYS if WAYS[way] == world])
        found |= {run: [each[run] for each in ranks] for run in ranks[0]}
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {case: train(0, "whole", **settings) for case, settings in CASES.items()}


@pytest.mark.parametrize(("way", "case"), RUNS)
def test_all_ranks_measure_and_decide_alike_bit_for_bit(way, case, histories):
    first, *others = histories[way, case]
    assert len(first["records"]) >= 1
    for other in others:
        assert other["records"] == first["records"]
        assert other["lrs"] == first["lrs"]
        assert torch.equal(other["weights"], first["weights"])


@pytest.mark.parametrize(("way", "case"), RUNS)
def test_shards_train_as_one_process_does(way, case, histories, alone):
    first, whole = histories[way, case][0], alone[case]
    is_double = case != "default-float32"
    # Sums in another order: 1e-16 each in float64. In float32 1e-7, which 30 steps of Adam may add up.
    torch.testing.assert_close(first["lrs"], whole["lrs"], rtol=1e-10 if is_double else 1e-5, atol=0.0)
    torch.testing.assert_close(
        first["weights"], whole["weights"], rtol=0.0, atol=1e-12 if is_double else 1e-5, check_dtype=False
    )
    assert first["skipped"] == whole["skipped"] == {"blow-up": (7, 1), "nan-on-one-rank": (1, 0)}.get(case, (0, 0))


@pytest.mark.parametrize(("way", "case"), RUNS)
def test_shards_measure_what_one_process_measures(way, case, histories, alone):
    """Each number but for the rounding of the differences it is made of: that of a gradient over their length.

    In float64 1e-16 over 1e-5 (central) or 2e-8 (one-sided), in float32 1e-7 over 4e-4, relative to curvatures of 0.1
    and more beside gradients of 1. Lanczos with a basis in bfloat16 keeps the accuracy of its products.
    """
    tolerance = {"load-central": 1e-10, "preconditioned": 1e-9, "hessian": 1e-9, "narrow-basis": 1e-9}.get(case, 1e-6)
    tolerance = 1e-2 if case == "default-float32" else tolerance
    exact = 1e-10 if case != "default-float32" else 1e-4
    records, wholes = histories[way, case][0]["records"], alone[case]["records"]
    assert len(records) == len(wholes)
    for record, whole in zip(records, wholes, strict=True):
        for name in ("loss", "relative_step", "agreement"):
            torch.testing.assert_close(record[name], whole[name], rtol=exact, atol=exact, msg=name)
        for name in ("s", "stability", "load_signal", "ritz_values", "smallest"):
            torch.testing.assert_close(record[name], whole[name], rtol=tolerance, atol=tolerance / 100, msg=name)
        assert record["num_matvecs"] == whole["num_matvecs"]
        assert (record["cost"] == whole["cost"]) or case == "default-sgd"  # whose spectrum is by exact products
