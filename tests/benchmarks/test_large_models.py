"""The table of memory in docs/cost.md, whose sums are made without the models, against measured peaks."""

import pytest

import large_models


@pytest.mark.parametrize("mode", large_models.MODES)
def test_what_dcao_adds_to_the_peak_is_what_the_table_says(mode):
    guard, kept = large_models.MODES[mode]
    # Both peaks are at the end of a backward pass, where 128 tokens and the biases take less than 0.1 vectors.
    assert large_models.added_vectors("small", guard) == pytest.approx(kept + large_models.PROBE, abs=0.1)


def test_the_models_of_the_table_have_the_sizes_that_it_names():
    sizes = {size: large_models.num_params(size) for size in ("GPT-2", "1 B", "10 B")}
    assert sizes["GPT-2"] == 124_439_808  # as transformers counts GPT2LMHeadModel(GPT2Config())
    assert sizes["1 B"] == pytest.approx(1e9, rel=0.1)
    assert sizes["10 B"] == pytest.approx(1e10, rel=0.1)


def test_a_probe_goes_through_the_parameters_few_times():
    training = large_models.Training("small")
    for _ in range(4):
        training.step()
    passes = training.around_probe(large_models.count_passes)
    assert passes.entries / training.num_params < 15.0
