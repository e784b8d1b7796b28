"""The Trainer of Lightning and Fabric with ``fully_shard`` (FSDP2): the run is that of one process.

``ModelParallelStrategy`` shards on a CPU too, over gloo. ``FSDPStrategy`` asks for GPUs.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("lightning")

from helpers.trainer_ranks import assert_alike_bit_for_bit, assert_goes_on_bit_for_bit, assert_same_run, results_of

LOOPS = ["trainer", "fabric"]
RUNS = [*LOOPS, *(f"{name} resumed" for name in LOOPS), "trainer manual"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, Any]]:
    return results_of("sharded_lightning", tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", RUNS)
def test_both_ranks_train_alike_and_as_one_process_on_the_same_global_batches(name, results):
    first, second, whole = (each[name] for each in results)
    assert_alike_bit_for_bit(first, second)
    assert_same_run(first, whole)


@pytest.mark.parametrize("name", LOOPS)
def test_a_run_that_is_resumed_goes_on_bit_for_bit(name, results):
    assert_goes_on_bit_for_bit(results[0][f"{name} resumed"], results[0][name])


def test_an_optimizer_whose_parameters_fabric_replaces_is_refused_with_a_way_out(results):
    first, second, whole = (each["refused"]["fabric"] for each in results)
    assert "got those that ModelParallelStrategy has replaced; set up the module first: net = fabric.setup" in first
    assert "setup_optimizers(fabric, DCAO(torch.optim.AdamW(net.parameters())))" in first
    assert second == first
    assert whole == ""
