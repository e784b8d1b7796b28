"""Two ranks in a trainer decide alike, and as one process does on the same global batches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import TESTS

pytest.importorskip("accelerate")
pytest.importorskip("lightning")
pytest.importorskip("transformers")


@pytest.mark.parametrize(
    ("script", "names"),
    [("lightning_ranks", ["lightning_", "fabric_"]), ("accelerate_ranks", ["accelerate_", "hugging_face_"])],
    ids=["Lightning and Fabric", "Accelerate and Hugging Face"],
)
def test_two_ranks_decide_alike_and_as_one_process_on_the_same_global_batches(script, names, tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", f"helpers.{script}", str(tmp_path)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert_same(tmp_path, name)


def assert_same(folder: Path, name: str) -> None:
    one, *two = (torch.load(folder / f"{name}{ranks}.pt") for ranks in ("0_of_1", "0_of_2", "1_of_2"))
    assert two[0]["lrs"] == two[1]["lrs"]
    assert torch.equal(two[0]["weights"], two[1]["weights"])
    assert len(one["lrs"]) >= 15
    # In float64 a sum in another order leaves 1e-16, and s is a difference of gradients over a step of about 1e-8.
    assert two[0]["s"] == pytest.approx(one["s"], rel=1e-5)
    assert two[0]["lrs"] == pytest.approx(one["lrs"], rel=1e-7)
    torch.testing.assert_close(two[0]["weights"], one["weights"], rtol=1e-7, atol=1e-9)
