"""The workloads of ``unseen``: their data, what they are judged by, and the networks that fine-tuning starts from."""

import inspect
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcao_lab.errors import LabError
from dcao_lab.norms import trainable
from dcao_lab.runs.training import TrainingPlan, train
from dcao_lab.workloads import MODULES, WORKLOADS, StartRequest, pretraining, unseen
from dcao_lab.workloads.networks.lora import LowRankLinear
from dcao_lab.workloads.networks.patches import patches
from dcao_lab.workloads.networks.transformer import TransformerBlock
from dcao_lab.workloads.pretraining import pretrained, train_once
from dcao_lab.workloads.unseen import bag_of_words, contrastive, factorisation, poisson, texts, vae
from dcao_lab.workloads.unseen.splits import digits

UNSEEN = {module: workload for module in MODULES if unseen.__name__ in module.__name__ for workload in module.WORKLOADS}
FINE_TUNING = ("gpt_licences", "gpt_20kb", "gpt_700kb", "gpt_lora", "cnn_new_classes", "cnn_last_layer")


def start(name, seed=0):
    problem = WORKLOADS[name].start(StartRequest(seed=seed))
    problem.model.eval()
    return problem


@torch.no_grad()
def evaluate(problem, split="test"):
    return problem.evaluate(split)


def test_there_are_24_of_them_each_in_a_file_of_fewer_than_60_lines():
    assert len(UNSEEN) == 24
    for module in UNSEEN:
        assert len(inspect.getsource(module).splitlines()) < 60, module.__name__


@pytest.mark.parametrize("name", FINE_TUNING)
def test_every_seed_fine_tunes_from_the_same_knowledge(name):
    losses = [evaluate(start(name, seed))["old_domain_loss"] for seed in (0, 1)]
    assert losses[0] == losses[1]
    guess = math.log(128 if name.startswith("gpt") else 5)
    assert losses[0] < 0.4 * guess  # pretrained: seen 1.46 nats of 4.85, and 0.05 of 1.61


def test_training_on_new_text_forgets_the_old():
    problem = start("gpt_licences")
    optimizer = torch.optim.AdamW(trainable(problem.model), lr=1e-2)
    before, after = train(problem, optimizer, TrainingPlan(num_steps=15, eval_every=15))
    assert after.metrics["test_old_domain_loss"] > before.metrics["test_old_domain_loss"]


def test_a_last_layer_alone_forgets_nothing():
    problem = start("cnn_last_layer")
    before = evaluate(problem)
    optimizer = torch.optim.AdamW(trainable(problem.model), lr=1e-2)
    *_, after = train(problem, optimizer, TrainingPlan(num_steps=15, eval_every=15))
    assert after.metrics["test_old_domain_loss"] == before["old_domain_loss"]
    assert after.metrics["test_loss"] < before["loss"]


def test_lora_starts_as_the_network_that_it_adapts_and_trains_8192_numbers():
    adapted, plain = start("gpt_lora"), start("gpt_licences")
    assert evaluate(adapted) == evaluate(plain)
    # Two blocks of four layers, 4 rows of A and 4 columns of B: 4 * (64 + 192 + 64 + 64 + 64 + 256 + 256 + 64) a block.
    assert sum(param.numel() for param in trainable(adapted.model)) == 2 * 4 * 1024
    assert isinstance(adapted.model.get_submodule("blocks.0"), TransformerBlock)


def test_low_rank_factors_add_their_product_to_a_frozen_layer():
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Linear(6, 5), rank=2, scale=0.5)
    nn.init.normal_(layer.b)
    weight = layer.frozen.weight + 0.5 * layer.b @ layer.a
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x), F.linear(x, weight, layer.frozen.bias))
    assert {name for name, param in layer.named_parameters() if param.requires_grad} == {"a", "b"}


def test_the_linear_probe_starts_at_the_loss_of_a_guess():
    assert evaluate(start("linear_probe"))["loss"] == pytest.approx(math.log(10), rel=1e-6)


def test_patches_are_the_squares_of_an_image_row_by_row():
    image = torch.arange(64.0).view(1, 64)
    expected = F.unfold(image.view(1, 1, 8, 8), 2, stride=2).transpose(1, 2)
    assert torch.equal(patches(image), expected)


def test_wrong_labels_are_about_a_fifth_of_300_and_held_out_ones_are_right():
    splits = WORKLOADS["wrong_labels"].splits()
    images, labels = splits["train"]
    known = dict(zip(map(tuple, digits()["train"][0].tolist()), digits()["train"][1].tolist(), strict=True))
    wrong = [known[tuple(image)] != label for image, label in zip(images.tolist(), labels.tolist(), strict=True)]
    # A fifth is drawn anew and nine tenths of those become wrong: 54 of 300, with a standard deviation of 6.7.
    assert len(wrong) == 300
    assert sum(wrong) == pytest.approx(54, abs=20)
    assert torch.equal(splits["test"][1], digits()["test"][1])


