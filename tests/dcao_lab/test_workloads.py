import itertools

import pytest
import torch

from dcao_lab.workloads import WORKLOADS
from dcao_lab.workloads.digits import digits_split
from dcao_lab.workloads.pydoc_gpt import text_split

EVERY_WORKLOAD = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)


def first_batches(problem, number=30):
    return [tensor for batch in itertools.islice(problem.batches, number) for tensor in batch]


def all_equal(left, right):
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@EVERY_WORKLOAD
def test_the_same_seed_gives_the_same_weights_batches_and_metrics(workload):
    one, two = workload.start(3), workload.start(3)
    assert all_equal(list(one.model.parameters()), list(two.model.parameters()))
    assert all_equal(first_batches(one), first_batches(two))
    assert one.evaluate() == two.evaluate()


@EVERY_WORKLOAD
def test_another_seed_gives_other_weights_and_batches(workload):
    one, two = workload.start(0), workload.start(1)
    assert not all_equal(list(one.model.parameters()), list(two.model.parameters()))
    assert not all_equal(first_batches(one), first_batches(two))


@EVERY_WORKLOAD
def test_starting_leaves_the_global_random_stream_alone(workload):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first_batches(workload.start(0))
    assert torch.equal(torch.get_rng_state(), before)


@EVERY_WORKLOAD
def test_the_ranking_metric_is_among_those_evaluated(workload):
    assert {"test_loss", workload.info.metric} <= set(workload.start(0).evaluate())


@EVERY_WORKLOAD
def test_an_untrained_network_is_no_better_than_chance(workload):
    # 10 classes, or 128 characters: the loss of a guess is ln 10 or ln 128, and small initial weights stay near it.
    guess = {"accuracy": 2.3026, "perplexity": 4.852}[workload.info.metric]
    assert workload.start(0).evaluate()["test_loss"] == pytest.approx(guess, rel=0.1)


def test_digits_are_split_once_without_overlap_and_in_equal_shares():
    train_x, test_x, train_y, test_y = digits_split()
    assert len(train_x) + len(test_x) == 1797
    assert abs(train_x.mean()) < 1e-5  # standardised by the training images alone
    shares = torch.bincount(test_y) / torch.bincount(train_y)
    assert ((shares - 0.25).abs() < 0.02).all()  # 20 % of each class; 2 of 180 images is 0.014


def test_an_epoch_of_digits_shows_every_image_at_most_once():
    problem = WORKLOADS["digits_mlp"].start(0)
    images = torch.cat([x for x, _ in itertools.islice(problem.batches, 22)]).flatten(1)
    known = len(torch.unique(digits_split()[0].flatten(1), dim=0))
    assert len(images) == 22 * 64
    assert len(torch.unique(images, dim=0)) >= len(images) - (len(digits_split()[0]) - known)


def test_the_text_is_ascii_and_test_blocks_come_from_all_over_it():
    train, test = text_split()
    assert int(torch.cat([train, test]).max()) < 128
    assert len(test) / (len(train) + len(test)) == pytest.approx(0.1, abs=0.02)


def test_the_gpt_sees_no_character_that_is_still_to_come():
    problem = WORKLOADS["pydoc_gpt"].start(0)
    inputs, _ = next(problem.batches)
    changed = inputs.clone()
    changed[:, 10:] = 0
    before, after = problem.model(inputs)[:, :10], problem.model(changed)[:, :10]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)  # a few roundings of logits below 1
