"""The Trainer of Lightning and Fabric with ``fully_shard`` (FSDP2): the run is that of one process.

``ModelParallelStrategy`` shards on a CPU too, over gloo. ``FSDPStrategy`` asks for GPUs.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("lightning")

from helpers.trainer_ranks import (
    assert_alike_bit_for_bit,
    assert_fails_together,
    assert_goes_on_bit_for_bit,
    assert_same_run,
    results_of,
)

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


@pytest.mark.parametrize("name", ["trainer failing", "fabric failing"])
def test_a_probe_that_raises_on_one_rank_fails_on_both_and_nobody_waits(name, results):
    assert_fails_together(*(each[name] for each in results[:2]))


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            "joint setup",
            "got those that ModelParallelStrategy has replaced; set up the module first: net = fabric.setup",
        ),
        ("flat trainer", "must be whole or DTensors, got the flat ones of FullyShardedDataParallel"),
        ("flat fabric", "must be whole or DTensors, got the flat ones of FullyShardedDataParallel"),
    ],
)
def test_what_cannot_be_measured_is_refused_on_every_rank(attempt, message, results):
    first, second, whole = (each["refused"] for each in results)
    assert message in first[attempt]
    assert second == first
    assert whole == {"joint setup": ""}