def test_the_elbo_is_that_of_kingma_and_welling():
    problem = start("digits_vae")
    images = digits()["test"][0][:5]
    mean, log_variance = problem.model["encoder"](images).chunk(2, 1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    logits = problem.model["decoder"](mean + noise * posterior.scale)
    seen = -torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(images).sum()
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = (seen + torch.distributions.kl_divergence(posterior, prior).sum()) / 5
    found = vae.negative_elbo(problem.model, (images, images), torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, expected)


class ClosedForm(nn.Module):
    """The solution that ``poisson`` states."""

    def forward(self, points):
        return (math.pi * points).sin() + (4 * math.pi * points).sin() / 4


def test_the_closed_form_solves_the_poisson_equation():
    points = poisson.splits()["test"]
    loss = poisson.residual(ClosedForm(), points)
    # Roundings of float32 at a load of up to 50: 50 * 1e-7 each, squared, and those of sin(pi) at the ends times 100.
    assert loss < 1e-7
    assert poisson.metrics(ClosedForm(), points)["error"] < 1e-6


def test_the_contrastive_loss_is_least_where_views_agree_and_a_guess_where_all_look_alike():
    images = digits()["test"][0][:8]
    guess = contrastive.contrastive_loss(Constant(), (images, images), torch.Generator().manual_seed(0))
    assert guess.item() == pytest.approx(math.log(15), rel=1e-5)  # of the 15 other views


class Constant(nn.Module):
    """The same feature for every image."""

    def forward(self, images):
        return torch.ones(len(images), 4)


def test_a_step_of_matrix_factorisation_moves_the_rows_of_its_batch_alone():
    problem = WORKLOADS["factorisation"].start(StartRequest(seed=0))
    batch = next(problem.batches)
    problem.loss(batch).backward()
    (users, _), moved = problem.model.factors, set(batch[0][:, 0].tolist())
    assert set(users.weight.grad.abs().sum(1).nonzero().flatten().tolist()) <= moved
    assert len(moved) < factorisation.NUM_USERS / 2


def test_words_are_hashed_to_the_same_rows_everywhere():
    # 0xCBF43926 is the check value of CRC-32 for this word; its last twelve bits are the row of 4096.
    assert bag_of_words.hashed("123456789 " * 12).tolist() == [[0x926] * 12]


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


class Counting:
    """Trains a tiny network, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        model = nn.Linear(2, 1)
        batch = (torch.randn(4, 2), torch.randn(4, 1))
        return train_once(model, iter([batch] * 3), lambda m, b: F.mse_loss(m(b[0]), b[1]), 3)


def test_weights_are_made_once_and_again_where_they_are_gone(empty_cache):
    data, make = torch.arange(3), Counting()
    torch.manual_seed(5)
    stream = torch.get_rng_state()
    first = pretrained("tiny", data, make)
    assert torch.equal(torch.get_rng_state(), stream)
    again = pretrained("tiny", data, make)
    assert make.times == 1
    (file,) = Path(empty_cache).rglob("tiny-*.pt")
    file.unlink()
    anew = pretrained("tiny", data, make)
    assert make.times == 2
    for weights in (again, anew):
        assert all(torch.equal(weights[name], first[name]) for name in first)


def test_other_data_has_weights_of_its_own(empty_cache):
    make = Counting()
    pretrained("tiny", torch.arange(3), make)
    pretrained("tiny", torch.arange(4), make)
    assert make.times == 2
    assert [path.suffix for path in (empty_cache / "hub" / "dcao_lab").iterdir()] == [".pt", ".pt"]  # no halves left


def test_a_cache_that_cannot_be_written_is_a_sentence(empty_cache):
    (empty_cache / "hub").write_text("a file where the folder should be")
    with pytest.raises(LabError, match=r"cannot be kept in .*; set TORCH_HOME to a folder that can be written"):
        pretrained("tiny", torch.arange(3), Counting())


def test_texts_that_are_missing_are_a_sentence(monkeypatch):
    texts.licences.cache_clear()
    monkeypatch.setattr(texts.importlib.metadata, "files", lambda package: None)
    with pytest.raises(LabError, match="three licences that the wheels of numpy, pandas and pyarrow have"):
        texts.licences()
    texts.licences.cache_clear()


def test_the_fingerprint_of_weights_has_the_version_of_torch(monkeypatch):
    one = pretraining.cached_file("tiny", torch.arange(3))
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert pretraining.cached_file("tiny", torch.arange(3)) != one
