"""Accelerate and the Trainer of Hugging Face with ``fully_shard`` (FSDP2): the run is that of one process.

Accelerate shards only where it has found GPUs. Here it is told that it has, and shards on a CPU, over gloo.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("transformers")

from helpers.trainer_ranks import (
    assert_alike_bit_for_bit,
    assert_fails_together,
    assert_goes_on_bit_for_bit,
    assert_same_run,
    results_of,
)

LOOPS = ["accelerate", "accelerate minimize", "hugging_face"]
RUNS = [*LOOPS, *(f"{name} resumed" for name in LOOPS), "accelerate scheduled"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict[str, Any]]:
    return results_of("sharded_accelerate", tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("name", RUNS)
def test_both_ranks_train_alike_and_as_one_process_on_the_same_global_batches(name, results):
    first, second, whole = (each[name] for each in results)
    assert_alike_bit_for_bit(first, second)
    assert_same_run(first, whole)


@pytest.mark.parametrize("name", LOOPS)
def test_a_run_that_is_resumed_goes_on_bit_for_bit(name, results):
    assert_goes_on_bit_for_bit(results[0][f"{name} resumed"], results[0][name])


@pytest.mark.parametrize("name", ["accelerate failing", "hugging_face failing"])
def test_a_probe_that_raises_on_one_rank_fails_on_both_and_nobody_waits(name, results):
    assert_fails_together(*(each[name] for each in results[:2]))


def test_mixed_precision_is_measured_as_in_a_loop_of_ones_own(results):
    first, second = (each["bfloat16"] for each in results[:2])
    for name in ("under accelerate", "by hand"):
        assert_alike_bit_for_bit(first[name], second[name])
    assert_alike_bit_for_bit(first["under accelerate"], first["by hand"])


def test_settings_of_dcao_reach_the_trainer_of_hugging_face_where_it_takes_no_optimizer(results):
    assert [each["hugging_face"]["seed"] for each in results] == [1, 1, 1]


@pytest.mark.parametrize("trainer", ["accelerate", "hugging_face"])
def test_fsdp_of_version_1_is_refused_on_every_rank(trainer, results):
    for each in results[:2]:
        assert "got Accelerate with FSDP of version 1, whose flat parameters do not say" in each["refused"][trainer]
        assert 'fsdp_version=2), fsdp_version: 2 in the file of "accelerate config", or' in each["refused"][trainer]
