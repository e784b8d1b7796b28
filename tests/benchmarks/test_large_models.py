"""The table of memory in docs/cost.md, whose sums are made without the models, against measured peaks."""

import pytest

import large_models


@pytest.mark.parametrize("mode", large_models.MODES)
def test_what_dcao_adds_to_the_peak_is_what_the_table_says(mode):
    guard, kept = large_models.MODES[mode]
    # Both peaks are at the end of a backward pass, where 128 tokens and the biases take less than 0.1 vectors.
    assert large_models.added_vectors("small", guard) == pytest.approx(kept + large_models.PROBE, abs=0.1)


def test_the_models_of_the_table_have_the_sizes_that_it_names():
    sizes = {size: large_models.num_params(size) for size in ("GPT-2", "ViT-Base", "1 B", "10 B")}
    assert sizes["GPT-2"] == 124_439_808  # as transformers counts GPT2LMHeadModel(GPT2Config())
    assert (
        sizes["ViT-Base"] == 86_567_656
    )  # as transformers counts ViTForImageClassification(ViTConfig(num_labels=1000))
    assert sizes["1 B"] == pytest.approx(1e9, rel=0.1)
    assert sizes["10 B"] == pytest.approx(1e10, rel=0.1)


def test_a_probe_reads_and_writes_the_parameters_few_times():
    training = large_models.Training("small")
    for _ in range(4):
        training.step()
    traffic = training.around_probe(large_models.count_traffic)
    # The gradient, its average and the factors: 3. Slope and length: 2. What moves, and how long it is: 3. To keep the
    # parameters, move them and put them back: 8. The product with both displacements: 4. The two gradients' cosine,
    # and which of their entries are zero: 4. Whether the gradient is the one that backward has left: 2.
    assert traffic.in_memory / training.num_large == pytest.approx(26.0, abs=1.01)
    assert traffic.operations / training.num_large < 22.0
